/* SPDX-License-Identifier: MIT */
/* The audit on a real server: what it counts, what it leaves alone, what it needs to be allowed, and how it goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "patterns/audit.h"
#include "support/ask.h"
#include "support/matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 2000, SESSIONS = 1000, MISC = 10, PLAIN = 5, KEYS = USERS + SESSIONS + 5 * MISC + PLAIN };

/* A known mix: `user` for ever, `sess` with 1,000 s and a bit, `misc` of five types, and keys without a prefix. */
static const char mix[] =
    "for i = 1, 2000 do redis.call('SET', 'user:' .. i, ('x'):rep(i % 200)) end "
    "for i = 1, 1000 do redis.call('HSET', 'sess:' .. i, 'f', i) redis.call('PEXPIRE', 'sess:' .. i, 1200000 + i % 100) end "
    "for i = 1, 10 do redis.call('RPUSH', 'misc:l' .. i, 'a') redis.call('SADD', 'misc:s' .. i, 'a') "
    "redis.call('ZADD', 'misc:z' .. i, 1, 'a') redis.call('XADD', 'misc:x' .. i, '*', 'f', 'v') "
    "redis.call('HSET', 'misc:h' .. i, 'f', 'v') end "
    "for i = 1, 5 do redis.call('SET', 'plain' .. i, 'v', 'PX', 5000000) end";

static void fill(redmoon_client *client) { redmoon_reply_free(ask(client, "EVAL", mix, "0", NULL)); }

static redmoon_audit *begin(redmoon_client *client, const redmoon_audit_options *options) {
  redmoon_audit *audit;
  redmoon_error err;
  if (redmoon_audit_new(client, options, &audit, &err) != 0) fail_msg("%s", err.message);
  return audit;
}

static void run(redmoon_audit *audit) {
  redmoon_error err;
  if (redmoon_audit_run(audit, &err) != 0) fail_msg("%s: %s", err.code, err.message);
}

static redmoon_audit_report *report_of(const redmoon_audit *audit) {
  redmoon_audit_report *report;
  assert_int_equal(redmoon_audit_report_new(audit, &report, NULL), 0);
  return report;
}

static redmoon_audit_report *audited(redmoon_client *client, const redmoon_audit_options *options) {
  redmoon_audit *audit = begin(client, options);
  run(audit);
  assert_true(redmoon_audit_done(audit));
  redmoon_audit_report *report = report_of(audit);
  redmoon_audit_free(audit);
  return report;
}

static const redmoon_audit_group *group_of(const redmoon_audit_report *report, const char *prefix) {
  for (size_t i = 0; i < redmoon_audit_report_count(report); i++) {
    const redmoon_audit_group *group = redmoon_audit_report_group(report, i);
    if (group->prefix_len == strlen(prefix) && memcmp(group->prefix, prefix, group->prefix_len) == 0) return group;
  }
  fail_msg("no prefix '%s'", prefix);
  return NULL;
}

static const redmoon_audit_warning *warning_of(const redmoon_audit_report *report, const char *code) {
  for (size_t i = 0; i < redmoon_audit_report_warning_count(report); i++)
    if (strcmp(redmoon_audit_report_warning(report, i)->code, code) == 0) return redmoon_audit_report_warning(report, i);
  return NULL;
}

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

