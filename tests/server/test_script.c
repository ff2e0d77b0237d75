/* SPDX-License-Identifier: MIT */
/* Scripts on a real server: EVALSHA first, EVAL where it is unknown, arguments, errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redmoon_script *script_of(const char *source) {
  redmoon_script *script = NULL;
  redmoon_error err;
  if (redmoon_script_new(source, strlen(source), &script, &err) != 0) fail_msg("%s", err.message);
  return script;
}

static redmoon_reply *run(redmoon_client *client, redmoon_script *script, const redmoon_script_args *args) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  if (redmoon_script_run(client, script, args, &reply, &err) != 0) fail_msg("%s", err.message);
  return reply;
}

static void source_is_sent_only_when_the_server_does_not_know_it(void **state) {
  matrix_cell *cell = *state;
  redmoon_script *script = script_of("return 7");
  const redmoon_bytes key = {"n", 1};
  redmoon_reply_free(ask(cell->client, "SCRIPT", "FLUSH", NULL));
  redmoon_reply_free(ask(cell->client, "CONFIG", "RESETSTAT", NULL));
  for (int i = 1; i <= 3; i++) {
    redmoon_reply *reply = run(cell->client, script, &(redmoon_script_args){&key, 1, NULL, 0});
    assert_int_equal(redmoon_reply_integer(reply), 7);
    redmoon_reply_free(reply);
    /* the first EVALSHA is refused, and EVAL follows; after that EVALSHA is enough */
    assert_int_equal(matrix_info(cell, "commandstats", "cmdstat_evalsha:calls="), i);
    assert_int_equal(matrix_info(cell, "commandstats", "cmdstat_eval:calls="), 1);
  }
  redmoon_stats stats;
  redmoon_client_stats(cell->client, &stats);
  assert_in_range(stats.dials, 1, matrix_nodes(cell));
  redmoon_script_unref(script);
}

static void fallback_runs_the_script_once(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_script *script = script_of("return redis.call('INCR', KEYS[1])");
  const redmoon_bytes key = {"n", 1};
  for (int i = 1; i <= 20; i++) {
    redmoon_reply_free(ask(client, "SCRIPT", "FLUSH", NULL));
    redmoon_reply *reply = run(client, script, &(redmoon_script_args){&key, 1, NULL, 0});
    assert_int_equal(redmoon_reply_integer(reply), i);
    redmoon_reply_free(reply);
  }
  redmoon_script_unref(script);
}

static void keys_and_arguments_hold_any_bytes_and_any_number(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_script *script = script_of("return {#KEYS, #ARGV, KEYS[1], ARGV[1], ARGV[#ARGV]}");
  enum { COUNT = 1000 };
  redmoon_bytes *args = calloc(COUNT, sizeof *args);
  assert_non_null(args);
  for (size_t i = 0; i < COUNT; i++) args[i] = (redmoon_bytes){"a\0\r\nb", 5};
  args[COUNT - 1] = (redmoon_bytes){NULL, 0};
  const redmoon_bytes key = {"k\0\r\n", 4};
  for (int round = 0; round < 2; round++) { /* by EVAL, with the arguments read back from the request; by EVALSHA */
    if (round == 0) redmoon_reply_free(ask(client, "SCRIPT", "FLUSH", NULL));
    redmoon_reply *reply = run(client, script, &(redmoon_script_args){&key, 1, args, COUNT});
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(reply, 0)), 1);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(reply, 1)), COUNT);
    size_t len;
    assert_memory_equal(redmoon_reply_string(redmoon_reply_at(reply, 2), &len), "k\0\r\n", 4);
    assert_int_equal(len, 4);
    assert_memory_equal(redmoon_reply_string(redmoon_reply_at(reply, 3), &len), "a\0\r\nb", 5);
    assert_int_equal(len, 5);
    assert_non_null(redmoon_reply_string(redmoon_reply_at(reply, 4), &len));
    assert_int_equal(len, 0);
    redmoon_reply_free(reply);
  }
  free(args);
  redmoon_script_unref(script);
}

static void error_of_a_script_keeps_its_code(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const struct {
    const char *source, *code, *text;
  } rows[] = {{"return redis.error_reply('MYCODE went wrong')", "MYCODE", "went wrong"},
              {"return redis.call('INCR', KEYS[1])", "WRONGTYPE", "wrong kind of value"},
              {"error('thrown')", "ERR", "thrown"},
              {"this is not Lua", "ERR", "compiling"},
              {"return redis.error_reply('NOSCRIPT of its own')", "NOSCRIPT", "of its own"}};
  redmoon_reply_free(ask(client, "RPUSH", "list", "a", NULL));
  const redmoon_bytes key = {"list", 4};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    redmoon_script *script = script_of(rows[i].source);
    redmoon_reply *reply = (redmoon_reply *)&script;
    redmoon_error err;
    int rc = redmoon_script_run(client, script, &(redmoon_script_args){&key, 1, NULL, 0}, &reply, &err);
    assert_int_equal(rc, REDMOON_ESERVER);
    assert_null(reply);
    assert_string_equal(err.code, rows[i].code);
    if (strstr(err.message, rows[i].text) == NULL) fail_msg("%s: %s", rows[i].source, err.message);
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    redmoon_script_unref(script);
  }
}

