/* SPDX-License-Identifier: MIT */
/* client:rate_limiter{...} and redmoon.rate_limits{...}, their decisions, and the response header fields for them
 * (draft-ietf-httpapi-ratelimit-headers-10; Retry-After: RFC 9110, 10.2.3). */
#include "binding.h"

#include "patterns/rate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LIMITER_TYPE "redmoon.rate_limiter"
#define LIMITS_TYPE "redmoon.rate_limits"
#define RESULT_NAME "redmoon.rate_result"

typedef struct limiter {
  rm_lua_link link;
  redmoon_rate_limiter *limiter; /* NULL: closed */
} limiter;
typedef struct limits {
  rm_lua_link link;
  redmoon_rate_limits *limits; /* NULL: closed */
  int64_t max_cost;
} limits;
/* RESULT_META: metatable of the results; of several limits a list of them. */
enum { SLOT_RESULT_META = 1, SLOT_SERVER = 2, SLOTS = 2 };

static const rm_option limiter_options[] = {
    {"algorithm", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, algorithm), 0, 0, 0,
     "the name of an algorithm, like \"gcra\""},
    {"limit", RM_OPTION_INTEGER, offsetof(redmoon_rate_limiter_options, limit), 1, 1000000000, 0,
     "an integer from 1 to 1000000000 (sliding_log: 100000)"},
    {"window", RM_OPTION_DURATION, offsetof(redmoon_rate_limiter_options, window_ms), 1, INT64_C(31622400000), 0,
     "seconds from 0.001 to 31622400 (366 days)"},
    {"name", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, name), 0, 0, 0, "a name"},
    {"burst", RM_OPTION_INTEGER, offsetof(redmoon_rate_limiter_options, burst), 1, 1000000000, 0,
     "an integer from 1 to 1000000000"},
    {"calendar", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, calendar), 0, 0, 0,
     "\"minute\", \"hour\" or \"day\""},
    {"buckets", RM_OPTION_INTEGER, offsetof(redmoon_rate_limiter_options, buckets), 1, 60, 0,
     "an integer from 1 to 60"},
    {"on_error", RM_OPTION_TEXT, offsetof(redmoon_rate_limiter_options, on_error), 0, 0, 0,
     "\"error\", \"allow\" or \"deny\""},
    {"deny_cache", RM_OPTION_BOOL, offsetof(redmoon_rate_limiter_options, deny_cache), 0, 1, 0, "true or false"},
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
  bool comes = !allowed && retry > 0 && retry < 9e15; /* else never, or nobody knows: no time can be named */
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

/* The metatable of a limiter's results. [-0, +1] */
static void push_result_meta(lua_State *L, const redmoon_rate_limiter *of) {
  lua_createtable(L, 0, 3);
  lua_createtable(L, 0, 1);
  lua_pushlstring(L, of->part, of->name_len);
  lua_pushfstring(L, "\"%s\"", lua_tostring(L, -1)); /* of [A-Za-z0-9._-]: nothing to escape */
  lua_pushinteger(L, (lua_Integer)((of->window_ms + 999) / 1000));
  lua_pushcclosure(L, result_headers, 2);
  lua_setfield(L, -3, "headers");
  lua_setfield(L, -3, "policy");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, RESULT_NAME);
  lua_setfield(L, -2, "__name");
}

static void set_seconds(lua_State *L, const char *field, int64_t us) {
  lua_pushnumber(L, us == REDMOON_NEVER ? HUGE_VAL : (lua_Number)us / 1e6);
  lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, field);
}

/* `err`: what failed, when the result's source is "error".  The metatable is on top. [-1, +1] */
static void push_result(lua_State *L, const redmoon_rate_result *result, const redmoon_error *err) {
  lua_createtable(L, 0, 9);
  lua_pushboolean(L, result->allowed);
  lua_setfield(L, -2, "allowed");
  set_integer(L, "granted", result->granted);
  set_integer(L, "limit", result->limit);
  set_integer(L, "remaining", result->remaining);
  set_seconds(L, "retry_after", result->retry_after_us);
  set_seconds(L, "reset_after", result->reset_after_us);
  lua_pushstring(L, result->source);
  lua_setfield(L, -2, "source");
  lua_getfield(L, -2, "policy");
  lua_setfield(L, -2, "policy");
  if (strcmp(result->source, "error") == 0) {
    lua_pushstring(L, err->message);
    lua_setfield(L, -2, "error");
  }
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
}

