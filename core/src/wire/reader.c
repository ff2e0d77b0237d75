/* SPDX-License-Identifier: MIT */
/* The reader: received bytes -> whole frames (scanner) -> nodes (hiredis' parser, our object functions).  A frame that
 * is one value alone takes the short way of lone.c past both.
 *
 * One frame costs one piece of the arena: first all its nodes, then all its texts.  The children of an aggregate
 * are taken from the nodes in one run, so they are contiguous.  hiredis is fed one frame at a time and consumes all
 * of it, so it never moves bytes. */
#include "wire/reader.h"

#include "base/alloc.h"
#include "base/error.h"
#include "wire/lone.h"
#include "wire/plain_locale.h"
#include "wire/scanner.h"

#include <hiredis/alloc.h>
#include <hiredis/read.h>
#include <stdint.h>
#include <string.h>

enum { USUAL_RECEIVE = 64 * 1024, KEPT_BUFFER = 512 * 1024, PIECE = 2048 };

/* What the object functions write into. */
typedef struct build {
  redmoon_reply *root, *next_node;
  char *next_text;
  size_t node; /* ordinal of the next value */
  const rm_scanner_blob_error *errors, *errors_end;
} build;

struct rm_reader {
  rm_buffer buffer;
  rm_scanner *scanner;
  redisReader *parser;
  rm_limits limits;
  size_t known;   /* length of a lone bulk that is still arriving; 0: none */
  bool scanning;  /* the scanner has begun with the frame that is arriving */
  size_t largest; /* frame given to the parser since it was made */
  int status;     /* the error that ended it */
  build build;
};

/* memcpy in pieces that glibc copies with vector loads.  For larger ones it takes `rep movsb`, which some processors
 * (AMD Zen 3 and 4) run twenty times slower when the target stands up to 31 bytes behind the source, modulo 4,096. */
static void copy(char *to, const char *from, size_t len) {
  for (; len > PIECE; to += PIECE, from += PIECE, len -= PIECE) memcpy(to, from, PIECE);
  memcpy(to, from, len);
}

static redmoon_reply *place(const redisReadTask *task, redmoon_type type, size_t len) {
  build *b = task->privdata;
  redmoon_reply *node = task->parent != NULL ? &((redmoon_reply *)task->parent->obj)->as.items[task->idx] : b->root;
  b->node++;
  node->type = type;
  node->len = len;
  return node;
}

static redmoon_type text_type(build *b, int type) {
  if (type == REDIS_REPLY_STRING) {
    if (b->errors == b->errors_end || b->errors->node != b->node) return REDMOON_STRING;
    b->errors++;
    return REDMOON_ERROR;
  }
  return type == REDIS_REPLY_STATUS  ? REDMOON_STATUS
         : type == REDIS_REPLY_ERROR ? REDMOON_ERROR
         : type == REDIS_REPLY_VERB  ? REDMOON_VERBATIM
                                     : REDMOON_BIGNUM;
}

static void *create_string(const redisReadTask *task, char *text, size_t len) {
  build *b = task->privdata;
  if (task->type == REDIS_REPLY_VERB) { /* "txt:" */
    text += 4;
    len -= 4;
  }
  redmoon_reply *node = place(task, text_type(b, task->type), len);
  node->as.text = b->next_text;
  copy(b->next_text, text, len);
  b->next_text[len] = '\0';
  b->next_text += len + 1;
  return node;
}

static void *create_aggregate(const redisReadTask *task, size_t count) {
  build *b = task->privdata;
  redmoon_type type = task->type == REDIS_REPLY_MAP    ? REDMOON_MAP
                      : task->type == REDIS_REPLY_SET  ? REDMOON_SET
                      : task->type == REDIS_REPLY_PUSH ? REDMOON_PUSH
                                                       : REDMOON_ARRAY;
  redmoon_reply *node = place(task, type, count);
  node->as.items = count > 0 ? b->next_node : NULL;
  b->next_node += count;
  return node;
}

static void *create_integer(const redisReadTask *task, long long value) {
  redmoon_reply *node = place(task, REDMOON_INTEGER, 0);
  node->as.integer = value;
  return node;
}

static void *create_double(const redisReadTask *task, double value, char *text, size_t len) {
  (void)text;
  (void)len;
  redmoon_reply *node = place(task, REDMOON_DOUBLE, 0);
  node->as.number = value;
  return node;
}

static void *create_nil(const redisReadTask *task) {
  redmoon_reply *node = place(task, REDMOON_NIL, 0);
  node->as.integer = 0;
  return node;
}

static void *create_boolean(const redisReadTask *task, int value) {
  redmoon_reply *node = place(task, REDMOON_BOOLEAN, 0);
  node->as.integer = value != 0;
  return node;
}

/* Nothing is freed piece by piece: all of it is the arena's. */
static const redisReplyObjectFunctions functions = {
    create_string, create_aggregate, create_integer, create_double, create_nil, create_boolean, NULL};

