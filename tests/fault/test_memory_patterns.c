/* SPDX-License-Identifier: MIT */
/* Every request for memory of the patterns' scenarios is refused: see support/refused_memory.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/refused_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int give_back(world *w, redmoon_lock *held, redmoon_error *err) {
  int release = redmoon_lock_release(held, err);
  if (release == REDMOON_ENOMEM) { /* safe to repeat, once there is memory */
    gate_mode mode = (gate_mode)atomic_load(&w->gate.mode);
    atomic_store(&w->gate.mode, GATE_OPEN);
    redmoon_error again;
    int repeated = redmoon_lock_release(held, &again);
    /* An answer that could not be read is one to a release that took place. */
    assert_true(repeated == 0 || (repeated == REDMOON_ELOST && err->outcome != REDMOON_NOT_SENT));
    atomic_store(&w->gate.mode, (int)mode);
  }
  redmoon_lock_free(held);
  return release;
}

static int lock(world *w, redmoon_error *err) {
  redmoon_lock *held = NULL;
  int rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), NULL, &held, err);
  if (rc != 0) {
    assert_null(held);
    return rc;
  }
  assert_true(redmoon_lock_held(held));
  redmoon_error release_err;
  rc = redmoon_lock_extend(held, 60000, err);
  int release = give_back(w, held, &release_err);
  if (rc == 0 && release != 0) {
    *err = release_err;
    return release;
  }
  return rc;
}

/* Renewed, asked for by id, waited for by a rival, in turn, and held twice. */
static int lock_with_all(world *w, redmoon_error *err) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.renew = 1;
  options.max_hold_ms = 60000;
  options.fair = 1;
  char id[sizeof w->tag];
  snprintf(id, sizeof id, "%s", w->tag);
  for (char *at = strchr(id, ':'); at != NULL; at = strchr(at, ':')) *at = '-';
  options.request_id = id;
  redmoon_lock *outer = NULL, *inner = NULL, *rival = NULL;
  int rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &options, &outer, err);
  if (rc != 0) {
    assert_null(outer);
    return rc;
  }
  redmoon_lock_options again = REDMOON_LOCK_OPTIONS_INIT, waits = REDMOON_LOCK_OPTIONS_INIT;
  again.token = redmoon_lock_token(outer);
  waits.wait_ms = 15;
  waits.fair = 1;
  redmoon_error release_err, other;
  rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &waits, &rival, err);
  assert_true(rc == REDMOON_ELOCKED || rc == REDMOON_ENOMEM);
  assert_null(rival);
  if (rc == REDMOON_ELOCKED) rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &again, &inner, err);
  int release = inner != NULL ? give_back(w, inner, &release_err) : 0;
  int last = give_back(w, outer, release == 0 ? &release_err : &other);
  if (release == 0) release = last;
  if (rc == 0 && release != 0) {
    *err = release_err;
    return release;
  }
  return rc;
}

static void check_lock(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64], queue[64], beats[64];
  snprintf(name, sizeof name, "redmoon:{%s}:lock", w->tag);
  snprintf(queue, sizeof queue, "redmoon:{%s}:lock.queue", w->tag);
  snprintf(beats, sizeof beats, "redmoon:{%s}:lock.beats", w->tag);
  if (status == 0) assert_int_equal(ask_integer(w->client, "EXISTS", name, queue, beats, NULL), 0);
}

/* Three databases stand for three servers.  A lack of memory costs votes, and a quorum may do without. */
static int redlock(world *w, redmoon_error *err) {
  redmoon_client *clients[3] = {w->client};
  redmoon_redlock *servers = NULL;
  redmoon_lock *held = NULL;
  int rc = 0;
  for (int i = 1; i < 3 && rc == 0; i++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.database = i;
    rc = redmoon_client_open(redis_server_url(w->server), &options, &clients[i], err);
  }
  redmoon_redlock_options options = {0};
  if (rc == 0) rc = redmoon_redlock_new(clients, 3, &options, &servers, err);
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.renew = 1;
  if (rc == 0) rc = redmoon_redlock_acquire(servers, w->tag, strlen(w->tag), &request, &held, err);
  assert_true(held != NULL || rc != 0);
  redmoon_redlock_free(servers);
  if (rc == 0) {
    assert_true(redmoon_lock_held(held));
    redmoon_error release_err;
    rc = redmoon_lock_extend(held, 60000, err);
    int release = give_back(w, held, &release_err);
    if (rc == 0 && release != 0) *err = release_err;
    if (rc == 0) rc = release;
  }
  for (int i = 1; i < 3; i++) redmoon_client_close(clients[i]);
  return rc;
}