/* What is asked. */

typedef struct asked {
  int64_t cost, partial;
  const char *request_id;
} asked;

#define COSTS "an integer from 1 to 1000000000 (sliding_log: 1000)"

/* The cost at `index`, or the table {cost=, partial=, request_id=}; its text stays the table's. [-0, +0] */
static redmoon_rate_request read_request(lua_State *L, int index, int64_t max_cost) {
  const rm_option table[] = {
      {"cost", RM_OPTION_INTEGER, offsetof(asked, cost), 1, max_cost, 0, COSTS},
      {"partial", RM_OPTION_BOOL, offsetof(asked, partial), 0, 1, 0, "true or false"},
      {"request_id", RM_OPTION_TEXT, offsetof(asked, request_id), 0, 0, 0, "a text"},
  };
  asked given = {1, 0, NULL};
  if (lua_istable(L, index)) {
    rm_lua_read_options(L, index, table, sizeof table / sizeof table[0], &given);
  } else {
    given.cost = luaL_optinteger(L, index, 1);
    if (given.cost < 1 || given.cost > max_cost) luaL_argerror(L, index, "a cost is " COSTS);
  }
  return (redmoon_rate_request){given.cost, given.partial == 1, given.request_id};
}

/* The key at 2: text as it is, a number in its decimal form. [-0, +1] */
static const redmoon_bytes *check_key(lua_State *L) {
  rm_lua_check_args(L, 2, 2);
  rm_lua_args *args = rm_lua_args_new(L, 1);
  rm_lua_args_add(L, args, 2, 2);
  return &args->bytes[0];
}

/* A failure; what is the caller's fault raises. */
static int fail(lua_State *L, const redmoon_error *err) {
  if (err->status == REDMOON_ECONFIG) return luaL_error(L, "%s", err->message);
  return rm_lua_fail(L, err);
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

int rm_lua_client_rate_limiter(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  rm_lua_read_options(L, 2, limiter_options, sizeof limiter_options / sizeof limiter_options[0], &options);
  bool has_window = options.window_ms != REDMOON_UNSET || options.calendar != NULL;
  if (options.algorithm == NULL || options.limit == REDMOON_UNSET || !has_window)
    return luaL_error(L, "rate_limiter needs the options 'algorithm', 'limit' and 'window'");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  limiter *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LIMITER_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, 3, SLOT_SERVER);
  rm_lua_link_set(&l->link, &client->link);
  redmoon_error err;
  if (redmoon_rate_limiter_new(client->link.client, &options, &l->limiter, &err) < 0) {
    end_limiter(L, l);
    return fail(L, &err);
  }
  push_result_meta(L, l->limiter);
  lua_setiuservalue(L, 3, SLOT_RESULT_META);
  return 1;
}

/* A decision, or nil, message, code, detail. */
static int decided(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_getiuservalue(L, 1, SLOT_RESULT_META);
  push_result(L, (const redmoon_rate_result *)rm_lua_out(task), &task->err);
  return 1;
}

