/* SPDX-License-Identifier: MIT */
/* The fence guard: one script, one key. */
#include <redmoon/fence_guard.h>

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>

static const int64_t max_fence = INT64_C(9007199254740991); /* scripts count in doubles */

/* One request under way. */
typedef struct guard_call {
  redmoon_client *client; /* a reference */
  int *accepted;
} guard_call;

static void call_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  guard_call *call = ctx;
  redmoon_client_close(call->client);
  rm_free(call);
}

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  guard_call *call = ctx;
  const redmoon_reply *code = redmoon_reply_at(answer->reply, 0);
  if (code == NULL || redmoon_reply_type(code) != REDMOON_INTEGER) {
    rm_fail(err, REDMOON_EPROTOCOL, "fence guard: the script's answer has no integer at place 1");
    if (err != NULL) err->outcome = REDMOON_ANSWERED;
    return REDMOON_EPROTOCOL;
  }
  *call->accepted = redmoon_reply_integer(code) == RM_STATUS_GUARD_ACCEPTED;
  rm_client_count(call->client, "fence_guard", *call->accepted ? "accepted" : "refused");
  return 0;
}

int redmoon_fence_guard_start(redmoon_client *client, const void *resource, size_t resource_len, int64_t fence,
                              int *accepted, redmoon_op **op, redmoon_error *err) {
  int status = rm_name_check("fence guard resource", resource, resource_len, err);
  if (status < 0) return status;
  if (fence < 1 || fence > max_fence)
    return rm_fail(err, REDMOON_ECONFIG, "fence guard: fence %" PRId64 " is not accepted; give 1 to %" PRId64,
                   fence, max_fence);
  redmoon_bytes key = {NULL, 0};
  status = rm_key_build(rm_client_key_prefix(client), resource, resource_len, "guard", &key, err);
  if (status < 0) return status;
  guard_call *call = rm_alloc(sizeof *call);
  if (call == NULL) {
    rm_key_free(&key);
    return rm_fail_nomem(err);
  }
  *call = (guard_call){redmoon_client_ref(client), accepted};
  char text[24];
  int len = snprintf(text, sizeof text, "%" PRId64, fence);
  const redmoon_bytes arg = {text, (size_t)len};
  const redmoon_script_args args = {&key, 1, &arg, 1};
  /* Repeatable: what was accepted is accepted again, unless a higher one came between: then it is refused rightly. */
  status =
      rm_builtin_start(client, &rm_script_fence_guard, &args, RM_CALL_REPEATABLE, decode, call_drop, call, op, err);
  rm_key_free(&key);
  return status;
}

int redmoon_fence_guard(redmoon_client *client, const void *resource, size_t resource_len, int64_t fence,
                        int *accepted, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_fence_guard_start(client, resource, resource_len, fence, accepted, &op, err), &op, err);
}
