/* SPDX-License-Identifier: MIT */
/* The stream queue: its handle, and pushing.  One entry without a request id is a plain XADD; else a script. */
#include "patterns/stream_queue.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LEASE_MS = 30000, MIN_LEASE_MS = 100, MAX_ATTEMPTS = 10, MAX_PAYLOAD = 262144 };

/* The handle. */

redmoon_stream_queue *rm_stream_ref(redmoon_stream_queue *queue) {
  atomic_fetch_add(&queue->refs, 1);
  return queue;
}

void rm_stream_unref(redmoon_stream_queue *queue) {
  if (queue == NULL || atomic_fetch_sub(&queue->refs, 1) != 1) return;
  for (size_t i = 0; i < STREAM_KEYS; i++) rm_key_free(&queue->keys[i]);
  redmoon_client_close(queue->client);
  rm_free(queue->name);
  rm_free(queue);
}

int rm_stream_check_option(const char *option, int64_t value, int64_t min, int64_t max, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "stream queue option %s: %" PRId64 " is not accepted; give %" PRId64 " to %" PRId64, option, value,
                 min, max);
}

static int check_options(redmoon_stream_queue_options *options, redmoon_error *err) {
  options->lease_ms = rm_stream_given(options->lease_ms, LEASE_MS);
  options->max_attempts = rm_stream_given(options->max_attempts, MAX_ATTEMPTS);
  options->max_payload = rm_stream_given(options->max_payload, MAX_PAYLOAD);
  int status = rm_stream_check_option("lease", options->lease_ms, MIN_LEASE_MS, STREAM_MAX_LEASE_MS, err);
  if (status == 0) status = rm_stream_check_option("max_attempts", options->max_attempts, 1, 1000000, err);
  if (status == 0) status = rm_stream_check_option("max_payload", options->max_payload, 1, INT64_C(512) << 20, err);
  return status;
}

static int build(redmoon_stream_queue *queue, const void *name, size_t name_len, redmoon_error *err) {
  static const char *const parts[STREAM_KEYS] = {STREAM_PART, STREAM_PART ".dead", STREAM_PART ".released"};
  const char *prefix = rm_client_key_prefix(queue->client);
  queue->name = rm_strndup(name, name_len);
  if (queue->name == NULL) return rm_fail_nomem(err);
  queue->name_len = name_len;
  rm_escape(queue->shown, sizeof queue->shown, name, name_len);
  for (size_t i = 0; i < STREAM_KEYS; i++) {
    int status = rm_key_build(prefix, name, name_len, parts[i], &queue->keys[i], err);
    if (status < 0) return status;
  }
  rm_random_hex(queue->consumer, (sizeof queue->consumer - 1) / 2);
  return 0;
}

int redmoon_stream_queue_new(redmoon_client *client, const void *name, size_t name_len,
                             const redmoon_stream_queue_options *options, redmoon_stream_queue **out,
                             redmoon_error *err) {
  *out = NULL;
  redmoon_stream_queue_options own = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  if (options != NULL) own = *options;
  int status = rm_name_check("stream queue name", name, name_len, err);
  if (status == 0) status = check_options(&own, err);
  if (status < 0) return status;
  redmoon_stream_queue *queue = rm_calloc(1, sizeof *queue);
  if (queue == NULL) return rm_fail_nomem(err);
  queue->client = redmoon_client_ref(client);
  queue->options = own;
  atomic_init(&queue->refs, 1);
  status = build(queue, name, name_len, err);
  if (status < 0) {
    rm_stream_unref(queue);
    return status;
  }
  *out = queue;
  return 0;
}

void redmoon_stream_queue_free(redmoon_stream_queue *queue) { rm_stream_unref(queue); }

/* Arguments and answers. */

redmoon_bytes rm_stream_number(rm_stream_text *text, int64_t number) {
  int len = snprintf(text->text, sizeof text->text, "%" PRId64, number);
  return (redmoon_bytes){text->text, (size_t)len};
}

