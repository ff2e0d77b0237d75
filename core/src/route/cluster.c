/* SPDX-License-Identifier: MIT */
/* A cluster: each slot has a shard, each shard a primary and replicas. */
#include "route/cluster.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "route/route_internal.h"
#include "route/shard.h"

#include <string.h>

enum { NODES_MAX = 10000, NO_SHARD = 0xffff };

typedef struct cluster {
  rm_route route; /* first */
  rm_shard *shards;
  size_t shard_count, shard_cap;
  uint16_t shard_of[RM_SLOTS];
} cluster;

static cluster *self_of(rm_route *route) { return (cluster *)(void *)route; }

/* Picking. */

static rm_node *pick(rm_route *route, const rm_target *target) {
  cluster *self = self_of(route);
  if (self->shard_count == 0) return NULL;
  uint16_t at = target->keyed ? self->shard_of[target->slot % RM_SLOTS] : NO_SHARD;
  /* Any server can say who serves a slot that nobody serves as far as is known. */
  size_t index = at != NO_SHARD ? at : (size_t)rm_random_upto((int64_t)self->shard_count - 1);
  return rm_shard_choose(route, &self->shards[index], target->read);
}

static size_t serving(rm_route *route, bool replicas, rm_node **out, size_t max) {
  cluster *self = self_of(route);
  size_t count = 0;
  for (size_t i = 0; i < self->shard_count; i++) {
    const rm_shard *s = &self->shards[i];
    if (count < max) out[count] = s->primary;
    count++;
    for (size_t r = 0; r < s->replica_count && replicas; r++, count++)
      if (count < max) out[count] = s->replicas[r];
  }
  return count;
}

static bool serves(rm_route *route, const rm_target *target, const rm_node *node) {
  cluster *self = self_of(route);
  bool read = target == NULL || target->read;
  uint16_t at = target != NULL && target->keyed ? self->shard_of[target->slot % RM_SLOTS] : NO_SHARD;
  if (at != NO_SHARD) return rm_shard_may_choose(route, &self->shards[at], node, read);
  for (size_t i = 0; i < self->shard_count; i++)
    if (rm_shard_may_choose(route, &self->shards[i], node, read)) return true;
  return false;
}

/* Telling. */

/* Under the lock. */
static rm_node *node_at(cluster *self, const rm_announced *server, redmoon_error *err) {
  rm_address address = {.host = (char *)(uintptr_t)server->host, .port = server->port};
  rm_node *node = rm_route_find(&self->route, &address);
  if (node != NULL) return node;
  if (self->route.node_count >= NODES_MAX) {
    rm_fail(err, REDMOON_EUNAVAILABLE, "the cluster has named more than %d servers", NODES_MAX);
    return NULL;
  }
  node = rm_node_new(&self->route, &address, self->route.dialer, err);
  if (node != NULL) rm_route_add(&self->route, node);
  return node;
}

static int fill_shard(cluster *self, rm_shard *to, const rm_shape_shard *from, redmoon_error *err) {
  if ((to->primary = node_at(self, &from->primary, err)) == NULL) return -1;
  for (size_t i = 0; i < from->replica_count; i++)
    if ((to->replicas[i] = node_at(self, &from->replicas[i], err)) == NULL) return -1;
  to->replica_count = from->replica_count;
  return 0;
}

static void adopt(cluster *self, rm_shard *shards, const rm_shape *shape) {
  rm_free(self->shards);
  self->shards = shards;
  self->shard_count = self->shard_cap = shape->shard_count;
  memset(self->shard_of, 0xff, sizeof self->shard_of);
  for (size_t i = 0; i < shape->range_count; i++) {
    const rm_shape_range *range = &shape->ranges[i];
    for (unsigned slot = range->first; slot <= range->last; slot++) self->shard_of[slot] = (uint16_t)range->shard;
  }
}

int rm_cluster_apply(rm_route *route, const rm_shape *shape, int64_t now_us, redmoon_error *err) {
  cluster *self = self_of(route);
  if (shape->shard_count >= NO_SHARD)
    return rm_fail(err, REDMOON_EPROTOCOL, "the cluster has %zu shards, more than one for each slot", shape->shard_count);
  rm_shard *shards = rm_calloc(shape->shard_count, sizeof *shards);
  if (shards == NULL) return rm_fail_nomem(err);
  redmoon_error why = {0};
  pthread_mutex_lock(&route->lock);
  for (size_t i = 0; i < shape->shard_count && why.status == 0; i++) (void)fill_shard(self, &shards[i], &shape->shards[i], &why);
  if (why.status == 0) {
    adopt(self, shards, shape);
    route->known = true;
    rm_route_tell(route, false);
  }
  pthread_mutex_unlock(&route->lock);
  if (why.status != 0) {
    rm_free(shards);
    if (err != NULL) *err = why;
    return why.status;
  }
  rm_route_settle(route, now_us);
  return 0;
}

/* A shard that is led by `node`; NO_SHARD with `err`.  Under the lock. */
static size_t shard_led_by(cluster *self, rm_node *node, redmoon_error *err) {
  for (size_t i = 0; i < self->shard_count; i++)
    if (self->shards[i].primary == node) return i;
  if (self->shard_count == self->shard_cap) {
    size_t cap = self->shard_cap * 2 + 4;
    rm_shard *shards = cap < NO_SHARD ? rm_realloc(self->shards, cap * sizeof *shards) : NULL;
    if (shards == NULL) {
      rm_fail_nomem(err);
      return NO_SHARD;
    }
    self->shards = shards;
    self->shard_cap = cap;
  }
  self->shards[self->shard_count] = (rm_shard){.primary = node};
  return self->shard_count++;
}

rm_node *rm_cluster_moved(rm_route *route, uint16_t slot, const rm_announced *server, redmoon_error *err) {
  cluster *self = self_of(route);
  pthread_mutex_lock(&route->lock);
  rm_node *node = node_at(self, server, err);
  size_t index = node != NULL ? shard_led_by(self, node, err) : NO_SHARD;
  if (index != NO_SHARD && slot < RM_SLOTS) self->shard_of[slot] = (uint16_t)index;
  pthread_mutex_unlock(&route->lock);
  return index != NO_SHARD ? node : NULL;
}

rm_node *rm_cluster_node(rm_route *route, const rm_announced *server, redmoon_error *err) {
  pthread_mutex_lock(&route->lock);
  rm_node *node = node_at(self_of(route), server, err);
  pthread_mutex_unlock(&route->lock);
  return node;
}

/* Made and freed. */

static void free_route(rm_route *route) {
  rm_route_fini(route);
  rm_free(self_of(route)->shards);
  rm_free(route);
}

static const rm_route_class cluster_class = {pick, serves, serving, free_route};

int rm_cluster_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                   redmoon_error *err) {
  for (size_t i = 0; i < config->address_count; i++)
    if (config->addresses[i].host == NULL)
      return rm_fail(err, REDMOON_ECONFIG, "a cluster's servers are named by host and port, not by a unix socket");
  cluster *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  memset(self->shard_of, 0xff, sizeof self->shard_of);
  int rc = rm_route_init(&self->route, &cluster_class, config, dialer, hooks, err);
  if (rc != 0) {
    rm_free(self);
    return rc;
  }
  *out = &self->route;
  return 0;
}
