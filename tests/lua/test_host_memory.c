/* SPDX-License-Identifier: MIT */
/* A host whose allocators refuse: each step of the binding is run again and again, the n-th request for memory (of
 * Lua, then of the core) and all later ones refused, n = 1, 2, ... until it needs no more.  Whatever happens, the
 * step fails in an orderly way, no connection stays out, and the client serves the next call.  Leaks are ASan's to
 * find. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 3000 }; /* requests for memory of one step */

static const char *const steps[] = {
    "assert(client:set('k', ('v'):rep(100)))  assert(client:get('k') == ('v'):rep(100))",
    "assert(client:set('k', 'v', {ttl = 10, nx = false}))  local v, _, code = client:lpush('k', 1)\n"
    "assert(v == nil and code == 'WRONGTYPE')",
    "local r = assert(client:eval(\"return {1, {'a', {err = 'X y'}}, false}\", 0))  assert(r[1] == 1)",
    "client:hset('h', 'f', 1)  assert(client:hgetall('h').f == '1')",
    "local r = assert(client:pipeline(function(p) for i = 1, 20 do p:set('k' .. i, i, {nx = true}) end p:incr('h') "
    "end))\n"
    "assert(r.n == 21)",
    "local s = assert(redmoon.script(\"return {KEYS[1], ARGV[1]}\"))  assert(client:run(s, {'k'}, {1.5})[2] == "
    "'1.5')\n"
    "local r = assert(client:pipeline(function(p) p:run(s, {'k'}, {2}) end))  assert(r[1][2] == '2')",
    "local r = assert(client:transaction('k', function(tx) tx:get('k') tx:multi() tx:set('k', 1, {xx = true}) "
    "end))\n"
    "assert(r.n == 1)",
    "for i = 1, 30 do client:sadd('s', i) end  local n = 0  for _ in client:sscan('s') do n = n + 1 end  assert(n "
    ">= 30)",
    "local lock <close> = assert(client:lock('l'))  assert(lock:extend(5))  assert(lock.token and lock.fence)",
    "assert(client:with_lock('w', {ttl = 5}, function(lock) return lock:held() end))",
    "local l <close> = assert(client:rate_limiter{algorithm = 'sliding_log', limit = 1000, window = 1, name = "
    "'m'})\n"
    "assert(assert(l:allow('u')):headers().RateLimit)  assert(l:reset('u'))",
    "local n = 0  local h <close> = assert(client:on('command', function(e) n = n + e.attempt end))  client:ping()",
    "assert(client:stats().closed)  assert(client:metrics())",
    "local v <close> = assert(client:with{timeout = 5})  assert(v:ping() == 'PONG')",
    "local c <close> = assert(redmoon.connect(url, {pool_size = 2, credentials = function() return nil, 'any' "
    "end}))\n"
    "local _, _, code = c:ping()  assert(code == nil or code == 'ERR' or code == 'WRONGPASS')",
    "assert(not pcall(redmoon.connect, url, {pool_sise = 3}))  assert(not pcall(client.get, client, {}))",
};

typedef struct gate {
  long left; /* requests still granted; negative: all */
  bool refused;
} gate;

static bool grants(gate *g) {
  if (g->left < 0) return true;
  if (g->left > 0) {
    g->left--;
    return true;
  }
  g->refused = true;
  return false;
}

static void *lua_alloc(void *ctx, void *ptr, size_t old_size, size_t size) {
  (void)old_size;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  size_t held = ptr != NULL ? old_size : 0;
  if (size > held && !grants(ctx)) return NULL;
  return realloc(ptr, size);
}

static bool core_refuses(void *ctx, size_t size) {
  (void)size;
  return !grants(ctx);
}

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
  lua_State *L;
  gate lua, core;
} fixture;

