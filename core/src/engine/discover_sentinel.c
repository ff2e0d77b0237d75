/* SPDX-License-Identifier: MIT */
/* A primary is found out from any sentinel that names one which turns out to be one:
 *
 *      ASK: its address, its epoch, its replicas, the other sentinels; subscribe to news
 *        |  unreachable, another password, not known there, behind what is known already --> the next sentinel
 *        v
 *      CHECK: dial the primary, which has to say that it is one --no, or no answer--> the next sentinel
 *        |
 *        v
 *      the route is told, and the connection to the sentinel stays: WATCH --+switch-master & co.--> ask again
 *                                                                      --lost, silent--> ask another one
 *
 * In a first pass nobody gets much time, in a second as much as any dial.  A switch that is heard of meanwhile begins the
 * round anew.  Sentinels are spoken to in RESP2, where a message is a reply like others, and with credentials and TLS of
 * their own. */
#include "engine/discovery_internal.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/latency.h"
#include "engine/sentinels.h"
#include "route/sentinel.h"
#include "route/sentinel_reply.h"

#include <stdio.h>
#include <string.h>

/* Without news, which takes the right to subscribe, it is looked more often.  While a round goes on the watch is looked at
 * now and then. */
enum { QUICK_US = 500000, RETRY_US = 1000000, PING_AFTER_US = 2000000, PONG_WITHIN_US = 1000000, LOOK_EVERY_US = 50000,
       PERIOD_US = 60000000, BLIND_PERIOD_US = 5000000 };
enum { BEGIN, ASK, CHECK, MEASURE };
enum { FOR_ADDRESS, FOR_EPOCH, FOR_REPLICAS, FOR_SENTINELS, FOR_NEWS, ANSWERS };
enum { QUIET, NEWS, SWITCHED, LOST };

typedef struct sentinel_discovery {
  rm_discovery discovery; /* first */
  rm_config config;       /* as the client's, borrowing from it, but for who we are and what we speak */
  rm_dialer dialer;
  rm_tls *tls;            /* where the servers have none */
  rm_sentinels sentinels;
  rm_latencies latencies;

  /* The round. */
  int state, pass;
  size_t at, answered;    /* which sentinel; how many answers of it */
  rm_inquiry asks[2];     /* one that asks, and one that watches */
  int asking;
  rm_inquiry check;
  rm_announced primary, replicas[RM_SHAPE_REPLICAS];
  size_t replica_count;
  int64_t told_epoch, epoch; /* of this sentinel, and the highest of those that were right; -1: not known */
  bool blind;             /* it lets us not subscribe */
  redmoon_error last;     /* why the sentinel before this one was of no use */
  rm_announced bad;       /* was named in this pass, and is no primary; port 0: nobody */
  redmoon_error bad_why;

  /* The watch. */
  int64_t heard_us, pinged_us;
  bool pinged;
} sentinel_discovery;

static sentinel_discovery *self_of(rm_discovery *discovery) { return (sentinel_discovery *)(void *)discovery; }
static rm_inquiry *ask_of(sentinel_discovery *self) { return &self->asks[self->asking]; }
static rm_inquiry *watch_of(sentinel_discovery *self) { return &self->asks[1 - self->asking]; }
static const char *name_of(const sentinel_discovery *self) { return self->config.sentinel_name; }

/* Asking a sentinel. */

static int ask(sentinel_discovery *self, int64_t now_us, redmoon_error *err) {
  const char *address[] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name_of(self)}, *master[] = {"SENTINEL", "MASTER", name_of(self)},
             *replicas[] = {"SENTINEL", "REPLICAS", name_of(self)}, *others[] = {"SENTINEL", "SENTINELS", name_of(self)};
  static const char *const news[] = {"SUBSCRIBE", "+switch-master", "+slave", "+sdown", "-sdown"};
  int64_t patient = rm_deadline_us(now_us, self->config.connect_timeout_ms);
  int64_t by_us = self->pass == 0 && self->sentinels.count > 1 ? rm_min64(patient, now_us + QUICK_US) : patient;
  if (self->sentinels.count == 0 && rm_sentinels_init(&self->sentinels, &self->config, err) != 0) return err->status;
  rm_inquiry *inquiry = ask_of(self);
  self->answered = self->replica_count = 0;
  self->told_epoch = -1;
  self->blind = false;
  int rc = rm_inquiry_start(inquiry, &self->dialer, &self->sentinels.all[self->at].address, 3, address, now_us, by_us, err);
  if (rc == 0) rc = rm_inquiry_also(inquiry, 3, master, err);
  if (rc == 0) rc = rm_inquiry_also(inquiry, 3, replicas, err);
  if (rc == 0) rc = rm_inquiry_also(inquiry, 3, others, err);
  if (rc == 0) rc = rm_inquiry_also(inquiry, 5, news, err);
  return rc;
}

