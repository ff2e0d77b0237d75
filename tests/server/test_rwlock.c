/* SPDX-License-Identifier: MIT */
/* Read-write locks through the public interface, on a server of the test's own.  What the scripts decide is proved
 * in tests/scripts. */
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
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define KEY(part) "redmoon:{n}:rwlock." part
enum { LONG_MS = 600000 };

static redmoon_rwlock *rwlock_of(redmoon_client *client, int64_t ttl_ms, int64_t wait_ms) {
  const redmoon_rwlock_options options = {ttl_ms, wait_ms};
  redmoon_rwlock *rwlock = NULL;
  redmoon_error err;
  if (redmoon_rwlock_new(client, "n", 1, &options, &rwlock, &err) != 0) fail_msg("%s", err.message);
  return rwlock;
}

static redmoon_permit *read_by(redmoon_rwlock *rwlock) {
  redmoon_permit *permit = NULL;
  redmoon_error err;
  if (redmoon_rwlock_read(rwlock, &permit, &err) != 0) fail_msg("%s", err.message);
  return permit;
}

static redmoon_permit *write_by(redmoon_rwlock *rwlock) {
  redmoon_permit *permit = NULL;
  redmoon_error err;
  if (redmoon_rwlock_write(rwlock, &permit, &err) != 0) fail_msg("%s", err.message);
  return permit;
}

typedef int (*take_fn)(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_error *err);

static void assert_refused(take_fn take, redmoon_rwlock *rwlock, const char *why) {
  redmoon_permit *none = NULL;
  redmoon_error err;
  assert_int_equal(take(rwlock, &none, &err), REDMOON_ELOCKED);
  assert_null(none);
  if (strstr(err.message, why) == NULL) fail_msg("%s", err.message);
}

static void release(redmoon_permit *permit) {
  redmoon_error err;
  if (redmoon_permit_release(permit, &err) != 0) fail_msg("%s", err.message);
  redmoon_permit_free(permit);
}

static void many_read_or_one_writes(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0), *b = rwlock_of(f->client, LONG_MS, 0);
  redmoon_rwlock *c = rwlock_of(f->client, LONG_MS, 0);
  redmoon_permit *first = read_by(a), *second = read_by(b);
  assert_int_equal(redmoon_permit_fence(first), 0);
  assert_string_not_equal(redmoon_permit_token(first), redmoon_permit_token(second));
  assert_refused(redmoon_rwlock_write, c, "others read");
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY("waiting"), NULL), 0);
  release(first);
  release(second);
  redmoon_permit *writer = write_by(c);
  int64_t fence = redmoon_permit_fence(writer);
  assert_true(fence > 0 && redmoon_permit_held(writer));
  assert_refused(redmoon_rwlock_read, a, "another writes");
  assert_refused(redmoon_rwlock_write, b, "another writes");
  assert_int_equal(redmoon_permit_extend(writer, 2 * LONG_MS, NULL), 0);
  assert_true(redmoon_permit_remaining_ms(writer) > LONG_MS);
  release(writer);
  writer = write_by(b);
  assert_true(redmoon_permit_fence(writer) > fence);
  release(writer);
  redmoon_rwlock_free(a);
  redmoon_rwlock_free(b);
  redmoon_rwlock_free(c);
}

static void reader_cannot_become_the_writer(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 86400000); /* and is not left to wait for itself */
  redmoon_permit *reader = read_by(a);
  char before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY("readers"), NULL);
  assert_refused(redmoon_rwlock_write, a, "a reader cannot become the writer");
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY("readers"), NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 1);
  release(reader);
  release(write_by(a));
  redmoon_rwlock_free(a);
}

static void writer_may_read_and_go_on_reading(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0), *b = rwlock_of(f->client, LONG_MS, 0);
  redmoon_permit *writer = write_by(a), *reader = read_by(a);
  assert_refused(redmoon_rwlock_read, b, "another writes");
  release(writer);
  redmoon_permit *other = read_by(b);
  assert_refused(redmoon_rwlock_write, a, "a reader cannot become the writer");
  release(other);
  release(reader);
  redmoon_rwlock_free(a);
  redmoon_rwlock_free(b);
}

