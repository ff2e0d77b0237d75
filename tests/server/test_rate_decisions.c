/* SPDX-License-Identifier: MIT */
/* The rate limiter's algorithms and everything that is asked of them: parts, refunds, ids, many at once, several limits,
 * failures of Redis, the deny cache and waiting. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/rate.h"
#include "support/cutter.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "redmoon:{user:1}:rl.log"

/* Every algorithm. */

static const struct {
  const char *algorithm, *key;
} algorithms[] = {{"buckets", "redmoon:{user:1}:rl.buckets.86400000.10"},
                  {"fixed_window", "redmoon:{user:1}:rl.fixed"},
                  {"gcra", "redmoon:{user:1}:rl.gcra"},
                  {"sliding_log", KEY},
                  {"sliding_window", "redmoon:{user:1}:rl.sliding.86400000"}};
enum { ALGORITHMS = sizeof algorithms / sizeof algorithms[0] };

static void every_algorithm_takes_refuses_peeks_refunds_and_resets(void **state) {
  fixture *f = *state;
  for (size_t i = 0; i < ALGORITHMS; i++) {
    redmoon_rate_limiter_options options = options_of(algorithms[i].algorithm, 3, 86400000);
    redmoon_rate_limiter *limiter = made(f->client, &options);
    redmoon_rate_result result = allow(limiter, "user:1", 1);
    assert_true(result.allowed);
    assert_int_equal(result.granted, 1);
    assert_int_equal(result.remaining, 2);
    assert_string_equal(result.source, "server");
    assert_int_equal(ask_integer(f->client, "EXISTS", algorithms[i].key, NULL), 1);
    assert_true(ask_integer(f->client, "PTTL", algorithms[i].key, NULL) > 0);
    result = allow(limiter, "user:1", 3);
    assert_false(result.allowed);
    assert_int_equal(result.granted, 0);
    assert_int_equal(result.remaining, 2);
    assert_true(result.retry_after_us > 0 && result.retry_after_us <= INT64_C(2) * 86400000000);
    assert_true(allow(limiter, "user:1", 4).retry_after_us == REDMOON_NEVER);
    redmoon_rate_request most = {5, 1, NULL};
    redmoon_error err;
    assert_int_equal(redmoon_rate_limiter_allow(limiter, "user:1", 6, &most, &result, &err), 0);
    assert_true(result.allowed);
    assert_int_equal(result.granted, 2);
    assert_int_equal(result.remaining, 0);
    assert_int_equal(redmoon_rate_limiter_allow(limiter, "user:1", 6, &most, &result, &err), 0);
    assert_false(result.allowed);
    assert_false(peek(limiter, "user:1").allowed);
    assert_int_equal(redmoon_rate_limiter_refund(limiter, "user:1", 6, 2, NULL, &result, &err), 0);
    assert_int_equal(result.granted, 2);
    assert_int_equal(peek(limiter, "user:1").remaining, 2);
    assert_int_equal(redmoon_rate_limiter_refund(limiter, "user:1", 6, 1000, NULL, &result, &err), 0);
    assert_int_equal(result.granted, 1); /* clamped to what was in use */
    assert_int_equal(result.remaining, 3);
    assert_int_equal(ask_integer(f->client, "EXISTS", algorithms[i].key, NULL), 0);
    allow(limiter, "user:1", 3);
    assert_int_equal(redmoon_rate_limiter_reset(limiter, "user:1", 6, &err), 0);
    assert_int_equal(peek(limiter, "user:1").remaining, 3);
    redmoon_rate_limiter_free(limiter);
  }
}

static void a_bucket_holds_its_burst_and_fills_at_its_rate(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter_options options = options_of("gcra", 1000, 3600000);
  options.burst = 7;
  redmoon_rate_limiter *limiter = made(f->client, &options);
  redmoon_rate_result result = allow(limiter, "user:1", 7);
  assert_int_equal(result.remaining, 0);
  assert_int_equal(result.limit, 1000);
  assert_int_equal(result.reset_after_us, 7 * 3600000);
  result = allow(limiter, "user:1", 1);
  assert_false(result.allowed);
  assert_true(result.retry_after_us > 0 && result.retry_after_us <= 3600000);
  assert_true(allow(limiter, "user:1", 8).retry_after_us == REDMOON_NEVER);
  redmoon_rate_limiter_free(limiter);
}

