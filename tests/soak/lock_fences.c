/* SPDX-License-Identifier: MIT */
/* 32 processes take one lock with a short lease, half of them through a proxy that loses every tenth answer, and write to a
 * register outside of the server that accepts a fence only if it is none below the highest seen.
 *
 *   calm       nobody is paused: who held the lock from the beginning of his turn to its end was alone, and fences rise.
 *   disturbed  processes are stopped for 0.5 to 3 leases, and the server sleeps for up to 2: the same, and though turns of
 *              holders that lost the lock overlap with others, the register never takes a falling fence.
 *   unguarded  the control: disturbed, and the register takes whatever comes.  A fence must be seen to fall.
 *
 *      SEED=<n> REDMOON_SOAK_ACQUISITIONS=<n> lock_fences          (of the first two phases together; 100,000 is the long run)
 *
 * No clock of a client but CLOCK_BOOTTIME has a part in it: what a client sends holds no time of its own
 * (tests/server/test_lock.c).  Steps of the server's clock are in tests/scripts/lock_spec.lua, in virtual time.  */
#include "support/lossy_proxy.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum {
  CLIENTS = 32,
  ACQUISITIONS = 6000,
  CONTROL_SHARE = 10,
  TTL_MS = 80,
  WAIT_MS = 60000,
  WORK_ONE_IN = 8, /* turns that take a while */
  WORK_MS = 2,
  REST_ONE_IN = 3, /* turns after which the client lets others have it */
  LOSES = 10,
  CONDITION_TURNS = 200000, /* at most so many more, until a condition was seen */
  PHASE_LIMIT_MS = 120000,  /* and for each acquisition: */
  ACQUISITION_LIMIT_MS = 10,
  END_LIMIT_MS = 60000,
  TICK_MS = 2
};

typedef struct phase {
  const char *name;
  bool disturbed, guarded;
  long turns;
} phase;

/* A turn between taking the lock and giving it back.  It ran inside the lease if that lasted beyond `left_ns`. */
typedef struct turn {
  int64_t fence, entered_ns, left_ns, until_ns; /* the end of the lease, as the lock told it */
  int client;
  bool held_first, held_last, accepted;
} turn;

typedef struct tally {
  long acquired, late, locked, extended, not_extended, lost, torn, surprises;
  char surprise[200];
} tally;

typedef struct shared {
  pthread_mutex_t mutex; /* of the register: */
  bool guarded;
  int64_t highest, last;
  atomic_long accepted, falls, refused; /* also read without it */

  char proxied[200], direct[200]; /* URLs */
  uint64_t seed;
  atomic_int inside; /* a client in his turn, for the disturber to aim at; -1: none */
  atomic_bool stop;
  atomic_long count; /* turns that were begun; those below `capacity` are kept */
  long capacity;
  tally tallies[CLIENTS];
  turn turns[];
} shared;

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
  exit(1); /* children and server end with this process */
}

/* The register.  What it checks and what it counts are apart. */
static bool write_register(shared *all, int64_t fence) {
  pthread_mutex_lock(&all->mutex);
  bool accept = !all->guarded || fence >= all->highest;
  if (accept) {
    if (fence < all->last) atomic_fetch_add(&all->falls, 1);
    all->last = fence;
    atomic_fetch_add(&all->accepted, 1);
  } else {
    atomic_fetch_add(&all->refused, 1);
  }
  if (fence > all->highest) all->highest = fence;
  pthread_mutex_unlock(&all->mutex);
  return accept;
}

/* A client's process. */

/* Ends the phase. */
static void surprise(shared *all, int number, const char *what, const redmoon_error *err) {
  tally *t = &all->tallies[number];
  if (t->surprises++ == 0) snprintf(t->surprise, sizeof t->surprise, "%s: %.30s %.140s", what, err->code, err->message);
  atomic_store(&all->stop, true);
}

/* A holder that takes his time, and prolongs the lock.  When that is refused he goes on all the same: the register is there
 * to stop him.  Whether it was prolonged. */
static bool work(shared *all, int number, redmoon_lock *lock) {
  redmoon_error err;
  poll(NULL, 0, WORK_MS);
  int rc = redmoon_lock_extend(lock, REDMOON_UNSET, &err);
  if (rc == 0) all->tallies[number].extended++;
  else if (rc == REDMOON_ELOST) all->tallies[number].not_extended++;
  else surprise(all, number, "extend", &err);
  return rc == 0;
}

