/* SPDX-License-Identifier: MIT */
/** SCAN, HSCAN, SSCAN and ZSCAN as iterators.  An element that stays from start to end is seen at least once; one may
 *  be seen twice (https://redis.io/docs/latest/commands/scan/). */
#ifndef REDMOON_SCAN_H
#define REDMOON_SCAN_H

#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_scan redmoon_scan;

typedef enum redmoon_scan_kind { REDMOON_SCAN_KEYS, REDMOON_SCAN_HASH, REDMOON_SCAN_SET, REDMOON_SCAN_ZSET } redmoon_scan_kind;

typedef struct redmoon_scan_options {
  const char *match; /**< glob; NULL: all */
  int64_t count;     /**< hint of work per round trip; REDMOON_UNSET: the server's */
  const char *type;  /**< of keys only; NULL: all */
} redmoon_scan_options;
#define REDMOON_SCAN_OPTIONS_INIT {0, REDMOON_UNSET, 0}

/** `key` is ignored for REDMOON_SCAN_KEYS.  *out is owned by the caller (redmoon_scan_free).  No I/O. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_scan_new(redmoon_client *client, redmoon_scan_kind kind,
                                                    const void *key, size_t key_len,
                                                    const redmoon_scan_options *options, redmoon_scan **out,
                                                    redmoon_error *err);
/** Next page: *page is an ARRAY of elements (HASH and ZSET: flat, member and value in turn), perhaps empty, owned by
 *  the caller; *page is NULL with 0 at the end. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_scan_next(redmoon_scan *scan, redmoon_reply **page, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_scan_next_start(redmoon_scan *scan, redmoon_reply **page, redmoon_op **op,
                                                           redmoon_error *err);
REDMOON_API void redmoon_scan_free(redmoon_scan *scan);

#ifdef __cplusplus
}
#endif
#endif
