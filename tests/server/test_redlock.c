/* SPDX-License-Identifier: MIT */
/* Locks over several servers of the test's own, some of them dead, stopped, swallowed or new, through the public interface. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/op.h"
#include "support/ask.h"
#include "support/redis_server.h"
#include "support/stopper.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

static int start_servers(void **state) {
  static fixture f;
  *state = &f;
  for (int i = 0; i < SERVERS; i++) f.servers[i] = redis_server_start(NULL);
  return 0;
}

static int stop_servers(void **state) {
  fixture *f = *state;
  for (int i = 0; i < SERVERS; i++) redis_server_stop(f->servers[i]);
  return 0;
}

static void kill_server(fixture *f, int i) {
  redis_server_kill(f->servers[i]);
  f->dead[i] = true;
}

static void restart(fixture *f, int i) {
  redis_server_restart(f->servers[i]);
  f->dead[i] = false;
}

static redmoon_redlock *redlock_of(redmoon_client *const *clients, size_t count, int64_t quarantine_ms) {
  redmoon_redlock_options options = {quarantine_ms};
  redmoon_redlock *redlock;
  redmoon_error err;
  if (redmoon_redlock_new(clients, count, &options, &redlock, &err) != 0) fail_msg("%s", err.message);
  return redlock;
}

static int open_clients(void **state) {
  fixture *f = *state;
  for (int i = 0; i < SERVERS; i++) {
    if (redmoon_client_open(redis_server_url(f->servers[i]), NULL, &f->clients[i], NULL) != 0) return -1;
    redmoon_reply_free(ask(f->clients[i], "FLUSHALL", NULL));
    redmoon_reply_free(ask(f->clients[i], "CONFIG", "RESETSTAT", NULL));
  }
  f->redlock = redlock_of(f->clients, SERVERS, 0);
  return 0;
}

static int close_clients(void **state) {
  fixture *f = *state;
  redmoon_redlock_free(f->redlock);
  for (int i = 0; i < SERVERS; i++) {
    kill(redis_server_pid(f->servers[i]), SIGCONT);
    redmoon_client_close(f->clients[i]);
    if (f->dead[i]) restart(f, i);
  }
  return 0;
}

static int try_lock(redmoon_redlock *redlock, int64_t ttl_ms, int64_t wait_ms, redmoon_lock **lock, redmoon_error *err) {
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.ttl_ms = ttl_ms;
  request.wait_ms = wait_ms;
  *lock = NULL;
  return redmoon_redlock_acquire(redlock, "n", 1, &request, lock, err);
}

static redmoon_lock *acquire(redmoon_redlock *redlock, int64_t ttl_ms) {
  redmoon_lock *lock;
  redmoon_error err;
  if (try_lock(redlock, ttl_ms, 0, &lock, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  assert_non_null(lock);
  return lock;
}

static void give_back(redmoon_lock *lock) {
  redmoon_error err;
  if (redmoon_lock_release(lock, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  redmoon_lock_free(lock);
}

static void assert_text(const char *message, const char *part) {
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

static int holders(const fixture *f, const redmoon_lock *lock) {
  int count = 0;
  for (int i = 0; i < SERVERS; i++) {
    if (f->dead[i]) continue;
    char *owner = redis_server_ask(f->servers[i], NULL, "HGET " KEY " owner");
    count += owner != NULL && strcmp(owner, redmoon_lock_token(lock)) == 0;
    free(owner);
  }
  return count;
}

static int held_by_anybody(const fixture *f) {
  int count = 0;
  for (int i = 0; i < SERVERS; i++) count += f->dead[i] ? 0 : (int)number(f, i, "EXISTS " KEY);
  return count;
}

/* Until servers have done what was sent to them though nobody waited for the answer. */
static void await_held(const fixture *f, int count) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  while (held_by_anybody(f) != count && rm_clock_now_us() < by_us) poll(NULL, 0, 2);
  assert_int_equal(held_by_anybody(f), count);
}
static void await_holders(const fixture *f, const redmoon_lock *lock, int count) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  while (holders(f, lock) != count && rm_clock_now_us() < by_us) poll(NULL, 0, 2);
  assert_int_equal(holders(f, lock), count);
}

