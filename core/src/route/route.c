/* SPDX-License-Identifier: MIT */
/* What all routes have in common: who waits for the nodes to become known, and how they are told. */
#include "route/route_internal.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static int read_from_of(const rm_config *config) {
  static const char *const names[] = {"primary", "replica", "any", "nearest"};
  for (int i = 0; i < 4; i++)
    if (config->read_from != NULL && strcmp(config->read_from, names[i]) == 0) return i;
  return RM_READ_PRIMARY;
}

int rm_route_init(rm_route *route, const rm_route_class *class, const rm_config *config, const rm_dialer *dialer,
                  const rm_route_hooks *hooks, redmoon_error *err) {
  route->class = class;
  route->config = config;
  route->dialer = dialer;
  route->hooks = *hooks;
  route->read_from = read_from_of(config);
  rm_list_init(&route->waits);
  return pthread_mutex_init(&route->lock, NULL) == 0 ? 0 : rm_fail_nomem(err);
}

void rm_route_fini(rm_route *route) {
  for (rm_node *node = rm_route_first(route), *next; node != NULL; node = next) {
    next = rm_node_next(node);
    rm_node_free(node);
  }
  pthread_mutex_destroy(&route->lock);
}

int rm_route_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                 redmoon_error *err) {
  *out = NULL;
  if (config->topology == RM_CLUSTER) return rm_cluster_new(config, dialer, hooks, out, err);
  if (config->topology == RM_SENTINEL) return rm_sentinel_new(config, dialer, hooks, out, err);
  return rm_standalone_new(config, dialer, hooks, out, err);
}

void rm_route_free(rm_route *route) {
  if (route != NULL) route->class->free(route);
}

void rm_route_forked(rm_route *route) {
  pthread_mutex_init(&route->lock, NULL);
  /* Those who wait are the parent's: each finds itself in no list. */
  for (rm_list *at = route->waits.next, *next; at != &route->waits; at = next) {
    next = at->next;
    at->next = at->prev = NULL;
  }
  rm_list_init(&route->waits);
}

/* Waiting. */

/* Under the lock. */
static int begin_wait(rm_route *route, rm_route_wait *wait, redmoon_error *err) {
  wait->event = (rm_event)RM_EVENT_INIT;
  if (rm_event_open(&wait->event) != 0)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "no event descriptor could be had to wait for the nodes to become known");
  wait->waits = true;
  wait->told = wait->failed = false;
  rm_list_push_back(&route->waits, &wait->link);
  return RM_WAIT;
}

static void end_wait(rm_route_wait *wait) {
  rm_list_remove(&wait->link);
  rm_event_close(&wait->event);
  wait->waits = false;
}

void rm_route_unwait(rm_route *route, rm_route_wait *wait) {
  if (!wait->waits) return;
  pthread_mutex_lock(&route->lock);
  end_wait(wait);
  pthread_mutex_unlock(&route->lock);
}

void rm_route_tell(rm_route *route, bool failed) {
  while (!rm_list_is_empty(&route->waits)) {
    rm_route_wait *wait = RM_CONTAINER_OF(route->waits.next, rm_route_wait, link);
    rm_list_remove(&wait->link);
    wait->told = true;
    wait->failed = failed;
    rm_event_signal(&wait->event);
  }
}

void rm_route_trouble(rm_route *route, char out[RM_TROUBLE_SIZE]) {
  pthread_mutex_lock(&route->lock);
  bool told = !route->known && route->trouble.status != 0;
  snprintf(out, RM_TROUBLE_SIZE, "%s%.300s", told ? ": " : "", told ? route->trouble.message : "");
  pthread_mutex_unlock(&route->lock);
}

void rm_route_failed(rm_route *route, const redmoon_error *why) {
  pthread_mutex_lock(&route->lock);
  route->trouble = *why;
  rm_route_tell(route, true);
  pthread_mutex_unlock(&route->lock);
}

/* Picking. */

int rm_route_pick(rm_route *route, const rm_target *target, rm_route_wait *wait, rm_node **out, redmoon_error *err) {
  if (route->only != NULL) {
    *out = route->only;
    return RM_DONE;
  }
  bool begins = false;
  pthread_mutex_lock(&route->lock);
  int rc = RM_WAIT;
  if (route->known) {
    *out = route->class->pick(route, target);
    rc = *out != NULL ? RM_DONE : rm_fail(err, REDMOON_EUNAVAILABLE, "no node is known that could serve this request");
    if (rc < 0 && err != NULL) err->retryable = 1;
  } else if (wait->waits && wait->failed) {
    if (err != NULL) *err = route->trouble;
    rc = route->trouble.status;
  } else if (!wait->waits) {
    rc = begin_wait(route, wait, err);
    begins = rc == RM_WAIT;
  }
  if (rc != RM_WAIT && wait->waits) end_wait(wait);
  pthread_mutex_unlock(&route->lock);
  if (begins) route->hooks.discover(route->hooks.pool.ctx);
  return rc;
}

rm_node *rm_route_peek(rm_route *route, const rm_target *target) {
  if (route->only != NULL) return route->only;
  pthread_mutex_lock(&route->lock);
  rm_node *node = route->known ? route->class->pick(route, target) : NULL;
  pthread_mutex_unlock(&route->lock);
  return node;
}

void rm_route_suspect(rm_route *route) {
  if (route->only == NULL) route->hooks.discover(route->hooks.pool.ctx);
}

bool rm_route_may_change(const rm_route *route) { return route->only == NULL; }

uint64_t rm_route_epoch(const rm_route *route) { return atomic_load_explicit(&route->epoch, memory_order_acquire); }

bool rm_route_serves(rm_route *route, const rm_target *target, const rm_node *node) {
  if (route->only != NULL) return node == route->only;
  pthread_mutex_lock(&route->lock);
  bool serves = !route->known || route->class->serves(route, target, node);
  pthread_mutex_unlock(&route->lock);
  return serves;
}

void rm_route_settle(rm_route *route, int64_t now_us) {
  for (rm_node *node = rm_route_first(route); node != NULL; node = rm_node_next(node)) {
    pthread_mutex_lock(&route->lock);
    bool serves = route->class->serves(route, NULL, node), changed = serves != node->serving;
    node->serving = serves;
    pthread_mutex_unlock(&route->lock);
    if (changed && !serves) rm_pool_purge(node->pool, RM_CLOSE_FAILOVER, now_us);
    if (changed) rm_node_keep(route, node, serves, now_us);
  }
  atomic_fetch_add_explicit(&route->epoch, 1, memory_order_release);
}

bool rm_route_is_cluster(const rm_route *route) { return route->config->topology == RM_CLUSTER; }

bool rm_route_minds_requests(const rm_route *route) {
  return rm_route_is_cluster(route) || (route->only == NULL && route->read_from != RM_READ_PRIMARY);
}

size_t rm_route_serving(rm_route *route, bool replicas, rm_node **out, size_t max) {
  pthread_mutex_lock(&route->lock);
  size_t count = route->known || route->only != NULL ? route->class->serving(route, replicas, out, max) : 0;
  pthread_mutex_unlock(&route->lock);
  return count;
}
