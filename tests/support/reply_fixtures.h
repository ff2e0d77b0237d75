/* SPDX-License-Identifier: MIT */
/** Replies as bytes on the wire, each with the tree they mean, written as text. */
#ifndef TESTS_SUPPORT_REPLY_FIXTURES_H
#define TESTS_SUPPORT_REPLY_FIXTURES_H

#include <redmoon/reply.h>
#include <stddef.h>

typedef struct reply_fixture {
  const char *bytes;
  size_t len;
  const char *text; /* as reply_text writes it */
} reply_fixture;

extern const reply_fixture reply_fixtures[];
extern const size_t reply_fixture_count;

/** Writes a reply as text: nil  +status  -error  1  ,1.5  true  "string"  (bignum  ="verbatim"  [array]  ~[set]
 *  {key:value}  >[push].  Returns `out`; what does not fit is cut. */
const char *reply_text(const redmoon_reply *reply, char *out, size_t cap);

#endif
