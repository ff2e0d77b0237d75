/* SPDX-License-Identifier: MIT */
/* Single commands on a real server, over every transport and both protocols. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static int run(redmoon_client *client, const char *const *argv, redmoon_reply **reply, redmoon_error *err) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  return redmoon_command(client, argc, argv, NULL, reply, err);
}
#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_text(const redmoon_reply *reply, redmoon_type type, const char *text) {
  assert_non_null(reply);
  assert_int_equal(redmoon_reply_type(reply), type);
  assert_string_equal(redmoon_reply_string(reply, NULL), text);
}

static void replies_of_every_kind_arrive(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply *reply = ask(client, "PING", NULL);
  assert_text(reply, REDMOON_STATUS, "PONG");
  redmoon_reply_free(reply);
  reply = ask(client, "GET", "missing", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_NIL);
  redmoon_reply_free(reply);
  reply = ask(client, "SET", "empty", "", NULL);
  assert_text(reply, REDMOON_STATUS, "OK");
  redmoon_reply_free(reply);
  reply = ask(client, "GET", "empty", NULL);
  size_t len = 99;
  assert_int_equal(redmoon_reply_type(reply), REDMOON_STRING);
  assert_non_null(redmoon_reply_string(reply, &len));
  assert_int_equal(len, 0);
  redmoon_reply_free(reply);
  reply = ask(client, "LRANGE", "missing", "0", "-1", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_ARRAY);
  assert_int_equal(redmoon_reply_count(reply), 0);
  redmoon_reply_free(reply);
  reply = ask(client, "MGET", "empty", "missing", NULL);
  assert_int_equal(redmoon_reply_count(reply), 2);
  assert_text(redmoon_reply_at(reply, 0), REDMOON_STRING, "");
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(reply, 1)), REDMOON_NIL);
  redmoon_reply_free(reply);
}

static void error_reply_is_a_status_with_code_and_outcome(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "RPUSH", "list", "a", NULL));
  redmoon_error err;
  redmoon_reply *reply = (redmoon_reply *)&err;
  assert_int_equal(run(client, ARGV("GET", "list"), &reply, &err), REDMOON_ESERVER);
  assert_null(reply);
  assert_int_equal(err.status, REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(err.attempts, 1);
  assert_int_equal(err.retryable, 0);
  assert_non_null(strstr(err.message, "wrong kind of value"));
  assert_string_not_equal(err.address, "");
  assert_int_equal(run(client, ARGV("NOSUCHCOMMAND", "x"), &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
  /* the same connection goes on */
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_in_range(stats.dials, 1, matrix_nodes(*state));
}

static void arguments_hold_any_bytes(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char *const hard[] = {
      "\r\n", "\0", "a\0b", "$3\r\nabc\r\n", "*1\r\n$4\r\nPING\r\n", "\xff\xfe\x00\x80", "%s%n", " "};
  static const size_t lens[] = {2, 1, 3, 9, 14, 4, 4, 1};
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
    redmoon_reply *reply = NULL;
    redmoon_error err;
    const char *set[] = {"SET", hard[i], hard[i]}, *get[] = {"GET", hard[i]};
    size_t set_lens[] = {3, lens[i], lens[i]}, get_lens[] = {3, lens[i]};
    assert_int_equal(redmoon_command(client, 3, set, set_lens, &reply, &err), 0);
    redmoon_reply_free(reply);
    assert_int_equal(redmoon_command(client, 2, get, get_lens, &reply, &err), 0);
    size_t len;
    const char *text = redmoon_reply_string(reply, &len);
    assert_int_equal(len, lens[i]);
    assert_memory_equal(text, hard[i], len);
    assert_int_equal(text[len], '\0');
    redmoon_reply_free(reply);
  }
  assert_int_equal(ask_integer(client, "DBSIZE", NULL), sizeof lens / sizeof lens[0]);
}

/* Random arguments. */

static uint64_t seed(void) {
  static uint64_t value;
  if (value == 0) {
    const char *text = getenv("SEED");
    value = text != NULL ? strtoull(text, NULL, 10) : 20261122;
    print_message("SEED=%llu\n", (unsigned long long)value);
  }
  return value;
}

