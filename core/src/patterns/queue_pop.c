/* SPDX-License-Identifier: MIT */
/* Taking jobs: one operation, however long it waits.
 *
 *     start --> ASK --jobs--------------------------------------> done
 *                ^  \--none, and it was the last question--> done with none
 *                |   \--none--> WAIT (BZPOPMIN on the marker) --+
 *                +----------- woken, or it is time to ask ------+
 *
 * The marker wakes one worker for each job; who took it asks, and the script sets it again if there are more.  How long
 * WAIT lasts at most is what the script says: until the next delayed job is due or lease is over, if this worker is the one
 * who keeps the time (scripts/include/queue_wake.lua), else about a second, so that a worker that died between the marker
 * and its asking costs the others no more than that.
 *
 * Servers that have nothing else to do end a wait up to a tenth of a second late.  So who keeps the time looks at its own
 * clock, and then sets the marker itself, on another connection: that ends the wait of whoever waits longest, at once.
 */
#include "patterns/queue_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

enum { MAX_TIMEOUT_MS = 86400000, BELL_US = 150000 };
typedef enum bell_state { BELL_SET, BELL_RINGS, BELL_RUNG } bell_state;

typedef struct pop_op {
  rm_queue_op base; /* first */
  redmoon_job **out;
  size_t *got; /* NULL: one job is wanted, and *out is NULL without one */
  size_t count, found;
  redmoon_job **jobs; /* found, not yet the caller's; points to `one` or behind this */
  redmoon_job *one;
  int64_t timeout_us, end_us; /* end_us: of the wait; -1: not begun */
  int64_t began_us;
  bool renew, waits, keeps;
  bell_state bell; /* of a wait in which it keeps the time */
  rm_call ring;    /* while the bell rings */
  int64_t ring_us;
  bool last; /* what was asked is the last question, said so: a keeper does not go unnoticed */
} pop_op;

/* Asks (again). */
static int ask(pop_op *self, bool last, redmoon_error *err) {
  const redmoon_queue *queue = self->base.queue;
  rm_queue_text texts[2 + QUEUE_GROUP_ARGS], length;
  redmoon_bytes args[4 + QUEUE_GROUP_ARGS + 1] = {rm_queue_number(&texts[0], (int64_t)self->count),
                                              rm_queue_number(&texts[1], queue->options.lease_ms),
                                              rm_queue_string(last ? "0" : "1"),
                                              rm_queue_string(self->keeps ? "1" : "0")};
  size_t arg_count = 4 + rm_queue_group_limits(queue, texts + 2, args + 4);
  arg_count += rm_queue_event_arg(queue, &length, &args[arg_count]);
  self->waits = false;
  self->last = last;
  self->began_us = rm_clock_boot_us();
  return rm_queue_op_script(&self->base, &rm_script_queue_pop, "jsrdlxowge", args, arg_count,
                            self->base.request.ptr != NULL ? RM_CALL_REPEATABLE : 0, err);
}

/* Keeping the time. */

/* A bell that cannot be rung (the pool has no second connection) is no harm: the server ends the wait. */
static void begin_ring(pop_op *self, int64_t now_us) {
  redmoon_op *op = &self->base.call.op;
  const redmoon_bytes *key = &self->base.queue->keys[QUEUE_WAKE];
  rm_call_init(&self->ring, op->client, false);
  self->ring.op.owner = op->owner;
  self->ring.fixed_deadline_us = now_us + BELL_US;
  self->bell = BELL_RINGS;
  if (rm_call_argv(&self->ring, 4, (const char *const[]){"ZADD", key->ptr, "0", "wake"},
                   (const size_t[]){4, key->len, 1, 4}, RM_CALL_REPEATABLE, NULL) == 0)
    return;
  rm_call_fini(&self->ring);
  self->bell = BELL_RUNG;
}

static int keep_time(pop_op *self, int64_t now_us) {
  redmoon_op *op = &self->base.call.op;
  if (self->bell == BELL_SET && now_us >= self->ring_us) begin_ring(self, now_us);
  if (self->bell == BELL_RINGS) {
    int rung = rm_call_step(&self->ring.op, now_us);
    op->wants = self->ring.op.wants;
    if (rung == RM_WAIT) return RM_WAIT;
    rm_call_fini(&self->ring);
    self->bell = BELL_RUNG;
  }
  int status = rm_call_step(op, now_us);
  if (status == RM_WAIT && self->bell == BELL_SET) op->wants.until_us = rm_min64(op->wants.until_us, self->ring_us);
  return status;
}

static int pop_step(rm_queue_op *base, int64_t now_us) {
  pop_op *self = (pop_op *)base;
  redmoon_op *op = &base->call.op;
  if (!self->waits || !self->keeps) return rm_call_step(op, now_us);
  bool blocks = op->may_block;
  if (blocks && op->owner == 0) op->owner = (uintptr_t)pthread_self(); /* as the call would have it */
  op->may_block = false; /* in the kernel: there is a clock to look at */
  int status = keep_time(self, now_us);
  op->may_block = blocks;
  return status;
}

/* A marker that was taken without an answer is as good as none: the next question finds what there is. */
static int wait_for_marker(pop_op *self, int64_t wait_us, redmoon_error *err) {
  char seconds[32];
  int64_t ms = rm_max64((wait_us + 999) / 1000, 1);
  int len = snprintf(seconds, sizeof seconds, "%" PRId64 ".%03" PRId64, ms / 1000, ms % 1000);
  const redmoon_bytes *key = &self->base.queue->keys[QUEUE_WAKE];
  self->waits = true;
  rm_call_reset(&self->base.call);
  return rm_call_argv(&self->base.call, 3, (const char *const[]){"BZPOPMIN", key->ptr, seconds},
                      (const size_t[]){8, key->len, (size_t)len}, RM_CALL_REPEATABLE, err);
}

