/* SPDX-License-Identifier: MIT */
/* What comes through a link: messages, and the answers to what was asked.
 *
 *     RESP3   messages and confirmations are pushes; PING is answered like any command
 *     RESP2   all of them are arrays, PONG too while anything is subscribed to
 *
 *  SUBSCRIBE and its kin are answered once for each name, or by one error.  The answers come in the order of the commands,
 *  so the queue of what is expected says whose each one is; what nobody asked for means that the two are out of step. */
#include "engine/subscription_internal.h"

#include "base/error.h"
#include "engine/redirect.h"
#include "engine/script.h"

#include <string.h>

const char *const rm_sub_verbs[2 * RM_KINDS + 1] = {"SUBSCRIBE",    "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE",
                                                    "SSUBSCRIBE",   "SUNSUBSCRIBE", "PING"};

static bool is_word(const redmoon_reply *reply, const char *word) {
  return reply->type == REDMOON_STRING && strlen(word) == reply->len && memcmp(reply->as.text, word, reply->len) == 0;
}

static redmoon_bytes bytes_of(const redmoon_reply *reply) { return (redmoon_bytes){reply->as.text, reply->len}; }

static rm_expected *first_expected(redmoon_subscription *sub) {
  return rm_buffer_len(&sub->expected) > 0 ? (rm_expected *)(void *)rm_buffer_begin(&sub->expected) : NULL;
}

static int fail_step(const redmoon_subscription *sub, redmoon_error *err) {
  return rm_fail_phase(err, REDMOON_EPROTOCOL, REDMOON_PHASE_RECEIVE,
                       "%s: answers and requests of the subscription are out of step", sub->conn->address);
}

/* Messages. */

static void fail_full(redmoon_subscription *sub) {
  redmoon_error err;
  rm_fail(&err, REDMOON_ETOO_LARGE, "the subscription has ended: its buffer of %zu messages is full, and overflow is \"close\"",
          sub->buffer.limit);
  rm_sub_end(sub, &err);
}

static void end_outage(redmoon_subscription *sub, int64_t now_us) {
  if (!sub->outage) return;
  sub->outage = false;
  sub->buffer.gap.down_us += now_us - sub->lost_us;
}

/* Puts them into the buffer; `lost`: and behind them one that no memory could be had for. */
static void hand_over(redmoon_subscription *sub, rm_message_list *list, bool lost, int64_t now_us) {
  if (list->first == NULL && !lost) return;
  uint64_t dropped = lost;
  rm_sub_lock(sub);
  end_outage(sub, now_us);
  rm_message *message = list->first;
  while (message != NULL && sub->end.status == 0) {
    rm_message *next = message->next;
    sub->counts.received++;
    int rc = rm_message_buffer_push(&sub->buffer, message);
    dropped += rc != 0;
    if (rc < 0) fail_full(sub);
    message = next;
  }
  sub->counts.received += lost;
  sub->buffer.gap.dropped += lost;
  sub->counts.dropped += dropped;
  rm_sub_signal(sub);
  rm_sub_unlock(sub);
  list->first = message; /* those behind the end */
  rm_message_list_free(list);
  *list = (rm_message_list){0};
  for (; dropped > 0; dropped--) rm_client_count(sub->client, "subscription", "dropped");
}

/* How many may be taken in before the buffer is full.  While a change is under way its answer must be reached: no limit. */
static size_t room(redmoon_subscription *sub) {
  rm_sub_lock(sub);
  size_t count = sub->buffer.list.count, limit = sub->buffer.limit;
  bool free = sub->buffer.overflow != RM_BLOCK || !rm_list_is_empty(&sub->changes);
  rm_sub_unlock(sub);
  return free ? SIZE_MAX : count < limit ? limit - count : 0;
}

/* Answers. */

static void pop_expected(redmoon_subscription *sub) { rm_buffer_consume(&sub->expected, sizeof(rm_expected)); }

static void become_whole(redmoon_subscription *sub, int64_t now_us) {
  sub->whole = sub->established = true;
  sub->failures = 0;
  rm_error_clear(&sub->trouble);
  end_outage(sub, now_us);
  if (rm_gap_is_open(&sub->buffer.gap)) rm_sub_signal(sub);
  rm_changes_link_whole(sub);
}

