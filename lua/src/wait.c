/* SPDX-License-Identifier: MIT */
/* The one place where the binding waits: for an operation that a Lua call has begun.
 *
 *      no loop, or outside of it      drive: blocks the thread
 *      inside of an event loop        step -> wait(descriptor, "r", seconds) of the loop, which yields -> step -> ...
 *      either way                     one that wants a load is left to its caller, who comes back
 *
 *  A yield unwinds the C stack, so whoever waits goes on in a continuation, with what it needs in a userdata: an
 *  rm_lua_op for commands, an rm_lua_task for all else.  Both ways end in the same tail. */
#include "binding.h"

#include <string.h>

#define TASK_TYPE "redmoon.task"

static const char task_key; /* registry: shared->task */

/* Waiting. */

static int step_with_credentials(lua_State *L, const rm_lua_link *link, redmoon_op *op) {
  if (link->credentials == NULL) return redmoon_op_step(op);
  lua_State *outer = rm_lua_credentials_enter(link->credentials, L);
  int done = redmoon_op_step(op);
  rm_lua_credentials_enter(link->credentials, outer);
  return done;
}

/* Whoever has an answer by it is woken, but goes on later. */
static int step(lua_State *L, const rm_lua_link *link, redmoon_op *op) {
  rm_bell *bell = op->bell.bell;
  if (bell == NULL) return step_with_credentials(L, link, op);
  uintptr_t before = rm_bell_enter(bell);
  int done = step_with_credentials(L, link, op);
  rm_bell_leave(bell, before);
  rm_lua_loop_wake(L, link->loop);
  return done;
}

static int drive_with_credentials(lua_State *L, const rm_lua_link *link, redmoon_op *op) {
  if (link->credentials == NULL) return rm_drive(op);
  lua_State *outer = rm_lua_credentials_enter(link->credentials, L);
  int status = rm_drive(op);
  rm_lua_credentials_enter(link->credentials, outer);
  return status;
}

static int drive(lua_State *L, const rm_lua_link *link, redmoon_op *op) {
  op->owner = 0;
  rm_bell *bell = op->bell.bell; /* of an earlier wait, perhaps in a lane, whose other callers are parked */
  uintptr_t before = rm_bell_enter(bell);
  int status = drive_with_credentials(L, link, op);
  rm_bell_leave(bell, before);
  if (bell != NULL) rm_lua_loop_wake(L, link->loop);
  return status;
}

static bool is_main(lua_State *L) {
  bool main = lua_pushthread(L) == 1;
  lua_pop(L, 1);
  return main;
}

/* A coroutine that cannot yield must not block either: it would stop all others. */
bool rm_lua_can_wait(lua_State *L, const rm_lua_link *link) {
  return link->loop == NULL || lua_isyieldable(L) || is_main(L);
}

int rm_lua_wait(lua_State *L, const rm_lua_link *link, rm_lua_waiter *waiter, redmoon_op *op, lua_KFunction resumed,
                lua_KContext ctx) {
  if (link->loop == NULL) return drive(L, link, op);
  if (waiter->loop == NULL) { /* it begins */
    if (!rm_lua_can_wait(L, link))
      rm_lua_raise(L, "this call would have to wait, but its coroutine cannot yield here: it is inside a metamethod, an "
                      "iterator in C, table.sort, string.gsub or the like");
    if (!lua_isyieldable(L)) return drive(L, link, op);
    op->owner = (uintptr_t)L;
    op->may_block = false;
    op->bell = (rm_bell_place){{0}, rm_lua_loop_bell(link->loop), op};
  }
  while (step(L, link, op) == 0 && (op->wants.events & REDMOON_WANT_LOAD) == 0) {
    if (!rm_lua_loop_await(L, link->loop, waiter, op, resumed, ctx)) return drive(L, link, op);
  }
  rm_lua_waiter_end(L, waiter);
  return op->status;
}

/* Tasks. */

/* [-0, +0], never raises */
static void end_task(lua_State *L, rm_lua_task *task) {
  redmoon_op *op = task->op;
  task->op = NULL;
  if (op != NULL) {
    rm_bell *bell = op->bell.bell;
    uintptr_t before = rm_bell_enter(bell); /* it may have led others */
    redmoon_op_cancel(op);
    rm_bell_leave(bell, before);
  }
  rm_lua_waiter_abandon(L, &task->waiter);
  if (task->drop != NULL) task->drop(rm_lua_out(task));
  task->drop = NULL;
  if (task->holds) rm_lua_link_drop(L, &task->link);
  task->holds = false;
}

