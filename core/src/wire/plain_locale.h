/* SPDX-License-Identifier: MIT */
/** The "C" locale for one thread, for as long as strtod is needed with "." as decimal point. */
#ifndef RM_WIRE_PLAIN_LOCALE_H
#define RM_WIRE_PLAIN_LOCALE_H

#include <locale.h>
#include <stdbool.h>

typedef struct rm_plain_locale {
  locale_t plain, before;
} rm_plain_locale;

/** false: no memory. */
static inline bool rm_plain_locale_enter(rm_plain_locale *scope) {
  scope->plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (scope->plain == (locale_t)0) return false;
  scope->before = uselocale(scope->plain);
  return true;
}

static inline void rm_plain_locale_leave(rm_plain_locale *scope) {
  uselocale(scope->before);
  freelocale(scope->plain);
}

#endif