void rm_sub_restored(redmoon_subscription *sub, int64_t now_us) {
  if (sub->restoring == 0 && !sub->whole) become_whole(sub, now_us);
}

/* One name of the command that is first in the queue was confirmed. */
static int confirm(redmoon_subscription *sub, int verb, int64_t now_us, redmoon_error *err) {
  rm_expected *first = first_expected(sub);
  bool asked = first != NULL && first->verb == verb;
  if (!asked && verb == 2 * RM_SHARDS + 1) /* the server's own doing: the slot has moved */
    return rm_fail_phase(err, REDMOON_EUNAVAILABLE, REDMOON_PHASE_RECEIVE, "%s does not serve the slot of the shard channels any more",
                         sub->conn->address);
  if (!asked) return fail_step(sub, err);
  sub->confirmed = true;
  if (--first->left > 0) return 0;
  rm_expected done = *first;
  pop_expected(sub);
  if (done.restores) {
    sub->restoring--;
    rm_sub_restored(sub, now_us);
  }
  if (done.change != NULL && rm_change_answered(sub, done.change, NULL) != 0) return rm_fail_nomem(err);
  return 0;
}

static bool is_unknown_command(const redmoon_reply *reply) {
  static const char words[] = "ERR unknown command";
  return reply->len >= sizeof words - 1 && memcmp(reply->as.text, words, sizeof words - 1) == 0;
}

/* Shard channels are served by another node now: the link has to go there. */
static int moved(redmoon_subscription *sub, const redmoon_reply *reply, redmoon_error *err) {
  redmoon_error ignored;
  (void)rm_redirect_note(sub->client->core, reply, sub->node, &ignored);
  rm_fail_phase(err, REDMOON_EUNAVAILABLE, REDMOON_PHASE_RECEIVE, "%s does not serve the slot of the shard channels any more",
                sub->conn->address);
  return REDMOON_EUNAVAILABLE;
}

/* An error answers the whole command that is first in the queue. */
static int refuse(redmoon_subscription *sub, const redmoon_reply *reply, redmoon_error *err) {
  rm_expected *first = first_expected(sub);
  redmoon_error why;
  if (rm_redirect_kind(reply) != RM_NOT_REDIRECTED || rm_reply_is_error(reply, "CLUSTERDOWN")) return moved(sub, reply, err);
  if (first != NULL && first->verb / 2 == RM_SHARDS && is_unknown_command(reply)) {
    rm_fail(&why, REDMOON_EUNAVAILABLE, "the server has no shard channels: SSUBSCRIBE needs Redis 7.0");
    why.outcome = REDMOON_ANSWERED;
  } else {
    rm_fail_server(&why, reply->as.text, rm_error_shown_len(reply->as.text, reply->len));
  }
  memcpy(why.address, sub->conn->address, sizeof why.address);
  if (first == NULL || first->restores) { /* the server takes leave, or does not let us go on as we were */
    *err = why;
    return why.status;
  }
  rm_expected done = *first;
  pop_expected(sub);
  if (done.verb == RM_VERB_PING) sub->pinged = false; /* a sign of life all the same */
  if (done.change != NULL && rm_change_answered(sub, done.change, &why) != 0) return rm_fail_nomem(err);
  return 0;
}

static int pong(redmoon_subscription *sub, redmoon_error *err) {
  rm_expected *first = first_expected(sub);
  if (first == NULL || first->verb != RM_VERB_PING) return fail_step(sub, err);
  pop_expected(sub);
  sub->pinged = false;
  return 0;
}

/* Frames. */

/* The verb that this word confirms; -1: none. */
static int verb_of(const redmoon_reply *word) {
  static const char *const words[] = {"subscribe",  "unsubscribe", "psubscribe", "punsubscribe",
                                      "ssubscribe", "sunsubscribe"};
  for (int verb = 0; verb < 2 * RM_KINDS; verb++)
    if (is_word(word, words[verb])) return verb;
  return -1;
}

