/* SPDX-License-Identifier: MIT */
/* Whether the server would keep what it was told: one INFO. */
#include "patterns/blocklist.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/script.h"

#include <string.h>

/* The value of a line `<field>:<value>` of INFO; *len 0 when there is none. */
static const char *info_field(const char *text, const char *field, size_t *len) {
  size_t name_len = strlen(field);
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, field, name_len) != 0 || line[name_len] != ':') continue;
    *len = strcspn(line + name_len + 1, "\r\n");
    return line + name_len + 1;
  }
  *len = 0;
  return "";
}

static int judge(redmoon_client *client, const char *info, redmoon_error *err) {
  size_t limit_len, policy_len;
  const char *limit = info_field(info, "maxmemory", &limit_len);
  const char *policy = info_field(info, "maxmemory_policy", &policy_len);
  int status;
  if (limit_len == 0 || policy_len == 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE,
                     "blocklist: the server's INFO does not say whether it evicts keys; see that maxmemory-policy is "
                     "noeviction");
  else if ((limit_len == 1 && *limit == '0') || (policy_len == 10 && memcmp(policy, "noeviction", 10) == 0))
    return 0;
  else
    status = rm_fail(err, REDMOON_EUNAVAILABLE,
                     "blocklist: maxmemory-policy of the server is %.*s: it may evict a revocation, and the token would be "
                     "accepted again; set noeviction, or keep the blocklist on a server of its own",
                     (int)(policy_len < 40 ? policy_len : 40), policy);
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  rm_client_count(client, "blocklist", "evicting");
  return status;
}

static int finish(redmoon_op *op, redmoon_error *err) {
  rm_call *call = (rm_call *)op;
  redmoon_reply *reply = NULL;
  int status = rm_call_take_reply(call, 0, &reply, err);
  if (status < 0) return status;
  const char *text = redmoon_reply_string(reply, NULL);
  status = judge(op->client, text != NULL ? text : "", err);
  redmoon_reply_free(reply);
  return status;
}

static void destroy(redmoon_op *op) {
  rm_call_fini((rm_call *)op);
  rm_free(op);
}

static const rm_op_class verify_class = {rm_call_step, finish, destroy, rm_call_outcome};

int redmoon_blocklist_verify_start(redmoon_blocklist *list, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  rm_call *call = rm_calloc(1, sizeof *call);
  if (call == NULL) return rm_fail_nomem(err);
  rm_call_init(call, list->client, true);
  call->op.class = &verify_class;
  int status = rm_call_argv(call, 2, (const char *const[]){"INFO", "memory"}, NULL, RM_CALL_REPEATABLE, err);
  if (status < 0) {
    destroy(&call->op);
    return status;
  }
  *op = &call->op;
  return 0;
}

int redmoon_blocklist_verify(redmoon_blocklist *list, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_blocklist_verify_start(list, &op, err), &op, err);
}
