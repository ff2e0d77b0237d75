/* SPDX-License-Identifier: MIT */
/* A cluster whose slots move: what is redirected, asked elsewhere or refused for now is nobody's business but the client's. */
#include "server/cluster.h"

enum { KEYS = 40 };

static const char *key_name(char out[24], int i) {
  snprintf(out, 24, "{t}%d", i);
  return out;
}

/* {t}0..39 hold their own names; the even ones have been moved, the slot has not. */
static void half_move(clustered *f) {
  char key[24];
  int slot = slot_of("t"), from = cluster_primary_of(f->cluster, slot);
  for (int i = 0; i < KEYS; i++) set(f->client, key_name(key, i), key);
  cluster_begin_move(f->cluster, slot, (from + 1) % PRIMARIES);
  for (int i = 0; i < KEYS; i += 2) assert_true(cluster_move_key(f->cluster, slot, key_name(key, i)));
  atomic_store(&f->redirects, 0);
}

static void end_move(clustered *f) { cluster_end_move(f->cluster, slot_of("t")); }

/* MOVED. */

static void moved_slot_is_followed_once(void **state) {
  clustered *f = *state;
  char key[24];
  int slot = slot_of("t"), to = (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES;
  for (int i = 0; i < KEYS; i++) set(f->client, key_name(key, i), key);
  cluster_move_slot(f->cluster, slot, to);
  assert_value(f->client, "{t}7", "{t}7");
  assert_int_equal(atomic_load(&f->redirects), 1);
  for (int i = 0; i < KEYS; i++) assert_value(f->client, key_name(key, i), key);
  assert_int_equal(atomic_load(&f->redirects), 1);
}

/* Commands of one key in a pipeline, and of many others, after the slot has moved behind the client's back. */
static void pipeline_goes_after_moved_slots_in_order(void **state) {
  clustered *f = *state;
  enum { SLOTS = 12, EACH = 20 };
  char key[24];
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  for (int i = 0; i < SLOTS; i++) {
    snprintf(key, sizeof key, "{%d}n", i);
    set(f->client, key, "0");
  }
  for (int i = 0; i < SLOTS; i += 2) {
    snprintf(key, sizeof key, "{%d}n", i);
    int slot = slot_of(key);
    cluster_move_slot(f->cluster, slot, (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES);
  }
  assert_int_equal(redmoon_pipeline_new(f->client, &p, &err), 0);
  for (int n = 0; n < EACH; n++)
    for (int i = 0; i < SLOTS; i++) {
      snprintf(key, sizeof key, "{%d}n", i);
      assert_true(redmoon_pipeline_command(p, 2, ARGV("INCR", key), NULL, &err) >= 0);
    }
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  for (size_t n = 0; n < EACH; n++)
    for (size_t i = 0; i < SLOTS; i++)
      assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, n * SLOTS + i).reply), n + 1);
  redmoon_pipeline_free(p);
  assert_true(atomic_load(&f->redirects) > 0);
}

static void transaction_moves_whole(void **state) {
  clustered *f = *state;
  int slot = slot_of("t");
  redmoon_error err;
  for (int64_t turn = 1; turn <= 4; turn++) {
    cluster_move_slot(f->cluster, slot, (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES);
    redmoon_transaction *tx = NULL;
    redmoon_reply *replies = NULL;
    assert_int_equal(redmoon_transaction_begin(f->client, NULL, 0, NULL, &tx, &err), 0);
    assert_true(redmoon_transaction_queue(tx, 2, ARGV("INCR", "{t}n"), NULL, &err) >= 0);
    assert_true(redmoon_transaction_queue(tx, 3, ARGV("RPUSH", "{t}l", "x"), NULL, &err) >= 0);
    if (redmoon_transaction_exec(tx, &replies, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 0)), turn);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 1)), turn);
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
  }
}

/* Counts how often the body ran. */
static int add_one(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  char text[24];
  ++*(int *)ctx;
  int rc = redmoon_transaction_command(tx, 2, ARGV("GET", "{t}n"), NULL, &reply, err);
  if (rc != 0) return rc;
  const char *value = redmoon_reply_string(reply, NULL);
  snprintf(text, sizeof text, "%d", (value != NULL ? atoi(value) : 0) + 1);
  redmoon_reply_free(reply);
  if ((rc = redmoon_transaction_multi(tx, err)) != 0) return rc;
  int64_t at = redmoon_transaction_queue(tx, 3, ARGV("SET", "{t}n", text), NULL, err);
  return at < 0 ? (int)at : 0;
}

