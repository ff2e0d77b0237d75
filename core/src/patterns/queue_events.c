/* SPDX-License-Identifier: MIT */
/* What became of the jobs of a queue: the stream that its scripts write when the option `events` wants it. */
#include "patterns/queue_internal.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EVENTS = 1000, MOST_WAIT_MS = 86400000, PLACE_SIZE = 48, ENTRY_FIELDS = 6 };

typedef struct events_op {
  rm_queue_op base; /* first */
  redmoon_queue_event_list **out, *list;
} events_op;

void redmoon_queue_event_list_free(redmoon_queue_event_list *list) { rm_free(list); }

/* Decoding: one block of memory holds the list, its events and their texts. */

typedef struct texts {
  redmoon_bytes place, name, id, epoch;
} texts;

/* An entry: {place, {"event", name, "id", id, "epoch", epoch}}. */
static bool read_entry(const redmoon_reply *entry, texts *t) {
  const redmoon_reply *fields = redmoon_reply_at(entry, 1);
  if (entry == NULL || fields == NULL || redmoon_reply_count(fields) < ENTRY_FIELDS) return false;
  redmoon_bytes *const to[] = {&t->place, &t->name, &t->id, &t->epoch};
  for (size_t i = 0; i < 4; i++) {
    const redmoon_reply *from = i == 0 ? redmoon_reply_at(entry, 0) : redmoon_reply_at(fields, 2 * i - 1);
    to[i]->ptr = from == NULL ? NULL : redmoon_reply_string(from, &to[i]->len);
    if (to[i]->ptr == NULL) return false;
  }
  return true;
}

static const char *keep(char **room, redmoon_bytes from) {
  char *at = *room;
  if (from.len > 0) memcpy(at, from.ptr, from.len);
  at[from.len] = '\0';
  *room += from.len + 1;
  return at;
}

static int not_ours(const redmoon_queue *queue, redmoon_error *err) {
  return rm_fail(err, REDMOON_EPROTOCOL, "queue '%s': what is in the place of its events is none", queue->shown);
}

static int build(const redmoon_queue *queue, const redmoon_reply *entries, redmoon_queue_event_list **out,
                 redmoon_error *err) {
  size_t count = entries == NULL ? 0 : redmoon_reply_count(entries), bytes = 0;
  texts t;
  for (size_t i = 0; i < count; i++) {
    if (!read_entry(redmoon_reply_at(entries, i), &t)) return not_ours(queue, err);
    bytes += t.place.len + t.name.len + t.id.len + 3;
  }
  redmoon_queue_event_list *list = rm_calloc(1, sizeof *list + count * sizeof *list->events + bytes);
  if (list == NULL) return rm_fail_nomem_answered(err);
  list->events = (redmoon_queue_event *)(list + 1);
  char *room = (char *)(list->events + count);
  for (; list->count < count; list->count++) {
    (void)read_entry(redmoon_reply_at(entries, list->count), &t);
    redmoon_queue_event *event = &list->events[list->count];
    event->place = keep(&room, t.place);
    event->name = keep(&room, t.name);
    event->id = keep(&room, t.id);
    event->epoch = strtoll(t.epoch.ptr, NULL, 10);
    event->at_ms = strtoll(event->place, NULL, 10);
  }
  *out = list;
  return 0;
}

/* nil, or {stream = {entry, ...}} */
static int answered(rm_queue_op *base, const redmoon_reply *reply, int64_t now_us) {
  (void)now_us;
  events_op *self = (events_op *)base;
  redmoon_error *err = &base->call.op.error;
  bool none = redmoon_reply_type(reply) == REDMOON_NIL;
  const redmoon_reply *entries = none ? NULL : redmoon_reply_value(reply, 0);
  if (!none && entries == NULL) return not_ours(base->queue, err);
  int status = build(base->queue, entries, &self->list, err);
  return status < 0 ? status : RM_DONE;
}

static int finish(rm_queue_op *base, redmoon_error *err) {
  (void)err;
  events_op *self = (events_op *)base;
  *self->out = self->list;
  self->list = NULL;
  return 0;
}

static void drop(rm_queue_op *base) { redmoon_queue_event_list_free(((events_op *)base)->list); }

/* Reading. */

static int check_since(const char *since, redmoon_error *err) {
  size_t len = strlen(since);
  if (len >= 1 && len < PLACE_SIZE && strspn(since, "0123456789-") == len) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "queue option since: give the place of an event, as <ms>-<number>");
}

static int ask(events_op *self, const char *since, int64_t count, int64_t timeout_ms, redmoon_error *err) {
  rm_queue_text counted, block;
  redmoon_bytes args[8] = {rm_queue_string("XREAD"), rm_queue_string("COUNT"), rm_queue_number(&counted, count)};
  int argc = 3;
  if (timeout_ms > 0) {
    args[argc++] = rm_queue_string("BLOCK");
    args[argc++] = rm_queue_number(&block, timeout_ms);
  }
  args[argc++] = rm_queue_string("STREAMS");
  args[argc++] = self->base.queue->keys[QUEUE_EVENTS];
  args[argc++] = rm_queue_string(since);
  const char *argv[8];
  size_t lens[8];
  for (int i = 0; i < argc; i++) {
    argv[i] = args[i].ptr;
    lens[i] = args[i].len;
  }
  return rm_call_argv(&self->base.call, argc, argv, lens, RM_CALL_REPEATABLE, err);
}

int redmoon_queue_events_start(redmoon_queue *queue, const char *since, int64_t count, int64_t timeout_ms,
                               redmoon_queue_event_list **out, redmoon_op **op, redmoon_error *err) {
  static const rm_queue_op_class class = {answered, finish, NULL, drop};
  *op = NULL;
  *out = NULL;
  rm_error_clear(err);
  if (since == NULL) since = "0";
  int status = check_since(since, err);
  if (status == 0) status = rm_queue_check_option("count", count, 1, MOST_EVENTS, err);
  if (status == 0) status = rm_queue_check_option("timeout (ms)", timeout_ms, 0, MOST_WAIT_MS, err);
  if (status < 0) return status;
  events_op *self = rm_queue_op_new(queue, &class, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->out = out;
  return rm_queue_op_start(&self->base, ask(self, since, count, timeout_ms, err), op);
}

int redmoon_queue_events(redmoon_queue *queue, const char *since, int64_t count, int64_t timeout_ms,
                         redmoon_queue_event_list **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_queue_events_start(queue, since, count, timeout_ms, out, &op, err), &op, err);
}
