/* SPDX-License-Identifier: MIT */
/** The route of a primary that sentinels watch: what they said is put in here. */
#ifndef RM_ROUTE_SENTINEL_H
#define RM_ROUTE_SENTINEL_H

#include "route/route.h"
#include "route/shape.h"

/** Who is the primary now, and which replicas are in order; of those at most RM_SHAPE_REPLICAS are taken.  On a switch the
 *  old primary's idle connections are closed, and those that are in use when they come back.  0 or NOMEM, UNAVAILABLE,
 *  then nothing has changed. */
int rm_sentinel_apply(rm_route *route, const rm_announced *primary, const rm_announced *replicas, size_t replica_count,
                      int64_t now_us, redmoon_error *err);

#endif
