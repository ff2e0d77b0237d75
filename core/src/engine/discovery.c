/* SPDX-License-Identifier: MIT */
/* When a round of discovery begins. */
#include "engine/discovery_internal.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"

/* A crowd of redirected calls causes one round; a server that cannot be reached is not asked without a pause; what is known
 * is looked at again now and then, by each client at another moment. */
enum { PAUSE_US = 100000, LONGEST_PAUSE_US = 1000000, PERIOD_US = 60000000 };

static rm_discovery *of(rm_driven *driven) { return (rm_discovery *)(void *)driven; }

static void came_to_an_end(rm_discovery *self, bool well, int64_t now_us) {
  self->running = false;
  self->failures = well ? 0 : self->failures + 1;
  int64_t pause = PAUSE_US;
  for (int i = 1; i < self->failures && pause < LONGEST_PAUSE_US; i++) pause *= 2;
  self->not_before_us = now_us + rm_min64(pause, LONGEST_PAUSE_US);
  self->again_us = well ? now_us + self->period_us * 9 / 10 + rm_random_upto(self->period_us / 5) : RM_FOREVER;
  rm_node *any;
  if (!well && self->retry_us != RM_FOREVER && rm_route_serving(self->core->route, false, &any, 1) > 0)
    self->again_us = now_us + self->retry_us;
}

/* Who stays connected has to look whether the node still is the right one. */
static void tell_those_connected(rm_discovery *self) {
  uint64_t epoch = rm_route_epoch(self->core->route);
  if (epoch == self->epoch) return;
  self->epoch = epoch;
  rm_driven_kick_all(self->core);
}

/* Between two rounds.  Whether one begins now. */
static bool hears_news(rm_discovery *self, int64_t now_us, rm_wants *wants) {
  if (self->class->listen == NULL) return false;
  int64_t until_us = wants->until_us;
  bool news = self->class->listen(self, now_us, wants);
  wants->until_us = rm_min64(wants->until_us, until_us);
  return news;
}

/* Whether a round is due; *at is when to look again. */
static bool is_due(rm_discovery *self, int64_t now_us, int64_t *at) {
  pthread_mutex_lock(&self->lock);
  *at = self->wanted ? self->not_before_us : self->again_us;
  bool due = now_us >= *at;
  if (due) self->wanted = false;
  pthread_mutex_unlock(&self->lock);
  return due;
}

static void step(rm_driven *driven, int64_t now_us, rm_wants *wants) {
  rm_discovery *self = of(driven);
  *wants = (rm_wants){-1, 0, RM_FOREVER};
  if (!self->running && !is_due(self, now_us, &wants->until_us) && !hears_news(self, now_us, wants)) return;
  redmoon_error err;
  rm_error_clear(&err);
  self->running = true;
  int rc = self->class->step(self, now_us, wants, &err);
  if (rc == RM_WAIT) return;
  if (rc < 0) rm_route_failed(self->core->route, &err);
  came_to_an_end(self, rc == RM_DONE, now_us);
  tell_those_connected(self);
  *wants = (rm_wants){-1, 0, now_us}; /* it may be wanted again already */
}

static void end(rm_driven *driven) {
  rm_discovery *self = of(driven);
  self->class->drop(self, false);
  redmoon_error err;
  rm_fail_closed(&err);
  rm_route_failed(self->core->route, &err);
}

/* A step that was under way on a thread that is gone may have left anything half-done: that memory is left as it is. */
static void forked(rm_driven *driven, bool busy) { of(driven)->class->drop(of(driven), busy); }

static const rm_driven_class driven_class = {step, end, forked};

int rm_discovery_new(rm_core *core, rm_discovery **out, redmoon_error *err) {
  *out = NULL;
  const rm_discovery_class *class = core->config->topology == RM_CLUSTER    ? &rm_discover_cluster
                                    : core->config->topology == RM_SENTINEL ? &rm_discover_sentinel
                                                                            : NULL;
  if (class == NULL) return 0;
  rm_discovery *self = rm_calloc(1, class->size);
  if (self == NULL) return rm_fail_nomem(err);
  self->class = class;
  self->core = core;
  self->driven.class = &driven_class;
  self->driven.inner = true;
  self->again_us = RM_FOREVER;
  self->period_us = PERIOD_US;
  self->retry_us = RM_FOREVER;
  int rc = class->init != NULL ? class->init(self, err) : 0;
  if (rc != 0) {
    rm_free(self);
    return rc;
  }
  pthread_mutex_init(&self->lock, NULL);
  *out = self;
  return 0;
}

void rm_discovery_free(rm_discovery *self) {
  if (self == NULL) return;
  rm_driven_remove(self->core, &self->driven);
  self->class->drop(self, false);
  if (self->class->fini != NULL) self->class->fini(self);
  pthread_mutex_destroy(&self->lock);
  rm_free(self);
}

void rm_discovery_want(rm_discovery *self) {
  pthread_mutex_lock(&self->lock);
  bool add = !self->added, kick = self->added && !self->wanted;
  self->wanted = self->added = true;
  pthread_mutex_unlock(&self->lock);
  if (kick) rm_driven_kick(self->core, &self->driven);
  redmoon_error err;
  if (!add || rm_driven_add(self->core, &self->driven, &err) == 0) return;
  pthread_mutex_lock(&self->lock);
  self->added = false;
  pthread_mutex_unlock(&self->lock);
  rm_route_failed(self->core->route, &err);
}

void rm_discovery_forked(rm_discovery *self) {
  if (self == NULL) return;
  pthread_mutex_init(&self->lock, NULL);
  self->driven = (rm_driven){.class = &driven_class, .inner = true};
  self->added = self->wanted = self->running = false;
  self->failures = 0;
  self->not_before_us = 0;
  self->again_us = RM_FOREVER;
}
