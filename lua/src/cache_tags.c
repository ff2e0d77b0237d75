/* SPDX-License-Identifier: MIT */
/* Tags of a cache's values, as Lua gives them: in the options of a set, by a loader beside its value, and to be ended. */
#include "cache.h"

#include "base/error.h"

const redmoon_bytes *rm_lua_cache_set_tags(lua_State *L, int index, size_t *count) {
  lua_pushnil(L);
  *count = 0;
  if (!lua_istable(L, index)) return NULL;
  lua_pushliteral(L, "tags");
  lua_rawget(L, index);
  lua_replace(L, -2);
  *count = rm_lua_list_len(L, lua_gettop(L), "option 'tags'");
  if (*count == 0) return NULL;
  rm_lua_args *args = rm_lua_args_new(L, *count);
  rm_lua_args_add_list(L, args, lua_gettop(L) - 1, "option 'tags'");
  lua_replace(L, -2); /* the options keep the list */
  return args->bytes;
}

int rm_lua_cache_take_tags(lua_State *L, int index, redmoon_op *op, size_t load, redmoon_error *err) {
  redmoon_bytes tags[REDMOON_CACHE_TAGS_MAX];
  int top = lua_gettop(L), type = lua_type(L, index);
  if (type == LUA_TNIL) return 0;
  if (type != LUA_TTABLE)
    return rm_fail(err, REDMOON_ECONFIG, "the loader's tags are a %s, not a list of strings", lua_typename(L, type));
  size_t count = lua_rawlen(L, index);
  if (count > REDMOON_CACHE_TAGS_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "the loader gave %zu tags; up to %d are accepted", count, REDMOON_CACHE_TAGS_MAX);
  luaL_checkstack(L, REDMOON_CACHE_TAGS_MAX + 5, NULL);
  int status = 0;
  for (size_t i = 0; i < count && status == 0; i++) {
    type = lua_rawgeti(L, index, (lua_Integer)i + 1); /* on the stack numbers may become texts */
    if (type == LUA_TSTRING || type == LUA_TNUMBER) tags[i].ptr = lua_tolstring(L, -1, &tags[i].len);
    else status = rm_fail(err, REDMOON_ECONFIG, "the loader's tag %zu is a %s, not a string", i + 1, lua_typename(L, type));
  }
  if (status == 0) status = redmoon_cache_op_tags(op, load, tags, count, err);
  lua_settop(L, top);
  return status;
}

int rm_lua_cache_push_tags(lua_State *L, int index, redmoon_error *err) {
  int type = lua_type(L, index);
  if (type == LUA_TTABLE) {
    lua_pushliteral(L, "tags");
    lua_rawget(L, index);
    return 0;
  }
  lua_pushnil(L);
  if (type == LUA_TNIL || type == LUA_TNONE) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "the loader returned a %s beside what it found, not a table with its tags",
                 lua_typename(L, type));
}

/* cache:invalidate_tags(tag, ...) */
int rm_lua_cache_invalidate_tags(lua_State *L) {
  rm_lua_cache *c = rm_lua_cache_check(L);
  int count = lua_gettop(L) - 1;
  luaL_argcheck(L, count >= 1, 2, "a tag expected");
  rm_lua_check_args(L, 2, count + 1);
  rm_lua_args *args = rm_lua_args_new(L, (size_t)count);
  rm_lua_args_add(L, args, 2, count + 1);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(
      L, task, redmoon_cache_invalidate_tags_start(c->cache, args->bytes, args->count, &task->op, &task->err));
}
