/* SPDX-License-Identifier: MIT */
/* What the pool promises while dials fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "unit/pool_steps.h"

static void while_dials_fail_and_nothing_can_come_back_a_borrow_is_refused_at_once(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  redmoon_error err;
  open_sized(&f, 2);
  assert_int_equal(acquire(&f, &a, 1 * SEC), RM_POOL_DIAL);
  fail_dial(&a, 1 * SEC);
  assert_null(a.pool);
  assert_int_equal(rm_pool_acquire(f.pool, &b, 0, 1 * SEC, &err), REDMOON_ECONNECT);
  assert_null(b.pool);
  assert_string_equal(err.code, "CONNECT");
  assert_non_null(strstr(err.message, "connect to localhost:6379: Connection refused"));
  assert_string_equal(err.address, "localhost:6379");
  assert_int_equal(err.phase, REDMOON_PHASE_DIAL);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_true(err.retryable);
  assert_int_equal(stats_of(&f).dials, 1);
  assert_int_equal(stats_of(&f).dial_failures, 1);
  /* the longest first pause is 8 ms */
  assert_int_equal(acquire(&f, &b, 1 * SEC + 8 * MS), RM_POOL_DIAL);
  rm_pool_cancel(&b, 1 * SEC + 8 * MS);
  close_pool(&f);
}

