/* SPDX-License-Identifier: MIT */
/* The link of a subscription against servers that keep silent, fall out of step, refuse, and leave. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/fake_server.h"
#include "support/listening.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fake_server *server;
static redmoon_client *client;
static redmoon_subscription *sub;
static redmoon_error err;
static redmoon_subscription_counts counts;

/* What the first connection of a test does once SUBSCRIBE c was answered; all later ones are served well. */
typedef void (*begin_fn)(fake_peer *peer);

static int stop(void **state) {
  (void)state;
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
  fake_server_stop(server);
  sub = NULL;
  client = NULL;
  server = NULL;
  return 0;
}

static void confirm(fake_bytes *reply, bool push, const fake_command *command) {
  char text[80], word[16];
  size_t n = 0;
  for (; command->argv[0][n] != '\0' && n < sizeof word - 1; n++)
    word[n] = (char)(command->argv[0][n] >= 'A' && command->argv[0][n] <= 'Z' ? command->argv[0][n] + 32 : command->argv[0][n]);
  word[n] = '\0';
  for (size_t i = 1; i < command->argc; i++) {
    snprintf(text, sizeof text, "%c3\r\n$%zu\r\n%s\r\n", push ? '>' : '*', n, word);
    fake_append_text(reply, text);
    fake_append_bulk(reply, command->argv[i], command->lens[i]);
    fake_append_text(reply, ":1\r\n");
  }
}

