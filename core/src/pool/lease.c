/* SPDX-License-Identifier: MIT */
/* The life of a lease; the drawing is in pool.h.  "Locked": called with the mutex held.
 */
#include "base/error.h"
#include "base/random.h"
#include "pool/pool_internal.h"

#include <unistd.h>

/* Small steps, locked. */

void rm_lease_lend(rm_pool *pool, rm_lease *lease, rm_conn *conn, int64_t now_us) {
  conn->idle_since_us = -1; /* lent out: a forked child leaves it to its lease */
  lease->conn = conn;
  lease->state = RM_LEASE_HELD;
  lease->since_us = now_us;
  lease->epoch = pool->epoch;
  rm_list_push_back(&pool->leases, &lease->link);
  pool->counts.hits++;
}

void rm_lease_permit(rm_pool *pool, rm_lease *lease, int64_t now_us) {
  lease->state = RM_LEASE_DIALLING;
  lease->since_us = now_us;
  lease->epoch = pool->epoch;
  lease->round = pool->backoff.round;
  rm_list_push_back(&pool->leases, &lease->link);
  pool->dialling++;
  pool->counts.dials++;
  if (lease->warming) pool->warming++;
  else pool->counts.misses++;
}

/* The dial is over, whatever its end. */
static void end_permit(rm_pool *pool, rm_lease *lease) {
  pool->dialling--;
  if (lease->warming) pool->warming--;
  lease->warming = false;
}

static void end_lease(rm_lease *lease) {
  rm_list_remove(&lease->link);
  lease->state = RM_LEASE_FREE;
  lease->pool = NULL;
  lease->conn = NULL;
}

bool rm_pool_put_back(rm_pool *pool, rm_conn *conn, uint64_t epoch, int64_t now_us, rm_close_reason *why) {
  if (pool->closed) {
    *why = RM_CLOSE_SHUTDOWN;
  } else if (epoch != pool->epoch) {
    *why = pool->purge_why;
  } else if (conn->expires_us <= now_us) {
    *why = RM_CLOSE_LIFETIME;
  } else if (rm_queue_hand_over(pool, conn, now_us)) {
    return true;
  } else if (pool->idle_count < pool->max_idle) {
    rm_list_push_front(&pool->idle, &conn->link);
    pool->in_use--;
    pool->idle_count++;
    conn->idle_since_us = now_us;
    return true;
  } else {
    *why = RM_CLOSE_IDLE;
  }
  rm_pool_forget(pool, conn, *why);
  return false;
}

/* A lease that fork() brought into this process. */

static bool is_foreign(const rm_pool *pool, const rm_lease *lease) { return lease->generation != pool->generation; }

/* The pool here does not know it.  Its event is shared with the parent and must not be read; its socket is a dead
 * one. */
static void abandon(rm_pool *pool, rm_lease *lease) {
  rm_conn *conn = lease->conn;
  lease->link = (rm_list){0};
  lease->signalled = lease->warming = false;
  end_lease(lease);
  if (conn != NULL) pool->hooks.close(pool->hooks.ctx, conn, RM_CLOSE_SHUTDOWN);
}

/* The begin of a borrow. */

/* Waiting needs an event, and one of this process: the eventfd of a lease that was copied by fork() is shared. */
static int open_event(rm_lease *lease, redmoon_error *err) {
  pid_t self = getpid();
  if (lease->event_pid == self) return 0;
  if (lease->event_pid != 0) rm_event_close(&lease->event);
  lease->event_pid = 0;
  lease->signalled = false;
  if (rm_event_open(&lease->event) != 0)
    return rm_fail_phase(err, REDMOON_EUNAVAILABLE, REDMOON_PHASE_POOL,
                         "an eventfd to wait on cannot be had: too many descriptors are open");
  lease->event_pid = self;
  return 0;
}

static bool is_waiting(const rm_pool *pool, uintptr_t owner) {
  if (owner == 0) return false;
  for (const rm_list *node = pool->waiters.next; node != &pool->waiters; node = node->next)
    if (RM_CONTAINER_OF(node, rm_lease, link)->owner == owner) return true;
  return false;
}

/* Whether nothing can come back: every connection and every dial is the caller's own (so many are), or is kept by somebody
 * who waits for another one himself.  0: something can.  The last to come is told, and what it holds lets the others go on. */
static int count_deadlocked(const rm_pool *pool, uintptr_t owner) {
  if (owner == 0 || pool->in_use + pool->dialling < pool->size) return 0;
  int own = 0, count = 0;
  for (const rm_list *node = pool->leases.next; node != &pool->leases; node = node->next, count++) {
    const rm_lease *lease = RM_CONTAINER_OF(node, rm_lease, link);
    if (lease->owner == owner) own++;
    else if (!lease->keeps || !is_waiting(pool, lease->owner)) return 0; /* mostly at the first: a call gives it back */
  }
  return count == pool->size ? own : 0; /* fewer: one is being closed, and its slot will be free */
}

