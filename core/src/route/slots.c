/* SPDX-License-Identifier: MIT */
/* The slot of a key. */
#include "route/slots.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The remainders of the sixteen values of a nibble by x^16 + x^12 + x^5 + 1: small enough to stay in the cache. */
static const uint16_t remainders[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};

void rm_slot_tag(const void **ptr, size_t *len) {
  const char *key = *ptr;
  const char *open = *len > 0 ? memchr(key, '{', *len) : NULL;
  if (open == NULL) return;
  const char *begin = open + 1, *end = key + *len;
  const char *close = begin < end ? memchr(begin, '}', (size_t)(end - begin)) : NULL;
  if (close == NULL || close == begin) return;
  *ptr = begin;
  *len = (size_t)(close - begin);
}

uint16_t rm_slot_of(const void *key, size_t len) {
  rm_slot_tag(&key, &len);
  const unsigned char *at = key;
  unsigned crc = 0;
  for (size_t i = 0; i < len; i++) {
    crc = (crc << 4 & 0xffff) ^ remainders[(crc >> 12 ^ at[i] >> 4) & 15];
    crc = (crc << 4 & 0xffff) ^ remainders[(crc >> 12 ^ at[i]) & 15];
  }
  return (uint16_t)(crc % RM_SLOTS);
}

void rm_slot_tag_for(uint16_t slot, const void *key, size_t len, char out[RM_SLOT_TAG_MAX + 1]) {
  rm_slot_tag(&key, &len);
  bool usable = len > 0 && len <= RM_SLOT_TAG_MAX && memchr(key, '}', len) == NULL && memchr(key, '\0', len) == NULL;
  if (usable) {
    memcpy(out, key, len);
    out[len] = '\0';
    return;
  }
  for (unsigned number = 0;; number++) { /* one in 16,384 has the slot */
    int digits = snprintf(out, RM_SLOT_TAG_MAX + 1, "%x", number);
    if (rm_slot_of(out, (size_t)digits) == slot) return;
  }
}
