/* SPDX-License-Identifier: MIT */
/* libFuzzer: whatever is stored under a cache's key, it is an entry or it is none; what was written is read; and whatever a
 * compressed value is, it is one within the limit or none. */
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
  if (status == 0) require(entry->tag_count <= REDMOON_CACHE_TAGS_MAX, "and its tags");
  if (status != 0) require(opened == NULL, "nothing is left over");
  rm_free(opened);
  return status;
}

/* One that was written from the input, and then changed by it. */
static void write_and_change(const uint8_t *data, size_t size, const rm_secret *seal) {
  size_t tag_count = data[6] % 4; /* of the end of the input, if it has them */
  if (tag_count * RM_TAG_SIZE > size - 8) tag_count = 0;
  size_t room = size - 8 - tag_count * RM_TAG_SIZE;
  rm_entry entry = {false, 0, data[0], (int64_t)data[0] + data[1] + 1, data[2], data + 8, room,
                    tag_count > 0 ? data + 8 + room : NULL, tag_count, data[7] % 2 == 1}, got;
  size_t len = rm_entry_size(&entry, seal), at = (size_t)(data[3] << 8 | data[4]) % len;
  unsigned char *bytes = malloc(len);
  require(bytes != NULL, "memory");
  rm_entry_write(&entry, key, seal, bytes);
  require(read_it(bytes, len, seal, &got, size) == 0, "what was written is read");
  require(got.soft_ms == entry.soft_ms && got.hard_ms == entry.hard_ms && got.len == entry.len, "and is the same");
  require(got.tag_count == tag_count && got.packed == entry.packed, "and so are its tags");
  bytes[at] ^= data[5];
  require(read_it(bytes, len, seal, &got, size) == (data[5] == 0 ? 0 : REDMOON_ECODEC), "what was changed is none");
  free(bytes);
}

/* As a frame, as one behind the right first bytes, and packed and unpacked. */
static void pack_and_unpack(const uint8_t *data, size_t size) {
  enum { MOST = 100000 };
  static rm_packer packer;
  unsigned char *out, *packed;
  size_t len, packed_len;
  int status = rm_unpack(&packer, data, size, MOST, &out, &len);
  require(status == 0 ? len <= MOST : status == REDMOON_ECODEC && out == NULL, "a value within the limit, or none");
  rm_free(out);
  unsigned char *frame = malloc(size + 4);
  require(frame != NULL, "memory");
  memcpy(frame, "\x28\xB5\x2F\xFD", 4);
  if (size > 0) memcpy(frame + 4, data, size);
  status = rm_unpack(&packer, frame, size + 4, MOST, &out, &len);
  require(status == 0 ? len <= MOST : status == REDMOON_ECODEC && out == NULL, "a value within the limit, or none");
  rm_free(out);
  free(frame);
  if (rm_pack(&packer, data, size, &packed, &packed_len) != 1) return;
  require(rm_unpack(&packer, packed, packed_len, (int64_t)size, &out, &len) == 0, "what was packed is unpacked");
  require(len == size && memcmp(out, data, size) == 0, "and is the same");
  rm_free(out);
  rm_free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const rm_secret open_seal;
  static rm_secret seal;
  if (seal.bytes == NULL)
    require(rm_random_init() == 0 && rm_secret_set(&seal, "0123456789abcdef0123456789abcdef", 32) == 0, "a key");
  rm_entry entry;
  (void)read_it(data, size, &open_seal, &entry, size);
  (void)read_it(data, size, &seal, &entry, size);
  pack_and_unpack(data, size);
  if (size < 8) return 0;
  write_and_change(data, size, &open_seal);
  write_and_change(data, size, &seal);
  return 0;
}
