/* SPDX-License-Identifier: MIT */
/* Looking after a queue, one request each: counts, pause, dead jobs, one job. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <string.h>

enum { MAX_AT_ONCE = 1000000 };

/* Counts. */

static int decode_stats(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  int64_t at[13];
  for (size_t i = 0; i < 13; i++) {
    int status = rm_queue_integer(call->queue, answer->reply, i, &at[i], err);
    if (status < 0) return rm_queue_answered(err, answer->attempts, status);
  }
  *(redmoon_queue_counts *)call->out =
      (redmoon_queue_counts){at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9] != 0, at[10],
                              at[11], at[12]};
  return 0;
}

int redmoon_queue_stats_start(redmoon_queue *queue, redmoon_queue_counts *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_queue_call *call = rm_queue_call_new(queue, NULL, out, err);
  if (call == NULL) return REDMOON_ENOMEM;
  return rm_queue_call_start(call, &rm_script_queue_stats, "srdlxog", NULL, 0, RM_CALL_REPEATABLE, decode_stats, op, err);
}

int redmoon_queue_stats(redmoon_queue *queue, redmoon_queue_counts *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_stats_start(queue, out, &op, err), &op, err);
}

/* Pause. */

static int pause_start(redmoon_queue *queue, const char *what, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_queue_call *call = rm_queue_call_new(queue, NULL, NULL, err);
  if (call == NULL) return REDMOON_ENOMEM;
  rm_queue_text length;
  redmoon_bytes args[2] = {rm_queue_string(what)};
  size_t arg_count = 1 + rm_queue_event_arg(queue, &length, &args[1]);
  return rm_queue_call_start(call, &rm_script_queue_pause, "swe", args, arg_count, RM_CALL_REPEATABLE, NULL, op, err);
}

int redmoon_queue_pause_start(redmoon_queue *queue, redmoon_op **op, redmoon_error *err) {
  return pause_start(queue, "1", op, err);
}

int redmoon_queue_pause(redmoon_queue *queue, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_pause_start(queue, &op, err), &op, err);
}

int redmoon_queue_resume_start(redmoon_queue *queue, redmoon_op **op, redmoon_error *err) {
  return pause_start(queue, "0", op, err);
}

int redmoon_queue_resume(redmoon_queue *queue, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_resume_start(queue, &op, err), &op, err);
}

/* Limits of a group. */

static int check_limits(const redmoon_group_limits *limits, redmoon_error *err) {
  int status = rm_queue_check_option("concurrency", rm_queue_given(limits->concurrency, 0), 0, MAX_AT_ONCE, err);
  return status == 0 ? rm_queue_check_window("", rm_queue_given(limits->limit, 0), limits->window_ms, err) : status;
}

int redmoon_queue_set_group_start(redmoon_queue *queue, const char *group, const redmoon_group_limits *limits,
                                  redmoon_op **op, redmoon_error *err) {
  static const redmoon_group_limits none = REDMOON_GROUP_LIMITS_INIT;
  if (limits == NULL) limits = &none;
  *op = NULL;
  rm_error_clear(err);
  int status = rm_queue_check_group(group, err);
  if (status == 0) status = check_limits(limits, err);
  if (status < 0) return status;
  rm_queue_call *call = rm_queue_call_new(queue, NULL, NULL, err);
  if (call == NULL) return REDMOON_ENOMEM;
  rm_queue_text texts[3];
  const redmoon_bytes args[] = {rm_queue_string(group),
                                rm_queue_number(&texts[0], rm_queue_given(limits->concurrency, -1)),
                                rm_queue_number(&texts[1], rm_queue_given(limits->limit, -1)),
                                rm_queue_number(&texts[2], rm_queue_given(limits->window_ms, 1))};
  return rm_queue_call_start(call, &rm_script_queue_limits, "jswg", args, 4, RM_CALL_REPEATABLE, NULL, op, err);
}

int redmoon_queue_set_group(redmoon_queue *queue, const char *group, const redmoon_group_limits *limits,
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_set_group_start(queue, group, limits, &op, err), &op, err);
}

/* Remove. */

static int decode_remove(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  int64_t code;
  int status = rm_queue_integer(call->queue, answer->reply, 0, &code, err);
  if (status == 0) *(int *)call->out = code == RM_STATUS_QUEUE_OK || answer->repeated;
  return rm_queue_answered(err, answer->attempts, status);
}

