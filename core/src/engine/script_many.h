/* SPDX-License-Identifier: MIT */
/** One built-in script, run many times in one round trip: each run has an answer, or an outcome, of its own. */
#ifndef RM_ENGINE_SCRIPT_MANY_H
#define RM_ENGINE_SCRIPT_MANY_H

#include "engine/script.h"

typedef struct rm_builtin_run {
  redmoon_script_args args;
  unsigned flags; /* RM_CALL_REPEATABLE when its repetition is harmless */
} rm_builtin_run;

/** How run `index` ended: with `reply`, which may be an error; or without one (NULL), then `failure` says why and what
 *  is known of its execution. */
typedef void (*rm_each_fn)(void *ctx, size_t index, const redmoon_reply *reply, const redmoon_error *failure);

/** An operation that loads `script` and runs it `count` times, in this order.  It succeeds when all runs were answered,
 *  and is repeated as a whole pipeline is: from the first run without an answer on, if all those may be.  When it ends,
 *  well or not, redmoon_op_finish calls `each` for every run; a cancelled one calls it for none.  `drop` is called
 *  exactly once, also when this fails. */
REDMOON_API int rm_builtin_many_start(redmoon_client *client, const rm_builtin *script, const rm_builtin_run *runs,
                                      size_t count, rm_each_fn each, rm_drop_fn drop, void *ctx, redmoon_op **op,
                                      redmoon_error *err);

#endif
