/* SPDX-License-Identifier: MIT */
/* One attempt to take a lock over several servers.
 *
 *   ASK ----- more than half vote ----> AGREE ---- more than half have the fence ----> REST --> done
 *    | all are asked at once              | whoever voted gets the greatest fence        ^ who is late may answer yet
 *    |                                    |                                              | for as long again
 *    +------- so many cannot ------------>+----------------------------------------------+
 *                                                                                        v
 *                                            failed <--- UNDO (whoever may have voted gives it back)
 */
#include "patterns/redlock.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>

typedef enum attempt_stage { BEGIN, ASK, AGREE, REST, UNDO } attempt_stage;

typedef struct redlock_attempt {
  redmoon_op op; /* first; its client is the acquisition's */
  rm_redlock_acquisition *acquisition; /* outlives it */
  rm_redlock_round round;
  attempt_stage stage;
  bool last;
  int why;               /* of a failure, whose text is in op.error; 0: there is none; or: */
  int64_t asked_boot_us; /* when all were asked */
  int64_t agreed_boot_us; /* when they were told the fence */
  int64_t until_us;      /* of REST and UNDO; RM_FOREVER while who gave it has not answered */
  int64_t fence;
} redlock_attempt;

enum { TOO_FEW = 1 }; /* servers vote; what they say makes the text, once the rest has answered */

static const redmoon_redlock *redlock_of(const redlock_attempt *self) {
  return self->acquisition->lock->redlock->redlock;
}

static void ask(redlock_attempt *self, int64_t now_us) {
  redmoon_lock *lock = self->acquisition->lock;
  self->stage = ASK;
  self->asked_boot_us = rm_clock_boot_us();
  for (size_t i = 0; i < self->round.count; i++) rm_redlock_take(&self->round, i, 0, lock->ttl_ms, now_us);
}

/* Whoever has voted since the last look is told the fence. */
static void tell(redlock_attempt *self, int64_t now_us) {
  for (size_t i = 0; i < self->round.count; i++) {
    const rm_vote *vote = &self->round.votes[i];
    bool voted = vote->state == RM_VOTE_ANSWERED && vote->kind == RM_VOTE_ASK && vote->code == RM_STATUS_REDLOCK_OK;
    if (voted) rm_redlock_take(&self->round, i, self->fence, self->acquisition->lock->ttl_ms, now_us);
  }
}

/* Decided: the rest may answer yet. */
static void rest(redlock_attempt *self, int why, int64_t now_us) {
  self->why = why;
  self->stage = REST;
  self->until_us = rm_redlock_rest_us(&self->round, now_us);
}

static int fail_votes(redlock_attempt *self, const rm_vote_tally *tally, int64_t now_us) {
  rm_redlock_acquisition *acquisition = self->acquisition;
  const redmoon_lock *lock = acquisition->lock;
  redmoon_error *err = &self->op.error;
  char said[RM_REDLOCK_WHY], waited[80] = "";
  if (tally->twice > 0)
    return rm_fail(err, REDMOON_ECONFIG, "redlock '%s': two of its clients reach the same server, which has one vote",
                   lock->shown);
  if (tally->nomem > 0) return rm_fail_nomem(err);
  rm_redlock_say(&self->round, tally, said);
  if (acquisition->wait_ms > 0)
    snprintf(waited, sizeof waited, "; waited %" PRId64 " ms for it and asked %d times",
             (now_us - acquisition->since_us) / 1000, acquisition->looks);
  bool locked = tally->held > 0 && tally->counted + tally->held >= redlock_of(self)->quorum;
  if (self->last) rm_client_count(lock->client, "redlock", locked ? "held" : "unavailable");
  rm_fail(err, locked ? REDMOON_ELOCKED : REDMOON_EUNAVAILABLE, "redlock '%s': %s%s", lock->shown, said, waited);
  err->retryable = 1;
  return self->last ? err->status : REDMOON_ELOCKED;
}

static void look_at_votes(redlock_attempt *self, int64_t now_us) {
  const rm_vote_tally tally = rm_redlock_tally(&self->round, RM_VOTE_ASK);
  size_t quorum = redlock_of(self)->quorum;
  if (tally.twice > 0 || tally.counted + tally.under_way < quorum) {
    rest(self, TOO_FEW, now_us);
  } else if (tally.counted >= quorum) {
    self->fence = tally.fence;
    self->agreed_boot_us = rm_clock_boot_us();
    self->stage = AGREE;
    tell(self, now_us);
  }
}

/* The lock is held. */
static void take(redlock_attempt *self, const rm_vote_tally *tally, int64_t now_us) {
  redmoon_lock *lock = self->acquisition->lock;
  lock->fence = self->fence;
  lock->holds = 1;
  lock->redlock->since_us = self->asked_boot_us;
  atomic_store(&lock->until_us, rm_lock_lease_end_us(self->agreed_boot_us, rm_min64(lock->ttl_ms, tally->left_ms)));
  self->acquisition->began_us = self->agreed_boot_us;
  rest(self, 0, now_us);
}

/* What may be in the way of handing it out. */
static int check_lease(redlock_attempt *self) {
  const redmoon_lock *lock = self->acquisition->lock;
  redmoon_error *err = &self->op.error;
  int64_t boot_us = rm_clock_boot_us();
  if (boot_us < atomic_load(&lock->until_us)) return self->acquisition->renew ? rm_renewals_ready(lock->client, err) : 0;
  rm_client_count(lock->client, "redlock", "late");
  return rm_fail(err, REDMOON_ELOST,
                 "redlock '%s': its lease of %" PRId64 " ms ended before the answers came, after %" PRId64
                 " ms; a longer ttl is needed",
                 lock->shown, lock->ttl_ms, (boot_us - self->asked_boot_us) / 1000);
}

