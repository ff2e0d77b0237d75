/* SPDX-License-Identifier: MIT */
/* Getting values, one or many: one operation, whose items go their way together.
 *
 *      PLAN --> READ (GET [PTTL]) --fresh--> done        what was read and has tags goes on, from here and from LEASE,
 *        ^           | stale, early, none                when CHECK (MGET of their versions) says that they hold
 *        |           v
 *        |      lead the flight? --another operation of this client does--> stale: done; none: PAUSE until it has ended
 *        |           v
 *        |      LEASE --fresh, or another has it and something is there--> done
 *        |        |  \---another has it, nothing is there--> PAUSE, then READ again
 *        |        v
 *        |      LOAD: the caller's part, no connection is held
 *        |        v
 *        |      TAG (versions of its tags, if it has some)
 *        |        v
 *        +----- PUT (or the lease is given back) --> done
 *
 *  Each turn takes all items that are in one stage, in this order, so that they share a round trip. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"
#include "engine/script.h"
#include "patterns/keys.h"

#include <stddef.h>
#include <string.h>

/* Items. */

void rm_item_drop_tags(rm_item *item) {
  rm_free(item->tags);
  item->tags = NULL;
  item->tag_count = 0;
}

static void end(rm_get_op *self, rm_item *item) {
  rm_waiter_leave(&item->waiter, self->cache->client->core, false);
  if (item->missed) rm_cache_add(self->cache, RM_COUNT_MISS);
  item->state = ITEM_DONE;
}

void rm_item_done(rm_get_op *self, rm_item *item) {
  end(self, item);
  rm_get_end_fallback(self, item);
  rm_flights_leave(self->flights, &item->ticket, NULL);
}

void rm_item_serve(rm_get_op *self, rm_item *item) {
  item->out.source = "redis";
  item->out.state = item->fresh ? "hit" : "stale";
  rm_cache_add(self->cache, item->fresh ? RM_COUNT_HIT : RM_COUNT_STALE);
  rm_item_done(self, item);
}

void rm_item_fail(rm_get_op *self, rm_item *item, bool shared) {
  item->out.status = item->error.status;
  rm_free(item->out.value);
  item->out.value = NULL;
  item->out.found = 0;
  item->out.len = 0;
  end(self, item);
  rm_get_end_fallback(self, item);
  rm_flights_leave(self->flights, &item->ticket, shared ? item->error.message : NULL);
}

/* Stages. */

static bool has_state(const rm_get_op *self, rm_item_state state) {
  for (size_t i = 0; i < self->count; i++)
    if (self->items[i].state == state) return true;
  return false;
}

static int begin_call(rm_get_op *self, rm_get_stage stage) {
  rm_call_reset(&self->call);
  self->call.fixed_deadline_us = self->deadline_us;
  self->stage = stage;
  return rm_get_format(self, stage);
}

/* What comes next.  RM_WAIT: a stage was begun; RM_DONE: all items have ended; or negative. */
static int plan(rm_get_op *self) {
  for (size_t i = 0; i < self->count; i++)
    if (self->items[i].state == ITEM_LEASE && !self->items[i].ticket.leads) {
      int status = rm_get_join(self, &self->items[i]);
      if (status < 0) return status;
    }
  if (has_state(self, ITEM_ASK)) return begin_call(self, GET_READ);
  if (has_state(self, ITEM_CHECK)) return begin_call(self, GET_CHECK);
  if (has_state(self, ITEM_LEASE)) return begin_call(self, GET_LEASE);
  if (has_state(self, ITEM_TAG)) return begin_call(self, GET_TAG);
  if (has_state(self, ITEM_PUT) || has_state(self, ITEM_RELEASE) || has_state(self, ITEM_DISCARD))
    return begin_call(self, GET_PUT);
  if (has_state(self, ITEM_LOAD)) {
    self->stage = GET_LOAD;
    self->load_began_us = self->call.op.may_block ? rm_clock_now_us() : self->now_us; /* a step that blocks takes its time */
    return RM_WAIT;
  }
  self->stage = GET_PAUSE;
  for (size_t i = 0; i < self->count; i++)
    if (self->items[i].state != ITEM_DONE) return RM_WAIT;
  return RM_DONE;
}

