/* SPDX-License-Identifier: MIT */
/** The reply tree behind redmoon_reply. */
#ifndef RM_WIRE_REPLY_H
#define RM_WIRE_REPLY_H

#include "base/arena.h"

#include <redmoon/error.h>
#include <redmoon/reply.h>

struct redmoon_reply {
  redmoon_type type;
  size_t len; /* bytes of a text; elements of an aggregate (a MAP of n pairs has 2 n) */
  union {
    int64_t integer; /* INTEGER, BOOLEAN */
    double number;   /* DOUBLE */
    char *text;      /* STRING, STATUS, ERROR, BIGNUM, VERBATIM; NUL-ended */
    redmoon_reply *items;
  } as;
};

/** Hands `reply` and the arena it lives in to a caller: *out is to be freed by redmoon_reply_free.  On success the
 *  arena is empty afterwards; on REDMOON_ENOMEM nothing changed. */
int rm_reply_detach(const redmoon_reply *reply, rm_arena *arena, redmoon_reply **out);
/** Whether an ERROR reply begins with this code word. */
int rm_reply_is_error(const redmoon_reply *reply, const char *code);

#endif
