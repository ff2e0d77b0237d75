/* SPDX-License-Identifier: MIT */
/* Subscriptions on a real server, over RESP2 and RESP3, TCP, unix socket and TLS. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/listening.h"
#include "support/matrix.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redmoon_error err;

/* Kills the connections of all subscribers. */
static void kill_links(matrix_cell *cell) { (void)matrix_sum(cell, "CLIENT KILL TYPE pubsub"); }

static bool has_shards(matrix_cell *cell) {
  redmoon_reply *reply = ask(cell->client, "COMMAND", "INFO", "SSUBSCRIBE", NULL);
  bool has = redmoon_reply_type(redmoon_reply_at(reply, 0)) != REDMOON_NIL;
  redmoon_reply_free(reply);
  return has;
}

static void messages_arrive_in_order_whatever_is_in_them(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "news", NULL);
  char payload[32];
  for (int i = 0; i < 500; i++) {
    snprintf(payload, sizeof payload, "%d", i);
    assert_int_equal(publish(cell->client, "news", payload), 1);
  }
  assert_int_equal(redmoon_publish(cell->client, "news", 4, "a\0b\r\n", 5, 0, NULL, &err), 0);
  assert_int_equal(publish(cell->client, "other", "x"), 0);
  for (int i = 0; i < 500; i++) {
    snprintf(payload, sizeof payload, "%d", i);
    expect_message(sub, "news", payload);
  }
  redmoon_message *last = next_event(sub);
  assert_int_equal(last->payload_len, 5);
  assert_memory_equal(last->payload, "a\0b\r\n", 6); /* a NUL behind it */
  assert_null(last->pattern);
  redmoon_message_free(last);
  expect_nothing(sub);
  redmoon_subscription_close(sub);
}

static void a_message_tells_the_pattern_that_it_matched(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = NULL;
  assert_int_equal(redmoon_subscription_open(cell->client, set_of("news.eu", "news.*", NULL), NULL, &sub, &err), 0);
  assert_int_equal(publish(cell->client, "news.eu", "x"), 2);
  redmoon_message *by_channel = next_event(sub), *by_pattern = next_event(sub);
  assert_null(by_channel->pattern);
  assert_string_equal(by_pattern->pattern, "news.*");
  assert_int_equal(by_pattern->pattern_len, 6);
  assert_string_equal(by_pattern->channel, "news.eu");
  redmoon_message_free(by_channel);
  redmoon_message_free(by_pattern);
  redmoon_subscription_close(sub);
}

static void shard_channels_are_channels_of_their_own(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = NULL;
  if (!has_shards(cell)) {
    assert_int_equal(redmoon_subscription_open(cell->client, set_of(NULL, NULL, "s"), NULL, &sub, &err), REDMOON_EUNAVAILABLE);
    return;
  }
  assert_int_equal(redmoon_subscription_open(cell->client, set_of("s", NULL, "s"), NULL, &sub, &err), 0);
  int64_t receivers = 0;
  assert_int_equal(redmoon_publish(cell->client, "s", 1, "sharded", 7, 1, &receivers, &err), 0);
  assert_int_equal(receivers, 1);
  publish(cell->client, "s", "plain");
  redmoon_message *sharded = next_event(sub), *plain = next_event(sub);
  assert_int_equal(sharded->shard, 1);
  assert_string_equal(sharded->payload, "sharded");
  assert_int_equal(plain->shard, 0);
  redmoon_message_free(sharded);
  redmoon_message_free(plain);
  kill_links(cell);
  redmoon_subscription_counts counts;
  await_count(sub, &counts, &counts.reconnects, 1);
  await_connected(sub);
  assert_int_equal(redmoon_publish(cell->client, "s", 1, "again", 5, 1, &receivers, &err), 0);
  assert_int_equal(receivers, 1);
  expect_gap(sub, NULL);
  expect_message(sub, "s", "again");
  assert_int_equal(redmoon_subscription_remove(sub, set_of(NULL, NULL, "s"), &err), 0);
  assert_int_equal(redmoon_publish(cell->client, "s", 1, "x", 1, 1, &receivers, &err), 0);
  assert_int_equal(receivers, 0);
  redmoon_subscription_close(sub);
}

