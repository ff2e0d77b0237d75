/* SPDX-License-Identifier: MIT */
/* Transactions on a real server: how they end, and that no end leaves a WATCH on a connection of the pool. */
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

static const redmoon_bytes k = {"k", 1};

static int count_of(const char *const *argv) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  return argc;
}

static redmoon_transaction *begin(redmoon_client *client, const redmoon_bytes *key) {
  redmoon_transaction *tx = NULL;
  redmoon_error err;
  if (redmoon_transaction_begin(client, key, key != NULL ? 1 : 0, NULL, &tx, &err) != 0)
    fail_msg("%s", err.message);
  return tx;
}

static void queue(redmoon_transaction *tx, const char *const *argv) {
  redmoon_error err;
  if (redmoon_transaction_queue(tx, count_of(argv), argv, NULL, &err) < 0) fail_msg("%s: %s", argv[0], err.message);
}

static void multi(redmoon_transaction *tx) {
  redmoon_error err;
  if (redmoon_transaction_multi(tx, &err) != 0) fail_msg("%s", err.message);
}

static redmoon_reply *exec(redmoon_transaction *tx) {
  redmoon_reply *replies = NULL;
  redmoon_error err;
  if (redmoon_transaction_exec(tx, &replies, &err) != 0) fail_msg("%s", err.message);
  return replies;
}

static int64_t read_integer(redmoon_transaction *tx, const char *key) {
  redmoon_reply *reply;
  redmoon_error err;
  if (redmoon_transaction_command(tx, 2, ARGV("GET", key), NULL, &reply, &err) != 0) fail_msg("%s", err.message);
  const char *text = redmoon_reply_string(reply, NULL);
  int64_t value = text != NULL ? strtoll(text, NULL, 10) : 0;
  redmoon_reply_free(reply);
  return value;
}

static void set(redmoon_client *client, const char *key, const char *value) {
  redmoon_reply_free(ask(client, "SET", key, value, NULL));
}

static void assert_value(redmoon_client *client, const char *key, const char *expected) {
  char text[64];
  int64_t len = ask_text(client, text, sizeof text, "GET", key, NULL);
  if (expected == NULL) assert_int_equal(len, -1);
  else assert_string_equal(text, expected);
}

static redmoon_client *client_of_one(const matrix_cell *cell) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 1;
  return matrix_open(cell, &options);
}

/* Commit. */

static void commit_returns_one_reply_for_each_command(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  for (int watched = 0; watched < 2; watched++) {
    set(client, "k", "5");
    redmoon_transaction *tx = begin(client, watched ? &k : NULL);
    assert_int_equal(redmoon_transaction_is_queuing(tx), !watched);
    if (watched) {
      assert_int_equal(read_integer(tx, "k"), 5);
      multi(tx);
    }
    assert_int_equal(redmoon_transaction_is_queuing(tx), 1);
    queue(tx, ARGV("INCR", "k"));
    queue(tx, ARGV("GET", "missing{k}"));
    queue(tx, ARGV("SET", "other{k}", "v"));
    queue(tx, ARGV("GET", "k"));
    redmoon_reply *replies = exec(tx);
    assert_int_equal(redmoon_reply_type(replies), REDMOON_ARRAY);
    assert_int_equal(redmoon_reply_count(replies), 4);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 0)), 6);
    assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 1)), REDMOON_NIL);
    assert_string_equal(redmoon_reply_string(redmoon_reply_at(replies, 2), NULL), "OK");
    assert_string_equal(redmoon_reply_string(redmoon_reply_at(replies, 3), NULL), "6");
    assert_null(redmoon_reply_at(replies, 4));
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 1);
  assert_int_equal(stats.in_use, 0);
}

static void transaction_without_keys_holds_nothing_until_exec(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("SET", "k", "1"));
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 0);
  redmoon_reply_free(exec(tx));
  redmoon_transaction_free(tx);
  assert_value(client, "k", "1");
}

