/* SPDX-License-Identifier: MIT */
/* Commands, pipelines, transactions, scripts and scans of a cluster that stands still: where they go, and how what comes back
 * is put together. */
#include "server/cluster.h"

enum { KEYS = 400, RANDOM_KEYS = 100000, BATCH = 1000 };

static const char *name(char out[24], int i) {
  snprintf(out, 24, "key:%d", i);
  return out;
}

/* Slots. */

static uint64_t next_random(uint64_t *rng) { /* xorshift64* */
  *rng ^= *rng >> 12;
  *rng ^= *rng << 25;
  *rng ^= *rng >> 27;
  return *rng * 2685821657736338717u;
}

/* Any bytes, a third of the keys mostly braces. */
static size_t random_key(uint64_t *rng, char out[48]) {
  size_t len = next_random(rng) % 48;
  bool braces = next_random(rng) % 3 == 0;
  for (size_t i = 0; i < len; i++) {
    uint64_t r = next_random(rng);
    out[i] = braces ? "{}{}ab"[r % 6] : r % 10 == 0 ? "{}"[r / 10 % 2] : (char)(r >> 32);
  }
  return len;
}

static void slots_are_those_that_a_server_computes(void **state) {
  clustered *f = *state;
  const char *given = getenv("SEED");
  uint64_t rng = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)(uintptr_t)f->client ^ 0x9e3779b97f4a7c15u;
  print_message("SEED=%llu\n", (unsigned long long)rng);
  for (int done = 0; done < RANDOM_KEYS; done += BATCH) {
    int slots[BATCH];
    redmoon_pipeline *p = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_pipeline_new(cluster_client(f->cluster, 0), &p, &err), 0);
    for (int i = 0; i < BATCH; i++) {
      char key[48];
      size_t len = random_key(&rng, key);
      slots[i] = rm_slot_of(key, len);
      const char *const argv[] = {"CLUSTER", "KEYSLOT", key};
      const size_t lens[] = {7, 7, len};
      assert_int_equal(redmoon_pipeline_command(p, 3, argv, lens, &err), i);
    }
    if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
    for (size_t i = 0; i < BATCH; i++)
      assert_int_equal(redmoon_reply_integer(redmoon_pipeline_result(p, i).reply), slots[i]);
    redmoon_pipeline_free(p);
  }
}

/* Single commands. */

static void command_goes_to_the_node_of_its_key(void **state) {
  clustered *f = *state;
  char key[24];
  for (int i = 0; i < KEYS; i++) set(f->client, name(key, i), key);
  for (int i = 0; i < KEYS; i++) assert_value(f->client, name(key, i), key);
  for (int i = 0; i < KEYS; i++) {
    int64_t len = (int64_t)strlen(name(key, i));
    assert_int_equal(ask_integer(f->client, "APPEND", key, "!", NULL), len + 1);
  }
  assert_int_equal(atomic_load(&f->redirects), 0);
  int64_t sum = 0;
  for (int i = 0; i < PRIMARIES; i++) {
    int64_t own = ask_integer(cluster_client(f->cluster, i), "DBSIZE", NULL);
    assert_true(own > KEYS / 6);
    sum += own;
  }
  assert_int_equal(sum, KEYS);
}

static void error_reply_is_the_callers(void **state) {
  clustered *f = *state;
  set(f->client, "text", "x");
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 3, ARGV("LPUSH", "text", "y"), NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
}

static void keys_that_are_not_the_first_argument_are_found(void **state) {
  clustered *f = *state;
  char key[24], destination[40], text[64];
  for (int i = 0; i < 60; i++) {
    snprintf(key, sizeof key, "{%d}a", i);
    snprintf(destination, sizeof destination, "{%d}z", i);
    assert_int_equal(ask_integer(f->client, "ZADD", key, "1", "m", NULL), 1);
    assert_int_equal(ask_integer(f->client, "ZUNIONSTORE", destination, "1", key, NULL), 1);
    redmoon_reply *reply = ask(f->client, "ZUNION", "2", key, destination, NULL);
    assert_int_equal(redmoon_reply_count(reply), 1);
    redmoon_reply_free(reply);
    redmoon_reply_free(ask(f->client, "XADD", key + 1, "*", "f", "v", NULL)); /* "0}a": another slot */
    reply = ask(f->client, "XREAD", "COUNT", "1", "STREAMS", key + 1, "0", NULL);
    assert_int_equal(redmoon_reply_type(reply) == REDMOON_NIL, 0);
    redmoon_reply_free(reply);
    assert_true(ask_text(f->client, text, sizeof text, "OBJECT", "ENCODING", key, NULL) > 0);
    assert_true(ask_integer(f->client, "MEMORY", "USAGE", destination, NULL) > 0);
    assert_int_equal(ask_integer(f->client, "EVAL", "return redis.call('ZCARD', KEYS[1])", "1", key, NULL), 1);
  }
  assert_int_equal(atomic_load(&f->redirects), 0);
}

