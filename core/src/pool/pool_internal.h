/* SPDX-License-Identifier: MIT */
/** What the files of the pool share.  Unless said otherwise these functions are called with the mutex held. */
#ifndef RM_POOL_POOL_INTERNAL_H
#define RM_POOL_POOL_INTERNAL_H

#include "base/clock.h"
#include "pool/pool.h"

#include <pthread.h>

enum rm_lease_state {
  RM_LEASE_FREE = 0,
  RM_LEASE_WAITING,
  RM_LEASE_GIVEN_CONN,   /* granted, not fetched yet */
  RM_LEASE_GIVEN_PERMIT, /* granted, not fetched yet */
  RM_LEASE_REFUSED,      /* nothing could come back while dials are held off */
  RM_LEASE_SHUT,         /* the pool was shut down */
  RM_LEASE_DIALLING,     /* from here on the owner knows what it has */
  RM_LEASE_HELD
};

/** What holds dials off while they fail.  A round ends with each failure that is news and each recovery: of many
 * dials that fail together only the first makes the pause longer. */
typedef struct rm_backoff {
  int64_t min_us, max_us;
  int64_t gate_us; /* no dial before; meaningful while failures > 0 */
  int failures;    /* in a row */
  uint64_t round;
  redmoon_error last; /* of the last failed dial */
} rm_backoff;

struct rm_pool {
  pthread_mutex_t mutex;
  rm_list idle;    /* most recently used first; empty while there are waiters */
  rm_list leases;  /* connections lent out and permits, oldest first */
  rm_list waiters; /* longest waiting first */
  int idle_count, in_use, dialling, waiting;
  int warming; /* those of `dialling` that are upkeep's */
  int size, min_idle, max_idle;
  int64_t max_idle_time_us, max_lifetime_us;
  bool closed;
  rm_close_reason purge_why; /* of the last purge */
  uint64_t epoch;            /* counts purges */
  uint64_t generation;       /* counts forks */
  int64_t upkeep_at_us;      /* when upkeep knows that it is due */
  int64_t probe_every_us, probe_at_us;
  rm_backoff backoff;
  redmoon_stats counts; /* the counters; its gauges are not used */
  rm_pool_hooks hooks;
  rm_list *orphans; /* the parent's idle connections, in a forked child: a chain by `next`, NULL at its end */
  rm_conn **slots; /* `size` of them: every connection there is, for a child whose lists may be half-changed */
  char *name;
};

static inline void rm_pool_lock(rm_pool *pool) { pthread_mutex_lock(&pool->mutex); }
static inline void rm_pool_unlock(rm_pool *pool) { pthread_mutex_unlock(&pool->mutex); }
static inline int rm_pool_total(const rm_pool *pool) { return pool->idle_count + pool->in_use + pool->dialling; }

/* backoff.c */
/** Whether a dial may begin now.  While dials fail there is one at a time, and none before the gate. */
bool rm_backoff_allows(const rm_pool *pool, int64_t now_us);
/** When a dial may begin that nothing but the gate holds off; RM_FOREVER if something else does (an event will
 * tell). */
int64_t rm_backoff_gate(const rm_pool *pool);
/** Whether a waiter has nothing to wait for: dials are held off, and there is no connection that could come back.
 */
bool rm_backoff_is_hopeless(const rm_pool *pool, int64_t now_us);
/** `draw`: uniform in [0, RM_BACKOFF_DRAW], drawn before the mutex was taken. */
#define RM_BACKOFF_DRAW ((int64_t)1 << 20)
void rm_backoff_failed(rm_backoff *backoff, uint64_t round, const redmoon_error *why, int64_t draw, int64_t now_us);
void rm_backoff_succeeded(rm_backoff *backoff);
/** The error of a borrow that is refused because of `last`; dials are held off for `wait_us` more.  Without the
 * mutex. */
int rm_backoff_fail(const char *name, const redmoon_error *last, int64_t wait_us, redmoon_error *err);

/* lease.c */
/** Makes `lease` hold a connection that is counted in use (a hit). */
void rm_lease_lend(rm_pool *pool, rm_lease *lease, rm_conn *conn, int64_t now_us);
/** Makes `lease` hold a permit to dial (a miss, unless it is upkeep's). */
void rm_lease_permit(rm_pool *pool, rm_lease *lease, int64_t now_us);