/* Locked: an idle connection (still to be checked), a permit, RM_POOL_WAIT or CLOSED.  `senior`: has had a
 * connection that turned out bad, so those who wait came later. */
static int take(rm_pool *pool, rm_lease *lease, bool senior, int64_t now_us) {
  if (pool->closed) return REDMOON_ECLOSED;
  if (!senior && pool->waiting > 0) return RM_POOL_WAIT;
  if (pool->idle_count > 0) {
    rm_conn *conn = RM_CONTAINER_OF(pool->idle.next, rm_conn, link);
    rm_list_remove(&conn->link);
    pool->idle_count--;
    pool->in_use++;
    rm_lease_lend(pool, lease, conn, now_us);
    return RM_POOL_CONN;
  }
  if (!rm_backoff_allows(pool, now_us)) return RM_POOL_WAIT;
  rm_lease_permit(pool, lease, now_us);
  return RM_POOL_DIAL;
}

static bool is_usable(const rm_pool *pool, rm_conn *conn, int64_t now_us, rm_close_reason *why) {
  *why = RM_CLOSE_LIFETIME;
  return conn->expires_us > now_us && pool->hooks.is_reusable(conn, why);
}

/* Closes what was taken; returns locked, with the slot free and the lease as before. */
static void reject(rm_pool *pool, rm_lease *lease, rm_close_reason why) {
  rm_conn *conn = lease->conn;
  rm_pool_lock(pool);
  rm_list_remove(&lease->link);
  lease->conn = NULL;
  lease->state = RM_LEASE_FREE;
  pool->counts.hits--;
  rm_pool_forget(pool, conn, why);
  rm_pool_unlock(pool);
  pool->hooks.close(pool->hooks.ctx, conn, why);
  rm_pool_lock(pool);
  pool->in_use--;
}

/* Waiting. */

/* Locked: takes the lease out of the pool, whatever its state.  Returns a connection to be retired for *why, or
 * NULL. */
static rm_conn *let_go(rm_pool *pool, rm_lease *lease, int64_t now_us, rm_close_reason *why) {
  rm_conn *conn = lease->conn, *unwanted = NULL;
  int state = lease->state;
  *why = RM_CLOSE_DIRTY;
  if (state == RM_LEASE_WAITING) rm_queue_leave(pool, lease, now_us);
  if (state == RM_LEASE_GIVEN_PERMIT) { /* neither a borrow nor a dial came of it */
    pool->counts.misses--;
    pool->counts.dials--;
  }
  if (state == RM_LEASE_GIVEN_PERMIT || state == RM_LEASE_DIALLING) end_permit(pool, lease);
  rm_lease_clear(lease);
  end_lease(lease);
  if (state == RM_LEASE_HELD) {
    rm_pool_forget(pool, conn, *why);
    unwanted = conn;
  } else if (state == RM_LEASE_GIVEN_CONN) { /* untouched since its last user gave it back in order */
    pool->counts.hits--;
    if (!rm_pool_put_back(pool, conn, lease->epoch, now_us, why)) unwanted = conn;
  }
  rm_queue_serve(pool, now_us);
  return unwanted;
}

/* Unlocks, then closes what let_go left over.  `kept`: a connection that may have become idle, else NULL. */
static void leave_and_retire(rm_pool *pool, rm_conn *kept, rm_conn *unwanted, rm_close_reason why, int64_t now_us) {
  bool idle = kept != NULL && kept != unwanted && kept->idle_since_us >= 0;
  bool due = rm_upkeep_note(pool, idle ? kept : NULL, now_us);
  rm_pool_unlock(pool);
  rm_upkeep_tell(pool, due);
  if (unwanted != NULL) rm_pool_retire(pool, unwanted, why, now_us);
}

/* Ends a borrow in any state; unlocks. */
static void end_borrow(rm_pool *pool, rm_lease *lease, int64_t now_us) {
  rm_close_reason why;
  rm_conn *kept = lease->state == RM_LEASE_GIVEN_CONN ? lease->conn : NULL;
  rm_conn *unwanted = let_go(pool, lease, now_us, &why);
  leave_and_retire(pool, kept, unwanted, why, now_us);
}

static int refuse(rm_pool *pool, rm_lease *lease, int64_t now_us, redmoon_error *err) {
  redmoon_error last = pool->backoff.last;
  int64_t wait_us = pool->backoff.failures > 0 ? pool->backoff.gate_us - now_us : 0;
  end_borrow(pool, lease, now_us);
  return rm_backoff_fail(pool->name, &last, wait_us, err);
}

