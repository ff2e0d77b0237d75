/* SPDX-License-Identifier: MIT */
/* Many threads, each a GET after the other:
 *
 *      callers ADDRESS hiredis|pool|multiplex-<threads> SECONDS
 *
 *  hiredis: each thread has a connection of its own; pool: they share a client; multiplex: one whose calls share
 *  connections.  Prints one line of JSON; p99 is that of single calls, in microseconds. */
#include "shared/bench.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <redmoon/redmoon.h>
#include <stdatomic.h>

enum { THREADS_MAX = 1024, BUCKETS = 20000 }; /* of a microsecond each */

static atomic_bool stopped;
static redmoon_client *client; /* NULL: hiredis */
static char host[512];
static int port;

typedef struct caller {
  pthread_t thread;
  redisContext *context;
  long ops, late[BUCKETS];
} caller;

static void get_by_hiredis(caller *self) {
  redisReply *reply = redisCommandArgv(self->context, 2, (const char *[]){"GET", bench_keys[0]}, NULL);
  bench_expect(reply && reply->type == REDIS_REPLY_STRING && reply->len == BENCH_SMALL, "a string of the stored length");
  freeReplyObject(reply);
}

static void get_by_redmoon(void) {
  redmoon_reply *reply;
  redmoon_error err;
  size_t len = 0;
  if (redmoon_command(client, 2, (const char *const[]){"GET", bench_keys[0]}, NULL, &reply, &err) < 0)
    bench_fail("command", err.message);
  bench_expect(redmoon_reply_string(reply, &len) && len == BENCH_SMALL, "a string of the stored length");
  redmoon_reply_free(reply);
}

static void *call(void *arg) {
  caller *self = arg;
  while (!atomic_load_explicit(&stopped, memory_order_relaxed)) {
    double began = bench_now();
    if (client == NULL) get_by_hiredis(self);
    else get_by_redmoon();
    long took = (long)((bench_now() - began) * 1e6);
    self->late[took < BUCKETS ? took : BUCKETS - 1]++;
    self->ops++;
  }
  return NULL;
}

static void open_client(bool multiplex) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  char url[600];
  options.multiplex = multiplex;
  if (port) snprintf(url, sizeof url, "redis://%s:%d", host, port);
  else snprintf(url, sizeof url, "unix://%s", host);
  if (redmoon_client_open(url, &options, &client, &err) < 0) bench_fail("open", err.message);
}

static long p99(const caller *callers, int count, long ops) {
  long seen = 0;
  for (int us = 0; us < BUCKETS; us++) {
    for (int i = 0; i < count; i++) seen += callers[i].late[us];
    if (seen >= ops - ops / 100) return us;
  }
  return BUCKETS;
}

int main(int argc, char **argv) {
  if (argc != 4 || strchr(argv[2], '-') == NULL) bench_fail("usage", "callers ADDRESS hiredis|pool|multiplex-<threads> SECONDS");
  int count = atoi(strchr(argv[2], '-') + 1);
  if (count < 1 || count > THREADS_MAX) bench_fail("usage", "from 1 to 1024 threads");
  port = bench_address(argv[1], host, sizeof host);
  for (int i = 0; i < BENCH_KEYS; i++) snprintf(bench_keys[i], sizeof bench_keys[i], "bench:key:%04d", i);
  bool plain = strncmp(argv[2], "hiredis", 7) == 0;
  if (!plain) open_client(strncmp(argv[2], "multiplex", 9) == 0);
  caller *callers = calloc((size_t)count, sizeof *callers);
  if (!callers) bench_fail("callers", "no memory");
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  double began = bench_now();
  for (int i = 0; i < count; i++) {
    if (plain) {
      callers[i].context = port ? redisConnect(host, port) : redisConnectUnix(host);
      if (!callers[i].context || callers[i].context->err) bench_fail("connect", "refused");
    }
    if (pthread_create(&callers[i].thread, NULL, call, &callers[i]) != 0) bench_fail("thread", "cannot be made");
  }
  double seconds = strtod(argv[3], NULL);
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
  atomic_store(&stopped, true);
  long ops = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(callers[i].thread, NULL);
    ops += callers[i].ops;
    if (plain) redisFree(callers[i].context);
  }
  seconds = bench_now() - began;
  getrusage(RUSAGE_SELF, &after);
  double cpu = bench_seconds(after.ru_utime) - bench_seconds(before.ru_utime) + bench_seconds(after.ru_stime) -
               bench_seconds(before.ru_stime);
  printf("{\"work\":\"%s\",\"ops\":%ld,\"seconds\":%.6f,\"cpu_us\":%.3f,\"p99_us\":%ld}\n", argv[2], ops, seconds,
         cpu * 1e6 / (double)ops, p99(callers, count, ops));
  free(callers);
  redmoon_client_close(client);
  return 0;
}
