/* SPDX-License-Identifier: MIT */
/* The reply of an EXEC is lost, at every byte: the program learns whether the transaction was committed, and nothing is
 * executed twice.
 *
 *      request cut                      -> nothing was executed, and it says so
 *      reply cut before that of EXEC    -> the same
 *      reply cut in that of EXEC        -> committed; the replies are errors with the code LOST
 *      the look-up fails                -> unknown */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/transaction_internal.h"
#include "support/ask.h"
#include "support/tiny_redis.h"

#include <stdio.h>
#include <string.h>

enum { AHEAD_US = 20 * 1000000 }; /* longer than a reply may take, shorter than the whole may */

static tiny_redis *server;
static redmoon_client *client;

static int start(void **state) {
  (void)state;
  server = tiny_redis_start(NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.read_timeout_ms = 15000;
  options.timeout_ms = 60000;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  int status = redmoon_client_open(tiny_redis_url(server), &options, &client, NULL);
  redmoon_reply_free(ask(client, "PING", NULL));
  return status;
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  tiny_redis_stop(server);
  return 0;
}

static int restart(void) {
  stop(NULL);
  return start(NULL);
}

static void queue_two(redmoon_transaction *tx) {
  assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"INCR", "n"}, NULL, NULL), 0);
  assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"GET", "t1"}, NULL, NULL), 1);
}

static redmoon_transaction *begin(void) {
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, NULL), 0);
  queue_two(tx);
  return tx;
}

static void set_cut(tiny_place place, size_t at, tiny_end end) {
  tiny_redis_cut(server, place, at, end);
  redmoon_reply_free(ask(client, "PING", NULL));
}

/* The replies of an EXEC whose own replies went with the connection. */
static void assert_lost(redmoon_reply *replies) {
  assert_int_equal(redmoon_reply_count(replies), 2);
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, i)), REDMOON_ERROR);
    assert_int_equal(strncmp(redmoon_reply_string(redmoon_reply_at(replies, i), NULL), "LOST ", 5), 0);
  }
  redmoon_reply_free(replies);
}

/* EXEC, up to the end.  Where it is held, the clock is set so that its limit ends; the test does not wait for it. */
static int run_exec(redmoon_transaction *tx, tiny_end end, redmoon_reply **replies, redmoon_error *err) {
  if (end == TINY_CLOSE) return redmoon_transaction_exec(tx, replies, err);
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(tx, replies, &op, NULL), 0);
  assert_false(tiny_redis_step(server, op, 0));
  assert_true(tiny_redis_step(NULL, op, AHEAD_US));
  return redmoon_op_finish(op, err);
}

/* What the flight of the transaction takes. */
static size_t measure(tiny_place place) {
  size_t before = tiny_redis_bytes(server, place);
  redmoon_transaction *tx = begin();
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), 0);
  assert_int_equal(redmoon_reply_count(replies), 2);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
  return tiny_redis_bytes(server, place) - before;
}

/* Cut at this byte, it is committed or it is not, and it says so. */
static void assert_resolved(tiny_place place, size_t at, tiny_end end, bool committed) {
  restart();
  redmoon_transaction *tx = begin();
  set_cut(place, at, end);
  redmoon_reply *replies;
  redmoon_error err;
  int status = run_exec(tx, end, &replies, &err);
  if (end == TINY_HOLD) { /* what the server still has to do, it does now */
    tiny_redis_go_on(server);
    assert_true(fake_server_wait_ended(tiny_redis_server(server), 1));
  }
  if (committed) {
    assert_int_equal(status, 0);
    assert_lost(replies);
  } else {
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_int_equal(err.retryable, 1);
    assert_int_equal(status, REDMOON_EIO);
    assert_null(replies);
  }
  redmoon_transaction_free(tx);
  assert_int_equal(tiny_redis_counter(server, "n"), committed);
  assert_int_equal(fake_server_count(tiny_redis_server(server), "EXEC"), place == TINY_REPLY && committed);
}

static void cut_everywhere(tiny_end end, size_t step) {
  /* Up to EXEC's own: that of MULTI, and one for each of INCR, GET and the marker's SET. */
  const size_t before_exec = strlen("+OK\r\n") + 3 * strlen("+QUEUED\r\n");
  size_t requests = measure(TINY_REQUEST), replies = measure(TINY_REPLY), cuts = 0;
  for (size_t at = end == TINY_HOLD ? 0 : 1; at < requests; at += step, cuts++)
    assert_resolved(TINY_REQUEST, at, end, false);
  for (size_t at = 0; at < replies; at += step, cuts++)
    assert_resolved(TINY_REPLY, at, end, at >= before_exec);
  print_message("%zu cut points\n", cuts);
}

static void an_exec_cut_off_at_any_byte_is_resolved(void **state) {
  (void)state;
  cut_everywhere(TINY_CLOSE, 1);
}

static void an_exec_that_times_out_is_resolved_and_can_no_longer_be_executed(void **state) {
  (void)state;
  cut_everywhere(TINY_HOLD, 1);
}

/* By whom the key was written. */

static void the_marker_of_another_transaction_is_not_taken_for_its_own(void **state) {
  (void)state;
  measure(TINY_REPLY); /* committed: its marker is there */
  redmoon_transaction *tx = begin();
  set_cut(TINY_REPLY, 0, TINY_CLOSE);
  redmoon_reply *replies;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_EIO);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(tiny_redis_counter(server, "n"), 1);
  redmoon_transaction_free(tx);
}

/* The look-up fails. */

