/* SPDX-License-Identifier: MIT */
/* Reply trees: the public questions, and handing a tree to its owner. */
#include "wire/reply.h"

#include "base/alloc.h"

#include <string.h>

/* What a caller owns: the root, first, and the arena that the rest lives in. */
typedef struct owned_reply {
  redmoon_reply root;
  rm_arena arena;
} owned_reply;

static int is_text(const redmoon_reply *reply) {
  switch (reply->type) {
  case REDMOON_STATUS:
  case REDMOON_ERROR:
  case REDMOON_STRING:
  case REDMOON_BIGNUM:
  case REDMOON_VERBATIM:
    return 1;
  default:
    return 0;
  }
}

static int is_list(const redmoon_reply *reply) {
  return reply->type == REDMOON_ARRAY || reply->type == REDMOON_SET || reply->type == REDMOON_PUSH;
}

redmoon_type redmoon_reply_type(const redmoon_reply *reply) { return reply != NULL ? reply->type : REDMOON_NIL; }

int64_t redmoon_reply_integer(const redmoon_reply *reply) {
  if (reply == NULL || (reply->type != REDMOON_INTEGER && reply->type != REDMOON_BOOLEAN)) return 0;
  return reply->as.integer;
}

double redmoon_reply_double(const redmoon_reply *reply) {
  if (reply == NULL) return 0;
  return reply->type == REDMOON_DOUBLE    ? reply->as.number
         : reply->type == REDMOON_INTEGER ? (double)reply->as.integer
                                          : 0;
}

const char *redmoon_reply_string(const redmoon_reply *reply, size_t *len) {
  int text = reply != NULL && is_text(reply);
  if (len != NULL) *len = text ? reply->len : 0;
  return text ? reply->as.text : NULL;
}

size_t redmoon_reply_count(const redmoon_reply *reply) {
  if (reply == NULL) return 0;
  return is_list(reply) ? reply->len : reply->type == REDMOON_MAP ? reply->len / 2 : 0;
}

const redmoon_reply *redmoon_reply_at(const redmoon_reply *reply, size_t index) {
  return reply != NULL && is_list(reply) && index < reply->len ? &reply->as.items[index] : NULL;
}

static const redmoon_reply *of_pair(const redmoon_reply *reply, size_t index, size_t which) {
  int there = reply != NULL && reply->type == REDMOON_MAP && index < reply->len / 2;
  return there ? &reply->as.items[index * 2 + which] : NULL;
}

const redmoon_reply *redmoon_reply_key(const redmoon_reply *reply, size_t index) {
  return of_pair(reply, index, 0);
}

const redmoon_reply *redmoon_reply_value(const redmoon_reply *reply, size_t index) {
  return of_pair(reply, index, 1);
}

int rm_reply_detach(const redmoon_reply *reply, rm_arena *arena, redmoon_reply **out) {
  owned_reply *owned = rm_alloc(sizeof *owned);
  if (owned == NULL) return REDMOON_ENOMEM;
  owned->root = *reply;
  owned->arena = *arena;
  *arena = (rm_arena){0};
  *out = &owned->root;
  return 0;
}

void redmoon_reply_free(redmoon_reply *reply) {
  if (reply == NULL) return;
  owned_reply *owned = (owned_reply *)(void *)reply; /* the root stands first */
  rm_arena_fini(&owned->arena);
  rm_free(owned);
}

int rm_reply_is_error(const redmoon_reply *reply, const char *code) {
  size_t len = strlen(code);
  if (reply == NULL || reply->type != REDMOON_ERROR || reply->len < len) return 0;
  return memcmp(reply->as.text, code, len) == 0 && (reply->len == len || reply->as.text[len] == ' ');
}
