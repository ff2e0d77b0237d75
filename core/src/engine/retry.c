/* SPDX-License-Identifier: MIT */
/* Promise 1: what is sent again, and when.  Only commands that were not sent, that only read, or that their caller
 * declared idempotent; after a back-off with full jitter; never beyond the deadline. */
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/call_internal.h"
#include "engine/redirect.h"

#include <stdlib.h>

/* How long a command may wait on the server. */

/* A non-negative decimal number as microseconds, `unit_us` each; RM_FOREVER for 0, 0 for what is not a number (the
 * server will say so). */
static int64_t wait_of(const redmoon_bytes *arg, int64_t unit_us) {
  const char *text = arg->ptr;
  int64_t whole = 0, fraction = 0, scale = unit_us;
  size_t i = 0;
  for (; i < arg->len && text[i] >= '0' && text[i] <= '9'; i++) {
    if (whole > RM_FOREVER / 100 / unit_us) return RM_FOREVER;
    whole = whole * 10 + (text[i] - '0');
  }
  if (i < arg->len && text[i] == '.')
    for (i++; i < arg->len && text[i] >= '0' && text[i] <= '9'; i++) {
      scale /= 10;
      fraction += scale * (text[i] - '0');
    }
  if (i != arg->len) return 0;
  int64_t us = whole * unit_us + fraction;
  return us == 0 ? RM_FOREVER : us;
}

static bool is_word(const redmoon_bytes *arg, const char *word) {
  size_t len = strlen(word);
  if (arg->len != len) return false;
  for (size_t i = 0; i < len; i++)
    if ((((const char *)arg->ptr)[i] & ~0x20) != word[i]) return false;
  return true;
}

static int64_t block_of(const rm_call *call, size_t index) {
  enum { MAX_ARGS = 64 };
  redmoon_bytes args[MAX_ARGS];
  const rm_command *command = rm_command_at(call->request.marks[index].tag);
  size_t argc = rm_call_args(call, index, args, MAX_ARGS);
  size_t stored = argc < MAX_ARGS ? argc : MAX_ARGS;
  if (command->timeout_arg == 0) { /* XREAD and its kin: BLOCK <ms> among the options, in front of the keys */
    size_t first = stored > 1 && is_word(&args[1], "GROUP") ? 4 : 1;
    for (size_t i = first; i + 1 < stored && !is_word(&args[i], "STREAMS"); i++)
      if (is_word(&args[i], "BLOCK")) return wait_of(&args[i + 1], 1000);
    return 0;
  }
  int64_t unit_us = (command->flags & RM_COMMAND_MILLIS) != 0 ? 1000 : 1000000;
  size_t at = command->timeout_arg > 0 ? (size_t)command->timeout_arg : argc - (size_t)(-command->timeout_arg);
  if (at >= argc) return 0;
  if (at < stored) return wait_of(&args[at], unit_us);
  /* Very many keys stand in front of it: it is the last argument, at the end of the request's text. */
  const char *end = rm_buffer_begin(&call->request.bytes) + call->request.marks[index].end - 2;
  const char *begin = end;
  while (begin[-1] != '\n') begin--;
  redmoon_bytes last = {begin, (size_t)(end - begin)};
  return wait_of(&last, unit_us);
}

int64_t rm_call_block_us(const rm_call *call) {
  int64_t total = 0;
  for (size_t i = 0; i < call->request.count; i++) {
    if ((call->request.marks[i].flags & RM_CALL_BLOCKING) == 0) continue;
    int64_t us = block_of(call, i);
    if (us > RM_FOREVER - total) return RM_FOREVER;
    total += us;
  }
  return total;
}

/* After a failed attempt. */

bool rm_call_is_transient(const redmoon_error *err) {
  switch (err->status) {
    case REDMOON_ETIMEOUT:
    case REDMOON_ECONNECT:
    case REDMOON_EIO: return true;
    case REDMOON_ESERVER: /* of the handshake: the pool and the dial say which of them pass */
    case REDMOON_EUNAVAILABLE: return err->retryable != 0;
    default: return false;
  }
}

bool rm_call_may_repeat(const rm_call *call) {
  for (size_t i = call->answered; i < call->request.count; i++)
    if (call->results[i].outcome == REDMOON_UNKNOWN && (call->request.marks[i].flags & RM_CALL_REPEATABLE) == 0) return false;
  return true;
}

redmoon_outcome rm_call_outcome_at(const rm_call *call, size_t index) {
  if (call->state == CALL_IDLE) return REDMOON_NOT_SENT;
  if (index < call->answered) return REDMOON_ANSWERED;
  bool under_way = call->state == CALL_EXCHANGE || call->state == CALL_SHARED;
  bool got_it = under_way && call->maybe_sent >= call->request.marks[index].end;
  return got_it ? REDMOON_UNKNOWN : call->results[index].outcome;
}

