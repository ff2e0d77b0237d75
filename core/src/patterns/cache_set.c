/* SPDX-License-Identifier: MIT */
/* Setting a value.  One without tags is a script's run; for one with tags their versions are asked for first. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct set_op {
  rm_call call; /* first: its op is this one's */
  redmoon_cache *cache; /* a reference */
  redmoon_bytes entry, lease, waits; /* the pointers of the last two are owned */
  rm_content content;
  char *value;         /* of the content; owned */
  unsigned char *tags; /* likewise */
  bool put;            /* the versions are known: it is being stored */
  bool begun;
  int64_t deadline_us;
} set_op;

static int format_tags(set_op *self) {
  rm_tag_args args;
  int64_t longest_ms = rm_cache_longest_ms(self->cache, self->content.ttl_ms);
  if (!rm_cache_tag_args(self->cache, self->tags, self->content.tag_count, 0, longest_ms, &args))
    return rm_fail_nomem(&self->call.op.error);
  int status = rm_builtin_format(&self->call, &rm_script_cache_tag, &args.all, RM_CALL_REPEATABLE, &self->call.op.error);
  rm_free(args.text);
  return status;
}

static int format_put(set_op *self) {
  unsigned char *text;
  size_t size;
  int64_t hard_ms;
  char ttl[24];
  redmoon_error *err = &self->call.op.error;
  if (rm_cache_entry_new(self->cache, self->entry, &self->content, &text, &size, &hard_ms) < 0) return rm_fail_nomem(err);
  int ttl_len = snprintf(ttl, sizeof ttl, "%" PRId64, hard_ms);
  const redmoon_bytes keys[] = {self->entry, self->lease, self->waits}, args[] = {{"", 0}, {text, size}, {ttl, (size_t)ttl_len}};
  const redmoon_script_args all = {keys, 3, args, 3};
  /* Not repeated when its answer is lost: a late repetition could undo a later deletion. */
  int status = rm_builtin_format(&self->call, &rm_script_cache_put, &all, 0, err);
  rm_free(text);
  self->put = true;
  return status;
}

/* The versions have come, or an error, with which it ends. */
static int take_versions(set_op *self) {
  const redmoon_reply *answer = self->call.results[0].reply;
  if (answer->type == REDMOON_ERROR) return RM_DONE;
  int taken = rm_cache_tags_take(answer, self->tags, self->content.tag_count);
  if (taken <= 0)
    return rm_fail(&self->call.op.error, REDMOON_EPROTOCOL, "cache: the script's answer is not what it should be");
  rm_call_reset(&self->call);
  self->call.fixed_deadline_us = self->deadline_us;
  int status = format_put(self);
  return status < 0 ? status : RM_WAIT;
}

static int set_step(redmoon_op *op, int64_t now_us) {
  set_op *self = (set_op *)op;
  if (!self->begun) self->call.fixed_deadline_us = self->deadline_us = now_us + op->client->settings.timeout_us;
  self->begun = true;
  int status = rm_call_step(op, now_us);
  if (status != RM_DONE || self->put) return status;
  status = take_versions(self);
  return status != RM_WAIT ? status : rm_call_step(op, now_us);
}

static int set_finish(redmoon_op *op, redmoon_error *err) {
  set_op *self = (set_op *)op;
  return self->call.results[0].reply->type == REDMOON_ERROR ? rm_call_take_reply(&self->call, 0, NULL, err) : 0;
}

static void set_destroy(redmoon_op *op) {
  set_op *self = (set_op *)op;
  rm_key_free(&self->lease);
  rm_key_free(&self->waits);
  rm_free(self->value);
  rm_free(self->tags);
  redmoon_cache_free(self->cache);
  rm_call_delete(&self->call);
}

/* Versions that nothing was stored with are nothing. */
static redmoon_outcome set_outcome(const redmoon_op *op) {
  return ((const set_op *)op)->put ? rm_call_outcome(op) : REDMOON_NOT_SENT;
}

static const rm_op_class set_class = {set_step, set_finish, set_destroy, set_outcome};

static int check(redmoon_cache *cache, const void *key, size_t key_len, const void *value, size_t len, int64_t *ttl_ms,
                 redmoon_error *err) {
  int status = rm_cache_check_key(key, key_len, err);
  if (status == 0) status = rm_cache_check_ttl(cache, value == NULL, ttl_ms, err);
  if (status < 0 || value == NULL || (int64_t)len <= cache->options.max_size) return status;
  rm_cache_add(cache, RM_COUNT_TOO_LARGE);
  return rm_fail(err, REDMOON_ETOO_LARGE, "a value of %zu bytes is above the cache's max_size, %" PRId64 " bytes", len,
                 cache->options.max_size);
}

/* What is stored with tags is copied: its entry is made when their versions are known. */
static int fill(set_op *self, const void *value, const redmoon_bytes *tags, redmoon_error *err) {
  rm_content *content = &self->content;
  int status = rm_cache_tags_new(self->cache, tags, content->tag_count, &self->tags, err);
  if (status < 0) return status;
  content->value = value;
  content->tags = self->tags;
  if (content->tag_count == 0 || content->ttl_ms == 0) { /* or nothing is to be stored */
    status = format_put(self);
  } else if (!content->negative && (self->value = rm_strndup(value, content->len)) == NULL) {
    return rm_fail_nomem(err);
  } else {
    content->value = self->value;
    status = format_tags(self);
  }
  if (status < 0) *err = self->call.op.error;
  return status;
}

int redmoon_cache_set_tagged_start(redmoon_cache *cache, const void *key, size_t key_len, const void *value, size_t len,
                                   int64_t ttl_ms, const redmoon_bytes *tags, size_t count, redmoon_op **op,
                                   redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  redmoon_error own;
  if (err == NULL) err = &own;
  int status = check(cache, key, key_len, value, len, &ttl_ms, err);
  if (status < 0) return status;
  set_op *self = rm_call_new(cache->client, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->call.op.class = &set_class;
  self->cache = rm_cache_ref(cache);
  self->content = (rm_content){.len = value == NULL ? 0 : len, .negative = value == NULL, .ttl_ms = ttl_ms, .tag_count = count};
  status = rm_cache_keys(cache, key, key_len, &self->entry, &self->lease, err);
  if (status == 0) status = rm_cache_waits_key(self->lease, &self->waits, err);
  if (status == 0) status = fill(self, value, tags, err);
  if (status < 0) set_destroy(&self->call.op);
  else *op = &self->call.op;
  return status;
}

int redmoon_cache_set_start(redmoon_cache *cache, const void *key, size_t key_len, const void *value, size_t len,
                            int64_t ttl_ms, redmoon_op **op, redmoon_error *err) {
  return redmoon_cache_set_tagged_start(cache, key, key_len, value, len, ttl_ms, NULL, 0, op, err);
}

int redmoon_cache_set_tagged(redmoon_cache *cache, const void *key, size_t key_len, const void *value, size_t len,
                             int64_t ttl_ms, const redmoon_bytes *tags, size_t count, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_cache_set_tagged_start(cache, key, key_len, value, len, ttl_ms, tags, count, &op, err), &op, err);
}

int redmoon_cache_set(redmoon_cache *cache, const void *key, size_t key_len, const void *value, size_t len,
                      int64_t ttl_ms, redmoon_error *err) {
  return redmoon_cache_set_tagged(cache, key, key_len, value, len, ttl_ms, NULL, 0, err);
}
