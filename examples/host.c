/* SPDX-License-Identifier: MIT */
/* A C host: an HTTP server whose answers are Lua's.  Threads with a lua_State each share one client, and its pool.
 *
 *     cc -D_POSIX_C_SOURCE=200809L host.c host_http.c $(pkg-config --cflags --libs redmoon-lua lua5.4) -lpthread -o host
 *     ./host host.lua [PORT [URL [GRACE]]]
 *
 *     main: client, listener, threads --> sigwait() --> listener shut, threads end, client closed, server stopped
 *     4 threads:  accept -> read -> handle(request) of host.lua -> answer
 *     1 thread:   work() of host.lua: jobs of a queue
 *
 * Without a port a free one is taken; without a URL and without $REDIS_URL a private server is started.  SIGTERM or SIGINT
 * ends it: requests and jobs that have begun are finished, within GRACE seconds (10).  docs/hosts.md has the rules it keeps. */
#include "host_http.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <redmoon/lua.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SERVING = 4, THREADS = SERVING + 1 };

typedef struct host {
  const char *script;
  redmoon_embedded *server; /* NULL: it is somebody else's */
  redmoon_client *client;
  int listener, port, grace_s;
  atomic_bool stopping;
  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  int ready, failed, running;
} host;

typedef struct thread {
  pthread_t id;
  host *host;
  lua_State *L; /* this thread's alone */
  bool works;   /* runs work() instead of answering */
  http_request request;
} thread;

/* The Lua side.  Everything that can raise runs inside of a protected call. */

static const char functions_key; /* registry: what the script returned */

static int is_stopping(lua_State *L) {
  host *self = lua_touserdata(L, lua_upvalueindex(1));
  lua_pushboolean(L, atomic_load(&self->stopping));
  return 1;
}

/* The thread, as light userdata. */
static int load_script(lua_State *L) {
  const thread *self = lua_touserdata(L, 1);
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 0);
  if (luaL_loadfilex(L, self->host->script, "t") != LUA_OK) return lua_error(L);
  redmoon_lua_push_client(L, self->host->client);
  lua_pushlightuserdata(L, self->host);
  lua_pushcclosure(L, is_stopping, 1);
  lua_call(L, 2, 1);
  luaL_checktype(L, -1, LUA_TTABLE);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &functions_key);
  return 0;
}

static void push_function(lua_State *L, const char *name) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &functions_key);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

static void push_request(lua_State *L, const http_request *request) {
  lua_createtable(L, 0, 5);
  lua_pushstring(L, request->method);
  lua_setfield(L, -2, "method");
  lua_pushstring(L, request->path);
  lua_setfield(L, -2, "path");
  lua_pushlstring(L, request->body, request->body_len);
  lua_setfield(L, -2, "body");
  lua_pushstring(L, request->peer);
  lua_setfield(L, -2, "peer");
  lua_createtable(L, 0, request->header_count);
  for (int i = 0; i < request->header_count; i++) {
    lua_pushstring(L, request->headers[i].value);
    lua_setfield(L, -2, request->headers[i].name);
  }
  lua_setfield(L, -2, "headers");
}

/* The headers at 3, a table of strings or nothing, as lines. [-0, +1] */
static const char *join_headers(lua_State *L) {
  lua_pushliteral(L, ""); /* at 4 */
  if (lua_isnil(L, 3)) return lua_tostring(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, 3) != 0; lua_settop(L, 5)) {
    if (lua_type(L, 5) != LUA_TSTRING) luaL_error(L, "the name of a header is a %s", luaL_typename(L, 5));
    const char *name = lua_tostring(L, 5), *value = luaL_tolstring(L, 6, NULL);
    if (strpbrk(name, "\r\n") != NULL || strpbrk(value, "\r\n") != NULL) luaL_error(L, "a header has a line end in it");
    lua_pushfstring(L, "%s%s: %s\r\n", lua_tostring(L, 4), name, value);
    lua_replace(L, 4);
  }
  return lua_tostring(L, 4);
}

/* The thread, and an int for the socket, which it answers and takes (-1). */
static int answer(lua_State *L) {
  thread *self = lua_touserdata(L, 1);
  int *fd = lua_touserdata(L, 2);
  lua_settop(L, 0);
  push_function(L, "handle");
  push_request(L, &self->request);
  lua_call(L, 1, 3);
  size_t len = 0;
  lua_Integer status = luaL_checkinteger(L, 1);
  const char *body = luaL_optlstring(L, 2, "", &len), *headers = join_headers(L);
  int to = *fd;
  *fd = -1;
  http_answer(to, (int)status, headers, body, len);
  return 0;
}

static int run_work(lua_State *L) {
  push_function(L, "work");
  lua_call(L, 0, 0);
  return 0;
}

static int add_traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

