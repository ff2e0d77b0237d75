/* SPDX-License-Identifier: MIT */
/* A primary that is found through its sentinels: good ones, dead ones, those that lag behind, lie, or want another
 * password. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/certs.h"
#include "support/fake_server.h"
#include "support/listening.h"
#include "support/sentinel_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sentinel_fixture *lab;
static redmoon_error err;

static int start_lab(void **state) {
  (void)state;
  lab = sentinel_fixture_start(NULL);
  return 0;
}

static int stop_lab(void **state) {
  (void)state;
  sentinel_fixture_stop(lab);
  return 0;
}

static redmoon_client *opened(const char *url, const redmoon_options *options) {
  redmoon_client *client = NULL;
  if (redmoon_client_open(url, options, &client, &err) != 0) fail_msg("%s: %s", url, err.message);
  return client;
}

static int64_t port_of(redmoon_client *client) {
  char text[16384];
  ask_text(client, text, sizeof text, "INFO", "server", NULL);
  const char *at = strstr(text, "tcp_port:");
  return at != NULL ? strtoll(at + 9, NULL, 10) : -1;
}

static void assert_works(redmoon_client *client, const sentinel_fixture *in) {
  assert_int_equal(port_of(client), redis_server_port(sentinel_fixture_node(in, sentinel_fixture_primary(in))));
  redmoon_reply_free(ask(client, "SET", "k", "v", NULL));
}

static int ping(redmoon_client *client) {
  redmoon_reply *reply = NULL;
  int rc = redmoon_command(client, 1, (const char *[]){"PING"}, NULL, &reply, &err);
  redmoon_reply_free(reply);
  return rc;
}

static void commands_go_to_the_primary_that_the_sentinels_name(void **state) {
  (void)state;
  for (int64_t protocol = 2; protocol <= 3; protocol++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.protocol = protocol;
    redmoon_client *client = opened(sentinel_fixture_url(lab), &options);
    assert_works(client, lab);
    redmoon_client_close(client);
  }
}

static void connections_are_kept_ready_before_the_first_command(void **state) {
  (void)state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = 2;
  redmoon_client *client = opened(sentinel_fixture_url(lab), &options);
  redmoon_stats stats = {0};
  for (int i = 0; stats.idle < 2 && i < 5000; i++) {
    stats = (redmoon_stats){0};
    redmoon_client_stats(client, &stats);
    struct timespec pause = {.tv_nsec = 2000000};
    nanosleep(&pause, NULL);
  }
  assert_int_equal(stats.idle, 2); /* of the primary alone: nobody reads from the replicas */
  redmoon_client_close(client);
}

/* "redis+sentinel://127.0.0.1:<ports>/main" with `first` in front of a sentinel of the lab's. */
static const char *url_with(int first) {
  static char url[200];
  snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d,127.0.0.1:%d/main", first, sentinel_fixture_sentinel_port(lab, 0));
  return url;
}

static void assert_one_works(const char *url) {
  redmoon_client *client = opened(url, NULL);
  assert_works(client, lab);
  redmoon_client_close(client);
}

/* With each of several clients, as they begin with a random one. */
static void assert_many_work(const char *url) {
  for (int i = 0; i < 8; i++) assert_one_works(url);
}

static void a_dead_sentinel_is_passed_over(void **state) {
  (void)state;
  fake_server *gone = fake_server_start(&(fake_options){.tcp = true});
  int port = fake_server_port(gone);
  fake_server_stop(gone);
  assert_many_work(url_with(port));
}

static void keep_silent(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_stall(peer);
}

static void a_sentinel_that_keeps_silent_is_passed_over(void **state) {
  (void)state;
  fake_server *silent = fake_server_start(&(fake_options){.tcp = true, .script = keep_silent});
  assert_many_work(url_with(fake_server_port(silent)));
  fake_server_stop(silent);
}

/* A sentinel of our own: what it says of the primary's address. */
static bool answer(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  bool address = command->argc > 1 && strcmp(command->argv[1], "GET-MASTER-ADDR-BY-NAME") == 0;
  if (address) fake_append_text(reply, ctx);
  else fake_append_text(reply, "-ERR not known here\r\n");
  return true;
}

