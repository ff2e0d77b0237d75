/* SPDX-License-Identifier: MIT */
/* What the C peers share: the command line, the clock loop, what a process used, the one line of JSON. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BENCH_KEYS = 1000, BENCH_SMALL = 16, BENCH_BIG = 65536, BENCH_LIST = 10000, BENCH_ITEM = 32 };
#define BENCH_SMALL_VALUE "0123456789abcdef"
enum { BENCH_MANY = 50, BENCH_BULK = 500 }; /* jobs */
#define BENCH_JOB \
  "{\"text\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}" /* 99 bytes */
#define BENCH_JSON_ID 9007199254740993 /* of the cached object; no double holds it */
#define BENCH_LIMIT_TEXT "100000" /* of the rate limiter, a second: nobody is refused */

/* One operation of a work; `full` asks for a look at every element, else count, first and last are checked. */
typedef void (*bench_op)(bool full);
typedef struct bench_work {
  const char *name;
  bench_op run;
  long commands; /* in one operation */
} bench_work;

static char bench_keys[BENCH_KEYS][20];

static inline _Noreturn void bench_fail(const char *what, const char *detail) {
  fprintf(stderr, "bench: %s: %s\n", what, detail);
  exit(1);
}

static inline void bench_expect(bool ok, const char *what) {
  if (!ok) bench_fail("unexpected reply", what);
}

static inline double bench_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* VmHWM of this program; ru_maxrss would count what ran in the process before exec. */
static inline long bench_peak_kib(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long kib = 0;
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, NULL, 10);
  if (file) fclose(file);
  return kib;
}

static inline double bench_seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

/* "127.0.0.1:6400" or "unix:/path" -> host and port, or path and 0. */
static inline int bench_address(const char *address, char *host, size_t size) {
  const char *colon = strrchr(address, ':');
  bool local = strncmp(address, "unix:", 5) == 0;
  if (!local && !colon) bench_fail("address", "accepted: HOST:PORT or unix:PATH");
  int len = local ? (int)strlen(address + 5) : (int)(colon - address);
  snprintf(host, size, "%.*s", len, local ? address + 5 : address);
  return local ? 0 : (int)strtol(colon + 1, NULL, 10);
}

/* Of a host "cluster:127.0.0.1" what comes behind the colon; NULL: it is no cluster's. */
static inline const char *bench_cluster_host(const char *host) {
  return strncmp(host, "cluster:", 8) == 0 ? host + 8 : NULL;
}

/* Runs the work for a number of operations ("20000") or of seconds ("0.25s"). */
static inline void bench_measure(const bench_work *work, const char *budget) {
  bool timed = strchr(budget, 's') != NULL;
  double limit = strtod(budget, NULL);
  long chunk = strcmp(work->name + 1, "et") == 0 || strcmp(work->name, "get64k") == 0 ? 16 : 1, rounds = 0;
  if (!(limit > 0)) bench_fail("budget", "accepted: a count of operations (20000) or seconds (0.25s)");
  struct rusage before, after;
  work->run(true);
  getrusage(RUSAGE_SELF, &before);
  double begin = bench_now(), seconds;
  do {
    for (long i = 0; i < chunk; i++) work->run(false);
    rounds += chunk;
    seconds = bench_now() - begin;
  } while (timed ? seconds < limit : rounds < (long)limit);
  getrusage(RUSAGE_SELF, &after);
  printf("{\"work\":\"%s\",\"ops\":%ld,\"seconds\":%.6f,\"cpu_user\":%.6f,\"cpu_sys\":%.6f,\"peak_kib\":%ld}\n",
         work->name, rounds * work->commands, seconds,
         bench_seconds(after.ru_utime) - bench_seconds(before.ru_utime),
         bench_seconds(after.ru_stime) - bench_seconds(before.ru_stime), bench_peak_kib());
}

/* Opens the address and measures the work named on the command line. */
static inline int bench_main(int argc, char **argv, const bench_work *works, size_t count,
                             void (*open)(const char *host, int port)) {
  if (argc != 4) bench_fail("usage", "<program> HOST:PORT|unix:PATH WORK COUNT|SECONDSs");
  for (int i = 0; i < BENCH_KEYS; i++) snprintf(bench_keys[i], sizeof bench_keys[i], "bench:key:%04d", i);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(works[i].name, argv[2]) != 0) continue;
    char host[256];
    int port = bench_address(argv[1], host, sizeof host);
    open(host, port);
    bench_measure(&works[i], argv[3]);
    return 0;
  }
  bench_fail("unknown work", argv[2]);
}

#endif
