/* SPDX-License-Identifier: MIT */
/* Looking after a stream queue: counts, the dead, and their return. */
#include "base/alloc.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/stream_queue.h"

#include <inttypes.h>
#include <string.h>

enum { DEAD_FIRST = 3, DEAD_FIELDS = 6 };

typedef struct admin_call {
  redmoon_stream_queue *queue; /* a reference */
  void *out;
} admin_call;

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  admin_call *call = ctx;
  rm_stream_unref(call->queue);
  rm_free(call);
}

static int start(redmoon_stream_queue *queue, const rm_builtin *script, const redmoon_script_args *args,
                 unsigned flags, rm_decode_fn decode, void *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  admin_call *call = rm_alloc(sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  *call = (admin_call){rm_stream_ref(queue), out};
  return rm_builtin_start(queue->client, script, args, flags, decode, call_drop, call, op, err);
}

static int check_count(int64_t count, redmoon_error *err) {
  return rm_stream_check_option("count", count, 1, REDMOON_STREAM_QUEUE_MANY_MAX, err);
}

/* Counts. */

static int decode_stats(void *ctx, const rm_answer *answer, redmoon_error *err) {
  admin_call *call = ctx;
  int64_t at[4];
  int status = 0;
  for (size_t i = 0; status == 0 && i < 4; i++)
    status = rm_stream_integer(call->queue, answer->reply, i + 1, &at[i], err);
  if (status == 0)
    *(redmoon_stream_queue_counts *)call->out = (redmoon_stream_queue_counts){at[0], at[1], at[2], at[3]};
  return rm_stream_answered(err, answer->attempts, status);
}

int redmoon_stream_queue_stats_start(redmoon_stream_queue *queue, redmoon_stream_queue_counts *out, redmoon_op **op,
                                     redmoon_error *err) {
  const redmoon_script_args args = {queue->keys, 2, NULL, 0};
  return start(queue, &rm_script_stream_stats, &args, RM_CALL_REPEATABLE, decode_stats, out, op, err);
}

int redmoon_stream_queue_stats(redmoon_stream_queue *queue, redmoon_stream_queue_counts *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_stats_start(queue, out, &op, err), &op, err);
}

/* The dead. */

/* Bytes that texts and payloads of the answer take, each with a NUL. */
static size_t text_size(const redmoon_reply *reply) {
  size_t size = 0;
  for (size_t i = DEAD_FIRST; i < redmoon_reply_count(reply); i++) {
    size_t len = 0;
    if (redmoon_reply_string(redmoon_reply_at(reply, i), &len) != NULL) size += len + 1;
  }
  return size;
}

static const char *keep(char **at, redmoon_bytes bytes) {
  char *kept = *at;
  memcpy(kept, bytes.ptr, bytes.len);
  kept[bytes.len] = '\0';
  *at += bytes.len + 1;
  return kept;
}

static int read_dead(const redmoon_stream_queue *queue, const redmoon_reply *reply, size_t first, char **at,
                     redmoon_stream_dead *out, redmoon_error *err) {
  redmoon_bytes id, error;
  int status = rm_stream_bytes(queue, reply, first, &id, err);
  if (status == 0) status = rm_stream_integer(queue, reply, first + 1, &out->died_ms, err);
  if (status == 0) status = rm_stream_integer(queue, reply, first + 2, &out->attempts, err);
  if (status == 0) status = rm_stream_integer(queue, reply, first + 3, &out->epoch, err);
  if (status == 0) status = rm_stream_bytes(queue, reply, first + 4, &out->payload, err);
  if (status == 0) status = rm_stream_bytes(queue, reply, first + 5, &error, err);
  if (status < 0) return status;
  out->id = keep(at, id);
  out->payload.ptr = keep(at, out->payload);
  out->error = keep(at, error);
  return 0;
}

static int decode_dead(void *ctx, const rm_answer *answer, redmoon_error *err) {
  admin_call *call = ctx;
  size_t elements = redmoon_reply_count(answer->reply);
  size_t count = elements > DEAD_FIRST ? (elements - DEAD_FIRST) / DEAD_FIELDS : 0;
  /* One block: the list, its jobs, their texts. */
  redmoon_stream_dead_list *list = rm_alloc(sizeof *list + count * sizeof *list->jobs + text_size(answer->reply));
  if (list == NULL) return rm_fail_nomem_answered(err);
  *list = (redmoon_stream_dead_list){0, count, (redmoon_stream_dead *)(list + 1)};
  char *at = (char *)(list->jobs + count);
  int status = rm_stream_integer(call->queue, answer->reply, 1, &list->total, err);
  for (size_t i = 0; status == 0 && i < count; i++)
    status = read_dead(call->queue, answer->reply, DEAD_FIRST + i * DEAD_FIELDS, &at, &list->jobs[i], err);
  if (status == 0) *(redmoon_stream_dead_list **)call->out = list;
  else rm_free(list);
  return rm_stream_answered(err, answer->attempts, status);
}

int redmoon_stream_queue_dead_start(redmoon_stream_queue *queue, int64_t count, redmoon_stream_dead_list **out,
                                    redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *out = NULL;
  int status = check_count(count, err);
  if (status < 0) return status;
  rm_stream_text text;
  const redmoon_bytes values[] = {rm_stream_string("0-0"), rm_stream_number(&text, count)};
  const redmoon_script_args args = {&queue->keys[STREAM_DEADS], 1, values, 2};
  return start(queue, &rm_script_stream_dead, &args, RM_CALL_REPEATABLE, decode_dead, out, op, err);
}

int redmoon_stream_queue_dead(redmoon_stream_queue *queue, int64_t count, redmoon_stream_dead_list **out,
                              redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_dead_start(queue, count, out, &op, err), &op, err);
}

void redmoon_stream_dead_list_free(redmoon_stream_dead_list *list) { rm_free(list); }

static int decode_redrive(void *ctx, const rm_answer *answer, redmoon_error *err) {
  admin_call *call = ctx;
  int64_t moved = 0;
  int status = rm_stream_integer(call->queue, answer->reply, 1, &moved, err);
  if (status == 0) *(int64_t *)call->out = moved;
  return rm_stream_answered(err, answer->attempts, status);
}

int redmoon_stream_queue_redrive_start(redmoon_stream_queue *queue, int64_t count, int64_t *moved, redmoon_op **op,
                                       redmoon_error *err) {
  *op = NULL;
  int status = check_count(count, err);
  if (status < 0) return status;
  rm_stream_text text;
  const redmoon_bytes value = rm_stream_number(&text, count);
  const redmoon_script_args args = {queue->keys, 2, &value, 1};
  /* Not repeatable: it would move others. */
  return start(queue, &rm_script_stream_redrive, &args, 0, decode_redrive, moved, op, err);
}

int redmoon_stream_queue_redrive(redmoon_stream_queue *queue, int64_t count, int64_t *moved, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_redrive_start(queue, count, moved, &op, err), &op, err);
}
