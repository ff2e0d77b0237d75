/* SPDX-License-Identifier: MIT */
/** A pool with hand-made connections, for the tests of the pool: hooks that record, time in plain numbers. */
#ifndef TESTS_UNIT_POOL_FIXTURE_H
#define TESTS_UNIT_POOL_FIXTURE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "pool/pool.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS INT64_C(1000)
#define SEC INT64_C(1000000)

typedef struct fixture {
  rm_pool *pool;
  int closed[RM_CLOSE_REASONS]; /* how often the close hook was called, by reason */
  int due;                      /* how often upkeep_due was called */
} fixture;

/** A connection is unusable when its client_id says so: the hook has no other way to know. */
enum { ID_GOOD = 0, ID_PEER = -1, ID_DIRTY = -2 };

static inline bool hook_is_reusable(rm_conn *conn, rm_close_reason *why) {
  *why = conn->client_id == ID_PEER ? RM_CLOSE_PEER : RM_CLOSE_DIRTY;
  return conn->client_id >= ID_GOOD;
}

static inline void hook_close(void *ctx, rm_conn *conn, rm_close_reason why) {
  fixture *f = ctx;
  f->closed[why]++;
  if (conn->fd >= 0) close(conn->fd);
  free(conn);
}

static inline void hook_upkeep_due(void *ctx) { ((fixture *)ctx)->due++; }

static inline rm_pool_hooks fixture_hooks(fixture *f) {
  return (rm_pool_hooks){hook_is_reusable, hook_close, hook_upkeep_due, f};
}

/** Limits that nothing in a test meets by accident. */
static inline rm_pool_config fixture_config(int size) {
  return (rm_pool_config){.size = size,
                          .max_idle = size,
                          .min_backoff_us = 8 * MS,
                          .max_backoff_us = 512 * MS,
                          .name = "redis://localhost:6379"};
}

static inline rm_conn *fixture_conn(int fd) {
  rm_conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL) abort();
  conn->fd = fd;
  return conn;
}

static inline bool is_readable(const rm_lease *lease) {
  struct pollfd p = {.fd = rm_lease_fd(lease), .events = POLLIN};
  return poll(&p, 1, 0) == 1;
}

static inline redmoon_stats stats_of(const fixture *f) {
  redmoon_stats stats;
  rm_pool_stats(f->pool, &stats);
  return stats;
}

#endif
