/* SPDX-License-Identifier: MIT */
/* One attempt to take a lock: the question, and what follows when it was granted.
 *
 *     start --> ASK --held by another--> LOCKED
 *                |
 *                +--acquired--> REPLICAS (WAIT, on the same connection) --> done
 *                |                  | too few, or none to ask
 *                |                  v
 *                +-- no thread --> UNDO (release) --> UNAVAILABLE
 */
#include "patterns/lock_internal.h"

#include "base/clock.h"
#include "base/digits.h"
#include "base/error.h"
#include "engine/replicas.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef enum attempt_stage { ASK, REPLICAS, UNDO } attempt_stage;

typedef struct lock_attempt {
  rm_call call; /* first: its op is this one's */
  rm_lock_acquisition *acquisition; /* outlives it */
  attempt_stage stage;
  bool last;   /* no other follows */
  bool others; /* of this client wait, too */
  int why;   /* the status that UNDO ends with; its text is in `error` */
  redmoon_error error;
} lock_attempt;

static int ask(lock_attempt *self, redmoon_error *err) {
  rm_lock_acquisition *acquisition = self->acquisition;
  const redmoon_lock *lock = acquisition->lock;
  bool fair = acquisition->fair;
  char ttl[RM_DIGITS_MAX], max[RM_DIGITS_MAX];
  bool waits = fair || !self->last || self->others; /* else the script need not know of it */
  redmoon_bytes keys[LOCK_KEYS + 1] = {lock->keys[LOCK_KEY], lock->keys[LOCK_FENCE_KEY]};
  size_t count = 2;
  if (fair) keys[count++] = lock->keys[LOCK_QUEUE_KEY];
  keys[count++] = lock->keys[LOCK_BEATS_KEY];
  if (lock->request_key.ptr != NULL) keys[count++] = lock->request_key;
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES},
                                {ttl, rm_int64_put(ttl, lock->ttl_ms)},
                                {lock->id, 2 * LOCK_ID_BYTES},
                                {max, rm_int64_put(max, lock->max_hold_ms)},
                                {self->last ? "0" : "1", 1},
                                {self->others ? "1" : "0", 1}};
  const redmoon_script_args all = {keys, count, args, waits ? 6 : 4};
  self->stage = ASK;
  acquisition->began_us = rm_clock_boot_us();
  rm_call_reset(&self->call);
  self->call.hold = acquisition->min_replicas > 0;
  return rm_builtin_format(&self->call, fair ? &rm_script_lock_acquire_fair : &rm_script_lock_acquire, &all,
                           RM_CALL_REPEATABLE, err);
}

static int refused(lock_attempt *self, int64_t code, int64_t now_us) {
  rm_lock_acquisition *acquisition = self->acquisition;
  redmoon_error *err = &self->call.op.error;
  const redmoon_lock *lock = acquisition->lock;
  const redmoon_reply *answer = self->call.results[0].reply;
  acquisition->code = code;
  int status = rm_lock_answer_at(lock, answer, 2, &acquisition->left_ms, err);
  if (status == 0 && acquisition->fair) status = rm_lock_answer_at(lock, answer, 3, &acquisition->place, err);
  if (status < 0) return status;
  char waited[80] = "";
  if (acquisition->wait_ms > 0)
    snprintf(waited, sizeof waited, "; waited %" PRId64 " ms for it and asked %d times",
             (now_us - acquisition->since_us) / 1000, acquisition->looks);
  if (self->last) rm_client_count(lock->client, "lock", "held");
  rm_fail(err, REDMOON_ELOCKED, "lock '%s' is %s, for %" PRId64 " ms more at most%s", lock->shown,
          code == RM_STATUS_LOCK_QUEUED ? "free, but kept for others, who wait in turn" : "held by another",
          acquisition->left_ms, waited);
  err->outcome = REDMOON_ANSWERED;
  err->attempts = acquisition->looks;
  err->retryable = 1;
  return REDMOON_ELOCKED;
}

/* After an acquisition. */

/* The lock is given back, and the operation ends with `status`, whose text is in self->error. */
static int undo(lock_attempt *self, int status, int64_t now_us) {
  const redmoon_lock *lock = self->acquisition->lock;
  rm_call_release(&self->call, true, now_us);
  self->why = status;
  self->stage = UNDO;
  rm_call_reset(&self->call);
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES}, {lock->id, 2 * LOCK_ID_BYTES}};
  const redmoon_script_args all = {&lock->keys[LOCK_KEY], 1, args, 2};
  rm_client_count(lock->client, "lock", "undone");
  return rm_builtin_format(&self->call, &rm_script_lock_release, &all, RM_CALL_REPEATABLE, &self->call.op.error);
}

static int ask_replicas(lock_attempt *self, redmoon_error *err) {
  self->stage = REPLICAS;
  int64_t wait_ms = rm_max64(rm_min64(self->acquisition->lock->ttl_ms / 3, RM_REPLICAS_MS), 1);
  return rm_replicas_ask(&self->call, self->acquisition->min_replicas, wait_ms, err);
}

/* Held, and nothing is left to ask the server. */
static int ready(lock_attempt *self, int64_t now_us) {
  redmoon_lock *lock = self->acquisition->lock;
  redmoon_error *err = &self->call.op.error;
  int64_t boot_us = rm_clock_boot_us();
  if (boot_us >= atomic_load(&lock->until_us)) {
    rm_client_count(lock->client, "lock", "late");
    rm_fail(err, REDMOON_ELOST,
            "lock '%s': its lease of %" PRId64 " ms ended before the answer came, after %" PRId64
            " ms; a longer ttl is needed",
            lock->shown, lock->ttl_ms, (boot_us - self->acquisition->began_us) / 1000);
    err->outcome = REDMOON_ANSWERED;
    err->attempts = self->acquisition->looks;
    return REDMOON_ELOST;
  }
  if (!self->acquisition->renew || rm_renewals_ready(lock->client, &self->error) == 0) return RM_DONE;
  return undo(self, REDMOON_EUNAVAILABLE, now_us);
}