static void watching_transaction_begins_anew_where_the_slot_is(void **state) {
  clustered *f = *state;
  const redmoon_bytes watched = {"{t}n", 4};
  int slot = slot_of("t"), runs = 0;
  char expected[16];
  for (int turn = 1; turn <= 4; turn++) {
    redmoon_reply *replies = NULL;
    redmoon_error err;
    cluster_move_slot(f->cluster, slot, (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES);
    if (redmoon_transaction_run(f->client, &watched, 1, add_one, &runs, NULL, &replies, &err) != 0) fail_msg("%s", err.message);
    redmoon_reply_free(replies);
    snprintf(expected, sizeof expected, "%d", turn);
    assert_value(f->client, "{t}n", expected);
  }
}

typedef struct mover {
  clustered *f;
  int runs;
} mover;

/* The slot moves between its reads and its EXEC, the first time. */
static int add_one_while_it_moves(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  mover *m = ctx;
  int rc = add_one(&m->runs, tx, err);
  if (m->runs > 1 || rc != 0) return rc;
  int slot = slot_of("t");
  cluster_move_slot(m->f->cluster, slot, (cluster_primary_of(m->f->cluster, slot) + 1) % PRIMARIES);
  return 0;
}

static void slot_that_moves_during_a_transaction_loses_nothing(void **state) {
  clustered *f = *state;
  const redmoon_bytes watched = {"{t}n", 4};
  char expected[16];
  for (int turn = 1; turn <= 3; turn++) {
    mover m = {.f = f};
    redmoon_reply *replies = NULL;
    redmoon_error err;
    if (redmoon_transaction_run(f->client, &watched, 1, add_one_while_it_moves, &m, NULL, &replies, &err) != 0)
      fail_msg("%s", err.message);
    redmoon_reply_free(replies);
    assert_true(m.runs > 1);
    snprintf(expected, sizeof expected, "%d", turn);
    assert_value(f->client, "{t}n", expected);
  }
}

/* ASK. */

static void half_moved_keys_are_asked_for_where_they_are(void **state) {
  clustered *f = *state;
  char key[24], fresh[24];
  half_move(f);
  for (int i = 0; i < KEYS; i++) assert_value(f->client, key_name(key, i), key);
  assert_int_equal(atomic_load(&f->redirects), KEYS / 2); /* each time anew: the slot is not the other node's yet */
  for (int i = 0; i < 5; i++) {
    snprintf(fresh, sizeof fresh, "{t}fresh%d", i);
    assert_int_equal(ask_integer(f->client, "INCR", fresh, NULL), 1);
  }
  for (int i = 0; i < 5; i++) { /* a script asks with its keys */
    snprintf(fresh, sizeof fresh, "{t}fresh%d", i);
    assert_int_equal(ask_integer(f->client, "EVAL", "return redis.call('INCR', KEYS[1])", "1", fresh, NULL), 2);
  }
  end_move(f);
  for (int i = 0; i < KEYS; i++) assert_value(f->client, key_name(key, i), key);
  assert_value(f->client, "{t}fresh4", "2");
}

static void half_moved_keys_in_a_pipeline(void **state) {
  clustered *f = *state;
  char key[24], counter[24], other[24];
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  half_move(f);
  assert_int_equal(redmoon_pipeline_new(f->client, &p, &err), 0);
  for (int i = 0; i < KEYS; i++) {
    snprintf(counter, sizeof counter, "{t}n%d", i % 7); /* not there: at the other node */
    snprintf(other, sizeof other, "elsewhere:%d", i);
    assert_true(redmoon_pipeline_command(p, 2, ARGV("GET", key_name(key, i)), NULL, &err) >= 0);
    assert_true(redmoon_pipeline_command(p, 2, ARGV("INCR", counter), NULL, &err) >= 0);
    assert_true(redmoon_pipeline_command(p, 3, ARGV("APPEND", key, "!"), NULL, &err) >= 0);
    assert_true(redmoon_pipeline_command(p, 2, ARGV("INCR", other), NULL, &err) >= 0);
    assert_true(redmoon_pipeline_command(p, 2, ARGV("GET", key), NULL, &err) >= 0);
  }
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  for (int i = 0; i < KEYS; i++) {
    size_t at = (size_t)i * 5;
    assert_text(redmoon_pipeline_result(p, at).reply, key_name(key, i));
    assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, at + 1).reply), i / 7 + 1);
    assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, at + 2).reply), strlen(key) + 1);
    assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, at + 3).reply), 1);
    snprintf(other, sizeof other, "{t}%d!", i);
    assert_text(redmoon_pipeline_result(p, at + 4).reply, other);
  }
  redmoon_pipeline_free(p);
  end_move(f);
}

