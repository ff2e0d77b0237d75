/* SPDX-License-Identifier: MIT */
/* client:rate_limiter{...}, its decisions, and the response header fields they stand for
 * (draft-ietf-httpapi-ratelimit-headers-10; Retry-After: RFC 9110, 10.2.3). */
#include "binding.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LIMITER_TYPE "redmoon.rate_limiter"
#define RESULT_NAME "redmoon.rate_result"
#define LATER "is not in this version"

typedef struct limiter {
  rm_lua_link link;
  redmoon_rate_limiter *limiter; /* NULL: closed */
} limiter;
enum { SLOT_RESULT_META = 1, SLOT_SERVER = 2, SLOTS = 2 };

static const rm_option limiter_options[] = {
    {"algorithm", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, algorithm), 0, 0, 0, "\"sliding_log\""},
    {"limit", RM_OPTION_INTEGER, offsetof(redmoon_rate_limiter_options, limit), 1, 100000, 0,
     "an integer from 1 to 100000"},
    {"window", RM_OPTION_DURATION, offsetof(redmoon_rate_limiter_options, window_ms), 1, INT64_C(31622400000), 0,
     "seconds from 0.001 to 31622400 (366 days)"},
    {"name", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, name), 0, 0, 0, "a name"},
    {"burst", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": it belongs to the algorithm \"gcra\""},
    {"on_error", RM_LUA_OPTION_REFUSED, 0, 0, 0, 0, LATER ": allow() returns nil, message, code when Redis fails"},
};

/* Results. */

/* The whole seconds to wait, rounded up, from field `field` of the result at 1. [-0, +0] */
static double ceil_field(lua_State *L, const char *field) {
  lua_getfield(L, 1, field);
  double seconds = ceil(lua_tonumber(L, -1));
  lua_pop(L, 1);
  return seconds;
}

/* result:headers(). Upvalues: quoted name, window in whole seconds. */
static int result_headers(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  const char *name = lua_tostring(L, lua_upvalueindex(1));
  lua_createtable(L, 0, 3);
  lua_getfield(L, 1, "limit");
  lua_pushfstring(L, "%s;q=%I;w=%I", name, (LUAI_UACINT)lua_tointeger(L, -1),
                  (LUAI_UACINT)lua_tointeger(L, lua_upvalueindex(2)));
  lua_setfield(L, 2, "RateLimit-Policy");
  lua_getfield(L, 1, "allowed");
  bool allowed = lua_toboolean(L, -1);
  double retry = ceil_field(L, "retry_after"), reset = ceil_field(L, "reset_after");
  bool comes = !allowed && retry < 9e15; /* else never: no time can be named */
  double until = comes ? retry : reset;  /* a refusal names the instant that Retry-After names */
  lua_getfield(L, 1, "remaining");
  lua_pushfstring(L, "%s;r=%I;t=%I", name, (LUAI_UACINT)lua_tointeger(L, -1), (LUAI_UACINT)until);
  lua_setfield(L, 2, "RateLimit");
  if (comes) {
    lua_pushfstring(L, "%I", (LUAI_UACINT)retry);
    lua_setfield(L, 2, "Retry-After");
  }
  lua_settop(L, 2);
  return 1;
}

/* The metatable of this limiter's results. [-0, +1] */
static void push_result_meta(lua_State *L, const redmoon_rate_limiter_options *options) {
  lua_createtable(L, 0, 2);
  lua_createtable(L, 0, 1);
  lua_pushfstring(L, "\"%s\"",
                  options->name != NULL ? options->name : "rl"); /* of [A-Za-z0-9._-]: nothing to escape */
  lua_pushinteger(L, (lua_Integer)((options->window_ms + 999) / 1000));
  lua_pushcclosure(L, result_headers, 2);
  lua_setfield(L, -2, "headers");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, RESULT_NAME);
  lua_setfield(L, -2, "__name");
}

static void set_seconds(lua_State *L, const char *field, int64_t us) {
  lua_pushnumber(L, us == REDMOON_NEVER ? HUGE_VAL : (lua_Number)us / 1e6);
  lua_setfield(L, -2, field);
}

/* [-0, +1] */
static void push_result(lua_State *L, const redmoon_rate_result *result) {
  lua_createtable(L, 0, 5);
  lua_pushboolean(L, result->allowed);
  lua_setfield(L, -2, "allowed");
  lua_pushinteger(L, (lua_Integer)result->limit);
  lua_setfield(L, -2, "limit");
  lua_pushinteger(L, (lua_Integer)result->remaining);
  lua_setfield(L, -2, "remaining");
  set_seconds(L, "retry_after", result->retry_after_us);
  set_seconds(L, "reset_after", result->reset_after_us);
  lua_getiuservalue(L, 1, SLOT_RESULT_META);
  lua_setmetatable(L, -2);
}

