/* SPDX-License-Identifier: MIT */
/* The queue: its handle, its options, and push. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/replicas.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PART "queue"
enum { MIN_LEASE_MS = 100, MAX_LEASE_MS = 86400000, MAX_TRIES = 1000000, MAX_UNIQUE = 256, MAX_PAYLOAD = 512 << 20 };
enum { ITEM_ARGS = 7, ITEM_NUMBERS = 4, ID_BYTES = 10 };
static const int64_t ten_years_ms = INT64_C(315360000000), year_ms = INT64_C(31622400000);

/* Options. */

int rm_queue_check_option(const char *option, int64_t value, int64_t min, int64_t max, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "queue option %s: %" PRId64 " is not accepted; give %" PRId64 " to %" PRId64,
                 option, value, min, max);
}

int rm_queue_check_lease(int64_t lease_ms, redmoon_error *err) {
  return rm_queue_check_option("lease (ms)", lease_ms, MIN_LEASE_MS, MAX_LEASE_MS, err);
}

int rm_queue_check_window(const char *what, int64_t limit, int64_t window_ms, redmoon_error *err) {
  char name[32];
  snprintf(name, sizeof name, "%slimit", what);
  int status = rm_queue_check_option(name, limit, 0, MAX_TRIES, err);
  if (status < 0) return status;
  if ((limit > 0) != (window_ms != REDMOON_UNSET))
    return rm_fail(err, REDMOON_ECONFIG, "queue option %slimit: it and %swindow are given together, or neither", what, what);
  snprintf(name, sizeof name, "%swindow (ms)", what);
  return limit > 0 ? rm_queue_check_option(name, window_ms, 1, year_ms, err) : 0;
}

int rm_queue_check_group(const char *group, redmoon_error *err) {
  size_t len = group == NULL ? 0 : strlen(group);
  if (len >= 1 && len < REDMOON_GROUP_SIZE) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "queue option group: %zu bytes are not accepted; give 1 to %d", len,
                 REDMOON_GROUP_SIZE - 1);
}

int rm_queue_check_id(const char *id, redmoon_error *err) {
  size_t len = id == NULL ? 0 : strlen(id);
  if (len >= 1 && len < REDMOON_JOB_ID_SIZE) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "queue: an id of %zu bytes is not accepted; give 1 to %d", len,
                 REDMOON_JOB_ID_SIZE - 1);
}

static void resolve(redmoon_queue_options *options) {
  options->lease_ms = rm_queue_given(options->lease_ms, 30000);
  options->max_attempts = rm_queue_given(options->max_attempts, 10);
  options->max_crashes = rm_queue_given(options->max_crashes, 3);
  int64_t longest_ms = options->max_backoff_ms;
  options->max_backoff_ms = rm_queue_given(longest_ms, 3600000);
  options->min_backoff_ms = rm_queue_given(options->min_backoff_ms, rm_min64(1000, options->max_backoff_ms));
  if (longest_ms == REDMOON_UNSET) options->max_backoff_ms = rm_max64(options->max_backoff_ms, options->min_backoff_ms);
  options->max_payload = rm_queue_given(options->max_payload, 262144);
  options->retention_ms = rm_queue_given(options->retention_ms, 0);
  options->min_replicas = rm_queue_given(options->min_replicas, 0);
  options->group_concurrency = rm_queue_given(options->group_concurrency, 0);
  options->group_limit = rm_queue_given(options->group_limit, 0);
  options->events = rm_queue_given(options->events, 0);
}

static int check_options(const redmoon_queue_options *options, redmoon_error *err) {
  int status = rm_queue_check_lease(options->lease_ms, err);
  if (status == 0) status = rm_queue_check_option("max_attempts", options->max_attempts, 1, MAX_TRIES, err);
  if (status == 0) status = rm_queue_check_option("max_crashes", options->max_crashes, 1, MAX_TRIES, err);
  if (status == 0) status = rm_queue_check_option("backoff min (ms)", options->min_backoff_ms, 0, ten_years_ms, err);
  if (status == 0)
    status = rm_queue_check_option("backoff max (ms)", options->max_backoff_ms, options->min_backoff_ms, ten_years_ms, err);
  if (status == 0) status = rm_queue_check_option("max_payload", options->max_payload, 1, MAX_PAYLOAD, err);
  if (status == 0) status = rm_queue_check_option("retention (ms)", options->retention_ms, 0, year_ms, err);
  if (status == 0) status = rm_queue_check_option("min_replicas", options->min_replicas, 0, RM_REPLICAS_MAX, err);
  if (status == 0) status = rm_queue_check_option("group_concurrency", options->group_concurrency, 0, MAX_TRIES, err);
  if (status == 0) status = rm_queue_check_option("events", options->events, 0, MAX_TRIES, err);
  return status == 0 ? rm_queue_check_window("group_", options->group_limit, options->group_window_ms, err) : status;
}

