/* SPDX-License-Identifier: MIT */
/* Tags and compression through the public interface.  What the scripts decide is proved in tests/scripts/cache_tags_spec.lua;
 * here whole operations of two clients take their steps in random order.  SCHEDULES makes more, SEED repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/cache.h"

#include <sodium.h>

static const redmoon_bytes a = {"a", 1}, b = {"b", 1}, both[] = {{"a", 1}, {"b", 1}};

static redmoon_cache *tagged_cache(redmoon_client *client, int64_t stale_ttl_ms) {
  redmoon_cache_options options = options_of();
  options.stale_ttl_ms = stale_ttl_ms;
  options.tags = 1;
  return cache_with(client, &options);
}

static void set(redmoon_cache *cache, const char *value, const redmoon_bytes *tags, size_t count) {
  redmoon_error err;
  if (redmoon_cache_set_tagged(cache, "k", 1, value, value == NULL ? 0 : strlen(value), REDMOON_UNSET, tags, count, &err) != 0)
    fail_msg("%s", err.message);
}

static void invalidate(redmoon_cache *cache, const redmoon_bytes *tags, size_t count) {
  redmoon_error err;
  if (redmoon_cache_invalidate_tags(cache, tags, count, &err) != 0) fail_msg("%s", err.message);
}

static bool is_there(redmoon_cache *cache) {
  redmoon_cache_result result;
  redmoon_error err;
  if (redmoon_cache_peek(cache, "k", 1, &result, &err) != 0) fail_msg("%s", err.message);
  bool there = strcmp(result.state, "miss") != 0;
  redmoon_cache_result_fini(&result);
  return there;
}

static uint64_t trips(const fixture *f) {
  redmoon_stats stats;
  redmoon_client_stats(f->client, &stats);
  return stats.hits;
}

static int load_tagged(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  int status = load(ctx, keys, count, out);
  for (size_t i = 0; i < count; i++) out[i].tags = both, out[i].tag_count = 2;
  return status;
}

static void a_tag_ends_all_that_has_it(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, STALE_MS), *plain = cache_of(f->client, STALE_MS);
  for (int i = 0; i < 2; i++) { /* a value, and that there is none */
    set(cache, i == 0 ? "v" : NULL, both, 2);
    assert_true(is_there(cache) && is_there(plain)); /* who has not the option looks at the tags, too */
    invalidate(cache, &a, 1);
    assert_false(is_there(plain));
    assert_int_equal(ask_integer(f->client, "EXISTS", ENTRY, NULL), 0);
    set(cache, "v", &a, 1);
    invalidate(cache, &b, 1);
    assert_true(is_there(cache));
  }
  set(cache, "v", both, 2);
  age(f, "1000"); /* what is stale has ended no less */
  assert_true(is_there(cache));
  invalidate(cache, both, 2);
  source db = {"new", "no", 0, NULL};
  redmoon_cache_result out;
  redmoon_error err;
  assert_int_equal(redmoon_cache_get(cache, &k, load_tagged, &db, &out, &err), REDMOON_EUNAVAILABLE);
  db.error = NULL;
  assert_int_equal(redmoon_cache_get(cache, &k, load_tagged, &db, &out, &err), 0);
  assert_memory_equal(out.value, "new", 3);
  assert_int_equal(out.stored, 1);
  redmoon_cache_result_fini(&out);
  assert_int_equal(stats_of(cache).invalidated, 1);
  assert_int_equal(stats_of(plain).invalidated, 2);
  assert_int_equal(stats_of(cache).undecodable, 0);
  /* Another cache's tags are others. */
  redmoon_cache_options options = options_of();
  options.name = "d";
  options.tags = 1;
  redmoon_cache *other = cache_with(f->client, &options);
  invalidate(other, both, 2);
  assert_true(is_there(cache));
  redmoon_cache_free(other);
  redmoon_cache_free(cache);
  redmoon_cache_free(plain);
}

