/* SPDX-License-Identifier: MIT */
/* A hit is one command while the entry is known to be fresh, and two when it is not.  What is known, and for how long, is
 * proved in tests/unit/test_cache_known.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/cache.h"

#include <stdio.h>

#define FOR_EVER (INT64_C(1) << 60)

static void forget_calls(const fixture *f) { redmoon_reply_free(ask(f->client, "CONFIG", "RESETSTAT", NULL)); }

static int calls(const fixture *f, const char *command) {
  char name[40], *text = malloc(100000);
  snprintf(name, sizeof name, "cmdstat_%s:calls=", command);
  int64_t len = ask_text(f->client, text, 100000, "INFO", "commandstats", NULL);
  text[len < 99999 ? len : 99999] = '\0';
  const char *at = strstr(text, name);
  int count = at != NULL ? atoi(at + strlen(name)) : 0;
  free(text);
  return count;
}

/* So many GET and PTTL since forget_calls. */
static void assert_calls(const fixture *f, int gets, int ttls) {
  assert_int_equal(calls(f, "get"), gets);
  assert_int_equal(calls(f, "pttl"), ttls);
}

static redmoon_cache *knowing(const fixture *f, int64_t stale_ttl_ms, int64_t known_for_us) {
  redmoon_cache *cache = cache_of(f->client, stale_ttl_ms);
  cache->known_for_us = known_for_us;
  return cache;
}

static void store(redmoon_cache *cache, const char *value) {
  redmoon_error err;
  if (redmoon_cache_set(cache, "k", 1, value, strlen(value), REDMOON_UNSET, &err) != 0) fail_msg("%s", err.message);
}

static void the_ttl_is_asked_for_once_in_a_while(void **state) {
  fixture *f = *state;
  for (int i = 0; i < 2; i++) {
    redmoon_cache *cache = knowing(f, i == 0 ? 0 : STALE_MS, FOR_EVER);
    source db = {"v", NULL, 0, NULL};
    store(cache, "v");
    forget_calls(f);
    for (int n = 0; n < 20; n++) {
      redmoon_cache_result result = get(cache, &db, "v");
      assert_string_equal(result.state, "hit");
      assert_in_range(result.age_ms, 0, 60000);
    }
    assert_calls(f, 20, 1);
    cache->known_for_us = 0;
    for (int n = 0; n < 5; n++) get_as(cache, &db, "v", "redis", "hit");
    assert_calls(f, 25, 6);
    assert_int_equal(stats_of(cache).hits, 25);
    assert_int_equal(db.loads, 0);
    redmoon_cache_free(cache);
  }
}

/* The age goes on where it was told. */
static void the_age_is_what_the_server_told_and_what_has_passed_since(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = knowing(f, STALE_MS, FOR_EVER);
  source db = {"v", NULL, 0, NULL};
  store(cache, "v");
  age(f, "900000");
  int64_t before = 0;
  for (int i = 0; i < 5; i++) {
    redmoon_cache_result result = get(cache, &db, "v");
    assert_string_equal(result.state, "hit");
    assert_in_range(result.age_ms, i == 0 ? 300000 : before, 360000);
    before = result.age_ms;
  }
  redmoon_cache_free(cache);
}

static void what_takes_the_place_of_a_known_entry_is_looked_at_anew(void **state) {
  fixture *f = *state;
  redmoon_client *client = another_client(f);
  redmoon_cache *cache = knowing(f, STALE_MS, FOR_EVER), *other = cache_of(client, STALE_MS);
  source db = {"loaded", NULL, 0, NULL};
  store(cache, "old");
  get_as(cache, &db, "old", "redis", "hit");
  store(other, "new");
  forget_calls(f);
  get_as(cache, &db, "new", "redis", "hit");
  assert_calls(f, 2, 1); /* once more, with the TTL */
  get_as(cache, &db, "new", "redis", "hit");
  assert_calls(f, 3, 1);
  store(other, "stale");
  age(f, "1000");
  db.error = "no";
  get_as(cache, &db, "stale", "redis", "stale"); /* it was offered for a load */
  assert_int_equal(db.loads, 1);
  db.error = NULL;
  store(other, "gone");
  get_as(cache, &db, "gone", "redis", "hit");
  assert_int_equal(redmoon_cache_delete(other, "k", 1, NULL), 0);
  get_as(cache, &db, "loaded", "loader", "miss");
  redmoon_reply_free(ask(f->client, "SET", ENTRY, "garbage", "PX", "60000", NULL));
  get_as(cache, &db, "loaded", "loader", "miss");
  assert_int_equal(stats_of(cache).undecodable, 1);
  /* One that the cache stores itself costs nothing more. */
  get_as(cache, &db, "loaded", "redis", "hit");
  store(cache, "own");
  forget_calls(f);
  get_as(cache, &db, "own", "redis", "hit");
  assert_calls(f, 1, 1);
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(client);
}

