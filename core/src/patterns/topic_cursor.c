/* SPDX-License-Identifier: MIT */
/* Cursors: readers whose place the server keeps.
 *
 *      FETCH (topic_fetch) --messages--> done: they are kept here, and given out one by one
 *        ^      | none
 *        |      v
 *        +--- WAIT (XREAD BLOCK, as long as the receive may, and a few seconds at most)
 *
 *  XREAD only says that there is something: the script gives it, because it knows the epoch, and what is gone. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <string.h>

enum { BATCH_USUAL = 100, BATCH_MOST = 1000, WAIT_US = 5000000 };

struct redmoon_topic_cursor {
  atomic_int refs;      /* its owner's, and of operations */
  bool closed;          /* by its owner */
  redmoon_topic *topic; /* a reference */
  redmoon_bytes name;
  char token[RM_TOPIC_EPOCH + 1];
  bool from_start;
  int64_t batch;
  char epoch[RM_TOPIC_EPOCH + 1], given_epoch[RM_TOPIC_EPOCH + 1]; /* of what was fetched, and given out, last */
  int64_t fetched, last;  /* number of the last one that was fetched, and that there is */
  rm_topic_events events; /* fetched, and not given out */
  redmoon_topic_cursor_counts counts;
};

static void unref(redmoon_topic_cursor *cursor) {
  if (cursor == NULL || atomic_fetch_sub(&cursor->refs, 1) != 1) return;
  rm_topic_events_free(&cursor->events);
  redmoon_topic_free(cursor->topic);
  rm_free((void *)(uintptr_t)cursor->name.ptr);
  rm_free(cursor);
}

static redmoon_topic_cursor *ref(redmoon_topic_cursor *cursor) {
  atomic_fetch_add(&cursor->refs, 1);
  return cursor;
}

void redmoon_topic_cursor_close(redmoon_topic_cursor *cursor) {
  if (cursor == NULL) return;
  cursor->closed = true;
  unref(cursor);
}

void redmoon_topic_cursor_stats(const redmoon_topic_cursor *cursor, redmoon_topic_cursor_counts *out) {
  *out = cursor->counts;
  out->buffered = cursor->events.count;
  out->lag = rm_max64(cursor->last - cursor->counts.seq, 0);
}

/* How a script refuses; 0: it does not. */
static int refused(int64_t code, redmoon_error *err) {
  if (code == RM_STATUS_TOPIC_OK) return 0;
  if (code == RM_STATUS_TOPIC_FULL) rm_fail(err, REDMOON_EUNAVAILABLE, "the topic has as many readers as it may have, 1000");
  else if (code == RM_STATUS_TOPIC_GONE) rm_fail(err, REDMOON_ELOST, "the reader was removed, or the server has lost it");
  else if (code == RM_STATUS_TOPIC_LOST) rm_fail(err, REDMOON_ELOST, "the reader was opened by another since");
  else return rm_topic_fail_answer(err);
  if (err != NULL) err->outcome = REDMOON_ANSWERED;
  return code == RM_STATUS_TOPIC_FULL ? REDMOON_EUNAVAILABLE : REDMOON_ELOST;
}

/* What was fetched. */

static int add_lagged(rm_topic_events *events, const char *epoch, int64_t from, int64_t to, redmoon_error *err) {
  rm_topic_event *event = rm_calloc(1, sizeof *event);
  if (event == NULL) return rm_fail_nomem_answered(err);
  event->seen = (redmoon_topic_message){.kind = REDMOON_LAGGED, .from = from, .to = to};
  memcpy(event->epoch, epoch, sizeof event->epoch);
  rm_topic_events_add(events, event);
  return 0;
}

