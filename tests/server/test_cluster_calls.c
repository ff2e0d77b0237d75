/* SPDX-License-Identifier: MIT */
/* Transactions, scripts and scans of a cluster that stands still. */
#include "server/cluster.h"

enum { KEYS = 400 };

static const char *name(char out[24], int i) {
  snprintf(out, 24, "key:%d", i);
  return out;
}

/* Transactions. */

static redmoon_transaction *begin(redmoon_client *client, const char *key) {
  redmoon_transaction *tx = NULL;
  redmoon_error err;
  const redmoon_bytes watched = {key, key != NULL ? strlen(key) : 0};
  if (redmoon_transaction_begin(client, &watched, key != NULL, NULL, &tx, &err) != 0) fail_msg("%s", err.message);
  return tx;
}

static void queue(redmoon_transaction *tx, const char *const *argv) {
  redmoon_error err;
  if (redmoon_transaction_queue(tx, count_of(argv), argv, NULL, &err) < 0) fail_msg("%s", err.message);
}

static redmoon_reply *exec(redmoon_transaction *tx) {
  redmoon_reply *replies = NULL;
  redmoon_error err;
  if (redmoon_transaction_exec(tx, &replies, &err) != 0) fail_msg("%s", err.message);
  return replies;
}

static void transaction_runs_on_the_node_of_its_keys(void **state) {
  clustered *f = *state;
  char a[24], b[24];
  for (int i = 0; i < 60; i++) {
    snprintf(a, sizeof a, "{%d}a", i);
    snprintf(b, sizeof b, "{%d}b", i);
    redmoon_transaction *tx = begin(f->client, NULL);
    queue(tx, ARGV("SET", a, "1"));
    queue(tx, ARGV("INCR", a));
    queue(tx, ARGV("INCR", b));
    redmoon_reply *replies = exec(tx);
    assert_int_equal(redmoon_reply_count(replies), 3);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 1)), 2);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 2)), 1);
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
  }
  assert_int_equal(atomic_load(&f->redirects), 0);
}

static void watched_keys_conflict(void **state) {
  clustered *f = *state;
  redmoon_reply *replies = NULL, *read = NULL;
  redmoon_error err;
  for (int i = 0; i < 20; i++) {
    char key[24];
    set(f->client, name(key, i), "1");
    redmoon_transaction *tx = begin(f->client, key);
    assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("GET", key), NULL, &read, &err), 0);
    assert_text(read, "1");
    redmoon_reply_free(read);
    set(cluster_client(f->cluster, cluster_primary_of(f->cluster, slot_of(key))), key, "2");
    assert_int_equal(redmoon_transaction_multi(tx, &err), 0);
    queue(tx, ARGV("SET", key, "3"));
    assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ECONFLICT);
    assert_int_equal(redmoon_transaction_again(tx, &err), 0);
    assert_int_equal(redmoon_transaction_multi(tx, &err), 0);
    queue(tx, ARGV("SET", key, "4"));
    redmoon_reply_free(exec(tx));
    redmoon_transaction_free(tx);
    assert_value(f->client, key, "4");
  }
}