/* What options become on the way to the script, too: the numbers of gcra are reduced. */
static void what_is_left_after_the_first_request_is_never_off_by_one(void **state) {
  fixture *f = *state;
  uint64_t random = 20261122;
  for (int i = 0; i < 1000; i++) {
    int64_t at[3];
    for (size_t k = 0; k < 3; k++) {
      random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
      at[k] = (int64_t)(random >> 33);
    }
    redmoon_rate_limiter_options options =
        options_of(algorithms[i % ALGORITHMS].algorithm, 2 + at[0] % 999, 3600000 + at[1] % 86400000);
    int64_t capacity = options.limit;
    bool bucket = strcmp(options.algorithm, "gcra") == 0;
    if (bucket) options.burst = capacity = 2 + at[2] % 999;
    redmoon_rate_limiter *limiter = made(f->client, &options);
    char key[24];
    snprintf(key, sizeof key, "user:%d", i);
    redmoon_rate_result result = allow(limiter, key, 1);
    assert_true(result.allowed);
    assert_int_equal(result.remaining, capacity - 1);
    if (bucket) { /* one unit comes back in window / limit, rounded up */
      int64_t window_us = options.window_ms * 1000;
      assert_int_equal(result.reset_after_us, (window_us + options.limit - 1) / options.limit);
    }
    redmoon_rate_limiter_free(limiter);
  }
}

static void calendar_windows_end_where_the_calendar_says(void **state) {
  fixture *f = *state;
  static const struct {
    const char *name;
    int64_t us;
  } units[] = {{"minute", 60000000}, {"hour", INT64_C(3600000000)}, {"day", INT64_C(86400000000)}};
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    redmoon_rate_limiter_options options = options_of("fixed_window", 3, REDMOON_UNSET);
    options.calendar = units[i].name;
    options.name = units[i].name;
    redmoon_rate_limiter *limiter = made(f->client, &options);
    int64_t before = server_us(f->client);
    redmoon_rate_result result = allow(limiter, "user:1", 1);
    int64_t after = server_us(f->client);
    int64_t end = (before / units[i].us + 1) * units[i].us;
    if (after < end) assert_in_range(result.reset_after_us, end - after, end - before);
    else assert_true(result.reset_after_us <= units[i].us); /* a window ended meanwhile */
    redmoon_rate_limiter_free(limiter);
  }
}

static void lost_answer_with_a_request_id_is_repeated_and_takes_once(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  for (size_t i = 0; i < ALGORITHMS; i++) {
    redmoon_rate_limiter_options options = options_of(algorithms[i].algorithm, 5, 86400000);
    redmoon_rate_limiter *limiter = made(through, &options);
    redmoon_rate_result result;
    redmoon_rate_request request = {2, 0, "order-17"};
    cutter_lose(c, 1);
    if (redmoon_rate_limiter_allow(limiter, "user:1", 6, &request, &result, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(cutter_left(c), 0);
    assert_true(result.allowed);
    assert_int_equal(result.remaining, 3);
    assert_int_equal(peek(limiter, "user:1").remaining, 3);
    cutter_lose(c, 1);
    assert_int_equal(redmoon_rate_limiter_refund(limiter, "user:1", 6, 1, "back-17", &result, &err), 0);
    assert_int_equal(cutter_left(c), 0);
    assert_int_equal(peek(limiter, "user:1").remaining, 4);
    redmoon_rate_limiter_free(limiter);
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  }
  redmoon_client_close(through);
  cutter_stop(c);
}

static void many_items_are_decided_each_by_itself(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter_options options = options_of("gcra", 3, 3600000);
  redmoon_rate_limiter *limiter = made(f->client, &options);
  redmoon_rate_item items[] = {{"a", 1, REDMOON_RATE_REQUEST_INIT},
                               {"b", 1, {4, 0, NULL}},
                               {"a", 1, {2, 0, NULL}},
                               {"a", 1, REDMOON_RATE_REQUEST_INIT},
                               {"b", 1, {9, 1, "once"}}};
  enum { COUNT = sizeof items / sizeof items[0] };
  redmoon_rate_result results[COUNT];
  redmoon_error err;
  redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
  if (redmoon_rate_limiter_allow_many(limiter, items, COUNT, results, NULL, &err) != 0) fail_msg("%s", err.message);
  static const int64_t granted[] = {1, 0, 2, 0, 3}, remaining[] = {2, 3, 0, 0, 0};
  for (size_t i = 0; i < COUNT; i++) {
    assert_int_equal(results[i].granted, granted[i]);
    assert_int_equal(results[i].allowed, granted[i] > 0);
    assert_int_equal(results[i].remaining, remaining[i]);
  }
  assert_true(results[1].retry_after_us == REDMOON_NEVER);
  /* One of them fails: the others are told. */
  redmoon_reply_free(ask(f->client, "LPUSH", "redmoon:{c}:rl.gcra", "x", NULL));
  redmoon_rate_item mixed[] = {{"d", 1, REDMOON_RATE_REQUEST_INIT}, {"c", 1, REDMOON_RATE_REQUEST_INIT}};
  redmoon_error errors[2];
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, mixed, 2, results, errors, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_true(results[0].allowed);
  assert_int_equal(errors[0].status, 0);
  assert_null(results[1].source);
  assert_string_equal(errors[1].code, "WRONGTYPE");
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, mixed, 0, results, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, mixed, 1001, results, NULL, &err), REDMOON_ECONFIG);
  mixed[1].request.cost = 0;
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, mixed, 2, results, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_rate_limiter_free(limiter);
}

