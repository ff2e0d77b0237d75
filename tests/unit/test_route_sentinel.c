/* SPDX-License-Identifier: MIT */
/* The route of a watched primary: who is picked, and what a switch does to connections. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "pool/pool_internal.h"
#include "route/sentinel.h"

#include <string.h>

static char host[] = "localhost", url[] = "redis+sentinel://localhost:26379/main/0", name[] = "main";
static rm_address address = {.host = host, .port = 26379};
static rm_config config;
static const rm_dialer dialer;
static int discoveries, closed;
static rm_close_reason closed_why;
static rm_route *route;

static void discover(void *ctx) {
  (void)ctx;
  discoveries++;
}

static bool is_reusable(rm_conn *conn, rm_close_reason *why) {
  (void)conn;
  (void)why;
  return true;
}

static void note_close(void *ctx, rm_conn *conn, rm_close_reason why) {
  (void)ctx;
  closed++;
  closed_why = why;
  rm_conn_close(conn);
}

static void make(char *read_from) {
  static const rm_route_hooks hooks = {{is_reusable, note_close, NULL, NULL}, discover};
  config = (rm_config){.topology = RM_SENTINEL, .addresses = &address, .address_count = 1, .sentinel_name = name, .url = url,
                       .read_from = read_from, .pool_size = 4, .max_idle = 4, .min_idle = 1, .min_backoff_ms = 8, .max_backoff_ms = 512};
  discoveries = closed = 0;
  assert_int_equal(rm_random_init(), 0);
  assert_int_equal(rm_route_new(&config, &dialer, &hooks, &route, NULL), 0);
}

static rm_announced at(int port) {
  rm_announced server = {.port = port};
  strcpy(server.host, "10.0.0.1");
  return server;
}

static void apply(int primary, int first, int second) {
  rm_announced p = at(primary), replicas[2] = {at(first), at(second)};
  size_t count = (size_t)(first != 0) + (size_t)(second != 0);
  assert_int_equal(rm_sentinel_apply(route, &p, replicas, count, 1, NULL), 0);
}

static rm_node *pick(bool read) {
  rm_route_wait wait = {0};
  rm_node *node = NULL;
  assert_int_equal(rm_route_pick(route, &(rm_target){.read = read}, &wait, &node, NULL), RM_DONE);
  return node;
}

static void until_a_primary_is_known_everybody_waits(void **state) {
  (void)state;
  char read_from[] = "primary";
  make(read_from);
  rm_route_wait wait = {0};
  rm_node *node = NULL;
  assert_int_equal(rm_route_pick(route, &(rm_target){0}, &wait, &node, NULL), RM_WAIT);
  assert_int_equal(discoveries, 1);
  assert_int_equal(rm_route_serving(route, true, &node, 1), 0);
  apply(1, 2, 3);
  assert_int_equal(rm_route_pick(route, &(rm_target){0}, &wait, &node, NULL), RM_DONE);
  assert_int_equal(node->address.port, 1);
  assert_false(wait.waits);
  rm_route_free(route);
}

static void whoever_waits_is_told_why_nothing_was_found(void **state) {
  (void)state;
  char read_from[] = "primary";
  make(read_from);
  rm_route_wait wait = {0};
  rm_node *node = NULL;
  redmoon_error why = {.status = REDMOON_ECONNECT, .message = "all dead"}, err;
  assert_int_equal(rm_route_pick(route, &(rm_target){0}, &wait, &node, NULL), RM_WAIT);
  rm_route_failed(route, &why);
  assert_int_equal(rm_route_pick(route, &(rm_target){0}, &wait, &node, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "all dead");
  rm_route_free(route);
}

/* How often each port is picked in many reads. */
static void count_reads(int counts[10]) {
  memset(counts, 0, 10 * sizeof *counts);
  for (int i = 0; i < 600; i++) counts[pick(true)->address.port]++;
}

static void reads_go_where_read_from_says_and_writes_never(void **state) {
  (void)state;
  static char sources[4][8] = {"primary", "replica", "any", "nearest"};
  int counts[10];
  for (int i = 0; i < 4; i++) {
    make(sources[i]);
    apply(1, 2, 3);
    rm_node *primary = pick(false);
    for (int n = 0; n < 100; n++) assert_ptr_equal(pick(false), primary);
    atomic_store(&primary->latency_us, 300);
    for (rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node))
      if (node != primary) atomic_store(&node->latency_us, node->address.port == 3 ? 200 : 400);
    count_reads(counts);
    assert_true((counts[1] > 0) == (i == 0 || i == 2));
    assert_true((counts[2] > 0) == (i == 1 || i == 2));
    assert_true((counts[3] > 0) == (i != 0));
    rm_route_free(route);
  }
}

