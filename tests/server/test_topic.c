/* SPDX-License-Identifier: MIT */
/* Topics on a real server.  How a reader counts is proved in tests/unit/test_topic_count.c, what the scripts do in
 * tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/cutter.h"
#include "support/listening.h"
#include "support/matrix.h"
#include "support/stopper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redmoon_error err;

static redmoon_topic *topic_of(redmoon_client *client) {
  redmoon_topic *topic = NULL;
  if (redmoon_topic_new(client, "t", 1, NULL, &topic, &err) != 0) fail_msg("%s", err.message);
  return topic;
}

static redmoon_topic_reader *reader_of(redmoon_topic *topic, const redmoon_subscription_options *options) {
  redmoon_topic_reader *reader = NULL;
  if (redmoon_topic_subscribe(topic, options, &reader, &err) != 0) fail_msg("%s", err.message);
  return reader;
}

static int64_t publish_to(redmoon_topic *topic, const char *payload) {
  redmoon_topic_published published;
  if (redmoon_topic_publish(topic, payload, strlen(payload), NULL, &published, &err) != 0) fail_msg("%s", err.message);
  return published.seq;
}

static redmoon_topic_message *next_of(redmoon_topic_reader *reader) {
  redmoon_topic_message *message = NULL;
  if (redmoon_topic_receive(reader, 20000, &message, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  if (message == NULL) fail_msg("nothing came");
  return message;
}

static void expect_seq(redmoon_topic_reader *reader, int64_t seq, const char *payload) {
  redmoon_topic_message *message = next_of(reader);
  if (message->kind != REDMOON_MESSAGE) fail_msg("a gap %d to %d instead of %d", (int)message->from, (int)message->to, (int)seq);
  assert_int_equal(message->seq, seq);
  if (payload != NULL) assert_string_equal(message->payload, payload);
  redmoon_topic_message_free(message);
}

static void expect_missing(redmoon_topic_reader *reader, int64_t from, int64_t to) {
  redmoon_topic_message *message = next_of(reader);
  assert_int_equal(message->kind, REDMOON_GAP);
  assert_null(message->payload);
  assert_int_equal(message->from, from);
  assert_int_equal(message->to, to);
  redmoon_topic_message_free(message);
}

static void expect_none(redmoon_topic_reader *reader) {
  redmoon_topic_message *message = NULL;
  assert_int_equal(redmoon_topic_receive(reader, 0, &message, &err), 0);
  assert_null(message);
}

static void messages_come_with_their_numbers(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = topic_of(cell->client);
  redmoon_topic_reader *reader = reader_of(topic, NULL);
  char payload[16];
  for (int i = 1; i <= 200; i++) {
    snprintf(payload, sizeof payload, "p%d", i);
    assert_int_equal(publish_to(topic, payload), i);
  }
  redmoon_topic_reader *late = reader_of(topic, NULL); /* begins here */
  redmoon_topic_published published;
  assert_int_equal(redmoon_topic_publish(topic, "a\0:b", 4, NULL, &published, &err), 0);
  assert_int_equal(published.seq, 201);
  assert_int_equal(published.receivers, 2);
  for (int i = 1; i <= 200; i++) {
    snprintf(payload, sizeof payload, "p%d", i);
    expect_seq(reader, i, payload);
  }
  redmoon_topic_message *last = next_of(reader);
  assert_int_equal(last->payload_len, 4);
  assert_memory_equal(last->payload, "a\0:b", 5);
  redmoon_topic_message_free(last);
  expect_none(reader);
  expect_seq(late, 201, NULL);
  expect_none(late);
  redmoon_topic_counts counts;
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.delivered, 201);
  assert_int_equal(counts.gaps + counts.lost, 0);
  redmoon_topic_reader_close(late);
  redmoon_topic_free(topic); /* a reader outlives it */
  redmoon_topic_reader_close(reader);
}

