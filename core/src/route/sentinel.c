/* SPDX-License-Identifier: MIT */
/* A primary with replicas, as the sentinels name them: one shard that serves everything. */
#include "route/sentinel.h"

#include "base/alloc.h"
#include "base/error.h"
#include "route/shard.h"

#include <string.h>

enum { NODES_MAX = 10000 };

typedef struct sentinel_route {
  rm_route route; /* first */
  rm_shard shard; /* without a primary until one is known */
} sentinel_route;

static sentinel_route *self_of(rm_route *route) { return (sentinel_route *)(void *)route; }

static rm_node *pick(rm_route *route, const rm_target *target) {
  return rm_shard_choose(route, &self_of(route)->shard, target->read);
}

static bool serves(rm_route *route, const rm_target *target, const rm_node *node) {
  return rm_shard_may_choose(route, &self_of(route)->shard, node, target == NULL || target->read);
}

static size_t serving(rm_route *route, bool replicas, rm_node **out, size_t max) {
  const rm_shard *shard = &self_of(route)->shard;
  if (max > 0) out[0] = shard->primary;
  size_t count = 1;
  for (size_t i = 0; i < shard->replica_count && replicas; i++, count++)
    if (count < max) out[count] = shard->replicas[i];
  return count;
}

static void free_route(rm_route *route) {
  rm_route_fini(route);
  rm_free(self_of(route));
}

static const rm_route_class sentinel_class = {pick, serves, serving, free_route};

/* Under the lock. */
static rm_node *node_at(rm_route *route, const rm_announced *server, redmoon_error *err) {
  rm_address address = {.host = (char *)(uintptr_t)server->host, .port = server->port};
  rm_node *node = rm_route_find(route, &address);
  if (node != NULL) return node;
  if (route->node_count >= NODES_MAX) {
    rm_fail(err, REDMOON_EUNAVAILABLE, "the sentinels have named more than %d servers", NODES_MAX);
    return NULL;
  }
  node = rm_node_new(route, &address, route->dialer, err);
  if (node != NULL) rm_route_add(route, node);
  return node;
}

static int fill_shard(rm_route *route, rm_shard *shard, const rm_announced *primary, const rm_announced *replicas, size_t count,
                      redmoon_error *err) {
  if ((shard->primary = node_at(route, primary, err)) == NULL) return -1;
  for (size_t i = 0; i < count && shard->replica_count < RM_SHAPE_REPLICAS; i++) {
    rm_node *node = node_at(route, &replicas[i], err);
    if (node == NULL) return -1;
    if (node != shard->primary) shard->replicas[shard->replica_count++] = node; /* a sentinel in the middle of a fail-over names it as both */
  }
  return 0;
}

static bool is_same(const rm_shard *a, const rm_shard *b) {
  return a->primary == b->primary && a->replica_count == b->replica_count &&
         memcmp(a->replicas, b->replicas, a->replica_count * sizeof *a->replicas) == 0;
}

/* Under the lock.  Returns whether anything is different; *old: the primary that is one no more, or NULL. */
static bool adopt(sentinel_route *self, const rm_shard *shard, rm_node **old) {
  rm_route *route = &self->route;
  bool changed = !route->known || !is_same(&self->shard, shard);
  *old = self->shard.primary != shard->primary ? self->shard.primary : NULL;
  if (*old != NULL) atomic_store(&(*old)->role, RM_ROLE_ANY);
  atomic_store(&shard->primary->role, RM_ROLE_PRIMARY);
  self->shard = *shard;
  route->known = true;
  rm_route_tell(route, false);
  return changed;
}

int rm_sentinel_apply(rm_route *route, const rm_announced *primary, const rm_announced *replicas, size_t replica_count,
                      int64_t now_us, redmoon_error *err) {
  rm_shard shard = {0};
  redmoon_error why = {0};
  rm_node *old = NULL;
  bool changed = false;
  pthread_mutex_lock(&route->lock);
  (void)fill_shard(route, &shard, primary, replicas, replica_count, &why);
  if (why.status == 0) changed = adopt(self_of(route), &shard, &old);
  pthread_mutex_unlock(&route->lock);
  if (why.status != 0) {
    if (err != NULL) *err = why;
    return why.status;
  }
  if (changed) rm_route_settle(route, now_us);
  if (old != NULL) rm_pool_purge(old->pool, RM_CLOSE_FAILOVER, now_us); /* also where it goes on to serve reads */
  return 0;
}

int rm_sentinel_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                    redmoon_error *err) {
  sentinel_route *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  int rc = rm_route_init(&self->route, &sentinel_class, config, dialer, hooks, err);
  if (rc != 0) {
    rm_free(self);
    return rc;
  }
  *out = &self->route;
  return 0;
}
