/* SPDX-License-Identifier: MIT */
/* What a get sends.  cache_answer.c has what is answered. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/script.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rm_item_goes(const rm_item *item, rm_get_stage stage) {
  if (stage == GET_READ) return item->state == ITEM_ASK;
  if (stage == GET_CHECK) return item->state == ITEM_CHECK;
  if (stage == GET_LEASE) return item->state == ITEM_LEASE;
  if (stage == GET_TAG) return item->state == ITEM_TAG;
  return item->state == ITEM_PUT || item->state == ITEM_RELEASE || item->state == ITEM_DISCARD;
}

static int add_read(rm_get_op *self, const rm_item *item, const rm_command *command) {
  rm_request *request = &self->call.request;
  rm_request_begin(request, 2);
  rm_request_text(request, command->name);
  rm_request_arg(request, item->entry.ptr, item->entry.len);
  return rm_call_end(&self->call, command, 0, &self->call.op.error);
}

/* The TTL says how old the entry is, and so whether it is fresh.  It is left out while that is known (cache_known.c). */
static int format_read(rm_get_op *self, rm_item *item) {
  item->mark = self->call.request.count;
  rm_item_recall(self, item);
  int status = add_read(self, item, self->cache->get);
  if (status == 0 && item->timed) status = add_read(self, item, self->cache->pttl);
  item->guessed = status == 0 ? rm_cache_guess(self->cache, item->entry, item->guess) : 0;
  /* Behind the entry: what is answered is as of after it was read. */
  return item->guessed == 0 ? status : rm_cache_tags_ask(self->cache, &self->call, item->guess, item->guessed);
}

static int format_check(rm_get_op *self, rm_item *item) {
  item->mark = self->call.request.count;
  return rm_cache_tags_ask(self->cache, &self->call, item->tags, item->tag_count);
}

/* One script among others is loaded in front of its first run (bit `known` of *loaded): NOSCRIPT has no second try there. */
static int format_script(rm_get_op *self, rm_item *item, const rm_builtin *script, const redmoon_script_args *args,
                         unsigned flags, unsigned known, unsigned *loaded) {
  rm_call *call = &self->call;
  redmoon_error *err = &call->op.error;
  int status = 0;
  if (self->count == 1 && !(self->stage == GET_LEASE && self->cache->options.tags)) {
    status = rm_builtin_format(call, script, args, flags, err);
  } else {
    if ((*loaded & known) == 0) status = rm_call_script_load(call, script->source, script->len, err);
    *loaded |= known;
    if (status == 0) status = rm_call_evalsha(call, script->sha1, args, flags, err);
  }
  if (status < 0) return status;
  item->mark = call->request.count - 1;
  /* Not even for a client whose calls are declared idempotent, if it is not. */
  if (flags == 0) call->request.marks[item->mark].flags &= ~(unsigned)RM_CALL_REPEATABLE;
  return 0;
}

/* A request that was lost may be executed late, even after a deletion: its token must not be one that stores.  So each
 * request has a token of its own, and none is repeated as it is. */
static int format_lease(rm_get_op *self, rm_item *item, unsigned *loaded) {
  char ms[24];
  int ms_len = snprintf(ms, sizeof ms, "%" PRId64, self->cache->options.lease_ms);
  rm_client_random_hex(self->cache->client, item->token, 16);
  item->tries++;
  const redmoon_bytes keys[] = {item->entry, item->lease, item->waits};
  const redmoon_bytes args[] = {{item->token, 32}, {ms, (size_t)ms_len}, {item->lost_token, strlen(item->lost_token)},
                                {item->seen, item->seen_len}, {item->why, strlen(item->why)}};
  const redmoon_script_args all = {keys, 3, args, 5};
  return format_script(self, item, &rm_script_cache_lease, &all, 0, 1, loaded);
}

/* The epoch of the tags, once for all leases that are asked for: the loads begin after it. */
static int format_epoch(rm_get_op *self) {
  rm_call *call = &self->call;
  redmoon_error *err = &call->op.error;
  self->epoch_mark = 0;
  if (!self->cache->options.tags) return 0;
  int status = rm_call_script_load(call, rm_script_cache_epoch.source, rm_script_cache_epoch.len, err);
  const redmoon_script_args all = {&self->cache->epoch, 1, NULL, 0};
  if (status == 0) status = rm_call_evalsha(call, rm_script_cache_epoch.sha1, &all, RM_CALL_REPEATABLE, err);
  if (status == 0) self->epoch_mark = call->request.count - 1;
  return status;
}

