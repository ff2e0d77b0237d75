/* SPDX-License-Identifier: MIT */
/* A job under a lease: what its worker says of it.
 *
 *     pop --> HELD --ack, nack or release--> ENDED
 *              |  ^ extend, renewal
 *              v  |
 *             LOST   the server said that another has it, or that it was removed
 *
 * The lease is counted from before the request was sent, so it never seems to last longer than on the server. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/list.h"
#include "base/random.h"
#include "base/secret.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_ERROR = 1000 };
static const int64_t ten_years_ms = INT64_C(315360000000), year_ms = INT64_C(31622400000);

redmoon_job *rm_job_ref(redmoon_job *job) {
  atomic_fetch_add(&job->refs, 1);
  return job;
}

void rm_job_unref(redmoon_job *job) {
  if (atomic_fetch_sub(&job->refs, 1) > 1) return;
  if (job->payload != NULL) rm_wipe(job->payload, job->payload_len);
  rm_free(job->payload);
  rm_free(job->group);
  rm_queue_unref(job->queue);
  rm_free(job);
}

static void end_renewal(redmoon_job *job) {
  if (job->renews) rm_renewal_remove(job->queue->client, &job->renewal);
  job->renews = false;
}

void redmoon_job_free(redmoon_job *job) {
  if (job == NULL) return;
  end_renewal(job);
  rm_job_unref(job);
}

const char *redmoon_job_id(const redmoon_job *job) { return job->id; }
const char *redmoon_job_group(const redmoon_job *job) { return job->group; }
int64_t redmoon_job_attempt(const redmoon_job *job) { return job->attempt; }
int64_t redmoon_job_epoch(const redmoon_job *job) { return job->epoch; }

const void *redmoon_job_payload(const redmoon_job *job, size_t *len) {
  if (len != NULL) *len = job->payload_len;
  return job->payload;
}

int redmoon_job_held(const redmoon_job *job) { return redmoon_job_remaining_ms(job) > 0; }

int64_t redmoon_job_remaining_ms(const redmoon_job *job) {
  if (atomic_load(&job->state) != RM_JOB_HELD) return 0;
  return (rm_max64(atomic_load(&job->until_us) - rm_clock_boot_us(), 0) + 999) / 1000;
}

/* From an answer. */

static int64_t lease_end_us(int64_t began_us, int64_t lease_ms) {
  int64_t lease_us = lease_ms * 1000;
  return began_us + lease_us - (lease_us / 100 + 2000); /* 1 % for clocks that drift, 2 ms for what they round */
}

static int decode_job(redmoon_queue *queue, const redmoon_reply *reply, size_t at, redmoon_job *job, redmoon_error *err) {
  redmoon_bytes id, payload;
  int status = rm_queue_bytes(queue, reply, at, &id, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 1, &job->epoch, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 2, &job->attempt, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, at + 3, &payload, err);
  if (status < 0) return status;
  const char *cut = memchr(id.ptr, '\0', id.len);
  size_t id_len = cut == NULL ? id.len : (size_t)(cut - (const char *)id.ptr);
  if (id_len >= sizeof job->id)
    return rm_fail(err, REDMOON_EPROTOCOL, "queue '%s': the script's answer has an id of %zu bytes", queue->shown, id_len);
  memcpy(job->id, id.ptr, id_len);
  if (cut != NULL) job->group = rm_strndup(cut + 1, id.len - id_len - 1);
  job->payload = rm_strndup(payload.ptr, payload.len);
  job->payload_len = payload.len;
  return job->payload == NULL || (cut != NULL && job->group == NULL) ? rm_fail_nomem_answered(err) : 0;
}