/* Without tags a hit costs what it did; with tags one more round trip, whatever the number of tags and of keys, and none
 * for a key that was seen with them. */
static void tags_cost_one_round_trip_more_or_none(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, 0);
  source db = {"v", NULL, 0, NULL};
  redmoon_cache_result out[4];
  redmoon_error err;
  set(cache, "v", NULL, 0);
  uint64_t before = trips(f);
  get_as(cache, &db, "v", "redis", "hit");
  assert_int_equal(trips(f) - before, 1);
  set(cache, "v", both, 2);
  for (int i = 0; i < 2; i++) {
    before = trips(f);
    get_as(cache, &db, "v", "redis", "hit");
    assert_int_equal(trips(f) - before, i == 0 ? 2 : 1);
  }
  const redmoon_cache_key keys[] = {k, {"l", 1, NULL, 0}, {"m", 1, NULL, 0}, {"n", 1, NULL, 0}};
  for (int i = 0; i < 2; i++) {
    before = trips(f);
    assert_int_equal(redmoon_cache_get_many(cache, keys, 4, load_tagged, &db, out, NULL, &err), 0);
    for (int j = 0; j < 4; j++) {
      assert_string_equal(out[j].state, i == 0 && j > 0 ? "miss" : "hit");
      redmoon_cache_result_fini(&out[j]);
    }
    /* To read; at first also to lease, for the versions, to put. */
    assert_int_equal(trips(f) - before, i == 0 ? 4 : 1);
  }
  invalidate(cache, &b, 1);
  before = trips(f);
  assert_int_equal(redmoon_cache_get_many(cache, keys, 4, load_tagged, &db, out, NULL, &err), 0);
  for (int j = 0; j < 4; j++) {
    assert_string_equal(out[j].state, "miss");
    assert_int_equal(out[j].stored, 1);
    redmoon_cache_result_fini(&out[j]);
  }
  assert_int_equal(trips(f) - before, 4);
  assert_int_equal(stats_of(cache).invalidated, 4);
  redmoon_cache_free(cache);
}

/* Which tags a key has may change at any time, by anybody: what is guessed of it is never more than a guess. */
static void a_wrong_guess_is_no_more_than_a_round_trip(void **state) {
  fixture *f = *state;
  redmoon_bytes many[RM_GUESS_TAGS + 1];
  for (size_t i = 0; i <= RM_GUESS_TAGS; i++) many[i] = (redmoon_bytes){&"abcdefgh"[i], 1};
  const struct {
    const redmoon_bytes *tags;
    size_t count;
    unsigned trips; /* of a second read */
  } cases[] = {{both, 2, 1}, {&a, 1, 1}, {&b, 1, 1}, {&a, 1, 1}, {NULL, 0, 1}, {&b, 1, 1}, {many, RM_GUESS_TAGS, 1},
               {many, RM_GUESS_TAGS + 1, 2}, {both, 2, 1}};
  redmoon_client *second = another_client(f);
  redmoon_cache *cache = tagged_cache(f->client, 0), *other = tagged_cache(second, 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    set(other, "v", cases[i].tags, cases[i].count);
    assert_true(is_there(cache));
    uint64_t before = trips(f);
    assert_true(is_there(cache));
    assert_int_equal(trips(f) - before, cases[i].trips);
    if (i % 2 == 0 || cases[i].count == 0) continue; /* as well as not, so that a guess is wrong in each way */
    invalidate(other, &cases[i].tags[cases[i].count - 1], 1);
    assert_false(is_there(cache));
  }
  invalidate(other, &b, 1); /* the last of the first two */
  assert_false(is_there(cache));
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(second);
}

/* Its own part of tests/server/cache.h's loaded(), with tags. */
static void loaded_with(redmoon_op *op, const char *value, const redmoon_bytes *tags, size_t count) {
  redmoon_error err;
  if (redmoon_cache_op_tags(op, 0, tags, count, &err) != 0) fail_msg("%s", err.message);
  loaded(op, value);
}