/* What has become of a borrow that queued; unlocks. */
static int fetch(rm_pool *pool, rm_lease *lease, int64_t now_us, redmoon_error *err) {
  if (lease->state == RM_LEASE_REFUSED) return refuse(pool, lease, now_us, err);
  if (pool->closed && lease->state < RM_LEASE_DIALLING) {
    end_borrow(pool, lease, now_us);
    return rm_pool_fail_closed(pool, err);
  }
  int result = RM_POOL_WAIT;
  rm_lease_clear(lease);
  if (lease->state == RM_LEASE_WAITING) {
    lease->wake_us = lease->promised_us = rm_queue_wake_us(pool, lease);
  } else if (lease->conn != NULL) {
    lease->state = RM_LEASE_HELD;
    result = RM_POOL_CONN;
  } else {
    lease->state = RM_LEASE_DIALLING;
    result = RM_POOL_DIAL;
  }
  rm_pool_leave(pool, now_us);
  return result;
}

/* The errors that a borrow meets before it waits; 0: none.  Unlocks with an error. */
static int check_prospects(rm_pool *pool, rm_lease *lease, int got, int64_t now_us, redmoon_error *err) {
  if (got == RM_POOL_WAIT && rm_backoff_is_hopeless(pool, now_us)) return refuse(pool, lease, now_us, err);
  int own = got == RM_POOL_WAIT ? count_deadlocked(pool, lease->owner) : 0;
  if (own == 0 && got != REDMOON_ECLOSED) return 0;
  end_borrow(pool, lease, now_us);
  return own > 0 ? rm_pool_fail_deadlock(pool, own, err) : rm_pool_fail_closed(pool, err);
}

/* Unlocks for the system call, so that everything may be different afterwards.  0, or an error and unlocked. */
static int prepare_event(rm_pool *pool, rm_lease *lease, int64_t now_us, redmoon_error *err) {
  rm_pool_unlock(pool);
  int status = open_event(lease, err);
  rm_pool_lock(pool);
  if (status != 0) end_borrow(pool, lease, now_us);
  return status;
}

/* Locked: from the begin, or (`senior`) after a connection that turned out bad; unlocks. */
static int borrow(rm_pool *pool, rm_lease *lease, bool senior, int64_t now_us, redmoon_error *err) {
  bool has_event = false;
  for (;;) {
    rm_close_reason why;
    int got = take(pool, lease, senior, now_us);
    if (got == RM_POOL_CONN || got == RM_POOL_DIAL) {
      rm_pool_leave(pool, now_us);
      if (got == RM_POOL_DIAL || is_usable(pool, lease->conn, now_us, &why)) return got;
      reject(pool, lease, why);
      senior = true;
      continue;
    }
    int status = check_prospects(pool, lease, got, now_us, err);
    if (status == 0 && !has_event) status = prepare_event(pool, lease, now_us, err);
    if (status != 0) return status;
    if (has_event) break;
    has_event = true;
  }
  rm_queue_join(pool, lease, senior, now_us);
  rm_queue_serve(pool, now_us);
  return fetch(pool, lease, now_us, err);
}

int rm_pool_acquire(rm_pool *pool, rm_lease *lease, uintptr_t owner, int64_t now_us, redmoon_error *err) {
  if (lease->pool != NULL)
    return rm_fail(err, REDMOON_ECONFIG, "this lease is in use: end it before the next borrow");
  lease->pool = pool;
  lease->owner = owner;
  rm_pool_lock(pool);
  lease->generation = pool->generation;
  return borrow(pool, lease, false, now_us, err);
}

int rm_pool_poll(rm_lease *lease, int64_t now_us, redmoon_error *err) {
  rm_pool *pool = lease->pool;
  if (pool == NULL)
    return rm_fail(err, REDMOON_ECONFIG, "this lease is not in use: nothing can be fetched with it");
  rm_pool_lock(pool);
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return rm_pool_fail_forked(pool, err);
  }
  rm_queue_serve(pool, now_us); /* the back-off may have ended */
  int got = fetch(pool, lease, now_us, err);
  rm_close_reason why;
  if (got != RM_POOL_CONN || is_usable(pool, lease->conn, now_us, &why)) return got;
  /* Handed over from caller to caller, it never lay idle; what its peer did since shows only now. */
  reject(pool, lease, why);
  return borrow(pool, lease, true, now_us, err);
}

/* Dials. */

static void set_lifetime(const rm_pool *pool, rm_conn *conn, int64_t now_us) {
  int64_t lifetime = pool->max_lifetime_us, tenth = lifetime / 10;
  conn->created_us = now_us;
  conn->expires_us = lifetime == 0 ? RM_FOREVER : now_us + lifetime - tenth + rm_random_upto(2 * tenth);
}

static void add_slot(rm_pool *pool, rm_conn *conn) {
  for (int i = 0; i < pool->size; i++) {
    if (pool->slots[i] != NULL) continue;
    pool->slots[i] = conn;
    return;
  }
}

