/* SPDX-License-Identifier: MIT */
/* Rewrites a reply by a shape.  Nodes are changed in place; only what gets a level more or less needs memory. */
#include "wire/shape_kind.h"

#include "wire/line.h"

#include <stdint.h>
#include <string.h>

/* Shapes nest no deeper than replies, whose depth the scanner bounds; so recursion is bounded too. */
static int rewrite(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  return shape != NULL ? rm_shape_rewrite(shape, reply, arena) : 0;
}

static void to_double(redmoon_reply *reply) {
  double value;
  if (reply->type != REDMOON_STRING || !rm_line_double(reply->as.text, reply->len, &value)) return;
  *reply = (redmoon_reply){REDMOON_DOUBLE, 0, {.number = value}};
}

static int rewrite_items(const rm_shape *inner, redmoon_reply *reply, size_t from, size_t step, rm_arena *arena) {
  if (inner == NULL) return 0;
  for (size_t i = from; i < reply->len; i += step) {
    int rc = rm_shape_rewrite(inner, &reply->as.items[i], arena);
    if (rc != 0) return rc;
  }
  return 0;
}

static const rm_shape *field_shape(const rm_shape *shape, const redmoon_reply *key) {
  if (key->type != REDMOON_STRING && key->type != REDMOON_STATUS) return shape->inner;
  for (size_t i = 0; i < shape->field_count; i++)
    if (strlen(shape->fields[i].name) == key->len && memcmp(shape->fields[i].name, key->as.text, key->len) == 0)
      return shape->fields[i].shape;
  return shape->inner;
}

static int to_map(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  if (reply->len % 2 != 0) return 0;
  reply->type = REDMOON_MAP;
  if (shape->field_count == 0) return rewrite_items(shape->inner, reply, 1, 2, arena);
  for (size_t i = 0; i < reply->len; i += 2) {
    int rc = rewrite(field_shape(shape, &reply->as.items[i]), &reply->as.items[i + 1], arena);
    if (rc != 0) return rc;
  }
  return 0;
}

static int rewrite_tuple(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  for (size_t i = 0; i < shape->field_count; i++) {
    if (shape->fields[i].index >= reply->len) continue;
    int rc = rewrite(shape->fields[i].shape, &reply->as.items[shape->fields[i].index], arena);
    if (rc != 0) return rc;
  }
  return 0;
}

static redmoon_reply *new_items(rm_arena *arena, size_t count) {
  return count > SIZE_MAX / sizeof(redmoon_reply) ? NULL : rm_arena_alloc(arena, count * sizeof(redmoon_reply));
}

/* [[k, v], [k, v]] -> {k: v, k: v} */
static int to_entries(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  for (size_t i = 0; i < reply->len; i++)
    if (reply->as.items[i].type != REDMOON_ARRAY || reply->as.items[i].len != 2) return 0;
  if (reply->len > 0) {
    redmoon_reply *items = new_items(arena, reply->len * 2);
    if (items == NULL) return REDMOON_ENOMEM;
    for (size_t i = 0; i < reply->len; i++)
      memcpy(&items[i * 2], reply->as.items[i].as.items, 2 * sizeof(redmoon_reply));
    reply->as.items = items;
  }
  reply->len *= 2;
  reply->type = REDMOON_MAP;
  return rewrite_items(shape->inner, reply, 1, 2, arena);
}

/* [a, b, c, d] -> [[a, b], [c, d]]: the pairs' elements stay where they are */
static int to_pairs(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  if (reply->len % 2 != 0 || reply->len == 0) return 0;
  for (size_t i = 0; i < reply->len; i++)
    if (reply->as.items[i].type == REDMOON_ARRAY) return 0; /* they are pairs already */
  redmoon_reply *pairs = new_items(arena, reply->len / 2);
  if (pairs == NULL) return REDMOON_ENOMEM;
  int rc = rewrite_items(shape->inner, reply, 1, 2, arena);
  if (rc != 0) return rc;
  for (size_t i = 0; i < reply->len / 2; i++)
    pairs[i] = (redmoon_reply){REDMOON_ARRAY, 2, {.items = &reply->as.items[i * 2]}};
  reply->as.items = pairs;
  reply->len /= 2;
  return 0;
}

static int rewrite_array(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  switch (shape->kind) {
  case RM_SHAPE_SET:
    reply->type = REDMOON_SET;
    return rewrite_items(shape->inner, reply, 0, 1, arena);
  case RM_SHAPE_LIST_OR_SET:
    if (reply->len == 0) reply->type = REDMOON_SET;
    return rewrite_items(shape->inner, reply, shape->from, 1, arena);
  case RM_SHAPE_LIST:
    return rewrite_items(shape->inner, reply, shape->from, 1, arena);
  case RM_SHAPE_LAST:
    return reply->len > 0 ? rewrite_items(shape->inner, reply, reply->len - 1, 1, arena) : 0;
  case RM_SHAPE_TUPLE:
    return rewrite_tuple(shape, reply, arena);
  case RM_SHAPE_STATISTIC: /* a group of statistics */
  case RM_SHAPE_MAP:
    return to_map(shape, reply, arena);
  case RM_SHAPE_ENTRIES:
    return to_entries(shape, reply, arena);
  case RM_SHAPE_PAIRS:
    return to_pairs(shape, reply, arena);
  default:
    return 0;
  }
}

int rm_shape_rewrite(const rm_shape *shape, redmoon_reply *reply, rm_arena *arena) {
  if (reply->type == REDMOON_ARRAY) return rewrite_array(shape, reply, arena);
  if (shape->kind == RM_SHAPE_DOUBLE || shape->kind == RM_SHAPE_STATISTIC) to_double(reply);
  if (shape->kind == RM_SHAPE_VERBATIM && reply->type == REDMOON_STRING) reply->type = REDMOON_VERBATIM;
  return 0;
}