static void a_load_that_a_tag_has_ended_stores_nothing(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, 0);
  redmoon_cache_result out;
  redmoon_op *op = start(cache, &out);
  assert_int_equal(go(op), LOADS);
  invalidate(cache, &b, 1);
  loaded_with(op, "old", both, 2);
  has_ended(op, &out, "old", "miss");
  assert_string_equal(out.code, "LOST");
  assert_int_equal(out.stored, 0);
  redmoon_cache_result_fini(&out);
  assert_int_equal(ask_integer(f->client, "EXISTS", ENTRY, LEASE, NULL), 0); /* the next one may load at once */
  assert_int_equal(stats_of(cache).lost, 1);
  op = start(cache, &out);
  assert_int_equal(go(op), LOADS);
  invalidate(cache, &b, 1);
  loaded_with(op, "new", &a, 1); /* it has not that tag */
  has_ended(op, &out, "new", "miss");
  assert_int_equal(out.stored, 1);
  redmoon_cache_result_fini(&out);
  /* Between the versions and the put: what is stored is none. */
  redmoon_reply_free(ask(f->client, "UNLINK", ENTRY, NULL));
  op = start(cache, &out);
  assert_int_equal(go(op), LOADS);
  loaded_with(op, "old", &a, 1);
  while (rm_get_of(op)->stage != GET_PUT && !redmoon_op_step(op)) poll_once(op);
  assert_int_equal(rm_get_of(op)->stage, GET_PUT);
  redmoon_client *second = another_client(f);
  redmoon_cache *other = tagged_cache(second, 0);
  invalidate(other, &a, 1);
  has_ended(op, &out, "old", "miss");
  redmoon_cache_result_fini(&out);
  assert_false(is_there(cache));
  redmoon_cache_free(other);
  redmoon_client_close(second);
  redmoon_cache_free(cache);
}

/* Between its read, which finds nothing, and its request for the lease a value is stored, and its tag is ended: the request
 * brings that value along. */
static void what_comes_with_the_lease_is_looked_at_too(void **state) {
  fixture *f = *state;
  redmoon_client *second = another_client(f);
  redmoon_cache *cache = tagged_cache(f->client, STALE_MS), *other = tagged_cache(second, STALE_MS);
  for (int stale = 0; stale < 2; stale++) {
    redmoon_reply_free(ask(f->client, "UNLINK", ENTRY, LEASE, NULL));
    redmoon_cache_result out;
    redmoon_op *op = start(cache, &out);
    do assert_false(redmoon_op_step(op));
    while (!poll_once(op) || rm_get_of(op)->call.answered > 0);
    assert_int_equal(rm_get_of(op)->stage, GET_READ); /* the answers have come, and were not read */
    set(other, "old", both, 2);
    if (stale) age(f, "1000");
    invalidate(other, &b, 1);
    assert_int_equal(go(op), LOADS);
    loaded_with(op, "new", both, 2);
    has_ended(op, &out, "new", "miss");
    assert_int_equal(out.stored, 1);
    redmoon_cache_result_fini(&out);
    assert_int_equal(stats_of(cache).invalidated, stale + 1);
    assert_true(is_there(other));
  }
  redmoon_cache_free(cache);
  redmoon_cache_free(other);
  redmoon_client_close(second);
}