/* The limiter. */

static void end_limiter(lua_State *L, limiter *l) {
  redmoon_rate_limiter *inner = l->limiter;
  l->limiter = NULL;
  redmoon_rate_limiter_free(inner);
  rm_lua_link_drop(L, &l->link);
}

static limiter *check(lua_State *L) {
  limiter *l = luaL_checkudata(L, 1, LIMITER_TYPE);
  luaL_argcheck(L, l->limiter != NULL, 1, "the rate limiter is closed");
  return l;
}

/* The key at 2: text as it is, a number in its decimal form. */
static const redmoon_bytes *check_key(lua_State *L) {
  rm_lua_check_args(L, 2, 2);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, 2, 2);
  return &args->bytes[0];
}

int rm_lua_client_rate_limiter(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  rm_lua_read_options(L, 2, limiter_options, sizeof limiter_options / sizeof limiter_options[0], &options);
  if (options.algorithm == NULL || options.limit == REDMOON_UNSET || options.window_ms == REDMOON_UNSET)
    return luaL_error(L, "rate_limiter needs the options 'algorithm', 'limit' and 'window'");
  if (strcmp(options.algorithm, "sliding_log") != 0)
    return luaL_error(L, "option 'algorithm': '%s' is not accepted; this version has \"sliding_log\"",
                      options.algorithm);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  limiter *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LIMITER_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 3, SLOT_SERVER);
  push_result_meta(L, &options);
  lua_setiuservalue(L, 3, SLOT_RESULT_META);
  rm_lua_link_set(&l->link, &client->link);
  redmoon_error err;
  if (redmoon_rate_limiter_new(client->link.client, &options, &l->limiter, &err) < 0) {
    end_limiter(L, l);
    if (err.status == REDMOON_ECONFIG) return luaL_error(L, "%s", err.message);
    return rm_lua_fail(L, &err);
  }
  return 1;
}

/* A decision, or nil, message, code, detail. */
static int answer(lua_State *L, limiter *l, int started, redmoon_op *op, const redmoon_rate_result *result,
                  redmoon_error *err) {
  int status = rm_lua_run(L, &l->link, started, op, err), count = 1;
  if (status < 0) count = rm_lua_fail(L, err);
  else push_result(L, result);
  return rm_lua_end(L, &l->link, count);
}

/* limiter:allow(key [, cost]) */
static int limiter_allow(lua_State *L) {
  limiter *l = check(L);
  lua_Integer cost = luaL_optinteger(L, 3, 1);
  luaL_argcheck(L, cost >= 1 && cost <= 1000, 3, "a cost is an integer from 1 to 1000");
  const redmoon_bytes *key = check_key(L);
  redmoon_rate_result result;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_rate_limiter_allow_start(l->limiter, key->ptr, key->len, cost, &result, &op, &err);
  return answer(L, l, started, op, &result, &err);
}

/* limiter:peek(key) */
static int limiter_peek(lua_State *L) {
  limiter *l = check(L);
  const redmoon_bytes *key = check_key(L);
  redmoon_rate_result result;
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_rate_limiter_peek_start(l->limiter, key->ptr, key->len, &result, &op, &err);
  return answer(L, l, started, op, &result, &err);
}

/* limiter:reset(key) */
static int limiter_reset(lua_State *L) {
  limiter *l = check(L);
  const redmoon_bytes *key = check_key(L);
  redmoon_op *op = NULL;
  redmoon_error err;
  int started = redmoon_rate_limiter_reset_start(l->limiter, key->ptr, key->len, &op, &err);
  int status = rm_lua_run(L, &l->link, started, op, &err), count = 1;
  if (status < 0) count = rm_lua_fail(L, &err);
  else lua_pushboolean(L, 1);
  return rm_lua_end(L, &l->link, count);
}

static int limiter_gc(lua_State *L) {
  end_limiter(L, lua_touserdata(L, 1));
  return 0;
}

static int limiter_close(lua_State *L) {
  end_limiter(L, luaL_checkudata(L, 1, LIMITER_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_rate_limiter_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", limiter_gc}, {"__close", limiter_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"allow", limiter_allow},
                                     {"close", limiter_close},
                                     {"peek", limiter_peek},
                                     {"reset", limiter_reset},
                                     {NULL, NULL}};
  rm_lua_new_type(L, LIMITER_TYPE, meta, methods);
  lua_pop(L, 2);
}
