/* SPDX-License-Identifier: MIT */
/** What the tests of redlocks share: five servers, clients of them, and looks at who holds the lock. */
#ifndef REDMOON_TESTS_SERVER_REDLOCK_H
#define REDMOON_TESTS_SERVER_REDLOCK_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "redmoon:{n}:redlock"
#define FENCE KEY ".fence"
enum { SERVERS = 5, LIMIT_US = 20000000 };

typedef struct fixture {
  redis_server *servers[SERVERS];
  bool dead[SERVERS];
  redmoon_client *clients[SERVERS]; /* of this test */
  redmoon_redlock *redlock;         /* without quarantine */
} fixture;

static inline int start_servers(void **state) {
  static fixture f;
  *state = &f;
  for (int i = 0; i < SERVERS; i++) f.servers[i] = redis_server_start(NULL);
  return 0;
}

static inline int stop_servers(void **state) {
  fixture *f = *state;
  for (int i = 0; i < SERVERS; i++) redis_server_stop(f->servers[i]);
  return 0;
}

static inline void kill_server(fixture *f, int i) {
  redis_server_kill(f->servers[i]);
  f->dead[i] = true;
}

static inline void revive(fixture *f, int i) {
  redis_server_restart(f->servers[i]);
  f->dead[i] = false;
}

static inline bool answers(redmoon_client *client) {
  const char *const ping[] = {"PING"};
  redmoon_reply *reply = NULL;
  bool ok = redmoon_command(client, 1, ping, NULL, &reply, NULL) == 0;
  redmoon_reply_free(reply);
  return ok;
}

/* Until its client reaches it: a pool backs off for a while after dials that failed. */
static inline void restart(fixture *f, int i) {
  revive(f, i);
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  while (!answers(f->clients[i]))
    if (rm_clock_now_us() > by_us) fail_msg("server %d does not answer its client", i);
}

static inline redmoon_redlock *redlock_of(redmoon_client *const *clients, size_t count, int64_t quarantine_ms) {
  redmoon_redlock_options options = {quarantine_ms};
  redmoon_redlock *redlock;
  redmoon_error err;
  if (redmoon_redlock_new(clients, count, &options, &redlock, &err) != 0) fail_msg("%s", err.message);
  return redlock;
}

static inline int open_clients(void **state) {
  fixture *f = *state;
  for (int i = 0; i < SERVERS; i++) {
    if (redmoon_client_open(redis_server_url(f->servers[i]), NULL, &f->clients[i], NULL) != 0) return -1;
    redmoon_reply_free(ask(f->clients[i], "FLUSHALL", NULL));
    redmoon_reply_free(ask(f->clients[i], "CONFIG", "RESETSTAT", NULL));
  }
  f->redlock = redlock_of(f->clients, SERVERS, 0);
  return 0;
}

static inline int close_clients(void **state) {
  fixture *f = *state;
  redmoon_redlock_free(f->redlock);
  for (int i = 0; i < SERVERS; i++) {
    redis_server_freeze(f->servers[i], false);
    redmoon_client_close(f->clients[i]);
    if (f->dead[i]) revive(f, i);
  }
  return 0;
}

static inline int try_lock(redmoon_redlock *redlock, int64_t ttl_ms, int64_t wait_ms, redmoon_lock **lock, redmoon_error *err) {
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.ttl_ms = ttl_ms;
  request.wait_ms = wait_ms;
  *lock = NULL;
  return redmoon_redlock_acquire(redlock, "n", 1, &request, lock, err);
}

static inline redmoon_lock *acquire(redmoon_redlock *redlock, int64_t ttl_ms) {
  redmoon_lock *lock;
  redmoon_error err;
  if (try_lock(redlock, ttl_ms, 0, &lock, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  assert_non_null(lock);
  return lock;
}

static inline void give_back(redmoon_lock *lock) {
  redmoon_error err;
  if (redmoon_lock_release(lock, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  redmoon_lock_free(lock);
}

static inline void assert_text(const char *message, const char *part) {
  if (strstr(message, part) == NULL) fail_msg("'%s' is not in '%s'", part, message);
}

/* Not through the client under test. */
static int64_t number(const fixture *f, int server, const char *command) {
  char *text = redis_server_ask(f->servers[server], NULL, command);
  assert_non_null(text);
  int64_t value = strtoll(text[0] == ':' ? text + 1 : text, NULL, 10);
  free(text);
  return value;
}

static inline int holders(const fixture *f, const redmoon_lock *lock) {
  int count = 0;
  for (int i = 0; i < SERVERS; i++) {
    if (f->dead[i]) continue;
    char *owner = redis_server_ask(f->servers[i], NULL, "HGET " KEY " owner");
    count += owner != NULL && strcmp(owner, redmoon_lock_token(lock)) == 0;
    free(owner);
  }
  return count;
}

static inline int held_by_anybody(const fixture *f) {
  int count = 0;
  for (int i = 0; i < SERVERS; i++) count += f->dead[i] ? 0 : (int)number(f, i, "EXISTS " KEY);
  return count;
}

/* Until servers have done what was sent to them though nobody waited for the answer. */
static inline void await_held(const fixture *f, int count) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  while (held_by_anybody(f) != count && rm_clock_now_us() < by_us) poll(NULL, 0, 2);
  assert_int_equal(held_by_anybody(f), count);
}
/* A server that was too slow to be waited for is asked again. */
static inline void await_holders(const fixture *f, redmoon_lock *lock, int count) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  while (holders(f, lock) != count && rm_clock_now_us() < by_us)
    assert_int_equal(redmoon_lock_extend(lock, REDMOON_UNSET, NULL), 0);
  assert_int_equal(holders(f, lock), count);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_clients, close_clients)

#endif
