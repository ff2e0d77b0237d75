/* SPDX-License-Identifier: MIT */
/* Every tenth answer is lost on its way: what a pattern counts, lends or holds is as if none were.  The call is repeated by
 * the library itself, because it may be: a request id, or a token, makes the repetition harmless. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/op.h"
#include "support/ask.h"
#include "support/lossy_proxy.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS = 300, EVERY = 10 };

typedef struct fixture {
  redis_server *server;
  lossy_proxy *proxy;
  redmoon_client *client; /* through the proxy */
  redmoon_client *direct;
} fixture;

static int setup(void **state) {
  static fixture f;
  *state = &f;
  f.server = redis_server_start(NULL);
  f.proxy = lossy_proxy_start(redis_server_path(f.server), EVERY);
  char url[200];
  snprintf(url, sizeof url, "unix://%s?min_backoff=0.001&max_backoff=0.004&max_retries=50", lossy_proxy_path(f.proxy));
  assert_int_equal(redmoon_client_open(url, NULL, &f.client, NULL), 0);
  return redmoon_client_open(redis_server_url(f.server), NULL, &f.direct, NULL);
}

static int teardown(void **state) {
  fixture *f = *state;
  size_t lost = lossy_proxy_lost(f->proxy);
  redmoon_client_close(f->client);
  redmoon_client_close(f->direct);
  lossy_proxy_stop(f->proxy);
  redis_server_stop(f->server);
  return lost >= CALLS / EVERY / 2 ? 0 : -1; /* else nothing was tried */
}

static void a_counter_counts_each_request_once(void **state) {
  fixture *f = *state;
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.window_ms = 3600000;
  redmoon_counter *counter;
  redmoon_error err;
  assert_int_equal(redmoon_counter_new(f->client, "hits", &options, &counter, &err), 0);
  int64_t sum = 0;
  for (int i = 0; i < CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    redmoon_counter_result result;
    int64_t by = i % 7 - 2;
    if (redmoon_counter_increment(counter, "x", 1, by, id, &result, &err) != 0) fail_msg("count %d: %s", i, err.message);
    sum += by;
    assert_int_equal(result.value, sum);
    assert_int_equal(result.applied, by);
  }
  redmoon_counter_free(counter);
  char text[24];
  ask_text(f->direct, text, sizeof text, "GET", "redmoon:{x}:hits.count", NULL);
  assert_int_equal(strtol(text, NULL, 10), sum);
}

static int load_for_cache(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  int *loads = ctx;
  for (size_t i = 0; i < count; i++, ++*loads) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, "v", 1, NULL, NULL, 0};
  return 0;
}

static void a_value_is_loaded_once_for_each_time_that_it_is_deleted(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "x";
  options.ttl_ms = 600000;
  options.lease_ms = 60000;
  options.on_error = "error";
  options.early_refresh_ppm = 0;
  redmoon_cache *cache;
  redmoon_error err;
  assert_int_equal(redmoon_cache_new(f->client, &options, &cache, &err), 0);
  const redmoon_cache_key key = {"x", 1, NULL, 0};
  int loads = 0;
  for (int i = 1; i <= CALLS / 2; i++) {
    redmoon_cache_result result;
    for (int n = 0; n < 2; n++) {
      if (redmoon_cache_get(cache, &key, load_for_cache, &loads, &result, &err) != 0) fail_msg("get %d: %s", i, err.message);
      redmoon_cache_result_fini(&result);
      assert_int_equal(loads, i);
    }
    if (redmoon_cache_delete(cache, "x", 1, &err) != 0) fail_msg("delete %d: %s", i, err.message);
    assert_int_equal(ask_integer(f->direct, "DBSIZE", NULL), 0);
  }
  redmoon_cache_free(cache);
}