static uint64_t next(uint64_t *x) { /* xorshift64* */
  *x ^= *x >> 12;
  *x ^= *x << 25;
  *x ^= *x >> 27;
  return *x * 2685821657736338717u;
}

enum { MOST_ARGS = 12, POOL_BYTES = 1 << 18 };

/* "EVAL return ARGV" gives every argument back. */
static int random_argv(uint64_t *rng, const char *bytes, const char **argv, size_t *lens) {
  argv[0] = "EVAL";
  argv[1] = "return ARGV";
  argv[2] = "0";
  lens[0] = 4;
  lens[1] = 11;
  lens[2] = 1;
  int count = (int)(next(rng) % MOST_ARGS);
  for (int i = 0; i < count; i++) {
    uint64_t kind = next(rng) % 100;
    size_t len = kind == 0 ? next(rng) % 100000 : kind < 10 ? next(rng) % 5000 : next(rng) % 40;
    argv[3 + i] = bytes + next(rng) % (POOL_BYTES - 100000);
    lens[3 + i] = len;
  }
  return 3 + count;
}

static void assert_echoed(const redmoon_reply *reply, int argc, const char *const *argv, const size_t *lens) {
  assert_non_null(reply);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_ARRAY);
  assert_int_equal(redmoon_reply_count(reply), argc - 3);
  for (int i = 3; i < argc; i++) {
    size_t len;
    const char *text = redmoon_reply_string(redmoon_reply_at(reply, (size_t)i - 3), &len);
    assert_int_equal(len, lens[i]);
    assert_memory_equal(text, argv[i], len);
  }
}

static char *random_bytes(uint64_t *rng) {
  char *bytes = malloc(POOL_BYTES);
  assert_non_null(bytes);
  for (size_t i = 0; i < POOL_BYTES; i++) {
    uint64_t draw = next(rng);
    bytes[i] = draw % 8 == 0 ? "\r\n\0$*-:>"[draw >> 8 & 7] : (char)(draw >> 16);
  }
  return bytes;
}

static void ten_thousand_random_argument_lists_come_back_byte_for_byte(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  enum { ROUNDS = 90, BATCH = 100, ALONE = 1000 };
  uint64_t rng = seed();
  char *bytes = random_bytes(&rng);
  static const char *argv[BATCH][3 + MOST_ARGS];
  static size_t lens[BATCH][3 + MOST_ARGS];
  int argc[BATCH];
  redmoon_error err;
  for (int round = 0; round < ROUNDS; round++) {
    redmoon_pipeline *pipeline;
    assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
    for (int i = 0; i < BATCH; i++) {
      argc[i] = random_argv(&rng, bytes, argv[i], lens[i]);
      assert_int_equal(redmoon_pipeline_command(pipeline, argc[i], argv[i], lens[i], &err), i);
    }
    if (redmoon_pipeline_run(pipeline, &err) != 0) fail_msg("%s", err.message);
    for (int i = 0; i < BATCH; i++)
      assert_echoed(redmoon_pipeline_result(pipeline, (size_t)i).reply, argc[i], argv[i], lens[i]);
    redmoon_pipeline_free(pipeline);
  }
  for (int i = 0; i < ALONE; i++) {
    argc[0] = random_argv(&rng, bytes, argv[0], lens[0]);
    redmoon_reply *reply;
    if (redmoon_command(client, argc[0], argv[0], lens[0], &reply, &err) != 0) fail_msg("%s", err.message);
    assert_echoed(reply, argc[0], argv[0], lens[0]);
    redmoon_reply_free(reply);
  }
  free(bytes);
}

/* Numbers. */

static void integers_keep_all_64_bits(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const struct {
    const char *text;
    int64_t value;
  } rows[] = {{"9223372036854775807", INT64_MAX},
              {"-9223372036854775808", INT64_MIN},
              {"9007199254740993", 9007199254740993},
              {"-9007199254740993", -9007199254740993},
              {"0", 0}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    redmoon_reply_free(ask(client, "SET", "n", rows[i].text, NULL));
    assert_true(ask_integer(client, "INCRBY", "n", "0", NULL) == rows[i].value);
    char text[32];
    ask_text(client, text, sizeof text, "GET", "n", NULL);
    assert_string_equal(text, rows[i].text);
  }
  redmoon_reply_free(ask(client, "SET", "n", "9223372036854775807", NULL));
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(run(client, ARGV("INCR", "n"), &reply, &err), REDMOON_ESERVER);
  assert_non_null(strstr(err.message, "overflow"));
}

