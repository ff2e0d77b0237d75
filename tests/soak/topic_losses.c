/* SPDX-License-Identifier: MIT */
/* A durable topic while links are cut, swallowed and killed, and its readers are killed (kill -9) between delivery and
 * acknowledgement.
 *
 *      publisher (a process)  1, 2, ... N
 *      subscriber             through a link that is lost REDMOON_SOAK_LOSSES times, with a small buffer: it has to get every
 *                             message, in order, once: what it missed is filled
 *      named readers          processes, through links that are lost at the same times.  A reader writes down what it has
 *                             handled before it acknowledges; it kills itself in between now and then, and is killed at any
 *                             moment; another life of it goes on.  Each has to handle every message, in order.
 *
 *  The control acknowledges first: then messages are lost, and that has to be found.  And: readers at a tenth of the speed,
 *  of a topic that keeps little: flat memory, and what was delivered and what was told to be missing are what was published.
 *
 *  REDMOON_SOAK_MESSAGES and REDMOON_SOAK_LOSSES say how many (1000000 and 1000 for long); SEED. */
#include "support/redis_server.h"
#include "support/stopper.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGES = 20000, LOSSES = 60, READERS = 3, CONTROL_MESSAGES = 3000, SLOW_MESSAGES = 20000 };
enum { DIE_ONE_IN = 400, KILL_ONE_IN = 400, ACK_MOST = 20, BUFFER_PART = 20, KEPT_BY_SLOW = 500 };
enum { OPENED = 1, HANDLED, ACKED, LAGGED, WRONG };

/* A line of a reader's file. */
typedef struct event {
  int64_t kind, seq;
} event;

static int passed, failed;

static void check(bool ok, const char *what) {
  if (ok) passed++;
  else failed++;
  printf("%s: %s\n", ok ? "ok" : "NOT OK", what);
}

static uint64_t next(uint64_t *rng) { /* xorshift64* */
  *rng ^= *rng >> 12;
  *rng ^= *rng << 25;
  *rng ^= *rng >> 27;
  return *rng * 2685821657736338717u;
}

static void die(const char *what) {
  perror(what);
  exit(1); /* children and server end with this process */
}

static void stop_on(const redmoon_error *err) {
  fprintf(stderr, "%s: %s\n", err->code, err->message);
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static redmoon_client *open_at(const char *url) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_client *client = NULL;
  redmoon_error err;
  options.read_timeout_ms = 200; /* what is swallowed is found soon */
  options.timeout_ms = 2000;
  if (redmoon_client_open(url, &options, &client, &err) != 0) stop_on(&err);
  return client;
}

static redmoon_topic *durable_of(redmoon_client *client, int64_t length) {
  redmoon_topic_options options = REDMOON_TOPIC_OPTIONS_INIT;
  options.durable = 1;
  options.length = length;
  redmoon_topic *topic = NULL;
  redmoon_error err;
  if (redmoon_topic_new(client, "soak", 4, &options, &topic, &err) != 0) stop_on(&err);
  return topic;
}

static void publish_numbers(const char *url, long count, int64_t length) {
  redmoon_client *client = open_at(url);
  redmoon_topic *topic = durable_of(client, length);
  redmoon_error err;
  for (long i = 1; i <= count; i++) {
    char payload[32];
    redmoon_topic_published published;
    int len = snprintf(payload, sizeof payload, "%ld", i);
    if (redmoon_topic_publish(topic, payload, (size_t)len, NULL, &published, &err) != 0) stop_on(&err);
    if (published.seq != i) exit(2);
  }
  redmoon_topic_free(topic);
  redmoon_client_close(client);
}

static pid_t give_birth(void) {
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) die("fork");
  if (pid > 0) return pid;
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(1);
  return 0;
}

/* A reader's process. */

typedef struct life {
  const char *url;
  long count;
  int file, number;
  uint64_t rng;
  bool acks_first; /* the control */
} life;

