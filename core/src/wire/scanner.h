/* SPDX-License-Identifier: MIT */
/** The frame scanner: finds the end of a top-level RESP2/RESP3 frame in linear time, whatever way the bytes are
 *  cut, and refuses what is insane before memory is spent on it. */
#ifndef RM_WIRE_SCANNER_H
#define RM_WIRE_SCANNER_H

#include "wire/reader.h"

#define RM_SCANNER_MAX_DEPTH 512

typedef enum rm_frame_kind { RM_FRAME_REPLY, RM_FRAME_PUSH } rm_frame_kind;

/** A run of bytes to be left out (an attribute), relative to the frame's begin. */
typedef struct rm_scanner_gap {
  size_t begin, end;
} rm_scanner_gap;

/** A blob error (`!`), which hiredis 1.2.0 refuses: where its type byte stands, relative to the frame's begin, and
 *  which value of the frame it is, counted from 0 in wire order without attributes. */
typedef struct rm_scanner_blob_error {
  size_t offset, node;
} rm_scanner_blob_error;

/** What is known of a frame that was found. */
typedef struct rm_frame {
  rm_frame_kind kind;
  bool has_double;
  size_t nodes; /* values in it, aggregates included */
  size_t text;  /* bytes of all its texts, a NUL for each included */
  const rm_scanner_gap *gaps;
  const rm_scanner_blob_error *blob_errors;
  size_t gap_count, blob_error_count;
} rm_frame;

typedef struct rm_scanner rm_scanner;

rm_scanner *rm_scanner_new(const rm_limits *limits);
void rm_scanner_free(rm_scanner *scanner);
/** Looks at bytes[0 .. len): the frame's bytes from its first one, as many as have been received; each call sees
 *  at least as many as the last, and goes on where that stopped.  Returns 1 (*end is the frame's length; the
 *  scanner is ready for the next frame), 0 (incomplete), or negative (PROTOCOL, TOO_LARGE, NOMEM) with `err`. */
int rm_scanner_scan(rm_scanner *scanner, const char *bytes, size_t len, size_t *end, redmoon_error *err);

/** The frame found last; valid until the next scan. */
const rm_frame *rm_scanner_frame(const rm_scanner *scanner);
/** Of the unfinished frame: its length as far as known from headers (0: unknown). */
size_t rm_scanner_known_length(const rm_scanner *scanner);

#endif
