/* SPDX-License-Identifier: MIT */
/** Between cache.c, the object, and cache_get.c, its get and get_many. */
#ifndef RM_LUA_CACHE_H
#define RM_LUA_CACHE_H

#include "codec.h"

typedef struct rm_lua_cache {
  rm_lua_link link;
  redmoon_cache *cache; /* NULL: closed */
  rm_lua_codec codec;
} rm_lua_cache;
enum { RM_LUA_CACHE_SERVER = 1, RM_LUA_CACHE_CODEC = 2, RM_LUA_CACHE_SPARE = 3, RM_LUA_CACHE_SLOTS = 3 };

/** The cache at 1; raises for anything else, and if it is closed. [-0, +0] */
rm_lua_cache *rm_lua_cache_check(lua_State *L);
/** The key at `index`, text or a number, as bytes of a userdata. [-0, +1] */
const redmoon_bytes *rm_lua_cache_key(lua_State *L, int index);
/** What is told of a result beside its value. [-0, +1] */
void rm_lua_cache_push_info(lua_State *L, const redmoon_cache_result *result);

/** cache:get(key, load), cache:get_many(keys, load_many) */
int rm_lua_cache_get(lua_State *L);
int rm_lua_cache_get_many(lua_State *L);
void rm_lua_cache_get_open(lua_State *L);

#endif