static void taking_it_again_prolongs_to_the_ttl_and_not_by_it(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0), *b = rwlock_of(f->client, LONG_MS, 0);
  const take_fn takes[] = {redmoon_rwlock_read, redmoon_rwlock_write};
  for (int i = 0; i < 2; i++) {
    redmoon_permit *one = NULL, *two = NULL;
    assert_int_equal(takes[i](a, &one, NULL), 0);
    for (int k = 0; k < 3; k++) {
      assert_int_equal(takes[i](a, &two, NULL), 0);
      assert_ptr_equal(one, two);
      assert_true(redmoon_permit_remaining_ms(one) <= LONG_MS);
      assert_true(ask_integer(f->client, "PTTL", i == 0 ? KEY("readers") : KEY("writer"), NULL) <= LONG_MS + 1);
    }
    for (int k = 0; k < 3; k++) {
      release(two);
      assert_true(redmoon_permit_held(one));
      assert_refused(redmoon_rwlock_write, b, i == 0 ? "others read" : "another writes");
    }
    release(one);
    release(write_by(b));
  }
  redmoon_rwlock_free(a);
  redmoon_rwlock_free(b);
}

static void outer_hold_that_was_lost_is_not_handed_out_again(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0);
  redmoon_permit *reader = read_by(a), *again = NULL;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  redmoon_error err;
  assert_int_equal(redmoon_rwlock_read(a, &again, &err), REDMOON_ELOST);
  assert_null(again);
  assert_false(redmoon_permit_held(reader));
  redmoon_permit *fresh = read_by(a);
  assert_ptr_not_equal(fresh, reader);
  assert_int_equal(redmoon_permit_release(reader, &err), REDMOON_ELOST);
  assert_int_equal(ask_integer(f->client, "ZCARD", KEY("readers"), NULL), 1); /* the fresh one's */
  redmoon_permit_free(reader);
  release(fresh);
  redmoon_rwlock_free(a);
}

static void hold_that_was_released_meanwhile_is_not_handed_out_again(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0);
  redmoon_permit *reader = read_by(a), *again = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_rwlock_read_start(a, &again, &op, NULL), 0); /* an extension, not sent yet */
  release(reader);
  while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
  }
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ELOST);
  assert_null(again);
  reader = read_by(a);
  assert_int_equal(redmoon_rwlock_read_start(a, &again, &op, NULL), 0);
  while (!redmoon_op_step(op)) { /* executed, and then released before the answer is looked at */
  }
  release(reader);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ELOST);
  assert_null(again);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY("readers"), NULL), 0);
  redmoon_rwlock_free(a);
}

/* Its first attempt is refused and leaves the flag; from then on no new reader is let in, and those who read go. */
static void waiting_writer_keeps_new_readers_out(void **state) {
  fixture *f = *state;
  redmoon_rwlock *a = rwlock_of(f->client, LONG_MS, 0), *b = rwlock_of(f->client, LONG_MS, 0);
  redmoon_rwlock *w = rwlock_of(f->client, LONG_MS, 86400000);
  redmoon_permit *reader = read_by(a), *writer = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_rwlock_write_start(w, &writer, &op, NULL), 0);
  redmoon_rwlock_free(w); /* the operation has its own */
  while (ask_integer(f->client, "EXISTS", KEY("waiting"), NULL) == 0) assert_false(redmoon_op_step(op));
  assert_true(ask_integer(f->client, "PTTL", KEY("waiting"), NULL) <= 1001);
  /* As if it had been set just now, however slow this test is. */
  redmoon_reply_free(ask(f->client, "EVAL",
                         "local t = redis.call('TIME') redis.call('SET', KEYS[1], "
                         "string.format('%.0f', t[1] * 1000000 + t[2] + 9000000), 'PX', 60000)",
                         "1", KEY("waiting"), NULL));
  assert_refused(redmoon_rwlock_read, b, "a writer waits");
  redmoon_permit *again = read_by(a); /* it reads already: to keep it out would be a deadlock */
  release(again);
  release(reader);
  while (!redmoon_op_step(op)) { /* spins until it asks again */
  }
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  assert_true(redmoon_permit_held(writer));
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY("waiting"), NULL), 0);
  release(writer);
  release(read_by(b));
  redmoon_rwlock_free(a);
  redmoon_rwlock_free(b);
}

