/* SPDX-License-Identifier: MIT */
/* Decimal digits of 64-bit integers. */
#include "base/digits.h"

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                  "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

size_t rm_uint64_put_long(char *out, uint64_t value) {
  char text[RM_DIGITS_MAX];
  size_t at = sizeof text;
  while (value >= 100) {
    at -= 2;
    memcpy(text + at, digit_pairs + value % 100 * 2, 2);
    value /= 100;
  }
  if (value >= 10) {
    at -= 2;
    memcpy(text + at, digit_pairs + value * 2, 2);
  } else {
    text[--at] = (char)('0' + value);
  }
  memcpy(out, text + at, sizeof text - at);
  return sizeof text - at;
}

bool rm_int64_read(const char *text, size_t len, int64_t *out) {
  size_t at = len > 0 && text[0] == '-' ? 1 : 0;
  bool negative = at == 1;
  if (at == len || len > RM_DIGITS_MAX) return false;
  uint64_t value = 0, most = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
  for (; at < len; at++) {
    unsigned digit = (unsigned)(unsigned char)text[at] - '0';
    if (digit > 9 || value > (most - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = negative ? (int64_t)(0 - value) : (int64_t)value;
  return true;
}
