/* SPDX-License-Identifier: MIT */
/* The frame scanner.
 *
 *             type byte            line types  + - : , # _ (      line complete
 *    ITEM ------+----------------------------------------------------------------> value
 *      ^        +--- $ ! = length ---> BULK (until all of it is there) ----------> value
 *      |        +--- * ~ % > length ---> level opened, or value when it is empty
 *      |        +--- | length ---------> level opened; its end is no value, only a gap
 *      +------------------------------------------------------------------------- level not full
 *
 * Everything is kept as offsets from the frame's begin, so the bytes may move between calls.  What was looked at
 * once is not looked at again, except for the few bytes of an unfinished number. */
#include "wire/scanner.h"

#include "base/alloc.h"
#include "base/error.h"
#include "wire/line.h"

#include <string.h>

typedef struct level {
  size_t left; /* values still to come */
  bool attribute;
} level;

struct rm_scanner {
  rm_limits limits;
  size_t pos;                  /* begin of the item being read */
  size_t seek;                 /* how far the search for the end of its line has come; 0: at its begin */
  size_t bulk_begin, bulk_end; /* of the bulk being waited for, with its CRLF; bulk_end 0: none */
  size_t short_line;           /* longest line that is looked at byte by byte */
  size_t elements;             /* announced by all aggregates so far */
  size_t gap_begin;
  int gap_depth; /* of the outermost attribute that is open, counted from 1; 0: none */
  bool found;    /* the next call begins a new frame */
  rm_frame frame;
  rm_scanner_gap *gaps; /* the frame's lists, to be written */
  rm_scanner_blob_error *errors;
  size_t gap_cap, error_cap;
  int depth;
  level levels[];
};

enum { USUAL_LIST = 64 };
enum { MORE = 0, VALUE = 1, ITEM = 2 }; /* needs bytes; a value is complete; an item that is no value is */

rm_scanner *rm_scanner_new(const rm_limits *limits) {
  int depth = limits->max_depth < 1                      ? 1
              : limits->max_depth > RM_SCANNER_MAX_DEPTH ? RM_SCANNER_MAX_DEPTH
                                                         : limits->max_depth;
  rm_scanner *s = rm_calloc(1, sizeof *s + (size_t)depth * sizeof s->levels[0]);
  if (s == NULL) return NULL;
  s->limits = *limits;
  s->limits.max_depth = depth;
  s->short_line = limits->max_line < 32 ? limits->max_line : 32;
  s->found = true;
  return s;
}

void rm_scanner_free(rm_scanner *scanner) {
  if (scanner == NULL) return;
  rm_free(scanner->gaps);
  rm_free(scanner->errors);
  rm_free(scanner);
}

/* A frame that needed long lists is rare: their memory is not kept. */
static void drop_long_lists(rm_scanner *s) {
  if (s->gap_cap > USUAL_LIST) {
    rm_free(s->gaps);
    s->gaps = NULL;
    s->gap_cap = 0;
  }
  if (s->error_cap > USUAL_LIST) {
    rm_free(s->errors);
    s->errors = NULL;
    s->error_cap = 0;
  }
}

static void begin_frame(rm_scanner *s) {
  s->pos = s->seek = s->elements = 0; /* depth, gap_depth and bulk_end are 0 at the end of a frame */
  s->found = false;
  if (s->gap_cap > USUAL_LIST || s->error_cap > USUAL_LIST) drop_long_lists(s);
  s->frame = (rm_frame){0};
}

/* Room for one more entry in a list; NULL when memory is short. */
static void *grow_list(void *list, size_t count, size_t *cap, size_t size) {
  if (count < *cap) return list;
  size_t wanted = *cap == 0 ? 8 : *cap * 2;
  void *grown = rm_realloc(list, wanted * size);
  if (grown != NULL) *cap = wanted;
  return grown;
}

static int add_gap(rm_scanner *s, size_t begin, size_t end, redmoon_error *err) {
  size_t count = s->frame.gap_count;
  if (count > 0 && s->gaps[count - 1].end == begin) {
    s->gaps[count - 1].end = end;
    return 0;
  }
  rm_scanner_gap *gaps = grow_list(s->gaps, count, &s->gap_cap, sizeof *gaps);
  if (gaps == NULL) return rm_fail_nomem(err);
  s->frame.gaps = s->gaps = gaps;
  gaps[s->frame.gap_count++] = (rm_scanner_gap){begin, end};
  return 0;
}

