/* SPDX-License-Identifier: MIT */
/** The frame scanner: finds the end of a top-level RESP2/RESP3 frame in linear time, whatever way the bytes are cut,
 *  and refuses what is insane before memory is spent on it. */
#ifndef RM_WIRE_SCANNER_H
#define RM_WIRE_SCANNER_H

#include "wire/reader.h"

#define RM_SCANNER_MAX_DEPTH 512

typedef enum rm_frame_kind { RM_FRAME_REPLY, RM_FRAME_PUSH } rm_frame_kind;

/** A run of bytes to be left out (an attribute), relative to the frame's begin. */
typedef struct rm_scanner_gap {
  size_t begin, end;
} rm_scanner_gap;

/** A blob error (`!`), which hiredis 1.2.0 refuses: where its type byte stands, relative to the frame's begin, and which
 *  value of the frame it is, counted from 0 in wire order without attributes. */
typedef struct rm_scanner_blob_error {
  size_t offset, node;
} rm_scanner_blob_error;

typedef struct rm_scanner rm_scanner;

rm_scanner *rm_scanner_new(const rm_limits *limits);
void rm_scanner_free(rm_scanner *scanner);
/** Looks at bytes[0 .. len): the frame's bytes from its first one, as many as have been received; each call sees at
 *  least as many as the last, and goes on where that stopped.  Returns 1 (*end is the frame's length; the scanner is
 *  ready for the next frame), 0 (incomplete), or negative (PROTOCOL, TOO_LARGE, NOMEM) with `err`. */
int rm_scanner_scan(rm_scanner *scanner, const char *bytes, size_t len, size_t *end, redmoon_error *err);

/* Of the frame found last: */
rm_frame_kind rm_scanner_kind(const rm_scanner *scanner);
size_t rm_scanner_nodes(const rm_scanner *scanner); /* values in it, aggregates included */
size_t rm_scanner_text(const rm_scanner *scanner);  /* bytes of all its texts, a NUL for each included */
bool rm_scanner_has_double(const rm_scanner *scanner);
const rm_scanner_gap *rm_scanner_gaps(const rm_scanner *scanner, size_t *count);
const rm_scanner_blob_error *rm_scanner_blob_errors(const rm_scanner *scanner, size_t *count);
/** Of the unfinished frame: its length as far as known from headers (0: unknown). */
size_t rm_scanner_known_length(const rm_scanner *scanner);

#endif
