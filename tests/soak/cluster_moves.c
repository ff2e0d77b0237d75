/* SPDX-License-Identifier: MIT */
/* Slots move from node to node, key by key, while several threads read, count, send pipelines and run transactions of their
 * keys.  Nobody sees a redirection, the commands of a key stay in their order, and every write is counted once.
 *
 *      SEED=<n> REDMOON_SOAK_MOVES=<n> cluster_moves        15 moves unless told otherwise */
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

enum { THREADS = 4, PRIMARIES = 3, TAGS = 12, FILLERS = 30, MOVES = 15, MAX_PIPELINE = 24 };
enum { STEP_KEYS = 7, STEP_CALLS = 60, STEP_MS = 50 }; /* of a move: so many keys, then so much load, at most so long */

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct shared {
  redmoon_client *client;
  atomic_long calls;
  atomic_int redirects;
  atomic_bool stop;
} shared;

/* What a worker has done with its keys of a tag: {tag}n:<worker> is a counter, {tag}l:<worker> a list of numbers from 0,
 * {tag}v:<worker> holds the number written last; {tag}all is everybody's. */
typedef struct own {
  int64_t count, length, value, all;
} own;

typedef struct worker {
  shared *all;
  uint64_t rng;
  int number;
  own tags[TAGS];
  long done, pipelines, transactions, watched, wrong, surprises;
  char surprise[300];
} worker;

static uint64_t next(worker *w) { /* xorshift64* */
  w->rng ^= w->rng >> 12;
  w->rng ^= w->rng << 25;
  w->rng ^= w->rng >> 27;
  return w->rng * 2685821657736338717u;
}

static void surprise(worker *w, const char *what, const char *text) {
  if (w->surprises++ == 0) snprintf(w->surprise, sizeof w->surprise, "%s: %.250s", what, text);
}

static const char *key_of(char out[32], int tag, char kind, int worker_number) {
  snprintf(out, 32, "{tag%d}%c:%d", tag, kind, worker_number);
  return out;
}

static const char *all_of(char out[32], int tag) {
  snprintf(out, 32, "{tag%d}all", tag);
  return out;
}

static int slot_of_tag(int tag) {
  char key[32];
  all_of(key, tag);
  return rm_slot_of(key, strlen(key));
}

static void expect_integer(worker *w, const redmoon_reply *reply, int64_t expected, const char *what) {
  if (redmoon_reply_type(reply) == REDMOON_ERROR) surprise(w, what, redmoon_reply_string(reply, NULL));
  else if (redmoon_reply_type(reply) != REDMOON_INTEGER || redmoon_reply_integer(reply) != expected) w->wrong++;
}

static void expect_number(worker *w, const redmoon_reply *reply, int64_t expected, const char *what) {
  if (redmoon_reply_type(reply) == REDMOON_ERROR) {
    surprise(w, what, redmoon_reply_string(reply, NULL));
    return;
  }
  const char *text = redmoon_reply_string(reply, NULL);
  if ((text != NULL ? strtoll(text, NULL, 10) : 0) != expected) w->wrong++;
}

/* One kind of command on a worker's keys of a tag, in a single call, a pipeline or a transaction: what it is, and what its
 * answer must be. */
typedef struct step {
  int tag;
  char kind; /* n: INCR, l: RPUSH, v: SET, g: GET of v, a: INCR of everybody's */
  char key[32], text[24];
  const char *argv[3];
  int argc;
  int64_t expected;
} step;

static void make_step(worker *w, step *s) {
  static const char kinds[] = "nnlvga";
  s->tag = (int)(next(w) % TAGS);
  s->kind = kinds[next(w) % 6];
  own *mine = &w->tags[s->tag];
  key_of(s->key, s->tag, s->kind == 'g' ? 'v' : s->kind, w->number);
  s->argv[1] = s->key;
  s->argv[2] = s->text;
  s->argc = 2;
  s->expected = 0;
  if (s->kind == 'n') {
    s->argv[0] = "INCR";
    s->expected = ++mine->count;
  } else if (s->kind == 'l') {
    s->argv[0] = "RPUSH";
    s->argc = 3;
    snprintf(s->text, sizeof s->text, "%" PRId64, mine->length);
    s->expected = ++mine->length;
  } else if (s->kind == 'v') {
    s->argv[0] = "SET";
    s->argc = 3;
    snprintf(s->text, sizeof s->text, "%" PRId64, ++mine->value);
  } else if (s->kind == 'g') {
    s->argv[0] = "GET";
    s->expected = mine->value;
  } else {
    s->argv[0] = "INCR";
    all_of(s->key, s->tag);
    mine->all++;
  }
}

