/* SPDX-License-Identifier: MIT */
/** Counters: exact signed 64-bit values that end with a window or a period of the calendar, and keep to bounds.
 *
 *  What a key counts and when that ends is decided on the server, by its clock, in one step. */
#ifndef REDMOON_COUNTER_H
#define REDMOON_COUNTER_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable after redmoon_counter_new; share it freely. */
typedef struct redmoon_counter redmoon_counter;

/** When a count ends is said by one of `window_ms`, `calendar` and `ttl_ms`; by none: never, and its keys have no TTL. */
typedef struct redmoon_counter_options {
  int64_t window_ms;    /**< 1 ms to 366 days */
  const char *mode;     /**< of the window: "window" (default) begins with the first count and is not moved by later
                             ones; "sliding" ends this long after the last count */
  const char *calendar; /**< "minute", "hour", "day" or "month", of UTC: the count begins anew with each */
  int64_t ttl_ms;       /**< 1 ms to 366 days: the same as a sliding window */
  int64_t min;          /**< lowest value; without a bound, a sum below -2^63 is an error, code OVERFLOW */
  int64_t max;          /**< highest value; without a bound, a sum above 2^63 - 1 is an error, code OVERFLOW */
  int64_t saturate;     /**< 0: what is out of bounds changes nothing; 1: as much of it is counted as they let through */
} redmoon_counter_options;
#define REDMOON_COUNTER_OPTIONS_INIT {REDMOON_UNSET, 0, 0, REDMOON_UNSET, INT64_MIN, INT64_MAX, 0}

typedef struct redmoon_counter_result {
  int status;      /**< 0; of redmoon_counter_increment_many: how this one ended */
  int exists;      /**< 1: something is counted; 0: nothing is, or not any more, and value is 0 */
  int64_t value;   /**< after the call */
  int64_t applied; /**< how much of `by` was counted: 0 for what was refused */
  int64_t ttl_ms;  /**< until the count ends, rounded up in a calendar; -1: never; 0 when nothing is counted */
} redmoon_counter_result;

/** `name`: 1 to 64 letters, digits, '.', '_' and '-'; counters of different name share nothing.  `options` NULL: the
 *  defaults.  *out is owned by the caller (redmoon_counter_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_new(redmoon_client *client, const char *name,
                                                       const redmoon_counter_options *options, redmoon_counter **out,
                                                       redmoon_error *err);
/** Counts `by`, which may be negative; 0 reads.  `key`: 1 to 512 bytes.  What was refused changed neither value nor
 *  TTL.  `request_id` (NULL: none; else 1 to 128 letters, digits, '.', '_' and '-'): within 10 minutes the same request
 *  is counted once, however often it is made, and is answered as the first time; so it is also sent again when its answer
 *  was lost.  Code OVERFLOW (REDMOON_ESERVER): the result would be no 64-bit integer; nothing was changed. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_increment(redmoon_counter *counter, const void *key, size_t key_len,
                                                             int64_t by, const char *request_id,
                                                             redmoon_counter_result *out, redmoon_error *err);
/** `key` and `request_id` are copied; *out is written by redmoon_op_finish. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_increment_start(redmoon_counter *counter, const void *key,
                                                                   size_t key_len, int64_t by, const char *request_id,
                                                                   redmoon_counter_result *out, redmoon_op **op,
                                                                   redmoon_error *err);

/** One of many. */
typedef struct redmoon_counter_item {
  const void *key;
  size_t key_len;
  int64_t by;
  const char *request_id; /**< NULL: none */
} redmoon_counter_item;
#define REDMOON_COUNTER_MANY_MAX 500

/** Counts 1 to 500 items in one round trip, in their order, each for itself: others count between them, and one that
 *  fails stops no other.  results[i].status says how item i ended, and errors[i] (`errors` NULL: nobody wants to know)
 *  why.  0: all were answered.  Negative: the connection failed; what was answered before is kept, and errors[i].outcome
 *  says what is known of the others.  An item that is not acceptable (CONFIG) fails all, and nothing is sent. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_increment_many(redmoon_counter *counter,
                                                                  const redmoon_counter_item *items, size_t count,
                                                                  redmoon_counter_result *results,
                                                                  redmoon_error *errors, redmoon_error *err);
/** The items are copied; `results` and `errors` are written by redmoon_op_finish, if the operation had ended. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_increment_many_start(redmoon_counter *counter,
                                                                        const redmoon_counter_item *items,
                                                                        size_t count, redmoon_counter_result *results,
                                                                        redmoon_error *errors, redmoon_op **op,
                                                                        redmoon_error *err);
/** What `key` counts now; writes nothing. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_get(redmoon_counter *counter, const void *key, size_t key_len,
                                                       redmoon_counter_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_get_start(redmoon_counter *counter, const void *key,
                                                             size_t key_len, redmoon_counter_result *out,
                                                             redmoon_op **op, redmoon_error *err);
/** Forgets what `key` counted; a count in a window begins anew. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_reset(redmoon_counter *counter, const void *key, size_t key_len,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_counter_reset_start(redmoon_counter *counter, const void *key,
                                                               size_t key_len, redmoon_op **op, redmoon_error *err);
/** Operations that were started go on.  NULL is allowed. */
REDMOON_API void redmoon_counter_free(redmoon_counter *counter);

#ifdef __cplusplus
}
#endif
#endif