static int add_blob_error(rm_scanner *s, redmoon_error *err) {
  rm_scanner_blob_error *errors = grow_list(s->errors, s->frame.blob_error_count, &s->error_cap, sizeof *errors);
  if (errors == NULL) return rm_fail_nomem(err);
  s->frame.blob_errors = s->errors = errors;
  errors[s->frame.blob_error_count++] = (rm_scanner_blob_error){s->pos, s->frame.nodes};
  return 0;
}

static int too_large(redmoon_error *err, const char *what, size_t limit) {
  return rm_fail_phase(err, REDMOON_ETOO_LARGE, REDMOON_PHASE_RECEIVE,
                       "the server's reply passes the limit of %zu %s (max_reply_size)", limit, what);
}

/* Quotes the line that is at fault, never what lies behind it: that may be a payload. */
static int malformed(const rm_scanner *s, const char *bytes, size_t len, redmoon_error *err, const char *what) {
  char quoted[32 * 4 + 1];
  size_t n = len - s->pos < 32 ? len - s->pos : 32;
  for (size_t i = 0; i < n; i++)
    if (bytes[s->pos + i] == '\r' || bytes[s->pos + i] == '\n') n = i;
  rm_escape(quoted, sizeof quoted, bytes + s->pos, n);
  return rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE,
                       "the server's reply is not RESP: %s at \"%s\"", what, quoted);
}

static void count_value(rm_scanner *s, size_t text) {
  if (s->gap_depth != 0) return;
  s->frame.nodes++;
  s->frame.text += text;
}

/* The number of the item's first line. MORE, VALUE or PROTOCOL; *after is behind its CRLF. */
static int read_number(rm_scanner *s, const char *bytes, size_t len, rm_number *number, size_t *after,
                       redmoon_error *err) {
  size_t used;
  switch (rm_line_number(bytes + s->pos + 1, len - s->pos - 1, number, &used)) {
  case RM_LINE_MORE:
    return MORE;
  case RM_LINE_STREAMED:
    return malformed(s, bytes, len, err, "a streamed value, which is not supported,");
  case RM_LINE_BAD:
    return malformed(s, bytes, len, err, "a bad number");
  default:
    break;
  }
  *after = s->pos + 1 + used;
  return VALUE;
}

static int end_bulk(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  if (len < s->bulk_end) return MORE;
  char type = bytes[s->pos];
  size_t size = s->bulk_end - 2 - s->bulk_begin;
  if (bytes[s->bulk_end - 2] != '\r' || bytes[s->bulk_end - 1] != '\n')
    return malformed(s, bytes, len, err, "a string that does not end where it was to end,");
  if (type == '=' && (size < 4 || bytes[s->bulk_begin + 3] != ':'))
    return malformed(s, bytes, len, err, "a verbatim string without a format");
  if (type == '!' && s->gap_depth == 0) {
    int rc = add_blob_error(s, err);
    if (rc != 0) return rc;
  }
  count_value(s, size + 1);
  s->pos = s->bulk_end;
  s->bulk_end = 0;
  return VALUE;
}

static int scan_bulk(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  rm_number length;
  size_t after;
  int rc = read_number(s, bytes, len, &length, &after, err);
  if (rc != VALUE) return rc;
  if (length.negative) {
    if (length.magnitude != 1 || bytes[s->pos] != '$') return malformed(s, bytes, len, err, "a negative length");
    s->pos = after;
    count_value(s, 0);
    return VALUE;
  }
  size_t limit = s->limits.max_reply;
  if (after + 2 > limit || length.magnitude > limit - after - 2) return too_large(err, "bytes", limit);
  s->bulk_begin = after;
  s->bulk_end = after + (size_t)length.magnitude + 2;
  return end_bulk(s, bytes, len, err);
}

/* An attribute without content. */
static int skip_attribute(rm_scanner *s, size_t begin, redmoon_error *err) {
  int rc = s->gap_depth == 0 ? add_gap(s, begin, s->pos, err) : 0;
  return rc != 0 ? rc : ITEM;
}

static int open_level(rm_scanner *s, char type, size_t count, size_t after, redmoon_error *err) {
  bool attribute = type == '|';
  size_t begin = s->pos;
  if (count > s->limits.max_elements) return too_large(err, "elements", s->limits.max_elements);
  if (type == '%' || attribute) count *= 2;
  if (count > s->limits.max_elements - s->elements) return too_large(err, "elements", s->limits.max_elements);
  if (s->depth == s->limits.max_depth) return too_large(err, "levels", (size_t)s->limits.max_depth);
  s->elements += count;
  s->pos = after;
  if (type == '>') s->frame.kind = RM_FRAME_PUSH;
  if (!attribute) count_value(s, 0);
  if (count == 0) return attribute ? skip_attribute(s, begin, err) : VALUE;
  s->levels[s->depth++] = (level){count, attribute};
  if (attribute && s->gap_depth == 0) {
    s->gap_depth = s->depth;
    s->gap_begin = begin;
  }
  return ITEM;
}

