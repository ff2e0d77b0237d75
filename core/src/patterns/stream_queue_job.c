/* SPDX-License-Identifier: MIT */
/* A job under a lease: what its worker says of it.
 *
 *      HELD --ack, nack, release answered--> ENDED        HELD --another has it--> LOST
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"
#include "patterns/stream_queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The end of a lease of so many ms, asked for at `began_us`, by a judgement that errs to the side of too early. */
static int64_t lease_end_us(int64_t began_us, int64_t lease_ms) {
  int64_t lease_us = lease_ms * 1000;
  return began_us + lease_us - lease_us / 100 - 2000;
}

int rm_stream_job_new(redmoon_stream_queue *queue, redmoon_bytes id, redmoon_bytes payload, int64_t epoch,
                      int64_t attempt, int64_t began_us, redmoon_stream_job **out, redmoon_error *err) {
  if (id.len >= REDMOON_STREAM_ID_SIZE)
    return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': an id of %zu bytes was answered", queue->shown,
                   id.len);
  redmoon_stream_job *job = rm_alloc(sizeof *job + payload.len + 1);
  if (job == NULL) return rm_fail_nomem(err);
  memset(job, 0, sizeof *job);
  job->queue = rm_stream_ref(queue);
  job->refs = 1;
  job->epoch = epoch;
  job->attempt = attempt;
  job->until_us = lease_end_us(began_us, queue->options.lease_ms);
  memcpy(job->id, id.ptr, id.len);
  if (payload.len > 0) memcpy(job->payload, payload.ptr, payload.len);
  job->payload[payload.len] = '\0';
  job->payload_len = payload.len;
  *out = job;
  return 0;
}

void redmoon_stream_job_free(redmoon_stream_job *job) {
  if (job == NULL || --job->refs > 0) return;
  rm_stream_unref(job->queue);
  rm_free(job);
}

/* One call of a job. */

typedef struct job_call {
  redmoon_stream_job *job; /* a reference */
  rm_stream_verb verb;
  int64_t began_us;
  int *dead;
  redmoon_stream_job **next;
} job_call;

static const char *const told[] = {"", "it could be acknowledged", "its failure was told", "it could be given back",
                                   "its lease could be prolonged"};

static void call_drop(void *ctx, redmoon_outcome outcome) {
  job_call *call = ctx;
  if (outcome == REDMOON_UNKNOWN) call->job->maybe = call->verb;
  redmoon_stream_job_free(call->job);
  rm_free(call);
}

static int lost(const job_call *call, redmoon_error *err) {
  redmoon_stream_job *job = call->job;
  job->state = STREAM_WAS_LOST;
  rm_client_count(job->queue->client, "stream_queue", "lost");
  return rm_fail(err, REDMOON_ELOST, "stream queue '%s': the lease of job %s was lost before %s", job->queue->shown,
                 job->id, told[call->verb]);
}

static void ended(const job_call *call, bool dead) {
  static const char *const counts[] = {"", "acked", "nacked", "released", ""};
  redmoon_stream_queue *queue = call->job->queue;
  call->job->state = STREAM_ENDED;
  if (call->verb != STREAM_ACK && !dead) { /* this handle's next pop finds it, in its place */
    atomic_store(&queue->place_ms, 0);
    atomic_store(&queue->place_seq, 0);
    atomic_store(&queue->look_us, 0);
  }
  if (call->dead != NULL) *call->dead = dead;
  rm_client_count(queue->client, "stream_queue", dead ? "died" : counts[call->verb]);
}

