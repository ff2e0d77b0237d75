/* SPDX-License-Identifier: MIT */
/** Replies: an immutable tree in one arena, whatever protocol it came by (RESP2 or RESP3,
 *  https://redis.io/docs/latest/develop/reference/protocol-spec/). */
#ifndef REDMOON_REPLY_H
#define REDMOON_REPLY_H

#include <redmoon/export.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum redmoon_type {
  REDMOON_NIL = 0,
  REDMOON_STATUS,   /**< simple string: "OK", "PONG" */
  REDMOON_ERROR,    /**< text with its code word first */
  REDMOON_INTEGER,
  REDMOON_DOUBLE,
  REDMOON_BOOLEAN,
  REDMOON_STRING,   /**< bulk string, binary-safe */
  REDMOON_BIGNUM,   /**< digits, as text */
  REDMOON_VERBATIM, /**< text; its three-letter format prefix is dropped */
  REDMOON_ARRAY,
  REDMOON_SET,
  REDMOON_MAP,
  REDMOON_PUSH
} redmoon_type;

/** Thread class: immutable.  A reply that a function returned is owned by the caller (redmoon_reply_free);
 *  the elements inside belong to it and must not be freed. */
typedef struct redmoon_reply redmoon_reply;

REDMOON_API redmoon_type redmoon_reply_type(const redmoon_reply *reply);
/** Value of an INTEGER or BOOLEAN (0 or 1), else 0. */
REDMOON_API int64_t redmoon_reply_integer(const redmoon_reply *reply);
/** Value of a DOUBLE or INTEGER, else 0. */
REDMOON_API double redmoon_reply_double(const redmoon_reply *reply);
/** Bytes of STRING, STATUS, ERROR, BIGNUM and VERBATIM, with a NUL after the last; NULL for other types.
 *  `len` may be NULL. */
REDMOON_API const char *redmoon_reply_string(const redmoon_reply *reply, size_t *len);
/** Elements of an ARRAY, SET or PUSH; pairs of a MAP; else 0. */
REDMOON_API size_t redmoon_reply_count(const redmoon_reply *reply);
/** Element `index` of an ARRAY, SET or PUSH, counted from 0; NULL beyond the end and for other types. */
REDMOON_API const redmoon_reply *redmoon_reply_at(const redmoon_reply *reply, size_t index);
/** Key and value of pair `index` of a MAP; NULL beyond the end and for other types. */
REDMOON_API const redmoon_reply *redmoon_reply_key(const redmoon_reply *reply, size_t index);
REDMOON_API const redmoon_reply *redmoon_reply_value(const redmoon_reply *reply, size_t index);
/** Frees a reply and all inside it, iteratively.  NULL is allowed. */
REDMOON_API void redmoon_reply_free(redmoon_reply *reply);

#ifdef __cplusplus
}
#endif
#endif
