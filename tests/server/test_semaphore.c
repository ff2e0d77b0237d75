/* SPDX-License-Identifier: MIT */
/* Semaphores through the public interface, on a server of the test's own.  What the scripts decide is proved in
 * tests/scripts, when attempts are made in tests/unit/test_waiting.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/pausing.h"
#include "support/cutter.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KEY "redmoon:{n}:semaphore"
enum { LONG_MS = 600000 };

static redmoon_semaphore *semaphore_of(redmoon_client *client, int64_t permits, int64_t ttl_ms, int64_t wait_ms) {
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = permits;
  options.ttl_ms = ttl_ms;
  options.wait_ms = wait_ms;
  redmoon_semaphore *semaphore = NULL;
  redmoon_error err;
  if (redmoon_semaphore_new(client, "n", 1, &options, &semaphore, &err) != 0) fail_msg("%s", err.message);
  return semaphore;
}

static redmoon_permit *acquire(redmoon_semaphore *semaphore, int64_t count, const char *request_id) {
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.count = count;
  request.request_id = request_id;
  redmoon_permit *permit = NULL;
  redmoon_error err;
  if (redmoon_semaphore_acquire(semaphore, &request, &permit, &err) != 0) fail_msg("%s", err.message);
  assert_non_null(permit);
  return permit;
}

static void release(redmoon_permit *permit) {
  redmoon_error err;
  if (redmoon_permit_release(permit, &err) != 0) fail_msg("%s", err.message);
  redmoon_permit_free(permit);
}

static int64_t in_use(redmoon_semaphore *semaphore) {
  redmoon_semaphore_usage usage;
  redmoon_error err;
  if (redmoon_semaphore_stats(semaphore, &usage, &err) != 0) fail_msg("%s", err.message);
  return usage.in_use;
}

static void as_many_are_held_as_there_are_permits(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 3, LONG_MS, 0);
  redmoon_permit *one = acquire(semaphore, 1, NULL), *two = acquire(semaphore, 2, NULL), *none = NULL;
  assert_int_equal(redmoon_permit_count(one), 1);
  assert_int_equal(redmoon_permit_count(two), 2);
  assert_true(redmoon_permit_fence(two) > redmoon_permit_fence(one));
  assert_int_equal(strlen(redmoon_permit_token(one)), 32);
  assert_string_not_equal(redmoon_permit_token(one), redmoon_permit_token(two));
  assert_true(redmoon_permit_held(one) && redmoon_permit_remaining_ms(one) > LONG_MS * 9 / 10);
  char before[512], after[512];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  redmoon_error err;
  assert_int_equal(redmoon_semaphore_acquire(semaphore, NULL, &none, &err), REDMOON_ELOCKED);
  assert_null(none);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_true(err.retryable);
  assert_non_null(strstr(err.message, "'n': 3 of 3 permits are in use"));
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  redmoon_semaphore_usage usage;
  assert_int_equal(redmoon_semaphore_stats(semaphore, &usage, &err), 0);
  assert_int_equal(usage.in_use, 3);
  assert_int_equal(usage.permits, 3);
  assert_true(usage.retry_after_us > 0 && usage.retry_after_us <= LONG_MS * INT64_C(1000));
  release(two);
  assert_int_equal(in_use(semaphore), 1);
  release(acquire(semaphore, 2, NULL));
  release(one);
  assert_int_equal(in_use(semaphore), 0);
  redmoon_semaphore_free(semaphore);
}

static void more_than_there_are_is_never_granted_and_not_waited_for(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 3, LONG_MS, 86400000);
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.count = 4;
  redmoon_permit *permit = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_semaphore_acquire(semaphore, &request, &permit, &err), REDMOON_ELOCKED);
  assert_false(err.retryable);
  assert_non_null(strstr(err.message, "4 permits are never free together, there are 3"));
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_semaphore_free(semaphore);
}

static void number_of_permits_may_change_at_any_time(void **state) {
  fixture *f = *state;
  redmoon_semaphore *three = semaphore_of(f->client, 3, LONG_MS, 0), *two = semaphore_of(f->client, 2, LONG_MS, 0);
  redmoon_permit *held[3], *none;
  for (int i = 0; i < 3; i++) held[i] = acquire(three, 1, NULL);
  release(held[0]);
  assert_int_equal(redmoon_semaphore_acquire(two, NULL, &none, NULL), REDMOON_ELOCKED);
  release(held[1]);
  release(acquire(two, 1, NULL));
  release(held[2]);
  redmoon_semaphore_free(three);
  redmoon_semaphore_free(two);
}

static void holder_whose_lease_ended_frees_its_place(void **state) {
  fixture *f = *state;
  redmoon_semaphore *briefly = semaphore_of(f->client, 1, 500, 0);
  redmoon_semaphore *patient = semaphore_of(f->client, 1, LONG_MS, 86400000);
  redmoon_permit *lost = acquire(briefly, 1, NULL); /* and is not heard of again */
  redmoon_permit *next = acquire(patient, 1, NULL); /* waits */
  assert_false(redmoon_permit_held(lost));
  assert_int_equal(redmoon_permit_remaining_ms(lost), 0);
  redmoon_error err;
  assert_int_equal(redmoon_permit_extend(lost, LONG_MS, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_permit_release(lost, &err), REDMOON_ELOST);
  assert_int_equal(in_use(patient), 1);
  redmoon_permit_free(lost);
  release(next);
  redmoon_semaphore_free(briefly);
  redmoon_semaphore_free(patient);
}

