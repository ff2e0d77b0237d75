/* SPDX-License-Identifier: MIT */
/* What a lane does with its connection: batches go out, replies are dealt out to the calls in flight in their order.
 *
 *      pending --gather--> out --send--> in flight --receive--> done
 *
 *  A batch goes out at once when none is in flight, and a second one as soon as half of the lane's calls are pending: one
 *  batch alone would leave the server idle while its answers are read, and small ones cost as much as large ones.  Hence
 *  a leader with answers wakes their threads first, all by one system call: before it has come to send what little is
 *  pending, they mostly have asked again, and whoever makes it half of the calls sends them. */
#define _GNU_SOURCE
#include "engine/mux_internal.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdio.h>
#include <sys/socket.h>

enum { BATCHES = 2, BATCH_BYTES = 256 * 1024, KEEP_BYTES = 64 * 1024, WAKE_BYTES = 16 * 1024 };

static rm_conn *conn_of(const rm_lane *lane) { return lane->borrow.lease.conn; }
static rm_mux_slot *first_of(const rm_list *list) { return RM_CONTAINER_OF(list->next, rm_mux_slot, link); }

void rm_lane_opened(rm_lane *lane, int64_t now_us) {
  rm_pool_share(&lane->borrow.lease);
  snprintf(lane->address, sizeof lane->address, "%s", conn_of(lane)->address);
  lane->state = RM_LANE_OPEN;
  lane->fresh = true;
  lane->epoch++;
  lane->batches = 0;
  lane->out_end = lane->maybe = 0;
  lane->opened_us = lane->heard_us = now_us;
  rm_buffer_reset(&lane->out, KEEP_BYTES);
}

/* The leader may have found somebody else at work. */
static void tell_leader(rm_lane *lane) {
  if (lane->leader != NULL) rm_slot_wake(lane->leader);
}

/* Giving the connection up. */

static void close_lane(rm_lane *lane, bool reusable, rm_close_reason why, int64_t now_us) {
  lane->state = RM_LANE_RETIRING;
  atomic_store(&lane->due_since_us, RM_FOREVER);
  rm_lane_unlock(lane);
  if (reusable) rm_pool_release(&lane->borrow.lease, now_us);
  else rm_pool_discard(&lane->borrow.lease, why, now_us);
  rm_lane_lock(lane);
  lane->state = RM_LANE_CLOSED;
  tell_leader(lane);
}

static bool has_surplus(rm_lane *lane) {
  redmoon_reply *reply;
  redmoon_error ignored;
  while (rm_reader_has_bytes(conn_of(lane)->reader))
    if (rm_conn_next(conn_of(lane), &lane->scratch, &reply, &ignored) != 1 || reply->type != REDMOON_PUSH) return true;
  rm_arena_reset(&lane->scratch, KEEP_BYTES);
  return false;
}

void rm_lane_retire(rm_lane *lane, int64_t now_us) {
  if (lane->state == RM_LANE_OPENING) {
    lane->state = RM_LANE_RETIRING;
    rm_lane_unlock(lane);
    rm_borrow_cancel(&lane->borrow, lane->core, now_us);
    rm_lane_lock(lane);
    lane->state = RM_LANE_CLOSED;
    tell_leader(lane);
    return;
  }
  if (lane->state != RM_LANE_OPEN) return;
  bool owed = !rm_list_is_empty(&lane->in_flight);
  while (!rm_list_is_empty(&lane->in_flight)) rm_slot_free(lane, first_of(&lane->in_flight));
  if (!owed) owed = has_surplus(lane);
  if (!owed) rm_reader_trim(conn_of(lane)->reader);
  close_lane(lane, !owed, RM_CLOSE_DIRTY, now_us);
}

/* Once nobody uses the connection any more.  What of the stream may be on the wire is known then for good. */
static void settle(rm_lane *lane, int64_t now_us) {
  if (lane->state != RM_LANE_FAILING || lane->reading || lane->writing) return;
  while (!rm_list_is_empty(&lane->in_flight)) {
    rm_mux_slot *slot = first_of(&lane->in_flight);
    if (slot->call == NULL) {
      rm_slot_free(lane, slot);
      continue;
    }
    rm_list_remove(&slot->link);
    rm_slot_note_sent(lane, slot);
    if (slot->state != RM_SLOT_FAILED) slot->call->op.error = lane->why;
    slot->state = RM_SLOT_FAILED;
    rm_slot_wake(slot);
  }
  close_lane(lane, false, lane->reason, now_us);
}

void rm_lane_fail(rm_lane *lane, const redmoon_error *why, rm_close_reason reason, int64_t now_us) {
  if (lane->state != RM_LANE_OPEN) return;
  lane->state = RM_LANE_FAILING;
  lane->why = *why;
  snprintf(lane->why.address, sizeof lane->why.address, "%s", lane->address);
  lane->reason = reason;
  if (lane->reading) shutdown(conn_of(lane)->fd, SHUT_RDWR); /* a receive that waits ends */
  settle(lane, now_us);
}

