/* SPDX-License-Identifier: MIT */
/* The cache: who loads, who waits, and what becomes of loads that are late, fail, or are given up. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/cache.h"
#include "support/cutter.h"

#include <sys/wait.h>
#include <unistd.h>

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

/* Whatever is in it that the keys in Redis have to escape. */
static int load_its_key(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)ctx;
  for (size_t i = 0; i < count; i++) out[i] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, keys[i].ptr, keys[i].len, NULL, NULL, 0};
  return 0;
}

static void a_loader_gets_the_key_as_it_was_given(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  static const char *const keys[] = {"k", "{", "}", "%", "{}", "a{b}c", "{a}", "a}b", "a%7Bb", "~", "~a", "a:b}:c", "}:c.cache+lease", "}}"};
  enum { KEYS = sizeof keys / sizeof keys[0] };
  redmoon_cache_key all[KEYS + 1];
  redmoon_cache_result out[KEYS + 1];
  redmoon_error err;
  for (size_t i = 0; i < KEYS; i++) all[i] = (redmoon_cache_key){keys[i], strlen(keys[i]), NULL, 0};
  all[KEYS] = (redmoon_cache_key){"\0\0}", 3, NULL, 0};
  for (int round = 0; round < 2; round++) {
    assert_int_equal(redmoon_cache_get_many(cache, all, KEYS + 1, load_its_key, NULL, out, NULL, &err), 0);
    for (size_t i = 0; i <= KEYS; i++) {
      assert_string_equal(out[i].source, round == 0 ? "loader" : "redis");
      assert_int_equal(out[i].len, all[i].len);
      assert_memory_equal(out[i].value, all[i].ptr, all[i].len);
      redmoon_cache_result_fini(&out[i]);
    }
  }
  redmoon_cache_free(cache);
}

static void after_a_failure_nobody_loads_for_a_while(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = STALE_MS;
  options.retry_after_ms = 600000;
  redmoon_cache *cache = cache_with(f->client, &options);
  cache->known_for_us = 0; /* that time passes by PEXPIRE is seen by who asks */
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
  rm_entry entry = {false, 0, TTL_MS, TTL_MS + STALE_MS, INT64_C(0xFFFFFFFF), "v", 1, NULL, 0, false};
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

static void a_loader_that_asks_for_its_own_key_is_told(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = cache_of(f->client, 0);
  source db = {"v", NULL, 0, cache};
  get(cache, &db, "v");
  redmoon_cache_free(cache);
}

static void an_answer_that_was_lost_makes_no_second_load(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
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

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
#define ALONE(name) cmocka_unit_test_setup_teardown(name, embedded_fixture_empty, embedded_server_alone)
  const struct CMUnitTest tests[] = {
      TEST(what_is_stale_is_served_while_one_loads_it_again),
      TEST(who_finds_nothing_waits_for_the_one_that_loads),
      TEST(a_deletion_voids_the_load_that_goes_on),
      TEST(a_load_that_fails_is_told_to_all_who_wait_and_what_is_stale_is_served),
      TEST(a_loader_gets_the_key_as_it_was_given),
      TEST(after_a_failure_nobody_loads_for_a_while),
      TEST(a_get_under_way_stays_the_parents),
      TEST(an_early_load_is_one),
      TEST(a_loader_that_asks_for_its_own_key_is_told),
      ALONE(an_answer_that_was_lost_makes_no_second_load),
      TEST(an_operation_outlives_its_cache_and_can_be_cancelled),
  };
  return embedded_server_run("cache loads", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