static int limiter(world *w, redmoon_error *err) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = "sliding_log";
  options.limit = 100;
  options.window_ms = 600000;
  options.name = "memory";
  redmoon_rate_limiter *rl = NULL;
  w->took = -1;
  int rc = redmoon_rate_limiter_new(w->client, &options, &rl, err);
  if (rc != 0) {
    assert_null(rl);
    return rc;
  }
  redmoon_rate_result result;
  w->took = 0;
  redmoon_rate_request request = REDMOON_RATE_REQUEST_INIT;
  request.cost = 3;
  rc = redmoon_rate_limiter_allow(rl, w->tag, strlen(w->tag), &request, &result, err);
  if (rc == 0) assert_int_equal(result.remaining, 97);
  if (rc == 0) w->took = 1;
  if (rc == 0) rc = redmoon_rate_limiter_peek(rl, w->tag, strlen(w->tag), &result, err);
  if (rc == 0) w->took = 2;
  if (rc == 0) rc = redmoon_rate_limiter_reset(rl, w->tag, strlen(w->tag), err);
  if (rc == 0) w->took = 3;
  redmoon_rate_limiter_free(rl);
  return rc;
}

/* So that EVALSHA is followed by EVAL, and its memory is refused too. */
static int limiter_by_source(world *w, redmoon_error *err) {
  char forget[80];
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.log", w->tag); /* of the scenario above */
  free(redis_server_ask(w->server, NULL, forget));
  free(redis_server_ask(w->server, NULL, "SCRIPT FLUSH"));
  return limiter(w, err);
}

/* The log holds the three units from an allow that was done to a reset that was done, and nobody knows between. */
static void check_limiter(world *w, int status, const redmoon_error *err) {
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:memory.log", w->tag);
  int64_t len = ask_integer(w->client, "LLEN", name, NULL);
  assert_int_equal(status == 0, w->took == 3);
  int64_t before = w->took == 1 || w->took == 2 ? 3 : 0, after = w->took == 0 || w->took == 1 ? 3 : 0;
  bool not_done = w->took == 3 || w->took < 0 || err->outcome == REDMOON_NOT_SENT;
  bool done = !not_done && err->outcome == REDMOON_ANSWERED;
  if (not_done ? len != before : done ? len != after : len != before && len != after)
    fail_msg("limiter: after %d of 3 calls, the next %s, the log holds %lld units", w->took,
             redmoon_outcome_name(err->outcome), (long long)len);
}

static int of_redis(int rc, const redmoon_rate_result *result) {
  if (rc == 0 && strcmp(result->source, "error") == 0) fail_msg("a lack of memory was taken for a failure of Redis");
  return rc;
}

