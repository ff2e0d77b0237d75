/* SPDX-License-Identifier: MIT */
/* One attempt of a call on its connection: the request goes out while the replies come in, so that neither side can
 * block the other, however long the pipeline.
 *
 *      send what the socket takes -> receive what is there -> wait for either -> ...   all answered -> done
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/call_internal.h"
#include "wire/shape.h"

#include <stdio.h>

/* Commands that were answered in an earlier attempt are not sent again, but for SCRIPT LOAD: what is left may run a script,
 * on a server that never got it or has lost it since.  So what goes out is not one piece of the request. */
static bool is_again(const rm_call *call, size_t index) { return (call->request.marks[index].flags & RM_CALL_AGAIN) != 0; }

/* Where the piece that holds offset `*at` ends; *at is moved to the next piece when it is in none. */
static size_t piece_end(const rm_call *call, size_t *at) {
  const rm_mark *marks = call->request.marks;
  for (size_t i = 0; i < call->resumed; i++) {
    if (marks[i].end <= *at) continue;
    if (is_again(call, i)) return marks[i].end;
    *at = marks[i].end;
  }
  return rm_buffer_len(&call->request.bytes);
}

/* The mark that the next reply answers. */
static size_t mark_due(rm_call *call) {
  while (call->again < call->resumed && !is_again(call, call->again)) call->again++;
  return call->again < call->resumed ? call->again : call->answered;
}

/* An attempt begins on this connection. */
static void begin_on(rm_call *call, const rm_conn *conn) {
  call->client_id = conn->client_id;
  call->protocol = conn->protocol;
  if (call->whole) call->answered = 0;
  call->resumed = call->answered;
  call->again = call->sent = 0;
  call->asking_sent = 0;
  call->asking_due = call->asking;
  piece_end(call, &call->sent);
}

void rm_exchange_begin(rm_call *call, int64_t now_us) {
  call->state = CALL_EXCHANGE;
  begin_on(call, call->borrow.lease.conn);
  call->maybe_sent = call->sent;
  call->send_by_us = now_us + call->op.client->settings.write_timeout_us;
  call->receive_by_us = RM_FOREVER;
  call->listening = false;
}

void rm_exchange_judge(rm_call *call) {
  for (size_t i = call->answered; i < call->request.count; i++) call->results[i].outcome = rm_call_outcome_at(call, i);
}

int rm_exchange_fail(rm_call *call, rm_close_reason why, int64_t now_us) {
  snprintf(call->op.error.address, sizeof call->op.error.address, "%s", call->borrow.lease.conn->address);
  rm_exchange_judge(call);
  rm_pool_discard(&call->borrow.lease, why, now_us);
  return call->op.error.status;
}

static bool all_sent(const rm_call *call) { return call->sent == rm_buffer_len(&call->request.bytes); }

static int timed_out(rm_call *call, int64_t now_us) {
  bool sending = !all_sent(call);
  int64_t by = sending ? call->send_by_us : call->receive_by_us;
  const rm_settings *settings = &call->op.client->settings;
  if (call->deadline_us <= by)
    rm_fail_phase(&call->op.error, REDMOON_ETIMEOUT, sending ? REDMOON_PHASE_SEND : REDMOON_PHASE_RECEIVE,
                  "%s did not %s before the call's deadline (timeout %lld ms)", call->borrow.lease.conn->address,
                  sending ? "take the request" : "answer", (long long)(settings->timeout_us / 1000));
  else
    rm_fail_phase(&call->op.error, REDMOON_ETIMEOUT, sending ? REDMOON_PHASE_SEND : REDMOON_PHASE_RECEIVE,
                  sending ? "%s did not take the request within %lld ms" : "%s did not answer within %lld ms",
                  call->borrow.lease.conn->address,
                  (long long)((sending ? settings->write_timeout_us : settings->read_timeout_us) / 1000));
  return rm_exchange_fail(call, RM_CLOSE_ERROR, now_us);
}

/* The peer takes no more.  What it had answered before still counts, and may say why. */
static int send_failed(rm_call *call, int64_t now_us) {
  redmoon_error why = call->op.error, ignored;
  why.phase = REDMOON_PHASE_SEND;
  while (rm_conn_receive(call->borrow.lease.conn, false, &ignored) > 0 && rm_exchange_take(call, call->borrow.lease.conn) == 0) {
  }
  call->op.error = why;
  return rm_exchange_fail(call, RM_CLOSE_ERROR, now_us);
}

