/* SPDX-License-Identifier: MIT */
/* Error replies that say "not executed": which are tried again, and what READONLY does to the pool. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/op.h"
#include "support/ask.h"
#include "support/fake_server.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Answers the first `refusals` commands with `text`, those after it with +OK; EXEC with one reply for each of 2. */
static struct {
  pthread_mutex_t mutex;
  const char *text;
  int refusals;
  bool in_exec, counts_evalsha_only;
} plan = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static fake_server *server;
static redmoon_client *client;

static bool refuses(const fake_command *command) {
  if (plan.counts_evalsha_only && !fake_is(command, "EVALSHA")) return false;
  if (plan.refusals == 0) return false;
  plan.refusals--;
  return true;
}

static void answer_exec(fake_bytes *reply) {
  fake_append_text(reply, "*2\r\n+OK\r\n");
  fake_append_text(reply, plan.refusals > 0 ? plan.text : "+OK\r\n");
  if (plan.refusals > 0) plan.refusals--;
}

static bool answer(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  pthread_mutex_lock(&plan.mutex);
  if (plan.in_exec && fake_is(command, "MULTI"))
    fake_append_text(reply, "+OK\r\n");
  else if (plan.in_exec && fake_is(command, "EXEC"))
    answer_exec(reply);
  else if (plan.in_exec)
    fake_append_text(reply, "+QUEUED\r\n");
  else
    fake_append_text(reply, refuses(command) ? plan.text : "+OK\r\n");
  pthread_mutex_unlock(&plan.mutex);
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, answer, ctx); }

static int start(void **state) {
  (void)state;
  plan.text = "+OK\r\n";
  plan.refusals = 0;
  plan.in_exec = plan.counts_evalsha_only = false;
  server = fake_server_start(&(fake_options){.script = serve});
  char url[160];
  snprintf(url, sizeof url, "unix://%s?min_backoff=0.001&max_backoff=0.002&max_retries=5", fake_server_path(server));
  return redmoon_client_open(url, NULL, &client, NULL);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  fake_server_stop(server);
  return 0;
}

static void refuse(const char *text, int times) {
  pthread_mutex_lock(&plan.mutex);
  plan.text = text;
  plan.refusals = times;
  pthread_mutex_unlock(&plan.mutex);
}

static int incr(redmoon_error *err) {
  redmoon_reply *reply;
  int status = redmoon_command(client, 2, (const char *[]){"INCR", "n"}, NULL, &reply, err);
  redmoon_reply_free(reply);
  return status;
}

static redmoon_stats stats(void) {
  redmoon_stats s;
  redmoon_client_stats(client, &s);
  return s;
}

/* Tried again. */

static const char *const not_executed[] = {
    "-LOADING Redis is loading the dataset in memory\r\n", "-BUSY Redis is busy running a script\r\n",
    "-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "-CLUSTERDOWN The cluster is down\r\n",
    "-MASTERDOWN Link with MASTER is down\r\n"};

static void a_write_that_was_not_executed_is_tried_again(void **state) {
  (void)state;
  size_t count = 0;
  for (size_t i = 0; i < sizeof not_executed / sizeof not_executed[0]; i++) {
    refuse(not_executed[i], 3);
    redmoon_error err;
    assert_int_equal(incr(&err), 0);
    assert_int_equal(err.attempts, 4);
    assert_int_equal(fake_server_count(server, "INCR"), count += 4);
  }
  assert_int_equal(fake_server_connections(server), 1); /* all of it on the same connection */
}

static void a_write_that_is_never_executed_ends_with_the_servers_words(void **state) {
  (void)state;
  refuse(not_executed[0], 100);
  redmoon_error err;
  assert_int_equal(incr(&err), REDMOON_ESERVER);
  assert_string_equal(err.code, "LOADING");
  assert_int_equal(err.attempts, 6);
  assert_int_equal(fake_server_count(server, "INCR"), 6);
}

static void an_error_that_is_an_answer_is_not_tried_again(void **state) {
  (void)state;
  static const char *const answers[] = {"-ERR no\r\n", "-WRONGTYPE no\r\n", "-OOM no\r\n", "-NOPERM no\r\n",
                                        "-MISCONF no\r\n", "-LOADINGX no\r\n", "-NOSCRIPT no\r\n", "-NOREPLICAS no\r\n"};
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
    refuse(answers[i], 1);
    redmoon_error err;
    assert_int_equal(incr(&err), REDMOON_ESERVER);
    assert_int_equal(err.attempts, 1);
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    assert_int_equal(fake_server_count(server, "INCR"), i + 1);
  }
}