/* The events of `page`, in order, with what is missing between them; *place is where they begin, then where they end. */
static int order(rm_topic_page *page, rm_topic_events *events, int64_t *place, redmoon_error *err) {
  int status = 0;
  rm_topic_event *event;
  while (status == 0 && (event = page->events.first) != NULL && event->seen.seq <= page->reached) {
    if (event->seen.seq > *place + 1) status = add_lagged(events, page->epoch, *place + 1, event->seen.seq - 1, err);
    if (status < 0) break;
    (void)rm_topic_events_take(&page->events);
    if (event->seen.seq <= *place) { /* another receive has brought it */
      redmoon_topic_message_free(&event->seen);
      continue;
    }
    *place = event->seen.seq;
    rm_topic_events_add(events, event);
  }
  if (status == 0 && page->reached > *place) {
    status = add_lagged(events, page->epoch, *place + 1, page->reached, err);
    *place = page->reached;
  }
  return status;
}

/* All of it, or after an error nothing. */
static int absorb(redmoon_topic_cursor *cursor, rm_topic_page *page, int64_t asked, redmoon_error *err) {
  rm_topic_events events = {0};
  int64_t place = cursor->fetched;
  bool anew = page->from != asked || (cursor->epoch[0] != '\0' && strcmp(cursor->epoch, page->epoch) != 0);
  int status = 0;
  if (anew) {
    place = page->from - 1;
    status = add_lagged(&events, page->epoch, 0, place, err);
  }
  if (status == 0) status = order(page, &events, &place, err);
  if (status < 0) {
    rm_topic_events_free(&events);
    return status;
  }
  cursor->fetched = place;
  cursor->last = page->last;
  memcpy(cursor->epoch, page->epoch, sizeof cursor->epoch);
  for (rm_topic_event *event; (event = rm_topic_events_take(&events)) != NULL;) rm_topic_events_add(&cursor->events, event);
  return 0;
}

/* Receiving. */

typedef enum receive_state { RECEIVE_NEW, RECEIVE_FETCH, RECEIVE_WAIT } receive_state;

typedef struct receive_op {
  rm_call call; /* first: its op is this one's */
  redmoon_topic_cursor *cursor;
  redmoon_topic_message **out;
  receive_state state;
  int64_t timeout_ms, end_us, asked;
  char epoch[RM_TOPIC_EPOCH + 1]; /* that was asked with */
} receive_op;

static int format_fetch(receive_op *self, redmoon_error *err) {
  redmoon_topic_cursor *cursor = self->cursor;
  memcpy(self->epoch, cursor->epoch, sizeof self->epoch);
  self->asked = cursor->fetched + 1;
  rm_topic_ask ask;
  rm_topic_ask_make(&ask, cursor->topic, self->epoch, self->asked, 0, cursor->batch, &cursor->name, cursor->token);
  return rm_builtin_format(&self->call, &rm_script_topic_fetch, &ask.args, RM_CALL_REPEATABLE, err);
}

static int format_wait(receive_op *self, int64_t wait_us, redmoon_error *err) {
  static const char behind[] = "-18446744073709551615"; /* all ids of that number */
  rm_topic_digits block, number;
  char id[RM_DIGITS_MAX + sizeof behind];
  redmoon_bytes ms = rm_topic_number(&block, (wait_us + 999) / 1000);
  redmoon_bytes seq = rm_topic_number(&number, self->cursor->fetched);
  memcpy(id, seq.ptr, seq.len);
  memcpy(id + seq.len, behind, sizeof behind);
  const redmoon_bytes *log = &self->cursor->topic->keys[RM_TOPIC_LOG];
  const char *argv[] = {"XREAD", "COUNT", "1", "BLOCK", ms.ptr, "STREAMS", log->ptr, id};
  const size_t lens[] = {5, 5, 1, 5, ms.len, 7, log->len, seq.len + sizeof behind - 1};
  return rm_call_argv(&self->call, 8, argv, lens, RM_CALL_REPEATABLE, err);
}

