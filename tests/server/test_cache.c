/* SPDX-License-Identifier: MIT */
/* The cache through the public interface, on a server of the test's own.  What the scripts decide is proved in tests/scripts,
 * what an entry is in tests/unit/test_cache_entry.c.  Time passes by PEXPIRE: an entry's age is what has passed of its TTL.
 * SCHEDULES and BLOBS make more, SEED repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "patterns/cache.h"
#include "support/ask.h"
#include "support/cutter.h"
#include "support/embedded_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENTRY "redmoon:{k}:c.cache"
#define LEASE "redmoon:{k}:c.cache+lease"
enum { TTL_MS = 600000, STALE_MS = 600000 };

static redmoon_cache_options options_of(void) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "c";
  options.ttl_ms = TTL_MS;
  options.jitter_ppm = 0;
  return options;
}

static redmoon_cache *cache_with(redmoon_client *client, const redmoon_cache_options *options) {
  redmoon_cache *cache = NULL;
  redmoon_error err;
  if (redmoon_cache_new(client, options, &cache, &err) != 0) fail_msg("%s", err.message);
  return cache;
}

static redmoon_cache *cache_of(redmoon_client *client, int64_t stale_ttl_ms) {
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = stale_ttl_ms;
  return cache_with(client, &options);
}

static redmoon_client *another_client(const fixture *f) {
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(redmoon_embedded_url(f->server), NULL, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static redmoon_cache_stats stats_of(const redmoon_cache *cache) {
  redmoon_cache_stats stats;
  redmoon_cache_get_stats(cache, &stats);
  return stats;
}

/* Loaders. */

typedef struct source {
  const char *value; /* NULL: there is none */
  const char *error; /* NULL: it does not fail */
  int loads;
  redmoon_cache *inner; /* asked for the same key by the loader; NULL: not */
} source;

static int load(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  source *s = ctx;
  for (size_t i = 0; i < count; i++) {
    s->loads++;
    if (s->error != NULL) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_FAILED, s->error, strlen(s->error), NULL};
    else if (s->value == NULL) out[i].found = REDMOON_CACHE_ABSENT;
    else out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, s->value, strlen(s->value), NULL};
    if (s->inner != NULL) {
      redmoon_cache_result result;
      redmoon_error err;
      redmoon_cache_key key = {keys[i].ptr, keys[i].len, NULL, 0};
      assert_int_equal(redmoon_cache_get(s->inner, &key, load, &(source){"inner", NULL, 0, NULL}, &result, &err), REDMOON_EUNAVAILABLE);
      assert_non_null(strstr(err.message, "waiting for itself"));
    }
  }
  return 0;
}

static const redmoon_cache_key k = {"k", 1, NULL, 0};

