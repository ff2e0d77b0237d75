/* SPDX-License-Identifier: MIT */
/* The job object: what queue:pop() gives. */
#include "queue.h"

#include "base/error.h"

#include <stddef.h>
#include <string.h>

#define JOB_TYPE "redmoon.job"
#define TEN_YEARS_MS INT64_C(315360000000)
#define YEAR_MS INT64_C(31622400000)

static const rm_option ack_table[] = {
    {"result", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"retention", RM_OPTION_DURATION, offsetof(redmoon_ack_options, retention_ms), 0, YEAR_MS, 0,
     "seconds from 0 to 31622400 (366 days)"},
};
static const rm_option nack_table[] = {
    {"delay", RM_OPTION_DURATION, offsetof(redmoon_nack_options, delay_ms), 0, TEN_YEARS_MS, 0,
     "seconds from 0 to 315360000 (10 years)"},
    {"error", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""},
    {"fatal", RM_OPTION_BOOL, offsetof(redmoon_nack_options, fatal), 0, 1, 0, "true or false"},
};
static const rm_option lease_argument = {"lease", RM_OPTION_DURATION,           0, 100, 86400000,
                                         30000,   "seconds from 0.1 to 86400"};

/* [-0, +0], never raises */
static void end_job(lua_State *L, rm_lua_job *j) {
  redmoon_job *held = j->job;
  j->job = NULL;
  redmoon_job_free(held);
  rm_lua_link_drop(L, &j->link);
}

rm_lua_job *rm_lua_job_new(lua_State *L, int index, const rm_lua_link *link, rm_lua_codec codec) {
  index = lua_absindex(L, index);
  rm_lua_job *j = lua_newuserdatauv(L, sizeof *j, RM_LUA_JOB_SLOTS);
  memset(j, 0, sizeof *j);
  j->codec = codec;
  luaL_setmetatable(L, JOB_TYPE);
  for (int slot = RM_LUA_JOB_SERVER; slot <= RM_LUA_JOB_CODEC; slot++) {
    lua_getiuservalue(L, index, slot);
    lua_setiuservalue(L, -2, slot);
  }
  rm_lua_link_set(&j->link, link);
  return j;
}

/* A payload that cannot be decoded is nil; its bytes are job.raw. */
void rm_lua_job_got(lua_State *L, rm_lua_job *j) {
  if (j->job == NULL) {
    end_job(L, j);
    lua_pop(L, 1);
    lua_pushnil(L);
    return;
  }
  int box = lua_gettop(L);
  size_t len;
  const void *payload = redmoon_job_payload(j->job, &len);
  redmoon_error err;
  if (rm_lua_codec_decode(L, j->codec, box, RM_LUA_JOB_CODEC, payload, len, &err) == 0)
    lua_setiuservalue(L, box, RM_LUA_JOB_PAYLOAD);
}

void rm_lua_job_set_value(lua_State *L, rm_lua_codec codec, int owner, const char *name, redmoon_bytes bytes) {
  redmoon_error err;
  if (bytes.ptr == NULL) return;
  if (rm_lua_codec_decode(L, codec, owner, RM_LUA_QUEUE_CODEC, bytes.ptr, bytes.len, &err) == 0)
    lua_setfield(L, -2, name);
}

rm_lua_job *rm_lua_job_check(lua_State *L, int index) { return luaL_checkudata(L, index, JOB_TYPE); }

static rm_lua_job *check(lua_State *L) {
  rm_lua_job *j = rm_lua_job_check(L, 1);
  luaL_argcheck(L, j->job != NULL, 1, "the job is closed");
  return j;
}

/* true, or nil, message, code, detail; and the job is ended. */
static int ended(lua_State *L, rm_lua_task *task, int status) {
  rm_lua_job *j = lua_touserdata(L, 1);
  j->ended = j->ended || status == 0 || status == REDMOON_ELOST;
  return rm_lua_task_done(L, task, status);
}

