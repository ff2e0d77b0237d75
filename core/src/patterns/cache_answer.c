/* SPDX-License-Identifier: MIT */
/* What the answers to a get mean for its items.  cache_ask.c has what was sent. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"
#include "patterns/status_generated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 8 };
#define READ INT64_C(-99) /* in the place of an answer of cache_lease: GET has read it */

void rm_item_void(rm_get_op *self, rm_item *item) {
  rm_cache_add(self->cache, RM_COUNT_LOST);
  snprintf(item->out.code, sizeof item->out.code, "%s", redmoon_status_code(REDMOON_ELOST));
  item->voided = true;
  item->state = ITEM_RELEASE;
}

/* What was read. */

static bool is_rejected(const rm_item *item, redmoon_bytes text) {
  size_t len = text.len < RM_ENTRY_HEADER ? text.len : RM_ENTRY_HEADER;
  return item->rejected_len > 0 && len == item->rejected_len && memcmp(item->rejected, text.ptr, len) == 0;
}

static void see(rm_item *item, redmoon_bytes text) {
  item->seen_len = text.len < RM_ENTRY_HEADER ? text.len : RM_ENTRY_HEADER;
  memcpy(item->seen, text.ptr, item->seen_len);
  memcpy(item->out.version, text.ptr, item->seen_len);
  item->out.version_len = item->seen_len;
}

/* Keeps a copy of the value.  Takes `opened`, which may be NULL. */
static int keep(rm_item *item, const rm_entry *entry, unsigned char *opened, int64_t left_ms) {
  redmoon_cache_result *out = &item->out;
  rm_free(out->value);
  out->value = NULL;
  item->has = false;
  if (!entry->negative) {
    out->value = opened != NULL ? (char *)opened : rm_strndup(entry->body, entry->len);
    if (out->value == NULL) return REDMOON_ENOMEM;
  } else {
    rm_free(opened);
  }
  out->found = !entry->negative;
  out->len = entry->negative ? 0 : entry->len;
  out->age_ms = rm_max64(entry->hard_ms - left_ms, 0); /* a clock set back makes more of what is left than there was */
  item->fresh = out->age_ms < entry->soft_ms;
  item->soft_ms = entry->soft_ms;
  item->read_delta_ms = entry->delta_ms;
  item->has = true;
  return 0;
}

/* Keeps a copy of the tags. */
static int keep_tags(rm_item *item, const rm_entry *entry) {
  rm_item_drop_tags(item);
  if (entry->tag_count == 0) return 0;
  item->tags = rm_alloc(entry->tag_count * RM_TAG_SIZE);
  if (item->tags == NULL) return REDMOON_ENOMEM;
  memcpy(item->tags, entry->tags, entry->tag_count * RM_TAG_SIZE);
  item->tag_count = entry->tag_count;
  return 0;
}

/* A compressed value in the place of *opened. */
static int unpack(rm_get_op *self, rm_entry *entry, unsigned char **opened) {
  unsigned char *value;
  int status = rm_unpack(&self->cache->packer, entry->body, entry->len, self->cache->options.max_size, &value, &entry->len);
  rm_free(*opened);
  *opened = value;
  entry->body = value;
  return status;
}

/* 1: it is an entry, and in `item`; 0: it is none, or cannot be decoded, and is counted; negative: ENOMEM. */
static int take_entry(rm_get_op *self, rm_item *item, redmoon_bytes text, int64_t left_ms) {
  unsigned char *opened = NULL;
  rm_entry entry;
  see(item, text);
  int status = REDMOON_ECODEC;
  bool rejected = is_rejected(item, text);
  if (!rejected && left_ms >= 0)
    status = rm_entry_read(text, item->entry, (unsigned char)self->cache->options.format, &self->cache->seal, &entry, &opened);
  if (status == 0) status = keep_tags(item, &entry); /* they may lie in `opened` */
  if (status == 0 && entry.packed) status = unpack(self, &entry, &opened);
  if (status == 0) return keep(item, &entry, opened, left_ms) == 0 ? 1 : rm_fail_nomem_answered(&self->call.op.error);
  rm_free(opened);
  if (status != REDMOON_ECODEC) return rm_fail_nomem_answered(&self->call.op.error);
  if (!rejected) rm_cache_add(self->cache, RM_COUNT_UNDECODABLE); /* that one was counted already */
  item->has = false;
  return 0;
}

