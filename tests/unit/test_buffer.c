/* SPDX-License-Identifier: MIT */
/* The growing byte buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/buffer.h"

#include <redmoon/error.h>
#include <stdio.h>
#include <stdlib.h>

static size_t allocations;

static bool count_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  allocations++;
  return false;
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static int no_hook(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  return 0;
}

static unsigned seed(void) {
  const char *text = getenv("SEED");
  unsigned value = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 20261122u;
  print_message("SEED=%u\n", value);
  return value;
}

/* A queue of counting bytes: whatever is appended and consumed, what comes out is in order. */
static void content_survives_any_mix_of_appending_and_consuming(void **state) {
  (void)state;
  uint32_t random = seed();
  rm_buffer b = {0};
  unsigned char in = 0, out = 0;
  for (int step = 0; step < 20000; step++) {
    random = random * 1664525u + 1013904223u;
    size_t n = (random >> 8) % 700;
    if ((random >> 24) % 2 == 0) {
      unsigned char bytes[700];
      for (size_t i = 0; i < n; i++) bytes[i] = in++;
      assert_int_equal(rm_buffer_append(&b, bytes, n), 0);
    } else {
      if (n > rm_buffer_len(&b)) n = rm_buffer_len(&b);
      for (size_t i = 0; i < n; i++) assert_int_equal((unsigned char)rm_buffer_begin(&b)[i], out++);
      rm_buffer_consume(&b, n);
    }
    assert_true(b.head <= b.tail && b.tail <= b.cap);
  }
  rm_buffer_fini(&b);
}

static void a_mostly_consumed_buffer_is_moved_instead_of_grown(void **state) {
  (void)state;
  rm_buffer b = {0};
  char block[512] = {0};
  assert_int_equal(rm_buffer_append(&b, block, sizeof block), 0);
  b.bytes[511] = 'x';
  rm_buffer_consume(&b, 511);
  allocations = 0;
  rm_alloc_set_refuse(count_all, NULL);
  assert_int_equal(rm_buffer_reserve(&b, 400), 0);
  assert_int_equal(allocations, 0);
  assert_int_equal(*rm_buffer_begin(&b), 'x');
  assert_int_equal(b.head, 0);
  rm_buffer_fini(&b);
}

static void consuming_everything_starts_over_at_the_front(void **state) {
  (void)state;
  rm_buffer b = {0};
  assert_int_equal(rm_buffer_append(&b, "abc", 3), 0);
  rm_buffer_consume(&b, 3);
  assert_int_equal(b.head, 0);
  assert_int_equal(b.tail, 0);
  rm_buffer_fini(&b);
}

static void a_reset_gives_back_only_what_is_beyond_keep(void **state) {
  (void)state;
  rm_buffer b = {0};
  assert_int_equal(rm_buffer_append(&b, "abc", 3), 0);
  rm_buffer_reset(&b, 512);
  assert_int_equal(b.cap, 512);
  assert_int_equal(rm_buffer_len(&b), 0);
  rm_buffer_reset(&b, 511);
  assert_int_equal(b.cap, 0);
  assert_null(b.bytes);
  rm_buffer_fini(&b);
}

static void refused_memory_leaves_the_content_alone(void **state) {
  (void)state;
  rm_buffer b = {0};
  char block[4096] = {0};
  assert_int_equal(rm_buffer_append(&b, "abc", 3), 0);
  rm_alloc_set_refuse(refuse_all, NULL);
  assert_int_not_equal(rm_buffer_append(&b, block, sizeof block), 0);
  assert_int_equal(rm_buffer_grow(&b, sizeof block), REDMOON_ENOMEM);
  assert_int_equal(rm_buffer_len(&b), 3);
  assert_memory_equal(rm_buffer_begin(&b), "abc", 3);
  rm_buffer_fini(&b);
}

static void impossible_sizes_are_refused(void **state) {
  (void)state;
  rm_buffer b = {0};
  assert_int_equal(rm_buffer_append(&b, "abc", 3), 0);
  allocations = 0;
  rm_alloc_set_refuse(count_all, NULL);
  assert_int_equal(rm_buffer_grow(&b, SIZE_MAX), REDMOON_ENOMEM);
  assert_int_equal(rm_buffer_grow(&b, SIZE_MAX / 2), REDMOON_ENOMEM);
  assert_int_equal(allocations, 0);
  rm_buffer_fini(&b);
}

#define TEST(name) cmocka_unit_test_teardown(name, no_hook)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(content_survives_any_mix_of_appending_and_consuming),
      TEST(a_mostly_consumed_buffer_is_moved_instead_of_grown),
      TEST(consuming_everything_starts_over_at_the_front),
      TEST(a_reset_gives_back_only_what_is_beyond_keep),
      TEST(refused_memory_leaves_the_content_alone),
      TEST(impossible_sizes_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
