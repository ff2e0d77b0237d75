/* SPDX-License-Identifier: MIT */
/* Taking a lock: one operation, however often it has to ask.
 *
 *            +------ pause is over ------+
 *            v                           |
 *     start --> ASK --held by another--> PAUSE --wait is over--> ASK once more --> LOCKED
 *                |
 *                +--acquired--> REPLICAS (WAIT, on the same connection) --> done
 *                |                  | too few, or none to ask
 *                |                  v
 *                +-- no thread --> UNDO (release) --> UNAVAILABLE
 */
#include "patterns/lock_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/replicas.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_TTL_MS = 10000, MAX_WAIT_MS = 86400000 };
static const int64_t max_hold_most_ms = INT64_C(31622400000);

typedef enum acquire_stage { ASK, PAUSE, REPLICAS, UNDO } acquire_stage;

typedef struct acquire_op {
  rm_call call; /* first: its op is this one's */
  redmoon_lock *lock; /* a reference */
  redmoon_lock **out;
  acquire_stage stage;
  bool renew;
  int64_t wait_ms, min_replicas;
  int64_t began_us;                 /* boot clock: when the answer that counts was asked for */
  int64_t waits_since_us, until_us; /* of the pause */
  int looks;
  int why; /* the status that UNDO ends with; its text is in `error` */
  redmoon_error error;
} acquire_op;

/* Waiting. */

enum { SHORTEST_PAUSE_US = 10000, FIRST_PAUSE_US = 25000, LONGEST_PAUSE_US = 1000000, AFTER_LEASE_US = 1000 };

int64_t rm_lock_pause_us(int looks, int64_t left_us, int64_t wait_us, int64_t draw) {
  int64_t bound = FIRST_PAUSE_US;
  for (int i = 1; i < looks && bound < LONGEST_PAUSE_US; i++) bound *= 2;
  bound = rm_min64(bound, LONGEST_PAUSE_US);
  int64_t pause = SHORTEST_PAUSE_US + (bound - SHORTEST_PAUSE_US) * draw / LOCK_DRAW;
  if (left_us >= 0 && left_us < LONGEST_PAUSE_US) pause = rm_min64(pause, left_us + AFTER_LEASE_US);
  return rm_min64(pause, wait_us);
}

/* Asks (again). */
static int format(acquire_op *self, redmoon_error *err) {
  const redmoon_lock *lock = self->lock;
  char ttl[24], max[24];
  int ttl_len = snprintf(ttl, sizeof ttl, "%" PRId64, lock->ttl_ms);
  int max_len = snprintf(max, sizeof max, "%" PRId64, lock->max_hold_ms);
  const redmoon_bytes keys[] = {lock->key, lock->fence_key, lock->request_key};
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES},
                                {ttl, (size_t)ttl_len},
                                {lock->id, 2 * LOCK_ID_BYTES},
                                {max, (size_t)max_len}};
  const redmoon_script_args all = {keys, lock->request_key.ptr != NULL ? 3 : 2, args, 4};
  self->stage = ASK;
  self->began_us = rm_clock_boot_us();
  rm_call_reset(&self->call);
  self->call.hold = self->min_replicas > 0;
  return rm_builtin_format(&self->call, &rm_script_lock_acquire, &all, RM_CALL_REPEATABLE, err);
}

static int fail_locked(acquire_op *self, int64_t left_ms, int64_t now_us) {
  redmoon_error *err = &self->call.op.error;
  char waited[80] = "";
  if (self->wait_ms > 0)
    snprintf(waited, sizeof waited, "; waited %" PRId64 " ms for it and asked %d times",
             (now_us - self->waits_since_us) / 1000, self->looks);
  rm_client_count(self->lock->client, "lock", "held");
  rm_fail(err, REDMOON_ELOCKED, "lock '%s' is held by another, for %" PRId64 " ms more at most%s", self->lock->shown,
          left_ms, waited);
  err->outcome = REDMOON_ANSWERED;
  err->attempts = self->looks;
  err->retryable = 1;
  return REDMOON_ELOCKED;
}

