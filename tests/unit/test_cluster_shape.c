/* SPDX-License-Identifier: MIT */
/* What a cluster says of itself, read, and the route that is made of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "route/cluster.h"

#include <string.h>

static char seed_host[] = "seed.example";
static rm_address seed = {.host = seed_host, .port = 7000};

/* Replies, built by hand. */

static redmoon_reply text(const char *value) {
  redmoon_reply reply = {.type = REDMOON_STRING, .len = strlen(value)};
  reply.as.text = (char *)(uintptr_t)value;
  return reply;
}

static redmoon_reply integer(int64_t value) {
  redmoon_reply reply = {.type = REDMOON_INTEGER};
  reply.as.integer = value;
  return reply;
}

static redmoon_reply array(redmoon_reply *items, size_t len) {
  redmoon_reply reply = {.type = REDMOON_ARRAY, .len = len};
  reply.as.items = items;
  return reply;
}

typedef struct range {
  redmoon_reply items[4], primary[3], replica[3];
} range;

static redmoon_reply range_of(range *r, int64_t first, int64_t last, redmoon_reply host, int64_t port, const char *replica) {
  r->primary[0] = host;
  r->primary[1] = integer(port);
  r->primary[2] = text("id");
  r->items[0] = integer(first);
  r->items[1] = integer(last);
  r->items[2] = array(r->primary, 3);
  if (replica == NULL) return array(r->items, 3);
  r->replica[0] = text(replica);
  r->replica[1] = integer(port + 10);
  r->replica[2] = text("id");
  r->items[3] = array(r->replica, 3);
  return array(r->items, 4);
}

static void ranges_and_servers_are_read(void **state) {
  (void)state;
  range r[3];
  redmoon_reply ranges[3] = {range_of(&r[0], 0, 99, text("10.0.0.1"), 7001, "10.0.0.2"), range_of(&r[1], 100, 200, text("node-b.internal"), 7002, NULL),
                             range_of(&r[2], 300, 16383, text("10.0.0.1"), 7001, "10.0.0.2")};
  redmoon_reply reply = array(ranges, 3);
  rm_shape shape;
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, NULL), 0);
  assert_int_equal(shape.shard_count, 2);
  assert_int_equal(shape.range_count, 3);
  assert_string_equal(shape.shards[0].primary.host, "10.0.0.1");
  assert_int_equal(shape.shards[0].replica_count, 1);
  assert_int_equal(shape.shards[0].replicas[0].port, 7011);
  assert_int_equal(shape.ranges[2].shard, 0);
  rm_shape_fini(&shape);
}

static void a_server_without_a_name_is_the_one_that_was_asked(void **state) {
  (void)state;
  range r[2];
  redmoon_reply nil = {.type = REDMOON_NIL};
  redmoon_reply ranges[2] = {range_of(&r[0], 0, 5, text(""), 7005, NULL), range_of(&r[1], 6, 9, nil, 7006, NULL)};
  redmoon_reply reply = array(ranges, 2);
  rm_shape shape;
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, NULL), 0);
  assert_string_equal(shape.shards[0].primary.host, "seed.example");
  assert_string_equal(shape.shards[1].primary.host, "seed.example");
  assert_int_equal(shape.shards[1].primary.port, 7006);
  rm_shape_fini(&shape);
}

static void an_address_that_cannot_be_dialled_is_left_out(void **state) {
  (void)state;
  range r[4];
  redmoon_reply ranges[4] = {range_of(&r[0], 0, 1, text("10.0.0.1"), 0, NULL), range_of(&r[1], 2, 3, text("?"), 7000, NULL),
                             range_of(&r[2], 4, 5, text("evil host\r\n"), 7000, NULL), range_of(&r[3], 6, 7, text("good"), 7000, "bad/host")};
  redmoon_reply reply = array(ranges, 4);
  rm_shape shape;
  redmoon_error err;
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), 0);
  assert_int_equal(shape.range_count, 1);
  assert_string_equal(shape.shards[0].primary.host, "good");
  assert_int_equal(shape.shards[0].replica_count, 0);
  rm_shape_fini(&shape);
  reply.len = 3;
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "no server of the cluster announced an address"));
}

