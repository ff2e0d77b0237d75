/* SPDX-License-Identifier: MIT */
/** For C hosts that embed Lua 5.4: the same module without files on disk, and one client shared among Lua states.
 *  Library `redmoon-lua`; it needs the host's Lua 5.4. */
#ifndef REDMOON_LUA_H
#define REDMOON_LUA_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lua_State lua_State;

/** As luaL_requiref expects it: pushes the module table of `require "redmoon"`. */
REDMOON_API int luaopen_redmoon(lua_State *L);
/** Pushes a client object that holds a reference of its own. [-0, +1]  May raise a memory error; no reference is lost
 *  then.  The module must have been opened in this state. */
REDMOON_API void redmoon_lua_push_client(lua_State *L, redmoon_client *client);
/** The client of the object at `index`; raises an argument error for anything else.  Borrowed: valid while the object
 *  lives (redmoon_client_ref to keep it). [-0, +0] */
REDMOON_API redmoon_client *redmoon_lua_check_client(lua_State *L, int index);

#ifdef __cplusplus
}
#endif
#endif