redmoon_outcome rm_call_outcome(const redmoon_op *op) {
  const rm_call *call = (const rm_call *)op;
  /* In a lane another thread might send it after it was said that nobody has. */
  if (call->slot != NULL) {
    rm_call_give_up((rm_call *)(uintptr_t)op);
    if (call->answered == call->request.count) return REDMOON_UNKNOWN; /* nobody has seen the answers */
  }
  if (call->state == CALL_SCATTER) rm_call_give_up((rm_call *)(uintptr_t)op);
  for (size_t i = call->answered; i < call->request.count; i++)
    if (rm_call_outcome_at(call, i) == REDMOON_UNKNOWN) return REDMOON_UNKNOWN;
  return REDMOON_NOT_SENT;
}

/* Full jitter: anything from nothing to the bound, which doubles (AWS, "Exponential Backoff And Jitter", 2015). */
int64_t rm_call_backoff_us(const rm_call *call) {
  const rm_settings *settings = &call->op.client->settings;
  int64_t bound = settings->min_backoff_us;
  for (int i = 1; i < call->attempt && bound < settings->max_backoff_us; i++) bound *= 2;
  return rm_random_upto(rm_min64(bound, settings->max_backoff_us));
}

/* No connection was had, so nothing was sent.  Where another node may take over, what counts is the deadline: a fail-over
 * takes longer than a few attempts do. */
bool rm_call_may_outlast(const rm_call *call, const redmoon_error *err) {
  bool no_connection = err->phase >= REDMOON_PHASE_RESOLVE && err->phase <= REDMOON_PHASE_HANDSHAKE;
  rm_route *route = call->op.client->core->route;
  /* As long as nothing is known nobody can say that there is anything to wait for. */
  return no_connection && rm_route_may_change(route) && rm_route_peek(route, &(rm_target){0}) != NULL;
}

/* A server that says "later" is not asked at once; half of it is jitter. */
int64_t rm_call_refusal_us(const rm_call *call, int count) {
  enum { FIRST_US = 50000 };
  int64_t bound = FIRST_US;
  for (int i = 0; i < count && bound < call->op.client->settings.max_backoff_us; i++) bound *= 2;
  bound = rm_max64(FIRST_US, rm_min64(bound, call->op.client->settings.max_backoff_us));
  return bound / 2 + rm_random_upto(bound / 2);
}

/* Prepares another attempt, if one is allowed and can begin before the deadline. */
static bool schedule(rm_call *call, bool counts, int64_t delay_us, int64_t now_us) {
  if ((counts && call->attempt > call->max_retries) || call->began_held) return false;
  if (delay_us >= call->deadline_us - now_us) return false;
  call->state = CALL_BACKOFF;
  call->backoff_until_us = now_us + delay_us;
  rm_core *core = call->op.client->core;
  atomic_fetch_add_explicit(&core->metrics.retries, 1, memory_order_relaxed);
  if (rm_hooks_wants(&core->hooks, REDMOON_EVENT_RETRY)) {
    redmoon_event event = {.kind = REDMOON_EVENT_RETRY, .reason = "", .attempt = call->attempt, .delay_us = delay_us};
    event.command = rm_command_at(call->request.marks[call->answered].tag)->name;
    event.address = call->op.error.address;
    event.duration_us = now_us - call->started_us;
    event.error = &call->op.error;
    rm_hooks_emit(&core->hooks, &event);
  }
  return true;
}

int rm_call_attempt_failed(rm_call *call, int64_t now_us) {
  redmoon_error *err = &call->op.error;
  /* A shutdown cuts the sockets, so it can look like a failure of the server's. */
  if (err->status == REDMOON_EIO && atomic_load(&call->op.client->core->closed)) rm_fail_closed(err);
  bool transient = rm_call_is_transient(err), repeat = rm_call_may_repeat(call);
  err->outcome = rm_call_outcome(&call->op);
  call->was_unknown |= err->outcome == REDMOON_UNKNOWN;
  /* Of a full pool another call may find room, but this one has waited as long as it may. */
  err->retryable = (transient || err->status == REDMOON_EPOOL_TIMEOUT) && repeat;
  err->attempts = call->attempt;
  if (transient) rm_route_suspect(call->op.client->core->route);
  if (transient && repeat && schedule(call, !rm_call_may_outlast(call, err), rm_call_backoff_us(call), now_us)) return RM_WAIT;
  return err->status;
}

/* After an exchange with error replies. */

/* What servers say when they did not execute a command but may do so later.  Their own words count, not the code alone: a
 * script or a module may answer with an error of the same code after it has written. */
