/* SPDX-License-Identifier: MIT */
/** What a state machine waits for.  Every non-blocking step in the core has one shape:
 *
 *      int x_step(x *, int64_t now_us, rm_wants *wants, redmoon_error *err)
 *
 *  and returns RM_DONE, RM_WAIT (with `wants` filled in) or a negative REDMOON_E* (with `err` filled in). */
#ifndef RM_BASE_WANTS_H
#define RM_BASE_WANTS_H

#include "base/clock.h"

#include <redmoon/op.h>
#include <stdint.h>

enum { RM_WAIT = 0, RM_DONE = 1 };

/** Among the events: the descriptor stays open as long as the client, and whoever ends the client makes it readable. */
enum { RM_WANT_LASTING = 1024 };

/** In events, with fd -1: until it is rung for (engine/bell.h), which only a driver sees that gave it a bell. */
enum { RM_WANT_BELL = 2048 };

typedef struct rm_wants {
  int fd;           /* -1: only time */
  int events;       /* REDMOON_WANT_*, RM_WANT_LASTING, RM_WANT_BELL */
  int64_t until_us; /* step again at this time at the latest; RM_FOREVER: no limit */
} rm_wants;

#endif
