/* SPDX-License-Identifier: MIT */
/* A C host: four threads, a lua_State each, one client and one pool for all of them.
 *
 *     cc host.c $(pkg-config --cflags --libs redmoon-lua lua5.4) -lpthread -o host && ./host [URL]
 *
 * Without a URL a private server is started. */
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 1000 };

typedef struct worker {
  pthread_t thread;
  redmoon_client *client; /* borrowed from main */
  int number, failed;
} worker;

/* What each thread runs: `client` is shared with all others, everything else is its own. */
static const char script[] = "local client, number, rounds = ...\n"
                             "for _ = 1, rounds do\n"
                             "  assert(client:incr('redmoon-host:count'))\n"
                             "end\n"
                             "assert(client:hset('redmoon-host:done', number, rounds))\n";

/* Runs protected: the worker, as light userdata. */
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
  self->failed = 1;
  lua_State *L = luaL_newstate();
  if (L == NULL) return NULL;
  lua_pushcfunction(L, run_script);
  lua_pushlightuserdata(L, self);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) self->failed = 0;
  else fprintf(stderr, "thread %d: %s\n", self->number, lua_tostring(L, -1));
  lua_close(L);
  return NULL;
}

/* Runs all threads; 0 when each did its rounds. */
static int run_threads(redmoon_client *client) {
  worker workers[THREADS];
  int failed = 0, started = 0;
  for (; started < THREADS; started++) {
    workers[started] = (worker){.client = client, .number = started + 1};
    if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) break;
  }
  for (int i = 0; i < started; i++) {
    pthread_join(workers[i].thread, NULL);
    failed |= workers[i].failed;
  }
  return failed || started < THREADS;
}

/* Reads a key as an integer, then removes it; -1 on failure. */
static long long take_count(redmoon_client *client, redmoon_error *err) {
  redmoon_reply *reply;
  if (redmoon_command(client, 2, (const char *[]){"GETDEL", "redmoon-host:count"}, NULL, &reply, err) < 0)
    return -1;
  long long count = -1;
  const char *text = redmoon_reply_string(reply, NULL);
  if (text != NULL && sscanf(text, "%lld", &count) != 1) count = -1;
  redmoon_reply_free(reply);
  if (redmoon_command(client, 2, (const char *[]){"DEL", "redmoon-host:done"}, NULL, &reply, err) < 0) return -1;
  redmoon_reply_free(reply);
  return count;
}

int main(int argc, char **argv) {
  redmoon_error err;
  redmoon_embedded *server = NULL;
  redmoon_client *client = NULL;
  int status = 1;
  const char *url = argc > 1 ? argv[1] : NULL;
  if (url == NULL) {
    if (redmoon_embedded_start(NULL, &server, &err) < 0) goto out;
    url = redmoon_embedded_url(server);
  }
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = THREADS;
  if (redmoon_client_open(url, &options, &client, &err) < 0) goto out;
  if (run_threads(client) != 0) {
    snprintf(err.message, sizeof err.message, "a thread failed");
    goto out;
  }
  long long count = take_count(client, &err);
  if (count < 0) goto out;
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  printf("%d threads counted to %lld over %llu connections of %s\n", THREADS, count,
         (unsigned long long)stats.dials, redmoon_client_url(client));
  status = count == THREADS * ROUNDS ? 0 : 1;
out:
  if (status != 0)
    fprintf(stderr, "host: %s\n", client == NULL || err.message[0] != '\0' ? err.message : "wrong count");
  redmoon_client_close(client);
  redmoon_embedded_close(server);
  return status;
}
