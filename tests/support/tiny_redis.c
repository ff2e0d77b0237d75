/* SPDX-License-Identifier: MIT */
/* The tagged server in miniature. */
#include "support/tiny_redis.h"

#include "base/clock.h"
#include "engine/op.h"
#include "support/certs.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_QUEUE = 64 };

typedef struct entry {
  struct entry *next;
  char *key, *value;
} entry;

struct tiny_redis {
  fake_server *server;
  tiny_options options;
  char url[300];
  int reached_fd;
  pthread_mutex_t mutex; /* guards what follows */
  bool armed, at_connection, reached;
  tiny_place place;
  tiny_end end;
  size_t at, cut_peer;
  size_t received, sent;
  entry *store;
  uint64_t *killed; /* connections, bit by bit */
  size_t killed_words;
  const char *refused;
  bool forgot_scripts;
};

typedef struct session {
  tiny_redis *tiny;
  fake_peer *peer;
  bool resp3, queuing;
  bool has_login, has_name, has_database;
  const fake_command *queue[MAX_QUEUE];
  size_t queued;
  bool cutting;  /* the replies */
  size_t budget; /* how many bytes may leave before the cut */
  bool late;     /* it was held: commands that were received are executed, whether or not anybody hears of it */
} session;

static void die(const char *what) {
  perror(what);
  abort();
}

static char *copy_text(const char *text) {
  char *copy = strdup(text);
  if (copy == NULL) die("strdup");
  return copy;
}

/* The store (with the mutex held). */

static entry *find(tiny_redis *t, const char *key) {
  for (entry *e = t->store; e != NULL; e = e->next)
    if (strcmp(e->key, key) == 0) return e;
  return NULL;
}

static void put(tiny_redis *t, const char *key, const char *value) {
  entry *e = find(t, key);
  if (e == NULL) {
    e = calloc(1, sizeof *e);
    if (e == NULL) die("calloc");
    e->key = copy_text(key);
    e->next = t->store;
    t->store = e;
  }
  free(e->value);
  e->value = copy_text(value);
}

static int64_t increment(tiny_redis *t, const char *key) {
  const entry *e = find(t, key);
  int64_t value = (e != NULL ? strtoll(e->value, NULL, 10) : 0) + 1;
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  put(t, key, text);
  return value;
}

static void forget(tiny_redis *t) {
  while (t->store != NULL) {
    entry *e = t->store;
    t->store = e->next;
    free(e->key);
    free(e->value);
    free(e);
  }
}

static bool is_killed(tiny_redis *t, size_t peer) {
  return peer / 64 < t->killed_words && (t->killed[peer / 64] >> peer % 64 & 1) != 0;
}

static void kill_peer(tiny_redis *t, size_t peer) {
  if (peer / 64 >= t->killed_words) {
    size_t words = peer / 64 + 16;
    t->killed = realloc(t->killed, words * sizeof *t->killed);
    if (t->killed == NULL) die("realloc");
    memset(t->killed + t->killed_words, 0, (words - t->killed_words) * sizeof *t->killed);
    t->killed_words = words;
  }
  t->killed[peer / 64] |= (uint64_t)1 << peer % 64;
}

/* Commands (with the mutex held). */

static void say_integer(fake_bytes *reply, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, ":%" PRId64 "\r\n", value);
  fake_append_text(reply, text);
}

static void say_value(const session *s, const char *key, fake_bytes *reply) {
  char text[64];
  const entry *e = find(s->tiny, key);
  if (key[0] == 't') {
    snprintf(text, sizeof text, "v%.60s", key + 1);
    fake_append_bulk(reply, text, strlen(text));
  } else if (e != NULL) {
    fake_append_bulk(reply, e->value, strlen(e->value));
  } else {
    fake_append_text(reply, s->resp3 ? "_\r\n" : "$-1\r\n");
  }
}

