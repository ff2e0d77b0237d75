/* SPDX-License-Identifier: MIT */
/* Decisions: one run of the script rate_allow, under one limit or several; and waiting for one that is allowed.
 *
 *     (the deny cache refuses) --------------------------------+
 *     CALL --- allowed, failed, or refused without waiting ----+--> done
 *      ^  |                                                    |
 *      |  +- refused, and retry_after is inside the timeout    |
 *      +------------------ SLEEP <--+                          |
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/digits.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/core.h"
#include "patterns/keys.h"
#include "patterns/rate.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct redmoon_rate_limits {
  size_t count;
  redmoon_rate_limiter *limiters[RM_RATE_LIMITS_MAX]; /* references */
};

/* A decision under way. */
typedef struct decision {
  rm_call call; /* first: its op is this one's */
  redmoon_rate_limits limits;
  redmoon_bytes key; /* the caller's, a copy */
  redmoon_rate_request request;
  char request_id[RM_REQUEST_ID_MAX + 1];
  rm_rate_on_error on_error;
  bool caches; /* asks and fills the deny cache */
  bool here;   /* decided without a request */
  bool sleeps;
  int64_t began_us;            /* boot clock */
  int64_t until_us, wake_us;   /* of a wait; until_us 0: none */
  redmoon_rate_result result, *out;
} decision;

/* Requests and answers, for allow_many too. */

int rm_rate_check(redmoon_rate_limiter *const *limiters, size_t count, const void *key, size_t key_len,
                  const redmoon_rate_request *request, redmoon_error *err) {
  int64_t max_cost = limiters[0]->max_cost;
  for (size_t i = 1; i < count; i++) max_cost = rm_min64(max_cost, limiters[i]->max_cost);
  int status = rm_name_check("rate limiter key", key, key_len, err);
  if (status == 0 && (request->cost < 1 || request->cost > max_cost))
    status = rm_fail(err, REDMOON_ECONFIG, "rate limiter cost: %" PRId64 " is not accepted; give 1 to %" PRId64,
                     request->cost, max_cost);
  if (status == 0) status = rm_request_id_check(request->request_id, err);
  return status;
}

int rm_rate_format(rm_call *call, redmoon_rate_limiter *const *limiters, size_t count, redmoon_bytes key,
                   const redmoon_rate_request *request, redmoon_error *err) {
  redmoon_bytes keys[RM_RATE_LIMITS_MAX + 1], args[3 + RM_RATE_FIELDS * RM_RATE_LIMITS_MAX];
  const char *prefix = rm_client_key_prefix(limiters[0]->client);
  char cost[RM_DIGITS_MAX], number[RM_DIGITS_MAX];
  size_t built = 0;
  int status = 0;
  for (; built < count && status == 0; built += status == 0)
    status = rm_key_build(prefix, key.ptr, key.len, limiters[built]->part, &keys[built], err);
  if (status == 0 && request->request_id != NULL) {
    status = rm_request_key_build(prefix, key.ptr, key.len, limiters[0]->part, request->request_id, &keys[built], err);
    if (status == 0) built++;
  }
  args[0] = (redmoon_bytes){cost, rm_int64_put(cost, request->cost)};
  args[1] = (redmoon_bytes){request->partial ? "1" : "0", 1};
  args[2] = (redmoon_bytes){number, rm_uint64_put(number, count)};
  for (size_t i = 0; i < count; i++) rm_rate_fields(limiters[i], args + 3 + RM_RATE_FIELDS * i);
  const redmoon_script_args all = {keys, built, args, 3 + RM_RATE_FIELDS * count};
  unsigned flags = request->request_id != NULL ? RM_CALL_REPEATABLE : 0; /* else it would take the units twice */
  if (status == 0) status = rm_call_evalsha(call, rm_script_rate_allow.sha1, &all, flags, err);
  for (size_t i = 0; i < built; i++) rm_key_free(&keys[i]);
  return status;
}

