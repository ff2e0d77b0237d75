/* SPDX-License-Identifier: MIT */
/** Subscriptions in tests: short ways to make them and to say what has to arrive.  They fail the test on any error, and give
 *  up after 20 s. */
#ifndef TESTS_SUPPORT_LISTENING_H
#define TESTS_SUPPORT_LISTENING_H

#include <redmoon/redmoon.h>

/** A set of one name each; NULL: none.  Static: valid until the next call. */
const redmoon_subscription_set *set_of(const char *channel, const char *pattern, const char *shard);
/** Subscribed to `channel` (NULL: to nothing); `options` NULL: defaults. */
redmoon_subscription *listen_to(redmoon_client *client, const char *channel, const redmoon_subscription_options *options);
/** The next event; never NULL. */
redmoon_message *next_event(redmoon_subscription *subscription);
/** The next event is this message. */
void expect_message(redmoon_subscription *subscription, const char *channel, const char *payload);
/** The next event is a gap; it is copied into *out, which may be NULL. */
void expect_gap(redmoon_subscription *subscription, redmoon_message *out);
/** There is nothing to fetch now. */
void expect_nothing(redmoon_subscription *subscription);
/** Waits until the count at `field` of the stats has at least this value: await_count(sub, &counts, &counts.received, 3). */
void await_count(redmoon_subscription *subscription, redmoon_subscription_counts *counts, const uint64_t *field,
                 uint64_t at_least);
/** Waits until it is connected, and everything is confirmed. */
void await_connected(redmoon_subscription *subscription);
/** Publishes; returns the receivers. */
int64_t publish(redmoon_client *client, const char *channel, const char *payload);
/** Publishes until nobody gets it: a server learns of a closed connection in its own time. */
void await_nobody(redmoon_client *client, const char *channel);

#endif
