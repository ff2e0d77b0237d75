/* SPDX-License-Identifier: MIT */
/* A permit, from the answer that gave it to its end.
 *
 *     new ----> holds -----------------> leaves -----> released   (repeated releases answer 0 without I/O)
 *               |  ^  | extend           | release was begun: held() is 0 from here on,
 *               |  +--+                  | whether or not the server got it
 *               |                        |
 *               +--> lost <--------------+    the server said that the lease was over
 *
 * The lease is counted from before the request was sent, so it never seems to last longer than on the server.
 */
#include "patterns/permit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/digits.h"
#include "base/error.h"
#include "base/random.h"
#include "base/secret.h"
#include "engine/call.h"
#include "patterns/keys.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>

enum { MIN_TTL_MS = 10, MAX_TTL_MS = 86400000, MAX_WAIT_MS = 86400000, DIGITS = 24 };

/* One request under way. */
typedef struct permit_call {
  redmoon_permit *permit; /* a reference */
  redmoon_permit **out;   /* to be handed out again; NULL: not */
  int64_t ttl_ms, began_us;
  bool releases;
} permit_call;

static void unref(redmoon_permit *permit) {
  if (--permit->refs > 0) return;
  redmoon_client_close(permit->client);
  rm_key_free(&permit->key);
  rm_key_free(&permit->waits_key);
  rm_wipe(permit->token, sizeof permit->token);
  rm_free(permit);
}

int rm_permit_new(redmoon_client *client, const rm_permit_kind *kind, const void *name, size_t name_len,
                  const char *part, int64_t ttl_ms, redmoon_permit **out, redmoon_error *err) {
  redmoon_permit *permit = rm_calloc(1, sizeof *permit);
  if (permit == NULL) return rm_fail_nomem(err);
  permit->client = redmoon_client_ref(client);
  permit->kind = kind;
  permit->refs = 1;
  permit->ttl_ms = ttl_ms;
  permit->count = 1;
  rm_escape(permit->shown, sizeof permit->shown, name, name_len);
  int status = rm_key_build(rm_client_key_prefix(client), name, name_len, part, &permit->key, err);
  if (status == 0)
    status = rm_key_build(rm_client_key_prefix(client), name, name_len, kind->waits, &permit->waits_key, err);
  if (status == 0 && rm_random_init() != 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "%s '%s': libsodium has no source of random bytes", kind->noun,
                     permit->shown);
  if (status < 0) {
    unref(permit);
    return status;
  }
  rm_client_random_hex(permit->client, permit->token, RM_PERMIT_TOKEN_LEN / 2);
  *out = permit;
  return 0;
}

redmoon_permit *rm_permit_ref(redmoon_permit *permit) {
  permit->refs++;
  return permit;
}

void redmoon_permit_free(redmoon_permit *permit) {
  if (permit != NULL) unref(permit);
}

/* Answers. */

int rm_permit_answer_at(const redmoon_permit *permit, const redmoon_reply *reply, size_t index, int64_t *out,
                        redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER)
    return rm_fail(err, REDMOON_EPROTOCOL, "%s '%s': the script's answer has no integer at place %zu",
                   permit->kind->noun, permit->shown, index + 1);
  *out = redmoon_reply_integer(item);
  return 0;
}

int rm_permit_answered(redmoon_error *err, const rm_answer *answer, int status) {
  if (err != NULL) {
    err->outcome = REDMOON_ANSWERED;
    err->attempts = answer->attempts;
    err->retryable = status == REDMOON_ELOCKED;
  }
  return status;
}

static int64_t lease_end_us(int64_t began_us, int64_t left_us) {
  return began_us + left_us - (left_us / 100 + 2000); /* 1 % for clocks that drift, 2 ms for what they round */
}

