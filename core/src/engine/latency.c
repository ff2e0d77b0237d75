/* SPDX-License-Identifier: MIT */
/* Latencies of nodes, one PING after the other. */
#include "engine/latency.h"

#include "base/clock.h"

#include <string.h>

enum { PATIENCE_US = 500000 };

bool rm_latencies_matter(const rm_core *core) {
  return core->config->read_from != NULL && strcmp(core->config->read_from, "nearest") == 0;
}

static int begin(rm_latencies *self, int64_t now_us, redmoon_error *err) {
  static const char *const question[] = {"PING"};
  self->asking = true;
  return rm_inquiry_start(&self->inquiry, self->at->dialer, &self->at->address, 1, question, now_us, now_us + PATIENCE_US, err);
}

/* A node that does not answer is as far away as can be; an old figure counts for half. */
static void note(rm_latencies *self, int rc) {
  int64_t old = atomic_load(&self->at->latency_us);
  int64_t took = rc == RM_DONE ? rm_max64(1, rm_clock_now_us() - self->inquiry.asked_us) : RM_FOREVER / 4;
  bool first = old == 0 || old >= RM_FOREVER / 4 || rc != RM_DONE;
  atomic_store(&self->at->latency_us, first ? took : (old + took) / 2);
}

/* The next node that may be read from; those that have left are not waited for. */
static rm_node *next_from(rm_core *core, rm_node *node) {
  const rm_target reads = {.read = true};
  while (node != NULL && !rm_route_serves(core->route, &reads, node)) node = rm_node_next(node);
  return node;
}

int rm_latencies_step(rm_latencies *self, rm_core *core, int64_t now_us, rm_wants *wants) {
  if (self->at == NULL && rm_latencies_matter(core) && now_us >= self->due_us) {
    self->at = next_from(core, rm_route_first(core->route));
    self->due_us = now_us + RM_LATENCY_EVERY_US;
  }
  while (self->at != NULL) {
    redmoon_error ignored;
    redmoon_reply *reply = NULL;
    int rc = self->asking ? 0 : begin(self, now_us, &ignored);
    if (rc == 0) rc = rm_inquiry_step(&self->inquiry, now_us, wants, &reply, &ignored);
    if (rc == RM_WAIT) return RM_WAIT;
    note(self, rc);
    rm_inquiry_fini(&self->inquiry);
    self->asking = false;
    self->at = next_from(core, rm_node_next(self->at));
  }
  return RM_DONE;
}

void rm_latencies_drop(rm_latencies *self) {
  rm_inquiry_fini(&self->inquiry);
  self->asking = false;
  self->at = NULL;
}
