/* SPDX-License-Identifier: MIT */
/* The options of an audit: checked, copied, and compared with what is resumed. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"

#include <inttypes.h>
#include <string.h>

#define SEED_MAX (INT64_C(1) << 53)
#define TTL_MAX INT64_C(31622400000000) /* 1,000 years */

enum { FILTER_MIN = 1024, FILTER_MAX = 1 << 30 };

int rm_audit_check(const char *name, int64_t value, int64_t min, int64_t max, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "audit option '%s': %" PRId64 " is not accepted; it takes an integer from %" PRId64 " to %" PRId64, name,
                 value, min, max);
}

/* A number of the plan. */
typedef struct number {
  const char *name;
  int64_t given, min, max, usual, *planned;
} number;

/* The given value, else the usual one; of what is resumed only the planned one is accepted. */
static int set_number(const number *n, bool resumed, redmoon_error *err) {
  if (n->given == REDMOON_UNSET) {
    if (!resumed) *n->planned = n->usual;
    return 0;
  }
  int rc = rm_audit_check(n->name, n->given, n->min, n->max, err);
  if (rc != 0) return rc;
  if (!resumed) *n->planned = n->given;
  if (*n->planned == n->given) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "audit option '%s': the audit to be resumed was begun with another value", n->name);
}

static int set_match(rm_audit_plan *plan, const char *match, bool resumed, redmoon_error *err) {
  if (match == NULL) return 0;
  bool all = strcmp(match, "*") == 0;
  if (resumed) {
    if (all ? plan->match == NULL : plan->match != NULL && strcmp(plan->match, match) == 0) return 0;
    return rm_fail(err, REDMOON_ECONFIG, "audit option 'match': the audit to be resumed was begun with another value");
  }
  if (!all && (plan->match = rm_strdup(match)) == NULL) return rm_fail_nomem(err);
  return 0;
}

static int set_separator(rm_audit_plan *plan, const char *text, bool resumed, redmoon_error *err) {
  if (text == NULL) {
    if (!resumed) plan->separator = ':';
    return 0;
  }
  if (strlen(text) != 1 || strchr("{}", *text) != NULL)
    return rm_fail(err, REDMOON_ECONFIG, "audit option 'separator': it takes one byte, which is no brace");
  if (!resumed) plan->separator = (unsigned char)*text;
  if (plan->separator == (unsigned char)*text) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "audit option 'separator': the audit to be resumed was begun with another value");
}

static int set_plan(rm_audit_plan *plan, const redmoon_audit_options *o, bool resumed, redmoon_error *err) {
  int64_t filter_min = o->filter_bytes == 0 ? 0 : FILTER_MIN;
  const number numbers[] = {
      {"depth", o->depth, 1, 8, 1, &plan->depth},
      {"sample", o->sample_ppm, 0, 1000000, 10000, &plan->sample_ppm},
      {"top", o->top, 1, 10000, 100, &plan->top},
      {"min_ttl", o->min_ttl_ms, 1, TTL_MAX, REDMOON_UNSET, &plan->limits.min_ttl_ms},
      {"max_ttl", o->max_ttl_ms, 1, TTL_MAX, REDMOON_UNSET, &plan->limits.max_ttl_ms},
      {"require_ttl", o->require_ttl, 0, 1, 0, &plan->require_ttl},
      {"filter_size", o->filter_bytes, filter_min, FILTER_MAX, REDMOON_UNSET, &plan->filter_bytes},
      {"seed", o->seed, 0, SEED_MAX, 0, &plan->seed},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    int rc = set_number(&numbers[i], resumed, err);
    if (rc != 0) return rc;
  }
  int64_t min = plan->limits.min_ttl_ms, max = plan->limits.max_ttl_ms;
  if (min != REDMOON_UNSET && max != REDMOON_UNSET && min > max)
    return rm_fail(err, REDMOON_ECONFIG, "audit option 'min_ttl' must not exceed 'max_ttl'");
  int rc = set_match(plan, o->match, resumed, err);
  return rc != 0 ? rc : set_separator(plan, o->separator, resumed, err);
}

/* What does not change the report. */
static int set_run(redmoon_audit *audit, const redmoon_audit_options *o, redmoon_error *err) {
  audit->count = audit->max_rate = 0;
  const number numbers[] = {
      {"count", o->count, 1, 10000, 1000, &audit->count},
      {"max_rate", o->max_rate, 1, 10000000, 0, &audit->max_rate},
      {"processes", o->processes, 1, 1000000, 1, &audit->processes},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    int rc = set_number(&numbers[i], false, err);
    if (rc != 0) return rc;
  }
  audit->on_progress = o->on_progress;
  audit->ctx = o->ctx;
  return 0;
}

static int resume(redmoon_audit *audit, const redmoon_audit_options *options, redmoon_error *err) {
  int rc = rm_audit_restore(audit, options->resume, options->resume_len, err);
  if (rc != 0) return rc;
  int64_t database = audit->client->core->config->database;
  bool clustered = rm_route_is_cluster(audit->client->core->route);
  if (audit->began && clustered != (audit->nodes.count > 0))
    return rm_fail(err, REDMOON_ECONFIG, clustered ? "the audit to be resumed is one of a single server, this client's is a cluster"
                                                   : "the audit to be resumed is one of a cluster, this client's is a single server");
  if (audit->database == database) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "the audit to be resumed is one of database %" PRId64 ", this client's is %" PRId64,
                 audit->database, database);
}

int rm_audit_plan_set(redmoon_audit *audit, const redmoon_audit_options *options, redmoon_error *err) {
  static const redmoon_audit_options usual = REDMOON_AUDIT_OPTIONS_INIT;
  if (options == NULL) options = &usual;
  audit->database = audit->client->core->config->database;
  bool resumed = options->resume != NULL;
  int rc = resumed ? resume(audit, options, err) : 0;
  if (rc == 0) rc = set_plan(&audit->plan, options, resumed, err);
  if (rc == 0) rc = set_run(audit, options, err);
  /* Twice the report's prefixes, and enough that which are the first ones is not a matter of chance. */
  if (!resumed) rm_audit_table_init(&audit->table, 2 * (size_t)audit->plan.top + 1024);
  return rc;
}
