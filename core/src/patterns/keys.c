/* SPDX-License-Identifier: MIT */
/* The one function that builds the keys of patterns.  That no two objects share a key is seen by reading one back:
 * the first '{' or '~' ends the prefix (in which both are escaped) and tells the form; a ':' and a part, in which
 * there is no
 * ':', end it; what is between is the name, escaped only in the first form. */
#include "patterns/keys.h"

#include "base/alloc.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int rm_name_check(const char *what, const void *name, size_t len, redmoon_error *err) {
  if (name != NULL && len >= 1 && len <= RM_NAME_MAX) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "%s: %zu bytes are not accepted; give 1 to %d", what, name == NULL ? 0 : len,
                 RM_NAME_MAX);
}

/* What a cluster hashes instead of the key: what is between the first '{' and the first '}' after it, unless that
 * is nothing (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/, "Hash tags"). */
static bool has_tag(const char *name, size_t len) {
  const char *open = memchr(name, '{', len);
  if (open == NULL) return false;
  const char *close = memchr(open, '}', len - (size_t)(open - name));
  return close != NULL && close != open + 1;
}

static char *put(char *out, const char *text, size_t len) {
  memcpy(out, text, len);
  return out + len;
}

/* Braces and '%' become %XX, and in a prefix '~' too. */
static char *put_escaped(char *out, const char *text, size_t len, bool tilde) {
  static const char digits[] = "0123456789ABCDEF";
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '{' || c == '}' || c == '%' || (c == '~' && tilde)) {
      *out++ = '%';
      *out++ = digits[c >> 4];
      *out++ = digits[c & 15];
    } else {
      *out++ = (char)c;
    }
  }
  return out;
}

int rm_keys_build(const char *prefix, const void *name, size_t len, const char *const *parts, size_t count,
                  redmoon_bytes *keys, redmoon_error *err) {
  size_t prefix_len = strlen(prefix), size = 0;
  for (size_t i = 0; i < count; i++) size += 3 * (prefix_len + len) + strlen(parts[i]) + sizeof ":{}:";
  char *bytes = rm_alloc(size), *out = bytes;
  if (bytes == NULL) return rm_fail_nomem(err);
  bool keep = has_tag(name, len);
  out = put_escaped(out, prefix, prefix_len, true);
  out = put(out, keep ? ":~" : ":{", 2);
  out = keep ? put(out, name, len) : put_escaped(out, name, len, false);
  out = keep ? put(out, ":", 1) : put(out, "}:", 2);
  size_t stem = (size_t)(out - bytes);
  for (size_t i = 0; i < count; i++) {
    char *begin = i == 0 ? bytes : out;
    if (i > 0) out = put(out, bytes, stem);
    out = put(out, parts[i], strlen(parts[i]));
    keys[i] = (redmoon_bytes){begin, (size_t)(out - begin)};
  }
  return 0;
}

int rm_key_build(const char *prefix, const void *name, size_t len, const char *part, redmoon_bytes *key,
                 redmoon_error *err) {
  return rm_keys_build(prefix, name, len, &part, 1, key, err);
}

int rm_request_id_check(const char *id, redmoon_error *err) {
  static const char accepted[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  if (id == NULL) return 0;
  size_t len = strlen(id);
  if (len >= 1 && len <= RM_REQUEST_ID_MAX && strspn(id, accepted) == len) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "request_id: not accepted (%zu bytes); give 1 to %d letters, digits, '.', '_' and '-'",
                 len, RM_REQUEST_ID_MAX);
}

int rm_request_key_build(const char *prefix, const void *name, size_t len, const char *part, const char *id,
                         redmoon_bytes *key, redmoon_error *err) {
  char full[RM_PART_MAX + sizeof "+req." + RM_REQUEST_ID_MAX];
  snprintf(full, sizeof full, "%s+req.%s", part, id);
  return rm_key_build(prefix, name, len, full, key, err);
}

void rm_key_free(redmoon_bytes *key) {
  rm_free((void *)(uintptr_t)key->ptr);
  key->ptr = NULL;
  key->len = 0;
}
