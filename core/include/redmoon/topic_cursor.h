/* SPDX-License-Identifier: MIT */
/** Named readers of durable topics.  The server keeps how far a cursor has acknowledged; whoever opens it goes on behind
 *  that, on whatever machine, so that each message is handled at least once.
 *
 *      open --> receive 1, 2, 3 --> ack 2 --> (the process is killed) --> open --> receive 3, 4, ...
 *
 *  What retention has let go before it was received is told, by number: REDMOON_LAGGED.  Each cursor gets all messages; work
 *  that is to be shared belongs into a queue (stream_queue.h). */
#ifndef REDMOON_TOPIC_CURSOR_H
#define REDMOON_TOPIC_CURSOR_H

#include <redmoon/topic.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_topic_cursor redmoon_topic_cursor;

typedef struct redmoon_topic_cursor_options {
  const char *from; /**< where one begins that is new: "end" (default), behind the last message, or "start", with the first
                         one that is kept */
  int64_t batch;    /**< messages that are fetched together, 1 to 1000; default 100, and about 256 KiB at most */
} redmoon_topic_cursor_options;
#define REDMOON_TOPIC_CURSOR_OPTIONS_INIT {0, REDMOON_UNSET}

/** Opens the cursor of that name (1 to 512 bytes), which is made if there is none; `options` NULL: the defaults.  Whoever had
 *  opened it before is told LOST by the next request.  *out is owned by the caller (redmoon_topic_cursor_close).  Errors:
 *  CONFIG (also: the topic is not durable), UNAVAILABLE (it has 1,000 cursors), those of a command. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_open(redmoon_topic *topic, const void *name, size_t name_len,
                                                             const redmoon_topic_cursor_options *options,
                                                             redmoon_topic_cursor **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_open_start(redmoon_topic *topic, const void *name, size_t name_len,
                                                                   const redmoon_topic_cursor_options *options,
                                                                   redmoon_topic_cursor **out, redmoon_op **op,
                                                                   redmoon_error *err);

/** The next message, or REDMOON_LAGGED: from..to were let go before they were received, or 0: the numbers began anew, or went
 *  back, and what is kept now comes behind this, also what may have come before.  *out is ended by redmoon_topic_message_free;
 *  NULL with 0 when nothing came within `timeout_ms` (0: it does not wait, though it asks the server; -1: for ever), and when
 *  another receive of the same cursor took what came.  While it waits it has a connection of the pool.  Errors: LOST (another
 *  opened it since, or it was removed), those of a command; after any of them what was fetched is still there. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_receive(redmoon_topic_cursor *cursor, int64_t timeout_ms,
                                                                redmoon_topic_message **out, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_receive_start(redmoon_topic_cursor *cursor, int64_t timeout_ms,
                                                                      redmoon_topic_message **out, redmoon_op **op,
                                                                      redmoon_error *err);
/** All messages up to number `seq` (0: all that were received) are done; they do not come again.  May be repeated, and is
 *  sent again after a lost answer.  Errors: CONFIG (`seq` was not received yet), LOST, those of a command. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_ack(redmoon_topic_cursor *cursor, int64_t seq, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_ack_start(redmoon_topic_cursor *cursor, int64_t seq,
                                                                  redmoon_op **op, redmoon_error *err);

typedef struct redmoon_topic_cursor_counts {
  uint64_t delivered; /**< messages that were received */
  uint64_t missed;    /**< messages that were let go before: exact but for those of unknown extent */
  uint64_t lagged;    /**< how often that was told */
  uint64_t unknown;   /**< of these, those of unknown extent */
  uint64_t buffered;  /**< fetched, and not received yet */
  int64_t seq;        /**< number of what was received last */
  int64_t acked;      /**< acknowledged up to this number */
  int64_t lag;        /**< messages behind `seq` when the server was asked last */
} redmoon_topic_cursor_counts;
REDMOON_API void redmoon_topic_cursor_stats(const redmoon_topic_cursor *cursor, redmoon_topic_cursor_counts *out);
/** Frees it, and acknowledges nothing.  A receive that was started ends with CLOSED, as soon as something comes and within 5 s
 *  at most.  NULL is allowed. */
REDMOON_API void redmoon_topic_cursor_close(redmoon_topic_cursor *cursor);

/** What the server knows of a cursor. */
typedef struct redmoon_topic_cursor_info {
  const char *name; /**< with a NUL behind it */
  size_t name_len;
  int64_t acked;    /**< acknowledged up to this number */
  int64_t lag;      /**< messages behind that */
  int64_t idle_ms;  /**< since it was opened or acknowledged */
} redmoon_topic_cursor_info;
typedef struct redmoon_topic_cursor_list {
  size_t count;
  redmoon_topic_cursor_info items[1]; /**< `count` of them, by name */
} redmoon_topic_cursor_list;

/** All cursors of the topic.  *out is ended by redmoon_topic_cursor_list_free. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursors(redmoon_topic *topic, redmoon_topic_cursor_list **out,
                                                         redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursors_start(redmoon_topic *topic, redmoon_topic_cursor_list **out,
                                                               redmoon_op **op, redmoon_error *err);
/** NULL is allowed. */
REDMOON_API void redmoon_topic_cursor_list_free(redmoon_topic_cursor_list *list);
/** Forgets a cursor; whoever has it open is told LOST.  *removed (may be NULL): 1, or 0: there was none. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_remove(redmoon_topic *topic, const void *name, size_t name_len,
                                                               int *removed, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_topic_cursor_remove_start(redmoon_topic *topic, const void *name,
                                                                     size_t name_len, int *removed, redmoon_op **op,
                                                                     redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
