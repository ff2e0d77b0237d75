/* SPDX-License-Identifier: MIT */
/* 1,000 threads of 8 processes ask a cache for one key at the same moment.
 *
 *   cold    nothing is there: one loads, and all have its value.  The load ends only when all have asked.
 *   stale   what is there is stale: one loads, and the others are served.  The load ends only when they all are: nobody waits.
 *   early   what is there is fresh, but all are told by XFetch to load it: one does, and nobody waits.
 *   killed  the process that loads is killed: one of the others loads when its lease is over, and all have the value.
 *   plain   the control: GET, and load and SET when it is missing.  It must load more than once: its load ends only when
 *           another has begun.
 *
 *  Processes are forked while the one that forks has no client, and so no other thread: in a child the address sanitizer
 *  of gcc 12 waits for ever for a lock of its allocator that a thread held which is not there.
 *
 *  Whoever waits for others does so on a condition that all processes share: 1,000 threads that look again and again would
 *  leave a small machine nothing to load with.  No lease and no limit runs out while a slow machine is at work; what is
 *  loaded lives for a day, and is loaded early in no case but that.
 *
 *      REDMOON_SOAK_ROUNDS=<n> cache_stampede */
#include "patterns/cache.h"
#include "support/redis_server.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 8, THREADS = 125, ALL = PROCESSES * THREADS, LIMIT_MS = 300000, LEASE_MS = 500, DAY_MS = 86400000 };
#define ENTRY "redmoon:{k}:c.cache"

typedef enum kind { COLD, STALE, EARLY, KILLED, PLAIN } kind;
static const char *const names[] = {"cold", "stale", "early", "killed", "plain"};

/* Between the processes. */
typedef struct shared {
  kind kind;
  char url[200];
  pthread_mutex_t lock; /* of all below */
  pthread_cond_t changed;
  int ready, asked, served, loads, failures, others; /* others: values that were not expected */
  int victim_loads;
  char why[600]; /* the first get that failed */
} shared;

static int passed, failed;

static void check(bool holds, kind k, const char *what, int seen) {
  if (holds) passed++;
  else failed++;
  if (!holds) printf("FAILED: %s: %s (%d)\n", names[k], what, seen);
}

/* Waiting for each other. */

static shared *shared_new(kind k, const char *url) {
  shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (s == MAP_FAILED) exit(2);
  pthread_mutexattr_t mutex;
  pthread_condattr_t cond;
  pthread_mutexattr_init(&mutex);
  pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&s->lock, &mutex);
  pthread_condattr_init(&cond);
  pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
  pthread_condattr_setclock(&cond, CLOCK_MONOTONIC);
  pthread_cond_init(&s->changed, &cond);
  s->kind = k;
  snprintf(s->url, sizeof s->url, "%s", url);
  return s;
}

/* All are waited for, or all but one, or the first two. */
static void add(shared *s, int *count) {
  pthread_mutex_lock(&s->lock);
  int now = ++*count;
  if (now <= 2 || now >= ALL - 1) pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static int look(shared *s, const int *count) {
  pthread_mutex_lock(&s->lock);
  int now = *count;
  pthread_mutex_unlock(&s->lock);
  return now;
}

/* Until so many were counted; false: not within the limit. */
static bool await(shared *s, const int *count, int wanted) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += LIMIT_MS / 1000;
  pthread_mutex_lock(&s->lock);
  while (*count < wanted && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0) {
  }
  bool enough = *count >= wanted;
  pthread_mutex_unlock(&s->lock);
  return enough;
}

static void note_failure(shared *s, const char *why) {
  pthread_mutex_lock(&s->lock);
  if (s->failures++ == 0) snprintf(s->why, sizeof s->why, "%s", why);
  pthread_mutex_unlock(&s->lock);
}

/* Getting. */

static redmoon_cache *cache_of(redmoon_client *client, kind k) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "c";
  options.ttl_ms = options.stale_ttl_ms = DAY_MS;
  options.jitter_ppm = 0;
  options.lease_ms = DAY_MS;
  if (k != EARLY) options.early_refresh_ppm = 0;
  options.on_error = "error";
  redmoon_cache *cache = NULL;
  (void)!redmoon_cache_new(client, &options, &cache, NULL);
  return cache;
}

