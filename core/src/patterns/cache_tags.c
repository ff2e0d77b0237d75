/* SPDX-License-Identifier: MIT */
/* Tags.  An entry has the versions that its tags had when its value was loaded; who reads it asks for those of now.
 *
 *      load begins: epoch 7          stores: version of tag = the epoch in which it was made: 5      read: still 5 -> it holds
 *      invalidation: epoch 8, the tag's version is deleted                                           read: none, 8 -> it does not
 *
 * A load that began in epoch 7 and is to be stored with a tag that ended in epoch 8 is not stored: the last tags that ended
 * are remembered beside the epoch (scripts/include/cache_tags.lua).  What is lost of this makes entries invalid, never valid. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/script.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { ID_HEX = 2 * RM_TAG_ID };

/* Keys. */

int rm_cache_tags_init(redmoon_cache *cache, const char *name, redmoon_error *err) {
  char part[RM_CACHE_NAME_MAX + sizeof ".cache+epoch"];
  const char *prefix = rm_client_key_prefix(cache->client);
  snprintf(part, sizeof part, "%s.cache+epoch", name);
  int status = rm_key_build(prefix, name, strlen(name), part, &cache->epoch, err);
  snprintf(part, sizeof part, "%s.cache+tag.", name);
  if (status == 0) status = rm_key_build(prefix, name, strlen(name), part, &cache->stem, err);
  return status;
}

void rm_cache_tags_fini(redmoon_cache *cache) {
  rm_key_free(&cache->epoch);
  rm_key_free(&cache->stem);
}

static size_t key_len(const redmoon_cache *cache) { return cache->stem.len + ID_HEX; }

/* Writes the key of a tag and a NUL. */
static void write_key(const redmoon_cache *cache, const unsigned char *tag, char *out) {
  memcpy(out, cache->stem.ptr, cache->stem.len);
  sodium_bin2hex(out + cache->stem.len, ID_HEX + 1, tag, RM_TAG_ID);
}

/* Tags. */

static int check_tags(const redmoon_cache *cache, const redmoon_bytes *tags, size_t count, redmoon_error *err) {
  if (!cache->options.tags)
    return rm_fail(err, REDMOON_ECONFIG, "cache: it has no tags; make it with the option tags");
  if (count > REDMOON_CACHE_TAGS_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "cache: %zu tags are not accepted; give up to %d", count, REDMOON_CACHE_TAGS_MAX);
  for (size_t i = 0; i < count; i++)
    if (tags[i].ptr == NULL || tags[i].len < 1 || tags[i].len > REDMOON_CACHE_TAG_MAX)
      return rm_fail(err, REDMOON_ECONFIG, "cache: a tag of %zu bytes is not accepted; it takes 1 to %d",
                     tags[i].ptr == NULL ? 0 : tags[i].len, REDMOON_CACHE_TAG_MAX);
  return 0;
}

int rm_cache_tags_new(const redmoon_cache *cache, const redmoon_bytes *tags, size_t count, unsigned char **out,
                      redmoon_error *err) {
  *out = NULL;
  int status = count > 0 ? check_tags(cache, tags, count, err) : 0;
  if (status < 0 || count == 0) return status;
  *out = rm_calloc(count, RM_TAG_SIZE);
  if (*out == NULL) return rm_fail_nomem(err);
  for (size_t i = 0; i < count; i++)
    crypto_generichash(*out + i * RM_TAG_SIZE, RM_TAG_ID, tags[i].ptr, tags[i].len, NULL, 0);
  return 0;
}

/* Asking. */

int rm_cache_tags_ask(const redmoon_cache *cache, rm_call *call, const unsigned char *tags, size_t count) {
  char *key = rm_alloc(key_len(cache) + 1);
  if (key == NULL) return rm_fail_nomem(&call->op.error);
  rm_request_begin(&call->request, count + 1);
  rm_request_text(&call->request, cache->mget->name);
  for (size_t i = 0; i < count; i++) {
    write_key(cache, tags + i * RM_TAG_SIZE, key);
    rm_request_arg(&call->request, key, key_len(cache));
  }
  rm_free(key);
  return rm_call_end(call, cache->mget, 0, &call->op.error);
}

