/* SPDX-License-Identifier: MIT */
/* fork() with connections idle and lent out: the child dials anew and cannot touch its parent's; exec() inherits no
 * descriptor. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/certs.h"
#include "support/quiet_fork.h"
#include "support/redis_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

enum { CALLS = 1000, TRANSPORTS = 3 };

/* What is wrong in a child, as its exit status; cmocka is for the parent only. */
enum { FINE, CALL_FAILED, MISMATCH, SAME_CONNECTION, INHERITED_LEASE_WORKED, STATS_WRONG };

static redmoon_client *open_over(const redis_server *server, int transport, const redmoon_options *given) {
  redmoon_options options = *given;
  char url[200];
  if (transport == 0) snprintf(url, sizeof url, "%s", redis_server_url(server));
  else if (transport == 1) snprintf(url, sizeof url, "redis://127.0.0.1:%d", redis_server_port(server));
  else snprintf(url, sizeof url, "rediss://127.0.0.1:%d", redis_server_tls_port(server));
  if (transport == 2) options.tls.ca_file = certs_get()->ca_file;
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static redmoon_stats stats_of(const redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return stats;
}

/* Tagged calls; 0 or what went wrong.  Safe in a child. */
static int call_tagged(redmoon_client *client, const char *who, int count) {
  for (int i = 0; i < count; i++) {
    char tag[40];
    snprintf(tag, sizeof tag, "%s-%d", who, i);
    redmoon_reply *reply;
    redmoon_error err;
    if (redmoon_command(client, 2, ARGV("ECHO", tag), NULL, &reply, &err) != 0) {
      fprintf(stderr, "%s: %s\n", who, err.message);
      return CALL_FAILED;
    }
    bool same = strcmp(redmoon_reply_string(reply, NULL), tag) == 0;
    redmoon_reply_free(reply);
    if (!same) return MISMATCH;
  }
  return FINE;
}

static int64_t id_of(redmoon_client *client) {
  redmoon_reply *reply;
  if (redmoon_command(client, 2, ARGV("CLIENT", "ID"), NULL, &reply, NULL) != 0) return -1;
  int64_t id = redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return id;
}

static int64_t id_of_transaction(redmoon_transaction *tx) {
  redmoon_reply *reply;
  if (redmoon_transaction_command(tx, 2, ARGV("CLIENT", "ID"), NULL, &reply, NULL) != 0) return -1;
  int64_t id = redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return id;
}

static void assert_child_is_fine(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (!WIFEXITED(status)) fail_msg("the child was ended by signal %d", WTERMSIG(status));
  assert_int_equal(WEXITSTATUS(status), FINE);
}

static int child(redmoon_client *client, redmoon_transaction *tx, int64_t idle_id, int64_t lent_id, bool tidy) {
  redmoon_stats stats = stats_of(client);
  int wrong = call_tagged(client, "child", CALLS);
  if (wrong != FINE) return wrong;
  int64_t id = id_of(client);
  if (id <= 0 || id == idle_id || id == lent_id) return SAME_CONNECTION;
  /* the transaction is the parent's: nothing of it works here */
  if (id_of_transaction(tx) != -1) return INHERITED_LEASE_WORKED;
  redmoon_reply *replies;
  if (redmoon_transaction_exec(tx, &replies, NULL) == 0) return INHERITED_LEASE_WORKED;
  stats = stats_of(client);
  if (stats.dials != 1 || stats.in_use != 0 || stats.idle != 1) return STATS_WRONG;
  if (tidy) {
    redmoon_transaction_free(tx);
    redmoon_client_close(client);
  }
  return FINE;
}

static void child_and_parent_go_their_own_ways(void **state) {
  redis_server *server = *state;
  for (int transport = 0; transport < TRANSPORTS; transport++) {
    for (int tidy = 0; tidy < 2; tidy++) {
      redmoon_options options = REDMOON_OPTIONS_INIT;
      options.pool_size = 2;
      redmoon_client *client = open_over(server, transport, &options);
      redmoon_reply_free(ask(client, "SET", "k", "1", NULL));
      const redmoon_bytes key = {"k", 1};
      redmoon_transaction *tx;
      redmoon_error err;
      assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
      int64_t idle_id = id_of(client), lent_id = id_of_transaction(tx);
      assert_true(idle_id > 0 && lent_id > 0 && idle_id != lent_id);
      pid_t pid = quiet_fork();
      if (pid == 0) _exit(child(client, tx, idle_id, lent_id, tidy));
      assert_true(pid > 0);
      int wrong = call_tagged(client, "parent", CALLS); /* while the child does the same */
      assert_child_is_fine(pid);
      assert_int_equal(wrong, FINE);
      assert_int_equal(call_tagged(client, "after", 100), FINE);
      assert_int_equal(id_of(client), idle_id);
      assert_int_equal(id_of_transaction(tx), lent_id);
      assert_int_equal(redmoon_transaction_multi(tx, &err), 0);
      assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("INCR", "k"), NULL, &err), 0);
      redmoon_reply *replies;
      if (redmoon_transaction_exec(tx, &replies, &err) != 0) fail_msg("%s", err.message);
      assert_int_equal(redmoon_reply_integer(redmoon_reply_at(replies, 0)), 2);
      redmoon_reply_free(replies);
      redmoon_transaction_free(tx);
      redmoon_stats stats = stats_of(client);
      assert_int_equal(stats.dials, 2);
      assert_int_equal(stats.closed_peer + stats.closed_error + stats.closed_dirty, 0);
      redmoon_client_close(client);
    }
  }
}