/* Answers what subscribers ask for; a message follows each SUBSCRIBE. */
static void serve_well(fake_peer *peer, bool resp2) {
  const fake_command *command;
  fake_bytes reply = {0};
  while (fake_next(peer, &command)) {
    reply.len = 0;
    if (fake_is(command, "PING")) {
      fake_append_text(&reply, resp2 ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n");
    } else {
      confirm(&reply, !resp2, command);
      if (fake_is(command, "SUBSCRIBE"))
        fake_append_text(&reply, resp2 ? "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nback\r\n"
                                       : ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nback\r\n");
    }
    if (!fake_send(peer, reply.ptr, reply.len)) break;
  }
  free(reply.ptr);
}

static void script(fake_peer *peer, void *ctx) {
  begin_fn begin = *(begin_fn *)ctx;
  fake_handshake(peer);
  if (fake_index(peer) > 0 || begin == NULL) {
    serve_well(peer, false);
    return;
  }
  if (fake_expect(peer, "SUBSCRIBE", "c", NULL)) {
    fake_text(peer, ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    begin(peer);
  }
}

static begin_fn current;

static void open_client(void) {
  char url[300];
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 2;
  options.timeout_ms = 15000;
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  assert_int_equal(redmoon_client_open(url, &options, &client, &err), 0);
}

static void start(fake_script_fn fn, bool resp2) {
  server = fake_server_start(&(fake_options){.script = fn, .ctx = &current, .resp2 = resp2});
  open_client();
}

static const redmoon_subscription_options *quick(int64_t ping_ms) {
  static redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.ping_interval_ms = ping_ms;
  options.min_backoff_ms = 1;
  options.max_backoff_ms = 20;
  return &options;
}

static void begin_with(begin_fn begin, int64_t ping_ms) {
  current = begin;
  start(script, false);
  sub = listen_to(client, "c", quick(ping_ms));
}

/* After whatever the first connection did: a gap, and then what the second one says. */
static void expect_to_be_back(void) {
  redmoon_message gap;
  expect_gap(sub, &gap);
  assert_int_equal(gap.reconnects, 1);
  expect_message(sub, "c", "back");
  expect_nothing(sub);
  assert_int_equal(fake_server_connections(server), 2);
  assert_null(fake_server_failure(server));
}

/* Silence. */

static void stall(fake_peer *peer) { fake_stall(peer); }

static void a_silent_link_is_asked_and_then_given_up(void **state) {
  (void)state;
  begin_with(stall, 40);
  expect_to_be_back();
}

static void drop_pings(fake_peer *peer) {
  if (fake_expect(peer, "PING", NULL)) fake_expect_end(peer);
}

static void it_is_asked_before_it_is_given_up(void **state) {
  (void)state;
  begin_with(drop_pings, 40);
  expect_to_be_back();
}

static void answer_some_pings(fake_peer *peer) {
  for (int i = 0; i < 5; i++)
    if (!fake_expect(peer, "PING", NULL) || !fake_text(peer, "+PONG\r\n")) return;
  fake_text(peer, ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nalive\r\n");
  fake_expect_end(peer);
}

static void an_answer_keeps_it(void **state) {
  (void)state;
  begin_with(answer_some_pings, 200);
  expect_message(sub, "c", "alive");
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 0);
  assert_null(fake_server_failure(server));
}

static void refuse_pings(fake_peer *peer) {
  for (int i = 0; i < 4; i++)
    if (!fake_expect(peer, "PING", NULL) || !fake_text(peer, "-NOPERM no ping\r\n")) return;
  fake_text(peer, ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nalive\r\n");
  fake_expect_end(peer);
}

static void a_refusal_is_a_sign_of_life_too(void **state) {
  (void)state;
  begin_with(refuse_pings, 200);
  expect_message(sub, "c", "alive");
}

/* Out of step. */

static const char *const odd[] = {
    "+PONG\r\n",                                          /* nobody asked */
    "$1\r\nx\r\n", ":1\r\n", "*2\r\n$4\r\npong\r\n$0\r\n\r\n", "*1\r\n$1\r\nx\r\n", "%1\r\n+a\r\n+b\r\n", "_\r\n",
    ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",         /* confirmed twice */
    ">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n",     /* the server's own idea: its slot has moved */
    ">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n",
    "-ERR something\r\n", "?garbage\r\n", "*0\r\n"};
static atomic_size_t which;

static void say_something_odd(fake_peer *peer) {
  fake_text(peer, odd[atomic_load(&which)]);
  fake_expect_end(peer);
}

static void what_nobody_asked_for_ends_the_link(void **state) {
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    atomic_store(&which, i);
    begin_with(say_something_odd, 60000);
    expect_to_be_back();
    stop(state);
  }
}

static void say_what_concerns_others(fake_peer *peer) {
  fake_text(peer, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n>1\r\n$5\r\nother\r\n|1\r\n+a\r\n+b\r\n>3\r\n$7\r\nmessage\r\n"
                  "$1\r\nc\r\n$1\r\nx\r\n");
  fake_expect_end(peer);
}

static void other_pushes_are_ignored(void **state) {
  (void)state;
  begin_with(say_what_concerns_others, 60000);
  expect_message(sub, "c", "x");
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 0);
}

/* Cut at each byte of a message: what was not whole is part of the gap. */
static const char whole[] = ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nwhole\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nhalf\r\n";
static atomic_size_t cut_at;

static void say_half(fake_peer *peer) { fake_send(peer, whole, atomic_load(&cut_at)); }

static void a_message_that_was_cut_off_is_part_of_the_gap(void **state) {
  size_t first = strlen(whole) / 2 + 1;
  for (size_t at = first; at < sizeof whole - 1; at += 3) {
    atomic_store(&cut_at, at);
    begin_with(say_half, 60000);
    expect_message(sub, "c", "whole");
    expect_to_be_back();
    stop(state);
  }
}

static void drip(fake_peer *peer) {
  fake_drip(peer, whole, sizeof whole - 1, 0);
  fake_expect_end(peer);
}

static void a_message_may_come_byte_by_byte(void **state) {
  (void)state;
  begin_with(drip, 60000);
  expect_message(sub, "c", "whole");
  expect_message(sub, "c", "half");
}

/* RESP2. */

static void serve_resp2(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  serve_well(peer, true);
}

static void a_server_without_hello_will_do(void **state) {
  (void)state;
  start(serve_resp2, true);
  sub = listen_to(client, "c", quick(50));
  expect_message(sub, "c", "back");
  assert_true(fake_server_wait_commands(server, fake_server_commands(server) + 3)); /* PINGs, answered by arrays */
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 0);
}

/* Refusals. */

static bool know_no_shards(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  if (fake_is(command, "SSUBSCRIBE"))
    fake_append_text(reply, "-ERR unknown command 'SSUBSCRIBE', with args beginning with: 'hidden' \r\n");
  else confirm(reply, true, command);
  return true;
}
static void serve_no_shards(fake_peer *peer, void *ctx) { fake_serve(peer, know_no_shards, ctx); }

static void shard_channels_of_an_old_server_are_refused_clearly(void **state) {
  (void)state;
  start(serve_no_shards, false);
  assert_int_equal(redmoon_subscription_open(client, set_of(NULL, NULL, "hidden"), NULL, &sub, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "SSUBSCRIBE needs Redis 7.0"));
  assert_null(strstr(err.message, "hidden"));
  assert_null(sub);
}

static bool quote_arguments(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  char text[200];
  snprintf(text, sizeof text, "-ERR unknown command '%s', with args beginning with: '%s' \r\n", command->argv[0], command->argv[1]);
  fake_append_text(reply, text);
  return true;
}
static void serve_quotes(fake_peer *peer, void *ctx) { fake_serve(peer, quote_arguments, ctx); }

static void an_error_does_not_show_the_channel(void **state) {
  (void)state;
  start(serve_quotes, false);
  assert_int_equal(redmoon_subscription_open(client, set_of("s3cret", NULL, NULL), NULL, &sub, &err), REDMOON_ESERVER);
  assert_null(strstr(err.message, "s3cret"));
}

static void leave(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_reset(peer);
}

static void a_server_that_cannot_be_had_is_tried_as_often_as_calls_are(void **state) {
  (void)state;
  start(leave, false);
  assert_int_equal(redmoon_subscription_open(client, set_of("c", NULL, NULL), quick(1000), &sub, &err), REDMOON_ECONNECT);
  assert_int_equal(err.attempts, 3); /* max_retries is 2 */
  assert_int_equal(fake_server_connections(server), 3);
}

static void say_wrongpass(fake_peer *peer, void *ctx) {
  const fake_command *command;
  (void)ctx;
  while (fake_next(peer, &command)) fake_text(peer, "-WRONGPASS no\r\n");
}

static void a_wrong_password_is_not_tried_again(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = say_wrongpass});
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = "pw";
  char url[300];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  assert_int_equal(redmoon_client_open(url, &options, &client, &err), 0);
  assert_int_equal(redmoon_subscription_open(client, set_of("c", NULL, NULL), NULL, &sub, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  assert_int_equal(fake_server_connections(server), 1);
}

/* LOADING is not for ever. */
static void serve_loading(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  const fake_command *command;
  size_t index = fake_index(peer);
  if (index == 0) {
    if (fake_next(peer, &command)) fake_text(peer, ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
  } else if (index < 4) {
    if (fake_next(peer, &command)) fake_text(peer, "-LOADING Redis is loading the dataset in memory\r\n");
    fake_expect_end(peer);
  } else {
    serve_well(peer, false);
  }
}

static void a_refusal_that_passes_is_waited_for(void **state) {
  (void)state;
  start(serve_loading, false);
  sub = listen_to(client, "c", quick(60000));
  redmoon_message gap;
  expect_gap(sub, &gap);
  assert_int_equal(gap.reconnects, 1); /* on the others nothing was confirmed that could have been missed again */
  expect_message(sub, "c", "back");
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.reconnects, 4);
}

/* Changes. */

static void confirm_nothing_more(fake_peer *peer) {
  const fake_command *command;
  while (fake_next(peer, &command))
    if (fake_is(command, "UNSUBSCRIBE")) fake_text(peer, ">3\r\n$11\r\nunsubscribe\r\n$1\r\nd\r\n:1\r\n");
}

static void an_add_that_is_not_confirmed_in_time_is_taken_back(void **state) {
  (void)state;
  current = confirm_nothing_more;
  server = fake_server_start(&(fake_options){.script = script, .ctx = &current});
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = 100;
  char url[300];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  assert_int_equal(redmoon_client_open(url, &options, &client, &err), 0);
  sub = listen_to(client, "c", quick(60000));
  assert_int_equal(redmoon_subscription_add(sub, set_of("d", NULL, NULL), &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_non_null(strstr(err.message, "not confirmed within 100 ms"));
  for (int i = 0; i < 20000 && fake_server_count(server, "UNSUBSCRIBE") == 0; i++) poll(NULL, 0, 1);
  assert_int_equal(fake_server_count(server, "UNSUBSCRIBE"), 1);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.channels, 1);
}

static void leave_in_the_middle(fake_peer *peer) { fake_expect(peer, "SUBSCRIBE", "d", NULL); }

static void an_add_goes_on_on_the_next_connection(void **state) {
  (void)state;
  begin_with(leave_in_the_middle, 60000);
  assert_int_equal(redmoon_subscription_add(sub, set_of("d", NULL, NULL), &err), 0);
  redmoon_subscription_stats(sub, &counts);
  assert_int_equal(counts.channels, 2);
  assert_int_equal(counts.reconnects, 1);
  expect_gap(sub, NULL);
  expect_message(sub, "c", "back");
  expect_message(sub, "c", "back"); /* one for each SUBSCRIBE */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(a_silent_link_is_asked_and_then_given_up, stop),
      cmocka_unit_test_teardown(it_is_asked_before_it_is_given_up, stop),
      cmocka_unit_test_teardown(an_answer_keeps_it, stop),
      cmocka_unit_test_teardown(a_refusal_is_a_sign_of_life_too, stop),
      cmocka_unit_test_teardown(what_nobody_asked_for_ends_the_link, stop),
      cmocka_unit_test_teardown(other_pushes_are_ignored, stop),
      cmocka_unit_test_teardown(a_message_that_was_cut_off_is_part_of_the_gap, stop),
      cmocka_unit_test_teardown(a_message_may_come_byte_by_byte, stop),
      cmocka_unit_test_teardown(a_server_without_hello_will_do, stop),
      cmocka_unit_test_teardown(shard_channels_of_an_old_server_are_refused_clearly, stop),
      cmocka_unit_test_teardown(an_error_does_not_show_the_channel, stop),
      cmocka_unit_test_teardown(a_server_that_cannot_be_had_is_tried_as_often_as_calls_are, stop),
      cmocka_unit_test_teardown(a_wrong_password_is_not_tried_again, stop),
      cmocka_unit_test_teardown(a_refusal_that_passes_is_waited_for, stop),
      cmocka_unit_test_teardown(an_add_that_is_not_confirmed_in_time_is_taken_back, stop),
      cmocka_unit_test_teardown(an_add_goes_on_on_the_next_connection, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
