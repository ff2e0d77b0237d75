/* SPDX-License-Identifier: MIT */
/* What counter, lock and rate limiter do at their heart, over every protocol and transport; the rest of their
 * behaviour does not depend on these: test_counter.c, test_lock.c, test_rate_limiter.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <stdlib.h>
#include <string.h>

#define LOCK_KEY "redmoon:{n}:lock"
#define LOG_KEY "redmoon:{user:1}:rl.log"

/* The scripts are sent by their source first, and by their name later. */
static void forget_scripts(const matrix_cell *cell) {
  redmoon_reply_free(ask(cell->client, "SCRIPT", "FLUSH", NULL));
}

static redmoon_lock *acquire(redmoon_client *client) {
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, "n", 1, NULL, &lock, &err) != 0) fail_msg("%s", err.message);
  return lock;
}

static void lock_is_held_by_one_extended_and_given_back(void **state) {
  matrix_cell *cell = *state;
  forget_scripts(cell);
  redmoon_client *other_client = matrix_open(cell, NULL);
  redmoon_error err;
  for (int round = 0; round < 2; round++) { /* EVAL, then EVALSHA */
    redmoon_lock *lock = acquire(cell->client), *other = NULL;
    char owner[64];
    assert_int_equal(ask_text(cell->client, owner, sizeof owner, "HGET", LOCK_KEY, "owner", NULL), 32);
    assert_string_equal(owner, redmoon_lock_token(lock));
    assert_int_equal(redmoon_lock_acquire(other_client, "n", 1, NULL, &other, &err), REDMOON_ELOCKED);
    assert_null(other);
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
    assert_true(ask_integer(cell->client, "PTTL", LOCK_KEY, NULL) > 10000);
    assert_true(redmoon_lock_held(lock));
    assert_int_equal(redmoon_lock_release(lock, &err), 0);
    assert_int_equal(ask_integer(cell->client, "EXISTS", LOCK_KEY, NULL), 0);
    redmoon_lock_free(lock);
    redmoon_lock_free(acquire(other_client));
    ask_integer(cell->client, "DEL", LOCK_KEY, NULL);
  }
  redmoon_client_close(other_client);
}

