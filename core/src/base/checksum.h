/* SPDX-License-Identifier: MIT */
/** XXH64, as its specification has it (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md): finds accidents, at the
 *  speed of memory.  It is no protection: whoever changes the bytes can change the sum. */
#ifndef RM_BASE_CHECKSUM_H
#define RM_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/** `ptr` may be NULL when `len` is 0.  The same on every machine. */
uint64_t rm_checksum(const void *ptr, size_t len, uint64_t seed);

#endif
