/* SPDX-License-Identifier: MIT */
/* EXEC, and what became of it when its reply was lost.
 *
 *      [SCRIPT LOAD ...] MULTI, the queue, SET marker, EXEC   in one flight
 *            |
 *            +- answered: committed, conflict, or aborted
 *            +- EXEC was not sent whole: nothing was executed
 *            +- EXEC was sent and no reply came: on another connection
 *                    CLIENT KILL the old one (its input may still wait in the server), then GET marker
 *                    there: committed    not there, and the old one is dead: not committed
 *
 * A marker's key belongs to one transaction of a client at a time, so there are never more of them than transactions
 * under way; a marker lives a little longer than the transaction may. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/script.h"
#include "engine/call_internal.h"
#include "engine/plan.h"
#include "engine/redirect.h"
#include "engine/transaction_internal.h"

#include <limits.h>
#include <stdio.h>

enum { EXEC_START, EXEC_EXCHANGE, EXEC_RESOLVE };
enum { MARKER_SLACK_MS = 60000 };

static int take_slot(rm_core *core) {
  uint64_t used = atomic_load(&core->marker_slots);
  for (;;) {
    int slot = 0;
    while (slot < 64 && (used >> slot & 1) != 0) slot++;
    if (slot == 64) return 64; /* more at once than there are bits: a key of its own */
    if (atomic_compare_exchange_weak(&core->marker_slots, &used, used | (uint64_t)1 << slot)) return slot;
  }
}

void rm_tx_release_slot(redmoon_transaction *tx) {
  if (tx->slot >= 0 && tx->slot < 64)
    atomic_fetch_and(&tx->call.op.client->core->marker_slots, ~((uint64_t)1 << tx->slot));
  tx->slot = -1;
}

/* In a cluster the marker lies where the transaction's keys do. */
static void name_marker(redmoon_transaction *tx) {
  const redmoon_client *client = tx->call.op.client;
  char tag[RM_SLOT_TAG_MAX + 1], number[24];
  const char *prefix = rm_client_key_prefix(client), *own = client->core->token;
  redmoon_bytes key;
  bool cluster = rm_route_is_cluster(client->core->route) && rm_call_first_key(&tx->call, &key);
  if (cluster) rm_slot_tag_for(rm_slot_of(key.ptr, key.len), key.ptr, key.len, tag);
  if (cluster && strchr(prefix, '{') != NULL) prefix = "redmoon"; /* it has a tag of its own */
  snprintf(number, sizeof number, "%d", tx->slot);
  snprintf(tx->marker_key, sizeof tx->marker_key, "%s:{%s}:commit:%s%s%s", prefix, cluster ? tag : own, cluster ? own : "",
           cluster ? ":" : "", tx->slot < 64 ? number : tx->marker);
}

static int bare(rm_call *call, const char *name) {
  rm_request_begin(&call->request, 1);
  rm_request_text(&call->request, name);
  return rm_request_end(&call->request, RM_CALL_HIDDEN | RM_CALL_REPEATABLE, rm_command_find(name, strlen(name), NULL, 0)->index);
}

static int format_marker(redmoon_transaction *tx) {
  if (tx->slot < 0) tx->slot = take_slot(tx->call.op.client->core);
  rm_random_hex(tx->marker, 8);
  name_marker(tx);
  rm_request *request = &tx->call.request;
  rm_request_begin(request, 5);
  rm_request_text(request, "SET");
  rm_request_text(request, tx->marker_key);
  rm_request_text(request, tx->marker);
  rm_request_text(request, "PX");
  rm_request_integer(request, tx->call.op.client->settings.timeout_us / 1000 + MARKER_SLACK_MS);
  return rm_request_end(request, RM_CALL_HIDDEN | RM_CALL_REPEATABLE, rm_command_find("SET", 3, NULL, 0)->index);
}

