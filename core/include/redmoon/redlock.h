/* SPDX-License-Identifier: MIT */
/** Redlock: a lock over several independent primaries, held by whom most of them vote for.  It outlasts the loss of
 *  servers, not the pause of a holder: only the fence, checked by the resource, makes a lock safe (M. Kleppmann, "How to do
 *  distributed locking", 2016; S. Sanfilippo, "Is Redlock safe?", 2016).  docs/redlock.md says what it can promise. */
#ifndef REDMOON_REDLOCK_H
#define REDMOON_REDLOCK_H

#include <redmoon/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The servers that vote.  Thread class: immutable after redmoon_redlock_new; share it freely. */
typedef struct redmoon_redlock redmoon_redlock;

enum { REDMOON_REDLOCK_MIN = 2, REDMOON_REDLOCK_MAX = 31 }; /**< servers; 3 or 5 make sense */

typedef struct redmoon_redlock_options {
  int64_t quarantine_ms; /**< 60,000; 10 ms to 24 h: the longest lease that anybody takes on these servers.  A server's vote
                              counts only when it has been up for so long and 1 s more, because one that lost its memory
                              has forgotten whom it voted for; and no ttl may be longer.  0: no quarantine, for servers that lose
                              nothing (appendfsync always) */
} redmoon_redlock_options;
#define REDMOON_REDLOCK_OPTIONS_INIT \
  { REDMOON_UNSET }

/** Of one acquisition; what it means is that of the options of a lock. */
typedef struct redmoon_redlock_request {
  int64_t ttl_ms;      /**< 10,000; the lease, 10 ms to the quarantine, to 24 h without one */
  int64_t wait_ms;     /**< 0; how long to go on asking, 0 to 24 h: while another holds it, and while too few servers vote */
  int64_t renew;       /**< 0; 1: the keeper thread of the first client prolongs the lease at each third of it */
  int64_t max_hold_ms; /**< none; from ttl to 366 days: this handle is not prolonged beyond that.  0: none */
} redmoon_redlock_request;
#define REDMOON_REDLOCK_REQUEST_INIT \
  { REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET }

/** No I/O.  Of each client a reference is kept; they must be of different servers.  `options` NULL: the defaults. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_redlock_new(redmoon_client *const *clients, size_t count,
                                                       const redmoon_redlock_options *options, redmoon_redlock **out,
                                                       redmoon_error *err);
/** Takes the lock `name` (1 to 512 bytes): more than half of the servers must vote for it, and take its fence, the greatest
 *  of theirs.  A server that has not answered within a twentieth of the lease (50 ms at least) does not vote.  *out is a lock
 *  as any other, owned by the caller: extend, release, held, lost, fd, remaining_ms, fence, token and free are those of
 *  lock.h.  Its extension takes back the votes of servers that lost it; it fails with REDMOON_EUNAVAILABLE, and the lock stays
 *  held to its end, while too few vote.  Its release succeeds when more than half gave it back; else it may be repeated.
 *  REDMOON_ELOCKED: another holds it, or several ask at once.  REDMOON_EUNAVAILABLE: too few servers vote, or there is no
 *  thread to renew with.  REDMOON_ELOST: the answers came after the end of the lease.  REDMOON_ECONFIG: two clients reach one
 *  server.  Whatever fails, it is given back on all servers first; where that is not known (outcome UNKNOWN) a vote may last
 *  until the lease ends.  `request` NULL: the defaults.  The redlock may be freed while the lock is held. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_redlock_acquire(redmoon_redlock *redlock, const void *name, size_t name_len,
                                                           const redmoon_redlock_request *request, redmoon_lock **out,
                                                           redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_redlock_acquire_start(redmoon_redlock *redlock, const void *name,
                                                                 size_t name_len, const redmoon_redlock_request *request,
                                                                 redmoon_lock **out, redmoon_op **op, redmoon_error *err);
/** Locks and operations stay good.  NULL is allowed. */
REDMOON_API void redmoon_redlock_free(redmoon_redlock *redlock);

#ifdef __cplusplus
}
#endif
#endif
