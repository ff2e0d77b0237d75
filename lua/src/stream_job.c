/* SPDX-License-Identifier: MIT */
/* The job of a stream queue: what queue:pop() gives. */
#include "stream_queue.h"

#include <string.h>

#define STREAM_JOB_TYPE "redmoon.stream_job"
enum { SLOTS = 3 };

static const rm_option nack_table[] = {
    {"delay", RM_OPTION_DURATION, offsetof(redmoon_stream_nack_options, delay_ms), 0, 86400000, 0,
     "seconds from 0 to the queue's lease"},
    {"error", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"fatal", RM_OPTION_BOOL, offsetof(redmoon_stream_nack_options, fatal), 0, 1, 0, "true or false"},
};
static const rm_option lease_argument = {
    "lease", RM_OPTION_DURATION, 0, 1, 86400000, 0, "seconds from 0.001 to the queue's lease"};

/* [-0, +0], never raises */
static void end_job(lua_State *L, rm_lua_stream_job *box) {
  redmoon_stream_job *job = box->job;
  box->job = NULL;
  redmoon_stream_job_free(job);
  rm_lua_link_drop(L, &box->link);
}

rm_lua_stream_job *rm_lua_stream_job_new(lua_State *L, int index, const rm_lua_link *link, rm_lua_codec codec) {
  index = lua_absindex(L, index);
  rm_lua_stream_job *box = lua_newuserdatauv(L, sizeof *box, SLOTS);
  memset(box, 0, sizeof *box);
  box->codec = codec;
  luaL_setmetatable(L, STREAM_JOB_TYPE);
  for (int slot = RM_LUA_STREAM_SERVER; slot <= RM_LUA_STREAM_CODEC; slot++) {
    lua_getiuservalue(L, index, slot);
    lua_setiuservalue(L, -2, slot);
  }
  rm_lua_link_set(&box->link, link);
  return box;
}

/* A payload that cannot be decoded is nil; its bytes are job.raw. */
void rm_lua_stream_job_got(lua_State *L, rm_lua_stream_job *box) {
  if (box->job == NULL) {
    end_job(L, box);
    lua_pop(L, 1);
    lua_pushnil(L);
    return;
  }
  int at = lua_gettop(L);
  size_t len;
  redmoon_error err;
  const void *payload = redmoon_stream_job_payload(box->job, &len);
  if (rm_lua_codec_decode(L, box->codec, at, RM_LUA_STREAM_CODEC, payload, len, &err) == 0)
    lua_setiuservalue(L, at, RM_LUA_STREAM_PAYLOAD);
}

static rm_lua_stream_job *check(lua_State *L) {
  rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  luaL_argcheck(L, box->job != NULL, 1, "the job is closed");
  return box;
}

/* Tails of what ends a job. */

static void note_end(lua_State *L, int status) {
  rm_lua_stream_job *box = lua_touserdata(L, 1);
  if (status == 0 || status == REDMOON_ELOST) box->ended = true;
}

static int ended(lua_State *L, rm_lua_task *task, int status) {
  note_end(L, status);
  return rm_lua_task_done(L, task, status);
}

/* job:ack() */
static int job_ack(lua_State *L) {
  rm_lua_stream_job *box = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &box->link, ended);
  return rm_lua_task_run_or_raise(L, task, redmoon_stream_job_ack_start(box->job, &task->op, &task->err));
}

/* The next one's box at 2. */
static int ended_next(lua_State *L, rm_lua_task *task, int status) {
  note_end(L, status);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushvalue(L, 2);
  rm_lua_stream_job_got(L, lua_touserdata(L, 2));
  return 1;
}

/* job:ack_next() -> the next job, or nil when none is ready */
static int job_ack_next(lua_State *L) {
  rm_lua_stream_job *box = check(L);
  lua_settop(L, 1);
  rm_lua_stream_job *next = rm_lua_stream_job_new(L, 1, &box->link, box->codec);
  rm_lua_task *task = rm_lua_task_take(L, &box->link, ended_next);
  return rm_lua_task_run(L, task, redmoon_stream_job_ack_next_start(box->job, &next->job, &task->op, &task->err));
}

/* job:release() */
static int job_release(lua_State *L) {
  rm_lua_stream_job *box = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &box->link, ended);
  return rm_lua_task_run_or_raise(L, task, redmoon_stream_job_release_start(box->job, &task->op, &task->err));
}

/* job:extend([lease]) */
static int job_extend(lua_State *L) {
  rm_lua_stream_job *box = check(L);
  int64_t lease_ms = lua_isnoneornil(L, 2) ? REDMOON_UNSET : rm_lua_duration_ms(L, 2, &lease_argument);
  rm_lua_task *task = rm_lua_task_take(L, &box->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task, redmoon_stream_job_extend_start(box->job, lease_ms, &task->op, &task->err));
}