/* limiter:allow(key [, cost or {cost=, partial=, request_id=}]) */
static int limiter_allow(lua_State *L) {
  limiter *l = check(L);
  redmoon_rate_request request = read_request(L, 3, l->limiter->max_cost);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided);
  int started = redmoon_rate_limiter_allow_start(l->limiter, key->ptr, key->len, &request,
                                                 (redmoon_rate_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* limiter:wait(key, cost or {...}, timeout) */
static int limiter_wait(lua_State *L) {
  static const rm_option timeout = {"timeout", RM_OPTION_DURATION, 0, 0, INT64_C(31622400000), 0,
                                    "seconds from 0 to 31622400"};
  limiter *l = check(L);
  redmoon_rate_request request = read_request(L, 3, l->limiter->max_cost);
  lua_settop(L, 4);
  int64_t timeout_ms = rm_lua_duration_ms(L, 4, &timeout);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided);
  int started = redmoon_rate_limiter_wait_start(l->limiter, key->ptr, key->len, &request, timeout_ms,
                                                (redmoon_rate_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* limiter:refund(key, n or {cost=n, request_id=}) */
static int limiter_refund(lua_State *L) {
  limiter *l = check(L);
  redmoon_rate_request request = read_request(L, 3, 1000000000);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided);
  int started = redmoon_rate_limiter_refund_start(l->limiter, key->ptr, key->len, request.cost, request.request_id,
                                                  (redmoon_rate_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* limiter:peek(key) */
static int limiter_peek(lua_State *L) {
  limiter *l = check(L);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided);
  int started = redmoon_rate_limiter_peek_start(l->limiter, key->ptr, key->len, (redmoon_rate_result *)rm_lua_out(task),
                                                &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

/* Many decisions: a userdata holds what C is given, and what it answers. */

typedef struct many {
  size_t count;
  redmoon_rate_item *items;
  redmoon_rate_result *results;
  redmoon_error *errors;
} many;

/* Item `index` of the list at 2: {key, cost}; its texts stay where they are. [-0, +0] */
static void read_item(lua_State *L, lua_Integer index, int64_t max_cost, rm_lua_args *keys, redmoon_rate_item *out) {
  if (lua_geti(L, 2, index) != LUA_TTABLE)
    rm_lua_raise(L, "allow_many: item %I is a %s; give {key, cost}", (LUAI_UACINT)index, luaL_typename(L, -1));
  int item = lua_gettop(L), type = lua_geti(L, item, 1);
  if (type != LUA_TSTRING && type != LUA_TNUMBER)
    rm_lua_raise(L, "allow_many: the key of item %I is a %s; give a string or a number", (LUAI_UACINT)index,
                 lua_typename(L, type));
  rm_lua_args_add(L, keys, item + 1, item + 1);
  int is_integer = 1;
  lua_Integer cost = lua_geti(L, item, 2) == LUA_TNIL ? 1 : lua_tointegerx(L, -1, &is_integer);
  if (!is_integer || cost < 1 || cost > max_cost)
    rm_lua_raise(L, "allow_many: the cost of item %I is not accepted; give " COSTS, (LUAI_UACINT)index);
  const redmoon_bytes *key = &keys->bytes[index - 1];
  *out = (redmoon_rate_item){key->ptr, key->len, {cost, 0, NULL}};
  lua_settop(L, item - 1);
}

/* A list of results, with an error object for each that failed. */
static int decided_many(lua_State *L, rm_lua_task *task, int status) {
  const many *m = (const many *)rm_lua_out(task);
  if (status < 0 && m->count == 0) return rm_lua_fail(L, &task->err); /* nothing was begun */
  lua_createtable(L, (int)m->count, 0);
  for (size_t i = 0; i < m->count; i++) {
    if (m->results[i].source == NULL) {
      rm_lua_push_error(L, &m->errors[i]);
    } else {
      lua_getiuservalue(L, 1, SLOT_RESULT_META);
      push_result(L, &m->results[i], &m->errors[i]);
    }
    lua_seti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* limiter:allow_many{{key, cost}, ...} */
static int limiter_allow_many(lua_State *L) {
  enum { MAX_ITEMS = 1000 };
  limiter *l = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  size_t count = lua_rawlen(L, 2);
  if (count < 1 || count > MAX_ITEMS)
    return luaL_error(L, "allow_many: %d items are not accepted; give 1 to %d", (int)count, (int)MAX_ITEMS);
  many m;
  m.items = lua_newuserdatauv(L, count * sizeof *m.items, 0);
  m.results = lua_newuserdatauv(L, count * sizeof *m.results, 0);
  m.errors = lua_newuserdatauv(L, count * sizeof *m.errors, 0);
  rm_lua_args *keys = rm_lua_args_new(L, count);
  for (size_t i = 0; i < count; i++) read_item(L, (lua_Integer)i + 1, l->limiter->max_cost, keys, &m.items[i]);
  m.count = count;
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided_many);
  int started =
      redmoon_rate_limiter_allow_many_start(l->limiter, m.items, count, m.results, m.errors, &task->op, &task->err);
  if (started == 0) *(many *)rm_lua_out(task) = m;
  return rm_lua_task_run_or_raise(L, task, started);
}

/* limiter:reset(key) */
static int limiter_reset(lua_State *L) {
  limiter *l = check(L);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_rate_limiter_reset_start(l->limiter, key->ptr, key->len, &task->op, &task->err));
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

/* Several limits. */

static void end_limits(lua_State *L, limits *l) {
  redmoon_rate_limits *inner = l->limits;
  l->limits = NULL;
  redmoon_rate_limits_free(inner);
  rm_lua_link_drop(L, &l->link);
}

/* redmoon.rate_limits{a, b, ...} */
int rm_lua_rate_limits(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  redmoon_rate_limiter *inner[RM_RATE_LIMITS_MAX];
  lua_Integer count = (lua_Integer)lua_rawlen(L, 1);
  if (count < 1 || count > RM_RATE_LIMITS_MAX)
    return luaL_error(L, "rate_limits: %I limiters are not accepted; give 1 to %d", (LUAI_UACINT)count,
                      (int)RM_RATE_LIMITS_MAX);
  limits *l = lua_newuserdatauv(L, sizeof *l, SLOTS);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LIMITS_TYPE);
  lua_createtable(L, (int)count, 0); /* at 3 */
  for (lua_Integer i = 1; i <= count; i++) {
    lua_geti(L, 1, i);
    limiter *one = luaL_testudata(L, -1, LIMITER_TYPE);
    if (one == NULL || one->limiter == NULL)
      return luaL_error(L, "rate_limits: element %I is not an open rate limiter", (LUAI_UACINT)i);
    inner[i - 1] = one->limiter;
    l->max_cost = i == 1 || one->limiter->max_cost < l->max_cost ? one->limiter->max_cost : l->max_cost;
    lua_getiuservalue(L, -1, SLOT_RESULT_META);
    lua_seti(L, 3, i);
    lua_getiuservalue(L, -1, SLOT_SERVER);
    lua_setiuservalue(L, 2, SLOT_SERVER);
    if (i == 1) rm_lua_link_set(&l->link, &one->link);
    lua_settop(L, 3);
  }
  lua_setiuservalue(L, 2, SLOT_RESULT_META);
  redmoon_error err;
  if (redmoon_rate_limits_new(inner, (size_t)count, &l->limits, &err) == 0) return 1;
  end_limits(L, l);
  return fail(L, &err);
}

static int decided_together(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  const redmoon_rate_result *result = (const redmoon_rate_result *)rm_lua_out(task);
  lua_getiuservalue(L, 1, SLOT_RESULT_META);
  lua_geti(L, -1, (lua_Integer)result->policy + 1);
  push_result(L, result, &task->err);
  return 1;
}

/* limits:allow(key [, cost or {cost=, partial=, request_id=}]) */
static int limits_allow(lua_State *L) {
  limits *l = luaL_checkudata(L, 1, LIMITS_TYPE);
  luaL_argcheck(L, l->limits != NULL, 1, "the rate limits are closed");
  redmoon_rate_request request = read_request(L, 3, l->max_cost);
  const redmoon_bytes *key = check_key(L);
  rm_lua_task *task = rm_lua_task_take(L, &l->link, decided_together);
  int started = redmoon_rate_limits_allow_start(l->limits, key->ptr, key->len, &request,
                                                (redmoon_rate_result *)rm_lua_out(task), &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int limits_gc(lua_State *L) {
  end_limits(L, lua_touserdata(L, 1));
  return 0;
}

static int limits_close(lua_State *L) {
  end_limits(L, luaL_checkudata(L, 1, LIMITS_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_rate_limiter_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", limiter_gc}, {"__close", limiter_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"allow", limiter_allow},
                                     {"allow_many", limiter_allow_many},
                                     {"close", limiter_close},
                                     {"peek", limiter_peek},
                                     {"refund", limiter_refund},
                                     {"reset", limiter_reset},
                                     {"wait", limiter_wait},
                                     {NULL, NULL}};
  static const luaL_Reg limits_meta[] = {{"__gc", limits_gc}, {"__close", limits_close}, {NULL, NULL}};
  static const luaL_Reg limits_methods[] = {{"allow", limits_allow}, {"close", limits_close}, {NULL, NULL}};
  rm_lua_new_type(L, LIMITER_TYPE, meta, methods);
  rm_lua_new_type(L, LIMITS_TYPE, limits_meta, limits_methods);
  lua_pop(L, 4);
}
