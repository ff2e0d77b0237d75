/* SPDX-License-Identifier: MIT */
/** Which node a request goes to.  Standalone: always the one. */
#ifndef RM_ROUTE_ROUTE_H
#define RM_ROUTE_ROUTE_H

#include "pool/pool.h"
#include "wire/connect.h"

/** A server and its pool. */
typedef struct rm_node {
  char name[128]; /* "host:port" or the path, shortened to fit */
  const rm_address *address;
  rm_pool *pool;
} rm_node;

typedef struct rm_route rm_route; /* internally locked */

/** `config` is borrowed and must outlive the route.  CONFIG for what this version does not route: sentinel, cluster, and
 *  read_from other than "primary". */
int rm_route_new(const rm_config *config, const rm_pool_hooks *hooks, rm_route **out, redmoon_error *err);
void rm_route_free(rm_route *route); /* no lease may be left; NULL is allowed */
/** The node for a request on `key` (NULL: any). */
rm_node *rm_route_pick(rm_route *route, const void *key, size_t key_len);
/** All nodes, for upkeep, statistics, shutdown. */
rm_node *rm_route_nodes(rm_route *route, size_t *count);

#endif
