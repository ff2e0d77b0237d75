/* SPDX-License-Identifier: MIT */
/* Events of a lease queue through the public interface, on a server of the test's own. */
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
#include <string.h>

enum { LONG_MS = 600000 };

static redmoon_queue *queue_of(redmoon_client *client, int64_t events) {
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.lease_ms = LONG_MS;
  options.events = events;
  redmoon_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_queue_new(client, "n", 1, &options, &queue, &err) != 0) fail_msg("%s", err.message);
  return queue;
}

static void push(redmoon_queue *queue, const char *id, int64_t delay_ms, const char *request_id) {
  redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
  redmoon_queue_pushed pushed;
  redmoon_error err;
  item.id = id;
  item.delay_ms = delay_ms;
  if (redmoon_queue_push(queue, &item, request_id, &pushed, &err) != 0) fail_msg("%s", err.message);
}

static redmoon_job *pop(redmoon_queue *queue, const char *request_id) {
  const redmoon_pop_options options = {LONG_MS, 0, request_id};
  redmoon_job *job = NULL;
  redmoon_error err;
  if (redmoon_queue_pop(queue, &options, &job, &err) != 0) fail_msg("%s", err.message);
  return job;
}

static redmoon_queue_event_list *events_of(redmoon_queue *queue, const char *since, int64_t count, int64_t timeout_ms) {
  redmoon_queue_event_list *list = NULL;
  redmoon_error err;
  if (redmoon_queue_events(queue, since, count, timeout_ms, &list, &err) != 0) fail_msg("%s", err.message);
  return list;
}

static void each_move_of_a_job_is_told(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, 1000);
  redmoon_error err;
  redmoon_nack_options later = REDMOON_NACK_OPTIONS_INIT, fatal = REDMOON_NACK_OPTIONS_INIT;
  later.delay_ms = 0;
  fatal.fatal = 1;
  push(queue, "a", 0, "first");
  push(queue, "a", 0, "first"); /* once more: nothing happens */
  redmoon_job *job = pop(queue, "taken"), *next = NULL;
  int64_t epoch = redmoon_job_epoch(job), moved;
  int removed;
  assert_int_equal(redmoon_job_progress(job, "half", 4, &err), 0);
  assert_int_equal(redmoon_job_release(job, &err), 0);
  redmoon_job_free(job);
  job = pop(queue, NULL);
  assert_int_equal(redmoon_job_nack(job, &later, NULL, &err), 0);
  redmoon_job_free(job);
  job = pop(queue, NULL);
  assert_int_equal(redmoon_job_nack(job, &fatal, NULL, &err), 0);
  redmoon_job_free(job);
  assert_int_equal(redmoon_queue_redrive(queue, 1, &moved, &err), 0);
  push(queue, "b", 0, NULL);
  push(queue, "c", LONG_MS, NULL);
  job = pop(queue, NULL);
  assert_int_equal(redmoon_job_ack_next(job, NULL, &next, &err), 0);
  int lost;
  assert_int_equal(redmoon_queue_ack_many(queue, &next, 1, &lost, 0, NULL, NULL, &err), 0);
  redmoon_job_free(job);
  redmoon_job_free(next);
  assert_int_equal(redmoon_queue_remove(queue, "c", &removed, &err), 0);
  assert_int_equal(redmoon_queue_pause(queue, &err), 0);
  assert_int_equal(redmoon_queue_resume(queue, &err), 0);
  static const char *const expected[] = {
      "added a",   "active a",   "progress a", "released a", "active a",    "failed a",  "active a", "dead a",  "redriven a",
      "added b",   "delayed c",  "active a",   "completed a", "active b",   "completed b", "removed c", "paused ", "resumed "};
  enum { EXPECTED = sizeof expected / sizeof expected[0] };
  redmoon_queue_event_list *list = events_of(queue, NULL, 1000, 0);
  assert_int_equal(list->count, EXPECTED);
  for (size_t i = 0; i < EXPECTED; i++) {
    char shown[64];
    snprintf(shown, sizeof shown, "%s %s", list->events[i].name, list->events[i].id);
    assert_string_equal(shown, expected[i]);
    assert_true(list->events[i].at_ms > 0);
  }
  assert_true(list->events[0].epoch == 0 && list->events[1].epoch == epoch && list->events[3].epoch == epoch);
  redmoon_queue_event_list *rest = events_of(queue, list->events[EXPECTED - 3].place, 1, 0);
  assert_int_equal(rest->count, 1);
  assert_string_equal(rest->events[0].name, "paused");
  redmoon_queue_event_list_free(rest);
  redmoon_queue_event_list_free(list);
  redmoon_queue_free(queue);
}

static void *wait_for_events(void *queue) { return events_of(queue, NULL, 10, LONG_MS); }

static void reader_waits_for_what_comes(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, 1000);
  redmoon_queue_event_list *none = events_of(queue, NULL, 10, 0);
  assert_int_equal(none->count, 0);
  redmoon_queue_event_list_free(none);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, wait_for_events, queue), 0);
  char clients[8192] = "";
  while (strstr(clients, "cmd=xread") == NULL) {
    poll(NULL, 0, 1);
    ask_text(f->client, clients, sizeof clients, "CLIENT", "LIST", NULL);
  }
  push(queue, "a", 0, NULL);
  void *told = NULL;
  assert_int_equal(pthread_join(thread, &told), 0);
  redmoon_queue_event_list *list = told;
  assert_int_equal(list->count, 1);
  assert_string_equal(list->events[0].id, "a");
  redmoon_queue_event_list_free(list);
  redmoon_queue_free(queue);
}

static void only_so_many_are_kept_and_none_unless_wanted(void **state) {
  fixture *f = *state;
  redmoon_queue *quiet = queue_of(f->client, 0), *queue = queue_of(f->client, 100);
  push(quiet, "a", 0, NULL);
  assert_int_equal(ask_integer(f->client, "EXISTS", "redmoon:{n}:queue.events", NULL), 0);
  redmoon_error err;
  for (int i = 0; i < 500; i++) assert_int_equal(redmoon_queue_pause(queue, &err), 0);
  int64_t kept = ask_integer(f->client, "XLEN", "redmoon:{n}:queue.events", NULL);
  assert_true(kept >= 100 && kept < 300);
  redmoon_queue_event_list *list = NULL;
  assert_int_equal(redmoon_queue_events(queue, "x", 1, 0, &list, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_queue_events(queue, NULL, 0, 0, &list, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_queue_events(queue, NULL, 1, -1, &list, &err), REDMOON_ECONFIG);
  assert_int_equal(ask_integer(f->client, "DEL", "redmoon:{n}:queue.events", NULL), 1);
  redmoon_reply_free(ask(f->client, "XADD", "redmoon:{n}:queue.events", "*", "of", "another", NULL));
  assert_int_equal(redmoon_queue_events(queue, NULL, 1, 0, &list, &err), REDMOON_EPROTOCOL);
  assert_null(list);
  redmoon_queue_free(quiet);
  redmoon_queue_free(queue);
}

#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(each_move_of_a_job_is_told),
      TEST(reader_waits_for_what_comes),
      TEST(only_so_many_are_kept_and_none_unless_wanted),
  };
  return cmocka_run_group_tests(tests, embedded_fixture_start, embedded_fixture_stop);
}
