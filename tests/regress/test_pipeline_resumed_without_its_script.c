/* SPDX-License-Identifier: MIT */
/* A pipeline whose connection broke behind the answer to its SCRIPT LOAD went on without it: a server that had been
 * restarted, or another one, answered NOSCRIPT to every script of the rest. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/tiny_redis.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <string.h>

enum { COMMANDS = 6 };

static void add_script(redmoon_pipeline *pipeline, const char *source, const char *key) {
  redmoon_script *script;
  assert_int_equal(redmoon_script_new(source, strlen(source), &script, NULL), 0);
  const redmoon_bytes name = {key, strlen(key)};
  assert_true(redmoon_pipeline_script(pipeline, script, &(redmoon_script_args){&name, 1, NULL, 0}, NULL) >= 0);
  redmoon_script_unref(script);
}

/* Commands and two scripts, one of them twice: LOAD stands between the commands. */
static redmoon_pipeline *pipeline_of(redmoon_client *client) {
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, NULL), 0);
  for (int i = 0; i < COMMANDS; i++) {
    char key[16];
    snprintf(key, sizeof key, "t%d", i);
    if (i == 1 || i == 4) add_script(pipeline, "return redis.call('GET', KEYS[1])", key);
    else if (i == 3) add_script(pipeline, "return redis.call('GET', KEYS[1]) -- another", key);
    else assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"GET", key}, NULL, NULL), i);
  }
  return pipeline;
}

static void assert_answers(const redmoon_pipeline *pipeline, size_t at) {
  for (int i = 0; i < COMMANDS; i++) {
    char want[16];
    snprintf(want, sizeof want, "v%d", i);
    redmoon_result result = redmoon_pipeline_result(pipeline, (size_t)i);
    if (result.reply == NULL) fail_msg("cut at %zu: no reply to command %d", at, i);
    const char *got = redmoon_reply_string(result.reply, NULL);
    if (got == NULL || strcmp(got, want) != 0) fail_msg("cut at %zu: %s is not %s", at, got != NULL ? got : "?", want);
    assert_int_equal(result.outcome, REDMOON_ANSWERED);
  }
}

static void cut_everywhere(bool tls) {
  tiny_redis *server = tiny_redis_start(&(tiny_options){.tls = tls});
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  redmoon_call_options repeats = REDMOON_CALL_OPTIONS_INIT;
  repeats.idempotent = 1;
  redmoon_client *opened, *client;
  assert_int_equal(redmoon_client_open(tiny_redis_url(server), &options, &opened, NULL), 0);
  assert_int_equal(redmoon_client_with(opened, &repeats, &client, NULL), 0);
  size_t loads = 0;
  bool reached = true;
  for (size_t at = 0; reached; at++) {
    redmoon_pipeline *pipeline = pipeline_of(client);
    redmoon_op *op;
    redmoon_error err;
    tiny_redis_cut(server, TINY_REPLY, at, TINY_CLOSE);
    redmoon_reply_free(ask(client, "PING", NULL));
    assert_int_equal(redmoon_pipeline_run_start(pipeline, &op, NULL), 0);
    reached = !tiny_redis_step(server, op, 0);
    tiny_redis_forget_scripts(server);
    while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
    }
    if (redmoon_op_finish(op, &err) != 0) fail_msg("cut at %zu: %s", at, err.message);
    assert_answers(pipeline, at);
    redmoon_pipeline_free(pipeline);
    loads = fake_server_count(tiny_redis_server(server), "SCRIPT");
    assert_true(at < 1000);
  }
  assert_true(loads > 0);
  redmoon_client_close(client);
  redmoon_client_close(opened);
  tiny_redis_stop(server);
}

static void what_is_left_of_a_pipeline_finds_its_scripts(void **state) {
  (void)state;
  cut_everywhere(false);
}

static void so_it_does_over_tls(void **state) {
  (void)state;
  cut_everywhere(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_left_of_a_pipeline_finds_its_scripts),
                                     cmocka_unit_test(so_it_does_over_tls)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
