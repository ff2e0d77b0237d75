/* SPDX-License-Identifier: MIT */
/* A cluster is found out by CLUSTER SLOTS, from any of its nodes that answers:
 *
 *      those known to serve, in another order each time -> the seeds of the URL, their names resolved anew
 *
 * In a first pass nobody gets much time, in a second as much as any dial.  Where reads go to the nearest node, each is then
 * asked for a PING now and then. */
#include "engine/discovery_internal.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/latency.h"
#include "route/cluster.h"

#include <stdio.h>
#include <string.h>

enum { QUICK_US = 500000, CANDIDATES_MAX = 64 };

typedef struct cluster_discovery {
  rm_discovery discovery; /* first */
  rm_inquiry inquiry;
  const rm_address *candidates[CANDIDATES_MAX]; /* of nodes, which stay, and of the config */
  size_t count, at;
  bool asking;
  int pass;
  redmoon_error last; /* why the candidate before this one was of no use */
  rm_latencies latencies;
} cluster_discovery;

static void shuffle(const rm_address **list, size_t count) {
  for (size_t i = count; i > 1; i--) {
    size_t other = (size_t)rm_random_upto((int64_t)i - 1);
    const rm_address *swap = list[i - 1];
    list[i - 1] = list[other];
    list[other] = swap;
  }
}

static void list_candidates(cluster_discovery *self) {
  rm_core *core = self->discovery.core;
  rm_node *primaries[CANDIDATES_MAX / 2];
  size_t known = rm_route_serving(core->route, false, primaries, CANDIDATES_MAX / 2);
  if (known > CANDIDATES_MAX / 2) known = CANDIDATES_MAX / 2;
  self->count = self->at = 0;
  for (size_t i = 0; i < known; i++) self->candidates[self->count++] = &primaries[i]->address;
  shuffle(self->candidates, self->count);
  /* Replicas and those that have served before, lest all that are known have gone. */
  for (rm_node *node = rm_route_first(core->route); node != NULL && self->count < CANDIDATES_MAX * 3 / 4; node = rm_node_next(node)) {
    bool there = false;
    for (size_t i = 0; i < known && !there; i++) there = primaries[i] == node;
    if (!there) self->candidates[self->count++] = &node->address;
  }
  size_t first = self->count;
  for (size_t i = 0; i < core->config->address_count && self->count < CANDIDATES_MAX; i++)
    self->candidates[self->count++] = &core->config->addresses[i];
  shuffle(self->candidates + first, self->count - first);
}

static int ask(cluster_discovery *self, int64_t now_us, redmoon_error *err) {
  static const char *const question[] = {"CLUSTER", "SLOTS"};
  rm_core *core = self->discovery.core;
  int64_t patient = rm_deadline_us(now_us, core->config->connect_timeout_ms);
  int64_t by_us = self->pass == 0 && self->count > 1 ? rm_min64(patient, now_us + QUICK_US) : patient;
  self->asking = true;
  return rm_inquiry_start(&self->inquiry, &core->dialer, self->candidates[self->at], 2, question, now_us, by_us, err);
}

/* Everybody was asked in vain. */
static int nobody(const cluster_discovery *self, redmoon_error *err) {
  int rc = rm_fail_phase(err, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "no node of the cluster could be asked which slots it serves (%zu tried): %.300s",
                         self->count, self->last.message);
  err->retryable = 1;
  err->outcome = REDMOON_NOT_SENT;
  memcpy(err->address, self->last.address, sizeof err->address);
  return rc;
}

/* The next candidate, the second pass, or the end. */
static bool advance(cluster_discovery *self) {
  rm_inquiry_fini(&self->inquiry);
  self->asking = false;
  if (++self->at < self->count) return true;
  self->at = 0;
  return self->pass++ == 0 && self->count > 1;
}

static int look(cluster_discovery *self, const redmoon_reply *reply, int64_t now_us, redmoon_error *err) {
  rm_shape shape;
  int rc = rm_shape_read(&shape, reply, self->candidates[self->at], err);
  if (rc != 0) return rc;
  rc = rm_cluster_apply(self->discovery.core->route, &shape, now_us, err);
  rm_shape_fini(&shape);
  return rc;
}

static int find_out(cluster_discovery *self, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  for (;;) {
    int rc = self->asking ? 0 : ask(self, now_us, &self->last);
    redmoon_reply *reply = NULL;
    if (rc == 0) rc = rm_inquiry_step(&self->inquiry, now_us, wants, &reply, &self->last);
    if (rc == RM_WAIT) return RM_WAIT;
    if (rc == RM_DONE) rc = look(self, reply, now_us, &self->last);
    if (rc == 0) {
      rm_inquiry_fini(&self->inquiry);
      self->asking = false;
      return RM_DONE;
    }
    if (!advance(self)) return nobody(self, err);
  }
}

static int step(rm_discovery *discovery, int64_t now_us, rm_wants *wants, redmoon_error *err) {
  cluster_discovery *self = (cluster_discovery *)(void *)discovery;
  if (self->latencies.at == NULL) {
    if (!self->asking) {
      self->pass = 0;
      list_candidates(self);
    }
    int rc = find_out(self, now_us, wants, err);
    if (rc != RM_DONE) return rc;
  }
  if (rm_latencies_matter(discovery->core)) discovery->period_us = RM_LATENCY_EVERY_US;
  return rm_latencies_step(&self->latencies, discovery->core, now_us, wants);
}

static void drop(rm_discovery *discovery, bool busy) {
  cluster_discovery *self = (cluster_discovery *)(void *)discovery;
  if (busy) {
    self->inquiry = (rm_inquiry){0};
    self->latencies = (rm_latencies){0};
  }
  rm_inquiry_fini(&self->inquiry);
  rm_latencies_drop(&self->latencies);
  self->asking = false;
}

const rm_discovery_class rm_discover_cluster = {.size = sizeof(cluster_discovery), .step = step, .drop = drop};
