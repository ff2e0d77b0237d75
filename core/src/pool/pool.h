/* SPDX-License-Identifier: MIT */
/** The pool of one node: leases, waiters, upkeep, statistics.  No I/O of its own and no clock: time is a parameter,
 *  the connections are opaque but for rm_conn's pool fields and the hooks.
 *
 *  A borrow:
 *
 *      acquire --> CONN   a checked idle connection
 *              --> DIAL   a permit: dial, then rm_pool_dialed() or rm_pool_dial_failed()
 *              --> WAIT   in the queue (FIFO): wait on rm_lease_fd() or until lease->wake_us, then rm_pool_poll()
 *              --> negative
 *
 *  A lease's life (GIVEN: granted by another thread, to be fetched with rm_pool_poll):
 *
 *      free -> WAITING -> GIVEN_CONN ----> HELD -> free           (release, discard, cancel)
 *                      -> GIVEN_PERMIT --> DIALLING -> HELD       (dialed)    -> free (dial_failed, cancel)
 *                      -> REFUSED, SHUT -> free                   (poll returns the error)
 *
 *  Whoever frees a connection or a slot grants it to the longest waiter at once, under the lock; a newcomer queues
 *  behind waiters.  Event descriptors are signalled under the lock: the owner cannot see the grant, and so cannot
 *  end the lease and close its event, before the signal was given.
 *
 *  A slot stays taken until its connection is closed, so that `size` is never exceeded, not even for a moment.
 *
 *  Lock order: the pool's mutex is a leaf; it is held for a few instructions, never across a hook, I/O or a call. */
#ifndef RM_POOL_POOL_H
#define RM_POOL_POOL_H

#include "base/event.h"
#include "base/list.h"
#include "wire/conn.h"

#include <redmoon/client.h>

typedef struct rm_pool rm_pool; /* internally locked */

typedef struct rm_pool_config {
  int size, min_idle, max_idle;
  int64_t max_idle_time_us, max_lifetime_us; /* 0: for ever; the lifetime gets +-10 % of jitter per connection */
  int64_t min_backoff_us, max_backoff_us;    /* of the dial back-off */
  int64_t probe_every_us;                    /* how often idle connections are looked at where min_idle > 0; 0: never */
  const char *name;                          /* node's address, for messages; copied */
} rm_pool_config;

/** How the pool reaches outside; called without its lock. */
typedef struct rm_pool_hooks {
  bool (*is_reusable)(rm_conn *conn, rm_close_reason *why); /* rm_conn_is_reusable */
  void (*close)(void *ctx, rm_conn *conn, rm_close_reason why);
  void (*upkeep_due)(void *ctx); /* upkeep has become due sooner than rm_pool_upkeep last said; may be NULL */
  void *ctx;
} rm_pool_hooks;

enum { RM_POOL_WAIT = 0, RM_POOL_CONN = 1, RM_POOL_DIAL = 2 };

/** A borrow from its begin to its end; lives in the caller's memory, zeroed before the first use, and must not move
 *  or go away between acquire and release/cancel. */
typedef struct rm_lease {
  rm_list link;
  rm_pool *pool; /* NULL: not in use */
  rm_conn *conn;
  int state;           /* the pool's */
  uintptr_t owner;     /* who holds it: the thread, or whatever the driver says; 0: nobody knows */
  bool keeps;          /* set before the begin: its owner may ask for another connection while it has this one */
  int64_t began_us;    /* begin of the wait */
  int64_t since_us;    /* begin of the lease or dial */
  int64_t wake_us;     /* while waiting: poll again at this time (RM_FOREVER: only when the fd is readable) */
  uint64_t generation; /* of the pool, to notice a fork */
  uint64_t epoch;      /* of the pool when the connection or permit was granted, to notice a purge */
  uint64_t round;      /* of the dial back-off when the permit was granted: is this failure news? */
  int64_t promised_us; /* the pool's copy of wake_us, which only the owner may read */
  rm_event event;      /* opened at the first wait; kept until rm_lease_fini */
  pid_t event_pid;     /* who opened it: 0 nobody; a child opens its own, lest it steals its parent's signals */
  bool signalled;      /* the event is readable */
  bool warming;        /* a permit of upkeep */
} rm_lease;

int rm_pool_new(const rm_pool_config *config, const rm_pool_hooks *hooks, rm_pool **out, redmoon_error *err);
/** No lease may be left.  NULL is allowed. */
void rm_pool_free(rm_pool *pool);

/** Begins a borrow.  Errors: CLOSED; POOL_DEADLOCK (each lease belongs to `owner`, or is kept by one who
 *  waits here, too); CONNECT at once while the dial
 *  back-off lasts and nothing can come back (the text holds the last dial error, whose status, code, phase and
 *  address are kept where they are CONNECT, TLS, PROTOCOL, UNAVAILABLE or a server's); UNAVAILABLE (no event);
 *  CONFIG (the lease is in use).  After an error the lease is free. */