static void it_adds_and_removes_while_it_receives(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, NULL, NULL);
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  assert_false(counts.connected); /* nothing is wanted yet */
  for (int round = 0; round < 20; round++) {
    assert_int_equal(redmoon_subscription_add(sub, set_of("{t}a", "{t}p*", NULL), &err), 0);
    assert_int_equal(publish(cell->client, "{t}a", "1"), 1);
    assert_int_equal(redmoon_subscription_add(sub, set_of("{t}b", NULL, NULL), &err), 0);
    publish(cell->client, "{t}b", "2");
    publish(cell->client, "{t}pq", "3");
    assert_int_equal(redmoon_subscription_remove(sub, set_of("{t}a", "{t}p*", NULL), &err), 0);
    assert_int_equal(publish(cell->client, "{t}a", "lost") + publish(cell->client, "{t}pq", "lost"), 0);
    publish(cell->client, "{t}b", "4");
    assert_int_equal(redmoon_subscription_remove(sub, set_of("{t}b", NULL, NULL), &err), 0);
    assert_int_equal(publish(cell->client, "{t}b", "lost"), 0);
  }
  for (int round = 0; round < 20; round++) {
    expect_message(sub, "{t}a", "1");
    expect_message(sub, "{t}b", "2");
    expect_message(sub, "{t}pq", "3");
    expect_message(sub, "{t}b", "4");
  }
  expect_nothing(sub);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.channels + counts.patterns + counts.shards, 0);
  assert_int_equal(counts.reconnects, 0);
  redmoon_subscription_close(sub);
}

/* An operation that receives is under way all the while. */
static void it_adds_while_another_operation_waits(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "a", NULL);
  redmoon_message *message = NULL;
  redmoon_op *waiting = NULL;
  assert_int_equal(redmoon_subscription_receive_start(sub, -1, &message, &waiting, &err), 0);
  assert_false(redmoon_op_step(waiting));
  assert_int_equal(redmoon_subscription_add(sub, set_of("b", NULL, NULL), &err), 0);
  assert_false(redmoon_op_step(waiting));
  publish(cell->client, "b", "x");
  redmoon_wants wants;
  while (!redmoon_op_step(waiting)) {
    redmoon_op_wants(waiting, &wants);
    assert_int_equal(wants.timeout_ms, -1);
    struct pollfd fd = {.fd = wants.fd, .events = POLLIN};
    if (poll(&fd, 1, 20000) <= 0) fail_msg("nothing woke it");
  }
  assert_int_equal(redmoon_op_finish(waiting, &err), 0);
  assert_string_equal(message->channel, "b");
  redmoon_message_free(message);
  redmoon_subscription_close(sub);
}

/* From none, one, several and unknown ones; the PING between them is answered in another way each time in RESP2. */
static void answers_stay_in_step_whatever_is_unsubscribed_from(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.ping_interval_ms = 400;
  redmoon_subscription *sub = listen_to(cell->client, "first", &options);
  redmoon_bytes many[3] = {{"a", 1}, {"b", 1}, {"unknown", 7}};
  const redmoon_subscription_set all = {many, 3, many, 3, NULL, 0}, some = {many, 2, many, 2, NULL, 0}, none = {0};
  int64_t pings = matrix_info(cell, "commandstats", "cmdstat_ping:calls=");
  for (int round = 0; round < 30; round++) {
    assert_int_equal(redmoon_subscription_remove(sub, &none, &err), 0);
    assert_int_equal(redmoon_subscription_remove(sub, &all, &err), 0); /* all unknown */
    assert_int_equal(redmoon_subscription_add(sub, &some, &err), 0);
    assert_int_equal(redmoon_subscription_remove(sub, set_of("a", NULL, NULL), &err), 0);
    assert_int_equal(redmoon_subscription_remove(sub, set_of("unknown", "unknown", NULL), &err), 0);
    assert_int_equal(redmoon_subscription_remove(sub, &all, &err), 0); /* some unknown */
    /* Without any: PONG has the form of a plain answer in RESP2. */
    if (round % 2 == 0) assert_int_equal(redmoon_subscription_remove(sub, set_of("first", NULL, NULL), &err), 0);
    if (round < 2) matrix_await_info(cell, "commandstats", "cmdstat_ping:calls=", ++pings);
    assert_int_equal(redmoon_subscription_add(sub, set_of("first", NULL, NULL), &err), 0);
    assert_int_equal(publish(cell->client, "first", "x"), 1);
    expect_message(sub, "first", "x");
  }
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 0);
  assert_int_equal(counts.channels, 1);
  redmoon_subscription_close(sub);
}

