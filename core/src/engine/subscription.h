/* SPDX-License-Identifier: MIT */
/** What other layers need of a subscription beyond its public face. */
#ifndef RM_ENGINE_SUBSCRIPTION_H
#define RM_ENGINE_SUBSCRIPTION_H

#include <redmoon/subscription.h>

/** The next event without waiting: 1 with *out (redmoon_message_free); 0: nothing is there; or negative, as
 *  redmoon_subscription_receive. */
REDMOON_API int rm_subscription_take(redmoon_subscription *subscription, redmoon_message **out, redmoon_error *err);

#endif