static void empty_transaction_commits_nothing(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, NULL);
  redmoon_reply *replies = exec(tx);
  assert_int_equal(redmoon_reply_count(replies), 0);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

static void shapes_inside_exec_are_those_of_single_commands(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "HSET", "h{k}", "f", "1", NULL));
  redmoon_reply_free(ask(client, "ZADD", "z{k}", "1.5", "m", NULL));
  redmoon_reply_free(ask(client, "SADD", "s{k}", "m", NULL));
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("HGETALL", "h{k}"));
  queue(tx, ARGV("ZSCORE", "z{k}", "m"));
  queue(tx, ARGV("SET", "k", "v"));
  queue(tx, ARGV("SMEMBERS", "s{k}"));
  queue(tx, ARGV("ZRANGE", "z{k}", "0", "-1", "WITHSCORES"));
  redmoon_reply *replies = exec(tx);
  assert_int_equal(redmoon_reply_count(replies), 5);
  const redmoon_reply *map = redmoon_reply_at(replies, 0);
  assert_int_equal(redmoon_reply_type(map), REDMOON_MAP);
  assert_int_equal(redmoon_reply_count(map), 1);
  assert_string_equal(redmoon_reply_string(redmoon_reply_value(map, 0), NULL), "1");
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 1)), REDMOON_DOUBLE);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 2)), REDMOON_STATUS);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 3)), REDMOON_SET);
  const redmoon_reply *pairs = redmoon_reply_at(replies, 4);
  assert_int_equal(redmoon_reply_count(pairs), 1);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(redmoon_reply_at(pairs, 0), 1)), REDMOON_DOUBLE);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

static void large_transaction_is_one_flight(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  enum { COUNT = 10000 };
  redmoon_transaction *tx = begin(client, NULL);
  for (int i = 0; i < COUNT; i++) queue(tx, ARGV("INCR", "n"));
  redmoon_reply *replies = exec(tx);
  assert_int_equal(redmoon_reply_count(replies), COUNT);
  for (size_t i = 0; i < COUNT; i++) assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, i)), i + 1);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

static void blocking_command_inside_does_not_block(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("BLPOP", "nothing", "0"));
  redmoon_reply *replies = exec(tx);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 0)), REDMOON_NIL);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

/* Conflict. */

static void change_of_a_watched_key_is_a_conflict_and_nothing_is_executed(void **state) {
  matrix_cell *cell = *state;
  redmoon_client *other = matrix_open(cell, NULL);
  redmoon_transaction *tx = begin(cell->client, &k);
  set(other, "k", "other");
  multi(tx);
  queue(tx, ARGV("SET", "k", "mine"));
  queue(tx, ARGV("SET", "more{k}", "mine"));
  redmoon_reply *replies = (redmoon_reply *)&tx;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ECONFLICT);
  assert_null(replies);
  assert_string_equal(err.code, "CONFLICT");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_value(other, "k", "other");
  assert_value(other, "more{k}", NULL);
  /* once more, with nobody in between */
  if (redmoon_transaction_again(tx, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_transaction_is_queuing(tx), 0);
  multi(tx);
  queue(tx, ARGV("SET", "k", "mine"));
  redmoon_reply_free(exec(tx));
  assert_value(other, "k", "mine");
  redmoon_transaction_free(tx);
  redmoon_client_close(other);
}

typedef struct body {
  redmoon_client *other;
  int calls, disturb; /* the first so many runs are disturbed */
  int ending;         /* what it returns after having queued */
} body;

static int raise_k(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  body *self = ctx;
  int64_t value = read_integer(tx, "k");
  if (self->calls++ < self->disturb) redmoon_reply_free(ask(self->other, "INCRBY", "k", "100", NULL));
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)value + 1);
  multi(tx);
  queue(tx, ARGV("SET", "k", text));
  if (self->ending < 0) *err = (redmoon_error){.status = self->ending, .code = "OWN", .message = "of the body"};
  return self->ending;
}