/* [-0, +1] */
static rm_lua_task *new_task(lua_State *L) {
  rm_lua_task *task = lua_newuserdatauv(L, sizeof *task + RM_LUA_OUT, 0);
  memset(task, 0, sizeof *task + RM_LUA_OUT);
  luaL_setmetatable(L, TASK_TYPE);
  return task;
}

static rm_lua_task *begin_task(rm_lua_task *task, const rm_lua_link *link, rm_lua_tail tail) {
  task->tail = tail;
  task->link = *link;
  task->busy = true;
  if (link->loop != NULL) { /* the object may be closed while this waits */
    rm_lua_link_set(&task->link, link);
    task->holds = true;
  }
  return task;
}

rm_lua_task *rm_lua_task_take(lua_State *L, const rm_lua_link *link, rm_lua_tail tail) {
  rm_lua_task *task = link->shared->task;
  if (link->loop != NULL || task->busy) return rm_lua_task_take_own(L, link, tail);
  memset(rm_lua_out(task), 0, RM_LUA_OUT);
  return begin_task(task, link, tail);
}

rm_lua_task *rm_lua_task_take_own(lua_State *L, const rm_lua_link *link, rm_lua_tail tail) {
  return begin_task(new_task(L), link, tail);
}

void rm_lua_task_put(lua_State *L, rm_lua_task *task) {
  end_task(L, task);
  task->busy = false;
}

static int end(lua_State *L, rm_lua_task *task, int count) {
  const rm_lua_link link = {.shared = task->link.shared};
  rm_lua_task_put(L, task);
  return rm_lua_end(L, &link, count);
}

int rm_lua_task_done(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, 1);
  return 1;
}

int rm_lua_task_integer(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const int64_t *value = rm_lua_out(task);
  lua_pushinteger(L, (lua_Integer)*value);
  return 1;
}

int rm_lua_task_raise(lua_State *L, rm_lua_task *task) {
  lua_pushfstring(L, "%s: %s", task->err.code, task->err.message);
  rm_lua_task_put(L, task);
  return luaL_error(L, "%s", lua_tostring(L, -1));
}

static int resume(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  rm_lua_task *task = (rm_lua_task *)ctx;
  int count = RM_LUA_AGAIN;
  while (count == RM_LUA_AGAIN) {
    rm_lua_wait(L, &task->link, &task->waiter, task->op, resume, ctx);
    redmoon_op *op = task->op;
    task->op = NULL;
    count = task->tail(L, task, redmoon_op_finish(op, &task->err));
  }
  return end(L, task, count);
}

int rm_lua_task_run(lua_State *L, rm_lua_task *task, int started) {
  if (started < 0) return end(L, task, task->tail(L, task, started));
  if (task->link.loop != NULL) lua_toclose(L, -1);
  return resume(L, LUA_OK, (lua_KContext)task);
}

int rm_lua_task_run_or_raise(lua_State *L, rm_lua_task *task, int started) {
  if (started != REDMOON_ECONFIG) return rm_lua_task_run(L, task, started);
  lua_pushstring(L, task->err.message);
  rm_lua_task_put(L, task);
  return rm_lua_raise(L, "%s", lua_tostring(L, -1));
}

static int task_gc(lua_State *L) {
  rm_lua_task *task = lua_touserdata(L, 1);
  if (task->busy) rm_lua_task_put(L, task);
  return 0;
}

/* The call has ended; or its coroutine was closed, or an error went through. */
static int task_end(lua_State *L) {
  rm_lua_task *task = lua_touserdata(L, 1);
  rm_lua_loop *loop = task->busy ? task->link.loop : NULL;
  if (loop != NULL) rm_lua_loop_ref(loop);
  task_gc(L);
  if (loop != NULL) rm_lua_loop_wake(L, loop);
  if (loop != NULL) rm_lua_loop_unref(L, loop);
  return 0;
}

void rm_lua_wait_open(lua_State *L, rm_lua_shared *shared) {
  static const luaL_Reg meta[] = {{"__gc", task_gc}, {"__close", task_end}, {NULL, NULL}};
  rm_lua_new_type(L, TASK_TYPE, meta, NULL);
  lua_pop(L, 2);
  if (shared->task != NULL) return; /* the module is loaded once more */
  shared->task = new_task(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &task_key);
}

/* The tail of every call. */

int rm_lua_end(lua_State *L, const rm_lua_link *link, int count) {
  rm_lua_shared *shared = link->shared;
  if (atomic_load_explicit(&shared->pending, memory_order_relaxed) != 0) rm_lua_hooks_dispatch(L, shared);
  if (shared->watched > 0) rm_lua_locks_dispatch(L, shared);
  return count;
}
