/* SPDX-License-Identifier: MIT */
/* "Did you mean": the most similar of a list of names, by edit distance (insert, delete, replace, swap neighbours).
 */
#include "wire/config.h"

#include <stdint.h>
#include <string.h>

enum { LONGEST = 64 };

static unsigned char lower(char c) { return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); }

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* One row of the usual table for each byte of `a`; a swap looks back two rows. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len) {
  size_t rows[3][LONGEST + 1];
  for (size_t j = 0; j <= b_len; j++) rows[0][j] = j;
  for (size_t i = 1; i <= a_len; i++) {
    size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b_len; j++) {
      bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = least(least(row[j - 1], above[j]) + 1, above[j - 1] + (same ? 0 : 1));
      bool swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
      if (swapped) row[j] = least(row[j], second[j - 2] + 1);
    }
  }
  return rows[a_len % 3][b_len];
}

const char *rm_nearest(const char *name, size_t len, const char *const *names, size_t count) {
  const char *best = NULL;
  size_t best_distance = SIZE_MAX;
  if (len == 0 || len > LONGEST) return NULL;
  for (size_t i = 0; i < count; i++) {
    size_t other = strlen(names[i]);
    if (other == 0 || other > LONGEST) continue;
    size_t longer = len > other ? len : other;
    size_t d = distance(name, len, names[i], other);
    /* A third of the longer one may differ; beyond that a hint misleads. */
    if (d > (longer + 2) / 3 || d >= longer || d >= best_distance) continue;
    best = names[i];
    best_distance = d;
  }
  return best;
}
