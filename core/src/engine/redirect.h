/* SPDX-License-Identifier: MIT */
/** What a node of a cluster says instead of an answer, when the slot is another one's.
 *
 *      MOVED <slot> <host>:<port>   that one serves it from now on
 *      ASK <slot> <host>:<port>     that one has the key already; the next command only, after ASKING */
#ifndef RM_ENGINE_REDIRECT_H
#define RM_ENGINE_REDIRECT_H

#include "engine/call.h"

enum { RM_NOT_REDIRECTED, RM_MOVED, RM_ASK };
enum {
  RM_HOPS_MAX = 16, /* of one command: a cluster that sends it on for longer does not know what it wants */
  RM_HOPS_AT_ONCE = 3 /* so many without a pause */
};

/** RM_MOVED, RM_ASK, or RM_NOT_REDIRECTED. */
int rm_redirect_kind(const redmoon_reply *reply);
/** Notes what was moved, and wants the cluster looked at again.  As rm_redirect_follow. */
rm_node *rm_redirect_note(rm_core *core, const redmoon_reply *reply, const rm_node *from, redmoon_error *err);
/** Follows it: notes what was moved, wants the cluster looked at again, emits the event.  The node to ask, or NULL with
 *  `err` when the address cannot be used. */
rm_node *rm_redirect_follow(rm_call *call, const redmoon_reply *reply, const rm_node *from, redmoon_error *err);
/** UNAVAILABLE: too many hops. */
int rm_redirect_fail(const redmoon_reply *reply, redmoon_error *err);

#endif
