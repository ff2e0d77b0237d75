/* SPDX-License-Identifier: MIT */
/* The pool with a real server behind it: killed connections, minimum idle, reaper, back-off, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/fake_server.h"
#include "support/redis_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PASSWORD "pool-password"

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

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Looks every 2 ms until `condition`; fails after 20 s. */
#define AWAIT(condition)                                                                                           \
  do {                                                                                                             \
    int64_t await_limit = now_ms() + 20000;                                                                        \
    while (!(condition)) {                                                                                         \
      if (now_ms() > await_limit) fail_msg("never: %s", #condition);                                               \
      poll(NULL, 0, 2);                                                                                            \
    }                                                                                                              \
  } while (0)

/* How many clients of the name "kept" the server lists; all of them must be logged in as `user`. */
static int clients_of(const redis_server *server, const char *user) {
  char *list = redis_server_ask(server, PASSWORD, "CLIENT LIST TYPE normal");
  char field[80];
  snprintf(field, sizeof field, " user=%s ", user);
  int count = 0;
  for (const char *line = list; *line != '\0';) {
    size_t len = strcspn(line, "\n");
    char *copy = strndup(line, len);
    assert_non_null(copy);
    if (strstr(copy, "name=kept ") != NULL) {
      if (strstr(copy, field) == NULL) fail_msg("not logged in: %s", copy);
      count++;
    }
    free(copy);
    line += len + (line[len] == '\n');
  }
  free(list);
  return count;
}

static void killed_connections_are_noticed_by_nobody(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.pool_size = 10;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  redmoon_error err;
  for (int round = 0; round < 3; round++) {
    /* ten connections, by ten transactions at a time */
    const redmoon_bytes key = {"k", 1};
    redmoon_transaction *txs[10];
    for (int i = 0; i < 10; i++)
      assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &txs[i], &err), 0);
    for (int i = 0; i < 10; i++) {
      assert_int_equal(redmoon_transaction_abandon(txs[i], &err), 0);
      redmoon_transaction_free(txs[i]);
    }
    assert_int_equal(stats_of(client).idle, 10);
    free(redis_server_ask(server, PASSWORD, "CLIENT KILL TYPE normal SKIPME yes"));
    for (int i = 0; i < 50; i++) {
      char tag[16], text[16];
      snprintf(tag, sizeof tag, "%d", i);
      ask_text(client, text, sizeof text, "ECHO", tag, NULL); /* fails the test on any error */
      assert_string_equal(text, tag);
    }
  }
  redmoon_stats stats = stats_of(client);
  assert_int_equal(stats.dial_failures, 0);
  assert_int_equal(stats.in_use, 0);
  redmoon_client_close(client);
}

static void min_idle_connections_stand_ready_and_logged_in(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.client_name = "kept";
  options.min_idle = 4;
  for (int64_t protocol = 2; protocol <= 3; protocol++) {
    options.protocol = protocol;
    redmoon_client *client = open_at(redis_server_url(server), &options);
    AWAIT(clients_of(server, "default") == 4);
    AWAIT(stats_of(client).idle == 4);
    assert_int_equal(stats_of(client).misses, 0);
    redmoon_reply_free(ask(client, "PING", NULL));
    assert_int_equal(stats_of(client).hits, 1); /* it had not to be dialled */
    redmoon_client_close(client);
    AWAIT(clients_of(server, "default") == 0);
  }
}

static void min_idle_is_kept_while_connections_are_borrowed(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.client_name = "kept";
  options.min_idle = 2;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  AWAIT(stats_of(client).idle == 2);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
  AWAIT(stats_of(client).idle == 2 && stats_of(client).in_use == 1);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

static void reaper_closes_idle_connections_down_to_min_idle_without_traffic(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.client_name = "kept";
  options.min_idle = 2;
  options.max_idle_time_ms = 1000;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *txs[10];
  redmoon_error err;
  for (int i = 0; i < 10; i++) assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &txs[i], &err), 0);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(redmoon_transaction_abandon(txs[i], &err), 0);
    redmoon_transaction_free(txs[i]);
  }
  assert_true(stats_of(client).idle >= 10);
  AWAIT(stats_of(client).idle == 2 && stats_of(client).total == 2);
  assert_true(stats_of(client).closed_idle >= 8);
  AWAIT(clients_of(server, "default") == 2);
  redmoon_client_close(client);
}