static void extend_prolongs_and_never_shortens(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 2, 20000, 0);
  redmoon_permit *permit = acquire(semaphore, 2, NULL);
  assert_int_equal(redmoon_permit_extend(permit, LONG_MS, NULL), 0);
  assert_true(redmoon_permit_remaining_ms(permit) > 20000);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > 20000);
  assert_int_equal(redmoon_permit_extend(permit, REDMOON_UNSET, NULL), 0);
  assert_true(redmoon_permit_remaining_ms(permit) > 20000);
  redmoon_error err;
  assert_int_equal(redmoon_permit_extend(permit, 9, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "semaphore option ttl: 9 ms"));
  assert_int_equal(redmoon_permit_release(permit, NULL), 0);
  assert_int_equal(redmoon_permit_release(permit, NULL), 0); /* safe to repeat */
  assert_int_equal(redmoon_permit_extend(permit, LONG_MS, &err), REDMOON_ELOST);
  redmoon_permit_free(permit);
  redmoon_semaphore_free(semaphore);
}

static void local_lease_ends_before_the_servers(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 1, LONG_MS, 0);
  redmoon_permit *permit = acquire(semaphore, 1, NULL);
  assert_true(redmoon_permit_remaining_ms(permit) <= LONG_MS - LONG_MS / 100 - 2);
  assert_int_equal(redmoon_permit_extend(permit, 2 * LONG_MS, NULL), 0);
  assert_true(redmoon_permit_remaining_ms(permit) <= 2 * LONG_MS - 2 * LONG_MS / 100 - 2);
  release(permit);
  redmoon_semaphore_free(semaphore);
}

static void what_became_of_permits_is_counted(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_semaphore *semaphore = semaphore_of(own, 1, LONG_MS, 0);
  redmoon_permit *permit = acquire(semaphore, 1, NULL), *none = NULL;
  assert_int_equal(redmoon_semaphore_acquire(semaphore, NULL, &none, NULL), REDMOON_ELOCKED);
  assert_int_equal(redmoon_permit_extend(permit, LONG_MS, NULL), 0);
  release(permit);
  permit = acquire(semaphore, 1, NULL);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  assert_int_equal(redmoon_permit_extend(permit, LONG_MS, NULL), REDMOON_ELOST);
  redmoon_permit_free(permit);
  char *text;
  size_t len;
  assert_int_equal(redmoon_client_metrics(own, &text, &len, NULL), 0);
  static const char *const lines[] = {"acquired\"} 2\n", "busy\"} 1\n", "extended\"} 1\n", "released\"} 1\n",
                                      "lost\"} 1\n"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    char line[80];
    snprintf(line, sizeof line, "redmoon_semaphore_total{result=\"%s", lines[i]);
    if (strstr(text, line) == NULL) fail_msg("no %s in %s", line, text);
  }
  redmoon_free(text);
  redmoon_semaphore_free(semaphore);
  redmoon_client_close(own);
}

