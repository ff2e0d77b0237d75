/* SPDX-License-Identifier: MIT */
/* Replies become Lua values.  Depth is bounded by the reader (32), so recursion is. */
#include "binding.h"

#include "base/error.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int table_size(size_t n) { return n > INT_MAX ? INT_MAX : (int)n; }

/* `OK` is true, other statuses are text. [-0, +1] */
static void push_status(lua_State *L, const redmoon_reply *reply) {
  if (reply->len == 2 && memcmp(reply->as.text, "OK", 2) == 0) lua_pushboolean(L, 1);
  else lua_pushlstring(L, reply->as.text, reply->len);
}

/* [-0, +1] */
static void push_list(lua_State *L, const redmoon_reply *reply) {
  luaL_checkstack(L, 4, "the reply is nested too deep");
  lua_createtable(L, table_size(reply->len), 0);
  for (size_t i = 0; i < reply->len; i++) {
    const redmoon_reply *item = &reply->as.items[i];
    if (item->type == REDMOON_STRING) /* nearly all elements there are */
      lua_pushlstring(L, item->as.text, item->len);
    else rm_lua_push_element(L, item);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* [-0, +1] */
static void push_map(lua_State *L, const redmoon_reply *reply) {
  luaL_checkstack(L, 4, "the reply is nested too deep");
  lua_createtable(L, 0, table_size(reply->len / 2));
  for (size_t i = 0; i + 1 < reply->len; i += 2) {
    const redmoon_reply *key = &reply->as.items[i];
    if (key->type == REDMOON_DOUBLE && isnan(key->as.number))
      lua_pushliteral(L, "nan"); /* no table takes NaN as a key */
    else rm_lua_push_element(L, key);
    rm_lua_push_element(L, key + 1);
    lua_rawset(L, -3);
  }
}

void rm_lua_push_element(lua_State *L, const redmoon_reply *reply) {
  switch (reply->type) {
  case REDMOON_NIL:
    rm_lua_push_null(L);
    return;
  case REDMOON_STATUS:
    push_status(L, reply);
    return;
  case REDMOON_ERROR:
    rm_lua_push_error_reply(L, reply);
    return;
  case REDMOON_INTEGER:
    lua_pushinteger(L, (lua_Integer)reply->as.integer);
    return;
  case REDMOON_DOUBLE:
    lua_pushnumber(L, reply->as.number);
    return;
  case REDMOON_BOOLEAN:
    lua_pushboolean(L, reply->as.integer != 0);
    return;
  case REDMOON_STRING:
  case REDMOON_BIGNUM:
  case REDMOON_VERBATIM:
    lua_pushlstring(L, reply->as.text, reply->len);
    return;
  case REDMOON_ARRAY:
  case REDMOON_SET:
  case REDMOON_PUSH:
    push_list(L, reply);
    return;
  case REDMOON_MAP:
    push_map(L, reply);
    return;
  }
  rm_lua_push_null(L);
}

void rm_lua_push_reply(lua_State *L, const redmoon_reply *reply) {
  if (reply->type == REDMOON_STRING) lua_pushlstring(L, reply->as.text, reply->len);
  else if (reply->type == REDMOON_NIL) lua_pushnil(L);
  else rm_lua_push_element(L, reply);
}

/* [-0, +4] */
static int push_refusal(lua_State *L, const rm_call *call, const redmoon_reply *reply) {
  redmoon_error err;
  rm_fail_server(&err, reply->as.text, reply->len);
  err.attempts = call->attempt;
  if (call->borrow.node != NULL) snprintf(err.address, sizeof err.address, "%s", call->borrow.node->name);
  return rm_lua_fail(L, &err);
}

int rm_lua_push_answer(lua_State *L, const rm_call *call, bool conditional) {
  const redmoon_reply *reply = call->results[0].reply;
  if (reply->type == REDMOON_ERROR) return push_refusal(L, call, reply);
  if (conditional && reply->type == REDMOON_NIL) lua_pushboolean(L, 0);
  else rm_lua_push_reply(L, reply);
  return 1;
}