int rm_pool_acquire(rm_pool *pool, rm_lease *lease, uintptr_t owner, int64_t now_us, redmoon_error *err);
/** After a wake-up (a spurious one does no harm): as rm_pool_acquire.  What was handed over is checked like what lay
 *  idle; if it is bad, the borrow goes on in front of those who came later. */
int rm_pool_poll(rm_lease *lease, int64_t now_us, redmoon_error *err);
static inline int rm_lease_fd(const rm_lease *lease) { return lease->event.fd; }
/** A permit became a connection; the lease holds it now.  0, or CLOSED when the pool was shut down meanwhile (the
 *  connection was closed and the lease has ended). */
int rm_pool_dialed(rm_lease *lease, rm_conn *conn, int64_t now_us, redmoon_error *err);
/** A permit is given back because the dial failed: the back-off begins or grows, waiters that nothing can serve are
 *  refused with this error. */
void rm_pool_dial_failed(rm_lease *lease, const redmoon_error *why, int64_t now_us);
/** Ends a lease; a connection in order goes to the longest waiter, else to the idle ones (or is closed when there
 *  are max_idle of them, or its lifetime is over). */
void rm_pool_release(rm_lease *lease, int64_t now_us);
/** Ends a lease by closing its connection. */
void rm_pool_discard(rm_lease *lease, rm_close_reason why, int64_t now_us);
/** Ends a borrow in whatever state it is: leaves the queue, passes on what was granted and not fetched, gives a
 *  permit back without blame, discards a connection (DIRTY). */
void rm_pool_cancel(rm_lease *lease, int64_t now_us);
/** From here on others than its owner use the lease, too: it speaks for no deadlock of the owner's. */
void rm_pool_share(rm_lease *lease);
/** Whether the connection of this lease will be closed when it comes back: a purge, a shutdown, its lifetime. */
bool rm_pool_is_stale(const rm_lease *lease, int64_t now_us);
/** Closes what the lease still owns (its event).  After release/cancel. */
void rm_lease_fini(rm_lease *lease);

/** The text of POOL_TIMEOUT: limits, in use, waiters, age of the oldest lease, last dial error.  Counts the
 *  timeout. The borrow has ended; what was granted at the last moment goes to the next waiter.  Returns
 *  REDMOON_EPOOL_TIMEOUT (CLOSED for a lease of the parent's after a fork). */
int rm_pool_timed_out(rm_lease *lease, int64_t now_us, redmoon_error *err);

/** Every idle connection is closed, every connection lent out is dropped when it comes back (READONLY, fail-over). */
void rm_pool_purge(rm_pool *pool, rm_close_reason why, int64_t now_us);
/** From here on `min_idle` connections are kept ready, at most max_idle, and looked at every `probe_every_us`. */
void rm_pool_keep(rm_pool *pool, int min_idle, int64_t probe_every_us, int64_t now_us);
/** No borrow succeeds from here: waiters wake with CLOSED, idle connections are closed, the sockets of those lent
 *  out are shut down so that whoever blocks on one wakes. */
void rm_pool_shutdown(rm_pool *pool, int64_t now_us);

/** Does what upkeep is due: closes idle connections past max_idle_time (down to min_idle) and max_lifetime, and, where
 *  some are to be kept ready, those whose peer has left or said something.  *dials is how many connections are missing
 *  for min_idle and may be dialled now.  Returns when to call again (RM_FOREVER: when upkeep_due is called).  Whoever makes
 *  a pool with min_idle calls it once at the begin. */
int64_t rm_pool_upkeep(rm_pool *pool, int64_t now_us, int *dials);
/** A permit for upkeep: RM_POOL_DIAL, or RM_POOL_WAIT when none is needed or to be had (no queueing; the lease is
 *  free). Afterwards rm_pool_dialed() and rm_pool_release(), or rm_pool_dial_failed(). */
int rm_pool_acquire_permit(rm_pool *pool, rm_lease *lease, int64_t now_us);

void rm_pool_stats(const rm_pool *pool, redmoon_stats *out);
/** In the child after fork(), called by its only thread, whoever held the lock at the fork: forgets all
 *  connections, waiters, leases and counts.  Each inherited socket is replaced, under its number, by a dead one (EOF
 *  and EPIPE): the peer hears nothing, and nothing that still knows the number can write to a stranger.  No hook is
 *  called: connections that were idle are closed by a later rm_pool_upkeep or rm_pool_free.  A lease of the parent's
 *  is refused with CLOSED by rm_pool_poll and rm_pool_dialed; release, discard and cancel only close its connection. */
void rm_pool_forked(rm_pool *pool);

#endif