static void run_repeats_the_body_after_a_conflict(void **state) {
  matrix_cell *cell = *state;
  body self = {.other = matrix_open(cell, NULL), .disturb = 3};
  set(self.other, "k", "1");
  redmoon_reply *replies;
  redmoon_error err;
  if (redmoon_transaction_run(cell->client, &k, 1, raise_k, &self, NULL, &replies, &err) != 0)
    fail_msg("%s", err.message);
  assert_int_equal(self.calls, 4);
  assert_int_equal(redmoon_reply_count(replies), 1);
  redmoon_reply_free(replies);
  assert_value(self.other, "k", "302"); /* no update of the other was lost */
  redmoon_client_close(self.other);
}

static void conflict_is_reported_when_the_attempts_are_used_up(void **state) {
  matrix_cell *cell = *state;
  body self = {.other = matrix_open(cell, NULL), .disturb = 100};
  redmoon_transaction_options options = {.max_attempts = 3};
  redmoon_reply *replies = (redmoon_reply *)&self;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_run(cell->client, &k, 1, raise_k, &self, &options, &replies, &err),
                   REDMOON_ECONFLICT);
  assert_null(replies);
  assert_string_equal(err.code, "CONFLICT");
  assert_non_null(strstr(err.message, "3 attempts"));
  assert_int_equal(self.calls, 3);
  assert_value(self.other, "k", "300");
  redmoon_client_close(self.other);
}

static void body_can_abandon_or_fail(void **state) {
  matrix_cell *cell = *state;
  set(cell->client, "k", "1");
  redmoon_reply *replies = (redmoon_reply *)&cell;
  redmoon_error err;
  body self = {.ending = 1};
  assert_int_equal(redmoon_transaction_run(cell->client, &k, 1, raise_k, &self, NULL, &replies, &err), 1);
  assert_null(replies);
  self = (body){.ending = REDMOON_ECODEC};
  assert_int_equal(redmoon_transaction_run(cell->client, &k, 1, raise_k, &self, NULL, &replies, &err),
                   REDMOON_ECODEC);
  assert_null(replies);
  assert_string_equal(err.message, "of the body");
  assert_int_equal(self.calls, 1);
  assert_value(cell->client, "k", "1");
  redmoon_stats stats;
  redmoon_client_stats(cell->client, &stats);
  assert_int_equal(stats.in_use, 0);
}

/* Errors. */

static void refused_command_aborts_all_and_is_named(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("SET", "k", "1"));
  queue(tx, ARGV("GET"));
  queue(tx, ARGV("SET", "k", "2"));
  redmoon_reply *replies;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ESERVER);
  assert_null(replies);
  assert_string_equal(err.code, "EXECABORT");
  assert_non_null(strstr(err.message, "wrong number of arguments"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  redmoon_transaction_free(tx);
  assert_value(client, "k", NULL);
}

static void errors_inside_exec_are_elements(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "RPUSH", "list{k}", "a", NULL));
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("SET", "a{k}", "1"));
  queue(tx, ARGV("INCR", "list{k}"));
  queue(tx, ARGV("SET", "b{k}", "2"));
  redmoon_reply *replies = exec(tx);
  assert_int_equal(redmoon_reply_count(replies), 3);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 0)), REDMOON_STATUS);
  assert_int_equal(redmoon_reply_type(redmoon_reply_at(replies, 1)), REDMOON_ERROR);
  assert_true(strncmp(redmoon_reply_string(redmoon_reply_at(replies, 1), NULL), "WRONGTYPE ", 10) == 0);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
  assert_value(client, "b{k}", "2");
}

static void error_of_a_command_before_multi_leaves_the_transaction_usable(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "RPUSH", "list{k}", "a", NULL));
  redmoon_transaction *tx = begin(client, &k);
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("GET", "list{k}"), NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_int_equal(read_integer(tx, "k"), 0);
  multi(tx);
  queue(tx, ARGV("SET", "k", "1"));
  redmoon_reply_free(exec(tx));
  redmoon_transaction_free(tx);
}

