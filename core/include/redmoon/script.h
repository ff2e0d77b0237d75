/* SPDX-License-Identifier: MIT */
/** Server-side Lua scripts: EVALSHA, then EVAL where the server answers NOSCRIPT; loaded first inside pipelines and
 *  transactions. */
#ifndef REDMOON_SCRIPT_H
#define REDMOON_SCRIPT_H

#include <redmoon/command.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable, reference-counted. */
typedef struct redmoon_script redmoon_script;

/** Bytes given to a script or command; `len` bytes at `ptr`, which may be NULL when `len` is 0. */
typedef struct redmoon_bytes {
  const void *ptr;
  size_t len;
} redmoon_bytes;

/** Keys and arguments of one run. */
typedef struct redmoon_script_args {
  const redmoon_bytes *keys;
  size_t key_count;
  const redmoon_bytes *args;
  size_t arg_count;
} redmoon_script_args;

/** Copies the source and computes its SHA-1.  A first line `#!lua flags=no-writes` marks it read-only.  *out is a
 *  reference owned by the caller (redmoon_script_unref). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_script_new(const void *source, size_t len, redmoon_script **out,
                                                      redmoon_error *err);
REDMOON_API redmoon_script *redmoon_script_ref(redmoon_script *script);
REDMOON_API void redmoon_script_unref(redmoon_script *script);
/** 40 lower-case hex digits; lives as long as the script. */
REDMOON_API const char *redmoon_script_sha1(const redmoon_script *script);

/** Runs it; reply and errors as of redmoon_command. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_script_run(redmoon_client *client, redmoon_script *script,
                                                      const redmoon_script_args *args, redmoon_reply **reply,
                                                      redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_script_run_start(redmoon_client *client, redmoon_script *script,
                                                            const redmoon_script_args *args, redmoon_reply **reply,
                                                            redmoon_op **op, redmoon_error *err);
/** Adds a run to a pipeline; returns its index or a negative status. */
REDMOON_API int64_t redmoon_pipeline_script(redmoon_pipeline *pipeline, redmoon_script *script,
                                            const redmoon_script_args *args, redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