/* The number that a text of 1 to 16 digits is; -1 for anything else. */
static int64_t version_of(const redmoon_reply *reply) {
  if (reply == NULL || reply->type != REDMOON_STRING || reply->len < 1 || reply->len > 16) return -1;
  int64_t number = 0;
  for (size_t i = 0; i < reply->len; i++) {
    char c = reply->as.text[i];
    if (c < '0' || c > '9') return -1;
    number = number * 10 + (c - '0');
  }
  return number;
}

bool rm_cache_tags_hold(const redmoon_reply *answer, const unsigned char *tags, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (version_of(redmoon_reply_at(answer, i)) != rm_tag_version(tags + i * RM_TAG_SIZE)) return false;
  return true;
}

/* Scripts. */

bool rm_cache_tag_args(const redmoon_cache *cache, const unsigned char *tags, size_t count, int64_t began, int64_t ttl_ms,
                       rm_tag_args *out) {
  size_t each = key_len(cache) + 1;
  out->text = rm_alloc(count * each);
  if (out->text == NULL) return false;
  out->keys[0] = cache->epoch;
  for (size_t i = 0; i < count; i++) {
    write_key(cache, tags + i * RM_TAG_SIZE, out->text + i * each);
    out->keys[i + 1] = (redmoon_bytes){out->text + i * each, each - 1};
    memcpy(out->ids + i * RM_TAG_ID, tags + i * RM_TAG_SIZE, RM_TAG_ID);
  }
  int began_len = snprintf(out->began, sizeof out->began, "%" PRId64, began);
  int ttl_len = snprintf(out->ttl, sizeof out->ttl, "%" PRId64, ttl_ms);
  out->args[0] = (redmoon_bytes){out->began, (size_t)began_len};
  out->args[1] = (redmoon_bytes){out->ttl, (size_t)ttl_len};
  out->args[2] = (redmoon_bytes){out->ids, count * RM_TAG_ID};
  out->all = (redmoon_script_args){out->keys, count + 1, out->args, 3};
  return true;
}

int rm_cache_tags_take(const redmoon_reply *answer, unsigned char *tags, size_t count) {
  const redmoon_reply *code = redmoon_reply_at(answer, 0);
  if (code == NULL || code->type != REDMOON_INTEGER) return REDMOON_EPROTOCOL;
  if (code->as.integer != RM_STATUS_CACHE_STORED) return 0;
  for (size_t i = 0; i < count; i++) {
    int64_t version = version_of(redmoon_reply_at(answer, i + 1));
    if (version < 0) return REDMOON_EPROTOCOL;
    rm_tag_set_version(tags + i * RM_TAG_SIZE, version);
  }
  return 1;
}

/* Invalidating. */

/* The context is a reference to the cache. */
static void invalidated(void *ctx, redmoon_outcome outcome) {
  (void)outcome;
  redmoon_cache_free(ctx);
}

int redmoon_cache_invalidate_tags_start(redmoon_cache *cache, const redmoon_bytes *tags, size_t count, redmoon_op **op,
                                        redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  unsigned char *own = NULL;
  int status = count == 0 ? rm_fail(err, REDMOON_ECONFIG, "cache invalidate_tags: give 1 to %d tags", REDMOON_CACHE_TAGS_MAX) : 0;
  if (status == 0) status = rm_cache_tags_new(cache, tags, count, &own, err);
  if (status < 0) return status;
  rm_tag_args args;
  if (rm_cache_tag_args(cache, own, count, 0, 0, &args)) {
    const redmoon_script_args all = {args.keys, count + 1, &args.args[2], 1};
    /* Twice is as good as once. */
    status = rm_builtin_start(cache->client, &rm_script_cache_invalidate, &all, RM_CALL_REPEATABLE, NULL, invalidated,
                              rm_cache_ref(cache), op, err);
    rm_free(args.text);
  } else {
    status = rm_fail_nomem(err);
  }
  rm_free(own);
  return status;
}

int redmoon_cache_invalidate_tags(redmoon_cache *cache, const redmoon_bytes *tags, size_t count, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_cache_invalidate_tags_start(cache, tags, count, &op, err), &op, err);
}
