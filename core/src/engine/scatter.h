/* SPDX-License-Identifier: MIT */
/** A call whose commands go to several nodes of a cluster: sent to all of them at once, answered in the caller's order.
 *
 *      parts --> a child call for each node --> all ended --> taken --> none is left: merged, done
 *        ^                                                     |
 *        +------ moved, asked elsewhere, refused for now ------+
 *                not sent, or harmless to repeat
 *
 *  Commands of one slot stay in their order: they go to one node by one connection, and one that was refused for now is not
 *  sent again behind one that was executed. */
#ifndef RM_ENGINE_SCATTER_H
#define RM_ENGINE_SCATTER_H

#include "engine/call.h"

enum { RM_ALL_NONE, RM_ALL_PRIMARIES, RM_ALL_NODES };

/** What goes to one node of a command: all of it, or some of its keys. */
typedef struct rm_part {
  uint32_t mark;        /* the command */
  uint32_t first, step; /* of a split one: where its keys begin, and one every so many arguments */
  const uint32_t *keys; /* indexes of its keys among the arguments; NULL: the whole command */
  uint32_t key_count;
  const redmoon_bytes *args; /* of a split one: all its arguments, in the call's arena */
  size_t argc;
  rm_target target;
  rm_node *node;        /* this one and no other; NULL: by the target */
  uint8_t merge;        /* RM_MERGE_* */
  uint8_t all;          /* RM_ALL_*: stands for a part for each of those nodes, until they are known */
  uint8_t state, hops;
  bool asking;
  redmoon_outcome outcome;
  redmoon_reply *reply; /* in the call's arena once taken */
  struct rm_child *child; /* of the round under way */
  uint32_t at;          /* its command in the child */
} rm_part;

typedef struct rm_scatter rm_scatter;

/** Adds a part to the scatter of a call, making it if there is none.  0 or NOMEM. */
int rm_scatter_add(rm_call *call, const rm_part *part);
/** RM_DONE: every command was answered, call->results are filled in; RM_WAIT with op.wants; or negative with op.error, and
 *  the results say what is known of each. */
int rm_scatter_step(rm_call *call, int64_t now_us);
/** Gives up what is under way; the results say what is known of each command. */
void rm_scatter_give_up(rm_call *call);
void rm_scatter_free(rm_call *call);

#endif
