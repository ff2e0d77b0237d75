/* SPDX-License-Identifier: MIT */
/* The rules of docs/hosts.md that have to do with Lua states: whatever a state leaves open is taken back when it is closed,
 * whoever else is at work; and Redmoon's threads keep off Lua, off signals, and off the states' memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <poll.h>
#include <pthread.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fixture {
  redis_server *server;
  redmoon_client *client;
} fixture;

#define AWAIT(condition)                                   \
  do {                                                     \
    for (int turn = 0; !(condition); turn++) {             \
      if (turn > 20000) fail_msg("never: %s", #condition); \
      poll(NULL, 0, 1);                                    \
    }                                                      \
  } while (0)

static redmoon_stats stats_of(const redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return stats;
}

/* Protected: (client, url, chunk).  Calls the chunk with client, url and the module. */
static int run_chunk(lua_State *L) {
  redmoon_client *client = lua_touserdata(L, 1);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (luaL_loadbufferx(L, lua_touserdata(L, 3), strlen(lua_touserdata(L, 3)), "=chunk", "t") != LUA_OK) return lua_error(L);
  redmoon_lua_push_client(L, client);
  lua_pushstring(L, lua_touserdata(L, 2));
  lua_pushvalue(L, 4);
  lua_call(L, 3, 0);
  return 0;
}

/* False: `failure` says why. */
static bool run_in(lua_State *L, redmoon_client *client, const char *url, const char *chunk, char failure[256]) {
  lua_pushcfunction(L, run_chunk);
  lua_pushlightuserdata(L, client);
  lua_pushlightuserdata(L, (void *)(uintptr_t)url);
  lua_pushlightuserdata(L, (void *)(uintptr_t)chunk);
  if (lua_pcall(L, 3, 0, 0) == LUA_OK) return true;
  snprintf(failure, 256, "%s", lua_tostring(L, -1));
  return false;
}

/* ---- states that are closed with everything open ---- */

static const char leaves_all_open[] =
    "local client, url, redmoon = ...\n"
    "lock = assert(client:lock('lock:' .. redmoon.new_jti(), {renew = true}))\n"
    "sub = assert(client:subscribe{channels = {'news'}})\n"
    "hook = assert(client:on('command', function() end))\n"
    "cache = assert(client:cache{name = 'c', ttl = 60})\n"
    "assert(cache:get('k', function() return 1 end))\n"
    "queue = assert(client:queue('q:' .. redmoon.new_jti()))\n"
    "assert(queue:push{1})\n"
    "job = assert(queue:pop(1, {renew = true}))\n"
    /* And a coroutine in the middle of a call, by a loop that never goes on. */
    "mine = assert(redmoon.connect(url, {loop = {wait = function() coroutine.yield() end}}))\n"
    "co = coroutine.create(function() mine:blpop('nothing', 0) end)\n"
    "for _ = 1, 100 do assert(coroutine.resume(co)) end\n";

typedef struct worker {
  pthread_t thread;
  const fixture *f;
  atomic_bool *over;
  int calls;
  char failure[256];
} worker;

static void *come_and_go(void *arg) {
  worker *self = arg;
  for (int i = 0; i < 20 && self->failure[0] == '\0'; i++) {
    lua_State *L = luaL_newstate();
    if (L == NULL) break;
    run_in(L, self->f->client, redis_server_url(self->f->server), leaves_all_open, self->failure);
    lua_close(L);
  }
  return NULL;
}

static void *call_on(void *arg) {
  worker *self = arg;
  char tag[32];
  snprintf(tag, sizeof tag, "%p", arg);
  while (!atomic_load(self->over) && self->failure[0] == '\0') {
    redmoon_reply *reply;
    redmoon_error err;
    if (redmoon_command(self->f->client, 2, (const char *[]){"ECHO", tag}, NULL, &reply, &err) != 0)
      snprintf(self->failure, sizeof self->failure, "%.200s", err.message);
    else if (strcmp(redmoon_reply_string(reply, NULL), tag) != 0) snprintf(self->failure, sizeof self->failure, "mixed up");
    redmoon_reply_free(reply);
    self->calls++;
  }
  return NULL;
}

