/* SPDX-License-Identifier: MIT */
/* An audit on a real server: how it is stopped and goes on, what it refuses, and what it warns of. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "audit.h"
#include "base/clock.h"

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

static const matrix_test tests[] = {
    MATRIX_TEST(interrupted_and_resumed_it_gives_the_same_report),
    MATRIX_TEST(progress_rises_and_may_stop_it),
    MATRIX_TEST(cancelled_page_counts_for_nothing),
    MATRIX_TEST(rate_is_kept_to_and_a_shutdown_ends_the_pause),
    MATRIX_TEST(options_out_of_range_are_refused),
    MATRIX_TEST(state_of_another_audit_is_refused),
    MATRIX_TEST(server_settings_are_held_against_the_keys),
    MATRIX_TEST(limits_cliffs_and_split_objects_are_told),
};

int main(void) { return matrix_run("audit runs", tests, sizeof tests / sizeof tests[0]); }