static void check_step(worker *w, const step *s, const redmoon_reply *reply) {
  if (reply == NULL) {
    surprise(w, s->argv[0], "no answer");
  } else if (s->kind == 'g') {
    expect_number(w, reply, s->expected, "GET");
  } else if (s->kind == 'n' || s->kind == 'l') {
    expect_integer(w, reply, s->expected, s->argv[0]);
  } else if (redmoon_reply_type(reply) == REDMOON_ERROR) {
    surprise(w, s->argv[0], redmoon_reply_string(reply, NULL));
  }
}

static void single(worker *w) {
  step s;
  redmoon_reply *reply = NULL;
  redmoon_error err;
  make_step(w, &s);
  if (redmoon_command(w->all->client, s.argc, s.argv, NULL, &reply, &err) != 0) surprise(w, s.argv[0], err.message);
  else check_step(w, &s, reply);
  redmoon_reply_free(reply);
}

static void pipeline(worker *w) {
  step steps[MAX_PIPELINE];
  size_t count = 2 + next(w) % (MAX_PIPELINE - 1);
  redmoon_pipeline *p = NULL;
  redmoon_error err;
  if (redmoon_pipeline_new(w->all->client, &p, &err) != 0) abort();
  for (size_t i = 0; i < count; i++) {
    make_step(w, &steps[i]);
    if (redmoon_pipeline_command(p, steps[i].argc, steps[i].argv, NULL, &err) < 0) abort();
  }
  if (redmoon_pipeline_run(p, &err) != 0) surprise(w, "pipeline", err.message);
  for (size_t i = 0; i < count; i++) check_step(w, &steps[i], redmoon_pipeline_result(p, i).reply);
  redmoon_pipeline_free(p);
  w->pipelines++;
}

/* A counter and a list of one tag, both or none. */
static void transaction(worker *w) {
  int tag = (int)(next(w) % TAGS);
  own *mine = &w->tags[tag];
  char counter[32], list[32], text[24];
  redmoon_transaction *tx = NULL;
  redmoon_reply *replies = NULL;
  redmoon_error err;
  key_of(counter, tag, 'n', w->number);
  key_of(list, tag, 'l', w->number);
  snprintf(text, sizeof text, "%" PRId64, mine->length);
  if (redmoon_transaction_begin(w->all->client, NULL, 0, NULL, &tx, &err) != 0) {
    surprise(w, "transaction", err.message);
    return;
  }
  if (redmoon_transaction_queue(tx, 2, ARGV("INCR", counter), NULL, &err) < 0 ||
      redmoon_transaction_queue(tx, 3, ARGV("RPUSH", list, text), NULL, &err) < 0)
    abort();
  if (redmoon_transaction_exec(tx, &replies, &err) != 0) {
    surprise(w, "EXEC", err.message);
  } else {
    expect_integer(w, redmoon_reply_at(replies, 0), ++mine->count, "INCR in a transaction");
    expect_integer(w, redmoon_reply_at(replies, 1), ++mine->length, "RPUSH in a transaction");
  }
  redmoon_reply_free(replies);
  redmoon_transaction_free(tx);
  w->transactions++;
}

static int add_one(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  const char *key = ctx;
  redmoon_reply *reply = NULL;
  char text[24];
  int rc = redmoon_transaction_command(tx, 2, ARGV("GET", key), NULL, &reply, err);
  if (rc != 0) return rc;
  const char *value = redmoon_reply_string(reply, NULL);
  snprintf(text, sizeof text, "%lld", (value != NULL ? strtoll(value, NULL, 10) : 0) + 1);
  redmoon_reply_free(reply);
  if ((rc = redmoon_transaction_multi(tx, err)) != 0) return rc;
  int64_t at = redmoon_transaction_queue(tx, 3, ARGV("SET", key, text), NULL, err);
  return at < 0 ? (int)at : 0;
}