static void doubles_of_scores_are_exact(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "ZADD", "z", "0.1", "a", "1e300", "b", "-inf", "c", "3", "d", NULL));
  static const double expected[] = {0.1, 1e300, -INFINITY, 3};
  for (int i = 0; i < 4; i++) {
    const char member[2] = {(char)('a' + i), '\0'};
    redmoon_reply *reply = ask(client, "ZSCORE", "z", member, NULL);
    assert_int_equal(redmoon_reply_type(reply), REDMOON_DOUBLE);
    assert_true(!(redmoon_reply_double(reply) < expected[i]) && !(redmoon_reply_double(reply) > expected[i]));
    redmoon_reply_free(reply);
  }
}

static void maps_sets_and_pairs_have_one_shape_in_both_protocols(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "HSET", "h", "f", "1", "g", "2", NULL));
  redmoon_reply_free(ask(client, "SADD", "s", "m", NULL));
  redmoon_reply_free(ask(client, "ZADD", "z", "1.5", "m", NULL));
  redmoon_reply *reply = ask(client, "HGETALL", "h", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_MAP);
  assert_int_equal(redmoon_reply_count(reply), 2);
  assert_text(redmoon_reply_key(reply, 0), REDMOON_STRING, "f");
  assert_text(redmoon_reply_value(reply, 1), REDMOON_STRING, "2");
  redmoon_reply_free(reply);
  reply = ask(client, "HGETALL", "missing", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_MAP);
  assert_int_equal(redmoon_reply_count(reply), 0);
  redmoon_reply_free(reply);
  reply = ask(client, "SMEMBERS", "s", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_SET);
  assert_text(redmoon_reply_at(reply, 0), REDMOON_STRING, "m");
  redmoon_reply_free(reply);
  reply = ask(client, "ZRANGE", "z", "0", "-1", "WITHSCORES", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_ARRAY);
  assert_int_equal(redmoon_reply_count(reply), 1);
  assert_int_equal(redmoon_reply_count(redmoon_reply_at(reply, 0)), 2);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(redmoon_reply_at(reply, 0), 1)), REDMOON_DOUBLE);
  redmoon_reply_free(reply);
  reply = ask(client, "CONFIG", "GET", "maxmemory", NULL);
  assert_int_equal(redmoon_reply_type(reply), REDMOON_MAP);
  assert_text(redmoon_reply_key(reply, 0), REDMOON_STRING, "maxmemory");
  redmoon_reply_free(reply);
}

/* Size. */

static void value_of_a_mebibyte_and_of_64_come_back_whole(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const size_t sizes[] = {MIB, 64 * MIB};
  uint64_t rng = seed();
  char *pattern = random_bytes(&rng);
  for (size_t s = 0; s < 2; s++) {
    char *value = malloc(sizes[s]);
    assert_non_null(value);
    for (size_t at = 0; at < sizes[s]; at += POOL_BYTES) memcpy(value + at, pattern, POOL_BYTES);
    memcpy(value + sizes[s] - 8, "the end!", 8);
    const char *set[] = {"SET", "big", value}, *get[] = {"GET", "big"};
    size_t lens[] = {3, 3, sizes[s]};
    redmoon_reply *reply;
    redmoon_error err;
    if (redmoon_command(client, 3, set, lens, &reply, &err) != 0) fail_msg("%s", err.message);
    redmoon_reply_free(reply);
    if (redmoon_command(client, 2, get, NULL, &reply, &err) != 0) fail_msg("%s", err.message);
    size_t len;
    const char *text = redmoon_reply_string(reply, &len);
    assert_int_equal(len, sizes[s]);
    assert_true(memcmp(text, value, len) == 0);
    redmoon_reply_free(reply);
    free(value);
  }
  free(pattern);
}

/* Blocking. */