/* Everything a limiter decides, by a bucket that has a deny cache; what was refused memory leaks nothing. */
static int decide(redmoon_rate_limiter *bucket, redmoon_rate_limiter *log, const char *tag, redmoon_error *err) {
  redmoon_rate_limiter *both[] = {bucket, log};
  redmoon_rate_limits *limits = NULL;
  redmoon_rate_result result, results[2];
  redmoon_rate_request large = {100, 0, NULL}, once = {3, 1, "once"};
  redmoon_rate_item items[] = {{tag, strlen(tag), REDMOON_RATE_REQUEST_INIT}, {"another", 7, {2, 0, "once"}}};
  int rc = redmoon_rate_limits_new(both, 2, &limits, err);
  size_t len = strlen(tag);
  if (rc == 0) rc = of_redis(redmoon_rate_limits_allow(limits, tag, len, &once, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_allow(bucket, tag, len, &large, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_wait(bucket, tag, len, &large, 0, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_allow_many(bucket, items, 2, results, NULL, err), &results[1]);
  if (rc == 0) rc = redmoon_rate_limiter_refund(bucket, tag, len, 2, "back", &result, err);
  redmoon_rate_limits_free(limits);
  return rc;
}

static int limiter_decisions(world *w, redmoon_error *err) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = "gcra";
  options.limit = 100;
  options.window_ms = 600000;
  options.name = "memory-gcra";
  options.deny_cache = 1;
  options.on_error = "deny"; /* of Redis: a lack of memory here is still an error */
  redmoon_rate_limiter *bucket = NULL, *log = NULL;
  int rc = redmoon_rate_limiter_new(w->client, &options, &bucket, err);
  options.algorithm = "sliding_log";
  options.name = "memory-log";
  if (rc == 0) rc = redmoon_rate_limiter_new(w->client, &options, &log, err);
  if (rc == 0) rc = decide(bucket, log, w->tag, err);
  redmoon_rate_limiter_free(bucket);
  redmoon_rate_limiter_free(log);
  return rc;
}

typedef struct memory_record {
  redmoon_bytes text;
  int64_t number;
  double score;
} memory_record;

enum { RECORD_STEPS = 6 };

static int record_step(world *w, redmoon_records *records, int step, redmoon_error *err) {
  size_t len = strlen(w->tag);
  memory_record r = {{w->tag, len}, step + 1, 0.5};
  redmoon_record *loaded = NULL;
  redmoon_record_sum sum;
  int rc;
  switch (step) {
  case 0:
    return redmoon_records_save(records, w->tag, len, &r, NULL, NULL, err);
  case 1:
    return redmoon_records_update(records, w->tag, len, &r, NULL, NULL, err);
  case 2:
    rc = redmoon_records_increment(records, w->tag, len, "number", 5, NULL, &sum, err);
    if (rc == 0) assert_int_equal(sum.integer, 7);
    return rc;
  case 3:
    rc = redmoon_records_load(records, w->tag, len, NULL, 0, &r, &loaded, err);
    assert_int_equal(rc == 0, loaded != NULL);
    if (rc == 0) assert_int_equal(r.number, 7);
    redmoon_record_free(loaded);
    return rc;
  case 4:
    return redmoon_records_touch(records, w->tag, len, NULL, err);
  default:
    return redmoon_records_delete(records, w->tag, len, NULL, err);
  }
}

static int records(world *w, redmoon_error *err) {
  static const redmoon_field fields[] = {REDMOON_FIELD(memory_record, text, REDMOON_STRING),
                                         REDMOON_FIELD(memory_record, number, REDMOON_INTEGER),
                                         REDMOON_FIELD(memory_record, score, REDMOON_DOUBLE)};
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = 3;
  options.ttl_ms = 600000;
  redmoon_records *all = NULL;
  w->took = -1;
  int rc = redmoon_records_new(w->client, "memory", &options, &all, err);
  if (rc != 0) {
    assert_null(all);
    return rc;
  }
  for (w->took = 0; rc == 0 && w->took < RECORD_STEPS;) {
    rc = record_step(w, all, w->took, err);
    if (rc == 0) w->took++;
  }
  redmoon_records_free(all);
  return rc;
}

/* The record is what the calls that were done made of it, and nobody knows only of a call whose outcome is unknown. */
static void check_records(world *w, int status, const redmoon_error *err) {
  static const int64_t after[RECORD_STEPS + 1] = {0, 1, 2, 7, 7, 7, 0}; /* 0: there is none */
  char name[80], text[32] = "0";
  snprintf(name, sizeof name, "redmoon:{%s}:memory.record", w->tag);
  if (ask_text(w->client, text, sizeof text, "HGET", name, "number", NULL) >= 0)
    assert_true(ask_integer(w->client, "PTTL", name, NULL) > 0);
  int64_t number = strtoll(text, NULL, 10);
  int took = w->took < 0 ? 0 : w->took;
  assert_int_equal(status == 0, took == RECORD_STEPS);
  bool next_not_done = took == RECORD_STEPS || w->took < 0 || err->outcome == REDMOON_NOT_SENT;
  bool next_done = !next_not_done && err->outcome == REDMOON_ANSWERED;
  int64_t before = after[took], then = after[took == RECORD_STEPS ? took : took + 1];
  if (next_not_done ? number != before : next_done ? number != then : number != before && number != then)
    fail_msg("records: after %d of %d calls, the next %s, the number is %lld", took, RECORD_STEPS,
             redmoon_outcome_name(err->outcome), (long long)number);
}

/* A session is made, gets another id, is listed and ends with all others; the subject is the run's own. */
static int session_steps(world *w, redmoon_sessions *all, redmoon_error *err) {
  size_t len = strlen(w->tag);
  memory_record r = {{w->tag, len}, 1, 0.5};
  char id[REDMOON_SESSION_ID_SIZE], next[REDMOON_SESSION_ID_SIZE];
  redmoon_record *loaded = NULL;
  redmoon_session_list *list = NULL;
  int rc = redmoon_sessions_create(all, w->tag, len, &r, NULL, id, err);
  if (rc == 0) rc = redmoon_sessions_update(all, id, &r, NULL, NULL, err);
  if (rc == 0) rc = redmoon_sessions_rotate(all, id, next, err);
  if (rc == 0) assert_string_not_equal(next, "");
  if (rc == 0) rc = redmoon_sessions_load(all, next, NULL, 0, &r, &loaded, err);
  assert_true(loaded == NULL || rc == 0);
  redmoon_record_free(loaded);
  if (rc == 0) rc = redmoon_sessions_list(all, w->tag, len, &list, err);
  if (rc == 0) assert_int_equal(list->count, 1);
  redmoon_session_list_free(list);
  if (rc == 0) rc = redmoon_sessions_touch(all, next, NULL, err);
  if (rc == 0) rc = redmoon_sessions_revoke_all(all, w->tag, len, next, NULL, err);
  return rc == 0 ? redmoon_sessions_revoke(all, next, NULL, err) : rc;
}

static int sessions(world *w, redmoon_error *err) {
  static const redmoon_field fields[] = {REDMOON_FIELD(memory_record, text, REDMOON_STRING),
                                         REDMOON_FIELD(memory_record, score, REDMOON_DOUBLE)};
  redmoon_sessions_options options = REDMOON_SESSIONS_OPTIONS_INIT;
  options.records.fields = fields;
  options.records.field_count = 2;
  options.records.ttl_ms = 600000;
  options.secret = "0123456789abcdef";
  options.secret_len = 16;
  redmoon_sessions *all = NULL;
  int rc = redmoon_sessions_new(w->client, "memory", &options, &all, err);
  if (rc != 0) {
    assert_null(all);
    return rc;
  }
  rc = session_steps(w, all, err);
  redmoon_sessions_free(all);
  return rc;
}

static int semaphore(world *w, redmoon_error *err) {
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = 2;
  options.wait_ms = 60000;
  redmoon_semaphore *sem = NULL;
  int rc = redmoon_semaphore_new(w->client, w->tag, strlen(w->tag), &options, &sem, err);
  if (rc != 0) {
    assert_null(sem);
    return rc;
  }
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.request_id = "memory";
  redmoon_permit *permit = NULL;
  redmoon_semaphore_usage usage;
  rc = redmoon_semaphore_acquire(sem, &request, &permit, err);
  assert_int_equal(rc == 0, permit != NULL);
  if (rc == 0) rc = redmoon_permit_extend(permit, 60000, err);
  if (rc == 0) rc = redmoon_semaphore_stats(sem, &usage, err);
  if (rc == 0) assert_int_equal(usage.in_use, 1);
  if (rc == 0) rc = redmoon_permit_release(permit, err);
  redmoon_permit_free(permit);
  redmoon_semaphore_free(sem);
  return rc;
}

static void check_semaphore(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:semaphore", w->tag);
  int64_t held = ask_integer(w->client, "ZCARD", name, NULL);
  assert_true(status == 0 ? held == 0 : held <= 1);
}

static int rwlock(world *w, redmoon_error *err) {
  redmoon_rwlock *lock_of_both = NULL;
  int rc = redmoon_rwlock_new(w->client, w->tag, strlen(w->tag), NULL, &lock_of_both, err);
  if (rc != 0) {
    assert_null(lock_of_both);
    return rc;
  }
  redmoon_permit *permits[3] = {NULL}; /* to write, the same again, and to read beside it */
  int accepted = 0;
  for (int i = 0; i < 3 && rc == 0; i++)
    rc = (i < 2 ? redmoon_rwlock_write : redmoon_rwlock_read)(lock_of_both, &permits[i], err);
  if (rc == 0)
    rc = redmoon_fence_guard(w->client, w->tag, strlen(w->tag), redmoon_permit_fence(permits[0]), &accepted, err);
  if (rc == 0) assert_int_equal(accepted, 1);
  for (int i = 0; i < 3 && rc == 0; i++) rc = redmoon_permit_release(permits[i], err);
  for (int i = 0; i < 3; i++) redmoon_permit_free(permits[i]);
  redmoon_rwlock_free(lock_of_both);
  return rc;
}

static void check_rwlock(world *w, int status, const redmoon_error *err) {
  (void)err;
  char writer[64], readers[64];
  snprintf(writer, sizeof writer, "redmoon:{%s}:rwlock.writer", w->tag);
  snprintf(readers, sizeof readers, "redmoon:{%s}:rwlock.readers", w->tag);
  if (status == 0) assert_int_equal(ask_integer(w->client, "EXISTS", writer, readers, NULL), 0);
}

/* Revoke, bump, begin a family, check, verify; w->took counts them. */
static int blocklist_calls(world *w, redmoon_blocklist *list, redmoon_error *err) {
  redmoon_bytes id = {w->tag, strlen(w->tag)};
  redmoon_revocation token = {id, 2000000000, "memory"};
  redmoon_revocation_result revoked;
  redmoon_subject_result subject;
  redmoon_rotation rotation = {id, {NULL, 0}, id, 600000};
  redmoon_rotation_result rotated;
  redmoon_claims claims[] = {{id, id, id, 5, 0}, {{NULL, 0}, {NULL, 0}, id, 0, 0}};
  redmoon_check_result results[2];
  int rc = redmoon_blocklist_revoke(list, &token, &revoked, err);
  if (rc == 0) w->took++;
  if (rc == 0) rc = redmoon_blocklist_bump(list, id.ptr, id.len, "request", &subject, err);
  if (rc == 0) rc = redmoon_blocklist_rotate(list, &rotation, &rotated, err);
  if (rc == 0) rc = redmoon_blocklist_check_many(list, claims, 2, results, err);
  if (rc == 0) assert_string_equal(results[0].reason, "memory");
  if (rc == 0) assert_string_equal(results[1].reason, "");
  if (rc == 0) rc = redmoon_blocklist_verify(list, err);
  return rc;
}

static int blocklist(world *w, redmoon_error *err) {
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.on_error = "error"; /* else a check would not fail */
  redmoon_blocklist *list = NULL;
  w->took = -1;
  int rc = redmoon_blocklist_new(w->client, "memory", &options, &list, err);
  if (rc != 0) {
    assert_null(list);
    return rc;
  }
  w->took = 0;
  rc = blocklist_calls(w, list, err);
  redmoon_blocklist_free(list);
  return rc;
}

/* The token is revoked once its revocation was done, is not before it was sent, and nobody knows between. */
static void check_blocklist(world *w, int status, const redmoon_error *err) {
  (void)status;
  redmoon_blocklist *list = NULL;
  redmoon_error why;
  redmoon_claims claims = REDMOON_CLAIMS_INIT;
  claims.jti = (redmoon_bytes){w->tag, strlen(w->tag)};
  redmoon_check_result result;
  if (redmoon_blocklist_new(w->client, "memory", NULL, &list, &why) != 0 ||
      redmoon_blocklist_check(list, &claims, &result, &why) != 0 || strcmp(result.reason, "unavailable") == 0)
    fail_msg("%s", why.message);
  if (w->took > 0) assert_true(result.revoked);
  else if (w->took < 0 || err->outcome == REDMOON_NOT_SENT) assert_false(result.revoked);
  else if (err->outcome == REDMOON_ANSWERED) assert_true(result.revoked);
  redmoon_blocklist_free(list);
}

/* One, then two together, then it is read and forgotten. */
static int counter_calls(world *w, redmoon_counter *counter, redmoon_error *err) {
  size_t len = strlen(w->tag);
  redmoon_counter_result one, two[2];
  redmoon_error errors[2];
  int rc = redmoon_counter_increment(counter, w->tag, len, 3, "memory", &one, err);
  if (rc != 0) return rc;
  assert_int_equal(one.value, 3);
  w->counted = 1;
  const redmoon_counter_item items[] = {{w->tag, len, 4, NULL}, {w->tag, len, 5, "again"}};
  rc = redmoon_counter_increment_many(counter, items, 2, two, errors, err);
  for (size_t i = 0; i < 2; i++) {
    if (rc == 0) assert_int_equal(two[i].status, 0);
    else if (two[i].status != 0) assert_string_equal(errors[i].code, "NOMEM"); /* else it was counted before */
  }
  if (rc != 0) return rc;
  w->counted = 2;
  assert_int_equal(two[1].value, 12);
  rc = redmoon_counter_get(counter, w->tag, len, &one, err);
  if (rc == 0) assert_int_equal(one.value, 12);
  if (rc == 0) rc = redmoon_counter_reset(counter, w->tag, len, err);
  if (rc == 0) w->counted = 3;
  return rc;
}

static int load_for_cache(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  for (size_t i = 0; i < count; i++) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, ctx, strlen(ctx), NULL, NULL, 0};
  return 0;
}

/* A value is loaded, read, read with another, set, and deleted. */
static int cache_calls(world *w, redmoon_cache *cache, redmoon_error *err) {
  const redmoon_cache_key keys[] = {{w->tag, strlen(w->tag), NULL, 0}, {"memory", 6, NULL, 0}};
  redmoon_cache_result result = {0}, two[2] = {{0}, {0}};
  int rc = 0;
  for (int i = 0; i < 2 && rc == 0; i++) {
    rc = redmoon_cache_get(cache, &keys[0], load_for_cache, w->tag, &result, err);
    if (rc == 0) assert_memory_equal(result.value, w->tag, result.len);
    redmoon_cache_result_fini(&result);
  }
  if (rc == 0) rc = redmoon_cache_get_many(cache, keys, 2, load_for_cache, w->tag, two, NULL, err);
  for (int i = 0; i < 2; i++) {
    if (two[i].found) assert_int_equal(two[i].len, strlen(w->tag));
    redmoon_cache_result_fini(&two[i]);
  }
  if (rc == 0) rc = redmoon_cache_peek(cache, w->tag, strlen(w->tag), &result, err);
  redmoon_cache_result_fini(&result);
  if (rc == 0) rc = redmoon_cache_set(cache, w->tag, strlen(w->tag), "v", 1, REDMOON_UNSET, err);
  if (rc == 0) rc = redmoon_cache_delete(cache, "memory", 6, err);
  return rc == 0 ? redmoon_cache_delete(cache, w->tag, strlen(w->tag), err) : rc;
}

static int cache(world *w, redmoon_error *err) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "memory";
  options.ttl_ms = 600000;
  options.lease_ms = 10; /* one that is left over is soon over */
  options.seal_key = "0123456789abcdef0123456789abcdef";
  options.seal_key_len = 32;
  options.on_error = "error";
  redmoon_cache *cache = NULL;
  int rc = redmoon_cache_new(w->client, &options, &cache, err);
  if (rc != 0) {
    assert_null(cache);
    return rc;
  }
  rc = cache_calls(w, cache, err);
  redmoon_cache_free(cache);
  return rc;
}

