/* SPDX-License-Identifier: MIT */
/* client:counter(name, {...}) and what it counts. */
#include "binding.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define COUNTER_TYPE "redmoon.counter"
#define YEAR_MS INT64_C(31622400000)
#define DURATION "seconds from 0.001 to 31622400 (366 days)"

typedef struct counter {
  rm_lua_link link;
  redmoon_counter *counter; /* NULL: closed */
} counter;
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option counter_options[] = {
    {"window", RM_OPTION_DURATION, offsetof(redmoon_counter_options, window_ms), 1, YEAR_MS, 0, DURATION},
    {"mode", RM_OPTION_TEXT, offsetof(redmoon_counter_options, mode), 0, 0, 0, "\"window\" or \"sliding\""},
    {"calendar", RM_OPTION_TEXT, offsetof(redmoon_counter_options, calendar), 0, 0, 0,
     "\"minute\", \"hour\", \"day\" or \"month\""},
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_counter_options, ttl_ms), 1, YEAR_MS, 0, DURATION},
    {"min", RM_OPTION_INTEGER, offsetof(redmoon_counter_options, min), INT64_MIN, INT64_MAX, 0, "an integer"},
    {"max", RM_OPTION_INTEGER, offsetof(redmoon_counter_options, max), INT64_MIN, INT64_MAX, 0, "an integer"},
    {"saturate", RM_OPTION_BOOL, offsetof(redmoon_counter_options, saturate), 0, 1, 0, "true or false"},
};

typedef struct increment_options {
  const char *request_id;
} increment_options;
static const rm_option increment_table[] = {
    {"request_id", RM_OPTION_TEXT, offsetof(increment_options, request_id), 0, 0, 0, "a string"},
};

/* The counter. */

static void end_counter(lua_State *L, counter *c) {
  redmoon_counter *inner = c->counter;
  c->counter = NULL;
  redmoon_counter_free(inner);
  rm_lua_link_drop(L, &c->link);
}

static counter *check(lua_State *L) {
  counter *c = luaL_checkudata(L, 1, COUNTER_TYPE);
  luaL_argcheck(L, c->counter != NULL, 1, "the counter is closed");
  return c;
}

int rm_lua_client_counter(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, strlen(name) == len, 2, "a counter's name has no NUL byte");
  lua_settop(L, 3);
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  rm_lua_read_options(L, 3, counter_options, sizeof counter_options / sizeof counter_options[0], &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  counter *c = lua_newuserdatauv(L, sizeof *c, SLOTS);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, COUNTER_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 4, SLOT_SERVER);
  rm_lua_link_set(&c->link, &client->link);
  redmoon_error err;
  if (redmoon_counter_new(client->link.client, name, &options, &c->counter, &err) < 0) {
    end_counter(L, c);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* Results. */

/* [-0, +1] */
static void push_result(lua_State *L, const redmoon_counter_result *result, bool counted) {
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)result->value);
  lua_setfield(L, -2, "value");
  if (counted) {
    lua_pushinteger(L, (lua_Integer)result->applied);
    lua_setfield(L, -2, "applied");
  }
  lua_pushnumber(L, result->ttl_ms < 0 ? HUGE_VAL : (lua_Number)result->ttl_ms / 1e3);
  lua_setfield(L, -2, "ttl");
  lua_pushboolean(L, result->exists);
  lua_setfield(L, -2, "exists");
}

/* Tails: a table, or nil, message, code, detail. */

static int counted(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_result(L, (const redmoon_counter_result *)rm_lua_out(task), true);
  return 1;
}

static int got(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_result(L, (const redmoon_counter_result *)rm_lua_out(task), false);
  return 1;
}


/* The key at 2: text as it is, a number in its decimal form. [-0, +1] */
static const redmoon_bytes *check_key(lua_State *L) {
  rm_lua_check_args(L, 2, 2);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, 2, 2);
  return &args->bytes[0];
}