static void thousands_of_channels_come_back_after_a_loss(void **state) {
  matrix_cell *cell = *state;
  enum { MANY = 2500 };
  static char names[MANY][12];
  static redmoon_bytes list[MANY];
  for (int i = 0; i < MANY; i++) list[i] = (redmoon_bytes){names[i], (size_t)snprintf(names[i], 12, "{t}c%d", i)};
  const redmoon_subscription_set set = {list, MANY, NULL, 0, NULL, 0};
  redmoon_subscription *sub = NULL;
  assert_int_equal(redmoon_subscription_open(cell->client, &set, NULL, &sub, &err), 0);
  redmoon_subscription_counts counts;
  kill_links(cell);
  await_count(sub, &counts, &counts.reconnects, 1);
  await_connected(sub);
  assert_int_equal(counts.channels, MANY);
  expect_gap(sub, NULL);
  for (int i = 0; i < MANY; i += 499) {
    assert_int_equal(publish(cell->client, names[i], "x"), 1);
    expect_message(sub, names[i], "x");
  }
  redmoon_subscription_close(sub);
}

static void a_lost_connection_is_a_gap_before_the_next_message(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = NULL;
  redmoon_subscription_counts counts;
  redmoon_message gap;
  assert_int_equal(redmoon_subscription_open(cell->client, set_of("c", "p*", NULL), NULL, &sub, &err), 0);
  publish(cell->client, "c", "before");
  await_count(sub, &counts, &counts.received, 1);
  for (uint64_t round = 1; round <= 3; round++) {
    kill_links(cell);
    await_count(sub, &counts, &counts.reconnects, round);
    await_connected(sub);
    assert_int_equal(publish(cell->client, "c", "after"), 1);
    publish(cell->client, "pat", "after");
    if (round == 1) expect_message(sub, "c", "before");
    expect_gap(sub, &gap);
    assert_int_equal(gap.reconnects, 1);
    assert_int_equal(gap.dropped, 0);
    expect_message(sub, "c", "after");
    expect_message(sub, "pat", "after");
  }
  /* Without a message, too: the loss is known when the link is back. */
  kill_links(cell);
  expect_gap(sub, NULL);
  expect_nothing(sub);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.gaps, 4);
  redmoon_subscription_close(sub);
}

static redmoon_subscription *overfilled(matrix_cell *cell, const char *overflow, int count) {
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  redmoon_subscription_counts counts;
  options.buffer = 10;
  options.overflow = overflow;
  redmoon_subscription *sub = listen_to(cell->client, "c", &options);
  char payload[16];
  for (int i = 0; i < count; i++) {
    snprintf(payload, sizeof payload, "%d", i);
    publish(cell->client, "c", payload);
  }
  if (strncmp(overflow, "drop", 4) == 0) await_count(sub, &counts, &counts.received, (uint64_t)count);
  if (strcmp(overflow, "close") == 0) await_count(sub, &counts, &counts.dropped, 1);
  return sub;
}

static void expect_numbers(redmoon_subscription *sub, int from, int to) {
  char payload[16];
  for (int i = from; i < to; i++) {
    snprintf(payload, sizeof payload, "%d", i);
    expect_message(sub, "c", payload);
  }
}

static void a_full_buffer_drops_the_oldest(void **state) {
  redmoon_subscription *sub = overfilled(*state, "drop_oldest", 25);
  redmoon_message gap;
  redmoon_subscription_counts counts;
  expect_gap(sub, &gap);
  assert_int_equal(gap.dropped, 15);
  assert_int_equal(gap.reconnects, 0);
  expect_numbers(sub, 15, 25);
  expect_nothing(sub);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.received, 25);
  assert_int_equal(counts.delivered, 10);
  assert_int_equal(counts.dropped, 15);
  redmoon_subscription_close(sub);
}

static void a_full_buffer_drops_the_newest(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = overfilled(cell, "drop_newest", 25);
  redmoon_message gap;
  expect_numbers(sub, 0, 5);
  publish(cell->client, "c", "25"); /* finds room; the gap is before it */
  redmoon_subscription_counts counts;
  await_count(sub, &counts, &counts.received, 26);
  expect_numbers(sub, 5, 10);
  expect_gap(sub, &gap);
  assert_int_equal(gap.dropped, 15);
  expect_numbers(sub, 25, 26);
  redmoon_subscription_close(sub);
}