int rm_permit_given(redmoon_permit *permit, int64_t began_us, int64_t left_us, redmoon_error *err) {
  permit->until_us = lease_end_us(began_us, left_us);
  int64_t now_us = rm_clock_boot_us();
  if (now_us >= permit->until_us) {
    rm_client_count(permit->client, permit->kind->counter, "late");
    return rm_fail(err, REDMOON_ELOST,
                   "%s '%s': what was left of its lease, %" PRId64
                   " ms, ended before the answer came, after %" PRId64 " ms; a longer ttl is needed",
                   permit->kind->noun, permit->shown, left_us / 1000, (now_us - began_us) / 1000);
  }
  permit->state = RM_PERMIT_HOLDS;
  permit->holds = 1;
  rm_client_count(permit->client, permit->kind->counter, "acquired");
  return 0;
}

static int lost(redmoon_permit *permit, int64_t code, const char *verb, redmoon_error *err) {
  if (permit->state != RM_PERMIT_RELEASED) permit->state = RM_PERMIT_LOST;
  rm_client_count(permit->client, permit->kind->counter, "lost");
  return rm_fail(err, REDMOON_ELOST, "%s '%s': the permit was lost before %s: %s", permit->kind->noun,
                 permit->shown, verb, code == RM_STATUS_PERMIT_BUSY ? "another has it now" : "its lease ended");
}

/* Requests. */

static void call_drop(void *ctx, redmoon_outcome outcome) {
  permit_call *call = ctx;
  if (call->releases && outcome == REDMOON_UNKNOWN) call->permit->maybe_released = true;
  unref(call->permit);
  rm_free(call);
}

/* Runs `script` with the token, the count if the kind is counted and, unless 0, a ttl. */
static int call_start(redmoon_permit *permit, const rm_builtin *script, rm_decode_fn decode,
                      const permit_call *fields, redmoon_op **op, redmoon_error *err) {
  permit_call *call = rm_alloc(sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  *call = *fields;
  call->permit = rm_permit_ref(permit);
  call->began_us = rm_clock_boot_us();
  char count[RM_DIGITS_MAX], ttl[RM_DIGITS_MAX];
  redmoon_bytes args[4] = {{permit->token, RM_PERMIT_TOKEN_LEN}};
  size_t arg_count = 1;
  if (permit->kind->counted) args[arg_count++] = (redmoon_bytes){count, rm_int64_put(count, permit->count)};
  if (call->ttl_ms != 0) args[arg_count++] = (redmoon_bytes){ttl, rm_int64_put(ttl, call->ttl_ms)};
  if (call->releases && permit->kind->counted) args[arg_count++] = (redmoon_bytes){permit->kind->last_only, 1};
  const redmoon_bytes keys[] = {permit->key, permit->waits_key};
  const redmoon_script_args all = {keys, call->releases ? 2 : 1, args, arg_count};
  return rm_builtin_start(permit->client, script, &all, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
}

int rm_permit_check_ttl(const char *noun, int64_t ttl_ms, redmoon_error *err) {
  if (ttl_ms >= MIN_TTL_MS && ttl_ms <= MAX_TTL_MS) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "%s option ttl: %" PRId64 " ms is not accepted; give %d to %d ms (24 hours)",
                 noun, ttl_ms, MIN_TTL_MS, MAX_TTL_MS);
}

int rm_permit_check_wait(const char *noun, int64_t wait_ms, redmoon_error *err) {
  if (wait_ms >= 0 && wait_ms <= MAX_WAIT_MS) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "%s option wait: %" PRId64 " ms is not accepted; give 0 to %d ms (24 hours)",
                 noun, wait_ms, MAX_WAIT_MS);
}

/* Extend. */

static int decode_extend(void *ctx, const rm_answer *answer, redmoon_error *err) {
  permit_call *call = ctx;
  redmoon_permit *permit = call->permit;
  int64_t code = 0, left_us = 0;
  int status = rm_permit_answer_at(permit, answer->reply, 0, &code, err);
  if (status == 0 && code != RM_STATUS_PERMIT_OK) status = lost(permit, code, "it could be extended", err);
  if (status == 0) status = rm_permit_answer_at(permit, answer->reply, 1, &left_us, err);
  if (status < 0) return rm_permit_answered(err, answer, status);
  permit->until_us = rm_max64(permit->until_us, lease_end_us(call->began_us, left_us));
  rm_client_count(permit->client, permit->kind->counter, "extended");
  if (call->out != NULL) { /* unless it was released meanwhile */
    if (permit->state != RM_PERMIT_HOLDS)
      return rm_permit_answered(err, answer, lost(permit, RM_STATUS_PERMIT_GONE, "it could be taken again", err));
    permit->holds++;
    *call->out = rm_permit_ref(permit);
  }
  return 0;
}

