/* SPDX-License-Identifier: MIT */
/** Multiplexing: many calls share a few connections, the lanes of a client.
 *
 *      call --join--> PENDING --sent with all that are pending--> SENT --answered--> DONE --> leaves
 *                                                                    \--connection failed--> FAILED --> leaves
 *
 *  One call of a lane is its leader: it opens the lane, which is a borrow from the pool like any other, and then reads for
 *  all; the others sleep until they are answered.  Whoever leaves hands the lead to the next; a leader whose driver does
 *  not step it loses the lead to whoever notices.  A call that leaves before its answer leaves its slot behind, which
 *  swallows the replies.  When the last call has left, the connection goes back to the pool, or is closed if an answer is
 *  still owed.
 *
 *  Threads sleep on a futex that many share, and are woken by the batch; operations of a loop sleep on a descriptor; those
 *  of the same loop as the leader are told by its bell (bell.h), all of a batch in one turn of the loop.
 *
 *  Kept off the lanes: calls that hold a connection or block on the server, large requests, and callers that are so few
 *  that each can have a connection of its own, which is faster.
 *
 *  Lock order: a lane's mutex is held for a few instructions, never across I/O or the building of replies; it is taken
 *  with no other lock held, and the pool's may be taken inside it. */
#ifndef RM_ENGINE_MUX_H
#define RM_ENGINE_MUX_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rm_core rm_core;
typedef struct rm_call rm_call;
typedef struct rm_mux rm_mux; /* internally locked */

/** For a pool of `pool_size` connections: of `node`, or NULL: of wherever the route goes.  NULL: no memory.  A client has one,
 *  which counts the calls; in a cluster each node has another one, with the lanes, made when it is needed. */
rm_mux *rm_mux_new(rm_core *core, int64_t pool_size, struct rm_node *node);
/** No call may be left in it.  NULL is allowed. */
void rm_mux_free(rm_mux *mux);
/** After the pools were shut down: wakes everyone who sleeps in a lane. */
void rm_mux_shutdown(rm_mux *mux);
/** In a forked child, after the pools have noticed: the lanes are empty. */
void rm_mux_forked(rm_mux *mux);

/** A call begins, or ends: how many are under way decides who shares.  May be repeated; nothing without multiplexing. */
void rm_mux_enter(rm_call *call);
void rm_mux_exit(rm_call *call);
/** Puts a call that is to be sent into a lane.  False: it takes a connection of its own. */
bool rm_mux_join(rm_call *call, int64_t now_us);
/** RM_DONE, RM_WAIT with op.wants, or negative with op.error; unless it is RM_WAIT, the call has left its lane and the
 *  unanswered commands are judged. */
int rm_mux_step(rm_call *call, int64_t now_us);
/** Leaves, in whatever state; the unanswered commands are judged, and none of them is sent from here. */
void rm_mux_leave(rm_call *call, int64_t now_us);

#endif
