/* SPDX-License-Identifier: MIT */
/* The standalone route: one node, one pool, nothing to choose. */
#include "route/route.h"

#include "base/alloc.h"
#include "base/error.h"

#include <limits.h>
#include <string.h>

enum { PROBE_EVERY_US = 1000000 };

struct rm_route {
  rm_node node;
};

static int check(const rm_config *config, redmoon_error *err) {
  if (config->topology == RM_SENTINEL)
    return rm_fail(err, REDMOON_ECONFIG,
                   "redis+sentinel:// is not supported by this version; redis://, rediss:// and "
                   "unix:// are");
  if (config->topology != RM_STANDALONE)
    return rm_fail(err, REDMOON_ECONFIG,
                   "redis+cluster:// is not supported by this version; redis://, rediss:// and "
                   "unix:// are");
  if (config->read_from != NULL && strcmp(config->read_from, "primary") != 0)
    return rm_fail(err, REDMOON_ECONFIG, "read_from \"%s\" is not supported by this version; \"primary\" is",
                   config->read_from);
  if (config->address_count != 1)
    return rm_fail(err, REDMOON_ECONFIG, "a standalone server has one address, not %zu", config->address_count);
  return 0;
}

static int count_of(int64_t value) { return value < 0 ? 0 : value > INT_MAX ? INT_MAX : (int)value; }

static int64_t us_of(int64_t ms) { return ms < 0 ? 0 : ms > INT64_MAX / 1000 ? INT64_MAX : ms * 1000; }

int rm_route_new(const rm_config *config, const rm_pool_hooks *hooks, rm_route **out, redmoon_error *err) {
  *out = NULL;
  int status = check(config, err);
  if (status != 0) return status;
  rm_route *route = rm_calloc(1, sizeof *route);
  if (route == NULL) return rm_fail_nomem(err);
  const rm_pool_config limits = {.size = count_of(config->pool_size),
                                 .min_idle = count_of(config->min_idle),
                                 .max_idle = count_of(config->max_idle),
                                 .max_idle_time_us = us_of(config->max_idle_time_ms),
                                 .max_lifetime_us = us_of(config->max_lifetime_ms),
                                 .min_backoff_us = us_of(config->min_backoff_ms),
                                 .max_backoff_us = us_of(config->max_backoff_ms),
                                 .probe_every_us = PROBE_EVERY_US,
                                 .name = config->url};
  status = rm_pool_new(&limits, hooks, &route->node.pool, err);
  if (status != 0) {
    rm_free(route);
    return status;
  }
  route->node.address = &config->addresses[0];
  rm_address_name(route->node.name, sizeof route->node.name, route->node.address);
  *out = route;
  return 0;
}

void rm_route_free(rm_route *route) {
  if (route == NULL) return;
  rm_pool_free(route->node.pool);
  rm_free(route);
}

rm_node *rm_route_pick(rm_route *route, const void *key, size_t key_len) {
  (void)key;
  (void)key_len;
  return &route->node;
}

rm_node *rm_route_nodes(rm_route *route, size_t *count) {
  *count = 1;
  return &route->node;
}
