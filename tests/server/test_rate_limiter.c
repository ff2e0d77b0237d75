/* SPDX-License-Identifier: MIT */
/* The rate limiter through the public interface, on a server of the test's own.  What the scripts decide is proved
 * in tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "server/rate.h"
#include "support/cutter.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KEY "redmoon:{user:1}:rl.log"

static void limit_is_let_through_and_no_more(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 3, 60000, NULL);
  for (int i = 0; i < 3; i++) {
    redmoon_rate_result result = allow(limiter, "user:1", 1);
    assert_true(result.allowed);
    assert_int_equal(result.limit, 3);
    assert_int_equal(result.remaining, 2 - i);
    assert_int_equal(result.retry_after_us, 0);
    assert_int_equal(result.reset_after_us, 60000000);
  }
  redmoon_rate_result result = allow(limiter, "user:1", 1);
  assert_false(result.allowed);
  assert_int_equal(result.remaining, 0);
  assert_true(result.retry_after_us > 0 && result.retry_after_us <= 60000000);
  assert_true(result.reset_after_us >= result.retry_after_us && result.reset_after_us <= 60000000);
  int64_t left = ask_integer(f->client, "PTTL", KEY, NULL);
  assert_true(left > 0 && left <= 60001);
  redmoon_rate_limiter_free(limiter);
}

static void refusal_and_peek_change_nothing(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 3, 60000, NULL);
  redmoon_rate_result result = peek(limiter, "user:1");
  assert_true(result.allowed);
  assert_int_equal(result.remaining, 3);
  assert_int_equal(result.reset_after_us, 0);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  allow(limiter, "user:1", 2);
  char before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  assert_false(allow(limiter, "user:1", 2).allowed);
  assert_int_equal(peek(limiter, "user:1").remaining, 1);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  redmoon_rate_limiter_free(limiter);
}

static void cost_above_the_limit_is_never_allowed(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 3, 60000, NULL);
  redmoon_rate_result result = allow(limiter, "user:1", 4);
  assert_false(result.allowed);
  assert_true(result.retry_after_us == REDMOON_NEVER);
  assert_int_equal(result.remaining, 3);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_rate_limiter_free(limiter);
}

static void window_that_passed_frees_its_units(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 2, 40, NULL);
  int64_t before = server_us(f->client);
  assert_true(allow(limiter, "user:1", 2).allowed);
  while (!allow(limiter, "user:1", 2).allowed) { /* asks again: a refusal costs nothing */
  }
  assert_true(server_us(f->client) - before >= 40000);
  redmoon_rate_limiter_free(limiter);
}

static void reset_forgets_what_was_used(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 3, 60000, NULL);
  allow(limiter, "user:1", 3);
  allow(limiter, "user:2", 3);
  assert_int_equal(redmoon_rate_limiter_reset(limiter, "user:1", 6, &err), 0);
  assert_int_equal(redmoon_rate_limiter_reset(limiter, "user:3", 6, &err), 0);
  assert_int_equal(peek(limiter, "user:1").remaining, 3);
  assert_int_equal(peek(limiter, "user:2").remaining, 0);
  redmoon_rate_limiter_free(limiter);
}