/* The options of an ack at 2; its encoded result stays on the stack.  0, or negative with err. [-0, +?] */
static int read_ack(lua_State *L, rm_lua_job *j, redmoon_ack_options *options, redmoon_error *err) {
  *options = (redmoon_ack_options)REDMOON_ACK_OPTIONS_INIT;
  lua_settop(L, 2);
  rm_lua_read_options(L, 2, ack_table, sizeof ack_table / sizeof ack_table[0], options);
  if (lua_isnil(L, 2) || lua_getfield(L, 2, "result") == LUA_TNIL) return 0;
  int status = rm_lua_codec_encode(L, j->codec, 1, RM_LUA_JOB_CODEC, -1, err);
  if (status == 0) options->result = lua_tolstring(L, -1, &options->result_len);
  luaL_argcheck(L, j->job != NULL, 1, "the job is closed"); /* by the codec's function */
  return status;
}

/* job:ack([{result=, retention=}]) */
static int job_ack(lua_State *L) {
  rm_lua_job *j = check(L);
  redmoon_ack_options options;
  redmoon_error err;
  if (read_ack(L, j, &options, &err) < 0) return rm_lua_fail(L, &err);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, ended);
  return rm_lua_task_run_or_raise(L, task, redmoon_job_ack_start(j->job, &options, &task->op, &task->err));
}

/* rm_lua_out(task): the next box's place on the stack */
static int ended_next(lua_State *L, rm_lua_task *task, int status) {
  int place = *(const int *)rm_lua_out(task);
  rm_lua_job *j = lua_touserdata(L, 1), *next = lua_touserdata(L, place);
  bool taken = next->job != NULL;
  j->ended = j->ended || status == 0 || status == REDMOON_ELOST || taken;
  if (status == 0 || taken) {
    lua_pushvalue(L, place);
    rm_lua_job_got(L, next);
  }
  if (status == 0) return 1;
  int box = lua_gettop(L), count = rm_lua_fail(L, &task->err);
  if (taken) { /* replicas lack the end of this one: the next is taken all the same */
    lua_pushvalue(L, box);
    lua_setfield(L, -2, "job");
  }
  return count;
}

/* job:ack_next([{result=, retention=}]) -> the next job, or nil when none is ready */
static int job_ack_next(lua_State *L) {
  rm_lua_job *j = check(L);
  redmoon_ack_options options;
  redmoon_error err;
  if (read_ack(L, j, &options, &err) < 0) return rm_lua_fail(L, &err);
  rm_lua_job *next = rm_lua_job_new(L, 1, &j->link, j->codec);
  int place = lua_gettop(L);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, ended_next);
  *(int *)rm_lua_out(task) = place;
  return rm_lua_task_run_or_raise(
      L, task, redmoon_job_ack_next_start(j->job, &options, &next->job, &task->op, &task->err));
}

static int nacked(lua_State *L, rm_lua_task *task, int status) {
  int count = ended(L, task, status);
  if (count > 1) return count;
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 2;
}

/* job:nack([{delay=, error=, fatal=}]) -> true, and true once more if it is dead now */
static int job_nack(lua_State *L) {
  rm_lua_job *j = check(L);
  redmoon_nack_options options = REDMOON_NACK_OPTIONS_INIT;
  lua_settop(L, 2);
  rm_lua_read_options(L, 2, nack_table, sizeof nack_table / sizeof nack_table[0], &options);
  if (!lua_isnil(L, 2) && lua_getfield(L, 2, "error") != LUA_TNIL) options.error = luaL_tolstring(L, -1, NULL);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, nacked);
  int *dead = (int *)rm_lua_out(task);
  return rm_lua_task_run_or_raise(L, task, redmoon_job_nack_start(j->job, &options, dead, &task->op, &task->err));
}

/* job:extend([lease]) */
static int job_extend(lua_State *L) {
  rm_lua_job *j = check(L);
  int64_t lease_ms = lua_isnoneornil(L, 2) ? REDMOON_UNSET : rm_lua_duration_ms(L, 2, &lease_argument);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task, redmoon_job_extend_start(j->job, lease_ms, &task->op, &task->err));
}

/* job:release() */
static int job_release(lua_State *L) {
  rm_lua_job *j = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, ended);
  return rm_lua_task_run(L, task, redmoon_job_release_start(j->job, &task->op, &task->err));
}