static void nothing_that_is_lost_makes_a_value_hold(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, 0);
  char tag_key[80] = "redmoon:{c}:c.cache+tag.", stored[200];
  unsigned char id[RM_TAG_ID];
  crypto_generichash(id, sizeof id, a.ptr, a.len, NULL, 0);
  for (size_t i = 0; i < sizeof id; i++) snprintf(tag_key + strlen(tag_key), 3, "%02x", id[i]);
  set(cache, "old", &a, 1);
  assert_int_equal(ask_integer(f->client, "EXISTS", tag_key, NULL), 1);
  int64_t len = ask_text(f->client, stored, sizeof stored, "GET", ENTRY, NULL);
  for (int lost = 0; lost < 4; lost++) {
    if (lost == 1) invalidate(cache, &a, 1);
    if (lost & 1) redmoon_reply_free(ask(f->client, "DEL", tag_key, NULL));
    if (lost & 2) redmoon_reply_free(ask(f->client, "DEL", "redmoon:{c}:c.cache+epoch", NULL));
    set(cache, "another", &a, 1); /* its tag is made anew, if it was lost */
    redmoon_reply *reply;
    const char *const argv[] = {"SET", ENTRY, stored, "PX", "500000"};
    assert_int_equal(redmoon_command(f->client, 5, argv, (const size_t[]){3, strlen(ENTRY), (size_t)len, 2, 6}, &reply, NULL), 0);
    redmoon_reply_free(reply);
    assert_int_equal(is_there(cache), lost == 0);
  }
  for (const char *bad[] = {"", "x", "17600000000000000", "-1", NULL}, **text = bad; *text != NULL; text++) {
    set(cache, "v", &a, 1);
    redmoon_reply_free(ask(f->client, "SET", tag_key, *text, "PX", "500000", NULL));
    assert_false(is_there(cache));
  }
  redmoon_cache_free(cache);
}

/* Operations of two clients in random order.  The truth rises with each change; a change is written to `floor` when its
 * deletion or invalidation has ended: a get that begins then may not yield less. */
typedef enum act { GETS, DELETES, INVALIDATES, ACTS } act;
typedef struct actor {
  act what;
  redmoon_op *op;
  redmoon_cache_result out;
  redmoon_cache *cache;
  int truth, floor; /* loaded or deleted; what it may not be below */
  bool loading;
} actor;
enum { ACTORS = 6 };

static void begin_act(actor *one, redmoon_cache *cache, int *truth, int floor) {
  redmoon_error err;
  int status;
  *one = (actor){.what = (act)draw(ACTS), .cache = cache, .floor = floor};
  if (draw(3) == 0) one->what = GETS;
  if (one->what != GETS) one->truth = ++*truth;
  if (one->what == GETS) status = redmoon_cache_get_start(cache, &k, &one->out, &one->op, &err);
  else if (one->what == DELETES) status = redmoon_cache_delete_start(cache, "k", 1, &one->op, &err);
  else status = redmoon_cache_invalidate_tags_start(cache, both, 1 + draw(2), &one->op, &err);
  if (status != 0) fail_msg("%s", err.message);
}

/* A step.  True: it has ended. */
static bool act_on(actor *one, int truth) {
  size_t none;
  if (one->loading && draw(6) == 0) { /* what it loaded was true when it began to load */
    char text[12];
    snprintf(text, sizeof text, "%08d", one->truth);
    loaded_with(one->op, text, both, 1 + draw(2));
    one->loading = false;
  }
  if (redmoon_op_step(one->op)) return true;
  if (!one->loading && redmoon_cache_op_loads(one->op, &none, 0) > 0) {
    one->loading = true;
    one->truth = truth;
  }
  return false;
}

static void end_act(actor *one, int *floor, long *hits) {
  redmoon_error err;
  if (redmoon_op_finish(one->op, &err) != 0) fail_msg("%s", err.message);
  one->op = NULL;
  if (one->what != GETS && one->truth > *floor) *floor = one->truth;
  if (one->what != GETS) return;
  char text[12] = "";
  assert_int_equal(one->out.len, 8);
  memcpy(text, one->out.value, 8);
  int got = atoi(text);
  if (one->out.source[0] == 'r' && got < one->floor) fail_msg("got %d, though %d was deleted: %s", got, one->floor, one->out.state);
  *hits += one->out.source[0] == 'r';
  redmoon_cache_result_fini(&one->out);
}

