/* SPDX-License-Identifier: MIT */
/* client:rwlock(name, {ttl=, wait=}) and the read-write lock object: one owner. */
#include "binding.h"

#include <stddef.h>
#include <string.h>

#define RWLOCK_TYPE "redmoon.rwlock"

typedef struct rwlock {
  rm_lua_link link;
  redmoon_rwlock *rwlock; /* NULL: closed */
} rwlock;
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option rwlock_options[] = {
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_rwlock_options, ttl_ms), 10, 86400000, 10000,
     "seconds from 0.01 to 86400"},
    {"wait", RM_OPTION_DURATION, offsetof(redmoon_rwlock_options, wait_ms), 0, 86400000, 0,
     "seconds from 0 to 86400"},
};

/* [-0, +0], never raises */
static void end_rwlock(lua_State *L, rwlock *l) {
  redmoon_rwlock *inner = l->rwlock;
  l->rwlock = NULL;
  redmoon_rwlock_free(inner);
  rm_lua_link_drop(L, &l->link);
}

static rwlock *check(lua_State *L) {
  rwlock *l = luaL_checkudata(L, 1, RWLOCK_TYPE);
  luaL_argcheck(L, l->rwlock != NULL, 1, "the read-write lock is closed");
  return l;
}

int rm_lua_client_rwlock(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, name_len >= 1 && name_len <= 512, 2, "a lock's name has 1 to 512 bytes");
  lua_settop(L, 3);
  redmoon_rwlock_options options = REDMOON_RWLOCK_OPTIONS_INIT;
  rm_lua_read_options(L, 3, rwlock_options, sizeof rwlock_options / sizeof rwlock_options[0], &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rwlock *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, RWLOCK_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&l->link, &client->link);
  redmoon_error err;
  if (redmoon_rwlock_new(client->link.client, name, name_len, &options, &l->rwlock, &err) < 0) {
    end_rwlock(L, l);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

typedef int (*take_fn)(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_op **op, redmoon_error *err);

static int take(lua_State *L, take_fn start) {
  rwlock *l = check(L);
  lua_settop(L, 1);
  rm_lua_permit *permit = rm_lua_permit_new(L, 1, SLOT_SERVER, &l->link);
  rm_lua_task *task = rm_lua_permit_take(L, &l->link);
  return rm_lua_task_run(L, task, start(l->rwlock, &permit->permit, &task->op, &task->err));
}

static int rwlock_read(lua_State *L) { return take(L, redmoon_rwlock_read_start); }
static int rwlock_write(lua_State *L) { return take(L, redmoon_rwlock_write_start); }

static int rwlock_gc(lua_State *L) {
  end_rwlock(L, lua_touserdata(L, 1));
  return 0;
}

static int rwlock_close(lua_State *L) {
  end_rwlock(L, luaL_checkudata(L, 1, RWLOCK_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_rwlock_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", rwlock_gc}, {"__close", rwlock_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"close", rwlock_close}, {"read", rwlock_read}, {"write", rwlock_write}, {NULL, NULL}};
  rm_lua_new_type(L, RWLOCK_TYPE, meta, methods);
  lua_pop(L, 2);
}