/* The next job of an answer {1, id, epoch, attempt, payload}. */
static int take_next(const job_call *call, const redmoon_reply *reply, redmoon_error *err) {
  redmoon_stream_queue *queue = call->job->queue;
  redmoon_bytes id, payload;
  int64_t epoch, attempt;
  int status = rm_stream_bytes(queue, reply, 1, &id, err);
  if (status == 0) status = rm_stream_integer(queue, reply, 2, &epoch, err);
  if (status == 0) status = rm_stream_integer(queue, reply, 3, &attempt, err);
  if (status == 0) status = rm_stream_bytes(queue, reply, 4, &payload, err);
  if (status == 0) status = rm_stream_job_new(queue, id, payload, epoch, attempt, call->began_us, call->next, err);
  if (status == 0) rm_client_count(queue->client, "stream_queue", "taken");
  return status;
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  job_call *call = ctx;
  redmoon_stream_job *job = call->job;
  int64_t code, left_ms;
  int status = rm_stream_integer(job->queue, answer->reply, 0, &code, err);
  if (status < 0) return rm_stream_answered(err, answer->attempts, status);
  if (call->verb == STREAM_EXTEND && code == RM_STATUS_STREAM_OK) {
    status = rm_stream_integer(job->queue, answer->reply, 1, &left_ms, err);
    if (status == 0) job->until_us = rm_max64(job->until_us, lease_end_us(call->began_us, left_ms));
    return rm_stream_answered(err, answer->attempts, status);
  }
  if (code == RM_STATUS_STREAM_OK || code == RM_STATUS_STREAM_DEAD) {
    ended(call, code == RM_STATUS_STREAM_DEAD);
    if (call->next == NULL || redmoon_reply_count(answer->reply) == 1) return 0;
    redmoon_error why;
    status = take_next(call, answer->reply, &why);
    if (status == 0 || status == REDMOON_ENOMEM) return 0; /* it comes back when its lease is over */
    if (err != NULL) *err = why;
    return rm_stream_answered(err, answer->attempts, status);
  }
  /* Inside the lease nobody else can have changed it: this very call has, when it was sent before. */
  bool earlier = (answer->repeated || job->maybe == call->verb) && rm_clock_boot_us() < job->until_us;
  if (earlier && call->verb != STREAM_EXTEND) {
    ended(call, call->verb == STREAM_NACK && code == RM_STATUS_STREAM_GONE);
    return 0;
  }
  return rm_stream_answered(err, answer->attempts, lost(call, err));
}

static int check_held(const redmoon_stream_job *job, const char *what, redmoon_error *err) {
  if (job->state == STREAM_HELD) return 0;
  return rm_fail(err, REDMOON_ELOST, "stream queue '%s': job %s %s before %s", job->queue->shown, job->id,
                 job->state == STREAM_ENDED ? "was ended" : "was lost", what);
}

/* `args` begin with room for consumer, id and epoch; `what`: verb and out-parameters. */
static int start(redmoon_stream_job *job, const job_call *what, const rm_builtin *script,
                 const redmoon_script_args *rest, redmoon_bytes *args, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  int status = check_held(job, told[what->verb], err);
  if (status < 0) return status;
  job_call *call = rm_alloc(sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  job->refs++;
  *call = *what;
  call->job = job;
  call->began_us = rm_clock_boot_us();
  rm_stream_text epoch;
  args[0] = rm_stream_string(job->queue->consumer);
  args[1] = rm_stream_string(job->id);
  args[2] = rm_stream_number(&epoch, job->epoch);
  const redmoon_script_args all = {rest->keys, rest->key_count, args, rest->arg_count};
  return rm_builtin_start(job->queue->client, script, &all, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
}

/* Entries and what was released: the keys of scripts that leave the dead alone. */
static void own_keys(const redmoon_stream_job *job, redmoon_bytes keys[2]) {
  keys[0] = job->queue->keys[STREAM_ENTRIES];
  keys[1] = job->queue->keys[STREAM_RELEASED];
}

static int ack_start(redmoon_stream_job *job, redmoon_stream_job **next, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes keys[2], args[4] = {{NULL, 0}};
  own_keys(job, keys);
  /* When leases are to be looked at, that is for a pop to do. */
  bool due = rm_clock_now_us() >= atomic_load(&job->queue->look_us);
  args[3] = rm_stream_string(next != NULL && !due ? "1" : "0");
  return start(job, &(job_call){.verb = STREAM_ACK, .next = next}, &rm_script_stream_ack,
               &(redmoon_script_args){keys, 2, NULL, 4}, args, op, err);
}

int redmoon_stream_job_ack_start(redmoon_stream_job *job, redmoon_op **op, redmoon_error *err) {
  return ack_start(job, NULL, op, err);
}

int redmoon_stream_job_ack(redmoon_stream_job *job, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_job_ack_start(job, &op, err), &op, err);
}

int redmoon_stream_job_ack_next_start(redmoon_stream_job *job, redmoon_stream_job **next, redmoon_op **op,
                                      redmoon_error *err) {
  *next = NULL;
  return ack_start(job, next, op, err);
}

int redmoon_stream_job_ack_next(redmoon_stream_job *job, redmoon_stream_job **next, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_job_ack_next_start(job, next, &op, err), &op, err);
}

