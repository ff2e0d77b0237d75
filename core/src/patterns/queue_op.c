/* SPDX-License-Identifier: MIT */
/* Operations of a queue that take several requests, one after the other: each answer says which is the next.
 *
 *     request --answer--> answered() --another one--> request ...        --done--> finish()
 */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/keys.h"

#include <string.h>

static int answered(rm_queue_op *self, int64_t now_us) {
  redmoon_error *err = &self->call.op.error;
  if (self->call.results[0].reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, err);
  int attempts = self->call.attempt, status = self->class->answered(self, self->call.results[0].reply, now_us);
  return rm_queue_answered(err, attempts, status);
}

static int step(redmoon_op *op, int64_t now_us) {
  rm_queue_op *self = (rm_queue_op *)op;
  int status;
  do {
    status = self->class->step != NULL ? self->class->step(self, now_us) : rm_call_step(op, now_us);
    if (status == RM_WAIT || status < 0) return status;
    now_us = rm_clock_now_us(); /* the step may have blocked */
    status = answered(self, now_us);
  } while (status == RM_WAIT);
  return status;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  rm_queue_op *self = (rm_queue_op *)op;
  return self->class->finish(self, err);
}

static void destroy(redmoon_op *op) {
  rm_queue_op *self = (rm_queue_op *)op;
  if (self->class->drop != NULL) self->class->drop(self);
  rm_key_free(&self->request);
  rm_call_fini(&self->call);
  rm_queue_unref(self->queue);
  rm_free(self);
}

static redmoon_outcome outcome(const redmoon_op *op) {
  const rm_queue_op *self = (const rm_queue_op *)op;
  return self->changed ? REDMOON_UNKNOWN : rm_call_outcome(op);
}

static const rm_op_class queue_op_class = {step, finish, destroy, outcome};

void *rm_queue_op_new(redmoon_queue *queue, const rm_queue_op_class *class, size_t size) {
  rm_queue_op *self = rm_calloc(1, size);
  if (self == NULL) return NULL;
  rm_call_init(&self->call, queue->client, true);
  self->call.op.class = &queue_op_class;
  self->class = class;
  self->queue = rm_queue_ref(queue);
  return self;
}

int rm_queue_op_script(rm_queue_op *self, const rm_builtin *script, const char *letters, const redmoon_bytes *args,
                       size_t arg_count, unsigned flags, redmoon_error *err) {
  redmoon_bytes keys[QUEUE_KEYS + 1];
  size_t key_count = rm_queue_keys(self->queue, letters, keys);
  bool events = self->queue->options.events > 0 && letters[strlen(letters) - 1] == 'e';
  key_count = rm_queue_add_request(self->request, key_count, events, keys);
  const redmoon_script_args all = {keys, key_count, args, arg_count};
  rm_call_reset(&self->call);
  return rm_builtin_format(&self->call, script, &all, flags, err);
}

int rm_queue_op_start(rm_queue_op *self, int status, redmoon_op **op) {
  if (status < 0) destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}
