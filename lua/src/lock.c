/* SPDX-License-Identifier: MIT */
/* client:lock(name, options) and the lock object.
 *
 * on_lost: nothing calls a function of this state from outside, so the locks that have one are looked at whenever a call of
 * this module ends (rm_lua_end), and when lock:held() is asked.  In an event loop such a call waits for the loss, in a
 * coroutine of its own, which does not keep the lock. */
#include "binding.h"

#include "patterns/lock_watch.h"

#include <stddef.h>
#include <string.h>

#define LOCK_TYPE "redmoon.lock"
#define TTL_ACCEPTS "seconds from 0.01 to 86400"

typedef struct lock {
  rm_lua_link link;
  redmoon_lock *lock; /* NULL: closed */
  bool watched;       /* on_lost is to be called yet */
} lock;
enum { SLOT_SERVER = 1, SLOT_LOST = 2, SLOTS = 2 };

static const char watched_key; /* registry: the state's watched locks, a table with weak keys */

#define FIELD(name) offsetof(redmoon_lock_options, name)
static const rm_option lock_options[] = {
    {"ttl", RM_OPTION_DURATION, FIELD(ttl_ms), 10, 86400000, 10000, TTL_ACCEPTS},
    {"wait", RM_OPTION_DURATION, FIELD(wait_ms), 0, 86400000, 0, "seconds from 0 to 86400"},
    {"fair", RM_OPTION_BOOL, FIELD(fair), 0, 1, 0, "true or false"},
    {"renew", RM_OPTION_BOOL, FIELD(renew), 0, 1, 0, "true or false"},
    {"max_hold", RM_OPTION_DURATION, FIELD(max_hold_ms), 10, INT64_C(31622400000), 0, "seconds from ttl to 31622400"},
    {"on_lost", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
    {"min_replicas", RM_OPTION_INTEGER, FIELD(min_replicas), 0, 1000, 0, "an integer from 0 to 1000"},
    {"token", RM_OPTION_TEXT, FIELD(token), 0, 0, 0, "the token of a lock"},
    {"request_id", RM_OPTION_TEXT, FIELD(request_id), 0, 0, 0, "1 to 128 letters, digits, '.', '_' and '-'"},
};
static const rm_option ttl_argument = {"ttl", RM_OPTION_DURATION, 0, 10, 86400000, 10000, TTL_ACCEPTS};

/* on_lost. */

static void unwatch(lock *l) {
  if (l->watched) l->link.shared->watched--;
  l->watched = false;
}

/* The function is on top. [-1, +0] */
static void watch(lua_State *L, int index, lock *l) {
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  lua_setiuservalue(L, index, SLOT_LOST);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &watched_key);
  lua_pushvalue(L, index);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  l->watched = true;
  l->link.shared->watched++;
}

/* Runs protected: the lock. */
static int call_on_lost(lua_State *L) {
  lua_getiuservalue(L, 1, SLOT_LOST);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  return 0;
}

/* The locks that were lost since the last look. [-0, +count] */
static int push_lost(lua_State *L) {
  int count = 0;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &watched_key);
  int table = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    lock *l = lua_touserdata(L, -1);
    if (!l->watched || l->lock == NULL || !redmoon_lock_lost(l->lock)) continue;
    if (!lua_checkstack(L, 8)) {
      lua_pop(L, 1);
      break;
    }
    unwatch(l);
    lua_pushvalue(L, -1);
    count++;
  }
  return count;
}

/* A function that raises does not disturb the call that is just ending: it is said by warn(). */
void rm_lua_locks_dispatch(lua_State *L, rm_lua_shared *shared) {
  if (shared->dispatching || !lua_checkstack(L, 8)) return; /* the next call looks again */
  shared->dispatching = true;
  int top = lua_gettop(L);
  for (int count = push_lost(L); count > 0; count--) {
    lua_pushcfunction(L, call_on_lost);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK) continue;
    lua_warning(L, "redmoon: a lock's on_lost raised: ", 1);
    lua_warning(L, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text", 0);
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  shared->dispatching = false;
}

/* The lock. */

/* [-0, +0], never raises */
static void end_lock(lua_State *L, lock *l) {
  redmoon_lock *held = l->lock;
  unwatch(l);
  l->lock = NULL;
  if (held != NULL) rm_lock_unwatch(held);
  redmoon_lock_free(held);
  rm_lua_link_drop(L, &l->link);
}

static lock *check(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  luaL_argcheck(L, l->lock != NULL, 1, "the lock is closed");
  return l;
}

/* The function on_lost of the options at `index`, or nil. [-0, +1] */
static void push_on_lost(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) {
    lua_pushnil(L);
    return;
  }
  int type = lua_getfield(L, index, "on_lost");
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    rm_lua_raise(L, "option 'on_lost': a %s is not accepted; it takes a function", lua_typename(L, type));
}

/* Waiting for the loss, in a loop. */

#define WATCH_TYPE "redmoon.lock_watch"

typedef struct lock_watch {
  rm_lua_link link;
  redmoon_op *op; /* NULL: the coroutine has it, or it is over */
} lock_watch;

static int watch_gc(lua_State *L) {
  lock_watch *w = lua_touserdata(L, 1);
  redmoon_op *op = w->op;
  w->op = NULL;
  redmoon_op_cancel(op);
  rm_lua_link_drop(L, &w->link);
  return 0;
}

static int watched(lua_State *L, rm_lua_task *task, int status) {
  (void)L, (void)task, (void)status;
  return 0; /* what follows every call looks for locks that were lost */
}

