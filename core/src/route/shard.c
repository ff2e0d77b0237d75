/* SPDX-License-Identifier: MIT */
/* The choice among a primary and its replicas. */
#include "route/shard.h"

#include "base/random.h"

static rm_node *nearest(const rm_shard *shard) {
  rm_node *best = shard->primary;
  for (size_t i = 0; i < shard->replica_count; i++)
    if (atomic_load_explicit(&shard->replicas[i]->latency_us, memory_order_relaxed) <
        atomic_load_explicit(&best->latency_us, memory_order_relaxed))
      best = shard->replicas[i];
  return best;
}

rm_node *rm_shard_choose(const rm_route *route, const rm_shard *shard, bool read) {
  if (!read || route->read_from == RM_READ_PRIMARY || shard->replica_count == 0) return shard->primary;
  if (route->read_from == RM_READ_NEAREST) return nearest(shard);
  size_t choices = shard->replica_count + (route->read_from == RM_READ_ANY);
  size_t i = (size_t)rm_random_upto((int64_t)choices - 1);
  return i < shard->replica_count ? shard->replicas[i] : shard->primary;
}

bool rm_shard_may_choose(const rm_route *route, const rm_shard *shard, const rm_node *node, bool read) {
  if (shard->primary == node) return true;
  if (!read || route->read_from == RM_READ_PRIMARY) return false;
  for (size_t i = 0; i < shard->replica_count; i++)
    if (shard->replicas[i] == node) return true;
  return false;
}