static int load_with_tags(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  static const redmoon_bytes tags[] = {{"a", 1}, {"b", 1}};
  int status = load_for_cache(ctx, keys, count, out);
  for (size_t i = 0; i < count; i++) out[i].tags = tags, out[i].tag_count = 2;
  return status;
}

static void a_value_is_loaded_once_for_each_time_that_a_tag_of_it_ends(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "x";
  options.ttl_ms = 600000;
  options.lease_ms = 60000;
  options.on_error = "error";
  options.early_refresh_ppm = 0;
  options.tags = 1;
  redmoon_cache *cache;
  redmoon_error err;
  assert_int_equal(redmoon_cache_new(f->client, &options, &cache, &err), 0);
  const redmoon_cache_key key = {"x", 1, NULL, 0};
  const redmoon_bytes ends[] = {{"a", 1}, {"b", 1}, {"c", 1}};
  int loads = 0, expected = 1;
  for (int i = 0; i < CALLS / 4; i++) {
    redmoon_cache_result result;
    for (int n = 0; n < 2; n++) {
      if (redmoon_cache_get(cache, &key, load_with_tags, &loads, &result, &err) != 0) fail_msg("get %d: %s", i, err.message);
      redmoon_cache_result_fini(&result);
      assert_int_equal(loads, expected);
    }
    if (redmoon_cache_invalidate_tags(cache, &ends[i % 3], 1, &err) != 0) fail_msg("invalidation %d: %s", i, err.message);
    expected += i % 3 != 2;
  }
  redmoon_cache_free(cache);
}

static void a_lock_is_had_and_given_back(void **state) {
  fixture *f = *state;
  int64_t fence = 0;
  for (int i = 0; i < CALLS / 2; i++) {
    redmoon_lock *lock;
    redmoon_error err;
    if (redmoon_lock_acquire(f->client, "x", 1, NULL, &lock, &err) != 0) fail_msg("acquisition %d: %s", i, err.message);
    assert_true(redmoon_lock_fence(lock) > fence);
    fence = redmoon_lock_fence(lock);
    if (redmoon_lock_release(lock, &err) != 0) fail_msg("release %d: %s", i, err.message);
    redmoon_lock_free(lock);
    assert_int_equal(ask_integer(f->direct, "EXISTS", "redmoon:{x}:lock", NULL), 0);
  }
}

/* Two databases stand for two servers; both must vote, so every loss counts. */
static void a_redlock_is_had_and_given_back(void **state) {
  fixture *f = *state;
  redmoon_client *clients[2] = {f->client};
  redmoon_error err;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_redlock_options without = {0};
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  redmoon_redlock *redlock;
  options.database = 1;
  request.wait_ms = 600000;
  assert_int_equal(redmoon_client_open(redmoon_client_url(f->client), &options, &clients[1], &err), 0);
  assert_int_equal(redmoon_redlock_new(clients, 2, &without, &redlock, &err), 0);
  int64_t fence = 0;
  for (int i = 0; i < CALLS / 2; i++) {
    redmoon_lock *lock;
    if (redmoon_redlock_acquire(redlock, "x", 1, &request, &lock, &err) != 0) fail_msg("acquisition %d: %s", i, err.message);
    assert_true(redmoon_lock_fence(lock) > fence);
    fence = redmoon_lock_fence(lock);
    int status; /* too few said so in time: it is asked again */
    do status = redmoon_lock_release(lock, &err);
    while (status == REDMOON_EUNAVAILABLE);
    if (status != 0) fail_msg("release %d: %s", i, err.message);
    redmoon_lock_free(lock);
    assert_int_equal(ask_integer(f->direct, "EXISTS", "redmoon:{x}:redlock", NULL), 0);
  }
  redmoon_redlock_free(redlock);
  redmoon_client_close(clients[1]);
}

