/* SPDX-License-Identifier: MIT */
/** A call: commands that travel together, on one connection at a time, retried by promise 1.
 *
 *      format into call->request, rm_call_end() for each; then drive
 *
 *      IDLE -> BORROW -> EXCHANGE -> ended
 *        |       ^           | failed, and every unanswered command may be repeated
 *        |       +- BACKOFF -+
 *        +-> SHARED (multiplexing, engine/mux.h) in the place of both
 *
 *  Reusable: rm_call_reset() makes it ready for the next request and keeps its memory. */
#ifndef RM_ENGINE_CALL_H
#define RM_ENGINE_CALL_H

#include "engine/borrow.h"
#include "engine/commands.h"
#include "engine/op.h"
#include "wire/request.h"

#include <redmoon/script.h>

typedef struct rm_core rm_core;

enum { /* of a mark */
  RM_CALL_REPEATABLE = 1, /* may be sent again though it may have been executed */
  RM_CALL_HIDDEN = 2,     /* its reply is checked for nothing and is no result of the user's (SCRIPT LOAD) */
  RM_CALL_BLOCKING = 4,   /* may wait on the server */
  RM_CALL_READS = 16,     /* a script that only reads: a replica may run it */
  RM_CALL_AGAIN = 8       /* every attempt sends it, though an earlier one was answered: the server may be another */
};

typedef struct rm_result {
  redmoon_reply *reply;    /* in the call's arena; NULL: not answered */
  redmoon_outcome outcome;
} rm_result;

typedef struct rm_call {
  redmoon_op op;           /* op.error holds how it ended */
  rm_request request;
  rm_arena arena;          /* of the replies */
  rm_result *results;      /* one for each mark, hidden ones included; points to `one` while there is only one */
  size_t results_cap;
  rm_result one;
  rm_borrow borrow;
  struct rm_lane *lane;      /* of a shared connection, while it is in one */
  struct rm_mux_slot *slot;  /* in it */
  struct rm_scatter *scatter; /* of a call whose commands go to several nodes; NULL: to one */
  rm_node *ask;              /* the next attempt goes there, after ASKING; NULL: by the target */
  int hops;                  /* how often it was sent on */
  int refusals;              /* how often it was refused for now */
  size_t asking_sent;        /* of ASKING, in front of the request */
  redmoon_bytes script;    /* source behind a lone EVALSHA: sent by EVAL when the server answers NOSCRIPT */
  size_t answered;         /* marks answered: a prefix */
  size_t sent, maybe_sent; /* offsets in the request: taken by the socket; perhaps on the wire */
  size_t resumed;          /* marks answered by the attempts before this one: of them RM_CALL_AGAIN alone is sent */
  size_t again;            /* of those marks the first whose answer, if it is sent again, is still to come */
  int state, attempt;
  int max_retries;         /* set at reset from the client's settings; an owner may set another */
  bool own;                /* holds a reference to the client */
  bool spares;             /* its memory may serve another operation */
  bool hold;               /* the connection stays with the call when it is done, for the next one */
  bool began_held;         /* this one began on a connection that was held: it cannot move to another */
  bool whole;              /* the commands mean nothing one by one: another attempt sends all of them again */
  bool blocks;             /* a mark is RM_CALL_BLOCKING */
  bool part;               /* of a scattered call, which counts and tells */
  bool asking;             /* this attempt goes to a node that was to be asked */
  bool asking_due;         /* the answer to ASKING is still to come */
  bool counted;            /* among those under way, for multiplexing */
  bool listening;          /* the request was sent in an earlier step: a receive may find something */
  bool saw_error, redialled;
  bool was_unknown;        /* an attempt that failed may have been executed */
  int64_t client_id;       /* of the connection used last, on the server */
  int protocol;            /* of that connection: 2 or 3 */
  long pid;                /* the process it was begun in */
  int64_t fixed_deadline_us; /* set by an owner whose deadline this call shares; 0: its own */
  int64_t started_us, deadline_us, send_by_us, receive_by_us, block_us, backoff_until_us;
} rm_call;

