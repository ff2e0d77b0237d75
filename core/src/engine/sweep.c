/* SPDX-License-Identifier: MIT */
/* The primaries in turn. */
#include "engine/sweep.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"

enum { PRIMARIES_MAX = 4096 };

static int begin(rm_sweep *sweep, rm_call *call, int64_t now_us) {
  rm_route *route = call->op.client->core->route;
  redmoon_error *err = &call->op.error;
  rm_node *any;
  int rc = rm_route_pick(route, &(rm_target){0}, &call->borrow.wait, &any, err);
  if (rc == RM_WAIT) {
    if (call->fixed_deadline_us == 0) call->fixed_deadline_us = now_us + call->op.client->settings.timeout_us;
    if (now_us >= call->fixed_deadline_us) {
      rm_route_unwait(route, &call->borrow.wait);
      char trouble[RM_TROUBLE_SIZE];
      rm_route_trouble(route, trouble);
      return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_DIAL, "the call's deadline was over before it was known which nodes to ask%s",
                           trouble);
    }
    call->op.wants = (rm_wants){call->borrow.wait.event.fd, REDMOON_WANT_READ, call->fixed_deadline_us};
  }
  if (rc != RM_DONE) return rc;
  sweep->nodes = rm_alloc(PRIMARIES_MAX * sizeof(rm_node *));
  if (sweep->nodes == NULL) return rm_fail_nomem(err);
  sweep->count = rm_route_serving(route, false, sweep->nodes, PRIMARIES_MAX);
  if (sweep->count > PRIMARIES_MAX) sweep->count = PRIMARIES_MAX; /* a cluster has at most some 1,000 nodes */
  return RM_DONE;
}

int rm_sweep_aim(rm_sweep *sweep, rm_call *call, int64_t now_us) {
  if (sweep->nodes == NULL) {
    int rc = begin(sweep, call, now_us);
    if (rc != RM_DONE) return rc;
  }
  call->borrow.pinned = sweep->nodes[sweep->at < sweep->count ? sweep->at : 0];
  return RM_DONE;
}

bool rm_sweep_next(rm_sweep *sweep) {
  if (sweep->at + 1 >= sweep->count) return false;
  sweep->at++;
  return true;
}

void rm_sweep_fini(rm_sweep *sweep) {
  rm_free(sweep->nodes);
  *sweep = (rm_sweep){0};
}