/* One holds it, without loss, while another waits: that one gets one ticket, and then the lock, whatever is lost. */
static void a_turn_is_waited_for_and_had_once(void **state) {
  fixture *f = *state;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.fair = 1;
  options.wait_ms = 600000;
  redmoon_error err;
  for (int i = 0; i < CALLS / 3; i++) {
    redmoon_lock *first, *second;
    redmoon_op *op;
    if (redmoon_lock_acquire(f->direct, "x", 1, &options, &first, &err) != 0) fail_msg("turn %d: %s", i, err.message);
    assert_int_equal(redmoon_lock_acquire_start(f->client, "x", 1, &options, &second, &op, &err), 0);
    while (ask_integer(f->direct, "ZCARD", "redmoon:{x}:lock.queue", NULL) == 0) assert_int_equal(redmoon_op_step(op), 0);
    assert_int_equal(ask_integer(f->direct, "ZCARD", "redmoon:{x}:lock.queue", NULL), 1);
    assert_int_equal(redmoon_lock_release(first, &err), 0);
    rm_drive(op);
    if (redmoon_op_finish(op, &err) != 0) fail_msg("turn %d: %s", i, err.message);
    assert_true(redmoon_lock_fence(second) > redmoon_lock_fence(first));
    assert_int_equal(redmoon_lock_holds(second), 1);
    if (redmoon_lock_release(second, &err) != 0) fail_msg("release %d: %s", i, err.message);
    redmoon_lock_free(first);
    redmoon_lock_free(second);
    assert_int_equal(ask_integer(f->direct, "EXISTS", "redmoon:{x}:lock", "redmoon:{x}:lock.queue",
                                 "redmoon:{x}:lock.beats", NULL), 0);
  }
}

static void a_limiter_takes_what_it_allowed_once(void **state) {
  fixture *f = *state;
  static const char *const algorithms[] = {"sliding_log", "gcra", "fixed_window"};
  for (size_t a = 0; a < sizeof algorithms / sizeof algorithms[0]; a++) {
    redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
    options.algorithm = algorithms[a];
    options.limit = CALLS;
    options.window_ms = INT64_C(86400000);
    redmoon_rate_limiter *limiter;
    redmoon_error err;
    assert_int_equal(redmoon_rate_limiter_new(f->client, &options, &limiter, &err), 0);
    redmoon_rate_result result;
    for (int i = 0; i < CALLS / 2; i++) {
      char id[16];
      snprintf(id, sizeof id, "r%d", i);
      redmoon_rate_request request = REDMOON_RATE_REQUEST_INIT;
      request.request_id = id;
      if (redmoon_rate_limiter_allow(limiter, "x", 1, &request, &result, &err) != 0) fail_msg("request %d: %s", i, err.message);
      assert_true(result.allowed);
    }
    assert_int_equal(redmoon_rate_limiter_peek(limiter, "x", 1, &result, &err), 0);
    assert_int_equal(result.remaining, CALLS - CALLS / 2);
    redmoon_rate_limiter_free(limiter);
  }
}

static void a_record_is_added_to_once(void **state) {
  fixture *f = *state;
  typedef struct account {
    int64_t balance;
  } account;
  static const redmoon_field fields[] = {REDMOON_FIELD(account, balance, REDMOON_INTEGER)};
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = 1;
  options.ttl_ms = 600000;
  redmoon_records *records;
  redmoon_error err;
  assert_int_equal(redmoon_records_new(f->client, "accounts", &options, &records, &err), 0);
  account ann = {0};
  redmoon_record_write write = REDMOON_RECORD_WRITE_INIT;
  write.request_id = "first";
  if (redmoon_records_save(records, "ann", 3, &ann, &write, NULL, &err) != 0) fail_msg("%s", err.message);
  redmoon_record_sum sum;
  for (int i = 1; i <= CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    if (redmoon_records_increment(records, "ann", 3, "balance", 2, id, &sum, &err) != 0) fail_msg("sum %d: %s", i, err.message);
    assert_int_equal(sum.integer, 2 * i);
  }
  redmoon_records_free(records);
}

