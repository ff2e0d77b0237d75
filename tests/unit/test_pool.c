/* SPDX-License-Identifier: MIT */
/* Lending and waiting: what the pool promises, one behaviour at a time, in virtual time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "unit/pool_steps.h"

#include <sys/resource.h>

enum { ALICE = 11, BOB = 12 };

static void an_empty_pool_asks_to_dial_and_lends_what_was_dialled(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  open_sized(&f, 2);
  rm_conn *conn = borrow_new(&f, &a, 1 * SEC);
  assert_ptr_equal(a.conn, conn);
  assert_int_equal(conn->created_us, 1 * SEC);
  assert_int_equal(stats_of(&f).in_use, 1);
  rm_pool_release(&a, 1 * SEC);
  assert_null(a.pool);
  assert_int_equal(stats_of(&f).idle, 1);
  assert_int_equal(acquire(&f, &a, 2 * SEC), RM_POOL_CONN);
  assert_ptr_equal(a.conn, conn);
  rm_pool_release(&a, 2 * SEC);
  close_pool(&f);
  assert_int_equal(f.closed[RM_CLOSE_SHUTDOWN], 1);
}

static void the_most_recently_used_idle_connection_is_lent_first(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  open_sized(&f, 2);
  borrow_new(&f, &a, 0);
  rm_conn *last = borrow_new(&f, &b, 0);
  rm_pool_release(&a, 1);
  rm_pool_release(&b, 2);
  assert_int_equal(acquire(&f, &a, 3), RM_POOL_CONN);
  assert_ptr_equal(a.conn, last);
  rm_pool_release(&a, 4);
  close_pool(&f);
}

static void an_unusable_idle_connection_is_closed_with_its_reason_and_the_next_is_tried(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0}, c = {0};
  open_sized(&f, 3);
  rm_conn *good = borrow_new(&f, &a, 0), *peer = borrow_new(&f, &b, 0), *dirty = borrow_new(&f, &c, 0);
  rm_pool_release(&a, 1);
  rm_pool_release(&b, 1);
  rm_pool_release(&c, 1);
  peer->client_id = ID_PEER;
  dirty->client_id = ID_DIRTY;
  assert_int_equal(acquire(&f, &a, 2), RM_POOL_CONN);
  assert_ptr_equal(a.conn, good);
  redmoon_stats stats = stats_of(&f);
  assert_int_equal(stats.closed_peer, 1);
  assert_int_equal(stats.closed_dirty, 1);
  assert_int_equal(stats.total, 1);
  assert_int_equal(stats.hits, 1);
  good->client_id = ID_PEER;
  rm_pool_release(&a, 3);
  assert_int_equal(acquire(&f, &a, 4), RM_POOL_DIAL);
  assert_int_equal(stats_of(&f).hits, 1);
  assert_int_equal(stats_of(&f).misses, 4);
  rm_pool_cancel(&a, 5);
  close_pool(&f);
}

static void more_than_max_idle_are_closed_at_release(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  rm_pool_config config = fixture_config(2);
  config.max_idle = 1;
  open_pool(config, &f);
  borrow_new(&f, &a, 0);
  borrow_new(&f, &b, 0);
  rm_pool_release(&a, 1);
  rm_pool_release(&b, 1);
  assert_int_equal(stats_of(&f).idle, 1);
  assert_int_equal(stats_of(&f).closed_idle, 1);
  close_pool(&f);
}

static void a_discarded_connection_is_closed_with_the_reason_and_frees_its_slot(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  rm_pool_discard(&a, RM_CLOSE_ERROR, 1);
  assert_int_equal(f.closed[RM_CLOSE_ERROR], 1);
  assert_int_equal(stats_of(&f).closed_error, 1);
  assert_int_equal(stats_of(&f).total, 0);
  borrow_new(&f, &a, 2);
  rm_pool_cancel(&a, 3);
  assert_int_equal(f.closed[RM_CLOSE_DIRTY], 1);
  close_pool(&f);
}

static void ending_a_lease_twice_changes_nothing(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  rm_pool_release(&a, 1);
  rm_pool_release(&a, 1);
  rm_pool_discard(&a, RM_CLOSE_ERROR, 1);
  rm_pool_cancel(&a, 1);
  rm_pool_dial_failed(&a, NULL, 1);
  assert_int_equal(rm_pool_poll(&a, 1, NULL), REDMOON_ECONFIG);
  assert_int_equal(stats_of(&f).idle, 1);
  assert_int_equal(stats_of(&f).dial_failures, 0);
  close_pool(&f);
}

static void a_lease_in_use_cannot_begin_a_second_borrow(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  redmoon_error err;
  open_sized(&f, 2);
  borrow_new(&f, &a, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &a, 0, 1, &err), REDMOON_ECONFIG);
  assert_int_equal(stats_of(&f).in_use, 1);
  rm_pool_release(&a, 1);
  close_pool(&f);
}

static void a_pool_without_room_is_refused(void **state) {
  (void)state;
  rm_pool_config config = fixture_config(0);
  const rm_pool_hooks hooks = {0};
  rm_pool *pool;
  redmoon_error err;
  assert_int_equal(rm_pool_new(&config, &hooks, &pool, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "pool_size is 0"));
  assert_null(pool);
}

static bool refuse_nth(void *ctx, size_t size) {
  int *left = ctx;
  (void)size;
  return --*left == 0;
}

static void a_pool_that_gets_no_memory_is_not_made_and_leaks_nothing(void **state) {
  (void)state;
  rm_pool_config config = fixture_config(4);
  const rm_pool_hooks hooks = {0};
  for (int n = 1; n <= 3; n++) {
    int left = n;
    rm_pool *pool;
    rm_alloc_set_refuse(refuse_nth, &left);
    int status = rm_pool_new(&config, &hooks, &pool, NULL);
    rm_alloc_set_refuse(NULL, NULL);
    assert_int_equal(status, REDMOON_ENOMEM);
    assert_null(pool);
  }
}

static void waiters_are_served_in_the_order_they_came(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w[3] = {{.pool = NULL}};
  open_sized(&f, 1);
  rm_conn *conn = borrow_new(&f, &a, 0);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(acquire(&f, &w[i], 10 + i), RM_POOL_WAIT);
    assert_int_equal(w[i].wake_us, RM_FOREVER);
    assert_false(is_readable(&w[i]));
  }
  rm_lease *holder = &a;
  for (int i = 0; i < 3; i++) {
    rm_pool_release(holder, 100);
    assert_true(is_readable(&w[i]));
    for (int j = i + 1; j < 3; j++) {
      assert_false(is_readable(&w[j]));
      assert_int_equal(rm_pool_poll(&w[j], 100, NULL), RM_POOL_WAIT);
    }
    assert_int_equal(rm_pool_poll(&w[i], 100, NULL), RM_POOL_CONN);
    assert_false(is_readable(&w[i]));
    assert_ptr_equal(w[i].conn, conn);
    holder = &w[i];
  }
  rm_pool_release(holder, 200);
  redmoon_stats stats = stats_of(&f);
  assert_int_equal(stats.wait_count, 3);
  assert_int_equal(stats.wait_time_us, 90 + 89 + 88);
  assert_int_equal(stats.hits, 3);
  assert_int_equal(stats.misses, 1);
  close_pool(&f);
  for (int i = 0; i < 3; i++) rm_lease_fini(&w[i]);
}

static void a_newcomer_does_not_overtake_a_waiter_that_was_granted_or_not(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0}, late = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w, 1), RM_POOL_WAIT);
  rm_pool_release(&a, 2);
  assert_int_equal(acquire(&f, &late, 3), RM_POOL_WAIT);
  assert_int_equal(rm_pool_poll(&w, 4, NULL), RM_POOL_CONN);
  rm_pool_release(&w, 5);
  assert_int_equal(rm_pool_poll(&late, 6, NULL), RM_POOL_CONN);
  rm_pool_release(&late, 7);
  close_pool(&f);
  rm_lease_fini(&w);
  rm_lease_fini(&late);
}

static void a_freed_slot_goes_to_the_longest_waiter_as_a_permit(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w, 1), RM_POOL_WAIT);
  rm_pool_discard(&a, RM_CLOSE_PEER, 2);
  assert_true(is_readable(&w));
  assert_int_equal(rm_pool_poll(&w, 3, NULL), RM_POOL_DIAL);
  assert_int_equal(stats_of(&f).misses, 2);
  dial(&w, 4);
  rm_pool_release(&w, 5);
  close_pool(&f);
  rm_lease_fini(&w);
}

static rm_lease *watched; /* by the next hook */
static int readable_in_hook;

