/* SPDX-License-Identifier: MIT */
/** Topics: publish and subscribe whose messages are numbered, so that a reader learns exactly how many it has missed.
 *
 *  Each message gets the next number of its topic in the script that publishes it.  A reader compares what comes with what
 *  has to come.  After its connection was lost, or its buffer was full, it asks for a mark: the last number, sent through
 *  its own connection behind all messages; so it knows what is missing even if nothing more is published.
 *
 *  A durable topic keeps its messages for a while: what a reader missed is given to it from there, in order, before what comes
 *  next, and a gap is what is kept no longer.  For readers whose place the server keeps: topic_cursor.h. */
#ifndef REDMOON_TOPIC_H
#define REDMOON_TOPIC_H

#include <redmoon/subscription.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable after redmoon_topic_new; share it freely. */
typedef struct redmoon_topic redmoon_topic;

typedef struct redmoon_topic_options {
  int64_t durable; /**< 1: messages are kept; default 0.  A durable topic cannot be published to by a handle that is not */
  /* Retention, of durable topics only; of whoever publishes.  Messages are let go by the node of a stream, so up to
     stream-node-max-entries (100) more are kept. */
  int64_t length; /**< how many messages are kept, 1 to 10^9; default: 100000 if age_ms is not given either, else any */
  int64_t age_ms; /**< for how long they are, 1 ms to 366 days; default: for ever */
  int64_t hold;   /**< what a cursor has not acknowledged is kept in spite of these, while it is no more than so many
                       messages, 1 to 10^9; default: nothing is */
  int64_t min_replicas; /**< 0; so many replicas must have what a publish has written, up to 1,000: too few in a second is
                             REDMOON_EUNAVAILABLE, and it stays published all the same.  Readers hear of it before */
} redmoon_topic_options;
#define REDMOON_TOPIC_OPTIONS_INIT {REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}

/** `name`: 1 to 512 bytes; `options` NULL: the defaults.  No I/O.  *out is owned by the caller (redmoon_topic_free).  Errors:
 *  CONFIG, NOMEM. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_new(redmoon_client *client, const void *name, size_t name_len,
                                                     const redmoon_topic_options *options, redmoon_topic **out,
                                                     redmoon_error *err);
/** Readers and operations go on.  NULL is allowed. */
REDMOON_API void redmoon_topic_free(redmoon_topic *topic);

typedef struct redmoon_topic_published {
  int64_t seq;       /**< number of the message: 1, 2, ... */
  int64_t receivers; /**< readers connected to this server that it was handed to */
} redmoon_topic_published;

/** Publishes.  `request_id` (NULL: none; else 1 to 128 letters, digits, '.', '_' and '-'): within 10 minutes the same
 *  request is published once, however often it is made; so it is also sent again when its answer was lost.  Without: then
 *  the outcome is UNKNOWN.  `out` may be NULL. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_publish(redmoon_topic *topic, const void *payload, size_t payload_len,
                                                         const char *request_id, redmoon_topic_published *out,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_publish_start(redmoon_topic *topic, const void *payload,
                                                               size_t payload_len, const char *request_id,
                                                               redmoon_topic_published *out, redmoon_op **op,
                                                               redmoon_error *err);

/** Thread class: one thread at a time; redmoon_topic_reader_shutdown from any. */
typedef struct redmoon_topic_reader redmoon_topic_reader;

/** A message, or a gap. */
typedef struct redmoon_topic_message {
  redmoon_message_kind kind;
  int64_t seq;         /**< of a message */
  const char *payload; /**< with a NUL behind it; NULL: a gap */
  size_t payload_len;
  int64_t from, to;    /**< of a gap: the messages from..to are missing; 0: nobody knows which, because the numbers began
                            anew (FLUSHALL, a fail-over, 30 days without a message if the topic is not durable) */
} redmoon_topic_message;

/** Reads from here on: every message published after this has returned is received, or is in a gap.  `options` as of a
 *  subscription, NULL: the defaults; so are the errors.  *out is owned by the caller (redmoon_topic_reader_close). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_subscribe(redmoon_topic *topic,
                                                           const redmoon_subscription_options *options,
                                                           redmoon_topic_reader **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_subscribe_start(redmoon_topic *topic,
                                                                 const redmoon_subscription_options *options,
                                                                 redmoon_topic_reader **out, redmoon_op **op,
                                                                 redmoon_error *err);
/** As redmoon_subscription_receive; *out is ended by redmoon_topic_message_free. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_receive(redmoon_topic_reader *reader, int64_t timeout_ms,
                                                         redmoon_topic_message **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_receive_start(redmoon_topic_reader *reader, int64_t timeout_ms,
                                                               redmoon_topic_message **out, redmoon_op **op,
                                                               redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_topic_message_free(redmoon_topic_message *message);
/** As redmoon_subscription_fd: call redmoon_topic_receive with a timeout of 0 until it gives NULL. */
REDMOON_API int redmoon_topic_reader_fd(const redmoon_topic_reader *reader);

typedef struct redmoon_topic_counts {
  uint64_t delivered; /**< messages that were fetched */
  uint64_t lost;      /**< messages in the gaps that were fetched: exact but for those of unknown extent */
  uint64_t gaps;      /**< gaps that were fetched */
  uint64_t unknown;   /**< of them, those of unknown extent */
  uint64_t filled;    /**< messages of `delivered` that were missed, and given from what a durable topic keeps */
  uint64_t reconnects;
  uint64_t buffered;
  int connected;
} redmoon_topic_counts;
REDMOON_API void redmoon_topic_reader_stats(redmoon_topic_reader *reader, redmoon_topic_counts *out);
/** As redmoon_subscription_shutdown. */
REDMOON_API void redmoon_topic_reader_shutdown(redmoon_topic_reader *reader);
/** Ends and frees it; operations that were started end with CLOSED.  NULL is allowed. */
REDMOON_API void redmoon_topic_reader_close(redmoon_topic_reader *reader);

#ifdef __cplusplus
}
#endif
#endif
