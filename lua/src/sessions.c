/* SPDX-License-Identifier: MIT */
/* client:sessions(name, {secret=, fields={...}, ttl=, ...}). */
#include "records.h"

#include "patterns/sessions.h"

#include <string.h>

#define SESSIONS_TYPE "redmoon.sessions"

typedef struct sessions {
  rm_lua_link link;
  redmoon_sessions *sessions; /* NULL: closed */
} sessions;
enum { SLOT_SERVER = 1, SLOTS = 1 };

/* [-0, +0], never raises */
static void end_sessions(lua_State *L, sessions *s) {
  redmoon_sessions *inner = s->sessions;
  s->sessions = NULL;
  redmoon_sessions_free(inner);
  rm_lua_link_drop(L, &s->link);
}

int rm_lua_client_sessions(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  const char *name = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  redmoon_sessions_options options = REDMOON_SESSIONS_OPTIONS_INIT;
  rm_lua_read_records_options(L, 3, true, &options.records);
  if (lua_getfield(L, 3, "secret") != LUA_TSTRING)
    return rm_lua_raise(L, "option 'secret': a %s is not accepted; it takes a string of 16 to 64 random bytes",
                        luaL_typename(L, -1));
  options.secret = lua_tolstring(L, -1, &options.secret_len);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  sessions *s = lua_newuserdatauv(L, sizeof *s, SLOTS);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, SESSIONS_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&s->link, &client->link);
  redmoon_error err;
  if (redmoon_sessions_new(client->link.client, name, &options, &s->sessions, &err) < 0) {
    end_sessions(L, s);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

static sessions *check(lua_State *L) {
  sessions *s = luaL_checkudata(L, 1, SESSIONS_TYPE);
  luaL_argcheck(L, s->sessions != NULL, 1, "the sessions object is closed");
  return s;
}

/* The subject at 2: text as it is, a number in its decimal form. [-0, +1] */
static const redmoon_bytes *check_subject(lua_State *L) {
  rm_lua_check_args(L, 2, 2);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, 2, 2);
  return &args->bytes[0];
}

/* The id or handle at `index`: what comes from a browser may be any text.  One with a NUL is nobody's. [-0, +0] */
static const char *check_id(lua_State *L, int index) {
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING) luaL_typeerror(L, index, "string");
  const char *id = lua_tolstring(L, index, &len);
  return strlen(id) == len ? id : "";
}

/* Tails. */

static int named(lua_State *L, rm_lua_task *task, int status) {
  const char *id = (const char *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (id[0] == '\0') lua_pushnil(L);
  else lua_pushstring(L, id);
  return 1;
}

static void wipe_id(void *out) { rm_wipe(out, REDMOON_SESSION_ID_SIZE); }

static rm_lua_task *take_named(lua_State *L, const sessions *s) {
  rm_lua_task *task = rm_lua_task_take(L, &s->link, named);
  task->drop = wipe_id;
  return task;
}

static int touched(lua_State *L, rm_lua_task *task, int status) {
  int64_t left = *(const int64_t *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (left == 0) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)left / 1e3);
  return 1;
}

static int revoked(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushboolean(L, *(const int *)rm_lua_out(task));
  return 1;
}

static int revoked_all(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushinteger(L, (lua_Integer)*(const int64_t *)rm_lua_out(task));
  return 1;
}

static void drop_list(void *out) { redmoon_session_list_free(*(redmoon_session_list **)out); }

static int listed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_session_list *list = *(redmoon_session_list **)rm_lua_out(task);
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, list->entries[i].handle);
    lua_setfield(L, -2, "handle");
    lua_pushnumber(L, (lua_Number)list->entries[i].left_ms / 1e3);
    lua_setfield(L, -2, "left");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* Methods. */

