/* SPDX-License-Identifier: MIT */
/* Every request for memory of a queue's calls is refused: see support/refused_memory.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/refused_memory.h"

#include <stdio.h>
#include <string.h>

enum { LONG_MS = 60000 };

typedef struct hands {
  redmoon_queue *queue, *silent;
  redmoon_job *job, *next, *many[2];
  size_t got, got_last;
  redmoon_job *last;
  char request[sizeof((world *)0)->tag];
} hands;

static redmoon_queue_item item_of(const char *id) {
  redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
  item.payload = "payload";
  item.len = 7;
  item.id = id;
  return item;
}

static int push(hands *h, redmoon_error *err) {
  redmoon_queue_item one = item_of("a"), many[] = {item_of("b"), item_of("c"), item_of("c"), item_of(NULL)};
  redmoon_queue_pushed pushed[4];
  const redmoon_group_limits limits = {3, REDMOON_UNSET, REDMOON_UNSET};
  many[1].group = many[3].group = "g";
  int rc = redmoon_queue_push(h->queue, &one, h->request, pushed, err);
  if (rc == 0) rc = redmoon_queue_set_group(h->queue, "g", &limits, err);
  if (rc == 0) rc = redmoon_queue_push_many(h->queue, many, 4, NULL, pushed, err);
  if (rc == 0) assert_int_equal(pushed[2].status, REDMOON_ECONFLICT);
  return rc;
}

/* Jobs of equal options, where no events are told. */
static int push_bundle(hands *h, redmoon_error *err) {
  const redmoon_queue_item plain[] = {item_of(NULL), item_of(NULL)};
  redmoon_queue_pushed pushed[2] = {0};
  int rc = redmoon_queue_push_many(h->silent, plain, 2, NULL, pushed, err);
  char request[sizeof h->request + 8];
  snprintf(request, sizeof request, "%.*s-many", (int)sizeof h->request - 1, h->request);
  if (rc == 0) rc = redmoon_queue_push_many(h->silent, plain, 2, request, pushed, err);
  if (rc == 0) assert_string_equal(pushed[1].id + 20, "-01");
  return rc;
}

static int run_jobs(hands *h, redmoon_error *err) {
  static const redmoon_pop_options wait = {LONG_MS, 1, NULL};
  static const redmoon_ack_options kept = {"result", 6, LONG_MS};
  static const redmoon_nack_options fatal = {"why", 0, 1};
  int lost = 1, dead = 0, rc = redmoon_queue_pop(h->queue, &wait, &h->job, err);
  if (rc != 0) return rc;
  assert_non_null(h->job);
  rc = redmoon_job_extend(h->job, LONG_MS, err);
  if (rc == 0) rc = redmoon_job_progress(h->job, "half", 4, err);
  if (rc == 0) rc = redmoon_queue_extend_many(h->queue, &h->job, 1, LONG_MS, &lost, err);
  if (rc == 0) rc = redmoon_job_ack_next(h->job, &kept, &h->next, err);
  if (rc == 0) rc = redmoon_job_nack(h->next, &fatal, &dead, err);
  if (rc == 0) assert_int_equal(dead, 1);
  if (rc == 0) rc = redmoon_queue_pop_many(h->queue, NULL, 2, h->many, &h->got, err);
  if (rc == 0) rc = redmoon_job_release(h->many[0], err);
  if (rc == 0) rc = redmoon_queue_ack_many(h->queue, &h->many[1], 1, &lost, 1, &h->last, &h->got_last, err);
  if (rc == 0) assert_int_equal(h->got_last, 1);
  return rc == 0 ? redmoon_job_ack(h->last, NULL, err) : rc;
}

static int look_after(hands *h, redmoon_error *err) {
  redmoon_job_list *list = NULL;
  redmoon_queue_report *report = NULL;
  redmoon_queue_counts counts;
  int64_t count = 0;
  int removed = 0, rc = redmoon_queue_peek(h->queue, "a", &list, err);
  if (rc == 0) assert_int_equal(list->jobs[0].result.len, 6);
  redmoon_job_list_free(list);
  list = NULL;
  if (rc == 0) rc = redmoon_queue_peek(h->queue, "c", &list, err);
  if (rc == 0) assert_string_equal(list->jobs[0].group, "g");
  redmoon_job_list_free(list);
  list = NULL;
  if (rc == 0) rc = redmoon_queue_dead(h->queue, 0, 10, &list, err);
  if (rc == 0) assert_int_equal(list->count, 1);
  redmoon_job_list_free(list);
  if (rc == 0) rc = redmoon_queue_redrive(h->queue, REDMOON_UNSET, &count, err);
  if (rc == 0) rc = redmoon_queue_pause(h->queue, err);
  if (rc == 0) rc = redmoon_queue_resume(h->queue, err);
  if (rc == 0) rc = redmoon_queue_stats(h->queue, &counts, err);
  if (rc == 0) rc = redmoon_queue_remove(h->queue, "b", &removed, err);
  if (rc == 0) rc = redmoon_queue_check(h->queue, &report, err);
  if (rc == 0) assert_int_equal(report->count, 0);
  redmoon_queue_report_free(report);
  redmoon_queue_event_list *events = NULL;
  if (rc == 0) rc = redmoon_queue_events(h->queue, NULL, 5, 0, &events, err);
  if (rc == 0) assert_string_equal(events->events[0].name, "added");
  redmoon_queue_event_list_free(events);
  if (rc == 0) rc = push_bundle(h, err);
  return rc == 0 ? redmoon_queue_purge(h->queue, REDMOON_JOB_READY, &count, err) : rc;
}

