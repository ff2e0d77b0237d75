/* SPDX-License-Identifier: MIT */
/* The lock: three scripts, and what the client may believe about its lease between them.
 *
 *     acquire ----> held -----------------> leaving -----> released   (repeated releases answer 0 without I/O)
 *                    |  ^  | extend           | release was begun: held() is 0 from here on,
 *                    |  +--+                  | whether or not the server got it
 *                    |                        |
 *                    +--> lost <--------------+    the server said that another holds it, or nobody
 *
 * The lease is counted from before the first request was sent, so it never seems to last longer than on the server.
 */
#include <redmoon/lock.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "base/secret.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TOKEN_BYTES = 16, SHOWN = 120, DEFAULT_TTL_MS = 10000, MIN_TTL_MS = 10, MAX_TTL_MS = 86400000 };

typedef enum lock_state { LOCK_HOLDS, LOCK_LEAVES, LOCK_RELEASED, LOCK_LOST } lock_state;

struct redmoon_lock {
  redmoon_client *client;
  size_t refs; /* the caller's handle, and each operation under way */
  lock_state state;
  redmoon_bytes key, fence_key;
  int64_t ttl_ms, fence;
  int64_t until_us; /* boot clock: end of the lease by the careful judgement */
  bool maybe_released; /* a release went out and no answer came */
  char token[2 * TOKEN_BYTES + 1];
  char shown[SHOWN]; /* the name, as messages show it */
};

/* One request under way. */
typedef struct lock_call {
  redmoon_lock *lock; /* a reference */
  redmoon_lock **out; /* of an acquisition */
  int64_t ttl_ms, began_us;
  bool releases;
} lock_call;

static void lock_unref(redmoon_lock *lock) {
  if (--lock->refs > 0) return;
  redmoon_client_close(lock->client);
  rm_key_free(&lock->key);
  rm_key_free(&lock->fence_key);
  rm_wipe(lock->token, sizeof lock->token);
  rm_free(lock);
}

static int lock_new(redmoon_client *client, const void *name, size_t name_len, int64_t ttl_ms, redmoon_lock **out,
                    redmoon_error *err) {
  redmoon_lock *lock = rm_calloc(1, sizeof *lock);
  if (lock == NULL) return rm_fail_nomem(err);
  lock->client = redmoon_client_ref(client);
  lock->refs = 1;
  lock->ttl_ms = ttl_ms;
  rm_escape(lock->shown, sizeof lock->shown, name, name_len);
  const char *prefix = rm_client_key_prefix(client);
  int status = rm_key_build(prefix, name, name_len, "lock", &lock->key, err);
  if (status == 0) status = rm_key_build(prefix, name, name_len, "fence", &lock->fence_key, err);
  if (status == 0 && rm_random_init() != 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "lock '%s': libsodium has no source of random bytes", lock->shown);
  if (status < 0) {
    lock_unref(lock);
    return status;
  }
  rm_random_hex(lock->token, TOKEN_BYTES);
  *out = lock;
  return 0;
}

static int64_t lease_end_us(int64_t began_us, int64_t ttl_ms) {
  int64_t ttl_us = ttl_ms * 1000;
  return began_us + ttl_us - (ttl_us / 100 + 2000); /* 1 % for clocks that drift, 2 ms for what they round */
}

/* Requests. */

static void call_drop(void *ctx, redmoon_outcome outcome) {
  lock_call *call = ctx;
  if (call->releases && outcome == REDMOON_UNKNOWN) call->lock->maybe_released = true;
  lock_unref(call->lock);
  rm_free(call);
}

