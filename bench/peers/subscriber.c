/* SPDX-License-Identifier: MIT */
/* One subscriber in a flood of messages of 32 bytes:
 *
 *      subscriber ADDRESS hiredis|redmoon SECONDS
 *
 *  The server itself publishes, a thousand messages for each request on a second connection, and WINDOW requests are
 *  always under way, so that the subscriber is never short of messages and the server never of room. */
#include "shared/bench.h"

#include <hiredis/hiredis.h>
#include <redmoon/redmoon.h>

enum { BATCH = 1000, WINDOW = 20, PAYLOAD = 32 };

static char host[512];
static int port;
static redisContext *publisher, *context; /* context: hiredis' subscription */
static redmoon_client *client;
static redmoon_subscription *subscription;

static redisContext *dial(void) {
  redisContext *made = port ? redisConnect(host, port) : redisConnectUnix(host);
  if (!made || made->err) bench_fail("connect", made ? made->errstr : "no memory");
  return made;
}

/* Its answers stay in the socket: ten bytes for a thousand messages. */
static void publish_batch(void) {
  static const char script[] = "for _ = 1, 1000 do redis.call('PUBLISH', 'bench:flood', '0123456789abcdef0123456789abcdef') end";
  int done = 0;
  if (redisAppendCommand(publisher, "EVAL %s 0", script) != REDIS_OK) bench_fail("publish", publisher->errstr);
  while (!done)
    if (redisBufferWrite(publisher, &done) != REDIS_OK) bench_fail("publish", publisher->errstr);
}

static void open_hiredis(void) {
  context = dial();
  redisReply *reply = redisCommand(context, "SUBSCRIBE bench:flood");
  bench_expect(reply != NULL && reply->type == REDIS_REPLY_ARRAY, "a subscription");
  freeReplyObject(reply);
}

static void receive_by_hiredis(void) {
  redisReply *reply;
  if (redisGetReply(context, (void **)&reply) != REDIS_OK) bench_fail("receive", context->errstr);
  bench_expect(reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 && reply->element[2]->len == PAYLOAD, "a message");
  freeReplyObject(reply);
}

static void open_redmoon(void) {
  redmoon_error err;
  char url[600];
  const redmoon_bytes channel = {"bench:flood", 11};
  redmoon_subscription_set set = REDMOON_SUBSCRIPTION_SET_INIT;
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  set.channels = &channel;
  set.channel_count = 1;
  options.buffer = 2 * WINDOW * BATCH;
  if (port) snprintf(url, sizeof url, "redis://%s:%d", host, port);
  else snprintf(url, sizeof url, "unix://%s", host);
  if (redmoon_client_open(url, NULL, &client, &err) < 0) bench_fail("open", err.message);
  if (redmoon_subscription_open(client, &set, &options, &subscription, &err) < 0) bench_fail("subscribe", err.message);
}

static void receive_by_redmoon(void) {
  redmoon_message *message;
  redmoon_error err;
  if (redmoon_subscription_receive(subscription, -1, &message, &err) < 0) bench_fail("receive", err.message);
  bench_expect(message->kind == REDMOON_MESSAGE && message->payload_len == PAYLOAD, "a message");
  redmoon_message_free(message);
}

int main(int argc, char **argv) {
  if (argc != 4) bench_fail("usage", "subscriber ADDRESS hiredis|redmoon SECONDS");
  bool plain = strcmp(argv[2], "hiredis") == 0;
  port = bench_address(argv[1], host, sizeof host);
  publisher = dial();
  if (plain) open_hiredis();
  else open_redmoon();
  struct rusage before, after;
  long ops = 0;
  double limit = strtod(argv[3], NULL), begin = bench_now(), seconds;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < WINDOW; i++) publish_batch();
  do {
    for (int i = 0; i < BATCH; i++) {
      if (plain) receive_by_hiredis();
      else receive_by_redmoon();
    }
    ops += BATCH;
    publish_batch();
    seconds = bench_now() - begin;
  } while (seconds < limit);
  getrusage(RUSAGE_SELF, &after);
  printf("{\"work\":\"%s\",\"ops\":%ld,\"seconds\":%.6f,\"cpu_us\":%.4f}\n", argv[2], ops, seconds,
         (bench_seconds(after.ru_utime) - bench_seconds(before.ru_utime) + bench_seconds(after.ru_stime) -
          bench_seconds(before.ru_stime)) * 1e6 / (double)ops);
  redmoon_subscription_close(subscription);
  redmoon_client_close(client);
  if (plain) redisFree(context);
  redisFree(publisher);
  return 0;
}