static void take_replica(void *ctx, const rm_announced *server) {
  sentinel_discovery *self = ctx;
  if (self->replica_count < RM_SHAPE_REPLICAS) self->replicas[self->replica_count++] = *server;
}

static void take_sentinel(void *ctx, const rm_announced *server) { rm_sentinels_add(ctx, server); }

/* But for the address, what it does not tell can be done without. */
static int take_answer(sentinel_discovery *self, const redmoon_reply *reply, redmoon_error *err) {
  switch (self->answered++) {
  case FOR_ADDRESS:
    return rm_sentinel_read_address(&self->primary, reply, ask_of(self)->conn->address, name_of(self), err);
  case FOR_EPOCH:
    self->told_epoch = rm_sentinel_read_epoch(reply);
    if (self->pass > 0 || self->told_epoch < 0 || self->told_epoch >= self->epoch) return 0;
    return rm_fail(err, REDMOON_EUNAVAILABLE, "the sentinel at %s has not heard of the last fail-over", ask_of(self)->conn->address);
  case FOR_REPLICAS:
    rm_sentinel_read_servers(reply, true, take_replica, self);
    return 0;
  case FOR_SENTINELS:
    rm_sentinel_read_servers(reply, false, take_sentinel, &self->sentinels);
    return 0;
  default:
    self->blind = reply->type == REDMOON_ERROR;
    return 0;
  }
}

static int take_answers(sentinel_discovery *self, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  while (self->answered < ANSWERS) {
    redmoon_reply *reply = NULL;
    int rc = rm_inquiry_step(ask_of(self), now_us, wants, &reply, err);
    if (rc == RM_DONE) rc = take_answer(self, reply, err) == 0 ? RM_DONE : err->status;
    if (rc != RM_DONE) return rc;
  }
  return RM_DONE;
}

/* Checking whom it named. */

static int begin_check(sentinel_discovery *self, int64_t now_us, redmoon_error *err) {
  if (self->bad.port == self->primary.port && strcmp(self->bad.host, self->primary.host) == 0) { /* the others say the same */
    *err = self->bad_why;
    return err->status;
  }
  const rm_core *core = self->discovery.core;
  rm_dialer dialer = core->dialer;
  dialer.role = RM_ROLE_PRIMARY;
  const rm_address address = {.host = self->primary.host, .port = self->primary.port};
  int64_t patient = rm_deadline_us(now_us, core->config->connect_timeout_ms);
  int64_t by_us = self->pass == 0 ? rm_min64(patient, now_us + QUICK_US) : patient;
  return rm_inquiry_start(&self->check, &dialer, &address, 0, NULL, now_us, by_us, err);
}

/* The handshake tells what it is. */
static int step_check(sentinel_discovery *self, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  int rc = rm_inquiry_step(&self->check, now_us, wants, &reply, err);
  if (rc == RM_WAIT) return rc;
  rm_inquiry_fini(&self->check);
  if (rc == RM_DONE) return rc;
  self->bad = self->primary;
  self->bad_why = *err;
  return rc;
}

/* The sentinel was right: it is watched from now on. */
static int adopt(sentinel_discovery *self, int64_t now_us, redmoon_error *err) {
  int rc = rm_sentinel_apply(self->discovery.core->route, &self->primary, self->replicas, self->replica_count, now_us, err);
  if (rc != 0) return rc;
  self->epoch = self->told_epoch >= 0 ? self->told_epoch : self->epoch;
  rm_sentinels_prefer(&self->sentinels, self->at);
  rm_inquiry_fini(watch_of(self));
  self->asking = 1 - self->asking;
  rm_inquiry *watch = watch_of(self);
  if (self->blind) rm_inquiry_fini(watch);
  else rm_arena_reset(&watch->arena, 4096);
  watch->by_us = self->blind ? 0 : RM_FOREVER;
  self->heard_us = now_us;
  self->pinged = false;
  self->discovery.period_us = self->blind ? BLIND_PERIOD_US : PERIOD_US;
  if (rm_latencies_matter(self->discovery.core)) self->discovery.period_us = rm_min64(self->discovery.period_us, RM_LATENCY_EVERY_US);
  return RM_DONE;
}

