/* SPDX-License-Identifier: MIT */
/* Waiting by asking again, without a server and in virtual time: when attempts begin, and how it ends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/error.h"
#include "patterns/waiting.h"

#include <redmoon/redmoon.h>
#include <string.h>

#define MS INT64_C(1000)
#define NOW (INT64_C(1000000) * MS)

static redmoon_client *client;

static int start(void **state) {
  (void)state;
  return redmoon_client_open("unix:///nowhere/never-dialled", NULL, &client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  return 0;
}

/* What is waited for: attempts that end at once, or after one more step, as the script of the test says. */
typedef struct world {
  int grant_at;     /* the attempt that is granted, from 1; 0: none */
  int fail_at;      /* the attempt that fails otherwise */
  int refuse_start; /* the attempt that cannot be started */
  int64_t retry_us;
  int started, finished, dropped, cancelled;
  bool slow;                            /* attempts take two steps */
  int64_t left_us, now_us, at_us[4096]; /* when each was started */
} world;

typedef struct attempt {
  redmoon_op op;
  world *w;
  int number, steps;
} attempt;

static int attempt_step(redmoon_op *op, int64_t now_us) {
  (void)now_us;
  attempt *self = (attempt *)op;
  if (self->w->slow && self->steps++ == 0) {
    op->wants = (rm_wants){77, REDMOON_WANT_READ, NOW + 999 * MS};
    return RM_WAIT;
  }
  return RM_DONE;
}

static int attempt_finish(redmoon_op *op, redmoon_error *err) {
  attempt *self = (attempt *)op;
  if (self->number == self->w->grant_at) return 0;
  if (self->number == self->w->fail_at) return rm_fail(err, REDMOON_EIO, "the line is dead");
  return rm_fail(err, REDMOON_ELOCKED, "others have it");
}

static void attempt_destroy(redmoon_op *op) {
  attempt *self = (attempt *)op;
  if (op->status == RM_WAIT) self->w->cancelled++;
  rm_free(op);
}

static redmoon_outcome attempt_outcome(const redmoon_op *op) { return (void)op, REDMOON_UNKNOWN; }
static const rm_op_class attempt_class = {attempt_step, attempt_finish, attempt_destroy, attempt_outcome};

static int world_start(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err) {
  world *w = ctx;
  w->left_us = try.left_us;
  w->at_us[w->started++] = w->now_us;
  if (w->started == w->refuse_start) return rm_fail_nomem(err);
  attempt *self = rm_calloc(1, sizeof *self);
  assert_non_null(self);
  self->op.class = &attempt_class;
  self->w = w;
  self->number = w->started;
  *op = &self->op;
  return 0;
}

static int64_t world_retry(void *ctx) { return ((world *)ctx)->retry_us; }
static int world_finish(void *ctx, redmoon_error *err) {
  (void)err;
  ((world *)ctx)->finished++;
  return 0;
}
static void world_drop(void *ctx) { ((world *)ctx)->dropped++; }
static const rm_waiting_class world_class = {
    .start = world_start, .retry_us = world_retry, .finish = world_finish, .drop = world_drop};

static redmoon_op *begin(world *w, int64_t wait_ms) {
  redmoon_op *op = NULL;
  assert_int_equal(rm_waiting_start(client, &world_class, w, wait_ms, &op, NULL), 0);
  w->now_us = NOW;
  return op;
}

/* Steps it at the times it asks for, until it ends or `until_us` has come. */
static int run(redmoon_op *op, world *w, int64_t until_us) {
  while (op->status == RM_WAIT && w->now_us < until_us) {
    op->status = op->class->step(op, w->now_us);
    if (op->status != RM_WAIT) break;
    assert_int_equal(op->wants.fd, -1);
    assert_true(op->wants.until_us > w->now_us);
    w->now_us = op->wants.until_us;
  }
  return op->status;
}

static void one_attempt_is_made_without_a_wait(void **state) {
  (void)state;
  world w = {.retry_us = 50 * MS};
  redmoon_op *op = begin(&w, 0);
  redmoon_error err;
  assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_ELOCKED);
  assert_int_equal(w.left_us, 0);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ELOCKED);
  assert_string_equal(err.message, "others have it");
  assert_int_equal(w.started, 1);
  assert_int_equal(w.finished, 0);
  assert_int_equal(w.dropped, 1);
}