static int load_tagged(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  static const redmoon_bytes tags[] = {{"first", 5}, {"second", 6}};
  (void)keys;
  for (size_t i = 0; i < count; i++) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, ctx, strlen(ctx), NULL, tags, 2};
  return 0;
}

/* A value is loaded, compressed, with tags; read; set; and one of its tags is ended. */
static int cache_tag_calls(world *w, redmoon_cache *cache, redmoon_error *err) {
  static char large[] = "large large large large large large large large large large large large large large large large";
  const redmoon_cache_key key = {w->tag, strlen(w->tag), NULL, 0};
  const redmoon_bytes tags[] = {{"first", 5}, {"third", 5}};
  redmoon_cache_result result = {0};
  int rc = 0;
  for (int i = 0; i < 2 && rc == 0; i++) {
    rc = redmoon_cache_get(cache, &key, load_tagged, large, &result, err);
    if (rc == 0) assert_memory_equal(result.value, large, sizeof large - 1);
    redmoon_cache_result_fini(&result);
  }
  if (rc == 0) rc = redmoon_cache_set_tagged(cache, w->tag, key.len, large, sizeof large - 1, REDMOON_UNSET, tags, 2, err);
  if (rc == 0) rc = redmoon_cache_peek(cache, w->tag, key.len, &result, err);
  if (result.found) assert_memory_equal(result.value, large, sizeof large - 1);
  redmoon_cache_result_fini(&result);
  if (rc == 0) rc = redmoon_cache_invalidate_tags(cache, tags, 2, err);
  if (rc == 0) rc = redmoon_cache_peek(cache, w->tag, key.len, &result, err);
  if (rc == 0) assert_int_equal(result.found, 0);
  redmoon_cache_result_fini(&result);
  return rc;
}

