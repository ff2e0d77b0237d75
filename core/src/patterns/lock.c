/* SPDX-License-Identifier: MIT */
/* The lock: its handle, extension and release.  lock_internal.h has the drawing. */
#include "patterns/lock_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/digits.h"
#include "base/error.h"
#include "base/secret.h"
#include "base/timer.h"
#include "patterns/keys.h"
#include "patterns/redlock.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MIN_TTL_MS = 10, MAX_TTL_MS = 86400000 };

/* One request under way. */
typedef struct lock_call {
  redmoon_lock *lock; /* a reference */
  int64_t ttl_ms, began_us;
  bool releases;
} lock_call;

void rm_lock_unref(redmoon_lock *lock) {
  if (atomic_fetch_sub(&lock->refs, 1) > 1) return;
  rm_timer_close(atomic_load(&lock->timer));
  rm_redlock_part_free(lock->redlock);
  redmoon_client_close(lock->renewer);
  redmoon_client_close(lock->client);
  rm_key_free(&lock->keys[LOCK_KEY]);
  rm_key_free(&lock->request_key);
  rm_wipe(lock->token, sizeof lock->token);
  rm_free(lock);
}

int rm_lock_check_ttl(int64_t ttl_ms, redmoon_error *err) {
  if (ttl_ms >= MIN_TTL_MS && ttl_ms <= MAX_TTL_MS) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "lock option ttl: %" PRId64 " ms is not accepted; give %d to %d ms (24 hours)", ttl_ms, MIN_TTL_MS,
                 MAX_TTL_MS);
}

/* Requests. */

static void call_drop(void *ctx, redmoon_outcome outcome) {
  lock_call *call = ctx;
  if (call->releases && outcome == REDMOON_UNKNOWN) atomic_store(&call->lock->maybe_released, true);
  rm_lock_unref(call->lock);
  rm_free(call);
}

/* Runs `script` on the lock's key, with the token, a ttl unless that is 0, and the id of the hold. */
static int call_start(redmoon_lock *lock, redmoon_client *client, const rm_builtin *script, int64_t ttl_ms,
                      rm_decode_fn decode, redmoon_op **op, redmoon_error *err) {
  lock_call *call = rm_alloc(sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  *call = (lock_call){lock, ttl_ms, rm_clock_boot_us(), ttl_ms == 0};
  atomic_fetch_add(&lock->refs, 1);
  char ttl[RM_DIGITS_MAX];
  redmoon_bytes args[3] = {{lock->token, 2 * LOCK_TOKEN_BYTES}};
  size_t count = 1;
  if (ttl_ms != 0) args[count++] = (redmoon_bytes){ttl, rm_int64_put(ttl, ttl_ms)};
  args[count++] = (redmoon_bytes){lock->id, 2 * LOCK_ID_BYTES};
  const redmoon_script_args all = {&lock->keys[LOCK_KEY], 1, args, count};
  return rm_builtin_start(client, script, &all, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
}

int rm_lock_answer_at(const redmoon_lock *lock, const redmoon_reply *reply, size_t index, int64_t *out,
                      redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER)
    return rm_fail(err, REDMOON_EPROTOCOL, "lock '%s': the script's answer has no integer at place %zu",
                   lock->shown, index + 1);
  *out = redmoon_reply_integer(item);
  return 0;
}

static int answered(redmoon_error *err, const rm_answer *answer, int status) {
  if (err != NULL) {
    err->outcome = REDMOON_ANSWERED;
    err->attempts = answer->attempts;
  }
  return status;
}

/* Extend. */

int rm_lock_lost(redmoon_lock *lock, int64_t code, const char *verb, redmoon_error *err) {
  rm_lock_mark_lost(lock);
  return rm_fail(err, REDMOON_ELOST, "lock '%s' was lost before %s: %s", lock->shown, verb,
                 code == RM_STATUS_LOCK_HELD ? "another holds it now" : "its lease ended");
}

/* An extension was answered, and the lock is not held any more. */
static int fail_extend(const redmoon_lock *lock, redmoon_error *err) {
  if (atomic_load(&lock->state) != LOCK_LOST)
    return rm_fail(err, REDMOON_ELOST, "lock '%s' was given back before it could be extended", lock->shown);
  return rm_fail(err, REDMOON_ELOST, "lock '%s' was lost before it could be extended: its lease ended before the answer came",
                 lock->shown);
}

static int extended(lock_call *call, const redmoon_reply *answer, redmoon_error *err) {
  redmoon_lock *lock = call->lock;
  int64_t code = 0, left_ms = 0;
  int status = rm_lock_answer_at(lock, answer, 0, &code, err);
  if (status < 0) return status;
  if (code == RM_STATUS_LOCK_HELD || code == RM_STATUS_LOCK_GONE) {
    /* Of one that was given back meanwhile this is no news. */
    bool news = rm_lock_leave(lock, LOCK_LOST) || atomic_load(&lock->state) == LOCK_LOST;
    return news ? rm_lock_lost(lock, code, "it could be extended", err) : fail_extend(lock, err);
  }
  if ((status = rm_lock_answer_at(lock, answer, 1, &left_ms, err)) < 0) return status;
  if (code == RM_STATUS_LOCK_SPENT)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "lock '%s' cannot be prolonged beyond its max_hold: it ends in %" PRId64 " ms",
                   lock->shown, left_ms);
  if (!rm_lock_prolong(lock, rm_lock_lease_end_us(call->began_us, rm_min64(call->ttl_ms, left_ms))))
    return fail_extend(lock, err);
  rm_client_count(lock->client, "lock", "extended");
  return 0;
}

