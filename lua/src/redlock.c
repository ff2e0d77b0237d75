/* SPDX-License-Identifier: MIT */
/* redmoon.redlock{client, client, ..., quarantine=} and redlock:lock(name, options), which gives a lock as any other. */
#include "binding.h"

#include <stddef.h>
#include <string.h>

#define REDLOCK_TYPE "redmoon.redlock"

typedef struct redlock {
  rm_lua_link link;         /* the first client's: its loop is the one that is waited in */
  redmoon_redlock *redlock; /* NULL: closed */
} redlock;
enum { SLOT_SERVERS = 1, SLOTS = 1 };

static const rm_option set_options[] = {
    {"quarantine", RM_LUA_OPTION_OTHER, 0, 10, 86400000, 60000, "seconds from 0.01 to 86400, or false"},
};

#define FIELD(name) offsetof(redmoon_redlock_request, name)
#define NO RM_LUA_OPTION_REFUSED, 0, 0, 0, 0
static const rm_option lock_options[] = {
    {"ttl", RM_OPTION_DURATION, FIELD(ttl_ms), 10, 86400000, 10000, "seconds from 0.01 to the quarantine, to 86400 without one"},
    {"wait", RM_OPTION_DURATION, FIELD(wait_ms), 0, 86400000, 0, "seconds from 0 to 86400"},
    {"renew", RM_OPTION_BOOL, FIELD(renew), 0, 1, 0, "true or false"},
    {"max_hold", RM_OPTION_DURATION, FIELD(max_hold_ms), 10, INT64_C(31622400000), 0, "seconds from ttl to 31622400"},
    {"on_lost", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
    {"fair", NO, "is not for a redlock: its servers have no common order of those who wait"},
    {"min_replicas", NO, "is not for a redlock: its servers are primaries, and most of them have the lock"},
    {"token", NO, "is not for a redlock: its servers could not agree on how often it is held"},
    {"request_id", NO, "is not for a redlock: what failed was given back, so the call may be repeated as it is"},
};

/* [-0, +0], never raises */
static void end_redlock(lua_State *L, redlock *r) {
  redmoon_redlock *inner = r->redlock;
  r->redlock = NULL;
  redmoon_redlock_free(inner);
  rm_lua_link_drop(L, &r->link);
}

/* The options among the elements of the table at 1. [-0, +0] */
static int64_t read_quarantine(lua_State *L) {
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, 1)) { /* what is named is an option */
    if (lua_type(L, -2) == LUA_TSTRING) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_settable(L, -4);
    } else {
      lua_pop(L, 1);
    }
  }
  rm_lua_read_options(L, -1, set_options, sizeof set_options / sizeof set_options[0], NULL);
  int type = lua_getfield(L, -1, "quarantine");
  int64_t quarantine_ms = REDMOON_UNSET;
  if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1)) quarantine_ms = 0;
  else if (type == LUA_TNUMBER) quarantine_ms = rm_lua_duration_ms(L, -1, set_options);
  else if (type != LUA_TNIL)
    rm_lua_raise(L, "option 'quarantine': a %s is not accepted; it takes %s", luaL_typename(L, -1), set_options[0].accepts);
  lua_pop(L, 2);
  return quarantine_ms;
}

int rm_lua_redlock(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  redmoon_redlock_options options = {read_quarantine(L)};
  redmoon_client *clients[REDMOON_REDLOCK_MAX];
  lua_Integer count = (lua_Integer)lua_rawlen(L, 1);
  if (count < REDMOON_REDLOCK_MIN || count > REDMOON_REDLOCK_MAX)
    return rm_lua_raise(L, "redlock: %I clients are not accepted; give %d to %d, of independent servers", (LUAI_UACINT)count,
                        (int)REDMOON_REDLOCK_MIN, (int)REDMOON_REDLOCK_MAX);
  redlock *r = lua_newuserdatauv(L, sizeof *r, SLOTS);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, REDLOCK_TYPE);
  lua_createtable(L, (int)count, 0); /* at 3 */
  for (lua_Integer i = 1; i <= count; i++) {
    lua_geti(L, 1, i);
    rm_lua_client *client = luaL_testudata(L, -1, "redmoon.client");
    if (client == NULL || client->link.client == NULL)
      return rm_lua_raise(L, "redlock: element %I is not an open client", (LUAI_UACINT)i);
    clients[i - 1] = client->link.client;
    if (i == 1) rm_lua_link_set(&r->link, &client->link);
    lua_getiuservalue(L, -1, RM_LUA_SLOT_SERVER);
    if (lua_isnil(L, -1)) lua_pushboolean(L, 0);
    lua_seti(L, 3, i);
    lua_settop(L, 3);
  }
  lua_setiuservalue(L, 2, SLOT_SERVERS);
  redmoon_error err;
  int status = redmoon_redlock_new(clients, (size_t)count, &options, &r->redlock, &err);
  if (status == 0) return 1;
  end_redlock(L, r);
  return status == REDMOON_ECONFIG ? rm_lua_raise(L, "%s", err.message) : rm_lua_fail(L, &err);
}

static int redlock_lock(lua_State *L) {
  redlock *r = luaL_checkudata(L, 1, REDLOCK_TYPE);
  luaL_argcheck(L, r->redlock != NULL, 1, "the redlock is closed");
  size_t name_len;
  const char *name = rm_lua_lock_name(L, &name_len);
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  rm_lua_read_options(L, 3, lock_options, sizeof lock_options / sizeof lock_options[0], &request);
  redmoon_lock **out = rm_lua_lock_new(L, &r->link);
  lua_getiuservalue(L, 1, SLOT_SERVERS);
  rm_lua_task *task = rm_lua_lock_take(L);
  int started = redmoon_redlock_acquire_start(r->redlock, name, name_len, &request, out, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int redlock_gc(lua_State *L) {
  end_redlock(L, lua_touserdata(L, 1));
  return 0;
}

static int redlock_close(lua_State *L) {
  end_redlock(L, luaL_checkudata(L, 1, REDLOCK_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_redlock_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", redlock_gc}, {"__close", redlock_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", redlock_close}, {"lock", redlock_lock}, {NULL, NULL}};
  rm_lua_new_type(L, REDLOCK_TYPE, meta, methods);
  lua_remove(L, -2);
}
