/* SPDX-License-Identifier: MIT */
/** The keeper: the one background thread of a client.  Started at the first need; does what upkeep the pools say is
 *  due; never touches Lua. */
#ifndef RM_ENGINE_KEEPER_H
#define RM_ENGINE_KEEPER_H

#include <pthread.h>
#include <stdbool.h>

typedef struct rm_core rm_core;

typedef struct rm_keeper {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  pthread_t thread;
  bool started, stopping, due;
} rm_keeper;

void rm_keeper_init(rm_keeper *keeper);
void rm_keeper_fini(rm_keeper *keeper);
/** Upkeep has become due: starts or wakes the thread.  Where no thread can be had upkeep is left to the borrows. */
void rm_keeper_wake(rm_core *core);
/** Returns when the thread has ended. */
void rm_keeper_stop(rm_keeper *keeper);
/** In a forked child: there is no thread any more. */
void rm_keeper_forked(rm_keeper *keeper);

#endif
