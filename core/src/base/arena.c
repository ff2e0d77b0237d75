/* SPDX-License-Identifier: MIT */
/* The arena: a list of blocks, bump-allocated from the newest. */
#include "base/arena.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <stdint.h>
#include <string.h>

#define ALIGN _Alignof(max_align_t)

struct rm_arena_block {
  rm_arena_block *older;
  size_t cap; /* bytes behind this header */
};

enum { SMALLEST_BLOCK = 512, LARGEST_STEP = 256 * 1024 };

static size_t header_size(void) { return (sizeof(rm_arena_block) + ALIGN - 1) / ALIGN * ALIGN; }

static char *block_bytes(rm_arena_block *block) { return (char *)block + header_size(); }

static void open_block(rm_arena *arena, rm_arena_block *block) {
  arena->next = block_bytes(block);
  arena->end = arena->next + block->cap;
}

/* Steps double, so that many small requests cost few blocks; one large request gets a block of just its size. */
static int add_block(rm_arena *arena, size_t size) {
  if (size > SIZE_MAX / 2) return REDMOON_ENOMEM;
  size_t cap = SMALLEST_BLOCK - header_size();
  if (arena->blocks != NULL) {
    cap = arena->blocks->cap * 2;
    if (cap > LARGEST_STEP) cap = LARGEST_STEP;
  }
  if (cap < size) cap = size;
  rm_arena_block *block = rm_alloc(header_size() + cap);
  if (block == NULL) return REDMOON_ENOMEM;
  block->older = arena->blocks;
  block->cap = cap;
  arena->blocks = block;
  open_block(arena, block);
  return 0;
}

static size_t padding(const rm_arena *arena) { return (size_t)(-(uintptr_t)arena->next & (ALIGN - 1)); }

static int has_room(const rm_arena *arena, size_t pad, size_t size) {
  size_t room = arena->blocks != NULL ? (size_t)(arena->end - arena->next) : 0;
  return arena->blocks != NULL && room >= pad && room - pad >= size;
}

int rm_arena_reserve(rm_arena *arena, size_t size) {
  return has_room(arena, padding(arena), size) ? 0 : add_block(arena, size);
}

void *rm_arena_alloc(rm_arena *arena, size_t size) {
  size_t pad = padding(arena);
  if (!has_room(arena, pad, size)) {
    if (add_block(arena, size) != 0) return NULL;
    pad = 0;
  }
  char *ptr = arena->next + pad;
  arena->next = ptr + size;
  return ptr;
}

/* Behind the newest block of `to`, which is still allocated from. */
void rm_arena_absorb(rm_arena *to, rm_arena *from) {
  if (from->blocks == NULL) return;
  if (to->blocks == NULL) {
    *to = *from;
  } else {
    rm_arena_block *oldest = from->blocks;
    while (oldest->older != NULL) oldest = oldest->older;
    oldest->older = to->blocks->older;
    to->blocks->older = from->blocks;
  }
  *from = (rm_arena){0};
}

char *rm_arena_strndup(rm_arena *arena, const char *ptr, size_t len) {
  if (len == SIZE_MAX) return NULL;
  if (!has_room(arena, 0, len + 1) && add_block(arena, len + 1) != 0) return NULL;
  char *copy = arena->next;
  if (len > 0) memcpy(copy, ptr, len);
  copy[len] = '\0';
  arena->next = copy + len + 1;
  return copy;
}

void rm_arena_reset(rm_arena *arena, size_t keep) {
  rm_arena_block *only = arena->blocks;
  if (only != NULL && only->older == NULL && only->cap <= keep) { /* as after most commands */
    arena->next = block_bytes(only);
    return;
  }
  rm_arena_block *kept = NULL;
  for (rm_arena_block *block = arena->blocks, *older; block != NULL; block = older) {
    older = block->older;
    if (block->cap <= keep && (kept == NULL || block->cap > kept->cap)) {
      rm_free(kept);
      kept = block;
    } else {
      rm_free(block);
    }
  }
  *arena = (rm_arena){kept, NULL, NULL};
  if (kept == NULL) return;
  kept->older = NULL;
  open_block(arena, kept);
}

void rm_arena_fini(rm_arena *arena) { rm_arena_reset(arena, 0); }
