/* SPDX-License-Identifier: MIT */
/** What every public declaration is marked with: visibility and contract attributes. */
#ifndef REDMOON_EXPORT_H
#define REDMOON_EXPORT_H

#if defined(REDMOON_STATIC)
#define REDMOON_API
#elif defined(__GNUC__)
#define REDMOON_API __attribute__((visibility("default")))
#else
#define REDMOON_API
#endif

#if defined(__GNUC__)
#define REDMOON_MUST_CHECK __attribute__((warn_unused_result))
#define REDMOON_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define REDMOON_MUST_CHECK
#define REDMOON_PRINTF(text, first)
#endif

#endif
