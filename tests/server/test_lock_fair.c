/* SPDX-License-Identifier: MIT */
/* Locks that are taken in turn, by waiters on a server of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/pausing.h"
#include "support/cutter.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define KEY "redmoon:{n}:lock"
#define QUEUE KEY ".queue"
#define BEATS KEY ".beats"

static redmoon_lock_options fair(int64_t wait_ms) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.wait_ms = wait_ms;
  options.fair = 1;
  return options;
}

static redmoon_lock *acquire(redmoon_client *client, const redmoon_lock_options *options) {
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, "n", 1, options, &lock, &err) != 0) fail_msg("%s", err.message);
  return lock;
}

static void end(redmoon_lock *lock) {
  redmoon_error err;
  if (redmoon_lock_release(lock, &err) != 0) fail_msg("%s", err.message);
  redmoon_lock_free(lock);
}

/* A waiter that is stepped by hand. */
typedef struct waiter {
  redmoon_op *op;
  redmoon_lock *lock;
} waiter;

static void wait_for(const redmoon_wants *wants) {
  struct pollfd fd = {wants->fd, (short)((wants->events & REDMOON_WANT_WRITE ? POLLOUT : 0) |
                                         (wants->events & REDMOON_WANT_READ ? POLLIN : 0)), 0};
  (void)poll(&fd, 1, (int)wants->timeout_ms);
}

/* Steps it until it only lets time pass: it has been refused, and holds a ticket. */
static void step_to_a_pause(waiter *w) {
  redmoon_wants wants;
  for (;;) {
    assert_int_equal(redmoon_op_step(w->op), 0);
    redmoon_op_wants(w->op, &wants);
    if (is_pause(&wants)) return;
    wait_for(&wants);
  }
}

static void begin(waiter *w, redmoon_client *client, const redmoon_lock_options *options) {
  redmoon_error err;
  w->lock = NULL;
  if (redmoon_lock_acquire_start(client, "n", 1, options, &w->lock, &w->op, &err) != 0) fail_msg("%s", err.message);
  step_to_a_pause(w);
}

static int finish(waiter *w, redmoon_error *err) {
  redmoon_wants wants;
  while (!redmoon_op_step(w->op)) {
    redmoon_op_wants(w->op, &wants);
    wait_for(&wants);
  }
  return redmoon_op_finish(w->op, err);
}

/* All of them are stepped, the last one first, until one has the lock: which. */
static size_t first_of(waiter *waiters, size_t count) {
  for (;;) {
    for (size_t i = count; i-- > 0;) {
      if (waiters[i].op == NULL || !redmoon_op_step(waiters[i].op)) continue;
      redmoon_error err;
      if (redmoon_op_finish(waiters[i].op, &err) != 0) fail_msg("%s", err.message);
      waiters[i].op = NULL;
      return i;
    }
    (void)poll(NULL, 0, 1);
  }
}

enum { WAITERS = 5 };

static void waiters_get_it_in_the_order_in_which_they_asked(void **state) {
  fixture *f = *state;
  redmoon_lock_options options = fair(600000);
  redmoon_lock *held = acquire(f->client, &options);
  waiter waiters[WAITERS];
  for (size_t i = 0; i < WAITERS; i++) begin(&waiters[i], f->client, &options);
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), WAITERS);
  int64_t fence = redmoon_lock_fence(held);
  for (size_t i = 0; i < WAITERS; i++) {
    end(held);
    assert_int_equal(first_of(waiters, WAITERS), i);
    held = waiters[i].lock;
    assert_true(redmoon_lock_held(held));
    assert_true(redmoon_lock_fence(held) > fence);
    fence = redmoon_lock_fence(held);
  }
  assert_int_equal(ask_integer(f->client, "EXISTS", QUEUE, BEATS, NULL), 0);
  end(held);
}

