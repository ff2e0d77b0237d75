/* SPDX-License-Identifier: MIT */
/* client:subscribe{channels=, patterns=, shards=, ...} and the subscription object. */
#include "binding.h"

#include "engine/subscription.h"

#include <stddef.h>
#include <string.h>

#define SUBSCRIPTION_TYPE "redmoon.subscription"

typedef struct subscription {
  rm_lua_link link;
  redmoon_subscription *inner; /* NULL: closed */
  redmoon_message *held;       /* taken, and not given to Lua yet */
  const char *channel, *pattern; /* of the message before, as Lua's strings, which the slots keep; NULL: none yet */
  size_t channel_len, pattern_len;
} subscription;
enum { SLOT_SERVER = 1, SLOT_CHANNEL, SLOT_PATTERN, SLOT_KIND, SLOTS = SLOT_KIND };

#define LIST "a list of names"
static const rm_option subscribe_options[] = {
    {"channels", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, LIST},
    {"patterns", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, LIST},
    {"shards", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, LIST},
    {"buffer", RM_OPTION_INTEGER, offsetof(redmoon_subscription_options, buffer), 1, 10000000, 1000,
     "an integer from 1 to 10000000"},
    {"overflow", RM_OPTION_TEXT, offsetof(redmoon_subscription_options, overflow), 0, 0, 0,
     "\"drop_oldest\", \"drop_newest\", \"block\" or \"close\""},
    {"ping_interval", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, ping_interval_ms), 10, 3600000, 15000,
     "seconds from 0.01 to 3600"},
    {"min_backoff", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, min_backoff_ms), 1, 60000, 50,
     "seconds from 0.001 to 60"},
    {"max_backoff", RM_OPTION_DURATION, offsetof(redmoon_subscription_options, max_backoff_ms), 1, 600000, 5000,
     "seconds from min_backoff to 600"},
    {"on_message", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
    {"on_error", RM_LUA_OPTION_OTHER, 0, 0, 0, 0, "a function"},
};
enum { LISTS = 3, OPTIONS = sizeof subscribe_options / sizeof subscribe_options[0] };

/* [-0, +0], never raises */
static void end_subscription(lua_State *L, subscription *s) {
  redmoon_subscription *inner = s->inner;
  redmoon_message *held = s->held;
  s->inner = NULL;
  s->held = NULL;
  redmoon_message_free(held);
  redmoon_subscription_close(inner);
  rm_lua_link_drop(L, &s->link);
}

static subscription *check(lua_State *L) {
  subscription *s = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
  luaL_argcheck(L, s->inner != NULL, 1, "the subscription is closed");
  return s;
}

/* The lists of the table at `index`, as a set that is valid while the userdata it pushes and the table stay. [-0, +1] */
static redmoon_subscription_set read_set(lua_State *L, int index) {
  size_t lens[LISTS], total = 0;
  for (int i = 0; i < LISTS; i++) {
    lua_getfield(L, index, subscribe_options[i].name);
    lens[i] = rm_lua_list_len(L, -1, subscribe_options[i].name);
    total += lens[i];
    lua_pop(L, 1);
  }
  rm_lua_args *args = rm_lua_args_new(L, total + 1);
  for (int i = 0; i < LISTS; i++) {
    lua_getfield(L, index, subscribe_options[i].name);
    if (lens[i] > 0) rm_lua_args_add_list(L, args, lua_gettop(L), subscribe_options[i].name);
    lua_pop(L, 1);
  }
  const redmoon_bytes *at = args->bytes;
  return (redmoon_subscription_set){at, lens[0], at + lens[0], lens[1], at + lens[0] + lens[1], lens[2]};
}

/* Whether the option `name` of the table at 2 is given. */
static bool has_function(lua_State *L, const char *name) {
  int type = lua_getfield(L, 2, name);
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    rm_lua_raise(L, "option '%s': a %s is not accepted; it takes a function", name, lua_typename(L, type));
  lua_pop(L, 1);
  return type != LUA_TNIL;
}

/* on_message can only be called from a loop. */
static void check_functions(lua_State *L, const rm_lua_client *client) {
  bool called = has_function(L, "on_message");
  if (has_function(L, "on_error") && !called) rm_lua_raise(L, "option 'on_error' is for 'on_message', which is missing");
  if (!called) return;
  if (client->link.loop == NULL || !rm_lua_loop_push_spawn(L, client->link.loop))
    rm_lua_raise(L, "option 'on_message': there is no event loop to call the function from (option 'loop', with a spawn); use "
                    "receive or messages");
  lua_pop(L, 1);
}