int rm_rate_decode(redmoon_rate_limiter *const *limiters, size_t count, const redmoon_reply *reply,
                   redmoon_rate_result *out, redmoon_error *err) {
  int64_t at[6];
  for (size_t i = 0; i < 6; i++) {
    const redmoon_reply *item = redmoon_reply_at(reply, i);
    at[i] = item != NULL && redmoon_reply_type(item) == REDMOON_INTEGER ? redmoon_reply_integer(item) : INT64_MIN;
    if (at[i] == INT64_MIN || (i == 2 && (at[i] < 1 || (uint64_t)at[i] > count))) {
      rm_fail(err, REDMOON_EPROTOCOL, "rate limiter: the script's answer makes no sense at place %zu", i + 1);
      if (err != NULL) err->outcome = REDMOON_ANSWERED;
      return REDMOON_EPROTOCOL;
    }
  }
  size_t policy = (size_t)at[2] - 1;
  *out = (redmoon_rate_result){at[0] == RM_STATUS_RATE_ALLOWED,
                               limiters[policy]->limit,
                               at[3],
                               at[4] < 0 ? REDMOON_NEVER : at[4],
                               at[5],
                               at[1],
                               policy,
                               "server"};
  return 0;
}

void rm_rate_note(redmoon_rate_limiter *limiter, bool remember, redmoon_bytes key, const redmoon_rate_request *request,
                  int64_t began_us, const redmoon_rate_result *result) {
  rm_client_count(limiter->client, "rate_limiter", result->allowed ? "allowed" : "denied");
  if (!remember || limiter->deny == NULL || result->allowed || result->retry_after_us == REDMOON_NEVER) return;
  /* Counted from before it was asked: it never refuses here what the server would not. */
  rm_deny_put(limiter->deny, key, rm_rate_need(request), began_us + result->retry_after_us, result, began_us);
}

int rm_rate_failed(redmoon_rate_limiter *limiter, rm_rate_on_error policy, const redmoon_rate_request *request,
                   int status, redmoon_rate_result *out) {
  rm_client_count(limiter->client, "rate_limiter", "error");
  bool ours = status == REDMOON_ECONFIG || status == REDMOON_ENOMEM || status == REDMOON_ECLOSED;
  if (policy == RM_RATE_FAIL_ERROR || ours) return status; /* what is the program's own is no fault of Redis */
  bool allow = policy == RM_RATE_FAIL_ALLOW;
  *out = (redmoon_rate_result){allow, limiter->limit, 0, 0, 0, allow ? request->cost : 0, 0, "error"};
  return 0;
}

bool rm_rate_denied_here(redmoon_rate_limiter *limiter, redmoon_bytes key, const redmoon_rate_request *request,
                         redmoon_rate_result *out) {
  if (limiter->deny == NULL || request->request_id != NULL) return false; /* which may have been allowed before */
  if (!rm_deny_find(limiter->deny, key, rm_rate_need(request), rm_clock_boot_us(), out)) return false;
  out->source = "local";
  rm_client_count(limiter->client, "rate_limiter", "denied_local");
  return true;
}

/* The operation. */

static int format(decision *self) {
  self->began_us = rm_clock_boot_us();
  int status = rm_rate_format(&self->call, self->limits.limiters, self->limits.count, self->key, &self->request,
                              &self->call.op.error);
  self->call.script = (redmoon_bytes){rm_script_rate_allow.source, rm_script_rate_allow.len};
  return status;
}

/* The call has ended: the result, or what on_error makes of the failure. */
static int settle(decision *self, int status) {
  redmoon_rate_limiter *const *limiters = self->limits.limiters;
  redmoon_error *err = &self->call.op.error;
  if (status == RM_DONE) {
    const redmoon_reply *reply = self->call.results[0].reply;
    status = redmoon_reply_type(reply) == REDMOON_ERROR
                 ? rm_call_take_reply(&self->call, 0, NULL, err)
                 : rm_rate_decode(limiters, self->limits.count, reply, &self->result, err);
    if (status == 0) {
      rm_rate_note(limiters[0], self->caches, self->key, &self->request, self->began_us, &self->result);
      return RM_DONE;
    }
  }
  status = rm_rate_failed(limiters[0], self->on_error, &self->request, status, &self->result);
  return status == 0 ? RM_DONE : status;
}

