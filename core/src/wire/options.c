/* SPDX-License-Identifier: MIT */
/* The table of options: names, ranges, defaults, and the check of one value against it. */
#include "wire/options.h"

#include "base/error.h"
#include "wire/url.h"

#include <inttypes.h>
#include <string.h>

#define FIELD(name) offsetof(redmoon_options, name)
#define YEAR_MS INT64_C(31536000000)

/* In the order of api.md.  min and max of a text are bytes. */
static const rm_option table[] = {
    {"username", RM_OPTION_SECRET, FIELD(username), 0, 1024, 0, "at most 1024 bytes"},
    {"password", RM_OPTION_SECRET, FIELD(password), 0, 65536, 0, "at most 65536 bytes"},
    {"database", RM_OPTION_INTEGER, FIELD(database), 0, INT32_MAX, 0, "an integer from 0 to 2147483647"},
    {"pool_size", RM_OPTION_INTEGER, FIELD(pool_size), 1, 10000, 20, "an integer from 1 to 10000"},
    {"min_idle", RM_OPTION_INTEGER, FIELD(min_idle), 0, 10000, 0, "an integer from 0 to pool_size"},
    {"max_idle", RM_OPTION_INTEGER, FIELD(max_idle), 0, 10000, REDMOON_UNSET, "an integer from 0 to pool_size"},
    {"max_idle_time", RM_OPTION_DURATION, FIELD(max_idle_time_ms), 0, YEAR_MS, 300000,
     "a duration from 0 (for ever) to 31536000 seconds"},
    {"max_lifetime", RM_OPTION_DURATION, FIELD(max_lifetime_ms), 0, YEAR_MS, 3600000,
     "a duration from 0 (for ever) to 31536000 seconds"},
    {"pool_timeout", RM_OPTION_DURATION, FIELD(pool_timeout_ms), 0, YEAR_MS, 3000,
     "a duration from 0 (do not wait) to 31536000 seconds"},
    {"connect_timeout", RM_OPTION_DURATION, FIELD(connect_timeout_ms), 1, YEAR_MS, 3000,
     "a duration from 0.001 to 31536000 seconds"},
    {"read_timeout", RM_OPTION_DURATION, FIELD(read_timeout_ms), 1, YEAR_MS, 2000,
     "a duration from 0.001 to 31536000 seconds"},
    {"write_timeout", RM_OPTION_DURATION, FIELD(write_timeout_ms), 1, YEAR_MS, 2000,
     "a duration from 0.001 to 31536000 seconds"},
    {"timeout", RM_OPTION_DURATION, FIELD(timeout_ms), 1, YEAR_MS, 10000,
     "a duration from 0.001 to 31536000 seconds"},
    {"max_retries", RM_OPTION_INTEGER, FIELD(max_retries), 0, 1000, 3, "an integer from 0 to 1000"},
    {"min_backoff", RM_OPTION_DURATION, FIELD(min_backoff_ms), 0, 3600000, 8, "a duration from 0 to 3600 seconds"},
    {"max_backoff", RM_OPTION_DURATION, FIELD(max_backoff_ms), 0, 3600000, 512,
     "a duration from 0 to 3600 seconds"},
    {"protocol", RM_OPTION_INTEGER, FIELD(protocol), 2, 3, 3, "2 or 3"},
    {"client_name", RM_OPTION_TEXT, FIELD(client_name), 1, 256, 0,
     "1 to 256 printable ASCII characters without blanks"},
    {"tls_ca_file", RM_OPTION_TEXT, FIELD(tls.ca_file), 1, 4095, 0, "the path of a PEM file"},
    {"tls_ca_path", RM_OPTION_TEXT, FIELD(tls.ca_path), 1, 4095, 0, "the path of a directory of hashed PEM files"},
    {"tls_cert_file", RM_OPTION_TEXT, FIELD(tls.cert_file), 1, 4095, 0, "the path of a PEM file"},
    {"tls_key_file", RM_OPTION_TEXT, FIELD(tls.key_file), 1, 4095, 0, "the path of a PEM file"},
    {"tls_server_name", RM_OPTION_TEXT, FIELD(tls.server_name), 1, 255, 0,
     "a host name (letters, digits, '.', '-', '_') or an IP address"},
    {"tls_verify", RM_OPTION_BOOL, FIELD(tls.verify), 0, 1, 1, "true or false"},
    {"tls_min_version", RM_OPTION_TEXT, FIELD(tls.min_version), 1, 16, 0, "\"1.2\" or \"1.3\""},
    {"default_ttl", RM_OPTION_DURATION, FIELD(default_ttl_ms), 1, 10 * YEAR_MS, -1,
     "a duration from 0.001 to 315360000 seconds"},
    {"key_prefix", RM_OPTION_TEXT, FIELD(key_prefix), 1, 256, 0,
     "1 to 256 bytes without '{', '}' and control characters"},
    {"multiplex", RM_OPTION_BOOL, FIELD(multiplex), 0, 1, 0, "true or false"},
    {"max_reply_size", RM_OPTION_INTEGER, FIELD(max_reply_size), 1024, INT64_C(1) << 40, 536870912,
     "bytes, an integer from 1024 to 1099511627776"},
    {"read_from", RM_OPTION_TEXT, FIELD(read_from), 1, 16, 0, "\"primary\", \"replica\", \"any\" or \"nearest\""},
    {"sentinel_username", RM_OPTION_SECRET, FIELD(sentinel_username), 0, 1024, 0, "at most 1024 bytes"},
    {"sentinel_password", RM_OPTION_SECRET, FIELD(sentinel_password), 0, 65536, 0, "at most 65536 bytes"},
    {"sentinel_tls", RM_OPTION_BOOL, FIELD(sentinel_tls), 0, 1, REDMOON_UNSET, "true or false"},
};
enum { COUNT = sizeof table / sizeof table[0] };