static void execute(session *s, const fake_command *c, fake_bytes *reply) {
  if (fake_is(c, "GET") && c->argc == 2) {
    say_value(s, c->argv[1], reply);
  } else if (fake_is(c, "SET") && c->argc >= 3) {
    put(s->tiny, c->argv[1], c->argv[2]);
    fake_append_text(reply, "+OK\r\n");
  } else if (fake_is(c, "INCR") && c->argc == 2) {
    say_integer(reply, increment(s->tiny, c->argv[1]));
  } else if (fake_is(c, "EVALSHA") && s->tiny->forgot_scripts) {
    fake_append_text(reply, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
  } else if ((fake_is(c, "EVALSHA") || fake_is(c, "EVAL")) && c->argc >= 4) {
    s->tiny->forgot_scripts = false;
    say_value(s, c->argv[3], reply);
  } else if (fake_is(c, "PING")) {
    fake_append_text(reply, "+PONG\r\n");
  } else if (fake_is(c, "SCRIPT") && c->argc == 3) {
    s->tiny->forgot_scripts = false;
    fake_append_bulk(reply, "0123456789012345678901234567890123456789", 40);
  } else {
    fake_append_text(reply, "-ERR the tiny server does not know this\r\n");
  }
}

static void execute_queue(session *s, fake_bytes *reply) {
  char text[32];
  snprintf(text, sizeof text, "*%zu\r\n", s->queued);
  fake_append_text(reply, text);
  for (size_t i = 0; i < s->queued; i++) execute(s, s->queue[i], reply);
  s->queuing = false;
  s->queued = 0;
}

static void kill_client(session *s, const fake_command *c, fake_bytes *reply) {
  size_t id = strtoul(c->argv[3], NULL, 10);
  if (id > 0 && id - 1 != fake_index(s->peer)) kill_peer(s->tiny, id - 1);
  say_integer(reply, 1);
}

/* "<word> <value>" from argument `at` on. */
static bool says(const fake_command *c, size_t at, const char *word, const char *value) {
  return c->argc > at + 1 && strcasecmp(c->argv[at], word) == 0 && strcmp(c->argv[at + 1], value) == 0;
}

/* What of the login a command of the handshake brought. */
static void note_login(session *s, const fake_command *c) {
  if (fake_is(c, "HELLO") && !s->resp3) return; /* it was refused as a whole */
  for (size_t i = 0; i < c->argc; i++) {
    bool may_hold = fake_is(c, "HELLO") || i == (fake_is(c, "CLIENT") ? 1u : 0u);
    if (!may_hold) continue;
    if (says(c, i, "AUTH", TINY_USER) && c->argc > i + 2 && strcmp(c->argv[i + 2], TINY_PASSWORD) == 0)
      s->has_login = true;
    if (says(c, i, "SETNAME", TINY_NAME)) s->has_name = true;
    if (c->argc == 2 && says(c, i, "SELECT", "5")) s->has_database = true;
  }
}

/* As a real server: without a login the rest of a handshake is not done. */
static bool lacks_login(const session *s, const fake_command *c) {
  return s->tiny->options.login && !s->has_login && !fake_is(c, "HELLO") && !fake_is(c, "AUTH");
}

/* True for one that belongs to a handshake. */
static bool answer(session *s, const fake_command *c, fake_bytes *reply) {
  size_t before = reply->len;
  if (fake_answer_handshake(s->peer, c, reply)) {
    if (lacks_login(s, c)) {
      reply->len = before;
      fake_append_text(reply, "-NOAUTH Authentication required.\r\n");
      return true;
    }
    if (fake_is(c, "HELLO")) s->resp3 = reply->ptr[0] == '%';
    note_login(s, c);
    return true;
  }
  if (s->tiny->options.login && !(s->has_login && s->has_name && s->has_database)) {
    fake_append_text(reply, "-NOAUTH user, password, name or database is missing\r\n");
  } else if (s->tiny->refused != NULL && fake_is(c, s->tiny->refused)) {
    fake_append_text(reply, "-NOPERM this user may not do that\r\n");
  } else if (fake_is(c, "CLIENT") && c->argc == 4) {
    kill_client(s, c, reply);
  } else if (fake_is(c, "WATCH") || fake_is(c, "UNWATCH")) {
    fake_append_text(reply, "+OK\r\n");
  } else if (fake_is(c, "MULTI")) {
    s->queuing = true;
    fake_append_text(reply, "+OK\r\n");
  } else if (fake_is(c, "EXEC")) {
    execute_queue(s, reply);
  } else if (s->queuing && s->queued < MAX_QUEUE) {
    s->queue[s->queued++] = c;
    fake_append_text(reply, "+QUEUED\r\n");
  } else {
    execute(s, c, reply);
  }
  return false;
}

/* The cut. */

/* All before the cut has left.  True: the connection goes on (late). */
static bool at_cut(session *s) {
  tiny_redis *t = s->tiny;
  pthread_mutex_lock(&t->mutex);
  t->reached = true;
  t->cut_peer = fake_index(s->peer);
  tiny_end end = t->end;
  pthread_mutex_unlock(&t->mutex);
  if (end == TINY_CLOSE) fake_close(s->peer);
  uint64_t one = 1;
  if (write(t->reached_fd, &one, sizeof one) < 0) die("eventfd");
  if (end == TINY_CLOSE || !fake_await_release(s->peer)) return false;
  pthread_mutex_lock(&t->mutex);
  bool killed = is_killed(t, fake_index(s->peer));
  pthread_mutex_unlock(&t->mutex);
  s->late = !killed;
  return !killed;
}

/* With the mutex held, before the reply leaves: whether the cut that is set begins behind this moment. */
static bool take_cut(tiny_redis *t, bool at_connection, tiny_place *place, size_t *at) {
  bool begins = t->armed && t->at_connection == at_connection;
  if (begins) t->armed = false;
  *place = t->place;
  *at = t->at;
  return begins;
}

static void begin_cut(session *s, tiny_place place, size_t at) {
  if (place == TINY_REQUEST) {
    fake_limit(s->peer, at);
    return;
  }
  s->cutting = true;
  s->budget = at;
}

/* The next command; if the cut comes before it and lets the connection go on, the one behind the cut. */
static bool next_command(session *s, const fake_command **command) {
  if (fake_next(s->peer, command)) return true;
  return fake_end_limit(s->peer) && at_cut(s) && fake_next(s->peer, command);
}

static bool send_reply(session *s, const fake_bytes *reply) {
  if (!s->cutting) return fake_send(s->peer, reply->ptr, reply->len);
  if (reply->len <= s->budget) {
    s->budget -= reply->len;
    return fake_send(s->peer, reply->ptr, reply->len);
  }
  s->cutting = false;
  return fake_send(s->peer, reply->ptr, s->budget) && at_cut(s) &&
         fake_send(s->peer, reply->ptr + s->budget, reply->len - s->budget);
}

static size_t digits(size_t n) {
  char text[32];
  return (size_t)snprintf(text, sizeof text, "%zu", n);
}

static size_t encoded_len(const fake_command *c) {
  size_t len = 3 + digits(c->argc);
  for (size_t i = 0; i < c->argc; i++) len += 5 + digits(c->lens[i]) + c->lens[i];
  return len;
}

static void serve(fake_peer *peer, void *ctx) {
  tiny_redis *t = ctx;
  session s = {.tiny = t, .peer = peer};
  fake_bytes reply = {0};
  const fake_command *command;
  tiny_place place;
  size_t at;
  pthread_mutex_lock(&t->mutex);
  bool cuts = take_cut(t, true, &place, &at), goes_on = true;
  pthread_mutex_unlock(&t->mutex);
  if (cuts) begin_cut(&s, place, at);
  while (goes_on && next_command(&s, &command)) {
    reply.len = 0;
    pthread_mutex_lock(&t->mutex);
    goes_on = !is_killed(t, fake_index(peer));
    bool handshake = goes_on && answer(&s, command, &reply);
    cuts = goes_on && !handshake && take_cut(t, false, &place, &at);
    t->received += encoded_len(command);
    t->sent += reply.len;
    pthread_mutex_unlock(&t->mutex);
    goes_on = goes_on && (send_reply(&s, &reply) || s.late);
    if (cuts) begin_cut(&s, place, at);
  }
  free(reply.ptr);
}

/* The test's side. */

static void start_server(tiny_redis *t) {
  fake_options options = {.script = serve, .ctx = t, .resp2 = t->options.resp2, .tcp = t->options.tls};
  if (!t->options.tls) {
    t->server = fake_server_start(&options);
    snprintf(t->url, sizeof t->url, "unix://%s", fake_server_path(t->server));
    return;
  }
  const certs *c = certs_get();
  if (c == NULL) die("certificates");
  options.cert_file = c->good.cert;
  options.key_file = c->good.key;
  t->server = fake_server_start(&options);
  snprintf(t->url, sizeof t->url, "rediss://127.0.0.1:%d?tls_ca_file=%s", fake_server_port(t->server), c->ca_file);
}

tiny_redis *tiny_redis_start(const tiny_options *options) {
  tiny_redis *t = calloc(1, sizeof *t);
  if (t == NULL) die("calloc");
  if (options != NULL) t->options = *options;
  pthread_mutex_init(&t->mutex, NULL);
  t->reached_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (t->reached_fd < 0) die("eventfd");
  start_server(t);
  return t;
}

void tiny_redis_stop(tiny_redis *t) {
  if (t == NULL) return;
  fake_server_stop(t->server);
  forget(t);
  free(t->killed);
  close(t->reached_fd);
  pthread_mutex_destroy(&t->mutex);
  free(t);
}

const char *tiny_redis_url(const tiny_redis *t) { return t->url; }
fake_server *tiny_redis_server(tiny_redis *t) { return t->server; }
int tiny_redis_reached_fd(const tiny_redis *t) { return t->reached_fd; }
void tiny_redis_go_on(tiny_redis *t) { fake_server_release(t->server); }

static void set_cut(tiny_redis *t, bool at_connection, tiny_place place, size_t at, tiny_end end) {
  uint64_t count;
  if (read(t->reached_fd, &count, sizeof count) < 0) count = 0; /* nothing was there */
  pthread_mutex_lock(&t->mutex);
  t->armed = true;
  t->reached = false;
  t->at_connection = at_connection;
  t->place = place;
  t->at = at;
  t->end = end;
  pthread_mutex_unlock(&t->mutex);
}

void tiny_redis_cut(tiny_redis *t, tiny_place place, size_t at, tiny_end end) { set_cut(t, false, place, at, end); }

void tiny_redis_cut_connection(tiny_redis *t, tiny_place place, size_t at, tiny_end end) {
  set_cut(t, true, place, at, end);
}

bool tiny_redis_is_reached(tiny_redis *t) {
  pthread_mutex_lock(&t->mutex);
  bool reached = t->reached;
  pthread_mutex_unlock(&t->mutex);
  return reached;
}

size_t tiny_redis_cut_peer(tiny_redis *t) {
  pthread_mutex_lock(&t->mutex);
  size_t peer = t->cut_peer;
  pthread_mutex_unlock(&t->mutex);
  return peer;
}

size_t tiny_redis_bytes(tiny_redis *t, tiny_place place) {
  pthread_mutex_lock(&t->mutex);
  size_t bytes = place == TINY_REQUEST ? t->received : t->sent;
  pthread_mutex_unlock(&t->mutex);
  return bytes;
}

int64_t tiny_redis_counter(tiny_redis *t, const char *key) {
  pthread_mutex_lock(&t->mutex);
  const entry *e = find(t, key);
  int64_t value = e != NULL ? strtoll(e->value, NULL, 10) : 0;
  pthread_mutex_unlock(&t->mutex);
  return value;
}

void tiny_redis_forget_scripts(tiny_redis *t) {
  pthread_mutex_lock(&t->mutex);
  t->forgot_scripts = true;
  pthread_mutex_unlock(&t->mutex);
}

void tiny_redis_refuse(tiny_redis *t, const char *name) {
  pthread_mutex_lock(&t->mutex);
  t->refused = name;
  pthread_mutex_unlock(&t->mutex);
}

bool tiny_redis_step(tiny_redis *t, redmoon_op *op, int64_t ahead_us) {
  for (;;) {
    bool reached = t != NULL && tiny_redis_is_reached(t);
    int64_t now_us = rm_clock_now_us() + ahead_us;
    if (op->status == RM_WAIT) op->status = op->class->step(op, now_us);
    if (op->status != RM_WAIT) return true;
    if (reached) return false;
    struct pollfd fds[] = {{.fd = op->wants.fd}, {.fd = t != NULL ? t->reached_fd : -1, .events = POLLIN}};
    if ((op->wants.events & REDMOON_WANT_READ) != 0) fds[0].events |= POLLIN;
    if ((op->wants.events & REDMOON_WANT_WRITE) != 0) fds[0].events |= POLLOUT;
    poll(fds, 2, rm_poll_timeout_ms(now_us, op->wants.until_us));
  }
}