static void replies_of_scripts_keep_their_types(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_script *script = script_of("return {1, 'two', false, {ok='THREE'}, {err='FOUR x'}, {}}");
  redmoon_reply *reply = run(client, script, NULL);
  assert_int_equal(redmoon_reply_count(reply), 6);
  static const redmoon_type types[] = {REDMOON_INTEGER, REDMOON_STRING, REDMOON_NIL,
                                       REDMOON_STATUS,  REDMOON_ERROR,  REDMOON_ARRAY};
  for (size_t i = 0; i < 6; i++) assert_int_equal(redmoon_reply_type(redmoon_reply_at(reply, i)), types[i]);
  redmoon_reply_free(reply);
  redmoon_script_unref(script);
}

static void script_is_named_by_the_sha1_the_server_computes(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char source[] = "return 'any'";
  redmoon_script *script = script_of(source);
  char sha1[64];
  assert_int_equal(ask_text(client, sha1, sizeof sha1, "SCRIPT", "LOAD", source, NULL), 40);
  assert_string_equal(redmoon_script_sha1(script), sha1);
  redmoon_script_unref(script);
}

static void script_that_only_reads_may_not_write(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_script *script = script_of("#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 'v')");
  const redmoon_bytes key = {"k", 1};
  redmoon_reply *reply;
  redmoon_error err;
  int rc = redmoon_script_run(client, script, &(redmoon_script_args){&key, 1, NULL, 0}, &reply, &err);
  assert_int_equal(rc, REDMOON_ESERVER);
  assert_int_equal(ask_integer(client, "EXISTS", "k", NULL), 0);
  redmoon_script_unref(script);
}

static void unusable_scripts_and_arguments_are_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_script *script = (redmoon_script *)&client;
  redmoon_error err;
  assert_int_equal(redmoon_script_new("", 0, &script, &err), REDMOON_ECONFIG);
  assert_null(script);
  assert_int_equal(redmoon_script_new(NULL, 5, &script, &err), REDMOON_ECONFIG);
  script = script_of("return 1");
  const redmoon_bytes bad = {NULL, 3}, good = {"a", 1};
  const redmoon_bytes args[] = {good, bad};
  redmoon_reply *reply;
  assert_int_equal(redmoon_script_run(client, script, &(redmoon_script_args){&bad, 1, NULL, 0}, &reply, &err),
                   REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "key 1"));
  assert_int_equal(redmoon_script_run(client, script, &(redmoon_script_args){NULL, 0, args, 2}, &reply, &err),
                   REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "argument 2"));
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_script_unref(script);
}

/* A server that keeps forgetting. */

typedef struct flusher {
  redmoon_client *client;
  atomic_bool stop;
  atomic_int flushes;
} flusher;

static void *flush(void *arg) {
  flusher *self = arg;
  while (!atomic_load(&self->stop)) {
    redmoon_reply *reply;
    if (redmoon_command(self->client, 2, (const char *const[]){"SCRIPT", "FLUSH"}, NULL, &reply, NULL) == 0) {
      redmoon_reply_free(reply);
      atomic_fetch_add(&self->flushes, 1);
    }
  }
  return NULL;
}

static void no_script_is_missed_while_another_client_flushes(void **state) {
  matrix_cell *cell = *state;
  flusher self = {.client = matrix_open(cell, NULL)};
  redmoon_script *script = script_of("return ARGV[1]");
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, flush, &self), 0);
  int wrong = 0, failed = 0;
  for (int i = 0; i < 300 || (atomic_load(&self.flushes) < 100 && failed == 0); i++) {
    char tag[16];
    const redmoon_bytes arg = {tag, (size_t)snprintf(tag, sizeof tag, "%d", i)};
    redmoon_reply *reply;
    redmoon_error err;
    if (redmoon_script_run(cell->client, script, &(redmoon_script_args){NULL, 0, &arg, 1}, &reply, &err) != 0) {
      print_message("%s\n", err.message);
      failed++;
      continue;
    }
    wrong += strcmp(redmoon_reply_string(reply, NULL), tag) != 0;
    redmoon_reply_free(reply);
  }
  atomic_store(&self.stop, true);
  pthread_join(thread, NULL);
  redmoon_client_close(self.client);
  redmoon_script_unref(script);
  assert_int_equal(failed, 0);
  assert_int_equal(wrong, 0);
}

static const matrix_test tests[] = {
    MATRIX_TEST(source_is_sent_only_when_the_server_does_not_know_it),
    MATRIX_TEST(fallback_runs_the_script_once),
    MATRIX_TEST(keys_and_arguments_hold_any_bytes_and_any_number),
    MATRIX_TEST(error_of_a_script_keeps_its_code),
    MATRIX_TEST(replies_of_scripts_keep_their_types),
    MATRIX_TEST(script_is_named_by_the_sha1_the_server_computes),
    MATRIX_TEST(script_that_only_reads_may_not_write),
    MATRIX_TEST(unusable_scripts_and_arguments_are_refused),
    MATRIX_TEST(no_script_is_missed_while_another_client_flushes),
};

int main(void) { return matrix_run("script", tests, sizeof tests / sizeof tests[0]); }
