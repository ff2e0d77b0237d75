/* SPDX-License-Identifier: MIT */
/* The semaphore: options checked once, then a script for each attempt to acquire.  What it hands out is a permit.
 */
#include <redmoon/semaphore.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/call.h"
#include "patterns/keys.h"
#include "patterns/permit.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PART "semaphore"
enum { MAX_PERMITS = 100000, MAX_COUNT = 1000, DIGITS = 24 };

static const rm_permit_kind semaphore_kind = {"semaphore", "semaphore", &rm_script_permit_extend,
                                              &rm_script_permit_release, true, PART ".waits", "0"};

struct redmoon_semaphore {
  redmoon_client *client; /* a reference */
  redmoon_semaphore_options options;
  char *name;
  size_t name_len;
};

static int check_range(const char *option, int64_t value, int64_t max, redmoon_error *err) {
  if (value >= 1 && value <= max) return 0;
  if (value == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "semaphore option %s is missing; give 1 to %" PRId64, option, max);
  return rm_fail(err, REDMOON_ECONFIG, "semaphore option %s: %" PRId64 " is not accepted; give 1 to %" PRId64,
                 option, value, max);
}

int redmoon_semaphore_new(redmoon_client *client, const void *name, size_t name_len,
                          const redmoon_semaphore_options *options, redmoon_semaphore **out, redmoon_error *err) {
  redmoon_semaphore_options own = REDMOON_SEMAPHORE_OPTIONS_INIT;
  if (options != NULL) own = *options;
  own.ttl_ms = rm_permit_option(own.ttl_ms, RM_PERMIT_TTL_MS);
  own.wait_ms = rm_permit_option(own.wait_ms, 0);
  int status = rm_name_check("semaphore name", name, name_len, err);
  if (status == 0) status = check_range("permits", own.permits, MAX_PERMITS, err);
  if (status == 0) status = rm_permit_check_ttl("semaphore", own.ttl_ms, err);
  if (status == 0) status = rm_permit_check_wait("semaphore", own.wait_ms, err);
  if (status < 0) return status;
  redmoon_semaphore *semaphore = rm_calloc(1, sizeof *semaphore);
  char *copy = rm_strndup(name, name_len);
  if (semaphore == NULL || copy == NULL) {
    rm_free(semaphore);
    rm_free(copy);
    return rm_fail_nomem(err);
  }
  *semaphore = (redmoon_semaphore){redmoon_client_ref(client), own, copy, name_len};
  *out = semaphore;
  return 0;
}

void redmoon_semaphore_free(redmoon_semaphore *semaphore) {
  if (semaphore == NULL) return;
  redmoon_client_close(semaphore->client);
  rm_free(semaphore->name);
  rm_free(semaphore);
}

/* Acquire. */

/* An acquisition under way: attempts use the same token, so that one that was executed unnoticed is found again. */
typedef struct acquisition {
  redmoon_permit *permit; /* NULL once it is the caller's */
  redmoon_permit **out;
  redmoon_bytes fence_key, request_key; /* the latter: ptr NULL without a request id */
  int64_t permits, began_us, retry_us;
  int64_t in_use; /* by the last answer */
} acquisition;

static void acquisition_drop(void *ctx) {
  acquisition *self = ctx;
  redmoon_permit_free(self->permit);
  rm_key_free(&self->fence_key);
  rm_key_free(&self->request_key);
  rm_free(self);
}

static int busy(acquisition *self, int64_t in_use, redmoon_error *err) {
  redmoon_permit *permit = self->permit;
  rm_client_count(permit->client, permit->kind->counter, "busy");
  if (self->retry_us < 0)
    return rm_fail(err, REDMOON_ELOCKED,
                   "semaphore '%s': %" PRId64 " permits are never free together, there are %" PRId64, permit->shown,
                   permit->count, self->permits);
  return rm_fail(err, REDMOON_ELOCKED,
                 "semaphore '%s': %" PRId64 " of %" PRId64 " permits are in use; %" PRId64
                 " will be free in %" PRId64 " ms at the latest",
                 permit->shown, in_use, self->permits, permit->count, (self->retry_us + 999) / 1000);
}

