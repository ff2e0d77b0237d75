/* SPDX-License-Identifier: MIT */
/* Durable topics on a real server: what is filled, and readers with a name.  What the scripts do is proved in tests/scripts;
 * what is left of it all when links and processes die, in tests/soak/topic_losses.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/cutter.h"
#include "support/matrix.h"
#include "support/stopper.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redmoon_error err;

static redmoon_topic *durable_of(redmoon_client *client, int64_t length) {
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  options.durable = 1;
  options.length = length;
  redmoon_topic *topic = NULL;
  if (redmoon_topic_new(client, "d", 1, &options, &topic, &err) != 0) fail_msg("%s", err.message);
  return topic;
}

static redmoon_topic_reader *reader_of(redmoon_topic *topic, int64_t buffer) {
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.buffer = buffer;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  redmoon_topic_reader *reader = NULL;
  if (redmoon_topic_subscribe(topic, &options, &reader, &err) != 0) fail_msg("%s", err.message);
  return reader;
}

static redmoon_topic_cursor *cursor_of(redmoon_topic *topic, const char *name, const char *from) {
  redmoon_topic_cursor_options options = REDMOON_TOPIC_CURSOR_OPTIONS_INIT;
  options.from = from;
  redmoon_topic_cursor *cursor = NULL;
  if (redmoon_topic_cursor_open(topic, name, strlen(name), &options, &cursor, &err) != 0) fail_msg("%s", err.message);
  return cursor;
}

static int64_t publish_many(redmoon_topic *topic, int count) {
  redmoon_topic_published published = {0};
  for (int i = 0; i < count; i++)
    if (redmoon_topic_publish(topic, "a\0b", 3, NULL, &published, &err) != 0) fail_msg("%s", err.message);
  return published.seq;
}

static void check_message(redmoon_topic_message *message, int64_t seq) {
  if (message == NULL) fail_msg("nothing came instead of %d", (int)seq);
  if (message->kind != REDMOON_MESSAGE) fail_msg("%d to %d are missing", (int)message->from, (int)message->to);
  assert_int_equal(message->seq, seq);
  assert_int_equal(message->payload_len, 3);
  assert_memory_equal(message->payload, "a\0b", 4);
  redmoon_topic_message_free(message);
}

static void expect(redmoon_topic_reader *reader, int64_t from, int64_t to) {
  for (int64_t seq = from; seq <= to; seq++) {
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_receive(reader, 20000, &message, &err) != 0) fail_msg("%s", err.message);
    check_message(message, seq);
  }
}

static void expect_of_cursor(redmoon_topic_cursor *cursor, int64_t from, int64_t to) {
  for (int64_t seq = from; seq <= to; seq++) {
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_cursor_receive(cursor, 20000, &message, &err) != 0) fail_msg("%s", err.message);
    check_message(message, seq);
  }
}

static void expect_none_of_cursor(redmoon_topic_cursor *cursor) {
  redmoon_topic_message *message = NULL;
  assert_int_equal(redmoon_topic_cursor_receive(cursor, 0, &message, &err), 0);
  assert_null(message);
}

static void what_finds_no_room_is_filled(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  redmoon_topic_reader *reader = reader_of(topic, 3);
  publish_many(topic, 520);
  expect(reader, 1, 520);
  redmoon_topic_counts counts;
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.delivered, 520);
  assert_true(counts.filled > 0); /* how many came live is the keeper's affair */
  assert_int_equal(counts.gaps + counts.lost + counts.unknown, 0);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

