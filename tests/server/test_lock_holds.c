/* SPDX-License-Identifier: MIT */
/* Locks that are waited for, held more than once, limited, asked for by id, and copied to replicas: on servers of the test's
 * own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/pausing.h"
#include "support/cutter.h"
#include "support/redis_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "redmoon:{n}:lock"

typedef struct fixture {
  redis_server *server;
  redmoon_client *client;
} fixture;

static int start(void **state) {
  static fixture f;
  redmoon_error err;
  f.server = redis_server_start(&(redis_server_options){.tcp = true});
  if (redmoon_client_open(redis_server_url(f.server), NULL, &f.client, &err) != 0) fail_msg("%s", err.message);
  *state = &f;
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redis_server_stop(f->server);
  return 0;
}

static int empty(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  return 0;
}

static redmoon_lock_options ttl(int64_t ttl_ms) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = ttl_ms;
  return options;
}

static redmoon_lock *acquire(redmoon_client *client, const redmoon_lock_options *options) {
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, "n", 1, options, &lock, &err) != 0) fail_msg("%s", err.message);
  assert_non_null(lock);
  return lock;
}

static void end(redmoon_lock *lock) {
  redmoon_error err;
  if (redmoon_lock_release(lock, &err) != 0) fail_msg("%s", err.message);
  redmoon_lock_free(lock);
}

static int drive(redmoon_op *op, redmoon_error *err) {
  while (!redmoon_op_step(op)) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {wants.fd, 0, 0};
    if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
    if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
    (void)poll(&fd, 1, (int)wants.timeout_ms);
  }
  return redmoon_op_finish(op, err);
}

/* Waiting. */

/* Steps `op` until it only lets time pass. */
static void step_to_a_pause(redmoon_op *op) {
  redmoon_wants wants = {.fd = 0};
  for (;;) {
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_op_wants(op, &wants);
    if (is_pause(&wants)) break;
    struct pollfd fd = {wants.fd, (short)((wants.events & REDMOON_WANT_WRITE ? POLLOUT : 0) | POLLIN), 0};
    (void)poll(&fd, 1, (int)wants.timeout_ms);
  }
  assert_true(wants.timeout_ms >= 0 && wants.timeout_ms <= 5000);
}

static void waiter_gets_the_lock_after_its_release(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *first = acquire(f->client, NULL), *second = NULL;
  int64_t fence = redmoon_lock_fence(first);
  redmoon_lock_options options = ttl(10000);
  options.wait_ms = 60000;
  redmoon_op *op;
  assert_int_equal(redmoon_lock_acquire_start(f->client, "n", 1, &options, &second, &op, &err), 0);
  step_to_a_pause(op);
  assert_null(second);
  end(first);
  if (drive(op, &err) != 0) fail_msg("%s", err.message);
  assert_true(redmoon_lock_held(second));
  assert_true(redmoon_lock_fence(second) > fence);
  assert_true(redmoon_lock_remaining_ms(second) > 5000); /* counted from when it was asked for last */
  end(second);
}

static void waiter_gets_the_lock_when_the_lease_of_a_dead_holder_ends(void **state) {
  fixture *f = *state;
  redmoon_lock_options options = ttl(300);
  redmoon_lock_free(acquire(f->client, &options)); /* not released */
  options = ttl(10000);
  options.wait_ms = 60000;
  redmoon_lock *lock = acquire(f->client, &options);
  assert_true(redmoon_lock_held(lock));
  end(lock);
}

static void waiter_gives_up_after_its_wait_and_says_how_long_it_was(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *first = acquire(f->client, NULL), *second = NULL;
  redmoon_lock_options options = ttl(10000);
  options.wait_ms = 60;
  int64_t began_us = rm_clock_now_us();
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &options, &second, &err), REDMOON_ELOCKED);
  assert_true(rm_clock_now_us() - began_us >= 60000);
  assert_null(second);
  assert_non_null(strstr(err.message, "waited "));
  assert_true(err.attempts >= 2);
  assert_true(err.retryable);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  end(first);
}

/* `timeout` is for each time that the server is asked. */
static void wait_may_be_longer_than_the_timeout_of_a_call(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_client *view;
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  call.timeout_ms = 200;
  assert_int_equal(redmoon_client_with(f->client, &call, &view, &err), 0);
  redmoon_lock_options options = ttl(600);
  redmoon_lock_free(acquire(f->client, &options));
  options.wait_ms = 60000;
  end(acquire(view, &options));
  redmoon_client_close(view);
}

