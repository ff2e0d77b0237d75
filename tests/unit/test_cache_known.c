/* SPDX-License-Identifier: MIT */
/* What a cache knows of entries that it read a moment ago.  STEPS=10000000 draws more; SEED repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/checksum.h"
#include "base/random.h"
#include "patterns/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state;

static int64_t draw(int64_t below) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (int64_t)((random_state >> 11) % (uint64_t)below);
}

static int64_t number_of(const char *name, int64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtoll(text, NULL, 10) : otherwise;
}

enum { LEN = RM_ENTRY_HEADER + 3 };

static void fill(unsigned char *entry) {
  for (size_t i = 0; i < LEN; i++) entry[i] = (unsigned char)draw(256);
}

/* A server tells what is left in whole milliseconds, at some time between the question and its answer; whatever the client
 * makes of it later is held against what the server would tell then. */
static void nothing_is_taken_for_younger_than_the_server_says(void **state) {
  (void)state;
  random_state = (uint64_t)number_of("SEED", 20261126);
  int64_t steps = number_of("STEPS", 300000), known_for_long = 0;
  print_message("SEED=%lld STEPS=%lld\n", (long long)random_state, (long long)steps);
  unsigned char entry[LEN];
  fill(entry);
  const redmoon_bytes read = {entry, LEN};
  for (int64_t i = 0; i < steps; i++) {
    int64_t soft_ms = 1 + draw(draw(2) == 0 ? 20 : 5000), hard_ms = soft_ms + draw(2) * draw(5000), early_ms = draw(2) * draw(1000);
    int64_t age_us = draw(soft_ms * 1000 + 1), asked_us = draw(1000000000);
    int64_t told_us = asked_us + draw(20000); /* the server's answer is of then */
    int64_t left_us = hard_ms * 1000 - age_us, left_ms = left_us / 1000;
    rm_known known;
    if (!rm_known_make(&known, entry, left_ms, soft_ms - (hard_ms - left_ms) - early_ms, asked_us)) continue;
    int64_t now_us = told_us + draw(soft_ms * 1100 + 1);
    int64_t known_ms = rm_known_left_ms(&known, read, now_us), truth_us = left_us - (now_us - told_us);
    if (known_ms < 0) continue;
    known_for_long += now_us - told_us > 1000000;
    assert_true(known_ms * 1000 <= truth_us);
    assert_true(hard_ms - known_ms < soft_ms || (early_ms == 0 && hard_ms - known_ms <= soft_ms));
    assert_true(soft_ms * 1000 - (hard_ms * 1000 - truth_us) > early_ms * 1000); /* nor is it to be loaded early */
  }
  assert_true(known_for_long > steps / 100);
}

static void another_entry_is_not_the_one_that_is_known(void **state) {
  (void)state;
  random_state = (uint64_t)number_of("SEED", 20261126);
  unsigned char entry[LEN];
  fill(entry);
  rm_known known;
  assert_true(rm_known_make(&known, entry, 1000, 500, 7000));
  assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, LEN}, 8000), 999);
  for (size_t bit = 64; bit < 8 * 32; bit++) { /* its id and its times; the rest is checked for itself */
    entry[bit / 8] ^= (unsigned char)(1 << bit % 8);
    assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, LEN}, 8000), -1);
    entry[bit / 8] ^= (unsigned char)(1 << bit % 8);
  }
  for (size_t len = 0; len < RM_ENTRY_HEADER; len++)
    assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, len}, 8000), -1);
  assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, LEN}, 6999), -1); /* a clock that goes back */
  assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, LEN}, 7000 + 499 * 1000 - 1), 501);
  assert_int_equal(rm_known_left_ms(&known, (redmoon_bytes){entry, LEN}, 7000 + 499 * 1000), -1);
  for (int64_t fresh_ms = -1; fresh_ms <= 1; fresh_ms++) assert_false(rm_known_make(&known, entry, 1000, fresh_ms, 7000));
}

static redmoon_bytes key_of(char *text, int number) {
  return (redmoon_bytes){text, (size_t)snprintf(text, 40, "redmoon:{%d}:c.cache", number)};
}

/* Keys share places; what is not in one is not known, and what is, for a while. */
static void a_key_is_known_for_a_while_at_the_most(void **state) {
  (void)state;
  redmoon_cache *cache = calloc(1, sizeof *cache);
  cache->known_for_us = 50000;
  enum { KEYS = 3000 };
  static rm_known all[KEYS];
  char text[40];
  rm_known got;
  assert_false(rm_cache_recall(cache, key_of(text, 0), 0, &got)); /* nothing is there yet */
  rm_cache_forget_known(cache, key_of(text, 0));
  unsigned char entry[LEN];
  for (int i = 0; i < KEYS; i++) {
    fill(entry);
    assert_true(rm_known_make(&all[i], entry, 5000, i % 2 == 0 ? 1000 : 11, 1000000));
    rm_cache_note_known(cache, key_of(text, i), &all[i], 5000000);
    assert_true(rm_cache_recall(cache, key_of(text, i), 5000000, &got));
  }
  int known = 0;
  for (int i = 0; i < KEYS; i++) {
    if (!rm_cache_recall(cache, key_of(text, i), 5009999, &got)) continue;
    known++;
    all[i].noted_us = 5000000;
    assert_memory_equal(&got, &all[i], sizeof got);
    assert_false(rm_cache_recall(cache, key_of(text, i), 4999999, &got));
    assert_int_equal(rm_cache_recall(cache, key_of(text, i), 5010000, &got), i % 2 == 0); /* fresh for 10 ms surely */
    assert_int_equal(rm_cache_recall(cache, key_of(text, i), 5049999, &got), i % 2 == 0);
    assert_false(rm_cache_recall(cache, key_of(text, i), 5050000, &got));
    rm_cache_forget_known(cache, key_of(text, (i + 1) % KEYS));
    rm_cache_forget_known(cache, key_of(text, i));
    assert_false(rm_cache_recall(cache, key_of(text, i), 5000000, &got));
  }
  assert_in_range(known, 100, 512);
  rm_known_free(cache->known);
  free(cache);
}

/* With more left not even the rarest draw says so; with less it does. */
static void nothing_is_early_that_has_more_left_than_the_earliest(void **state) {
  (void)state;
  assert_int_equal(rm_cache_earliest_ms(0, 1000000), 0);
  assert_int_equal(rm_cache_earliest_ms(1000, 0), 0);
  for (int64_t beta = 1; beta <= 10000000; beta *= 10)
    for (int64_t delta = 1; delta <= INT64_C(0xFFFFFFFF); delta = delta * 3 + 1) {
      int64_t earliest = rm_cache_earliest_ms(delta, beta);
      assert_false(rm_cache_is_early(earliest + 1, delta, beta, 0));
      assert_true(rm_cache_is_early(earliest - 1 - earliest / 1000000, delta, beta, 0));
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_is_taken_for_younger_than_the_server_says),
      cmocka_unit_test(another_entry_is_not_the_one_that_is_known),
      cmocka_unit_test(a_key_is_known_for_a_while_at_the_most),
      cmocka_unit_test(nothing_is_early_that_has_more_left_than_the_earliest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
