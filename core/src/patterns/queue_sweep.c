/* SPDX-License-Identifier: MIT */
/* What goes through a whole queue, some hundred jobs in each request: redrive, purge, check. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { AT_ONCE = REDMOON_QUEUE_MANY_MAX, MAX_FAULTS = 1000, MAX_CURSOR = 24 };

/* Redrive and purge. */

typedef struct sweep_op {
  rm_queue_op base; /* first */
  int64_t *out;
  int64_t done, left, skipped; /* left: to be redriven */
  redmoon_job_state state;     /* to be purged */
} sweep_op;

static int sweep_finish(rm_queue_op *base, redmoon_error *err) {
  (void)err;
  sweep_op *self = (sweep_op *)base;
  *self->out = self->done;
  return 0;
}

/* A redrive that was executed unnoticed is not found again, but does no harm: it goes on with those that are left. */
static int redrive_some(sweep_op *self, redmoon_error *err) {
  rm_queue_text texts[3];
  redmoon_bytes args[3] = {rm_queue_number(&texts[0], self->skipped),
                           rm_queue_number(&texts[1], rm_min64(self->left, AT_ONCE))};
  size_t arg_count = 2 + rm_queue_event_arg(self->base.queue, &texts[2], &args[2]);
  return rm_queue_op_script(&self->base, &rm_script_queue_redrive, "jsrxwge", args, arg_count, 0, err);
}

static int redriven(rm_queue_op *base, const redmoon_reply *reply, int64_t now_us) {
  (void)now_us;
  sweep_op *self = (sweep_op *)base;
  redmoon_error *err = &base->call.op.error;
  int64_t moved, skipped;
  int status = rm_queue_integer(base->queue, reply, 1, &moved, err);
  if (status == 0) status = rm_queue_integer(base->queue, reply, 2, &skipped, err);
  if (status < 0) return status;
  bool all = moved + skipped < rm_min64(self->left, AT_ONCE);
  base->changed = base->changed || moved > 0;
  self->done += moved;
  self->skipped += skipped;
  self->left -= moved;
  if (all || self->left == 0) return RM_DONE;
  status = redrive_some(self, err);
  return status < 0 ? status : RM_WAIT;
}

int redmoon_queue_redrive_start(redmoon_queue *queue, int64_t count, int64_t *moved, redmoon_op **op, redmoon_error *err) {
  static const rm_queue_op_class class = {redriven, sweep_finish, NULL, NULL};
  *op = NULL;
  rm_error_clear(err);
  int status = rm_queue_check_option("count", rm_queue_given(count, 1), 1, INT64_MAX, err);
  if (status < 0) return status;
  sweep_op *self = rm_queue_op_new(queue, &class, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->out = moved;
  self->left = rm_queue_given(count, INT64_MAX);
  return rm_queue_op_start(&self->base, redrive_some(self, err), op);
}

int redmoon_queue_redrive(redmoon_queue *queue, int64_t count, int64_t *moved, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_redrive_start(queue, count, moved, &op, err), &op, err);
}

static const char *purge_keys(redmoon_job_state state) {
  switch (state) {
  case REDMOON_JOB_READY: return "jsrg";
  case REDMOON_JOB_DELAYED: return "jsd";
  case REDMOON_JOB_DEAD: return "jsx";
  case REDMOON_JOB_DONE: return "jso";
  default: return NULL;
  }
}

static int purge_some(sweep_op *self, redmoon_error *err) {
  const redmoon_bytes arg = rm_queue_string(self->state == REDMOON_JOB_DONE ? "1" : "0");
  return rm_queue_op_script(&self->base, &rm_script_queue_purge, purge_keys(self->state), &arg, 1, 0, err);
}

static int purged(rm_queue_op *base, const redmoon_reply *reply, int64_t now_us) {
  (void)now_us;
  sweep_op *self = (sweep_op *)base;
  redmoon_error *err = &base->call.op.error;
  int64_t removed, left;
  int status = rm_queue_integer(base->queue, reply, 1, &removed, err);
  if (status == 0) status = rm_queue_integer(base->queue, reply, 2, &left, err);
  if (status < 0) return status;
  base->changed = base->changed || removed > 0;
  self->done += removed;
  if (left == 0 || removed == 0) return RM_DONE;
  status = purge_some(self, err);
  return status < 0 ? status : RM_WAIT;
}