static void shutdown_and_cancel_end_a_wait(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(redis_server_url(f->server), NULL, &own, &err), 0);
  redmoon_lock *first = acquire(f->client, NULL), *second = NULL;
  redmoon_lock_options options = ttl(10000);
  options.wait_ms = 86400000;
  redmoon_op *op, *other;
  assert_int_equal(redmoon_lock_acquire_start(own, "n", 1, &options, &second, &op, &err), 0);
  assert_int_equal(redmoon_lock_acquire_start(own, "n", 1, &options, &second, &other, &err), 0);
  step_to_a_pause(op);
  step_to_a_pause(other);
  assert_int_equal(redmoon_op_finish(other, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_client_shutdown(own);
  assert_int_equal(redmoon_op_step(op), 1);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECLOSED);
  assert_null(second);
  redmoon_client_close(own);
  end(first);
}

/* Held more than once. */

static void owner_may_hold_it_again_and_releases_each_hold(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *outer = acquire(f->client, NULL), *other = NULL;
  redmoon_lock_options options = ttl(20000);
  options.token = redmoon_lock_token(outer);
  redmoon_lock *inner = acquire(f->client, &options);
  assert_int_equal(redmoon_lock_holds(outer), 1);
  assert_int_equal(redmoon_lock_holds(inner), 2);
  assert_int_equal(redmoon_lock_fence(inner), redmoon_lock_fence(outer));
  assert_string_equal(redmoon_lock_token(inner), redmoon_lock_token(outer));
  assert_true(redmoon_lock_remaining_ms(inner) > 15000);
  assert_int_equal(redmoon_lock_release(inner, &err), 0);
  assert_int_equal(redmoon_lock_holds(inner), 1); /* still held, by the other handle */
  assert_false(redmoon_lock_held(inner));
  assert_int_equal(redmoon_lock_release(inner, &err), 0);
  assert_true(redmoon_lock_held(outer));
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, NULL, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(redmoon_lock_extend(outer, REDMOON_UNSET, &err), 0);
  assert_int_equal(redmoon_lock_release(outer, &err), 0);
  assert_int_equal(redmoon_lock_holds(outer), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  redmoon_lock_free(inner);
  redmoon_lock_free(outer);
}

static void hold_of_an_earlier_acquisition_by_the_same_owner_is_lost(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *old = acquire(f->client, NULL);
  ask_integer(f->client, "DEL", KEY, NULL);
  redmoon_lock_options options = ttl(20000);
  options.token = redmoon_lock_token(old);
  redmoon_lock *anew = acquire(f->client, &options);
  assert_int_equal(redmoon_lock_holds(anew), 1);
  assert_true(redmoon_lock_fence(anew) > redmoon_lock_fence(old));
  assert_int_equal(redmoon_lock_extend(old, REDMOON_UNSET, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_lock_release(old, &err), REDMOON_ELOST);
  assert_true(redmoon_lock_lost(old));
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 1);
  redmoon_lock_free(old);
  end(anew);
}

/* Every answer is lost once: holds are neither counted twice nor given back twice. */
static void lost_answers_change_no_count_of_holds(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(redis_server_url(f->server));
  redmoon_client *through;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_lock *outer = acquire(f->client, NULL);
  redmoon_lock_options options = ttl(20000);
  options.token = redmoon_lock_token(outer);
  cutter_lose(c, 1);
  redmoon_lock *inner = acquire(through, &options);
  assert_int_equal(redmoon_lock_holds(inner), 2);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_lock_release(inner, &err), 0);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(redmoon_lock_holds(inner), 1);
  redmoon_lock_free(inner);
  end(outer);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* The longest hold. */

static void longest_hold_cuts_extensions_and_is_told(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = ttl(10000);
  options.max_hold_ms = 20000;
  redmoon_lock *lock = acquire(f->client, &options);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  int64_t left = redmoon_lock_remaining_ms(lock);
  assert_true(left > 10000 && left <= 20000);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "beyond its max_hold"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_true(redmoon_lock_held(lock));
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) <= 20000);
  end(lock);
}

/* Requests with an id. */