static void a_refusal_keeps_the_status_and_code_of_what_the_server_or_tls_said(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  redmoon_error why, err;
  open_sized(&f, 1);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  rm_fail_server(&why, "WRONGPASS invalid username-password pair", 40);
  rm_pool_dial_failed(&a, &why, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &a, 0, 0, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  assert_non_null(strstr(err.message, "invalid username-password pair"));
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(acquire(&f, &a, 1 * SEC), RM_POOL_DIAL);
  rm_fail_phase(&why, REDMOON_ETLS, REDMOON_PHASE_TLS, "certificate has expired");
  rm_pool_dial_failed(&a, &why, 1 * SEC);
  assert_int_equal(rm_pool_acquire(f.pool, &a, 0, 1 * SEC, &err), REDMOON_ETLS);
  assert_string_equal(err.code, "TLS");
  /* but another's deadline is not this caller's */
  assert_int_equal(acquire(&f, &a, 2 * SEC), RM_POOL_DIAL);
  rm_fail_phase(&why, REDMOON_ETIMEOUT, REDMOON_PHASE_DIAL, "no answer within 3000 ms");
  rm_pool_dial_failed(&a, &why, 2 * SEC);
  assert_int_equal(rm_pool_acquire(f.pool, &a, 0, 2 * SEC, &err), REDMOON_ECONNECT);
  close_pool(&f);
}

static void check_pauses(int64_t least, int64_t most) {
  fixture f;
  rm_lease a = {0}, held = {0}, w = {0};
  rm_pool_config config = fixture_config(3);
  int64_t now = 0, longest = 0, shortest = RM_FOREVER;
  config.min_backoff_us = least;
  config.max_backoff_us = most;
  open_pool(config, &f);
  borrow_new(&f, &held, now); /* so that the waiter is told the gate */
  for (int failures = 1; failures <= 400; failures++) {
    assert_int_equal(acquire(&f, &a, now), RM_POOL_DIAL);
    fail_dial(&a, now);
    assert_int_equal(acquire(&f, &w, now), RM_POOL_WAIT);
    int64_t pause = w.wake_us - now, cap = failures < 7 ? least << (failures - 1) : most;
    assert_in_range(pause, 1 * MS, cap);
    if (failures >= 7) longest = rm_max64(longest, pause);
    if (failures >= 7) shortest = rm_min64(shortest, pause);
    rm_pool_cancel(&w, now);
    now += pause;
  }
  /* 394 draws: each of these fails by chance once in 10^17 */
  assert_true(longest > most / 10 * 9);
  assert_true(shortest < most / 10);
  assert_int_equal(acquire(&f, &a, now), RM_POOL_DIAL);
  dial(&a, now); /* the first success ends it */
  assert_int_equal(acquire(&f, &w, now), RM_POOL_DIAL);
  fail_dial(&w, now);
  assert_int_equal(acquire(&f, &w, now), RM_POOL_WAIT);
  assert_in_range(w.wake_us - now, 1 * MS, least);
  rm_pool_cancel(&w, now);
  rm_pool_release(&a, now);
  rm_pool_release(&held, now);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void pauses_between_failing_dials_double_up_to_the_cap_and_have_full_jitter(void **state) {
  (void)state;
  check_pauses(8 * MS, 512 * MS);
  check_pauses(10 * SEC, 640 * SEC);
}

static void dials_that_fail_together_count_as_one_failure(void **state) {
  (void)state;
  fixture f;
  rm_lease dials[20] = {{.pool = NULL}}, held = {0}, w = {0};
  rm_pool_config config = fixture_config(21);
  config.min_backoff_us = 8 * MS;
  config.max_backoff_us = 1000 * SEC;
  open_pool(config, &f);
  borrow_new(&f, &held, 0);
  for (int i = 0; i < 20; i++) assert_int_equal(acquire(&f, &dials[i], 0), RM_POOL_DIAL);
  for (int i = 0; i < 20; i++) fail_dial(&dials[i], 0);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  assert_in_range(w.wake_us, 1 * MS, 8 * MS);
  assert_int_equal(stats_of(&f).dial_failures, 20);
  rm_pool_cancel(&w, 0);
  rm_pool_release(&held, 0);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void while_dials_fail_there_is_one_probe_at_a_time_whoever_asks(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w1 = {0}, w2 = {0};
  redmoon_error err;
  open_sized(&f, 5);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  fail_dial(&a, 0);
  assert_int_equal(acquire(&f, &a, 1 * SEC), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &w1, 1 * SEC), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 1 * SEC), RM_POOL_WAIT);
  assert_int_equal(w1.wake_us, RM_FOREVER); /* the probe's end will tell */
  fail_dial(&a, 2 * SEC);
  assert_true(is_readable(&w1));
  assert_true(is_readable(&w2));
  assert_int_equal(rm_pool_poll(&w1, 2 * SEC, &err), REDMOON_ECONNECT);
  assert_non_null(strstr(err.message, "Connection refused"));
  assert_int_equal(rm_pool_poll(&w2, 2 * SEC, &err), REDMOON_ECONNECT);
  assert_null(w2.pool);
  assert_int_equal(stats_of(&f).dials, 2);
  assert_int_equal(stats_of(&f).timeouts, 0);
  assert_int_equal(stats_of(&f).wait_count, 2);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_successful_probe_lets_all_waiters_dial(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w[3] = {{.pool = NULL}};
  open_sized(&f, 3);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  fail_dial(&a, 0);
  assert_int_equal(acquire(&f, &a, 1 * SEC), RM_POOL_DIAL);
  for (int i = 0; i < 3; i++) assert_int_equal(acquire(&f, &w[i], 1 * SEC), RM_POOL_WAIT);
  dial(&a, 1 * SEC);
  assert_true(is_readable(&w[0]));
  assert_true(is_readable(&w[1]));
  assert_int_equal(rm_pool_poll(&w[0], 1 * SEC, NULL), RM_POOL_DIAL);
  assert_int_equal(rm_pool_poll(&w[1], 1 * SEC, NULL), RM_POOL_DIAL);
  assert_int_equal(rm_pool_poll(&w[2], 1 * SEC, NULL), RM_POOL_WAIT); /* size 3 */
  for (int i = 0; i < 3; i++) rm_pool_cancel(&w[i], 1 * SEC);
  rm_pool_release(&a, 1 * SEC);
  close_pool(&f);
  for (int i = 0; i < 3; i++) rm_lease_fini(&w[i]);
}

static void the_first_waiter_wakes_at_the_gate_and_probes_and_its_successor_is_told(void **state) {
  (void)state;
  fixture f;
  rm_lease held = {0}, a = {0}, w1 = {0}, w2 = {0};
  open_sized(&f, 2);
  borrow_new(&f, &held, 0);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &w1, 0), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 0), RM_POOL_WAIT);
  assert_int_equal(w1.wake_us, RM_FOREVER);
  fail_dial(&a, 1);
  assert_true(is_readable(&w1)); /* nudged: it has to look at the clock now */
  assert_false(is_readable(&w2));
  assert_int_equal(rm_pool_poll(&w1, 1, NULL), RM_POOL_WAIT);
  assert_false(is_readable(&w1));
  int64_t gate = w1.wake_us;
  assert_in_range(gate, 1 + 1 * MS, 1 + 8 * MS);
  rm_pool_cancel(&w1, 2);
  assert_true(is_readable(&w2));
  assert_int_equal(rm_pool_poll(&w2, 2, NULL), RM_POOL_WAIT);
  assert_int_equal(w2.wake_us, gate);
  assert_int_equal(rm_pool_poll(&w2, gate - 1, NULL), RM_POOL_WAIT);
  assert_int_equal(rm_pool_poll(&w2, gate, NULL), RM_POOL_DIAL);
  rm_pool_cancel(&w2, gate);
  rm_pool_release(&held, gate);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_waiter_that_becomes_the_first_by_a_hand_over_is_told_the_gate(void **state) {
  (void)state;
  fixture f;
  rm_lease held = {0}, a = {0}, w1 = {0}, w2 = {0};
  open_sized(&f, 2);
  borrow_new(&f, &held, 0);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  fail_dial(&a, 0);
  assert_int_equal(acquire(&f, &w1, 0), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 0), RM_POOL_WAIT);
  assert_int_equal(w2.wake_us, RM_FOREVER);
  rm_pool_release(&held, 0); /* to w1, who may keep it for ever */
  assert_true(is_readable(&w2));
  assert_int_equal(rm_pool_poll(&w2, 0, NULL), RM_POOL_WAIT);
  assert_int_equal(w2.wake_us, w1.wake_us);
  rm_pool_cancel(&w2, 0);
  assert_int_equal(rm_pool_poll(&w1, 0, NULL), RM_POOL_CONN);
  rm_pool_release(&w1, 0);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void when_the_gate_opens_the_waiter_probes_and_not_the_newcomer(void **state) {
  (void)state;
  fixture f;
  rm_lease held = {0}, a = {0}, w = {0}, late = {0};
  open_sized(&f, 2);
  borrow_new(&f, &held, 0);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  fail_dial(&a, 0);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &late, w.wake_us), RM_POOL_WAIT);
  assert_true(is_readable(&w));
  assert_int_equal(rm_pool_poll(&w, w.wake_us, NULL), RM_POOL_DIAL);
  rm_pool_cancel(&late, 1 * SEC);
  rm_pool_cancel(&w, 1 * SEC);
  rm_pool_release(&held, 1 * SEC);
  close_pool(&f);
  rm_lease_fini(&w);
  rm_lease_fini(&late);
}

