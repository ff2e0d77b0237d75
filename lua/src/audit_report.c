/* SPDX-License-Identifier: MIT */
/* The report of an audit as a table. */
#include "audit.h"

#include <math.h>

/* All of them set a field of the table on top. [-0, +0] */

static void set_integer(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, (lua_Number)value);
  lua_setfield(L, -2, name);
}

/* What is negative is not known: it has no field. */
static void set_known(lua_State *L, const char *name, int64_t value) {
  if (value >= 0) set_integer(L, name, value);
}

static void set_known_number(lua_State *L, const char *name, double value) {
  if (value >= 0) set_number(L, name, value);
}

static void set_known_seconds(lua_State *L, const char *name, double ms) {
  if (ms >= 0) set_number(L, name, rm_lua_seconds(ms));
}

static void set_text(lua_State *L, const char *name, const char *text) {
  if (text == NULL || text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

/* Without the empty buckets at either end. [-0, +0] */
static void set_histogram(lua_State *L, const redmoon_audit_group *group) {
  int first = 0, last = REDMOON_AUDIT_TTL_BUCKETS - 1, n = 0;
  while (first <= last && group->ttl_histogram[first] == 0) first++;
  while (last >= first && group->ttl_histogram[last] == 0) last--;
  lua_createtable(L, last - first + 1, 0);
  for (int i = first; i <= last; i++) {
    lua_createtable(L, 0, 3);
    set_number(L, "from", i == 0 ? 0 : rm_lua_seconds(ldexp(1, i)));
    set_number(L, "to", i == REDMOON_AUDIT_TTL_BUCKETS - 1 ? HUGE_VAL : rm_lua_seconds(ldexp(1, i + 1)));
    set_integer(L, "keys", group->ttl_histogram[i]);
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, "ttl_histogram");
}

static void set_types(lua_State *L, const redmoon_audit_group *group) {
  lua_createtable(L, 0, 2);
  for (size_t i = 0; i < REDMOON_AUDIT_TYPES; i++)
    if (group->types[i] > 0) set_integer(L, redmoon_audit_type_name(i), group->types[i]);
  lua_setfield(L, -2, "types");
}

static void set_cliff(lua_State *L, const redmoon_audit_group *group) {
  set_number(L, "max_cliff", group->cliff_share);
  set_number(L, "max_cliff_error", group->keys > 0 ? (double)group->cliff_error / (double)group->keys : 0);
  set_integer(L, "max_cliff_keys", group->cliff_keys);
  if (group->cliff_keys > 0) set_number(L, "max_cliff_at", rm_lua_seconds((double)group->cliff_at_ms));
}

/* [-0, +1] */
static void push_group(lua_State *L, const redmoon_audit_group *group, bool named) {
  lua_createtable(L, 0, 24);
  if (named) {
    lua_pushlstring(L, group->prefix, group->prefix_len);
    lua_setfield(L, -2, "prefix");
  }
  set_integer(L, "keys", group->keys);
  set_integer(L, "keys_missed", group->keys_missed);
  set_integer(L, "no_ttl", group->no_ttl);
  set_integer(L, "below_min", group->below_min);
  set_integer(L, "above_max", group->above_max);
  set_integer(L, "sampled", group->sampled);
  set_known_number(L, "bytes", group->bytes);
  if (group->bytes >= 0) set_number(L, "bytes_low", group->bytes_low);
  set_known_number(L, "bytes_high", group->bytes_high);
  set_known_seconds(L, "ttl_p50", group->ttl_p50_ms);
  set_known_seconds(L, "ttl_p99", group->ttl_p99_ms);
  set_known_seconds(L, "ttl_min", (double)group->ttl_min_ms);
  set_known_seconds(L, "ttl_max", (double)group->ttl_max_ms);
  set_histogram(L, group);
  set_types(L, group);
  set_cliff(L, group);
}

static void set_groups(lua_State *L, const redmoon_audit_report *report) {
  size_t count = redmoon_audit_report_count(report);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    push_group(L, redmoon_audit_report_group(report, i), true);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "prefixes");
  if (redmoon_audit_report_other(report)->keys > 0) {
    push_group(L, redmoon_audit_report_other(report), false);
    lua_setfield(L, -2, "other");
  }
  push_group(L, redmoon_audit_report_total(report), false);
  lua_setfield(L, -2, "total");
}

static void set_warnings(lua_State *L, const redmoon_audit_report *report) {
  size_t count = redmoon_audit_report_warning_count(report);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    const redmoon_audit_warning *warning = redmoon_audit_report_warning(report, i);
    lua_createtable(L, 0, 5);
    set_text(L, "level", redmoon_audit_level_name(warning->level));
    set_text(L, "code", warning->code);
    set_text(L, "message", warning->message);
    if (warning->keys > 0) set_integer(L, "keys", warning->keys);
    if (warning->prefix != NULL) {
      lua_pushlstring(L, warning->prefix, warning->prefix_len);
      lua_setfield(L, -2, "prefix");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "warnings");
}

static void set_server(lua_State *L, const redmoon_audit_summary *summary) {
  lua_createtable(L, 0, 10);
  set_known(L, "keys", summary->server_keys);
  set_known(L, "keys_end", summary->server_keys_end);
  set_known(L, "expires", summary->server_expires);
  set_known(L, "maxclients", summary->maxclients);
  set_known(L, "connected_clients", summary->connected_clients);
  set_known(L, "maxmemory", summary->maxmemory);
  set_known(L, "used_memory", summary->used_memory);
  set_text(L, "maxmemory_policy", summary->maxmemory_policy);
  set_text(L, "version", summary->server_version);
  set_text(L, "role", summary->role);
  lua_setfield(L, -2, "server");
}

/* Of a cluster only. */
static void set_nodes(lua_State *L, const redmoon_audit_report *report) {
  static const char *const states[] = {"waiting", "seen", "left"};
  size_t count = redmoon_audit_report_node_count(report);
  if (count == 0) return;
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    const redmoon_audit_node *node = redmoon_audit_report_node(report, i);
    lua_createtable(L, 0, 10);
    set_text(L, "address", node->address);
    set_text(L, "state", states[node->state]);
    set_known(L, "keys", node->keys);
    set_known(L, "keys_end", node->keys_end);
    set_known(L, "maxclients", node->maxclients);
    set_known(L, "connected_clients", node->connected_clients);
    set_known(L, "maxmemory", node->maxmemory);
    set_known(L, "used_memory", node->used_memory);
    set_text(L, "maxmemory_policy", node->maxmemory_policy);
    set_text(L, "version", node->version);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "nodes");
}

void rm_lua_push_audit_report(lua_State *L, const redmoon_audit_report *report) {
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  luaL_checkstack(L, 8, NULL);
  lua_createtable(L, 0, 16);
  lua_pushboolean(L, summary->complete);
  lua_setfield(L, -2, "complete");
  set_groups(L, report);
  set_warnings(L, report);
  set_server(L, summary);
  set_nodes(L, report);
  set_integer(L, "pool_size", summary->pool_size);
  set_integer(L, "pages", summary->pages);
  set_integer(L, "gone", summary->gone);
  if (redmoon_audit_report_node_count(report) > 0) set_integer(L, "moved", summary->moved);
  set_integer(L, "errors", summary->errors);
  set_text(L, "first_error", summary->first_error);
  set_integer(L, "repeats", summary->repeats);
  set_integer(L, "repeats_false", summary->repeats_false);
  set_integer(L, "unfiltered", summary->unfiltered);
  set_integer(L, "prefixes_folded", summary->prefixes_folded);
}
