/* SPDX-License-Identifier: MIT */
/* Adding to what is wanted, and removing from it.
 *
 *     queued --(it is the first, and there is a link)--> begun: wanted is changed, commands are on their way
 *        ^                                                 |  all confirmed ---------------------> done
 *        |                                                 |  one refused: taken back -----------> done, with the error
 *        +------- the link is lost: taken back (add) ------+  abandoned: taken back -------------> freed
 *                                                          +- the link is lost (remove) ---------> done */
#include "engine/subscription_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/plan.h"

#include <string.h>

enum { NAMES_OF_A_COMMAND = 1000 };

/* The change itself. */

void rm_change_free(rm_change *change) {
  if (change == NULL) return;
  for (int kind = 0; kind < RM_KINDS; kind++) rm_names_fini(&change->names[kind]);
  rm_event_close(&change->event);
  rm_free(change);
}

rm_change *rm_change_new_detached(redmoon_bytes channel, bool add) {
  rm_change *change = rm_calloc(1, sizeof *change);
  if (change == NULL) return NULL;
  change->add = add;
  change->detached = true;
  change->event = (rm_event)RM_EVENT_INIT;
  if (rm_names_add(&change->names[RM_CHANNELS], channel) == 1) return change;
  rm_change_free(change);
  return NULL;
}

static int copy_names(rm_names *names, const redmoon_bytes *from, size_t count, redmoon_error *err) {
  if (rm_names_reserve(names, count) != 0) return rm_fail_nomem(err);
  for (size_t i = 0; i < count; i++) {
    if (from[i].ptr == NULL && from[i].len > 0)
      return rm_fail(err, REDMOON_ECONFIG, "name %zu of the subscription is NULL", i + 1);
    if (rm_names_add(names, from[i]) < 0) return rm_fail_nomem(err);
  }
  return 0;
}

int rm_change_new(const redmoon_subscription_set *set, bool add, rm_change **out, redmoon_error *err) {
  *out = NULL;
  rm_change *change = rm_calloc(1, sizeof *change);
  if (change == NULL) return rm_fail_nomem(err);
  change->add = add;
  change->event = (rm_event)RM_EVENT_INIT;
  int rc = copy_names(&change->names[RM_CHANNELS], set->channels, set->channel_count, err);
  if (rc == 0) rc = copy_names(&change->names[RM_PATTERNS], set->patterns, set->pattern_count, err);
  if (rc == 0) rc = copy_names(&change->names[RM_SHARDS], set->shards, set->shard_count, err);
  if (rc == 0 && rm_event_open(&change->event) != 0)
    rc = rm_fail(err, REDMOON_EUNAVAILABLE, "no event descriptor could be had for the subscription");
  if (rc == 0) *out = change;
  else rm_change_free(change);
  return rc;
}

static bool is_empty(const rm_change *change) {
  return change->names[RM_CHANNELS].count + change->names[RM_PATTERNS].count + change->names[RM_SHARDS].count == 0;
}

/* The keeper's part. */

/* No answer that is still due is for it. */
static void forget_answers(redmoon_subscription *sub, const rm_change *change) {
  rm_expected *at = (rm_expected *)(void *)rm_buffer_begin(&sub->expected);
  for (size_t n = rm_buffer_len(&sub->expected) / sizeof *at; n > 0; n--, at++)
    if (at->change == change) at->change = NULL;
}

static void finish(redmoon_subscription *sub, rm_change *change) {
  forget_answers(sub, change);
  rm_list_remove(&change->link);
  change->done = true;
  /* Nobody will try again to take these out. */
  for (size_t i = 0; change->detached && !change->add && i < change->names[RM_CHANNELS].count; i++)
    rm_names_remove(&sub->wanted[RM_CHANNELS], change->names[RM_CHANNELS].items[i]);
  if (change->detached && change->add && change->error.status != 0) rm_list_push_back(&sub->failed, &change->link);
  else if (change->abandoned || change->detached) rm_change_free(change);
  else rm_event_signal(&change->event);
}

void rm_changes_tell_failed(redmoon_subscription *sub) {
  for (;;) {
    rm_sub_lock(sub);
    rm_list *first = rm_list_is_empty(&sub->failed) ? NULL : sub->failed.next;
    if (first != NULL) rm_list_remove(first);
    rm_sub_unlock(sub);
    if (first == NULL) return;
    rm_change *change = RM_CONTAINER_OF(first, rm_change, link);
    const rm_names *names = &change->names[RM_CHANNELS];
    for (size_t i = 0; i < names->count && sub->sink != NULL; i++) sub->sink->refused(sub->sink_ctx, names->items[i]);
    rm_change_free(change);
  }
}

/* What it added is wanted no more. */
static void take_back(redmoon_subscription *sub, const rm_change *change) {
  if (!change->add) return;
  for (int kind = 0; kind < RM_KINDS; kind++)
    for (size_t i = 0; i < change->names[kind].count; i++)
      rm_names_remove(&sub->wanted[kind], change->names[kind].items[i]);
}

