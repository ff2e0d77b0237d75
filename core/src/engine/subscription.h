/* SPDX-License-Identifier: MIT */
/** What other layers need of a subscription beyond its public face. */
#ifndef RM_ENGINE_SUBSCRIPTION_H
#define RM_ENGINE_SUBSCRIPTION_H

#include <redmoon/subscription.h>
#include <stdbool.h>

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

/** Takes what comes at once, on the keeper's thread, in the place of a buffer.  Called without a lock of the subscription's
 *  held; must not block. */
typedef struct rm_sub_sink {
  /** The server has confirmed it, for the first time or on a new connection: from here on messages come. */
  void (*confirmed)(void *ctx, redmoon_bytes channel);
  /** It could not be subscribed to, and is no longer wanted. */
  void (*refused)(void *ctx, redmoon_bytes channel);
  void (*message)(void *ctx, redmoon_bytes channel, redmoon_bytes payload);
  /** The connection, or the dial for one, came to nothing: nothing comes until a channel is confirmed again. */
  void (*lost)(void *ctx);
  /** Before each step: may change what is wanted.  Returns when to come again. */
  int64_t (*tick)(void *ctx, int64_t now_us);
} rm_sub_sink;

/** A subscription of the library's own: it has a connection only while anything is wanted, tries for ever, and is neither
 *  counted among those of the client nor limited.  `client` is borrowed for as long as it lives. */
int rm_subscription_new_sink(redmoon_client *client, const rm_sub_sink *sink, void *ctx, redmoon_subscription **out,
                             redmoon_error *err);
/** A channel is wanted, or is no more; nobody waits for it to be done: the sink is told.  The caller kicks afterwards
 *  (rm_subscription_kick), without a lock held.  0 or a negative status. */
int rm_subscription_want(redmoon_subscription *subscription, redmoon_bytes channel, bool wanted);
void rm_subscription_kick(redmoon_subscription *subscription);

#endif
