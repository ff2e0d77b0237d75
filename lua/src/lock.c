/* SPDX-License-Identifier: MIT */
/* client:lock(name, {ttl=10}) and the lock object. */
#include "binding.h"

#include <stddef.h>
#include <string.h>

#define LOCK_TYPE "redmoon.lock"
#define LATER "is not in this version"
#define TTL_ACCEPTS "seconds from 0.01 to 86400"

typedef struct lock {
  rm_lua_link link;
  redmoon_lock *lock; /* NULL: closed */
} lock;
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option lock_options[] = {
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_lock_options, ttl_ms), 10, 86400000, 10000, TTL_ACCEPTS},
    {"wait", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": lock() answers LOCKED at once"},
    {"renew", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": call lock:extend()"},
    {"max_hold", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER},
    {"on_lost", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": ask lock:held()"},
};
static const rm_option ttl_argument = {"ttl", RM_OPTION_DURATION, 0, 10, 86400000, 10000, TTL_ACCEPTS};

/* [-0, +0], never raises */
static void end_lock(lua_State *L, lock *l) {
  redmoon_lock *held = l->lock;
  l->lock = NULL;
  redmoon_lock_free(held);
  rm_lua_link_drop(L, &l->link);
}

static lock *check(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  luaL_argcheck(L, l->lock != NULL, 1, "the lock is closed");
  return l;
}

int rm_lua_client_lock(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, name_len >= 1 && name_len <= 512, 2, "a lock's name has 1 to 512 bytes");
  lua_settop(L, 3);
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  rm_lua_read_options(L, 3, lock_options, sizeof lock_options / sizeof lock_options[0], &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  lock *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LOCK_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&l->link, &client->link);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_lock_acquire_start(client->link.client, name, name_len, &options, &l->lock, &op, &err);
  int status = rm_lua_run(L, &l->link, started, op, &err);
  int count = 1;
  if (status < 0) {
    end_lock(L, l);
    count = rm_lua_fail(L, &err);
  }
  return rm_lua_end(L, &client->link, count);
}

/* true, or nil, message, code, detail */
static int answer(lua_State *L, lock *l, int started, redmoon_op *op, redmoon_error *err) {
  int status = rm_lua_run(L, &l->link, started, op, err), count = 1;
  if (status < 0) count = rm_lua_fail(L, err);
  else lua_pushboolean(L, 1);
  return rm_lua_end(L, &l->link, count);
}

static int lock_extend(lua_State *L) {
  lock *l = check(L);
  int64_t ttl_ms = lua_isnoneornil(L, 2) ? REDMOON_UNSET : rm_lua_duration_ms(L, 2, &ttl_argument);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_lock_extend_start(l->lock, ttl_ms, &op, &err);
  return answer(L, l, started, op, &err);
}

static int lock_release(lua_State *L) {
  lock *l = check(L);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_lock_release_start(l->lock, &op, &err);
  return answer(L, l, started, op, &err);
}

static int lock_held(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  lua_pushboolean(L, l->lock != NULL && redmoon_lock_held(l->lock));
  return 1;
}

static int lock_remaining(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  lua_pushnumber(L, l->lock == NULL ? 0.0 : (lua_Number)redmoon_lock_remaining_ms(l->lock) / 1000.0);
  return 1;
}

/* close() and __close: releases; that it had been lost is no news at the end of a scope. */
static int lock_close(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  if (l->lock != NULL) {
    redmoon_op *op = NULL;
    redmoon_error err;
    int started = redmoon_lock_release_start(l->lock, &op, &err);
    (void)rm_lua_run(L, &l->link, started, op, &err);
    end_lock(L, l);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* Must not block: the lease runs out. */
static int lock_gc(lua_State *L) {
  end_lock(L, lua_touserdata(L, 1));
  return 0;
}

static int lock_tostring(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  lua_pushfstring(L, LOCK_TYPE " (%s)",
                  l->lock == NULL              ? "closed"
                  : redmoon_lock_held(l->lock) ? "held"
                                               : "not held");
  return 1;
}

/* lock.token, lock.fence; else the method. Upvalue: method table. */
static int lock_index(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (l->lock != NULL && strcmp(field, "token") == 0) {
    lua_pushstring(L, redmoon_lock_token(l->lock));
  } else if (l->lock != NULL && strcmp(field, "fence") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_lock_fence(l->lock));
  } else {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void rm_lua_lock_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", lock_gc}, {"__close", lock_close}, {"__tostring", lock_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", lock_close},     {"extend", lock_extend},       {"held", lock_held},
                                     {"release", lock_release}, {"remaining", lock_remaining}, {NULL, NULL}};
  rm_lua_new_type(L, LOCK_TYPE, meta, methods);
  lua_pushcclosure(L, lock_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
