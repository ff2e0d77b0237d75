/* SPDX-License-Identifier: MIT */
/** What the tests of the rate limiter share: a server and a client of their own, limiters, and requests that succeed.
 *  To be included after cmocka.h. */
#ifndef REDMOON_TESTS_SERVER_RATE_H
#define REDMOON_TESTS_SERVER_RATE_H

#include "support/embedded_server.h"
#include "support/ask.h"

#include <stdlib.h>
#include <string.h>

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
} fixture;

static inline int start(void **state) {
  static fixture f;
  embedded_server_open(&f.server, &f.client);
  *state = &f;
  return 0;
}

static inline int stop(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  return 0;
}

static inline int empty(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  return 0;
}

static inline redmoon_rate_limiter *limiter_of(redmoon_client *client, int64_t limit, int64_t window_ms,
                                               const char *name) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.limit = limit;
  options.window_ms = window_ms;
  options.name = name;
  redmoon_rate_limiter *limiter = NULL;
  redmoon_error err;
  if (redmoon_rate_limiter_new(client, &options, &limiter, &err) != 0) fail_msg("%s", err.message);
  return limiter;
}

static inline redmoon_rate_result allow(redmoon_rate_limiter *limiter, const char *key, int64_t cost) {
  redmoon_rate_result result = {0};
  redmoon_rate_request request = REDMOON_RATE_REQUEST_INIT;
  redmoon_error err;
  request.cost = cost;
  if (redmoon_rate_limiter_allow(limiter, key, strlen(key), &request, &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static inline redmoon_rate_result peek(redmoon_rate_limiter *limiter, const char *key) {
  redmoon_rate_result result = {0};
  redmoon_error err;
  if (redmoon_rate_limiter_peek(limiter, key, strlen(key), &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static inline int64_t server_us(redmoon_client *client) {
  redmoon_reply *time = ask(client, "TIME", NULL);
  int64_t us = 0;
  for (size_t i = 0; i < 2; i++)
    us = us * 1000000 + strtoll(redmoon_reply_string(redmoon_reply_at(time, i), NULL), NULL, 10);
  redmoon_reply_free(time);
  return us;
}

static inline redmoon_rate_limiter *made(redmoon_client *client, const redmoon_rate_limiter_options *options) {
  redmoon_rate_limiter *limiter = NULL;
  redmoon_error err;
  if (redmoon_rate_limiter_new(client, options, &limiter, &err) != 0) fail_msg("%s", err.message);
  return limiter;
}

static inline redmoon_rate_limiter_options options_of(const char *algorithm, int64_t limit, int64_t window_ms) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = algorithm;
  options.limit = limit;
  options.window_ms = window_ms;
  return options;
}

#endif