static int scan_aggregate(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  char type = bytes[s->pos];
  rm_number count;
  size_t after;
  int rc = read_number(s, bytes, len, &count, &after, err);
  if (rc != VALUE) return rc;
  if (type == '>' && s->depth > 0) return malformed(s, bytes, len, err, "a push inside a reply");
  if (after > s->limits.max_reply) return too_large(err, "bytes", s->limits.max_reply);
  if (count.negative) {
    if (count.magnitude != 1 || type == '>' || type == '|')
      return malformed(s, bytes, len, err, "a negative length");
    s->pos = after;
    count_value(s, 0);
    return VALUE;
  }
  size_t n = count.magnitude > SIZE_MAX ? SIZE_MAX : (size_t)count.magnitude;
  return open_level(s, type, n, after, err);
}

static int end_line(rm_scanner *s, size_t text, size_t after, redmoon_error *err) {
  if (after > s->limits.max_reply) return too_large(err, "bytes", s->limits.max_reply);
  count_value(s, text);
  s->pos = after;
  s->seek = 0;
  return VALUE;
}

static int scan_integer(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  rm_number number;
  size_t after;
  int rc = read_number(s, bytes, len, &number, &after, err);
  if (rc != VALUE) return rc;
  if (number.magnitude > (uint64_t)INT64_MAX + (number.negative ? 1 : 0))
    return malformed(s, bytes, len, err, "an integer beyond 64 bits");
  return end_line(s, 0, after, err);
}

/* Finds the CRLF; *size is the line's length behind the type byte. */
static int find_line_end(rm_scanner *s, const char *bytes, size_t len, size_t *size, redmoon_error *err) {
  size_t begin = s->pos + 1, from = s->seek > begin ? s->seek : begin;
  size_t until = len - begin > s->limits.max_line ? begin + s->limits.max_line + 1 : len;
  const char *cr = from < until ? memchr(bytes + from, '\r', until - from) : NULL;
  if (cr == NULL) {
    s->seek = until;
    if (len - begin > s->limits.max_line) return too_large(err, "bytes of a line", s->limits.max_line);
    return MORE;
  }
  size_t at = (size_t)(cr - bytes);
  s->seek = at;
  if (at + 1 == len) return MORE;
  if (bytes[at + 1] != '\n') return malformed(s, bytes, len, err, "a line with a bare carriage return");
  *size = at - begin;
  return VALUE;
}

static int scan_line(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  size_t size = 0;
  int rc = find_line_end(s, bytes, len, &size, err);
  if (rc != VALUE) return rc;
  char type = bytes[s->pos];
  const char *line = bytes + s->pos + 1;
  bool good = type == '_'   ? size == 0
              : type == '#' ? size == 1 && (*line == 't' || *line == 'f')
              : type == ',' ? rm_line_is_double(line, size)
              : type == '(' ? rm_line_is_big_number(line, size)
                            : size == 0 || memchr(line, '\n', size) == NULL;
  if (!good) return malformed(s, bytes, len, err, "a bad value");
  if (type == ',' && s->gap_depth == 0) s->frame.has_double = true;
  bool text = type == '+' || type == '-' || type == '(';
  return end_line(s, text ? size + 1 : 0, s->pos + 1 + size + 2, err);
}

static int scan_item(rm_scanner *s, const char *bytes, size_t len, redmoon_error *err) {
  if (s->pos == len) return MORE;
  switch (bytes[s->pos]) {
  case '$':
  case '!':
  case '=':
    return scan_bulk(s, bytes, len, err);
  case '*':
  case '~':
  case '%':
  case '>':
  case '|':
    return scan_aggregate(s, bytes, len, err);
  case ':':
    return scan_integer(s, bytes, len, err);
  case '+':
  case '-':
  case ',':
  case '#':
  case '_':
  case '(':
    return scan_line(s, bytes, len, err);
  default:
    return malformed(s, bytes, len, err, "an unknown type byte");
  }
}

/* A value is complete: closes the levels it fills.  VALUE when the frame is complete, else ITEM. */
static int close_levels(rm_scanner *s, redmoon_error *err) {
  while (s->depth > 0) {
    level *top = &s->levels[s->depth - 1];
    if (--top->left > 0) return ITEM;
    s->depth--;
    if (!top->attribute) continue;
    /* What an attribute belongs to is still to come. */
    if (s->gap_depth != s->depth + 1) return ITEM;
    s->gap_depth = 0;
    int rc = add_gap(s, s->gap_begin, s->pos, err);
    return rc != 0 ? rc : ITEM;
  }
  return VALUE;
}