int rm_jobs_decode(redmoon_queue *queue, const redmoon_reply *reply, size_t first, int64_t began_us, redmoon_job **jobs,
                   size_t max, size_t *count, redmoon_error *err) {
  size_t there = redmoon_reply_count(reply);
  *count = 0;
  for (size_t at = first; at + QUEUE_JOB_FIELDS <= there && *count < max; at += QUEUE_JOB_FIELDS) {
    redmoon_job *job = rm_calloc(1, sizeof *job);
    if (job == NULL) return rm_fail_nomem_answered(err);
    job->queue = rm_queue_ref(queue);
    atomic_init(&job->refs, 1);
    atomic_init(&job->state, RM_JOB_HELD);
    atomic_init(&job->until_us, lease_end_us(began_us, queue->options.lease_ms));
    int status = decode_job(queue, reply, at, job, err);
    if (status < 0) {
      rm_job_unref(job);
      return status;
    }
    jobs[(*count)++] = job;
    rm_client_count(queue->client, "queue", "popped");
  }
  return 0;
}

/* Answers. */

void rm_job_mark_lost(redmoon_job *job) {
  int held = RM_JOB_HELD; /* the renewal of one that was just ended has no news */
  if (atomic_compare_exchange_strong(&job->state, &held, RM_JOB_LOST))
    rm_client_count(job->queue->client, "queue", "lost");
}

void rm_job_prolong(redmoon_job *job, int64_t began_us, int64_t lease_ms) {
  int64_t until_us = lease_end_us(began_us, lease_ms), before = atomic_load(&job->until_us);
  while (before < until_us && !atomic_compare_exchange_weak(&job->until_us, &before, until_us)) {
  }
}

static int lost(redmoon_job *job, int64_t code, redmoon_error *err) {
  char shown[QUEUE_SHOWN];
  rm_escape(shown, sizeof shown, job->id, strlen(job->id));
  rm_job_mark_lost(job);
  return rm_fail(err, REDMOON_ELOST, "queue '%s': job '%s' %s", job->queue->shown, shown,
                 code == RM_STATUS_QUEUE_GONE ? "is there no more: its lease passed to another, who ended it, or it was removed"
                                              : "is not this worker's any more: its lease passed to another, or was given up");
}

/* An end that is refused may be the repetition of one that was executed: inside the lease nobody else can have ended it,
 * but for somebody who removed it. */
bool rm_job_ended_before(const redmoon_job *job, const rm_answer *answer) {
  return (answer->repeated || atomic_load(&job->maybe_ended)) && rm_clock_boot_us() < atomic_load(&job->until_us);
}

static bool ended_before(const rm_queue_call *call, const rm_answer *answer) {
  return call->ends && rm_job_ended_before(call->job, answer);
}

/* 0 and the code, or how the call failed. */
static int read_code(const rm_queue_call *call, const rm_answer *answer, int64_t *code, redmoon_error *err) {
  int status = rm_queue_integer(call->queue, answer->reply, 0, code, err);
  if (status == 0 && *code < RM_STATUS_QUEUE_OK) {
    if (ended_before(call, answer)) *code = RM_STATUS_QUEUE_OK;
    else status = lost(call->job, *code, err);
  }
  return rm_queue_answered(err, answer->attempts, status);
}

static int decode_end(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  int64_t code;
  int status = read_code(call, answer, &code, err);
  if (status < 0) return status;
  if (call->ends) atomic_store(&call->job->state, RM_JOB_ENDED);
  if (call->out != NULL) *(int *)call->out = code == RM_STATUS_QUEUE_DEAD;
  rm_client_count(call->queue->client, "queue", code == RM_STATUS_QUEUE_DEAD ? "dead" : call->verb);
  return 0;
}

/* The script answers for each of its jobs. */
static int decode_each(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  int64_t code;
  int status = rm_queue_integer(call->queue, answer->reply, 1, &code, err);
  if (status == 0 && code < RM_STATUS_QUEUE_OK && !ended_before(call, answer)) status = lost(call->job, code, err);
  if (status < 0) return rm_queue_answered(err, answer->attempts, status);
  if (call->ends) atomic_store(&call->job->state, RM_JOB_ENDED);
  else rm_job_prolong(call->job, call->began_us, call->value);
  rm_client_count(call->queue->client, "queue", call->verb);
  return 0;
}