/* Makes the next request. */
static int begin(receive_op *self, receive_state state, int64_t now_us) {
  redmoon_error *err = &self->call.op.error;
  int64_t wait_us = state == RECEIVE_WAIT ? rm_min64(self->end_us - now_us, WAIT_US) : 0;
  rm_call_reset(&self->call);
  self->state = state;
  self->call.fixed_deadline_us = now_us + wait_us + self->call.op.client->settings.timeout_us;
  return state == RECEIVE_WAIT ? format_wait(self, wait_us, err) : format_fetch(self, err);
}

static int take_page(receive_op *self) {
  redmoon_error *err = &self->call.op.error;
  rm_topic_page page = {0};
  int attempts = self->call.attempt;
  int status = rm_topic_page_read(&page, self->call.results[0].reply, err);
  if (status == 0) status = refused(page.code, err);
  /* Of an epoch that another receive has found to be over, it says nothing. */
  if (status == 0 && strcmp(self->epoch, self->cursor->epoch) == 0) status = absorb(self->cursor, &page, self->asked, err);
  rm_topic_events_free(&page.events);
  if (status < 0) err->attempts = attempts;
  return status;
}

static int check_open(const redmoon_topic_cursor *cursor, redmoon_error *err) {
  return cursor->closed ? rm_fail(err, REDMOON_ECLOSED, "the reader is closed") : 0;
}

/* What an answer leads to: RM_DONE, RM_WAIT once the next request is made, or negative. */
static int go_on(receive_op *self) {
  const redmoon_reply *reply = self->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, NULL, &self->call.op.error);
  bool fetched = self->state == RECEIVE_FETCH;
  int status = check_open(self->cursor, &self->call.op.error);
  if (status == 0 && fetched) status = take_page(self);
  if (status < 0) return status;
  int64_t now_us = rm_clock_now_us();
  if (self->cursor->events.first != NULL || (fetched && now_us >= self->end_us)) return RM_DONE;
  status = begin(self, fetched ? RECEIVE_WAIT : RECEIVE_FETCH, now_us);
  return status < 0 ? status : RM_WAIT;
}

static int receive_step(redmoon_op *op, int64_t now_us) {
  receive_op *self = (receive_op *)op;
  if (self->state == RECEIVE_NEW) {
    int status = check_open(self->cursor, &op->error);
    if (status < 0) return status;
    if (self->cursor->events.first != NULL) return RM_DONE;
    self->end_us = rm_deadline_us(now_us, self->timeout_ms);
    status = begin(self, RECEIVE_FETCH, now_us);
    if (status < 0) return status;
  }
  for (;;) {
    int status = rm_call_step(op, now_us);
    if (status != RM_DONE) return status;
    status = go_on(self);
    if (status != RM_WAIT) return status;
    now_us = rm_clock_now_us();
  }
}

/* What is not given out by the end of an operation stays where it is: nothing is lost with one that is cancelled. */
static redmoon_topic_message *give(redmoon_topic_cursor *cursor) {
  rm_topic_event *event = rm_topic_events_take(&cursor->events);
  if (event == NULL) return NULL;
  const redmoon_topic_message *seen = &event->seen;
  redmoon_topic_cursor_counts *counts = &cursor->counts;
  counts->delivered += seen->kind == REDMOON_MESSAGE;
  counts->lagged += seen->kind == REDMOON_LAGGED;
  if (seen->kind == REDMOON_LAGGED && seen->from == 0) counts->unknown++;
  else if (seen->kind == REDMOON_LAGGED) counts->missed += (uint64_t)(seen->to - seen->from + 1);
  counts->seq = seen->kind == REDMOON_MESSAGE ? seen->seq : seen->to;
  memcpy(cursor->given_epoch, event->epoch, sizeof cursor->given_epoch);
  if (seen->from == 0) event->seen.to = 0; /* it was the place where they begin */
  return &event->seen;
}

static int receive_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  receive_op *self = (receive_op *)op;
  *self->out = give(self->cursor);
  return 0;
}

static void receive_destroy(redmoon_op *op) {
  receive_op *self = (receive_op *)op;
  rm_call_fini(&self->call);
  unref(self->cursor);
  rm_free(self);
}