static void what_finds_no_room_is_numbered(void **state) {
  matrix_cell *cell = *state;
  static const char *const policies[] = {"drop_oldest", "drop_newest"};
  for (int i = 0; i < 2; i++) {
    redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
    options.buffer = 3;
    options.overflow = policies[i];
    redmoon_reply_free(ask(cell->client, "FLUSHALL", NULL));
    redmoon_topic *topic = topic_of(cell->client);
    redmoon_topic_reader *reader = reader_of(topic, &options);
    redmoon_topic_counts counts;
    for (int seq = 1; seq <= 20; seq++) publish_to(topic, "x");
    /* The mark of the subscription's own begin takes a place, or is dropped, too; so it is the numbers that are exact. */
    int64_t seen = 0, missing = 0;
    while (seen + missing < 20) {
      redmoon_topic_message *message = next_of(reader);
      if (message->kind == REDMOON_GAP) {
        assert_int_equal(message->from, seen + missing + 1);
        missing += message->to - message->from + 1;
      } else {
        seen++;
        assert_int_equal(message->seq, seen + missing);
      }
      redmoon_topic_message_free(message);
    }
    expect_none(reader);
    redmoon_topic_reader_stats(reader, &counts);
    assert_int_equal(counts.delivered, seen);
    assert_int_equal(counts.lost, missing);
    assert_int_equal(counts.unknown, 0);
    redmoon_topic_reader_close(reader);
    redmoon_topic_free(topic);
  }
}

/* A link that nothing comes through, while others publish; nothing is published afterwards. */
static void what_was_missed_is_known_though_nothing_more_comes(void **state) {
  matrix_cell *cell = *state;
  stopper *proxy = stopper_start(redis_server_path(cell->server));
  redmoon_client *listener = NULL;
  assert_int_equal(redmoon_client_open(stopper_url(proxy), NULL, &listener, &err), 0);
  redmoon_topic *topic = topic_of(cell->client), *theirs = topic_of(listener);
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  redmoon_topic_reader *reader = reader_of(theirs, &options);
  int64_t last = publish_to(topic, "first");
  expect_seq(reader, last, "first");
  for (int round = 1; round <= 3; round++) {
    stopper_swallow(proxy);
    for (int i = 0; i < 5; i++) publish_to(topic, "missed");
    stopper_cut(proxy);
    expect_missing(reader, last + 1, last + 5);
    last = publish_to(topic, "after");
    expect_seq(reader, last, "after");
  }
  /* Where nothing was missed there is no gap. */
  redmoon_topic_counts counts;
  stopper_cut(proxy);
  do redmoon_topic_reader_stats(reader, &counts);
  while (counts.reconnects < 4 || !counts.connected);
  last = publish_to(topic, "again");
  expect_seq(reader, last, "again");
  expect_none(reader);
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.gaps, 3);
  assert_int_equal(counts.lost, 15);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(theirs);
  redmoon_topic_free(topic);
  redmoon_client_close(listener);
  stopper_stop(proxy);
}

static void numbers_that_begin_anew_are_told(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = topic_of(cell->client);
  redmoon_topic_reader *reader = reader_of(topic, NULL);
  publish_to(topic, "a");
  redmoon_reply_free(ask(cell->client, "FLUSHALL", NULL));
  assert_int_equal(publish_to(topic, "b"), 1);
  expect_seq(reader, 1, "a");
  expect_missing(reader, 0, 0);
  expect_seq(reader, 1, "b");
  redmoon_topic_counts counts;
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.unknown, 1);
  assert_int_equal(counts.lost, 0);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