static void a_permit_is_had_and_given_back(void **state) {
  fixture *f = *state;
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = 2;
  redmoon_semaphore *semaphore;
  redmoon_error err;
  assert_int_equal(redmoon_semaphore_new(f->client, "x", 1, &options, &semaphore, &err), 0);
  for (int i = 0; i < CALLS / 2; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
    request.request_id = id;
    redmoon_permit *permit;
    if (redmoon_semaphore_acquire(semaphore, &request, &permit, &err) != 0) fail_msg("permit %d: %s", i, err.message);
    assert_int_equal(ask_integer(f->direct, "ZCARD", "redmoon:{x}:semaphore", NULL), 1);
    if (redmoon_permit_release(permit, &err) != 0) fail_msg("release %d: %s", i, err.message);
    redmoon_permit_free(permit);
    assert_int_equal(ask_integer(f->direct, "ZCARD", "redmoon:{x}:semaphore", NULL), 0);
  }
  redmoon_semaphore_free(semaphore);
}

/* Pushed once each, by their request; given out, and ended once each. */
static void a_stream_queue_loses_and_doubles_nothing(void **state) {
  fixture *f = *state;
  redmoon_stream_queue_options options = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  options.lease_ms = 3600000; /* what an answer to a pop lost stays leased */
  redmoon_stream_queue *queue;
  redmoon_error err;
  assert_int_equal(redmoon_stream_queue_new(f->client, "q", 1, &options, &queue, &err), 0);
  for (int i = 0; i < CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    if (redmoon_stream_queue_push(queue, id, strlen(id), id, NULL, &err) != 0) fail_msg("push %d: %s", i, err.message);
  }
  assert_int_equal(ask_integer(f->direct, "XLEN", "redmoon:{q}:stream", NULL), CALLS);
  int acked = 0, failed = 0, unknown = 0;
  for (;;) {
    redmoon_stream_job *job = NULL;
    if (redmoon_stream_queue_pop(queue, 0, &job, &err) != 0) {
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      unknown++;
      continue;
    }
    if (job == NULL) break;
    int end = (acked + failed) % 3, dead = -1;
    const redmoon_stream_nack_options fatal = {NULL, 0, 1};
    int status = end < 2 ? redmoon_stream_job_ack(job, &err) : redmoon_stream_job_nack(job, &fatal, &dead, &err);
    if (status != 0) fail_msg("job %s: %s", redmoon_stream_job_id(job), err.message);
    if (end < 2) acked++;
    else failed++;
    redmoon_stream_job_free(job);
  }
  redmoon_stream_queue_free(queue);
  assert_int_equal(ask_integer(f->direct, "XLEN", "redmoon:{q}:stream.dead", NULL), failed);
  int64_t left = ask_integer(f->direct, "XLEN", "redmoon:{q}:stream", NULL);
  assert_int_equal(acked + failed + left, CALLS);
  assert_true(left > 0 && left <= unknown);
}

static void an_audit_counts_each_key_once(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->direct, "EVAL", "for i = 1, 3000 do redis.call('SET', 'a:' .. i, 'v') end", "0", NULL));
  for (int i = 0; i < 20; i++) {
    redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
    options.count = 200;
    options.sample_ppm = 1000000;
    redmoon_audit *audit;
    redmoon_audit_report *report;
    redmoon_error err;
    assert_int_equal(redmoon_audit_new(f->client, &options, &audit, &err), 0);
    if (redmoon_audit_run(audit, &err) != 0) fail_msg("audit %d: %s", i, err.message);
    assert_int_equal(redmoon_audit_report_new(audit, &report, &err), 0);
    assert_int_equal(redmoon_audit_report_total(report)->keys, 3000);
    assert_int_equal(redmoon_audit_report_total(report)->sampled, 3000);
    redmoon_audit_report_free(report);
    redmoon_audit_free(audit);
  }
}