int rm_sub_ask(redmoon_subscription *sub, int verb, const rm_names *names, rm_change *change, bool restores,
               size_t *commands) {
  for (size_t from = 0; from < names->count; from += NAMES_OF_A_COMMAND) {
    size_t count = names->count - from < NAMES_OF_A_COMMAND ? names->count - from : NAMES_OF_A_COMMAND;
    rm_request_begin(&sub->request, count + 1);
    rm_request_text(&sub->request, rm_sub_verbs[verb]);
    for (size_t i = from; i < from + count; i++)
      rm_request_arg(&sub->request, names->items[i].ptr, names->items[i].len);
    rm_expected expected = {verb, count, change, restores};
    if (rm_request_end(&sub->request, 0, 0) != 0 || rm_buffer_append(&sub->expected, &expected, sizeof expected) != 0)
      return REDMOON_ENOMEM;
    if (commands != NULL) ++*commands;
  }
  return 0;
}

/* Unsubscribes from what a change asked for in vain. */
static int ask_back(redmoon_subscription *sub, const rm_change *change) {
  int rc = 0;
  for (int kind = 0; kind < RM_KINDS && rc == 0 && change->add; kind++)
    rc = rm_sub_ask(sub, 2 * kind + 1, &change->names[kind], NULL, false, NULL);
  return rc;
}

/* Changes what is wanted; the change keeps the names that make a difference. */
static int apply(redmoon_subscription *sub, rm_change *change) {
  for (int kind = 0; kind < RM_KINDS; kind++) {
    rm_names *wanted = &sub->wanted[kind], *names = &change->names[kind];
    if (change->add && rm_names_reserve(wanted, names->count) != 0) return REDMOON_ENOMEM;
    for (size_t i = names->count; i > 0; i--) {
      redmoon_bytes name = names->items[i - 1];
      if (change->add == rm_names_has(wanted, name)) rm_names_remove(names, name);
    }
  }
  for (int kind = 0; kind < RM_KINDS; kind++)
    for (size_t i = 0; i < change->names[kind].count; i++) {
      redmoon_bytes name = change->names[kind].items[i];
      if (!change->add) rm_names_remove(&sub->wanted[kind], name);
      else if (rm_names_add(&sub->wanted[kind], name) < 0) {
        take_back(sub, change);
        return REDMOON_ENOMEM;
      }
    }
  return 0;
}

/* A link goes to one node, so in a cluster all shard channels of a subscription have one slot.  0 or CONFIG. */
static int check_slots(const redmoon_subscription *sub, const rm_change *change, redmoon_error *err) {
  const rm_names *there = &sub->wanted[RM_SHARDS], *names = &change->names[RM_SHARDS];
  if (!change->add || names->count == 0 || !rm_route_is_cluster(sub->client->core->route)) return 0;
  redmoon_bytes first = there->count > 0 ? there->items[0] : names->items[0];
  uint16_t slot = rm_slot_of(first.ptr, first.len);
  for (size_t i = 0; i < names->count; i++)
    if (rm_slot_of(names->items[i].ptr, names->items[i].len) != slot)
      return rm_fail_cross_slot(err, "a subscription to shard channels", &first, &names->items[i]);
  return 0;
}

static int begin(redmoon_subscription *sub, rm_change *change) {
  bool live = sub->state == RM_LINK_LIVE;
  change->left = 0;
  if (check_slots(sub, change, &change->error) != 0) {
    finish(sub, change);
    return 0;
  }
  if (apply(sub, change) != 0) {
    rm_fail_nomem(&change->error);
    finish(sub, change);
    return 0;
  }
  change->begun = true;
  change->covered = change->add && !sub->whole;
  int rc = 0;
  for (int kind = 0; kind < RM_KINDS && rc == 0 && live; kind++)
    rc = rm_sub_ask(sub, 2 * kind + !change->add, &change->names[kind], change, false, &change->left);
  if (rc != 0) { /* some of it may be formatted: the connection goes, and this with it */
    take_back(sub, change);
    rm_fail_nomem(&change->error);
  }
  if (rc != 0 || (change->left == 0 && !change->covered)) finish(sub, change);
  return rc;
}

int rm_changes_advance(redmoon_subscription *sub) {
  while (!rm_list_is_empty(&sub->changes)) {
    rm_change *change = RM_CONTAINER_OF(sub->changes.next, rm_change, link);
    int rc = 0;
    if (change->abandoned) {
      if (change->begun) {
        take_back(sub, change);
        if (sub->state == RM_LINK_LIVE) rc = ask_back(sub, change);
      }
      finish(sub, change);
    } else if (change->begun || (change->add && sub->state != RM_LINK_LIVE)) {
      return 0;
    } else {
      rc = begin(sub, change);
    }
    if (rc != 0) return rc;
  }
  return 0;
}

int rm_change_answered(redmoon_subscription *sub, rm_change *change, const redmoon_error *error) {
  if (error != NULL) change->error = *error;
  if (--change->left > 0) return 0;
  int rc = 0;
  if (change->error.status != 0) {
    take_back(sub, change);
    rc = ask_back(sub, change);
  } else if (change->covered) {
    return 0;
  }
  finish(sub, change);
  return rc;
}

