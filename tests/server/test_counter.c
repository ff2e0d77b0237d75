/* SPDX-License-Identifier: MIT */
/* Counters through the public interface, on a server of the test's own.  What the scripts decide is proved in
 * tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/cutter.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define KEY "redmoon:{user:1}:hits.count"

static redmoon_counter *counter_of(redmoon_client *client, const redmoon_counter_options *options) {
  redmoon_counter *counter = NULL;
  redmoon_error err;
  if (redmoon_counter_new(client, "hits", options, &counter, &err) != 0) fail_msg("%s", err.message);
  return counter;
}

static redmoon_counter *window_of(redmoon_client *client, int64_t window_ms) {
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.window_ms = window_ms;
  return counter_of(client, &options);
}

static redmoon_counter_result increment(redmoon_counter *counter, int64_t by, const char *request_id) {
  redmoon_counter_result result = {-1, -1, -1, -1, -1};
  redmoon_error err;
  if (redmoon_counter_increment(counter, "user:1", 6, by, request_id, &result, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(result.status, 0);
  return result;
}

static redmoon_counter_result get(redmoon_counter *counter) {
  redmoon_counter_result result = {-1, -1, -1, -1, -1};
  redmoon_error err;
  if (redmoon_counter_get(counter, "user:1", 6, &result, &err) != 0) fail_msg("%s", err.message);
  return result;
}

static void assert_result(redmoon_counter_result result, int exists, int64_t value, int64_t applied) {
  assert_int_equal(result.exists, exists);
  assert_true(result.value == value);
  assert_true(result.applied == applied);
}

static void window_counts_from_its_first_hit(void **state) {
  fixture *f = *state;
  redmoon_counter *counter = window_of(f->client, 60000);
  assert_result(get(counter), 0, 0, 0);
  assert_int_equal(get(counter).ttl_ms, 0);
  redmoon_counter_result result = increment(counter, 1, NULL);
  assert_result(result, 1, 1, 1);
  assert_int_equal(result.ttl_ms, 60000);
  ask_integer(f->client, "PEXPIRE", KEY, "30000", NULL);
  assert_result(increment(counter, 5, NULL), 1, 6, 5);
  int64_t left = ask_integer(f->client, "PTTL", KEY, NULL);
  assert_true(left > 0 && left <= 30000);
  assert_result(get(counter), 1, 6, 0);
  result = increment(counter, 0, NULL); /* reads */
  assert_result(result, 1, 6, 0);
  assert_true(result.ttl_ms > 0 && result.ttl_ms <= 30000);
  redmoon_counter_free(counter);
}

static void window_that_passed_is_counted_anew(void **state) {
  fixture *f = *state;
  redmoon_counter *counter = window_of(f->client, 40);
  int64_t last = 0, value;
  while ((value = increment(counter, 1, NULL).value) > last) last = value; /* until the server ends the window */
  assert_int_equal(value, 1);
  redmoon_counter_free(counter);
}

static void sliding_and_ttl_are_renewed_by_each_hit(void **state) {
  fixture *f = *state;
  redmoon_counter_options sliding = REDMOON_COUNTER_OPTIONS_INIT, ttl = REDMOON_COUNTER_OPTIONS_INIT;
  sliding.window_ms = ttl.ttl_ms = 60000;
  sliding.mode = "sliding";
  const redmoon_counter_options *const both[] = {&sliding, &ttl};
  for (size_t i = 0; i < 2; i++) {
    redmoon_counter *counter = counter_of(f->client, both[i]);
    increment(counter, 1, NULL);
    ask_integer(f->client, "PEXPIRE", KEY, "5000", NULL);
    assert_int_equal(increment(counter, 1, NULL).ttl_ms, 60000);
    assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > 5000);
    redmoon_counter_free(counter);
  }
}

static void counter_without_an_end_has_no_ttl(void **state) {
  fixture *f = *state;
  redmoon_counter *counter = counter_of(f->client, NULL);
  assert_int_equal(increment(counter, 1, NULL).ttl_ms, -1);
  assert_int_equal(get(counter).ttl_ms, -1);
  assert_int_equal(ask_integer(f->client, "PTTL", KEY, NULL), -1);
  redmoon_counter_free(counter);
}