static void what_is_granted_is_handed_out_once(void **state) {
  (void)state;
  world w = {.grant_at = 3, .retry_us = 60000 * MS};
  redmoon_op *op = begin(&w, 60000);
  assert_int_equal(run(op, &w, RM_FOREVER), RM_DONE);
  assert_int_equal(w.finished, 0); /* not before the caller asks */
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_int_equal(w.started, 3);
  assert_int_equal(w.finished, 1);
  assert_int_equal(w.dropped, 1);
}

static void attempts_go_on_to_the_end_of_the_wait_and_the_last_is_made_there(void **state) {
  (void)state;
  for (int round = 0; round < 50; round++) {
    world w = {.retry_us = 60000 * MS};
    redmoon_op *op = begin(&w, 10000);
    assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_ELOCKED);
    assert_true(w.now_us == NOW + 10000 * MS);
    assert_true(w.at_us[w.started - 1] == NOW + 10000 * MS);
    assert_int_equal(w.left_us, 0);
    /* The bound of a sleep doubles to a quarter of a second, and is drawn from: 10 s take 80 and some, not
     * thousands. */
    assert_true(w.started > 40 && w.started < 400);
    for (int i = 1; i < w.started; i++) assert_true(w.at_us[i] - w.at_us[i - 1] <= 250 * MS);
    redmoon_op_cancel(op);
    assert_int_equal(w.dropped, 1);
  }
}

static void sleep_ends_when_what_stands_in_the_way_does(void **state) {
  (void)state;
  world w = {.retry_us = 3 * MS};
  redmoon_op *op = begin(&w, 1000);
  assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_ELOCKED);
  for (int i = 1; i < w.started; i++) {
    int64_t slept = w.at_us[i] - w.at_us[i - 1];
    assert_true(slept <= 3 * MS && (slept >= 1 * MS || i == w.started - 1)); /* and it never spins */
  }
  redmoon_op_cancel(op);
}

static int64_t by_ten_seconds(void *ctx, int attempts) { return (void)ctx, 10000 * MS * attempts; }

static void class_may_say_how_long_it_sleeps_and_the_end_of_the_wait_cuts_it(void **state) {
  (void)state;
  static const rm_waiting_class slow_class = {.start = world_start,
                                           .retry_us = world_retry,
                                           .finish = world_finish,
                                           .drop = world_drop,
                                           .pause_us = by_ten_seconds};
  world w = {.retry_us = 1 * MS};
  redmoon_op *op = NULL;
  assert_int_equal(rm_waiting_start(client, &slow_class, &w, 45000, &op, NULL), 0);
  w.now_us = NOW;
  assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_ELOCKED);
  static const int64_t seconds[] = {0, 10, 30, 45};
  assert_int_equal(w.started, 4);
  for (int i = 0; i < 4; i++) assert_true(w.at_us[i] == NOW + seconds[i] * 1000 * MS);
  assert_int_equal(w.left_us, 0);
  redmoon_op_cancel(op);
}

/* Some give up what they hold while they wait in their last attempt, so there has to be one that knows that it is. */
static void attempt_that_outlasts_the_wait_is_followed_by_the_last_at_once(void **state) {
  (void)state;
  world w = {.slow = true, .retry_us = 50 * MS};
  redmoon_op *op = begin(&w, 100);
  assert_int_equal(op->class->step(op, NOW), RM_WAIT);
  assert_true(w.left_us == 100 * MS);
  assert_int_equal(op->class->step(op, NOW + 300 * MS), RM_WAIT);
  assert_int_equal(w.started, 2);
  assert_int_equal(op->wants.fd, 77); /* it is under way already */
  assert_int_equal(w.left_us, 0);
  op->status = op->class->step(op, NOW + 300 * MS);
  assert_int_equal(op->status, REDMOON_ELOCKED);
  redmoon_op_cancel(op);
}

static void waiting_for_what_never_comes_ends_at_once(void **state) {
  (void)state;
  world w = {.retry_us = RM_WAITING_NEVER};
  redmoon_op *op = begin(&w, 60000);
  assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_ELOCKED);
  assert_int_equal(w.started, 1);
  redmoon_op_cancel(op);
}