/* The child of a client with a keeper gets a keeper of its own when it needs one. */
static void child_keeps_its_own_minimum_idle(void **state) {
  redis_server *server = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = 3;
  redmoon_client *client = open_over(server, 0, &options);
  for (int i = 0; stats_of(client).idle < 3; i++) {
    assert_true(i < 10000);
    poll(NULL, 0, 2);
  }
  pid_t pid = quiet_fork();
  if (pid == 0) {
    int wrong = call_tagged(client, "child", 10);
    for (int i = 0; wrong == FINE && stats_of(client).idle < 3; i++) {
      if (i == 10000) wrong = STATS_WRONG;
      poll(NULL, 0, 2);
    }
    redmoon_client_close(client);
    _exit(wrong);
  }
  assert_true(pid > 0);
  assert_child_is_fine(pid);
  assert_int_equal(call_tagged(client, "parent", 100), FINE);
  redmoon_stats stats = stats_of(client);
  assert_int_equal(stats.closed_peer + stats.closed_error + stats.closed_dirty, 0);
  redmoon_client_close(client);
}

/* Closing in the child, before it made any call, must not say goodbye on the parent's sockets. */
static void child_that_only_closes_or_shuts_down_does_no_harm(void **state) {
  redis_server *server = *state;
  for (int transport = 0; transport < TRANSPORTS; transport++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    redmoon_client *client = open_over(server, transport, &options);
    int64_t id = id_of(client);
    for (int way = 0; way < 3; way++) {
      pid_t pid = quiet_fork();
      if (pid == 0) {
        if (way == 1) redmoon_client_shutdown(client);
        if (way <= 1) redmoon_client_close(client);
        _exit(FINE);
      }
      assert_true(pid > 0);
      assert_child_is_fine(pid);
      assert_int_equal(id_of(client), id);
    }
    assert_int_equal(stats_of(client).dials, 1);
    redmoon_client_close(client);
  }
}

/* ---- an operation that is under way at the fork ---- */

static void step_until_blocked(const redis_server *server, redmoon_op *op) {
  for (int blocked = 0, i = 0; !blocked; i++) {
    assert_true(i < 10000);
    assert_int_equal(redmoon_op_step(op), 0);
    char *info = redis_server_ask(server, NULL, "INFO clients");
    blocked = strstr(info, "blocked_clients:1") != NULL;
    free(info);
  }
}

