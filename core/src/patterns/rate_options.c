/* SPDX-License-Identifier: MIT */
/* The algorithms of the rate limiter, a row each, and how options become what the scripts get: four texts. */
#include "base/alloc.h"
#include "base/digits.h"
#include "base/error.h"
#include "patterns/rate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
enum { MAX_LOG = 100000, MAX_LOG_COST = 1000, MAX_UNITS = 1000000000, MAX_BUCKETS = 60, DEFAULT_BUCKETS = 10 };
static const int64_t max_window_ms = INT64_C(366) * 24 * 3600 * 1000;
static const int64_t max_exact = (INT64_C(1) << 53) - 1; /* scripts count in doubles */

typedef redmoon_rate_limiter_options rate_options;

struct rm_rate_algorithm {
  const char *name;
  const char *part;               /* of its keys, behind the limiter's name */
  int64_t max_limit, max_cost;
  const char *option;             /* the option that belongs to it alone; NULL: none */
  bool window_in_key;             /* its state means nothing under another window */
  /* Completes the limiter: its fields hold the algorithm's name, limit, window in us, and "0".  NULL: that is all. */
  int (*complete)(redmoon_rate_limiter *limiter, const rate_options *options, redmoon_error *err);
};

static int check_range(const char *option, int64_t value, int64_t max, const char *unit, redmoon_error *err) {
  if (value >= 1 && value <= max) return 0;
  if (value == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG, "rate limiter option %s is missing; give 1 to %" PRId64 "%s", option, max,
                   unit);
  return rm_fail(err, REDMOON_ECONFIG,
                 "rate limiter option %s: %" PRId64 "%s is not accepted; give 1 to %" PRId64 "%s", option, value,
                 unit, max, unit);
}

static int refuse_text(const char *option, const char *value, const char *accepted, redmoon_error *err) {
  char shown[100];
  rm_escape(shown, sizeof shown, value, strlen(value));
  return rm_fail(err, REDMOON_ECONFIG, "rate limiter option %s: '%s' is not accepted; give %s", option, shown,
                 accepted);
}

static void set_field(redmoon_rate_limiter *limiter, size_t place, int64_t value) {
  limiter->field_lens[place] = (uint8_t)rm_int64_put(limiter->fields[place], value);
}
enum { FIELD_LIMIT = 1, FIELD_WINDOW, FIELD_EXTRA };

/* What cannot be counted exactly is refused, not rounded. */
static int refuse_inexact(const char *options, int64_t most, redmoon_error *err) {
  return rm_fail(err, REDMOON_ECONFIG,
                 "rate limiter options %s: together too large to be counted exactly; with this window give at most "
                 "%" PRId64,
                 options, most);
}

/* The algorithms. */

/* `limit` in a window is limit/g in window/g: the smallest numbers that say the same. */
static int complete_gcra(redmoon_rate_limiter *limiter, const rate_options *options, redmoon_error *err) {
  int64_t burst = options->burst == REDMOON_UNSET ? options->limit : options->burst;
  int status = check_range("burst", burst, MAX_UNITS, "", err);
  if (status < 0) return status;
  int64_t window_us = options->window_ms * 1000, a = options->limit, b = window_us;
  while (b != 0) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  int64_t period = window_us / a;
  if (burst > max_exact / period) return refuse_inexact("limit, window and burst", max_exact / period, err);
  set_field(limiter, FIELD_LIMIT, options->limit / a);
  set_field(limiter, FIELD_WINDOW, period);
  set_field(limiter, FIELD_EXTRA, burst);
  return 0;
}

static int complete_sliding(redmoon_rate_limiter *limiter, const rate_options *options, redmoon_error *err) {
  (void)limiter;
  int64_t most = max_exact / (options->window_ms * 1000);
  return options->limit > most ? refuse_inexact("limit and window", most, err) : 0;
}

static int complete_fixed(redmoon_rate_limiter *limiter, const rate_options *options, redmoon_error *err) {
  (void)err;
  set_field(limiter, FIELD_EXTRA, options->calendar != NULL);
  return 0;
}

