/* SPDX-License-Identifier: MIT */
/* Stream queues through the public interface, on a server of the test's own.  What the scripts decide is proved in
 * tests/scripts; leases end when a test ages them (XCLAIM ... IDLE), not by waiting. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/cutter.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KEY "redmoon:{q}:stream"
#define LEASE "600000"
enum { LEASE_MS = 600000 };

static redmoon_stream_queue *queue_with(redmoon_client *client, int64_t max_attempts) {
  redmoon_stream_queue_options options = REDMOON_STREAM_QUEUE_OPTIONS_INIT;
  options.lease_ms = LEASE_MS;
  options.max_attempts = max_attempts;
  redmoon_stream_queue *queue = NULL;
  redmoon_error err;
  if (redmoon_stream_queue_new(client, "q", 1, &options, &queue, &err) != 0) fail_msg("%s", err.message);
  return queue;
}

static redmoon_stream_queue *queue_of(redmoon_client *client) { return queue_with(client, 3); }

static void push(redmoon_stream_queue *queue, const char *payload) {
  char id[REDMOON_STREAM_ID_SIZE] = "";
  redmoon_error err;
  if (redmoon_stream_queue_push(queue, payload, strlen(payload), NULL, id, &err) != 0) fail_msg("%s", err.message);
  assert_non_null(strchr(id, '-'));
}

/* NULL: there was none. */
static redmoon_stream_job *pop(redmoon_stream_queue *queue) {
  redmoon_stream_job *job = NULL;
  redmoon_error err;
  if (redmoon_stream_queue_pop(queue, 0, &job, &err) != 0) fail_msg("%s", err.message);
  return job;
}

static redmoon_stream_job *expect(redmoon_stream_queue *queue, const char *payload, int64_t attempt,
                                  int64_t epoch) {
  redmoon_stream_job *job = pop(queue);
  assert_non_null(job);
  assert_string_equal(redmoon_stream_job_payload(job, NULL), payload);
  assert_int_equal(redmoon_stream_job_attempt(job), attempt);
  assert_int_equal(redmoon_stream_job_epoch(job), epoch);
  return job;
}

static void age(redmoon_client *client, const redmoon_stream_job *job) {
  redmoon_reply *owner =
      ask(client, "XPENDING", KEY, "workers", redmoon_stream_job_id(job), redmoon_stream_job_id(job), "1", NULL);
  const char *name = redmoon_reply_string(redmoon_reply_at(redmoon_reply_at(owner, 0), 1), NULL);
  redmoon_reply_free(
      ask(client, "XCLAIM", KEY, "workers", name, "0", redmoon_stream_job_id(job), "IDLE", LEASE, "JUSTID", NULL));
  redmoon_reply_free(owner);
}

static void ack(redmoon_stream_job *job) {
  redmoon_error err;
  if (redmoon_stream_job_ack(job, &err) != 0) fail_msg("%s", err.message);
  redmoon_stream_job_free(job);
}