/* Everything but EXEC may be sent again: without EXEC it does nothing. */
static int format_exec(redmoon_transaction *tx, redmoon_error *err) {
  rm_call *call = &tx->call;
  rm_call_reset(call);
  call->whole = true;
  call->hold = true; /* until it is clear that nothing is watched or queued on it any more */
  for (size_t i = 0; i < tx->script_count; i++) {
    redmoon_bytes source = rm_script_source(tx->scripts[i]);
    int rc = rm_call_script_load(call, source.ptr, source.len, err);
    if (rc != 0) return rc;
  }
  size_t first = call->request.count + 1;
  if (bare(call, "MULTI") != 0 || rm_request_append(&call->request, &tx->queue) != 0) return rm_fail_nomem(err);
  for (size_t i = first; i < call->request.count; i++) call->request.marks[i].flags = RM_CALL_REPEATABLE;
  if (tx->writes && format_marker(tx) != 0) return rm_fail_nomem(err);
  if (bare(call, "EXEC") != 0) return rm_fail_nomem(err);
  call->request.marks[call->request.count - 1].flags = RM_CALL_HIDDEN;
  return 0;
}

/* How it ended. */

/* The text of the first command that the server did not queue; a refused SCRIPT LOAD is not one. */
static const redmoon_reply *first_refusal(const redmoon_transaction *tx) {
  for (size_t i = tx->script_count; i + 1 < tx->call.request.count; i++) {
    const redmoon_reply *reply = tx->call.results[i].reply;
    if (reply != NULL && reply->type == REDMOON_ERROR) return reply;
  }
  return NULL;
}

/* EXEC was refused. */
static int aborted(redmoon_transaction *tx, const redmoon_reply *reply, redmoon_error *err) {
  const redmoon_reply *refusal = first_refusal(tx);
  int rc = rm_fail_server(err, reply->as.text, reply->len);
  if (refusal == NULL && rm_reply_sends_elsewhere(reply)) refusal = reply;
  if (refusal == NULL) return rc;
  char cause[256];
  rm_escape(cause, sizeof cause, refusal->as.text, refusal->len);
  snprintf(err->message, sizeof err->message, "EXECABORT nothing was executed because a command was refused: %s", cause);
  bool readonly = rm_reply_is_error(refusal, "READONLY");
  bool moved = rm_redirect_kind(refusal) != RM_NOT_REDIRECTED;
  redmoon_error ignored;
  if (moved) (void)rm_redirect_follow(&tx->call, refusal, tx->call.borrow.node, &ignored);
  err->retryable = moved || (rm_reply_is_refusal(refusal) && !(readonly && tx->redialled));
  tx->redialled |= readonly;
  return rc;
}

/* MULTI was refused, and what followed it was not queued but executed. */
static bool was_executed_singly(const redmoon_transaction *tx) {
  const rm_result *results = tx->call.results + tx->script_count;
  if (results[0].reply->type != REDMOON_ERROR) return false;
  for (size_t i = 1; i <= tx->queue.count; i++)
    if (results[i].reply->type != REDMOON_ERROR) return true;
  return false;
}

static int executed_singly(const redmoon_transaction *tx, redmoon_error *err) {
  const redmoon_reply *multi = tx->call.results[tx->script_count].reply;
  char cause[256];
  rm_escape(cause, sizeof cause, multi->as.text, multi->len);
  int rc = rm_fail_server(err, multi->as.text, multi->len);
  snprintf(err->message, sizeof err->message,
           "MULTI was refused, so the commands were executed one by one and not as a transaction: %s", cause);
  return rc;
}

/* Only an EXEC that ran or aborted leaves a connection on which nothing is watched or queued. */
static bool is_clean(const redmoon_reply *exec) {
  return exec->type == REDMOON_ARRAY || exec->type == REDMOON_NIL || rm_reply_is_error(exec, "EXECABORT") ||
         rm_reply_sends_elsewhere(exec);
}

