/* SPDX-License-Identifier: MIT */
/* Lease queues through the public interface, on a server of the test's own.  What the scripts decide is proved in
 * tests/scripts, what becomes of killed workers in tests/soak/queue_crashes.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/cutter.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"
#include "support/redis_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_MS = 600000 };

static redmoon_queue *queue_of(redmoon_client *client, int64_t lease_ms) {
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.lease_ms = lease_ms;
  redmoon_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_queue_new(client, "n", 1, &options, &queue, &err) != 0) fail_msg("%s", err.message);
  return queue;
}

static redmoon_queue_item item_of(const char *payload) {
  redmoon_queue_item item = REDMOON_QUEUE_ITEM_INIT;
  item.payload = payload;
  item.len = strlen(payload);
  return item;
}

static redmoon_queue_pushed push(redmoon_queue *queue, const redmoon_queue_item *item) {
  redmoon_queue_pushed pushed;
  redmoon_error err;
  if (redmoon_queue_push(queue, item, NULL, &pushed, &err) != 0) fail_msg("%s", err.message);
  return pushed;
}

static redmoon_queue_pushed push_text(redmoon_queue *queue, const char *payload) {
  const redmoon_queue_item item = item_of(payload);
  return push(queue, &item);
}

/* NULL when there is none within `timeout_ms`. */
static redmoon_job *pop_within(redmoon_queue *queue, int64_t timeout_ms) {
  redmoon_pop_options options = REDMOON_POP_OPTIONS_INIT;
  options.timeout_ms = timeout_ms;
  redmoon_job *job = NULL;
  redmoon_error err;
  if (redmoon_queue_pop(queue, &options, &job, &err) != 0) fail_msg("%s", err.message);
  return job;
}

static redmoon_job *pop(redmoon_queue *queue) {
  redmoon_job *job = pop_within(queue, LONG_MS);
  assert_non_null(job);
  return job;
}

static void ack(redmoon_job *job) {
  redmoon_error err;
  if (redmoon_job_ack(job, NULL, &err) != 0) fail_msg("%s", err.message);
  redmoon_job_free(job);
}

static redmoon_queue_counts counts_of(redmoon_queue *queue) {
  redmoon_queue_counts counts;
  redmoon_error err;
  if (redmoon_queue_stats(queue, &counts, &err) != 0) fail_msg("%s", err.message);
  assert_true(counts.pushed ==
              counts.finished + counts.removed + counts.ready + counts.delayed + counts.leased + counts.dead);
  return counts;
}

static void assert_clean(redmoon_queue *queue) {
  redmoon_queue_report *report = NULL;
  redmoon_error err;
  if (redmoon_queue_check(queue, &report, &err) != 0) fail_msg("%s", err.message);
  if (report->count > 0) fail_msg("%s: %s", report->wrong[0].id, report->wrong[0].what);
  redmoon_queue_report_free(report);
}

static void assert_payload(const redmoon_job *job, const char *text) {
  size_t len;
  const char *payload = redmoon_job_payload(job, &len);
  assert_int_equal(len, strlen(text));
  assert_memory_equal(payload, text, len);
}

static void job_goes_through_from_push_to_ack(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  assert_null(pop_within(queue, 0));
  redmoon_queue_pushed pushed = push_text(queue, "send mail");
  assert_int_equal(strlen(pushed.id), 20);
  redmoon_job *job = pop(queue);
  assert_string_equal(redmoon_job_id(job), pushed.id);
  assert_payload(job, "send mail");
  assert_int_equal(redmoon_job_attempt(job), 1);
  assert_true(redmoon_job_epoch(job) > 0);
  assert_true(redmoon_job_held(job));
  assert_true(redmoon_job_remaining_ms(job) <= LONG_MS - LONG_MS / 100 && redmoon_job_remaining_ms(job) > LONG_MS / 2);
  assert_null(pop_within(queue, 0));
  assert_int_equal(counts_of(queue).leased, 1);
  redmoon_error err;
  assert_int_equal(redmoon_job_ack(job, NULL, &err), 0);
  assert_false(redmoon_job_held(job));
  assert_int_equal(redmoon_job_ack(job, NULL, &err), REDMOON_ELOST); /* without I/O */
  redmoon_job_free(job);
  assert_int_equal(counts_of(queue).finished, 1);
  assert_int_equal(ask_integer(f->client, "EXISTS", "redmoon:{n}:queue.jobs", NULL), 0);
  redmoon_queue_free(queue);
}