static void lock_is_held_on_the_servers_with_one_fence(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, REDMOON_UNSET);
  assert_true(redmoon_lock_held(lock));
  assert_int_equal(strlen(redmoon_lock_token(lock)), 32);
  assert_int_equal(redmoon_lock_holds(lock), 1);
  int64_t left_ms = redmoon_lock_remaining_ms(lock);
  assert_true(left_ms > 5000 && left_ms <= 9898); /* 10 s less 1 % and 2 ms */
  assert_true(holders(f, lock) >= 3);
  int agreed = 0;
  for (int i = 0; i < SERVERS; i++) agreed += number(f, i, "GET " FENCE) >= redmoon_lock_fence(lock);
  assert_true(agreed >= 3);
  assert_true(redmoon_lock_fence(lock) > INT64_C(1700000000000000));
  give_back(lock);
  await_held(f, 0);
}

static void held_lock_is_refused_and_what_was_voted_for_the_loser_is_given_back(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 60000), *other;
  redmoon_error err;
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 2; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL)); /* these vote for the other */
  assert_int_equal(try_lock(f->redlock, 60000, 0, &other, &err), REDMOON_ELOCKED);
  assert_null(other);
  assert_string_equal(err.code, "LOCKED");
  assert_true(err.retryable);
  assert_int_equal(err.attempts, 1);
  assert_text(err.message, "redlock 'n': ");
  assert_text(err.message, "for another");
  await_held(f, SERVERS - 2);
  assert_int_equal(holders(f, lock), SERVERS - 2);
  give_back(lock);
}

static void minority_of_dead_servers_does_no_harm(void **state) {
  fixture *f = *state;
  kill_server(f, 1);
  kill_server(f, 4);
  redmoon_lock *lock = acquire(f->redlock, 10000), *other;
  redmoon_error err;
  assert_int_equal(holders(f, lock), 3);
  assert_int_equal(try_lock(f->redlock, 10000, 0, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  give_back(lock);
  await_held(f, 0);
}

static void majority_of_dead_servers_is_told_and_leaves_nothing_behind(void **state) {
  fixture *f = *state;
  for (int i = 0; i < 3; i++) kill_server(f, i);
  redmoon_lock *lock;
  redmoon_error err;
  assert_int_equal(try_lock(f->redlock, 60000, 0, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_null(lock);
  assert_true(err.retryable);
  assert_text(err.message, "of 5 servers vote for it, and 3 must, 3 without an answer (server 1: ");
  await_held(f, 0);
  assert_int_equal(try_lock(f->redlock, 10000, 50, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "; waited ");
  assert_true(err.attempts > 1);
  for (int i = 0; i < 3; i++) restart(f, i);
  give_back(acquire(f->redlock, 10000));
}

/* Writes the fence back: whoever gave the greatest may be dead when the next one comes. */
static void fence_rises_though_the_server_that_gave_it_is_gone(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->clients[2], "SET", FENCE, "8000000000000000", NULL));
  kill_server(f, 0);
  kill_server(f, 1);
  redmoon_lock *lock = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(lock) == INT64_C(8000000000000001));
  give_back(lock);
  kill_server(f, 2);
  restart(f, 0);
  restart(f, 1);
  lock = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(lock) > INT64_C(8000000000000001));
  give_back(lock);
}

static void extension_takes_the_vote_and_the_fence_to_servers_that_lost_them(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->clients[0], "SET", FENCE, "8000000000000000", NULL));
  redmoon_lock *lock;
  redmoon_error err;
  for (;;) { /* the first server is among those that decide */
    lock = acquire(f->redlock, 10000);
    if (redmoon_lock_fence(lock) > INT64_C(8000000000000000)) break;
    give_back(lock);
  }
  for (int i = 0; i < 3; i++) {
    kill_server(f, i);
    restart(f, i);
  }
  assert_true(holders(f, lock) <= 2);
  assert_int_equal(redmoon_lock_extend(lock, 20000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 15000);
  await_holders(f, lock, SERVERS);
  int agreed = 0;
  for (int i = 0; i < SERVERS; i++) agreed += number(f, i, "GET " FENCE) >= redmoon_lock_fence(lock);
  assert_true(agreed >= 3);
  give_back(lock);
  await_held(f, 0);
}

