/* SPDX-License-Identifier: MIT */
/* The pool's making and its end. */
#include "base/alloc.h"
#include "base/error.h"
#include "pool/pool_internal.h"

/* So that no sum of a time and a length can overflow. */
#define LONGEST_US (RM_FOREVER / 8)

static int64_t clamp_us(int64_t us) { return us < 0 ? 0 : rm_min64(us, LONGEST_US); }
static int clamp_count(int count, int max) { return count < 0 ? 0 : count < max ? count : max; }

static int check(const rm_pool_config *config, redmoon_error *err) {
  if (config->size < 1)
    return rm_fail(err, REDMOON_ECONFIG, "pool_size is %d: an integer of at least 1 is accepted", config->size);
  return 0;
}

static void set_limits(rm_pool *pool, const rm_pool_config *config) {
  pool->size = config->size;
  pool->max_idle = clamp_count(config->max_idle, pool->size);
  pool->min_idle = clamp_count(config->min_idle, pool->max_idle);
  pool->max_idle_time_us = clamp_us(config->max_idle_time_us);
  pool->max_lifetime_us = clamp_us(config->max_lifetime_us);
  pool->probe_every_us = pool->min_idle > 0 ? clamp_us(config->probe_every_us) : 0;
  pool->backoff.min_us = clamp_us(config->min_backoff_us);
  pool->backoff.max_us = clamp_us(config->max_backoff_us);
}

int rm_pool_new(const rm_pool_config *config, const rm_pool_hooks *hooks, rm_pool **out, redmoon_error *err) {
  *out = NULL;
  int status = check(config, err);
  if (status != 0) return status;
  rm_pool *pool = rm_calloc(1, sizeof *pool);
  if (pool == NULL) return rm_fail_nomem(err);
  set_limits(pool, config);
  pool->slots = rm_calloc((size_t)pool->size, sizeof *pool->slots);
  pool->name = rm_strdup(config->name != NULL ? config->name : "");
  if (pool->slots == NULL || pool->name == NULL || pthread_mutex_init(&pool->mutex, NULL) != 0) {
    rm_free(pool->slots);
    rm_free(pool->name);
    rm_free(pool);
    return rm_fail_nomem(err);
  }
  rm_list_init(&pool->idle);
  rm_list_init(&pool->leases);
  rm_list_init(&pool->waiters);
  pool->upkeep_at_us = RM_FOREVER;
  pool->hooks = *hooks;
  *out = pool;
  return 0;
}

void rm_pool_free(rm_pool *pool) {
  if (pool == NULL) return;
  rm_pool_close_all(pool, &pool->idle, RM_CLOSE_SHUTDOWN);
  rm_pool_close_orphans(pool);
  pthread_mutex_destroy(&pool->mutex);
  rm_free(pool->slots);
  rm_free(pool->name);
  rm_free(pool);
}