/* Waits for flights, leases of others and slots.  RM_WAIT, or RM_DONE when there is something to do. */
static int wait_for_others(rm_get_op *self, int64_t now_us) {
  int64_t until_us;
  if (rm_get_look(self, now_us, &until_us)) return RM_DONE;
  self->call.op.wants = (rm_wants){self->event.fd, self->event.fd >= 0 ? REDMOON_WANT_READ : 0, until_us};
  return RM_WAIT;
}

static void begin(rm_get_op *self, int64_t now_us) {
  self->begun = true;
  self->pid = rm_client_pid(self->cache->client);
  self->generation = self->flights->generation;
  self->deadline_us = now_us + self->call.op.client->settings.timeout_us;
}

static int check_alive(rm_get_op *self) {
  if (rm_client_is_closed(self->cache->client)) return rm_fail_closed(&self->call.op.error);
  if (self->pid == rm_client_pid(self->cache->client)) return 0;
  return rm_fail(&self->call.op.error, REDMOON_ECLOSED, "the operation was begun by the parent process, before fork()");
}

/* The deadline is that of the rest: the time of the load does not count. */
static int step_load(rm_get_op *self, int64_t now_us) {
  if (has_state(self, ITEM_LOAD)) {
    self->call.op.wants = (rm_wants){-1, REDMOON_WANT_LOAD, RM_FOREVER};
    return RM_WAIT;
  }
  self->deadline_us += rm_max64(now_us - self->load_began_us, 0);
  return RM_DONE;
}

/* One stage, as far as it goes.  RM_WAIT, RM_DONE when the next one is to be planned, or negative. */
static int step_stage(rm_get_op *self, int64_t now_us) {
  redmoon_op *op = &self->call.op;
  switch (self->stage) {
  case GET_PLAN:
    return RM_DONE;
  case GET_LOAD:
    return step_load(self, now_us);
  case GET_PAUSE:
    return wait_for_others(self, now_us);
  default: {
    int status = rm_call_step(op, now_us);
    if (status == RM_WAIT) return RM_WAIT;
    status = rm_get_answered(self, status, now_us);
    return status < 0 ? status : RM_DONE;
  }
  }
}

static int get_step(redmoon_op *op, int64_t now_us) {
  rm_get_op *self = (rm_get_op *)op;
  self->now_us = now_us;
  if (!self->begun) begin(self, now_us);
  int status = check_alive(self);
  while (status >= 0) {
    status = step_stage(self, now_us);
    if (status != RM_DONE) return status;
    status = plan(self);
    if (status == RM_DONE && !self->many && self->items[0].out.status < 0) {
      op->error = self->items[0].error;
      return op->error.status;
    }
    if (status == RM_DONE) rm_error_clear(&op->error);
    if (status == RM_DONE) return RM_DONE;
  }
  return status;
}

/* Life. */

static int get_finish(redmoon_op *op, redmoon_error *err) {
  (void)err;
  rm_get_op *self = (rm_get_op *)op;
  for (size_t i = 0; i < self->count; i++) {
    self->results[i] = self->items[i].out;
    self->items[i].out.value = NULL;
    if (self->errors != NULL) rm_error_copy(&self->errors[i], &self->items[i].error);
  }
  return 0;
}

static void get_destroy(redmoon_op *op) {
  rm_get_op *self = (rm_get_op *)op;
  (void)rm_client_pid(self->cache->client); /* in a forked child the flights start afresh before they are asked */
  for (size_t i = 0; i < self->count; i++) {
    rm_item *item = &self->items[i];
    rm_get_end_fallback(self, item);
    rm_flights_leave(self->flights, &item->ticket, NULL);
    rm_waiter_leave(&item->waiter, self->cache->client->core, false);
    rm_key_free(&item->waits);
    if (!item->key_within) rm_key_free(&item->key);
    rm_key_free(&item->lease);
    rm_item_drop_tags(item);
    redmoon_cache_result_fini(&item->out);
  }
  rm_event_close(&self->event);
  redmoon_cache_free(self->cache);
  rm_call_delete(&self->call);
}

/* A lease that is left over ends by itself; nothing else is left. */
static redmoon_outcome get_outcome(const redmoon_op *op) {
  const rm_get_op *self = (const rm_get_op *)op;
  bool sending = self->stage == GET_LEASE || self->stage == GET_PUT;
  return sending ? rm_call_outcome(op) : REDMOON_NOT_SENT;
}

static const rm_op_class get_class = {get_step, get_finish, get_destroy, get_outcome};

rm_get_op *rm_get_of(const redmoon_op *op) {
  return op->class == &get_class ? (rm_get_op *)(uintptr_t)op : NULL;
}

