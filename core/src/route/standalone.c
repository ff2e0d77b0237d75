/* SPDX-License-Identifier: MIT */
/* The standalone route: one node, one pool, nothing to choose. */
#include "base/alloc.h"
#include "base/error.h"
#include "route/route_internal.h"

#include <string.h>

static rm_node *pick(rm_route *route, const rm_target *target) {
  (void)target;
  return route->only;
}

static bool serves(rm_route *route, const rm_target *target, const rm_node *node) {
  (void)target;
  return node == route->only;
}

static size_t serving(rm_route *route, bool replicas, rm_node **out, size_t max) {
  (void)replicas;
  if (max > 0) out[0] = route->only;
  return 1;
}

static void free_route(rm_route *route) {
  rm_route_fini(route);
  rm_free(route);
}

static const rm_route_class standalone_class = {pick, serves, serving, free_route};

static int check(const rm_config *config, redmoon_error *err) {
  if (config->read_from != NULL && strcmp(config->read_from, "primary") != 0)
    return rm_fail(err, REDMOON_ECONFIG,
                   "read_from \"%s\" needs to know the replicas, which redis+sentinel:// and redis+cluster:// do; with one "
                   "server only \"primary\" is accepted",
                   config->read_from);
  if (config->address_count != 1)
    return rm_fail(err, REDMOON_ECONFIG, "a standalone server has one address, not %zu", config->address_count);
  return 0;
}

int rm_standalone_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                      redmoon_error *err) {
  int status = check(config, err);
  if (status != 0) return status;
  rm_route *route = rm_calloc(1, sizeof *route);
  if (route == NULL) return rm_fail_nomem(err);
  status = rm_route_init(route, &standalone_class, config, dialer, hooks, err);
  if (status != 0) {
    rm_free(route);
    return status;
  }
  redmoon_error why = {0}; /* whose status is needed whether or not the caller wants it */
  rm_node *node = rm_node_new(route, &config->addresses[0], dialer, &why);
  if (node == NULL) {
    if (err != NULL) *err = why;
    free_route(route);
    return why.status;
  }
  rm_route_add(route, node);
  route->only = node;
  *out = route;
  return 0;
}
