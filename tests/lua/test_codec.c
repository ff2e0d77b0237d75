/* SPDX-License-Identifier: MIT */
/* The option `codec`: what it accepts, and how values go through it.  A userdata stands for a pattern's object. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../lua/src/codec.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 1 };

/* make(options) -> object */
static int make(lua_State *L) {
  lua_settop(L, 1);
  rm_lua_codec codec = rm_lua_codec_check(L, 1, RM_LUA_CODEC_JSON);
  assert_int_equal(lua_gettop(L), 2);
  rm_lua_codec *object = lua_newuserdatauv(L, sizeof *object, 1);
  *object = codec;
  lua_insert(L, 2);
  lua_setiuservalue(L, 2, SLOT);
  return 1;
}

/* encode(object, value) -> string | nil, message, code, detail; what stands beneath stays as it was */
static int encode(lua_State *L) {
  lua_settop(L, 2);
  redmoon_error err;
  int status = rm_lua_codec_encode(L, *(rm_lua_codec *)lua_touserdata(L, 1), 1, SLOT, 2, &err);
  assert_int_equal(lua_gettop(L), status < 0 ? 2 : 3);
  return status < 0 ? rm_lua_fail(L, &err) : 1;
}

/* decode(object, string) -> value | nil, message, code, detail */
static int decode(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  redmoon_error err;
  int status = rm_lua_codec_decode(L, *(rm_lua_codec *)lua_touserdata(L, 1), 1, SLOT, text, len, &err);
  assert_int_equal(lua_gettop(L), status < 0 ? 2 : 3);
  return status < 0 ? rm_lua_fail(L, &err) : 1;
}

static int start(void **state) {
  lua_State *L = luaL_newstate();
  *state = L;
  luaL_openlibs(L);
  luaL_requiref(L, "redmoon", luaopen_redmoon, 1);
  lua_register(L, "make", make);
  lua_register(L, "encode", encode);
  lua_register(L, "decode", decode);
  return 0;
}

static int stop(void **state) {
  lua_close(*state);
  return 0;
}

static void run(void **state, const char *text) {
  lua_State *L = *state;
  if (luaL_dostring(L, text)) fail_msg("%s", lua_tostring(L, -1));
}

static void options_that_are_no_codec_are_refused(void **state) {
  run(state,
      "local bad = {'jsn', 'json\\0', '', 1, true, print, {}, {encode = print}, {decode = print},\n"
      "  {encode = print, decode = 1}, {encode = print, decode = print, more = 1}, {print, print}}\n"
      "for i, codec in ipairs(bad) do\n"
      "  local done, message = pcall(make, {codec = codec})\n"
      "  assert(not done and message:find('option .codec.: .* is not accepted; it takes \"string\"'), message)\n"
      "end\n"
      "assert(select(2, pcall(make, {codec = 'jsn'})):find(\"'jsn'\"))\n"
      "for _, codec in ipairs{'string', 'json', {encode = print, decode = print}} do make{codec = codec} end\n"
      "assert(encode(make(), 'a') == '\"a\"' and encode(make{}, 'a') == '\"a\"')");
}

static void strings_go_through_as_they_are(void **state) {
  run(state, "local o = make{codec = 'string'}\n"
             "for _, s in ipairs{'', 'a\\0b\\255', ('x'):rep(100000)} do\n"
             "  assert(encode(o, s) == s and decode(o, s) == s)\n"
             "end\n"
             "for _, v in ipairs{1, 1.5, true, {}, print} do\n"
             "  local s, message, code, detail = encode(o, v)\n"
             "  assert(s == nil and code == 'CODEC' and detail.outcome == 'not_sent', message)\n"
             "end\n"
             "assert(select(3, encode(o, nil)) == 'CODEC')");
}

static void json_keeps_values_and_refuses_the_rest(void **state) {
  run(state, "local o = make{codec = 'json'}\n"
             "local v = decode(o, encode(o, {a = {1, 2.0, redmoon.null}}))\n"
             "assert(v.a[1] == 1 and math.type(v.a[2]) == 'float' and v.a[3] == redmoon.null)\n"
             "local s, message, code = encode(o, 'secret\\255')\n"
             "assert(s == nil and code == 'CODEC' and not message:find('secret'))\n"
             "s, message, code = decode(o, '{\"secret\":')\n"
             "assert(s == nil and code == 'CODEC' and not message:find('secret'))\n"
             "assert(decode(o, 'false') == false and decode(o, 'null') == redmoon.null)");
}

