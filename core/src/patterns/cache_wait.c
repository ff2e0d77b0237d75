/* SPDX-License-Identifier: MIT */
/* A get that cannot go straight on: others load the key, or Redis fails. */
#include "patterns/cache.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"

#include <inttypes.h>
#include <stdio.h>

enum { FIRST_PAUSE_US = 8000, LONGEST_PAUSE_US = 250000, SHORTEST_PAUSE_US = 1000, SLOT_PAUSE_US = 20000 };

/* Loads of others. */

static void note_wait(rm_get_op *self, rm_item *item) {
  if (!item->waited) rm_cache_add(self->cache, RM_COUNT_WAIT);
  item->waited = true;
}

/* A thread that blocks in one operation cannot end another: waiting for its own would never end. */
static uintptr_t owner_of(const redmoon_op *op) {
  if (op->owner != 0) return op->owner;
  return op->may_block ? (uintptr_t)pthread_self() : 0;
}

static bool has_event(rm_get_op *self) { return self->event.fd >= 0 || rm_event_open(&self->event) == 0; }

static int follow(rm_get_op *self, rm_item *item) {
  redmoon_error *err = &self->call.op.error;
  if (!has_event(self))
    return rm_fail(err, REDMOON_EUNAVAILABLE, "an eventfd to wait on cannot be had: too many descriptors are open");
  return rm_flights_join(self->flights, item->entry.ptr, item->entry.len, owner_of(&self->call.op), self, &self->event,
                         &item->ticket);
}

int rm_get_join(rm_get_op *self, rm_item *item) {
  redmoon_error *err = &self->call.op.error;
  int how = rm_flights_join(self->flights, item->entry.ptr, item->entry.len, owner_of(&self->call.op), self, NULL,
                            &item->ticket);
  if (how == RM_FLIGHT_BUSY && !item->has) how = follow(self, item);
  if (how == REDMOON_ENOMEM) return rm_fail_nomem(err);
  if (how < 0) return how;
  if (how == RM_FLIGHT_FOLLOWS) {
    note_wait(self, item);
    item->state = ITEM_FOLLOW;
  } else if (how != RM_FLIGHT_LEADS && item->has) {
    rm_item_serve(self, item); /* somebody loads it again: nobody waits for that */
  } else if (how == RM_FLIGHT_OWN) {
    rm_fail(&item->error, REDMOON_EUNAVAILABLE,
            "cache: this thread loads the same key already; waiting for itself would never end");
    rm_item_fail(self, item, false);
  }
  return 0;
}

/* Until it is woken it looks now and then all the same; until it can be woken, often.  Of a client one waits for a key, the
 * others follow it; so all who wait are woken at once, and find the value. */
static int64_t pause_us(rm_get_op *self, rm_item *item) {
  rm_core *core = self->cache->client->core;
  if (!item->waiter.joined && has_event(self))
    rm_waiter_join(&item->waiter, core, item->waits, (redmoon_bytes){NULL, 0}, true, &self->event);
  rm_waiter_asked(&item->waiter);
  int64_t poll_us = core->wakeups.poll_us;
  if (rm_waiter_sleep(&item->waiter, core).ready) return poll_us / 2 + rm_random_upto(poll_us - poll_us / 2);
  if (item->pause_us == 0) item->pause_us = FIRST_PAUSE_US;
  int64_t pause = rm_max64(rm_random_upto(item->pause_us), SHORTEST_PAUSE_US);
  item->pause_us = rm_min64(2 * item->pause_us, LONGEST_PAUSE_US);
  return pause;
}

void rm_get_wait(rm_get_op *self, rm_item *item, int64_t lease_us, int64_t now_us) {
  note_wait(self, item);
  item->state = ITEM_WAIT;
  item->wake_us = now_us + rm_min64(pause_us(self, item), rm_max64(lease_us, 0) + SHORTEST_PAUSE_US);
}

/* Loads without a lease. */

