/* SPDX-License-Identifier: MIT */
/* Extension and release of a lock over several servers: all are asked at once, most of them decide, the rest may answer for
 * as long again.
 *
 *      start --> ASKED --decided--> REST --> ended
 */
#include "patterns/redlock.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct redlock_change {
  redmoon_op op; /* first */
  redmoon_lock *lock; /* a reference */
  rm_redlock_round round;
  int64_t ttl_ms;     /* 0: a release */
  int64_t began_us;   /* boot clock */
  int64_t until_us;   /* of the rest; 0: it is not decided */
  bool begun;
  int why;            /* of a failure, whose text is in op.error; 0: there is none; or: */
} redlock_change;

enum { TOO_FEW = 1 }; /* servers agree; what they say makes the text, once the rest has answered */

static size_t quorum_of(const redlock_change *self) { return self->lock->redlock->redlock->quorum; }

static void decide(redlock_change *self, int why, int64_t now_us) {
  self->why = why;
  self->until_us = rm_redlock_rest_us(&self->round, now_us);
}

static int fail_votes(redlock_change *self, int status, redmoon_outcome outcome, const char *verb, const char *why) {
  redmoon_error *err = &self->op.error;
  rm_fail(err, status, "redlock '%s' %s: %s", self->lock->shown, verb, why);
  err->outcome = outcome;
  err->retryable = status == REDMOON_EUNAVAILABLE;
  err->attempts = 1;
  return status;
}

/* Extension. */

/* As many as must vote cannot any more, whoever of the others answers. */
static bool is_lost(const redlock_change *self, size_t count) { return self->round.count - count < quorum_of(self); }

static int not_extended(redlock_change *self) {
  const rm_vote_tally tally = rm_redlock_tally(&self->round, RM_VOTE_AGREE);
  if (is_lost(self, tally.held + tally.back)) {
    bool held = atomic_load(&self->lock->state) == LOCK_HOLDS || atomic_load(&self->lock->state) == LOCK_LOST;
    if (!held) return fail_votes(self, REDMOON_ELOST, REDMOON_ANSWERED, "could not be extended", "it was given back before");
    int status = rm_lock_lost(self->lock, RM_STATUS_LOCK_HELD, "it could be extended", &self->op.error);
    self->op.error.outcome = REDMOON_ANSWERED;
    return status;
  }
  if (tally.nomem > 0) return rm_fail_nomem(&self->op.error);
  char why[RM_REDLOCK_WHY];
  rm_redlock_say(&self->round, &tally, why);
  rm_client_count(self->lock->client, "redlock", "not_extended");
  return fail_votes(self, REDMOON_EUNAVAILABLE, REDMOON_UNKNOWN, "could not be extended", why);
}

static int extended(redlock_change *self, const rm_vote_tally *tally) {
  int64_t end_us = rm_lock_lease_end_us(self->began_us, rm_min64(self->ttl_ms, tally->left_ms));
  if (!rm_lock_prolong(self->lock, end_us))
    return fail_votes(self, REDMOON_ELOST, REDMOON_ANSWERED, "could not be extended",
                      atomic_load(&self->lock->state) == LOCK_LOST ? "its lease ended before the answers came"
                                                                   : "it was given back");
  rm_client_count(self->lock->client, "redlock", "extended");
  return 0;
}

static void look_at_votes(redlock_change *self, int64_t now_us) {
  const rm_vote_tally tally = rm_redlock_tally(&self->round, RM_VOTE_AGREE);
  if (tally.counted >= quorum_of(self)) decide(self, extended(self, &tally), now_us);
  else if (tally.counted + tally.under_way < quorum_of(self)) decide(self, TOO_FEW, now_us);
}

/* Release. */

/* Its key was there, or was given back by a request whose answer was lost. */
static void note_freed(redlock_change *self) {
  bool inside = rm_clock_boot_us() < atomic_load(&self->lock->until_us);
  for (size_t i = 0; i < self->round.count; i++) {
    const rm_vote *vote = &self->round.votes[i];
    rm_redlock_server *server = &self->lock->redlock->servers[i];
    if (vote->state != RM_VOTE_ANSWERED || server->asked_back) continue;
    server->asked_back = true;
    server->freed = vote->code == RM_STATUS_REDLOCK_OK || (inside && atomic_load(&server->maybe_freed));
  }
}

static int released(redlock_change *self) {
  redmoon_lock *lock = self->lock;
  atomic_store(&lock->state, LOCK_RELEASED);
  lock->holds = 0;
  rm_client_count(lock->client, "redlock", "released");
  return 0;
}

