/* SPDX-License-Identifier: MIT */
/* Pipelines on a real server: order, errors inside, size, scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static redmoon_pipeline *new_pipeline(redmoon_client *client) {
  redmoon_pipeline *pipeline = NULL;
  redmoon_error err;
  if (redmoon_pipeline_new(client, &pipeline, &err) != 0) fail_msg("%s", err.message);
  return pipeline;
}

static int64_t add(redmoon_pipeline *pipeline, const char *const *argv) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  redmoon_error err;
  int64_t index = redmoon_pipeline_command(pipeline, argc, argv, NULL, &err);
  if (index < 0) fail_msg("%s: %s", argv[0], err.message);
  return index;
}

static void run(redmoon_pipeline *pipeline) {
  redmoon_error err;
  if (redmoon_pipeline_run(pipeline, &err) != 0) fail_msg("%s", err.message);
}

static const redmoon_reply *answer(const redmoon_pipeline *pipeline, size_t index) {
  redmoon_result result = redmoon_pipeline_result(pipeline, index);
  assert_non_null(result.reply);
  assert_int_equal(result.outcome, REDMOON_ANSWERED);
  return result.reply;
}

static void replies_come_in_order_whatever_the_length(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const size_t counts[] = {1, 2, 100, 10000};
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
    redmoon_pipeline *pipeline = new_pipeline(client);
    for (size_t i = 0; i < counts[c]; i++) {
      char tag[32];
      snprintf(tag, sizeof tag, "tag-%zu", i);
      assert_int_equal(add(pipeline, ARGV("ECHO", tag)), i);
    }
    assert_int_equal(redmoon_pipeline_count(pipeline), counts[c]);
    run(pipeline);
    for (size_t i = 0; i < counts[c]; i++) {
      char tag[32];
      snprintf(tag, sizeof tag, "tag-%zu", i);
      assert_string_equal(redmoon_reply_string(answer(pipeline, i), NULL), tag);
    }
    redmoon_pipeline_free(pipeline);
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_in_range(stats.dials, 1, matrix_nodes(*state));
}

static void pipeline_of_nothing_is_done_without_a_connection(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_pipeline *pipeline = new_pipeline(client);
  run(pipeline);
  redmoon_pipeline_free(pipeline);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 0);
}

static void errors_inside_belong_to_their_commands_alone(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "RPUSH", "list", "a", NULL));
  redmoon_pipeline *pipeline = new_pipeline(client);
  enum { COUNT = 1000 };
  for (int i = 0; i < COUNT; i++) {
    if (i % 10 == 3) add(pipeline, ARGV("INCR", "list"));
    else if (i % 10 == 7) add(pipeline, ARGV("NOSUCH"));
    else add(pipeline, ARGV("INCR", "n"));
  }
  run(pipeline);
  int64_t expected = 0;
  for (int i = 0; i < COUNT; i++) {
    const redmoon_reply *reply = answer(pipeline, (size_t)i);
    if (i % 10 == 3 || i % 10 == 7) {
      assert_int_equal(redmoon_reply_type(reply), REDMOON_ERROR);
      const char *code = i % 10 == 3 ? "WRONGTYPE " : "ERR ";
      assert_true(strncmp(redmoon_reply_string(reply, NULL), code, strlen(code)) == 0);
    } else {
      assert_int_equal(redmoon_reply_integer(reply), ++expected);
    }
  }
  redmoon_pipeline_free(pipeline);
}

static void shapes_are_those_of_single_commands(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_pipeline *pipeline = new_pipeline(client);
  add(pipeline, ARGV("HSET", "h", "f", "1"));
  add(pipeline, ARGV("HGETALL", "h"));
  add(pipeline, ARGV("ZADD", "z", "2.5", "m"));
  add(pipeline, ARGV("ZSCORE", "z", "m"));
  add(pipeline, ARGV("SADD", "s", "m"));
  add(pipeline, ARGV("SMEMBERS", "s"));
  run(pipeline);
  assert_int_equal(redmoon_reply_type(answer(pipeline, 1)), REDMOON_MAP);
  assert_int_equal(redmoon_reply_type(answer(pipeline, 3)), REDMOON_DOUBLE);
  assert_int_equal(redmoon_reply_type(answer(pipeline, 5)), REDMOON_SET);
  redmoon_pipeline_free(pipeline);
}

static void refused_command_is_not_added_and_spoils_nothing(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_pipeline *pipeline = new_pipeline(client);
  redmoon_error err;
  add(pipeline, ARGV("SET", "a", "1"));
  assert_int_equal(redmoon_pipeline_command(pipeline, 1, ARGV("MULTI"), NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_pipeline_command(pipeline, 0, ARGV("GET"), NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_pipeline_count(pipeline), 1);
  assert_int_equal(add(pipeline, ARGV("GET", "a")), 1);
  run(pipeline);
  assert_string_equal(redmoon_reply_string(answer(pipeline, 1), NULL), "1");
  assert_null(redmoon_pipeline_result(pipeline, 2).reply);
  assert_int_equal(redmoon_pipeline_result(pipeline, 2).outcome, REDMOON_NOT_SENT);
  /* it runs once */
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_pipeline_command(pipeline, 2, ARGV("GET", "a"), NULL, &err), REDMOON_ECONFIG);
  assert_string_equal(redmoon_reply_string(answer(pipeline, 1), NULL), "1");
  redmoon_pipeline_free(pipeline);
}

/* Size: neither side may wait for the other. */

enum { MIB = 1 << 20, ECHOES = 64, KIB64 = 1 << 16, GETS = 10000 };