/* When Redis fails. */

static bool metrics_hold(redmoon_client *client, const char *line) {
  char *text;
  size_t len;
  assert_int_equal(redmoon_client_metrics(client, &text, &len, NULL), 0);
  bool holds = strstr(text, line) != NULL;
  free(text);
  return holds;
}

static void failure_of_redis_is_what_on_error_says_and_is_counted(void **state) {
  fixture *f = *state;
  static const char *const policies[] = {"error", "allow", "deny"};
  for (size_t i = 0; i < 3; i++) {
    redmoon_error err;
    redmoon_client *own;
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_rate_limiter_options options = options_of("gcra", 3, 3600000);
    options.on_error = policies[i];
    redmoon_rate_limiter *limiter = made(own, &options);
    redmoon_reply_free(ask(f->client, "DEL", "redmoon:{user:1}:rl.gcra", NULL));
    redmoon_reply_free(ask(f->client, "LPUSH", "redmoon:{user:1}:rl.gcra", "x", NULL));
    redmoon_rate_result result = {0}, many = {0};
    redmoon_rate_item item = {"user:1", 6, {2, 0, NULL}};
    int status = redmoon_rate_limiter_allow(limiter, "user:1", 6, &item.request, &result, &err);
    assert_string_equal(err.code, "WRONGTYPE");
    assert_int_equal(redmoon_rate_limiter_allow_many(limiter, &item, 1, &many, NULL, &err), status);
    assert_int_equal(status, i == 0 ? REDMOON_ESERVER : 0);
    if (i > 0) {
      assert_int_equal(result.allowed, i == 1);
      assert_int_equal(result.granted, i == 1 ? 2 : 0);
      assert_string_equal(result.source, "error");
      assert_string_equal(many.source, "error");
      assert_int_equal(many.allowed, i == 1);
    }
    assert_true(metrics_hold(own, "redmoon_rate_limiter_total{result=\"error\"} 2\n"));
    redmoon_rate_request wrong = {0, 0, NULL}; /* a misuse is no failure of Redis */
    assert_int_equal(redmoon_rate_limiter_allow(limiter, "user:1", 6, &wrong, &result, &err), REDMOON_ECONFIG);
    redmoon_rate_limiter_free(limiter);
    redmoon_client_close(own);
  }
}

static void server_that_is_gone_lets_through_or_refuses_as_on_error_says(void **state) {
  (void)state;
  static const char *const policies[] = {"error", "allow", "deny"};
  for (size_t i = 0; i < 3; i++) {
    redmoon_error err;
    redmoon_client *nowhere;
    assert_int_equal(redmoon_client_open("unix:///tmp/redmoon-no-such-socket", NULL, &nowhere, &err), 0);
    redmoon_rate_limiter_options options = options_of("fixed_window", 3, 3600000);
    options.on_error = policies[i];
    redmoon_rate_limiter *limiter = made(nowhere, &options);
    redmoon_rate_result result = {0};
    int status = redmoon_rate_limiter_wait(limiter, "user:1", 6, NULL, 60000, &result, &err);
    assert_int_equal(status, i == 0 ? REDMOON_ECONNECT : 0);
    assert_int_equal(err.status, REDMOON_ECONNECT);
    if (i > 0) assert_int_equal(result.allowed, i == 1);
    redmoon_rate_item items[] = {{"a", 1, {2, 0, NULL}}, {"b", 1, REDMOON_RATE_REQUEST_INIT}};
    redmoon_rate_result results[2];
    redmoon_error errors[2];
    assert_int_equal(redmoon_rate_limiter_allow_many(limiter, items, 2, results, errors, &err), status);
    for (size_t k = 0; k < 2; k++) {
      assert_int_equal(errors[k].status, REDMOON_ECONNECT);
      assert_int_equal(errors[k].outcome, REDMOON_NOT_SENT);
      if (i > 0) assert_string_equal(results[k].source, "error");
      else assert_null(results[k].source);
    }
    redmoon_rate_limiter_free(limiter);
    redmoon_client_close(nowhere);
  }
}