static void any_other_failure_ends_it(void **state) {
  (void)state;
  redmoon_error err;
  world w = {.fail_at = 2, .retry_us = 50 * MS};
  redmoon_op *op = begin(&w, 60000);
  assert_int_equal(run(op, &w, RM_FOREVER), REDMOON_EIO);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_EIO);
  assert_string_equal(err.message, "the line is dead");
  world full = {.refuse_start = 2, .retry_us = 50 * MS};
  op = begin(&full, 60000);
  assert_int_equal(run(op, &full, RM_FOREVER), REDMOON_ENOMEM);
  redmoon_op_cancel(op);
  assert_int_equal(full.dropped, 1);
}

static void an_attempt_under_way_is_waited_for_and_cancelled_with_it(void **state) {
  (void)state;
  world w = {.slow = true, .retry_us = 50 * MS};
  redmoon_op *op = begin(&w, 60000);
  assert_int_equal(op->class->outcome(op), REDMOON_NOT_SENT);
  assert_int_equal(op->class->step(op, NOW), RM_WAIT);
  assert_int_equal(op->wants.fd, 77); /* the attempt's */
  assert_true(op->wants.until_us == NOW + 999 * MS);
  assert_int_equal(op->class->outcome(op), REDMOON_UNKNOWN);
  assert_int_equal(op->class->step(op, NOW), RM_WAIT);
  assert_int_equal(op->wants.fd, -1);
  assert_int_equal(op->class->outcome(op), REDMOON_NOT_SENT); /* what was refused has changed nothing */
  assert_int_equal(op->class->step(op, op->wants.until_us), RM_WAIT);
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(w.started, 2);
  assert_int_equal(w.cancelled, 1);
  assert_int_equal(w.dropped, 1);
}

static void client_that_is_shut_down_ends_a_sleep(void **state) {
  (void)state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open("unix:///nowhere/never-dialled", NULL, &own, NULL), 0);
  world w = {.retry_us = 60000 * MS};
  redmoon_op *op = NULL;
  assert_int_equal(rm_waiting_start(own, &world_class, &w, 60000, &op, NULL), 0);
  assert_int_equal(op->class->step(op, NOW), RM_WAIT);
  redmoon_client_shutdown(own);
  assert_int_equal(op->class->step(op, NOW), REDMOON_ECLOSED);
  op->status = REDMOON_ECLOSED;
  redmoon_op_cancel(op);
  redmoon_client_close(own);
  assert_int_equal(w.started, 1);
  assert_int_equal(w.dropped, 1);
}

static bool refuse(void *ctx, size_t size) { return (void)ctx, (void)size, true; }

static void lack_of_memory_drops_what_was_to_be_waited_for(void **state) {
  (void)state;
  world w = {0};
  redmoon_op *op = NULL;
  rm_alloc_set_refuse(refuse, NULL);
  int status = rm_waiting_start(client, &world_class, &w, 0, &op, NULL);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(status, REDMOON_ENOMEM);
  assert_null(op);
  assert_int_equal(w.dropped, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_attempt_is_made_without_a_wait),
      cmocka_unit_test(what_is_granted_is_handed_out_once),
      cmocka_unit_test(attempts_go_on_to_the_end_of_the_wait_and_the_last_is_made_there),
      cmocka_unit_test(sleep_ends_when_what_stands_in_the_way_does),
      cmocka_unit_test(class_may_say_how_long_it_sleeps_and_the_end_of_the_wait_cuts_it),
      cmocka_unit_test(attempt_that_outlasts_the_wait_is_followed_by_the_last_at_once),
      cmocka_unit_test(waiting_for_what_never_comes_ends_at_once),
      cmocka_unit_test(any_other_failure_ends_it),
      cmocka_unit_test(an_attempt_under_way_is_waited_for_and_cancelled_with_it),
      cmocka_unit_test(client_that_is_shut_down_ends_a_sleep),
      cmocka_unit_test(lack_of_memory_drops_what_was_to_be_waited_for),
  };
  return cmocka_run_group_tests_name("waiting", tests, start, stop);
}
