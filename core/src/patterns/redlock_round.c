/* SPDX-License-Identifier: MIT */
/* Asking all servers of a lock at once.  Each has a call of its own, which is used again for each request, so that a server
 * never has two requests of one round under way: what is asked second cannot overtake what was asked first.
 *
 * A request to take the lock that was cut off may be executed later than all that follows.  So it is noted, and the release
 * bars the way of what comes after it (scripts/redlock_release.lua). */
#include "patterns/redlock.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/digits.h"
#include "base/error.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>

enum { SHORTEST_TIMEOUT_US = 50000, LEASE_SHARE = 20, EXTENSION_SHARE = 3 }; /* of the time that a server has for its answer */
enum { SHORTEST_REST_US = 20000, REST_SHARE = 10 }; /* of the lease, if that is less */
enum { BARS_MS = 60000 }; /* longer than any request is on its way */
enum { ROUNDING_MS = 1000 }; /* of a server's uptime, which is in whole seconds */

static void destroy_vote(redmoon_op *op) { rm_call_delete((rm_call *)op); }

static const rm_op_class vote_class = {rm_call_step, NULL, destroy_vote, rm_call_outcome};

static rm_redlock_server *server_of(const rm_redlock_round *round, size_t index) {
  return &round->lock->redlock->servers[index];
}

int rm_redlock_round_open(rm_redlock_round *round, redmoon_lock *lock, redmoon_error *err) {
  const redmoon_redlock *redlock = lock->redlock->redlock;
  round->lock = lock;
  round->votes = rm_calloc(redlock->count, sizeof *round->votes);
  if (round->votes == NULL) return rm_fail_nomem(err);
  for (size_t i = 0; i < redlock->count; i++) {
    rm_call *call = rm_call_new(redlock->clients[i], sizeof *call);
    if (call == NULL) return rm_fail_nomem(err);
    call->op.class = &vote_class;
    round->votes[i].call = call;
    round->count = i + 1;
  }
  return rm_gather_open(&round->gather, redlock->count, err);
}

/* The request that was under way is so no more. */
static void settle(rm_redlock_round *round, size_t index, redmoon_outcome outcome) {
  const rm_vote *vote = &round->votes[index];
  rm_redlock_server *server = server_of(round, index);
  if (vote->kind == RM_VOTE_RELEASE) {
    if (outcome == REDMOON_UNKNOWN) atomic_store(&server->maybe_freed, true);
    return;
  }
  if (outcome == REDMOON_UNKNOWN) atomic_store(&server->unsure, true);
  atomic_fetch_sub(&server->taking, 1);
}

/* Who extends a lease that runs has more time than who begins one: it does not count before the answers are there. */
static int64_t timeout_us(const redmoon_lock *lock, rm_vote_kind kind) {
  bool extends = kind == RM_VOTE_AGREE && lock->redlock->since_us != 0;
  return rm_max64(lock->ttl_ms * 1000 / (extends ? EXTENSION_SHARE : LEASE_SHARE), SHORTEST_TIMEOUT_US);
}

/* Sends what was formatted, or notes why it could not be. */
static void begin(rm_redlock_round *round, size_t index, int status, int64_t now_us) {
  rm_vote *vote = &round->votes[index];
  round->began_us = now_us;
  round->requests++;
  if (status < 0) {
    vote->state = RM_VOTE_FAILED;
    settle(round, index, REDMOON_NOT_SENT);
    return;
  }
  vote->call->max_retries = 0; /* whoever asks again has a reason of his own */
  vote->call->fixed_deadline_us = now_us + timeout_us(round->lock, vote->kind);
  vote->state = RM_VOTE_UNDER_WAY;
  rm_gather_set(&round->gather, index, &vote->call->op);
}

void rm_redlock_take(rm_redlock_round *round, size_t index, int64_t fence, int64_t lease_ms, int64_t now_us) {
  const redmoon_lock *lock = round->lock;
  const rm_redlock_part *part = lock->redlock;
  rm_vote *vote = &round->votes[index];
  char lease[RM_DIGITS_MAX], agreed[RM_DIGITS_MAX], node[RM_DIGITS_MAX];
  const redmoon_bytes keys[] = {part->key, part->fence_key, part->void_key};
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES},
                                {lease, rm_int64_put(lease, lease_ms)},
                                {agreed, rm_int64_put(agreed, fence)},
                                {node, rm_int64_put(node, (int64_t)index + 1)},
                                {part->redlock->quarantine_ms > 0 ? "1" : "0", 1}};
  const redmoon_script_args all = {keys, 3, args, 5};
  rm_gather_unset(&round->gather, index);
  rm_call_reset(vote->call);
  rm_error_clear(&vote->call->op.error);
  vote->kind = fence == 0 ? RM_VOTE_ASK : RM_VOTE_AGREE;
  /* In this order: a release looks at the count after it has changed the state. */
  atomic_fetch_add(&server_of(round, index)->taking, 1);
  int status = atomic_load(&lock->state) == LOCK_HOLDS
                   ? rm_builtin_format(vote->call, &rm_script_redlock_take, &all, RM_CALL_REPEATABLE, &vote->call->op.error)
                   : rm_fail(&vote->call->op.error, REDMOON_ELOST, "its release was begun");
  begin(round, index, status, now_us);
}