static void ask_lease(rm_get_op *self, rm_item *item, const char *why) {
  item->why = why;
  item->state = ITEM_LEASE;
  if (!self->peek) return;
  if (strcmp(why, "reject") == 0) item->state = ITEM_DISCARD;
  else rm_item_done(self, item);
}

/* A draw costs a system call: none is made where even the rarest says no. */
static bool is_early(const rm_get_op *self, const rm_item *item) {
  int64_t beta_ppm = self->cache->options.early_refresh_ppm, left_ms = item->soft_ms - item->out.age_ms;
  if (self->peek || left_ms > rm_cache_earliest_ms(item->read_delta_ms, beta_ppm)) return false;
  return rm_cache_is_early(left_ms, item->read_delta_ms, beta_ppm, (uint32_t)rm_random_upto(UINT32_MAX));
}

/* What GET has read, and its tags hold. */
static void use_read(rm_get_op *self, rm_item *item) {
  if (self->peek || (item->fresh && !is_early(self, item))) rm_item_serve(self, item);
  else ask_lease(self, item, item->fresh ? "early" : "load");
}

/* There is an entry: its tags are looked at first, if it has some.  True: so it is. */
static bool look_at_tags(rm_item *item, int64_t code, int64_t lease_ms) {
  if (item->tag_count == 0) return false;
  item->state = ITEM_CHECK;
  item->code = code;
  item->lease_ms = lease_ms;
  return true;
}

/* The answer of cache_lease, once its entry was looked at: `there` as of take_entry. */
static void take_state(rm_get_op *self, rm_item *item, int64_t code, int there, int64_t lease_ms, int64_t now_us) {
  if (code == RM_STATUS_CACHE_REFRESH || code == RM_STATUS_CACHE_LOAD) {
    item->state = ITEM_LOAD;
    item->lost_token[0] = '\0';
    rm_item_drop_tags(item);
    if (there != 1) item->missed = true;
  } else if (there == 1) {
    rm_item_serve(self, item);
  } else if (code == RM_STATUS_CACHE_WAIT) {
    item->missed = true;
    rm_get_wait(self, item, lease_ms * 1000, now_us);
  } else if (item->tries < TRIES) {
    ask_lease(self, item, "reject"); /* another one that cannot be decoded */
  } else {
    rm_fail(&item->error, REDMOON_ECODEC, "cache: what is stored cannot be decoded, time after time");
    rm_get_degrade(self, item, &item->error);
  }
}

/* What was read is not to be served. */
static void forget(rm_item *item) {
  redmoon_cache_result *out = &item->out;
  rm_free(out->value);
  out->value = NULL;
  out->len = 0;
  out->found = 0;
  out->age_ms = 0;
  item->has = false;
}

/* The versions of its tags are answer `index`.  One that has ended makes it as good as not there. */
static void take_check(rm_get_op *self, rm_item *item, size_t index, int64_t now_us) {
  const redmoon_reply *answer = self->call.results[index].reply;
  redmoon_error why;
  if (answer->type == REDMOON_ERROR) {
    (void)rm_call_take_reply(&self->call, index, NULL, &why);
    forget(item); /* nobody knows whether it may be served */
    rm_get_degrade(self, item, &why);
    return;
  }
  bool holds = rm_cache_tags_hold(answer, item->tags, item->tag_count);
  if (!holds) rm_cache_add(self->cache, RM_COUNT_INVALIDATED);
  if (!holds) forget(item);
  if (item->code != READ) {
    take_state(self, item, item->code, holds, item->lease_ms, now_us);
  } else if (holds) {
    use_read(self, item);
  } else {
    item->missed = true;
    ask_lease(self, item, "reject");
  }
}

/* Whether the versions of its tags, and of no others, were asked for along with the entry. */
static bool has_guessed(const rm_item *item) {
  if (item->guessed != item->tag_count) return false;
  for (size_t i = 0; i < item->guessed; i++)
    if (memcmp(item->guess + i * RM_TAG_SIZE, item->tags + i * RM_TAG_SIZE, RM_TAG_ID) != 0) return false;
  return true;
}

