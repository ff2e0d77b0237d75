/* SPDX-License-Identifier: MIT */
/* A C host under load: 8 threads, each with one lua_State after another, share one client of 4 connections for 10^5
 * calls.  Every call carries a tag that nobody else uses and must get its own answer back, while deadlines pass,
 * connections are killed, callbacks raise, coroutines are abandoned, the collector storms, and states are closed in
 * the middle of it all.    lua_threads [CALLS]      SEED in the environment repeats a run's choices */
#include "support/redis_server.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 8, CONNECTIONS = 4, CALLS = 100000 };

static const char script[] = "tests/soak/lua_threads.lua"; /* from the top of the sources, where tests run */

typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  int number;
  lua_Integer seed, calls, made, failed, lives;
  char failure[512]; /* empty: none; read by the main thread after the join */
} worker;

static int tally(lua_State *L) {
  worker *self = lua_touserdata(L, lua_upvalueindex(1));
  self->made = lua_tointeger(L, 1);
  self->failed = lua_tointeger(L, 2);
  return 0;
}

static int run_script(lua_State *L) {
  worker *self = lua_touserdata(L, 1);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (luaL_loadfilex(L, script, "t") != LUA_OK) return lua_error(L);
  redmoon_lua_push_client(L, self->client);
  lua_pushinteger(L, self->number);
  lua_pushinteger(L, self->lives);
  lua_pushinteger(L, self->seed);
  lua_pushinteger(L, self->calls);
  lua_pushlightuserdata(L, self);
  lua_pushcclosure(L, tally, 1);
  lua_call(L, 6, 0);
  return 0;
}

/* One state; returns whether all went well. */
static bool live(worker *self) {
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    snprintf(self->failure, sizeof self->failure, "no state");
    return false;
  }
  lua_pushcfunction(L, run_script);
  lua_pushlightuserdata(L, self);
  bool ok = lua_pcall(L, 1, 0, 0) == LUA_OK;
  if (!ok) snprintf(self->failure, sizeof self->failure, "%s", lua_tostring(L, -1));
  lua_close(L);
  return ok;
}

static void *work(void *arg) {
  worker *self = arg;
  lua_Integer left = self->calls, failed = 0, made = 0;
  for (self->lives = 1; left > 0; self->lives++) {
    self->calls = left < 50 ? left : 50 + (self->seed * 31 + self->lives * 7919) % 1950;
    if (self->calls > left) self->calls = left;
    self->made = self->failed = 0;
    bool ok = live(self);
    made += self->made;
    failed += self->failed;
    left -= self->calls;
    if (!ok) break;
  }
  self->made = made;
  self->failed = failed;
  return NULL;
}

static int passed, failures;

static void check(bool holds, const char *what) {
  passed += holds;
  failures += !holds;
  if (!holds) printf("FAILED: %s\n", what);
}

static bool prepare(redmoon_client *client) {
  redmoon_error err;
  redmoon_reply *reply;
  const char *fill =
      "redis.call('SET', 'string', 'x') for i = 1, 50 do redis.call('SADD', 'members', 'member' .. i) end";
  if (redmoon_command(client, 3, (const char *[]){"EVAL", fill, "0"}, NULL, &reply, &err) != 0) {
    printf("%s\n", err.message);
    return false;
  }
  redmoon_reply_free(reply);
  return true;
}

/* The keeper may just be dialling for min_idle: waits until it is done. */
static void settle(redmoon_client *client, redmoon_stats *stats) {
  const struct timespec moment = {.tv_nsec = 1000000};
  for (int i = 0; i < 10000; i++) {
    redmoon_client_stats(client, stats);
    if (stats->in_use == 0 && stats->waiting == 0 && stats->total == stats->idle) return;
    nanosleep(&moment, NULL);
  }
}

static void run_all(redmoon_client *client, lua_Integer seed, lua_Integer calls) {
  static worker workers[THREADS];
  lua_Integer made = 0, failed = 0, lives = 0;
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.client = client, .number = i + 1, .seed = seed + i, .calls = calls / THREADS};
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(workers[i].thread, NULL);
    made += workers[i].made;
    failed += workers[i].failed;
    lives += workers[i].lives - 1;
    check(workers[i].failure[0] == '\0', workers[i].failure);
  }
  redmoon_stats stats;
  settle(client, &stats);
  printf("%lld calls, of which %lld failed, in %lld states; %llu dials, %llu waits\n", (long long)made,
         (long long)failed, (long long)lives, (unsigned long long)stats.dials,
         (unsigned long long)stats.wait_count);
  check(made >= calls / THREADS * THREADS, "all calls were made");
  check(failed > 0 && failed < made / 4, "some calls failed, and most did not");
  check(lives > THREADS, "states were closed in between");
  check(stats.in_use == 0 && stats.waiting == 0 && stats.total == stats.idle, "the pool's counts are exact");
  check(stats.total <= CONNECTIONS, "there are no more connections than allowed");
}

int main(int argc, char **argv) {
  const char *given = getenv("SEED");
  lua_Integer seed = given != NULL ? strtoll(given, NULL, 10) : (lua_Integer)time(NULL) % 1000000;
  lua_Integer calls = argc > 1 ? strtoll(argv[1], NULL, 10) : CALLS;
  printf("SEED=%lld\n", (long long)seed);
  fflush(stdout);
  redis_server *server = redis_server_start(NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = CONNECTIONS;
  options.min_idle = 1;
  options.pool_timeout_ms = 30000;
  options.timeout_ms = options.read_timeout_ms = 60000;
  options.max_retries = 10;
  redmoon_client *client = NULL;
  redmoon_error err;
  bool ready = redmoon_client_open(redis_server_url(server), &options, &client, &err) == 0 && prepare(client);
  check(ready, "the client works");
  if (ready) run_all(client, seed, calls);
  redmoon_client_close(client);
  redis_server_stop(server);
  printf("%d passed, %d failed, 0 skipped\n", passed, failures);
  return failures != 0;
}
