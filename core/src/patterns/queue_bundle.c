/* SPDX-License-Identifier: MIT */
/* Many new jobs of equal options, which the server keeps as bundles: scripts/include/queue_bundle.lua. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/replicas.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"

#include <string.h>

/* BUNDLE_JOBS: who takes the first job of a bundle waits until all are written one by one.
 * BUNDLE_PAYLOAD: and they are read once more for that, which larger ones are not worth. */
enum { BUNDLE_JOBS = 50, BUNDLE_PAYLOAD = 1024, BASE_BYTES = 10, BASE_LEN = 2 * BASE_BYTES };
enum { HEAD_ARGS = 3, BUNDLE_ARGS = 3, MOST_BUNDLES = (REDMOON_QUEUE_MANY_MAX + BUNDLE_JOBS - 1) / BUNDLE_JOBS };
enum { LENGTH_BYTES = 2 };

typedef struct bundles_call {
  redmoon_queue *queue; /* a reference */
  redmoon_queue_pushed *out;
  size_t count;
  char bases[MOST_BUNDLES][BASE_LEN + 1];
} bundles_call;

static size_t bundle_count(size_t count) { return (count + BUNDLE_JOBS - 1) / BUNDLE_JOBS; }

/* Jobs of bundle `i`. */
static size_t bundle_size(size_t count, size_t i) {
  size_t left = count - i * BUNDLE_JOBS;
  return left < BUNDLE_JOBS ? left : BUNDLE_JOBS;
}

static bool is_plain(const redmoon_queue_item *item) {
  return item->id == NULL && item->unique == NULL && item->group == NULL && item->len <= BUNDLE_PAYLOAD &&
         rm_queue_given(item->delay_ms, 0) <= 0;
}

bool rm_queue_is_bundle(const redmoon_queue *queue, const redmoon_queue_item *items, size_t count) {
  if (count < 2 || queue->options.events > 0) return false;
  for (size_t i = 0; i < count; i++)
    if (!is_plain(&items[i]) || items[i].priority != items[0].priority || items[i].max_attempts != items[0].max_attempts ||
        items[i].max_crashes != items[0].max_crashes)
      return false;
  return true;
}

static void drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  bundles_call *call = ctx;
  rm_queue_unref(call->queue);
  rm_free(call);
}

/* The answer to the same request before, which may have pushed others under other ids. */
static int decode_first(const bundles_call *call, const redmoon_reply *reply, redmoon_error *err) {
  int status = 0;
  for (size_t i = 0; i < call->count && status == 0; i++)
    status = rm_queue_pushed(call->queue, reply, i, &call->out[i], err);
  return status;
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const bundles_call *call = ctx;
  int64_t code;
  int status = rm_queue_integer(call->queue, answer->reply, 0, &code, err);
  bool is_first = status == 0 && redmoon_reply_count(answer->reply) > 1;
  if (is_first) status = decode_first(call, answer->reply, err);
  if (status < 0 || is_first) return rm_queue_answered(err, answer->attempts, status);
  for (size_t i = 0; i < call->count; i++) {
    redmoon_queue_pushed *out = &call->out[i];
    size_t index = i % BUNDLE_JOBS;
    out->status = out->by_unique = 0;
    memcpy(out->id, call->bases[i / BUNDLE_JOBS], BASE_LEN);
    char *end = out->id + BASE_LEN;
    end[0] = '-';
    end[1] = (char)('0' + index / 10);
    end[2] = (char)('0' + index % 10);
    end[3] = '\0';
  }
  _Atomic uint64_t *pushed = rm_client_counter(call->queue->client, "queue", "pushed");
  if (pushed != NULL) atomic_fetch_add_explicit(pushed, call->count, memory_order_relaxed);
  return 0;
}

/* Returns the end. */
static unsigned char *put_lengths(unsigned char *out, const redmoon_queue_item *items, size_t count) {
  for (size_t i = 0; i < count; i++) {
    *out++ = (unsigned char)(items[i].len >> 8);
    *out++ = (unsigned char)items[i].len;
  }
  return out;
}