static void limiters_of_different_name_share_nothing(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *reads = limiter_of(f->client, 3, 60000, "reads");
  redmoon_rate_limiter *writes = limiter_of(f->client, 3, 60000, "writes");
  allow(reads, "user:1", 3);
  assert_int_equal(peek(writes, "user:1").remaining, 3);
  allow(writes, "user:1", 1);
  assert_int_equal(
      ask_integer(f->client, "EXISTS", "redmoon:{user:1}:reads.log", "redmoon:{user:1}:writes.log", NULL), 2);
  redmoon_rate_limiter_free(reads);
  redmoon_rate_limiter_free(writes);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  enum { NONE = -7777 }; /* stands for REDMOON_UNSET, which is no int */
  static const struct {
    const char *algorithm;
    int64_t limit, window_ms, burst, buckets;
    const char *name, *calendar, *on_error, *message;
  } bad[] = {
      {NULL, NONE, 1000, NONE, NONE, NULL, NULL, NULL, "option limit is missing; give 1 to 100000"},
      {NULL, 0, 1000, NONE, NONE, NULL, NULL, NULL, "option limit: 0 is not accepted; give 1 to 100000"},
      {NULL, 100001, 1000, NONE, NONE, NULL, NULL, NULL, "option limit: 100001 is not accepted"},
      {"gcra", 1000000001, 1000, NONE, NONE, NULL, NULL, NULL, "give 1 to 1000000000"},
      {NULL, 5, NONE, NONE, NONE, NULL, NULL, NULL, "option window is missing; give 1 to 31622400000 ms"},
      {NULL, 5, 0, NONE, NONE, NULL, NULL, NULL, "option window: 0 ms is not accepted"},
      {NULL, 5, INT64_C(31622400001), NONE, NONE, NULL, NULL, NULL, "option window: 31622400001 ms is not accepted"},
      {"leaky", 5, 1000, NONE, NONE, NULL, NULL, NULL,
       "option algorithm: 'leaky' is not accepted; give \"buckets\", \"fixed_window\", \"gcra\", \"sliding_log\" "
       "or \"sliding_window\""},
      {NULL, 5, 1000, NONE, NONE, "", NULL, NULL, "option name: '' is not accepted"},
      {NULL, 5, 1000, NONE, NONE, "a:b", NULL, NULL, "option name: 'a:b' is not accepted; give 1 to 64 letters"},
      {NULL, 5, 1000, NONE, NONE, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, NULL,
       "give 1 to 64 letters"},
      {"sliding_log", 5, 1000, 5, NONE, NULL, NULL, NULL,
       "option burst belongs to the algorithm \"gcra\", not to \"sliding_log\""},
      {"gcra", 5, 1000, NONE, 5, NULL, NULL, NULL, "option buckets belongs to the algorithm \"buckets\""},
      {"gcra", 5, NONE, NONE, NONE, NULL, "day", NULL, "option calendar belongs to the algorithm \"fixed_window\""},
      {"gcra", 5, 1000, 0, NONE, NULL, NULL, NULL, "option burst: 0 is not accepted; give 1 to 1000000000"},
      {"gcra", 7, INT64_C(31622400000), 1000, NONE, NULL, NULL, NULL,
       "options limit, window and burst: together too large to be counted exactly; with this window give at most 284"},
      {"sliding_window", 1000, INT64_C(31622400000), NONE, NONE, NULL, NULL, NULL,
       "options limit and window: together too large to be counted exactly; with this window give at most 284"},
      {"buckets", 5, 1000, NONE, 61, NULL, NULL, NULL, "option buckets: 61 is not accepted; give 1 to 60"},
      {"fixed_window", 5, NONE, NONE, NONE, NULL, "week", NULL,
       "option calendar: 'week' is not accepted; give \"minute\", \"hour\" or \"day\""},
      {"fixed_window", 5, 1000, NONE, NONE, NULL, "hour", NULL,
       "option window: 1000 ms is not accepted with calendar \"hour\"; leave it out"},
      {"gcra", 5, 1000, NONE, NONE, NULL, NULL, "open",
       "option on_error: 'open' is not accepted; give \"error\", \"allow\" or \"deny\""},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_rate_limiter *limiter = NULL;
    redmoon_error err;
    redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
    options.algorithm = bad[i].algorithm;
    options.name = bad[i].name;
    options.calendar = bad[i].calendar;
    options.on_error = bad[i].on_error;
    if (bad[i].limit != NONE) options.limit = bad[i].limit;
    if (bad[i].window_ms != NONE) options.window_ms = bad[i].window_ms;
    if (bad[i].burst != NONE) options.burst = bad[i].burst;
    if (bad[i].buckets != NONE) options.buckets = bad[i].buckets;
    assert_int_equal(redmoon_rate_limiter_new(f->client, &options, &limiter, &err), REDMOON_ECONFIG);
    assert_null(limiter);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
}

static void bad_key_and_cost_are_refused_and_nothing_is_sent(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 5, 1000, NULL);
  redmoon_rate_result result;
  redmoon_error err;
  static char key[513];
  static const int64_t bad[] = {-1, 0, 1001, INT64_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_rate_request request = {bad[i], 0, NULL};
    assert_int_equal(redmoon_rate_limiter_allow(limiter, "k", 1, &request, &result, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "give 1 to 1000"));
  }
  assert_int_equal(redmoon_rate_limiter_allow(limiter, key, 0, NULL, &result, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_rate_limiter_peek(limiter, key, 513, &result, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_rate_limiter_reset(limiter, NULL, 5, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_rate_limiter_free(limiter);
}

static void lost_answer_of_allow_is_unknown_and_takes_once(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_rate_limiter *limiter = limiter_of(through, 5, 60000, NULL);
  redmoon_rate_result result;
  redmoon_rate_request two = {2, 0, NULL};
  cutter_lose(c, 1);
  assert_true(redmoon_rate_limiter_allow(limiter, "user:1", 6, &two, &result, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(ask_integer(f->client, "LLEN", KEY, NULL), 2);
  cutter_lose(c, 1); /* a peek is repeated */
  assert_int_equal(peek(limiter, "user:1").remaining, 3);
  assert_int_equal(cutter_left(c), 0);
  redmoon_rate_limiter_free(limiter);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void operation_outlives_the_limiter(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 5, 60000, NULL);
  redmoon_rate_result result = {0};
  redmoon_op *op;
  redmoon_rate_request two = {2, 0, NULL};
  assert_int_equal(redmoon_rate_limiter_allow_start(limiter, "user:1", 6, &two, &result, &op, &err), 0);
  redmoon_rate_limiter_free(limiter);
  while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
  }
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_true(result.allowed);
  assert_int_equal(result.remaining, 3);
}

static bool refuse_at(void *ctx, size_t size) {
  (void)size;
  int *left = ctx;
  return (*left)-- == 0;
}

/* What a refused allocation would leak is seen by the leak checker. */
static void lack_of_memory_at_any_point_is_reported_and_leaks_nothing(void **state) {
  fixture *f = *state;
  redmoon_error err;
  bool refused = true;
  for (int at = 0; refused; at++) {
    redmoon_client *own; /* a new one each time: a dial that failed makes a pool wait before the next */
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
    options.limit = 100000;
    options.window_ms = 60000;
    redmoon_rate_limiter *limiter = NULL;
    redmoon_rate_result result;
    int left = at;
    rm_alloc_set_refuse(refuse_at, &left);
    int status = redmoon_rate_limiter_new(own, &options, &limiter, &err);
    if (status == 0) status = redmoon_rate_limiter_allow(limiter, "user:1", 6, NULL, &result, &err);
    if (status == 0) status = redmoon_rate_limiter_reset(limiter, "user:1", 6, &err);
    rm_alloc_set_refuse(NULL, NULL);
    refused = left < 0;
    if (!refused && status < 0) fail_msg("%s", err.message);
    redmoon_rate_limiter_free(limiter);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
}

/* Threads that share one limiter; the workers record, the main thread asserts. */
enum { WORKERS = 8, TRIES = 50, LIMIT = 120 };
typedef struct worker {
  pthread_t thread;
  redmoon_rate_limiter *limiter;
  int allowed, failures;
} worker;

static void *try_often(void *ctx) {
  worker *w = ctx;
  for (int i = 0; i < TRIES; i++) {
    redmoon_rate_result result;
    if (redmoon_rate_limiter_allow(w->limiter, "user:1", 6, NULL, &result, NULL) < 0) w->failures++;
    else w->allowed += result.allowed;
  }
  return NULL;
}

static int allowed_to_threads(redmoon_rate_limiter *limiter) {
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].limiter = limiter;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, try_often, &workers[i]), 0);
  }
  int allowed = 0;
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    allowed += workers[i].allowed;
  }
  return allowed;
}

static void threads_that_share_a_limiter_get_the_limit_together(void **state) {
  fixture *f = *state;
  static const char *const algorithms[] = {"buckets", "fixed_window", "gcra", "sliding_log", "sliding_window"};
  for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++) {
    redmoon_rate_limiter_options options = options_of(algorithms[i], LIMIT, INT64_C(31622400000));
    redmoon_rate_limiter *limiter = made(f->client, &options);
    assert_int_equal(allowed_to_threads(limiter), LIMIT);
    redmoon_rate_limiter_free(limiter);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(limit_is_let_through_and_no_more, empty),
      cmocka_unit_test_setup(refusal_and_peek_change_nothing, empty),
      cmocka_unit_test_setup(cost_above_the_limit_is_never_allowed, empty),
      cmocka_unit_test_setup(window_that_passed_frees_its_units, empty),
      cmocka_unit_test_setup(reset_forgets_what_was_used, empty),
      cmocka_unit_test_setup(limiters_of_different_name_share_nothing, empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, empty),
      cmocka_unit_test_setup(bad_key_and_cost_are_refused_and_nothing_is_sent, empty),
      cmocka_unit_test_setup_teardown(lost_answer_of_allow_is_unknown_and_takes_once, empty, embedded_server_alone),
      cmocka_unit_test_setup(operation_outlives_the_limiter, empty),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_is_reported_and_leaks_nothing, empty),
      cmocka_unit_test_setup(threads_that_share_a_limiter_get_the_limit_together, empty),
  };
  return embedded_server_run("rate_limiter", tests, sizeof tests / sizeof tests[0], start, stop);
}
