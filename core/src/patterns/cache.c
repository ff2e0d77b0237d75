/* SPDX-License-Identifier: MIT */
/* The cache: its options checked once, its counts, what it stores, and how it deletes. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define LEASE_TAIL "+lease"
#define WAITS_TAIL "+waits" /* of the same length */
#define YEAR_MS INT64_C(31622400000)
#define DAY_MS INT64_C(86400000)
#define MIB INT64_C(1048576)
enum { NEGATIVE_TTL_MS = 5000 };

/* Options. */

static int check_name(const char *name, redmoon_error *err) {
  if (name == NULL) return rm_fail(err, REDMOON_ECONFIG,
                 "cache option name is missing; give 1 to 64 letters, digits, '.', '_' and '-'");
  size_t len = strlen(name);
  if (len >= 1 && len <= RM_CACHE_NAME_MAX && strspn(name, NAME_BYTES) == len) return 0;
  char shown[100];
  rm_escape(shown, sizeof shown, name, len);
  return rm_fail(err, REDMOON_ECONFIG,
                 "cache option name: '%s' is not accepted; give 1 to %d letters, digits, '.', '_' and '-'",
                 shown, RM_CACHE_NAME_MAX);
}

static int check_policy(const char *name, rm_cache_policy *out, redmoon_error *err) {
  static const char *const names[] = {"load", "stale", "error"};
  *out = RM_CACHE_LOAD;
  if (name == NULL) return 0;
  for (size_t i = 0; i < 3; i++)
    if (strcmp(names[i], name) == 0) return *out = (rm_cache_policy)i, 0;
  char shown[100];
  rm_escape(shown, sizeof shown, name, strlen(name));
  return rm_fail(err, REDMOON_ECONFIG,
                 "cache option on_error: '%s' is not accepted; give \"load\", \"stale\" or \"error\"", shown);
}

/* One number: its default where it was not given (UNSET: it has to be), and its range. */
static int check_number(const char *option, int64_t *value, int64_t otherwise, int64_t min, int64_t max, const char *unit,
                        redmoon_error *err) {
  if (*value == REDMOON_UNSET) *value = otherwise;
  if (*value >= min && *value <= max) return 0;
  if (*value == REDMOON_UNSET)
    return rm_fail(err, REDMOON_ECONFIG,
                 "cache option %s is missing; give %" PRId64 " to %" PRId64 "%s", option, min, max, unit);
  return rm_fail(err, REDMOON_ECONFIG,
                 "cache option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s", option,
                 *value, unit, min, max, unit);
}

static int check_options(redmoon_cache_options *o, rm_cache_policy *policy, redmoon_error *err) {
  int status = check_policy(o->on_error, policy, err);
  if (status == 0) status = check_name(o->name, err);
  if (status == 0) status = check_number("ttl", &o->ttl_ms, REDMOON_UNSET, 1, YEAR_MS, " ms", err);
  int64_t negative = o->ttl_ms < NEGATIVE_TTL_MS ? o->ttl_ms : NEGATIVE_TTL_MS;
  if (status == 0) status = check_number("negative_ttl", &o->negative_ttl_ms, negative, 0, YEAR_MS, " ms", err);
  if (status == 0) status = check_number("stale_ttl", &o->stale_ttl_ms, 0, 0, YEAR_MS, " ms", err);
  if (status == 0) status = check_number("lease", &o->lease_ms, 10000, 10, DAY_MS, " ms", err);
  if (status == 0) status = check_number("retry_after", &o->retry_after_ms, 0, 0, DAY_MS, " ms", err);
  if (status == 0) status = check_number("jitter", &o->jitter_ppm, 100000, 0, 500000, " ppm", err);
  if (status == 0) status = check_number("early_refresh", &o->early_refresh_ppm, 1000000, 0, 10000000, " ppm", err);
  if (status == 0) status = check_number("fallback_loads", &o->fallback_loads, 8, 1, 10000, "", err);
  if (status == 0) status = check_number("max_size", &o->max_size, 16 * MIB, 1, 512 * MIB, " bytes", err);
  if (status == 0) status = check_number("format", &o->format, 0, 0, 255, "", err);
  if (status == 0) status = check_number("tags", &o->tags, 0, 0, 1, "", err);
  if (status == 0) status = check_number("compress", &o->compress, 0, 0, 512 * MIB, " bytes", err);
  if (status == 0 && o->seal_key != NULL && o->seal_key_len != RM_ENTRY_KEY)
    status = rm_fail(err, REDMOON_ECONFIG, "cache option seal_key: %zu bytes are not accepted; give %d random bytes",
                     o->seal_key_len, RM_ENTRY_KEY);
  return status;
}

