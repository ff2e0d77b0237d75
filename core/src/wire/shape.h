/* SPDX-License-Identifier: MIT */
/** RESP2 replies in the shape RESP3 gives them, for the commands where the two differ. */
#ifndef RM_WIRE_SHAPE_H
#define RM_WIRE_SHAPE_H

#include "wire/reply.h"

#include <stddef.h>

/** Index of a command's rule: 0 for "no difference".  `name` is the command (any case), args the following ones,
 * needed because a shape can depend on them (ZRANGE ... WITHSCORES, CONFIG GET). */
typedef struct rm_shape_arg {
  const char *ptr;
  size_t len;
} rm_shape_arg;
unsigned rm_shape_of(const char *name, size_t name_len, const rm_shape_arg *args, size_t count);
/** Rewrites the reply of a command whose rule is `shape`, allocating in `arena`.  0 or REDMOON_ENOMEM.  A reply
 * that does not have the expected form is left as it is. */
int rm_shape_apply(unsigned shape, redmoon_reply *reply, rm_arena *arena);

#endif
