/* SPDX-License-Identifier: MIT */
/* Groups of a lease queue through the public interface, on a server of the test's own.  What the scripts decide is proved
 * in tests/scripts/queue_spec.lua. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/embedded_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_MS = 600000 };

static redmoon_queue *queue_of(redmoon_client *client, int64_t lease_ms, int64_t concurrency, int64_t limit,
                               int64_t window_ms) {
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.lease_ms = lease_ms;
  options.group_concurrency = concurrency;
  options.group_limit = limit;
  if (limit > 0) options.group_window_ms = window_ms;
  redmoon_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_queue_new(client, "n", 1, &options, &queue, &err) != 0) fail_msg("%s", err.message);
  return queue;
}

static redmoon_queue_item item_of(const char *id, const char *group) {
  redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
  item.payload = item.id = id;
  item.len = strlen(id);
  item.group = group;
  return item;
}

static void push(redmoon_queue *queue, const char *id, const char *group) {
  redmoon_queue_item item = item_of(id, group);
  redmoon_queue_pushed pushed;
  redmoon_error err;
  if (redmoon_queue_push(queue, &item, NULL, &pushed, &err) != 0) fail_msg("%s", err.message);
}

static redmoon_job *pop_within(redmoon_queue *queue, int64_t timeout_ms) {
  redmoon_pop_options options = REDMOON_POP_OPTIONS_INIT;
  options.timeout_ms = timeout_ms;
  redmoon_job *job = NULL;
  redmoon_error err;
  if (redmoon_queue_pop(queue, &options, &job, &err) != 0) fail_msg("%s", err.message);
  return job;
}

static redmoon_job *pop_this(redmoon_queue *queue, const char *id) {
  redmoon_job *job = pop_within(queue, LONG_MS);
  assert_non_null(job);
  assert_string_equal(redmoon_job_id(job), id);
  return job;
}

static void ack(redmoon_job *job) {
  redmoon_error err;
  if (redmoon_job_ack(job, NULL, &err) != 0) fail_msg("%s", err.message);
  redmoon_job_free(job);
}

static void set_group(redmoon_queue *queue, const char *group, int64_t concurrency, int64_t limit, int64_t window_ms) {
  redmoon_group_limits limits = REDMOON_GROUP_LIMITS_INIT;
  limits.concurrency = concurrency;
  limits.limit = limit;
  limits.window_ms = window_ms;
  redmoon_error err;
  if (redmoon_queue_set_group(queue, group, &limits, &err) != 0) fail_msg("%s", err.message);
}

static redmoon_queue_counts counts_of(redmoon_queue *queue) {
  redmoon_queue_counts counts;
  redmoon_error err;
  if (redmoon_queue_stats(queue, &counts, &err) != 0) fail_msg("%s", err.message);
  assert_true(counts.pushed ==
              counts.finished + counts.removed + counts.ready + counts.delayed + counts.leased + counts.dead);
  return counts;
}

static size_t faults_of(redmoon_queue *queue, const char *what) {
  redmoon_queue_report *report = NULL;
  redmoon_error err;
  if (redmoon_queue_check(queue, &report, &err) != 0) fail_msg("%s", err.message);
  size_t count = report->count;
  if (what == NULL && count > 0) fail_msg("%s: %s", report->wrong[0].id, report->wrong[0].what);
  if (what != NULL) assert_true(count > 0 && strcmp(report->wrong[0].what, what) == 0);
  redmoon_queue_report_free(report);
  return count;
}

static void end(redmoon_queue *queue) {
  faults_of(queue, NULL);
  redmoon_queue_free(queue);
}

static void groups_take_turns_and_the_jobs_without_one_as_one_more(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 0, 0, 0);
  redmoon_queue_item items[] = {item_of("a1", "a"), item_of("a2", "a"), item_of("a3", "a"), item_of("b1", "b"),
                                item_of("b2", "b"), item_of("x1", NULL), item_of("x2", NULL), item_of("a4", "a")};
  items[3].unique = "one of a kind"; /* it travels with the group */
  items[7].priority = 9;
  redmoon_queue_pushed pushed[8];
  redmoon_error err;
  assert_int_equal(redmoon_queue_push_many(queue, items, 8, NULL, pushed, &err), 0);
  redmoon_queue_counts counts = counts_of(queue);
  assert_true(counts.ready == 8 && counts.grouped == 6 && counts.groups == 2);
  redmoon_queue_item again = items[3];
  again.id = "b3";
  assert_int_equal(redmoon_queue_push(queue, &again, NULL, pushed, &err), REDMOON_ECONFLICT);
  assert_true(pushed[0].by_unique == 1 && strcmp(pushed[0].id, "b1") == 0);
  static const char *const order[] = {"a4", "x1", "b1", "a1", "x2", "b2", "a2", "a3"};
  for (size_t i = 0; i < 5; i++) ack(pop_this(queue, order[i]));
  redmoon_job *jobs[5];
  size_t got = 0;
  assert_int_equal(redmoon_queue_pop_many(queue, NULL, 5, jobs, &got, &err), 0);
  assert_int_equal(got, 3);
  for (size_t i = 0; i < got; i++) {
    assert_string_equal(redmoon_job_id(jobs[i]), order[5 + i]);
    ack(jobs[i]);
  }
  end(queue);
}

