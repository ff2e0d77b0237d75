/* SPDX-License-Identifier: MIT */
/* redmoon.embedded{...}: a private server that ends with the process, with its handle, or with close(). */
#include "binding.h"

#include <stddef.h>
#include <string.h>

#define EMBEDDED_TYPE "redmoon.embedded"

typedef struct embedded {
  redmoon_embedded *server; /* NULL: closed */
} embedded;

static const rm_option table[] = {
    {"dir", RM_OPTION_TEXT, offsetof(redmoon_embedded_options, dir), 0, 0, 0, "a directory"},
    {"server", RM_OPTION_TEXT, offsetof(redmoon_embedded_options, server), 0, 0, 0, "a program"},
    {"start_timeout", RM_OPTION_DURATION, offsetof(redmoon_embedded_options, start_timeout_ms), 1, 600000, 5000,
     "seconds from 0.001 to 600"},
    {"config", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a list of arguments"},
};

/* The list in field `config` of the table at 1 as a NULL-ended array, or NULL; its memory stays on the stack. [-0,
 * +2] */
static const char *const *read_config(lua_State *L) {
  if (lua_isnoneornil(L, 1) || lua_getfield(L, 1, "config") == LUA_TNIL) {
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_pushnil(L);
    return NULL;
  }
  size_t len = rm_lua_list_len(L, -1, "option 'config'");
  rm_lua_args *args = rm_lua_args_new(L, len + 1);
  rm_lua_args_add_list(L, args, -2, "option 'config'");
  for (size_t i = 0; i < len; i++)
    if (memchr(args->bytes[i].ptr, '\0', args->bytes[i].len) != NULL)
      luaL_error(L, "option 'config'[%d]: a NUL byte is not accepted", (int)i + 1);
  args->argv[len] = NULL;
  return args->argv;
}

int rm_lua_embedded_start(lua_State *L) {
  lua_settop(L, 1);
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  rm_lua_read_options(L, 1, table, sizeof table / sizeof table[0], &options);
  options.config = read_config(L);
  embedded *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->server = NULL;
  luaL_setmetatable(L, EMBEDDED_TYPE);
  redmoon_error err;
  if (redmoon_embedded_start(&options, &box->server, &err) < 0) return rm_lua_fail(L, &err);
  return 1;
}

/* server:connect([options]) */
static int embedded_connect(lua_State *L) {
  embedded *box = luaL_checkudata(L, 1, EMBEDDED_TYPE);
  luaL_argcheck(L, box->server != NULL, 1, "the server is closed");
  lua_settop(L, 2);
  lua_pushstring(L, redmoon_embedded_url(box->server));
  int count = rm_lua_connect(L, 3, 2);
  if (count == 1) { /* the client keeps the server from being collected */
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, RM_LUA_SLOT_SERVER);
  }
  return count;
}

static int embedded_gc(lua_State *L) {
  embedded *box = lua_touserdata(L, 1);
  redmoon_embedded *server = box->server;
  box->server = NULL;
  redmoon_embedded_close(server);
  return 0;
}

static int embedded_close(lua_State *L) {
  luaL_checkudata(L, 1, EMBEDDED_TYPE);
  embedded_gc(L);
  lua_pushboolean(L, 1);
  return 1;
}

static int embedded_tostring(lua_State *L) {
  embedded *box = luaL_checkudata(L, 1, EMBEDDED_TYPE);
  lua_pushfstring(L, EMBEDDED_TYPE " (%s)", box->server != NULL ? redmoon_embedded_url(box->server) : "closed");
  return 1;
}

/* server.url, server.pid; else the method. Upvalue: method table. */
static int embedded_index(lua_State *L) {
  embedded *box = luaL_checkudata(L, 1, EMBEDDED_TYPE);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (box->server != NULL && strcmp(field, "url") == 0) {
    lua_pushstring(L, redmoon_embedded_url(box->server));
  } else if (box->server != NULL && strcmp(field, "pid") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_embedded_pid(box->server));
  } else {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void rm_lua_embedded_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", embedded_gc}, {"__close", embedded_close}, {"__tostring", embedded_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", embedded_close}, {"connect", embedded_connect}, {NULL, NULL}};
  rm_lua_new_type(L, EMBEDDED_TYPE, meta, methods);
  lua_pushcclosure(L, embedded_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