static void wait_that_is_over_is_locked(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 1, LONG_MS, 30);
  redmoon_permit *held = acquire(semaphore, 1, NULL), *none = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_semaphore_acquire(semaphore, NULL, &none, &err), REDMOON_ELOCKED);
  assert_null(none);
  release(held);
  redmoon_semaphore_free(semaphore);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  redmoon_semaphore *semaphore = NULL;
  redmoon_error err;
  static const struct {
    redmoon_semaphore_options options;
    const char *message;
  } bad[] = {
      {{REDMOON_UNSET, 1000, 0}, "semaphore option permits is missing; give 1 to 100000"},
      {{0, 1000, 0}, "semaphore option permits: 0 is not accepted; give 1 to 100000"},
      {{100001, 1000, 0}, "option permits: 100001"},
      {{1, 9, 0}, "semaphore option ttl: 9 ms is not accepted; give 10 to 86400000 ms"},
      {{1, 86400001, 0}, "option ttl: 86400001 ms"},
      {{1, 1000, -1}, "semaphore option wait: -1 ms is not accepted; give 0 to 86400000 ms"},
      {{1, 1000, 86400001}, "option wait: 86400001 ms"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_semaphore_new(f->client, "n", 1, &bad[i].options, &semaphore, &err), REDMOON_ECONFIG);
    assert_null(semaphore);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
  assert_int_equal(redmoon_semaphore_new(f->client, "n", 1, NULL, &semaphore, &err), REDMOON_ECONFIG);
  const redmoon_semaphore_options good = {1, 1000, 0};
  assert_int_equal(redmoon_semaphore_new(f->client, "", 0, &good, &semaphore, &err), REDMOON_ECONFIG);
  semaphore = semaphore_of(f->client, 2, 1000, 0);
  static const redmoon_semaphore_request requests[] = {{0, 0, NULL},        {1001, 0, NULL}, {1, -1, NULL},
                                                       {1, 86400001, NULL}, {1, 0, ""},      {1, 0, "a b"}};
  for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
    redmoon_permit *permit = NULL;
    assert_int_equal(redmoon_semaphore_acquire(semaphore, &requests[i], &permit, &err), REDMOON_ECONFIG);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_null(permit);
  }
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_semaphore_free(semaphore);
}

static void request_whose_answer_was_lost_takes_one_permit(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_semaphore *semaphore = semaphore_of(through, 5, LONG_MS, 0);
  cutter_lose(c, 1); /* repeated by the client itself, with the same token */
  redmoon_permit *permit = acquire(semaphore, 2, NULL);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY, NULL), 2);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_permit_extend(permit, LONG_MS, NULL), 0);
  cutter_lose(c, 1);
  release(permit);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY, NULL), 0);
  redmoon_semaphore_free(semaphore);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void release_that_ended_unknown_can_be_repeated(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), &options, &through, &err), 0);
  redmoon_semaphore *semaphore = semaphore_of(through, 1, LONG_MS, 0);
  redmoon_permit *permit = acquire(semaphore, 1, NULL);
  cutter_lose(c, 1);
  assert_true(redmoon_permit_release(permit, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_false(redmoon_permit_held(permit)); /* it may have been given back */
  redmoon_permit *other = acquire(semaphore, 1, NULL);
  assert_int_equal(redmoon_permit_release(permit, &err), 0);
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY, NULL), 1); /* the other's */
  release(other);
  redmoon_permit_free(permit);
  redmoon_semaphore_free(semaphore);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* The caller gives up on an unknown outcome, and asks again later under the same id: perhaps in another process. */
