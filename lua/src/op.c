/* SPDX-License-Identifier: MIT */
/* Boxes for C resources: references to clients, the reusable call, and the guard of whatever else is held for a
 * moment. */
#include "binding.h"

#include <string.h>

#define OP_TYPE "redmoon.op"
#define GUARD_TYPE "redmoon.guard"

void rm_lua_link_set(rm_lua_link *to, const rm_lua_link *from) {
  to->client = redmoon_client_ref(from->client);
  to->credentials = from->credentials;
  to->loop = from->loop;
  to->shared = from->shared;
  if (to->credentials != NULL) rm_lua_credentials_ref(to->credentials);
  if (to->loop != NULL) rm_lua_loop_ref(to->loop);
}

void rm_lua_link_drop(lua_State *L, rm_lua_link *link) {
  redmoon_client *client = link->client;
  rm_lua_credentials *credentials = link->credentials;
  link->client = NULL;
  rm_lua_loop *loop = link->loop;
  link->credentials = NULL;
  link->loop = NULL;
  redmoon_client_close(client);
  if (credentials != NULL) rm_lua_credentials_unref(L, credentials);
  if (loop != NULL) rm_lua_loop_unref(L, loop);
}

/* The reusable call. */

/* [-0, +1] */
static rm_lua_op *new_op(lua_State *L, const rm_lua_link *link) {
  rm_lua_op *op = lua_newuserdatauv(L, sizeof *op, 0);
  memset(op, 0, sizeof *op);
  luaL_setmetatable(L, OP_TYPE);
  rm_lua_link_set(&op->link, link);
  rm_call_init(&op->call, op->link.client, false);
  op->open = true;
  return op;
}

/* In an event loop a call under way is its coroutine's alone: if that is forgotten, it must be collected. */
rm_lua_op *rm_lua_op_take(lua_State *L, const rm_lua_link *link) {
  rm_lua_op *op = NULL;
  if (lua_getiuservalue(L, 1, RM_LUA_SLOT_OP) == LUA_TUSERDATA) op = lua_touserdata(L, -1);
  bool is_free = op != NULL && !op->busy && op->open;
  if (!is_free) {
    lua_pop(L, 1);
    op = new_op(L, link);
  }
  if (link->loop != NULL) lua_pushnil(L);
  else lua_pushvalue(L, -1);
  if (is_free && link->loop == NULL) lua_pop(L, 1);
  else lua_setiuservalue(L, 1, RM_LUA_SLOT_OP);
  op->busy = true;
  op->place = lua_gettop(L);
  return op;
}

void rm_lua_op_keep(lua_State *L, rm_lua_op *op) {
  const rm_lua_client *client = lua_touserdata(L, 1);
  if (op->link.loop != NULL && client->link.client != NULL) lua_setiuservalue(L, 1, RM_LUA_SLOT_OP);
  else lua_pop(L, 1);
}

void rm_lua_op_put(rm_lua_op *op) {
  rm_call_reset(&op->call);
  op->busy = false;
}

void rm_lua_op_close(lua_State *L, rm_lua_op *op) {
  if (!op->open) return;
  op->open = false;
  rm_lua_waiter_abandon(L, &op->waiter);
  rm_bell *bell = op->call.op.bell.bell;
  uintptr_t before = rm_bell_enter(bell); /* it may have led others */
  rm_call_fini(&op->call);
  rm_bell_leave(bell, before);
  rm_lua_link_drop(L, &op->link);
}

static int end(lua_State *L, rm_lua_op *op, int status) {
  rm_call *call = &op->call;
  int count = status < 0 ? rm_lua_fail(L, &call->op.error) : rm_lua_push_answer(L, call, op->conditional);
  rm_lua_op_put(op);
  lua_pushvalue(L, op->place);
  rm_lua_op_keep(L, op);
  return rm_lua_end(L, &op->link, count);
}

static int resume(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  rm_lua_op *op = (rm_lua_op *)ctx;
  return end(L, op, rm_lua_wait(L, &op->link, &op->waiter, &op->call.op, resume, ctx));
}

int rm_lua_op_run(lua_State *L, rm_lua_op *op, int status, bool conditional) {
  op->conditional = conditional;
  if (status < 0) return end(L, op, status);
  if (op->link.loop != NULL) lua_toclose(L, -1);
  return resume(L, LUA_OK, (lua_KContext)op);
}

static int op_gc(lua_State *L) {
  rm_lua_op_close(L, lua_touserdata(L, 1));
  return 0;
}

/* The call has ended; or its coroutine was closed, or an error went through. */
static int op_end(lua_State *L) {
  rm_lua_op *op = lua_touserdata(L, 1);
  rm_lua_loop *loop = op->link.loop;
  if (!op->busy) return 0;
  if (loop != NULL) rm_lua_loop_ref(loop);
  rm_lua_op_close(L, op);
  if (loop != NULL) rm_lua_loop_wake(L, loop);
  if (loop != NULL) rm_lua_loop_unref(L, loop);
  return 0;
}

/* Guards. */

static int guard_gc(lua_State *L) {
  rm_lua_guard_end(lua_touserdata(L, 1));
  return 0;
}

rm_lua_guard *rm_lua_guard_new(lua_State *L, void (*drop)(void *ptr)) {
  rm_lua_guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
  guard->ptr = NULL;
  guard->drop = drop;
  luaL_setmetatable(L, GUARD_TYPE);
  return guard;
}

void rm_lua_guard_end(rm_lua_guard *guard) {
  void *ptr = guard->ptr;
  guard->ptr = NULL;
  if (ptr != NULL) guard->drop(ptr);
}

static void drop_reply(void *ptr) { redmoon_reply_free(ptr); }

rm_lua_guard *rm_lua_reply_guard(lua_State *L) { return rm_lua_guard_new(L, drop_reply); }

void rm_lua_op_open(lua_State *L) {
  static const luaL_Reg op_meta[] = {{"__gc", op_gc}, {"__close", op_end}, {NULL, NULL}};
  static const luaL_Reg guard_meta[] = {{"__gc", guard_gc}, {"__close", guard_gc}, {NULL, NULL}};
  rm_lua_new_type(L, OP_TYPE, op_meta, NULL);
  rm_lua_new_type(L, GUARD_TYPE, guard_meta, NULL);
  lua_pop(L, 4);
}
