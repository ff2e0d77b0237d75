/* SPDX-License-Identifier: MIT */
/** Rate limits: so many units for each key in each window, over all processes, by the server's clock.
 *
 *  Most units in any window of that length, whatever the arrivals, for a limit of 100:
 *
 *      "sliding_log"     100   exact; a list of server microseconds, so memory grows with the limit
 *      "buckets"         100   strict; counts in `buckets` parts of a window, refuses up to one part longer than needed
 *      "gcra"            199   a bucket of `burst` units (here 100) that fills at limit / window: burst + limit - 1
 *      "sliding_window"  199   two counters, the older one weighed
 *      "fixed_window"    200   one counter (199 when windows start with their first unit)
 *
 *  A refusal or a peek changes nothing. */
#ifndef REDMOON_RATE_LIMITER_H
#define REDMOON_RATE_LIMITER_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable after redmoon_rate_limiter_new (its deny cache is internally locked); share it freely. */
typedef struct redmoon_rate_limiter redmoon_rate_limiter;

typedef struct redmoon_rate_limiter_options {
  const char *algorithm; /**< "sliding_log"; or "buckets", "fixed_window", "gcra", "sliding_window" */
  int64_t limit;         /**< units per window, 1 to 1,000,000,000 (sliding_log: 100,000) */
  int64_t window_ms;     /**< 1 ms to 366 days */
  const char *name;      /**< "rl"; limiters of different name do not share keys */
  int64_t burst;         /**< gcra: most units at one instant; the limit */
  const char *calendar;  /**< fixed_window: "minute", "hour" or "day" of UTC, which is the window too; else a window
                            starts with its first unit */
  int64_t buckets;       /**< buckets: 10; how many parts a window has, 1 to 60 */
  const char *on_error;  /**< "error"; what allow, allow_many and wait say when Redis fails: "allow" or "deny" it, with
                            source "error" */
  int64_t deny_cache;    /**< 0; 1: a refused key is refused here, without a request, until its retry_after */
} redmoon_rate_limiter_options;
#define REDMOON_RATE_LIMITER_OPTIONS_INIT \
  {0, REDMOON_UNSET, REDMOON_UNSET, 0, REDMOON_UNSET, 0, REDMOON_UNSET, 0, REDMOON_UNSET}

/** `retry_after_us` of a request that can never be allowed. */
#define REDMOON_NEVER (INT64_MAX)

typedef struct redmoon_rate_request {
  int64_t cost;           /**< 1; units, 1 to 1,000,000,000 (sliding_log: 1,000) */
  int partial;            /**< 0; 1: grants what is free, up to the cost; refused only when nothing is */
  const char *request_id; /**< NULL; a repetition with the same id gets the answer of the first, for 10 minutes: 1 to
                             128 letters, digits, '.', '_' and '-' */
} redmoon_rate_request;
#define REDMOON_RATE_REQUEST_INIT {1, 0, 0}

typedef struct redmoon_rate_result {
  int allowed;            /**< something was granted (peek: one unit would be) */
  int64_t limit;
  int64_t remaining;      /**< units left now */
  int64_t retry_after_us; /**< until this request would be allowed; 0 when it was; REDMOON_NEVER: it never fits */
  int64_t reset_after_us; /**< until all is free again */
  int64_t granted;        /**< units taken (refund: given back); 0 when refused */
  size_t policy;          /**< of several limits: position of the one that bound, else of the one with least left */
  const char *source;     /**< "server"; "local": the deny cache; "error": Redis failed.  Static */
} redmoon_rate_result;

REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_new(redmoon_client *client,
                                                            const redmoon_rate_limiter_options *options,
                                                            redmoon_rate_limiter **out, redmoon_error *err);
