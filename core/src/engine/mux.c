/* SPDX-License-Identifier: MIT */
/* Who is in a lane, and who leads it.  See mux.h for the drawing; mux_io.c does the I/O, mux_wait.c the waiting. */
#include "engine/mux_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

#include <limits.h>
#include <stdio.h>

/* A lane with FEW calls takes more before another one is used: larger batches gain more than several sockets.  For so few
 * callers as OWN_MAX that block their threads a connection each is faster than waking one another.  A large request would
 * keep the others waiting while it is sent.  A lane is held up when the next reply has been due for HELD_UP_US. */
enum { FEW = 64, OWN_MAX = 16, REQUEST_MAX = 64 * 1024, HELD_UP_US = 5000 };

/* Lanes. */

static void init_lane(rm_lane *lane, rm_core *core) {
  pthread_mutex_init(&lane->lock, NULL);
  pthread_cond_init(&lane->unpinned, NULL);
  lane->core = core;
  rm_list_init(&lane->pending);
  rm_list_init(&lane->in_flight);
  rm_list_init(&lane->free);
  lane->pending_count = lane->to_wake_count = 0;
  lane->leader = NULL;
  lane->state = RM_LANE_CLOSED;
  lane->reading = lane->writing = lane->stepping = lane->waking = false;
  atomic_store(&lane->calls, 0);
  atomic_store(&lane->due_since_us, RM_FOREVER);
}

rm_mux *rm_mux_new(rm_core *core, int64_t pool_size, rm_node *node) {
  rm_mux *mux = rm_calloc(1, sizeof *mux);
  if (mux == NULL) return NULL;
  mux->core = core;
  mux->node = node;
  mux->lane_count = pool_size >= 2 * RM_LANES_MAX ? RM_LANES_MAX : pool_size >= 2 ? (int)pool_size / 2 : 1;
  int64_t own = pool_size - mux->lane_count;
  mux->own = own < OWN_MAX ? (int)own : OWN_MAX;
  atomic_init(&mux->calls, 0);
  for (int i = 0; i < mux->lane_count; i++) {
    mux->lanes[i].borrow.lease.event = (rm_event)RM_EVENT_INIT;
    mux->lanes[i].borrow.pinned = node;
    init_lane(&mux->lanes[i], core);
  }
  return mux;
}

void rm_mux_free(rm_mux *mux) {
  if (mux == NULL) return;
  for (int i = 0; i < mux->lane_count; i++) {
    rm_lane *lane = &mux->lanes[i];
    for (rm_slot_chunk *chunk = lane->chunks, *next; chunk != NULL; chunk = next) {
      next = chunk->next;
      for (int s = 0; s < RM_SLOTS_AT_ONCE; s++) rm_event_close(&chunk->slots[s].event);
      rm_free(chunk);
    }
    rm_lease_fini(&lane->borrow.lease);
    rm_buffer_fini(&lane->out);
    rm_arena_fini(&lane->scratch);
    pthread_cond_destroy(&lane->unpinned);
    pthread_mutex_destroy(&lane->lock);
  }
  rm_free(mux);
}

void rm_mux_forked(rm_mux *mux) {
  atomic_store(&mux->calls, 0);
  for (int i = 0; i < mux->lane_count; i++) {
    rm_lane *lane = &mux->lanes[i];
    /* Where a thread that is gone was in the middle of something, the memory is left to the parent's picture of it. */
    bool locked = pthread_mutex_trylock(&lane->lock) != 0;
    if (!locked) pthread_mutex_unlock(&lane->lock);
    if (!locked && !lane->reading && !lane->writing && !lane->stepping && lane->state != RM_LANE_RETIRING) {
      rm_borrow_cancel(&lane->borrow, lane->core, rm_clock_now_us());
      rm_lease_fini(&lane->borrow.lease);
      rm_buffer_fini(&lane->out);
      rm_arena_fini(&lane->scratch);
    }
    lane->borrow = (rm_borrow){.lease.event = RM_EVENT_INIT, .pinned = mux->node};
    lane->out = (rm_buffer){0};
    lane->scratch = (rm_arena){0};
    init_lane(lane, mux->core);
  }
}

static void for_each(rm_list *list, void (*fn)(rm_mux_slot *slot)) {
  for (rm_list *node = list->next; node != list; node = node->next) fn(RM_CONTAINER_OF(node, rm_mux_slot, link));
}

