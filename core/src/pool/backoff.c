/* SPDX-License-Identifier: MIT */
/* The dial back-off: however many callers there are, a server that is down sees one dial at a time, with growing,
 * jittered pauses between them.
 *
 *     healthy --(dial fails)--> held off until the gate --(one probe)--> healthy        the dial succeeded
 *                                        ^                    |
 *                                        +--- longer pause ---+                         it failed
 */
#include "base/error.h"
#include "pool/pool_internal.h"

#include <stdio.h>

bool rm_backoff_allows(const rm_pool *pool, int64_t now_us) {
  if (pool->closed || rm_pool_total(pool) >= pool->size) return false;
  return pool->backoff.failures == 0 || (pool->dialling == 0 && now_us >= pool->backoff.gate_us);
}

int64_t rm_backoff_gate(const rm_pool *pool) {
  bool only_the_gate = pool->backoff.failures > 0 && pool->dialling == 0 && rm_pool_total(pool) < pool->size;
  return only_the_gate ? pool->backoff.gate_us : RM_FOREVER;
}

bool rm_backoff_is_hopeless(const rm_pool *pool, int64_t now_us) {
  return rm_pool_total(pool) == 0 && pool->backoff.failures > 0 && now_us < pool->backoff.gate_us;
}

/* min * 2^(failures - 1), at most max. */
static int64_t longest_pause(const rm_backoff *backoff) {
  int64_t pause = backoff->min_us;
  for (int i = 1; i < backoff->failures && pause < backoff->max_us; i++) pause *= 2;
  return rm_min64(pause, backoff->max_us);
}

void rm_backoff_failed(rm_backoff *backoff, uint64_t round, const redmoon_error *why, int64_t draw,
                       int64_t now_us) {
  if (why != NULL) backoff->last = *why;
  else rm_fail_phase(&backoff->last, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "no reason was given");
  if (round != backoff->round) return;
  backoff->round++;
  if (backoff->failures < INT32_MAX) backoff->failures++;
  /* Scaled in two parts, so that the product cannot overflow. */
  int64_t cap = longest_pause(backoff);
  int64_t pause = cap / RM_BACKOFF_DRAW * draw + cap % RM_BACKOFF_DRAW * draw / RM_BACKOFF_DRAW;
  backoff->gate_us = now_us + rm_max64(pause, 1000);
}

void rm_backoff_succeeded(rm_backoff *backoff) {
  if (backoff->failures == 0) return;
  backoff->failures = 0;
  backoff->round++;
}

/* Another caller's TIMEOUT or the like is not what happened to this one. */
static int refusal_status(int status) {
  switch (status) {
  case REDMOON_ETLS:
  case REDMOON_ESERVER:
  case REDMOON_EPROTOCOL:
  case REDMOON_EUNAVAILABLE:
    return status;
  default:
    return REDMOON_ECONNECT;
  }
}

int rm_backoff_fail(const char *name, const redmoon_error *last, int64_t wait_us, redmoon_error *err) {
  int status = refusal_status(last->status);
  if (err == NULL) return status;
  int64_t wait_ms = rm_max64((wait_us + 999) / 1000, 0);
  rm_fail_phase(err, status, last->phase,
                "pool %s: no connection can be made, the next try is in %lld ms; the last: %s", name,
                (long long)wait_ms, last->message);
  if (status == REDMOON_ESERVER) snprintf(err->code, sizeof err->code, "%s", last->code);
  snprintf(err->address, sizeof err->address, "%s", last->address);
  err->retryable = status == REDMOON_ECONNECT || last->retryable; /* a wrong password stays wrong */
  return status;
}