/* rm_lua_out: whether it is dead now */
static int failed(lua_State *L, rm_lua_task *task, int status) {
  note_end(L, status);
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, 1);
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 2;
}

/* job:nack([{delay=, error=, fatal=}]) -> true, and true once more if it is dead now */
static int job_nack(lua_State *L) {
  rm_lua_stream_job *box = check(L);
  redmoon_stream_nack_options options = REDMOON_STREAM_NACK_OPTIONS_INIT;
  lua_settop(L, 2);
  rm_lua_read_options(L, 2, nack_table, sizeof nack_table / sizeof nack_table[0], &options);
  if (!lua_isnil(L, 2) && lua_getfield(L, 2, "error") != LUA_TNIL) options.error = luaL_tolstring(L, -1, NULL);
  luaL_argcheck(L, box->job != NULL, 1, "the job is closed"); /* by a __tostring of the error */
  rm_lua_task *task = rm_lua_task_take(L, &box->link, failed);
  int started = redmoon_stream_job_nack_start(box->job, &options, rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int job_held(lua_State *L) {
  const rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  lua_pushboolean(L, box->job != NULL && redmoon_stream_job_held(box->job));
  return 1;
}

static int job_remaining(lua_State *L) {
  const rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  lua_pushnumber(L, box->job == NULL ? 0.0 : (lua_Number)redmoon_stream_job_remaining_ms(box->job) / 1e3);
  return 1;
}

static int close_now(lua_State *L) {
  end_job(L, lua_touserdata(L, 1));
  lua_pushboolean(L, 1);
  return 1;
}

static int closed(lua_State *L, rm_lua_task *task, int status) {
  (void)task;
  (void)status;
  return close_now(L);
}

/* close() and __close(job, error): a job that was not ended is given back; after an error it failed by that. */
static int job_close(lua_State *L) {
  rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  lua_settop(L, 2);
  if (box->job == NULL || box->ended || !rm_lua_can_wait(L, &box->link))
    return close_now(L); /* of a coroutine that is being closed: the lease runs out */
  redmoon_stream_nack_options why = REDMOON_STREAM_NACK_OPTIONS_INIT;
  why.error = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "an error that is no string";
  rm_lua_task *task = rm_lua_task_take(L, &box->link, closed);
  return rm_lua_task_run(L, task,
                         lua_isnil(L, 2)
                             ? redmoon_stream_job_release_start(box->job, &task->op, &task->err)
                             : redmoon_stream_job_nack_start(box->job, &why, NULL, &task->op, &task->err));
}

/* Must not block: the lease runs out. */
static int job_gc(lua_State *L) {
  end_job(L, lua_touserdata(L, 1));
  return 0;
}

static int job_tostring(lua_State *L) {
  const rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  bool held = box->job != NULL && redmoon_stream_job_held(box->job);
  lua_pushfstring(L, STREAM_JOB_TYPE " (%s)",
                  box->job == NULL ? "closed"
                  : box->ended     ? "ended"
                  : held           ? "held"
                                   : "not held");
  return 1;
}

/* job.id .payload .attempt .epoch .raw .ended; else the method. Upvalue: method table. */
static int job_index(lua_State *L) {
  const rm_lua_stream_job *box = luaL_checkudata(L, 1, STREAM_JOB_TYPE);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(field, "payload") == 0) {
    lua_getiuservalue(L, 1, RM_LUA_STREAM_PAYLOAD);
  } else if (strcmp(field, "ended") == 0) {
    lua_pushboolean(L, box->ended);
  } else if (box->job != NULL && strcmp(field, "id") == 0) {
    lua_pushstring(L, redmoon_stream_job_id(box->job));
  } else if (box->job != NULL && strcmp(field, "attempt") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_stream_job_attempt(box->job));
  } else if (box->job != NULL && strcmp(field, "epoch") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_stream_job_epoch(box->job));
  } else if (box->job != NULL && strcmp(field, "raw") == 0) {
    size_t len;
    const char *payload = redmoon_stream_job_payload(box->job, &len);
    lua_pushlstring(L, payload, len);
  } else {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void rm_lua_stream_job_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", job_gc}, {"__close", job_close}, {"__tostring", job_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"ack", job_ack},         {"ack_next", job_ack_next},   {"close", job_close},
                                     {"extend", job_extend},   {"held", job_held},           {"nack", job_nack},
                                     {"release", job_release}, {"remaining", job_remaining}, {NULL, NULL}};
  rm_lua_new_type(L, STREAM_JOB_TYPE, meta, methods);
  lua_pushcclosure(L, job_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