/** A connection that is counted in use and whose lease is over: to the longest waiter, else to the idle ones.  False: it is
 *  forgotten, still counted in use, and to be closed for *why.  `epoch`: when it was lent. */
bool rm_pool_put_back(rm_pool *pool, rm_conn *conn, uint64_t epoch, int64_t now_us, rm_close_reason *why);

/* queue.c */
void rm_queue_join(rm_pool *pool, rm_lease *lease, bool in_front, int64_t now_us);
void rm_queue_leave(rm_pool *pool, rm_lease *lease, int64_t now_us);
/** Grants a connection that is counted in use to the longest waiter; false if there is none. */
bool rm_queue_hand_over(rm_pool *pool, rm_conn *conn, int64_t now_us);
/** To be called after any event that may let a waiter dial or leave it without hope. */
void rm_queue_serve(rm_pool *pool, int64_t now_us);
/** When this waiter has to poll by itself. */
int64_t rm_queue_wake_us(const rm_pool *pool, const rm_lease *lease);
/** Ends all waits with `state`. */
void rm_queue_end_all(rm_pool *pool, int state, int64_t now_us);
void rm_lease_signal(rm_lease *lease);
void rm_lease_clear(rm_lease *lease);

/* close.c */
/** Forgets a connection that is about to be closed for `why`, and counts it. */
void rm_pool_forget(rm_pool *pool, const rm_conn *conn, rm_close_reason why);
/** Closes a forgotten connection, then frees its slot.  Without the mutex. */
void rm_pool_retire(rm_pool *pool, rm_conn *conn, rm_close_reason why, int64_t now_us);
/** Moves an idle connection to `doomed`: forgotten, and counted in use until it is closed. */
void rm_pool_doom(rm_pool *pool, rm_conn *conn, rm_list *doomed, rm_close_reason why);
/** Closes the doomed.  Without the mutex; their slots remain taken: returns how many, to be subtracted from in_use.
 */
int rm_pool_close_all(rm_pool *pool, rm_list *doomed, rm_close_reason why);
/** Closes the connections that the parent of this process left idle.  Without the mutex. */
void rm_pool_close_orphans(rm_pool *pool);

/* upkeep.c */
/** When upkeep becomes due because of idle connections (`fresh` the one that was added, or NULL) or missing ones:
 * true if that is sooner than it knows, and then upkeep_due is to be called after unlocking. */
bool rm_upkeep_note(rm_pool *pool, const rm_conn *fresh, int64_t now_us);
/** Without the mutex. */
static inline void rm_upkeep_tell(rm_pool *pool, bool due) {
  if (due && pool->hooks.upkeep_due != NULL) pool->hooks.upkeep_due(pool->hooks.ctx);
}
/** Unlocks and tells. */
static inline void rm_pool_leave(rm_pool *pool, int64_t now_us) {
  bool due = rm_upkeep_note(pool, NULL, now_us);
  rm_pool_unlock(pool);
  rm_upkeep_tell(pool, due);
}

/* stats.c */
/** The pool at a moment, for a message that is written without the mutex. */
typedef struct rm_pool_view {
  int idle, in_use, dialling, waiting;
  int kept;          /* leases that their owners keep from call to call */
  int64_t oldest_us; /* age of the oldest lease; -1: there is none */
  bool failing;
  redmoon_error last; /* if failing: the last dial's */
} rm_pool_view;
void rm_pool_look(const rm_pool *pool, rm_pool_view *view, int64_t now_us);
/* Without the mutex; they return their status. */
int rm_pool_fail_timeout(const rm_pool *pool, const rm_pool_view *view, int64_t waited_us, redmoon_error *err);
/** `own`: how many are the caller's. */
int rm_pool_fail_deadlock(const rm_pool *pool, int own, redmoon_error *err);
int rm_pool_fail_closed(const rm_pool *pool, redmoon_error *err);
int rm_pool_fail_forked(const rm_pool *pool, redmoon_error *err);

#endif
