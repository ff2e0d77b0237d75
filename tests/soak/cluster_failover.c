/* SPDX-License-Identifier: MIT */
/* Primaries of a cluster are killed and stopped in turn, under load from several threads, and their replicas take over; in
 * between all connections are ended, again and again.  No reply is another's, no write is applied twice, what is said to be
 * not sent is not there, and each fail-over is survived; how long it took is printed.  Then every node that the client was
 * told of is replaced by another one.
 *
 *      SEED=<n> REDMOON_SOAK_FAILOVERS=<n> cluster_failover        4 fail-overs unless told otherwise */
#include "route/slots.h"
#include "support/cluster_fixture.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 4, TAGS = 9, FAILOVERS = 4, IDS_MAX = 1 << 20, PIPELINE = 9, PATIENCE_MS = 60000 };
enum { CUTS = 150, CALLS_PER_CUT = 10 }; /* after each fail-over */
enum { NOT_APPLIED, ACKNOWLEDGED, UNKNOWN }; /* what a call said of a write */

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct shared {
  redmoon_client *client;
  atomic_bool stop;
  atomic_long successes;
} shared;

/* A write appends an identifier of its own to a list: "<worker>:<number>". */
typedef struct worker {
  shared *all;
  uint64_t rng;
  int number, ids;
  unsigned char said[IDS_MAX], found[IDS_MAX];
  long done, errors, wrong, surprises;
  char surprise[300];
} worker;

static uint64_t next(worker *w) { /* xorshift64* */
  w->rng ^= w->rng >> 12;
  w->rng ^= w->rng << 25;
  w->rng ^= w->rng >> 27;
  return w->rng * 2685821657736338717u;
}

static int64_t now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void surprise(worker *w, const char *what, const char *text) {
  if (w->surprises++ == 0) snprintf(w->surprise, sizeof w->surprise, "%s: %.250s", what, text);
}

/* A call may end without an answer while nobody serves the slot; it may not end by what only the cluster's nodes tell each
 * other's clients. */
static int judge_failure(worker *w, const char *what, const redmoon_error *err) {
  w->errors++;
  if (strcmp(err->code, "MOVED") == 0 || strcmp(err->code, "ASK") == 0 || strcmp(err->code, "READONLY") == 0 ||
      err->status == REDMOON_EPROTOCOL || err->status == REDMOON_ECONFIG || err->status == REDMOON_ENOMEM)
    surprise(w, what, err->message);
  return err->outcome == REDMOON_UNKNOWN ? UNKNOWN : NOT_APPLIED;
}

static const char *list_of(char out[32], uint64_t tag) {
  snprintf(out, 32, "{tag%d}l", (int)tag);
  return out;
}

static int new_id(worker *w, char out[32]) {
  if (w->ids == IDS_MAX) {
    printf("more writes than there is room for\n");
    exit(1);
  }
  snprintf(out, 32, "%d:%d", w->number, w->ids);
  return w->ids++;
}

static void note_success(worker *w) { atomic_fetch_add(&w->all->successes, 1); }

static void write_one(worker *w) {
  char key[32], text[32];
  redmoon_reply *reply = NULL;
  redmoon_error err;
  list_of(key, next(w) % TAGS);
  int id = new_id(w, text);
  if (redmoon_command(w->all->client, 3, ARGV("RPUSH", key, text), NULL, &reply, &err) != 0) {
    w->said[id] = (unsigned char)judge_failure(w, "RPUSH", &err);
    return;
  }
  w->said[id] = ACKNOWLEDGED;
  w->wrong += redmoon_reply_type(reply) != REDMOON_INTEGER;
  redmoon_reply_free(reply);
  note_success(w);
}

/* What it reads says whose it is. */
static void read_one(worker *w) {
  char key[32], text[48];
  redmoon_reply *reply = NULL;
  redmoon_error err;
  uint64_t tag = next(w) % TAGS;
  snprintf(key, sizeof key, "{tag%d}v:%d", (int)tag, w->number);
  snprintf(text, sizeof text, "value of %s", key);
  bool writes = next(w) % 2 == 0;
  int rc = writes ? redmoon_command(w->all->client, 3, ARGV("SET", key, text), NULL, &reply, &err)
                  : redmoon_command(w->all->client, 2, ARGV("GET", key), NULL, &reply, &err);
  if (rc != 0) {
    (void)judge_failure(w, writes ? "SET" : "GET", &err);
    return;
  }
  const char *got = redmoon_reply_string(reply, NULL);
  if (writes) w->wrong += got == NULL || strcmp(got, "OK") != 0;
  else w->wrong += got != NULL && strcmp(got, text) != 0; /* nothing: it was lost with its primary */
  redmoon_reply_free(reply);
  note_success(w);
}

