/* SPDX-License-Identifier: MIT */
/* The audit on a real server: what it counts, what it leaves alone, and what it needs to be allowed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "audit.h"

#include <math.h>

/* What is counted. */

static double usage_of(redmoon_client *client, const char *pattern) {
  static const char sum[] = "local n = 0 for _, k in ipairs(redis.call('KEYS', ARGV[1])) do "
                            "n = n + redis.call('MEMORY', 'USAGE', k, 'SAMPLES', 0) end return n";
  return (double)ask_integer(client, "EVAL", sum, "0", pattern, NULL);
}

static void every_key_is_counted_once_with_type_lifetime_and_memory(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.sample_ppm = 1000000;
  options.count = 100;
  redmoon_audit_report *report = audited(client, &options);
  const redmoon_audit_group *user = group_of(report, "user"), *sess = group_of(report, "sess"), *misc = group_of(report, "misc"),
                            *plain = group_of(report, ""), *total = redmoon_audit_report_total(report);
  assert_int_equal(redmoon_audit_report_count(report), 4);
  assert_ptr_equal(redmoon_audit_report_group(report, 0), user);
  assert_null(redmoon_audit_report_group(report, 4));
  assert_int_equal(user->keys, USERS);
  assert_int_equal(user->no_ttl, USERS);
  assert_int_equal(user->types[RM_AUDIT_STRING], USERS);
  assert_true(user->ttl_p50_ms == -1 && user->cliff_keys == 0);
  assert_int_equal(sess->keys, SESSIONS);
  assert_int_equal(sess->no_ttl, 0);
  assert_true(sess->ttl_min_ms > 1048576 && sess->ttl_max_ms <= 1200100); /* one bucket */
  assert_int_equal(sess->ttl_histogram[20], SESSIONS);
  assert_true(sess->ttl_p50_ms >= (double)sess->ttl_min_ms && sess->ttl_p99_ms <= (double)sess->ttl_max_ms);
  assert_true(sess->cliff_keys >= SESSIONS / 2 && sess->cliff_error == 0); /* two buckets at most */
  assert_int_equal(misc->keys, 5 * MISC);
  for (size_t i = 1; i < REDMOON_AUDIT_TYPES; i++) assert_int_equal(misc->types[i], i < REDMOON_AUDIT_TYPES - 1 ? MISC : 0);
  assert_int_equal(plain->keys, PLAIN);
  assert_int_equal(total->keys, KEYS);
  assert_int_equal(total->no_ttl, USERS + 5 * MISC);
  assert_true(user->bytes == usage_of(client, "user:*"));
  assert_true(total->bytes == usage_of(client, "*") && total->bytes_low == total->bytes && total->bytes_high == total->bytes);
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  assert_true(summary->complete);
  assert_int_equal(summary->server_keys, KEYS);
  assert_int_equal(summary->server_keys_end, KEYS);
  assert_int_equal(summary->server_expires, SESSIONS + PLAIN);
  assert_true(summary->pages >= KEYS / 200 && summary->pages < KEYS);
  assert_true(summary->repeats == 0 && summary->gone == 0 && summary->errors == 0 && summary->unfiltered == 0);
  assert_int_equal(summary->pool_size, 20);
  assert_true(summary->maxclients > 0);
  assert_string_equal(summary->role, "master");
  redmoon_audit_report_free(report);
}

static void samples_estimate_the_memory_within_their_interval(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.sample_ppm = 200000;
  redmoon_audit_report *report = audited(client, &options);
  const redmoon_audit_group *user = group_of(report, "user"), *misc = group_of(report, "misc");
  double truth = usage_of(client, "user:*");
  assert_in_range(user->sampled, 300, 530);
  assert_true(user->bytes_low <= truth && truth <= user->bytes_high);
  assert_true(user->bytes_high - user->bytes_low > 1 && user->bytes_high < 1.2 * truth);
  assert_in_range(misc->sampled, RM_AUDIT_LOWEST, 5 * MISC); /* whatever the share */
  redmoon_audit_report_free(report);

  options.sample_ppm = 0;
  report = audited(client, &options);
  assert_true(group_of(report, "user")->bytes == -1 && redmoon_audit_report_total(report)->sampled == 0);
  assert_true(warning_of(report, "memory_refused") == NULL);
  redmoon_audit_report_free(report);
}

