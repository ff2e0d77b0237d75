/* SPDX-License-Identifier: MIT */
/* A switch of the primary, as it is seen from the wire: told by a sentinel, found out by READONLY, or by a sentinel that was
 * lost; and sentinels that have not heard of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/fake_server.h"
#include "support/refused_memory.h"

#include <redmoon/redmoon.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKS = 5000 };

static const char readonly[] = "-READONLY You can't write against a read only replica.\r\n",
                  in_script[] = "-ERR READONLY You can't write against a read only replica. script: 1, on @user_script:1.\r\n";

static fake_server *sentinel, *nodes[2];
static atomic_int primary; /* whom the sentinel names */
static atomic_int epoch;
static atomic_bool hangs_up; /* it ends instead of telling */
static redmoon_client *client;
static redmoon_error err;

static bool answer_node(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  bool old = ctx == NULL && atomic_load(&primary) != 0; /* the first node, once it was demoted */
  if (fake_is(command, "PING")) fake_append_text(reply, "+PONG\r\n");
  else if (fake_is(command, "EVALSHA") || fake_is(command, "EVAL")) fake_append_text(reply, old ? in_script : "+OK\r\n");
  else fake_append_text(reply, old ? readonly : "+OK\r\n");
  return true;
}

static void serve_node(fake_peer *peer, void *ctx) { fake_serve(peer, answer_node, ctx); }

static void answer_sentinel(const fake_command *command, fake_bytes *reply) {
  char text[300];
  const char *what = command->argc > 1 ? command->argv[1] : "";
  if (strcmp(what, "GET-MASTER-ADDR-BY-NAME") == 0) {
    snprintf(text, sizeof text, "*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", fake_server_port(nodes[atomic_load(&primary)]));
  } else if (strcmp(what, "MASTER") == 0) {
    snprintf(text, sizeof text, "*2\r\n$12\r\nconfig-epoch\r\n:%d\r\n", atomic_load(&epoch));
  } else if (fake_is(command, "SUBSCRIBE")) {
    text[0] = '\0';
    for (size_t i = 1; i < command->argc; i++)
      snprintf(text + strlen(text), sizeof text - strlen(text), "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%s\r\n:%zu\r\n", command->lens[i],
               command->argv[i], i);
  } else if (fake_is(command, "PING")) {
    snprintf(text, sizeof text, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
  } else {
    snprintf(text, sizeof text, "*0\r\n");
  }
  fake_append_text(reply, text);
}

/* The first connection tells of the switch once it is released; later ones only answer. */
static void serve_sentinel(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  fake_handshake(peer);
  while (fake_next(peer, &command)) {
    fake_bytes reply = {0};
    answer_sentinel(command, &reply);
    bool sent = fake_send(peer, reply.ptr, reply.len);
    free(reply.ptr);
    if (!sent) return;
    if (fake_index(peer) > 0 || !fake_is(command, "SUBSCRIBE")) continue;
    if (!fake_await_release(peer) || atomic_load(&hangs_up)) return;
    fake_text(peer, "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$37\r\nother 127.0.0.1 6379 127.0.0.1 6380 x\r\n");
    fake_text(peer, "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$34\r\nmain 127.0.0.1 6379 127.0.0.1 6380\r\n");
  }
}

static fake_server *behind; /* a sentinel that has not heard of the last fail-over */
static atomic_bool behind_answers;

static bool answer_behind(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  char text[100];
  const char *what = command->argc > 1 ? command->argv[1] : "";
  if (!atomic_load(&behind_answers)) snprintf(text, sizeof text, "-ERR not yet\r\n");
  else if (strcmp(what, "GET-MASTER-ADDR-BY-NAME") == 0)
    snprintf(text, sizeof text, "*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", fake_server_port(nodes[0]));
  else if (strcmp(what, "MASTER") == 0) snprintf(text, sizeof text, "*2\r\n$12\r\nconfig-epoch\r\n:1\r\n");
  else snprintf(text, sizeof text, "*0\r\n");
  fake_append_text(reply, text);
  return true;
}

static void serve_behind(fake_peer *peer, void *ctx) { fake_serve(peer, answer_behind, ctx); }

static int start(void **state) {
  (void)state;
  atomic_store(&primary, 0);
  atomic_store(&epoch, 1);
  atomic_store(&hangs_up, false);
  nodes[0] = fake_server_start(&(fake_options){.tcp = true, .script = serve_node});
  nodes[1] = fake_server_start(&(fake_options){.tcp = true, .script = serve_node, .ctx = &primary});
  sentinel = fake_server_start(&(fake_options){.tcp = true, .script = serve_sentinel});
  char url[100];
  snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/main", fake_server_port(sentinel));
  return redmoon_client_open(url, NULL, &client, &err);
}

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  fake_server_stop(sentinel);
  for (int i = 0; i < 2; i++) fake_server_stop(nodes[i]);
  return 0;
}