static void assert_counts(redmoon_stream_queue *queue, int64_t ready, int64_t delayed, int64_t leased,
                          int64_t dead) {
  redmoon_stream_queue_counts counts;
  redmoon_error err;
  if (redmoon_stream_queue_stats(queue, &counts, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(counts.ready, ready);
  assert_int_equal(counts.delayed, delayed);
  assert_int_equal(counts.leased, leased);
  assert_int_equal(counts.dead, dead);
}

static void jobs_come_in_order_and_are_gone_when_done(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  assert_null(pop(queue));
  push(queue, "a");
  assert_int_equal(redmoon_stream_queue_push(queue, "b\0c", 3, NULL, NULL, NULL), 0);
  assert_int_equal(redmoon_stream_queue_push(queue, "", 0, NULL, NULL, NULL), 0);
  assert_counts(queue, 3, 0, 0, 0);
  redmoon_stream_job *a = expect(queue, "a", 1, 1), *b = pop(queue), *c = expect(queue, "", 1, 1);
  size_t len;
  assert_memory_equal(redmoon_stream_job_payload(b, &len), "b\0c", 4);
  assert_int_equal(len, 3);
  assert_null(pop(queue));
  assert_counts(queue, 0, 0, 3, 0);
  assert_true(redmoon_stream_job_held(a));
  assert_true(redmoon_stream_job_remaining_ms(a) <= LEASE_MS - LEASE_MS / 100 - 2);
  ack(a);
  assert_int_equal(redmoon_stream_job_ack(b, NULL), 0);
  assert_false(redmoon_stream_job_held(b));
  redmoon_error err;
  assert_int_equal(redmoon_stream_job_ack(b, &err), REDMOON_ELOST);
  assert_non_null(strstr(err.message, "was ended before"));
  redmoon_stream_job_free(b);
  ack(c);
  assert_counts(queue, 0, 0, 0, 0);
  assert_int_equal(ask_integer(f->client, "XLEN", KEY, NULL), 0);
  redmoon_stream_queue_free(queue);
}

static void whose_lease_passed_on_is_told_and_changes_nothing(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client), *other = queue_of(f->client);
  push(queue, "a");
  redmoon_stream_job *lost = expect(queue, "a", 1, 1);
  assert_null(pop(other));
  age(f->client, lost);
  redmoon_stream_job *next = expect(other, "a", 2, 2);
  char before[512], after[512];
  redmoon_error err;
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  assert_int_equal(redmoon_stream_job_extend(lost, REDMOON_UNSET, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_false(redmoon_stream_job_held(lost));
  assert_int_equal(redmoon_stream_job_ack(lost, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_stream_job_nack(lost, NULL, NULL, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_stream_job_release(lost, &err), REDMOON_ELOST);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  redmoon_stream_job_free(lost);
  ack(next);
  redmoon_stream_queue_free(queue);
  redmoon_stream_queue_free(other);
}

/* Now and then it leaves that to a pop, which looks at leases first. */
static void an_ack_takes_the_next_one_along(void **state) {
  fixture *f = *state;
  enum { MANY = 100 };
  redmoon_stream_queue *queue = queue_of(f->client);
  int along = 0;
  for (int i = 0; i < MANY; i++) push(queue, i % 2 == 0 ? "even" : "odd");
  redmoon_stream_job *job = expect(queue, "even", 1, 1), *next = NULL;
  for (int i = 1; i < MANY; i++) {
    assert_int_equal(redmoon_stream_job_ack_next(job, &next, NULL), 0);
    redmoon_stream_job_free(job);
    along += next != NULL;
    job = next != NULL ? next : pop(queue);
    assert_string_equal(redmoon_stream_job_payload(job, NULL), i % 2 == 0 ? "even" : "odd");
    assert_true(redmoon_stream_job_held(job));
  }
  assert_true(along > 0);
  assert_int_equal(redmoon_stream_job_ack_next(job, &next, NULL), 0);
  assert_null(next);
  redmoon_error err;
  assert_int_equal(redmoon_stream_job_ack_next(job, &next, &err), REDMOON_ELOST);
  redmoon_stream_job_free(job);
  assert_counts(queue, 0, 0, 0, 0);
  /* What was given back goes first, so there is none to take along. */
  push(queue, "a");
  push(queue, "b");
  push(queue, "c");
  redmoon_stream_job *a = expect(queue, "a", 1, 1), *b = expect(queue, "b", 1, 1);
  assert_int_equal(redmoon_stream_job_release(a, NULL), 0);
  assert_int_equal(redmoon_stream_job_ack_next(b, &next, NULL), 0);
  assert_null(next);
  redmoon_stream_job_free(a);
  redmoon_stream_job_free(b);
  ack(expect(queue, "a", 1, 2));
  ack(expect(queue, "c", 1, 1));
  redmoon_stream_queue_free(queue);
}

/* The handle that asks first is the one that lost it, unlike above, where it knew. */
static void an_old_ack_is_refused(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  push(queue, "a");
  redmoon_stream_job *lost = expect(queue, "a", 1, 1);
  age(f->client, lost);
  redmoon_stream_job *next = expect(queue, "a", 2, 2); /* the same handle, so the same consumer: the epoch tells */
  redmoon_error err;
  assert_int_equal(redmoon_stream_job_ack(lost, &err), REDMOON_ELOST);
  assert_non_null(strstr(err.message, "was lost before it could be acknowledged"));
  assert_counts(queue, 0, 0, 1, 0);
  redmoon_stream_job_free(lost);
  ack(next);
  redmoon_stream_queue_free(queue);
}

static void a_lease_that_is_over_is_good_until_somebody_takes_it(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  push(queue, "a");
  redmoon_stream_job *job = expect(queue, "a", 1, 1);
  age(f->client, job);
  assert_int_equal(redmoon_stream_job_extend(job, REDMOON_UNSET, NULL), 0);
  assert_null(pop(queue));
  age(f->client, job);
  ack(job);
  redmoon_stream_queue_free(queue);
}

static void what_failed_runs_again_until_it_is_dead(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  redmoon_stream_nack_options options = REDMOON_STREAM_NACK_OPTIONS_INIT;
  options.error = "no luck";
  push(queue, "a");
  push(queue, "b");
  int dead = -1;
  for (int attempt = 1; attempt <= 3; attempt++) {
    redmoon_stream_job *job = expect(queue, "a", attempt, attempt);
    assert_int_equal(redmoon_stream_job_nack(job, &options, &dead, NULL), 0);
    assert_int_equal(dead, attempt == 3);
    redmoon_stream_job_free(job);
    if (attempt < 3) assert_counts(queue, 1, 1, 0, 0);
  }
  options.fatal = 1;
  options.error = NULL;
  redmoon_stream_job *job = expect(queue, "b", 1, 1);
  assert_int_equal(redmoon_stream_job_nack(job, &options, &dead, NULL), 0);
  assert_int_equal(dead, 1);
  redmoon_stream_job_free(job);
  assert_counts(queue, 0, 0, 0, 2);
  redmoon_stream_dead_list *list = NULL;
  assert_int_equal(redmoon_stream_queue_dead(queue, 1, &list, NULL), 0);
  assert_int_equal(list->total, 2);
  assert_int_equal(list->count, 1);
  assert_string_equal(list->jobs[0].error, "no luck");
  assert_memory_equal(list->jobs[0].payload.ptr, "a", 2);
  assert_int_equal(list->jobs[0].attempts, 3);
  assert_true(list->jobs[0].died_ms > INT64_C(1700000000000));
  redmoon_stream_dead_list_free(list);
  int64_t moved = 0;
  assert_int_equal(redmoon_stream_queue_redrive(queue, 500, &moved, NULL), 0);
  assert_int_equal(moved, 2);
  ack(expect(queue, "a", 1, 1));
  ack(expect(queue, "b", 1, 1));
  assert_int_equal(redmoon_stream_queue_dead(queue, 500, &list, NULL), 0);
  assert_int_equal(list->count, 0);
  redmoon_stream_dead_list_free(list);
  redmoon_stream_queue_free(queue);
}

static void what_crashes_too_often_is_dead(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  push(queue, "poison");
  for (int attempt = 1; attempt <= 3; attempt++) {
    redmoon_stream_job *job = expect(queue, "poison", attempt, attempt);
    age(f->client, job);
    redmoon_stream_job_free(job); /* its worker is not heard of again */
  }
  assert_null(pop(queue));
  assert_counts(queue, 0, 0, 0, 1);
  redmoon_stream_queue_free(queue);
}

static void a_release_does_not_count(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_with(f->client, 1);
  push(queue, "a");
  push(queue, "b");
  for (int epoch = 1; epoch <= 5; epoch++) {
    redmoon_stream_job *job = expect(queue, "a", 1, epoch);
    assert_int_equal(redmoon_stream_job_release(job, NULL), 0);
    redmoon_stream_job_free(job);
  }
  ack(expect(queue, "a", 1, 6)); /* it kept its place */
  ack(expect(queue, "b", 1, 1));
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY ".released", NULL), 0);
  redmoon_stream_queue_free(queue);
}

static void a_failure_may_be_delayed_up_to_the_lease(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  redmoon_stream_nack_options options = REDMOON_STREAM_NACK_OPTIONS_INIT;
  options.delay_ms = LEASE_MS;
  push(queue, "a");
  redmoon_stream_job *job = expect(queue, "a", 1, 1);
  assert_int_equal(redmoon_stream_job_nack(job, &options, NULL, NULL), 0);
  assert_null(pop(queue));
  assert_counts(queue, 0, 1, 0, 0);
  age(f->client, job);
  redmoon_stream_job_free(job);
  job = expect(queue, "a", 2, 2);
  options.delay_ms = LEASE_MS + 1;
  redmoon_error err;
  assert_int_equal(redmoon_stream_job_nack(job, &options, NULL, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "option delay: 600001 is not accepted; give 0 to 600000"));
  ack(job);
  redmoon_stream_queue_free(queue);
}

static void many_are_pushed_and_popped_at_once(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  static redmoon_bytes payloads[500];
  static char ids[500][REDMOON_STREAM_ID_SIZE], text[500][8];
  static redmoon_stream_job *jobs[500];
  for (int i = 0; i < 500; i++)
    payloads[i] = (redmoon_bytes){text[i], (size_t)snprintf(text[i], sizeof text[i], "p%d", i)};
  redmoon_error err;
  if (redmoon_stream_queue_push_many(queue, payloads, 500, NULL, ids, &err) != 0) fail_msg("%s", err.message);
  size_t got = 0, at = 0;
  while (at < 500) {
    if (redmoon_stream_queue_pop_many(queue, 300, 0, jobs + at, &got, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(got, at == 0 ? 300 : 200);
    at += got;
  }
  for (int i = 0; i < 500; i++) {
    assert_string_equal(redmoon_stream_job_id(jobs[i]), ids[i]);
    assert_string_equal(redmoon_stream_job_payload(jobs[i], NULL), text[i]);
    if (i % 2 == 0) age(f->client, jobs[i]);
    redmoon_stream_job_free(jobs[i]);
  }
  if (redmoon_stream_queue_pop_many(queue, 500, 0, jobs, &got, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(got, 250);
  for (size_t i = 0; i < got; i++) ack(jobs[i]);
  assert_counts(queue, 0, 0, 250, 0);
  assert_int_equal(redmoon_stream_queue_pop_many(queue, 500, 0, jobs, &got, &err), 0);
  assert_int_equal(got, 0);
  redmoon_stream_queue_free(queue);
}

static void a_request_is_pushed_once(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_stream_queue *queue = queue_of(through);
  char first[REDMOON_STREAM_ID_SIZE], again[REDMOON_STREAM_ID_SIZE];
  cutter_lose(c, 1);
  assert_int_equal(redmoon_stream_queue_push(queue, "a", 1, "r", first, NULL), 0);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(redmoon_stream_queue_push(queue, "a", 1, "r", again, NULL), 0);
  assert_string_equal(first, again);
  assert_counts(queue, 1, 0, 0, 0);
  redmoon_error err;
  const redmoon_bytes two[] = {{"a", 1}, {"b", 1}};
  assert_int_equal(redmoon_stream_queue_push_many(queue, two, 2, "r", NULL, &err), REDMOON_ECONFIG);
  cutter_lose(c, 1);
  assert_true(redmoon_stream_queue_push_many(queue, two, 2, NULL, NULL, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_counts(queue, 3, 0, 0, 0);
  redmoon_stream_queue_free(queue);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* What is repeated finds its own work done, inside the lease, and says so. */
static void an_end_whose_answer_was_lost_is_repeated(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_stream_queue *queue = queue_of(through);
  for (int i = 0; i < 4; i++) push(queue, "a");
  redmoon_stream_job *job = expect(queue, "a", 1, 1);
  cutter_lose(c, 1);
  ack(job);
  job = expect(queue, "a", 1, 1);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_stream_job_extend(job, REDMOON_UNSET, NULL), 0);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_stream_job_release(job, NULL), 0);
  redmoon_stream_job_free(job);
  job = expect(queue, "a", 1, 2);
  int dead = -1;
  cutter_lose(c, 1);
  assert_int_equal(redmoon_stream_job_nack(job, NULL, &dead, NULL), 0);
  assert_int_equal(dead, 0);
  redmoon_stream_job_free(job);
  job = expect(queue, "a", 2, 3);
  redmoon_stream_nack_options fatal = {NULL, 0, 1};
  cutter_lose(c, 1);
  assert_int_equal(redmoon_stream_job_nack(job, &fatal, &dead, NULL), 0);
  assert_int_equal(dead, 1);
  redmoon_stream_job_free(job);
  assert_int_equal(cutter_left(c), 0);
  assert_counts(queue, 2, 0, 0, 1);
  redmoon_stream_queue_free(queue);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* An unknown nack is no proof that an ack was done. */
static void another_end_than_the_lost_one_is_not_believed(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  redmoon_client *through;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(cutter_url(c), &options, &through, NULL), 0);
  redmoon_stream_queue *queue = queue_of(through);
  push(queue, "a");
  redmoon_stream_job *job = expect(queue, "a", 1, 1);
  cutter_lose(c, 1);
  assert_true(redmoon_stream_job_nack(job, NULL, NULL, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(redmoon_stream_job_ack(job, &err), REDMOON_ELOST);
  redmoon_stream_job_free(job);
  ack(expect(queue, "a", 2, 2));
  redmoon_stream_queue_free(queue);
  redmoon_client_close(through);
  cutter_stop(c);
}

static bool step(redmoon_op *op) {
  if (redmoon_op_step(op) == 1) return true;
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {wants.fd, (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLOUT : POLLIN, 0};
  poll(&fd, 1, 1);
  return false;
}

static bool is_blocked(redmoon_client *client) {
  char info[8192];
  ask_text(client, info, sizeof info, "INFO", "clients", NULL);
  return strstr(info, "blocked_clients:1") != NULL;
}

static void who_waits_is_woken_by_a_push(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_stream_queue *queue = queue_of(own), *producer = queue_of(f->client);
  redmoon_stream_job *job = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_stream_queue_pop_start(queue, 3600000, &job, &op, NULL), 0);
  redmoon_stream_queue_free(queue); /* the operation goes on */
  while (!is_blocked(f->client)) assert_false(step(op));
  push(producer, "late");
  while (!step(op)) {
  }
  redmoon_error err;
  if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
  assert_string_equal(redmoon_stream_job_payload(job, NULL), "late");
  ack(job);
  redmoon_stream_queue_free(producer);
  redmoon_client_close(own);
}

static void who_waits_takes_over_what_another_left(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, NULL), 0);
  redmoon_stream_queue *queue = queue_of(own), *other = queue_of(f->client);
  push(other, "a");
  redmoon_stream_job *left = expect(other, "a", 1, 1), *job = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_stream_queue_pop_start(queue, 3600000, &job, &op, NULL), 0);
  while (!is_blocked(f->client)) assert_false(step(op));
  age(f->client, left);
  while (!step(op)) {
  }
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_int_equal(redmoon_stream_job_epoch(job), 2);
  ack(job);
  redmoon_stream_job_free(left);
  redmoon_stream_queue_free(queue);
  redmoon_stream_queue_free(other);
  redmoon_client_close(own);
}

static void a_stream_that_was_deleted_is_made_again(void **state) {
  fixture *f = *state;
  redmoon_stream_queue *queue = queue_of(f->client);
  assert_null(pop(queue));
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  assert_null(pop(queue));
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  push(queue, "a");
  redmoon_stream_job *job = expect(queue, "a", 1, 1);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  redmoon_error err;
  assert_int_equal(redmoon_stream_job_ack(job, &err), REDMOON_ELOST);
  redmoon_stream_job_free(job);
  redmoon_stream_queue_free(queue);
}

static void what_is_not_acceptable_is_refused_and_not_sent(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_stream_queue *none = NULL;
  static const redmoon_stream_queue_options bad[] = {{99, 1, 1},         {86400001, 1, 1}, {1000, 0, 1},
                                                     {1000, 1000001, 1}, {1000, 1, 0},     {1000, 1, 536870913}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_stream_queue_new(f->client, "q", 1, &bad[i], &none, &err), REDMOON_ECONFIG);
    assert_null(none);
  }
  assert_int_equal(redmoon_stream_queue_new(f->client, "", 0, NULL, &none, &err), REDMOON_ECONFIG);
  redmoon_stream_queue *queue = queue_of(f->client);
  redmoon_stream_job *jobs[1] = {NULL};
  redmoon_stream_dead_list *list = NULL;
  size_t got = 1;
  int64_t moved = 0;
  static char large[262145];
  const redmoon_bytes one = {"a", 1};
  assert_int_equal(redmoon_stream_queue_push(queue, large, sizeof large, NULL, NULL, &err), REDMOON_ETOO_LARGE);
  assert_non_null(strstr(err.message, "max_payload is 262144"));
  assert_int_equal(redmoon_stream_queue_push(queue, NULL, 1, NULL, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_push(queue, "a", 1, "a b", NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_push_many(queue, &one, 0, NULL, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_push_many(queue, &one, 501, NULL, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_pop_many(queue, 0, 0, jobs, &got, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_pop_many(queue, 501, 0, jobs, &got, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_pop(queue, -1, jobs, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_pop(queue, 86400001, jobs, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_dead(queue, 0, &list, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_stream_queue_redrive(queue, 501, &moved, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_reply_free(ask(f->client, "SET", KEY, "text", NULL));
  assert_int_equal(redmoon_stream_queue_push(queue, "a", 1, NULL, NULL, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_int_equal(redmoon_stream_queue_pop(queue, 0, jobs, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  redmoon_stream_queue_free(queue);
  redmoon_stream_queue_free(NULL);
  redmoon_stream_job_free(NULL);
  redmoon_stream_dead_list_free(NULL);
}

/* Four threads share a queue; each job is acknowledged by one of them, and none is left. */
enum { THREADS = 4, JOBS = 2000 };
typedef struct crowd {
  redmoon_stream_queue *queue;
  atomic_int acked, failed;
} crowd;

static void *work(void *ctx) {
  crowd *all = ctx;
  redmoon_stream_job *job;
  while (redmoon_stream_queue_pop(all->queue, 0, &job, NULL) == 0 && job != NULL) {
    if (redmoon_stream_job_ack(job, NULL) == 0) atomic_fetch_add(&all->acked, 1);
    else atomic_fetch_add(&all->failed, 1);
    redmoon_stream_job_free(job);
  }
  return NULL;
}

static void threads_share_a_queue(void **state) {
  fixture *f = *state;
  crowd all = {queue_of(f->client), 0, 0};
  redmoon_bytes payloads[500];
  for (size_t i = 0; i < 500; i++) payloads[i] = (redmoon_bytes){"x", 1};
  for (int i = 0; i < JOBS / 500; i++)
    assert_int_equal(redmoon_stream_queue_push_many(all.queue, payloads, 500, NULL, NULL, NULL), 0);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, &all), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(atomic_load(&all.acked), JOBS);
  assert_int_equal(atomic_load(&all.failed), 0);
  assert_counts(all.queue, 0, 0, 0, 0);
  redmoon_stream_queue_free(all.queue);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, embedded_fixture_empty)
#define ALONE(name) cmocka_unit_test_setup_teardown(name, embedded_fixture_empty, embedded_server_alone)
  const struct CMUnitTest tests[] = {
      TEST(jobs_come_in_order_and_are_gone_when_done),
      TEST(whose_lease_passed_on_is_told_and_changes_nothing),
      TEST(an_ack_takes_the_next_one_along),
      TEST(an_old_ack_is_refused),
      TEST(a_lease_that_is_over_is_good_until_somebody_takes_it),
      TEST(what_failed_runs_again_until_it_is_dead),
      TEST(what_crashes_too_often_is_dead),
      TEST(a_release_does_not_count),
      TEST(a_failure_may_be_delayed_up_to_the_lease),
      TEST(many_are_pushed_and_popped_at_once),
      ALONE(a_request_is_pushed_once),
      ALONE(an_end_whose_answer_was_lost_is_repeated),
      ALONE(another_end_than_the_lost_one_is_not_believed),
      TEST(who_waits_is_woken_by_a_push),
      TEST(who_waits_takes_over_what_another_left),
      TEST(a_stream_that_was_deleted_is_made_again),
      TEST(what_is_not_acceptable_is_refused_and_not_sent),
      TEST(threads_share_a_queue),
  };
  return embedded_server_run("stream_queue", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