/* A host with a loop of its own waits on the descriptor, and receives until nothing is there. */
static void a_fill_is_seen_at_the_descriptor(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  redmoon_topic_reader *reader = reader_of(topic, 2);
  publish_many(topic, 350);
  for (int64_t seq = 0; seq < 350;) {
    struct pollfd fd = {redmoon_topic_reader_fd(reader), POLLIN, 0};
    if (poll(&fd, 1, 20000) != 1) fail_msg("nothing is readable behind %d", (int)seq);
    for (redmoon_topic_message *message = NULL;;) {
      assert_int_equal(redmoon_topic_receive(reader, 0, &message, &err), 0);
      if (message == NULL) break;
      check_message(message, ++seq);
    }
  }
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

static void what_a_lost_link_missed_is_filled_though_nothing_more_comes(void **state) {
  matrix_cell *cell = *state;
  stopper *proxy = stopper_start(redis_server_path(cell->server));
  redmoon_client *listener = NULL;
  assert_int_equal(redmoon_client_open(stopper_url(proxy), NULL, &listener, &err), 0);
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET), *theirs = durable_of(listener, REDMOON_UNSET);
  redmoon_topic_reader *reader = reader_of(theirs, 1000);
  int64_t last = publish_many(topic, 1);
  expect(reader, 1, last);
  for (int round = 1; round <= 3; round++) {
    stopper_swallow(proxy);
    int64_t to = publish_many(topic, 150);
    stopper_cut(proxy);
    expect(reader, last + 1, to);
    last = publish_many(topic, 2);
    expect(reader, to + 1, last);
  }
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(theirs);
  redmoon_topic_free(topic);
  redmoon_client_close(listener);
  stopper_stop(proxy);
}

static void what_is_kept_no_longer_is_a_gap(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "stream-node-max-entries", "1", NULL));
  redmoon_topic *topic = durable_of(cell->client, 10);
  redmoon_topic_reader *reader = reader_of(topic, 1);
  publish_many(topic, 100);
  int64_t seen = 0, missing = 0;
  while (seen + missing < 100) {
    redmoon_topic_message *message = NULL;
    assert_int_equal(redmoon_topic_receive(reader, 20000, &message, &err), 0);
    if (message == NULL) fail_msg("nothing came");
    if (message->kind == REDMOON_GAP) {
      assert_int_equal(message->from, seen + missing + 1);
      missing += message->to - message->from + 1;
    } else {
      seen++;
      assert_int_equal(message->seq, seen + missing);
    }
    redmoon_topic_message_free(message);
  }
  assert_true(seen >= 10 && missing > 0);
  redmoon_topic_counts counts;
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.lost, missing);
  assert_int_equal(counts.delivered, seen);
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "stream-node-max-entries", "100", NULL));
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

static redmoon_client *open_as_reader(matrix_cell *cell) {
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "reset", "on", ">pw", "+@all", "~*", "allchannels", NULL));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "reader";
  options.password = "pw";
  return matrix_open(cell, &options);
}

static bool was_refused(matrix_cell *cell) {
  redmoon_reply *log = ask(cell->client, "ACL", "LOG", NULL);
  bool refused = redmoon_reply_count(log) > 0;
  redmoon_reply_free(log);
  return refused;
}

/* What comes now; returns the number of the last one. */
static int64_t drain(redmoon_topic_reader *reader, int64_t seq) {
  for (redmoon_topic_message *message = NULL;; seq++) {
    assert_int_equal(redmoon_topic_receive(reader, 0, &message, &err), 0);
    if (message == NULL) return seq;
    check_message(message, seq + 1);
  }
}

static atomic_int ended_with;
static void *receive_for_ever(void *arg) {
  redmoon_error why;
  int status = 0;
  while (status == 0) {
    redmoon_topic_message *message = NULL;
    status = redmoon_topic_receive(arg, -1, &message, &why);
    redmoon_topic_message_free(message);
  }
  atomic_store(&ended_with, status);
  return NULL;
}

/* And while it fails, the reader can be ended. */
static void a_fill_that_fails_is_asked_for_again(void **state) {
  matrix_cell *cell = *state;
  redmoon_client *theirs = open_as_reader(cell);
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET), *own = durable_of(theirs, REDMOON_UNSET);
  redmoon_topic_reader *reader = reader_of(own, 1), *ended = reader_of(own, 1);
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "-evalsha", "-eval", NULL));
  redmoon_reply_free(ask(cell->client, "ACL", "LOG", "RESET", NULL));
  int64_t last = 0, seen = 0;
  while (!was_refused(cell)) { /* some of it finds no room, sooner or later */
    last = publish_many(topic, 20);
    seen = drain(reader, seen);
  }
  pthread_t thread;
  atomic_store(&ended_with, 1);
  assert_int_equal(pthread_create(&thread, NULL, receive_for_ever, ended), 0);
  redmoon_topic_reader_shutdown(ended);
  pthread_join(thread, NULL);
  assert_int_equal(atomic_load(&ended_with), REDMOON_ECLOSED);
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "+evalsha", "+eval", NULL));
  expect(reader, seen + 1, last);
  redmoon_topic_reader_close(ended);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(own);
  redmoon_topic_free(topic);
  redmoon_client_close(theirs);
}

