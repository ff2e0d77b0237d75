/* SPDX-License-Identifier: MIT */
/* A client's configuration: URL and options merged, defaults filled in, contradictions refused.
 *
 *      $REDIS_URL or url -> rm_url --+
 *                                    +-> merged redmoon_options -> defaults -> checks -> rm_config
 *      redmoon_options (they win) ---+                                                               */
#include "wire/config.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h" /* secrets need libsodium made ready */
#include "wire/options.h"
#include "wire/url.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Merging. */

static int merge_option(const rm_option *option, const redmoon_options *given, const rm_url *url,
                        redmoon_options *out, redmoon_error *err) {
  if (option->kind == RM_OPTION_SECRET) return 0; /* take_secret */
  if (option->kind == RM_OPTION_TEXT) {
    const char *text = rm_option_text(option, given);
    if (text == NULL) text = rm_option_text(option, &url->values);
    rm_option_set_text(option, out, text);
    return text != NULL ? rm_option_check_text(option, text, strlen(text), err) : 0;
  }
  int64_t value = rm_option_number(option, given);
  if (value == REDMOON_UNSET) value = rm_option_number(option, &url->values);
  rm_option_set_number(option, out, value);
  return value != REDMOON_UNSET ? rm_option_check(option, value, err) : 0;
}

/* *out borrows its texts from `given` and `url`. */
static int merge(const redmoon_options *given, const rm_url *url, redmoon_options *out, redmoon_error *err) {
  size_t count;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count; i++) {
    int rc = merge_option(&table[i], given, url, out, err);
    if (rc != 0) return rc;
  }
  return 0;
}

static bool is_set(const rm_option *option, const redmoon_options *options) {
  return option->kind == RM_OPTION_TEXT ? rm_option_text(option, options) != NULL
                                        : rm_option_number(option, options) != REDMOON_UNSET;
}

/* A default never contradicts what was given: it gives way. */
static void fill_defaults(redmoon_options *m) {
  if (m->min_backoff_ms == REDMOON_UNSET && m->max_backoff_ms != REDMOON_UNSET)
    m->min_backoff_ms = rm_min64(8, m->max_backoff_ms);
  if (m->max_backoff_ms == REDMOON_UNSET && m->min_backoff_ms != REDMOON_UNSET)
    m->max_backoff_ms = rm_max64(512, m->min_backoff_ms);
  size_t count;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count; i++) {
    bool number = table[i].kind != RM_OPTION_TEXT && table[i].kind != RM_OPTION_SECRET;
    if (number && !is_set(&table[i], m)) rm_option_set_number(&table[i], m, table[i].fallback);
  }
  if (m->max_idle == REDMOON_UNSET) m->max_idle = m->pool_size;
  if (m->key_prefix == NULL) m->key_prefix = "redmoon";
  if (m->read_from == NULL) m->read_from = "primary";
}

/* Checks of several options together. */

static int check_order(const char *low_name, int64_t low, const char *high_name, int64_t high, const char *unit,
                       redmoon_error *err) {
  if (low <= high) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "option '%s': %" PRId64 "%s is more than '%s', which is %" PRId64 "%s",
                 low_name, low, unit, high_name, high, unit);
}

static int check_numbers(const redmoon_options *m, const rm_url *url, redmoon_error *err) {
  int rc = check_order("min_idle", m->min_idle, "pool_size", m->pool_size, "", err);
  if (rc == 0) rc = check_order("max_idle", m->max_idle, "pool_size", m->pool_size, "", err);
  if (rc == 0) rc = check_order("min_idle", m->min_idle, "max_idle", m->max_idle, "", err);
  if (rc == 0) rc = check_order("min_backoff", m->min_backoff_ms, "max_backoff", m->max_backoff_ms, " ms", err);
  if (rc != 0) return rc;
  if (url->topology == RM_CLUSTER && m->database != 0)
    return rm_fail(err, REDMOON_ECONFIG,
                   "option 'database': %" PRId64 " is not accepted; a cluster has only database 0", m->database);
  return 0;
}

/* What is about sentinels needs some. */
static int check_sentinel(const redmoon_options *given, const redmoon_options *m, const rm_url *url, redmoon_error *err) {
  if (url->topology == RM_SENTINEL) return 0;
  const char *name = given->sentinel_username != NULL || url->sentinel_username.bytes != NULL   ? "sentinel_username"
                     : given->sentinel_password != NULL || url->sentinel_password.bytes != NULL ? "sentinel_password"
                     : m->sentinel_tls != REDMOON_UNSET                                         ? "sentinel_tls"
                                                                                                : NULL;
  if (name == NULL) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "option '%s' is for redis+sentinel:// and rediss+sentinel://, not for %s://", name, url->scheme);
}

