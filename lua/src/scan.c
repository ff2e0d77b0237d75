/* SPDX-License-Identifier: MIT */
/* client:scan{...}, hscan, sscan, zscan: iterators that fetch a page when the last one is used up.
 *
 *      for key in client:scan{match = "user:*"} do ... end           an error raises
 *      local key, message, code = scan:next()                        an error is returned; the end is nil alone */
#include "binding.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

#define SCAN_TYPE "redmoon.scan"

typedef struct scan {
  rm_lua_link link;
  redmoon_scan *scan; /* NULL: ended */
  redmoon_reply *page;
  size_t next;  /* element of the page */
  int width;    /* values per step: 2 for hashes and sorted sets */
  bool is_zset; /* the second one is a number */
} scan;

/* [-0, +0] */
static void end_scan(lua_State *L, scan *s) {
  redmoon_reply_free(s->page);
  redmoon_scan_free(s->scan);
  s->page = NULL;
  s->scan = NULL;
  rm_lua_link_drop(L, &s->link);
}

/* A score is a number whatever the protocol. [-0, +1] */
static void push_score(lua_State *L, const redmoon_reply *reply) {
  const char *text = redmoon_reply_string(reply, NULL);
  if (text == NULL) lua_pushnumber(L, redmoon_reply_double(reply));
  else if (lua_stringtonumber(L, text) != 0) lua_pushnumber(L, lua_tonumber(L, -1)), lua_remove(L, -2);
  else lua_pushnumber(L, text[0] == '-' ? -HUGE_VAL : HUGE_VAL);
}

/* Pushes the values of the next element of the page and returns how many. */
static int push_next(lua_State *L, scan *s) {
  rm_lua_push_element(L, redmoon_reply_at(s->page, s->next++));
  if (s->width == 1) return 1;
  const redmoon_reply *second = redmoon_reply_at(s->page, s->next++);
  if (second == NULL) lua_pushnil(L);
  else if (s->is_zset) push_score(L, second);
  else rm_lua_push_element(L, second);
  return 2;
}

static bool has_next(const scan *s) { return s->page != NULL && s->next < redmoon_reply_count(s->page); }

static int push_end(lua_State *L) {
  lua_pushnil(L);
  return 1;
}

static int fetch(scan *s, rm_lua_task *task) {
  redmoon_reply_free(s->page);
  s->page = NULL;
  s->next = 0;
  return redmoon_scan_next_start(s->scan, &s->page, &task->op, &task->err);
}

/* A page has come: its first element, or the end; one without elements is no end. */
static int fetched(lua_State *L, scan *s, rm_lua_task *task, int *status) {
  if (*status == 0 && has_next(s)) return push_next(L, s);
  if (*status == 0 && s->scan != NULL && s->page != NULL && (*status = fetch(s, task)) == 0) return RM_LUA_AGAIN;
  end_scan(L, s);
  return push_end(L);
}

static int fetched_next(lua_State *L, rm_lua_task *task, int status) {
  int count = fetched(L, lua_touserdata(L, 1), task, &status);
  return status < 0 ? rm_lua_fail(L, &task->err) : count;
}

static int fetched_call(lua_State *L, rm_lua_task *task, int status) {
  int count = fetched(L, lua_touserdata(L, 1), task, &status);
  if (status >= 0) return count;
  return rm_lua_task_raise(L, task);
}

static int step(lua_State *L, rm_lua_tail tail) {
  scan *s = luaL_checkudata(L, 1, SCAN_TYPE);
  if (has_next(s)) return push_next(L, s);
  if (s->scan == NULL) return push_end(L);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, tail);
  return rm_lua_task_run(L, task, fetch(s, task));
}

/* scan:next() */
static int scan_next(lua_State *L) { return step(L, fetched_next); }
static int scan_call(lua_State *L) { return step(L, fetched_call); }

static int new_scan(lua_State *L, redmoon_scan_kind kind, const char *name) {
  static const rm_option table[] = {
      {"match", RM_OPTION_TEXT, offsetof(redmoon_scan_options, match), 0, 0, 0, "a glob pattern"},
      {"count", RM_OPTION_INTEGER, offsetof(redmoon_scan_options, count), 1, 1000000, 0,
       "an integer from 1 to 1000000"},
      {"type", RM_OPTION_TEXT, offsetof(redmoon_scan_options, type), 0, 0, 0,
       "the name of a type, such as \"hash\""}};
  rm_lua_client *client = rm_lua_client_check(L, 1);
  bool of_keys = kind == REDMOON_SCAN_KEYS;
  int options_index = of_keys ? 2 : 3;
  if (!lua_isnoneornil(L, options_index) && !lua_istable(L, options_index))
    luaL_error(L, "%s takes %sa table of options {match=, count=%s}; the plain command is client:call(\"%s\", ...)",
               name, of_keys ? "" : "a key and ", of_keys ? ", type=" : "", name);
  lua_settop(L, options_index);
  redmoon_scan_options options = REDMOON_SCAN_OPTIONS_INIT;
  rm_lua_read_options(L, options_index, table, of_keys ? 3 : 2, &options);
  rm_lua_args *key = rm_lua_args_new(L, 1);
  if (!of_keys) {
    rm_lua_check_args(L, 2, 2);
    rm_lua_args_add(L, key, 2, 2);
  } else {
    rm_lua_args_add_bytes(key, "", 0);
  }
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  scan *s = lua_newuserdatauv(L, sizeof *s, 1);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, SCAN_TYPE);
  s->link.shared = client->link.shared;
  s->width = kind == REDMOON_SCAN_HASH || kind == REDMOON_SCAN_ZSET ? 2 : 1;
  s->is_zset = kind == REDMOON_SCAN_ZSET;
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, 1);
  redmoon_error err;
  if (redmoon_scan_new(client->link.client, kind, key->bytes[0].ptr, key->bytes[0].len, &options, &s->scan, &err) <
      0)
    return rm_lua_fail(L, &err);
  rm_lua_link_set(&s->link, &client->link);
  /* iterator, state, control, and what the loop closes when it is left */
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, -3);
  return 4;
}

int rm_lua_client_scan(lua_State *L) { return new_scan(L, REDMOON_SCAN_KEYS, "scan"); }
int rm_lua_client_hscan(lua_State *L) { return new_scan(L, REDMOON_SCAN_HASH, "hscan"); }
int rm_lua_client_sscan(lua_State *L) { return new_scan(L, REDMOON_SCAN_SET, "sscan"); }
int rm_lua_client_zscan(lua_State *L) { return new_scan(L, REDMOON_SCAN_ZSET, "zscan"); }

static int scan_gc(lua_State *L) {
  end_scan(L, lua_touserdata(L, 1));
  return 0;
}

static int scan_close(lua_State *L) {
  end_scan(L, luaL_checkudata(L, 1, SCAN_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_scan_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", scan_gc}, {"__close", scan_close}, {"__call", scan_call}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"next", scan_next}, {"close", scan_close}, {NULL, NULL}};
  rm_lua_new_type(L, SCAN_TYPE, meta, methods);
  lua_pop(L, 2);
}
