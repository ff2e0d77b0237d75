/* SPDX-License-Identifier: MIT */
/* Topics: the object, and publishing. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"

int redmoon_topic_new(redmoon_client *client, const void *name, size_t name_len, redmoon_topic **out, redmoon_error *err) {
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
  status = topic->name == NULL ? rm_fail_nomem(err) : 0;
  if (status == 0) status = rm_key_build(rm_client_key_prefix(client), name, name_len, "topic", &topic->key, err);
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
  rm_key_free(&topic->key);
  rm_free(topic->name);
  rm_free(topic);
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
  if (redmoon_reply_type(seq) != REDMOON_INTEGER || redmoon_reply_type(receivers) != REDMOON_INTEGER) {
    rm_fail(err, REDMOON_EPROTOCOL, "topic: the script's answer has no integers at places 2 and 3");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  if (call->out != NULL)
    *call->out = (redmoon_topic_published){redmoon_reply_integer(seq), redmoon_reply_integer(receivers)};
  rm_client_count(call->client, "topic", "published");
  return 0;
}

int redmoon_topic_publish_start(redmoon_topic *topic, const void *payload, size_t payload_len, const char *request_id,
                                redmoon_topic_published *out, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (payload == NULL && payload_len > 0) return rm_fail(err, REDMOON_ECONFIG, "topic: the payload is NULL");
  int status = rm_request_id_check(request_id, err);
  if (status < 0) return status;
  redmoon_bytes keys[2] = {topic->key, {NULL, 0}};
  if (request_id != NULL)
    status = rm_request_key_build(rm_client_key_prefix(topic->client), topic->name, topic->name_len, "topic", request_id,
                                  &keys[1], err);
  if (status < 0) return status;
  publish_call *call = rm_alloc(sizeof *call);
  if (call == NULL) {
    rm_key_free(&keys[1]);
    return rm_fail_nomem(err);
  }
  *call = (publish_call){redmoon_client_ref(topic->client), out};
  char epoch[RM_TOPIC_EPOCH + 1];
  rm_client_random_hex(topic->client, epoch, RM_TOPIC_EPOCH / 2);
  const redmoon_bytes argv[] = {{payload_len > 0 ? payload : "", payload_len}, {epoch, RM_TOPIC_EPOCH}};
  const redmoon_script_args args = {keys, request_id != NULL ? 2 : 1, argv, 2};
  status = rm_builtin_start(topic->client, &rm_script_topic_publish, &args, request_id != NULL ? RM_CALL_REPEATABLE : 0,
                            publish_decode, publish_drop, call, op, err);
  rm_key_free(&keys[1]);
  return status;
}

int redmoon_topic_publish(redmoon_topic *topic, const void *payload, size_t payload_len, const char *request_id,
                          redmoon_topic_published *out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_publish_start(topic, payload, payload_len, request_id, out, &op, err), &op, err);
}
