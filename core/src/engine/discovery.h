/* SPDX-License-Identifier: MIT */
/** Finding out what the nodes are: driven by the keeper, once at a time however many ask for it.
 *
 *      rm_discovery_want() --> not sooner than the last one allows --> ask --> tell the route --> periodically again
 *                                        news that are heard meanwhile --^         those who stay connected are kicked
 *
 *  Each kind of topology is a class; what they ask is in discover_*.c. */
#ifndef RM_ENGINE_DISCOVERY_H
#define RM_ENGINE_DISCOVERY_H

#include "engine/driven.h"

typedef struct rm_discovery rm_discovery; /* internally locked */

/** For the topology of the client's route; *out is NULL for one that needs none.  0, NOMEM, or what TLS settings of its own
 *  are refused for. */
int rm_discovery_new(rm_core *core, rm_discovery **out, redmoon_error *err);
/** After the keeper has ended.  NULL is allowed. */
void rm_discovery_free(rm_discovery *discovery);
/** The nodes are to be found out, or again: from any thread, without a lock held.  Where no thread can be had, those who
 *  wait are told. */
void rm_discovery_want(rm_discovery *discovery);
/** In a forked child, after the keeper has been made anew. */
void rm_discovery_forked(rm_discovery *discovery);

#endif