/* TRYAGAIN. */

typedef struct refusing {
  clustered *f;
  int64_t more_than;
} refusing;

static int64_t refusals(clustered *f) {
  int64_t count = 0;
  for (int i = 0; i < PRIMARIES; i++) count += errors_of(f->cluster, i, "TRYAGAIN");
  return count;
}

static bool was_refused(void *ctx) {
  refusing *r = ctx;
  return refusals(r->f) > r->more_than;
}

/* What was started has keys in two places: waits until it was refused twice, ends the move, and lets it go on. */
static void outlast_the_move(clustered *f, redmoon_op *op, const refusing *before) {
  redmoon_error err;
  refusing twice = {f, before->more_than + 1};
  if (drive_until(op, was_refused, &twice))
    fail_msg("it did not wait, but ended: %s", redmoon_op_finish(op, &err) == 0 ? "well" : err.message);
  end_move(f);
  drive(op);
  if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
}

static redmoon_reply *wait_for_the_move(clustered *f, const char *const *argv) {
  redmoon_op *op = NULL;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  refusing before = {f, refusals(f)};
  if (redmoon_command_start(f->client, count_of(argv), argv, NULL, &reply, &op, &err) != 0) fail_msg("%s", err.message);
  outlast_the_move(f, op, &before);
  return reply;
}

/* Of a key that has moved and one that has not. */
static void transaction_with_keys_in_two_places_is_waited_for(void **state) {
  clustered *f = *state;
  redmoon_error err;
  half_move(f);
  redmoon_transaction *tx = NULL;
  redmoon_reply *replies = NULL;
  redmoon_op *op = NULL;
  refusing before = {f, refusals(f)};
  assert_int_equal(redmoon_transaction_begin(f->client, NULL, 0, NULL, &tx, &err), 0);
  assert_true(redmoon_transaction_queue(tx, 3, ARGV("APPEND", "{t}0", "!"), NULL, &err) >= 0);
  assert_true(redmoon_transaction_queue(tx, 3, ARGV("APPEND", "{t}1", "!"), NULL, &err) >= 0);
  if (redmoon_transaction_exec_start(tx, &replies, &op, &err) != 0) fail_msg("%s", err.message);
  outlast_the_move(f, op, &before);
  for (size_t i = 0; i < 2; i++) assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, i)), 5);
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
  assert_value(f->client, "{t}0", "{t}0!");
  assert_value(f->client, "{t}1", "{t}1!");
}

static void keys_in_two_places_are_waited_for(void **state) {
  clustered *f = *state;
  half_move(f);
  redmoon_reply *reply = wait_for_the_move(f, ARGV("MGET", "{t}0", "{t}1"));
  assert_text(redmoon_reply_at(reply, 0), "{t}0");
  assert_text(redmoon_reply_at(reply, 1), "{t}1");
  redmoon_reply_free(reply);
}

static void split_command_waits_for_the_part_in_two_places(void **state) {
  clustered *f = *state;
  half_move(f);
  redmoon_reply *reply = wait_for_the_move(f, ARGV("DEL", "{t}0", "{t}1", "elsewhere", "{t}2", "{t}3"));
  assert_int_equal(redmoon_reply_integer(reply), 4);
  redmoon_reply_free(reply);
}

static void refusal_that_outlasts_the_deadline_is_told(void **state) {
  clustered *f = *state;
  redmoon_call_options short_call = REDMOON_CALL_OPTIONS_INIT;
  redmoon_client *view = NULL;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  short_call.timeout_ms = 300;
  assert_int_equal(redmoon_client_with(f->client, &short_call, &view, &err), 0);
  half_move(f);
  assert_true(redmoon_command(view, 3, ARGV("DEL", "{t}0", "{t}1"), NULL, &reply, &err) < 0);
  assert_int_not_equal(err.outcome, REDMOON_UNKNOWN); /* nothing of it was executed, and the client knows */
  redmoon_client_close(view);
  end_move(f);
  assert_value(f->client, "{t}0", "{t}0");
  assert_value(f->client, "{t}1", "{t}1");
}