static int held_by_another(acquire_op *self, int64_t now_us) {
  int64_t left_ms;
  int status = rm_lock_answer_at(self->lock, self->call.results[0].reply, 2, &left_ms, &self->call.op.error);
  if (status < 0) return status;
  rm_call_release(&self->call, true, now_us);
  if (self->looks == 1) self->waits_since_us = now_us;
  int64_t wait_us = self->waits_since_us + self->wait_ms * 1000 - now_us;
  if (wait_us <= 0) return fail_locked(self, left_ms, now_us);
  rm_call_reset(&self->call);
  self->stage = PAUSE;
  self->until_us = now_us + rm_lock_pause_us(self->looks, left_ms * 1000, wait_us, rm_random_upto(LOCK_DRAW));
  return RM_WAIT;
}

/* After an acquisition. */

/* The lock is given back, and the operation ends with `status`, whose text is in self->error. */
static int undo(acquire_op *self, int status, int64_t now_us) {
  const redmoon_lock *lock = self->lock;
  rm_call_release(&self->call, true, now_us);
  self->why = status;
  self->stage = UNDO;
  rm_call_reset(&self->call);
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES}, {lock->id, 2 * LOCK_ID_BYTES}};
  const redmoon_script_args all = {&lock->key, 1, args, 2};
  rm_client_count(lock->client, "lock", "undone");
  return rm_builtin_format(&self->call, &rm_script_lock_release, &all, RM_CALL_REPEATABLE, &self->call.op.error);
}

static int ask_replicas(acquire_op *self, redmoon_error *err) {
  self->stage = REPLICAS;
  int64_t wait_ms = rm_max64(rm_min64(self->lock->ttl_ms / 3, RM_REPLICAS_MS), 1);
  return rm_replicas_ask(&self->call, self->min_replicas, wait_ms, err);
}

/* Held, and nothing is left to ask the server. */
static int ready(acquire_op *self, int64_t now_us) {
  redmoon_lock *lock = self->lock;
  redmoon_error *err = &self->call.op.error;
  int64_t boot_us = rm_clock_boot_us();
  if (boot_us >= atomic_load(&lock->until_us)) {
    rm_client_count(lock->client, "lock", "late");
    rm_fail(err, REDMOON_ELOST,
            "lock '%s': its lease of %" PRId64 " ms ended before the answer came, after %" PRId64
            " ms; a longer ttl is needed",
            lock->shown, lock->ttl_ms, (boot_us - self->began_us) / 1000);
    err->outcome = REDMOON_ANSWERED;
    err->attempts = self->looks;
    return REDMOON_ELOST;
  }
  if (!self->renew || rm_renewals_ready(lock->client, &self->error) == 0) return RM_DONE;
  return undo(self, REDMOON_EUNAVAILABLE, now_us);
}