/* Several limits. */

static void several_limits_take_all_or_none_and_tell_which_bound(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter_options options = options_of("gcra", 2, 3600000);
  options.name = "short";
  redmoon_rate_limiter *fast = made(f->client, &options);
  options = options_of("sliding_log", 5, 86400000);
  options.name = "long";
  redmoon_rate_limiter *slow = made(f->client, &options);
  redmoon_rate_limiter *both[] = {fast, slow};
  redmoon_rate_limits *limits = NULL;
  if (redmoon_rate_limits_new(both, 2, &limits, &err) != 0) fail_msg("%s", err.message);
  allow(slow, "user:1", 2);
  redmoon_rate_result result;
  redmoon_rate_request two = {2, 0, NULL};
  assert_int_equal(redmoon_rate_limits_allow(limits, "user:1", 6, &two, &result, &err), 0);
  assert_true(result.allowed);
  assert_int_equal(result.policy, 0);
  assert_int_equal(result.limit, 2);
  assert_int_equal(result.remaining, 0);
  char before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", "redmoon:{user:1}:long.log", NULL);
  assert_int_equal(redmoon_rate_limits_allow(limits, "user:1", 6, NULL, &result, &err), 0);
  assert_false(result.allowed);
  assert_int_equal(result.policy, 0);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", "redmoon:{user:1}:long.log", NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_int_equal(redmoon_rate_limiter_reset(fast, "user:1", 6, &err), 0);
  assert_int_equal(redmoon_rate_limits_allow(limits, "user:1", 6, &two, &result, &err), 0);
  assert_false(result.allowed);
  assert_int_equal(result.policy, 1);
  assert_int_equal(result.limit, 5);
  assert_int_equal(peek(fast, "user:1").remaining, 2);
  redmoon_rate_request most = {2, 1, "once"};
  for (int i = 0; i < 2; i++) { /* the second is the answer of the first */
    assert_int_equal(redmoon_rate_limits_allow(limits, "user:1", 6, &most, &result, &err), 0);
    assert_int_equal(result.granted, 1);
    assert_int_equal(peek(fast, "user:1").remaining, 1);
  }
  redmoon_rate_limiter *same[] = {fast, fast};
  redmoon_rate_limits *none = NULL;
  assert_int_equal(redmoon_rate_limits_new(same, 2, &none, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "limiters 1 and 2 have the same name"));
  assert_int_equal(redmoon_rate_limits_new(both, 0, &none, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_rate_limits_new(both, 9, &none, &err), REDMOON_ECONFIG);
  redmoon_client *other;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &other, &err), 0);
  redmoon_rate_limiter *strange = limiter_of(other, 3, 1000, NULL);
  redmoon_rate_limiter *mixed[] = {fast, strange};
  assert_int_equal(redmoon_rate_limits_new(mixed, 2, &none, &err), REDMOON_ECONFIG);
  assert_null(none);
  redmoon_rate_limiter_free(strange);
  redmoon_client_close(other);
  redmoon_rate_limiter_free(fast);
  redmoon_rate_limiter_free(slow);
  assert_int_equal(redmoon_rate_limits_allow(limits, "user:2", 6, NULL, &result, &err), 0); /* it keeps what it needs */
  redmoon_rate_limits_free(limits);
}

/* The deny cache, and waiting. */