static inline bool is_crlf(const char *at) { return memcmp(at, "\r\n", 2) == 0; }

/* `at` is behind the type byte of a bulk string or integer without sign, and there are at least 3 bytes.  Returns
 * what is behind the first line, or NULL. */
static inline const char *quick_number(const char *at, const char *end, size_t *value) {
  enum { DIGITS = 8 };
  const char *first = at;
  unsigned digit = (unsigned)*at - (unsigned)'0';
  size_t n = 0;
  if (digit - 1 > 8) return NULL; /* "0" is left to the usual way */
  do {
    n = n * 10 + digit;
    if (++at == end) return NULL;
    digit = (unsigned)*at - (unsigned)'0';
  } while (digit <= 9);
  *value = n;
  return at - first <= DIGITS && end - at >= 2 && is_crlf(at) ? at + 2 : NULL;
}

/* What is behind a short line of printable ASCII, or NULL. */
static inline const char *quick_line(const char *at, const char *end, size_t most) {
  const char *stop = (size_t)(end - at) > most ? at + most : end;
  while (at < stop && *at >= ' ') at++;
  return end - at >= 2 && is_crlf(at) ? at + 2 : NULL;
}

/* What is behind the value at `at` if it is whole and of the usual kind and size, as most are; NULL for all else,
 * good or bad: that is left to scan_item.  *text is what its text needs. */
static inline const char *quick_value(const char *at, const char *end, size_t short_line, size_t *text) {
  size_t value;
  if (end - at < 5) return NULL;
  switch (*at) {
  case '$':
    at = quick_number(at + 1, end, &value);
    if (at == NULL || (size_t)(end - at) < value + 2 || !is_crlf(at + value)) return NULL;
    *text = value + 1;
    return at + value + 2;
  case ':':
    *text = 0;
    return quick_number(at + 1, end, &value);
  case '+': {
    const char *behind = quick_line(at + 1, end, short_line);
    if (behind != NULL) *text = (size_t)(behind - at) - 2;
    return behind;
  }
  default:
    return NULL;
  }
}

/* Goes over usual values, up to the last but one of a level: that one closes it. */
static void skip_usual(rm_scanner *s, const char *bytes, size_t len) {
  size_t limit = len < s->limits.max_reply ? len : s->limits.max_reply;
  size_t most = s->levels[s->depth - 1].left - 1, count = 0, texts = 0, text;
  if (s->pos >= limit) return;
  const char *at = bytes + s->pos, *end = bytes + limit;
  for (const char *behind; count < most && (behind = quick_value(at, end, s->short_line, &text)) != NULL; count++) {
    texts += text;
    at = behind;
  }
  s->pos = (size_t)(at - bytes);
  s->levels[s->depth - 1].left -= count;
  if (s->gap_depth != 0) return;
  s->frame.nodes += count;
  s->frame.text += texts;
}

/* A frame that is one usual value needs no state at all. */
static inline size_t usual_frame(rm_scanner *s, const char *bytes, size_t len) {
  size_t limit = len < s->limits.max_reply ? len : s->limits.max_reply, text;
  const char *behind = quick_value(bytes, bytes + limit, s->short_line, &text);
  if (behind == NULL) return 0;
  s->frame = (rm_frame){.nodes = 1, .text = text};
  return (size_t)(behind - bytes);
}

int rm_scanner_scan(rm_scanner *s, const char *bytes, size_t len, size_t *end, redmoon_error *err) {
  if (s->found) {
    if ((*end = usual_frame(s, bytes, len)) != 0) return 1;
    begin_frame(s);
  }
  for (;;) {
    if (s->depth > 0 && s->bulk_end == 0) skip_usual(s, bytes, len);
    int rc = s->bulk_end != 0 ? end_bulk(s, bytes, len, err) : scan_item(s, bytes, len, err);
    if (rc == VALUE && s->depth > 0) rc = close_levels(s, err);
    if (rc <= 0) return rc;
    if (rc == ITEM) continue;
    s->found = true;
    *end = s->pos;
    return 1;
  }
}

const rm_frame *rm_scanner_frame(const rm_scanner *scanner) { return &scanner->frame; }

size_t rm_scanner_known_length(const rm_scanner *scanner) { return scanner->found ? 0 : scanner->bulk_end; }