/* The coroutine: its watch. */
static int run_watch(lua_State *L) {
  lock_watch *w = luaL_checkudata(L, 1, WATCH_TYPE);
  rm_lua_task *task = rm_lua_task_take_own(L, &w->link, watched);
  task->op = w->op;
  w->op = NULL;
  return rm_lua_task_run(L, task, 0);
}

/* Begins it, for a lock with a function. Without a loop, or what it needs, calls look as they do anyway. [-0, +0] */
static void begin_watch(lua_State *L, lock *l) {
  if (l->link.loop == NULL || !rm_lua_loop_push_spawn(L, l->link.loop)) return;
  lua_pushcfunction(L, run_watch);
  lock_watch *w = lua_newuserdatauv(L, sizeof *w, 0);
  memset(w, 0, sizeof *w);
  luaL_setmetatable(L, WATCH_TYPE);
  rm_lua_link_set(&w->link, &l->link);
  if (rm_lock_watch_start(l->lock, &w->op, NULL) == 0) lua_call(L, 2, 0);
  else lua_pop(L, 3);
}

/* The lock at 5, its function at 4. */
static int acquired(lua_State *L, rm_lua_task *task, int status) {
  lock *l = lua_touserdata(L, 5);
  if (status == 0) {
    lua_pushvalue(L, 4);
    watch(L, 5, l);
    if (l->watched) begin_watch(L, l);
    lua_pushvalue(L, 5);
    return 1;
  }
  end_lock(L, l);
  return rm_lua_fail(L, &task->err);
}

redmoon_lock **rm_lua_lock_new(lua_State *L, const rm_lua_link *link) {
  push_on_lost(L, 3);
  lock *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LOCK_TYPE);
  rm_lua_link_set(&l->link, link);
  return &l->lock;
}

rm_lua_task *rm_lua_lock_take(lua_State *L) {
  lock *l = lua_touserdata(L, 5);
  lua_setiuservalue(L, 5, SLOT_SERVER);
  return rm_lua_task_take(L, &l->link, acquired);
}

const char *rm_lua_lock_name(lua_State *L, size_t *len) {
  const char *name = luaL_checklstring(L, 2, len);
  luaL_argcheck(L, *len >= 1 && *len <= 512, 2, "a lock's name has 1 to 512 bytes");
  lua_settop(L, 3);
  return name;
}

int rm_lua_client_lock(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = rm_lua_lock_name(L, &name_len);
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  rm_lua_read_options(L, 3, lock_options, sizeof lock_options / sizeof lock_options[0], &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  redmoon_lock **out = rm_lua_lock_new(L, &client->link);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  rm_lua_task *task = rm_lua_lock_take(L);
  int started = redmoon_lock_acquire_start(client->link.client, name, name_len, &options, out, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int lock_extend(lua_State *L) {
  lock *l = check(L);
  int64_t ttl_ms = lua_isnoneornil(L, 2) ? REDMOON_UNSET : rm_lua_duration_ms(L, 2, &ttl_argument);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_lock_extend_start(l->lock, ttl_ms, &task->op, &task->err));
}

static int lock_release(lua_State *L) {
  lock *l = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_lock_release_start(l->lock, &task->op, &task->err));
}

static int lock_held(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  bool held = l->lock != NULL && redmoon_lock_held(l->lock);
  lua_pushboolean(L, held);
  return held || !l->watched ? 1 : rm_lua_end(L, &l->link, 1);
}

static int lock_remaining(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  lua_pushnumber(L, l->lock == NULL ? 0.0 : (lua_Number)redmoon_lock_remaining_ms(l->lock) / 1000.0);
  return 1;
}

/* close() and __close: releases; that it had been lost is no news at the end of a scope. */
static int closed(lua_State *L, rm_lua_task *task, int status) {
  (void)task;
  (void)status;
  lock *l = lua_touserdata(L, 1);
  end_lock(L, l);
  lua_pushboolean(L, 1);
  return 1;
}

static int lock_close(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  if (l->lock == NULL || !rm_lua_can_wait(L, &l->link)) { /* of a coroutine that is being closed: the lease runs out */
    end_lock(L, l);
    lua_pushboolean(L, 1);
    return 1;
  }
  rm_lua_task *task = rm_lua_task_take(L, &l->link, closed);
  return rm_lua_task_run(L, task, redmoon_lock_release_start(l->lock, &task->op, &task->err));
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

/* lock.token, lock.fence, lock.holds; else the method. Upvalue: method table. */
static int lock_index(lua_State *L) {
  lock *l = luaL_checkudata(L, 1, LOCK_TYPE);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (l->lock != NULL && strcmp(field, "token") == 0) {
    lua_pushstring(L, redmoon_lock_token(l->lock));
  } else if (l->lock != NULL && strcmp(field, "fence") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_lock_fence(l->lock));
  } else if (l->lock != NULL && strcmp(field, "holds") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_lock_holds(l->lock));
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
  static const luaL_Reg watch_meta[] = {{"__gc", watch_gc}, {NULL, NULL}};
  rm_lua_new_type(L, WATCH_TYPE, watch_meta, NULL);
  lua_pop(L, 2);
  rm_lua_new_type(L, LOCK_TYPE, meta, methods);
  lua_pushcclosure(L, lock_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  bool known = lua_rawgetp(L, LUA_REGISTRYINDEX, &watched_key) == LUA_TTABLE;
  lua_pop(L, 1);
  if (known) return; /* the module is loaded once more; the locks of its first life go on */
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &watched_key);
}
