/* SPDX-License-Identifier: MIT */
/* URLs: every form that is accepted, every one that is refused, and that nothing of the user info is ever shown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/random.h"
#include "wire/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rm_url parsed(const char *text) {
  rm_url url;
  redmoon_error err;
  if (rm_url_parse(text, "URL", &url, &err) != 0) fail_msg("%s: %s", text, err.message);
  return url;
}

static void expect_printed(const char *text, int64_t database, const char *printed) {
  rm_url url = parsed(text);
  char *out = rm_url_print(&url, database);
  assert_string_equal(out, printed);
  rm_free(out);
  rm_url_fini(&url);
}

/* Refused with CONFIG and a message that begins with the source and holds `part`. */
static void expect_refused(const char *text, const char *part) {
  rm_url url;
  redmoon_error err;
  if (rm_url_parse(text, "URL", &url, &err) == 0) fail_msg("accepted: %s", text);
  assert_int_equal(err.status, REDMOON_ECONFIG);
  if (strstr(err.message, part) == NULL) fail_msg("%s: no '%s' in: %s", text, part, err.message);
  assert_true(strlen(err.message) < sizeof err.message - 1);
}

static void expect_login(const char *text, const char *username, const char *password) {
  rm_url url = parsed(text);
  if (username == NULL) assert_null(url.username.bytes);
  else assert_string_equal(url.username.bytes, username);
  if (password == NULL) assert_null(url.password.bytes);
  else {
    assert_string_equal(url.password.bytes, password);
    assert_int_equal(url.password.len, strlen(password));
  }
  rm_url_fini(&url);
}

static void each_scheme_means_its_topology_and_transport(void **state) {
  (void)state;
  static const struct {
    const char *text;
    rm_topology topology;
    bool tls;
    int port;
  } rows[] = {
      {"redis://h", RM_STANDALONE, false, 6379},           {"rediss://h", RM_STANDALONE, true, 6379},
      {"valkey://h", RM_STANDALONE, false, 6379},          {"valkeys://h", RM_STANDALONE, true, 6379},
      {"REDISS://h", RM_STANDALONE, true, 6379},           {"redis+sentinel://h/m", RM_SENTINEL, false, 26379},
      {"rediss+sentinel://h/m", RM_SENTINEL, true, 26379}, {"redis+cluster://h", RM_CLUSTER, false, 6379},
      {"rediss+cluster://h", RM_CLUSTER, true, 6379}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    rm_url url = parsed(rows[i].text);
    assert_int_equal(url.topology, rows[i].topology);
    assert_int_equal(url.tls, rows[i].tls);
    assert_int_equal(url.address_count, 1);
    assert_string_equal(url.addresses[0].host, "h");
    assert_int_equal(url.addresses[0].port, rows[i].port);
    assert_null(url.addresses[0].path);
    rm_url_fini(&url);
  }
}

static void host_port_and_database_are_taken_from_their_places(void **state) {
  (void)state;
  rm_url url = parsed("redis://db_1.example.com.:65535/15");
  assert_string_equal(url.addresses[0].host, "db_1.example.com.");
  assert_int_equal(url.addresses[0].port, 65535);
  assert_int_equal(url.values.database, 15);
  rm_url_fini(&url);
  url = parsed("redis://h/");
  assert_int_equal(url.values.database, REDMOON_UNSET);
  rm_url_fini(&url);
  url = parsed("redis://h?database=3");
  assert_int_equal(url.values.database, 3);
  rm_url_fini(&url);
}

static void ipv6_literals_stand_in_brackets(void **state) {
  (void)state;
  rm_url url = parsed("redis://u:p@[::1]:6380/1");
  assert_string_equal(url.addresses[0].host, "::1");
  assert_int_equal(url.addresses[0].port, 6380);
  rm_url_fini(&url);
  url = parsed("redis://[fe80::1%25eth0]");
  assert_string_equal(url.addresses[0].host, "fe80::1%eth0");
  assert_int_equal(url.addresses[0].port, 6379);
  rm_url_fini(&url);
  expect_refused("redis://::1:6379", "in brackets");
  expect_refused("redis://[::1", "in brackets");
  expect_refused("redis://[localhost]:1", "not an IPv6 address");
  expect_refused("redis://[]:1", "not an IPv6 address");
  expect_refused("redis://[::1]6379", "only :port may follow");
  expect_refused("redis://[::1%]", "not an IPv6 address");
}

