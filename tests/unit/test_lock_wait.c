/* SPDX-License-Identifier: MIT */
/* The pauses of a waiter for a lock, in virtual time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "patterns/lock_internal.h"

enum { MS = 1000, SECOND = 1000000, RUNS = 20000 };

static int64_t draw(void) { return rm_random_upto(LOCK_DRAW); }

static void pauses_grow_from_a_small_floor_to_one_second(void **state) {
  (void)state;
  int64_t bound = 25 * MS;
  for (int looks = 1; looks < 40; looks++) {
    assert_int_equal(rm_lock_pause_us(looks, 0, -1, 0), 10 * MS);
    assert_int_equal(rm_lock_pause_us(looks, 0, -1, LOCK_DRAW), bound);
    bound = bound * 2 < SECOND ? bound * 2 : SECOND;
  }
  assert_int_equal(rm_lock_pause_us(INT32_MAX, 0, 86400 * (int64_t)SECOND, LOCK_DRAW), SECOND);
}

static void pause_is_random_over_its_whole_range(void **state) {
  (void)state;
  int fifths[5] = {0};
  for (int i = 0; i < RUNS; i++) {
    int64_t pause = rm_lock_pause_us(20, 0, -1, draw());
    assert_in_range(pause, 10 * MS, SECOND);
    fifths[(pause - 10 * MS) * 5 / (SECOND - 10 * MS + 1)]++;
  }
  for (int i = 0; i < 5; i++) assert_in_range(fifths[i], RUNS / 5 - RUNS / 20, RUNS / 5 + RUNS / 20);
}

static void no_pause_outlasts_the_holders_lease(void **state) {
  (void)state;
  for (int i = 0; i < RUNS; i++) {
    int looks = 1 + (int)rm_random_upto(30);
    int64_t left_us = rm_random_upto(3000) * MS, place = rm_random_upto(1);
    int64_t pause = rm_lock_pause_us(looks, place, left_us, draw());
    assert_true(pause <= left_us + MS);
    if (pause < 10 * MS) assert_true(pause == left_us + MS);
  }
}

/* Who is next asks often, who is far behind only as often as it must: a ticket lives for five of the longest pauses. */
static void pauses_of_those_who_wait_in_turn_grow_with_their_place(void **state) {
  (void)state;
  for (int64_t place = 1; place < 30; place++) {
    int64_t longest = place < 20 ? place * 50 * MS : SECOND;
    assert_int_equal(rm_lock_pause_us(INT32_MAX, place, -1, LOCK_DRAW), longest);
    assert_int_equal(rm_lock_pause_us(INT32_MAX, place, -1, 0), 10 * MS);
    assert_int_equal(rm_lock_pause_us(1, place, -1, LOCK_DRAW), 25 * MS);
  }
  assert_int_equal(rm_lock_pause_us(20, INT64_MAX, 0, LOCK_DRAW), SECOND); /* the end of the lease is not for them */
  assert_int_equal(rm_lock_pause_us(20, 2, 3 * MS, LOCK_DRAW), 100 * MS);
  assert_int_equal(rm_lock_pause_us(20, 1, 3 * MS, LOCK_DRAW), 4 * MS);
}

/* A whole wait: when the holder's lease ends at `ends_us` and nobody else comes. */
static void waiter_is_there_a_millisecond_after_the_lease_and_asks_seldom(void **state) {
  (void)state;
  for (int run = 0; run < 2000; run++) {
    int64_t ends_us = rm_random_upto(30000) * MS, wait_us = rm_random_upto(30000) * MS, now_us = 0;
    int looks = 0;
    for (;;) {
      looks++;
      if (now_us >= ends_us) break;
      int64_t left_us = (ends_us - now_us) / MS * MS;
      if (wait_us <= now_us) break;
      now_us = rm_min64(now_us + rm_lock_pause_us(looks, 0, left_us, draw()), wait_us); /* as waiting.c does */
    }
    assert_true(now_us <= wait_us);
    if (ends_us + SECOND < wait_us) assert_true(now_us >= ends_us && now_us <= ends_us + SECOND);
    if (wait_us < ends_us) assert_int_equal(now_us, wait_us);
    assert_true(looks < 20 + now_us * 2 / SECOND * 2 + 20);
  }
}

int main(void) {
  if (rm_random_init() != 0) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pauses_grow_from_a_small_floor_to_one_second),
      cmocka_unit_test(pause_is_random_over_its_whole_range),
      cmocka_unit_test(no_pause_outlasts_the_holders_lease),
      cmocka_unit_test(pauses_of_those_who_wait_in_turn_grow_with_their_place),
      cmocka_unit_test(waiter_is_there_a_millisecond_after_the_lease_and_asks_seldom),
  };
  return cmocka_run_group_tests_name("lock waiting", tests, NULL, NULL);
}