/* Payloads that follow each other, as a caller who wrote them one behind the other has them, need not be copied. */
static bool are_in_line(const redmoon_queue_item *items, size_t count) {
  const char *end = items[0].payload;
  for (size_t i = 0; i < count; end += items[i++].len)
    if (end == NULL || items[i].payload != end) return false;
  return true;
}

/* The arguments of one bundle; what they point to goes to `out`. Returns its end. */
static unsigned char *put_bundle(unsigned char *out, const redmoon_queue_item *items, size_t count, char *base,
                                 redmoon_client *client, redmoon_bytes *args) {
  rm_client_random_hex(client, base, BASE_BYTES);
  args[0] = (redmoon_bytes){base, BASE_LEN};
  args[1] = (redmoon_bytes){out, count * LENGTH_BYTES};
  out = put_lengths(out, items, count);
  size_t len = 0;
  for (size_t i = 0; i < count; i++) len += items[i].len;
  if (are_in_line(items, count)) {
    args[2] = (redmoon_bytes){items[0].payload, len};
    return out;
  }
  args[2] = (redmoon_bytes){out, len};
  for (size_t i = 0; i < count; out += items[i++].len)
    if (items[i].len > 0) memcpy(out, items[i].payload, items[i].len);
  return out;
}

static bundles_call *call_new(redmoon_queue *queue, size_t count, redmoon_queue_pushed *out) {
  bundles_call *call = rm_calloc(1, sizeof *call);
  if (call == NULL) return NULL;
  call->queue = rm_queue_ref(queue);
  call->out = out;
  call->count = count;
  return call;
}

/* The request of `call`, which is dropped whatever happens; args: behind the first HEAD_ARGS those of the bundles. */
static int start(bundles_call *call, const redmoon_queue_item *item, redmoon_bytes *args, size_t arg_count,
                 const char *request_id, redmoon_op **op, redmoon_error *err) {
  redmoon_queue *queue = call->queue;
  rm_queue_text texts[HEAD_ARGS];
  args[0] = rm_queue_number(&texts[0], rm_queue_given(item->priority, 0));
  args[1] = rm_queue_number(&texts[1], rm_queue_given(item->max_attempts, queue->options.max_attempts));
  args[2] = rm_queue_number(&texts[2], rm_queue_given(item->max_crashes, queue->options.max_crashes));
  redmoon_bytes keys[QUEUE_KEYS + 1], request = {NULL, 0};
  size_t key_count = rm_queue_keys(queue, "jsrw", keys);
  int status = request_id == NULL ? 0 : rm_queue_request_key(queue, QUEUE_PUSH_PART, request_id, &request, err);
  if (status < 0) {
    drop(call, REDMOON_NOT_SENT);
    return status;
  }
  const redmoon_script_args all = {keys, rm_queue_add_request(request, key_count, false, keys), args, arg_count};
  const rm_replicas replicas = {"queue", queue->options.min_replicas};
  status = rm_replicated_start(queue->client, &rm_script_queue_push_bundle, &all, request_id != NULL ? RM_CALL_REPEATABLE : 0,
                               &replicas, decode, drop, call, op, err);
  rm_key_free(&request);
  return status;
}

int rm_queue_bundle_start(redmoon_queue *queue, const redmoon_queue_item *items, size_t count, const char *request_id,
                          redmoon_queue_pushed *out, redmoon_op **op, redmoon_error *err) {
  size_t bundles = bundle_count(count), room = count * LENGTH_BYTES;
  for (size_t i = 0; i < count; i++) room += items[i].len;
  unsigned char *bytes = rm_alloc(room);
  bundles_call *call = bytes == NULL ? NULL : call_new(queue, count, out);
  if (call == NULL) {
    rm_free(bytes);
    return rm_fail_nomem(err);
  }
  redmoon_bytes args[HEAD_ARGS + BUNDLE_ARGS * MOST_BUNDLES];
  unsigned char *end = bytes;
  for (size_t i = 0; i < bundles; i++)
    end = put_bundle(end, items + i * BUNDLE_JOBS, bundle_size(count, i), call->bases[i], queue->client,
                     &args[HEAD_ARGS + BUNDLE_ARGS * i]);
  int status = start(call, items, args, HEAD_ARGS + BUNDLE_ARGS * bundles, request_id, op, err);
  rm_free(bytes);
  return status;
}
