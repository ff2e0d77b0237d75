/* SPDX-License-Identifier: MIT */
/* Event loops, as the binding sees them: a table of functions
 *
 *      wait(fd, "r", seconds)   until fd is readable, or the seconds are over (nil: without end); yields
 *      forget(fd)               the descriptor is about to be closed                                       (optional)
 *      running()                whether the caller is inside of the loop, so that wait may yield; else it blocks (optional)
 *      sleep, spawn             for what is written in Lua
 *      timers = false           wait knows no seconds: the pollset gets a timer, too                       (optional)
 *      park(key, seconds)       until wake(key), or the seconds are over; yields              (optional, both or none)
 *      wake(key)                lets the coroutine go on that is parked under this key, if one is, but not at once
 *
 *  The loop never sees a connection's socket, which the core may close at any time and on any thread, but a pollset of
 *  the binding's own: an epoll descriptor with the socket, and with the event that tells the client's end, in it.
 *
 *      call begins to wait --> pollset from the idle ones, or a new one --> armed --> the loop's wait --> disarmed --> idle
 *                                                                            `--> coroutine is gone: forget, close
 *
 *  With park and wake, calls that share connections need no descriptor: whoever reads for all of them rings (engine/bell.h),
 *  and they are woken together. */
#include "binding.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/timer.h"
#include "engine/core.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { IDLE_MAX = 64 };
enum { WAIT = 1, FORGET, RUNNING, SLEEP, SPAWN, PARK, WAKE }; /* places in the table that is kept */
static const char *const names[] = {"wait", "forget", "running", "sleep", "spawn", "park", "wake"};

struct rm_lua_loop {
  int refs;
  bool timers; /* it can wait for a time itself */
  bool parks;  /* it has park and wake */
  rm_bell bell;
  rm_lua_pollset idle[IDLE_MAX];
  int idle_count;
};

/* The loop itself. */

/* [-0, +0] */
static bool has_function(lua_State *L, const rm_lua_loop *loop, int place) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, loop);
  bool has = lua_rawgeti(L, -1, place) != LUA_TNIL;
  lua_pop(L, 2);
  return has;
}

rm_lua_loop *rm_lua_loop_new(lua_State *L, int index) {
  index = lua_absindex(L, index);
  lua_createtable(L, WAKE, 0);
  for (int i = WAIT; i <= WAKE; i++) {
    int type = lua_getfield(L, index, names[i - 1]);
    bool is = type == LUA_TFUNCTION || (type == LUA_TTABLE && luaL_getmetafield(L, -1, "__call") != LUA_TNIL);
    if (type == LUA_TTABLE && is) lua_pop(L, 1);
    if (!is && (i == WAIT || type != LUA_TNIL))
      rm_lua_raise(L, "option 'loop': its function '%s' is %s%s; it takes \"blocking\", \"cqueues\", \"luv\", \"copas\" or a table of "
                      "functions {wait=, forget=, running=, sleep=, spawn=, park=, wake=}",
                   names[i - 1], type == LUA_TNIL ? "" : "a ", type == LUA_TNIL ? "missing" : luaL_typename(L, -1));
    lua_rawseti(L, -2, i);
  }
  lua_getfield(L, index, "timers");
  bool timers = lua_isnil(L, -1) || lua_toboolean(L, -1);
  lua_pop(L, 1);
  rm_lua_guard *guard = rm_lua_guard_new(L, rm_free);
  rm_lua_loop *loop = guard->ptr = rm_calloc(1, sizeof *loop);
  if (loop == NULL) luaL_error(L, "not enough memory");
  lua_pushvalue(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, loop);
  guard->ptr = NULL;
  lua_pop(L, 2);
  loop->timers = timers;
  loop->parks = has_function(L, loop, PARK) && has_function(L, loop, WAKE);
  rm_bell_init(&loop->bell);
  loop->refs = 1;
  return loop;
}

/* Calls forget(fd), whatever comes of it. [-0, +0], never raises */
static void forget(lua_State *L, const rm_lua_loop *loop, int fd) {
  if (!lua_checkstack(L, 4)) return;
  int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, loop) == LUA_TTABLE && lua_rawgeti(L, -1, FORGET) != LUA_TNIL) {
    lua_pushinteger(L, fd);
    (void)lua_pcall(L, 1, 0, 0);
  }
  lua_settop(L, top);
}

static void close_pollset(lua_State *L, const rm_lua_loop *loop, const rm_lua_pollset *set) {
  forget(L, loop, set->fd);
  close(set->fd);
  rm_timer_close(set->timer);
}

void rm_lua_loop_ref(rm_lua_loop *loop) { loop->refs++; }

