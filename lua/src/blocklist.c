/* SPDX-License-Identifier: MIT */
/* client:blocklist(name, {...}), its checks and revocations; redmoon.new_jti(). */
#include "binding.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LIST_TYPE "redmoon.blocklist"
#define SECONDS "whole seconds since 1970, an integer"
#define MAX_INTEGER INT64_C(9007199254740991)
#define CENTURY_MS INT64_C(3155760000000)
#define OTHER(name) {name, RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""}
#define COUNT_OF(table) (sizeof(table) / sizeof(table)[0])

typedef struct list {
  rm_lua_link link;
  redmoon_blocklist *list; /* NULL: closed */
} list;
enum { SLOT_SERVER = 1, SLOTS = 1 };

static const rm_option list_options[] = {
    {"issuer", RM_OPTION_TEXT, offsetof(redmoon_blocklist_options, issuer), 0, 0, 0, "the issuer of the tokens, a string"},
    OTHER("hash_key"),
    {"leeway", RM_OPTION_DURATION, offsetof(redmoon_blocklist_options, leeway_ms), 0, 600000, 60000,
     "seconds from 0 to 600"},
    {"max_life", RM_OPTION_DURATION, offsetof(redmoon_blocklist_options, max_life_ms), 1000, CENTURY_MS, 0,
     "seconds from 1 to 3155760000 (100 years)"},
    {"on_error", RM_OPTION_TEXT, offsetof(redmoon_blocklist_options, on_error), 0, 0, 0,
     "\"deny\", \"allow\" or \"error\""},
    {"min_replicas", RM_OPTION_INTEGER, offsetof(redmoon_blocklist_options, min_replicas), 0, 1000, 0,
     "an integer from 0 to 1000"},
};
static const rm_option revoke_fields[] = {
    OTHER("jti"),
    {"exp", RM_OPTION_INTEGER, offsetof(redmoon_revocation, exp_s), 0, MAX_INTEGER, 0, SECONDS},
    {"reason", RM_OPTION_TEXT, offsetof(redmoon_revocation, reason), 0, 0, 0, "a word"},
};
static const rm_option claim_fields[] = {
    OTHER("jti"), OTHER("sub"), OTHER("family"), OTHER("iat"),
    {"ver", RM_OPTION_INTEGER, offsetof(redmoon_claims, ver), 0, MAX_INTEGER, 0, "an integer from 0 to 2^53 - 1"},
};
static const rm_option rotate_fields[] = {
    OTHER("family"), OTHER("presented"), OTHER("new"),
    {"ttl", RM_OPTION_DURATION, offsetof(redmoon_rotation, ttl_ms), 1000, CENTURY_MS, 0,
     "seconds from 1 to 3155760000 (100 years)"},
};
static const rm_option before_field[] = {
    {"before", RM_OPTION_DURATION, 0, 0, MAX_INTEGER, 0, "seconds since 1970"},
};
static const rm_option request_field[] = {
    {"request_id", RM_OPTION_TEXT, 0, 0, 0, 0, "a string"},
};

/* Arguments. */

/* Field `name` of the table at `index`, without metamethods: only what is in the table is kept alive by it. [-0, +1] */
static int get_field(lua_State *L, int index, const char *name) {
  lua_pushstring(L, name);
  return lua_rawget(L, index);
}

/* The string in field `name` of the table at `index`; {NULL, 0}: there is none. [-0, +0] */
static redmoon_bytes read_id(lua_State *L, int index, const char *name) {
  redmoon_bytes id = {NULL, 0};
  int type = get_field(L, index, name);
  if (type != LUA_TNIL && type != LUA_TSTRING)
    rm_lua_raise(L, "option '%s': a %s is not accepted; it takes a string of 1 to 1024 bytes", name,
                 lua_typename(L, type));
  if (type == LUA_TSTRING) id.ptr = lua_tolstring(L, -1, &id.len);
  lua_pop(L, 1);
  return id;
}