/* In front of a request that a node is to serve though the slot is not its own yet.  RM_DONE, 0 or negative. */
static int send_asking(rm_call *call, int64_t now_us, int *events) {
  static const char asking[] = "*1\r\n$6\r\nASKING\r\n";
  while (call->asking && call->asking_sent < sizeof asking - 1) {
    ssize_t n = rm_conn_send(call->borrow.lease.conn, asking + call->asking_sent, sizeof asking - 1 - call->asking_sent, NULL, &call->op.error);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return 0;
    }
    if (n < 0) return send_failed(call, now_us);
    call->asking_sent += (size_t)n;
  }
  return RM_DONE;
}

/* Sends what the socket takes.  0 or negative; *events gets what to wait for. */
static int send_some(rm_call *call, int64_t now_us, int *events) {
  int rc = send_asking(call, now_us, events);
  if (rc != RM_DONE) return rc;
  rm_conn *conn = call->borrow.lease.conn;
  const char *bytes = rm_buffer_begin(&call->request.bytes);
  size_t total = rm_buffer_len(&call->request.bytes);
  while (call->sent < total) {
    size_t maybe = 0, end = piece_end(call, &call->sent);
    ssize_t n = rm_conn_send(conn, bytes + call->sent, end - call->sent, &maybe, &call->op.error);
    if (call->sent + maybe > call->maybe_sent) call->maybe_sent = call->sent + maybe;
    if (n > 0) {
      call->sent += (size_t)n;
      continue;
    }
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return 0;
    }
    return send_failed(call, now_us);
  }
  if (call->receive_by_us == RM_FOREVER && call->block_us != RM_FOREVER)
    call->receive_by_us = now_us + call->op.client->settings.read_timeout_us + call->block_us;
  return 0;
}

/* Servers quote arguments in some errors.  Of a command that carries secrets nothing of the text is safe but its code. */
static int hush(rm_call *call, const rm_command *command, redmoon_reply *reply) {
  reply->len = rm_error_shown_len(reply->as.text, reply->len);
  reply->as.text[reply->len] = '\0';
  if ((command->flags & RM_COMMAND_SECRET) == 0) return 0;
  size_t cap = reply->len + 128;
  char *text = rm_arena_alloc(&call->arena, cap);
  if (text == NULL) return REDMOON_ENOMEM;
  int code = (int)strcspn(reply->as.text, " ");
  int len = snprintf(text, cap, "%.*s %s was refused; the server's text is not shown, because it may quote a secret", code,
                     reply->as.text, command->name);
  reply->as.text = text;
  reply->len = (size_t)len < cap ? (size_t)len : cap - 1;
  return 0;
}

static int reshape(rm_call *call, size_t index, redmoon_reply *reply) {
  size_t argc = rm_call_args(call, index, NULL, 0);
  redmoon_bytes *args = rm_arena_alloc(&call->arena, argc * sizeof *args);
  rm_shape_arg *rest = rm_arena_alloc(&call->arena, argc * sizeof *rest);
  if (args == NULL || rest == NULL) return REDMOON_ENOMEM;
  rm_call_args(call, index, args, argc);
  for (size_t i = 1; i < argc; i++) rest[i - 1] = (rm_shape_arg){args[i].ptr, args[i].len};
  unsigned shape = rm_shape_of(args[0].ptr, args[0].len, rest, argc - 1);
  return shape == 0 ? 0 : rm_shape_apply(shape, reply, &call->arena);
}

int rm_call_adopt(rm_call *call, size_t index, redmoon_reply *reply) {
  if (reply->type == REDMOON_ERROR) return hush(call, rm_command_at(call->request.marks[index].tag), reply);
  return call->protocol == 2 ? reshape(call, index, reply) : 0;
}

int rm_exchange_take(rm_call *call, rm_conn *conn) {
  while (call->answered < call->request.count) {
    redmoon_reply *reply;
    int rc = rm_conn_next(conn, &call->arena, &reply, &call->op.error);
    if (rc <= 0) return rc;
    if (reply->type == REDMOON_PUSH) continue;
    if (call->asking_due) { /* a refusal of it shows in what follows */
      call->asking_due = false;
      continue;
    }
    size_t mark = mark_due(call);
    if (call->maybe_sent < call->request.marks[mark].end)
      return rm_fail_phase(&call->op.error, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE,
                           "%s answered a command before it was sent", conn->address);
    if (mark < call->resumed) { /* whether it was loaded shows where it is run */
      call->again++;
      continue;
    }
    if (reply->type == REDMOON_ERROR) call->saw_error = true;
    if (rm_call_adopt(call, call->answered, reply) != 0) return rm_fail_nomem(&call->op.error);
    call->results[call->answered++] = (rm_result){reply, REDMOON_ANSWERED};
  }
  return 1;
}