static void speak(fake_peer *peer, void *ctx) { fake_serve(peer, answer, ctx); }

static void expect_passed_over(const char *says) {
  fake_server *sentinel = fake_server_start(&(fake_options){.tcp = true, .script = speak, .ctx = (void *)(uintptr_t)says});
  const char *url = url_with(fake_server_port(sentinel));
  do assert_one_works(url);
  while (fake_server_count(sentinel, "SENTINEL") == 0); /* each has it first in one of two cases */
  fake_server_stop(sentinel);
}

static void a_sentinel_that_does_not_know_the_primary_is_passed_over(void **state) {
  (void)state;
  expect_passed_over("*-1\r\n");
}

static void a_sentinel_that_names_a_replica_is_passed_over(void **state) {
  (void)state;
  int replica = (sentinel_fixture_primary(lab) + 1) % SENTINEL_NODES;
  char says[80];
  snprintf(says, sizeof says, "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%d\r\n", sentinel_fixture_port(lab, replica));
  expect_passed_over(says);
}

static void a_sentinel_that_names_nonsense_is_passed_over(void **state) {
  (void)state;
  expect_passed_over("*2\r\n$9\r\n127.0.0 1\r\n$4\r\n6379\r\n");
  expect_passed_over("*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n");
  expect_passed_over("*2\r\n$0\r\n\r\n$4\r\n6379\r\n");
  expect_passed_over("+OK\r\n");
}

static void a_sentinel_that_wants_a_password_is_passed_over(void **state) {
  (void)state;
  expect_passed_over("-NOAUTH Authentication required.\r\n");
}

static void a_name_that_no_sentinel_knows_is_told_at_once(void **state) {
  (void)state;
  char url[300];
  snprintf(url, sizeof url, "%s", sentinel_fixture_url(lab));
  memcpy(strrchr(url, '/'), "/nobody", sizeof "/nobody");
  redmoon_client *client = opened(url, NULL);
  assert_int_equal(ping(client), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "watches no primary of the name 'nobody'"));
  assert_int_equal(err.retryable, 0);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_client_close(client);
}

/* The lab's sentinels are not in the URL: the only one that is names one of them, and ends. */
static bool answer_all(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  const char *what = command->argc > 1 ? command->argv[1] : "";
  char text[200];
  if (strcmp(what, "GET-MASTER-ADDR-BY-NAME") == 0) {
    snprintf(text, sizeof text, "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%d\r\n", sentinel_fixture_port(lab, sentinel_fixture_primary(lab)));
  } else if (strcmp(what, "SENTINELS") == 0) {
    snprintf(text, sizeof text, "*1\r\n*4\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$5\r\n%d\r\n", sentinel_fixture_sentinel_port(lab, 1));
  } else if (fake_is(command, "SUBSCRIBE")) {
    fake_append_text(reply, "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n");
    return false; /* and it ends */
  } else {
    snprintf(text, sizeof text, "*0\r\n");
  }
  fake_append_text(reply, text);
  return true;
}

static void name_the_others(fake_peer *peer, void *ctx) {
  if (fake_index(peer) == 0) fake_serve(peer, answer_all, ctx);
}

static void sentinels_that_are_named_by_others_are_asked_too(void **state) {
  (void)state;
  fake_server *first = fake_server_start(&(fake_options){.tcp = true, .script = name_the_others});
  char url[100];
  snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%d/main", fake_server_port(first));
  redmoon_client *client = opened(url, NULL);
  assert_works(client, lab);
  /* It has hung up, and so another one is listened to. */
  bool listens = false;
  for (int i = 0; i < 5000 && !listens; i++) {
    char *list = redis_server_ask(sentinel_fixture_sentinel(lab, 1), NULL, "CLIENT LIST TYPE pubsub");
    listens = strstr(list, "sub=4") != NULL;
    free(list);
    struct timespec pause = {.tv_nsec = 2000000};
    nanosleep(&pause, NULL);
  }
  assert_true(listens);
  assert_works(client, lab);
  redmoon_client_close(client);
  fake_server_stop(first);
}

