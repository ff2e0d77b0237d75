/* SPDX-License-Identifier: MIT */
/* PUBLISH and SPUBLISH. */
#include "base/error.h"
#include "engine/call.h"

#include <redmoon/subscription.h>

typedef struct publish_op {
  rm_call call; /* first: its op is this one's */
  int64_t *receivers;
} publish_op;

static int finish(redmoon_op *op, redmoon_error *err) {
  publish_op *self = (publish_op *)op;
  redmoon_reply *reply = self->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, &reply, err);
  if (reply->type != REDMOON_INTEGER) {
    rm_fail(err, REDMOON_EPROTOCOL, "PUBLISH was not answered by an integer");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  if (self->receivers != NULL) *self->receivers = reply->as.integer;
  return 0;
}

static void destroy(redmoon_op *op) { rm_call_delete((rm_call *)op); }

static const rm_op_class publish_class = {rm_call_step, finish, destroy, rm_call_outcome};

int redmoon_publish_start(redmoon_client *client, const void *channel, size_t channel_len, const void *payload,
                          size_t payload_len, int shard, int64_t *receivers, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if ((channel == NULL && channel_len > 0) || (payload == NULL && payload_len > 0))
    return rm_fail(err, REDMOON_ECONFIG, "publish: the %s is NULL", payload == NULL && payload_len > 0 ? "payload" : "channel");
  publish_op *self = rm_call_new(client, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &publish_class;
  self->receivers = receivers;
  const char *argv[] = {shard ? "SPUBLISH" : "PUBLISH", channel_len > 0 ? channel : "", payload_len > 0 ? payload : ""};
  const size_t lens[] = {shard ? 8 : 7, channel_len, payload_len};
  int rc = rm_call_argv(&self->call, 3, argv, lens, 0, err);
  if (rc == 0) *op = &self->call.op;
  else destroy(&self->call.op);
  return rc;
}

int redmoon_publish(redmoon_client *client, const void *channel, size_t channel_len, const void *payload,
                    size_t payload_len, int shard, int64_t *receivers, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_publish_start(client, channel, channel_len, payload, payload_len, shard, receivers, &op, err), &op,
                err);
}