static void stop_the_reading(matrix_cell *cell, int and_add) {
  redmoon_subscription *sub = overfilled(cell, "block", 300);
  redmoon_subscription_counts counts;
  await_count(sub, &counts, &counts.blocked, 1);
  assert_int_equal(counts.buffered, 10);
  if (and_add) assert_int_equal(redmoon_subscription_add(sub, set_of("d", NULL, NULL), &err), 0);
  expect_numbers(sub, 0, 300);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.received, 300);
  assert_int_equal(counts.dropped, 0);
  assert_int_equal(counts.reconnects, 0);
  redmoon_subscription_close(sub);
}

static void a_full_buffer_stops_the_reading(void **state) { stop_the_reading(*state, 0); }
/* The buffer gives way, lest the answer is never reached. */
static void what_is_asked_for_with_a_full_buffer_is_answered(void **state) { stop_the_reading(*state, 1); }

static void a_full_buffer_ends_it(void **state) {
  redmoon_subscription *sub = overfilled(*state, "close", 30);
  redmoon_message gap, *none = NULL;
  expect_numbers(sub, 0, 10);
  expect_gap(sub, &gap);
  assert_int_equal(gap.dropped, 1);
  assert_int_equal(redmoon_subscription_receive(sub, -1, &none, &err), REDMOON_ETOO_LARGE);
  assert_non_null(strstr(err.message, "buffer of 10 messages is full"));
  assert_int_equal(redmoon_subscription_add(sub, set_of("d", NULL, NULL), &err), REDMOON_ETOO_LARGE);
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.received, 11);
  assert_int_equal(counts.dropped, 1);
  assert_false(counts.connected);
  redmoon_subscription_close(sub);
}

static void receive_ends_at_its_timeout(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "c", NULL);
  redmoon_message *message = (redmoon_message *)&err;
  assert_int_equal(redmoon_subscription_receive(sub, 20, &message, &err), 0);
  assert_null(message);
  assert_int_equal(redmoon_subscription_receive(sub, -2, &message, &err), REDMOON_ECONFIG);
  struct pollfd fd = {.fd = redmoon_subscription_fd(sub), .events = POLLIN};
  assert_int_equal(poll(&fd, 1, 0), 0);
  publish(cell->client, "c", "x");
  assert_int_equal(poll(&fd, 1, 20000), 1);
  expect_message(sub, "c", "x");
  expect_nothing(sub);
  assert_int_equal(poll(&fd, 1, 0), 0);
  redmoon_subscription_close(sub);
}

static void what_is_not_acceptable_is_refused(void **state) {
  matrix_cell *cell = *state;
  static const struct {
    redmoon_subscription_options options;
    const char *says;
  } cases[] = {{{0, 0, -1, -1, -1}, "subscription option buffer: 0 is not accepted; give 1 to 10000000"},
               {{10, "drop", -1, -1, -1}, "subscription option overflow: 'drop' is not accepted"},
               {{10, 0, 9, -1, -1}, "subscription option ping_interval: 9 ms is not accepted; give 10 to 3600000 ms"},
               {{10, 0, 10, 0, -1}, "subscription option min_backoff: 0 ms"},
               {{10, 0, 10, 100, 99}, "subscription option max_backoff: 99 ms is not accepted; give 100 to"}};
  redmoon_subscription *sub = NULL;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    redmoon_subscription_options options = cases[i].options;
    int64_t *numbers[] = {&options.buffer, &options.ping_interval_ms, &options.min_backoff_ms, &options.max_backoff_ms};
    for (int n = 0; n < 4; n++)
      if (*numbers[n] == -1) *numbers[n] = REDMOON_UNSET;
    assert_int_equal(redmoon_subscription_open(cell->client, set_of("c", NULL, NULL), &options, &sub, &err), REDMOON_ECONFIG);
    if (strstr(err.message, cases[i].says) == NULL) fail_msg("%s", err.message);
    assert_null(sub);
  }
  const redmoon_bytes null = {NULL, 3};
  const redmoon_subscription_set bad = {&null, 1, NULL, 0, NULL, 0};
  assert_int_equal(redmoon_subscription_open(cell->client, &bad, NULL, &sub, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_publish(cell->client, NULL, 1, "x", 1, 0, NULL, &err), REDMOON_ECONFIG);
}

