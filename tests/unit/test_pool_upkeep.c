/* SPDX-License-Identifier: MIT */
/* Lifetimes, idle connections and missing ones: what upkeep does, and when it says that it is due. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "unit/pool_steps.h"

static void lifetimes_are_jittered_by_a_tenth_and_ended_at_release_and_borrow(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  rm_pool_config config = fixture_config(1);
  config.max_lifetime_us = 100 * SEC;
  open_pool(config, &f);
  int64_t least = RM_FOREVER, most = 0;
  for (int i = 0; i < 200; i++) {
    rm_conn *conn = borrow_new(&f, &a, 5);
    least = rm_min64(least, conn->expires_us);
    most = rm_max64(most, conn->expires_us);
    rm_pool_cancel(&a, 5);
  }
  assert_in_range(least, 5 + 90 * SEC, 5 + 92 * SEC);
  assert_in_range(most, 5 + 108 * SEC, 5 + 110 * SEC);
  borrow_new(&f, &a, 0);
  rm_pool_release(&a, 110 * SEC);
  assert_int_equal(stats_of(&f).closed_lifetime, 1);
  borrow_new(&f, &a, 0);
  rm_pool_release(&a, 1);
  assert_int_equal(acquire(&f, &a, 110 * SEC), RM_POOL_DIAL);
  assert_int_equal(stats_of(&f).closed_lifetime, 2);
  rm_pool_cancel(&a, 0);
  close_pool(&f);
}

static void upkeep_closes_what_is_idle_too_long_down_to_min_idle_and_names_the_next_time(void **state) {
  (void)state;
  fixture f;
  rm_lease l[4] = {{.pool = NULL}};
  int dials;
  rm_pool_config config = fixture_config(4);
  config.min_idle = 1;
  config.max_idle_time_us = 60 * SEC;
  open_pool(config, &f);
  for (int i = 0; i < 4; i++) borrow_new(&f, &l[i], 0);
  for (int i = 0; i < 4; i++) rm_pool_release(&l[i], i * SEC);
  assert_int_equal(rm_pool_upkeep(f.pool, 10 * SEC, &dials), 60 * SEC);
  assert_int_equal(dials, 0);
  assert_int_equal(stats_of(&f).idle, 4);
  assert_int_equal(rm_pool_upkeep(f.pool, 61 * SEC, &dials), 62 * SEC);
  assert_int_equal(stats_of(&f).idle, 2);
  assert_int_equal(rm_pool_upkeep(f.pool, 500 * SEC, &dials), RM_FOREVER);
  assert_int_equal(stats_of(&f).idle, 1);
  assert_int_equal(stats_of(&f).closed_idle, 3);
  assert_int_equal(dials, 0);
  close_pool(&f);
}

static void upkeep_ends_lifetimes_of_idle_connections_when_they_are_due(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  int dials;
  rm_pool_config config = fixture_config(2);
  config.max_lifetime_us = 100 * SEC;
  open_pool(config, &f);
  rm_conn *one = borrow_new(&f, &a, 0), *two = borrow_new(&f, &b, 0);
  int64_t first = rm_min64(one->expires_us, two->expires_us), second = rm_max64(one->expires_us, two->expires_us);
  if (first == second) second = ++two->expires_us;
  rm_pool_release(&a, 1);
  rm_pool_release(&b, 1);
  assert_int_equal(rm_pool_upkeep(f.pool, first - 1, &dials), first);
  assert_int_equal(stats_of(&f).idle, 2);
  assert_int_equal(rm_pool_upkeep(f.pool, first, &dials), second);
  assert_int_equal(stats_of(&f).closed_lifetime, 1);
  assert_int_equal(rm_pool_upkeep(f.pool, second, &dials), RM_FOREVER);
  assert_int_equal(stats_of(&f).total, 0);
  close_pool(&f);
}

static void upkeep_is_announced_when_it_becomes_due_sooner_and_only_then(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  int dials;
  rm_pool_config config = fixture_config(2);
  config.max_idle_time_us = 60 * SEC;
  open_pool(config, &f);
  borrow_new(&f, &a, 0);
  borrow_new(&f, &b, 0);
  assert_int_equal(f.due, 0);
  rm_pool_release(&a, 1 * SEC);
  assert_int_equal(f.due, 1);
  rm_pool_release(&b, 2 * SEC);
  assert_int_equal(f.due, 1);
  assert_int_equal(rm_pool_upkeep(f.pool, 2 * SEC, &dials), 61 * SEC);
  assert_int_equal(acquire(&f, &a, 3 * SEC), RM_POOL_CONN);
  rm_pool_release(&a, 4 * SEC);
  assert_int_equal(f.due, 1);
  close_pool(&f);
}

static void missing_idle_connections_are_asked_for_within_the_size(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0}, up1 = {0}, up2 = {0}, up3 = {0};
  int dials;
  rm_pool_config config = fixture_config(4);
  config.min_idle = 3;
  open_pool(config, &f);
  assert_int_equal(rm_pool_upkeep(f.pool, 0, &dials), RM_FOREVER);
  assert_int_equal(dials, 3);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  assert_int_equal(f.due, 1); /* still missing, and nobody is at it */
  assert_int_equal(acquire(&f, &b, 0), RM_POOL_DIAL);
  assert_int_equal(f.due, 1);
  rm_pool_upkeep(f.pool, 0, &dials);
  assert_int_equal(dials, 2); /* size 4 */
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up1, 0), RM_POOL_DIAL);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up2, 0), RM_POOL_DIAL);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up3, 0), RM_POOL_WAIT);
  assert_null(up3.pool);
  dial(&up1, 0);
  dial(&up2, 0);
  rm_pool_release(&up1, 0);
  rm_pool_release(&up2, 0);
  redmoon_stats stats = stats_of(&f);
  assert_int_equal(stats.idle, 2);
  assert_int_equal(stats.dials, 4);
  assert_int_equal(stats.misses, 2); /* those of upkeep were nobody's borrow */
  rm_pool_upkeep(f.pool, 0, &dials);
  assert_int_equal(dials, 0);
  f.due = 0;
  rm_pool_cancel(&a, 1); /* room for the third */
  assert_int_equal(f.due, 1);
  rm_pool_upkeep(f.pool, 1, &dials);
  assert_int_equal(dials, 1);
  rm_pool_cancel(&b, 1);
  close_pool(&f);
}

