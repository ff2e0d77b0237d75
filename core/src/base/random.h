/* SPDX-License-Identifier: MIT */
/** Randomness, all of it from libsodium. */
#ifndef RM_BASE_RANDOM_H
#define RM_BASE_RANDOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Makes libsodium ready; safe from any thread, any number of times.  Returns 0 or REDMOON_EUNAVAILABLE. */
int rm_random_init(void);
/** 2 * bytes lower-case hex digits of fresh random bytes, and a NUL: `out` holds 2 * bytes + 1. */
void rm_random_hex(char *out, size_t bytes);

/** Random bytes that were drawn ahead, so that not every small draw is a system call.  Zeroed: empty.  Internally locked. */
typedef struct rm_random_store {
  atomic_bool busy;
  size_t left; /* of `bytes`, from its begin */
  unsigned char bytes[256];
} rm_random_store;
/** As rm_random_hex.  What was given out is wiped from the store. */
void rm_random_store_hex(rm_random_store *store, char *out, size_t bytes);
/** Empties it, whoever uses it: for a forked child, which must not give out what its parent will. */
void rm_random_store_forked(rm_random_store *store);

/** Uniform in [0, bound]; 0 for bound <= 0. */
int64_t rm_random_upto(int64_t bound);

#endif