/* What was read is an entry: it is used, if its tags hold. */
static void take_found(rm_get_op *self, rm_item *item, int64_t now_us) {
  bool guessed = has_guessed(item);
  if (!guessed) rm_cache_note_tags(self->cache, item->entry, item->tags, item->tag_count);
  if (!look_at_tags(item, READ, 0)) use_read(self, item);
  else if (guessed) take_check(self, item, item->mark + 1 + item->timed, now_us);
}

/* What GET has read, with so much left of its TTL. */
static int take_text(rm_get_op *self, rm_item *item, redmoon_bytes text, int64_t left_ms, int64_t now_us) {
  int status = take_entry(self, item, text, left_ms);
  if (status < 0) return status;
  if (status == 0) {
    item->missed = true;
    ask_lease(self, item, "reject");
    return 0;
  }
  if (item->timed && item->fresh) rm_item_note_known(self, item, left_ms);
  take_found(self, item, now_us);
  return 0;
}

/* The answers to GET and PTTL.  An entry that ends between the two is none. */
static int take_read(rm_get_op *self, rm_item *item, int64_t now_us) {
  const redmoon_reply *got = self->call.results[item->mark].reply;
  item->seen_len = 0;
  item->has = false;
  if (got->type == REDMOON_STRING) {
    const redmoon_bytes text = {got->as.text, got->len};
    int64_t left_ms = rm_item_left_ms(self, item, text);
    if (left_ms < 0 && !item->timed) { /* another is there, or it took too long: still in ITEM_ASK */
      item->exact = true;
      return 0;
    }
    if (left_ms != -2) return take_text(self, item, text, left_ms, now_us);
  }
  /* A value of another type cannot be decoded either; the script deletes it. */
  bool foreign = rm_reply_is_error(got, "WRONGTYPE");
  if (foreign) rm_cache_add(self->cache, RM_COUNT_UNDECODABLE);
  item->missed = true;
  if (got->type != REDMOON_ERROR || foreign) {
    ask_lease(self, item, "load");
    return 0;
  }
  redmoon_error why;
  (void)rm_call_take_reply(&self->call, item->mark, NULL, &why);
  rm_get_degrade(self, item, &why);
  return 0;
}

/* The epoch that was asked for along with the leases; 0: it was not told. */
static int64_t take_epoch(const rm_get_op *self) {
  if (self->epoch_mark == 0) return 0;
  const redmoon_reply *epoch = redmoon_reply_at(self->call.results[self->epoch_mark].reply, 1);
  return epoch != NULL && epoch->type == REDMOON_STRING ? strtoll(epoch->as.text, NULL, 10) : 0;
}

static int take_lease(rm_get_op *self, rm_item *item, int64_t now_us) {
  const redmoon_reply *answer = self->call.results[item->mark].reply, *part[4];
  if (answer->type == REDMOON_ERROR) {
    redmoon_error why;
    (void)rm_call_take_reply(&self->call, item->mark, NULL, &why);
    rm_get_degrade(self, item, &why);
    return 0;
  }
  for (size_t i = 0; i < 4; i++) part[i] = redmoon_reply_at(answer, i);
  if (part[2] == NULL || part[0]->type != REDMOON_INTEGER || part[2]->type != REDMOON_INTEGER)
    return rm_fail(&self->call.op.error, REDMOON_EPROTOCOL, "cache: the script's answer is not what it should be");
  int there = 0;
  int64_t code = part[0]->as.integer, lease_ms = part[3] != NULL ? redmoon_reply_integer(part[3]) : 0;
  item->has = false;
  item->began = take_epoch(self);
  if (part[1]->type == REDMOON_STRING) {
    there = take_entry(self, item, (redmoon_bytes){part[1]->as.text, part[1]->len}, part[2]->as.integer);
    if (there < 0) return there;
  }
  if (there == 0 || !look_at_tags(item, code, lease_ms)) take_state(self, item, code, there, lease_ms, now_us);
  return 0;
}