/** An operation of `size` bytes, zeroed, that begins with its call, made by rm_call_init with `own`; NULL without memory.
 *  Ended by rm_call_delete. */
void *rm_call_new(redmoon_client *client, size_t size);
/** The same; what is behind the first `zeroed` bytes (a call's at the least) is left to the caller. */
void *rm_call_new_zeroed(redmoon_client *client, size_t size, size_t zeroed);
/** rm_call_fini; then the memory is kept for the client's next operation, or freed. */
void rm_call_delete(rm_call *call);
/** Frees what rm_call_delete has kept: at the client's end. */
void rm_call_drop_spare(rm_core *core);
/** Zeroed memory -> a call of `client`; `own`: it takes a reference. */
REDMOON_API void rm_call_init(rm_call *call, redmoon_client *client, bool own);
/** Ready for the next request.  A call that had not ended is given up; a held connection stays. */
REDMOON_API void rm_call_reset(rm_call *call);
/** Gives up an exchange that is under way: its connection is closed. */
void rm_call_give_up(rm_call *call);
/** Takes back the command that was ended last. */
void rm_call_take_back(rm_call *call);
/** Gives up whatever goes on and frees what it holds, not `call` itself. */
REDMOON_API void rm_call_fini(rm_call *call);
/** After rm_request_begin and its arguments: ends the command.  `command` says how it may be treated; `flags` RM_CALL_*
 *  are added.  0, NOMEM, or CONFIG for a command that may not go through a pool (`err` names what to use instead);
 *  after a failure the command is taken back. */
REDMOON_API int rm_call_end(rm_call *call, const rm_command *command, unsigned flags, redmoon_error *err);
/** Formats one command given as an array; looks it up. */
REDMOON_API int rm_call_argv(rm_call *call, int argc, const char *const *argv, const size_t *lens, unsigned flags,
                             redmoon_error *err);
/** EVALSHA of `sha1` with these keys and arguments. */
REDMOON_API int rm_call_evalsha(rm_call *call, const char *sha1, const redmoon_script_args *args, unsigned flags,
                                redmoon_error *err);
/** SCRIPT LOAD, hidden; an attempt that goes on where another one ended sends it again. */
REDMOON_API int rm_call_script_load(rm_call *call, const void *source, size_t len, redmoon_error *err);
/** Arguments of command `index`, read back from the request: at most `max` are stored, the number there is returned. */
size_t rm_call_args(const rm_call *call, size_t index, redmoon_bytes *args, size_t max);
/** Makes `reply`, which lies in the call's arena, the answer to command `index` that a caller may see: in RESP3's shape
 *  where RESP2 has another, and an error without what it quotes of the arguments (promise 9).  0 or NOMEM. */
int rm_call_adopt(rm_call *call, size_t index, redmoon_reply *reply);
/** What is known of command `index`, whatever the state. */
redmoon_outcome rm_call_outcome_at(const rm_call *call, size_t index);
/** The outcome of op->class: UNKNOWN if any of the commands may have been executed without an answer. */
redmoon_outcome rm_call_outcome(const redmoon_op *op);
/** The step of op->class, also for operations that embed a call as their first member. */
int rm_call_step(redmoon_op *op, int64_t now_us);
/** Ends a held connection: back to the pool, or closed. */
void rm_call_release(rm_call *call, bool reusable, int64_t now_us);
static inline bool rm_call_is_holding(const rm_call *call) { return call->borrow.lease.conn != NULL; }
/** The reply of command `index`, moved out: *reply is the caller's.  An ERROR reply becomes REDMOON_ESERVER. */
int rm_call_take_reply(rm_call *call, size_t index, redmoon_reply **reply, redmoon_error *err);

#endif
