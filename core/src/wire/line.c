/* SPDX-License-Identifier: MIT */
/* Checks of RESP lines. */
#include "wire/line.h"

#include "wire/plain_locale.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longer than any 64-bit number: what has more digits is nonsense, not large. */
enum { MAX_DIGITS = 20 };

static bool is_digit(char c) { return (unsigned char)(c - '0') <= 9; }

static rm_line_result line_end(const char *line, size_t len, size_t at, size_t *used) {
  if (at == len) return RM_LINE_MORE;
  if (line[at] != '\r') return RM_LINE_BAD;
  if (at + 1 == len) return RM_LINE_MORE;
  *used = at + 2;
  return line[at + 1] == '\n' ? RM_LINE_DONE : RM_LINE_BAD;
}

rm_line_result rm_line_number(const char *line, size_t len, rm_number *number, size_t *used) {
  size_t at = 0;
  if (len > 0 && line[0] == '?') return RM_LINE_STREAMED;
  number->negative = len > 0 && line[0] == '-';
  if (number->negative) at++;
  size_t first = at;
  uint64_t value = 0;
  while (at < len && is_digit(line[at])) {
    unsigned digit = (unsigned)(line[at] - '0');
    if (at - first == MAX_DIGITS) return RM_LINE_BAD;
    if (at - first < MAX_DIGITS - 1) /* cannot overflow */
      value = value * 10 + digit;
    else value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
    at++;
  }
  if (at == first) return at == len ? RM_LINE_MORE : RM_LINE_BAD;
  if (line[first] == '0' && (at - first > 1 || number->negative)) return RM_LINE_BAD;
  number->magnitude = value;
  return line_end(line, len, at, used);
}

static size_t skip_digits(const char *line, size_t len, size_t at) {
  while (at < len && is_digit(line[at])) at++;
  return at;
}

static bool is_word(const char *line, size_t len, const char *word) {
  return len == strlen(word) && memcmp(line, word, len) == 0;
}

bool rm_line_is_double(const char *line, size_t len) {
  if (len > 325) return false;
  size_t at = len > 0 && (line[0] == '-' || line[0] == '+') ? 1 : 0;
  size_t whole = skip_digits(line, len, at), digits = whole - at;
  at = whole;
  if (at < len && line[at] == '.') {
    size_t end = skip_digits(line, len, at + 1);
    digits += end - at - 1;
    at = end;
  }
  if (digits == 0)
    return is_word(line, len, "inf") || is_word(line, len, "-inf") || is_word(line, len, "nan") ||
           is_word(line, len, "-nan");
  if (at < len && (line[at] == 'e' || line[at] == 'E')) {
    at++;
    if (at < len && (line[at] == '-' || line[at] == '+')) at++;
    size_t end = skip_digits(line, len, at);
    if (end == at) return false;
    at = end;
  }
  return at == len;
}

bool rm_line_is_big_number(const char *line, size_t len) {
  size_t at = len > 0 && line[0] == '-' ? 1 : 0;
  return at < len && skip_digits(line, len, at) == len;
}

/* What both a double and a power of ten hold exactly needs one rounding, at most: no strtod. */
static bool short_double(const char *line, size_t len, double *value) {
#if FLT_EVAL_METHOD == 0
  static const double powers[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  size_t at = line[0] == '-' ? 1 : 0, first = at, point = len;
  if (len - first > 16) return false;
  uint64_t digits = 0;
  for (; at < len; at++) {
    if (line[at] == '.') point = at;
    else if (is_digit(line[at])) digits = digits * 10 + (unsigned)(line[at] - '0');
    else return false;
  }
  if (digits > (UINT64_C(1) << 53)) return false;
  double whole = (double)digits / powers[point < len ? len - point - 1 : 0];
  *value = first == 1 ? -whole : whole;
  return true;
#else
  (void)line;
  (void)len;
  (void)value;
  return false;
#endif
}

bool rm_line_double(const char *line, size_t len, double *value) {
  if (!rm_line_is_double(line, len)) return false;
  if (short_double(line, len, value)) return true;
  char text[326]; /* rm_line_is_double bounds it */
  memcpy(text, line, len);
  text[len] = '\0';
  rm_plain_locale scope;
  if (!rm_plain_locale_enter(&scope)) return false;
  *value = strtod(text, NULL);
  rm_plain_locale_leave(&scope);
  return isfinite(*value) || line[len - 1] == 'f' || line[len - 1] == 'n';
}