static void empty_database_and_narrow_match_are_reports_too(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_audit_report *report = audited(client, NULL);
  assert_int_equal(redmoon_audit_report_count(report), 0);
  assert_int_equal(redmoon_audit_report_total(report)->keys, 0);
  assert_true(redmoon_audit_report_total(report)->bytes == 0);
  assert_int_equal(redmoon_audit_report_summary(report)->server_keys, 0);
  for (size_t i = 0; i < redmoon_audit_report_warning_count(report); i++)
    fail_msg("a warning about nothing: %s", redmoon_audit_report_warning(report, i)->message);
  redmoon_audit_report_free(report);
  fill(client);
  report = audited(client, &(redmoon_audit_options){.match = "sess:*", .depth = 1, .sample_ppm = 0, .top = 1, .count = 50,
                                                    .min_ttl_ms = REDMOON_UNSET, .max_ttl_ms = REDMOON_UNSET, .max_rate = REDMOON_UNSET,
                                                    .processes = 1});
  assert_int_equal(redmoon_audit_report_total(report)->keys, SESSIONS);
  assert_int_equal(redmoon_audit_report_summary(report)->unfiltered, SESSIONS); /* filter_bytes 0 */
  assert_non_null(warning_of(report, "repeats_unchecked"));
  redmoon_audit_report_free(report);
}

static void prefixes_beyond_the_top_are_other(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.top = 1;
  options.require_ttl = 1;
  redmoon_audit_report *report = audited(client, &options);
  assert_int_equal(redmoon_audit_report_count(report), 1);
  const redmoon_audit_group *other = redmoon_audit_report_other(report);
  assert_int_equal(other->keys, KEYS - USERS);
  assert_int_equal(other->no_ttl, 5 * MISC);
  assert_true(fabs(other->bytes + redmoon_audit_report_group(report, 0)->bytes - redmoon_audit_report_total(report)->bytes) < 1);
  const redmoon_audit_warning *first = redmoon_audit_report_warning(report, 0), *second = redmoon_audit_report_warning(report, 1);
  assert_string_equal(first->code, "ttl_missing");
  assert_int_equal(first->keys, USERS);
  assert_int_equal(first->level, REDMOON_AUDIT_VIOLATION);
  assert_int_equal(second->keys, 5 * MISC); /* of "other" */
  assert_null(second->prefix);
  redmoon_audit_report_free(report);
}

/* The table of an audit is given back to a page that it has counted: SCAN gives its keys again. */
static void keys_that_scan_gives_again_are_not_counted_again(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 500;
  redmoon_audit *audit = begin(client, &options);
  for (int i = 0; i < 3; i++) assert_int_equal(redmoon_audit_next(audit, NULL), 0);
  redmoon_audit_progress progress;
  redmoon_audit_progress_get(audit, &progress);
  assert_true(progress.keys > 1000);
  snprintf(audit->cursor, sizeof audit->cursor, "0");
  run(audit);
  redmoon_audit_report *report = report_of(audit);
  assert_int_equal(redmoon_audit_report_total(report)->keys, KEYS);
  assert_int_equal(redmoon_audit_report_summary(report)->repeats, progress.keys);
  assert_in_range(redmoon_audit_report_summary(report)->repeats_false, 0, 1);
  redmoon_audit_report_free(report);
  redmoon_audit_free(audit);
}

/* What is left alone. */

static int64_t idle_time(redmoon_client *client, const char *key) { return ask_integer(client, "OBJECT", "IDLETIME", key, NULL); }

static void idle_times_stay_as_they_are(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char old[] = "for i = 1, 50 do redis.call('SET', 'a', 'value ' .. i) local d = redis.call('DUMP', 'a') "
                            "redis.call('RESTORE', 'old:' .. i, i % 2 * 1000000, d, 'IDLETIME', 5000) end redis.call('DEL', 'a')";
  redmoon_reply_free(ask(client, "EVAL", old, "0", NULL));
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.sample_ppm = 1000000;
  redmoon_audit_report *report = audited(client, &options);
  assert_int_equal(redmoon_audit_report_total(report)->keys, 50);
  assert_int_equal(redmoon_audit_report_total(report)->sampled, 50);
  redmoon_audit_report_free(report);
  for (int i = 1; i <= 50; i++) {
    char key[16];
    snprintf(key, sizeof key, "old:%d", i);
    assert_true(idle_time(client, key) >= 5000);
  }
  redmoon_reply_free(ask(client, "GET", "old:1", NULL)); /* the control: a read is seen */
  assert_true(idle_time(client, "old:1") < 5000);
}

