/* SPDX-License-Identifier: MIT */
/* Getting a connection:
 *
 *      pick a node --> pool acquire --CONN--------------------------> ready
 *       ^  |                |  \---DIAL---> connect ----------------> ready
 *       |  v                +------WAIT---> (event, time) --> poll --> CONN or DIAL, as above
 *     (no node is known yet: event)
 */
#include "engine/borrow.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"

#include <stdio.h>
#include <string.h>

enum { RECONSIDER_US = 100000 };

static int dial(rm_borrow *borrow, rm_core *core, int64_t now_us, int64_t deadline_us, redmoon_error *err) {
  borrow->dial_began_us = now_us;
  borrow->connect_by_us = rm_min64(deadline_us, rm_deadline_us(now_us, core->config->connect_timeout_ms));
  int rc = rm_node_connect(borrow->node, now_us, borrow->connect_by_us, &borrow->connect, err);
  if (rc < 0) rm_pool_dial_failed(&borrow->lease, err, now_us);
  return rc;
}

/* What the pool said, taken further. */
static int granted(rm_borrow *borrow, rm_core *core, int rc, int64_t now_us, int64_t deadline_us, redmoon_error *err) {
  if (rc == RM_POOL_DIAL) return dial(borrow, core, now_us, deadline_us, err) < 0 ? err->status : RM_WAIT;
  if (rc == RM_POOL_CONN) return RM_DONE;
  if (rc < 0 && err->phase == REDMOON_PHASE_NONE) err->phase = REDMOON_PHASE_POOL;
  return rc;
}

/* `conn`, or why there is none. */
static void emit_connect(const rm_borrow *borrow, rm_core *core, const rm_conn *conn, const redmoon_error *err) {
  if (!rm_hooks_wants(&core->hooks, REDMOON_EVENT_CONNECT)) return;
  redmoon_event event = {.kind = REDMOON_EVENT_CONNECT, .command = "", .reason = "", .attempt = 1};
  event.address = conn != NULL ? conn->address : err->address;
  event.duration_us = rm_clock_now_us() - borrow->dial_began_us; /* a dial may take no more than one step */
  event.error = err;
  if (conn != NULL) rm_hooks_set_phases(&event, conn->connect_us);
  rm_hooks_emit(&core->hooks, &event);
}

/* A dial may take long that goes to a server which hangs, while another one has taken over. */
static int reconsider(const rm_borrow *borrow, rm_core *core, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  if (borrow->pinned != NULL || !rm_route_may_change(core->route)) return RM_WAIT;
  wants->until_us = rm_min64(wants->until_us, now_us + RECONSIDER_US);
  if (rm_route_serves(core->route, &borrow->target, borrow->node)) return RM_WAIT;
  rm_fail_phase(err, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "%s serves this no more; another server has taken over", borrow->node->name);
  err->retryable = 1;
  return REDMOON_ECONNECT;
}

static int step_dial(rm_borrow *borrow, rm_core *core, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  rm_conn *conn = NULL;
  int rc = rm_connect_step(borrow->connect, now_us, wants, &conn, err);
  if (rc == RM_WAIT) rc = reconsider(borrow, core, now_us, wants, err);
  if (rc == RM_WAIT) return rc;
  rm_connect_free(borrow->connect);
  borrow->connect = NULL;
  if (rc == RM_DONE) {
    emit_connect(borrow, core, conn, NULL);
    rc = rm_pool_dialed(&borrow->lease, conn, now_us, err);
    return rc < 0 ? rc : RM_DONE;
  }
  rm_pool_dial_failed(&borrow->lease, err, now_us);
  emit_connect(borrow, core, NULL, err);
  return rc;
}

/* The wait for a connection has lasted too long: of the pool's own limit, or of the whole call's. */
static int timed_out(rm_borrow *borrow, int64_t now_us, bool deadline, redmoon_error *err) {
  rm_pool_timed_out(&borrow->lease, now_us, err);
  if (deadline) {
    err->status = REDMOON_ETIMEOUT;
    snprintf(err->code, sizeof err->code, "%s", redmoon_status_code(REDMOON_ETIMEOUT));
  }
  err->phase = REDMOON_PHASE_POOL;
  return err->status;
}