redmoon_bytes rm_stream_string(const char *text) { return (redmoon_bytes){text, strlen(text)}; }

int rm_stream_answered(redmoon_error *err, int attempts, int status) {
  if (err != NULL && status < 0) {
    err->outcome = REDMOON_ANSWERED;
    err->attempts = attempts;
  }
  return status;
}

int rm_stream_integer(const redmoon_stream_queue *queue, const redmoon_reply *reply, size_t index, int64_t *out,
                      redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER)
    return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': the script's answer has no integer at place %zu",
                   queue->shown, index + 1);
  *out = redmoon_reply_integer(item);
  return 0;
}

int rm_stream_bytes(const redmoon_stream_queue *queue, const redmoon_reply *reply, size_t index, redmoon_bytes *out,
                    redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  out->ptr = item == NULL ? NULL : redmoon_reply_string(item, &out->len);
  if (out->ptr != NULL) return 0;
  return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': the script's answer has no text at place %zu",
                 queue->shown, index + 1);
}

/* Push. */

static int check_payload(const redmoon_stream_queue *queue, const redmoon_bytes *payload, redmoon_error *err) {
  if (payload->ptr == NULL && payload->len > 0)
    return rm_fail(err, REDMOON_ECONFIG, "stream queue '%s': a payload is NULL", queue->shown);
  if (payload->len <= (size_t)queue->options.max_payload) return 0;
  return rm_fail(err, REDMOON_ETOO_LARGE,
                 "stream queue '%s': a payload of %zu bytes is not accepted; max_payload is %" PRId64, queue->shown,
                 payload->len, queue->options.max_payload);
}

/* One entry, by a command of its own. */
typedef struct push_op {
  rm_call call; /* first: its op is this one's */
  redmoon_stream_queue *queue;
  char *id; /* NULL: not wanted */
} push_op;

static int copy_id(const redmoon_stream_queue *queue, redmoon_bytes id, char *out, redmoon_error *err) {
  if (id.len >= REDMOON_STREAM_ID_SIZE)
    return rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': an id of %zu bytes was answered", queue->shown,
                   id.len);
  if (out == NULL) return 0;
  memcpy(out, id.ptr, id.len);
  out[id.len] = '\0';
  return 0;
}

static int push_finish(redmoon_op *op, redmoon_error *err) {
  push_op *self = (push_op *)op;
  const redmoon_reply *reply = self->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, err);
  redmoon_bytes id = {NULL, 0};
  id.ptr = redmoon_reply_string(reply, &id.len);
  int status = id.ptr != NULL ? copy_id(self->queue, id, self->id, err)
                              : rm_fail(err, REDMOON_EPROTOCOL, "stream queue '%s': XADD was not answered by an id",
                                        self->queue->shown);
  if (status == 0) rm_client_count(op->client, "stream_queue", "pushed");
  return rm_stream_answered(err, self->call.attempt, status);
}

static void push_destroy(redmoon_op *op) {
  push_op *self = (push_op *)op;
  rm_call_fini(&self->call);
  rm_stream_unref(self->queue);
  rm_free(self);
}

static const rm_op_class push_class = {rm_call_step, push_finish, push_destroy, rm_call_outcome};

static int add_start(redmoon_stream_queue *queue, const redmoon_bytes *payload, char *id, redmoon_op **op,
                     redmoon_error *err) {
  push_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->queue = rm_stream_ref(queue);
  self->id = id;
  rm_call_init(&self->call, queue->client, true);
  self->call.op.class = &push_class;
  const redmoon_bytes *key = &queue->keys[STREAM_ENTRIES];
  const char *argv[] = {"XADD", key->ptr, "*", "p", payload->ptr};
  const size_t lens[] = {4, key->len, 1, 1, payload->len};
  int status = rm_call_argv(&self->call, 5, argv, lens, 0, err);
  if (status < 0) push_destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}

/* Many, or once for a request. */
typedef struct push_call {
  redmoon_stream_queue *queue; /* a reference */
  char (*ids)[REDMOON_STREAM_ID_SIZE];
  size_t count;
} push_call;

