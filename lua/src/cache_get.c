/* SPDX-License-Identifier: MIT */
/* cache:get and cache:get_many: the operation is driven here, and the loader called when it wants a load.
 *
 *      start -> wait -> wants a load -> the loader, which may yield -> loaded -> wait -> ... -> ended -> decode
 *        ^                                                                                 |  what cannot be decoded
 *        +---------------------------------------------------------------------------------+  is asked for again
 *
 * Places on the stack, of both: */
#include "cache.h"

#include "base/error.h"

#include <stdint.h>
#include <string.h>

#define GETTING_TYPE "redmoon.cache.getting"

/* A get under way, with room for its results: it ends with the userdata, whatever becomes of it. */
typedef struct getting {
  rm_lua_link link;
  rm_lua_waiter waiter;
  redmoon_op *op; /* NULL: none */
  bool busy;      /* not to be used for another */
  int round;      /* how often it began: again where what was read could not be decoded */
  bool loaded;    /* the loader was called in this round */
  bool raised;    /* it raised; what it raised is kept */
  size_t count;   /* of keys in this round */
  redmoon_cache_result *results;
  redmoon_cache_key *keys;
  redmoon_error *errors;
  size_t *places; /* of the keys among all that were asked for */
  size_t *loads;  /* of the keys to be loaded, among those of this round */
} getting;

enum { CACHE = 1, KEY = 2, LOADER = 3, ARGS = 4, BOX = 5, LOADED = 6, VALUES = 7, INFOS = 8 };
/* LOADED: of a get what the loader gave: its value, or four values of a failure; of many a table of values by place, in
 * which "raised" is what it raised.  VALUES, INFOS: of many, the results. */
enum { ROUNDS = 8, FAILURE = 4 };

/* [-0, +0], never raises */
static void end_getting(lua_State *L, getting *g) {
  redmoon_op *op = g->op;
  g->op = NULL;
  redmoon_op_cancel(op);
  for (size_t i = 0; i < g->count; i++) redmoon_cache_result_fini(&g->results[i]);
  g->count = 0;
  g->busy = false;
  rm_lua_waiter_abandon(L, &g->waiter);
  rm_lua_link_drop(L, &g->link);
}

static getting *new_getting(lua_State *L, const rm_lua_cache *cache, size_t count, bool many) {
  size_t each = sizeof(redmoon_cache_result) + sizeof(redmoon_cache_key) + 2 * sizeof(size_t);
  if (many) each += sizeof(redmoon_error);
  getting *g = lua_newuserdatauv(L, sizeof *g + count * each, 0);
  memset(g, 0, sizeof *g + count * each);
  luaL_setmetatable(L, GETTING_TYPE);
  /* The strictest alignment first. */
  g->results = (redmoon_cache_result *)(g + 1);
  g->keys = (redmoon_cache_key *)(g->results + count);
  g->places = (size_t *)(g->keys + count);
  g->loads = g->places + count;
  if (many) g->errors = (redmoon_error *)(g->loads + count);
  g->count = count;
  g->busy = true;
  rm_lua_link_set(&g->link, &cache->link);
  return g;
}

/* Marks what is on top: closed with its coroutine. [-0, +0] */
static void close_with_coroutine(lua_State *L, const getting *g) {
  if (g->link.loop != NULL) lua_toclose(L, -1);
}

/* One for one key, perhaps that of the get before, which the cache keeps.  One that never ended stays busy.  In an event
 * loop each has its own: one that yields and is forgotten must be collected. [-0, +1] */
static getting *take_getting(lua_State *L, const rm_lua_cache *cache) {
  if (cache->link.loop != NULL) return new_getting(L, cache, 1, false);
  if (lua_getiuservalue(L, CACHE, RM_LUA_CACHE_SPARE) == LUA_TUSERDATA) {
    getting *g = lua_touserdata(L, -1);
    if (!g->busy) {
      g->busy = true;
      g->raised = g->loaded = false;
      g->round = 0;
      g->count = 1;
      g->results[0] = (redmoon_cache_result){0};
      rm_lua_link_set(&g->link, &cache->link);
      return g;
    }
  }
  lua_pop(L, 1);
  getting *g = new_getting(L, cache, 1, false);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, CACHE, RM_LUA_CACHE_SPARE);
  return g;
}

