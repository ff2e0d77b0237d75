/* SPDX-License-Identifier: MIT */
/** Publish and subscribe.
 *
 *  A subscription has a connection of its own, beside the pool.  The client's keeper thread reads it, so that messages are
 *  taken in, silent links found and lost ones replaced while the application computes.  What was received waits in a bounded
 *  buffer until redmoon_subscription_receive fetches it.
 *
 *  Redis keeps no message for a subscriber that is away, and does not say how many it missed.  So every loss that can have
 *  happened is told by a gap: an event that comes before the next message. */
#ifndef REDMOON_SUBSCRIPTION_H
#define REDMOON_SUBSCRIPTION_H

#include <redmoon/client.h>
#include <redmoon/script.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sends a message to whoever is subscribed to `channel`; `shard`: by SPUBLISH, to the subscribers of that shard channel
 *  (Redis >= 7.0).  *receivers (may be NULL): how many got it from this server.  Not repeated after a lost answer: then the
 *  outcome is UNKNOWN. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_publish(redmoon_client *client, const void *channel, size_t channel_len,
                                                   const void *payload, size_t payload_len, int shard, int64_t *receivers,
                                                   redmoon_error *err);
/** Channel and payload are copied; *receivers is written by redmoon_op_finish. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_publish_start(redmoon_client *client, const void *channel, size_t channel_len,
                                                         const void *payload, size_t payload_len, int shard,
                                                         int64_t *receivers, redmoon_op **op, redmoon_error *err);

/** Thread class: one thread at a time; redmoon_subscription_shutdown from any. */
typedef struct redmoon_subscription redmoon_subscription;

/** What to receive; a name given twice counts once.  Zeroed: nothing. */
typedef struct redmoon_subscription_set {
  const redmoon_bytes *channels;
  size_t channel_count;
  const redmoon_bytes *patterns; /**< globs, as of PSUBSCRIBE; each costs every publish on the server a comparison */
  size_t pattern_count;
  const redmoon_bytes *shards; /**< shard channels: SSUBSCRIBE, Redis >= 7.0 */
  size_t shard_count;
} redmoon_subscription_set;
#define REDMOON_SUBSCRIPTION_SET_INIT {0, 0, 0, 0, 0, 0}

typedef struct redmoon_subscription_options {
  int64_t buffer;           /**< messages that wait to be fetched, 1 to 10000000; default 1000 */
  const char *overflow;     /**< what happens to a message that finds the buffer full: "drop_oldest" (default): the oldest
                                 one makes room; "drop_newest": it is dropped itself; "block": nothing more is read from the
                                 server, which ends the connection when its own limit is reached
                                 (client-output-buffer-limit pubsub); "close": the subscription ends, with TOO_LARGE */
  int64_t ping_interval_ms; /**< 10 ms to 1 hour, default 15000: after so long a silence the server is asked for a sign of
                                 life; after twice as long the link is given up */
  int64_t min_backoff_ms;   /**< 1 ms to 1 minute; default 50: bound of the first pause before a new dial */
  int64_t max_backoff_ms;   /**< min_backoff to 10 minutes; default 5000: the bound doubles up to this */
} redmoon_subscription_options;
#define REDMOON_SUBSCRIPTION_OPTIONS_INIT {REDMOON_UNSET, 0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}

typedef enum redmoon_message_kind {
  REDMOON_MESSAGE = 1,
  REDMOON_GAP = 2,
  REDMOON_LAGGED = 3 /**< of cursors of topics only (topic_cursor.h) */
} redmoon_message_kind;

/** A message, or a gap.  Texts are NUL-ended behind their length. */
typedef struct redmoon_message {
  redmoon_message_kind kind;
  int shard;           /**< 1: it came through a shard channel */
  const char *channel; /**< NULL: a gap */
  size_t channel_len;
  const char *pattern; /**< the pattern that it matched; NULL: it came through a subscribed channel */
  size_t pattern_len;
  const char *payload;
  size_t payload_len;
  /* of a gap: */
  uint64_t reconnects; /**< how often the connection was lost: what was published meanwhile is unknown */
  uint64_t dropped;    /**< messages that had arrived and were dropped here: an exact count */
  int64_t down_ms;     /**< how long there was no connection */
} redmoon_message;