/* Requests. */

static int job_start(redmoon_job *job, const char *verb, bool ends, int64_t value, void *out, rm_queue_call **call,
                     redmoon_error *err) {
  rm_error_clear(err);
  if (atomic_load(&job->state) == RM_JOB_ENDED)
    return rm_fail(err, REDMOON_ELOST, "queue '%s': the job was ended by this worker", job->queue->shown);
  *call = rm_queue_call_new(job->queue, job, out, err);
  if (*call == NULL) return REDMOON_ENOMEM;
  (*call)->verb = verb;
  (*call)->ends = ends;
  (*call)->value = value;
  return 0;
}

/* Ack. */

static int decode_ack_next(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  bool renews = call->job->renews;
  redmoon_job *next = NULL;
  size_t count = 0;
  int64_t code;
  int status = read_code(call, answer, &code, err);
  if (status < 0) return status;
  atomic_store(&call->job->state, RM_JOB_ENDED);
  rm_client_count(call->queue->client, "queue", "acked");
  status = rm_jobs_decode(call->queue, answer->reply, 3, call->began_us, &next, 1, &count, err);
  if (status < 0) return rm_queue_answered(err, answer->attempts, status);
  if (next != NULL && renews) rm_job_renew(next);
  *(redmoon_job **)call->out = next;
  return 0;
}

static int ack_start(redmoon_job *job, const redmoon_ack_options *options, redmoon_job **next, redmoon_op **op,
                     redmoon_error *err) {
  static const redmoon_ack_options none = REDMOON_ACK_OPTIONS_INIT;
  if (options == NULL) options = &none;
  *op = NULL;
  const redmoon_queue *queue = job->queue;
  int64_t retention_ms = rm_queue_given(options->retention_ms, queue->options.retention_ms);
  int status = rm_queue_check_option("retention (ms)", retention_ms, 0, year_ms, err);
  if (status < 0) return status;
  if (options->result_len > (size_t)queue->options.max_payload)
    return rm_fail(err, REDMOON_ETOO_LARGE, "queue '%s': a result of %zu bytes is not accepted; max_payload is %" PRId64,
                   queue->shown, options->result_len, queue->options.max_payload);
  rm_queue_call *call;
  if ((status = job_start(job, "acked", true, 0, next, &call, err)) < 0) return status;
  rm_queue_text texts[3 + QUEUE_GROUP_ARGS], length;
  redmoon_bytes args[6 + QUEUE_GROUP_ARGS + 1] = {rm_queue_string(job->id), rm_queue_number(&texts[0], job->epoch),
                                              rm_queue_number(&texts[1], retention_ms),
                                              {options->result, options->result_len},
                                              rm_queue_string(next != NULL ? "1" : "0"),
                                              rm_queue_number(&texts[2], queue->options.lease_ms)};
  size_t arg_count = 6 + (next != NULL ? rm_queue_group_limits(queue, texts + 3, args + 6) : 0);
  arg_count += rm_queue_event_arg(queue, &length, &args[arg_count]);
  call->replicated = true;
  /* Repeated, it would take a second job: one that nobody has until its lease is over. */
  unsigned flags = next == NULL ? RM_CALL_REPEATABLE : 0;
  return rm_queue_call_start(call, &rm_script_queue_ack, "jsrdlxowge", args, arg_count, flags,
                             next != NULL ? decode_ack_next : decode_end, op, err);
}

int redmoon_job_ack_start(redmoon_job *job, const redmoon_ack_options *options, redmoon_op **op, redmoon_error *err) {
  return ack_start(job, options, NULL, op, err);
}

int redmoon_job_ack(redmoon_job *job, const redmoon_ack_options *options, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_ack_start(job, options, &op, err), &op, err);
}