static void calendar_ends_with_its_period(void **state) {
  fixture *f = *state;
  static const struct {
    const char *calendar;
    int64_t longest_ms;
  } periods[] = {{"minute", 60000}, {"hour", 3600000}, {"day", 86400000}, {"month", INT64_C(2678400000)}};
  for (size_t i = 0; i < 4; i++) {
    redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
    options.calendar = periods[i].calendar;
    redmoon_counter *counter = counter_of(f->client, &options);
    redmoon_counter_result result = increment(counter, 7, NULL);
    assert_result(result, 1, 7, 7);
    assert_true(result.ttl_ms >= 1 && result.ttl_ms <= periods[i].longest_ms);
    char key[64];
    snprintf(key, sizeof key, "redmoon:{user:1}:hits.%s", periods[i].calendar);
    int64_t ttl = ask_integer(f->client, "PTTL", key, NULL);
    assert_true(ttl > 0 && ttl <= periods[i].longest_ms + 1000);
    redmoon_counter_free(counter);
  }
}

static void values_are_exact_to_64_bits(void **state) {
  fixture *f = *state;
  redmoon_counter *counter = counter_of(f->client, NULL);
  assert_result(increment(counter, INT64_MAX, NULL), 1, INT64_MAX, INT64_MAX);
  redmoon_counter_result result = {-1, -1, -1, -1, -1};
  redmoon_error err;
  assert_int_equal(redmoon_counter_increment(counter, "user:1", 6, 1, NULL, &result, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "OVERFLOW");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_result(get(counter), 1, INT64_MAX, 0);
  assert_result(increment(counter, INT64_MIN, NULL), 1, -1, INT64_MIN);
  assert_result(increment(counter, -INT64_MAX, NULL), 1, INT64_MIN, -INT64_MAX);
  assert_int_equal(redmoon_counter_increment(counter, "user:1", 6, -1, NULL, &result, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "OVERFLOW");
  redmoon_error ignored;
  assert_int_equal(redmoon_counter_reset(counter, "user:1", 6, &ignored), 0);
  assert_result(increment(counter, (INT64_C(1) << 53) + 1, NULL), 1, (INT64_C(1) << 53) + 1, (INT64_C(1) << 53) + 1);
  redmoon_counter_free(counter);
}

static void bounds_refuse_or_saturate(void **state) {
  fixture *f = *state;
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.window_ms = 60000;
  options.min = -2;
  options.max = 10;
  redmoon_counter *counter = counter_of(f->client, &options);
  assert_result(increment(counter, 11, NULL), 0, 0, 0);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  increment(counter, 8, NULL);
  char before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  assert_result(increment(counter, 3, NULL), 1, 8, 0);
  assert_result(increment(counter, -11, NULL), 1, 8, 0);
  assert_result(increment(counter, INT64_MAX, NULL), 1, 8, 0);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  redmoon_counter_free(counter);
  options.saturate = 1;
  counter = counter_of(f->client, &options);
  assert_result(increment(counter, 3, NULL), 1, 10, 2);
  assert_result(increment(counter, 1, NULL), 1, 10, 0);
  assert_result(increment(counter, INT64_MIN, NULL), 1, -2, -12);
  redmoon_counter_free(counter);
}

static void reset_forgets(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_counter *counter = window_of(f->client, 60000);
  increment(counter, 3, NULL);
  assert_int_equal(redmoon_counter_reset(counter, "user:1", 6, &err), 0);
  assert_int_equal(redmoon_counter_reset(counter, "user:1", 6, &err), 0);
  assert_result(get(counter), 0, 0, 0);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_counter_free(counter);
}

static void many_are_counted_in_one_round_trip_each_for_itself(void **state) {
  fixture *f = *state;
  redmoon_error err, errors[REDMOON_COUNTER_MANY_MAX];
  redmoon_counter_result results[REDMOON_COUNTER_MANY_MAX];
  redmoon_counter_item items[REDMOON_COUNTER_MANY_MAX];
  char keys[REDMOON_COUNTER_MANY_MAX][16];
  redmoon_counter *counter = window_of(f->client, 60000);
  redmoon_reply_free(ask(f->client, "SET", "redmoon:{k7}:hits.count", "no number", NULL));
  redmoon_reply_free(ask(f->client, "SET", "redmoon:{k8}:hits.count", "9223372036854775807", NULL));
  for (int i = 0; i < REDMOON_COUNTER_MANY_MAX; i++) {
    int len = snprintf(keys[i], sizeof keys[i], "k%d", i % 499);
    items[i] = (redmoon_counter_item){keys[i], (size_t)len, i + 1, NULL};
  }
  for (int known = 0; known < 2; known++) { /* the server has forgotten the script, then knows it */
    if (!known) redmoon_reply_free(ask(f->client, "SCRIPT", "FLUSH", NULL));
    assert_int_equal(
        redmoon_counter_increment_many(counter, items, REDMOON_COUNTER_MANY_MAX, results, errors, &err), 0);
    for (int i = 0; i < REDMOON_COUNTER_MANY_MAX; i++) {
      assert_int_equal(results[i].status, i == 7 || i == 8 ? REDMOON_ESERVER : 0);
      assert_int_equal(errors[i].outcome, i == 7 || i == 8 ? REDMOON_ANSWERED : REDMOON_NOT_SENT);
      if (i > 8 && i < 499) assert_result(results[i], 1, (i + 1) * (known + 1), i + 1);
    }
    assert_result(results[499], 1, 501 * (known + 1), 500); /* the key of the first again, in order */
    assert_string_equal(errors[7].code, "ERR");
    assert_string_equal(errors[8].code, "OVERFLOW");
  }
  assert_int_equal(redmoon_counter_increment_many(counter, items, 3, results, NULL, NULL), 0);
  redmoon_counter_free(counter);
}

static void many_with_one_that_is_not_acceptable_count_nothing(void **state) {
  fixture *f = *state;
  redmoon_error err, errors[3];
  redmoon_counter_result results[3];
  redmoon_counter *counter = window_of(f->client, 60000);
  const redmoon_counter_item bad[][3] = {{{"a", 1, 1, NULL}, {"", 0, 1, NULL}, {"c", 1, 1, NULL}},
                                         {{"a", 1, 1, NULL}, {"b", 1, 1, "an id"}, {"c", 1, 1, NULL}}};
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(redmoon_counter_increment_many(counter, bad[i], 3, results, errors, &err), REDMOON_ECONFIG);
    for (size_t k = 0; k < 3; k++) {
      assert_int_equal(results[k].status, REDMOON_ECONFIG);
      assert_int_equal(errors[k].outcome, REDMOON_NOT_SENT);
    }
  }
  assert_int_equal(redmoon_counter_increment_many(counter, bad[0], 0, results, errors, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "give 1 to 500"));
  assert_int_equal(redmoon_counter_increment_many(counter, bad[0], 501, results, errors, &err), REDMOON_ECONFIG);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_counter_free(counter);
}

/* Lost answers. */

static void lost_answer_without_an_id_is_unknown_and_counted_once(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_counter *counter = window_of(through, 60000);
  redmoon_counter_result result;
  cutter_lose(c, 1);
  assert_true(redmoon_counter_increment(counter, "user:1", 6, 2, NULL, &result, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_result(get(counter), 1, 2, 0);
  cutter_lose(c, 1); /* what reads is repeated */
  assert_result(increment(counter, 0, NULL), 1, 2, 0);
  assert_int_equal(cutter_left(c), 0);
  redmoon_counter_free(counter);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void lost_answer_with_an_id_is_asked_again_and_counted_once(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_counter *counter = window_of(through, 60000);
  for (int i = 1; i <= 30; i++) { /* every third answer is lost */
    char id[16];
    snprintf(id, sizeof id, "id-%d", i);
    if (i % 3 == 0) cutter_lose(c, 1);
    assert_result(increment(counter, 2, id), 1, 2 * i, 2);
    assert_int_equal(cutter_left(c), 0);
    assert_result(increment(counter, 2, id), 1, 2 * i, 2);
  }
  assert_result(get(counter), 1, 60, 0);
  redmoon_counter_free(counter);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void lost_answers_of_many(void **state) {
  fixture *f = *state;
  redmoon_error err, errors[3];
  redmoon_counter_result results[3];
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_counter *counter = window_of(through, 60000);
  redmoon_counter_item items[] = {{"a", 1, 5, "r1"}, {"b", 1, 0, NULL}, {"a", 1, 7, "r2"}};
  cutter_lose(c, 1);
  assert_int_equal(redmoon_counter_increment_many(counter, items, 3, results, errors, &err), 0);
  assert_int_equal(cutter_left(c), 0);
  assert_result(results[0], 1, 5, 5);
  assert_result(results[1], 0, 0, 0);
  assert_result(results[2], 1, 12, 7);
  items[2].request_id = NULL; /* one that may not be repeated: nobody knows */
  cutter_lose(c, 1);
  assert_true(redmoon_counter_increment_many(counter, items, 3, results, errors, &err) < 0);
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(results[i].status, err.status);
    assert_int_equal(errors[i].outcome, REDMOON_UNKNOWN);
    assert_string_equal(errors[i].code, err.code);
  }
  char value[32];
  ask_text(f->client, value, sizeof value, "GET", "redmoon:{a}:hits.count", NULL);
  assert_true(strcmp(value, "12") == 0 || strcmp(value, "19") == 0);
  redmoon_counter_free(counter);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* Options and arguments. */

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  const int64_t none = REDMOON_UNSET;
  const struct {
    redmoon_counter_options options;
    const char *message;
  } bad[] = {
      {{0, NULL, NULL, none, INT64_MIN, INT64_MAX, 0}, "option window: 0 ms is not accepted; give 1 to 31622400000 ms"},
      {{none, NULL, NULL, INT64_C(31622400001), INT64_MIN, INT64_MAX, 0}, "option ttl: 31622400001 ms is not accepted"},
      {{1, "tumbling", NULL, none, INT64_MIN, INT64_MAX, 0},
       "option mode: 'tumbling' is not accepted; give \"window\" or \"sliding\""},
      {{none, "sliding", NULL, none, INT64_MIN, INT64_MAX, 0}, "option mode is that of a window"},
      {{none, NULL, "week", none, INT64_MIN, INT64_MAX, 0},
       "option calendar: 'week' is not accepted; give \"minute\", \"hour\", \"day\" or \"month\""},
      {{1, NULL, "day", none, INT64_MIN, INT64_MAX, 0}, "window, calendar and ttl: give one of them at most"},
      {{1, NULL, NULL, 1, INT64_MIN, INT64_MAX, 0}, "window, calendar and ttl: give one of them at most"},
      {{none, NULL, NULL, none, 3, 2, 0}, "min and max: 3 and 2 are not accepted"},
      {{none, NULL, NULL, none, 2, 3, 2}, "option saturate: 2 is not accepted; give 0 or 1"},
  };
  redmoon_counter *counter;
  redmoon_error err;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_counter_new(f->client, "hits", &bad[i].options, &counter, &err), REDMOON_ECONFIG);
    assert_null(counter);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
  char longest[66] = {0};
  memset(longest, 'a', 65);
  const char *const names[] = {NULL, "", "a:b", "a b", longest};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_int_equal(redmoon_counter_new(f->client, names[i], NULL, &counter, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "give 1 to 64 letters"));
  }
}

/* The longest name, kind and request id that are accepted make one key of all their bytes. */
static void longest_names_are_kept_whole(void **state) {
  fixture *f = *state;
  char name[65] = {0}, id[129] = {0}, key[320];
  memset(name, 'n', 64);
  memset(id, 'i', 128);
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.calendar = "minute";
  redmoon_counter *counter;
  redmoon_error err;
  assert_int_equal(redmoon_counter_new(f->client, name, &options, &counter, &err), 0);
  increment(counter, 1, id);
  snprintf(key, sizeof key, "redmoon:{user:1}:%s.minute+req.%s", name, id);
  assert_int_equal(ask_integer(f->client, "EXISTS", key, NULL), 1);
  redmoon_counter_free(counter);
}

static void bad_key_and_id_are_refused_and_nothing_is_sent(void **state) {
  fixture *f = *state;
  redmoon_counter *counter = window_of(f->client, 1000);
  redmoon_counter_result result;
  redmoon_error err;
  static char key[513];
  assert_int_equal(redmoon_counter_increment(counter, key, 513, 1, NULL, &result, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_counter_increment(counter, "k", 1, 1, "", &result, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_counter_get(counter, key, 0, &result, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_counter_reset(counter, NULL, 5, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_counter_free(counter);
}

static void metrics_tell_what_was_counted_clamped_and_refused(void **state) {
  fixture *f = *state;
  redmoon_client *client;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &client, &err), 0);
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.max = 10;
  redmoon_counter *strict = counter_of(client, &options);
  options.saturate = 1;
  redmoon_counter *lenient = counter_of(client, &options);
  for (int i = 0; i < 3; i++) increment(strict, 3, NULL);
  for (int i = 0; i < 2; i++) increment(strict, 3, NULL);
  increment(lenient, 3, NULL);
  increment(lenient, 0, NULL); /* what reads is not counted among them */
  get(lenient);
  char *text = NULL;
  assert_int_equal(redmoon_client_metrics(client, &text, NULL, &err), 0);
  assert_non_null(strstr(text, "redmoon_counter_total{result=\"counted\"} 3\n"));
  assert_non_null(strstr(text, "redmoon_counter_total{result=\"refused\"} 2\n"));
  assert_non_null(strstr(text, "redmoon_counter_total{result=\"clamped\"} 1\n"));
  redmoon_free(text);
  redmoon_counter_free(strict);
  redmoon_counter_free(lenient);
  redmoon_client_close(client);
}

static void operations_outlive_the_counter_and_what_they_were_given(void **state) {
  fixture *f = *state;
  redmoon_error err, errors[2];
  redmoon_counter *counter = window_of(f->client, 60000);
  redmoon_counter_result one = {0}, many[2] = {{0}};
  char key[] = "user:1";
  redmoon_counter_item items[] = {{key, 6, 2, "r"}, {key, 6, 3, NULL}};
  redmoon_op *ops[2];
  assert_int_equal(redmoon_counter_increment_start(counter, key, 6, 1, NULL, &one, &ops[0], &err), 0);
  assert_int_equal(redmoon_counter_increment_many_start(counter, items, 2, many, errors, &ops[1], &err), 0);
  redmoon_counter_free(counter);
  memset(items, 0, sizeof items);
  memset(key, 'x', 6);
  for (size_t i = 0; i < 2; i++) {
    while (!redmoon_op_step(ops[i])) { /* spins: few steps, on a local socket */
    }
    assert_int_equal(redmoon_op_finish(ops[i], &err), 0);
  }
  assert_result(one, 1, 1, 1);
  assert_result(many[0], 1, 3, 2);
  assert_result(many[1], 1, 6, 3);
}

static void operation_that_is_cancelled_writes_no_results(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_counter *counter = window_of(f->client, 60000);
  redmoon_counter_result many[1] = {{.value = 77}};
  const redmoon_counter_item item = {"user:1", 6, 2, NULL};
  redmoon_op *op;
  assert_int_equal(redmoon_counter_increment_many_start(counter, &item, 1, many, NULL, &op, &err), 0);
  redmoon_op_cancel(op);
  assert_int_equal(redmoon_counter_increment_many_start(counter, &item, 1, many, NULL, &op, &err), 0);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(many[0].value, 77);
  redmoon_counter_free(counter);
}

/* Clients of their own, as of so many processes; the workers record, the main thread asserts. */
enum { WORKERS = 16, TRIES = 200 };
typedef struct worker {
  pthread_t thread;
  redmoon_counter *counter;
  int64_t by, applied;
  int number, failures;
} worker;

static void *count_often(void *ctx) {
  worker *w = ctx;
  for (int i = 0; i < TRIES; i++) {
    redmoon_counter_result result[2];
    char id[32];
    snprintf(id, sizeof id, "%d.%d", w->number, i / 2); /* each request is made twice */
    const redmoon_counter_item items[] = {{"user:1", 6, w->by, NULL}, {"user:1", 6, 1, id}};
    int status = i % 2 == 0 ? redmoon_counter_increment_many(w->counter, items, 2, result, NULL, NULL)
                            : redmoon_counter_increment(w->counter, "user:1", 6, 1, id, result, NULL);
    if (status < 0) w->failures++;
    else if (i % 2 == 0) w->applied += result[0].applied + result[1].applied;
  }
  return NULL;
}

static void sum_of_16_clients_is_exact(void **state) {
  fixture *f = *state;
  worker workers[WORKERS] = {0};
  redmoon_client *clients[WORKERS];
  redmoon_error err;
  int64_t expected = 0, applied = 0;
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &clients[i], &err), 0);
    int64_t by = i % 2 == 0 ? (INT64_C(1) << 50) + i : -(INT64_C(1) << 50) + 3 * i;
    workers[i] = (worker){.counter = window_of(clients[i], 3600000), .by = by, .number = i};
    expected += (by + 1) * (TRIES / 2);
  }
  for (int i = 0; i < WORKERS; i++)
    assert_int_equal(pthread_create(&workers[i].thread, NULL, count_often, &workers[i]), 0);
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    applied += workers[i].applied;
  }
  assert_true(applied == expected);
  assert_true(get(workers[0].counter).value == expected);
  for (int i = 0; i < WORKERS; i++) {
    redmoon_counter_free(workers[i].counter);
    redmoon_client_close(clients[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(window_counts_from_its_first_hit, embedded_fixture_empty),
      cmocka_unit_test_setup(window_that_passed_is_counted_anew, embedded_fixture_empty),
      cmocka_unit_test_setup(sliding_and_ttl_are_renewed_by_each_hit, embedded_fixture_empty),
      cmocka_unit_test_setup(counter_without_an_end_has_no_ttl, embedded_fixture_empty),
      cmocka_unit_test_setup(calendar_ends_with_its_period, embedded_fixture_empty),
      cmocka_unit_test_setup(values_are_exact_to_64_bits, embedded_fixture_empty),
      cmocka_unit_test_setup(bounds_refuse_or_saturate, embedded_fixture_empty),
      cmocka_unit_test_setup(reset_forgets, embedded_fixture_empty),
      cmocka_unit_test_setup(many_are_counted_in_one_round_trip_each_for_itself, embedded_fixture_empty),
      cmocka_unit_test_setup(many_with_one_that_is_not_acceptable_count_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(lost_answer_without_an_id_is_unknown_and_counted_once, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup_teardown(lost_answer_with_an_id_is_asked_again_and_counted_once, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup_teardown(lost_answers_of_many, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, embedded_fixture_empty),
      cmocka_unit_test_setup(longest_names_are_kept_whole, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_key_and_id_are_refused_and_nothing_is_sent, embedded_fixture_empty),
      cmocka_unit_test_setup(metrics_tell_what_was_counted_clamped_and_refused, embedded_fixture_empty),
      cmocka_unit_test_setup(operations_outlive_the_counter_and_what_they_were_given, embedded_fixture_empty),
      cmocka_unit_test_setup(operation_that_is_cancelled_writes_no_results, embedded_fixture_empty),
      cmocka_unit_test_setup(sum_of_16_clients_is_exact, embedded_fixture_empty),
  };
  return embedded_server_run("counter", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