static void pooled_connections_are_left_as_they_were(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit *audit = begin(client, NULL);
  for (;;) {
    redmoon_op *op;
    assert_int_equal(redmoon_audit_next_start(audit, &op, NULL), 0);
    rm_drive(op);
    assert_int_equal(redmoon_op_finish(op, NULL), 0);
    redmoon_stats stats;
    redmoon_client_stats(client, &stats);
    assert_int_equal(stats.in_use, 0); /* between two pages nothing is held */
    if (redmoon_audit_done(audit)) break;
  }
  redmoon_audit_free(audit);
  char info[1000];
  ask_text(client, info, sizeof info, "CLIENT", "INFO", NULL);
  const char *flags = strstr(info, " flags=");
  assert_non_null(flags);
  assert_null(memchr(flags + 7, 'T', strcspn(flags + 7, " "))); /* no-touch */
}

/* What it has to be allowed. */

static int64_t refusals(redmoon_client *client) {
  redmoon_reply *log = ask(client, "ACL", "LOG", NULL);
  int64_t count = (int64_t)redmoon_reply_count(log);
  redmoon_reply_free(log);
  return count;
}

static void read_only_user_is_enough(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_client *client = user_with(cell, "~*", "+hello +scan +pttl +type +memory|usage +info +client +cluster");
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.sample_ppm = 1000000;
  redmoon_audit_report *report = audited(client, &options);
  assert_int_equal(redmoon_audit_report_total(report)->keys, KEYS);
  assert_int_equal(redmoon_audit_report_total(report)->sampled, KEYS);
  assert_int_equal(redmoon_audit_report_summary(report)->server_keys, KEYS);
  assert_int_equal(redmoon_audit_report_summary(report)->errors, 0);
  assert_int_equal(refusals(cell->client), 0); /* nor was anything tried that is not allowed */
  redmoon_audit_report_free(report);
  redmoon_client_close(client);
}

static void what_is_refused_is_said_and_the_rest_is_done(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_client *client = user_with(cell, "~user:*", "+hello +auth +ping +scan +pttl +type");
  redmoon_audit_report *report = audited(client, NULL);
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  assert_int_equal(redmoon_audit_report_total(report)->keys, USERS);
  assert_int_equal(summary->errors, KEYS - USERS);
  assert_non_null(strstr(summary->first_error, "NOPERM"));
  assert_int_equal(summary->server_keys, -1);
  assert_true(group_of(report, "user")->bytes == -1);
  assert_non_null(warning_of(report, "key_errors"));
  assert_non_null(warning_of(report, "info_refused"));
  assert_non_null(warning_of(report, "memory_refused"));
  assert_true(refusals(cell->client) > 0);
  redmoon_audit_report_free(report);
  redmoon_client_close(client);

  client = user_with(cell, "~*", "+hello +auth +ping +scan +type +info");
  redmoon_audit *audit = begin(client, NULL);
  redmoon_error err;
  assert_int_equal(redmoon_audit_run(audit, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  report = report_of(audit);
  assert_int_equal(redmoon_audit_report_total(report)->keys, 0);
  redmoon_audit_report_free(report);
  redmoon_audit_free(audit);
  redmoon_client_close(client);
}

static const matrix_test tests[] = {
    MATRIX_TEST(every_key_is_counted_once_with_type_lifetime_and_memory),
    MATRIX_TEST(samples_estimate_the_memory_within_their_interval),
    MATRIX_TEST(empty_database_and_narrow_match_are_reports_too),
    MATRIX_TEST(prefixes_beyond_the_top_are_other),
    MATRIX_TEST(keys_that_scan_gives_again_are_not_counted_again),
    MATRIX_TEST(idle_times_stay_as_they_are),
    MATRIX_TEST(pooled_connections_are_left_as_they_were),
    MATRIX_TEST(read_only_user_is_enough),
    MATRIX_TEST(what_is_refused_is_said_and_the_rest_is_done),
};

int main(void) { return matrix_run("audit", tests, sizeof tests / sizeof tests[0]); }
