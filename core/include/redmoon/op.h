/* SPDX-License-Identifier: MIT */
/** Operations: anything that talks to Redis, as a state machine that never blocks.
 *
 *     start -> step -> wants {fd, read|write, until} -> step -> ... -> done -> finish
 *                      wants {load}: the caller's part, then step
 *
 *  Every blocking function `redmoon_x(...)` has a twin `redmoon_x_start(..., redmoon_op **op, redmoon_error *)`
 *  with the same out-parameters: they are written when the operation is finished with status 0, and must stay
 *  valid until then.  Input (names, payloads, options) is copied at the start.  Two have no twin:
 *  redmoon_transaction_run, which calls a function of the caller's (its parts have twins), and redmoon_embedded_start, which
 *  waits for a process. */
#ifndef REDMOON_OP_H
#define REDMOON_OP_H

#include <redmoon/error.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_op redmoon_op;

enum {
  REDMOON_WANT_READ = 1,
  REDMOON_WANT_WRITE = 2,
  REDMOON_WANT_LOAD = 4 /**< no waiting: the caller is to load something for it (redmoon/cache.h); fd is -1 */
};

typedef struct redmoon_wants {
  int fd;             /**< what to poll; -1: only time has to pass */
  int events;         /**< REDMOON_WANT_* */
  int64_t timeout_ms; /**< step again after this many ms at the latest; -1: no limit */
} redmoon_wants;

/** Moves the operation as far as it goes without blocking.  Returns 1 when it is done, else 0. */
REDMOON_API int redmoon_op_step(redmoon_op *op);
/** What the operation waits for; meaningful after a step that returned 0. */
REDMOON_API void redmoon_op_wants(const redmoon_op *op, redmoon_wants *wants);
/** Ends a done operation and frees it: writes the out-parameters given at its start and returns 0, or returns a
 *  negative status with the detail in `err`.  An operation that is not done is cancelled: REDMOON_ECANCELLED, with
 *  the outcome UNKNOWN if the server may have got its command. */
REDMOON_API int redmoon_op_finish(redmoon_op *op, redmoon_error *err);
/** Gives up and frees: the connection in use is closed, nothing is written.  NULL is allowed. */
REDMOON_API void redmoon_op_cancel(redmoon_op *op);

#ifdef __cplusplus
}
#endif
#endif
