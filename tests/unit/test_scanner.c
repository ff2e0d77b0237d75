/* SPDX-License-Identifier: MIT */
/* The frame scanner: where frames end, what it refuses, and how little it spends on that. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/reply_fixtures.h"
#include "wire/scanner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t largest_request, requested, allocations;

static bool watch(void *ctx, size_t size) {
  (void)ctx;
  allocations++;
  requested += size;
  if (size > largest_request) largest_request = size;
  return false;
}

static int unwatch(void **state) {
  (void)state;
  rm_alloc_set_refuse(NULL, NULL);
  return 0;
}

static rm_scanner *new_scanner(void) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  rm_scanner *scanner = rm_scanner_new(&limits);
  assert_non_null(scanner);
  return scanner;
}

static int scan_all(const rm_limits *limits, const char *bytes, size_t len, redmoon_error *err) {
  rm_scanner *scanner = rm_scanner_new(limits);
  size_t end = 0;
  int rc = rm_scanner_scan(scanner, bytes, len, &end, err);
  if (rc == 1) assert_true(end <= len);
  rm_scanner_free(scanner);
  return rc;
}

static void every_fixture_ends_where_it_ends_whatever_follows(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  for (size_t i = 0; i < reply_fixture_count; i++) {
    const reply_fixture *f = &reply_fixtures[i];
    char *bytes = malloc(f->len + 7);
    memcpy(bytes, f->bytes, f->len);
    memcpy(bytes + f->len, "+NEXT\r\n", 7);
    size_t end = 0;
    assert_int_equal(rm_scanner_scan(scanner, bytes, f->len + 7, &end, NULL), 1);
    assert_int_equal(end, f->len);
    assert_int_equal(rm_scanner_frame(scanner)->kind, f->text[0] == '>' ? RM_FRAME_PUSH : RM_FRAME_REPLY);
    assert_int_equal(rm_scanner_scan(scanner, bytes + end, 7, &end, NULL), 1);
    assert_int_equal(end, 7);
    free(bytes);
  }
  rm_scanner_free(scanner);
}

static void every_truncation_of_a_fixture_needs_more_bytes(void **state) {
  (void)state;
  for (size_t i = 0; i < reply_fixture_count; i++) {
    for (size_t len = 0; len < reply_fixtures[i].len; len++) {
      /* A copy of just that size, so that a look beyond it is seen by a sanitizer. */
      char *bytes = malloc(len + 1);
      memcpy(bytes, reply_fixtures[i].bytes, len);
      char *exact = realloc(bytes, len > 0 ? len : 1);
      rm_limits limits = RM_LIMITS_DEFAULT;
      assert_int_equal(scan_all(&limits, exact, len, NULL), 0);
      free(exact);
    }
  }
}

static void bytes_may_come_one_at_a_time(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  for (size_t i = 0; i < reply_fixture_count; i++) {
    size_t end = 0;
    for (size_t len = 0; len < reply_fixtures[i].len; len++)
      assert_int_equal(rm_scanner_scan(scanner, reply_fixtures[i].bytes, len, &end, NULL), 0);
    assert_int_equal(rm_scanner_scan(scanner, reply_fixtures[i].bytes, reply_fixtures[i].len, &end, NULL), 1);
    assert_int_equal(end, reply_fixtures[i].len);
  }
  rm_scanner_free(scanner);
}

typedef struct hostile {
  const char *bytes;
  int status;
  const char *says; /* part of the message */
} hostile;

