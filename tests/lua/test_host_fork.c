/* SPDX-License-Identifier: MIT */
/* fork() in a host with a Lua state: the child goes on with its copy, or closes it, and nothing of the parent's is touched. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/quiet_fork.h"
#include "support/redis_server.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char before_fork[] = "lock = assert(client:lock('theirs', {ttl = 60}))\n"
                                  "sub = assert(client:subscribe{channels = {'news'}})\n"
                                  "hook = assert(client:on('command', function() heard = (heard or 0) + 1 end))\n"
                                  "permit = assert(client:semaphore('s', {permits = 1, ttl = 60}):acquire())\n"
                                  "queue = assert(client:queue('q', {lease = 60}))\n"
                                  "assert(queue:push{1})  job = assert(queue:pop(1))\n"
                                  "tx_id = assert(client:call('CLIENT', 'ID'))\n";

static const char in_child[] = "assert(client:incr('children'))\n"
                               "assert(client:call('CLIENT', 'ID') ~= tx_id)\n"
                               "assert(select(3, client:lock('theirs')) == 'LOCKED')\n"
                               "assert(select(3, sub:receive(0)) == 'CLOSED')\n"
                               "local own <close> = assert(client:lock('own'))\n"
                               "assert(heard > 0)\n";

static const char in_parent[] = "assert(lock:held() and lock:extend())\n"
                                "assert(permit:extend())\n"
                                "assert(job:extend() and job:ack())\n"
                                "assert(client:call('CLIENT', 'ID') == tx_id)\n"
                                "assert(client:publish('news', 'still here') == 1)\n"
                                "assert(assert(sub:receive(20)).payload == 'still here')\n"
                                "assert(client:get('children') == expected)\n";

static void run(lua_State *L, const char *chunk) {
  if (luaL_dostring(L, chunk) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
}

static lua_State *open_state(redmoon_client *client) {
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 1);
  redmoon_lua_push_client(L, client);
  lua_setglobal(L, "client");
  lua_settop(L, 0);
  return L;
}

static void a_child_goes_on_with_its_copy_and_closes_it(void **state) {
  redis_server *server = *state;
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  lua_State *L = open_state(client);
  run(L, before_fork);
  int children = 0;
  for (int way = 0; way < 3; way++) { /* it calls and closes; closes alone; does nothing */
    pid_t pid = quiet_fork();
    if (pid == 0) {
      alarm(60);
      int status = way == 0 && luaL_dostring(L, in_child) != LUA_OK;
      if (status != 0) fprintf(stderr, "child: %s\n", lua_tostring(L, -1));
      if (way < 2) {
        lua_close(L);
        redmoon_client_close(client);
      }
      _exit(status);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    children += way == 0;
  }
  lua_pushfstring(L, "%d", children);
  lua_setglobal(L, "expected");
  run(L, in_parent);
  lua_close(L);
  redmoon_client_close(client);
}

static int start(void **state) {
  *state = redis_server_start(NULL);
  return 0;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_child_goes_on_with_its_copy_and_closes_it)};
  return cmocka_run_group_tests(tests, start, stop);
}
