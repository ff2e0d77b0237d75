/* SPDX-License-Identifier: MIT */
/** The one place memory comes from, so that tests can refuse any request.  Everything allocated by the core, and by
 *  hiredis for it, goes through here. */
#ifndef RM_BASE_ALLOC_H
#define RM_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *rm_alloc(size_t size);
/** Zeroed; NULL also when count * size overflows. */
void *rm_calloc(size_t count, size_t size);
void *rm_realloc(void *ptr, size_t size);
void rm_free(void *ptr);
/** Copies `len` bytes and adds a NUL. */
char *rm_strndup(const void *ptr, size_t len);
char *rm_strdup(const char *text);

#ifdef REDMOON_TESTING
/** Asked before each allocation; true refuses it.  NULL: never. */
typedef bool (*rm_alloc_refuse_fn)(void *ctx, size_t size);
void rm_alloc_set_refuse(rm_alloc_refuse_fn fn, void *ctx);
#endif

#endif