static void watching_close(void *ctx, rm_conn *conn, rm_close_reason why) {
  readable_in_hook += is_readable(watched);
  hook_close(ctx, conn, why);
}

static void the_slot_is_granted_only_after_the_old_connection_is_closed(void **state) {
  (void)state;
  fixture f = {0};
  rm_lease a = {0}, w = {0};
  rm_pool_config config = fixture_config(1);
  rm_pool_hooks hooks = fixture_hooks(&f);
  hooks.close = watching_close;
  assert_int_equal(rm_pool_new(&config, &hooks, &f.pool, NULL), 0);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w, 1), RM_POOL_WAIT);
  watched = &w;
  readable_in_hook = 0;
  rm_pool_discard(&a, RM_CLOSE_PEER, 2);
  assert_int_equal(readable_in_hook, 0);
  assert_int_equal(rm_pool_poll(&w, 3, NULL), RM_POOL_DIAL);
  rm_pool_cancel(&w, 4);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void a_waiter_that_cancels_after_its_grant_passes_it_on(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w1 = {0}, w2 = {0};
  open_sized(&f, 1);
  rm_conn *conn = borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w1, 1), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 1), RM_POOL_WAIT);
  rm_pool_release(&a, 2);
  rm_pool_cancel(&w1, 3);
  assert_false(is_readable(&w1)); /* ready for its next use */
  assert_int_equal(rm_pool_poll(&w2, 3, NULL), RM_POOL_CONN);
  assert_ptr_equal(w2.conn, conn);
  assert_int_equal(stats_of(&f).hits, 1);
  assert_int_equal(acquire(&f, &w1, 4), RM_POOL_WAIT);
  rm_pool_discard(&w2, RM_CLOSE_ERROR, 5); /* now a permit, granted and never fetched */
  assert_int_equal(acquire(&f, &a, 6), RM_POOL_WAIT);
  rm_pool_cancel(&w1, 7);
  assert_int_equal(rm_pool_poll(&a, 8, NULL), RM_POOL_DIAL);
  assert_int_equal(stats_of(&f).misses, 2);
  assert_int_equal(stats_of(&f).dials, 2);
  rm_pool_cancel(&a, 9);
  close_pool(&f);
  rm_lease_fini(&a);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_grant_nobody_else_waits_for_becomes_idle_and_upkeep_hears_of_it(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0};
  rm_pool_config config = fixture_config(1);
  config.max_idle_time_us = 60 * SEC;
  open_pool(config, &f);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w, 1), RM_POOL_WAIT);
  rm_pool_release(&a, 2);
  assert_int_equal(f.due, 0);
  rm_pool_cancel(&w, 3);
  assert_int_equal(stats_of(&f).idle, 1);
  assert_int_equal(f.due, 1);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void a_cancelled_waiter_leaves_the_queue(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w1 = {0}, w2 = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w1, 1), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 1), RM_POOL_WAIT);
  rm_pool_cancel(&w1, 2);
  assert_int_equal(stats_of(&f).waiting, 1);
  rm_pool_release(&a, 3);
  assert_int_equal(rm_pool_poll(&w2, 3, NULL), RM_POOL_CONN);
  rm_pool_release(&w2, 3);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_timeout_names_the_limits_the_users_and_the_last_dial_error(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0}, w1 = {0}, w2 = {0};
  redmoon_error err;
  open_sized(&f, 2);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &b, 3 * SEC), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &w1, 4 * SEC), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 4 * SEC), RM_POOL_WAIT);
  assert_int_equal(rm_pool_timed_out(&w1, 7 * SEC, &err), REDMOON_EPOOL_TIMEOUT);
  assert_string_equal(err.message,
                      "pool redis://localhost:6379: no connection became free within 3000 ms (size 2: 1 in "
                      "use, 0 idle, 1 being dialled; 2 waiting; oldest lease 7.0 s; last dial error: none)");
  assert_string_equal(err.code, "POOL_TIMEOUT");
  assert_int_equal(err.phase, REDMOON_PHASE_POOL);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_null(w1.pool);
  fail_dial(&b, 7 * SEC);
  assert_int_equal(rm_pool_timed_out(&w2, 7 * SEC, &err), REDMOON_EPOOL_TIMEOUT);
  assert_non_null(strstr(err.message, "last dial error: connect to localhost:6379: Connection refused)"));
  assert_int_equal(stats_of(&f).timeouts, 2);
  assert_int_equal(stats_of(&f).wait_count, 2);
  assert_int_equal(stats_of(&f).wait_time_us, 6 * SEC);
  rm_pool_release(&a, 8 * SEC);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_timeout_in_the_moment_of_the_grant_passes_it_on(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w1 = {0}, w2 = {0};
  redmoon_error err;
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w1, 0), RM_POOL_WAIT);
  assert_int_equal(acquire(&f, &w2, 0), RM_POOL_WAIT);
  rm_pool_release(&a, 2 * SEC);
  assert_int_equal(rm_pool_timed_out(&w1, 3 * SEC, &err), REDMOON_EPOOL_TIMEOUT);
  assert_non_null(strstr(err.message, "within 3000 ms"));
  assert_int_equal(rm_pool_poll(&w2, 3 * SEC, NULL), RM_POOL_CONN);
  rm_pool_release(&w2, 3 * SEC);
  close_pool(&f);
  rm_lease_fini(&w1);
  rm_lease_fini(&w2);
}

