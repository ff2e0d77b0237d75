/* SPDX-License-Identifier: MIT */
/** The route of a cluster: what was found out about it is put in here. */
#ifndef RM_ROUTE_CLUSTER_H
#define RM_ROUTE_CLUSTER_H

#include "route/route.h"
#include "route/shape.h"

/** What the cluster looks like now.  Nodes that serve nothing any more close their idle connections.  0 or NOMEM, then
 *  nothing has changed. */
int rm_cluster_apply(rm_route *route, const rm_shape *shape, int64_t now_us, redmoon_error *err);
/** A server said that `slot` is served by another one: it is asked from now on.  Its node, or NULL with `err`. */
rm_node *rm_cluster_moved(rm_route *route, uint16_t slot, const rm_announced *server, redmoon_error *err);
/** The node of a server that was announced; added if it is not known. */
rm_node *rm_cluster_node(rm_route *route, const rm_announced *server, redmoon_error *err);

#endif
