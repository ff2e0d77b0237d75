/* SPDX-License-Identifier: MIT */
/* The table of options: what it holds, what one value may be, and what a refusal says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "wire/options.h"

#include <stdio.h>
#include <string.h>

static const rm_option *find(const char *name) {
  const rm_option *option = rm_option_find(name, strlen(name), NULL);
  assert_non_null(option);
  return option;
}

static int64_t parsed(const char *name, const char *text) {
  redmoon_error err;
  int64_t value = -77;
  if (rm_option_parse(find(name), text, strlen(text), &value, &err) != 0) {
    assert_int_equal(err.status, REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, name));
    return -77;
  }
  return value;
}

static void every_option_of_the_contract_is_in_the_table(void **state) {
  (void)state;
  static const char *const names[] = {
      "username",        "password",     "database",      "pool_size",       "min_idle",        "max_idle",
      "max_idle_time",   "max_lifetime", "pool_timeout",  "connect_timeout", "read_timeout",    "write_timeout",
      "timeout",         "max_retries",  "min_backoff",   "max_backoff",     "protocol",        "client_name",
      "tls_ca_file",     "tls_ca_path",  "tls_cert_file", "tls_key_file",    "tls_server_name", "tls_verify",
      "tls_min_version", "default_ttl",  "key_prefix",    "multiplex",       "max_reply_size",  "read_from",
      "sentinel_username", "sentinel_password", "sentinel_tls"};
  size_t count;
  rm_options_table(&count);
  assert_int_equal(count, sizeof names / sizeof names[0]);
  for (size_t i = 0; i < count; i++) find(names[i]);
}

static void no_two_options_share_a_field_and_all_fields_lie_inside(void **state) {
  (void)state;
  size_t count;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count; i++) {
    assert_true(table[i].offset + 8 <= sizeof(redmoon_options));
    assert_true(table[i].min <= table[i].max);
    for (size_t j = 0; j < i; j++) assert_int_not_equal(table[i].offset, table[j].offset);
  }
}

static void a_number_goes_to_the_field_of_its_name(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  rm_option_set_number(find("pool_size"), &o, 7);
  rm_option_set_number(find("max_idle_time"), &o, 8);
  rm_option_set_number(find("tls_verify"), &o, 0);
  rm_option_set_text(find("tls_server_name"), &o, "a");
  rm_option_set_text(find("read_from"), &o, "any");
  assert_int_equal(o.pool_size, 7);
  assert_int_equal(o.max_idle_time_ms, 8);
  assert_int_equal(o.tls.verify, 0);
  assert_string_equal(o.tls.server_name, "a");
  assert_string_equal(o.read_from, "any");
  assert_int_equal(rm_option_number(find("pool_size"), &o), 7);
  assert_string_equal(rm_option_text(find("read_from"), &o), "any");
}

static void an_unknown_name_yields_the_nearest_known_one(void **state) {
  (void)state;
  const char *nearest;
  assert_null(rm_option_find("poolsize", 8, &nearest));
  assert_string_equal(nearest, "pool_size");
  assert_null(rm_option_find("pool_sizeXYZ", 4, &nearest));
  assert_null(rm_option_find("qqqqqq", 6, &nearest));
  assert_null(nearest);
  assert_non_null(rm_option_find("timeout=5", 7, NULL));
}

static void durations_are_seconds_and_keep_their_milliseconds(void **state) {
  (void)state;
  assert_int_equal(parsed("timeout", "2"), 2000);
  assert_int_equal(parsed("timeout", "0.25"), 250);
  assert_int_equal(parsed("timeout", "1.005"), 1005);
  assert_int_equal(parsed("min_backoff", "0.008"), 8);
  assert_int_equal(parsed("timeout", "31536000"), INT64_C(31536000000));
  assert_int_equal(parsed("default_ttl", "315360000.000"), INT64_C(315360000000));
}

static void a_duration_finer_than_a_millisecond_is_rounded_up_never_to_nothing(void **state) {
  (void)state;
  assert_int_equal(parsed("timeout", "0.0001"), 1);
  assert_int_equal(parsed("timeout", "0.0010"), 1);
  assert_int_equal(parsed("timeout", "0.00100000000000000000000000001"), 2);
}

static void malformed_and_out_of_range_values_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    " 1",
                                    "1 ",
                                    "-1",
                                    "+1",
                                    "1e3",
                                    "0x1",
                                    ".5",
                                    "5.",
                                    "1.2.3",
                                    "1,5",
                                    "inf",
                                    "nan",
                                    "0",
                                    "0.000",
                                    "31536000.001",
                                    "99999999999999999999",
                                    "1s"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    if (parsed("timeout", bad[i]) != -77) fail_msg("accepted '%s'", bad[i]);
  }
  assert_int_equal(parsed("pool_size", "1.0"), -77);
  assert_int_equal(parsed("pool_size", "0"), -77);
  assert_int_equal(parsed("pool_size", "10001"), -77);
  assert_int_equal(parsed("pool_size", "10000"), 10000);
  assert_int_equal(parsed("protocol", "1"), -77);
  assert_int_equal(parsed("protocol", "4"), -77);
  assert_int_equal(parsed("protocol", "2"), 2);
}

static void booleans_are_true_false_1_and_0(void **state) {
  (void)state;
  assert_int_equal(parsed("tls_verify", "true"), 1);
  assert_int_equal(parsed("tls_verify", "1"), 1);
  assert_int_equal(parsed("tls_verify", "false"), 0);
  assert_int_equal(parsed("tls_verify", "0"), 0);
  assert_int_equal(parsed("tls_verify", "no"), -77);
  assert_int_equal(parsed("tls_verify", ""), -77);
  assert_int_equal(parsed("tls_verify", "TRUE"), -77);
}

static void a_refusal_names_option_value_and_range(void **state) {
  (void)state;
  redmoon_error err;
  int64_t value;
  assert_int_equal(rm_option_check(find("pool_size"), 0, &err), REDMOON_ECONFIG);
  assert_string_equal(err.message, "option 'pool_size': 0 is not accepted; it takes an integer from 1 to 10000");
  assert_string_equal(err.code, "CONFIG");
  assert_int_equal(rm_option_check(find("timeout"), -5, &err), REDMOON_ECONFIG);
  assert_string_equal(
      err.message, "option 'timeout': -5 ms is not accepted; it takes a duration from 0.001 to 31536000 seconds");
  assert_int_equal(rm_option_parse(find("pool_size"), "many", 4, &value, &err), REDMOON_ECONFIG);
  assert_string_equal(err.message,
                      "option 'pool_size': 'many' is not accepted; it takes an integer from 1 to 10000");
  assert_int_equal(rm_option_parse(find("pool_size"), "", 0, &value, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "an empty text is not accepted"));
  assert_int_equal(rm_option_check(find("pool_size"), 1, &err), 0);
  assert_int_equal(rm_option_check(find("pool_size"), 10000, NULL), 0);
  assert_int_equal(rm_option_check(find("pool_size"), 10001, NULL), REDMOON_ECONFIG);
}

static bool takes(const char *name, const char *text, size_t len) {
  redmoon_error err;
  int rc = rm_option_check_text(find(name), text, len, &err);
  if (rc != 0) assert_non_null(strstr(err.message, name));
  return rc == 0;
}
#define TAKES(name, text) takes(name, text, sizeof(text) - 1)

static void texts_with_a_grammar_are_checked_against_it(void **state) {
  (void)state;
  assert_true(TAKES("client_name", "billing-7"));
  assert_false(TAKES("client_name", "two words"));
  assert_false(TAKES("client_name", "line\n"));
  assert_false(TAKES("client_name", ""));
  assert_true(TAKES("key_prefix", "app:1"));
  assert_false(TAKES("key_prefix", "{app}"));
  assert_false(TAKES("key_prefix", "{app"));
  assert_false(TAKES("key_prefix", "app}"));
  assert_false(TAKES("key_prefix", "a\tb"));
  assert_false(TAKES("key_prefix", ""));
  assert_true(TAKES("read_from", "nearest"));
  assert_false(TAKES("read_from", "nearestx"));
  assert_false(TAKES("read_from", "near"));
  assert_true(TAKES("tls_min_version", "1.3"));
  assert_false(TAKES("tls_min_version", "1.1"));
  assert_true(TAKES("tls_server_name", "redis.example.com"));
  assert_true(TAKES("tls_server_name", "10.0.0.1"));
  assert_true(TAKES("tls_server_name", "::1"));
  assert_false(TAKES("tls_server_name", "*.example.com"));
  assert_false(TAKES("tls_server_name", "a\0b"));
  assert_false(TAKES("tls_ca_file", "a\0b"));
  char long_name[257];
  memset(long_name, 'n', sizeof long_name);
  assert_true(takes("client_name", long_name, 256));
  assert_false(takes("client_name", long_name, 257));
}

static void a_refused_secret_is_never_shown_and_another_text_is_shown_escaped_and_short(void **state) {
  (void)state;
  redmoon_error err;
  static char huge[65537];
  memset(huge, 'S', sizeof huge);
  assert_int_equal(rm_option_check_text(find("password"), huge, sizeof huge, &err), REDMOON_ECONFIG);
  assert_null(strchr(err.message, 'S'));
  assert_int_equal(rm_option_check_text(find("username"), "S\0S", 3, &err), REDMOON_ECONFIG);
  assert_null(strchr(err.message, 'S'));
  assert_int_equal(rm_option_check_text(find("client_name"), "\x1b[2J", 4, &err), REDMOON_ECONFIG);
  assert_null(strchr(err.message, 0x1b));
  assert_int_equal(rm_option_check_text(find("client_name"), huge, 300, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "SSS'... is not accepted; it takes 1 to 256 printable"));
  assert_true(strlen(err.message) < 200);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_option_of_the_contract_is_in_the_table),
      cmocka_unit_test(no_two_options_share_a_field_and_all_fields_lie_inside),
      cmocka_unit_test(a_number_goes_to_the_field_of_its_name),
      cmocka_unit_test(an_unknown_name_yields_the_nearest_known_one),
      cmocka_unit_test(durations_are_seconds_and_keep_their_milliseconds),
      cmocka_unit_test(a_duration_finer_than_a_millisecond_is_rounded_up_never_to_nothing),
      cmocka_unit_test(malformed_and_out_of_range_values_are_refused),
      cmocka_unit_test(booleans_are_true_false_1_and_0),
      cmocka_unit_test(a_refusal_names_option_value_and_range),
      cmocka_unit_test(texts_with_a_grammar_are_checked_against_it),
      cmocka_unit_test(a_refused_secret_is_never_shown_and_another_text_is_shown_escaped_and_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
