/* SPDX-License-Identifier: MIT */
/** A primary with its replicas, and which of them a request goes to: what sentinel and cluster have in common. */
#ifndef RM_ROUTE_SHARD_H
#define RM_ROUTE_SHARD_H

#include "route/route_internal.h"
#include "route/shape.h"

typedef struct rm_shard {
  rm_node *primary;
  rm_node *replicas[RM_SHAPE_REPLICAS];
  size_t replica_count;
} rm_shard;

/** By option read_from where the request only reads, else the primary. */
rm_node *rm_shard_choose(const rm_route *route, const rm_shard *shard, bool read);
/** Whether rm_shard_choose might choose `node`. */
bool rm_shard_may_choose(const rm_route *route, const rm_shard *shard, const rm_node *node, bool read);

#endif