static void assert_unknown(const redmoon_error *err) {
  assert_int_equal(err->outcome, REDMOON_UNKNOWN);
  assert_int_equal(err->retryable, 0);
}

static size_t in_exec(void) { return strlen("+OK\r\n") + 3 * strlen("+QUEUED\r\n") + 2; }

static void without_time_for_the_look_up_an_exec_is_unknown(void **state) {
  (void)state;
  redmoon_transaction *tx = begin();
  set_cut(TINY_REPLY, in_exec(), TINY_HOLD);
  redmoon_reply *replies;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  assert_false(tiny_redis_step(server, op, 0));
  assert_true(tiny_redis_step(NULL, op, INT64_C(61) * 1000000)); /* the whole of it may take 60 s */
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ETIMEOUT);
  assert_unknown(&err);
  redmoon_transaction_free(tx);
}

/* max_retries is for commands; what became of an EXEC can be learned as long as there is time. */
static void a_look_up_that_fails_is_repeated_whatever_max_retries_says(void **state) {
  (void)state;
  redmoon_call_options once = REDMOON_CALL_OPTIONS_INIT;
  once.max_retries = 0;
  redmoon_client *view;
  assert_int_equal(redmoon_client_with(client, &once, &view, NULL), 0);
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(view, NULL, 0, NULL, &tx, NULL), 0);
  queue_two(tx);
  set_cut(TINY_REPLY, in_exec(), TINY_HOLD);
  redmoon_reply *replies;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  assert_false(tiny_redis_step(server, op, 0));
  tiny_redis_cut_connection(server, TINY_REPLY, 0, TINY_CLOSE); /* the first that is to look it up */
  assert_true(tiny_redis_step(NULL, op, AHEAD_US));
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_lost(replies);
  assert_true(tiny_redis_is_reached(server));
  redmoon_transaction_free(tx);
  redmoon_client_close(view);
}

static void an_exec_is_unknown_where_the_marker_may_not_be_read(void **state) {
  (void)state;
  redmoon_transaction *tx = begin();
  set_cut(TINY_REPLY, in_exec(), TINY_HOLD);
  redmoon_reply *replies;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  assert_false(tiny_redis_step(server, op, 0));
  tiny_redis_refuse(server, "GET");
  assert_true(tiny_redis_step(NULL, op, AHEAD_US));
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ETIMEOUT);
  assert_unknown(&err);
  redmoon_transaction_free(tx);
}

static void an_exec_that_the_old_connection_could_still_bring_is_unknown(void **state) {
  (void)state;
  redmoon_transaction *tx = begin();
  set_cut(TINY_REPLY, 0, TINY_HOLD);
  tiny_redis_refuse(server, "CLIENT"); /* it cannot be killed */
  redmoon_reply *replies;
  redmoon_error err;
  assert_int_equal(run_exec(tx, TINY_HOLD, &replies, &err), REDMOON_ETIMEOUT);
  assert_unknown(&err);
  /* And so it is: the server goes on and executes it, once. */
  tiny_redis_go_on(server);
  assert_true(fake_server_wait_ended(tiny_redis_server(server), 1));
  assert_int_equal(fake_server_count(tiny_redis_server(server), "EXEC"), 1);
  redmoon_transaction_free(tx);
}

static void an_exec_whose_connection_cannot_be_killed_is_committed_if_its_marker_is_there(void **state) {
  (void)state;
  redmoon_transaction *tx = begin();
  set_cut(TINY_REPLY, in_exec(), TINY_CLOSE);
  tiny_redis_refuse(server, "CLIENT");
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), 0);
  assert_lost(replies);
  redmoon_transaction_free(tx);
}

/* The whole of it. */

static int body(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  (void)err;
  ++*(int *)ctx;
  queue_two(tx);
  return 0;
}

static void a_run_whose_exec_was_not_executed_runs_its_body_again(void **state) {
  (void)state;
  set_cut(TINY_REPLY, 0, TINY_CLOSE);
  int runs = 0;
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_run(client, NULL, 0, body, &runs, NULL, &replies, NULL), 0);
  assert_int_equal(runs, 2);
  assert_int_equal(tiny_redis_counter(server, "n"), 1);
  assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 0)), 1);
  redmoon_reply_free(replies);
}

static void a_run_whose_exec_was_executed_runs_its_body_once(void **state) {
  (void)state;
  set_cut(TINY_REPLY, in_exec(), TINY_CLOSE);
  int runs = 0;
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_run(client, NULL, 0, body, &runs, NULL, &replies, NULL), 0);
  assert_int_equal(runs, 1);
  assert_int_equal(tiny_redis_counter(server, "n"), 1);
  assert_lost(replies);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
  const struct CMUnitTest tests[] = {
      TEST(an_exec_cut_off_at_any_byte_is_resolved),
      TEST(an_exec_that_times_out_is_resolved_and_can_no_longer_be_executed),
      TEST(the_marker_of_another_transaction_is_not_taken_for_its_own),
      TEST(without_time_for_the_look_up_an_exec_is_unknown),
      TEST(a_look_up_that_fails_is_repeated_whatever_max_retries_says),
      TEST(an_exec_is_unknown_where_the_marker_may_not_be_read),
      TEST(an_exec_that_the_old_connection_could_still_bring_is_unknown),
      TEST(an_exec_whose_connection_cannot_be_killed_is_committed_if_its_marker_is_there),
      TEST(a_run_whose_exec_was_not_executed_runs_its_body_again),
      TEST(a_run_whose_exec_was_executed_runs_its_body_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
