/* SPDX-License-Identifier: MIT */
/** An operation that repeats an attempt when it is woken, and after jittered sleeps, until it is granted, fails, or the wait
 *  is over. */
#ifndef RM_PATTERNS_WAITING_H
#define RM_PATTERNS_WAITING_H

#include "engine/op.h"

#include <redmoon/script.h>

/** What `retry_us` answers when waiting is of no use. */
#define RM_WAITING_NEVER (-1)

/** One attempt, among others. */
typedef struct rm_waiting_try {
  int64_t left_us; /* of the wait; 0 for the last attempt: there always is one, unless the waiting ends before */
  bool others;     /* others of this client wait for the same: if this one is granted, the server is to know */
} rm_waiting_try;

/** What is waited for.  Static. */
typedef struct rm_waiting_class {
  /** Starts an attempt.  It ends with REDMOON_ELOCKED when others have what it asked for; it notes what it was granted in
   *  `ctx`. */
  int (*start)(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err);
  /** After REDMOON_ELOCKED: microseconds until it may be granted at the latest, or RM_WAITING_NEVER. */
  int64_t (*retry_us)(void *ctx);
  /** After an attempt was granted: writes the caller's out-parameters. */
  int (*finish)(void *ctx, redmoon_error *err);
  /** Ends `ctx`; called exactly once, also when rm_waiting_start fails. */
  void (*drop)(void *ctx);
  /** How long to sleep after so many attempts; the end of the wait cuts it.  NULL: up to 8 ms at first, to 250 ms later,
   *  and to retry_us at the most. */
  int64_t (*pause_us)(void *ctx, int attempts);
  /** The channel of those who wait for it (engine/wakeups.h), valid until drop; NULL: there is none. */
  redmoon_bytes (*channel)(void *ctx);
  /** What a message carries that is for this waiter alone; NULL: messages are for whoever waits in turn. */
  redmoon_bytes (*tag)(void *ctx);
  /** How often to ask, after LOCKED, though it will be woken; 0: as if it would not be.  NULL: RM_WAKEUPS_POLL_US. */
  int64_t (*heartbeat_us)(void *ctx);
  /** After LOCKED: whether there is something that may do for others.  NULL: never. */
  bool (*leaves_some)(void *ctx);
  /** Many may have it at once: who is granted it wakes the next. */
  bool shared;
} rm_waiting_class;

/** A bound of pauses that doubles with each attempt, from `first_us` after one to `longest_us`. */
int64_t rm_waiting_bound_us(int attempts, int64_t first_us, int64_t longest_us);

/** `wait_ms` 0: one attempt.  It begins attempts for wait_ms at the most, so with the last one's own deadline it
 * takes up to wait_ms + the client's timeout. */
int rm_waiting_start(redmoon_client *client, const rm_waiting_class *class, void *ctx, int64_t wait_ms,
                     redmoon_op **op, redmoon_error *err);

/** An operation that has nothing to do and ends well. */
int rm_nothing_start(redmoon_client *client, redmoon_op **op, redmoon_error *err);
/** An operation that ends well after `ms`, or with REDMOON_ECLOSED when the client is shut down before. */
REDMOON_API int rm_pause_start(redmoon_client *client, int64_t ms, redmoon_op **op, redmoon_error *err);

#endif