/* Sending. */

static bool may_write(const rm_lane *lane) {
  return !lane->writing && (!lane->reading || conn_of(lane)->ssl == NULL); /* OpenSSL lets one do either */
}

/* Whether what is pending may go out on this connection.  Otherwise it waits until the lane is drained, and goes out on
 * another one. */
static bool is_sound(rm_lane *lane, int64_t now_us) {
  bool drained = rm_list_is_empty(&lane->in_flight);
  if (rm_pool_is_stale(&lane->borrow.lease, now_us)) {
    if (drained && !lane->reading) close_lane(lane, true, RM_CLOSE_LIFETIME, now_us);
    return false;
  }
  if (lane->fresh || !drained || lane->reading) return true;
  rm_close_reason why;
  lane->reading = lane->writing = true;
  rm_lane_step_aside(lane);
  bool reusable = rm_conn_is_reusable(conn_of(lane), &why);
  rm_lane_lock(lane);
  lane->reading = lane->writing = false;
  tell_leader(lane);
  if (!reusable && lane->state == RM_LANE_OPEN) close_lane(lane, false, why, now_us);
  else settle(lane, now_us);
  return reusable && lane->state == RM_LANE_OPEN;
}

static bool is_due(const rm_lane *lane) {
  if (rm_list_is_empty(&lane->pending)) return false;
  if (lane->batches == 0 && !lane->waking) return true;
  return lane->batches < BATCHES && 2 * lane->pending_count >= atomic_load_explicit(&lane->calls, memory_order_relaxed);
}

/* Moves one call from the pending to those in flight. */
static bool gather_one(rm_lane *lane, rm_mux_slot *slot, int64_t now_us) {
  rm_call *call = slot->call;
  rm_list_remove(&slot->link);
  lane->pending_count--;
  size_t before = rm_buffer_len(&lane->out);
  call->borrow.node = lane->borrow.node;
  if (rm_exchange_copy(call, conn_of(lane), &lane->out) != 0) {
    lane->out.tail = lane->out.head + before;
    rm_fail_nomem(&call->op.error);
    slot->state = RM_SLOT_FAILED;
    rm_slot_wake(slot);
    return false;
  }
  slot->begin = lane->out_end;
  slot->end = lane->out_end += rm_buffer_len(&lane->out) - before;
  slot->state = RM_SLOT_SENT;
  slot->since_us = now_us;
  slot->last = false;
  if (rm_list_is_empty(&lane->in_flight)) atomic_store(&lane->due_since_us, now_us);
  rm_list_push_back(&lane->in_flight, &slot->link);
  return true;
}

/* Puts a batch into `out`.  False: there is none, or it may not go out now. */
static bool gather(rm_lane *lane, int64_t now_us) {
  if (!is_due(lane) || !is_sound(lane, now_us)) return false;
  rm_mux_slot *last = NULL;
  while (!rm_list_is_empty(&lane->pending) && rm_buffer_len(&lane->out) < BATCH_BYTES) {
    rm_mux_slot *slot = first_of(&lane->pending);
    if (gather_one(lane, slot, now_us)) last = slot;
  }
  if (last == NULL) return false;
  last->last = true;
  lane->batches++;
  lane->fresh = false;
  return true;
}

static ssize_t send_out(rm_lane *lane, int64_t now_us) {
  redmoon_error err;
  size_t len = rm_buffer_len(&lane->out), maybe = 0;
  const char *bytes = rm_buffer_begin(&lane->out);
  uint64_t begin = lane->out_end - len, before = lane->maybe;
  lane->writing = true; /* nobody else touches `out` */
  lane->maybe = lane->out_end;
  rm_lane_step_aside(lane);
  ssize_t n = rm_conn_send(conn_of(lane), bytes, len, &maybe, &err);
  rm_lane_lock(lane);
  lane->writing = false;
  lane->maybe = begin + maybe > before ? begin + maybe : before;
  if (n > 0) rm_buffer_consume(&lane->out, (size_t)n);
  if (rm_buffer_len(&lane->out) == 0) rm_buffer_reset(&lane->out, KEEP_BYTES);
  if (conn_of(lane)->ssl != NULL) tell_leader(lane);
  if (n != RM_IO_ERROR || lane->state != RM_LANE_OPEN) {
    settle(lane, now_us);
    return n;
  }
  err.phase = REDMOON_PHASE_SEND;
  uint64_t epoch = lane->epoch;
  if (!lane->reading) { /* what the peer had answered before still counts, and may say why */
    while (lane->state == RM_LANE_OPEN && lane->epoch == epoch && rm_lane_receive(lane, false, now_us) > 0) {
    }
  }
  if (lane->epoch == epoch) rm_lane_fail(lane, &err, RM_CLOSE_ERROR, now_us);
  return n;
}

void rm_lane_flush(rm_lane *lane, int64_t now_us) {
  while (lane->state == RM_LANE_OPEN && may_write(lane)) {
    if (rm_buffer_len(&lane->out) == 0 && !gather(lane, now_us)) return;
    if (send_out(lane, now_us) <= 0) return;
  }
}