/* Bytes behind the last reply: whole pushes are nobody's answer; anything else means that replies and commands may be
 * out of step, so the connection is not used again. */
static void drop_surplus(rm_call *call, int64_t now_us) {
  rm_conn *conn = call->borrow.lease.conn;
  while (rm_reader_has_bytes(conn->reader)) {
    redmoon_reply *reply;
    redmoon_error ignored;
    if (rm_conn_next(conn, &call->arena, &reply, &ignored) == 1 && reply->type == REDMOON_PUSH) continue;
    rm_pool_discard(&call->borrow.lease, RM_CLOSE_DIRTY, now_us);
    return;
  }
}

/* Whether the next receive may block in the kernel, which saves a poll: only as long as its own limit, the socket's
 * receive timeout, ends before ours does. */
static bool may_wait(const rm_call *call, int64_t now_us) {
  const rm_conn *conn = call->borrow.lease.conn;
  return call->op.may_block && conn->ssl == NULL && all_sent(call) && conn->receive_timeout_us > 0 &&
         rm_min64(call->receive_by_us, call->deadline_us) - now_us >= conn->receive_timeout_us;
}

/* Receives and takes replies until all are there or nothing is; `wait`: the first receive may block.  1, 0, or
 * negative. */
static int receive_some(rm_call *call, bool wait, int64_t now_us, int *events) {
  rm_conn *conn = call->borrow.lease.conn;
  for (;;) {
    ssize_t n = rm_conn_receive(conn, wait, &call->op.error);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return 0;
    }
    int rc = 0;
    if (n > 0)
      rc = rm_exchange_take(call, conn);
    else if (n == RM_IO_EOF)
      rc = rm_fail_phase(&call->op.error, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "%s closed the connection", conn->address);
    else
      rc = call->op.error.status;
    if (rc > 0) return rc;
    if (rc < 0) {
      call->op.error.phase = REDMOON_PHASE_RECEIVE;
      return rm_exchange_fail(call, n == RM_IO_EOF ? RM_CLOSE_PEER : RM_CLOSE_ERROR, now_us);
    }
    now_us = rm_clock_now_us(); /* a long reply can take long to arrive, and a dripped one for ever */
    if (now_us >= rm_min64(call->receive_by_us, call->deadline_us)) return timed_out(call, now_us);
    wait = may_wait(call, now_us);
  }
}

int rm_exchange_step(rm_call *call, int64_t now_us) {
  int events = 0;
  int rc = send_some(call, now_us, &events);
  if (rc < 0) return rc;
  bool wait = may_wait(call, now_us);
  if (call->listening || wait) {
    rc = receive_some(call, wait, now_us, &events);
    if (rc < 0) return rc;
    if (rc == 1) {
      if (rm_reader_has_bytes(call->borrow.lease.conn->reader)) drop_surplus(call, now_us);
      return RM_DONE;
    }
    now_us = call->op.may_block ? rm_clock_now_us() : now_us; /* the receive may have waited */
  }
  call->listening = true;
  int64_t by = rm_min64(call->deadline_us, all_sent(call) ? call->receive_by_us : call->send_by_us);
  if (now_us >= by) return timed_out(call, now_us);
  call->op.wants = (rm_wants){call->borrow.lease.conn->fd, events | REDMOON_WANT_READ, by};
  return RM_WAIT;
}

/* On a connection that is shared. */

int rm_exchange_copy(rm_call *call, const rm_conn *conn, rm_buffer *out) {
  begin_on(call, conn);
  const char *bytes = rm_buffer_begin(&call->request.bytes);
  size_t total = rm_buffer_len(&call->request.bytes);
  for (size_t at = call->sent, end; at < total; at = end) {
    end = piece_end(call, &at);
    if (at < end && rm_buffer_append(out, bytes + at, end - at) != 0) return REDMOON_ENOMEM;
  }
  call->sent = call->maybe_sent = total; /* as far as the replies are concerned */
  return 0;
}

void rm_exchange_note_sent(rm_call *call, size_t count) {
  size_t at = 0;
  while (count > 0 && at < rm_buffer_len(&call->request.bytes)) {
    size_t end = piece_end(call, &at), piece = end - at;
    if (piece > count) piece = count;
    at += piece;
    count -= piece;
  }
  call->maybe_sent = at;
}

size_t rm_exchange_due(const rm_call *call) {
  size_t due = call->request.count - call->answered;
  for (size_t i = call->again; i < call->resumed; i++) due += is_again(call, i);
  return due;
}