/* For how long what was loaded is fresh; 0: it is not to be stored. */
static int64_t loaded_ttl_ms(const rm_get_op *self, const rm_item *item) {
  const redmoon_cache_options *o = &self->cache->options;
  if (item->found != REDMOON_CACHE_VALUE) return o->negative_ttl_ms;
  return (int64_t)item->out.len > o->max_size ? 0 : o->ttl_ms;
}

void rm_item_store(rm_get_op *self, rm_item *item) {
  item->state = ITEM_PUT;
  if (item->tag_count == 0 || loaded_ttl_ms(self, item) == 0) return;
  item->state = ITEM_TAG;
  if (item->began == 0) rm_item_void(self, item); /* the server did not tell the epoch */
}

static int format_tag(rm_get_op *self, rm_item *item, unsigned *loaded) {
  rm_tag_args args;
  int64_t longest_ms = rm_cache_longest_ms(self->cache, loaded_ttl_ms(self, item));
  if (!rm_cache_tag_args(self->cache, item->tags, item->tag_count, item->began, longest_ms, &args))
    return rm_fail_nomem(&self->call.op.error);
  int status = format_script(self, item, &rm_script_cache_tag, &args.all, RM_CALL_REPEATABLE, 16, loaded);
  rm_free(args.text);
  return status;
}

static int format_put(rm_get_op *self, rm_item *item, unsigned *loaded) {
  redmoon_cache *cache = self->cache;
  bool value = item->found == REDMOON_CACHE_VALUE;
  unsigned char *text;
  size_t size;
  int64_t hard_ms;
  if (value && (int64_t)item->out.len > cache->options.max_size) rm_cache_add(cache, RM_COUNT_TOO_LARGE);
  const rm_content content = {item->out.value, value ? item->out.len : 0, !value, loaded_ttl_ms(self, item),
                              item->delta_ms, item->tags, item->tag_count};
  int status = rm_cache_entry_new(cache, item->entry, &content, &text, &size, &hard_ms);
  if (status < 0) return rm_fail_nomem(&self->call.op.error);
  item->out.stored = hard_ms > 0;
  char ttl[24];
  int ttl_len = snprintf(ttl, sizeof ttl, "%" PRId64, hard_ms);
  const redmoon_bytes keys[] = {item->entry, item->lease, item->waits};
  const redmoon_bytes args[] = {{item->token, 32}, {text, size}, {ttl, (size_t)ttl_len}};
  const redmoon_script_args all = {keys, 3, args, 3};
  /* Repeated as it is: once executed its lease is gone, so that a late repetition does nothing. */
  status = format_script(self, item, &rm_script_cache_put, &all, RM_CALL_REPEATABLE, 2, loaded);
  rm_free(text);
  return status;
}

static int format_end(rm_get_op *self, rm_item *item, unsigned *loaded) {
  if (item->state == ITEM_PUT) return format_put(self, item, loaded);
  bool discard = item->state == ITEM_DISCARD;
  char pause[24];
  int64_t pause_ms = item->voided ? 0 : self->cache->options.retry_after_ms;
  int pause_len = snprintf(pause, sizeof pause, "%" PRId64, pause_ms);
  const redmoon_bytes release[] = {{item->token, 32}, {pause, (size_t)pause_len}}, seen = {item->seen, item->seen_len};
  const redmoon_bytes keys[] = {discard ? item->entry : item->lease, item->waits};
  const redmoon_script_args all = {keys, discard ? 1 : 2, discard ? &seen : release, discard ? 1 : 2};
  return format_script(self, item, discard ? &rm_script_cache_discard : &rm_script_cache_release, &all,
                       RM_CALL_REPEATABLE, discard ? 4 : 8, loaded);
}

int rm_get_format(rm_get_op *self, rm_get_stage stage) {
  unsigned loaded = 0;
  int status = 0;
  for (size_t i = 0; i < self->count && status == 0; i++) {
    rm_item *item = &self->items[i];
    if (!rm_item_goes(item, stage)) continue;
    if (stage != GET_READ && item->waits.ptr == NULL)
      status = rm_cache_waits_key(item->lease, &item->waits, &self->call.op.error);
    if (status < 0) return status;
    if (stage == GET_READ) status = format_read(self, item);
    else if (stage == GET_CHECK) status = format_check(self, item);
    else if (stage == GET_LEASE) status = format_lease(self, item, &loaded);
    else if (stage == GET_TAG) status = format_tag(self, item, &loaded);
    else status = format_end(self, item, &loaded);
  }
  return status == 0 && stage == GET_LEASE ? format_epoch(self) : status;
}