void rm_mux_shutdown(rm_mux *mux) {
  for (int i = 0; i < mux->lane_count; i++) {
    rm_lane *lane = &mux->lanes[i];
    rm_lane_lock(lane);
    for_each(&lane->pending, rm_slot_wake);
    for_each(&lane->in_flight, rm_slot_wake);
    rm_lane_unlock(lane);
  }
}

/* Slots. */

static bool add_slots(rm_lane *lane) {
  rm_slot_chunk *chunk = rm_calloc(1, sizeof *chunk);
  if (chunk == NULL) return false;
  chunk->next = lane->chunks;
  lane->chunks = chunk;
  for (int i = 0; i < RM_SLOTS_AT_ONCE; i++) {
    chunk->slots[i].event = (rm_event)RM_EVENT_INIT;
    chunk->slots[i].index = (unsigned char)i;
    rm_list_push_back(&lane->free, &chunk->slots[i].link);
  }
  return true;
}

static rm_mux_slot *take_slot(rm_lane *lane) {
  if (rm_list_is_empty(&lane->free) && !add_slots(lane)) return NULL;
  rm_mux_slot *slot = RM_CONTAINER_OF(lane->free.next, rm_mux_slot, link);
  rm_list_remove(&slot->link);
  return slot;
}

void rm_slot_free(rm_lane *lane, rm_mux_slot *slot) {
  rm_list_remove(&slot->link);
  slot->call = NULL;
  slot->state = RM_SLOT_FREE;
  rm_list_push_front(&lane->free, &slot->link);
}

void rm_slot_note_sent(const rm_lane *lane, rm_mux_slot *slot) {
  /* While the connection is in order the rest goes out, whoever waits for it. */
  uint64_t upto = lane->state == RM_LANE_OPEN || lane->maybe > slot->end ? slot->end : lane->maybe;
  rm_exchange_note_sent(slot->call, upto > slot->begin ? (size_t)(upto - slot->begin) : 0);
}

/* Joining and leaving. */

void rm_mux_enter(rm_call *call) {
  rm_mux *mux = call->op.client->core->mux;
  if (mux == NULL || call->counted) return;
  call->counted = true;
  atomic_fetch_add_explicit(&mux->calls, 1, memory_order_relaxed);
}

void rm_mux_exit(rm_call *call) {
  if (!call->counted) return;
  call->counted = false;
  rm_core *core = call->op.client->core;
  if (call->pid == core->pid) atomic_fetch_sub_explicit(&core->mux->calls, 1, memory_order_relaxed);
}

/* Whether it goes by a lane: always, if a loop drives it. */
static bool is_shared(const rm_mux *mux, const rm_call *call) {
  if (call->hold || call->whole || call->blocks || call->asking || rm_buffer_len(&call->request.bytes) > REQUEST_MAX) return false;
  return !call->op.may_block || atomic_load_explicit(&mux->calls, memory_order_relaxed) > mux->own;
}

/* A reply that is long in coming, or long, keeps all behind it waiting. */
static bool is_held_up(const rm_lane *lane, int64_t now_us) {
  int64_t since_us = atomic_load_explicit(&lane->due_since_us, memory_order_relaxed);
  return since_us != RM_FOREVER && now_us - since_us > HELD_UP_US;
}

/* The first with few calls that is not held up, so that batches are large; else the one with the fewest. */
static rm_lane *choose(rm_mux *mux, int64_t now_us) {
  rm_lane *best = NULL;
  int fewest = INT_MAX;
  for (int i = 0; i < mux->lane_count; i++) {
    int calls = atomic_load_explicit(&mux->lanes[i].calls, memory_order_relaxed);
    if (calls < FEW && !is_held_up(&mux->lanes[i], now_us)) return &mux->lanes[i];
    if (calls < fewest) best = &mux->lanes[i];
    fewest = calls < fewest ? calls : fewest;
  }
  return best;
}

/* The lanes to a call's node; NULL: it is not known, or there is no memory. */
static rm_mux *lanes_for(rm_call *call) {
  rm_core *core = call->op.client->core;
  if (!rm_route_minds_requests(core->route)) return core->mux;
  rm_node *node = call->borrow.pinned != NULL ? call->borrow.pinned : rm_route_peek(core->route, &call->borrow.target);
  if (node == NULL) return NULL;
  rm_mux *mux = atomic_load_explicit(&node->mux, memory_order_acquire);
  if (mux != NULL) return mux;
  rm_mux *fresh = rm_mux_new(core, core->config->pool_size, node);
  if (fresh == NULL || atomic_compare_exchange_strong(&node->mux, &mux, fresh)) return fresh;
  rm_mux_free(fresh);
  return mux;
}