/* The claim `iat` of the table at `index`: a NumericDate may have a fraction. [-0, +0] */
static int64_t read_iat(lua_State *L, int index) {
  int type = get_field(L, index, "iat");
  if (type != LUA_TNIL && type != LUA_TNUMBER)
    rm_lua_raise(L, "option 'iat': a %s is not accepted; it takes seconds since 1970", lua_typename(L, type));
  double iat = type == LUA_TNIL ? 0.0 : floor(lua_tonumber(L, -1));
  if (!(iat >= 0.0 && iat <= (double)MAX_INTEGER))
    rm_lua_raise(L, "option 'iat': %s is not accepted; it takes seconds since 1970", luaL_tolstring(L, -1, NULL));
  lua_pop(L, 1);
  return type == LUA_TNIL ? REDMOON_UNSET : (int64_t)iat;
}

/* The claims in the table at `index`, whose strings they use. [-0, +0] */
static void read_claims(lua_State *L, int index, redmoon_claims *out) {
  *out = (redmoon_claims)REDMOON_CLAIMS_INIT;
  rm_lua_read_options(L, index, claim_fields, COUNT_OF(claim_fields), out);
  out->jti = read_id(L, index, "jti");
  out->sub = read_id(L, index, "sub");
  out->family = read_id(L, index, "family");
  out->iat_s = read_iat(L, index);
}

static void read_hash_key(lua_State *L, int index, redmoon_blocklist_options *options) {
  if (!lua_istable(L, index)) return;
  int type = get_field(L, index, "hash_key");
  if (type != LUA_TNIL && type != LUA_TSTRING)
    rm_lua_raise(L, "option 'hash_key': a %s is not accepted; it takes a string of 16 to 64 bytes",
                 lua_typename(L, type));
  if (type == LUA_TSTRING) options->hash_key = lua_tolstring(L, -1, &options->hash_key_len);
  lua_pop(L, 1);
}

/* The list. */

static void end_list(lua_State *L, list *l) {
  redmoon_blocklist *inner = l->list;
  l->list = NULL;
  redmoon_blocklist_free(inner);
  rm_lua_link_drop(L, &l->link);
}

static list *check(lua_State *L) {
  list *l = luaL_checkudata(L, 1, LIST_TYPE);
  luaL_argcheck(L, l->list != NULL, 1, "the blocklist is closed");
  return l;
}