void rm_lua_loop_rest(lua_State *L, rm_lua_loop *loop) {
  while (loop->idle_count > 0) {
    const rm_lua_pollset set = loop->idle[--loop->idle_count]; /* forget may collect, which may put one into its place */
    close_pollset(L, loop, &set);
  }
}

void rm_lua_loop_unref(lua_State *L, rm_lua_loop *loop) {
  if (--loop->refs > 0) return;
  rm_lua_loop_rest(L, loop);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, loop); /* the entry exists, so no memory is asked for */
  rm_free(loop);
}

/* Pollsets. */

static void watch(const rm_lua_pollset *set, int fd, uint32_t events) {
  struct epoll_event event = {.events = events};
  if (fd >= 0 && epoll_ctl(set->fd, EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST)
    (void)epoll_ctl(set->fd, EPOLL_CTL_MOD, fd, &event);
}

static void unwatch(const rm_lua_pollset *set, int fd) {
  struct epoll_event none = {0};
  if (fd >= 0) (void)epoll_ctl(set->fd, EPOLL_CTL_DEL, fd, &none); /* it may be closed already, and so be out of it */
}

/* False: none can be had. */
static bool new_pollset(const rm_lua_loop *loop, rm_lua_pollset *set) {
  *set = (rm_lua_pollset){epoll_create1(EPOLL_CLOEXEC), loop->timers ? -1 : rm_timer_open(), -1, -1, ""};
  if (set->fd >= 0 && (loop->timers || set->timer >= 0)) {
    watch(set, set->timer, EPOLLIN);
    return true;
  }
  if (set->fd >= 0) close(set->fd);
  rm_timer_close(set->timer);
  return false;
}

static bool is_of(const rm_lua_pollset *set, const rm_core *core) {
  return core != NULL && set->closing >= 0 && strcmp(set->token, core->token) == 0;
}

/* Of the idle ones: one that has what is wanted in it, else one that can do without what it has.  -1: there is none. */
static int find_idle(const rm_lua_loop *loop, const redmoon_op *op) {
  const rm_core *core = op->client != NULL ? op->client->core : NULL;
  bool lasts = (op->wants.events & RM_WANT_LASTING) != 0;
  int found = loop->idle_count - 1, rank = 0;
  for (int i = loop->idle_count - 1; i >= 0; i--) {
    const rm_lua_pollset *set = &loop->idle[i];
    if (set->lasting != (lasts ? op->wants.fd : -1)) {
      if (rank > 0 || set->lasting >= 0) continue;
      found = i;
      rank = 1;
    } else if (is_of(set, core)) {
      return i;
    }
  }
  return found;
}

/* False: none can be had. */
static bool take_pollset(lua_State *L, rm_lua_loop *loop, rm_lua_pollset *set, const redmoon_op *op) {
  const rm_core *core = op->client != NULL ? op->client->core : NULL;
  int i = find_idle(loop, op);
  if (i < 0) return new_pollset(loop, set);
  *set = loop->idle[i];
  loop->idle[i] = loop->idle[--loop->idle_count];
  if (set->closing < 0 || is_of(set, core)) return true;
  /* What is in it is another client's, and those numbers may be somebody else's by now. */
  close_pollset(L, loop, set);
  return new_pollset(loop, set);
}

static uint32_t events_of(const redmoon_op *op) {
  return ((op->wants.events & REDMOON_WANT_READ) ? (uint32_t)EPOLLIN : 0) |
         ((op->wants.events & REDMOON_WANT_WRITE) ? (uint32_t)EPOLLOUT : 0);
}

static void disarm(rm_lua_waiter *waiter) {
  if (!waiter->has_set) return;
  if (waiter->fd != waiter->set.lasting) unwatch(&waiter->set, waiter->fd);
  waiter->fd = -1;
}

static void arm(rm_lua_waiter *waiter, const redmoon_op *op) {
  rm_lua_pollset *set = &waiter->set;
  waiter->fd = op->wants.fd;
  bool lasts = waiter->fd >= 0 && (op->wants.events & RM_WANT_LASTING) != 0 && set->closing >= 0;
  if (!lasts || waiter->fd != set->lasting) watch(set, waiter->fd, events_of(op));
  if (lasts && waiter->fd != set->lasting) {
    unwatch(set, set->lasting);
    set->lasting = waiter->fd;
  }
  if (set->timer < 0) return;
  int64_t left_us = op->wants.until_us == RM_FOREVER ? RM_FOREVER : op->wants.until_us - rm_clock_now_us();
  rm_timer_set(set->timer, left_us == RM_FOREVER ? RM_FOREVER : rm_clock_boot_us() + rm_max64(left_us, 0));
}

/* Begins to use a pollset.  False: none can be had. */
static bool need_set(lua_State *L, rm_lua_loop *loop, rm_lua_waiter *waiter, const redmoon_op *op) {
  rm_lua_pollset set;
  if (waiter->has_set) return true;
  if (!take_pollset(L, loop, &set, op)) return false;
  if (set.closing < 0 && op->client != NULL) {
    set.closing = op->client->core->closing.fd;
    memcpy(set.token, op->client->core->token, sizeof set.token);
    watch(&set, set.closing, EPOLLIN);
  }
  waiter->has_set = true;
  waiter->set = set;
  waiter->fd = -1;
  return true;
}

void rm_lua_waiter_end(lua_State *L, rm_lua_waiter *waiter) {
  rm_lua_loop *loop = waiter->loop;
  if (loop == NULL) return;
  disarm(waiter);
  waiter->loop = NULL;
  if (waiter->has_set) {
    waiter->has_set = false;
    if (waiter->set.timer >= 0) rm_timer_set(waiter->set.timer, RM_FOREVER);
    if (loop->idle_count < IDLE_MAX) loop->idle[loop->idle_count++] = waiter->set;
    else close_pollset(L, loop, &waiter->set);
  }
  rm_lua_loop_unref(L, loop);
}

void rm_lua_waiter_abandon(lua_State *L, rm_lua_waiter *waiter) {
  rm_lua_loop *loop = waiter->loop;
  if (loop == NULL) return;
  waiter->loop = NULL;
  if (waiter->has_set) close_pollset(L, loop, &waiter->set); /* the loop may still have it for the coroutine that is gone */
  waiter->has_set = false;
  rm_lua_loop_unref(L, loop);
}

/* Whether the caller is inside of the loop. [-0, +0], may raise */
static bool is_running(lua_State *L, const rm_lua_loop *loop) {
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, loop);
  bool running = lua_rawgeti(L, -1, RUNNING) == LUA_TNIL;
  if (!running) {
    lua_call(L, 0, 1);
    running = lua_toboolean(L, -1);
  }
  lua_settop(L, top);
  return running;
}

