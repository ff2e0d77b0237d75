/* SPDX-License-Identifier: MIT */
/** Promise 8: WAIT, on the connection that has written.  A pattern either embeds the two steps, or runs its script by
 *  rm_replicated_start, which does both.
 *
 *      SCRIPT --answered--> decode --> WAIT (same connection) --enough--> done
 *                                        | too few, or it is not known
 *                                        v
 *                                     UNAVAILABLE: what was written stays written
 *
 *  Servers count what the connection itself has written, so a script that answers by what an earlier call wrote has to
 *  write as well: scripts/include/again.lua. */
#ifndef RM_ENGINE_REPLICAS_H
#define RM_ENGINE_REPLICAS_H

#include "engine/script.h"

enum {
  RM_REPLICAS_MAX = 1000, /* of an option min_replicas */
  RM_REPLICAS_MS = 1000,  /* how long a pattern waits for them, unless it has reason to wait shorter */
  RM_REPLICAS_WHY = 80
};

/** Formats WAIT into `call`, which holds the connection of the script (call->hold), as its only command.  It is on top of
 *  the call's own time, as that of any command that waits on the server.  0 or NOMEM. */
int rm_replicas_ask(rm_call *call, int64_t min, int64_t wait_ms, redmoon_error *err);
/** What came of it: `status` is that of the call's step.  False: too few, and `why` says so in words that go on after
 *  "<name of the thing>: ". */
bool rm_replicas_reached(const rm_call *call, int status, int64_t min, char why[RM_REPLICAS_WHY]);

typedef struct rm_replicas {
  const char *pattern; /* "blocklist": for the error, and the counter redmoon_<pattern>_total{result="unreplicated"} */
  int64_t min;         /* 0: rm_builtin_start */
} rm_replicas;

/** rm_builtin_start, and then it waits for replicas.  `decode` is called by a step, before the wait, so that what was done
 *  is told to the caller whichever way the wait ends; when it fails there is no wait.  Too few: UNAVAILABLE, with
 *  outcome ANSWERED and retryable. */
int rm_replicated_start(redmoon_client *client, const rm_builtin *script, const redmoon_script_args *args, unsigned flags,
                        const rm_replicas *replicas, rm_decode_fn decode, rm_drop_fn drop, void *ctx, redmoon_op **op,
                        redmoon_error *err);

#endif