static void foreign_release_changes_nothing(void **state) {
  matrix_cell *cell = *state;
  redmoon_error err;
  redmoon_lock *first = acquire(cell->client);
  ask_integer(cell->client, "DEL", LOCK_KEY, NULL);
  redmoon_lock *second = acquire(cell->client);
  char before[512], after[512];
  int64_t len = ask_text(cell->client, before, sizeof before, "DUMP", LOCK_KEY, NULL);
  assert_int_equal(redmoon_lock_extend(first, 60000, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_lock_release(first, &err), REDMOON_ELOST);
  assert_int_equal(ask_text(cell->client, after, sizeof after, "DUMP", LOCK_KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_true(redmoon_lock_held(second));
  assert_int_equal(redmoon_lock_release(second, &err), 0);
  redmoon_lock_free(first);
  redmoon_lock_free(second);
}

/* 64 bits whole, in either protocol. */
static void fence_rises_also_over_flushall(void **state) {
  matrix_cell *cell = *state;
  int64_t fence = 0;
  for (int i = 0; i < 6; i++) {
    redmoon_lock *lock = acquire(cell->client);
    assert_true(redmoon_lock_fence(lock) > fence);
    fence = redmoon_lock_fence(lock);
    char stored[32];
    ask_text(cell->client, stored, sizeof stored, "HGET", LOCK_KEY, "fence", NULL);
    assert_true(strtoll(stored, NULL, 10) == fence);
    redmoon_error err;
    if (i % 2 == 0) redmoon_reply_free(ask(cell->client, "FLUSHALL", NULL));
    else assert_int_equal(redmoon_lock_release(lock, &err), 0);
    redmoon_lock_free(lock);
  }
}

static redmoon_rate_limiter *limiter_of(redmoon_client *client, int64_t limit) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = "sliding_log";
  options.limit = limit;
  options.window_ms = 3600000;
  redmoon_rate_limiter *limiter = NULL;
  redmoon_error err;
  if (redmoon_rate_limiter_new(client, &options, &limiter, &err) != 0) fail_msg("%s", err.message);
  return limiter;
}

static redmoon_rate_result allow(redmoon_rate_limiter *limiter, int64_t cost) {
  redmoon_rate_result result = {0};
  redmoon_error err;
  if (redmoon_rate_limiter_allow(limiter, "user:1", 6, cost, &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static redmoon_rate_result peek(redmoon_rate_limiter *limiter) {
  redmoon_rate_result result = {0};
  redmoon_error err;
  if (redmoon_rate_limiter_peek(limiter, "user:1", 6, &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static void limit_is_let_through_refused_beyond_and_reset(void **state) {
  matrix_cell *cell = *state;
  forget_scripts(cell);
  redmoon_rate_limiter *limiter = limiter_of(cell->client, 3);
  for (int round = 0; round < 2; round++) { /* EVAL, then EVALSHA */
    assert_int_equal(peek(limiter).remaining, 3);
    for (int i = 0; i < 3; i++) {
      redmoon_rate_result result = allow(limiter, 1);
      assert_true(result.allowed);
      assert_int_equal(result.remaining, 2 - i);
      assert_int_equal(result.retry_after_us, 0);
    }
    assert_int_equal(ask_integer(cell->client, "LLEN", LOG_KEY, NULL), 3);
    redmoon_rate_result result = allow(limiter, 1);
    assert_false(result.allowed);
    assert_int_equal(result.remaining, 0);
    assert_true(result.retry_after_us > 0 && result.retry_after_us <= INT64_C(3600000000));
    assert_true(result.reset_after_us >= result.retry_after_us && result.reset_after_us <= INT64_C(3600000000));
    assert_false(peek(limiter).allowed);
    redmoon_error err;
    assert_int_equal(redmoon_rate_limiter_reset(limiter, "user:1", 6, &err), 0);
    assert_int_equal(ask_integer(cell->client, "EXISTS", LOG_KEY, NULL), 0);
  }
  redmoon_rate_limiter_free(limiter);
}

static void refusal_leaves_the_log_as_it_was(void **state) {
  matrix_cell *cell = *state;
  redmoon_rate_limiter *limiter = limiter_of(cell->client, 3);
  allow(limiter, 2);
  char before[256], after[256];
  int64_t len = ask_text(cell->client, before, sizeof before, "DUMP", LOG_KEY, NULL);
  assert_true(len > 0);
  assert_false(allow(limiter, 2).allowed);
  assert_true(allow(limiter, 4).retry_after_us == REDMOON_NEVER);
  assert_int_equal(peek(limiter).remaining, 1);
  assert_int_equal(ask_text(cell->client, after, sizeof after, "DUMP", LOG_KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  redmoon_rate_limiter_free(limiter);
}

/* 64 bits whole, alone and among many. */
static void counter_is_exact_alone_and_among_many(void **state) {
  matrix_cell *cell = *state;
  forget_scripts(cell);
  redmoon_counter *counter = NULL;
  redmoon_counter_result one, many[3];
  redmoon_error err, errors[3];
  assert_int_equal(redmoon_counter_new(cell->client, "hits", NULL, &counter, &err), 0);
  for (int round = 0; round < 2; round++) { /* EVAL, then EVALSHA */
    if (redmoon_counter_increment(counter, "user:1", 6, INT64_MAX, NULL, &one, &err) != 0) fail_msg("%s", err.message);
    assert_true(one.value == INT64_MAX && one.applied == INT64_MAX && one.ttl_ms == -1);
    const redmoon_counter_item items[] = {{"user:1", 6, 1, NULL}, {"user:1", 6, INT64_MIN, NULL}, {"user:1", 6, 0, NULL}};
    assert_int_equal(redmoon_counter_increment_many(counter, items, 3, many, errors, &err), 0);
    assert_int_equal(many[0].status, REDMOON_ESERVER);
    assert_string_equal(errors[0].code, "OVERFLOW");
    assert_true(many[1].value == -1 && many[1].applied == INT64_MIN);
    assert_true(many[2].value == -1 && many[2].applied == 0);
    assert_int_equal(redmoon_counter_get(counter, "user:1", 6, &one, &err), 0);
    assert_true(one.exists && one.value == -1);
    assert_int_equal(redmoon_counter_reset(counter, "user:1", 6, &err), 0);
  }
  redmoon_counter_free(counter);
}

int main(void) {
  static const matrix_test tests[] = {
      MATRIX_TEST(counter_is_exact_alone_and_among_many),
      MATRIX_TEST(lock_is_held_by_one_extended_and_given_back),
      MATRIX_TEST(foreign_release_changes_nothing),
      MATRIX_TEST(fence_rises_also_over_flushall),
      MATRIX_TEST(limit_is_let_through_refused_beyond_and_reset),
      MATRIX_TEST(refusal_leaves_the_log_as_it_was),
  };
  return matrix_run("patterns", tests, sizeof tests / sizeof tests[0]);
}