static void unix_sockets_take_a_decoded_absolute_path(void **state) {
  (void)state;
  rm_url url = parsed("unix:///run/my%20redis.sock?database=2");
  assert_string_equal(url.addresses[0].path, "/run/my redis.sock");
  assert_null(url.addresses[0].host);
  assert_int_equal(url.values.database, 2);
  rm_url_fini(&url);
  expect_login("unix://user:pass@/tmp/x.sock", "user", "pass");
  expect_refused("unix://tmp/x.sock", "absolute path");
  expect_refused("unix:///", "absolute path");
  expect_refused("unix://", "absolute path");
  char text[200] = "unix:///";
  memset(text + 8, 'a', 106);
  url = parsed(text);
  assert_int_equal(strlen(url.addresses[0].path), 107);
  rm_url_fini(&url);
  text[8 + 106] = 'a';
  expect_refused(text, "has 108 bytes; at most 107");
}

static void sentinel_urls_hold_hosts_service_and_database(void **state) {
  (void)state;
  rm_url url = parsed("redis+sentinel://user:pw@h1:26380,h2,[::1]:5/my-master.1/4?pool_size=9");
  assert_int_equal(url.address_count, 3);
  assert_string_equal(url.addresses[0].host, "h1");
  assert_int_equal(url.addresses[0].port, 26380);
  assert_string_equal(url.addresses[1].host, "h2");
  assert_int_equal(url.addresses[1].port, 26379);
  assert_string_equal(url.addresses[2].host, "::1");
  assert_string_equal(url.sentinel_name, "my-master.1");
  assert_int_equal(url.values.database, 4);
  assert_int_equal(url.values.pool_size, 9);
  rm_url_fini(&url);
  expect_refused("redis+sentinel://h", "service's name is missing");
  expect_refused("redis+sentinel://h/", "service's name is missing");
  expect_refused("redis+sentinel://h/a%20b", "service's name is not accepted");
  char text[300] = "redis+sentinel://h/";
  memset(text + 19, 'm', 255);
  url = parsed(text);
  rm_url_fini(&url);
  text[19 + 255] = 'm';
  expect_refused(text, "service's name is not accepted");
  expect_refused("redis+sentinel://h/m/x", "the database in the path");
  expect_refused("redis+sentinel://h/m/1/2", "the database in the path");
}

static void cluster_urls_hold_several_hosts_and_standalone_ones_do_not(void **state) {
  (void)state;
  rm_url url = parsed("redis+cluster://a:1,b:2");
  assert_int_equal(url.address_count, 2);
  rm_url_fini(&url);
  expect_refused("redis://a:1,b:2", "redis+cluster");
  expect_refused("redis+cluster://a,,b", "a host is missing");
  expect_refused("redis+cluster://a,", "a host is missing");
}

static void user_info_is_decoded_and_split_at_the_last_at_sign(void **state) {
  (void)state;
  expect_login("redis://u:p@h", "u", "p");
  expect_login("redis://:pw@h", NULL, "pw");
  expect_login("redis://user@h", "user", NULL);
  expect_login("redis://h", NULL, NULL);
  expect_login("redis://@h", NULL, NULL);
  expect_login("redis://user:@h", "user", "");
  expect_login("redis://u:p%40%3A%2F%25%3f@h", "u", "p@:/%?");
  expect_login("redis://u:p@ss@word@h", "u", "p@ss@word");
  expect_login("redis://u:a:b:c@h", "u", "a:b:c");
  expect_login("redis://u%3Aser:p+w@h", "u:ser", "p+w");
  expect_login("redis://u:p\xc3\xa4@h", "u", "p\xc3\xa4");
  expect_login("redis://h?username=a%26b&password=c%3Dd=", "a&b", "c=d=");
}

