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
  RM_STATUS_COUNT_OK = 1, /* all of it was counted (get: read) */
  RM_STATUS_COUNT_CLAMPED = 2, /* as much of it as the bounds let through */
  RM_STATUS_COUNT_REFUSED = 0, /* it is out of bounds, and nothing was written */
};

#endif
