/* SPDX-License-Identifier: MIT */
/* From a key to its prefix. */
#include "patterns/audit.h"

#include <string.h>

typedef struct cutter {
  const char *key;
  size_t len, tag, tag_end; /* the tag with its braces: [tag, tag_end); equal: none */
  char separator;
  rm_audit_cut *out;
} cutter;

/* As the server finds it: the first `{`, and the first `}` behind it, with something between them. */
static void find_tag(cutter *c) {
  const char *open = memchr(c->key, '{', c->len);
  if (open == NULL) return;
  const char *close = memchr(open, '}', c->len - (size_t)(open - c->key));
  if (close == NULL || close == open + 1) return;
  c->tag = (size_t)(open - c->key);
  c->tag_end = (size_t)(close - c->key) + 1;
}

static bool has_tag(const cutter *c) { return c->tag_end > c->tag; }

static size_t segment_end(const cutter *c, size_t at) {
  while (at < c->len) {
    if (has_tag(c) && at == c->tag) at = c->tag_end;
    else if (c->key[at] == c->separator) break;
    else at++;
  }
  return at;
}

static void put(cutter *c, const char *text, size_t len) {
  size_t room = RM_AUDIT_PREFIX_MAX - c->out->prefix_len;
  if (len > room) len = room;
  memcpy(c->out->prefix + c->out->prefix_len, text, len);
  c->out->prefix_len += len;
}

/* Each request has a key of its own beside that of its object (rm_request_key_build), and each session one beside the
 * others of its subject (sessions.c): they are of one kind. */
static void put_part(cutter *c, size_t from, size_t to) {
  static const char *const marks[] = {"+req.", ".session."};
  for (size_t at = from; has_tag(c) && at < to; at++) {
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
      size_t len = strlen(marks[i]);
      if (len > to - at || memcmp(c->key + at, marks[i], len) != 0) continue;
      put(c, c->key + from, at + len - from);
      put(c, "*", 1);
      return;
    }
  }
  put(c, c->key + from, to - from);
}

static void put_segment(cutter *c, size_t from, size_t to) {
  if (!has_tag(c) || c->tag < from || c->tag >= to) {
    put_part(c, from, to);
    return;
  }
  put(c, c->key + from, c->tag - from);
  put(c, "{*}", 3);
  put_part(c, c->tag_end, to);
}

void rm_audit_cut_key(const char *key, size_t len, char separator, size_t depth, rm_audit_cut *out) {
  cutter c = {key, len, 0, 0, separator, out};
  out->prefix_len = 0;
  out->field = NULL;
  find_tag(&c);
  size_t segments = 1, last = 0;
  for (size_t end = segment_end(&c, 0); end < len; end = segment_end(&c, end + 1)) {
    segments++;
    last = end + 1;
  }
  size_t wanted = has_tag(&c) || depth < segments ? depth : segments - 1;
  size_t at = 0;
  for (size_t counted = 0; counted < wanted && at <= len;) {
    size_t end = segment_end(&c, at);
    if (at > 0) put(&c, &separator, 1);
    put_segment(&c, at, end);
    if (!has_tag(&c) || at != c.tag || end != c.tag_end) counted++;
    at = end + 1;
  }
  if (has_tag(&c) || segments < depth + 2) return;
  out->field = key + last;
  out->field_len = len - last;
}
