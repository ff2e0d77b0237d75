/* SPDX-License-Identifier: MIT */
/* XXH64: four lanes of eight bytes each, then what is left, then every bit spread over all. */
#include "base/checksum.h"

#define P1 UINT64_C(0x9E3779B185EBCA87)
#define P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P3 UINT64_C(0x165667B19E3779F9)
#define P4 UINT64_C(0x85EBCA77C2B2AE63)
#define P5 UINT64_C(0x27D4EB2F165667C5)

static inline uint64_t turn(uint64_t x, unsigned bits) { return x << bits | x >> (64 - bits); }

/* Little-endian; compilers make one load of it. */
static inline uint64_t read4(const unsigned char *at) {
  return at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24;
}
static inline uint64_t read8(const unsigned char *at) {
  return read4(at) | (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56;
}

static inline uint64_t mix(uint64_t lane, uint64_t input) { return turn(lane + input * P2, 31) * P1; }
static inline uint64_t merge(uint64_t sum, uint64_t lane) { return (sum ^ mix(0, lane)) * P1 + P4; }

/* Whole stripes of 32 bytes, from *at to its last one. */
static uint64_t stripes(const unsigned char **at, size_t count, uint64_t seed) {
  uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
  const unsigned char *p = *at;
  for (; count > 0; count--, p += 32) {
    a = mix(a, read8(p));
    b = mix(b, read8(p + 8));
    c = mix(c, read8(p + 16));
    d = mix(d, read8(p + 24));
  }
  *at = p;
  return merge(merge(merge(merge(turn(a, 1) + turn(b, 7) + turn(c, 12) + turn(d, 18), a), b), c), d);
}

uint64_t rm_checksum(const void *ptr, size_t len, uint64_t seed) {
  const unsigned char *at = ptr;
  uint64_t sum = len >= 32 ? stripes(&at, len / 32, seed) : seed + P5;
  sum += len;
  size_t left = len % 32;
  for (; left >= 8; left -= 8, at += 8) sum = turn(sum ^ mix(0, read8(at)), 27) * P1 + P4;
  if (left >= 4) {
    sum = turn(sum ^ read4(at) * P1, 23) * P2 + P3;
    left -= 4;
    at += 4;
  }
  for (; left > 0; left--, at++) sum = turn(sum ^ *at * P5, 11) * P1;
  sum = (sum ^ sum >> 33) * P2;
  sum = (sum ^ sum >> 29) * P3;
  return sum ^ sum >> 32;
}
