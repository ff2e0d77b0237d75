/* SPDX-License-Identifier: MIT */
/* What is said of many jobs in one request: that their leases go on, or that they are done. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/replicas.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

/* One request under way; the jobs follow it. */
typedef struct many_call {
  redmoon_queue *queue; /* a reference */
  int *lost;
  bool ends;
  redmoon_job **next; /* NULL: none are to be taken */
  size_t *got, most;
  int64_t lease_ms, began_us;
  size_t count;
  redmoon_job *jobs[]; /* references */
} many_call;

static void drop(void *ctx, redmoon_outcome outcome) {
  many_call *call = ctx;
  for (size_t i = 0; i < call->count; i++) {
    if (call->ends && outcome == REDMOON_UNKNOWN) atomic_store(&call->jobs[i]->maybe_ended, true);
    rm_job_unref(call->jobs[i]);
  }
  rm_queue_unref(call->queue);
  rm_free(call);
}

/* What the script said of one job. */
static bool is_lost(const many_call *call, redmoon_job *job, int64_t code, const rm_answer *answer) {
  if (code != RM_STATUS_QUEUE_OK && !(call->ends && rm_job_ended_before(job, answer))) {
    rm_job_mark_lost(job);
    return true;
  }
  if (!call->ends) {
    rm_job_prolong(job, call->began_us, call->lease_ms);
  } else if (atomic_exchange(&job->state, RM_JOB_ENDED) != RM_JOB_ENDED) {
    rm_client_count(call->queue->client, "queue", "acked");
  }
  return false;
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  many_call *call = ctx;
  bool renews = false;
  for (size_t i = 0; i < call->count; i++) {
    int64_t code;
    int status = rm_queue_integer(call->queue, answer->reply, i + 1, &code, err);
    if (status < 0) return rm_queue_answered(err, answer->attempts, status);
    call->lost[i] = is_lost(call, call->jobs[i], code, answer);
    renews = renews || call->jobs[i]->renews;
  }
  if (call->next == NULL) return 0;
  int status = rm_jobs_decode(call->queue, answer->reply, call->count + 3, call->began_us, call->next, call->most,
                              call->got, err);
  for (size_t i = 0; i < *call->got && renews; i++) rm_job_renew(call->next[i]);
  return rm_queue_answered(err, answer->attempts, status);
}

static many_call *call_new(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int *lost) {
  many_call *call = rm_calloc(1, sizeof *call + count * sizeof *call->jobs);
  if (call == NULL) return NULL;
  call->queue = rm_queue_ref(queue);
  call->lost = lost;
  call->began_us = rm_clock_boot_us();
  call->count = count;
  for (size_t i = 0; i < count; i++) call->jobs[i] = rm_job_ref(jobs[i]);
  return call;
}

/* Numbers in front of the jobs. */
enum { MOST_HEAD = 3 };
typedef struct head {
  const rm_builtin *script;
  const char *letters;
  int64_t numbers[MOST_HEAD];
  size_t count;
  int64_t min_replicas;
  unsigned flags;
} head;

static int start(many_call *call, const head *h, redmoon_op **op, redmoon_error *err) {
  size_t count = call->count, arg_count = h->count + 2 * count;
  rm_queue_text *texts = rm_calloc(h->count + count + QUEUE_GROUP_ARGS + 1, sizeof *texts);
  redmoon_bytes *args = rm_calloc(arg_count + QUEUE_GROUP_ARGS + 1, sizeof *args);
  int status;
  if (texts == NULL || args == NULL) {
    drop(call, REDMOON_NOT_SENT);
    status = rm_fail_nomem(err);
  } else {
    for (size_t i = 0; i < h->count; i++) args[i] = rm_queue_number(&texts[i], h->numbers[i]);
    for (size_t i = 0; i < count; i++) {
      args[h->count + 2 * i] = rm_queue_string(call->jobs[i]->id);
      args[h->count + 2 * i + 1] = rm_queue_number(&texts[h->count + i], call->jobs[i]->epoch);
    }
    if (call->next != NULL)
      arg_count += rm_queue_group_limits(call->queue, texts + h->count + count, args + arg_count);
    if (call->ends)
      arg_count += rm_queue_event_arg(call->queue, texts + h->count + count + QUEUE_GROUP_ARGS, args + arg_count);
    redmoon_bytes keys[QUEUE_KEYS + 1];
    const redmoon_script_args all = {keys, rm_queue_keys(call->queue, h->letters, keys), args, arg_count};
    const rm_replicas replicas = {"queue", h->min_replicas};
    status = rm_replicated_start(call->queue->client, h->script, &all, h->flags, &replicas, decode, drop, call, op, err);
  }
  rm_free(texts);
  rm_free(args);
  return status;
}

static int check_count(size_t count, size_t least, redmoon_error *err) {
  if (count >= least && count <= REDMOON_QUEUE_MANY_MAX) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "queue: %zu jobs are not accepted; give %zu to %d", count, least,
                 REDMOON_QUEUE_MANY_MAX);
}

int redmoon_queue_extend_many_start(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int64_t lease_ms,
                                    int *lost, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  lease_ms = rm_queue_given(lease_ms, queue->options.lease_ms);
  int status = rm_queue_check_lease(lease_ms, err);
  if (status == 0) status = check_count(count, 1, err);
  if (status < 0) return status;
  many_call *call = call_new(queue, jobs, count, lost);
  if (call == NULL) return rm_fail_nomem(err);
  call->lease_ms = lease_ms;
  return start(call, &(head){&rm_script_queue_extend, "jl", {lease_ms}, 1, 0, RM_CALL_REPEATABLE}, op, err);
}

int redmoon_queue_extend_many(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int64_t lease_ms, int *lost,
                              redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_extend_many_start(queue, jobs, count, lease_ms, lost, &op, err), &op, err);
}

int redmoon_queue_ack_many_start(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int *lost, size_t most,
                                 redmoon_job **next, size_t *got, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (got != NULL) *got = 0;
  int status = check_count(count, 1, err);
  if (status == 0) status = check_count(most, 0, err);
  if (status < 0) return status;
  many_call *call = call_new(queue, jobs, count, lost);
  if (call == NULL) return rm_fail_nomem(err);
  call->ends = true;
  call->next = most > 0 ? next : NULL;
  call->got = got;
  call->most = most;
  const redmoon_queue_options *options = &queue->options;
  /* Repeated, it would take other jobs: those that nobody has until their leases are over. */
  const head h = {&rm_script_queue_ack_many, "jsrdlxowge", {options->retention_ms, (int64_t)most, options->lease_ms}, 3,
                  options->min_replicas, most == 0 ? RM_CALL_REPEATABLE : 0};
  return start(call, &h, op, err);
}

int redmoon_queue_ack_many(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int *lost, size_t most,
                           redmoon_job **next, size_t *got, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_ack_many_start(queue, jobs, count, lost, most, next, got, &op, err), &op, err);
}