static void a_refusal_in_a_pipeline_belongs_to_its_command(void **state) {
  (void)state;
  refuse(not_executed[0], 1);
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, NULL), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"INCR", "n"}, NULL, NULL), i);
  assert_int_equal(redmoon_pipeline_run(pipeline, NULL), 0);
  assert_int_equal(redmoon_reply_type(redmoon_pipeline_result(pipeline, 0).reply), REDMOON_ERROR);
  assert_int_equal(redmoon_reply_type(redmoon_pipeline_result(pipeline, 1).reply), REDMOON_STATUS);
  assert_int_equal(fake_server_count(server, "INCR"), 2);
  redmoon_pipeline_free(pipeline);
}

/* READONLY. */

#define READONLY "-READONLY You can't write against a read only replica.\r\n"
#define READONLY_IN_SCRIPT \
  "-ERR Error running script (call to f_00): @user_script:1: -READONLY You can't write against a read only replica.\r\n"

/* Two connections in the pool: one held by an operation of somebody else's until both are there. */
static void make_two_connections(void) {
  redmoon_op *ops[2];
  redmoon_reply *replies[2];
  for (int i = 0; i < 2; i++) {
    assert_int_equal(redmoon_command_start(client, 1, (const char *[]){"PING"}, NULL, &replies[i], &ops[i], NULL), 0);
    redmoon_op_step(ops[i]);
  }
  for (int i = 0; i < 2; i++) {
    assert_int_equal(rm_run(0, &ops[i], NULL), 0);
    redmoon_reply_free(replies[i]);
  }
  assert_int_equal(stats().idle, 2);
}

/* All connections of before are gone; the next call is served by a new one. */
static void assert_purged(uint64_t connections) {
  assert_int_equal(stats().closed_failover, connections);
  assert_true(fake_server_wait_ended(server, connections));
}

static void readonly_purges_the_pool_and_is_tried_again_on_a_new_connection(void **state) {
  (void)state;
  make_two_connections();
  refuse(READONLY, 1);
  redmoon_error err;
  assert_int_equal(incr(&err), 0);
  assert_int_equal(err.attempts, 2);
  assert_purged(2);
  assert_int_equal(fake_server_connections(server), 3);
}

static void readonly_is_tried_again_only_once(void **state) {
  (void)state;
  refuse(READONLY, 100);
  redmoon_error err;
  assert_int_equal(incr(&err), REDMOON_ESERVER);
  assert_string_equal(err.code, "READONLY");
  assert_int_equal(err.attempts, 2);
  assert_int_equal(fake_server_count(server, "INCR"), 2);
  assert_int_equal(stats().idle, 0);
}

static void readonly_in_a_pipeline_purges_the_pool(void **state) {
  (void)state;
  make_two_connections();
  refuse(READONLY, 1);
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, NULL), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"INCR", "n"}, NULL, NULL), i);
  assert_int_equal(redmoon_pipeline_run(pipeline, NULL), 0);
  redmoon_pipeline_free(pipeline);
  assert_int_equal(fake_server_count(server, "INCR"), 2);
  assert_purged(2);
}

static void readonly_in_exec_purges_the_pool(void **state) {
  (void)state;
  make_two_connections();
  plan.in_exec = true;
  refuse(READONLY, 1);
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, NULL), 0);
  /* Reads, so that nothing else is queued. */
  for (int i = 0; i < 2; i++)
    assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"GET", "k"}, NULL, NULL), i);
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), 0);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 1)), REDMOON_ERROR);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
  assert_int_equal(fake_server_count(server, "EXEC"), 1);
  assert_purged(2);
}

static int run_script(redmoon_error *err) {
  static const char source[] = "return redis.call('incr', KEYS[1])";
  redmoon_script *script;
  assert_int_equal(redmoon_script_new(source, sizeof source - 1, &script, NULL), 0);
  redmoon_bytes key = {"k", 1};
  redmoon_reply *reply;
  int status = redmoon_script_run(client, script, &(redmoon_script_args){&key, 1, NULL, 0}, &reply, err);
  redmoon_reply_free(reply);
  redmoon_script_unref(script);
  return status;
}

static void readonly_in_the_text_of_a_scripts_error_purges_the_pool(void **state) {
  (void)state;
  make_two_connections();
  refuse(READONLY_IN_SCRIPT, 1);
  redmoon_error err;
  assert_int_equal(run_script(&err), 0);
  assert_int_equal(err.attempts, 2);
  assert_purged(2);
}

