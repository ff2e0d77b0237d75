/* SPDX-License-Identifier: MIT */
/* Requests, formatted straight into one buffer that is kept. */
#include "wire/request.h"

#include "base/alloc.h"
#include "base/digits.h"

#include <redmoon/error.h>
#include <string.h>

enum { HEADER_MAX = 1 + 20 + 2 };

void rm_request_init(rm_request *request) {
  *request = (rm_request){0};
  request->marks = &request->one;
  request->cap = 1;
}

static void drop_marks(rm_request *r) {
  if (r->marks != &r->one) rm_free(r->marks);
  r->marks = &r->one;
  r->cap = 1;
}

void rm_request_fini(rm_request *request) {
  drop_marks(request);
  rm_buffer_fini(&request->bytes);
  rm_request_init(request);
}

void rm_request_reset(rm_request *request, size_t keep) {
  rm_buffer_reset(&request->bytes, keep);
  if (request->cap > keep / sizeof(rm_mark)) drop_marks(request);
  request->count = 0;
  request->status = 0;
}

/* `type`, the number, CRLF at the tail; room was made. */
static void put_header(rm_buffer *b, char type, size_t value) {
  char *out = b->bytes + b->tail;
  *out++ = type;
  out += rm_uint64_put(out, value);
  *out++ = '\r';
  *out++ = '\n';
  b->tail = (size_t)(out - b->bytes);
}

static int make_room(rm_request *r, size_t size) {
  if (r->status != 0) return r->status;
  if (rm_buffer_reserve(&r->bytes, size) != 0) r->status = REDMOON_ENOMEM;
  return r->status;
}

void rm_request_begin(rm_request *request, size_t argc) {
  if (make_room(request, HEADER_MAX) == 0) put_header(&request->bytes, '*', argc);
}

void rm_request_arg(rm_request *request, const void *ptr, size_t len) {
  if (len > SIZE_MAX / 4) request->status = REDMOON_ENOMEM;
  if (make_room(request, HEADER_MAX + len + 2) != 0) return;
  rm_buffer *b = &request->bytes;
  put_header(b, '$', len);
  if (len > 0) memcpy(b->bytes + b->tail, ptr, len);
  b->tail += len;
  b->bytes[b->tail++] = '\r';
  b->bytes[b->tail++] = '\n';
}

void rm_request_formatted(rm_request *request, const char *text, size_t len) {
  if (make_room(request, len) != 0) return;
  memcpy(request->bytes.bytes + request->bytes.tail, text, len);
  request->bytes.tail += len;
}

void rm_request_text(rm_request *request, const char *text) { rm_request_arg(request, text, strlen(text)); }

void rm_request_integer(rm_request *request, int64_t value) {
  char text[RM_DIGITS_MAX];
  rm_request_arg(request, text, rm_int64_put(text, value));
}

void rm_request_double(rm_request *request, double value) {
  char text[32];
  rm_request_arg(request, text, rm_format_double(text, value));
}

static int grow_marks(rm_request *r) {
  if (r->count < r->cap) return 0;
  size_t cap = r->cap < 8 ? 8 : r->cap * 2;
  if (cap > SIZE_MAX / sizeof(rm_mark)) return REDMOON_ENOMEM;
  rm_mark *marks = rm_realloc(r->marks == &r->one ? NULL : r->marks, cap * sizeof *marks);
  if (marks == NULL) return REDMOON_ENOMEM;
  if (r->marks == &r->one) marks[0] = r->one;
  r->marks = marks;
  r->cap = cap;
  return 0;
}

int rm_request_end(rm_request *request, uint32_t flags, uint32_t tag) {
  if (request->status == 0) request->status = grow_marks(request);
  if (request->status != 0) {
    size_t before = request->count > 0 ? request->marks[request->count - 1].end : 0;
    request->bytes.tail = request->bytes.head + before;
    request->status = 0; /* what stands before it is whole, and others may follow */
    return REDMOON_ENOMEM;
  }
  request->marks[request->count++] = (rm_mark){rm_buffer_len(&request->bytes), flags, tag};
  return 0;
}

int rm_request_argv(rm_request *request, int argc, const char *const *argv, const size_t *lens, uint32_t flags,
                    uint32_t tag) {
  rm_request_begin(request, (size_t)argc);
  for (int i = 0; i < argc; i++) rm_request_arg(request, argv[i], lens != NULL ? lens[i] : strlen(argv[i]));
  return rm_request_end(request, flags, tag);
}

int rm_request_append(rm_request *request, const rm_request *other) {
  size_t before = rm_buffer_len(&request->bytes), count = request->count;
  if (rm_buffer_append(&request->bytes, rm_buffer_begin(&other->bytes), rm_buffer_len(&other->bytes)) != 0)
    return REDMOON_ENOMEM;
  for (size_t i = 0; i < other->count; i++) {
    if (grow_marks(request) != 0) {
      request->bytes.tail = request->bytes.head + before;
      request->count = count;
      return REDMOON_ENOMEM;
    }
    request->marks[request->count] = other->marks[i];
    request->marks[request->count++].end += before;
  }
  return 0;
}

/* Reading back. */

/* The request is our own text, so its form is known: *<argc>\r\n, then $<len>\r\n<bytes>\r\n each. */
static const char *read_count(const char *at, size_t *count) {
  *count = 0;
  for (at++; *at != '\r'; at++) *count = *count * 10 + (size_t)(*at - '0');
  return at + 2;
}

size_t rm_request_args(const rm_request *request, size_t index, redmoon_bytes *args, size_t max) {
  size_t argc;
  const char *at = read_count(rm_buffer_begin(&request->bytes) + (index > 0 ? request->marks[index - 1].end : 0), &argc);
  for (size_t i = 0; i < argc && i < max; i++) {
    size_t len;
    at = read_count(at, &len);
    args[i] = (redmoon_bytes){at, len};
    at += len + 2;
  }
  return argc;
}
