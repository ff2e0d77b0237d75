/* SPDX-License-Identifier: MIT */
/* client:pipeline(function(p) ... end): commands are formatted as they are added and sent together.
 *
 *      open --(the function returned, all was answered or failed, or an error went through)--> ended
 *
 *  The pipeline is a to-be-closed value of the C function that runs it, so that it ends on every way out. */
#include "binding.h"

#include "engine/script.h"

#define PIPELINE_TYPE "redmoon.pipeline"

typedef struct pipeline {
  rm_lua_op *op; /* the client's, in user value 1; NULL: ended */
  int64_t default_ttl_ms;
  rm_lua_shared *shared;
  lua_Integer count; /* commands that have a place among the replies */
} pipeline;
enum { SLOT_OP = 1, SLOT_CONDITIONAL = 2, SLOT_LOADED = 3, SLOTS = 3 };

static pipeline *check_open(lua_State *L, pipeline *p) {
  if (p->op == NULL) luaL_error(L, "the pipeline has ended: commands are added inside its function only");
  return p;
}

/* Remembers that a nil of the command just added means false. [-0, +0] */
static void mark_conditional(lua_State *L, const pipeline *p) {
  if (lua_getiuservalue(L, 1, SLOT_CONDITIONAL) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, SLOT_CONDITIONAL);
  }
  lua_pushboolean(L, 1);
  lua_rawseti(L, -2, p->count);
  lua_pop(L, 1);
}

/* Adds the command whose arguments are the stack's values from `first` on, all checked; pushes its index. [-0, +1]
 */
static int add_command(lua_State *L, pipeline *p, const rm_command *command, rm_lua_name name, int first) {
  rm_call *call = &p->op->call;
  rm_lua_put_command(L, name, first, lua_gettop(L), &call->request);
  redmoon_error err;
  if (rm_call_end(call, command, 0, &err) < 0) return luaL_error(L, "%s", err.message);
  lua_pushinteger(L, ++p->count);
  return 1;
}

/* p:<name>(...). Upvalues: method, name. */
static int pipeline_command(lua_State *L) {
  const rm_lua_method *method = lua_touserdata(L, lua_upvalueindex(1));
  pipeline *p = check_open(L, rm_lua_receiver(L, method));
  bool conditional = false;
  if (method->rewrite != RM_LUA_AS_WRITTEN) rm_lua_rewrite(L, method, p->default_ttl_ms, &conditional);
  rm_lua_check_args(L, 2, lua_gettop(L));
  add_command(L, p, rm_lua_method_command(L, method), (rm_lua_name){method->wire, method->wire_len, true}, 2);
  if (conditional) mark_conditional(L, p);
  return 1;
}

/* p:call(name, ...) */
static int pipeline_call(lua_State *L) {
  pipeline *p = check_open(L, luaL_checkudata(L, 1, PIPELINE_TYPE));
  const char *name;
  size_t len;
  const rm_command *command = rm_lua_call_command(L, &name, &len);
  return add_command(L, p, command, (rm_lua_name){name, len, false}, 3);
}

/* Loads the script at 2 once per pipeline, in front of its first run: EVALSHA in a pipeline has no second try. [-0,
 * +0] */
static void load_script(lua_State *L, pipeline *p, const redmoon_script *script) {
  if (lua_getiuservalue(L, 1, SLOT_LOADED) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, SLOT_LOADED);
  }
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pushvalue(L, 2);
    lua_pushboolean(L, 1);
    lua_rawset(L, -4);
    redmoon_bytes source = rm_script_source(script);
    redmoon_error err;
    if (rm_call_script_load(&p->op->call, source.ptr, source.len, &err) < 0) luaL_error(L, "%s", err.message);
  }
  lua_pop(L, 2);
}

/* p:run(script, keys, args) */
static int pipeline_run(lua_State *L) {
  pipeline *p = check_open(L, luaL_checkudata(L, 1, PIPELINE_TYPE));
  redmoon_script *script = rm_lua_script_check(L, 2);
  lua_settop(L, 4);
  size_t keys = rm_lua_list_len(L, 3, "keys"), values = rm_lua_list_len(L, 4, "args");
  rm_lua_args *args = rm_lua_args_new(L, keys + values);
  rm_lua_args_add_list(L, args, 3, "keys");
  rm_lua_args_add_list(L, args, 4, "args");
  load_script(L, p, script);
  redmoon_script_args run = {args->bytes, keys, args->bytes + keys, values};
  redmoon_error err;
  if (rm_call_evalsha(&p->op->call, redmoon_script_sha1(script), &run, rm_script_flags(script), &err) < 0)
    return luaL_error(L, "%s", err.message);
  lua_pushinteger(L, ++p->count);
  return 1;
}

