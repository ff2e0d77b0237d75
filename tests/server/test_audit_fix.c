/* SPDX-License-Identifier: MIT */
/* The fix of an audit on a real server: whom it gives a lifetime, what it lists, and how that is undone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "audit.h"

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

/* Keys of the last page, noted as listed.  Returns how many are known to be changed. */
static int64_t note_page(const redmoon_audit_fix *fix, char *listed) {
  size_t count;
  int64_t known = 0;
  const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
  for (size_t i = 0; i < count; i++) {
    listed[atoi((const char *)page[i].key + strlen("user:"))] = 1;
    known += page[i].expires_ms > 0;
  }
  return known;
}

/* After so many steps, wherever that is. */
static void cancelled_fix_lists_what_it_may_have_changed(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  static char listed[USERS + 1];
  memset(listed, 0, sizeof listed);
  fill(client);
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = "user:*";
  options.ttl_ms = 9000000;
  options.dry_run = 0;
  options.count = 300;
  redmoon_audit_fix *fix = fixer(client, &options);
  int cancelled = 0;
  int64_t known = 0;
  for (int steps = 1; !redmoon_audit_fix_done(fix); steps = cancelled < 200 ? steps % 16 + 1 : 1 << 30) {
    redmoon_op *op;
    assert_int_equal(redmoon_audit_fix_next_start(fix, &op, NULL), 0);
    int done = 0;
    for (int i = 0; i < steps && !done; i++) done = redmoon_op_step(op);
    int rc = redmoon_op_finish(op, NULL);
    assert_int_equal(rc, done ? 0 : REDMOON_ECANCELLED);
    cancelled += !done;
    known += note_page(fix, listed);
  }
  assert_true(cancelled > 3);
  redmoon_audit_fix_counts counts;
  redmoon_audit_fix_counts_get(fix, &counts);
  assert_int_equal(counts.fixed, known);
  for (int i = 1; i <= USERS; i++) {
    char key[24];
    snprintf(key, sizeof key, "user:%d", i);
    assert_true(ask_integer(client, "PTTL", key, NULL) > 8000000);
    if (!listed[i]) fail_msg("%s was changed and is not listed", key);
  }
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
    MATRIX_TEST(fix_gives_lifetimes_to_keys_without_one_and_to_no_others),
    MATRIX_TEST(undo_takes_away_what_fix_gave_and_nothing_else),
    MATRIX_TEST(cancelled_fix_lists_what_it_may_have_changed),
    MATRIX_TEST(fix_needs_to_be_told_what_it_may_do),
    MATRIX_TEST(fix_that_is_not_allowed_changes_nothing),
};

int main(void) { return matrix_run("audit fix", tests, sizeof tests / sizeof tests[0]); }
