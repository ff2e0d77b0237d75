/* SPDX-License-Identifier: MIT */
/** What scripts answer.  Generated from scripts/include/status.lua by cmake/scripts.cmake (tools/generate). */
#ifndef RM_PATTERNS_STATUS_GENERATED_H
#define RM_PATTERNS_STATUS_GENERATED_H

enum {
  RM_STATUS_LOCK_OK = 1, /* acquired, extended or released */
  RM_STATUS_LOCK_HELD = 0, /* another token holds it */
  RM_STATUS_LOCK_GONE = -1, /* nobody holds it */
  RM_STATUS_RATE_ALLOWED = 1, /* the units were taken (peek: would be) */
  RM_STATUS_RATE_DENIED = 0, /* they were not, and nothing was written */
  RM_STATUS_RECORD_OK = 1, /* there is a record, and what was asked was done */
  RM_STATUS_RECORD_GONE = 0, /* there is none, nothing was written */
  RM_STATUS_RECORD_CONFLICT = -1, /* it has another version, nothing was written */
  RM_STATUS_RECORD_RANGE = -2, /* the sum is out of the field's range, nothing was written */
  RM_STATUS_RECORD_UNREADABLE = -3, /* the field holds no number, nothing was written */
};

#endif
