/* SPDX-License-Identifier: MIT */
/* One command. */
#include "base/error.h"
#include "engine/call.h"

#include <redmoon/command.h>

typedef struct command_op {
  rm_call call; /* first: its op is this one's */
  redmoon_reply **out;
} command_op;

static int finish(redmoon_op *op, redmoon_error *err) {
  command_op *self = (command_op *)op;
  return rm_call_take_reply(&self->call, 0, self->out, err);
}

static void destroy(redmoon_op *op) { rm_call_delete(&((command_op *)op)->call); }

static const rm_op_class command_class = {rm_call_step, finish, destroy, rm_call_outcome};

int redmoon_command_start(redmoon_client *client, int argc, const char *const *argv, const size_t *lens,
                          redmoon_reply **reply, redmoon_op **out, redmoon_error *err) {
  *out = NULL;
  *reply = NULL;
  rm_error_clear(err);
  command_op *self = rm_call_new(client, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &command_class;
  self->out = reply;
  int rc = rm_call_argv(&self->call, argc, argv, lens, 0, err);
  if (rc != 0) {
    destroy(&self->call.op);
    return rc;
  }
  *out = &self->call.op;
  return 0;
}

int redmoon_command(redmoon_client *client, int argc, const char *const *argv, const size_t *lens,
                    redmoon_reply **reply, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_command_start(client, argc, argv, lens, reply, &op, err), &op, err);
}