int redmoon_cache_new(redmoon_client *client, const redmoon_cache_options *options, redmoon_cache **out,
                      redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  redmoon_cache_options own = REDMOON_CACHE_OPTIONS_INIT;
  if (options != NULL) own = *options;
  rm_cache_policy policy;
  int status = check_options(&own, &policy, err);
  if (status < 0) return status;
  redmoon_cache *cache = rm_calloc(1, sizeof *cache);
  if (cache == NULL) return rm_fail_nomem(err);
  atomic_init(&cache->refs, 1);
  atomic_flag_clear(&cache->guess_lock);
  atomic_flag_clear(&cache->known_lock);
  cache->known_for_us = RM_KNOWN_US;
  cache->client = redmoon_client_ref(client);
  if (own.seal_key != NULL && rm_secret_set(&cache->seal, own.seal_key, own.seal_key_len) < 0) {
    redmoon_cache_free(cache);
    return rm_fail_nomem(err);
  }
  status = rm_cache_tags_init(cache, own.name, err);
  if (status < 0) {
    redmoon_cache_free(cache);
    return status;
  }
  snprintf(cache->part, sizeof cache->part, "%s.cache" LEASE_TAIL, own.name);
  own.name = own.on_error = NULL;
  own.seal_key = NULL;
  cache->options = own;
  cache->on_error = policy;
  cache->get = rm_command_find("GET", 3, NULL, 0);
  cache->mget = rm_command_find("MGET", 4, NULL, 0);
  cache->pttl = rm_command_find("PTTL", 4, NULL, 0);
  *out = cache;
  return 0;
}

redmoon_cache *rm_cache_ref(redmoon_cache *cache) {
  atomic_fetch_add(&cache->refs, 1);
  return cache;
}

void redmoon_cache_free(redmoon_cache *cache) {
  if (cache == NULL || atomic_fetch_sub(&cache->refs, 1) != 1) return;
  rm_secret_fini(&cache->seal);
  rm_packer_fini(&cache->packer);
  rm_cache_tags_fini(cache);
  rm_guesses_free(cache->guesses);
  rm_known_free(cache->known);
  redmoon_client_close(cache->client);
  rm_free(cache);
}

/* Counts. */

void rm_cache_add(redmoon_cache *cache, rm_cache_count what) {
  static const char *const names[RM_COUNTS] = {"hit", "stale", "miss", "load", "early", "failure", "wait",
                                               "lost", "invalidated", "undecodable", "too_large", "unavailable", "fallback", "unstored"};
  atomic_fetch_add_explicit(&cache->counts[what], 1, memory_order_relaxed);
  _Atomic uint64_t *counter = atomic_load_explicit(&cache->of_client[what], memory_order_acquire);
  if (counter == NULL) {
    counter = rm_client_counter(cache->client, "cache", names[what]);
    if (counter == NULL) return;
    atomic_store_explicit(&cache->of_client[what], counter, memory_order_release);
  }
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void redmoon_cache_get_stats(const redmoon_cache *cache, redmoon_cache_stats *out) {
  const _Atomic uint64_t *counts = cache->counts;
  *out = (redmoon_cache_stats){
      .hits = counts[RM_COUNT_HIT], .stale = counts[RM_COUNT_STALE], .misses = counts[RM_COUNT_MISS],
      .loads = counts[RM_COUNT_LOAD], .early = counts[RM_COUNT_EARLY], .failures = counts[RM_COUNT_FAILURE],
      .waits = counts[RM_COUNT_WAIT], .lost = counts[RM_COUNT_LOST],
      .invalidated = counts[RM_COUNT_INVALIDATED], .undecodable = counts[RM_COUNT_UNDECODABLE],
      .too_large = counts[RM_COUNT_TOO_LARGE], .unavailable = counts[RM_COUNT_UNAVAILABLE],
      .fallbacks = counts[RM_COUNT_FALLBACK], .unstored = counts[RM_COUNT_UNSTORED]};
}

void redmoon_cache_result_fini(redmoon_cache_result *result) {
  if (result == NULL) return;
  rm_free(result->value);
  *result = (redmoon_cache_result){0};
}

/* Keys and entries. */

int rm_cache_check_key(const void *key, size_t len, redmoon_error *err) { return rm_name_check("cache key", key, len, err); }

int rm_cache_keys(const redmoon_cache *cache, const void *key, size_t len, redmoon_bytes *entry, redmoon_bytes *lease,
                  redmoon_error *err) {
  int status = rm_key_build(rm_client_key_prefix(cache->client), key, len, cache->part, lease, err);
  if (status < 0) return status;
  *entry = (redmoon_bytes){lease->ptr, lease->len - strlen(LEASE_TAIL)};
  return 0;
}

int rm_cache_waits_key(redmoon_bytes lease, redmoon_bytes *waits, redmoon_error *err) {
  char *copy = rm_strndup(lease.ptr, lease.len);
  if (copy == NULL) return rm_fail_nomem(err);
  memcpy(copy + lease.len - strlen(LEASE_TAIL), WAITS_TAIL, sizeof WAITS_TAIL);
  *waits = (redmoon_bytes){copy, lease.len};
  return 0;
}

int rm_cache_check_ttl(const redmoon_cache *cache, bool negative, int64_t *ttl_ms, redmoon_error *err) {
  const redmoon_cache_options *o = &cache->options;
  return check_number("ttl", ttl_ms, negative ? o->negative_ttl_ms : o->ttl_ms, 0, YEAR_MS, " ms", err);
}

int64_t rm_cache_longest_ms(const redmoon_cache *cache, int64_t ttl_ms) {
  const redmoon_cache_options *o = &cache->options;
  return rm_cache_jittered(ttl_ms + o->stale_ttl_ms, o->jitter_ppm, 2 * o->jitter_ppm);
}

int rm_cache_entry_new(redmoon_cache *cache, redmoon_bytes key, const rm_content *content, unsigned char **out,
                       size_t *size, int64_t *hard_ms) {
  const redmoon_cache_options *o = &cache->options;
  *out = NULL;
  *size = 0;
  *hard_ms = 0;
  rm_cache_forget_known(cache, key);
  if (content->ttl_ms <= 0) return 0;
  int64_t draw = rm_random_upto(2 * o->jitter_ppm); /* one for both, so that what is kept is never less than fresh */
  int64_t soft_ms = rm_cache_jittered(content->ttl_ms, o->jitter_ppm, draw);
  *hard_ms = rm_cache_jittered(content->ttl_ms + o->stale_ttl_ms, o->jitter_ppm, draw);
  rm_entry entry = {content->negative, (unsigned char)o->format, soft_ms, *hard_ms, content->delta_ms, content->value,
                    content->len, content->tags, content->tag_count, false};
  unsigned char *packed = NULL;
  size_t packed_len;
  if (o->compress > 0 && !content->negative && (int64_t)content->len >= o->compress) {
    int status = rm_pack(&cache->packer, content->value, content->len, &packed, &packed_len);
    if (status < 0) return status;
    if (status > 0) entry.body = packed, entry.len = packed_len, entry.packed = true;
  }
  *size = rm_entry_size(&entry, &cache->seal);
  *out = rm_alloc(*size);
  if (*out != NULL) rm_entry_write(&entry, key, &cache->seal, *out);
  rm_free(packed);
  return *out != NULL ? 0 : REDMOON_ENOMEM;
}

/* Discard. */

/* The context is a reference to the cache. */
static void answer_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  redmoon_cache_free(ctx);
}

