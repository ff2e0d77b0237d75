/* SPDX-License-Identifier: MIT */
/* Promise 2: one deadline per call, whatever the time is lost on, and an error that names the phase.  Every wait here
 * would last for seconds and more; that it ended long before is all that is asserted of time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/op.h"
#include "support/ask.h"
#include "support/fake_server.h"
#include "wire/resolver.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { LIMIT_MS = 400, LATE_MS = 8000 };

static fake_server *server;
static redmoon_client *client;

static int stop(void **state) {
  (void)state;
  redmoon_client_close(client);
  client = NULL;
  fake_server_stop(server);
  server = NULL;
  return 0;
}

static void open_url(const char *url) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = LIMIT_MS;
  assert_int_equal(redmoon_client_open(url, &options, &client, NULL), 0);
}

static void open_server(const char *query) {
  char url[256];
  if (fake_server_path(server) != NULL)
    snprintf(url, sizeof url, "unix://%s%s", fake_server_path(server), query);
  else
    snprintf(url, sizeof url, "redis://127.0.0.1:%d%s", fake_server_port(server), query);
  open_url(url);
}

static bool answer_pong(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)command;
  (void)ctx;
  fake_append_text(reply, "+PONG\r\n");
  return true;
}

static void serve_pong(fake_peer *peer, void *ctx) { fake_serve(peer, answer_pong, ctx); }

/* GET k, which must end at the deadline, in this phase, with this in its text. */
static void assert_ends(int status, redmoon_phase phase, const char *text) {
  redmoon_reply *reply;
  redmoon_error err;
  int64_t began_us = rm_clock_now_us();
  int got = redmoon_command(client, 2, (const char *[]){"GET", "k"}, NULL, &reply, &err);
  int64_t took_ms = (rm_clock_now_us() - began_us) / 1000;
  redmoon_reply_free(reply);
  if (got != status || err.phase != phase || strstr(err.message, text) == NULL)
    fail_msg("status %d, phase '%s', %s", got, redmoon_phase_name(err.phase), err.message);
  assert_true(took_ms >= LIMIT_MS - 1);
  assert_true(took_ms < LATE_MS);
}

/* The reply. */

/* 20 s of one reply. */
static void drip(fake_peer *peer, void *ctx) {
  (void)ctx;
  static const char header[] = "$1000\r\n";
  char body[1000];
  const fake_command *command;
  memset(body, 'x', sizeof body);
  fake_handshake(peer);
  if (!fake_next(peer, &command) || !fake_drip(peer, header, sizeof header - 1, 20)) return;
  fake_drip(peer, body, sizeof body, 20);
}

static void a_dripped_reply_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = drip});
  open_server("?max_retries=0");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "did not answer before the call's deadline (timeout 400 ms)");
}

static void a_dripped_reply_ends_at_the_read_timeout(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = drip});
  char url[256];
  snprintf(url, sizeof url, "unix://%s?max_retries=0&read_timeout=0.4", fake_server_path(server));
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "did not answer within 400 ms");
}

/* Pushes without a pause, for far longer than the call may last, and then the reply. */
static void flood(fake_peer *peer, void *ctx) {
  (void)ctx;
  static const char push[] = ">1\r\n+p\r\n";
  char block[64 * (sizeof push - 1)];
  for (size_t i = 0; i < 64; i++) memcpy(block + i * (sizeof push - 1), push, sizeof push - 1);
  const fake_command *command;
  fake_handshake(peer);
  if (!fake_next(peer, &command)) return;
  int64_t until_us = rm_clock_now_us() + (int64_t)3 * 1000000;
  while (rm_clock_now_us() < until_us)
    if (!fake_send(peer, block, sizeof block)) return;
  fake_text(peer, "+late\r\n");
}

static void a_reply_behind_a_flood_of_pushes_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = flood});
  open_server("?max_retries=0");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "before the call's deadline");
}

static void a_server_that_never_answers_ends_at_the_deadline_retries_included(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){0});
  open_server("?connect_timeout=0.02&max_retries=1000&max_backoff=0.008");
  redmoon_reply *reply;
  redmoon_error err;
  int64_t began_us = rm_clock_now_us();
  int status = redmoon_command(client, 2, (const char *[]){"GET", "k"}, NULL, &reply, &err);
  assert_true(status == REDMOON_ETIMEOUT || status == REDMOON_ECONNECT);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_true(err.attempts > 1);
  assert_true((rm_clock_now_us() - began_us) / 1000 < LATE_MS);
}

/* Before the request. */

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool stalled;
  int running;
  const char *hosts[3];
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int answer_names(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **list) {
  (void)host;
  pthread_mutex_lock(&names.mutex);
  names.running++;
  while (names.stalled) pthread_cond_wait(&names.changed, &names.mutex);
  names.running--;
  pthread_cond_broadcast(&names.changed);
  pthread_mutex_unlock(&names.mutex);
  struct addrinfo numeric = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, **next = list;
  (void)hints;
  for (size_t i = 0; names.hosts[i] != NULL; i++) {
    int code = getaddrinfo(names.hosts[i], port, &numeric, next);
    if (code != 0) return code;
    next = &(*next)->ai_next;
  }
  return 0;
}