/* Before the defaults are filled in. */
static int check_tls(const redmoon_options *m, const rm_url *url, redmoon_error *err) {
  size_t count;
  const rm_option *table = rm_options_table(&count);
  for (size_t i = 0; i < count && !url->tls && m->sentinel_tls != 1; i++) {
    if (strncmp(table[i].name, "tls_", 4) != 0 || !is_set(&table[i], m)) continue;
    if (strcmp(url->scheme, "unix") == 0)
      return rm_fail(err, REDMOON_ECONFIG, "option '%s' is for TLS, which a unix socket does not speak",
                     table[i].name);
    const char *plus = strchr(url->scheme, '+');
    const char *tls_scheme = url->scheme[0] == 'v' ? "valkeys" : "rediss";
    return rm_fail(err, REDMOON_ECONFIG, "option '%s' is for TLS, and %s:// speaks plain; use %s%s://",
                   table[i].name, url->scheme, tls_scheme, plus != NULL ? plus : "");
  }
  if ((m->tls.cert_file == NULL) == (m->tls.key_file == NULL)) return 0;
  bool key = m->tls.key_file == NULL;
  return rm_fail(err, REDMOON_ECONFIG, "option '%s' needs '%s', too", key ? "tls_cert_file" : "tls_key_file",
                 key ? "tls_key_file" : "tls_cert_file");
}

/* Secrets. */

static int take_secret(const char *name, const char *given, rm_secret *from_url, rm_secret *out,
                       redmoon_error *err) {
  if (given == NULL) {
    *out = *from_url;
    *from_url = (rm_secret){0};
    return 0;
  }
  size_t len = strlen(given);
  int rc = rm_option_check_text(rm_option_find(name, strlen(name), NULL), given, len, err);
  if (rc != 0) return rc;
  return rm_secret_set(out, given, len) == 0 ? 0 : rm_fail_nomem(err);
}

/* The sentinels' own; nothing of the servers' is ever shown to them. */
static int take_sentinel_secrets(rm_config *config, const redmoon_options *given, rm_url *url, redmoon_error *err) {
  int rc = take_secret("sentinel_username", given->sentinel_username, &url->sentinel_username, &config->sentinel_username, err);
  if (rc == 0) rc = take_secret("sentinel_password", given->sentinel_password, &url->sentinel_password, &config->sentinel_password, err);
  if (rc != 0) return rc;
  if (config->sentinel_username.len == 0) rm_secret_fini(&config->sentinel_username);
  if (config->sentinel_password.len == 0 && config->sentinel_username.bytes == NULL) rm_secret_fini(&config->sentinel_password);
  if (config->sentinel_username.bytes == NULL || config->sentinel_password.bytes != NULL) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "option 'sentinel_username' needs 'sentinel_password', too");
}

/* An empty user name is none; an empty password is one only together with a user name. */
static int take_secrets(rm_config *config, const redmoon_options *given, rm_url *url, redmoon_error *err) {
  int rc = take_secret("username", given->username, &url->username, &config->username, err);
  if (rc == 0) rc = take_secret("password", given->password, &url->password, &config->password, err);
  if (rc != 0) return rc;
  if (config->username.len == 0) rm_secret_fini(&config->username);
  if (config->password.len == 0 && config->username.bytes == NULL) rm_secret_fini(&config->password);
  if (given->credentials != NULL && (config->username.bytes != NULL || config->password.bytes != NULL))
    return rm_fail(err, REDMOON_ECONFIG,
                   "option 'credentials' excludes 'username' and 'password', in the options and in the URL");
  if (config->username.bytes != NULL && config->password.bytes == NULL)
    return rm_fail(err, REDMOON_ECONFIG,
                   "option 'username' needs 'password', too (a password alone is written redis://:password@host)");
  config->credentials = given->credentials;
  config->credentials_ctx = given->credentials_ctx;
  return 0;
}

/* The result. */

static void fill_numbers(rm_config *c, const redmoon_options *m) {
  c->database = m->database;
  c->pool_size = m->pool_size;
  c->min_idle = m->min_idle;
  c->max_idle = m->max_idle;
  c->max_idle_time_ms = m->max_idle_time_ms;
  c->max_lifetime_ms = m->max_lifetime_ms;
  c->pool_timeout_ms = m->pool_timeout_ms;
  c->connect_timeout_ms = m->connect_timeout_ms;
  c->read_timeout_ms = m->read_timeout_ms;
  c->write_timeout_ms = m->write_timeout_ms;
  c->timeout_ms = m->timeout_ms;
  c->max_retries = m->max_retries;
  c->min_backoff_ms = m->min_backoff_ms;
  c->max_backoff_ms = m->max_backoff_ms;
  c->protocol = m->protocol;
  c->default_ttl_ms = m->default_ttl_ms;
  c->multiplex = m->multiplex;
  c->max_reply_size = m->max_reply_size;
  c->tls_verify = m->tls.verify != 0;
  c->tls_min_version = m->tls.min_version != NULL && strcmp(m->tls.min_version, "1.3") == 0 ? 13 : 12;
}

