/* SPDX-License-Identifier: MIT */
/* Transactions up to EXEC: begun, read in, queued, begun again, given up. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/plan.h"
#include "engine/script.h"
#include "engine/transaction_internal.h"

#include <stdio.h>

enum { DEFAULT_ATTEMPTS = 10, MAX_ATTEMPTS = 1000 };

/* What its operations share. */

rm_tx_op *rm_tx_op_new(redmoon_transaction *tx, const rm_op_class *class) {
  rm_tx_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return NULL;
  self->op.class = class;
  self->op.client = tx->call.op.client;
  self->tx = tx;
  return self;
}

void rm_tx_op_destroy(redmoon_op *op) {
  rm_tx_op *self = (rm_tx_op *)op;
  if (self->tx != NULL && op->status == RM_WAIT) { /* cancelled: whatever was under way is closed */
    rm_call_give_up(&self->tx->call);
    rm_call_give_up(&self->tx->resolve);
  }
  redmoon_reply_free(self->result);
  rm_free(self);
}

int rm_tx_step_call(rm_tx_op *self, rm_call *call, int64_t now_us) {
  call->op.may_block = self->op.may_block;
  call->op.owner = self->op.owner;
  call->fixed_deadline_us = self->tx->deadline_us;
  int rc = rm_call_step(&call->op, now_us);
  self->op.wants = call->op.wants;
  if (rc != RM_WAIT) rm_error_copy(&self->op.error, &call->op.error);
  return rc;
}

int64_t rm_tx_backoff_us(const redmoon_transaction *tx) {
  const rm_settings *settings = &tx->call.op.client->settings;
  int64_t bound = settings->min_backoff_us;
  for (int64_t i = 1; i < tx->attempt && bound < settings->max_backoff_us; i++) bound *= 2;
  return rm_random_upto(rm_min64(bound, settings->max_backoff_us));
}

void rm_tx_restart(redmoon_transaction *tx) {
  rm_request_reset(&tx->queue, (size_t)64 << 10);
  for (size_t i = 0; i < tx->script_count; i++) redmoon_script_unref(tx->scripts[i]);
  tx->script_count = 0;
  tx->watching = tx->writes = tx->ended = false;
  tx->queuing = tx->key_count == 0;
}

int rm_tx_check(const redmoon_transaction *tx, redmoon_error *err) {
  if (tx->ended) return rm_fail(err, REDMOON_ECONFIG, "the transaction has ended");
  if (!tx->watching || rm_call_is_holding(&tx->call)) return 0;
  rm_fail(err, REDMOON_EIO, "the connection that watched the keys of the transaction was lost; nothing was executed");
  if (err != NULL) err->retryable = 1;
  return REDMOON_EIO;
}

/* Begin. */

static int copy_keys(redmoon_transaction *tx, const redmoon_bytes *keys, size_t count, redmoon_error *err) {
  size_t total = 0;
  for (size_t i = 0; i < count; i++) {
    if (keys[i].ptr == NULL && keys[i].len != 0) return rm_fail(err, REDMOON_ECONFIG, "watched key %zu is NULL", i + 1);
    total += keys[i].len;
  }
  if (count == 0) return 0;
  tx->key_bytes = rm_alloc(total);
  tx->keys = rm_calloc(count, sizeof *tx->keys);
  if (tx->key_bytes == NULL || tx->keys == NULL) return rm_fail_nomem(err);
  char *at = tx->key_bytes;
  for (size_t i = 0; i < count; i++) {
    if (keys[i].len > 0) memcpy(at, keys[i].ptr, keys[i].len);
    tx->keys[i] = (redmoon_bytes){at, keys[i].len};
    at += keys[i].len;
  }
  tx->key_count = count;
  return 0;
}

static int format_watch(redmoon_transaction *tx, redmoon_error *err) {
  rm_call_reset(&tx->call);
  tx->call.hold = true;
  rm_request_begin(&tx->call.request, 1 + tx->key_count);
  rm_request_text(&tx->call.request, "WATCH");
  for (size_t i = 0; i < tx->key_count; i++) rm_request_arg(&tx->call.request, tx->keys[i].ptr, tx->keys[i].len);
  if (rm_request_end(&tx->call.request, RM_CALL_REPEATABLE, rm_command_find("WATCH", 5, NULL, 0)->index) != 0)
    return rm_fail_nomem(err);
  return 0;
}

