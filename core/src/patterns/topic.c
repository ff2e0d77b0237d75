/* SPDX-License-Identifier: MIT */
/* Topics: the object, and publishing. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/replicas.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <string.h>

enum { LENGTH_USUAL = 100000, MANY = 1000000000 };
static const int64_t longest_ms = INT64_C(366) * 24 * 3600 * 1000;

static int check_retention(const char *option, int64_t value, int64_t max, int64_t *out, redmoon_error *err) {
  *out = value == REDMOON_UNSET ? 0 : value;
  if (value == REDMOON_UNSET || (value >= 1 && value <= max)) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "topic option %s: %" PRId64 " is not accepted; give 1 to %" PRId64, option, value, max);
}

static int read_options(redmoon_topic *topic, const redmoon_topic_options *given, redmoon_error *err) {
  static const redmoon_topic_options none = REDMOON_TOPIC_OPTIONS_INIT;
  const redmoon_topic_options o = given != NULL ? *given : none;
  if (o.durable != REDMOON_UNSET && o.durable != 0 && o.durable != 1)
    return rm_fail(err, REDMOON_ECONFIG, "topic option durable: %" PRId64 " is not accepted; give 0 or 1", o.durable);
  topic->durable = o.durable == 1;
  int rc = check_retention("length", o.length, MANY, &topic->length, err);
  if (rc == 0) rc = check_retention("age_ms", o.age_ms, longest_ms, &topic->age_ms, err);
  if (rc == 0) rc = check_retention("hold", o.hold, MANY, &topic->hold, err);
  if (rc == 0 && o.min_replicas != 0) rc = check_retention("min_replicas", o.min_replicas, RM_REPLICAS_MAX, &topic->min_replicas, err);
  if (rc < 0) return rc;
  if (!topic->durable && topic->length + topic->age_ms + topic->hold > 0)
    return rm_fail(err, REDMOON_ECONFIG, "topic: retention is of durable topics only; give durable, too");
  if (topic->length + topic->age_ms == 0) topic->length = LENGTH_USUAL;
  return 0;
}

static int build_keys(redmoon_topic *topic, redmoon_error *err) {
  static const char *const parts[RM_TOPIC_KEYS] = {"topic", "topic.log", "topic.readers"};
  const char *prefix = rm_client_key_prefix(topic->client);
  int rc = 0;
  for (int i = 0; rc == 0 && i < (topic->durable ? RM_TOPIC_KEYS : 1); i++)
    rc = rm_key_build(prefix, topic->name, topic->name_len, parts[i], &topic->keys[i], err);
  return rc;
}

int redmoon_topic_new(redmoon_client *client, const void *name, size_t name_len, const redmoon_topic_options *options,
                      redmoon_topic **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  int status = rm_name_check("topic name", name, name_len, err);
  if (status < 0) return status;
  redmoon_topic *topic = rm_calloc(1, sizeof *topic);
  if (topic == NULL) return rm_fail_nomem(err);
  atomic_init(&topic->refs, 1);
  topic->client = redmoon_client_ref(client);
  topic->name = rm_strndup(name, name_len);
  topic->name_len = name_len;
  status = topic->name == NULL ? rm_fail_nomem(err) : read_options(topic, options, err);
  if (status == 0) status = build_keys(topic, err);
  if (status == 0) *out = topic;
  else redmoon_topic_free(topic);
  return status;
}

redmoon_topic *rm_topic_ref(redmoon_topic *topic) {
  atomic_fetch_add(&topic->refs, 1);
  return topic;
}

void redmoon_topic_free(redmoon_topic *topic) {
  if (topic == NULL || atomic_fetch_sub(&topic->refs, 1) != 1) return;
  redmoon_client_close(topic->client);
  for (int i = 0; i < RM_TOPIC_KEYS; i++) rm_key_free(&topic->keys[i]);
  rm_free(topic->name);
  rm_free(topic);
}

redmoon_bytes rm_topic_number(rm_topic_digits *digits, int64_t number) {
  return (redmoon_bytes){digits->text, rm_int64_put(digits->text, number)};
}

int rm_topic_fail_answer(redmoon_error *err) {
  rm_fail(err, REDMOON_EPROTOCOL, "topic: the script's answer is not as it should be");
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return REDMOON_EPROTOCOL;
}

/* Publishing. */