static void a_dial_of_upkeeps_own_is_not_missing_any_more(void **state) {
  (void)state;
  fixture f;
  rm_lease up = {0};
  int dials;
  rm_pool_config config = fixture_config(8);
  config.min_idle = 2;
  open_pool(config, &f);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, 0), RM_POOL_DIAL);
  rm_pool_upkeep(f.pool, 0, &dials);
  assert_int_equal(dials, 1);
  rm_pool_cancel(&up, 0);
  rm_pool_upkeep(f.pool, 0, &dials);
  assert_int_equal(dials, 2);
  close_pool(&f);
}

static void upkeep_waits_for_the_gate_and_then_probes_alone(void **state) {
  (void)state;
  fixture f;
  rm_lease up = {0}, held = {0}, w = {0};
  int dials;
  rm_pool_config config = fixture_config(8);
  config.min_idle = 3;
  open_pool(config, &f);
  borrow_new(&f, &held, 0);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, 0), RM_POOL_DIAL);
  rm_pool_upkeep(f.pool, 0, &dials);
  f.due = 0;
  fail_dial(&up, 0);
  assert_int_equal(f.due, 1);
  int64_t gate = rm_pool_upkeep(f.pool, 0, &dials);
  assert_int_equal(dials, 0);
  assert_in_range(gate, 1 * MS, 8 * MS);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, gate - 1), RM_POOL_WAIT);
  rm_pool_upkeep(f.pool, gate, &dials);
  assert_int_equal(dials, 1);
  assert_int_equal(acquire(&f, &w, gate - 1), RM_POOL_WAIT);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, gate), RM_POOL_WAIT); /* a caller waits: its turn first */
  assert_int_equal(rm_pool_poll(&w, gate, NULL), RM_POOL_DIAL);
  rm_pool_cancel(&w, gate);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, gate), RM_POOL_DIAL);
  rm_pool_upkeep(f.pool, gate, &dials);
  assert_int_equal(dials, 0);
  dial(&up, gate);
  rm_pool_upkeep(f.pool, gate, &dials);
  assert_int_equal(dials, 3);
  rm_pool_release(&up, gate);
  rm_pool_release(&held, gate);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void what_upkeep_dialled_goes_to_a_waiter_first(void **state) {
  (void)state;
  fixture f;
  rm_lease up = {0}, w = {0};
  rm_pool_config config = fixture_config(1);
  config.min_idle = 1;
  open_pool(config, &f);
  assert_int_equal(rm_pool_acquire_permit(f.pool, &up, 0), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  dial(&up, 0);
  rm_pool_release(&up, 0);
  assert_int_equal(rm_pool_poll(&w, 0, NULL), RM_POOL_CONN);
  rm_pool_release(&w, 0);
  close_pool(&f);
  rm_lease_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lifetimes_are_jittered_by_a_tenth_and_ended_at_release_and_borrow),
      cmocka_unit_test(upkeep_closes_what_is_idle_too_long_down_to_min_idle_and_names_the_next_time),
      cmocka_unit_test(upkeep_ends_lifetimes_of_idle_connections_when_they_are_due),
      cmocka_unit_test(upkeep_is_announced_when_it_becomes_due_sooner_and_only_then),
      cmocka_unit_test(missing_idle_connections_are_asked_for_within_the_size),
      cmocka_unit_test(a_dial_of_upkeeps_own_is_not_missing_any_more),
      cmocka_unit_test(upkeep_waits_for_the_gate_and_then_probes_alone),
      cmocka_unit_test(what_upkeep_dialled_goes_to_a_waiter_first),
  };
  if (rm_random_init() != 0) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
