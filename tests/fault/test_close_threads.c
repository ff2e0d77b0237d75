/* SPDX-License-Identifier: MIT */
/* Shutdown wakes whoever is in a call, whatever the call waits for; and closing from many threads does no harm. The
 * promise is 100 ms; a second is allowed, because the machine may be busy. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/certs.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "wire/resolver.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { WAKES_WITHIN_MS = 1000, NEVER_MS = 300000 };

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Looks every millisecond until `condition`; fails after 20 s. */
#define AWAIT(condition)                                                                                           \
  do {                                                                                                             \
    int64_t await_limit = now_ms() + 20000;                                                                        \
    while (!(condition)) {                                                                                         \
      if (now_ms() > await_limit) fail_msg("never: %s", #condition);                                               \
      poll(NULL, 0, 1);                                                                                            \
    }                                                                                                              \
  } while (0)

/* No limit of its own ends a call of this client. */
static redmoon_options patient(void) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.pool_timeout_ms = options.connect_timeout_ms = NEVER_MS;
  options.read_timeout_ms = options.write_timeout_ms = NEVER_MS;
  return options;
}

static redmoon_client *open_at(const char *url, const redmoon_options *options) {
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(url, options, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static redmoon_stats stats_of(const redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return stats;
}

static int64_t blocked_clients(const redis_server *server) {
  char *info = redis_server_ask(server, NULL, "INFO clients");
  const char *at = strstr(info, "blocked_clients:");
  int64_t count = at != NULL ? atoll(at + strlen("blocked_clients:")) : 0;
  free(info);
  return count;
}

/* Somebody in a call. */

typedef struct victim {
  redmoon_client *client;
  const char *const *argv;
  int rc;
  redmoon_error err;
  pthread_t thread;
} victim;

static void *call(void *arg) {
  victim *v = arg;
  int argc = 0;
  while (v->argv[argc] != NULL) argc++;
  redmoon_reply *reply;
  v->rc = redmoon_command(v->client, argc, v->argv, NULL, &reply, &v->err);
  redmoon_reply_free(reply);
  return NULL;
}

static void send_into(victim *v, redmoon_client *client, const char *const *argv) {
  *v = (victim){.client = client, .argv = argv, .rc = 12345};
  assert_int_equal(pthread_create(&v->thread, NULL, call, v), 0);
}

/* Shuts down, then closes; the victim must come back with CLOSED in time. */
static void assert_wakes(victim *v, redmoon_outcome outcome) {
  int64_t began = now_ms();
  redmoon_client_shutdown(v->client);
  int64_t returned = now_ms();
  pthread_join(v->thread, NULL);
  int64_t woke = now_ms();
  if (v->rc != REDMOON_ECLOSED) fail_msg("%d: %s", v->rc, v->err.message);
  assert_string_equal(v->err.code, "CLOSED");
  assert_int_equal(v->err.outcome, outcome);
  assert_true(returned - began < WAKES_WITHIN_MS);
  assert_true(woke - began < WAKES_WITHIN_MS);
  assert_int_equal(stats_of(v->client).total, 0);
  redmoon_client_close(v->client);
  assert_true(now_ms() - woke < WAKES_WITHIN_MS);
}

static void shutdown_wakes_who_waits_for_the_pool(void **state) {
  redis_server *server = *state;
  redmoon_options options = patient();
  options.pool_size = 1;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  victim v;
  send_into(&v, client, ARGV("PING"));
  AWAIT(stats_of(client).waiting == 1);
  int64_t began = now_ms();
  redmoon_client_shutdown(client);
  pthread_join(v.thread, NULL);
  assert_true(now_ms() - began < WAKES_WITHIN_MS);
  assert_int_equal(v.rc, REDMOON_ECLOSED);
  assert_int_equal(v.err.outcome, REDMOON_NOT_SENT);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

static void shutdown_wakes_who_blocks_on_the_server(void **state) {
  redis_server *server = *state;
  const certs *c = certs_get();
  assert_non_null(c);
  char urls[3][120];
  snprintf(urls[0], sizeof urls[0], "%s", redis_server_url(server));
  snprintf(urls[1], sizeof urls[1], "redis://127.0.0.1:%d", redis_server_port(server));
  snprintf(urls[2], sizeof urls[2], "rediss://127.0.0.1:%d", redis_server_tls_port(server));
  for (int i = 0; i < 3; i++) {
    redmoon_options options = patient();
    options.tls.ca_file = i == 2 ? c->ca_file : NULL;
    AWAIT(blocked_clients(server) == 0);
    victim v;
    send_into(&v, open_at(urls[i], &options), ARGV("BLPOP", "nothing", "0"));
    AWAIT(blocked_clients(server) == 1);
    assert_wakes(&v, REDMOON_UNKNOWN);
  }
}

static void shutdown_wakes_who_dials_into_a_black_hole(void **state) {
  (void)state;
  fake_server *hole = fake_server_start_full(&(fake_options){.tcp = true});
  char url[80];
  snprintf(url, sizeof url, "redis://127.0.0.1:%d", fake_server_port(hole));
  redmoon_options options = patient();
  victim v;
  send_into(&v, open_at(url, &options), ARGV("SET", "k", "v"));
  AWAIT(stats_of(v.client).dials == 1);
  assert_wakes(&v, REDMOON_NOT_SENT);
  fake_server_stop(hole);
}

static void shutdown_wakes_who_shakes_hands_with_a_silent_peer(void **state) {
  (void)state;
  static const char *const schemes[] = {"rediss", "redis"};
  for (int i = 0; i < 2; i++) {
    fake_server *silent = fake_server_start(&(fake_options){.tcp = true});
    char url[80];
    snprintf(url, sizeof url, "%s://127.0.0.1:%d", schemes[i], fake_server_port(silent));
    redmoon_options options = patient();
    victim v;
    send_into(&v, open_at(url, &options), ARGV("SET", "k", "v"));
    assert_true(fake_server_wait_connections(silent, 1));
    assert_wakes(&v, REDMOON_NOT_SENT);
    fake_server_stop(silent);
  }
}

static void keep_silent(fake_peer *peer, void *ctx) {
  (void)ctx;
  const fake_command *command;
  fake_handshake(peer);
  if (fake_next(peer, &command)) fake_stall(peer);
}

static void shutdown_wakes_who_waits_for_a_reply_that_never_comes(void **state) {
  (void)state;
  fake_server *silent = fake_server_start(&(fake_options){.script = keep_silent});
  char url[160];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(silent));
  redmoon_options options = patient();
  victim v;
  send_into(&v, open_at(url, &options), ARGV("SET", "k", "v"));
  AWAIT(fake_server_count(silent, "SET") == 1);
  assert_wakes(&v, REDMOON_UNKNOWN);
  fake_server_stop(silent);
}

/* A resolver that does not answer. */

static pthread_mutex_t dns_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dns_released = PTHREAD_COND_INITIALIZER;
static bool dns_stalls;
static atomic_int dns_entered, dns_left;

static int stalled_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                               struct addrinfo **out) {
  (void)host;
  (void)service;
  (void)hints;
  *out = NULL;
  atomic_fetch_add(&dns_entered, 1);
  pthread_mutex_lock(&dns_lock);
  while (dns_stalls) pthread_cond_wait(&dns_released, &dns_lock);
  pthread_mutex_unlock(&dns_lock);
  atomic_fetch_add(&dns_left, 1);
  return EAI_AGAIN;
}

static void release_nothing(struct addrinfo *list) { (void)list; }

static void stall_dns(void) {
  dns_stalls = true;
  atomic_store(&dns_entered, 0);
  atomic_store(&dns_left, 0);
  rm_resolver_set_getaddrinfo(stalled_getaddrinfo, release_nothing);
}

static void free_dns(void) {
  pthread_mutex_lock(&dns_lock);
  dns_stalls = false;
  pthread_cond_broadcast(&dns_released);
  pthread_mutex_unlock(&dns_lock);
  AWAIT(atomic_load(&dns_left) == atomic_load(&dns_entered));
  rm_resolver_set_getaddrinfo(NULL, NULL);
}

static void shutdown_wakes_who_waits_for_a_name(void **state) {
  (void)state;
  stall_dns();
  redmoon_options options = patient();
  victim v;
  send_into(&v, open_at("redis://stalled.example:6380", &options), ARGV("SET", "k", "v"));
  AWAIT(atomic_load(&dns_entered) == 1);
  assert_wakes(&v, REDMOON_NOT_SENT);
  free_dns();
}

/* Pauses. */

static void count_event(void *ctx, const redmoon_event *event) {
  if (event->delay_us > 5000000) atomic_fetch_add((atomic_int *)ctx, 1);
}

/* The pause is drawn from up to a minute; one of at least five seconds is waited for. */
static void shutdown_wakes_who_pauses_between_attempts(void **state) {
  (void)state;
  redmoon_options options = patient();
  options.min_backoff_ms = options.max_backoff_ms = 60000;
  options.max_retries = 10;
  for (int i = 0;; i++) {
    assert_true(i < 50);
    redmoon_client *client = open_at("unix:///nonexistent/redmoon", &options);
    atomic_int pauses = 0;
    uint64_t id;
    assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_RETRY, count_event, &pauses, &id, NULL), 0);
    victim v;
    send_into(&v, client, ARGV("SET", "k", "v"));
    int64_t limit = now_ms() + 4000;
    while (atomic_load(&pauses) == 0 && now_ms() < limit) poll(NULL, 0, 1);
    bool pausing = atomic_load(&pauses) > 0;
    assert_wakes(&v, REDMOON_NOT_SENT);
    if (pausing) return;
  }
}

