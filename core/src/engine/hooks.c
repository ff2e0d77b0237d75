/* SPDX-License-Identifier: MIT */
/* Hooks: a hook that is being called is pinned by a count, so that removal can wait for the call to end. */
#include "engine/hooks.h"

#include "base/alloc.h"

#include <redmoon/error.h>

typedef struct hook {
  rm_list link;
  uint64_t id;
  int mask, running;
  bool removed;
  redmoon_event_fn fn;
  void *ctx;
} hook;

void rm_hooks_init(rm_hooks *hooks) {
  atomic_init(&hooks->mask, 0);
  pthread_mutex_init(&hooks->lock, NULL);
  pthread_cond_init(&hooks->idle, NULL);
  rm_list_init(&hooks->list);
  hooks->last_id = 0;
}

void rm_hooks_fini(rm_hooks *hooks) {
  while (!rm_list_is_empty(&hooks->list)) {
    hook *h = RM_CONTAINER_OF(hooks->list.next, hook, link);
    rm_list_remove(&h->link);
    rm_free(h);
  }
  pthread_cond_destroy(&hooks->idle);
  pthread_mutex_destroy(&hooks->lock);
}

void rm_hooks_forked(rm_hooks *hooks) {
  pthread_mutex_init(&hooks->lock, NULL);
  pthread_cond_init(&hooks->idle, NULL);
  for (rm_list *node = hooks->list.next; node != &hooks->list;) {
    hook *h = RM_CONTAINER_OF(node, hook, link);
    node = node->next;
    h->running = 0;
    if (!h->removed) continue; /* else whoever waits to free it is the parent's */
    rm_list_remove(&h->link);
    rm_free(h);
  }
}

static void update_mask(rm_hooks *hooks) {
  int mask = 0;
  for (rm_list *node = hooks->list.next; node != &hooks->list; node = node->next) {
    hook *h = RM_CONTAINER_OF(node, hook, link);
    if (!h->removed) mask |= h->mask;
  }
  atomic_store(&hooks->mask, mask);
}

int rm_hooks_add(rm_hooks *hooks, int mask, redmoon_event_fn fn, void *ctx, uint64_t *id) {
  hook *h = rm_calloc(1, sizeof *h);
  if (h == NULL) return REDMOON_ENOMEM;
  h->mask = mask;
  h->fn = fn;
  h->ctx = ctx;
  pthread_mutex_lock(&hooks->lock);
  h->id = ++hooks->last_id;
  rm_list_push_back(&hooks->list, &h->link);
  update_mask(hooks);
  *id = h->id;
  pthread_mutex_unlock(&hooks->lock);
  return 0;
}

void rm_hooks_remove(rm_hooks *hooks, uint64_t id) {
  pthread_mutex_lock(&hooks->lock);
  for (rm_list *node = hooks->list.next; node != &hooks->list; node = node->next) {
    hook *h = RM_CONTAINER_OF(node, hook, link);
    if (h->id != id || h->removed) continue;
    h->removed = true;
    update_mask(hooks);
    while (h->running > 0) pthread_cond_wait(&hooks->idle, &hooks->lock);
    rm_list_remove(&h->link);
    rm_free(h);
    break;
  }
  pthread_mutex_unlock(&hooks->lock);
}

void rm_hooks_emit(rm_hooks *hooks, const redmoon_event *event) {
  if (!rm_hooks_wants(hooks, event->kind)) return;
  pthread_mutex_lock(&hooks->lock);
  rm_list *node = hooks->list.next;
  while (node != &hooks->list) {
    hook *h = RM_CONTAINER_OF(node, hook, link);
    if (!h->removed && (h->mask & event->kind) != 0) {
      h->running++; /* keeps `node` linked while the lock is not held */
      pthread_mutex_unlock(&hooks->lock);
      h->fn(h->ctx, event);
      pthread_mutex_lock(&hooks->lock);
      if (--h->running == 0 && h->removed) pthread_cond_broadcast(&hooks->idle);
    }
    node = node->next;
  }
  pthread_mutex_unlock(&hooks->lock);
}
