/* SPDX-License-Identifier: MIT */
/* Calls that share connections: none disturbs another, whatever becomes of it. */
#include "fault/multiplex.h"

/* Sharing. */

static void operations_of_one_thread_share_one_connection_in_any_order_of_steps(void **state) {
  redis_server *server = *state;
  enum { MANY = 200 };
  static call calls[MANY];
  char tags[MANY][16];
  redmoon_client *client = open_one(redis_server_url(server));
  for (int i = 0; i < MANY; i++) {
    snprintf(tags[i], sizeof tags[i], "tag-%d", i);
    start_echo(&calls[i], client, tags[i]);
    assert_int_equal(redmoon_op_step(calls[i].op), 0);
  }
  assert_int_equal(atomic_load(&lane_of(client)->calls), MANY);
  /* The last one first: it reads for the others, whose leader nobody steps. */
  for (int i = MANY - 1; i >= 0; i--) expect_text(&calls[i], tags[i]);
  redmoon_stats stats = stats_of(client);
  assert_int_equal(stats.dials, 1);
  assert_int_equal(stats.hits + stats.misses, 1);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.idle, 1);
  redmoon_client_close(client);
}

static void two_batches_are_in_flight_and_the_rest_goes_out_together(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  enum { MANY = 10 };
  call calls[MANY];
  char tag[2] = "a";
  start_echo(&calls[0], client, "a");
  step_until_sent(client, &calls[0]);
  rm_lane *lane = lane_of(client);
  for (int i = 1; i < MANY; i++) {
    tag[0] = (char)('a' + i);
    start_echo(&calls[i], client, tag);
    assert_int_equal(redmoon_op_step(calls[i].op), 0);
  }
  assert_int_equal(count(&lane->in_flight), 2);
  assert_int_equal(count(&lane->pending), MANY - 2);
  assert_int_equal(lane->batches, 2);
  expect_text(&calls[0], "a");
  assert_int_equal(count(&lane->pending), 0);
  for (int i = 1; i < MANY; i++) expect_text(&calls[i], (char[]){(char)('a' + i), '\0'});
  redmoon_client_close(client);
}

/* Of three calls one is pending, and two were answered and have not gone on yet. */
static void a_small_batch_waits_while_threads_are_woken_and_half_of_the_calls_do_not(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call calls[3];
  rm_lane *lane = lane_of(client);
  start_echo(&calls[0], client, "0");
  step_until_sent(client, &calls[0]);
  for (int i = 1; i < 3; i++) {
    start_echo(&calls[i], client, (char[]){(char)('0' + i), '\0'});
    assert_int_equal(redmoon_op_step(calls[i].op), 0);
  }
  assert_int_equal(count(&lane->in_flight), 2);
  rm_lane_lock(lane);
  while (count(&lane->in_flight) > 0) rm_lane_receive(lane, false, rm_clock_now_us());
  assert_int_equal(count(&lane->pending), 1);
  lane->waking = true;
  rm_lane_flush(lane, rm_clock_now_us());
  assert_int_equal(count(&lane->pending), 1);
  rm_lane_unlock(lane);
  expect_text(&calls[0], "0");
  assert_int_equal(count(&lane->pending), 1); /* it is half now, but only who joins or leads sends */
  rm_lane_lock(lane);
  rm_lane_flush(lane, rm_clock_now_us());
  assert_int_equal(count(&lane->pending), 0);
  lane->waking = false;
  rm_lane_unlock(lane);
  expect_text(&calls[1], "1");
  expect_text(&calls[2], "2");
  redmoon_client_close(client);
}

static int calls_in_lanes(const redmoon_client *client) {
  int calls = 0;
  for (int i = 0; i < client->core->mux->lane_count; i++) calls += atomic_load(&client->core->mux->lanes[i].calls);
  return calls;
}