static int decode_extend(void *ctx, const rm_answer *answer, redmoon_error *err) {
  int status = extended(ctx, answer->reply, err);
  return status < 0 ? answered(err, answer, status) : 0;
}

int rm_lock_extend_start(redmoon_lock *lock, redmoon_client *client, int64_t ttl_ms, redmoon_op **op,
                         redmoon_error *err) {
  if (lock->redlock != NULL) return rm_redlock_extend_start(lock, ttl_ms, op, err);
  return call_start(lock, client, &rm_script_lock_extend, ttl_ms, decode_extend, op, err);
}

int redmoon_lock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  if (ttl_ms == REDMOON_UNSET) ttl_ms = lock->ttl_ms;
  int status = lock->redlock != NULL ? rm_redlock_check_ttl(lock->redlock->redlock, ttl_ms, err) : rm_lock_check_ttl(ttl_ms, err);
  if (status < 0) return status;
  if (!rm_lock_look(lock))
    return rm_fail(err, REDMOON_ELOST, "lock '%s' cannot be extended: %s", lock->shown,
                   atomic_load(&lock->state) == LOCK_LOST ? "it was lost" : "its release was begun");
  return rm_lock_extend_start(lock, lock->client, ttl_ms, op, err);
}

int redmoon_lock_extend(redmoon_lock *lock, int64_t ttl_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_extend_start(lock, ttl_ms, &op, err), &op, err);
}

/* Release. */

static int decode_release(void *ctx, const rm_answer *answer, redmoon_error *err) {
  lock_call *call = ctx;
  redmoon_lock *lock = call->lock;
  int64_t code, fence = lock->fence, holds = 0;
  int status = rm_lock_answer_at(lock, answer->reply, 0, &code, err);
  if (status == 0 && code == RM_STATUS_LOCK_MORE) {
    status = rm_lock_answer_at(lock, answer->reply, 1, &fence, err);
    if (status == 0) status = rm_lock_answer_at(lock, answer->reply, 2, &holds, err);
  }
  if (status < 0) return answered(err, answer, status);
  /* The same owner may hold it again, by another acquisition. */
  if (fence != lock->fence) code = RM_STATUS_LOCK_HELD;
  bool ours = code == RM_STATUS_LOCK_OK || code == RM_STATUS_LOCK_MORE;
  /* Inside the lease an earlier request that may have been executed has ended it, most likely. */
  bool earlier = (answer->repeated || atomic_load(&lock->maybe_released)) &&
                 rm_clock_boot_us() < atomic_load(&lock->until_us);
  if (!ours && !earlier) return answered(err, answer, rm_lock_lost(lock, code, "it was released", err));
  atomic_store(&lock->state, LOCK_RELEASED);
  lock->holds = code == RM_STATUS_LOCK_MORE ? holds : 0;
  rm_client_count(lock->client, "lock", "released");
  return 0;
}

int redmoon_lock_release_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err) {
  if (atomic_load(&lock->state) == LOCK_RELEASED) return rm_nothing_start(lock->client, op, err);
  (void)rm_lock_look(lock); /* one that was lost before is told as lost, though its key may be given back */
  int status = lock->redlock != NULL
                   ? rm_redlock_release_start(lock, op, err)
                   : call_start(lock, lock->client, &rm_script_lock_release, 0, decode_release, op, err);
  if (status == 0) (void)rm_lock_leave(lock, LOCK_LEAVES);
  return status;
}

int redmoon_lock_release(redmoon_lock *lock, redmoon_error *err) {
  if (atomic_load(&lock->state) == LOCK_RELEASED) return 0;
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_release_start(lock, &op, err), &op, err);
}

/* What the handle knows. */

int64_t redmoon_lock_fence(const redmoon_lock *lock) { return lock->fence; }

int64_t redmoon_lock_holds(const redmoon_lock *lock) { return lock->holds; }

const char *redmoon_lock_token(const redmoon_lock *lock) { return lock->token; }

void redmoon_lock_free(redmoon_lock *lock) {
  if (lock == NULL) return;
  rm_lock_lease_fini(lock);
  rm_lock_unref(lock);
}