static void extension_without_a_quorum_leaves_the_lock_to_its_lease(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < 3; i++) kill_server(f, i);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_true(err.retryable);
  assert_text(err.message, "redlock 'n' could not be extended: 2 of 5 servers vote for it, and 3 must, 3 without an answer");
  assert_true(redmoon_lock_held(lock));
  assert_true(redmoon_lock_remaining_ms(lock) <= 9898);
  restart(f, 0);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  give_back(lock);
}

static void lock_that_others_have_got_is_lost(void **state) {
  fixture *f = *state;
  redmoon_lock *first = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  redmoon_lock *second = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(second) > redmoon_lock_fence(first));
  await_holders(f, second, SERVERS);
  assert_int_equal(redmoon_lock_extend(first, 60000, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_false(redmoon_lock_held(first));
  assert_true(redmoon_lock_lost(first));
  assert_int_equal(redmoon_lock_release(first, &err), REDMOON_ELOST);
  assert_int_equal(holders(f, second), SERVERS);
  assert_int_equal(redmoon_lock_extend(second, 20000, &err), 0);
  redmoon_lock_free(first);
  give_back(second);
}

static void lock_whose_servers_forgot_it_is_lost_at_the_release(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < 3; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  assert_int_equal(redmoon_lock_release(lock, &err), REDMOON_ELOST);
  assert_string_equal(err.code, "LOST");
  await_held(f, 0);
  redmoon_lock_free(lock);
}

static void await_uptime(const fixture *f, int server, int64_t seconds) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US, up = -1;
  while (up < seconds && rm_clock_now_us() < by_us) {
    char info[8192];
    ask_text(f->clients[server], info, sizeof info, "INFO", "server", NULL);
    const char *at = strstr(info, "uptime_in_seconds:");
    assert_non_null(at);
    up = strtoll(at + strlen("uptime_in_seconds:"), NULL, 10);
    poll(NULL, 0, 20);
  }
  assert_true(up >= seconds);
}