static int load(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  (void)count;
  shared *s = ctx;
  add(s, &s->loads);
  bool alone = s->kind == STALE || s->kind == EARLY;
  if (!await(s, alone ? &s->served : &s->asked, alone ? ALL - 1 : ALL)) return -1;
  if (s->kind == PLAIN && !await(s, &s->loads, 2)) return -1;
  out[0] = (redmoon_cache_loaded){REDMOON_CACHE_VALUE, "new", 3, NULL, NULL, 0};
  return 0;
}

/* One of the control. */
static bool get_plain(redmoon_client *client, shared *s) {
  redmoon_reply *reply;
  redmoon_cache_loaded value;
  if (redmoon_command(client, 2, (const char *[]){"GET", ENTRY}, NULL, &reply, NULL) != 0) return false;
  bool there = redmoon_reply_type(reply) == REDMOON_STRING;
  redmoon_reply_free(reply);
  if (there) return true;
  if (load(s, NULL, 1, &value) != 0) return false;
  if (redmoon_command(client, 3, (const char *[]){"SET", ENTRY, "new"}, NULL, &reply, NULL) != 0) return false;
  redmoon_reply_free(reply);
  return true;
}

typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  redmoon_cache *cache;
  shared *all;
} worker;

static void *ask_once(void *ctx) {
  worker *w = ctx;
  shared *s = w->all;
  const redmoon_cache_key key = {"k", 1, NULL, 0};
  redmoon_cache_result result = {0};
  redmoon_error err = {.message = "not all were there in time, or a command failed"};
  add(s, &s->ready);
  bool well = await(s, &s->ready, ALL);
  add(s, &s->asked);
  if (s->kind == PLAIN) well = well && get_plain(w->client, s);
  else well = well && redmoon_cache_get(w->cache, &key, load, s, &result, &err) == 0;
  if (!well) note_failure(s, err.message);
  bool old = result.found && memcmp(result.value, "old", 3) == 0;
  bool is_new = result.found && memcmp(result.value, "new", 3) == 0;
  if (well && s->kind != PLAIN && !is_new && !(old && (s->kind == STALE || s->kind == EARLY))) add(s, &s->others);
  redmoon_cache_result_fini(&result);
  add(s, &s->served);
  return NULL;
}

static void live(shared *s) {
  redmoon_client *client;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_timeout_ms = options.timeout_ms = options.read_timeout_ms = LIMIT_MS;
  options.connect_timeout_ms = LIMIT_MS;
  if (redmoon_client_open(s->url, &options, &client, NULL) != 0) _exit(1);
  redmoon_cache *cache = cache_of(client, s->kind);
  static worker workers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.client = client, .cache = cache, .all = s};
    if (pthread_create(&workers[i].thread, NULL, ask_once, &workers[i]) != 0) _exit(2);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  redmoon_cache_free(cache);
  redmoon_client_close(client);
  _exit(0);
}

/* The one that is killed in its load. */
static int load_for_ever(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  (void)keys;
  (void)count;
  (void)out;
  shared *s = ctx;
  add(s, &s->victim_loads);
  while (pause() < 0) {
  }
  return -1;
}

static pid_t give_birth_to_victim(shared *s) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid != 0) return pid;
  redmoon_client *client;
  redmoon_cache *cache;
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  redmoon_cache_result result;
  options.name = "c";
  options.ttl_ms = 600000;
  options.lease_ms = LEASE_MS;
  if (redmoon_client_open(s->url, NULL, &client, NULL) != 0 || redmoon_cache_new(client, &options, &cache, NULL) != 0) _exit(1);
  (void)!redmoon_cache_get(cache, &(redmoon_cache_key){"k", 1, NULL, 0}, load_for_ever, s, &result, NULL);
  _exit(1);
}

