/* SPDX-License-Identifier: MIT */
/* Upkeep: connections that are idle too long or too old go, missing ones are asked for; and when the next is due.
 */
#include "pool/pool_internal.h"

/* How many connections are missing for min_idle and have a slot; who may dial them, and when, is another question.
 */
static int missing(const rm_pool *pool) {
  int wanted = pool->min_idle - pool->idle_count - pool->warming;
  int room = pool->size - rm_pool_total(pool);
  if (pool->closed || pool->waiting > 0 || wanted <= 0) return 0;
  return wanted < room ? wanted : room;
}

/* Of those, how many may be dialled now. */
static int dialable(const rm_pool *pool, int64_t now_us) {
  int count = missing(pool);
  if (count == 0 || !rm_backoff_allows(pool, now_us)) return 0;
  return pool->backoff.failures > 0 ? 1 : count;
}

/* When the longest idle connection is idle too long. */
static int64_t idle_due(const rm_pool *pool) {
  if (pool->max_idle_time_us == 0 || pool->idle_count <= pool->min_idle) return RM_FOREVER;
  const rm_conn *oldest = RM_CONTAINER_OF(pool->idle.prev, rm_conn, link);
  return oldest->idle_since_us + pool->max_idle_time_us;
}

bool rm_upkeep_note(rm_pool *pool, const rm_conn *fresh, int64_t now_us) {
  int64_t due = fresh != NULL ? rm_min64(fresh->expires_us, idle_due(pool)) : RM_FOREVER;
  if (pool->min_idle > pool->idle_count && missing(pool) > 0)
    due = rm_min64(due, rm_backoff_allows(pool, now_us) ? now_us : rm_backoff_gate(pool));
  if (due >= pool->upkeep_at_us) return false;
  pool->upkeep_at_us = due;
  return true;
}

static void reap(rm_pool *pool, rm_list *old, rm_list *idle, int64_t now_us) {
  for (rm_list *node = pool->idle.next; node != &pool->idle;) {
    rm_conn *conn = RM_CONTAINER_OF(node, rm_conn, link);
    node = node->next;
    if (conn->expires_us <= now_us) rm_pool_doom(pool, conn, old, RM_CLOSE_LIFETIME);
  }
  while (idle_due(pool) <= now_us)
    rm_pool_doom(pool, RM_CONTAINER_OF(pool->idle.prev, rm_conn, link), idle, RM_CLOSE_IDLE);
}

static void close_probed(rm_pool *pool, rm_conn *conn, rm_close_reason why, int64_t now_us) {
  rm_pool_unlock(pool);
  pool->hooks.close(pool->hooks.ctx, conn, why);
  rm_pool_lock(pool);
  pool->in_use--;
  rm_queue_serve(pool, now_us);
}

/* Looks at every idle connection, so that those kept ready are made anew after a restart of the server.  Each is out of the
 * pool for that moment, the one that is idle longest first, and they come back in their order.  Locked at begin and end. */
static void probe(rm_pool *pool, int64_t now_us) {
  if (pool->probe_every_us == 0 || pool->closed || now_us < pool->probe_at_us) return;
  pool->probe_at_us = now_us + pool->probe_every_us;
  for (int left = pool->idle_count; left > 0 && pool->idle_count > 0; left--) {
    rm_conn *conn = RM_CONTAINER_OF(pool->idle.prev, rm_conn, link);
    int64_t since_us = conn->idle_since_us;
    uint64_t epoch = pool->epoch;
    rm_list_remove(&conn->link);
    pool->idle_count--;
    pool->in_use++;
    rm_pool_unlock(pool);
    rm_close_reason why;
    bool good = pool->hooks.is_reusable(conn, &why);
    rm_pool_lock(pool);
    if (!good) rm_pool_forget(pool, conn, why);
    else good = rm_pool_put_back(pool, conn, epoch, now_us, &why);
    if (!good) close_probed(pool, conn, why, now_us);
    else if (conn->idle_since_us >= 0) conn->idle_since_us = since_us; /* a probe is no use of it */
  }
}

/* What is lent out counts as if it came back now, or a little sooner (its thread may have looked at the clock before
 * us): otherwise each return of a busy connection would be news, and wake the keeper. */
static int64_t next_due(const rm_pool *pool, int64_t now_us) {
  int64_t due = idle_due(pool);
  bool may_idle = pool->in_use + pool->dialling > 0 && rm_pool_total(pool) > pool->min_idle;
  if (pool->max_idle_time_us > 0 && may_idle) due = rm_min64(due, now_us + pool->max_idle_time_us / 8 * 7);
  for (int i = 0; i < pool->size; i++) {
    const rm_conn *conn = pool->slots[i];
    bool is_lent = conn != NULL && conn->idle_since_us < 0;
    if (conn == NULL || (is_lent && conn->expires_us <= now_us)) continue; /* its return will end it */
    due = rm_min64(due, conn->expires_us);
  }
  /* What may be dialled now, the caller has just been told. */
  if (missing(pool) > 0 && !rm_backoff_allows(pool, now_us)) due = rm_min64(due, rm_backoff_gate(pool));
  return pool->probe_every_us > 0 && !pool->closed ? rm_min64(due, pool->probe_at_us) : due;
}

int64_t rm_pool_upkeep(rm_pool *pool, int64_t now_us, int *dials) {
  rm_list old, idle;
  rm_list_init(&old);
  rm_list_init(&idle);
  rm_pool_close_orphans(pool);
  rm_pool_lock(pool);
  reap(pool, &old, &idle, now_us);
  rm_pool_unlock(pool);
  int closed = rm_pool_close_all(pool, &old, RM_CLOSE_LIFETIME);
  closed += rm_pool_close_all(pool, &idle, RM_CLOSE_IDLE);
  rm_pool_lock(pool);
  pool->in_use -= closed;
  probe(pool, now_us);
  rm_queue_serve(pool, now_us);
  *dials = dialable(pool, now_us);
  int64_t due = next_due(pool, now_us);
  pool->upkeep_at_us = due;
  rm_pool_unlock(pool);
  return due;
}

int rm_pool_acquire_permit(rm_pool *pool, rm_lease *lease, int64_t now_us) {
  if (lease->pool != NULL) return RM_POOL_WAIT;
  rm_pool_lock(pool);
  bool granted = dialable(pool, now_us) > 0;
  if (granted) {
    lease->pool = pool;
    lease->owner = 0;
    lease->generation = pool->generation;
    lease->warming = true;
    rm_lease_permit(pool, lease, now_us);
  }
  rm_pool_unlock(pool);
  return granted ? RM_POOL_DIAL : RM_POOL_WAIT;
}

void rm_pool_keep(rm_pool *pool, int min_idle, int64_t probe_every_us, int64_t now_us) {
  rm_pool_lock(pool);
  pool->min_idle = min_idle < pool->max_idle ? min_idle : pool->max_idle;
  pool->probe_every_us = pool->min_idle > 0 ? probe_every_us : 0;
  rm_pool_leave(pool, now_us);
}