static void waiters_are_refused_when_the_last_connection_that_could_come_back_is_gone(void **state) {
  (void)state;
  fixture f;
  rm_lease held = {0}, a = {0}, w = {0};
  open_sized(&f, 2);
  borrow_new(&f, &held, 0);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  fail_dial(&a, 0);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  rm_pool_discard(&held, RM_CLOSE_PEER, 0);
  assert_true(is_readable(&w));
  assert_int_equal(rm_pool_poll(&w, 0, NULL), REDMOON_ECONNECT);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void a_permit_given_back_is_nobodys_failure(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0};
  open_sized(&f, 1);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  rm_pool_cancel(&a, 0);
  assert_int_equal(rm_pool_poll(&w, 0, NULL), RM_POOL_DIAL);
  assert_int_equal(stats_of(&f).dial_failures, 0);
  rm_pool_cancel(&w, 0);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void a_thousand_callers_of_a_dead_server_dial_a_few_times_a_second(void **state) {
  (void)state;
  fixture f;
  rm_lease lease = {0};
  open_sized(&f, 20);
  for (int64_t now = 0; now < 10 * SEC; now += 100) /* 10,000 calls a second for 10 s */
    if (acquire(&f, &lease, now) == RM_POOL_DIAL) fail_dial(&lease, now);
  /* pauses average 256 ms; 160 would need an average of 62 */
  assert_in_range(stats_of(&f).dials, 15, 160);
  close_pool(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(while_dials_fail_and_nothing_can_come_back_a_borrow_is_refused_at_once),
      cmocka_unit_test(a_refusal_keeps_the_status_and_code_of_what_the_server_or_tls_said),
      cmocka_unit_test(pauses_between_failing_dials_double_up_to_the_cap_and_have_full_jitter),
      cmocka_unit_test(dials_that_fail_together_count_as_one_failure),
      cmocka_unit_test(while_dials_fail_there_is_one_probe_at_a_time_whoever_asks),
      cmocka_unit_test(a_successful_probe_lets_all_waiters_dial),
      cmocka_unit_test(the_first_waiter_wakes_at_the_gate_and_probes_and_its_successor_is_told),
      cmocka_unit_test(a_waiter_that_becomes_the_first_by_a_hand_over_is_told_the_gate),
      cmocka_unit_test(when_the_gate_opens_the_waiter_probes_and_not_the_newcomer),
      cmocka_unit_test(waiters_are_refused_when_the_last_connection_that_could_come_back_is_gone),
      cmocka_unit_test(a_permit_given_back_is_nobodys_failure),
      cmocka_unit_test(a_thousand_callers_of_a_dead_server_dial_a_few_times_a_second),
  };
  if (rm_random_init() != 0) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
