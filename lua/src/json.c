/* SPDX-License-Identifier: MIT */
/* JSON.  Texts are parsed by jansson; writing is done here, straight from Lua values, because jansson has one
 * precision for all floats and would want a tree of its own first.
 *
 *   Lua                              JSON
 *   integer                          integer, 64 bits; others do not come in
 *   float                            number with a point or an exponent, the shortest that reads back the same
 *   string                           string, UTF-8
 *   redmoon.null                     null
 *   table with keys 1..n, n > 0      array
 *   table marked by json.array       array, also an empty one; decoded arrays are marked
 *   table with string keys, or none  object
 *
 * What can raise (for want of memory) runs protected, so that the C side is always given back. */
#include "json.h"

#include "base/buffer.h"
#include "base/digits.h"
#include "base/error.h"
#include "wire/request.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define ARRAY_TYPE "redmoon.json.array"
#define BOTH "a table with both the keys of an array and names"
enum { NUMBER_LEN = 40, LEVEL_SLOTS = 6 };

/* Writing. */

typedef struct writer {
  const rm_lua_json_limits *limits;
  const void *array_meta;
  rm_buffer *out;
  size_t before; /* bytes that were in it */
  int64_t depth;
  const char *why; /* what cannot be written */
  bool no_memory;
} writer;

static bool refuse(writer *w, const char *why) {
  w->why = why;
  return false;
}

static bool put(writer *w, const char *ptr, size_t len) {
  if (len > (size_t)w->limits->max_size - (rm_buffer_len(w->out) - w->before))
    return refuse(w, "more than max_size bytes of text");
  if (rm_buffer_append(w->out, ptr, len) == 0) return true;
  w->no_memory = true;
  return false;
}

/* Length of the UTF-8 sequence at `s`, which has `left` bytes; 0: none (Unicode 15, table 3-7). */
static size_t sequence_len(const unsigned char *s, size_t left) {
  unsigned char first = s[0], low = 0x80, high = 0xBF;
  size_t len;
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) len = 2;
  else if (first >= 0xE0 && first <= 0xEF) len = 3;
  else if (first >= 0xF0 && first <= 0xF4) len = 4;
  else return 0;
  if (left < len) return 0;
  if (first == 0xE0) low = 0xA0;  /* else there is a shorter form */
  if (first == 0xED) high = 0x9F; /* surrogates */
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F; /* U+10FFFF is the last */
  if (s[1] < low || s[1] > high) return 0;
  for (size_t i = 2; i < len; i++)
    if (s[i] < 0x80 || s[i] > 0xBF) return 0;
  return len;
}

static bool put_escaped(writer *w, unsigned char c) {
  static const char hex[] = "0123456789abcdef", from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
  const char *known = c != 0 ? strchr(from, c) : NULL;
  if (known != NULL) return put(w, (const char[]){'\\', to[known - from]}, 2);
  return put(w, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

static bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

/* How many bytes from `s` on are ASCII that goes out as it is. */
static size_t plain_len(const unsigned char *s, size_t len) {
  const uint64_t each = UINT64_C(0x0101010101010101), high = each * 0x80;
  size_t i = 0;
  for (; len - i >= sizeof each; i += sizeof each) { /* eight at a time */
    uint64_t word;
    memcpy(&word, s + i, sizeof word);
    uint64_t quote = word ^ (each * '"'), escape = word ^ (each * '\\');
    /* In `found` the high bit of the first byte that is below 0x20, 0 in one of these, or above 0x7F is set. */
    uint64_t found = ((word - each * 0x20) & ~word) | ((quote - each) & ~quote) | ((escape - each) & ~escape) | word;
    if ((found & high) != 0) break;
  }
  while (i < len && is_plain(s[i])) i++;
  return i;
}

static bool put_string(writer *w, const char *text, size_t len) {
  const unsigned char *s = (const unsigned char *)text;
  if (!put(w, "\"", 1)) return false;
  size_t plain = 0, i = plain_len(s, len); /* s[plain, i) goes out as it is */
  while (i < len) {
    if (s[i] < 0x20 || s[i] == '"' || s[i] == '\\') {
      if (!put(w, text + plain, i - plain) || !put_escaped(w, s[i])) return false;
      plain = ++i;
      continue;
    }
    size_t step = sequence_len(s + i, len - i);
    if (step == 0) return refuse(w, "a string that is not UTF-8 (bytes of any kind go through codec = \"string\")");
    i += step;
  }
  return put(w, text + plain, len - plain) && put(w, "\"", 1);
}

static bool put_float(writer *w, double value) {
  if (isnan(value) || isinf(value)) return refuse(w, "a float that is no number or infinite");
  char text[NUMBER_LEN];
  size_t len = rm_format_double(text, value);
  if (strpbrk(text, ".e") == NULL) { /* it shall come back as a float */
    memcpy(text + len, ".0", 3);
    len += 2;
  }
  return put(w, text, len);
}

static bool put_integer(writer *w, lua_Integer value) {
  char text[RM_DIGITS_MAX];
  return put(w, text, rm_int64_put(text, value));
}

static bool put_value(lua_State *L, writer *w);

/* The table on top is an array: exactly the keys 1..n. */
static bool put_array(lua_State *L, writer *w) {
  lua_Unsigned n = lua_rawlen(L, -1), count = 0;
  bool is_outside = false, is_other = false;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING) return refuse(w, BOTH);
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 1;
    is_other = is_other || !lua_isinteger(L, -2);
    is_outside = is_outside || key < 1 || (lua_Unsigned)key > n;
    count++;
  }
  if (is_other) return refuse(w, "an array with a key that is no integer");
  if (is_outside || count != n) return refuse(w, "an array with holes (its keys are not 1..n)");
  if (!put(w, "[", 1)) return false;
  for (lua_Unsigned i = 1; i <= n; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i);
    if ((i > 1 && !put(w, ",", 1)) || !put_value(L, w)) return false;
    lua_pop(L, 1);
  }
  return put(w, "]", 1);
}