static void command(const char *name) {
  redmoon_reply *reply = NULL;
  if (redmoon_command(client, 1, &name, NULL, &reply, &err) != 0) fail_msg("%s: %s", name, err.message);
  redmoon_reply_free(reply);
}

/* Until the second node is asked for `name`; nothing is ever asked of the first one then. */
static void expect_moved(const char *name) {
  for (int i = 0; fake_server_count(nodes[1], name) == 0; i++) {
    if (i == LOOKS) fail_msg("%s never came to the new primary", name);
    command(name);
    poll(NULL, 0, 2);
  }
  size_t before = fake_server_count(nodes[0], name);
  for (int i = 0; i < 10; i++) command(name);
  assert_int_equal(fake_server_count(nodes[0], name), before);
}

static void fail_over(void) {
  atomic_store(&epoch, 2);
  atomic_store(&primary, 1);
}

static void a_switch_that_a_sentinel_tells_of_is_followed(void **state) {
  (void)state;
  command("PING");
  assert_int_equal(fake_server_count(nodes[0], "PING"), 1);
  assert_true(fake_server_wait_commands(sentinel, 6)); /* CLIENT ID and the questions; it is subscribed soon */
  fail_over();
  fake_server_release(sentinel);
  expect_moved("PING");
}

static void a_sentinel_that_is_lost_is_asked_again(void **state) {
  (void)state;
  command("PING");
  fail_over();
  atomic_store(&hangs_up, true);
  fake_server_release(sentinel);
  expect_moved("PING");
}

static void readonly_in_a_pipeline_drops_the_connection_and_finds_the_new_primary(void **state) {
  (void)state;
  command("PING");
  fail_over();
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  for (int i = 0; i < 2; i++) assert_int_equal(redmoon_pipeline_command(pipeline, 3, (const char *[]){"SET", "k", "v"}, NULL, &err), i);
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), 0);
  assert_int_equal(redmoon_reply_type(redmoon_pipeline_result(pipeline, 0).reply), REDMOON_ERROR);
  redmoon_pipeline_free(pipeline);
  expect_moved("PING");
}

static void readonly_inside_a_script_does_so_too(void **state) {
  (void)state;
  command("PING");
  fail_over();
  redmoon_reply *reply = NULL;
  assert_int_equal(redmoon_command(client, 3, (const char *[]){"EVAL", "return redis.call('SET', 'k', 'v')", "0"}, NULL, &reply, &err), 0); /* again, at the new one: a replica has written nothing */
  redmoon_reply_free(reply);
  expect_moved("PING");
}

static void a_write_that_was_refused_as_readonly_goes_to_the_new_primary(void **state) {
  (void)state;
  command("PING");
  fail_over();
  redmoon_reply *reply = NULL;
  assert_int_equal(redmoon_command(client, 3, (const char *[]){"SET", "k", "v"}, NULL, &reply, &err), 0);
  redmoon_reply_free(reply);
  expect_moved("PING");
}