static const struct {
  const char *code, *words;
} refusals[] = {
    {"READONLY", "You can't write against a read only"},
    {"LOADING", "is loading the dataset in memory"},
    {"BUSY", "is busy running a script"},
    {"MASTERDOWN", "Link with MASTER is down"},
    {"CLUSTERDOWN", "cluster is down"},
    {"CLUSTERDOWN", "Hash slot not served"},
    {"TRYAGAIN", "Multiple keys request during rehashing of slot"},
};

bool rm_reply_is_refusal(const redmoon_reply *reply) {
  for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
    if (rm_reply_is_error(reply, refusals[i].code) && strstr(reply->as.text, refusals[i].words) != NULL) return true;
  return false;
}

/* For a command that may be repeated whatever has become of it, the code is enough. */
static bool has_code_of_refusal(const redmoon_reply *reply) {
  for (size_t i = 1; i < sizeof refusals / sizeof refusals[0]; i++)
    if (rm_reply_is_error(reply, refusals[i].code)) return true;
  return false;
}

/* In a script's error the server's text stands behind those of the interpreter: "... -READONLY You can't write ...". */
static bool says_readonly(const redmoon_reply *reply) {
  if (reply == NULL) return false;
  if (reply->type == REDMOON_ERROR)
    return strstr(reply->as.text, "READONLY ") != NULL && strstr(reply->as.text, refusals[0].words) != NULL;
  if (reply->type != REDMOON_ARRAY) return false;
  for (size_t i = 0; i < reply->len; i++) /* of an EXEC: one level is all there is */
    if (reply->as.items[i].type == REDMOON_ERROR && says_readonly(&reply->as.items[i])) return true;
  return false;
}

void rm_call_check_readonly(rm_call *call, int64_t now_us) {
  for (size_t i = 0; i < call->request.count; i++) {
    if (!says_readonly(call->results[i].reply)) continue;
    rm_pool_purge(call->borrow.node->pool, RM_CLOSE_FAILOVER, now_us);
    rm_route_suspect(call->op.client->core->route);
    if (rm_call_is_holding(call) && !call->hold) rm_pool_discard(&call->borrow.lease, RM_CLOSE_FAILOVER, now_us);
    return;
  }
}

/* NOSCRIPT: the same script goes out again with its source, on the same connection. */
static int send_source(rm_call *call, int64_t now_us) {
  enum { MAX_ARGS = 32 };
  redmoon_bytes few[MAX_ARGS], *args = few;
  size_t argc = rm_call_args(call, 0, few, MAX_ARGS);
  if (argc > MAX_ARGS) {
    args = rm_arena_alloc(&call->arena, argc * sizeof *args);
    if (args == NULL) return rm_fail_nomem(&call->op.error);
    rm_call_args(call, 0, args, argc);
  }
  rm_request request;
  rm_request_init(&request);
  rm_request_begin(&request, argc);
  rm_request_text(&request, "EVAL");
  rm_request_arg(&request, call->script.ptr, call->script.len);
  for (size_t i = 2; i < argc; i++) rm_request_arg(&request, args[i].ptr, args[i].len);
  if (rm_request_end(&request, call->request.marks[0].flags, call->request.marks[0].tag) != 0) {
    rm_request_fini(&request);
    return rm_fail_nomem(&call->op.error);
  }
  rm_request_fini(&call->request);
  call->request = request;
  if (request.marks == &request.one) call->request.marks = &call->request.one;
  call->script = (redmoon_bytes){NULL, 0}; /* once */
  call->results[0] = (rm_result){NULL, REDMOON_NOT_SENT};
  call->answered = 0;
  call->saw_error = false;
  if (rm_call_is_holding(call)) {
    rm_exchange_begin(call, now_us);
  } else { /* it was shared; the same attempt goes on, perhaps by another connection */
    call->state = CALL_BACKOFF;
    call->backoff_until_us = now_us;
    call->attempt--;
  }
  return RM_WAIT;
}

/* Nothing of it was executed: all of it goes out again. */
static void begin_again(rm_call *call) {
  for (size_t i = 0; i < call->request.count; i++) call->results[i] = (rm_result){NULL, REDMOON_NOT_SENT};
  call->answered = call->maybe_sent = 0;
  call->saw_error = false;
  rm_arena_reset(&call->arena, (size_t)64 << 10);
}

/* In a server's own words: a script may have written before it says the like. */
static bool is_changing(const redmoon_reply *reply) {
  return (rm_reply_is_error(reply, "TRYAGAIN") || rm_reply_is_error(reply, "CLUSTERDOWN")) && rm_reply_is_refusal(reply);
}

bool rm_reply_sends_elsewhere(const redmoon_reply *reply) {
  return rm_redirect_kind(reply) != RM_NOT_REDIRECTED || is_changing(reply);
}