static void deny_cache_refuses_without_a_request_until_it_is_over(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter_options options = options_of("gcra", 5, 3600000);
  options.deny_cache = 1;
  redmoon_rate_limiter *limiter = made(f->client, &options);
  allow(limiter, "user:1", 4);
  redmoon_rate_result first = allow(limiter, "user:1", 3);
  assert_string_equal(first.source, "server");
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL)); /* so that the server would let it through */
  redmoon_rate_result second = allow(limiter, "user:1", 3);
  assert_string_equal(second.source, "local");
  assert_false(second.allowed);
  assert_int_equal(second.remaining, first.remaining);
  assert_true(second.retry_after_us > 0 && second.retry_after_us <= first.retry_after_us);
  assert_true(second.reset_after_us >= second.retry_after_us && second.reset_after_us <= first.reset_after_us);
  assert_string_equal(allow(limiter, "user:1", 4).source, "local"); /* what costs more is refused too */
  redmoon_rate_result less = allow(limiter, "user:1", 2);           /* what costs less is asked */
  assert_true(less.allowed);
  assert_string_equal(less.source, "server");
  assert_string_equal(allow(limiter, "user:2", 3).source, "server");
  redmoon_rate_item items[] = {{"user:1", 6, {3, 0, NULL}}, {"user:3", 6, {3, 0, NULL}}};
  redmoon_rate_result results[2];
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, items, 2, results, NULL, &err), 0);
  assert_string_equal(results[0].source, "local");
  assert_true(results[1].allowed);
  assert_int_equal(redmoon_rate_limiter_allow_many(limiter, items, 1, results, NULL, &err), 0); /* nothing to send */
  assert_string_equal(results[0].source, "local");
  assert_int_equal(redmoon_rate_limiter_refund(limiter, "user:1", 6, 1, NULL, &results[0], &err), 0);
  assert_string_equal(allow(limiter, "user:1", 3).source, "server");
  assert_string_equal(allow(limiter, "user:1", 3).source, "server");
  assert_string_equal(allow(limiter, "user:1", 3).source, "local");
  assert_int_equal(redmoon_rate_limiter_reset(limiter, "user:1", 6, &err), 0);
  assert_true(allow(limiter, "user:1", 3).allowed);
  assert_false(allow(limiter, "user:1", 6).allowed); /* never: not remembered, as it does not end */
  assert_string_equal(allow(limiter, "user:1", 6).source, "server");
  redmoon_rate_limiter_free(limiter);
}

static void deny_cache_of_many_keys_stays_bounded_and_right(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter_options options = options_of("fixed_window", 1, 86400000);
  options.deny_cache = 1;
  redmoon_rate_limiter *limiter = made(f->client, &options);
  char key[24];
  for (int i = 0; i < 3000; i++) {
    snprintf(key, sizeof key, "user:%d", i);
    assert_true(allow(limiter, key, 1).allowed);
    assert_false(allow(limiter, key, 1).allowed);
    assert_string_equal(allow(limiter, key, 1).source, "local");
  }
  int here = 0;
  for (int i = 0; i < 3000; i++) {
    snprintf(key, sizeof key, "user:%d", i);
    redmoon_rate_result result = allow(limiter, key, 1);
    assert_false(result.allowed);
    here += strcmp(result.source, "local") == 0;
  }
  assert_in_range(here, 1, 1024);
  redmoon_rate_limiter_free(limiter);
}

static void refusal_that_is_remembered_ends_at_its_time(void **state) {
  fixture *f = *state;
  redmoon_rate_limiter_options options = options_of("sliding_log", 1, 40);
  options.deny_cache = 1;
  redmoon_rate_limiter *limiter = made(f->client, &options);
  assert_true(allow(limiter, "user:1", 1).allowed);
  redmoon_rate_result result;
  do result = allow(limiter, "user:1", 1); /* asks on and on: it ends, or this test does not */
  while (!result.allowed);
  assert_string_equal(result.source, "server");
  redmoon_rate_limiter_free(limiter);
}

static void wait_is_let_through_when_its_time_has_come(void **state) {
  fixture *f = *state;
  redmoon_error err;
  for (int64_t cached = 0; cached <= 1; cached++) {
    redmoon_rate_limiter_options options = options_of("sliding_log", 2, 60);
    options.deny_cache = cached;
    options.name = cached ? "cached" : "plain";
    redmoon_rate_limiter *limiter = made(f->client, &options);
    redmoon_rate_result result;
    int64_t before = server_us(f->client);
    for (int i = 0; i < 7; i++) {
      if (i >= 2) (void)allow(limiter, "user:1", 1); /* refused as a rule, and remembered */
      assert_int_equal(redmoon_rate_limiter_wait(limiter, "user:1", 6, NULL, 600000, &result, &err), 0);
      assert_true(result.allowed);
    }
    assert_true(server_us(f->client) - before >= 180000); /* 7 units at 2 in 60 ms */
    redmoon_rate_limiter_free(limiter);
  }
}

