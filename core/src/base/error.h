/* SPDX-License-Identifier: MIT */
/** Filling a caller's redmoon_error. */
#ifndef RM_BASE_ERROR_H
#define RM_BASE_ERROR_H

#include <redmoon/error.h>
#include <stddef.h>

/** Resets to "no error".  NULL is allowed. */
void rm_error_clear(redmoon_error *err);
/** *to = *from; of what is no error only the numbers, for the texts are empty and make up nearly all of it. */
void rm_error_copy(redmoon_error *to, const redmoon_error *from);
/** Sets status, its code word and the message (control bytes escaped, cut to fit); phase, outcome, retryable, attempts
 *  and address are reset.  Returns `status`, so that `return rm_fail(...)` reads well.  err NULL is allowed. */
int rm_fail(redmoon_error *err, int status, const char *format, ...) REDMOON_PRINTF(3, 4);
/** The same, with the phase. */
int rm_fail_phase(redmoon_error *err, int status, redmoon_phase phase, const char *format, ...) REDMOON_PRINTF(4, 5);
/** REDMOON_ENOMEM with its usual text. */
int rm_fail_nomem(redmoon_error *err);
/** The same for want of memory for the reply: outcome ANSWERED, because what the server did is done. */
int rm_fail_nomem_answered(redmoon_error *err);
/** A server's error reply: status REDMOON_ESERVER, its first word as code (at most 31 bytes of [A-Z0-9_], else "ERR"),
 *  outcome ANSWERED. */
int rm_fail_server(redmoon_error *err, const char *text, size_t len);
/** How much of an error reply may be shown: servers quote the arguments of commands that they do not know. */
size_t rm_error_shown_len(const char *text, size_t len);
/** Copies `text` into `out` (size `cap` >= 1) with control bytes and non-ASCII garbage escaped as \xNN, NUL-ended. */
void rm_escape(char *out, size_t cap, const char *text, size_t len);
/** Text of an errno, thread-safe, into `buf`; returns it. */
const char *rm_errno_text(int code, char *buf, size_t cap);

#endif