static void full_group_holds_up_nobody_and_goes_on_with_a_free_slot(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 1, 0, 0);
  const char *ids[] = {"a1", "a2", "a3", "a4"};
  for (size_t i = 0; i < 4; i++) push(queue, ids[i], "a");
  push(queue, "b1", "b");
  redmoon_job *a = pop_this(queue, "a1"), *b = pop_this(queue, "b1"), *next = NULL;
  assert_null(pop_within(queue, 0));
  redmoon_queue_counts counts = counts_of(queue);
  assert_true(counts.grouped == 3 && counts.groups == 0);
  redmoon_error err;
  assert_int_equal(redmoon_job_release(a, &err), 0); /* the slot is free, and it is the first again */
  redmoon_job_free(a);
  a = pop_this(queue, "a1");
  assert_int_equal(redmoon_job_ack_next(a, NULL, &next, &err), 0);
  redmoon_job_free(a);
  assert_string_equal(redmoon_job_id(next), "a2");
  assert_string_equal(redmoon_job_group(next), "a");
  redmoon_nack_options put_off = REDMOON_NACK_OPTIONS_INIT;
  put_off.delay_ms = LONG_MS;
  assert_int_equal(redmoon_job_nack(next, &put_off, NULL, &err), 0);
  redmoon_job_free(next);
  a = pop_this(queue, "a3");
  int lost;
  size_t got = 0;
  assert_int_equal(redmoon_queue_ack_many(queue, &a, 1, &lost, 5, &next, &got, &err), 0);
  assert_int_equal(got, 1);
  assert_string_equal(redmoon_job_id(next), "a4");
  int removed = 0;
  push(queue, "a5", "a");
  assert_null(pop_within(queue, 0));
  assert_int_equal(redmoon_queue_remove(queue, "a4", &removed, &err), 0); /* also of a worker that has it */
  redmoon_job_free(a);
  redmoon_job_free(next);
  ack(pop_this(queue, "a5"));
  ack(b);
  end(queue);
}

static void *wait_for_a_job(void *queue) { return pop_within(queue, LONG_MS); }

/* Whether somebody waits for the marker. */
static bool somebody_waits(fixture *f) {
  char clients[8192];
  ask_text(f->client, clients, sizeof clients, "CLIENT", "LIST", NULL);
  return strstr(clients, "cmd=bzpopmin") != NULL;
}

static void waiting_worker_is_woken_when_a_slot_is_free(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 1, 0, 0);
  push(queue, "a1", "a");
  push(queue, "a2", "a");
  redmoon_job *first = pop_this(queue, "a1");
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, wait_for_a_job, queue), 0);
  while (!somebody_waits(f)) poll(NULL, 0, 1);
  ack(first);
  void *second = NULL;
  assert_int_equal(pthread_join(thread, &second), 0);
  assert_string_equal(redmoon_job_id(second), "a2");
  ack(second);
  end(queue);
}