/* Its first name and value are on top of it, if it has any. */
static bool put_object(lua_State *L, writer *w, bool more) {
  bool first = true;
  if (!put(w, "{", 1)) return false;
  for (; more; lua_pop(L, 1), more = lua_next(L, -2) != 0) {
    if (lua_isinteger(L, -2)) return refuse(w, BOTH);
    if (lua_type(L, -2) != LUA_TSTRING) return refuse(w, "an object with a key that is no string");
    size_t len;
    const char *name = lua_tolstring(L, -2, &len);
    if (memchr(name, '\0', len) != NULL) return refuse(w, "a name with a NUL byte");
    if ((!first && !put(w, ",", 1)) || !put_string(w, name, len) || !put(w, ":", 1) || !put_value(L, w))
      return false;
    first = false;
  }
  return put(w, "}", 1);
}

static bool is_marked(lua_State *L, const void *array_meta) {
  if (!lua_getmetatable(L, -1)) return false;
  bool marked = lua_topointer(L, -1) == array_meta;
  lua_pop(L, 1);
  return marked;
}

static bool put_table(lua_State *L, writer *w) {
  if (w->depth == w->limits->max_depth) return refuse(w, "more than max_depth levels (or a table within itself)");
  if (!lua_checkstack(L, LEVEL_SLOTS)) {
    w->no_memory = true;
    return false;
  }
  w->depth++;
  bool is_array = is_marked(L, w->array_meta), more = false, done;
  if (!is_array) {
    lua_pushnil(L);
    more = lua_next(L, -2) != 0;
    is_array = more && lua_type(L, -2) == LUA_TNUMBER;
    if (is_array) lua_pop(L, 2);
  }
  done = is_array ? put_array(L, w) : put_object(L, w, more);
  if (done) w->depth--; /* else it tells where */
  return done;
}

/* Of the value on top, which stays; when refused, more may stay with it. */
static bool put_value(lua_State *L, writer *w) {
  size_t len;
  const char *text;
  switch (lua_type(L, -1)) {
  case LUA_TSTRING:
    text = lua_tolstring(L, -1, &len);
    return put_string(w, text, len);
  case LUA_TNUMBER:
    return lua_isinteger(L, -1) ? put_integer(w, lua_tointeger(L, -1)) : put_float(w, lua_tonumber(L, -1));
  case LUA_TBOOLEAN:
    return lua_toboolean(L, -1) ? put(w, "true", 4) : put(w, "false", 5);
  case LUA_TTABLE:
    return put_table(L, w);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, -1) == NULL) return put(w, "null", 4);
    return refuse(w, "a userdata");
  case LUA_TNIL:
    return refuse(w, "nil (JSON's null is redmoon.null)");
  default:
    return refuse(w, lua_typename(L, lua_type(L, -1)));
  }
}

