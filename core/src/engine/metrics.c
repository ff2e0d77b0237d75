/* SPDX-License-Identifier: MIT */
/* Metrics: what is counted, and its text form (Prometheus exposition format 0.0.4). */
#include "engine/metrics.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <redmoon/error.h>
#include <stdarg.h>
#include <stdio.h>

static const int64_t bounds_us[RM_LATENCY_BUCKETS - 1] = {100,   250,   500,    1000,   2500,   5000,    10000,   25000,
                                                          50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

int rm_metrics_init(rm_metrics *metrics) {
  metrics->commands = rm_calloc(rm_command_count(), sizeof *metrics->commands);
  if (metrics->commands == NULL) return REDMOON_ENOMEM;
  for (size_t i = 0; i < rm_command_count(); i++) atomic_init(&metrics->commands[i], NULL);
  atomic_init(&metrics->counters, NULL);
  atomic_init(&metrics->retries, 0);
  return 0;
}

void rm_metrics_fini(rm_metrics *metrics) {
  if (metrics->commands == NULL) return;
  for (size_t i = 0; i < rm_command_count(); i++) rm_free(atomic_load(&metrics->commands[i]));
  rm_free((void *)metrics->commands);
  rm_counter_metric *counter = atomic_load(&metrics->counters);
  while (counter != NULL) {
    rm_counter_metric *next = counter->next;
    rm_free(counter);
    counter = next;
  }
}

static rm_command_metric *metric_of(rm_metrics *metrics, unsigned command) {
  rm_command_metric *metric = atomic_load_explicit(&metrics->commands[command], memory_order_acquire);
  if (metric != NULL) return metric;
  rm_command_metric *fresh = rm_calloc(1, sizeof *fresh);
  if (fresh == NULL) return NULL;
  if (atomic_compare_exchange_strong(&metrics->commands[command], &metric, fresh)) return fresh;
  rm_free(fresh); /* another thread was first */
  return metric;
}

static void add(_Atomic uint64_t *counter, uint64_t n) { atomic_fetch_add_explicit(counter, n, memory_order_relaxed); }

void rm_metrics_command(rm_metrics *metrics, unsigned command, int64_t latency_us, bool failed) {
  rm_command_metric *metric = metric_of(metrics, command);
  if (metric == NULL) return;
  add(&metric->calls, 1);
  if (failed) add(&metric->errors, 1);
  if (latency_us < 0) return;
  size_t i = 0;
  while (i < RM_LATENCY_BUCKETS - 1 && latency_us > bounds_us[i]) i++;
  add(&metric->bucket[i], 1);
  add(&metric->sum_us, (uint64_t)latency_us);
}

_Atomic uint64_t *rm_metrics_counter(rm_metrics *metrics, const char *pattern, const char *result) {
  rm_counter_metric *head = atomic_load(&metrics->counters);
  rm_counter_metric *fresh = NULL;
  for (;;) {
    for (rm_counter_metric *c = head; c != NULL; c = c->next) {
      if (strcmp(c->pattern, pattern) != 0 || strcmp(c->result, result) != 0) continue;
      rm_free(fresh);
      return &c->value;
    }
    if (fresh == NULL && (fresh = rm_calloc(1, sizeof *fresh)) == NULL) return NULL;
    fresh->pattern = pattern;
    fresh->result = result;
    atomic_init(&fresh->value, 0);
    fresh->next = head;
    if (atomic_compare_exchange_strong(&metrics->counters, &head, fresh)) return &fresh->value;
  }
}

void rm_metrics_count(rm_metrics *metrics, const char *pattern, const char *result) {
  _Atomic uint64_t *counter = rm_metrics_counter(metrics, pattern, result);
  if (counter != NULL) add(counter, 1);
}

static void put(rm_buffer *out, int *status, const char *format, ...) REDMOON_PRINTF(3, 4);
static void put(rm_buffer *out, int *status, const char *format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  size_t len = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
  if (*status == 0 && rm_buffer_append(out, line, len) != 0) *status = REDMOON_ENOMEM;
}

static void put_gauge(rm_buffer *out, int *status, const char *name, uint64_t value) {
  put(out, status, "# TYPE redmoon_pool_%s gauge\nredmoon_pool_%s %" PRIu64 "\n", name, name, value);
}

static void put_counter(rm_buffer *out, int *status, const char *name, uint64_t value) {
  put(out, status, "# TYPE redmoon_%s_total counter\nredmoon_%s_total %" PRIu64 "\n", name, name, value);
}

static void put_pool(const redmoon_stats *stats, rm_buffer *out, int *status) {
  put_gauge(out, status, "connections", stats->total);
  put_gauge(out, status, "idle", stats->idle);
  put_gauge(out, status, "in_use", stats->in_use);
  put_gauge(out, status, "waiting", stats->waiting);
  put_gauge(out, status, "subscriptions", stats->subscriptions);
  put_counter(out, status, "pool_hits", stats->hits);
  put_counter(out, status, "pool_misses", stats->misses);
  put_counter(out, status, "pool_timeouts", stats->timeouts);
  put_counter(out, status, "pool_waits", stats->wait_count);
  put(out, status, "# TYPE redmoon_pool_wait_seconds_total counter\nredmoon_pool_wait_seconds_total %" PRIu64 ".%06" PRIu64 "\n",
      stats->wait_time_us / 1000000, stats->wait_time_us % 1000000);
  put_counter(out, status, "dials", stats->dials);
  put_counter(out, status, "dial_failures", stats->dial_failures);
  const char *const reasons[] = {"idle", "lifetime", "peer", "dirty", "error", "failover"};
  const uint64_t closed[] = {stats->closed_idle,  stats->closed_lifetime, stats->closed_peer,
                             stats->closed_dirty, stats->closed_error,    stats->closed_failover};
  put(out, status, "# TYPE redmoon_pool_closed_total counter\n");
  for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++)
    put(out, status, "redmoon_pool_closed_total{reason=\"%s\"} %" PRIu64 "\n", reasons[i], closed[i]);
}