int rm_lua_client_blocklist(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  size_t name_len;
  const char *name = luaL_checklstring(L, 2, &name_len);
  luaL_argcheck(L, strlen(name) == name_len, 2, "a name has no NUL byte");
  lua_settop(L, 3);
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  rm_lua_read_options(L, 3, list_options, COUNT_OF(list_options), &options);
  read_hash_key(L, 3, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  list *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LIST_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 4, SLOT_SERVER);
  rm_lua_link_set(&l->link, &client->link);
  redmoon_error err;
  if (redmoon_blocklist_new(client->link.client, name, &options, &l->list, &err) < 0) {
    end_list(L, l);
    if (err.status == REDMOON_ECONFIG) return rm_lua_raise(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

static void set_seconds(lua_State *L, const char *field, int64_t ms) {
  lua_pushnumber(L, (lua_Number)ms / 1000.0);
  lua_setfield(L, -2, field);
}

static void set_text(lua_State *L, const char *field, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, field);
}

static const char *revocation_word(redmoon_revocation_status status) {
  return status == REDMOON_REVOCATION_DONE ? "revoked" : status == REDMOON_REVOCATION_KEPT ? "kept" : "expired";
}

/* {status=, ttl=}, or nil, message, code, detail */
static int revoked(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_revocation_result *result = (const redmoon_revocation_result *)rm_lua_out(task);
  lua_createtable(L, 0, 2);
  set_text(L, "status", revocation_word(result->status));
  set_seconds(L, "ttl", result->ttl_ms);
  return 1;
}

/* list:revoke{jti=, exp=, reason=} */
static int list_revoke(lua_State *L) {
  list *l = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  redmoon_revocation token = REDMOON_REVOCATION_INIT;
  rm_lua_read_options(L, 2, revoke_fields, COUNT_OF(revoke_fields), &token);
  token.jti = read_id(L, 2, "jti");
  rm_lua_task *task = rm_lua_task_take(L, &l->link, revoked);
  int started = redmoon_blocklist_revoke_start(l->list, &token, (redmoon_revocation_result *)rm_lua_out(task), &task->op,
                                               &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* list:revoke_family(family) */
static int list_revoke_family(lua_State *L) {
  list *l = check(L);
  size_t len;
  const char *family = luaL_checklstring(L, 2, &len);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, revoked);
  int started = redmoon_blocklist_revoke_family_start(l->list, family, len, (redmoon_revocation_result *)rm_lua_out(task),
                                                      &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int revoked_subject(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_subject_result *result = (const redmoon_subject_result *)rm_lua_out(task);
  lua_createtable(L, 0, 3);
  set_text(L, "status", revocation_word(result->status));
  if (result->status != REDMOON_REVOCATION_EXPIRED) set_seconds(L, "cutoff", result->cutoff_ms);
  set_seconds(L, "ttl", result->ttl_ms);
  return 1;
}

/* list:revoke_subject(sub [, {before=}]) */
static int list_revoke_subject(lua_State *L) {
  list *l = check(L);
  size_t len;
  const char *sub = luaL_checklstring(L, 2, &len);
  int64_t before_ms = REDMOON_UNSET;
  rm_lua_read_options(L, 3, before_field, COUNT_OF(before_field), &before_ms);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, revoked_subject);
  int started = redmoon_blocklist_revoke_subject_start(l->list, sub, len, before_ms, (redmoon_subject_result *)rm_lua_out(task),
                                                       &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int bumped(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushinteger(L, (lua_Integer)((const redmoon_subject_result *)rm_lua_out(task))->version);
  return 1;
}

/* list:bump(sub [, {request_id=}]) -> version */
static int list_bump(lua_State *L) {
  list *l = check(L);
  size_t len;
  const char *sub = luaL_checklstring(L, 2, &len), *request_id = NULL;
  rm_lua_read_options(L, 3, request_field, COUNT_OF(request_field), &request_id);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, bumped);
  int started = redmoon_blocklist_bump_start(l->list, sub, len, request_id, (redmoon_subject_result *)rm_lua_out(task), &task->op,
                                             &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static const char *rotation_word(redmoon_rotation_status status) {
  switch (status) {
  case REDMOON_ROTATION_DONE: return "rotated";
  case REDMOON_ROTATION_REUSED: return "reused";
  case REDMOON_ROTATION_REVOKED: return "revoked";
  case REDMOON_ROTATION_EXISTS: return "exists";
  default: return "gone";
  }
}

static int rotated(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_rotation_result *result = (const redmoon_rotation_result *)rm_lua_out(task);
  lua_createtable(L, 0, 3);
  lua_pushboolean(L, result->status == REDMOON_ROTATION_DONE);
  lua_setfield(L, -2, "rotated");
  set_text(L, "status", rotation_word(result->status));
  set_seconds(L, "ttl", result->ttl_ms);
  return 1;
}

/* list:rotate{family=, presented=, new=, ttl=} */
static int list_rotate(lua_State *L) {
  list *l = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  redmoon_rotation rotation = REDMOON_ROTATION_INIT;
  rm_lua_read_options(L, 2, rotate_fields, COUNT_OF(rotate_fields), &rotation);
  rotation.family = read_id(L, 2, "family");
  rotation.presented = read_id(L, 2, "presented");
  rotation.next = read_id(L, 2, "new");
  rm_lua_task *task = rm_lua_task_take(L, &l->link, rotated);
  int started = redmoon_blocklist_rotate_start(l->list, &rotation, (redmoon_rotation_result *)rm_lua_out(task), &task->op,
                                               &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Checks. */

/* `err`: of the call. [-0, +1] */
static void push_check(lua_State *L, const redmoon_check_result *result, const redmoon_error *err) {
  lua_createtable(L, 0, 3);
  lua_pushboolean(L, result->revoked);
  lua_setfield(L, -2, "revoked");
  if (result->reason[0] == '\0') return;
  set_text(L, "reason", result->reason);
  if (strcmp(result->reason, "unavailable") != 0) {
    set_seconds(L, "ttl", result->ttl_ms);
  } else {
    set_text(L, "code", err->code);
    set_text(L, "message", err->message);
  }
}

static int checked(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_check(L, (const redmoon_check_result *)rm_lua_out(task), &task->err);
  return 1;
}

/* list:check{jti=, sub=, iat=, ver=, family=} */
static int list_check(lua_State *L) {
  list *l = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  redmoon_claims claims;
  read_claims(L, 2, &claims);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, checked);
  int started = redmoon_blocklist_check_start(l->list, &claims, (redmoon_check_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Results in a userdata that lies on the stack. */
typedef struct many_checks {
  size_t count;
  const redmoon_check_result *results;
} many_checks;

static int checked_many(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const many_checks *many = (const many_checks *)rm_lua_out(task);
  lua_createtable(L, (int)many->count, 0);
  for (size_t i = 0; i < many->count; i++) {
    push_check(L, &many->results[i], &task->err);
    lua_seti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* list:check_many{claims, claims, ...} -> list of results */
static int list_check_many(lua_State *L) {
  list *l = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = (size_t)lua_rawlen(L, 2);
  luaL_argcheck(L, count >= 1 && count <= REDMOON_BLOCKLIST_MANY_MAX, 2, "a list of 1 to 1000 tokens expected");
  redmoon_claims *claims = lua_newuserdatauv(L, count * sizeof *claims, 0);
  redmoon_check_result *results = lua_newuserdatauv(L, count * sizeof *results, 0);
  for (size_t i = 0; i < count; i++) {
    if (lua_rawgeti(L, 2, (lua_Integer)i + 1) != LUA_TTABLE)
      rm_lua_raise(L, "check_many: place %d holds a %s; a table of claims expected", (int)i + 1, luaL_typename(L, -1));
    read_claims(L, lua_gettop(L), &claims[i]);
    lua_pop(L, 1);
  }
  rm_lua_task *task = rm_lua_task_take(L, &l->link, checked_many);
  *(many_checks *)rm_lua_out(task) = (many_checks){count, results};
  int started = redmoon_blocklist_check_many_start(l->list, claims, count, results, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* list:verify() */
static int list_verify(lua_State *L) {
  list *l = check(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, rm_lua_task_done);
  return rm_lua_task_run_or_raise(L, task, redmoon_blocklist_verify_start(l->list, &task->op, &task->err));
}

static int list_gc(lua_State *L) {
  end_list(L, lua_touserdata(L, 1));
  return 0;
}

static int list_close(lua_State *L) {
  end_list(L, luaL_checkudata(L, 1, LIST_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

/* redmoon.new_jti() */
int rm_lua_new_jti(lua_State *L) {
  char jti[REDMOON_NEW_JTI_SIZE];
  redmoon_error err;
  if (redmoon_new_jti(jti, &err) < 0) return rm_lua_fail(L, &err);
  lua_pushstring(L, jti);
  return 1;
}

void rm_lua_blocklist_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", list_gc}, {"__close", list_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"bump", list_bump},
                                     {"check", list_check},
                                     {"check_many", list_check_many},
                                     {"close", list_close},
                                     {"revoke", list_revoke},
                                     {"revoke_family", list_revoke_family},
                                     {"revoke_subject", list_revoke_subject},
                                     {"rotate", list_rotate},
                                     {"verify", list_verify},
                                     {NULL, NULL}};
  rm_lua_new_type(L, LIST_TYPE, meta, methods);
  lua_pop(L, 2);
}