/* The round. */

/* One sentinel, from the question to the end. */
static int consult(sentinel_discovery *self, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  int rc = RM_DONE;
  if (self->state == BEGIN) {
    self->state = ASK;
    if ((rc = ask(self, now_us, err)) < 0) return rc;
  }
  if (self->state == ASK) {
    if ((rc = take_answers(self, now_us, wants, err)) != RM_DONE) return rc;
    self->state = CHECK;
    if ((rc = begin_check(self, now_us, err)) < 0) return rc;
  }
  rc = step_check(self, now_us, wants, err);
  return rc == RM_DONE ? adopt(self, now_us, err) : rc;
}

static void give_up_round(sentinel_discovery *self) {
  rm_inquiry_fini(ask_of(self));
  rm_inquiry_fini(&self->check);
  rm_latencies_drop(&self->latencies);
  self->state = BEGIN;
  self->pass = 0;
  self->at = 0;
  self->bad.port = 0;
}

/* The next sentinel, the second pass, or the end. */
static bool advance(sentinel_discovery *self) {
  rm_inquiry_fini(ask_of(self));
  rm_inquiry_fini(&self->check);
  self->state = BEGIN;
  if (++self->at < self->sentinels.count) return true;
  self->at = 0;
  self->bad.port = 0;
  return self->pass++ == 0;
}

/* All were asked in vain.  What was wrong with the primary says more than what was wrong with a sentinel. */
static int nobody(sentinel_discovery *self, const redmoon_error *why, redmoon_error *err) {
  char text[300];
  snprintf(text, sizeof text, "%.299s", why->message);
  *err = *why;
  snprintf(err->message, sizeof err->message, "the primary '%.100s' could not be found by its sentinels (%zu asked): %s", name_of(self),
           self->sentinels.count, text);
  err->outcome = REDMOON_NOT_SENT;
  if (err->phase == REDMOON_PHASE_NONE) err->phase = REDMOON_PHASE_DIAL;
  bool transient = err->status == REDMOON_ECONNECT || err->status == REDMOON_ETIMEOUT || err->status == REDMOON_EIO;
  if (transient) err->retryable = 1;
  return err->status;
}

static int find_out(sentinel_discovery *self, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  for (;;) {
    int rc = consult(self, now_us, wants, &self->last);
    if (rc >= 0) return rc;
    bool named = self->bad.port != 0;
    if (!advance(self)) return nobody(self, named ? &self->bad_why : &self->last, err);
  }
}

static int step_watch(sentinel_discovery *self, int64_t now_us, rm_wants *wants);

static int step(rm_discovery *discovery, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  sentinel_discovery *self = self_of(discovery);
  rm_wants ignored;
  if (step_watch(self, now_us, &ignored) == SWITCHED) give_up_round(self); /* what is under way may be answered by the old state */
  int rc = self->state == MEASURE ? RM_DONE : find_out(self, now_us, wants, err);
  if (rc == RM_DONE) {
    self->state = MEASURE;
    rc = rm_latencies_step(&self->latencies, discovery->core, now_us, wants);
  }
  if (rc == RM_WAIT && watch_of(self)->conn != NULL) wants->until_us = rm_min64(wants->until_us, now_us + LOOK_EVERY_US);
  if (rc != RM_WAIT) give_up_round(self);
  return rc;
}

/* The watch. */

static bool is_text(const redmoon_reply *reply, const char *text) {
  return reply->type == REDMOON_STRING && reply->len == strlen(text) && memcmp(reply->as.text, text, reply->len) == 0;
}

/* ["message", channel, payload] */
static int judge(const sentinel_discovery *self, const redmoon_reply *reply) {
  if (reply->type != REDMOON_ARRAY || reply->len != 3 || !is_text(&reply->as.items[0], "message")) return QUIET;
  const redmoon_reply *channel = &reply->as.items[1], *payload = &reply->as.items[2];
  if (payload->type != REDMOON_STRING || !rm_sentinel_concerns(payload->as.text, payload->len, name_of(self))) return QUIET;
  return is_text(channel, "+switch-master") ? SWITCHED : NEWS;
}

