/* SPDX-License-Identifier: MIT */
/* client:audit{...}: page by page, so that between two pages the caller's function may look, stop, or raise. */
#include "audit.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define AUDIT_TYPE "redmoon.audit"
#define TTL_MAX INT64_C(31622400000000)
#define DURATION "seconds from 0.001 to 31622400000 (1,000 years)"

typedef struct audit {
  rm_lua_link link;
  redmoon_audit *audit; /* NULL: ended */
  bool between;         /* two pages: save() may be called */
} audit;
enum { SLOT_SERVER = 1, SLOTS = 1, OPTIONS = 2, AUDIT = 3 /* places on the stack */ };

#define FIELD(name) offsetof(redmoon_audit_options, name)
static const rm_option options_table[] = {
    {"match", RM_OPTION_TEXT, FIELD(match), 0, 0, 0, "a glob pattern"},
    {"depth", RM_OPTION_INTEGER, FIELD(depth), 1, 8, 0, "an integer from 1 to 8"},
    {"separator", RM_OPTION_TEXT, FIELD(separator), 0, 0, 0, "one byte, which is no brace"},
    {"sample", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a share from 0 to 1"},
    {"top", RM_OPTION_INTEGER, FIELD(top), 1, 10000, 0, "an integer from 1 to 10000"},
    {"min_ttl", RM_OPTION_DURATION, FIELD(min_ttl_ms), 1, TTL_MAX, 0, DURATION},
    {"max_ttl", RM_OPTION_DURATION, FIELD(max_ttl_ms), 1, TTL_MAX, 0, DURATION},
    {"require_ttl", RM_OPTION_BOOL, FIELD(require_ttl), 0, 1, 0, "true or false"},
    {"filter_size", RM_OPTION_INTEGER, FIELD(filter_bytes), 0, 1 << 30, 0, "0, or bytes from 1024 to 1073741824"},
    {"seed", RM_OPTION_INTEGER, FIELD(seed), 0, INT64_C(1) << 53, 0, "an integer from 0 to 9007199254740992"},
    {"count", RM_OPTION_INTEGER, FIELD(count), 1, 10000, 0, "an integer from 1 to 10000"},
    {"max_rate", RM_OPTION_INTEGER, FIELD(max_rate), 1, 10000000, 0, "keys per second from 1 to 10000000"},
    {"processes", RM_OPTION_INTEGER, FIELD(processes), 1, 1000000, 0, "an integer from 1 to 1000000"},
    {"on_progress", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
    {"resume", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a string that an audit gave"},
};

/* Options that are no plain numbers and texts. */

/* [-0, +0] */
static void read_others(lua_State *L, redmoon_audit_options *options) {
  int type = lua_getfield(L, OPTIONS, "sample");
  if (type != LUA_TNIL) {
    double share = type == LUA_TNUMBER ? (double)lua_tonumber(L, -1) : -1;
    if (!(share >= 0 && share <= 1))
      rm_lua_raise(L, "option 'sample': %s is not accepted; it takes a share from 0 to 1",
                   type == LUA_TNUMBER ? luaL_tolstring(L, -1, NULL) : luaL_typename(L, -1));
    options->sample_ppm = (int64_t)ceil(share * 1e6 - 1e-6);
  }
  type = lua_getfield(L, OPTIONS, "on_progress");
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    rm_lua_raise(L, "option 'on_progress': a %s is not accepted; it takes a function", lua_typename(L, type));
  type = lua_getfield(L, OPTIONS, "resume");
  if (type != LUA_TNIL && type != LUA_TSTRING)
    rm_lua_raise(L, "option 'resume': a %s is not accepted; it takes a string that an audit gave", lua_typename(L, type));
  if (type == LUA_TSTRING) options->resume = lua_tolstring(L, -1, &options->resume_len); /* the table keeps it */
  lua_settop(L, OPTIONS);
}

/* States. */

/* [-0, +1] */
static void push_state(lua_State *L, const audit *a) {
  redmoon_error err;
  size_t len;
  rm_lua_guard *guard = rm_lua_guard_new(L, redmoon_free);
  if (redmoon_audit_save(a->audit, &guard->ptr, &len, &err) < 0) luaL_error(L, "%s", err.message);
  lua_pushlstring(L, guard->ptr, len);
  rm_lua_guard_end(guard);
  lua_remove(L, -2);
}

/* save(): upvalue 1 is the audit. */
static int save(lua_State *L) {
  audit *a = lua_touserdata(L, lua_upvalueindex(1));
  if (a->audit == NULL || !a->between) return rm_lua_raise(L, "save() is good only while on_progress runs");
  push_state(L, a);
  return 1;
}

/* Progress. */

/* [-0, +1] */
static void push_progress(lua_State *L, const audit *a) {
  redmoon_audit_progress progress;
  redmoon_audit_progress_get(a->audit, &progress);
  lua_createtable(L, 0, 7);
  lua_pushinteger(L, (lua_Integer)progress.keys);
  lua_setfield(L, -2, "keys");
  lua_pushinteger(L, (lua_Integer)progress.pages);
  lua_setfield(L, -2, "pages");
  if (progress.left >= 0) {
    lua_pushinteger(L, (lua_Integer)progress.left);
    lua_setfield(L, -2, "left");
  }
  lua_pushnumber(L, rm_lua_seconds((double)progress.elapsed_ms));
  lua_setfield(L, -2, "elapsed");
  lua_pushnumber(L, (lua_Number)progress.rate);
  lua_setfield(L, -2, "rate");
  lua_pushnumber(L, (lua_Number)progress.share);
  lua_setfield(L, -2, "share");
  lua_pushnumber(L, rm_lua_seconds((double)progress.pause_ms));
  lua_setfield(L, -2, "pause");
}

/* Whether the caller's function wants more; it may raise. [-0, +0] */
static bool goes_on(lua_State *L, audit *a) {
  int top = lua_gettop(L);
  if (lua_isnil(L, OPTIONS) || lua_getfield(L, OPTIONS, "on_progress") == LUA_TNIL) {
    lua_settop(L, top);
    return true;
  }
  push_progress(L, a);
  lua_pushvalue(L, AUDIT);
  lua_pushcclosure(L, save, 1);
  a->between = true;
  lua_call(L, 2, 1);
  a->between = false;
  bool stop = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
  lua_settop(L, top);
  return !stop;
}

/* The audit. */

static void end_audit(lua_State *L, audit *a) {
  redmoon_audit *inner = a->audit;
  a->audit = NULL;
  redmoon_audit_free(inner);
  rm_lua_link_drop(L, &a->link);
}

static int audit_gc(lua_State *L) {
  end_audit(L, lua_touserdata(L, 1));
  return 0;
}

static void drop_report(void *ptr) { redmoon_audit_report_free(ptr); }

/* The report, with the state of an audit that was stopped. */
static int push_report(lua_State *L, audit *a) {
  redmoon_error err;
  redmoon_audit_report *report;
  rm_lua_guard *guard = rm_lua_guard_new(L, drop_report);
  if (redmoon_audit_report_new(a->audit, &report, &err) < 0) return rm_lua_fail(L, &err);
  guard->ptr = report;
  rm_lua_push_audit_report(L, report);
  rm_lua_guard_end(guard);
  if (redmoon_audit_done(a->audit)) return 1;
  push_state(L, a);
  lua_setfield(L, -2, "state");
  return 1;
}

/* nil, message, code, detail with what was counted before. */
static int push_failure(lua_State *L, audit *a, const redmoon_error *err) {
  int count = rm_lua_fail(L, err);
  push_state(L, a);
  lua_setfield(L, -2, "state");
  return count;
}

/* A page was waited for; the next one is. */
static int page_came(lua_State *L, rm_lua_task *task, int status) {
  audit *a = lua_touserdata(L, AUDIT);
  if (status < 0) return push_failure(L, a, &task->err);
  rm_lua_end(L, &a->link, 0);
  if (!goes_on(L, a) || redmoon_audit_done(a->audit)) return push_report(L, a);
  status = redmoon_audit_next_start(a->audit, &task->op, &task->err);
  return status < 0 ? push_failure(L, a, &task->err) : RM_LUA_AGAIN;
}

static int run(lua_State *L, audit *a) {
  rm_lua_task *task = rm_lua_task_take_own(L, &a->link, page_came);
  return rm_lua_task_run(L, task, redmoon_audit_next_start(a->audit, &task->op, &task->err));
}

int rm_lua_client_audit(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  lua_settop(L, OPTIONS);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  rm_lua_read_options(L, OPTIONS, options_table, sizeof options_table / sizeof options_table[0], &options);
  if (!lua_isnil(L, OPTIONS)) read_others(L, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  audit *a = lua_newuserdatauv(L, sizeof *a, SLOTS);
  memset(a, 0, sizeof *a);
  luaL_setmetatable(L, AUDIT_TYPE);
  lua_toclose(L, AUDIT); /* at the end of this function, however that comes */
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, AUDIT, SLOT_SERVER);
  rm_lua_link_set(&a->link, &client->link);
  redmoon_error err;
  if (redmoon_audit_new(client->link.client, &options, &a->audit, &err) < 0) {
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return run(L, a);
}

void rm_lua_audit_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", audit_gc}, {"__close", audit_gc}, {NULL, NULL}};
  rm_lua_new_type(L, AUDIT_TYPE, meta, NULL);
  lua_pop(L, 2);
}