int redmoon_queue_purge_start(redmoon_queue *queue, redmoon_job_state state, int64_t *removed, redmoon_op **op,
                              redmoon_error *err) {
  static const rm_queue_op_class class = {purged, sweep_finish, NULL, NULL};
  *op = NULL;
  rm_error_clear(err);
  if (purge_keys(state) == NULL)
    return rm_fail(err, REDMOON_ECONFIG, "queue: state %d is not accepted; give READY, DELAYED, DEAD or DONE", (int)state);
  sweep_op *self = rm_queue_op_new(queue, &class, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->out = removed;
  self->state = state;
  return rm_queue_op_start(&self->base, purge_some(self, err), op);
}

int redmoon_queue_purge(redmoon_queue *queue, redmoon_job_state state, int64_t *removed, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_purge_start(queue, state, removed, &op, err), &op, err);
}

/* Check. */

typedef struct check_op {
  rm_queue_op base; /* first */
  redmoon_queue_report **out;
  redmoon_queue_report *report;
  size_t cap;
  int which; /* as the script numbers what it goes through */
  char cursor[MAX_CURSOR];
} check_op;

void redmoon_queue_report_free(redmoon_queue_report *report) {
  if (report == NULL) return;
  for (size_t i = 0; i < report->count; i++) {
    rm_free((char *)(uintptr_t)report->wrong[i].what);
    rm_free((char *)(uintptr_t)report->wrong[i].id);
  }
  rm_free(report->wrong);
  rm_free(report);
}

static int check_some(check_op *self, redmoon_error *err) {
  rm_queue_text text;
  const redmoon_bytes args[] = {rm_queue_number(&text, self->which), rm_queue_string(self->cursor), rm_queue_string("200")};
  return rm_queue_op_script(&self->base, &rm_script_queue_check, "jrdlxog", args, 3, RM_CALL_REPEATABLE, err);
}

static int add_fault(check_op *self, redmoon_bytes what, redmoon_bytes id, redmoon_error *err) {
  redmoon_queue_report *report = self->report;
  if (report->count == MAX_FAULTS) return 0;
  if (report->count == self->cap) {
    size_t cap = self->cap == 0 ? 16 : 2 * self->cap;
    void *wrong = rm_realloc(report->wrong, cap * sizeof *report->wrong);
    if (wrong == NULL) return rm_fail_nomem_answered(err);
    report->wrong = wrong;
    self->cap = cap;
  }
  char *what_copy = rm_strndup(what.ptr, what.len), *id_copy = rm_strndup(id.ptr, id.len);
  if (what_copy == NULL || id_copy == NULL) {
    rm_free(what_copy);
    rm_free(id_copy);
    return rm_fail_nomem_answered(err);
  }
  report->wrong[report->count].what = what_copy;
  report->wrong[report->count++].id = id_copy;
  return 0;
}

static int checked(rm_queue_op *base, const redmoon_reply *reply, int64_t now_us) {
  (void)now_us;
  check_op *self = (check_op *)base;
  redmoon_error *err = &base->call.op.error;
  redmoon_bytes cursor, what, id;
  int64_t looked;
  int status = rm_queue_bytes(base->queue, reply, 1, &cursor, err);
  if (status == 0) status = rm_queue_integer(base->queue, reply, 2, &looked, err);
  if (status == 0) self->report->jobs += looked;
  for (size_t at = 3; at + 1 < redmoon_reply_count(reply) && status == 0; at += 2) {
    status = rm_queue_bytes(base->queue, reply, at, &what, err);
    if (status == 0) status = rm_queue_bytes(base->queue, reply, at + 1, &id, err);
    if (status == 0) status = add_fault(self, what, id, err);
  }
  if (status < 0) return status;
  snprintf(self->cursor, sizeof self->cursor, "%.*s", (int)rm_min64((int64_t)cursor.len, MAX_CURSOR - 1), (const char *)cursor.ptr);
  if (strcmp(self->cursor, "0") == 0 && ++self->which > 6) return RM_DONE;
  status = check_some(self, err);
  return status < 0 ? status : RM_WAIT;
}

static int check_finish(rm_queue_op *base, redmoon_error *err) {
  (void)err;
  check_op *self = (check_op *)base;
  *self->out = self->report;
  self->report = NULL;
  return 0;
}

static void check_drop(rm_queue_op *base) { redmoon_queue_report_free(((check_op *)base)->report); }

int redmoon_queue_check_start(redmoon_queue *queue, redmoon_queue_report **out, redmoon_op **op, redmoon_error *err) {
  static const rm_queue_op_class class = {checked, check_finish, NULL, check_drop};
  *op = NULL;
  *out = NULL;
  rm_error_clear(err);
  check_op *self = rm_queue_op_new(queue, &class, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->out = out;
  self->cursor[0] = '0';
  self->report = rm_calloc(1, sizeof *self->report);
  int status = self->report == NULL ? rm_fail_nomem(err) : check_some(self, err);
  return rm_queue_op_start(&self->base, status, op);
}

int redmoon_queue_check(redmoon_queue *queue, redmoon_queue_report **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_check_start(queue, out, &op, err), &op, err);
}
