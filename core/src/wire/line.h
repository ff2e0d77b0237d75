/* SPDX-License-Identifier: MIT */
/** What may stand on one RESP line: numbers, doubles, big numbers. */
#ifndef RM_WIRE_LINE_H
#define RM_WIRE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rm_number {
  bool negative;
  uint64_t magnitude; /* UINT64_MAX for what does not fit */
} rm_number;

typedef enum rm_line_result { RM_LINE_MORE, RM_LINE_DONE, RM_LINE_BAD, RM_LINE_STREAMED } rm_line_result;

/** Reads `-`? digits CRLF without leading zeros, "+" or "-0"; *used counts the CRLF.  STREAMED for a line that
 * begins with "?". */
rm_line_result rm_line_number(const char *line, size_t len, rm_number *number, size_t *used);
/** Whether it is a decimal number, "inf", "-inf", "nan" or "-nan", at most 325 bytes long (as hiredis has it). */
bool rm_line_is_double(const char *line, size_t len);
/** Its value, correctly rounded, whatever the locale; false for what is no double, overflows, or when memory is
 * short. */
bool rm_line_double(const char *line, size_t len, double *value);
/** Whether it is digits, perhaps behind a "-". */
bool rm_line_is_big_number(const char *line, size_t len);

#endif