static void what_holds_or_blocks_or_is_large_has_a_connection_of_its_own(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_client *client = open_url(redis_server_url(server), options, 4);
  client->core->mux->own = 0; /* calls that block the thread share, too */
  call blocked, shared;
  start(&blocked, client, 3, ARGV("BLPOP", "nothing", "0"));
  assert_int_equal(redmoon_op_step(blocked.op), 0);
  assert_int_equal(calls_in_lanes(client), 0);
  start_echo(&shared, client, "x");
  assert_int_equal(redmoon_op_step(shared.op), 0);
  assert_int_equal(calls_in_lanes(client), 1);
  expect_text(&shared, "x"); /* not behind the one that blocks */
  redmoon_op_cancel(blocked.op);
  size_t len = 100000;
  char *large = malloc(len + 1);
  memset(large, 'x', len);
  large[len] = '\0';
  start(&shared, client, 3, ARGV("SET", "large", large));
  assert_int_equal(redmoon_op_step(shared.op), 0);
  assert_int_equal(calls_in_lanes(client), 0);
  expect_text(&shared, "OK");
  free(large);
  redmoon_reply_free(ask(client, "SET", "k", "1", NULL));
  redmoon_transaction *tx;
  redmoon_error err;
  redmoon_reply *reply;
  assert_int_equal(redmoon_transaction_begin(client, &(redmoon_bytes){"k", 1}, 1, NULL, &tx, &err), 0);
  redmoon_reply_free(ask(client, "SET", "k", "2", NULL));
  assert_int_equal(redmoon_transaction_multi(tx, &err), 0);
  assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("INCR", "k"), NULL, &err), 0);
  assert_int_equal(redmoon_transaction_exec(tx, &reply, &err), REDMOON_ECONFLICT);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

static void a_lane_that_is_held_up_is_left_for_another(void **state) {
  (void)state;
  tiny_redis *server = tiny_redis_start(NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = PATIENCE_MS;
  redmoon_client *client = open_url(tiny_redis_url(server), options, 4);
  call first, second;
  start(&first, client, 2, ARGV("GET", "t000001"));
  step_until_sent(client, &first);
  expect_text(&first, "v000001");
  tiny_redis_cut(server, TINY_REPLY, 3, TINY_HOLD);
  redmoon_pipeline *p;
  assert_int_equal(redmoon_pipeline_new(client, &p, NULL), 0);
  for (int i = 0; i < 2; i++) assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("GET", "t000002"), NULL, NULL), i);
  call held;
  assert_int_equal(redmoon_pipeline_run_start(p, &held.op, NULL), 0);
  assert_false(tiny_redis_step(server, held.op, 0));
  start(&second, client, 2, ARGV("GET", "t000003"));
  assert_int_equal(second.op->class->step(second.op, rm_clock_now_us() + 1000000), RM_WAIT);
  assert_int_equal(atomic_load(&lane_of(client)->calls), 1);
  expect_text(&second, "v000003");
  tiny_redis_go_on(server);
  redmoon_error err;
  assert_int_equal(finish(&held, &err), 0);
  redmoon_pipeline_free(p);
  redmoon_client_close(client);
  tiny_redis_stop(server);
}

/* A call that ends early. */