static void script_with_keys_in_two_places_is_waited_for(void **state) {
  clustered *f = *state;
  half_move(f);
  redmoon_reply *reply = wait_for_the_move(
      f, ARGV("EVAL", "return redis.call('GET', KEYS[1]) .. redis.call('GET', KEYS[2])", "2", "{t}0", "{t}1"));
  assert_text(reply, "{t}0{t}1");
  redmoon_reply_free(reply);
}

/* Seeds. */

static void one_living_seed_is_enough(void **state) {
  clustered *f = *state;
  char url[300];
  for (int living = 0; living < 6; living++) {
    int at = snprintf(url, sizeof url, "redis+cluster://");
    for (int i = 0; i < 6; i++) /* low ports: nobody listens there */
      at += snprintf(url + at, sizeof url - (size_t)at, "%s127.0.0.1:%d", i > 0 ? "," : "",
                     i == living ? cluster_port(f->cluster, i) : 1 + i);
    redmoon_client *client = clustered_open(url, NULL);
    char key[24];
    for (int i = 0; i < KEYS; i++) {
      snprintf(key, sizeof key, "key:%d", i);
      set(client, key, "x");
    }
    assert_int_equal(ask_integer(client, "DBSIZE", NULL), KEYS);
    redmoon_client_close(client);
  }
}

static void no_living_seed_is_a_clear_error(void **state) {
  (void)state;
  redmoon_client *client = clustered_open("redis+cluster://127.0.0.1:1,127.0.0.1:2?max_retries=1", NULL);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(client, 2, ARGV("GET", "k"), NULL, &reply, &err), REDMOON_ECONNECT);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_non_null(strstr(err.message, "cluster"));
  redmoon_pipeline *p = NULL;
  assert_int_equal(redmoon_pipeline_new(client, &p, &err), 0);
  assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("GET", "k"), NULL, &err), 0);
  assert_int_equal(redmoon_pipeline_command(p, 2, ARGV("GET", "j"), NULL, &err), 1);
  assert_int_equal(redmoon_pipeline_run(p, &err), REDMOON_ECONNECT);
  assert_int_equal(redmoon_pipeline_result(p, 1).outcome, REDMOON_NOT_SENT);
  redmoon_pipeline_free(p);
  redmoon_client_close(client);
}

static void one_server_that_is_no_cluster_is_a_clear_error(void **state) {
  (void)state;
  redis_server *server = redis_server_start(&(redis_server_options){.tcp = true});
  char url[80];
  snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", redis_server_port(server));
  redmoon_client *client = clustered_open(url, NULL);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_true(redmoon_command(client, 2, ARGV("GET", "k"), NULL, &reply, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_non_null(strstr(err.message, "cluster"));
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CLUSTER_TEST(moved_slot_is_followed_once),
      CLUSTER_TEST(pipeline_goes_after_moved_slots_in_order),
      CLUSTER_TEST(transaction_moves_whole),
      CLUSTER_TEST(watching_transaction_begins_anew_where_the_slot_is),
      cmocka_unit_test_setup_teardown(slot_that_moves_during_a_transaction_loses_nothing, clustered_enter_3, clustered_leave),
      CLUSTER_TEST(half_moved_keys_are_asked_for_where_they_are),
      CLUSTER_TEST(half_moved_keys_in_a_pipeline),
      CLUSTER_TEST(transaction_with_keys_in_two_places_is_waited_for),
      CLUSTER_TEST(keys_in_two_places_are_waited_for),
      CLUSTER_TEST(split_command_waits_for_the_part_in_two_places),
      CLUSTER_TEST(refusal_that_outlasts_the_deadline_is_told),
      CLUSTER_TEST(script_with_keys_in_two_places_is_waited_for),
      cmocka_unit_test_setup_teardown(one_living_seed_is_enough, clustered_enter_3, clustered_leave),
      cmocka_unit_test_setup_teardown(no_living_seed_is_a_clear_error, clustered_enter_3, clustered_leave),
      cmocka_unit_test_setup_teardown(one_server_that_is_no_cluster_is_a_clear_error, clustered_enter_3, clustered_leave),
  };
  return cmocka_run_group_tests_name("cluster_moves", tests, clustered_start, clustered_stop);
}