static int extend_start(redmoon_permit *permit, int64_t ttl_ms, redmoon_permit **out, redmoon_op **op,
                        redmoon_error *err) {
  if (permit->state != RM_PERMIT_HOLDS)
    return rm_fail(err, REDMOON_ELOST, "%s '%s': the permit cannot be extended: %s", permit->kind->noun,
                   permit->shown, permit->state == RM_PERMIT_LOST ? "it was lost" : "its release was begun");
  permit_call fields = {.out = out, .ttl_ms = ttl_ms};
  return call_start(permit, permit->kind->extend, decode_extend, &fields, op, err);
}

int rm_permit_again_start(redmoon_permit *permit, redmoon_permit **out, redmoon_op **op, redmoon_error *err) {
  return extend_start(permit, permit->ttl_ms, out, op, err);
}

int redmoon_permit_extend_start(redmoon_permit *permit, int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  if (ttl_ms == REDMOON_UNSET) ttl_ms = permit->ttl_ms;
  int status = rm_permit_check_ttl(permit->kind->noun, ttl_ms, err);
  return status < 0 ? status : extend_start(permit, ttl_ms, NULL, op, err);
}

int redmoon_permit_extend(redmoon_permit *permit, int64_t ttl_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_permit_extend_start(permit, ttl_ms, &op, err), &op, err);
}

/* Release. */

static int decode_release(void *ctx, const rm_answer *answer, redmoon_error *err) {
  permit_call *call = ctx;
  redmoon_permit *permit = call->permit;
  int64_t code = 0;
  int status = rm_permit_answer_at(permit, answer->reply, 0, &code, err);
  if (status < 0) return rm_permit_answered(err, answer, status);
  /* Inside the lease an earlier request that may have been executed has ended it, most likely. */
  bool earlier = (answer->repeated || permit->maybe_released) && rm_clock_boot_us() < permit->until_us;
  if (code != RM_STATUS_PERMIT_OK && !earlier)
    return rm_permit_answered(err, answer, lost(permit, code, "it was given back", err));
  permit->state = RM_PERMIT_RELEASED;
  rm_client_count(permit->client, permit->kind->counter, "released");
  return 0;
}

int redmoon_permit_release_start(redmoon_permit *permit, redmoon_op **op, redmoon_error *err) {
  bool keeps = permit->state == RM_PERMIT_HOLDS && permit->holds > 1;
  if (keeps || permit->state == RM_PERMIT_RELEASED) {
    int status = rm_nothing_start(permit->client, op, err);
    if (status == 0 && keeps) permit->holds--;
    return status;
  }
  permit_call fields = {.releases = true};
  int status = call_start(permit, permit->kind->release, decode_release, &fields, op, err);
  if (status == 0 && permit->state == RM_PERMIT_HOLDS) permit->state = RM_PERMIT_LEAVES;
  return status;
}

int redmoon_permit_release(redmoon_permit *permit, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_permit_release_start(permit, &op, err), &op, err);
}

/* What the handle knows. */

int64_t redmoon_permit_remaining_ms(const redmoon_permit *permit) {
  int64_t left_us = permit->state == RM_PERMIT_HOLDS ? permit->until_us - rm_clock_boot_us() : 0;
  return left_us > 0 ? left_us / 1000 : 0;
}

int redmoon_permit_held(const redmoon_permit *permit) {
  return permit->state == RM_PERMIT_HOLDS && rm_clock_boot_us() < permit->until_us;
}

int64_t redmoon_permit_fence(const redmoon_permit *permit) { return permit->fence; }
int64_t redmoon_permit_count(const redmoon_permit *permit) { return permit->count; }
const char *redmoon_permit_token(const redmoon_permit *permit) { return permit->token; }