static int asked(pop_op *self, const redmoon_reply *reply, int64_t now_us) {
  redmoon_error *err = &self->base.call.op.error;
  redmoon_queue *queue = self->base.queue;
  int64_t code, wait_us, keeps;
  int status = rm_queue_integer(queue, reply, 0, &code, err);
  if (status == 0 && code != RM_STATUS_QUEUE_OK)
    status = rm_fail(err, REDMOON_ELOST, "queue '%s': what this request was given is leased to it no more", queue->shown);
  if (status == 0) status = rm_queue_integer(queue, reply, 1, &wait_us, err);
  if (status == 0) status = rm_queue_integer(queue, reply, 2, &keeps, err);
  if (status == 0)
    status = rm_jobs_decode(queue, reply, 3, self->began_us, self->jobs, self->count, &self->found, err);
  if (status < 0 || self->found > 0) return status < 0 ? status : RM_DONE;
  if (self->last) return RM_DONE;
  if (self->end_us < 0) self->end_us = now_us + self->timeout_us;
  self->keeps = keeps != 0;
  self->bell = BELL_SET;
  self->ring_us = now_us + wait_us;
  if (self->keeps) wait_us += BELL_US; /* the bell is first */
  else wait_us = wait_us / 2 + rm_random_upto(wait_us / 2); /* not all at once */
  status = wait_for_marker(self, rm_min64(wait_us, rm_max64(self->end_us - now_us, 0)), err);
  return status < 0 ? status : RM_WAIT;
}

static int answered(rm_queue_op *base, const redmoon_reply *reply, int64_t now_us) {
  pop_op *self = (pop_op *)base;
  if (!self->waits) return asked(self, reply, now_us);
  int status = ask(self, now_us >= self->end_us, &base->call.op.error);
  return status < 0 ? status : RM_WAIT;
}

static int finish(rm_queue_op *base, redmoon_error *err) {
  (void)err;
  pop_op *self = (pop_op *)base;
  if (self->got != NULL) *self->got = self->found;
  else *self->out = NULL;
  for (size_t i = 0; i < self->found; i++) {
    self->out[i] = self->jobs[i];
    if (self->renew) rm_job_renew(self->jobs[i]);
  }
  self->found = 0;
  return 0;
}

/* What was found and is nobody's comes back when its lease is over. */
static void drop(rm_queue_op *base) {
  pop_op *self = (pop_op *)base;
  if (self->bell == BELL_RINGS) rm_call_fini(&self->ring);
  for (size_t i = 0; i < self->found; i++) redmoon_job_free(self->jobs[i]);
}

static int check_options(const redmoon_pop_options *options, redmoon_error *err) {
  int status = rm_queue_check_option("timeout (ms)", rm_queue_given(options->timeout_ms, 0), 0, MAX_TIMEOUT_MS, err);
  if (status == 0) status = rm_queue_check_option("renew", rm_queue_given(options->renew, 0), 0, 1, err);
  return status == 0 ? rm_request_id_check(options->request_id, err) : status;
}

static int pop_start(redmoon_queue *queue, const redmoon_pop_options *options, size_t count, redmoon_job **jobs,
                     size_t *got, redmoon_op **op, redmoon_error *err) {
  static const redmoon_pop_options none = REDMOON_POP_OPTIONS_INIT;
  static const rm_queue_op_class class = {answered, finish, pop_step, drop};
  if (options == NULL) options = &none;
  *op = NULL;
  rm_error_clear(err);
  int status = check_options(options, err);
  if (status == 0 && (count < 1 || count > REDMOON_QUEUE_MANY_MAX))
    status = rm_fail(err, REDMOON_ECONFIG, "queue: %zu jobs are not accepted; give 1 to %d", count, REDMOON_QUEUE_MANY_MAX);
  bool renew = rm_queue_given(options->renew, 0) == 1;
  if (status == 0 && renew) status = rm_renewals_ready(queue->client, err);
  if (status < 0) return status;
  pop_op *self = rm_queue_op_new(queue, &class, sizeof *self + (count > 1 ? count * sizeof *self->jobs : 0));
  if (self == NULL) return rm_fail_nomem(err);
  self->jobs = count > 1 ? (redmoon_job **)(self + 1) : &self->one;
  self->out = jobs;
  self->got = got;
  self->count = count;
  self->renew = renew;
  self->timeout_us = rm_queue_given(options->timeout_ms, 0) * 1000;
  self->end_us = -1;
  if (options->request_id != NULL)
    status = rm_queue_request_key(queue, "queue.pop", options->request_id, &self->base.request, err);
  return rm_queue_op_start(&self->base, status < 0 ? status : ask(self, self->timeout_us == 0, err), op);
}

int redmoon_queue_pop_start(redmoon_queue *queue, const redmoon_pop_options *options, redmoon_job **job,
                            redmoon_op **op, redmoon_error *err) {
  return pop_start(queue, options, 1, job, NULL, op, err);
}

int redmoon_queue_pop(redmoon_queue *queue, const redmoon_pop_options *options, redmoon_job **job, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_pop_start(queue, options, job, &op, err), &op, err);
}

int redmoon_queue_pop_many_start(redmoon_queue *queue, const redmoon_pop_options *options, size_t count,
                                 redmoon_job **jobs, size_t *got, redmoon_op **op, redmoon_error *err) {
  return pop_start(queue, options, count, jobs, got, op, err);
}

int redmoon_queue_pop_many(redmoon_queue *queue, const redmoon_pop_options *options, size_t count, redmoon_job **jobs,
                           size_t *got, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_pop_many_start(queue, options, count, jobs, got, &op, err), &op, err);
}