/* The handle. */

redmoon_queue *rm_queue_ref(redmoon_queue *queue) {
  atomic_fetch_add(&queue->refs, 1);
  return queue;
}

void rm_queue_unref(redmoon_queue *queue) {
  if (atomic_fetch_sub(&queue->refs, 1) > 1) return;
  for (size_t i = 0; i < QUEUE_KEYS; i++) rm_key_free(&queue->keys[i]);
  redmoon_client_close(queue->renewer);
  redmoon_client_close(queue->client);
  rm_free(queue->name);
  rm_free(queue);
}

void redmoon_queue_free(redmoon_queue *queue) {
  if (queue != NULL) rm_queue_unref(queue);
}

static int fill(redmoon_queue *queue, const void *name, size_t name_len, redmoon_error *err) {
  static const char *const parts[QUEUE_KEYS] = {PART ".jobs",   PART ".state", PART ".ready", PART ".delayed",
                                                PART ".leased", PART ".dead",  PART ".done",  PART ".wake",
                                                PART ".groups", PART ".events"};
  queue->name = rm_strndup(name, name_len);
  if (queue->name == NULL) return rm_fail_nomem(err);
  queue->name_len = name_len;
  rm_escape(queue->shown, sizeof queue->shown, name, name_len);
  const char *prefix = rm_client_key_prefix(queue->client);
  int status = 0;
  for (size_t i = 0; i < QUEUE_KEYS && status == 0; i++)
    status = rm_key_build(prefix, name, name_len, parts[i], &queue->keys[i], err);
  if (status == 0) status = rm_renewal_client(queue->client, queue->options.lease_ms, &queue->renewer, err);
  if (status == 0 && rm_random_init() != 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "queue '%s': libsodium has no source of random bytes", queue->shown);
  return status;
}

int redmoon_queue_new(redmoon_client *client, const void *name, size_t name_len, const redmoon_queue_options *options,
                      redmoon_queue **out, redmoon_error *err) {
  redmoon_queue_options own = REDMOON_QUEUE_OPTIONS_INIT;
  if (options != NULL) own = *options;
  *out = NULL;
  rm_error_clear(err);
  resolve(&own);
  int status = rm_name_check("queue name", name, name_len, err);
  if (status == 0) status = check_options(&own, err);
  if (status < 0) return status;
  redmoon_queue *queue = rm_calloc(1, sizeof *queue);
  if (queue == NULL) return rm_fail_nomem(err);
  atomic_init(&queue->refs, 1);
  queue->client = redmoon_client_ref(client);
  queue->options = own;
  status = fill(queue, name, name_len, err);
  if (status < 0) rm_queue_unref(queue);
  else *out = queue;
  return status;
}

/* Requests and answers. */

int rm_queue_request_key(const redmoon_queue *queue, const char *part, const char *request_id, redmoon_bytes *key,
                         redmoon_error *err) {
  return rm_request_key_build(rm_client_key_prefix(queue->client), queue->name, queue->name_len, part, request_id, key, err);
}

size_t rm_queue_keys(const redmoon_queue *queue, const char *letters, redmoon_bytes keys[QUEUE_KEYS + 1]) {
  size_t count = 0;
  for (; *letters != '\0'; letters++) {
    size_t which = (size_t)(strchr(QUEUE_LETTERS, *letters) - QUEUE_LETTERS);
    if (which != QUEUE_EVENTS || queue->options.events > 0) keys[count++] = queue->keys[which];
  }
  return count;
}

size_t rm_queue_add_request(redmoon_bytes request, size_t key_count, bool events, redmoon_bytes *keys) {
  if (request.ptr == NULL) return key_count;
  if (events) keys[key_count] = keys[key_count - 1];
  keys[events ? key_count - 1 : key_count] = request;
  return key_count + 1;
}

size_t rm_queue_event_arg(const redmoon_queue *queue, rm_queue_text *text, redmoon_bytes *arg) {
  if (queue->options.events == 0) return 0;
  *arg = rm_queue_number(text, queue->options.events);
  return 1;
}

