/* SPDX-License-Identifier: MIT */
/* The permit object: what semaphore:acquire(), rwlock:read() and rwlock:write() give.  A read-write lock may give
 * one permit out several times: each time in a box of its own, which counts once. */
#include "binding.h"

#include <string.h>

#define PERMIT_TYPE "redmoon.permit"
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option ttl_argument = {"ttl", RM_OPTION_DURATION,          0, 10, 86400000,
                                       10000, "seconds from 0.01 to 86400"};

/* [-0, +0], never raises */
static void end_permit(lua_State *L, rm_lua_permit *p) {
  redmoon_permit *held = p->permit;
  p->permit = NULL;
  redmoon_permit_free(held);
  rm_lua_link_drop(L, &p->link);
}

rm_lua_permit *rm_lua_permit_new(lua_State *L, int index, int slot, const rm_lua_link *link) {
  rm_lua_permit *p = lua_newuserdatauv(L, sizeof *p, SLOTS);
  memset(p, 0, sizeof *p);
  luaL_setmetatable(L, PERMIT_TYPE);
  lua_getiuservalue(L, index, slot);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&p->link, link);
  return p;
}

/* rm_lua_out: the box's place on the stack */
static int given(lua_State *L, rm_lua_task *task, int status) {
  int place = *(const int *)rm_lua_out(task);
  if (status < 0) {
    end_permit(L, lua_touserdata(L, place));
    return rm_lua_fail(L, &task->err);
  }
  lua_pushvalue(L, place);
  return 1;
}

rm_lua_task *rm_lua_permit_take(lua_State *L, const rm_lua_link *link) {
  int place = lua_gettop(L);
  rm_lua_task *task = rm_lua_task_take(L, link, given);
  *(int *)rm_lua_out(task) = place;
  return task;
}

static rm_lua_permit *check(lua_State *L) {
  rm_lua_permit *p = luaL_checkudata(L, 1, PERMIT_TYPE);
  luaL_argcheck(L, p->permit != NULL, 1, "the permit is closed");
  return p;
}

static int permit_extend(lua_State *L) {
  rm_lua_permit *p = check(L);
  int64_t ttl_ms = lua_isnoneornil(L, 2) ? REDMOON_UNSET : rm_lua_duration_ms(L, 2, &ttl_argument);
  if (p->released) return rm_lua_fail_text(L, REDMOON_ELOST, "the permit cannot be extended: it was released");
  rm_lua_task *task = rm_lua_task_take(L, &p->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_permit_extend_start(p->permit, ttl_ms, &task->op, &task->err));
}

static int yes(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}

static int released(lua_State *L, rm_lua_task *task, int status) {
  rm_lua_permit *p = lua_touserdata(L, 1);
  p->released = p->released || status == 0;
  return rm_lua_task_done(L, task, status);
}

static int permit_release(lua_State *L) {
  rm_lua_permit *p = check(L);
  if (p->released) return yes(L);
  rm_lua_task *task = rm_lua_task_take(L, &p->link, released);
  return rm_lua_task_run(L, task, redmoon_permit_release_start(p->permit, &task->op, &task->err));
}

static int is_held(const rm_lua_permit *p) {
  return p->permit != NULL && !p->released && redmoon_permit_held(p->permit);
}

static int permit_held(lua_State *L) {
  lua_pushboolean(L, is_held(luaL_checkudata(L, 1, PERMIT_TYPE)));
  return 1;
}

static int permit_remaining(lua_State *L) {
  const rm_lua_permit *p = luaL_checkudata(L, 1, PERMIT_TYPE);
  lua_pushnumber(L, is_held(p) ? (lua_Number)redmoon_permit_remaining_ms(p->permit) / 1000.0 : 0.0);
  return 1;
}

/* close() and __close: releases; that it had been lost is no news at the end of a scope. */
static int closed(lua_State *L, rm_lua_task *task, int status) {
  (void)task;
  (void)status;
  end_permit(L, lua_touserdata(L, 1));
  return yes(L);
}

static int permit_close(lua_State *L) {
  rm_lua_permit *p = luaL_checkudata(L, 1, PERMIT_TYPE);
  if (p->permit == NULL || p->released || !rm_lua_can_wait(L, &p->link)) { /* as of a lock: the lease runs out */
    end_permit(L, p);
    return yes(L);
  }
  rm_lua_task *task = rm_lua_task_take(L, &p->link, closed);
  return rm_lua_task_run(L, task, redmoon_permit_release_start(p->permit, &task->op, &task->err));
}

/* Must not block: the lease runs out. */
static int permit_gc(lua_State *L) {
  end_permit(L, lua_touserdata(L, 1));
  return 0;
}

static int permit_tostring(lua_State *L) {
  const rm_lua_permit *p = luaL_checkudata(L, 1, PERMIT_TYPE);
  lua_pushfstring(L, PERMIT_TYPE " (%s)", p->permit == NULL ? "closed" : is_held(p) ? "held" : "not held");
  return 1;
}

/* permit.token, .count, .fence; else the method. Upvalue: method table. */
static int permit_index(lua_State *L) {
  const rm_lua_permit *p = luaL_checkudata(L, 1, PERMIT_TYPE);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  int64_t fence = p->permit == NULL ? 0 : redmoon_permit_fence(p->permit);
  if (p->permit != NULL && strcmp(field, "token") == 0) {
    lua_pushstring(L, redmoon_permit_token(p->permit));
  } else if (p->permit != NULL && strcmp(field, "count") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_permit_count(p->permit));
  } else if (fence > 0 && strcmp(field, "fence") == 0) {
    lua_pushinteger(L, (lua_Integer)fence);
  } else {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void rm_lua_permit_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", permit_gc}, {"__close", permit_close}, {"__tostring", permit_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", permit_close},         {"extend", permit_extend},
                                     {"held", permit_held},           {"release", permit_release},
                                     {"remaining", permit_remaining}, {NULL, NULL}};
  rm_lua_new_type(L, PERMIT_TYPE, meta, methods);
  lua_pushcclosure(L, permit_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
