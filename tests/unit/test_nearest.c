/* SPDX-License-Identifier: MIT */
/* "Did you mean": which name is offered, and when none is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "wire/config.h"

#include <string.h>

static const char *const names[] = {"pool_size", "pool_timeout", "timeout", "database", "min_idle", "max_idle"};

static const char *near(const char *name) {
  return rm_nearest(name, strlen(name), names, sizeof names / sizeof names[0]);
}

static void a_missing_an_extra_and_a_wrong_letter_are_forgiven(void **state) {
  (void)state;
  assert_string_equal(near("poolsize"), "pool_size");
  assert_string_equal(near("pool_sizes"), "pool_size");
  assert_string_equal(near("pool-size"), "pool_size");
  assert_string_equal(near("databse"), "database");
}

static void swapped_neighbours_count_as_one_slip(void **state) {
  (void)state;
  const char *const three[] = {"get"}, *const two[] = {"ab"};
  /* as replacements these would be two slips, which is too far for names this short */
  assert_string_equal(rm_nearest("gte", 3, three, 1), "get");
  assert_string_equal(rm_nearest("ba", 2, two, 1), "ab");
  assert_null(rm_nearest("gxx", 3, three, 1));
}

static void upper_and_lower_case_are_the_same(void **state) {
  (void)state;
  assert_string_equal(near("PoolSize"), "pool_size");
  assert_string_equal(near("TIMEOUT"), "timeout");
}

static void the_closest_wins_and_the_first_of_equals(void **state) {
  (void)state;
  assert_string_equal(near("timeouts"), "timeout");
  assert_string_equal(near("max_idel"), "max_idle");
  assert_string_equal(near("mix_idle"), "min_idle");
}

static void what_is_far_from_all_gets_no_hint(void **state) {
  (void)state;
  assert_null(near("db"));
  assert_null(near("zzzzzzzzz"));
  assert_null(near(""));
  assert_null(near("x"));
  assert_null(rm_nearest("timeout", 7, names, 0));
}

static void very_long_names_are_refused_without_work(void **state) {
  (void)state;
  char longest[66];
  memset(longest, 'a', sizeof longest);
  longest[65] = '\0';
  const char *const known[] = {longest};
  assert_null(rm_nearest(longest, 65, names, sizeof names / sizeof names[0]));
  assert_null(rm_nearest(longest, 64, known, 1));
  const char *const fits[] = {longest + 1};
  char other[64];
  memset(other, 'a', sizeof other);
  other[0] = 'b';
  assert_string_equal(rm_nearest(other, 64, fits, 1), longest + 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_missing_an_extra_and_a_wrong_letter_are_forgiven),
      cmocka_unit_test(swapped_neighbours_count_as_one_slip),
      cmocka_unit_test(upper_and_lower_case_are_the_same),
      cmocka_unit_test(the_closest_wins_and_the_first_of_equals),
      cmocka_unit_test(what_is_far_from_all_gets_no_hint),
      cmocka_unit_test(very_long_names_are_refused_without_work),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