static void a_cursor_goes_on_behind_what_was_acknowledged(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  publish_many(topic, 2);
  redmoon_topic_cursor *from_end = cursor_of(topic, "e", NULL), *cursor = cursor_of(topic, "s", "start");
  publish_many(topic, 248);
  expect_of_cursor(from_end, 3, 250);
  expect_none_of_cursor(from_end);
  expect_of_cursor(cursor, 1, 130);
  assert_int_equal(redmoon_topic_cursor_ack(cursor, 131, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_topic_cursor_ack(cursor, -1, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_topic_cursor_ack(cursor, 120, &err), 0);
  assert_int_equal(redmoon_topic_cursor_ack(cursor, 7, &err), 0); /* never goes back */
  redmoon_topic_cursor_counts counts;
  redmoon_topic_cursor_stats(cursor, &counts);
  assert_int_equal(counts.acked, 120);
  assert_int_equal(counts.seq, 130);
  assert_int_equal(counts.lag, 120);
  assert_int_equal(counts.buffered, 70);
  redmoon_topic_cursor *again = cursor_of(topic, "s", "end"); /* it is there: where a new one begins is not asked */
  redmoon_topic_message *message = NULL;
  assert_int_equal(redmoon_topic_cursor_ack(cursor, 0, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  expect_of_cursor(cursor, 131, 200); /* what it had fetched */
  assert_int_equal(redmoon_topic_cursor_receive(cursor, 1000, &message, &err), REDMOON_ELOST);
  expect_of_cursor(again, 121, 250);
  assert_int_equal(redmoon_topic_cursor_ack(again, 0, &err), 0);
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_free(topic); /* a cursor outlives it */
  expect_none_of_cursor(again);
  redmoon_topic_cursor_close(again);
  redmoon_topic_cursor_close(from_end);
}

static void step_until_done(redmoon_op *op) {
  while (redmoon_op_step(op) == 0) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    int events = (wants.events & REDMOON_WANT_READ) != 0 ? POLLIN : 0;
    if ((wants.events & REDMOON_WANT_WRITE) != 0) events |= POLLOUT;
    struct pollfd fd = {wants.fd, (short)events, 0};
    poll(&fd, 1, 10);
  }
}

static void a_receive_that_is_cancelled_takes_nothing_along(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  redmoon_topic_cursor *cursor = cursor_of(topic, "c", NULL);
  redmoon_topic_message *message = NULL;
  redmoon_op *op = NULL, *other = NULL;
  assert_int_equal(redmoon_topic_cursor_receive_start(cursor, -1, &message, &op, &err), 0);
  redmoon_op_step(op);
  redmoon_op_cancel(op); /* in the middle */
  publish_many(topic, 3);
  assert_int_equal(redmoon_topic_cursor_receive_start(cursor, -1, &message, &op, &err), 0);
  step_until_done(op);
  redmoon_op_cancel(op); /* at its end */
  assert_null(message);
  expect_of_cursor(cursor, 1, 3);
  /* Two at once ask for the same, and give it out once. */
  redmoon_topic_message *first = NULL, *second = NULL;
  assert_int_equal(redmoon_topic_cursor_receive_start(cursor, 20000, &first, &op, &err), 0);
  assert_int_equal(redmoon_topic_cursor_receive_start(cursor, 20000, &second, &other, &err), 0);
  redmoon_op_step(op);
  redmoon_op_step(other);
  publish_many(topic, 2);
  step_until_done(op);
  step_until_done(other);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(redmoon_op_finish(other, &err), 0);
  check_message(first, 4);
  if (second != NULL) check_message(second, 5);
  else expect_of_cursor(cursor, 5, 5);
  expect_none_of_cursor(cursor);
  /* One that waits learns of the end. */
  assert_int_equal(redmoon_topic_cursor_receive_start(cursor, -1, &first, &op, &err), 0);
  redmoon_op_step(op);
  redmoon_topic_cursor_close(cursor);
  publish_many(topic, 1);
  step_until_done(op);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECLOSED);
  assert_null(first);
  redmoon_topic_free(topic);
}

typedef struct waiter {
  redmoon_topic_cursor *cursor;
  int64_t seq;
  atomic_bool waits;
} waiter;
static void *wait_for_one(void *arg) {
  waiter *self = arg;
  redmoon_topic_message *message = NULL;
  redmoon_error why;
  atomic_store(&self->waits, true);
  self->seq = redmoon_topic_cursor_receive(self->cursor, 20000, &message, &why) == 0 && message != NULL ? message->seq : -1;
  redmoon_topic_message_free(message);
  return NULL;
}

static void cursors_wait_on_the_server(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  waiter waiters[2] = {{.cursor = cursor_of(topic, "a", NULL)}, {.cursor = cursor_of(topic, "b", NULL)}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, wait_for_one, &waiters[i]), 0);
  for (int64_t blocked = 0; blocked < 2;) blocked = matrix_info(cell, "clients", "blocked_clients:");
  publish_many(topic, 1);
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(waiters[i].seq, 1);
    redmoon_topic_cursor_close(waiters[i].cursor);
  }
  redmoon_topic_free(topic);
}