static void states_come_and_go_while_others_call(void **state) {
  fixture *f = *state;
  enum { STATES = 3, OTHERS = 2, ALL = STATES + OTHERS };
  worker workers[ALL];
  atomic_bool over = false;
  for (int i = 0; i < ALL; i++) {
    workers[i] = (worker){.f = f, .over = &over};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, i < STATES ? come_and_go : call_on, &workers[i]), 0);
  }
  for (int i = 0; i < ALL; i++) {
    if (i == STATES) atomic_store(&over, true);
    pthread_join(workers[i].thread, NULL);
  }
  for (int i = 0; i < ALL; i++)
    if (workers[i].failure[0] != '\0') fail_msg("%d: %s", i, workers[i].failure);
  for (int i = STATES; i < ALL; i++) assert_true(workers[i].calls > 0);
  redmoon_stats stats = stats_of(f->client);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.subscriptions, 0);
}

/* ---- the order of closing ---- */

static void a_state_may_outlive_the_hosts_own_reference(void **state) {
  fixture *f = *state;
  redmoon_client *client;
  char failure[256] = "";
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.client_name = "kept";
  assert_int_equal(redmoon_client_open(redis_server_url(f->server), &options, &client, NULL), 0);
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  if (!run_in(L, client, "", "kept = ...  assert(kept:set('kept', 1))", failure)) fail_msg("%s", failure);
  redmoon_client_close(client);
  if (luaL_dostring(L, "assert(kept:get('kept') == '1')") != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
  lua_close(L); /* the last reference: the connection goes */
  for (int i = 0, gone = 0; !gone; i++) {
    redmoon_reply *reply = ask(f->client, "CLIENT", "LIST", NULL);
    gone = strstr(redmoon_reply_string(reply, NULL), "name=kept") == NULL;
    redmoon_reply_free(reply);
    assert_true(i < 20000);
  }
}

static const char blocks[] = "local client = ...\n"
                             "local value, message, code, detail = client:blpop('nothing at all', 0)\n"
                             "assert(value == nil and code == 'CLOSED', message)\n"
                             "assert(select(3, client:ping()) == 'CLOSED')\n";

static void *block(void *arg) {
  worker *self = arg;
  lua_State *L = luaL_newstate();
  if (L == NULL) return NULL;
  if (run_in(L, self->f->client, "", blocks, self->failure)) self->calls = 1;
  lua_close(L);
  return NULL;
}

static int64_t blocked_clients(const redis_server *server) {
  char *info = redis_server_ask(server, NULL, "INFO clients");
  const char *at = strstr(info, "blocked_clients:");
  int64_t count = at != NULL ? atoll(at + strlen("blocked_clients:")) : 0;
  free(info);
  return count;
}

static void a_shutdown_ends_the_calls_of_every_state(void **state) {
  fixture *f = *state, own = {.server = f->server};
  enum { MANY = 4 };
  worker workers[MANY];
  assert_int_equal(redmoon_client_open(redis_server_url(f->server), NULL, &own.client, NULL), 0);
  for (int i = 0; i < MANY; i++) {
    workers[i] = (worker){.f = &own};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, block, &workers[i]), 0);
  }
  AWAIT(blocked_clients(f->server) == MANY);
  redmoon_client_shutdown(own.client);
  for (int i = 0; i < MANY; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < MANY; i++)
    if (workers[i].calls != 1) fail_msg("%d: %s", i, workers[i].failure);
  redmoon_client_close(own.client);
}

/* ---- an operation, from thread to thread ---- */

static void *step_once(void *op) { return redmoon_op_step(op) ? op : NULL; }

