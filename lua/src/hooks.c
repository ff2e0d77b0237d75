/* SPDX-License-Identifier: MIT */
/* client:on(event, fn).  The engine reports on any thread, so events are queued here and handed to the function at
 * the end of the next call that the owning state makes:
 *
 *      any thread --> ring (mutex) --> shared->pending --> rm_lua_end --> fn(event)
 *
 *  A full ring drops the event and counts it. */
#include "binding.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define HOOK_TYPE "redmoon.hook"
enum { RING_SIZE = 256 };

/* What is kept of an event; texts are cut to fit. */
typedef struct entry {
  int kind, attempt, failed;
  int64_t duration_us, delay_us;
  int64_t resolve_us, dial_us, tls_us, handshake_us;
  char command[32], address[128], reason[16];
  redmoon_error error;
} entry;

typedef struct hook {
  rm_lua_link link;
  bool open, has_mutex;
  uint64_t id;
  pthread_mutex_t mutex; /* guards the ring and its counts; a leaf */
  entry *ring;
  size_t head, count;
  uint64_t dropped;
  lua_Integer errors; /* times the function raised */
} hook;
enum { SLOT_FUNCTION = 1, SLOT_ANCHOR = 2, SLOTS = 2 };

static const char *const kinds[] = {"command", "retry", "connect", "close", "redirect"};
static const int masks[] = {REDMOON_EVENT_COMMAND, REDMOON_EVENT_RETRY, REDMOON_EVENT_CONNECT, REDMOON_EVENT_CLOSE,
                            REDMOON_EVENT_REDIRECT};
enum { KINDS = sizeof masks / sizeof masks[0] };

static const char hooks_key; /* registry: the state's hooks, a table with weak keys */

/* The engine's side: any thread. */

static void copy_text(char *out, size_t cap, const char *text) {
  snprintf(out, cap, "%s", text != NULL ? text : "");
}

static void on_event(void *ctx, const redmoon_event *event) {
  hook *h = ctx;
  pthread_mutex_lock(&h->mutex);
  if (h->count == RING_SIZE) {
    h->dropped++;
  } else {
    entry *e = &h->ring[(h->head + h->count++) % RING_SIZE];
    e->kind = event->kind;
    e->attempt = event->attempt;
    e->duration_us = event->duration_us;
    e->delay_us = event->delay_us;
    e->resolve_us = event->resolve_us;
    e->dial_us = event->dial_us;
    e->tls_us = event->tls_us;
    e->handshake_us = event->handshake_us;
    copy_text(e->command, sizeof e->command, event->command);
    copy_text(e->address, sizeof e->address, event->address);
    copy_text(e->reason, sizeof e->reason, event->reason);
    e->failed = event->error != NULL;
    if (e->failed) e->error = *event->error;
  }
  pthread_mutex_unlock(&h->mutex);
  atomic_store(&h->link.shared->pending, 1);
}

static bool take(hook *h, entry *out) {
  pthread_mutex_lock(&h->mutex);
  bool any = h->count > 0;
  if (any) {
    *out = h->ring[h->head];
    h->head = (h->head + 1) % RING_SIZE;
    h->count--;
  }
  pthread_mutex_unlock(&h->mutex);
  return any;
}

/* The state's side. */

