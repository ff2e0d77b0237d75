/* SPDX-License-Identifier: MIT */
/* client:cache{...} and what it stores; cache_get.c has the gets. */
#include "cache.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define CACHE_TYPE "redmoon.cache"
#define YEAR_MS INT64_C(31622400000)
#define LATER "is not in this version"
#define FIELD(name) offsetof(redmoon_cache_options, name)

static const rm_option cache_options[] = {
    {"name", RM_OPTION_TEXT, FIELD(name), 0, 0, 0, "1 to 64 letters, digits, '.', '_' and '-'"},
    {"ttl", RM_OPTION_DURATION, FIELD(ttl_ms), 1, YEAR_MS, 0, "seconds from 0.001 to 31622400 (366 days)"},
    {"negative_ttl", RM_OPTION_DURATION, FIELD(negative_ttl_ms), 0, YEAR_MS, 5000, "seconds from 0 to 31622400 (366 days)"},
    {"stale_ttl", RM_OPTION_DURATION, FIELD(stale_ttl_ms), 0, YEAR_MS, 0, "seconds from 0 to 31622400 (366 days)"},
    {"lease", RM_OPTION_DURATION, FIELD(lease_ms), 10, 86400000, 10000, "seconds from 0.01 to 86400"},
    {"retry_after", RM_OPTION_DURATION, FIELD(retry_after_ms), 0, 86400000, 0, "seconds from 0 to 86400"},
    {"jitter", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"early_refresh", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"on_error", RM_OPTION_TEXT, FIELD(on_error), 0, 0, 0, "\"load\", \"stale\" or \"error\""},
    {"fallback_loads", RM_OPTION_INTEGER, FIELD(fallback_loads), 1, 10000, 8, "an integer from 1 to 10000"},
    {"max_size", RM_OPTION_INTEGER, FIELD(max_size), 1, 536870912, 16777216, "bytes, an integer from 1 to 536870912"},
    {"tags", RM_OPTION_BOOL, FIELD(tags), 0, 1, 0, "true or false"},
    {"compress", RM_OPTION_INTEGER, FIELD(compress), 0, 536870912, 0, "bytes, an integer from 0 (never) to 536870912"},
    {"seal_key", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    RM_LUA_CODEC_OPTION,
    {"near", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": there is no cache in the process yet"},
};

static const rm_option set_options[] = {
    {"ttl", RM_OPTION_DURATION, 0, 1, YEAR_MS, 0, "seconds from 0.001 to 31622400 (366 days)"},
    {"tags", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
};

/* The cache. */

static void end_cache(lua_State *L, rm_lua_cache *c) {
  redmoon_cache *inner = c->cache;
  c->cache = NULL;
  redmoon_cache_free(inner);
  rm_lua_link_drop(L, &c->link);
}

rm_lua_cache *rm_lua_cache_check(lua_State *L) {
  rm_lua_cache *c = luaL_checkudata(L, 1, CACHE_TYPE);
  luaL_argcheck(L, c->cache != NULL, 1, "the cache is closed");
  return c;
}

const redmoon_bytes *rm_lua_cache_key(lua_State *L, int index) {
  rm_lua_check_args(L, index, index);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, index, index);
  return &args->bytes[0];
}

/* A number of the options table at 2 in millionths. [-0, +0] */
static void read_ppm(lua_State *L, const char *name, double max, const char *accepts, int64_t *out) {
  lua_pushstring(L, name);
  int type = lua_rawget(L, 2);
  double value = type == LUA_TNUMBER ? lua_tonumber(L, -1) : -1.0;
  if (type != LUA_TNIL && type != LUA_TNUMBER)
    rm_lua_raise(L, "option '%s': a %s is not accepted; it takes %s", name, lua_typename(L, type), accepts);
  if (type != LUA_TNIL && !(value >= 0.0 && value <= max))
    rm_lua_raise(L, "option '%s': %s is not accepted; it takes %s", name, luaL_tolstring(L, -1, NULL), accepts);
  if (type != LUA_TNIL) *out = (int64_t)floor(value * 1e6 + 0.5);
  lua_pop(L, 1);
}

/* The key stays the table's until the cache has copied it. [-0, +0] */
static void read_seal_key(lua_State *L, redmoon_cache_options *out) {
  lua_pushliteral(L, "seal_key");
  int type = lua_rawget(L, 2);
  if (type != LUA_TNIL && type != LUA_TSTRING)
    rm_lua_raise(L, "option 'seal_key': a %s is not accepted; it takes a string of 32 random bytes", lua_typename(L, type));
  if (type == LUA_TSTRING) out->seal_key = lua_tolstring(L, -1, &out->seal_key_len);
  lua_pop(L, 1);
}

int rm_lua_client_cache(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  rm_lua_read_options(L, 2, cache_options, sizeof cache_options / sizeof cache_options[0], &options);
  read_ppm(L, "jitter", 0.5, "a number from 0 to 0.5", &options.jitter_ppm);
  read_ppm(L, "early_refresh", 10.0, "a number from 0 (off) to 10", &options.early_refresh_ppm);
  read_seal_key(L, &options);
  rm_lua_codec codec = rm_lua_codec_check(L, 2, RM_LUA_CODEC_JSON); /* [+1] */
  options.format = (int64_t)codec;
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_cache *c = lua_newuserdatauv(L, sizeof *c, RM_LUA_CACHE_SLOTS);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, CACHE_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 4, RM_LUA_CACHE_SERVER);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 4, RM_LUA_CACHE_CODEC);
  c->codec = codec;
  rm_lua_link_set(&c->link, &client->link);
  redmoon_error err;
  if (redmoon_cache_new(client->link.client, &options, &c->cache, &err) < 0) {
    end_cache(L, c);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* Results. */

void rm_lua_cache_push_info(lua_State *L, const redmoon_cache_result *result) {
  bool loaded = result->source[0] != 'r';
  lua_createtable(L, 0, loaded ? 4 : 3);
  lua_pushstring(L, result->source);
  lua_setfield(L, -2, "source");
  lua_pushstring(L, result->state);
  lua_setfield(L, -2, "state");
  lua_pushnumber(L, (lua_Number)result->age_ms / 1e3);
  lua_setfield(L, -2, "age");
  if (loaded) {
    lua_pushboolean(L, result->stored);
    lua_setfield(L, -2, "stored");
  }
  if (result->code[0] == '\0') return;
  lua_pushstring(L, result->code);
  lua_setfield(L, -2, "error");
}

/* cache:set(key, value [, {ttl=, tags=}]) */
static int cache_set(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  luaL_argcheck(L, !lua_isnoneornil(L, 3), 3, "a value expected; delete removes one");
  lua_settop(L, 4);
  int64_t ttl_ms = REDMOON_UNSET;
  rm_lua_read_options(L, 4, set_options, sizeof set_options / sizeof set_options[0], &ttl_ms);
  size_t tag_count;
  const redmoon_bytes *tags = rm_lua_cache_set_tags(L, 4, &tag_count);
  const redmoon_bytes *key = rm_lua_cache_key(L, 2);
  redmoon_error err;
  if (rm_lua_codec_encode(L, c->codec, 1, RM_LUA_CACHE_CODEC, 3, &err) < 0) return rm_lua_fail(L, &err);
  (void)rm_lua_cache_check(L); /* the codec's function may have closed it */
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(
      L, task, redmoon_cache_set_tagged_start(c->cache, key->ptr, key->len, text, len, ttl_ms, tags, tag_count, &task->op,
                                              &task->err));
}

/* cache:delete(key) */
static int cache_delete(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  const redmoon_bytes *key = rm_lua_cache_key(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task,
                                  redmoon_cache_delete_start(c->cache, key->ptr, key->len, &task->op, &task->err));
}

static void drop_result(void *out) { redmoon_cache_result_fini(out); }
_Static_assert(sizeof(redmoon_cache_result) <= RM_LUA_OUT, "a result lies behind its task");

/* There is nothing. */
static int push_none(lua_State *L) {
  for (int i = 0; i < 3; i++) lua_pushnil(L);
  const redmoon_cache_result none = {.source = "redis", .state = "miss"};
  rm_lua_cache_push_info(L, &none);
  return 4;
}

static int discarded(lua_State *L, rm_lua_task *task, int status) {
  return status < 0 ? rm_lua_fail(L, &task->err) : push_none(L);
}

/* What was read cannot be decoded: it goes, and there is nothing. */
static int discard(lua_State *L, rm_lua_cache *c, rm_lua_task *task) {
  if (c->cache == NULL) return push_none(L); /* it was closed meanwhile */
  const redmoon_bytes *key = rm_lua_cache_key(L, 2);
  const redmoon_cache_result *result = rm_lua_out(task);
  task->tail = discarded;
  int started = redmoon_cache_discard_start(c->cache, key->ptr, key->len, result->version, result->version_len, &task->op,
                                            &task->err);
  return started < 0 ? rm_lua_fail(L, &task->err) : RM_LUA_AGAIN;
}

static int peeked(lua_State *L, rm_lua_task *task, int status) {
  rm_lua_cache *c = lua_touserdata(L, 1);
  const redmoon_cache_result *result = rm_lua_out(task);
  if (status == 0 && result->found)
    status = rm_lua_codec_decode(L, c->codec, 1, RM_LUA_CACHE_CODEC, result->value, result->len, &task->err);
  else if (status == 0)
    lua_pushnil(L);
  if (status == REDMOON_ECODEC) return discard(L, c, task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushnil(L);
  lua_pushnil(L);
  rm_lua_cache_push_info(L, result);
  return 4;
}

/* cache:peek(key) */
static int cache_peek(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  const redmoon_bytes *key = rm_lua_cache_key(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, peeked);
  redmoon_cache_result *result = rm_lua_out(task);
  task->drop = drop_result;
  return rm_lua_task_run_or_raise(
      L, task, redmoon_cache_peek_start(c->cache, key->ptr, key->len, result, &task->op, &task->err));
}

/* cache:stats() */
static int cache_stats(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  redmoon_cache_stats s;
  redmoon_cache_get_stats(c->cache, &s);
  const struct {
    const char *name;
    uint64_t count;
  } all[] = {{"hits", s.hits}, {"stale", s.stale}, {"misses", s.misses}, {"loads", s.loads}, {"early", s.early},
             {"failures", s.failures}, {"waits", s.waits}, {"lost", s.lost}, {"invalidated", s.invalidated}, {"undecodable", s.undecodable},
             {"too_large", s.too_large}, {"unavailable", s.unavailable}, {"fallbacks", s.fallbacks}, {"unstored", s.unstored}};
  lua_createtable(L, 0, (int)(sizeof all / sizeof all[0]));
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    lua_pushinteger(L, (lua_Integer)all[i].count);
    lua_setfield(L, -2, all[i].name);
  }
  return 1;
}

static int cache_gc(lua_State *L) {
  end_cache(L, lua_touserdata(L, 1));
  return 0;
}

static int cache_close(lua_State *L) {
  end_cache(L, luaL_checkudata(L, 1, CACHE_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_cache_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", cache_gc}, {"__close", cache_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", cache_close}, {"delete", cache_delete}, {"get", rm_lua_cache_get},
                                     {"get_many", rm_lua_cache_get_many}, {"invalidate_tags", rm_lua_cache_invalidate_tags},
                                     {"peek", cache_peek}, {"set", cache_set}, {"stats", cache_stats}, {NULL, NULL}};
  rm_lua_new_type(L, CACHE_TYPE, meta, methods);
  lua_pop(L, 2);
  rm_lua_cache_get_open(L);
}
