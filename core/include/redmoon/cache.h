/* SPDX-License-Identifier: MIT */
/** The cache: values loaded by a function of the caller's, one load per key over all processes at a time.
 *
 *      fresh ------------------------> it
 *      stale, or soon to be: lease --given--> load -> put          the others get what is there
 *      none:                 lease --given--> load -> put          the others wait for it
 *
 *  A deletion voids the lease, so that a load which began before it stores nothing.  Values may have tags: what ends a tag
 *  ends all of them, and keeps loads that began before it from storing with it.  The age of what is stored is told by
 *  the server: it is what has passed of its TTL there. */
#ifndef REDMOON_CACHE_H
#define REDMOON_CACHE_H

#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: internally locked; share it freely. */
typedef struct redmoon_cache redmoon_cache;

typedef struct redmoon_cache_options {
  const char *name;          /**< 1 to 64 letters, digits, '.', '_' and '-'; caches of another name share nothing */
  int64_t ttl_ms;            /**< 1 ms to 366 days: how long a value is fresh */
  int64_t negative_ttl_ms;   /**< 5,000, or ttl_ms if that is less: how long it is known that there is no value; 0: not kept */
  int64_t stale_ttl_ms;      /**< 0; how long a value is kept beyond its ttl, to be served while it is loaded again and when
                                  that fails; up to 366 days */
  int64_t lease_ms;          /**< 10,000; 10 ms to 24 h: how long a load may take before another begins one, too */
  int64_t retry_after_ms;    /**< 0; to 24 h: for so long after a load that failed nobody is given the lease of that key:
                                  what is stale is served, and who finds nothing waits */
  int64_t jitter_ppm;        /**< 100,000 (+-10 %); 0 to 500,000: how far the TTLs of values differ */
  int64_t early_refresh_ppm; /**< 1,000,000 (1.0); 0: off; to 10,000,000: the beta of XFetch */
  const char *on_error;      /**< when Redis fails, or the wait for another's load is over: "load" (default) without storing,
                                  "stale": what was read before the failure, if anything, else the error; "error" */
  int64_t fallback_loads;    /**< 8; 1 to 10,000: loads at the same time for "load", over all caches of the client */
  int64_t max_size;          /**< 16,777,216 bytes; to 512 MiB: a larger value is not stored */
  int64_t format;            /**< 0; 0 to 255: which codec writes the values; those of another are not decoded */
  const void *seal_key;      /**< 32 bytes, copied into locked memory: what is stored is encrypted, and bound to its key
                                  (XChaCha20-Poly1305); NULL: it is not */
  size_t seal_key_len;
  int64_t tags;              /**< 0; 1: values may have tags.  A load costs one more command for it */
  int64_t compress;          /**< 0: never; 1 to 536,870,912: values of so many bytes or more are compressed (Zstandard),
                                  where that saves a sixteenth or more */
} redmoon_cache_options;
#define REDMOON_CACHE_OPTIONS_INIT                                                                                     \
  {0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, 0,       \
   REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, 0, 0, REDMOON_UNSET, REDMOON_UNSET}

#define REDMOON_CACHE_VERSION_MAX 40
#define REDMOON_CACHE_TAGS_MAX 32 /**< of one value, and of one redmoon_cache_invalidate_tags */
#define REDMOON_CACHE_TAG_MAX 255 /**< bytes of a tag */

/** What is known of one key. */
typedef struct redmoon_cache_result {
  int status;         /**< 0, or how this key failed */
  int found;          /**< 1: there is a value; 0: there is none */
  void *value;        /**< NULL when there is none; ends with redmoon_cache_result_fini */
  size_t len;
  const char *source; /**< "redis"; "loader": this call loaded it; "fallback": this call loaded it without a lease, and
                           stored nothing, because Redis failed or another's load took too long.  Static. */
  const char *state;  /**< "hit", "stale", or "miss": it was loaded.  Static. */
  int64_t age_ms;     /**< since it was stored, as the server told it, up to a second ago, and what has passed since; 0 for
                           what was just loaded */
  int stored;         /**< 1: what was loaded was stored; 0: it was not: the lease was over or void, Redis failed, or it
                           is too large */
  char code[32];      /**< of what went wrong though there is a result; "": nothing */
  unsigned char version[REDMOON_CACHE_VERSION_MAX]; /**< names what was read, for `reject` */
  size_t version_len;
} redmoon_cache_result;