static void vote_of_a_server_that_has_just_started_does_not_count(void **state) {
  fixture *f = *state;
  redmoon_redlock *careful = redlock_of(f->clients, SERVERS, 1000);
  redmoon_lock *lock;
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) await_uptime(f, i, 2);
  lock = acquire(careful, 1000);
  assert_true(holders(f, lock) >= 3);
  for (int i = 0; i < 3; i++) {
    kill_server(f, i);
    restart(f, i);
  }
  assert_int_equal(redmoon_lock_extend(lock, 900, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "3 in quarantine after a start");
  redmoon_lock_free(lock);
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  assert_int_equal(try_lock(careful, 1000, 0, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "2 of 5 servers vote for it, and 3 must, 3 in quarantine after a start");
  await_held(f, 0);
  give_back(acquire(f->redlock, 1000));
  if (try_lock(careful, 1000, LIMIT_US / 1000, &lock, &err) != 0) fail_msg("%s", err.message); /* it ends */
  give_back(lock);
  redmoon_redlock_free(careful);
}

static void release_that_was_not_answered_can_be_repeated(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 60000);
  redmoon_error err;
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 3; i++) assert_int_equal(kill(redis_server_pid(f->servers[i]), SIGSTOP), 0);
  assert_int_equal(redmoon_lock_release(lock, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_text(err.message, "3 of 5 servers have not answered");
  assert_false(redmoon_lock_held(lock));
  for (int i = 0; i < 3; i++) assert_int_equal(kill(redis_server_pid(f->servers[i]), SIGCONT), 0);
  give_back(lock);
  await_held(f, 0);
}

/* Connections that a stopped server has accepted before: what is sent over them is executed when it goes on. */
static void warm(redmoon_client *client, size_t count) {
  redmoon_op *ops[4];
  redmoon_reply *replies[4];
  const char *argv[] = {"PING"};
  for (size_t i = 0; i < count; i++) assert_int_equal(redmoon_command_start(client, 1, argv, NULL, &replies[i], &ops[i], NULL), 0);
  for (size_t i = 0; i < count; i++) redmoon_op_step(ops[i]); /* all have a connection of their own now */
  for (size_t i = 0; i < count; i++) {
    rm_drive(ops[i]);
    assert_int_equal(redmoon_op_finish(ops[i], NULL), 0);
    redmoon_reply_free(replies[i]);
  }
}

static void request_that_is_executed_after_all_leaves_no_vote_behind(void **state) {
  fixture *f = *state;
  redmoon_lock *lock, *other;
  redmoon_error err;
  warm(f->clients[4], 4);
  assert_int_equal(kill(redis_server_pid(f->servers[4]), SIGSTOP), 0);
  lock = acquire(f->redlock, 60000);
  assert_int_equal(try_lock(f->redlock, 60000, 0, &other, &err), REDMOON_ELOCKED);
  give_back(lock);
  assert_int_equal(kill(redis_server_pid(f->servers[4]), SIGCONT), 0);
  int64_t by_us = rm_clock_now_us() + LIMIT_US, calls = 0;
  while (calls < 4 && rm_clock_now_us() < by_us) { /* two were asked for it, and two gave it back */
    char info[8192];
    ask_text(f->clients[4], info, sizeof info, "INFO", "commandstats", NULL);
    const char *at = strstr(info, "cmdstat_evalsha:calls=");
    calls = at == NULL ? 0 : strtoll(at + strlen("cmdstat_evalsha:calls="), NULL, 10);
  }
  assert_true(calls >= 4);
  assert_int_equal(number(f, 4, "EXISTS " KEY), 0);
  redmoon_reply *keys = ask(f->clients[4], "KEYS", KEY "+void.*", NULL);
  assert_int_equal(redmoon_reply_count(keys), 2); /* and what would come yet is barred */
  redmoon_reply_free(keys);
}

static void servers_that_swallow_everything_do_not_vote(void **state) {
  fixture *f = *state;
  stopper *holes[SERVERS];
  redmoon_client *clients[SERVERS];
  redmoon_lock *lock, *other;
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) {
    holes[i] = stopper_start(redis_server_path(f->servers[i]));
    assert_int_equal(redmoon_client_open(stopper_url(holes[i]), NULL, &clients[i], NULL), 0);
  }
  redmoon_redlock *redlock = redlock_of(clients, SERVERS, 0);
  lock = acquire(redlock, 1000);
  await_holders(f, lock, SERVERS);
  give_back(lock);
  for (int i = 0; i < 2; i++) stopper_swallow(holes[i]);
  lock = acquire(redlock, 1000);
  give_back(lock);
  lock = acquire(redlock, 1000); /* by new connections, which work */
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 3; i++) stopper_swallow(holes[i]);
  assert_int_equal(redmoon_lock_extend(lock, 900, &err), REDMOON_EUNAVAILABLE);
  redmoon_lock_free(lock);
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  give_back(acquire(redlock, 1000));
  for (int i = 0; i < 3; i++) stopper_swallow(holes[i]);
  assert_int_equal(try_lock(redlock, 60000, 0, &other, &err), REDMOON_EUNAVAILABLE);
  await_held(f, 0);
  redmoon_redlock_free(redlock);
  for (int i = 0; i < SERVERS; i++) {
    redmoon_client_close(clients[i]);
    stopper_stop(holes[i]);
  }
}

