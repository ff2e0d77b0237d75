/* SPDX-License-Identifier: MIT */
/** Memory that is given back all at once: the nodes and strings of replies. */
#ifndef RM_BASE_ARENA_H
#define RM_BASE_ARENA_H

#include <stddef.h>

typedef struct rm_arena_block rm_arena_block;
typedef struct rm_arena {
  rm_arena_block *blocks; /* newest first */
  char *next, *end;       /* free part of the newest */
} rm_arena;

/** Makes sure that `size` bytes (plus alignment) can be had without another allocation.  0 or REDMOON_ENOMEM. */
int rm_arena_reserve(rm_arena *arena, size_t size);
/** Aligned for any type; NULL when memory is short. */
void *rm_arena_alloc(rm_arena *arena, size_t size);
/** Unaligned bytes: `len` copied and a NUL added. */
char *rm_arena_strndup(rm_arena *arena, const char *ptr, size_t len);
/** Moves what `from` holds to `to`: it lives as long as that.  `from` is empty afterwards. */
void rm_arena_absorb(rm_arena *to, rm_arena *from);
/** Gives back all but one block of at most `keep` bytes. */
void rm_arena_reset(rm_arena *arena, size_t keep);
void rm_arena_fini(rm_arena *arena);

#endif