void rm_redlock_give_back(rm_redlock_round *round, size_t index, int64_t now_us) {
  const redmoon_lock *lock = round->lock;
  rm_vote *vote = &round->votes[index];
  rm_redlock_server *server = server_of(round, index);
  bool late = atomic_load(&server->unsure) || atomic_load(&server->taking) > 0;
  char bars[RM_DIGITS_MAX];
  const redmoon_bytes keys[] = {lock->redlock->key, lock->redlock->void_key};
  const redmoon_bytes args[] = {{lock->token, 2 * LOCK_TOKEN_BYTES}, {bars, rm_int64_put(bars, late ? BARS_MS : 0)}};
  const redmoon_script_args all = {keys, 2, args, 2};
  rm_gather_unset(&round->gather, index);
  rm_call_reset(vote->call);
  rm_error_clear(&vote->call->op.error);
  vote->kind = RM_VOTE_RELEASE;
  begin(round, index,
        rm_builtin_format(vote->call, &rm_script_redlock_release, &all, RM_CALL_REPEATABLE, &vote->call->op.error), now_us);
}

/* An answer to what was asked last. */
static int decode(const rm_redlock_round *round, rm_vote *vote) {
  rm_call *call = vote->call;
  redmoon_error *err = &call->op.error;
  const redmoon_reply *reply = call->results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(call, 0, NULL, err);
  int status = rm_lock_answer_at(round->lock, reply, 0, &vote->code, err);
  if (status < 0 || vote->kind == RM_VOTE_RELEASE) return status;
  if (vote->code != RM_STATUS_REDLOCK_OK && vote->code != RM_STATUS_REDLOCK_HELD) return 0;
  status = rm_lock_answer_at(round->lock, reply, 1, &vote->fence, err);
  if (status == 0) status = rm_lock_answer_at(round->lock, reply, 2, &vote->left_ms, err);
  if (status == 0 && vote->code == RM_STATUS_REDLOCK_OK) status = rm_lock_answer_at(round->lock, reply, 3, &vote->up_s, err);
  return status;
}

size_t rm_redlock_round_step(rm_redlock_round *round, int64_t now_us, rm_wants *wants) {
  size_t under_way = rm_gather_step(&round->gather, now_us, wants);
  for (size_t i = 0; i < round->count; i++) {
    rm_vote *vote = &round->votes[i];
    int status = vote->call->op.status;
    if (vote->state != RM_VOTE_UNDER_WAY || status == RM_WAIT) continue;
    rm_gather_unset(&round->gather, i);
    settle(round, i, status < 0 ? vote->call->op.error.outcome : REDMOON_ANSWERED);
    if (status == RM_DONE && (status = decode(round, vote)) < 0) vote->call->op.error.outcome = REDMOON_ANSWERED;
    vote->state = status < 0 ? RM_VOTE_FAILED : RM_VOTE_ANSWERED;
  }
  return under_way;
}

void rm_redlock_round_cut(rm_redlock_round *round) {
  for (size_t i = 0; i < round->count; i++) {
    rm_vote *vote = &round->votes[i];
    if (vote->state != RM_VOTE_UNDER_WAY) continue;
    rm_gather_unset(&round->gather, i);
    redmoon_outcome outcome = rm_call_outcome(&vote->call->op);
    settle(round, i, outcome);
    rm_call_give_up(vote->call);
    rm_fail(&vote->call->op.error, REDMOON_ETIMEOUT, "no answer by the time that all was decided");
    vote->call->op.error.outcome = outcome;
    vote->state = RM_VOTE_FAILED;
  }
}

void rm_redlock_round_close(rm_redlock_round *round) {
  rm_redlock_round_cut(round);
  for (size_t i = 0; i < round->count; i++) rm_call_delete(round->votes[i].call);
  rm_gather_close(&round->gather);
  rm_free(round->votes);
  round->votes = NULL;
  round->count = 0;
}

