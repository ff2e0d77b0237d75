/* SPDX-License-Identifier: MIT */
/* The queue object: what looks after a queue. */
#include "queue.h"

#include "patterns/waiting.h"

#include <math.h>
#include <string.h>

/* Waits for what was started: what `push` makes of `out`, or nil, message, code, detail.  Bad arguments raise. */
static int answer(lua_State *L, rm_lua_queue *q, int started, redmoon_op *op, redmoon_error *err,
                  void (*push)(lua_State *L, const void *out), const void *out) {
  if (started == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err->message);
  int status = rm_lua_run(L, &q->link, started, op, err), count = 1;
  if (status < 0) count = rm_lua_fail(L, err);
  else push(L, out);
  return rm_lua_end(L, &q->link, count);
}

static void push_true(lua_State *L, const void *out) {
  (void)out;
  lua_pushboolean(L, 1);
}
static void push_bool(lua_State *L, const void *out) { lua_pushboolean(L, *(const int *)out); }
static void push_integer(lua_State *L, const void *out) { lua_pushinteger(L, (lua_Integer) * (const int64_t *)out); }

static void set_integer(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void push_counts(lua_State *L, const void *out) {
  const redmoon_queue_counts *counts = out;
  lua_createtable(L, 0, 10);
  set_integer(L, "ready", counts->ready);
  set_integer(L, "delayed", counts->delayed);
  set_integer(L, "leased", counts->leased);
  set_integer(L, "dead", counts->dead);
  set_integer(L, "done", counts->done);
  set_integer(L, "pushed", counts->pushed);
  set_integer(L, "finished", counts->finished);
  set_integer(L, "removed", counts->removed);
  lua_pushboolean(L, counts->paused);
  lua_setfield(L, -2, "paused");
  lua_pushnumber(L, counts->next_due_us < 0 ? HUGE_VAL : (lua_Number)counts->next_due_us / 1e6);
  lua_setfield(L, -2, "next_due");
}

/* queue:stats() */
static int queue_stats(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  redmoon_queue_counts counts;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_stats_start(q->queue, &counts, &op, &err);
  return answer(L, q, started, op, &err, push_counts, &counts);
}

/* queue:pause() */
static int queue_pause(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_pause_start(q->queue, &op, &err);
  return answer(L, q, started, op, &err, push_true, NULL);
}

/* queue:resume() */
static int queue_resume(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_resume_start(q->queue, &op, &err);
  return answer(L, q, started, op, &err, push_true, NULL);
}

/* What is known of a job, as a table. [-0, +1] */
static void push_info(lua_State *L, const rm_lua_queue *q, const redmoon_job_info *info) {
  static const char *const states[] = {"", "ready", "delayed", "leased", "dead", "done"};
  lua_createtable(L, 0, 14);
  lua_pushstring(L, info->id);
  lua_setfield(L, -2, "id");
  lua_pushstring(L, states[info->state >= 1 && info->state <= 5 ? info->state : 0]);
  lua_setfield(L, -2, "state");
  if (info->error[0] != '\0') {
    lua_pushstring(L, info->error);
    lua_setfield(L, -2, "error");
  }
  if (info->unique[0] != '\0') {
    lua_pushstring(L, info->unique);
    lua_setfield(L, -2, "unique");
  }
  set_integer(L, "priority", info->priority);
  set_integer(L, "failures", info->failures);
  set_integer(L, "crashes", info->crashes);
  set_integer(L, "epoch", info->epoch);
  if (info->state != REDMOON_JOB_DONE) rm_lua_job_set_value(L, q->codec, 1, "payload", info->payload);
  rm_lua_job_set_value(L, q->codec, 1, info->state == REDMOON_JOB_DONE ? "result" : "progress", info->result);
  if (info->died_us > 0) {
    lua_pushnumber(L, (lua_Number)info->died_us / 1e6);
    lua_setfield(L, -2, "died_at");
  }
}

static void drop_list(void *list) { redmoon_job_list_free(list); }

/* queue:dead([count=100 [, first=0]]) -> list of tables, and how many there are in all */
static int queue_dead(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t count = luaL_optinteger(L, 2, 100), first = luaL_optinteger(L, 3, 0);
  rm_lua_guard *guard = rm_lua_guard_new(L, drop_list);
  redmoon_job_list *list = NULL;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_dead_start(q->queue, first, count, &list, &op, &err), results = 2;
  if (started == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
  int status = rm_lua_run(L, &q->link, started, op, &err);
  guard->ptr = list;
  if (status < 0) {
    results = rm_lua_fail(L, &err);
  } else {
    lua_createtable(L, (int)list->count, 0);
    for (size_t i = 0; i < list->count; i++) {
      push_info(L, q, &list->jobs[i]);
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushinteger(L, (lua_Integer)list->total);
  }
  rm_lua_guard_end(guard);
  return rm_lua_end(L, &q->link, results);
}

static const char *check_id(lua_State *L) {
  size_t len;
  const char *id = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len >= 1 && len <= 128 && strlen(id) == len, 2, "an id has 1 to 128 bytes and no NUL");
  return id;
}

/* queue:peek(id) -> table | nil */
static int queue_peek(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  const char *id = check_id(L);
  rm_lua_guard *guard = rm_lua_guard_new(L, drop_list);
  redmoon_job_list *list = NULL;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_peek_start(q->queue, id, &list, &op, &err), results = 1;
  int status = rm_lua_run(L, &q->link, started, op, &err);
  guard->ptr = list;
  if (status < 0) {
    results = rm_lua_fail(L, &err);
  } else if (list->count == 0) {
    lua_pushnil(L);
  } else {
    const redmoon_job_info *info = &list->jobs[0];
    push_info(L, q, info);
    set_integer(L, "max_attempts", info->max_attempts);
    set_integer(L, "max_crashes", info->max_crashes);
    if (info->state != REDMOON_JOB_READY) {
      lua_pushnumber(L, (lua_Number)info->at_us / 1e6);
      lua_setfield(L, -2, "after");
    }
  }
  rm_lua_guard_end(guard);
  return rm_lua_end(L, &q->link, results);
}

/* queue:redrive([n]) -> how many are ready again */
static int queue_redrive(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t count = lua_isnoneornil(L, 2) ? REDMOON_UNSET : luaL_checkinteger(L, 2), moved = 0;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_redrive_start(q->queue, count, &moved, &op, &err);
  return answer(L, q, started, op, &err, push_integer, &moved);
}

/* queue:remove(id) -> whether there was one */
static int queue_remove(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  const char *id = check_id(L);
  int removed = 0;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_remove_start(q->queue, id, &removed, &op, &err);
  return answer(L, q, started, op, &err, push_bool, &removed);
}

/* queue:purge(state) -> how many were removed */
static int queue_purge(lua_State *L) {
  static const char *const names[] = {"ready", "delayed", "dead", "done"};
  static const redmoon_job_state states[] = {REDMOON_JOB_READY, REDMOON_JOB_DELAYED, REDMOON_JOB_DEAD, REDMOON_JOB_DONE};
  rm_lua_queue *q = rm_lua_queue_check(L);
  size_t which = rm_lua_check_name(L, 2, names, 4, "state to purge");
  int64_t removed = 0;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_purge_start(q->queue, states[which], &removed, &op, &err);
  return answer(L, q, started, op, &err, push_integer, &removed);
}

static void drop_report(void *report) { redmoon_queue_report_free(report); }

/* queue:check() -> {jobs=, wrong={{id=, what=}, ...}} */
static int queue_check(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  rm_lua_guard *guard = rm_lua_guard_new(L, drop_report);
  redmoon_queue_report *report = NULL;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_queue_check_start(q->queue, &report, &op, &err), results = 1;
  int status = rm_lua_run(L, &q->link, started, op, &err);
  guard->ptr = report;
  if (status < 0) {
    results = rm_lua_fail(L, &err);
  } else {
    lua_createtable(L, 0, 2);
    set_integer(L, "jobs", report->jobs);
    lua_createtable(L, (int)report->count, 0);
    for (size_t i = 0; i < report->count; i++) {
      lua_createtable(L, 0, 2);
      lua_pushstring(L, report->wrong[i].id);
      lua_setfield(L, -2, "id");
      lua_pushstring(L, report->wrong[i].what);
      lua_setfield(L, -2, "what");
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "wrong");
  }
  rm_lua_guard_end(guard);
  return rm_lua_end(L, &q->link, results);
}

int rm_lua_queue_sleep(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t ms = (int64_t)(luaL_checknumber(L, 2) * 1000);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = rm_pause_start(q->link.client, ms, &op, &err);
  return answer(L, q, started, op, &err, push_true, NULL);
}

void rm_lua_queue_admin_methods(lua_State *L) {
  static const luaL_Reg methods[] = {{"check", queue_check},     {"dead", queue_dead},     {"pause", queue_pause},
                                     {"peek", queue_peek},       {"purge", queue_purge},   {"redrive", queue_redrive},
                                     {"remove", queue_remove},   {"resume", queue_resume}, {"stats", queue_stats},
                                     {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
