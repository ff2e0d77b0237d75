/* SPDX-License-Identifier: MIT */
/* MOVED and ASK. */
#include "engine/redirect.h"

#include "base/error.h"
#include "engine/call_internal.h"
#include "route/cluster.h"

#include <string.h>

int rm_redirect_kind(const redmoon_reply *reply) {
  if (rm_reply_is_error(reply, "MOVED")) return RM_MOVED;
  return rm_reply_is_error(reply, "ASK") ? RM_ASK : RM_NOT_REDIRECTED;
}

/* "MOVED 3999 10.0.0.7:6381" */
static bool parse(const redmoon_reply *reply, const rm_address *asked, uint16_t *slot, rm_announced *server) {
  const char *at = reply->as.text, *end = at + reply->len;
  while (at < end && *at != ' ') at++;
  unsigned number = 0;
  const char *digits = ++at;
  for (; at < end && *at >= '0' && *at <= '9' && at - digits < 5; at++) number = number * 10 + (unsigned)(*at - '0');
  if (at == digits || at >= end || *at != ' ' || number >= RM_SLOTS) return false;
  const char *address = at + 1;
  while (at + 1 < end && at[1] != ' ') at++;
  *slot = (uint16_t)number;
  return rm_announced_parse(server, address, (size_t)(at + 1 - address), asked);
}

static void emit(rm_call *call, const rm_node *to) {
  rm_core *core = call->op.client->core;
  if (!rm_hooks_wants(&core->hooks, REDMOON_EVENT_REDIRECT)) return;
  redmoon_event event = {.kind = REDMOON_EVENT_REDIRECT, .reason = "", .attempt = call->attempt};
  event.command = rm_command_at(call->request.marks[call->request.count - 1].tag)->name;
  event.address = to->name;
  rm_hooks_emit(&core->hooks, &event);
}

rm_node *rm_redirect_note(rm_core *core, const redmoon_reply *reply, const rm_node *from, redmoon_error *err) {
  rm_announced server;
  uint16_t slot;
  rm_route_suspect(core->route);
  if (!parse(reply, &from->address, &slot, &server)) {
    char shown[160];
    rm_escape(shown, sizeof shown, reply->as.text, reply->len);
    rm_fail(err, REDMOON_EPROTOCOL, "%s redirected to something that is no usable address: %s", from->name, shown);
    err->outcome = REDMOON_NOT_SENT;
    return NULL;
  }
  if (rm_redirect_kind(reply) == RM_MOVED) return rm_cluster_moved(core->route, slot, &server, err);
  return rm_cluster_node(core->route, &server, err);
}

rm_node *rm_redirect_follow(rm_call *call, const redmoon_reply *reply, const rm_node *from, redmoon_error *err) {
  rm_node *node = rm_redirect_note(call->op.client->core, reply, from, err);
  if (node != NULL) emit(call, node);
  return node;
}

int rm_redirect_fail(const redmoon_reply *reply, redmoon_error *err) {
  char shown[160];
  rm_escape(shown, sizeof shown, reply->as.text, reply->len);
  rm_fail(err, REDMOON_EUNAVAILABLE, "the command was sent on from node to node %d times and executed by none; the last one said: %s",
          (int)RM_HOPS_MAX, shown);
  err->outcome = REDMOON_NOT_SENT;
  return REDMOON_EUNAVAILABLE;
}