/* Calls `fn` with the thread and, unless it is NULL, `extra`; says what went wrong.  The state may be used again. */
static bool call(thread *self, lua_CFunction fn, void *extra) {
  lua_State *L = self->L;
  lua_settop(L, 0);
  lua_pushcfunction(L, add_traceback);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, self);
  lua_pushlightuserdata(L, extra);
  bool ok = lua_pcall(L, 2, 0, 1) == LUA_OK;
  if (!ok) fprintf(stderr, "host: %s\n", lua_tostring(L, -1));
  lua_settop(L, 0);
  return ok;
}

/* The threads. */

static void serve(thread *self) {
  int fd;
  while ((fd = http_accept(self->host->listener)) >= 0) {
    int status = http_read(fd, &self->request);
    if (status < 0) close(fd);
    else if (status > 0) http_answer(fd, status, "", "", 0);
    else if (!call(self, answer, &fd) && fd >= 0) http_answer(fd, 500, "", "it failed\n", 10);
  }
}

/* One more is ready, failed or gone; whoever waits looks again. */
static void note(host *self, int *what, int change) {
  pthread_mutex_lock(&self->lock);
  *what += change;
  pthread_cond_broadcast(&self->changed);
  pthread_mutex_unlock(&self->lock);
}

static void *run(void *arg) {
  thread *self = arg;
  host *in = self->host;
  self->L = luaL_newstate();
  bool ok = self->L != NULL && call(self, load_script, NULL);
  note(in, ok ? &in->ready : &in->failed, 1);
  if (ok && self->works) ok = call(self, run_work, NULL);
  else if (ok) serve(self);
  if (self->L != NULL) lua_close(self->L); /* on this thread, and before the client's last reference goes */
  note(in, &in->running, -1);
  return NULL;
}

/* True when all have loaded their script; then there are `count` of them. */
static bool start_threads(host *self, thread *threads, int *count) {
  bool made = true;
  for (*count = 0; made && *count < THREADS; *count += made) {
    threads[*count].host = self;
    threads[*count].works = *count == SERVING;
    note(self, &self->running, 1);
    made = pthread_create(&threads[*count].id, NULL, run, &threads[*count]) == 0;
    if (!made) note(self, &self->running, -1);
  }
  pthread_mutex_lock(&self->lock);
  while (self->ready + self->failed < *count) pthread_cond_wait(&self->changed, &self->lock);
  bool good = made && self->failed == 0;
  pthread_mutex_unlock(&self->lock);
  return good;
}

/* Whoever is at work is given time to finish; then every call that still waits for Redis ends with CLOSED. */
static void stop_threads(host *self, thread *threads, int count) {
  struct timespec by;
  clock_gettime(CLOCK_REALTIME, &by);
  by.tv_sec += self->grace_s;
  atomic_store(&self->stopping, true);
  if (self->listener >= 0) http_stop(self->listener);
  int late = 0;
  pthread_mutex_lock(&self->lock);
  while (self->running > 0 && late == 0) late = pthread_cond_timedwait(&self->changed, &self->lock, &by);
  pthread_mutex_unlock(&self->lock);
  if (late != 0) redmoon_client_shutdown(self->client);
  for (int i = 0; i < count; i++) pthread_join(threads[i].id, NULL);
}

/* What they share. */

static bool open_all(host *self, const char *url) {
  redmoon_error err;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = THREADS;
  if (url == NULL && redmoon_embedded_start(NULL, &self->server, &err) < 0)
    return fprintf(stderr, "host: %s\n", err.message), false;
  if (url == NULL) url = redmoon_embedded_url(self->server);
  if (redmoon_client_open(url, &options, &self->client, &err) < 0) return fprintf(stderr, "host: %s\n", err.message), false;
  self->listener = http_listen(&self->port);
  if (self->listener < 0) perror("host: listen");
  return self->listener >= 0;
}

/* Last: nothing uses them any more. */
static void close_all(host *self) {
  if (self->listener >= 0) close(self->listener);
  redmoon_client_close(self->client);
  redmoon_embedded_close(self->server);
}

int main(int argc, char **argv) {
  static thread threads[THREADS]; /* large, for their requests */
  host self = {.script = argc > 1 ? argv[1] : "host.lua", .port = argc > 2 ? atoi(argv[2]) : 0,
               .grace_s = argc > 4 ? atoi(argv[4]) : 10, .listener = -1, .lock = PTHREAD_MUTEX_INITIALIZER,
               .changed = PTHREAD_COND_INITIALIZER};
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before any thread is made, so that all inherit it */
  int count = 0, signal = 0;
  bool good = open_all(&self, argc > 3 ? argv[3] : getenv("REDIS_URL"));
  if (good) good = start_threads(&self, threads, &count);
  if (good) {
    printf("listening on http://127.0.0.1:%d\n", self.port);
    fflush(stdout);
    sigwait(&ends, &signal);
  }
  stop_threads(&self, threads, count);
  close_all(&self);
  if (good) puts("stopped");
  return good ? 0 : 1;
}