static redmoon_client *user_with(matrix_cell *cell, const char *keys, const char *rule) {
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

/* How it goes on. */

static void assert_same_group(const redmoon_audit_group *a, const redmoon_audit_group *b) {
  redmoon_audit_group x = *a, y = *b;
  assert_int_equal(x.prefix_len, y.prefix_len);
  assert_memory_equal(x.prefix, y.prefix, x.prefix_len);
  x.prefix = y.prefix = NULL;
  /* What runs by the clock: these lie in one bucket, so only they themselves have moved. */
  x.ttl_min_ms = y.ttl_min_ms = x.ttl_max_ms = y.ttl_max_ms = 0;
  x.ttl_p50_ms = y.ttl_p50_ms = x.ttl_p99_ms = y.ttl_p99_ms = 0;
  assert_int_equal(x.cliff_error, y.cliff_error);
  x.cliff_keys = y.cliff_keys = x.cliff_at_ms = y.cliff_at_ms = 0; /* their end is known to some ms */
  x.cliff_share = y.cliff_share = 0;
  assert_memory_equal(&x, &y, sizeof x);
}

static void assert_same_report(const redmoon_audit_report *a, const redmoon_audit_report *b) {
  assert_int_equal(redmoon_audit_report_count(a), redmoon_audit_report_count(b));
  for (size_t i = 0; i < redmoon_audit_report_count(a); i++)
    assert_same_group(redmoon_audit_report_group(a, i), redmoon_audit_report_group(b, i));
  assert_same_group(redmoon_audit_report_total(a), redmoon_audit_report_total(b));
  assert_same_group(redmoon_audit_report_other(a), redmoon_audit_report_other(b));
  const redmoon_audit_summary *x = redmoon_audit_report_summary(a), *y = redmoon_audit_report_summary(b);
  assert_int_equal(x->complete, y->complete);
  assert_int_equal(x->pages, y->pages);
  assert_int_equal(x->repeats, y->repeats);
  assert_int_equal(x->gone, y->gone);
  assert_int_equal(redmoon_audit_report_warning_count(a), redmoon_audit_report_warning_count(b));
}

static void interrupted_and_resumed_it_gives_the_same_report(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 200;
  options.sample_ppm = 100000;
  options.depth = 2;
  options.top = 2;
  redmoon_audit_report *whole = audited(cell->client, &options);

  void *saved = NULL;
  size_t len = 0;
  int parts = 0;
  redmoon_audit_report *report = NULL;
  while (report == NULL) { /* a page, then another process: nothing but the bytes goes over */
    redmoon_client *client = matrix_open(cell, NULL);
    redmoon_audit_options next = REDMOON_AUDIT_OPTIONS_INIT;
    next.count = 200;
    next.resume = saved;
    next.resume_len = len;
    if (saved == NULL) next = options;
    redmoon_audit *audit = begin(client, &next);
    redmoon_free(saved);
    assert_int_equal(redmoon_audit_next(audit, NULL), 0);
    assert_int_equal(redmoon_audit_save(audit, &saved, &len, NULL), 0);
    if (redmoon_audit_done(audit)) report = report_of(audit);
    redmoon_audit_free(audit);
    redmoon_client_close(client);
    parts++;
  }
  assert_true(parts > 10);
  assert_same_report(whole, report);
  redmoon_audit_report_free(report);

  /* One that is done has nothing left to do. */
  redmoon_audit_options again = REDMOON_AUDIT_OPTIONS_INIT;
  again.resume = saved;
  again.resume_len = len;
  report = audited(cell->client, &again);
  assert_same_report(whole, report);
  redmoon_audit_report_free(report);
  redmoon_audit_report_free(whole);
  redmoon_free(saved);
}

static int stop_at(void *ctx, const redmoon_audit_progress *progress) {
  redmoon_audit_progress *last = ctx;
  assert_true(progress->keys >= last->keys && progress->pages == last->pages + 1 && progress->share > last->share);
  assert_true(progress->left >= 0 && progress->left <= KEYS);
  *last = *progress;
  return progress->pages % 5 == 0;
}

static void progress_rises_and_may_stop_it(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_progress last = {0};
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 100;
  options.on_progress = stop_at;
  options.ctx = &last;
  redmoon_audit *audit = begin(client, &options);
  int runs = 0;
  for (; !redmoon_audit_done(audit); runs++) {
    run(audit);
    redmoon_audit_report *report = report_of(audit);
    assert_int_equal(redmoon_audit_report_total(report)->keys > 0, 1);
    assert_int_equal(warning_of(report, "partial") != NULL, !redmoon_audit_done(audit));
    redmoon_audit_report_free(report);
  }
  assert_true(runs > 3);
  redmoon_audit_progress_get(audit, &last);
  assert_true(last.keys == KEYS && last.left == 0 && last.share == 1);
  run(audit); /* the end stays the end */
  redmoon_audit_free(audit);
}

/* After so many steps, wherever that is. */
static void cancelled_page_counts_for_nothing(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 300;
  redmoon_audit_report *whole = audited(client, &options);
  redmoon_audit *audit = begin(client, &options);
  int cancelled = 0;
  for (int steps = 1; !redmoon_audit_done(audit); steps = steps % 12 + 1) {
    redmoon_op *op;
    redmoon_error err;
    assert_int_equal(redmoon_audit_next_start(audit, &op, NULL), 0);
    int done = 0;
    for (int i = 0; i < steps && !done; i++) {
      done = redmoon_op_step(op);
      if (!done) {
        redmoon_wants wants;
        redmoon_op_wants(op, &wants);
        assert_true(wants.fd >= 0 || wants.timeout_ms >= 0);
      }
    }
    int rc = redmoon_op_finish(op, &err);
    assert_int_equal(rc, done ? 0 : REDMOON_ECANCELLED);
    cancelled += !done;
    if (cancelled > 200) run(audit);
  }
  assert_true(cancelled > 3);
  redmoon_audit_report *report = report_of(audit);
  assert_same_report(whole, report);
  redmoon_audit_report_free(report);
  redmoon_audit_report_free(whole);
  redmoon_audit_free(audit);
}

static void rate_is_kept_to_and_a_shutdown_ends_the_pause(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_client *client = matrix_open(cell, NULL);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.max_rate = 1;
  redmoon_audit *audit = begin(client, &options);
  assert_int_equal(redmoon_audit_next(audit, NULL), 0);
  redmoon_op *op;
  assert_int_equal(redmoon_audit_next_start(audit, &op, NULL), 0);
  redmoon_wants wants;
  if (redmoon_op_step(op) == 0) { /* a second has not passed, most likely */
    redmoon_op_wants(op, &wants);
    if (wants.fd < 0) assert_in_range(wants.timeout_ms, 0, 1000 * KEYS);
  }
  redmoon_op_cancel(op);
  redmoon_client_shutdown(client);
  redmoon_error err;
  assert_int_equal(redmoon_audit_run(audit, &err), REDMOON_ECLOSED);
  redmoon_audit_free(audit);
  redmoon_client_close(client);

  options.max_rate = 20000; /* and it takes at least as long as that says */
  int64_t began = rm_clock_now_us();
  redmoon_audit_report *report = audited(cell->client, &options);
  assert_true(rm_clock_now_us() - began >= (int64_t)(KEYS - 2000) * 1000000 / 20000);
  redmoon_audit_report_free(report);
}

/* What is refused. */

static void assert_option(redmoon_client *client, redmoon_audit_options options, const char *name) {
  redmoon_audit *audit = (redmoon_audit *)&options;
  redmoon_error err;
  int rc = redmoon_audit_new(client, &options, &audit, &err);
  if (rc != REDMOON_ECONFIG) fail_msg("%s: %d", name, rc);
  assert_null(audit);
  char quoted[40];
  snprintf(quoted, sizeof quoted, "'%s'", name);
  if (strstr(err.message, quoted) == NULL) fail_msg("%s is not named in: %s", name, err.message);
}

static void options_out_of_range_are_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
#define REFUSED(field, value, name)                                                                                \
  do {                                                                                                             \
    redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;                                                    \
    options.field = value;                                                                                         \
    assert_option(client, options, name);                                                                          \
  } while (0)
  REFUSED(depth, 0, "depth");
  REFUSED(depth, 9, "depth");
  REFUSED(separator, "", "separator");
  REFUSED(separator, "::", "separator");
  REFUSED(separator, "{", "separator");
  REFUSED(sample_ppm, -1, "sample");
  REFUSED(sample_ppm, 1000001, "sample");
  REFUSED(top, 0, "top");
  REFUSED(top, 10001, "top");
  REFUSED(min_ttl_ms, 0, "min_ttl");
  REFUSED(max_ttl_ms, -5, "max_ttl");
  REFUSED(require_ttl, 2, "require_ttl");
  REFUSED(filter_bytes, 1, "filter_size");
  REFUSED(filter_bytes, INT64_C(1) << 31, "filter_size");
  REFUSED(seed, -1, "seed");
  REFUSED(count, 0, "count");
  REFUSED(max_rate, 0, "max_rate");
  REFUSED(processes, 0, "processes");
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.min_ttl_ms = 2;
  options.max_ttl_ms = 1;
  assert_option(client, options, "min_ttl");
  redmoon_audit_free(NULL);
  redmoon_audit_report_free(NULL);
}