/** Takes the units of `request` (NULL: one) from `key`, 1 to 512 bytes, if they are free.  Repeated after a lost answer
 *  only with a request_id.  With on_error "allow" or "deny" a failure of Redis is a result of source "error", status 0,
 *  and `err` tells what it was. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow(redmoon_rate_limiter *limiter, const void *key,
                                                              size_t key_len, const redmoon_rate_request *request,
                                                              redmoon_rate_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow_start(redmoon_rate_limiter *limiter, const void *key,
                                                                    size_t key_len,
                                                                    const redmoon_rate_request *request,
                                                                    redmoon_rate_result *out, redmoon_op **op,
                                                                    redmoon_error *err);
/** As allow, but when refused it sleeps until retry_after and asks again, for `timeout_ms` (>= 0) at most.  A refusal
 *  that cannot end in that time is the answer at once.  Each request has the client's timeout besides. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_wait(redmoon_rate_limiter *limiter, const void *key,
                                                             size_t key_len, const redmoon_rate_request *request,
                                                             int64_t timeout_ms, redmoon_rate_result *out,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_wait_start(redmoon_rate_limiter *limiter, const void *key,
                                                                   size_t key_len,
                                                                   const redmoon_rate_request *request,
                                                                   int64_t timeout_ms, redmoon_rate_result *out,
                                                                   redmoon_op **op, redmoon_error *err);

/** One decision of many. */
typedef struct redmoon_rate_item {
  const void *key;
  size_t key_len;
  redmoon_rate_request request;
} redmoon_rate_item;
/** Decides 1 to 1,000 items, each by itself, in one round trip.  `out`: `count` results.  Negative when one of them
 *  failed: `err` is of the first, and `out[i].source` is NULL for each that failed; the others are valid.  `errors`
 *  (NULL, or `count`) tells each one's own.  When the call could not begin nothing is written. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow_many(redmoon_rate_limiter *limiter,
                                                                   const redmoon_rate_item *items, size_t count,
                                                                   redmoon_rate_result *out, redmoon_error *errors,
                                                                   redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow_many_start(redmoon_rate_limiter *limiter,
                                                                         const redmoon_rate_item *items,
                                                                         size_t count, redmoon_rate_result *out,
                                                                         redmoon_error *errors, redmoon_op **op,
                                                                         redmoon_error *err);
/** What allow(cost 1) would answer; writes nothing. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_peek(redmoon_rate_limiter *limiter, const void *key,
                                                             size_t key_len, redmoon_rate_result *out,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_peek_start(redmoon_rate_limiter *limiter, const void *key,
                                                                   size_t key_len, redmoon_rate_result *out,
                                                                   redmoon_op **op, redmoon_error *err);
/** Gives `units` (1 to 1,000,000,000) back, as many as are in use at most: out->granted tells.  They are taken to be
 *  the oldest ones, so that no window ever holds more than was meant.  `request_id`: NULL, or as in an allow. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_refund(redmoon_rate_limiter *limiter, const void *key,
                                                               size_t key_len, int64_t units,
                                                               const char *request_id, redmoon_rate_result *out,
                                                               redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_refund_start(redmoon_rate_limiter *limiter, const void *key,
                                                                     size_t key_len, int64_t units,
                                                                     const char *request_id,
                                                                     redmoon_rate_result *out, redmoon_op **op,
                                                                     redmoon_error *err);
/** Forgets what `key` used. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_reset(redmoon_rate_limiter *limiter, const void *key,
                                                              size_t key_len, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_reset_start(redmoon_rate_limiter *limiter, const void *key,
                                                                    size_t key_len, redmoon_op **op,
                                                                    redmoon_error *err);
/** NULL is allowed.  Operations under way and sets of limits keep what they need. */
REDMOON_API void redmoon_rate_limiter_free(redmoon_rate_limiter *limiter);

/** Several limits that decide together, all or none.  Thread class: immutable; share it freely. */
typedef struct redmoon_rate_limits redmoon_rate_limits;

/** Of 1 to 8 limiters of one client, with different names.  They may be freed before the set. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limits_new(redmoon_rate_limiter *const *limiters, size_t count,
                                                           redmoon_rate_limits **out, redmoon_error *err);
/** As redmoon_rate_limiter_allow, in one script call under all limits; out->policy tells which one bound.  The
 *  strictest on_error among them holds ("error", then "deny"); deny caches are not asked. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limits_allow(redmoon_rate_limits *limits, const void *key,
                                                             size_t key_len, const redmoon_rate_request *request,
                                                             redmoon_rate_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limits_allow_start(redmoon_rate_limits *limits, const void *key,
                                                                   size_t key_len,
                                                                   const redmoon_rate_request *request,
                                                                   redmoon_rate_result *out, redmoon_op **op,
                                                                   redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_rate_limits_free(redmoon_rate_limits *limits);

#ifdef __cplusplus
}
#endif
#endif
