/* SPDX-License-Identifier: MIT */
/* Subscriptions in a cluster: channels are heard everywhere, shard channels where their slot is, also after it has moved. */
#include "server/cluster.h"

enum { PATIENCE_MS = 20000 };

static redmoon_subscription *open_set(redmoon_client *client, const redmoon_subscription_set *set) {
  redmoon_subscription *sub = NULL;
  redmoon_error err;
  if (redmoon_subscription_open(client, set, NULL, &sub, &err) != 0) fail_msg("%s", err.message);
  return sub;
}

static redmoon_subscription *open_shard(redmoon_client *client, const char *channel) {
  const redmoon_bytes name = {channel, strlen(channel)};
  return open_set(client, &(redmoon_subscription_set){.shards = &name, .shard_count = 1});
}

static redmoon_message *receive(redmoon_subscription *sub) {
  redmoon_message *message = NULL;
  redmoon_error err;
  if (redmoon_subscription_receive(sub, PATIENCE_MS, &message, &err) != 0) fail_msg("%s", err.message);
  if (message == NULL) fail_msg("no message");
  return message;
}

static void assert_message(redmoon_subscription *sub, const char *channel, const char *payload) {
  redmoon_message *message = receive(sub);
  assert_int_equal(message->kind, REDMOON_MESSAGE);
  assert_string_equal(message->channel, channel);
  assert_string_equal(message->payload, payload);
  redmoon_message_free(message);
}

static int64_t publish(redmoon_client *client, const char *channel, const char *payload, int shard) {
  int64_t receivers = -1;
  redmoon_error err;
  if (redmoon_publish(client, channel, strlen(channel), payload, strlen(payload), shard, &receivers, &err) != 0)
    fail_msg("%s", err.message);
  return receivers;
}

static void channels_are_heard_whichever_node_publishes(void **state) {
  clustered *f = *state;
  const redmoon_bytes channel = {"news", 4}, pattern = {"n?ws", 4};
  enum { SUBSCRIBERS = 4 };
  redmoon_subscription *subs[SUBSCRIBERS];
  char payload[24];
  for (int i = 0; i < SUBSCRIBERS; i++)
    subs[i] = open_set(f->client, i % 2 == 0 ? &(redmoon_subscription_set){.channels = &channel, .channel_count = 1}
                                             : &(redmoon_subscription_set){.patterns = &pattern, .pattern_count = 1});
  for (int node = 0; node < cluster_count(f->cluster); node++) { /* one after another: nodes pass on in their own time */
    snprintf(payload, sizeof payload, "%d", node);
    (void)publish(cluster_client(f->cluster, node), "news", payload, 0);
    for (int i = 0; i < SUBSCRIBERS; i++) assert_message(subs[i], "news", payload);
  }
  (void)publish(f->client, "news", "last", 0);
  for (int i = 0; i < SUBSCRIBERS; i++) {
    assert_message(subs[i], "news", "last");
    redmoon_subscription_close(subs[i]);
  }
}

static void shard_channels_are_heard_where_their_slot_is(void **state) {
  clustered *f = *state;
  enum { CHANNELS = 20 };
  redmoon_subscription *subs[CHANNELS];
  char name[24], payload[24];
  for (int i = 0; i < CHANNELS; i++) {
    snprintf(name, sizeof name, "shard:%d", i);
    subs[i] = open_shard(f->client, name);
  }
  for (int n = 0; n < 3; n++)
    for (int i = 0; i < CHANNELS; i++) {
      snprintf(name, sizeof name, "shard:%d", i);
      snprintf(payload, sizeof payload, "%d/%d", n, i);
      assert_int_equal(publish(f->client, name, payload, 1), 1);
    }
  for (int n = 0; n < 3; n++)
    for (int i = 0; i < CHANNELS; i++) {
      snprintf(name, sizeof name, "shard:%d", i);
      snprintf(payload, sizeof payload, "%d/%d", n, i);
      assert_message(subs[i], name, payload);
    }
  for (int i = 0; i < CHANNELS; i++) redmoon_subscription_close(subs[i]);
  assert_int_equal(atomic_load(&f->redirects), 0);
}

static void shard_channels_of_two_slots_are_refused_with_both_names(void **state) {
  clustered *f = *state;
  const redmoon_bytes two[] = {{"{a}x", 4}, {"{b}y", 4}}, same[] = {{"{a}x", 4}, {"{a}y", 4}};
  redmoon_subscription *sub = NULL;
  redmoon_error err;
  redmoon_subscription_set set = {.shards = two, .shard_count = 2};
  assert_int_equal(redmoon_subscription_open(f->client, &set, NULL, &sub, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_non_null(strstr(err.message, "{a}x"));
  assert_non_null(strstr(err.message, "{b}y"));
  set.shards = same;
  sub = open_set(f->client, &set);
  set = (redmoon_subscription_set){.shards = &two[1], .shard_count = 1};
  assert_int_equal(redmoon_subscription_add(sub, &set, &err), REDMOON_ECONFIG);
  assert_string_equal(err.code, "CROSSSLOT");
  assert_int_equal(publish(f->client, "{a}y", "still", 1), 1);
  assert_message(sub, "{a}y", "still");
  redmoon_subscription_close(sub);
}

static void shard_channel_is_followed_when_its_slot_moves(void **state) {
  clustered *f = *state;
  int slot = slot_of("moving");
  redmoon_subscription *sub = open_shard(f->client, "moving");
  for (int turn = 0; turn < 3; turn++) {
    assert_int_equal(publish(f->client, "moving", "before", 1), 1);
    assert_message(sub, "moving", "before");
    cluster_move_slot(f->cluster, slot, (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES);
    /* A gap says that something may have been missed, once it is subscribed again. */
    redmoon_message *gap = receive(sub);
    assert_int_equal(gap->kind, REDMOON_GAP);
    assert_true(gap->reconnects >= 1);
    redmoon_message_free(gap);
    assert_int_equal(publish(f->client, "moving", "after", 1), 1);
    assert_message(sub, "moving", "after");
  }
  redmoon_subscription_close(sub);
}

static void subscriber_of_a_stale_map_finds_its_slot(void **state) {
  clustered *f = *state;
  int slot = slot_of("stale");
  set(f->client, "stale", "x"); /* the client knows the cluster now */
  cluster_move_slot(f->cluster, slot, (cluster_primary_of(f->cluster, slot) + 1) % PRIMARIES);
  redmoon_subscription *sub = open_shard(f->client, "stale");
  assert_int_equal(publish(f->client, "stale", "x", 1), 1);
  for (redmoon_message *message = receive(sub);; message = receive(sub)) { /* perhaps behind a gap */
    bool found = message->kind == REDMOON_MESSAGE;
    redmoon_message_free(message);
    if (found) break;
  }
  redmoon_subscription_close(sub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CLUSTER_TEST(channels_are_heard_whichever_node_publishes),
      CLUSTER_TEST(shard_channels_are_heard_where_their_slot_is),
      CLUSTER_TEST(shard_channels_of_two_slots_are_refused_with_both_names),
      CLUSTER_TEST(shard_channel_is_followed_when_its_slot_moves),
      CLUSTER_TEST(subscriber_of_a_stale_map_finds_its_slot),
  };
  return cmocka_run_group_tests_name("cluster_subscription", tests, clustered_start, clustered_stop);
}
