/* SPDX-License-Identifier: MIT */
/* client:stream_queue(name [, {...}]); the jobs that it hands out are in stream_job.c. */
#include "stream_queue.h"

#include "base/error.h"

#include <string.h>

#define STREAM_QUEUE_TYPE "redmoon.stream_queue"
#define STREAM_JOBS_TYPE "redmoon.stream_jobs"
#define MANY REDMOON_STREAM_QUEUE_MANY_MAX
enum { SLOTS = 2, DEAD_USUAL = 100 };

typedef struct stream_queue {
  rm_lua_link link;
  redmoon_stream_queue *queue; /* NULL: closed */
  rm_lua_codec codec;
} stream_queue;

static const rm_option queue_options[] = {
    {"lease", RM_OPTION_DURATION, offsetof(redmoon_stream_queue_options, lease_ms), 100, 86400000, 0,
     "seconds from 0.1 to 86400 (24 hours)"},
    {"max_attempts", RM_OPTION_INTEGER, offsetof(redmoon_stream_queue_options, max_attempts), 1, 1000000, 0,
     "an integer from 1 to 1000000"},
    {"max_payload", RM_OPTION_INTEGER, offsetof(redmoon_stream_queue_options, max_payload), 1, INT64_C(512) << 20,
     0, "bytes from 1 to 536870912"},
    RM_LUA_CODEC_OPTION,
};

typedef struct push_options {
  const char *request_id;
} push_options;
static const rm_option push_table[] = {
    {"request_id", RM_OPTION_TEXT, offsetof(push_options, request_id), 0, 0, 0, "a string"},
};
static const rm_option item_table[] = {{"payload", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""}};
static const rm_option timeout_option = {
    "timeout", RM_OPTION_DURATION, 0, 0, 86400000, 0, "seconds from 0 (do not wait) to 86400 (24 hours)"};

static void end_queue(lua_State *L, stream_queue *q) {
  redmoon_stream_queue *inner = q->queue;
  q->queue = NULL;
  redmoon_stream_queue_free(inner);
  rm_lua_link_drop(L, &q->link);
}

static stream_queue *check(lua_State *L) {
  stream_queue *q = luaL_checkudata(L, 1, STREAM_QUEUE_TYPE);
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed");
  return q;
}

int rm_lua_client_stream_queue(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  lua_settop(L, 3);
  redmoon_stream_queue_options options = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  rm_lua_read_options(L, 3, queue_options, sizeof queue_options / sizeof queue_options[0], &options);
  rm_lua_codec codec = rm_lua_codec_check(L, 3, RM_LUA_CODEC_JSON); /* [+1] */
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  stream_queue *q = lua_newuserdatauv(L, sizeof *q, SLOTS);
  memset(q, 0, sizeof *q);
  q->codec = codec;
  luaL_setmetatable(L, STREAM_QUEUE_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 5, RM_LUA_STREAM_SERVER);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, 5, RM_LUA_STREAM_CODEC);
  rm_lua_link_set(&q->link, &client->link);
  redmoon_error err;
  if (redmoon_stream_queue_new(client->link.client, name, name_len, &options, &q->queue, &err) < 0) {
    end_queue(L, q);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* Push. */

/* The value at `index`, encoded, on top.  0, or negative with nothing pushed. [-0, +1|0] */
static int encode(lua_State *L, stream_queue *q, int index, redmoon_bytes *out, redmoon_error *err) {
  int status = rm_lua_codec_encode(L, q->codec, 1, RM_LUA_STREAM_CODEC, index, err);
  if (status < 0) return status;
  luaL_argcheck(L, q->queue != NULL, 1, "the queue is closed"); /* by the codec's function */
  out->ptr = lua_tolstring(L, -1, &out->len);
  return 0;
}

static int pushed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushstring(L, rm_lua_out(task));
  return 1;
}

