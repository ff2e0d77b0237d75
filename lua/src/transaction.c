/* SPDX-License-Identifier: MIT */
/* Transactions: the object that the function gets, and the functions that lua/redmoon/transaction.lua drives it
 * with.
 *
 *      begin -> commands run at once (watching) -> multi -> commands are queued -> exec -> replies
 *                 ^                                                                | CONFLICT
 *                 +---------------------------- again -----------------------------+ */
#include "binding.h"

#include "base/error.h"

#include <string.h>

#define TRANSACTION_TYPE "redmoon.transaction"

typedef struct transaction {
  rm_lua_link link;
  redmoon_transaction *tx; /* NULL: ended */
  int64_t default_ttl_ms;
} transaction;
enum { SLOT_CONDITIONAL = 1, SLOT_SERVER = 2, SLOTS = 2 };

static transaction *check_open(lua_State *L, transaction *t) {
  if (t->tx == NULL) rm_lua_raise(L, "the transaction has ended: it is used inside its function only");
  return t;
}

static transaction *check(lua_State *L, int index) {
  return check_open(L, luaL_checkudata(L, index, TRANSACTION_TYPE));
}

/* Commands. */

/* Remembers that a nil of command `index` means false. [-0, +0] */
static void mark_conditional(lua_State *L, lua_Integer index) {
  if (lua_getiuservalue(L, 1, SLOT_CONDITIONAL) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, SLOT_CONDITIONAL);
  }
  lua_pushboolean(L, 1);
  lua_rawseti(L, -2, index);
  lua_pop(L, 1);
}

/* rm_lua_out */
typedef struct command_out {
  redmoon_reply *reply;
  bool conditional;
} command_out;

static void drop_reply(void *out) { redmoon_reply_free(((command_out *)out)->reply); }

static int answered(lua_State *L, rm_lua_task *task, int status) {
  const command_out *out = (const command_out *)rm_lua_out(task);
  if (status < 0) return rm_lua_fail(L, &task->err);
  if (out->conditional && out->reply->type == REDMOON_NIL) lua_pushboolean(L, 0);
  else rm_lua_push_reply(L, out->reply);
  return 1;
}

/* Queues the command, or runs it and pushes its result. */
static int send_command(lua_State *L, transaction *t, const rm_lua_args *args, bool conditional) {
  redmoon_error err;
  if (redmoon_transaction_is_queuing(t->tx)) {
    int64_t index = redmoon_transaction_queue(t->tx, (int)args->count, args->argv, args->lens, &err);
    if (index < 0) return rm_lua_raise(L, "%s", err.message);
    if (conditional) mark_conditional(L, (lua_Integer)index + 1);
    lua_pushinteger(L, (lua_Integer)index + 1);
    return 1;
  }
  rm_lua_task *task = rm_lua_task_take(L, &t->link, answered);
  command_out *out = (command_out *)rm_lua_out(task);
  out->conditional = conditional;
  task->drop = drop_reply;
  int started = redmoon_transaction_command_start(t->tx, (int)args->count, args->argv, args->lens, &out->reply, &task->op,
                                                  &task->err);
  return rm_lua_task_run(L, task, started);
}

/* tx:<name>(...). Upvalues: method, name. */
static int transaction_command(lua_State *L) {
  const rm_lua_method *method = lua_touserdata(L, lua_upvalueindex(1));
  transaction *t = check_open(L, rm_lua_receiver(L, method));
  bool conditional = false;
  if (method->rewrite != RM_LUA_AS_WRITTEN) rm_lua_rewrite(L, method, t->default_ttl_ms, &conditional);
  int last = lua_gettop(L);
  rm_lua_check_args(L, 2, last);
  rm_lua_args *args = rm_lua_args_new(L, (size_t)last);
  rm_lua_args_add_bytes(args, method->name, method->len);
  rm_lua_args_add(L, args, 2, last);
  return send_command(L, t, args, conditional);
}

/* tx:call(name, ...) */
static int transaction_call(lua_State *L) {
  transaction *t = check(L, 1);
  const char *name;
  size_t len;
  (void)rm_lua_call_command(L, &name, &len);
  int last = lua_gettop(L);
  rm_lua_args *args = rm_lua_args_new(L, (size_t)last);
  rm_lua_args_add(L, args, 2, last);
  return send_command(L, t, args, false);
}

/* tx:run(script, keys, args): queued, or run at once by EVAL, which needs no second try. */
static int transaction_run(lua_State *L) {
  transaction *t = check(L, 1);
  redmoon_script *script = rm_lua_script_check(L, 2);
  lua_settop(L, 4);
  size_t keys = rm_lua_list_len(L, 3, "keys"), values = rm_lua_list_len(L, 4, "args");
  lua_getiuservalue(L, 2, 1); /* 5: the source */
  lua_pushliteral(L, "EVAL"); /* 6 */
  lua_pushinteger(L, (lua_Integer)keys);
  rm_lua_args *args = rm_lua_args_new(L, keys + values + 3);
  rm_lua_args_add(L, args, 6, 6);
  rm_lua_args_add(L, args, 5, 5);
  rm_lua_args_add(L, args, 7, 7);
  rm_lua_args_add_list(L, args, 3, "keys");
  rm_lua_args_add_list(L, args, 4, "args");
  if (!redmoon_transaction_is_queuing(t->tx)) return send_command(L, t, args, false);
  redmoon_script_args run = {args->bytes + 3, keys, args->bytes + 3 + keys, values};
  redmoon_error err;
  int64_t index = redmoon_transaction_queue_script(t->tx, script, &run, &err);
  if (index < 0) return rm_lua_raise(L, "%s", err.message);
  lua_pushinteger(L, (lua_Integer)index + 1);
  return 1;
}

