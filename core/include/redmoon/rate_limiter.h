/* SPDX-License-Identifier: MIT */
/** Rate limits.  "sliding_log": exact, never more than `limit` in any window, by a list of server microseconds. */
#ifndef REDMOON_RATE_LIMITER_H
#define REDMOON_RATE_LIMITER_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable after redmoon_rate_limiter_new; share it freely. */
typedef struct redmoon_rate_limiter redmoon_rate_limiter;

typedef struct redmoon_rate_limiter_options {
  const char *algorithm; /**< "sliding_log" */
  int64_t limit;         /**< units per window, 1 to 100,000 */
  int64_t window_ms;     /**< 1 ms to 366 days */
  const char *name;      /**< "rl"; limiters of different name do not share keys */
} redmoon_rate_limiter_options;
#define REDMOON_RATE_LIMITER_OPTIONS_INIT {0, REDMOON_UNSET, REDMOON_UNSET, 0}

/** `retry_after_us` of a request that can never be allowed. */
#define REDMOON_NEVER (INT64_MAX)

typedef struct redmoon_rate_result {
  int allowed;
  int64_t limit;
  int64_t remaining;      /**< units left now */
  int64_t retry_after_us; /**< until this cost would be allowed; 0 when it was; REDMOON_NEVER when cost > limit */
  int64_t reset_after_us; /**< until the whole limit is free again */
} redmoon_rate_result;

REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_new(redmoon_client *client,
                                                            const redmoon_rate_limiter_options *options,
                                                            redmoon_rate_limiter **out, redmoon_error *err);
/** Takes `cost` units (1 to 1,000) of `key` if they are free; a refusal changes nothing. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow(redmoon_rate_limiter *limiter, const void *key,
                                                              size_t key_len, int64_t cost,
                                                              redmoon_rate_result *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_allow_start(redmoon_rate_limiter *limiter, const void *key,
                                                                    size_t key_len, int64_t cost,
                                                                    redmoon_rate_result *out, redmoon_op **op,
                                                                    redmoon_error *err);
/** What allow(cost 1) would answer; writes nothing. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_peek(redmoon_rate_limiter *limiter, const void *key,
                                                             size_t key_len, redmoon_rate_result *out,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_peek_start(redmoon_rate_limiter *limiter, const void *key,
                                                                   size_t key_len, redmoon_rate_result *out,
                                                                   redmoon_op **op, redmoon_error *err);
/** Forgets what `key` used. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_reset(redmoon_rate_limiter *limiter, const void *key,
                                                              size_t key_len, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rate_limiter_reset_start(redmoon_rate_limiter *limiter, const void *key,
                                                                    size_t key_len, redmoon_op **op,
                                                                    redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_rate_limiter_free(redmoon_rate_limiter *limiter);

#ifdef __cplusplus
}
#endif
#endif