typedef struct contender {
  redmoon_client *client, *other;
  atomic_int calls;
  int rc;
} contender;

static int disturbed_body(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  contender *self = ctx;
  redmoon_reply *reply;
  int rc = redmoon_command(self->other, 2, ARGV("INCR", "k"), NULL, &reply, err);
  redmoon_reply_free(reply);
  atomic_fetch_add(&self->calls, 1);
  if (rc == 0) rc = redmoon_transaction_multi(tx, err);
  return rc;
}

static void *contend(void *arg) {
  contender *self = arg;
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction_options options = {.max_attempts = 1000};
  redmoon_reply *replies;
  self->rc = redmoon_transaction_run(self->client, &key, 1, disturbed_body, self, &options, &replies, NULL);
  return NULL;
}

static void shutdown_wakes_a_transaction_between_attempts(void **state) {
  redis_server *server = *state;
  redmoon_options options = patient();
  options.min_backoff_ms = options.max_backoff_ms = 60000;
  contender self = {.client = open_at(redis_server_url(server), &options),
                    .other = open_at(redis_server_url(server), NULL)};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, contend, &self), 0);
  AWAIT(atomic_load(&self.calls) >= 1 && stats_of(self.client).in_use == 0);
  int64_t began = now_ms();
  redmoon_client_shutdown(self.client);
  pthread_join(thread, NULL);
  assert_true(now_ms() - began < WAKES_WITHIN_MS);
  assert_int_equal(self.rc, REDMOON_ECLOSED);
  redmoon_client_close(self.client);
  redmoon_client_close(self.other);
}