/* Never later than the end that the library believes in. */
static int64_t lease_end_ns(const redmoon_lock *lock) {
  int64_t now = now_ns();
  return now + redmoon_lock_remaining_ms(lock) * 1000000;
}

/* When the lease ends. */
static int64_t take_turn(shared *all, int number, redmoon_lock *lock, bool works) {
  turn t = {.fence = redmoon_lock_fence(lock), .client = number, .entered_ns = now_ns()};
  t.until_ns = lease_end_ns(lock);
  t.held_first = redmoon_lock_held(lock) != 0;
  if (t.held_first) {
    atomic_store(&all->inside, number);
    if (works && work(all, number, lock)) t.until_ns = lease_end_ns(lock);
    t.accepted = write_register(all, t.fence);
    atomic_store(&all->inside, -1);
  }
  t.left_ns = now_ns();
  t.held_last = redmoon_lock_held(lock) != 0;
  long index = atomic_fetch_add(&all->count, 1);
  if (index < all->capacity) all->turns[index] = t;
  if (t.held_first && !t.held_last && t.left_ns < t.until_ns) all->tallies[number].torn++;
  return t.until_ns;
}

static void acquire_and_release(shared *all, int number, redmoon_client *client, bool works) {
  tally *t = &all->tallies[number];
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = TTL_MS;
  options.wait_ms = WAIT_MS;
  redmoon_lock *lock;
  redmoon_error err;
  int rc = redmoon_lock_acquire(client, "n", 1, &options, &lock, &err);
  if (rc == REDMOON_ELOCKED) t->locked++;
  else if (rc == REDMOON_ELOST) t->late++;
  else if (rc < 0) surprise(all, number, "acquire", &err);
  if (rc < 0) return;
  t->acquired++;
  int64_t until_ns = take_turn(all, number, lock, works);
  rc = redmoon_lock_release(lock, &err);
  if (rc == REDMOON_ELOST) {
    t->lost++;
    t->torn += now_ns() < until_ns;
  } else if (rc < 0) {
    surprise(all, number, "release", &err);
  }
  redmoon_lock_free(lock);
}

static void live(shared *all, int number, int go) {
  char byte;
  while (read(go, &byte, 1) < 0) { /* until its other end is closed */
  }
  uint64_t rng = all->seed + (uint64_t)number * 7919 + 1;
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(number % 2 == 0 ? all->direct : all->proxied, NULL, &client, &err) != 0) {
    surprise(all, number, "open", &err);
    return;
  }
  while (!atomic_load(&all->stop)) {
    acquire_and_release(all, number, client, next(&rng) % WORK_ONE_IN == 0);
    if (next(&rng) % REST_ONE_IN == 0) poll(NULL, 0, (int)(next(&rng) % TTL_MS)); /* or who has it takes it again and again */
  }
  redmoon_client_close(client);
}

static pid_t give_birth(shared *all, int number, const int go[2]) {
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) die("fork");
  if (pid > 0) return pid;
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(1);
  close(go[1]);
  live(all, number, go[0]);
  exit(0); /* not _exit: a leak checker looks first */
}

/* Disturbance. */

typedef struct disturber {
  shared *all;
  const redis_server *server;
  pid_t *pids;
  int64_t resume_ns[CLIENTS]; /* 0: runs */
  uint64_t rng;
  long stops, aimed;
  pthread_t sleeper;
  long sleeps; /* of the server; its thread's */
} disturber;

static int64_t leases_ns(uint64_t *rng, int64_t from_percent, int64_t to_percent) {
  return (from_percent + (int64_t)(next(rng) % (uint64_t)(to_percent - from_percent + 1))) * TTL_MS * 10000;
}

static void *put_server_to_sleep(void *arg) {
  disturber *d = arg;
  uint64_t rng = d->all->seed + 99991;
  while (!atomic_load(&d->all->stop)) {
    char command[60];
    snprintf(command, sizeof command, "DEBUG SLEEP %.3f", (double)leases_ns(&rng, 10, 200) / 1e9);
    char *answer = redis_server_ask(d->server, NULL, command);
    if (answer != NULL && strcmp(answer, "+OK") == 0) d->sleeps++;
    free(answer);
    int64_t until = now_ns() + leases_ns(&rng, 200, 1000);
    while (now_ns() < until && !atomic_load(&d->all->stop)) poll(NULL, 0, TICK_MS);
  }
  return NULL;
}

