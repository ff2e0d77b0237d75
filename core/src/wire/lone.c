/* SPDX-License-Identifier: MIT */
/* Lone frames, in the one form that servers send them. */
#include "wire/lone.h"

#include <string.h>

/* More digits than this go the long way, so that nothing can overflow here. */
enum { MAX_DIGITS = 18 };

/* `digits CRLF` at `at`, without needless zeros: the byte behind it, or NULL. */
static const char *read_digits(const char *at, const char *end, int64_t *value) {
  const char *begin = at;
  int64_t n = 0;
  while (at < end && (unsigned char)(*at - '0') < 10 && at - begin < MAX_DIGITS) n = n * 10 + (*at++ - '0');
  if (at == begin || (*begin == '0' && at - begin > 1)) return NULL;
  if (end - at < 2 || at[0] != '\r' || at[1] != '\n') return NULL;
  *value = n;
  return at + 2;
}

static rm_lone_result read_bulk(const char *bytes, size_t len, const rm_limits *limits, redmoon_reply *node, size_t *end) {
  if (len >= 5 && bytes[1] == '-' && memcmp(bytes, "$-1\r\n", 5) == 0) {
    node->type = REDMOON_NIL;
    node->len = 0;
    node->as.integer = 0;
    *end = 5;
    return RM_LONE_WHOLE;
  }
  int64_t size;
  const char *text = read_digits(bytes + 1, bytes + len, &size);
  if (text == NULL || (uint64_t)size > limits->max_reply) return RM_LONE_NO;
  size_t header = (size_t)(text - bytes), total = header + (size_t)size + 2;
  if (total > limits->max_reply) return RM_LONE_NO;
  *end = total;
  if (len < total) return RM_LONE_MORE;
  if (bytes[total - 2] != '\r' || bytes[total - 1] != '\n') return RM_LONE_NO;
  node->type = REDMOON_STRING;
  node->len = (size_t)size;
  node->as.text = (char *)bytes + header;
  return RM_LONE_WHOLE;
}

static rm_lone_result read_line(const char *bytes, size_t len, const rm_limits *limits, redmoon_reply *node, size_t *end) {
  const char *cr = memchr(bytes, '\r', len);
  if (cr == NULL || cr + 1 == bytes + len || cr[1] != '\n') return RM_LONE_NO;
  size_t size = (size_t)(cr - bytes) - 1;
  if (size > limits->max_line || size + 3 > limits->max_reply || memchr(bytes, '\n', size + 1) != NULL) return RM_LONE_NO;
  node->type = bytes[0] == '+' ? REDMOON_STATUS : REDMOON_ERROR;
  node->len = size;
  node->as.text = (char *)bytes + 1;
  *end = size + 3;
  return RM_LONE_WHOLE;
}

static rm_lone_result read_integer(const char *bytes, size_t len, const rm_limits *limits, redmoon_reply *node,
                                   size_t *end) {
  bool negative = len > 1 && bytes[1] == '-';
  int64_t value;
  const char *behind = read_digits(bytes + 1 + negative, bytes + len, &value);
  if (behind == NULL || (negative && value == 0) || (size_t)(behind - bytes) > limits->max_reply) return RM_LONE_NO;
  node->type = REDMOON_INTEGER;
  node->len = 0;
  node->as.integer = negative ? -value : value;
  *end = (size_t)(behind - bytes);
  return RM_LONE_WHOLE;
}

rm_lone_result rm_lone_read(const char *bytes, size_t len, const rm_limits *limits, redmoon_reply *node, size_t *end) {
  switch (bytes[0]) {
    case '$': return read_bulk(bytes, len, limits, node, end);
    case ':': return read_integer(bytes, len, limits, node, end);
    case '+':
    case '-': return read_line(bytes, len, limits, node, end);
    case '_':
      if (len < 3 || bytes[1] != '\r' || bytes[2] != '\n') return RM_LONE_NO;
      node->type = REDMOON_NIL;
      node->len = 0;
      node->as.integer = 0;
      *end = 3;
      return RM_LONE_WHOLE;
    default: return RM_LONE_NO;
  }
}

bool rm_lone_read_array(const char *bytes, size_t len, const rm_limits *limits, rm_lone_array *array, size_t *end) {
  int64_t count;
  if (len < 4 || (bytes[0] != '*' && bytes[0] != '>')) return false;
  const char *at = read_digits(bytes + 1, bytes + len, &count), *behind = bytes + len;
  if (at == NULL || count > RM_LONE_ITEMS || (size_t)count > limits->max_elements) return false;
  array->type = bytes[0] == '*' ? REDMOON_ARRAY : REDMOON_PUSH;
  array->count = (size_t)count;
  array->text = 0;
  for (size_t i = 0; i < array->count; i++) {
    size_t used;
    redmoon_reply *item = &array->items[i];
    if (at == behind || rm_lone_read(at, (size_t)(behind - at), limits, item, &used) != RM_LONE_WHOLE) return false;
    at += used;
    if (rm_lone_has_text(item)) array->text += item->len + 1;
  }
  *end = (size_t)(at - bytes);
  return *end <= limits->max_reply;
}