static int cache_tags(world *w, redmoon_error *err) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "memory";
  options.ttl_ms = 600000;
  options.lease_ms = 10;
  options.on_error = "error";
  options.tags = 1;
  options.compress = 50;
  redmoon_cache *cache = NULL;
  int rc = redmoon_cache_new(w->client, &options, &cache, err);
  if (rc != 0) {
    assert_null(cache);
    return rc;
  }
  rc = cache_tag_calls(w, cache, err);
  redmoon_cache_free(cache);
  return rc;
}

static void check_cache(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:memory.cache", w->tag);
  if (status == 0) assert_int_equal(ask_integer(w->client, "EXISTS", name, "redmoon:{memory}:memory.cache", NULL), 0);
  assert_true(ask_integer(w->client, "PTTL", name, NULL) != -1);
}

static int counter(world *w, redmoon_error *err) {
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.window_ms = 600000;
  redmoon_counter *counter = NULL;
  w->counted = -1;
  int rc = redmoon_counter_new(w->client, "memory", &options, &counter, err);
  if (rc != 0) {
    assert_null(counter);
    return rc;
  }
  w->counted = 0;
  rc = counter_calls(w, counter, err);
  redmoon_counter_free(counter);
  return rc;
}

static int counter_by_source(world *w, redmoon_error *err) {
  char forget[160];
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.count redmoon:{%s}:memory.count+req.memory", w->tag, w->tag);
  free(redis_server_ask(w->server, NULL, forget));
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.count+req.again", w->tag);
  free(redis_server_ask(w->server, NULL, forget));
  free(redis_server_ask(w->server, NULL, "SCRIPT FLUSH"));
  return counter(w, err);
}

