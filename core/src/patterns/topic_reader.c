/* SPDX-License-Identifier: MIT */
/* Readers of topics: a subscription to two channels, the topic's and one of the reader's own for marks.
 *
 *     message n --n is what has to come--> given out          a gap of the subscription --> a mark is asked for
 *               --some are missing-------> gap, then message  the mark --some are missing--> gap
 *
 *  A mark is asked for through the pool, by the client's keeper, so that no call waits for it.  Of a durable topic what is
 *  missing is given from what is kept (topic_fill.c), while what came behind it waits. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/subscription.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <string.h>

enum { MARK_AGAIN_US = 1000000 }; /* at most, after one that failed */

struct redmoon_topic_reader {
  atomic_int refs;      /* its owner's, and of operations */
  redmoon_topic *topic; /* a reference */
  redmoon_subscription *sub;
  char token[RM_TOPIC_EPOCH + 1]; /* its own channel is <key>.<token> */
  rm_topic_count count;
  redmoon_message *held; /* what comes behind a gap that was told, or is filled */
  rm_topic_fill fill;
  rm_renewal mark;
  redmoon_topic_counts counts; /* what the subscription does not count */
};

/* Marks. */

static int mark_start_op(redmoon_topic_reader *reader, rm_decode_fn decode, void *ctx, redmoon_op **op, redmoon_error *err) {
  const redmoon_bytes token = {reader->token, RM_TOPIC_EPOCH};
  const redmoon_script_args args = {&reader->topic->keys[RM_TOPIC_KEY], 1, &token, 1};
  return rm_builtin_start(reader->topic->client, &rm_script_topic_mark, &args, RM_CALL_REPEATABLE, decode, NULL, ctx, op, err);
}

static int mark_start(rm_renewal *renewal, redmoon_op **op, redmoon_error *err) {
  return mark_start_op(RM_CONTAINER_OF(renewal, redmoon_topic_reader, mark), NULL, NULL, op, err);
}

/* It comes through the subscription.  If that is lost before it does, there is another gap, and another mark. */
static int64_t mark_ended(rm_renewal *renewal, int status, const redmoon_error *err) {
  (void)renewal;
  (void)err;
  if (status == 0 || status == REDMOON_ECLOSED) return RM_FOREVER;
  return rm_clock_now_us() + MARK_AGAIN_US / 10 + rm_random_upto(MARK_AGAIN_US);
}

static const rm_renewal_class mark_class = {mark_start, mark_ended};

static void ask_mark(redmoon_topic_reader *reader) {
  redmoon_client *client = reader->topic->client;
  rm_renewal_remove(client, &reader->mark);
  rm_renewal_add(client, &reader->mark, rm_clock_now_us());
}

/* What comes. */

static void give_message(redmoon_topic_reader *reader, rm_topic_event *event, redmoon_message *message) {
  rm_topic_frame frame;
  (void)rm_topic_frame_read(message->payload, message->payload_len, &frame); /* it was read before */
  event->message = message;
  event->seen = (redmoon_topic_message){.kind = REDMOON_MESSAGE, .seq = frame.seq};
  event->seen.payload = frame.payload.ptr;
  event->seen.payload_len = frame.payload.len;
  reader->counts.delivered++;
}

static void count_gap(redmoon_topic_reader *reader, const redmoon_topic_message *gap) {
  reader->counts.gaps++;
  if (gap->from == 0) reader->counts.unknown++;
  else reader->counts.lost += (uint64_t)(gap->to - gap->from + 1);
}

static void give_gap(redmoon_topic_reader *reader, rm_topic_event *event, const rm_topic_gap *gap) {
  event->seen = (redmoon_topic_message){.kind = REDMOON_GAP, .from = gap->from, .to = gap->to};
  count_gap(reader, &event->seen);
}

/* Fills what is missing before this frame, if it is kept; true: and the gap is not to be told. */
static bool fill(redmoon_topic_reader *reader, const rm_topic_gap *gap, const rm_topic_frame *frame, bool mark, bool anew) {
  if (!reader->topic->durable || !gap->open) return false;
  int64_t to = mark ? frame->seq : frame->seq - 1;
  if (!gap->unknown) rm_topic_fill_begin(&reader->fill, reader->sub, frame->epoch, gap->from, gap->to);
  else if (anew && to >= 1) rm_topic_fill_begin(&reader->fill, reader->sub, frame->epoch, 1, to);
  return !gap->unknown;
}

