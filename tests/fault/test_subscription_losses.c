/* SPDX-License-Identifier: MIT */
/* Subscriptions whose link is cut, killed and swallowed again and again while messages flow: every loss is preceded by a gap,
 * the order is kept, and nothing comes twice.  REDMOON_MESSAGES and REDMOON_LOSSES say how many (1000000 and 1000 for long).
 * And: slow readers, fork(), the end from another thread. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/listening.h"
#include "support/quiet_fork.h"
#include "support/redis_server.h"
#include "support/stopper.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static redis_server *server;
static redmoon_error err;

static long from_environment(const char *name, long usual) {
  const char *text = getenv(name);
  return text != NULL ? strtol(text, NULL, 10) : usual;
}

static redmoon_client *open_at(const char *url) {
  redmoon_client *client = NULL;
  if (redmoon_client_open(url, NULL, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static redmoon_subscription_options quick(int64_t buffer) {
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.buffer = buffer;
  options.ping_interval_ms = 25;
  options.min_backoff_ms = 1;
  options.max_backoff_ms = 5;
  return options;
}

/* Publishes 1, 2, ..., in pipelines; then "end" until somebody has it. */
typedef struct flood {
  redmoon_client *client;
  long count;
  size_t payload_len;
  atomic_long published;
  atomic_bool stop, failed;
} flood;

static void *run_flood(void *arg) {
  flood *f = arg;
  char *payload = calloc(1, f->payload_len + 32);
  redmoon_error failure;
  if (payload == NULL) abort();
  memset(payload + 24, 'x', f->payload_len);
  for (long i = 1; i <= f->count; i++) {
    int len = snprintf(payload, 24, "%ld", i);
    size_t whole = (size_t)len;
    if (f->payload_len > 0) payload[len] = ' ', whole = 24 + f->payload_len;
    if (redmoon_publish(f->client, "c", 1, payload, whole, 0, NULL, &failure) != 0) atomic_store(&f->failed, true);
    atomic_store(&f->published, i);
  }
  while (!atomic_load(&f->stop)) {
    if (redmoon_publish(f->client, "c", 1, "end", 3, 0, NULL, &failure) != 0) atomic_store(&f->failed, true);
    poll(NULL, 0, 1);
  }
  free(payload);
  return NULL;
}

/* What a reader has seen. */
typedef struct tally {
  long last, delivered, lost, unannounced, gaps;
  uint64_t dropped, reconnects;
  bool gap, disorder;
} tally;

/* False: the end was read. */
static bool note(tally *t, redmoon_message *message) {
  bool more = true;
  if (message->kind == REDMOON_GAP) {
    t->gap = true;
    t->gaps++;
    t->dropped += message->dropped;
    t->reconnects += message->reconnects;
  } else if (message->payload[0] == 'e') {
    more = false;
  } else {
    long number = strtol(message->payload, NULL, 10);
    if (number <= t->last) t->disorder = true;
    if (number > t->last + 1) {
      t->lost += number - t->last - 1;
      if (!t->gap) t->unannounced++;
    }
    t->delivered++;
    t->last = number;
    t->gap = false;
  }
  redmoon_message_free(message);
  return more;
}

/* How the link is lost; round by round. */
typedef void (*lose_fn)(stopper *s, redmoon_client *client);
static void lose_by_cut(stopper *s, redmoon_client *client) {
  (void)client;
  stopper_cut(s);
}
static void lose_in_a_hole(stopper *s, redmoon_client *client) {
  (void)client;
  stopper_swallow(s);
}
static void lose_by_kill(stopper *s, redmoon_client *client) {
  (void)s;
  redmoon_reply_free(ask(client, "CLIENT", "KILL", "TYPE", "pubsub", NULL));
}

