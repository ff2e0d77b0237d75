/* SPDX-License-Identifier: MIT */
/* The yardstick: a plain loop of hiredis' blocking calls, as its documentation shows it. */
#include "shared/bench.h"

#include "patterns/scripts_generated.h"

#include <hiredis/hiredis.h>
#include <jansson.h>

static redisContext *context;

static void open_connection(const char *host, int port) {
  context = port ? redisConnect(host, port) : redisConnectUnix(host);
  if (!context || context->err) bench_fail("connect", context ? context->errstr : "no memory");
}

static void expect_string(const redisReply *reply, size_t len) {
  bench_expect(reply && reply->type == REDIS_REPLY_STRING && reply->len == len, "a string of the stored length");
}

static redisReply *command(int argc, const char **argv) {
  redisReply *reply = redisCommandArgv(context, argc, argv, NULL);
  if (!reply || reply->type == REDIS_REPLY_ERROR) bench_fail("command", reply ? reply->str : context->errstr);
  return reply;
}

static void get(bool full) {
  (void)full;
  redisReply *reply = command(2, (const char *[]){"GET", bench_keys[0]});
  expect_string(reply, BENCH_SMALL);
  freeReplyObject(reply);
}

static void get_big(bool full) {
  (void)full;
  redisReply *reply = command(2, (const char *[]){"GET", "bench:big"});
  expect_string(reply, BENCH_BIG);
  freeReplyObject(reply);
}

static void set(bool full) {
  (void)full;
  redisReply *reply = command(3, (const char *[]){"SET", "bench:set", BENCH_SMALL_VALUE});
  bench_expect(reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0, "OK");
  freeReplyObject(reply);
}

static void pipeline(size_t count) {
  for (size_t i = 0; i < count; i++)
    if (redisAppendCommandArgv(context, 2, (const char *[]){"GET", bench_keys[i]}, NULL) != REDIS_OK)
      bench_fail("append", context->errstr);
  for (size_t i = 0; i < count; i++) {
    void *reply = NULL;
    if (redisGetReply(context, &reply) != REDIS_OK) bench_fail("pipeline", context->errstr);
    expect_string(reply, BENCH_SMALL);
    freeReplyObject(reply);
  }
}

static void pipeline_100(bool full) {
  (void)full;
  pipeline(100);
}

static void pipeline_1000(bool full) {
  (void)full;
  pipeline(1000);
}

static void expect_elements(redisReply *reply, size_t count, size_t len, bool full, size_t stride) {
  bench_expect(reply->type == REDIS_REPLY_ARRAY && reply->elements == count, "an array of the stored size");
  for (size_t i = stride - 1; full && i < count; i += stride) expect_string(reply->element[i], len);
  expect_string(reply->element[stride - 1], len);
  expect_string(reply->element[count - 1], len);
  freeReplyObject(reply);
}

static void list(bool full) {
  redisReply *reply = command(4, (const char *[]){"LRANGE", "bench:list", "0", "-1"});
  expect_elements(reply, BENCH_LIST, BENCH_ITEM, full, 1);
}

static void hash(bool full) {
  redisReply *reply = command(2, (const char *[]){"HGETALL", "bench:hash"});
  expect_elements(reply, 2 * (size_t)BENCH_KEYS, BENCH_SMALL, full, 2);
}

static void many(bool full) {
  const char *argv[BENCH_KEYS + 1] = {"MGET"};
  for (int i = 0; i < BENCH_KEYS; i++) argv[i + 1] = bench_keys[i];
  expect_elements(command(BENCH_KEYS + 1, argv), BENCH_KEYS, BENCH_SMALL, full, 1);
}

/* Patterns: the commands that Redmoon sends for them. */

static redisReply *run(const rm_builtin *script, int argc, const char **argv, bool load) {
  if (load) freeReplyObject(command(3, (const char *[]){"SCRIPT", "LOAD", script->source}));
  argv[0] = "EVALSHA";
  argv[1] = script->sha1;
  redisReply *reply = command(argc, argv);
  bench_expect(reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 && reply->element[0]->integer == 1, "success");
  return reply;
}

