/* SPDX-License-Identifier: MIT */
/* Slots of keys: the specification's own examples; server/test_cluster asks a server about many more. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "route/slots.h"

#include <string.h>

static uint16_t slot(const char *key) { return rm_slot_of(key, strlen(key)); }

static void crc16_is_that_of_the_specification(void **state) {
  (void)state;
  assert_int_equal(slot("123456789"), 0x31c3 % RM_SLOTS); /* the check value of CRC-16/XMODEM */
  assert_int_equal(slot(""), 0);
  assert_int_equal(slot("foo"), 12182);
}

static void the_first_tag_that_holds_something_counts(void **state) {
  (void)state;
  assert_int_equal(slot("{user1000}.following"), slot("user1000"));
  assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
  assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
  assert_int_not_equal(slot("foo{}{bar}"), slot("bar"));
  assert_int_not_equal(slot("foo{bar"), slot("bar"));
  assert_int_not_equal(slot("foo}bar{"), slot("bar"));
}

static void bytes_of_any_value_are_hashed(void **state) {
  (void)state;
  assert_int_not_equal(rm_slot_of("a\0b", 3), rm_slot_of("a\0c", 3));
  assert_int_equal(rm_slot_of("x{\0}y", 5), rm_slot_of("\0", 1));
  assert_int_not_equal(rm_slot_of("\xff", 1), rm_slot_of("\x7f", 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(crc16_is_that_of_the_specification),
      cmocka_unit_test(the_first_tag_that_holds_something_counts),
      cmocka_unit_test(bytes_of_any_value_are_hashed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