static void state_of_another_audit_is_refused(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.match = "user:*";
  options.depth = 2;
  redmoon_audit *audit = begin(cell->client, &options);
  assert_int_equal(redmoon_audit_next(audit, NULL), 0);
  void *saved;
  size_t len;
  assert_int_equal(redmoon_audit_save(audit, &saved, &len, NULL), 0);
  redmoon_audit_free(audit);
  options.resume = saved;
  options.resume_len = len;
  redmoon_audit_free(begin(cell->client, &options)); /* the same options are good */
  options.depth = 1;
  assert_option(cell->client, options, "depth");
  options.depth = 2;
  options.match = "*";
  assert_option(cell->client, options, "match");
  options.match = NULL;
  options.separator = "/";
  assert_option(cell->client, options, "separator");
  options.separator = NULL;
  redmoon_error err;
  redmoon_options other = REDMOON_OPTIONS_INIT;
  other.database = 1;
  redmoon_client *elsewhere = matrix_open(cell, &other);
  assert_int_equal(redmoon_audit_new(elsewhere, &options, &audit, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "database 0"));
  redmoon_client_close(elsewhere);
  ((char *)saved)[len / 2] ^= 1;
  assert_int_equal(redmoon_audit_new(cell->client, &options, &audit, &err), REDMOON_ECODEC);
  options.resume_len = 3;
  assert_int_equal(redmoon_audit_new(cell->client, &options, &audit, &err), REDMOON_ECODEC);
  redmoon_free(saved);
}

