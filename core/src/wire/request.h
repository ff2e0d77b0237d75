/* SPDX-License-Identifier: MIT */
/** Requests: RESP arrays of bulk strings, formatted straight into the buffer that is sent, and kept there until they
 *  are answered, so that a retry sends the same bytes. */
#ifndef RM_WIRE_REQUEST_H
#define RM_WIRE_REQUEST_H

#include "base/buffer.h"

#include <redmoon/script.h>
#include <stdint.h>

typedef struct rm_mark {
  size_t end;     /* offset in the bytes just behind this command */
  uint32_t flags; /* the engine's */
  uint32_t tag;   /* the engine's */
} rm_mark;

typedef struct rm_request {
  rm_buffer bytes;
  rm_mark *marks; /* one for each command; points to `one` while there is only one */
  size_t count, cap;
  rm_mark one;
  int status; /* first failure: REDMOON_ENOMEM; formatting goes on as a no-op, rm_request_end reports it */
} rm_request;

void rm_request_init(rm_request *request);
void rm_request_fini(rm_request *request);
/** Empties it, keeping at most `keep` bytes of memory. */
void rm_request_reset(rm_request *request, size_t keep);
/** A command of `argc` arguments begins; exactly so many rm_request_arg* calls follow, then rm_request_end. */
void rm_request_begin(rm_request *request, size_t argc);
void rm_request_arg(rm_request *request, const void *ptr, size_t len);
/** An argument that was formatted before: "$3\r\nGET\r\n". */
void rm_request_formatted(rm_request *request, const char *text, size_t len);
void rm_request_text(rm_request *request, const char *text);
void rm_request_integer(rm_request *request, int64_t value);
/** Integral values below 2^63 as integers, others in the shortest form that reads back the same; "inf", "-inf", "nan". */
void rm_request_double(rm_request *request, double value);
/** 0, or REDMOON_ENOMEM: the unfinished command is taken back. */
int rm_request_end(rm_request *request, uint32_t flags, uint32_t tag);
/** Adds all commands of another request.  0, or REDMOON_ENOMEM and nothing was added. */
int rm_request_append(rm_request *request, const rm_request *other);
/** begin, args, end. `lens` NULL: NUL-ended. */
int rm_request_argv(rm_request *request, int argc, const char *const *argv, const size_t *lens, uint32_t flags,
                    uint32_t tag);
/** Arguments of command `index`, read back: at most `max` are stored, the number there is returned. */
size_t rm_request_args(const rm_request *request, size_t index, redmoon_bytes *args, size_t max);
/** Shortest decimal text that reads back as `value`, whatever the locale; `out` holds 32 bytes. Returns its length. */
size_t rm_format_double(char *out, double value);

#endif