static void note(const life *l, int64_t kind, int64_t seq) {
  event e = {kind, seq};
  if (write(l->file, &e, sizeof e) != (ssize_t)sizeof e) die("write");
}

static void acknowledge(const life *l, redmoon_topic_cursor *cursor) {
  redmoon_error err;
  redmoon_topic_cursor_counts counts;
  if (redmoon_topic_cursor_ack(cursor, 0, &err) != 0) return;
  redmoon_topic_cursor_stats(cursor, &counts);
  note(l, ACKED, counts.acked);
}

static void handle(life *l, redmoon_topic_cursor *cursor, const redmoon_topic_message *message) {
  bool dies = next(&l->rng) % DIE_ONE_IN == 0;
  if (message->kind != REDMOON_MESSAGE) {
    note(l, LAGGED, message->to);
    return;
  }
  if (strtol(message->payload, NULL, 10) != message->seq) note(l, WRONG, message->seq);
  if (l->acks_first) {
    acknowledge(l, cursor);
    if (dies) raise(SIGKILL);
    note(l, HANDLED, message->seq);
    return;
  }
  note(l, HANDLED, message->seq);
  if (dies) raise(SIGKILL);
  if (next(&l->rng) % ACK_MOST == 0 || message->seq == l->count) acknowledge(l, cursor);
}

/* Until all is acknowledged, or the cursor is another's. */
static bool read_all(life *l, redmoon_topic *topic) {
  char name[16];
  int len = snprintf(name, sizeof name, "reader-%d", l->number);
  redmoon_topic_cursor_options options = REDMOON_TOPIC_CURSOR_OPTIONS_INIT;
  redmoon_topic_cursor *cursor = NULL;
  redmoon_topic_cursor_counts counts = {0};
  redmoon_error err;
  options.from = "start";
  if (redmoon_topic_cursor_open(topic, name, (size_t)len, &options, &cursor, &err) != 0) return false;
  note(l, OPENED, 0);
  for (int status = 0; status != REDMOON_ELOST && counts.acked < l->count;) {
    redmoon_topic_message *message = NULL;
    status = redmoon_topic_cursor_receive(cursor, 50, &message, &err);
    if (status == 0 && message != NULL) handle(l, cursor, message);
    else if (counts.seq == l->count) acknowledge(l, cursor); /* the last one may have failed */
    redmoon_topic_message_free(message);
    redmoon_topic_cursor_stats(cursor, &counts);
  }
  redmoon_topic_cursor_close(cursor);
  return counts.acked >= l->count;
}

static void live(life l) {
  redmoon_client *client = open_at(l.url);
  redmoon_topic *topic = durable_of(client, l.count);
  while (!read_all(&l, topic)) poll(NULL, 0, 1);
  _exit(0); /* what it holds ends with it, as when it is killed */
}

/* The conductor: it subscribes, loses links and kills readers. */

typedef struct conductor {
  redis_server *server;
  stopper *proxy;
  redmoon_client *client;
  long count, losses, lost, kills, suicides;
  uint64_t rng;
  bool control;
  int files[READERS];
  pid_t pids[READERS]; /* 0: it is through */
} conductor;

static void spawn(conductor *c, int number) {
  life l = {c->control ? redis_server_url(c->server) : stopper_url(c->proxy), c->count, c->files[number], number,
            next(&c->rng) | 1, c->control};
  fflush(NULL); /* or the child prints it again */
  c->pids[number] = give_birth();
  if (c->pids[number] == 0) live(l);
}

/* Brings back those that died; whether some are not through. */
static bool tend(conductor *c) {
  bool more = false;
  for (int i = 0; i < READERS; i++) {
    if (c->pids[i] == 0) continue;
    int status;
    more = true;
    bool killed = next(&c->rng) % KILL_ONE_IN == 0;
    if (killed) kill(c->pids[i], SIGKILL);
    if (waitpid(c->pids[i], &status, killed ? 0 : WNOHANG) != c->pids[i]) continue;
    if (WIFEXITED(status)) {
      if (WEXITSTATUS(status) != 0) die("a reader");
      c->pids[i] = 0;
      continue;
    }
    if (killed) c->kills++;
    else c->suicides++;
    spawn(c, i);
  }
  return more;
}