/* How often a node was asked for a GET. */
static int64_t gets_of(int node) {
  char *text = redis_server_ask(sentinel_fixture_node(lab, node), NULL, "INFO commandstats");
  const char *at = strstr(text, "cmdstat_get:calls=");
  int64_t count = at != NULL ? strtoll(at + 18, NULL, 10) : 0;
  free(text);
  return count;
}

static void reads_go_to_replicas_where_read_from_says_so(void **state) {
  (void)state;
  static const char *const sources[] = {"primary", "replica", "any", "nearest"};
  int primary = sentinel_fixture_primary(lab);
  for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.read_from = sources[i];
    redmoon_client *client = opened(sentinel_fixture_url(lab), &options);
    int64_t before[SENTINEL_NODES], from_primary, from_all = 0;
    for (int n = 0; n < SENTINEL_NODES; n++) before[n] = gets_of(n);
    for (int n = 0; n < 100; n++) {
      redmoon_reply_free(ask(client, "SET", "k", "v", NULL)); /* a write never goes there */
      redmoon_reply_free(ask(client, "GET", "k", NULL));
    }
    from_primary = gets_of(primary) - before[primary];
    for (int n = 0; n < SENTINEL_NODES; n++) from_all += gets_of(n) - before[n];
    assert_int_equal(from_all, 100);
    if (i == 0) assert_int_equal(from_primary, 100);
    if (i == 1) assert_int_equal(from_primary, 0);
    if (i == 2) assert_true(from_primary > 0 && from_primary < 100);
    redmoon_client_close(client);
  }
}

static void what_also_writes_is_not_read_from_replicas(void **state) {
  (void)state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.read_from = "replica";
  redmoon_client *client = opened(sentinel_fixture_url(lab), &options);
  int primary = sentinel_fixture_primary(lab);
  int64_t before = gets_of(primary);
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 3, (const char *[]){"SET", "k", "w"}, NULL, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 2, (const char *[]){"GET", "k"}, NULL, &err), 1);
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), 0);
  assert_string_equal(redmoon_reply_string(redmoon_pipeline_result(pipeline, 1).reply, NULL), "w");
  assert_int_equal(gets_of(primary) - before, 1);
  redmoon_pipeline_free(pipeline);
  redmoon_client_close(client);
}

