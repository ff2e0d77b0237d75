/* SPDX-License-Identifier: MIT */
/* Promise 8 for topics: a message that was said to be published is on its replicas; one that is not there in time is told so,
 * and stays published.  A primary and a replica of the test's own; to stop the replica's process is to have one that lags. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
  redis_server *primary, *replica;
  redmoon_client *client;
} fixture;

static void catch_up(fixture *f) {
  redmoon_reply_free(ask(f->client, "SET", "mark", "1", "PX", "60000", NULL));
  int64_t patience_us = rm_clock_now_us() + 20000000;
  while (ask_integer(f->client, "WAIT", "1", "100", NULL) < 1) assert_true(rm_clock_now_us() < patience_us);
}

static int start(void **state) {
  static fixture f;
  char port[16];
  redmoon_error err;
  f.primary = redis_server_start(&(redis_server_options){.tcp = true});
  snprintf(port, sizeof port, "%d", redis_server_port(f.primary));
  const char *args[] = {"--replicaof", "127.0.0.1", port, "--repl-diskless-load", "disabled", NULL};
  f.replica = redis_server_start(&(redis_server_options){.args = args});
  if (redmoon_client_open(redis_server_url(f.primary), NULL, &f.client, &err) != 0) fail_msg("%s", err.message);
  *state = &f;
  catch_up(&f);
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  redis_server_freeze(f->replica, false); /* a test that failed may have left it stopped */
  redmoon_client_close(f->client);
  redis_server_stop(f->replica);
  redis_server_stop(f->primary);
  return 0;
}

static redmoon_topic *topic_of(fixture *f, bool durable) {
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  options.durable = durable;
  options.min_replicas = 1;
  redmoon_topic *topic = NULL;
  redmoon_error err;
  if (redmoon_topic_new(f->client, durable ? "kept" : "told", 4, &options, &topic, &err) != 0) fail_msg("%s", err.message);
  return topic;
}

static void what_is_said_to_be_published_is_on_the_replica(void **state) {
  fixture *f = *state;
  for (int durable = 0; durable < 2; durable++) {
    redmoon_topic *topic = topic_of(f, durable == 1);
    redmoon_topic_published out;
    redmoon_error err;
    for (int i = 1; i <= 5; i++) {
      if (redmoon_topic_publish(topic, "x", 1, NULL, &out, &err) != 0) fail_msg("%s", err.message);
      char *there = redis_server_ask(f->replica, NULL, durable ? "HGET redmoon:{kept}:topic seq" : "HGET redmoon:{told}:topic seq");
      assert_int_equal(out.seq, i);
      assert_non_null(there);
      assert_int_equal(atoi(there), i);
      free(there);
    }
    redmoon_topic_free(topic);
  }
}

static void one_that_is_not_there_in_time_is_told_and_stays_published(void **state) {
  fixture *f = *state;
  for (int durable = 0; durable < 2; durable++) {
    redmoon_topic *topic = topic_of(f, durable == 1);
    redmoon_topic_published first = {0}, again = {0};
    redmoon_error err;
    redis_server_freeze(f->replica, true);
    assert_int_equal(redmoon_topic_publish(topic, "x", 1, "r1", &first, &err), REDMOON_EUNAVAILABLE);
    assert_non_null(strstr(err.message, "topic: it is written and stays so, but "));
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    assert_int_equal(err.retryable, 1);
    assert_true(first.seq > 0);
    /* Asked for again it is the same message, and is waited for as before. */
    assert_int_equal(redmoon_topic_publish(topic, "x", 1, "r1", &again, &err), REDMOON_EUNAVAILABLE);
    assert_int_equal(again.seq, first.seq);
    redis_server_freeze(f->replica, false);
    catch_up(f);
    if (redmoon_topic_publish(topic, "x", 1, "r1", &again, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(again.seq, first.seq);
    redmoon_topic_free(topic);
  }
}

static void a_number_out_of_range_is_refused(void **state) {
  fixture *f = *state;
  static const int64_t bad[] = {-1, 1001};
  for (int i = 0; i < 2; i++) {
    redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
    options.min_replicas = bad[i];
    redmoon_topic *topic = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_topic_new(f->client, "t", 1, &options, &topic, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "min_replicas"));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_said_to_be_published_is_on_the_replica),
      cmocka_unit_test(one_that_is_not_there_in_time_is_told_and_stays_published),
      cmocka_unit_test(a_number_out_of_range_is_refused),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