/* The end. */

static atomic_int waiting_status, waiting_began;

static void *wait_for_ever(void *arg) {
  redmoon_message *message = NULL;
  redmoon_error ended;
  atomic_store(&waiting_began, 1);
  atomic_store(&waiting_status, redmoon_subscription_receive(arg, -1, &message, &ended));
  return NULL;
}

static void end_while_another_thread_waits(matrix_cell *cell, int by_client) {
  redmoon_client *client = matrix_open(cell, NULL);
  redmoon_subscription *sub = listen_to(client, "c", NULL);
  pthread_t thread;
  atomic_store(&waiting_status, 1);
  atomic_store(&waiting_began, 0);
  assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, sub), 0);
  while (!atomic_load(&waiting_began)) sched_yield();
  if (by_client) redmoon_client_shutdown(client);
  else redmoon_subscription_shutdown(sub);
  pthread_join(thread, NULL);
  assert_int_equal(atomic_load(&waiting_status), REDMOON_ECLOSED);
  await_nobody(cell->client, "c"); /* its connection is closed */
  redmoon_subscription *late = NULL;
  if (by_client)
    assert_int_equal(redmoon_subscription_open(client, set_of("c", NULL, NULL), NULL, &late, &err), REDMOON_ECLOSED);
  redmoon_subscription_shutdown(sub);
  redmoon_client_close(client); /* before the subscription, which holds it */
  redmoon_subscription_close(sub);
}

static void whoever_waits_is_woken_by_its_end(void **state) { end_while_another_thread_waits(*state, 0); }
static void whoever_waits_is_woken_by_the_clients_end(void **state) { end_while_another_thread_waits(*state, 1); }

static void an_operation_outlives_its_subscription(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "c", NULL);
  redmoon_message *message = NULL;
  redmoon_op *receive = NULL, *add = NULL, *cancelled = NULL;
  assert_int_equal(redmoon_subscription_receive_start(sub, -1, &message, &receive, &err), 0);
  assert_false(redmoon_op_step(receive));
  assert_int_equal(redmoon_subscription_add_start(sub, set_of("d", NULL, NULL), &cancelled, &err), 0);
  redmoon_op_cancel(cancelled);
  assert_int_equal(redmoon_subscription_add_start(sub, set_of("e", NULL, NULL), &add, &err), 0);
  redmoon_subscription_close(sub);
  assert_true(redmoon_op_step(receive));
  assert_int_equal(redmoon_op_finish(receive, &err), REDMOON_ECLOSED);
  assert_null(message);
  assert_true(redmoon_op_step(add));
  int status = redmoon_op_finish(add, &err); /* it may have been confirmed just before */
  assert_true(status == REDMOON_ECLOSED || status == 0);
  await_nobody(cell->client, "c");
}

static void an_add_that_is_given_up_leaves_nothing_behind(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "{t}c", NULL);
  for (int i = 0; i < 200; i++) {
    redmoon_op *op = NULL;
    assert_int_equal(redmoon_subscription_add_start(sub, set_of("{t}d", NULL, NULL), &op, &err), 0);
    if (i % 3 != 0) redmoon_op_step(op);
    if (i % 3 == 2) sched_yield();
    redmoon_op_cancel(op);
  }
  assert_int_equal(redmoon_subscription_remove(sub, set_of("unknown", NULL, NULL), &err), 0); /* behind all of them */
  assert_int_equal(redmoon_subscription_add(sub, set_of("{t}e", NULL, NULL), &err), 0);
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  /* One that was confirmed before it was given up is wanted: the caller was told of neither. */
  assert_true(counts.channels == 2 || counts.channels == 3);
  assert_int_equal(counts.reconnects, 0);
  assert_int_equal(publish(cell->client, "{t}d", "x"), counts.channels == 3);
  redmoon_subscription_close(sub);
}

/* Refusals. */

