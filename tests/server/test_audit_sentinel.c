/* SPDX-License-Identifier: MIT */
/* The audit of a server that sentinels watch: it is the primary that is asked, wherever reads may go. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "audit.h"
#include "support/sentinel_fixture.h"

/* How often a node was asked to scan. */
static bool was_scanned(const sentinel_fixture *lab, int node) {
  char *stats = redis_server_ask(sentinel_fixture_node(lab, node), NULL, "INFO commandstats");
  bool scanned = strstr(stats, "cmdstat_scan:") != NULL;
  free(stats);
  return scanned;
}

static void primary_is_audited_wherever_reads_go(void **state) {
  (void)state;
  sentinel_fixture *lab = sentinel_fixture_start(NULL);
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_audit_fix_options fixing = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  redmoon_client *client;
  redmoon_audit_fix *fix;
  redmoon_error err;
  options.read_from = "replica";
  if (redmoon_client_open(sentinel_fixture_url(lab), &options, &client, &err) != 0) fail_msg("%s", err.message);
  fill(client);
  redmoon_audit_options paged = REDMOON_AUDIT_OPTIONS_INIT;
  paged.count = 100;
  redmoon_audit_report *report = audited(client, &paged);
  assert_int_equal(redmoon_audit_report_total(report)->keys, KEYS);
  assert_string_equal(redmoon_audit_report_summary(report)->role, "master");
  assert_int_equal(redmoon_audit_report_node_count(report), 0);
  redmoon_audit_report_free(report);
  fixing.match = "user:*";
  fixing.ttl_ms = 1000000;
  assert_int_equal(redmoon_audit_fix_new(client, &fixing, &fix, &err), 0);
  while (!redmoon_audit_fix_done(fix)) assert_int_equal(redmoon_audit_fix_next(fix, &err), 0);
  redmoon_audit_fix_free(fix);
  int primary = sentinel_fixture_primary(lab);
  for (int i = 0; i < SENTINEL_NODES; i++) assert_int_equal(was_scanned(lab, i), i == primary);
  redmoon_client_close(client);
  sentinel_fixture_stop(lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(primary_is_audited_wherever_reads_go)};
  return cmocka_run_group_tests_name("audit behind sentinels", tests, NULL, NULL);
}
