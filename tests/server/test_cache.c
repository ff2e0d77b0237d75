/* SPDX-License-Identifier: MIT */
/* The cache through the public interface, on a server of the test's own: what is stored, and what is read of it.  What the
 * scripts decide is proved in tests/scripts, what an entry is in tests/unit/test_cache_entry.c.  BLOBS makes more, SEED repeats
 * a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/cache.h"

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
    uint64_t least = round == 0 ? 4 : 1;
    assert_in_range(after.hits + after.misses - before.hits - before.misses, least,
                    least * (uint64_t)embedded_server_nodes(f->server));
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
  len = ask_text(f->client, stored, sizeof stored, "GETDEL", ENTRY, NULL);
  const char *const argv[] = {"SET", "redmoon:{j}:c.cache", stored, "PX", "60000"};
  const size_t lens[] = {3, 19, (size_t)len, 2, 5};
  redmoon_reply *reply = NULL;
  assert_int_equal(redmoon_command(f->client, 5, argv, lens, &reply, NULL), 0);
  redmoon_reply_free(reply);
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
      TEST(what_cannot_be_decoded_is_a_counted_miss),
      TEST(a_version_that_the_caller_cannot_decode_is_rejected),
      TEST(many_share_their_round_trips),
      TEST(a_sealed_value_is_read_with_its_key_alone),
      TEST(what_is_too_large_is_not_stored),
      TEST(bad_options_are_refused_with_what_is_accepted),
  };
  return embedded_server_run("cache", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
