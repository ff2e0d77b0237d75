/* SPDX-License-Identifier: MIT */
/** Operations in flight together: stepped when something came of what each waits for, and waited for as one.
 *
 *      open --> add ... --> step() --> wants {one descriptor, the earliest deadline} --> step() ... --> none is left
 *
 *  The descriptor is an epoll instance that holds whatever the members wait for, so that any driver can wait for it. */
#ifndef RM_ENGINE_GATHER_H
#define RM_ENGINE_GATHER_H

#include "engine/op.h"

#include <sys/types.h>

typedef struct rm_member {
  redmoon_op *op; /* borrowed; NULL: the place is free */
  int fd;         /* in the epoll instance; -1: not */
  bool due;       /* something came, or it was never stepped */
} rm_member;

/** One thread at a time. */
typedef struct rm_gather {
  int epfd; /* -1: none could be had; then the members are looked at every millisecond */
  pid_t pid;
  rm_member *members;
  size_t count;
} rm_gather;

/** For up to `count` members.  0 or NOMEM. */
int rm_gather_open(rm_gather *gather, size_t count, redmoon_error *err);
/** Puts an operation into place `index`, to be stepped by the next step. */
void rm_gather_set(rm_gather *gather, size_t index, redmoon_op *op);
/** Takes it out, whatever its state; before it is ended. */
void rm_gather_unset(rm_gather *gather, size_t index);
/** Steps whatever is due.  Returns how many have not ended; with any, `wants` says what to wait for. */
size_t rm_gather_step(rm_gather *gather, int64_t now_us, rm_wants *wants);
/** Zeroed memory is allowed.  The members must be unset, or never be stepped again. */
void rm_gather_close(rm_gather *gather);

#endif