/** Frees what it holds and empties it.  NULL is allowed. */
REDMOON_API void redmoon_cache_result_fini(redmoon_cache_result *result);

/** What a loader found. */
enum { REDMOON_CACHE_VALUE = 1, REDMOON_CACHE_ABSENT = 2, REDMOON_CACHE_FAILED = 3 };

typedef struct redmoon_cache_loaded {
  int found;         /**< REDMOON_CACHE_VALUE, _ABSENT or _FAILED (as it is at first) */
  const void *value; /**< copied when the loader returns; of a failed load its text, for those who waited for it */
  size_t len;
  void (*release)(void *value); /**< called with `value` once it and the tags were copied; NULL: not */
  const redmoon_bytes *tags; /**< what the value, or its absence, depends on: up to 32, of 1 to 255 bytes each; the cache has
                                  to have the option */
  size_t tag_count;
} redmoon_cache_loaded;

/** Loads `count` keys: fills in out[i] for keys[i].  Called by the blocking functions on the caller's thread, without
 *  locks or a connection held; it may use the client, and this cache for other keys.  Returns 0, or negative when all of
 *  them have failed. */
typedef int (*redmoon_cache_load_fn)(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out);

typedef struct redmoon_cache_key {
  const void *ptr; /**< 1 to 512 bytes */
  size_t len;
  const void *reject; /**< version of a result that could not be decoded: it is deleted and loaded again.  NULL: none */
  size_t reject_len;
} redmoon_cache_key;
#define REDMOON_CACHE_MANY_MAX 500

/** `options` has a name and a ttl.  No I/O.  *out is owned by the caller (redmoon_cache_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_new(redmoon_client *client, const redmoon_cache_options *options,
                                                     redmoon_cache **out, redmoon_error *err);
/** Operations that were started go on.  NULL is allowed. */
REDMOON_API void redmoon_cache_free(redmoon_cache *cache);