/* Gets "k"; `want` NULL: it is absent. */
static redmoon_cache_result get(redmoon_cache *cache, source *from, const char *want) {
  redmoon_cache_result result;
  redmoon_error err;
  if (redmoon_cache_get(cache, &k, load, from, &result, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(result.status, 0);
  assert_int_equal(result.found, want != NULL);
  if (want != NULL) {
    assert_int_equal(result.len, strlen(want));
    assert_memory_equal(result.value, want, result.len);
  }
  redmoon_cache_result told = result;
  redmoon_cache_result_fini(&result);
  return told;
}

static void get_as(redmoon_cache *cache, source *from, const char *want, const char *source_name, const char *state) {
  redmoon_cache_result result = get(cache, from, want);
  assert_string_equal(result.source, source_name);
  assert_string_equal(result.state, state);
}

static void age(const fixture *f, const char *left_ms) {
  assert_int_equal(ask_integer(f->client, "PEXPIRE", ENTRY, left_ms, NULL), 1);
}

/* Operations. */

enum { ENDED = 1, LOADS, SLEEPS };

static bool poll_once(const redmoon_op *op) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {wants.fd, 0, 0};
  if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
  if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
  return poll(&fd, wants.fd < 0 ? 0 : 1, (int)wants.timeout_ms) > 0;
}

/* As far as it goes without another's help. */
static int go(redmoon_op *op) {
  for (;;) {
    if (redmoon_op_step(op)) return ENDED;
    size_t none;
    if (redmoon_cache_op_loads(op, &none, 0) > 0) {
      redmoon_wants wants;
      redmoon_op_wants(op, &wants);
      assert_int_equal(wants.events, REDMOON_WANT_LOAD);
      assert_int_equal(wants.fd, -1);
      return LOADS;
    }
    if (rm_get_of(op)->stage == GET_PAUSE) return SLEEPS;
    poll_once(op);
  }
}

static redmoon_op *start(redmoon_cache *cache, redmoon_cache_result *out) {
  redmoon_op *op;
  redmoon_error err;
  if (redmoon_cache_get_start(cache, &k, out, &op, &err) != 0) fail_msg("%s", err.message);
  return op;
}

static void loaded(redmoon_op *op, const char *value) {
  redmoon_error err;
  int found = value != NULL ? REDMOON_CACHE_VALUE : REDMOON_CACHE_ABSENT;
  if (redmoon_cache_op_loaded(op, 0, found, value, value != NULL ? strlen(value) : 0, &err) != 0) fail_msg("%s", err.message);
}

static void has_ended(redmoon_op *op, redmoon_cache_result *out, const char *want, const char *state) {
  redmoon_error err;
  while (go(op) != ENDED) poll_once(op); /* one that sleeps is woken */
  if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
  assert_string_equal(out->state, state);
  assert_int_equal(out->len, strlen(want));
  assert_memory_equal(out->value, want, out->len);
}

/* Tests. */

static void a_value_is_loaded_once_and_then_read(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  source db = {"one", NULL, 0, NULL};
  redmoon_cache_result first = get(cache, &db, "one");
  assert_string_equal(first.source, "loader");
  assert_int_equal(first.stored, 1);
  assert_int_equal(ask_integer(f->client, "EXISTS", LEASE, NULL), 0);
  int64_t left = ask_integer(f->client, "PTTL", ENTRY, NULL);
  assert_in_range(left, TTL_MS - 60000, TTL_MS);
  db.value = "two";
  age(f, "590000");
  redmoon_cache_result again = get(cache, &db, "one");
  assert_string_equal(again.source, "redis");
  assert_in_range(again.age_ms, 10000, 70000);
  assert_int_equal(db.loads, 1);
  assert_int_equal(stats_of(cache).hits, 1);
  assert_int_equal(stats_of(cache).misses, 1);
  redmoon_cache_free(cache);
}

static void that_there_is_no_value_is_known_too(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  redmoon_cache *cache = cache_with(f->client, &options);
  source db = {NULL, NULL, 0, NULL};
  for (int i = 0; i < 3; i++) get_as(cache, &db, NULL, i == 0 ? "loader" : "redis", i == 0 ? "miss" : "hit");
  assert_int_equal(db.loads, 1);
  assert_true(ask_integer(f->client, "PTTL", ENTRY, NULL) <= 5000);
  redmoon_cache_free(cache);
  options.negative_ttl_ms = 0;
  options.stale_ttl_ms = STALE_MS;
  cache = cache_with(f->client, &options);
  db.value = "old";
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "old", 3, REDMOON_UNSET, NULL), 0);
  db.value = NULL;
  age(f, "1000");
  for (int i = 0; i < 2; i++) assert_int_equal(get(cache, &db, NULL).stored, 0); /* and what is stale goes */
  assert_int_equal(db.loads, 3);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_cache_free(cache);
}

static void what_is_stale_is_served_while_one_loads_it_again(void **state) {
  fixture *f = *state;
  redmoon_client *elsewhere = another_client(f);
  redmoon_cache *cache = cache_of(f->client, STALE_MS), *other = cache_of(elsewhere, STALE_MS);
  source db = {"old", NULL, 0, NULL};
  get(cache, &db, "old");
  age(f, "500000");
  redmoon_cache_result out, second;
  redmoon_op *op = start(cache, &out), *late = start(other, &second);
  assert_int_equal(go(op), LOADS);
  for (int i = 0; i < 2; i++) get_as(i == 0 ? other : cache, &db, "old", "redis", "stale");
  assert_int_equal(db.loads, 1);
  loaded(op, "new");
  has_ended(op, &out, "new", "miss");
  has_ended(late, &second, "new", "hit");
  get_as(other, &db, "new", "redis", "hit");
  assert_int_equal(stats_of(cache).stale + stats_of(other).stale, 2);
  redmoon_cache_result_fini(&out);
  redmoon_cache_result_fini(&second);
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(elsewhere);
}

