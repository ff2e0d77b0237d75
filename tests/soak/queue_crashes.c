/* SPDX-License-Identifier: MIT */
/* 16 worker processes take jobs from one queue; 14 of them are killed with -9 at random 0 to 200 ms and begin anew, the
 * other two are slow now and then, beyond their lease.  Each run is written to a file outside of the server: the job, its
 * epoch, and whether it was acknowledged.
 *
 *   killed     every job ran; at every look pushed = finished + ready + delayed + leased + dead, and each job is in one place; no
 *              job was acknowledged twice, or by a lease that had passed to another; no job ran oftener than its leases
 *              ended; jobs of killed workers run again soon; of no group more jobs are leased than may be.
 *   restarted  and the server, which writes every command to its disk, is killed with -9 and restarted: nothing that was
 *              acknowledged, push or end, is lost.
 *   unleased   the control: workers end a job when they take it.  A job that never ran must be found.
 *
 *      SEED=<n> REDMOON_SOAK_JOBS=<n> REDMOON_SOAK_RESTARTS=<n> queue_crashes       (100,000 and 100 are the long run)
 */
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum {
  WORKERS = 16,
  STEADY = 2, /* of them, which are never killed */
  GROUPS = 5, /* two of three jobs are of one of them */
  GROUP_MOST = 6, /* of each are leased at once */
  JOBS = 3000,
  RESTARTS = 4,
  LEASE_MS = 250,
  LIFE_MS = 200, /* of a worker, at most */
  SLOW_ONE_IN = 40,
  CONTROL_JOBS = 500,
  BACKLOG = 400,
  BATCH = 50,
  LOOK_EVERY = 40, /* ticks between two looks at the whole queue */
  TICK_MS = 5,
  LIMIT_MS = 180000, /* of a phase, and for each job: */
  JOB_LIMIT_MS = 20
};

typedef struct phase {
  const char *name;
  long jobs, restarts;
  bool leases;
} phase;

enum { RAN = 1, ACKED = 2 };

/* A line of the file. */
typedef struct event {
  int32_t kind, job, worker, attempt;
  int64_t epoch, at_ns;
} event;

static uint64_t next(uint64_t *rng) { /* xorshift64* */
  *rng ^= *rng >> 12;
  *rng ^= *rng << 25;
  *rng ^= *rng >> 27;
  return *rng * 2685821657736338717u;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1); /* children and server end with this process */
}

static void note(int file, int kind, int worker, int job, int64_t attempt, int64_t epoch) {
  event e = {kind, job, worker, (int32_t)attempt, epoch, now_ns()};
  if (write(file, &e, sizeof e) != (ssize_t)sizeof e) die("write");
}

static redmoon_queue *open_queue(redmoon_client *client) {
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.lease_ms = LEASE_MS;
  options.max_crashes = 1000;
  options.group_concurrency = GROUP_MOST;
  redmoon_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_queue_new(client, "crashes", 7, &options, &queue, &err) != 0) {
    fprintf(stderr, "%s\n", err.message);
    exit(1);
  }
  return queue;
}

/* A worker's process. */

static void run_job(const phase *p, redmoon_job *job, int file, int worker, uint64_t *rng) {
  redmoon_error err;
  size_t len;
  int id = atoi(redmoon_job_payload(job, &len)); /* with its NUL byte */
  int64_t epoch = redmoon_job_epoch(job), attempt = redmoon_job_attempt(job);
  if (!p->leases) { /* as a plain list has it */
    if (redmoon_job_ack(job, NULL, &err) != 0) return;
    poll(NULL, 0, 1);
    note(file, RAN, worker, id, attempt, epoch);
    return;
  }
  note(file, RAN, worker, id, attempt, epoch);
  bool slow = worker < STEADY && next(rng) % SLOW_ONE_IN == 0;
  if (slow) poll(NULL, 0, LEASE_MS + LEASE_MS / 4);
  else if (attempt > 1) poll(NULL, 0, LEASE_MS / 2); /* has it when a slow one says that it is done */
  else if (next(rng) % 4 == 0) poll(NULL, 0, 1);
  if (redmoon_job_ack(job, NULL, &err) == 0) note(file, ACKED, worker, id, attempt, epoch);
}

