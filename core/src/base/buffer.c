/* SPDX-License-Identifier: MIT */
/* The growing byte buffer. */
#include "base/buffer.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <stdint.h>

int rm_buffer_grow(rm_buffer *b, size_t extra) {
  size_t len = rm_buffer_len(b);
  if (extra > SIZE_MAX / 2 - len) return REDMOON_ENOMEM;
  /* Moving is cheaper than growing when at least half of the room is consumed front. */
  if (b->head > 0 && len + extra <= b->cap && b->head >= b->cap / 2) {
    memmove(b->bytes, b->bytes + b->head, len);
  } else {
    size_t cap = b->cap < 512 ? 512 : b->cap;
    while (cap < len + extra) cap *= 2;
    char *bytes = rm_alloc(cap);
    if (bytes == NULL) return REDMOON_ENOMEM;
    if (len > 0) memcpy(bytes, b->bytes + b->head, len);
    rm_free(b->bytes);
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
  rm_free(b->bytes);
  b->bytes = NULL;
  b->cap = 0;
}

void rm_buffer_fini(rm_buffer *b) {
  rm_free(b->bytes);
  *b = (rm_buffer){0};
}
