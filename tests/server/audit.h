/* SPDX-License-Identifier: MIT */
/** What the tests of the audit share: a known mix of keys, audits that succeed, and their reports.  To be included after
 *  cmocka.h. */
#ifndef REDMOON_TESTS_SERVER_AUDIT_H
#define REDMOON_TESTS_SERVER_AUDIT_H

#include "patterns/audit.h"
#include "support/ask.h"
#include "support/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 2000, SESSIONS = 1000, MISC = 10, PLAIN = 5, KEYS = USERS + SESSIONS + 5 * MISC + PLAIN };

/* A known mix: `user` for ever, `sess` with 1,000 s and a bit, `misc` of five types, and keys without a prefix. */
static const char audit_mix[] =
    "for i = 1, 2000 do redis.call('SET', 'user:' .. i, ('x'):rep(i % 200)) end "
    "for i = 1, 1000 do redis.call('HSET', 'sess:' .. i, 'f', i) redis.call('PEXPIRE', 'sess:' .. i, 1200000 + i % 100) end "
    "for i = 1, 10 do redis.call('RPUSH', 'misc:l' .. i, 'a') redis.call('SADD', 'misc:s' .. i, 'a') "
    "redis.call('ZADD', 'misc:z' .. i, 1, 'a') redis.call('XADD', 'misc:x' .. i, '*', 'f', 'v') "
    "redis.call('HSET', 'misc:h' .. i, 'f', 'v') end "
    "for i = 1, 5 do redis.call('SET', 'plain' .. i, 'v', 'PX', 5000000) end";

static inline void fill(redmoon_client *client) { redmoon_reply_free(ask(client, "EVAL", audit_mix, "0", NULL)); }

static inline redmoon_audit *begin(redmoon_client *client, const redmoon_audit_options *options) {
  redmoon_audit *audit;
  redmoon_error err;
  if (redmoon_audit_new(client, options, &audit, &err) != 0) fail_msg("%s", err.message);
  return audit;
}

static inline void run(redmoon_audit *audit) {
  redmoon_error err;
  if (redmoon_audit_run(audit, &err) != 0) fail_msg("%s: %s", err.code, err.message);
}

static inline redmoon_audit_report *report_of(const redmoon_audit *audit) {
  redmoon_audit_report *report;
  assert_int_equal(redmoon_audit_report_new(audit, &report, NULL), 0);
  return report;
}

static inline redmoon_audit_report *audited(redmoon_client *client, const redmoon_audit_options *options) {
  redmoon_audit *audit = begin(client, options);
  run(audit);
  assert_true(redmoon_audit_done(audit));
  redmoon_audit_report *report = report_of(audit);
  redmoon_audit_free(audit);
  return report;
}

static inline const redmoon_audit_group *group_of(const redmoon_audit_report *report, const char *prefix) {
  for (size_t i = 0; i < redmoon_audit_report_count(report); i++) {
    const redmoon_audit_group *group = redmoon_audit_report_group(report, i);
    if (group->prefix_len == strlen(prefix) && memcmp(group->prefix, prefix, group->prefix_len) == 0) return group;
  }
  fail_msg("no prefix '%s'", prefix);
  return NULL;
}

static inline const redmoon_audit_warning *warning_of(const redmoon_audit_report *report, const char *code) {
  for (size_t i = 0; i < redmoon_audit_report_warning_count(report); i++)
    if (strcmp(redmoon_audit_report_warning(report, i)->code, code) == 0) return redmoon_audit_report_warning(report, i);
  return NULL;
}

/* A user with this rule, on keys of this pattern. */
static inline redmoon_client *user_with(matrix_cell *cell, const char *keys, const char *rule) {
  char copy[400];
  const char *words[40] = {"ACL", "SETUSER", "auditor", "reset", "on", ">pw", keys, "-@all"};
  size_t count = 8;
  snprintf(copy, sizeof copy, "%s", rule);
  for (char *at = copy; *at != '\0';) {
    words[count++] = at;
    at += strcspn(at, " ");
    if (*at == ' ') *at++ = '\0';
  }
  redmoon_reply *reply;
  redmoon_error err;
  if (redmoon_command(cell->client, (int)count, words, NULL, &reply, &err) != 0) fail_msg("%s", err.message);
  redmoon_reply_free(reply);
  redmoon_reply_free(ask(cell->client, "ACL", "LOG", "RESET", NULL));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "auditor";
  options.password = "pw";
  return matrix_open(cell, &options);
}

#endif