/* What it holds after the calls that were done, and the one that failed was done or was not. */
static void check_counter(world *w, int status, const redmoon_error *err) {
  static const int64_t after[] = {0, 3, 12, 0};
  assert_int_equal(status == 0, w->counted == 3);
  char name[64], text[32] = "0";
  snprintf(name, sizeof name, "redmoon:{%s}:memory.count", w->tag);
  ask_text(w->client, text, sizeof text, "GET", name, NULL);
  int64_t value = strtoll(text, NULL, 10), done = after[w->counted < 0 ? 0 : w->counted];
  bool not_done = w->counted < 0 || w->counted == 3 || err->outcome == REDMOON_NOT_SENT;
  bool fits = value == done || (!not_done && (value == after[w->counted + 1] || (w->counted == 1 && value == 7)));
  if (!fits)
    fail_msg("counter: after %d of 3 steps, the next %s, it holds %lld", w->counted,
             redmoon_outcome_name(err->outcome), (long long)value);
  if (value != 0) assert_true(ask_integer(w->client, "PTTL", name, NULL) > 0);
}

/* Push two, pop both, waiting for the second; w->took counts them. */
static int list_queue(world *w, redmoon_error *err) {
  redmoon_list_queue *queue = NULL;
  w->took = -1;
  int rc = redmoon_list_queue_new(w->client, w->tag, strlen(w->tag), &queue, err);
  if (rc != 0) {
    assert_null(queue);
    return rc;
  }
  int64_t length = 0;
  w->took = 0;
  for (int step = 0; rc == 0 && step < 5; step++) {
    redmoon_reply *item = NULL;
    if (step < 2) rc = redmoon_list_queue_push(queue, "payload", 7, &length, err);
    else if (step == 2) rc = redmoon_list_queue_length(queue, &length, err);
    else rc = redmoon_list_queue_pop(queue, step == 3 ? 0 : 60000, &item, err);
    if (rc == 0) assert_int_equal(step < 3 ? length == (step == 0 ? 1 : 2) : item != NULL, 1);
    redmoon_reply_free(item);
    if (rc == 0) w->took++;
  }
  redmoon_list_queue_free(queue);
  return rc;
}

