/* SPDX-License-Identifier: MIT */
/* The connection of a subscription, on the keeper's thread.
 *
 *     IDLE --something is wanted--> DIAL --> LIVE: what was wanted before is asked for again, then the changes
 *                                    | ^      |
 *                              failed| |      | lost, out of step, silent for two intervals
 *                                    v |      v
 *                                   BACKOFF <-+        full jitter; the bound doubles, until a link is whole again
 *
 *     a sink's, and nothing is wanted any more --> IDLE, without a connection
 *     ended (shut, refused for good, overflow "close", never connected) --> ENDED */
#include "engine/subscription_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/script.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVES_OF_A_STEP = 8 }; /* then it is others' turn */

static redmoon_subscription *of(rm_driven *driven) { return RM_CONTAINER_OF(driven, redmoon_subscription, driven); }

/* Losing it. */

static void close_conn(redmoon_subscription *sub, rm_close_reason why) {
  rm_conn *conn = sub->conn;
  sub->conn = NULL;
  if (conn == NULL) return;
  /* A child that was forked meanwhile may have the socket, too: the server is told all the same. */
  if (conn->fd >= 0) (void)shutdown(conn->fd, SHUT_RDWR);
  rm_core_close_conn(sub->client->core, conn, why);
}

void rm_sub_drop_link(redmoon_subscription *sub, rm_close_reason why) {
  rm_route_unwait(sub->client->core->route, &sub->route_wait);
  rm_connect_free(sub->connect);
  sub->connect = NULL;
  close_conn(sub, why);
  rm_request_reset(&sub->request, 4096);
  sub->sent = sub->restoring = 0;
  sub->pinged = false;
}

/* Full jitter: a crowd of subscribers does not come back at one moment. */
static void back_off(redmoon_subscription *sub, int64_t now_us) {
  int64_t bound = sub->min_backoff_us;
  for (int i = 0; i < sub->failures && bound < sub->max_backoff_us; i++) bound *= 2;
  if (sub->failures < INT32_MAX) sub->failures++;
  sub->wait_until_us = now_us + rm_max64(rm_random_upto(rm_min64(bound, sub->max_backoff_us)), 1000);
  sub->state = RM_LINK_BACKOFF;
}

/* The server will say the same for ever: who we are has to be changed first. */
static bool is_final(const redmoon_error *why) {
  static const char *const codes[] = {"NOAUTH", "WRONGPASS", "NOPERM"};
  if (why->status != REDMOON_ESERVER) return why->status == REDMOON_ECONFIG;
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
    if (strcmp(why->code, codes[i]) == 0) return true;
  return false;
}

/* The link, or the dial for one, came to nothing. */
static void lose(redmoon_subscription *sub, rm_close_reason reason, const redmoon_error *why, int64_t now_us) {
  bool had_conn = sub->conn != NULL;
  rm_sub_drop_link(sub, reason);
  rm_sub_lock(sub);
  sub->trouble = *why;
  sub->whole = false;
  if (had_conn) sub->counts.reconnects++;
  if (sub->confirmed && !sub->outage) { /* before the first confirmation there is nothing to be missed */
    sub->outage = true;
    sub->lost_us = now_us;
    sub->buffer.gap.reconnects++;
  } else if (sub->confirmed) {
    sub->buffer.gap.reconnects += had_conn;
  }
  sub->confirmed = false;
  back_off(sub, now_us);
  rm_changes_link_lost(sub);
  if (why->status == REDMOON_ENOMEM) rm_changes_fail(sub, why); /* whoever waits is told at once */
  bool hopeless = !sub->established && sub->failures > sub->client->settings.max_retries;
  if (sub->sink == NULL && (is_final(why) || hopeless)) {
    redmoon_error end = *why;
    end.attempts = sub->failures;
    rm_sub_end(sub, &end);
  }
  rm_sub_unlock(sub);
  if (sub->sink != NULL) sub->sink->lost(sub->sink_ctx);
  else if (had_conn) rm_client_count(sub->client, "subscription", "lost");
  if (reason != RM_CLOSE_FAILOVER) rm_route_suspect(sub->client->core->route);
}

/* Getting it. */

