/* SPDX-License-Identifier: MIT */
/* Pipelines: many commands in one call; scripts are loaded in front of their first run. */
#include "engine/pipeline.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/script.h"

int redmoon_pipeline_new(redmoon_client *client, redmoon_pipeline **out, redmoon_error *err) {
  rm_error_clear(err);
  redmoon_pipeline *pipeline = *out = rm_calloc(1, sizeof *pipeline);
  if (pipeline == NULL) return rm_fail_nomem(err);
  rm_call_init(&pipeline->call, client, true);
  return 0;
}

rm_call *rm_pipeline_call(redmoon_pipeline *pipeline, redmoon_error *err) {
  if (!pipeline->ran) return &pipeline->call;
  rm_fail(err, REDMOON_ECONFIG, "the pipeline was run already; make a new one");
  return NULL;
}

/* Notes that the mark added last is the user's next command.  Only a hidden mark in front makes that worth storing. */
static int64_t note_visible(redmoon_pipeline *pipeline, redmoon_error *err) {
  size_t mark = pipeline->call.request.count - 1;
  if (mark != pipeline->count || pipeline->visible != NULL) {
    if (pipeline->count == pipeline->cap || pipeline->visible == NULL) {
      size_t cap = pipeline->count < 8 ? 16 : pipeline->count * 2;
      size_t *visible = rm_realloc(pipeline->visible, cap * sizeof *visible);
      if (visible == NULL) return rm_fail_nomem(err);
      if (pipeline->visible == NULL)
        for (size_t i = 0; i < pipeline->count; i++) visible[i] = i;
      pipeline->visible = visible;
      pipeline->cap = cap;
    }
    pipeline->visible[pipeline->count] = mark;
  }
  return (int64_t)pipeline->count++;
}

/* Without memory for its place among the results a command must not be sent either. */
static int64_t ended(redmoon_pipeline *pipeline, int rc, redmoon_error *err) {
  if (rc != 0) return rc;
  int64_t index = note_visible(pipeline, err);
  if (index < 0) rm_call_take_back(&pipeline->call);
  return index;
}

int64_t rm_pipeline_end(redmoon_pipeline *pipeline, const rm_command *command, unsigned flags, redmoon_error *err) {
  return ended(pipeline, rm_call_end(&pipeline->call, command, flags, err), err);
}

int64_t redmoon_pipeline_command(redmoon_pipeline *pipeline, int argc, const char *const *argv, const size_t *lens,
                                 redmoon_error *err) {
  rm_error_clear(err);
  rm_call *call = rm_pipeline_call(pipeline, err);
  if (call == NULL) return REDMOON_ECONFIG;
  return ended(pipeline, rm_call_argv(call, argc, argv, lens, 0, err), err);
}

static int load_once(redmoon_pipeline *pipeline, redmoon_script *script, redmoon_error *err) {
  for (size_t i = 0; i < pipeline->loaded_count; i++)
    if (strcmp(pipeline->loaded[i], redmoon_script_sha1(script)) == 0) return 0;
  char(*loaded)[41] = rm_realloc(pipeline->loaded, (pipeline->loaded_count + 1) * sizeof *loaded);
  if (loaded == NULL) return rm_fail_nomem(err);
  pipeline->loaded = loaded;
  redmoon_bytes source = rm_script_source(script);
  int rc = rm_call_script_load(&pipeline->call, source.ptr, source.len, err);
  if (rc != 0) return rc;
  memcpy(loaded[pipeline->loaded_count++], redmoon_script_sha1(script), 41);
  return 0;
}

int64_t redmoon_pipeline_script(redmoon_pipeline *pipeline, redmoon_script *script, const redmoon_script_args *args,
                                redmoon_error *err) {
  rm_error_clear(err);
  rm_call *call = rm_pipeline_call(pipeline, err);
  if (call == NULL) return REDMOON_ECONFIG;
  int rc = load_once(pipeline, script, err);
  if (rc != 0) return rc;
  return ended(pipeline, rm_call_evalsha(call, redmoon_script_sha1(script), args, rm_script_flags(script), err), err);
}

size_t redmoon_pipeline_count(const redmoon_pipeline *pipeline) { return pipeline->count; }

typedef struct run_op {
  redmoon_op op;
  redmoon_pipeline *pipeline; /* the caller's */
} run_op;

static int run_step(redmoon_op *op, int64_t now_us) {
  rm_call *call = &((run_op *)op)->pipeline->call;
  call->op.may_block = op->may_block;
  call->op.owner = op->owner;
  int rc = rm_call_step(&call->op, now_us);
  op->wants = call->op.wants;
  if (rc != RM_WAIT) rm_error_copy(&op->error, &call->op.error);
  return rc;
}

static void run_destroy(redmoon_op *op) {
  run_op *self = (run_op *)op;
  if (op->status == RM_WAIT) rm_call_give_up(&self->pipeline->call);
  rm_free(self);
}

static redmoon_outcome run_outcome(const redmoon_op *op) {
  return rm_call_outcome(&((const run_op *)op)->pipeline->call.op);
}

static const rm_op_class run_class = {run_step, NULL, run_destroy, run_outcome};

int redmoon_pipeline_run_start(redmoon_pipeline *pipeline, redmoon_op **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if (rm_pipeline_call(pipeline, err) == NULL) return REDMOON_ECONFIG;
  run_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->op.class = &run_class;
  self->op.client = pipeline->call.op.client;
  self->pipeline = pipeline;
  pipeline->ran = true;
  *out = &self->op;
  return 0;
}

int redmoon_pipeline_run(redmoon_pipeline *pipeline, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_pipeline_run_start(pipeline, &op, err), &op, err);
}

redmoon_result redmoon_pipeline_result(const redmoon_pipeline *pipeline, size_t index) {
  if (!pipeline->ran || index >= pipeline->count) return (redmoon_result){NULL, REDMOON_NOT_SENT};
  size_t mark = pipeline->visible != NULL ? pipeline->visible[index] : index;
  if (mark >= pipeline->call.results_cap) return (redmoon_result){NULL, REDMOON_NOT_SENT}; /* no memory for any */
  const rm_result *result = &pipeline->call.results[mark];
  return (redmoon_result){result->reply, result->outcome};
}

void redmoon_pipeline_free(redmoon_pipeline *pipeline) {
  if (pipeline == NULL) return;
  rm_call_fini(&pipeline->call);
  rm_free(pipeline->visible);
  rm_free(pipeline->loaded);
  rm_free(pipeline);
}
