/* SPDX-License-Identifier: MIT */
/* URL and options merged: who wins, what the defaults are, which contradictions are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "wire/config.h"

#include <stdlib.h>
#include <string.h>

static rm_config *made(const char *url, const redmoon_options *options) {
  rm_config *config;
  redmoon_error err;
  if (rm_config_new(url, options, &config, &err) != 0) fail_msg("%s", err.message);
  return config;
}

static void expect_refused(const char *url, const redmoon_options *options, const char *part) {
  rm_config *config;
  redmoon_error err;
  if (rm_config_new(url, options, &config, &err) == 0) fail_msg("accepted, though it ought to say: %s", part);
  assert_null(config);
  assert_int_equal(err.status, REDMOON_ECONFIG);
  if (strstr(err.message, part) == NULL) fail_msg("no '%s' in: %s", part, err.message);
}

static int without_environment(void **state) {
  (void)state;
  return unsetenv("REDIS_URL");
}

static void without_anything_it_is_the_local_server_with_the_documented_defaults(void **state) {
  (void)state;
  rm_config *c = made(NULL, NULL);
  assert_string_equal(c->url, "redis://127.0.0.1:6379/0");
  assert_int_equal(c->topology, RM_STANDALONE);
  assert_int_equal(c->address_count, 1);
  assert_string_equal(c->addresses[0].host, "127.0.0.1");
  assert_int_equal(c->addresses[0].port, 6379);
  assert_int_equal(c->pool_size, 20);
  assert_int_equal(c->min_idle, 0);
  assert_int_equal(c->max_idle, 20);
  assert_int_equal(c->max_idle_time_ms, 300000);
  assert_int_equal(c->max_lifetime_ms, 3600000);
  assert_int_equal(c->pool_timeout_ms, 3000);
  assert_int_equal(c->connect_timeout_ms, 3000);
  assert_int_equal(c->read_timeout_ms, 2000);
  assert_int_equal(c->write_timeout_ms, 2000);
  assert_int_equal(c->timeout_ms, 10000);
  assert_int_equal(c->max_retries, 3);
  assert_int_equal(c->min_backoff_ms, 8);
  assert_int_equal(c->max_backoff_ms, 512);
  assert_int_equal(c->protocol, 3);
  assert_int_equal(c->default_ttl_ms, -1);
  assert_int_equal(c->max_reply_size, 536870912);
  assert_int_equal(c->database, 0);
  assert_int_equal(c->multiplex, 0);
  assert_string_equal(c->key_prefix, "redmoon");
  assert_string_equal(c->read_from, "primary");
  assert_null(c->client_name);
  assert_null(c->username.bytes);
  assert_null(c->password.bytes);
  assert_false(c->tls);
  rm_config_free(c);
  rm_config_free(NULL);
}

static void the_environment_is_used_only_without_a_url_and_never_shown(void **state) {
  (void)state;
  assert_int_equal(setenv("REDIS_URL", "redis://:SECRET@env:7/2", 1), 0);
  rm_config *c = made(NULL, NULL);
  assert_string_equal(c->url, "redis://env:7/2");
  assert_string_equal(c->password.bytes, "SECRET");
  rm_config_free(c);
  c = made("redis://given", NULL);
  assert_string_equal(c->url, "redis://given:6379/0");
  assert_null(c->password.bytes);
  rm_config_free(c);
  setenv("REDIS_URL", "redis://:SECRET@env:x", 1);
  redmoon_error err;
  assert_int_equal(rm_config_new(NULL, NULL, &c, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "$REDIS_URL: a port is not accepted"));
  assert_null(strstr(err.message, "SECRET"));
  assert_null(strstr(err.message, "env"));
  setenv("REDIS_URL", "", 1);
  c = made(NULL, NULL);
  assert_string_equal(c->url, "redis://127.0.0.1:6379/0");
  rm_config_free(c);
}

static void options_win_over_the_url_one_by_one(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.pool_size = 7;
  o.timeout_ms = 1;
  o.database = 5;
  o.password = "mine";
  o.client_name = "me";
  rm_config *c = made("redis://u:theirs@h/3?pool_size=9&max_retries=1&client_name=them&read_from=any", &o);
  assert_int_equal(c->pool_size, 7);
  assert_int_equal(c->max_idle, 7);
  assert_int_equal(c->timeout_ms, 1);
  assert_int_equal(c->database, 5);
  assert_int_equal(c->max_retries, 1);
  assert_string_equal(c->client_name, "me");
  assert_string_equal(c->read_from, "any");
  assert_string_equal(c->username.bytes, "u");
  assert_string_equal(c->password.bytes, "mine");
  assert_string_equal(c->url, "redis://h:6379/5");
  rm_config_free(c);
}

static void sentinels_have_credentials_and_tls_of_their_own(void **state) {
  (void)state;
  rm_config *c = made("redis+sentinel://u:theirs@h/main?sentinel_username=s&sentinel_password=%73ecret", NULL);
  assert_string_equal(c->username.bytes, "u");
  assert_string_equal(c->sentinel_username.bytes, "s");
  assert_string_equal(c->sentinel_password.bytes, "secret");
  assert_false(c->sentinel_tls);
  assert_null(strstr(c->url, "secret"));
  rm_config_free(c);
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.sentinel_password = "mine";
  o.sentinel_tls = 1;
  o.tls.ca_file = "/ca"; /* of the sentinels alone */
  c = made("redis+sentinel://u:theirs@h/main?sentinel_password=other", &o);
  assert_string_equal(c->sentinel_password.bytes, "mine");
  assert_null(c->sentinel_username.bytes);
  assert_true(c->sentinel_tls);
  assert_false(c->tls);
  rm_config_free(c);
  c = made("rediss+sentinel://h/main", NULL);
  assert_true(c->sentinel_tls);
  rm_config_free(c);
  c = made("rediss+sentinel://h/main?sentinel_tls=false", NULL);
  assert_false(c->sentinel_tls);
  assert_true(c->tls);
  rm_config_free(c);
}

