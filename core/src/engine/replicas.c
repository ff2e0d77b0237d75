/* SPDX-License-Identifier: MIT */
/* A script, then WAIT.  See replicas.h for the states. */
#include "engine/replicas.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>

/* The two steps. */

int rm_replicas_ask(rm_call *call, int64_t min, int64_t wait_ms, redmoon_error *err) {
  char count[24], wait[24];
  snprintf(count, sizeof count, "%" PRId64, min);
  snprintf(wait, sizeof wait, "%" PRId64, wait_ms);
  rm_call_reset(call); /* the connection stays */
  call->hold = true;
  return rm_call_argv(call, 3, (const char *const[]){"WAIT", count, wait}, NULL, 0, err);
}

bool rm_replicas_reached(const rm_call *call, int status, int64_t min, char why[RM_REPLICAS_WHY]) {
  const redmoon_reply *answer = status == RM_DONE ? call->results[0].reply : NULL;
  if (answer == NULL) {
    snprintf(why, RM_REPLICAS_WHY, "whether it has reached replicas is not known");
    return false;
  }
  if (answer->type != REDMOON_INTEGER) {
    snprintf(why, RM_REPLICAS_WHY, "the server does not count its replicas");
    return false;
  }
  int64_t count = redmoon_reply_integer(answer);
  snprintf(why, RM_REPLICAS_WHY, "it has reached %" PRId64 " replicas in time", count);
  return count >= min;
}

/* The operation. */

typedef struct replicated_op {
  rm_call call; /* first: its op is this one's */
  rm_replicas replicas;
  bool waits; /* the script was answered and decoded: what is under way is WAIT */
  int attempts; /* of the script */
  rm_decode_fn decode;
  rm_drop_fn drop;
  void *ctx;
} replicated_op;

static redmoon_outcome outcome(const redmoon_op *op) {
  return ((const replicated_op *)op)->waits ? REDMOON_UNKNOWN : rm_call_outcome(op);
}

/* The script's answer: RM_WAIT when the replicas are to be asked; else how the operation ends. */
static int answered(replicated_op *self) {
  redmoon_error *err = &self->call.op.error;
  const rm_answer answer = {self->call.results[0].reply, self->call.attempt, self->call.was_unknown};
  if (answer.reply->type == REDMOON_ERROR) return RM_DONE; /* finish tells it */
  int status = self->decode != NULL ? self->decode(self->ctx, &answer, err) : 0;
  if (status < 0) return status;
  self->waits = true;
  self->attempts = answer.attempts;
  if (rm_replicas_ask(&self->call, self->replicas.min, RM_REPLICAS_MS, err) == 0) return RM_WAIT;
  rm_fail_nomem_answered(err);
  return REDMOON_ENOMEM;
}

static int counted(replicated_op *self, int status) {
  redmoon_error *err = &self->call.op.error;
  char why[RM_REPLICAS_WHY];
  if (rm_replicas_reached(&self->call, status, self->replicas.min, why)) return RM_DONE;
  rm_client_count(self->call.op.client, self->replicas.pattern, "unreplicated");
  rm_fail(err, REDMOON_EUNAVAILABLE, "%s: it is written and stays so, but %s, and min_replicas is %" PRId64,
          self->replicas.pattern, why, self->replicas.min);
  err->outcome = REDMOON_ANSWERED;
  err->attempts = self->attempts;
  err->retryable = 1;
  return REDMOON_EUNAVAILABLE;
}

static int advance(replicated_op *self, int64_t now_us) {
  int status = rm_call_step(&self->call.op, now_us);
  if (status == RM_WAIT) return RM_WAIT;
  if (!self->waits) {
    if (status == RM_DONE) status = answered(self);
    if (status != RM_WAIT) return status;
    status = rm_call_step(&self->call.op, now_us);
  }
  return status == RM_WAIT ? RM_WAIT : counted(self, status);
}

static int step(redmoon_op *op, int64_t now_us) {
  replicated_op *self = (replicated_op *)op;
  int status = advance(self, now_us);
  if (status != RM_WAIT) rm_call_release(&self->call, true, now_us);
  return status;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  replicated_op *self = (replicated_op *)op;
  return self->waits ? 0 : rm_call_take_reply(&self->call, 0, NULL, err);
}

static void destroy(redmoon_op *op) {
  replicated_op *self = (replicated_op *)op;
  if (self->drop != NULL) self->drop(self->ctx, outcome(op));
  rm_call_delete(&self->call);
}

static const rm_op_class replicated_class = {step, finish, destroy, outcome};

int rm_replicated_start(redmoon_client *client, const rm_builtin *script, const redmoon_script_args *args, unsigned flags,
                        const rm_replicas *replicas, rm_decode_fn decode, rm_drop_fn drop, void *ctx, redmoon_op **op,
                        redmoon_error *err) {
  if (replicas->min == 0) return rm_builtin_start(client, script, args, flags, decode, drop, ctx, op, err);
  *op = NULL;
  rm_error_clear(err);
  replicated_op *self = rm_call_new(client, sizeof *self);
  if (self == NULL) {
    if (drop != NULL) drop(ctx, REDMOON_NOT_SENT);
    return rm_fail_nomem(err);
  }
  self->call.op.class = &replicated_class;
  self->call.hold = true;
  self->replicas = *replicas;
  self->decode = decode;
  self->drop = drop;
  self->ctx = ctx;
  int status = rm_builtin_format(&self->call, script, args, flags, err);
  if (status < 0) {
    destroy(&self->call.op);
    return status;
  }
  *op = &self->call.op;
  return 0;
}