/* The keeper. */

static void last_close_ends_a_dial_of_the_keeper(void **state) {
  (void)state;
  fake_server *hole = fake_server_start_full(&(fake_options){.tcp = true});
  fake_server *silent = fake_server_start(&(fake_options){.tcp = true});
  stall_dns();
  char urls[4][80];
  snprintf(urls[0], sizeof urls[0], "redis://127.0.0.1:%d", fake_server_port(hole));
  snprintf(urls[1], sizeof urls[1], "rediss://127.0.0.1:%d", fake_server_port(silent));
  snprintf(urls[2], sizeof urls[2], "redis://127.0.0.1:%d", fake_server_port(silent));
  snprintf(urls[3], sizeof urls[3], "redis://stalled.example:6380");
  for (int i = 0; i < 4; i++) {
    redmoon_options options = patient();
    options.min_idle = 3;
    redmoon_client *client = open_at(urls[i], &options);
    if (i == 1 || i == 2) assert_true(fake_server_wait_connections(silent, (size_t)i));
    else if (i == 3) AWAIT(atomic_load(&dns_entered) == 1);
    else AWAIT(stats_of(client).dials == 1);
    int64_t began = now_ms();
    redmoon_client_close(client);
    assert_true(now_ms() - began < WAKES_WITHIN_MS);
  }
  free_dns();
  fake_server_stop(silent);
  fake_server_stop(hole);
}

