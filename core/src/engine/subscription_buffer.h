/* SPDX-License-Identifier: MIT */
/** Messages that were taken in and wait to be fetched, and what is known to be lost between them.
 *
 *      gap, message, message, gap, message, ... , message, gap
 *
 *  Each message carries the gap before it; the buffer has the one behind its last.  A message that is dropped leaves its gap,
 *  and itself as one of the dropped, to what follows.  Not locked. */
#ifndef RM_ENGINE_SUBSCRIPTION_BUFFER_H
#define RM_ENGINE_SUBSCRIPTION_BUFFER_H

#include <redmoon/subscription.h>
#include <stdbool.h>

typedef enum rm_overflow { RM_DROP_OLDEST, RM_DROP_NEWEST, RM_BLOCK, RM_CLOSE } rm_overflow;

typedef struct rm_gap {
  uint64_t reconnects, dropped;
  int64_t down_us;
} rm_gap;

/** Memory of messages that came one after another.  Each of them refers to it, and so does whoever still fills it; it goes
 *  with the last reference.  Filled by one thread; messages are freed by any. */
typedef struct rm_message_block rm_message_block;

typedef struct rm_message {
  redmoon_message seen; /* first: what a caller gets; texts lie behind the struct */
  struct rm_message *next;
  rm_message_block *block; /* where it lies; NULL: in memory of its own */
  rm_gap gap; /* before it */
} rm_message;

typedef struct rm_message_list {
  rm_message *first, *last;
  size_t count;
} rm_message_list;

typedef struct rm_message_buffer {
  rm_message_list list;
  size_t limit;
  rm_overflow overflow;
  rm_gap gap; /* behind the last message */
} rm_message_buffer;

static inline bool rm_gap_is_open(const rm_gap *gap) { return (gap->reconnects | gap->dropped) != 0; }
void rm_gap_add(rm_gap *gap, const rm_gap *more);

/** A message whose texts are copied; NULL: no memory.  *block is the one being filled, at first NULL. */
rm_message *rm_message_new(rm_message_block **block, redmoon_bytes channel, redmoon_bytes pattern, redmoon_bytes payload,
                           bool shard);
/** Nobody fills it any more; NULL is allowed. */
void rm_message_block_leave(rm_message_block *block);
void rm_message_list_add(rm_message_list *list, rm_message *message);
void rm_message_list_free(rm_message_list *list);

/** Takes `message` over.  0: there was room; 1: one message was dropped; -1: there is no room, and overflow is RM_CLOSE: it
 *  was dropped. */
int rm_message_buffer_push(rm_message_buffer *buffer, rm_message *message);
/** The next event, into *out; `last`: the gap behind the last message is one, too.  1; 0: there is none; REDMOON_ENOMEM: there
 *  is a gap, and no memory to tell of it. */
int rm_message_buffer_take(rm_message_buffer *buffer, bool last, redmoon_message **out);

#endif
