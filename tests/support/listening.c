/* SPDX-License-Identifier: MIT */
/* Short ways with subscriptions. */
#include "support/listening.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <poll.h>
#include <string.h>

enum { PATIENCE_MS = 20000 };

const redmoon_subscription_set *set_of(const char *channel, const char *pattern, const char *shard) {
  static redmoon_bytes names[3];
  static redmoon_subscription_set set;
  const char *given[] = {channel, pattern, shard};
  for (int i = 0; i < 3; i++) names[i] = (redmoon_bytes){given[i], given[i] != NULL ? strlen(given[i]) : 0};
  set = (redmoon_subscription_set){&names[0], channel != NULL, &names[1], pattern != NULL, &names[2], shard != NULL};
  return &set;
}

redmoon_subscription *listen_to(redmoon_client *client, const char *channel, const redmoon_subscription_options *options) {
  redmoon_subscription *sub = NULL;
  redmoon_error err;
  if (redmoon_subscription_open(client, set_of(channel, NULL, NULL), options, &sub, &err) != 0)
    fail_msg("%s: %s", err.code, err.message);
  return sub;
}

redmoon_message *next_event(redmoon_subscription *sub) {
  redmoon_message *message = NULL;
  redmoon_error err;
  if (redmoon_subscription_receive(sub, PATIENCE_MS, &message, &err) != 0) fail_msg("%s: %s", err.code, err.message);
  if (message == NULL) fail_msg("nothing came");
  return message;
}

void expect_message(redmoon_subscription *sub, const char *channel, const char *payload) {
  redmoon_message *message = next_event(sub);
  if (message->kind != REDMOON_MESSAGE)
    fail_msg("a gap (%d reconnects, %d dropped) instead of %s", (int)message->reconnects, (int)message->dropped, payload);
  assert_string_equal(message->channel, channel);
  assert_string_equal(message->payload, payload);
  redmoon_message_free(message);
}

void expect_gap(redmoon_subscription *sub, redmoon_message *out) {
  redmoon_message *message = next_event(sub);
  if (message->kind != REDMOON_GAP) fail_msg("'%s' instead of a gap", message->payload);
  if (out != NULL) *out = *message;
  redmoon_message_free(message);
}

void expect_nothing(redmoon_subscription *sub) {
  redmoon_message *message = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_subscription_receive(sub, 0, &message, &err), 0);
  if (message != NULL) fail_msg("unexpected: %s", message->kind == REDMOON_GAP ? "a gap" : message->payload);
}

void await_count(redmoon_subscription *sub, redmoon_subscription_counts *counts, const uint64_t *field, uint64_t at_least) {
  for (int i = 0; i < PATIENCE_MS; i++) {
    redmoon_subscription_stats(sub, counts);
    if (*field >= at_least) return;
    poll(NULL, 0, 1); /* between two looks, not instead of one */
  }
  fail_msg("%d did not become %d", (int)*field, (int)at_least);
}

void await_connected(redmoon_subscription *sub) {
  redmoon_subscription_counts counts;
  for (int i = 0; i < PATIENCE_MS; i++) {
    redmoon_subscription_stats(sub, &counts);
    if (counts.connected) return;
    poll(NULL, 0, 1);
  }
  fail_msg("it was not connected");
}

int64_t publish(redmoon_client *client, const char *channel, const char *payload) {
  int64_t receivers = -1;
  redmoon_error err;
  if (redmoon_publish(client, channel, strlen(channel), payload, strlen(payload), 0, &receivers, &err) != 0)
    fail_msg("%s", err.message);
  return receivers;
}

void await_nobody(redmoon_client *client, const char *channel) {
  for (int i = 0; i < PATIENCE_MS; i++) {
    if (publish(client, channel, "x") == 0) return;
    poll(NULL, 0, 1);
  }
  fail_msg("somebody still gets what is published to %s", channel);
}