bool rm_mux_join(rm_call *call, int64_t now_us) {
  rm_mux *mux = call->op.client->core->mux;
  if (mux == NULL || !is_shared(mux, call) || (mux = lanes_for(call)) == NULL) return false;
  rm_lane *lane = choose(mux, now_us);
  rm_lane_lock(lane);
  rm_mux_slot *slot = take_slot(lane);
  if (slot != NULL) {
    slot->call = call;
    slot->state = RM_SLOT_PENDING;
    slot->wait = RM_AWAKE;
    slot->since_us = now_us;
    call->lane = lane;
    call->slot = slot;
    call->listening = false;
    call->maybe_sent = 0;
    rm_list_push_back(&lane->pending, &slot->link);
    lane->pending_count++;
    atomic_fetch_add_explicit(&lane->calls, 1, memory_order_relaxed);
    if (lane->leader == NULL) {
      lane->leader = slot;
      lane->led_us = now_us;
    }
    rm_lane_flush(lane, now_us);
  }
  rm_lane_unlock(lane);
  return slot != NULL;
}

static rm_mux_slot *first_with_call(const rm_list *list) {
  for (rm_list *node = list->next; node != list; node = node->next) {
    rm_mux_slot *slot = RM_CONTAINER_OF(node, rm_mux_slot, link);
    if (slot->call != NULL) return slot;
  }
  return NULL;
}

static void wake_by_bell(rm_mux_slot *slot) {
  if (slot->call != NULL && slot->wait == RM_WAITS_FOR_BELL) rm_slot_wake(slot);
}

/* `bell`: of the one that led. */
static void pass_lead(rm_lane *lane, const rm_bell *bell, int64_t now_us) {
  lane->leader = first_with_call(&lane->in_flight);
  if (lane->leader == NULL) lane->leader = first_with_call(&lane->pending);
  if (lane->leader == NULL) return;
  lane->led_us = now_us;
  rm_slot_wake(lane->leader);
  if (bell == NULL || lane->leader->call->op.bell.bell == bell) return;
  /* The next one is driven by somebody else, who cannot ring for them: they are to wait in another way. */
  for_each(&lane->in_flight, wake_by_bell);
  for_each(&lane->pending, wake_by_bell);
}

/* Locked; unlocks. */
static void leave(rm_lane *lane, rm_call *call, int64_t now_us) {
  rm_mux_slot *slot = call->slot;
  while (slot->pinned) pthread_cond_wait(&lane->unpinned, &lane->lock);
  rm_slot_awake(slot);
  bool linked = rm_list_is_linked(&slot->link);
  if (slot->state == RM_SLOT_SENT || (slot->state == RM_SLOT_FAILED && linked)) rm_slot_note_sent(lane, slot);
  rm_exchange_judge(call);
  if (slot->state == RM_SLOT_SENT) {
    slot->due = rm_exchange_due(call);
    slot->call = NULL;
  } else {
    if (slot->state == RM_SLOT_PENDING) lane->pending_count--;
    rm_slot_free(lane, slot);
  }
  call->slot = NULL;
  call->lane = NULL;
  if (lane->leader == slot) pass_lead(lane, call->op.bell.bell, now_us);
  /* The last one gives the connection back, unless somebody comes while it does. */
  if (atomic_fetch_sub_explicit(&lane->calls, 1, memory_order_relaxed) == 1) rm_lane_retire(lane, now_us);
  rm_lane_unlock(lane);
}

void rm_mux_leave(rm_call *call, int64_t now_us) {
  rm_lane *lane = call->lane;
  if (call->pid != call->op.client->core->pid) { /* the lane is not the one that it joined, before fork() */
    call->maybe_sent = rm_buffer_len(&call->request.bytes);
    rm_exchange_judge(call);
    rm_bell_forget(&call->op.bell);
    call->slot = NULL;
    call->lane = NULL;
    return;
  }
  rm_lane_lock(lane);
  leave(lane, call, now_us);
}

