/* SPDX-License-Identifier: MIT */
/** Going over all primaries, one after another: what a scan of all keys does in a cluster. */
#ifndef RM_ENGINE_SWEEP_H
#define RM_ENGINE_SWEEP_H

#include "engine/call.h"

/** Zeroed: not begun.  The primaries are those that there were at the begin. */
typedef struct rm_sweep {
  rm_node **nodes;
  size_t count, at;
} rm_sweep;

/** Begins it, if it has not begun, for a call that is about to be stepped: RM_DONE, and the call goes to the primary that is
 *  due; RM_WAIT with op.wants until it is known what they are; or negative with op.error. */
int rm_sweep_aim(rm_sweep *sweep, rm_call *call, int64_t now_us);
/** This primary is done with: whether there is another one. */
bool rm_sweep_next(rm_sweep *sweep);
void rm_sweep_fini(rm_sweep *sweep);

#endif
