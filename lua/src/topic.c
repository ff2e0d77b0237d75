/* SPDX-License-Identifier: MIT */
/* client:topic(name), the topic object, and its readers; those that have a name are in topic_cursor.c. */
#include "topic.h"

#include <stddef.h>
#include <string.h>

#define READER_TYPE "redmoon.topic_reader"

typedef rm_lua_topic topic;
typedef struct reader {
  rm_lua_link link;
  redmoon_topic_reader *inner; /* NULL: closed */
  redmoon_topic_message *held; /* taken, and not given to Lua yet */
} reader;
enum { SLOTS = 1 };

static const rm_option topic_options[] = {
    {"durable", RM_OPTION_BOOL, offsetof(redmoon_topic_options, durable), 0, 1, 0, "true or false"},
    {"min_replicas", RM_OPTION_INTEGER, offsetof(redmoon_topic_options, min_replicas), 0, 1000, 0, "an integer from 0 to 1000"},
    {"retention", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
};
#define AGE "seconds from 0.001 to 31622400 (366 days)"
static const rm_option retention_options[] = {
    {"age", RM_OPTION_DURATION, offsetof(redmoon_topic_options, age_ms), 1, INT64_C(31622400000), 0, AGE},
    {"hold", RM_OPTION_INTEGER, offsetof(redmoon_topic_options, hold), 1, 1000000000, 0, "an integer from 1 to 1000000000"},
    {"length", RM_OPTION_INTEGER, offsetof(redmoon_topic_options, length), 1, 1000000000, 0,
     "an integer from 1 to 1000000000"},
};
static const rm_option reader_options[] = {
    {"buffer", RM_OPTION_INTEGER, offsetof(redmoon_subscription_options, buffer), 1, 10000000, 1000,
     "an integer from 1 to 10000000"},
    {"overflow", RM_OPTION_TEXT, offsetof(redmoon_subscription_options, overflow), 0, 0, 0,
     "\"drop_oldest\", \"drop_newest\", \"block\" or \"close\""},
    {"ping_interval", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, ping_interval_ms), 10, 3600000, 15000,
     "seconds from 0.01 to 3600"},
    {"min_backoff", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, min_backoff_ms), 1, 60000, 50,
     "seconds from 0.001 to 60"},
    {"max_backoff", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, max_backoff_ms), 1, 600000, 5000,
     "seconds from min_backoff to 600"},
};
typedef struct publish_options {
  const char *request_id;
} publish_options;
static const rm_option request_options[] = {{"request_id", RM_OPTION_TEXT, offsetof(publish_options, request_id), 0, 0, 0,
                                             "1 to 128 letters, digits, '.', '_' and '-'"}};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* [-0, +0], never raises */
static void end_topic(lua_State *L, topic *t) {
  redmoon_topic *inner = t->inner;
  t->inner = NULL;
  redmoon_topic_free(inner);
  rm_lua_link_drop(L, &t->link);
}

rm_lua_topic *rm_lua_topic_check(lua_State *L) {
  topic *t = luaL_checkudata(L, 1, RM_LUA_TOPIC_TYPE);
  luaL_argcheck(L, t->inner != NULL, 1, "the topic is closed");
  return t;
}

/* Options of the table at `index`, if there is one. [-0, +0] */
static void read_topic_options(lua_State *L, int index, redmoon_topic_options *out) {
  static const rm_option seconds = {"retention", RM_OPTION_DURATION, 0, 1, INT64_C(31622400000), 0,
                                    AGE ", or a table {age=, length=, hold=}"};
  rm_lua_read_options(L, index, topic_options, COUNT(topic_options), out);
  if (!lua_istable(L, index)) return;
  if (lua_getfield(L, index, "retention") == LUA_TTABLE)
    rm_lua_read_options(L, lua_gettop(L), retention_options, COUNT(retention_options), out);
  else if (!lua_isnil(L, -1))
    out->age_ms = rm_lua_duration_ms(L, lua_gettop(L), &seconds);
  lua_pop(L, 1);
}