/* The answer is in the socket when the child steps: it must leave it there. */
static int step_inherited(const redis_server *server, redmoon_client *client, redmoon_op *op) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  free(redis_server_ask(server, NULL, "RPUSH list element"));
  if (poll(&(struct pollfd){.fd = wants.fd, .events = POLLIN}, 1, 20000) != 1) return CALL_FAILED;
  redmoon_error err;
  if (redmoon_op_step(op) != 1) return INHERITED_LEASE_WORKED;
  if (redmoon_op_finish(op, &err) != REDMOON_ECLOSED || strstr(err.message, "fork") == NULL)
    return INHERITED_LEASE_WORKED;
  int wrong = call_tagged(client, "child", 10);
  redmoon_client_close(client);
  return wrong;
}

static int cancel_inherited(const redis_server *server, redmoon_client *client, redmoon_op *op) {
  redmoon_op_cancel(op);
  int wrong = call_tagged(client, "child", 10);
  redmoon_client_close(client);
  free(redis_server_ask(server, NULL, "RPUSH list element"));
  return wrong;
}

static void operation_under_way_stays_the_parents(void **state) {
  redis_server *server = *state;
  for (int transport = 0; transport < TRANSPORTS; transport++) {
    for (int cancel = 0; cancel < 2; cancel++) {
      redmoon_options options = REDMOON_OPTIONS_INIT;
      redmoon_client *client = open_over(server, transport, &options);
      redmoon_reply *reply = NULL;
      redmoon_op *op;
      redmoon_error err;
      assert_int_equal(redmoon_command_start(client, 3, ARGV("BLPOP", "list", "0"), NULL, &reply, &op, &err), 0);
      step_until_blocked(server, op);
      pid_t pid = quiet_fork();
      if (pid == 0) _exit(cancel ? cancel_inherited(server, client, op) : step_inherited(server, client, op));
      assert_true(pid > 0);
      assert_child_is_fine(pid);
      for (int i = 0; redmoon_op_step(op) == 0; i++) {
        assert_true(i < 100);
        redmoon_wants wants;
        redmoon_op_wants(op, &wants);
        poll(&(struct pollfd){.fd = wants.fd, .events = POLLIN}, 1, 1000);
      }
      if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
      assert_string_equal(redmoon_reply_string(redmoon_reply_at(reply, 1), NULL), "element");
      redmoon_reply_free(reply);
      redmoon_client_close(client);
    }
  }
}

/* ---- forks in the middle of other threads' calls ---- */

typedef struct gate {
  pthread_mutex_t turnstile;
  pthread_rwlock_t lock;
} gate;

static void shut_gate(gate *g) {
  pthread_mutex_lock(&g->turnstile);
  pthread_rwlock_wrlock(&g->lock);
}

static void open_gate(gate *g) {
  pthread_rwlock_unlock(&g->lock);
  pthread_mutex_unlock(&g->turnstile);
}

typedef struct caller {
  redmoon_client *client;
  atomic_bool *stop;
  gate *gate;
  int number, wrong, calls;
} caller;

static void *call_until_stopped(void *arg) {
  caller *self = arg;
  char who[16];
  snprintf(who, sizeof who, "thread%d", self->number);
  while (!atomic_load(self->stop) && self->wrong == FINE) {
    pthread_mutex_lock(&self->gate->turnstile); /* or a writer would never get its turn */
    pthread_mutex_unlock(&self->gate->turnstile);
    pthread_rwlock_rdlock(&self->gate->lock);
    self->wrong = call_tagged(self->client, who, 10);
    pthread_rwlock_unlock(&self->gate->lock);
    self->calls += 10;
  }
  return NULL;
}

