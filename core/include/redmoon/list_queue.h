/* SPDX-License-Identifier: MIT */
/** The plain list that programs in other languages use as a queue: LPUSH at one end, RPOP or BRPOP at the other.
 *
 *  The key is the name as it is, without the option key_prefix, so that whoever uses the same list finds the same items;
 *  payloads are bytes as they are.  AT MOST ONCE: an item that was popped is on no server any more, and is lost when its
 *  process dies, or when the answer to the pop does (outcome UNKNOWN).  Where that matters, use another queue. */
#ifndef REDMOON_LIST_QUEUE_H
#define REDMOON_LIST_QUEUE_H

#include <redmoon/client.h>
#include <redmoon/op.h>
#include <redmoon/reply.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: immutable. */
typedef struct redmoon_list_queue redmoon_list_queue;

/** `name`: the key, 1 to 512 bytes of any kind.  Nothing is sent.  *out is owned by the caller
 *  (redmoon_list_queue_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_new(redmoon_client *client, const void *name, size_t name_len,
                                                          redmoon_list_queue **out, redmoon_error *err);
/** LPUSH.  *length (NULL: not wanted): items in the list afterwards.  It is not repeated when its answer is lost.
 *  WRONGTYPE (REDMOON_ESERVER): the key holds something else. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_push(redmoon_list_queue *queue, const void *payload, size_t len,
                                                           int64_t *length, redmoon_error *err);
/** `payload` is copied; *length is written by redmoon_op_finish. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_push_start(redmoon_list_queue *queue, const void *payload,
                                                                 size_t len, int64_t *length, redmoon_op **op,
                                                                 redmoon_error *err);
/** The oldest item, a STRING that the caller frees (redmoon_reply_free), or NULL when there is none.  `timeout_ms`: 0 does
 *  not wait (RPOP); else 1 to 31622400000 (366 days), how long the server waits for one (BRPOP).  The call's own timeout
 *  begins when that is over.  The longest-waiting pop gets the next item; waiting keeps a connection of the pool. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_pop(redmoon_list_queue *queue, int64_t timeout_ms,
                                                          redmoon_reply **item, redmoon_error *err);
/** *item is written by redmoon_op_finish.  A cancelled one closes its connection, so that the server stops waiting; an
 *  item that was on its way then is lost. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_pop_start(redmoon_list_queue *queue, int64_t timeout_ms,
                                                                redmoon_reply **item, redmoon_op **op,
                                                                redmoon_error *err);
/** How many items there are. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_length(redmoon_list_queue *queue, int64_t *length,
                                                             redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_list_queue_length_start(redmoon_list_queue *queue, int64_t *length,
                                                                   redmoon_op **op, redmoon_error *err);
/** Operations that were started go on.  NULL is allowed. */
REDMOON_API void redmoon_list_queue_free(redmoon_list_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
