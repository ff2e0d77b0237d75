/* SPDX-License-Identifier: MIT */
/** One command, or many in one round trip. */
#ifndef REDMOON_COMMAND_H
#define REDMOON_COMMAND_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sends one command and waits for its reply.  `lens` NULL: the arguments are NUL-terminated.  An error reply of
 *  the server is status REDMOON_ESERVER with its text in `err`, and *reply is NULL; a missing key is 0 with a
 *  reply of type NIL.  *reply is owned by the caller (redmoon_reply_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_command(redmoon_client *client, int argc, const char *const *argv,
                                                   const size_t *lens, redmoon_reply **reply, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_command_start(redmoon_client *client, int argc, const char *const *argv,
                                                         const size_t *lens, redmoon_reply **reply, redmoon_op **op,
                                                         redmoon_error *err);

/** A pipeline: commands collected, then sent together.  Thread class: one thread at a time. */
typedef struct redmoon_pipeline redmoon_pipeline;

/** How one command of a pipeline ended. */
typedef struct redmoon_result {
  const redmoon_reply *reply; /**< what the server answered (may be of type ERROR); NULL if it did not */
  redmoon_outcome outcome;
} redmoon_result;

REDMOON_API REDMOON_MUST_CHECK int redmoon_pipeline_new(redmoon_client *client, redmoon_pipeline **out,
                                                        redmoon_error *err);
/** Adds a command.  Returns its index, counted from 0, or a negative status and nothing was added. */
REDMOON_API int64_t redmoon_pipeline_command(redmoon_pipeline *pipeline, int argc, const char *const *argv,
                                             const size_t *lens, redmoon_error *err);
REDMOON_API size_t redmoon_pipeline_count(const redmoon_pipeline *pipeline);
/** Sends everything and waits for all replies.  0: every command was answered (perhaps with an error of its own:
 *  see redmoon_pipeline_result).  Negative: the connection failed; what was answered before is kept, and each
 *  command has its own outcome.  May be run once. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_pipeline_run(redmoon_pipeline *pipeline, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_pipeline_run_start(redmoon_pipeline *pipeline, redmoon_op **op,
                                                              redmoon_error *err);
/** Result of command `index`, after the run; belongs to the pipeline. */
REDMOON_API redmoon_result redmoon_pipeline_result(const redmoon_pipeline *pipeline, size_t index);
/** NULL is allowed. */
REDMOON_API void redmoon_pipeline_free(redmoon_pipeline *pipeline);

#ifdef __cplusplus
}
#endif
#endif
