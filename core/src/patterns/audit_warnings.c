/* SPDX-License-Identifier: MIT */
/* What is said about the keys and their server. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Below them a prefix is too small for a word about its shape. */
enum { CLIFF_KEYS = 1000, CLIFF_TTL_MS = 60000, SPLIT_KEYS = 100, SPLIT_BYTES = 512, TEXT_MAX = 512 };

typedef struct writer {
  redmoon_audit_report *report;
  const redmoon_audit_group *group; /* NULL: of no prefix */
  int status;
} writer;

static REDMOON_PRINTF(5, 6) void say(writer *w, redmoon_audit_level level, const char *code, int64_t keys,
                                     const char *format, ...) {
  redmoon_audit_report *report = w->report;
  if (w->status != 0) return;
  if (report->warning_count == report->warning_cap) {
    size_t cap = report->warning_cap == 0 ? 16 : 2 * report->warning_cap;
    redmoon_audit_warning *warnings = rm_realloc(report->warnings, cap * sizeof *warnings);
    if (warnings == NULL) {
      w->status = REDMOON_ENOMEM;
      return;
    }
    report->warnings = warnings;
    report->warning_cap = cap;
  }
  char text[TEXT_MAX];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  char *message = rm_strdup(text);
  if (message == NULL) {
    w->status = REDMOON_ENOMEM;
    return;
  }
  redmoon_audit_warning warning = {level, code, message, NULL, 0, keys};
  if (w->group != NULL) {
    warning.prefix = w->group->prefix;
    warning.prefix_len = w->group->prefix_len;
  }
  report->warnings[report->warning_count++] = warning;
}

/* Of a prefix. */

static void about_limits(writer *w, const redmoon_audit *audit, const redmoon_audit_group *g, const char *name) {
  const rm_audit_limits *limits = &audit->plan.limits;
  if (audit->plan.require_ttl && g->no_ttl > 0)
    say(w, REDMOON_AUDIT_VIOLATION, "ttl_missing", g->no_ttl, "%s: %" PRId64 " of %" PRId64 " keys have no TTL", name,
        g->no_ttl, g->keys);
  if (g->below_min > 0)
    say(w, REDMOON_AUDIT_VIOLATION, "ttl_below_min", g->below_min,
        "%s: %" PRId64 " keys have a TTL below %" PRId64 " ms (the shortest: %" PRId64 " ms)", name, g->below_min,
        limits->min_ttl_ms, g->ttl_min_ms);
  if (g->above_max > 0)
    say(w, REDMOON_AUDIT_VIOLATION, "ttl_above_max", g->above_max,
        "%s: %" PRId64 " keys have a TTL above %" PRId64 " ms (the longest: %" PRId64 " ms)", name, g->above_max,
        limits->max_ttl_ms, g->ttl_max_ms);
}

static void about_cliff(writer *w, const char *name) {
  const redmoon_audit_group *g = w->group;
  if (g->keys < CLIFF_KEYS || 2 * g->cliff_keys < g->keys || g->ttl_p50_ms < CLIFF_TTL_MS) return;
  say(w, REDMOON_AUDIT_WARNING, "expiry_cliff", g->cliff_keys,
      "%s: %" PRId64 " of %" PRId64 " keys expire within the same 10 s; a jitter on their TTL spreads what follows", name,
      g->cliff_keys, g->keys);
}

/* Many small strings under few names, `user:42:name` and `user:42:mail`: each object has a name at most once, so there are at
 * least as many objects as the commonest name has keys.  Values are not read: an audit needs no right to do so. */
static void about_split(writer *w, const rm_audit_entry *entry, const char *name) {
  const redmoon_audit_group *g = w->group;
  const rm_audit_fields *fields = &entry->fields;
  if (fields->many || fields->used < 2) return;
  int64_t strings = 0, objects = 0;
  for (size_t i = 0; i < fields->used; i++) {
    strings += fields->slots[i].keys;
    if (fields->slots[i].keys > objects) objects = fields->slots[i].keys;
  }
  rm_audit_sums sums = rm_audit_sample_sums(&entry->sample);
  bool small = sums.sum <= (uint64_t)sums.count * SPLIT_BYTES;
  if (strings < SPLIT_KEYS || 10 * strings < 9 * g->keys || strings < 2 * objects || !small) return;
  say(w, REDMOON_AUDIT_WARNING, "split_hash", strings,
      "%s: %" PRId64 " small strings look like %zu fields of about %" PRId64
      " objects; as hashes they would take less memory, and each object would have one TTL",
      name, strings, fields->used, objects);
}

