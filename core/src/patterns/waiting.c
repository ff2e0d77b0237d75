/* SPDX-License-Identifier: MIT */
/* Waiting: woken, or by asking again.
 *
 *     ATTEMPT --granted--> done        ATTEMPT --any other error--> failed
 *        |  ^
 *  LOCKED|  | woken, or the sleep is over (at the end of the wait at the latest: for a last attempt)
 *        v  |
 *       SLEEP                          LOCKED at the end of the wait, or for good --> failed
 *
 *  The first refusal makes it a waiter (engine/wakeups.h).  Its sleeps are short until its channel is confirmed; then they
 *  end with the lease that stands in its way, or when it is time for a look all the same. */
#include "patterns/waiting.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"
#include "engine/wakeups.h"

enum { FIRST_PAUSE_US = 8000, LONGEST_PAUSE_US = 250000, SHORTEST_PAUSE_US = 1000, AFTER_LEASE_US = 1000 };

typedef struct waiting_op {
  redmoon_op op; /* first */
  const rm_waiting_class *class;
  void *ctx;
  redmoon_op *attempt; /* NULL: sleeping, or not begun */
  int64_t wait_us;     /* as asked for */
  int64_t end_us;      /* of the wait; -1: not begun */
  int64_t wake_us;     /* when the next attempt begins */
  rm_waiter waiter;    /* from the first refusal on */
  rm_event event;      /* its */
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

static rm_core *core_of(const waiting_op *self) { return self->op.client->core; }

/* Without a descriptor, or a channel, it asks often. */
static void become_waiter(waiting_op *self) {
  const rm_waiting_class *class = self->class;
  if (class->channel == NULL || self->event.fd >= 0 || rm_event_open(&self->event) != 0) return;
  redmoon_bytes tag = class->tag != NULL ? class->tag(self->ctx) : (redmoon_bytes){NULL, 0};
  rm_waiter_join(&self->waiter, core_of(self), class->channel(self->ctx), tag, false, &self->event);
}

/* Until the lease ends, when all want it: the one that has waited longest at once, the others soon after.  But now and then
 * all the same: who gives back may not be allowed to publish, or the key is deleted by hand. */
static int64_t woken_pause_us(int64_t longest_us, int64_t retry_us, bool first) {
  int64_t pause = longest_us / 2 + rm_random_upto(longest_us - longest_us / 2);
  if (retry_us >= pause) return pause;
  return rm_min64(pause, retry_us + AFTER_LEASE_US + (first ? 0 : rm_random_upto(LONGEST_PAUSE_US)));
}

static void sleep_on(waiting_op *self, int64_t retry_us, int64_t now_us) {
  const rm_waiting_class *class = self->class;
  become_waiter(self);
  rm_waiter_view view = rm_waiter_sleep(&self->waiter, core_of(self));
  int64_t poll_us = core_of(self)->wakeups.poll_us, heartbeat_us = poll_us, pause;
  /* In a test that has changed it, that is all there is. */
  if (class->heartbeat_us != NULL && poll_us == RM_WAKEUPS_POLL_US) heartbeat_us = class->heartbeat_us(self->ctx);
  if (view.ready && heartbeat_us > 0) pause = woken_pause_us(heartbeat_us, retry_us, view.first);
  else if (class->pause_us != NULL) pause = class->pause_us(self->ctx, self->attempts);
  else pause = usual_pause_us(self->attempts, retry_us);
  self->wake_us = now_us + rm_min64(pause, self->end_us - now_us);
}

/* It was refused, and will ask again: on the server it is known again that somebody waits. */
static void go_on_waiting(waiting_op *self) {
  bool some = self->class->leaves_some != NULL && self->waiter.owes && self->class->leaves_some(self->ctx);
  rm_waiter_asked(&self->waiter);
  if (some) rm_waiter_pass(&self->waiter, core_of(self));
}

static void granted(waiting_op *self) {
  rm_waiter_asked(&self->waiter);
  rm_waiter_leave(&self->waiter, core_of(self), self->class->shared);
}

static int begin_attempt(waiting_op *self, int64_t now_us) {
  int64_t left_us = rm_max64(self->end_us - now_us, 0);
  self->attempts++;
  self->last = left_us == 0;
  rm_waiting_try try = {left_us, rm_waiter_look(&self->waiter, core_of(self)).others};
  int status = self->class->start(self->ctx, try, &self->attempt, &self->op.error);
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
  if (status < 0) return status;
  granted(self);
  return RM_DONE;
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
      bool woken = rm_waiter_take(&self->waiter, core_of(self));
      if (now_us < self->wake_us && !woken) {
        int fd = rm_waiter_fd(&self->waiter, core_of(self));
        op->wants = (rm_wants){fd, fd < 0 ? 0 : REDMOON_WANT_READ, self->wake_us};
        return RM_WAIT;
      }
      int status = begin_attempt(self, now_us);
      if (status < 0) return status;
    }
    int status = step_attempt(self, now_us);
    if (status != REDMOON_ELOCKED) return status;
    int64_t retry_us = self->class->retry_us(self->ctx);
    if (self->last || retry_us < 0) return status;
    go_on_waiting(self);
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
  rm_waiter_leave(&self->waiter, core_of(self), false);
  rm_event_close(&self->event);
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
  self->event = (rm_event)RM_EVENT_INIT;
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
