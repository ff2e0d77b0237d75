/* SPDX-License-Identifier: MIT */
/* The numbers of a topic as a reader counts them: what came and what is missing is what was published, exactly. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "patterns/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define E1 "00000000000000e1"
#define E2 "00000000000000e2"

static rm_topic_frame frame(const char *epoch, int64_t seq) {
  rm_topic_frame f = {.seq = seq};
  snprintf(f.epoch, sizeof f.epoch, "%s", epoch);
  return f;
}

/* As after a subscription at which the last message was `seq`. */
static rm_topic_count begun(const char *epoch, int64_t seq) {
  rm_topic_count count = {.next = seq + 1, .early = true};
  snprintf(count.epoch, sizeof count.epoch, "%s", epoch);
  return count;
}

static void expect(rm_topic_count *count, const char *epoch, int64_t seq, bool mark, int64_t from, int64_t to) {
  rm_topic_frame f = frame(epoch, seq);
  rm_topic_gap gap = rm_topic_count_take(count, &f, mark);
  if (gap.open != (from != 0)) fail_msg("%d: a gap %d", (int)seq, gap.open);
  assert_int_equal(gap.unknown, from < 0);
  if (from > 0) {
    assert_int_equal(gap.from, from);
    assert_int_equal(gap.to, to);
  }
}
#define NOTHING 0, 0
#define UNKNOWN -1, 0

static void what_follows_is_no_gap(void **state) {
  (void)state;
  rm_topic_count count = begun(E1, 5);
  for (int64_t seq = 6; seq < 20; seq++) expect(&count, E1, seq, false, NOTHING);
  expect(&count, E1, 19, true, NOTHING);
  expect(&count, E1, 20, false, NOTHING);
}

static void what_is_missing_is_told_exactly(void **state) {
  (void)state;
  rm_topic_count count = begun(E1, 5);
  expect(&count, E1, 8, false, 6, 7);
  expect(&count, E1, 9, false, NOTHING);
  expect(&count, E1, 11, true, 10, 11); /* though nothing more comes */
  expect(&count, E1, 11, true, NOTHING);
  expect(&count, E1, 12, false, NOTHING);
}

/* Published between the confirmation of the subscription and the question for the number. */
static void what_came_early_is_no_gap(void **state) {
  (void)state;
  rm_topic_count count = begun(E1, 5);
  expect(&count, E1, 4, false, NOTHING);
  expect(&count, E1, 5, false, NOTHING);
  expect(&count, E1, 5, true, NOTHING);
  expect(&count, E1, 6, false, NOTHING);
  count = begun(E1, 5);
  expect(&count, E1, 4, false, NOTHING);
  expect(&count, E1, 6, false, 5, 5);
}

static void the_first_message_of_all_is_awaited(void **state) {
  (void)state;
  rm_topic_count count = begun("", 0);
  expect(&count, "", 0, true, NOTHING);
  expect(&count, E1, 1, false, NOTHING);
  count = begun("", 0);
  expect(&count, E1, 3, false, 1, 2);
}

static void numbers_that_begin_anew_are_a_gap_of_unknown_extent(void **state) {
  (void)state;
  rm_topic_count count = begun(E1, 5);
  expect(&count, E2, 1, false, UNKNOWN);
  expect(&count, E2, 2, false, NOTHING);
  expect(&count, "", 0, true, UNKNOWN); /* FLUSHALL, and nothing published since */
  expect(&count, E1, 1, false, NOTHING);
  expect(&count, E1, 2, false, NOTHING);
  expect(&count, E1, 2, false, UNKNOWN); /* a server that has lost what it had numbered */
  expect(&count, E1, 3, false, NOTHING);
  expect(&count, E1, 1, true, UNKNOWN);
  expect(&count, E1, 2, false, NOTHING);
}

static void a_frame_is_taken_apart(void **state) {
  (void)state;
  rm_topic_frame f;
  static const char good[] = E1 ":42:a:b\0c";
  assert_true(rm_topic_frame_read(good, sizeof good - 1, &f));
  assert_string_equal(f.epoch, E1);
  assert_int_equal(f.seq, 42);
  assert_int_equal(f.payload.len, 5);
  assert_memory_equal(f.payload.ptr, "a:b\0c", 5);
  assert_true(rm_topic_frame_read(":0:", 3, &f));
  assert_string_equal(f.epoch, "");
  assert_int_equal(f.payload.len, 0);
  static const char *const bad[] = {"", ":", "x", "::", ":-1:", ":1", "abc:1:p", E1, E1 ":", E1 ":1", E1 ":x:p", E1 "0:1:p",
                                    E1 ":1.5:", E1 ":99999999999999999999:"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    if (rm_topic_frame_read(bad[i], strlen(bad[i]), &f)) fail_msg("'%s' was read", bad[i]);
}

/* Losses at random, with marks after some of them. */
static void what_came_and_what_is_missing_is_all(void **state) {
  (void)state;
  srandom(20261125);
  for (int run = 0; run < 200; run++) {
    int64_t base = random() % 1000, last = base, came = 0, missing = 0;
    rm_topic_count count = begun(E1, base);
    for (int step = 0; step < 500; step++) {
      bool mark = random() % 5 == 0, lost = random() % 4 == 0;
      if (!mark) last++;
      if (lost && !mark) continue;
      rm_topic_frame f = frame(E1, last);
      rm_topic_gap gap = rm_topic_count_take(&count, &f, mark);
      assert_false(gap.unknown);
      if (gap.open) missing += gap.to - gap.from + 1;
      came += !mark;
    }
    rm_topic_frame f = frame(E1, last);
    rm_topic_gap gap = rm_topic_count_take(&count, &f, true);
    if (gap.open) missing += gap.to - gap.from + 1;
    assert_int_equal(came + missing, last - base);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_follows_is_no_gap),
      cmocka_unit_test(what_is_missing_is_told_exactly),
      cmocka_unit_test(what_came_early_is_no_gap),
      cmocka_unit_test(the_first_message_of_all_is_awaited),
      cmocka_unit_test(numbers_that_begin_anew_are_a_gap_of_unknown_extent),
      cmocka_unit_test(a_frame_is_taken_apart),
      cmocka_unit_test(what_came_and_what_is_missing_is_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
