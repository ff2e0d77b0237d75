/* SPDX-License-Identifier: MIT */
/** Built-in scripts, and the operation that runs one and decodes its reply: all a pattern needs. */
#ifndef RM_ENGINE_SCRIPT_H
#define RM_ENGINE_SCRIPT_H

#include "engine/call.h"

#include <redmoon/script.h>

/** A file of scripts/, expanded at build.  Immutable, static. */
typedef struct rm_builtin {
  const char *name; /* "lock_acquire" */
  const char *source;
  size_t len;
  const char *sha1; /* 40 hex digits */
} rm_builtin;

redmoon_bytes rm_script_source(const redmoon_script *script);
/** RM_CALL_REPEATABLE for a script that only reads. */
unsigned rm_script_flags(const redmoon_script *script);

/** An answer that is not an error. */
typedef struct rm_answer {
  const redmoon_reply *reply;
  int attempts;  /* how often it was tried */
  bool repeated; /* an attempt before the answered one may have been executed */
} rm_answer;
/** Decodes it into the caller's out-parameters. */
typedef int (*rm_decode_fn)(void *ctx, const rm_answer *answer, redmoon_error *err);
/** Ends `ctx`, whether or not it was decoded into.  `outcome`: what is known of the script's execution. */
typedef void (*rm_drop_fn)(void *ctx, redmoon_outcome outcome);

/** An operation that runs `script`; flags RM_CALL_REPEATABLE when its repetition is harmless.  `decode` is called by
 *  redmoon_op_finish; `drop` exactly once, also when this fails.  Both NULL-able. */
REDMOON_API int rm_builtin_start(redmoon_client *client, const rm_builtin *script, const redmoon_script_args *args,
                                 unsigned flags, rm_decode_fn decode, rm_drop_fn drop, void *ctx, redmoon_op **op,
                                 redmoon_error *err);

/** For operations that embed a call: formats `script` into it as the only command. */
int rm_builtin_format(rm_call *call, const rm_builtin *script, const redmoon_script_args *args, unsigned flags,
                      redmoon_error *err);

/** Whether it was shut down; an operation that only lets time pass has to look. */
bool rm_client_is_closed(const redmoon_client *client);
/** The process that the client belongs to now: another in a forked child. */
long rm_client_pid(redmoon_client *client);
/** 2 * bytes random lower-case hex digits and a NUL; a forked child gets others than its parent. */
void rm_client_random_hex(redmoon_client *client, char *out, size_t bytes);
/** Key prefix of all patterns: option key_prefix, else "redmoon". */
const char *rm_client_key_prefix(const redmoon_client *client);
/** Adds to a counter of metrics(): redmoon_<pattern>_total{result="<result>"}.  Both are static strings of the patterns. */
void rm_client_count(redmoon_client *client, const char *pattern, const char *result);
/** The counter itself, for what is counted very often; it lives as long as the client.  NULL without memory. */
_Atomic uint64_t *rm_client_counter(redmoon_client *client, const char *pattern, const char *result);

#endif