/* A fix is sent once: of what may have been done without an answer it says so, and its list is complete. */
static void a_fix_lists_every_key_that_it_changed(void **state) {
  fixture *f = *state;
  static char listed[3001];
  memset(listed, 0, sizeof listed);
  redmoon_reply_free(ask(f->direct, "EVAL", "for i = 1, 3000 do redis.call('SET', 'a:' .. i, 'v') end", "0", NULL));
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = "a:*";
  options.ttl_ms = 6000000;
  options.dry_run = 0;
  options.count = 5;
  redmoon_audit_fix *fix;
  redmoon_error err;
  int failures = 0, unknown = 0, known = 0;
  assert_int_equal(redmoon_audit_fix_new(f->client, &options, &fix, &err), 0);
  for (int pages = 0; !redmoon_audit_fix_done(fix); pages++) {
    /* A page is three answers: so that it is not always the same one that is lost. */
    if (pages % 2 == 0) redmoon_reply_free(ask(f->client, "PING", NULL));
    if (redmoon_audit_fix_next(fix, &err) != 0) {
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      failures++;
    }
    size_t count;
    const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
    for (size_t i = 0; i < count; i++) {
      int n = atoi((const char *)page[i].key + 2);
      assert_true(n >= 1 && n <= 3000);
      if (page[i].expires_ms > 0) known++;
      else unknown++;
      listed[n] = 1;
    }
  }
  redmoon_audit_fix_counts counts;
  redmoon_audit_fix_counts_get(fix, &counts);
  assert_int_equal(counts.fixed, known);
  if (failures <= 5 || unknown <= 5 || known <= 1000) fail_msg("%d failures, %d unknown, %d known", failures, unknown, known);
  for (int i = 1; i <= 3000; i++) {
    char key[16];
    snprintf(key, sizeof key, "a:%d", i);
    assert_true(ask_integer(f->direct, "PTTL", key, NULL) > 5000000);
    if (!listed[i]) fail_msg("%s was changed and is not listed", key);
  }
  redmoon_audit_fix_free(fix);
}

static void a_job_is_pushed_and_ended_once(void **state) {
  fixture *f = *state;
  redmoon_queue *queue;
  redmoon_error err;
  assert_int_equal(redmoon_queue_new(f->client, "x", 1, NULL, &queue, &err), 0);
  redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
  redmoon_queue_pushed pushed;
  redmoon_queue_counts counts;
  int taken = 0;
  for (int i = 0; i < CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    if (redmoon_queue_push(queue, &item, id, &pushed, &err) != 0) fail_msg("push %d: %s", i, err.message);
    redmoon_job *job = NULL;
    if (redmoon_queue_pop(queue, NULL, &job, &err) != 0) { /* the job comes back when its lease is over */
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      continue;
    }
    assert_string_equal(redmoon_job_id(job), pushed.id);
    if (redmoon_job_ack(job, NULL, &err) != 0) fail_msg("ack %d: %s", i, err.message);
    redmoon_job_free(job);
    taken++;
  }
  assert_int_equal(redmoon_queue_stats(queue, &counts, &err), 0);
  assert_int_equal(counts.pushed, CALLS);
  assert_int_equal(counts.finished, taken);
  assert_int_equal(counts.leased, CALLS - taken);
  redmoon_queue_free(queue);
}

static void a_message_of_a_topic_is_published_once(void **state) {
  fixture *f = *state;
  redmoon_topic *topic, *theirs;
  redmoon_topic_reader *reader;
  redmoon_error err;
  assert_int_equal(redmoon_topic_new(f->client, "x", 1, NULL, &topic, &err), 0);
  assert_int_equal(redmoon_topic_new(f->direct, "x", 1, NULL, &theirs, &err), 0);
  if (redmoon_topic_subscribe(theirs, NULL, &reader, &err) != 0) fail_msg("%s", err.message);
  for (int i = 1; i <= CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    redmoon_topic_published published;
    if (redmoon_topic_publish(topic, id, strlen(id), id, &published, &err) != 0) fail_msg("message %d: %s", i, err.message);
    assert_int_equal(published.seq, i);
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_receive(reader, 20000, &message, &err) != 0 || message == NULL) fail_msg("message %d did not come", i);
    assert_int_equal(message->seq, i);
    assert_string_equal(message->payload, id);
    redmoon_topic_message_free(message);
  }
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(theirs);
  redmoon_topic_free(topic);
}