static void what_is_about_sentinels_is_refused_without_them(void **state) {
  (void)state;
  expect_refused("redis://h?sentinel_password=x", NULL, "option 'sentinel_password' is for redis+sentinel://");
  expect_refused("redis+cluster://h?sentinel_username=x", NULL, "not for redis+cluster://");
  expect_refused("redis://h?sentinel_tls=true", NULL, "option 'sentinel_tls' is for");
  expect_refused("redis+sentinel://h/main?sentinel_username=x", NULL, "option 'sentinel_username' needs 'sentinel_password'");
  expect_refused("redis+sentinel://h/main?tls_ca_file=/ca", NULL, "option 'tls_ca_file' is for TLS");
}

static void the_config_keeps_copies(void **state) {
  (void)state;
  char url[] = "redis://h", name[] = "me", password[] = "pw", prefix[] = "app";
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.client_name = name;
  o.password = password;
  o.key_prefix = prefix;
  rm_config *c = made(url, &o);
  memset(url, 'x', sizeof url - 1);
  memset(name, 'x', sizeof name - 1);
  memset(password, 'x', sizeof password - 1);
  memset(prefix, 'x', sizeof prefix - 1);
  assert_string_equal(c->addresses[0].host, "h");
  assert_string_equal(c->client_name, "me");
  assert_string_equal(c->password.bytes, "pw");
  assert_string_equal(c->key_prefix, "app");
  rm_config_free(c);
}

static void a_number_out_of_range_is_refused_by_name(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.pool_size = 0;
  expect_refused(NULL, &o, "option 'pool_size': 0 is not accepted; it takes an integer from 1 to 10000");
  o = (redmoon_options)REDMOON_OPTIONS_INIT;
  o.protocol = 4;
  expect_refused(NULL, &o, "option 'protocol': 4 is not accepted; it takes 2 or 3");
  o = (redmoon_options)REDMOON_OPTIONS_INIT;
  o.read_timeout_ms = 0;
  expect_refused(NULL, &o, "option 'read_timeout': 0 ms is not accepted");
  o = (redmoon_options)REDMOON_OPTIONS_INIT;
  o.max_lifetime_ms = -1;
  expect_refused(NULL, &o, "option 'max_lifetime': -1 ms");
  o = (redmoon_options)REDMOON_OPTIONS_INIT;
  o.read_from = "secondary";
  expect_refused(NULL, &o, "option 'read_from': 'secondary' is not accepted; it takes \"primary\"");
  expect_refused("redis://h?timeout=0", NULL, "option 'timeout': '0' is not accepted");
}