static int step_wait(rm_borrow *borrow, rm_core *core, int64_t now_us, int64_t deadline_us, rm_wants *wants,
                     redmoon_error *err) {
  int rc = rm_pool_poll(&borrow->lease, now_us, err);
  if (rc == RM_POOL_WAIT) {
    int64_t by = rm_min64(deadline_us, borrow->pool_by_us);
    if (now_us >= by) return timed_out(borrow, now_us, borrow->pool_by_us > deadline_us, err);
    wants->fd = rm_lease_fd(&borrow->lease);
    wants->events = REDMOON_WANT_READ;
    wants->until_us = rm_min64(by, borrow->lease.wake_us);
    return RM_WAIT;
  }
  /* The limit is on the waiting of the whole call: what was not used is left for a later attempt. */
  borrow->pool_left_us = rm_max64(0, borrow->pool_by_us - now_us);
  borrow->pool_by_us = RM_FOREVER;
  rc = granted(borrow, core, rc, now_us, deadline_us, err);
  return rc == RM_WAIT ? step_dial(borrow, core, now_us, wants, err) : rc;
}

static int acquire(rm_borrow *borrow, rm_core *core, uintptr_t owner, int64_t now_us, int64_t deadline_us,
                   redmoon_error *err) {
  int rc = rm_pool_acquire(borrow->node->pool, &borrow->lease, owner, now_us, err);
  if (rc == RM_POOL_WAIT)
    borrow->pool_by_us = borrow->pool_left_us > RM_FOREVER - now_us ? RM_FOREVER : now_us + borrow->pool_left_us;
  return granted(borrow, core, rc, now_us, deadline_us, err);
}

static int pick(rm_borrow *borrow, rm_core *core, redmoon_error *err) {
  if (borrow->pinned == NULL) return rm_route_pick(core->route, &borrow->target, &borrow->wait, &borrow->node, err);
  borrow->node = borrow->pinned;
  return RM_DONE;
}

int rm_borrow_start(rm_borrow *borrow, rm_core *core, uintptr_t owner, int64_t now_us, int64_t deadline_us,
                    redmoon_error *err) {
  borrow->owner = owner;
  int rc = pick(borrow, core, err);
  return rc == RM_DONE ? acquire(borrow, core, owner, now_us, deadline_us, err) : rc;
}

static int step_pick(rm_borrow *borrow, rm_core *core, int64_t now_us, int64_t deadline_us, rm_wants *wants,
                     redmoon_error *err) {
  int rc = pick(borrow, core, err);
  if (rc == RM_WAIT && now_us >= deadline_us) {
    rm_route_unwait(core->route, &borrow->wait);
    char trouble[RM_TROUBLE_SIZE];
    rm_route_trouble(core->route, trouble);
    return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_DIAL, "the call's deadline was over before it was known which node to ask%s",
                         trouble);
  }
  if (rc == RM_WAIT) *wants = (rm_wants){borrow->wait.event.fd, REDMOON_WANT_READ, deadline_us};
  if (rc == RM_DONE) rc = acquire(borrow, core, borrow->owner, now_us, deadline_us, err);
  return rc;
}

int rm_borrow_step(rm_borrow *borrow, rm_core *core, int64_t now_us, int64_t deadline_us, rm_wants *wants,
                   redmoon_error *err) {
  if (borrow->wait.waits) {
    int rc = step_pick(borrow, core, now_us, deadline_us, wants, err);
    if (rc != RM_WAIT || borrow->wait.waits) return rc;
  }
  if (borrow->connect != NULL) return step_dial(borrow, core, now_us, wants, err);
  return step_wait(borrow, core, now_us, deadline_us, wants, err);
}

void rm_borrow_cancel(rm_borrow *borrow, rm_core *core, int64_t now_us) {
  rm_route_unwait(core->route, &borrow->wait);
  rm_connect_free(borrow->connect);
  borrow->connect = NULL;
  if (borrow->lease.pool != NULL) rm_pool_cancel(&borrow->lease, now_us);
}
