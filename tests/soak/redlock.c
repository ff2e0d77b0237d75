/* SPDX-License-Identifier: MIT */
/* Threads take one lock over five servers that keep nothing on disk, while servers are killed (-9) and started anew: one at a
 * time, and most of them together while somebody holds the lock, who is then forgotten by a quorum.
 *
 *   quarantine  who holds the lock is alone, and fences rise.
 *   control     the same without the quarantine: holders must be seen to overlap.
 *
 *      SEED=<n> REDMOON_SOAK_ACQUISITIONS=<n> redlock                 (of the first phase; 10,000 is the long run)
 */
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  SERVERS = 5,
  THREADS = 4,
  ACQUISITIONS = 300,
  CONTROL_MOST = 2000, /* turns in which the control has to show an overlap */
  TTL_MS = 1000,
  LONG_ONE_IN = 16, /* turns in which somebody works for most of the lease */
  LONG_MS = 700,
  SHORT_MS = 2,
  WAIT_MS = 20000,
  TURNS_BY_KILL = 25,  /* one server is killed in so many turns */
  TURNS_BY_BURST = 75, /* and most of them, under a holder */
  CONTROL_TURNS_BY_BURST = 10,
  PHASE_LIMIT_MS = 300000, /* and for each acquisition: */
  ACQUISITION_LIMIT_MS = 80
};

typedef struct turn {
  int64_t fence, entered_ns, end_ns; /* the end of the turn, or of the lease if that was before */
} turn;

typedef struct shared {
  redmoon_redlock *redlock;
  uint64_t seed;
  atomic_bool stop;
  atomic_long count; /* turns; those below `capacity` are kept */
  atomic_long long_turns; /* that were begun */
  atomic_long locked, unavailable, late, lost, not_released, surprises;
  long capacity;
  turn *turns;
  pthread_mutex_t mutex; /* of: */
  char surprise[300];
} shared;

typedef struct worker {
  shared *all;
  int number;
  pthread_t thread;
} worker;

static uint64_t next(uint64_t *rng) { /* xorshift64* */
  *rng ^= *rng >> 12;
  *rng ^= *rng << 25;
  *rng ^= *rng >> 27;
  return *rng * 2685821657736338717u;
}