static void lose_many(lose_fn lose, long losses) {
  stopper *proxy = stopper_start(redis_server_path(server));
  redmoon_client *client = open_at(redis_server_url(server)), *listener = open_at(stopper_url(proxy));
  redmoon_subscription_options options = quick(1000000);
  redmoon_subscription *sub = listen_to(listener, "c", &options);
  flood f = {.client = client, .count = from_environment("REDMOON_MESSAGES", 20000)};
  pthread_t thread;
  tally t = {0};
  long done = 0;
  assert_int_equal(pthread_create(&thread, NULL, run_flood, &f), 0);
  for (bool more = true; more;) {
    redmoon_message *message = NULL;
    if (redmoon_subscription_receive(sub, 5, &message, &err) != 0) fail_msg("%s", err.message);
    if (message != NULL) more = note(&t, message);
    /* Spread over the flood; the last ones come while nothing is published. */
    redmoon_subscription_counts counts;
    if (done < losses && atomic_load(&f.published) >= f.count / losses * done) {
      redmoon_subscription_stats(sub, &counts);
      if (counts.connected && counts.reconnects >= (uint64_t)done) {
        lose(proxy, client);
        done++;
        if (lose == lose_in_a_hole) await_count(sub, &counts, &counts.reconnects, (uint64_t)done);
      }
    }
    if (done < losses) more = true;
  }
  atomic_store(&f.stop, true);
  pthread_join(thread, NULL);
  assert_false(atomic_load(&f.failed));
  if (t.last < f.count) t.lost += f.count - t.last, t.unannounced += !t.gap;
  print_message("%ld delivered, %ld lost in %ld gaps, %ld losses of the link\n", t.delivered, t.lost, t.gaps, done);
  assert_false(t.disorder);
  assert_int_equal(t.unannounced, 0);
  assert_int_equal(t.delivered + t.lost, f.count);
  assert_true(t.reconnects >= (uint64_t)losses / 2); /* some of them came before the link was used */
  redmoon_subscription_close(sub);
  redmoon_client_close(listener);
  redmoon_client_close(client);
  stopper_stop(proxy);
}

static void a_link_that_is_cut_loses_nothing_without_a_gap(void **state) {
  (void)state;
  lose_many(lose_by_cut, from_environment("REDMOON_LOSSES", 60));
}
static void a_link_that_is_killed_loses_nothing_without_a_gap(void **state) {
  (void)state;
  lose_many(lose_by_kill, from_environment("REDMOON_LOSSES", 60));
}
static void a_link_that_is_swallowed_loses_nothing_without_a_gap(void **state) {
  (void)state;
  lose_many(lose_in_a_hole, from_environment("REDMOON_LOSSES", 60) / 4);
}

/* Topics: delivered and missing are together what was published, exactly. */

static void *run_topic_flood(void *arg) {
  flood *f = arg;
  redmoon_topic *topic = NULL;
  redmoon_error failure;
  char payload[32];
  if (redmoon_topic_new(f->client, "t", 1, NULL, &topic, &failure) != 0) abort();
  for (long i = 1; i <= f->count; i++) {
    redmoon_topic_published published;
    int len = snprintf(payload, sizeof payload, "%ld", i);
    if (redmoon_topic_publish(topic, payload, (size_t)len, NULL, &published, &failure) != 0 || published.seq != i)
      atomic_store(&f->failed, true);
    atomic_store(&f->published, i);
  }
  redmoon_topic_free(topic);
  return NULL;
}

static void lose_many_of_a_topic(lose_fn lose, long losses, int64_t buffer) {
  stopper *proxy = stopper_start(redis_server_path(server));
  redmoon_client *client = open_at(redis_server_url(server)), *listener = open_at(stopper_url(proxy));
  redmoon_subscription_options options = quick(buffer);
  redmoon_topic *topic = NULL;
  redmoon_topic_reader *reader = NULL;
  redmoon_topic_counts counts;
  free(redis_server_ask(server, NULL, "FLUSHALL"));
  assert_int_equal(redmoon_topic_new(listener, "t", 1, NULL, &topic, &err), 0);
  if (redmoon_topic_subscribe(topic, &options, &reader, &err) != 0) fail_msg("%s", err.message);
  flood f = {.client = client, .count = from_environment("REDMOON_MESSAGES", 20000)};
  pthread_t thread;
  long done = 0, delivered = 0, missing = 0;
  assert_int_equal(pthread_create(&thread, NULL, run_topic_flood, &f), 0);
  /* Nothing is published behind the last message: the marks have to tell. */
  while (delivered + missing < f.count || done < losses) {
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_receive(reader, 5, &message, &err) != 0) fail_msg("%s", err.message);
    if (message != NULL && message->kind == REDMOON_MESSAGE) {
      delivered++;
      assert_int_equal(message->seq, delivered + missing); /* in order, none twice, none left out */
      assert_int_equal(strtol(message->payload, NULL, 10), message->seq);
    } else if (message != NULL) {
      assert_int_equal(message->from, delivered + missing + 1);
      missing += message->to - message->from + 1;
    }
    redmoon_topic_message_free(message);
    redmoon_topic_reader_stats(reader, &counts);
    bool due = done < losses && atomic_load(&f.published) >= f.count / losses * done;
    if (!due || !counts.connected || counts.reconnects < (uint64_t)done) continue;
    lose(proxy, client);
    done++;
  }
  pthread_join(thread, NULL);
  assert_false(atomic_load(&f.failed));
  print_message("%ld delivered, %ld missing in %d gaps, %ld losses of the link\n", delivered, missing, (int)counts.gaps, done);
  assert_int_equal(delivered + missing, f.count);
  redmoon_topic_reader_stats(reader, &counts);
  assert_int_equal(counts.delivered, delivered);
  assert_int_equal(counts.lost, missing);
  assert_int_equal(counts.unknown, 0);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
  redmoon_client_close(listener);
  redmoon_client_close(client);
  stopper_stop(proxy);
}