/* Leaves the function of `text` on the stack. */
static void load(lua_State *L, const char *text) {
  char chunk[1024];
  snprintf(chunk, sizeof chunk, "local redmoon, client, url = redmoon, client, url  %s", text);
  if (luaL_loadstring(L, chunk) != LUA_OK) fail_msg("%s: %s", text, lua_tostring(L, -1));
}

static void run(lua_State *L, const char *text) {
  load(L, text);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) fail_msg("%s: %s", text, lua_tostring(L, -1));
}

static int start(void **state) {
  fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  *state = f;
  f->lua.left = f->core.left = -1;
  redmoon_error err;
  if (redmoon_embedded_start(NULL, &f->server, &err) < 0 ||
      redmoon_client_open(redmoon_embedded_url(f->server), NULL, &f->client, &err) < 0) {
    print_error("%s\n", err.message);
    return -1;
  }
  f->L = lua_newstate(lua_alloc, &f->lua);
  luaL_openlibs(f->L);
  luaL_requiref(f->L, "redmoon", luaopen_redmoon, 1);
  redmoon_lua_push_client(f->L, f->client);
  lua_setglobal(f->L, "client");
  lua_pushstring(f->L, redmoon_embedded_url(f->server));
  lua_setglobal(f->L, "url");
  lua_settop(f->L, 0);
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  if (f->L != NULL) lua_close(f->L);
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  free(f);
  return 0;
}

/* One step, with ever more memory, until nothing is refused. */
static void squeeze(fixture *f, const char *step, gate *g) {
  run(f->L, step); /* methods and buffers exist from here on, or the first refusals would all be theirs */
  for (long n = 0; n < MOST; n++) {
    run(f->L, "assert(client:flushall())"); /* without memory a lock is not even released */
    load(f->L, step);
    g->refused = false;
    g->left = n;
    int status = lua_pcall(f->L, 0, 0, 0);
    g->left = -1;
    if (!g->refused) {
      if (status != LUA_OK) fail_msg("%s: %s", step, lua_tostring(f->L, -1));
      return;
    }
    lua_settop(f->L, 0);
    run(f->L, "collectgarbage()  assert(client:ping() == 'PONG')");
    redmoon_stats stats;
    redmoon_client_stats(f->client, &stats);
    if (stats.in_use != 0) fail_msg("%s: with %ld grants a connection stayed out", step, n);
  }
  fail_msg("%s: still refused after %d grants", step, MOST);
}

static void lua_memory_errors_leave_the_client_whole(void **state) {
  fixture *f = *state;
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) squeeze(f, steps[i], &f->lua);
}

static void core_memory_errors_leave_the_client_whole(void **state) {
  fixture *f = *state;
  rm_alloc_set_refuse(core_refuses, &f->core);
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) squeeze(f, steps[i], &f->core);
  rm_alloc_set_refuse(NULL, NULL);
}

/* Makes a state, opens the module in it, and closes it; protected. */
static int open_module(lua_State *L) {
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  redmoon_lua_push_client(L, lua_touserdata(L, 1));
  return 0;
}

static void opening_the_module_without_memory_fails_cleanly(void **state) {
  fixture *f = *state;
  for (long n = 0; n < 20 * MOST; n += 7) {
    gate g = {-1, false};
    lua_State *L = lua_newstate(lua_alloc, &g);
    assert_non_null(L);
    lua_pushcfunction(L, open_module);
    lua_pushlightuserdata(L, f->client);
    g.left = n;
    int status = lua_pcall(L, 1, 0, 0);
    g.left = -1;
    lua_close(L);
    if (!g.refused) {
      assert_int_equal(status, LUA_OK);
      return;
    }
    assert_int_equal(status, LUA_ERRMEM);
  }
  fail_msg("the module takes more memory than expected");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(lua_memory_errors_leave_the_client_whole, start, stop),
      cmocka_unit_test_setup_teardown(core_memory_errors_leave_the_client_whole, start, stop),
      cmocka_unit_test_setup_teardown(opening_the_module_without_memory_fails_cleanly, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