static void repeated_request_gets_the_same_lock(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = ttl(20000);
  options.request_id = "r-1";
  redmoon_lock *first = acquire(f->client, &options), *again = acquire(f->client, &options), *none = NULL;
  assert_string_equal(redmoon_lock_token(again), redmoon_lock_token(first));
  assert_int_equal(redmoon_lock_fence(again), redmoon_lock_fence(first));
  assert_int_equal(redmoon_lock_holds(again), 1);
  assert_true(redmoon_lock_remaining_ms(again) <= 20000);
  end(again);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &options, &none, &err), REDMOON_ELOST);
  assert_non_null(strstr(err.message, "held no more"));
  assert_null(none);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  redmoon_lock_free(first);
}

static void acquisition_that_ended_unknown_is_found_by_its_id(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(redis_server_url(f->server));
  redmoon_options once = REDMOON_OPTIONS_INIT;
  once.max_retries = 0;
  redmoon_client *through;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(cutter_url(c), &once, &through, &err), 0);
  redmoon_lock_options options = ttl(20000);
  options.request_id = "r.2";
  redmoon_lock *lock = NULL;
  cutter_lose(c, 1);
  assert_true(redmoon_lock_acquire(through, "n", 1, &options, &lock, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_null(lock);
  lock = acquire(f->client, &options);
  char owner[64];
  ask_text(f->client, owner, sizeof owner, "HGET", KEY, "owner", NULL);
  assert_string_equal(owner, redmoon_lock_token(lock));
  end(lock);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* Replicas. */

static void lock_that_reaches_too_few_replicas_is_given_back(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = ttl(60);
  options.min_replicas = 1;
  options.renew = 1;
  redmoon_lock *lock = NULL;
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &options, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_null(lock);
  assert_non_null(strstr(err.message, "it has reached 0 replicas in time, and min_replicas is 1"));
  assert_null(strstr(err.message, "could not be given back"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
}

static redis_server *replica_of(fixture *f) {
  char port[16];
  snprintf(port, sizeof port, "%d", redis_server_port(f->server));
  const char *args[] = {"--replicaof", "127.0.0.1", port, "--repl-diskless-load", "disabled", NULL};
  redis_server *replica = redis_server_start(&(redis_server_options){.args = args});
  int64_t patience_us = rm_clock_now_us() + 20000000;
  while (ask_integer(f->client, "WAIT", "1", "100", NULL) < 1) assert_true(rm_clock_now_us() < patience_us);
  return replica;
}

static void lock_that_reaches_its_replicas_is_held(void **state) {
  fixture *f = *state;
  redis_server *replica = replica_of(f);
  redmoon_lock_options options = ttl(30000);
  options.min_replicas = 1;
  redmoon_lock *lock = acquire(f->client, &options);
  assert_true(redmoon_lock_held(lock));
  char *there = redis_server_ask(replica, NULL, "EXISTS " KEY);
  assert_string_equal(there, ":1");
  free(there);
  redmoon_stats stats;
  redmoon_client_stats(f->client, &stats);
  assert_int_equal(stats.in_use, 0);
  end(lock);
  redis_server_stop(replica);
}

/* Its answer was lost; the connection that repeats it has written nothing before, and that is what servers count. */
static void acquisition_that_is_repeated_waits_for_its_replicas_as_well(void **state) {
  fixture *f = *state;
  redis_server *replica = replica_of(f);
  for (int i = 0; i < 2; i++) {
    cutter *c = cutter_start(redis_server_url(f->server));
    redmoon_client *through;
    redmoon_error err;
    assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
    redmoon_lock_options options = ttl(60000);
    options.min_replicas = 1;
    options.request_id = i == 1 ? "r.3" : NULL;
    redmoon_lock *lock = NULL;
    redis_server_freeze(replica, true); /* it lags */
    cutter_lose(c, 1);
    assert_int_equal(redmoon_lock_acquire(through, "n", 1, &options, &lock, &err), REDMOON_EUNAVAILABLE);
    assert_int_equal(cutter_left(c), 0);
    assert_non_null(strstr(err.message, "it has reached 0 replicas in time"));
    assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
    redis_server_freeze(replica, false);
    redmoon_client_close(through);
    cutter_stop(c);
  }
  redis_server_stop(replica);
}

static void bad_options_are_refused_with_the_accepted_range(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *lock = NULL;
  static const struct {
    redmoon_lock_options options;
    const char *says;
  } bad[] = {
      {{10000, -1, 0, 0, 0, NULL, NULL, 0}, "lock option wait: -1 ms is not accepted; give 0 to 86400000 ms"},
      {{10000, 86400001, 0, 0, 0, NULL, NULL, 0}, "lock option wait"},
      {{10000, 0, 2, 0, 0, NULL, NULL, 0}, "lock option renew: 2 is not accepted; give 0 to 1"},
      {{10000, 0, 0, 9999, 0, NULL, NULL, 0}, "lock option max_hold: 9999 ms is not accepted; give 10000 to"},
      {{10000, 0, 0, INT64_MAX, 0, NULL, NULL, 0}, "lock option max_hold"},
      {{10000, 0, 0, 0, 0, NULL, NULL, 2}, "lock option fair: 2 is not accepted; give 0 to 1"},
      {{10000, 0, 0, 0, -1, NULL, NULL, 0}, "lock option min_replicas: -1 is not accepted; give 0 to 1000"},
      {{10000, 0, 0, 0, 0, "abc", NULL, 0}, "lock option token: not accepted (3 bytes); give the token of a lock"},
      {{10000, 0, 0, 0, 0, NULL, "a b", 0}, "request_id: not accepted"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &bad[i].options, &lock, &err), REDMOON_ECONFIG);
    if (strstr(err.message, bad[i].says) == NULL) fail_msg("%s", err.message);
  }
  assert_null(lock);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
}

/* Threads that wait for each other; the workers record, the main thread asserts. */
enum { WORKERS = 6, TURNS = 25 };
typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  atomic_int *inside;
  _Atomic int64_t *last_fence;
  int overlaps, falls, failures, turns;
} worker;

static void *take_turns(void *ctx) {
  worker *w = ctx;
  redmoon_error err;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.wait_ms = 120000;
  for (; w->turns < TURNS && w->failures == 0; w->turns++) {
    redmoon_lock *lock;
    if (redmoon_lock_acquire(w->client, "n", 1, &options, &lock, &err) < 0) {
      w->failures++;
      break;
    }
    if (atomic_fetch_add(w->inside, 1) != 0) w->overlaps++;
    if (atomic_exchange(w->last_fence, redmoon_lock_fence(lock)) >= redmoon_lock_fence(lock)) w->falls++;
    atomic_fetch_sub(w->inside, 1);
    if (redmoon_lock_release(lock, &err) < 0) w->failures++;
    redmoon_lock_free(lock);
  }
  return NULL;
}

static void threads_that_wait_all_get_their_turns(void **state) {
  fixture *f = *state;
  atomic_int inside = 0;
  _Atomic int64_t last_fence = 0;
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].client = f->client;
    workers[i].inside = &inside;
    workers[i].last_fence = &last_fence;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].overlaps, 0);
    assert_int_equal(workers[i].falls, 0);
    assert_int_equal(workers[i].turns, TURNS);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(waiter_gets_the_lock_after_its_release, empty),
      cmocka_unit_test_setup(waiter_gets_the_lock_when_the_lease_of_a_dead_holder_ends, empty),
      cmocka_unit_test_setup(waiter_gives_up_after_its_wait_and_says_how_long_it_was, empty),
      cmocka_unit_test_setup(wait_may_be_longer_than_the_timeout_of_a_call, empty),
      cmocka_unit_test_setup(shutdown_and_cancel_end_a_wait, empty),
      cmocka_unit_test_setup(owner_may_hold_it_again_and_releases_each_hold, empty),
      cmocka_unit_test_setup(hold_of_an_earlier_acquisition_by_the_same_owner_is_lost, empty),
      cmocka_unit_test_setup(lost_answers_change_no_count_of_holds, empty),
      cmocka_unit_test_setup(longest_hold_cuts_extensions_and_is_told, empty),
      cmocka_unit_test_setup(repeated_request_gets_the_same_lock, empty),
      cmocka_unit_test_setup(acquisition_that_ended_unknown_is_found_by_its_id, empty),
      cmocka_unit_test_setup(lock_that_reaches_too_few_replicas_is_given_back, empty),
      cmocka_unit_test_setup(lock_that_reaches_its_replicas_is_held, empty),
      cmocka_unit_test_setup(acquisition_that_is_repeated_waits_for_its_replicas_as_well, empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_the_accepted_range, empty),
      cmocka_unit_test_setup(threads_that_wait_all_get_their_turns, empty),
  };
  return cmocka_run_group_tests_name("lock holds", tests, start, stop);
}