static void after_an_invalidation_nothing_older_is_read(void **state) {
  fixture *f = *state;
  random_state = (uint64_t)number_of("SEED", 20261126);
  long schedules = number_of("SCHEDULES", 40), hits = 0;
  print_message("SEED=%lld SCHEDULES=%ld\n", (long long)random_state, schedules);
  redmoon_client *second = another_client(f);
  redmoon_cache *caches[2] = {tagged_cache(f->client, 0), tagged_cache(second, 0)};
  int truth = 1, floor = 0;
  for (long n = 0; n < schedules; n++) {
    actor actors[ACTORS] = {{0}};
    int begun = 0, live = 0;
    redmoon_reply_free(ask(f->client, "UNLINK", ENTRY, LEASE, NULL));
    while (begun < ACTORS || live > 0) {
      int i = (int)draw(ACTORS);
      actor *one = &actors[i];
      if (one->op == NULL && one->cache == NULL && (live == 0 || draw(10) == 0)) {
        begin_act(one, caches[draw(2)], &truth, floor);
        begun++;
        live++;
      } else if (one->op != NULL && act_on(one, truth)) {
        end_act(one, &floor, &hits);
        live--;
      } else if (one->op != NULL) {
        redmoon_wants wants;
        redmoon_op_wants(one->op, &wants);
        if (live == 1 || draw(4) == 0) (void)poll(NULL, 0, wants.fd >= 0 ? 0 : 1);
      }
    }
  }
  assert_true(hits > schedules / 10);
  redmoon_cache_free(caches[0]);
  redmoon_cache_free(caches[1]);
  redmoon_client_close(second);
}

