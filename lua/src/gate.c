/* SPDX-License-Identifier: MIT */
/* A gate: a coroutine of an event loop waits at it until another one of its state opens it.  For what is written in Lua:
 * queue:work, whose coroutines tell by it that they have ended. */
#include "binding.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/event.h"

#include <string.h>

#define GATE_TYPE "redmoon.gate"

typedef struct gate {
  rm_lua_link link;
  rm_event event;
  bool is_open; /* until somebody has passed */
} gate;

typedef struct gate_op {
  redmoon_op op; /* first */
  gate *gate;    /* the stack of whoever waits keeps it */
  int64_t wait_us, end_us;
} gate_op;

/* Without a client: who waits here waits for coroutines, and those end by themselves when it is closed. */
static int gate_step(redmoon_op *op, int64_t now_us) {
  gate_op *self = (gate_op *)op;
  if (self->end_us < 0) self->end_us = now_us + self->wait_us;
  rm_event_clear(&self->gate->event);
  bool passes = self->gate->is_open;
  self->gate->is_open = false;
  op->wants = (rm_wants){self->gate->event.fd, REDMOON_WANT_READ, self->end_us};
  return passes || now_us >= self->end_us ? RM_DONE : RM_WAIT;
}

static void gate_destroy(redmoon_op *op) { rm_free(op); }

static const rm_op_class gate_class = {gate_step, NULL, gate_destroy, NULL};

static int start(gate *g, int64_t wait_us, redmoon_op **out, redmoon_error *err) {
  gate_op *self = rm_calloc(1, sizeof *self);
  rm_error_clear(err);
  if (self == NULL) return rm_fail_nomem(err);
  self->op.class = &gate_class;
  self->op.wants.fd = -1;
  self->gate = g;
  self->wait_us = wait_us;
  self->end_us = -1;
  *out = &self->op;
  return 0;
}

/* gate:wait(seconds): until it is opened, or was, or the time is over */
static int gate_wait(lua_State *L) {
  gate *g = luaL_checkudata(L, 1, GATE_TYPE);
  int64_t wait_us = (int64_t)(luaL_checknumber(L, 2) * 1e6);
  rm_lua_task *task = rm_lua_task_take(L, &g->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, start(g, wait_us, &task->op, &task->err));
}

/* gate:open(): lets whoever waits pass, or who comes next */
static int gate_open(lua_State *L) {
  gate *g = luaL_checkudata(L, 1, GATE_TYPE);
  g->is_open = true;
  rm_event_signal(&g->event);
  return 0;
}

static int gate_gc(lua_State *L) {
  gate *g = lua_touserdata(L, 1);
  rm_event_close(&g->event);
  rm_lua_link_drop(L, &g->link);
  return 0;
}

void rm_lua_gate_new(lua_State *L, const rm_lua_link *link) {
  gate *g = lua_newuserdatauv(L, sizeof *g, 0);
  memset(g, 0, sizeof *g);
  g->event = (rm_event)RM_EVENT_INIT;
  luaL_setmetatable(L, GATE_TYPE);
  if (rm_event_open(&g->event) < 0) luaL_error(L, "an eventfd to wait on cannot be had: too many descriptors are open");
  rm_lua_link_set(&g->link, link);
}

void rm_lua_gate_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", gate_gc}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"open", gate_open}, {"wait", gate_wait}, {NULL, NULL}};
  rm_lua_new_type(L, GATE_TYPE, meta, methods);
  lua_pop(L, 2);
}