enum { BOX = 4 }; /* of a subscription that is being made: behind client, options and the set */

/* The function of the options, if there is one, is given to the subscription's on_message. */
static void begin_delivery(lua_State *L) {
  if (lua_getfield(L, 2, "on_message") == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  lua_getfield(L, BOX, "on_message");
  lua_insert(L, -2);
  lua_pushvalue(L, BOX);
  lua_insert(L, -2);
  lua_getfield(L, 2, "on_error");
  const subscription *s = lua_touserdata(L, BOX);
  if (!rm_lua_loop_push_spawn(L, s->link.loop)) lua_pushnil(L); /* here the coroutine can yield; in the call it cannot */
  lua_call(L, 4, 0);
}

static int subscribed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) {
    end_subscription(L, lua_touserdata(L, BOX));
    return rm_lua_fail(L, &task->err);
  }
  begin_delivery(L);
  lua_pushvalue(L, BOX);
  return 1;
}

int rm_lua_client_subscribe(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (!lua_istable(L, 2))
    return rm_lua_raise(L, "subscribe takes a table {channels=, patterns=, shards=, buffer=, overflow=}, not a %s",
                        luaL_typename(L, 2));
  lua_settop(L, 2);
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  rm_lua_read_options(L, 2, subscribe_options, OPTIONS, &options);
  check_functions(L, client);
  redmoon_subscription_set set = read_set(L, 2);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  /* Another thread dials, and goes by what the function says now. */
  if (client->link.credentials != NULL && rm_lua_credentials_prime(L, client->link.credentials) < 0)
    return rm_lua_fail_text(L, REDMOON_ECONFIG, "option 'credentials': the function gave no user and password");
  subscription *s = lua_newuserdatauv(L, sizeof *s, SLOTS);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, SUBSCRIPTION_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  lua_pushliteral(L, "message");
  lua_setiuservalue(L, -2, SLOT_KIND);
  rm_lua_link_set(&s->link, &client->link);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, subscribed);
  int started =
      redmoon_subscription_open_start(s->link.client, &set, &options, &s->inner, &task->op, &task->err);
  return rm_lua_task_run_or_raise(L, task, started);
}

static int change(lua_State *L, int (*start)(redmoon_subscription *, const redmoon_subscription_set *, redmoon_op **,
                                             redmoon_error *)) {
  subscription *s = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  char none;
  rm_lua_read_options(L, 2, subscribe_options, LISTS, &none); /* all of them are read below */
  redmoon_subscription_set set = read_set(L, 2);
  rm_lua_task *task = rm_lua_task_take(L, &s->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, start(s->inner, &set, &task->op, &task->err));
}

/* subscription:add{channels=, patterns=, shards=}, subscription:remove{...} */
static int subscription_add(lua_State *L) { return change(L, redmoon_subscription_add_start); }
static int subscription_remove(lua_State *L) { return change(L, redmoon_subscription_remove_start); }

/* [-0, +0] of the table on top */
static void set_text(lua_State *L, const char *field, const char *text, size_t len) {
  if (text == NULL) return;
  lua_pushlstring(L, text, len);
  lua_setfield(L, -2, field);
}

/* The same of a name that is mostly the one of the message before, whose string is in `slot` and at *kept.  [-0, +0] */
static void set_name(lua_State *L, const char *field, const char *text, size_t len, int slot, const char **kept, size_t *kept_len) {
  if (text == NULL) return;
  if (*kept != NULL && *kept_len == len && memcmp(*kept, text, len) == 0) {
    lua_getiuservalue(L, 1, slot);
  } else {
    const char *string = lua_pushlstring(L, text, len);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, slot);
    *kept = string;
    *kept_len = len;
  }
  lua_setfield(L, -2, field);
}

static void set_count(lua_State *L, const char *field, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, field);
}

/* What the subscription at index 1 holds, as a table; nil: nothing. [-0, +1] */
static void push_held(lua_State *L, subscription *s) {
  const redmoon_message *m = s->held;
  if (m == NULL) {
    lua_pushnil(L);
    return;
  }
  bool gap = m->kind == REDMOON_GAP;
  lua_createtable(L, 0, gap ? 4 : 3);
  if (gap) lua_pushliteral(L, "gap");
  else lua_getiuservalue(L, 1, SLOT_KIND);
  lua_setfield(L, -2, "kind");
  set_name(L, "channel", m->channel, m->channel_len, SLOT_CHANNEL, &s->channel, &s->channel_len);
  set_name(L, "pattern", m->pattern, m->pattern_len, SLOT_PATTERN, &s->pattern, &s->pattern_len);
  set_text(L, "payload", m->payload, m->payload_len);
  if (m->shard) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "shard");
  }
  if (gap) {
    set_count(L, "reconnects", m->reconnects);
    set_count(L, "dropped", m->dropped);
    lua_pushnumber(L, (lua_Number)m->down_ms / 1000.0);
    lua_setfield(L, -2, "down_time");
  }
  redmoon_message *given = s->held;
  s->held = NULL;
  redmoon_message_free(given);
}