static void every_option_may_stand_in_the_query(void **state) {
  (void)state;
  rm_url url = parsed("rediss://h?timeout=1.5&max_retries=0&client_name=a%2Fb&tls_verify=false&tls_ca_file=%2Fx&"
                      "read_from=any&min_backoff=0.25&default_ttl=60&&max_reply_size=4096&");
  assert_int_equal(url.values.timeout_ms, 1500);
  assert_int_equal(url.values.max_retries, 0);
  assert_string_equal(url.values.client_name, "a/b");
  assert_int_equal(url.values.tls.verify, 0);
  assert_string_equal(url.values.tls.ca_file, "/x");
  assert_string_equal(url.values.read_from, "any");
  assert_int_equal(url.values.min_backoff_ms, 250);
  assert_int_equal(url.values.default_ttl_ms, 60000);
  assert_int_equal(url.values.max_reply_size, 4096);
  assert_int_equal(url.values.pool_size, REDMOON_UNSET);
  rm_url_fini(&url);
}

static void an_unknown_option_is_refused_with_the_nearest_or_all_known_names(void **state) {
  (void)state;
  expect_refused("redis://h?poolsize=3", "unknown option 'poolsize'; did you mean 'pool_size'?");
  expect_refused("redis://h?db=3", "unknown option 'db'; known are username password database");
  expect_refused("redis://h?db=3", "multiplex max_reply_size read_from");
  expect_refused("redis://h?=3", "unknown option ''");
  expect_refused("redis://h?loop=luv", "unknown option 'loop'");
  expect_refused("redis://h?%70ool_size=3", "unknown option");
}

static void an_option_given_twice_or_without_value_is_refused(void **state) {
  (void)state;
  expect_refused("redis://h?pool_size=3&pool_size=3", "'pool_size' is given twice");
  expect_refused("redis://h/1?database=1", "'database' is given twice");
  expect_refused("redis://u:p@h?password=x", "'password' is given twice");
  expect_refused("redis://u:p@h?username=x", "'username' is given twice");
  expect_refused("redis://h?client_name=a&client_name=b", "'client_name' is given twice");
  expect_refused("redis://h?pool_size", "option 'pool_size' has no value");
  expect_refused("redis://h?pool_size=", "an empty text is not accepted");
}

static void bad_hosts_ports_and_databases_are_refused(void **state) {
  (void)state;
  expect_refused("redis://", "a host is missing");
  expect_refused("redis://:6379", "a host is missing");
  expect_refused("redis:///0", "a host is missing");
  expect_refused("redis://*.example.com", "host name is not accepted");
  expect_refused("redis://a%00b", "host name is not accepted");
  expect_refused("redis://h:0", "a port is not accepted");
  expect_refused("redis://h:65536", "a port is not accepted");
  expect_refused("redis://h:18446744073709557995", "a port is not accepted");
  expect_refused("redis://h:6379x", "a port is not accepted");
  expect_refused("redis://h:", "a port is not accepted");
  expect_refused("redis://h/x", "the database in the path");
  expect_refused("redis://h/-1", "the database in the path");
  expect_refused("redis://h/1/", "the database in the path");
  expect_refused("redis://h/2147483648", "option 'database'");
  char text[300] = "redis://";
  memset(text + 8, 'h', 255);
  rm_url url = parsed(text);
  rm_url_fini(&url);
  text[8 + 255] = 'h';
  expect_refused(text, "host name is not accepted");
}

static void nul_blanks_control_bytes_and_broken_escapes_are_refused(void **state) {
  (void)state;
  expect_refused("redis://u:a%00b@h", "NUL");
  expect_refused("redis://h?client_name=a%00b", "NUL");
  expect_refused("unix:///a%00b", "NUL");
  expect_refused("redis://h\n", "line end");
  expect_refused("redis://h/ 1", "blank");
  expect_refused("redis://u:100%@h", "two hex digits");
  expect_refused("redis://u:%4@h", "two hex digits");
  expect_refused("redis://u:%zz@h", "two hex digits");
  expect_refused("redis://u:%4z@h", "two hex digits");
  expect_refused("redis://u:%z4@h", "two hex digits");
  expect_refused("", "it is empty");
}

static void a_missing_or_unknown_scheme_is_refused_with_the_known_ones(void **state) {
  (void)state;
  expect_refused("localhost:6379", "does not begin with a scheme");
  expect_refused("redis:/h", "does not begin with a scheme");
  expect_refused("redis", "does not begin with a scheme");
  expect_refused("redsi://h", "did you mean 'redis'?");
  expect_refused("http://h", "known are redis, rediss, unix");
  expect_refused("://h", "known are redis");
  expect_refused("redis+unix:///x", "known are redis");
}

