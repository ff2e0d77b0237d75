/* SPDX-License-Identifier: MIT */
/* The end of connections: one at a time, a whole purge, shutdown, fork. */
#include "pool/pool_internal.h"

#include <sys/socket.h>
#include <unistd.h>

static uint64_t *counter_of(redmoon_stats *counts, rm_close_reason why) {
  switch (why) {
  case RM_CLOSE_IDLE:
    return &counts->closed_idle;
  case RM_CLOSE_LIFETIME:
    return &counts->closed_lifetime;
  case RM_CLOSE_PEER:
    return &counts->closed_peer;
  case RM_CLOSE_DIRTY:
    return &counts->closed_dirty;
  case RM_CLOSE_ERROR:
    return &counts->closed_error;
  case RM_CLOSE_FAILOVER:
    return &counts->closed_failover;
  default:
    return NULL; /* a shutdown counts nothing */
  }
}

void rm_pool_forget(rm_pool *pool, const rm_conn *conn, rm_close_reason why) {
  /* Before the descriptor is closed, so that neither a shutdown nor a fork touches a number that is someone else's
   * by then.  A child forked between here and the close keeps a copy of the socket until it ends: that is the
   * lesser evil. */
  for (int i = 0; i < pool->size; i++) {
    if (pool->slots[i] != conn) continue;
    pool->slots[i] = NULL;
    break;
  }
  uint64_t *counter = counter_of(&pool->counts, why);
  if (counter != NULL) ++*counter;
}

void rm_pool_retire(rm_pool *pool, rm_conn *conn, rm_close_reason why, int64_t now_us) {
  pool->hooks.close(pool->hooks.ctx, conn, why);
  rm_pool_lock(pool);
  pool->in_use--;
  rm_queue_serve(pool, now_us);
  rm_pool_leave(pool, now_us);
}

void rm_pool_doom(rm_pool *pool, rm_conn *conn, rm_list *doomed, rm_close_reason why) {
  rm_list_remove(&conn->link);
  rm_list_push_back(doomed, &conn->link);
  conn->idle_since_us = -1;
  pool->idle_count--;
  pool->in_use++;
  rm_pool_forget(pool, conn, why);
}

int rm_pool_close_all(rm_pool *pool, rm_list *doomed, rm_close_reason why) {
  int count = 0;
  while (!rm_list_is_empty(doomed)) {
    rm_conn *conn = RM_CONTAINER_OF(doomed->next, rm_conn, link);
    rm_list_remove(&conn->link);
    pool->hooks.close(pool->hooks.ctx, conn, why);
    count++;
  }
  return count;
}

static void doom_idle(rm_pool *pool, rm_list *doomed, rm_close_reason why) {
  rm_list_init(doomed);
  while (!rm_list_is_empty(&pool->idle))
    rm_pool_doom(pool, RM_CONTAINER_OF(pool->idle.next, rm_conn, link), doomed, why);
}

static void close_doomed(rm_pool *pool, rm_list *doomed, rm_close_reason why, int64_t now_us) {
  int count = rm_pool_close_all(pool, doomed, why);
  rm_pool_lock(pool);
  pool->in_use -= count;
  rm_queue_serve(pool, now_us);
  rm_pool_leave(pool, now_us);
}

void rm_pool_purge(rm_pool *pool, rm_close_reason why, int64_t now_us) {
  rm_list doomed;
  rm_pool_lock(pool);
  pool->epoch++;
  pool->purge_why = why;
  doom_idle(pool, &doomed, why);
  rm_pool_unlock(pool);
  close_doomed(pool, &doomed, why, now_us);
}

void rm_pool_shutdown(rm_pool *pool, int64_t now_us) {
  rm_list doomed;
  rm_pool_lock(pool);
  pool->closed = true;
  rm_queue_end_all(pool, RM_LEASE_SHUT, now_us);
  doom_idle(pool, &doomed, RM_CLOSE_SHUTDOWN);
  /* Under the lock: a lease is unlinked under it before its descriptor is closed. */
  for (rm_list *node = pool->leases.next; node != &pool->leases; node = node->next) {
    const rm_conn *conn = RM_CONTAINER_OF(node, rm_lease, link)->conn;
    if (conn != NULL && conn->fd >= 0) shutdown(conn->fd, SHUT_RDWR);
  }
  rm_pool_unlock(pool);
  close_doomed(pool, &doomed, RM_CLOSE_SHUTDOWN, now_us);
}

void rm_pool_close_orphans(rm_pool *pool) {
  rm_pool_lock(pool);
  rm_list *node = pool->orphans;
  pool->orphans = NULL;
  rm_pool_unlock(pool);
  while (node != NULL) { /* the slots that they had were the parent's */
    rm_conn *conn = RM_CONTAINER_OF(node, rm_conn, link);
    node = node->next;
    conn->link = (rm_list){0};
    pool->hooks.close(pool->hooks.ctx, conn, RM_CLOSE_SHUTDOWN);
  }
}

void rm_pool_forked(rm_pool *pool) {
  /* Another thread may have been in the middle of a change: only the slots and the head of the orphans are read,
   * each a single word that is right at any moment. */
  pthread_mutex_init(&pool->mutex, NULL);
  rm_list_init(&pool->idle);
  rm_list_init(&pool->leases);
  rm_list_init(&pool->waiters);
  int dead = rm_conn_dead_socket();
  for (int i = 0; i < pool->size; i++) {
    rm_conn *conn = pool->slots[i];
    if (conn == NULL) continue;
    pool->slots[i] = NULL;
    rm_conn_replace_socket(conn, dead);
    /* One that was lent out belongs to its lease, if that still exists. */
    if (conn->idle_since_us < 0) continue;
    conn->link.next = pool->orphans;
    pool->orphans = &conn->link;
  }
  if (dead >= 0) close(dead);
  pool->idle_count = pool->in_use = pool->dialling = pool->warming = pool->waiting = 0;
  pool->backoff.failures = 0;
  pool->backoff.round++;
  pool->counts = (redmoon_stats){0};
  pool->upkeep_at_us = RM_FOREVER;
  pool->generation++;
}