redmoon_outcome rm_redlock_round_outcome(const rm_redlock_round *round) {
  for (size_t i = 0; i < round->count; i++) {
    const rm_vote *vote = &round->votes[i];
    bool under_way = vote->state == RM_VOTE_UNDER_WAY;
    if (vote->state == RM_VOTE_ANSWERED || (under_way && rm_call_outcome(&vote->call->op) == REDMOON_UNKNOWN) ||
        (vote->state == RM_VOTE_FAILED && vote->call->op.error.outcome == REDMOON_UNKNOWN))
      return REDMOON_UNKNOWN;
  }
  return REDMOON_NOT_SENT;
}

int64_t rm_redlock_rest_us(const rm_redlock_round *round, int64_t now_us) {
  int64_t shortest = rm_min64(round->lock->ttl_ms * 1000 / REST_SHARE, SHORTEST_REST_US);
  int64_t rest = rm_max64(now_us - round->began_us, shortest);
  return now_us + rm_min64(rest, timeout_us(round->lock, RM_VOTE_ASK));
}

/* Counting. */

static bool is_young(const rm_redlock_round *round, const rm_vote *vote) {
  int64_t quarantine_ms = round->lock->redlock->redlock->quarantine_ms;
  return quarantine_ms > 0 && vote->up_s * 1000 < quarantine_ms + ROUNDING_MS;
}

bool rm_vote_counts(const rm_redlock_round *round, const rm_vote *vote) {
  return vote->state == RM_VOTE_ANSWERED && vote->kind != RM_VOTE_RELEASE && vote->code == RM_STATUS_REDLOCK_OK &&
         !is_young(round, vote);
}

static void count_answer(const rm_redlock_round *round, const rm_vote *vote, rm_vote_tally *tally) {
  switch (vote->code) {
    case RM_STATUS_REDLOCK_OK:
      tally->fence = rm_max64(tally->fence, vote->fence);
      if (is_young(round, vote)) {
        tally->young++;
        break;
      }
      tally->counted++;
      tally->left_ms = rm_min64(tally->left_ms, vote->left_ms);
      break;
    case RM_STATUS_REDLOCK_HELD:
      tally->held++;
      if (tally->other_left_ms < 0 || vote->left_ms < tally->other_left_ms) tally->other_left_ms = vote->left_ms;
      break;
    case RM_STATUS_REDLOCK_VOID: tally->back++; break;
    default: tally->twice++; break;
  }
}

rm_vote_tally rm_redlock_tally(const rm_redlock_round *round, int kinds) {
  rm_vote_tally tally = {.left_ms = INT64_MAX, .other_left_ms = -1};
  for (size_t i = 0; i < round->count; i++) {
    const rm_vote *vote = &round->votes[i];
    if (vote->state == RM_VOTE_NONE || ((int)vote->kind & kinds) == 0) continue;
    if (vote->state == RM_VOTE_UNDER_WAY) tally.under_way++;
    if (vote->state == RM_VOTE_ANSWERED) count_answer(round, vote, &tally);
    if (vote->state != RM_VOTE_FAILED) continue;
    tally.failed++;
    tally.nomem += vote->call->op.error.status == REDMOON_ENOMEM;
  }
  return tally;
}

/* One failure stands for all. */
static const rm_vote *first_failed(const rm_redlock_round *round) {
  for (size_t i = 0; i < round->count; i++)
    if (round->votes[i].state == RM_VOTE_FAILED) return &round->votes[i];
  return NULL;
}

void rm_redlock_say(const rm_redlock_round *round, const rm_vote_tally *tally, char why[RM_REDLOCK_WHY]) {
  const redmoon_redlock *redlock = round->lock->redlock->redlock;
  const struct {
    size_t count;
    const char *words;
  } parts[] = {{tally->held, "for another"}, {tally->young, "in quarantine after a start"}, {tally->failed, "without an answer"}};
  size_t len = (size_t)snprintf(why, RM_REDLOCK_WHY, "%zu of %zu servers vote for it, and %zu must", tally->counted,
                                redlock->count, redlock->quorum);
  for (size_t i = 0; i < sizeof parts / sizeof parts[0] && len < RM_REDLOCK_WHY; i++)
    if (parts[i].count > 0)
      len += (size_t)snprintf(why + len, RM_REDLOCK_WHY - len, ", %zu %s", parts[i].count, parts[i].words);
  const rm_vote *vote = first_failed(round);
  if (vote == NULL || len >= RM_REDLOCK_WHY) return;
  snprintf(why + len, RM_REDLOCK_WHY - len, " (server %zu: %.150s)", (size_t)(vote - round->votes) + 1,
           vote->call->op.error.message);
}
