/* SPDX-License-Identifier: MIT */
/* The option `codec`.  Functions of the user run protected; what they raise is not told on, because it may quote
 * the payload. */
#include "codec.h"

#include "base/error.h"
#include "json.h"

#include <string.h>

#define ACCEPTS "\"string\", \"json\" or {encode = function, decode = function}"
enum { ENCODE = 1, DECODE = 2 }; /* places in the table that is kept */

/* The option, when it is given. */

/* [-0, +1] */
static bool get_function(lua_State *L, int index, const char *name) {
  lua_pushstring(L, name);
  return lua_rawget(L, index) == LUA_TFUNCTION;
}

/* The two functions of the table at `index` in one of our own, because the caller's may change later.  False: it
 * holds anything else. [-0, +1] */
static bool keep_functions(lua_State *L, int index) {
  int count = 0;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) count++;
  lua_createtable(L, 2, 0);
  int kept = lua_gettop(L);
  bool is = get_function(L, index, "encode") && get_function(L, index, "decode") && count == 2;
  if (is) {
    lua_rawseti(L, kept, DECODE);
    lua_rawseti(L, kept, ENCODE);
  }
  lua_settop(L, kept);
  return is;
}

rm_lua_codec rm_lua_codec_check(lua_State *L, int index, rm_lua_codec fallback) {
  luaL_checkstack(L, 6, NULL);
  if (lua_isnoneornil(L, index)) {
    lua_pushnil(L);
    return fallback;
  }
  rm_lua_codec codec = fallback;
  int type = lua_getfield(L, index, "codec"), at = lua_gettop(L);
  if (type == LUA_TTABLE) {
    codec = RM_LUA_CODEC_FUNCTIONS;
    if (!keep_functions(L, at)) rm_lua_raise(L, "option 'codec': this table is not accepted; it takes %s", ACCEPTS);
  } else if (type == LUA_TSTRING) {
    const char *name = lua_tostring(L, at);
    bool is_json = strcmp(name, "json") == 0;
    if ((!is_json && strcmp(name, "string") != 0) || strlen(name) != lua_rawlen(L, at))
      rm_lua_raise(L, "option 'codec': '%s' is not accepted; it takes %s", name, ACCEPTS);
    codec = is_json ? RM_LUA_CODEC_JSON : RM_LUA_CODEC_STRING;
    lua_pushnil(L);
  } else if (type == LUA_TNIL) {
    lua_pushnil(L);
  } else {
    rm_lua_raise(L, "option 'codec': a %s is not accepted; it takes %s", lua_typename(L, type), ACCEPTS);
  }
  lua_remove(L, at);
  return codec;
}

/* At work. */

typedef struct source {
  const void *ptr;
  size_t len;
} source;

/* Functions, value -> what encode makes of it */
static int encode_protected(lua_State *L) {
  lua_rawgeti(L, 1, ENCODE);
  lua_pushvalue(L, 2);
  lua_call(L, 1, 1);
  return 1;
}

/* Functions or nil, source -> string, or what decode makes of it */
static int decode_protected(lua_State *L) {
  const source *from = lua_touserdata(L, 2);
  bool has_function = lua_istable(L, 1);
  if (has_function) lua_rawgeti(L, 1, DECODE);
  lua_pushlstring(L, from->ptr, from->len);
  if (has_function) lua_call(L, 1, 1);
  return 1;
}

/* How a function of the user ended; the result is on top, and goes unless it is taken. [-0|1, +0] */
static int end_protected(lua_State *L, int status, bool taken, const char *what, redmoon_error *err) {
  if (status == LUA_OK && taken) return 0;
  lua_pop(L, 1);
  if (status == LUA_ERRMEM) return rm_fail_nomem(err);
  if (status == LUA_OK) return rm_fail(err, REDMOON_ECODEC, "the codec's %s", what);
  return rm_fail(err, REDMOON_ECODEC, "the codec's function raised an error (not shown: it may quote the payload)");
}

int rm_lua_codec_encode(lua_State *L, rm_lua_codec codec, int owner, int slot, int index, redmoon_error *err) {
  static const rm_lua_json_limits limits = RM_LUA_JSON_LIMITS_INIT;
  if (codec == RM_LUA_CODEC_JSON) return rm_lua_json_encode(L, index, &limits, err);
  if (!lua_checkstack(L, 4)) return rm_fail_nomem(err);
  if (codec == RM_LUA_CODEC_STRING) {
    if (lua_type(L, index) != LUA_TSTRING)
      return rm_fail(err, REDMOON_ECODEC, "codec \"string\" takes a string, got a %s", luaL_typename(L, index));
    lua_pushvalue(L, index);
    return 0;
  }
  owner = lua_absindex(L, owner);
  index = lua_absindex(L, index);
  lua_pushcfunction(L, encode_protected);
  lua_getiuservalue(L, owner, slot);
  lua_pushvalue(L, index);
  int status = lua_pcall(L, 2, 1, 0);
  return end_protected(L, status, lua_type(L, -1) == LUA_TSTRING, "function encode returned no string", err);
}

int rm_lua_codec_decode(lua_State *L, rm_lua_codec codec, int owner, int slot, const void *ptr, size_t len,
                        redmoon_error *err) {
  static const rm_lua_json_limits limits = RM_LUA_JSON_LIMITS_INIT;
  if (codec == RM_LUA_CODEC_JSON) return rm_lua_json_decode(L, ptr, len, &limits, err);
  if (!lua_checkstack(L, 4)) return rm_fail_nomem(err);
  source from = {ptr, len};
  owner = lua_absindex(L, owner);
  lua_pushcfunction(L, decode_protected);
  if (codec == RM_LUA_CODEC_FUNCTIONS) lua_getiuservalue(L, owner, slot);
  else lua_pushnil(L);
  lua_pushlightuserdata(L, &from);
  int status = lua_pcall(L, 2, 1, 0);
  return end_protected(L, status, !lua_isnil(L, -1), "function decode returned nil", err);
}