static int conclude(rm_tx_op *self, int64_t now_us) {
  redmoon_transaction *tx = self->tx;
  rm_call *call = &tx->call;
  redmoon_error *err = &self->op.error;
  tx->watching = false; /* EXEC unwatches, or the connection is closed */
  tx->ended = true;
  redmoon_reply *reply = call->results[call->request.count - 1].reply;
  rm_call_release(call, is_clean(reply), now_us);
  if (was_executed_singly(tx)) return executed_singly(tx, err);
  if (reply->type == REDMOON_NIL) {
    rm_fail(err, REDMOON_ECONFLICT, "a watched key was changed by somebody else; nothing was executed");
    err->outcome = REDMOON_ANSWERED;
    return REDMOON_ECONFLICT;
  }
  if (reply->type == REDMOON_ERROR) return aborted(tx, reply, err);
  if (reply->type != REDMOON_ARRAY || reply->len != tx->queue.count + (tx->writes ? 1 : 0)) {
    rm_fail(err, REDMOON_EPROTOCOL, "EXEC was not answered by one reply for each command");
    err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  reply->len = tx->queue.count;
  /* Inside EXEC the call could not know whose replies they are. */
  size_t first = call->request.count - 1 - (tx->writes ? 1 : 0) - tx->queue.count;
  for (size_t i = 0; i < reply->len; i++)
    if (rm_call_adopt(call, first + i, &reply->as.items[i]) != 0) return rm_fail_nomem_answered(err);
  return rm_reply_detach(reply, &call->arena, &self->result) == 0 ? RM_DONE : rm_fail_nomem_answered(err);
}

/* Committed, but the replies went with the connection: each is an error that says so. */
static int conclude_lost(rm_tx_op *self) {
  static const char text[] = "LOST the transaction was committed; this reply was lost with its connection";
  rm_arena arena = {0};
  size_t count = self->tx->queue.count;
  redmoon_reply *array = rm_arena_alloc(&arena, sizeof *array);
  redmoon_reply *items = rm_arena_alloc(&arena, (count != 0 ? count : 1) * sizeof *items);
  char *copy = rm_arena_strndup(&arena, text, sizeof text - 1);
  if (array == NULL || items == NULL || copy == NULL) goto nomem;
  for (size_t i = 0; i < count; i++) {
    items[i] = (redmoon_reply){.type = REDMOON_ERROR, .len = sizeof text - 1};
    items[i].as.text = copy;
  }
  *array = (redmoon_reply){.type = REDMOON_ARRAY, .len = count};
  array->as.items = items;
  if (rm_reply_detach(array, &arena, &self->result) != 0) goto nomem;
  rm_error_clear(&self->op.error);
  self->tx->watching = false;
  self->tx->ended = true;
  return RM_DONE;
nomem:
  rm_arena_fini(&arena);
  return rm_fail_nomem_answered(&self->op.error);
}

/* A lost reply. */

static int format_resolve(redmoon_transaction *tx, redmoon_error *err) {
  char id[24];
  snprintf(id, sizeof id, "%lld", (long long)tx->call.client_id);
  const char *const kill[] = {"CLIENT", "KILL", "ID", id};
  const char *const get[] = {"GET", tx->marker_key};
  rm_call_reset(&tx->resolve);
  tx->resolve.borrow.pinned = tx->call.borrow.node; /* ids of clients are those of a server */
  tx->resolve.whole = true;
  tx->resolve.max_retries = INT_MAX; /* up to the deadline: until then it can still be learned */
  int rc = rm_call_argv(&tx->resolve, 4, kill, NULL, RM_CALL_REPEATABLE | RM_CALL_HIDDEN, err);
  return rc != 0 ? rc : rm_call_argv(&tx->resolve, 2, get, NULL, RM_CALL_REPEATABLE | RM_CALL_HIDDEN, err);
}

static bool is_dead(const redmoon_transaction *tx) {
  const redmoon_reply *killed = tx->resolve.results[0].reply;
  bool no_such = rm_reply_is_error(killed, "ERR") && strstr(killed->as.text, "No such client") != NULL;
  return tx->call.client_id != 0 && (killed->type == REDMOON_INTEGER || no_such);
}

/* What became of EXEC stays unknown.  Its marker may yet be written, so the key is not used again. */
static int unresolved(rm_tx_op *self) {
  self->op.error = self->tx->call.op.error;
  self->op.error.outcome = REDMOON_UNKNOWN;
  self->op.error.retryable = 0;
  self->tx->slot = -1;
  return self->op.error.status;
}

static int resolved(rm_tx_op *self) {
  redmoon_transaction *tx = self->tx;
  const redmoon_reply *marker = tx->resolve.results[1].reply;
  bool found = marker->type == REDMOON_STRING && strcmp(marker->as.text, tx->marker) == 0;
  if (!found && (marker->type == REDMOON_ERROR || !is_dead(tx))) return unresolved(self);
  rm_tx_release_slot(tx);
  if (found) return conclude_lost(self);
  rm_fail_phase(&self->op.error, REDMOON_EIO, REDMOON_PHASE_RECEIVE,
                "the connection was lost before EXEC took effect; nothing was executed");
  self->op.error.retryable = 1;
  return REDMOON_EIO;
}

/* The flight has failed.  RM_WAIT: it is being resolved. */
static int lost(rm_tx_op *self) {
  redmoon_transaction *tx = self->tx;
  const rm_call *call = &tx->call;
  bool unknown = call->request.count > 0 && call->results[call->request.count - 1].outcome == REDMOON_UNKNOWN;
  tx->ended = true;
  if (!unknown) {
    self->op.error.outcome = REDMOON_NOT_SENT; /* without EXEC nothing was executed, whatever was sent before it */
    return self->op.error.status;
  }
  if (!tx->writes || format_resolve(tx, &self->op.error) != 0) return unresolved(self);
  self->state = EXEC_RESOLVE;
  return RM_WAIT;
}

static int exec_step(redmoon_op *op, int64_t now_us) {
  rm_tx_op *self = (rm_tx_op *)op;
  redmoon_transaction *tx = self->tx;
  if (self->state == EXEC_START) {
    int rc = format_exec(tx, &op->error);
    if (rc != 0) return rc;
    self->state = EXEC_EXCHANGE;
  }
  if (self->state == EXEC_EXCHANGE) {
    int rc = rm_tx_step_call(self, &tx->call, now_us);
    if (rc == RM_WAIT) return RM_WAIT;
    if (rc == RM_DONE) {
      rm_tx_release_slot(tx);
      return conclude(self, now_us);
    }
    if ((rc = lost(self)) < 0) return rc;
  }
  int rc = rm_tx_step_call(self, &tx->resolve, now_us);
  if (rc == RM_WAIT) return RM_WAIT;
  return rc == RM_DONE ? resolved(self) : unresolved(self);
}

static int exec_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  rm_tx_op *self = (rm_tx_op *)op;
  *self->reply = self->result;
  self->result = NULL;
  return 0;
}