bool rm_lua_loop_push_spawn(lua_State *L, const rm_lua_loop *loop) {
  luaL_checkstack(L, 6, NULL);
  if (!lua_isyieldable(L) || !is_running(L, loop)) return false;
  lua_rawgetp(L, LUA_REGISTRYINDEX, loop);
  bool has = lua_rawgeti(L, -1, SPAWN) != LUA_TNIL;
  lua_remove(L, -2);
  if (!has) lua_pop(L, 1);
  return has;
}

rm_bell *rm_lua_loop_bell(rm_lua_loop *loop) { return loop->parks ? &loop->bell : NULL; }

void rm_lua_loop_wake(lua_State *L, rm_lua_loop *loop) {
  void *key = rm_bell_take(&loop->bell);
  if (key == NULL) return;
  luaL_checkstack(L, 6, NULL);
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, loop);
  lua_rawgeti(L, -1, WAKE);
  for (; key != NULL; key = rm_bell_take(&loop->bell)) {
    lua_pushvalue(L, -1);
    lua_pushlightuserdata(L, key);
    lua_call(L, 1, 0);
  }
  lua_settop(L, top);
}

/* The arguments of park or wait, and the call. */
static void call_loop(lua_State *L, const rm_lua_loop *loop, const rm_lua_waiter *waiter, const redmoon_op *op,
                      lua_KFunction resumed, lua_KContext ctx) {
  bool parks = (op->wants.events & RM_WANT_BELL) != 0;
  lua_rawgetp(L, LUA_REGISTRYINDEX, loop);
  lua_rawgeti(L, -1, parks ? PARK : WAIT);
  lua_remove(L, -2);
  if (parks) lua_pushlightuserdata(L, op->bell.key);
  else lua_pushinteger(L, waiter->set.fd);
  if (!parks) lua_pushliteral(L, "r");
  int64_t left_us = op->wants.until_us == RM_FOREVER ? -1 : rm_max64(op->wants.until_us - rm_clock_now_us(), 0);
  if (left_us < 0 || (!parks && !loop->timers)) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)left_us / 1e6);
  lua_callk(L, parks ? 2 : 3, 0, ctx, resumed);
}

bool rm_lua_loop_await(lua_State *L, rm_lua_loop *loop, rm_lua_waiter *waiter, const redmoon_op *op,
                       lua_KFunction resumed, lua_KContext ctx) {
  luaL_checkstack(L, 6, NULL);
  bool parks = (op->wants.events & RM_WANT_BELL) != 0;
  if (waiter->loop == NULL) {
    if (!is_running(L, loop)) return false;
    waiter->loop = loop;
    loop->refs++;
  }
  if (!parks && !need_set(L, loop, waiter, op)) {
    rm_lua_waiter_end(L, waiter);
    return false;
  }
  disarm(waiter);
  if (!parks) arm(waiter, op);
  call_loop(L, loop, waiter, op, resumed, ctx);
  return true;
}