static void emit_connect(redmoon_subscription *sub, int64_t now_us, const redmoon_error *err) {
  rm_core *core = sub->client->core;
  if (!rm_hooks_wants(&core->hooks, REDMOON_EVENT_CONNECT)) return;
  redmoon_event event = {.kind = REDMOON_EVENT_CONNECT, .command = "", .reason = "", .error = err};
  event.attempt = sub->failures + 1;
  event.address = sub->conn != NULL ? sub->conn->address : err->address;
  event.duration_us = now_us - sub->dial_began_us;
  rm_hooks_emit(&core->hooks, &event);
}

/* Shard channels are served where their slot is, and all of them have the same, those that are to be added too; of anything
 * else any node hears. */
static rm_target target_of(redmoon_subscription *sub) {
  rm_target target = {0};
  rm_sub_lock(sub);
  const rm_names *shards = &sub->wanted[RM_SHARDS];
  if (shards->count == 0 && !rm_list_is_empty(&sub->changes))
    shards = &RM_CONTAINER_OF(sub->changes.next, rm_change, link)->names[RM_SHARDS];
  target.keyed = shards->count > 0;
  if (target.keyed) target.slot = rm_slot_of(shards->items[0].ptr, shards->items[0].len);
  rm_sub_unlock(sub);
  return target;
}

static void start_dial(redmoon_subscription *sub, int64_t now_us, rm_wants *wants) {
  rm_core *core = sub->client->core;
  redmoon_error err;
  const rm_target target = target_of(sub);
  int64_t by_us = rm_deadline_us(now_us, core->config->connect_timeout_ms);
  sub->epoch = rm_route_epoch(core->route);
  int rc = rm_route_pick(core->route, &target, &sub->route_wait, &sub->node, &err);
  if (rc == RM_WAIT) {
    *wants = (rm_wants){sub->route_wait.event.fd, REDMOON_WANT_READ, RM_FOREVER};
    return;
  }
  sub->dial_began_us = now_us;
  sub->state = RM_LINK_DIAL;
  if (rc == RM_DONE) rc = rm_node_connect(sub->node, now_us, by_us, &sub->connect, &err);
  if (rc < 0) lose(sub, RM_CLOSE_ERROR, &err, now_us);
}

/* Asks for what is wanted, then for what is to be changed. */
static int restore(redmoon_subscription *sub, int64_t now_us) {
  rm_sub_lock(sub);
  sub->state = RM_LINK_LIVE;
  int rc = 0;
  for (int kind = 0; kind < RM_KINDS && rc == 0; kind++)
    rc = rm_sub_ask(sub, 2 * kind, &sub->wanted[kind], NULL, true, &sub->restoring);
  if (rc == 0) rm_sub_restored(sub, now_us);
  rm_sub_unlock(sub);
  return rc;
}

static void step_dial(redmoon_subscription *sub, int64_t now_us, rm_wants *wants) {
  redmoon_error err;
  int rc = rm_connect_step(sub->connect, now_us, wants, &sub->conn, &err);
  if (rc == RM_WAIT) return;
  rm_connect_free(sub->connect);
  sub->connect = NULL;
  emit_connect(sub, now_us, rc == RM_DONE ? NULL : &err);
  sub->heard_us = now_us;
  if (rc == RM_DONE && restore(sub, now_us) != 0) rc = rm_fail_nomem(&err);
  if (rc < 0) lose(sub, RM_CLOSE_ERROR, &err, now_us);
}

/* Keeping it. */

/* After a fail-over, or where the node has left: nothing more is to be heard from it, though it may well be alive. */
static void leave_old_node(redmoon_subscription *sub, int64_t now_us) {
  rm_route *route = sub->client->core->route;
  uint64_t epoch = rm_route_epoch(route);
  if (epoch == sub->epoch || sub->state == RM_LINK_ENDED) return;
  sub->epoch = epoch;
  if (sub->state == RM_LINK_BACKOFF) sub->wait_until_us = now_us; /* why that one could not be had is of no account now */
  if (sub->state != RM_LINK_DIAL && sub->state != RM_LINK_LIVE) return;
  const rm_target target = target_of(sub);
  if (rm_route_serves(route, &target, sub->node)) return;
  redmoon_error err;
  rm_fail_phase(&err, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "%s is not the server any more that this is received from", sub->node->name);
  lose(sub, RM_CLOSE_FAILOVER, &err, now_us);
}