/* Entry, lease, and the mark of those who wait: the last two are the caller's (rm_key_free). */
static int cache_three_keys(const redmoon_cache *cache, const void *key, size_t key_len, redmoon_bytes keys[3],
                            redmoon_error *err) {
  int status = rm_cache_keys(cache, key, key_len, &keys[0], &keys[1], err);
  if (status < 0) return status;
  status = rm_cache_waits_key(keys[1], &keys[2], err);
  if (status < 0) rm_key_free(&keys[1]);
  return status;
}

int redmoon_cache_discard_start(redmoon_cache *cache, const void *key, size_t key_len, const void *version,
                                size_t version_len, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  int status = rm_cache_check_key(key, key_len, err);
  if (status == 0 && (version == NULL || version_len < 1 || version_len > RM_ENTRY_HEADER))
    status = rm_fail(err, REDMOON_ECONFIG,
                 "cache discard: a version of %zu bytes is not accepted; give that of a result", version_len);
  redmoon_bytes entry, lease;
  if (status == 0) status = rm_cache_keys(cache, key, key_len, &entry, &lease, err);
  if (status < 0) return status;
  rm_cache_add(cache, RM_COUNT_UNDECODABLE);
  const redmoon_bytes arg = {version, version_len};
  const redmoon_script_args all = {&entry, 1, &arg, 1};
  status = rm_builtin_start(cache->client, &rm_script_cache_discard, &all, RM_CALL_REPEATABLE, NULL, answer_drop,
                            rm_cache_ref(cache), op, err);
  rm_key_free(&lease);
  return status;
}

int redmoon_cache_discard(redmoon_cache *cache, const void *key, size_t key_len, const void *version,
                          size_t version_len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_cache_discard_start(cache, key, key_len, version, version_len, &op, err), &op, err);
}

/* Delete. */

int redmoon_cache_delete_start(redmoon_cache *cache, const void *key, size_t key_len, redmoon_op **op,
                               redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  redmoon_bytes keys[3];
  int status = rm_cache_check_key(key, key_len, err);
  if (status == 0) status = cache_three_keys(cache, key, key_len, keys, err);
  if (status < 0) return status;
  const redmoon_script_args all = {keys, 3, NULL, 0};
  status = rm_builtin_start(cache->client, &rm_script_cache_delete, &all, RM_CALL_REPEATABLE, NULL, answer_drop,
                            rm_cache_ref(cache), op, err);
  rm_key_free(&keys[1]);
  rm_key_free(&keys[2]);
  return status;
}

int redmoon_cache_delete(redmoon_cache *cache, const void *key, size_t key_len, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_cache_delete_start(cache, key, key_len, &op, err), &op, err);
}
