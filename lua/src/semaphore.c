/* SPDX-License-Identifier: MIT */
/* client:semaphore(name, {permits=, ttl=, wait=}) and the semaphore object. */
#include "binding.h"

#include <stddef.h>
#include <string.h>

#define SEMAPHORE_TYPE "redmoon.semaphore"
#define WAIT_ACCEPTS "seconds from 0 to 86400"

typedef struct semaphore {
  rm_lua_link link;
  redmoon_semaphore *semaphore; /* NULL: closed */
} semaphore;
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option semaphore_options[] = {
    {"permits", RM_OPTION_INTEGER, offsetof(redmoon_semaphore_options, permits), 1, 100000, 0,
     "an integer from 1 to 100000"},
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_semaphore_options, ttl_ms), 10, 86400000, 10000,
     "seconds from 0.01 to 86400"},
    {"wait", RM_OPTION_DURATION, offsetof(redmoon_semaphore_options, wait_ms), 0, 86400000, 0, WAIT_ACCEPTS},
};
static const rm_option request_options[] = {
    {"request_id", RM_OPTION_TEXT, offsetof(redmoon_semaphore_request, request_id), 0, 0, 0,
     "1 to 128 letters, digits, '.', '_' and '-'"},
    {"wait", RM_OPTION_DURATION, offsetof(redmoon_semaphore_request, wait_ms), 0, 86400000, 0, WAIT_ACCEPTS},
};

/* [-0, +0], never raises */
static void end_semaphore(lua_State *L, semaphore *s) {
  redmoon_semaphore *inner = s->semaphore;
  s->semaphore = NULL;
  redmoon_semaphore_free(inner);
  rm_lua_link_drop(L, &s->link);
}

static semaphore *check(lua_State *L) {
  semaphore *s = luaL_checkudata(L, 1, SEMAPHORE_TYPE);
  luaL_argcheck(L, s->semaphore != NULL, 1, "the semaphore is closed");
  return s;
}

int rm_lua_client_semaphore(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, name_len >= 1 && name_len <= 512, 2, "a semaphore's name has 1 to 512 bytes");
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  rm_lua_read_options(L, 3, semaphore_options, sizeof semaphore_options / sizeof semaphore_options[0], &options);
  if (options.permits == REDMOON_UNSET) return luaL_error(L, "semaphore needs the option 'permits'");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  semaphore *s = lua_newuserdatauv(L, sizeof *s, SLOTS);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, SEMAPHORE_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&s->link, &client->link);
  redmoon_error err;
  if (redmoon_semaphore_new(client->link.client, name, name_len, &options, &s->semaphore, &err) < 0) {
    end_semaphore(L, s);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* semaphore:acquire([n [, {wait=, request_id=}]]) */
static int semaphore_acquire(lua_State *L) {
  semaphore *s = check(L);
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.count = luaL_optinteger(L, 2, 1);
  luaL_argcheck(L, request.count >= 1 && request.count <= 1000, 2,
                "a count of permits is an integer from 1 to 1000");
  lua_settop(L, 3);
  rm_lua_read_options(L, 3, request_options, sizeof request_options / sizeof request_options[0], &request);
  rm_lua_permit *permit = rm_lua_permit_new(L, 1, SLOT_SERVER, &s->link);
  rm_lua_task *task = rm_lua_permit_take(L, &s->link);
  int started = redmoon_semaphore_acquire_start(s->semaphore, &request, &permit->permit, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int used(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_semaphore_usage *usage = (const redmoon_semaphore_usage *)rm_lua_out(task);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)usage->in_use);
  lua_setfield(L, -2, "in_use");
  lua_pushinteger(L, (lua_Integer)usage->permits);
  lua_setfield(L, -2, "permits");
  lua_pushnumber(L, (lua_Number)usage->retry_after_us / 1e6);
  lua_setfield(L, -2, "retry_after");
  return 1;
}

/* semaphore:stats() */
static int semaphore_stats(lua_State *L) {
  semaphore *s = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, used);
  redmoon_semaphore_usage *out = (redmoon_semaphore_usage *)rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_semaphore_stats_start(s->semaphore, out, &task->op, &task->err));
}

static int semaphore_gc(lua_State *L) {
  end_semaphore(L, lua_touserdata(L, 1));
  return 0;
}

static int semaphore_close(lua_State *L) {
  end_semaphore(L, luaL_checkudata(L, 1, SEMAPHORE_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_semaphore_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", semaphore_gc}, {"__close", semaphore_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"acquire", semaphore_acquire}, {"close", semaphore_close}, {"stats", semaphore_stats}, {NULL, NULL}};
  rm_lua_new_type(L, SEMAPHORE_TYPE, meta, methods);
  lua_pop(L, 2);
}
