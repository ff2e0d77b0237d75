/* SPDX-License-Identifier: MIT */
/* libFuzzer: however the input is cut, the reader gives the same replies or the same error; and what the scanner
 * lets through, hiredis accepts, with as many values as the scanner counted. */
#include "wire/scanner.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPLIES_MAX = 256 };

/* A digest of each reply, and how the input ended. */
typedef struct outcome {
  uint64_t replies[REPLIES_MAX];
  size_t nodes[REPLIES_MAX];
  size_t count;
  int rc;
  redmoon_error err;
} outcome;

static void require(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "property does not hold: %s\n", what);
  abort();
}

static uint64_t mix(uint64_t digest, uint64_t value) { return (digest ^ value) * UINT64_C(1099511628211); }

static uint64_t digest_of(const redmoon_reply *reply, uint64_t digest, size_t *nodes) {
  ++*nodes;
  digest = mix(digest, reply->type);
  digest = mix(digest, reply->len);
  size_t len;
  const char *text = redmoon_reply_string(reply, &len);
  if (text != NULL) {
    for (size_t i = 0; i < len; i++) digest = mix(digest, (unsigned char)text[i]);
    require(text[len] == '\0', "texts end with a NUL");
  } else if (reply->type >= REDMOON_ARRAY) {
    for (size_t i = 0; i < reply->len; i++) digest = digest_of(&reply->as.items[i], digest, nodes);
  } else {
    digest = mix(digest, (uint64_t)reply->as.integer);
  }
  return digest;
}

static void drain(rm_reader *reader, outcome *o) {
  redmoon_reply *reply;
  rm_arena arena = {0};
  while (o->count < REPLIES_MAX && (o->rc = rm_reader_next(reader, &arena, &reply, &o->err)) == 1) {
    o->nodes[o->count] = 0;
    o->replies[o->count] = digest_of(reply, 14695981039346656037u, &o->nodes[o->count]);
    o->count++;
    rm_arena_reset(&arena, 4096);
  }
  rm_arena_fini(&arena);
}

static outcome *read_all(const rm_limits *limits, const uint8_t *data, size_t size, size_t step) {
  outcome *o = calloc(1, sizeof *o);
  rm_reader *reader = rm_reader_new(limits);
  for (size_t at = 0; at < size && o->rc >= 0;) {
    size_t part = size - at < step ? size - at : step, room;
    char *space = rm_reader_space(reader, part, &room);
    memcpy(space, data + at, part);
    rm_reader_added(reader, part);
    at += part;
    drain(reader, o);
  }
  rm_reader_free(reader);
  return o;
}

static void compare_with_scanner(const rm_limits *limits, const uint8_t *data, size_t size, const outcome *o) {
  rm_scanner *scanner = rm_scanner_new(limits);
  size_t end, at = 0, count = 0;
  int rc = 0;
  while (at < size && count < REPLIES_MAX &&
         (rc = rm_scanner_scan(scanner, (const char *)data + at, size - at, &end, NULL)) == 1) {
    /* The one thing the scanner leaves to the parser: doubles beyond the range. */
    if (count == o->count && o->rc < 0 && strstr(o->err.message, "double") != NULL) break;
    require(count < o->count, "hiredis accepts what the scanner lets through");
    require(rm_scanner_frame(scanner)->nodes == o->nodes[count], "both count the same values");
    at += end;
    count++;
  }
  if (rc != 1) require(count == o->count && (at == size || rc == o->rc), "both end alike");
  rm_scanner_free(scanner);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  rm_limits limits = {8192, 512, 256, 8};
  if (size == 0) return 0;
  outcome *whole = read_all(&limits, data, size, size);
  compare_with_scanner(&limits, data, size, whole);
  static const size_t steps[] = {1, 5};
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    outcome *cut = read_all(&limits, data, size, steps[i]);
    require(cut->rc == whole->rc && cut->count == whole->count, "any cut ends alike");
    require(memcmp(cut->replies, whole->replies, sizeof cut->replies) == 0, "any cut gives the same replies");
    free(cut);
  }
  free(whole);
  return 0;
}