/* What it warns of. */

static redmoon_audit_report *under(matrix_cell *cell, const char *policy, const char *maxmemory, redmoon_audit_options options) {
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "maxmemory-policy", policy, NULL));
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "maxmemory", maxmemory, NULL));
  redmoon_audit_report *report = audited(cell->client, &options);
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "maxmemory", "0", NULL));
  redmoon_reply_free(ask(cell->client, "CONFIG", "SET", "maxmemory-policy", "noeviction", NULL));
  return report;
}

static bool says(const redmoon_audit_report *report, const char *code, const char *text) {
  const redmoon_audit_warning *warning = warning_of(report, code);
  return warning != NULL && strstr(warning->message, text) != NULL;
}

static void server_settings_are_held_against_the_keys(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  redmoon_audit_report *report = under(cell, "noeviction", "0", options);
  assert_true(says(report, "memory_unlimited", "no maxmemory"));
  assert_null(warning_of(report, "eviction_policy"));
  assert_null(warning_of(report, "maxclients"));
  redmoon_audit_report_free(report);
  report = under(cell, "volatile-lru", "1000000000", options);
  assert_true(says(report, "eviction_policy", "volatile-lru"));
  assert_int_equal(warning_of(report, "eviction_policy")->keys, USERS + 5 * MISC);
  assert_null(warning_of(report, "memory_unlimited"));
  assert_string_equal(redmoon_audit_report_summary(report)->maxmemory_policy, "volatile-lru");
  redmoon_audit_report_free(report);
  options.processes = 1000;
  report = under(cell, "allkeys-lfu", "1000000000", options);
  assert_true(says(report, "eviction_policy", "allkeys-lfu"));
  assert_true(says(report, "maxclients", "1000 processes with pools of 20"));
  redmoon_audit_report_free(report);
  report = under(cell, "noeviction", "1000000000", options);
  assert_null(warning_of(report, "eviction_policy")); /* there is room */
  redmoon_audit_report_free(report);
}

static void limits_cliffs_and_split_objects_are_told(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static const char keys[] =
      "for i = 1, 1500 do redis.call('SET', 'burst:' .. i, 'v', 'PX', 3000000) end "
      "for i = 1, 200 do redis.call('SET', 'obj:' .. i .. ':name', 'n') redis.call('SET', 'obj:' .. i .. ':mail', 'm') "
      "redis.call('SET', 'doc:' .. i .. ':' .. i, 'n') redis.call('SET', 'one:' .. i .. ':state', 'n') "
      "redis.call('SET', 'odd:' .. i .. ':' .. (i % 9 == 0 and 'note' or 'state'), 'n') end";
  redmoon_reply_free(ask(client, "EVAL", keys, "0", NULL));
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.max_ttl_ms = 60000;
  redmoon_audit_report *report = audited(client, &options);
  const redmoon_audit_warning *above = warning_of(report, "ttl_above_max"), *split = warning_of(report, "split_hash"),
                              *cliff = warning_of(report, "expiry_cliff");
  assert_non_null(above);
  assert_int_equal(above->keys, 1500);
  assert_string_equal(redmoon_audit_level_name(above->level), "violation");
  assert_non_null(split);
  assert_int_equal(split->keys, 400);
  assert_int_equal(split->prefix_len, 3);
  assert_memory_equal(split->prefix, "obj", 3);
  assert_non_null(strstr(split->message, "2 fields of about 200 objects"));
  assert_non_null(cliff);
  assert_memory_equal(cliff->prefix, "burst", 5);
  assert_true(cliff->keys >= 750);
  int splits = 0;
  for (size_t i = 0; i < redmoon_audit_report_warning_count(report); i++) {
    const redmoon_audit_warning *w = redmoon_audit_report_warning(report, i);
    splits += strcmp(w->code, "split_hash") == 0; /* neither numbers, nor one name for all, nor one for each are fields */
    if (i > 0) assert_true(w->level <= redmoon_audit_report_warning(report, i - 1)->level);
  }
  assert_int_equal(splits, 1);
  redmoon_audit_report_free(report);
  options.max_ttl_ms = REDMOON_UNSET;
  options.min_ttl_ms = 86400000;
  report = audited(client, &options);
  assert_int_equal(warning_of(report, "ttl_below_min")->keys, 1500);
  assert_null(warning_of(report, "ttl_above_max"));
  redmoon_audit_report_free(report);
}

