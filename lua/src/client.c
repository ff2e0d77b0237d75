/* SPDX-License-Identifier: MIT */
/* The client: connect, commands as methods, views, close. */
#include "binding.h"

#include "base/error.h"
#include "engine/core.h"

#include <string.h>

#define CLIENT_TYPE "redmoon.client"

int rm_lua_fail_closed(lua_State *L) { return rm_lua_fail_text(L, REDMOON_ECLOSED, "the client is closed"); }

rm_lua_client *rm_lua_client_check(lua_State *L, int index) { return luaL_checkudata(L, index, CLIENT_TYPE); }

rm_lua_client *rm_lua_client_new(lua_State *L) {
  rm_lua_client *client = lua_newuserdatauv(L, sizeof *client, RM_LUA_CLIENT_SLOTS);
  memset(client, 0, sizeof *client);
  client->default_ttl_ms = -1;
  client->link.shared = rm_lua_shared_get(L);
  luaL_setmetatable(L, CLIENT_TYPE);
  return client;
}

/* Commands. */

/* Sends the command whose arguments are the stack's values first..last, all checked. */
static int run_command(lua_State *L, rm_lua_client *client, const rm_command *command, rm_lua_name name, int first,
                       bool conditional) {
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  int last = lua_gettop(L);
  rm_lua_op *op = rm_lua_op_take(L, &client->link);
  rm_lua_put_command(L, name, first, last, &op->call.request);
  return rm_lua_op_run(L, op, rm_call_end(&op->call, command, 0, &op->call.op.error), conditional);
}

/* client:<name>(...). Upvalues: method, name. */
static int client_command(lua_State *L) {
  const rm_lua_method *method = lua_touserdata(L, lua_upvalueindex(1));
  rm_lua_client *client = rm_lua_receiver(L, method);
  bool conditional = false;
  if (method->rewrite != RM_LUA_AS_WRITTEN) rm_lua_rewrite(L, method, client->default_ttl_ms, &conditional);
  rm_lua_check_args(L, 2, lua_gettop(L));
  return run_command(L, client, rm_lua_method_command(L, method),
                     (rm_lua_name){method->wire, method->wire_len, true}, 2, conditional);
}

/* client:call(name, ...) */
static int client_call(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  const char *name;
  size_t len;
  const rm_command *command = rm_lua_call_command(L, &name, &len);
  return run_command(L, client, command, (rm_lua_name){name, len, false}, 3, false);
}

/* Life. */

/* Shares what the other handle was given besides the client: hooks stay its own. [-0, +0] */
static void inherit(lua_State *L, int from, int to) {
  lua_getiuservalue(L, from, RM_LUA_SLOT_SERVER);
  lua_setiuservalue(L, to, RM_LUA_SLOT_SERVER);
}

/* client:with{...} */
static int client_with(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  rm_lua_read_call_options(L, 2, &options);
  if (client->link.client == NULL) return rm_lua_fail_closed(L);
  rm_lua_client *view = rm_lua_client_new(L);
  inherit(L, 1, lua_gettop(L));
  redmoon_error err;
  if (redmoon_client_with(client->link.client, &options, &view->link.client, &err) < 0) return rm_lua_fail(L, &err);
  view->default_ttl_ms = client->default_ttl_ms;
  view->link.credentials = client->link.credentials;
  view->link.loop = client->link.loop;
  if (view->link.credentials != NULL) rm_lua_credentials_ref(view->link.credentials);
  if (view->link.loop != NULL) rm_lua_loop_ref(view->link.loop);
  return 1;
}

/* close(), __gc and __close. */
static int client_close(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (client->link.client != NULL) {
    rm_lua_hooks_close(L, 1);
    if (lua_getiuservalue(L, 1, RM_LUA_SLOT_OP) == LUA_TUSERDATA) {
      rm_lua_op *op = lua_touserdata(L, -1);
      if (!op->busy) rm_lua_op_close(L, op); /* else a call is under way further out: the GC ends it */
    }
  }
  if (client->link.loop != NULL) rm_lua_loop_rest(L, client->link.loop);
  rm_lua_link_drop(L, &client->link);
  lua_pushboolean(L, 1);
  return 1;
}

static int client_gc(lua_State *L) {
  rm_lua_client *client = lua_touserdata(L, 1);
  rm_lua_forget(&client->link.shared->client, client);
  rm_lua_link_drop(L, &client->link); /* op and hooks are collected on their own */
  return 0;
}

static int client_tostring(lua_State *L) {
  rm_lua_client *client = rm_lua_client_check(L, 1);
  if (client->link.client == NULL) lua_pushliteral(L, CLIENT_TYPE " (closed)");
  else lua_pushfstring(L, CLIENT_TYPE " (%s)", redmoon_client_url(client->link.client));
  return 1;
}

/* Whether the keeper will dial; what is wrong with URL or options is said later. */
static bool dials_by_itself(const char *url, const redmoon_options *options) {
  rm_config *config;
  if (rm_config_new(url, options, &config, NULL) < 0) return false;
  bool dials = config->min_idle > 0 || config->topology != RM_STANDALONE; /* it finds out the nodes, too */
  rm_config_free(config);
  return dials;
}

