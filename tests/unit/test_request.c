/* SPDX-License-Identifier: MIT */
/* Requests: exact bytes, numbers as text, refused memory takes back only the unfinished command. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "wire/request.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <redmoon/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void assert_bytes(const rm_request *request, const char *wanted, size_t len) {
  assert_int_equal(rm_buffer_len(&request->bytes), len);
  assert_memory_equal(rm_buffer_begin(&request->bytes), wanted, len);
}

static void a_command_is_an_array_of_bulk_strings(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  rm_request_begin(&r, 4);
  rm_request_text(&r, "SET");
  rm_request_arg(&r, "a\r\n\0b", 5);
  rm_request_arg(&r, NULL, 0);
  rm_request_integer(&r, -12);
  assert_int_equal(rm_request_end(&r, 7, 9), 0);
  static const char wanted[] = "*4\r\n$3\r\nSET\r\n$5\r\na\r\n\0b\r\n$0\r\n\r\n$3\r\n-12\r\n";
  assert_bytes(&r, wanted, sizeof wanted - 1);
  assert_int_equal(r.count, 1);
  assert_int_equal(r.marks[0].end, sizeof wanted - 1);
  assert_int_equal(r.marks[0].flags, 7);
  assert_int_equal(r.marks[0].tag, 9);
  assert_ptr_equal(r.marks, &r.one); /* one command costs no list */
  rm_request_fini(&r);
}

static void arguments_given_as_an_array_may_have_lengths_or_end_with_nul(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  const char *argv[] = {"GET", "a\0b"};
  size_t lens[] = {3, 3};
  assert_int_equal(rm_request_argv(&r, 2, argv, lens, 0, 0), 0);
  assert_int_equal(rm_request_argv(&r, 2, argv, NULL, 0, 0), 0);
  assert_bytes(&r, "*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n", 42);
  rm_request_fini(&r);
}

static void every_command_of_many_has_its_mark(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  size_t end = 0;
  for (uint32_t i = 0; i < 1000; i++) {
    rm_request_begin(&r, 1);
    rm_request_integer(&r, i);
    assert_int_equal(rm_request_end(&r, i, i * 2), 0);
  }
  assert_int_equal(r.count, 1000);
  for (uint32_t i = 0; i < 1000; i++) {
    char wanted[32];
    end += (size_t)snprintf(wanted, sizeof wanted, "*1\r\n$%d\r\n%u\r\n", i < 10 ? 1 : i < 100 ? 2 : 3, i);
    assert_int_equal(r.marks[i].end, end);
    assert_int_equal(r.marks[i].flags, i);
    assert_int_equal(r.marks[i].tag, i * 2);
  }
  rm_request_fini(&r);
}

static void integers_are_written_in_full_range(void **state) {
  (void)state;
  static const struct {
    int64_t value;
    const char *bytes;
  } cases[] = {{0, "$1\r\n0\r\n"},
               {9, "$1\r\n9\r\n"},
               {10, "$2\r\n10\r\n"},
               {-1, "$2\r\n-1\r\n"},
               {100, "$3\r\n100\r\n"},
               {12345, "$5\r\n12345\r\n"},
               {INT64_MAX, "$19\r\n9223372036854775807\r\n"},
               {INT64_MIN, "$20\r\n-9223372036854775808\r\n"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    rm_request r;
    rm_request_init(&r);
    rm_request_integer(&r, cases[i].value);
    assert_bytes(&r, cases[i].bytes, strlen(cases[i].bytes));
    rm_request_fini(&r);
  }
}

static void lengths_of_any_number_of_digits_are_right(void **state) {
  (void)state;
  char *block = calloc(1, 1000001);
  for (size_t len = 1; len <= 1000001; len = len * 10 - (len % 10 == 0 ? 1 : 0) + (len % 9 == 0 ? 1 : 0)) {
    rm_request r;
    rm_request_init(&r);
    rm_request_arg(&r, block, len);
    char wanted[32];
    int head = snprintf(wanted, sizeof wanted, "$%zu\r\n", len);
    assert_int_equal(rm_buffer_len(&r.bytes), (size_t)head + len + 2);
    assert_memory_equal(rm_buffer_begin(&r.bytes), wanted, (size_t)head);
    rm_request_fini(&r);
  }
  free(block);
}

static const struct {
  double value;
  const char *text;
} doubles[] = {{0.0, "0"},
               {-0.0, "-0"},
               {1.0, "1"},
               {-3.0, "-3"},
               {0.1, "0.1"},
               {-2.5, "-2.5"},
               {1.0 / 3, "0.3333333333333333"},
               {0.1 + 0.2, "0.30000000000000004"},
               {1e15, "1000000000000000"},
               {9007199254740993.0, "9007199254740992"},
               {9223372036854774784.0, "9223372036854774784"},
               {-9223372036854774784.0, "-9223372036854774784"},
               {9223372036854775808.0, "9.223372036854776e+18"},
               {1e19, "1e+19"},
               {1e300, "1e+300"},
               {5e-324, "5e-324"},
               {DBL_MAX, "1.7976931348623157e+308"},
               {DBL_MIN, "2.2250738585072014e-308"},
               {INFINITY, "inf"},
               {-INFINITY, "-inf"},
               {NAN, "nan"}};

static void doubles_are_short_and_read_back_the_same(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++) {
    char text[32];
    memset(text, '#', sizeof text);
    assert_int_equal(rm_format_double(text, doubles[i].value), strlen(doubles[i].text));
    assert_string_equal(text, doubles[i].text);
  }
}