/* 0, or negative with `err`; *events gets what to wait for. */
static int send_some(redmoon_subscription *sub, int *events, redmoon_error *err) {
  size_t total = rm_buffer_len(&sub->request.bytes);
  while (sub->sent < total) {
    const char *bytes = rm_buffer_begin(&sub->request.bytes);
    ssize_t n = rm_conn_send(sub->conn, bytes + sub->sent, total - sub->sent, NULL, err);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return 0;
    }
    if (n < 0) return err->status;
    sub->sent += (size_t)n;
  }
  if (total > 0) {
    rm_request_reset(&sub->request, 4096);
    sub->sent = 0;
  }
  return 0;
}

/* Whether the buffer is full, and what comes has to wait: until somebody fetches, who then kicks. */
static bool is_blocked(redmoon_subscription *sub) {
  rm_sub_lock(sub);
  bool blocked = sub->buffer.overflow == RM_BLOCK && sub->buffer.list.count >= sub->buffer.limit &&
                 rm_list_is_empty(&sub->changes);
  if (blocked && !sub->blocked) sub->counts.blocked++;
  sub->blocked = blocked;
  rm_sub_unlock(sub);
  return blocked;
}

static bool is_ended(redmoon_subscription *sub) {
  rm_sub_lock(sub);
  bool ended = sub->end.status != 0;
  rm_sub_unlock(sub);
  return ended;
}

/* Takes what was received, as far as there is room; somebody may make room meanwhile.  0: all; 1: the buffer is full, or it
 * has ended; or negative. */
static int take_frames(redmoon_subscription *sub, int64_t now_us, redmoon_error *err) {
  for (;;) {
    int rc = rm_sub_take_frames(sub, now_us, err);
    if (rc < 0) return rc;
    if (is_blocked(sub) || is_ended(sub)) return 1;
    if (rc == 0) return 0;
  }
}

/* RM_DONE: nothing more is there; RM_WAIT: there may be, but it is others' turn, or the buffer is full. */
static int receive_some(redmoon_subscription *sub, int64_t now_us, int *events, redmoon_error *err) {
  int rc = take_frames(sub, now_us, err); /* what was left when the buffer was full */
  for (int i = 0; i < RECEIVES_OF_A_STEP; i++) {
    if (rc != 0) return rc > 0 ? RM_WAIT : rc;
    ssize_t n = rm_conn_receive(sub->conn, false, err);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return RM_DONE;
    }
    if (n == RM_IO_EOF)
      return rm_fail_phase(err, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "%s closed the connection", sub->conn->address);
    if (n < 0) return err->status;
    sub->heard_us = now_us;
    rc = take_frames(sub, now_us, err);
  }
  return rc > 0 ? RM_WAIT : rc;
}

/* Asks for a sign of life after an interval of silence; negative when another one has passed since.  What counts is that
 * the server was asked: we may have been asleep ourselves. */
static int watch(redmoon_subscription *sub, int64_t now_us, redmoon_error *err) {
  int64_t silent_us = now_us - sub->heard_us;
  if (sub->pinged && now_us - rm_max64(sub->heard_us, sub->pinged_us) >= sub->ping_us)
    return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "%s gave no sign of life for %lld ms",
                         sub->conn->address, (long long)(silent_us / 1000));
  if (silent_us < sub->ping_us || sub->pinged) return 0;
  rm_expected expected = {RM_VERB_PING, 1, NULL, false};
  rm_request_begin(&sub->request, 1);
  rm_request_text(&sub->request, "PING");
  int rc = rm_request_end(&sub->request, 0, 0);
  rm_sub_lock(sub);
  if (rc == 0) rc = rm_buffer_append(&sub->expected, &expected, sizeof expected);
  rm_sub_unlock(sub);
  sub->pinged = rc == 0;
  sub->pinged_us = now_us;
  return rc == 0 ? 0 : rm_fail_nomem(err);
}

static int advance_changes(redmoon_subscription *sub, redmoon_error *err) {
  rm_sub_lock(sub);
  int rc = rm_changes_advance(sub);
  rm_sub_unlock(sub);
  return rc == 0 ? 0 : rm_fail_nomem(err);
}