static void lose(conductor *c) {
  static const char *const kill_pubsub[] = {"CLIENT", "KILL", "TYPE", "pubsub"};
  redmoon_reply *reply = NULL;
  redmoon_error err;
  switch (c->lost++ % 3) {
  case 0: stopper_cut(c->proxy); break;
  case 1: stopper_swallow(c->proxy); break;
  default:
    if (redmoon_command(c->client, 4, kill_pubsub, NULL, &reply, &err) != 0) stop_on(&err);
    redmoon_reply_free(reply);
  }
}

/* Whether every message came, in order and once. */
static bool subscribe_and_lose(conductor *c, redmoon_topic_reader *reader) {
  redmoon_topic_counts counts;
  redmoon_error err;
  int64_t seen = 0;
  bool good = true, more = true;
  while (good && (seen < c->count || c->lost < c->losses || more)) {
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_receive(reader, seen < c->count ? 5 : 1, &message, &err) != 0) stop_on(&err);
    if (message != NULL) {
      good = message->kind == REDMOON_MESSAGE && message->seq == ++seen && strtol(message->payload, NULL, 10) == seen;
    }
    redmoon_topic_message_free(message);
    if (message == NULL || seen % 16 == 0) more = tend(c);
    redmoon_topic_reader_stats(reader, &counts);
    bool due = c->lost < c->losses && seen >= c->count / c->losses * c->lost;
    if (due && counts.connected && counts.reconnects >= (uint64_t)c->lost) lose(c);
  }
  redmoon_topic_reader_stats(reader, &counts);
  printf("subscriber: %" PRIu64 " delivered, %" PRIu64 " of them filled, %" PRIu64 " missing, %" PRIu64 " links lost\n",
         counts.delivered, counts.filled, counts.lost, counts.reconnects);
  return good && counts.delivered == (uint64_t)c->count && counts.gaps == 0;
}

/* Judgement of a reader's file. */

typedef struct verdict {
  long lives, skipped, disorder, again, lagged, wrong, taken_back;
  int64_t last, acked;
} verdict;

static void judge_event(verdict *v, const event *e, bool *fresh, int64_t *at) {
  switch (e->kind) {
  case OPENED: v->lives++, *fresh = true; break;
  case ACKED: v->acked = e->seq > v->acked ? e->seq : v->acked; break;
  case LAGGED: v->lagged++; break;
  case WRONG: v->wrong++; break;
  default:
    if (e->seq > v->last + 1) v->skipped += e->seq - v->last - 1;
    if (*fresh) v->taken_back += e->seq <= v->acked; /* acknowledged, and given again */
    else v->disorder += e->seq != *at + 1;
    v->again += e->seq <= v->last;
    v->last = e->seq > v->last ? e->seq : v->last;
    *at = e->seq;
    *fresh = false;
  }
}

static verdict judge(int file, int64_t count) {
  verdict v = {0};
  struct stat st;
  if (fstat(file, &st) != 0) die("fstat");
  size_t events = (size_t)st.st_size / sizeof(event);
  event *all = malloc((size_t)st.st_size + 1);
  if (all == NULL || pread(file, all, (size_t)st.st_size, 0) != st.st_size) die("read");
  bool fresh = true;
  int64_t at = 0;
  for (size_t i = 0; i < events; i++) judge_event(&v, &all[i], &fresh, &at);
  free(all);
  v.skipped += v.last < count ? count - v.last : 0;
  return v;
}

