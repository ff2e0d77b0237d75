/* SPDX-License-Identifier: MIT */
/* The rate limiter's simple requests: peek, refund and reset, one script each. */
#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "patterns/keys.h"
#include "patterns/rate.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_REFUND = 1000000000 };

/* One request under way. */
typedef struct rate_call {
  redmoon_rate_limiter *limiter; /* a reference */
  redmoon_bytes key;             /* the caller's, a copy; of those that may free units */
  redmoon_rate_result *out;
} rate_call;

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  rate_call *call = ctx;
  /* Whatever became of it: a refusal that was remembered while it was under way may hold no more. */
  if (call->key.ptr != NULL && call->limiter->deny != NULL) rm_deny_drop(call->limiter->deny, call->key);
  redmoon_rate_limiter_free(call->limiter);
  rm_key_free(&call->key);
  rm_free(call);
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rate_call *call = ctx;
  return rm_rate_decode(&call->limiter, 1, answer->reply, call->out, err);
}

/* `frees`: what is remembered of the key must be forgotten. */
static rate_call *call_new(redmoon_rate_limiter *limiter, redmoon_bytes key, bool frees, redmoon_rate_result *out) {
  rate_call *call = rm_calloc(1, sizeof *call);
  if (call == NULL) return NULL;
  if (frees && limiter->deny != NULL) {
    call->key = (redmoon_bytes){rm_strndup(key.ptr, key.len), key.len};
    if (call->key.ptr == NULL) {
      rm_free(call);
      return NULL;
    }
  }
  call->limiter = rm_rate_limiter_ref(limiter);
  call->out = out;
  return call;
}

/* Runs `script` with the key of the limit and, if it has one, of the request. */
static int call_start(redmoon_rate_limiter *limiter, const rm_builtin *script, const void *key, size_t key_len,
                      const char *request_id, const redmoon_bytes *args, size_t arg_count, bool frees, unsigned flags,
                      redmoon_rate_result *out, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes keys[2] = {{NULL, 0}, {NULL, 0}};
  const char *prefix = rm_client_key_prefix(limiter->client);
  rate_call *call = NULL;
  *op = NULL;
  int status = rm_name_check("rate limiter key", key, key_len, err);
  if (status == 0) status = rm_key_build(prefix, key, key_len, limiter->part, &keys[0], err);
  if (status == 0 && request_id != NULL)
    status = rm_request_key_build(prefix, key, key_len, limiter->part, request_id, &keys[1], err);
  if (status < 0) goto out;
  call = call_new(limiter, (redmoon_bytes){key, key_len}, frees, out);
  if (call == NULL) {
    status = rm_fail_nomem(err);
    goto out;
  }
  const redmoon_script_args all = {keys, request_id != NULL ? 2 : 1, args, arg_count};
  rm_decode_fn decode_fn = out != NULL ? decode : NULL;
  status = rm_builtin_start(limiter->client, script, &all, flags, decode_fn, call_drop, call, op, err);
out:
  rm_key_free(&keys[0]);
  rm_key_free(&keys[1]);
  return status;
}

int redmoon_rate_limiter_peek_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                    redmoon_rate_result *out, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes args[RM_RATE_FIELDS];
  rm_rate_fields(limiter, args);
  return call_start(limiter, &rm_script_rate_peek, key, key_len, NULL, args, RM_RATE_FIELDS, false,
                    RM_CALL_REPEATABLE, out, op, err);
}

int redmoon_rate_limiter_peek(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                              redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_peek_start(limiter, key, key_len, out, &op, err), &op, err);
}

int redmoon_rate_limiter_refund_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len, int64_t units,
                                      const char *request_id, redmoon_rate_result *out, redmoon_op **op,
                                      redmoon_error *err) {
  if (units < 1 || units > MAX_REFUND)
    return rm_fail(err, REDMOON_ECONFIG, "rate limiter refund: %" PRId64 " units are not accepted; give 1 to %d",
                   units, MAX_REFUND);
  int status = rm_request_id_check(request_id, err);
  if (status < 0) return status;
  char text[RM_RATE_DIGITS];
  redmoon_bytes args[1 + RM_RATE_FIELDS] = {{text, (size_t)snprintf(text, sizeof text, "%" PRId64, units)}};
  rm_rate_fields(limiter, args + 1);
  return call_start(limiter, &rm_script_rate_refund, key, key_len, request_id, args, 1 + RM_RATE_FIELDS, true,
                    request_id != NULL ? RM_CALL_REPEATABLE : 0, out, op, err);
}

int redmoon_rate_limiter_refund(redmoon_rate_limiter *limiter, const void *key, size_t key_len, int64_t units,
                                const char *request_id, redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_refund_start(limiter, key, key_len, units, request_id, out, &op, err), &op, err);
}

int redmoon_rate_limiter_reset_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                     redmoon_op **op, redmoon_error *err) {
  return call_start(limiter, &rm_script_rate_reset, key, key_len, NULL, NULL, 0, true, RM_CALL_REPEATABLE, NULL, op,
                    err);
}

int redmoon_rate_limiter_reset(redmoon_rate_limiter *limiter, const void *key, size_t key_len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_reset_start(limiter, key, key_len, &op, err), &op, err);
}