/* counter:increment(key [, by] [, {request_id=}]) */
static int counter_increment(lua_State *L) {
  counter *c = check(L);
  if (lua_istable(L, 3)) {
    lua_pushinteger(L, 1);
    lua_insert(L, 3);
  }
  lua_settop(L, 4);
  lua_Integer by = luaL_optinteger(L, 3, 1);
  increment_options options = {NULL};
  rm_lua_read_options(L, 4, increment_table, 1, &options);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, counted);
  int started = redmoon_counter_increment_start(c->counter, key->ptr, key->len, by, options.request_id,
                                                (redmoon_counter_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* counter:get(key) */
static int counter_get(lua_State *L) {
  counter *c = check(L);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, got);
  int started = redmoon_counter_get_start(c->counter, key->ptr, key->len, (redmoon_counter_result *)rm_lua_out(task), &task->op,
                                          &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* counter:reset(key) */
static int counter_reset(lua_State *L) {
  counter *c = check(L);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(
      L, task, redmoon_counter_reset_start(c->counter, key->ptr, key->len, &task->op, &task->err));
}

/* Many. */

/* Room for a list of items and for how each ends. */
typedef struct many {
  size_t count;
  rm_lua_args *keys;
  redmoon_counter_item *items;
  redmoon_counter_result *results;
  redmoon_error *errors;
} many;

/* [-0, +2] */
static many many_new(lua_State *L, size_t count) {
  many m;
  m.count = count;
  m.keys = rm_lua_args_new(L, count);
  /* The strictest alignment first. */
  m.items = lua_newuserdatauv(L, count * (sizeof *m.items + sizeof *m.results + sizeof *m.errors), 0);
  m.results = (redmoon_counter_result *)(m.items + count);
  m.errors = (redmoon_error *)(m.results + count);
  return m;
}

/* Reads item `i` of the list at 2, which keeps its texts: {key [, by] [, request_id=]}. [-0, +0] */
static void read_item(lua_State *L, many *m, size_t i) {
  int place = (int)i + 1, is_integer = 1;
  redmoon_counter_item *item = &m->items[i];
  *item = (redmoon_counter_item){.by = 1};
  if (lua_rawgeti(L, 2, place) != LUA_TTABLE)
    rm_lua_raise(L, "item %d: a list {key, by} expected, got %s", place, luaL_typename(L, -1));
  int type = lua_rawgeti(L, -1, 1);
  if (type != LUA_TSTRING && type != LUA_TNUMBER)
    rm_lua_raise(L, "item %d: its key is a string or number, got %s", place, luaL_typename(L, -1));
  rm_lua_args_add(L, m->keys, lua_gettop(L), lua_gettop(L));
  item->key = m->keys->bytes[i].ptr;
  item->key_len = m->keys->bytes[i].len;
  if (lua_rawgeti(L, -2, 2) != LUA_TNIL) item->by = (int64_t)lua_tointegerx(L, -1, &is_integer);
  if (!is_integer) rm_lua_raise(L, "item %d: what it counts is an integer, got %s", place, luaL_tolstring(L, -1, NULL));
  lua_pushliteral(L, "request_id");
  type = lua_rawget(L, -4);
  size_t len = 0;
  if (type == LUA_TSTRING) item->request_id = lua_tolstring(L, -1, &len);
  if (item->request_id != NULL && strlen(item->request_id) != len)
    rm_lua_raise(L, "item %d: its request_id has a NUL byte", place);
  if (type != LUA_TSTRING && type != LUA_TNIL) rm_lua_raise(L, "item %d: its request_id is a string, got %s", place, luaL_typename(L, -1));
  lua_pop(L, 4);
}

/* How each item ended. [-0, +1] */
static void push_results(lua_State *L, const many *m) {
  lua_createtable(L, (int)m->count, 0);
  for (size_t i = 0; i < m->count; i++) {
    if (m->results[i].status < 0) rm_lua_push_error(L, &m->errors[i]);
    else push_result(L, &m->results[i], true);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

static int counted_many(lua_State *L, rm_lua_task *task, int status) {
  const many *m = (const many *)rm_lua_out(task);
  if (status >= 0) {
    push_results(L, m);
    return 1;
  }
  int results = rm_lua_fail(L, &task->err);
  if (m->errors != NULL) { /* it was begun */
    push_results(L, m);
    lua_setfield(L, -2, "replies");
  }
  return results;
}

/* counter:increment_many{{key, by}, ...} */
static int counter_increment_many(lua_State *L) {
  counter *c = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  size_t count = (size_t)lua_rawlen(L, 2);
  if (count > REDMOON_COUNTER_MANY_MAX)
    return rm_lua_raise(L, "%d items are not accepted; give up to %d", (int)count, REDMOON_COUNTER_MANY_MAX);
  if (count == 0) {
    lua_newtable(L);
    return 1;
  }
  many m = many_new(L, count);
  for (size_t i = 0; i < count; i++) read_item(L, &m, i);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, counted_many);
  int started =
      redmoon_counter_increment_many_start(c->counter, m.items, count, m.results, m.errors, &task->op, &task->err);
  if (started == 0) *(many *)rm_lua_out(task) = m;
  return rm_lua_task_run_or_raise(L, task, started);
}

static int counter_gc(lua_State *L) {
  end_counter(L, lua_touserdata(L, 1));
  return 0;
}

static int counter_close(lua_State *L) {
  end_counter(L, luaL_checkudata(L, 1, COUNTER_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_counter_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", counter_gc}, {"__close", counter_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", counter_close},
                                     {"get", counter_get},
                                     {"increment", counter_increment},
                                     {"increment_many", counter_increment_many},
                                     {"reset", counter_reset},
                                     {NULL, NULL}};
  rm_lua_new_type(L, COUNTER_TYPE, meta, methods);
  lua_pop(L, 2);
}
