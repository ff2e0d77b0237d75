/* SPDX-License-Identifier: MIT */
/* Methods named like commands, made when they are first asked for: client:zadd(...), pipeline:get(...). */
#include "binding.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

void rm_lua_new_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  if (meta != NULL) luaL_setfuncs(L, meta, 0);
  lua_pushliteral(L, "redmoon");
  lua_setfield(L, -2, "__metatable"); /* getmetatable() does not lead to __gc */
  lua_newtable(L);
  if (methods != NULL) luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__index"); /* metatable.__index = method table */
}

void *rm_lua_receiver(lua_State *L, const rm_lua_method *method) {
  void *object = lua_touserdata(L, 1);
  if (object != NULL && object == method->type->known) return object;
  if (object != NULL && lua_getmetatable(L, 1)) {
    bool ours = lua_topointer(L, -1) == method->type->meta;
    lua_pop(L, 1);
    if (ours) {
      method->type->known = object;
      return object;
    }
  }
  luaL_error(L, "call it as a method: object:%s(...), with a colon", lua_tostring(L, lua_upvalueindex(2)));
  return NULL;
}

/* Whether the table of commands names subcommands of it. */
static bool has_subcommands(const char *name, size_t len) {
  size_t count = rm_command_count();
  for (size_t i = 0; i < count; i++) {
    const char *known = rm_command_at(i)->name;
    if (strncmp(known, name, len) == 0 && known[len] == ' ') return true;
  }
  return false;
}

const rm_command *rm_lua_method_command(lua_State *L, const rm_lua_method *method) {
  if (!method->has_subcommands || lua_type(L, 2) != LUA_TSTRING) return method->command;
  size_t len;
  const char *sub = lua_tolstring(L, 2, &len);
  return rm_command_find(method->name, method->len, sub, len);
}

const rm_command *rm_lua_call_command(lua_State *L, const char **name, size_t *len) {
  *name = luaL_checklstring(L, 2, len);
  luaL_argcheck(L, *len > 0, 2, "the name of a command expected");
  rm_lua_check_args(L, 3, lua_gettop(L));
  size_t sub_len = 0;
  const char *sub = lua_type(L, 3) == LUA_TSTRING ? lua_tolstring(L, 3, &sub_len) : NULL;
  return rm_command_find(*name, *len, sub, sub_len);
}

/* methods.__index(methods, name): upvalues: the function, the type. */
static int make_method(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  size_t len;
  const char *name = lua_tolstring(L, 2, &len);
  if (len == 0 || name[0] == '_') return 0; /* nobody's command: what tools look for in any object */
  if (len > RM_LUA_NAME_MAX) return luaL_error(L, "a command's name has at most %d bytes", RM_LUA_NAME_MAX);
  for (size_t i = 0; i < len; i++) {
    bool fits = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_';
    if (!fits)
      return luaL_error(L,
                        "methods have lower-case names of a-z, 0-9 and _; for others there is call(\"NAME\", ...)");
  }
  rm_lua_method *method = lua_newuserdatauv(L, sizeof *method, 0);
  memset(method, 0, sizeof *method);
  method->len = len;
  for (size_t i = 0; i < len; i++) method->name[i] = (char)toupper((unsigned char)name[i]);
  method->wire_len = (size_t)snprintf(method->wire, sizeof method->wire, "$%zu\r\n%s\r\n", len, method->name);
  method->command = rm_command_find(method->name, len, NULL, 0);
  method->has_subcommands = has_subcommands(method->name, len);
  method->type = lua_touserdata(L, lua_upvalueindex(2));
  if (strcmp(method->name, "SET") == 0) method->rewrite = RM_LUA_SET;
  if (strcmp(method->name, "GETEX") == 0) method->rewrite = RM_LUA_GETEX;
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, lua_tocfunction(L, lua_upvalueindex(1)), 2); /* upvalues: method, name */
  lua_pushvalue(L, 2);
  lua_pushvalue(L, -2);
  lua_rawset(L, 1); /* next time it is found at once */
  return 1;
}

void rm_lua_command_methods(lua_State *L, lua_CFunction fn, rm_lua_type *type) {
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, type);
  lua_pushcclosure(L, make_method, 2);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
}