static const rm_op_class receive_class = {receive_step, receive_finish, receive_destroy, rm_call_outcome};

int redmoon_topic_cursor_receive_start(redmoon_topic_cursor *cursor, int64_t timeout_ms, redmoon_topic_message **out,
                                       redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  if (timeout_ms < -1)
    return rm_fail(err, REDMOON_ECONFIG, "receive: a timeout of %" PRId64 " ms is not accepted; give -1 (for ever) or more",
                   timeout_ms);
  receive_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->cursor = ref(cursor);
  self->out = out;
  self->timeout_ms = timeout_ms;
  rm_call_init(&self->call, cursor->topic->client, true);
  self->call.op.class = &receive_class;
  *op = &self->call.op;
  return 0;
}

int redmoon_topic_cursor_receive(redmoon_topic_cursor *cursor, int64_t timeout_ms, redmoon_topic_message **out,
                                 redmoon_error *err) {
  rm_error_clear(err);
  *out = timeout_ms >= -1 ? give(cursor) : NULL; /* what is there needs no operation */
  if (*out != NULL) return 0;
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_cursor_receive_start(cursor, timeout_ms, out, &op, err), &op, err);
}

/* Acknowledging. */

static void drop_cursor(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  unref(ctx);
}

static int ack_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  redmoon_topic_cursor *cursor = ctx;
  const redmoon_reply *code = redmoon_reply_at(answer->reply, 0), *seq = redmoon_reply_at(answer->reply, 1);
  if (redmoon_reply_type(code) != REDMOON_INTEGER) return rm_topic_fail_answer(err);
  int status = refused(redmoon_reply_integer(code), err);
  if (status < 0) return status;
  if (redmoon_reply_type(seq) != REDMOON_INTEGER) return rm_topic_fail_answer(err);
  cursor->counts.acked = redmoon_reply_integer(seq);
  rm_client_count(cursor->topic->client, "topic", "acknowledged");
  return 0;
}

int redmoon_topic_cursor_ack_start(redmoon_topic_cursor *cursor, int64_t seq, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (seq < 0 || seq > cursor->counts.seq)
    return rm_fail(err, REDMOON_ECONFIG, "ack: %" PRId64 " was not received yet; give 1 to %" PRId64 ", or nothing", seq,
                   cursor->counts.seq);
  if (seq == 0) seq = cursor->counts.seq;
  const redmoon_topic *topic = cursor->topic;
  rm_topic_digits number;
  const redmoon_bytes keys[] = {topic->keys[RM_TOPIC_KEY], topic->keys[RM_TOPIC_READERS]};
  const redmoon_bytes argv[] = {cursor->name,
                                {cursor->token, RM_TOPIC_EPOCH},
                                {cursor->given_epoch, strlen(cursor->given_epoch)},
                                rm_topic_number(&number, seq)};
  const redmoon_script_args args = {keys, 2, argv, 4};
  return rm_builtin_start(topic->client, &rm_script_topic_ack, &args, RM_CALL_REPEATABLE, ack_decode, drop_cursor, ref(cursor),
                          op, err);
}

int redmoon_topic_cursor_ack(redmoon_topic_cursor *cursor, int64_t seq, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_cursor_ack_start(cursor, seq, &op, err), &op, err);
}

/* Opening. */

typedef struct opening {
  redmoon_topic_cursor *cursor, **out;
} opening;

static void opening_drop(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  opening *self = ctx;
  unref(self->cursor);
  rm_free(self);
}

static int opening_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  opening *self = ctx;
  redmoon_topic_cursor *cursor = self->cursor;
  const redmoon_reply *code = redmoon_reply_at(answer->reply, 0), *seq = redmoon_reply_at(answer->reply, 2);
  if (redmoon_reply_type(code) != REDMOON_INTEGER) return rm_topic_fail_answer(err);
  int status = refused(redmoon_reply_integer(code), err);
  if (status < 0) return status;
  if (redmoon_reply_type(seq) != REDMOON_INTEGER || !rm_topic_epoch_read(cursor->epoch, redmoon_reply_at(answer->reply, 1)))
    return rm_topic_fail_answer(err);
  memcpy(cursor->given_epoch, cursor->epoch, sizeof cursor->given_epoch);
  cursor->fetched = cursor->last = cursor->counts.seq = cursor->counts.acked = redmoon_reply_integer(seq);
  *self->out = cursor;
  self->cursor = NULL;
  return 0;
}