/* A client for a moment. */
static redmoon_client *open_client(const redis_server *server) {
  redmoon_client *client;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_timeout_ms = options.timeout_ms = options.read_timeout_ms = options.connect_timeout_ms = LIMIT_MS;
  if (redmoon_client_open(redis_server_url(server), &options, &client, NULL) != 0) exit(2);
  return client;
}

static void set(redmoon_client *client, const void *bytes, size_t len, const char *left_ms) {
  redmoon_reply *reply;
  const char *const argv[] = {"SET", ENTRY, bytes, "PX", left_ms};
  const size_t lens[] = {3, strlen(ENTRY), len, 2, strlen(left_ms)};
  if (redmoon_command(client, 5, argv, lens, &reply, NULL) == 0) redmoon_reply_free(reply);
}

/* An entry that says "old": stale, or fresh and slow to load. */
static void prepare(const redis_server *server, kind k) {
  redmoon_reply *reply;
  redmoon_client *client = open_client(server);
  if (redmoon_command(client, 1, (const char *[]){"FLUSHALL"}, NULL, &reply, NULL) == 0) redmoon_reply_free(reply);
  rm_entry entry = {false, 0, 600000, 1200000, k == EARLY ? INT64_C(0xFFFFFFFF) : 1, "old", 3, NULL, 0, false};
  unsigned char bytes[RM_ENTRY_HEADER + 3];
  const rm_secret none = {NULL, 0};
  rm_entry_write(&entry, (redmoon_bytes){ENTRY, strlen(ENTRY)}, &none, bytes);
  if (k == STALE || k == EARLY) set(client, bytes, sizeof bytes, k == STALE ? "500000" : "1200000");
  redmoon_client_close(client);
}

static bool holds_new(const redis_server *server) {
  redmoon_client *client = open_client(server);
  redmoon_cache *cache = cache_of(client, COLD);
  redmoon_cache_result result;
  bool is_new = redmoon_cache_peek(cache, "k", 1, &result, NULL) == 0 && result.found && memcmp(result.value, "new", 3) == 0;
  redmoon_cache_result_fini(&result);
  redmoon_cache_free(cache);
  redmoon_client_close(client);
  return is_new;
}

static void run(kind k, const redis_server *server) {
  shared *s = shared_new(k, redis_server_url(server));
  prepare(server, k);
  pid_t victim = k == KILLED ? give_birth_to_victim(s) : -1, pids[PROCESSES];
  if (k == KILLED) check(await(s, &s->victim_loads, 1), k, "the first one loads", 0);
  fflush(NULL);
  for (int i = 0; i < PROCESSES; i++)
    if ((pids[i] = fork()) == 0) live(s);
  if (k == KILLED) {
    check(await(s, &s->asked, ALL), k, "all have asked", look(s, &s->asked));
    kill(victim, SIGKILL);
    waitpid(victim, NULL, 0);
  }
  int well = 0, status;
  for (int i = 0; i < PROCESSES; i++) well += waitpid(pids[i], &status, 0) == pids[i] && status == 0;
  check(well == PROCESSES, k, "every process has ended well", well);
  check(s->failures == 0, k, "every get has ended well", s->failures);
  if (s->failures > 0) printf("the first that failed: %s\n", s->why);
  check(s->served == ALL, k, "all were served", s->served);
  check(s->others == 0, k, "all have the value", s->others);
  printf("%-6s %d gets, %d loads\n", names[k], ALL, s->loads);
  check(k == PLAIN ? s->loads > 1 : s->loads == 1, k, "one load, and of the control more", s->loads);
  if (k != PLAIN) check(holds_new(server), k, "the new value is stored", 0);
  munmap(s, sizeof *s);
}

int main(void) {
  const char *text = getenv("REDMOON_SOAK_ROUNDS");
  int rounds = text != NULL ? atoi(text) : 2;
  printf("REDMOON_SOAK_ROUNDS=%d\n", rounds);
  const char *args[] = {"--maxclients", "2000", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){.args = args});
  for (int i = 0; i < rounds; i++)
    for (kind k = COLD; k <= KILLED; k++) run(k, server);
  run(PLAIN, server);
  redis_server_stop(server);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
