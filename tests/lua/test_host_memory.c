/* SPDX-License-Identifier: MIT */
/* A host whose allocators refuse: each step of the binding is run again and again, the n-th request for memory (of
 * Lua, then of the core) refused, alone or with all later ones, n = 1, 2, ... until it needs no more.  Whatever
 * happens, the step says "not enough memory", no connection stays out, the client serves the next call, and a state
 * gives all its memory back when it is closed.  Leaks of the core are ASan's to find. */
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
#include <string.h>

enum { MOST = 3000 }; /* requests for memory of one step */

static const char *const steps[] = {
    "assert(client:set('k', ('v'):rep(100)))  assert(assert(client:get('k')) == ('v'):rep(100))",
    "assert(client:set('k', 'v', {ttl = 10, nx = false}))  local v, why, code = client:lpush('k', 1)\n"
    "assert(v == nil and code == 'WRONGTYPE', why)",
    "local r = assert(client:eval(\"return {1, {'a', {err = 'X y'}}, false}\", 0))  assert(r[1] == 1)",
    "local h = assert(client:hgetall('hundred'))  assert(h.f1 == '1' and h.f100 == '100')",
    "local r = assert(client:pipeline(function(p) for i = 1, 20 do p:set('k' .. i, i, {nx = true}) end p:incr('h') "
    "end))\n"
    "assert(r.n == 21)",
    "local s = assert(redmoon.script(\"return {KEYS[1], ARGV[1]}\"))  assert(assert(client:run(s, {'k'}, "
    "{1.5}))[2] == "
    "'1.5')\n"
    "local r = assert(client:pipeline(function(p) p:run(s, {'k'}, {2}) end))  assert(r[1][2] == '2')",
    "local r = assert(client:transaction('k', function(tx) tx:get('k') tx:multi() tx:set('k', 1, {xx = true}) "
    "end))\n"
    "assert(r.n == 1)",
    "for i = 1, 30 do assert(client:sadd('s', i)) end  local n = 0  for _ in assert(client:sscan('s')) do n = n + "
    "1 end  assert(n "
    ">= 30)",
    "local saved  local r = assert(client:audit{match = 'h*', require_ttl = true, on_progress = function(_, save) saved = save() "
    "end})\n"
    "assert(r.complete and assert(client:audit{resume = saved}).total.keys == r.total.keys)\n"
    "local f = assert(client:audit_fix{match = 'hun*', ttl = 50, dry_run = false})\n"
    "for _, k in ipairs(f.keys) do assert(client:audit_undo(k.key, k.expires)) end",
    "local lock <close> = assert(client:lock('l'))  assert(lock:extend(5))  assert(lock.token and lock.fence)",
    "local c <close> = assert(client:cache{name = 'm', ttl = 5, on_error = 'error', seal_key = ('k'):rep(32)})\n"
    "assert(c:set('a', {1}))  assert(assert(c:get('a', error))[1] == 1)\n"
    "local v, why = c:get('b', function(key) return {key} end)  assert(v, why)  assert(v[1] == 'b')\n"
    "local l, fault = c:get_many({'a', 'b', 'd'}, function(keys) return {d = keys[1]} end)  assert(l, fault)\n"
    "for i = 1, 3 do assert(not redmoon.is_error(l[i]), tostring(l[i])) end  assert(l[3] == 'd')\n"
    "local p, what = c:peek('d')  assert(p, what)  assert(c:delete('d'))  assert(c:stats().loads)",
    "local s <close> = assert(client:semaphore('s', {permits = 1}))\n"
    "local permit <close> = assert(s:acquire(1, {request_id = tostring(math.random(1 << 60))}))\n"
    "assert(permit:extend())  assert(assert(s:stats()).in_use == 1)  assert(permit:release())",
    "local q <close> = assert(client:queue('m', {retention = 1}))\n"
    "assert(q:push({1}, {unique = tostring(math.random(1 << 60))}))  assert(#assert(q:push_many{{payload = 1}, {payload = 2}}) == 2)\n"
    "local job <close> = assert(q:pop())  assert(job:extend(5))  assert(job:progress(1))  local next <close> = assert(job:ack_next{result = 2})\n"
    "assert(next:nack{fatal = true, error = 'why'})  assert(#assert(q:dead()) > 0)  assert(#assert(q:extend_many{}) == 0)\n"
    "for _, one in ipairs(assert(q:pop_many(2))) do assert(one:ack()) end  assert(assert(q:stats()).pushed > 2)\n"
    "assert(assert(q:peek(next.id)).state == 'dead')  assert(q:purge('ready'))  assert(q:purge('dead'))  assert(#assert(q:check()).wrong == 0)",
    "local rw <close> = assert(client:rwlock('rw'))  local writer <close> = assert(rw:write())\n"
    "assert(client:fence_guard('rw', writer.fence))",
    "assert(client:with_lock('w', {ttl = 5}, function(lock) return lock:held() end))",
    "local l <close> = assert(client:rate_limiter{algorithm = 'sliding_log', limit = 1000, window = 1, name = "
    "'m'})\n"
    "assert(assert(l:allow('u')):headers().RateLimit)  assert(l:reset('u'))",
    "local l <close> = assert(client:blocklist('m', {on_error = 'error'}))\n"
    "assert(l:revoke{jti = 'a', exp = 2000000000})  assert(l:bump('u', {request_id = 'r'}))  assert(l:revoke_subject('u'))\n"
    "assert(assert(l:check_many{{jti = 'a'}, {sub = 'u', iat = 5.5}})[2].reason == 'subject')\n"
    "assert(l:rotate{family = 'f', new = 'a', ttl = 5})  assert(l:verify())  assert(#redmoon.new_jti() == 22)",
    "local n = 0  local h <close> = assert(client:on('command', function(e) n = n + e.attempt end))\n"
    "assert(client:ping())",
    "assert(client:stats().closed)  assert(client:metrics())",
    "local v <close> = assert(client:with{timeout = 5})  assert(assert(v:ping()) == 'PONG')",
    "local c <close> = assert(redmoon.connect(url, {pool_size = 2, credentials = function() return nil, 'any' "
    "end}))\n"
    "local _, why, code = c:ping()  assert(code == nil or code == 'ERR' or code == 'WRONGPASS', why)",
    "local q <close> = assert(client:list_queue('q', {codec = {encode = tostring, decode = tonumber}}))\n"
    "assert(q:push(5))  assert(assert(q:pop()) == 5)  local j = assert(client:list_queue('q', {codec = 'json'}))\n"
    "assert(j:push{1, {a = 2.5}})  assert(assert(j:pop(1))[2].a == 2.5)  assert(assert(j:length()) == 0)",
    "local q <close> = assert(client:stream_queue('s', {lease = 600}))\n"
    "assert(q:push({1}, {request_id = tostring(math.random(1 << 60))}))  assert(q:push_many{{payload = 2}, {payload = 'x'}})\n"
    "local job <close> = assert(q:pop(1))  assert(job:extend())  assert(job:ack())\n"
    "for _, more in ipairs(assert(q:pop_many(5))) do assert(more:nack{fatal = true, error = more}) end\n"
    "assert(assert(q:stats()).dead >= 1)  assert(#assert(q:dead()) >= 1)  assert(assert(q:redrive()) >= 1)",
    "local j = redmoon.json  local t = {a = {1, 2.5, ('x'):rep(100)}, b = j.array()}\n"
    "assert(#assert(j.decode(assert(j.encode(t)))).a == 3)  assert(select(3, j.decode('[')) ~= nil)",
    "assert(not pcall(redmoon.connect, url, {pool_sise = 3}))  assert(not pcall(client.get, client, {}))",
};

