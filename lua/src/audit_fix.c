/* SPDX-License-Identifier: MIT */
/* client:audit_fix{...} and client:audit_undo(key, expires). */
#include "audit.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define FIX_TYPE "redmoon.audit_fix"
#define YEAR_MS INT64_C(31622400000)

typedef struct fix {
  rm_lua_link link;
  redmoon_audit_fix *fix; /* NULL: ended */
} fix;
enum { SLOT_SERVER = 1, SLOTS = 1, OPTIONS = 2, FIX = 3, LIST = 4 /* places on the stack */ };

#define FIELD(name) offsetof(redmoon_audit_fix_options, name)
static const rm_option options_table[] = {
    {"match", RM_OPTION_TEXT, FIELD(match), 0, 0, 0, "a glob pattern"},
    {"ttl", RM_OPTION_DURATION, FIELD(ttl_ms), 1000, YEAR_MS, 0, "seconds from 1 to 31622400 (366 days)"},
    {"jitter", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a share from 0 to 1"},
    {"dry_run", RM_OPTION_BOOL, FIELD(dry_run), 0, 1, 0, "true or false"},
    {"count", RM_OPTION_INTEGER, FIELD(count), 1, 1000, 0, "an integer from 1 to 1000"},
    {"max_rate", RM_OPTION_INTEGER, FIELD(max_rate), 1, 10000000, 0, "keys per second from 1 to 10000000"},
    {"on_fixed", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
    {"on_progress", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
};

/* [-0, +0] */
static void check_function(lua_State *L, const char *name) {
  int type = lua_getfield(L, OPTIONS, name);
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    rm_lua_raise(L, "option '%s': a %s is not accepted; it takes a function", name, lua_typename(L, type));
  lua_settop(L, OPTIONS);
}

/* [-0, +0] */
static void read_others(lua_State *L, redmoon_audit_fix_options *options) {
  int type = lua_getfield(L, OPTIONS, "jitter");
  if (type != LUA_TNIL) {
    double share = type == LUA_TNUMBER ? (double)lua_tonumber(L, -1) : -1;
    if (!(share >= 0 && share <= 1))
      rm_lua_raise(L, "option 'jitter': %s is not accepted; it takes a share from 0 to 1",
                   type == LUA_TNUMBER ? luaL_tolstring(L, -1, NULL) : luaL_typename(L, -1));
    options->jitter_ppm = (int64_t)(share * 1e6 + 0.5);
  }
  lua_settop(L, OPTIONS);
  check_function(L, "on_fixed");
  check_function(L, "on_progress");
}

/* What it does and has done. */

/* [-0, +1] */
static void push_fixed(lua_State *L, const redmoon_audit_fixed *fixed) {
  lua_createtable(L, 0, 3);
  lua_pushlstring(L, fixed->key, fixed->key_len);
  lua_setfield(L, -2, "key");
  lua_pushnumber(L, rm_lua_seconds((double)fixed->ttl_ms));
  lua_setfield(L, -2, "ttl");
  if (fixed->expires_ms > 0) {
    lua_pushnumber(L, rm_lua_seconds((double)fixed->expires_ms));
    lua_setfield(L, -2, "expires");
  } else if (fixed->expires_ms < 0) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "unknown");
  }
}

/* Sets the counts in the table on top. [-0, +0] */
static void set_counts(lua_State *L, const fix *f) {
  redmoon_audit_fix_counts counts;
  redmoon_audit_fix_counts_get(f->fix, &counts);
  const struct {
    const char *name;
    int64_t value;
  } rows[] = {{"seen", counts.seen}, {"fixed", counts.fixed}, {"own", counts.own}, {"raced", counts.raced}, {"errors", counts.errors}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    lua_pushinteger(L, (lua_Integer)rows[i].value);
    lua_setfield(L, -2, rows[i].name);
  }
  lua_pushnumber(L, (lua_Number)counts.share);
  lua_setfield(L, -2, "share");
}

/* Hands the keys of the last page to the caller's function, or adds them to the list. [-0, +0] */
static void tell_page(lua_State *L, const fix *f) {
  size_t count;
  const redmoon_audit_fixed *page = redmoon_audit_fix_page(f->fix, &count);
  bool listed = lua_istable(L, LIST);
  lua_Integer n = listed ? (lua_Integer)lua_rawlen(L, LIST) : 0;
  for (size_t i = 0; i < count; i++) {
    if (!listed) lua_getfield(L, OPTIONS, "on_fixed");
    push_fixed(L, &page[i]);
    if (listed) lua_rawseti(L, LIST, ++n);
    else lua_call(L, 1, 0);
  }
}

/* Whether the caller's function wants more; it may raise. [-0, +0] */
static bool goes_on(lua_State *L, const fix *f) {
  int top = lua_gettop(L);
  bool stop = false;
  if (lua_getfield(L, OPTIONS, "on_progress") != LUA_TNIL) {
    lua_createtable(L, 0, 6);
    set_counts(L, f);
    lua_call(L, 1, 1);
    stop = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
  }
  lua_settop(L, top);
  return !stop;
}

/* [-0, +1] */
static void push_result(lua_State *L, const fix *f) {
  lua_createtable(L, 0, 8);
  set_counts(L, f);
  lua_pushboolean(L, redmoon_audit_fix_done(f->fix));
  lua_setfield(L, -2, "complete");
  lua_pushvalue(L, LIST);
  lua_setfield(L, -2, "keys");
}

/* The operation. */

static void end_fix(lua_State *L, fix *f) {
  redmoon_audit_fix *inner = f->fix;
  f->fix = NULL;
  redmoon_audit_fix_free(inner);
  rm_lua_link_drop(L, &f->link);
}

static int fix_gc(lua_State *L) {
  end_fix(L, lua_touserdata(L, 1));
  return 0;
}

static int push_failure(lua_State *L, const fix *f, const redmoon_error *err) {
  int count = rm_lua_fail(L, err);
  push_result(L, f);
  lua_setfield(L, -2, "result");
  return count;
}

/* A page was waited for; the next one is. */
static int page_came(lua_State *L, rm_lua_task *task, int status) {
  const fix *f = lua_touserdata(L, FIX);
  tell_page(L, f); /* also of one that failed */
  if (status < 0) return push_failure(L, f, &task->err);
  rm_lua_end(L, &f->link, 0);
  if (!goes_on(L, f) || redmoon_audit_fix_done(f->fix)) return push_result(L, f), 1;
  status = redmoon_audit_fix_next_start(f->fix, &task->op, &task->err);
  return status < 0 ? push_failure(L, f, &task->err) : RM_LUA_AGAIN;
}

static int run(lua_State *L, const fix *f) {
  rm_lua_task *task = rm_lua_task_take_own(L, &f->link, page_came);
  return rm_lua_task_run(L, task, redmoon_audit_fix_next_start(f->fix, &task->op, &task->err));
}

int rm_lua_client_audit_fix(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  lua_settop(L, OPTIONS);
  luaL_checktype(L, OPTIONS, LUA_TTABLE);
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  rm_lua_read_options(L, OPTIONS, options_table, sizeof options_table / sizeof options_table[0], &options);
  read_others(L, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  fix *f = lua_newuserdatauv(L, sizeof *f, SLOTS);
  memset(f, 0, sizeof *f);
  luaL_setmetatable(L, FIX_TYPE);
  lua_toclose(L, FIX); /* at the end of this function, however that comes */
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, FIX, SLOT_SERVER);
  if (lua_getfield(L, OPTIONS, "on_fixed") == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
  } else {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  rm_lua_link_set(&f->link, &client->link);
  redmoon_error err;
  if (redmoon_audit_fix_new(client->link.client, &options, &f->fix, &err) < 0) {
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return run(L, f);
}

static int undone(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(int *)rm_lua_out(task));
  return 1;
}

/* client:audit_undo(key, expires) */
int rm_lua_client_audit_undo(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  lua_settop(L, 3);
  rm_lua_check_args(L, 2, 2);
  double expires = luaL_checknumber(L, 3);
  luaL_argcheck(L, expires > 0 && expires < 9e12, 3, "the Unix time at which the key ends, in seconds");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_args *key = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, key, 2, 2);
  rm_lua_task *task = rm_lua_task_take(L, &client->link, undone);
  int started = redmoon_audit_undo_start(client->link.client, key->bytes[0].ptr, key->bytes[0].len,
                                         (int64_t)floor(expires * 1e3 + 0.5), rm_lua_out(task), &task->op,
                                         &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

void rm_lua_audit_fix_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", fix_gc}, {"__close", fix_gc}, {NULL, NULL}};
  rm_lua_new_type(L, FIX_TYPE, meta, NULL);
  lua_pop(L, 2);
}