static void repeated_request_gets_the_same_permit(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), &options, &through, NULL), 0);
  redmoon_semaphore *semaphore = semaphore_of(through, 5, LONG_MS, 0);
  redmoon_semaphore_request request = {2, REDMOON_UNSET, "job-17"};
  redmoon_permit *permit = NULL;
  cutter_lose(c, 1);
  assert_true(redmoon_semaphore_acquire(semaphore, &request, &permit, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_null(permit);
  redmoon_semaphore *elsewhere = semaphore_of(f->client, 5, LONG_MS, 0);
  redmoon_permit *first = acquire(elsewhere, 1, "job-17"), *again = acquire(semaphore, 1, "job-17");
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY, NULL), 2);
  assert_string_equal(redmoon_permit_token(first), redmoon_permit_token(again));
  assert_int_equal(redmoon_permit_count(again), 2);
  assert_true(redmoon_permit_fence(first) == redmoon_permit_fence(again));
  assert_true(redmoon_permit_held(again));
  release(first);
  assert_int_equal(in_use(elsewhere), 0);
  assert_int_equal(redmoon_semaphore_acquire(semaphore, &request, &permit, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(in_use(elsewhere), 0);
  redmoon_permit_free(again);
  redmoon_semaphore_free(elsewhere);
  redmoon_semaphore_free(semaphore);
  redmoon_client_close(through);
  cutter_stop(c);
}

static bool poll_once(redmoon_op *op) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {wants.fd, 0, 0};
  if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
  if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
  (void)poll(&fd, wants.fd < 0 ? 0 : 1, (int)wants.timeout_ms);
  return is_pause(&wants);
}

static void waiting_operation_works_under_a_loop_and_outlives_the_semaphore(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_semaphore *semaphore = semaphore_of(f->client, 1, LONG_MS, 86400000);
  redmoon_permit *held = acquire(semaphore, 1, NULL), *next = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_semaphore_acquire_start(semaphore, NULL, &next, &op, &err), 0);
  redmoon_semaphore_free(semaphore);
  int sleeps = 0;
  while (sleeps < 3) { /* asked three times, and sleeps without a descriptor */
    assert_false(redmoon_op_step(op));
    sleeps += poll_once(op);
  }
  release(held);
  while (!redmoon_op_step(op)) poll_once(op);
  assert_null(next);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_true(redmoon_permit_held(next));
  semaphore = semaphore_of(f->client, 1, LONG_MS, 86400000);
  redmoon_permit *cancelled = NULL;
  assert_int_equal(redmoon_semaphore_acquire_start(semaphore, NULL, &cancelled, &op, &err), 0);
  do assert_false(redmoon_op_step(op));
  while (!poll_once(op));
  redmoon_op_cancel(op);
  assert_null(cancelled);
  assert_int_equal(in_use(semaphore), 1);
  assert_int_equal(redmoon_permit_release_start(next, &op, &err), 0);
  assert_false(redmoon_permit_held(next)); /* from here on */
  redmoon_permit_free(next);               /* the operation has its own */
  while (!redmoon_op_step(op)) poll_once(op);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(in_use(semaphore), 0);
  redmoon_semaphore_free(semaphore);
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
  int acquired = 0;
  for (int at = 0; refused; at++) {
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    redmoon_client *own; /* a new one each time: a dial that failed makes a pool wait before the next */
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_semaphore_options options = {2, LONG_MS, 0};
    redmoon_semaphore_request request = {1, REDMOON_UNSET, "r"};
    redmoon_semaphore *semaphore = NULL;
    redmoon_permit *permit = NULL;
    int left = at;
    rm_alloc_set_refuse(refuse_at, &left);
    int status = redmoon_semaphore_new(own, "n", 1, &options, &semaphore, &err);
    if (status == 0) status = redmoon_semaphore_acquire(semaphore, &request, &permit, &err);
    if (status == 0) status = redmoon_permit_extend(permit, LONG_MS, &err);
    if (status == 0) status = redmoon_permit_release(permit, &err);
    rm_alloc_set_refuse(NULL, NULL);
    refused = left < 0;
    if (!refused && status < 0) fail_msg("%s", err.message);
    acquired += permit != NULL;
    redmoon_permit_free(permit);
    redmoon_semaphore_free(semaphore);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
  assert_true(acquired > 2);
}