int redmoon_job_ack_next_start(redmoon_job *job, const redmoon_ack_options *options, redmoon_job **next, redmoon_op **op,
                               redmoon_error *err) {
  return ack_start(job, options, next, op, err);
}

int redmoon_job_ack_next(redmoon_job *job, const redmoon_ack_options *options, redmoon_job **next, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_ack_next_start(job, options, next, &op, err), &op, err);
}

/* Nack. */

/* Full jitter: up to twice as much after each failure. */
static int64_t backoff_ms(const redmoon_job *job) {
  const redmoon_queue_options *options = &job->queue->options;
  int64_t bound = options->min_backoff_ms;
  for (int64_t i = 1; i < job->attempt && bound < options->max_backoff_ms; i++) bound *= 2;
  return rm_random_upto(rm_min64(bound, options->max_backoff_ms));
}

int redmoon_job_nack_start(redmoon_job *job, const redmoon_nack_options *options, int *dead, redmoon_op **op,
                           redmoon_error *err) {
  static const redmoon_nack_options none = REDMOON_NACK_OPTIONS_INIT;
  if (options == NULL) options = &none;
  *op = NULL;
  int64_t fatal = rm_queue_given(options->fatal, 0), delay_ms = rm_queue_given(options->delay_ms, 0);
  int status = rm_queue_check_option("fatal", fatal, 0, 1, err);
  if (status == 0) status = rm_queue_check_option("delay (ms)", delay_ms, 0, ten_years_ms, err);
  if (status < 0) return status;
  if (options->delay_ms == REDMOON_UNSET) delay_ms = backoff_ms(job);
  rm_queue_call *call;
  if ((status = job_start(job, "nacked", true, 0, dead, &call, err)) < 0) return status;
  redmoon_bytes why = rm_queue_string(options->error != NULL ? options->error : "");
  if (why.len > MAX_ERROR) why.len = MAX_ERROR;
  rm_queue_text texts[3];
  redmoon_bytes args[6] = {rm_queue_string(job->id), rm_queue_number(&texts[0], job->epoch),
                           rm_queue_number(&texts[1], delay_ms), why, rm_queue_string(fatal ? "1" : "0")};
  size_t arg_count = 5 + rm_queue_event_arg(job->queue, &texts[2], &args[5]);
  return rm_queue_call_start(call, &rm_script_queue_nack, "jsrdlxwge", args, arg_count, RM_CALL_REPEATABLE, decode_end, op, err);
}

int redmoon_job_nack(redmoon_job *job, const redmoon_nack_options *options, int *dead, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_nack_start(job, options, dead, &op, err), &op, err);
}

/* Extend, release, progress. */

static int extend_with(redmoon_job *job, redmoon_client *client, int64_t lease_ms, redmoon_op **op, redmoon_error *err) {
  rm_queue_call *call;
  int status = job_start(job, "extended", false, lease_ms, NULL, &call, err);
  if (status < 0) return status;
  rm_queue_text texts[2];
  const redmoon_bytes args[] = {rm_queue_number(&texts[0], lease_ms), rm_queue_string(job->id),
                                rm_queue_number(&texts[1], job->epoch)};
  redmoon_bytes keys[QUEUE_KEYS + 1];
  const redmoon_script_args all = {keys, rm_queue_keys(job->queue, "jl", keys), args, 3};
  return rm_builtin_start(client, &rm_script_queue_extend, &all, RM_CALL_REPEATABLE, decode_each, rm_queue_call_drop,
                          call, op, err);
}

int redmoon_job_extend_start(redmoon_job *job, int64_t lease_ms, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  lease_ms = rm_queue_given(lease_ms, job->queue->options.lease_ms);
  int status = rm_queue_check_lease(lease_ms, err);
  return status < 0 ? status : extend_with(job, job->queue->client, lease_ms, op, err);
}