/* job:progress(value) */
static int job_progress(lua_State *L) {
  rm_lua_job *j = check(L);
  luaL_checkany(L, 2);
  redmoon_error err;
  if (rm_lua_codec_encode(L, j->codec, 1, RM_LUA_JOB_CODEC, 2, &err) < 0) return rm_lua_fail(L, &err);
  luaL_argcheck(L, j->job != NULL, 1, "the job is closed"); /* by the codec's function */
  size_t len;
  const char *progress = lua_tolstring(L, -1, &len);
  rm_lua_task *task = rm_lua_task_take(L, &j->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_job_progress_start(j->job, progress, len, &task->op, &task->err));
}

static int job_held(lua_State *L) {
  const rm_lua_job *j = rm_lua_job_check(L, 1);
  lua_pushboolean(L, j->job != NULL && redmoon_job_held(j->job));
  return 1;
}

static int job_remaining(lua_State *L) {
  const rm_lua_job *j = rm_lua_job_check(L, 1);
  lua_pushnumber(L, j->job == NULL ? 0.0 : (lua_Number)redmoon_job_remaining_ms(j->job) / 1000.0);
  return 1;
}

/* close() and __close(job, error): a job that was not ended is given back; after an error it failed by that. */
static int closed(lua_State *L, rm_lua_task *task, int status) {
  (void)task;
  (void)status;
  end_job(L, lua_touserdata(L, 1));
  lua_pushboolean(L, 1);
  return 1;
}

static int job_close(lua_State *L) {
  rm_lua_job *j = rm_lua_job_check(L, 1);
  lua_settop(L, 2);
  if (j->job == NULL || j->ended || !rm_lua_can_wait(L, &j->link)) { /* as of a lock: the lease runs out */
    end_job(L, j);
    lua_pushboolean(L, 1);
    return 1;
  }
  redmoon_nack_options why = REDMOON_NACK_OPTIONS_INIT;
  why.error = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "an error that is no string";
  rm_lua_task *task = rm_lua_task_take(L, &j->link, closed);
  int started = lua_isnil(L, 2) ? redmoon_job_release_start(j->job, &task->op, &task->err)
                                : redmoon_job_nack_start(j->job, &why, NULL, &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* Must not block: the lease runs out. */
static int job_gc(lua_State *L) {
  end_job(L, lua_touserdata(L, 1));
  return 0;
}

static int job_tostring(lua_State *L) {
  const rm_lua_job *j = rm_lua_job_check(L, 1);
  const char *what = j->job == NULL ? "closed" : j->ended ? "ended" : redmoon_job_held(j->job) ? "held" : "not held";
  lua_pushfstring(L, JOB_TYPE " (%s)", what);
  return 1;
}

/* job.id .payload .attempt .epoch .group .raw .ended; else the method. Upvalue: method table. */
static int job_index(lua_State *L) {
  const rm_lua_job *j = rm_lua_job_check(L, 1);
  const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(field, "payload") == 0) {
    lua_getiuservalue(L, 1, RM_LUA_JOB_PAYLOAD);
  } else if (strcmp(field, "ended") == 0) {
    lua_pushboolean(L, j->ended);
  } else if (j->job != NULL && strcmp(field, "id") == 0) {
    lua_pushstring(L, redmoon_job_id(j->job));
  } else if (j->job != NULL && strcmp(field, "attempt") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_job_attempt(j->job));
  } else if (j->job != NULL && strcmp(field, "epoch") == 0) {
    lua_pushinteger(L, (lua_Integer)redmoon_job_epoch(j->job));
  } else if (j->job != NULL && strcmp(field, "group") == 0) {
    lua_pushstring(L, redmoon_job_group(j->job)); /* NULL: nil */
  } else if (j->job != NULL && strcmp(field, "raw") == 0) {
    size_t len;
    const char *payload = redmoon_job_payload(j->job, &len);
    lua_pushlstring(L, payload, len);
  } else {
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
  }
  return 1;
}

void rm_lua_job_open(lua_State *L) {
  static const luaL_Reg meta[] = {
      {"__gc", job_gc}, {"__close", job_close}, {"__tostring", job_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"ack", job_ack},
                                     {"ack_next", job_ack_next},
                                     {"close", job_close},
                                     {"extend", job_extend},
                                     {"held", job_held},
                                     {"nack", job_nack},
                                     {"progress", job_progress},
                                     {"release", job_release},
                                     {"remaining", job_remaining},
                                     {NULL, NULL}};
  rm_lua_new_type(L, JOB_TYPE, meta, methods);
  lua_pushcclosure(L, job_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