static void live(const phase *p, const char *url, int file, int worker, uint64_t seed) {
  uint64_t rng = seed;
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, NULL, &client, &err) != 0) _exit(1);
  redmoon_queue *queue = open_queue(client);
  redmoon_pop_options wait = REDMOON_POP_OPTIONS_INIT;
  wait.timeout_ms = 60000;
  for (;;) { /* until it is killed */
    redmoon_job *job = NULL;
    if (redmoon_queue_pop(queue, &wait, &job, &err) != 0) {
      poll(NULL, 0, 1); /* the server is not there */
      continue;
    }
    if (job != NULL) run_job(p, job, file, worker, &rng);
    redmoon_job_free(job);
  }
}

static pid_t give_birth(const phase *p, const char *url, int file, int worker, uint64_t seed) {
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) die("fork");
  if (pid > 0) return pid;
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(1);
  live(p, url, file, worker, seed);
  _exit(0);
}

/* The conductor. */

typedef struct conductor {
  const phase *p;
  redis_server *server;
  redmoon_client *client;
  redmoon_queue *queue;
  const char *url;
  int file;
  uint64_t rng;
  pid_t pids[WORKERS];
  int64_t ends_ns[WORKERS];
  long kills, restarts, pushed, looks, unequal, faults, unknown, grouped;
} conductor;

static void kill_those_whose_time_is_over(conductor *c) {
  for (int i = STEADY; i < WORKERS; i++) {
    if (now_ns() < c->ends_ns[i]) continue;
    if (kill(c->pids[i], SIGKILL) != 0 || waitpid(c->pids[i], NULL, 0) < 0) die("kill");
    c->kills++;
    c->pids[i] = give_birth(c->p, c->url, c->file, i, next(&c->rng));
    c->ends_ns[i] = now_ns() + (int64_t)(next(&c->rng) % (LIFE_MS + 1)) * 1000000;
  }
}

/* Pushes some more, every other time what the queue keeps in bundles.  What is not known to be pushed is pushed again, under
 * the same request. */
static void push_some(conductor *c) {
  redmoon_queue_item items[BATCH];
  redmoon_queue_pushed pushed[BATCH];
  char ids[BATCH][24], groups[BATCH][8], request[32];
  size_t count = 0;
  for (; count < BATCH && c->pushed + (long)count < c->p->jobs; count++) {
    snprintf(ids[count], sizeof ids[count], "%ld", c->pushed + (long)count);
    items[count] = (redmoon_queue_item)REDMOON_QUEUE_ITEM_INIT;
    items[count].payload = ids[count];
    items[count].len = strlen(ids[count]) + 1;
    if (c->pushed / BATCH % 2 == 1) continue;
    items[count].id = ids[count];
    snprintf(groups[count], sizeof groups[count], "g%d", (int)(next(&c->rng) % GROUPS));
    if (next(&c->rng) % 3 > 0) items[count].group = groups[count];
    if (next(&c->rng) % 10 == 0) items[count].delay_ms = (int64_t)(next(&c->rng) % 100);
  }
  snprintf(request, sizeof request, "push-%ld", c->pushed);
  redmoon_error err;
  if (count == 0) return;
  if (redmoon_queue_push_many(c->queue, items, count, request, pushed, &err) != 0) {
    c->unknown++;
    return;
  }
  for (size_t i = 0; i < count; i++) c->faults += pushed[i].status != 0;
  c->pushed += (long)count;
}

static bool counts_of(conductor *c, redmoon_queue_counts *counts) {
  if (redmoon_queue_stats(c->queue, counts, NULL) != 0) return false;
  c->looks++;
  c->unequal += counts->pushed != counts->finished + counts->removed + counts->ready + counts->delayed + counts->leased + counts->dead;
  return true;
}

static void look_at_all(conductor *c) {
  redmoon_queue_report *report = NULL;
  if (redmoon_queue_check(c->queue, &report, NULL) != 0) return;
  for (size_t i = 0; i < report->count; i++)
    printf("wrong: job %s: %s\n", report->wrong[i].id, report->wrong[i].what);
  c->faults += (long)report->count;
  redmoon_queue_report_free(report);
}

/* Leased jobs of each group, by their places in the set (scripts/include/queue_group.lua). */
static void look_at_groups(conductor *c) {
  for (int i = 0; i < GROUPS; i++) {
    char from[20], to[20];
    int len = snprintf(from, sizeof from, "[rg%d", i);
    snprintf(to, sizeof to, "[rg%d\1", i);
    redmoon_reply *reply = NULL;
    const char *const argv[] = {"ZLEXCOUNT", "redmoon:{crashes}:queue.groups", from, to};
    const size_t lens[] = {9, 30, (size_t)len, (size_t)len + 1};
    if (redmoon_command(c->client, 4, argv, lens, &reply, NULL) != 0) continue;
    int64_t leased = redmoon_reply_integer(reply);
    redmoon_reply_free(reply);
    if (leased > 0) c->grouped++;
    if (leased <= GROUP_MOST) continue;
    printf("wrong: %" PRId64 " jobs of group g%d are leased\n", leased, i);
    c->faults++;
  }
}