/* Pipelines. */

static redmoon_pipeline *pipeline_of(redmoon_client *client) {
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  if (redmoon_pipeline_new(client, &p, &err) != 0) fail_msg("%s", err.message);
  return p;
}

static void add(redmoon_pipeline *p, const char *const *argv) {
  redmoon_error err;
  if (redmoon_pipeline_command(p, count_of(argv), argv, NULL, &err) < 0) fail_msg("%s", err.message);
}

static void run(redmoon_pipeline *p) {
  redmoon_error err;
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
}

static const redmoon_reply *reply_at(redmoon_pipeline *p, size_t i) {
  redmoon_result result = redmoon_pipeline_result(p, i);
  assert_int_equal(result.outcome, REDMOON_ANSWERED);
  assert_non_null(result.reply);
  return result.reply;
}

/* Five commands for each turn, of keys in other slots each time; INCRs of a key come back in the order they were added. */
static void pipeline_over_all_slots_keeps_order_and_results(void **state) {
  clustered *f = *state;
  enum { TURNS = 1000, EACH = 5, COUNTERS = 97 };
  char key[24], counter[24], tag[24], none[24];
  redmoon_pipeline *p = pipeline_of(f->client);
  for (int i = 0; i < TURNS; i++) {
    snprintf(counter, sizeof counter, "n:%d", i % COUNTERS);
    snprintf(tag, sizeof tag, "tag:%d", i);
    snprintf(none, sizeof none, "none:%d", i);
    add(p, ARGV("SET", name(key, i), tag));
    add(p, ARGV("INCR", counter));
    add(p, ARGV("ECHO", tag));
    add(p, ARGV("LPUSH", key, "x")); /* an error of its own */
    add(p, ARGV("MGET", counter, key, none));
  }
  run(p);
  for (int i = 0; i < TURNS; i++) {
    size_t at = (size_t)i * EACH;
    snprintf(tag, sizeof tag, "tag:%d", i);
    assert_text(reply_at(p, at), "OK");
    assert_int_equal(redmoon_reply_integer(reply_at(p, at + 1)), i / COUNTERS + 1);
    assert_text(reply_at(p, at + 2), tag);
    assert_int_equal(redmoon_reply_type(reply_at(p, at + 3)), REDMOON_ERROR);
    const redmoon_reply *three = reply_at(p, at + 4);
    assert_int_equal(redmoon_reply_count(three), 3);
    snprintf(counter, sizeof counter, "%d", i / COUNTERS + 1);
    assert_text(redmoon_reply_at(three, 0), counter);
    assert_text(redmoon_reply_at(three, 1), tag);
    assert_text(redmoon_reply_at(three, 2), NULL);
  }
  redmoon_pipeline_free(p);
  assert_int_equal(atomic_load(&f->redirects), 0);
}

static void pipeline_of_one_node_and_an_empty_one(void **state) {
  clustered *f = *state;
  redmoon_pipeline *p = pipeline_of(f->client);
  run(p);
  redmoon_pipeline_free(p);
  p = pipeline_of(f->client);
  for (int i = 0; i < 100; i++) add(p, ARGV("INCR", "{one}n"));
  run(p);
  for (size_t i = 0; i < 100; i++) assert_int_equal(redmoon_reply_integer(reply_at(p, i)), i + 1);
  redmoon_pipeline_free(p);
}

/* Split and merged. */

