/* SPDX-License-Identifier: MIT */
/* redmoon.core: the C half of `require "redmoon"`. */
#include "binding.h"

#include "json.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <string.h>

static const char shared_key; /* registry: rm_lua_shared */

rm_lua_shared *rm_lua_shared_get(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &shared_key);
  rm_lua_shared *shared = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (shared == NULL) luaL_error(L, "the module redmoon has not been opened in this state");
  return shared;
}

/* redmoon.connect([url] [, options]) */
static int connect_client(lua_State *L) {
  if (lua_istable(L, 1) && lua_isnoneornil(L, 2)) {
    lua_settop(L, 1);
    return rm_lua_connect(L, 0, 1);
  }
  lua_settop(L, 2);
  return rm_lua_connect(L, 1, 2);
}

/* redmoon.build_info(): what a bug report should say. */
static int build_info(lua_State *L) {
  lua_createtable(L, 0, 6);
  lua_pushstring(L, redmoon_version());
  lua_setfield(L, -2, "version");
  lua_pushliteral(L, REDMOON_VERSION);
  lua_setfield(L, -2, "module_version");
  lua_pushliteral(L, LUA_RELEASE);
  lua_setfield(L, -2, "lua");
  lua_pushstring(L, sodium_version_string());
  lua_setfield(L, -2, "libsodium");
  lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION));
  lua_setfield(L, -2, "openssl");
  lua_pushliteral(L, JANSSON_VERSION);
  lua_setfield(L, -2, "jansson");
  return 1;
}

/* One for the life of the state, however often the module is loaded: objects point to it. [-0, +0] */
static rm_lua_shared *open_shared(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &shared_key) == LUA_TUSERDATA) {
    rm_lua_shared *shared = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return shared;
  }
  lua_pop(L, 1);
  rm_lua_shared *shared = lua_newuserdatauv(L, sizeof *shared, 0);
  memset(shared, 0, sizeof *shared);
  atomic_init(&shared->pending, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &shared_key);
  return shared;
}

int luaopen_redmoon_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"connect", connect_client},   {"embedded", rm_lua_embedded_start},
                                       {"script", rm_lua_script_new}, {"is_error", rm_lua_is_error},
                                       {"build_info", build_info},    {"new_jti", rm_lua_new_jti},
                                       {"rate_limits", rm_lua_rate_limits}, {"queue_sleep", rm_lua_queue_sleep},
                                       {"redlock", rm_lua_redlock},
                                       {"queue_spawns", rm_lua_queue_spawns},
                                       {"subscription_next", rm_lua_subscription_next},
                                       {"subscription_spawn", rm_lua_subscription_spawn},
                                       {NULL, NULL}};
  luaL_checkversion(L);
  luaL_newlib(L, functions);
  rm_lua_shared *shared = open_shared(L);
  rm_lua_error_open(L);
  rm_lua_op_open(L);
  rm_lua_wait_open(L, shared);
  rm_lua_audit_open(L);
  rm_lua_audit_fix_open(L);
  rm_lua_blocklist_open(L);
  rm_lua_cache_open(L);
  rm_lua_client_open(L, shared);
  rm_lua_pipeline_open(L, shared);
  rm_lua_script_open(L);
  rm_lua_scan_open(L);
  rm_lua_gate_open(L);
  rm_lua_job_open(L);
  rm_lua_list_queue_open(L);
  rm_lua_counter_open(L);
  rm_lua_lock_open(L);
  rm_lua_permit_open(L);
  rm_lua_rate_limiter_open(L);
  rm_lua_records_open(L);
  rm_lua_sessions_open(L);
  rm_lua_rwlock_open(L);
  rm_lua_semaphore_open(L);
  rm_lua_stream_queue_open(L);
  rm_lua_subscription_open(L);
  lua_setfield(L, -2, "subscription_methods");
  rm_lua_topic_open(L);
  rm_lua_topic_cursor_open(L);
  rm_lua_hooks_open(L);
  rm_lua_embedded_open(L);
  rm_lua_system_open(L);
  lua_setfield(L, -2, "system");
  rm_lua_queue_open(L);
  lua_setfield(L, -2, "queue_methods");
  rm_lua_redlock_open(L);
  lua_setfield(L, -2, "redlock_methods");
  rm_lua_json_open(L);
  lua_setfield(L, -2, "json");
  rm_lua_transaction_open(L, shared);
  lua_setfield(L, -2, "transaction");
  luaL_getmetatable(L, "redmoon.client");
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "client_methods"); /* for methods written in Lua */
  lua_pop(L, 1);
  rm_lua_push_null(L);
  lua_setfield(L, -2, "null");
  lua_pushstring(L, redmoon_version());
  lua_setfield(L, -2, "version");
  return 1;
}