static void a_caller_that_holds_all_connections_itself_is_told_so_at_once(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0}, c = {0};
  redmoon_error err;
  open_sized(&f, 2);
  assert_int_equal(rm_pool_acquire(f.pool, &a, ALICE, 0, NULL), RM_POOL_DIAL);
  dial(&a, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &b, ALICE, 0, NULL), RM_POOL_DIAL);
  dial(&b, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &c, ALICE, 1, &err), REDMOON_EPOOL_DEADLOCK);
  assert_string_equal(err.code, "POOL_DEADLOCK");
  assert_non_null(strstr(err.message, "size 2"));
  assert_non_null(strstr(err.message, "raise pool_size"));
  assert_null(c.pool);
  /* others, and callers that nobody knows, may wait */
  assert_int_equal(rm_pool_acquire(f.pool, &c, BOB, 1, NULL), RM_POOL_WAIT);
  rm_pool_cancel(&c, 1);
  assert_int_equal(rm_pool_acquire(f.pool, &c, 0, 1, NULL), RM_POOL_WAIT);
  rm_pool_cancel(&c, 1);
  rm_pool_release(&b, 1);
  assert_int_equal(rm_pool_acquire(f.pool, &b, BOB, 1, NULL), RM_POOL_CONN);
  /* one of Bob's can come back */
  assert_int_equal(rm_pool_acquire(f.pool, &c, ALICE, 1, NULL), RM_POOL_WAIT);
  rm_pool_release(&b, 2);
  assert_int_equal(rm_pool_poll(&c, 2, NULL), RM_POOL_CONN);
  rm_pool_release(&c, 3);
  rm_pool_release(&a, 3);
  close_pool(&f);
  rm_lease_fini(&c);
}

