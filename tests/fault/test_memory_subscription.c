/* SPDX-License-Identifier: MIT */
/* Every request for memory of a subscription's scenarios is refused, on the caller's thread and on the keeper's: see
 * support/refused_memory.h.  What could not be taken in is told by a gap. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/listening.h"
#include "support/refused_memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static redmoon_subscription_options quick(void) {
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  return options;
}

/* The message, or the gap that it is part of.  A link without memory comes back once there is some: as long as there is none,
 * nothing comes. */
static int fetch(world *w, redmoon_subscription *sub, const char *payload, redmoon_error *err) {
  for (int i = 0;; i++) {
    redmoon_message *message = NULL;
    int rc = redmoon_subscription_receive(sub, i == 0 ? 50 : 20000, &message, err);
    if (rc != 0) return rc;
    if (i == 0 && message == NULL) {
      atomic_store(&w->gate.mode, GATE_OPEN);
      continue;
    }
    if (message == NULL) fail_msg("nothing came");
    bool gap = message->kind == REDMOON_GAP, lost = gap && message->dropped + message->reconnects > 0;
    if (!gap) assert_string_equal(message->payload, payload);
    redmoon_message_free(message);
    if (!gap || lost) return 0;
  }
}

static int receive(world *w, redmoon_error *err) {
  redmoon_subscription_options options = quick();
  redmoon_subscription *sub = NULL;
  int rc = redmoon_subscription_open(w->client, set_of(w->tag, "pattern*", NULL), &options, &sub, err);
  if (rc != 0) {
    assert_null(sub);
    return rc;
  }
  rc = redmoon_publish(w->client, w->tag, strlen(w->tag), "payload", 7, 0, NULL, err);
  if (rc == 0) rc = fetch(w, sub, "payload", err);
  redmoon_subscription_close(sub);
  return rc;
}

static int change(world *w, redmoon_error *err) {
  redmoon_subscription_options options = quick();
  redmoon_subscription *sub = NULL;
  redmoon_subscription_counts counts;
  int rc = redmoon_subscription_open(w->client, set_of("first", NULL, NULL), &options, &sub, err);
  if (rc != 0) return rc;
  rc = redmoon_subscription_add(sub, set_of("second", "third", NULL), err);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.channels + counts.patterns, rc == 0 ? 3 : 1);
  redmoon_error removed;
  int remove = redmoon_subscription_remove(sub, set_of("first", NULL, NULL), &removed);
  if (rc == 0 && remove != 0) {
    rc = remove;
    *err = removed;
  }
  redmoon_subscription_close(sub);
  return rc;
}

/* Every message is there, or in a gap. */
static int read_topic(world *w, redmoon_topic *topic, redmoon_error *err) {
  redmoon_subscription_options options = quick();
  redmoon_topic_reader *reader = NULL;
  redmoon_topic_published published = {0};
  int rc = redmoon_topic_subscribe(topic, &options, &reader, err);
  if (rc == 0) rc = redmoon_topic_publish(topic, "payload", 7, "id", &published, err);
  for (int64_t seen = 0, i = 0; rc == 0 && seen < published.seq; i++) {
    redmoon_topic_message *message = NULL;
    rc = redmoon_topic_receive(reader, i == 0 ? 50 : 20000, &message, err);
    if (rc == 0 && message == NULL) {
      if (i > 0) fail_msg("nothing came");
      atomic_store(&w->gate.mode, GATE_OPEN); /* then the link comes back, and with it a mark */
    } else if (rc == 0) {
      seen = message->kind == REDMOON_GAP ? message->to : message->seq;
    }
    redmoon_topic_message_free(message);
  }
  redmoon_topic_reader_close(reader);
  return rc;
}

static int topic(world *w, redmoon_error *err) {
  redmoon_topic *topic = NULL;
  int rc = redmoon_topic_new(w->client, w->tag, strlen(w->tag), NULL, &topic, err);
  if (rc != 0) {
    assert_null(topic);
    return rc;
  }
  rc = read_topic(w, topic, err);
  redmoon_topic_free(topic);
  return rc;
}

