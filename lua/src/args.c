/* SPDX-License-Identifier: MIT */
/* Lua values as arguments of commands: strings, integers, floats; anything else raises before a byte is formatted.
 */
#include "binding.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#define ACCEPTED "string or number"

void rm_lua_check_args(lua_State *L, int first, int last) {
  for (int i = first; i <= last; i++) {
    int type = lua_type(L, i);
    if (type != LUA_TSTRING && type != LUA_TNUMBER) luaL_typeerror(L, i, ACCEPTED);
  }
}

void rm_lua_put_args(lua_State *L, int first, int last, rm_request *request) {
  for (int i = first; i <= last; i++) {
    if (lua_type(L, i) == LUA_TSTRING) {
      size_t len;
      const char *ptr = lua_tolstring(L, i, &len); /* no conversion: cannot raise */
      rm_request_arg(request, ptr, len);
    } else if (lua_isinteger(L, i)) {
      rm_request_integer(request, (int64_t)lua_tointeger(L, i));
    } else {
      rm_request_double(request, lua_tonumber(L, i));
    }
  }
}

void rm_lua_put_command(lua_State *L, rm_lua_name name, int first, int last, rm_request *request) {
  rm_request_begin(request, (size_t)(last - first + 2));
  if (name.formatted)
    rm_request_formatted(request, name.text, name.len);
  else
    rm_request_arg(request, name.text, name.len);
  rm_lua_put_args(L, first, last, request);
}

rm_lua_args *rm_lua_args_new(lua_State *L, size_t cap) {
  const size_t each = sizeof(redmoon_bytes) + sizeof(const char *) + sizeof(size_t) + sizeof(char[32]);
  if (cap > (SIZE_MAX - sizeof(rm_lua_args)) / each) rm_lua_raise(L, "too many arguments");
  rm_lua_args *args = lua_newuserdatauv(L, sizeof *args + cap * each, 0);
  args->count = 0;
  args->cap = cap;
  args->bytes = (redmoon_bytes *)(args + 1);
  args->argv = (const char **)(args->bytes + cap);
  args->lens = (size_t *)(args->argv + cap);
  args->text = (char(*)[32])(args->lens + cap);
  return args;
}

void rm_lua_args_add_bytes(rm_lua_args *args, const char *ptr, size_t len) {
  size_t i = args->count;
  if (i == args->cap) return;
  args->bytes[i] = (redmoon_bytes){ptr, len};
  args->argv[i] = ptr;
  args->lens[i] = len;
  args->count = i + 1;
}

/* The string or number at `index`. [-0, +0], never raises */
static void add_value(lua_State *L, rm_lua_args *args, int index) {
  if (lua_type(L, index) == LUA_TSTRING) {
    size_t len;
    const char *ptr = lua_tolstring(L, index, &len);
    rm_lua_args_add_bytes(args, ptr, len);
    return;
  }
  char *text = args->text[args->count];
  lua_Number number = lua_tonumber(L, index);
  int is_integer;
  lua_Integer integer = lua_tointegerx(L, index, &is_integer); /* of integral floats, too */
  size_t len =
      is_integer ? (size_t)snprintf(text, 32, "%" PRId64, (int64_t)integer) : rm_format_double(text, number);
  text[len] = '\0';
  rm_lua_args_add_bytes(args, text, len);
}

void rm_lua_args_add(lua_State *L, rm_lua_args *args, int first, int last) {
  for (int i = first; i <= last; i++) add_value(L, args, i);
}

size_t rm_lua_list_len(lua_State *L, int index, const char *what) {
  if (lua_isnoneornil(L, index)) return 0;
  if (!lua_istable(L, index))
    rm_lua_raise(L, "%s: a list of strings or numbers expected, got %s", what, luaL_typename(L, index));
  return (size_t)lua_rawlen(L, index);
}

void rm_lua_args_add_list(lua_State *L, rm_lua_args *args, int index, const char *what) {
  size_t len = rm_lua_list_len(L, index, what);
  for (size_t i = 1; i <= len; i++) {
    int type = lua_rawgeti(L, index, (lua_Integer)i);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
      rm_lua_raise(L, "%s[%d]: " ACCEPTED " expected, got %s", what, (int)i, lua_typename(L, type));
    add_value(L, args, -1); /* the list keeps the string alive */
    lua_pop(L, 1);
  }
}