/* Those of an earlier request with the same id may stand in the answer. */
static int adopt(acquire_op *self, const redmoon_reply *answer) {
  redmoon_lock *lock = self->lock;
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

static int asked(acquire_op *self, int64_t now_us) {
  redmoon_lock *lock = self->lock;
  redmoon_error *err = &self->call.op.error;
  const redmoon_reply *answer = self->call.results[0].reply;
  int64_t code, left_ms;
  self->looks++;
  if (answer->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, err);
  int status = rm_lock_answer_at(lock, answer, 0, &code, err);
  if (status < 0) return status;
  if (code == RM_STATUS_LOCK_HELD) return held_by_another(self, now_us);
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
  atomic_store(&lock->until_us, rm_lock_lease_end_us(self->began_us, rm_min64(lock->ttl_ms, left_ms)));
  return self->min_replicas > 0 ? ask_replicas(self, err) : ready(self, now_us);
}

/* `status`: of the WAIT. */
static int counted(acquire_op *self, int status, int64_t now_us) {
  char why[RM_REPLICAS_WHY];
  if (rm_replicas_reached(&self->call, status, self->min_replicas, why)) return ready(self, now_us);
  rm_fail(&self->error, REDMOON_EUNAVAILABLE, "lock '%s': %s, and min_replicas is %" PRId64, self->lock->shown, why,
          self->min_replicas);
  return undo(self, REDMOON_EUNAVAILABLE, now_us);
}

/* `status`: of the release. */
static int undone(acquire_op *self, int status) {
  redmoon_error *err = &self->call.op.error;
  bool given_back = status == RM_DONE && self->call.results[0].reply->type != REDMOON_ERROR;
  *err = self->error;
  if (!given_back)
    rm_fail(err, self->why, "%s; it could not be given back and runs out in %" PRId64 " ms", self->error.message,
            self->lock->ttl_ms);
  err->outcome = given_back ? REDMOON_ANSWERED : REDMOON_UNKNOWN;
  err->attempts = self->looks;
  return self->why;
}

static int advance(acquire_op *self, int64_t now_us) {
  redmoon_op *op = &self->call.op;
  int status = RM_WAIT;
  while (status == RM_WAIT) {
    if (self->stage == PAUSE) {
      if (!rm_client_is_closed(op->client) && now_us < self->until_us) {
        op->wants = (rm_wants){-1, 0, self->until_us};
        return RM_WAIT;
      }
      if ((status = format(self, &op->error)) < 0) return status;
    }
    status = rm_call_step(op, now_us);
    if (status == RM_WAIT) return RM_WAIT;
    if (self->stage == UNDO) return undone(self, status);
    if (status < 0 && self->stage == ASK) return status;
    status = self->stage == ASK ? asked(self, now_us) : counted(self, status, now_us);
    if (status < 0 && self->stage == UNDO) return undone(self, status);
  }
  return status;
}

static int step(redmoon_op *op, int64_t now_us) {
  acquire_op *self = (acquire_op *)op;
  int status = advance(self, now_us);
  if (status != RM_WAIT) rm_call_release(&self->call, true, now_us);
  return status;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  acquire_op *self = (acquire_op *)op;
  redmoon_lock *lock = self->lock;
  atomic_fetch_add(&lock->refs, 1);
  rm_client_count(lock->client, "lock", "acquired");
  if (self->renew) rm_lock_renew(lock, self->began_us);
  *self->out = lock;
  return 0;
}

static void destroy(redmoon_op *op) {
  acquire_op *self = (acquire_op *)op;
  rm_call_fini(&self->call);
  rm_lock_unref(self->lock);
  rm_free(self);
}

/* From its acquisition on it is not known what becomes of the lock. */
static redmoon_outcome outcome(const redmoon_op *op) {
  const acquire_op *self = (const acquire_op *)op;
  return self->stage == REPLICAS || self->stage == UNDO ? REDMOON_UNKNOWN : rm_call_outcome(op);
}

static const rm_op_class acquire_class = {step, finish, destroy, outcome};

/* Options. */

static int64_t given(int64_t value, int64_t otherwise) { return value == REDMOON_UNSET ? otherwise : value; }

static int check(const char *option, int64_t value, int64_t min, int64_t max, const char *unit, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "lock option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s",
                 option, value, unit, min, max, unit);
}

static int check_token(const char *token, redmoon_error *err) {
  if (token == NULL) return 0;
  size_t len = strlen(token);
  if (len == 2 * LOCK_TOKEN_BYTES && strspn(token, "0123456789abcdef") == len) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "lock option token: not accepted (%zu bytes); give the token of a lock, %d hex digits", len,
                 2 * LOCK_TOKEN_BYTES);
}