/* tx:multi() */
static int transaction_multi(lua_State *L) {
  transaction *t = check(L, 1);
  redmoon_error err;
  if (redmoon_transaction_multi(t->tx, &err) < 0) return rm_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* What transaction.lua drives it with. */

/* rm_lua_out: the transaction's place on the stack */
static int begun(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  lua_pushvalue(L, *(const int *)rm_lua_out(task));
  return 1;
}

/* begin(client, keys, options): the keys are a list, a string, or nil */
static int begin(lua_State *L) {
  static const rm_option table[] = {{"max_attempts", RM_OPTION_INTEGER,
                                     offsetof(redmoon_transaction_options, max_attempts), 1, 1000, 10,
                                     "an integer from 1 to 1000"}};
  rm_lua_client *client = rm_lua_client_check(L, 1);
  lua_settop(L, 3);
  redmoon_transaction_options options = REDMOON_TRANSACTION_OPTIONS_INIT;
  rm_lua_read_options(L, 3, table, 1, &options);
  size_t count = rm_lua_list_len(L, 2, "keys");
  rm_lua_args *keys = rm_lua_args_new(L, count);
  rm_lua_args_add_list(L, keys, 2, "keys");
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  transaction *t = lua_newuserdatauv(L, sizeof *t, SLOTS);
  memset(t, 0, sizeof *t);
  t->link.shared = client->link.shared;
  luaL_setmetatable(L, TRANSACTION_TYPE);
  lua_getiuservalue(L, 1, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, -2, SLOT_SERVER);
  rm_lua_link_set(&t->link, &client->link);
  t->default_ttl_ms = client->default_ttl_ms;
  int place = lua_gettop(L);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, begun);
  *(int *)rm_lua_out(task) = place;
  int started =
      redmoon_transaction_begin_start(client->link.client, keys->bytes, count, &options, &t->tx, &task->op, &task->err);
  return rm_lua_task_run(L, task, started);
}

/* A committed transaction's replies as a list; conditions unmet are false. [-0, +1] */
static void push_replies(lua_State *L, const redmoon_reply *replies) {
  size_t count = redmoon_reply_count(replies);
  bool conditions = lua_getiuservalue(L, 1, SLOT_CONDITIONAL) == LUA_TTABLE;
  lua_createtable(L, (int)count, 1);
  for (size_t i = 0; i < count; i++) {
    const redmoon_reply *reply = redmoon_reply_at(replies, i);
    bool unmet = false;
    if (conditions && reply->type == REDMOON_NIL) {
      unmet = lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TNIL;
      lua_pop(L, 1);
    }
    if (unmet) lua_pushboolean(L, 0);
    else rm_lua_push_element(L, reply);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_pushinteger(L, (lua_Integer)count);
  lua_setfield(L, -2, "n");
}

static int committed(lua_State *L, rm_lua_task *task, int status) {
  if (status < 0) return rm_lua_fail(L, &task->err);
  push_replies(L, ((const command_out *)rm_lua_out(task))->reply);
  return 1;
}

/* exec(tx): the list of replies, or nil, message, code, detail */
static int exec(lua_State *L) {
  transaction *t = check(L, 1);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, committed);
  task->drop = drop_reply;
  redmoon_reply **out = &((command_out *)rm_lua_out(task))->reply;
  return rm_lua_task_run(L, task, redmoon_transaction_exec_start(t->tx, out, &task->op, &task->err));
}

/* again(tx): waits and begins the next attempt */
static int again(lua_State *L) {
  transaction *t = check(L, 1);
  lua_pushnil(L);
  lua_setiuservalue(L, 1, SLOT_CONDITIONAL);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_transaction_again_start(t->tx, &task->op, &task->err));
}

/* abandon(tx): gives the connection back */
static int abandon(lua_State *L) {
  transaction *t = check(L, 1);
  rm_lua_task *task = rm_lua_task_take(L, &t->link, rm_lua_task_done);
  return rm_lua_task_run(L, task, redmoon_transaction_abandon_start(t->tx, &task->op, &task->err));
}

/* __close and __gc: without I/O, a connection that still watches is closed. */
static int transaction_end(lua_State *L) {
  transaction *t = lua_touserdata(L, 1);
  redmoon_transaction *tx = t->tx;
  t->tx = NULL;
  rm_lua_forget(&t->link.shared->transaction, t);
  redmoon_transaction_free(tx);
  rm_lua_link_drop(L, &t->link);
  return 0;
}

static int transaction_tostring(lua_State *L) {
  const transaction *t = luaL_checkudata(L, 1, TRANSACTION_TYPE);
  lua_pushfstring(L, TRANSACTION_TYPE " (%s)",
                  t->tx == NULL                           ? "ended"
                  : redmoon_transaction_is_queuing(t->tx) ? "queuing"
                                                          : "watching");
  return 1;
}

void rm_lua_transaction_open(lua_State *L, rm_lua_shared *shared) {
  static const luaL_Reg meta[] = {
      {"__gc", transaction_end}, {"__close", transaction_end}, {"__tostring", transaction_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"call", transaction_call}, {"multi", transaction_multi}, {"run", transaction_run}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"begin", begin}, {"exec", exec}, {"again", again}, {"abandon", abandon}, {NULL, NULL}};
  rm_lua_new_type(L, TRANSACTION_TYPE, meta, methods);
  shared->transaction.meta = lua_topointer(L, -2);
  rm_lua_command_methods(L, transaction_command, &shared->transaction);
  lua_pop(L, 2);
  luaL_newlib(L, functions);
}