int rm_lua_client_topic(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, name_len >= 1 && name_len <= 512, 2, "a topic's name has 1 to 512 bytes");
  lua_settop(L, 3);
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  read_topic_options(L, 3, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  topic *t = lua_newuserdatauv(L, sizeof *t, SLOTS);
  memset(t, 0, sizeof *t);
  luaL_setmetatable(L, RM_LUA_TOPIC_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, RM_LUA_TOPIC_SERVER);
  rm_lua_link_set(&t->link, &client->link);
  redmoon_error err;
  if (redmoon_topic_new(client->link.client, name, name_len, &options, &t->inner, &err) < 0) {
    end_topic(L, t);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

static int published(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_topic_published *out = rm_lua_out(task);
  lua_createtable(L, 0, 2);
  rm_lua_topic_set(L, "seq", out->seq);
  rm_lua_topic_set(L, "receivers", out->receivers);
  return 1;
}

/* topic:publish(payload [, {request_id=}]) */
static int topic_publish(lua_State *L) {
  topic *t = rm_lua_topic_check(L);
  size_t len;
  const char *payload = luaL_checklstring(L, 2, &len);
  lua_settop(L, 3);
  publish_options options = {NULL};
  rm_lua_read_options(L, 3, request_options, COUNT(request_options), &options);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, published);
  redmoon_topic_published *out = rm_lua_out(task);
  int started = redmoon_topic_publish_start(t->inner, payload, len, options.request_id, out, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* [-0, +0], never raises */
static void end_reader(lua_State *L, reader *r) {
  redmoon_topic_reader *inner = r->inner;
  redmoon_topic_message *held = r->held;
  r->inner = NULL;
  r->held = NULL;
  redmoon_topic_message_free(held);
  redmoon_topic_reader_close(inner);
  rm_lua_link_drop(L, &r->link);
}

static reader *check_reader(lua_State *L) {
  reader *r = luaL_checkudata(L, 1, READER_TYPE);
  luaL_argcheck(L, r->inner != NULL, 1, "the reader is closed");
  return r;
}

enum { BOX = 3 }; /* of a reader that is being made: behind topic and options */

static int subscribed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) {
    end_reader(L, lua_touserdata(L, BOX));
    return rm_lua_fail(L, &task->err);
  }
  lua_pushvalue(L, BOX);
  return 1;
}

/* topic:subscribe([{buffer=, overflow=, ...}]) */
static int topic_subscribe(lua_State *L) {
  topic *t = rm_lua_topic_check(L);
  lua_settop(L, 2);
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  rm_lua_read_options(L, 2, reader_options, COUNT(reader_options), &options);
  /* Another thread dials, and goes by what the function says now. */
  if (t->link.credentials != NULL && rm_lua_credentials_prime(L, t->link.credentials) < 0)
    return rm_lua_fail_text(L, REDMOON_ECONFIG, "option 'credentials': the function gave no user and password");
  reader *r = lua_newuserdatauv(L, sizeof *r, SLOTS);
  memset(r, 0, sizeof *r);
  luaL_setmetatable(L, READER_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_TOPIC_SERVER);
  lua_setiuservalue(L, -2, RM_LUA_TOPIC_SERVER);
  rm_lua_link_set(&r->link, &t->link);
  rm_lua_task *task = rm_lua_task_take(L, &r->link, subscribed);
  int started = redmoon_topic_subscribe_start(t->inner, &options, &r->inner, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static const rm_lua_topic_words words = {"gap", "count"};

static int received(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  rm_lua_topic_give(L, &((reader *)lua_touserdata(L, 1))->held, rm_lua_out(task), &words);
  return 1;
}

static int received_next(lua_State *L, rm_lua_task *task, int status) {
  if (status == REDMOON_ECLOSED) {
    lua_pushnil(L);
    return 1;
  }
  if (status >= 0) return received(L, task, status);
  return rm_lua_task_raise(L, task);
}

static int fetch(lua_State *L, reader *r, int64_t timeout_ms, rm_lua_tail tail) {
  if (r->held != NULL) { /* there was no memory to hand it over */
    rm_lua_topic_push_held(L, &r->held, &words);
    return rm_lua_end(L, &r->link, 1);
  }
  rm_lua_task *task = rm_lua_task_take(L, &r->link, tail);
  task->drop = rm_lua_topic_drop;
  redmoon_topic_message **out = rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_topic_receive_start(r->inner, timeout_ms, out, &task->op, &task->err));
}

/* reader:receive([timeout]) */
static int reader_receive(lua_State *L) {
  reader *r = check_reader(L);
  return fetch(L, r, rm_lua_receive_timeout_ms(L, 2), received);
}

/* The iterator. */
static int next_message(lua_State *L) {
  reader *r = luaL_checkudata(L, 1, READER_TYPE);
  return r->inner == NULL ? 0 : fetch(L, r, -1, received_next);
}

/* reader:messages() */
static int reader_messages(lua_State *L) {
  check_reader(L);
  lua_settop(L, 1);
  lua_pushcfunction(L, next_message);
  lua_insert(L, 1);
  return 2;
}

/* reader:stats() */
static int reader_stats(lua_State *L) {
  redmoon_topic_counts c;
  redmoon_topic_reader_stats(check_reader(L)->inner, &c);
  lua_createtable(L, 0, 8);
  rm_lua_topic_set(L, "delivered", (int64_t)c.delivered);
  rm_lua_topic_set(L, "filled", (int64_t)c.filled);
  rm_lua_topic_set(L, "lost", (int64_t)c.lost);
  rm_lua_topic_set(L, "gaps", (int64_t)c.gaps);
  rm_lua_topic_set(L, "unknown", (int64_t)c.unknown);
  rm_lua_topic_set(L, "reconnects", (int64_t)c.reconnects);
  rm_lua_topic_set(L, "buffered", (int64_t)c.buffered);
  lua_pushboolean(L, c.connected);
  lua_setfield(L, -2, "connected");
  return 1;
}

static int topic_gc(lua_State *L) {
  end_topic(L, lua_touserdata(L, 1));
  return 0;
}

static int topic_close(lua_State *L) {
  end_topic(L, luaL_checkudata(L, 1, RM_LUA_TOPIC_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

static int reader_gc(lua_State *L) {
  end_reader(L, lua_touserdata(L, 1));
  return 0;
}

static int reader_close(lua_State *L) {
  end_reader(L, luaL_checkudata(L, 1, READER_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_topic_open(lua_State *L) {
  static const luaL_Reg topic_meta[] = {{"__gc", topic_gc}, {"__close", topic_close}, {NULL, NULL}};
  static const luaL_Reg topic_methods[] = {{"close", topic_close},
                                           {"publish", topic_publish},
                                           {"reader", rm_lua_topic_reader},
                                           {"readers", rm_lua_topic_readers},
                                           {"remove_reader", rm_lua_topic_remove_reader},
                                           {"subscribe", topic_subscribe},
                                           {NULL, NULL}};
  static const luaL_Reg reader_meta[] = {{"__gc", reader_gc}, {"__close", reader_close}, {NULL, NULL}};
  static const luaL_Reg reader_methods[] = {{"close", reader_close},
                                            {"messages", reader_messages},
                                            {"receive", reader_receive},
                                            {"stats", reader_stats},
                                            {NULL, NULL}};
  rm_lua_new_type(L, RM_LUA_TOPIC_TYPE, topic_meta, topic_methods);
  rm_lua_new_type(L, READER_TYPE, reader_meta, reader_methods);
  lua_pop(L, 4);
}