static void pipeline(worker *w) {
  char keys[PIPELINE][32], texts[PIPELINE][32];
  int ids[PIPELINE];
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  if (redmoon_pipeline_new(w->all->client, &p, &err) != 0) abort();
  for (int i = 0; i < PIPELINE; i++) { /* a write, an echo, a write, ... */
    ids[i] = new_id(w, texts[i]);
    list_of(keys[i], next(w) % TAGS);
    bool writes = i % 2 == 0;
    int64_t at = writes ? redmoon_pipeline_command(p, 3, ARGV("RPUSH", keys[i], texts[i]), NULL, &err)
                        : redmoon_pipeline_command(p, 2, ARGV("ECHO", texts[i]), NULL, &err);
    if (at != i) abort();
  }
  int rc = redmoon_pipeline_run(p, &err);
  if (rc != 0) (void)judge_failure(w, "pipeline", &err);
  for (int i = 0; i < PIPELINE; i++) {
    redmoon_result result = redmoon_pipeline_result(p, (size_t)i);
    bool writes = i % 2 == 0, is_error = result.reply != NULL && redmoon_reply_type(result.reply) == REDMOON_ERROR;
    const char *text = result.reply != NULL ? redmoon_reply_string(result.reply, NULL) : NULL;
    if (is_error && (strncmp(text, "MOVED", 5) == 0 || strncmp(text, "ASK ", 4) == 0 || strncmp(text, "READONLY", 8) == 0))
      surprise(w, "in a pipeline", text);
    if (writes)
      w->said[ids[i]] = result.reply != NULL ? (is_error ? NOT_APPLIED : ACKNOWLEDGED)
                                             : result.outcome == REDMOON_NOT_SENT ? NOT_APPLIED : UNKNOWN;
    else if (result.reply != NULL && !is_error) w->wrong += strcmp(text, texts[i]) != 0;
  }
  redmoon_pipeline_free(p);
  if (rc == 0) note_success(w);
}

/* Two writes, both or none. */
static void transaction(worker *w) {
  char key[32], one[32], two[32];
  redmoon_transaction *tx = NULL;
  redmoon_reply *replies = NULL;
  redmoon_error err;
  list_of(key, next(w) % TAGS);
  int first = new_id(w, one), second = new_id(w, two);
  if (redmoon_transaction_begin(w->all->client, NULL, 0, NULL, &tx, &err) != 0) {
    (void)judge_failure(w, "transaction", &err);
    return;
  }
  if (redmoon_transaction_queue(tx, 3, ARGV("RPUSH", key, one), NULL, &err) < 0 ||
      redmoon_transaction_queue(tx, 3, ARGV("RPUSH", key, two), NULL, &err) < 0)
    abort();
  if (redmoon_transaction_exec(tx, &replies, &err) == 0) {
    w->said[first] = w->said[second] = ACKNOWLEDGED;
    note_success(w);
  } else {
    w->said[first] = w->said[second] = (unsigned char)judge_failure(w, "EXEC", &err);
  }
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
}

static void *work(void *arg) {
  worker *w = arg;
  while (!atomic_load(&w->all->stop)) {
    uint64_t draw = next(w) % 100;
    if (draw < 40) write_one(w);
    else if (draw < 80) read_one(w);
    else if (draw < 90) pipeline(w);
    else transaction(w);
    w->done++;
    poll(NULL, 0, 1); /* the load is to last, not to be heavy */
  }
  return NULL;
}

/* Fail-overs. */

typedef struct prober {
  shared *all;
  char key[32];
  atomic_bool stop;
  _Atomic int64_t last_ms; /* of the last success */
} prober;

