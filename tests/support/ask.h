/* SPDX-License-Identifier: MIT */
/* Short ways to ask a server something in a test.  They fail the test on any error; arguments end with NULL. */
#ifndef TESTS_ASK_H
#define TESTS_ASK_H

#include <redmoon/redmoon.h>

/** Sends a command of NUL-terminated arguments; the reply is the caller's. */
redmoon_reply *ask(redmoon_client *client, const char *name, ...);
/** Its integer reply. */
int64_t ask_integer(redmoon_client *client, const char *name, ...);
/** Its text reply, copied into `out` (binary: its length is returned); -1 for nil. */
int64_t ask_text(redmoon_client *client, char *out, size_t cap, const char *name, ...);

#endif
