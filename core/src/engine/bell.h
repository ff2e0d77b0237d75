/* SPDX-License-Identifier: MIT */
/** How operations that one thread drives side by side wake each other without the kernel.
 *
 *      the driver enters --> steps an operation, which rings for others --> leaves --> takes who was rung for, and steps them
 *
 *  An operation with a bell may want RM_WANT_BELL: to be stepped when it is rung for.  Only what runs between enter and leave on
 *  the driver's thread rings; whoever else has something to tell leaves it to the operation's time limit.
 *
 *  Thread class: the driver's thread; rm_bell_is_here from any. */
#ifndef RM_ENGINE_BELL_H
#define RM_ENGINE_BELL_H

#include "base/list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_bell {
  atomic_uintptr_t inside; /* the thread that has entered; 0: none */
  rm_list rung;            /* of rm_bell_place */
} rm_bell;

/** Lies in an operation; zeroed: no bell. */
typedef struct rm_bell_place {
  rm_list link;
  rm_bell *bell; /* the driver's, which outlives the wait */
  void *key;     /* what the driver knows the operation by */
} rm_bell_place;

static inline void rm_bell_init(rm_bell *bell) {
  atomic_init(&bell->inside, 0);
  rm_list_init(&bell->rung);
}
/** What it returns is given to rm_bell_leave: it may be entered once more inside.  NULL is allowed in both. */
static inline uintptr_t rm_bell_enter(rm_bell *bell) {
  if (bell == NULL) return 0;
  uintptr_t before = atomic_load_explicit(&bell->inside, memory_order_relaxed);
  atomic_store_explicit(&bell->inside, (uintptr_t)pthread_self(), memory_order_relaxed);
  return before;
}
static inline void rm_bell_leave(rm_bell *bell, uintptr_t before) {
  if (bell != NULL) atomic_store_explicit(&bell->inside, before, memory_order_relaxed);
}
static inline bool rm_bell_is_here(rm_bell *bell) {
  return atomic_load_explicit(&bell->inside, memory_order_relaxed) == (uintptr_t)pthread_self();
}
/** From here. */
static inline void rm_bell_ring(rm_bell_place *place) {
  if (!rm_list_is_linked(&place->link)) rm_list_push_back(&place->bell->rung, &place->link);
}
static inline void rm_bell_forget(rm_bell_place *place) { rm_list_remove(&place->link); }
/** The key of the one rung for first; NULL: none. */
static inline void *rm_bell_take(rm_bell *bell) {
  if (rm_list_is_empty(&bell->rung)) return NULL;
  rm_bell_place *place = RM_CONTAINER_OF(bell->rung.next, rm_bell_place, link);
  rm_list_remove(&place->link);
  return place->key;
}

#endif