/* Runs `script` on the first `key_count` of lock and fence key, with the token and, unless 0, a ttl. */
static int call_start(redmoon_lock *lock, const rm_builtin *script, size_t key_count, int64_t ttl_ms,
                      rm_decode_fn decode, const lock_call *fields, redmoon_op **op, redmoon_error *err) {
  lock_call *call = rm_alloc(sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  *call = *fields;
  call->lock = lock;
  call->ttl_ms = ttl_ms;
  call->began_us = rm_clock_boot_us();
  lock->refs++;
  char ttl[24];
  int ttl_len = snprintf(ttl, sizeof ttl, "%" PRId64, ttl_ms);
  const redmoon_bytes keys[] = {lock->key, lock->fence_key};
  const redmoon_bytes args[] = {{lock->token, 2 * TOKEN_BYTES}, {ttl, (size_t)ttl_len}};
  const redmoon_script_args all = {keys, key_count, args, ttl_ms == 0 ? 1 : 2};
  return rm_builtin_start(lock->client, script, &all, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
}

/* Element `index` of a script's answer, or REDMOON_EPROTOCOL. */
static int answer_at(const redmoon_lock *lock, const redmoon_reply *reply, size_t index, int64_t *out,
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
    err->retryable = status == REDMOON_ELOCKED;
  }
  return status;
}

/* Acquire. */

static int decode_acquire(void *ctx, const rm_answer *answer, redmoon_error *err) {
  lock_call *call = ctx;
  redmoon_lock *lock = call->lock;
  int64_t code, fence, left_ms;
  int status = answer_at(lock, answer->reply, 0, &code, err);
  if (status == 0) status = answer_at(lock, answer->reply, 1, &fence, err);
  if (status == 0) status = answer_at(lock, answer->reply, 2, &left_ms, err);
  if (status < 0) return answered(err, answer, status);
  if (code != RM_STATUS_LOCK_OK) {
    rm_client_count(lock->client, "lock", "held");
    status = rm_fail(err, REDMOON_ELOCKED, "lock '%s' is held by another, for %" PRId64 " ms more at most",
                     lock->shown, left_ms);
    return answered(err, answer, status);
  }
  lock->fence = fence;
  lock->until_us = lease_end_us(call->began_us, call->ttl_ms);
  int64_t now_us = rm_clock_boot_us();
  if (now_us >= lock->until_us) {
    rm_client_count(lock->client, "lock", "late");
    status = rm_fail(err, REDMOON_ELOST,
                     "lock '%s': its lease of %" PRId64 " ms ended before the answer came, after %" PRId64
                     " ms; a longer ttl is needed",
                     lock->shown, call->ttl_ms, (now_us - call->began_us) / 1000);
    return answered(err, answer, status);
  }
  rm_client_count(lock->client, "lock", "acquired");
  lock->refs++;
  *call->out = lock;
  return 0;
}

static int check_ttl(int64_t ttl_ms, redmoon_error *err) {
  if (ttl_ms >= MIN_TTL_MS && ttl_ms <= MAX_TTL_MS) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "lock option ttl: %" PRId64 " ms is not accepted; give %d to %d ms (24 hours)", ttl_ms, MIN_TTL_MS,
                 MAX_TTL_MS);
}

int redmoon_lock_acquire_start(redmoon_client *client, const void *name, size_t name_len,
                               const redmoon_lock_options *options, redmoon_lock **out, redmoon_op **op,
                               redmoon_error *err) {
  int64_t ttl_ms = options == NULL || options->ttl_ms == REDMOON_UNSET ? DEFAULT_TTL_MS : options->ttl_ms;
  int status = rm_name_check("lock name", name, name_len, err);
  if (status == 0) status = check_ttl(ttl_ms, err);
  redmoon_lock *lock = NULL;
  if (status == 0) status = lock_new(client, name, name_len, ttl_ms, &lock, err);
  if (status < 0) return status;
  lock_call fields = {.out = out};
  status = call_start(lock, &rm_script_lock_acquire, 2, ttl_ms, decode_acquire, &fields, op, err);
  lock_unref(lock); /* the request has its own */
  return status;
}

int redmoon_lock_acquire(redmoon_client *client, const void *name, size_t name_len,
                         const redmoon_lock_options *options, redmoon_lock **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_acquire_start(client, name, name_len, options, out, &op, err), &op, err);
}

/* Extend and release. */

static int lost(redmoon_lock *lock, int64_t code, const char *verb, redmoon_error *err) {
  lock->state = LOCK_LOST;
  rm_client_count(lock->client, "lock", "lost");
  return rm_fail(err, REDMOON_ELOST, "lock '%s' was lost before %s: %s", lock->shown, verb,
                 code == RM_STATUS_LOCK_HELD ? "another holds it now" : "its lease ended");
}

