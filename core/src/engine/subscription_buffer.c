/* SPDX-License-Identifier: MIT */
/* A singly linked list: one allocation for each message, made and freed outside of the subscription's lock. */
#include "engine/subscription_buffer.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <string.h>

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

rm_message *rm_message_new(redmoon_bytes channel, redmoon_bytes pattern, redmoon_bytes payload, bool shard) {
  /* They lie in one reply that is in memory, so their sum is no overflow. */
  rm_message *message = rm_alloc(sizeof *message + channel.len + pattern.len + payload.len + 3);
  if (message == NULL) return NULL;
  *message = (rm_message){.seen = {.kind = REDMOON_MESSAGE, .shard = shard}};
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

void redmoon_message_free(redmoon_message *message) { rm_free(message); /* it stands first */ }

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
  while (list->first != NULL) rm_free(take_first(list));
}

int rm_message_buffer_push(rm_message_buffer *buffer, rm_message *message) {
  bool full = buffer->list.count >= buffer->limit && buffer->overflow != RM_BLOCK;
  if (full && buffer->overflow != RM_DROP_OLDEST) {
    buffer->gap.dropped++;
    rm_free(message);
    return buffer->overflow == RM_CLOSE ? -1 : 1;
  }
  message->gap = buffer->gap;
  buffer->gap = (rm_gap){0};
  rm_message_list_add(&buffer->list, message);
  if (!full) return 0;
  rm_message *oldest = take_first(&buffer->list);
  rm_gap_add(&buffer->list.first->gap, &oldest->gap);
  buffer->list.first->gap.dropped++;
  rm_free(oldest);
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