/* Writes to one slot, over and over. */
static void *probe(void *arg) {
  prober *p = arg;
  while (!atomic_load(&p->stop)) {
    redmoon_reply *reply = NULL;
    redmoon_error err;
    if (redmoon_command(p->all->client, 3, ARGV("SET", p->key, "x"), NULL, &reply, &err) == 0) atomic_store(&p->last_ms, now_ms());
    redmoon_reply_free(reply);
    poll(NULL, 0, 1);
  }
  return NULL;
}

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static bool is_heard(shared *all, redmoon_subscription *sub, const char *channel) {
  char payload[32];
  int64_t limit = now_ms() + PATIENCE_MS;
  for (int n = 0; now_ms() < limit; n++) {
    redmoon_error err;
    redmoon_message *message = NULL;
    snprintf(payload, sizeof payload, "%d", n);
    if (redmoon_publish(all->client, channel, strlen(channel), payload, strlen(payload), 1, NULL, &err) != 0) continue;
    if (redmoon_subscription_receive(sub, 100, &message, &err) != 0) {
      printf("subscription: %s\n", err.message);
      return false;
    }
    bool heard = message != NULL && message->kind == REDMOON_MESSAGE;
    redmoon_message_free(message);
    if (heard) return true;
  }
  return false;
}

/* The longest time from when the cluster had agreed on a new primary until a write to its slots succeeded. */
static int64_t fail_over(cluster *c, shared *all, int turn) {
  prober p = {.all = all};
  pthread_t thread;
  int tag = turn % TAGS;
  snprintf(p.key, sizeof p.key, "{tag%d}probe", tag);
  int slot = rm_slot_of(p.key, strlen(p.key)), old = cluster_primary_of(c, slot);
  if (pthread_create(&thread, NULL, probe, &p) != 0) abort();
  while (atomic_load(&p.last_ms) == 0) poll(NULL, 0, 1);
  bool kills = turn % 2 == 0;
  int64_t began_ms = now_ms();
  (kills ? cluster_kill : cluster_pause)(c, old);
  int now = cluster_await_failover(c, slot, old);
  int64_t detected_ms = now_ms(), limit = detected_ms + PATIENCE_MS, success_ms;
  /* By the new primary: an answer of the old one may still have been on its way. */
  for (;;) {
    success_ms = atomic_load(&p.last_ms);
    redmoon_reply *reply = cluster_ask(c, now, "EXISTS", p.key, NULL);
    bool there = redmoon_reply_integer(reply) == 1;
    redmoon_reply_free(reply);
    if ((there && success_ms > began_ms + 50) || now_ms() > limit) break;
    poll(NULL, 0, 1);
  }
  atomic_store(&p.stop, true);
  int64_t late_ms = success_ms > detected_ms ? success_ms - detected_ms : 0;
  printf("%2d: node %d %s, node %d took over in %" PRId64 " ms, first success %" PRId64 " ms later\n", turn + 1, old,
         kills ? "killed" : "stopped", now, detected_ms - began_ms, late_ms);
  if (now_ms() > limit) late_ms = PATIENCE_MS;
  (kills ? cluster_restart : cluster_resume)(c, old);
  cluster_await_ok(c);
  pthread_join(thread, NULL);
  return late_ms;
}

/* Connections end under the load, at every node: so answers of what was executed are lost, too. */
static void cut(cluster *c, shared *all, int times) {
  for (int n = 0; n < times; n++) {
    long limit = atomic_load(&all->successes) + CALLS_PER_CUT;
    for (int i = 0; i < cluster_count(c); i++)
      if (cluster_is_running(c, i)) redmoon_reply_free(cluster_ask(c, i, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL));
    for (int ms = 0; ms < 20 && atomic_load(&all->successes) < limit; ms++) poll(NULL, 0, 1);
  }
}

/* What the lists hold against what the calls said. */

static bool note_found(worker *workers, const char *text, long *twice, long *ghosts) {
  char *end;
  long number = strtol(text, &end, 10), id = *end == ':' ? strtol(end + 1, NULL, 10) : -1;
  if (number < 0 || number >= THREADS || id < 0 || id >= workers[number].ids) return false;
  worker *w = &workers[number];
  *twice += w->found[id] != 0;
  *ghosts += w->said[id] == NOT_APPLIED;
  w->found[id] = 1;
  return true;
}