static const hostile hostiles[] = {
    {"HTTP/1.1 400 Bad Request\r\n\r\n", REDMOON_EPROTOCOL, "\"HTTP/1.1 400 Bad Request\""},
    {"\x15\x03\x03", REDMOON_EPROTOCOL, "\"\\x15\\x03\\x03\""},
    {"this is much longer than thirty-two bytes", REDMOON_EPROTOCOL, "\"this is much longer than thirty-\""},
    {"\r\n", REDMOON_EPROTOCOL, "unknown type byte"},
    {"*1\r\n@x\r\n", REDMOON_EPROTOCOL, "unknown type byte"},
    {"$+5\r\n", REDMOON_EPROTOCOL, "\"$+5\""},
    {"$03\r\n", REDMOON_EPROTOCOL, "\"$03\""},
    {"$00\r\n", REDMOON_EPROTOCOL, "\"$00\""},
    {"$\r\n", REDMOON_EPROTOCOL, "bad number"},
    {"$-\r\n", REDMOON_EPROTOCOL, "\"$-\""},
    {"$-0\r\n", REDMOON_EPROTOCOL, "\"$-0\""},
    {"$-01\r\n", REDMOON_EPROTOCOL, "\"$-01\""},
    {"$-2\r\n", REDMOON_EPROTOCOL, "negative length at \"$-2\""},
    {"$1e3\r\n", REDMOON_EPROTOCOL, "\"$1e3\""},
    {"$ 3\r\n", REDMOON_EPROTOCOL, "\"$ 3\""},
    {"$3 \r\n", REDMOON_EPROTOCOL, "\"$3 \""},
    {"$3\n", REDMOON_EPROTOCOL, "\"$3\""},
    {"$3\rx", REDMOON_EPROTOCOL, "\"$3\""},
    {"$0x3\r\n", REDMOON_EPROTOCOL, "\"$0x3\""},
    {"$123456789012345678901\r\n", REDMOON_EPROTOCOL, "bad number"},
    {"*+5\r\n", REDMOON_EPROTOCOL, "\"*+5\""},
    {"*03\r\n", REDMOON_EPROTOCOL, "\"*03\""},
    {"*\r\n", REDMOON_EPROTOCOL, "bad number"},
    {"*-2\r\n", REDMOON_EPROTOCOL, "negative length"},
    {"%-2\r\n", REDMOON_EPROTOCOL, "negative length"},
    {">-1\r\n", REDMOON_EPROTOCOL, "negative length"},
    {"|-1\r\n", REDMOON_EPROTOCOL, "negative length"},
    {"=-1\r\n", REDMOON_EPROTOCOL, "negative length"},
    {"!-1\r\n", REDMOON_EPROTOCOL, "negative length"},
    {"$?\r\n", REDMOON_EPROTOCOL, "streamed value, which is not supported, at \"$?\""},
    {"*?\r\n", REDMOON_EPROTOCOL, "streamed value, which is not supported, at \"*?\""},
    {"*1\r\n%?\r\n", REDMOON_EPROTOCOL, "streamed"},
    {"$3\r\nabcXY", REDMOON_EPROTOCOL, "does not end where it was to end"},
    {"$3\r\nabc\rY", REDMOON_EPROTOCOL, "does not end where it was to end"},
    {"$3\r\nabcd\r\n", REDMOON_EPROTOCOL, "does not end where it was to end"},
    {"=3\r\ntxt\r\n", REDMOON_EPROTOCOL, "verbatim string without a format"},
    {"=5\r\ntxt-x\r\n", REDMOON_EPROTOCOL, "verbatim string without a format"},
    {"+a\rb\r\n", REDMOON_EPROTOCOL, "bare carriage return"},
    {"+a\nb\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"-a\nb\r\n", REDMOON_EPROTOCOL, "bad value"},
    {":\r\n", REDMOON_EPROTOCOL, "bad number"},
    {":1a\r\n", REDMOON_EPROTOCOL, "bad number"},
    {":+1\r\n", REDMOON_EPROTOCOL, "bad number"},
    {":01\r\n", REDMOON_EPROTOCOL, "bad number"},
    {":9223372036854775808\r\n", REDMOON_EPROTOCOL, "beyond 64 bits"},
    {":-9223372036854775809\r\n", REDMOON_EPROTOCOL, "beyond 64 bits"},
    {":99999999999999999999\r\n", REDMOON_EPROTOCOL, "beyond 64 bits"},
    {"#\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"#x\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"#tt\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"_x\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"(\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"(-\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"(12a\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",1,5\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",.\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",1e\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",0x10\r\n", REDMOON_EPROTOCOL, "bad value"},
    {", 1\r\n", REDMOON_EPROTOCOL, "bad value"},
    {",1 \r\n", REDMOON_EPROTOCOL, "bad value"},
    {",infinity\r\n", REDMOON_EPROTOCOL, "bad value"},
    {"*1\r\n>1\r\n+x\r\n", REDMOON_EPROTOCOL, "push inside a reply"},
    {">1\r\n>1\r\n+x\r\n", REDMOON_EPROTOCOL, "push inside a reply"},
    {"|1\r\n+k\r\n>0\r\n", REDMOON_EPROTOCOL, "push inside a reply"},
    {"$2147483648\r\n", REDMOON_ETOO_LARGE, "536870912 bytes"},
    {"$536870912\r\n", REDMOON_ETOO_LARGE, "536870912 bytes"},
    {"$9223372036854775807\r\n", REDMOON_ETOO_LARGE, "bytes"},
    {"$18446744073709551615\r\n", REDMOON_ETOO_LARGE, "bytes"},
    {"$99999999999999999999\r\n", REDMOON_ETOO_LARGE, "bytes"},
    {"*4294967295\r\n", REDMOON_ETOO_LARGE, "16777216 elements"},
    {"*9223372036854775807\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"%4611686018427387904\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"%9223372036854775809\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"%8388609\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"|8388609\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"*2\r\n*16777215\r\n", REDMOON_ETOO_LARGE, "elements"},
    {"*2\r\n*8388608\r\n", 0, NULL}, /* 2 + 8388608 is within the limit */
};

static void hostile_frames_are_refused_by_name_without_spending_memory(void **state) {
  (void)state;
  rm_limits limits = RM_LIMITS_DEFAULT;
  for (size_t i = 0; i < sizeof hostiles / sizeof hostiles[0]; i++) {
    redmoon_error err = {0};
    largest_request = 0;
    rm_alloc_set_refuse(watch, NULL);
    int rc = scan_all(&limits, hostiles[i].bytes, strlen(hostiles[i].bytes), &err);
    rm_alloc_set_refuse(NULL, NULL);
    if (rc != hostiles[i].status) fail_msg("\"%s\": %d %s", hostiles[i].bytes, rc, err.message);
    if (hostiles[i].says != NULL && strstr(err.message, hostiles[i].says) == NULL)
      fail_msg("\"%s\" says: %s", hostiles[i].bytes, err.message);
    if (rc < 0) assert_int_equal(err.phase, REDMOON_PHASE_RECEIVE);
    assert_true(largest_request < 64 * 1024);
  }
}

static void an_error_never_quotes_what_lies_behind_the_bad_line(void **state) {
  (void)state;
  rm_limits limits = RM_LIMITS_DEFAULT;
  static const char *const frames[] = {"$6\r\nsecretXY", "@\r\nsecret", "*1x\r\nsecret", "=6\r\nsecret\r\n"};
  for (size_t i = 0; i < 4; i++) {
    redmoon_error err;
    assert_int_equal(scan_all(&limits, frames[i], strlen(frames[i]), &err), REDMOON_EPROTOCOL);
    assert_null(strstr(err.message, "secret"));
  }
}

/* `open` repeated `count` times. */
static char *repeat(const char *open, size_t count, size_t *len) {
  size_t size = strlen(open);
  char *bytes = malloc(size * count);
  for (size_t i = 0; i < count; i++) memcpy(bytes + i * size, open, size);
  *len = size * count;
  return bytes;
}

static void nesting_is_refused_beyond_the_limit_and_not_before(void **state) {
  (void)state;
  static const int depths[] = {1, 2, 32, RM_SCANNER_MAX_DEPTH};
  for (size_t i = 0; i < 4; i++) {
    rm_limits limits = RM_LIMITS_DEFAULT;
    limits.max_depth = depths[i];
    size_t len;
    char *bytes = repeat("*1\r\n", (size_t)depths[i] + 1, &len);
    redmoon_error err;
    assert_int_equal(scan_all(&limits, bytes, len - 4, &err), 0);
    memcpy(bytes + len - 4, "_\r\n", 3);
    assert_int_equal(scan_all(&limits, bytes, len - 1, &err), 1);
    memcpy(bytes + len - 4, "*1\r\n", 4);
    assert_int_equal(scan_all(&limits, bytes, len, &err), REDMOON_ETOO_LARGE);
    assert_non_null(strstr(err.message, "levels"));
    free(bytes);
  }
}

static void a_million_levels_of_any_kind_are_refused_in_bounded_memory(void **state) {
  (void)state;
  static const char *const opens[] = {"*1\r\n", "~1\r\n", "%1\r\n", "|1\r\n", "%1\r\n:1\r\n", "|1\r\n:1\r\n"};
  for (size_t i = 0; i < sizeof opens / sizeof opens[0]; i++) {
    rm_limits limits = RM_LIMITS_DEFAULT;
    size_t len;
    char *bytes = repeat(opens[i], 1000000, &len);
    requested = allocations = 0;
    rm_alloc_set_refuse(watch, NULL);
    assert_int_equal(scan_all(&limits, bytes, len, NULL), REDMOON_ETOO_LARGE);
    rm_alloc_set_refuse(NULL, NULL);
    assert_true(allocations > 0);        /* the watch works */
    assert_true(requested < 64 * 1024); /* all that was asked for, the scanner itself included */
    free(bytes);
  }
}

static void element_sums_count_over_the_whole_frame(void **state) {
  (void)state;
  rm_limits limits = RM_LIMITS_DEFAULT;
  limits.max_elements = 6;
  assert_int_equal(scan_all(&limits, "*2\r\n*2\r\n*2\r\n", 12, NULL), 0);
  assert_int_equal(scan_all(&limits, "*2\r\n*2\r\n*3\r\n", 12, NULL), REDMOON_ETOO_LARGE);
  assert_int_equal(scan_all(&limits, "%3\r\n", 4, NULL), 0);
  assert_int_equal(scan_all(&limits, "%4\r\n", 4, NULL), REDMOON_ETOO_LARGE);
  assert_int_equal(scan_all(&limits, "|2\r\n:1\r\n:1\r\n:1\r\n:1\r\n*3\r\n", 24, NULL), REDMOON_ETOO_LARGE);
}

static void the_sum_starts_anew_with_each_frame(void **state) {
  (void)state;
  rm_limits limits = RM_LIMITS_DEFAULT;
  limits.max_elements = 2;
  rm_scanner *scanner = rm_scanner_new(&limits);
  size_t end;
  for (int i = 0; i < 5; i++) assert_int_equal(rm_scanner_scan(scanner, "*2\r\n:1\r\n:2\r\n", 12, &end, NULL), 1);
  rm_scanner_free(scanner);
}

static void a_frame_may_be_as_long_as_the_limit_and_no_longer(void **state) {
  (void)state;
  static const char *const frames[] = {"$8\r\n12345678\r\n", "+123456789abc\r\n", "*3\r\n+a\r\n:1\r\n_\r\n",
                                       "*1\r\n*2\r\n_\r\n*0\r\n", "|0\r\n+12345678\r\n"};
  for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
    size_t len = strlen(frames[i]);
    rm_limits limits = RM_LIMITS_DEFAULT;
    limits.max_reply = len;
    assert_int_equal(scan_all(&limits, frames[i], len, NULL), 1);
    limits.max_reply = len - 1;
    redmoon_error err;
    assert_int_equal(scan_all(&limits, frames[i], len, &err), REDMOON_ETOO_LARGE);
    assert_non_null(strstr(err.message, "max_reply_size"));
  }
}

static void a_line_may_be_as_long_as_the_limit_and_no_longer(void **state) {
  (void)state;
  rm_limits limits = RM_LIMITS_DEFAULT;
  limits.max_line = 10;
  assert_int_equal(scan_all(&limits, "+1234567890\r\n", 13, NULL), 1);
  assert_int_equal(scan_all(&limits, "+1234567890", 11, NULL), 0);
  assert_int_equal(scan_all(&limits, "+12345678901", 12, NULL), REDMOON_ETOO_LARGE);
  assert_int_equal(scan_all(&limits, "+12345678901\r\n", 14, NULL), REDMOON_ETOO_LARGE);
  assert_int_equal(scan_all(&limits, "$15\r\n123456789012345\r\n", 22, NULL), 1);
}

static double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void an_endless_line_ends_at_the_limit(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  size_t size = 16 << 20, end;
  char *bytes = malloc(size);
  memset(bytes, 'x', size);
  bytes[0] = '+';
  double begin = cpu_seconds();
  assert_int_equal(rm_scanner_scan(scanner, bytes, size, &end, NULL), REDMOON_ETOO_LARGE);
  assert_true(cpu_seconds() - begin < 0.5);
  rm_scanner_free(scanner);
  free(bytes);
}

/* Looking again at what was seen would take 10^11 steps and more for each of these. */
static void the_time_is_linear_when_bytes_drip(void **state) {
  (void)state;
  size_t size = 1 << 20, end;
  rm_limits limits = RM_LIMITS_DEFAULT;
  limits.max_line = size;
  static const char *const begins[] = {"+", "$1000000\r\n", "*300000\r\n", "|100000\r\n"};
  static const char *const fillers[] = {"x", "x", ":1\r\n", ":1\r\n"};
  char *bytes = malloc(size);
  for (size_t i = 0; i < 4; i++) {
    size_t begin_len = strlen(begins[i]), filler_len = strlen(fillers[i]);
    memcpy(bytes, begins[i], begin_len);
    for (size_t k = begin_len; k < size; k++) bytes[k] = fillers[i][(k - begin_len) % filler_len];
    rm_scanner *scanner = rm_scanner_new(&limits);
    double begin = cpu_seconds();
    for (size_t len = 0; len < 999999; len++)
      if (rm_scanner_scan(scanner, bytes, len, &end, NULL) != 0) break;
    assert_true(cpu_seconds() - begin < 5);
    rm_scanner_free(scanner);
  }
  free(bytes);
}

static void attributes_become_gaps_and_neighbours_one_gap(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  static const char frame[] = "|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n|0\r\n*2\r\n:1\r\n|1\r\n+c\r\n:3\r\n+x\r\n";
  size_t end, count;
  assert_int_equal(rm_scanner_scan(scanner, frame, sizeof frame - 1, &end, NULL), 1);
  const rm_scanner_gap *gaps = rm_scanner_frame(scanner)->gaps;
  count = rm_scanner_frame(scanner)->gap_count;
  assert_int_equal(count, 2);
  assert_int_equal(gaps[0].begin, 0);
  assert_int_equal(gaps[0].end, 28);
  assert_memory_equal(frame + gaps[0].end, "*2", 2);
  assert_memory_equal(frame + gaps[1].begin, "|1", 2);
  assert_memory_equal(frame + gaps[1].end, "+x", 2);
  assert_int_equal(rm_scanner_frame(scanner)->nodes, 3);
  assert_int_equal(rm_scanner_frame(scanner)->text, 2);
  assert_int_equal(rm_scanner_scan(scanner, "+OK\r\n", 5, &end, NULL), 1);
  count = rm_scanner_frame(scanner)->gap_count;
  assert_int_equal(count, 0);
  rm_scanner_free(scanner);
}

static void nodes_texts_doubles_and_blob_errors_are_counted_outside_attributes_only(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  static const char frame[] = "*4\r\n|1\r\n,1\r\n!3\r\nERR\r\n$2\r\nab\r\n!3\r\nBAD\r\n(77\r\n=5\r\ntxt:x\r\n";
  size_t end, count;
  assert_int_equal(rm_scanner_scan(scanner, frame, sizeof frame - 1, &end, NULL), 1);
  assert_int_equal(rm_scanner_frame(scanner)->nodes, 5);
  assert_int_equal(rm_scanner_frame(scanner)->text, 3 + 4 + 3 + 6);
  assert_false(rm_scanner_frame(scanner)->has_double);
  const rm_scanner_blob_error *errors = rm_scanner_frame(scanner)->blob_errors;
  count = rm_scanner_frame(scanner)->blob_error_count;
  assert_int_equal(count, 1);
  assert_int_equal(errors[0].node, 2);
  assert_memory_equal(frame + errors[0].offset, "!3\r\nBAD", 7);
  assert_int_equal(rm_scanner_scan(scanner, "*1\r\n,1\r\n", 8, &end, NULL), 1);
  assert_true(rm_scanner_frame(scanner)->has_double);
  assert_int_equal(rm_scanner_scan(scanner, ":1\r\n", 4, &end, NULL), 1);
  assert_false(rm_scanner_frame(scanner)->has_double);
  rm_scanner_free(scanner);
}

static void the_length_of_a_large_string_is_known_from_its_header(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  size_t end;
  char frame[] = "*2\r\n:1\r\n$9\r\n123456789\r\n";
  assert_int_equal(rm_scanner_scan(scanner, frame, 10, &end, NULL), 0);
  assert_int_equal(rm_scanner_known_length(scanner), 0);
  assert_int_equal(rm_scanner_scan(scanner, frame, 13, &end, NULL), 0);
  assert_int_equal(rm_scanner_known_length(scanner), 23);
  assert_int_equal(rm_scanner_scan(scanner, frame, 23, &end, NULL), 1);
  assert_int_equal(rm_scanner_known_length(scanner), 0);
  rm_scanner_free(scanner);
}

/* Gaps and blob errors apart, a scan allocates nothing; and what they cost is bounded by the frame. */
static void lists_grow_only_with_the_frame(void **state) {
  (void)state;
  rm_scanner *scanner = new_scanner();
  size_t len, end, count;
  char *bytes = repeat("|0\r\n", 100000, &len);
  rm_alloc_set_refuse(watch, NULL);
  allocations = largest_request = 0;
  assert_int_equal(rm_scanner_scan(scanner, bytes, len, &end, NULL), 0);
  count = rm_scanner_frame(scanner)->gap_count;
  assert_int_equal(count, 1);
  assert_true(allocations <= 1);
  free(bytes);
  rm_scanner_free(scanner);
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static void refused_memory_is_nomem(void **state) {
  (void)state;
  size_t end;
  redmoon_error err;
  rm_scanner *scanner = new_scanner(), *other = new_scanner();
  rm_alloc_set_refuse(refuse_all, NULL);
  assert_int_equal(rm_scanner_scan(scanner, "|0\r\n:1\r\n", 8, &end, &err), REDMOON_ENOMEM);
  assert_string_equal(err.code, "NOMEM");
  assert_int_equal(rm_scanner_scan(other, "!1\r\nE\r\n", 7, &end, &err), REDMOON_ENOMEM);
  rm_limits limits = RM_LIMITS_DEFAULT;
  assert_null(rm_scanner_new(&limits));
  rm_alloc_set_refuse(NULL, NULL);
  rm_scanner_free(scanner);
  rm_scanner_free(other);
  rm_scanner_free(NULL);
}

#define TEST(name) cmocka_unit_test_teardown(name, unwatch)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_fixture_ends_where_it_ends_whatever_follows),
      TEST(every_truncation_of_a_fixture_needs_more_bytes),
      TEST(bytes_may_come_one_at_a_time),
      TEST(hostile_frames_are_refused_by_name_without_spending_memory),
      TEST(an_error_never_quotes_what_lies_behind_the_bad_line),
      TEST(nesting_is_refused_beyond_the_limit_and_not_before),
      TEST(a_million_levels_of_any_kind_are_refused_in_bounded_memory),
      TEST(element_sums_count_over_the_whole_frame),
      TEST(the_sum_starts_anew_with_each_frame),
      TEST(a_frame_may_be_as_long_as_the_limit_and_no_longer),
      TEST(a_line_may_be_as_long_as_the_limit_and_no_longer),
      TEST(an_endless_line_ends_at_the_limit),
      TEST(the_time_is_linear_when_bytes_drip),
      TEST(attributes_become_gaps_and_neighbours_one_gap),
      TEST(nodes_texts_doubles_and_blob_errors_are_counted_outside_attributes_only),
      TEST(the_length_of_a_large_string_is_known_from_its_header),
      TEST(lists_grow_only_with_the_frame),
      TEST(refused_memory_is_nomem),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