static void forks_amid_busy_threads_mix_nothing_up(void **state) {
  redis_server *server = *state;
  enum { THREADS = 4, FORKS = 20 };
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 3;
  redmoon_client *client = open_over(server, 0, &options);
  atomic_bool stop = false;
  gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_RWLOCK_INITIALIZER};
  caller callers[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    callers[i] = (caller){client, &stop, &g, i, FINE, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, call_until_stopped, &callers[i]), 0);
  }
  int bad = 0;
  for (int i = 0; i < FORKS; i++) {
    if (FORK_NEEDS_QUIET) shut_gate(&g);
    pid_t pid = quiet_fork();
    if (pid == 0) {
      alarm(60); /* a lock that nobody holds any more would be waited for until then */
      int wrong = (i % 2 == 0 && stats_of(client).in_use != 0) ? STATS_WRONG : call_tagged(client, "child", 50);
      redmoon_client_close(client);
      _exit(wrong);
    }
    if (FORK_NEEDS_QUIET) open_gate(&g);
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) bad++;
  }
  atomic_store(&stop, true);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(bad, 0);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(callers[i].wrong, FINE);
    assert_true(callers[i].calls > 0);
  }
  assert_true(stats_of(client).dials <= 3);
  redmoon_client_close(client);
}

/* ---- exec ---- */

/* The descriptors that a program started from here has, as `ls` lists them. */
static void list_after_exec(char *out, size_t cap) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = quiet_fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    unsetenv("LD_PRELOAD");
    execlp("ls", "ls", "-1", "/proc/self/fd", (char *)NULL);
    _exit(127);
  }
  assert_true(pid > 0);
  close(ends[1]);
  size_t len = 0;
  for (ssize_t n; (n = read(ends[0], out + len, cap - 1 - len)) > 0;) len += (size_t)n;
  out[len] = '\0';
  close(ends[0]);
  assert_child_is_fine(pid);
}

typedef struct pool_waiter {
  redmoon_client *client;
  redmoon_op *op;
  redmoon_reply *reply;
} pool_waiter;

static void *begin_to_wait(void *arg) {
  pool_waiter *self = arg;
  if (redmoon_command_start(self->client, 1, ARGV("PING"), NULL, &self->reply, &self->op, NULL) == 0)
    redmoon_op_step(self->op);
  return NULL;
}

static void no_descriptor_survives_exec(void **state) {
  redis_server *server = *state;
  char before[512], with[512];
  list_after_exec(before, sizeof before);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = 2;
  options.pool_size = 3;
  redmoon_client *clients[TRANSPORTS];
  redmoon_transaction *txs[TRANSPORTS][3];
  pool_waiter waiters[TRANSPORTS];
  const redmoon_bytes key = {"k", 1};
  for (int t = 0; t < TRANSPORTS; t++) {
    clients[t] = open_over(server, t, &options);
    for (int i = 0; i < 3; i++)
      assert_int_equal(redmoon_transaction_begin(clients[t], &key, 1, NULL, &txs[t][i], NULL), 0);
    /* Who waits for the pool has an event descriptor.  From another thread: here it would be a deadlock. */
    waiters[t] = (pool_waiter){.client = clients[t]};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, begin_to_wait, &waiters[t]), 0);
    pthread_join(thread, NULL);
    assert_int_equal(stats_of(clients[t]).waiting, 1);
  }
  list_after_exec(with, sizeof with);
  assert_string_equal(with, before);
  for (int t = 0; t < TRANSPORTS; t++) {
    redmoon_op_cancel(waiters[t].op);
    for (int i = 0; i < 3; i++) redmoon_transaction_free(txs[t][i]);
    redmoon_client_close(clients[t]);
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
      cmocka_unit_test(child_and_parent_go_their_own_ways),
      cmocka_unit_test(child_keeps_its_own_minimum_idle),
      cmocka_unit_test(child_that_only_closes_or_shuts_down_does_no_harm),
      cmocka_unit_test(operation_under_way_stays_the_parents),
      cmocka_unit_test(forks_amid_busy_threads_mix_nothing_up),
      cmocka_unit_test(no_descriptor_survives_exec),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
