/* SPDX-License-Identifier: MIT */
/** Randomness, all of it from libsodium. */
#ifndef RM_BASE_RANDOM_H
#define RM_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/** Makes libsodium ready; safe from any thread, any number of times.  Returns 0 or REDMOON_EUNAVAILABLE. */
int rm_random_init(void);
/** 2 * bytes lower-case hex digits of fresh random bytes, and a NUL: `out` holds 2 * bytes + 1. */
void rm_random_hex(char *out, size_t bytes);
/** Uniform in [0, bound]; 0 for bound <= 0. */
int64_t rm_random_upto(int64_t bound);

#endif
