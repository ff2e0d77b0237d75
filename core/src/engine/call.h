/* SPDX-License-Identifier: MIT */
/** A call: commands that travel together, on one connection at a time, retried by promise 1.
 *
 *      format into call->request, rm_call_end() for each
 *      begin -> [borrow -> connect] -> send and receive -> done
 *                  ^                        | failed, and every unanswered command may be repeated
 *                  +------- back-off -------+
 *
 *  Reusable: rm_call_reset() makes it ready for the next request and keeps its memory. */
#ifndef RM_ENGINE_CALL_H
#define RM_ENGINE_CALL_H

#include "engine/borrow.h"
#include "engine/commands.h"
#include "engine/op.h"
#include "wire/request.h"

enum {
  RM_CALL_REPEATABLE = 1, /* of a mark: may be sent again though it may have been executed */
  RM_CALL_HIDDEN = 2,     /* of a mark: its reply is checked for nothing and not counted among the results (SCRIPT LOAD) */
  RM_CALL_SCRIPT = 4,     /* of a mark: an EVALSHA; NOSCRIPT is answered by sending EVAL in the same call */
  RM_CALL_BLOCKING = 8    /* of a mark: may wait on the server */
};

typedef struct rm_result {
  redmoon_reply *reply;    /* in the call's arena; NULL: not answered */
  redmoon_outcome outcome;
} rm_result;

typedef struct rm_call {
  redmoon_op op;         /* class: the call's own; op.error holds how it ended */
  rm_request request;
  rm_arena arena;        /* of the replies */
  rm_result *results;    /* one for each mark, hidden ones included; points to `one` while there is only one */
  size_t results_cap;
  rm_result one;
  rm_borrow borrow;
  size_t answered;       /* marks answered, a prefix */
  size_t sent, sent_begin; /* bytes that may be on the wire; where this attempt began */
  int state, attempt;
  bool pinned;           /* runs on a connection that its owner lent: no borrow, no retry */
  bool readonly_retried;
  int64_t started_us, deadline_us, send_by_us, receive_by_us, block_us;
  redmoon_error retried; /* why the last attempt failed */
} rm_call;

/** Zeroed memory -> a call of `client` (borrowed unless `own`). */
REDMOON_API void rm_call_init(rm_call *call, redmoon_client *client, bool own);
REDMOON_API void rm_call_reset(rm_call *call);
/** Gives up whatever goes on and frees what it holds, not `call` itself. */
REDMOON_API void rm_call_fini(rm_call *call);
/** After rm_request_begin and its arguments: ends the command.  `command` says how it may be treated; `flags` RM_CALL_*
 *  are added.  0, NOMEM, or CONFIG for a command that may not go through a pool (`err` names what to use instead). */
REDMOON_API int rm_call_end(rm_call *call, const rm_command *command, unsigned flags, redmoon_error *err);
/** Formats one command given as an array; looks it up. */
REDMOON_API int rm_call_argv(rm_call *call, int argc, const char *const *argv, const size_t *lens, unsigned flags,
                             redmoon_error *err);
/** Arguments of command `index`, read back from the request: at most `max` are stored, the number there is returned. */
size_t rm_call_args(const rm_call *call, size_t index, redmoon_bytes *args, size_t max);
/** Blocking: drives it to its end.  Returns RM_DONE or a negative status with call->op.error. */
static inline int rm_call_run(rm_call *call) { return rm_drive(&call->op); }

#endif
