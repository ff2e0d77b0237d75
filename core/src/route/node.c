/* SPDX-License-Identifier: MIT */
/* Nodes: a server's address, how to dial it, and its pool. */
#include "base/alloc.h"
#include "base/error.h"
#include "route/route_internal.h"

#include <limits.h>
#include <string.h>

enum { PROBE_EVERY_US = 1000000 };

static int count_of(int64_t value) { return value < 0 ? 0 : value > INT_MAX ? INT_MAX : (int)value; }

static int64_t us_of(int64_t ms) { return ms < 0 ? 0 : ms > INT64_MAX / 1000 ? INT64_MAX : ms * 1000; }

static int new_pool(const rm_route *route, rm_node *node, redmoon_error *err) {
  const rm_config *config = route->config;
  /* A standalone server is known by the URL, which says more. */
  const char *name = config->topology == RM_STANDALONE ? config->url : node->name;
  const rm_pool_config limits = {.size = count_of(config->pool_size),
                                 .min_idle = config->topology == RM_STANDALONE ? count_of(config->min_idle) : 0, /* until it serves */
                                 .max_idle = count_of(config->max_idle),
                                 .max_idle_time_us = us_of(config->max_idle_time_ms),
                                 .max_lifetime_us = us_of(config->max_lifetime_ms),
                                 .min_backoff_us = us_of(config->min_backoff_ms),
                                 .max_backoff_us = us_of(config->max_backoff_ms),
                                 .probe_every_us = PROBE_EVERY_US,
                                 .name = name};
  return rm_pool_new(&limits, &route->hooks.pool, &node->pool, err);
}

void rm_node_keep(const rm_route *route, rm_node *node, bool serves, int64_t now_us) {
  rm_pool_keep(node->pool, serves ? count_of(route->config->min_idle) : 0, PROBE_EVERY_US, now_us);
}

int rm_node_connect(const rm_node *node, int64_t now_us, int64_t deadline_us, rm_connect **out, redmoon_error *err) {
  rm_dialer dialer = *node->dialer;
  dialer.role = (rm_role)atomic_load_explicit(&node->role, memory_order_relaxed);
  return rm_connect_start(&dialer, &node->address, now_us, deadline_us, out, err);
}

void rm_node_free(rm_node *node) {
  if (node == NULL) return;
  rm_pool_free(node->pool);
  rm_free(node->address.host);
  rm_free(node->address.path);
  rm_free(node);
}

rm_node *rm_node_new(const rm_route *route, const rm_address *address, const rm_dialer *dialer, redmoon_error *err) {
  rm_node *node = rm_calloc(1, sizeof *node);
  if (node == NULL) {
    rm_fail_nomem(err);
    return NULL;
  }
  node->dialer = dialer;
  node->address.port = address->port;
  rm_address_name(node->name, sizeof node->name, address);
  if (address->host != NULL) node->address.host = rm_strdup(address->host);
  if (address->path != NULL) node->address.path = rm_strdup(address->path);
  bool whole = (node->address.host == NULL) == (address->host == NULL) && (node->address.path == NULL) == (address->path == NULL);
  if (!whole) rm_fail_nomem(err);
  if (whole && new_pool(route, node, err) == 0) return node;
  rm_node_free(node);
  return NULL;
}

void rm_route_add(rm_route *route, rm_node *node) {
  /* At the end, so that the order is that in which they were met. */
  rm_node *_Atomic *at = &route->nodes;
  for (rm_node *other; (other = atomic_load_explicit(at, memory_order_relaxed)) != NULL;) at = &other->next;
  atomic_store_explicit(at, node, memory_order_release);
  route->node_count++;
}

static bool is_same(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

rm_node *rm_route_find(const rm_route *route, const rm_address *address) {
  for (rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node))
    if (node->address.port == address->port && is_same(node->address.host, address->host) &&
        is_same(node->address.path, address->path))
      return node;
  return NULL;
}

rm_node *rm_route_first(const rm_route *route) { return atomic_load_explicit(&route->nodes, memory_order_acquire); }
