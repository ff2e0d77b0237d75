/* SPDX-License-Identifier: MIT */
/* Eight threads on four connections of one client: 100,000 tagged calls with random deadlines, cancelled
 * operations, pipelines and increments, while connections are killed from outside; at the end the client is shut
 * down under load. No reply may reach the wrong call, and every outcome that was reported must agree with what the
 * server executed.  Then the same over TLS, with a tenth of the calls; and with sixteen threads that share the connections.
 *
 *      SEED=<n> REDMOON_SOAK_CALLS=<n> client_threads
 */
#include "support/certs.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, SHARING_THREADS = 16, CONNECTIONS = 4, CALLS = 100000, TLS_SHARE = 10, VIEWS = 4, CALLS_PER_KILL = 100 };
static const int64_t view_timeouts_ms[VIEWS] = {1, 3, 10, 20000};

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct shared {
  redmoon_client *client, *views[VIEWS];
  atomic_long calls; /* begun */
  long limit;
} shared;

typedef struct worker {
  shared *all;
  uint64_t rng;
  int number;
  long done, answered, timeouts, cancelled, losses, mismatches, surprises;
  long incremented, maybe; /* increments that were answered; whose outcome is unknown */
  char surprise[300];
} worker;

static uint64_t next(worker *w) { /* xorshift64* */
  w->rng ^= w->rng >> 12;
  w->rng ^= w->rng << 25;
  w->rng ^= w->rng >> 27;
  return w->rng * 2685821657736338717u;
}

static void surprise(worker *w, const char *what, const redmoon_error *err) {
  if (w->surprises++ == 0)
    snprintf(w->surprise, sizeof w->surprise, "%s: %.60s %.200s", what, err != NULL ? err->code : "",
             err != NULL ? err->message : "");
}

/* True while the client is open. */
static bool note_failure(worker *w, const redmoon_client *view, int status, const redmoon_error *err) {
  switch (status) {
  case REDMOON_ETIMEOUT:
  case REDMOON_EPOOL_TIMEOUT:
    w->timeouts++;
    return true;
  case REDMOON_EIO: /* killed more often than it may be tried */
    w->losses++;
    return true;
  case REDMOON_ECONNECT: /* the next dial would come too late for a short deadline */
    w->timeouts++;
    if (view == w->all->views[VIEWS - 1] || err->outcome == REDMOON_ANSWERED) surprise(w, "patient call", err);
    return true;
  case REDMOON_ECLOSED:
    return false;
  default:
    surprise(w, "failure", err);
    return true;
  }
}

static void make_tag(worker *w, char tag[40]) {
  snprintf(tag, 40, "%d:%ld:%08" PRIx64, w->number, w->done, next(w) & 0xffffffff);
}

static void compare(worker *w, const redmoon_reply *reply, const char *tag) {
  const char *text = redmoon_reply_string(reply, NULL);
  if (text == NULL || strcmp(text, tag) != 0) w->mismatches++;
  else w->answered++;
}

static bool echo(worker *w, redmoon_client *view) {
  char tag[40];
  make_tag(w, tag);
  redmoon_reply *reply;
  redmoon_error err;
  int rc = redmoon_command(view, 2, ARGV("ECHO", tag), NULL, &reply, &err);
  if (rc != 0) return note_failure(w, view, rc, &err);
  compare(w, reply, tag);
  redmoon_reply_free(reply);
  return true;
}

static bool increment(worker *w, redmoon_client *view) {
  redmoon_reply *reply;
  redmoon_error err;
  int rc = redmoon_command(view, 2, ARGV("INCR", "count"), NULL, &reply, &err);
  redmoon_reply_free(reply);
  if (rc == 0) {
    w->incremented++;
    w->answered++;
    return true;
  }
  if (err.outcome == REDMOON_UNKNOWN) w->maybe++;
  else if (err.outcome == REDMOON_ANSWERED) surprise(w, "increment", &err);
  return note_failure(w, view, rc, &err);
}