static void judge(shared *all, worker *workers) {
  long twice = 0, ghosts = 0, strange = 0, lost = 0, acknowledged = 0, unknown = 0, applied = 0;
  worker *sum = calloc(1, sizeof *sum);
  if (sum == NULL) abort();
  for (int tag = 0; tag < TAGS; tag++) {
    char key[32];
    redmoon_reply *reply = NULL;
    redmoon_error err;
    if (redmoon_command(all->client, 4, ARGV("LRANGE", list_of(key, (uint64_t)tag), "0", "-1"), NULL, &reply, &err) != 0) {
      printf("%s\n", err.message);
      strange++;
    }
    for (size_t i = 0; reply != NULL && i < redmoon_reply_count(reply); i++)
      strange += !note_found(workers, redmoon_reply_string(redmoon_reply_at(reply, i), NULL), &twice, &ghosts);
    redmoon_reply_free(reply);
  }
  for (int i = 0; i < THREADS; i++) {
    worker *w = &workers[i];
    for (int id = 0; id < w->ids; id++) {
      acknowledged += w->said[id] == ACKNOWLEDGED;
      lost += w->said[id] == ACKNOWLEDGED && !w->found[id];
      unknown += w->said[id] == UNKNOWN;
      applied += w->said[id] == UNKNOWN && w->found[id];
    }
    sum->done += w->done;
    sum->errors += w->errors;
    sum->wrong += w->wrong;
    sum->surprises += w->surprises;
    if (w->surprises > 0) printf("surprise, %ld times: %s\n", w->surprises, w->surprise);
  }
  printf("%ld calls, %ld of them failed; writes: %ld acknowledged, of which %ld were lost with their primary; %ld unknown, of which "
         "%ld were applied\n",
         sum->done, sum->errors, acknowledged, lost, unknown, applied);
  check(sum->wrong == 0, "no reply was another's");
  check(sum->surprises == 0, "calls failed by nothing but time and connections");
  check(strange == 0, "the lists hold what was written");
  check(twice == 0, "no write was applied twice");
  check(ghosts == 0, "what was said to be not executed was not executed");
  free(sum);
}

static long calls_go_on(shared *all) {
  long before = atomic_load(&all->successes);
  for (int64_t limit = now_ms() + PATIENCE_MS; atomic_load(&all->successes) < before + 200 && now_ms() < limit;) poll(NULL, 0, 1);
  return atomic_load(&all->successes) - before;
}

static void replace_all(cluster *c, shared *all) {
  int originals = cluster_count(c);
  for (int i = 0; i < originals; i++) {
    int now = cluster_replace(c, i);
    printf("node %d was replaced by node %d\n", i, now);
  }
  check(calls_go_on(all) >= 200, "calls go on when every node of the URL is gone");
}

int main(void) {
  const char *text = getenv("SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 20261126;
  text = getenv("REDMOON_SOAK_FAILOVERS");
  int failovers = text != NULL ? atoi(text) : FAILOVERS;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_FAILOVERS=%d\n", seed, failovers);
  cluster *c = cluster_start(&(cluster_options){.node_timeout_ms = 1000});
  static shared all;
  static worker workers[THREADS];
  pthread_t threads[THREADS];
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  options.read_timeout_ms = 500; /* of a node that stands still */
  options.connect_timeout_ms = 500;
  options.timeout_ms = 20000;
  redmoon_subscription *sub = NULL;
  const redmoon_bytes channel = {"{tag0}news", 10};
  if (redmoon_client_open(cluster_url(c), &options, &all.client, &err) != 0 ||
      redmoon_subscription_open(all.client, &(redmoon_subscription_set){.shards = &channel, .shard_count = 1},
                                &(redmoon_subscription_options){REDMOON_UNSET, NULL, 500, REDMOON_UNSET, 500}, &sub, &err) != 0) {
    printf("%s\n", err.message);
    return 1;
  }
  for (int i = 0; i < THREADS; i++) {
    workers[i].all = &all;
    workers[i].rng = seed + (uint64_t)i * 7919 + 1;
    workers[i].number = i;
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) abort();
  }
  int64_t worst_ms = 0;
  bool heard = true;
  for (int turn = 0; turn < failovers; turn++) {
    int64_t late_ms = fail_over(c, &all, turn);
    if (late_ms > worst_ms) worst_ms = late_ms;
    heard = heard && is_heard(&all, sub, "{tag0}news");
    cut(c, &all, CUTS);
  }
  printf("%d fail-overs; the first success came at most %" PRId64 " ms after the cluster had agreed\n", failovers, worst_ms);
  check(worst_ms < PATIENCE_MS, "every fail-over was survived");
  check(heard, "the subscription to a shard channel was heard after each of them");
  replace_all(c, &all);
  atomic_store(&all.stop, true);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  judge(&all, workers);
  redmoon_subscription_close(sub);
  redmoon_client_close(all.client);
  cluster_stop(c);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
