/* SPDX-License-Identifier: MIT */
/** A growing byte buffer with a consumed front: [0, head) consumed, [head, tail) content, [tail, cap) free. */
#ifndef RM_BASE_BUFFER_H
#define RM_BASE_BUFFER_H

#include <stddef.h>
#include <string.h>

typedef struct rm_buffer {
  char *bytes; /* begins at a multiple of 64, see rm_buffer_grow */
  size_t head, tail, cap;
  void *block; /* what was allocated */
} rm_buffer;

static inline size_t rm_buffer_len(const rm_buffer *b) { return b->tail - b->head; }
static inline char *rm_buffer_begin(const rm_buffer *b) { return b->bytes + b->head; }
/** Makes room for `extra` more bytes after tail (may move the content to the front).  0 or REDMOON_ENOMEM. */
int rm_buffer_grow(rm_buffer *b, size_t extra);
static inline int rm_buffer_reserve(rm_buffer *b, size_t extra) {
  return b->cap - b->tail >= extra ? 0 : rm_buffer_grow(b, extra);
}
/** 0 or REDMOON_ENOMEM. */
static inline int rm_buffer_append(rm_buffer *b, const void *ptr, size_t len) {
  int status = rm_buffer_reserve(b, len);
  if (status != 0) return status;
  if (len > 0) memcpy(b->bytes + b->tail, ptr, len);
  b->tail += len;
  return 0;
}
/** Drops `len` bytes at the front. */
static inline void rm_buffer_consume(rm_buffer *b, size_t len) {
  b->head += len;
  if (b->head == b->tail) b->head = b->tail = 0;
}
/** Empties it; memory beyond `keep` bytes is given back. */
void rm_buffer_reset(rm_buffer *b, size_t keep);
void rm_buffer_fini(rm_buffer *b);

#endif