rm_limits rm_limits_for(int64_t max_reply_size) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  uint64_t size = max_reply_size < 1 ? 1 : (uint64_t)max_reply_size;
  limits.max_reply = size > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)size;
  /* An element takes at least 3 bytes on the wire and 24 in memory. */
  size_t few = limits.max_reply / 3, many = limits.max_reply / 32;
  if (few < limits.max_elements) limits.max_elements = few;
  if (many > limits.max_elements) limits.max_elements = many < INT32_MAX / 2 ? many : INT32_MAX / 2;
  if (limits.max_line > limits.max_reply) limits.max_line = limits.max_reply;
  return limits;
}

static redisReader *new_parser(rm_reader *reader) {
  redisReader *parser = redisReaderCreateWithFunctions((redisReplyObjectFunctions *)&functions);
  if (parser == NULL) return NULL;
  parser->maxbuf = 0; /* its buffer is kept until rm_reader_trim */
  parser->maxelements = (long long)reader->limits.max_elements;
  parser->privdata = &reader->build;
  return parser;
}

rm_reader *rm_reader_new(const rm_limits *limits) {
  rm_reader *reader = rm_calloc(1, sizeof *reader);
  if (reader == NULL) return NULL;
  reader->limits = *limits;
  reader->scanner = rm_scanner_new(limits);
  reader->parser = new_parser(reader);
  if (reader->scanner == NULL || reader->parser == NULL) {
    rm_reader_free(reader);
    return NULL;
  }
  return reader;
}

void rm_reader_free(rm_reader *reader) {
  if (reader == NULL) return;
  redisReaderFree(reader->parser);
  rm_scanner_free(reader->scanner);
  rm_buffer_fini(&reader->buffer);
  rm_free(reader);
}

char *rm_reader_space(rm_reader *reader, size_t min, size_t *room) {
  rm_buffer *b = &reader->buffer;
  if (rm_buffer_reserve(b, min > 0 ? min : 1) != 0) return NULL;
  *room = b->cap - b->tail;
  return b->bytes + b->tail;
}

void rm_reader_added(rm_reader *reader, size_t len) { reader->buffer.tail += len; }

size_t rm_reader_want(const rm_reader *reader) {
  size_t known = reader->known != 0 ? reader->known : rm_scanner_known_length(reader->scanner);
  size_t have = rm_buffer_len(&reader->buffer);
  return known > have && known - have > USUAL_RECEIVE ? known - have : USUAL_RECEIVE;
}

size_t rm_reader_len(const rm_reader *reader) { return rm_buffer_len(&reader->buffer); }

bool rm_reader_has_bytes(const rm_reader *reader) { return rm_reader_len(reader) > 0; }

/* Takes memory for the frame's nodes and texts at once. */
static int begin_build(build *b, const rm_frame *frame, char *bytes, rm_arena *arena, redmoon_error *err) {
  size_t nodes = frame->nodes * sizeof(redmoon_reply); /* bounded by the frame, which is in memory */
  char *piece = rm_arena_alloc(arena, nodes + frame->text);
  if (piece == NULL) return rm_fail_nomem(err);
  b->root = (redmoon_reply *)(void *)piece;
  b->next_node = b->root + 1;
  b->next_text = piece + nodes;
  b->node = 0;
  b->errors = b->errors_end = NULL;
  if (frame->blob_error_count > 0) {
    b->errors = frame->blob_errors;
    b->errors_end = b->errors + frame->blob_error_count;
    for (size_t i = 0; i < frame->blob_error_count; i++) bytes[b->errors[i].offset] = '$';
  }
  return 0;
}

/* In pieces, for copy()'s reason. */
static void feed_run(redisReader *parser, const char *bytes, size_t len) {
  for (; len > PIECE; bytes += PIECE, len -= PIECE) redisReaderFeed(parser, bytes, PIECE);
  redisReaderFeed(parser, bytes, len);
}

/* All of the frame but its attributes. */
static void feed(rm_reader *reader, const rm_frame *frame, const char *bytes, size_t len) {
  size_t from = 0;
  for (size_t i = 0; i < frame->gap_count; i++) {
    feed_run(reader->parser, bytes + from, frame->gaps[i].begin - from);
    from = frame->gaps[i].end;
  }
  feed_run(reader->parser, bytes + from, len - from);
  if (len > reader->largest) reader->largest = len;
}

static void *parse(rm_reader *reader) {
  void *reply = NULL;
  if (redisReaderGetReply(reader->parser, &reply) != REDIS_OK) return NULL;
  return reply;
}

/* hiredis reads doubles with strtod, whose decimal point depends on the thread's locale. */
static void *parse_doubles(rm_reader *reader) {
  rm_plain_locale scope;
  if (!rm_plain_locale_enter(&scope)) return NULL;
  void *reply = parse(reader);
  rm_plain_locale_leave(&scope);
  return reply;
}

