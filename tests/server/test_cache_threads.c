/* SPDX-License-Identifier: MIT */
/* The cache under many at once: threads of one client, and gets, loads and deletions in random order.  SCHEDULES makes more,
 * SEED repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

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
  out[0] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, "v", 1, NULL, NULL, 0};
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
  long schedules = number_of("SCHEDULES", 1000), loads = 0, waits = 0;
  print_message("SEED=%lld SCHEDULES=%ld\n", (long long)random_state, schedules);
  redmoon_client *elsewhere = another_client(f);
  redmoon_cache *caches[2] = {cache_of(f->client, STALE_MS), cache_of(elsewhere, STALE_MS)};
  caches[0]->known_for_us = 0; /* it sees at once that time passes by PEXPIRE; the other one within a second */
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

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
  const struct CMUnitTest tests[] = {
      TEST(threads_of_one_client_share_a_load),
      TEST(no_schedule_brings_back_what_was_deleted),
  };
  return embedded_server_run("cache threads", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
