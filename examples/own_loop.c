/* SPDX-License-Identifier: MIT */
/* A C program with a loop of its own: one thread, one poll(), and many operations under way.  Nothing in it blocks.
 *
 *     cc -D_POSIX_C_SOURCE=200809L own_loop.c $(pkg-config --cflags --libs redmoon) -o own_loop && ./own_loop [URL]
 *
 *     start --> step --0--> wants {fd, events, timeout} --> poll --> step --> ...
 *                 \---1--> finish: status, and what the _start was given to write to
 *
 * It counts with several commands side by side, hands a lock from one operation to another, receives messages by the
 * descriptor of a subscription, and cancels a command that would wait for ever.  Without a URL and without $REDIS_URL a
 * private server is started (which does block, before the loop). */
#include <poll.h>
#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNTERS = 8, ROUNDS = 100, MESSAGES = 3, TASKS = COUNTERS + 8 };

typedef struct program program;
typedef struct task task;
typedef void (*done_fn)(program *self, task *t);

/* An operation under way and what comes after it. */
struct task {
  redmoon_op *op; /* NULL: the place is free */
  done_fn done;   /* called with what the operation wrote, if it succeeded */
  int fd;         /* of its last step: what poll() is asked for */
  short events;
  int64_t by_ms; /* step again then, whatever poll() says; 0: now */
  redmoon_reply *reply;
  redmoon_lock *lock;
  int rounds;
};

struct program {
  redmoon_client *client;
  redmoon_subscription *subscription; /* NULL: not yet */
  task tasks[TASKS];                  /* they stay where they are: operations write into them */
  task *waits_for_ever;
  int counted, received, published, locked;
  bool failed;
};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void fail(program *self, const char *what, const char *why) {
  fprintf(stderr, "own_loop: %s: %s\n", what, why);
  self->failed = true;
}

/* The loop. */

static task *new_task(program *self, done_fn done) {
  for (int i = 0; i < TASKS; i++) {
    if (self->tasks[i].done != NULL) continue;
    self->tasks[i] = (task){.done = done, .fd = -1};
    return &self->tasks[i];
  }
  fail(self, "new task", "there are enough of them");
  return NULL;
}

/* `started` is what a _start returned. */
static void check_start(program *self, task *t, int started, const redmoon_error *err) {
  t->fd = -1;
  t->by_ms = 0;
  if (started == 0) return;
  fail(self, "start", err->message);
  t->done = NULL;
}

/* One step; at the operation's end its place is free again, unless `done` has begun another one in it. */
static void advance(program *self, task *t) {
  redmoon_error err;
  if (!redmoon_op_step(t->op)) {
    redmoon_wants wants;
    redmoon_op_wants(t->op, &wants);
    t->fd = wants.fd;
    t->events = (short)((wants.events & REDMOON_WANT_READ ? POLLIN : 0) | (wants.events & REDMOON_WANT_WRITE ? POLLOUT : 0));
    t->by_ms = wants.timeout_ms < 0 ? INT64_MAX : now_ms() + wants.timeout_ms;
    return;
  }
  redmoon_op *op = t->op;
  t->op = NULL;
  if (redmoon_op_finish(op, &err) == 0) t->done(self, t);
  else fail(self, err.code, err.message);
  if (t->op == NULL) t->done = NULL;
}

static void receive_all(program *self) {
  redmoon_message *message;
  redmoon_error err;
  while (redmoon_subscription_receive(self->subscription, 0, &message, &err) == 0 && message != NULL) {
    if (message->kind == REDMOON_GAP) printf("messages may be lost\n");
    else printf("received %.*s\n", (int)message->payload_len, message->payload);
    self->received += message->kind == REDMOON_MESSAGE;
    redmoon_message_free(message);
  }
}

/* One turn: waits for whatever comes first, then moves on those it is for. */
static void turn(program *self) {
  struct pollfd fds[TASKS + 1];
  int64_t now = now_ms(), by = INT64_MAX;
  for (int i = 0; i < TASKS; i++) {
    const task *t = &self->tasks[i];
    fds[i] = (struct pollfd){.fd = t->op != NULL ? t->fd : -1, .events = t->events}; /* poll() passes over -1 */
    if (t->op != NULL && t->by_ms < by) by = t->by_ms;
  }
  int message_fd = self->subscription != NULL ? redmoon_subscription_fd(self->subscription) : -1;
  fds[TASKS] = (struct pollfd){.fd = message_fd, .events = POLLIN};
  int64_t wait = by == INT64_MAX ? -1 : by > now ? by - now : 0;
  (void)poll(fds, TASKS + 1, wait > 60000 ? 60000 : (int)wait);
  now = now_ms();
  for (int i = 0; i < TASKS; i++)
    if (self->tasks[i].op != NULL && (fds[i].revents != 0 || now >= self->tasks[i].by_ms)) advance(self, &self->tasks[i]);
  if (fds[TASKS].revents != 0) receive_all(self);
}

