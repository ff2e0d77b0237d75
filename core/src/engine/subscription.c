/* SPDX-License-Identifier: MIT */
/* Subscriptions: made, fetched from, ended.  Who receives is the keeper; here is what the application's threads do. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/subscription.h"
#include "engine/subscription_internal.h"

#include <inttypes.h>
#include <string.h>

int rm_sub_fail_closed(redmoon_error *err) { return rm_fail(err, REDMOON_ECLOSED, "the subscription is closed"); }

int rm_sub_check_process(redmoon_subscription *sub, redmoon_error *err) {
  if (rm_driven_is_ours(sub->client->core, &sub->driven)) return 0;
  return rm_fail(err, REDMOON_ECLOSED, "the subscription is the parent process's: it was made before fork()");
}

void rm_sub_end(redmoon_subscription *sub, const redmoon_error *why) {
  if (sub->end.status != 0) return;
  sub->end = *why;
  rm_changes_fail(sub, why);
  rm_sub_signal(sub);
}

/* Options. */

static int check_range(const char *option, int64_t *value, int64_t fallback, int64_t min, int64_t max, const char *unit,
                       redmoon_error *err) {
  if (*value == REDMOON_UNSET) *value = fallback;
  if (*value >= min && *value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "subscription option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s", option, *value,
                 unit, min, max, unit);
}

static int read_overflow(const char *given, rm_overflow *out, redmoon_error *err) {
  static const char *const words[] = {"drop_oldest", "drop_newest", "block", "close"};
  for (int i = 0; i < 4; i++)
    if (given == NULL || strcmp(words[i], given) == 0) return *out = (rm_overflow)i, 0;
  char shown[100];
  rm_escape(shown, sizeof shown, given, strlen(given));
  return rm_fail(err, REDMOON_ECONFIG,
                 "subscription option overflow: '%s' is not accepted; give \"drop_oldest\", \"drop_newest\", \"block\" or "
                 "\"close\"",
                 shown);
}

static int read_options(redmoon_subscription *sub, const redmoon_subscription_options *given, redmoon_error *err) {
  static const redmoon_subscription_options none = REDMOON_SUBSCRIPTION_OPTIONS_INIT;
  redmoon_subscription_options o = given != NULL ? *given : none;
  int rc = check_range("buffer", &o.buffer, 1000, 1, 10000000, "", err);
  if (rc == 0) rc = read_overflow(o.overflow, &sub->buffer.overflow, err);
  if (rc == 0) rc = check_range("ping_interval", &o.ping_interval_ms, 15000, 10, 3600000, " ms", err);
  if (rc == 0) rc = check_range("min_backoff", &o.min_backoff_ms, 50, 1, 60000, " ms", err);
  if (rc == 0)
    rc = check_range("max_backoff", &o.max_backoff_ms, rm_max64(5000, o.min_backoff_ms), o.min_backoff_ms, 600000, " ms", err);
  if (rc < 0) return rc;
  sub->buffer.limit = (size_t)o.buffer;
  sub->ping_us = o.ping_interval_ms * 1000;
  sub->min_backoff_us = o.min_backoff_ms * 1000;
  sub->max_backoff_us = o.max_backoff_ms * 1000;
  return 0;
}

/* Life. */

static void destroy(redmoon_subscription *sub) {
  rm_sub_drop_link(sub, RM_CLOSE_SHUTDOWN);
  rm_message_list_free(&sub->buffer.list);
  rm_message_block_leave(sub->block);
  for (int kind = 0; kind < RM_KINDS; kind++) rm_names_fini(&sub->wanted[kind]);
  sub->sink = NULL;
  rm_changes_tell_failed(sub);
  rm_request_fini(&sub->request);
  rm_buffer_fini(&sub->expected);
  rm_arena_fini(&sub->arena);
  rm_event_close(&sub->event);
  pthread_mutex_destroy(&sub->lock);
  redmoon_client_close(sub->client);
  rm_free(sub);
}

void rm_sub_unref(redmoon_subscription *sub) {
  if (atomic_fetch_sub(&sub->refs, 1) != 1) return;
  redmoon_subscription_shutdown(sub);
  if (rm_sub_check_process(sub, NULL) == 0) destroy(sub);
  /* else: the parent's keeper may have been in the middle of it.  What it had is left alone, but for the client. */
  else redmoon_client_close(sub->client);
}

static int new_subscription(redmoon_client *client, const redmoon_subscription_options *options, const rm_sub_sink *sink,
                            void *sink_ctx, redmoon_subscription **out, redmoon_error *err) {
  rm_core_check_fork(client->core);
  redmoon_subscription *sub = rm_calloc(1, sizeof *sub);
  if (sub == NULL) return rm_fail_nomem(err);
  atomic_init(&sub->refs, 1);
  sub->client = redmoon_client_ref(client);
  sub->sink = sink;
  sub->sink_ctx = sink_ctx;
  sub->driven.class = &rm_sub_driven_class;
  sub->driven.inner = sink != NULL;
  sub->driven.wants = (rm_wants){-1, 0, RM_FOREVER};
  sub->driven.generation = client->core->keeper.generation;
  pthread_mutex_init(&sub->lock, NULL);
  rm_list_init(&sub->changes);
  rm_list_init(&sub->failed);
  rm_request_init(&sub->request);
  sub->event = (rm_event)RM_EVENT_INIT;
  int rc = read_options(sub, options, err);
  if (rc == 0 && rm_event_open(&sub->event) != 0)
    rc = rm_fail(err, REDMOON_EUNAVAILABLE, "no event descriptor could be had for the subscription");
  if (rc == 0) rc = rm_driven_add(client->core, &sub->driven, err);
  if (rc == 0) *out = sub;
  else rm_sub_unref(sub);
  return rc;
}