redmoon_bytes rm_queue_number(rm_queue_text *text, int64_t number) {
  int len = snprintf(text->text, sizeof text->text, "%" PRId64, number);
  return (redmoon_bytes){text->text, (size_t)len};
}

redmoon_bytes rm_queue_string(const char *text) { return (redmoon_bytes){text, strlen(text)}; }

size_t rm_queue_group_limits(const redmoon_queue *queue, rm_queue_text texts[QUEUE_GROUP_ARGS],
                             redmoon_bytes args[QUEUE_GROUP_ARGS]) {
  const redmoon_queue_options *options = &queue->options;
  if (options->group_concurrency == 0 && options->group_limit == 0) return 0;
  args[0] = rm_queue_number(&texts[0], options->group_concurrency);
  args[1] = rm_queue_number(&texts[1], options->group_limit);
  args[2] = rm_queue_number(&texts[2], rm_queue_given(options->group_window_ms, 1));
  return QUEUE_GROUP_ARGS;
}

static int no_sense(const redmoon_queue *queue, const char *what, size_t index, redmoon_error *err) {
  return rm_fail(err, REDMOON_EPROTOCOL, "queue '%s': the script's answer has no %s at place %zu", queue->shown, what,
                 index + 1);
}

int rm_queue_integer(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, int64_t *out,
                     redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) return no_sense(queue, "integer", index, err);
  *out = redmoon_reply_integer(item);
  return 0;
}

int rm_queue_bytes(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, redmoon_bytes *out,
                   redmoon_error *err) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  out->ptr = item == NULL ? NULL : redmoon_reply_string(item, &out->len);
  return out->ptr == NULL ? no_sense(queue, "string", index, err) : 0;
}

int rm_queue_answered(redmoon_error *err, int attempts, int status) {
  if (err == NULL || status >= 0) return status;
  err->outcome = REDMOON_ANSWERED;
  err->attempts = attempts;
  return status;
}

rm_queue_call *rm_queue_call_new(redmoon_queue *queue, redmoon_job *job, void *out, redmoon_error *err) {
  rm_queue_call *call = rm_calloc(1, sizeof *call);
  if (call == NULL) {
    rm_fail_nomem(err);
    return NULL;
  }
  call->queue = rm_queue_ref(queue);
  call->job = job == NULL ? NULL : rm_job_ref(job);
  call->out = out;
  call->began_us = rm_clock_boot_us();
  return call;
}

void rm_queue_call_drop(void *ctx, redmoon_outcome outcome) {
  rm_queue_call *call = ctx;
  if (call->job != NULL) {
    if (call->ends && outcome == REDMOON_UNKNOWN) atomic_store(&call->job->maybe_ended, true);
    rm_job_unref(call->job);
  }
  rm_queue_unref(call->queue);
  rm_free(call);
}

int rm_queue_call_start(rm_queue_call *call, const rm_builtin *script, const char *letters, const redmoon_bytes *args,
                        size_t arg_count, unsigned flags, rm_decode_fn decode, redmoon_op **op, redmoon_error *err) {
  redmoon_bytes keys[QUEUE_KEYS + 1];
  const redmoon_script_args all = {keys, rm_queue_keys(call->queue, letters, keys), args, arg_count};
  const rm_replicas replicas = {"queue", call->replicated ? call->queue->options.min_replicas : 0};
  return rm_replicated_start(call->queue->client, script, &all, flags, &replicas, decode, rm_queue_call_drop, call, op,
                             err);
}

/* Push. */

/* What the arguments of a push point to. */
typedef struct push_texts {
  rm_queue_text numbers[ITEM_NUMBERS];
  char id[2 * ID_BYTES + 1];
  char *unique; /* and the group, where there is one: in memory that follows the texts of all */
} push_texts;

