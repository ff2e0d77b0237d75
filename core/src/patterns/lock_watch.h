/* SPDX-License-Identifier: MIT */
/** For the binding: waiting for the loss of a lock. */
#ifndef RM_PATTERNS_LOCK_WATCH_H
#define RM_PATTERNS_LOCK_WATCH_H

#include <redmoon/lock.h>

/** An operation that ends well when the lock was lost, or its release begun, when nobody wants to know any more
 *  (rm_lock_unwatch), or when the client is shut down.  It keeps the lock's memory, not its lease; the lock has one at a
 *  time.  UNAVAILABLE when the system has no timer left. */
REDMOON_API int rm_lock_watch_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err);
/** Ends it: before a lock that is watched is freed. */
REDMOON_API void rm_lock_unwatch(redmoon_lock *lock);

#endif