static void jobs_go_by_priority_and_in_each_in_their_order(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_item items[60];
  redmoon_queue_pushed pushed[60];
  char payload[60][12];
  for (int i = 0; i < 60; i++) {
    snprintf(payload[i], sizeof payload[i], "%d", i);
    items[i] = item_of(payload[i]);
    items[i].priority = i % 3;
  }
  redmoon_error err;
  if (redmoon_queue_push_many(queue, items, 60, NULL, pushed, &err) != 0) fail_msg("%s", err.message);
  for (int priority = 2; priority >= 0; priority--)
    for (int i = priority; i < 60; i += 3) {
      redmoon_job *job = pop(queue);
      assert_string_equal(redmoon_job_id(job), pushed[i].id);
      ack(job);
    }
  redmoon_queue_free(queue);
}

static void taken_ids_and_unique_keys_are_conflicts(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_item item = item_of("x");
  item.id = "one";
  item.unique = "mail of ann";
  push(queue, &item);
  redmoon_queue_pushed pushed;
  redmoon_error err;
  assert_int_equal(redmoon_queue_push(queue, &item, NULL, &pushed, &err), REDMOON_ECONFLICT);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_string_equal(err.message, "queue 'n': there is a job 'one' already");
  assert_int_equal(pushed.status, REDMOON_ECONFLICT);
  assert_false(pushed.by_unique);
  redmoon_queue_item items[3] = {item, item, item_of("third")};
  items[1].id = "two";
  redmoon_queue_pushed many[3];
  if (redmoon_queue_push_many(queue, items, 3, NULL, many, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(many[0].status, REDMOON_ECONFLICT);
  assert_int_equal(many[1].status, REDMOON_ECONFLICT);
  assert_true(many[1].by_unique);
  assert_string_equal(many[1].id, "one");
  assert_int_equal(many[2].status, 0);
  assert_int_equal(counts_of(queue).ready, 2);
  ack(pop(queue));
  assert_int_equal(redmoon_queue_push(queue, &item, NULL, &pushed, &err), 0); /* both are free again */
  assert_clean(queue);
  redmoon_queue_free(queue);
}

static void worker_that_lost_its_lease_is_told(void **state) {
  fixture *f = *state;
  redmoon_queue *brief = queue_of(f->client, 100), *queue = queue_of(f->client, LONG_MS);
  push_text(queue, "x");
  redmoon_job *lost = pop(brief), *job = pop(queue); /* waits until the lease is over */
  assert_string_equal(redmoon_job_id(lost), redmoon_job_id(job));
  assert_int_equal(redmoon_job_attempt(job), 2);
  assert_true(redmoon_job_epoch(job) > redmoon_job_epoch(lost));
  assert_false(redmoon_job_held(lost));
  redmoon_error err;
  redmoon_job *next = NULL;
  int dead = -1, gone[2];
  assert_int_equal(redmoon_job_ack(lost, NULL, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(redmoon_job_ack_next(lost, NULL, &next, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_job_nack(lost, NULL, &dead, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_job_extend(lost, REDMOON_UNSET, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_job_release(lost, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_job_progress(lost, "1", 1, &err), REDMOON_ELOST);
  redmoon_job *const both[] = {job, lost};
  if (redmoon_queue_extend_many(queue, both, 2, REDMOON_UNSET, gone, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(gone[0], 0);
  assert_int_equal(gone[1], 1);
  assert_null(next);
  assert_int_equal(dead, -1);
  redmoon_job_free(lost);
  ack(job);
  redmoon_queue_free(brief);
  redmoon_queue_free(queue);
}

static void failures_are_delayed_until_there_were_too_many(void **state) {
  fixture *f = *state;
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.max_attempts = 3;
  options.min_backoff_ms = 3;
  options.max_backoff_ms = 5;
  redmoon_queue *queue = NULL;
  assert_int_equal(redmoon_queue_new(f->client, "n", 1, &options, &queue, NULL), 0);
  redmoon_queue_pushed pushed = push_text(queue, "x");
  redmoon_nack_options why = REDMOON_NACK_OPTIONS_INIT;
  why.error = "no such mailbox";
  for (int i = 1; i <= 3; i++) {
    redmoon_job *job = pop(queue);
    assert_int_equal(redmoon_job_attempt(job), i);
    int dead = -1;
    assert_int_equal(redmoon_job_nack(job, &why, &dead, NULL), 0);
    assert_int_equal(dead, i == 3);
    redmoon_job_free(job);
  }
  redmoon_job_list *list = NULL;
  assert_int_equal(redmoon_queue_dead(queue, 0, 10, &list, NULL), 0);
  assert_int_equal(list->total, 1);
  assert_int_equal(list->count, 1);
  assert_string_equal(list->jobs[0].id, pushed.id);
  assert_string_equal(list->jobs[0].error, "no such mailbox");
  assert_int_equal(list->jobs[0].failures, 3);
  assert_int_equal(list->jobs[0].payload.len, 1);
  redmoon_job_list_free(list);
  int64_t moved = 0;
  assert_int_equal(redmoon_queue_redrive(queue, REDMOON_UNSET, &moved, NULL), 0);
  assert_int_equal(moved, 1);
  redmoon_job *job = pop(queue);
  assert_int_equal(redmoon_job_attempt(job), 1);
  why.fatal = 1;
  assert_int_equal(redmoon_job_nack(job, &why, NULL, NULL), 0);
  redmoon_job_free(job);
  assert_int_equal(counts_of(queue).dead, 1);
  redmoon_queue_free(queue);
}

static void result_and_progress_are_seen_for_their_time(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_item item = item_of("x");
  item.id = "one";
  item.unique = "u";
  item.max_attempts = 7;
  push(queue, &item);
  redmoon_job *job = pop(queue);
  assert_int_equal(redmoon_job_progress(job, "50 %", 4, NULL), 0);
  redmoon_job_list *list = NULL;
  assert_int_equal(redmoon_queue_peek(queue, "one", &list, NULL), 0);
  assert_int_equal(list->count, 1);
  assert_int_equal(list->jobs[0].state, REDMOON_JOB_LEASED);
  assert_memory_equal(list->jobs[0].result.ptr, "50 %", 4);
  assert_string_equal(list->jobs[0].unique, "u");
  assert_int_equal(list->jobs[0].max_attempts, 7);
  assert_int_equal(list->jobs[0].epoch, redmoon_job_epoch(job));
  redmoon_job_list_free(list);
  redmoon_ack_options done = {"\0ok", 3, LONG_MS};
  assert_int_equal(redmoon_job_ack(job, &done, NULL), 0);
  redmoon_job_free(job);
  assert_int_equal(redmoon_queue_peek(queue, "one", &list, NULL), 0);
  assert_int_equal(list->jobs[0].state, REDMOON_JOB_DONE);
  assert_int_equal(list->jobs[0].result.len, 3);
  assert_memory_equal(list->jobs[0].result.ptr, "\0ok", 3);
  redmoon_job_list_free(list);
  assert_int_equal(redmoon_queue_peek(queue, "two", &list, NULL), 0);
  assert_int_equal(list->count, 0);
  redmoon_job_list_free(list);
  assert_clean(queue);
  int64_t removed = 0;
  assert_int_equal(redmoon_queue_purge(queue, REDMOON_JOB_DONE, &removed, NULL), 0);
  assert_int_equal(removed, 1);
  redmoon_queue_free(queue);
}

static void ack_takes_the_next_job_along(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  for (int i = 0; i < 3; i++) push_text(queue, "x");
  redmoon_job *job = pop(queue), *next = NULL;
  for (int i = 0; i < 3; i++) {
    assert_int_equal(redmoon_job_ack_next(job, NULL, &next, NULL), 0);
    redmoon_job_free(job);
    job = next;
    assert_true((job == NULL) == (i == 2));
  }
  assert_int_equal(counts_of(queue).finished, 3);
  redmoon_queue_free(queue);
}

static void many_jobs_are_acknowledged_and_the_next_taken_at_once(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS), *brief = queue_of(f->client, 100);
  push_text(queue, "lost");
  redmoon_job *lost_one = pop(brief), *taken = pop(queue), *jobs[4], *next[5];
  for (int i = 0; i < 8; i++) push_text(queue, "x");
  size_t got = 0;
  int lost[4] = {9, 9, 9, 9};
  redmoon_error err;
  assert_int_equal(redmoon_queue_pop_many(queue, NULL, 3, jobs, &got, &err), 0);
  assert_int_equal(got, 3);
  jobs[3] = lost_one;
  if (redmoon_queue_ack_many(queue, jobs, 4, lost, 5, next, &got, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(got, 5);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(lost[i], i == 3);
    assert_false(redmoon_job_held(jobs[i]));
    redmoon_job_free(jobs[i]);
  }
  if (redmoon_queue_ack_many(queue, next, 4, lost, 0, NULL, NULL, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_queue_ack_many(queue, next, 0, lost, 0, NULL, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_queue_ack_many(queue, next, 1, lost, 501, next, &got, &err), REDMOON_ECONFIG);
  redmoon_queue_counts counts = counts_of(queue);
  assert_int_equal(counts.finished, 7);
  assert_int_equal(counts.leased, 2);
  for (int i = 0; i < 5; i++) redmoon_job_free(next[i]);
  redmoon_job_free(taken);
  assert_clean(queue);
  redmoon_queue_free(queue);
  redmoon_queue_free(brief);
}

static void released_job_keeps_its_place_and_its_attempts(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_pushed first = push_text(queue, "1");
  push_text(queue, "2");
  redmoon_job *job = pop(queue);
  assert_int_equal(redmoon_job_release(job, NULL), 0);
  redmoon_job_free(job);
  job = pop(queue);
  assert_string_equal(redmoon_job_id(job), first.id);
  assert_int_equal(redmoon_job_attempt(job), 1);
  ack(job);
  redmoon_queue_free(queue);
}

static void lease_is_renewed_while_the_worker_computes(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, 1500);
  redmoon_pop_options options = {LONG_MS, 1, NULL};
  push_text(queue, "x");
  redmoon_job *job = NULL;
  redmoon_error err;
  if (redmoon_queue_pop(queue, &options, &job, &err) != 0) fail_msg("%s", err.message);
  double lease[3];
  for (int i = 0; i < 3; i++) /* seen to be prolonged twice, by nobody's call */
    do {
      redmoon_reply *reply = ask(f->client, "ZSCORE", "redmoon:{n}:queue.leased", redmoon_job_id(job), NULL);
      assert_int_equal(redmoon_reply_type(reply), REDMOON_DOUBLE);
      lease[i] = redmoon_reply_double(reply);
      redmoon_reply_free(reply);
    } while (i > 0 && lease[i] <= lease[i - 1]);
  assert_true(redmoon_job_held(job));
  ack(job);
  redmoon_queue_free(queue);
}

static void removed_and_purged_jobs_are_gone(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_item item = item_of("x");
  item.id = "one";
  push(queue, &item);
  redmoon_job *job = pop(queue);
  int removed = -1;
  assert_int_equal(redmoon_queue_remove(queue, "one", &removed, NULL), 0);
  assert_int_equal(removed, 1);
  assert_int_equal(redmoon_queue_remove(queue, "one", &removed, NULL), 0);
  assert_int_equal(removed, 0);
  redmoon_error err;
  assert_int_equal(redmoon_job_ack(job, NULL, &err), REDMOON_ELOST);
  redmoon_job_free(job);
  item.id = NULL;
  item.delay_ms = LONG_MS;
  for (int i = 0; i < 1200; i++) push(queue, &item);
  int64_t purged = 0;
  assert_int_equal(redmoon_queue_purge(queue, REDMOON_JOB_DELAYED, &purged, NULL), 0);
  assert_int_equal(purged, 1200);
  assert_int_equal(redmoon_queue_purge(queue, REDMOON_JOB_LEASED, &purged, &err), REDMOON_ECONFIG);
  assert_int_equal(counts_of(queue).removed, 1201);
  redmoon_queue_free(queue);
}

static void check_names_what_is_wrong(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_queue_item item = item_of("x");
  for (int i = 0; i < 700; i++) {
    item.delay_ms = i % 2 == 0 ? LONG_MS : REDMOON_UNSET;
    push(queue, &item);
  }
  assert_clean(queue);
  assert_int_equal(ask_integer(f->client, "ZADD", "redmoon:{n}:queue.dead", "1", "ghost", NULL), 1);
  redmoon_queue_report *report = NULL;
  assert_int_equal(redmoon_queue_check(queue, &report, NULL), 0);
  assert_int_equal(report->jobs, 700);
  assert_int_equal(report->count, 1);
  assert_string_equal(report->wrong[0].what, "no record");
  assert_string_equal(report->wrong[0].id, "ghost");
  redmoon_queue_report_free(report);
  redmoon_queue_free(queue);
}

static void paused_queue_hands_nothing_out_until_it_goes_on(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  push_text(queue, "x");
  assert_int_equal(redmoon_queue_pause(queue, NULL), 0);
  assert_true(counts_of(queue).paused);
  assert_null(pop_within(queue, 1));
  assert_int_equal(redmoon_queue_resume(queue, NULL), 0);
  ack(pop(queue));
  redmoon_queue_free(queue);
}

/* Waiting. */

static bool poll_once(redmoon_op *op, int timeout_ms) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {wants.fd, 0, 0};
  if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
  if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
  if (timeout_ms < 0 || (wants.timeout_ms >= 0 && wants.timeout_ms < timeout_ms)) timeout_ms = (int)wants.timeout_ms;
  poll(&fd, 1, timeout_ms);
  return redmoon_op_step(op);
}

static redmoon_op *waiting_pop(redmoon_client *client, redmoon_queue *queue, redmoon_job **job) {
  redmoon_pop_options options = REDMOON_POP_OPTIONS_INIT;
  options.timeout_ms = LONG_MS;
  redmoon_op *op = NULL;
  redmoon_error err;
  if (redmoon_queue_pop_start(queue, &options, job, &op, &err) != 0) fail_msg("%s", err.message);
  int64_t blocked = 0;
  while (blocked == 0) { /* until the server has it wait for the marker */
    assert_false(poll_once(op, 1));
    char text[4096];
    assert_true(ask_text(client, text, sizeof text, "INFO", "clients", NULL) > 0);
    const char *at = strstr(text, "blocked_clients:");
    assert_non_null(at);
    blocked = strtol(at + sizeof "blocked_clients:" - 1, NULL, 10);
  }
  return op;
}

static void waiting_worker_is_woken_by_a_push(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_job *job = NULL;
  redmoon_op *op = waiting_pop(f->client, queue, &job);
  push_text(queue, "x");
  while (!poll_once(op, -1)) continue;
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_non_null(job);
  ack(job);
  redmoon_queue_free(queue);
}

static void wait_can_be_cancelled(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  redmoon_job *job = NULL;
  redmoon_op *op = waiting_pop(f->client, queue, &job);
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  push_text(queue, "x");
  ack(pop(queue)); /* nobody took it */
  redmoon_queue_free(queue);
}

typedef struct closer {
  redmoon_client *client, *asks;
} closer;

static void *close_when_blocked(void *arg) {
  closer *c = arg;
  for (;;) {
    redmoon_reply *reply = NULL;
    if (redmoon_command(c->asks, 2, (const char *[]){"INFO", "clients"}, NULL, &reply, NULL) != 0) break;
    size_t len;
    const char *text = redmoon_reply_string(reply, &len);
    bool blocked = text != NULL && strstr(text, "blocked_clients:1") != NULL;
    redmoon_reply_free(reply);
    if (blocked) break;
  }
  redmoon_client_shutdown(c->client);
  return NULL;
}

static void shutdown_of_the_client_ends_a_wait(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_queue *queue = queue_of(own, LONG_MS);
  closer c = {own, f->client};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, close_when_blocked, &c), 0);
  redmoon_pop_options options = {LONG_MS, 0, NULL};
  redmoon_job *job = NULL;
  assert_int_equal(redmoon_queue_pop(queue, &options, &job, NULL), REDMOON_ECLOSED);
  pthread_join(thread, NULL);
  redmoon_queue_free(queue);
  redmoon_client_close(own);
}

/* Many workers wait, jobs come one by one and in bunches, some of them delayed: each job is taken, and by one. */
enum { WAITERS = 8, WAITED_JOBS = 4000 };
typedef struct countdown {
  pthread_mutex_t lock;
  pthread_cond_t fell;
  int left;
} countdown;

static void count_down(countdown *c) {
  pthread_mutex_lock(&c->lock);
  c->left--;
  pthread_cond_signal(&c->fell);
  pthread_mutex_unlock(&c->lock);
}

static void await_left(countdown *c, int most) {
  pthread_mutex_lock(&c->lock);
  while (c->left > most) pthread_cond_wait(&c->fell, &c->lock);
  pthread_mutex_unlock(&c->lock);
}

typedef struct waiter {
  redmoon_queue *queue;
  countdown *jobs;
  int taken, failed;
} waiter;

static void *take_until_all_are_done(void *arg) {
  waiter *self = arg;
  redmoon_pop_options options = {LONG_MS, 0, NULL};
  for (;;) {
    redmoon_job *job = NULL;
    if (redmoon_queue_pop(self->queue, &options, &job, NULL) != 0 || job == NULL) {
      self->failed++;
      return NULL;
    }
    size_t len;
    bool last = memcmp(redmoon_job_payload(job, &len), "end", 3) == 0;
    if (redmoon_job_ack(job, NULL, NULL) != 0) self->failed++;
    redmoon_job_free(job);
    if (last) return NULL;
    self->taken++;
    count_down(self->jobs);
  }
}

static void each_job_wakes_a_worker_that_waits(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  countdown jobs = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, WAITED_JOBS};
  pthread_t threads[WAITERS];
  waiter waiters[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    waiters[i] = (waiter){queue, &jobs, 0, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, take_until_all_are_done, &waiters[i]), 0);
  }
  redmoon_queue_item items[10];
  redmoon_queue_pushed pushed[10];
  for (int done = 0; done < WAITED_JOBS;) {
    size_t count = (size_t)(done % 10 == 0 ? 10 : 1);
    if (count > (size_t)(WAITED_JOBS - done)) count = (size_t)(WAITED_JOBS - done);
    for (size_t i = 0; i < count; i++) {
      items[i] = item_of("job");
      if (done % 7 == 0) items[i].delay_ms = done % 20;
    }
    assert_int_equal(redmoon_queue_push_many(queue, items, count, NULL, pushed, NULL), 0);
    done += (int)count;
    if (done % 3 == 0) await_left(&jobs, WAITED_JOBS - done); /* all of them wait again */
  }
  await_left(&jobs, 0);
  for (int i = 0; i < WAITERS; i++) push_text(queue, "end");
  int taken = 0, failed = 0;
  for (int i = 0; i < WAITERS; i++) {
    pthread_join(threads[i], NULL);
    taken += waiters[i].taken;
    failed += waiters[i].failed;
  }
  assert_int_equal(taken, WAITED_JOBS);
  assert_int_equal(failed, 0);
  assert_int_equal(counts_of(queue).finished, WAITED_JOBS + WAITERS);
  redmoon_queue_free(queue);
}

/* Idle servers end a blocked wait late; with a second connection nobody has to wait for that. */
static void who_keeps_the_time_sets_the_marker_itself(void **state) {
  fixture *f = *state;
  for (int size = 1; size <= 2; size++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.pool_size = size;
    redmoon_client *own;
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), &options, &own, NULL), 0);
    redmoon_queue *queue = queue_of(own, LONG_MS);
    int rung = 0;
    for (int i = 0; i < 20 && (i == 0 || (size == 2 && rung == 0)); i++) {
      redmoon_queue_item item = item_of("x");
      item.delay_ms = 40;
      push(queue, &item);
      ack(pop(queue)); /* with one connection, too */
      char *text;
      size_t len;
      assert_int_equal(redmoon_client_metrics(own, &text, &len, NULL), 0);
      rung = strstr(text, "command=\"ZADD\"") != NULL;
      redmoon_free(text);
    }
    if (size == 2) assert_true(rung);
    redmoon_queue_free(queue);
    redmoon_client_close(own);
  }
}

/* Answers that are lost. */

static void push_of_a_request_whose_answer_was_lost_pushes_one_job(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_queue *queue = queue_of(through, LONG_MS);
  redmoon_queue_item item = item_of("x");
  redmoon_queue_pushed pushed, again;
  redmoon_error err;
  cutter_lose(c, 1); /* repeated by the client itself */
  if (redmoon_queue_push(queue, &item, "order-17", &pushed, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(cutter_left(c), 0);
  if (redmoon_queue_push(queue, &item, "order-17", &again, &err) != 0) fail_msg("%s", err.message);
  assert_string_equal(pushed.id, again.id);
  assert_int_equal(counts_of(queue).ready, 1);
  cutter_lose(c, 1); /* without an id of the request it is not */
  assert_true(redmoon_queue_push(queue, &item, NULL, &pushed, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(counts_of(queue).ready, 2);
  redmoon_queue_free(queue);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void pop_of_a_request_whose_answer_was_lost_gets_the_same_jobs(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_queue *queue = queue_of(through, LONG_MS), *elsewhere = queue_of(f->client, LONG_MS);
  for (int i = 0; i < 5; i++) push_text(queue, "x");
  redmoon_pop_options request = {LONG_MS, 0, "worker-3"};
  redmoon_job *jobs[3], *again[3];
  size_t got = 0;
  redmoon_error err;
  cutter_lose(c, 1); /* repeated by the client itself */
  if (redmoon_queue_pop_many(queue, &request, 3, jobs, &got, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(got, 3);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(counts_of(queue).leased, 3);
  ack(jobs[0]);
  if (redmoon_queue_pop_many(elsewhere, &request, 3, again, &got, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(got, 2);
  for (int i = 0; i < 2; i++) {
    assert_string_equal(redmoon_job_id(again[i]), redmoon_job_id(jobs[i + 1]));
    assert_true(redmoon_job_epoch(again[i]) == redmoon_job_epoch(jobs[i + 1]));
    ack(again[i]);
    redmoon_job_free(jobs[i + 1]);
  }
  assert_int_equal(redmoon_queue_pop_many(elsewhere, &request, 3, again, &got, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(counts_of(queue).ready, 2);
  redmoon_queue_free(queue);
  redmoon_queue_free(elsewhere);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void end_of_a_job_whose_answer_was_lost_is_no_loss(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_queue *queue = queue_of(through, LONG_MS);
  for (int i = 0; i < 3; i++) push_text(queue, "x");
  redmoon_job *acked = pop(queue), *nacked = pop(queue), *released = pop(queue);
  redmoon_nack_options later = {"why", LONG_MS, 0};
  cutter_lose(c, 1);
  assert_int_equal(redmoon_job_ack(acked, NULL, NULL), 0);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_job_nack(nacked, &later, NULL, NULL), 0);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_job_release(released, NULL), 0);
  push_text(queue, "many");
  redmoon_job *many[2] = {pop(queue), pop(queue)};
  int lost[2] = {1, 1};
  cutter_lose(c, 1);
  assert_int_equal(redmoon_queue_ack_many(queue, many, 2, lost, 0, NULL, NULL, NULL), 0);
  assert_int_equal(lost[0] + lost[1], 0);
  for (int i = 0; i < 2; i++) redmoon_job_free(many[i]);
  assert_int_equal(cutter_left(c), 0);
  redmoon_queue_counts counts = counts_of(queue);
  assert_int_equal(counts.finished, 3);
  assert_int_equal(counts.delayed, 1);
  assert_int_equal(counts.ready, 0);
  redmoon_job_free(acked);
  redmoon_job_free(nacked);
  redmoon_job_free(released);
  redmoon_queue_free(queue);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* Replicas. */

static redmoon_queue *replicated_queue(redmoon_client *client) {
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.lease_ms = LONG_MS;
  options.min_replicas = 1;
  redmoon_queue *queue = NULL;
  assert_int_equal(redmoon_queue_new(client, "n", 1, &options, &queue, NULL), 0);
  return queue;
}

static void too_few_replicas_are_told_and_what_was_written_stays(void **state) {
  fixture *f = *state;
  redmoon_queue *queue = replicated_queue(f->client);
  redmoon_queue_item item = item_of("x");
  redmoon_queue_pushed pushed;
  redmoon_error err;
  assert_int_equal(redmoon_queue_push(queue, &item, NULL, &pushed, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_non_null(strstr(err.message, "it has reached 0 replicas in time, and min_replicas is 1"));
  redmoon_job *job = pop(queue), *next = NULL;
  assert_string_equal(redmoon_job_id(job), pushed.id);
  redmoon_queue *plain = queue_of(f->client, LONG_MS);
  push_text(plain, "y");
  redmoon_queue_free(plain);
  assert_int_equal(redmoon_job_ack_next(job, NULL, &next, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(next);
  assert_int_equal(redmoon_job_ack(next, NULL, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(counts_of(queue).finished, 2);
  redmoon_job_free(job);
  redmoon_job_free(next);
  redmoon_queue_free(queue);
}

/* The answer to the ack is lost, and the connection that repeats it has written nothing: it waits all the same. */
static void what_was_acknowledged_is_on_a_replica(void **state) {
  (void)state;
  redis_server *primary = redis_server_start(&(redis_server_options){.tcp = true});
  char port[16];
  snprintf(port, sizeof port, "%d", redis_server_port(primary));
  const char *args[] = {"--replicaof", "127.0.0.1", port, "--repl-diskless-load", "disabled", NULL};
  redis_server *replica = redis_server_start(&(redis_server_options){.args = args});
  redmoon_client *client, *through;
  assert_int_equal(redmoon_client_open(redis_server_url(primary), NULL, &client, NULL), 0);
  while (ask_integer(client, "WAIT", "1", "100", NULL) < 1) continue;
  cutter *c = cutter_start(redis_server_url(primary));
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_queue *queue = replicated_queue(client), *lossy = replicated_queue(through);
  redmoon_queue_item item = item_of("x");
  redmoon_queue_pushed pushed;
  redmoon_error err;
  cutter_lose(c, 1);
  if (redmoon_queue_push(lossy, &item, "r", &pushed, &err) != 0) fail_msg("%s", err.message);
  redmoon_job *job = pop(lossy);
  redis_server_freeze(replica, true); /* it lags */
  cutter_lose(c, 1);
  assert_int_equal(redmoon_job_ack(job, NULL, &err), REDMOON_EUNAVAILABLE);
  redis_server_freeze(replica, false);
  redmoon_job_free(job);
  push(queue, &item);
  ack(pop(queue));
  char *there = redis_server_ask(replica, NULL, "HGET redmoon:{n}:queue.state finished");
  assert_string_equal(there, "2");
  free(there);
  redmoon_queue_free(queue);
  redmoon_queue_free(lossy);
  redmoon_client_close(client);
  redmoon_client_close(through);
  cutter_stop(c);
  redis_server_stop(replica);
  redis_server_stop(primary);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  redmoon_error err;
  static const struct {
    redmoon_queue_options options;
    const char *message;
  } bad[] = {
      {{99, 1, 1, 1, 1, 1, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option lease (ms): 99 is not accepted; give 100 to 86400000"},
      {{1000, 0, 1, 1, 1, 1, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option max_attempts: 0 is not accepted; give 1 to 1000000"},
      {{1000, 1, 0, 1, 1, 1, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option max_crashes: 0"},
      {{1000, 1, 1, -1, 1, 1, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option backoff min (ms): -1"},
      {{1000, 1, 1, 5, 4, 1, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option backoff max (ms): 4 is not accepted; give 5 to 315360000000"},
      {{1000, 1, 1, 1, 1, 0, 0, 0, 0, 0, REDMOON_UNSET, 0}, "queue option max_payload: 0"},
      {{1000, 1, 1, 1, 1, 1, -1, 0, 0, 0, REDMOON_UNSET, 0}, "queue option retention (ms): -1"},
      {{1000, 1, 1, 1, 1, 1, 0, 1001, 0, 0, REDMOON_UNSET, 0}, "queue option min_replicas: 1001 is not accepted; give 0 to 1000"},
      {{1000, 1, 1, 1, 1, 1, 0, 0, 0, 0, REDMOON_UNSET, 1000001}, "queue option events: 1000001 is not accepted"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_queue *queue = NULL;
    assert_int_equal(redmoon_queue_new(f->client, "n", 1, &bad[i].options, &queue, &err), REDMOON_ECONFIG);
    assert_null(queue);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
  redmoon_queue *queue = queue_of(f->client, LONG_MS);
  static char large[262145];
  char id[130], unique[258];
  memset(id, 'i', 129);
  memset(unique, 'u', 257);
  id[129] = unique[257] = '\0';
  redmoon_queue_item items[7];
  for (size_t i = 0; i < 7; i++) items[i] = item_of("x");
  items[0].priority = 1024;
  items[1].priority = -1;
  items[2].delay_ms = INT64_C(315360000001);
  items[3].max_attempts = 0;
  items[4].id = id;
  items[5].unique = unique;
  items[6].id = "";
  redmoon_queue_pushed pushed;
  for (size_t i = 0; i < 7; i++) {
    assert_int_equal(redmoon_queue_push(queue, &items[i], NULL, &pushed, &err), REDMOON_ECONFIG);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  }
  redmoon_queue_item heavy = REDMOON_QUEUE_ITEM_INIT;
  heavy.payload = large;
  heavy.len = sizeof large;
  assert_int_equal(redmoon_queue_push(queue, &heavy, NULL, &pushed, &err), REDMOON_ETOO_LARGE);
  assert_non_null(strstr(err.message, "a payload of 262145 bytes is not accepted; max_payload is 262144"));
  heavy.len--;
  heavy.delay_ms = -5; /* now */
  assert_int_equal(redmoon_queue_push(queue, &heavy, NULL, &pushed, &err), 0);
  assert_int_equal(redmoon_queue_push(queue, &heavy, "a b", &pushed, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_queue_push_many(queue, &heavy, 0, NULL, &pushed, &err), REDMOON_ECONFIG);
  redmoon_pop_options pops[] = {{-1, 0, NULL}, {86400001, 0, NULL}, {0, 2, NULL}, {0, 0, "a b"}};
  redmoon_job *job = NULL;
  for (size_t i = 0; i < 4; i++) assert_int_equal(redmoon_queue_pop(queue, &pops[i], &job, &err), REDMOON_ECONFIG);
  job = pop(queue);
  redmoon_ack_options ack_bad = {NULL, 0, -1}, ack_large = {large, sizeof large, 1000};
  assert_int_equal(redmoon_job_ack(job, &ack_bad, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_job_ack(job, &ack_large, &err), REDMOON_ETOO_LARGE);
  assert_int_equal(redmoon_job_extend(job, 99, &err), REDMOON_ECONFIG);
  redmoon_nack_options nack_bad = {NULL, -1, 0};
  assert_int_equal(redmoon_job_nack(job, &nack_bad, NULL, &err), REDMOON_ECONFIG);
  assert_true(redmoon_job_held(job));
  ack(job);
  redmoon_queue_free(queue);
}

#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
#define ALONE(name) cmocka_unit_test_setup_teardown(name, embedded_fixture_empty, embedded_server_alone)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(job_goes_through_from_push_to_ack),
      TEST(jobs_go_by_priority_and_in_each_in_their_order),
      TEST(taken_ids_and_unique_keys_are_conflicts),
      TEST(worker_that_lost_its_lease_is_told),
      TEST(failures_are_delayed_until_there_were_too_many),
      TEST(result_and_progress_are_seen_for_their_time),
      TEST(ack_takes_the_next_job_along),
      TEST(many_jobs_are_acknowledged_and_the_next_taken_at_once),
      TEST(released_job_keeps_its_place_and_its_attempts),
      TEST(lease_is_renewed_while_the_worker_computes),
      TEST(removed_and_purged_jobs_are_gone),
      TEST(check_names_what_is_wrong),
      TEST(paused_queue_hands_nothing_out_until_it_goes_on),
      TEST(waiting_worker_is_woken_by_a_push),
      TEST(wait_can_be_cancelled),
      TEST(shutdown_of_the_client_ends_a_wait),
      TEST(each_job_wakes_a_worker_that_waits),
      TEST(who_keeps_the_time_sets_the_marker_itself),
      ALONE(push_of_a_request_whose_answer_was_lost_pushes_one_job),
      ALONE(pop_of_a_request_whose_answer_was_lost_gets_the_same_jobs),
      ALONE(end_of_a_job_whose_answer_was_lost_is_no_loss),
      TEST(too_few_replicas_are_told_and_what_was_written_stays),
      ALONE(what_was_acknowledged_is_on_a_replica),
      TEST(bad_options_are_refused_with_what_is_accepted),
  };
  return embedded_server_run("queue", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
