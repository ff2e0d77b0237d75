/* SPDX-License-Identifier: MIT */
/* Random bytes drawn ahead: none is given out twice, none stays, and a forked child has none of its parent's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { DRAWS = 2000, HEX = 32 };

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void no_two_draws_are_alike(void **state) {
  (void)state;
  static char drawn[DRAWS][HEX + 1];
  rm_random_store store = {0};
  for (size_t i = 0; i < DRAWS; i++) {
    rm_random_store_hex(&store, drawn[i], HEX / 2);
    assert_int_equal(strspn(drawn[i], "0123456789abcdef"), HEX);
  }
  qsort(drawn, DRAWS, sizeof drawn[0], by_text);
  for (size_t i = 1; i < DRAWS; i++) assert_string_not_equal(drawn[i - 1], drawn[i]);
}

static void what_was_given_out_is_wiped(void **state) {
  (void)state;
  rm_random_store store = {0};
  char hex[HEX + 1];
  static const unsigned char zeros[sizeof store.bytes];
  rm_random_store_hex(&store, hex, HEX / 2);
  assert_int_equal(store.left, sizeof store.bytes - HEX / 2);
  assert_memory_equal(store.bytes + store.left, zeros, HEX / 2);
  assert_memory_not_equal(store.bytes, zeros, store.left);
}

static void a_child_has_none_of_its_parents(void **state) {
  (void)state;
  rm_random_store parent = {0}, child;
  char hex[HEX + 1], of_child[HEX + 1];
  rm_random_store_hex(&parent, hex, HEX / 2);
  memcpy(&child, &parent, sizeof child); /* what fork() does */
  atomic_store(&child.busy, true);       /* by a thread that is not in the child */
  rm_random_store_forked(&child);
  rm_random_store_hex(&child, of_child, HEX / 2);
  assert_int_equal(child.left, sizeof child.bytes - HEX / 2);
  rm_random_store_hex(&parent, hex, HEX / 2);
  assert_string_not_equal(hex, of_child);
}

static void a_draw_that_is_too_large_or_meets_another_still_gets_its_own(void **state) {
  (void)state;
  rm_random_store store = {0};
  char large[2 * sizeof store.bytes + 3], hex[HEX + 1] = "";
  rm_random_store_hex(&store, large, sizeof store.bytes + 1);
  assert_int_equal(strspn(large, "0123456789abcdef"), 2 * sizeof store.bytes + 2);
  atomic_store(&store.busy, true);
  rm_random_store_hex(&store, hex, HEX / 2);
  assert_int_equal(strspn(hex, "0123456789abcdef"), HEX);
  assert_int_equal(store.left, 0);
}

int main(void) {
  assert_int_equal(rm_random_init(), 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_two_draws_are_alike),
      cmocka_unit_test(what_was_given_out_is_wiped),
      cmocka_unit_test(a_child_has_none_of_its_parents),
      cmocka_unit_test(a_draw_that_is_too_large_or_meets_another_still_gets_its_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
