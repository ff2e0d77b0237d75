/* SPDX-License-Identifier: MIT */
/* What a durable topic keeps, as topic_fetch gives it: a page of messages. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "patterns/status_generated.h"

#include <string.h>

/* Events. */

void redmoon_topic_message_free(redmoon_topic_message *message) {
  if (message == NULL) return;
  rm_topic_event *event = (rm_topic_event *)(void *)message;
  redmoon_message_free(event->message);
  rm_free(event);
}

void rm_topic_events_add(rm_topic_events *events, rm_topic_event *event) {
  event->next = NULL;
  if (events->last != NULL) events->last->next = event;
  else events->first = event;
  events->last = event;
  events->count++;
}

rm_topic_event *rm_topic_events_take(rm_topic_events *events) {
  rm_topic_event *event = events->first;
  if (event == NULL) return NULL;
  events->first = event->next;
  if (events->first == NULL) events->last = NULL;
  events->count--;
  event->next = NULL;
  return event;
}

void rm_topic_events_free(rm_topic_events *events) {
  while (events->first != NULL) redmoon_topic_message_free(&rm_topic_events_take(events)->seen);
}

/* Asking. */

void rm_topic_ask_make(rm_topic_ask *ask, const redmoon_topic *topic, const char *epoch, int64_t from, int64_t to,
                       int64_t count, const redmoon_bytes *cursor, const char *token) {
  ask->argv[0] = (redmoon_bytes){epoch, strlen(epoch)};
  ask->argv[1] = rm_topic_number(&ask->from, from);
  ask->argv[2] = rm_topic_number(&ask->to, to);
  ask->argv[3] = rm_topic_number(&ask->count, count);
  if (cursor != NULL) {
    ask->argv[4] = *cursor;
    ask->argv[5] = (redmoon_bytes){token, strlen(token)};
  }
  ask->args = (redmoon_script_args){topic->keys, cursor != NULL ? RM_TOPIC_KEYS : RM_TOPIC_READERS, ask->argv,
                                    cursor != NULL ? 6 : 4};
}

/* The answer. */

bool rm_topic_epoch_read(char epoch[RM_TOPIC_EPOCH + 1], const redmoon_reply *reply) {
  size_t len = 0;
  const char *text = reply != NULL ? redmoon_reply_string(reply, &len) : NULL;
  if (text == NULL || (len != 0 && len != RM_TOPIC_EPOCH)) return false;
  memcpy(epoch, text, len);
  epoch[len] = '\0';
  return true;
}

static bool read_number(const redmoon_reply *reply, size_t index, int64_t *out) {
  const redmoon_reply *item = redmoon_reply_at(reply, index);
  if (item == NULL || redmoon_reply_type(item) != REDMOON_INTEGER) return false;
  *out = redmoon_reply_integer(item);
  return true;
}

static int add_message(rm_topic_page *page, const redmoon_reply *reply, size_t index, redmoon_error *err) {
  int64_t seq;
  size_t len = 0;
  const redmoon_reply *item = redmoon_reply_at(reply, index + 1);
  const char *payload = item != NULL ? redmoon_reply_string(item, &len) : NULL;
  if (!read_number(reply, index, &seq) || payload == NULL) return rm_topic_fail_answer(err);
  rm_topic_event *event = rm_calloc(1, sizeof *event + len + 1);
  if (event == NULL) return rm_fail_nomem_answered(err);
  char *copy = (char *)(event + 1);
  memcpy(copy, payload, len);
  event->seen = (redmoon_topic_message){.kind = REDMOON_MESSAGE, .seq = seq, .payload = copy, .payload_len = len};
  memcpy(event->epoch, page->epoch, sizeof event->epoch);
  rm_topic_events_add(&page->events, event);
  return 0;
}

int rm_topic_page_read(rm_topic_page *page, const redmoon_reply *reply, redmoon_error *err) {
  if (!read_number(reply, 0, &page->code)) return rm_topic_fail_answer(err);
  if (page->code != RM_STATUS_TOPIC_OK) return 0;
  if (!rm_topic_epoch_read(page->epoch, redmoon_reply_at(reply, 1)) || !read_number(reply, 2, &page->last) ||
      !read_number(reply, 3, &page->from) || !read_number(reply, 4, &page->reached))
    return rm_topic_fail_answer(err);
  int status = 0;
  for (size_t i = 5; status == 0 && i < redmoon_reply_count(reply); i += 2) status = add_message(page, reply, i, err);
  if (status < 0) rm_topic_events_free(&page->events);
  return status;
}
