/* SPDX-License-Identifier: MIT */
/* Promise 1: at most once, and honest about it.  A server that takes a request and never answers has executed it once,
 * and the caller is told which of the three outcomes it was. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/pipeline.h"
#include "support/ask.h"
#include "support/tiny_redis.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_MS = 500, PATIENT_MS = 20000, BIG = 8 << 20 };

static tiny_redis *server;
static redmoon_client *client;

static int start(void **state) {
  (void)state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.read_timeout_ms = READ_MS;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  server = tiny_redis_start(NULL);
  return redmoon_client_open(tiny_redis_url(server), &options, &client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  tiny_redis_stop(server);
  return 0;
}

static redmoon_client *view_of(int64_t max_retries, int64_t idempotent) {
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.max_retries = max_retries;
  options.idempotent = idempotent;
  redmoon_client *view;
  assert_int_equal(redmoon_client_with(client, &options, &view, NULL), 0);
  return view;
}

/* From the next command on: `bytes` of the replies leave, then the connection ends that way. */
static void cut_replies(size_t bytes, tiny_end end) {
  tiny_redis_cut(server, TINY_REPLY, bytes, end);
  redmoon_reply_free(ask(client, "PING", NULL));
}

static int run(redmoon_client *by, const char *name, const char *key, redmoon_error *err) {
  redmoon_reply *reply;
  int status = redmoon_command(by, 2, (const char *[]){name, key}, NULL, &reply, err);
  redmoon_reply_free(reply);
  return status;
}

static size_t sent(const char *name) { return fake_server_count(tiny_redis_server(server), name); }

/* One command. */

static void an_unanswered_incr_is_executed_once_and_reported_unknown(void **state) {
  (void)state;
  cut_replies(0, TINY_HOLD);
  redmoon_error err;
  assert_int_equal(run(client, "INCR", "n", &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.retryable, 0);
  assert_int_equal(err.attempts, 1);
  assert_int_equal(err.phase, REDMOON_PHASE_RECEIVE);
  assert_non_null(strstr(err.message, "did not answer within 500 ms"));
  assert_int_equal(sent("INCR"), 1);
  assert_int_equal(tiny_redis_counter(server, "n"), 1);
}

static void an_incr_whose_connection_breaks_is_executed_once_and_reported_unknown(void **state) {
  (void)state;
  for (size_t bytes = 0; bytes < 4; bytes++) {
    cut_replies(bytes, TINY_CLOSE);
    redmoon_error err;
    assert_int_equal(run(client, "INCR", "n", &err), REDMOON_EIO);
    assert_int_equal(err.outcome, REDMOON_UNKNOWN);
    assert_int_equal(err.retryable, 0);
    assert_int_equal(err.attempts, 1);
    assert_int_equal(tiny_redis_counter(server, "n"), (int)bytes + 1);
  }
}

static void an_unanswered_get_is_sent_again(void **state) {
  (void)state;
  cut_replies(0, TINY_HOLD);
  redmoon_error err;
  assert_int_equal(run(client, "GET", "t1", &err), 0);
  assert_int_equal(err.attempts, 2);
  assert_int_equal(sent("GET"), 2);
}

static bool never_answer(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)command;
  (void)reply;
  (void)ctx;
  return true;
}

static void serve_silently(fake_peer *peer, void *ctx) { fake_serve(peer, never_answer, ctx); }

static void a_get_that_is_never_answered_is_sent_max_retries_times_more(void **state) {
  (void)state;
  fake_server *mute = fake_server_start(&(fake_options){.script = serve_silently});
  char url[128];
  snprintf(url, sizeof url, "unix://%s?read_timeout=0.02&max_retries=2&max_backoff=0.008", fake_server_path(mute));
  redmoon_client *lone;
  assert_int_equal(redmoon_client_open(url, NULL, &lone, NULL), 0);
  redmoon_error err;
  assert_int_equal(run(lone, "GET", "k", &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.retryable, 1); /* a read may be repeated, however it ended */
  assert_int_equal(err.attempts, 3);
  assert_int_equal(fake_server_count(mute, "GET"), 3);
  redmoon_client_close(lone);
  fake_server_stop(mute);
}

static void an_incr_declared_idempotent_is_sent_again(void **state) {
  (void)state;
  redmoon_client *view = view_of(REDMOON_UNSET, 1);
  cut_replies(0, TINY_HOLD);
  redmoon_error err;
  assert_int_equal(run(view, "INCR", "n", &err), 0);
  assert_int_equal(err.attempts, 2);
  assert_int_equal(tiny_redis_counter(server, "n"), 2);
  redmoon_client_close(view);
}

static void a_get_is_not_sent_again_where_retries_are_turned_off(void **state) {
  (void)state;
  redmoon_client *view = view_of(0, REDMOON_UNSET);
  cut_replies(0, TINY_CLOSE);
  redmoon_error err;
  assert_int_equal(run(view, "GET", "t1", &err), REDMOON_EIO);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.attempts, 1);
  assert_int_equal(sent("GET"), 1);
  redmoon_client_close(view);
}