static void a_cancelled_call_that_was_pending_is_never_sent(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  free(redis_server_ask(server, NULL, "SET n 0"));
  call first, second, third, fourth;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start_echo(&second, client, "second");
  start(&third, client, 2, ARGV("INCR", "n"));
  start_echo(&fourth, client, "fourth");
  assert_int_equal(redmoon_op_step(second.op) + redmoon_op_step(third.op) + redmoon_op_step(fourth.op), 0);
  assert_int_equal(count(&lane_of(client)->pending), 2);
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(third.op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  expect_text(&fourth, "fourth");
  expect_text(&second, "second");
  expect_text(&first, "first");
  char *n = redis_server_ask(server, NULL, "GET n");
  assert_string_equal(n, "0");
  free(n);
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_client_close(client);
}

static void a_cancelled_call_that_was_sent_leaves_its_reply_to_nobody(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  for (int way = 0; way < 2; way++) {
    free(redis_server_ask(server, NULL, "SET n 0"));
    call first, second;
    start(&first, client, 2, ARGV("INCR", "n"));
    step_until_sent(client, &first);
    start_echo(&second, client, "second");
    assert_int_equal(redmoon_op_step(second.op), 0);
    if (way == 1) { /* it was answered, but nobody has looked */
      poll_wants(first.op, PATIENCE_MS);
      while (first.op->status == RM_WAIT && ((rm_call *)first.op)->slot->state != RM_SLOT_DONE) {
        rm_lane_lock(lane_of(client));
        rm_lane_receive(lane_of(client), false, rm_clock_now_us());
        rm_lane_unlock(lane_of(client));
      }
    }
    redmoon_error err;
    assert_int_equal(redmoon_op_finish(first.op, &err), REDMOON_ECANCELLED);
    assert_int_equal(err.outcome, REDMOON_UNKNOWN);
    expect_text(&second, "second");
    char *n = redis_server_ask(server, NULL, "GET n");
    assert_string_equal(n, "1");
    free(n);
  }
  assert_int_equal(stats_of(client).dials, 1);
  assert_int_equal(stats_of(client).idle, 1);
  redmoon_client_close(client);
}

/* All of its replies are nobody's, also when some of them have come already. */
static void a_cancelled_pipeline_leaves_each_of_its_replies_to_nobody(void **state) {
  (void)state;
  for (size_t answered = 1; answered <= 3; answered++) {
    tiny_redis *server = tiny_redis_start(NULL);
    redmoon_client *client = open_one(tiny_redis_url(server));
    call first, second;
    start(&first, client, 2, ARGV("GET", "t000001"));
    step_until_sent(client, &first);
    expect_text(&first, "v000001");
    tiny_redis_cut(server, TINY_REPLY, (answered - 1) * (sizeof "$7\r\nv000002\r\n" - 1) + 3, TINY_HOLD);
    redmoon_pipeline *p;
    assert_int_equal(redmoon_pipeline_new(client, &p, NULL), 0);
    for (int i = 0; i < 4; i++) assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("GET", "t000002"), NULL, NULL), i);
    call pipe;
    assert_int_equal(redmoon_pipeline_run_start(p, &pipe.op, NULL), 0);
    assert_false(tiny_redis_step(server, pipe.op, 0));
    start(&second, client, 2, ARGV("GET", "t000003"));
    assert_int_equal(redmoon_op_step(second.op), 0);
    redmoon_error err;
    assert_int_equal(redmoon_op_finish(pipe.op, &err), REDMOON_ECANCELLED);
    assert_int_equal(err.outcome, REDMOON_UNKNOWN);
    for (size_t i = 0; i < 4; i++)
      assert_int_equal(redmoon_pipeline_result(p, i).outcome, i < answered ? REDMOON_ANSWERED : REDMOON_UNKNOWN);
    redmoon_pipeline_free(p);
    tiny_redis_go_on(server);
    expect_text(&second, "v000003");
    assert_int_equal(stats_of(client).dials, 1);
    redmoon_client_close(client);
    tiny_redis_stop(server);
  }
}

static void a_connection_that_still_owes_a_reply_when_all_have_left_is_closed(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call first, second;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  redmoon_op_cancel(first.op);
  assert_int_equal(stats_of(client).total, 0);
  assert_int_equal(stats_of(client).closed_dirty, 1);
  start_echo(&second, client, "second");
  expect_text(&second, "second");
  redmoon_client_close(client);
}