/* Time. */

static bool is_unsent(const rm_lane *lane, const rm_mux_slot *slot) {
  return slot->state == RM_SLOT_PENDING || slot->end > lane->out_end - rm_buffer_len(&lane->out);
}

static int64_t limit_of(const rm_lane *lane, const rm_call *call) {
  const rm_settings *settings = &call->op.client->settings;
  bool open = lane->state == RM_LANE_OPEN || lane->state == RM_LANE_FAILING;
  if (!open) return call->deadline_us;
  bool unsent = is_unsent(lane, call->slot);
  int64_t since_us = call->slot->state == RM_SLOT_PENDING ? rm_max64(call->slot->since_us, lane->opened_us) : call->slot->since_us;
  return rm_min64(call->deadline_us, since_us + (unsent ? settings->write_timeout_us : settings->read_timeout_us));
}

static int fail_late(const rm_lane *lane, rm_call *call) {
  const rm_settings *settings = &call->op.client->settings;
  redmoon_error *err = &call->op.error;
  if (lane->state != RM_LANE_OPEN)
    return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_POOL,
                         "no shared connection was ready before the call's deadline (timeout %lld ms)",
                         (long long)(settings->timeout_us / 1000));
  bool sending = is_unsent(lane, call->slot);
  redmoon_phase phase = sending ? REDMOON_PHASE_SEND : REDMOON_PHASE_RECEIVE;
  if (limit_of(lane, call) == call->deadline_us)
    rm_fail_phase(err, REDMOON_ETIMEOUT, phase, "%s did not %s before the call's deadline (timeout %lld ms)", lane->address,
                  sending ? "take the request" : "answer", (long long)(settings->timeout_us / 1000));
  else
    rm_fail_phase(err, REDMOON_ETIMEOUT, phase,
                  sending ? "%s did not take the request within %lld ms" : "%s did not answer within %lld ms", lane->address,
                  (long long)((sending ? settings->write_timeout_us : settings->read_timeout_us) / 1000));
  snprintf(err->address, sizeof err->address, "%s", lane->address);
  return REDMOON_ETIMEOUT;
}

/* The call has waited too long.  A connection on which nothing has come for as long as the client waits for any reply is
 * of no use to the others either; what one impatient call says about it is not enough. */
static int timed_out(rm_lane *lane, rm_call *call, int64_t now_us) {
  int status = fail_late(lane, call);
  const rm_mux_slot *slot = call->slot;
  bool silent = slot->state == RM_SLOT_SENT && lane->heard_us <= slot->since_us &&
                now_us - slot->since_us >= lane->core->config->read_timeout_ms * 1000;
  if (!silent) return status;
  redmoon_error own = call->op.error;
  rm_lane_fail(lane, &own, RM_CLOSE_ERROR, now_us);
  call->op.error = own;
  return status;
}

/* Leading. */

/* One step of the borrow.  RM_DONE: go on; RM_WAIT: op.wants; negative. */
static int open_lane(rm_lane *lane, rm_call *call, int64_t now_us) {
  redmoon_op *op = &call->op;
  bool begins = lane->state == RM_LANE_CLOSED;
  lane->state = RM_LANE_OPENING;
  lane->stepping = true;
  if (begins) lane->borrow.pool_left_us = call->borrow.pool_left_us;
  rm_lane_unlock(lane);
  int rc = begins ? rm_borrow_start(&lane->borrow, lane->core, rm_call_owner(call), now_us, call->deadline_us, &op->error)
                  : rm_borrow_step(&lane->borrow, lane->core, now_us, call->deadline_us, &op->wants, &op->error);
  rm_lane_lock(lane);
  lane->stepping = false;
  call->borrow.pool_left_us = lane->borrow.pool_left_us;
  call->borrow.node = lane->borrow.node;
  if (rc == RM_WAIT) return begins ? RM_DONE : RM_WAIT;
  if (rc < 0) {
    lane->state = RM_LANE_CLOSED;
    return rc;
  }
  rm_lane_opened(lane, now_us);
  rm_lane_flush(lane, now_us);
  return RM_DONE;
}

/* Whether the next receive may block in the kernel: as in exchange.c. */
static bool may_wait(const rm_lane *lane, const rm_call *call, int64_t now_us) {
  const rm_conn *conn = lane->borrow.lease.conn;
  return call->op.may_block && conn->ssl == NULL && rm_buffer_len(&lane->out) == 0 && conn->receive_timeout_us > 0 &&
         limit_of(lane, call) - now_us >= conn->receive_timeout_us;
}