/* The option `loop`: a name stands for the module redmoon.loops.<name>. NULL: calls block. [-0, +0] */
static rm_lua_loop *read_loop(lua_State *L, int index) {
  static const char *const loops[] = {"blocking", "cqueues", "luv", "copas"};
  if (!lua_istable(L, index)) return NULL;
  rm_lua_loop *loop = NULL;
  int type = lua_getfield(L, index, "loop");
  if (type == LUA_TSTRING) {
    size_t place = rm_lua_check_name(L, -1, loops, sizeof loops / sizeof loops[0], "loop");
    if (place > 0) {
      lua_getglobal(L, "require");
      lua_pushfstring(L, "redmoon.loops.%s", loops[place]);
      lua_call(L, 1, 1);
      loop = rm_lua_loop_new(L, -1);
      lua_pop(L, 1);
    }
  } else if (type == LUA_TTABLE) {
    loop = rm_lua_loop_new(L, -1);
  } else if (type != LUA_TNIL) {
    rm_lua_raise(L, "option 'loop': a %s is not accepted; it takes \"blocking\", \"cqueues\", \"luv\", \"copas\" or a table of functions",
                 lua_typename(L, type));
  }
  lua_pop(L, 1);
  return loop;
}

int rm_lua_connect(lua_State *L, int url_index, int options_index) {
  const char *url = url_index == 0 ? NULL : luaL_optstring(L, url_index, NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  int64_t default_ttl_ms;
  rm_lua_read_client_options(L, options_index, &options,
                             &default_ttl_ms); /* [+1]: the credentials function, or nil */
  int function = lua_gettop(L);
  rm_lua_client *client = rm_lua_client_new(L);
  client->link.loop = read_loop(L, options_index);
  if (!lua_isnil(L, function)) {
    client->link.credentials = rm_lua_credentials_new(L, function);
    options.credentials = rm_lua_credentials_ask;
    options.credentials_ctx = client->link.credentials;
    options.credentials_drop = rm_lua_credentials_drop;
    int primed = dials_by_itself(url, &options) ? rm_lua_credentials_prime(L, client->link.credentials) : 0;
    if (primed == REDMOON_ENOMEM) return rm_lua_fail_text(L, primed, "not enough memory");
    if (primed < 0)
      return rm_lua_fail_text(L, REDMOON_ECONFIG, "option 'credentials': the function gave no user and password");
  }
  redmoon_error err;
  if (client->link.credentials != NULL) rm_lua_credentials_share(client->link.credentials);
  if (redmoon_client_open(url, &options, &client->link.client, &err) < 0) {
    if (client->link.credentials != NULL) rm_lua_credentials_drop(client->link.credentials);
    rm_lua_link_drop(L, &client->link);
    return rm_lua_fail(L, &err);
  }
  client->default_ttl_ms =
      default_ttl_ms != REDMOON_UNSET ? default_ttl_ms : client->link.client->core->config->default_ttl_ms;
  return 1;
}

/* The face for C hosts. */

void redmoon_lua_push_client(lua_State *L, redmoon_client *client) {
  luaL_checkstack(L, 4, NULL);
  rm_lua_client *box = rm_lua_client_new(L);
  box->default_ttl_ms = client->core->config->default_ttl_ms;
  box->link.client = redmoon_client_ref(client);
}

redmoon_client *redmoon_lua_check_client(lua_State *L, int index) {
  rm_lua_client *client = rm_lua_client_check(L, index);
  luaL_argcheck(L, client->link.client != NULL, index, "the client is closed");
  return client->link.client;
}

void rm_lua_client_open(lua_State *L, rm_lua_shared *shared) {
  static const luaL_Reg meta[] = {
      {"__gc", client_gc}, {"__close", client_close}, {"__tostring", client_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"audit", rm_lua_client_audit},
                                     {"audit_fix", rm_lua_client_audit_fix},
                                     {"audit_undo", rm_lua_client_audit_undo},
                                     {"blocklist", rm_lua_client_blocklist},
                                     {"cache", rm_lua_client_cache},
                                     {"call", client_call},
                                     {"close", client_close},
                                     {"counter", rm_lua_client_counter},
                                     {"fence_guard", rm_lua_client_fence_guard},
                                     {"hscan", rm_lua_client_hscan},
                                     {"list_queue", rm_lua_client_list_queue},
                                     {"lock", rm_lua_client_lock},
                                     {"metrics", rm_lua_client_metrics},
                                     {"nodes", rm_lua_client_nodes},
                                     {"on", rm_lua_client_on},
                                     {"pipeline", rm_lua_client_pipeline},
                                     {"queue", rm_lua_client_queue},
                                     {"rate_limiter", rm_lua_client_rate_limiter},
                                     {"records", rm_lua_client_records},
                                     {"run", rm_lua_client_run},
                                     {"rwlock", rm_lua_client_rwlock},
                                     {"scan", rm_lua_client_scan},
                                     {"sessions", rm_lua_client_sessions},
                                     {"semaphore", rm_lua_client_semaphore},
                                     {"sscan", rm_lua_client_sscan},
                                     {"stats", rm_lua_client_stats},
                                     {"stream_queue", rm_lua_client_stream_queue},
                                     {"subscribe", rm_lua_client_subscribe},
                                     {"topic", rm_lua_client_topic},
                                     {"with", client_with},
                                     {"zscan", rm_lua_client_zscan},
                                     {NULL, NULL}};
  rm_lua_new_type(L, CLIENT_TYPE, meta, methods);
  shared->client.meta = lua_topointer(L, -2);
  rm_lua_command_methods(L, client_command, &shared->client);
  lua_pop(L, 2);
}