/* Table of what each command came to; `failure` (NULL: none) is why some were not answered. [-0, +1] */
static void push_results(lua_State *L, const pipeline *p, int index, const redmoon_error *failure) {
  const rm_call *call = &p->op->call;
  bool conditions = lua_getiuservalue(L, index, SLOT_CONDITIONAL) == LUA_TTABLE;
  lua_createtable(L, (int)p->count, 1);
  const rm_result none = {NULL, REDMOON_NOT_SENT}; /* of a call that had no memory to begin */
  lua_Integer place = 0;
  for (size_t i = 0; i < call->request.count; i++) {
    if ((call->request.marks[i].flags & RM_CALL_HIDDEN) != 0) continue;
    const rm_result *result = i < call->results_cap ? &call->results[i] : &none;
    place++;
    if (result->reply != NULL) {
      bool unmet = false;
      if (conditions && result->reply->type == REDMOON_NIL) {
        unmet = lua_rawgeti(L, -2, place) != LUA_TNIL;
        lua_pop(L, 1);
      }
      if (unmet) lua_pushboolean(L, 0);
      else rm_lua_push_element(L, result->reply);
    } else {
      redmoon_error err = *failure;
      err.outcome = result->outcome;
      rm_lua_push_error(L, &err);
    }
    lua_rawseti(L, -2, place);
  }
  lua_pushinteger(L, place);
  lua_setfield(L, -2, "n");
  lua_remove(L, -2); /* the conditions */
}

/* The function has returned, or the wait goes on; stack: client, function, pipeline. */
static int finish(lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  lua_settop(L, 3);
  pipeline *p = lua_touserdata(L, 3);
  rm_call *call = &p->op->call;
  int count = 1;
  redmoon_error *err = &call->op.error;
  if (rm_lua_wait(L, &p->op->link, &p->op->waiter, &call->op, finish, 0) >= 0) {
    push_results(L, p, 3, err);
  } else {
    count = rm_lua_fail(L, err);
    push_results(L, p, 3, err);
    lua_setfield(L, -2, "replies");
  }
  lua_getiuservalue(L, 3, SLOT_OP);
  rm_lua_op_keep(L, p->op);
  return rm_lua_end(L, &p->op->link, count);
}

int rm_lua_client_pipeline(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  lua_settop(L, 2);
  pipeline *p = lua_newuserdatauv(L, sizeof *p, SLOTS);
  *p = (pipeline){NULL, client->default_ttl_ms, client->link.shared, 0};
  luaL_setmetatable(L, PIPELINE_TYPE);
  rm_lua_op *op = rm_lua_op_take(L, &client->link);
  lua_setiuservalue(L, 3, SLOT_OP);
  p->op = op;
  lua_toclose(L, 3);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 3);
  lua_callk(L, 1, 0, 0, finish);
  return finish(L, LUA_OK, 0);
}

/* __close and __gc */
static int pipeline_end(lua_State *L) {
  pipeline *p = lua_touserdata(L, 1);
  rm_lua_op *op = p->op;
  p->op = NULL;
  rm_lua_forget(&p->shared->pipeline, p);
  if (op != NULL && op->open && op->waiter.loop != NULL) rm_lua_op_close(L, op); /* left in the middle of its wait */
  else if (op != NULL && op->open) rm_lua_op_put(op);
  return 0;
}

static int pipeline_tostring(lua_State *L) {
  const pipeline *p = luaL_checkudata(L, 1, PIPELINE_TYPE);
  if (p->op == NULL) lua_pushliteral(L, PIPELINE_TYPE " (ended)");
  else lua_pushfstring(L, PIPELINE_TYPE " (%I commands)", (LUAI_UACINT)p->count);
  return 1;
}

void rm_lua_pipeline_open(lua_State *L, rm_lua_shared *shared) {
  static const luaL_Reg meta[] = {
      {"__gc", pipeline_end}, {"__close", pipeline_end}, {"__tostring", pipeline_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"call", pipeline_call}, {"run", pipeline_run}, {NULL, NULL}};
  rm_lua_new_type(L, PIPELINE_TYPE, meta, methods);
  shared->pipeline.meta = lua_topointer(L, -2);
  rm_lua_command_methods(L, pipeline_command, &shared->pipeline);
  lua_pop(L, 2);
}