static getting *box(lua_State *L) { return lua_touserdata(L, BOX); }

/* What was found for key `index` of this round.  Without memory for it, the load has failed: the result says so. */
static void tell(getting *g, size_t index, int found, const char *ptr, size_t len) {
  (void)!redmoon_cache_op_loaded(g->op, index, found, ptr, len, NULL);
}

/* The load of key `index` has failed; the text for others is on top, if it is one. [-0, +0] */
static void tell_failure(lua_State *L, getting *g, size_t index) {
  size_t len = 0;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
  tell(g, index, REDMOON_CACHE_FAILED, text, len);
}

/* The value on top is what was loaded for key `index`.  0, or negative and it could not be encoded. [-0, +0] */
static int tell_value(lua_State *L, getting *g, size_t index, redmoon_error *err) {
  const rm_lua_cache *c = lua_touserdata(L, CACHE);
  int status = rm_lua_codec_encode(L, c->codec, CACHE, RM_LUA_CACHE_CODEC, lua_gettop(L), err);
  if (status < 0) {
    tell(g, index, REDMOON_CACHE_FAILED, err->message, strlen(err->message));
    return status;
  }
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  tell(g, index, REDMOON_CACHE_VALUE, text, len);
  lua_pop(L, 1);
  return 0;
}

/* The tags at `index`, a list or nil, of what was found for key `load`.  0, or negative, and the load has failed. [-0, +0] */
static int tell_tags(lua_State *L, getting *g, size_t load, int index, redmoon_error *err) {
  int status = rm_lua_cache_take_tags(L, index, g->op, load, err);
  if (status < 0) tell(g, load, REDMOON_CACHE_FAILED, err->message, strlen(err->message));
  return status;
}

/* One. */

/* What the loader found is at LOADED, perhaps {tags=} two places on; the value stays. */
static int tell_found(lua_State *L, getting *g, redmoon_error *err) {
  int status = rm_lua_cache_push_tags(L, LOADED + 2, err);
  if (status < 0) tell(g, 0, REDMOON_CACHE_FAILED, err->message, strlen(err->message));
  else status = tell_tags(L, g, 0, lua_gettop(L), err);
  lua_settop(L, LOADED);
  if (status < 0) return status;
  if (!lua_isnil(L, LOADED)) return tell_value(L, g, 0, err);
  tell(g, 0, REDMOON_CACHE_ABSENT, NULL, 0);
  return 0;
}

/* The loader has ended: `status` of its call; what it returned, or raised, is on top, from LOADED on. */
static void take_load(lua_State *L, int status) {
  getting *g = box(L);
  redmoon_error err;
  g->raised = status != LUA_OK && status != LUA_YIELD;
  if (g->raised) {
    tell_failure(L, g, 0);
  } else if (lua_isnil(L, LOADED) && !lua_isnil(L, LOADED + 1)) {
    lua_pushvalue(L, LOADED + 1);
    tell_failure(L, g, 0);
  } else if (tell_found(L, g, &err) < 0) {
    lua_settop(L, BOX);
    (void)rm_lua_fail(L, &err);
  }
}

/* The failure that the loader gave is at LOADED: text, perhaps code and detail. */
static int fail_as_loader(lua_State *L, const redmoon_error *err) {
  lua_settop(L, LOADED + FAILURE - 1);
  (void)rm_lua_fail(L, err); /* nil, message, code, detail: for what the loader did not say */
  for (int i = 2; i < FAILURE; i++)
    if (lua_isnil(L, LOADED + i)) {
      lua_pushvalue(L, LOADED + FAILURE + i);
      lua_replace(L, LOADED + i);
    }
  lua_settop(L, LOADED + FAILURE - 1);
  return FAILURE;
}

static int end_failed(lua_State *L, getting *g, bool loads, const redmoon_error *err) {
  bool raised = g->raised;
  end_getting(L, g);
  if (loads && raised) {
    lua_settop(L, LOADED);
    return lua_error(L);
  }
  return loads ? fail_as_loader(L, err) : rm_lua_fail(L, err);
}