static void a_refused_add_changes_nothing(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "listener", "reset", "on", ">pw", "+@all", "~*", "resetchannels",
                         "&open*", NULL));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "listener";
  options.password = "pw";
  redmoon_client *client = matrix_open(cell, &options);
  redmoon_subscription *sub = NULL;
  assert_int_equal(redmoon_subscription_open(client, set_of("secret", NULL, NULL), NULL, &sub, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  sub = listen_to(client, "open", NULL);
  redmoon_bytes names[2] = {{"open2", 5}, {"secret", 6}};
  const redmoon_subscription_set mixed = {names, 1, names + 1, 1, NULL, 0};
  assert_int_equal(redmoon_subscription_add(sub, &mixed, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.channels, 1);
  assert_int_equal(counts.patterns, 0);
  assert_int_equal(counts.reconnects, 0);
  assert_int_equal(redmoon_subscription_add(sub, set_of("open3", NULL, NULL), &err), 0); /* what was taken back is gone */
  assert_int_equal(publish(cell->client, "open2", "x"), 0);
  publish(cell->client, "open", "y");
  expect_message(sub, "open", "y");
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

static void it_ends_when_the_server_does_not_let_it_back(void **state) {
  matrix_cell *cell = *state;
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "listener", "reset", "on", ">pw", "+@all", "~*", "allchannels", NULL));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "listener";
  options.password = "pw";
  redmoon_client *client = matrix_open(cell, &options);
  redmoon_subscription *sub = listen_to(client, "c", NULL);
  publish(cell->client, "c", "last");
  redmoon_subscription_counts counts;
  await_count(sub, &counts, &counts.received, 1);
  redmoon_reply_free(ask(cell->client, "ACL", "SETUSER", "listener", "resetpass", ">other", NULL));
  kill_links(cell);
  await_count(sub, &counts, &counts.reconnects, 1);
  expect_message(sub, "c", "last");
  redmoon_message *none = NULL;
  expect_gap(sub, NULL);
  assert_int_equal(redmoon_subscription_receive(sub, 20000, &none, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

static void hooks_and_stats_know_of_it(void **state) {
  matrix_cell *cell = *state;
  redmoon_subscription *sub = listen_to(cell->client, "c", NULL);
  redmoon_stats stats;
  redmoon_client_stats(cell->client, &stats);
  assert_int_equal(stats.subscriptions, 1);
  redmoon_subscription_counts counts;
  kill_links(cell);
  await_count(sub, &counts, &counts.reconnects, 1);
  char *text = NULL;
  assert_int_equal(redmoon_client_metrics(cell->client, &text, NULL, &err), 0);
  assert_non_null(strstr(text, "redmoon_subscription_total{result=\"lost\"} 1"));
  redmoon_free(text);
  redmoon_subscription_close(sub);
  redmoon_client_stats(cell->client, &stats);
  assert_int_equal(stats.subscriptions, 0);
}

int main(void) {
  static const matrix_test tests[] = {
      MATRIX_TEST(messages_arrive_in_order_whatever_is_in_them),
      MATRIX_TEST(a_message_tells_the_pattern_that_it_matched),
      MATRIX_TEST(shard_channels_are_channels_of_their_own),
      MATRIX_TEST(it_adds_and_removes_while_it_receives),
      MATRIX_TEST(it_adds_while_another_operation_waits),
      MATRIX_TEST(answers_stay_in_step_whatever_is_unsubscribed_from),
      MATRIX_TEST(thousands_of_channels_come_back_after_a_loss),
      MATRIX_TEST(a_lost_connection_is_a_gap_before_the_next_message),
      MATRIX_TEST(a_full_buffer_drops_the_oldest),
      MATRIX_TEST(a_full_buffer_drops_the_newest),
      MATRIX_TEST(a_full_buffer_stops_the_reading),
      MATRIX_TEST(what_is_asked_for_with_a_full_buffer_is_answered),
      MATRIX_TEST(a_full_buffer_ends_it),
      MATRIX_TEST(receive_ends_at_its_timeout),
      MATRIX_TEST(what_is_not_acceptable_is_refused),
      MATRIX_TEST(whoever_waits_is_woken_by_its_end),
      MATRIX_TEST(whoever_waits_is_woken_by_the_clients_end),
      MATRIX_TEST(an_operation_outlives_its_subscription),
      MATRIX_TEST(an_add_that_is_given_up_leaves_nothing_behind),
      MATRIX_TEST(a_refused_add_changes_nothing),
      MATRIX_TEST(it_ends_when_the_server_does_not_let_it_back),
      MATRIX_TEST(hooks_and_stats_know_of_it),
  };
  return matrix_run("subscription", tests, sizeof tests / sizeof tests[0]);
}