static void who_finds_nothing_waits_for_the_one_that_loads(void **state) {
  fixture *f = *state;
  redmoon_client *elsewhere = another_client(f);
  redmoon_cache *cache = cache_of(f->client, 0), *other = cache_of(elsewhere, 0);
  redmoon_cache_result out[3];
  redmoon_op *leader = start(cache, &out[0]), *follower = start(cache, &out[1]), *far = start(other, &out[2]);
  assert_int_equal(go(leader), LOADS);
  redmoon_stats pool;
  redmoon_client_stats(f->client, &pool);
  assert_int_equal(pool.in_use, 0); /* the loader may use the client */
  assert_int_equal(go(follower), SLEEPS);
  assert_int_equal(go(far), SLEEPS);
  redmoon_wants wants;
  redmoon_op_wants(follower, &wants);
  struct pollfd fd = {wants.fd, POLLIN, 0};
  assert_true(wants.fd >= 0);
  assert_int_equal(poll(&fd, 1, 0), 0);
  loaded(leader, "v");
  has_ended(leader, &out[0], "v", "miss");
  assert_int_equal(poll(&fd, 1, 0), 1);
  has_ended(follower, &out[1], "v", "hit");
  has_ended(far, &out[2], "v", "hit");
  assert_int_equal(stats_of(cache).waits, 1);
  assert_int_equal(stats_of(other).waits, 1);
  for (int i = 0; i < 3; i++) redmoon_cache_result_fini(&out[i]);
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(elsewhere);
}

static void a_deletion_voids_the_load_that_goes_on(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, STALE_MS);
  redmoon_cache_result out[2];
  redmoon_error err;
  redmoon_op *op = start(cache, &out[0]), *follower = start(cache, &out[1]);
  assert_int_equal(go(op), LOADS);
  assert_int_equal(go(follower), SLEEPS);
  assert_int_equal(redmoon_cache_delete(cache, "k", 1, &err), 0);
  loaded(op, "old");
  has_ended(op, &out[0], "old", "miss"); /* it began before */
  assert_int_equal(out[0].stored, 0);
  assert_string_equal(out[0].code, "LOST");
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  assert_int_equal(go(follower), LOADS); /* it is not given what the other loaded */
  loaded(follower, "new");
  has_ended(follower, &out[1], "new", "miss");
  assert_int_equal(out[1].stored, 1);
  assert_int_equal(stats_of(cache).lost, 1);
  for (int i = 0; i < 2; i++) redmoon_cache_result_fini(&out[i]);
  op = start(cache, &out[0]);
  assert_int_equal(redmoon_cache_delete(cache, "k", 1, &err), 0);
  assert_int_equal(go(op), LOADS);
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "set", 3, REDMOON_UNSET, &err), 0); /* and so does a set */
  loaded(op, "old");
  has_ended(op, &out[0], "old", "miss");
  redmoon_cache_result_fini(&out[0]);
  source db = {"unused", NULL, 0, NULL};
  get_as(cache, &db, "set", "redis", "hit");
  redmoon_cache_free(cache);
}

static void a_load_that_fails_is_told_to_all_who_wait_and_what_is_stale_is_served(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, STALE_MS);
  redmoon_cache_result out[2];
  redmoon_error err;
  redmoon_op *op = start(cache, &out[0]), *follower = start(cache, &out[1]);
  assert_int_equal(go(op), LOADS);
  assert_int_equal(go(follower), SLEEPS);
  assert_int_equal(redmoon_cache_op_loaded(op, 0, REDMOON_CACHE_FAILED, "no rows today", 13, &err), 0);
  assert_int_equal(go(op), ENDED);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "no rows today"));
  assert_int_equal(go(follower), ENDED);
  assert_int_equal(redmoon_op_finish(follower, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "no rows today"));
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0); /* the lease was given back */
  source db = {"v", NULL, 0, NULL};
  get(cache, &db, "v");
  age(f, "1000");
  db.error = "gone";
  redmoon_cache_result stale = get(cache, &db, "v");
  assert_string_equal(stale.state, "stale");
  assert_string_equal(stale.code, "UNAVAILABLE");
  assert_int_equal(ask_integer(f->client, "EXISTS", LEASE, NULL), 0);
  assert_int_equal(stats_of(cache).failures, 2);
  redmoon_cache_free(cache);
}