static void transaction_of_two_slots_is_refused_whole(void **state) {
  clustered *f = *state;
  redmoon_reply *replies = NULL;
  redmoon_error err;
  redmoon_transaction *tx = begin(f->client, NULL);
  queue(tx, ARGV("SET", "one", "1"));
  queue(tx, ARGV("SET", "two", "2"));
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_non_null(strstr(err.message, "'one'"));
  assert_non_null(strstr(err.message, "'two'"));
  redmoon_transaction_free(tx);
  assert_value(f->client, "one", NULL);
  const redmoon_bytes both[] = {{"one", 3}, {"two", 3}};
  assert_int_equal(redmoon_transaction_begin(f->client, both, 2, NULL, &tx, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  /* Watched in one slot, written in another: EXEC would run on a node that does not have the second one. */
  tx = begin(f->client, "one");
  assert_int_equal(redmoon_transaction_multi(tx, &err), 0);
  queue(tx, ARGV("SET", "two", "2"));
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_non_null(strstr(err.message, "'one'"));
  assert_non_null(strstr(err.message, "'two'"));
  redmoon_transaction_free(tx);
  assert_value(f->client, "two", NULL);
}

/* Scripts. */

static redmoon_script *script_of(const char *source) {
  redmoon_script *script = NULL;
  redmoon_error err;
  if (redmoon_script_new(source, strlen(source), &script, &err) != 0) fail_msg("%s", err.message);
  return script;
}

static void script_runs_on_every_node(void **state) {
  clustered *f = *state;
  redmoon_script *script = script_of("return redis.call('INCRBY', KEYS[1], ARGV[1])");
  char text[24];
  redmoon_error err;
  for (int turn = 1; turn <= 2; turn++) {
    for (int i = 0; i < 60; i++) {
      const redmoon_bytes key = {name(text, i), strlen(text)}, arg = {"5", 1};
      redmoon_reply *reply = NULL;
      if (redmoon_script_run(f->client, script, &(redmoon_script_args){&key, 1, &arg, 1}, &reply, &err) != 0)
        fail_msg("%s", err.message);
      assert_int_equal(redmoon_reply_integer(reply), 5 * turn);
      redmoon_reply_free(reply);
    }
    redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
    for (int i = 0; i < PRIMARIES; i++) { /* nobody knows it any more */
      redmoon_reply *reply = cluster_ask(f->cluster, i, "SCRIPT", "EXISTS", redmoon_script_sha1(script), NULL);
      assert_int_equal(redmoon_reply_integer(redmoon_reply_at(reply, 0)), 0);
      redmoon_reply_free(reply);
    }
  }
  redmoon_script_unref(script);
}

static void scripts_in_pipelines_are_loaded_where_they_run(void **state) {
  clustered *f = *state;
  redmoon_script *one = script_of("return redis.call('INCR', KEYS[1])"),
                 *two = script_of("return {KEYS[1], redis.call('GET', KEYS[1])}");
  redmoon_error err;
  redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
  redmoon_pipeline *p = pipeline_of(f->client);
  char text[24];
  for (int i = 0; i < 200; i++) {
    const redmoon_bytes key = {name(text, i), strlen(text)};
    assert_true(redmoon_pipeline_script(p, one, &(redmoon_script_args){&key, 1, NULL, 0}, &err) >= 0);
    pipeline_add(p, ARGV("INCR", text));
    assert_true(redmoon_pipeline_script(p, two, &(redmoon_script_args){&key, 1, NULL, 0}, &err) >= 0);
  }
  pipeline_run(p);
  for (int i = 0; i < 200; i++) {
    assert_int_equal(redmoon_reply_integer(pipeline_reply(p, (size_t)(3 * i))), 1);
    assert_int_equal(redmoon_reply_integer(pipeline_reply(p, (size_t)(3 * i + 1))), 2);
    assert_text(redmoon_reply_at(pipeline_reply(p, (size_t)(3 * i + 2)), 0), name(text, i));
    assert_text(redmoon_reply_at(pipeline_reply(p, (size_t)(3 * i + 2)), 1), "2");
  }
  redmoon_pipeline_free(p);
  redmoon_script_unref(one);
  redmoon_script_unref(two);
}

static void scripts_in_transactions_are_loaded_where_they_run(void **state) {
  clustered *f = *state;
  redmoon_script *script = script_of("return redis.call('INCR', KEYS[1])");
  redmoon_error err;
  redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
  char text[24];
  for (int i = 0; i < 30; i++) {
    const redmoon_bytes key = {name(text, i), strlen(text)};
    redmoon_transaction *tx = begin(f->client, NULL);
    queue(tx, ARGV("SET", text, "7"));
    assert_true(redmoon_transaction_queue_script(tx, script, &(redmoon_script_args){&key, 1, NULL, 0}, &err) >= 0);
    redmoon_reply *replies = exec(tx);
    assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 1)), 8);
    redmoon_reply_free(replies);
    redmoon_transaction_free(tx);
  }
  redmoon_script_unref(script);
}

