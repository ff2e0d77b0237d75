/* SPDX-License-Identifier: MIT */
/* Merging, after the response policies of the Redis documentation ("Command tips"). */
#include "engine/merge.h"

#include "engine/command_keys.h"

#include <redmoon/error.h>
#include <string.h>

static redmoon_reply *new_reply(rm_arena *arena, redmoon_type type) {
  redmoon_reply *reply = rm_arena_alloc(arena, sizeof *reply);
  if (reply != NULL) *reply = (redmoon_reply){.type = type};
  return reply;
}

/* What no node could have said: the parts are of different kinds. */
static int mismatch(rm_arena *arena, redmoon_reply **out) {
  static const char text[] = "PROTOCOL the nodes of the cluster gave answers of different kinds";
  *out = new_reply(arena, REDMOON_ERROR);
  if (*out == NULL) return REDMOON_ENOMEM;
  (*out)->len = sizeof text - 1;
  (*out)->as.text = rm_arena_strndup(arena, text, sizeof text - 1);
  return (*out)->as.text != NULL ? 0 : REDMOON_ENOMEM;
}

static bool all_of(const rm_part *parts, size_t count, redmoon_type type) {
  for (size_t i = 0; i < count; i++)
    if (parts[i].reply->type != type) return false;
  return true;
}

static int fold(const rm_part *parts, size_t count, bool least, rm_arena *arena, redmoon_reply **out) {
  if (!all_of(parts, count, REDMOON_INTEGER)) return mismatch(arena, out);
  if ((*out = new_reply(arena, REDMOON_INTEGER)) == NULL) return REDMOON_ENOMEM;
  int64_t value = parts[0].reply->as.integer;
  for (size_t i = 1; i < count; i++) {
    int64_t other = parts[i].reply->as.integer;
    if (least) value = other < value ? other : value;
    else value += other;
  }
  (*out)->as.integer = value;
  return 0;
}

static redmoon_reply *new_array(rm_arena *arena, size_t len) {
  redmoon_reply *array = new_reply(arena, REDMOON_ARRAY);
  if (array == NULL) return NULL;
  array->len = len;
  array->as.items = rm_arena_alloc(arena, (len != 0 ? len : 1) * sizeof *array->as.items);
  return array->as.items != NULL ? array : NULL;
}

static int both(const rm_part *parts, size_t count, rm_arena *arena, redmoon_reply **out) {
  size_t len = parts[0].reply->len;
  for (size_t i = 0; i < count; i++)
    if (parts[i].reply->type != REDMOON_ARRAY || parts[i].reply->len != len) return mismatch(arena, out);
  if ((*out = new_array(arena, len)) == NULL) return REDMOON_ENOMEM;
  for (size_t at = 0; at < len; at++) {
    int64_t value = 1;
    for (size_t i = 0; i < count; i++) value &= parts[i].reply->as.items[at].as.integer != 0;
    (*out)->as.items[at] = (redmoon_reply){.type = REDMOON_INTEGER};
    (*out)->as.items[at].as.integer = value;
  }
  return 0;
}

static int join(const rm_part *parts, size_t count, rm_arena *arena, redmoon_reply **out) {
  size_t len = 0, at = 0;
  if (!all_of(parts, count, REDMOON_ARRAY)) return mismatch(arena, out);
  for (size_t i = 0; i < count; i++) len += parts[i].reply->len;
  if ((*out = new_array(arena, len)) == NULL) return REDMOON_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    if (parts[i].reply->len == 0) continue;
    memcpy((*out)->as.items + at, parts[i].reply->as.items, parts[i].reply->len * sizeof *(*out)->as.items);
    at += parts[i].reply->len;
  }
  return 0;
}

static int places(const rm_part *parts, size_t count, size_t argc, rm_arena *arena, redmoon_reply **out) {
  size_t len = (argc - parts[0].first + parts[0].step - 1) / parts[0].step;
  if ((*out = new_array(arena, len)) == NULL) return REDMOON_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    const rm_part *part = &parts[i];
    if (part->reply->type != REDMOON_ARRAY || part->reply->len != part->key_count) return mismatch(arena, out);
    for (uint32_t k = 0; k < part->key_count; k++)
      (*out)->as.items[(part->keys[k] - part->first) / part->step] = part->reply->as.items[k];
  }
  return 0;
}

static redmoon_reply *any(const rm_part *parts, size_t count) {
  redmoon_reply *best = parts[0].reply;
  for (size_t i = 1; i < count; i++) {
    const redmoon_reply *reply = parts[i].reply;
    bool better = best->type == REDMOON_ERROR ? reply->type != REDMOON_ERROR
                                              : best->type == REDMOON_NIL && reply->type != REDMOON_NIL && reply->type != REDMOON_ERROR;
    if (better) best = parts[i].reply;
  }
  return best;
}

int rm_merge(const rm_part *parts, size_t count, size_t argc, rm_arena *arena, redmoon_reply **out) {
  if (count == 1 && parts[0].keys == NULL) {
    *out = parts[0].reply;
    return 0;
  }
  if (parts[0].merge == RM_MERGE_ANY) {
    *out = any(parts, count);
    return 0;
  }
  for (size_t i = 0; i < count; i++) {
    if (parts[i].reply->type != REDMOON_ERROR) continue;
    *out = parts[i].reply;
    return 0;
  }
  switch (parts[0].merge) {
  case RM_MERGE_SUM: return fold(parts, count, false, arena, out);
  case RM_MERGE_LEAST: return fold(parts, count, true, arena, out);
  case RM_MERGE_AND: return both(parts, count, arena, out);
  case RM_MERGE_JOIN: return join(parts, count, arena, out);
  case RM_MERGE_PLACES: return places(parts, count, argc, arena, out);
  default: *out = parts[0].reply; return 0;
  }
}