static void push_call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  push_call *call = ctx;
  rm_stream_unref(call->queue);
  rm_free(call);
}

static int decode_push(void *ctx, const rm_answer *answer, redmoon_error *err) {
  push_call *call = ctx;
  int status = 0;
  if (redmoon_reply_count(answer->reply) != call->count + 1)
    status = rm_fail(err, REDMOON_ECONFIG, "stream queue '%s': this request_id was used to push %zu jobs, not %zu",
                     call->queue->shown, redmoon_reply_count(answer->reply) - 1, call->count);
  for (size_t i = 0; status == 0 && i < call->count; i++) {
    redmoon_bytes id;
    status = rm_stream_bytes(call->queue, answer->reply, i + 1, &id, err);
    if (status == 0) status = copy_id(call->queue, id, call->ids != NULL ? call->ids[i] : NULL, err);
  }
  if (status == 0) rm_client_count(call->queue->client, "stream_queue", "pushed");
  return rm_stream_answered(err, answer->attempts, status);
}

static int script_start(redmoon_stream_queue *queue, const redmoon_bytes *payloads, size_t count,
                        const char *request_id, char (*ids)[REDMOON_STREAM_ID_SIZE], redmoon_op **op,
                        redmoon_error *err) {
  redmoon_bytes keys[2] = {queue->keys[STREAM_ENTRIES], {NULL, 0}};
  int status = 0;
  if (request_id != NULL)
    status = rm_request_key_build(rm_client_key_prefix(queue->client), queue->name, queue->name_len, STREAM_PART,
                                  request_id, &keys[1], err);
  push_call *call = status == 0 ? rm_alloc(sizeof *call) : NULL;
  if (status == 0 && call == NULL) status = rm_fail_nomem(err);
  if (status == 0) {
    *call = (push_call){rm_stream_ref(queue), ids, count};
    const redmoon_script_args args = {keys, request_id != NULL ? 2 : 1, payloads, count};
    status =
        rm_builtin_start(queue->client, &rm_script_stream_push, &args, request_id != NULL ? RM_CALL_REPEATABLE : 0,
                         decode_push, push_call_drop, call, op, err);
  }
  rm_key_free(&keys[1]);
  return status;
}

int redmoon_stream_queue_push_many_start(redmoon_stream_queue *queue, const redmoon_bytes *payloads, size_t count,
                                         const char *request_id, char (*ids)[REDMOON_STREAM_ID_SIZE],
                                         redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (count < 1 || count > REDMOON_STREAM_QUEUE_MANY_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "stream queue '%s': %zu jobs are not accepted; give 1 to %d", queue->shown,
                   count, REDMOON_STREAM_QUEUE_MANY_MAX);
  int status = rm_request_id_check(request_id, err);
  for (size_t i = 0; status == 0 && i < count; i++) status = check_payload(queue, &payloads[i], err);
  if (status < 0) return status;
  if (count == 1 && request_id == NULL) return add_start(queue, payloads, ids != NULL ? ids[0] : NULL, op, err);
  return script_start(queue, payloads, count, request_id, ids, op, err);
}

int redmoon_stream_queue_push_many(redmoon_stream_queue *queue, const redmoon_bytes *payloads, size_t count,
                                   const char *request_id, char (*ids)[REDMOON_STREAM_ID_SIZE],
                                   redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_push_many_start(queue, payloads, count, request_id, ids, &op, err), &op, err);
}

int redmoon_stream_queue_push_start(redmoon_stream_queue *queue, const void *payload, size_t len,
                                    const char *request_id, char *id, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes one = {payload, len};
  return redmoon_stream_queue_push_many_start(queue, &one, 1, request_id, (char(*)[REDMOON_STREAM_ID_SIZE])id, op,
                                              err);
}

int redmoon_stream_queue_push(redmoon_stream_queue *queue, const void *payload, size_t len, const char *request_id,
                              char *id, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_stream_queue_push_start(queue, payload, len, request_id, id, &op, err), &op, err);
}
