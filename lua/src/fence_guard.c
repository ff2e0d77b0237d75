/* SPDX-License-Identifier: MIT */
/* client:fence_guard(resource, fence) */
#include "binding.h"

static int judged(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 1;
}

int rm_lua_client_fence_guard(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t len;
  const char *resource = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len >= 1 && len <= 512, 2, "a resource's name has 1 to 512 bytes");
  lua_Integer fence = luaL_checkinteger(L, 3);
  luaL_argcheck(L, fence >= 1 && fence <= INT64_C(9007199254740991), 3,
                "a fence is an integer from 1 to 9007199254740991");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_task *task = rm_lua_task_take(L, &client->link, judged);
  int started = redmoon_fence_guard_start(client->link.client, resource, len, fence, (int *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}