static void functions_of_the_user_encode_and_decode(void **state) {
  run(state,
      "local t = {encode = function(v) return 'n' .. v end, decode = function(s) return tonumber(s:sub(2)) end}\n"
      "local o = make{codec = t}\n"
      "t.encode, t.decode = nil, nil\n"
      "collectgarbage()\n"
      "assert(encode(o, 5) == 'n5' and decode(o, 'n5') == 5)\n"
      "assert(select(3, decode(o, 'nx')) == 'CODEC')\n"
      "o = make{codec = {encode = function(...) assert(select('#', ...) == 1) return 'x', 'y' end,\n"
      "  decode = function(...) assert(select('#', ...) == 1) return false end}}\n"
      "assert(encode(o, nil) == 'x' and decode(o, '') == false)");
}

static void a_function_that_fails_is_a_result_and_tells_no_payload(void **state) {
  run(state, "local faults = {function(v) error('secret ' .. v) end, function(v) error({v}) end, function() end,\n"
             "  function(v) return nil, v end, function() coroutine.yield() end, function() return nil + 1 end,\n"
             "  function(v) return setmetatable({}, {__tostring = error}) .. v end}\n"
             "for _, fault in ipairs(faults) do\n"
             "  local o = make{codec = {encode = fault, decode = fault}}\n"
             "  for _, call in ipairs{encode, decode} do\n"
             "    local value, message, code, detail = call(o, 'secret')\n"
             "    assert(value == nil and code == 'CODEC' and detail.outcome == 'not_sent')\n"
             "    assert(not message:find('secret'), message)\n"
             "  end\n"
             "end\n"
             "for _, no_string in ipairs{1, 1.5, true, {}} do\n"
             "  local o = make{codec = {encode = function() return no_string end, decode = print}}\n"
             "  assert(select(3, encode(o, 1)) == 'CODEC')\n"
             "end");
}

/* Grants `left` requests for memory, then none. */
typedef struct gate {
  long left;
  bool refused;
} gate;

static void *gated(void *ctx, void *ptr, size_t old_size, size_t size) {
  gate *g = ctx;
  (void)old_size;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  if (g->left == 0) {
    g->refused = true;
    if (ptr == NULL || size > old_size) return NULL;
  } else if (g->left > 0) {
    g->left--;
  }
  return realloc(ptr, size);
}

/* Without memory both say NOMEM, and neither raises: the state has no protected call around them. */
static void without_memory_nothing_is_raised(void **state) {
  (void)state;
  const char *text = "[\"a string that is longer than forty characters, so that it is a long one\",{\"a\":[1.5]}]";
  bool refused = true;
  for (long n = 0; refused; n++) {
    gate g = {-1, false};
    lua_State *L = lua_newstate(gated, &g);
    luaL_requiref(L, "redmoon", luaopen_redmoon_core, 0);
    lua_settop(L, 0);
    lua_pushnil(L);
    luaL_checkstack(L, 20, NULL);
    lua_gc(L, LUA_GCSTOP);
    redmoon_error err = {0};
    g.left = n;
    int status = rm_lua_codec_decode(L, RM_LUA_CODEC_JSON, 1, SLOT, text, strlen(text), &err);
    if (status == 0) status = rm_lua_codec_encode(L, RM_LUA_CODEC_JSON, 1, SLOT, -1, &err);
    if (status == 0) status = rm_lua_codec_decode(L, RM_LUA_CODEC_STRING, 1, SLOT, text, strlen(text), &err);
    refused = g.refused;
    g.left = -1;
    if (status < 0) {
      assert_int_equal(status, REDMOON_ENOMEM);
      assert_int_equal(err.status, REDMOON_ENOMEM);
      assert_true(refused);
    }
    lua_close(L);
    assert_true(n < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(options_that_are_no_codec_are_refused, start, stop),
      cmocka_unit_test_setup_teardown(strings_go_through_as_they_are, start, stop),
      cmocka_unit_test_setup_teardown(json_keeps_values_and_refuses_the_rest, start, stop),
      cmocka_unit_test_setup_teardown(functions_of_the_user_encode_and_decode, start, stop),
      cmocka_unit_test_setup_teardown(a_function_that_fails_is_a_result_and_tells_no_payload, start, stop),
      cmocka_unit_test(without_memory_nothing_is_raised),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