/* A request that does not get through. */

static char *big_value(void) {
  char *value = malloc(BIG + 1);
  assert_non_null(value);
  memset(value, 'x', BIG);
  value[BIG] = '\0';
  return value;
}

static void a_request_cut_before_it_was_sent_whole_is_not_sent_and_sent_again(void **state) {
  (void)state;
  char *value = big_value();
  const char *argv[] = {"SET", "n", value};
  tiny_redis_cut(server, TINY_REQUEST, 1000, TINY_CLOSE);
  redmoon_reply_free(ask(client, "PING", NULL));
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.read_timeout_ms = options.write_timeout_ms = options.timeout_ms = PATIENT_MS;
  redmoon_client *view;
  assert_int_equal(redmoon_client_with(client, &options, &view, NULL), 0);
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_command(view, 3, argv, NULL, &reply, &err), 0);
  redmoon_client_close(view);
  assert_int_equal(err.attempts, 2);
  assert_int_equal(sent("SET"), 1);
  redmoon_reply_free(reply);
  free(value);
}

static void a_request_that_the_server_stops_taking_ends_as_not_sent(void **state) {
  (void)state;
  char *value = big_value();
  const char *argv[] = {"SET", "n", value};
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.write_timeout_ms = READ_MS;
  options.max_retries = 0;
  redmoon_client *view;
  assert_int_equal(redmoon_client_with(client, &options, &view, NULL), 0);
  tiny_redis_cut(server, TINY_REQUEST, 1000, TINY_HOLD);
  redmoon_reply_free(ask(client, "PING", NULL));
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_command(view, 3, argv, NULL, &reply, &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.phase, REDMOON_PHASE_SEND);
  assert_int_equal(err.retryable, 1);
  assert_non_null(strstr(err.message, "did not take the request within 500 ms"));
  tiny_redis_go_on(server); /* what did arrive is no command */
  assert_true(fake_server_wait_ended(tiny_redis_server(server), 1));
  assert_int_equal(sent("SET"), 0);
  redmoon_client_close(view);
  free(value);
}

/* Pipelines. */

static redmoon_pipeline *pipeline_of(const char *const (*commands)[2], size_t count) {
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, NULL), 0);
  for (size_t i = 0; i < count; i++)
    assert_int_equal(redmoon_pipeline_command(pipeline, 2, commands[i], NULL, NULL), (int)i);
  return pipeline;
}

static void assert_outcomes(const redmoon_pipeline *pipeline, const redmoon_outcome *expected, size_t count) {
  for (size_t i = 0; i < count; i++) {
    redmoon_result result = redmoon_pipeline_result(pipeline, i);
    assert_string_equal(redmoon_outcome_name(result.outcome), redmoon_outcome_name(expected[i]));
    assert_int_equal(result.reply != NULL, expected[i] == REDMOON_ANSWERED);
  }
}

static void a_broken_pipeline_keeps_what_was_answered(void **state) {
  (void)state;
  static const char *const commands[][2] = {{"INCR", "a"}, {"INCR", "b"}, {"GET", "t1"}};
  static const redmoon_outcome outcomes[] = {REDMOON_ANSWERED, REDMOON_UNKNOWN, REDMOON_UNKNOWN};
  redmoon_pipeline *pipeline = pipeline_of(commands, 3);
  cut_replies(strlen(":1\r\n"), TINY_CLOSE);
  redmoon_error err;
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), REDMOON_EIO);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.attempts, 1);
  assert_int_equal(err.retryable, 0);
  assert_outcomes(pipeline, outcomes, 3);
  assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(pipeline, 0).reply), 1);
  assert_int_equal(tiny_redis_counter(server, "a"), 1);
  assert_int_equal(tiny_redis_counter(server, "b"), 1);
  redmoon_pipeline_free(pipeline);
}

static void only_the_unanswered_rest_of_a_pipeline_is_sent_again(void **state) {
  (void)state;
  static const char *const commands[][2] = {{"INCR", "a"}, {"GET", "t1"}, {"GET", "t2"}};
  static const redmoon_outcome outcomes[] = {REDMOON_ANSWERED, REDMOON_ANSWERED, REDMOON_ANSWERED};
  redmoon_pipeline *pipeline = pipeline_of(commands, 3);
  cut_replies(strlen(":1\r\n$2\r\nv"), TINY_CLOSE);
  redmoon_error err;
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), 0);
  assert_int_equal(err.attempts, 2);
  assert_outcomes(pipeline, outcomes, 3);
  assert_string_equal(redmoon_reply_string(redmoon_pipeline_result(pipeline, 1).reply, NULL), "v1");
  assert_string_equal(redmoon_reply_string(redmoon_pipeline_result(pipeline, 2).reply, NULL), "v2");
  assert_int_equal(tiny_redis_counter(server, "a"), 1);
  assert_int_equal(sent("INCR"), 1);
  redmoon_pipeline_free(pipeline);
}