static void holder_whose_lease_ended_frees_its_place(void **state) {
  fixture *f = *state;
  redmoon_rwlock *brief = rwlock_of(f->client, 500, 0), *patient = rwlock_of(f->client, LONG_MS, 86400000);
  redmoon_permit *reader = read_by(brief), *writer = write_by(patient);
  assert_false(redmoon_permit_held(reader));
  assert_int_equal(redmoon_permit_extend(reader, LONG_MS, NULL), REDMOON_ELOST);
  release(writer);
  writer = write_by(brief);
  redmoon_permit *next = read_by(patient);
  assert_false(redmoon_permit_held(writer));
  assert_int_equal(redmoon_permit_release(writer, NULL), REDMOON_ELOST);
  release(next);
  redmoon_permit_free(reader);
  redmoon_permit_free(writer);
  redmoon_rwlock_free(brief);
  redmoon_rwlock_free(patient);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  redmoon_rwlock *rwlock = NULL;
  redmoon_error err;
  static const struct {
    redmoon_rwlock_options options;
    const char *message;
  } bad[] = {{{9, 0}, "read-write lock option ttl: 9 ms is not accepted; give 10 to 86400000 ms"},
             {{86400001, 0}, "option ttl"},
             {{1000, -1}, "read-write lock option wait: -1 ms is not accepted; give 0 to 86400000 ms"},
             {{1000, 86400001}, "option wait"}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_rwlock_new(f->client, "n", 1, &bad[i].options, &rwlock, &err), REDMOON_ECONFIG);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
  assert_int_equal(redmoon_rwlock_new(f->client, "", 0, NULL, &rwlock, &err), REDMOON_ECONFIG);
  assert_null(rwlock);
  assert_int_equal(redmoon_rwlock_new(f->client, "n", 1, NULL, &rwlock, &err), 0);
  redmoon_permit *reader = read_by(rwlock);
  int64_t left = redmoon_permit_remaining_ms(reader);
  assert_true(left > 5000 && left <= 10000);
  release(reader);
  redmoon_rwlock_free(rwlock);
}

static void lost_answers_are_asked_for_again_without_harm(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  redmoon_rwlock *a = rwlock_of(through, LONG_MS, 0);
  const take_fn takes[] = {redmoon_rwlock_read, redmoon_rwlock_write};
  for (int i = 0; i < 2; i++) {
    redmoon_permit *permit = NULL;
    cutter_lose(c, 1);
    assert_int_equal(takes[i](a, &permit, NULL), 0);
    cutter_lose(c, 1);
    assert_int_equal(redmoon_permit_extend(permit, LONG_MS, NULL), 0);
    cutter_lose(c, 1);
    release(permit);
    assert_int_equal(cutter_left(c), 0);
    assert_int_equal(ask_integer(f->client, "EXISTS", KEY("readers"), KEY("writer"), NULL), 0);
  }
  redmoon_rwlock_free(a);
  redmoon_client_close(through);
  cutter_stop(c);
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
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    redmoon_client *own; /* a new one each time: a dial that failed makes a pool wait before the next */
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_rwlock *rwlock = NULL;
    redmoon_permit *permits[3] = {NULL};
    int left = at;
    rm_alloc_set_refuse(refuse_at, &left);
    int status = redmoon_rwlock_new(own, "n", 1, NULL, &rwlock, &err);
    if (status == 0) status = redmoon_rwlock_write(rwlock, &permits[0], &err);
    if (status == 0) status = redmoon_rwlock_write(rwlock, &permits[1], &err);
    if (status == 0) status = redmoon_rwlock_read(rwlock, &permits[2], &err);
    for (int i = 0; i < 3 && status == 0; i++) status = redmoon_permit_release(permits[i], &err);
    rm_alloc_set_refuse(NULL, NULL);
    refused = left < 0;
    if (!refused && status < 0) fail_msg("%s", err.message);
    for (int i = 0; i < 3; i++) redmoon_permit_free(permits[i]);
    redmoon_rwlock_free(rwlock);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
}