static void waiter_gets_the_lock_when_the_lease_of_the_holder_ends(void **state) {
  fixture *f = *state;
  redmoon_lock *first = acquire(f->redlock, 300), *second;
  redmoon_error err;
  if (try_lock(f->redlock, 10000, 60000, &second, &err) != 0) fail_msg("%s", err.message);
  assert_false(redmoon_lock_held(first));
  assert_true(redmoon_lock_fence(second) > redmoon_lock_fence(first));
  redmoon_lock_free(first);
  give_back(second);
}

static void keeper_renews_until_the_quorum_is_lost_and_that_is_told(void **state) {
  fixture *f = *state;
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.ttl_ms = 600;
  request.renew = 1;
  redmoon_lock *lock;
  redmoon_error err;
  if (redmoon_redlock_acquire(f->redlock, "n", 1, &request, &lock, &err) != 0) fail_msg("%s", err.message);
  int64_t until_us = rm_clock_boot_us() + 1500000;
  int fd = redmoon_lock_fd(lock, &err);
  assert_true(fd >= 0);
  struct pollfd lost = {.fd = fd, .events = POLLIN};
  while (rm_clock_boot_us() < until_us) assert_int_equal(poll(&lost, 1, 20), 0);
  assert_true(redmoon_lock_held(lock));
  for (int i = 0; i < 3; i++) kill_server(f, i);
  assert_int_equal(poll(&lost, 1, LIMIT_US / 1000), 1);
  assert_true(redmoon_lock_lost(lock));
  redmoon_lock_free(lock);
}

static void nobody_prolongs_it_beyond_its_longest_hold(void **state) {
  fixture *f = *state;
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  request.ttl_ms = 5000;
  request.max_hold_ms = 20000;
  redmoon_lock *lock;
  redmoon_error err;
  if (redmoon_redlock_acquire(f->redlock, "n", 1, &request, &lock, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  int64_t left_ms = redmoon_lock_remaining_ms(lock);
  assert_true(left_ms > 15000 && left_ms <= 20000);
  for (int i = 0; i < SERVERS; i++) assert_true(number(f, i, "PTTL " KEY) <= 20000);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_text(err.message, "cannot be prolonged beyond its max_hold");
  assert_true(redmoon_lock_held(lock));
  give_back(lock);
}

static void one_server_behind_two_clients_is_found_out(void **state) {
  fixture *f = *state;
  redmoon_client *again;
  redmoon_lock *lock;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(redis_server_url(f->servers[0]), NULL, &again, NULL), 0);
  redmoon_client *clients[] = {f->clients[0], again};
  redmoon_redlock *redlock = redlock_of(clients, 2, 0);
  assert_int_equal(try_lock(redlock, 60000, 60000, &lock, &err), REDMOON_ECONFIG);
  assert_text(err.message, "two of its clients reach the same server");
  assert_null(lock);
  await_held(f, 0);
  redmoon_redlock_free(redlock);
  redmoon_client_close(again);
}

static void two_servers_must_both_vote(void **state) {
  fixture *f = *state;
  redmoon_redlock *redlock = redlock_of(f->clients, 2, 0);
  redmoon_lock *lock = acquire(redlock, 10000);
  redmoon_error err;
  assert_int_equal(holders(f, lock), 2);
  kill_server(f, 1);
  assert_int_equal(redmoon_lock_extend(lock, 10000, &err), REDMOON_EUNAVAILABLE);
  redmoon_lock_free(lock);
  redmoon_redlock_free(redlock);
}

static void bad_options_are_refused_with_the_accepted_range(void **state) {
  fixture *f = *state;
  redmoon_redlock *redlock = redlock_of(f->clients, 3, 5000), *none;
  redmoon_error err;
  static const struct {
    redmoon_redlock_request request;
    const char *part;
  } requests[] = {
      {{9, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}, "option ttl: 9 ms is not accepted; give 10 to 5000 ms, the quarantine"},
      {{5001, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}, "option ttl: 5001 ms"},
      {{1000, -1, REDMOON_UNSET, REDMOON_UNSET}, "option wait: -1 ms"},
      {{1000, 0, 2, REDMOON_UNSET}, "option renew: 2"},
      {{1000, 0, 0, 999}, "option max_hold: 999 ms is not accepted; give 1000 to 31622400000 ms"},
  };
  for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
    redmoon_lock *lock = NULL;
    assert_int_equal(redmoon_redlock_acquire(redlock, "n", 1, &requests[i].request, &lock, &err), REDMOON_ECONFIG);
    assert_text(err.message, requests[i].part);
    assert_null(lock);
  }
  redmoon_redlock *loose = redlock_of(f->clients, 3, 0);
  redmoon_lock *lock = acquire(loose, 1000);
  redmoon_redlock_free(loose);
  assert_int_equal(redmoon_lock_extend(lock, 86400001, &err), REDMOON_ECONFIG);
  give_back(lock);
  redmoon_redlock_options options = {5};
  redmoon_client *doubled[] = {f->clients[0], f->clients[1], f->clients[0]}, *null[] = {f->clients[0], NULL};
  assert_int_equal(redmoon_redlock_new(f->clients, 3, &options, &none, &err), REDMOON_ECONFIG);
  assert_text(err.message, "option quarantine: 5 ms is not accepted; give 0 (none), or 10 to 86400000 ms");
  assert_int_equal(redmoon_redlock_new(f->clients, 1, NULL, &none, &err), REDMOON_ECONFIG);
  assert_text(err.message, "1 clients are not accepted; give 2 to 31");
  assert_int_equal(redmoon_redlock_new(doubled, 3, NULL, &none, &err), REDMOON_ECONFIG);
  assert_text(err.message, "clients 1 and 3 are one");
  assert_int_equal(redmoon_redlock_new(null, 2, NULL, &none, &err), REDMOON_ECONFIG);
  assert_null(none);
  redmoon_redlock_free(redlock);
  redmoon_redlock_free(NULL);
}

