/* SPDX-License-Identifier: MIT */
/** Where the commands of a call go where there are several nodes. */
#ifndef RM_ENGINE_PLAN_H
#define RM_ENGINE_PLAN_H

#include "engine/command_keys.h"
#include "engine/scatter.h"

/** Before the first attempt of a call that holds no connection: sets its target, or makes it a scatter.  0; NOMEM; CONFIG
 *  with code CROSSSLOT, naming both keys, for keys that one command or transaction cannot have together; CONFIG for a
 *  command that means something to one node only. */
int rm_call_plan(rm_call *call);
/** CONFIG with code CROSSSLOT: `what` cannot have both keys. */
int rm_fail_cross_slot(redmoon_error *err, const char *what, const redmoon_bytes *one, const redmoon_bytes *other);
/** Whether all keys of a request have the slot of `key`, where that matters.  0, NOMEM, or as rm_fail_cross_slot. */
int rm_check_slots(const redmoon_client *client, const rm_request *request, const redmoon_bytes *key, const char *what,
                   redmoon_error *err);
/** The first key of any of its commands; it points into the request. */
bool rm_call_first_key(const rm_call *call, redmoon_bytes *key);

#endif
