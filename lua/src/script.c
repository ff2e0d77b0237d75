/* SPDX-License-Identifier: MIT */
/* redmoon.script(source) and client:run(script, keys, args). */
#include "binding.h"

#include "engine/script.h"

#include <string.h>

#define SCRIPT_TYPE "redmoon.script"

typedef struct script {
  redmoon_script *script;
} script;

redmoon_script *rm_lua_script_check(lua_State *L, int index) {
  script *box = luaL_checkudata(L, index, SCRIPT_TYPE);
  luaL_argcheck(L, box->script != NULL, index, "the script is closed");
  return box->script;
}

int rm_lua_script_new(lua_State *L) {
  size_t len;
  const char *source = luaL_checklstring(L, 1, &len);
  lua_settop(L, 1);
  script *box = lua_newuserdatauv(L, sizeof *box, 1);
  box->script = NULL;
  luaL_setmetatable(L, SCRIPT_TYPE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 2, 1);
  redmoon_error err;
  if (redmoon_script_new(source, len, &box->script, &err) < 0) return rm_lua_fail(L, &err);
  return 1;
}

int rm_lua_client_run(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  redmoon_script *code = rm_lua_script_check(L, 2);
  lua_settop(L, 4);
  size_t keys = rm_lua_list_len(L, 3, "keys"), values = rm_lua_list_len(L, 4, "args");
  rm_lua_args *args = rm_lua_args_new(L, keys + values);
  rm_lua_args_add_list(L, args, 3, "keys");
  rm_lua_args_add_list(L, args, 4, "args");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  redmoon_script_args run = {args->bytes, keys, args->bytes + keys, values};
  rm_lua_op *op = rm_lua_op_take(L, &client->link);
  rm_call *call = &op->call;
  call->script = rm_script_source(code); /* for EVAL, where the server answers NOSCRIPT; the script is at 2 */
  int status = rm_call_evalsha(call, redmoon_script_sha1(code), &run, rm_script_flags(code), &call->op.error);
  return rm_lua_op_run(L, op, status, false);
}

static int script_gc(lua_State *L) {
  script *box = lua_touserdata(L, 1);
  redmoon_script *code = box->script;
  box->script = NULL;
  redmoon_script_unref(code);
  return 0;
}

static int script_close(lua_State *L) {
  luaL_checkudata(L, 1, SCRIPT_TYPE);
  script_gc(L);
  lua_pushboolean(L, 1);
  return 1;
}

static int script_tostring(lua_State *L) {
  script *box = luaL_checkudata(L, 1, SCRIPT_TYPE);
  lua_pushfstring(L, SCRIPT_TYPE " (%s)", box->script != NULL ? redmoon_script_sha1(box->script) : "closed");
  return 1;
}

/* script.sha1; else the method. Upvalue: method table. */
static int script_index(lua_State *L) {
  script *box = luaL_checkudata(L, 1, SCRIPT_TYPE);
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "sha1") == 0 && box->script != NULL) {
    lua_pushstring(L, redmoon_script_sha1(box->script));
    return 1;
  }
  lua_settop(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  return 1;
}

void rm_lua_script_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", script_gc}, {"__close", script_close}, {"__tostring", script_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", script_close}, {NULL, NULL}};
  rm_lua_new_type(L, SCRIPT_TYPE, meta, methods);
  lua_pushcclosure(L, script_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