/* The fix. */

static redmoon_audit_fix *fixer(redmoon_client *client, const redmoon_audit_fix_options *options) {
  redmoon_audit_fix *fix;
  redmoon_error err;
  if (redmoon_audit_fix_new(client, options, &fix, &err) != 0) fail_msg("%s", err.message);
  return fix;
}

static void fix_gives_lifetimes_to_keys_without_one_and_to_no_others(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  fill(client);
  redmoon_reply_free(ask(client, "SET", "redmoon:{g}:guard", "1", NULL));
  redmoon_reply_free(ask(client, "SET", "redmoon:~{g}:x:guard", "1", NULL));
  for (int dry = 1; dry >= 0; dry--) {
    redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
    options.match = "*";
    options.ttl_ms = 1000000;
    options.jitter_ppm = 500000;
    options.dry_run = dry;
    options.count = 300;
    redmoon_audit_fix *fix = fixer(client, &options);
    int64_t listed = 0, longest = 0, shortest = INT64_MAX;
    while (!redmoon_audit_fix_done(fix)) {
      redmoon_error err;
      if (redmoon_audit_fix_next(fix, &err) != 0) fail_msg("%s", err.message);
      size_t count;
      const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
      for (size_t i = 0; i < count; i++) {
        assert_true(page[i].ttl_ms >= 1000000 && page[i].ttl_ms <= 1500000);
        assert_int_equal(page[i].expires_ms > 0, !dry);
        if (page[i].ttl_ms > longest) longest = page[i].ttl_ms;
        if (page[i].ttl_ms < shortest) shortest = page[i].ttl_ms;
      }
      listed += (int64_t)count;
    }
    redmoon_audit_fix_counts counts;
    redmoon_audit_fix_counts_get(fix, &counts);
    assert_int_equal(counts.seen, KEYS + 2);
    assert_int_equal(counts.fixed, USERS + 5 * MISC);
    assert_int_equal(listed, counts.fixed);
    assert_int_equal(counts.own, 2);
    assert_true(counts.raced == 0 && counts.errors == 0 && counts.share == 1);
    assert_true(longest - shortest > 400000); /* spread */
    redmoon_audit_fix_free(fix);
    redmoon_audit_report *report = audited(client, NULL);
    assert_int_equal(redmoon_audit_report_total(report)->no_ttl, dry ? USERS + 5 * MISC + 2 : 2);
    assert_true(group_of(report, "sess")->ttl_max_ms <= 1200100); /* as it was */
    assert_int_equal(group_of(report, "redmoon")->no_ttl, 2);
    redmoon_audit_report_free(report);
  }
}