static void after_a_failure_nobody_loads_for_a_while(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = STALE_MS;
  options.retry_after_ms = 600000;
  redmoon_cache *cache = cache_with(f->client, &options);
  source db = {"old", NULL, 0, NULL};
  get(cache, &db, "old");
  age(f, "1000000");
  get_as(cache, &db, "old", "redis", "hit");
  age(f, "500000");
  db.error = "down";
  for (int i = 0; i < 5; i++) get_as(cache, &db, "old", "redis", "stale");
  assert_int_equal(db.loads, 2);
  assert_in_range(ask_integer(f->client, "PTTL", LEASE, NULL), 500000, 600000);
  db.error = NULL;
  db.value = "new";
  get_as(cache, &db, "old", "redis", "stale");
  assert_int_equal(redmoon_cache_delete(cache, "k", 1, NULL), 0); /* that ends it */
  get_as(cache, &db, "new", "loader", "miss");
  redmoon_cache_free(cache);
}

/* A child has none of its parent's gets, and leaves them alone. */
static void a_get_under_way_stays_the_parents(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  redmoon_cache_result out[2];
  redmoon_op *op = start(cache, &out[0]), *follower = start(cache, &out[1]);
  assert_int_equal(go(op), LOADS);
  assert_int_equal(go(follower), SLEEPS);
  pid_t pid = fork();
  if (pid == 0) {
    redmoon_error err;
    redmoon_cache_result result;
    source db = {"child", NULL, 0, NULL};
    const redmoon_cache_key other = {"child", 5, NULL, 0};
    redmoon_op_cancel(follower);
    if (redmoon_op_step(op) != 1 || redmoon_op_finish(op, &err) != REDMOON_ECLOSED) _exit(1);
    if (redmoon_cache_get(cache, &other, load, &db, &result, &err) != 0 || db.loads != 1) _exit(2);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  loaded(op, "v");
  has_ended(op, &out[0], "v", "miss");
  assert_int_equal(out[0].stored, 1);
  has_ended(follower, &out[1], "v", "hit");
  for (int i = 0; i < 2; i++) redmoon_cache_result_fini(&out[i]);
  redmoon_cache_free(cache);
}

/* An entry whose load took 50 days, and which is fresh for 10 minutes more: XFetch says "early" but once in 10^6. */
static void an_early_load_is_one(void **state) {
  fixture *f = *state;
  redmoon_client *elsewhere = another_client(f);
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = STALE_MS;
  options.early_refresh_ppm = 10000000;
  redmoon_cache *cache = cache_with(f->client, &options), *other = cache_with(elsewhere, &options);
  rm_entry entry = {false, 0, TTL_MS, TTL_MS + STALE_MS, INT64_C(0xFFFFFFFF), "v", 1};
  unsigned char bytes[RM_ENTRY_HEADER + 1];
  const rm_secret none = {NULL, 0};
  rm_entry_write(&entry, (redmoon_bytes){ENTRY, strlen(ENTRY)}, &none, bytes);
  redmoon_reply *reply;
  const char *const argv[] = {"SET", ENTRY, (const char *)bytes, "PX", "1200000"};
  assert_int_equal(redmoon_command(f->client, 5, argv, (const size_t[]){3, strlen(ENTRY), sizeof bytes, 2, 7}, &reply, NULL), 0);
  redmoon_reply_free(reply);
  redmoon_cache_result out[2];
  redmoon_op *first = start(cache, &out[0]), *second = start(other, &out[1]);
  assert_int_equal(go(first), LOADS);
  has_ended(second, &out[1], "v", "hit"); /* its draw says early as well, but another has the lease */
  loaded(first, "w");
  has_ended(first, &out[0], "w", "miss");
  assert_int_equal(stats_of(cache).early, 1);
  for (int i = 0; i < 2; i++) redmoon_cache_result_fini(&out[i]);
  options.early_refresh_ppm = 0;
  redmoon_cache *never = cache_with(f->client, &options);
  source db = {"unused", NULL, 0, NULL};
  for (int i = 0; i < 20; i++) get_as(never, &db, "w", "redis", "hit");
  redmoon_cache_free(never);
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(elsewhere);
}

static uint64_t random_state;
static uint64_t draw(uint64_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state >> 33) % bound;
}