static int complete_buckets(redmoon_rate_limiter *limiter, const rate_options *options, redmoon_error *err) {
  int64_t buckets = options->buckets == REDMOON_UNSET ? DEFAULT_BUCKETS : options->buckets;
  int status = check_range("buckets", buckets, MAX_BUCKETS, "", err);
  if (status == 0) set_field(limiter, FIELD_EXTRA, buckets);
  size_t len = strlen(limiter->part);
  if (status == 0) snprintf(limiter->part + len, RM_RATE_PART_MAX - len, ".%" PRId64, buckets);
  return status;
}

static const rm_rate_algorithm algorithms[] = {
    {"buckets", "buckets", MAX_UNITS, MAX_UNITS, "buckets", true, complete_buckets},
    {"fixed_window", "fixed", MAX_UNITS, MAX_UNITS, "calendar", false, complete_fixed},
    {"gcra", "gcra", MAX_UNITS, MAX_UNITS, "burst", false, complete_gcra},
    {"sliding_log", "log", MAX_LOG, MAX_LOG_COST, NULL, false, NULL},
    {"sliding_window", "sliding", MAX_UNITS, MAX_UNITS, NULL, true, complete_sliding},
};
#define ACCEPTED_ALGORITHMS "\"buckets\", \"fixed_window\", \"gcra\", \"sliding_log\" or \"sliding_window\""
enum { ALGORITHMS = sizeof algorithms / sizeof algorithms[0] };

static const rm_rate_algorithm *find_algorithm(const char *name) {
  if (name == NULL) name = "sliding_log";
  for (size_t i = 0; i < ALGORITHMS; i++)
    if (strcmp(algorithms[i].name, name) == 0) return &algorithms[i];
  return NULL;
}

/* An option that belongs to another algorithm is refused, not ignored. */
static int check_own(const rm_rate_algorithm *algorithm, const char *option, bool given, redmoon_error *err) {
  if (!given || (algorithm->option != NULL && strcmp(algorithm->option, option) == 0)) return 0;
  const char *owner = "";
  for (size_t i = 0; i < ALGORITHMS; i++)
    if (algorithms[i].option != NULL && strcmp(algorithms[i].option, option) == 0) owner = algorithms[i].name;
  return rm_fail(err, REDMOON_ECONFIG, "rate limiter option %s belongs to the algorithm \"%s\", not to \"%s\"", option,
                 owner, algorithm->name);
}

/* The window of a calendar is its own; one that was given must say the same. */
static int apply_calendar(rate_options *options, redmoon_error *err) {
  static const struct {
    const char *name;
    int64_t ms;
  } units[] = {{"minute", 60000}, {"hour", 3600000}, {"day", 86400000}};
  if (options->calendar == NULL) return 0;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strcmp(units[i].name, options->calendar) != 0) continue;
    if (options->window_ms != REDMOON_UNSET && options->window_ms != units[i].ms)
      return rm_fail(err, REDMOON_ECONFIG,
                     "rate limiter option window: %" PRId64 " ms is not accepted with calendar \"%s\"; leave it out",
                     options->window_ms, options->calendar);
    options->window_ms = units[i].ms;
    return 0;
  }
  return refuse_text("calendar", options->calendar, "\"minute\", \"hour\" or \"day\"", err);
}

static int read_on_error(const char *text, rm_rate_on_error *out, redmoon_error *err) {
  if (text == NULL || strcmp(text, "error") == 0) *out = RM_RATE_FAIL_ERROR;
  else if (strcmp(text, "deny") == 0) *out = RM_RATE_FAIL_DENY;
  else if (strcmp(text, "allow") == 0) *out = RM_RATE_FAIL_ALLOW;
  else return refuse_text("on_error", text, "\"error\", \"allow\" or \"deny\"", err);
  return 0;
}

static int check_name(const char *name, redmoon_error *err) {
  size_t len = strlen(name);
  if (len >= 1 && len <= RM_RATE_NAME_MAX && strspn(name, NAME_BYTES) == len) return 0;
  return refuse_text("name", name, "1 to 64 letters, digits, '.', '_' and '-'", err);
}

