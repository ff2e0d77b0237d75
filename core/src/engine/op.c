/* SPDX-License-Identifier: MIT */
/* Operations: the public face of a state machine, and the driver that waits for one with poll(). */
#include "engine/op.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"

struct pollfd rm_poll_wants(const rm_wants *wants) {
  struct pollfd fd = {.fd = wants->fd};
  if ((wants->events & REDMOON_WANT_READ) != 0) fd.events |= POLLIN;
  if ((wants->events & REDMOON_WANT_WRITE) != 0) fd.events |= POLLOUT;
  return fd;
}

int rm_op_step(redmoon_op *op, int64_t now_us) {
  if (op->status == RM_WAIT) op->status = op->class->step(op, now_us);
  return op->status;
}

int redmoon_op_step(redmoon_op *op) { return rm_op_step(op, rm_clock_now_us()) != RM_WAIT; }

void redmoon_op_wants(const redmoon_op *op, redmoon_wants *wants) {
  wants->fd = op->wants.fd;
  wants->events = op->wants.events & ~(RM_WANT_LASTING | RM_WANT_BELL);
  wants->timeout_ms = rm_poll_timeout_ms(rm_clock_now_us(), op->wants.until_us);
}

int redmoon_op_finish(redmoon_op *op, redmoon_error *err) {
  if (op->status == RM_WAIT) {
    redmoon_outcome outcome = op->class->outcome != NULL ? op->class->outcome(op) : REDMOON_NOT_SENT;
    op->class->destroy(op);
    rm_fail(err, REDMOON_ECANCELLED, "the operation was cancelled before it was done");
    if (err != NULL) err->outcome = outcome;
    return REDMOON_ECANCELLED;
  }
  int status = op->status < 0 ? op->status : 0;
  if (err != NULL) rm_error_copy(err, &op->error);
  if (status == 0 && op->class->finish != NULL) status = op->class->finish(op, err);
  op->class->destroy(op);
  return status;
}

void redmoon_op_cancel(redmoon_op *op) {
  if (op != NULL) op->class->destroy(op);
}

/* Waits for what `op` wants; a shutdown of the client wakes it too. */
static void wait_for(const redmoon_op *op) {
  int closing = op->client == NULL ? -1 : op->client->core->closing.fd;
  struct pollfd fds[] = {rm_poll_wants(&op->wants), {.fd = closing, .events = POLLIN}};
  /* An interrupted poll is no different from a wake-up: the step looks at the clock itself. */
  (void)poll(fds, 2, rm_poll_timeout_ms(rm_clock_now_us(), op->wants.until_us));
}

int rm_drive(redmoon_op *op) {
  op->may_block = true;
  while (rm_op_step(op, rm_clock_now_us()) == RM_WAIT && (op->wants.events & REDMOON_WANT_LOAD) == 0) wait_for(op);
  return op->status;
}

int rm_run(int started, redmoon_op **op, redmoon_error *err) {
  if (started < 0) return started;
  rm_drive(*op);
  return redmoon_op_finish(*op, err);
}
