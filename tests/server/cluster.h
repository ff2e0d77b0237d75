/* SPDX-License-Identifier: MIT */
/** What the tests of clusters share: one cluster for a program, and for each test a client of each kind with an empty
 *  database.
 *
 *      const struct CMUnitTest tests[] = {CLUSTER_TEST(test), ...};
 *      cmocka_run_group_tests_name("cluster", tests, clustered_start, clustered_stop);   *state is a `clustered` */
#ifndef TESTS_SERVER_CLUSTER_H
#define TESTS_SERVER_CLUSTER_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "route/slots.h"
#include "support/ask.h"
#include "support/cluster_fixture.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRIMARIES = 3 };

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct clustered {
  cluster *cluster;
  redmoon_client *client;
  atomic_int redirects; /* that the client followed */
} clustered;

static clustered clustered_one;

static int clustered_start(void **state) {
  clustered_one.cluster = cluster_start(NULL);
  *state = &clustered_one;
  return 0;
}

static int clustered_stop(void **state) {
  (void)state;
  cluster_stop(clustered_one.cluster);
  return 0;
}

static void clustered_count(void *ctx, const redmoon_event *event) {
  (void)event;
  atomic_fetch_add((atomic_int *)ctx, 1);
}

static redmoon_client *clustered_open(const char *url, const redmoon_options *options) {
  redmoon_client *client = NULL;
  redmoon_error err;
  uint64_t id;
  if (redmoon_client_open(url, options, &client, &err) != 0) fail_msg("%s: %s", url, err.message);
  if (redmoon_client_on(client, REDMOON_EVENT_REDIRECT, clustered_count, &clustered_one.redirects, &id, &err) != 0)
    fail_msg("%s", err.message);
  return client;
}

static int clustered_enter(void **state, int64_t protocol, int64_t pool_size, int64_t multiplex) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.multiplex = multiplex;
  options.protocol = protocol;
  options.pool_size = pool_size;
  cluster_end_moves(clustered_one.cluster);
  for (int i = 0; i < PRIMARIES; i++) redmoon_reply_free(cluster_ask(clustered_one.cluster, i, "FLUSHALL", NULL));
  clustered_one.client = clustered_open(cluster_url(clustered_one.cluster), &options);
  atomic_store(&clustered_one.redirects, 0);
  *state = &clustered_one;
  return 0;
}

static int clustered_enter_3(void **state) { return clustered_enter(state, 3, 20, 0); }
static int clustered_enter_2(void **state) { return clustered_enter(state, 2, 20, 0); }
static int clustered_enter_one(void **state) { return clustered_enter(state, 3, 1, 0); }
static int clustered_enter_shared(void **state) { return clustered_enter(state, 3, 20, 1); }

static int clustered_leave(void **state) {
  (void)state;
  redmoon_client_close(clustered_one.client);
  return 0;
}

#define CLUSTER_TEST(f)                                                                          \
  {#f " [RESP3]", f, clustered_enter_3, clustered_leave, NULL},                                  \
      {#f " [RESP2]", f, clustered_enter_2, clustered_leave, NULL},                              \
      {#f " [pool_size=1]", f, clustered_enter_one, clustered_leave, NULL},                      \
      {#f " [multiplex]", f, clustered_enter_shared, clustered_leave, NULL}

static inline int slot_of(const char *key) { return rm_slot_of(key, strlen(key)); }

static inline int count_of(const char *const *argv) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  return argc;
}

/* The calls of a command that a node has counted, refused ones included. */
static inline int64_t calls_of(const cluster *c, int node, const char *command) {
  char field[80];
  snprintf(field, sizeof field, "cmdstat_%s:", command);
  redmoon_reply *reply = cluster_ask(c, node, "INFO", "commandstats", NULL);
  const char *at = strstr(redmoon_reply_string(reply, NULL), field);
  int64_t calls = 0;
  if (at != NULL) {
    const char *end = strchr(at, '\r');
    for (const char *word = at; word != NULL && word < end; word = strpbrk(word + 1, ":,"))
      if (strncmp(word + 1, "calls=", 6) == 0 || strncmp(word + 1, "rejected_calls=", 15) == 0)
        calls += strtoll(strchr(word, '=') + 1, NULL, 10);
  }
  redmoon_reply_free(reply);
  return calls;
}

/* How often a node has answered with errors of this code. */
static inline int64_t errors_of(const cluster *c, int node, const char *code) {
  char field[80];
  snprintf(field, sizeof field, "errorstat_%s:count=", code);
  redmoon_reply *reply = cluster_ask(c, node, "INFO", "errorstats", NULL);
  const char *at = strstr(redmoon_reply_string(reply, NULL), field);
  int64_t count = at != NULL ? strtoll(at + strlen(field), NULL, 10) : 0;
  redmoon_reply_free(reply);
  return count;
}

static inline void assert_text(const redmoon_reply *reply, const char *expected) {
  size_t len = 0;
  const char *text = redmoon_reply_string(reply, &len);
  if (expected == NULL) {
    assert_int_equal(redmoon_reply_type(reply), REDMOON_NIL);
    return;
  }
  if (text == NULL) fail_msg("'%s' expected, got a reply of type %d", expected, (int)redmoon_reply_type(reply));
  assert_int_equal(len, strlen(expected));
  assert_memory_equal(text, expected, len);
}

static inline void assert_value(redmoon_client *client, const char *key, const char *expected) {
  redmoon_reply *reply = ask(client, "GET", key, NULL);
  assert_text(reply, expected);
  redmoon_reply_free(reply);
}

static inline void set(redmoon_client *client, const char *key, const char *value) {
  redmoon_reply_free(ask(client, "SET", key, value, NULL));
}

/* Pipelines. */

static inline redmoon_pipeline *pipeline_of(redmoon_client *client) {
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  if (redmoon_pipeline_new(client, &p, &err) != 0) fail_msg("%s", err.message);
  return p;
}

static inline void pipeline_add(redmoon_pipeline *p, const char *const *argv) {
  redmoon_error err;
  if (redmoon_pipeline_command(p, count_of(argv), argv, NULL, &err) < 0) fail_msg("%s", err.message);
}

static inline void pipeline_run(redmoon_pipeline *p) {
  redmoon_error err;
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
}

static inline const redmoon_reply *pipeline_reply(redmoon_pipeline *p, size_t i) {
  redmoon_result result = redmoon_pipeline_result(p, i);
  assert_int_equal(result.outcome, REDMOON_ANSWERED);
  assert_non_null(result.reply);
  return result.reply;
}

/* Steps an operation until it is done or `holds` is true; true: it is done. */
static inline bool drive_until(redmoon_op *op, bool (*holds)(void *ctx), void *ctx) {
  enum { LOOK_MS = 5 };
  while (redmoon_op_step(op) == 0) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    if (holds != NULL && holds(ctx)) return false;
    short events = (short)(((wants.events & REDMOON_WANT_READ) != 0 ? POLLIN : 0) |
                           ((wants.events & REDMOON_WANT_WRITE) != 0 ? POLLOUT : 0));
    struct pollfd fd = {.fd = wants.fd, .events = events};
    int64_t wait_ms = wants.timeout_ms;
    if (holds != NULL && (wait_ms < 0 || wait_ms > LOOK_MS)) wait_ms = LOOK_MS;
    poll(&fd, 1, (int)wait_ms);
  }
  return true;
}

static inline void drive(redmoon_op *op) { (void)drive_until(op, NULL, NULL); }

#endif