const void *rm_lua_json_marks(lua_State *L) {
  luaL_getmetatable(L, ARRAY_TYPE);
  const void *marks = lua_topointer(L, -1);
  lua_pop(L, 1);
  return marks;
}

static int fail_write(const writer *w, redmoon_error *err) {
  if (w->why == NULL) return rm_fail_nomem(err);
  return rm_fail(err, REDMOON_ECODEC, "this cannot be JSON, at depth %d: %s", (int)w->depth, w->why);
}

int rm_lua_json_append(lua_State *L, int index, const rm_lua_json_limits *limits, const void *marks, rm_buffer *out,
                       redmoon_error *err) {
  if (!lua_checkstack(L, 1)) return rm_fail_nomem(err);
  writer w = {.limits = limits, .array_meta = marks, .out = out, .before = rm_buffer_len(out)};
  int top = lua_gettop(L);
  lua_pushvalue(L, index);
  bool done = put_value(L, &w);
  lua_settop(L, top);
  return done ? 0 : fail_write(&w, err);
}

/* Writer, value -> string, or nothing. */
static int write_protected(lua_State *L) {
  writer *w = lua_touserdata(L, 1);
  w->array_meta = rm_lua_json_marks(L);
  if (!put_value(L, w)) return 0;
  lua_pushlstring(L, rm_buffer_begin(w->out), rm_buffer_len(w->out));
  return 1;
}

int rm_lua_json_encode(lua_State *L, int index, const rm_lua_json_limits *limits, redmoon_error *err) {
  if (!lua_checkstack(L, 4)) return rm_fail_nomem(err);
  rm_buffer out = {0};
  writer w = {.limits = limits, .out = &out};
  index = lua_absindex(L, index);
  lua_pushcfunction(L, write_protected);
  lua_pushlightuserdata(L, &w);
  lua_pushvalue(L, index);
  int status = lua_pcall(L, 2, 1, 0);
  rm_buffer_fini(&out);
  if (status == LUA_OK && w.why == NULL && !w.no_memory) return 0;
  lua_pop(L, 1);
  return fail_write(&w, err);
}

/* Reading. */

/* Whether arrays and objects are nested deeper; up to the first fault this sees what the parser sees. */
static bool is_too_deep(const char *text, size_t len, int64_t max_depth) {
  int64_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < len; i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return true;
    } else if (c == ']' || c == '}') {
      depth--;
    }
  }
  return false;
}

static int fail_syntax(redmoon_error *err, const json_error_t *fault) {
  const char *why = "a fault of syntax";
  switch (json_error_code(fault)) {
  case json_error_out_of_memory:
    return rm_fail_nomem(err);
  case json_error_invalid_utf8:
    why = "bytes that are not UTF-8";
    break;
  case json_error_premature_end_of_input:
    why = "it ends too early";
    break;
  case json_error_end_of_input_expected:
    why = "something stands behind the value";
    break;
  case json_error_duplicate_key:
    why = "a name that is there twice";
    break;
  case json_error_null_byte_in_key:
    why = "a name with a NUL byte";
    break;
  case json_error_numeric_overflow:
    why = "a number that 64 bits do not hold";
    break;
  default:
    break;
  }
  return rm_fail(err, REDMOON_ECODEC, "not accepted as JSON, at byte %d: %s", fault->position, why);
}

