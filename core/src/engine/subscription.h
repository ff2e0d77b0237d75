/* SPDX-License-Identifier: MIT */
/** What other layers need of a subscription beyond its public face. */
#ifndef RM_ENGINE_SUBSCRIPTION_H
#define RM_ENGINE_SUBSCRIPTION_H

#include <redmoon/subscription.h>

/** The next event without waiting: 1 with *out (redmoon_message_free); 0: nothing is there; or negative, as
 *  redmoon_subscription_receive. */
REDMOON_API int rm_subscription_take(redmoon_subscription *subscription, redmoon_message **out, redmoon_error *err);
/** Its descriptor becomes readable, as if something had come.  From any thread. */
void rm_subscription_wake(redmoon_subscription *subscription);
/** CLOSED in a process that is not the one that made it: there no lock of what its keeper uses may be taken.  Else 0. */
int rm_subscription_check(redmoon_subscription *subscription, redmoon_error *err);
/** For an owner who fetches nothing for now: its descriptor is not readable until something comes, or a wake.  0, or negative
 *  as redmoon_subscription_receive once it has ended. */
int rm_subscription_hush(redmoon_subscription *subscription, redmoon_error *err);

#endif
