/* SPDX-License-Identifier: MIT */
/* Tables of options, checked against tables of rm_option: what is unknown, of the wrong type or out of range
 * raises, with the option's name, what it takes, and the nearest known name. */
#include "binding.h"

#include <math.h>
#include <string.h>

enum { NAMES_MAX = 64 };

/* Raises: no option of that name. */
static int unknown(lua_State *L, const char *name, size_t len, const char *const *names, size_t count) {
  const char *nearest = rm_nearest(name, len, names, count);
  if (nearest != NULL) return rm_lua_raise(L, "unknown option '%s' (did you mean '%s'?)", name, nearest);
  luaL_Buffer list;
  luaL_buffinit(L, &list);
  for (size_t i = 0; i < count; i++) {
    if (i > 0) luaL_addstring(&list, ", ");
    luaL_addstring(&list, names[i]);
  }
  luaL_pushresult(&list);
  return rm_lua_raise(L, "unknown option '%s' (known are: %s)", name, lua_tostring(L, -1));
}

static int refuse_type(lua_State *L, int index, const rm_option *option) {
  return rm_lua_raise(L, "option '%s': a %s is not accepted; it takes %s", option->name, luaL_typename(L, index),
                      option->accepts);
}

static int refuse_value(lua_State *L, int index, const rm_option *option) {
  const char *shown = lua_isnumber(L, index) ? luaL_tolstring(L, index, NULL) : "this value";
  return rm_lua_raise(L, "option '%s': %s is not accepted; it takes %s", option->name, shown, option->accepts);
}

int64_t rm_lua_duration_ms(lua_State *L, int index, const rm_option *option) {
  if (lua_type(L, index) != LUA_TNUMBER) refuse_type(L, index, option);
  double ms = ceil(lua_tonumber(L, index) * 1000.0 - 1e-6); /* 0.07 s is 70 ms, whatever its binary form */
  if (!(ms >= (double)option->min && ms <= (double)option->max)) refuse_value(L, index, option);
  return (int64_t)ms;
}

int64_t rm_lua_receive_timeout_ms(lua_State *L, int index) {
  static const rm_option timeout = {"timeout", RM_OPTION_DURATION, 0, 0, INT64_C(1) << 40, 0, "seconds, 0 or more"};
  if (lua_isnoneornil(L, index) || (lua_type(L, index) == LUA_TNUMBER && lua_tonumber(L, index) == HUGE_VAL)) return -1;
  return rm_lua_duration_ms(L, index, &timeout);
}

static int64_t read_integer(lua_State *L, int index, const rm_option *option) {
  int is_integer;
  if (lua_type(L, index) != LUA_TNUMBER) refuse_type(L, index, option);
  lua_Integer value = lua_tointegerx(L, index, &is_integer);
  if (!is_integer || value < option->min || value > option->max) refuse_value(L, index, option);
  return (int64_t)value;
}

static const char *read_text(lua_State *L, int index, const rm_option *option) {
  if (lua_type(L, index) != LUA_TSTRING) refuse_type(L, index, option);
  size_t len;
  const char *text = lua_tolstring(L, index, &len);
  if (memchr(text, '\0', len) != NULL) rm_lua_raise(L, "option '%s': a NUL byte is not accepted", option->name);
  return text;
}

/* The value on top goes into its field. [-0, +0] */
static void read_value(lua_State *L, const rm_option *option, void *out) {
  char *field = (char *)out + option->offset;
  int64_t number;
  switch ((int)option->kind) {
  case RM_OPTION_TEXT:
  case RM_OPTION_SECRET: {
    const char *text = read_text(L, -1, option);
    memcpy(field, &text, sizeof text);
    return;
  }
  case RM_OPTION_INTEGER:
    number = read_integer(L, -1, option);
    break;
  case RM_OPTION_DURATION:
    number = rm_lua_duration_ms(L, -1, option);
    break;
  case RM_OPTION_BOOL:
    if (lua_type(L, -1) != LUA_TBOOLEAN) refuse_type(L, -1, option);
    number = lua_toboolean(L, -1);
    break;
  case (int)RM_LUA_OPTION_REFUSED:
    rm_lua_raise(L, "option '%s' %s", option->name, option->accepts);
    return;
  default:
    return;
  }
  memcpy(field, &number, sizeof number);
}

/* What is behind a NUL byte counts, too. */
static bool is_name(const char *known, const char *name, size_t len) {
  return strlen(known) == len && memcmp(known, name, len) == 0;
}

void rm_lua_read_options(lua_State *L, int index, const rm_option *table, size_t count, void *out) {
  if (lua_isnoneornil(L, index)) return;
  luaL_checktype(L, index, LUA_TTABLE);
  index = lua_absindex(L, index);
  luaL_checkstack(L, 6, NULL);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      rm_lua_raise(L, "options are given by name; got a key of type %s", luaL_typename(L, -2));
    size_t len;
    const char *name = lua_tolstring(L, -2, &len);
    size_t i = 0;
    while (i < count && !is_name(table[i].name, name, len)) i++;
    if (i == count) {
      const char *names[NAMES_MAX];
      size_t known = count < NAMES_MAX ? count : NAMES_MAX;
      for (size_t k = 0; k < known; k++) names[k] = table[k].name;
      unknown(L, name, len, names, known);
    }
    read_value(L, &table[i], out);
    lua_pop(L, 1);
  }
}

