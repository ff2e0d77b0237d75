/* SPDX-License-Identifier: MIT */
/* Redmoon from C: the public blocking API with its default options. */
#include "shared/bench.h"

#include <redmoon/redmoon.h>

static redmoon_client *client;
static redmoon_error err;

static void open_connection(const char *host, int port) {
  char url[512];
  const char *seed = bench_cluster_host(host);
  if (seed) snprintf(url, sizeof url, "redis+cluster://%s:%d", seed, port);
  else if (port) snprintf(url, sizeof url, "redis://%s:%d", host, port);
  else snprintf(url, sizeof url, "unix://%s", host);
  if (redmoon_client_open(url, NULL, &client, &err) < 0) bench_fail("open", err.message);
}

static void expect_string(const redmoon_reply *reply, size_t len) {
  size_t got = 0;
  const char *text = redmoon_reply_string(reply, &got);
  bench_expect(text && redmoon_reply_type(reply) == REDMOON_STRING && got == len, "a string of the stored length");
}

static redmoon_reply *command(int argc, const char *const *argv) {
  redmoon_reply *reply;
  if (redmoon_command(client, argc, argv, NULL, &reply, &err) < 0) bench_fail("command", err.message);
  return reply;
}

static void get(bool full) {
  (void)full;
  redmoon_reply *reply = command(2, (const char *const[]){"GET", bench_keys[0]});
  expect_string(reply, BENCH_SMALL);
  redmoon_reply_free(reply);
}

static void get_any(bool full) {
  static size_t next;
  (void)full;
  redmoon_reply *reply = command(2, (const char *const[]){"GET", bench_keys[next]});
  expect_string(reply, BENCH_SMALL);
  redmoon_reply_free(reply);
  next = (next + 1) % BENCH_KEYS;
}

static void get_big(bool full) {
  (void)full;
  redmoon_reply *reply = command(2, (const char *const[]){"GET", "bench:big"});
  expect_string(reply, BENCH_BIG);
  redmoon_reply_free(reply);
}

static void set(bool full) {
  (void)full;
  redmoon_reply *reply = command(3, (const char *const[]){"SET", "bench:set", BENCH_SMALL_VALUE});
  const char *text = redmoon_reply_string(reply, NULL);
  bench_expect(redmoon_reply_type(reply) == REDMOON_STATUS && text && strcmp(text, "OK") == 0, "OK");
  redmoon_reply_free(reply);
}

static void pipeline(size_t count) {
  redmoon_pipeline *pipeline;
  if (redmoon_pipeline_new(client, &pipeline, &err) < 0) bench_fail("pipeline", err.message);
  for (size_t i = 0; i < count; i++)
    if (redmoon_pipeline_command(pipeline, 2, (const char *const[]){"GET", bench_keys[i]}, NULL, &err) < 0)
      bench_fail("append", err.message);
  if (redmoon_pipeline_run(pipeline, &err) < 0) bench_fail("pipeline", err.message);
  for (size_t i = 0; i < count; i++) expect_string(redmoon_pipeline_result(pipeline, i).reply, BENCH_SMALL);
  redmoon_pipeline_free(pipeline);
}

static void pipeline_100(bool full) {
  (void)full;
  pipeline(100);
}

static void pipeline_1000(bool full) {
  (void)full;
  pipeline(1000);
}

static void expect_elements(redmoon_reply *reply, size_t count, size_t len, bool full) {
  bench_expect(redmoon_reply_type(reply) == REDMOON_ARRAY && redmoon_reply_count(reply) == count,
               "an array of the stored size");
  for (size_t i = 0; full && i < count; i++) expect_string(redmoon_reply_at(reply, i), len);
  expect_string(redmoon_reply_at(reply, 0), len);
  expect_string(redmoon_reply_at(reply, count - 1), len);
  redmoon_reply_free(reply);
}

static void list(bool full) {
  redmoon_reply *reply = command(4, (const char *const[]){"LRANGE", "bench:list", "0", "-1"});
  expect_elements(reply, BENCH_LIST, BENCH_ITEM, full);
}

static void hash(bool full) {
  redmoon_reply *reply = command(2, (const char *const[]){"HGETALL", "bench:hash"});
  bench_expect(redmoon_reply_type(reply) == REDMOON_MAP && redmoon_reply_count(reply) == BENCH_KEYS,
               "a map of the stored size");
  for (size_t i = 0; full && i < BENCH_KEYS; i++) expect_string(redmoon_reply_value(reply, i), BENCH_SMALL);
  expect_string(redmoon_reply_value(reply, 0), BENCH_SMALL);
  expect_string(redmoon_reply_value(reply, BENCH_KEYS - 1), BENCH_SMALL);
  redmoon_reply_free(reply);
}

static void many_of(int count, bool full) {
  const char *argv[BENCH_KEYS + 1] = {"MGET"};
  for (int i = 0; i < count; i++) argv[i + 1] = bench_keys[i];
  expect_elements(command(count + 1, argv), (size_t)count, BENCH_SMALL, full);
}

static void many(bool full) { many_of(BENCH_KEYS, full); }
static void many_100(bool full) { many_of(100, full); }

/* Patterns. */

static void lock(bool full) {
  (void)full;
  redmoon_lock *held;
  if (redmoon_lock_acquire(client, "bench", 5, NULL, &held, &err) < 0) bench_fail("lock", err.message);
  if (redmoon_lock_release(held, &err) < 0) bench_fail("release", err.message);
  redmoon_lock_free(held);
}

static void rate(bool full) {
  static redmoon_rate_limiter *limiter;
  redmoon_rate_result result;
  if (full) {
    redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
    options.algorithm = "gcra";
    options.name = "bench";
    options.limit = strtol(BENCH_LIMIT_TEXT, NULL, 10);
    options.window_ms = 1000;
    if (redmoon_rate_limiter_new(client, &options, &limiter, &err) < 0) bench_fail("limiter", err.message);
  }
  if (redmoon_rate_limiter_allow(limiter, "bench", 5, NULL, &result, &err) < 0) bench_fail("allow", err.message);
  bench_expect(result.allowed, "allowed");
}

static void count(bool full) {
  static redmoon_counter *counter;
  redmoon_counter_result result;
  if (full) {
    redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
    options.window_ms = 60000;
    if (redmoon_counter_new(client, "bench", &options, &counter, &err) < 0) bench_fail("counter", err.message);
  }
  if (redmoon_counter_increment(counter, "bench", 5, 1, NULL, &result, &err) < 0) bench_fail("count", err.message);
  bench_expect(result.applied == 1, "counted");
}

static const bench_work works[] = {
    {"get", get, 1},
    {"get_any", get_any, 1},
    {"set", set, 1},
    {"get64k", get_big, 1},
    {"pipe100", pipeline_100, 100},
    {"pipe1000", pipeline_1000, 1000},
    {"lrange", list, 1},
    {"hgetall", hash, 1},
    {"mget", many, 1},
    {"mget100", many_100, 1},
    {"lock", lock, 2},
    {"rate", rate, 1},
    {"counter", count, 1},
};

int main(int argc, char **argv) {
  int status = bench_main(argc, argv, works, sizeof works / sizeof works[0], open_connection);
  redmoon_client_close(client);
  return status;
}