static void idle_and_pool_sizes_that_contradict_are_refused(void **state) {
  (void)state;
  expect_refused("redis://h?min_idle=21", NULL, "option 'min_idle': 21 is more than 'pool_size', which is 20");
  expect_refused("redis://h?max_idle=6&pool_size=5", NULL,
                 "option 'max_idle': 6 is more than 'pool_size', which is 5");
  expect_refused("redis://h?min_idle=3&max_idle=2", NULL,
                 "option 'min_idle': 3 is more than 'max_idle', which is 2");
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.pool_size = 2;
  expect_refused("redis://h?min_idle=3", &o, "more than 'pool_size', which is 2");
  rm_config *c = made("redis://h?min_idle=20&max_idle=20", NULL);
  assert_int_equal(c->min_idle, 20);
  rm_config_free(c);
}

static void backoffs_that_contradict_are_refused_and_a_default_gives_way(void **state) {
  (void)state;
  expect_refused("redis://h?min_backoff=0.6&max_backoff=0.5", NULL,
                 "option 'min_backoff': 600 ms is more than 'max_backoff', which is 500 ms");
  rm_config *c = made("redis://h?max_backoff=0.005", NULL);
  assert_int_equal(c->min_backoff_ms, 5);
  assert_int_equal(c->max_backoff_ms, 5);
  rm_config_free(c);
  c = made("redis://h?min_backoff=2", NULL);
  assert_int_equal(c->min_backoff_ms, 2000);
  assert_int_equal(c->max_backoff_ms, 2000);
  rm_config_free(c);
  c = made("redis://h?max_backoff=1", NULL);
  assert_int_equal(c->min_backoff_ms, 8);
  rm_config_free(c);
}

static int no_credentials(void *ctx, char username[256], char password[4096]) {
  (void)ctx;
  (void)username;
  (void)password;
  return -1;
}

static void a_user_name_needs_a_password_and_credentials_exclude_both(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  int ctx;
  expect_refused("redis://user@h", NULL, "option 'username' needs 'password'");
  o.password = "pw";
  rm_config *c = made("redis://user@h", &o);
  assert_string_equal(c->username.bytes, "user");
  assert_string_equal(c->password.bytes, "pw");
  rm_config_free(c);
  o.credentials = no_credentials;
  o.credentials_ctx = &ctx;
  expect_refused("redis://h", &o, "option 'credentials' excludes 'username' and 'password'");
  o.password = NULL;
  expect_refused("redis://:pw@h", &o, "option 'credentials' excludes");
  c = made("redis://h", &o);
  assert_ptr_equal(c->credentials, no_credentials);
  assert_ptr_equal(c->credentials_ctx, &ctx);
  rm_config_free(c);
}

static void empty_user_names_and_lone_empty_passwords_count_as_none(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.username = "";
  o.password = "";
  rm_config *c = made("redis://h", &o);
  assert_null(c->username.bytes);
  assert_null(c->password.bytes);
  rm_config_free(c);
  c = made("redis://user:@h", NULL);
  assert_string_equal(c->username.bytes, "user");
  assert_non_null(c->password.bytes);
  assert_int_equal(c->password.len, 0);
  rm_config_free(c);
}

static void tls_options_need_a_tls_scheme(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.tls.ca_file = "/ca.pem";
  expect_refused("redis://h", &o, "option 'tls_ca_file' is for TLS, and redis:// speaks plain; use rediss://");
  expect_refused("redis+cluster://h", &o, "use rediss+cluster://");
  expect_refused("valkey://h", &o, "use valkeys://");
  expect_refused("unix:///s", &o, "a unix socket does not speak");
  o.tls.ca_file = NULL;
  o.tls.verify = 1;
  expect_refused("redis://h", &o, "option 'tls_verify' is for TLS");
  expect_refused("redis://h?tls_min_version=1.3", NULL, "option 'tls_min_version' is for TLS");
}

static void tls_verifies_unless_told_otherwise_by_name(void **state) {
  (void)state;
  rm_config *c = made("rediss://h", NULL);
  assert_true(c->tls);
  assert_true(c->tls_verify);
  assert_int_equal(c->tls_min_version, 12);
  rm_config_free(c);
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.tls = (redmoon_tls_options){"a", "b", "c", "d", "e", 0, "1.3"};
  c = made("rediss://h?tls_verify=true&tls_min_version=1.2", &o);
  assert_false(c->tls_verify);
  assert_int_equal(c->tls_min_version, 13);
  assert_string_equal(c->tls_ca_file, "a");
  assert_string_equal(c->tls_ca_path, "b");
  assert_string_equal(c->tls_cert_file, "c");
  assert_string_equal(c->tls_key_file, "d");
  assert_string_equal(c->tls_server_name, "e");
  rm_config_free(c);
}