/* Whether it is worth it to ask again, and when. */
static bool falls_asleep(decision *self) {
  const redmoon_rate_result *result = &self->result;
  if (self->until_us == 0 || result->allowed || strcmp(result->source, "error") == 0) return false;
  int64_t now_us = rm_clock_now_us();
  if (result->retry_after_us > self->until_us - now_us) return false;
  self->wake_us = now_us + result->retry_after_us;
  return true;
}

static int step(redmoon_op *op, int64_t now_us) {
  decision *self = (decision *)op;
  int status = RM_DONE;
  if (self->sleeps && atomic_load(&op->client->core->closed)) return rm_fail_closed(&op->error);
  if (self->sleeps && now_us >= self->wake_us) {
    self->sleeps = self->here = false;
    rm_call_reset(&self->call);
    status = format(self);
    if (status < 0) return status;
  }
  if (!self->sleeps) {
    if (!self->here) {
      status = rm_call_step(op, now_us);
      if (status == RM_WAIT) return RM_WAIT;
      status = settle(self, status);
    }
    self->sleeps = status == RM_DONE && falls_asleep(self);
  }
  if (!self->sleeps) return status;
  op->wants.fd = -1;
  op->wants.events = 0;
  op->wants.until_us = self->wake_us;
  return RM_WAIT;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  decision *self = (decision *)op;
  *self->out = self->result;
  return 0;
}

static redmoon_outcome outcome(const redmoon_op *op) {
  const decision *self = (const decision *)op;
  return self->sleeps || self->here ? REDMOON_NOT_SENT : rm_call_outcome(op);
}

static void destroy(redmoon_op *op) {
  decision *self = (decision *)op;
  for (size_t i = 0; i < self->limits.count; i++) redmoon_rate_limiter_free(self->limits.limiters[i]);
  rm_key_free(&self->key);
  rm_call_delete(&self->call);
}

static const rm_op_class decision_class = {step, finish, destroy, outcome};

static rm_rate_on_error strictest(const redmoon_rate_limits *limits) {
  rm_rate_on_error most = limits->limiters[0]->on_error;
  for (size_t i = 1; i < limits->count; i++)
    if (limits->limiters[i]->on_error > most) most = limits->limiters[i]->on_error;
  return most;
}

static int decision_new(const redmoon_rate_limits *limits, const void *key, size_t key_len,
                        const redmoon_rate_request *request, decision **out, redmoon_error *err) {
  decision *self = rm_call_new(limits->limiters[0]->client, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &decision_class;
  for (; self->limits.count < limits->count; self->limits.count++)
    self->limits.limiters[self->limits.count] = rm_rate_limiter_ref(limits->limiters[self->limits.count]);
  self->key = (redmoon_bytes){rm_strndup(key, key_len), key_len};
  if (self->key.ptr == NULL) {
    destroy(&self->call.op);
    return rm_fail_nomem(err);
  }
  self->request = *request;
  if (request->request_id != NULL) {
    snprintf(self->request_id, sizeof self->request_id, "%s", request->request_id);
    self->request.request_id = self->request_id;
  }
  self->on_error = strictest(limits);
  *out = self;
  return 0;
}

/* `timeout_ms` < 0: no wait. */
static int decide_start(const redmoon_rate_limits *limits, const void *key, size_t key_len,
                        const redmoon_rate_request *given, bool caches, int64_t timeout_ms, redmoon_rate_result *out,
                        redmoon_op **op, redmoon_error *err) {
  redmoon_rate_request request = REDMOON_RATE_REQUEST_INIT;
  if (given != NULL) request = *given;
  if (request.cost == REDMOON_UNSET) request.cost = 1;
  *op = NULL;
  rm_error_clear(err);
  int status = rm_rate_check(limits->limiters, limits->count, key, key_len, &request, err);
  decision *self = NULL;
  if (status == 0) status = decision_new(limits, key, key_len, &request, &self, err);
  if (status < 0) return status;
  self->out = out;
  self->caches = caches;
  if (timeout_ms >= 0) self->until_us = rm_deadline_us(rm_clock_now_us(), timeout_ms);
  self->here = caches && rm_rate_denied_here(limits->limiters[0], self->key, &self->request, &self->result);
  if (!self->here && (status = format(self)) < 0) {
    if (err != NULL) *err = self->call.op.error;
    destroy(&self->call.op);
    return status;
  }
  *op = &self->call.op;
  return 0;
}

/* The public functions. */

int redmoon_rate_limiter_allow_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                     const redmoon_rate_request *request, redmoon_rate_result *out, redmoon_op **op,
                                     redmoon_error *err) {
  const redmoon_rate_limits one = {1, {limiter}};
  return decide_start(&one, key, key_len, request, true, -1, out, op, err);
}

