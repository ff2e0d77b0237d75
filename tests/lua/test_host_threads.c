/* SPDX-License-Identifier: MIT */
/* A C host with a lua_State per thread: one client, one pool for all. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, ROUNDS = 200 };

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
} fixture;

typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  lua_CFunction body; /* called with the worker in a new state */
  int number;
  char failure[256]; /* empty: none; read by the main thread after the join */
} worker;

static const char script[] =
    "local client, number, rounds = ...\n"
    "local seen = 0\n"
    "local hook <close> = client:on('command', function() seen = seen + 1 end)\n"
    "for i = 1, rounds do\n"
    "  assert(client:incr('count'))\n"
    "  local key, value = 'mine:' .. number, number .. ':' .. i\n"
    "  assert(client:set(key, value))\n"
    "  assert(client:get(key) == value)\n"
    "  local replies = assert(client:pipeline(function(p) p:echo(value) p:incr('count') end))\n"
    "  assert(replies[1] == value)\n"
    "end\n"
    "assert(seen > 0)\n"
    "local lock\n"
    "repeat lock = client:lock('shared') until lock\n"
    "assert(client:get('holder') == nil)\n"
    "client:set('holder', number)  client:del('holder')\n"
    "assert(lock:release())\n";

static int run_script(lua_State *L) {
  worker *self = lua_touserdata(L, 1);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (luaL_loadbufferx(L, script, sizeof script - 1, "=worker", "t") != LUA_OK) return lua_error(L);
  redmoon_lua_push_client(L, self->client);
  lua_pushinteger(L, self->number);
  lua_pushinteger(L, ROUNDS);
  lua_call(L, 3, 0);
  return 0;
}

static void *work(void *arg) {
  worker *self = arg;
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    snprintf(self->failure, sizeof self->failure, "no state");
    return NULL;
  }
  lua_pushcfunction(L, self->body);
  lua_pushlightuserdata(L, self);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) snprintf(self->failure, sizeof self->failure, "%s", lua_tostring(L, -1));
  lua_close(L);
  return NULL;
}

static int start(void **state) {
  fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  *state = f;
  redmoon_error err;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 3; /* fewer than threads, so that some wait */
  options.min_idle = 1;  /* and the keeper runs */
  if (redmoon_embedded_start(NULL, &f->server, &err) == 0 &&
      redmoon_client_open(redmoon_embedded_url(f->server), &options, &f->client, &err) == 0)
    return 0;
  print_error("%s\n", err.message);
  return -1;
}

static int stop(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  free(f);
  return 0;
}

static void states_of_many_threads_share_one_client(void **state) {
  fixture *f = *state;
  worker workers[THREADS] = {{0}};
  for (int i = 0; i < THREADS; i++) {
    workers[i].client = f->client;
    workers[i].body = run_script;
    workers[i].number = i + 1;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < THREADS; i++)
    if (workers[i].failure[0] != '\0') fail_msg("thread %d: %s", workers[i].number, workers[i].failure);
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_command(f->client, 2, (const char *[]){"GET", "count"}, NULL, &reply, &err), 0);
  assert_int_equal(atoi(redmoon_reply_string(reply, NULL)), 2 * THREADS * ROUNDS);
  redmoon_reply_free(reply);
  redmoon_stats stats;
  redmoon_client_stats(f->client, &stats);
  assert_true(stats.dials <= 3);
  assert_int_equal(stats.in_use, 0);
}

/* A pool of one connection, which a transaction of one state holds while another state asks for it. */

static const char impatient_script[] =
    "local client = ...\n"
    "local view <close> = client:with{pool_timeout = 0.02, max_retries = 0}\n"
    "local value, message, code, detail = view:set('k', 'v')\n"
    "assert(value == nil and code == 'POOL_TIMEOUT', message)\n"
    "assert(message:find('size 1: 1 in use', 1, true), message)\n"
    "assert(detail.outcome == 'not_sent' and detail.phase == 'pool' and detail.retryable)\n";

static const char holding_script[] = "local client, run_other_state = ...\n"
                                     "assert(client:transaction('k', function(tx)\n"
                                     "  assert(tx:get('k') == nil)\n"
                                     "  run_other_state()\n"
                                     "  assert(select(3, client:get('k')) == 'POOL_DEADLOCK')\n"
                                     "  tx:multi()\n"
                                     "  tx:set('k', 1)\n"
                                     "end))\n"
                                     "assert(client:get('k') == '1' and client:stats().timeouts == 1)\n";

static int be_impatient(lua_State *L) {
  worker *self = lua_touserdata(L, 1);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (luaL_loadbufferx(L, impatient_script, sizeof impatient_script - 1, "=impatient", "t") != LUA_OK)
    return lua_error(L);
  redmoon_lua_push_client(L, self->client);
  lua_call(L, 1, 0);
  return 0;
}

static int run_other_state(lua_State *L) {
  worker *other = lua_touserdata(L, lua_upvalueindex(1));
  if (pthread_create(&other->thread, NULL, work, other) != 0) return luaL_error(L, "no thread");
  pthread_join(other->thread, NULL);
  return other->failure[0] != '\0' ? luaL_error(L, "%s", other->failure) : 0;
}

static void a_state_that_waits_for_another_is_timed_out(void **state) {
  fixture *f = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 1;
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redmoon_embedded_url(f->server), &options, &client, NULL), 0);
  worker other = {.client = client, .body = be_impatient};
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  assert_int_equal(luaL_loadbufferx(L, holding_script, sizeof holding_script - 1, "=holding", "t"), LUA_OK);
  redmoon_lua_push_client(L, client);
  lua_pushlightuserdata(L, &other);
  lua_pushcclosure(L, run_other_state, 1);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
  lua_close(L);
  redmoon_client_close(client);
}

static int check_wrong(lua_State *L) {
  redmoon_lua_check_client(L, 1);
  return 0;
}

static void only_a_client_is_taken_for_one(void **state) {
  fixture *f = *state;
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 1);
  redmoon_lua_push_client(L, f->client);
  assert_ptr_equal(redmoon_lua_check_client(L, -1), f->client);
  lua_setglobal(L, "client");
  lua_register(L, "check", check_wrong);
  assert_int_equal(luaL_dostring(L, "check(client)"), LUA_OK);
  assert_int_equal(luaL_dostring(L, "assert(not pcall(check, 1))  assert(not pcall(check, io.stdout))"), LUA_OK);
  assert_int_equal(
      luaL_dostring(L, "assert(require 'redmoon'.transaction == nil)  assert(require 'redmoon.locking')"), LUA_OK);
  assert_int_equal(luaL_dostring(L, "client:close()  assert(not pcall(check, client))"), LUA_OK);
  lua_close(L);
  redmoon_reply *reply; /* the host's own reference is untouched */
  assert_int_equal(redmoon_command(f->client, 1, (const char *[]){"PING"}, NULL, &reply, NULL), 0);
  redmoon_reply_free(reply);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(states_of_many_threads_share_one_client, start, stop),
      cmocka_unit_test_setup_teardown(a_state_that_waits_for_another_is_timed_out, start, stop),
      cmocka_unit_test_setup_teardown(only_a_client_is_taken_for_one, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
