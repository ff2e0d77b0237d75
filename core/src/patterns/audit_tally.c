/* SPDX-License-Identifier: MIT */
/* What is counted of a group of keys. */
#include "patterns/audit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Cliffs. */

static void drop_slot(rm_audit_cliffs *cliffs, size_t i) {
  memmove(&cliffs->slots[i], &cliffs->slots[i + 1], (cliffs->used - i - 1) * sizeof cliffs->slots[0]);
  cliffs->used--;
}

static void lower_all(rm_audit_cliffs *cliffs, int64_t by) {
  for (size_t i = cliffs->used; i-- > 0;) {
    cliffs->slots[i].keys -= by;
    if (cliffs->slots[i].keys <= 0) drop_slot(cliffs, i);
  }
  cliffs->missed += by;
}

static int64_t lowest(const rm_audit_cliffs *cliffs) {
  int64_t least = INT64_MAX;
  for (size_t i = 0; i < cliffs->used; i++)
    if (cliffs->slots[i].keys < least) least = cliffs->slots[i].keys;
  return least;
}

void rm_audit_cliffs_add(rm_audit_cliffs *cliffs, int64_t bucket, int64_t keys) {
  for (size_t i = 0; i < cliffs->used; i++)
    if (cliffs->slots[i].bucket == bucket) {
      cliffs->slots[i].keys += keys;
      return;
    }
  /* Without room, as many of these keys and of each counted bucket are forgotten as make some. */
  while (cliffs->used == RM_AUDIT_CLIFF_SLOTS) {
    int64_t least = lowest(cliffs), by = keys < least ? keys : least;
    lower_all(cliffs, by);
    keys -= by;
    if (keys == 0) return;
  }
  cliffs->slots[cliffs->used++] = (rm_audit_cliff){bucket, keys};
}

void rm_audit_cliffs_merge(rm_audit_cliffs *into, const rm_audit_cliffs *from) {
  for (size_t i = 0; i < from->used; i++) rm_audit_cliffs_add(into, from->slots[i].bucket, from->slots[i].keys);
  into->missed += from->missed;
}

const rm_audit_cliff *rm_audit_cliffs_top(const rm_audit_cliffs *cliffs) {
  const rm_audit_cliff *top = NULL;
  for (size_t i = 0; i < cliffs->used; i++) {
    const rm_audit_cliff *slot = &cliffs->slots[i];
    if (top == NULL || slot->keys > top->keys || (slot->keys == top->keys && slot->bucket < top->bucket)) top = slot;
  }
  return top;
}

/* Lifetimes and types. */

size_t rm_audit_bucket(int64_t ttl_ms) {
  size_t bucket = 0;
  for (; ttl_ms > 1 && bucket < REDMOON_AUDIT_TTL_BUCKETS - 1; ttl_ms /= 2) bucket++;
  return bucket;
}

static int64_t bucket_of_time(int64_t ms) {
  return ms >= 0 ? ms / RM_AUDIT_CLIFF_MS : -((-ms + RM_AUDIT_CLIFF_MS - 1) / RM_AUDIT_CLIFF_MS);
}

void rm_audit_tally_add(rm_audit_tally *tally, int64_t ttl_ms, int64_t expires_ms, size_t type,
                        const rm_audit_limits *limits) {
  tally->types[type]++;
  if (ttl_ms < 0) {
    tally->keys++;
    tally->no_ttl++;
    return;
  }
  bool first = tally->keys == tally->no_ttl;
  if (first || ttl_ms < tally->ttl_min) tally->ttl_min = ttl_ms;
  if (first || ttl_ms > tally->ttl_max) tally->ttl_max = ttl_ms;
  tally->keys++;
  tally->histogram[rm_audit_bucket(ttl_ms)]++;
  tally->below_min += limits->min_ttl_ms != REDMOON_UNSET && ttl_ms < limits->min_ttl_ms;
  tally->above_max += limits->max_ttl_ms != REDMOON_UNSET && ttl_ms > limits->max_ttl_ms;
  rm_audit_cliffs_add(&tally->cliffs, bucket_of_time(expires_ms), 1);
}

void rm_audit_tally_merge(rm_audit_tally *into, const rm_audit_tally *from) {
  if (from->keys > from->no_ttl) {
    bool first = into->keys == into->no_ttl;
    if (first || from->ttl_min < into->ttl_min) into->ttl_min = from->ttl_min;
    if (first || from->ttl_max > into->ttl_max) into->ttl_max = from->ttl_max;
  }
  into->keys += from->keys;
  into->no_ttl += from->no_ttl;
  into->below_min += from->below_min;
  into->above_max += from->above_max;
  for (size_t i = 0; i < REDMOON_AUDIT_TTL_BUCKETS; i++) into->histogram[i] += from->histogram[i];
  for (size_t i = 0; i < REDMOON_AUDIT_TYPES; i++) into->types[i] += from->types[i];
  rm_audit_cliffs_merge(&into->cliffs, &from->cliffs);
}

/* In the bucket of the true value, and there, between the shortest and the longest TTL of all, as if the bucket's keys were
 * spread evenly by the logarithm. */
double rm_audit_quantile(const rm_audit_tally *tally, double q) {
  int64_t count = tally->keys - tally->no_ttl, below = 0;
  if (count <= 0) return -1;
  int64_t rank = (int64_t)ceil(q * (double)count);
  if (rank < 1) rank = 1;
  size_t bucket = 0;
  while (bucket < REDMOON_AUDIT_TTL_BUCKETS - 1 && below + tally->histogram[bucket] < rank)
    below += tally->histogram[bucket++];
  double low = fmax(ldexp(1, (int)bucket), (double)tally->ttl_min), high = fmin(ldexp(2, (int)bucket), (double)tally->ttl_max);
  if (low >= high) return high; /* they may lie below 1 ms */
  double share = ((double)(rank - below) - 0.5) / (double)tally->histogram[bucket];
  return low * pow(high / low, share);
}

static const char *const type_names[REDMOON_AUDIT_TYPES] = {"string", "list", "set", "zset", "hash", "stream", "other"};

const char *redmoon_audit_type_name(size_t type) { return type < REDMOON_AUDIT_TYPES ? type_names[type] : NULL; }

size_t rm_audit_type(const char *name, size_t len) {
  size_t type = 0;
  while (type < REDMOON_AUDIT_TYPES - 1 && (strlen(type_names[type]) != len || memcmp(type_names[type], name, len) != 0))
    type++;
  return type;
}