/* Everybody's counter by WATCH, against the INCRs of the others. */
static void watched(worker *w) {
  int tag = (int)(next(w) % TAGS);
  char key[32];
  const redmoon_bytes watched_key = {all_of(key, tag), strlen(key)};
  redmoon_transaction_options options = {.max_attempts = 100};
  redmoon_reply *replies = NULL;
  redmoon_error err;
  if (redmoon_transaction_run(w->all->client, &watched_key, 1, add_one, key, &options, &replies, &err) != 0)
    surprise(w, "watched transaction", err.message);
  else w->tags[tag].all++;
  redmoon_reply_free(replies);
  w->watched++;
}

static void *work(void *arg) {
  worker *w = arg;
  while (!atomic_load(&w->all->stop)) {
    uint64_t draw = next(w) % 100;
    if (draw < 70) single(w);
    else if (draw < 85) pipeline(w);
    else if (draw < 95) transaction(w);
    else watched(w);
    w->done++;
    atomic_fetch_add(&w->all->calls, 1);
  }
  return NULL;
}

/* Moving. */

static void count_redirect(void *ctx, const redmoon_event *event) {
  (void)event;
  atomic_fetch_add((atomic_int *)ctx, 1);
}

/* Until the load has gone on a bit, so that it meets the slot as it is; or until it cannot. */
static void let_it_work(shared *all) {
  long limit = atomic_load(&all->calls) + STEP_CALLS;
  for (int ms = 0; ms < STEP_MS && atomic_load(&all->calls) < limit; ms++) poll(NULL, 0, 1);
}

static void move(cluster *c, shared *all, int tag, int turn) {
  int slot = slot_of_tag(tag), from = cluster_primary_of(c, slot);
  cluster_begin_move(c, slot, (from + 1 + turn % 2) % PRIMARIES);
  do let_it_work(all);
  while (cluster_move_keys(c, slot, STEP_KEYS) > 0);
  cluster_end_move(c, slot);
  let_it_work(all);
}

static void fill(redmoon_client *client) {
  char key[48];
  for (int tag = 0; tag < TAGS; tag++)
    for (int i = 0; i < FILLERS; i++) {
      redmoon_reply *reply = NULL;
      redmoon_error err;
      snprintf(key, sizeof key, "{tag%d}filler:%d", tag, i);
      if (redmoon_command(client, 3, ARGV("SET", key, "x"), NULL, &reply, &err) != 0) {
        printf("%s\n", err.message);
        exit(1);
      }
      redmoon_reply_free(reply);
    }
}

/* Judging. */

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static redmoon_reply *get(redmoon_client *client, const char *const *argv, int argc) {
  redmoon_reply *reply = NULL;
  redmoon_error err;
  if (redmoon_command(client, argc, argv, NULL, &reply, &err) != 0) printf("%s: %s\n", argv[0], err.message);
  return reply;
}

static int64_t number_at(redmoon_client *client, const char *key) {
  redmoon_reply *reply = get(client, ARGV("GET", key), 2);
  const char *text = reply != NULL ? redmoon_reply_string(reply, NULL) : NULL;
  int64_t value = text != NULL ? strtoll(text, NULL, 10) : 0;
  redmoon_reply_free(reply);
  return value;
}

static bool list_is_in_order(redmoon_client *client, const char *key, int64_t length) {
  redmoon_reply *reply = get(client, ARGV("LRANGE", key, "0", "-1"), 4);
  bool ok = reply != NULL && redmoon_reply_count(reply) == (size_t)length;
  for (size_t i = 0; ok && i < (size_t)length; i++)
    ok = strtoll(redmoon_reply_string(redmoon_reply_at(reply, i), NULL), NULL, 10) == (int64_t)i;
  redmoon_reply_free(reply);
  return ok;
}

