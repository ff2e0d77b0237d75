/* SPDX-License-Identifier: MIT */
/* The yardstick for a cluster: hiredis with a connection to each primary.  It knows from before it is measured which key
 * lies where, follows no redirection, and sends to all nodes before it reads of the first: what the best of clients could
 * hope to cost. */
#include "shared/bench.h"

#include <hiredis/hiredis.h>

enum { NODES = 16, FEW = 100 };

static redisContext *nodes[NODES];
static int node_count, node_of[BENCH_KEYS];

static redisContext *dial(const char *host, int port) {
  redisContext *made = redisConnect(host, port);
  if (!made || made->err) bench_fail("connect", made ? made->errstr : "no memory");
  return made;
}

static redisReply *next_reply(redisContext *context) {
  redisReply *reply;
  if (redisGetReply(context, (void **)&reply) != REDIS_OK) bench_fail("receive", context->errstr);
  return reply;
}

static void expect_value(redisContext *context) {
  redisReply *reply = next_reply(context);
  bench_expect(reply->type == REDIS_REPLY_STRING && reply->len == BENCH_SMALL, "a string of the stored length");
  freeReplyObject(reply);
}

static void open_cluster(const char *address, int port) {
  const char *host = bench_cluster_host(address);
  if (!host) bench_fail("address", "accepted: cluster:HOST:PORT");
  redisContext *seed = dial(host, port);
  redisReply *slots = redisCommand(seed, "CLUSTER SLOTS");
  bench_expect(slots && slots->type == REDIS_REPLY_ARRAY && slots->elements <= NODES, "the slots of at most 16 nodes");
  for (size_t i = 0; i < slots->elements; i++) {
    redisReply *primary = slots->element[i]->element[2];
    nodes[node_count++] = dial(primary->element[0]->str, (int)primary->element[1]->integer);
  }
  for (int k = 0; k < BENCH_KEYS; k++) {
    redisReply *slot = redisCommand(seed, "CLUSTER KEYSLOT %s", bench_keys[k]);
    for (size_t i = 0; i < slots->elements; i++)
      if (slot->integer >= slots->element[i]->element[0]->integer && slot->integer <= slots->element[i]->element[1]->integer)
        node_of[k] = (int)i;
    freeReplyObject(slot);
  }
  freeReplyObject(slots);
  redisFree(seed);
}

static void append_get(int k) {
  const char *argv[] = {"GET", bench_keys[k]};
  const size_t lens[] = {3, strlen(bench_keys[k])};
  if (redisAppendCommandArgv(nodes[node_of[k]], 2, argv, lens) != REDIS_OK) bench_fail("append", nodes[node_of[k]]->errstr);
}

static void flush(void) {
  for (int i = 0; i < node_count; i++) {
    int done = 0;
    while (!done)
      if (redisBufferWrite(nodes[i], &done) != REDIS_OK) bench_fail("send", nodes[i]->errstr);
  }
}

static void get_any(bool full) {
  static int next;
  (void)full;
  append_get(next);
  expect_value(nodes[node_of[next]]);
  next = (next + 1) % BENCH_KEYS;
}

static void pipeline(bool full) {
  (void)full;
  for (int k = 0; k < BENCH_KEYS; k++) append_get(k);
  flush();
  for (int k = 0; k < BENCH_KEYS; k++) expect_value(nodes[node_of[k]]);
}

/* An MGET for each slot, since no node takes keys of several. */
static void many(bool full) {
  (void)full;
  for (int k = 0; k < FEW; k++) {
    const char *argv[] = {"MGET", bench_keys[k]};
    const size_t lens[] = {4, strlen(bench_keys[k])};
    if (redisAppendCommandArgv(nodes[node_of[k]], 2, argv, lens) != REDIS_OK) bench_fail("append", nodes[node_of[k]]->errstr);
  }
  flush();
  for (int k = 0; k < FEW; k++) {
    redisReply *reply = next_reply(nodes[node_of[k]]);
    bench_expect(reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 && reply->element[0]->len == BENCH_SMALL,
                 "an array of one string");
    freeReplyObject(reply);
  }
}

static const bench_work works[] = {{"get_any", get_any, 1}, {"pipe1000", pipeline, BENCH_KEYS}, {"mget100", many, 1}};

int main(int argc, char **argv) {
  int status = bench_main(argc, argv, works, sizeof works / sizeof works[0], open_cluster);
  for (int i = 0; i < node_count; i++) redisFree(nodes[i]);
  return status;
}
