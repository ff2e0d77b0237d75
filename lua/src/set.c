/* SPDX-License-Identifier: MIT */
/* The last table of SET and GETEX, {ttl=, nx=, xx=, get=, keep_ttl=}, turned into arguments of the command. */
#include "binding.h"

#include <stddef.h>

typedef struct set_options {
  int64_t ttl_ms;
  int64_t nx, xx, get, keep_ttl;
} set_options;

#define TTL_ACCEPTS "seconds from 0.001 to 9e12, or false for ever"
#define NOT_FOR_GETEX "is not for getex, which takes 'ttl' only"

static const rm_option ttl_option = {"ttl", RM_LUA_OPTION_OTHER, 0, 1, INT64_C(9000000000000000), 0, TTL_ACCEPTS};

#define FLAG(name)                                                                                                 \
  { #name, RM_OPTION_BOOL, offsetof(set_options, name), 0, 1, 0, "true or false" }
#define REFUSED(name)                                                                                              \
  { #name, RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, NOT_FOR_GETEX }
static const rm_option set_table[] = {{"ttl", RM_LUA_OPTION_OTHER, 0, 1, INT64_C(9000000000000000), 0, TTL_ACCEPTS},
                                      FLAG(nx),
                                      FLAG(xx),
                                      FLAG(get),
                                      FLAG(keep_ttl)};
static const rm_option getex_table[] = {
    {"ttl", RM_LUA_OPTION_OTHER, 0, 1, INT64_C(9000000000000000), 0, TTL_ACCEPTS},
    REFUSED(nx),
    REFUSED(xx),
    REFUSED(get),
    REFUSED(keep_ttl)};
enum { OPTIONS = sizeof set_table / sizeof set_table[0] };

/* Of the table at `index`: 0 not given, -1 for ever, else ms. [-0, +0] */
static int64_t read_ttl(lua_State *L, int index) {
  int64_t ms = 0;
  lua_getfield(L, index, "ttl");
  if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) ms = -1;
  else if (!lua_isnil(L, -1)) ms = rm_lua_duration_ms(L, -1, &ttl_option);
  lua_pop(L, 1);
  return ms;
}

/* [-0, +2] */
static void push_lifetime(lua_State *L, int64_t ms) {
  bool whole = ms % 1000 == 0;
  lua_pushstring(L, whole ? "EX" : "PX");
  lua_pushinteger(L, (lua_Integer)(whole ? ms / 1000 : ms));
}

/* [-0, +?] */
static void rewrite_set(lua_State *L, int index, int64_t default_ttl_ms, bool *conditional) {
  set_options options = {0, 0, 0, 0, 0};
  if (index > 0) {
    rm_lua_read_options(L, index, set_table, OPTIONS, &options);
    options.ttl_ms = read_ttl(L, index);
    if (options.nx && options.xx) rm_lua_raise(L, "options 'nx' and 'xx' exclude each other");
    if (options.keep_ttl && options.ttl_ms > 0) rm_lua_raise(L, "options 'ttl' and 'keep_ttl' exclude each other");
    lua_settop(L, index - 1);
  }
  if (options.ttl_ms == 0 && !options.keep_ttl && default_ttl_ms > 0) options.ttl_ms = default_ttl_ms;
  if (options.ttl_ms > 0) push_lifetime(L, options.ttl_ms);
  if (options.keep_ttl) lua_pushliteral(L, "KEEPTTL");
  if (options.nx) lua_pushliteral(L, "NX");
  if (options.xx) lua_pushliteral(L, "XX");
  if (options.get) lua_pushliteral(L, "GET");
  *conditional = (options.nx || options.xx) && !options.get;
}

/* [-0, +?] */
static void rewrite_getex(lua_State *L, int index) {
  set_options unused = {0, 0, 0, 0, 0};
  rm_lua_read_options(L, index, getex_table, OPTIONS, &unused);
  int64_t ttl_ms = read_ttl(L, index);
  lua_settop(L, index - 1);
  if (ttl_ms > 0) push_lifetime(L, ttl_ms);
  if (ttl_ms < 0) lua_pushliteral(L, "PERSIST");
}

void rm_lua_rewrite(lua_State *L, const rm_lua_method *method, int64_t default_ttl_ms, bool *conditional) {
  int top = lua_gettop(L), plain = method->rewrite == RM_LUA_SET ? 3 : 2; /* object, key and perhaps value */
  bool has_table = top == plain + 1 && lua_istable(L, top);
  if (has_table && method->rewrite == RM_LUA_GETEX) rewrite_getex(L, top);
  else if (method->rewrite == RM_LUA_SET && (has_table || (top == plain && default_ttl_ms > 0)))
    rewrite_set(L, has_table ? top : 0, default_ttl_ms, conditional);
}
