/* SPDX-License-Identifier: MIT */
/* Eight threads on a pool of three, with real waits on the event descriptors: random cancels, discards, failed
 * dials, purges and upkeep beside them, then a shutdown in the middle of it.  To be run under ThreadSanitizer too:
 * connections are touched without locks, so two users at a time are a data race.
 *
 * SEED=n repeats the choices (not the schedule), ROUNDS=n sets how many borrows each thread begins. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "unit/pool_fixture.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { THREADS = 8, SIZE = 3, HUNG_MS = 20000 };

typedef struct arena {
  rm_pool *pool;
  atomic_int alive; /* permits fetched and connections not closed yet */
  atomic_int most_alive;
  atomic_int wrong;    /* line of the first thing that was wrong */
  atomic_int finished; /* threads */
  atomic_int closed_answers;
  uint64_t rounds;
} arena;

typedef struct worker {
  arena *arena;
  pthread_t thread;
  rm_lease lease;
  uint64_t random;
  uintptr_t id;
} worker;

static uint64_t seed;

/* Workers only note what is wrong; the main thread asserts. */
static void note(arena *a, bool ok, int line) {
  int none = 0;
  if (!ok) atomic_compare_exchange_strong(&a->wrong, &none, line);
}
#define NOTE(a, x) note((a), (x), __LINE__)

static unsigned dice(worker *w, unsigned bound) {
  w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)(w->random >> 33) % bound;
}

static bool always_reusable(rm_conn *conn, rm_close_reason *why) {
  *why = RM_CLOSE_PEER;
  return conn->client_id % 97 != 96; /* now and then the peer has gone */
}

static void counting_close(void *ctx, rm_conn *conn, rm_close_reason why) {
  (void)why;
  free(conn);
  atomic_fetch_sub(&((arena *)ctx)->alive, 1);
}

static void now_alive(arena *a) {
  int alive = atomic_fetch_add(&a->alive, 1) + 1, most = atomic_load(&a->most_alive);
  while (alive > most && !atomic_compare_exchange_weak(&a->most_alive, &most, alive)) {
  }
}

/* Waits as a driver does.  Returns what rm_pool_poll says; RM_POOL_WAIT: it was cancelled. */
static int wait_for_grant(worker *w) {
  arena *a = w->arena;
  for (;;) {
    int64_t now = rm_clock_now_us();
    int timeout = rm_poll_timeout_ms(now, rm_min64(w->lease.wake_us, now + HUNG_MS * MS));
    struct pollfd p = {.fd = rm_lease_fd(&w->lease), .events = POLLIN};
    if (dice(w, 20) == 0) timeout = 0;
    int ready = poll(&p, 1, timeout);
    NOTE(a, ready > 0 || timeout < HUNG_MS); /* nobody is forgotten */
    if (atomic_load(&a->wrong) != 0 || (ready <= 0 && dice(w, 3) == 0)) {
      if (dice(w, 2) == 0) rm_pool_cancel(&w->lease, rm_clock_now_us());
      else NOTE(a, rm_pool_timed_out(&w->lease, rm_clock_now_us(), NULL) == REDMOON_EPOOL_TIMEOUT);
      return RM_POOL_WAIT;
    }
    int got = rm_pool_poll(&w->lease, rm_clock_now_us(), NULL);
    if (got != RM_POOL_WAIT) return got;
  }
}

/* A permit: a connection, a failure, or a change of mind.  True: the lease holds a connection. */
static bool use_permit(worker *w) {
  arena *a = w->arena;
  unsigned fate = dice(w, 10);
  now_alive(a);
  if (fate == 0) {
    atomic_fetch_sub(&a->alive, 1);
    rm_pool_cancel(&w->lease, rm_clock_now_us());
    return false;
  }
  if (fate == 1) {
    atomic_fetch_sub(&a->alive, 1);
    rm_pool_dial_failed(&w->lease, NULL, rm_clock_now_us());
    return false;
  }
  int status = rm_pool_dialed(&w->lease, fixture_conn(-1), rm_clock_now_us(), NULL);
  NOTE(a, status == 0 || status == REDMOON_ECLOSED);
  return status == 0;
}

static void use_connection(worker *w) {
  static const rm_close_reason reasons[] = {RM_CLOSE_PEER, RM_CLOSE_ERROR, RM_CLOSE_DIRTY};
  rm_conn *conn = w->lease.conn;
  conn->client_id++; /* a data race if anybody else has it */
  conn->receive_timeout_us = (int64_t)w->id;
  if (dice(w, 4) == 0) sched_yield(); /* lets others queue */
  if (dice(w, 200) == 0) poll(NULL, 0, 1);
  NOTE(w->arena, conn->receive_timeout_us == (int64_t)w->id);
  if (dice(w, 10) == 0) rm_pool_discard(&w->lease, reasons[dice(w, 3)], rm_clock_now_us());
  else rm_pool_release(&w->lease, rm_clock_now_us());
}

static void *work(void *ctx) {
  worker *w = ctx;
  arena *a = w->arena;
  for (uint64_t i = 0; i < a->rounds && atomic_load(&a->wrong) == 0; i++) {
    int got = rm_pool_acquire(a->pool, &w->lease, w->id, rm_clock_now_us(), NULL);
    if (got == RM_POOL_WAIT) got = wait_for_grant(w);
    if (got == RM_POOL_CONN || (got == RM_POOL_DIAL && use_permit(w))) use_connection(w);
    NOTE(a, got >= 0 || got == REDMOON_ECONNECT || got == REDMOON_ECLOSED);
    NOTE(a, w->lease.pool == NULL);
    if (got != REDMOON_ECLOSED) continue;
    atomic_fetch_add(&a->closed_answers, 1);
    break;
  }
  rm_lease_fini(&w->lease);
  atomic_fetch_add(&a->finished, 1);
  return NULL;
}

