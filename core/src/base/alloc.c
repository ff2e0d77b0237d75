/* SPDX-License-Identifier: MIT */
/* Memory: malloc, with a gate in front of it in test builds. */
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef REDMOON_TESTING
static rm_alloc_refuse_fn refuse_fn;
static void *refuse_ctx;

void rm_alloc_set_refuse(rm_alloc_refuse_fn fn, void *ctx) {
  refuse_fn = fn;
  refuse_ctx = ctx;
}

static bool refused(size_t size) { return refuse_fn != NULL && refuse_fn(refuse_ctx, size); }
#else
static inline bool refused(size_t size) {
  (void)size;
  return false;
}
#endif

void *rm_alloc(size_t size) { return refused(size) ? NULL : malloc(size != 0 ? size : 1); }

void *rm_calloc(size_t count, size_t size) {
  if (size != 0 && count > SIZE_MAX / size) return NULL;
  return refused(count * size) ? NULL : calloc(count != 0 ? count : 1, size != 0 ? size : 1);
}

void *rm_realloc(void *ptr, size_t size) { return refused(size) ? NULL : realloc(ptr, size != 0 ? size : 1); }

void rm_free(void *ptr) { free(ptr); }

char *rm_strndup(const void *ptr, size_t len) {
  if (len == SIZE_MAX) return NULL;
  char *copy = rm_alloc(len + 1);
  if (copy == NULL) return NULL;
  if (len > 0) memcpy(copy, ptr, len);
  copy[len] = '\0';
  return copy;
}

char *rm_strdup(const char *text) { return rm_strndup(text, strlen(text)); }