static void a_topic_is_cut_and_nothing_is_unaccounted_for(void **state) {
  (void)state;
  lose_many_of_a_topic(lose_by_cut, from_environment("REDMOON_LOSSES", 60), 1000000);
}
static void a_topic_is_killed_while_its_buffer_is_full(void **state) {
  (void)state;
  lose_many_of_a_topic(lose_by_kill, from_environment("REDMOON_LOSSES", 60), 5);
}
static void a_topic_is_swallowed_and_nothing_is_unaccounted_for(void **state) {
  (void)state;
  lose_many_of_a_topic(lose_in_a_hole, from_environment("REDMOON_LOSSES", 60) / 4, 1000000);
}

static void it_is_back_after_the_server_was_away(void **state) {
  (void)state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_subscription_options options = quick(100);
  redmoon_subscription *sub = listen_to(client, "c", &options);
  redmoon_message gap;
  for (int round = 0; round < 3; round++) {
    redis_server_kill(server);
    redmoon_subscription_counts counts;
    await_count(sub, &counts, &counts.reconnects, (uint64_t)round + 1);
    assert_false(counts.connected);
    redis_server_restart(server);
    expect_gap(sub, &gap);
    assert_true(gap.down_ms > 0);
    assert_int_equal(publish(client, "c", "x"), 1);
    expect_message(sub, "c", "x");
  }
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

/* Reads one for every ten that are published. */
static void a_slow_reader_costs_no_more_memory_and_loses_by_count(void **state) {
  (void)state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_subscription_options options = quick(100);
  options.ping_interval_ms = 60000;
  redmoon_subscription *sub = listen_to(client, "c", &options);
  flood f = {.client = client, .count = from_environment("REDMOON_MESSAGES", 20000), .payload_len = 1000};
  pthread_t thread;
  tally t = {0};
  redmoon_subscription_counts counts;
  size_t before = mallinfo2().uordblks, most = 0;
  assert_int_equal(pthread_create(&thread, NULL, run_flood, &f), 0);
  for (long reads = 1; atomic_load(&f.published) < f.count; reads++) {
    while (atomic_load(&f.published) < reads * 10 && atomic_load(&f.published) < f.count) sched_yield();
    redmoon_message *message = NULL;
    assert_int_equal(redmoon_subscription_receive(sub, 1000, &message, &err), 0);
    if (message != NULL) note(&t, message);
    size_t now = mallinfo2().uordblks;
    if (now > before && now - before > most) most = now - before;
  }
  while (note(&t, next_event(sub))) {
  }
  atomic_store(&f.stop, true);
  pthread_join(thread, NULL);
  redmoon_subscription_stats(sub, &counts);
  print_message("%ld delivered, %d dropped, %zu KB more at most\n", t.delivered, (int)counts.dropped, most / 1024);
  assert_true(counts.dropped > 0);
  assert_int_equal(t.delivered + t.lost, f.count);
  assert_int_equal(t.unannounced, 0);
  assert_false(t.disorder);
  assert_int_equal(counts.received, counts.delivered + counts.dropped + counts.buffered);
  if (counts.reconnects == 0) assert_int_equal(t.dropped, t.lost);
  assert_true(most < (size_t)2 << 20); /* of 20 MB that came */
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

/* 0 or what was wrong. */
static int in_the_child(redmoon_client *client, redmoon_subscription *sub) {
  redmoon_message *message = NULL;
  redmoon_error why;
  if (redmoon_subscription_receive(sub, 1000, &message, &why) != REDMOON_ECLOSED) return 1;
  if (strstr(why.message, "fork()") == NULL) return 2;
  if (redmoon_subscription_add(sub, set_of("d", NULL, NULL), &why) != REDMOON_ECLOSED) return 3;
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  if (counts.channels != 0) return 4;
  redmoon_subscription_shutdown(sub);
  redmoon_subscription *own = NULL;
  if (redmoon_subscription_open(client, set_of("child", NULL, NULL), NULL, &own, &why) != 0) return 5;
  if (redmoon_publish(client, "child", 5, "x", 1, 0, NULL, &why) != 0) return 6;
  if (redmoon_subscription_receive(own, 20000, &message, &why) != 0 || message == NULL) return 7;
  redmoon_message_free(message);
  redmoon_subscription_close(own);
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
  return 0;
}

static void a_child_has_none_of_its_parents(void **state) {
  (void)state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_subscription *sub = listen_to(client, "c", NULL);
  for (int i = 0; i < 20; i++) {
    publish(client, "c", "before"); /* the keeper may be in the middle of anything */
    pid_t pid = quiet_fork();
    if (pid == 0) _exit(in_the_child(client, sub));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    expect_message(sub, "c", "before");
    assert_int_equal(publish(client, "c", "after"), 1);
    expect_message(sub, "c", "after");
  }
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 0);
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

/* 0 or what was wrong. */
static int read_in_the_child(redmoon_topic_reader *reader, redmoon_topic_cursor *cursor) {
  redmoon_topic_message *message = NULL;
  redmoon_error why;
  if (redmoon_topic_receive(reader, 1000, &message, &why) != REDMOON_ECLOSED) return 1;
  redmoon_topic_reader_close(reader);
  if (redmoon_topic_cursor_receive(cursor, 20000, &message, &why) != 0 || message == NULL) return 2;
  if (message->seq != 1) return 3;
  redmoon_topic_message_free(message);
  if (redmoon_topic_cursor_ack(cursor, 0, &why) != 0) return 4;
  redmoon_topic_cursor_close(cursor);
  return 0;
}

/* What a topic's reader missed is being fetched by the keeper while the process forks. */
static void a_child_has_no_reader_of_its_parents(void **state) {
  (void)state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_subscription_options options = quick(1);
  redmoon_topic_options durable = REDMOON_TOPIC_OPTIONS_INIT;
  redmoon_topic *topic = NULL;
  redmoon_topic_reader *reader = NULL;
  redmoon_topic_cursor *cursor = NULL;
  redmoon_topic_message *message = NULL;
  durable.durable = 1;
  assert_int_equal(redmoon_topic_new(client, "forked", 6, &durable, &topic, &err), 0);
  if (redmoon_topic_subscribe(topic, &options, &reader, &err) != 0) fail_msg("%s", err.message);
  if (redmoon_topic_cursor_open(topic, "c", 1, NULL, &cursor, &err) != 0) fail_msg("%s", err.message);
  for (int i = 0; i < 150; i++) assert_int_equal(redmoon_topic_publish(topic, "x", 1, NULL, NULL, &err), 0);
  for (int64_t seq = 1; seq <= 150; seq++) {
    if (seq <= 20) {
      pid_t pid = quiet_fork();
      if (pid == 0) _exit(read_in_the_child(reader, cursor));
      int status;
      assert_int_equal(waitpid(pid, &status, 0), pid);
      assert_int_equal(status, 0);
    }
    assert_int_equal(redmoon_topic_receive(reader, 20000, &message, &err), 0);
    if (message == NULL) fail_msg("message %d did not come", (int)seq);
    assert_int_equal(message->kind, REDMOON_MESSAGE);
    assert_int_equal(message->seq, seq);
    redmoon_topic_message_free(message);
  }
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
  redmoon_client_close(client);
}

/* The parent is killed while its child lives: the server must see the end of the connection. */
static void a_child_does_not_keep_its_dead_parents_link(void **state) {
  (void)state;
  int ready[2], release[2];
  char byte;
  assert_int_equal(pipe(ready) | pipe(release), 0);
  pid_t parent = quiet_fork();
  if (parent == 0) {
    redmoon_client *client = NULL;
    redmoon_subscription *sub = NULL;
    if (redmoon_client_open(redis_server_url(server), NULL, &client, NULL) != 0 ||
        redmoon_subscription_open(client, set_of("orphan", NULL, NULL), NULL, &sub, NULL) != 0)
      _exit(1);
    if (fork() == 0) {
      redmoon_stats stats;
      close(release[1]);
      redmoon_client_stats(client, &stats); /* the first use of what was inherited */
      if (write(ready[1], "xx", 2) != 2 || read(release[0], &byte, 1) != 0) _exit(1);
      _exit(0);
    }
    _exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
  }
  assert_int_equal(read(ready[0], &byte, 1), 1);
  int status;
  assert_int_equal(waitpid(parent, &status, 0), parent);
  assert_int_equal(status, 0);
  redmoon_client *client = open_at(redis_server_url(server));
  await_nobody(client, "orphan");
  redmoon_client_close(client);
  close(release[1]); /* the child ends */
  close(release[0]);
  close(ready[0]);
  close(ready[1]);
}

/* Ends in the middle of the flood, of a dial, of a change. */
static void *read_until_the_end(void *arg) {
  redmoon_message *message = NULL;
  redmoon_error ended;
  int rc;
  while ((rc = redmoon_subscription_receive(arg, -1, &message, &ended)) == 0) redmoon_message_free(message);
  return rc == REDMOON_ECLOSED ? NULL : arg;
}

static void it_may_end_at_any_moment(void **state) {
  (void)state;
  stopper *proxy = stopper_start(redis_server_path(server));
  redmoon_client *client = open_at(redis_server_url(server)), *listener = open_at(stopper_url(proxy));
  flood f = {.client = client, .count = from_environment("REDMOON_MESSAGES", 20000)};
  pthread_t flooding, reading;
  assert_int_equal(pthread_create(&flooding, NULL, run_flood, &f), 0);
  for (int i = 0; i < 60; i++) {
    redmoon_subscription_options options = quick(10 + i);
    options.overflow = i % 2 == 0 ? "block" : "drop_oldest";
    redmoon_subscription *sub = listen_to(listener, "c", &options);
    redmoon_op *add = NULL;
    assert_int_equal(pthread_create(&reading, NULL, read_until_the_end, sub), 0);
    assert_int_equal(redmoon_subscription_add_start(sub, set_of("d", NULL, NULL), &add, &err), 0);
    redmoon_op_step(add);
    if (i % 3 == 1) stopper_cut(proxy);
    if (i % 3 == 2) stopper_swallow(proxy);
    if (i % 4 == 0) sched_yield();
    redmoon_subscription_shutdown(sub);
    void *wrong = NULL;
    pthread_join(reading, &wrong);
    assert_null(wrong);
    (void)redmoon_op_finish(add, NULL);
    redmoon_subscription_close(sub);
  }
  redmoon_stats stats;
  redmoon_client_stats(listener, &stats);
  assert_int_equal(stats.subscriptions, 0);
  atomic_store(&f.stop, true);
  pthread_join(flooding, NULL);
  redmoon_client_close(listener);
  redmoon_client_close(client);
  stopper_stop(proxy);
}

/* They are polled from the keeper's stack; each has a descriptor. */
static void a_client_has_a_thousand_at_most(void **state) {
  (void)state;
  enum { MOST = 1000 };
  static redmoon_subscription *subs[MOST];
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_true(limit.rlim_cur > MOST + 100);
  redmoon_client *client = open_at(redis_server_url(server));
  for (int i = 0; i < MOST; i++) subs[i] = listen_to(client, NULL, NULL);
  redmoon_subscription *one_more = NULL;
  assert_int_equal(redmoon_subscription_open(client, set_of("c", NULL, NULL), NULL, &one_more, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "at most 1000 subscriptions"));
  assert_int_equal(redmoon_subscription_add(subs[MOST - 1], set_of("c", NULL, NULL), &err), 0); /* the last one works */
  assert_int_equal(publish(client, "c", "x"), 1);
  expect_message(subs[MOST - 1], "c", "x");
  redmoon_subscription_close(subs[0]);
  one_more = listen_to(client, "d", NULL);
  publish(client, "d", "y");
  expect_message(one_more, "d", "y");
  redmoon_subscription_close(one_more);
  for (int i = 1; i < MOST; i++) redmoon_subscription_close(subs[i]);
  redmoon_client_close(client);
  limit.rlim_cur = before;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int start(void **state) {
  (void)state;
  server = redis_server_start(NULL);
  return 0;
}

static int stop(void **state) {
  (void)state;
  redis_server_stop(server);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_link_that_is_cut_loses_nothing_without_a_gap),
      cmocka_unit_test(a_link_that_is_killed_loses_nothing_without_a_gap),
      cmocka_unit_test(a_link_that_is_swallowed_loses_nothing_without_a_gap),
      cmocka_unit_test(a_topic_is_cut_and_nothing_is_unaccounted_for),
      cmocka_unit_test(a_topic_is_killed_while_its_buffer_is_full),
      cmocka_unit_test(a_topic_is_swallowed_and_nothing_is_unaccounted_for),
      cmocka_unit_test(it_is_back_after_the_server_was_away),
      cmocka_unit_test(a_slow_reader_costs_no_more_memory_and_loses_by_count),
      cmocka_unit_test(a_child_has_none_of_its_parents),
      cmocka_unit_test(a_child_has_no_reader_of_its_parents),
      cmocka_unit_test(a_child_does_not_keep_its_dead_parents_link),
      cmocka_unit_test(it_may_end_at_any_moment),
      cmocka_unit_test(a_client_has_a_thousand_at_most),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
