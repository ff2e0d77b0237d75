/* SPDX-License-Identifier: MIT */
/* Names, sorted by length and bytes. */
#include "engine/subscription_names.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <string.h>

int rm_names_reserve(rm_names *names, size_t extra) {
  if (names->cap - names->count >= extra) return 0;
  size_t cap = names->cap < 8 ? 8 : names->cap * 2;
  if (cap - names->count < extra) cap = names->count + extra;
  redmoon_bytes *items = rm_realloc(names->items, cap * sizeof *items);
  if (items == NULL) return REDMOON_ENOMEM;
  names->items = items;
  names->cap = cap;
  return 0;
}

static int compare(redmoon_bytes a, redmoon_bytes b) {
  if (a.len != b.len) return a.len < b.len ? -1 : 1;
  return a.len == 0 ? 0 : memcmp(a.ptr, b.ptr, a.len);
}

/* Where it stands, or would. */
static size_t place(const rm_names *names, redmoon_bytes name, bool *there) {
  size_t low = 0, high = names->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare(names->items[middle], name) < 0) low = middle + 1;
    else high = middle;
  }
  *there = low < names->count && compare(names->items[low], name) == 0;
  return low;
}

bool rm_names_has(const rm_names *names, redmoon_bytes name) {
  bool there;
  place(names, name, &there);
  return there;
}

int rm_names_add(rm_names *names, redmoon_bytes name) {
  bool there;
  size_t at = place(names, name, &there);
  if (there) return 0;
  char *copy = rm_names_reserve(names, 1) == 0 ? rm_strndup(name.len > 0 ? name.ptr : "", name.len) : NULL;
  if (copy == NULL) return REDMOON_ENOMEM;
  memmove(names->items + at + 1, names->items + at, (names->count - at) * sizeof *names->items);
  names->items[at] = (redmoon_bytes){copy, name.len};
  names->count++;
  return 1;
}

bool rm_names_remove(rm_names *names, redmoon_bytes name) {
  bool there;
  size_t at = place(names, name, &there);
  if (!there) return false;
  rm_free((void *)(uintptr_t)names->items[at].ptr);
  names->count--;
  memmove(names->items + at, names->items + at + 1, (names->count - at) * sizeof *names->items);
  return true;
}

void rm_names_fini(rm_names *names) {
  for (size_t i = 0; i < names->count; i++) rm_free((void *)(uintptr_t)names->items[i].ptr);
  rm_free(names->items);
  *names = (rm_names){0};
}