/* As docs/queue.md says: a server that finds half a script's writes at the end of its log may execute them after its next
 * crash, unless they are cut off before it starts. */
static void mend_log(const redis_server *server) {
  char command[400];
  snprintf(command, sizeof command, "echo y | $(command -v redis-check-aof || echo valkey-check-aof) --fix %s/appendonlydir/appendonly.aof.manifest >%s/mended 2>&1",
           redis_server_dir(server), redis_server_dir(server));
  if (system(command) != 0) die("redis-check-aof");
}

static void conduct(conductor *c) {
  const phase *p = c->p;
  int64_t end_ns = now_ns() + (LIMIT_MS + p->jobs * JOB_LIMIT_MS) * INT64_C(1000000);
  for (long tick = 0; now_ns() < end_ns; tick++) {
    redmoon_queue_counts counts = {0};
    kill_those_whose_time_is_over(c);
    if (c->restarts < p->restarts && c->pushed >= (c->restarts + 1) * p->jobs / (p->restarts + 1)) {
      redis_server_kill(c->server);
      mend_log(c->server);
      redis_server_restart(c->server);
      c->restarts++;
    }
    if (tick % LOOK_EVERY == 0) look_at_all(c);
    look_at_groups(c);
    bool known = counts_of(c, &counts);
    if (known && c->pushed == p->jobs && counts.ready + counts.delayed + counts.leased == 0) break;
    if (known && c->pushed < p->jobs && counts.ready < BACKLOG) push_some(c);
    else poll(NULL, 0, TICK_MS);
  }
  look_at_all(c);
}

/* Judgement. */

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static int by_job_and_epoch(const void *a, const void *b) {
  const event *one = a, *other = b;
  if (one->job != other->job) return one->job < other->job ? -1 : 1;
  if (one->epoch != other->epoch) return one->epoch < other->epoch ? -1 : 1;
  return one->kind - other->kind;
}

static int by_value(const void *a, const void *b) {
  int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;
  return (one > other) - (one < other);
}

typedef struct verdict {
  long never_ran, runs, twice_acked, acked, stale, same_epoch, too_often, waits;
  int64_t p50_ms, p99_ms, most_ms;
} verdict;

/* The events of one job, in the order of their epochs. */
static void look_at_job(const event *events, size_t count, verdict *v, int64_t *waits) {
  long runs = 0, acks = 0;
  const event *last = NULL;
  for (size_t i = 0; i < count; i++) {
    const event *e = &events[i];
    if (e->kind == ACKED) {
      acks++;
      continue;
    }
    if (acks > 0) v->stale++; /* handed out again after its end was accepted */
    if (last != NULL && e->epoch == last->epoch) v->same_epoch++;
    if (last != NULL) waits[v->waits++] = e->at_ns - last->at_ns;
    if (e->attempt < ++runs) v->too_often++; /* each run but the first came after a lease that ended */
    last = e;
  }
  v->runs += runs;
  v->acked += acks;
  if (acks > 1) v->twice_acked++;
}

static verdict look_at(event *events, size_t count, long jobs) {
  verdict v = {0};
  int64_t *waits = calloc(count + 1, sizeof *waits);
  if (waits == NULL) die("calloc");
  qsort(events, count, sizeof *events, by_job_and_epoch);
  long seen = 0;
  for (size_t i = 0, end; i < count; i = end) {
    for (end = i; end < count && events[end].job == events[i].job; end++) continue;
    look_at_job(&events[i], end - i, &v, waits);
    seen++;
  }
  v.never_ran = jobs - seen;
  qsort(waits, (size_t)v.waits, sizeof *waits, by_value);
  if (v.waits > 0) {
    v.p50_ms = waits[v.waits / 2] / 1000000;
    v.p99_ms = waits[v.waits * 99 / 100] / 1000000;
    v.most_ms = waits[v.waits - 1] / 1000000;
  }
  free(waits);
  return v;
}