static int queue(world *w, redmoon_error *err) {
  hands h = {0};
  snprintf(h.request, sizeof h.request, "%s", w->tag);
  for (char *at = strchr(h.request, ':'); at != NULL; at = strchr(at, ':')) *at = '-';
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.group_concurrency = 1;
  options.events = 1000;
  int rc = redmoon_queue_new(w->client, w->tag, strlen(w->tag), &options, &h.queue, err);
  if (rc != 0) {
    assert_null(h.queue);
    return rc;
  }
  rc = redmoon_queue_new(w->client, w->tag, strlen(w->tag), NULL, &h.silent, err);
  if (rc == 0) rc = push(&h, err);
  if (rc == 0) rc = run_jobs(&h, err);
  if (rc == 0) rc = look_after(&h, err);
  for (size_t i = 0; i < h.got; i++) redmoon_job_free(h.many[i]);
  if (h.got_last > 0) redmoon_job_free(h.last);
  redmoon_job_free(h.next);
  redmoon_job_free(h.job);
  redmoon_queue_free(h.silent);
  redmoon_queue_free(h.queue);
  return rc;
}

/* Wherever it failed, each job is in one place, and none is missing. */
static void check_queue(world *w, int status, const redmoon_error *err) {
  (void)err;
  redmoon_queue *q = NULL;
  redmoon_queue_report *report = NULL;
  redmoon_queue_counts c;
  assert_int_equal(redmoon_queue_new(w->client, w->tag, strlen(w->tag), NULL, &q, NULL), 0);
  assert_int_equal(redmoon_queue_check(q, &report, NULL), 0);
  assert_int_equal(report->count, 0);
  redmoon_queue_report_free(report);
  assert_int_equal(redmoon_queue_stats(q, &c, NULL), 0);
  assert_true(c.pushed == c.finished + c.removed + c.ready + c.delayed + c.leased + c.dead);
  if (status == 0) assert_int_equal(c.pushed, 8);
  redmoon_queue_free(q);
}

/* A worker that waits, and keeps the time itself. */
static int waiting(world *w, redmoon_error *err) {
  static const redmoon_pop_options wait = {LONG_MS, 0, "memory"};
  redmoon_queue *q = NULL;
  char name[sizeof w->tag + 8];
  snprintf(name, sizeof name, "%s waits", w->tag); /* the other scenario has tags like these */
  redmoon_queue_item item = item_of("late");
  redmoon_queue_pushed pushed;
  redmoon_job *job = NULL;
  item.delay_ms = 20;
  int rc = redmoon_queue_new(w->client, name, strlen(name), NULL, &q, err);
  if (rc == 0) rc = redmoon_queue_push(q, &item, NULL, &pushed, err);
  if (rc == 0) rc = redmoon_queue_pop(q, &wait, &job, err);
  if (rc == 0) rc = redmoon_job_ack(job, NULL, err);
  redmoon_job_free(job);
  redmoon_queue_free(q);
  return rc;
}

static void check_waiting(world *w, int status, const redmoon_error *err) {
  (void)err;
  redmoon_queue *q = NULL;
  redmoon_queue_counts c;
  char name[sizeof w->tag + 8];
  snprintf(name, sizeof name, "%s waits", w->tag);
  assert_int_equal(redmoon_queue_new(w->client, name, strlen(name), NULL, &q, NULL), 0);
  assert_int_equal(redmoon_queue_stats(q, &c, NULL), 0);
  assert_true(c.pushed <= 1 && c.pushed == c.finished + c.ready + c.delayed + c.leased);
  if (status == 0) assert_int_equal(c.finished, 1);
  redmoon_queue_free(q);
}

static void refused_memory_fails_a_queue_cleanly(void **state) {
  static const scenario list[] = {{"queue", queue, check_queue, false}, {"queue, waiting", waiting, check_waiting, false}};
  squeeze_list(*state, list, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_queue_cleanly, refused_memory_start, refused_memory_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