static void lifetime_ends_connections_without_traffic(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.max_lifetime_ms = 1000;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  redmoon_reply_free(ask(client, "PING", NULL));
  AWAIT(stats_of(client).total == 0);
  assert_int_equal(stats_of(client).closed_lifetime, 1);
  redmoon_reply_free(ask(client, "PING", NULL));
  redmoon_client_close(client);
}

/* A server that is down. */

typedef struct caller {
  redmoon_client *client;
  atomic_bool *stop;
  int calls, answered, other;
} caller;

static void *call_until_stopped(void *arg) {
  caller *self = arg;
  while (!atomic_load(self->stop)) {
    redmoon_reply *reply;
    redmoon_error err;
    int rc = redmoon_command(self->client, 1, ARGV("PING"), NULL, &reply, &err);
    self->calls++;
    if (rc == 0) self->answered++;
    else if (err.outcome != REDMOON_NOT_SENT) self->other++;
    redmoon_reply_free(reply);
  }
  return NULL;
}

/* Accepts and closes. */
static void slam(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_close(peer);
}

static void dials_are_bounded_while_the_server_is_down(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.script = slam});
  char url[160];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_backoff_ms = 50;
  options.max_backoff_ms = 400;
  options.max_retries = 0;
  options.min_idle = 4;
  redmoon_client *client = open_at(url, &options);
  enum { CALLERS = 8 };
  atomic_bool stop = false;
  caller callers[CALLERS];
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    callers[i] = (caller){client, &stop, 0, 0, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, call_until_stopped, &callers[i]), 0);
  }
  int64_t began = now_ms();
  AWAIT(now_ms() - began > 2000);
  atomic_store(&stop, true);
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
  int64_t lasted = now_ms() - began;
  size_t connects = fake_server_connections(server);
  int calls = 0;
  for (int i = 0; i < CALLERS; i++) {
    calls += callers[i].calls;
    assert_int_equal(callers[i].answered, 0);
    assert_int_equal(callers[i].other, 0);
  }
  /* With full jitter the mean pause is 200 ms once the back-off has grown; without it there would be thousands. The
   * first dials of all callers begin before any has failed. */
  if (connects > 30 + (size_t)(lasted / 1000) * 40) fail_msg("%zu dials in %lld ms", connects, (long long)lasted);
  assert_true(connects >= 2);
  assert_true(calls > (int)connects); /* most calls were refused at once, with the reason */
  redmoon_client_close(client);
  fake_server_stop(server);
}

static void server_that_comes_back_is_used_again(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  redmoon_reply_free(ask(client, "PING", NULL));
  redis_server_kill(server);
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_command(client, 1, ARGV("PING"), NULL, &reply, &err), REDMOON_ECONNECT);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.retryable, 1);
  redis_server_restart(server);
  AWAIT(redmoon_command(client, 1, ARGV("PING"), NULL, &reply, &err) == 0);
  redmoon_reply_free(reply);
  redmoon_client_close(client);
  redis_server_stop(server);
}

/* Limits. */

static redmoon_client *client_of_one(const redis_server *server, int64_t pool_timeout_ms) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.pool_size = 1;
  options.pool_timeout_ms = pool_timeout_ms;
  return open_at(redis_server_url(server), &options);
}

static void nested_borrow_at_the_limit_is_refused_at_once(void **state) {
  redis_server *server = *state;
  redmoon_client *client = client_of_one(server, 60000);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  redmoon_reply *reply;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
  int64_t began = now_ms();
  assert_int_equal(redmoon_command(client, 1, ARGV("PING"), NULL, &reply, &err), REDMOON_EPOOL_DEADLOCK);
  assert_true(now_ms() - began < 5000);
  assert_string_equal(err.code, "POOL_DEADLOCK");
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.phase, REDMOON_PHASE_POOL);
  assert_non_null(strstr(err.message, "pool_size"));
  redmoon_transaction *nested;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &nested, &err), REDMOON_EPOOL_DEADLOCK);
  assert_int_equal(redmoon_transaction_abandon(tx, &err), 0);
  redmoon_transaction_free(tx);
  redmoon_reply_free(ask(client, "PING", NULL));
  redmoon_client_close(client);
}