static void judge(const conductor *c, bool timed, event *events, size_t count) {
  const phase *p = c->p;
  redmoon_queue_counts counts = {0};
  bool known = redmoon_queue_stats(c->queue, &counts, NULL) == 0;
  verdict v = look_at(events, count, p->jobs);
  printf("%ld workers killed, the server %ld times; %ld pushes repeated; %ld looks; %ld jobs: %ld runs, %ld ends accepted and "
         "noted, %ld never ran\n",
         c->kills, c->restarts, c->unknown, c->looks, p->jobs, v.runs, v.acked, v.never_ran);
  printf("%ld jobs ran again, %" PRId64 " ms after their run before (p50), %" PRId64 " (p99), %" PRId64
         " (most); the lease is %d\n", v.waits, v.p50_ms, v.p99_ms, v.most_ms, LEASE_MS);
  check(known && c->pushed == p->jobs && counts.pushed == p->jobs && counts.finished == p->jobs && c->kills > 0,
        "all jobs went through, past killed workers");
  check(c->looks > 10 && c->unequal == 0 && c->faults == 0, "at every look each job was in exactly one place");
  if (!p->leases) {
    check(v.never_ran > 0, "without leases jobs are seen to be lost");
    return;
  }
  check(c->restarts == p->restarts, "the server was killed as often as it was to be");
  check(v.never_ran == 0, "every job ran");
  check(c->grouped > 0, "jobs of groups were seen to be leased, never more of one than may be");
  check(v.twice_acked == 0 && v.same_epoch == 0, "no two runs had one epoch, and no job ended twice");
  check(v.stale == 0, "no job was handed out after its end was accepted, and no old epoch was accepted");
  check(v.too_often == 0, "no job ran oftener than its leases ended");
  if (p->restarts == 0) check(v.waits > 0, "jobs of killed workers ran again");
  if (timed) check(v.p99_ms <= LEASE_MS + 1000, "99 of 100 of them within the lease and a second");
}

static event *read_events(int file, size_t *count) {
  struct stat st;
  if (fstat(file, &st) != 0) die("fstat");
  event *events = malloc((size_t)st.st_size + 1);
  if (events == NULL || pread(file, events, (size_t)st.st_size, 0) != (ssize_t)st.st_size) die("read");
  *count = (size_t)st.st_size / sizeof *events;
  return events;
}

static void run(const phase *p, uint64_t seed, bool timed) {
  printf("%s:\n", p->name);
  fflush(NULL); /* or the children print it again */
  static const char *const safe[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){.args = p->restarts > 0 ? safe : NULL});
  char path[256];
  snprintf(path, sizeof path, "%s/runs", redis_server_dir(server));
  conductor c = {.p = p, .server = server, .url = redis_server_url(server), .rng = seed};
  c.file = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
  if (c.file < 0) die(path);
  for (int i = 0; i < WORKERS; i++) c.pids[i] = give_birth(p, c.url, c.file, i, next(&c.rng));
  redmoon_error err;
  if (redmoon_client_open(c.url, NULL, &c.client, &err) != 0) die(err.message);
  c.queue = open_queue(c.client);
  int64_t began_ns = now_ns();
  conduct(&c);
  for (int i = 0; i < WORKERS; i++) {
    kill(c.pids[i], SIGKILL);
    waitpid(c.pids[i], NULL, 0);
  }
  printf("%.1f s\n", (double)(now_ns() - began_ns) / 1e9);
  size_t count;
  event *events = read_events(c.file, &count);
  judge(&c, timed, events, count);
  free(events);
  close(c.file);
  redmoon_queue_free(c.queue);
  redmoon_client_close(c.client);
  redis_server_stop(server);
}

static long number_of(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text != NULL ? atol(text) : otherwise;
}

int main(void) {
  uint64_t seed = (uint64_t)number_of("SEED", 20261125);
  long jobs = number_of("REDMOON_SOAK_JOBS", JOBS), restarts = number_of("REDMOON_SOAK_RESTARTS", RESTARTS);
  bool timed = getenv("REDMOON_SOAK_JOBS") != NULL;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_JOBS=%ld REDMOON_SOAK_RESTARTS=%ld\n", seed, jobs, restarts);
  run(&(phase){"killed", jobs, 0, true}, seed, timed);
  run(&(phase){"restarted", 100 * (restarts + 1), restarts, true}, seed + 1, false);
  run(&(phase){"unleased", CONTROL_JOBS, 0, false}, seed + 2, false);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