/* Half of the stops are of whoever is in his turn. */
static void stop_one(disturber *d) {
  int victim = (int)(next(&d->rng) % CLIENTS), inside = atomic_load(&d->all->inside);
  bool aimed = next(&d->rng) % 2 == 0 && inside >= 0;
  if (aimed) victim = inside;
  if (d->resume_ns[victim] != 0) return;
  if (kill(d->pids[victim], SIGSTOP) != 0) die("kill");
  d->resume_ns[victim] = now_ns() + leases_ns(&d->rng, 50, 300);
  d->stops++;
  d->aimed += aimed;
}

static void resume(disturber *d, bool all) {
  for (int i = 0; i < CLIENTS; i++) {
    if (d->resume_ns[i] == 0 || (!all && now_ns() < d->resume_ns[i])) continue;
    if (kill(d->pids[i], SIGCONT) != 0) die("kill");
    d->resume_ns[i] = 0;
  }
}

/* What a phase waits for beyond the number of turns: that its disturbance had an effect. */
static bool condition_seen(const shared *all, const phase *p) {
  if (!p->disturbed) return true;
  return atomic_load(p->guarded ? &all->refused : &all->falls) > 0;
}

static void conduct(shared *all, const phase *p, disturber *d) {
  int64_t end_ns = now_ns() + (PHASE_LIMIT_MS + (int64_t)p->turns * ACQUISITION_LIMIT_MS) * 1000000;
  if (p->disturbed && pthread_create(&d->sleeper, NULL, put_server_to_sleep, d) != 0) die("thread");
  while (now_ns() < end_ns && atomic_load(&all->count) < all->capacity) {
    poll(NULL, 0, TICK_MS);
    resume(d, false);
    if (atomic_load(&all->stop) || (atomic_load(&all->count) >= p->turns && condition_seen(all, p))) break;
    if (p->disturbed && next(&d->rng) % 4 == 0) stop_one(d);
  }
  atomic_store(&all->stop, true);
  resume(d, true);
  if (p->disturbed) pthread_join(d->sleeper, NULL);
}

