/* SPDX-License-Identifier: MIT */
/* Looking after the cursors of a durable topic. */
#include "patterns/topic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <stdlib.h>
#include <string.h>

static int check_durable(const redmoon_topic *topic, redmoon_error *err) {
  if (topic->durable) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "only a durable topic has named readers; make it with durable");
}

/* Listing. */

enum { FIELDS = 3 }; /* of each in the answer, behind code and last number */

void redmoon_topic_cursor_list_free(redmoon_topic_cursor_list *list) { rm_free(list); }

static int by_name(const void *a, const void *b) {
  const redmoon_topic_cursor_info *left = a, *right = b;
  size_t len = left->name_len < right->name_len ? left->name_len : right->name_len;
  int order = memcmp(left->name, right->name, len);
  return order != 0 ? order : (left->name_len > right->name_len) - (left->name_len < right->name_len);
}

static bool is_integer(const redmoon_reply *reply) { return redmoon_reply_type(reply) == REDMOON_INTEGER; }

/* False: the answer is not as it should be. */
static bool read_info(redmoon_topic_cursor_info *info, const redmoon_reply *reply, size_t index, int64_t last, char **at) {
  const redmoon_reply *name = redmoon_reply_at(reply, index), *acked = redmoon_reply_at(reply, index + 1);
  const redmoon_reply *idle = redmoon_reply_at(reply, index + 2);
  size_t len = 0;
  const char *text = redmoon_reply_string(name, &len);
  if (text == NULL || !is_integer(acked) || !is_integer(idle)) return false;
  memcpy(*at, text, len);
  (*at)[len] = '\0';
  int64_t seq = redmoon_reply_integer(acked);
  *info = (redmoon_topic_cursor_info){*at, len, seq, last > seq ? last - seq : 0, redmoon_reply_integer(idle)};
  *at += len + 1;
  return true;
}

static int list_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  redmoon_topic_cursor_list **out = ctx;
  const redmoon_reply *reply = answer->reply, *last = redmoon_reply_at(reply, 1);
  size_t elements = redmoon_reply_count(reply);
  if (elements < 2 || (elements - 2) % FIELDS != 0 || !is_integer(last)) return rm_topic_fail_answer(err);
  size_t count = (elements - 2) / FIELDS, size = sizeof **out + count * sizeof *(*out)->items;
  for (size_t i = 0; i < count; i++) {
    size_t len = 0;
    (void)redmoon_reply_string(redmoon_reply_at(reply, 2 + i * FIELDS), &len);
    size += len + 1; /* they lie in one reply that is in memory, so their sum is no overflow */
  }
  redmoon_topic_cursor_list *list = rm_calloc(1, size);
  if (list == NULL) return rm_fail_nomem_answered(err);
  char *at = (char *)(list->items + count + 1);
  for (; list->count < count; list->count++)
    if (!read_info(&list->items[list->count], reply, 2 + list->count * FIELDS, redmoon_reply_integer(last), &at)) {
      rm_free(list);
      return rm_topic_fail_answer(err);
    }
  qsort(list->items, count, sizeof *list->items, by_name);
  *out = list;
  return 0;
}

int redmoon_topic_cursors_start(redmoon_topic *topic, redmoon_topic_cursor_list **out, redmoon_op **op, redmoon_error *err) {
  *out = NULL;
  *op = NULL;
  rm_error_clear(err);
  int status = check_durable(topic, err);
  if (status < 0) return status;
  const redmoon_bytes keys[] = {topic->keys[RM_TOPIC_KEY], topic->keys[RM_TOPIC_READERS]};
  const redmoon_script_args args = {keys, 2, NULL, 0};
  return rm_builtin_start(topic->client, &rm_script_topic_readers, &args, RM_CALL_REPEATABLE, list_decode, NULL, out, op, err);
}

int redmoon_topic_cursors(redmoon_topic *topic, redmoon_topic_cursor_list **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_cursors_start(topic, out, &op, err), &op, err);
}

/* Removing. */

static int remove_decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  int *removed = ctx;
  const redmoon_reply *code = redmoon_reply_at(answer->reply, 0);
  if (!is_integer(code)) return rm_topic_fail_answer(err);
  /* One that may have been executed unnoticed, and is answered now, has removed it. */
  if (removed != NULL) *removed = redmoon_reply_integer(code) == RM_STATUS_TOPIC_OK || answer->repeated;
  return 0;
}

int redmoon_topic_cursor_remove_start(redmoon_topic *topic, const void *name, size_t name_len, int *removed,
                                      redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  if (removed != NULL) *removed = 0;
  rm_error_clear(err);
  int status = rm_name_check("reader name", name, name_len, err);
  if (status == 0) status = check_durable(topic, err);
  if (status < 0) return status;
  const redmoon_bytes argv[] = {{name, name_len}};
  const redmoon_script_args args = {&topic->keys[RM_TOPIC_READERS], 1, argv, 1};
  return rm_builtin_start(topic->client, &rm_script_topic_remove, &args, RM_CALL_REPEATABLE, remove_decode, NULL, removed, op,
                          err);
}

int redmoon_topic_cursor_remove(redmoon_topic *topic, const void *name, size_t name_len, int *removed, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_topic_cursor_remove_start(topic, name, name_len, removed, &op, err), &op, err);
}
