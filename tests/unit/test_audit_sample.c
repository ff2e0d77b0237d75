/* SPDX-License-Identifier: MIT */
/* What an audit estimates, and how sure it is: memory from samples, and keys that were seen before. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "patterns/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}
static double next_share(uint64_t *state) { return (double)(next_random(state) >> 11) / 9007199254740992.0; }

/* Memory. */

static void student_quantiles_are_those_of_the_tables(void **state) {
  (void)state;
  static const struct {
    int64_t freedom;
    double t;
  } rows[] = {{1, 636.619}, {5, 6.869}, {10, 4.587}, {11, 4.437}, {15, 4.073}, {20, 3.850}, {29, 3.659}, {60, 3.460}, {120, 3.373}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    double got = rm_audit_t(rows[i].freedom);
    if (fabs(got - rows[i].t) > 0.002) fail_msg("t(%lld) is %g, not %g", (long long)rows[i].freedom, got, rows[i].t);
  }
  assert_true(fabs(rm_audit_t(1000000) - 3.2905) < 0.001);
  assert_true(isinf(rm_audit_t(0)));
}

static redmoon_audit_group show(const rm_audit_estimate *estimate) {
  redmoon_audit_group group = {0};
  rm_audit_estimate_show(estimate, &group);
  return group;
}

enum { GROUP = 400 };

/* Draws without replacement from a group of known sizes.  Returns how many of 1,000 intervals miss the truth. */
static double missed_of_1000(double *sizes, int draws, uint64_t *random) {
  enum { ROUNDS = 20000 };
  double truth = 0, half = 0;
  int missed = 0;
  for (int i = 0; i < GROUP; i++) truth += sizes[i];
  for (int round = 0; round < ROUNDS; round++) {
    rm_audit_sums sample = {0};
    for (int i = 0; i < draws; i++) { /* Fisher and Yates */
      int other = i + (int)(next_random(random) % (uint64_t)(GROUP - i));
      double swap = sizes[i];
      sizes[i] = sizes[other];
      sizes[other] = swap;
      rm_audit_sums_add(&sample, (int64_t)sizes[i]);
    }
    rm_audit_estimate estimate = {0};
    rm_audit_estimate_add(&estimate, &sample, GROUP);
    redmoon_audit_group group = show(&estimate);
    assert_int_equal(group.sampled, draws);
    missed += truth < group.bytes_low || truth > group.bytes_high;
    half += (group.bytes_high - group.bytes_low) / 2 / ROUNDS;
  }
  assert_true(half < truth); /* and it says something */
  return missed * 1000.0 / ROUNDS;
}

static void interval_holds_as_often_as_it_says(void **state) {
  (void)state;
  static double sizes[GROUP];
  uint64_t random = 3;
  for (int i = 0; i < GROUP; i++) sizes[i] = floor(64 + 400 * (next_share(&random) + next_share(&random) + next_share(&random)));
  static const int draws[] = {8, 40, 300}; /* few: the normal quantile is too small; many: there are no others */
  for (size_t i = 0; i < 3; i++) {
    double missed = missed_of_1000(sizes, draws[i], &random);
    if (missed < 0.3 || missed > 2.5) fail_msg("%d draws: %g of 1,000 intervals missed, not one", draws[i], missed);
  }
}

static void what_was_measured_is_not_estimated(void **state) {
  (void)state;
  rm_audit_sums sample = {0};
  rm_audit_estimate all = {0}, none = {0}, one = {0};
  for (int i = 1; i <= 3; i++) rm_audit_sums_add(&sample, 100 * i);
  rm_audit_estimate_add(&all, &sample, 3);
  redmoon_audit_group group = show(&all);
  assert_true(group.bytes == 600 && group.bytes_low == 600 && group.bytes_high == 600);
  rm_audit_estimate_add(&all, &(rm_audit_sums){0}, 0); /* a group of no keys changes nothing */
  assert_true(show(&all).bytes == 600);

  rm_audit_sums single = {0};
  rm_audit_sums_add(&single, 50);
  rm_audit_estimate_add(&one, &single, 10);
  group = show(&one);
  assert_true(group.bytes == 500 && group.bytes_low == 50 && group.bytes_high == -1);

  rm_audit_estimate_add(&none, &(rm_audit_sums){0}, 10);
  assert_true(show(&none).bytes == -1 && show(&none).bytes_high == -1);
  rm_audit_estimate_merge(&all, &none); /* what is unknown of a part is unknown of the whole, but what was measured is there */
  group = show(&all);
  assert_true(group.bytes == -1 && group.bytes_low == 600);
}