static void wait_for(redmoon_op *op) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd p = {.fd = wants.fd};
  if ((wants.events & REDMOON_WANT_READ) != 0) p.events |= POLLIN;
  poll(&p, 1, (int)wants.timeout_ms);
}

static bool answer_ok(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)command;
  (void)ctx;
  fake_append_text(reply, "+OK\r\n");
  return true;
}

/* Answers one command, leaves one unanswered, does not take the third whole; then, at the test's word, closes. */
static void answer_one_of_three(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  if (fake_index(peer) > 0) {
    fake_serve(peer, answer_ok, NULL);
    return;
  }
  fake_handshake(peer);
  if (fake_next(peer, &command) && fake_text(peer, "+first\r\n") && fake_next(peer, &command)) fake_await_release(peer);
}

/* Of three commands one is answered, `second` is sent and the third, a long one, is not sent whole. */
static redmoon_pipeline *break_behind_first(fake_server *one, const char *second, int *status, redmoon_error *err) {
  char *value = big_value(), url[128];
  snprintf(url, sizeof url, "unix://%s?max_backoff=0.008&read_timeout=20&timeout=20", fake_server_path(one));
  redmoon_client *lone;
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_client_open(url, NULL, &lone, NULL), 0);
  assert_int_equal(redmoon_pipeline_new(lone, &pipeline, NULL), 0);
  redmoon_client_close(lone);
  assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"INCR", "a"}, NULL, NULL), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){second, "b"}, NULL, NULL), 1);
  assert_int_equal(redmoon_pipeline_command(pipeline, 3, (const char *[]){"SET", "c", value}, NULL, NULL), 2);
  free(value);
  redmoon_op *op;
  assert_int_equal(redmoon_pipeline_run_start(pipeline, &op, NULL), 0);
  while (!redmoon_op_step(op) && pipeline->call.answered == 0) wait_for(op);
  assert_int_equal(pipeline->call.answered, 1);
  assert_true(fake_server_wait_commands(one, 5)); /* three of the handshake */
  fake_server_release(one);
  rm_drive(op);
  *status = redmoon_op_finish(op, err);
  return pipeline;
}

static void each_command_of_a_broken_pipeline_has_its_own_outcome(void **state) {
  (void)state;
  static const redmoon_outcome outcomes[] = {REDMOON_ANSWERED, REDMOON_UNKNOWN, REDMOON_NOT_SENT};
  fake_server *one = fake_server_start(&(fake_options){.script = answer_one_of_three});
  redmoon_error err;
  int status;
  redmoon_pipeline *pipeline = break_behind_first(one, "INCR", &status, &err);
  assert_int_equal(status, REDMOON_EIO);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.attempts, 1);
  assert_outcomes(pipeline, outcomes, 3);
  assert_int_equal(fake_server_connections(one), 1);
  redmoon_pipeline_free(pipeline);
  fake_server_stop(one);
}

static void a_pipeline_whose_rest_is_repeatable_or_not_sent_is_tried_again(void **state) {
  (void)state;
  static const redmoon_outcome outcomes[] = {REDMOON_ANSWERED, REDMOON_ANSWERED, REDMOON_ANSWERED};
  fake_server *one = fake_server_start(&(fake_options){.script = answer_one_of_three});
  redmoon_error err;
  int status;
  redmoon_pipeline *pipeline = break_behind_first(one, "GET", &status, &err);
  assert_int_equal(status, 0);
  assert_int_equal(err.attempts, 2);
  assert_outcomes(pipeline, outcomes, 3);
  assert_string_equal(redmoon_reply_string(redmoon_pipeline_result(pipeline, 0).reply, NULL), "first");
  assert_int_equal(fake_server_count(one, "INCR"), 1);
  assert_int_equal(fake_server_count(one, "GET"), 2);
  assert_int_equal(fake_server_count(one, "SET"), 1);
  redmoon_pipeline_free(pipeline);
  fake_server_stop(one);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
  const struct CMUnitTest tests[] = {
      TEST(an_unanswered_incr_is_executed_once_and_reported_unknown),
      TEST(an_incr_whose_connection_breaks_is_executed_once_and_reported_unknown),
      TEST(an_unanswered_get_is_sent_again),
      TEST(a_get_that_is_never_answered_is_sent_max_retries_times_more),
      TEST(an_incr_declared_idempotent_is_sent_again),
      TEST(a_get_is_not_sent_again_where_retries_are_turned_off),
      TEST(a_request_cut_before_it_was_sent_whole_is_not_sent_and_sent_again),
      TEST(a_request_that_the_server_stops_taking_ends_as_not_sent),
      TEST(a_broken_pipeline_keeps_what_was_answered),
      TEST(only_the_unanswered_rest_of_a_pipeline_is_sent_again),
      TEST(each_command_of_a_broken_pipeline_has_its_own_outcome),
      TEST(a_pipeline_whose_rest_is_repeatable_or_not_sent_is_tried_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