/* NOSCRIPT. */

static void a_script_that_the_server_lacks_goes_out_again_with_its_source(void **state) {
  (void)state;
  plan.counts_evalsha_only = true;
  refuse("-NOSCRIPT No matching script. Please use EVAL.\r\n", 1);
  redmoon_error err;
  assert_int_equal(run_script(&err), 0);
  assert_int_equal(err.attempts, 1);
  assert_int_equal(fake_server_count(server, "EVALSHA"), 1);
  assert_int_equal(fake_server_count(server, "EVAL"), 1);
  assert_int_equal(fake_server_connections(server), 1);
  const fake_command *eval = fake_server_command(server, fake_server_commands(server) - 1);
  assert_string_equal(eval->argv[1], "return redis.call('incr', KEYS[1])");
  assert_string_equal(eval->argv[2], "1");
  assert_string_equal(eval->argv[3], "k");
}

static void a_server_that_lacks_even_the_source_ends_with_its_words(void **state) {
  (void)state;
  refuse("-NOSCRIPT No matching script. Please use EVAL.\r\n", 100);
  redmoon_error err;
  assert_int_equal(run_script(&err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOSCRIPT");
  assert_int_equal(fake_server_count(server, "EVALSHA"), 1);
  assert_int_equal(fake_server_count(server, "EVAL"), 1);
}

/* At the door. */

/* The first two connections are refused at the handshake. */
static void refuse_two(fake_peer *peer, void *ctx) {
  const fake_command *command;
  if (fake_index(peer) >= 2) {
    fake_serve(peer, answer, NULL);
  } else if (fake_next(peer, &command)) {
    fake_text(peer, ctx);
    fake_half_close(peer); /* so that the words are not lost with a reset */
    fake_expect_end(peer);
  }
}

static void assert_gets_in(const char *words, const char *shown) {
  static char text[128];
  snprintf(text, sizeof text, "%s", words);
  fake_server *door = fake_server_start(&(fake_options){.script = refuse_two, .ctx = text});
  char url[160];
  snprintf(url, sizeof url, "unix://%s?min_backoff=0.001&max_backoff=0.002&max_retries=0", fake_server_path(door));
  redmoon_client *lone;
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(url, NULL, &lone, NULL), 0);
  assert_true(redmoon_command(lone, 2, (const char *[]){"INCR", "n"}, NULL, &reply, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.retryable, 1);
  assert_int_equal(err.phase, REDMOON_PHASE_HANDSHAKE);
  assert_non_null(strstr(err.message, shown));
  redmoon_call_options patient = REDMOON_CALL_OPTIONS_INIT;
  patient.max_retries = 50;
  redmoon_client *view;
  assert_int_equal(redmoon_client_with(lone, &patient, &view, NULL), 0);
  redmoon_reply_free(ask(view, "INCR", "n", NULL));
  assert_int_equal(fake_server_connections(door), 3);
  assert_int_equal(fake_server_count(door, "INCR"), 1);
  redmoon_client_close(view);
  redmoon_client_close(lone);
  fake_server_stop(door);
}

static void a_server_with_too_many_clients_is_tried_again(void **state) {
  (void)state;
  assert_gets_in("-ERR max number of clients reached\r\n", "max number of clients");
}

static void a_server_that_loads_its_data_is_tried_again(void **state) {
  (void)state;
  assert_gets_in("-LOADING Redis is loading the dataset in memory\r\n", "LOADING");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
  const struct CMUnitTest tests[] = {
      TEST(a_write_that_was_not_executed_is_tried_again),
      TEST(a_write_that_is_never_executed_ends_with_the_servers_words),
      TEST(an_error_that_is_an_answer_is_not_tried_again),
      TEST(a_refusal_in_a_pipeline_belongs_to_its_command),
      TEST(readonly_purges_the_pool_and_is_tried_again_on_a_new_connection),
      TEST(readonly_is_tried_again_only_once),
      TEST(readonly_in_a_pipeline_purges_the_pool),
      TEST(readonly_in_exec_purges_the_pool),
      TEST(readonly_in_the_text_of_a_scripts_error_purges_the_pool),
      TEST(a_script_that_the_server_lacks_goes_out_again_with_its_source),
      TEST(a_server_that_lacks_even_the_source_ends_with_its_words),
      TEST(a_server_with_too_many_clients_is_tried_again),
      TEST(a_server_that_loads_its_data_is_tried_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