/* The versions of the tags of what was loaded.  Without an answer nothing can be stored. */
static void take_tag(rm_get_op *self, rm_item *item, const redmoon_error *failure) {
  const redmoon_reply *answer = failure == NULL ? self->call.results[item->mark].reply : NULL;
  redmoon_error why;
  if (answer != NULL && answer->type == REDMOON_ERROR) {
    (void)rm_call_take_reply(&self->call, item->mark, NULL, &why);
    failure = &why;
  }
  int taken = failure == NULL ? rm_cache_tags_take(answer, item->tags, item->tag_count) : 0;
  if (taken > 0) {
    item->state = ITEM_PUT;
  } else if (failure == NULL && taken == 0) {
    rm_item_void(self, item);
  } else {
    rm_cache_add(self->cache, RM_COUNT_UNSTORED);
    snprintf(item->out.code, sizeof item->out.code, "%s",
             failure != NULL ? failure->code : redmoon_status_code(REDMOON_EPROTOCOL));
    rm_item_done(self, item);
  }
}

/* Without an answer: what was loaded is served all the same. */
static void take_end(rm_get_op *self, rm_item *item, const redmoon_error *failure) {
  redmoon_cache_result *out = &item->out;
  const redmoon_reply *answer = failure == NULL ? self->call.results[item->mark].reply : NULL;
  redmoon_error why;
  if (answer != NULL && answer->type == REDMOON_ERROR) {
    (void)rm_call_take_reply(&self->call, item->mark, NULL, &why);
    failure = &why;
  }
  if (item->state == ITEM_RELEASE && item->voided) {
    rm_item_done(self, item);
    return;
  }
  if (item->state == ITEM_RELEASE && item->has) { /* the load failed, and there is something stale */
    rm_item_serve(self, item);
    return;
  }
  if (item->state == ITEM_RELEASE) {
    rm_item_fail(self, item, true);
    return;
  }
  if (item->state == ITEM_PUT && failure != NULL) {
    if (out->stored) rm_cache_add(self->cache, RM_COUNT_UNSTORED);
    out->stored = 0;
    snprintf(out->code, sizeof out->code, "%s", failure->code);
  } else if (item->state == ITEM_PUT) {
    const redmoon_reply *code = redmoon_reply_at(answer, 0);
    bool lost = code == NULL || redmoon_reply_integer(code) != RM_STATUS_CACHE_STORED;
    /* After a request whose answer was lost, that one may have stored it: nobody knows. */
    bool unknown = lost && self->call.was_unknown;
    if (lost && !unknown) rm_cache_add(self->cache, RM_COUNT_LOST);
    if (lost) snprintf(out->code, sizeof out->code, "%s", redmoon_status_code(unknown ? REDMOON_EIO : REDMOON_ELOST));
    if (lost) out->stored = 0;
    if (!lost) rm_cache_note_tags(self->cache, item->entry, item->tags, item->tag_count);
  }
  rm_item_done(self, item);
}

/* The whole call has failed.  A request for a lease that may have been executed is followed by one that takes it over. */
static void take_failure(rm_get_op *self, rm_item *item, int64_t now_us) {
  const redmoon_error *why = &self->call.op.error;
  if (self->stage == GET_PUT) {
    take_end(self, item, why);
    return;
  }
  if (self->stage == GET_TAG) {
    take_tag(self, item, why);
    return;
  }
  if (self->stage == GET_CHECK) forget(item); /* nobody knows whether it may be served */
  bool lost = self->stage == GET_LEASE && why->outcome == REDMOON_UNKNOWN && item->tries < TRIES;
  if (lost && (why->status == REDMOON_EIO || why->status == REDMOON_ETIMEOUT) && now_us < self->deadline_us &&
      item->tries <= self->call.op.client->settings.max_retries) {
    memcpy(item->lost_token, item->token, sizeof item->lost_token);
    return; /* still in ITEM_LEASE */
  }
  rm_get_degrade(self, item, why);
}

int rm_get_answered(rm_get_op *self, int status, int64_t now_us) {
  if (status == REDMOON_ENOMEM || status == REDMOON_ECLOSED || status == REDMOON_ECONFIG) return status;
  for (size_t i = 0; i < self->count; i++) {
    rm_item *item = &self->items[i];
    int rc = 0;
    if (!rm_item_goes(item, self->stage)) continue;
    if (status < 0) take_failure(self, item, now_us);
    else if (self->stage == GET_READ) rc = take_read(self, item, now_us);
    else if (self->stage == GET_CHECK) take_check(self, item, item->mark, now_us);
    else if (self->stage == GET_LEASE) rc = take_lease(self, item, now_us);
    else if (self->stage == GET_TAG) take_tag(self, item, NULL);
    else take_end(self, item, NULL);
    if (rc < 0) return rc;
  }
  return 0;
}