/* Steps them all until each is done. */
static void drive_all(redmoon_op *const *ops, size_t count) {
  enum { MOST = 16 };
  assert_true(count <= MOST);
  for (;;) {
    struct pollfd fds[MOST];
    nfds_t waiting = 0;
    int limit = 20000;
    for (size_t i = 0; i < count; i++) {
      if (redmoon_op_step(ops[i]) == 1) continue;
      redmoon_wants wants;
      redmoon_op_wants(ops[i], &wants);
      fds[waiting] = (struct pollfd){.fd = wants.fd};
      if ((wants.events & REDMOON_WANT_READ) != 0) fds[waiting].events |= POLLIN;
      if ((wants.events & REDMOON_WANT_WRITE) != 0) fds[waiting].events |= POLLOUT;
      waiting++;
      if (wants.timeout_ms >= 0 && wants.timeout_ms < limit) limit = (int)wants.timeout_ms;
    }
    if (waiting == 0) return;
    poll(fds, waiting, limit);
  }
}

/* All wait at the same time, each longer than both limits allow an ordinary command. */
static void blocking_commands_outlast_read_timeout_and_deadline(void **state) {
  matrix_cell *cell = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.read_timeout_ms = 600;
  options.timeout_ms = 600;
  options.max_retries = 0;
  redmoon_client *client = matrix_open(cell, &options);
  static const char *const blocking[][8] = {{"BLPOP", "nothing", "0.8", NULL},
                                            {"BRPOP", "nothing", "none{nothing}", "0.8", NULL},
                                            {"BLMOVE", "nothing", "there{nothing}", "LEFT", "RIGHT", "0.8", NULL},
                                            {"BZPOPMIN", "nothing", "0.8", NULL},
                                            {"BLMPOP", "0.8", "1", "nothing", "LEFT", NULL},
                                            {"XREAD", "BLOCK", "800", "STREAMS", "nothing", "$", NULL},
                                            {"WAIT", "1", "800", NULL}};
  enum { ALONE = sizeof blocking / sizeof blocking[0] };
  redmoon_op *ops[ALONE + 1];
  redmoon_reply *replies[ALONE];
  redmoon_error err;
  for (size_t i = 0; i < ALONE; i++) {
    int argc = 0;
    while (blocking[i][argc] != NULL) argc++;
    assert_int_equal(redmoon_command_start(client, argc, blocking[i], NULL, &replies[i], &ops[i], &err), 0);
  }
  redmoon_pipeline *pipeline; /* its waits add up */
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 3, ARGV("BLPOP", "nothing", "0.5"), NULL, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 3, ARGV("BLPOP", "nothing", "0.5"), NULL, &err), 1);
  assert_int_equal(redmoon_pipeline_command(pipeline, 1, ARGV("PING"), NULL, &err), 2);
  assert_int_equal(redmoon_pipeline_run_start(pipeline, &ops[ALONE], &err), 0);
  drive_all(ops, ALONE + 1);
  for (size_t i = 0; i < ALONE; i++) {
    if (redmoon_op_finish(ops[i], &err) != 0) fail_msg("%s: %s", blocking[i][0], err.message);
    assert_int_equal(redmoon_reply_type(replies[i]), i == ALONE - 1 ? REDMOON_INTEGER : REDMOON_NIL);
    redmoon_reply_free(replies[i]);
  }
  if (redmoon_op_finish(ops[ALONE], &err) != 0) fail_msg("%s", err.message);
  assert_text(redmoon_pipeline_result(pipeline, 2).reply, REDMOON_STATUS, "PONG");
  redmoon_pipeline_free(pipeline);
  redmoon_client_close(client);
}

/* Steps until the server says that somebody is blocked. */
static void step_until_blocked(const matrix_cell *cell, redmoon_op *op) {
  for (int i = 0; matrix_info(cell, "clients", "blocked_clients:") < 1; i++) {
    assert_true(i < 10000);
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {.fd = wants.fd, .events = (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLOUT : POLLIN};
    poll(&fd, 1, 5);
  }
}

static void blocking_pop_without_limit_gets_what_comes(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply *reply = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_command_start(cell->client, 3, ARGV("BLPOP", "list", "0"), NULL, &reply, &op, &err), 0);
  step_until_blocked(cell, op);
  assert_int_equal(ask_integer(cell->client, "RPUSH", "list", "element", NULL), 1);
  drive_all(&op, 1);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_text(redmoon_reply_at(reply, 1), REDMOON_STRING, "element");
  redmoon_reply_free(reply);
}