int redmoon_job_extend(redmoon_job *job, int64_t lease_ms, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_extend_start(job, lease_ms, &op, err), &op, err);
}

int redmoon_job_release_start(redmoon_job *job, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_queue_call *call;
  int status = job_start(job, "released", true, 0, NULL, &call, err);
  if (status < 0) return status;
  rm_queue_text texts[2];
  redmoon_bytes args[3] = {rm_queue_string(job->id), rm_queue_number(&texts[0], job->epoch)};
  size_t arg_count = 2 + rm_queue_event_arg(job->queue, &texts[1], &args[2]);
  return rm_queue_call_start(call, &rm_script_queue_release, "jrlwsge", args, arg_count, RM_CALL_REPEATABLE, decode_each, op, err);
}

int redmoon_job_release(redmoon_job *job, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_release_start(job, &op, err), &op, err);
}

int redmoon_job_progress_start(redmoon_job *job, const void *progress, size_t len, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  const redmoon_queue *queue = job->queue;
  if (len > (size_t)queue->options.max_payload)
    return rm_fail(err, REDMOON_ETOO_LARGE, "queue '%s': a progress of %zu bytes is not accepted; max_payload is %" PRId64,
                   queue->shown, len, queue->options.max_payload);
  rm_queue_call *call;
  int status = job_start(job, "progress", false, 0, NULL, &call, err);
  if (status < 0) return status;
  rm_queue_text texts[2];
  redmoon_bytes args[4] = {rm_queue_string(job->id), rm_queue_number(&texts[0], job->epoch), {progress, len}};
  size_t arg_count = 3 + rm_queue_event_arg(queue, &texts[1], &args[3]);
  return rm_queue_call_start(call, &rm_script_queue_progress, "jle", args, arg_count, RM_CALL_REPEATABLE, decode_end, op, err);
}

int redmoon_job_progress(redmoon_job *job, const void *progress, size_t len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_job_progress_start(job, progress, len, &op, err), &op, err);
}

/* Renewal: at a third of the lease; what fails is tried again after a pause, until the careful end. */

enum { FIRST_PAUSE_US = 8000, LONGEST_PAUSE_US = 512000 };

static int renewal_start(rm_renewal *renewal, redmoon_op **op, redmoon_error *err) {
  redmoon_job *job = RM_CONTAINER_OF(renewal, redmoon_job, renewal);
  if (atomic_load(&job->state) != RM_JOB_HELD) return RM_DONE;
  return extend_with(job, job->queue->renewer, job->queue->options.lease_ms, op, err);
}

/* A lease that is over is still tried, each third of it: as long as nobody took the job it is this worker's. */
static int64_t renewal_ended(rm_renewal *renewal, int status, const redmoon_error *err) {
  (void)err;
  redmoon_job *job = RM_CONTAINER_OF(renewal, redmoon_job, renewal);
  if (atomic_load(&job->state) != RM_JOB_HELD || status == REDMOON_ECLOSED) return RM_FOREVER;
  int64_t third_us = job->queue->options.lease_ms * 1000 / 3, bound = FIRST_PAUSE_US;
  if (status == 0) {
    job->failures = 0;
    return rm_clock_now_us() + third_us;
  }
  rm_client_count(job->queue->client, "queue", "renewal_failed");
  job->failures++;
  for (int i = 1; i < job->failures && bound < LONGEST_PAUSE_US; i++) bound *= 2;
  return rm_clock_now_us() + 1000 + rm_random_upto(rm_min64(rm_min64(bound, LONGEST_PAUSE_US), third_us / 2));
}

void rm_job_renew(redmoon_job *job) {
  static const rm_renewal_class class = {renewal_start, renewal_ended};
  job->renewal.class = &class;
  job->renews = true;
  rm_renewal_add(job->queue->client, &job->renewal, rm_clock_now_us() + job->queue->options.lease_ms * 1000 / 3);
}
