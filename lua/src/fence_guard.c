/* SPDX-License-Identifier: MIT */
/* client:fence_guard(resource, fence) */
#include "binding.h"

int rm_lua_client_fence_guard(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t len;
  const char *resource = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len >= 1 && len <= 512, 2, "a resource's name has 1 to 512 bytes");
  lua_Integer fence = luaL_checkinteger(L, 3);
  luaL_argcheck(L, fence >= 1 && fence <= INT64_C(9007199254740991), 3,
                "a fence is an integer from 1 to 9007199254740991");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  int accepted = 0, count = 1;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_fence_guard_start(client->link.client, resource, len, fence, &accepted, &op, &err);
  if (rm_lua_run(L, &client->link, started, op, &err) < 0) count = rm_lua_fail(L, &err);
  else lua_pushboolean(L, accepted);
  return rm_lua_end(L, &client->link, count);
}