/* Whatever the order: the same sizes give the same sums, to the last bit, and equal ones no spread at all. */
static void sums_are_exact_and_know_no_order(void **state) {
  (void)state;
  enum { KEYS = 3000 };
  static int64_t sizes[KEYS];
  uint64_t random = 31;
  long double sum = 0, spread = 0;
  for (int i = 0; i < KEYS; i++) sum += sizes[i] = (int64_t)(next_random(&random) >> (24 + i % 40));
  for (int i = 0; i < KEYS; i++) spread += (sizes[i] - sum / KEYS) * (sizes[i] - sum / KEYS);
  rm_audit_sums up = {0}, down = {0}, equal = {0}, large = {0};
  for (int i = 0; i < KEYS; i++) {
    rm_audit_sums_add(&up, sizes[i]);
    rm_audit_sums_add(&down, sizes[KEYS - 1 - i]);
    rm_audit_sums_add(&equal, (INT64_C(1) << 40) - 7);
    rm_audit_sums_add(&large, INT64_MAX);
  }
  assert_memory_equal(&up, &down, sizeof up);
  assert_true(fabs(rm_audit_sums_spread(&up) / (double)spread - 1) < 1e-12);
  assert_true(rm_audit_sums_spread(&equal) == 0);
  assert_true(rm_audit_sums_spread(&large) == 0); /* cut to one size */
  assert_true(rm_audit_sums_spread(&(rm_audit_sums){0}) == 0);
}

/* Few or many, drawn or not: in which order the keys come makes no difference, and there are 30 if there can be. */
static void sample_is_a_matter_of_lots_and_not_of_order(void **state) {
  (void)state;
  for (int keys = 1; keys <= 20000; keys = keys * 3 + 1) {
    for (int64_t ppm = 1; ppm <= 1000000; ppm *= 100) {
      rm_audit_sample up = {{0}, {{0, 0}}, 0}, down = {{0}, {{0, 0}}, 0};
      int asked = 0;
      for (int i = 0; i < 2 * keys; i++) {
        int n = i < keys ? i : 2 * keys - 1 - i;
        rm_audit_sample *sample = i < keys ? &up : &down;
        rm_audit_hash hash = rm_audit_hash_key(&n, sizeof n, 0);
        if (!rm_audit_sample_wants(sample, hash.lot, ppm)) continue;
        rm_audit_sample_add(sample, hash.lot, 50 + (int64_t)(next_random(&(uint64_t){hash.lot}) % 100), ppm);
        asked += i < keys;
      }
      rm_audit_sums a = rm_audit_sample_sums(&up), b = rm_audit_sample_sums(&down);
      assert_memory_equal(&a, &b, sizeof a);
      assert_true(a.count >= (keys < RM_AUDIT_LOWEST ? keys : RM_AUDIT_LOWEST));
      if (ppm == 1000000) assert_int_equal(a.count, keys);
      else if (ppm <= 100) assert_int_equal(a.count, keys < RM_AUDIT_LOWEST ? keys : RM_AUDIT_LOWEST);
      else assert_true(a.count <= 2 * RM_AUDIT_LOWEST + 2 * keys / 100);
      assert_true(asked <= 10 * RM_AUDIT_LOWEST + 2 * ppm * keys / 1000000); /* hardly more than are used */
    }
  }
}

/* The filter. */