/* How many words a message of this kind has; 0: it is none. */
static size_t message_words(const redmoon_reply *items, size_t count) {
  if (count == 3 && (is_word(&items[0], "message") || is_word(&items[0], "smessage"))) return 3;
  return count == 4 && is_word(&items[0], "pmessage") ? 4 : 0;
}

static bool are_texts(const redmoon_reply *items, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (items[i].type != REDMOON_STRING) return false;
  return true;
}

static int heed_answer(redmoon_subscription *sub, const redmoon_reply *frame, int64_t now_us, redmoon_error *err) {
  bool list = frame->type == REDMOON_ARRAY || frame->type == REDMOON_PUSH;
  int rc;
  rm_sub_lock(sub);
  if (list && frame->len > 0) {
    const redmoon_reply *word = &frame->as.items[0];
    int verb = verb_of(word);
    if (verb >= 0) rc = confirm(sub, verb, now_us, err);
    else if (is_word(word, "pong")) rc = pong(sub, err);
    else rc = frame->type == REDMOON_PUSH ? 0 : fail_step(sub, err); /* other pushes are nobody's answer */
  } else if (frame->type == REDMOON_ERROR) {
    rc = refuse(sub, frame, err);
  } else {
    rc = frame->type == REDMOON_STATUS || frame->type == REDMOON_STRING ? pong(sub, err) : fail_step(sub, err);
  }
  rm_sub_unlock(sub);
  return rc;
}

static int take_answer(redmoon_subscription *sub, const redmoon_reply *frame, int64_t now_us, redmoon_error *err) {
  int rc = heed_answer(sub, frame, now_us, err);
  if (rc < 0 || sub->sink == NULL || (frame->type != REDMOON_ARRAY && frame->type != REDMOON_PUSH) || frame->len < 2) return rc;
  const redmoon_reply *items = frame->as.items;
  if (is_word(&items[0], "subscribe") && items[1].type == REDMOON_STRING)
    sub->sink->confirmed(sub->sink_ctx, bytes_of(&items[1]));
  return rc;
}

/* Whether it is one; it goes to the sink, if there is one, else to the list.  *lost: there is no memory for it. */
static bool take_message(redmoon_subscription *sub, const redmoon_reply *frame, rm_message_list *list, bool *lost) {
  if (frame->type != REDMOON_ARRAY && frame->type != REDMOON_PUSH) return false;
  const redmoon_reply *items = frame->as.items;
  size_t words = message_words(items, frame->len);
  if (words == 0 || !are_texts(items, words)) return false;
  if (sub->sink != NULL) {
    sub->sink->message(sub->sink_ctx, bytes_of(&items[words - 2]), bytes_of(&items[words - 1]));
    return true;
  }
  redmoon_bytes pattern = words == 4 ? bytes_of(&items[1]) : (redmoon_bytes){NULL, 0};
  rm_message *message = rm_message_new(&sub->block, bytes_of(&items[words - 2]), pattern, bytes_of(&items[words - 1]),
                                       items[0].as.text[0] == 's');
  if (message != NULL) rm_message_list_add(list, message);
  else *lost = true;
  return true;
}

int rm_sub_take_frames(redmoon_subscription *sub, int64_t now_us, redmoon_error *err) {
  rm_message_list list = {0};
  size_t left = room(sub);
  int rc = 1;
  for (; left > 0; left--) {
    redmoon_reply *frame;
    rc = rm_conn_next(sub->conn, &sub->arena, &frame, err);
    if (rc <= 0) break;
    bool lost = false;
    if (take_message(sub, frame, &list, &lost)) {
      if (lost) hand_over(sub, &list, true, now_us);
      continue;
    }
    hand_over(sub, &list, false, now_us); /* what came before the answer is there before whoever waits for it goes on */
    rc = take_answer(sub, frame, now_us, err);
    if (rc < 0) break;
    left = room(sub);
    if (left < SIZE_MAX) left++; /* an answer needs no room */
  }
  hand_over(sub, &list, false, now_us);
  rm_arena_reset(&sub->arena, (size_t)256 << 10);
  return rc;
}
