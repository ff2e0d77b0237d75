/* SPDX-License-Identifier: MIT */
/** Bytes that must not be left behind: locked, guarded, excluded from core dumps, wiped when freed (sodium_malloc).
 *  Where memory cannot be locked (RLIMIT_MEMLOCK) they are still guarded and wiped. */
#ifndef RM_BASE_SECRET_H
#define RM_BASE_SECRET_H

#include <stddef.h>

typedef struct rm_secret {
  char *bytes; /* NUL-ended; NULL: none */
  size_t len;
} rm_secret;

/** Replaces the content by a copy.  0 or REDMOON_ENOMEM (content unchanged). */
int rm_secret_set(rm_secret *secret, const void *ptr, size_t len);
/** Replaces the content by `len` zero bytes to be filled in. */
int rm_secret_resize(rm_secret *secret, size_t len);
void rm_secret_fini(rm_secret *secret);
/** Overwrites memory that held a secret for a moment. */
void rm_wipe(void *ptr, size_t len);

#endif