enum { TX_START, TX_BACKOFF, TX_WATCH };

/* begin and again: (back-off,) WATCH. */
static int begin_step(redmoon_op *op, int64_t now_us) {
  rm_tx_op *self = (rm_tx_op *)op;
  redmoon_transaction *tx = self->tx;
  if (self->state == TX_START) {
    if (tx->attempt == 0) tx->deadline_us = now_us + op->client->settings.timeout_us;
    self->wake_us = tx->attempt == 0 ? now_us : now_us + rm_tx_backoff_us(tx);
    tx->attempt++;
    self->state = TX_BACKOFF;
  }
  if (self->state == TX_BACKOFF) {
    if (atomic_load(&op->client->core->closed)) return rm_fail_closed(&op->error);
    if (now_us >= tx->deadline_us)
      return rm_fail_phase(&op->error, REDMOON_ETIMEOUT, REDMOON_PHASE_BACKOFF,
                           "the transaction did not commit before its deadline (%lld attempts)",
                           (long long)tx->attempt - 1);
    if (now_us < self->wake_us) {
      op->wants = (rm_wants){-1, 0, rm_min64(self->wake_us, tx->deadline_us)};
      return RM_WAIT;
    }
    if (tx->key_count == 0) return RM_DONE;
    int rc = format_watch(tx, &op->error);
    if (rc != 0) return rc;
    self->state = TX_WATCH;
  }
  int rc = rm_tx_step_call(self, &tx->call, now_us);
  if (rc != RM_DONE) return rc;
  const redmoon_reply *reply = tx->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) {
    rc = rm_fail_server(&op->error, reply->as.text, reply->len);
    rm_call_release(&tx->call, true, now_us);
    return rc;
  }
  tx->watching = true;
  return RM_DONE;
}

static int begin_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  rm_tx_op *self = (rm_tx_op *)op;
  *self->out = self->tx;
  self->out = NULL;
  return 0;
}

static void begin_destroy(redmoon_op *op) {
  rm_tx_op *self = (rm_tx_op *)op;
  redmoon_transaction *unborn = self->out != NULL ? self->tx : NULL;
  rm_tx_op_destroy(op);
  redmoon_transaction_free(unborn);
}

static const rm_op_class begin_class = {begin_step, begin_finish, begin_destroy, NULL};
static const rm_op_class again_class = {begin_step, NULL, rm_tx_op_destroy, NULL};

int redmoon_transaction_begin_start(redmoon_client *client, const redmoon_bytes *keys, size_t key_count,
                                    const redmoon_transaction_options *options, redmoon_transaction **out,
                                    redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *out = NULL;
  rm_error_clear(err);
  int64_t attempts = options == NULL || options->max_attempts == REDMOON_UNSET ? DEFAULT_ATTEMPTS : options->max_attempts;
  if (attempts < 1 || attempts > MAX_ATTEMPTS)
    return rm_fail(err, REDMOON_ECONFIG, "option 'max_attempts': %lld is not accepted; it takes an integer from 1 to %d",
                   (long long)attempts, MAX_ATTEMPTS);
  redmoon_transaction *tx = rm_calloc(1, sizeof *tx);
  if (tx == NULL) return rm_fail_nomem(err);
  tx->slot = -1;
  tx->max_attempts = attempts;
  rm_call_init(&tx->call, client, true);
  rm_call_init(&tx->resolve, client, false);
  rm_request_init(&tx->queue);
  int rc = copy_keys(tx, keys, key_count, err);
  rm_tx_op *self = rc == 0 ? rm_tx_op_new(tx, &begin_class) : NULL;
  if (self == NULL) {
    redmoon_transaction_free(tx);
    return rc != 0 ? rc : rm_fail_nomem(err);
  }
  rm_tx_restart(tx);
  self->out = out;
  *op = &self->op;
  return 0;
}

int redmoon_transaction_begin(redmoon_client *client, const redmoon_bytes *keys, size_t key_count,
                              const redmoon_transaction_options *options, redmoon_transaction **out,
                              redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_transaction_begin_start(client, keys, key_count, options, out, &op, err), &op, err);
}