/* `options` is the caller's own copy. */
static int check_options(const rm_rate_algorithm *algorithm, rate_options *options, redmoon_error *err) {
  int status = check_own(algorithm, "burst", options->burst != REDMOON_UNSET, err);
  if (status == 0) status = check_own(algorithm, "calendar", options->calendar != NULL, err);
  if (status == 0) status = check_own(algorithm, "buckets", options->buckets != REDMOON_UNSET, err);
  if (status == 0) status = apply_calendar(options, err);
  if (status == 0) status = check_range("limit", options->limit, algorithm->max_limit, "", err);
  if (status == 0) status = check_range("window", options->window_ms, max_window_ms, " ms", err);
  if (status == 0) status = check_name(options->name, err);
  return status;
}

static int fill(redmoon_rate_limiter *limiter, const rm_rate_algorithm *algorithm, const rate_options *options,
                redmoon_error *err) {
  limiter->algorithm = algorithm;
  limiter->limit = options->limit;
  limiter->window_ms = options->window_ms;
  limiter->max_cost = algorithm->max_cost;
  limiter->name_len = strlen(options->name);
  limiter->field_lens[0] = (uint8_t)snprintf(limiter->fields[0], RM_RATE_DIGITS, "%s", algorithm->name);
  set_field(limiter, FIELD_LIMIT, options->limit);
  set_field(limiter, FIELD_WINDOW, options->window_ms * 1000);
  set_field(limiter, FIELD_EXTRA, 0);
  int len = snprintf(limiter->part, sizeof limiter->part, "%s.%s", options->name, algorithm->part);
  if (algorithm->window_in_key)
    snprintf(limiter->part + len, sizeof limiter->part - (size_t)len, ".%" PRId64, options->window_ms);
  int status = read_on_error(options->on_error, &limiter->on_error, err);
  if (status == 0 && algorithm->complete != NULL) status = algorithm->complete(limiter, options, err);
  if (status == 0 && options->deny_cache == 1 && (limiter->deny = rm_deny_new()) == NULL) status = rm_fail_nomem(err);
  return status;
}

int redmoon_rate_limiter_new(redmoon_client *client, const redmoon_rate_limiter_options *given,
                             redmoon_rate_limiter **out, redmoon_error *err) {
  rate_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  if (given != NULL) options = *given;
  if (options.name == NULL) options.name = "rl";
  const rm_rate_algorithm *algorithm = find_algorithm(options.algorithm);
  if (algorithm == NULL) return refuse_text("algorithm", options.algorithm, ACCEPTED_ALGORITHMS, err);
  int status = check_options(algorithm, &options, err);
  if (status < 0) return status;
  redmoon_rate_limiter *limiter = rm_calloc(1, sizeof *limiter);
  if (limiter == NULL) return rm_fail_nomem(err);
  atomic_init(&limiter->refs, 1);
  limiter->client = redmoon_client_ref(client);
  status = fill(limiter, algorithm, &options, err);
  if (status < 0) {
    redmoon_rate_limiter_free(limiter);
    return status;
  }
  *out = limiter;
  return 0;
}

redmoon_rate_limiter *rm_rate_limiter_ref(redmoon_rate_limiter *limiter) {
  atomic_fetch_add(&limiter->refs, 1);
  return limiter;
}

void redmoon_rate_limiter_free(redmoon_rate_limiter *limiter) {
  if (limiter == NULL || atomic_fetch_sub(&limiter->refs, 1) != 1) return;
  redmoon_client_close(limiter->client);
  rm_deny_free(limiter->deny);
  rm_free(limiter);
}

void rm_rate_fields(const redmoon_rate_limiter *limiter, redmoon_bytes out[RM_RATE_FIELDS]) {
  for (size_t i = 0; i < RM_RATE_FIELDS; i++)
    out[i] = (redmoon_bytes){limiter->fields[i], limiter->field_lens[i]};
}
