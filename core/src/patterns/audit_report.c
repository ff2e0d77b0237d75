/* SPDX-License-Identifier: MIT */
/* What is shown of an audit. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"

#include <stdlib.h>
#include <string.h>

static void show_tally(const rm_audit_tally *tally, redmoon_audit_group *group) {
  group->keys = tally->keys;
  group->no_ttl = tally->no_ttl;
  group->below_min = tally->below_min;
  group->above_max = tally->above_max;
  bool timed = tally->keys > tally->no_ttl;
  group->ttl_min_ms = timed ? tally->ttl_min : -1;
  group->ttl_max_ms = timed ? tally->ttl_max : -1;
  group->ttl_p50_ms = rm_audit_quantile(tally, 0.5);
  group->ttl_p99_ms = rm_audit_quantile(tally, 0.99);
  memcpy(group->ttl_histogram, tally->histogram, sizeof group->ttl_histogram);
  memcpy(group->types, tally->types, sizeof group->types);
  const rm_audit_cliff *top = rm_audit_cliffs_top(&tally->cliffs);
  group->cliff_error = tally->cliffs.missed;
  if (top == NULL) return;
  group->cliff_keys = top->keys;
  group->cliff_at_ms = top->bucket * RM_AUDIT_CLIFF_MS;
  group->cliff_share = (double)top->keys / (double)tally->keys;
}

static int copy_prefix(const rm_audit_entry *entry, redmoon_audit_group *group) {
  group->prefix = rm_strndup(entry->name, entry->len);
  group->prefix_len = entry->len;
  return group->prefix != NULL ? 0 : REDMOON_ENOMEM;
}

/* The first ones as groups; what follows joins "other". */
static int show_groups(const redmoon_audit *audit, rm_audit_entry *const *entries, size_t count,
                       redmoon_audit_report *report) {
  rm_audit_tally *other = rm_alloc(sizeof *other);
  if (other == NULL) return REDMOON_ENOMEM;
  *other = audit->table.other;
  rm_audit_estimate rest = audit->table.other_bytes, all = audit->table.other_bytes;
  int rc = 0;
  for (size_t i = 0; i < count && rc == 0; i++) {
    rm_audit_estimate bytes = {0};
    rm_audit_sums sums = rm_audit_sample_sums(&entries[i]->sample);
    rm_audit_estimate_add(&bytes, &sums, entries[i]->tally.keys);
    rm_audit_estimate_merge(&all, &bytes);
    if (i >= report->count) {
      rm_audit_tally_merge(other, &entries[i]->tally);
      rm_audit_estimate_merge(&rest, &bytes);
      continue;
    }
    redmoon_audit_group *group = &report->groups[i];
    show_tally(&entries[i]->tally, group);
    rm_audit_estimate_show(&bytes, group);
    group->keys_missed = entries[i]->missed;
    rc = copy_prefix(entries[i], group);
  }
  report->other.prefix = report->total.prefix = "";
  show_tally(other, &report->other);
  show_tally(&audit->table.total, &report->total);
  rm_audit_estimate_show(&rest, &report->other);
  rm_audit_estimate_show(&all, &report->total);
  rm_free(other);
  return rc;
}

static void show_summary(const redmoon_audit *audit, redmoon_audit_report *report) {
  report->server = audit->server;
  memcpy(report->first_error, audit->first_error, sizeof report->first_error);
  report->summary = (redmoon_audit_summary){
      .complete = audit->done,
      .server_keys = audit->server.keys,
      .server_keys_end = audit->server.keys_end,
      .server_expires = audit->server.expires,
      .pages = audit->pages,
      .gone = audit->gone,
      .moved = audit->moved,
      .errors = audit->errors,
      .repeats = audit->repeats,
      .repeats_false = rm_audit_filter_false(&audit->filter, audit->repeats),
      .unfiltered = audit->filter.unfiltered,
      .prefixes_folded = audit->table.folded,
      .pool_size = audit->client->core->config->pool_size,
      .maxclients = audit->server.maxclients,
      .connected_clients = audit->server.connected_clients,
      .maxmemory = audit->server.maxmemory,
      .used_memory = audit->server.used_memory,
      .maxmemory_policy = report->server.policy,
      .server_version = report->server.version,
      .role = report->server.role,
      .first_error = report->first_error,
  };
}

/* Texts are of the report's own copy. */
static int show_nodes(const redmoon_audit *audit, redmoon_audit_report *report) {
  size_t count = audit->nodes.count;
  if (count == 0) return 0;
  report->audited = rm_alloc(count * sizeof *report->audited);
  report->nodes = rm_calloc(count, sizeof *report->nodes);
  if (report->audited == NULL || report->nodes == NULL) return REDMOON_ENOMEM;
  memcpy(report->audited, audit->nodes.list, count * sizeof *report->audited);
  report->node_count = count;
  for (size_t i = 0; i < count; i++) {
    const rm_audit_node *node = &report->audited[i];
    report->nodes[i] = (redmoon_audit_node){
        .address = node->name,
        .state = (redmoon_audit_node_state)node->state,
        .keys = node->server.keys,
        .keys_end = node->server.keys_end,
        .maxclients = node->server.maxclients,
        .connected_clients = node->server.connected_clients,
        .maxmemory = node->server.maxmemory,
        .used_memory = node->server.used_memory,
        .maxmemory_policy = node->server.policy,
        .version = node->server.version,
    };
  }
  return 0;
}

