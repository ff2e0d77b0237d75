/* SPDX-License-Identifier: MIT */
/* The queue object: what looks after a queue. */
#include "queue.h"

#include "patterns/waiting.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static void set_integer(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static int counted(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_queue_counts *counts = (const redmoon_queue_counts *)rm_lua_out(task);
  lua_createtable(L, 0, 12);
  set_integer(L, "ready", counts->ready);
  set_integer(L, "delayed", counts->delayed);
  set_integer(L, "leased", counts->leased);
  set_integer(L, "dead", counts->dead);
  set_integer(L, "done", counts->done);
  set_integer(L, "pushed", counts->pushed);
  set_integer(L, "finished", counts->finished);
  set_integer(L, "removed", counts->removed);
  set_integer(L, "grouped", counts->grouped);
  set_integer(L, "groups", counts->groups);
  lua_pushboolean(L, counts->paused);
  lua_setfield(L, -2, "paused");
  lua_pushnumber(L, counts->next_due_us < 0 ? HUGE_VAL : (lua_Number)counts->next_due_us / 1e6);
  lua_setfield(L, -2, "next_due");
  return 1;
}

/* queue:stats() */
static int queue_stats(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, counted);
  redmoon_queue_counts *out = (redmoon_queue_counts *)rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_queue_stats_start(q->queue, out, &task->op, &task->err));
}

/* queue:pause() */
static int queue_pause(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_queue_pause_start(q->queue, &task->op, &task->err));
}

/* queue:resume() */
static int queue_resume(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_queue_resume_start(q->queue, &task->op, &task->err));
}

#define FIELD(name) offsetof(redmoon_group_limits, name)
static const rm_option group_options[] = {
    {"concurrency", RM_OPTION_INTEGER, FIELD(concurrency), 0, 1000000, 0, "an integer from 0 to 1000000"},
    {"limit", RM_OPTION_INTEGER, FIELD(limit), 0, 1000000, 0, "an integer from 0 to 1000000"},
    {"window", RM_OPTION_DURATION, FIELD(window_ms), 1, INT64_C(31622400000), 0, "seconds from 0.001 to 31622400 (366 days)"},
};
#undef FIELD

/* queue:set_group(name [, {concurrency=, limit=, window=}]) */
static int queue_set_group(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  size_t len;
  const char *group = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len >= 1 && len <= 128 && strlen(group) == len, 2, "a group's name has 1 to 128 bytes and no NUL");
  lua_settop(L, 3);
  redmoon_group_limits limits = REDMOON_GROUP_LIMITS_INIT;
  rm_lua_read_options(L, 3, group_options, sizeof group_options / sizeof group_options[0], &limits);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task,
                                  redmoon_queue_set_group_start(q->queue, group, &limits, &task->op, &task->err));
}

/* What is known of a job, as a table. [-0, +1] */
static void push_info(lua_State *L, const rm_lua_queue *q, const redmoon_job_info *info) {
  static const char *const states[] = {"", "ready", "delayed", "leased", "dead", "done"};
  lua_createtable(L, 0, 15);
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
  if (info->group[0] != '\0') {
    lua_pushstring(L, info->group);
    lua_setfield(L, -2, "group");
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

/* rm_lua_out(task): the list */
static void drop_list(void *out) { redmoon_job_list_free(*(redmoon_job_list **)out); }

static int listed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_job_list *list = *(redmoon_job_list *const *)rm_lua_out(task);
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    push_info(L, lua_touserdata(L, 1), &list->jobs[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_pushinteger(L, (lua_Integer)list->total);
  return 2;
}

/* queue:dead([count=100 [, first=0]]) -> list of tables, and how many there are in all */
static int queue_dead(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t count = luaL_optinteger(L, 2, 100), first = luaL_optinteger(L, 3, 0);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, listed);
  task->drop = drop_list;
  redmoon_job_list **out = (redmoon_job_list **)rm_lua_out(task);
  return rm_lua_task_run_or_raise(L, task,
                                  redmoon_queue_dead_start(q->queue, first, count, out, &task->op, &task->err));
}

static const char *check_id(lua_State *L) {
  size_t len;
  const char *id = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, len >= 1 && len <= 128 && strlen(id) == len, 2, "an id has 1 to 128 bytes and no NUL");
  return id;
}

static int peeked(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_job_list *list = *(redmoon_job_list *const *)rm_lua_out(task);
  if (list->count == 0) {
    lua_pushnil(L);
    return 1;
  }
  const redmoon_job_info *info = &list->jobs[0];
  push_info(L, lua_touserdata(L, 1), info);
  set_integer(L, "max_attempts", info->max_attempts);
  set_integer(L, "max_crashes", info->max_crashes);
  if (info->state != REDMOON_JOB_READY) {
    lua_pushnumber(L, (lua_Number)info->at_us / 1e6);
    lua_setfield(L, -2, "after");
  }
  return 1;
}

/* queue:peek(id) -> table | nil */
static int queue_peek(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  const char *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, peeked);
  task->drop = drop_list;
  redmoon_job_list **out = (redmoon_job_list **)rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_queue_peek_start(q->queue, id, out, &task->op, &task->err));
}

static int an_integer(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushinteger(L, (lua_Integer) * (const int64_t *)rm_lua_out(task));
  return 1;
}

