/* SPDX-License-Identifier: MIT */
/** Counters and latency histograms of a client.  Lock-free to add to; allocated per command at its first use. */
#ifndef RM_ENGINE_METRICS_H
#define RM_ENGINE_METRICS_H

#include "base/buffer.h"
#include "engine/commands.h"

#include <redmoon/client.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RM_LATENCY_BUCKETS 17 /* the last one is +Inf */

typedef struct rm_command_metric {
  _Atomic uint64_t calls, errors, sum_us;
  _Atomic uint64_t bucket[RM_LATENCY_BUCKETS]; /* not cumulative */
} rm_command_metric;

typedef struct rm_counter_metric {
  struct rm_counter_metric *next;
  const char *pattern, *result;
  _Atomic uint64_t value;
} rm_counter_metric;

typedef struct rm_metrics {
  _Atomic(rm_command_metric *) *commands; /* by table index */
  _Atomic(rm_counter_metric *) counters;
  _Atomic uint64_t retries;
} rm_metrics;

int rm_metrics_init(rm_metrics *metrics);
void rm_metrics_fini(rm_metrics *metrics);
/** A command ended; `latency_us` < 0: not measured (it travelled in a pipeline).  Without memory it is not counted. */
void rm_metrics_command(rm_metrics *metrics, unsigned command, int64_t latency_us, bool failed);
/** The counter that rm_metrics_count adds to; it lives as long as `metrics`.  NULL without memory. */
_Atomic uint64_t *rm_metrics_counter(rm_metrics *metrics, const char *pattern, const char *result);
void rm_metrics_count(rm_metrics *metrics, const char *pattern, const char *result);
/** Prometheus text. 0 or REDMOON_ENOMEM. */
int rm_metrics_text(const rm_metrics *metrics, const redmoon_stats *stats, rm_buffer *out);
/** The pools of several nodes, each with its address as a label. 0 or REDMOON_ENOMEM. */
int rm_metrics_nodes(const redmoon_node *nodes, size_t count, rm_buffer *out);

#endif
