/* SPDX-License-Identifier: MIT */
/* Locks over several servers: waiting, renewal, operations under a loop, options. */
#include "server/redlock.h"

#include "engine/op.h"

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

int main(void) {
  const struct CMUnitTest tests[] = {
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
  return cmocka_run_group_tests_name("redlock ends", tests, start_servers, stop_servers);
}