/* Threads that keep a connection each, and ask for one more. */

enum { KEEPERS = 3 };

typedef struct keeper {
  redmoon_client *client;
  pthread_barrier_t *all_keep_one;
  int begun, rc;
  redmoon_error err;
} keeper;

static void *keep_and_ask(void *arg) {
  keeper *self = arg;
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx = NULL;
  redmoon_reply *reply;
  self->begun = redmoon_transaction_begin(self->client, &key, 1, NULL, &tx, &self->err);
  pthread_barrier_wait(self->all_keep_one);
  self->rc = redmoon_command(self->client, 1, ARGV("PING"), NULL, &reply, &self->err);
  redmoon_reply_free(reply);
  redmoon_transaction_free(tx);
  return NULL;
}

static void of_threads_that_wait_for_each_other_the_last_is_refused(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.password = PASSWORD;
  options.pool_size = KEEPERS;
  options.pool_timeout_ms = options.timeout_ms = 60000;
  redmoon_client *client = open_at(redis_server_url(server), &options);
  pthread_barrier_t barrier;
  pthread_t threads[KEEPERS];
  keeper keepers[KEEPERS];
  int refused = 0, served = 0;
  assert_int_equal(pthread_barrier_init(&barrier, NULL, KEEPERS), 0);
  for (int i = 0; i < KEEPERS; i++) {
    keepers[i] = (keeper){.client = client, .all_keep_one = &barrier};
    assert_int_equal(pthread_create(&threads[i], NULL, keep_and_ask, &keepers[i]), 0);
  }
  for (int i = 0; i < KEEPERS; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&barrier);
  for (int i = 0; i < KEEPERS; i++) {
    assert_int_equal(keepers[i].begun, 0);
    served += keepers[i].rc == 0;
    if (keepers[i].rc == 0) continue;
    refused++;
    assert_string_equal(keepers[i].err.code, "POOL_DEADLOCK");
    assert_non_null(strstr(keepers[i].err.message, "kept by transactions whose callers wait for one more"));
    assert_int_equal(keepers[i].err.outcome, REDMOON_NOT_SENT);
  }
  assert_int_equal(refused, 1);
  assert_int_equal(served, KEEPERS - 1);
  assert_int_equal(stats_of(client).in_use, 0);
  redmoon_client_close(client);
}

/* Whose an operation is that a loop of the host's own drives, nobody knows: it waits, and its error tells the cause. */
static void an_operation_of_a_hosts_loop_ends_by_the_pools_timeout(void **state) {
  redmoon_client *client = client_of_one(*state, 50);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  redmoon_reply *reply;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_command_start(client, 1, ARGV("PING"), NULL, &reply, &op, NULL), 0);
  while (!redmoon_op_step(op)) poll(NULL, 0, 1);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_EPOOL_TIMEOUT);
  assert_non_null(strstr(err.message, "1 in use, 1 of them kept by transactions"));
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

typedef struct waiter {
  redmoon_client *client;
  int rc;
  redmoon_error err;
  char tag[16];
} waiter;

static void *push_tag(void *arg) {
  waiter *self = arg;
  redmoon_reply *reply;
  self->rc = redmoon_command(self->client, 3, ARGV("RPUSH", "order", self->tag), NULL, &reply, &self->err);
  redmoon_reply_free(reply);
  return NULL;
}

