/* SPDX-License-Identifier: MIT */
/** The sentinels that may be asked: those of the URL, which stay, and those that they have named since.  The one that was
 *  of use last stands in front. */
#ifndef RM_ENGINE_SENTINELS_H
#define RM_ENGINE_SENTINELS_H

#include "route/shape.h"

enum { RM_SENTINELS_MAX = 64 };

typedef struct rm_sentinel {
  rm_address address; /* its own copy */
  bool seed;          /* of the URL */
  unsigned round;     /* in which it was named last */
} rm_sentinel;

/** Zeroed: none. */
typedef struct rm_sentinels {
  rm_sentinel all[RM_SENTINELS_MAX];
  size_t count;
  unsigned round;
} rm_sentinels;

/** Those of the URL, at most RM_SENTINELS_MAX, in a random order.  0 or NOMEM, then rm_sentinels_fini is allowed. */
int rm_sentinels_init(rm_sentinels *sentinels, const rm_config *config, redmoon_error *err);
void rm_sentinels_fini(rm_sentinels *sentinels);
/** Notes one that was named in this round.  What cannot be remembered is forgotten. */
void rm_sentinels_add(rm_sentinels *sentinels, const rm_announced *server);
/** The one at `at` was of use: it comes to the front, and those that were not named in this round, which ends, are
 *  forgotten. */
void rm_sentinels_prefer(rm_sentinels *sentinels, size_t at);
/** The one in front is of no use any more: the others come first. */
void rm_sentinels_postpone(rm_sentinels *sentinels);

#endif