/* MULTI was refused, and so was everything behind it: nothing was executed. */
static bool is_refused_from_multi_on(const rm_call *call) {
  size_t i = call->request.count;
  while (i > 0 && call->results[i - 1].reply->type == REDMOON_ERROR) {
    if (strcmp(rm_command_at(call->request.marks[--i].tag)->name, "MULTI") == 0) return true;
  }
  return false;
}

/* What a cluster's node says in the place of an answer, of a call that was to execute nothing then; else NULL.  Of a
 * transaction: where EXEC was refused for a command that was, or is refused itself.  One that watches has to begin anew,
 * which is its owner's to do, and so is it where the owner has said which node. */
static const redmoon_reply *verdict_of(const rm_call *call) {
  size_t count = call->request.count;
  bool elsewhere = call->borrow.pinned == NULL || call->asking;
  if (!elsewhere || call->began_held || !rm_route_is_cluster(call->op.client->core->route) || (count > 1 && !call->whole)) return NULL;
  const redmoon_reply *last = call->results[count - 1].reply;
  if (rm_reply_sends_elsewhere(last)) return last;
  if (count == 1 || !(rm_reply_is_error(last, "EXECABORT") || is_refused_from_multi_on(call))) return NULL;
  for (size_t i = 0; i + 1 < count; i++)
    if (rm_reply_sends_elsewhere(call->results[i].reply)) return call->results[i].reply;
  return NULL;
}

static int follow(rm_call *call, const redmoon_reply *redirect, int64_t now_us) {
  redmoon_error *err = &call->op.error;
  bool ask = rm_redirect_kind(redirect) == RM_ASK;
  rm_node *node = NULL;
  if (++call->hops > RM_HOPS_MAX) (void)rm_redirect_fail(redirect, err);
  else node = rm_redirect_follow(call, redirect, call->borrow.node, err);
  rm_call_release(call, true, now_us);
  begin_again(call);
  if (node == NULL) return err->status;
  int64_t delay_us = call->hops > RM_HOPS_AT_ONCE ? rm_call_backoff_us(call) : 0;
  if (delay_us >= call->deadline_us - now_us)
    return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_BACKOFF, "the call's deadline was over before it was executed; it was sent on %d times",
                         call->hops);
  call->ask = ask ? node : NULL;
  call->attempt--; /* it is still the same one */
  call->state = CALL_BACKOFF;
  call->backoff_until_us = now_us + delay_us;
  return RM_WAIT;
}

/* A cluster that is being changed, or a primary that has just been demoted, says so until it is done, which only the deadline
 * limits.  RM_DONE: the answer stands. */
static int outlast(rm_call *call, const redmoon_reply *refusal, int64_t now_us) {
  rm_fail_server(&call->op.error, refusal->as.text, refusal->len);
  rm_route_suspect(call->op.client->core->route);
  if (!schedule(call, false, rm_call_refusal_us(call, call->refusals++), now_us)) return RM_DONE;
  rm_call_release(call, true, now_us);
  begin_again(call);
  return RM_WAIT;
}

int rm_call_reply_retries(rm_call *call, int64_t now_us) {
  const redmoon_reply *verdict = verdict_of(call);
  if (verdict != NULL) return is_changing(verdict) ? outlast(call, verdict, now_us) : follow(call, verdict, now_us);
  if (call->request.count != 1) return RM_DONE;
  const redmoon_reply *reply = call->results[0].reply;
  /* The server's own words: a script may return an error that begins with NOSCRIPT, and must not be run again for it. */
  bool unknown = rm_reply_is_error(reply, "NOSCRIPT") && strstr(reply->as.text, "No matching script") != NULL;
  if (call->script.ptr != NULL && unknown && (rm_call_is_holding(call) || call->state == CALL_SHARED)) {
    int rc = send_source(call, now_us);
    if (rc < 0) rm_call_release(call, true, now_us);
    return rc;
  }
  bool elsewhere = rm_route_may_change(call->op.client->core->route); /* where there may be another primary */
  bool readonly = says_readonly(reply) && (elsewhere || !call->redialled);
  bool repeatable = (call->request.marks[0].flags & RM_CALL_REPEATABLE) != 0;
  bool passes = !says_readonly(reply) && (rm_reply_is_refusal(reply) || (repeatable && has_code_of_refusal(reply)));
  if (!readonly && !passes) return RM_DONE;
  if (readonly && call->redialled) return outlast(call, reply, now_us);
  rm_fail_server(&call->op.error, reply->as.text, reply->len);
  if (!schedule(call, true, readonly ? 0 : rm_call_backoff_us(call), now_us)) return RM_DONE;
  call->redialled |= readonly;
  if (rm_call_is_holding(call)) rm_pool_release(&call->borrow.lease, now_us);
  begin_again(call);
  return RM_WAIT;
}