/* What a buffer of one had no room for is filled; every message is there. */
static int read_filled(world *w, redmoon_topic *topic, redmoon_error *err) {
  redmoon_subscription_options options = quick();
  options.buffer = 1;
  redmoon_topic_reader *reader = NULL;
  redmoon_topic_published published = {0};
  int rc = redmoon_topic_subscribe(topic, &options, &reader, err);
  for (int i = 0; rc == 0 && i < 5; i++) rc = redmoon_topic_publish(topic, "payload", 7, NULL, &published, err);
  for (int64_t seen = 0; rc == 0 && seen < published.seq;) {
    redmoon_topic_message *message = NULL;
    bool open = atomic_load(&w->gate.mode) == GATE_OPEN;
    rc = redmoon_topic_receive(reader, open ? 20000 : 50, &message, err);
    if (rc == 0 && message == NULL) {
      if (open) fail_msg("nothing came");
      atomic_store(&w->gate.mode, GATE_OPEN); /* then what is missing is asked for again */
    } else if (rc == 0) {
      assert_int_equal(message->kind, REDMOON_MESSAGE);
      assert_int_equal(message->seq, ++seen);
    }
    redmoon_topic_message_free(message);
  }
  redmoon_topic_reader_close(reader);
  return rc;
}

/* What could not be handed over for want of memory comes with the next receive. */
static int read_cursor(redmoon_topic *topic, redmoon_error *err) {
  redmoon_topic_cursor *cursor = NULL;
  redmoon_topic_cursor_list *list = NULL;
  int rc = redmoon_topic_cursor_open(topic, "reader", 6, NULL, &cursor, err);
  for (int i = 0; rc == 0 && i < 3; i++) rc = redmoon_topic_publish(topic, "payload", 7, NULL, NULL, err);
  for (int64_t seen = 0; rc == 0 && seen < 3;) {
    redmoon_topic_message *message = NULL;
    rc = redmoon_topic_cursor_receive(cursor, 20000, &message, err);
    if (rc == 0) assert_int_equal(message->seq, ++seen);
    redmoon_topic_message_free(message);
  }
  if (rc == 0) rc = redmoon_topic_cursor_ack(cursor, 0, err);
  if (rc == 0) rc = redmoon_topic_cursors(topic, &list, err);
  if (rc == 0) assert_int_equal(list->items[0].acked, 3);
  redmoon_topic_cursor_list_free(list);
  redmoon_topic_cursor_close(cursor);
  if (rc == 0) rc = redmoon_topic_cursor_remove(topic, "reader", 6, NULL, err);
  return rc;
}

/* `kind`: the tag is the same in every scenario. */
static redmoon_topic *durable(world *w, char kind, redmoon_error *err, int *rc) {
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  options.durable = 1;
  redmoon_topic *topic = NULL;
  char name[sizeof w->tag + 1];
  int len = snprintf(name, sizeof name, "%c%s", kind, w->tag);
  *rc = redmoon_topic_new(w->client, name, (size_t)len, &options, &topic, err);
  if (*rc != 0) assert_null(topic);
  return topic;
}

static int filled(world *w, redmoon_error *err) {
  int rc;
  redmoon_topic *topic = durable(w, 'f', err, &rc);
  if (rc == 0) rc = read_filled(w, topic, err);
  redmoon_topic_free(topic);
  return rc;
}

static int cursor(world *w, redmoon_error *err) {
  int rc;
  redmoon_topic *topic = durable(w, 'c', err, &rc);
  if (rc == 0) rc = read_cursor(topic, err);
  redmoon_topic_free(topic);
  return rc;
}

static void refused_memory_fails_a_subscription_cleanly(void **state) {
  static const scenario list[] = {
      {"receive", receive, NULL, false},
      {"change", change, NULL, false},
      {"topic", topic, NULL, false},
      {"filled topic", filled, NULL, false},
      {"cursor", cursor, NULL, false},
  };
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_subscription_cleanly, refused_memory_start, refused_memory_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
