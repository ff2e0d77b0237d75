/* SPDX-License-Identifier: MIT */
/** The short way for the commonest frames: one string, status, error, integer or nil, nothing around it.  What it does
 *  not recognise at once goes the long way, through the scanner, which judges it. */
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

#endif
