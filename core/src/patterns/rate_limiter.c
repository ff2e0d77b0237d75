/* SPDX-License-Identifier: MIT */
/* The rate limiter: its options checked once, then one script for each request.  Nothing is kept on the client's
 * side. */
#include <redmoon/rate_limiter.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
enum { MAX_LIMIT = 100000, MAX_COST = 1000, MAX_NAME = 64, DIGITS = 24 };
static const int64_t max_window_ms = INT64_C(366) * 24 * 3600 * 1000;

struct redmoon_rate_limiter {
  redmoon_client *client;
  int64_t limit;
  char limit_text[DIGITS], window_text[DIGITS]; /* the window in microseconds */
  char part[MAX_NAME + sizeof ".log"];          /* last word of its keys */
};

/* One request under way. */
typedef struct rate_call {
  redmoon_client *client; /* a reference */
  int64_t limit;
  redmoon_rate_result *out;
} rate_call;

/* Options. */

static int check_range(const char *option, int64_t value, int64_t max, const char *unit, redmoon_error *err) {
  if (value >= 1 && value <= max) return 0;
  if (value == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "rate limiter option %s is missing; give 1 to %" PRId64 "%s", option, max,
                   unit);
  return rm_fail(err, REDMOON_ECONFIG,
                 "rate limiter option %s: %" PRId64 "%s is not accepted; give 1 to %" PRId64 "%s", option, value,
                 unit, max, unit);
}

static int check_name(const char *name, redmoon_error *err) {
  size_t len = strlen(name);
  if (len >= 1 && len <= MAX_NAME && strspn(name, NAME_BYTES) == len) return 0;
  char shown[100];
  rm_escape(shown, sizeof shown, name, len);
  return rm_fail(err, REDMOON_ECONFIG,
                 "rate limiter option name: '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and '-'",
                 shown, MAX_NAME);
}

static int check_algorithm(const char *algorithm, redmoon_error *err) {
  if (strcmp(algorithm, "sliding_log") == 0) return 0;
  char shown[100];
  rm_escape(shown, sizeof shown, algorithm, strlen(algorithm));
  return rm_fail(err, REDMOON_ECONFIG, "rate limiter option algorithm: '%s' is not accepted; give \"sliding_log\"",
                 shown);
}

int redmoon_rate_limiter_new(redmoon_client *client, const redmoon_rate_limiter_options *options,
                             redmoon_rate_limiter **out, redmoon_error *err) {
  const redmoon_rate_limiter_options none = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  if (options == NULL) options = &none;
  const char *name = options->name == NULL ? "rl" : options->name;
  int status = check_algorithm(options->algorithm == NULL ? "sliding_log" : options->algorithm, err);
  if (status == 0) status = check_range("limit", options->limit, MAX_LIMIT, "", err);
  if (status == 0) status = check_range("window", options->window_ms, max_window_ms, " ms", err);
  if (status == 0) status = check_name(name, err);
  if (status < 0) return status;
  redmoon_rate_limiter *limiter = rm_calloc(1, sizeof *limiter);
  if (limiter == NULL) return rm_fail_nomem(err);
  limiter->client = redmoon_client_ref(client);
  limiter->limit = options->limit;
  snprintf(limiter->limit_text, sizeof limiter->limit_text, "%" PRId64, options->limit);
  snprintf(limiter->window_text, sizeof limiter->window_text, "%" PRId64, options->window_ms * 1000);
  snprintf(limiter->part, sizeof limiter->part, "%s.log", name);
  *out = limiter;
  return 0;
}

void redmoon_rate_limiter_free(redmoon_rate_limiter *limiter) {
  if (limiter == NULL) return;
  redmoon_client_close(limiter->client);
  rm_free(limiter);
}

/* Requests. */

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  rate_call *call = ctx;
  redmoon_client_close(call->client);
  rm_free(call);
}