void rm_lane_wake_and_flush(rm_lane *lane, int64_t now_us) {
  if (lane->to_wake_count > 0 && !lane->waking) {
    lane->waking = true;
    rm_lane_flush(lane, now_us); /* half of them: the server need not wait until all are awake */
    rm_lane_unlock(lane);
    rm_lane_lock(lane);
    lane->waking = false;
  }
  rm_lane_flush(lane, now_us);
}

/* Receiving. */

/* Replies that nobody waits for any more; without the lock. */
static int swallow(rm_lane *lane, rm_mux_slot *slot, redmoon_error *err) {
  int rc = 1;
  while (slot->due > 0 && rc > 0) {
    redmoon_reply *reply;
    rc = rm_conn_next(conn_of(lane), &lane->scratch, &reply, err);
    if (rc > 0 && reply->type != REDMOON_PUSH) slot->due--;
    rm_arena_reset(&lane->scratch, KEEP_BYTES);
  }
  return rc;
}

static void complete(rm_lane *lane, rm_mux_slot *slot, int64_t now_us) {
  if (slot->last) lane->batches--;
  if (slot->call != NULL) {
    rm_list_remove(&slot->link);
    slot->state = RM_SLOT_DONE;
    rm_slot_wake(slot);
  } else {
    rm_slot_free(lane, slot);
  }
  atomic_store(&lane->due_since_us, rm_list_is_empty(&lane->in_flight) ? RM_FOREVER : now_us);
}

/* One call's replies: 1 all of them, 0, or negative. */
static int take(rm_lane *lane, rm_mux_slot *slot, redmoon_error *err) {
  if (slot->begin >= lane->maybe)
    return rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE, "%s answered a command before it was sent",
                         lane->address);
  rm_call *call = slot->call;
  slot->pinned = call != NULL;
  /* Those behind whom little is left to be built are woken together with the others. */
  if (rm_reader_len(conn_of(lane)->reader) > WAKE_BYTES) rm_lane_unlock(lane);
  else rm_lane_step_aside(lane);
  int rc = call != NULL ? rm_exchange_take(call, conn_of(lane)) : swallow(lane, slot, err);
  rm_lane_lock(lane);
  if (call == NULL) return rc;
  slot->pinned = false;
  pthread_cond_broadcast(&lane->unpinned);
  if (rc >= 0) return rc;
  /* The error is this call's; for the others it is the end of their connection. */
  snprintf(slot->call->op.error.address, sizeof slot->call->op.error.address, "%s", lane->address);
  slot->call->op.error.phase = REDMOON_PHASE_RECEIVE;
  slot->state = RM_SLOT_FAILED;
  return rm_fail_phase(err, REDMOON_EIO, REDMOON_PHASE_RECEIVE,
                       "the connection to %s, which this call shared, was closed because of a reply to another one", lane->address);
}

static void deal_out(rm_lane *lane, redmoon_error *err, int64_t now_us) {
  int rc = 1;
  while (rc > 0 && !rm_list_is_empty(&lane->in_flight) && lane->state == RM_LANE_OPEN &&
         rm_reader_has_bytes(conn_of(lane)->reader)) {
    rm_mux_slot *slot = first_of(&lane->in_flight);
    rc = take(lane, slot, err);
    if (rc > 0) complete(lane, slot, now_us);
  }
  if (rc > 0 && lane->state == RM_LANE_OPEN && rm_list_is_empty(&lane->in_flight)) {
    if (has_surplus(lane))
      rc = rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE, "%s sent what nobody asked for", lane->address);
    else
      rm_reader_trim(conn_of(lane)->reader);
  }
  if (rc < 0) rm_lane_fail(lane, err, rc == REDMOON_EPROTOCOL ? RM_CLOSE_DIRTY : RM_CLOSE_ERROR, now_us);
}

ssize_t rm_lane_receive(rm_lane *lane, bool wait, int64_t now_us) {
  redmoon_error err;
  rm_conn *conn = conn_of(lane);
  const rm_mux_slot *reader = lane->leader;
  lane->reading = true;
  rm_lane_unlock(lane);
  ssize_t n = rm_conn_receive(conn, wait, &err);
  if (wait) now_us = rm_clock_now_us();
  rm_lane_lock(lane);
  if (n > 0) {
    lane->heard_us = now_us;
    deal_out(lane, &err, now_us);
  }
  if (n == RM_IO_EOF || n == RM_IO_ERROR) {
    if (n == RM_IO_EOF)
      rm_fail_phase(&err, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "%s closed the connection", lane->address);
    err.phase = REDMOON_PHASE_RECEIVE;
    rm_lane_fail(lane, &err, n == RM_IO_EOF ? RM_CLOSE_PEER : RM_CLOSE_ERROR, now_us);
  }
  lane->reading = false;
  if (lane->leader != reader) tell_leader(lane);
  settle(lane, now_us);
  return n;
}