static void judge_readers(conductor *c) {
  verdict sum = {0};
  for (int i = 0; i < READERS; i++) {
    verdict v = judge(c->files[i], c->count);
    printf("reader %d: %ld lives, up to %" PRId64 ", %ld again, %ld never\n", i, v.lives, v.last, v.again, v.skipped);
    sum.lives += v.lives;
    sum.skipped += v.skipped;
    sum.disorder += v.disorder;
    sum.again += v.again;
    sum.lagged += v.lagged;
    sum.wrong += v.wrong;
    sum.taken_back += v.taken_back;
  }
  printf("%ld killed, %ld by themselves between delivery and acknowledgement\n", c->kills, c->suicides);
  if (c->control) {
    check(sum.skipped > 0, "what was acknowledged first is found to be lost");
    return;
  }
  check(sum.skipped == 0, "each named reader handled every message");
  check(sum.disorder == 0 && sum.wrong == 0, "in order");
  check(sum.taken_back == 0, "nothing that was acknowledged came again");
  check(sum.again > 0 && c->suicides > 0, "what was delivered and not acknowledged came again");
  check(sum.lagged == 0, "nothing was let go");
}

static void run(const char *title, long count, long losses, uint64_t seed, bool control) {
  printf("%s:\n", title);
  fflush(NULL);
  conductor c = {.count = count, .losses = losses, .rng = seed, .control = control};
  double began = seconds();
  c.server = redis_server_start(NULL);
  c.proxy = stopper_start(redis_server_path(c.server));
  for (int i = 0; i < READERS; i++) {
    char path[300];
    snprintf(path, sizeof path, "%s/reader-%d", redis_server_dir(c.server), i);
    c.files[i] = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    if (c.files[i] < 0) die(path);
    spawn(&c, i);
  }
  c.client = open_at(redis_server_url(c.server));
  redmoon_client *listener = open_at(stopper_url(c.proxy));
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  options.buffer = count / BUFFER_PART;
  options.ping_interval_ms = 25;
  options.min_backoff_ms = 1;
  options.max_backoff_ms = 5;
  redmoon_topic *topic = durable_of(listener, count);
  redmoon_topic_reader *reader = NULL;
  redmoon_error err;
  if (redmoon_topic_subscribe(topic, &options, &reader, &err) != 0) stop_on(&err);
  fflush(NULL);
  pid_t publisher = give_birth();
  if (publisher == 0) {
    publish_numbers(redis_server_url(c.server), count, count);
    _exit(0);
  }
  bool good = subscribe_and_lose(&c, reader);
  int status;
  if (waitpid(publisher, &status, 0) != publisher || status != 0) die("publisher");
  printf("%ld messages, %ld losses, %.1f s\n", count, c.lost, seconds() - began);
  check(good, "the subscriber got every message, in order and once");
  judge_readers(&c);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
  redmoon_client_close(listener);
  redmoon_client_close(c.client);
  for (int i = 0; i < READERS; i++) close(c.files[i]);
  stopper_stop(c.proxy);
  redis_server_stop(c.server);
}

/* Readers at a tenth of the speed. */

typedef struct flood {
  const char *url;
  long count;
  atomic_long published;
} flood;

static void *run_flood(void *arg) {
  flood *f = arg;
  redmoon_client *client = open_at(f->url);
  redmoon_topic *topic = durable_of(client, KEPT_BY_SLOW);
  char payload[1000];
  redmoon_error err;
  memset(payload, 'x', sizeof payload);
  for (long i = 1; i <= f->count; i++) {
    if (redmoon_topic_publish(topic, payload, sizeof payload, NULL, NULL, &err) != 0) stop_on(&err);
    atomic_store(&f->published, i);
  }
  redmoon_topic_free(topic);
  redmoon_client_close(client);
  return NULL;
}

typedef struct tally {
  int64_t delivered, missing;
  bool disorder;
} tally;

static void count_message(tally *t, redmoon_topic_message *message) {
  if (message == NULL) return;
  int64_t expected = t->delivered + t->missing + 1;
  if (message->kind == REDMOON_MESSAGE) {
    t->disorder |= message->seq != expected;
    t->delivered++;
  } else {
    t->disorder |= message->from != expected;
    t->missing += message->to - message->from + 1;
  }
  redmoon_topic_message_free(message);
}

