/* SPDX-License-Identifier: MIT */
/* Values and the text they are stored as:
 *
 *      STRING   its bytes             INTEGER  decimal             BOOLEAN  1 or 0
 *      DOUBLE   shortest decimal that reads back the same          TIME     whole microseconds since the epoch
 *
 * Messages name the field and never the value. */
#include "patterns/records.h"

#include "base/error.h"
#include "wire/request.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOUBLE_TEXT_MAX = 400 }; /* 1e308 written out, and more */
static const int64_t time_max = INT64_C(9007199254740991);

int rm_value_encode(const redmoon_records *records, size_t field, const rm_value *value, char text[RM_RECORD_TEXT],
                    redmoon_bytes *out, redmoon_error *err) {
  const redmoon_field *f = &records->fields[field];
  out->ptr = text;
  switch (f->type) {
  case REDMOON_STRING:
    *out = value->bytes;
    if (out->len <= records->max_value_size) return 0;
    return rm_fail(err, REDMOON_ETOO_LARGE, "field '%s': %zu bytes are above max_value_size, which is %zu", f->name,
                   out->len, records->max_value_size);
  case REDMOON_DOUBLE:
    if (!isfinite(value->number))
      return rm_fail(err, REDMOON_ECODEC, "field '%s': infinity and NaN are not accepted", f->name);
    out->len = rm_format_double(text, value->number);
    return 0;
  case REDMOON_BOOLEAN:
    out->ptr = value->integer ? "1" : "0";
    out->len = 1;
    return 0;
  case REDMOON_TIME:
    if (value->integer < -time_max || value->integer > time_max)
      return rm_fail(err, REDMOON_ECODEC, "field '%s': a time lies below 2^53 microseconds from the epoch", f->name);
    break;
  default:
    break;
  }
  out->len = (size_t)snprintf(text, RM_RECORD_TEXT, "%" PRId64, value->integer);
  return 0;
}

/* The form that HINCRBY takes, too: no sign but '-', no leading zero. */
static bool parse_integer(redmoon_bytes text, int64_t *out) {
  const char *digits = text.ptr;
  size_t len = text.len;
  bool negative = len > 0 && digits[0] == '-';
  if (negative) {
    digits++;
    len--;
  }
  if (len < 1 || len > 19 || (digits[0] == '0' && (len > 1 || negative))) return false;
  uint64_t value = 0; /* 19 digits fit */
  for (size_t i = 0; i < len; i++) {
    if (digits[i] < '0' || digits[i] > '9') return false;
    value = value * 10 + (uint64_t)(digits[i] - '0');
  }
  if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0)) return false;
  *out = negative ? (int64_t)(0 - value) : (int64_t)value;
  return true;
}

/* strtod with "." as decimal point: the caller has entered the plain locale. */
static bool parse_double(redmoon_bytes text, double *out) {
  char copy[DOUBLE_TEXT_MAX + 1];
  if (text.len < 1 || text.len > DOUBLE_TEXT_MAX) return false;
  memcpy(copy, text.ptr, text.len);
  copy[text.len] = '\0';
  if (strspn(copy, "0123456789+-.eE") != text.len) return false; /* no words, no hexadecimal, no blanks */
  char *end;
  *out = strtod(copy, &end);
  return end == copy + text.len && isfinite(*out);
}

static bool parse(int type, redmoon_bytes text, rm_value *out) {
  switch (type) {
  case REDMOON_STRING:
    out->bytes = text;
    return true;
  case REDMOON_DOUBLE:
    return parse_double(text, &out->number);
  case REDMOON_BOOLEAN:
    if (text.len != 1 || (memcmp(text.ptr, "0", 1) != 0 && memcmp(text.ptr, "1", 1) != 0)) return false;
    out->integer = memcmp(text.ptr, "1", 1) == 0;
    return true;
  case REDMOON_TIME:
    return parse_integer(text, &out->integer) && out->integer >= -time_max && out->integer <= time_max;
  default:
    return parse_integer(text, &out->integer);
  }
}

static const char *type_name(int type) {
  return type == REDMOON_DOUBLE    ? "finite number"
         : type == REDMOON_BOOLEAN ? "boolean (1 or 0)"
         : type == REDMOON_TIME    ? "time in whole microseconds"
                                   : "64-bit integer";
}

int rm_value_decode(const redmoon_records *records, size_t field, redmoon_bytes text, rm_value *out,
                    redmoon_error *err) {
  const redmoon_field *f = &records->fields[field];
  if (parse(f->type, text, out)) return 0;
  rm_fail(err, REDMOON_ECODEC, "field '%s': what is stored is no %s", f->name, type_name(f->type));
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return REDMOON_ECODEC;
}
