/* SPDX-License-Identifier: MIT */
/** Decimal digits of 64-bit integers, without printf: of no locale, and a tenth of its cost. */
#ifndef RM_BASE_DIGITS_H
#define RM_BASE_DIGITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { RM_DIGITS_MAX = 20 }; /* "-9223372036854775808", "18446744073709551615" */

/** The digits of what is greater than 99; see rm_uint64_put. */
size_t rm_uint64_put_long(char *out, uint64_t value);
/** Writes at most RM_DIGITS_MAX bytes and no NUL; returns how many. */
static inline size_t rm_uint64_put(char *out, uint64_t value) {
  if (value > 99) return rm_uint64_put_long(out, value);
  if (value > 9) *out++ = (char)('0' + value / 10);
  *out = (char)('0' + value % 10);
  return value > 9 ? 2 : 1;
}
static inline size_t rm_int64_put(char *out, int64_t value) {
  if (value >= 0) return rm_uint64_put(out, (uint64_t)value);
  *out = '-';
  return 1 + rm_uint64_put(out + 1, 0 - (uint64_t)value);
}
/** The whole text as a decimal integer of 64 bits; false for anything else, also for what does not fit. */
bool rm_int64_read(const char *text, size_t len, int64_t *out);

#endif