static int build_frame(rm_reader *reader, size_t len, rm_arena *arena, redmoon_reply **out, redmoon_error *err) {
  const rm_frame *frame = rm_scanner_frame(reader->scanner);
  char *bytes = rm_buffer_begin(&reader->buffer);
  int rc = begin_build(&reader->build, frame, bytes, arena, err);
  if (rc != 0) return rc;
  feed(reader, frame, bytes, len);
  void *reply = frame->has_double ? parse_doubles(reader) : parse(reader);
  redisReader *parser = reader->parser;
  if (parser->err == REDIS_ERR_PROTOCOL)
    return rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE, "the server's reply is not RESP: %s",
                         parser->errstr);
  if (reply == NULL || parser->err != 0) return rm_fail_nomem(err);
  if (parser->pos != parser->len)
    return rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE, "the server's reply is out of step");
  *out = reply;
  return 1;
}

/* A copy of a lone value in the arena: 1, or NOMEM. */
static int build_lone(const redmoon_reply *node, rm_arena *arena, redmoon_reply **out, redmoon_error *err) {
  bool text = rm_lone_has_text(node);
  redmoon_reply *reply = rm_arena_alloc(arena, sizeof *reply + (text ? node->len + 1 : 0));
  if (reply == NULL) return rm_fail_nomem(err);
  *reply = *node;
  if (text) {
    reply->as.text = (char *)(reply + 1);
    copy(reply->as.text, node->as.text, node->len);
    reply->as.text[node->len] = '\0';
  }
  *out = reply;
  return 1;
}

/* The same of an array of such. */
static int build_array(const rm_lone_array *array, rm_arena *arena, redmoon_reply **out, redmoon_error *err) {
  redmoon_reply *reply = rm_arena_alloc(arena, (1 + array->count) * sizeof *reply + array->text);
  if (reply == NULL) return rm_fail_nomem(err);
  redmoon_reply *item = reply + 1;
  char *text = (char *)(item + array->count);
  *reply = (redmoon_reply){.type = array->type, .len = array->count};
  reply->as.items = array->count > 0 ? item : NULL;
  for (size_t i = 0; i < array->count; i++, item++) {
    *item = array->items[i];
    if (!rm_lone_has_text(item)) continue;
    copy(text, item->as.text, item->len);
    item->as.text = text;
    text += item->len;
    *text++ = '\0';
  }
  *out = reply;
  return 1;
}

/* The frame at the front of the buffer: 1 with its length in *end, 0, or negative. */
static int next_frame(rm_reader *reader, size_t have, size_t *end, rm_arena *arena, redmoon_reply **out,
                      redmoon_error *err) {
  const char *bytes = rm_buffer_begin(&reader->buffer);
  if (!reader->scanning) {
    redmoon_reply node;
    rm_lone_result lone = rm_lone_read(bytes, have, &reader->limits, &node, end);
    reader->known = lone == RM_LONE_MORE ? *end : 0;
    if (lone == RM_LONE_MORE) return 0;
    if (lone == RM_LONE_WHOLE) return build_lone(&node, arena, out, err);
    rm_lone_array array;
    if (rm_lone_read_array(bytes, have, &reader->limits, &array, end)) return build_array(&array, arena, out, err);
  }
  int rc = rm_scanner_scan(reader->scanner, bytes, have, end, err);
  reader->scanning = rc == 0;
  return rc == 1 ? build_frame(reader, *end, arena, out, err) : rc;
}

int rm_reader_next(rm_reader *reader, rm_arena *arena, redmoon_reply **out, redmoon_error *err) {
  if (reader->status != 0)
    return rm_fail_phase(err, reader->status, REDMOON_PHASE_RECEIVE, "an earlier reply on this connection was bad");
  size_t have = rm_buffer_len(&reader->buffer), end;
  if (have == 0) return 0;
  int rc = next_frame(reader, have, &end, arena, out, err);
  if (rc == 1) rm_buffer_consume(&reader->buffer, end);
  if (rc < 0) reader->status = rc;
  return rc;
}

void rm_reader_trim(rm_reader *reader) {
  if (rm_buffer_len(&reader->buffer) == 0) rm_buffer_reset(&reader->buffer, KEPT_BUFFER);
  if (reader->largest <= KEPT_BUFFER || reader->status != 0) return;
  redisReader *parser = new_parser(reader);
  if (parser == NULL) return; /* later, perhaps */
  redisReaderFree(reader->parser);
  reader->parser = parser;
  reader->largest = 0;
}

#ifdef REDMOON_TESTING
void rm_testing_route_hiredis_memory(void) {
  hiredisAllocFuncs funcs = {rm_alloc, rm_calloc, rm_realloc, rm_strdup, rm_free};
  hiredisSetAllocators(&funcs);
}
#endif