static int start_get(lua_State *L, getting *g, redmoon_error *err) {
  const rm_lua_cache *c = lua_touserdata(L, CACHE);
  g->round++;
  g->loaded = false;
  if (c->cache == NULL) return rm_fail(err, REDMOON_ECLOSED, "the cache was closed meanwhile");
  return redmoon_cache_get_start(c->cache, &g->keys[0], &g->results[0], &g->op, err);
}

/* It has ended.  Returns the count of results, or 0: it began again. */
static int end_get(lua_State *L, getting *g) {
  const rm_lua_cache *c = lua_touserdata(L, CACHE);
  redmoon_error err;
  redmoon_op *op = g->op;
  redmoon_cache_result *result = &g->results[0];
  bool loads = g->loaded;
  g->op = NULL;
  int status = redmoon_op_finish(op, &err);
  if (status < 0) return end_failed(L, g, loads && status == REDMOON_EUNAVAILABLE, &err);
  if (result->source[0] == 'r') {
    lua_settop(L, BOX);
    if (!result->found) lua_pushnil(L);
    else status = rm_lua_codec_decode(L, c->codec, CACHE, RM_LUA_CACHE_CODEC, result->value, result->len, &err);
    if (status == REDMOON_ECODEC && g->round < ROUNDS) {
      redmoon_cache_result bad = *result;
      g->keys[0].reject = bad.version;
      g->keys[0].reject_len = bad.version_len;
      redmoon_cache_result_fini(result);
      status = start_get(L, g, &err);
      if (status == 0) return 0;
    }
    if (status < 0) return end_failed(L, g, false, &err);
  }
  lua_settop(L, LOADED);
  lua_pushnil(L);
  lua_pushnil(L);
  rm_lua_cache_push_info(L, result);
  end_getting(L, g);
  return 4;
}

static int go_on(lua_State *L);

static int waited_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return go_on(L);
}

static int loaded_k(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  take_load(L, status);
  return go_on(L);
}

static int go_on(lua_State *L) {
  getting *g = box(L);
  for (;;) {
    int count = 0;
    if (rm_lua_wait(L, &g->link, &g->waiter, g->op, waited_k, 0) == RM_WAIT) {
      lua_settop(L, BOX);
      g->loaded = true;
      lua_pushnil(L); /* if the loader yields and is not resumed, only the stack of its coroutine keeps the box */
      lua_setiuservalue(L, CACHE, RM_LUA_CACHE_SPARE);
      lua_pushvalue(L, LOADER);
      lua_pushvalue(L, KEY);
      take_load(L, lua_pcallk(L, 1, FAILURE, 0, 0, loaded_k));
    } else if ((count = end_get(L, g)) > 0) {
      const rm_lua_cache *c = lua_touserdata(L, CACHE);
      return rm_lua_end(L, &c->link, count);
    }
  }
}

int rm_lua_cache_get(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  luaL_checktype(L, LOADER, LUA_TFUNCTION);
  lua_settop(L, LOADER);
  luaL_checkstack(L, 20, NULL);
  redmoon_cache_key key = {NULL, 0, NULL, 0};
  if (lua_type(L, KEY) == LUA_TSTRING) { /* kept by the stack */
    key.ptr = lua_tolstring(L, KEY, &key.len);
    lua_pushnil(L);
  } else {
    const redmoon_bytes *text = rm_lua_cache_key(L, KEY);
    key = (redmoon_cache_key){text->ptr, text->len, NULL, 0};
  }
  getting *g = take_getting(L, c);
  close_with_coroutine(L, g);
  g->keys[0] = key;
  redmoon_error err;
  int status = start_get(L, g, &err);
  if (status < 0) end_getting(L, g);
  if (status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
  if (status < 0) return end_failed(L, g, false, &err);
  return go_on(L);
}

/* Many. */

static int start_many(lua_State *L, getting *g, redmoon_error *err) {
  const rm_lua_cache *c = lua_touserdata(L, CACHE);
  g->round++;
  if (c->cache == NULL) return rm_fail(err, REDMOON_ECLOSED, "the cache was closed meanwhile");
  return redmoon_cache_get_many_start(c->cache, g->keys, g->count, g->results, g->errors, &g->op, err);
}

/* The keys to be loaded, as they were given. [-0, +1] */
static size_t push_loads(lua_State *L, getting *g) {
  size_t count = redmoon_cache_op_loads(g->op, g->loads, g->count);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, KEY, (lua_Integer)g->places[g->loads[i]] + 1);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return count;
}

