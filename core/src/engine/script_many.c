/* SPDX-License-Identifier: MIT */
/* Many runs of a script in one call.  The script is loaded in front of them: NOSCRIPT has no second try in there. */
#include "engine/script_many.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"

typedef struct many_op {
  rm_call call; /* first: its op is this one's */
  rm_each_fn each;
  rm_drop_fn drop;
  void *ctx;
} many_op;

/* Mark 0 is the SCRIPT LOAD. */
static void tell_each(many_op *self) {
  const rm_call *call = &self->call;
  for (size_t i = 1; i < call->request.count; i++) {
    const redmoon_reply *reply = i < call->results_cap ? call->results[i].reply : NULL;
    redmoon_error failure = call->op.error;
    /* Without memory for any result, nothing was sent. */
    failure.outcome = i < call->results_cap ? rm_call_outcome_at(call, i) : REDMOON_NOT_SENT;
    self->each(self->ctx, i - 1, reply, reply == NULL ? &failure : NULL);
  }
}

static int finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  tell_each((many_op *)op);
  return 0;
}

static void destroy(redmoon_op *op) {
  many_op *self = (many_op *)op;
  if (op->status < 0) tell_each(self);
  if (self->drop != NULL) self->drop(self->ctx, rm_call_outcome(op));
  rm_call_fini(&self->call);
  rm_free(self);
}

static const rm_op_class many_class = {rm_call_step, finish, destroy, rm_call_outcome};

int rm_builtin_many_start(redmoon_client *client, const rm_builtin *script, const rm_builtin_run *runs, size_t count,
                          rm_each_fn each, rm_drop_fn drop, void *ctx, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  many_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) {
    if (drop != NULL) drop(ctx, REDMOON_NOT_SENT);
    return rm_fail_nomem(err);
  }
  rm_call_init(&self->call, client, true);
  self->call.op.class = &many_class;
  self->each = each;
  self->drop = drop;
  self->ctx = ctx;
  int status = rm_call_script_load(&self->call, script->source, script->len, err);
  for (size_t i = 0; i < count && status == 0; i++)
    status = rm_call_evalsha(&self->call, script->sha1, &runs[i].args, runs[i].flags, err);
  if (status != 0) {
    destroy(&self->call.op);
    return status;
  }
  *op = &self->call.op;
  return 0;
}
