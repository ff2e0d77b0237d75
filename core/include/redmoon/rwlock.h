/* SPDX-License-Identifier: MIT */
/** Read-write locks: many readers or one writer, each with a lease.  A writer that waits keeps new readers out. */
#ifndef REDMOON_RWLOCK_H
#define REDMOON_RWLOCK_H

#include <redmoon/permit.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One owner's face of the lock: who holds it may take it again.  Thread class: one thread at a time. */
typedef struct redmoon_rwlock redmoon_rwlock;

typedef struct redmoon_rwlock_options {
  int64_t ttl_ms;  /**< 10,000; the lease, 10 ms to 24 h */
  int64_t wait_ms; /**< 0; how long to wait for others, up to 24 h */
} redmoon_rwlock_options;
#define REDMOON_RWLOCK_OPTIONS_INIT                                                                                \
  { REDMOON_UNSET, REDMOON_UNSET }

/** No I/O.  `name`: 1 to 512 bytes. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rwlock_new(redmoon_client *client, const void *name, size_t name_len,
                                                      const redmoon_rwlock_options *options, redmoon_rwlock **out,
                                                      redmoon_error *err);
/** A permit to read, owned by the caller (redmoon_permit_free).  REDMOON_ELOCKED when another writes, or waits to,
 * at the end of the wait.  While this owner reads already, it is the same permit, its lease prolonged to the ttl
 * from now and not by it, to be released and freed once more; REDMOON_ELOST when that one turns out to be over. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rwlock_read(redmoon_rwlock *rwlock, redmoon_permit **out,
                                                       redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rwlock_read_start(redmoon_rwlock *rwlock, redmoon_permit **out,
                                                             redmoon_op **op, redmoon_error *err);
/** The same to write.  An owner that reads and does not write is refused at once, with REDMOON_ELOCKED: two that
 * did would wait for each other.  One that writes may read too, and may then release the writing first. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_rwlock_write(redmoon_rwlock *rwlock, redmoon_permit **out,
                                                        redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_rwlock_write_start(redmoon_rwlock *rwlock, redmoon_permit **out,
                                                              redmoon_op **op, redmoon_error *err);
/** Permits and operations stay good.  NULL is allowed. */
REDMOON_API void redmoon_rwlock_free(redmoon_rwlock *rwlock);

#ifdef __cplusplus
}
#endif
#endif