static void bad_tags_are_refused(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, 0), *plain = cache_of(f->client, 0);
  redmoon_error err;
  char text[256];
  memset(text, 'x', sizeof text);
  redmoon_bytes many[33];
  for (size_t i = 0; i < 33; i++) many[i] = a;
  const redmoon_bytes empty = {"", 0}, none = {NULL, 3}, large = {text, 256}, largest = {text, 255};
  const struct {
    const redmoon_bytes *tags;
    size_t count;
    const char *says;
  } cases[] = {{&empty, 1, "a tag of 0 bytes"}, {&none, 1, "a tag of 0 bytes"}, {&large, 1, "a tag of 256 bytes is not accepted; it takes 1 to 255"},
               {many, 33, "33 tags are not accepted; give up to 32"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(redmoon_cache_invalidate_tags(cache, cases[i].tags, cases[i].count, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, cases[i].says));
    assert_int_equal(redmoon_cache_set_tagged(cache, "k", 1, "v", 1, REDMOON_UNSET, cases[i].tags, cases[i].count, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, cases[i].says));
  }
  assert_int_equal(redmoon_cache_invalidate_tags(cache, NULL, 0, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_invalidate_tags(plain, &a, 1, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "make it with the option tags"));
  source db = {"v", NULL, 0, NULL};
  redmoon_cache_result out;
  assert_int_equal(redmoon_cache_get(plain, &k, load_tagged, &db, &out, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "make it with the option tags"));
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_op *op = start(cache, &out);
  assert_int_equal(redmoon_cache_op_tags(op, 0, &a, 1, &err), REDMOON_ECONFIG); /* it is not to be loaded yet */
  assert_int_equal(go(op), LOADS);
  assert_int_equal(redmoon_cache_op_tags(op, 1, &a, 1, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_op_tags(op, 0, many, 33, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_cache_op_tags(op, 0, many, 32, &err), 0);
  loaded_with(op, "v", &largest, 1); /* the last ones count */
  has_ended(op, &out, "v", "miss");
  redmoon_cache_result_fini(&out);
  set(cache, "v", many, 32);
  assert_true(is_there(cache));
  redmoon_cache_free(cache);
  redmoon_cache_free(plain);
}

/* A server that refuses what the tags need: nothing is served that may have ended, and nothing is stored. */
static void without_their_versions_nothing_is_served_or_stored(void **state) {
  fixture *f = *state;
  redmoon_cache *cache = tagged_cache(f->client, 0);
  source db = {"loaded", NULL, 0, NULL};
  set(cache, "stored", &a, 1);
  redmoon_reply_free(ask(f->client, "ACL", "SETUSER", "default", "-mget", NULL));
  redmoon_cache_result out;
  redmoon_error err;
  assert_int_equal(redmoon_cache_get(cache, &k, load_tagged, &db, &out, &err), 0);
  assert_string_equal(out.source, "fallback");
  assert_string_equal(out.code, "NOPERM");
  assert_memory_equal(out.value, "loaded", 6);
  redmoon_cache_result_fini(&out);
  assert_int_equal(redmoon_cache_peek(cache, "k", 1, &out, &err), REDMOON_ESERVER);
  assert_null(out.value);
  redmoon_reply_free(ask(f->client, "UNLINK", ENTRY, NULL));
  assert_int_equal(redmoon_cache_get(cache, &k, load_tagged, &db, &out, &err), 0); /* the script asks for the versions in vain */
  assert_memory_equal(out.value, "loaded", 6);
  assert_int_equal(out.stored, 0);
  assert_string_equal(out.source, "loader");
  redmoon_cache_result_fini(&out);
  assert_int_equal(stats_of(cache).unstored, 1);
  assert_int_equal(redmoon_cache_set_tagged(cache, "k", 1, "v", 1, REDMOON_UNSET, &a, 1, &err), REDMOON_ESERVER);
  redmoon_reply_free(ask(f->client, "ACL", "SETUSER", "default", "+@all", NULL));
  assert_int_equal(ask_integer(f->client, "EXISTS", ENTRY, NULL), 0);
  redmoon_cache_free(cache);
}

static void large_values_are_compressed_and_tagged_and_sealed(void **state) {
  fixture *f = *state;
  char large[5001];
  for (size_t i = 0; i < sizeof large - 1; i++) large[i] = "words and "[i % 10];
  large[sizeof large - 1] = '\0';
  for (int i = 0; i < 8; i++) {
    redmoon_cache_options options = options_of();
    options.compress = 100;
    options.tags = 1;
    options.seal_key = (i & 1) != 0 ? "0123456789abcdef0123456789abcdef" : NULL;
    options.seal_key_len = 32;
    redmoon_cache *cache = cache_with(f->client, &options);
    source db = {(i & 4) != 0 ? large : "small", NULL, 0, NULL};
    set(cache, db.value, both, (i & 2) != 0 ? 2 : 0);
    int64_t stored = ask_integer(f->client, "STRLEN", ENTRY, NULL);
    int64_t rest = 40 + (i & 1) * 40 + ((i & 2) != 0 ? 49 : 0);
    if ((i & 4) != 0) assert_in_range(stored, rest + 10, rest + 100);
    else assert_int_equal(stored, rest + 5);
    get_as(cache, &db, db.value, "redis", "hit");
    assert_int_equal(stats_of(cache).undecodable, 0);
    redmoon_reply_free(ask(f->client, "UNLINK", ENTRY, NULL));
    redmoon_cache_free(cache);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
  const struct CMUnitTest tests[] = {
      TEST(a_tag_ends_all_that_has_it),
      TEST(tags_cost_one_round_trip_more_or_none),
      TEST(a_wrong_guess_is_no_more_than_a_round_trip),
      TEST(a_load_that_a_tag_has_ended_stores_nothing),
      TEST(what_comes_with_the_lease_is_looked_at_too),
      TEST(nothing_that_is_lost_makes_a_value_hold),
      TEST(after_an_invalidation_nothing_older_is_read),
      TEST(bad_tags_are_refused),
      TEST(without_their_versions_nothing_is_served_or_stored),
      TEST(large_values_are_compressed_and_tagged_and_sealed),
  };
  return cmocka_run_group_tests_name("cache tags", tests, embedded_fixture_start, embedded_fixture_stop);
}