/* What it does. */

static void start_command(program *self, task *t, int argc, const char *const *argv) {
  redmoon_error err;
  if (t == NULL) return;
  check_start(self, t, redmoon_command_start(self->client, argc, argv, NULL, &t->reply, &t->op, &err), &err);
}

static void counted(program *self, task *t) {
  redmoon_reply_free(t->reply);
  self->counted++;
  if (++t->rounds < ROUNDS) start_command(self, t, 2, (const char *[]){"INCR", "own-loop:count"});
}

static void published(program *self, task *t) {
  (void)t;
  self->published++;
}

static void publish(program *self, const char *text) {
  redmoon_error err;
  task *t = new_task(self, published);
  if (t == NULL) return;
  check_start(self, t, redmoon_publish_start(self->client, "own-loop:news", 13, text, strlen(text), 0, NULL, &t->op, &err),
              &err);
}

/* Confirmed: what is published from here on arrives. */
static void subscribed(program *self, task *t) {
  (void)t;
  publish(self, "one");
  publish(self, "two");
  publish(self, "three");
}

static void released(program *self, task *t) {
  redmoon_lock_free(t->lock);
  self->locked++;
}

static void locked(program *self, task *t) {
  redmoon_error err;
  printf("locked, fence %lld\n", (long long)redmoon_lock_fence(t->lock));
  t->done = released;
  check_start(self, t, redmoon_lock_release_start(t->lock, &t->op, &err), &err);
}

/* Two of these: one waits until the other has released it. */
static void lock(program *self) {
  redmoon_error err;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.wait_ms = 10000;
  task *t = new_task(self, locked);
  if (t == NULL) return;
  check_start(self, t, redmoon_lock_acquire_start(self->client, "own-loop", 8, &options, &t->lock, &t->op, &err), &err);
}

static void never(program *self, task *t) {
  redmoon_reply_free(t->reply);
  fail(self, "BLPOP", "something was in the list");
}

static void begin(program *self) {
  redmoon_error err;
  redmoon_bytes channel = {"own-loop:news", 13};
  redmoon_subscription_set set = REDMOON_SUBSCRIPTION_SET_INIT;
  set.channels = &channel;
  set.channel_count = 1;
  task *t = new_task(self, subscribed);
  check_start(self, t,
              redmoon_subscription_open_start(self->client, &set, NULL, &self->subscription, &t->op, &err), &err);
  for (int i = 0; i < COUNTERS; i++)
    start_command(self, new_task(self, counted), 2, (const char *[]){"INCR", "own-loop:count"});
  lock(self);
  lock(self);
  self->waits_for_ever = new_task(self, never);
  start_command(self, self->waits_for_ever, 3, (const char *[]){"BLPOP", "own-loop:nothing", "0"});
}

static bool is_finished(const program *self) {
  return self->counted == COUNTERS * ROUNDS && self->received == MESSAGES && self->published == MESSAGES && self->locked == 2;
}

/* The server may have got the command, so its connection is closed: nobody else could tell whose reply comes on it. */
static void cancel(program *self, task *t) {
  redmoon_error err;
  if (t == NULL || t->op == NULL) return;
  int status = redmoon_op_finish(t->op, &err); /* redmoon_op_cancel, where nobody wants to know */
  t->op = NULL;
  if (status == REDMOON_ECANCELLED) printf("cancelled; the outcome is %s\n", redmoon_outcome_name(err.outcome));
  else fail(self, "cancel", redmoon_status_code(status));
}

static void end(program *self) {
  for (int i = 0; i < TASKS; i++) redmoon_op_cancel(self->tasks[i].op); /* operations first, then what they are of */
  redmoon_subscription_close(self->subscription);
  redmoon_client_close(self->client);
}

int main(int argc, char **argv) {
  static program self;
  redmoon_error err;
  redmoon_embedded *server = NULL;
  const char *url = argc > 1 ? argv[1] : getenv("REDIS_URL");
  if (url == NULL) {
    if (redmoon_embedded_start(NULL, &server, &err) < 0) return fprintf(stderr, "own_loop: %s\n", err.message), 1;
    url = redmoon_embedded_url(server);
  }
  if (redmoon_client_open(url, NULL, &self.client, &err) < 0) {
    fail(&self, "open", err.message);
  } else {
    begin(&self);
    while (!self.failed && !is_finished(&self)) turn(&self);
    cancel(&self, self.waits_for_ever);
    printf("counted %d, received %d, locked %d times, all on one thread\n", self.counted, self.received, self.locked);
  }
  end(&self);
  redmoon_embedded_close(server);
  return self.failed ? 1 : 0;
}
