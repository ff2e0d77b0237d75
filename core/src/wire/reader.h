/* SPDX-License-Identifier: MIT */
/** Bytes in, replies out: the frame scanner in front of the hiredis reader.
 *
 *      recv -> buffer -> scanner: end of the frame? sane? -> hiredis reader -> nodes in an arena
 *
 *  Only whole, sane frames reach hiredis.  Attributes are dropped.  An error is final: the connection must be closed. */
#ifndef RM_WIRE_READER_H
#define RM_WIRE_READER_H

#include "base/buffer.h"
#include "wire/reply.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct rm_limits {
  size_t max_reply;    /* bytes of one top-level frame, also of one bulk */
  size_t max_elements; /* of all aggregates of one frame together */
  size_t max_line;     /* bytes of a line without its CRLF */
  int max_depth;
} rm_limits;
#define RM_LIMITS_DEFAULT ((rm_limits){(size_t)512 << 20, (size_t)1 << 24, (size_t)64 << 10, 32})
/** Limits that belong to a max_reply_size. */
rm_limits rm_limits_for(int64_t max_reply_size);

typedef struct rm_reader rm_reader;

rm_reader *rm_reader_new(const rm_limits *limits); /* NULL: no memory */
void rm_reader_free(rm_reader *reader);
/** Room for at least `min` bytes to be received into, more if there is; *room says how much.  NULL: no memory. */
char *rm_reader_space(rm_reader *reader, size_t min, size_t *room);
/** `len` bytes were put at rm_reader_space. */
void rm_reader_added(rm_reader *reader, size_t len);
/** How many bytes the next receive had better make room for: the rest of a known large frame, else 64 KiB. */
size_t rm_reader_want(const rm_reader *reader);
/** How many of the received bytes have not been given out as replies, and whether there are any. */
size_t rm_reader_len(const rm_reader *reader);
bool rm_reader_has_bytes(const rm_reader *reader);
/** The next whole frame.  Returns 1 (*out in `arena`; check its type for PUSH), 0 (more bytes are needed), or a
 *  negative status: PROTOCOL, TOO_LARGE (final), NOMEM (final). */
int rm_reader_next(rm_reader *reader, rm_arena *arena, redmoon_reply **out, redmoon_error *err);
/** Between commands: gives back what a large reply took, beyond 512 KiB (twice, for replies that are not lone strings). */
void rm_reader_trim(rm_reader *reader);

#ifdef REDMOON_TESTING
/** From here on hiredis takes its memory through base/alloc.h, so that tests can refuse it. */
void rm_testing_route_hiredis_memory(void);
#endif

#endif