const rm_option *rm_options_table(size_t *count) {
  *count = COUNT;
  return table;
}

const rm_option *rm_option_find(const char *name, size_t len, const char **nearest) {
  const char *names[COUNT];
  if (nearest != NULL) *nearest = NULL;
  for (size_t i = 0; i < COUNT; i++) {
    if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0) return &table[i];
    names[i] = table[i].name;
  }
  if (nearest != NULL) *nearest = rm_nearest(name, len, names, COUNT);
  return NULL;
}

/* Through memcpy: the offset may lead to a member of the nested struct. */
int64_t rm_option_number(const rm_option *option, const redmoon_options *options) {
  int64_t value;
  memcpy(&value, (const char *)options + option->offset, sizeof value);
  return value;
}

void rm_option_set_number(const rm_option *option, redmoon_options *options, int64_t value) {
  memcpy((char *)options + option->offset, &value, sizeof value);
}

const char *rm_option_text(const rm_option *option, const redmoon_options *options) {
  const char *value;
  memcpy(&value, (const char *)options + option->offset, sizeof value);
  return value;
}

void rm_option_set_text(const rm_option *option, redmoon_options *options, const char *value) {
  memcpy((char *)options + option->offset, &value, sizeof value);
}

int rm_option_check(const rm_option *option, int64_t value, redmoon_error *err) {
  if (value >= option->min && value <= option->max) return 0;
  const char *unit = option->kind == RM_OPTION_DURATION ? " ms" : "";
  return rm_fail(err, REDMOON_ECONFIG, "option '%s': %" PRId64 "%s is not accepted; it takes %s", option->name,
                 value, unit, option->accepts);
}

static bool is_one_of(const char *ptr, size_t len, const char *const *words) {
  for (; *words != NULL; words++)
    if (strlen(*words) == len && memcmp(*words, ptr, len) == 0) return true;
  return false;
}

static bool is_client_name(const char *ptr, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (ptr[i] < '!' || ptr[i] > '~') return false;
  return true;
}