static void pool_timeout_tells_what_was_the_matter(void **state) {
  redis_server *server = *state;
  redmoon_client *client = client_of_one(server, 100);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
  waiter w = {.client = client, .tag = "x"};
  pthread_t thread; /* another thread: for this one it would be a deadlock */
  assert_int_equal(pthread_create(&thread, NULL, push_tag, &w), 0);
  pthread_join(thread, NULL);
  assert_int_equal(w.rc, REDMOON_EPOOL_TIMEOUT);
  assert_string_equal(w.err.code, "POOL_TIMEOUT");
  assert_int_equal(w.err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(w.err.phase, REDMOON_PHASE_POOL);
  assert_int_equal(w.err.retryable, 1);
  static const char *const parts[] = {"size 1",    "1 in use",     "0 idle",
                                      "1 waiting", "oldest lease", "last dial error: none"};
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
    if (strstr(w.err.message, parts[i]) == NULL) fail_msg("no '%s' in: %s", parts[i], w.err.message);
  assert_null(strstr(w.err.message, PASSWORD));
  assert_int_equal(stats_of(client).timeouts, 1);
  assert_int_equal(stats_of(client).wait_count, 1);
  assert_true(stats_of(client).wait_time_us >= 90000);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

static int count_and_queue(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  ++*(int *)ctx;
  return redmoon_transaction_queue(tx, 2, ARGV("INCR", "n"), NULL, err) < 0 ? err->status : 0;
}

typedef struct runner {
  redmoon_client *client;
  int calls, rc;
} runner;

static void *run_transaction(void *arg) {
  runner *self = arg;
  redmoon_reply *replies;
  self->rc = redmoon_transaction_run(self->client, NULL, 0, count_and_queue, &self->calls, NULL, &replies, NULL);
  return NULL;
}

static void transaction_waits_for_a_full_pool_once(void **state) {
  redmoon_client *client = client_of_one(*state, 50);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  runner r = {client, 0, 0};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, run_transaction, &r), 0);
  pthread_join(thread, NULL);
  assert_int_equal(r.rc, REDMOON_EPOOL_TIMEOUT);
  assert_int_equal(r.calls, 1);
  assert_int_equal(stats_of(client).timeouts, 1);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
}

static void waiters_are_served_in_the_order_they_came(void **state) {
  redis_server *server = *state;
  redmoon_client *client = client_of_one(server, 60000);
  redmoon_reply_free(ask(client, "DEL", "order", NULL));
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  redmoon_error err;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
  enum { WAITERS = 12 };
  static waiter waiters[WAITERS];
  pthread_t threads[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    waiters[i] = (waiter){.client = client};
    snprintf(waiters[i].tag, sizeof waiters[i].tag, "%d", i);
    assert_int_equal(pthread_create(&threads[i], NULL, push_tag, &waiters[i]), 0);
    AWAIT(stats_of(client).waiting == (uint64_t)i + 1);
  }
  assert_int_equal(redmoon_transaction_abandon(tx, &err), 0);
  redmoon_transaction_free(tx);
  for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL);
  redmoon_reply *order = ask(client, "LRANGE", "order", "0", "-1", NULL);
  assert_int_equal(redmoon_reply_count(order), WAITERS);
  for (size_t i = 0; i < WAITERS; i++)
    assert_string_equal(redmoon_reply_string(redmoon_reply_at(order, i), NULL), waiters[i].tag);
  redmoon_reply_free(order);
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_client_close(client);
}

static int start(void **state) {
  static const char *const args[] = {"--requirepass", PASSWORD, NULL};
  *state = redis_server_start(&(redis_server_options){.args = args});
  return 0;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(killed_connections_are_noticed_by_nobody),
      cmocka_unit_test(min_idle_connections_stand_ready_and_logged_in),
      cmocka_unit_test(min_idle_is_kept_while_connections_are_borrowed),
      cmocka_unit_test(reaper_closes_idle_connections_down_to_min_idle_without_traffic),
      cmocka_unit_test(lifetime_ends_connections_without_traffic),
      cmocka_unit_test(dials_are_bounded_while_the_server_is_down),
      cmocka_unit_test(server_that_comes_back_is_used_again),
      cmocka_unit_test(nested_borrow_at_the_limit_is_refused_at_once),
      cmocka_unit_test(of_threads_that_wait_for_each_other_the_last_is_refused),
      cmocka_unit_test(an_operation_of_a_hosts_loop_ends_by_the_pools_timeout),
      cmocka_unit_test(pool_timeout_tells_what_was_the_matter),
      cmocka_unit_test(transaction_waits_for_a_full_pool_once),
      cmocka_unit_test(waiters_are_served_in_the_order_they_came),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