/* Threads, most with a client of their own and some that share one, that share what there is; the workers record,
 * the main thread asserts. */
enum { WORKERS = 16, TURNS = 15, PERMITS = 3 };
typedef struct worker {
  pthread_t thread;
  const char *url;
  redmoon_semaphore *shared; /* NULL: one of its own client */
  atomic_int *inside;
  int overlaps, failures, turns;
} worker;

static void *take_turns(void *ctx) {
  worker *w = ctx;
  redmoon_client *client = NULL;
  redmoon_semaphore *semaphore = w->shared;
  const redmoon_semaphore_options options = {PERMITS, LONG_MS, 86400000};
  if (semaphore == NULL && (redmoon_client_open(w->url, NULL, &client, NULL) < 0 ||
                            redmoon_semaphore_new(client, "n", 1, &options, &semaphore, NULL) < 0)) {
    w->failures++;
    return NULL;
  }
  while (w->turns < TURNS && w->failures == 0) {
    redmoon_permit *permit;
    const redmoon_semaphore_request request = {1 + w->turns % 2, REDMOON_UNSET, NULL};
    if (redmoon_semaphore_acquire(semaphore, &request, &permit, NULL) < 0) {
      w->failures++;
      break;
    }
    int count = (int)request.count;
    if (atomic_fetch_add(w->inside, count) + count > PERMITS) w->overlaps++;
    if (redmoon_permit_extend(permit, LONG_MS, NULL) < 0) w->failures++; /* holds it for a round trip */
    atomic_fetch_sub(w->inside, count);
    if (redmoon_permit_release(permit, NULL) < 0) w->failures++;
    redmoon_permit_free(permit);
    w->turns++;
  }
  if (w->shared == NULL) redmoon_semaphore_free(semaphore);
  redmoon_client_close(client);
  return NULL;
}

static void clients_never_hold_more_than_there_is(void **state) {
  fixture *f = *state;
  atomic_int inside = 0;
  redmoon_semaphore *shared = semaphore_of(f->client, PERMITS, LONG_MS, 86400000);
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].url = embedded_server_url(f->server);
    workers[i].inside = &inside;
    workers[i].shared = i % 4 == 0 ? shared : NULL;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].overlaps, 0);
    assert_int_equal(workers[i].turns, TURNS);
  }
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY, NULL), 0);
  redmoon_semaphore_free(shared);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(as_many_are_held_as_there_are_permits, embedded_fixture_empty),
      cmocka_unit_test_setup(more_than_there_are_is_never_granted_and_not_waited_for, embedded_fixture_empty),
      cmocka_unit_test_setup(number_of_permits_may_change_at_any_time, embedded_fixture_empty),
      cmocka_unit_test_setup(holder_whose_lease_ended_frees_its_place, embedded_fixture_empty),
      cmocka_unit_test_setup(extend_prolongs_and_never_shortens, embedded_fixture_empty),
      cmocka_unit_test_setup(local_lease_ends_before_the_servers, embedded_fixture_empty),
      cmocka_unit_test_setup(what_became_of_permits_is_counted, embedded_fixture_empty),
      cmocka_unit_test_setup(wait_that_is_over_is_locked, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(request_whose_answer_was_lost_takes_one_permit, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup_teardown(release_that_ended_unknown_can_be_repeated, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup_teardown(repeated_request_gets_the_same_permit, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(waiting_operation_works_under_a_loop_and_outlives_the_semaphore, embedded_fixture_empty),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_is_reported_and_leaks_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup(clients_never_hold_more_than_there_is, embedded_fixture_empty),
  };
  return embedded_server_run("semaphore", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