static void expect_lagged(redmoon_topic_cursor *cursor, int64_t from, int64_t to) {
  redmoon_topic_message *message = NULL;
  if (redmoon_topic_cursor_receive(cursor, 20000, &message, &err) != 0) fail_msg("%s", err.message);
  assert_non_null(message);
  assert_int_equal(message->kind, REDMOON_LAGGED);
  assert_int_equal(message->from, from);
  assert_int_equal(message->to, to);
  assert_null(message->payload);
  redmoon_topic_message_free(message);
}

static void a_cursor_is_told_what_it_lagged_behind(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "stream-node-max-entries", "1", NULL));
  redmoon_topic *topic = durable_of(cell->client, 5);
  redmoon_topic_cursor *cursor = cursor_of(topic, "c", NULL);
  publish_many(topic, 3);
  expect_of_cursor(cursor, 1, 3);
  publish_many(topic, 17);
  expect_lagged(cursor, 4, 15);
  expect_of_cursor(cursor, 16, 20);
  publish_many(topic, 1);
  redmoon_reply_free(ask(cell->client, "DEL", "redmoon:{d}:topic.log", NULL)); /* as its lifetime would */
  expect_lagged(cursor, 21, 21);
  /* A server that is where it was before. */
  redmoon_reply_free(ask(cell->client, "HSET", "redmoon:{d}:topic", "seq", "10", NULL));
  expect_lagged(cursor, 0, 0);
  expect_lagged(cursor, 1, 10); /* it had acknowledged nothing */
  redmoon_reply_free(ask(cell->client, "DEL", "redmoon:{d}:topic", NULL));
  publish_many(topic, 2);
  expect_lagged(cursor, 0, 0);
  expect_of_cursor(cursor, 1, 2);
  assert_int_equal(redmoon_topic_cursor_ack(cursor, 0, &err), 0);
  redmoon_topic_cursor_counts counts;
  redmoon_topic_cursor_stats(cursor, &counts);
  assert_int_equal(counts.delivered, 3 + 5 + 2);
  assert_int_equal(counts.missed, 12 + 1 + 10);
  assert_int_equal(counts.lagged, 5);
  assert_int_equal(counts.unknown, 2);
  assert_int_equal(counts.acked, 2);
  redmoon_reply_free(ask(cell->client, "FLUSHALL", NULL));
  redmoon_topic_message *message = NULL;
  assert_int_equal(redmoon_topic_cursor_receive(cursor, 20000, &message, &err), REDMOON_ELOST);
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "stream-node-max-entries", "100", NULL));
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_free(topic);
}