static char *filled(size_t len) {
  char *bytes = malloc(len);
  assert_non_null(bytes);
  for (size_t i = 0; i < len; i++) bytes[i] = (char)(i * 131 >> 3);
  return bytes;
}

static void sixty_four_mebibytes_travel_both_ways_at_once(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  char *value = filled(MIB);
  redmoon_pipeline *pipeline = new_pipeline(client);
  for (size_t i = 0; i < ECHOES; i++) {
    value[0] = (char)i;
    redmoon_error err;
    assert_int_equal(redmoon_pipeline_command(pipeline, 2, ARGV("ECHO", value), (const size_t[]){4, MIB}, &err), i);
  }
  run(pipeline);
  for (size_t i = 0; i < ECHOES; i++) {
    size_t len;
    const char *text = redmoon_reply_string(answer(pipeline, i), &len);
    assert_int_equal(len, MIB);
    value[0] = (char)i;
    assert_true(memcmp(text, value, MIB) == 0);
  }
  redmoon_pipeline_free(pipeline);
  free(value);
}

static void ten_thousand_replies_of_64_kib_do_not_deadlock(void **state) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = options.write_timeout_ms = 100000; /* 625 MiB on a busy machine */
  matrix_cell *cell = *state;
  const size_t gets = cell->protocol == 3 ? GETS : GETS / 10; /* the protocol is not what this is about */
  redmoon_client *client = matrix_open(cell, &options);
  char *value = filled(KIB64);
  redmoon_error err;
  redmoon_reply *reply;
  assert_int_equal(redmoon_command(client, 3, ARGV("SET", "k", value), (const size_t[]){3, 1, KIB64}, &reply, &err),
                   0);
  redmoon_reply_free(reply);
  redmoon_pipeline *pipeline = new_pipeline(client);
  for (size_t i = 0; i < gets; i++) add(pipeline, ARGV("GET", "k"));
  run(pipeline);
  for (size_t i = 0; i < gets; i++) {
    size_t len;
    const char *text = redmoon_reply_string(answer(pipeline, i), &len);
    assert_int_equal(len, KIB64);
    assert_true(memcmp(text, value, KIB64) == 0);
  }
  redmoon_pipeline_free(pipeline);
  redmoon_client_close(client);
  free(value);
}

/* Scripts. */

static redmoon_script *script_of(const char *source) {
  redmoon_script *script = NULL;
  redmoon_error err;
  if (redmoon_script_new(source, strlen(source), &script, &err) != 0) fail_msg("%s", err.message);
  return script;
}

static int64_t add_script(redmoon_pipeline *pipeline, redmoon_script *script, const char *arg) {
  const redmoon_bytes key = {"n", 1}, by = {arg, strlen(arg)};
  redmoon_error err;
  return redmoon_pipeline_script(pipeline, script, &(redmoon_script_args){&key, 1, &by, 1}, &err);
}

static void scripts_run_in_place_though_the_server_forgot_them(void **state) {
  matrix_cell *cell = *state;
  redmoon_client *client = cell->client;
  redmoon_script *raise = script_of("return redis.call('INCRBY', KEYS[1], ARGV[1])");
  redmoon_script *fail = script_of("return redis.error_reply('MYCODE ' .. ARGV[1])");
  for (int round = 0; round < 3; round++) {
    redmoon_reply_free(ask(client, "SCRIPT", "FLUSH", NULL));
    redmoon_reply_free(ask(client, "DEL", "n", NULL));
    redmoon_pipeline *pipeline = new_pipeline(client);
    assert_int_equal(add(pipeline, ARGV("INCR", "n")), 0);
    assert_int_equal(add_script(pipeline, raise, "10"), 1);
    assert_int_equal(add(pipeline, ARGV("INCR", "n")), 2);
    assert_int_equal(add_script(pipeline, fail, "text"), 3);
    assert_int_equal(add_script(pipeline, raise, "100"), 4);
    assert_int_equal(add(pipeline, ARGV("GET", "n")), 5);
    assert_int_equal(redmoon_pipeline_count(pipeline), 6);
    run(pipeline);
    static const int64_t expected[] = {1, 11, 12, 0, 112};
    for (size_t i = 0; i < 5; i++) {
      if (i == 3) continue;
      assert_int_equal(redmoon_reply_integer(answer(pipeline, i)), expected[i]);
    }
    assert_int_equal(redmoon_reply_type(answer(pipeline, 3)), REDMOON_ERROR);
    assert_string_equal(redmoon_reply_string(answer(pipeline, 3), NULL), "MYCODE text");
    assert_string_equal(redmoon_reply_string(answer(pipeline, 5), NULL), "112");
    assert_null(redmoon_pipeline_result(pipeline, 6).reply);
    redmoon_pipeline_free(pipeline);
  }
  redmoon_script_unref(raise);
  redmoon_script_unref(fail);
}

static const matrix_test tests[] = {
    MATRIX_TEST(replies_come_in_order_whatever_the_length),
    MATRIX_TEST(pipeline_of_nothing_is_done_without_a_connection),
    MATRIX_TEST(errors_inside_belong_to_their_commands_alone),
    MATRIX_TEST(shapes_are_those_of_single_commands),
    MATRIX_TEST(refused_command_is_not_added_and_spoils_nothing),
    MATRIX_TEST(sixty_four_mebibytes_travel_both_ways_at_once),
    MATRIX_TEST(ten_thousand_replies_of_64_kib_do_not_deadlock),
    MATRIX_TEST(scripts_run_in_place_though_the_server_forgot_them),
};

int main(void) { return matrix_run("pipeline", tests, sizeof tests / sizeof tests[0]); }
