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
  RM_STATUS_LOCK_MORE = 2, /* the owner holds it more than once: acquired again, or released and still held */
  RM_STATUS_LOCK_SPENT = -2, /* it has been held for as long as it may */
};

#endif
