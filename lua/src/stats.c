/* SPDX-License-Identifier: MIT */
/* client:stats(), client:nodes() and client:metrics(). */
#include "binding.h"

/* [-0, +0] of the table on top */
static void set_count(lua_State *L, const char *field, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, field);
}

/* [-0, +1] */
static void push_stats(lua_State *L, const redmoon_stats *stats) {
  lua_createtable(L, 0, 13);
  set_count(L, "hits", stats->hits);
  set_count(L, "misses", stats->misses);
  set_count(L, "timeouts", stats->timeouts);
  set_count(L, "wait_count", stats->wait_count);
  lua_pushnumber(L, (lua_Number)stats->wait_time_us / 1e6);
  lua_setfield(L, -2, "wait_time");
  set_count(L, "total", stats->total);
  set_count(L, "idle", stats->idle);
  set_count(L, "in_use", stats->in_use);
  set_count(L, "waiting", stats->waiting);
  set_count(L, "subscriptions", stats->subscriptions);
  set_count(L, "dials", stats->dials);
  set_count(L, "dial_failures", stats->dial_failures);
  lua_createtable(L, 0, 6);
  set_count(L, "idle", stats->closed_idle);
  set_count(L, "lifetime", stats->closed_lifetime);
  set_count(L, "peer", stats->closed_peer);
  set_count(L, "dirty", stats->closed_dirty);
  set_count(L, "error", stats->closed_error);
  set_count(L, "failover", stats->closed_failover);
  lua_setfield(L, -2, "closed");
}

int rm_lua_client_stats(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  redmoon_stats stats;
  redmoon_client_stats(client->link.client, &stats);
  push_stats(L, &stats);
  return 1;
}

/* client:nodes(): a list of {address=, role=, latency=, stats=} */
int rm_lua_client_nodes(lua_State *L) {
  static const char *const roles[] = {"", "primary", "replica", "left"};
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  size_t cap = redmoon_client_nodes(client->link.client, NULL, 0) + 8;
  redmoon_node *nodes = lua_newuserdatauv(L, cap * sizeof *nodes, 0);
  size_t count = redmoon_client_nodes(client->link.client, nodes, cap);
  lua_newtable(L);
  for (size_t i = 0; i < count && i < cap; i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, nodes[i].address);
    lua_setfield(L, -2, "address");
    lua_pushstring(L, roles[nodes[i].role]);
    lua_setfield(L, -2, "role");
    if (nodes[i].latency_us > 0) {
      lua_pushnumber(L, (lua_Number)nodes[i].latency_us / 1e6);
      lua_setfield(L, -2, "latency");
    }
    push_stats(L, &nodes[i].stats);
    lua_setfield(L, -2, "stats");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

int rm_lua_client_metrics(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_guard *guard = rm_lua_guard_new(L, redmoon_free);
  char *text;
  size_t len;
  redmoon_error err;
  if (redmoon_client_metrics(client->link.client, &text, &len, &err) < 0) return rm_lua_fail(L, &err);
  guard->ptr = text;
  lua_pushlstring(L, text, len);
  rm_lua_guard_end(guard);
  return 1;
}