/* The caller's key, for the loader: most stand as they are in that of the lease, in front of "}:" and the part. */
static bool find_key(const rm_get_op *self, rm_item *item, const redmoon_cache_key *key) {
  size_t behind = strlen(self->cache->part) + 2;
  if (item->lease.len < behind + key->len) return false;
  const char *at = (const char *)item->lease.ptr + item->lease.len - behind - key->len;
  item->key = (redmoon_bytes){at, key->len};
  return item->key_within = memcmp(at, key->ptr, key->len) == 0;
}

static int add_item(rm_get_op *self, const redmoon_cache_key *key, redmoon_error *err) {
  rm_item *item = &self->items[self->count];
  memset(item, 0, offsetof(rm_item, ticket) + offsetof(rm_ticket, text));
  item->lost_token[0] = '\0';
  rm_error_clear(&item->error);
  int status = rm_cache_check_key(key->ptr, key->len, err);
  if (status == 0 && key->reject != NULL && (key->reject_len < 1 || key->reject_len > RM_ENTRY_HEADER))
    status = rm_fail(err, REDMOON_ECONFIG,
                 "cache get: a version of %zu bytes is not accepted; give that of a result", key->reject_len);
  if (status == 0) status = rm_cache_keys(self->cache, key->ptr, key->len, &item->entry, &item->lease, err);
  if (status < 0) return status;
  self->count++;
  if (!find_key(self, item, key)) item->key = (redmoon_bytes){rm_strndup(key->ptr, key->len), key->len};
  if (item->key.ptr == NULL) return rm_fail_nomem(err);
  item->why = "load";
  item->out = (redmoon_cache_result){.source = "redis", .state = "miss"};
  if (key->reject == NULL) return 0;
  memcpy(item->rejected, key->reject, key->reject_len);
  item->rejected_len = key->reject_len;
  rm_cache_add(self->cache, RM_COUNT_UNDECODABLE);
  return 0;
}

static int get_new(redmoon_cache *cache, const redmoon_cache_key *keys, size_t count, redmoon_cache_result *results,
                   rm_get_op **out, redmoon_error *err) {
  rm_error_clear(err);
  rm_get_op *self = rm_call_new_zeroed(cache->client, sizeof *self + count * sizeof self->items[0], sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &get_class;
  self->call.op.wants.fd = -1;
  self->cache = rm_cache_ref(cache);
  self->flights = &cache->client->core->flights;
  self->event = (rm_event)RM_EVENT_INIT;
  self->results = results;
  int status = 0;
  for (size_t i = 0; i < count && status == 0; i++) status = add_item(self, &keys[i], err);
  if (status < 0) {
    get_destroy(&self->call.op);
    return status;
  }
  for (size_t i = 0; i < count; i++) results[i] = (redmoon_cache_result){0};
  *out = self;
  return 0;
}

int redmoon_cache_get_start(redmoon_cache *cache, const redmoon_cache_key *key, redmoon_cache_result *out,
                            redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *out = (redmoon_cache_result){0};
  rm_get_op *self = NULL;
  int status = get_new(cache, key, 1, out, &self, err);
  if (status == 0) *op = &self->call.op;
  return status;
}

int redmoon_cache_peek_start(redmoon_cache *cache, const void *key, size_t key_len, redmoon_cache_result *out,
                             redmoon_op **op, redmoon_error *err) {
  const redmoon_cache_key one = {key, key_len, NULL, 0};
  int status = redmoon_cache_get_start(cache, &one, out, op, err);
  if (status == 0) ((rm_get_op *)*op)->peek = true;
  return status;
}

int redmoon_cache_get_many_start(redmoon_cache *cache, const redmoon_cache_key *keys, size_t count,
                                 redmoon_cache_result *results, redmoon_error *errors, redmoon_op **op,
                                 redmoon_error *err) {
  *op = NULL;
  if (count < 1 || count > REDMOON_CACHE_MANY_MAX)
    return rm_fail(err, REDMOON_ECONFIG,
                 "cache get_many: %zu keys are not accepted; give 1 to %d", count, REDMOON_CACHE_MANY_MAX);
  rm_get_op *self = NULL;
  int status = get_new(cache, keys, count, results, &self, err);
  if (status < 0) return status;
  self->many = true;
  self->errors = errors;
  *op = &self->call.op;
  return 0;
}