void redmoon_subscription_shutdown(redmoon_subscription *sub) {
  if (rm_sub_check_process(sub, NULL) < 0) return;
  redmoon_error closed;
  rm_sub_fail_closed(&closed);
  rm_sub_lock(sub);
  bool mine = !sub->shut;
  sub->shut = true;
  rm_sub_end(sub, &closed);
  rm_sub_unlock(sub);
  if (!mine) return;
  rm_driven_remove(sub->client->core, &sub->driven);
  rm_sub_drop_link(sub, RM_CLOSE_SHUTDOWN);
}

void redmoon_subscription_close(redmoon_subscription *sub) {
  if (sub == NULL) return;
  redmoon_subscription_shutdown(sub);
  rm_sub_unref(sub);
}

/* The library's own. */

int rm_subscription_new_sink(redmoon_client *client, const rm_sub_sink *sink, void *ctx, redmoon_subscription **out,
                             redmoon_error *err) {
  return new_subscription(client, NULL, sink, ctx, out, err);
}

int rm_subscription_want(redmoon_subscription *sub, redmoon_bytes channel, bool wanted) {
  rm_change *change = rm_change_new_detached(channel, wanted);
  if (change == NULL) return REDMOON_ENOMEM;
  rm_sub_lock(sub);
  int rc = sub->end.status;
  if (rc == 0) rm_list_push_back(&sub->changes, &change->link);
  rm_sub_unlock(sub);
  if (rc != 0) rm_change_free(change);
  return rc;
}

void rm_subscription_kick(redmoon_subscription *sub) { rm_driven_kick(sub->client->core, &sub->driven); }

/* Opening: made at once, ready when what it was made for is confirmed. */

typedef struct open_op {
  rm_change_op change; /* first */
  redmoon_subscription **out;
} open_op;

static int open_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  open_op *self = (open_op *)op;
  atomic_fetch_add(&self->change.sub->refs, 1);
  *self->out = self->change.sub;
  self->out = NULL;
  return 0;
}

static void open_destroy(redmoon_op *op) {
  open_op *self = (open_op *)op;
  if (self->out != NULL) redmoon_subscription_shutdown(self->change.sub); /* nobody gets it */
  rm_change_destroy(op);
}

static const rm_op_class open_class = {rm_change_step, open_finish, open_destroy, rm_change_outcome};

int redmoon_subscription_open_start(redmoon_client *client, const redmoon_subscription_set *set,
                                    const redmoon_subscription_options *options, redmoon_subscription **out,
                                    redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  redmoon_subscription *sub;
  rm_change *change;
  int rc = rm_change_new(set, true, &change, err);
  if (rc != 0) return rc;
  rc = new_subscription(client, options, NULL, NULL, &sub, err);
  if (rc != 0) {
    rm_change_free(change);
    return rc;
  }
  rc = rm_change_start(sub, change, &open_class, sizeof(open_op), op, err);
  if (rc == 0) ((open_op *)*op)->out = out;
  rm_sub_unref(sub); /* the operation's reference is another */
  return rc;
}

int redmoon_subscription_open(redmoon_client *client, const redmoon_subscription_set *set,
                              const redmoon_subscription_options *options, redmoon_subscription **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_subscription_open_start(client, set, options, out, &op, err), &op, err);
}

/* Adding and removing. */

static const rm_op_class change_class = {rm_change_step, NULL, rm_change_destroy, rm_change_outcome};

static int start_change(redmoon_subscription *sub, const redmoon_subscription_set *set, bool add, redmoon_op **op,
                        redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  rm_change *change;
  int rc = rm_change_new(set, add, &change, err);
  return rc != 0 ? rc : rm_change_start(sub, change, &change_class, sizeof(rm_change_op), op, err);
}

int redmoon_subscription_add_start(redmoon_subscription *sub, const redmoon_subscription_set *set, redmoon_op **op,
                                   redmoon_error *err) {
  return start_change(sub, set, true, op, err);
}

int redmoon_subscription_add(redmoon_subscription *sub, const redmoon_subscription_set *set, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_subscription_add_start(sub, set, &op, err), &op, err);
}

int redmoon_subscription_remove_start(redmoon_subscription *sub, const redmoon_subscription_set *set, redmoon_op **op,
                                      redmoon_error *err) {
  return start_change(sub, set, false, op, err);
}

int redmoon_subscription_remove(redmoon_subscription *sub, const redmoon_subscription_set *set, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_subscription_remove_start(sub, set, &op, err), &op, err);
}