static int kill_myself_once(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  body *self = ctx;
  if (self->calls++ == 0) {
    redmoon_reply *reply;
    if (redmoon_transaction_command(tx, 2, ARGV("CLIENT", "ID"), NULL, &reply, err) != 0) return err->status;
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)redmoon_reply_integer(reply));
    redmoon_reply_free(reply);
    assert_int_equal(ask_integer(self->other, "CLIENT", "KILL", "ID", id, NULL), 1);
  }
  multi(tx);
  queue(tx, ARGV("INCR", "k"));
  return 0;
}

/* Whether EXEC was lost before or after it was sent, the increment happens once. */
static void run_survives_the_loss_of_the_watching_connection(void **state) {
  matrix_cell *cell = *state;
  body self = {.other = matrix_open(cell, NULL)};
  redmoon_reply *replies;
  redmoon_error err;
  if (redmoon_transaction_run(cell->client, &k, 1, kill_myself_once, &self, NULL, &replies, &err) != 0)
    fail_msg("%s (outcome %s)", err.message, redmoon_outcome_name(err.outcome));
  assert_int_equal(self.calls, 2);
  redmoon_reply_free(replies);
  assert_value(self.other, "k", "1");
  redmoon_client_close(self.other);
}

/* No WATCH stays on a connection. */

typedef void (*exit_fn)(redmoon_transaction *tx, redmoon_client *other);

static void exit_by_commit(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  multi(tx);
  queue(tx, ARGV("SET", "x{k}", "1"));
  redmoon_reply_free(exec(tx));
}

static void exit_by_empty_commit(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  redmoon_reply_free(exec(tx));
}

static void exit_by_conflict(redmoon_transaction *tx, redmoon_client *other) {
  set(other, "k", "changed");
  multi(tx);
  queue(tx, ARGV("SET", "x{k}", "1"));
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), REDMOON_ECONFLICT);
}

static void exit_by_abort(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  multi(tx);
  queue(tx, ARGV("GET"));
  redmoon_reply *replies;
  assert_int_equal(redmoon_transaction_exec(tx, &replies, NULL), REDMOON_ESERVER);
}

static void exit_by_abandon(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  assert_int_equal(redmoon_transaction_abandon(tx, NULL), 0);
}

static void exit_by_abandon_after_queuing(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  multi(tx);
  queue(tx, ARGV("SET", "x{k}", "1"));
  assert_int_equal(redmoon_transaction_abandon(tx, NULL), 0);
}

static void exit_by_free(redmoon_transaction *tx, redmoon_client *other) {
  (void)tx;
  (void)other;
}

static void exit_by_free_after_queuing(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  multi(tx);
  queue(tx, ARGV("SET", "x{k}", "1"));
}

static void exit_by_cancelled_command(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  redmoon_reply *reply;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_command_start(tx, 2, ARGV("GET", "k"), NULL, &reply, &op, NULL), 0);
  redmoon_op_step(op);
  redmoon_op_cancel(op);
}

static void exit_by_cancelled_exec(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  multi(tx);
  redmoon_reply *replies;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  redmoon_op_step(op);
  redmoon_op_cancel(op);
}

static void exit_by_cancelled_abandon(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_abandon_start(tx, &op, NULL), 0);
  redmoon_op_cancel(op);
}

static void exit_by_again_given_up(redmoon_transaction *tx, redmoon_client *other) {
  (void)other;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_again_start(tx, &op, NULL), 0);
  redmoon_op_cancel(op);
}