/* queue:redrive([n]) -> how many are ready again */
static int queue_redrive(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t count = lua_isnoneornil(L, 2) ? REDMOON_UNSET : luaL_checkinteger(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, an_integer);
  int64_t *moved = (int64_t *)rm_lua_out(task);
  return rm_lua_task_run_or_raise(L, task, redmoon_queue_redrive_start(q->queue, count, moved, &task->op, &task->err));
}

static int a_boolean(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 1;
}

/* queue:remove(id) -> whether there was one */
static int queue_remove(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  const char *id = check_id(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, a_boolean);
  return rm_lua_task_run(L, task,
                         redmoon_queue_remove_start(q->queue, id, (int *)rm_lua_out(task), &task->op, &task->err));
}

/* queue:purge(state) -> how many were removed */
static int queue_purge(lua_State *L) {
  static const char *const names[] = {"ready", "delayed", "dead", "done"};
  static const redmoon_job_state states[] = {REDMOON_JOB_READY, REDMOON_JOB_DELAYED, REDMOON_JOB_DEAD, REDMOON_JOB_DONE};
  rm_lua_queue *q = rm_lua_queue_check(L);
  size_t which = rm_lua_check_name(L, 2, names, 4, "state to purge");
  rm_lua_task *task = rm_lua_task_take(L, &q->link, an_integer);
  int64_t *removed = (int64_t *)rm_lua_out(task);
  return rm_lua_task_run(L, task,
                         redmoon_queue_purge_start(q->queue, states[which], removed, &task->op, &task->err));
}

/* rm_lua_out(task): the list */
static void drop_events(void *out) { redmoon_queue_event_list_free(*(redmoon_queue_event_list **)out); }

static int told(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_queue_event_list *list = *(redmoon_queue_event_list *const *)rm_lua_out(task);
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    const redmoon_queue_event *event = &list->events[i];
    lua_createtable(L, 0, 5);
    lua_pushstring(L, event->name);
    lua_setfield(L, -2, "event");
    if (event->id[0] != '\0') {
      lua_pushstring(L, event->id);
      lua_setfield(L, -2, "id");
    }
    set_integer(L, "epoch", event->epoch);
    lua_pushnumber(L, (lua_Number)event->at_ms / 1e3);
    lua_setfield(L, -2, "at");
    lua_pushstring(L, event->place);
    lua_setfield(L, -2, "place");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* queue:read_events([since [, count=100 [, timeout=0]]]) -> list of {event=, id=, epoch=, at=, place=} */
static int queue_read_events(lua_State *L) {
  static const rm_option timeout = {"timeout", RM_OPTION_DURATION, 0, 0, 86400000, 0, "seconds from 0 to 86400"};
  rm_lua_queue *q = rm_lua_queue_check(L);
  const char *since = luaL_optstring(L, 2, NULL);
  int64_t count = luaL_optinteger(L, 3, 100);
  int64_t timeout_ms = lua_isnoneornil(L, 4) ? 0 : rm_lua_duration_ms(L, 4, &timeout);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, told);
  task->drop = drop_events;
  redmoon_queue_event_list **out = (redmoon_queue_event_list **)rm_lua_out(task);
  return rm_lua_task_run_or_raise(
      L, task, redmoon_queue_events_start(q->queue, since, count, timeout_ms, out, &task->op, &task->err));
}

/* rm_lua_out(task): the report */
static void drop_report(void *out) { redmoon_queue_report_free(*(redmoon_queue_report **)out); }

static int checked(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_queue_report *report = *(redmoon_queue_report *const *)rm_lua_out(task);
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
  return 1;
}

/* queue:check() -> {jobs=, wrong={{id=, what=}, ...}} */
static int queue_check(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, checked);
  task->drop = drop_report;
  redmoon_queue_report **out = (redmoon_queue_report **)rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_queue_check_start(q->queue, out, &task->op, &task->err));
}

int rm_lua_queue_sleep(lua_State *L) {
  rm_lua_queue *q = rm_lua_queue_check(L);
  int64_t ms = (int64_t)(luaL_checknumber(L, 2) * 1000);
  rm_lua_task *task = rm_lua_task_take(L, &q->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, rm_pause_start(q->link.client, ms, &task->op, &task->err));
}

/* queue_spawns(queue): the loop's spawn and a gate, or nothing: jobs run one after the other */
int rm_lua_queue_spawns(lua_State *L) {
  const rm_lua_queue *q = rm_lua_queue_check(L);
  if (q->link.loop == NULL || !rm_lua_loop_push_spawn(L, q->link.loop)) return 0;
  rm_lua_gate_new(L, &q->link);
  return 2;
}

void rm_lua_queue_admin_methods(lua_State *L) {
  static const luaL_Reg methods[] = {{"check", queue_check},
                                     {"dead", queue_dead},
                                     {"pause", queue_pause},
                                     {"peek", queue_peek},
                                     {"purge", queue_purge},
                                     {"read_events", queue_read_events},
                                     {"redrive", queue_redrive},
                                     {"remove", queue_remove},
                                     {"resume", queue_resume},
                                     {"set_group", queue_set_group},
                                     {"stats", queue_stats},
                                     {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