static long number_of(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

/* Whatever stands there, a get ends well: with what was stored, or with what it loads. */
static void what_cannot_be_decoded_is_a_counted_miss(void **state) {
  fixture *f = *state;
  random_state = (uint64_t)number_of("SEED", 20261125);
  long blobs = number_of("BLOBS", 2000), changed = 0;
  print_message("SEED=%lld BLOBS=%ld\n", (long long)random_state, blobs);
  redmoon_cache *cache = cache_of(f->client, STALE_MS);
  source db = {"a value", NULL, 0, NULL};
  get(cache, &db, "a value");
  char good[200], bad[200];
  size_t good_len = (size_t)ask_text(f->client, good, sizeof good, "GET", ENTRY, NULL);
  for (long i = 0; i < blobs; i++) {
    size_t len = draw(4) == 0 ? draw(good_len + 1) : good_len;
    memcpy(bad, good, good_len);
    for (size_t n = draw(3); n > 0; n--) bad[draw(good_len)] ^= (char)(1 << draw(8));
    bool is_another = len != good_len || memcmp(bad, good, len) != 0;
    changed += is_another;
    redmoon_reply *reply;
    const char *const argv[] = {"SET", ENTRY, bad, "PX", "1200000"};
    assert_int_equal(redmoon_command(f->client, 5, argv, (const size_t[]){3, strlen(ENTRY), len, 2, 7}, &reply, NULL), 0);
    redmoon_reply_free(reply);
    int before = db.loads;
    get(cache, &db, "a value");
    assert_int_equal(db.loads, before + is_another);
  }
  assert_true(changed > blobs / 4);
  assert_int_equal(stats_of(cache).undecodable, changed);
  redmoon_reply_free(ask(f->client, "DEL", ENTRY, NULL));
  redmoon_reply_free(ask(f->client, "LPUSH", ENTRY, "a list", NULL));
  get_as(cache, &db, "a value", "loader", "miss");
  redmoon_cache_free(cache);
}

static void a_version_that_the_caller_cannot_decode_is_rejected(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  redmoon_error err;
  source db = {"first", NULL, 0, NULL};
  get(cache, &db, "first");
  redmoon_cache_result read = get(cache, &db, "first"), result;
  db.value = "second";
  redmoon_cache_key again = {"k", 1, read.version, read.version_len};
  for (int i = 0; i < 2; i++) { /* the second time another version is there */
    assert_int_equal(redmoon_cache_get(cache, &again, load, &db, &result, &err), 0);
    assert_memory_equal(result.value, "second", 6);
    redmoon_cache_result_fini(&result);
    assert_int_equal(db.loads, 2);
  }
  assert_int_equal(redmoon_cache_discard(cache, "k", 1, read.version, read.version_len, &err), 0);
  assert_int_equal(redmoon_cache_peek(cache, "k", 1, &result, &err), 0);
  assert_int_equal(result.found, 1);
  assert_int_equal(redmoon_cache_discard(cache, "k", 1, result.version, result.version_len, &err), 0);
  redmoon_cache_result_fini(&result);
  assert_int_equal(redmoon_cache_peek(cache, "k", 1, &result, &err), 0);
  assert_int_equal(result.found, 0);
  assert_string_equal(result.state, "miss");
  assert_int_equal(db.loads, 2); /* a peek loads nothing */
  redmoon_reply_free(ask(f->client, "SET", ENTRY, "garbage", "PX", "60000", NULL));
  assert_int_equal(redmoon_cache_peek(cache, "k", 1, &result, &err), 0);
  assert_int_equal(result.found, 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", ENTRY, NULL), 0);
  redmoon_cache_free(cache);
}

static void many_share_their_round_trips(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  redmoon_cache_key keys[6] = {{"a", 1, NULL, 0}, {"b", 1, NULL, 0}, {"a", 1, NULL, 0}, {"c", 1, NULL, 0}, {"d", 1, NULL, 0}, {"e", 1, NULL, 0}};
  redmoon_cache_result results[6];
  redmoon_error errors[6], err;
  source db = {"v", NULL, 0, NULL};
  redmoon_stats before, after;
  assert_int_equal(redmoon_cache_set(cache, "c", 1, "set", 3, REDMOON_UNSET, &err), 0);
  for (int round = 0; round < 2; round++) {
    redmoon_client_stats(f->client, &before);
    assert_int_equal(redmoon_cache_get_many(cache, keys, 6, load, &db, results, errors, &err), 0);
    redmoon_client_stats(f->client, &after);
    for (int i = 0; i < 6; i++) {
      assert_int_equal(results[i].status, 0);
      assert_memory_equal(results[i].value, i == 3 ? "set" : "v", results[i].len);
      redmoon_cache_result_fini(&results[i]);
    }
    /* One to read; then a lease, a put, and one to read the key that is there twice. */
    assert_int_equal(after.hits - before.hits, round == 0 ? 4 : 1);
    assert_int_equal(db.loads, 4);
  }
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 5);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
  db.error = "no";
  assert_int_equal(redmoon_cache_set(cache, "c", 1, "set", 3, REDMOON_UNSET, &err), 0);
  assert_int_equal(redmoon_cache_get_many(cache, keys, 6, load, &db, results, errors, &err), 0);
  for (int i = 0; i < 6; i++) {
    assert_int_equal(results[i].status, i == 3 ? 0 : REDMOON_EUNAVAILABLE);
    if (i != 3) assert_non_null(strstr(errors[i].message, "no"));
    redmoon_cache_result_fini(&results[i]);
  }
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 1);
  assert_int_equal(redmoon_cache_get_many(cache, keys, 0, load, &db, results, errors, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_get_many(cache, keys, 501, load, &db, results, errors, &err), REDMOON_ECONFIG);
  redmoon_cache_free(cache);
}

static void a_sealed_value_is_read_with_its_key_alone(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  char seal_key[33] = "0123456789abcdef0123456789abcdef";
  options.seal_key = seal_key;
  options.seal_key_len = 32;
  redmoon_cache *cache = cache_with(f->client, &options);
  seal_key[0] = 'x'; /* it was copied */
  redmoon_cache *other = cache_with(f->client, &options);
  source db = {"a secret", NULL, 0, NULL};
  get(cache, &db, "a secret");
  get_as(cache, &db, "a secret", "redis", "hit");
  char stored[200];
  int64_t len = ask_text(f->client, stored, sizeof stored, "GET", ENTRY, NULL);
  for (int64_t i = 0; i + 8 <= len; i++) assert_memory_not_equal(stored + i, "a secret", 8);
  db.value = "other";
  get_as(other, &db, "other", "loader", "miss"); /* what it cannot read it replaces */
  assert_int_equal(stats_of(other).undecodable, 1);
  /* Moved to another key it is none. */
  redmoon_reply_free(ask(f->client, "RENAME", ENTRY, "redmoon:{j}:c.cache", NULL));
  redmoon_cache_result result;
  assert_int_equal(redmoon_cache_peek(other, "j", 1, &result, NULL), 0);
  assert_int_equal(result.found, 0);
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
}

static void what_is_too_large_is_not_stored(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  options.max_size = 5;
  options.stale_ttl_ms = STALE_MS;
  redmoon_cache *cache = cache_with(f->client, &options);
  redmoon_error err;
  source db = {"12345", NULL, 0, NULL};
  assert_int_equal(get(cache, &db, "12345").stored, 1);
  age(f, "1000");
  db.value = "123456";
  assert_int_equal(get(cache, &db, "123456").stored, 0);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0); /* what is older is not served either */
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "123456", 6, REDMOON_UNSET, &err), REDMOON_ETOO_LARGE);
  assert_int_equal(stats_of(cache).too_large, 2);
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "1", 1, 5000, &err), 0);
  assert_true(ask_integer(f->client, "PTTL", ENTRY, NULL) <= 5000 + STALE_MS);
  redmoon_cache_free(cache);
}