/** Subscribes.  Ends when the server has confirmed all of the set; an empty one is allowed, and dials nothing yet.  *out is
 *  owned by the caller (redmoon_subscription_close).  Errors: CONFIG; those of a dial, after the client's max_retries; a
 *  server's own (NOPERM, NOAUTH, ...); UNAVAILABLE (shard channels, and the server has none; too many subscriptions);
 *  TIMEOUT after the client's `timeout`; CLOSED; NOMEM. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_open(redmoon_client *client, const redmoon_subscription_set *set,
                                                             const redmoon_subscription_options *options,
                                                             redmoon_subscription **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_open_start(redmoon_client *client,
                                                                   const redmoon_subscription_set *set,
                                                                   const redmoon_subscription_options *options,
                                                                   redmoon_subscription **out, redmoon_op **op,
                                                                   redmoon_error *err);
/** Also receives these.  0: confirmed; what is published from here on arrives.  After an error, or when the operation is
 *  cancelled, the subscription is as it was, and goes on.  May be under way while another operation receives. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_add(redmoon_subscription *subscription,
                                                            const redmoon_subscription_set *set, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_add_start(redmoon_subscription *subscription,
                                                                  const redmoon_subscription_set *set, redmoon_op **op,
                                                                  redmoon_error *err);
/** Receives these no more; what is not subscribed to is ignored.  Messages that were taken in before are still in the
 *  buffer.  After an error or a cancellation they are not asked for either. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_remove(redmoon_subscription *subscription,
                                                               const redmoon_subscription_set *set, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_remove_start(redmoon_subscription *subscription,
                                                                     const redmoon_subscription_set *set,
                                                                     redmoon_op **op, redmoon_error *err);

/** The next message or gap: *out is owned by the caller (redmoon_message_free), and NULL with 0 when nothing came within
 *  `timeout_ms` (0: do not wait; -1: for ever).  While the connection is being replaced it waits.  Once the subscription has
 *  ended, and the buffer is empty: CLOSED, TOO_LARGE (overflow "close"), or a server's refusal of a reconnection (NOAUTH,
 *  WRONGPASS, NOPERM, ...).  NOMEM: nothing was lost by it. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_receive(redmoon_subscription *subscription, int64_t timeout_ms,
                                                                redmoon_message **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_subscription_receive_start(redmoon_subscription *subscription,
                                                                      int64_t timeout_ms, redmoon_message **out,
                                                                      redmoon_op **op, redmoon_error *err);
/** NULL is allowed; by any thread.  Small messages share memory: one that is kept for long may keep up to 4 KiB. */
REDMOON_API void redmoon_message_free(redmoon_message *message);

/** For a loop of the host's own: readable while receive has something to say without waiting (and perhaps once more than
 *  that).  Poll it, do not read it.  Belongs to the subscription. */
REDMOON_API int redmoon_subscription_fd(const redmoon_subscription *subscription);

typedef struct redmoon_subscription_counts {
  uint64_t received;   /**< messages that arrived */
  uint64_t delivered;  /**< messages that were fetched: received = delivered + dropped + buffered */
  uint64_t dropped;    /**< messages that found no room, or no memory */
  uint64_t blocked;    /**< how often reading was stopped because the buffer was full */
  uint64_t gaps;       /**< gaps that were fetched */
  uint64_t reconnects; /**< connections that were lost */
  uint64_t buffered;   /**< messages in the buffer now */
  uint64_t channels, patterns, shards; /**< subscribed to now */
  int connected;       /**< 1: there is a link, and the server has confirmed all of it */
} redmoon_subscription_counts;
REDMOON_API void redmoon_subscription_stats(redmoon_subscription *subscription, redmoon_subscription_counts *out);

/** Ends it, from any thread: its connection is closed, and whoever waits gets CLOSED, once the buffer is empty.  May be
 *  repeated.  Not to be called from a hook. */
REDMOON_API void redmoon_subscription_shutdown(redmoon_subscription *subscription);
/** Ends and frees it; operations that were started end with CLOSED.  NULL is allowed. */
REDMOON_API void redmoon_subscription_close(redmoon_subscription *subscription);

#ifdef __cplusplus
}
#endif
#endif
