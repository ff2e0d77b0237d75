/* SPDX-License-Identifier: MIT */
/** Transactions: WATCH, reads, MULTI, commands, EXEC on one connection (https://redis.io/docs/latest/develop/using-commands/transactions/).
 *
 *  A reply lost after EXEC is resolved: every EXEC carries a marker key that only a commit writes; after a loss the
 *  old connection is killed on the server and the marker is looked up. */
#ifndef REDMOON_TRANSACTION_H
#define REDMOON_TRANSACTION_H

#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time.  Holds one connection from the first command until it ends. */
typedef struct redmoon_transaction redmoon_transaction;

typedef struct redmoon_transaction_options {
  int64_t max_attempts; /**< 10; how often a body is run before CONFLICT */
} redmoon_transaction_options;
#define REDMOON_TRANSACTION_OPTIONS_INIT {REDMOON_UNSET}

/** Begins: with keys, they are watched before it returns and commands run at once until
 *  redmoon_transaction_multi(); without, commands are queued from the start.  *out is owned by the caller
 *  (redmoon_transaction_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_begin(redmoon_client *client, const redmoon_bytes *keys,
                                                             size_t key_count,
                                                             const redmoon_transaction_options *options,
                                                             redmoon_transaction **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_begin_start(redmoon_client *client, const redmoon_bytes *keys,
                                                                   size_t key_count,
                                                                   const redmoon_transaction_options *options,
                                                                   redmoon_transaction **out, redmoon_op **op,
                                                                   redmoon_error *err);
/** Before multi(): runs one command on the watching connection at once, as redmoon_command. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_command(redmoon_transaction *tx, int argc,
                                                               const char *const *argv, const size_t *lens,
                                                               redmoon_reply **reply, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_command_start(redmoon_transaction *tx, int argc,
                                                                     const char *const *argv, const size_t *lens,
                                                                     redmoon_reply **reply, redmoon_op **op,
                                                                     redmoon_error *err);
/** From here commands are queued.  Costs no round trip. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_multi(redmoon_transaction *tx, redmoon_error *err);
/** Whether commands are queued now. */
REDMOON_API int redmoon_transaction_is_queuing(const redmoon_transaction *tx);
/** Queues a command; returns its index in the replies, counted from 0, or a negative status. */
REDMOON_API int64_t redmoon_transaction_queue(redmoon_transaction *tx, int argc, const char *const *argv,
                                              const size_t *lens, redmoon_error *err);
REDMOON_API int64_t redmoon_transaction_queue_script(redmoon_transaction *tx, redmoon_script *script,
                                                     const redmoon_script_args *args, redmoon_error *err);
/** Sends MULTI, the queue and EXEC in one flight.
 *  0: committed; *replies is an ARRAY, one element per queued command, owned by the caller.  If only the replies
 *     were lost with the connection, each element is an ERROR with the code LOST.
 *  REDMOON_ECONFLICT: a watched key changed; nothing was executed.  Call redmoon_transaction_again() to run the body
 *     once more.
 *  REDMOON_ESERVER with code EXECABORT: nothing was executed; err->retryable is 1 where the server refused because it
 *     was loading, busy, or a replica (once).
 *  REDMOON_ESERVER with another code: MULTI itself was refused (an ACL); the message says if the commands were then
 *     executed one by one.
 *  err->outcome is UNKNOWN only when the loss could not be resolved before the deadline. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_exec(redmoon_transaction *tx, redmoon_reply **replies,
                                                            redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_exec_start(redmoon_transaction *tx, redmoon_reply **replies,
                                                                  redmoon_op **op, redmoon_error *err);
/** After CONFLICT, or after an error that says retryable: waits a jittered back-off and begins the next attempt with
 *  the same keys.  REDMOON_ECONFLICT when max_attempts are used up. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_again(redmoon_transaction *tx, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_again_start(redmoon_transaction *tx, redmoon_op **op,
                                                                   redmoon_error *err);
/** Gives the connection back, unwatched; the queue is dropped.  Without I/O when nothing is watched. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_abandon(redmoon_transaction *tx, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_abandon_start(redmoon_transaction *tx, redmoon_op **op,
                                                                     redmoon_error *err);
/** Frees; a connection that still watches is closed.  NULL is allowed. */
REDMOON_API void redmoon_transaction_free(redmoon_transaction *tx);

/** The body of redmoon_transaction_run: reads, redmoon_transaction_multi(), queues.  Returns 0 to commit, a positive
 *  number to abandon, a negative status (with `err` set) to fail. */
typedef int (*redmoon_transaction_fn)(void *ctx, redmoon_transaction *tx, redmoon_error *err);
/** begin, body, exec and, after a conflict, again; blocking.  Returns 1 and a NULL *replies when the body abandoned it. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_transaction_run(redmoon_client *client, const redmoon_bytes *keys,
                                                           size_t key_count, redmoon_transaction_fn fn, void *ctx,
                                                           const redmoon_transaction_options *options,
                                                           redmoon_reply **replies, redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
