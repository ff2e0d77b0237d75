/* SPDX-License-Identifier: MIT */
/** What a semaphore or a read-write lock hands out: a permit with a lease.  Only the fence, checked by the resource
 *  (redmoon_fence_guard), protects it from a holder that was paused beyond its lease. */
#ifndef REDMOON_PERMIT_H
#define REDMOON_PERMIT_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_permit redmoon_permit;

/** Prolongs the lease to `ttl_ms` from now (REDMOON_UNSET: the ttl it was taken with; 10 ms to 24 h); never
 * shortens it.  REDMOON_ELOST when it is held no more. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_permit_extend(redmoon_permit *permit, int64_t ttl_ms,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_permit_extend_start(redmoon_permit *permit, int64_t ttl_ms,
                                                               redmoon_op **op, redmoon_error *err);
/** Gives it back; of one that a read-write lock has handed out more than once, the last release does. REDMOON_ELOST
 *  when it had been lost: nothing was changed.  Safe to repeat when it failed, or after the last. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_permit_release(redmoon_permit *permit, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_permit_release_start(redmoon_permit *permit, redmoon_op **op,
                                                                redmoon_error *err);
/** Whether the lease still runs, judged locally on CLOCK_BOOTTIME with 1 % + 2 ms taken off.  No I/O. */
REDMOON_API int redmoon_permit_held(const redmoon_permit *permit);
/** Milliseconds left of the lease, by the same judgement; 0 when it ended. */
REDMOON_API int64_t redmoon_permit_remaining_ms(const redmoon_permit *permit);
/** Rises over every acquisition under this name; 0 of a permit to read. */
REDMOON_API int64_t redmoon_permit_fence(const redmoon_permit *permit);
/** How many permits it stands for. */
REDMOON_API int64_t redmoon_permit_count(const redmoon_permit *permit);
/** 32 hex digits from libsodium; live as long as the permit. */
REDMOON_API const char *redmoon_permit_token(const redmoon_permit *permit);
/** Frees the handle; a lease still held is left to run out (release first).  One that was handed out more than once
 * is freed as often.  NULL is allowed. */
REDMOON_API void redmoon_permit_free(redmoon_permit *permit);

#ifdef __cplusplus
}
#endif
#endif