/* What is left is what was pushed and not popped; the call that failed was done or was not. */
static void check_list_queue(world *w, int status, const redmoon_error *err) {
  static const int64_t after[] = {0, 1, 2, 2, 1, 0};
  int took = w->took < 0 ? 0 : w->took;
  assert_int_equal(status == 0, took == 5);
  int64_t length = ask_integer(w->client, "LLEN", w->tag, NULL);
  bool next_not_done = took == 5 || w->took < 0 || err->outcome == REDMOON_NOT_SENT;
  if (next_not_done ? length != after[took] : length != after[took] && length != after[took + 1])
    fail_msg("list queue: after %d of 5 calls, the next %s, there are %lld items", took,
             redmoon_outcome_name(err->outcome), (long long)length);
}

/* Two pushes, one that is done, one that fails and is redriven. */
static int stream_queue_calls(redmoon_stream_queue *queue, redmoon_error *err) {
  redmoon_stream_job *job = NULL, *more[2] = {NULL, NULL};
  redmoon_stream_queue_counts counts;
  redmoon_stream_dead_list *list = NULL;
  const redmoon_bytes two[] = {{"a", 1}, {"b", 1}};
  char ids[2][REDMOON_STREAM_ID_SIZE];
  int64_t moved = 0;
  size_t got = 0;
  int rc = redmoon_stream_queue_push_many(queue, two, 2, "memory", ids, err);
  if (rc == 0) rc = redmoon_stream_queue_push(queue, "c", 1, NULL, ids[0], err);
  if (rc == 0) rc = redmoon_stream_queue_pop(queue, 0, &job, err);
  assert_int_equal(rc == 0, job != NULL);
  if (rc == 0) rc = redmoon_stream_job_extend(job, 1000, err);
  if (rc == 0) rc = redmoon_stream_job_release(job, err);
  redmoon_stream_job_free(job);
  if (rc == 0) rc = redmoon_stream_queue_pop_many(queue, 2, 60000, more, &got, err);
  if (rc == 0) assert_in_range(got, 1, 2); /* the one that was released, or those behind it */
  if (rc == 0) rc = redmoon_stream_job_ack_next(more[0], &job, err);
  if (rc == 0) redmoon_stream_job_free(job);
  const redmoon_stream_nack_options fatal = {"memory", 0, 1};
  if (rc == 0 && got == 2) rc = redmoon_stream_job_nack(more[1], &fatal, NULL, err);
  for (size_t i = 0; i < got; i++) redmoon_stream_job_free(more[i]);
  if (rc == 0) rc = redmoon_stream_queue_stats(queue, &counts, err);
  if (rc == 0) rc = redmoon_stream_queue_dead(queue, 5, &list, err);
  redmoon_stream_dead_list_free(list);
  return rc == 0 ? redmoon_stream_queue_redrive(queue, 5, &moved, err) : rc;
}

static int stream_queue(world *w, redmoon_error *err) {
  redmoon_stream_queue_options options = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  options.lease_ms = 600000;
  redmoon_stream_queue *queue = NULL;
  int rc = redmoon_stream_queue_new(w->client, w->tag, strlen(w->tag), &options, &queue, err);
  if (rc != 0) {
    assert_null(queue);
    return rc;
  }
  rc = stream_queue_calls(queue, err);
  redmoon_stream_queue_free(queue);
  return rc;
}

/* Whatever failed, each of three jobs at most is in one place. */
static void check_stream_queue(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64], dead[64];
  snprintf(name, sizeof name, "redmoon:{%s}:stream", w->tag);
  snprintf(dead, sizeof dead, "redmoon:{%s}:stream.dead", w->tag);
  int64_t left = ask_integer(w->client, "XLEN", name, NULL) + ask_integer(w->client, "XLEN", dead, NULL);
  assert_true(status == 0 ? left == 2 : left <= 3);
}

/* Keys of a tag, asked of a connection that is not gated. */
static void make_keys(world *w, const char *what) {
  char command[120];
  for (int i = 0; i < 12; i++) {
    snprintf(command, sizeof command, i % 2 == 0 ? "SET %s%s/%d/%d v" : "SET %s%s/%d/%d v PX 600000", what, w->tag, i % 3, i);
    free(redis_server_ask(w->server, NULL, command));
  }
}

static void drop_keys(world *w, const char *what) {
  char command[120];
  for (int i = 0; i < 12; i++) {
    snprintf(command, sizeof command, "DEL %s%s/%d/%d", what, w->tag, i % 3, i);
    free(redis_server_ask(w->server, NULL, command));
  }
}