int redmoon_queue_remove_start(redmoon_queue *queue, const char *id, int *removed, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  int status = rm_queue_check_id(id, err);
  if (status < 0) return status;
  rm_queue_call *call = rm_queue_call_new(queue, NULL, removed, err);
  if (call == NULL) return REDMOON_ENOMEM;
  rm_queue_text length;
  redmoon_bytes args[2] = {rm_queue_string(id)};
  size_t arg_count = 1 + rm_queue_event_arg(queue, &length, &args[1]);
  return rm_queue_call_start(call, &rm_script_queue_remove, "jsrdlxowge", args, arg_count, RM_CALL_REPEATABLE, decode_remove, op, err);
}

int redmoon_queue_remove(redmoon_queue *queue, const char *id, int *removed, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_remove_start(queue, id, removed, &op, err), &op, err);
}

/* Lists of jobs: one block of memory holds the list, its jobs and their texts. */

typedef struct builder {
  redmoon_job_list *list; /* NULL: only counting */
  char *text;
  size_t bytes;
} builder;

/* Copies, and adds a NUL.  While counting the result is of no use. */
static const char *keep(builder *b, redmoon_bytes from) {
  char *at = b->text;
  b->bytes += from.len + 1;
  if (b->list == NULL) return "";
  if (from.len > 0) memcpy(at, from.ptr, from.len);
  at[from.len] = '\0';
  b->text += from.len + 1;
  return at;
}

static redmoon_bytes keep_bytes(builder *b, redmoon_bytes from) { return (redmoon_bytes){keep(b, from), from.len}; }

typedef int (*read_fn)(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, const char *id, builder *b,
                       redmoon_job_info *info, redmoon_error *err);

static int read_dead(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, const char *asked, builder *b,
                     redmoon_job_info *info, redmoon_error *err) {
  (void)asked;
  size_t at = 2 + index * 8;
  redmoon_bytes id, payload, why;
  *info = (redmoon_job_info){.state = REDMOON_JOB_DEAD, .unique = "", .group = ""};
  int status = rm_queue_bytes(queue, reply, at, &id, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 1, &info->died_us, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 2, &info->failures, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 3, &info->crashes, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 4, &info->priority, err);
  if (status == 0) status = rm_queue_integer(queue, reply, at + 5, &info->epoch, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, at + 6, &payload, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, at + 7, &why, err);
  if (status < 0) return status;
  info->id = keep(b, id);
  info->error = keep(b, why);
  info->payload = keep_bytes(b, payload);
  return 0;
}

static int read_peek(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, const char *asked, builder *b,
                     redmoon_job_info *info, redmoon_error *err) {
  (void)index;
  int64_t at[9];
  for (size_t i = 1; i < 9; i++) {
    int status = rm_queue_integer(queue, reply, i, &at[i], err);
    if (status < 0) return status;
  }
  redmoon_bytes payload, unique, why, group;
  int status = rm_queue_bytes(queue, reply, 9, &payload, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, 10, &unique, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, 11, &why, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, 13, &group, err);
  if (status < 0) return status;
  *info = (redmoon_job_info){.state = (redmoon_job_state)at[1], .at_us = at[2],        .priority = at[3],
                             .failures = at[4],                 .crashes = at[5],      .max_attempts = at[6],
                             .max_crashes = at[7],              .epoch = at[8]};
  info->id = keep(b, rm_queue_string(asked));
  info->error = keep(b, why);
  info->unique = keep(b, unique);
  info->group = keep(b, group);
  info->payload = keep_bytes(b, payload);
  const redmoon_reply *note = redmoon_reply_at(reply, 12);
  redmoon_bytes result = {NULL, 0};
  if (note != NULL) result.ptr = redmoon_reply_string(note, &result.len);
  if (result.ptr != NULL) info->result = keep_bytes(b, result);
  return 0;
}