/** The value, from Redis or from `load`.  A load that fails is served by what is stale; else it is REDMOON_EUNAVAILABLE with
 *  the loader's text.  Takes up to the client's timeout, and the time of the load.  `out` is emptied first. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_get(redmoon_cache *cache, const redmoon_cache_key *key,
                                                     redmoon_cache_load_fn load, void *ctx, redmoon_cache_result *out,
                                                     redmoon_error *err);
/** An operation that may want a load: when redmoon_op_wants says REDMOON_WANT_LOAD, load what redmoon_cache_op_loads names,
 *  give it to redmoon_cache_op_loaded, and step again.  It holds no connection meanwhile. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_get_start(redmoon_cache *cache, const redmoon_cache_key *key,
                                                           redmoon_cache_result *out, redmoon_op **op,
                                                           redmoon_error *err);
/** 1 to 500 keys; those that are fresh cost one round trip together, those to be loaded three.  Each ends for itself:
 *  results[i].status, and errors[i] (`errors` NULL: nobody wants to know).  0: each has ended. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_get_many(redmoon_cache *cache, const redmoon_cache_key *keys,
                                                          size_t count, redmoon_cache_load_fn load, void *ctx,
                                                          redmoon_cache_result *results, redmoon_error *errors,
                                                          redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_get_many_start(redmoon_cache *cache, const redmoon_cache_key *keys,
                                                                size_t count, redmoon_cache_result *results,
                                                                redmoon_error *errors, redmoon_op **op,
                                                                redmoon_error *err);
/** Places among the keys asked for of those to be loaded now: at most `max` are written, how many there are is returned. */
REDMOON_API size_t redmoon_cache_op_loads(const redmoon_op *op, size_t *indices, size_t max);
/** What was found for key `index`: REDMOON_CACHE_VALUE with the value, _ABSENT, or _FAILED with a text (may be NULL), each
 *  copied.  CONFIG when that key is not to be loaded; NOMEM, and that load has failed. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_op_loaded(redmoon_op *op, size_t index, int found, const void *value,
                                                           size_t len, redmoon_error *err);

/** Before redmoon_cache_op_loaded: the tags of what was found for key `index`, copied.  CONFIG for more than 32, for one of
 *  0 or more than 255 bytes, for a cache without the option `tags`, and for a key that is not to be loaded; NOMEM, and that
 *  load has failed. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_op_tags(redmoon_op *op, size_t index, const redmoon_bytes *tags,
                                                         size_t count, redmoon_error *err);

/** What is stored, fresh or stale; loads nothing.  out->found is 0 when nothing is, and out->state "miss". */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_peek(redmoon_cache *cache, const void *key, size_t key_len,
                                                      redmoon_cache_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_peek_start(redmoon_cache *cache, const void *key, size_t key_len,
                                                            redmoon_cache_result *out, redmoon_op **op,
                                                            redmoon_error *err);
/** Deletes what was read as `version` and could not be decoded, if it is there still; counted as undecodable. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_discard(redmoon_cache *cache, const void *key, size_t key_len,
                                                         const void *version, size_t version_len, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_discard_start(redmoon_cache *cache, const void *key, size_t key_len,
                                                               const void *version, size_t version_len,
                                                               redmoon_op **op, redmoon_error *err);
/** Stores a value (`value` NULL: that there is none) for `ttl_ms` (REDMOON_UNSET: the cache's), and voids loads that go on.
 *  REDMOON_ETOO_LARGE above max_size. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_set(redmoon_cache *cache, const void *key, size_t key_len,
                                                     const void *value, size_t len, int64_t ttl_ms, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_set_start(redmoon_cache *cache, const void *key, size_t key_len,
                                                           const void *value, size_t len, int64_t ttl_ms,
                                                           redmoon_op **op, redmoon_error *err);
/** The same with tags, as redmoon_cache_op_tags takes them; two round trips. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_set_tagged(redmoon_cache *cache, const void *key, size_t key_len,
                                                            const void *value, size_t len, int64_t ttl_ms,
                                                            const redmoon_bytes *tags, size_t count, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_set_tagged_start(redmoon_cache *cache, const void *key, size_t key_len,
                                                                  const void *value, size_t len, int64_t ttl_ms,
                                                                  const redmoon_bytes *tags, size_t count,
                                                                  redmoon_op **op, redmoon_error *err);
/** Once it has returned 0, no get that begins yields a value loaded before it. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_delete(redmoon_cache *cache, const void *key, size_t key_len,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_delete_start(redmoon_cache *cache, const void *key, size_t key_len,
                                                              redmoon_op **op, redmoon_error *err);
/** Once it has returned 0, no get that begins yields a value that has one of these tags and was loaded before it: 1 to 32
 *  tags, all at once, whatever the number of values. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_invalidate_tags(redmoon_cache *cache, const redmoon_bytes *tags,
                                                                 size_t count, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_cache_invalidate_tags_start(redmoon_cache *cache, const redmoon_bytes *tags,
                                                                       size_t count, redmoon_op **op,
                                                                       redmoon_error *err);

/** Counted since the cache was made; the same, over all caches of the client, are in redmoon_client_metrics. */
typedef struct redmoon_cache_stats {
  uint64_t hits;         /**< served fresh, values and known absences */
  uint64_t stale;        /**< served stale */
  uint64_t misses;       /**< nothing was there to be served at first */
  uint64_t loads;        /**< with the lease, values and absences */
  uint64_t early;        /**< of the loads: begun before the end of the ttl */
  uint64_t failures;     /**< loads that failed */
  uint64_t waits;        /**< keys whose load by another was waited for */
  uint64_t lost;         /**< loads that stored nothing because their lease was over or void, or a tag of theirs had ended */
  uint64_t invalidated;  /**< entries that were found to have ended by a tag */
  uint64_t undecodable;  /**< entries that were no entries, or not of their key, or could not be decoded */
  uint64_t too_large;    /**< values that were not stored because of their size */
  uint64_t unavailable;  /**< keys for which Redis failed */
  uint64_t fallbacks;    /**< loads without a lease */
  uint64_t unstored;     /**< loads that stored nothing because Redis failed */
} redmoon_cache_stats;
REDMOON_API void redmoon_cache_get_stats(const redmoon_cache *cache, redmoon_cache_stats *out);

#ifdef __cplusplus
}
#endif
#endif
