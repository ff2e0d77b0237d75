/* SPDX-License-Identifier: MIT */
/* allow_many: the script is loaded, then run once for each item, in one round trip; each decision ends by itself. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/call.h"
#include "patterns/keys.h"
#include "patterns/rate.h"
#include "patterns/scripts_generated.h"

#include <string.h>

enum { MAX_ITEMS = 1000 };

typedef struct item {
  redmoon_bytes key; /* a copy; only for the deny cache */
  redmoon_rate_request request; /* its id is not kept */
  size_t mark;                  /* in the call; 0: decided here */
  redmoon_rate_result result;
} item;

typedef struct many {
  rm_call call; /* first: its op is this one's */
  redmoon_rate_limiter *limiter;
  item *items;
  size_t count, marks;
  int64_t began_us;
  int status; /* how the call ended */
  redmoon_rate_result *out;
  redmoon_error *errors;
} many;

static int step(redmoon_op *op, int64_t now_us) {
  many *self = (many *)op;
  if (self->marks == 0) return RM_DONE;
  int status = rm_call_step(op, now_us);
  if (status == RM_WAIT) return RM_WAIT;
  self->status = status == RM_DONE ? 0 : status;
  return RM_DONE; /* what was answered before a failure is still told */
}

/* Of one item: 0 with its result, or its failure. */
static int end_item(many *self, item *it, redmoon_error *err) {
  if (it->mark == 0) return 0;
  *err = self->call.op.error;
  int status = self->status;
  const redmoon_reply *reply = it->mark < self->call.results_cap ? self->call.results[it->mark].reply : NULL;
  if (reply == NULL) {
    err->outcome = rm_call_outcome_at(&self->call, it->mark);
  } else {
    rm_error_clear(err);
    status = redmoon_reply_type(reply) == REDMOON_ERROR
                 ? rm_call_take_reply(&self->call, it->mark, NULL, err)
                 : rm_rate_decode(&self->limiter, 1, reply, &it->result, err);
  }
  if (status == 0) rm_rate_note(self->limiter, true, it->key, &it->request, self->began_us, &it->result);
  else status = rm_rate_failed(self->limiter, self->limiter->on_error, &it->request, status, &it->result);
  return status;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  many *self = (many *)op;
  int first = 0;
  if (self->status == 0) rm_error_clear(err);
  for (size_t i = 0; i < self->count; i++) {
    redmoon_error own;
    rm_error_clear(&own);
    int status = end_item(self, &self->items[i], &own);
    self->out[i] = status == 0 ? self->items[i].result : (redmoon_rate_result){0};
    if (self->errors != NULL) self->errors[i] = own;
    if (status == 0 || first != 0) continue;
    first = status;
    if (err != NULL) *err = own;
  }
  return first;
}

static void destroy(redmoon_op *op) {
  many *self = (many *)op;
  rm_call_fini(&self->call);
  for (size_t i = 0; i < self->count; i++) rm_key_free(&self->items[i].key);
  rm_free(self->items);
  redmoon_rate_limiter_free(self->limiter);
  rm_free(self);
}

static const rm_op_class many_class = {step, finish, destroy, rm_call_outcome};

static int add(many *self, const redmoon_rate_item *given, redmoon_error *err) {
  item *it = &self->items[self->count];
  it->request = given->request;
  if (it->request.cost == REDMOON_UNSET) it->request.cost = 1;
  int status = rm_rate_check(&self->limiter, 1, given->key, given->key_len, &it->request, err);
  if (status < 0) return status;
  redmoon_bytes key = {given->key, given->key_len};
  if (rm_rate_denied_here(self->limiter, key, &it->request, &it->result)) {
    self->count++;
    return 0;
  }
  if (self->limiter->deny != NULL) {
    it->key = (redmoon_bytes){rm_strndup(key.ptr, key.len), key.len};
    if (it->key.ptr == NULL) return rm_fail_nomem(err);
  }
  self->count++;
  const rm_builtin *script = &rm_script_rate_allow;
  if (self->marks == 0) status = rm_call_script_load(&self->call, script->source, script->len, err);
  if (status == 0) status = rm_rate_format(&self->call, &self->limiter, 1, key, &it->request, err);
  it->request.request_id = NULL;
  it->mark = ++self->marks; /* mark 0 is the load */
  return status;
}

int redmoon_rate_limiter_allow_many_start(redmoon_rate_limiter *limiter, const redmoon_rate_item *items, size_t count,
                                          redmoon_rate_result *out, redmoon_error *errors, redmoon_op **op,
                                          redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (count < 1 || count > MAX_ITEMS)
    return rm_fail(err, REDMOON_ECONFIG, "rate limiter: %zu items are not accepted; give 1 to %d", count, MAX_ITEMS);
  many *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  rm_call_init(&self->call, limiter->client, true);
  self->call.op.class = &many_class;
  self->limiter = rm_rate_limiter_ref(limiter);
  self->out = out;
  self->errors = errors;
  self->began_us = rm_clock_boot_us();
  self->items = rm_calloc(count, sizeof *self->items);
  int status = self->items == NULL ? rm_fail_nomem(err) : 0;
  for (size_t i = 0; i < count && status == 0; i++) status = add(self, &items[i], err);
  if (status < 0) {
    destroy(&self->call.op);
    return status;
  }
  *op = &self->call.op;
  return 0;
}

int redmoon_rate_limiter_allow_many(redmoon_rate_limiter *limiter, const redmoon_rate_item *items, size_t count,
                                    redmoon_rate_result *out, redmoon_error *errors, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rate_limiter_allow_many_start(limiter, items, count, out, errors, &op, err), &op, err);
}
