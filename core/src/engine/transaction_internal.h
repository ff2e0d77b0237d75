/* SPDX-License-Identifier: MIT */
/** Between the files of the transaction.
 *
 *      begin (WATCH) -> reads -> multi -> queue ... -> exec -> committed | conflict -> again -> begin
 *                                                        \-> reply lost -> resolve -> committed | not committed
 */
#ifndef RM_ENGINE_TRANSACTION_INTERNAL_H
#define RM_ENGINE_TRANSACTION_INTERNAL_H

#include "engine/call.h"
#include "engine/core.h"

#include <redmoon/transaction.h>

struct redmoon_transaction {
  rm_call call;        /* on the connection that watches, while there is one */
  rm_call resolve;     /* on another one: what became of a lost EXEC */
  rm_request queue;
  redmoon_script **scripts; /* to be loaded in front; references */
  size_t script_count;
  char *key_bytes;     /* the watched keys, one after another */
  redmoon_bytes *keys;
  size_t key_count;
  int64_t max_attempts, attempt, deadline_us;
  int slot;            /* of the commit marker's key; -1: none taken */
  char marker[17];     /* what only this commit writes there */
  char marker_key[1400];
  bool queuing, watching, writes, ended;
  bool redialled;      /* READONLY was answered once; a second time it stands */
};

/** An operation on a transaction; `kind` says which. */
typedef struct rm_tx_op {
  redmoon_op op;
  redmoon_transaction *tx;
  redmoon_transaction **out; /* begin */
  redmoon_reply **reply;     /* command, exec */
  redmoon_reply *result;
  int state;
  int64_t wake_us;
} rm_tx_op;

/** Passes what the driver said to the transaction's call, steps it, and takes its wants and error. */
int rm_tx_step_call(rm_tx_op *self, rm_call *call, int64_t now_us);
rm_tx_op *rm_tx_op_new(redmoon_transaction *tx, const rm_op_class *class);
void rm_tx_op_destroy(redmoon_op *op);
/** Makes the next attempt's state: nothing queued, nothing watched. */
void rm_tx_restart(redmoon_transaction *tx);
/** 0, or CONFIG when the transaction has ended, or IO when the connection that watched is gone. */
int rm_tx_check(const redmoon_transaction *tx, redmoon_error *err);
/** Gives the key of the commit marker back for another transaction of the client. */
void rm_tx_release_slot(redmoon_transaction *tx);
int64_t rm_tx_backoff_us(const redmoon_transaction *tx);

#endif
