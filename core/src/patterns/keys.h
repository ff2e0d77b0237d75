/* SPDX-License-Identifier: MIT */
/** The keys of all patterns: `<prefix>:{<name>}:<part>`, so that all keys of one object share a hash slot. */
#ifndef RM_PATTERNS_KEYS_H
#define RM_PATTERNS_KEYS_H

#include <redmoon/script.h>

#define RM_NAME_MAX 512
#define RM_REQUEST_ID_MAX 128
#define RM_PART_MAX 96 /* of an object whose name has 64 bytes, and what the pattern adds to that */

/** Checks a caller's name: 1 to RM_NAME_MAX bytes, any bytes.  0 or REDMOON_ECONFIG; `what` begins the message. */
int rm_name_check(const char *what, const void *name, size_t len, redmoon_error *err);

/** Builds a key.  Different (prefix, name, part) give different keys:
 *
 *      prefix:{name}:part    `{`, `}` and `%` in the name are written %7B, %7D and %25
 *      prefix:~name:part     the name has a hash tag of its own (`user:{42}`): it is kept as it is
 *
 *  and `{`, `}`, `~` and `%` in the prefix are written %7B, %7D, %7E and %25.  `part` is a word of the pattern's,
 * without
 *  ':' and braces.  key->ptr is owned by the caller (rm_key_free).  0 or REDMOON_ENOMEM. */
int rm_key_build(const char *prefix, const void *name, size_t len, const char *part, redmoon_bytes *key,
                 redmoon_error *err);
/** Builds several keys of one object: keys[0].ptr is owned by the caller (rm_key_free), the others lie behind it.  0 or
 *  REDMOON_ENOMEM. */
int rm_keys_build(const char *prefix, const void *name, size_t len, const char *const *parts, size_t count,
                  redmoon_bytes *keys, redmoon_error *err);
/** Checks the id that a caller gave a request: NULL (none), or 1 to 128 of A-Z a-z 0-9 . _ -.  0 or REDMOON_ECONFIG. */
int rm_request_id_check(const char *id, redmoon_error *err);
/** Builds the key under which the answer to a request is kept (scripts/include/request.lua): part "<part>+req.<id>";
 *  no name has a '+', so it is no other object's key.
 *  The id was checked and is not NULL; `part` has RM_PART_MAX bytes at most. */
int rm_request_key_build(const char *prefix, const void *name, size_t len, const char *part, const char *id,
                         redmoon_bytes *key, redmoon_error *err);
/** Frees key->ptr and empties `key`. */
void rm_key_free(redmoon_bytes *key);

#endif