static void certificate_and_key_come_together(void **state) {
  (void)state;
  expect_refused("rediss://h?tls_cert_file=a", NULL, "option 'tls_cert_file' needs 'tls_key_file'");
  expect_refused("rediss://h?tls_key_file=a", NULL, "option 'tls_key_file' needs 'tls_cert_file'");
}

static void multiplexing_is_asked_for_and_a_cluster_has_one_database(void **state) {
  (void)state;
  rm_config *c = made("redis://h?multiplex=true", NULL);
  assert_int_equal(c->multiplex, 1);
  rm_config_free(c);
  expect_refused("redis+cluster://h/1", NULL, "a cluster has only database 0");
  rm_config_free(made("redis+cluster://h/0", NULL));
}

static void sentinel_and_cluster_configs_hold_all_addresses(void **state) {
  (void)state;
  rm_config *c = made("rediss+sentinel://:pw@a,b:2/main/3", NULL);
  assert_int_equal(c->topology, RM_SENTINEL);
  assert_true(c->tls);
  assert_int_equal(c->address_count, 2);
  assert_string_equal(c->sentinel_name, "main");
  assert_int_equal(c->database, 3);
  assert_string_equal(c->url, "rediss+sentinel://a:26379,b:2/main/3");
  rm_config_free(c);
  c = made("redis+cluster://a,b", NULL);
  assert_int_equal(c->topology, RM_CLUSTER);
  assert_string_equal(c->url, "redis+cluster://a:6379,b:6379");
  rm_config_free(c);
}

static void refusals_without_an_error_to_fill_are_quiet(void **state) {
  (void)state;
  rm_config *c;
  assert_int_equal(rm_config_new("nonsense", NULL, &c, NULL), REDMOON_ECONFIG);
  assert_null(c);
}

typedef struct refusal {
  size_t seen, at;
  bool all_after;
} refusal;
static bool refuse(void *ctx, size_t size) {
  (void)size;
  refusal *r = ctx;
  r->seen++;
  return r->all_after ? r->seen >= r->at : r->seen == r->at;
}

static void every_refused_allocation_is_reported_and_leaks_nothing(void **state) {
  (void)state;
  redmoon_options o = REDMOON_OPTIONS_INIT;
  o.password = "pw";
  o.tls = (redmoon_tls_options){"a", "b", "c", "d", "e", 1, "1.3"};
  for (int all_after = 0; all_after < 2; all_after++) {
    size_t failures = 0;
    for (size_t at = 1;; at++, failures++) {
      refusal r = {0, at, all_after};
      rm_config *config;
      redmoon_error err;
      rm_alloc_set_refuse(refuse, &r);
      int rc = rm_config_new("rediss+sentinel://u@a,b/m/1?client_name=x&key_prefix=y", &o, &config, &err);
      rm_alloc_set_refuse(NULL, NULL);
      if (rc == 0) {
        rm_config_free(config);
        break;
      }
      assert_int_equal(err.status, REDMOON_ENOMEM);
      assert_null(config);
    }
    assert_true(failures > 15);
  }
}

#define TEST(name) cmocka_unit_test_setup(name, without_environment)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(without_anything_it_is_the_local_server_with_the_documented_defaults),
      TEST(the_environment_is_used_only_without_a_url_and_never_shown),
      TEST(options_win_over_the_url_one_by_one),
      TEST(sentinels_have_credentials_and_tls_of_their_own),
      TEST(what_is_about_sentinels_is_refused_without_them),
      TEST(the_config_keeps_copies),
      TEST(a_number_out_of_range_is_refused_by_name),
      TEST(idle_and_pool_sizes_that_contradict_are_refused),
      TEST(backoffs_that_contradict_are_refused_and_a_default_gives_way),
      TEST(a_user_name_needs_a_password_and_credentials_exclude_both),
      TEST(empty_user_names_and_lone_empty_passwords_count_as_none),
      TEST(tls_options_need_a_tls_scheme),
      TEST(tls_verifies_unless_told_otherwise_by_name),
      TEST(certificate_and_key_come_together),
      TEST(multiplexing_is_asked_for_and_a_cluster_has_one_database),
      TEST(sentinel_and_cluster_configs_hold_all_addresses),
      TEST(refusals_without_an_error_to_fill_are_quiet),
      TEST(every_refused_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
