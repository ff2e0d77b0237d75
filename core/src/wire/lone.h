/* SPDX-License-Identifier: MIT */
/** The short way for the commonest frames: one string, status, error, integer or nil, nothing around it; and a short array
 *  or push of such, which is what scripts answer and messages are.  What it does not recognise at once goes the long way, through the scanner,
 *  which judges it. */
#ifndef RM_WIRE_LONE_H
#define RM_WIRE_LONE_H

#include "wire/reader.h"

typedef enum rm_lone_result {
  RM_LONE_NO,   /* anything else, or not certain yet */
  RM_LONE_MORE, /* a bulk string of which *end bytes are needed */
  RM_LONE_WHOLE /* node and *end are set; a text still lies in `bytes`, without a NUL */
} rm_lone_result;

/** Looks at the begin of a frame, of which `len` bytes are here. */
rm_lone_result rm_lone_read(const char *bytes, size_t len, const rm_limits *limits, redmoon_reply *node, size_t *end);

/** Of the values that are read here: those whose text is to be copied. */
static inline bool rm_lone_has_text(const redmoon_reply *node) {
  return node->type == REDMOON_STRING || node->type == REDMOON_STATUS || node->type == REDMOON_ERROR;
}

enum { RM_LONE_ITEMS = 16 };
typedef struct rm_lone_array {
  redmoon_reply items[RM_LONE_ITEMS]; /* their texts still lie in `bytes`, without a NUL */
  redmoon_type type;                  /* REDMOON_ARRAY or REDMOON_PUSH */
  size_t count, text;                 /* text: room that all texts need, each with a NUL */
} rm_lone_array;
/** An array or a push of up to RM_LONE_ITEMS values, all of it here: true, with *end behind it. */
bool rm_lone_read_array(const char *bytes, size_t len, const rm_limits *limits, rm_lone_array *array, size_t *end);

#endif