/* Published, fetched and acknowledged through what loses answers. */
static void a_message_of_a_durable_topic_is_read_once(void **state) {
  fixture *f = *state;
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  options.durable = 1;
  redmoon_topic *topic;
  redmoon_topic_cursor *cursor;
  redmoon_error err;
  assert_int_equal(redmoon_topic_new(f->client, "x", 1, &options, &topic, &err), 0);
  if (redmoon_topic_cursor_open(topic, "r", 1, NULL, &cursor, &err) != 0) fail_msg("%s", err.message);
  for (int i = 1; i <= CALLS; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    redmoon_topic_published published;
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_publish(topic, id, strlen(id), id, &published, &err) != 0) fail_msg("message %d: %s", i, err.message);
    assert_int_equal(published.seq, i);
    if (redmoon_topic_cursor_receive(cursor, 20000, &message, &err) != 0) fail_msg("message %d: %s", i, err.message);
    if (message == NULL) fail_msg("message %d did not come", i);
    assert_int_equal(message->seq, i);
    assert_string_equal(message->payload, id);
    redmoon_topic_message_free(message);
    if (redmoon_topic_cursor_ack(cursor, i, &err) != 0) fail_msg("message %d: %s", i, err.message);
    if (i % 50 != 0) continue;
    redmoon_topic_cursor_close(cursor);
    if (redmoon_topic_cursor_open(topic, "r", 1, NULL, &cursor, &err) != 0) fail_msg("%s", err.message);
  }
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_free(topic);
  assert_int_equal(ask_integer(f->direct, "XLEN", "redmoon:{x}:topic.log", NULL), CALLS);
}

/* The control: without anything that makes a repetition harmless, calls end unknown, and nobody knows the count. */
static void without_an_id_answers_are_missed(void **state) {
  fixture *f = *state;
  int answered = 0, unknown = 0;
  for (int i = 0; i < CALLS; i++) {
    redmoon_reply *reply;
    redmoon_error err;
    if (redmoon_command(f->client, 2, (const char *[]){"INCR", "n"}, NULL, &reply, &err) == 0) {
      answered++;
      redmoon_reply_free(reply);
    } else {
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      unknown++;
    }
  }
  char text[24];
  ask_text(f->direct, text, sizeof text, "GET", "n", NULL);
  assert_true(unknown > 0);
  assert_int_equal(strtol(text, NULL, 10), answered + unknown);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_counter_counts_each_request_once),
      TEST(a_value_is_loaded_once_for_each_time_that_it_is_deleted),
      TEST(a_value_is_loaded_once_for_each_time_that_a_tag_of_it_ends),
      TEST(a_fix_lists_every_key_that_it_changed),
      TEST(a_lock_is_had_and_given_back),
      TEST(a_redlock_is_had_and_given_back),
      TEST(a_job_is_pushed_and_ended_once),
      TEST(a_turn_is_waited_for_and_had_once),
      TEST(a_limiter_takes_what_it_allowed_once),
      TEST(a_permit_is_had_and_given_back),
      TEST(a_record_is_added_to_once),
      TEST(an_audit_counts_each_key_once),
      TEST(a_stream_queue_loses_and_doubles_nothing),
      TEST(a_message_of_a_topic_is_published_once),
      TEST(a_message_of_a_durable_topic_is_read_once),
      TEST(without_an_id_answers_are_missed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
