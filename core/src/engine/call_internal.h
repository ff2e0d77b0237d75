/* SPDX-License-Identifier: MIT */
/** Between the files of the call: building it, exchanging, deciding on retries. */
#ifndef RM_ENGINE_CALL_INTERNAL_H
#define RM_ENGINE_CALL_INTERNAL_H

#include "engine/call.h"
#include "engine/core.h"

enum { CALL_IDLE, CALL_BORROW, CALL_EXCHANGE, CALL_SHARED, CALL_SCATTER, CALL_BACKOFF, CALL_ENDED };

/* exchange.c: sends and receives on the borrowed connection.  RM_DONE: every command was answered; RM_WAIT; or negative
 * with op.error, and the connection is closed. */
void rm_exchange_begin(rm_call *call, int64_t now_us);
int rm_exchange_step(rm_call *call, int64_t now_us);
/** Notes of every unanswered command whether the server may have got it. */
void rm_exchange_judge(rm_call *call);
/** The attempt has failed with op.error: the connection is closed, and every unanswered command is judged. */
int rm_exchange_fail(rm_call *call, rm_close_reason why, int64_t now_us);

/** Takes the whole frames that were received.  1: all answered; 0: more to come; negative with op.error. */
int rm_exchange_take(rm_call *call, rm_conn *conn);
/** An attempt on a connection that is shared: adds what is to be sent to `out`.  0 or NOMEM. */
int rm_exchange_copy(rm_call *call, const rm_conn *conn, rm_buffer *out);
/** Of what was copied the first `count` bytes may be on the wire. */
void rm_exchange_note_sent(rm_call *call, size_t count);
/** How many replies are still to come of what was copied. */
size_t rm_exchange_due(const rm_call *call);
/** Who it is that borrows; 0: nobody knows. */
uintptr_t rm_call_owner(const rm_call *call);

/* retry.c */
/** How long a call may wait on the server by its own arguments, in us; RM_FOREVER for ever. */
int64_t rm_call_block_us(const rm_call *call);
/** After a failed attempt: RM_WAIT when another one follows (state BACKOFF), else the final status. */
int rm_call_attempt_failed(rm_call *call, int64_t now_us);
/** After an exchange: RM_WAIT when an error reply says "not executed, try again" and the next attempt is prepared; RM_DONE
 *  when it stands; or negative with op.error. */
int rm_call_reply_retries(rm_call *call, int64_t now_us);
/** Of an error: whether another attempt may go better. */
bool rm_call_is_transient(const redmoon_error *err);
/** Whether every command without an answer may be sent again. */
bool rm_call_may_repeat(const rm_call *call);
/** How long to wait before another attempt, with full jitter. */
int64_t rm_call_backoff_us(const rm_call *call);
/** And after `count` refusals: never nothing, and longer each time. */
int64_t rm_call_refusal_us(const rm_call *call, int count);
/** The server did not execute the command, and may do so later: READONLY, LOADING, BUSY, ... in its own words. */
bool rm_reply_is_refusal(const redmoon_reply *reply);
/** A node of a cluster did not execute it: MOVED, ASK, TRYAGAIN, CLUSTERDOWN. */
bool rm_reply_sends_elsewhere(const redmoon_reply *reply);
/** READONLY somewhere among the replies: nobody may use the connections to this node any more. */
void rm_call_check_readonly(rm_call *call, int64_t now_us);

#endif