/* An answer may take so long that nothing is known any more. */
static void an_answer_that_comes_too_late_is_asked_for_again(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = knowing(f, STALE_MS, FOR_EVER);
  source db = {"v", NULL, 0, NULL};
  store(cache, "v");
  get_as(cache, &db, "v", "redis", "hit");
  age(f, "1000"); /* as if it had taken until now */
  redmoon_cache_result out;
  redmoon_error err;
  redmoon_op *op = start(cache, &out);
  assert_int_equal(redmoon_op_step(op), 0);
  assert_false(rm_get_of(op)->items[0].timed);
  rm_get_of(op)->items[0].known.until_us = rm_get_of(op)->items[0].asked_us;
  assert_int_equal(go(op), LOADS);
  assert_int_equal(redmoon_cache_op_loaded(op, 0, REDMOON_CACHE_FAILED, "no", 2, &err), 0);
  assert_int_equal(go(op), ENDED);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_string_equal(out.state, "stale");
  redmoon_cache_result_fini(&out);
  redmoon_cache_free(cache);
}

/* Where a draw may say that it is to be loaded early, the server is asked how much is left. */
static void what_may_be_loaded_early_is_never_known(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = knowing(f, 0, FOR_EVER);
  source db = {"v", NULL, 0, NULL};
  static const struct {
    int64_t delta_ms;
    int ttls;
  } cases[] = {{TTL_MS / 23, 1}, {TTL_MS / 20, 6}}; /* of 2^32 draws none says so, or nine do */
  for (size_t i = 0; i < 2; i++) {
    rm_entry entry = {false, 0, TTL_MS, TTL_MS, cases[i].delta_ms, "v", 1, NULL, 0, false};
    unsigned char bytes[RM_ENTRY_HEADER + 1];
    rm_entry_write(&entry, (redmoon_bytes){ENTRY, strlen(ENTRY)}, &(rm_secret){NULL, 0}, bytes);
    const char *const argv[] = {"SET", ENTRY, (const char *)bytes, "PX", "600000"};
    redmoon_reply *reply;
    assert_int_equal(redmoon_command(f->client, 5, argv, (const size_t[]){3, strlen(ENTRY), sizeof bytes, 2, 6}, &reply, NULL), 0);
    redmoon_reply_free(reply);
    rm_cache_forget_known(cache, (redmoon_bytes){ENTRY, strlen(ENTRY)});
    forget_calls(f);
    for (int n = 0; n < 6; n++) get_as(cache, &db, "v", "redis", "hit");
    assert_calls(f, 6, cases[i].ttls);
  }
  assert_int_equal(db.loads, 0);
  redmoon_cache_free(cache);
}

/* Of many some are known, some have tags that are guessed, some have gone: each takes its own answers. */
static void many_take_their_answers_known_or_not(void **state) {
  fixture *f = *state;
  redmoon_cache_options options = options_of();
  options.tags = 1;
  redmoon_cache *cache = cache_with(f->client, &options);
  cache->known_for_us = FOR_EVER;
  enum { KEYS = 6 };
  static const char *const names[KEYS] = {"a", "b", "c", "d", "e", "f"};
  redmoon_cache_key keys[KEYS];
  redmoon_cache_result out[KEYS];
  redmoon_error err;
  const redmoon_bytes tag = {"t", 1};
  source db = {"loaded", NULL, 0, NULL};
  for (int i = 0; i < KEYS; i++) {
    keys[i] = (redmoon_cache_key){names[i], 1, NULL, 0};
    assert_int_equal(redmoon_cache_set_tagged(cache, names[i], 1, names[i], 1, REDMOON_UNSET, &tag, i % 2 == 0, &err), 0);
  }
  for (int round = 0; round < 3; round++) {
    if (round == 1) assert_int_equal(redmoon_cache_set(cache, "b", 1, "b", 1, REDMOON_UNSET, &err), 0);
    if (round == 2) assert_int_equal(redmoon_cache_delete(cache, "c", 1, &err), 0);
    forget_calls(f);
    assert_int_equal(redmoon_cache_get_many(cache, keys, KEYS, load, &db, out, NULL, &err), 0);
    for (int i = 0; i < KEYS; i++) {
      const char *want = round == 2 && i == 2 ? "loaded" : names[i];
      assert_int_equal(out[i].len, strlen(want));
      assert_memory_equal(out[i].value, want, out[i].len);
      redmoon_cache_result_fini(&out[i]);
    }
    /* The two scripts of the load that round 2 makes look at the entry and the lease with GET, too. */
    int ttls[] = {KEYS, 1, 0};
    if (round < 2) assert_calls(f, KEYS, ttls[round]);
    else assert_int_equal(calls(f, "pttl"), 0);
  }
  assert_int_equal(db.loads, 1);
  redmoon_cache_free(cache);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
  const struct CMUnitTest tests[] = {
      TEST(the_ttl_is_asked_for_once_in_a_while),
      TEST(the_age_is_what_the_server_told_and_what_has_passed_since),
      TEST(what_takes_the_place_of_a_known_entry_is_looked_at_anew),
      TEST(an_answer_that_comes_too_late_is_asked_for_again),
      TEST(what_may_be_loaded_early_is_never_known),
      TEST(many_take_their_answers_known_or_not),
  };
  return embedded_server_run("cache_known", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
