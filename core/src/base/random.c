/* SPDX-License-Identifier: MIT */
/* Randomness from libsodium. */
#include "base/random.h"

#include <redmoon/error.h>
#include <sodium.h>

int rm_random_init(void) { return sodium_init() < 0 ? REDMOON_EUNAVAILABLE : 0; }

void rm_random_hex(char *out, size_t bytes) {
  unsigned char raw[64];
  while (bytes > 0) {
    size_t n = bytes < sizeof raw ? bytes : sizeof raw;
    randombytes_buf(raw, n);
    sodium_bin2hex(out, 2 * n + 1, raw, n);
    out += 2 * n;
    bytes -= n;
  }
  sodium_memzero(raw, sizeof raw);
}

void rm_random_store_hex(rm_random_store *store, char *out, size_t bytes) {
  if (bytes > sizeof store->bytes || atomic_exchange(&store->busy, true)) {
    rm_random_hex(out, bytes); /* rather than wait */
    return;
  }
  if (store->left < bytes) {
    randombytes_buf(store->bytes, sizeof store->bytes);
    store->left = sizeof store->bytes;
  }
  store->left -= bytes;
  sodium_bin2hex(out, 2 * bytes + 1, store->bytes + store->left, bytes);
  sodium_memzero(store->bytes + store->left, bytes);
  atomic_store(&store->busy, false);
}

void rm_random_store_forked(rm_random_store *store) {
  store->left = 0;
  sodium_memzero(store->bytes, sizeof store->bytes);
  atomic_store(&store->busy, false);
}

int64_t rm_random_upto(int64_t bound) {
  if (bound <= 0) return 0;
  if (bound < UINT32_MAX) return (int64_t)randombytes_uniform((uint32_t)bound + 1);
  uint64_t range = (uint64_t)bound + 1;
  uint64_t floor = (0 - range) % range; /* draws below it would favour small results */
  for (;;) {
    uint64_t draw;
    randombytes_buf(&draw, sizeof draw);
    if (draw >= floor) return (int64_t)(draw % range);
  }
}