/* Scans. */

/* How many elements the pages had that begin with `prefix`; each is counted in `seen` by the number behind it. */
static int scan_all(redmoon_client *client, const redmoon_scan_options *options, const char *prefix, unsigned char seen[KEYS]) {
  redmoon_scan *scan = NULL;
  redmoon_error err;
  int count = 0;
  if (redmoon_scan_new(client, REDMOON_SCAN_KEYS, NULL, 0, options, &scan, &err) != 0) fail_msg("%s", err.message);
  for (;;) {
    redmoon_reply *page = NULL;
    if (redmoon_scan_next(scan, &page, &err) != 0) fail_msg("%s", err.message);
    if (page == NULL) break;
    for (size_t i = 0; i < redmoon_reply_count(page); i++) {
      const char *key = redmoon_reply_string(redmoon_reply_at(page, i), NULL);
      assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
      int number = atoi(key + strlen(prefix));
      assert_in_range(number, 0, KEYS - 1);
      seen[number] = 1;
      count++;
    }
    redmoon_reply_free(page);
  }
  redmoon_scan_free(scan);
  return count;
}

static void scan_goes_over_all_primaries(void **state) {
  clustered *f = *state;
  char key[24], list[24];
  for (int i = 0; i < KEYS; i++) {
    set(f->client, name(key, i), "x");
    snprintf(list, sizeof list, "list:%d", i);
    redmoon_reply_free(ask(f->client, "LPUSH", list, "x", NULL));
  }
  unsigned char seen[KEYS] = {0};
  redmoon_scan_options options = {.match = "key:*", .count = 13};
  assert_true(scan_all(f->client, &options, "key:", seen) >= KEYS);
  for (int i = 0; i < KEYS; i++) assert_int_equal(seen[i], 1);
  memset(seen, 0, sizeof seen);
  options = (redmoon_scan_options){.count = 100, .type = "list"};
  assert_true(scan_all(f->client, &options, "list:", seen) >= KEYS);
  for (int i = 0; i < KEYS; i++) assert_int_equal(seen[i], 1);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  options = (redmoon_scan_options){.count = REDMOON_UNSET};
  assert_int_equal(scan_all(f->client, &options, "", seen), 0);
}

static void scan_of_one_key_stays_at_its_node(void **state) {
  clustered *f = *state;
  char member[24], key[24];
  for (int k = 0; k < 6; k++) {
    snprintf(key, sizeof key, "set%d", k);
    for (int i = 0; i < 300; i++) redmoon_reply_free(ask(f->client, "SADD", key, name(member, i), NULL));
    redmoon_scan *scan = NULL;
    redmoon_error err;
    redmoon_reply *page = NULL;
    size_t count = 0;
    redmoon_scan_options options = {.count = 20};
    assert_int_equal(redmoon_scan_new(f->client, REDMOON_SCAN_SET, key, strlen(key), &options, &scan, &err), 0);
    for (;;) {
      if (redmoon_scan_next(scan, &page, &err) != 0) fail_msg("%s", err.message);
      if (page == NULL) break;
      count += redmoon_reply_count(page);
      redmoon_reply_free(page);
    }
    assert_true(count >= 300);
    redmoon_scan_free(scan);
  }
  assert_int_equal(atomic_load(&f->redirects), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CLUSTER_TEST(transaction_runs_on_the_node_of_its_keys),
      CLUSTER_TEST(watched_keys_conflict),
      CLUSTER_TEST(transaction_of_two_slots_is_refused_whole),
      CLUSTER_TEST(script_runs_on_every_node),
      CLUSTER_TEST(scripts_in_pipelines_are_loaded_where_they_run),
      CLUSTER_TEST(scripts_in_transactions_are_loaded_where_they_run),
      CLUSTER_TEST(scan_goes_over_all_primaries),
      CLUSTER_TEST(scan_of_one_key_stays_at_its_node),
  };
  return cmocka_run_group_tests_name("cluster_calls", tests, clustered_start, clustered_stop);
}
