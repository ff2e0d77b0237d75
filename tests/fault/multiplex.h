/* SPDX-License-Identifier: MIT */
/* Shared by the tests of multiplexed calls.
 *
 * Operations that one thread steps share always, so most of this needs no threads: who leads, who is in flight and what
 * is pending is then known at every step. */
#ifndef TESTS_MULTIPLEX_H
#define TESTS_MULTIPLEX_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "engine/mux_internal.h"
#include "support/ask.h"
#include "support/certs.h"
#include "support/redis_server.h"
#include "support/tiny_redis.h"

#include <poll.h>
#include <pthread.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { PATIENCE_MS = 20000 };

static inline redmoon_client *open_url(const char *url, redmoon_options options, int64_t pool_size) {
  redmoon_client *client = NULL;
  redmoon_error err;
  options.multiplex = 1;
  options.pool_size = pool_size;
  if (redmoon_client_open(url, &options, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

/* A client of one connection, with limits that a slow machine does not reach. */
static inline redmoon_client *open_one(const char *url) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = options.write_timeout_ms = options.pool_timeout_ms = PATIENCE_MS;
  return open_url(url, options, 1);
}

static inline redmoon_stats stats_of(const redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return stats;
}

static inline rm_lane *lane_of(const redmoon_client *client) { return &client->core->mux->lanes[0]; }

typedef struct call {
  redmoon_op *op;
  redmoon_reply *reply;
} call;

static inline void start(call *c, redmoon_client *client, int argc, const char *const *argv) {
  redmoon_error err;
  if (redmoon_command_start(client, argc, argv, NULL, &c->reply, &c->op, &err) != 0) fail_msg("%s", err.message);
}

static inline void start_echo(call *c, redmoon_client *client, const char *tag) { start(c, client, 2, ARGV("ECHO", tag)); }

static inline void poll_wants(redmoon_op *op, int limit_ms) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {.fd = wants.fd, .events = (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLIN | POLLOUT : POLLIN};
  poll(&fd, 1, wants.timeout_ms >= 0 && wants.timeout_ms < limit_ms ? (int)wants.timeout_ms : limit_ms);
}

/* This one alone is driven, whoever leads. */
static inline int finish(call *c, redmoon_error *err) {
  while (redmoon_op_step(c->op) == 0) poll_wants(c->op, PATIENCE_MS);
  return redmoon_op_finish(c->op, err);
}

static inline void expect_text(call *c, const char *text) {
  redmoon_error err;
  if (finish(c, &err) != 0) fail_msg("%s", err.message);
  assert_string_equal(redmoon_reply_string(c->reply, NULL), text);
  redmoon_reply_free(c->reply);
}

/* Begins to dial and is sent: everyone behind it finds the lane open. */
static inline void step_until_sent(const redmoon_client *client, call *c) {
  while (lane_of(client)->state != RM_LANE_OPEN) {
    assert_int_equal(redmoon_op_step(c->op), 0);
    if (lane_of(client)->state != RM_LANE_OPEN) poll_wants(c->op, PATIENCE_MS);
  }
}

static inline size_t count(const rm_list *list) {
  size_t n = 0;
  for (const rm_list *node = list->next; node != list; node = node->next) n++;
  return n;
}

static inline int start_server(void **state) {
  *state = redis_server_start(NULL);
  return 0;
}

static inline int stop_server(void **state) {
  redis_server_stop(*state);
  return 0;
}

#endif