static void newcomers_and_those_who_do_not_wait_in_turn_are_refused_while_it_is_kept(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000), at_once = fair(0);
  redmoon_lock *held = acquire(f->client, &options), *other = NULL;
  waiter head;
  begin(&head, f->client, &options);
  end(held);
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, NULL, &other, &err), REDMOON_ELOCKED);
  if (strstr(err.message, "lock 'n' is free, but kept for others, who wait in turn") == NULL) fail_msg("%s", err.message);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_true(err.retryable);
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &at_once, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), 1); /* who does not wait takes no ticket */
  assert_null(other);
  assert_int_equal(finish(&head, &err), 0);
  end(head.lock);
  end(acquire(f->client, NULL));
}

static void waiter_that_gives_up_takes_its_ticket_back(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000), brief = fair(30);
  redmoon_lock *held = acquire(f->client, &options);
  waiter first, second;
  begin(&first, f->client, &brief);
  begin(&second, f->client, &options);
  assert_int_equal(finish(&first, &err), REDMOON_ELOCKED);
  assert_non_null(strstr(err.message, "held by another"));
  assert_non_null(strstr(err.message, "waited "));
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), 1);
  assert_int_equal(ask_integer(f->client, "ZCARD", BEATS, NULL), 1);
  end(held);
  assert_int_equal(finish(&second, &err), 0);
  end(second.lock);
}

/* A cancelled one cannot ask for anything any more: its ticket ends by itself. */
static void waiter_that_was_cancelled_keeps_the_next_no_longer_than_its_ticket_lives(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000);
  redmoon_lock *held = acquire(f->client, &options);
  waiter first, second;
  begin(&first, f->client, &options);
  begin(&second, f->client, &options);
  redmoon_op_cancel(first.op);
  assert_null(first.lock);
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), 2);
  end(held);
  assert_int_equal(finish(&second, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", QUEUE, BEATS, NULL), 0);
  end(second.lock);
}

static void next_takes_it_when_the_lease_of_a_dead_holder_ends(void **state) {
  fixture *f = *state;
  redmoon_lock_options options = fair(600000);
  options.ttl_ms = 200;
  redmoon_lock_free(acquire(f->client, &options)); /* not released */
  end(acquire(f->client, &options));
}

static void owner_holds_it_once_more_past_those_who_wait(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000);
  redmoon_lock *held = acquire(f->client, &options);
  waiter next;
  begin(&next, f->client, &options);
  options.token = redmoon_lock_token(held);
  redmoon_lock *inner = acquire(f->client, &options);
  assert_int_equal(redmoon_lock_holds(inner), 2);
  assert_int_equal(redmoon_lock_fence(inner), redmoon_lock_fence(held));
  end(inner);
  end(held);
  assert_int_equal(finish(&next, &err), 0);
  end(next.lock);
}

static void request_that_waited_in_turn_gets_the_same_lock_when_it_is_repeated(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000), named = fair(600000);
  named.request_id = "r1";
  redmoon_lock *held = acquire(f->client, &options);
  waiter waits;
  begin(&waits, f->client, &named);
  end(held);
  assert_int_equal(finish(&waits, &err), 0);
  redmoon_lock *again = acquire(f->client, &named);
  assert_string_equal(redmoon_lock_token(again), redmoon_lock_token(waits.lock));
  assert_int_equal(redmoon_lock_holds(again), 1);
  redmoon_lock_free(again);
  end(waits.lock);
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &named, &again, &err), REDMOON_ELOST);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, QUEUE, BEATS, NULL), 0);
}

static void longest_hold_and_replicas_are_as_without_it(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(0);
  options.ttl_ms = 10000;
  options.max_hold_ms = 20000;
  redmoon_lock *lock = acquire(f->client, &options), *none = NULL;
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) <= 20000);
  end(lock);
  options.ttl_ms = 60;
  options.min_replicas = 1;
  options.wait_ms = 1000;
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &options, &none, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, QUEUE, BEATS, NULL), 0);
}