/* Those of an earlier request with the same id may stand in the answer. */
static int adopt(lock_attempt *self, const redmoon_reply *answer) {
  redmoon_lock *lock = self->acquisition->lock;
  size_t token_len = 0, id_len = 0;
  const redmoon_reply *token_item = redmoon_reply_at(answer, 4), *id_item = redmoon_reply_at(answer, 5);
  const char *token = token_item == NULL ? NULL : redmoon_reply_string(token_item, &token_len);
  const char *id = id_item == NULL ? NULL : redmoon_reply_string(id_item, &id_len);
  if (token == NULL || id == NULL || token_len != 2 * LOCK_TOKEN_BYTES || id_len != 2 * LOCK_ID_BYTES)
    return rm_fail(&self->call.op.error, REDMOON_EPROTOCOL, "lock '%s': the script's answer has no token", lock->shown);
  memcpy(lock->token, token, token_len);
  memcpy(lock->id, id, id_len);
  return 0;
}

static int asked(lock_attempt *self, int64_t now_us) {
  redmoon_lock *lock = self->acquisition->lock;
  redmoon_error *err = &self->call.op.error;
  const redmoon_reply *answer = self->call.results[0].reply;
  int64_t code = 0, left_ms = 0;
  self->acquisition->looks++;
  if (answer->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, err);
  int status = rm_lock_answer_at(lock, answer, 0, &code, err);
  if (status < 0) return status;
  if (code == RM_STATUS_LOCK_HELD || code == RM_STATUS_LOCK_QUEUED) return refused(self, code, now_us);
  if (code == RM_STATUS_LOCK_GONE) {
    rm_fail(err, REDMOON_ELOST, "lock '%s': what the request with this id had got is held no more", lock->shown);
    err->outcome = REDMOON_ANSWERED;
    return REDMOON_ELOST;
  }
  status = rm_lock_answer_at(lock, answer, 1, &lock->fence, err);
  if (status == 0) status = rm_lock_answer_at(lock, answer, 2, &left_ms, err);
  if (status == 0) status = rm_lock_answer_at(lock, answer, 3, &lock->holds, err);
  if (status == 0 && lock->request_key.ptr != NULL) status = adopt(self, answer);
  if (status < 0) return status;
  atomic_store(&lock->until_us, rm_lock_lease_end_us(self->acquisition->began_us, rm_min64(lock->ttl_ms, left_ms)));
  return self->acquisition->min_replicas > 0 ? ask_replicas(self, err) : ready(self, now_us);
}

/* `status`: of the WAIT. */
static int counted(lock_attempt *self, int status, int64_t now_us) {
  int64_t min_replicas = self->acquisition->min_replicas;
  char why[RM_REPLICAS_WHY];
  if (rm_replicas_reached(&self->call, status, min_replicas, why)) return ready(self, now_us);
  rm_fail(&self->error, REDMOON_EUNAVAILABLE, "lock '%s': %s, and min_replicas is %" PRId64,
          self->acquisition->lock->shown, why, min_replicas);
  return undo(self, REDMOON_EUNAVAILABLE, now_us);
}

/* `status`: of the release. */
static int undone(lock_attempt *self, int status) {
  redmoon_error *err = &self->call.op.error;
  bool given_back = status == RM_DONE && self->call.results[0].reply->type != REDMOON_ERROR;
  *err = self->error;
  if (!given_back)
    rm_fail(err, self->why, "%s; it could not be given back and runs out in %" PRId64 " ms", self->error.message,
            self->acquisition->lock->ttl_ms);
  err->outcome = given_back ? REDMOON_ANSWERED : REDMOON_UNKNOWN;
  err->attempts = self->acquisition->looks;
  return self->why;
}

static int advance(lock_attempt *self, int64_t now_us) {
  int status = RM_WAIT;
  while (status == RM_WAIT) {
    status = rm_call_step(&self->call.op, now_us);
    if (status == RM_WAIT) return RM_WAIT;
    if (self->stage == UNDO) return undone(self, status);
    if (status < 0 && self->stage == ASK) return status;
    status = self->stage == ASK ? asked(self, now_us) : counted(self, status, now_us);
    if (status < 0 && self->stage == UNDO) return undone(self, status);
  }
  return status;
}

static int step(redmoon_op *op, int64_t now_us) {
  lock_attempt *self = (lock_attempt *)op;
  int status = advance(self, now_us);
  if (status != RM_WAIT) rm_call_release(&self->call, true, now_us);
  return status;
}

static void destroy(redmoon_op *op) { rm_call_delete(&((lock_attempt *)op)->call); }

/* From its acquisition on it is not known what becomes of the lock. */
static redmoon_outcome outcome(const redmoon_op *op) {
  return ((const lock_attempt *)op)->stage == ASK ? rm_call_outcome(op) : REDMOON_UNKNOWN;
}

static const rm_op_class attempt_class = {step, NULL, destroy, outcome};

int rm_lock_attempt_start(rm_lock_acquisition *acquisition, bool last, bool others, redmoon_op **op, redmoon_error *err) {
  lock_attempt *self = rm_call_new(acquisition->lock->client, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &attempt_class;
  self->acquisition = acquisition;
  self->last = last;
  self->others = others;
  int status = ask(self, err);
  if (status < 0) destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}