#define STEPS (sizeof steps / sizeof steps[0])

typedef struct gate {
  long left; /* requests still granted; negative: all */
  bool once; /* the request after those is refused, no later one */
  bool refused;
  size_t held; /* bytes that a Lua state has */
} gate;

static bool grants(gate *g) {
  if (g->left < 0) return true;
  if (g->left > 0) {
    g->left--;
    return true;
  }
  g->refused = true;
  if (g->once) g->left = -1;
  return false;
}

static void *lua_alloc(void *ctx, void *ptr, size_t old_size, size_t size) {
  gate *g = ctx;
  size_t held = ptr != NULL ? old_size : 0; /* else it is the kind of what is made */
  if (size > held && !grants(g)) return NULL;
  void *now = NULL;
  if (size == 0) free(ptr);
  else if ((now = realloc(ptr, size)) == NULL) return NULL;
  g->held = g->held - held + size;
  return now;
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

static lua_State *new_state(fixture *f) {
  lua_State *L = lua_newstate(lua_alloc, &f->lua);
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 1);
  redmoon_lua_push_client(L, f->client);
  lua_setglobal(L, "client");
  lua_pushstring(L, redmoon_embedded_url(f->server));
  lua_setglobal(L, "url");
  lua_settop(L, 0);
  return L;
}

/* Empties the database: without memory a lock is not even released. */
static void restore(lua_State *L) {
  run(L, "assert(client:flushall())  assert(client:eval(\"for i = 1, 100 do redis.call('HSET', 'hundred', 'f' .. "
         "i, i) \"\n"
         ".. 'end return 1', 0))");
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
  f->L = new_state(f);
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  rm_alloc_set_refuse(NULL, NULL);
  if (f->L != NULL) lua_close(f->L);
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  int left = f->lua.held == 0 ? 0 : -1;
  if (left != 0) print_error("the closed state keeps %zu bytes\n", f->lua.held);
  free(f);
  return left;
}

static void check_pool(const fixture *f, const char *step, long n) {
  redmoon_stats stats;
  redmoon_client_stats(f->client, &stats);
  if (stats.in_use != 0 || stats.waiting != 0 || stats.total != stats.idle)
    fail_msg("%s: with %ld grants: in_use %d, waiting %d, total %d, idle %d", step, n, (int)stats.in_use,
             (int)stats.waiting, (int)stats.total, (int)stats.idle);
}