static void lock(bool full) {
  const char *acquire[] = {0, 0, "3", "redmoon:{bench}:lock", "redmoon:{bench}:fence", "redmoon:{bench}:lock.beats",
                           "0123456789abcdef0123456789abcdef", "10000", "1", "0"};
  const char *release[] = {0, 0, "1", "redmoon:{bench}:lock", "0123456789abcdef0123456789abcdef", "1"};
  freeReplyObject(run(&rm_script_lock_acquire, 10, acquire, full));
  freeReplyObject(run(&rm_script_lock_release, 6, release, full));
}

static void rate(bool full) {
  const char *argv[] = {0, 0, "1", "redmoon:{bench}:bench.gcra", "1", "0", "1", "gcra", BENCH_LIMIT_TEXT, "1000000",
                        BENCH_LIMIT_TEXT};
  freeReplyObject(run(&rm_script_rate_allow, 11, argv, full));
}

static void counter(bool full) {
  const char *argv[] = {0, 0, "1", "redmoon:{bench}:bench.count", "1", "-9223372036854775808", "9223372036854775807", "refuse",
                        "window", "60000"};
  freeReplyObject(run(&rm_script_counter_increment, 10, argv, full));
}

/* A value of the cache: read and decoded. */
static void cached(bool full) {
  (void)full;
  redisReply *reply = command(2, (const char *[]){"GET", "bench:json"});
  json_t *value = json_loadb(reply->str, reply->len, JSON_REJECT_DUPLICATES, NULL);
  bench_expect(value && json_integer_value(json_object_get(value, "id")) == BENCH_JSON_ID, "the stored object");
  json_decref(value);
  freeReplyObject(reply);
}

/* Jobs: the list, moved and removed, that programs without a queue's script use. */

static void expect_integer(redisReply *reply, long long least) {
  bench_expect(reply && reply->type == REDIS_REPLY_INTEGER && reply->integer >= least, "an integer");
  freeReplyObject(reply);
}

static void push(size_t count) {
  const char *argv[2 + BENCH_BULK] = {"LPUSH", "bench:jobs"};
  for (size_t i = 0; i < count; i++) argv[2 + i] = BENCH_JOB;
  expect_integer(command((int)count + 2, argv), (long long)count);
}

static void job(bool full) {
  (void)full;
  push(1);
  redisReply *reply = command(6, (const char *[]){"BLMOVE", "bench:jobs", "bench:taken", "RIGHT", "LEFT", "0"});
  expect_string(reply, sizeof BENCH_JOB - 1);
  freeReplyObject(reply);
  expect_integer(command(4, (const char *[]){"LREM", "bench:taken", "1", BENCH_JOB}), 1);
}

static redisReply *next_reply(void) {
  void *reply = NULL;
  if (redisGetReply(context, &reply) != REDIS_OK) bench_fail("pipeline", context->errstr);
  return reply;
}

static void job_50(bool full) {
  (void)full;
  push(BENCH_MANY);
  for (int i = 0; i < BENCH_MANY; i++)
    redisAppendCommandArgv(context, 5, (const char *[]){"LMOVE", "bench:jobs", "bench:taken", "RIGHT", "LEFT"}, NULL);
  for (int i = 0; i < BENCH_MANY; i++) {
    redisReply *reply = next_reply();
    expect_string(reply, sizeof BENCH_JOB - 1);
    freeReplyObject(reply);
  }
  for (int i = 0; i < BENCH_MANY; i++)
    redisAppendCommandArgv(context, 4, (const char *[]){"LREM", "bench:taken", "1", BENCH_JOB}, NULL);
  for (int i = 0; i < BENCH_MANY; i++) expect_integer(next_reply(), 1);
}

static void jobs(bool full) {
  push(BENCH_BULK);
  if (full) expect_integer(command(2, (const char *[]){"DEL", "bench:jobs"}), 1);
}

static const bench_work works[] = {
    {"get", get, 1},
    {"set", set, 1},
    {"get64k", get_big, 1},
    {"pipe100", pipeline_100, 100},
    {"pipe1000", pipeline_1000, 1000},
    {"lrange", list, 1},
    {"hgetall", hash, 1},
    {"mget", many, 1},
    {"lock", lock, 2},
    {"rate", rate, 1},
    {"counter", counter, 1},
    {"cache", cached, 1},
    {"job", job, 1},
    {"job50", job_50, BENCH_MANY},
    {"jobs", jobs, BENCH_BULK},
};

int main(int argc, char **argv) {
  return bench_main(argc, argv, works, sizeof works / sizeof works[0], open_connection);
}