static void filter_knows_what_it_took_in_and_says_how_often_it_errs(void **state) {
  (void)state;
  enum { KEYS = 20000 };
  static const size_t sizes[] = {5 * KEYS, 2 * KEYS, KEYS};
  for (size_t s = 0; s < 3; s++) {
    rm_audit_filter filter;
    assert_int_equal(rm_audit_filter_init(&filter, sizes[s]), 0);
    int64_t taken = 0, wrong = 0;
    for (int i = 0; i < KEYS; i++) {
      char key[32];
      size_t len = (size_t)snprintf(key, sizeof key, "key:%d", i);
      rm_audit_hash hash = rm_audit_hash_key(key, len, 0);
      if (rm_audit_filter_has(&filter, hash)) {
        wrong++;
        continue;
      }
      int64_t before = filter.unfiltered;
      rm_audit_filter_add(&filter, hash);
      if (filter.unfiltered > before) continue;
      taken++;
      assert_true(rm_audit_filter_has(&filter, hash));
    }
    assert_int_equal(filter.unfiltered + taken + wrong, KEYS);
    assert_true(wrong <= rm_audit_filter_false(&filter, wrong + 1000000));
    assert_true((double)filter.set <= 0.51 * (double)sizes[s] * 8);
    if (s == 0) assert_int_equal(taken, KEYS);
    if (s == 2) assert_true(filter.unfiltered > KEYS / 3);
    rm_audit_filter_fini(&filter);
  }
  /* Once it is full its errors are seen. */
  rm_audit_filter small;
  int64_t wrong = 0;
  assert_int_equal(rm_audit_filter_init(&small, 1024), 0);
  for (int i = 0; i < 3000000; i++) {
    rm_audit_hash hash = rm_audit_hash_key(&i, sizeof i, 0);
    if (rm_audit_filter_has(&small, hash)) wrong++;
    else rm_audit_filter_add(&small, hash);
  }
  int64_t bound = rm_audit_filter_false(&small, 3000000);
  if (wrong == 0 || wrong > bound || bound > 3 * wrong) fail_msg("%lld wrong, said to be at most %lld", (long long)wrong, (long long)bound);
  rm_audit_filter_fini(&small);
  rm_audit_filter off;
  assert_int_equal(rm_audit_filter_init(&off, 0), 0);
  rm_audit_filter_add(&off, rm_audit_hash_key("a", 1, 0));
  assert_false(rm_audit_filter_has(&off, rm_audit_hash_key("a", 1, 0)));
  assert_int_equal(off.unfiltered, 1);
}

static void bound_on_false_repeats_is_that_of_the_poisson_tail(void **state) {
  (void)state;
  static const struct {
    double mean;
    int64_t bound;
  } rows[] = {{0, 0}, {1e-7, 0}, {0.001, 1}, {0.02, 3}, {1, 9}, {10, 28}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    rm_audit_filter filter = {.expected = rows[i].mean};
    int64_t got = rm_audit_filter_false(&filter, 1000);
    if (llabs(got - rows[i].bound) > 1) fail_msg("%g: %lld, not %lld", rows[i].mean, (long long)got, (long long)rows[i].bound);
    assert_int_equal(rm_audit_filter_false(&filter, 0), 0); /* never more than there are */
  }
  rm_audit_filter many = {.expected = 10000};
  assert_int_equal(rm_audit_filter_false(&many, 1000000), 10500);
}

static void seed_decides_who_is_sampled(void **state) {
  (void)state;
  int same = 0, drawn = 0;
  for (int i = 0; i < 10000; i++) {
    char key[32];
    size_t len = (size_t)snprintf(key, sizeof key, "k:%d", i);
    rm_audit_hash a = rm_audit_hash_key(key, len, 1), again = rm_audit_hash_key(key, len, 1), b = rm_audit_hash_key(key, len, 2);
    assert_true(a.lot == again.lot && a.first == again.first && a.step == again.step);
    same += a.lot == b.lot || a.first == b.first;
    rm_audit_sample full = {{.count = RM_AUDIT_LOWEST}, {{0, 0}}, 0};
    drawn += rm_audit_sample_wants(&full, a.lot, 100000);
  }
  assert_int_equal(same, 0);
  assert_in_range(drawn, 880, 1120);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(student_quantiles_are_those_of_the_tables),
      cmocka_unit_test(interval_holds_as_often_as_it_says),
      cmocka_unit_test(what_was_measured_is_not_estimated),
      cmocka_unit_test(sums_are_exact_and_know_no_order),
      cmocka_unit_test(sample_is_a_matter_of_lots_and_not_of_order),
      cmocka_unit_test(filter_knows_what_it_took_in_and_says_how_often_it_errs),
      cmocka_unit_test(bound_on_false_repeats_is_that_of_the_poisson_tail),
      cmocka_unit_test(seed_decides_who_is_sampled),
  };
  return cmocka_run_group_tests_name("audit sample", tests, NULL, NULL);
}