static int check_item(const redmoon_queue *queue, const redmoon_queue_item *item, redmoon_error *err) {
  const redmoon_queue_options *options = &queue->options;
  if (item->len > (size_t)options->max_payload)
    return rm_fail(err, REDMOON_ETOO_LARGE, "queue '%s': a payload of %zu bytes is not accepted; max_payload is %" PRId64,
                   queue->shown, item->len, options->max_payload);
  if (item->payload == NULL && item->len > 0)
    return rm_fail(err, REDMOON_ECONFIG, "queue '%s': the payload is NULL, of %zu bytes", queue->shown, item->len);
  int status = item->id == NULL ? 0 : rm_queue_check_id(item->id, err);
  if (status == 0 && item->group != NULL) status = rm_queue_check_group(item->group, err);
  size_t unique = item->unique == NULL ? 1 : strlen(item->unique);
  if (status == 0 && (unique < 1 || unique > MAX_UNIQUE))
    status = rm_fail(err, REDMOON_ECONFIG, "queue option unique: %zu bytes are not accepted; give 1 to %d", unique, MAX_UNIQUE);
  if (status == 0)
    status = rm_queue_check_option("delay (ms)", rm_queue_given(item->delay_ms, 0), INT64_MIN, ten_years_ms, err);
  if (status == 0)
    status = rm_queue_check_option("priority", rm_queue_given(item->priority, 0), 0, REDMOON_PRIORITY_MAX, err);
  if (status == 0)
    status = rm_queue_check_option("max_attempts", rm_queue_given(item->max_attempts, 1), 1, MAX_TRIES, err);
  if (status == 0)
    status = rm_queue_check_option("max_crashes", rm_queue_given(item->max_crashes, 1), 1, MAX_TRIES, err);
  return status;
}

static void put_item(const redmoon_queue *queue, const redmoon_queue_item *item, push_texts *texts, redmoon_bytes *args) {
  if (item->id == NULL) rm_client_random_hex(queue->client, texts->id, ID_BYTES);
  args[0] = rm_queue_string(item->id != NULL ? item->id : texts->id);
  args[1] = (redmoon_bytes){item->payload, item->len};
  args[2] = rm_queue_number(&texts->numbers[0], rm_queue_given(item->priority, 0));
  args[3] = rm_queue_number(&texts->numbers[1], rm_max64(rm_queue_given(item->delay_ms, 0), 0));
  args[4] = rm_queue_number(&texts->numbers[2], rm_queue_given(item->max_attempts, queue->options.max_attempts));
  args[5] = rm_queue_number(&texts->numbers[3], rm_queue_given(item->max_crashes, queue->options.max_crashes));
  args[6] = rm_queue_string(item->unique != NULL ? item->unique : "");
  if (item->group == NULL) return;
  size_t group_len = strlen(item->group);
  if (args[6].len > 0) memcpy(texts->unique, args[6].ptr, args[6].len);
  texts->unique[args[6].len] = '\0'; /* so the script tells them apart */
  memcpy(texts->unique + args[6].len + 1, item->group, group_len);
  args[6] = (redmoon_bytes){texts->unique, args[6].len + 1 + group_len};
}

/* Zeroed; NULL: no memory. */
static push_texts *texts_new(const redmoon_queue_item *items, size_t count) {
  size_t grouped = 0, room = MAX_UNIQUE + 1 + REDMOON_GROUP_SIZE;
  for (size_t i = 0; i < count; i++) grouped += items[i].group != NULL ? 1 : 0;
  push_texts *texts = rm_calloc(1, count * sizeof *texts + grouped * room);
  if (texts == NULL) return NULL;
  char *free_room = (char *)(texts + count);
  for (size_t i = 0; i < count; i++) {
    if (items[i].group == NULL) continue;
    texts[i].unique = free_room;
    free_room += room;
  }
  return texts;
}

int rm_queue_pushed(const redmoon_queue *queue, const redmoon_reply *reply, size_t index, redmoon_queue_pushed *out,
                    redmoon_error *err) {
  int64_t code;
  redmoon_bytes id;
  int status = rm_queue_integer(queue, reply, 2 * index + 1, &code, err);
  if (status == 0) status = rm_queue_bytes(queue, reply, 2 * index + 2, &id, err);
  if (status == 0 && id.len >= sizeof out->id) status = no_sense(queue, "id", 2 * index + 2, err);
  if (status < 0) return status;
  *out = (redmoon_queue_pushed){code == RM_STATUS_QUEUE_OK ? 0 : REDMOON_ECONFLICT, code == RM_STATUS_QUEUE_HELD, ""};
  memcpy(out->id, id.ptr, id.len);
  out->id[id.len] = '\0';
  rm_client_count(queue->client, "queue", code == RM_STATUS_QUEUE_OK ? "pushed" : "conflict");
  return 0;
}