/* Clients that read and write what the lock protects; the workers record, the main thread asserts. */
enum { WORKERS = 16, TURNS = 10 };
typedef struct worker {
  pthread_t thread;
  const char *url;
  int number;
  atomic_int *readers, *writers;
  int overlaps, failures, refused, turns;
} worker;

static void *take_turns(void *ctx) {
  worker *w = ctx;
  redmoon_client *client;
  redmoon_rwlock *rwlock;
  const redmoon_rwlock_options options = {LONG_MS, 86400000};
  if (redmoon_client_open(w->url, NULL, &client, NULL) < 0 ||
      redmoon_rwlock_new(client, "n", 1, &options, &rwlock, NULL) < 0) {
    w->failures++;
    return NULL;
  }
  while (w->turns < TURNS && w->failures == 0) {
    bool writes = (w->number + w->turns) % 4 == 0;
    redmoon_permit *permit;
    if ((writes ? redmoon_rwlock_write : redmoon_rwlock_read)(rwlock, &permit, NULL) < 0) {
      w->failures++;
      break;
    }
    atomic_fetch_add(writes ? w->writers : w->readers, 1);
    int accepted = 1;
    if (writes && redmoon_fence_guard(client, "n", 1, redmoon_permit_fence(permit), &accepted, NULL) < 0)
      w->failures++;
    if (!writes && redmoon_permit_extend(permit, LONG_MS, NULL) < 0) w->failures++; /* holds it for a round trip */
    int others = atomic_load(w->writers) + (writes ? atomic_load(w->readers) : 0);
    if (others != (writes ? 1 : 0)) w->overlaps++;
    if (!accepted) w->refused++;
    atomic_fetch_sub(writes ? w->writers : w->readers, 1);
    if (redmoon_permit_release(permit, NULL) < 0) w->failures++;
    redmoon_permit_free(permit);
    w->turns++;
  }
  redmoon_rwlock_free(rwlock);
  redmoon_client_close(client);
  return NULL;
}

static void readers_and_writers_of_many_clients_never_overlap(void **state) {
  fixture *f = *state;
  atomic_int readers = 0, writers = 0;
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i] =
        (worker){.url = embedded_server_url(f->server), .number = i, .readers = &readers, .writers = &writers};
    assert_int_equal(pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].overlaps, 0);
    assert_int_equal(workers[i].refused, 0);
    assert_int_equal(workers[i].turns, TURNS);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(many_read_or_one_writes, embedded_fixture_empty),
      cmocka_unit_test_setup(reader_cannot_become_the_writer, embedded_fixture_empty),
      cmocka_unit_test_setup(writer_may_read_and_go_on_reading, embedded_fixture_empty),
      cmocka_unit_test_setup(taking_it_again_prolongs_to_the_ttl_and_not_by_it, embedded_fixture_empty),
      cmocka_unit_test_setup(outer_hold_that_was_lost_is_not_handed_out_again, embedded_fixture_empty),
      cmocka_unit_test_setup(hold_that_was_released_meanwhile_is_not_handed_out_again, embedded_fixture_empty),
      cmocka_unit_test_setup(waiting_writer_keeps_new_readers_out, embedded_fixture_empty),
      cmocka_unit_test_setup(holder_whose_lease_ended_frees_its_place, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(lost_answers_are_asked_for_again_without_harm, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_is_reported_and_leaks_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup(readers_and_writers_of_many_clients_never_overlap, embedded_fixture_empty),
  };
  return embedded_server_run("rwlock", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