static void read_slowly(long count) {
  printf("slow:\n");
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_topic *topic = durable_of(client, KEPT_BY_SLOW);
  redmoon_subscription_options options = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  redmoon_topic_cursor *cursor = NULL;
  redmoon_topic_reader *reader = NULL;
  redmoon_error err;
  options.buffer = 100;
  if (redmoon_topic_subscribe(topic, &options, &reader, &err) != 0) stop_on(&err);
  if (redmoon_topic_cursor_open(topic, "slow", 4, NULL, &cursor, &err) != 0) stop_on(&err);
  flood f = {.url = redis_server_url(server), .count = count};
  pthread_t thread;
  tally plain = {0}, named = {0};
  size_t before = mallinfo2().uordblks, most = 0;
  if (pthread_create(&thread, NULL, run_flood, &f) != 0) die("pthread_create");
  for (long reads = 1; plain.delivered + plain.missing < count || named.delivered + named.missing < count; reads++) {
    long published;
    while ((published = atomic_load(&f.published)) < reads * 10 && published < count) sched_yield();
    redmoon_topic_message *message = NULL;
    if (redmoon_topic_receive(reader, 5, &message, &err) != 0) stop_on(&err);
    count_message(&plain, message);
    if (redmoon_topic_cursor_receive(cursor, 5, &message, &err) != 0) stop_on(&err);
    count_message(&named, message);
    if (reads % 20 == 0 && redmoon_topic_cursor_ack(cursor, 0, &err) != 0) stop_on(&err);
    size_t now = mallinfo2().uordblks;
    if (now > before && now - before > most) most = now - before;
  }
  pthread_join(thread, NULL);
  char *memory = redis_server_ask(server, NULL, "MEMORY USAGE redmoon:{soak}:topic.log SAMPLES 0");
  long kept = strtol(memory + 1, NULL, 10);
  free(memory);
  redmoon_topic_counts counts;
  redmoon_topic_cursor_counts own;
  redmoon_topic_reader_stats(reader, &counts);
  redmoon_topic_cursor_stats(cursor, &own);
  printf("subscriber %" PRId64 " + %" PRId64 ", named reader %" PRId64 " + %" PRId64 " of %ld; %zu KB here, %ld KB kept\n",
         plain.delivered, plain.missing, named.delivered, named.missing, count, most / 1024, kept / 1024);
  check(!plain.disorder && !named.disorder, "in order, none twice");
  check(plain.delivered + plain.missing == count && plain.missing > 0, "subscriber: delivered + missing = published");
  check(named.delivered + named.missing == count && named.missing > 0, "named reader: delivered + missed = published");
  check(counts.delivered == (uint64_t)plain.delivered && counts.lost == (uint64_t)plain.missing &&
            own.delivered == (uint64_t)named.delivered && own.missed == (uint64_t)named.missing,
        "the counters are exact");
  check(most < (size_t)4 << 20 && kept < (long)2 << 20, "memory is flat"); /* of 20 MB and more that came, twice */
  redmoon_topic_cursor_close(cursor);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
  redmoon_client_close(client);
  redis_server_stop(server);
}

static long number_of(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text != NULL ? atol(text) : otherwise;
}

int main(void) {
  uint64_t seed = (uint64_t)number_of("SEED", 20261126);
  long messages = number_of("REDMOON_SOAK_MESSAGES", MESSAGES), losses = number_of("REDMOON_SOAK_LOSSES", LOSSES);
  printf("SEED=%" PRIu64 " REDMOON_SOAK_MESSAGES=%ld REDMOON_SOAK_LOSSES=%ld\n", seed, messages, losses);
  run("losses", messages, losses, seed | 1, false);
  run("acknowledged first", CONTROL_MESSAGES, 0, seed + 2, true);
  read_slowly(messages > SLOW_MESSAGES ? messages : SLOW_MESSAGES);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