/* Alice and Bob keep one of two each.  Alice waits for Bob's, so Bob must not wait for hers. */
static void callers_that_wait_for_each_other_are_told_so(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {.keeps = true}, b = {.keeps = true}, c = {0}, d = {0};
  redmoon_error err;
  open_sized(&f, 2);
  assert_int_equal(rm_pool_acquire(f.pool, &a, ALICE, 0, NULL), RM_POOL_DIAL);
  dial(&a, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &b, BOB, 0, NULL), RM_POOL_DIAL);
  dial(&b, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &c, ALICE, 1, NULL), RM_POOL_WAIT);
  assert_int_equal(rm_pool_acquire(f.pool, &d, BOB, 1, &err), REDMOON_EPOOL_DEADLOCK);
  assert_non_null(strstr(err.message, "(size 2) are kept by transactions whose callers wait for one more, and 1 of them by this"));
  /* a third one, of whom nobody waits, may wait; so may one that nobody knows */
  assert_int_equal(rm_pool_acquire(f.pool, &d, 3, 1, NULL), RM_POOL_WAIT);
  assert_int_equal(rm_pool_timed_out(&d, 1000, &err), REDMOON_EPOOL_TIMEOUT);
  assert_non_null(strstr(err.message, "(size 2: 2 in use, 2 of them kept by transactions, 0 idle"));
  assert_int_equal(rm_pool_acquire(f.pool, &d, 0, 1, NULL), RM_POOL_WAIT);
  rm_pool_cancel(&d, 1);
  /* what Bob gives back is Alice's */
  rm_pool_release(&b, 2);
  assert_int_equal(rm_pool_poll(&c, 2, NULL), RM_POOL_CONN);
  rm_pool_release(&c, 3);
  rm_pool_release(&a, 3);
  close_pool(&f);
  rm_lease_fini(&c);
  rm_lease_fini(&d);
}

