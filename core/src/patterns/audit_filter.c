/* SPDX-License-Identifier: MIT */
/* Which keys were seen before, in a bounded number of bits; and which keys are sampled. */
#include "patterns/audit.h"

#include "base/alloc.h"

#include <math.h>
#include <redmoon/error.h>
#include <sodium.h>
#include <string.h>

static uint64_t hash(const void *key, size_t len, int64_t seed, unsigned char role) {
  unsigned char secret[crypto_shorthash_KEYBYTES] = {'r', 'e', 'd', 'm', 'o', 'o', 'n', role}, out[crypto_shorthash_BYTES];
  for (int i = 0; i < 8; i++) secret[8 + i] = (unsigned char)((uint64_t)seed >> (8 * i));
  crypto_shorthash(out, key, len, secret);
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value |= (uint64_t)out[i] << (8 * i);
  return value;
}

/* The same for the same seed, in every process: what was interrupted goes on as it would have. */
rm_audit_hash rm_audit_hash_key(const void *key, size_t len, int64_t seed) {
  return (rm_audit_hash){hash(key, len, seed, 1), hash(key, len, seed, 2) | 1, hash(key, len, seed, 3)};
}

int rm_audit_filter_init(rm_audit_filter *filter, size_t size) {
  *filter = (rm_audit_filter){0};
  if (size == 0) return 0;
  filter->bytes = rm_calloc(size, 1);
  if (filter->bytes == NULL) return REDMOON_ENOMEM;
  filter->size = size;
  return 0;
}

void rm_audit_filter_fini(rm_audit_filter *filter) {
  rm_free(filter->bytes);
  *filter = (rm_audit_filter){0};
}

/* The i-th bit of a key.  Plain double hashing, first + i * step, errs several times as often as independent bits when the
 * filter is small; so the sum is mixed (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). */
static uint64_t bit_of(const rm_audit_filter *filter, rm_audit_hash hash, uint64_t i) {
  uint64_t z = hash.first + i * hash.step;
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (z ^ (z >> 31)) % (filter->size * 8);
}

bool rm_audit_filter_has(const rm_audit_filter *filter, rm_audit_hash hash) {
  if (filter->bytes == NULL) return false;
  for (uint64_t i = 0; i < RM_AUDIT_HASHES; i++) {
    uint64_t bit = bit_of(filter, hash, i);
    if ((filter->bytes[bit / 8] >> (bit % 8) & 1) == 0) return false;
  }
  return true;
}

void rm_audit_filter_add(rm_audit_filter *filter, rm_audit_hash hash) {
  if (filter->bytes == NULL) {
    filter->unfiltered++;
    return;
  }
  double fill = (double)filter->set / ((double)filter->size * 8);
  filter->expected += pow(fill, RM_AUDIT_HASHES);
  if (fill >= 0.5) {
    filter->unfiltered++;
    return;
  }
  for (uint64_t i = 0; i < RM_AUDIT_HASHES; i++) {
    uint64_t bit = bit_of(filter, hash, i);
    unsigned char mask = (unsigned char)(1u << (bit % 8));
    if ((filter->bytes[bit / 8] & mask) == 0) filter->set++;
    filter->bytes[bit / 8] |= mask;
  }
}

/* The tail of the Poisson distribution. */
int64_t rm_audit_filter_false(const rm_audit_filter *filter, int64_t repeats) {
  double mean = filter->expected, bound;
  if (mean > 500) {
    bound = ceil(mean + 5 * sqrt(mean));
  } else {
    double term = exp(-mean), left = 1 - term;
    for (bound = 0; left > 1e-6 && bound < 1000; left -= term) term *= mean / ++bound;
  }
  return bound < (double)repeats ? (int64_t)bound : repeats;
}
