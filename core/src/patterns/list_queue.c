/* SPDX-License-Identifier: MIT */
/* The plain list as a queue: one command for each request. */
#include <redmoon/list_queue.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DIGITS = 32 };
static const int64_t max_timeout_ms = INT64_C(366) * 24 * 3600 * 1000;

struct redmoon_list_queue {
  redmoon_client *client; /* a reference */
  char *name;
  size_t name_len;
};

int redmoon_list_queue_new(redmoon_client *client, const void *name, size_t name_len, redmoon_list_queue **out,
                           redmoon_error *err) {
  *out = NULL;
  int status = rm_name_check("list queue name", name, name_len, err);
  if (status < 0) return status;
  redmoon_list_queue *queue = rm_calloc(1, sizeof *queue);
  char *copy = rm_strndup(name, name_len);
  if (queue == NULL || copy == NULL) {
    rm_free(queue);
    rm_free(copy);
    return rm_fail_nomem(err);
  }
  *queue = (redmoon_list_queue){redmoon_client_ref(client), copy, name_len};
  *out = queue;
  return 0;
}

void redmoon_list_queue_free(redmoon_list_queue *queue) {
  if (queue == NULL) return;
  redmoon_client_close(queue->client);
  rm_free(queue->name);
  rm_free(queue);
}

/* One request. */

typedef struct list_op {
  rm_call call;         /* first: its op is this one's */
  redmoon_reply **item; /* of a pop */
  int64_t *length;      /* of the others; NULL: not wanted */
} list_op;

static int finish_pop(list_op *self, const redmoon_reply *reply, redmoon_error *err) {
  const redmoon_reply *item = reply;
  if (reply->type == REDMOON_ARRAY && reply->len == 2) item = &reply->as.items[1]; /* BRPOP: key, item */
  *self->item = NULL;
  if (item->type == REDMOON_NIL) return 0;
  if (item->type != REDMOON_STRING) {
    rm_fail(err, REDMOON_EPROTOCOL, "list queue: a pop was not answered by an item");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  if (rm_reply_detach(item, &self->call.arena, self->item) != 0) return rm_fail_nomem_answered(err);
  rm_client_count(self->call.op.client, "list_queue", "popped");
  return 0;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  list_op *self = (list_op *)op;
  const redmoon_reply *reply = self->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, err);
  if (self->item != NULL) return finish_pop(self, reply, err);
  if (self->length != NULL) *self->length = redmoon_reply_integer(reply);
  return 0;
}

static void destroy(redmoon_op *op) {
  rm_call_fini(&((list_op *)op)->call);
  rm_free(op);
}

static const rm_op_class list_class = {rm_call_step, finish, destroy, rm_call_outcome};

/* `command` key [argument] */
static int start(redmoon_list_queue *queue, const char *command, const redmoon_bytes *argument, const list_op *out,
                 redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  list_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->item = out->item;
  self->length = out->length;
  rm_call_init(&self->call, queue->client, true);
  self->call.op.class = &list_class;
  const char *argv[3] = {command, queue->name, argument != NULL ? argument->ptr : NULL};
  const size_t lens[3] = {strlen(command), queue->name_len, argument != NULL ? argument->len : 0};
  int status = rm_call_argv(&self->call, argument != NULL ? 3 : 2, argv, lens, 0, err);
  if (status < 0) destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}

int redmoon_list_queue_push_start(redmoon_list_queue *queue, const void *payload, size_t len, int64_t *length,
                                  redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes item = {payload, len};
  return start(queue, "LPUSH", &item, &(list_op){.length = length}, op, err);
}

int redmoon_list_queue_push(redmoon_list_queue *queue, const void *payload, size_t len, int64_t *length,
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_list_queue_push_start(queue, payload, len, length, &op, err), &op, err);
}

int redmoon_list_queue_pop_start(redmoon_list_queue *queue, int64_t timeout_ms, redmoon_reply **item,
                                 redmoon_op **op, redmoon_error *err) {
  *item = NULL;
  *op = NULL;
  if (timeout_ms < 0 || timeout_ms > max_timeout_ms)
    return rm_fail(err, REDMOON_ECONFIG,
                   "list queue timeout: %" PRId64 " ms is not accepted; give 0 to %" PRId64 " ms (366 days)",
                   timeout_ms, max_timeout_ms);
  const list_op out = {.item = item};
  if (timeout_ms == 0) return start(queue, "RPOP", NULL, &out, op, err);
  char seconds[DIGITS]; /* 0 would be for ever */
  int len = snprintf(seconds, sizeof seconds, "%" PRId64 ".%03d", timeout_ms / 1000, (int)(timeout_ms % 1000));
  return start(queue, "BRPOP", &(redmoon_bytes){seconds, (size_t)len}, &out, op, err);
}

int redmoon_list_queue_pop(redmoon_list_queue *queue, int64_t timeout_ms, redmoon_reply **item,
                           redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_list_queue_pop_start(queue, timeout_ms, item, &op, err), &op, err);
}

int redmoon_list_queue_length_start(redmoon_list_queue *queue, int64_t *length, redmoon_op **op,
                                    redmoon_error *err) {
  return start(queue, "LLEN", NULL, &(list_op){.length = length}, op, err);
}

int redmoon_list_queue_length(redmoon_list_queue *queue, int64_t *length, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_list_queue_length_start(queue, length, &op, err), &op, err);
}
