/* SPDX-License-Identifier: MIT */
/* Where the keys of commands are, and how commands are spread. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/command_keys.h"

#include <stdio.h>
#include <string.h>

enum { WORDS_MAX = 24 };

/* The keys of a command given as text, joined by commas. */
static const char *keys(const char *text) {
  static char copy[256], joined[256];
  redmoon_bytes args[WORDS_MAX];
  size_t argc = 0;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *rest = copy, *word; (word = strtok_r(rest, " ", &rest)) != NULL;) args[argc++] = (redmoon_bytes){word, strlen(word)};
  const rm_command *command = rm_command_find(args[0].ptr, args[0].len, argc > 1 ? args[1].ptr : NULL, argc > 1 ? args[1].len : 0);
  rm_key_span span = rm_command_keys(command, args, argc);
  joined[0] = '\0';
  if (span.extra != 0) strcat(joined, args[span.extra].ptr);
  for (size_t i = 0; i < span.count; i++) {
    assert_true(span.first + i * span.step < argc);
    if (joined[0] != '\0') strcat(joined, ",");
    strcat(joined, args[span.first + i * span.step].ptr);
  }
  return joined;
}

static void keys_stand_where_the_table_says(void **state) {
  (void)state;
  assert_string_equal(keys("GET a"), "a");
  assert_string_equal(keys("MGET a b c"), "a,b,c");
  assert_string_equal(keys("MSET a 1 b 2"), "a,b");
  assert_string_equal(keys("MSETNX a 1 b 2"), "a,b");
  assert_string_equal(keys("BLPOP a b 0"), "a,b");
  assert_string_equal(keys("SMOVE a b member"), "a,b");
  assert_string_equal(keys("BITOP AND dest a b"), "dest,a,b");
  assert_string_equal(keys("OBJECT ENCODING a"), "a");
  assert_string_equal(keys("XINFO STREAM a"), "a");
  assert_string_equal(keys("SORT a BY w_* GET o_*"), "a");
  assert_string_equal(keys("SPUBLISH channel payload"), "channel");
}

static void keys_are_counted_by_an_argument(void **state) {
  (void)state;
  assert_string_equal(keys("EVAL script 2 a b x y"), "a,b");
  assert_string_equal(keys("EVALSHA sha 0 x"), "");
  assert_string_equal(keys("FCALL_RO f 1 a x"), "a");
  assert_string_equal(keys("ZUNION 2 a b WITHSCORES"), "a,b");
  assert_string_equal(keys("ZUNIONSTORE dest 2 a b"), "dest,a,b");
  assert_string_equal(keys("SINTERCARD 2 a b LIMIT 1"), "a,b");
  assert_string_equal(keys("BLMPOP 1 2 a b LEFT"), "a,b");
  assert_string_equal(keys("LMPOP 1 a LEFT"), "a");
}

static void keys_stand_behind_a_word(void **state) {
  (void)state;
  assert_string_equal(keys("XREAD COUNT 2 STREAMS a b 0 0"), "a,b");
  assert_string_equal(keys("xread block 0 streams a $"), "a");
  assert_string_equal(keys("XREADGROUP GROUP streams me STREAMS a >"), "a");
  assert_string_equal(keys("MIGRATE host 1 a 0 100"), "a");
}

static void commands_without_keys_have_none(void **state) {
  (void)state;
  assert_string_equal(keys("PING"), "");
  assert_string_equal(keys("PUBLISH channel payload"), "");
  assert_string_equal(keys("CONFIG GET save"), "");
  assert_string_equal(keys("NOSUCHCOMMAND a b"), "");
}

static void what_is_cut_short_is_never_read_beyond(void **state) {
  (void)state;
  assert_string_equal(keys("GET"), "");
  assert_string_equal(keys("MSET a 1 b"), "a,b");
  assert_string_equal(keys("EVAL script"), "");
  assert_string_equal(keys("EVAL script 9 a b"), "a,b");
  assert_string_equal(keys("EVAL script x a b"), "");
  assert_string_equal(keys("EVAL script 99999999999999999999 a"), "");
  assert_string_equal(keys("ZUNIONSTORE dest"), "dest");
  assert_string_equal(keys("XREAD STREAMS"), "");
  assert_string_equal(keys("XREAD STREAMS a"), "a");
  assert_string_equal(keys("BLPOP 0"), "0");
  assert_string_equal(keys("OBJECT ENCODING"), "");
}

static rm_spread spread(const char *name, const char *sub) {
  return rm_command_spread(rm_command_find(name, strlen(name), sub, sub != NULL ? strlen(sub) : 0));
}

/* Both tables are searched by halves. */
static void every_command_that_is_spread_is_found(void **state) {
  (void)state;
  static const char *const keyed[] = {"DEL", "EXISTS", "MGET", "MSET", "TOUCH", "UNLINK"};
  for (size_t i = 0; i < sizeof keyed / sizeof keyed[0]; i++) assert_int_equal(spread(keyed[i], NULL).to, RM_SPREAD_KEYS);
  static const char *const primaries[] = {"DBSIZE", "FLUSHALL", "FLUSHDB", "KEYS", "RANDOMKEY", "WAIT"};
  for (size_t i = 0; i < sizeof primaries / sizeof primaries[0]; i++)
    assert_int_equal(spread(primaries[i], NULL).to, RM_SPREAD_PRIMARIES);
  static const char *const nodes[][2] = {{"ACL", "DELUSER"}, {"ACL", "LOAD"},      {"ACL", "SAVE"},      {"ACL", "SETUSER"},
                                         {"CONFIG", "SET"},  {"CONFIG", "REWRITE"}, {"CONFIG", "RESETSTAT"}, {"LATENCY", "RESET"},
                                         {"MEMORY", "PURGE"}, {"SCRIPT", "FLUSH"},  {"SCRIPT", "LOAD"},   {"SLOWLOG", "LEN"},
                                         {"SLOWLOG", "RESET"}};
  for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) assert_int_equal(spread(nodes[i][0], nodes[i][1]).to, RM_SPREAD_NODES);
  static const char *const functions[] = {"DELETE", "FLUSH", "KILL", "LOAD", "RESTORE"};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
    assert_int_equal(spread("FUNCTION", functions[i]).to, RM_SPREAD_PRIMARIES);
  assert_int_equal(spread("SCRIPT", "EXISTS").merge, RM_MERGE_AND);
  assert_int_equal(spread("SCRIPT", "KILL").merge, RM_MERGE_ANY);
  assert_int_equal(spread("SCAN", NULL).to, RM_SPREAD_REFUSED);
  assert_int_equal(spread("GET", NULL).to, RM_SPREAD_NONE);
  assert_int_equal(spread("PING", NULL).to, RM_SPREAD_NONE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_stand_where_the_table_says),
      cmocka_unit_test(keys_are_counted_by_an_argument),
      cmocka_unit_test(keys_stand_behind_a_word),
      cmocka_unit_test(commands_without_keys_have_none),
      cmocka_unit_test(what_is_cut_short_is_never_read_beyond),
      cmocka_unit_test(every_command_that_is_spread_is_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