static void exec_destroy(redmoon_op *op) {
  redmoon_transaction *tx = ((rm_tx_op *)op)->tx;
  if (op->status == RM_WAIT) { /* cancelled: EXEC may have been sent */
    tx->ended = true;
    tx->slot = -1;
  }
  rm_tx_op_destroy(op);
}

/* Nothing is executed without EXEC. */
static redmoon_outcome exec_outcome(const redmoon_op *op) {
  const rm_tx_op *self = (const rm_tx_op *)op;
  const rm_call *call = &self->tx->call;
  if (self->state == EXEC_RESOLVE) return REDMOON_UNKNOWN;
  return self->state == EXEC_START ? REDMOON_NOT_SENT : rm_call_outcome_at(call, call->request.count - 1);
}

static const rm_op_class exec_class = {exec_step, exec_finish, exec_destroy, exec_outcome};

int redmoon_transaction_exec_start(redmoon_transaction *tx, redmoon_reply **replies, redmoon_op **op,
                                   redmoon_error *err) {
  *op = NULL;
  *replies = NULL;
  rm_error_clear(err);
  int rc = rm_tx_check(tx, err);
  if (rc == 0 && tx->watching) rc = rm_check_slots(tx->call.op.client, &tx->queue, &tx->keys[0], "transaction", err);
  if (rc != 0) return rc;
  rm_tx_op *self = rm_tx_op_new(tx, &exec_class);
  if (self == NULL) return rm_fail_nomem(err);
  self->reply = replies;
  *op = &self->op;
  return 0;
}

int redmoon_transaction_exec(redmoon_transaction *tx, redmoon_reply **replies, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_transaction_exec_start(tx, replies, &op, err), &op, err);
}
