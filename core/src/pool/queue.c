/* SPDX-License-Identifier: MIT */
/* Those who wait, first come first served.  At all times: if there are waiters, then no connection is idle, and the
 * only thing that can keep the first of them from dialling into a free slot is the back-off, at whose end it polls
 * by itself. */
#include "pool/pool_internal.h"

void rm_lease_signal(rm_lease *lease) {
  if (lease->signalled) return;
  lease->signalled = true;
  rm_event_signal(&lease->event);
}

void rm_lease_clear(rm_lease *lease) {
  if (!lease->signalled) return;
  lease->signalled = false;
  rm_event_clear(&lease->event);
}

void rm_queue_join(rm_pool *pool, rm_lease *lease, bool in_front, int64_t now_us) {
  lease->state = RM_LEASE_WAITING;
  lease->began_us = now_us;
  lease->promised_us = RM_FOREVER;
  if (in_front) rm_list_push_front(&pool->waiters, &lease->link);
  else rm_list_push_back(&pool->waiters, &lease->link);
  pool->waiting++;
  pool->counts.wait_count++;
}

void rm_queue_leave(rm_pool *pool, rm_lease *lease, int64_t now_us) {
  rm_list_remove(&lease->link);
  pool->waiting--;
  pool->counts.wait_time_us += (uint64_t)rm_max64(now_us - lease->began_us, 0);
}

static rm_lease *first_waiter(rm_pool *pool) {
  return rm_list_is_empty(&pool->waiters) ? NULL : RM_CONTAINER_OF(pool->waiters.next, rm_lease, link);
}

bool rm_queue_hand_over(rm_pool *pool, rm_conn *conn, int64_t now_us) {
  rm_lease *lease = first_waiter(pool);
  if (lease == NULL) return false;
  rm_queue_leave(pool, lease, now_us);
  rm_lease_lend(pool, lease, conn, now_us);
  lease->state = RM_LEASE_GIVEN_CONN;
  rm_lease_signal(lease);
  rm_queue_serve(pool, now_us); /* the next is the first now, and may have a gate to look out for */
  return true;
}

int64_t rm_queue_wake_us(const rm_pool *pool, const rm_lease *lease) {
  return pool->waiters.next == &lease->link ? rm_backoff_gate(pool) : RM_FOREVER;
}

void rm_queue_serve(rm_pool *pool, int64_t now_us) {
  rm_lease *lease;
  while ((lease = first_waiter(pool)) != NULL) {
    if (rm_backoff_allows(pool, now_us)) {
      rm_queue_leave(pool, lease, now_us);
      rm_lease_permit(pool, lease, now_us);
      lease->state = RM_LEASE_GIVEN_PERMIT;
    } else if (rm_backoff_is_hopeless(pool, now_us)) {
      rm_queue_leave(pool, lease, now_us);
      lease->state = RM_LEASE_REFUSED;
    } else {
      break;
    }
    rm_lease_signal(lease);
  }
  if (lease == NULL) return;
  /* The first may believe that it need not look at the clock, or not so soon: it has just become the first, or the
   * back-off has just begun. */
  int64_t wake_us = rm_queue_wake_us(pool, lease);
  if (wake_us >= lease->promised_us) return;
  lease->promised_us = wake_us;
  rm_lease_signal(lease);
}

void rm_queue_end_all(rm_pool *pool, int state, int64_t now_us) {
  rm_lease *lease;
  while ((lease = first_waiter(pool)) != NULL) {
    rm_queue_leave(pool, lease, now_us);
    lease->state = state;
    rm_lease_signal(lease);
  }
}