/* Takes `message` over.  Whether there is something to give out. */
static bool digest(redmoon_topic_reader *reader, rm_topic_event *event, redmoon_message *message) {
  rm_topic_frame frame;
  bool mark = message->channel_len != reader->topic->keys[RM_TOPIC_KEY].len;
  if (message->kind == REDMOON_GAP) {
    ask_mark(reader);
  } else if (rm_topic_frame_read(message->payload, message->payload_len, &frame)) { /* else it is not of a topic's */
    bool anew = strcmp(reader->count.epoch, frame.epoch) != 0;
    rm_topic_gap gap = rm_topic_count_take(&reader->count, &frame, mark);
    bool filled = fill(reader, &gap, &frame, mark, anew), told = gap.open && !filled;
    if (told) give_gap(reader, event, &gap);
    if (gap.open && !mark) {
      reader->held = message;
      return told;
    }
    if (!gap.open && !mark) {
      give_message(reader, event, message);
      return true;
    }
    redmoon_message_free(message);
    return told;
  }
  redmoon_message_free(message);
  return false;
}

/* From what was missed.  As rm_topic_fill_take. */
static int take_filled(redmoon_topic_reader *reader, rm_topic_event **event, redmoon_error *err) {
  int rc = rm_topic_fill_take(&reader->fill, event, err);
  if (rc != 1) return rc;
  if ((*event)->seen.kind == REDMOON_GAP) {
    count_gap(reader, &(*event)->seen);
  } else {
    reader->counts.delivered++;
    reader->counts.filled++;
  }
  return 1;
}

/* 1 with *out; 0: nothing is there; or negative. */
static int take(redmoon_topic_reader *reader, redmoon_topic_message **out, redmoon_error *err) {
  rm_topic_event *event = rm_calloc(1, sizeof *event); /* first: what was taken must not be lost for want of it */
  if (event == NULL) return rm_fail_nomem(err);
  int rc = 1;
  for (bool given = false; rc == 1 && !given;) {
    if (rm_topic_fill_is_open(&reader->fill)) {
      rc = take_filled(reader, &event, err);
      given = true;
    } else if (reader->held != NULL) {
      give_message(reader, event, reader->held);
      reader->held = NULL;
      given = true;
    } else {
      redmoon_message *message = NULL;
      rc = rm_subscription_take(reader->sub, &message, err);
      if (rc == 1) given = digest(reader, event, message);
    }
  }
  if (rc == 1) *out = &event->seen;
  else rm_free(event);
  return rc;
}

typedef struct receive_op {
  redmoon_op op; /* first */
  redmoon_topic_reader *reader;
  redmoon_topic_message **out, *message;
  int64_t timeout_ms, deadline_us; /* 0: not begun */
} receive_op;

static int receive_step(redmoon_op *op, int64_t now_us) {
  receive_op *self = (receive_op *)op;
  int rc = take(self->reader, &self->message, &op->error);
  if (rc != 0) return rc;
  if (self->deadline_us == 0) self->deadline_us = rm_deadline_us(now_us, self->timeout_ms);
  if (now_us >= self->deadline_us) return RM_DONE;
  op->wants = (rm_wants){redmoon_subscription_fd(self->reader->sub), REDMOON_WANT_READ, self->deadline_us};
  return RM_WAIT;
}

static int receive_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  receive_op *self = (receive_op *)op;
  *self->out = self->message;
  self->message = NULL;
  return 0;
}

static void unref(redmoon_topic_reader *reader) {
  if (atomic_fetch_sub(&reader->refs, 1) != 1) return;
  rm_renewal_remove(reader->topic->client, &reader->mark); /* an operation may have asked for one after the close */
  rm_topic_fill_fini(&reader->fill);
  redmoon_subscription_close(reader->sub);
  redmoon_message_free(reader->held);
  redmoon_topic_free(reader->topic);
  rm_free(reader);
}

static void receive_destroy(redmoon_op *op) {
  receive_op *self = (receive_op *)op;
  redmoon_topic_message_free(self->message);
  unref(self->reader);
  rm_free(self);
}

static const rm_op_class receive_class = {receive_step, receive_finish, receive_destroy, NULL};

int redmoon_topic_receive_start(redmoon_topic_reader *reader, int64_t timeout_ms, redmoon_topic_message **out,
                                redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  if (timeout_ms < -1)
    return rm_fail(err, REDMOON_ECONFIG, "receive: a timeout of %" PRId64 " ms is not accepted; give -1 (for ever) or more",
                   timeout_ms);
  receive_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  atomic_fetch_add(&reader->refs, 1);
  *self = (receive_op){{.class = &receive_class, .client = reader->topic->client}, reader, out, NULL, timeout_ms, 0};
  self->op.wants.fd = -1;
  *op = &self->op;
  return 0;
}

int redmoon_topic_receive(redmoon_topic_reader *reader, int64_t timeout_ms, redmoon_topic_message **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_receive_start(reader, timeout_ms, out, &op, err), &op, err);
}

/* Life. */

void redmoon_topic_reader_shutdown(redmoon_topic_reader *reader) { redmoon_subscription_shutdown(reader->sub); }

void redmoon_topic_reader_close(redmoon_topic_reader *reader) {
  if (reader == NULL) return;
  rm_renewal_remove(reader->topic->client, &reader->mark);
  rm_topic_fill_end(&reader->fill);
  if (reader->sub != NULL) redmoon_subscription_shutdown(reader->sub);
  unref(reader);
}