static void an_operation_may_go_from_thread_to_thread(void **state) {
  fixture *f = *state;
  for (int multiplex = 0; multiplex < 2; multiplex++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.multiplex = multiplex;
    redmoon_client *client;
    redmoon_reply *reply;
    redmoon_op *op;
    assert_int_equal(redmoon_client_open(redis_server_url(f->server), &options, &client, NULL), 0);
    assert_int_equal(redmoon_command_start(client, 2, (const char *[]){"ECHO", "tag"}, NULL, &reply, &op, NULL), 0);
    for (void *done = NULL; done == NULL;) { /* a thread for each step */
      pthread_t thread;
      assert_int_equal(pthread_create(&thread, NULL, step_once, op), 0);
      assert_int_equal(pthread_join(thread, &done), 0);
    }
    assert_int_equal(redmoon_op_finish(op, NULL), 0);
    assert_string_equal(redmoon_reply_string(reply, NULL), "tag");
    redmoon_reply_free(reply);
    redmoon_client_close(client);
  }
}

/* ---- shared connections: coroutines of a loop and threads that block, in the same lanes ---- */

/* Who is parked goes on when woken, and now and then by himself, as after a time. */
static const char coroutines[] =
    "local _, url, redmoon = ...\n"
    "local waiting, parked, ready, turns = {}, {}, {}, 0\n"
    "local loop = {\n"
    "  wait = function() waiting[#waiting + 1] = coroutine.running() coroutine.yield() end,\n"
    "  park = function(key) parked[key] = coroutine.running() coroutine.yield() parked[key] = nil end,\n"
    "  wake = function(key) ready[#ready + 1] = parked[key] parked[key] = nil end,\n"
    "}\n"
    "local client = assert(redmoon.connect(url, {loop = loop, multiplex = true}))\n"
    "share(client)\n"
    "local left = 16\n"
    "for i = 1, left do\n"
    "  ready[i] = coroutine.create(function()\n"
    "    for j = 1, 100 do local tag = i .. ':' .. j  assert(client:echo(tag) == tag) end\n"
    "    left = left - 1\n"
    "  end)\n"
    "end\n"
    "while left > 0 do\n"
    "  local now = ready  ready, turns = {}, turns + 1\n"
    "  if #now == 0 then now, waiting = waiting, {} end\n"
    "  if turns % 100 == 0 then for _, co in pairs(parked) do now[#now + 1] = co end  parked = {} end\n"
    "  for _, co in ipairs(now) do assert(coroutine.resume(co)) end\n"
    "end\n"
    "client:close()\n";

enum { SHARERS = 20 }; /* more than may have a connection each */

typedef struct sharing {
  fixture f; /* its client is the one that the coroutines use */
  atomic_bool over;
  worker workers[SHARERS];
} sharing;

/* share(client): threads begin to call by it, too. */
static int share(lua_State *L) {
  sharing *self = lua_touserdata(L, lua_upvalueindex(1));
  self->f.client = redmoon_client_ref(redmoon_lua_check_client(L, 1));
  for (int i = 0; i < SHARERS; i++) {
    self->workers[i] = (worker){.f = &self->f, .over = &self->over};
    if (pthread_create(&self->workers[i].thread, NULL, call_on, &self->workers[i]) != 0) return luaL_error(L, "no thread");
  }
  return 0;
}

static void coroutines_and_threads_share_connections(void **state) {
  static sharing self;
  const fixture *f = *state;
  char failure[256] = "";
  self.f = *f;
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  lua_pushlightuserdata(L, &self);
  lua_pushcclosure(L, share, 1);
  lua_setglobal(L, "share");
  bool ok = run_in(L, f->client, redis_server_url(f->server), coroutines, failure);
  atomic_store(&self.over, true);
  for (int i = 0; i < SHARERS; i++) pthread_join(self.workers[i].thread, NULL);
  lua_close(L);
  redmoon_client_close(self.f.client);
  if (!ok) fail_msg("%s", failure);
  for (int i = 0; i < SHARERS; i++)
    if (self.workers[i].failure[0] != '\0') fail_msg("%d: %s", i, self.workers[i].failure);
}

/* ---- memory, and functions of Lua ---- */

typedef struct owner {
  pthread_t thread;
  atomic_int strangers; /* requests for memory from other threads */
} owner;

static void *alloc_by_owner(void *ctx, void *ptr, size_t old_size, size_t size) {
  owner *self = ctx;
  (void)old_size;
  if (!pthread_equal(self->thread, pthread_self())) atomic_fetch_add(&self->strangers, 1);
  if (size > 0) return realloc(ptr, size);
  free(ptr);
  return NULL;
}

