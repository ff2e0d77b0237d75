/* SPDX-License-Identifier: MIT */
/* The module without files on disk: the Lua sources are in the library, and `require` finds them in
 * package.preload. */
#include "binding.h"

#include "lua_modules_generated.h"

#include <string.h>

/* A preload function. Upvalue: index of the module. */
static int load_module(lua_State *L) {
  const rm_lua_module *module = &rm_lua_modules[lua_tointeger(L, lua_upvalueindex(1))];
  lua_settop(L, 2);
  const char *chunk = lua_pushfstring(L, "=%s", module->name);
  if (luaL_loadbufferx(L, module->source, module->len, chunk, "t") != LUA_OK) return lua_error(L);
  lua_pushstring(L, module->name);
  lua_call(L, 1, 1);
  return 1;
}

int luaopen_redmoon(lua_State *L) {
  size_t main = rm_lua_module_count;
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_redmoon_core);
  lua_setfield(L, -2, "redmoon.core");
  for (size_t i = 0; i < rm_lua_module_count; i++) {
    if (strcmp(rm_lua_modules[i].name, "redmoon") == 0) main = i;
    lua_pushinteger(L, (lua_Integer)i);
    lua_pushcclosure(L, load_module, 1);
    lua_setfield(L, -2, rm_lua_modules[i].name);
  }
  lua_pop(L, 1);
  if (main == rm_lua_module_count) return luaL_error(L, "this build of redmoon-lua holds no module");
  lua_pushinteger(L, (lua_Integer)main);
  lua_pushcclosure(L, load_module, 1);
  lua_call(L, 0, 1);
  return 1;
}
