/* SPDX-License-Identifier: MIT */
/** Between cache.c, the object, cache_get.c, its get and get_many, and cache_tags.c. */
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

/** What the options at `index` (a table, or nil) have as `tags`; NULL for none.  Raises for anything but a list of strings
 *  and numbers. [-0, +1], which keeps them together with the options */
const redmoon_bytes *rm_lua_cache_set_tags(lua_State *L, int index, size_t *count);
/** Gives the list of tags at `index`, or nil, to a get whose key `load` is to be loaded.  0 or negative: a loader's fault
 *  is a failed load, so nothing is raised. [-0, +0] */
int rm_lua_cache_take_tags(lua_State *L, int index, redmoon_op *op, size_t load, redmoon_error *err);
/** The field `tags` of what a loader returned beside what it found, which is at `index`; nil when there is none, and when
 *  it is no table (negative). [-0, +1] */
int rm_lua_cache_push_tags(lua_State *L, int index, redmoon_error *err);
/** cache:invalidate_tags(tag, ...) */
int rm_lua_cache_invalidate_tags(lua_State *L);

#endif