int redmoon_stream_job_release_start(redmoon_stream_job *job, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes keys[2], args[3] = {{NULL, 0}};
  own_keys(job, keys);
  return start(job, &(job_call){.verb = STREAM_RELEASE}, &rm_script_stream_release,
               &(redmoon_script_args){keys, 2, NULL, 3}, args, op, err);
}

int redmoon_stream_job_release(redmoon_stream_job *job, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_job_release_start(job, &op, err), &op, err);
}

int redmoon_stream_job_nack_start(redmoon_stream_job *job, const redmoon_stream_nack_options *options, int *dead,
                                  redmoon_op **op, redmoon_error *err) {
  static const redmoon_stream_nack_options none = REDMOON_STREAM_NACK_OPTIONS_INIT;
  if (options == NULL) options = &none;
  *op = NULL;
  const redmoon_stream_queue_options *queue = &job->queue->options;
  int64_t delay_ms = rm_stream_given(options->delay_ms, 0), fatal = rm_stream_given(options->fatal, 0);
  int status = rm_stream_check_option("delay", delay_ms, 0, queue->lease_ms, err);
  if (status == 0) status = rm_stream_check_option("fatal", fatal, 0, 1, err);
  if (status < 0) return status;
  rm_stream_text numbers[4];
  redmoon_bytes args[8] = {{NULL, 0}};
  args[3] = rm_stream_number(&numbers[0], queue->max_attempts);
  args[4] = rm_stream_number(&numbers[1], queue->lease_ms);
  args[5] = rm_stream_number(&numbers[2], delay_ms);
  args[6] = rm_stream_number(&numbers[3], fatal);
  args[7] = rm_stream_string(options->error != NULL ? options->error : "");
  return start(job, &(job_call){.verb = STREAM_NACK, .dead = dead}, &rm_script_stream_nack,
               &(redmoon_script_args){job->queue->keys, STREAM_KEYS, NULL, 8}, args, op, err);
}

int redmoon_stream_job_nack(redmoon_stream_job *job, const redmoon_stream_nack_options *options, int *dead,
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_job_nack_start(job, options, dead, &op, err), &op, err);
}

int redmoon_stream_job_extend_start(redmoon_stream_job *job, int64_t lease_ms, redmoon_op **op,
                                    redmoon_error *err) {
  *op = NULL;
  int64_t most_ms = job->queue->options.lease_ms;
  lease_ms = rm_stream_given(lease_ms, most_ms);
  int status = rm_stream_check_option("lease", lease_ms, 1, most_ms, err);
  if (status < 0) return status;
  rm_stream_text numbers[2];
  redmoon_bytes args[5] = {{NULL, 0}};
  args[3] = rm_stream_number(&numbers[0], most_ms);
  args[4] = rm_stream_number(&numbers[1], lease_ms);
  return start(job, &(job_call){.verb = STREAM_EXTEND}, &rm_script_stream_extend,
               &(redmoon_script_args){job->queue->keys, 1, NULL, 5}, args, op, err);
}

int redmoon_stream_job_extend(redmoon_stream_job *job, int64_t lease_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_job_extend_start(job, lease_ms, &op, err), &op, err);
}

/* What the handle knows. */

int64_t redmoon_stream_job_remaining_ms(const redmoon_stream_job *job) {
  int64_t left_us = job->state == STREAM_HELD ? job->until_us - rm_clock_boot_us() : 0;
  return left_us > 0 ? left_us / 1000 : 0;
}

int redmoon_stream_job_held(const redmoon_stream_job *job) {
  return job->state == STREAM_HELD && rm_clock_boot_us() < job->until_us;
}

const char *redmoon_stream_job_id(const redmoon_stream_job *job) { return job->id; }
int64_t redmoon_stream_job_attempt(const redmoon_stream_job *job) { return job->attempt; }
int64_t redmoon_stream_job_epoch(const redmoon_stream_job *job) { return job->epoch; }

const void *redmoon_stream_job_payload(const redmoon_stream_job *job, size_t *len) {
  if (len != NULL) *len = job->payload_len;
  return job->payload;
}