void rm_changes_link_whole(redmoon_subscription *sub) {
  if (rm_list_is_empty(&sub->changes)) return;
  rm_change *change = RM_CONTAINER_OF(sub->changes.next, rm_change, link);
  if (!change->begun || !change->covered) return;
  change->covered = false;
  if (change->left == 0) finish(sub, change);
}

void rm_changes_link_lost(redmoon_subscription *sub) {
  rm_buffer_reset(&sub->expected, 4096);
  if (rm_list_is_empty(&sub->changes)) return;
  rm_change *change = RM_CONTAINER_OF(sub->changes.next, rm_change, link);
  if (!change->begun) return;
  take_back(sub, change);
  change->begun = false;
  rm_error_clear(&change->error);
  if (!change->add) finish(sub, change);
}

void rm_changes_fail(redmoon_subscription *sub, const redmoon_error *why) {
  while (!rm_list_is_empty(&sub->changes)) {
    rm_change *change = RM_CONTAINER_OF(sub->changes.next, rm_change, link);
    change->error = *why;
    finish(sub, change);
  }
}

/* The operation. */

int rm_change_start(redmoon_subscription *sub, rm_change *change, const rm_op_class *class, size_t size, redmoon_op **out,
                    redmoon_error *err) {
  rm_change_op *self = rm_calloc(1, size);
  bool empty = is_empty(change); /* once it is queued it is the keeper's */
  int rc = self == NULL ? rm_fail_nomem(err) : rm_sub_check_process(sub, err);
  if (rc == 0) {
    rm_sub_lock(sub);
    if (sub->end.status != 0) {
      rc = sub->end.status;
      if (err != NULL) *err = sub->end;
    } else if (!empty) {
      rm_list_push_back(&sub->changes, &change->link);
    }
    rm_sub_unlock(sub);
  }
  if (rc != 0) {
    rm_change_free(change);
    rm_free(self);
    return rc;
  }
  atomic_fetch_add(&sub->refs, 1);
  self->op.class = class;
  self->op.client = sub->client;
  self->op.wants.fd = -1;
  self->sub = sub;
  if (empty) {
    rm_change_free(change);
  } else {
    self->change = change;
    rm_driven_kick(sub->client->core, &sub->driven);
  }
  *out = &self->op;
  return 0;
}

static int fail_late(rm_change_op *self) {
  redmoon_subscription *sub = self->sub;
  redmoon_error trouble;
  rm_sub_lock(sub);
  trouble = sub->trouble;
  rm_sub_unlock(sub);
  rm_fail_phase(&self->op.error, REDMOON_ETIMEOUT, trouble.status != 0 ? REDMOON_PHASE_DIAL : REDMOON_PHASE_RECEIVE,
                "the subscription was not confirmed within %lld ms%s%.300s",
                (long long)(sub->client->settings.timeout_us / 1000), trouble.status != 0 ? "; the last failure: " : "",
                trouble.status != 0 ? trouble.message : "");
  self->op.error.outcome = rm_change_outcome(&self->op);
  self->op.error.retryable = 1;
  return REDMOON_ETIMEOUT;
}

int rm_change_step(redmoon_op *op, int64_t now_us) {
  rm_change_op *self = (rm_change_op *)op;
  redmoon_subscription *sub = self->sub;
  int rc = rm_sub_check_process(sub, &op->error);
  if (rc < 0) return rc;
  rm_change *change = self->change;
  if (change == NULL) return RM_DONE;
  if (self->deadline_us == 0) self->deadline_us = now_us + sub->client->settings.timeout_us;
  rm_sub_lock(sub);
  bool done = change->done;
  if (done) op->error = change->error;
  rm_sub_unlock(sub);
  if (done) return op->error.status != 0 ? op->error.status : RM_DONE;
  if (now_us >= self->deadline_us) return fail_late(self);
  op->wants = (rm_wants){change->event.fd, REDMOON_WANT_READ, self->deadline_us};
  return RM_WAIT;
}

void rm_change_destroy(redmoon_op *op) {
  rm_change_op *self = (rm_change_op *)op;
  redmoon_subscription *sub = self->sub;
  rm_change *change = self->change;
  /* That of a parent's is left alone: nobody can tell what state it is in. */
  if (change != NULL && rm_sub_check_process(sub, NULL) == 0) {
    rm_sub_lock(sub);
    bool done = change->done;
    change->abandoned = true;
    rm_sub_unlock(sub);
    if (done) rm_change_free(change);
    else rm_driven_kick(sub->client->core, &sub->driven);
  }
  rm_sub_unref(sub);
  rm_free(self);
}

/* To repeat it does no harm, but the server may have got it. */
redmoon_outcome rm_change_outcome(const redmoon_op *op) {
  const rm_change_op *self = (const rm_change_op *)op;
  if (self->change == NULL || rm_sub_check_process(self->sub, NULL) < 0) return REDMOON_NOT_SENT;
  rm_sub_lock(self->sub);
  bool begun = self->change->begun;
  rm_sub_unlock(self->sub);
  return begun ? REDMOON_UNKNOWN : REDMOON_NOT_SENT;
}