static void undo_takes_away_what_fix_gave_and_nothing_else(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_reply_free(ask(client, "MSET", "a:1", "v", "a:2", "v", "a:3", "v", NULL));
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = "a:*";
  options.ttl_ms = 1000000;
  options.dry_run = 0;
  redmoon_audit_fix *fix = fixer(client, &options);
  assert_int_equal(redmoon_audit_fix_next(fix, NULL), 0);
  size_t count;
  const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
  assert_int_equal(count, 3);
  assert_true(redmoon_audit_fix_done(fix));
  redmoon_reply_free(ask(client, "PEXPIRE", "a:2", "9000000", NULL)); /* somebody else wants it so */
  redmoon_reply_free(ask(client, "DEL", "a:3", NULL));
  for (size_t i = 0; i < count; i++) {
    int undone = -1;
    redmoon_error err;
    int first = memcmp(page[i].key, "a:1", 3) == 0;
    if (redmoon_audit_undo(client, page[i].key, page[i].key_len, page[i].expires_ms, &undone, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(undone, first);
    assert_int_equal(redmoon_audit_undo(client, page[i].key, page[i].key_len, page[i].expires_ms, &undone, &err), 0);
    assert_int_equal(undone, 0);
  }
  assert_int_equal(ask_integer(client, "PTTL", "a:1", NULL), -1);
  assert_true(ask_integer(client, "PTTL", "a:2", NULL) > 8000000);
  int undone;
  assert_int_equal(redmoon_audit_undo(client, "a:1", 3, 0, &undone, NULL), REDMOON_ECONFIG);
  redmoon_audit_fix_free(fix);
}

static void fix_needs_to_be_told_what_it_may_do(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_audit_fix_options good = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  good.match = "a:*";
  good.ttl_ms = 1000;
  redmoon_audit_fix *fix = fixer(client, &good);
  assert_int_equal(redmoon_audit_fix_next(fix, NULL), 0);
  assert_true(redmoon_audit_fix_done(fix));
  redmoon_audit_fix_free(fix);
  static const struct {
    const char *name;
    redmoon_audit_fix_options options;
  } rows[] = {{"'match'", {NULL, 1000, 0, 0, 1, 1}},       {"'match'", {"", 1000, 0, 0, 1, 1}},
              {"'ttl'", {"a", REDMOON_UNSET, 0, 0, 1, 1}}, {"'ttl'", {"a", 999, 0, 0, 1, 1}},
              {"'jitter'", {"a", 1000, -1, 0, 1, 1}},      {"'dry_run'", {"a", 1000, 0, 2, 1, 1}},
              {"'count'", {"a", 1000, 0, 0, 1001, 1}},     {"'max_rate'", {"a", 1000, 0, 0, 1, 0}}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    redmoon_error err;
    assert_int_equal(redmoon_audit_fix_new(client, &rows[i].options, &fix, &err), REDMOON_ECONFIG);
    assert_null(fix);
    assert_non_null(strstr(err.message, rows[i].name));
  }
  redmoon_audit_fix_free(NULL);
}

static void fix_that_is_not_allowed_changes_nothing(void **state) {
  matrix_cell *cell = *state;
  fill(cell->client);
  redmoon_client *client = user_with(cell, "~*", "+hello +auth +ping +scan +pttl");
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = "user:*";
  options.ttl_ms = 1000;
  options.dry_run = 0;
  redmoon_audit_fix *fix = fixer(client, &options);
  redmoon_error err;
  assert_int_equal(redmoon_audit_fix_next(fix, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  size_t count;
  redmoon_audit_fix_page(fix, &count);
  assert_int_equal(count, 0);
  redmoon_audit_fix_free(fix);
  redmoon_client_close(client);
  redmoon_audit_report *report = audited(cell->client, NULL);
  assert_int_equal(group_of(report, "user")->no_ttl, USERS);
  redmoon_audit_report_free(report);
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
    MATRIX_TEST(interrupted_and_resumed_it_gives_the_same_report),
    MATRIX_TEST(progress_rises_and_may_stop_it),
    MATRIX_TEST(cancelled_page_counts_for_nothing),
    MATRIX_TEST(rate_is_kept_to_and_a_shutdown_ends_the_pause),
    MATRIX_TEST(options_out_of_range_are_refused),
    MATRIX_TEST(state_of_another_audit_is_refused),
    MATRIX_TEST(server_settings_are_held_against_the_keys),
    MATRIX_TEST(limits_cliffs_and_split_objects_are_told),
    MATRIX_TEST(fix_gives_lifetimes_to_keys_without_one_and_to_no_others),
    MATRIX_TEST(undo_takes_away_what_fix_gave_and_nothing_else),
    MATRIX_TEST(fix_needs_to_be_told_what_it_may_do),
    MATRIX_TEST(fix_that_is_not_allowed_changes_nothing),
};

int main(void) { return matrix_run("audit", tests, sizeof tests / sizeof tests[0]); }
