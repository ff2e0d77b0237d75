/* SPDX-License-Identifier: MIT */
/* The loader's part of a get, and the blocking twins, which call it. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

#include <string.h>

size_t redmoon_cache_op_loads(const redmoon_op *op, size_t *indices, size_t max) {
  const rm_get_op *self = rm_get_of(op);
  size_t count = 0;
  if (self == NULL || self->stage != GET_LOAD) return 0;
  for (size_t i = 0; i < self->count; i++) {
    if (self->items[i].state != ITEM_LOAD) continue;
    if (count < max) indices[count] = i;
    count++;
  }
  return count;
}

_Static_assert(sizeof((redmoon_cache_result *)0)->code == sizeof((redmoon_error *)0)->code, "one is copied to the other");

/* The load of an item has failed, with its error. */
static void give_up(rm_get_op *self, rm_item *item) {
  rm_cache_add(self->cache, RM_COUNT_FAILURE);
  memcpy(item->out.code, item->error.code, sizeof item->out.code);
  if (item->fallback) rm_item_fail(self, item, false);
  else item->state = ITEM_RELEASE;
}

/* `text`, of the loader's, may be NULL. */
static void has_failed(rm_get_op *self, rm_item *item, const char *text, size_t len) {
  if (text == NULL || len == 0) rm_fail(&item->error, REDMOON_EUNAVAILABLE, "cache: the load has failed");
  else rm_fail(&item->error, REDMOON_EUNAVAILABLE, "cache: the load has failed: %.*s", len > 300 ? 300 : (int)len, text);
  give_up(self, item);
}

static void has_found(rm_get_op *self, rm_item *item, void *value, size_t len) {
  redmoon_cache_result *out = &item->out;
  bool fallback = item->fallback;
  rm_free(out->value);
  out->value = value;
  out->len = len;
  out->found = value != NULL;
  out->age_ms = 0;
  out->version_len = 0;
  out->source = fallback ? "fallback" : "loader";
  out->state = "miss";
  rm_cache_add(self->cache, fallback ? RM_COUNT_FALLBACK : RM_COUNT_LOAD);
  if (!fallback && item->has && item->fresh) rm_cache_add(self->cache, RM_COUNT_EARLY);
  item->has = false;
  if (fallback) rm_item_done(self, item);
  else rm_item_store(self, item);
}

/* The item, if it is to be loaded; else NULL. */
static rm_item *item_of(rm_get_op *self, size_t index, redmoon_error *err) {
  rm_error_clear(err);
  if (self != NULL && index < self->count && self->stage == GET_LOAD && self->items[index].state == ITEM_LOAD)
    return &self->items[index];
  rm_fail(err, REDMOON_ECONFIG, "cache: key %zu is not to be loaded", index);
  return NULL;
}

static int fail_for_memory(rm_get_op *self, rm_item *item, redmoon_error *err) {
  rm_fail_nomem(&item->error);
  give_up(self, item);
  return rm_fail_nomem(err);
}

int redmoon_cache_op_tags(redmoon_op *op, size_t index, const redmoon_bytes *tags, size_t count, redmoon_error *err) {
  rm_get_op *self = rm_get_of(op);
  rm_item *item = item_of(self, index, err);
  if (item == NULL) return REDMOON_ECONFIG;
  unsigned char *own;
  int status = rm_cache_tags_new(self->cache, tags, count, &own, err);
  if (status == REDMOON_ENOMEM) return fail_for_memory(self, item, err);
  if (status < 0) return status;
  rm_item_drop_tags(item);
  item->tags = own;
  item->tag_count = count;
  return 0;
}

int redmoon_cache_op_loaded(redmoon_op *op, size_t index, int found, const void *value, size_t len,
                            redmoon_error *err) {
  rm_get_op *self = rm_get_of(op);
  rm_item *item = item_of(self, index, err);
  if (item == NULL) return REDMOON_ECONFIG;
  if (found < REDMOON_CACHE_VALUE || found > REDMOON_CACHE_FAILED || (value == NULL && len > 0))
    return rm_fail(err, REDMOON_ECONFIG,
                 "cache: what was found is REDMOON_CACHE_VALUE, _ABSENT or _FAILED, and %zu bytes are there", len);
  char *copy = NULL;
  item->found = found;
  if (found == REDMOON_CACHE_VALUE && (copy = rm_strndup(value == NULL ? "" : value, len)) == NULL)
    return fail_for_memory(self, item, err);
  item->delta_ms = (rm_clock_now_us() - self->load_began_us + 999) / 1000;
  if (found == REDMOON_CACHE_FAILED) has_failed(self, item, value, len);
  else has_found(self, item, copy, len);
  return 0;
}

