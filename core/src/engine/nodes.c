/* SPDX-License-Identifier: MIT */
/* What is told of the nodes one by one. */
#include "base/alloc.h"
#include "engine/core.h"

enum { SERVING_MAX = 4096 };

static bool is_among(rm_node *const *nodes, size_t count, const rm_node *node) {
  for (size_t i = 0; i < count; i++)
    if (nodes[i] == node) return true;
  return false;
}

/* Those that serve, primaries alone or with their replicas; NULL without memory. */
static rm_node **serving(rm_route *route, bool replicas, size_t *count) {
  rm_node **nodes = rm_alloc(SERVING_MAX * sizeof(rm_node *));
  *count = nodes != NULL ? rm_route_serving(route, replicas, nodes, SERVING_MAX) : 0;
  if (*count > SERVING_MAX) *count = SERVING_MAX;
  return nodes;
}

size_t redmoon_client_nodes(const redmoon_client *client, redmoon_node *out, size_t max) {
  rm_core_check_fork(client->core);
  rm_route *route = client->core->route;
  size_t primaries, all, count = 0;
  rm_node **leaders = serving(route, false, &primaries), **members = serving(route, true, &all);
  for (const rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node), count++) {
    if (count >= max) continue;
    out[count] = (redmoon_node){.address = node->name, .role = REDMOON_NODE_LEFT};
    if (is_among(members, all, node)) out[count].role = REDMOON_NODE_REPLICA;
    if (is_among(leaders, primaries, node)) out[count].role = REDMOON_NODE_PRIMARY;
    out[count].latency_us = atomic_load(&node->latency_us);
    rm_pool_stats(node->pool, &out[count].stats);
  }
  rm_free(leaders);
  rm_free(members);
  return count;
}