static int check_options(const redmoon_lock_options *options, redmoon_error *err) {
  int64_t ttl_ms = given(options->ttl_ms, DEFAULT_TTL_MS), max_hold_ms = given(options->max_hold_ms, 0);
  int status = rm_lock_check_ttl(ttl_ms, err);
  if (status == 0) status = check("wait", given(options->wait_ms, 0), 0, MAX_WAIT_MS, " ms", err);
  if (status == 0) status = check("renew", given(options->renew, 0), 0, 1, "", err);
  if (status == 0 && max_hold_ms != 0) status = check("max_hold", max_hold_ms, ttl_ms, max_hold_most_ms, " ms", err);
  if (status == 0) status = check("min_replicas", given(options->min_replicas, 0), 0, RM_REPLICAS_MAX, "", err);
  if (status == 0) status = check_token(options->token, err);
  return status == 0 ? rm_request_id_check(options->request_id, err) : status;
}

static int lock_fill(redmoon_lock *lock, const void *name, size_t name_len, const redmoon_lock_options *options,
                     redmoon_error *err) {
  lock->ttl_ms = given(options->ttl_ms, DEFAULT_TTL_MS);
  lock->max_hold_ms = given(options->max_hold_ms, 0);
  rm_escape(lock->shown, sizeof lock->shown, name, name_len);
  const char *prefix = rm_client_key_prefix(lock->client);
  int status = rm_key_build(prefix, name, name_len, "lock", &lock->key, err);
  if (status == 0) status = rm_key_build(prefix, name, name_len, "fence", &lock->fence_key, err);
  if (status == 0 && options->request_id != NULL)
    status = rm_request_key_build(prefix, name, name_len, "lock", options->request_id, &lock->request_key, err);
  if (status == 0 && given(options->renew, 0) != 0)
    status = rm_renewal_client(lock->client, lock->ttl_ms, &lock->renewer, err);
  if (status == 0 && rm_random_init() != 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "lock '%s': libsodium has no source of random bytes", lock->shown);
  if (status < 0) return status;
  rm_client_random_hex(lock->client, lock->token, LOCK_TOKEN_BYTES);
  rm_client_random_hex(lock->client, lock->id, LOCK_ID_BYTES);
  if (options->token != NULL) memcpy(lock->token, options->token, sizeof lock->token);
  return 0;
}

static int lock_new(redmoon_client *client, const void *name, size_t name_len, const redmoon_lock_options *options,
                    redmoon_lock **out, redmoon_error *err) {
  redmoon_lock *lock = rm_calloc(1, sizeof *lock);
  if (lock == NULL) return rm_fail_nomem(err);
  lock->client = redmoon_client_ref(client);
  lock->pid = rm_client_pid(client);
  atomic_init(&lock->refs, 1);
  atomic_init(&lock->state, LOCK_HOLDS);
  atomic_init(&lock->timer, -1);
  int status = lock_fill(lock, name, name_len, options, err);
  if (status < 0) rm_lock_unref(lock);
  else *out = lock;
  return status;
}

int redmoon_lock_acquire_start(redmoon_client *client, const void *name, size_t name_len,
                               const redmoon_lock_options *options, redmoon_lock **out, redmoon_op **op,
                               redmoon_error *err) {
  static const redmoon_lock_options none = REDMOON_LOCK_OPTIONS_INIT;
  if (options == NULL) options = &none;
  rm_error_clear(err);
  int status = rm_name_check("lock name", name, name_len, err);
  if (status == 0) status = check_options(options, err);
  redmoon_lock *lock = NULL;
  if (status == 0) status = lock_new(client, name, name_len, options, &lock, err);
  if (status < 0) return status;
  acquire_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) {
    rm_lock_unref(lock);
    return rm_fail_nomem(err);
  }
  rm_call_init(&self->call, client, true);
  self->call.op.class = &acquire_class;
  self->lock = lock;
  self->out = out;
  self->wait_ms = given(options->wait_ms, 0);
  self->min_replicas = given(options->min_replicas, 0);
  self->renew = given(options->renew, 0) != 0;
  if ((status = format(self, err)) < 0) destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}

int redmoon_lock_acquire(redmoon_client *client, const void *name, size_t name_len,
                         const redmoon_lock_options *options, redmoon_lock **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_acquire_start(client, name, name_len, options, out, &op, err), &op, err);
}