/* The clock of the impatient one is set ahead; the others' is not. */
static void a_deadline_of_one_call_costs_the_others_nothing(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server)), *hasty;
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.timeout_ms = 1000;
  options.max_retries = 0;
  assert_int_equal(redmoon_client_with(client, &options, &hasty, NULL), 0);
  call first, second, third;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start_echo(&second, hasty, "second");
  start_echo(&third, hasty, "third");
  assert_int_equal(redmoon_op_step(second.op) + redmoon_op_step(third.op), 0);
  redmoon_op *late[] = {second.op, third.op};
  for (int i = 0; i < 2; i++) {
    redmoon_error err;
    late[i]->status = late[i]->class->step(late[i], rm_clock_now_us() + 2000000);
    assert_int_equal(redmoon_op_finish(late[i], &err), REDMOON_ETIMEOUT);
    assert_int_equal(err.outcome, i == 0 ? REDMOON_UNKNOWN : REDMOON_NOT_SENT);
    assert_int_equal(err.phase, i == 0 ? REDMOON_PHASE_RECEIVE : REDMOON_PHASE_SEND);
    assert_non_null(strstr(err.message, "before the call's deadline"));
  }
  expect_text(&first, "first");
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_client_close(hasty);
  redmoon_client_close(client);
}

static void a_connection_that_is_silent_for_the_read_timeout_is_given_up_for_all(void **state) {
  (void)state;
  tiny_redis *server = tiny_redis_start(NULL);
  redmoon_client *client = open_one(tiny_redis_url(server));
  call first, second, third;
  start(&first, client, 2, ARGV("GET", "t000001"));
  step_until_sent(client, &first);
  expect_text(&first, "v000001");
  tiny_redis_cut(server, TINY_REPLY, 0, TINY_HOLD);
  start(&first, client, 2, ARGV("GET", "t000002"));
  step_until_sent(client, &first);
  start(&second, client, 2, ARGV("INCR", "n"));
  start(&third, client, 2, ARGV("INCR", "m"));
  assert_int_equal(redmoon_op_step(second.op) + redmoon_op_step(third.op), 0);
  first.op->status = first.op->class->step(first.op, rm_clock_now_us() + (PATIENCE_MS + 1) * INT64_C(1000));
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(first.op, &err), REDMOON_ETIMEOUT);
  /* In flight together with it: nobody knows.  Pending: it goes out on another connection. */
  assert_int_equal(finish(&second, &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(finish(&third, &err), 0);
  assert_int_equal(redmoon_reply_integer(third.reply), 1);
  redmoon_reply_free(third.reply);
  assert_true(tiny_redis_counter(server, "n") <= 1);
  assert_int_equal(stats_of(client).closed_error, 1);
  redmoon_client_close(client);
  tiny_redis_stop(server);
}

/* A call that is bad for the connection. */

static void a_bad_command_harms_nobody(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call first, bad, last;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start(&bad, client, 2, ARGV("NOSUCHCOMMAND", "x"));
  start_echo(&last, client, "last");
  assert_int_equal(redmoon_op_step(bad.op) + redmoon_op_step(last.op), 0);
  redmoon_error err;
  assert_int_equal(finish(&bad, &err), REDMOON_ESERVER);
  expect_text(&last, "last");
  expect_text(&first, "first");
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_client_close(client);
}

static void a_reply_that_is_too_large_is_told_to_its_caller_and_ends_the_connection(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_reply_size = 1024;
  redmoon_client *client = open_url(redis_server_url(server), options, 1);
  free(redis_server_ask(server, NULL, "SETRANGE big 5000 x"));
  call first, big, read, write, pending;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start(&big, client, 2, ARGV("GET", "big"));
  assert_int_equal(redmoon_op_step(big.op), 0); /* the second batch */
  start_echo(&read, client, "read");
  start(&write, client, 2, ARGV("INCR", "w"));
  start_echo(&pending, client, "pending");
  assert_int_equal(redmoon_op_step(read.op) + redmoon_op_step(write.op) + redmoon_op_step(pending.op), 0);
  expect_text(&first, "first"); /* and the last three go out behind the big one */
  redmoon_error err;
  assert_int_equal(finish(&big, &err), REDMOON_ETOO_LARGE);
  int rc = finish(&write, &err);
  if (rc != 0) {
    assert_int_equal(rc, REDMOON_EIO);
    assert_int_equal(err.outcome, REDMOON_UNKNOWN);
    assert_non_null(strstr(err.message, "shared"));
  }
  redmoon_reply_free(write.reply);
  expect_text(&read, "read"); /* repeated */
  expect_text(&pending, "pending");
  redmoon_client_close(client);
}

static void a_pipeline_travels_as_one_and_a_script_is_sent_again_with_its_source(void **state) {
  redis_server *server = *state;
  free(redis_server_ask(server, NULL, "SCRIPT FLUSH"));
  redmoon_client *client = open_one(redis_server_url(server));
  call first;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  redmoon_script *script;
  static const char source[] = "return redis.call('incr', KEYS[1])";
  assert_int_equal(redmoon_script_new(source, sizeof source - 1, &script, NULL), 0);
  free(redis_server_ask(server, NULL, "DEL s p"));
  call run;
  redmoon_script_args args = {&(redmoon_bytes){"s", 1}, 1, NULL, 0};
  assert_int_equal(redmoon_script_run_start(client, script, &args, &run.reply, &run.op, NULL), 0);
  assert_int_equal(redmoon_op_step(run.op), 0);
  redmoon_pipeline *p;
  assert_int_equal(redmoon_pipeline_new(client, &p, NULL), 0);
  for (int i = 0; i < 100; i++) assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("INCR", "p"), NULL, NULL), i);
  assert_int_equal(redmoon_pipeline_script(p, script, &args, NULL), 100);
  call pipe;
  assert_int_equal(redmoon_pipeline_run_start(p, &pipe.op, NULL), 0);
  assert_int_equal(redmoon_op_step(pipe.op), 0);
  redmoon_error err;
  assert_int_equal(finish(&run, &err), 0);
  int64_t one = redmoon_reply_integer(run.reply);
  redmoon_reply_free(run.reply);
  assert_int_equal(finish(&pipe, &err), 0);
  for (size_t i = 0; i < 100; i++)
    assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, i).reply), (int64_t)i + 1);
  assert_int_equal(one + redmoon_reply_integer(redmoon_pipeline_result(p, 100).reply), 3);
  expect_text(&first, "first");
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_pipeline_free(p);
  redmoon_script_unref(script);
  redmoon_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(operations_of_one_thread_share_one_connection_in_any_order_of_steps),
      cmocka_unit_test(two_batches_are_in_flight_and_the_rest_goes_out_together),
      cmocka_unit_test(a_small_batch_waits_while_threads_are_woken_and_half_of_the_calls_do_not),
      cmocka_unit_test(what_holds_or_blocks_or_is_large_has_a_connection_of_its_own),
      cmocka_unit_test(a_lane_that_is_held_up_is_left_for_another),
      cmocka_unit_test(a_cancelled_call_that_was_pending_is_never_sent),
      cmocka_unit_test(a_cancelled_call_that_was_sent_leaves_its_reply_to_nobody),
      cmocka_unit_test(a_cancelled_pipeline_leaves_each_of_its_replies_to_nobody),
      cmocka_unit_test(a_connection_that_still_owes_a_reply_when_all_have_left_is_closed),
      cmocka_unit_test(a_deadline_of_one_call_costs_the_others_nothing),
      cmocka_unit_test(a_connection_that_is_silent_for_the_read_timeout_is_given_up_for_all),
      cmocka_unit_test(a_bad_command_harms_nobody),
      cmocka_unit_test(a_reply_that_is_too_large_is_told_to_its_caller_and_ends_the_connection),
      cmocka_unit_test(a_pipeline_travels_as_one_and_a_script_is_sent_again_with_its_source),
  };
  return cmocka_run_group_tests(tests, start_server, stop_server);
}