static void put_histogram(const char *name, rm_command_metric *metric, rm_buffer *out, int *status) {
  uint64_t count = 0;
  for (size_t b = 0; b < RM_LATENCY_BUCKETS; b++) {
    count += atomic_load(&metric->bucket[b]);
    if (b == RM_LATENCY_BUCKETS - 1)
      put(out, status, "redmoon_command_seconds_bucket{command=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, count);
    else /* built from integers: a printed double would follow the locale */
      put(out, status, "redmoon_command_seconds_bucket{command=\"%s\",le=\"%" PRId64 ".%06" PRId64 "\"} %" PRIu64 "\n", name,
          bounds_us[b] / 1000000, bounds_us[b] % 1000000, count);
  }
  uint64_t sum = atomic_load(&metric->sum_us);
  put(out, status, "redmoon_command_seconds_sum{command=\"%s\"} %" PRIu64 ".%06" PRIu64 "\n", name, sum / 1000000,
      sum % 1000000);
  put(out, status, "redmoon_command_seconds_count{command=\"%s\"} %" PRIu64 "\n", name, count);
}

/* One family: every command's line or lines, together, as the format wants it. */
static void put_family(const rm_metrics *metrics, const char *type, int family, rm_buffer *out, int *status) {
  static const char *const names[] = {"commands_total", "command_errors_total", "command_seconds"};
  put(out, status, "# TYPE redmoon_%s %s\n", names[family], type);
  for (size_t i = 0; i < rm_command_count(); i++) {
    rm_command_metric *metric = atomic_load_explicit(&metrics->commands[i], memory_order_acquire);
    if (metric == NULL) continue;
    const char *name = rm_command_at(i)->name;
    if (family == 2)
      put_histogram(name, metric, out, status);
    else
      put(out, status, "redmoon_%s{command=\"%s\"} %" PRIu64 "\n", names[family], name,
          atomic_load(family == 0 ? &metric->calls : &metric->errors));
  }
}

/* Counters stand in the list in the order of their first use: each pattern's are gathered under one TYPE line. */
static void put_patterns(const rm_metrics *metrics, rm_buffer *out, int *status) {
  rm_counter_metric *head = atomic_load(&metrics->counters);
  for (rm_counter_metric *first = head; first != NULL; first = first->next) {
    rm_counter_metric *c = head;
    while (strcmp(c->pattern, first->pattern) != 0) c = c->next;
    if (c != first) continue; /* this pattern was written when its first one came */
    put(out, status, "# TYPE redmoon_%s_total counter\n", c->pattern);
    for (; c != NULL; c = c->next)
      if (strcmp(c->pattern, first->pattern) == 0)
        put(out, status, "redmoon_%s_total{result=\"%s\"} %" PRIu64 "\n", c->pattern, c->result, atomic_load(&c->value));
  }
}

int rm_metrics_text(const rm_metrics *metrics, const redmoon_stats *stats, rm_buffer *out) {
  int status = 0;
  put_pool(stats, out, &status);
  put_counter(out, &status, "retries", atomic_load(&metrics->retries));
  put_family(metrics, "counter", 0, out, &status);
  put_family(metrics, "counter", 1, out, &status);
  put_family(metrics, "histogram", 2, out, &status);
  put_patterns(metrics, out, &status);
  return status;
}

/* Addresses are made of letters that need no escape in a label. */
static void put_nodes(const redmoon_node *nodes, size_t count, const char *name, const char *type, size_t field, rm_buffer *out,
                      int *status) {
  static const char *const roles[] = {"", "primary", "replica", "left"};
  put(out, status, "# TYPE redmoon_node_%s %s\n", name, type);
  for (size_t i = 0; i < count; i++) {
    const uint64_t *value = (const uint64_t *)(const void *)((const char *)&nodes[i].stats + field);
    put(out, status, "redmoon_node_%s{node=\"%.120s\",role=\"%s\"} %" PRIu64 "\n", name, nodes[i].address, roles[nodes[i].role], *value);
  }
}

int rm_metrics_nodes(const redmoon_node *nodes, size_t count, rm_buffer *out) {
  int status = 0;
  put_nodes(nodes, count, "connections", "gauge", offsetof(redmoon_stats, total), out, &status);
  put_nodes(nodes, count, "in_use", "gauge", offsetof(redmoon_stats, in_use), out, &status);
  put_nodes(nodes, count, "waiting", "gauge", offsetof(redmoon_stats, waiting), out, &status);
  put_nodes(nodes, count, "timeouts_total", "counter", offsetof(redmoon_stats, timeouts), out, &status);
  put_nodes(nodes, count, "dials_total", "counter", offsetof(redmoon_stats, dials), out, &status);
  put_nodes(nodes, count, "dial_failures_total", "counter", offsetof(redmoon_stats, dial_failures), out, &status);
  return status;
}