/* Every other answer is lost: places are kept, and nobody stands twice. */
static void lost_answers_change_no_order(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = fair(600000);
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_lock *held = acquire(f->client, &options);
  waiter waiters[2];
  cutter_lose(c, 1);
  begin(&waiters[0], through, &options); /* its first question was answered at the second try */
  assert_int_equal(cutter_left(c), 0);
  begin(&waiters[1], f->client, &options);
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), 2);
  end(held);
  cutter_lose(c, 1); /* so is the one that it is granted by */
  assert_int_equal(first_of(waiters, 2), 0);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(redmoon_lock_holds(waiters[0].lock), 1);
  assert_int_equal(ask_integer(f->client, "ZCARD", QUEUE, NULL), 1);
  end(waiters[0].lock);
  assert_int_equal(first_of(waiters, 2), 1);
  end(waiters[1].lock);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* Threads; those that stand in the queue have their turns in its order.  The workers record, the main thread asserts. */
enum { THREADS = 4, TURNS = 12 };
typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  int number, failures;
  atomic_int *inside, *turn; /* how many turns there were */
  int *log;                  /* who had them */
  int overlaps;
} worker;

static void *take_turns(void *ctx) {
  worker *w = ctx;
  redmoon_lock_options options = fair(600000);
  for (int i = 0; i < TURNS && w->failures == 0; i++) {
    redmoon_lock *lock;
    redmoon_error err;
    if (redmoon_lock_acquire(w->client, "n", 1, &options, &lock, &err) < 0) {
      w->failures++;
      break;
    }
    w->overlaps += atomic_fetch_add(w->inside, 1) != 0;
    w->log[atomic_fetch_add(w->turn, 1)] = w->number;
    atomic_fetch_sub(w->inside, 1);
    if (redmoon_lock_release(lock, &err) < 0) w->failures++;
    redmoon_lock_free(lock);
  }
  return NULL;
}

static void threads_that_wait_take_turns(void **state) {
  fixture *f = *state;
  static int log[THREADS * TURNS];
  atomic_int inside = 0, turn = 0;
  worker workers[THREADS] = {0};
  redmoon_lock_options options = fair(0);
  redmoon_lock *held = acquire(f->client, &options);
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.client = f->client, .number = i, .inside = &inside, .turn = &turn, .log = log};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]), 0);
    while (ask_integer(f->client, "ZCARD", QUEUE, NULL) <= i) { /* until it stands in the queue */
    }
  }
  end(held);
  for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].overlaps, 0);
  }
  assert_int_equal(atomic_load(&turn), THREADS * TURNS);
  for (int i = 0; i < THREADS; i++) assert_int_equal(log[i], i); /* as they came */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(waiters_get_it_in_the_order_in_which_they_asked, embedded_fixture_empty),
      cmocka_unit_test_setup(newcomers_and_those_who_do_not_wait_in_turn_are_refused_while_it_is_kept, embedded_fixture_empty),
      cmocka_unit_test_setup(waiter_that_gives_up_takes_its_ticket_back, embedded_fixture_empty),
      cmocka_unit_test_setup(waiter_that_was_cancelled_keeps_the_next_no_longer_than_its_ticket_lives, embedded_fixture_empty),
      cmocka_unit_test_setup(next_takes_it_when_the_lease_of_a_dead_holder_ends, embedded_fixture_empty),
      cmocka_unit_test_setup(owner_holds_it_once_more_past_those_who_wait, embedded_fixture_empty),
      cmocka_unit_test_setup(request_that_waited_in_turn_gets_the_same_lock_when_it_is_repeated, embedded_fixture_empty),
      cmocka_unit_test_setup(longest_hold_and_replicas_are_as_without_it, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(lost_answers_change_no_order, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(threads_that_wait_take_turns, embedded_fixture_empty),
  };
  return embedded_server_run("fair locks", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