static int decode_push(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_queue_call *call = ctx;
  redmoon_queue_pushed *out = call->out;
  int status = 0;
  for (size_t i = 0; i < (size_t)call->value && status == 0; i++)
    status = rm_queue_pushed(call->queue, answer->reply, i, &out[i], err);
  if (status < 0 || call->more == NULL || out->status == 0) return rm_queue_answered(err, answer->attempts, status);
  char shown[QUEUE_SHOWN];
  rm_escape(shown, sizeof shown, out->id, strlen(out->id));
  status = rm_fail(err, REDMOON_ECONFLICT, out->by_unique ? "queue '%s': job '%s' has this unique key"
                                                          : "queue '%s': there is a job '%s' already",
                   call->queue->shown, shown);
  return rm_queue_answered(err, answer->attempts, status);
}

/* Zeroed room for all that the request points to -> the operation.  `one`: a conflict is a failure. */
static int push_with(redmoon_queue *queue, const redmoon_queue_item *items, size_t count, const char *request_id,
                     bool one, push_texts *texts, redmoon_bytes *args, redmoon_queue_pushed *out, redmoon_op **op,
                     redmoon_error *err) {
  int status = 0;
  for (size_t i = 0; i < count; i++) put_item(queue, &items[i], &texts[i], &args[i * ITEM_ARGS]);
  redmoon_bytes keys[QUEUE_KEYS + 1];
  size_t key_count = rm_queue_keys(queue, "jsrdowge", keys), arg_count = count * ITEM_ARGS;
  redmoon_bytes request = {NULL, 0};
  rm_queue_text length;
  if (request_id != NULL) status = rm_queue_request_key(queue, QUEUE_PUSH_PART, request_id, &request, err);
  key_count = rm_queue_add_request(request, key_count, queue->options.events > 0, keys);
  arg_count += rm_queue_event_arg(queue, &length, &args[arg_count]);
  rm_queue_call *call = status == 0 ? rm_queue_call_new(queue, NULL, out, err) : NULL;
  if (call == NULL) {
    rm_key_free(&request);
    return status < 0 ? status : REDMOON_ENOMEM;
  }
  call->value = (int64_t)count;
  call->more = one ? out : NULL;
  const redmoon_script_args all = {keys, key_count, args, arg_count};
  const rm_replicas replicas = {"queue", queue->options.min_replicas};
  status = rm_replicated_start(queue->client, &rm_script_queue_push, &all, request_id != NULL ? RM_CALL_REPEATABLE : 0,
                               &replicas, decode_push, rm_queue_call_drop, call, op, err);
  rm_key_free(&request);
  return status;
}

static int push_start(redmoon_queue *queue, const redmoon_queue_item *items, size_t count, const char *request_id,
                      bool one, redmoon_queue_pushed *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (count < 1 || count > REDMOON_QUEUE_MANY_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "queue: %zu jobs are not accepted; give 1 to %d", count, REDMOON_QUEUE_MANY_MAX);
  int status = rm_request_id_check(request_id, err);
  for (size_t i = 0; i < count && status == 0; i++) status = check_item(queue, &items[i], err);
  if (status < 0) return status;
  if (rm_queue_is_bundle(queue, items, count))
    return rm_queue_bundle_start(queue, items, count, request_id, out, op, err);
  push_texts *texts = texts_new(items, count);
  redmoon_bytes *args = rm_calloc(count * ITEM_ARGS + 1, sizeof *args);
  if (texts == NULL || args == NULL) status = rm_fail_nomem(err);
  else status = push_with(queue, items, count, request_id, one, texts, args, out, op, err);
  rm_free(texts);
  rm_free(args);
  return status;
}

int redmoon_queue_push_start(redmoon_queue *queue, const redmoon_queue_item *item, const char *request_id,
                             redmoon_queue_pushed *out, redmoon_op **op, redmoon_error *err) {
  return push_start(queue, item, 1, request_id, true, out, op, err);
}

int redmoon_queue_push(redmoon_queue *queue, const redmoon_queue_item *item, const char *request_id,
                       redmoon_queue_pushed *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_push_start(queue, item, request_id, out, &op, err), &op, err);
}

int redmoon_queue_push_many_start(redmoon_queue *queue, const redmoon_queue_item *items, size_t count,
                                  const char *request_id, redmoon_queue_pushed *out, redmoon_op **op,
                                  redmoon_error *err) {
  return push_start(queue, items, count, request_id, false, out, op, err);
}

int redmoon_queue_push_many(redmoon_queue *queue, const redmoon_queue_item *items, size_t count, const char *request_id,
                            redmoon_queue_pushed *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_push_many_start(queue, items, count, request_id, out, &op, err), &op, err);
}
