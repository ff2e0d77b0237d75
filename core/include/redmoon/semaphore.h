/* SPDX-License-Identifier: MIT */
/** Semaphores, which also limit concurrency: at most `permits` are held at a time, each with a lease of its own. */
#ifndef REDMOON_SEMAPHORE_H
#define REDMOON_SEMAPHORE_H

#include <redmoon/permit.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable after redmoon_semaphore_new; share it freely. */
typedef struct redmoon_semaphore redmoon_semaphore;

typedef struct redmoon_semaphore_options {
  int64_t
      permits; /**< how many there are, 1 to 100,000; compared at each acquisition, so it may be changed any time */
  int64_t ttl_ms;  /**< 10,000; the lease of a permit, 10 ms to 24 h */
  int64_t wait_ms; /**< 0; how long an acquisition waits for permits, up to 24 h */
} redmoon_semaphore_options;
#define REDMOON_SEMAPHORE_OPTIONS_INIT                                                                             \
  { REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET }

/** Of one acquisition. */
typedef struct redmoon_semaphore_request {
  int64_t count;   /**< 1; permits wanted, all or none, 1 to 1,000 */
  int64_t wait_ms; /**< as the semaphore's option, instead of it */
  const char
      *request_id; /**< NULL; 1 to 128 of A-Z a-z 0-9 . _ -: a repetition in 10 minutes gets the same permit */
} redmoon_semaphore_request;
#define REDMOON_SEMAPHORE_REQUEST_INIT                                                                             \
  { REDMOON_UNSET, REDMOON_UNSET, 0 }

typedef struct redmoon_semaphore_usage {
  int64_t in_use, permits;
  int64_t retry_after_us; /**< until one is free at the latest; 0: one is */
} redmoon_semaphore_usage;

/** No I/O.  `name`: 1 to 512 bytes. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_semaphore_new(redmoon_client *client, const void *name, size_t name_len,
                                                         const redmoon_semaphore_options *options,
                                                         redmoon_semaphore **out, redmoon_error *err);
/** REDMOON_ELOCKED when so many are not free by the end of the wait, at once when there never are so many.
 *  REDMOON_ELOST when the permit of `request_id` is over.  *out is owned by the caller (redmoon_permit_free).
 *  `request` NULL: one permit.  Takes up to the wait and the client's timeout. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_semaphore_acquire(redmoon_semaphore *semaphore,
                                                             const redmoon_semaphore_request *request,
                                                             redmoon_permit **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_semaphore_acquire_start(redmoon_semaphore *semaphore,
                                                                   const redmoon_semaphore_request *request,
                                                                   redmoon_permit **out, redmoon_op **op,
                                                                   redmoon_error *err);
/** What is in use now; writes nothing to the server. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_semaphore_stats(redmoon_semaphore *semaphore,
                                                           redmoon_semaphore_usage *out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_semaphore_stats_start(redmoon_semaphore *semaphore,
                                                                 redmoon_semaphore_usage *out, redmoon_op **op,
                                                                 redmoon_error *err);
/** Permits and operations stay good.  NULL is allowed. */
REDMOON_API void redmoon_semaphore_free(redmoon_semaphore *semaphore);

#ifdef __cplusplus
}
#endif
#endif