static void wait_that_is_too_short_or_for_never_answers_at_once(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 2, INT64_C(31622400000), NULL);
  allow(limiter, "user:1", 2);
  redmoon_rate_result result;
  assert_int_equal(redmoon_rate_limiter_wait(limiter, "user:1", 6, NULL, 86400000, &result, &err), 0);
  assert_false(result.allowed);
  redmoon_rate_request three = {3, 0, NULL};
  assert_int_equal(redmoon_rate_limiter_wait(limiter, "user:1", 6, &three, INT64_MAX, &result, &err), 0);
  assert_true(result.retry_after_us == REDMOON_NEVER);
  assert_int_equal(redmoon_rate_limiter_wait(limiter, "user:2", 6, NULL, 0, &result, &err), 0);
  assert_true(result.allowed);
  assert_int_equal(redmoon_rate_limiter_wait(limiter, "user:2", 6, NULL, -1, &result, &err), REDMOON_ECONFIG);
  redmoon_rate_limiter_free(limiter);
}

static void wait_can_be_cancelled_while_it_sleeps(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_rate_limiter *limiter = limiter_of(f->client, 1, 3600000, NULL);
  allow(limiter, "user:1", 1);
  redmoon_rate_result result;
  redmoon_op *op;
  assert_int_equal(redmoon_rate_limiter_wait_start(limiter, "user:1", 6, NULL, 86400000, &result, &op, &err), 0);
  redmoon_wants wants = {0, 0, 0};
  do {
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_op_wants(op, &wants);
  } while (wants.fd >= 0 || wants.timeout_ms < 60000); /* until only time has to pass */
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_rate_limiter_free(limiter);
}

static void shutdown_of_the_client_ends_a_wait_that_sleeps(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
  redmoon_rate_limiter *limiter = limiter_of(own, 1, 3600000, NULL);
  allow(limiter, "user:1", 1);
  redmoon_rate_result result;
  redmoon_op *op;
  assert_int_equal(redmoon_rate_limiter_wait_start(limiter, "user:1", 6, NULL, 86400000, &result, &op, &err), 0);
  redmoon_wants wants = {0, 0, 0};
  do {
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_op_wants(op, &wants);
  } while (wants.fd >= 0 || wants.timeout_ms < 60000);
  redmoon_client_shutdown(own);
  assert_int_equal(redmoon_op_step(op), 1);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECLOSED);
  redmoon_rate_limiter_free(limiter);
  redmoon_client_close(own);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(every_algorithm_takes_refuses_peeks_refunds_and_resets, empty),
      cmocka_unit_test_setup(a_bucket_holds_its_burst_and_fills_at_its_rate, empty),
      cmocka_unit_test_setup(what_is_left_after_the_first_request_is_never_off_by_one, empty),
      cmocka_unit_test_setup(calendar_windows_end_where_the_calendar_says, empty),
      cmocka_unit_test_setup_teardown(lost_answer_with_a_request_id_is_repeated_and_takes_once, empty, embedded_server_alone),
      cmocka_unit_test_setup(many_items_are_decided_each_by_itself, empty),
      cmocka_unit_test_setup(failure_of_redis_is_what_on_error_says_and_is_counted, empty),
      cmocka_unit_test_setup(server_that_is_gone_lets_through_or_refuses_as_on_error_says, empty),
      cmocka_unit_test_setup(several_limits_take_all_or_none_and_tell_which_bound, empty),
      cmocka_unit_test_setup(deny_cache_refuses_without_a_request_until_it_is_over, empty),
      cmocka_unit_test_setup(deny_cache_of_many_keys_stays_bounded_and_right, empty),
      cmocka_unit_test_setup(refusal_that_is_remembered_ends_at_its_time, empty),
      cmocka_unit_test_setup(wait_is_let_through_when_its_time_has_come, empty),
      cmocka_unit_test_setup(wait_that_is_too_short_or_for_never_answers_at_once, empty),
      cmocka_unit_test_setup(wait_can_be_cancelled_while_it_sleeps, empty),
      cmocka_unit_test_setup(shutdown_of_the_client_ends_a_wait_that_sleeps, empty),
  };
  return embedded_server_run("rate_decisions", tests, sizeof tests / sizeof tests[0], start, stop);
}