static void a_very_long_url_is_refused(void **state) {
  (void)state;
  char *text = malloc(70000);
  assert_non_null(text);
  memset(text, 'a', 69999);
  memcpy(text, "redis://", 8);
  text[69999] = '\0';
  expect_refused(text, "longer than 65536");
  for (size_t i = 8; i < 65000; i++) text[i] = ',';
  memcpy(text, "redis+cluster://", 16);
  text[65000] = '\0';
  expect_refused(text, "more than 1024 hosts");
  free(text);
}

static void the_printable_form_has_no_user_info_and_no_query(void **state) {
  (void)state;
  expect_printed("redis://u:p@localhost?pool_size=3", 0, "redis://localhost:6379/0");
  expect_printed("RediSS://:p@h:1/7", 7, "rediss://h:1/7");
  expect_printed("valkey://h", 2, "valkey://h:6379/2");
  expect_printed("redis://[::1]:5", 0, "redis://[::1]:5/0");
  expect_printed("redis://[fe80::1%eth0]", 0, "redis://[fe80::1%25eth0]:6379/0");
  expect_printed("unix:///tmp/x.sock?database=2", 2, "unix:///tmp/x.sock");
  expect_printed("unix:///tmp/a%20%0Ab%C3%A4", 0, "unix:///tmp/a%20%0Ab%C3%A4");
  expect_printed("redis+cluster://u:p@a:1,b:2", 0, "redis+cluster://a:1,b:2");
  expect_printed("redis+sentinel://u:p@h1,h2:3/mymaster/1", 1, "redis+sentinel://h1:26379,h2:3/mymaster/1");
}

static void the_printable_form_parses_to_the_same_address(void **state) {
  (void)state;
  static const char *const texts[] = {"redis://[fe80::1%25eth0]:7/3", "unix:///tmp/a%20%25b", "rediss://x",
                                      "redis+sentinel://a,b/m/2", "redis+cluster://a,[::2]:9"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    rm_url first = parsed(texts[i]);
    char *printed = rm_url_print(&first, 3);
    rm_url second = parsed(printed);
    char *again = rm_url_print(&second, 3);
    assert_string_equal(printed, again);
    rm_free(printed);
    rm_free(again);
    rm_url_fini(&first);
    rm_url_fini(&second);
  }
}

static void an_undelimited_password_shows_nothing_of_itself(void **state) {
  (void)state;
  expect_refused("redis://user:QQ?QQ=QQ@host", "percent-encoded");
  expect_refused("redis://user:QQ/QQ@host", "percent-encoded");
  expect_refused("redis://user:QQ#QQ@host", "percent-encoded");
  expect_refused("redis://user:QQ@Q?pool_siz=QQ@host", "percent-encoded");
  expect_refused("redis://h?client_name=me@here", "%40");
}

/* The password is runs of Q with delimiters, escapes and junk strewn in; no message of ours has a Q. */
static void no_message_ever_holds_a_piece_of_the_user_info(void **state) {
  (void)state;
  const char *given = getenv("SEED");
  unsigned long seed = given != NULL ? strtoul(given, NULL, 10) : 20261122;
  print_message("SEED=%lu\n", seed);
  static const char *const heads[] = {"redis://",          "rediss://", "unix://",
                                      "redis+sentinel://", "redis:/",   "redi://",
                                      "redis+cluster://",  "http://",   ""};
  static const char *const tails[] = {"h",    "h:6379/0",     "/tmp/x",  "h1,h2/m/1",      "h:x",
                                      "[::1", "h?poolsize=3", "h?a@b=c", "h/1?database=1", "h?timeout=-1",
                                      ""};
  static const char strewn[] = "@:/?#%&=+[]., Q1\x01\xff";
  uint64_t x = seed;
  size_t refusals = 0;
  for (int round = 0; round < 50000; round++) {
    char text[128];
    size_t n = 0;
#define NEXT(limit) ((x = x * 6364136223846793005u + 1442695040888963407u), (size_t)((x >> 33) % (limit)))
    n += (size_t)snprintf(text, sizeof text, "%sQQ", heads[NEXT(sizeof heads / sizeof heads[0])]);
    for (size_t k = NEXT(12); k > 0; k--) {
      text[n++] = strewn[NEXT(sizeof strewn - 1)];
      text[n++] = 'Q';
    }
    snprintf(text + n, sizeof text - n, "@%s", tails[NEXT(sizeof tails / sizeof tails[0])]);
    rm_url url;
    redmoon_error err;
    if (rm_url_parse(text, "URL", &url, &err) == 0) {
      char *printed = rm_url_print(&url, 0);
      if (strchr(printed, 'Q') != NULL) fail_msg("SEED=%lu: %s printed as %s", seed, text, printed);
      rm_free(printed);
      rm_url_fini(&url);
    } else {
      refusals++;
      if (strchr(err.message, 'Q') != NULL) fail_msg("SEED=%lu: %s: %s", seed, text, err.message);
    }
  }
  assert_true(refusals > 5000);
  assert_true(refusals < 49500);
}

