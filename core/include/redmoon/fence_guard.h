/* SPDX-License-Identifier: MIT */
/** The other half of a lock: a resource that refuses fences older than the newest it has seen. */
#ifndef REDMOON_FENCE_GUARD_H
#define REDMOON_FENCE_GUARD_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Accepts `fence` (1 to 2^53 - 1) unless `resource` (1 to 512 bytes) has seen a higher one in the last 30 days,
 * and remembers it.  *accepted becomes 1 or 0; a refusal is no error and changes nothing.  Internally locked. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_fence_guard(redmoon_client *client, const void *resource,
                                                       size_t resource_len, int64_t fence, int *accepted,
                                                       redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_fence_guard_start(redmoon_client *client, const void *resource,
                                                             size_t resource_len, int64_t fence, int *accepted,
                                                             redmoon_op **op, redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
