/* SPDX-License-Identifier: MIT */
/** Getting a connection: pool wait, then perhaps a dial, within the call's deadline. */
#ifndef RM_ENGINE_BORROW_H
#define RM_ENGINE_BORROW_H

#include "route/route.h"

typedef struct rm_core rm_core;

typedef struct rm_borrow {
  rm_lease lease;
  rm_target target;     /* which node is asked for */
  rm_node *pinned;      /* this one and no other; NULL: the route picks by the target */
  rm_node *node;        /* the one that was picked last */
  rm_route_wait wait;   /* for the nodes to become known */
  rm_connect *connect;  /* while dialling */
  uintptr_t owner;
  int64_t pool_left_us; /* of the call's pool_timeout, over all its attempts */
  int64_t pool_by_us;   /* while waiting: when that is used up */
  int64_t connect_by_us, dial_began_us;
} rm_borrow;

/** RM_DONE: borrow->lease.conn is ready; RM_WAIT: go on with rm_borrow_step at once.  An error's phase says what went
 *  on.  After RM_DONE the owner ends borrow->lease (release or discard). */
int rm_borrow_start(rm_borrow *borrow, rm_core *core, uintptr_t owner, int64_t now_us, int64_t deadline_us,
                    redmoon_error *err);
int rm_borrow_step(rm_borrow *borrow, rm_core *core, int64_t now_us, int64_t deadline_us, rm_wants *wants,
                   redmoon_error *err);
/** Gives up whatever state it is in. */
void rm_borrow_cancel(rm_borrow *borrow, rm_core *core, int64_t now_us);

#endif