static void cursors_are_listed_and_removed(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = durable_of(cell->client, REDMOON_UNSET);
  publish_many(topic, 4);
  redmoon_topic_cursor_list *list = NULL;
  assert_int_equal(redmoon_topic_cursors(topic, &list, &err), 0);
  assert_int_equal(list->count, 0);
  redmoon_topic_cursor_list_free(list);
  redmoon_topic_cursor *cursor = NULL;
  assert_int_equal(redmoon_topic_cursor_open(topic, "b\0:", 3, NULL, &cursor, &err), 0);
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_cursor_close(cursor_of(topic, "b", "start"));
  redmoon_topic_cursor_close(cursor_of(topic, "a", "start"));
  assert_int_equal(redmoon_topic_cursors(topic, &list, &err), 0);
  assert_int_equal(list->count, 3);
  assert_string_equal(list->items[0].name, "a");
  assert_string_equal(list->items[1].name, "b");
  assert_int_equal(list->items[1].lag, 4);
  assert_int_equal(list->items[2].name_len, 3);
  assert_memory_equal(list->items[2].name, "b\0:", 4);
  assert_int_equal(list->items[2].acked, 4);
  assert_int_equal(list->items[2].lag, 0);
  redmoon_topic_cursor_list_free(list);
  int removed = -1;
  assert_int_equal(redmoon_topic_cursor_remove(topic, "b\0:", 3, &removed, &err), 0);
  assert_int_equal(removed, 1);
  assert_int_equal(redmoon_topic_cursor_remove(topic, "b\0:", 3, &removed, &err), 0);
  assert_int_equal(removed, 0);
  assert_int_equal(redmoon_topic_cursor_remove(topic, "", 0, NULL, &err), REDMOON_ECONFIG);
  redmoon_topic_free(topic);
}

static void options_are_checked(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = NULL;
  enum { NONE = 0 };
  static const redmoon_topic_options bad[] = {
      {2, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, NONE}, {1, 0, REDMOON_UNSET, REDMOON_UNSET, NONE},
      {1, REDMOON_UNSET, 0, REDMOON_UNSET, NONE},             {1, REDMOON_UNSET, INT64_C(31622400001), REDMOON_UNSET, NONE},
      {1, REDMOON_UNSET, REDMOON_UNSET, 1000000001, NONE},    {0, 5, REDMOON_UNSET, REDMOON_UNSET, NONE},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_topic_new(cell->client, "d", 1, &bad[i], &topic, &err), REDMOON_ECONFIG);
    assert_null(topic);
  }
  topic = durable_of(cell->client, REDMOON_UNSET);
  redmoon_topic_cursor_options options = REDMOON_TOPIC_CURSOR_OPTIONS_INIT;
  redmoon_topic_cursor *cursor = NULL;
  options.batch = 1001;
  assert_int_equal(redmoon_topic_cursor_open(topic, "c", 1, &options, &cursor, &err), REDMOON_ECONFIG);
  options.batch = REDMOON_UNSET;
  options.from = "middle";
  assert_int_equal(redmoon_topic_cursor_open(topic, "c", 1, &options, &cursor, &err), REDMOON_ECONFIG);
  assert_string_equal(err.message, "reader option from: 'middle' is not accepted; give \"start\" or \"end\"");
  redmoon_topic_free(topic);
  assert_int_equal(redmoon_topic_new(cell->client, "d", 1, NULL, &topic, &err), 0);
  assert_int_equal(redmoon_topic_cursor_open(topic, "c", 1, NULL, &cursor, &err), REDMOON_ECONFIG);
  redmoon_topic_cursor_list *list = NULL;
  assert_int_equal(redmoon_topic_cursors(topic, &list, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_topic_cursor_remove(topic, "c", 1, NULL, &err), REDMOON_ECONFIG);
  redmoon_topic_free(topic);
}

int main(void) {
  static const matrix_test tests[] = {
      MATRIX_TEST(what_finds_no_room_is_filled),
      MATRIX_TEST(a_fill_is_seen_at_the_descriptor),
      MATRIX_TEST(what_a_lost_link_missed_is_filled_though_nothing_more_comes),
      MATRIX_TEST(what_is_kept_no_longer_is_a_gap),
      MATRIX_TEST(a_fill_that_fails_is_asked_for_again),
      MATRIX_TEST(a_cursor_goes_on_behind_what_was_acknowledged),
      MATRIX_TEST(a_receive_that_is_cancelled_takes_nothing_along),
      MATRIX_TEST(cursors_wait_on_the_server),
      MATRIX_TEST(a_cursor_is_told_what_it_lagged_behind),
      MATRIX_TEST(cursors_are_listed_and_removed),
      MATRIX_TEST(options_are_checked),
  };
  return matrix_run("topic_durable", tests, sizeof tests / sizeof tests[0]);
}
