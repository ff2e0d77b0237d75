/* SPDX-License-Identifier: MIT */
/** Getting a connection: pool wait, then perhaps a dial, within the call's deadline. */
#ifndef RM_ENGINE_BORROW_H
#define RM_ENGINE_BORROW_H

#include "route/route.h"

#include <redmoon/script.h>

typedef struct rm_core rm_core;

typedef struct rm_borrow {
  rm_lease lease;
  rm_connect *connect; /* while dialling */
  int64_t pool_by_us;  /* end of the pool wait; once per call */
  int64_t connect_by_us, dial_began_us;
  bool waited;
} rm_borrow;

/** RM_DONE: borrow->lease.conn is ready.  The error's phase says what went on. */
int rm_borrow_start(rm_borrow *borrow, rm_core *core, uintptr_t owner, int64_t now_us, redmoon_error *err);
int rm_borrow_step(rm_borrow *borrow, rm_core *core, uintptr_t owner, int64_t now_us, int64_t deadline_us,
                   rm_wants *wants, redmoon_error *err);
/** Gives up whatever state it is in. */
void rm_borrow_cancel(rm_borrow *borrow, rm_core *core, int64_t now_us);

#endif