static int compare_warnings(const void *a, const void *b) {
  const redmoon_audit_warning *x = a, *y = b;
  if (x->level != y->level) return x->level > y->level ? -1 : 1;
  int order = strcmp(x->code, y->code);
  if (order != 0) return order;
  if (x->keys != y->keys) return x->keys > y->keys ? -1 : 1;
  if (x->prefix == NULL || y->prefix == NULL) return (x->prefix != NULL) - (y->prefix != NULL);
  order = memcmp(x->prefix, y->prefix, x->prefix_len < y->prefix_len ? x->prefix_len : y->prefix_len);
  return order != 0 ? order : x->prefix_len < y->prefix_len ? -1 : x->prefix_len > y->prefix_len;
}

static int fill(const redmoon_audit *audit, rm_audit_entry **entries, redmoon_audit_report *report) {
  size_t count = 0;
  for (size_t i = 0; i < audit->table.count; i++)
    if (audit->table.entries[i]->tally.keys > 0) entries[count++] = audit->table.entries[i];
  qsort(entries, count, sizeof *entries, rm_audit_entry_compare);
  size_t shown = count < (size_t)audit->plan.top ? count : (size_t)audit->plan.top;
  report->groups = rm_calloc(shown > 0 ? shown : 1, sizeof *report->groups);
  if (report->groups == NULL) return REDMOON_ENOMEM;
  report->count = shown;
  if (show_groups(audit, entries, count, report) != 0) return REDMOON_ENOMEM;
  show_summary(audit, report);
  if (show_nodes(audit, report) != 0) return REDMOON_ENOMEM;
  if (rm_audit_warn(audit, entries, report) != 0) return REDMOON_ENOMEM;
  if (report->warning_count > 1)
    qsort(report->warnings, report->warning_count, sizeof *report->warnings, compare_warnings);
  return 0;
}

int redmoon_audit_report_new(const redmoon_audit *audit, redmoon_audit_report **out, redmoon_error *err) {
  rm_error_clear(err);
  *out = NULL;
  redmoon_audit_report *report = rm_calloc(1, sizeof *report);
  rm_audit_entry **entries = rm_calloc(audit->table.count + 1, sizeof(rm_audit_entry *));
  int rc = report != NULL && entries != NULL ? fill(audit, entries, report) : REDMOON_ENOMEM;
  rm_free(entries);
  if (rc != 0) {
    redmoon_audit_report_free(report);
    return rm_fail_nomem(err);
  }
  *out = report;
  return 0;
}

void redmoon_audit_report_free(redmoon_audit_report *report) {
  if (report == NULL) return;
  for (size_t i = 0; report->groups != NULL && i < report->count; i++) rm_free((void *)(uintptr_t)report->groups[i].prefix);
  for (size_t i = 0; i < report->warning_count; i++) rm_free((void *)(uintptr_t)report->warnings[i].message);
  rm_free(report->groups);
  rm_free(report->warnings);
  rm_free(report->nodes);
  rm_free(report->audited);
  rm_free(report);
}

size_t redmoon_audit_report_node_count(const redmoon_audit_report *report) { return report->node_count; }

const redmoon_audit_node *redmoon_audit_report_node(const redmoon_audit_report *report, size_t index) {
  return index < report->node_count ? &report->nodes[index] : NULL;
}

size_t redmoon_audit_report_count(const redmoon_audit_report *report) { return report->count; }

const redmoon_audit_group *redmoon_audit_report_group(const redmoon_audit_report *report, size_t index) {
  return index < report->count ? &report->groups[index] : NULL;
}

const redmoon_audit_group *redmoon_audit_report_other(const redmoon_audit_report *report) { return &report->other; }
const redmoon_audit_group *redmoon_audit_report_total(const redmoon_audit_report *report) { return &report->total; }
const redmoon_audit_summary *redmoon_audit_report_summary(const redmoon_audit_report *report) { return &report->summary; }
size_t redmoon_audit_report_warning_count(const redmoon_audit_report *report) { return report->warning_count; }

const redmoon_audit_warning *redmoon_audit_report_warning(const redmoon_audit_report *report, size_t index) {
  return index < report->warning_count ? &report->warnings[index] : NULL;
}

const char *redmoon_audit_level_name(redmoon_audit_level level) {
  return level == REDMOON_AUDIT_VIOLATION ? "violation" : level == REDMOON_AUDIT_WARNING ? "warning" : "note";
}
