/* SPDX-License-Identifier: MIT */
/* Waiting by asking again.
 *
 *     ATTEMPT --granted--> done        ATTEMPT --any other error--> failed
 *        |  ^
 *  LOCKED|  | the sleep is over (at the end of the wait at the latest: for a last attempt)
 *        v  |
 *       SLEEP                          LOCKED at the end of the wait, or for good --> failed
 */
#include "patterns/waiting.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"

enum { FIRST_PAUSE_US = 8000, LONGEST_PAUSE_US = 250000, SHORTEST_PAUSE_US = 1000 };

typedef struct waiting_op {
  redmoon_op op; /* first */
  const rm_waiting_class *class;
  void *ctx;
  redmoon_op *attempt; /* NULL: sleeping, or not begun */
  int64_t wait_us;     /* as asked for */
  int64_t end_us;      /* of the wait; -1: not begun */
  int64_t wake_us;     /* when the next attempt begins */
  int attempts;        /* begun */
  bool last;           /* the one that was begun last is the last */
} waiting_op;

int64_t rm_waiting_bound_us(int attempts, int64_t first_us, int64_t longest_us) {
  int64_t bound = first_us;
  for (int i = 1; i < attempts && bound < longest_us; i++) bound *= 2;
  return rm_min64(bound, longest_us);
}

/* Full jitter, but never beyond the end of what stands in the way: it may be free then. */
static int64_t usual_pause_us(int attempts, int64_t retry_us) {
  int64_t bound = rm_waiting_bound_us(attempts, FIRST_PAUSE_US, LONGEST_PAUSE_US);
  return rm_max64(rm_random_upto(rm_min64(bound, retry_us)), SHORTEST_PAUSE_US);
}

static void sleep_on(waiting_op *self, int64_t retry_us, int64_t now_us) {
  int64_t pause = self->class->pause_us != NULL ? self->class->pause_us(self->ctx, self->attempts)
                                                : usual_pause_us(self->attempts, retry_us);
  self->wake_us = now_us + rm_min64(pause, self->end_us - now_us);
}

static int begin_attempt(waiting_op *self, int64_t now_us) {
  int64_t left_us = rm_max64(self->end_us - now_us, 0);
  self->attempts++;
  self->last = left_us == 0;
  int status = self->class->start(self->ctx, left_us, &self->attempt, &self->op.error);
  if (status < 0) self->attempt = NULL;
  return status;
}

/* RM_WAIT, RM_DONE, or how the attempt failed, with op->error. */
static int step_attempt(waiting_op *self, int64_t now_us) {
  redmoon_op *attempt = self->attempt;
  attempt->may_block = self->op.may_block;
  attempt->owner = self->op.owner;
  attempt->status = attempt->class->step(attempt, now_us);
  self->op.wants = attempt->wants;
  if (attempt->status == RM_WAIT) return RM_WAIT;
  self->attempt = NULL;
  int status = redmoon_op_finish(attempt, &self->op.error);
  return status < 0 ? status : RM_DONE;
}

static int waiting_step(redmoon_op *op, int64_t now_us) {
  waiting_op *self = (waiting_op *)op;
  if (self->end_us < 0) {
    self->end_us = now_us + self->wait_us;
    self->wake_us = now_us;
  }
  for (;;) {
    if (self->attempt == NULL) {
      if (atomic_load(&op->client->core->closed)) return rm_fail_closed(&op->error);
      if (now_us < self->wake_us) {
        op->wants = (rm_wants){-1, 0, self->wake_us};
        return RM_WAIT;
      }
      int status = begin_attempt(self, now_us);
      if (status < 0) return status;
    }
    int status = step_attempt(self, now_us);
    if (status != REDMOON_ELOCKED) return status;
    int64_t retry_us = self->class->retry_us(self->ctx);
    if (self->last || retry_us < 0) return status;
    sleep_on(self, retry_us, now_us); /* not at all, for the last, when the wait ended while it was asked */
  }
}

static int waiting_finish(redmoon_op *op, redmoon_error *err) {
  waiting_op *self = (waiting_op *)op;
  return self->class->finish(self->ctx, err);
}

static void waiting_destroy(redmoon_op *op) {
  waiting_op *self = (waiting_op *)op;
  redmoon_op_cancel(self->attempt);
  self->class->drop(self->ctx);
  redmoon_client_close(op->client);
  rm_free(self);
}

/* Attempts that were refused have changed nothing. */
static redmoon_outcome waiting_outcome(const redmoon_op *op) {
  const redmoon_op *attempt = ((const waiting_op *)op)->attempt;
  if (attempt == NULL || attempt->class->outcome == NULL) return REDMOON_NOT_SENT;
  return attempt->class->outcome(attempt);
}

static const rm_op_class waiting_op_class = {waiting_step, waiting_finish, waiting_destroy, waiting_outcome};

int rm_waiting_start(redmoon_client *client, const rm_waiting_class *class, void *ctx, int64_t wait_ms,
                     redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  waiting_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) {
    class->drop(ctx);
    return rm_fail_nomem(err);
  }
  self->op.class = &waiting_op_class;
  self->op.client = redmoon_client_ref(client);
  self->op.wants.fd = -1;
  self->class = class;
  self->ctx = ctx;
  self->wait_us = wait_ms * 1000;
  self->end_us = -1;
  *op = &self->op;
  return 0;
}

/* Nothing to do. */

static int nothing_step(redmoon_op *op, int64_t now_us) { return (void)op, (void)now_us, RM_DONE; }
static void nothing_destroy(redmoon_op *op) {
  redmoon_client_close(op->client);
  rm_free(op);
}
static const rm_op_class nothing_class = {nothing_step, NULL, nothing_destroy, NULL};

int rm_nothing_start(redmoon_client *client, redmoon_op **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  redmoon_op *op = rm_calloc(1, sizeof *op);
  if (op == NULL) return rm_fail_nomem(err);
  op->class = &nothing_class;
  op->client = redmoon_client_ref(client);
  op->wants.fd = -1;
  *out = op;
  return 0;
}

/* Time that passes. */

typedef struct pause_op {
  redmoon_op op; /* first */
  int64_t ms, end_us;
} pause_op;

static int pause_step(redmoon_op *op, int64_t now_us) {
  pause_op *self = (pause_op *)op;
  if (self->end_us < 0) self->end_us = now_us + self->ms * 1000;
  if (atomic_load(&op->client->core->closed)) return rm_fail_closed(&op->error);
  op->wants = (rm_wants){-1, 0, self->end_us};
  return now_us < self->end_us ? RM_WAIT : RM_DONE;
}

static const rm_op_class pause_class = {pause_step, NULL, nothing_destroy, NULL};

int rm_pause_start(redmoon_client *client, int64_t ms, redmoon_op **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  pause_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->op.class = &pause_class;
  self->op.client = redmoon_client_ref(client);
  self->op.wants.fd = -1;
  self->ms = ms;
  self->end_us = -1;
  *out = &self->op;
  return 0;
}