static int decode_extend(void *ctx, const rm_answer *answer, redmoon_error *err) {
  lock_call *call = ctx;
  redmoon_lock *lock = call->lock;
  int64_t code;
  int status = answer_at(lock, answer->reply, 0, &code, err);
  if (status == 0 && code != RM_STATUS_LOCK_OK) status = lost(lock, code, "it could be extended", err);
  if (status < 0) return answered(err, answer, status);
  lock->until_us = rm_max64(lock->until_us, lease_end_us(call->began_us, call->ttl_ms));
  rm_client_count(lock->client, "lock", "extended");
  return 0;
}

int redmoon_lock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  if (ttl_ms == REDMOON_UNSET) ttl_ms = lock->ttl_ms;
  int status = check_ttl(ttl_ms, err);
  if (status < 0) return status;
  if (lock->state != LOCK_HOLDS)
    return rm_fail(err, REDMOON_ELOST, "lock '%s' cannot be extended: %s", lock->shown,
                   lock->state == LOCK_LOST ? "it was lost" : "its release was begun");
  return call_start(lock, &rm_script_lock_extend, 1, ttl_ms, decode_extend, &(lock_call){0}, op, err);
}

int redmoon_lock_extend(redmoon_lock *lock, int64_t ttl_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_extend_start(lock, ttl_ms, &op, err), &op, err);
}

static int decode_release(void *ctx, const rm_answer *answer, redmoon_error *err) {
  lock_call *call = ctx;
  redmoon_lock *lock = call->lock;
  int64_t code;
  int status = answer_at(lock, answer->reply, 0, &code, err);
  if (status < 0) return answered(err, answer, status);
  /* Inside the lease an earlier request that may have been executed has ended it, most likely. */
  bool earlier = (answer->repeated || lock->maybe_released) && rm_clock_boot_us() < lock->until_us;
  if (code != RM_STATUS_LOCK_OK && !earlier)
    return answered(err, answer, lost(lock, code, "it was released", err));
  lock->state = LOCK_RELEASED;
  rm_client_count(lock->client, "lock", "released");
  return 0;
}

/* An operation that has nothing to do. */
static int idle_step(redmoon_op *op, int64_t now_us) { return (void)op, (void)now_us, RM_DONE; }
static void idle_destroy(redmoon_op *op) {
  redmoon_client_close(op->client);
  rm_free(op);
}
static const rm_op_class idle_class = {idle_step, NULL, idle_destroy, NULL};

static int idle_start(redmoon_client *client, redmoon_op **out, redmoon_error *err) {
  redmoon_op *op = rm_calloc(1, sizeof *op);
  if (op == NULL) return rm_fail_nomem(err);
  op->class = &idle_class;
  op->client = redmoon_client_ref(client);
  op->wants.fd = -1;
  *out = op;
  return 0;
}

int redmoon_lock_release_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err) {
  if (lock->state == LOCK_RELEASED) return idle_start(lock->client, op, err);
  lock_call fields = {.releases = true};
  int status = call_start(lock, &rm_script_lock_release, 1, 0, decode_release, &fields, op, err);
  if (status == 0 && lock->state == LOCK_HOLDS) lock->state = LOCK_LEAVES;
  return status;
}

int redmoon_lock_release(redmoon_lock *lock, redmoon_error *err) {
  if (lock->state == LOCK_RELEASED) return 0;
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_release_start(lock, &op, err), &op, err);
}

/* What the handle knows. */

int64_t redmoon_lock_remaining_ms(const redmoon_lock *lock) {
  int64_t left_us = lock->state == LOCK_HOLDS ? lock->until_us - rm_clock_boot_us() : 0;
  return left_us > 0 ? left_us / 1000 : 0;
}

int redmoon_lock_held(const redmoon_lock *lock) {
  return lock->state == LOCK_HOLDS && rm_clock_boot_us() < lock->until_us;
}

int64_t redmoon_lock_fence(const redmoon_lock *lock) { return lock->fence; }

const char *redmoon_lock_token(const redmoon_lock *lock) { return lock->token; }

void redmoon_lock_free(redmoon_lock *lock) {
  if (lock != NULL) lock_unref(lock);
}