/* Fetching. */

int rm_subscription_take(redmoon_subscription *sub, redmoon_message **out, redmoon_error *err) {
  int rc = rm_sub_check_process(sub, err);
  if (rc < 0) return rc;
  rm_sub_lock(sub);
  rc = rm_message_buffer_take(&sub->buffer, !sub->outage || sub->end.status != 0, out);
  if (rc == 1) {
    if ((*out)->kind == REDMOON_MESSAGE) sub->counts.delivered++;
    else sub->counts.gaps++;
  } else if (rc == 0 && sub->end.status != 0) {
    rc = sub->end.status;
    if (err != NULL) *err = sub->end;
  } else if (rc == 0 && sub->signalled) { /* late, so that a fetch that keeps up with what comes costs no system call */
    sub->signalled = false;
    rm_event_clear(&sub->event);
  }
  bool kick = sub->blocked && sub->buffer.list.count <= sub->buffer.limit / 2;
  rm_sub_unlock(sub);
  if (rc == REDMOON_ENOMEM) rm_fail_nomem(err);
  if (kick) rm_driven_kick(sub->client->core, &sub->driven);
  return rc;
}

void rm_subscription_wake(redmoon_subscription *sub) {
  if (rm_sub_check_process(sub, NULL) < 0) return;
  rm_sub_lock(sub);
  rm_sub_signal(sub);
  rm_sub_unlock(sub);
}

int rm_subscription_check(redmoon_subscription *sub, redmoon_error *err) { return rm_sub_check_process(sub, err); }

int rm_subscription_hush(redmoon_subscription *sub, redmoon_error *err) {
  int rc = rm_sub_check_process(sub, err);
  if (rc < 0) return rc;
  rm_sub_lock(sub);
  rc = sub->end.status;
  if (rc != 0 && err != NULL) *err = sub->end;
  if (sub->signalled) {
    sub->signalled = false;
    rm_event_clear(&sub->event);
  }
  rm_sub_unlock(sub);
  return rc;
}

typedef struct receive_op {
  redmoon_op op; /* first */
  redmoon_subscription *sub; /* a reference */
  redmoon_message **out, *message;
  int64_t timeout_ms, deadline_us; /* 0: not begun */
} receive_op;

static int receive_step(redmoon_op *op, int64_t now_us) {
  receive_op *self = (receive_op *)op;
  int rc = rm_subscription_take(self->sub, &self->message, &op->error);
  if (rc != 0) return rc;
  if (self->deadline_us == 0) self->deadline_us = rm_deadline_us(now_us, self->timeout_ms);
  if (now_us >= self->deadline_us) return RM_DONE;
  op->wants = (rm_wants){self->sub->event.fd, REDMOON_WANT_READ, self->deadline_us};
  return RM_WAIT;
}

static int receive_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  receive_op *self = (receive_op *)op;
  *self->out = self->message;
  self->message = NULL;
  return 0;
}

static void receive_destroy(redmoon_op *op) {
  receive_op *self = (receive_op *)op;
  redmoon_message_free(self->message);
  rm_sub_unref(self->sub);
  rm_free(self);
}

static const rm_op_class receive_class = {receive_step, receive_finish, receive_destroy, NULL};

int redmoon_subscription_receive_start(redmoon_subscription *sub, int64_t timeout_ms, redmoon_message **out,
                                       redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  if (timeout_ms < -1)
    return rm_fail(err, REDMOON_ECONFIG, "receive: a timeout of %" PRId64 " ms is not accepted; give -1 (for ever) or more",
                   timeout_ms);
  receive_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  atomic_fetch_add(&sub->refs, 1);
  *self = (receive_op){{.class = &receive_class, .client = sub->client}, sub, out, NULL, timeout_ms, 0};
  self->op.wants.fd = -1;
  *op = &self->op;
  return 0;
}

int redmoon_subscription_receive(redmoon_subscription *sub, int64_t timeout_ms, redmoon_message **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if (timeout_ms >= -1) { /* what is there needs no operation */
    int rc = rm_subscription_take(sub, out, err);
    if (rc != 0 || timeout_ms == 0) return rc < 0 ? rc : 0;
  }
  redmoon_op *op = NULL;
  return rm_run(redmoon_subscription_receive_start(sub, timeout_ms, out, &op, err), &op, err);
}

int redmoon_subscription_fd(const redmoon_subscription *sub) { return sub->event.fd; }

void redmoon_subscription_stats(redmoon_subscription *sub, redmoon_subscription_counts *out) {
  *out = (redmoon_subscription_counts){0};
  if (rm_sub_check_process(sub, NULL) < 0) return;
  rm_sub_lock(sub);
  *out = sub->counts;
  out->buffered = sub->buffer.list.count;
  out->channels = sub->wanted[RM_CHANNELS].count;
  out->patterns = sub->wanted[RM_PATTERNS].count;
  out->shards = sub->wanted[RM_SHARDS].count;
  out->connected = sub->whole && sub->end.status == 0;
  rm_sub_unlock(sub);
}