static void a_sentinel_that_has_not_heard_of_the_last_fail_over_is_passed_over(void **state) {
  (void)state;
  fail_over();
  atomic_store(&behind_answers, false);
  behind = fake_server_start(&(fake_options){.tcp = true, .script = serve_behind});
  char url[100];
  snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d,127.0.0.1:%d/main", fake_server_port(behind), fake_server_port(sentinel));
  redmoon_client_close(client);
  assert_int_equal(redmoon_client_open(url, NULL, &client, &err), 0);
  command("PING");
  assert_int_equal(fake_server_count(nodes[1], "PING"), 1);
  atomic_store(&behind_answers, true); /* and its primary claims to be one */
  atomic_store(&hangs_up, true);
  size_t before = fake_server_count(behind, "SENTINEL"), good = fake_server_connections(sentinel);
  fake_server_release(sentinel); /* the one that is listened to is lost, and so this one is asked before it */
  assert_true(fake_server_wait_connections(sentinel, good + 1));
  for (int i = 0; fake_server_count(behind, "SENTINEL") == before && i < LOOKS; i++) poll(NULL, 0, 2);
  assert_true(fake_server_count(behind, "SENTINEL") > before);
  for (int i = 0; i < 50; i++) {
    command("PING");
    poll(NULL, 0, 2);
  }
  assert_int_equal(fake_server_count(nodes[0], "PING"), 0);
  fake_server_stop(behind);
}

/* Opens a client, asks once, and ends it: with the `at`-th request for memory refused, or that and all later ones. */
static int ask_once(gate *g, gate_mode mode, long at) {
  char url[100];
  snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/main", fake_server_port(sentinel));
  redmoon_client *own = NULL;
  redmoon_reply *reply = NULL;
  gate_set(g, mode, at);
  int rc = redmoon_client_open(url, NULL, &own, &err);
  if (rc == 0) rc = redmoon_command(own, 1, (const char *[]){"PING"}, NULL, &reply, &err);
  redmoon_reply_free(reply);
  redmoon_client_close(own);
  return rc;
}

/* The servers are in this process, too, and may have counted one more that they were about to close: of a leak there would
 * be one more at every point. */
static void await_no_more_descriptors(size_t most, long at) {
  for (int i = 0; count_descriptors() > most; i++) {
    if (i == LOOKS) fail_msg("request %ld: %zu descriptors, %zu at most expected", at, count_descriptors(), most);
    poll(NULL, 0, 10);
  }
}

static void refused_memory_fails_a_call_cleanly_or_not_at_all(void **state) {
  (void)state;
  gate g;
  gate_set(&g, GATE_OPEN, 0);
  rm_alloc_set_refuse(gate_refuses, &g);
  atomic_store(&hangs_up, true); /* the first connection would be kept */
  fake_server_release(sentinel);
  assert_int_equal(ask_once(&g, GATE_OPEN, 0), 0);
  assert_true(fake_server_wait_ended(sentinel, 1));
  for (int i = 0; i < 2; i++) assert_true(fake_server_wait_ended(nodes[i], fake_server_connections(nodes[i])));
  size_t fds = count_descriptors();
  for (int mode = GATE_ONCE; mode <= GATE_FROM_THEN_ON; mode++) {
    bool refused = true;
    for (long at = 1; refused; at++) {
      int status = ask_once(&g, (gate_mode)mode, at);
      refused = atomic_load(&g.refused) > 0;
      gate_set(&g, GATE_OPEN, 0);
      if (status != 0 && status != REDMOON_ENOMEM) fail_msg("request %ld: %s", at, err.message);
      if (!refused) assert_int_equal(status, 0);
      if (!refused) print_message("mode %d: %ld failure points\n", mode, at - 1);
      await_no_more_descriptors(fds, at);
    }
  }
  rm_alloc_set_refuse(NULL, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_switch_that_a_sentinel_tells_of_is_followed, start, stop),
      cmocka_unit_test_setup_teardown(a_sentinel_that_is_lost_is_asked_again, start, stop),
      cmocka_unit_test_setup_teardown(readonly_in_a_pipeline_drops_the_connection_and_finds_the_new_primary, start, stop),
      cmocka_unit_test_setup_teardown(readonly_inside_a_script_does_so_too, start, stop),
      cmocka_unit_test_setup_teardown(a_write_that_was_refused_as_readonly_goes_to_the_new_primary, start, stop),
      cmocka_unit_test_setup_teardown(a_sentinel_that_has_not_heard_of_the_last_fail_over_is_passed_over, start, stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_call_cleanly_or_not_at_all, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
