/* SPDX-License-Identifier: MIT */
/* The leases of many jobs, prolonged in one request: who lost one is told. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

/* One request under way; the jobs follow it. */
typedef struct many_call {
  redmoon_queue *queue; /* a reference */
  int *lost;
  int64_t lease_ms, began_us;
  size_t count;
  redmoon_job *jobs[]; /* references */
} many_call;

static void drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  many_call *call = ctx;
  for (size_t i = 0; i < call->count; i++) rm_job_unref(call->jobs[i]);
  rm_queue_unref(call->queue);
  rm_free(call);
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  many_call *call = ctx;
  for (size_t i = 0; i < call->count; i++) {
    int64_t code;
    int status = rm_queue_integer(call->queue, answer->reply, i + 1, &code, err);
    if (status < 0) return rm_queue_answered(err, answer->attempts, status);
    call->lost[i] = code != RM_STATUS_QUEUE_OK;
    if (call->lost[i]) rm_job_mark_lost(call->jobs[i]);
    else rm_job_prolong(call->jobs[i], call->began_us, call->lease_ms);
  }
  return 0;
}

static many_call *call_new(redmoon_queue *queue, redmoon_job *const *jobs, size_t count) {
  many_call *call = rm_calloc(1, sizeof *call + count * sizeof *call->jobs);
  if (call == NULL) return NULL;
  call->queue = rm_queue_ref(queue);
  call->began_us = rm_clock_boot_us();
  call->count = count;
  for (size_t i = 0; i < count; i++) call->jobs[i] = rm_job_ref(jobs[i]);
  return call;
}

int redmoon_queue_extend_many_start(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int64_t lease_ms,
                                    int *lost, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  lease_ms = rm_queue_given(lease_ms, queue->options.lease_ms);
  int status = rm_queue_check_lease(lease_ms, err);
  if (status == 0 && (count < 1 || count > REDMOON_QUEUE_MANY_MAX))
    status = rm_fail(err, REDMOON_ECONFIG, "queue: %zu jobs are not accepted; give 1 to %d", count, REDMOON_QUEUE_MANY_MAX);
  if (status < 0) return status;
  many_call *call = call_new(queue, jobs, count);
  rm_queue_text *texts = rm_calloc(count + 1, sizeof *texts);
  redmoon_bytes *args = rm_calloc(2 * count + 1, sizeof *args);
  if (call == NULL || texts == NULL || args == NULL) {
    if (call != NULL) drop(call, REDMOON_NOT_SENT);
    status = rm_fail_nomem(err);
  } else {
    call->lost = lost;
    call->lease_ms = lease_ms;
    args[0] = rm_queue_number(&texts[0], lease_ms);
    for (size_t i = 0; i < count; i++) {
      args[2 * i + 1] = rm_queue_string(jobs[i]->id);
      args[2 * i + 2] = rm_queue_number(&texts[i + 1], jobs[i]->epoch);
    }
    redmoon_bytes keys[QUEUE_KEYS + 1];
    const redmoon_script_args all = {keys, rm_queue_keys(queue, "jl", keys), args, 2 * count + 1};
    status = rm_builtin_start(queue->client, &rm_script_queue_extend, &all, RM_CALL_REPEATABLE, decode, drop, call, op, err);
  }
  rm_free(texts);
  rm_free(args);
  return status;
}

int redmoon_queue_extend_many(redmoon_queue *queue, redmoon_job *const *jobs, size_t count, int64_t lease_ms, int *lost,
                              redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_extend_many_start(queue, jobs, count, lease_ms, lost, &op, err), &op, err);
}