static void last_close_ends_a_pause_of_the_keeper(void **state) {
  (void)state;
  redmoon_options options = patient();
  options.min_idle = 3;
  options.min_backoff_ms = options.max_backoff_ms = 60000;
  redmoon_client *client = open_at("unix:///nonexistent/redmoon", &options);
  AWAIT(stats_of(client).dial_failures >= 1);
  int64_t began = now_ms();
  redmoon_client_close(client);
  assert_true(now_ms() - began < WAKES_WITHIN_MS);
}

/* Many threads. */

typedef struct closer {
  redmoon_client *client; /* a reference of its own */
  pthread_barrier_t *barrier;
  bool shuts_down, calls;
  int wrong;
} closer;

static void *close_it(void *arg) {
  closer *self = arg;
  pthread_barrier_wait(self->barrier);
  if (self->shuts_down) redmoon_client_shutdown(self->client);
  for (int i = 0; self->calls && i < 20; i++) {
    redmoon_reply *reply;
    redmoon_error err;
    int rc = redmoon_command(self->client, 2, ARGV("ECHO", "tag"), NULL, &reply, &err);
    if (rc == 0 ? strcmp(redmoon_reply_string(reply, NULL), "tag") != 0 : rc != REDMOON_ECLOSED) self->wrong++;
    redmoon_reply_free(reply);
  }
  redmoon_client_close(self->client);
  return NULL;
}

static void threads_that_close_and_call_at_once_do_no_harm(void **state) {
  redis_server *server = *state;
  enum { ROUNDS = 100, THREADS = 6 };
  for (int round = 0; round < ROUNDS; round++) {
    redmoon_options options = patient();
    options.pool_size = 2;
    options.min_idle = round % 3;
    redmoon_client *client = open_at(redis_server_url(server), &options);
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    closer closers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
      closers[i] = (closer){redmoon_client_ref(client), &barrier, i < 2 && round % 2 == 0, i >= 2, 0};
      assert_int_equal(pthread_create(&threads[i], NULL, close_it, &closers[i]), 0);
    }
    redmoon_client_close(client); /* the last reference is dropped by one of the threads */
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) assert_int_equal(closers[i].wrong, 0);
    pthread_barrier_destroy(&barrier);
  }
}

static int start(void **state) {
  const certs *c = certs_get();
  if (c == NULL) return -1;
  *state = redis_server_start(
      &(redis_server_options){.tcp = true, .tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file});
  return 0;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shutdown_wakes_who_waits_for_the_pool),
      cmocka_unit_test(shutdown_wakes_who_blocks_on_the_server),
      cmocka_unit_test(shutdown_wakes_who_dials_into_a_black_hole),
      cmocka_unit_test(shutdown_wakes_who_shakes_hands_with_a_silent_peer),
      cmocka_unit_test(shutdown_wakes_who_waits_for_a_reply_that_never_comes),
      cmocka_unit_test(shutdown_wakes_who_waits_for_a_name),
      cmocka_unit_test(shutdown_wakes_who_pauses_between_attempts),
      cmocka_unit_test(shutdown_wakes_a_transaction_between_attempts),
      cmocka_unit_test(last_close_ends_a_dial_of_the_keeper),
      cmocka_unit_test(last_close_ends_a_pause_of_the_keeper),
      cmocka_unit_test(threads_that_close_and_call_at_once_do_no_harm),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