static void about_group(writer *w, const redmoon_audit *audit, const rm_audit_entry *entry) {
  char name[160];
  rm_escape(name, sizeof name, w->group->prefix, w->group->prefix_len);
  const char *shown = w->group->prefix_len > 0 ? name : "(no prefix)";
  about_limits(w, audit, w->group, shown);
  about_cliff(w, shown);
  about_split(w, entry, shown);
}

/* Of the server. */

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

enum { FINE, UNLIMITED, VOLATILE, ALL_KEYS, FULL };

/* What becomes of keys without TTL there when memory runs out. */
static int danger_of(const rm_audit_server *server, const redmoon_audit_group *all) {
  if (all->no_ttl == 0 || server->maxmemory < 0) return FINE;
  if (server->maxmemory == 0) return UNLIMITED;
  if (begins(server->policy, "volatile-")) return 10 * all->no_ttl >= all->keys ? VOLATILE : FINE;
  if (begins(server->policy, "allkeys-")) return ALL_KEYS;
  bool full = strcmp(server->policy, "noeviction") == 0 && 10 * (double)server->used_memory >= 8 * (double)server->maxmemory;
  return full ? FULL : FINE;
}

/* `on`: which nodes of a cluster it is about, or "". */
static void say_danger(writer *w, const rm_audit_server *server, const char *on) {
  const redmoon_audit_group *all = &w->report->total;
  const char *policy = server->policy;
  switch (danger_of(server, all)) {
  case UNLIMITED:
    say(w, REDMOON_AUDIT_WARNING, "memory_unlimited", all->no_ttl,
        "%sthe server has no maxmemory, and %" PRId64 " keys have no TTL: nothing bounds what they take", on, all->no_ttl);
    break;
  case VOLATILE:
    say(w, REDMOON_AUDIT_WARNING, "eviction_policy", all->no_ttl,
        "%sunder maxmemory-policy %s the %" PRId64 " of %" PRId64
        " keys without TTL cannot be evicted; once the others are gone, writes fail",
        on, policy, all->no_ttl, all->keys);
    break;
  case ALL_KEYS:
    say(w, REDMOON_AUDIT_WARNING, "eviction_policy", all->no_ttl,
        "%sunder maxmemory-policy %s the %" PRId64 " keys without TTL can be evicted, too: nothing is safe from that", on,
        policy, all->no_ttl);
    break;
  case FULL:
    say(w, REDMOON_AUDIT_WARNING, "eviction_policy", all->no_ttl,
        "%s%" PRId64 " of %" PRId64 " bytes of maxmemory are used, %" PRId64
        " keys have no TTL, and under noeviction writes fail once it is full",
        on, server->used_memory, server->maxmemory, all->no_ttl);
    break;
  default: break;
  }
}

static void say_clients(writer *w, const redmoon_audit *audit, const rm_audit_server *server, const char *on) {
  int64_t pool = w->report->summary.pool_size;
  say(w, REDMOON_AUDIT_WARNING, "maxclients", 0,
      "%s%" PRId64 " processes with pools of %" PRId64 " may ask for %" PRId64 " connections; the server accepts %" PRId64, on,
      audit->processes, pool, pool * audit->processes, server->maxclients);
}

static bool lacks_clients(const writer *w, const redmoon_audit *audit, const rm_audit_server *server) {
  return server->maxclients >= 0 && w->report->summary.pool_size * audit->processes > server->maxclients;
}

/* Nodes of which the same is to be said: said once. */
typedef bool is_same_fn(const writer *w, const redmoon_audit *audit, const rm_audit_server *a, const rm_audit_server *b);

static bool is_same_danger(const writer *w, const redmoon_audit *audit, const rm_audit_server *a, const rm_audit_server *b) {
  const redmoon_audit_group *all = &w->report->total;
  (void)audit;
  int danger = danger_of(a, all);
  if (danger != danger_of(b, all)) return false;
  return danger == UNLIMITED || (danger != FULL && strcmp(a->policy, b->policy) == 0);
}

static bool is_same_clients(const writer *w, const redmoon_audit *audit, const rm_audit_server *a, const rm_audit_server *b) {
  return lacks_clients(w, audit, a) && a->maxclients == b->maxclients;
}

static size_t count_same(const writer *w, const redmoon_audit *audit, size_t from, size_t to, size_t as, is_same_fn *is_same) {
  const rm_audit_node *list = audit->nodes.list;
  size_t count = 0;
  for (size_t i = from; i < to; i++)
    count += list[i].state != RM_AUDIT_NODE_LEFT && is_same(w, audit, &list[as].server, &list[i].server);
  return count;
}

