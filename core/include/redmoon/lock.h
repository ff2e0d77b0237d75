/* SPDX-License-Identifier: MIT */
/** Locks with a lease, an owner's token and a fence (M. Kleppmann, "How to do distributed locking", 2016: only the
 *  fence, checked by the resource, makes a lock safe).  Exclusion holds inside the lease on a server that does not fail
 *  over; the fence rises over every holder, even after the counter was lost. */
#ifndef REDMOON_LOCK_H
#define REDMOON_LOCK_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_lock redmoon_lock;

typedef struct redmoon_lock_options {
  int64_t ttl_ms; /**< 10,000; the lease, 10 ms to 24 h */
} redmoon_lock_options;
#define REDMOON_LOCK_OPTIONS_INIT {REDMOON_UNSET}

/** Takes the lock or returns REDMOON_ELOCKED at once.  `name`: 1 to 512 bytes.  *out is owned by the caller
 *  (redmoon_lock_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_acquire(redmoon_client *client, const void *name, size_t name_len,
                                                        const redmoon_lock_options *options, redmoon_lock **out,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_acquire_start(redmoon_client *client, const void *name,
                                                              size_t name_len, const redmoon_lock_options *options,
                                                              redmoon_lock **out, redmoon_op **op,
                                                              redmoon_error *err);
/** Prolongs the lease to `ttl_ms` from now (REDMOON_UNSET: the ttl of the acquisition); never shortens it.
 *  REDMOON_ELOST when it is held no more. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_extend(redmoon_lock *lock, int64_t ttl_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op,
                                                             redmoon_error *err);
/** Gives it back.  REDMOON_ELOST when it had been lost: nothing was changed.  Safe to repeat. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_release(redmoon_lock *lock, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_release_start(redmoon_lock *lock, redmoon_op **op,
                                                              redmoon_error *err);
/** Whether the lease still runs, judged locally on CLOCK_BOOTTIME with 1 % + 2 ms taken off.  No I/O. */
REDMOON_API int redmoon_lock_held(const redmoon_lock *lock);
/** Milliseconds left of the lease, by the same judgement; 0 when it ended. */
REDMOON_API int64_t redmoon_lock_remaining_ms(const redmoon_lock *lock);
/** Rises over every holder of this name; hand it to the resource. */
REDMOON_API int64_t redmoon_lock_fence(const redmoon_lock *lock);
/** 32 hex digits from libsodium; live as long as the lock. */
REDMOON_API const char *redmoon_lock_token(const redmoon_lock *lock);
/** Frees the handle; a lease still held is left to run out (release first).  NULL is allowed. */
REDMOON_API void redmoon_lock_free(redmoon_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
