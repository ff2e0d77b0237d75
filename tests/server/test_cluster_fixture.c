/* SPDX-License-Identifier: MIT */
/* What the tests of clusters stand on: that slots move, half and whole, that nodes fail over and are replaced; seen by the
 * clients of single nodes alone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "route/slots.h"
#include "support/ask.h"
#include "support/cluster_fixture.h"

#include <stdio.h>
#include <string.h>

enum { KEYS = 37 };

static int start(void **state) {
  *state = cluster_start(&(cluster_options){.node_timeout_ms = 1000});
  return 0;
}

static int stop(void **state) {
  cluster_stop(*state);
  return 0;
}

static int slot_of(const char *key) { return rm_slot_of(key, strlen(key)); }

static const char *key_name(char out[16], int i) {
  snprintf(out, 16, "{t}%d", i);
  return out;
}

static void set(cluster *c, int node, const char *key) {
  redmoon_reply_free(cluster_ask(c, node, "SET", key, key, NULL));
}

/* What the node answers to a GET: 1 the value, 0 nothing, else the first word of its error. */
static const char *get(cluster *c, int node, const char *key) {
  static redmoon_error err;
  redmoon_reply *reply = NULL;
  const char *const argv[] = {"GET", key};
  if (redmoon_command(cluster_client(c, node), 2, argv, NULL, &reply, &err) != 0) return err.code;
  const char *what = redmoon_reply_type(reply) == REDMOON_NIL ? "nothing" : "value";
  redmoon_reply_free(reply);
  return what;
}

static void each_node_has_its_part(void **state) {
  cluster *c = *state;
  assert_int_equal(cluster_count(c), 6);
  for (int i = 0, sum = 0; i < 3; i++) {
    assert_in_range(cluster_slots_of(c, i), 5461, 5462);
    assert_int_equal(cluster_replica_of(c, i), 3 + i);
    sum += cluster_slots_of(c, i);
    if (i == 2) assert_int_equal(sum, CLUSTER_SLOTS);
  }
  assert_int_equal(cluster_primary_of(c, 0), 0);
  assert_int_equal(cluster_primary_of(c, CLUSTER_SLOTS - 1), 2);
  assert_non_null(strstr(cluster_url(c), "redis+cluster://127.0.0.1:"));
}

static void slot_moves_with_its_keys(void **state) {
  cluster *c = *state;
  char key[16];
  int slot = slot_of("t"), from = cluster_primary_of(c, slot), to = (from + 1) % 3;
  for (int i = 0; i < KEYS; i++) set(c, from, key_name(key, i));
  cluster_move_slot(c, slot, to);
  assert_int_equal(cluster_primary_of(c, slot), to);
  for (int i = 0; i < KEYS; i++) {
    assert_string_equal(get(c, to, key_name(key, i)), "value");
    assert_string_equal(get(c, from, key), "MOVED");
    assert_string_equal(get(c, 3 - from - to, key), "MOVED");
  }
  cluster_move_slot(c, slot, from);
  assert_string_equal(get(c, from, "{t}0"), "value");
}

static void half_a_move_asks(void **state) {
  cluster *c = *state;
  int slot = slot_of("t"), from = cluster_primary_of(c, slot), to = (from + 1) % 3;
  cluster_begin_move(c, slot, to);
  assert_true(cluster_move_key(c, slot, "{t}5"));
  assert_false(cluster_move_key(c, slot, "{t}5"));
  assert_int_equal(cluster_move_keys(c, slot, 12), 12);
  assert_string_equal(get(c, from, "{t}5"), "ASK");
  assert_string_equal(get(c, to, "{t}5"), "MOVED"); /* without ASKING */
  assert_int_equal(cluster_primary_of(c, slot), from);
  redmoon_error err;
  redmoon_reply *reply = NULL;
  int gone = 0, there = 0;
  char key[16], other[16] = "{t}5";
  for (int i = 0; i < KEYS; i++) {
    bool is_here = strcmp(get(c, from, key_name(key, i)), "value") == 0;
    if (is_here) snprintf(other, sizeof other, "%s", key);
    there += is_here;
    gone += !is_here;
  }
  assert_int_equal(gone, 13);
  assert_int_equal(there, KEYS - 13);
  const char *const both[] = {"MGET", other, "{t}5"};
  redmoon_call_options once = REDMOON_CALL_OPTIONS_INIT; /* the client tries again until its deadline */
  once.timeout_ms = 300;
  redmoon_client *impatient = NULL;
  assert_int_equal(redmoon_client_with(cluster_client(c, from), &once, &impatient, &err), 0);
  assert_int_equal(redmoon_command(impatient, 3, both, NULL, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "TRYAGAIN");
  redmoon_client_close(impatient);
  cluster_end_move(c, slot);
  assert_int_equal(cluster_primary_of(c, slot), to);
  for (int i = 0; i < KEYS; i++) assert_string_equal(get(c, to, key_name(key, i)), "value");
}

/* Whoever serves `slot` now ends as `end` says, another takes over, and it comes back as a replica. */
static void fail_over(cluster *c, int slot, void (*end)(cluster *c, int node), void (*back)(cluster *c, int node)) {
  int old = cluster_primary_of(c, slot);
  set(c, old, "{t}0");
  cluster_await_ok(c);
  end(c, old);
  assert_false(cluster_is_running(c, old));
  int now = cluster_await_failover(c, slot, old);
  assert_int_not_equal(now, old);
  assert_string_equal(get(c, now, "{t}1"), "value");
  set(c, now, "{t}0");
  back(c, old);
  cluster_await_ok(c);
  assert_int_equal(cluster_primary_of(c, slot), now);
  assert_int_equal(cluster_replica_of(c, now), old);
}

static void replica_takes_over_from_one_that_was_killed(void **state) {
  fail_over(*state, slot_of("t"), cluster_kill, cluster_restart);
}

static void replica_takes_over_from_one_that_stands_still(void **state) {
  fail_over(*state, slot_of("t"), cluster_pause, cluster_resume);
}

static void every_node_can_be_replaced(void **state) {
  cluster *c = *state;
  int slot = slot_of("t");
  for (int i = 0; i < 6; i++) {
    int now = cluster_replace(c, i);
    assert_int_equal(now, 6 + i);
    assert_null(cluster_server(c, i));
  }
  int owner = cluster_primary_of(c, slot);
  assert_true(owner >= 6);
  assert_string_equal(get(c, owner, "{t}1"), "value");
  assert_true(cluster_replica_of(c, owner) >= 6);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_node_has_its_part),
      cmocka_unit_test(slot_moves_with_its_keys),
      cmocka_unit_test(half_a_move_asks),
      cmocka_unit_test(replica_takes_over_from_one_that_was_killed),
      cmocka_unit_test(replica_takes_over_from_one_that_stands_still),
      cmocka_unit_test(every_node_can_be_replaced),
  };
  return cmocka_run_group_tests_name("cluster_fixture", tests, start, stop);
}
