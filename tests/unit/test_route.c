/* SPDX-License-Identifier: MIT */
/* The standalone route: what it refuses, and that the pool gets the options. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "pool/pool_internal.h"
#include "route/route.h"

#include <string.h>

static char host[] = "localhost", url[] = "redis://localhost:6379/0", primary[] = "primary", replica[] = "replica";
static rm_address address = {.host = host, .port = 6379};

static rm_config standalone(void) {
  return (rm_config){.topology = RM_STANDALONE,
                     .addresses = &address,
                     .address_count = 1,
                     .url = url,
                     .read_from = primary,
                     .pool_size = 20,
                     .min_idle = 2,
                     .max_idle = 15,
                     .max_idle_time_ms = 300000,
                     .max_lifetime_ms = 3600000,
                     .min_backoff_ms = 8,
                     .max_backoff_ms = 512};
}

static const rm_route_hooks no_hooks;
static const rm_dialer dialer;

static rm_node *pick(rm_route *route, const rm_target *target) {
  rm_route_wait wait = {0};
  rm_node *node = NULL;
  assert_int_equal(rm_route_pick(route, target, &wait, &node, NULL), RM_DONE);
  return node;
}

static void assert_refused(const rm_config *config, const char *part) {
  redmoon_error err;
  rm_route *route;
  assert_int_equal(rm_route_new(config, &dialer, &no_hooks, &route, &err), REDMOON_ECONFIG);
  assert_null(route);
  assert_non_null(strstr(err.message, part));
}

static void every_request_goes_to_the_one_node(void **state) {
  (void)state;
  rm_config config = standalone();
  rm_route *route;
  assert_int_equal(rm_route_new(&config, &dialer, &no_hooks, &route, NULL), 0);
  rm_node *node = pick(route, &(rm_target){0}), *primaries[2] = {NULL};
  assert_ptr_equal(pick(route, &(rm_target){.keyed = true, .slot = 12}), node);
  assert_ptr_equal(rm_route_first(route), node);
  assert_null(rm_node_next(node));
  assert_int_equal(rm_route_serving(route, true, primaries, 2), 1);
  assert_ptr_equal(primaries[0], node);
  assert_string_equal(node->address.host, host);
  assert_int_equal(node->address.port, 6379);
  rm_route_free(route);
}

static void the_pool_gets_its_limits_from_the_options(void **state) {
  (void)state;
  rm_config config = standalone();
  rm_route *route;
  assert_int_equal(rm_route_new(&config, &dialer, &no_hooks, &route, NULL), 0);
  const rm_pool *pool = pick(route, &(rm_target){0})->pool;
  assert_int_equal(pool->size, 20);
  assert_int_equal(pool->min_idle, 2);
  assert_int_equal(pool->max_idle, 15);
  assert_int_equal(pool->max_idle_time_us, INT64_C(300000000));
  assert_int_equal(pool->max_lifetime_us, INT64_C(3600000000));
  assert_int_equal(pool->backoff.min_us, 8000);
  assert_int_equal(pool->backoff.max_us, 512000);
  assert_string_equal(pool->name, url);
  rm_route_free(route);
}

static void what_contradicts_itself_is_refused(void **state) {
  (void)state;
  rm_config config = standalone();
  config.read_from = replica;
  assert_refused(&config, "read_from \"replica\" needs to know the replicas");
  config = standalone();
  config.pool_size = 0;
  assert_refused(&config, "pool_size is 0");
}

static void a_config_without_read_from_means_primary(void **state) {
  (void)state;
  rm_config config = standalone();
  rm_route *route;
  config.read_from = NULL;
  assert_int_equal(rm_route_new(&config, &dialer, &no_hooks, &route, NULL), 0);
  rm_route_free(route);
  rm_route_free(NULL);
}

static bool refuse_nth(void *ctx, size_t size) {
  int *left = ctx;
  (void)size;
  return --*left == 0;
}

static void without_memory_there_is_no_route_and_no_leak(void **state) {
  (void)state;
  rm_config config = standalone();
  for (int n = 1; n <= 5; n++) {
    int left = n;
    rm_route *route;
    rm_alloc_set_refuse(refuse_nth, &left);
    int status = rm_route_new(&config, &dialer, &no_hooks, &route, NULL);
    rm_alloc_set_refuse(NULL, NULL);
    assert_int_equal(status, REDMOON_ENOMEM);
    assert_null(route);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_request_goes_to_the_one_node),
      cmocka_unit_test(the_pool_gets_its_limits_from_the_options),
      cmocka_unit_test(what_contradicts_itself_is_refused),
      cmocka_unit_test(a_config_without_read_from_means_primary),
      cmocka_unit_test(without_memory_there_is_no_route_and_no_leak),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
