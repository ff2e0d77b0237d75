/* SPDX-License-Identifier: MIT */
/* When a send failed, answers that had already arrived were thrown away, and commands that were known to have been
 * executed were reported as unknown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer_one_and_leave(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (fake_expect(peer, "INCR", "a", NULL) && fake_await_release(peer)) fake_text(peer, ":1\r\n");
}

static void what_was_answered_before_a_send_failed_is_kept(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.script = answer_one_and_leave});
  char url[256];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  redmoon_client *client;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  assert_int_equal(redmoon_client_open(url, &options, &client, NULL), 0);
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, NULL), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"INCR", "a"}, NULL, NULL), 0);
  size_t size = (size_t)8 << 20; /* more than the socket takes at once */
  char *large = calloc(1, size);
  assert_non_null(large);
  assert_int_equal(redmoon_pipeline_command(pipeline, 3, (const char *[]){"SET", "b", large}, (size_t[]){3, 1, size}, NULL), 1);
  redmoon_op *op;
  assert_int_equal(redmoon_pipeline_run_start(pipeline, &op, NULL), 0);
  while (fake_server_count(server, "INCR") == 0) assert_int_equal(redmoon_op_step(op), 0);
  fake_server_release(server); /* from here nothing is received until it has answered and is gone */
  assert_true(fake_server_wait_ended(server, 1));
  while (!redmoon_op_step(op)) {
  }
  redmoon_error err;
  assert_int_not_equal(redmoon_op_finish(op, &err), 0);
  redmoon_result first = redmoon_pipeline_result(pipeline, 0), second = redmoon_pipeline_result(pipeline, 1);
  assert_int_equal(first.outcome, REDMOON_ANSWERED);
  assert_int_equal(redmoon_reply_integer(first.reply), 1);
  assert_int_equal(second.outcome, REDMOON_NOT_SENT);
  assert_null(second.reply);
  redmoon_pipeline_free(pipeline);
  free(large);
  redmoon_client_close(client);
  fake_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_answered_before_a_send_failed_is_kept)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