int redmoon_transaction_again_start(redmoon_transaction *tx, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (tx->attempt >= tx->max_attempts)
    return rm_fail(err, REDMOON_ECONFLICT, "the watched keys changed in each of %lld attempts", (long long)tx->attempt);
  rm_call_release(&tx->call, false, rm_clock_now_us());
  rm_tx_op *self = rm_tx_op_new(tx, &again_class);
  if (self == NULL) return rm_fail_nomem(err);
  rm_tx_restart(tx);
  *op = &self->op;
  return 0;
}

int redmoon_transaction_again(redmoon_transaction *tx, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_transaction_again_start(tx, &op, err), &op, err);
}

/* Commands at once. */

static int command_step(redmoon_op *op, int64_t now_us) {
  rm_tx_op *self = (rm_tx_op *)op;
  return rm_tx_step_call(self, &self->tx->call, now_us);
}

static int command_finish(redmoon_op *op, redmoon_error *err) {
  rm_tx_op *self = (rm_tx_op *)op;
  return rm_call_take_reply(&self->tx->call, 0, self->reply, err);
}

static redmoon_outcome command_outcome(const redmoon_op *op) {
  return rm_call_outcome(&((const rm_tx_op *)op)->tx->call.op);
}

static const rm_op_class command_class = {command_step, command_finish, rm_tx_op_destroy, command_outcome};

int redmoon_transaction_command_start(redmoon_transaction *tx, int argc, const char *const *argv, const size_t *lens,
                                      redmoon_reply **reply, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *reply = NULL;
  rm_error_clear(err);
  int rc = rm_tx_check(tx, err);
  if (rc != 0) return rc;
  if (tx->queuing)
    return rm_fail(err, REDMOON_ECONFIG, "commands are queued in this transaction; only before multi() do they run at once");
  rm_call_reset(&tx->call);
  tx->call.hold = true;
  if ((rc = rm_call_argv(&tx->call, argc, argv, lens, 0, err)) != 0) return rc;
  if (tx->watching && (rc = rm_check_slots(tx->call.op.client, &tx->call.request, &tx->keys[0], "transaction", err)) != 0) return rc;
  rm_tx_op *self = rm_tx_op_new(tx, &command_class);
  if (self == NULL) return rm_fail_nomem(err);
  self->reply = reply;
  *op = &self->op;
  return 0;
}

int redmoon_transaction_command(redmoon_transaction *tx, int argc, const char *const *argv, const size_t *lens,
                                redmoon_reply **reply, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_transaction_command_start(tx, argc, argv, lens, reply, &op, err), &op, err);
}

/* The queue. */

int redmoon_transaction_multi(redmoon_transaction *tx, redmoon_error *err) {
  rm_error_clear(err);
  int rc = rm_tx_check(tx, err);
  if (rc == 0) tx->queuing = true;
  return rc;
}

int redmoon_transaction_is_queuing(const redmoon_transaction *tx) { return tx->queuing; }

static int check_queue(const redmoon_transaction *tx, redmoon_error *err) {
  rm_error_clear(err);
  int rc = rm_tx_check(tx, err);
  if (rc == 0 && !tx->queuing)
    rc = rm_fail(err, REDMOON_ECONFIG, "commands run at once in this transaction until multi() is called");
  return rc;
}

/* The command was formatted into tx->call, which checks it; from there it moves to the queue. */
static int64_t enqueue(redmoon_transaction *tx, redmoon_error *err) {
  const rm_command *command = rm_command_at(tx->call.request.marks[0].tag);
  tx->call.request.marks[0].flags = 0;
  if (rm_request_append(&tx->queue, &tx->call.request) != 0) return rm_fail_nomem(err);
  tx->writes |= (command->flags & RM_COMMAND_READ) == 0;
  return (int64_t)tx->queue.count - 1;
}

int64_t redmoon_transaction_queue(redmoon_transaction *tx, int argc, const char *const *argv, const size_t *lens,
                                  redmoon_error *err) {
  int rc = check_queue(tx, err);
  if (rc != 0) return rc;
  rm_call_reset(&tx->call);
  if ((rc = rm_call_argv(&tx->call, argc, argv, lens, 0, err)) != 0) return rc;
  return enqueue(tx, err);
}

static int note_script(redmoon_transaction *tx, redmoon_script *script, redmoon_error *err) {
  for (size_t i = 0; i < tx->script_count; i++)
    if (tx->scripts[i] == script) return 0;
  redmoon_script **scripts = rm_realloc(tx->scripts, (tx->script_count + 1) * sizeof(redmoon_script *));
  if (scripts == NULL) return rm_fail_nomem(err);
  tx->scripts = scripts;
  scripts[tx->script_count++] = redmoon_script_ref(script);
  return 0;
}