/* The tags of key `load`, of the tables by key at `tags`, which may be nil. */
static int take_tags(lua_State *L, getting *g, int tags, size_t load, redmoon_error *err) {
  if (lua_isnil(L, tags)) return 0;
  lua_rawgeti(L, KEY, (lua_Integer)g->places[load] + 1);
  lua_rawget(L, tags);
  int status = tell_tags(L, g, load, lua_gettop(L), err);
  lua_pop(L, 1);
  return status;
}

/* What the loader's table, at `index`, has for key `load` of this round. [-0, +0] */
static void take_one(lua_State *L, getting *g, int index, int tags, size_t load) {
  lua_Integer place = (lua_Integer)g->places[load] + 1;
  redmoon_error err;
  if (take_tags(L, g, tags, load, &err) < 0) return;
  lua_rawgeti(L, KEY, place);
  lua_rawget(L, index);
  if (lua_isnil(L, -1) || (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == NULL))
    tell(g, load, REDMOON_CACHE_ABSENT, NULL, 0);
  else if (tell_value(L, g, load, &err) == 0) {
    lua_pushvalue(L, -1);
    lua_rawseti(L, LOADED, place);
  }
  lua_pop(L, 1);
}

/* The tables of tags by key of a loader's third value at `index`; nil: it gave none, or it is not as it should be, which
 * is negative. [-0, +1] */
static int push_tags_by_key(lua_State *L, int index, redmoon_error *err) {
  int status = rm_lua_cache_push_tags(L, index, err);
  if (status < 0 || lua_isnil(L, -1) || lua_istable(L, -1)) return status;
  return rm_fail(err, REDMOON_ECONFIG, "the loader's tags are a %s, not a table by key", luaL_typename(L, -1));
}

/* The loader has ended: what it returned, or raised, is on top, from INFOS + 1 on. */
static void take_loads(lua_State *L, int status) {
  getting *g = box(L);
  const int got = INFOS + 1, tags = got + FAILURE;
  redmoon_error err;
  lua_settop(L, tags - 1);
  bool well = push_tags_by_key(L, got + 2, &err) == 0;
  size_t count = redmoon_cache_op_loads(g->op, g->loads, g->count);
  g->raised = status != LUA_OK && status != LUA_YIELD;
  if (g->raised) {
    lua_pushvalue(L, got);
    lua_setfield(L, LOADED, "raised");
  } else if (!lua_istable(L, got) && !lua_isnil(L, got)) {
    lua_pushfstring(L, "the loader returned a %s, not a table of values by key", luaL_typename(L, got));
  } else if (lua_isnil(L, got)) {
    lua_pushvalue(L, got + 1);
  } else if (!well) {
    lua_pushstring(L, err.message);
  }
  if (g->raised) lua_pushvalue(L, got);
  for (size_t i = 0; i < count; i++) {
    if (!g->raised && well && lua_istable(L, got)) take_one(L, g, got, tags, g->loads[i]);
    else tell_failure(L, g, g->loads[i]);
  }
  lua_settop(L, INFOS);
}

/* The value of result `i` of this round. [-0, +1]; or ECODEC, or ENOMEM. [-0, +0] */
static int push_value(lua_State *L, getting *g, size_t i) {
  const rm_lua_cache *c = lua_touserdata(L, CACHE);
  const redmoon_cache_result *result = &g->results[i];
  if (result->status < 0) {
    rm_lua_push_error(L, &g->errors[i]);
  } else if (!result->found) {
    rm_lua_push_null(L);
  } else if (result->source[0] != 'r') {
    lua_rawgeti(L, LOADED, (lua_Integer)g->places[i] + 1);
  } else {
    return rm_lua_codec_decode(L, c->codec, CACHE, RM_LUA_CACHE_CODEC, result->value, result->len, &g->errors[i]);
  }
  return 0;
}