static bool is_waiting(const rm_mux_slot *slot) { return slot->state == RM_SLOT_PENDING || slot->state == RM_SLOT_SENT; }

static int read_lane(rm_lane *lane, rm_call *call, int64_t *now_us) {
  int fd = lane->borrow.lease.conn->fd;
  bool plain = lane->borrow.lease.conn->ssl == NULL, wait = may_wait(lane, call, *now_us);
  ssize_t n = RM_IO_AGAIN_READ;
  if (call->listening || wait) {
    n = rm_lane_receive(lane, wait, *now_us);
    rm_lane_wake_and_flush(lane, *now_us);
    if (call->op.may_block) *now_us = rm_clock_now_us();
    bool again = wait || (n > 0 && (!plain || call->op.may_block)); /* else the socket will say when there is more */
    if (again || lane->state != RM_LANE_OPEN || !is_waiting(call->slot)) return RM_DONE;
  }
  call->listening = true;
  bool write = rm_buffer_len(&lane->out) > 0 || n == RM_IO_AGAIN_WRITE;
  call->op.wants = (rm_wants){fd, REDMOON_WANT_READ | (write ? REDMOON_WANT_WRITE : 0), limit_of(lane, call)};
  return RM_WAIT;
}

/* RM_DONE: go on; RM_WAIT: op.wants; negative. */
static int lead(rm_lane *lane, rm_call *call, int64_t *now_us) {
  lane->led_us = *now_us;
  int rc = lane->state == RM_LANE_OPEN ? read_lane(lane, call, now_us) : open_lane(lane, call, *now_us);
  lane->led_us = *now_us;
  if (rc == RM_WAIT && *now_us >= call->deadline_us) return timed_out(lane, call, *now_us); /* the borrow was another's */
  if (rc == RM_WAIT) call->op.wants.until_us = rm_min64(call->op.wants.until_us, *now_us + RM_CHECK_US);
  return rc;
}

static bool is_leader(rm_lane *lane, rm_mux_slot *slot, int64_t now_us) {
  bool at_work = lane->reading || lane->stepping || now_us - lane->led_us < 2 * RM_CHECK_US;
  if (lane->leader == NULL || (lane->leader != slot && !at_work)) {
    lane->leader = slot;
    lane->led_us = now_us;
  }
  if (lane->leader != slot) return false;
  lane->led_us = now_us;
  return true;
}

/* What is in the way of reading: the connection is being closed, or OpenSSL is at work for a writer. */
static bool must_hold_off(const rm_lane *lane) {
  if (lane->reading || lane->stepping || lane->state == RM_LANE_FAILING || lane->state == RM_LANE_RETIRING) return true;
  return lane->state == RM_LANE_OPEN && lane->writing && lane->borrow.lease.conn->ssl != NULL;
}

int rm_mux_step(rm_call *call, int64_t now_us) {
  rm_lane *lane = call->lane;
  rm_mux_slot *slot = call->slot;
  int rc = RM_WAIT;
  rm_lane_lock(lane);
  rm_slot_awake(slot);
  for (;;) {
    bool leads = is_leader(lane, slot, now_us);
    while (slot->pinned) pthread_cond_wait(&lane->unpinned, &lane->lock);
    bool late = now_us >= limit_of(lane, call) && !(leads && lane->state == RM_LANE_OPENING);
    if (slot->state == RM_SLOT_DONE) rc = RM_DONE;
    else if (slot->state == RM_SLOT_FAILED) rc = call->op.error.status;
    else if (atomic_load(&lane->core->closed)) rc = rm_fail_closed(&call->op.error);
    else if (late) rc = timed_out(lane, call, now_us);
    if (rc != RM_WAIT) break;
    if (leads && !must_hold_off(lane)) rc = lead(lane, call, &now_us);
    else rc = rm_slot_sleep(lane, call, limit_of(lane, call), &now_us) ? RM_DONE : RM_WAIT;
    if (rc < 0) break;
    if (rc == RM_WAIT) {
      rm_lane_unlock(lane);
      return RM_WAIT;
    }
    rc = RM_WAIT;
  }
  leave(lane, call, now_us);
  return rc;
}
