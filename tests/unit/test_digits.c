/* SPDX-License-Identifier: MIT */
/* Decimal digits: as printf and strtoll would have them, and nothing but whole 64-bit integers is read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/digits.h"

#include <inttypes.h>
#include <stdio.h>

static void assert_written(int64_t value) {
  char wanted[32], got[RM_DIGITS_MAX + 1];
  snprintf(wanted, sizeof wanted, "%" PRId64, value);
  got[rm_int64_put(got, value)] = '\0';
  assert_string_equal(got, wanted);
  int64_t back = ~value;
  assert_true(rm_int64_read(got, strlen(got), &back));
  assert_int_equal(back, value);
  snprintf(wanted, sizeof wanted, "%" PRIu64, (uint64_t)value);
  got[rm_uint64_put(got, (uint64_t)value)] = '\0';
  assert_string_equal(got, wanted);
}

static void integers_are_written_as_printf_writes_them_and_read_back(void **state) {
  (void)state;
  for (int64_t value = -1100; value <= 1100; value++) assert_written(value);
  for (int shift = 0; shift < 64; shift++)
    for (int64_t near = -2; near <= 2; near++) assert_written((int64_t)((UINT64_C(1) << shift) + (uint64_t)near));
  for (int64_t power = 1; power <= INT64_MAX / 10; power *= 10)
    for (int64_t near = -1; near <= 1; near++) assert_written(-(power + near));
  assert_written(INT64_MAX);
  assert_written(INT64_MIN);
}

static void nothing_else_is_read(void **state) {
  (void)state;
  static const char *const refused[] = {"", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "--1", "12a", "9223372036854775808",
                                        "-9223372036854775809", "99999999999999999999", "100000000000000000000"};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    int64_t value = 7;
    if (rm_int64_read(refused[i], strlen(refused[i]), &value)) fail_msg("'%s' was read as %" PRId64, refused[i], value);
    assert_int_equal(value, 7);
  }
  int64_t value = 7;
  assert_false(rm_int64_read("1\0", 2, &value));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers_are_written_as_printf_writes_them_and_read_back),
      cmocka_unit_test(nothing_else_is_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
