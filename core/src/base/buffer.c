/* SPDX-License-Identifier: MIT */
/* The growing byte buffer. */
#include "base/buffer.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <stdint.h>

/* malloc puts large blocks 16 bytes into a page, and the kernel's copies into (and out of) a socket begin at a page.
 * `rep movsb`, which it copies with, is many times slower on some processors (AMD Zen 3 and 4) when the target stands up
 * to 31 bytes behind the source, modulo 4,096. */
enum { ALIGNMENT = 64 };

int rm_buffer_grow(rm_buffer *b, size_t extra) {
  size_t len = rm_buffer_len(b);
  if (extra > SIZE_MAX / 2 - len) return REDMOON_ENOMEM;
  /* Moving is cheaper than growing when at least half of the room is consumed front. */
  if (b->head > 0 && len + extra <= b->cap && b->head >= b->cap / 2) {
    memmove(b->bytes, b->bytes + b->head, len);
  } else {
    size_t cap = b->cap < 512 ? 512 : b->cap;
    while (cap < len + extra) cap *= 2;
    char *block = rm_alloc(cap + ALIGNMENT - 1);
    if (block == NULL) return REDMOON_ENOMEM;
    char *bytes = block + (-(uintptr_t)block & (ALIGNMENT - 1));
    if (len > 0) memcpy(bytes, b->bytes + b->head, len);
    rm_free(b->block);
    b->block = block;
    b->bytes = bytes;
    b->cap = cap;
  }
  b->head = 0;
  b->tail = len;
  return 0;
}

void rm_buffer_reset(rm_buffer *b, size_t keep) {
  b->head = b->tail = 0;
  if (b->cap <= keep) return;
  rm_free(b->block);
  b->block = b->bytes = NULL;
  b->cap = 0;
}

void rm_buffer_fini(rm_buffer *b) {
  rm_free(b->block);
  *b = (rm_buffer){0};
}