static void a_loader_that_asks_for_its_own_key_is_told(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  source db = {"v", NULL, 0, cache};
  get(cache, &db, "v");
  redmoon_cache_free(cache);
}

static void an_answer_that_was_lost_makes_no_second_load(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(redmoon_embedded_url(f->server));
  redmoon_client *through;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_cache *cache = cache_of(through, 0);
  source db = {"v", NULL, 0, NULL};
  cutter_lose(c, 1); /* the lease: it was given, and is taken over by another token */
  redmoon_cache_result result = get(cache, &db, "v");
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(result.stored, 1);
  assert_int_equal(db.loads, 1);
  assert_int_equal(redmoon_cache_delete(cache, "k", 1, &err), 0);
  redmoon_cache_result out;
  redmoon_op *op = start(cache, &out);
  assert_int_equal(go(op), LOADS);
  cutter_lose(c, 1); /* the put: repeated, it finds no lease; nobody knows that the first one stored */
  loaded(op, "w");
  has_ended(op, &out, "w", "miss");
  assert_int_equal(out.stored, 0);
  assert_string_equal(out.code, "IO");
  assert_int_equal(stats_of(cache).lost, 0);
  redmoon_cache_result_fini(&out);
  get_as(cache, &db, "w", "redis", "hit");
  redmoon_cache_free(cache);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void an_operation_outlives_its_cache_and_can_be_cancelled(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  options.lease_ms = 50;
  redmoon_cache *cache = cache_with(f->client, &options), *other = cache_with(f->client, &options);
  redmoon_cache_result out;
  redmoon_error err;
  redmoon_op *op = start(cache, &out);
  redmoon_cache_free(cache);
  assert_int_equal(go(op), LOADS);
  assert_int_equal(redmoon_cache_op_loaded(op, 1, REDMOON_CACHE_VALUE, "v", 1, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_op_loaded(op, 0, 4, "v", 1, &err), REDMOON_ECONFIG);
  redmoon_op_cancel(op);
  assert_null(out.value);
  source db = {"v", NULL, 0, NULL};
  get(other, &db, "v"); /* the lease of the one that was cancelled ends by itself, and its flight has ended */
  assert_int_equal(db.loads, 1);
  redmoon_cache_free(other);
}

/* Threads of one client; the workers record, the main thread asserts. */
enum { WORKERS = 24 };
typedef struct crowd {
  redmoon_cache *cache;
  atomic_int asked, loads, failures;
} crowd;

static int load_when_all_have_asked(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  crowd *c = ctx;
  atomic_fetch_add(&c->loads, (int)count);
  struct timespec tick = {0, 1000000};
  for (int i = 0; i < 20000 && atomic_load(&c->asked) < WORKERS; i++) nanosleep(&tick, NULL);
  out[0] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, "v", 1, NULL};
  return 0;
}

static void *ask_for_it(void *ctx) {
  crowd *c = ctx;
  redmoon_cache_result result;
  atomic_fetch_add(&c->asked, 1);
  if (redmoon_cache_get(c->cache, &k, load_when_all_have_asked, c, &result, NULL) != 0 || result.len != 1) atomic_fetch_add(&c->failures, 1);
  redmoon_cache_result_fini(&result);
  return NULL;
}

static void threads_of_one_client_share_a_load(void **state) {
  fixture *f = *state;
  for (int round = 0; round < 10; round++) {
    crowd c = {.cache = cache_of(f->client, 0)};
    pthread_t threads[WORKERS];
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    for (int i = 0; i < WORKERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, ask_for_it, &c), 0);
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&c.failures), 0);
    assert_int_equal(atomic_load(&c.loads), 1);
    redmoon_cache_free(c.cache);
  }
}