static void no_end_leaves_a_watch_on_the_connection(void **state) {
  matrix_cell *cell = *state;
  static const exit_fn exits[] = {exit_by_commit,
                                  exit_by_empty_commit,
                                  exit_by_conflict,
                                  exit_by_abort,
                                  exit_by_abandon,
                                  exit_by_abandon_after_queuing,
                                  exit_by_free,
                                  exit_by_free_after_queuing,
                                  exit_by_cancelled_command,
                                  exit_by_cancelled_exec,
                                  exit_by_cancelled_abandon,
                                  exit_by_again_given_up};
  redmoon_client *client = client_of_one(cell);
  for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++) {
    redmoon_transaction *tx = begin(client, &k);
    exits[i](tx, cell->client);
    redmoon_transaction_free(tx);
    set(cell->client, "k", "changed again");
    /* with one connection in the pool, it is that one; a WATCH on it would make this a conflict */
    tx = begin(client, NULL);
    queue(tx, ARGV("SET", "y{k}", "1"));
    redmoon_reply *replies;
    redmoon_error err;
    if (redmoon_transaction_exec(tx, &replies, &err) != 0) fail_msg("exit %zu: %s", i, err.message);
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
    redmoon_stats stats;
    redmoon_client_stats(client, &stats);
    assert_int_equal(stats.in_use, 0);
    assert_int_equal(stats.total, 1);
  }
  redmoon_client_close(client);
}

/* Scripts. */

static void scripts_inside_run_though_the_server_forgot_them(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char source[] = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
  redmoon_script *script;
  redmoon_error err;
  assert_int_equal(redmoon_script_new(source, sizeof source - 1, &script, &err), 0);
  for (int round = 0; round < 3; round++) {
    redmoon_reply_free(ask(client, "SCRIPT", "FLUSH", NULL));
    set(client, "k", "0");
    redmoon_transaction *tx = begin(client, &k);
    multi(tx);
    const redmoon_bytes by = {"10", 2};
    queue(tx, ARGV("INCR", "k"));
    assert_int_equal(redmoon_transaction_queue_script(tx, script, &(redmoon_script_args){&k, 1, &by, 1}, &err), 1);
    assert_int_equal(redmoon_transaction_queue_script(tx, script, &(redmoon_script_args){&k, 1, &by, 1}, &err), 2);
    queue(tx, ARGV("INCR", "k"));
    redmoon_reply *replies = exec(tx);
    static const int64_t expected[] = {1, 11, 21, 22};
    assert_int_equal(redmoon_reply_count(replies), 4);
    for (size_t i = 0; i < 4; i++)
      assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, i)), expected[i]);
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
  }
  redmoon_script_unref(script);
}

/* Markers. */

static void markers_are_bounded_and_expire(void **state) {
  matrix_cell *cell = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.key_prefix = "app";
  redmoon_client *clients[2] = {cell->client, matrix_open(cell, &options)};
  for (int i = 0; i < 100; i++) {
    redmoon_transaction *tx = begin(clients[i % 2], NULL);
    queue(tx, ARGV("INCR", "n"));
    redmoon_reply_free(exec(tx));
    redmoon_transaction_free(tx);
  }
  redmoon_reply *keys = ask(cell->client, "KEYS", "*:{*}:commit:*", NULL);
  assert_int_equal(redmoon_reply_count(keys), 2); /* one for each client, none for each transaction */
  int prefixed = 0;
  for (size_t i = 0; i < 2; i++) {
    const char *key = redmoon_reply_string(redmoon_reply_at(keys, i), NULL);
    int64_t ttl = ask_integer(cell->client, "PTTL", key, NULL);
    assert_true(ttl > 0 && ttl <= 70000); /* timeout and a minute */
    prefixed += strncmp(key, "app:", 4) == 0;
    assert_true(strncmp(key, "app:", 4) == 0 || strncmp(key, "redmoon:", 8) == 0);
  }
  assert_int_equal(prefixed, 1);
  redmoon_reply_free(keys);
  assert_int_equal(ask_integer(cell->client, "DBSIZE", NULL), 3);
  redmoon_client_close(clients[1]);
}