/* Whatever was refused: with memory the same audit goes on, and nothing is missing or counted twice. */
static void finish_audit(world *w, redmoon_audit *audit) {
  gate_mode mode = (gate_mode)atomic_load(&w->gate.mode);
  atomic_store(&w->gate.mode, GATE_OPEN);
  redmoon_audit_report *report;
  redmoon_error err;
  if (redmoon_audit_run(audit, &err) != 0) fail_msg("the audit did not go on: %s", err.message);
  assert_int_equal(redmoon_audit_report_new(audit, &report, NULL), 0);
  assert_int_equal(redmoon_audit_report_total(report)->keys, 12);
  assert_int_equal(redmoon_audit_report_total(report)->no_ttl, 6);
  assert_int_equal(redmoon_audit_report_count(report), 3);
  redmoon_audit_report_free(report);
  atomic_store(&w->gate.mode, (int)mode);
}

static int audit_in_parts(world *w, redmoon_audit_options *options, redmoon_error *err) {
  redmoon_audit *audit = NULL, *rest = NULL;
  redmoon_audit_report *report = NULL;
  void *saved = NULL;
  size_t len;
  int rc = redmoon_audit_new(w->client, options, &audit, err);
  for (int i = 0; i < 2 && rc == 0; i++) rc = redmoon_audit_next(audit, err);
  if (rc == 0) rc = redmoon_audit_save(audit, &saved, &len, err);
  if (rc == 0) {
    options->resume = saved;
    options->resume_len = len;
    rc = redmoon_audit_new(w->client, options, &rest, err);
  }
  if (rc == 0) rc = redmoon_audit_run(rest, err);
  if (rc == 0) rc = redmoon_audit_report_new(rest, &report, err);
  if (audit != NULL) finish_audit(w, audit);
  if (rest != NULL) finish_audit(w, rest);
  redmoon_audit_report_free(report);
  redmoon_free(saved);
  redmoon_audit_free(audit);
  redmoon_audit_free(rest);
  return rc;
}

static int audit(world *w, redmoon_error *err) {
  char match[48];
  make_keys(w, "audit");
  snprintf(match, sizeof match, "audit%s/*", w->tag);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.match = match;
  options.separator = "/";
  options.depth = 2;
  options.count = 3;
  options.require_ttl = 1;
  int rc = audit_in_parts(w, &options, err);
  drop_keys(w, "audit");
  return rc;
}

static int fix_all(world *w, redmoon_audit_fix *fix, int64_t *known, redmoon_error *err) {
  int rc = 0;
  while (rc == 0 && !redmoon_audit_fix_done(fix)) {
    rc = redmoon_audit_fix_next(fix, err);
    size_t count;
    const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
    for (size_t i = 0; i < count; i++) {
      char key[64];
      int undone = 0;
      *known += 1;
      snprintf(key, sizeof key, "%.*s", (int)page[i].key_len, (const char *)page[i].key);
      if (rc == 0) rc = redmoon_audit_undo(w->client, key, strlen(key), page[i].expires_ms, &undone, err);
    }
  }
  return rc;
}

static int audit_fix(world *w, redmoon_error *err) {
  char match[48];
  make_keys(w, "fix");
  snprintf(match, sizeof match, "fix%s/*", w->tag);
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = match;
  options.ttl_ms = 600000;
  options.dry_run = 0;
  options.count = 4;
  redmoon_audit_fix *fix = NULL;
  int64_t known = 0;
  int rc = redmoon_audit_fix_new(w->client, &options, &fix, err);
  if (rc == 0) rc = fix_all(w, fix, &known, err);
  if (rc == 0) assert_int_equal(known, 6);
  redmoon_audit_fix_free(fix);
  drop_keys(w, "fix");
  return rc;
}

static void refused_memory_fails_a_pattern_cleanly(void **state) {
  static const scenario list[] = {
      {"audit", audit, NULL, false},
      {"audit's fix", audit_fix, NULL, false},
      {"sessions", sessions, NULL, false},
      {"records", records, check_records, false},
      {"semaphore", semaphore, check_semaphore, false},
      {"read-write lock", rwlock, check_rwlock, false},
      {"list queue", list_queue, check_list_queue, false},
      {"stream queue", stream_queue, check_stream_queue, false},
      {"lock", lock, check_lock, false},
      {"lock with all", lock_with_all, check_lock, false},
      {"redlock", redlock, NULL, true},
      {"blocklist", blocklist, check_blocklist, false},
      {"cache", cache, check_cache, false},
      {"cache's tags", cache_tags, check_cache, false},
      {"counter", counter, check_counter, false},
      {"counter by its source", counter_by_source, check_counter, false},
      {"limiter", limiter, check_limiter, false},
      {"limiter by its source", limiter_by_source, check_limiter, false},
      {"limiter's decisions", limiter_decisions, NULL, false},
  };
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_pattern_cleanly, refused_memory_start, refused_memory_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
