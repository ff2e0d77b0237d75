/* SPDX-License-Identifier: MIT */
/* topic:reader(name): named readers of durable topics, and looking after them. */
#include "topic.h"

#include <stddef.h>
#include <string.h>

#define CURSOR_TYPE "redmoon.topic_cursor"

typedef struct cursor {
  rm_lua_link link;
  redmoon_topic_cursor *inner; /* NULL: closed */
  redmoon_topic_message *held; /* taken, and not given to Lua yet */
} cursor;
enum { SLOTS = 1, BOX = 4 }; /* BOX: place of one that is being made, behind topic, name and options */

static const rm_option cursor_options[] = {
    {"batch", RM_OPTION_INTEGER, offsetof(redmoon_topic_cursor_options, batch), 1, 1000, 0, "an integer from 1 to 1000"},
    {"from", RM_OPTION_TEXT, offsetof(redmoon_topic_cursor_options, from), 0, 0, 0, "\"start\" or \"end\""},
};

/* [-0, +0], never raises */
static void end_cursor(lua_State *L, cursor *c) {
  redmoon_topic_cursor *inner = c->inner;
  redmoon_topic_message *held = c->held;
  c->inner = NULL;
  c->held = NULL;
  redmoon_topic_message_free(held);
  redmoon_topic_cursor_close(inner);
  rm_lua_link_drop(L, &c->link);
}

static cursor *check(lua_State *L) {
  cursor *c = luaL_checkudata(L, 1, CURSOR_TYPE);
  luaL_argcheck(L, c->inner != NULL, 1, "the reader is closed");
  return c;
}

/* Opening. */

static int opened(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) {
    end_cursor(L, lua_touserdata(L, BOX));
    return rm_lua_fail(L, &task->err);
  }
  lua_pushvalue(L, BOX);
  return 1;
}

/* topic:reader(name [, {from=, batch=}]) */
int rm_lua_topic_reader(lua_State *L) {
  rm_lua_topic *t = rm_lua_topic_check(L);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  lua_settop(L, 3);
  redmoon_topic_cursor_options options = REDMOON_TOPIC_CURSOR_OPTIONS_INIT;
  rm_lua_read_options(L, 3, cursor_options, sizeof cursor_options / sizeof cursor_options[0], &options);
  cursor *c = lua_newuserdatauv(L, sizeof *c, SLOTS);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, CURSOR_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_TOPIC_SERVER);
  lua_setiuservalue(L, -2, RM_LUA_TOPIC_SERVER);
  rm_lua_link_set(&c->link, &t->link);
  rm_lua_task *task = rm_lua_task_take(L, &c->link, opened);
  int started = redmoon_topic_cursor_open_start(t->inner, name, len, &options, &c->inner, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Receiving. */

static const rm_lua_topic_words words = {"lagged", "missed"};

static int received(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  rm_lua_topic_give(L, &((cursor *)lua_touserdata(L, 1))->held, rm_lua_out(task), &words);
  return 1;
}

static int received_next(lua_State *L, rm_lua_task *task, int status) {
  cursor *c = lua_touserdata(L, 1);
  redmoon_topic_message **out = rm_lua_out(task);
  if (status == REDMOON_ECLOSED) { /* the client's end is the loop's, too */
    lua_pushnil(L);
    return 1;
  }
  if (status < 0) return rm_lua_task_raise(L, task);
  if (*out == NULL && c->held == NULL && c->inner != NULL) { /* another receive took it */
    int started = redmoon_topic_cursor_receive_start(c->inner, -1, out, &task->op, &task->err);
    return started < 0 ? rm_lua_task_raise(L, task) : RM_LUA_AGAIN;
  }
  return received(L, task, status);
}

static int fetch(lua_State *L, cursor *c, int64_t timeout_ms, rm_lua_tail tail) {
  if (c->held != NULL) { /* there was no memory to hand it over */
    rm_lua_topic_push_held(L, &c->held, &words);
    return rm_lua_end(L, &c->link, 1);
  }
  rm_lua_task *task = rm_lua_task_take(L, &c->link, tail);
  task->drop = rm_lua_topic_drop;
  redmoon_topic_message **out = rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_topic_cursor_receive_start(c->inner, timeout_ms, out, &task->op, &task->err));
}