/* Keeps the results of this round; those that cannot be decoded are the keys of the next one. */
static void keep_results(lua_State *L, getting *g) {
  size_t again = 0;
  for (size_t i = 0; i < g->count; i++) {
    redmoon_cache_result *result = &g->results[i];
    lua_Integer place = (lua_Integer)g->places[i] + 1;
    int status = push_value(L, g, i);
    redmoon_free(result->value);
    result->value = NULL;
    if (status == REDMOON_ECODEC && g->round < ROUNDS) {
      g->keys[again] = g->keys[i];
      g->keys[again].reject = result->version;
      g->keys[again].reject_len = result->version_len;
      g->places[again++] = g->places[i];
      continue;
    }
    if (status < 0) rm_lua_push_error(L, &g->errors[i]);
    lua_rawseti(L, VALUES, place);
    rm_lua_cache_push_info(L, result);
    lua_rawseti(L, INFOS, place);
  }
  g->count = again;
}

/* Whether a key failed that the loader was asked for. */
static bool has_failed(const getting *g) {
  for (size_t i = 0; i < g->count; i++)
    if (g->results[i].status < 0) return true;
  return false;
}

static int end_many(lua_State *L, getting *g) {
  redmoon_error err;
  redmoon_op *op = g->op;
  g->op = NULL;
  int status = redmoon_op_finish(op, &err);
  if (status == 0 && g->raised && has_failed(g)) {
    end_getting(L, g);
    lua_getfield(L, LOADED, "raised");
    return lua_error(L);
  }
  if (status == 0) {
    keep_results(L, g);
    if (g->count > 0 && (status = start_many(L, g, &err)) == 0) return 0;
  }
  end_getting(L, g);
  if (status < 0) return rm_lua_fail(L, &err);
  lua_pushvalue(L, VALUES);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, INFOS);
  return 4;
}

static int go_on_many(lua_State *L);

static int waited_many_k(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return go_on_many(L);
}

static int loads_k(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  take_loads(L, status);
  return go_on_many(L);
}

static int go_on_many(lua_State *L) {
  getting *g = box(L);
  for (;;) {
    int count = 0;
    if (rm_lua_wait(L, &g->link, &g->waiter, g->op, waited_many_k, 0) == RM_WAIT) {
      lua_settop(L, INFOS);
      lua_pushvalue(L, LOADER);
      push_loads(L, g);
      take_loads(L, lua_pcallk(L, 1, FAILURE, 0, 0, loads_k));
    } else if ((count = end_many(L, g)) > 0) {
      const rm_lua_cache *c = lua_touserdata(L, CACHE);
      return rm_lua_end(L, &c->link, count);
    }
  }
}

int rm_lua_cache_get_many(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  size_t count = rm_lua_list_len(L, KEY, "keys");
  luaL_checktype(L, LOADER, LUA_TFUNCTION);
  lua_settop(L, LOADER);
  luaL_checkstack(L, 24, NULL);
  if (count > REDMOON_CACHE_MANY_MAX)
    return rm_lua_raise(L, "%d keys are not accepted; give up to %d", (int)count, REDMOON_CACHE_MANY_MAX);
  rm_lua_args *args = rm_lua_args_new(L, count);
  if (count > 0) rm_lua_args_add_list(L, args, KEY, "keys");
  getting *g = new_getting(L, c, count, true);
  close_with_coroutine(L, g);
  for (size_t i = 0; i < count; i++) {
    g->keys[i] = (redmoon_cache_key){args->bytes[i].ptr, args->bytes[i].len, NULL, 0};
    g->places[i] = i;
  }
  lua_newtable(L);
  lua_createtable(L, (int)count, 0);
  lua_createtable(L, (int)count, 0);
  redmoon_error err;
  int status = count > 0 ? start_many(L, g, &err) : 0;
  if (status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
  if (status == 0 && count > 0) return go_on_many(L);
  end_getting(L, g);
  if (status < 0) return rm_lua_fail(L, &err);
  lua_pushvalue(L, VALUES);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, INFOS);
  return 4;
}

static int getting_gc(lua_State *L) {
  end_getting(L, lua_touserdata(L, 1));
  return 0;
}

void rm_lua_cache_get_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", getting_gc}, {"__close", getting_gc}, {NULL, NULL}};
  rm_lua_new_type(L, GETTING_TYPE, meta, NULL);
  lua_pop(L, 2);
}