/* Asks for a sign of life.  Negative: there was none, or it cannot be asked for. */
static int ping_watch(sentinel_discovery *self, int64_t now_us, redmoon_error *err) {
  static const char *const ping[] = {"PING"};
  if (self->pinged) return now_us - self->pinged_us < PONG_WITHIN_US ? 0 : REDMOON_ETIMEOUT;
  if (now_us - self->heard_us < PING_AFTER_US) return 0;
  self->pinged = true;
  self->pinged_us = now_us;
  return rm_inquiry_also(watch_of(self), 1, ping, err);
}

/* Takes what has come.  The strongest of what was heard. */
static int step_watch(sentinel_discovery *self, int64_t now_us, rm_wants *wants) {
  *wants = (rm_wants){-1, 0, RM_FOREVER};
  rm_inquiry *watch = watch_of(self);
  if (watch->conn == NULL) return QUIET;
  redmoon_error err;
  int heard = QUIET;
  int rc = ping_watch(self, now_us, &err);
  while (rc >= 0) {
    redmoon_reply *reply = NULL;
    rc = rm_inquiry_step(watch, now_us, wants, &reply, &err);
    if (rc != RM_DONE) break;
    int one = judge(self, reply);
    if (one > heard) heard = one;
    rm_arena_reset(&watch->arena, 4096);
    self->heard_us = now_us;
    self->pinged = false;
  }
  if (rc < 0) {
    rm_inquiry_fini(watch);
    *wants = (rm_wants){-1, 0, RM_FOREVER};
    return heard == SWITCHED ? SWITCHED : LOST;
  }
  wants->until_us = self->pinged ? self->pinged_us + PONG_WITHIN_US : self->heard_us + PING_AFTER_US;
  return heard;
}

static bool listen_for_news(rm_discovery *discovery, int64_t now_us, rm_wants *wants) {
  sentinel_discovery *self = self_of(discovery);
  int heard = step_watch(self, now_us, wants);
  if (heard == LOST) rm_sentinels_postpone(&self->sentinels);
  return heard != QUIET;
}

/* Made and freed. */

static int init(rm_discovery *discovery, redmoon_error *err) {
  sentinel_discovery *self = self_of(discovery);
  const rm_core *core = discovery->core;
  self->config = *core->config;
  self->config.username = core->config->sentinel_username;
  self->config.password = core->config->sentinel_password;
  self->config.credentials = NULL;
  self->config.database = 0;
  self->config.protocol = 2;
  self->config.tls = core->config->sentinel_tls;
  self->dialer = core->dialer;
  self->dialer.config = &self->config;
  self->dialer.role = RM_ROLE_ANY;
  self->epoch = -1;
  discovery->retry_us = RETRY_US;
  int rc = 0;
  if (!self->config.tls) self->dialer.tls = NULL;
  else if (core->tls == NULL) {
    rc = rm_tls_new(&self->config, &self->tls, err);
    self->dialer.tls = self->tls;
  }
  if (rc == 0) rc = rm_sentinels_init(&self->sentinels, core->config, err);
  if (rc == 0) return 0;
  rm_sentinels_fini(&self->sentinels);
  rm_tls_free(self->tls);
  return rc;
}

static void fini(rm_discovery *discovery) {
  sentinel_discovery *self = self_of(discovery);
  rm_sentinels_fini(&self->sentinels);
  rm_tls_free(self->tls);
}

static void drop(rm_discovery *discovery, bool busy) {
  sentinel_discovery *self = self_of(discovery);
  if (busy) {
    redmoon_error ignored;
    self->asks[0] = self->asks[1] = self->check = (rm_inquiry){0};
    self->latencies = (rm_latencies){0};
    self->sentinels = (rm_sentinels){0};
    (void)rm_sentinels_init(&self->sentinels, &self->config, &ignored); /* without any, nothing is found until the next try */
  }
  give_up_round(self);
  rm_inquiry_fini(watch_of(self));
}

const rm_discovery_class rm_discover_sentinel = {sizeof(sentinel_discovery), init, fini, step, listen_for_news, drop};