/* reader:receive([timeout]) */
static int cursor_receive(lua_State *L) {
  cursor *c = check(L);
  return fetch(L, c, rm_lua_receive_timeout_ms(L, 2), received);
}

/* The iterator. */
static int next_message(lua_State *L) {
  cursor *c = luaL_checkudata(L, 1, CURSOR_TYPE);
  return c->inner == NULL ? 0 : fetch(L, c, -1, received_next);
}

/* reader:messages() */
static int cursor_messages(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_pushcfunction(L, next_message);
  lua_insert(L, 1);
  return 2;
}

/* reader:ack([seq]) */
static int cursor_ack(lua_State *L) {
  cursor *c = check(L);
  int64_t seq = luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, lua_isnoneornil(L, 2) || seq >= 1, 2, "the number of a message is 1 or more");
  rm_lua_task *task = rm_lua_task_take(L, &c->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task, redmoon_topic_cursor_ack_start(c->inner, seq, &task->op, &task->err));
}

/* reader:stats() */
static int cursor_stats(lua_State *L) {
  redmoon_topic_cursor_counts counts;
  redmoon_topic_cursor_stats(check(L)->inner, &counts);
  lua_createtable(L, 0, 8);
  rm_lua_topic_set(L, "delivered", (int64_t)counts.delivered);
  rm_lua_topic_set(L, "missed", (int64_t)counts.missed);
  rm_lua_topic_set(L, "lagged", (int64_t)counts.lagged);
  rm_lua_topic_set(L, "unknown", (int64_t)counts.unknown);
  rm_lua_topic_set(L, "buffered", (int64_t)counts.buffered);
  rm_lua_topic_set(L, "seq", counts.seq);
  rm_lua_topic_set(L, "acked", counts.acked);
  rm_lua_topic_set(L, "lag", counts.lag);
  return 1;
}

/* Looking after them. */

static void drop_list(void *out) { redmoon_topic_cursor_list_free(*(redmoon_topic_cursor_list **)out); }

static int listed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_topic_cursor_list *list = *(redmoon_topic_cursor_list **)rm_lua_out(task);
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    const redmoon_topic_cursor_info *info = &list->items[i];
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, info->name, info->name_len);
    lua_setfield(L, -2, "name");
    rm_lua_topic_set(L, "acked", info->acked);
    rm_lua_topic_set(L, "lag", info->lag);
    lua_pushnumber(L, (lua_Number)info->idle_ms / 1000.0);
    lua_setfield(L, -2, "idle");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* topic:readers() */
int rm_lua_topic_readers(lua_State *L) {
  rm_lua_topic *t = rm_lua_topic_check(L);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, listed);
  task->drop = drop_list;
  redmoon_topic_cursor_list **out = rm_lua_out(task);
  return rm_lua_task_run_or_raise(L, task, redmoon_topic_cursors_start(t->inner, out, &task->op, &task->err));
}

static int removed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(int *)rm_lua_out(task));
  return 1;
}

/* topic:remove_reader(name) */
int rm_lua_topic_remove_reader(lua_State *L) {
  rm_lua_topic *t = rm_lua_topic_check(L);
  size_t len;
  const char *name = luaL_checklstring(L, 2, &len);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, removed);
  int *out = rm_lua_out(task);
  int started = redmoon_topic_cursor_remove_start(t->inner, name, len, out, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int cursor_gc(lua_State *L) {
  end_cursor(L, lua_touserdata(L, 1));
  return 0;
}

static int cursor_close(lua_State *L) {
  end_cursor(L, luaL_checkudata(L, 1, CURSOR_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_topic_cursor_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", cursor_gc}, {"__close", cursor_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"ack", cursor_ack},           {"close", cursor_close}, {"messages", cursor_messages},
                                     {"receive", cursor_receive}, {"stats", cursor_stats}, {NULL, NULL}};
  rm_lua_new_type(L, CURSOR_TYPE, meta, methods);
  lua_pop(L, 2);
}
