/* SPDX-License-Identifier: MIT */
/* redmoon.core.system: what the command-line tool asks of the operating system, and Lua's library has not.  It is no
 * part of the module's public face. */
#include "binding.h"

#include "base/clock.h"

#include <math.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* [-0, +0] */
static int check_descriptor(lua_State *L) {
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "0, 1 or 2 expected");
  return (int)fd;
}

/* is_terminal(0 | 1 | 2) */
static int is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty(check_descriptor(L)));
  return 1;
}

/* size(0 | 1 | 2) -> columns, rows; nil where nobody knows */
static int size(lua_State *L) {
  struct winsize window = {0};
  if (ioctl(check_descriptor(L), TIOCGWINSZ, &window) != 0 || window.ws_col == 0) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, window.ws_col);
  lua_pushinteger(L, window.ws_row);
  return 2;
}

/* now() -> seconds of a clock that is never set */
static int now(lua_State *L) {
  lua_pushnumber(L, (lua_Number)rm_clock_now_us() / 1e6);
  return 1;
}

/* wall() -> seconds since 1970, to show beside the server's: for no decision */
static int wall(lua_State *L) {
  struct timespec ts = {0};
  clock_gettime(CLOCK_REALTIME, &ts);
  lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
  return 1;
}

/* sleep(seconds) -> false when a signal ended it */
static int sleep_for(lua_State *L) {
  lua_Number seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 1, "seconds from 0 to 86400 expected");
  lua_Number whole = floor(seconds);
  struct timespec ts = {.tv_sec = (time_t)whole, .tv_nsec = (long)((seconds - whole) * 1e9)};
  lua_pushboolean(L, nanosleep(&ts, NULL) == 0);
  return 1;
}

void rm_lua_system_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"is_terminal", is_terminal}, {"now", now},   {"size", size},
                                       {"sleep", sleep_for},         {"wall", wall}, {NULL, NULL}};
  luaL_newlib(L, functions);
}