/* The permit of a request is the one that the request was given first. */
static int adopt(redmoon_permit *permit, const redmoon_reply *reply, redmoon_error *err) {
  int status = rm_permit_answer_at(permit, reply, 4, &permit->fence, err);
  if (status == 0) status = rm_permit_answer_at(permit, reply, 5, &permit->count, err);
  if (status < 0) return status;
  size_t len = 0;
  const redmoon_reply *item = redmoon_reply_at(reply, 6);
  const char *token = item == NULL ? NULL : redmoon_reply_string(item, &len);
  if (token == NULL || len != RM_PERMIT_TOKEN_LEN)
    return rm_fail(err, REDMOON_EPROTOCOL, "semaphore '%s': the script's answer has no token", permit->shown);
  memcpy(permit->token, token, len);
  return 0;
}

static int decode_acquire(void *ctx, const rm_answer *answer, redmoon_error *err) {
  acquisition *self = ctx;
  redmoon_permit *permit = self->permit;
  int64_t code, in_use, time_us;
  int status = rm_permit_answer_at(permit, answer->reply, 0, &code, err);
  if (status == 0 && code == RM_STATUS_PERMIT_GONE)
    status = rm_fail(err, REDMOON_ELOST, "semaphore '%s': the permit of this request is over, or was given back",
                     permit->shown);
  if (status == 0) status = rm_permit_answer_at(permit, answer->reply, 1, &in_use, err);
  if (status == 0) status = rm_permit_answer_at(permit, answer->reply, 3, &time_us, err);
  if (status == 0 && code != RM_STATUS_PERMIT_OK) {
    self->retry_us = time_us;
    self->in_use = in_use;
    status = rm_permit_answered(err, answer, busy(self, in_use, err));
    if (err != NULL) err->retryable = time_us >= 0;
    return status;
  }
  if (status == 0) status = adopt(permit, answer->reply, err);
  if (status == 0) status = rm_permit_given(permit, self->began_us, time_us, err);
  return status < 0 ? rm_permit_answered(err, answer, status) : 0;
}

static int attempt_start(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err) {
  acquisition *self = ctx;
  redmoon_permit *permit = self->permit;
  char text[3][DIGITS];
  const int64_t numbers[3] = {self->permits, permit->count, permit->ttl_ms};
  redmoon_bytes args[5] = {{permit->token, RM_PERMIT_TOKEN_LEN}};
  for (size_t i = 0; i < 3; i++) {
    int len = snprintf(text[i], DIGITS, "%" PRId64, numbers[i]);
    args[i + 1] = (redmoon_bytes){text[i], (size_t)len};
  }
  args[4] = (redmoon_bytes){try.left_us > 0 ? "1" : "0", 1};
  const redmoon_bytes keys[] = {permit->key, self->fence_key, permit->waits_key, self->request_key};
  const redmoon_script_args all = {keys, self->request_key.ptr == NULL ? 3 : 4, args, 5};
  self->began_us = rm_clock_boot_us();
  return rm_builtin_start(permit->client, &rm_script_semaphore_acquire, &all, RM_CALL_REPEATABLE, decode_acquire,
                          NULL, self, op, err);
}

static int64_t retry_us(void *ctx) { return ((acquisition *)ctx)->retry_us; }

static redmoon_bytes channel(void *ctx) { return ((const acquisition *)ctx)->permit->waits_key; }

/* It wanted more than there are; the next one may want fewer. */
static bool leaves_some(void *ctx) {
  const acquisition *self = ctx;
  return self->in_use < self->permits;
}

static int acquisition_finish(void *ctx, redmoon_error *err) {
  (void)err;
  acquisition *self = ctx;
  *self->out = self->permit;
  self->permit = NULL;
  return 0;
}

static const rm_waiting_class acquiring = {.start = attempt_start,
                                           .retry_us = retry_us,
                                           .finish = acquisition_finish,
                                           .drop = acquisition_drop,
                                           .channel = channel,
                                           .leaves_some = leaves_some,
                                           .shared = true};