int64_t redmoon_transaction_queue_script(redmoon_transaction *tx, redmoon_script *script,
                                         const redmoon_script_args *args, redmoon_error *err) {
  int rc = check_queue(tx, err);
  if (rc != 0) return rc;
  rm_call_reset(&tx->call);
  if ((rc = rm_call_evalsha(&tx->call, redmoon_script_sha1(script), args, 0, err)) != 0) return rc;
  if ((rc = note_script(tx, script, err)) != 0) return rc;
  return enqueue(tx, err);
}

/* Giving up. */

static const rm_op_class abandon_class = {command_step, NULL, rm_tx_op_destroy, NULL};
static int nothing_step(redmoon_op *op, int64_t now_us) {
  (void)op;
  (void)now_us;
  return RM_DONE;
}
static const rm_op_class nothing_class = {nothing_step, NULL, rm_tx_op_destroy, NULL};

int redmoon_transaction_abandon_start(redmoon_transaction *tx, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  bool unwatch = tx->watching && rm_call_is_holding(&tx->call);
  rm_tx_op *self = rm_tx_op_new(tx, unwatch ? &abandon_class : &nothing_class);
  if (self == NULL) return rm_fail_nomem(err);
  rm_call_reset(&tx->call);
  rm_tx_restart(tx);
  tx->ended = true;
  if (unwatch) {
    tx->call.hold = false;
    rm_request_begin(&tx->call.request, 1);
    rm_request_text(&tx->call.request, "UNWATCH");
    if (rm_request_end(&tx->call.request, RM_CALL_REPEATABLE, rm_command_find("UNWATCH", 7, NULL, 0)->index) != 0) {
      rm_call_release(&tx->call, false, rm_clock_now_us());
      rm_tx_op_destroy(&self->op);
      return rm_fail_nomem(err);
    }
  }
  *op = &self->op;
  return 0;
}

int redmoon_transaction_abandon(redmoon_transaction *tx, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_transaction_abandon_start(tx, &op, err), &op, err);
}

void redmoon_transaction_free(redmoon_transaction *tx) {
  if (tx == NULL) return;
  rm_tx_restart(tx);
  rm_tx_release_slot(tx);
  rm_call_fini(&tx->resolve);
  rm_call_release(&tx->call, false, rm_clock_now_us()); /* one that still watches is closed */
  rm_call_fini(&tx->call);
  rm_request_fini(&tx->queue);
  rm_free(tx->scripts);
  rm_free(tx->keys);
  rm_free(tx->key_bytes);
  rm_free(tx);
}

/* All of it. */

static int run_body(redmoon_transaction *tx, redmoon_transaction_fn fn, void *ctx, redmoon_reply **replies,
                    redmoon_error *err) {
  for (;;) {
    int rc = fn(ctx, tx, err);
    if (rc > 0) {
      rc = redmoon_transaction_abandon(tx, err);
      return rc == 0 ? 1 : rc;
    }
    bool committing = rc == 0;
    if (committing) rc = redmoon_transaction_exec(tx, replies, err);
    /* A body's own calls may have been answered by something that only they know how to repeat. */
    bool again = rc == REDMOON_ECONFLICT || (rc < 0 && err->retryable && (committing || err->outcome == REDMOON_NOT_SENT));
    if (!again || rc == REDMOON_EPOOL_TIMEOUT) return rc; /* pool_timeout is for the whole of it */
    if ((rc = redmoon_transaction_again(tx, err)) != 0) return rc;
  }
}

int redmoon_transaction_run(redmoon_client *client, const redmoon_bytes *keys, size_t key_count,
                            redmoon_transaction_fn fn, void *ctx, const redmoon_transaction_options *options,
                            redmoon_reply **replies, redmoon_error *err) {
  *replies = NULL;
  redmoon_error local; /* the loop needs the detail, whether or not the caller does */
  if (err == NULL) err = &local;
  redmoon_transaction *tx;
  int rc = redmoon_transaction_begin(client, keys, key_count, options, &tx, err);
  if (rc != 0) return rc;
  rc = run_body(tx, fn, ctx, replies, err);
  redmoon_transaction_free(tx);
  return rc;
}