int redmoon_rate_limiter_allow(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                               const redmoon_rate_request *request, redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_allow_start(limiter, key, key_len, request, out, &op, err), &op, err);
}

int redmoon_rate_limiter_wait_start(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                                    const redmoon_rate_request *request, int64_t timeout_ms, redmoon_rate_result *out,
                                    redmoon_op **op, redmoon_error *err) {
  if (timeout_ms < 0)
    return rm_fail(err, REDMOON_ECONFIG,
                   "rate limiter wait: a timeout of %" PRId64 " ms is not accepted; give 0 or more", timeout_ms);
  const redmoon_rate_limits one = {1, {limiter}};
  return decide_start(&one, key, key_len, request, true, timeout_ms, out, op, err);
}

int redmoon_rate_limiter_wait(redmoon_rate_limiter *limiter, const void *key, size_t key_len,
                              const redmoon_rate_request *request, int64_t timeout_ms, redmoon_rate_result *out,
                              redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_wait_start(limiter, key, key_len, request, timeout_ms, out, &op, err), &op, err);
}

static bool same_name(const redmoon_rate_limiter *a, const redmoon_rate_limiter *b) {
  return a->name_len == b->name_len && memcmp(a->part, b->part, a->name_len) == 0;
}

int redmoon_rate_limits_new(redmoon_rate_limiter *const *limiters, size_t count, redmoon_rate_limits **out,
                            redmoon_error *err) {
  if (count < 1 || count > RM_RATE_LIMITS_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "rate limits: %zu limiters are not accepted; give 1 to %d", count,
                   RM_RATE_LIMITS_MAX);
  for (size_t i = 1; i < count; i++) {
    for (size_t k = 0; k < i; k++)
      if (same_name(limiters[i], limiters[k]))
        return rm_fail(err, REDMOON_ECONFIG, "rate limits: limiters %zu and %zu have the same name; give each its own",
                       k + 1, i + 1);
    if (limiters[i]->client->core != limiters[0]->client->core)
      return rm_fail(err, REDMOON_ECONFIG, "rate limits: limiters %zu and 1 are not of one client", i + 1);
  }
  redmoon_rate_limits *limits = rm_calloc(1, sizeof *limits);
  if (limits == NULL) return rm_fail_nomem(err);
  for (; limits->count < count; limits->count++)
    limits->limiters[limits->count] = rm_rate_limiter_ref(limiters[limits->count]);
  *out = limits;
  return 0;
}

int redmoon_rate_limits_allow_start(redmoon_rate_limits *limits, const void *key, size_t key_len,
                                    const redmoon_rate_request *request, redmoon_rate_result *out, redmoon_op **op,
                                    redmoon_error *err) {
  return decide_start(limits, key, key_len, request, false, -1, out, op, err);
}

int redmoon_rate_limits_allow(redmoon_rate_limits *limits, const void *key, size_t key_len,
                              const redmoon_rate_request *request, redmoon_rate_result *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limits_allow_start(limits, key, key_len, request, out, &op, err), &op, err);
}

void redmoon_rate_limits_free(redmoon_rate_limits *limits) {
  if (limits == NULL) return;
  for (size_t i = 0; i < limits->count; i++) redmoon_rate_limiter_free(limits->limiters[i]);
  rm_free(limits);
}