static void transaction_that_only_reads_writes_no_marker(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, NULL);
  queue(tx, ARGV("GET", "k"));
  queue(tx, ARGV("EXISTS", "k"));
  redmoon_reply_free(exec(tx));
  redmoon_transaction_free(tx);
  assert_int_equal(ask_integer(client, "DBSIZE", NULL), 0);
}

/* Misuse. */

static void misuse_is_a_clear_error(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = begin(client, &k);
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("INCR", "k"), NULL, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "until multi()"));
  assert_int_equal(redmoon_transaction_command(tx, 1, ARGV("UNWATCH"), NULL, &reply, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("SELECT", "1"), NULL, &reply, &err), REDMOON_ECONFIG);
  multi(tx);
  assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("GET", "k"), NULL, &reply, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "queued"));
  assert_int_equal(redmoon_transaction_queue(tx, 1, ARGV("MULTI"), NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_queue(tx, 1, ARGV("EXEC"), NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_queue(tx, 0, ARGV("GET"), NULL, &err), REDMOON_ECONFIG);
  queue(tx, ARGV("INCR", "k"));
  reply = exec(tx); /* what was refused is not in the way */
  assert_int_equal(redmoon_reply_count(reply), 1);
  redmoon_reply_free(reply);
  assert_int_equal(redmoon_transaction_exec(tx, &reply, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "has ended"));
  assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("INCR", "k"), NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_multi(tx, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("GET", "k"), NULL, &reply, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_transaction_abandon(tx, &err), 0);
  redmoon_transaction_free(tx);
  redmoon_transaction_free(NULL);
  assert_value(client, "k", "1");
}

static void options_and_keys_out_of_range_are_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_transaction *tx = (redmoon_transaction *)&client;
  redmoon_error err;
  static const int64_t bad[] = {0, -1, 1001};
  for (size_t i = 0; i < 3; i++) {
    redmoon_transaction_options options = {.max_attempts = bad[i]};
    assert_int_equal(redmoon_transaction_begin(client, &k, 1, &options, &tx, &err), REDMOON_ECONFIG);
    assert_null(tx);
    assert_non_null(strstr(err.message, "max_attempts"));
  }
  const redmoon_bytes keys[] = {k, {NULL, 4}};
  assert_int_equal(redmoon_transaction_begin(client, keys, 2, NULL, &tx, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "key 2"));
}

static const matrix_test tests[] = {
    MATRIX_TEST(commit_returns_one_reply_for_each_command),
    MATRIX_TEST(transaction_without_keys_holds_nothing_until_exec),
    MATRIX_TEST(empty_transaction_commits_nothing),
    MATRIX_TEST(shapes_inside_exec_are_those_of_single_commands),
    MATRIX_TEST(large_transaction_is_one_flight),
    MATRIX_TEST(blocking_command_inside_does_not_block),
    MATRIX_TEST(change_of_a_watched_key_is_a_conflict_and_nothing_is_executed),
    MATRIX_TEST(run_repeats_the_body_after_a_conflict),
    MATRIX_TEST(conflict_is_reported_when_the_attempts_are_used_up),
    MATRIX_TEST(body_can_abandon_or_fail),
    MATRIX_TEST(refused_command_aborts_all_and_is_named),
    MATRIX_TEST(errors_inside_exec_are_elements),
    MATRIX_TEST(error_of_a_command_before_multi_leaves_the_transaction_usable),
    MATRIX_ALONE(run_survives_the_loss_of_the_watching_connection),
    MATRIX_TEST(no_end_leaves_a_watch_on_the_connection),
    MATRIX_TEST(scripts_inside_run_though_the_server_forgot_them),
    MATRIX_TEST(markers_are_bounded_and_expire),
    MATRIX_TEST(transaction_that_only_reads_writes_no_marker),
    MATRIX_TEST(misuse_is_a_clear_error),
    MATRIX_TEST(options_and_keys_out_of_range_are_refused),
};

int main(void) { return matrix_run("transaction", tests, sizeof tests / sizeof tests[0]); }
