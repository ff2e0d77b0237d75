/* SPDX-License-Identifier: MIT */
/** Between discovery.c and the kinds of discovery. */
#ifndef RM_ENGINE_DISCOVERY_INTERNAL_H
#define RM_ENGINE_DISCOVERY_INTERNAL_H

#include "engine/core.h"
#include "engine/discovery.h"
#include "engine/inquiry.h"

#include <pthread.h>

typedef struct rm_discovery_class {
  size_t size;
  /** After it was zeroed; NULL: nothing to do.  0 or negative, then `fini` is not called. */
  int (*init)(rm_discovery *discovery, redmoon_error *err);
  void (*fini)(rm_discovery *discovery); /* NULL: nothing to do */
  /** One round, begun by the first step after it came to its end; on the keeper's thread.  RM_WAIT with `wants`; RM_DONE: the
   *  route was told; negative: so was it, by rm_route_failed. */
  int (*step)(rm_discovery *discovery, int64_t now_us, rm_wants *wants, redmoon_error *err);
  /** Between two rounds: listens for news.  True: a round is wanted at once; else `wants` is what to wait for.  NULL: there
   *  is nothing to be heard. */
  bool (*listen)(rm_discovery *discovery, int64_t now_us, rm_wants *wants);
  /** Gives up whatever goes on, without a word to the peers.  `busy`: in a forked child, where nobody can tell what state it
   *  is in; then it is not looked at, and left to the parent. */
  void (*drop)(rm_discovery *discovery, bool busy);
} rm_discovery_class;

struct rm_discovery {
  rm_driven driven; /* first */
  const rm_discovery_class *class;
  rm_core *core;
  bool running;
  int64_t period_us;    /* what is known is looked at again after so long; the kind may set another */
  int64_t retry_us;     /* after a round that failed, where nodes are known; RM_FOREVER: when it is wanted */
  int failures;         /* rounds since the last one that went well */
  uint64_t epoch;       /* of the route, when the subscriptions last heard of it */
  int64_t not_before_us, again_us; /* the next round: not before, at the latest */
  pthread_mutex_t lock; /* of what follows */
  bool added, wanted;
};

extern const rm_discovery_class rm_discover_cluster, rm_discover_sentinel;

#endif