static void step_to_the_end(redmoon_op *op) {
  while (!redmoon_op_step(op)) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {.fd = wants.fd, .events = POLLIN};
    assert_int_equal(wants.events & ~REDMOON_WANT_READ, 0);
    poll(&fd, 1, (int)wants.timeout_ms);
  }
}

static void operation_works_under_a_loop_and_outlives_the_redlock(void **state) {
  fixture *f = *state;
  redmoon_redlock *redlock = redlock_of(f->clients, SERVERS, 0);
  redmoon_lock *lock = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_redlock_acquire_start(redlock, "n", 1, NULL, &lock, &op, &err), 0);
  redmoon_redlock_free(redlock);
  step_to_the_end(op);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(redmoon_lock_extend_start(lock, 20000, &op, &err), 0);
  step_to_the_end(op);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(redmoon_lock_release_start(lock, &op, &err), 0);
  redmoon_lock_free(lock);
  step_to_the_end(op);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  await_held(f, 0);
}

/* What is cancelled after any number of steps runs out, and holds up nothing else. */
static void cancelled_acquisition_leaves_clients_and_redlock_whole(void **state) {
  fixture *f = *state;
  for (int steps = 0; steps < 12; steps++) {
    redmoon_lock *lock = NULL;
    redmoon_op *op;
    assert_int_equal(redmoon_redlock_acquire_start(f->redlock, "n", 1, NULL, &lock, &op, NULL), 0);
    for (int i = 0; i < steps && !redmoon_op_step(op); i++) {
    }
    redmoon_op_cancel(op);
    assert_null(lock);
    for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "FLUSHALL", NULL));
  }
  int64_t by_us = rm_clock_now_us() + LIMIT_US;
  redmoon_lock *lock = NULL;
  redmoon_error err;
  while (try_lock(f->redlock, 10000, 0, &lock, &err) != 0 && rm_clock_now_us() < by_us) /* late requests vote yet */
    for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  assert_non_null(lock);
  give_back(lock);
}