static void release_names(struct addrinfo *list) {
  while (list != NULL) {
    struct addrinfo *next = list->ai_next;
    list->ai_next = NULL;
    freeaddrinfo(list);
    list = next;
  }
}

static void use_names(const char *first, const char *second, bool stalled) {
  names.hosts[0] = first;
  names.hosts[1] = second;
  names.stalled = stalled;
  rm_resolver_set_getaddrinfo(answer_names, release_names);
}

static int stop_names(void **state) {
  stop(state);
  pthread_mutex_lock(&names.mutex);
  names.stalled = false;
  pthread_cond_broadcast(&names.changed);
  while (names.running > 0) pthread_cond_wait(&names.changed, &names.mutex);
  pthread_mutex_unlock(&names.mutex);
  rm_resolver_set_getaddrinfo(NULL, NULL);
  return 0;
}

static void a_black_holed_resolver_ends_at_the_deadline(void **state) {
  (void)state;
  use_names("127.0.0.1", NULL, true);
  open_url("redis://black.hole.test:6399");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RESOLVE, "while resolving the name");
}

static void a_black_holed_address_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start_full(&(fake_options){.tcp = true});
  open_server("");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_DIAL, "while dialling");
}

static void the_second_address_serves_where_the_first_is_a_black_hole(void **state) {
  (void)state;
  fake_server *hole = fake_server_start_full(&(fake_options){.tcp = true, .host = "127.0.0.2"});
  server = fake_server_start(&(fake_options){.tcp = true, .port = fake_server_port(hole), .script = serve_pong});
  use_names("127.0.0.2", "127.0.0.1", false);
  char url[128];
  snprintf(url, sizeof url, "redis://two.test:%d?connect_timeout=0.4&timeout=20", fake_server_port(server));
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  redmoon_reply_free(ask(client, "PING", NULL));
  assert_int_equal(fake_server_connections(server), 1);
  fake_server_stop(hole);
}

static void a_server_that_is_silent_in_the_handshake_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){0});
  open_server("");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_HANDSHAKE, "during the handshake");
}

static void a_server_that_is_silent_under_tls_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.tcp = true});
  char url[128];
  snprintf(url, sizeof url, "rediss://127.0.0.1:%d?tls_verify=0", fake_server_port(server));
  open_url(url);
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_TLS, "during the TLS handshake");
}

/* The pool. */

static void hold_first(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  fake_handshake(peer);
  if (fake_next(peer, &command)) fake_stall(peer);
}

/* The only connection is lent to an operation of somebody else's. */
static redmoon_op *occupy(const char *query) {
  server = fake_server_start(&(fake_options){.script = hold_first});
  open_server(query);
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = 60000;
  redmoon_client *patient;
  assert_int_equal(redmoon_client_with(client, &options, &patient, NULL), 0);
  static redmoon_reply *reply;
  redmoon_op *op;
  assert_int_equal(redmoon_command_start(patient, 1, (const char *[]){"PING"}, NULL, &reply, &op, NULL), 0);
  redmoon_client_close(patient);
  op->owner = 7;
  while (!redmoon_op_step(op) && fake_server_count(server, "PING") == 0) {
    struct pollfd p = {.fd = op->wants.fd, .events = POLLIN};
    if (op->wants.fd >= 0) poll(&p, 1, 10);
  }
  return op;
}

static void the_wait_for_a_connection_ends_at_the_deadline(void **state) {
  (void)state;
  redmoon_op *op = occupy("?pool_size=1&pool_timeout=60");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_POOL, "pool");
  redmoon_op_cancel(op);
}

static void the_wait_for_a_connection_ends_at_the_pool_timeout(void **state) {
  (void)state;
  redmoon_op *op = occupy("?pool_size=1&pool_timeout=0.4");
  redmoon_client *view;
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.timeout_ms = 60000;
  assert_int_equal(redmoon_client_with(client, &options, &view, NULL), 0);
  redmoon_client_close(client);
  client = view;
  assert_ends(REDMOON_EPOOL_TIMEOUT, REDMOON_PHASE_POOL, "in use");
  redmoon_op_cancel(op);
}

/* The back-off. */

static void the_wait_before_another_attempt_of_a_transaction_ends_at_the_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = serve_pong});
  open_server("");
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, NULL), 0);
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_again_start(tx, &op, NULL), 0);
  op->status = op->class->step(op, rm_clock_now_us() + (int64_t)2 * LIMIT_MS * 1000);
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.phase, REDMOON_PHASE_BACKOFF);
  assert_non_null(strstr(err.message, "did not commit before its deadline"));
  redmoon_transaction_free(tx);
}

/* Signals. */

static volatile sig_atomic_t alarms;