static int decode(const rate_call *call, const redmoon_reply *reply, redmoon_rate_result *result,
                  redmoon_error *err) {
  int64_t at[4];
  for (size_t i = 0; i < 4; i++) {
    const redmoon_reply *item = redmoon_reply_at(reply, i);
    if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) {
      rm_fail(err, REDMOON_EPROTOCOL, "rate limiter: the script's answer has no integer at place %zu", i + 1);
      if (err != NULL) err->outcome = REDMOON_ANSWERED;
      return REDMOON_EPROTOCOL;
    }
    at[i] = redmoon_reply_integer(item);
  }
  int64_t retry = at[2] < 0 ? REDMOON_NEVER : at[2];
  *result = (redmoon_rate_result){at[0] == RM_STATUS_RATE_ALLOWED, call->limit, at[1], retry, at[3]};
  return 0;
}

static int decode_allow(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rate_call *call = ctx;
  int status = decode(call, answer->reply, call->out, err);
  if (status == 0) rm_client_count(call->client, "rate_limiter", call->out->allowed ? "allowed" : "denied");
  return status;
}

static int decode_peek(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rate_call *call = ctx;
  return decode(call, answer->reply, call->out, err);
}

static int call_start(redmoon_rate_limiter *limiter, const rm_builtin *script, const void *key, size_t key_len,
                      const redmoon_bytes *args, size_t arg_count, unsigned flags, rm_decode_fn decode_answer,
                      redmoon_rate_result *out, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes full = {NULL, 0};
  int status = rm_name_check("rate limiter key", key, key_len, err);
  if (status == 0) {
    const char *prefix = rm_client_key_prefix(limiter->client);
    status = rm_key_build(prefix, key, key_len, limiter->part, &full, err);
  }
  if (status < 0) return status;
  rate_call *call = rm_alloc(sizeof *call);
  if (call == NULL) {
    rm_key_free(&full);
    return rm_fail_nomem(err);
  }
  *call = (rate_call){redmoon_client_ref(limiter->client), limiter->limit, out};
  const redmoon_script_args all = {&full, 1, args, arg_count};
  status = rm_builtin_start(limiter->client, script, &all, flags, decode_answer, call_drop, call, op, err);
  rm_key_free(&full);
  return status;
}

int redmoon_rate_limiter_allow_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len, int64_t cost,
                                     redmoon_rate_result *out, redmoon_op **op, redmoon_error *err) {
  if (cost < 1 || cost > MAX_COST)
    return rm_fail(err, REDMOON_ECONFIG, "rate limiter cost: %" PRId64 " is not accepted; give 1 to %d", cost,
                   MAX_COST);
  char cost_text[DIGITS];
  int cost_len = snprintf(cost_text, sizeof cost_text, "%" PRId64, cost);
  const redmoon_bytes args[] = {{limiter->limit_text, strlen(limiter->limit_text)},
                                {limiter->window_text, strlen(limiter->window_text)},
                                {cost_text, (size_t)cost_len}};
  /* Not repeatable: a repetition would take the units twice. */
  return call_start(limiter, &rm_script_rate_sliding_log_allow, key, key_len, args, 3, 0, decode_allow, out, op,
                    err);
}

int redmoon_rate_limiter_allow(redmoon_rate_limiter *limiter, const void *key, size_t key_len, int64_t cost,
                               redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_allow_start(limiter, key, key_len, cost, out, &op, err), &op, err);
}

int redmoon_rate_limiter_peek_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                    redmoon_rate_result *out, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes args[] = {{limiter->limit_text, strlen(limiter->limit_text)},
                                {limiter->window_text, strlen(limiter->window_text)}};
  return call_start(limiter, &rm_script_rate_sliding_log_peek, key, key_len, args, 2, RM_CALL_REPEATABLE,
                    decode_peek, out, op, err);
}

int redmoon_rate_limiter_peek(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                              redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_peek_start(limiter, key, key_len, out, &op, err), &op, err);
}

int redmoon_rate_limiter_reset_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                     redmoon_op **op, redmoon_error *err) {
  return call_start(limiter, &rm_script_rate_reset, key, key_len, NULL, 0, RM_CALL_REPEATABLE, NULL, NULL, op, err);
}

int redmoon_rate_limiter_reset(redmoon_rate_limiter *limiter, const void *key, size_t key_len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_reset_start(limiter, key, key_len, &op, err), &op, err);
}