/* queue:push(payload [, {request_id=}]) -> id */
static int stream_queue_push(lua_State *L) {
  stream_queue *q = check(L);
  luaL_checkany(L, 2);
  lua_settop(L, 3);
  push_options options = {NULL};
  rm_lua_read_options(L, 3, push_table, 1, &options);
  redmoon_bytes payload;
  redmoon_error err;
  if (encode(L, q, 2, &payload, &err) < 0) return rm_lua_fail(L, &err);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, pushed);
  int started = redmoon_stream_queue_push_start(q->queue, payload.ptr, payload.len, options.request_id,
                                                rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* The payloads of the items at 2, {payload = value} each, encoded; a table holds the texts. [-0, +2] or, when one
 * cannot be encoded, NULL and *failed is the count of results. */
static redmoon_bytes *encode_all(lua_State *L, stream_queue *q, size_t count, int *failed) {
  redmoon_error err;
  redmoon_bytes *payloads = lua_newuserdatauv(L, count * sizeof *payloads, 0);
  lua_createtable(L, (int)count, 0);
  int texts = lua_gettop(L);
  for (size_t i = 0; i < count; i++) {
    if (lua_rawgeti(L, 2, (lua_Integer)i + 1) != LUA_TTABLE)
      rm_lua_raise(L, "item %d: a table {payload = value} expected, got %s", (int)i + 1, luaL_typename(L, -1));
    rm_lua_read_options(L, -1, item_table, 1, payloads);
    if (lua_getfield(L, -1, "payload") == LUA_TNIL) rm_lua_raise(L, "item %d has no payload", (int)i + 1);
    if (encode(L, q, lua_gettop(L), &payloads[i], &err) < 0) {
      *failed = rm_lua_fail(L, &err);
      return NULL;
    }
    lua_rawseti(L, texts, (lua_Integer)i + 1);
    lua_pop(L, 2);
  }
  return payloads;
}

/* rm_lua_out: ids to come, which the stack keeps */
typedef struct pushed_out {
  size_t count;
  char (*ids)[REDMOON_STREAM_ID_SIZE];
} pushed_out;

static int pushed_many(lua_State *L, rm_lua_task *task, int status) {
  const pushed_out *out = rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_createtable(L, (int)out->count, 0);
  for (size_t i = 0; i < out->count; i++) {
    lua_pushstring(L, out->ids[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* queue:push_many({{payload=}, ...} [, {request_id=}]) -> {id, ...} */
static int stream_queue_push_many(lua_State *L) {
  stream_queue *q = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  push_options options = {NULL};
  rm_lua_read_options(L, 3, push_table, 1, &options);
  size_t count = (size_t)lua_rawlen(L, 2);
  if (count > MANY) return rm_lua_raise(L, "%d jobs are not accepted; give up to %d", (int)count, MANY);
  if (count == 0) {
    lua_newtable(L);
    return 1;
  }
  int failed = 0;
  redmoon_bytes *payloads = encode_all(L, q, count, &failed);
  if (payloads == NULL) return failed;
  char(*ids)[REDMOON_STREAM_ID_SIZE] = lua_newuserdatauv(L, count * sizeof *ids, 0);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, pushed_many);
  *(pushed_out *)rm_lua_out(task) = (pushed_out){count, ids};
  int started = redmoon_stream_queue_push_many_start(q->queue, payloads, count, options.request_id, ids, &task->op,
                                                     &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Pop. */

static int64_t check_timeout(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? 0 : rm_lua_duration_ms(L, index, &timeout_option);
}

/* The box at 3. */
static int popped(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushvalue(L, 3);
  rm_lua_stream_job_got(L, lua_touserdata(L, 3));
  return 1;
}

/* queue:pop([timeout=0]) -> job | nil */
static int stream_queue_pop(lua_State *L) {
  stream_queue *q = check(L);
  int64_t timeout_ms = check_timeout(L, 2);
  lua_settop(L, 2);
  rm_lua_stream_job *box = rm_lua_stream_job_new(L, 1, &q->link, q->codec);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, popped);
  int started = redmoon_stream_queue_pop_start(q->queue, timeout_ms, &box->job, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Jobs on their way into boxes. */
typedef struct jobs {
  size_t got, boxed;
  redmoon_stream_job *list[];
} jobs;

static int jobs_gc(lua_State *L) {
  jobs *all = lua_touserdata(L, 1);
  while (all->boxed < all->got) redmoon_stream_job_free(all->list[all->boxed++]);
  return 0;
}

/* The jobs at 4.  The queue may have been closed meanwhile. */
static int popped_many(lua_State *L, rm_lua_task *task, int status) {
  jobs *all = lua_touserdata(L, 4);
  const stream_queue *q = lua_touserdata(L, 1);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_createtable(L, (int)all->got, 0);
  while (all->boxed < all->got) {
    rm_lua_stream_job *box = rm_lua_stream_job_new(L, 1, &task->link, q->codec);
    box->job = all->list[all->boxed++];
    lua_rawseti(L, -2, (lua_Integer)all->boxed);
  }
  /* Only then, because the codec's function may close the queue. */
  for (size_t i = 1; i <= all->got; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i);
    rm_lua_stream_job_got(L, lua_touserdata(L, -1));
    lua_pop(L, 1);
  }
  return 1;
}

/* queue:pop_many(n [, timeout=0]) -> {job, ...} */
static int stream_queue_pop_many(lua_State *L) {
  stream_queue *q = check(L);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_argcheck(L, n >= 1 && n <= MANY, 2, "a number of jobs is an integer from 1 to 500");
  int64_t timeout_ms = check_timeout(L, 3);
  lua_settop(L, 3);
  jobs *all = lua_newuserdatauv(L, sizeof *all + (size_t)n * sizeof(redmoon_stream_job *), 0);
  all->got = all->boxed = 0;
  luaL_setmetatable(L, STREAM_JOBS_TYPE);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, popped_many);
  int started = redmoon_stream_queue_pop_many_start(q->queue, (size_t)n, timeout_ms, all->list, &all->got, &task->op,
                                                    &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Looking after it. */

static int counted(lua_State *L, rm_lua_task *task, int status) {
  const redmoon_stream_queue_counts *counts = rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  const struct {
    const char *name;
    int64_t value;
  } fields[] = {
      {"ready", counts->ready}, {"delayed", counts->delayed}, {"leased", counts->leased}, {"dead", counts->dead}};
  lua_createtable(L, 0, 4);
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    lua_pushinteger(L, (lua_Integer)fields[i].value);
    lua_setfield(L, -2, fields[i].name);
  }
  return 1;
}

/* queue:stats() */
static int stream_queue_stats(lua_State *L) {
  stream_queue *q = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, counted);
  int started = redmoon_stream_queue_stats_start(q->queue, rm_lua_out(task), &task->op,
                                                 &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* [-0, +1] */
static void push_dead(lua_State *L, const stream_queue *q, const redmoon_stream_dead *job) {
  redmoon_error err;
  lua_createtable(L, 0, 7);
  lua_pushstring(L, job->id);
  lua_setfield(L, -2, "id");
  lua_pushstring(L, job->error);
  lua_setfield(L, -2, "error");
  lua_pushinteger(L, (lua_Integer)job->attempts);
  lua_setfield(L, -2, "attempts");
  lua_pushinteger(L, (lua_Integer)job->epoch);
  lua_setfield(L, -2, "epoch");
  lua_pushnumber(L, (lua_Number)job->died_ms / 1e3);
  lua_setfield(L, -2, "died_at");
  lua_pushlstring(L, job->payload.ptr, job->payload.len);
  lua_setfield(L, -2, "raw");
  if (rm_lua_codec_decode(L, q->codec, 1, RM_LUA_STREAM_CODEC, job->payload.ptr, job->payload.len, &err) == 0)
    lua_setfield(L, -2, "payload");
}

static void drop_list(void *out) { redmoon_stream_dead_list_free(*(redmoon_stream_dead_list **)out); }

static int listed(lua_State *L, rm_lua_task *task, int status) {
  const redmoon_stream_dead_list *list = *(redmoon_stream_dead_list **)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    push_dead(L, lua_touserdata(L, 1), &list->jobs[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_pushinteger(L, (lua_Integer)list->total);
  return 2;
}

/* queue:dead([n=100]) -> {{id=, payload=, ...}, ...}, how many there are */
static int stream_queue_dead(lua_State *L) {
  stream_queue *q = check(L);
  lua_Integer n = luaL_optinteger(L, 2, DEAD_USUAL);
  luaL_argcheck(L, n >= 1 && n <= MANY, 2, "a number of jobs is an integer from 1 to 500");
  rm_lua_task *task = rm_lua_task_take(L, &q->link, listed);
  task->drop = drop_list;
  int started =
      redmoon_stream_queue_dead_start(q->queue, n, rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* rm_lua_out */
typedef struct redrive_out {
  int64_t left, most, moved, more; /* to be moved yet, at most now, so far, just now */
} redrive_out;

static int redrive(const stream_queue *q, rm_lua_task *task) {
  redrive_out *out = rm_lua_out(task);
  out->most = out->left < MANY ? out->left : MANY;
  return redmoon_stream_queue_redrive_start(q->queue, out->most, &out->more, &task->op, &task->err);
}

static int redriven(lua_State *L, rm_lua_task *task, int status) {
  const stream_queue *q = lua_touserdata(L, 1);
  redrive_out *out = rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  out->moved += out->more;
  out->left -= out->more;
  if (out->left > 0 && out->more == out->most) {
    if (q->queue == NULL) return rm_lua_fail_text(L, REDMOON_ECLOSED, "the queue was closed before all were moved");
    return redrive(q, task) < 0 ? rm_lua_fail(L, &task->err) : RM_LUA_AGAIN;
  }
  lua_pushinteger(L, (lua_Integer)out->moved);
  return 1;
}

/* queue:redrive([n]) -> how many; without n all that are dead */
static int stream_queue_redrive(lua_State *L) {
  stream_queue *q = check(L);
  lua_Integer n = luaL_optinteger(L, 2, LUA_MAXINTEGER);
  luaL_argcheck(L, n >= 1, 2, "a number of jobs is an integer from 1 on");
  rm_lua_task *task = rm_lua_task_take(L, &q->link, redriven);
  ((redrive_out *)rm_lua_out(task))->left = n;
  return rm_lua_task_run_or_raise(L, task, redrive(q, task));
}

static int stream_queue_gc(lua_State *L) {
  end_queue(L, lua_touserdata(L, 1));
  return 0;
}

static int stream_queue_close(lua_State *L) {
  end_queue(L, luaL_checkudata(L, 1, STREAM_QUEUE_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_stream_queue_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", stream_queue_gc}, {"__close", stream_queue_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"close", stream_queue_close},       {"dead", stream_queue_dead},   {"pop", stream_queue_pop},
      {"pop_many", stream_queue_pop_many}, {"push", stream_queue_push},   {"push_many", stream_queue_push_many},
      {"redrive", stream_queue_redrive},   {"stats", stream_queue_stats}, {NULL, NULL}};
  static const luaL_Reg jobs_meta[] = {{"__gc", jobs_gc}, {NULL, NULL}};
  rm_lua_new_type(L, STREAM_JOBS_TYPE, jobs_meta, NULL);
  rm_lua_new_type(L, STREAM_QUEUE_TYPE, meta, methods);
  lua_pop(L, 4);
  rm_lua_stream_job_open(L);
}