static void hosts_that_servers_announce_are_judged_by_the_same_rule(void **state) {
  (void)state;
  assert_true(rm_host_is_valid("10.0.0.1", 8));
  assert_true(rm_host_is_valid("fe80::1%eth0", 12));
  assert_false(rm_host_is_valid("", 0));
  assert_false(rm_host_is_valid("a b", 3));
  assert_false(rm_host_is_valid("a\0b", 3));
  assert_false(rm_host_is_valid("a/b", 3));
  assert_false(rm_host_is_valid("1:2", 3));
}

/* Refuses request number `at`. */
typedef struct refusal {
  size_t seen, at;
} refusal;
static bool refuse_one(void *ctx, size_t size) {
  (void)size;
  refusal *r = ctx;
  return ++r->seen == r->at;
}

static void every_refused_allocation_is_reported_and_leaks_nothing(void **state) {
  (void)state;
  size_t failures = 0;
  for (size_t at = 1;; at++) {
    refusal r = {0, at};
    rm_url url;
    redmoon_error err;
    rm_alloc_set_refuse(refuse_one, &r);
    int rc = rm_url_parse("redis+sentinel://u:p@a,b/m/1?client_name=x&timeout=2", "URL", &url, &err);
    char *printed = rc == 0 ? rm_url_print(&url, 1) : NULL;
    rm_alloc_set_refuse(NULL, NULL);
    if (rc != 0) {
      assert_int_equal(err.status, REDMOON_ENOMEM);
      assert_null(url.addresses);
      failures++;
      continue;
    }
    rm_url_fini(&url);
    if (printed == NULL) continue;
    rm_free(printed);
    if (r.seen < at) break;
  }
  assert_true(failures >= 8);
}

static int ready(void **state) {
  (void)state;
  return rm_random_init();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_scheme_means_its_topology_and_transport),
      cmocka_unit_test(host_port_and_database_are_taken_from_their_places),
      cmocka_unit_test(ipv6_literals_stand_in_brackets),
      cmocka_unit_test(unix_sockets_take_a_decoded_absolute_path),
      cmocka_unit_test(sentinel_urls_hold_hosts_service_and_database),
      cmocka_unit_test(cluster_urls_hold_several_hosts_and_standalone_ones_do_not),
      cmocka_unit_test(user_info_is_decoded_and_split_at_the_last_at_sign),
      cmocka_unit_test(every_option_may_stand_in_the_query),
      cmocka_unit_test(an_unknown_option_is_refused_with_the_nearest_or_all_known_names),
      cmocka_unit_test(an_option_given_twice_or_without_value_is_refused),
      cmocka_unit_test(bad_hosts_ports_and_databases_are_refused),
      cmocka_unit_test(nul_blanks_control_bytes_and_broken_escapes_are_refused),
      cmocka_unit_test(a_missing_or_unknown_scheme_is_refused_with_the_known_ones),
      cmocka_unit_test(a_very_long_url_is_refused),
      cmocka_unit_test(the_printable_form_has_no_user_info_and_no_query),
      cmocka_unit_test(the_printable_form_parses_to_the_same_address),
      cmocka_unit_test(an_undelimited_password_shows_nothing_of_itself),
      cmocka_unit_test(no_message_ever_holds_a_piece_of_the_user_info),
      cmocka_unit_test(hosts_that_servers_announce_are_judged_by_the_same_rule),
      cmocka_unit_test(every_refused_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, ready, NULL);
}