/* What the keeper does, and a bystander who asks for statistics and purges. */
static void *keep(void *ctx) {
  worker *w = ctx;
  arena *a = w->arena;
  while (atomic_load(&a->finished) < THREADS) {
    int dials = 0;
    redmoon_stats stats;
    rm_pool_upkeep(a->pool, rm_clock_now_us(), &dials);
    if (dials > 0 && rm_pool_acquire_permit(a->pool, &w->lease, rm_clock_now_us()) == RM_POOL_DIAL && use_permit(w))
      rm_pool_release(&w->lease, rm_clock_now_us());
    rm_pool_stats(a->pool, &stats);
    NOTE(a, stats.total <= SIZE && stats.idle + stats.in_use <= stats.total);
    if (dice(w, 50) == 0) rm_pool_purge(a->pool, RM_CLOSE_FAILOVER, rm_clock_now_us());
    poll(NULL, 0, 1);
  }
  rm_lease_fini(&w->lease);
  return NULL;
}

static void begin(arena *a, worker workers[THREADS + 1], uint64_t rounds) {
  const rm_pool_hooks hooks = {always_reusable, counting_close, NULL, a};
  const rm_pool_config config = {.size = SIZE,
                                 .max_idle = SIZE,
                                 .min_idle = 1,
                                 .max_idle_time_us = 5 * MS,
                                 .max_lifetime_us = 50 * MS,
                                 .min_backoff_us = 1 * MS,
                                 .max_backoff_us = 4 * MS,
                                 .name = "threads"};
  memset(a, 0, sizeof *a);
  memset(workers, 0, (THREADS + 1) * sizeof *workers);
  a->rounds = rounds;
  assert_int_equal(rm_pool_new(&config, &hooks, &a->pool, NULL), 0);
  for (unsigned i = 0; i <= THREADS; i++) {
    workers[i].arena = a;
    workers[i].id = i + 1;
    workers[i].random = seed + i;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, i < THREADS ? work : keep, &workers[i]), 0);
  }
}

static void end(arena *a, worker workers[THREADS + 1]) {
  redmoon_stats stats;
  for (int i = 0; i <= THREADS; i++) pthread_join(workers[i].thread, NULL);
  if (atomic_load(&a->wrong) != 0) fail_msg("SEED=%" PRIu64 ": wrong at line %d", seed, atomic_load(&a->wrong));
  rm_pool_stats(a->pool, &stats);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.waiting, 0);
  assert_int_equal(stats.total, stats.idle);
  assert_int_equal(atomic_load(&a->alive), stats.idle);
  assert_in_range(atomic_load(&a->most_alive), 1, SIZE);
  assert_true(stats.wait_count > 0); /* else this test tested nothing */
}

static void eight_threads_share_three_connections_and_nobody_is_forgotten(void **state) {
  (void)state;
  arena a;
  worker workers[THREADS + 1];
  const char *rounds = getenv("ROUNDS");
  begin(&a, workers, rounds != NULL ? strtoull(rounds, NULL, 10) : 20000);
  end(&a, workers);
  rm_lease all[SIZE] = {{.pool = NULL}};
  rm_pool_purge(a.pool, RM_CLOSE_FAILOVER, rm_clock_now_us());
  int64_t later = rm_clock_now_us() + 1 * SEC; /* past any back-off */
  for (int i = 0; i < SIZE; i++) {
    assert_int_equal(rm_pool_acquire(a.pool, &all[i], 0, later, NULL), RM_POOL_DIAL);
    now_alive(&a);
    assert_int_equal(rm_pool_dialed(&all[i], fixture_conn(-1), later, NULL), 0);
  }
  for (int i = 0; i < SIZE; i++) rm_pool_release(&all[i], later);
  rm_pool_free(a.pool);
  assert_int_equal(atomic_load(&a.alive), 0);
}

static uint64_t waits_of(const arena *a) {
  redmoon_stats stats;
  rm_pool_stats(a->pool, &stats);
  return stats.wait_count;
}

static void a_shutdown_ends_every_wait_and_every_borrow_after_it(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 20; i++) {
    arena a;
    worker workers[THREADS + 1];
    begin(&a, workers, UINT64_MAX);
    while (waits_of(&a) < 10 * (i + 1) && atomic_load(&a.wrong) == 0) poll(NULL, 0, 1);
    rm_pool_shutdown(a.pool, rm_clock_now_us());
    end(&a, workers);
    assert_int_equal(atomic_load(&a.closed_answers), THREADS);
    assert_int_equal(atomic_load(&a.alive), 0);
    rm_pool_free(a.pool);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(eight_threads_share_three_connections_and_nobody_is_forgotten),
      cmocka_unit_test(a_shutdown_ends_every_wait_and_every_borrow_after_it),
  };
  const char *text = getenv("SEED");
  seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)rm_clock_now_us();
  if (rm_random_init() != 0) return 1;
  printf("SEED=%" PRIu64 "\n", seed);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