static bool copy_text(char **to, const char *from) {
  if (from == NULL) return true;
  *to = rm_strdup(from);
  return *to != NULL;
}

static bool fill_texts(rm_config *c, const redmoon_options *m) {
  return copy_text(&c->client_name, m->client_name) && copy_text(&c->key_prefix, m->key_prefix) &&
         copy_text(&c->read_from, m->read_from) && copy_text(&c->tls_ca_file, m->tls.ca_file) &&
         copy_text(&c->tls_ca_path, m->tls.ca_path) && copy_text(&c->tls_cert_file, m->tls.cert_file) &&
         copy_text(&c->tls_key_file, m->tls.key_file) && copy_text(&c->tls_server_name, m->tls.server_name);
}

static int fill_config(rm_config *c, const redmoon_options *m, rm_url *url, redmoon_error *err) {
  fill_numbers(c, m);
  c->url = rm_url_print(url, m->database);
  if (c->url == NULL || !fill_texts(c, m)) return rm_fail_nomem(err);
  c->topology = url->topology;
  c->tls = url->tls;
  c->sentinel_tls = m->sentinel_tls != REDMOON_UNSET ? m->sentinel_tls != 0 : url->tls;
  c->addresses = url->addresses;
  c->address_count = url->address_count;
  c->sentinel_name = url->sentinel_name;
  url->addresses = NULL; /* moved */
  url->address_count = 0;
  url->sentinel_name = NULL;
  return 0;
}

static int parse_source(const char *text, rm_url *url, redmoon_error *err) {
  if (text != NULL) return rm_url_parse(text, "URL", url, err);
  const char *environment = getenv("REDIS_URL");
  if (environment != NULL && environment[0] != '\0') return rm_url_parse(environment, "$REDIS_URL", url, err);
  return rm_url_parse("redis://127.0.0.1:6379/0", "URL", url, err);
}

static int build(rm_config *config, const redmoon_options *given, rm_url *url, redmoon_error *err) {
  redmoon_options merged = REDMOON_OPTIONS_INIT;
  int rc = merge(given, url, &merged, err);
  if (rc == 0) rc = check_sentinel(given, &merged, url, err);
  if (rc == 0) rc = check_tls(&merged, url, err);
  if (rc != 0) return rc;
  fill_defaults(&merged);
  rc = check_numbers(&merged, url, err);
  if (rc == 0) rc = take_secrets(config, given, url, err);
  if (rc == 0) rc = take_sentinel_secrets(config, given, url, err);
  return rc == 0 ? fill_config(config, &merged, url, err) : rc;
}

int rm_config_new(const char *text, const redmoon_options *options, rm_config **out, redmoon_error *err) {
  const redmoon_options none = REDMOON_OPTIONS_INIT;
  rm_url url;
  *out = NULL;
  if (rm_random_init() != 0) return rm_fail(err, REDMOON_EUNAVAILABLE, "libsodium could not be made ready");
  int rc = parse_source(text, &url, err);
  if (rc != 0) return rc;
  rm_config *config = rm_calloc(1, sizeof *config);
  rc = config != NULL ? build(config, options != NULL ? options : &none, &url, err) : rm_fail_nomem(err);
  rm_url_fini(&url);
  if (rc == 0) *out = config;
  else rm_config_free(config);
  return rc;
}

void rm_config_free(rm_config *config) {
  if (config == NULL) return;
  for (size_t i = 0; i < config->address_count; i++) {
    rm_free(config->addresses[i].host);
    rm_free(config->addresses[i].path);
  }
  char *texts[] = {config->sentinel_name, config->tls_ca_file,
                   config->tls_ca_path,   config->tls_cert_file,
                   config->tls_key_file,  config->tls_server_name,
                   config->client_name,   config->key_prefix,
                   config->read_from,     config->url};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) rm_free(texts[i]);
  rm_free(config->addresses);
  rm_secret_fini(&config->username);
  rm_secret_fini(&config->password);
  rm_secret_fini(&config->sentinel_username);
  rm_secret_fini(&config->sentinel_password);
  rm_free(config);
}