static void look_at_fences(redlock_attempt *self, int64_t now_us) {
  tell(self, now_us);
  const rm_vote_tally asked = rm_redlock_tally(&self->round, RM_VOTE_ASK), told = rm_redlock_tally(&self->round, RM_VOTE_AGREE);
  size_t quorum = redlock_of(self)->quorum;
  if (told.counted >= quorum) take(self, &told, now_us);
  else if (told.counted + told.under_way + asked.under_way < quorum) rest(self, TOO_FEW, now_us);
}

/* Giving back. */

/* Whether this server may have voted. */
static bool may_hold(const redlock_attempt *self, size_t index) {
  const rm_vote *vote = &self->round.votes[index];
  if (atomic_load(&self->acquisition->lock->redlock->servers[index].unsure)) return true;
  if (vote->state == RM_VOTE_FAILED) return vote->kind == RM_VOTE_AGREE || vote->call->op.error.outcome != REDMOON_NOT_SENT;
  return vote->state == RM_VOTE_ANSWERED && vote->code == RM_STATUS_REDLOCK_OK;
}

static void undo(redlock_attempt *self, int64_t now_us) {
  self->stage = UNDO;
  self->until_us = RM_FOREVER;
  for (size_t i = 0; i < self->round.count; i++) {
    if (may_hold(self, i)) rm_redlock_give_back(&self->round, i, now_us);
    else self->round.votes[i].state = RM_VOTE_NONE;
  }
}

/* Those that answered before have shown that they are there; for the others nobody waits for longer than for these. */
static bool undo_is_over(redlock_attempt *self, size_t under_way, int64_t now_us) {
  const rm_redlock_server *servers = self->acquisition->lock->redlock->servers;
  bool waits = false;
  for (size_t i = 0; i < self->round.count; i++)
    waits |= self->round.votes[i].state == RM_VOTE_UNDER_WAY && !atomic_load(&servers[i].unsure);
  if (!waits && self->until_us == RM_FOREVER) self->until_us = rm_redlock_rest_us(&self->round, now_us);
  return under_way == 0 || now_us >= self->until_us;
}

static int undone(redlock_attempt *self) {
  rm_redlock_round_cut(&self->round);
  size_t failed = rm_redlock_tally(&self->round, RM_VOTE_RELEASE).failed;
  self->op.error.outcome = failed == 0 ? REDMOON_ANSWERED : REDMOON_UNKNOWN;
  rm_client_count(self->acquisition->lock->client, "redlock", "undone");
  return self->why;
}

/* Steps. */

static int rested(redlock_attempt *self, int64_t now_us) {
  rm_redlock_round_cut(&self->round);
  const rm_vote_tally tally = rm_redlock_tally(&self->round, RM_VOTE_ASK | RM_VOTE_AGREE);
  self->acquisition->looks++;
  if (self->why == TOO_FEW || (self->why == 0 && tally.twice > 0)) {
    self->acquisition->left_ms = tally.other_left_ms;
    self->why = fail_votes(self, &tally, now_us);
  }
  if (self->why == 0 && (self->why = check_lease(self)) == 0) return RM_DONE;
  self->op.error.attempts = self->acquisition->looks;
  undo(self, now_us);
  return RM_WAIT;
}

static void begin(redlock_attempt *self, int64_t now_us) {
  rm_redlock_acquisition *acquisition = self->acquisition;
  if (acquisition->looks == 0) acquisition->since_us = now_us;
  rm_redlock_renew_id(acquisition->lock);
  ask(self, now_us);
}

/* Heeds what has come.  RM_WAIT, or how the attempt ended. */
static int heed(redlock_attempt *self, size_t under_way, int64_t now_us) {
  switch (self->stage) {
    case ASK: look_at_votes(self, now_us); return RM_WAIT;
    case AGREE: look_at_fences(self, now_us); return RM_WAIT;
    case REST:
      if (under_way == 0 || now_us >= self->until_us) return rested(self, now_us);
      if (self->why == 0) tell(self, now_us);
      return RM_WAIT;
    default: return undo_is_over(self, under_way, now_us) ? undone(self) : RM_WAIT;
  }
}

static int step(redmoon_op *op, int64_t now_us) {
  redlock_attempt *self = (redlock_attempt *)op;
  if (self->stage == BEGIN) begin(self, now_us);
  attempt_stage before;
  size_t requests;
  do { /* until there is nothing new to step */
    size_t under_way = rm_redlock_round_step(&self->round, now_us, &op->wants);
    before = self->stage;
    requests = self->round.requests;
    int status = heed(self, under_way, now_us);
    if (status != RM_WAIT) return status;
  } while (self->stage != before || self->round.requests != requests);
  if (self->stage >= REST) op->wants.until_us = rm_min64(op->wants.until_us, self->until_us);
  return RM_WAIT;
}

static void destroy(redmoon_op *op) {
  redlock_attempt *self = (redlock_attempt *)op;
  rm_redlock_round_close(&self->round);
  rm_free(self);
}

static redmoon_outcome outcome(const redmoon_op *op) {
  return rm_redlock_round_outcome(&((const redlock_attempt *)op)->round);
}

static const rm_op_class attempt_class = {step, NULL, destroy, outcome};

int rm_redlock_attempt_start(rm_redlock_acquisition *acquisition, bool last, redmoon_op **op, redmoon_error *err) {
  redlock_attempt *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->op.class = &attempt_class;
  self->op.client = acquisition->lock->client;
  self->op.wants.fd = -1;
  self->acquisition = acquisition;
  self->last = last;
  int status = rm_redlock_round_open(&self->round, acquisition->lock, err);
  if (status < 0) destroy(&self->op);
  else *op = &self->op;
  return status;
}