/* sessions:create(subject, t) -> id */
static int sessions_create(lua_State *L) {
  sessions *s = check(L);
  lua_settop(L, 3);
  size_t count;
  const rm_field_write *writes = rm_lua_check_writes(L, s->sessions->records, true, &count);
  const redmoon_bytes *subject = check_subject(L);
  rm_lua_task *task = take_named(L, s);
  int started = rm_sessions_create_start(s->sessions, subject->ptr, subject->len, writes, count, NULL, (char *)rm_lua_out(task),
                                         &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* sessions:update(id, t [, {version=, request_id=}]) -> version | nil */
static int sessions_update(lua_State *L) {
  sessions *s = check(L);
  lua_settop(L, 4);
  const char *id = check_id(L, 2);
  rm_record_how how = {false, REDMOON_UNSET, NULL, NULL};
  rm_lua_read_record_how(L, 4, &how);
  size_t count;
  const rm_field_write *writes = rm_lua_check_writes(L, s->sessions->records, false, &count);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, rm_lua_push_written);
  int started =
      rm_sessions_update_start(s->sessions, id, writes, count, &how, (int64_t *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

static int load_by(lua_State *L, rm_session_by by) {
  sessions *s = check(L);
  lua_settop(L, 3);
  const char *name = check_id(L, 2);
  size_t count;
  const size_t *fields = rm_lua_check_selection(L, s->sessions->records, &count);
  const rm_record_load what = {fields, count, NULL, NULL, NULL, false};
  rm_lua_task *task = rm_lua_take_load(L, &s->link);
  int started = rm_sessions_load_start(s->sessions, name, by, &what, (redmoon_record **)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* sessions:load(id [, fields]) -> table, version | nil */
static int sessions_load(lua_State *L) { return load_by(L, RM_SESSION_ID); }

/* sessions:inspect(handle [, fields]) -> table, version | nil */
static int sessions_inspect(lua_State *L) { return load_by(L, RM_SESSION_HANDLE); }

/* sessions:touch(id) -> seconds left | nil */
static int sessions_touch(lua_State *L) {
  sessions *s = check(L);
  const char *id = check_id(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, touched);
  return rm_lua_task_run(L, task,
                         redmoon_sessions_touch_start(s->sessions, id, (int64_t *)rm_lua_out(task), &task->op, &task->err));
}

/* sessions:rotate(id) -> id | nil */
static int sessions_rotate(lua_State *L) {
  sessions *s = check(L);
  const char *id = check_id(L, 2);
  rm_lua_task *task = take_named(L, s);
  return rm_lua_task_run(L, task,
                         redmoon_sessions_rotate_start(s->sessions, id, (char *)rm_lua_out(task), &task->op, &task->err));
}

static int revoke_by(lua_State *L, rm_session_by by) {
  sessions *s = check(L);
  const char *name = check_id(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, revoked);
  int *out = (int *)rm_lua_out(task);
  int started = by == RM_SESSION_ID ? redmoon_sessions_revoke_start(s->sessions, name, out, &task->op, &task->err)
                                    : redmoon_sessions_revoke_handle_start(s->sessions, name, out, &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* sessions:revoke(id) -> whether there was one */
static int sessions_revoke(lua_State *L) { return revoke_by(L, RM_SESSION_ID); }

/* sessions:revoke_handle(handle) -> whether there was one */
static int sessions_revoke_handle(lua_State *L) { return revoke_by(L, RM_SESSION_HANDLE); }

/* sessions:revoke_all(subject [, except]) -> how many ended */
static int sessions_revoke_all(lua_State *L) {
  sessions *s = check(L);
  lua_settop(L, 3);
  const char *except = lua_isnil(L, 3) ? NULL : check_id(L, 3);
  const redmoon_bytes *subject = check_subject(L);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, revoked_all);
  int started = redmoon_sessions_revoke_all_start(s->sessions, subject->ptr, subject->len, except, (int64_t *)rm_lua_out(task),
                                                  &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* sessions:list(subject) -> {{handle=, left=}, ...} */
static int sessions_list(lua_State *L) {
  sessions *s = check(L);
  const redmoon_bytes *subject = check_subject(L);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, listed);
  task->drop = drop_list;
  int started = redmoon_sessions_list_start(s->sessions, subject->ptr, subject->len, (redmoon_session_list **)rm_lua_out(task),
                                            &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

static int sessions_gc(lua_State *L) {
  end_sessions(L, lua_touserdata(L, 1));
  return 0;
}

static int sessions_close(lua_State *L) {
  end_sessions(L, luaL_checkudata(L, 1, SESSIONS_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_sessions_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", sessions_gc}, {"__close", sessions_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"close", sessions_close},
                                     {"create", sessions_create},
                                     {"inspect", sessions_inspect},
                                     {"list", sessions_list},
                                     {"load", sessions_load},
                                     {"revoke", sessions_revoke},
                                     {"revoke_all", sessions_revoke_all},
                                     {"revoke_handle", sessions_revoke_handle},
                                     {"rotate", sessions_rotate},
                                     {"touch", sessions_touch},
                                     {"update", sessions_update},
                                     {NULL, NULL}};
  rm_lua_new_type(L, SESSIONS_TYPE, meta, methods);
  lua_pop(L, 2);
}