/* Gets, loads that end late, and deletions in random order, over two clients: whoever begins after a deletion has returned
 * gets nothing that was loaded before it. */
enum { GETS = 4 };
static void no_schedule_brings_back_what_was_deleted(void **state) {
  fixture *f = *state;
  random_state = (uint64_t)number_of("SEED", 20261125);
  long schedules = number_of("SCHEDULES", 2000), loads = 0, waits = 0;
  print_message("SEED=%lld SCHEDULES=%ld\n", (long long)random_state, schedules);
  redmoon_client *elsewhere = another_client(f);
  redmoon_cache *caches[2] = {cache_of(f->client, STALE_MS), cache_of(elsewhere, STALE_MS)};
  int truth = 1, deleted = 0;
  for (long n = 0; n < schedules; n++) {
    struct {
      redmoon_op *op;
      redmoon_cache_result out;
      int at, least, read;
    } gets[GETS];
    for (int i = 0; i < GETS; i++) gets[i].op = NULL;
    for (int step = 0; step < 30; step++) {
      int i = (int)draw(GETS);
      if (draw(4) == 0) {
        deleted = ++truth;
        assert_int_equal(redmoon_cache_delete(caches[draw(2)], "k", 1, NULL), 0);
        continue;
      }
      if (draw(8) == 0) (void)ask_integer(f->client, "PEXPIRE", ENTRY, "500000", NULL); /* what is there is stale now */
      if (gets[i].op == NULL) {
        gets[i].op = start(caches[i % 2], &gets[i].out);
        gets[i].least = deleted;
        gets[i].at = SLEEPS;
      } else if (gets[i].at == LOADS) {
        char text[24];
        snprintf(text, sizeof text, "%d", gets[i].read);
        loaded(gets[i].op, text);
      }
      gets[i].at = go(gets[i].op);
      if (gets[i].at == LOADS) gets[i].read = truth;
      loads += gets[i].at == LOADS;
      waits += gets[i].at == SLEEPS;
      if (gets[i].at != ENDED) continue;
      assert_int_equal(redmoon_op_finish(gets[i].op, NULL), 0);
      char *value = gets[i].out.value;
      if (strtol(value, NULL, 10) < gets[i].least)
        fail_msg("schedule %ld: %s was read after %d had been deleted", n, value, gets[i].least - 1);
      redmoon_cache_result_fini(&gets[i].out);
      gets[i].op = NULL;
    }
    for (int i = 0; i < GETS; i++) redmoon_op_cancel(gets[i].op);
    redmoon_reply_free(ask(f->client, "DEL", ENTRY, LEASE, NULL));
  }
  assert_true(loads > schedules && waits > schedules);
  for (int i = 0; i < 2; i++) redmoon_cache_free(caches[i]);
  redmoon_client_close(elsewhere);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  struct {
    const char *text;
    redmoon_cache_options options;
  } cases[16];
  size_t n = 0;
#define CASE(message, field, value) (cases[n].options = options_of(), cases[n].options.field = value, cases[n++].text = message)
  CASE("cache option name is missing", name, NULL);
  CASE("cache option name: 'a b' is not accepted", name, "a b");
  CASE("cache option ttl is missing; give 1 to 31622400000 ms", ttl_ms, REDMOON_UNSET);
  CASE("cache option ttl: 0 ms is not accepted", ttl_ms, 0);
  CASE("cache option negative_ttl: -1 ms", negative_ttl_ms, -1);
  CASE("cache option stale_ttl: -1 ms", stale_ttl_ms, -1);
  CASE("cache option lease: 9 ms", lease_ms, 9);
  CASE("cache option retry_after: -1 ms", retry_after_ms, -1);
  CASE("cache option jitter: 500001 ppm", jitter_ppm, 500001);
  CASE("cache option early_refresh: -1 ppm", early_refresh_ppm, -1);
  CASE("cache option on_error: 'deny' is not accepted; give \"load\", \"stale\" or \"error\"", on_error, "deny");
  CASE("cache option fallback_loads: 0", fallback_loads, 0);
  CASE("cache option max_size: 0 bytes", max_size, 0);
  CASE("cache option format: 256", format, 256);
  CASE("cache option seal_key: 0 bytes are not accepted; give 32", seal_key, "short");
  for (size_t i = 0; i < n; i++) {
    redmoon_cache *cache = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_cache_new(f->client, &cases[i].options, &cache, &err), REDMOON_ECONFIG);
    assert_null(cache);
    if (strstr(err.message, cases[i].text) == NULL) fail_msg("'%s' is not in '%s'", cases[i].text, err.message);
  }
  redmoon_cache *cache = cache_of(f->client, 0);
  redmoon_cache_result out;
  redmoon_error err;
  const redmoon_cache_key empty = {"", 0, NULL, 0};
  assert_int_equal(redmoon_cache_get(cache, &empty, load, NULL, &out, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_get(cache, &k, NULL, NULL, &out, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_set(cache, "k", 1, "v", 1, -5, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_delete(cache, "", 0, &err), REDMOON_ECONFIG);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_cache_free(cache);
  redmoon_cache_free(NULL);
  redmoon_cache_result_fini(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
  const struct CMUnitTest tests[] = {
      TEST(a_value_is_loaded_once_and_then_read),
      TEST(that_there_is_no_value_is_known_too),
      TEST(what_is_stale_is_served_while_one_loads_it_again),
      TEST(who_finds_nothing_waits_for_the_one_that_loads),
      TEST(a_deletion_voids_the_load_that_goes_on),
      TEST(a_load_that_fails_is_told_to_all_who_wait_and_what_is_stale_is_served),
      TEST(after_a_failure_nobody_loads_for_a_while),
      TEST(a_get_under_way_stays_the_parents),
      TEST(an_early_load_is_one),
      TEST(what_cannot_be_decoded_is_a_counted_miss),
      TEST(a_version_that_the_caller_cannot_decode_is_rejected),
      TEST(many_share_their_round_trips),
      TEST(a_sealed_value_is_read_with_its_key_alone),
      TEST(what_is_too_large_is_not_stored),
      TEST(a_loader_that_asks_for_its_own_key_is_told),
      TEST(an_answer_that_was_lost_makes_no_second_load),
      TEST(an_operation_outlives_its_cache_and_can_be_cancelled),
      TEST(threads_of_one_client_share_a_load),
      TEST(no_schedule_brings_back_what_was_deleted),
      TEST(bad_options_are_refused_with_what_is_accepted),
  };
  return cmocka_run_group_tests_name("cache", tests, embedded_fixture_start, embedded_fixture_stop);
}