/* Alice's is a call under way: she waits elsewhere, but it gives its connection back by itself. */
static void a_call_under_way_is_waited_for(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {.keeps = true}, c = {0}, d = {0};
  open_sized(&f, 2);
  assert_int_equal(rm_pool_acquire(f.pool, &a, ALICE, 0, NULL), RM_POOL_DIAL);
  dial(&a, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &b, BOB, 0, NULL), RM_POOL_DIAL);
  dial(&b, 0);
  assert_int_equal(rm_pool_acquire(f.pool, &c, ALICE, 1, NULL), RM_POOL_WAIT);
  assert_int_equal(rm_pool_acquire(f.pool, &d, BOB, 1, NULL), RM_POOL_WAIT);
  rm_pool_release(&a, 2);
  assert_int_equal(rm_pool_poll(&c, 2, NULL), RM_POOL_CONN);
  rm_pool_release(&c, 3);
  assert_int_equal(rm_pool_poll(&d, 3, NULL), RM_POOL_CONN);
  rm_pool_release(&d, 4);
  rm_pool_release(&b, 4);
  close_pool(&f);
  rm_lease_fini(&c);
  rm_lease_fini(&d);
}

static void without_a_descriptor_to_wait_on_the_borrow_fails_and_nothing_is_lost(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0};
  redmoon_error err;
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  struct rlimit old, none = {0, 0};
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
  none.rlim_max = old.rlim_max;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  int status = rm_pool_acquire(f.pool, &w, 0, 1, &err);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
  assert_int_equal(status, REDMOON_EUNAVAILABLE);
  assert_null(w.pool);
  assert_int_equal(stats_of(&f).waiting, 0);
  assert_int_equal(acquire(&f, &w, 2), RM_POOL_WAIT);
  rm_pool_release(&a, 2);
  assert_int_equal(rm_pool_poll(&w, 2, NULL), RM_POOL_CONN);
  rm_pool_release(&w, 2);
  close_pool(&f);
  rm_lease_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_pool_asks_to_dial_and_lends_what_was_dialled),
      cmocka_unit_test(the_most_recently_used_idle_connection_is_lent_first),
      cmocka_unit_test(an_unusable_idle_connection_is_closed_with_its_reason_and_the_next_is_tried),
      cmocka_unit_test(more_than_max_idle_are_closed_at_release),
      cmocka_unit_test(a_discarded_connection_is_closed_with_the_reason_and_frees_its_slot),
      cmocka_unit_test(ending_a_lease_twice_changes_nothing),
      cmocka_unit_test(a_lease_in_use_cannot_begin_a_second_borrow),
      cmocka_unit_test(a_pool_without_room_is_refused),
      cmocka_unit_test(a_pool_that_gets_no_memory_is_not_made_and_leaks_nothing),
      cmocka_unit_test(waiters_are_served_in_the_order_they_came),
      cmocka_unit_test(a_newcomer_does_not_overtake_a_waiter_that_was_granted_or_not),
      cmocka_unit_test(a_freed_slot_goes_to_the_longest_waiter_as_a_permit),
      cmocka_unit_test(the_slot_is_granted_only_after_the_old_connection_is_closed),
      cmocka_unit_test(a_waiter_that_cancels_after_its_grant_passes_it_on),
      cmocka_unit_test(a_grant_nobody_else_waits_for_becomes_idle_and_upkeep_hears_of_it),
      cmocka_unit_test(a_cancelled_waiter_leaves_the_queue),
      cmocka_unit_test(a_timeout_names_the_limits_the_users_and_the_last_dial_error),
      cmocka_unit_test(a_timeout_in_the_moment_of_the_grant_passes_it_on),
      cmocka_unit_test(a_caller_that_holds_all_connections_itself_is_told_so_at_once),
      cmocka_unit_test(callers_that_wait_for_each_other_are_told_so),
      cmocka_unit_test(a_call_under_way_is_waited_for),
      cmocka_unit_test(without_a_descriptor_to_wait_on_the_borrow_fails_and_nothing_is_lost),
  };
  if (rm_random_init() != 0) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