static void step_live(redmoon_subscription *sub, int64_t now_us, rm_wants *wants) {
  redmoon_error err;
  int events = 0;
  bool was_blocked = sub->blocked;
  int received = receive_some(sub, now_us, &events, &err);
  bool blocked = sub->blocked;
  /* While nothing was read, nothing could be heard. */
  if (blocked || was_blocked) sub->heard_us = now_us;
  int rc = received < 0 ? received : 0;
  if (rc == 0) rc = advance_changes(sub, &err); /* those that an answer let begin, too */
  if (rc == 0 && !blocked) rc = watch(sub, now_us, &err);
  if (rc == 0) rc = send_some(sub, &events, &err);
  if (rc < 0) {
    lose(sub, received == REDMOON_EIO ? RM_CLOSE_PEER : RM_CLOSE_ERROR, &err, now_us);
    return;
  }
  if (blocked) {
    *wants = (rm_wants){-1, 0, RM_FOREVER};
    if (events != 0) *wants = (rm_wants){sub->conn->fd, events, RM_FOREVER};
    return;
  }
  int64_t due = sub->ping_us + (sub->pinged ? rm_max64(sub->heard_us, sub->pinged_us) : sub->heard_us);
  *wants = (rm_wants){sub->conn->fd, events | REDMOON_WANT_READ, received == RM_DONE ? due : now_us};
}

static bool is_wanted(redmoon_subscription *sub) {
  rm_sub_lock(sub);
  bool wanted = !rm_list_is_empty(&sub->changes);
  for (int kind = 0; kind < RM_KINDS; kind++) wanted |= sub->wanted[kind].count > 0;
  rm_sub_unlock(sub);
  return wanted;
}

/* A link that nobody needs any more. */
static void rest(redmoon_subscription *sub) {
  rm_sub_drop_link(sub, RM_CLOSE_IDLE);
  rm_sub_lock(sub);
  rm_buffer_reset(&sub->expected, 4096);
  sub->whole = sub->confirmed = false;
  rm_sub_unlock(sub);
  sub->failures = 0;
  sub->state = RM_LINK_IDLE;
}

static void step(rm_driven *driven, int64_t now_us, rm_wants *wants) {
  redmoon_subscription *sub = of(driven);
  redmoon_error ignored;
  int64_t tick_us = sub->sink != NULL ? sub->sink->tick(sub->sink_ctx, now_us) : RM_FOREVER;
  *wants = (rm_wants){-1, 0, RM_FOREVER};
  if (sub->state != RM_LINK_LIVE) (void)advance_changes(sub, &ignored); /* what needs no link */
  leave_old_node(sub, now_us);
  if (sub->state == RM_LINK_BACKOFF && now_us >= sub->wait_until_us) sub->state = RM_LINK_IDLE;
  if (sub->state == RM_LINK_IDLE && !is_ended(sub) && is_wanted(sub)) start_dial(sub, now_us, wants);
  if (sub->state == RM_LINK_DIAL) step_dial(sub, now_us, wants);
  if (sub->state == RM_LINK_LIVE) step_live(sub, now_us, wants);
  if (sub->sink != NULL && sub->state != RM_LINK_IDLE && !is_wanted(sub)) {
    rest(sub);
    *wants = (rm_wants){-1, 0, RM_FOREVER};
  }
  if (is_ended(sub)) {
    rm_sub_drop_link(sub, RM_CLOSE_SHUTDOWN);
    sub->state = RM_LINK_ENDED;
  }
  if (sub->state == RM_LINK_BACKOFF) *wants = (rm_wants){-1, 0, sub->wait_until_us};
  if (sub->state == RM_LINK_ENDED) *wants = (rm_wants){-1, 0, RM_FOREVER};
  else wants->until_us = rm_min64(wants->until_us, tick_us);
  rm_changes_tell_failed(sub);
}

static void end(rm_driven *driven) {
  redmoon_subscription *sub = of(driven);
  redmoon_error closed;
  rm_fail_closed(&closed);
  rm_sub_drop_link(sub, RM_CLOSE_SHUTDOWN);
  sub->state = RM_LINK_ENDED;
  rm_sub_lock(sub);
  rm_sub_end(sub, &closed);
  rm_sub_unlock(sub);
}

/* Its socket, under its number, becomes one that nobody is at the other end of: the server hears nothing of the child. */
static void forked(rm_driven *driven, bool busy) {
  redmoon_subscription *sub = of(driven);
  (void)busy;
  if (sub->conn == NULL) return;
  int dead = rm_conn_dead_socket();
  rm_conn_replace_socket(sub->conn, dead);
  if (dead >= 0) close(dead);
}

const rm_driven_class rm_sub_driven_class = {step, end, forked};