static void any_double_reads_back_the_same(void **state) {
  (void)state;
  const char *given = getenv("SEED");
  uint64_t random = given != NULL ? strtoull(given, NULL, 10) : 20261122;
  print_message("SEED=%llu\n", (unsigned long long)random);
  for (int i = 0; i < 200000; i++) {
    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t bits = random ^ (random >> 29);
    double value;
    memcpy(&value, &bits, sizeof value);
    if (isnan(value)) continue;
    char text[32];
    size_t len = rm_format_double(text, value);
    assert_int_equal(len, strlen(text));
    assert_true(len < 32);
    assert_true(strtod(text, NULL) == value);
  }
}

static void doubles_do_not_follow_the_locale(void **state) {
  (void)state;
  char dir[] = "/tmp/redmoon-locale-XXXXXX", command[256], probe[16], text[32] = "";
  assert_non_null(mkdtemp(dir));
  snprintf(command, sizeof command, "localedef --no-archive -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
  int built = system(command);
  setenv("LOCPATH", dir, 1);
  const char *set = setlocale(LC_ALL, "de_DE.UTF-8");
  snprintf(probe, sizeof probe, "%.1f", 0.5);
  size_t len = rm_format_double(text, -1.5e-7);
  setlocale(LC_ALL, "C");
  unsetenv("LOCPATH");
  snprintf(command, sizeof command, "rm -r %s", dir);
  assert_int_equal(system(command), 0);
  if (built != 0 || set == NULL) fail_msg("needs localedef and the locale de_DE (Debian: package locales)");
  assert_string_equal(probe, "0,5");
  assert_string_equal(text, "-1.5e-07");
  assert_int_equal(len, 8);
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static void refused_memory_takes_back_only_the_unfinished_command(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  char block[4096] = {0};
  const char *get[] = {"GET", "k"};
  assert_int_equal(rm_request_argv(&r, 2, get, NULL, 0, 0), 0);
  rm_request_begin(&r, 2);
  rm_request_text(&r, "ECHO");
  rm_alloc_set_refuse(refuse_all, NULL);
  rm_request_arg(&r, block, sizeof block);
  assert_int_equal(r.status, REDMOON_ENOMEM);
  rm_request_text(&r, "no effect");
  assert_int_equal(rm_request_end(&r, 0, 0), REDMOON_ENOMEM);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(r.count, 1);
  assert_int_equal(rm_request_argv(&r, 2, get, NULL, 0, 0), 0);
  assert_bytes(&r, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 40);
  assert_int_equal(r.marks[1].end, 40);
  rm_request_fini(&r);
}

static void a_mark_that_gets_no_memory_takes_its_command_back(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  const char *ping[] = {"PING"};
  assert_int_equal(rm_request_argv(&r, 1, ping, NULL, 0, 0), 0);
  rm_alloc_set_refuse(refuse_all, NULL);
  assert_int_equal(rm_request_argv(&r, 1, ping, NULL, 0, 0), REDMOON_ENOMEM); /* the list of marks */
  rm_alloc_set_refuse(NULL, NULL);
  assert_bytes(&r, "*1\r\n$4\r\nPING\r\n", 14);
  assert_int_equal(r.count, 1);
  rm_request_fini(&r);
}

static void an_impossible_length_is_refused(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  rm_request_begin(&r, 1);
  rm_request_arg(&r, "x", SIZE_MAX - 10);
  assert_int_equal(rm_request_end(&r, 0, 0), REDMOON_ENOMEM);
  assert_int_equal(rm_buffer_len(&r.bytes), 0);
  rm_request_fini(&r);
}

static void a_reset_keeps_only_so_much_memory(void **state) {
  (void)state;
  rm_request r;
  rm_request_init(&r);
  const char *ping[] = {"PING"};
  for (int i = 0; i < 500; i++) assert_int_equal(rm_request_argv(&r, 1, ping, NULL, 0, 0), 0);
  rm_request_reset(&r, 1 << 20);
  assert_int_equal(r.count, 0);
  assert_int_equal(rm_buffer_len(&r.bytes), 0);
  assert_true(r.cap >= 500 && r.bytes.cap >= 7000);
  rm_request_reset(&r, 600);
  assert_ptr_equal(r.marks, &r.one);
  assert_int_equal(r.bytes.cap, 0);
  assert_int_equal(rm_request_argv(&r, 1, ping, NULL, 0, 0), 0);
  rm_request_fini(&r);
}

static int unhook(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, unhook)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_command_is_an_array_of_bulk_strings),
      TEST(arguments_given_as_an_array_may_have_lengths_or_end_with_nul),
      TEST(every_command_of_many_has_its_mark),
      TEST(integers_are_written_in_full_range),
      TEST(lengths_of_any_number_of_digits_are_right),
      TEST(doubles_are_short_and_read_back_the_same),
      TEST(any_double_reads_back_the_same),
      TEST(doubles_do_not_follow_the_locale),
      TEST(refused_memory_takes_back_only_the_unfinished_command),
      TEST(a_mark_that_gets_no_memory_takes_its_command_back),
      TEST(an_impossible_length_is_refused),
      TEST(a_reset_keeps_only_so_much_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