static void what_is_not_of_the_topic_is_ignored(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = topic_of(cell->client);
  redmoon_topic_reader *reader = reader_of(topic, NULL);
  assert_int_equal(publish(cell->client, "redmoon:{t}:topic", "junk"), 1);
  publish(cell->client, "redmoon:{t}:topic", "0123456789abcdef:x:y");
  publish_to(topic, "good");
  expect_seq(reader, 1, "good");
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

static void a_repeated_request_is_published_once(void **state) {
  matrix_cell *cell = *state;
  cutter *cut = cutter_start(redis_server_url(cell->server));
  redmoon_client *lossy = NULL;
  assert_int_equal(redmoon_client_open(cutter_url(cut), NULL, &lossy, &err), 0);
  redmoon_topic *topic = topic_of(cell->client), *through = topic_of(lossy);
  redmoon_topic_reader *reader = reader_of(topic, NULL);
  redmoon_topic_published published;
  publish_to(through, "loads the script");
  cutter_lose(cut, 1);
  assert_int_equal(redmoon_topic_publish(through, "once", 4, "r1", &published, &err), 0);
  assert_int_equal(published.seq, 2);
  assert_int_equal(cutter_left(cut), 0);
  assert_int_equal(redmoon_topic_publish(topic, "once", 4, "r1", &published, &err), 0);
  assert_int_equal(published.seq, 2);
  cutter_lose(cut, 1);
  assert_int_equal(redmoon_topic_publish(through, "perhaps", 7, NULL, &published, &err), REDMOON_EIO);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_null(strstr(err.message, "perhaps"));
  assert_int_equal(publish_to(topic, "last"), 4);
  expect_seq(reader, 1, NULL);
  expect_seq(reader, 2, "once");
  expect_seq(reader, 3, "perhaps");
  expect_seq(reader, 4, "last");
  assert_int_equal(redmoon_topic_publish(topic, "x", 1, "bad id", &published, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_topic_publish(topic, NULL, 1, NULL, &published, &err), REDMOON_ECONFIG);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(through);
  redmoon_topic_free(topic);
  redmoon_client_close(lossy);
  cutter_stop(cut);
}

/* Nothing is published behind what was missed, and the first question for a mark is refused. */
static void a_mark_that_fails_is_asked_for_again(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "reset", "on", ">pw", "+@all", "~*", "allchannels", NULL));
  stopper *proxy = stopper_start(redis_server_path(cell->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "reader";
  options.password = "pw";
  options.protocol = cell->protocol;
  redmoon_client *listener = NULL;
  assert_int_equal(redmoon_client_open(stopper_url(proxy), &options, &listener, &err), 0);
  redmoon_topic *topic = topic_of(cell->client), *theirs = topic_of(listener);
  redmoon_topic_reader *reader = reader_of(theirs, NULL);
  redmoon_topic_message *none = NULL;
  int64_t last = publish_to(topic, "a");
  expect_seq(reader, last, "a");
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "-evalsha", "-eval", NULL));
  redmoon_reply_free(ask(cell->client, "ACL", "LOG", "RESET", NULL));
  stopper_swallow(proxy);
  for (int i = 0; i < 3; i++) last = publish_to(topic, "missed");
  stopper_cut(proxy);
  for (size_t refused = 0; refused == 0;) {
    assert_int_equal(redmoon_topic_receive(reader, 5, &none, &err), 0);
    assert_null(none);
    redmoon_reply *log = ask(cell->client, "ACL", "LOG", NULL);
    refused = redmoon_reply_count(log);
    redmoon_reply_free(log);
  }
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "reader", "+evalsha", "+eval", NULL));
  expect_missing(reader, last - 2, last);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(theirs);
  redmoon_topic_free(topic);
  redmoon_client_close(listener);
  stopper_stop(proxy);
}

static atomic_int ended_with;
static void *receive_for_ever(void *arg) {
  redmoon_topic_message *message = NULL;
  redmoon_error why;
  atomic_store(&ended_with, redmoon_topic_receive(arg, -1, &message, &why));
  return NULL;
}

static void a_reader_ends_from_another_thread(void **state) {
  matrix_cell *cell = *state;
  redmoon_topic *topic = topic_of(cell->client);
  redmoon_topic_reader *reader = reader_of(topic, NULL);
  pthread_t thread;
  atomic_store(&ended_with, 1);
  assert_int_equal(pthread_create(&thread, NULL, receive_for_ever, reader), 0);
  redmoon_topic_reader_shutdown(reader);
  pthread_join(thread, NULL);
  assert_int_equal(atomic_load(&ended_with), REDMOON_ECLOSED);
  redmoon_topic_reader_close(reader);
  redmoon_topic_reader *none = NULL;
  redmoon_op *op = NULL;
  assert_int_equal(redmoon_topic_subscribe_start(topic, NULL, &none, &op, &err), 0);
  redmoon_op_step(op);
  redmoon_op_cancel(op);
  redmoon_subscription_options bad = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  bad.buffer = 0;
  assert_int_equal(redmoon_topic_subscribe(topic, &bad, &none, &err), REDMOON_ECONFIG);
  redmoon_topic_free(topic);
  assert_int_equal(redmoon_topic_new(cell->client, "", 0, NULL, &topic, &err), REDMOON_ECONFIG);
  assert_null(topic);
}

int main(void) {
  static const matrix_test tests[] = {
      MATRIX_TEST(messages_come_with_their_numbers),
      MATRIX_TEST(what_finds_no_room_is_numbered),
      MATRIX_ALONE(what_was_missed_is_known_though_nothing_more_comes),
      MATRIX_TEST(numbers_that_begin_anew_are_told),
      MATRIX_TEST(what_is_not_of_the_topic_is_ignored),
      MATRIX_ALONE(a_repeated_request_is_published_once),
      MATRIX_ALONE(a_mark_that_fails_is_asked_for_again),
      MATRIX_TEST(a_reader_ends_from_another_thread),
  };
  return matrix_run("topic", tests, sizeof tests / sizeof tests[0]);
}