/* Waits for the children; what has not ended in time is killed.  How many ended well. */
static int reap(pid_t *pids) {
  int well = 0;
  int64_t end_ns = now_ns() + (int64_t)END_LIMIT_MS * 1000000;
  for (int i = 0; i < CLIENTS; i++) {
    int status = 1;
    while (waitpid(pids[i], &status, WNOHANG) == 0) {
      if (now_ns() > end_ns) kill(pids[i], SIGKILL);
      poll(NULL, 0, TICK_MS);
    }
    well += WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return well;
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

static int by_fence(const void *a, const void *b) {
  const turn *one = a, *other = b;
  return (one->fence > other->fence) - (one->fence < other->fence);
}

typedef struct verdict {
  long held, overlaps, falls; /* turns inside of the lease; that began before the end of another; out of order */
  long refused;               /* writes of a holder */
  long stale, stale_overlaps; /* turns that outlasted their lease; all overlaps of turns begun with the lock held */
  long repeated, handovers;
} verdict;

static verdict look_at(turn *turns, size_t count) {
  verdict v = {0};
  qsort(turns, count, sizeof *turns, by_fence);
  for (size_t i = 1; i < count; i++) v.repeated += turns[i].fence == turns[i - 1].fence;
  qsort(turns, count, sizeof *turns, by_entry);
  int64_t last_ns = 0, any_ns = 0, fence = 0;
  int client = -1;
  for (size_t i = 0; i < count; i++) {
    const turn *t = &turns[i];
    if (!t->held_first) continue;
    bool inside = t->held_last || t->left_ns < t->until_ns;
    v.stale += !inside;
    v.stale_overlaps += t->entered_ns < any_ns;
    if (t->left_ns > any_ns) any_ns = t->left_ns;
    if (!inside) continue;
    v.held++;
    v.overlaps += t->entered_ns < last_ns;
    v.falls += t->fence <= fence;
    v.refused += !t->accepted;
    v.handovers += t->client != client;
    if (t->left_ns > last_ns) last_ns = t->left_ns;
    fence = t->fence;
    client = t->client;
  }
  return v;
}

static void judge(shared *all, const phase *p, const disturber *d, size_t lost, int well) {
  tally sum = {0};
  for (int i = 0; i < CLIENTS; i++) {
    const tally *t = &all->tallies[i];
    sum.acquired += t->acquired;
    sum.late += t->late;
    sum.locked += t->locked;
    sum.extended += t->extended;
    sum.not_extended += t->not_extended;
    sum.lost += t->lost;
    sum.torn += t->torn;
    sum.surprises += t->surprises;
    if (t->surprises > 0) printf("surprise: %s\n", t->surprise);
  }
  long count = atomic_load(&all->count), falls = atomic_load(&all->falls), refused = atomic_load(&all->refused);
  if (count > all->capacity) count = all->capacity;
  verdict v = look_at(all->turns, (size_t)count);
  printf("%ld acquired (%ld handed over), %ld answered after their lease, %ld waits given up; %ld extended, %ld too late; "
         "%ld lost at the release\n",
         sum.acquired, v.handovers, sum.late, sum.locked, sum.extended, sum.not_extended, sum.lost);
  printf("%zu answers lost, %ld stops (%ld of a holder), the server slept %ld times\n", lost, d->stops, d->aimed, d->sleeps);
  printf("register: %ld writes accepted, %ld with a falling fence, %ld refused; %ld turns outlasted their lease, "
         "%ld began in another's\n",
         atomic_load(&all->accepted), falls, refused, v.stale, v.stale_overlaps);
  check(well == CLIENTS && sum.surprises == 0, "acquisitions and releases failed in no other way than by the lease's end");
  check(count >= p->turns && v.held > count / 2 && v.handovers > CLIENTS, "the lock went round");
  check(lost > 0, "answers were lost");
  check(v.overlaps == 0, "who held the lock at the beginning and at the end of his turn was alone");
  check(sum.torn == 0, "nobody lost the lock inside of his lease");
  check(v.repeated == 0 && v.falls == 0, "each holder's fence was above those of all before");
  if (p->guarded) {
    check(falls == 0, "the register accepted no falling fence");
    check(v.refused == 0, "and refused no holder");
  }
  if (p->disturbed) check(d->stops > 0 && d->sleeps > 0, "processes were stopped and the server slept");
  if (p->disturbed && p->guarded) check(refused > 0, "holders that were paused too long were refused");
  if (!p->guarded) check(falls > 0, "without the check the register is seen to accept a falling fence");
}

/* Phases. */

static shared *shared_new(const phase *p, const redis_server *server, uint64_t seed, size_t *size) {
  long capacity = p->turns + CONDITION_TURNS;
  *size = sizeof(shared) + (size_t)capacity * sizeof(turn);
  shared *all = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) die("mmap");
  all->capacity = capacity;
  all->seed = seed;
  all->guarded = p->guarded;
  atomic_store(&all->inside, -1);
  snprintf(all->direct, sizeof all->direct, "%s", redis_server_url(server));
  pthread_mutexattr_t attributes;
  if (pthread_mutexattr_init(&attributes) != 0 ||
      pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
      pthread_mutex_init(&all->mutex, &attributes) != 0)
    die("mutex");
  pthread_mutexattr_destroy(&attributes);
  return all;
}

/* The children are born before any thread; they begin when all is ready. */
static void run(const phase *p, const redis_server *server, uint64_t seed) {
  printf("%s:\n", p->name);
  fflush(NULL); /* or the children print it again */
  size_t size;
  shared *all = shared_new(p, server, seed, &size);
  int go[2];
  if (pipe(go) != 0) die("pipe");
  pid_t pids[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) pids[i] = give_birth(all, i, go);
  close(go[0]);
  lossy_proxy *proxy = lossy_proxy_start(redis_server_path(server), LOSES);
  snprintf(all->proxied, sizeof all->proxied, "unix://%s?min_backoff=0.001&max_backoff=0.004&max_retries=50",
           lossy_proxy_path(proxy));
  int64_t began_ns = now_ns();
  close(go[1]);
  disturber d = {.all = all, .server = server, .pids = pids, .rng = seed + 31337};
  conduct(all, p, &d);
  int well = reap(pids);
  size_t lost = lossy_proxy_lost(proxy);
  lossy_proxy_stop(proxy);
  printf("%.1f s\n", (double)(now_ns() - began_ns) / 1e9);
  judge(all, p, &d, lost, well);
  pthread_mutex_destroy(&all->mutex);
  munmap(all, size);
}

int main(void) {
  const char *text = getenv("SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 20261125;
  text = getenv("REDMOON_SOAK_ACQUISITIONS");
  long turns = text != NULL ? atol(text) : ACQUISITIONS;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_ACQUISITIONS=%ld\n", seed, turns);
  const char *args[] = {"--enable-debug-command", "yes", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){.args = args});
  run(&(phase){"calm", false, true, turns / 2}, server, seed);
  run(&(phase){"disturbed", true, true, turns - turns / 2}, server, seed);
  run(&(phase){"unguarded", true, false, turns / CONTROL_SHARE}, server, seed);
  redis_server_stop(server);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