static void without_replicas_the_primary_is_read_from(void **state) {
  (void)state;
  char read_from[] = "replica";
  make(read_from);
  apply(1, 0, 0);
  assert_int_equal(pick(true)->address.port, 1);
  apply(1, 1, 0); /* named as both, in the middle of a fail-over */
  assert_int_equal(pick(true)->address.port, 1);
  rm_route_free(route);
}

/* A connection on a socket that is none, lent out of the node's pool. */
static rm_conn *borrow(rm_node *node, rm_lease *lease) {
  const rm_limits limits = rm_limits_for(1 << 20);
  rm_conn *conn = rm_conn_new(-1, &limits);
  assert_non_null(conn);
  *lease = (rm_lease){.event = RM_EVENT_INIT};
  assert_int_equal(rm_pool_acquire(node->pool, lease, 0, 1, NULL), RM_POOL_DIAL);
  assert_int_equal(rm_pool_dialed(lease, conn, 1, NULL), 0);
  return conn;
}

static void a_switch_closes_what_went_to_the_old_primary(void **state) {
  (void)state;
  static char sources[2][8] = {"primary", "any"};
  for (int i = 0; i < 2; i++) { /* as a replica it goes on to serve reads, but not by these */
    make(sources[i]);
    apply(1, 2, 3);
    rm_node *old = pick(false);
    uint64_t epoch = rm_route_epoch(route);
    rm_lease idle, used;
    borrow(old, &idle);
    borrow(old, &used);
    rm_pool_release(&idle, 1);
    assert_int_equal(closed, 0);
    apply(2, 1, 3);
    assert_int_equal(closed, 1);
    assert_int_equal(closed_why, RM_CLOSE_FAILOVER);
    rm_pool_release(&used, 1);
    assert_int_equal(closed, 2);
    assert_int_equal(closed_why, RM_CLOSE_FAILOVER);
    rm_lease_fini(&idle);
    rm_lease_fini(&used);
    assert_int_equal(pick(false)->address.port, 2);
    assert_true(rm_route_epoch(route) > epoch);
    assert_false(rm_route_serves(route, &(rm_target){0}, old));
    assert_int_equal(rm_route_serves(route, &(rm_target){.read = true}, old), i == 1);
    assert_int_equal(atomic_load(&old->role), RM_ROLE_ANY);
    assert_int_equal(atomic_load(&pick(false)->role), RM_ROLE_PRIMARY);
    apply(1, 2, 3); /* and back: the same node serves again */
    assert_ptr_equal(pick(false), old);
    rm_route_free(route);
  }
}

static void only_those_that_serve_are_kept_ready(void **state) {
  (void)state;
  char read_from[] = "primary";
  make(read_from);
  apply(1, 2, 0);
  for (rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node))
    assert_int_equal(node->pool->min_idle, node->address.port == 1);
  apply(2, 1, 0);
  for (rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node))
    assert_int_equal(node->pool->min_idle, node->address.port == 2);
  rm_route_free(route);
}

static void the_same_news_again_changes_nothing(void **state) {
  (void)state;
  char read_from[] = "primary";
  make(read_from);
  apply(1, 2, 3);
  uint64_t epoch = rm_route_epoch(route);
  apply(1, 2, 3);
  assert_int_equal(rm_route_epoch(route), epoch);
  rm_route_free(route);
}

static bool refuse_nth(void *ctx, size_t size) {
  int *left = ctx;
  (void)size;
  return --*left == 0;
}

static void without_memory_nothing_has_changed(void **state) {
  (void)state;
  char read_from[] = "primary";
  make(read_from);
  apply(1, 0, 0);
  rm_announced primary = at(2), replica = at(3);
  int n = 1, status = REDMOON_ENOMEM;
  for (; status != 0 && n < 50; n++) {
    int left = n;
    rm_alloc_set_refuse(refuse_nth, &left);
    status = rm_sentinel_apply(route, &primary, &replica, 1, 1, NULL);
    rm_alloc_set_refuse(NULL, NULL);
    assert_true(status == 0 || status == REDMOON_ENOMEM);
    if (status != 0) assert_int_equal(pick(false)->address.port, 1);
  }
  assert_true(n > 5);
  assert_int_equal(pick(false)->address.port, 2);
  rm_route_free(route);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(until_a_primary_is_known_everybody_waits),
      cmocka_unit_test(whoever_waits_is_told_why_nothing_was_found),
      cmocka_unit_test(reads_go_where_read_from_says_and_writes_never),
      cmocka_unit_test(without_replicas_the_primary_is_read_from),
      cmocka_unit_test(a_switch_closes_what_went_to_the_old_primary),
      cmocka_unit_test(only_those_that_serve_are_kept_ready),
      cmocka_unit_test(the_same_news_again_changes_nothing),
      cmocka_unit_test(without_memory_nothing_has_changed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