static bool pipeline(worker *w, redmoon_client *view) {
  enum { LENGTH = 5 };
  char tags[LENGTH][40];
  redmoon_pipeline *p;
  redmoon_error err;
  if (redmoon_pipeline_new(view, &p, &err) != 0) {
    surprise(w, "pipeline", &err);
    return true;
  }
  for (int i = 0; i < LENGTH; i++) {
    make_tag(w, tags[i]);
    if (redmoon_pipeline_command(p, 2, ARGV("ECHO", tags[i]), NULL, &err) != i) surprise(w, "pipeline", &err);
  }
  int rc = redmoon_pipeline_run(p, &err);
  for (size_t i = 0; i < LENGTH; i++) { /* also what was answered before a failure */
    redmoon_result result = redmoon_pipeline_result(p, i);
    if (result.reply != NULL) compare(w, result.reply, tags[i]);
    else if (rc == 0) w->mismatches++;
  }
  redmoon_pipeline_free(p);
  return rc == 0 || note_failure(w, view, rc, &err);
}

/* Steps an operation a few times and gives it up, wherever it stands. */
static bool cancel(worker *w, redmoon_client *view) {
  char tag[40];
  make_tag(w, tag);
  redmoon_reply *reply;
  redmoon_op *op;
  redmoon_error err;
  int rc = redmoon_command_start(view, 2, ARGV("ECHO", tag), NULL, &reply, &op, &err);
  if (rc != 0) {
    surprise(w, "start", &err);
    return true;
  }
  for (uint64_t steps = next(w) % 4; steps > 0; steps--) {
    if (redmoon_op_step(op) == 1) {
      rc = redmoon_op_finish(op, &err);
      if (rc != 0) return note_failure(w, view, rc, &err);
      compare(w, reply, tag);
      redmoon_reply_free(reply);
      return true;
    }
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {.fd = wants.fd,
                        .events = (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLIN | POLLOUT : POLLIN};
    poll(&fd, 1, wants.timeout_ms >= 0 && wants.timeout_ms < 5 ? (int)wants.timeout_ms : 5);
  }
  redmoon_op_cancel(op);
  w->cancelled++;
  return true;
}

static void *work(void *arg) {
  worker *w = arg;
  for (;;) {
    atomic_fetch_add(&w->all->calls, 1);
    w->done++;
    uint64_t draw = next(w) % 100;
    /* one in ten has a deadline that it may well miss */
    redmoon_client *view = w->all->views[next(w) % 10 == 0 ? next(w) % (VIEWS - 1) : VIEWS - 1];
    bool open = draw < 60   ? echo(w, view)
                : draw < 80 ? increment(w, view)
                : draw < 90 ? pipeline(w, view)
                            : cancel(w, view);
    if (!open) break;
  }
  return NULL;
}

static redmoon_client *open_client(const redis_server *server, bool tls, bool multiplex, int64_t pool_size) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.multiplex = multiplex;
  char url[300];
  snprintf(url, sizeof url, "%s", redis_server_url(server));
  if (tls) {
    snprintf(url, sizeof url, "rediss://127.0.0.1:%d", redis_server_tls_port(server));
    options.tls.ca_file = certs_get()->ca_file;
  }
  options.pool_size = pool_size;
  options.timeout_ms = options.pool_timeout_ms = options.read_timeout_ms = 20000;
  options.max_retries = 10;
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) {
    printf("%s\n", err.message);
    exit(1);
  }
  return client;
}

static void open_all(shared *all, const redis_server *server, bool tls, bool multiplex) {
  all->client = open_client(server, tls, multiplex, CONNECTIONS);
  for (int i = 0; i < VIEWS; i++) {
    redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
    call.timeout_ms = view_timeouts_ms[i];
    redmoon_error err;
    if (redmoon_client_with(all->client, &call, &all->views[i], &err) != 0) {
      printf("%s\n", err.message);
      exit(1);
    }
  }
}

/* Kills connections until all calls are begun, then shuts down under load.  The pace is that of the calls, not of a clock: on
 * a slow machine a call must not be killed at each of its attempts. */