/* "10.0.0.7:6379: ", "10.0.0.7:6379 and 2 more: ", or "all 3 nodes: "; false: it was said with one before it. */
static bool name_same(const writer *w, const redmoon_audit *audit, size_t i, is_same_fn *is_same, char *on, size_t cap) {
  const rm_audit_nodes *nodes = &audit->nodes;
  if (count_same(w, audit, 0, i, i, is_same) > 0) return false;
  size_t more = count_same(w, audit, i + 1, nodes->count, i, is_same), serving = 0;
  for (size_t n = 0; n < nodes->count; n++) serving += nodes->list[n].state != RM_AUDIT_NODE_LEFT;
  if (more + 1 == serving && more > 0) snprintf(on, cap, "all %zu nodes: ", serving);
  else if (more > 0) snprintf(on, cap, "%s and %zu more: ", nodes->list[i].name, more);
  else snprintf(on, cap, "%s: ", nodes->list[i].name);
  return true;
}

static void about_nodes(writer *w, const redmoon_audit *audit) {
  char on[160];
  for (size_t i = 0; i < audit->nodes.count; i++) {
    const rm_audit_node *node = &audit->nodes.list[i];
    if (node->state == RM_AUDIT_NODE_LEFT) continue;
    if (danger_of(&node->server, &w->report->total) != FINE && name_same(w, audit, i, is_same_danger, on, sizeof on))
      say_danger(w, &node->server, on);
    if (lacks_clients(w, audit, &node->server) && name_same(w, audit, i, is_same_clients, on, sizeof on))
      say_clients(w, audit, &node->server, on);
  }
}

static void about_server(writer *w, const redmoon_audit *audit) {
  if (audit->nodes.count > 0) {
    about_nodes(w, audit);
    return;
  }
  say_danger(w, &audit->server, "");
  if (lacks_clients(w, audit, &audit->server)) say_clients(w, audit, &audit->server, "");
}

/* Of the audit. */

static void about_audit(writer *w, const redmoon_audit *audit) {
  const redmoon_audit_summary *s = &w->report->summary;
  const rm_audit_nodes *nodes = &audit->nodes;
  if (audit->changed && nodes->count > 0)
    say(w, REDMOON_AUDIT_WARNING, "node_changed", 0,
        "a node was restarted, replaced or took another role during the audit: keys may be missing from it");
  else if (audit->changed)
    say(w, REDMOON_AUDIT_WARNING, "node_changed", 0,
        "the server was restarted, replaced or took another role during the audit: keys may be missing from it");
  else if (audit->moved > 0 || (nodes->epoch > 0 && nodes->epoch_end > nodes->epoch))
    say(w, REDMOON_AUDIT_WARNING, "slots_moved", audit->moved,
        "slots moved between nodes during the audit: keys that went to a node that had been scanned already are missing from it");
  if (!audit->done)
    say(w, REDMOON_AUDIT_NOTE, "partial", 0, "the audit was not finished: these are %" PRId64 " keys of more", w->report->total.keys);
  if (audit->errors > 0)
    say(w, REDMOON_AUDIT_NOTE, "key_errors", audit->errors, "%" PRId64 " keys could not be looked at: %s", audit->errors,
        audit->first_error);
  if (s->unfiltered > 0)
    say(w, REDMOON_AUDIT_NOTE, "repeats_unchecked", s->unfiltered,
        "the filter had no room for %" PRId64 " keys: of them some may be counted twice", s->unfiltered);
  if (audit->info_refused)
    say(w, REDMOON_AUDIT_NOTE, "info_refused", 0, "INFO was refused: the server's settings are not known");
  if (audit->memory_refused)
    say(w, REDMOON_AUDIT_NOTE, "memory_refused", 0, "MEMORY USAGE was refused: what keys take is not known");
}

int rm_audit_warn(const redmoon_audit *audit, rm_audit_entry *const *entries, redmoon_audit_report *report) {
  writer w = {report, NULL, 0};
  for (size_t i = 0; i < report->count; i++) {
    w.group = &report->groups[i];
    about_group(&w, audit, entries[i]);
  }
  w.group = NULL;
  if (report->other.keys > 0) about_limits(&w, audit, &report->other, "other prefixes");
  about_server(&w, audit);
  about_audit(&w, audit);
  return w.status;
}
