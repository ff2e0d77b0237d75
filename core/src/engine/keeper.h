/* SPDX-License-Identifier: MIT */
/** The keeper: the one background thread of a client.  Started at the first need; does what upkeep the pools say is
 *  due, drives the renewals of patterns (engine/renewal.h) and the links of subscriptions (engine/driven.h); never touches
 *  Lua. */
#ifndef RM_ENGINE_KEEPER_H
#define RM_ENGINE_KEEPER_H

#include "base/event.h"
#include "base/list.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct rm_core rm_core;

typedef struct rm_keeper {
  pthread_mutex_t lock;
  pthread_cond_t idle;  /* a renewal is busy no more */
  rm_event wake;        /* there once the thread was started */
  pthread_t thread;
  rm_list renewals;
  rm_list driven;
  size_t driven_count;
  unsigned generation;  /* counts forks */
  bool started, stopping, due;
} rm_keeper;

void rm_keeper_init(rm_keeper *keeper);
void rm_keeper_fini(rm_keeper *keeper);
/** Something has become due: starts or wakes the thread.  False: there is none, and none can be had; then upkeep is left
 *  to the borrows. */
bool rm_keeper_wake(rm_core *core);
/** Returns when the thread has ended. */
void rm_keeper_stop(rm_keeper *keeper);
/** In a forked child: there is no thread any more, and what the parent's renews is the parent's. */
void rm_keeper_forked(rm_keeper *keeper);

#endif