typedef struct publish_call {
  redmoon_client *client; /* a reference */
  redmoon_topic_published *out;
} publish_call;

static void publish_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  publish_call *call = ctx;
  redmoon_client_close(call->client);
  rm_free(call);
}

static int publish_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  publish_call *call = ctx;
  const redmoon_reply *seq = redmoon_reply_at(answer->reply, 1), *receivers = redmoon_reply_at(answer->reply, 2);
  if (redmoon_reply_type(seq) != REDMOON_INTEGER || redmoon_reply_type(receivers) != REDMOON_INTEGER)
    return rm_topic_fail_answer(err);
  if (call->out != NULL)
    *call->out = (redmoon_topic_published){redmoon_reply_integer(seq), redmoon_reply_integer(receivers)};
  rm_client_count(call->client, "topic", "published");
  return 0;
}

/* Keys and arguments of either script. */
static int publish_send(redmoon_topic *topic, redmoon_bytes payload, redmoon_bytes request, publish_call *call,
                        redmoon_op **op, redmoon_error *err) {
  rm_topic_digits length, age, hold;
  char epoch[RM_TOPIC_EPOCH + 1];
  rm_client_random_hex(topic->client, epoch, RM_TOPIC_EPOCH / 2);
  const redmoon_bytes argv[] = {payload, {epoch, RM_TOPIC_EPOCH}, rm_topic_number(&length, topic->length),
                                rm_topic_number(&age, topic->age_ms), rm_topic_number(&hold, topic->hold)};
  redmoon_bytes keys[RM_TOPIC_KEYS + 1];
  size_t count = topic->durable ? RM_TOPIC_KEYS : 1;
  memcpy(keys, topic->keys, count * sizeof *keys);
  if (request.ptr != NULL) keys[count++] = request;
  const redmoon_script_args args = {keys, count, argv, topic->durable ? 5 : 2};
  const rm_replicas replicas = {"topic", topic->min_replicas};
  return rm_replicated_start(topic->client, topic->durable ? &rm_script_topic_append : &rm_script_topic_publish, &args,
                             request.ptr != NULL ? RM_CALL_REPEATABLE : 0, &replicas, publish_decode, publish_drop, call, op, err);
}

int redmoon_topic_publish_start(redmoon_topic *topic, const void *payload, size_t payload_len, const char *request_id,
                                redmoon_topic_published *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (payload == NULL && payload_len > 0) return rm_fail(err, REDMOON_ECONFIG, "topic: the payload is NULL");
  int status = rm_request_id_check(request_id, err);
  if (status < 0) return status;
  redmoon_bytes request = {NULL, 0};
  if (request_id != NULL)
    status = rm_request_key_build(rm_client_key_prefix(topic->client), topic->name, topic->name_len, "topic", request_id,
                                  &request, err);
  if (status < 0) return status;
  publish_call *call = rm_alloc(sizeof *call);
  if (call == NULL) {
    rm_key_free(&request);
    return rm_fail_nomem(err);
  }
  *call = (publish_call){redmoon_client_ref(topic->client), out};
  status = publish_send(topic, (redmoon_bytes){payload_len > 0 ? payload : "", payload_len}, request, call, op, err);
  rm_key_free(&request);
  return status;
}

int redmoon_topic_publish(redmoon_topic *topic, const void *payload, size_t payload_len, const char *request_id,
                          redmoon_topic_published *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_publish_start(topic, payload, payload_len, request_id, out, &op, err), &op, err);
}