static void command_that_is_unblocked_with_an_error_says_so(void **state) {
  matrix_cell *cell = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 1;
  redmoon_client *client = matrix_open(cell, &options);
  char id[24];
  snprintf(id, sizeof id, "%lld", (long long)ask_integer(client, "CLIENT", "ID", NULL));
  redmoon_reply *reply = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_command_start(client, 3, ARGV("BLPOP", "list", "0"), NULL, &reply, &op, &err), 0);
  step_until_blocked(cell, op);
  assert_int_equal(ask_integer(cell->client, "CLIENT", "UNBLOCK", id, "ERROR", NULL), 1);
  drive_all(&op, 1);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "UNBLOCKED");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  redmoon_client_close(client);
}

/* Refused. */

static void commands_that_change_their_connection_are_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char *const refused[][4] = {{"MULTI", NULL},
                                           {"EXEC", NULL},
                                           {"DISCARD", NULL},
                                           {"WATCH", "k", NULL},
                                           {"UNWATCH", NULL},
                                           {"SELECT", "1", NULL},
                                           {"AUTH", "x", NULL},
                                           {"HELLO", "3", NULL},
                                           {"SUBSCRIBE", "c", NULL},
                                           {"PSUBSCRIBE", "c", NULL},
                                           {"SSUBSCRIBE", "c", NULL},
                                           {"UNSUBSCRIBE", NULL},
                                           {"MONITOR", NULL},
                                           {"RESET", NULL},
                                           {"QUIT", NULL},
                                           {"CLIENT", "REPLY", "OFF", NULL},
                                           {"client", "setname", "x", NULL},
                                           {"CLIENT", "TRACKING", "ON", NULL},
                                           {"sElEcT", "1", NULL},
                                           {"SYNC", NULL},
                                           {"PSYNC", "?", "-1", NULL},
                                           {"CLIENT", "NO-EVICT", "on", NULL},
                                           {"ASKING", NULL},
                                           {"READONLY", NULL}};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    redmoon_reply *reply;
    redmoon_error err;
    if (run(client, refused[i], &reply, &err) != REDMOON_ECONFIG) fail_msg("%s was not refused", refused[i][0]);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_non_null(strstr(err.message, "state of its connection"));
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 0); /* nothing was sent */
}

static void command_without_a_name_or_with_a_null_argument_is_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply *reply;
  redmoon_error err;
  const char *argv[] = {"SET", NULL, "v"};
  size_t lens[] = {3, 4, 1};
  assert_int_equal(redmoon_command(client, 0, argv, NULL, &reply, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "argc is 0"));
  assert_int_equal(redmoon_command(client, -1, argv, NULL, &reply, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_command(client, 3, argv, NULL, &reply, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "argument 1"));
  assert_int_equal(redmoon_command(client, 3, argv, lens, &reply, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  lens[1] = 0; /* NULL of length 0 is an empty argument */
  assert_int_equal(redmoon_command(client, 3, argv, lens, &reply, NULL), 0);
  redmoon_reply_free(reply);
  char text[8];
  assert_int_equal(ask_text(client, text, sizeof text, "GET", "", NULL), 1);
}

static const matrix_test tests[] = {
    MATRIX_TEST(replies_of_every_kind_arrive),
    MATRIX_TEST(error_reply_is_a_status_with_code_and_outcome),
    MATRIX_TEST(arguments_hold_any_bytes),
    MATRIX_TEST(ten_thousand_random_argument_lists_come_back_byte_for_byte),
    MATRIX_TEST(integers_keep_all_64_bits),
    MATRIX_TEST(doubles_of_scores_are_exact),
    MATRIX_TEST(maps_sets_and_pairs_have_one_shape_in_both_protocols),
    MATRIX_TEST(value_of_a_mebibyte_and_of_64_come_back_whole),
    MATRIX_TEST(blocking_commands_outlast_read_timeout_and_deadline),
    MATRIX_TEST(blocking_pop_without_limit_gets_what_comes),
    MATRIX_ALONE(command_that_is_unblocked_with_an_error_says_so),
    MATRIX_TEST(commands_that_change_their_connection_are_refused),
    MATRIX_TEST(command_without_a_name_or_with_a_null_argument_is_refused),
};

int main(void) { return matrix_run("command", tests, sizeof tests / sizeof tests[0]); }