/* What is left of a step that was refused memory: an error that says so, and a client as good as new. */
static void check_refused(fixture *f, const char *step, int status, long n) {
  if (status != LUA_OK) {
    const char *message = lua_tostring(f->L, -1);
    if (message == NULL || strstr(message, "not enough memory") == NULL)
      fail_msg("%s: with %ld grants: %s", step, n, message != NULL ? message : "no message");
  }
  lua_settop(f->L, 0);
  char follow_up[96];
  snprintf(follow_up, sizeof follow_up, "collectgarbage()  assert(client:echo('tag %ld') == 'tag %ld')", n, n);
  run(f->L, follow_up);
  check_pool(f, step, n);
}

/* One step, with ever more memory, until nothing is refused.  Returns the number of refusals. */
static long squeeze(fixture *f, const char *step, gate *g, bool once) {
  restore(f->L);
  run(f->L, step); /* methods and buffers exist from here on, or the first refusals would all be theirs */
  for (long n = 0; n < MOST; n++) {
    restore(f->L);
    load(f->L, step);
    g->refused = false;
    g->once = once;
    g->left = n;
    int status = lua_pcall(f->L, 0, 0, 0);
    g->left = -1;
    if (!g->refused) {
      if (status != LUA_OK) fail_msg("%s: %s", step, lua_tostring(f->L, -1));
      return n;
    }
    check_refused(f, step, status, n);
  }
  fail_msg("%s: still refused after %d grants", step, MOST);
  return 0;
}

static void squeeze_all(fixture *f, gate *g, const char *whose) {
  long refusals = 0;
  for (size_t i = 0; i < STEPS; i++) refusals += squeeze(f, steps[i], g, false) + squeeze(f, steps[i], g, true);
  print_message("%ld requests of %s for memory were refused\n", refusals, whose);
}

static void lua_memory_errors_leave_the_client_whole(void **state) {
  fixture *f = *state;
  squeeze_all(f, &f->lua, "Lua");
}

static void core_memory_errors_leave_the_client_whole(void **state) {
  fixture *f = *state;
  rm_alloc_set_refuse(core_refuses, &f->core);
  squeeze_all(f, &f->core, "the core");
  rm_alloc_set_refuse(NULL, NULL);
}

/* One step, then the end of its state, while memory is still refused.  True: some was. */
static bool close_after(fixture *f, const char *step, long n, bool once) {
  restore(f->L);
  load(f->L, step);
  f->lua.refused = false;
  f->lua.once = once;
  f->lua.left = n;
  (void)lua_pcall(f->L, 0, 0, 0);
  lua_close(f->L);
  f->lua.left = -1;
  f->L = NULL;
  if (f->lua.held != 0) fail_msg("%s: with %ld grants: %zu bytes left", step, n, f->lua.held);
  check_pool(f, step, n);
  f->L = new_state(f);
  return f->lua.refused;
}

/* What the objects of a state hold goes with it. */
static void a_state_closed_without_memory_gives_everything_back(void **state) {
  fixture *f = *state;
  long closed = 0;
  for (size_t i = 0; i < STEPS; i++) {
    for (int once = 0; once < 2; once++) {
      long n = 0;
      while (close_after(f, steps[i], n, once != 0)) n++;
      closed += n;
    }
  }
  print_message("%ld states were closed without memory\n", closed);
}

/* Opens the module in a state; protected. */
static int open_module(lua_State *L) {
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (lua_getfield(L, -1, "connect") != LUA_TFUNCTION) return luaL_error(L, "half a module");
  redmoon_lua_push_client(L, lua_touserdata(L, 1));
  return 0;
}

/* In a state of its own, which is closed.  True: some memory was refused. */
static bool open_with(fixture *f, long n, bool once) {
  gate g = {.left = -1};
  lua_State *L = lua_newstate(lua_alloc, &g);
  assert_non_null(L);
  lua_pushcfunction(L, open_module);
  lua_pushlightuserdata(L, f->client);
  g.once = once;
  g.left = n;
  int status = lua_pcall(L, 1, 0, 0);
  g.left = -1;
  lua_close(L);
  assert_int_equal(g.held, 0);
  /* Of one refusal Lua makes nothing when its emergency collection helps. */
  bool fine = status == LUA_OK && (once || !g.refused);
  if (!fine && !(status == LUA_ERRMEM && g.refused))
    fail_msg("with %ld grants, %s: status %d", n, once ? "one refusal" : "then none", status);
  return g.refused;
}

static void opening_the_module_without_memory_fails_cleanly(void **state) {
  fixture *f = *state;
  for (int once = 0; once < 2; once++) {
    long n = 0;
    while (open_with(f, n, once != 0)) n++;
    assert_true(n > 100);
    print_message("opening was refused memory %ld times\n", n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(lua_memory_errors_leave_the_client_whole, start, stop),
      cmocka_unit_test_setup_teardown(core_memory_errors_leave_the_client_whole, start, stop),
      cmocka_unit_test_setup_teardown(a_state_closed_without_memory_gives_everything_back, start, stop),
      cmocka_unit_test_setup_teardown(opening_the_module_without_memory_fails_cleanly, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