/* Renewal and release on two threads: whatever is under way, nothing is held after the release. */
static void renewal_that_is_under_way_does_not_take_the_lock_back(void **state) {
  fixture *f = *state;
  redmoon_redlock_request request = {.ttl_ms = 90, .wait_ms = 60000, .renew = 1, .max_hold_ms = 0};
  redmoon_error err;
  for (int i = 0; i < 100; i++) {
    redmoon_lock *lock;
    int acquired = redmoon_redlock_acquire(f->redlock, "n", 1, &request, &lock, &err);
    if (acquired == REDMOON_ELOST) continue; /* on a machine that is busy */
    if (acquired != 0) fail_msg("%s", err.message);
    int64_t until_us = rm_clock_now_us() + 27000 + i * 20; /* about when it is renewed first */
    while (rm_clock_now_us() < until_us) {
    }
    int status = redmoon_lock_release(lock, &err);
    assert_true(status == 0 || status == REDMOON_ELOST || status == REDMOON_EUNAVAILABLE);
    redmoon_lock_free(lock);
    if (status == 0) assert_true(held_by_anybody(f) <= 2);
  }
}

static void what_became_of_them_is_counted(void **state) {
  fixture *f = *state;
  redmoon_lock *other;
  redmoon_error err;
  redmoon_lock *lock = acquire(f->redlock, 10000);
  assert_int_equal(try_lock(f->redlock, 10000, 0, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(redmoon_lock_extend(lock, 20000, &err), 0);
  give_back(lock);
  char *text;
  assert_int_equal(redmoon_client_metrics(f->clients[0], &text, NULL, NULL), 0);
  assert_text(text, "redmoon_redlock_total{result=\"acquired\"} 1");
  assert_text(text, "redmoon_redlock_total{result=\"held\"} 1");
  assert_text(text, "redmoon_redlock_total{result=\"extended\"} 1");
  assert_text(text, "redmoon_redlock_total{result=\"released\"} 1");
  redmoon_free(text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_clients, close_clients)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lock_is_held_on_the_servers_with_one_fence),
      TEST(held_lock_is_refused_and_what_was_voted_for_the_loser_is_given_back),
      TEST(minority_of_dead_servers_does_no_harm),
      TEST(majority_of_dead_servers_is_told_and_leaves_nothing_behind),
      TEST(fence_rises_though_the_server_that_gave_it_is_gone),
      TEST(extension_takes_the_vote_and_the_fence_to_servers_that_lost_them),
      TEST(extension_without_a_quorum_leaves_the_lock_to_its_lease),
      TEST(lock_that_others_have_got_is_lost),
      TEST(lock_whose_servers_forgot_it_is_lost_at_the_release),
      TEST(vote_of_a_server_that_has_just_started_does_not_count),
      TEST(release_that_was_not_answered_can_be_repeated),
      TEST(request_that_is_executed_after_all_leaves_no_vote_behind),
      TEST(servers_that_swallow_everything_do_not_vote),
      TEST(waiter_gets_the_lock_when_the_lease_of_the_holder_ends),
      TEST(keeper_renews_until_the_quorum_is_lost_and_that_is_told),
      TEST(nobody_prolongs_it_beyond_its_longest_hold),
      TEST(one_server_behind_two_clients_is_found_out),
      TEST(two_servers_must_both_vote),
      TEST(bad_options_are_refused_with_the_accepted_range),
      TEST(operation_works_under_a_loop_and_outlives_the_redlock),
      TEST(cancelled_acquisition_leaves_clients_and_redlock_whole),
      TEST(renewal_that_is_under_way_does_not_take_the_lock_back),
      TEST(what_became_of_them_is_counted),
  };
  return cmocka_run_group_tests_name("redlock", tests, start_servers, stop_servers);
}
