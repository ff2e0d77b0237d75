/* SPDX-License-Identifier: MIT */
/** Renewals: what a pattern has to repeat while the application computes, driven by the client's keeper.
 *
 *      add(due) --> waits --due--> start() --> operation under way --> ended() --> waits for what it returned
 *                     ^                                                   |
 *                     +---------------------------------------------------+---- RM_FOREVER: never again
 *
 *  The functions are called on the keeper's thread, one at a time for each renewal, without a lock held; they must not
 *  block, nor add or remove renewals.  Many operations are under way at once, so that one that gets no answer holds up no
 *  other. */
#ifndef RM_ENGINE_RENEWAL_H
#define RM_ENGINE_RENEWAL_H

#include "base/list.h"
#include "engine/op.h"

typedef struct rm_renewal rm_renewal;

typedef struct rm_renewal_class {
  /** Begins one operation: 0 with *op, or negative (ended() follows), or RM_DONE: there is no need for it any more. */
  int (*start)(rm_renewal *renewal, redmoon_op **op, redmoon_error *err);
  /** How it ended.  Returns when the next is due, on the clock of rm_clock_now_us, or RM_FOREVER. */
  int64_t (*ended)(rm_renewal *renewal, int status, const redmoon_error *err);
} rm_renewal_class;

/** Lies in what is renewed; zeroed: not added.  Owned by the keeper while it is. */
struct rm_renewal {
  rm_list link;
  const rm_renewal_class *class;
  redmoon_op *op;      /* under way */
  int64_t due_us;
  unsigned generation; /* of the keeper it was added to: another one knows nothing of it */
  bool busy;           /* the keeper is inside of it */
};

/** A view of `client` for the operations that renew a lease: its limits on time are short enough for several tries within
 *  the lease, and a failure is told at once.  *out is owned by the caller (redmoon_client_close). */
int rm_renewal_client(redmoon_client *client, int64_t lease_ms, redmoon_client **out, redmoon_error *err);
/** The keeper runs, or is started.  0 or REDMOON_EUNAVAILABLE. */
int rm_renewals_ready(redmoon_client *client, redmoon_error *err);
/** `renewal`, with its class set, must stay where it is until it was removed; its owner keeps the client open. */
void rm_renewal_add(redmoon_client *client, rm_renewal *renewal, int64_t due_us);
/** When this returns, none of its functions is being called or will be, and an operation under way was given up.  Waits
 *  for one step of it at most.  May be repeated; one that was never added is allowed.  Not to be called from a hook. */
void rm_renewal_remove(redmoon_client *client, rm_renewal *renewal);

/* For the keeper: */

typedef struct rm_core rm_core;
enum { RM_RENEWALS_AT_ONCE = 16 }; /* operations under way */
/** Begins what is due and steps what is under way.  Returns when to come again. */
int64_t rm_renewals_step(rm_core *core);
/** What the operations under way wait for: at most RM_RENEWALS_AT_ONCE.  Returns how many were stored. */
size_t rm_renewals_wants(rm_core *core, struct pollfd *fds);
/** Gives up what is under way; the keeper ends. */
void rm_renewals_give_up(rm_core *core);

#endif