static int not_released(redlock_change *self) {
  size_t others = 0;
  for (size_t i = 0; i < self->round.count; i++) {
    const rm_redlock_server *server = &self->lock->redlock->servers[i];
    others += server->asked_back && !server->freed;
  }
  if (is_lost(self, others)) {
    int status = rm_lock_lost(self->lock, RM_STATUS_LOCK_GONE, "it was released", &self->op.error);
    self->op.error.outcome = REDMOON_ANSWERED;
    return status;
  }
  char why[RM_REDLOCK_WHY];
  const rm_vote_tally tally = rm_redlock_tally(&self->round, RM_VOTE_RELEASE);
  if (tally.nomem > 0) return rm_fail_nomem(&self->op.error);
  snprintf(why, sizeof why, "%zu of %zu servers have not answered", tally.failed, self->round.count);
  return fail_votes(self, REDMOON_EUNAVAILABLE, REDMOON_UNKNOWN, "may be held yet", why);
}

static void look_at_freed(redlock_change *self, size_t under_way, int64_t now_us) {
  size_t freed = 0, quorum = quorum_of(self);
  note_freed(self);
  for (size_t i = 0; i < self->round.count; i++) freed += self->lock->redlock->servers[i].freed;
  if (freed >= quorum) decide(self, released(self), now_us);
  else if (freed + under_way < quorum) decide(self, TOO_FEW, now_us);
}

/* The operation. */

static void begin(redlock_change *self, int64_t now_us) {
  const rm_redlock_part *part = self->lock->redlock;
  self->begun = true;
  self->began_us = rm_clock_boot_us();
  for (size_t i = 0; i < self->round.count; i++) {
    if (self->ttl_ms > 0) rm_redlock_take(&self->round, i, self->lock->fence, self->ttl_ms, now_us);
    else if (!part->servers[i].asked_back) rm_redlock_give_back(&self->round, i, now_us);
  }
}

static int step(redmoon_op *op, int64_t now_us) {
  redlock_change *self = (redlock_change *)op;
  if (!self->begun) begin(self, now_us);
  size_t under_way = rm_redlock_round_step(&self->round, now_us, &op->wants);
  if (self->until_us == 0 && self->ttl_ms > 0) look_at_votes(self, now_us);
  else if (self->until_us == 0) look_at_freed(self, under_way, now_us);
  else if (self->ttl_ms == 0) note_freed(self);
  if (self->until_us == 0) return RM_WAIT;
  if (under_way == 0 || now_us >= self->until_us) {
    rm_redlock_round_cut(&self->round);
    if (self->why == TOO_FEW) self->why = self->ttl_ms > 0 ? not_extended(self) : not_released(self);
    return self->why < 0 ? self->why : RM_DONE;
  }
  op->wants.until_us = rm_min64(op->wants.until_us, self->until_us);
  return RM_WAIT;
}

static void destroy(redmoon_op *op) {
  redlock_change *self = (redlock_change *)op;
  rm_redlock_round_close(&self->round);
  redmoon_client_close(op->client);
  rm_lock_unref(self->lock);
  rm_free(self);
}

static redmoon_outcome outcome(const redmoon_op *op) {
  return rm_redlock_round_outcome(&((const redlock_change *)op)->round);
}

static const rm_op_class change_class = {step, NULL, destroy, outcome};

static int change_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  redlock_change *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->op.class = &change_class;
  self->op.client = redmoon_client_ref(lock->client);
  self->op.wants.fd = -1;
  self->lock = lock;
  self->ttl_ms = ttl_ms;
  atomic_fetch_add(&lock->refs, 1);
  int status = rm_redlock_round_open(&self->round, lock, err);
  if (status < 0) destroy(&self->op);
  else *op = &self->op;
  return status;
}

int rm_redlock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  if (lock->max_hold_ms > 0) {
    int64_t boot_us = rm_clock_boot_us(), until_us = atomic_load(&lock->until_us);
    int64_t left_ms = (lock->redlock->since_us + lock->max_hold_ms * 1000 - boot_us) / 1000;
    bool gains = left_ms > 0 && rm_lock_lease_end_us(boot_us, left_ms) > until_us + 2000; /* less is rounding */
    if (left_ms < ttl_ms && !gains) {
      rm_fail(err, REDMOON_EUNAVAILABLE, "redlock '%s' cannot be prolonged beyond its max_hold: it ends in %" PRId64 " ms",
              lock->shown, rm_max64(until_us - boot_us, 0) / 1000);
      if (err != NULL) err->outcome = REDMOON_ANSWERED;
      return REDMOON_EUNAVAILABLE;
    }
    ttl_ms = rm_min64(ttl_ms, left_ms);
  }
  return change_start(lock, ttl_ms, op, err);
}

int rm_redlock_release_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err) {
  return change_start(lock, 0, op, err);
}