static int disturb(shared *all, const redis_server *server) {
  int kills = 0;
  long next = 0;
  while (atomic_load(&all->calls) < all->limit) {
    if (atomic_load(&all->calls) < next) {
      poll(NULL, 0, 1);
      continue;
    }
    next = atomic_load(&all->calls) + CALLS_PER_KILL;
    char *killed = redis_server_ask(server, NULL, "CLIENT KILL TYPE normal SKIPME yes");
    kills += atoi(killed + 1);
    free(killed);
  }
  redmoon_client_shutdown(all->client);
  return kills;
}

static int64_t count_on_server(const redis_server *server) {
  char *text = redis_server_ask(server, NULL, "GET count");
  int64_t count = atoll(text);
  free(text);
  return count;
}

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static void judge(const worker *workers, int count_of_workers, const shared *all, int kills, int64_t count) {
  worker sum = {0};
  for (int i = 0; i < count_of_workers; i++) {
    const worker *w = &workers[i];
    sum.done += w->done;
    sum.answered += w->answered;
    sum.timeouts += w->timeouts;
    sum.cancelled += w->cancelled;
    sum.losses += w->losses;
    sum.mismatches += w->mismatches;
    sum.surprises += w->surprises;
    sum.incremented += w->incremented;
    sum.maybe += w->maybe;
    if (w->surprises > 0) printf("surprise: %s\n", w->surprise);
  }
  printf("%ld calls: %ld answers, %ld timeouts, %ld cancelled, %ld lost; %d connections killed\n", sum.done,
         sum.answered, sum.timeouts, sum.cancelled, sum.losses, kills);
  printf("increments: %ld answered, %ld unknown, %" PRId64 " executed\n", sum.incremented, sum.maybe, count);
  check(sum.mismatches == 0, "every reply reached the call that asked for it");
  check(sum.surprises == 0, "calls failed in no other way than by deadline, loss or shutdown");
  check(count >= sum.incremented && count <= sum.incremented + sum.maybe, "outcomes agree with what was executed");
  check(sum.done >= all->limit && sum.answered > sum.done / 2, "most calls were answered");
  check(kills > 0 && sum.cancelled > 0, "connections were killed and operations cancelled");
  redmoon_stats stats;
  redmoon_client_stats(all->client, &stats);
  check(stats.total == 0 && stats.in_use == 0 && stats.waiting == 0, "no connection is left after the shutdown");
}

static void run(const redis_server *server, bool tls, bool multiplex, uint64_t seed, long calls) {
  shared all = {.limit = calls};
  int count = multiplex ? SHARING_THREADS : THREADS;
  printf("%s%s:\n", tls ? "TLS" : "unix socket", multiplex ? ", multiplexed" : "");
  free(redis_server_ask(server, NULL, "SET count 0"));
  open_all(&all, server, tls, multiplex);
  worker workers[SHARING_THREADS];
  pthread_t threads[SHARING_THREADS];
  for (int i = 0; i < count; i++) {
    workers[i] = (worker){.all = &all, .rng = seed + (uint64_t)i * 7919 + 1, .number = i};
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) abort();
  }
  int kills = disturb(&all, server);
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  judge(workers, count, &all, kills, count_on_server(server));
  for (int i = 0; i < VIEWS; i++) redmoon_client_close(all.views[i]);
  redmoon_client_close(all.client);
}

int main(void) {
  const char *text = getenv("SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 20261122;
  text = getenv("REDMOON_SOAK_CALLS");
  long calls = text != NULL ? atol(text) : CALLS;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_CALLS=%ld\n", seed, calls);
  const certs *c = certs_get();
  if (c == NULL) return 1;
  redis_server *server = redis_server_start(
      &(redis_server_options){.tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file});
  for (int multiplex = 0; multiplex <= 1; multiplex++) {
    run(server, false, multiplex, seed, calls);
    run(server, true, multiplex, seed, calls / TLS_SHARE);
  }
  redis_server_stop(server);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