static int acquisition_new(redmoon_semaphore *semaphore, const redmoon_semaphore_request *request, int64_t count,
                           acquisition **out, redmoon_error *err) {
  acquisition *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  const char *prefix = rm_client_key_prefix(semaphore->client), *name = semaphore->name;
  size_t len = semaphore->name_len;
  self->permits = semaphore->options.permits;
  int status = rm_permit_new(semaphore->client, &semaphore_kind, name, len, PART, semaphore->options.ttl_ms,
                             &self->permit, err);
  if (status == 0) status = rm_key_build(prefix, name, len, PART ".fence", &self->fence_key, err);
  if (status == 0 && request->request_id != NULL)
    status = rm_request_key_build(prefix, name, len, PART, request->request_id, &self->request_key, err);
  if (status < 0) {
    acquisition_drop(self);
    return status;
  }
  self->permit->count = count;
  *out = self;
  return 0;
}

int redmoon_semaphore_acquire_start(redmoon_semaphore *semaphore, const redmoon_semaphore_request *request,
                                    redmoon_permit **out, redmoon_op **op, redmoon_error *err) {
  static const redmoon_semaphore_request none = REDMOON_SEMAPHORE_REQUEST_INIT;
  if (request == NULL) request = &none;
  int64_t count = rm_permit_option(request->count, 1);
  int64_t wait_ms = rm_permit_option(request->wait_ms, semaphore->options.wait_ms);
  int status = check_range("count", count, MAX_COUNT, err);
  if (status == 0) status = rm_permit_check_wait("semaphore", wait_ms, err);
  if (status == 0) status = rm_request_id_check(request->request_id, err);
  acquisition *self = NULL;
  if (status == 0) status = acquisition_new(semaphore, request, count, &self, err);
  if (status < 0) return status;
  self->out = out;
  return rm_waiting_start(semaphore->client, &acquiring, self, wait_ms, op, err);
}

int redmoon_semaphore_acquire(redmoon_semaphore *semaphore, const redmoon_semaphore_request *request,
                              redmoon_permit **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_semaphore_acquire_start(semaphore, request, out, &op, err), &op, err);
}

/* Statistics. */

static int decode_peek(void *ctx, const rm_answer *answer, redmoon_error *err) {
  redmoon_semaphore_usage *out = ctx;
  int64_t at[4];
  for (size_t i = 0; i < 4; i++) {
    const redmoon_reply *item = redmoon_reply_at(answer->reply, i);
    if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) {
      int status =
          rm_fail(err, REDMOON_EPROTOCOL, "semaphore: the script's answer has no integer at place %zu", i + 1);
      return rm_permit_answered(err, answer, status);
    }
    at[i] = redmoon_reply_integer(item);
  }
  *out = (redmoon_semaphore_usage){at[1], at[2], at[3]};
  return 0;
}

int redmoon_semaphore_stats_start(redmoon_semaphore *semaphore, redmoon_semaphore_usage *out, redmoon_op **op,
                                  redmoon_error *err) {
  redmoon_bytes key = {NULL, 0};
  int status =
      rm_key_build(rm_client_key_prefix(semaphore->client), semaphore->name, semaphore->name_len, PART, &key, err);
  if (status < 0) return status;
  char permits[DIGITS];
  int len = snprintf(permits, sizeof permits, "%" PRId64, semaphore->options.permits);
  const redmoon_bytes arg = {permits, (size_t)len};
  const redmoon_script_args all = {&key, 1, &arg, 1};
  status = rm_builtin_start(semaphore->client, &rm_script_semaphore_peek, &all, RM_CALL_REPEATABLE, decode_peek,
                            NULL, out, op, err);
  rm_key_free(&key);
  return status;
}

int redmoon_semaphore_stats(redmoon_semaphore *semaphore, redmoon_semaphore_usage *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_semaphore_stats_start(semaphore, out, &op, err), &op, err);
}