/* [-0, +1]; the metatable of arrays is at 2 */
static void push_json(lua_State *L, const json_t *json) {
  luaL_checkstack(L, LEVEL_SLOTS, NULL);
  switch (json_typeof(json)) {
  case JSON_OBJECT: {
    json_t *object = (json_t *)(uintptr_t)json; /* iteration takes no const one */
    const char *name;
    json_t *value;
    lua_createtable(L, 0, (int)json_object_size(json));
    json_object_foreach(object, name, value) {
      lua_pushstring(L, name); /* names have no NUL byte */
      push_json(L, value);
      lua_rawset(L, -3);
    }
    return;
  }
  case JSON_ARRAY:
    lua_createtable(L, (int)json_array_size(json), 0);
    for (size_t i = 0; i < json_array_size(json); i++) {
      push_json(L, json_array_get(json, i));
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushvalue(L, 2);
    lua_setmetatable(L, -2);
    return;
  case JSON_STRING:
    lua_pushlstring(L, json_string_value(json), json_string_length(json));
    return;
  case JSON_INTEGER:
    lua_pushinteger(L, (lua_Integer)json_integer_value(json));
    return;
  case JSON_REAL:
    lua_pushnumber(L, json_real_value(json));
    return;
  case JSON_TRUE:
  case JSON_FALSE:
    lua_pushboolean(L, json_is_true(json));
    return;
  default:
    rm_lua_push_null(L);
  }
}

/* json_t -> value */
static int push_protected(lua_State *L) {
  const json_t *json = lua_touserdata(L, 1);
  luaL_getmetatable(L, ARRAY_TYPE);
  push_json(L, json);
  return 1;
}

int rm_lua_json_decode(lua_State *L, const char *text, size_t len, const rm_lua_json_limits *limits,
                       redmoon_error *err) {
  if (len > (size_t)limits->max_size)
    return rm_fail(err, REDMOON_ECODEC, "not accepted as JSON: more than %lld bytes", (long long)limits->max_size);
  if (is_too_deep(text, len, limits->max_depth))
    return rm_fail(err, REDMOON_ECODEC, "not accepted as JSON: more than %d levels", (int)limits->max_depth);
  if (!lua_checkstack(L, 3)) return rm_fail_nomem(err);
  json_error_t fault;
  json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
  if (json == NULL) return fail_syntax(err, &fault);
  lua_pushcfunction(L, push_protected);
  lua_pushlightuserdata(L, json);
  int status = lua_pcall(L, 1, 1, 0);
  json_decref(json);
  if (status == LUA_OK) return 0;
  lua_pop(L, 1);
  return rm_fail_nomem(err);
}

/* redmoon.json */

enum { DEPTH_MOST = 1000 };
static const rm_option json_options[] = {
    {"max_depth", RM_OPTION_INTEGER, offsetof(rm_lua_json_limits, max_depth), 1, DEPTH_MOST, 0,
     "an integer from 1 to 1000"},
    {"max_size", RM_OPTION_INTEGER, offsetof(rm_lua_json_limits, max_size), 1, INT32_MAX, 0,
     "bytes from 1 to 2147483647"},
};

static rm_lua_json_limits check_limits(lua_State *L, int index) {
  rm_lua_json_limits limits = RM_LUA_JSON_LIMITS_INIT;
  rm_lua_read_options(L, index, json_options, sizeof json_options / sizeof json_options[0], &limits);
  return limits;
}

/* json.encode(value [, {max_depth=, max_size=}]) -> text */
static int json_encode(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  const rm_lua_json_limits limits = check_limits(L, 2);
  redmoon_error err;
  return rm_lua_json_encode(L, 1, &limits, &err) < 0 ? rm_lua_fail(L, &err) : 1;
}

/* json.decode(text [, {max_depth=, max_size=}]) -> value */
static int json_decode(lua_State *L) {
  size_t len;
  luaL_checktype(L, 1, LUA_TSTRING);
  const char *text = lua_tolstring(L, 1, &len);
  lua_settop(L, 2);
  const rm_lua_json_limits limits = check_limits(L, 2);
  redmoon_error err;
  return rm_lua_json_decode(L, text, len, &limits, &err) < 0 ? rm_lua_fail(L, &err) : 1;
}

/* json.array([t]) -> t, marked */
static int json_array_mark(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_getmetatable(L, ARRAY_TYPE);
  if (lua_getmetatable(L, 1) && !lua_rawequal(L, -1, 2)) luaL_argerror(L, 1, "the table has another metatable");
  lua_settop(L, 2);
  lua_setmetatable(L, 1);
  return 1;
}

/* json.is_array(value) -> whether it is marked */
static int json_is_array_marked(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  luaL_getmetatable(L, ARRAY_TYPE);
  lua_pushboolean(L, lua_istable(L, 1) && lua_getmetatable(L, 1) && lua_rawequal(L, -1, 2));
  return 1;
}

void rm_lua_json_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"array", json_array_mark},
                                       {"decode", json_decode},
                                       {"encode", json_encode},
                                       {"is_array", json_is_array_marked},
                                       {NULL, NULL}};
  luaL_newmetatable(L, ARRAY_TYPE);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
}
