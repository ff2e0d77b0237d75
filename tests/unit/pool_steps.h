/* SPDX-License-Identifier: MIT */
/** The steps that tests of the pool are made of.  Include cmocka first. */
#ifndef TESTS_UNIT_POOL_STEPS_H
#define TESTS_UNIT_POOL_STEPS_H

#include "unit/pool_fixture.h"

#include <stdio.h>

static inline void open_pool(rm_pool_config config, fixture *f) {
  const rm_pool_hooks hooks = fixture_hooks(f);
  *f = (fixture){0};
  assert_int_equal(rm_pool_new(&config, &hooks, &f->pool, NULL), 0);
}

static inline void open_sized(fixture *f, int size) { open_pool(fixture_config(size), f); }

static inline void close_pool(fixture *f) {
  redmoon_stats stats = stats_of(f);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.total, stats.idle);
  assert_int_equal(stats.waiting, 0);
  rm_pool_free(f->pool);
}

static inline int acquire(fixture *f, rm_lease *lease, int64_t now) {
  return rm_pool_acquire(f->pool, lease, 0, now, NULL);
}

static inline rm_conn *dial(rm_lease *lease, int64_t now) {
  rm_conn *conn = fixture_conn(-1);
  assert_int_equal(rm_pool_dialed(lease, conn, now, NULL), 0);
  return conn;
}

/* Borrows by dialling. */
static inline rm_conn *borrow_new(fixture *f, rm_lease *lease, int64_t now) {
  assert_int_equal(acquire(f, lease, now), RM_POOL_DIAL);
  return dial(lease, now);
}

static inline void fail_dial(rm_lease *lease, int64_t now) {
  redmoon_error why;
  rm_fail_phase(&why, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "connect to localhost:6379: Connection refused");
  snprintf(why.address, sizeof why.address, "localhost:6379");
  rm_pool_dial_failed(lease, &why, now);
}

#endif
