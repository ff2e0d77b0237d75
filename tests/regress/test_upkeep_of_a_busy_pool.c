/* SPDX-License-Identifier: MIT */
/* Upkeep that ran while the only connection was lent out knew of nothing to come, so its return was news: one caller in a
 * loop woke the keeper with every command. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "unit/pool_steps.h"

static void a_return_is_no_news_to_upkeep_that_ran_during_the_lease(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  int dials;
  rm_pool_config config = fixture_config(2);
  config.max_idle_time_us = 60 * SEC;
  config.max_lifetime_us = 1000 * SEC;
  open_pool(config, &f);
  borrow_new(&f, &a, 0);
  for (int64_t now = 1 * SEC; now < 500 * SEC; now += 5 * SEC) {
    assert_int_equal(rm_pool_upkeep(f.pool, now, &dials), now + 60 * SEC / 8 * 7);
    rm_pool_release(&a, now - 50); /* its thread looked at the clock first */
    assert_int_equal(f.due, 0);
    assert_int_equal(acquire(&f, &a, now + 2), RM_POOL_CONN);
  }
  rm_pool_release(&a, 500 * SEC);
  close_pool(&f);
}

static void a_lifetime_that_ends_during_the_lease_is_no_work_for_upkeep(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  int dials;
  rm_pool_config config = fixture_config(2);
  config.max_lifetime_us = 100 * SEC;
  open_pool(config, &f);
  rm_conn *conn = borrow_new(&f, &a, 0);
  int64_t end = conn->expires_us;
  assert_int_equal(rm_pool_upkeep(f.pool, 0, &dials), end);
  assert_int_equal(rm_pool_upkeep(f.pool, end, &dials), RM_FOREVER);
  rm_pool_release(&a, end);
  assert_int_equal(stats_of(&f).closed_lifetime, 1);
  close_pool(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_return_is_no_news_to_upkeep_that_ran_during_the_lease),
      cmocka_unit_test(a_lifetime_that_ends_during_the_lease_is_no_work_for_upkeep),
  };
  if (rm_random_init() != 0) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
