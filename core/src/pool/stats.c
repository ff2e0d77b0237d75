/* SPDX-License-Identifier: MIT */
/* What the pool tells about itself: statistics, and the texts of its own errors. */
#include "base/error.h"
#include "pool/pool_internal.h"

#include <stdio.h>

void rm_pool_stats(const rm_pool *const_pool, redmoon_stats *out) {
  rm_pool *pool = (rm_pool *)const_pool; /* for its mutex */
  rm_pool_lock(pool);
  *out = pool->counts;
  out->total = (uint64_t)rm_pool_total(pool);
  out->idle = (uint64_t)pool->idle_count;
  out->in_use = (uint64_t)pool->in_use;
  out->waiting = (uint64_t)pool->waiting;
  rm_pool_unlock(pool);
}

void rm_pool_look(const rm_pool *pool, rm_pool_view *view, int64_t now_us) {
  view->idle = pool->idle_count;
  view->in_use = pool->in_use;
  view->dialling = pool->dialling;
  view->waiting = pool->waiting;
  view->kept = 0;
  for (const rm_list *node = pool->leases.next; node != &pool->leases; node = node->next)
    view->kept += RM_CONTAINER_OF(node, rm_lease, link)->keeps;
  view->oldest_us = -1;
  if (!rm_list_is_empty(&pool->leases))
    view->oldest_us = rm_max64(now_us - RM_CONTAINER_OF(pool->leases.next, rm_lease, link)->since_us, 0);
  view->failing = pool->backoff.failures > 0;
  if (view->failing) view->last = pool->backoff.last;
}

int rm_pool_fail_timeout(const rm_pool *pool, const rm_pool_view *view, int64_t waited_us, redmoon_error *err) {
  /* Whole numbers, because the decimal point of a float depends on the host's locale. */
  long long tenths = (long long)(view->oldest_us / 100000), waited_ms = (long long)(waited_us / 1000);
  char oldest[48] = "none", kept[64] = "";
  if (view->kept > 0) snprintf(kept, sizeof kept, ", %d of them kept by transactions", view->kept);
  if (view->oldest_us >= 0) snprintf(oldest, sizeof oldest, "%lld.%lld s", tenths / 10, tenths % 10);
  int status =
      rm_fail_phase(err, REDMOON_EPOOL_TIMEOUT, REDMOON_PHASE_POOL,
                    "pool %s: no connection became free within %lld ms (size %d: %d in use%s, %d idle, %d being "
                    "dialled; %d waiting; oldest lease %s; last dial error: %s)",
                    pool->name, waited_ms, pool->size, view->in_use, kept, view->idle, view->dialling, view->waiting,
                    oldest, view->failing ? view->last.message : "none");
  if (err != NULL) err->retryable = 1;
  return status;
}

int rm_pool_fail_deadlock(const rm_pool *pool, int own, redmoon_error *err) {
  if (own < pool->size)
    return rm_fail_phase(
        err, REDMOON_EPOOL_DEADLOCK, REDMOON_PHASE_POOL,
        "pool %s: all connections (size %d) are kept by transactions whose callers wait for one more, and %d of them by "
        "this caller, so waiting would never end; finish with one first, use the one that is held, or raise pool_size",
        pool->name, pool->size, own);
  return rm_fail_phase(
      err, REDMOON_EPOOL_DEADLOCK, REDMOON_PHASE_POOL,
      "pool %s: the caller itself holds all connections (size %d), so waiting for one would never end; "
      "finish with one first, use the one that is held, or raise pool_size",
      pool->name, pool->size);
}

int rm_pool_fail_closed(const rm_pool *pool, redmoon_error *err) {
  return rm_fail_phase(err, REDMOON_ECLOSED, REDMOON_PHASE_POOL, "pool %s: the client was closed", pool->name);
}

int rm_pool_fail_forked(const rm_pool *pool, redmoon_error *err) {
  return rm_fail_phase(err, REDMOON_ECLOSED, REDMOON_PHASE_POOL,
                       "pool %s: this borrow began in the parent process, before fork()", pool->name);
}
