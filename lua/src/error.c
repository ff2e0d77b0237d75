/* SPDX-License-Identifier: MIT */
/* Failures: `nil, message, code, detail` as results of a call, and error objects inside lists. */
#include "binding.h"

#include "base/error.h"

#include <stdarg.h>
#include <string.h>

#define ERROR_TYPE "redmoon.error"

/* [-0, +0] of the table on top */
static void set_text(lua_State *L, const char *field, const char *text) {
  if (text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

/* What is known of the failure goes into the table on top. [-0, +0] */
static void set_detail(lua_State *L, const redmoon_error *err) {
  set_text(L, "outcome", redmoon_outcome_name(err->outcome));
  set_text(L, "phase", redmoon_phase_name(err->phase));
  set_text(L, "address", err->address);
  lua_pushboolean(L, err->retryable);
  lua_setfield(L, -2, "retryable");
  lua_pushinteger(L, err->attempts);
  lua_setfield(L, -2, "attempts");
}

int rm_lua_fail(lua_State *L, const redmoon_error *err) {
  luaL_checkstack(L, 8, NULL);
  lua_pushnil(L);
  lua_pushstring(L, err->message);
  lua_pushstring(L, err->code);
  lua_createtable(L, 0, 6);
  set_detail(L, err);
  return 4;
}

int rm_lua_fail_text(lua_State *L, int status, const char *message) {
  redmoon_error err;
  rm_fail(&err, status, "%s", message);
  return rm_lua_fail(L, &err);
}

void rm_lua_push_error(lua_State *L, const redmoon_error *err) {
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, 0, 7);
  set_text(L, "message", err->message);
  set_text(L, "code", err->code);
  set_detail(L, err);
  luaL_setmetatable(L, ERROR_TYPE);
}

void rm_lua_push_error_reply(lua_State *L, const redmoon_reply *reply) {
  redmoon_error err;
  rm_fail_server(&err, reply->as.text, reply->len);
  err.attempts = 1;
  rm_lua_push_error(L, &err);
}

/* Whether it is one of the Lua files of this module, from disk or from the library. */
static bool is_own(const char *source) {
  if (source[0] == '=') return strncmp(source, "=redmoon.", 9) == 0;
  const char *name = strrchr(source, '/');
  if (name == NULL || name - source < 8 || strncmp(name - 8, "/redmoon", 8) != 0) return false;
  return strcmp(name, "/transaction.lua") == 0 || strcmp(name, "/locking.lua") == 0 || strcmp(name, "/queue.lua") == 0;
}

int rm_lua_raise(lua_State *L, const char *format, ...) {
  lua_Debug where;
  int level = 1;
  while (lua_getstack(L, level, &where) && lua_getinfo(L, "S", &where) && is_own(where.source)) level++;
  luaL_where(L, level);
  va_list args;
  va_start(args, format);
  lua_pushvfstring(L, format, args);
  va_end(args);
  lua_concat(L, 2);
  return lua_error(L);
}

int rm_lua_is_error(lua_State *L) {
  luaL_checkany(L, 1);
  bool is = false;
  if (lua_istable(L, 1) && lua_getmetatable(L, 1)) {
    luaL_getmetatable(L, ERROR_TYPE);
    is = lua_rawequal(L, -1, -2);
  }
  lua_pushboolean(L, is);
  return 1;
}

static int error_tostring(lua_State *L) {
  lua_settop(L, 1);
  if (!lua_istable(L, 1) || lua_getfield(L, 1, "message") != LUA_TSTRING) lua_pushliteral(L, ERROR_TYPE);
  return 1;
}

void rm_lua_error_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__tostring", error_tostring}, {NULL, NULL}};
  rm_lua_new_type(L, ERROR_TYPE, meta, NULL);
  lua_pop(L, 2);
}
