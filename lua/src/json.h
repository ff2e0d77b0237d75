/* SPDX-License-Identifier: MIT */
/** JSON to Lua and back, without loss: 64-bit integers stay integers, floats stay floats, arrays and objects are
 * kept apart.  Errors are REDMOON_ECODEC and say where and why, never what. */
#ifndef RM_LUA_JSON_H
#define RM_LUA_JSON_H

#include "base/buffer.h"
#include "binding.h"

typedef struct rm_lua_json_limits {
  int64_t max_depth; /* arrays and objects within each other */
  int64_t max_size;  /* bytes of the text */
} rm_lua_json_limits;
enum { RM_LUA_JSON_MAX_DEPTH = 64, RM_LUA_JSON_MAX_SIZE = 16 * 1024 * 1024 };
#define RM_LUA_JSON_LIMITS_INIT                                                                                    \
  { RM_LUA_JSON_MAX_DEPTH, RM_LUA_JSON_MAX_SIZE }

/** The value at `index` as a string of JSON.  0, or REDMOON_ECODEC or _ENOMEM and nothing pushed. [-0, +1|0], never
 *  raises */
int rm_lua_json_encode(lua_State *L, int index, const rm_lua_json_limits *limits, redmoon_error *err);
/** What marks arrays, for rm_lua_json_append.  Raises for want of memory. [-0, +0] */
const void *rm_lua_json_marks(lua_State *L);
/** The same text, behind what is in `out`; after a failure a part of it may be there. [-0, +0], never raises */
int rm_lua_json_append(lua_State *L, int index, const rm_lua_json_limits *limits, const void *marks, rm_buffer *out,
                       redmoon_error *err);
/** The value of a JSON text.  Likewise. [-0, +1|0], never raises */
int rm_lua_json_decode(lua_State *L, const char *text, size_t len, const rm_lua_json_limits *limits,
                       redmoon_error *err);
/** Pushes the table redmoon.json. [-0, +1] */
void rm_lua_json_open(lua_State *L);

#endif