int rm_pool_dialed(rm_lease *lease, rm_conn *conn, int64_t now_us, redmoon_error *err) {
  rm_pool *pool = lease->pool;
  set_lifetime(pool, conn, now_us);
  conn->idle_since_us = -1;
  conn->link = (rm_list){0};
  rm_pool_lock(pool);
  lease->conn = conn; /* not sooner: the lease is listed, and a shutdown may be looking at it */
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return rm_pool_fail_forked(pool, err);
  }
  end_permit(pool, lease);
  pool->in_use++;
  lease->state = RM_LEASE_HELD;
  add_slot(pool, conn);
  if (!pool->closed) {
    rm_backoff_succeeded(&pool->backoff);
    rm_queue_serve(pool, now_us);
    rm_pool_leave(pool, now_us);
    return 0;
  }
  rm_pool_forget(pool, conn, RM_CLOSE_SHUTDOWN);
  end_lease(lease);
  rm_pool_unlock(pool);
  rm_pool_retire(pool, conn, RM_CLOSE_SHUTDOWN, now_us);
  return rm_pool_fail_closed(pool, err);
}

void rm_pool_dial_failed(rm_lease *lease, const redmoon_error *why, int64_t now_us) {
  rm_pool *pool = lease->pool;
  if (pool == NULL) return;
  int64_t draw = rm_random_upto(RM_BACKOFF_DRAW);
  rm_pool_lock(pool);
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return;
  }
  pool->counts.dial_failures++;
  end_permit(pool, lease);
  /* Memory that is short here says nothing about the server: the next borrow may dial at once. */
  if (why == NULL || why->status != REDMOON_ENOMEM) rm_backoff_failed(&pool->backoff, lease->round, why, draw, now_us);
  end_lease(lease);
  rm_queue_serve(pool, now_us);
  rm_pool_leave(pool, now_us);
}

/* The end of a borrow. */

void rm_pool_release(rm_lease *lease, int64_t now_us) {
  rm_pool *pool = lease->pool;
  if (pool == NULL) return;
  rm_pool_lock(pool);
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return;
  }
  if (lease->state != RM_LEASE_HELD) { /* nothing to give back yet: a misuse that must not cost a slot */
    end_borrow(pool, lease, now_us);
    return;
  }
  rm_close_reason why = RM_CLOSE_IDLE;
  rm_conn *conn = lease->conn;
  end_lease(lease);
  bool kept = rm_pool_put_back(pool, conn, lease->epoch, now_us, &why);
  leave_and_retire(pool, kept ? conn : NULL, kept ? NULL : conn, why, now_us);
}

void rm_pool_discard(rm_lease *lease, rm_close_reason why, int64_t now_us) {
  rm_pool *pool = lease->pool;
  if (pool == NULL) return;
  rm_pool_lock(pool);
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return;
  }
  if (lease->state != RM_LEASE_HELD) {
    end_borrow(pool, lease, now_us);
    return;
  }
  rm_conn *conn = lease->conn;
  rm_pool_forget(pool, conn, why);
  end_lease(lease);
  rm_pool_unlock(pool);
  rm_pool_retire(pool, conn, why, now_us);
}

void rm_pool_cancel(rm_lease *lease, int64_t now_us) { rm_pool_discard(lease, RM_CLOSE_DIRTY, now_us); }

void rm_pool_share(rm_lease *lease) {
  rm_pool_lock(lease->pool);
  lease->owner = 0;
  rm_pool_unlock(lease->pool);
}

bool rm_pool_is_stale(const rm_lease *lease, int64_t now_us) {
  if (lease->conn->expires_us <= now_us) return true;
  rm_pool_lock(lease->pool);
  bool stale = lease->pool->closed || lease->epoch != lease->pool->epoch;
  rm_pool_unlock(lease->pool);
  return stale;
}

int rm_pool_timed_out(rm_lease *lease, int64_t now_us, redmoon_error *err) {
  rm_pool *pool = lease->pool;
  if (pool == NULL)
    return rm_fail_phase(err, REDMOON_EPOOL_TIMEOUT, REDMOON_PHASE_POOL, "no connection became free in time");
  rm_pool_view view;
  rm_pool_lock(pool);
  if (is_foreign(pool, lease)) {
    rm_pool_unlock(pool);
    abandon(pool, lease);
    return rm_pool_fail_forked(pool, err);
  }
  pool->counts.timeouts++;
  rm_pool_look(pool, &view, now_us);
  int64_t waited_us = rm_max64(now_us - lease->began_us, 0);
  end_borrow(pool, lease, now_us);
  return rm_pool_fail_timeout(pool, &view, waited_us, err);
}

void rm_lease_fini(rm_lease *lease) {
  if (lease->event_pid != 0) rm_event_close(&lease->event);
  lease->event_pid = 0;
  lease->signalled = false;
}