/* What came, behind what could not be handed over before; nil: nothing. [-0, +1] */
static void give(lua_State *L, subscription *s, redmoon_message **came) {
  redmoon_message *before = s->held;
  if (before == NULL) {
    s->held = *came;
    *came = NULL;
  }
  push_held(L, s);
  if (before == NULL) return;
  s->held = *came;
  *came = NULL;
}

static void drop_message(void *out) { redmoon_message_free(*(redmoon_message **)out); }

static int received(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  give(L, lua_touserdata(L, 1), rm_lua_out(task));
  return 1;
}

/* In a `for` the end is the end. */
static int received_next(lua_State *L, rm_lua_task *task, int status) {
  if (status == REDMOON_ECLOSED) {
    lua_pushnil(L);
    return 1;
  }
  if (status >= 0) return received(L, task, status);
  return rm_lua_task_raise(L, task);
}

/* The next event, or nil when none came in time; what is there is taken without an operation. */
static int fetch(lua_State *L, subscription *s, int64_t timeout_ms, rm_lua_tail tail) {
  redmoon_error ignored; /* told by the operation, too */
  if (s->held != NULL || rm_subscription_take(s->inner, &s->held, &ignored) == 1) {
    push_held(L, s);
    return rm_lua_end(L, &s->link, 1);
  }
  rm_lua_task *task = rm_lua_task_take(L, &s->link, tail);
  task->drop = drop_message;
  redmoon_message **out = rm_lua_out(task);
  return rm_lua_task_run(L, task, redmoon_subscription_receive_start(s->inner, timeout_ms, out, &task->op, &task->err));
}

/* subscription:receive([timeout]) */
static int subscription_receive(lua_State *L) {
  subscription *s = check(L);
  return fetch(L, s, rm_lua_receive_timeout_ms(L, 2), received);
}

/* The iterator. */
static int next_message(lua_State *L) {
  subscription *s = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
  return s->inner == NULL ? 0 : fetch(L, s, -1, received_next);
}

/* subscription:messages() */
static int subscription_messages(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_pushcfunction(L, next_message);
  lua_insert(L, 1);
  return 2;
}

/* For what is written in Lua. */

int rm_lua_subscription_next(lua_State *L) {
  subscription *s = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
  lua_settop(L, 1);
  return s->inner == NULL ? rm_lua_fail_text(L, REDMOON_ECLOSED, "the subscription is closed") : fetch(L, s, -1, received);
}

int rm_lua_subscription_spawn(lua_State *L) {
  const subscription *s = check(L);
  return s->link.loop != NULL && rm_lua_loop_push_spawn(L, s->link.loop) ? 1 : 0;
}

/* subscription:stats() */
static int subscription_stats(lua_State *L) {
  redmoon_subscription_counts c;
  redmoon_subscription_stats(check(L)->inner, &c);
  lua_createtable(L, 0, 11);
  set_count(L, "received", c.received);
  set_count(L, "delivered", c.delivered);
  set_count(L, "dropped", c.dropped);
  set_count(L, "blocked", c.blocked);
  set_count(L, "gaps", c.gaps);
  set_count(L, "reconnects", c.reconnects);
  set_count(L, "buffered", c.buffered);
  set_count(L, "channels", c.channels);
  set_count(L, "patterns", c.patterns);
  set_count(L, "shards", c.shards);
  lua_pushboolean(L, c.connected);
  lua_setfield(L, -2, "connected");
  return 1;
}

static int subscription_gc(lua_State *L) {
  end_subscription(L, lua_touserdata(L, 1));
  return 0;
}

static int subscription_close(lua_State *L) {
  end_subscription(L, luaL_checkudata(L, 1, SUBSCRIPTION_TYPE));
  lua_pushboolean(L, 1);
  return 1;
}

void rm_lua_subscription_open(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", subscription_gc}, {"__close", subscription_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"add", subscription_add},           {"close", subscription_close},
                                     {"messages", subscription_messages}, {"receive", subscription_receive},
                                     {"remove", subscription_remove},     {"stats", subscription_stats},
                                     {NULL, NULL}};
  rm_lua_new_type(L, SUBSCRIPTION_TYPE, meta, methods);
  lua_remove(L, -2);
}