static void count_alarm(int number) {
  (void)number;
  alarms = alarms + 1;
}

static struct sigaction before_storm;

/* 1,000 signals a second, and no system call is restarted behind one. */
static void begin_storm(void) {
  struct sigaction action = {.sa_handler = count_alarm};
  sigemptyset(&action.sa_mask);
  assert_int_equal(sigaction(SIGALRM, &action, &before_storm), 0);
  alarms = 0;
  struct itimerval each = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
  assert_int_equal(setitimer(ITIMER_REAL, &each, NULL), 0);
}

static int stop_storm(void **state) {
  struct itimerval never = {.it_interval = {0}};
  setitimer(ITIMER_REAL, &never, NULL);
  sigaction(SIGALRM, &before_storm, NULL);
  return stop(state);
}

static void a_storm_of_signals_fails_no_call(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = serve_pong});
  char url[256];
  snprintf(url, sizeof url, "unix://%s?max_retries=0&pool_size=1", fake_server_path(server));
  begin_storm();
  while (alarms < 300) { /* connections too are made in the storm */
    assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
    for (int i = 0; i < 20; i++) redmoon_reply_free(ask(client, "PING", NULL));
    redmoon_client_close(client);
    client = NULL;
  }
}

static void a_storm_of_signals_does_not_prolong_a_deadline(void **state) {
  (void)state;
  server = fake_server_start(&(fake_options){.script = hold_first});
  begin_storm();
  open_server("?max_retries=0");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "before the call's deadline");
  redmoon_client_close(client);
  /* The same where the kernel's limit on a receive, which each signal begins anew, is the shorter one. */
  open_server("?max_retries=0&read_timeout=0.4");
  assert_ends(REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "did not answer");
  assert_true(alarms > 0);
}

static void break_in_request(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  fake_handshake(peer);
  if (!fake_next(peer, &command) || !fake_text(peer, "+PONG\r\n")) return;
  fake_limit(peer, 1000);
  fake_next(peer, &command);
  fake_reset(peer);
}

static void a_broken_connection_raises_no_signal(void **state) {
  (void)state;
  enum { BIG = 8 << 20 };
  struct sigaction action = {.sa_handler = SIG_DFL}, was;
  sigset_t pipe_only, mask, pending;
  sigemptyset(&action.sa_mask);
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  assert_int_equal(sigaction(SIGPIPE, &action, &was), 0);
  assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &pipe_only, &mask), 0);
  char *value = malloc(BIG);
  assert_non_null(value);
  memset(value, 'x', BIG - 1);
  value[BIG - 1] = '\0';
  for (int tcp = 0; tcp < 2; tcp++) {
    server = fake_server_start(&(fake_options){.tcp = tcp != 0, .script = break_in_request});
    redmoon_call_options patient = REDMOON_CALL_OPTIONS_INIT;
    patient.timeout_ms = 20000;
    open_server("?max_retries=0");
    redmoon_client *view;
    assert_int_equal(redmoon_client_with(client, &patient, &view, NULL), 0);
    redmoon_reply_free(ask(view, "PING", NULL));
    redmoon_reply *reply;
    redmoon_error err;
    assert_int_equal(redmoon_command(view, 3, (const char *[]){"SET", "k", value}, NULL, &reply, &err), REDMOON_EIO);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    redmoon_client_close(view);
    stop(state);
  }
  free(value);
  struct sigaction now;
  assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
  assert_true(now.sa_handler == SIG_DFL);
  assert_int_equal(sigpending(&pending), 0);
  assert_int_equal(sigismember(&pending, SIGPIPE), 0);
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  sigaction(SIGPIPE, &was, NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, stop)
  const struct CMUnitTest tests[] = {
      TEST(a_dripped_reply_ends_at_the_deadline),
      TEST(a_dripped_reply_ends_at_the_read_timeout),
      TEST(a_reply_behind_a_flood_of_pushes_ends_at_the_deadline),
      TEST(a_server_that_never_answers_ends_at_the_deadline_retries_included),
      cmocka_unit_test_teardown(a_black_holed_resolver_ends_at_the_deadline, stop_names),
      TEST(a_black_holed_address_ends_at_the_deadline),
      cmocka_unit_test_teardown(the_second_address_serves_where_the_first_is_a_black_hole, stop_names),
      TEST(a_server_that_is_silent_in_the_handshake_ends_at_the_deadline),
      TEST(a_server_that_is_silent_under_tls_ends_at_the_deadline),
      TEST(the_wait_for_a_connection_ends_at_the_deadline),
      TEST(the_wait_for_a_connection_ends_at_the_pool_timeout),
      TEST(the_wait_before_another_attempt_of_a_transaction_ends_at_the_deadline),
      cmocka_unit_test_teardown(a_storm_of_signals_fails_no_call, stop_storm),
      cmocka_unit_test_teardown(a_storm_of_signals_does_not_prolong_a_deadline, stop_storm),
      TEST(a_broken_connection_raises_no_signal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