/* Blocking. */

typedef struct loader {
  redmoon_cache_load_fn load;
  void *ctx;
  size_t *indices;
  redmoon_bytes *keys;
  redmoon_cache_loaded *loaded;
} loader;

static void tell(rm_get_op *self, size_t index, const redmoon_cache_loaded *loaded, bool failed) {
  int found = failed ? REDMOON_CACHE_FAILED : loaded->found;
  const void *value = found == REDMOON_CACHE_ABSENT ? NULL : loaded->value;
  size_t len = value == NULL ? 0 : loaded->len;
  redmoon_error err;
  bool tagged = found != REDMOON_CACHE_FAILED && loaded->tag_count > 0;
  int status = tagged ? redmoon_cache_op_tags(&self->call.op, index, loaded->tags, loaded->tag_count, &err) : 0;
  if (status == 0) status = redmoon_cache_op_loaded(&self->call.op, index, found, value, len, &err);
  if (status < 0 && self->items[index].state == ITEM_LOAD)
    (void)!redmoon_cache_op_loaded(&self->call.op, index, REDMOON_CACHE_FAILED, err.message, strlen(err.message), NULL);
}

static void call_loader(rm_get_op *self, const loader *l) {
  size_t count = redmoon_cache_op_loads(&self->call.op, l->indices, self->count);
  for (size_t i = 0; i < count; i++) {
    l->keys[i] = self->items[l->indices[i]].key;
    l->loaded[i] = (redmoon_cache_loaded){.found = REDMOON_CACHE_FAILED};
  }
  bool failed = l->load(l->ctx, l->keys, count, l->loaded) < 0;
  for (size_t i = 0; i < count; i++) {
    tell(self, l->indices[i], &l->loaded[i], failed);
    if (l->loaded[i].release != NULL) l->loaded[i].release((void *)(uintptr_t)l->loaded[i].value);
  }
}

/* As rm_run; *op is what `started` has set. */
static int run(int started, redmoon_op **op, const loader *l, redmoon_error *err) {
  if (started < 0) return started;
  while (rm_drive(*op) == RM_WAIT) call_loader(rm_get_of(*op), l);
  return redmoon_op_finish(*op, err);
}

static int check_loader(redmoon_cache_load_fn load, redmoon_error *err) {
  return load != NULL ? 0 : rm_fail(err, REDMOON_ECONFIG,
                 "cache get: a loader is needed; NULL was given (redmoon_cache_peek loads nothing)");
}

int redmoon_cache_get(redmoon_cache *cache, const redmoon_cache_key *key, redmoon_cache_load_fn load, void *ctx,
                      redmoon_cache_result *out, redmoon_error *err) {
  *out = (redmoon_cache_result){0};
  int status = check_loader(load, err);
  if (status < 0) return status;
  size_t index;
  redmoon_bytes loads;
  redmoon_cache_loaded loaded;
  redmoon_op *op = NULL;
  return run(redmoon_cache_get_start(cache, key, out, &op, err), &op, &(loader){load, ctx, &index, &loads, &loaded}, err);
}

int redmoon_cache_get_many(redmoon_cache *cache, const redmoon_cache_key *keys, size_t count,
                           redmoon_cache_load_fn load, void *ctx, redmoon_cache_result *results,
                           redmoon_error *errors, redmoon_error *err) {
  int status = check_loader(load, err);
  if (status < 0) return status;
  redmoon_op *op = NULL;
  status = redmoon_cache_get_many_start(cache, keys, count, results, errors, &op, err);
  if (status < 0) return status;
  loader l = {load, ctx, rm_calloc(count, sizeof *l.indices), rm_calloc(count, sizeof *l.keys),
              rm_calloc(count, sizeof *l.loaded)};
  if (l.indices != NULL && l.keys != NULL && l.loaded != NULL) {
    status = run(0, &op, &l, err);
  } else {
    redmoon_op_cancel(op);
    status = rm_fail_nomem(err);
  }
  rm_free(l.indices);
  rm_free(l.keys);
  rm_free(l.loaded);
  return status;
}

int redmoon_cache_peek(redmoon_cache *cache, const void *key, size_t key_len, redmoon_cache_result *out,
                       redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_cache_peek_start(cache, key, key_len, out, &op, err), &op, err);
}
