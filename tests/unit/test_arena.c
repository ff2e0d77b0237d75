/* SPDX-License-Identifier: MIT */
/* The arena: alignment, how many allocations it costs, what a reset keeps, refused memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/arena.h"

#include <redmoon/error.h>
#include <stdalign.h>
#include <string.h>

static size_t allocations, largest;

static bool count_all(void *ctx, size_t size) {
  (void)ctx;
  allocations++;
  if (size > largest) largest = size;
  return false;
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static int reset_counter(void **state) {
  (void)state;
  allocations = largest = 0;
  rm_alloc_set_refuse(count_all, NULL);
  return 0;
}

static int no_hook(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  return 0;
}

static void allocations_are_aligned_for_any_type_even_after_strings(void **state) {
  (void)state;
  rm_arena arena = {0};
  for (size_t i = 0; i < 200; i++) {
    assert_non_null(rm_arena_strndup(&arena, "xyz", i % 4));
    void *ptr = rm_arena_alloc(&arena, i);
    assert_non_null(ptr);
    assert_int_equal((uintptr_t)ptr % alignof(max_align_t), 0);
    memset(ptr, 0x5a, i);
  }
  rm_arena_fini(&arena);
}

static void allocations_do_not_overlap(void **state) {
  (void)state;
  rm_arena arena = {0};
  unsigned char *parts[300];
  for (size_t i = 0; i < 300; i++) {
    parts[i] = rm_arena_alloc(&arena, i + 1);
    memset(parts[i], (int)(i & 0xff), i + 1);
  }
  for (size_t i = 0; i < 300; i++)
    for (size_t k = 0; k <= i; k++) assert_int_equal(parts[i][k], i & 0xff);
  rm_arena_fini(&arena);
}

static void strings_are_copied_and_end_with_nul(void **state) {
  (void)state;
  rm_arena arena = {0};
  memset(rm_arena_alloc(&arena, 256), 0x5a, 256);
  rm_arena_reset(&arena, 4096); /* what follows is written over old bytes */
  char *copy = rm_arena_strndup(&arena, "a\0bc", 3);
  assert_memory_equal(copy, "a\0b\0", 4);
  assert_string_equal(rm_arena_strndup(&arena, NULL, 0), "");
  rm_arena_fini(&arena);
}

static void a_reserve_makes_the_next_allocation_free_of_charge(void **state) {
  (void)state;
  rm_arena arena = {0};
  for (size_t size = 1; size < 100000; size *= 3) {
    rm_arena_strndup(&arena, "x", 1); /* unaligned from here */
    assert_int_equal(rm_arena_reserve(&arena, size), 0);
    size_t before = allocations;
    assert_non_null(rm_arena_alloc(&arena, size));
    assert_int_equal(allocations, before);
  }
  rm_arena_fini(&arena);
}

static void many_small_allocations_cost_few_blocks(void **state) {
  (void)state;
  rm_arena arena = {0};
  for (size_t i = 0; i < 10000; i++) assert_non_null(rm_arena_alloc(&arena, 32));
  assert_true(allocations <= 12);
  assert_true(largest <= 300 * 1024);
  rm_arena_fini(&arena);
}

static void a_large_allocation_gets_a_block_of_its_own_size(void **state) {
  (void)state;
  rm_arena arena = {0};
  assert_non_null(rm_arena_alloc(&arena, 5 << 20));
  assert_int_equal(allocations, 1);
  assert_true(largest < (5 << 20) + 64);
  rm_arena_fini(&arena);
}

static void a_reset_keeps_the_largest_block_that_is_small_enough(void **state) {
  (void)state;
  rm_arena arena = {0};
  assert_non_null(rm_arena_alloc(&arena, 100));
  assert_non_null(rm_arena_alloc(&arena, 4000));
  assert_non_null(rm_arena_alloc(&arena, 1 << 20));
  rm_arena_reset(&arena, 8192);
  size_t before = allocations;
  assert_non_null(rm_arena_alloc(&arena, 4000));
  assert_int_equal(allocations, before); /* from what was kept */
  rm_arena_reset(&arena, 100);           /* nothing is that small */
  assert_null(arena.blocks);
  assert_non_null(rm_arena_alloc(&arena, 1));
  assert_int_equal(allocations, before + 1);
  rm_arena_fini(&arena);
  assert_null(arena.blocks);
}

static void refused_memory_leaves_the_arena_usable(void **state) {
  (void)state;
  rm_arena arena = {0};
  char *first = rm_arena_strndup(&arena, "kept", 4);
  rm_alloc_set_refuse(refuse_all, NULL);
  assert_null(rm_arena_alloc(&arena, 1 << 20));
  assert_null(rm_arena_strndup(&arena, first, 1 << 20));
  assert_int_equal(rm_arena_reserve(&arena, 1 << 20), REDMOON_ENOMEM);
  rm_alloc_set_refuse(NULL, NULL);
  assert_non_null(arena.blocks);
  assert_string_equal(first, "kept");
  assert_non_null(rm_arena_alloc(&arena, 1 << 20));
  rm_arena_fini(&arena);
}

static void impossible_sizes_are_refused(void **state) {
  (void)state;
  rm_arena arena = {0};
  assert_null(rm_arena_alloc(&arena, SIZE_MAX));
  assert_null(rm_arena_alloc(&arena, SIZE_MAX - 8));
  assert_null(rm_arena_strndup(&arena, "", SIZE_MAX));
  assert_int_equal(rm_arena_reserve(&arena, SIZE_MAX - 15), REDMOON_ENOMEM);
  assert_int_equal(allocations, 0);
  rm_arena_fini(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset_counter, no_hook)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(allocations_are_aligned_for_any_type_even_after_strings),
      TEST(allocations_do_not_overlap),
      TEST(strings_are_copied_and_end_with_nul),
      TEST(a_reserve_makes_the_next_allocation_free_of_charge),
      TEST(many_small_allocations_cost_few_blocks),
      TEST(a_large_allocation_gets_a_block_of_its_own_size),
      TEST(a_reset_keeps_the_largest_block_that_is_small_enough),
      TEST(refused_memory_leaves_the_arena_usable),
      TEST(impossible_sizes_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
