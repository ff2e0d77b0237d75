/* SPDX-License-Identifier: MIT */
/** Reading, writing and checking one option of the table in wire/config.h. */
#ifndef RM_WIRE_OPTIONS_H
#define RM_WIRE_OPTIONS_H

#include "wire/config.h"

/** The number (of INTEGER, DURATION and BOOL) that `options` holds for `option`; REDMOON_UNSET: not given. */
int64_t rm_option_number(const rm_option *option, const redmoon_options *options);
void rm_option_set_number(const rm_option *option, redmoon_options *options, int64_t value);
/** The text (of TEXT and SECRET); NULL: not given. */
const char *rm_option_text(const rm_option *option, const redmoon_options *options);
void rm_option_set_text(const rm_option *option, redmoon_options *options, const char *value);

/** Whether a number lies in the option's range: 0, or REDMOON_ECONFIG with the option, the value and what it
 * accepts. */
int rm_option_check(const rm_option *option, int64_t value, redmoon_error *err);
/** The same for a text: its length and, where the option has a grammar, its form.  A SECRET is never shown. */
int rm_option_check_text(const rm_option *option, const char *ptr, size_t len, redmoon_error *err);
/** From text (durations in seconds, decimal point whatever the locale; finer than 1 ms is rounded up) to a checked
 *  number in the struct's unit. */
int rm_option_parse(const rm_option *option, const char *ptr, size_t len, int64_t *out, redmoon_error *err);

#endif
