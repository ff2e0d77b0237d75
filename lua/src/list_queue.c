/* SPDX-License-Identifier: MIT */
/* client:list_queue(name [, {codec=}]). */
#include "binding.h"

#include "base/error.h"
#include "codec.h"

#include <string.h>

#define LIST_QUEUE_TYPE "redmoon.list_queue"

typedef struct list_queue {
  rm_lua_link link;
  redmoon_list_queue *queue; /* NULL: closed */
  rm_lua_codec codec;
} list_queue;
enum { SLOT_SERVER = 1, SLOT_CODEC = 2, SLOTS = 2 };

static const rm_option queue_options[] = {RM_LUA_CODEC_OPTION};
static const rm_option timeout_option = {"timeout",
                                         RM_OPTION_DURATION,
                                         0,
                                         0,
                                         INT64_C(31622400000),
                                         0,
                                         "seconds from 0 (do not wait) to 31622400 (366 days)"};

static void end_queue(lua_State *L, list_queue *q) {
  redmoon_list_queue *inner = q->queue;
  q->queue = NULL;
  redmoon_list_queue_free(inner);
  rm_lua_link_drop(L, &q->link);
}

static list_queue *check(lua_State *L) {
  list_queue *q = luaL_checkudata(L, 1, LIST_QUEUE_TYPE);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed");
  return q;
}

int rm_lua_client_list_queue(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  lua_settop(L, 3);
  char none;
  rm_lua_read_options(L, 3, queue_options, sizeof queue_options / sizeof queue_options[0], &none);
  rm_lua_codec codec = rm_lua_codec_check(L, 3, RM_LUA_CODEC_STRING); /* [+1] */
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  list_queue *q = lua_newuserdatauv(L, sizeof *q, SLOTS);
  memset(q, 0, sizeof *q);
  q->codec = codec;
  luaL_setmetatable(L, LIST_QUEUE_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 5, SLOT_SERVER);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, 5, SLOT_CODEC);
  rm_lua_link_set(&q->link, &client->link);
  redmoon_error err;
  if (redmoon_list_queue_new(client->link.client, name, name_len, &q->queue, &err) < 0) {
    end_queue(L, q);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* queue:push(value) -> items in the list now */
static int list_queue_push(lua_State *L) {
  list_queue *q = check(L);
  luaL_checkany(L, 2);
  redmoon_error err;
  if (rm_lua_codec_encode(L, q->codec, 1, SLOT_CODEC, 2, &err) < 0) return rm_lua_fail(L, &err);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed"); /* by the codec's function */
  size_t len;
  const char *payload = lua_tolstring(L, -1, &len);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_integer);
  int started = redmoon_list_queue_push_start(q->queue, payload, len, rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* The item's value; or nil, message, "CODEC", detail with the payload: it is nowhere else any more. */
static int push_item(lua_State *L, const list_queue *q, const redmoon_reply *item) {
  size_t len;
  redmoon_error err;
  const char *payload = redmoon_reply_string(item, &len);
  if (rm_lua_codec_decode(L, q->codec, 1, SLOT_CODEC, payload, len, &err) == 0) return 1;
  err.outcome = REDMOON_ANSWERED;
  err.attempts = 1;
  int count = rm_lua_fail(L, &err);
  lua_pushlstring(L, payload, len);
  lua_setfield(L, -2, "payload");
  return count;
}

static void drop_item(void *out) { redmoon_reply_free(*(redmoon_reply **)out); }

static int popped(lua_State *L, rm_lua_task *task, int status) {
  const redmoon_reply *item = *(redmoon_reply **)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (item != NULL) return push_item(L, lua_touserdata(L, 1), item);
  lua_pushnil(L);
  return 1;
}

/* queue:pop([timeout=0]) -> value | nil */
static int list_queue_pop(lua_State *L) {
  list_queue *q = check(L);
  int64_t timeout_ms = lua_isnoneornil(L, 2) ? 0 : rm_lua_duration_ms(L, 2, &timeout_option);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, popped);
  task->drop = drop_item;
  int started =
      redmoon_list_queue_pop_start(q->queue, timeout_ms, rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* queue:length() -> integer */
static int list_queue_length(lua_State *L) {
  list_queue *q = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_integer);
  return rm_lua_task_run(L, task,
                         redmoon_list_queue_length_start(q->queue, rm_lua_out(task), &task->op, &task->err));
}

static int list_queue_gc(lua_State *L) {
  end_queue(L, lua_touserdata(L, 1));
  return 0;
}

static int list_queue_close(lua_State *L) {
  end_queue(L, luaL_checkudata(L, 1, LIST_QUEUE_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_list_queue_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", list_queue_gc}, {"__close", list_queue_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", list_queue_close},
                                     {"length", list_queue_length},
                                     {"pop", list_queue_pop},
                                     {"push", list_queue_push},
                                     {NULL, NULL}};
  rm_lua_new_type(L, LIST_QUEUE_TYPE, meta, methods);
  lua_pop(L, 2);
}