static bool take_slot(rm_get_op *self, rm_item *item) {
  int before = atomic_fetch_add(&self->flights->fallbacks, 1);
  item->fallback = before < self->cache->options.fallback_loads;
  if (!item->fallback) atomic_fetch_sub(&self->flights->fallbacks, 1);
  return item->fallback;
}

void rm_get_end_fallback(rm_get_op *self, rm_item *item) {
  if (item->fallback && self->generation == self->flights->generation) atomic_fetch_sub(&self->flights->fallbacks, 1);
  item->fallback = false;
}

/* Neither Redis nor another's load gives it a value. */
static void go_without(rm_get_op *self, rm_item *item, const redmoon_error *why) {
  snprintf(item->out.code, sizeof item->out.code, "%s", why->code);
  item->error = *why;
  if (!self->peek && self->cache->on_error == RM_CACHE_LOAD) {
    rm_flights_leave(self->flights, &item->ticket, NULL);
    item->state = ITEM_SLOT;
  } else {
    rm_item_fail(self, item, false);
  }
}

void rm_get_degrade(rm_get_op *self, rm_item *item, const redmoon_error *why) {
  rm_cache_add(self->cache, RM_COUNT_UNAVAILABLE);
  if (item->has && (item->fresh || self->cache->on_error != RM_CACHE_ERROR)) {
    snprintf(item->out.code, sizeof item->out.code, "%s", why->code);
    rm_item_serve(self, item);
    return;
  }
  go_without(self, item, why);
}

static void wait_is_over(rm_get_op *self, rm_item *item) {
  redmoon_error why;
  rm_fail(&why, REDMOON_ETIMEOUT,
          "cache: another load of the key was waited for until the call's deadline (timeout %lld ms)",
          (long long)(self->call.op.client->settings.timeout_us / 1000));
  why.retryable = 1;
  go_without(self, item, &why);
}

/* Looking. */

static bool look_follow(rm_get_op *self, rm_item *item, int64_t now_us) {
  if (!rm_ticket_has_ended(self->flights, &item->ticket)) {
    if (now_us < self->deadline_us) return false;
    wait_is_over(self, item);
    return true;
  }
  item->state = ITEM_ASK;
  if (!item->ticket.failed) return true;
  rm_fail(&item->error, REDMOON_EUNAVAILABLE, "%s", item->ticket.text);
  item->error.retryable = 1;
  rm_item_fail(self, item, false);
  return true;
}

static bool look_slot(rm_get_op *self, rm_item *item, int64_t now_us) {
  if (take_slot(self, item)) {
    item->state = ITEM_LOAD;
    return true;
  }
  if (now_us < self->deadline_us) {
    item->wake_us = rm_min64(self->deadline_us, now_us + rm_max64(rm_random_upto(SLOT_PAUSE_US), SHORTEST_PAUSE_US));
    return false;
  }
  rm_item_fail(self, item, false);
  return true;
}

bool rm_get_look(rm_get_op *self, int64_t now_us, int64_t *until_us) {
  bool changed = false;
  *until_us = self->deadline_us;
  if (self->event.fd >= 0) rm_event_clear(&self->event);
  for (size_t i = 0; i < self->count; i++) {
    rm_item *item = &self->items[i];
    if (item->state == ITEM_FOLLOW) {
      changed |= look_follow(self, item, now_us);
    } else if (item->state == ITEM_WAIT && now_us >= self->deadline_us) {
      wait_is_over(self, item);
      changed = true;
    } else if (item->state == ITEM_WAIT && (rm_waiter_take(&item->waiter, self->cache->client->core) || now_us >= item->wake_us)) {
      item->state = ITEM_ASK;
      changed = true;
    } else if (item->state == ITEM_WAIT) {
      *until_us = rm_min64(*until_us, item->wake_us);
    } else if (item->state == ITEM_SLOT) {
      if (look_slot(self, item, now_us)) changed = true;
      else *until_us = rm_min64(*until_us, item->wake_us);
    }
  }
  return changed;
}