static int64_t now_ns(void) {
  struct timespec now;
#ifdef CLOCK_BOOTTIME
  clock_gettime(CLOCK_BOOTTIME, &now);
#else
  clock_gettime(CLOCK_MONOTONIC, &now);
#endif
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* A client. */

static void surprise(shared *all, const char *what, const redmoon_error *err) {
  pthread_mutex_lock(&all->mutex);
  if (atomic_fetch_add(&all->surprises, 1) == 0)
    snprintf(all->surprise, sizeof all->surprise, "%s: %.30s %.240s", what, err->code, err->message);
  pthread_mutex_unlock(&all->mutex);
}

/* The end of the lease is never taken to be later than the library takes it to be. */
static void take_turn(shared *all, redmoon_lock *lock, int work_ms) {
  turn t = {.fence = redmoon_lock_fence(lock), .entered_ns = now_ns()};
  int64_t lease_ns = t.entered_ns + redmoon_lock_remaining_ms(lock) * 1000000;
  if (!redmoon_lock_held(lock)) return;
  if (work_ms == LONG_MS) atomic_fetch_add(&all->long_turns, 1);
  while (now_ns() < t.entered_ns + (int64_t)work_ms * 1000000 && redmoon_lock_held(lock)) poll(NULL, 0, 1);
  t.end_ns = now_ns();
  if (t.end_ns > lease_ns) t.end_ns = lease_ns;
  long index = atomic_fetch_add(&all->count, 1);
  if (index < all->capacity) all->turns[index] = t;
}

static void acquire_and_release(shared *all, int work_ms) {
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.ttl_ms = TTL_MS;
  request.wait_ms = WAIT_MS;
  redmoon_lock *lock;
  redmoon_error err;
  int status = redmoon_redlock_acquire(all->redlock, "n", 1, &request, &lock, &err);
  if (status == REDMOON_ELOCKED) atomic_fetch_add(&all->locked, 1);
  else if (status == REDMOON_EUNAVAILABLE) atomic_fetch_add(&all->unavailable, 1);
  else if (status == REDMOON_ELOST) atomic_fetch_add(&all->late, 1);
  else if (status < 0) surprise(all, "acquire", &err);
  if (status < 0) return;
  take_turn(all, lock, work_ms);
  status = redmoon_lock_release(lock, &err);
  if (status == REDMOON_ELOST) atomic_fetch_add(&all->lost, 1);
  else if (status == REDMOON_EUNAVAILABLE) atomic_fetch_add(&all->not_released, 1);
  else if (status < 0) surprise(all, "release", &err);
  redmoon_lock_free(lock);
}

static void *live(void *arg) {
  worker *self = arg;
  uint64_t rng = self->all->seed + (uint64_t)self->number * 7919 + 1;
  while (!atomic_load(&self->all->stop)) {
    acquire_and_release(self->all, next(&rng) % LONG_ONE_IN == 0 ? LONG_MS : SHORT_MS);
    poll(NULL, 0, (int)(next(&rng) % 4));
  }
  return NULL;
}

/* Disturbance: the main thread's. */

typedef struct disturber {
  redis_server **servers;
  uint64_t rng;
  long kills, bursts, next_kill, next_burst, long_turns;
} disturber;

static void kill_some(disturber *d, int count) {
  int first = (int)(next(&d->rng) % SERVERS);
  for (int i = 0; i < count; i++) redis_server_kill(d->servers[(first + i) % SERVERS]);
  for (int i = 0; i < count; i++) redis_server_restart(d->servers[(first + i) % SERVERS]);
  d->kills += count;
}

static void disturb(disturber *d, shared *all, long turns_by_burst) {
  long count = atomic_load(&all->count), long_turns = atomic_load(&all->long_turns);
  if (count >= d->next_burst && long_turns > d->long_turns) { /* somebody has just begun to work */
    kill_some(d, SERVERS / 2 + 1);
    d->bursts++;
    d->next_burst = atomic_load(&all->count) + turns_by_burst;
  } else if (count >= d->next_kill) {
    kill_some(d, 1);
    d->next_kill = count + TURNS_BY_KILL;
  }
  d->long_turns = long_turns;
}

/* Judgement. */

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static int by_entry(const void *a, const void *b) {
  const turn *one = a, *other = b;
  return (one->entered_ns > other->entered_ns) - (one->entered_ns < other->entered_ns);
}

typedef struct verdict {
  long overlaps, falls;
} verdict;

static verdict look_at(const shared *all) {
  verdict v = {0};
  long count = atomic_load(&all->count);
  if (count > all->capacity) count = all->capacity;
  qsort(all->turns, (size_t)count, sizeof *all->turns, by_entry);
  int64_t end_ns = 0, fence = 0;
  for (long i = 0; i < count; i++) {
    const turn *t = &all->turns[i];
    v.overlaps += t->entered_ns < end_ns;
    v.falls += t->fence <= fence;
    if (t->end_ns > end_ns) end_ns = t->end_ns;
    if (t->fence > fence) fence = t->fence;
  }
  return v;
}

static void judge(shared *all, const disturber *d, long turns, bool careful) {
  verdict v = look_at(all);
  printf("%ld turns, %ld of them long; %ld kills, %ld times of most servers under a holder; %ld locked, %ld unavailable, "
         "%ld late, %ld lost, %ld not released\n",
         atomic_load(&all->count), atomic_load(&all->long_turns), d->kills, d->bursts, atomic_load(&all->locked),
         atomic_load(&all->unavailable), atomic_load(&all->late), atomic_load(&all->lost), atomic_load(&all->not_released));
  printf("%ld overlaps, %ld fences that did not rise\n", v.overlaps, v.falls);
  if (atomic_load(&all->surprises) > 0) printf("surprise: %s\n", all->surprise);
  check(atomic_load(&all->surprises) == 0, "calls failed in no other way than for want of votes or of time");
  check(d->bursts > 0 && d->kills > 3 * d->bursts, "servers were killed, and most of them under a holder");
  if (careful) {
    check(atomic_load(&all->count) >= turns, "the lock went round");
    check(v.overlaps == 0, "who held the lock was alone");
    check(v.falls == 0, "each holder's fence was above those of all before");
  } else {
    check(v.overlaps > 0, "without the quarantine holders are seen to overlap");
  }
}

/* Phases. */

static void conduct(shared *all, disturber *d, long turns, bool careful) {
  int64_t end_ns = now_ns() + (PHASE_LIMIT_MS + (int64_t)turns * ACQUISITION_LIMIT_MS) * 1000000;
  long turns_by_burst = careful ? TURNS_BY_BURST : CONTROL_TURNS_BY_BURST;
  d->next_kill = TURNS_BY_KILL;
  d->next_burst = turns_by_burst;
  while (now_ns() < end_ns && atomic_load(&all->count) < all->capacity) {
    poll(NULL, 0, 5);
    disturb(d, all, turns_by_burst);
    bool enough = careful ? atomic_load(&all->count) >= turns : d->bursts >= 8;
    if (enough && d->bursts > 0 && d->kills > 3 * d->bursts) break;
  }
  atomic_store(&all->stop, true);
}

static void run(redis_server **servers, long turns, bool careful, uint64_t seed) {
  printf("%s:\n", careful ? "quarantine" : "control");
  redmoon_client *clients[SERVERS];
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++)
    if (redmoon_client_open(redis_server_url(servers[i]), NULL, &clients[i], &err) != 0) die(err.message);
  shared all = {.seed = seed, .capacity = turns + CONTROL_MOST};
  redmoon_redlock_options options = {careful ? TTL_MS : 0};
  if (redmoon_redlock_new(clients, SERVERS, &options, &all.redlock, &err) != 0) die(err.message);
  pthread_mutex_init(&all.mutex, NULL);
  all.turns = calloc((size_t)all.capacity, sizeof *all.turns);
  if (all.turns == NULL) die("memory");
  worker workers[THREADS];
  int64_t began_ns = now_ns();
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.all = &all, .number = i};
    if (pthread_create(&workers[i].thread, NULL, live, &workers[i]) != 0) die("thread");
  }
  disturber d = {.servers = servers, .rng = seed + 31337};
  conduct(&all, &d, turns, careful);
  for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  printf("%.1f s\n", (double)(now_ns() - began_ns) / 1e9);
  judge(&all, &d, turns, careful);
  redmoon_redlock_free(all.redlock);
  for (int i = 0; i < SERVERS; i++) redmoon_client_close(clients[i]);
  pthread_mutex_destroy(&all.mutex);
  free(all.turns);
}

int main(void) {
  const char *text = getenv("SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 20261126;
  text = getenv("REDMOON_SOAK_ACQUISITIONS");
  long turns = text != NULL ? atol(text) : ACQUISITIONS;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_ACQUISITIONS=%ld\n", seed, turns);
  redis_server *servers[SERVERS];
  for (int i = 0; i < SERVERS; i++) servers[i] = redis_server_start(NULL);
  run(servers, turns, true, seed);
  run(servers, CONTROL_MOST, false, seed);
  for (int i = 0; i < SERVERS; i++) redis_server_stop(servers[i]);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