static void slot_of_a_lease_that_is_over_is_free(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, 100, 1, 0, 0);
  push(queue, "a1", "a");
  push(queue, "a2", "a");
  redmoon_job *first = pop_this(queue, "a1"), *again = pop_this(queue, "a1");
  assert_int_equal(redmoon_job_attempt(again), 2);
  redmoon_error err;
  assert_int_equal(redmoon_job_ack(first, NULL, &err), REDMOON_ELOST);
  redmoon_job_free(first);
  ack(again);
  ack(pop_this(queue, "a2"));
  end(queue);
}

static int64_t server_us(fixture *f) {
  redmoon_reply *reply = ask(f->client, "TIME", NULL);
  size_t len;
  int64_t seconds = atoll(redmoon_reply_string(redmoon_reply_at(reply, 0), &len));
  int64_t us = atoll(redmoon_reply_string(redmoon_reply_at(reply, 1), &len));
  redmoon_reply_free(reply);
  return seconds * 1000000 + us;
}

static void no_more_begin_in_a_window_than_may(void **state) {
  fixture *f = *state;
  enum { WINDOW_MS = 120 };
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 0, 2, WINDOW_MS);
  const char *ids[] = {"a1", "a2", "a3", "a4", "a5"};
  for (size_t i = 0; i < 5; i++) push(queue, ids[i], "a");
  int64_t began_us = server_us(f);
  for (size_t i = 0; i < 4; i++) ack(pop_this(queue, ids[i])); /* waits for the window */
  assert_true(server_us(f) - began_us >= WINDOW_MS * 1000);
  ack(pop_this(queue, "a5"));
  assert_true(server_us(f) - began_us >= 2 * WINDOW_MS * 1000);
  end(queue);
}

static void group_has_limits_of_its_own_for_everybody(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 1, 0, 0), *other = queue_of(f->client, LONG_MS, 0, 0, 0);
  const char *ids[] = {"a1", "a2", "a3", "a4", "a5", "a6"};
  set_group(other, "a", 2, REDMOON_UNSET, REDMOON_UNSET);
  for (size_t i = 0; i < 6; i++) push(queue, ids[i], "a");
  redmoon_job *jobs[6];
  for (size_t i = 0; i < 2; i++) jobs[i] = pop_this(queue, ids[i]);
  assert_null(pop_within(other, 0));
  set_group(queue, "a", 0, REDMOON_UNSET, REDMOON_UNSET); /* no limit */
  jobs[2] = pop_this(queue, "a3");
  set_group(queue, "a", REDMOON_UNSET, 1, LONG_MS);
  jobs[3] = pop_this(other, "a4");
  assert_null(pop_within(other, 0));
  redmoon_error err;
  assert_int_equal(redmoon_queue_set_group(queue, "a", NULL, &err), 0);
  jobs[4] = pop_this(other, "a5");
  assert_null(pop_within(queue, 0)); /* five run, and one may */
  for (size_t i = 0; i < 5; i++) ack(jobs[i]);
  ack(pop_this(queue, "a6"));
  faults_of(queue, NULL);
  redmoon_queue_free(other);
  redmoon_queue_free(queue);
}

static void jobs_of_groups_are_looked_after_as_others_are(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 1, 0, 0);
  push(queue, "a1", "a");
  push(queue, "a2", "a");
  push(queue, "x", NULL);
  redmoon_job_list *list = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_queue_peek(queue, "a2", &list, &err), 0);
  assert_true(list->count == 1 && list->jobs[0].state == REDMOON_JOB_READY);
  assert_string_equal(list->jobs[0].group, "a");
  redmoon_job_list_free(list);
  assert_int_equal(redmoon_queue_peek(queue, "x", &list, &err), 0);
  assert_string_equal(list->jobs[0].group, "");
  redmoon_job_list_free(list);
  const redmoon_nack_options fatal = {"why", 0, 1};
  redmoon_job *alone = pop_this(queue, "x");
  assert_null(redmoon_job_group(alone));
  ack(alone);
  redmoon_job *job = pop_this(queue, "a1");
  assert_int_equal(redmoon_job_nack(job, &fatal, NULL, &err), 0);
  redmoon_job_free(job);
  ack(pop_this(queue, "a2"));
  int64_t count = 0;
  assert_int_equal(redmoon_queue_redrive(queue, REDMOON_UNSET, &count, &err), 0);
  assert_int_equal(count, 1);
  push(queue, "a3", "a");
  push(queue, "x", NULL);
  assert_int_equal(counts_of(queue).ready, 3);
  int removed = 0;
  assert_int_equal(redmoon_queue_remove(queue, "a1", &removed, &err), 0);
  assert_int_equal(removed, 1);
  faults_of(queue, NULL);
  assert_int_equal(redmoon_queue_purge(queue, REDMOON_JOB_READY, &count, &err), 0);
  assert_int_equal(count, 2);
  redmoon_queue_counts counts = counts_of(queue);
  assert_true(counts.ready == 0 && counts.grouped == 0 && counts.groups == 0 && counts.removed == 3);
  end(queue);
}

