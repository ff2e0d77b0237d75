/* SPDX-License-Identifier: MIT */
/** The operation behind redmoon_op, and the blocking driver. */
#ifndef RM_ENGINE_OP_H
#define RM_ENGINE_OP_H

#include "base/wants.h"
#include "engine/bell.h"

#include <poll.h>
#include <redmoon/client.h>
#include <stdbool.h>

typedef struct rm_op_class {
  /** RM_DONE, RM_WAIT with op->wants, or a negative status with op->error.  Called until it does not return RM_WAIT. */
  int (*step)(redmoon_op *op, int64_t now_us);
  /** Of an operation that ended with RM_DONE: writes the out-parameters.  Returns 0 or a negative status (with `err`).
   *  NULL: there are none. */
  int (*finish)(redmoon_op *op, redmoon_error *err);
  /** Frees everything, whatever the state. */
  void (*destroy)(redmoon_op *op);
  /** Of an operation that has not ended: what is known of its command.  NULL: it executes none. */
  redmoon_outcome (*outcome)(const redmoon_op *op);
} rm_op_class;

struct redmoon_op {
  const rm_op_class *class;
  redmoon_client *client; /* a reference, or borrowed from an owner that outlives the operation */
  uintptr_t owner;        /* who borrows connections; 0: the thread, if the driver blocks it, else nobody knows */
  int status;             /* RM_WAIT until it has ended; then RM_DONE or negative */
  bool may_block;         /* the driver allows a receive to block in the kernel instead of a poll */
  rm_bell_place bell;
  rm_wants wants;
  redmoon_error error; /* last: rm_call_new */
};

/** One step of an operation that somebody else drives; nothing once it has ended.  op->status. */
int rm_op_step(redmoon_op *op, int64_t now_us);
/** What poll() is asked for: it passes over a descriptor that is negative. */
struct pollfd rm_poll_wants(const rm_wants *wants);
/** Steps until it has ended or wants a load, waiting with poll() on what else it wants and on the client's shutdown.
 *  Returns op->status: RM_WAIT when it wants a load. */
REDMOON_API int rm_drive(redmoon_op *op);
/** The blocking twin of a _start: drives and finishes.  `started` is what _start returned; *op is what it set. */
REDMOON_API int rm_run(int started, redmoon_op **op, redmoon_error *err);

#endif
