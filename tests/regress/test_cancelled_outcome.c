/* SPDX-License-Identifier: MIT */
/* An operation that was cancelled after its command had gone out said "not sent": whoever believed that and repeated it
 * had it executed twice. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/tiny_redis.h"

#include <redmoon/redmoon.h>
#include <string.h>

#define INCR (const char *[]){"INCR", "k"}

typedef struct fixture {
  tiny_redis *server;
  redmoon_client *client;
} fixture;

static int setup(void **state) {
  static fixture f;
  *state = &f;
  f.server = tiny_redis_start(NULL);
  assert_int_equal(redmoon_client_open(tiny_redis_url(f.server), NULL, &f.client, NULL), 0);
  redmoon_reply *reply;
  assert_int_equal(redmoon_command(f.client, 2, INCR, NULL, &reply, NULL), 0); /* so that a connection is there */
  redmoon_reply_free(reply);
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  tiny_redis_stop(f->server);
  return 0;
}

static void assert_cancelled(redmoon_op *op, redmoon_outcome outcome) {
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_string_equal(redmoon_outcome_name(err.outcome), redmoon_outcome_name(outcome));
  assert_int_equal(err.retryable, 0);
}

/* Of the replies that follow the next command's, `at` bytes come. */
static void cut(fixture *f, size_t at) {
  redmoon_reply *reply;
  tiny_redis_cut(f->server, TINY_REPLY, at, TINY_HOLD);
  assert_int_equal(redmoon_command(f->client, 1, (const char *[]){"PING"}, NULL, &reply, NULL), 0);
  redmoon_reply_free(reply);
}

static void a_command_that_has_gone_out_is_unknown(void **state) {
  fixture *f = *state;
  redmoon_op *op;
  redmoon_reply *reply;
  assert_int_equal(redmoon_command_start(f->client, 2, INCR, NULL, &reply, &op, NULL), 0);
  assert_cancelled(op, REDMOON_NOT_SENT);
  cut(f, 0);
  assert_int_equal(redmoon_command_start(f->client, 2, INCR, NULL, &reply, &op, NULL), 0);
  assert_false(tiny_redis_step(f->server, op, 0));
  assert_cancelled(op, REDMOON_UNKNOWN);
  assert_int_equal(tiny_redis_counter(f->server, "k"), 2);
}

static void of_a_pipeline_each_command_has_its_own_outcome(void **state) {
  fixture *f = *state;
  redmoon_pipeline *pipeline;
  redmoon_op *op;
  assert_int_equal(redmoon_pipeline_new(f->client, &pipeline, NULL), 0);
  for (int i = 0; i < 3; i++) assert_int_equal(redmoon_pipeline_command(pipeline, 2, INCR, NULL, NULL), i);
  cut(f, 4); /* ":2\r\n" */
  assert_int_equal(redmoon_pipeline_run_start(pipeline, &op, NULL), 0);
  assert_false(tiny_redis_step(f->server, op, 0));
  assert_cancelled(op, REDMOON_UNKNOWN);
  assert_int_equal(redmoon_pipeline_result(pipeline, 0).outcome, REDMOON_ANSWERED);
  assert_int_equal(redmoon_pipeline_result(pipeline, 1).outcome, REDMOON_UNKNOWN);
  assert_int_equal(redmoon_pipeline_result(pipeline, 2).outcome, REDMOON_UNKNOWN);
  redmoon_pipeline_free(pipeline);
}

static void an_exec_that_has_gone_out_is_unknown(void **state) {
  fixture *f = *state;
  redmoon_transaction *tx;
  redmoon_reply *replies;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_begin(f->client, NULL, 0, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_transaction_queue(tx, 2, INCR, NULL, NULL), 0);
  cut(f, 0);
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  assert_false(tiny_redis_step(f->server, op, 0));
  assert_cancelled(op, REDMOON_UNKNOWN);
  redmoon_transaction_free(tx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_command_that_has_gone_out_is_unknown, setup, teardown),
      cmocka_unit_test_setup_teardown(of_a_pipeline_each_command_has_its_own_outcome, setup, teardown),
      cmocka_unit_test_setup_teardown(an_exec_that_has_gone_out_is_unknown, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
