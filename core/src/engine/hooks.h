/* SPDX-License-Identifier: MIT */
/** Hooks of a client.  Without one, an event costs one atomic load. */
#ifndef RM_ENGINE_HOOKS_H
#define RM_ENGINE_HOOKS_H

#include "base/list.h"
#include "wire/conn.h"

#include <pthread.h>
#include <redmoon/client.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct rm_hooks {
  atomic_int mask; /* kinds that anybody asked for */
  pthread_mutex_t lock;
  pthread_cond_t idle;
  rm_list list;
  uint64_t last_id;
} rm_hooks;

void rm_hooks_init(rm_hooks *hooks);
void rm_hooks_fini(rm_hooks *hooks);
/** In a forked child: calls that were under way on other threads of the parent's will not end here. */
void rm_hooks_forked(rm_hooks *hooks);
int rm_hooks_add(rm_hooks *hooks, int mask, redmoon_event_fn fn, void *ctx, uint64_t *id);
void rm_hooks_remove(rm_hooks *hooks, uint64_t id);
static inline bool rm_hooks_wants(rm_hooks *hooks, int kind) {
  return (atomic_load_explicit(&hooks->mask, memory_order_relaxed) & kind) != 0;
}
/** Of a connect event: how long each phase took (RM_CONNECT_PHASES of them). */
static inline void rm_hooks_set_phases(redmoon_event *event, const int64_t *phases_us) {
  event->resolve_us = phases_us[RM_CONNECT_RESOLVE];
  event->dial_us = phases_us[RM_CONNECT_DIAL];
  event->tls_us = phases_us[RM_CONNECT_TLS];
  event->handshake_us = phases_us[RM_CONNECT_HANDSHAKE];
}
/** Calls every hook for event->kind, without a lock held. */
void rm_hooks_emit(rm_hooks *hooks, const redmoon_event *event);

#endif