static void commands_of_many_keys_are_split_and_merged(void **state) {
  clustered *f = *state;
  enum { MANY = 120 };
  char keys[MANY][24];
  const char *argv[2 * MANY + 1] = {"MSET"};
  for (int i = 0; i < MANY; i++) argv[1 + 2 * i] = argv[2 + 2 * i] = name(keys[i], i);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 1 + 2 * MANY, argv, NULL, &reply, &err), 0);
  assert_text(reply, "OK");
  redmoon_reply_free(reply);
  /* every other key twice, in between one that is not there */
  argv[0] = "MGET";
  for (int i = 0; i < MANY; i++) argv[1 + i] = i % 3 == 2 ? "absent" : keys[i / 2 * 2 % MANY];
  assert_int_equal(redmoon_command(f->client, 1 + MANY, argv, NULL, &reply, &err), 0);
  assert_int_equal(redmoon_reply_count(reply), MANY);
  for (int i = 0; i < MANY; i++)
    assert_text(redmoon_reply_at(reply, (size_t)i), i % 3 == 2 ? NULL : keys[i / 2 * 2 % MANY]);
  redmoon_reply_free(reply);
  argv[0] = "EXISTS";
  for (int i = 0; i < MANY; i++) argv[1 + i] = i < 10 ? "absent" : keys[i];
  argv[1 + MANY] = keys[20]; /* a second time: counts twice */
  assert_int_equal(redmoon_command(f->client, 2 + MANY, argv, NULL, &reply, &err), 0);
  assert_int_equal(redmoon_reply_integer(reply), MANY - 10 + 1);
  redmoon_reply_free(reply);
  static const char *const removers[] = {"TOUCH", "DEL", "UNLINK"};
  for (int i = 0, from = 0; i < 3; i++) {
    argv[0] = removers[i];
    for (int k = 0; k < 50; k++) argv[1 + k] = keys[from + k];
    assert_int_equal(redmoon_command(f->client, 51, argv, NULL, &reply, &err), 0);
    assert_int_equal(redmoon_reply_integer(reply), 50);
    redmoon_reply_free(reply);
    if (i > 0) from += 50;
  }
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), MANY - 100);
}

static void malformed_split_command_is_the_servers_to_refuse(void **state) {
  clustered *f = *state;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 4, ARGV("MSET", "a", "1", "b"), NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
  assert_int_equal(redmoon_command(f->client, 1, ARGV("MGET"), NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
  assert_value(f->client, "a", NULL);
}

/* Commands without keys. */

static void commands_for_all_nodes_are_merged_by_their_policy(void **state) {
  clustered *f = *state;
  char key[24], text[64];
  for (int i = 0; i < KEYS; i++) set(f->client, name(key, i), "x");
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), KEYS);
  redmoon_reply *reply = ask(f->client, "KEYS", "key:1*", NULL);
  assert_int_equal(redmoon_reply_count(reply), 1 + 10 + 100);
  redmoon_reply_free(reply);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  for (int i = 0; i < PRIMARIES; i++) assert_int_equal(ask_integer(cluster_client(f->cluster, i), "DBSIZE", NULL), 0);
  reply = ask(f->client, "RANDOMKEY", NULL);
  assert_text(reply, NULL);
  redmoon_reply_free(reply);
  set(f->client, "lonely", "x");
  for (int i = 0; i < 20; i++) {
    assert_int_equal(ask_text(f->client, text, sizeof text, "RANDOMKEY", NULL), 6);
    assert_string_equal(text, "lonely");
  }
}

static void configuration_reaches_every_node(void **state) {
  clustered *f = *state;
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "slowlog-max-len", "77", NULL));
  for (int i = 0; i < cluster_count(f->cluster); i++) {
    redmoon_reply *reply = cluster_ask(f->cluster, i, "CONFIG", "GET", "slowlog-max-len", NULL);
    if (strcmp(redmoon_reply_string(redmoon_reply_value(reply, 0), NULL), "77") != 0)
      fail_msg("node %d, port %d, was not reached", i, cluster_port(f->cluster, i));
    redmoon_reply_free(reply);
  }
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "slowlog-max-len", "128", NULL));
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 4, ARGV("CONFIG", "SET", "nonsense", "1"), NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "ERR");
}

static void keyless_commands_are_answered_by_any_node(void **state) {
  clustered *f = *state;
  char text[64];
  for (int i = 0; i < 30; i++) {
    assert_int_equal(ask_text(f->client, text, sizeof text, "PING", NULL), 4);
    redmoon_reply *reply = ask(f->client, "TIME", NULL);
    assert_int_equal(redmoon_reply_count(reply), 2);
    redmoon_reply_free(reply);
  }
}

static void raw_scan_is_refused_for_its_cursor_is_one_nodes(void **state) {
  clustered *f = *state;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 2, ARGV("SCAN", "0"), NULL, &reply, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
}

/* Keys of different slots. */

static int64_t calls_anywhere(clustered *f, const char *command) {
  int64_t calls = 0;
  for (int i = 0; i < cluster_count(f->cluster); i++) calls += calls_of(f->cluster, i, command);
  return calls;
}