static void judge(redmoon_client *client, const worker *workers) {
  worker sum = {0};
  long counters = 0, lists = 0, values = 0, totals = 0;
  int64_t writes = 0;
  char key[32];
  for (int i = 0; i < THREADS; i++) {
    const worker *w = &workers[i];
    sum.done += w->done;
    sum.pipelines += w->pipelines;
    sum.transactions += w->transactions;
    sum.watched += w->watched;
    sum.wrong += w->wrong;
    sum.surprises += w->surprises;
    if (w->surprises > 0) printf("surprise, %ld times: %s\n", w->surprises, w->surprise);
  }
  for (int tag = 0; tag < TAGS; tag++) {
    int64_t all = 0;
    for (int i = 0; i < THREADS; i++) {
      const own *mine = &workers[i].tags[tag];
      counters += number_at(client, key_of(key, tag, 'n', i)) != mine->count;
      values += number_at(client, key_of(key, tag, 'v', i)) != mine->value;
      lists += !list_is_in_order(client, key_of(key, tag, 'l', i), mine->length);
      all += mine->all;
      writes += mine->count + mine->length + mine->value + mine->all;
    }
    totals += number_at(client, all_of(key, tag)) != all;
  }
  printf("%ld calls, among them %ld pipelines, %ld transactions, %ld watched ones; %" PRId64 " writes\n", sum.done, sum.pipelines,
         sum.transactions, sum.watched, writes);
  check(sum.surprises == 0, "nobody saw a redirection, a refusal or any other failure");
  check(sum.wrong == 0, "every answer was that of its command, in the order of its key");
  check(counters == 0, "own counters were counted once");
  check(totals == 0, "everybody's counters were counted once");
  check(lists == 0, "lists are complete and in order");
  check(values == 0, "the last value is the last that was written");
}

static int64_t errors_of(cluster *c, const char *code) {
  char field[80];
  int64_t count = 0;
  snprintf(field, sizeof field, "errorstat_%s:count=", code);
  for (int i = 0; i < cluster_count(c); i++) {
    redmoon_reply *reply = cluster_ask(c, i, "INFO", "errorstats", NULL);
    const char *at = strstr(redmoon_reply_string(reply, NULL), field);
    if (at != NULL) count += strtoll(at + strlen(field), NULL, 10);
    redmoon_reply_free(reply);
  }
  return count;
}

int main(void) {
  const char *text = getenv("SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 20261126;
  text = getenv("REDMOON_SOAK_MOVES");
  int moves = text != NULL ? atoi(text) : MOVES;
  printf("SEED=%" PRIu64 " REDMOON_SOAK_MOVES=%d\n", seed, moves);
  cluster *c = cluster_start(&(cluster_options){.replicas = -1});
  static shared all;
  static worker workers[THREADS];
  pthread_t threads[THREADS];
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  uint64_t id;
  options.timeout_ms = options.read_timeout_ms = 60000; /* a busy machine is no failure */
  if (redmoon_client_open(cluster_url(c), &options, &all.client, &err) != 0 ||
      redmoon_client_on(all.client, REDMOON_EVENT_REDIRECT, count_redirect, &all.redirects, &id, &err) != 0) {
    printf("%s\n", err.message);
    return 1;
  }
  fill(all.client);
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (worker){.all = &all, .rng = seed + (uint64_t)i * 7919 + 1, .number = i};
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) abort();
  }
  for (int i = 0; i < moves; i++) move(c, &all, i % TAGS, i);
  atomic_store(&all.stop, true);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  judge(all.client, workers);
  int64_t moved = errors_of(c, "MOVED"), ask = errors_of(c, "ASK"), try_again = errors_of(c, "TRYAGAIN");
  printf("%d moves; nodes said MOVED %" PRId64 ", ASK %" PRId64 ", TRYAGAIN %" PRId64 " times; %d redirections followed\n", moves, moved,
         ask, try_again, atomic_load(&all.redirects));
  check(moved > 0 && ask > 0 && atomic_load(&all.redirects) > 0, "there was something to be redirected");
  redmoon_client_close(all.client);
  cluster_stop(c);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
