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

/** Held on one server, or on most of several (redlock.h).  Thread class: one thread at a time; redmoon_lock_held, _lost,
 *  _remaining_ms, _fence and _token from any thread, while the handle is not freed. */
typedef struct redmoon_lock redmoon_lock;

typedef struct redmoon_lock_options {
  int64_t ttl_ms;  /**< 10,000; the lease, 10 ms to 24 h */
  int64_t wait_ms; /**< 0; how long to wait for another holder, 0 to 24 h.  A limit of its own: the client's `timeout` is for
                        each time that the server is asked, and is not used up by waiting */
  int64_t renew;   /**< 0; 1: the client's keeper thread prolongs the lease at each third of it, until the release */
  int64_t max_hold_ms;   /**< none; from ttl to 366 days: nobody prolongs the lease beyond this long after the lock was
                              acquired; enforced on the server as well.  0: none */
  int64_t min_replicas;  /**< 0 to 1,000; so many replicas must have got it, within a third of the lease and 1 s; else it
                              is given back, REDMOON_EUNAVAILABLE */
  const char *token;      /**< NULL: a fresh one.  That of a lock that the caller holds (redmoon_lock_token): it is held
                               once more, with the same fence, and needs one release more.  If nobody holds it, it is
                               acquired as usual */
  const char *request_id; /**< NULL; 1 to 128 of A-Z a-z 0-9 . _ -: repeating the call with the same id, within 10 minutes,
                               gives the same lock, or REDMOON_ELOST when that one is held no more */
  int64_t fair;           /**< 0; 1: those who wait with it get the lock in the order in which they asked first.  While any of
                               them waits, nobody else gets it, without it neither; its owner still holds it once more */
} redmoon_lock_options;
#define REDMOON_LOCK_OPTIONS_INIT \
  {REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, 0, 0, REDMOON_UNSET}

/** Takes the lock, or returns REDMOON_ELOCKED: at once, or after wait_ms.  A waiter is woken by the release, over one
 *  connection of the client that exists while somebody waits, and asks every few seconds besides, and when the holder's lease
 *  ends; while it cannot be woken it asks after pauses of 10 ms to 1 s (random, growing).  One that is `fair` holds a ticket
 *  while it waits, which lives for 5 s from each time that it asked: one that died, or was cancelled, keeps the others
 *  waiting no longer.
 *  `name`: 1 to 512 bytes.  *out is owned by the caller (redmoon_lock_free).  REDMOON_ELOST: granted, but its lease ended
 *  before the answer came.  REDMOON_EUNAVAILABLE: too few replicas, or no thread to renew with; it was given back (else the outcome is UNKNOWN and it runs out). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_acquire(redmoon_client *client, const void *name, size_t name_len,
                                                        const redmoon_lock_options *options, redmoon_lock **out,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_acquire_start(redmoon_client *client, const void *name,
                                                              size_t name_len, const redmoon_lock_options *options,
                                                              redmoon_lock **out, redmoon_op **op,
                                                              redmoon_error *err);
/** Prolongs the lease to `ttl_ms` from now (REDMOON_UNSET: the ttl of the acquisition), at most to max_hold; never shortens
 *  it.  REDMOON_ELOST when it is held no more, REDMOON_EUNAVAILABLE when max_hold allows no more: it is held to its end. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_extend(redmoon_lock *lock, int64_t ttl_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op,
                                                             redmoon_error *err);
/** Gives it back; redmoon_lock_holds tells whether its owner holds it still, by other handles with the same token.
 *  REDMOON_ELOST when it had been lost: nothing was changed.  Safe to repeat. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_release(redmoon_lock *lock, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_release_start(redmoon_lock *lock, redmoon_op **op,
                                                              redmoon_error *err);
/** Whether the lease still runs, judged locally on CLOCK_BOOTTIME with 1 % + 2 ms taken off: it ends here before it ends on
 *  the server.  Once it was lost it stays so.  No I/O. */
REDMOON_API int redmoon_lock_held(const redmoon_lock *lock);
/** Whether it was lost: its lease ended, or the server said that it is gone.  Not after a release was begun. */
REDMOON_API int redmoon_lock_lost(const redmoon_lock *lock);
/** A descriptor to poll, readable from the moment the lock is lost on; it needs no thread, and follows extensions and
 *  renewals.  It is the lock's: not to be read or closed.  Negative (REDMOON_EUNAVAILABLE) when the system has none left.
 *  To be asked for by the process that acquired the lock. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_lock_fd(redmoon_lock *lock, redmoon_error *err);
/** Milliseconds left of the lease, by the same judgement; 0 when it ended. */
REDMOON_API int64_t redmoon_lock_remaining_ms(const redmoon_lock *lock);
/** Rises over every holder of this name; hand it to the resource. */
REDMOON_API int64_t redmoon_lock_fence(const redmoon_lock *lock);
/** How often its owner held it when the server answered last: 1 after a plain acquisition, 0 after the last release. */
REDMOON_API int64_t redmoon_lock_holds(const redmoon_lock *lock);
/** 32 hex digits from libsodium; live as long as the lock. */
REDMOON_API const char *redmoon_lock_token(const redmoon_lock *lock);
/** Frees the handle and ends its renewal; a lease still held is left to run out (release first).  Not to be called from a
 *  hook.  NULL is allowed. */
REDMOON_API void redmoon_lock_free(redmoon_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