size_t rm_lua_check_name(lua_State *L, int index, const char *const *names, size_t count, const char *what) {
  size_t len;
  const char *name = luaL_checklstring(L, index, &len);
  for (size_t i = 0; i < count; i++)
    if (is_name(names[i], name, len)) return i;
  const char *nearest = rm_nearest(name, len, names, count);
  if (nearest != NULL) rm_lua_raise(L, "unknown %s '%s' (did you mean '%s'?)", what, name, nearest);
  luaL_Buffer list;
  luaL_buffinit(L, &list);
  for (size_t i = 0; i < count; i++) {
    if (i > 0) luaL_addstring(&list, ", ");
    luaL_addstring(&list, names[i]);
  }
  luaL_pushresult(&list);
  return (size_t)rm_lua_raise(L, "unknown %s '%s' (known are: %s)", what, name, lua_tostring(L, -1));
}

/* Options of redmoon.connect. */

static bool is_tls(const rm_option *option) { return strncmp(option->name, "tls_", 4) == 0; }

/* The core's table without (tls: only, the prefix cut off) its tls_ options. Returns the count. */
static size_t split_table(rm_option *out, size_t cap, bool tls) {
  size_t count, n = 0;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count && n < cap; i++) {
    if (is_tls(&table[i]) != tls) continue;
    out[n] = table[i];
    if (tls) out[n].name += 4;
    n++;
  }
  return n;
}

/* false: -1, "for ever"; a number is read by the table like all others. [-0, +0] */
static void read_default_ttl(lua_State *L, int index, const rm_option *option, int64_t *out) {
  lua_getfield(L, index, "default_ttl");
  if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) *out = -1;
  else if (!lua_isnil(L, -1)) *out = rm_lua_duration_ms(L, -1, option);
  lua_pop(L, 1);
}

void rm_lua_read_client_options(lua_State *L, int index, redmoon_options *out, int64_t *default_ttl_ms) {
  *default_ttl_ms = REDMOON_UNSET;
  if (lua_isnoneornil(L, index)) {
    lua_pushnil(L);
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  rm_option table[NAMES_MAX], tls[NAMES_MAX];
  size_t count = split_table(table, NAMES_MAX - 3, false), tls_count = split_table(tls, NAMES_MAX, true);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(table[i].name, "default_ttl") != 0) continue;
    read_default_ttl(L, index, &table[i], default_ttl_ms);
    table[i].kind = RM_LUA_OPTION_OTHER;
  }
  static const char *const others[] = {"tls", "credentials", "loop"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
    table[count++] = (rm_option){others[i], RM_LUA_OPTION_OTHER, 0, 0, 0, 0, ""};
  rm_lua_read_options(L, index, table, count, out);
  if (lua_getfield(L, index, "tls") != LUA_TNIL) {
    if (!lua_istable(L, -1))
      rm_lua_raise(L, "option 'tls': a table of options expected, got %s", luaL_typename(L, -1));
    rm_lua_read_options(L, -1, tls, tls_count, out);
  }
  lua_pop(L, 1);
  int type = lua_getfield(L, index, "credentials");
  if (type != LUA_TNIL && type != LUA_TFUNCTION)
    rm_lua_raise(L, "option 'credentials': a function that returns user and password expected, got %s",
                 lua_typename(L, type));
}

/* Options of client:with. */

typedef struct call_option {
  const char *name;
  size_t offset;
} call_option;

void rm_lua_read_call_options(lua_State *L, int index, redmoon_call_options *out) {
  static const call_option fields[] = {
      {"timeout", offsetof(redmoon_call_options, timeout_ms)},
      {"pool_timeout", offsetof(redmoon_call_options, pool_timeout_ms)},
      {"read_timeout", offsetof(redmoon_call_options, read_timeout_ms)},
      {"write_timeout", offsetof(redmoon_call_options, write_timeout_ms)},
      {"max_retries", offsetof(redmoon_call_options, max_retries)},
      {"min_backoff", offsetof(redmoon_call_options, min_backoff_ms)},
      {"max_backoff", offsetof(redmoon_call_options, max_backoff_ms)},
  };
  enum { FIELDS = sizeof fields / sizeof fields[0] };
  rm_option table[FIELDS + 1];
  size_t count = 0;
  for (size_t i = 0; i < FIELDS; i++) {
    const char *nearest;
    const rm_option *option = rm_option_find(fields[i].name, strlen(fields[i].name), &nearest);
    if (option == NULL) continue;
    table[count] = *option;
    table[count++].offset = fields[i].offset;
  }
  table[count++] = (rm_option){"idempotent",   RM_OPTION_BOOL, offsetof(redmoon_call_options, idempotent), 0, 1, 0,
                               "true or false"};
  luaL_checktype(L, index, LUA_TTABLE);
  rm_lua_read_options(L, index, table, count, out);
}
