/* SPDX-License-Identifier: MIT */
/* Questions to replies, and who owns them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "wire/reader.h"

#include <string.h>

static const redmoon_reply *read_one(const char *bytes, rm_arena *arena, redmoon_reply **out) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_reader *reader = rm_reader_new(&limits);
  size_t room;
  memcpy(rm_reader_space(reader, strlen(bytes), &room), bytes, strlen(bytes));
  rm_reader_added(reader, strlen(bytes));
  assert_int_equal(rm_reader_next(reader, arena, out, NULL), 1);
  rm_reader_free(reader); /* a reply does not need its reader */
  return *out;
}

static void questions_of_another_type_get_an_empty_answer(void **state) {
  (void)state;
  rm_arena arena = {0};
  redmoon_reply *reply;
  size_t len = 99;
  const redmoon_reply *list = read_one("*5\r\n:7\r\n$1\r\nx\r\n,2.5\r\n#t\r\n%1\r\n+k\r\n+v\r\n", &arena, &reply);
  const redmoon_reply *integer = redmoon_reply_at(list, 0), *text = redmoon_reply_at(list, 1);
  const redmoon_reply *number = redmoon_reply_at(list, 2), *yes = redmoon_reply_at(list, 3);
  const redmoon_reply *map = redmoon_reply_at(list, 4);
  assert_int_equal(redmoon_reply_integer(integer), 7);
  assert_int_equal(redmoon_reply_integer(yes), 1);
  assert_int_equal(redmoon_reply_integer(text), 0);
  assert_int_equal(redmoon_reply_integer(number), 0);
  assert_true(redmoon_reply_double(number) == 2.5);
  assert_true(redmoon_reply_double(integer) == 7);
  assert_true(redmoon_reply_double(yes) == 0);
  assert_null(redmoon_reply_string(integer, &len));
  assert_int_equal(len, 0);
  assert_string_equal(redmoon_reply_string(text, NULL), "x");
  assert_int_equal(redmoon_reply_count(list), 5);
  assert_int_equal(redmoon_reply_count(map), 1);
  assert_int_equal(redmoon_reply_count(text), 0);
  assert_null(redmoon_reply_at(list, 5));
  assert_null(redmoon_reply_at(map, 0));
  assert_null(redmoon_reply_at(text, 0));
  assert_string_equal(redmoon_reply_string(redmoon_reply_key(map, 0), NULL), "k");
  assert_string_equal(redmoon_reply_string(redmoon_reply_value(map, 0), NULL), "v");
  assert_null(redmoon_reply_key(map, 1));
  assert_null(redmoon_reply_value(map, SIZE_MAX / 2));
  assert_null(redmoon_reply_key(list, 0));
  rm_arena_fini(&arena);
}

static void no_reply_is_nil_to_every_question(void **state) {
  (void)state;
  size_t len = 99;
  assert_int_equal(redmoon_reply_type(NULL), REDMOON_NIL);
  assert_int_equal(redmoon_reply_integer(NULL), 0);
  assert_true(redmoon_reply_double(NULL) == 0);
  assert_null(redmoon_reply_string(NULL, &len));
  assert_int_equal(len, 0);
  assert_int_equal(redmoon_reply_count(NULL), 0);
  assert_null(redmoon_reply_at(NULL, 0));
  assert_null(redmoon_reply_key(NULL, 0));
  assert_null(redmoon_reply_value(NULL, 0));
  redmoon_reply_free(NULL);
}

static void a_detached_reply_takes_the_arena_along(void **state) {
  (void)state;
  rm_arena arena = {0};
  redmoon_reply *reply, *owned = NULL;
  read_one("*2\r\n$3\r\nabc\r\n:5\r\n", &arena, &reply);
  assert_int_equal(rm_reply_detach(reply, &arena, &owned), 0);
  assert_null(arena.blocks);
  rm_arena_fini(&arena);
  assert_string_equal(redmoon_reply_string(redmoon_reply_at(owned, 0), NULL), "abc");
  assert_int_equal(redmoon_reply_integer(redmoon_reply_at(owned, 1)), 5);
  redmoon_reply_free(owned);
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static void a_detach_without_memory_changes_nothing(void **state) {
  (void)state;
  rm_arena arena = {0};
  redmoon_reply *reply, *owned = NULL;
  read_one("$3\r\nabc\r\n", &arena, &reply);
  rm_alloc_set_refuse(refuse_all, NULL);
  int rc = rm_reply_detach(reply, &arena, &owned);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(rc, REDMOON_ENOMEM);
  assert_null(owned);
  assert_non_null(arena.blocks);
  assert_string_equal(redmoon_reply_string(reply, NULL), "abc");
  rm_arena_fini(&arena);
}

static void an_error_is_known_by_its_whole_first_word(void **state) {
  (void)state;
  static const struct {
    const char *bytes, *code;
    int is;
  } cases[] = {{"-NOSCRIPT No matching script\r\n", "NOSCRIPT", 1},
               {"-NOSCRIPT\r\n", "NOSCRIPT", 1},
               {"-NOSCRIPTS x\r\n", "NOSCRIPT", 0},
               {"-NOSC\r\n", "NOSCRIPT", 0},
               {"+NOSCRIPT x\r\n", "NOSCRIPT", 0},
               {"!9\r\nMOVED 1 x\r\n", "MOVED", 1}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    rm_arena arena = {0};
    redmoon_reply *reply;
    read_one(cases[i].bytes, &arena, &reply);
    assert_int_equal(rm_reply_is_error(reply, cases[i].code), cases[i].is);
    rm_arena_fini(&arena);
  }
  assert_int_equal(rm_reply_is_error(NULL, "ERR"), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(questions_of_another_type_get_an_empty_answer),
      cmocka_unit_test(no_reply_is_nil_to_every_question),
      cmocka_unit_test(a_detached_reply_takes_the_arena_along),
      cmocka_unit_test(a_detach_without_memory_changes_nothing),
      cmocka_unit_test(an_error_is_known_by_its_whole_first_word),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