static void nonsense_is_refused(void **state) {
  (void)state;
  range r;
  redmoon_error err;
  rm_shape shape;
  redmoon_reply entry = range_of(&r, 5, 4, text("a"), 1, NULL), reply = array(&entry, 1);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EPROTOCOL);
  entry = range_of(&r, 0, 16384, text("a"), 1, NULL);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EPROTOCOL);
  entry = range_of(&r, -1, 4, text("a"), 1, NULL);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EPROTOCOL);
  entry = integer(1);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EPROTOCOL);
  reply = integer(1);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EPROTOCOL);
  reply = array(NULL, 0);
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, &err), REDMOON_EUNAVAILABLE);
  redmoon_reply error = text("ERR This instance has cluster support disabled");
  error.type = REDMOON_ERROR;
  assert_int_equal(rm_shape_read(&shape, &error, &seed, &err), REDMOON_ESERVER);
}

static void addresses_of_redirects_are_read(void **state) {
  (void)state;
  rm_announced a;
  assert_true(rm_announced_parse(&a, "10.0.0.7:6381", 13, &seed));
  assert_string_equal(a.host, "10.0.0.7");
  assert_int_equal(a.port, 6381);
  assert_true(rm_announced_parse(&a, ":6381", 5, &seed));
  assert_string_equal(a.host, "seed.example");
  assert_true(rm_announced_parse(&a, "2001:db8::1:6381", 16, &seed));
  assert_string_equal(a.host, "2001:db8::1");
  assert_true(rm_announced_parse(&a, "[::1]:6381", 10, &seed));
  assert_string_equal(a.host, "::1");
  static const char *const bad[] = {"", "host", "host:", "host:0", "host:65536", "host:123456", "host:1x", "ho st:1", "a\nb:1"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(rm_announced_parse(&a, bad[i], strlen(bad[i]), &seed));
  char longest[RM_HOST_MAX + 3];
  memset(longest, 'a', sizeof longest);
  memcpy(longest + RM_HOST_MAX, ":1", 2);
  assert_true(rm_announced_parse(&a, longest, RM_HOST_MAX + 2, &seed));
  memset(longest, 'a', sizeof longest);
  memcpy(longest + RM_HOST_MAX + 1, ":1", 2);
  assert_false(rm_announced_parse(&a, longest, RM_HOST_MAX + 3, &seed));
}

/* The route. */

static int wanted;
static void want(void *ctx) {
  (void)ctx;
  wanted++;
}

static rm_route *new_route(const char *read_from) {
  static char url[] = "redis+cluster://seed.example:7000";
  static rm_config config;
  static rm_dialer dialer;
  config = (rm_config){.topology = RM_CLUSTER, .addresses = &seed, .address_count = 1, .url = url, .pool_size = 4, .max_idle = 4};
  config.read_from = (char *)(uintptr_t)read_from;
  const rm_route_hooks hooks = {.discover = want};
  rm_route *route;
  assert_int_equal(rm_route_new(&config, &dialer, &hooks, &route, NULL), 0);
  return route;
}

static void apply(rm_route *route, const char *second) {
  range r[2];
  redmoon_reply ranges[2] = {range_of(&r[0], 0, 99, text("a"), 1, "b"), range_of(&r[1], 100, 16383, text(second), 2, NULL)};
  redmoon_reply reply = array(ranges, 2);
  rm_shape shape;
  assert_int_equal(rm_shape_read(&shape, &reply, &seed, NULL), 0);
  assert_int_equal(rm_cluster_apply(route, &shape, 1, NULL), 0);
  rm_shape_fini(&shape);
}

static rm_node *pick(rm_route *route, uint16_t slot, bool read) {
  rm_route_wait wait = {0};
  rm_node *node = NULL;
  const rm_target target = {.keyed = true, .slot = slot, .read = read};
  assert_int_equal(rm_route_pick(route, &target, &wait, &node, NULL), RM_DONE);
  return node;
}

static void slots_go_to_their_primaries(void **state) {
  (void)state;
  rm_route *route = new_route("primary");
  apply(route, "c");
  assert_string_equal(pick(route, 0, true)->name, "a:1");
  assert_string_equal(pick(route, 99, false)->name, "a:1");
  assert_string_equal(pick(route, 100, false)->name, "c:2");
  rm_node *nodes[4];
  assert_int_equal(rm_route_serving(route, false, nodes, 4), 2);
  assert_int_equal(rm_route_serving(route, true, nodes, 4), 3);
  rm_route_free(route);
}

static void reads_go_where_read_from_says(void **state) {
  (void)state;
  rm_route *route = new_route("replica");
  apply(route, "c");
  for (int i = 0; i < 20; i++) assert_string_equal(pick(route, 0, true)->name, "b:11");
  assert_string_equal(pick(route, 0, false)->name, "a:1");
  assert_string_equal(pick(route, 100, true)->name, "c:2"); /* has no replica */
  rm_route_free(route);
  route = new_route("nearest");
  apply(route, "c");
  atomic_store(&pick(route, 0, false)->latency_us, 50);
  rm_node *nodes[4];
  assert_int_equal(rm_route_serving(route, true, nodes, 4), 3);
  for (int i = 0; i < 3; i++)
    if (strcmp(nodes[i]->name, "b:11") == 0) atomic_store(&nodes[i]->latency_us, 40);
  assert_string_equal(pick(route, 0, true)->name, "b:11");
  rm_route_free(route);
}

static void whoever_waits_is_told(void **state) {
  (void)state;
  rm_route *route = new_route("primary");
  rm_route_wait wait = {0}, other = {0}, third = {0};
  rm_node *node;
  redmoon_error err, why = {.status = REDMOON_ECONNECT, .message = "nobody answered"};
  wanted = 0;
  const rm_target any = {0};
  assert_int_equal(rm_route_pick(route, &any, &wait, &node, &err), RM_WAIT);
  assert_int_equal(rm_route_pick(route, &any, &other, &node, &err), RM_WAIT);
  assert_int_equal(rm_route_pick(route, &any, &third, &node, &err), RM_WAIT);
  assert_int_equal(wanted, 3);
  assert_int_equal(rm_route_pick(route, &any, &wait, &node, &err), RM_WAIT); /* a spurious wake-up */
  rm_route_unwait(route, &third);
  rm_route_failed(route, &why);
  assert_int_equal(rm_route_pick(route, &any, &wait, &node, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "nobody answered");
  assert_false(wait.waits);
  apply(route, "c");
  assert_int_equal(rm_route_pick(route, &any, &other, &node, &err), RM_DONE);
  assert_false(other.waits);
  rm_route_free(route);
}

static void a_slot_that_moved_is_asked_of_its_new_server(void **state) {
  (void)state;
  rm_route *route = new_route("primary");
  apply(route, "c");
  rm_announced server = {"d", 4};
  rm_node *moved = rm_cluster_moved(route, 7, &server, NULL);
  assert_string_equal(moved->name, "d:4");
  assert_ptr_equal(pick(route, 7, false), moved);
  assert_string_equal(pick(route, 8, false)->name, "a:1");
  rm_announced known = {"c", 2};
  assert_ptr_equal(rm_cluster_moved(route, 8, &known, NULL), pick(route, 100, false));
  assert_ptr_equal(rm_cluster_node(route, &server, NULL), moved);
  apply(route, "c"); /* the whole picture counts for more */
  assert_string_equal(pick(route, 7, false)->name, "a:1");
  rm_route_free(route);
}

static void a_node_that_comes_back_is_the_same(void **state) {
  (void)state;
  rm_route *route = new_route("primary");
  apply(route, "c");
  rm_node *c = pick(route, 200, false);
  apply(route, "e");
  assert_ptr_not_equal(pick(route, 200, false), c);
  apply(route, "c");
  assert_ptr_equal(pick(route, 200, false), c);
  rm_route_free(route);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranges_and_servers_are_read),
      cmocka_unit_test(a_server_without_a_name_is_the_one_that_was_asked),
      cmocka_unit_test(an_address_that_cannot_be_dialled_is_left_out),
      cmocka_unit_test(nonsense_is_refused),
      cmocka_unit_test(addresses_of_redirects_are_read),
      cmocka_unit_test(slots_go_to_their_primaries),
      cmocka_unit_test(reads_go_where_read_from_says),
      cmocka_unit_test(whoever_waits_is_told),
      cmocka_unit_test(a_slot_that_moved_is_asked_of_its_new_server),
      cmocka_unit_test(a_node_that_comes_back_is_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
