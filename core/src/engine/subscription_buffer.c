/* SPDX-License-Identifier: MIT */
/* A singly linked list, whose messages are made and freed outside of the subscription's lock.  They are made by the keeper and
 * mostly freed by another thread, which is the dearest thing that one can do with malloc(): so small ones share blocks, and a
 * block that is free when the next message comes is used again. */
#include "engine/subscription_buffer.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

/* A message that is kept for long keeps its block: so a block is not large, and large messages are in none. */
enum { BLOCK_ROOM = 4096, BLOCK_LARGEST = 1024 };

struct rm_message_block {
  atomic_uint refs;
  size_t used;
  alignas(rm_message) char room[BLOCK_ROOM];
};

void rm_gap_add(rm_gap *gap, const rm_gap *more) {
  gap->reconnects += more->reconnects;
  gap->dropped += more->dropped;
  gap->down_us += more->down_us;
}

static const char *put(char **at, redmoon_bytes text) {
  char *begin = *at;
  if (text.len > 0) memcpy(begin, text.ptr, text.len);
  begin[text.len] = '\0';
  *at = begin + text.len + 1;
  return begin;
}

void rm_message_block_leave(rm_message_block *block) {
  if (block != NULL && atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1) rm_free(block);
}

/* Room in the block that is being filled, or in the next one; NULL: no memory. */
static rm_message *room_in(rm_message_block **block, size_t size) {
  rm_message_block *b = *block;
  if (b != NULL && b->used > 0 && atomic_load_explicit(&b->refs, memory_order_acquire) == 1) b->used = 0;
  if (b == NULL || BLOCK_ROOM - b->used < size) {
    rm_message_block *next = rm_alloc(sizeof *next);
    if (next == NULL) return NULL;
    atomic_init(&next->refs, 1);
    next->used = 0;
    rm_message_block_leave(b);
    *block = b = next;
  }
  rm_message *message = (rm_message *)(void *)(b->room + b->used);
  b->used += size;
  atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  return message;
}

rm_message *rm_message_new(rm_message_block **block, redmoon_bytes channel, redmoon_bytes pattern, redmoon_bytes payload,
                           bool shard) {
  /* They lie in one reply that is in memory, so their sum is no overflow. */
  size_t size = sizeof(rm_message) + channel.len + pattern.len + payload.len + 3;
  size = (size + alignof(rm_message) - 1) / alignof(rm_message) * alignof(rm_message);
  bool alone = size > BLOCK_LARGEST;
  rm_message *message = alone ? rm_alloc(size) : room_in(block, size);
  if (message == NULL) return NULL;
  *message = (rm_message){.seen = {.kind = REDMOON_MESSAGE, .shard = shard}, .block = alone ? NULL : *block};
  char *at = (char *)(message + 1);
  redmoon_message *seen = &message->seen;
  seen->channel = put(&at, channel);
  seen->channel_len = channel.len;
  if (pattern.ptr != NULL) {
    seen->pattern = put(&at, pattern);
    seen->pattern_len = pattern.len;
  }
  seen->payload = put(&at, payload);
  seen->payload_len = payload.len;
  return message;
}

void redmoon_message_free(redmoon_message *message) {
  rm_message *self = (rm_message *)(void *)message; /* it stands first */
  if (self != NULL && self->block != NULL) rm_message_block_leave(self->block);
  else rm_free(self);
}

void rm_message_list_add(rm_message_list *list, rm_message *message) {
  message->next = NULL;
  if (list->last != NULL) list->last->next = message;
  else list->first = message;
  list->last = message;
  list->count++;
}

static rm_message *take_first(rm_message_list *list) {
  rm_message *first = list->first;
  list->first = first->next;
  if (list->first == NULL) list->last = NULL;
  list->count--;
  return first;
}

void rm_message_list_free(rm_message_list *list) {
  while (list->first != NULL) redmoon_message_free(&take_first(list)->seen);
}

int rm_message_buffer_push(rm_message_buffer *buffer, rm_message *message) {
  bool full = buffer->list.count >= buffer->limit && buffer->overflow != RM_BLOCK;
  if (full && buffer->overflow != RM_DROP_OLDEST) {
    buffer->gap.dropped++;
    redmoon_message_free(&message->seen);
    return buffer->overflow == RM_CLOSE ? -1 : 1;
  }
  message->gap = buffer->gap;
  buffer->gap = (rm_gap){0};
  rm_message_list_add(&buffer->list, message);
  if (!full) return 0;
  rm_message *oldest = take_first(&buffer->list);
  rm_gap_add(&buffer->list.first->gap, &oldest->gap);
  buffer->list.first->gap.dropped++;
  redmoon_message_free(&oldest->seen);
  return 1;
}

static int take_gap(rm_gap *gap, redmoon_message **out) {
  rm_message *event = rm_calloc(1, sizeof *event);
  if (event == NULL) return REDMOON_ENOMEM;
  event->seen = (redmoon_message){.kind = REDMOON_GAP,
                                  .reconnects = gap->reconnects,
                                  .dropped = gap->dropped,
                                  .down_ms = (gap->down_us + 999) / 1000};
  *gap = (rm_gap){0};
  *out = &event->seen;
  return 1;
}

int rm_message_buffer_take(rm_message_buffer *buffer, bool last, redmoon_message **out) {
  rm_message *first = buffer->list.first;
  if (first == NULL) return last && rm_gap_is_open(&buffer->gap) ? take_gap(&buffer->gap, out) : 0;
  if (rm_gap_is_open(&first->gap)) return take_gap(&first->gap, out);
  *out = &take_first(&buffer->list)->seen;
  return 1;
}