static void assert_refused(clustered *f, const char *const *argv, const char *a, const char *b) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  char lower[32] = "";
  for (size_t i = 0; argv[0][i] != '\0'; i++) lower[i] = (char)(argv[0][i] | 0x20);
  int64_t before = calls_anywhere(f, lower);
  assert_int_equal(redmoon_command(f->client, count_of(argv), argv, NULL, &reply, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_false(err.retryable);
  assert_non_null(strstr(err.message, a));
  assert_non_null(strstr(err.message, b));
  assert_int_equal(calls_anywhere(f, lower), before);
}

static void keys_of_two_slots_are_refused_with_both_names(void **state) {
  clustered *f = *state;
  assert_refused(f, ARGV("RENAME", "one", "two"), "'one'", "'two'");
  assert_refused(f, ARGV("SINTERSTORE", "{s}d", "{s}a", "other"), "'{s}d'", "'other'");
  assert_refused(f, ARGV("ZUNIONSTORE", "dest", "2", "{s}a", "{s}b"), "'dest'", "'{s}a'");
  assert_refused(f, ARGV("EVAL", "return 1", "2", "one", "two"), "'one'", "'two'");
  assert_refused(f, ARGV("MSETNX", "one", "1", "two", "2"), "'one'", "'two'");
  assert_refused(f, ARGV("XREAD", "STREAMS", "one", "two", "0", "0"), "'one'", "'two'");
  assert_refused(f, ARGV("BLPOP", "one", "two", "1"), "'one'", "'two'");
}

static void pipeline_with_such_a_command_sends_nothing(void **state) {
  clustered *f = *state;
  redmoon_error err;
  redmoon_pipeline *p = pipeline_of(f->client);
  add(p, ARGV("SET", "one", "1"));
  add(p, ARGV("RENAME", "one", "two"));
  add(p, ARGV("SET", "two", "2"));
  assert_int_equal(redmoon_pipeline_run(p, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_non_null(strstr(err.message, "'two'"));
  for (size_t i = 0; i < 3; i++) assert_int_equal(redmoon_pipeline_result(p, i).outcome, REDMOON_NOT_SENT);
  redmoon_pipeline_free(p);
  assert_value(f->client, "one", NULL);
  assert_value(f->client, "two", NULL);
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
    add(p, ARGV("INCR", text));
    assert_true(redmoon_pipeline_script(p, two, &(redmoon_script_args){&key, 1, NULL, 0}, &err) >= 0);
  }
  run(p);
  for (int i = 0; i < 200; i++) {
    assert_int_equal(redmoon_reply_integer(reply_at(p, (size_t)(3 * i))), 1);
    assert_int_equal(redmoon_reply_integer(reply_at(p, (size_t)(3 * i + 1))), 2);
    assert_text(redmoon_reply_at(reply_at(p, (size_t)(3 * i + 2)), 0), name(text, i));
    assert_text(redmoon_reply_at(reply_at(p, (size_t)(3 * i + 2)), 1), "2");
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
      cmocka_unit_test_setup_teardown(slots_are_those_that_a_server_computes, clustered_enter_3, clustered_leave),
      CLUSTER_TEST(command_goes_to_the_node_of_its_key),
      CLUSTER_TEST(error_reply_is_the_callers),
      CLUSTER_TEST(keys_that_are_not_the_first_argument_are_found),
      CLUSTER_TEST(pipeline_over_all_slots_keeps_order_and_results),
      CLUSTER_TEST(pipeline_of_one_node_and_an_empty_one),
      CLUSTER_TEST(commands_of_many_keys_are_split_and_merged),
      CLUSTER_TEST(malformed_split_command_is_the_servers_to_refuse),
      CLUSTER_TEST(commands_for_all_nodes_are_merged_by_their_policy),
      CLUSTER_TEST(configuration_reaches_every_node),
      CLUSTER_TEST(keyless_commands_are_answered_by_any_node),
      CLUSTER_TEST(raw_scan_is_refused_for_its_cursor_is_one_nodes),
      CLUSTER_TEST(keys_of_two_slots_are_refused_with_both_names),
      CLUSTER_TEST(pipeline_with_such_a_command_sends_nothing),
      CLUSTER_TEST(transaction_runs_on_the_node_of_its_keys),
      CLUSTER_TEST(watched_keys_conflict),
      CLUSTER_TEST(transaction_of_two_slots_is_refused_whole),
      CLUSTER_TEST(script_runs_on_every_node),
      CLUSTER_TEST(scripts_in_pipelines_are_loaded_where_they_run),
      CLUSTER_TEST(scripts_in_transactions_are_loaded_where_they_run),
      CLUSTER_TEST(scan_goes_over_all_primaries),
      CLUSTER_TEST(scan_of_one_key_stays_at_its_node),
  };
  return cmocka_run_group_tests_name("cluster", tests, clustered_start, clustered_stop);
}
