/* SPDX-License-Identifier: MIT */
/* libFuzzer: whatever is stored under a cache's key, it is an entry or it is none; and what was written is read. */
#include "base/alloc.h"
#include "base/random.h"
#include "patterns/cache.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "property does not hold: %s\n", what);
  abort();
}

static const redmoon_bytes key = {"redmoon:{k}:c.cache", 19};

static int read_it(const void *bytes, size_t len, const rm_secret *seal, rm_entry *entry, size_t room) {
  unsigned char *opened;
  int status = rm_entry_read((redmoon_bytes){bytes, len}, key, 0, seal, entry, &opened);
  require(status == 0 || status == REDMOON_ECODEC, "an entry, or none");
  if (status == 0) require(entry->len <= room && entry->soft_ms <= entry->hard_ms, "its parts fit");
  if (status != 0) require(opened == NULL, "nothing is left over");
  rm_free(opened);
  return status;
}

/* One that was written from the input, and then changed by it. */
static void write_and_change(const uint8_t *data, size_t size, const rm_secret *seal) {
  rm_entry entry = {false, 0, data[0], (int64_t)data[0] + data[1] + 1, data[2], data + 8, size - 8}, got;
  size_t len = rm_entry_size(entry.len, seal), at = (size_t)(data[3] << 8 | data[4]) % len;
  unsigned char *bytes = malloc(len);
  require(bytes != NULL, "memory");
  rm_entry_write(&entry, key, seal, bytes);
  require(read_it(bytes, len, seal, &got, size) == 0, "what was written is read");
  require(got.soft_ms == entry.soft_ms && got.hard_ms == entry.hard_ms && got.len == entry.len, "and is the same");
  bytes[at] ^= data[5];
  require(read_it(bytes, len, seal, &got, size) == (data[5] == 0 ? 0 : REDMOON_ECODEC), "what was changed is none");
  free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const rm_secret open_seal;
  static rm_secret seal;
  if (seal.bytes == NULL)
    require(rm_random_init() == 0 && rm_secret_set(&seal, "0123456789abcdef0123456789abcdef", 32) == 0, "a key");
  rm_entry entry;
  (void)read_it(data, size, &open_seal, &entry, size);
  (void)read_it(data, size, &seal, &entry, size);
  if (size < 8) return 0;
  write_and_change(data, size, &open_seal);
  write_and_change(data, size, &seal);
  return 0;
}
