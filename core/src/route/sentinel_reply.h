/* SPDX-License-Identifier: MIT */
/** What a sentinel answers, read.  All of it is data of a stranger: what cannot be used is left out or refused. */
#ifndef RM_ROUTE_SENTINEL_REPLY_H
#define RM_ROUTE_SENTINEL_REPLY_H

#include "route/shape.h"

/** SENTINEL GET-MASTER-ADDR-BY-NAME.  0; UNAVAILABLE where the sentinel at `asked` watches no primary of that name;
 *  PROTOCOL; the server's own error. */
int rm_sentinel_read_address(rm_announced *out, const redmoon_reply *reply, const char *asked, const char *name, redmoon_error *err);
/** The configuration epoch in the answer of SENTINEL MASTER, which rises with each fail-over; -1: it is not told. */
int64_t rm_sentinel_read_epoch(const redmoon_reply *reply);
/** Calls `take` for each server in the answer of SENTINEL REPLICAS or SENTINEL SENTINELS; with `healthy` only for those
 *  that the sentinel does not hold to be down and whose link to the primary is in order. */
void rm_sentinel_read_servers(const redmoon_reply *reply, bool healthy, void (*take)(void *ctx, const rm_announced *server), void *ctx);
/** Whether a message of a sentinel's channel (its payload) speaks of the primary of that name. */
bool rm_sentinel_concerns(const char *payload, size_t len, const char *name);

#endif