static int read_options(redmoon_topic_cursor *cursor, const redmoon_topic_cursor_options *given, redmoon_error *err) {
  static const redmoon_topic_cursor_options none = REDMOON_TOPIC_CURSOR_OPTIONS_INIT;
  const redmoon_topic_cursor_options o = given != NULL ? *given : none;
  cursor->from_start = o.from != NULL && strcmp(o.from, "start") == 0;
  if (o.from != NULL && !cursor->from_start && strcmp(o.from, "end") != 0) {
    char shown[100];
    rm_escape(shown, sizeof shown, o.from, strlen(o.from));
    return rm_fail(err, REDMOON_ECONFIG, "reader option from: '%s' is not accepted; give \"start\" or \"end\"", shown);
  }
  cursor->batch = o.batch == REDMOON_UNSET ? BATCH_USUAL : o.batch;
  if (cursor->batch >= 1 && cursor->batch <= BATCH_MOST) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "reader option batch: %" PRId64 " is not accepted; give 1 to %d", cursor->batch,
                 BATCH_MOST);
}

/* *out has one reference. */
static int new_cursor(redmoon_topic *topic, const void *name, size_t name_len, const redmoon_topic_cursor_options *options,
                      redmoon_topic_cursor **out, redmoon_error *err) {
  int status = rm_name_check("reader name", name, name_len, err);
  if (status < 0) return status;
  if (!topic->durable) return rm_fail(err, REDMOON_ECONFIG, "only a durable topic has named readers; make it with durable");
  redmoon_topic_cursor *cursor = rm_calloc(1, sizeof *cursor);
  if (cursor == NULL) return rm_fail_nomem(err);
  atomic_init(&cursor->refs, 1);
  cursor->topic = rm_topic_ref(topic);
  cursor->name = (redmoon_bytes){rm_strndup(name, name_len), name_len};
  rm_client_random_hex(topic->client, cursor->token, RM_TOPIC_EPOCH / 2);
  status = cursor->name.ptr == NULL ? rm_fail_nomem(err) : read_options(cursor, options, err);
  if (status == 0) *out = cursor;
  else unref(cursor);
  return status;
}

int redmoon_topic_cursor_open_start(redmoon_topic *topic, const void *name, size_t name_len,
                                    const redmoon_topic_cursor_options *options, redmoon_topic_cursor **out,
                                    redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  redmoon_topic_cursor *cursor = NULL;
  int status = new_cursor(topic, name, name_len, options, &cursor, err);
  if (status < 0) return status;
  opening *self = rm_alloc(sizeof *self);
  if (self == NULL) {
    unref(cursor);
    return rm_fail_nomem(err);
  }
  *self = (opening){cursor, out};
  const char *from = cursor->from_start ? "start" : "end";
  const redmoon_bytes argv[] = {cursor->name, {cursor->token, RM_TOPIC_EPOCH}, {from, strlen(from)}};
  const redmoon_script_args args = {topic->keys, RM_TOPIC_KEYS, argv, 3};
  /* Sent twice it is the same opening, by its token. */
  return rm_builtin_start(topic->client, &rm_script_topic_open, &args, RM_CALL_REPEATABLE, opening_decode, opening_drop, self,
                          op, err);
}

int redmoon_topic_cursor_open(redmoon_topic *topic, const void *name, size_t name_len,
                              const redmoon_topic_cursor_options *options, redmoon_topic_cursor **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_cursor_open_start(topic, name, name_len, options, out, &op, err), &op, err);
}
