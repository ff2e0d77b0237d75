/* SPDX-License-Identifier: MIT */
/* Commands and pipelines in a cluster that stands still: where they go, and how what comes back is put together. */
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
    pipeline_add(p, ARGV("SET", name(key, i), tag));
    pipeline_add(p, ARGV("INCR", counter));
    pipeline_add(p, ARGV("ECHO", tag));
    pipeline_add(p, ARGV("LPUSH", key, "x")); /* an error of its own */
    pipeline_add(p, ARGV("MGET", counter, key, none));
  }
  pipeline_run(p);
  for (int i = 0; i < TURNS; i++) {
    size_t at = (size_t)i * EACH;
    snprintf(tag, sizeof tag, "tag:%d", i);
    assert_text(pipeline_reply(p, at), "OK");
    assert_int_equal(redmoon_reply_integer(pipeline_reply(p, at + 1)), i / COUNTERS + 1);
    assert_text(pipeline_reply(p, at + 2), tag);
    assert_int_equal(redmoon_reply_type(pipeline_reply(p, at + 3)), REDMOON_ERROR);
    const redmoon_reply *three = pipeline_reply(p, at + 4);
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
  pipeline_run(p);
  redmoon_pipeline_free(p);
  p = pipeline_of(f->client);
  for (int i = 0; i < 100; i++) pipeline_add(p, ARGV("INCR", "{one}n"));
  pipeline_run(p);
  for (size_t i = 0; i < 100; i++) assert_int_equal(redmoon_reply_integer(pipeline_reply(p, i)), i + 1);
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
  pipeline_add(p, ARGV("SET", "one", "1"));
  pipeline_add(p, ARGV("RENAME", "one", "two"));
  pipeline_add(p, ARGV("SET", "two", "2"));
  assert_int_equal(redmoon_pipeline_run(p, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_non_null(strstr(err.message, "'two'"));
  for (size_t i = 0; i < 3; i++) assert_int_equal(redmoon_pipeline_result(p, i).outcome, REDMOON_NOT_SENT);
  redmoon_pipeline_free(p);
  assert_value(f->client, "one", NULL);
  assert_value(f->client, "two", NULL);
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
  };
  return cmocka_run_group_tests_name("cluster", tests, clustered_start, clustered_stop);
}