static void set_text(lua_State *L, const char *field, const char *text) {
  if (text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static void set_seconds(lua_State *L, const char *field, int64_t us) {
  lua_pushnumber(L, (lua_Number)us / 1e6);
  lua_setfield(L, -2, field);
}

/* steps, of a connect: what each took, in seconds. [-0, +0] of the event on top */
static void set_steps(lua_State *L, const entry *e) {
  lua_createtable(L, 0, 4);
  set_seconds(L, "resolve", e->resolve_us);
  set_seconds(L, "dial", e->dial_us);
  set_seconds(L, "tls", e->tls_us);
  set_seconds(L, "handshake", e->handshake_us);
  lua_setfield(L, -2, "steps");
}

static const char *kind_name(int kind) {
  for (size_t i = 0; i < KINDS; i++)
    if (masks[i] == kind) return kinds[i];
  return "";
}

/* [-0, +1] */
static void push_event(lua_State *L, const entry *e) {
  lua_createtable(L, 0, 8);
  set_text(L, "kind", kind_name(e->kind));
  set_text(L, "command", e->command);
  set_text(L, "address", e->address);
  set_text(L, "reason", e->reason);
  set_seconds(L, "duration", e->duration_us);
  set_seconds(L, "delay", e->delay_us);
  lua_pushinteger(L, e->attempt);
  lua_setfield(L, -2, "attempt");
  if (e->kind == REDMOON_EVENT_CONNECT && !e->failed) set_steps(L, e);
  if (!e->failed) return;
  rm_lua_push_error(L, &e->error);
  lua_setfield(L, -2, "error");
}

typedef struct delivery {
  hook *hook;
  bool taken; /* an event, since the last look */
  entry entry;
} delivery;

/* Runs protected: the hook's userdata, a light userdata with the delivery. */
static int deliver(lua_State *L) {
  delivery *d = lua_touserdata(L, 2);
  while (d->hook->open && take(d->hook, &d->entry)) {
    d->taken = true;
    lua_getiuservalue(L, 1, SLOT_FUNCTION);
    push_event(L, &d->entry);
    lua_call(L, 1, 0);
  }
  return 0;
}

/* A function that raises does not disturb the call that is just ending: it is counted, and said by warn().  Returns
 * false when events stay behind, because there was not even the memory or the C stack to begin. [-1, +0] */
static bool deliver_all(lua_State *L) {
  delivery d = {.hook = lua_touserdata(L, -1)};
  int status;
  do {
    d.taken = false;
    lua_pushcfunction(L, deliver);
    lua_pushvalue(L, -2);
    lua_pushlightuserdata(L, &d);
    status = lua_pcall(L, 2, 0, 0);
    if (status == LUA_OK) break;
    d.hook->errors++;
    lua_warning(L, "redmoon: a function given to client:on raised: ", 1);
    lua_warning(L, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text", 0);
    lua_pop(L, 1);
  } while (d.taken);
  lua_pop(L, 1);
  return status == LUA_OK || d.taken;
}

/* The handles of this state, each once, above the table of them; a list of its own, because functions may add and
 * end hooks.  Returns how many. [-0, +?] */
static int push_handles(lua_State *L) {
  int count = 0;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hooks_key);
  int table = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    if (!lua_checkstack(L, 12)) {
      lua_pop(L, 1);
      break;
    }
    lua_pushvalue(L, -1);
    count++;
  }
  return count;
}

void rm_lua_hooks_dispatch(lua_State *L, rm_lua_shared *shared) {
  if (shared->dispatching) return; /* the outer one takes what came meanwhile */
  if (!lua_checkstack(L, 12)) return;
  shared->dispatching = true;
  bool whole = true;
  while (whole && atomic_exchange(&shared->pending, 0) != 0) {
    int top = lua_gettop(L);
    for (int count = push_handles(L); count > 0; count--) whole = deliver_all(L) && whole;
    lua_settop(L, top);
  }
  if (!whole) atomic_store(&shared->pending, 1); /* for the end of the next call */
  shared->dispatching = false;
}

/* Handles. */

/* [-0, +0], never raises */
static void end_hook(lua_State *L, hook *h) {
  if (h->open) {
    h->open = false;
    redmoon_client_off(h->link.client, h->id); /* no call of on_event from here on */
  }
  rm_lua_link_drop(L, &h->link);
  if (h->has_mutex) pthread_mutex_destroy(&h->mutex);
  h->has_mutex = false;
  rm_free(h->ring);
  h->ring = NULL;
  h->count = 0;
}

/* The table at user value HOOKS of the client at 1 keeps the handle while the client is open. [-0, +0] */
static void anchor(lua_State *L, int handle) {
  if (lua_getiuservalue(L, 1, RM_LUA_SLOT_HOOKS) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, RM_LUA_SLOT_HOOKS);
  }
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, handle, SLOT_ANCHOR);
  lua_pushvalue(L, handle);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hooks_key);
  lua_pushvalue(L, handle);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 2);
}

int rm_lua_client_on(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t kind = rm_lua_check_name(L, 2, kinds, KINDS, "event");
  luaL_checktype(L, 3, LUA_TFUNCTION);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  lua_settop(L, 3);
  hook *h = lua_newuserdatauv(L, sizeof *h, SLOTS);
  memset(h, 0, sizeof *h);
  luaL_setmetatable(L, HOOK_TYPE);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 4, SLOT_FUNCTION);
  anchor(L, 4);
  redmoon_error err = {0};
  h->ring = rm_calloc(RING_SIZE, sizeof *h->ring);
  if (h->ring == NULL || pthread_mutex_init(&h->mutex, NULL) != 0)
    return rm_lua_fail_text(L, REDMOON_ENOMEM, "not enough memory for the hook's queue");
  h->has_mutex = true;
  rm_lua_link_set(&h->link, &client->link);
  if (redmoon_client_on(client->link.client, masks[kind], on_event, h, &h->id, &err) < 0) {
    end_hook(L, h);
    return rm_lua_fail(L, &err);
  }
  h->open = true;
  return 1;
}

/* Ends each hook in the table of the client; runs once per client:close(). */
void rm_lua_hooks_close(lua_State *L, int index) {
  if (lua_getiuservalue(L, index, RM_LUA_SLOT_HOOKS) == LUA_TTABLE) {
    lua_pushnil(L);
    while (lua_next(L, -2)) {
      end_hook(L, lua_touserdata(L, -2));
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

static int hook_gc(lua_State *L) {
  end_hook(L, lua_touserdata(L, 1));
  return 0;
}

static int hook_close(lua_State *L) {
  end_hook(L, luaL_checkudata(L, 1, HOOK_TYPE));
  if (lua_getiuservalue(L, 1, SLOT_ANCHOR) == LUA_TTABLE) { /* or the client would keep it to its own end */
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* hook:stats() -> {dropped=, errors=, queued=} */
static int hook_stats(lua_State *L) {
  hook *h = luaL_checkudata(L, 1, HOOK_TYPE);
  uint64_t dropped = h->dropped;
  size_t queued = h->count;
  if (h->has_mutex) {
    pthread_mutex_lock(&h->mutex);
    dropped = h->dropped;
    queued = h->count;
    pthread_mutex_unlock(&h->mutex);
  }
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)dropped);
  lua_setfield(L, -2, "dropped");
  lua_pushinteger(L, (lua_Integer)queued);
  lua_setfield(L, -2, "queued");
  lua_pushinteger(L, h->errors);
  lua_setfield(L, -2, "errors");
  return 1;
}

void rm_lua_hooks_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", hook_gc}, {"__close", hook_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", hook_close}, {"stats", hook_stats}, {NULL, NULL}};
  rm_lua_new_type(L, HOOK_TYPE, meta, methods);
  lua_pop(L, 2);
  bool known = lua_rawgetp(L, LUA_REGISTRYINDEX, &hooks_key) == LUA_TTABLE;
  lua_pop(L, 1);
  if (known) return; /* the module is loaded once more; the hooks of its first life go on */
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &hooks_key);
}
