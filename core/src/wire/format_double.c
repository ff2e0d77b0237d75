/* SPDX-License-Identifier: MIT */
/* Doubles as text. */
#include "wire/request.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t word(char *out, const char *text) {
  size_t len = strlen(text);
  memcpy(out, text, len + 1);
  return len;
}

/* The decimal point is the locale's, and may be several bytes: whatever stands there becomes ".". */
static size_t plain_point(char *text) {
  size_t len = strlen(text), at = strspn(text, "-0123456789");
  if (at == len || text[at] == 'e') return len;
  size_t rest = at;
  while (rest < len && strchr("0123456789e", text[rest]) == NULL) rest++;
  text[at] = '.';
  memmove(text + at + 1, text + rest, len - rest + 1);
  return len - (rest - at) + 1;
}

size_t rm_format_double(char *out, double value) {
  if (isnan(value)) return word(out, "nan");
  if (isinf(value)) return word(out, value > 0 ? "inf" : "-inf");
  if (value == 0) return word(out, signbit(value) ? "-0" : "0");
  if (fabs(value) < 9223372036854775808.0 && value == trunc(value))
    return (size_t)snprintf(out, 32, "%lld", (long long)value);
  char text[64]; /* 17 digits, sign, exponent, and a long decimal point */
  /* 15 digits always survive, except in the subnormal numbers, which have fewer. */
  for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  size_t len = plain_point(text);
  memcpy(out, text, len + 1);
  return len;
}