/* What a state hears of while others are at work: hooks, a lock that is lost, messages, credentials. */
static const char hears_of_others[] =
    "local client, url, redmoon = ...\n"
    "local heard, lost = 0, 0\n"
    "local hook <close> = client:on('command', function() heard = heard + 1 end)\n"
    "local sub <close> = assert(client:subscribe{channels = {'news'}, buffer = 10})\n"
    "local lock = assert(client:lock('mine', {ttl = 0.2, renew = true, on_lost = function() lost = lost + 1 end}))\n"
    "local asked <close> = assert(redmoon.connect(url, {min_idle = 2, credentials = function() return nil, '' end}))\n"
    "asked:ping()\n"
    "assert(client:del('redmoon:{mine}:lock'))\n"
    "repeat assert(client:publish('news', 'x'))  assert(sub:receive(5)) until heard > 1000 and lost == 1\n"
    "lock:close()\n";

static void memory_of_a_state_is_asked_for_on_its_own_thread(void **state) {
  fixture *f = *state;
  enum { MANY = 3 };
  owner self = {.thread = pthread_self()};
  atomic_bool over = false;
  worker workers[MANY];
  char failure[256] = "";
  for (int i = 0; i < MANY; i++) {
    workers[i] = (worker){.f = f, .over = &over};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, call_on, &workers[i]), 0);
  }
  lua_State *L = lua_newstate(alloc_by_owner, &self);
  assert_non_null(L);
  bool ok = run_in(L, f->client, redis_server_url(f->server), hears_of_others, failure);
  lua_close(L);
  atomic_store(&over, true);
  for (int i = 0; i < MANY; i++) pthread_join(workers[i].thread, NULL);
  if (!ok) fail_msg("%s", failure);
  assert_int_equal(self.strangers, 0);
}

/* ---- signals ---- */

static bool same_action(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags;
}

static void no_signal_is_handled_or_taken(void **state) {
  fixture *f = *state;
  struct sigaction before[32], now;
  sigset_t only, was, pending;
  for (int i = 1; i < 32; i++) assert_int_equal(sigaction(i, NULL, &before[i]), 0);
  sigemptyset(&only);
  sigaddset(&only, SIGUSR1); /* would end the process, were it delivered to any thread */
  assert_int_equal(pthread_sigmask(SIG_BLOCK, &only, &was), 0);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = 2;
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(f->server), &options, &client, NULL), 0);
  AWAIT(stats_of(client).idle == 2); /* so there is a thread */
  assert_int_equal(kill(getpid(), SIGUSR1), 0);
  redmoon_reply_free(ask(client, "PING", NULL));
  assert_int_equal(sigpending(&pending), 0);
  assert_int_equal(sigismember(&pending, SIGUSR1), 1);
  int got;
  assert_int_equal(sigwait(&only, &got), 0);
  redmoon_client_close(client);
  for (int i = 1; i < 32; i++) {
    assert_int_equal(sigaction(i, NULL, &now), 0);
    assert_true(same_action(&before[i], &now));
  }
  assert_int_equal(pthread_sigmask(SIG_SETMASK, &was, NULL), 0);
}

static int start(void **state) {
  static fixture f;
  *state = &f;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 4; /* fewer than callers */
  f.server = redis_server_start(NULL);
  return redmoon_client_open(redis_server_url(f.server), &options, &f.client, NULL);
}

static int stop(void **state) {
  fixture *f = *state;
  redmoon_client_close(f->client);
  redis_server_stop(f->server);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(states_come_and_go_while_others_call),
      cmocka_unit_test(a_state_may_outlive_the_hosts_own_reference),
      cmocka_unit_test(a_shutdown_ends_the_calls_of_every_state),
      cmocka_unit_test(an_operation_may_go_from_thread_to_thread),
      cmocka_unit_test(coroutines_and_threads_share_connections),
      cmocka_unit_test(memory_of_a_state_is_asked_for_on_its_own_thread),
      cmocka_unit_test(no_signal_is_handled_or_taken),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