int redmoon_topic_reader_fd(const redmoon_topic_reader *reader) { return redmoon_subscription_fd(reader->sub); }

void redmoon_topic_reader_stats(redmoon_topic_reader *reader, redmoon_topic_counts *out) {
  redmoon_subscription_counts counts;
  redmoon_subscription_stats(reader->sub, &counts);
  *out = reader->counts;
  out->reconnects = counts.reconnects;
  out->buffered = counts.buffered + (reader->held != NULL);
  out->connected = counts.connected;
}

/* Subscribing: the subscription, then the number to begin with. */

typedef struct subscribe_op {
  redmoon_op op; /* first */
  redmoon_topic_reader *reader, **out;
  redmoon_op *inner; /* NULL: over */
  bool marking;
} subscribe_op;

static int begin_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  redmoon_topic_reader *reader = ctx;
  const redmoon_reply *seq = redmoon_reply_at(answer->reply, 1);
  if (redmoon_reply_type(seq) != REDMOON_INTEGER ||
      !rm_topic_epoch_read(reader->count.epoch, redmoon_reply_at(answer->reply, 3)))
    return rm_topic_fail_answer(err);
  reader->count.next = redmoon_reply_integer(seq) + 1;
  reader->count.early = true;
  return 0;
}

static int subscribe_step(redmoon_op *op, int64_t now_us) {
  subscribe_op *self = (subscribe_op *)op;
  for (;;) {
    redmoon_op *inner = self->inner;
    inner->may_block = op->may_block;
    inner->owner = op->owner;
    inner->status = inner->class->step(inner, now_us);
    op->wants = inner->wants;
    if (inner->status == RM_WAIT) return RM_WAIT;
    self->inner = NULL;
    int status = redmoon_op_finish(inner, &op->error);
    if (status < 0) return status;
    if (self->marking) return RM_DONE;
    self->marking = true;
    status = mark_start_op(self->reader, begin_decode, self->reader, &self->inner, &op->error);
    if (status < 0) return status;
    now_us = rm_clock_now_us();
  }
}

static int subscribe_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  subscribe_op *self = (subscribe_op *)op;
  *self->out = self->reader;
  self->reader = NULL;
  return 0;
}

static void subscribe_destroy(redmoon_op *op) {
  subscribe_op *self = (subscribe_op *)op;
  redmoon_op_cancel(self->inner);
  redmoon_client *client = op->client;
  redmoon_topic_reader_close(self->reader);
  redmoon_client_close(client);
  rm_free(self);
}

static const rm_op_class subscribe_class = {subscribe_step, subscribe_finish, subscribe_destroy, NULL};

/* Begins with the subscription.  0, or negative: self->inner is not there. */
static int open_subscription(subscribe_op *self, const redmoon_subscription_options *options, redmoon_error *err) {
  redmoon_topic_reader *reader = self->reader;
  redmoon_bytes key = reader->topic->keys[RM_TOPIC_KEY];
  char *own = rm_alloc(key.len + RM_TOPIC_EPOCH + 1);
  if (own == NULL) return rm_fail_nomem(err);
  memcpy(own, key.ptr, key.len);
  own[key.len] = '.';
  memcpy(own + key.len + 1, reader->token, RM_TOPIC_EPOCH);
  /* One command subscribes to both: whoever gets a message gets marks. */
  const redmoon_bytes channels[] = {key, {own, key.len + RM_TOPIC_EPOCH + 1}};
  const redmoon_subscription_set set = {channels, 2, NULL, 0, NULL, 0};
  int rc = redmoon_subscription_open_start(reader->topic->client, &set, options, &reader->sub, &self->inner, err);
  rm_free(own);
  return rc;
}

int redmoon_topic_subscribe_start(redmoon_topic *topic, const redmoon_subscription_options *options,
                                  redmoon_topic_reader **out, redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  subscribe_op *self = rm_calloc(1, sizeof *self);
  redmoon_topic_reader *reader = rm_calloc(1, sizeof *reader);
  if (self == NULL || reader == NULL) {
    rm_free(self);
    rm_free(reader);
    return rm_fail_nomem(err);
  }
  atomic_init(&reader->refs, 1);
  reader->topic = rm_topic_ref(topic);
  reader->mark.class = &mark_class;
  rm_topic_fill_init(&reader->fill, topic);
  rm_client_random_hex(topic->client, reader->token, RM_TOPIC_EPOCH / 2);
  self->op.class = &subscribe_class;
  self->op.client = redmoon_client_ref(topic->client);
  self->op.wants.fd = -1;
  self->reader = reader;
  self->out = out;
  int rc = open_subscription(self, options, err);
  if (rc == 0) *op = &self->op;
  else subscribe_destroy(&self->op);
  return rc;
}

int redmoon_topic_subscribe(redmoon_topic *topic, const redmoon_subscription_options *options, redmoon_topic_reader **out,
                            redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_subscribe_start(topic, options, out, &op, err), &op, err);
}