static int build_list(const redmoon_queue *queue, const redmoon_reply *reply, size_t count, const char *asked,
                      read_fn read, redmoon_job_list **out, redmoon_error *err) {
  builder b = {NULL, NULL, 0};
  redmoon_job_info info;
  for (size_t i = 0; i < count; i++) {
    int status = read(queue, reply, i, asked, &b, &info, err);
    if (status < 0) return status;
  }
  redmoon_job_list *list = rm_calloc(1, sizeof *list + count * sizeof *list->jobs + b.bytes);
  if (list == NULL) return rm_fail_nomem_answered(err);
  list->jobs = (redmoon_job_info *)(list + 1);
  list->count = count;
  b = (builder){list, (char *)(list->jobs + count), 0};
  for (size_t i = 0; i < count; i++) (void)read(queue, reply, i, asked, &b, &list->jobs[i], err);
  *out = list;
  return 0;
}

void redmoon_job_list_free(redmoon_job_list *list) { rm_free(list); }

static int decode_dead(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  int64_t total;
  int status = rm_queue_integer(call->queue, answer->reply, 1, &total, err);
  size_t count = (redmoon_reply_count(answer->reply) - 2) / 8;
  if (status == 0) status = build_list(call->queue, answer->reply, count, NULL, read_dead, call->out, err);
  if (status == 0) (*(redmoon_job_list **)call->out)->total = total;
  return rm_queue_answered(err, answer->attempts, status);
}

int redmoon_queue_dead_start(redmoon_queue *queue, int64_t first, int64_t count, redmoon_job_list **out, redmoon_op **op,
                             redmoon_error *err) {
  *op = NULL;
  *out = NULL;
  int status = rm_queue_check_option("first", first, 0, INT64_C(1) << 53, err);
  if (status == 0) status = rm_queue_check_option("count", count, 1, REDMOON_QUEUE_MANY_MAX, err);
  if (status < 0) return status;
  rm_queue_call *call = rm_queue_call_new(queue, NULL, out, err);
  if (call == NULL) return REDMOON_ENOMEM;
  rm_queue_text texts[2];
  const redmoon_bytes args[] = {rm_queue_number(&texts[0], first), rm_queue_number(&texts[1], count)};
  return rm_queue_call_start(call, &rm_script_queue_dead, "jx", args, 2, RM_CALL_REPEATABLE, decode_dead, op, err);
}

int redmoon_queue_dead(redmoon_queue *queue, int64_t first, int64_t count, redmoon_job_list **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_dead_start(queue, first, count, out, &op, err), &op, err);
}

/* What peek has to remember: the id. */
typedef struct peek_call {
  rm_queue_call *call;
  char id[REDMOON_JOB_ID_SIZE];
} peek_call;

static void peek_drop(void *ctx, redmoon_outcome outcome) {
  peek_call *self = ctx;
  rm_queue_call_drop(self->call, outcome);
  rm_free(self);
}

static int decode_peek(void *ctx, const rm_answer *answer, redmoon_error *err) {
  peek_call *self = ctx;
  redmoon_job_list **out = self->call->out;
  int64_t code;
  int status = rm_queue_integer(self->call->queue, answer->reply, 0, &code, err);
  size_t count = code == RM_STATUS_QUEUE_OK ? 1 : 0;
  if (status == 0) status = build_list(self->call->queue, answer->reply, count, self->id, read_peek, out, err);
  if (status == 0) (*out)->total = (int64_t)count;
  return rm_queue_answered(err, answer->attempts, status);
}

int redmoon_queue_peek_start(redmoon_queue *queue, const char *id, redmoon_job_list **out, redmoon_op **op,
                             redmoon_error *err) {
  *op = NULL;
  *out = NULL;
  int status = rm_queue_check_id(id, err);
  if (status < 0) return status;
  peek_call *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call = rm_queue_call_new(queue, NULL, out, err);
  if (self->call == NULL) {
    rm_free(self);
    return REDMOON_ENOMEM;
  }
  memcpy(self->id, id, strlen(id) + 1);
  redmoon_bytes keys[QUEUE_KEYS + 1];
  const redmoon_bytes arg = rm_queue_string(id);
  const redmoon_script_args all = {keys, rm_queue_keys(queue, "jrdlxog", keys), &arg, 1};
  return rm_builtin_start(queue->client, &rm_script_queue_peek, &all, RM_CALL_REPEATABLE, decode_peek, peek_drop, self, op,
                          err);
}

int redmoon_queue_peek(redmoon_queue *queue, const char *id, redmoon_job_list **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_peek_start(queue, id, out, &op, err), &op, err);
}
