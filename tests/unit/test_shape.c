/* SPDX-License-Identifier: MIT */
/* RESP2 replies in RESP3's shape: which commands, and what happens to replies that do not look as expected. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/reply_fixtures.h"
#include "wire/line.h"
#include "wire/reader.h"
#include "wire/shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned shape_of(const char *line) {
  char text[256];
  rm_shape_arg args[32];
  size_t count = 0;
  snprintf(text, sizeof text, "%s", line);
  char *name = text, *at = strchr(text, ' ');
  while (at != NULL) {
    *at++ = '\0';
    args[count].ptr = at;
    at = strchr(at, ' ');
    args[count].len = at != NULL ? (size_t)(at - args[count].ptr) : strlen(args[count].ptr);
    count++;
  }
  return rm_shape_of(name, strlen(name), args, count);
}

typedef struct shape_case {
  const char *command, *bytes, *text;
} shape_case;

static const shape_case cases[] = {
    {"HGETALL h", "*4\r\n+a\r\n:1\r\n+b\r\n:2\r\n", "{+a:1 +b:2}"},
    {"hgetall h", "*0\r\n", "{}"},
    {"HGETALL h", "*3\r\n+a\r\n:1\r\n+b\r\n", "[+a 1 +b]"},
    {"HGETALL h", "$1\r\nx\r\n", "\"x\""},
    {"HGETALL h", "-ERR x\r\n", "-ERR x"},
    {"HGETALL h", "*-1\r\n", "nil"},
    {"HGETALL h", "%1\r\n+a\r\n:1\r\n", "{+a:1}"},
    {"ZSCORE z a", "$3\r\n1.5\r\n", ",1.5"},
    {"ZSCORE z a", "$3\r\ninf\r\n", ",inf"},
    {"ZSCORE z a", "$4\r\n-inf\r\n", ",-inf"},
    {"ZSCORE z a", "$22\r\n1.7976931348623157e308\r\n", ",1.7976931348623157e+308"},
    {"ZSCORE z a", "$5\r\n1e999\r\n", "\"1e999\""},
    {"ZSCORE z a", "$3\r\n1,5\r\n", "\"1,5\""},
    {"ZSCORE z a", "$0\r\n\r\n", "\"\""},
    {"ZSCORE z a", "$-1\r\n", "nil"},
    {"ZSCORE z a", ":1\r\n", "1"},
    {"ZADD z 1 a", "$1\r\n1\r\n", "\"1\""},
    {"ZADD z INCR 1 a", "$1\r\n1\r\n", ",1"},
    {"zadd z xx ch incr 1 a", "$1\r\n1\r\n", ",1"},
    {"ZADD z 1 INCR", "$1\r\n1\r\n", "\"1\""},
    {"ZRANGE z 0 -1", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" \"1\"]"},
    {"ZRANGE z 0 -1 REV WITHSCORES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[[\"a\" ,1]]"},
    {"ZRANGE WITHSCORES 0 -1", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" \"1\"]"},
    {"ZRANGE z 0 -1 WITHSCORES", "*0\r\n", "[]"},
    {"ZRANGE z 0 -1 WITHSCORES", "*1\r\n$1\r\na\r\n", "[\"a\"]"},
    {"ZRANGE z 0 -1 WITHSCORES", "*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*0\r\n", "[[\"a\" \"1\"] []]"},
    {"ZUNION 2 a b WITHSCORES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[[\"a\" ,1]]"},
    {"ZUNION 2 a WITHSCORES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" \"1\"]"},
    {"ZUNION x WITHSCORES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" \"1\"]"},
    {"ZUNION 99999999999999999999 WITHSCORES", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" \"1\"]"},
    {"ZUNION", "*0\r\n", "[]"},
    {"ZPOPMIN z", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[\"a\" ,1]"},
    {"ZPOPMIN z", "*0\r\n", "[]"},
    {"ZPOPMIN z 1", "*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[[\"a\" ,1]]"},
    {"ZPOPMAX z 1", "*0\r\n", "[]"},
    {"BZPOPMAX z 0", "*3\r\n+z\r\n$1\r\n7\r\n$1\r\n1\r\n", "[+z \"7\" ,1]"},
    {"ZMPOP 1 z MIN", "*2\r\n+z\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n", "[+z [[\"a\" ,1]]]"},
    {"ZRANK z a WITHSCORE", "*2\r\n:0\r\n$1\r\n1\r\n", "[0 ,1]"},
    {"ZRANK z a", ":0\r\n", "0"},
    {"GEOPOS g a b", "*2\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n*-1\r\n", "[[,1 ,2] nil]"},
    {"GEOSEARCH g FROMMEMBER WITHCOORD BYRADIUS 1 m", "*2\r\n$1\r\n7\r\n$1\r\n8\r\n", "[\"7\" \"8\"]"},
    {"GEOSEARCH g FROMMEMBER a BYRADIUS 1 m WITHCOORD", "*1\r\n*2\r\n$1\r\n7\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n",
     "[[\"7\" [,1 ,2]]]"},
    {"SMEMBERS s", "*2\r\n+a\r\n+b\r\n", "~[+a +b]"},
    {"SPOP s", "$1\r\na\r\n", "\"a\""},
    {"SPOP s 1", "*1\r\n$1\r\na\r\n", "~[\"a\"]"},
    {"SRANDMEMBER s 1", "*1\r\n$1\r\na\r\n", "[\"a\"]"},
    {"XREAD STREAMS x 0", "*1\r\n*2\r\n$1\r\nx\r\n*0\r\n", "{\"x\":[]}"},
    {"XREAD STREAMS x 0", "*0\r\n", "{}"},
    {"XREAD STREAMS x 0", "*2\r\n*2\r\n$1\r\nx\r\n*0\r\n:1\r\n", "[[\"x\" []] 1]"},
    {"XREAD STREAMS x 0", "*-1\r\n", "nil"},
    {"CONFIG GET x", "*2\r\n+a\r\n+b\r\n", "{+a:+b}"},
    {"CONFIG get x", "*2\r\n+a\r\n+b\r\n", "{+a:+b}"},
    {"CONFIG REWRITE", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
    {"CONFIG", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
    {"COMMAND LIST", "*3\r\n+a\r\n:1\r\n*1\r\n+x\r\n", "[+a 1 [+x]]"},
    {"COMMAND", "*1\r\n*3\r\n+a\r\n:1\r\n*1\r\n+x\r\n", "[[+a 1 ~[+x]]]"},
    {"INFO", "$1\r\nx\r\n", "=\"x\""},
    {"LCS a b IDX", "*4\r\n+matches\r\n*0\r\n+len\r\n:0\r\n", "{+matches:[] +len:0}"},
    {"LCS a IDX", "$1\r\na\r\n", "\"a\""},
    {"MODULE LIST", "*1\r\n*2\r\n+name\r\n+x\r\n", "[{+name:+x}]"},
    {"SENTINEL MASTERS", "*1\r\n*2\r\n+name\r\n+x\r\n", "[{+name:+x}]"},
    {"CLUSTER LINKS", "*1\r\n*2\r\n+direction\r\n+to\r\n", "[{+direction:+to}]"},
    {"GET k", "$1\r\na\r\n", "\"a\""},
    {"NOSUCHCOMMAND", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
    {"HGETALLX", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
    {"HGETAL", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
    {"", "*2\r\n+a\r\n+b\r\n", "[+a +b]"},
};

static redmoon_reply *read_one(const char *bytes, rm_arena *arena) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  redmoon_reply *reply = NULL;
  size_t room;
  memcpy(rm_reader_space(reader, strlen(bytes), &room), bytes, strlen(bytes));
  rm_reader_added(reader, strlen(bytes));
  assert_int_equal(rm_reader_next(reader, arena, &reply, NULL), 1);
  rm_reader_free(reader);
  return reply;
}

static void a_reply_gets_the_shape_of_its_command_or_stays_as_it_is(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    rm_arena arena = {0};
    char text[512];
    redmoon_reply *reply = read_one(cases[i].bytes, &arena);
    assert_int_equal(rm_shape_apply(shape_of(cases[i].command), reply, &arena), 0);
    reply_text(reply, text, sizeof text);
    if (strcmp(text, cases[i].text) != 0) fail_msg("%s: %s, not %s", cases[i].command, text, cases[i].text);
    rm_arena_fini(&arena);
  }
}

static void every_shape_leaves_every_fixture_a_valid_reply(void **state) {
  (void)state;
  for (size_t i = 0; i < reply_fixture_count; i++) {
    for (unsigned shape = 0; shape < 100; shape++) {
      rm_limits limits = RM_LIMITS_DEFAULT;
      rm_reader *reader = rm_reader_new(&limits);
      rm_arena arena = {0};
      redmoon_reply *reply;
      char text[1024];
      size_t room;
      memcpy(rm_reader_space(reader, reply_fixtures[i].len, &room), reply_fixtures[i].bytes, reply_fixtures[i].len);
      rm_reader_added(reader, reply_fixtures[i].len);
      assert_int_equal(rm_reader_next(reader, &arena, &reply, NULL), 1);
      assert_int_equal(rm_shape_apply(shape, reply, &arena), 0);
      assert_true(strlen(reply_text(reply, text, sizeof text)) > 0);
      rm_arena_fini(&arena);
      rm_reader_free(reader);
    }
  }
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static void without_memory_a_shape_is_nomem(void **state) {
  (void)state;
  static const char *const commands[] = {"ZRANGE z 0 -1 WITHSCORES", "XREAD STREAMS x 0"};
  for (size_t i = 0; i < 2; i++) {
    rm_arena arena = {0};
    char bytes[64 * 64], text[64 * 64], after[64 * 64];
    size_t used = (size_t)sprintf(bytes, "*64\r\n"); /* more than what is left in the arena's block */
    for (int k = 0; k < 64; k++) used += (size_t)sprintf(bytes + used, i == 0 ? "+1\r\n" : "*2\r\n:1\r\n:2\r\n");
    redmoon_reply *reply = read_one(bytes, &arena);
    reply_text(reply, text, sizeof text);
    rm_alloc_set_refuse(refuse_all, NULL);
    int rc = rm_shape_apply(shape_of(commands[i]), reply, &arena);
    rm_alloc_set_refuse(NULL, NULL);
    assert_int_equal(rc, REDMOON_ENOMEM);
    assert_string_equal(reply_text(reply, after, sizeof after), text);
    rm_arena_fini(&arena);
  }
}

static void doubles_in_texts_are_read_as_strtod_reads_them(void **state) {
  (void)state;
  const char *given = getenv("SEED");
  uint64_t random = given != NULL ? strtoull(given, NULL, 10) : 20261122;
  print_message("SEED=%llu\n", (unsigned long long)random);
  for (int i = 0; i < 100000; i++) {
    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    char text[64];
    double value, whole = (double)(int64_t)(random >> 20) / 1000.0;
    snprintf(text, sizeof text, i % 3 == 0 ? "%.17g" : i % 3 == 1 ? "%.3f" : "%.0f", i % 2 == 0 ? whole : -whole);
    assert_true(rm_line_double(text, strlen(text), &value));
    assert_true(value == strtod(text, NULL));
    assert_int_equal(signbit(value) != 0, signbit(strtod(text, NULL)) != 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_reply_gets_the_shape_of_its_command_or_stays_as_it_is),
      cmocka_unit_test(every_shape_leaves_every_fixture_a_valid_reply),
      cmocka_unit_test(without_memory_a_shape_is_nomem),
      cmocka_unit_test(doubles_in_texts_are_read_as_strtod_reads_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