static void subscriptions_hear_what_is_published_on_the_primary(void **state) {
  (void)state;
  redmoon_client *client = opened(sentinel_fixture_url(lab), NULL);
  redmoon_subscription *sub = listen_to(client, "news", NULL);
  publish(client, "news", "hello");
  expect_message(sub, "news", "hello");
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

static void a_forked_child_finds_the_primary_for_itself(void **state) {
  (void)state;
  redmoon_client *client = opened(sentinel_fixture_url(lab), NULL);
  redmoon_subscription *sub = listen_to(client, "news", NULL);
  assert_works(client, lab);
  for (int i = 0; i < 20; i++) { /* at different moments of what the keeper does */
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(ping(client) == 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_works(client, lab); /* on the parent's own connections */
  }
  publish(client, "news", "hello");
  expect_message(sub, "news", "hello");
  redmoon_subscription_close(sub);
  redmoon_client_close(client);
}

static void sentinels_have_credentials_of_their_own(void **state) {
  (void)state;
  sentinel_fixture *guarded = sentinel_fixture_start(&(sentinel_fixture_options){
      .nodes = 1, .sentinels = 1, .password = "node-secret", .sentinel_password = "sentinel-secret"});
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = "node-secret";
  options.sentinel_password = "sentinel-secret";
  redmoon_client *client = opened(sentinel_fixture_url(guarded), &options);
  assert_works(client, guarded);
  redmoon_client_close(client);
  char url[400];
  snprintf(url, sizeof url, "redis+sentinel://:node-secret@%s?sentinel_password=sentinel-secret",
           strstr(sentinel_fixture_url(guarded), "127."));
  client = opened(url, NULL);
  assert_works(client, guarded);
  redmoon_client_close(client);
  options.sentinel_password = "another";
  client = opened(sentinel_fixture_url(guarded), &options);
  assert_int_equal(ping(client), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  assert_null(strstr(err.message, "another"));
  assert_non_null(strstr(err.message, "sentinels"));
  redmoon_client_close(client);
  options.sentinel_password = NULL; /* the servers' is not theirs */
  client = opened(sentinel_fixture_url(guarded), &options);
  assert_int_equal(ping(client), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOAUTH");
  redmoon_client_close(client);
  options.password = "another";
  options.sentinel_password = "sentinel-secret";
  client = opened(sentinel_fixture_url(guarded), &options);
  assert_int_equal(ping(client), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGPASS");
  redmoon_client_close(client);
  sentinel_fixture_stop(guarded);
}

static void sentinels_may_speak_tls_where_servers_do_not_and_the_other_way_round(void **state) {
  (void)state;
  for (int sentinel_tls = 0; sentinel_tls <= 1; sentinel_tls++) {
    sentinel_fixture *mixed = sentinel_fixture_start(&(sentinel_fixture_options){
        .nodes = 1, .sentinels = 1, .tls = sentinel_tls == 0, .sentinel_tls = sentinel_tls != 0});
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.sentinel_tls = sentinel_tls;
    options.tls.ca_file = certs_get()->ca_file;
    redmoon_client *client = opened(sentinel_fixture_url(mixed), &options);
    assert_int_equal(ping(client), 0);
    redmoon_client_close(client);
    options.sentinel_tls = !sentinel_tls; /* neither speaks what it is spoken to in */
    if (sentinel_tls != 0) options.tls.ca_file = NULL;
    options.timeout_ms = 1000;
    client = opened(sentinel_fixture_url(mixed), &options);
    assert_true(ping(client) < 0);
    redmoon_client_close(client);
    sentinel_fixture_stop(mixed);
  }
}

static void tls_is_for_both_by_default(void **state) {
  (void)state;
  sentinel_fixture *sealed = sentinel_fixture_start(&(sentinel_fixture_options){.nodes = 2, .sentinels = 3, .tls = true, .sentinel_tls = true});
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.tls.ca_file = certs_get()->ca_file;
  redmoon_client *client = opened(sentinel_fixture_url(sealed), &options);
  assert_int_equal(ping(client), 0);
  redmoon_client_close(client);
  client = opened(sentinel_fixture_url(sealed), NULL); /* whose certificate nobody vouches for */
  assert_int_equal(ping(client), REDMOON_ETLS);
  redmoon_client_close(client);
  sentinel_fixture_stop(sealed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(commands_go_to_the_primary_that_the_sentinels_name),
      cmocka_unit_test(connections_are_kept_ready_before_the_first_command),
      cmocka_unit_test(a_dead_sentinel_is_passed_over),
      cmocka_unit_test(a_sentinel_that_keeps_silent_is_passed_over),
      cmocka_unit_test(a_sentinel_that_does_not_know_the_primary_is_passed_over),
      cmocka_unit_test(a_sentinel_that_names_a_replica_is_passed_over),
      cmocka_unit_test(a_sentinel_that_names_nonsense_is_passed_over),
      cmocka_unit_test(a_sentinel_that_wants_a_password_is_passed_over),
      cmocka_unit_test(a_name_that_no_sentinel_knows_is_told_at_once),
      cmocka_unit_test(sentinels_that_are_named_by_others_are_asked_too),
      cmocka_unit_test(reads_go_to_replicas_where_read_from_says_so),
      cmocka_unit_test(what_also_writes_is_not_read_from_replicas),
      cmocka_unit_test(subscriptions_hear_what_is_published_on_the_primary),
      cmocka_unit_test(a_forked_child_finds_the_primary_for_itself),
      cmocka_unit_test(sentinels_have_credentials_of_their_own),
      cmocka_unit_test(sentinels_may_speak_tls_where_servers_do_not_and_the_other_way_round),
      cmocka_unit_test(tls_is_for_both_by_default),
  };
  return cmocka_run_group_tests(tests, start_lab, stop_lab);
}