static void check_names_what_is_wrong_with_a_group(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 1, 0, 0);
  push(queue, "a1", "a");
  redmoon_job *job = pop_this(queue, "a1");
  ask_integer(f->client, "ZADD", "redmoon:{n}:queue.groups", "0", "t0000000000000009b", NULL);
  faults_of(queue, "turn of no group");
  ask_integer(f->client, "ZREM", "redmoon:{n}:queue.groups", "t0000000000000009b", NULL);
  ask_integer(f->client, "ZREM", "redmoon:{n}:queue.leased", "a1", NULL);
  faults_of(queue, "counted in its group, and not leased");
  redmoon_job_free(job);
  redmoon_queue_free(queue);
}

static void bad_limits_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  redmoon_error err;
  static const struct {
    int64_t concurrency, limit, window_ms;
    const char *message;
  } bad[] = {
      {-1, 0, REDMOON_UNSET, "concurrency: -1 is not accepted; give 0 to 1000000"},
      {0, 1000001, 1, "limit: 1000001 is not accepted"},
      {0, 5, REDMOON_UNSET, "window are given together, or neither"},
      {0, 0, 5, "window are given together, or neither"},
      {0, 1, 0, "window (ms): 0 is not accepted; give 1 to 31622400000"},
  };
  redmoon_queue *queue = queue_of(f->client, LONG_MS, 0, 0, 0), *none = NULL;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    const redmoon_group_limits limits = {bad[i].concurrency, bad[i].limit, bad[i].window_ms};
    redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
    options.group_concurrency = bad[i].concurrency;
    options.group_limit = bad[i].limit;
    options.group_window_ms = bad[i].window_ms;
    assert_int_equal(redmoon_queue_set_group(queue, "a", &limits, &err), REDMOON_ECONFIG);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
    assert_int_equal(redmoon_queue_new(f->client, "n", 1, &options, &none, &err), REDMOON_ECONFIG);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
    assert_null(none);
  }
  char name[130];
  memset(name, 'g', 129);
  name[129] = '\0';
  const char *names[] = {name, ""};
  for (size_t i = 0; i < 2; i++) {
    redmoon_queue_item item = item_of("x", names[i]);
    redmoon_queue_pushed pushed;
    assert_int_equal(redmoon_queue_push(queue, &item, NULL, &pushed, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "queue option group: "));
    assert_int_equal(redmoon_queue_set_group(queue, names[i], NULL, &err), REDMOON_ECONFIG);
  }
  assert_int_equal(redmoon_queue_set_group(queue, NULL, NULL, &err), REDMOON_ECONFIG);
  redmoon_queue_free(queue);
}

#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(groups_take_turns_and_the_jobs_without_one_as_one_more),
      TEST(full_group_holds_up_nobody_and_goes_on_with_a_free_slot),
      TEST(waiting_worker_is_woken_when_a_slot_is_free),
      TEST(slot_of_a_lease_that_is_over_is_free),
      TEST(no_more_begin_in_a_window_than_may),
      TEST(group_has_limits_of_its_own_for_everybody),
      TEST(jobs_of_groups_are_looked_after_as_others_are),
      TEST(check_names_what_is_wrong_with_a_group),
      TEST(bad_limits_are_refused_with_what_is_accepted),
  };
  return cmocka_run_group_tests(tests, embedded_fixture_start, embedded_fixture_stop);
}