/* A brace would move the hash tag of every key. */
static bool is_key_prefix(const char *ptr, size_t len) {
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)ptr[i];
    if (c == '{' || c == '}' || c < 0x20 || c == 0x7f) return false;
  }
  return true;
}

static bool has_form(const rm_option *option, const char *ptr, size_t len) {
  static const char *const versions[] = {"1.2", "1.3", NULL};
  static const char *const sources[] = {"primary", "replica", "any", "nearest", NULL};
  if (memchr(ptr, '\0', len) != NULL) return false;
  switch (option->offset) {
  case FIELD(client_name):
    return is_client_name(ptr, len);
  case FIELD(key_prefix):
    return is_key_prefix(ptr, len);
  case FIELD(tls.server_name):
    return rm_host_is_valid(ptr, len);
  case FIELD(tls.min_version):
    return is_one_of(ptr, len, versions);
  case FIELD(read_from):
    return is_one_of(ptr, len, sources);
  default:
    return true;
  }
}

static int refuse_text(const rm_option *option, const char *ptr, size_t len, redmoon_error *err) {
  if (option->kind == RM_OPTION_SECRET)
    return rm_fail(err, REDMOON_ECONFIG, "option '%s': its value is not accepted; it takes %s without NUL",
                   option->name, option->accepts);
  if (len == 0)
    return rm_fail(err, REDMOON_ECONFIG, "option '%s': an empty text is not accepted; it takes %s", option->name,
                   option->accepts);
  char shown[65];
  rm_escape(shown, sizeof shown, ptr, len);
  return rm_fail(err, REDMOON_ECONFIG, "option '%s': '%s'%s is not accepted; it takes %s", option->name, shown,
                 len >= sizeof shown ? "..." : "", option->accepts);
}

int rm_option_check_text(const rm_option *option, const char *ptr, size_t len, redmoon_error *err) {
  bool fits = len >= (size_t)option->min && len <= (size_t)option->max;
  return fits && has_form(option, ptr, len) ? 0 : refuse_text(option, ptr, len, err);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits only: no sign, no blanks, at most 15 so that seconds fit as milliseconds. */
static bool parse_integer(const char *ptr, size_t len, int64_t *out) {
  if (len == 0 || len > 15) return false;
  *out = 0;
  for (size_t i = 0; i < len; i++) {
    if (!is_digit(ptr[i])) return false;
    *out = *out * 10 + (ptr[i] - '0');
  }
  return true;
}

static bool parse_duration(const char *ptr, size_t len, int64_t *out) {
  const char *point = memchr(ptr, '.', len);
  size_t whole = point != NULL ? (size_t)(point - ptr) : len;
  if (!parse_integer(ptr, whole, out)) return false;
  *out *= 1000;
  if (point == NULL) return true;
  int64_t unit = 100;
  bool finer = false;
  for (size_t i = whole + 1; i < len; i++, unit /= 10) {
    if (!is_digit(ptr[i])) return false;
    *out += (ptr[i] - '0') * unit;
    if (unit == 0 && ptr[i] != '0') finer = true;
  }
  if (finer) *out += 1;
  return whole + 1 < len;
}

static bool parse_bool(const char *ptr, size_t len, int64_t *out) {
  static const char *const yes[] = {"true", "1", NULL}, *const no[] = {"false", "0", NULL};
  *out = is_one_of(ptr, len, yes);
  return *out != 0 || is_one_of(ptr, len, no);
}

int rm_option_parse(const rm_option *option, const char *ptr, size_t len, int64_t *out, redmoon_error *err) {
  bool well_formed = option->kind == RM_OPTION_DURATION ? parse_duration(ptr, len, out)
                     : option->kind == RM_OPTION_BOOL   ? parse_bool(ptr, len, out)
                                                        : parse_integer(ptr, len, out);
  if (well_formed && *out >= option->min && *out <= option->max) return 0;
  return refuse_text(option, ptr, len, err);
}
