/* SPDX-License-Identifier: MIT */
/* Rounds of a scattered call: parts to nodes, a child call for each node, and what came of them. */
#include "engine/scatter.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call_internal.h"
#include "engine/gather.h"
#include "engine/merge.h"
#include "engine/redirect.h"

#include <stdio.h>

enum { PENDING, ANSWERED, LOST }; /* of a part */
enum { START, ROUND, PAUSE };     /* of the scatter */
enum { NODES_AT_ONCE = 1024 };

/* What one node gets in one round. */
typedef struct rm_child {
  rm_call call; /* first: its op is this one's */
  rm_node *node;
  size_t loads_from; /* the first command of the parent's that may be a SCRIPT LOAD this child lacks */
} rm_child;

struct rm_scatter {
  rm_part *parts;
  size_t count, cap;
  rm_child **children;
  size_t child_count, child_cap;
  rm_gather gather;
  int state;
  int refusals;          /* rounds that were refused for now */
  bool failed, refused;  /* something of the round that has just ended was */
  int hops;              /* the most that a part has made, which is not answered yet */
  redmoon_error cause;   /* why a child of that round has failed */
  redmoon_error failure; /* of the first part that was lost */
};

static const rm_op_class child_class = {rm_call_step, NULL, NULL, rm_call_outcome};

/* Parts. */

int rm_scatter_add(rm_call *call, const rm_part *part) {
  rm_scatter *self = call->scatter;
  if (self == NULL) {
    if ((self = rm_calloc(1, sizeof *self)) == NULL) return REDMOON_ENOMEM;
    self->gather.epfd = -1;
    call->scatter = self;
  }
  if (self->count == self->cap) {
    size_t cap = self->cap * 2 + 8;
    rm_part *parts = rm_realloc(self->parts, cap * sizeof *parts);
    if (parts == NULL) return REDMOON_ENOMEM;
    self->parts = parts;
    self->cap = cap;
  }
  self->parts[self->count++] = *part;
  return 0;
}

/* A command that goes to all nodes has a part for each, now that they are known. */
static int expand(rm_call *call) {
  rm_scatter *self = call->scatter;
  bool any = false;
  for (size_t i = 0; i < self->count && !any; i++) any = self->parts[i].all != RM_ALL_NONE;
  if (!any) return 0;
  rm_part *old = self->parts;
  size_t count = self->count;
  int rc = 0;
  rm_node **nodes = rm_alloc(NODES_AT_ONCE * sizeof(rm_node *));
  self->parts = NULL;
  self->count = self->cap = 0;
  for (size_t i = 0; i < count && rc == 0 && nodes != NULL; i++) {
    rm_part part = old[i];
    size_t there = part.all == RM_ALL_NONE ? 1 : rm_route_serving(call->op.client->core->route, part.all == RM_ALL_NODES, nodes, NODES_AT_ONCE);
    for (size_t n = 0; n < there && n < NODES_AT_ONCE && rc == 0; n++) {
      if (part.all != RM_ALL_NONE) part.node = nodes[n];
      rc = rm_scatter_add(call, &part);
    }
  }
  for (size_t i = 0; i < self->count; i++) self->parts[i].all = RM_ALL_NONE;
  rm_free(nodes);
  rm_free(old);
  return rc == 0 && nodes != NULL ? 0 : rm_fail_nomem(&call->op.error);
}

/* Children. */

static void free_children(rm_scatter *self) {
  rm_gather_close(&self->gather);
  for (size_t i = 0; i < self->child_count; i++) {
    rm_call_fini(&self->children[i]->call);
    rm_free(self->children[i]);
  }
  self->child_count = 0;
}

static rm_child *child_of(rm_call *call, rm_node *node) {
  rm_scatter *self = call->scatter;
  for (size_t i = 0; i < self->child_count; i++)
    if (self->children[i]->node == node) return self->children[i];
  if (self->child_count == self->child_cap) {
    size_t cap = self->child_cap * 2 + 4;
    rm_child **children = rm_realloc(self->children, cap * sizeof(rm_child *));
    if (children == NULL) return NULL;
    self->children = children;
    self->child_cap = cap;
  }
  rm_child *child = rm_calloc(1, sizeof *child);
  if (child == NULL) return NULL;
  rm_call_init(&child->call, call->op.client, false);
  child->call.op.class = &child_class;
  child->call.op.owner = rm_call_owner(call);
  child->call.borrow.pinned = child->node = node;
  child->call.borrow.pool_left_us = call->borrow.pool_left_us;
  child->call.fixed_deadline_us = call->deadline_us;
  child->call.max_retries = 0; /* another round decides anew where to */
  child->call.part = true;
  self->children[self->child_count++] = child;
  return child;
}

static int put_raw(rm_child *child, const rm_call *call, size_t mark, unsigned flags) {
  const rm_mark *marks = call->request.marks;
  size_t begin = mark > 0 ? marks[mark - 1].end : 0;
  rm_request *request = &child->call.request;
  rm_request_formatted(request, rm_buffer_begin(&call->request.bytes) + begin, marks[mark].end - begin);
  return rm_request_end(request, flags, marks[mark].tag);
}

static int put_keys(rm_child *child, const rm_call *call, const rm_part *part) {
  const rm_mark *mark = &call->request.marks[part->mark];
  const redmoon_bytes *args = part->args;
  rm_request *request = &child->call.request;
  rm_request_begin(request, part->first + (size_t)part->key_count * part->step);
  for (size_t i = 0; i < part->first; i++) rm_request_arg(request, args[i].ptr, args[i].len);
  for (size_t k = 0; k < part->key_count; k++)
    for (size_t i = 0; i < part->step; i++) rm_request_arg(request, args[part->keys[k] + i].ptr, args[part->keys[k] + i].len);
  return rm_request_end(request, mark->flags, mark->tag);
}

/* A script runs on a node only if it was loaded there. */
static int put_loads(rm_child *child, const rm_call *call, size_t before) {
  for (; child->loads_from < before; child->loads_from++) {
    if ((call->request.marks[child->loads_from].flags & RM_CALL_AGAIN) == 0) continue;
    if (put_raw(child, call, child->loads_from, RM_CALL_HIDDEN | RM_CALL_REPEATABLE) != 0) return REDMOON_ENOMEM;
  }
  return 0;
}

static int put_asking(rm_child *child) {
  static const char *const asking[] = {"ASKING"};
  return rm_request_argv(&child->call.request, 1, asking, NULL, RM_CALL_HIDDEN | RM_CALL_REPEATABLE,
                         rm_command_find("ASKING", 6, NULL, 0)->index);
}

static int put(rm_call *call, rm_part *part, rm_node *node) {
  rm_child *child = child_of(call, node);
  if (child == NULL || put_loads(child, call, part->mark) != 0) return REDMOON_ENOMEM;
  if (part->asking && put_asking(child) != 0) return REDMOON_ENOMEM;
  unsigned flags = call->request.marks[part->mark].flags;
  if (part->keys != NULL ? put_keys(child, call, part) != 0 : put_raw(child, call, part->mark, flags) != 0) return REDMOON_ENOMEM;
  child->call.blocks |= (flags & RM_CALL_BLOCKING) != 0;
  part->child = child;
  part->at = (uint32_t)child->call.request.count - 1;
  return 0;
}

/* A round. */

/* RM_DONE: every pending part has a child; RM_WAIT for the nodes to become known; or negative. */
static int assign(rm_call *call) {
  rm_scatter *self = call->scatter;
  redmoon_error *err = &call->op.error;
  rm_route *route = call->op.client->core->route;
  rm_node *node = NULL;
  int rc = rm_route_pick(route, &(rm_target){0}, &call->borrow.wait, &node, err); /* whether anything is known at all */
  if (rc != RM_DONE) return rc;
  if ((rc = expand(call)) != 0) return rc;
  for (size_t i = 0; i < self->count; i++) {
    rm_part *part = &self->parts[i];
    if (part->state != PENDING) continue;
    node = part->node;
    if (node == NULL && (rc = rm_route_pick(route, &part->target, &call->borrow.wait, &node, err)) != RM_DONE) return rc;
    if (put(call, part, node) != 0) return rm_fail_nomem(err);
  }
  return RM_DONE;
}

static int begin_round(rm_call *call) {
  rm_scatter *self = call->scatter;
  int rc = assign(call);
  if (rc != RM_DONE) return rc;
  rc = rm_gather_open(&self->gather, self->child_count, &call->op.error);
  if (rc != 0) return rc;
  for (size_t i = 0; i < self->child_count; i++) rm_gather_set(&self->gather, i, &self->children[i]->call.op);
  self->state = ROUND;
  self->failed = self->refused = false;
  self->hops = 0;
  return RM_DONE;
}

/* Taking what came of it. */

static void lose(rm_scatter *self, rm_part *part, const redmoon_error *why) {
  part->state = LOST;
  if (self->failure.status == 0) self->failure = *why;
}

static redmoon_reply *error_reply(rm_call *call, const redmoon_error *err) {
  char text[600];
  int len = snprintf(text, sizeof text, "%s %s", err->code, err->message);
  redmoon_reply *reply = rm_arena_alloc(&call->arena, sizeof *reply);
  if (reply == NULL) return NULL;
  *reply = (redmoon_reply){.type = REDMOON_ERROR, .len = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1};
  reply->as.text = rm_arena_strndup(&call->arena, text, reply->len);
  return reply->as.text != NULL ? reply : NULL;
}

static void answer(rm_part *part, redmoon_reply *reply) {
  part->state = ANSWERED;
  part->outcome = REDMOON_ANSWERED;
  part->reply = reply;
}

static void redirected(rm_call *call, rm_part *part, redmoon_reply *reply) {
  rm_scatter *self = call->scatter;
  redmoon_error err = {0};
  rm_node *node = NULL;
  part->asking = false;
  if (++part->hops > RM_HOPS_MAX) (void)rm_redirect_fail(reply, &err);
  else node = rm_redirect_follow(call, reply, part->child->node, &err);
  if (node == NULL) {
    redmoon_reply *shown = error_reply(call, &err);
    if (shown != NULL) answer(part, shown);
    else lose(self, part, &err);
    return;
  }
  part->asking = rm_redirect_kind(reply) == RM_ASK;
  part->node = part->asking ? node : NULL;
  part->outcome = REDMOON_NOT_SENT;
  if (part->hops > self->hops) self->hops = part->hops;
}

/* Of a child's commands the last one first: what was executed behind a refused one must not be overtaken by it. */
static void take(rm_call *call, rm_child *child, int64_t now_us) {
  rm_scatter *self = call->scatter;
  unsigned char executed[RM_SLOTS / 8] = {0};
  const redmoon_error *why = &child->call.op.error;
  bool failed = child->call.op.status < 0;
  bool again = failed && rm_call_is_transient(why) && rm_call_may_repeat(&child->call) &&
               (call->attempt <= call->max_retries || rm_call_may_outlast(call, why));
  self->failed |= failed;
  /* That there was no time for another attempt says less than what the last one came to. */
  bool late = failed && why->status == REDMOON_ETIMEOUT && why->phase == REDMOON_PHASE_POOL && self->cause.status != 0;
  if (failed && !late) self->cause = *why;
  if (late) why = &self->cause;
  for (size_t i = self->count; i-- > 0;) {
    rm_part *part = &self->parts[i];
    if (part->state != PENDING || part->child != child) continue;
    const rm_result *result = &child->call.results[part->at];
    unsigned bit = 1u << (part->target.slot & 7);
    unsigned char *seen = part->target.keyed ? &executed[part->target.slot / 8] : NULL;
    bool tried = part->at < child->call.results_cap; /* else there was no memory for any result */
    if (!tried || result->reply == NULL) {
      part->outcome = tried ? result->outcome : REDMOON_NOT_SENT;
      part->target.read = false; /* a replica may be what failed */
      if (!again) lose(self, part, why);
      continue;
    }
    part->reply = result->reply;
    if (part->reply->type != REDMOON_ERROR) {
      answer(part, part->reply);
      if (seen != NULL) *seen |= (unsigned char)bit;
    } else if (rm_redirect_kind(result->reply) != RM_NOT_REDIRECTED) {
      redirected(call, part, result->reply);
    } else if (rm_reply_is_refusal(result->reply) && (seen == NULL || (*seen & bit) == 0)) {
      self->refused = true;
      part->outcome = REDMOON_NOT_SENT;
      if (rm_reply_is_error(result->reply, "READONLY")) rm_pool_purge(child->node->pool, RM_CLOSE_FAILOVER, now_us);
    } else {
      answer(part, result->reply);
      if (seen != NULL) *seen |= (unsigned char)bit;
    }
  }
  rm_arena_absorb(&call->arena, &child->call.arena);
}

static bool is_left(const rm_scatter *self) {
  for (size_t i = 0; i < self->count; i++)
    if (self->parts[i].state == PENDING) return true;
  return false;
}

/* Whatever is still pending will not be tried again: the deadline is too near. */
static void end_pending(rm_call *call, const redmoon_error *why) {
  rm_scatter *self = call->scatter;
  for (size_t i = 0; i < self->count; i++) {
    rm_part *part = &self->parts[i];
    if (part->state != PENDING) continue;
    if (part->reply != NULL && rm_reply_is_refusal(part->reply)) answer(part, part->reply);
    else lose(self, part, why);
  }
}

static void pause_or_end(rm_call *call, const redmoon_error *why, int64_t now_us) {
  rm_scatter *self = call->scatter;
  int64_t delay_us = 0;
  if (self->refused) delay_us = rm_call_refusal_us(call, self->refusals++);
  if (self->failed || self->hops > RM_HOPS_AT_ONCE) delay_us = rm_max64(delay_us, rm_call_backoff_us(call));
  redmoon_error late;
  if (why == NULL && self->failed) why = &self->cause;
  if (why == NULL) {
    why = &late;
    rm_fail_phase(&late, REDMOON_ETIMEOUT, REDMOON_PHASE_BACKOFF, "the call's deadline was over before every node had executed its part (timeout %lld ms)",
                  (long long)(call->op.client->settings.timeout_us / 1000));
  }
  if (delay_us >= call->deadline_us - now_us) {
    end_pending(call, why);
    return;
  }
  if (self->failed || self->refused) rm_route_suspect(call->op.client->core->route);
  if (self->failed || self->refused)
    atomic_fetch_add_explicit(&call->op.client->core->metrics.retries, 1, memory_order_relaxed);
  self->state = PAUSE;
  call->backoff_until_us = now_us + delay_us;
}

static void collect(rm_call *call, int64_t now_us) {
  rm_scatter *self = call->scatter;
  for (size_t i = 0; i < self->child_count; i++) take(call, self->children[i], now_us);
  free_children(self);
  if (self->failed) rm_route_suspect(call->op.client->core->route);
  if (self->failed) call->attempt++;
  if (is_left(self)) pause_or_end(call, NULL, now_us);
}

/* No round could begin: nothing of it was sent. */
static void could_not_begin(rm_call *call, int64_t now_us) {
  rm_scatter *self = call->scatter;
  redmoon_error why = call->op.error;
  free_children(self);
  bool again = rm_call_is_transient(&why) && (call->attempt++ <= call->max_retries || rm_call_may_outlast(call, &why));
  self->failed = true;
  self->refused = false;
  if (again) pause_or_end(call, &why, now_us);
  else end_pending(call, &why);
}

/* The results of the call. */

static redmoon_outcome outcome_of(const rm_part *parts, size_t count) {
  size_t answered = 0;
  for (size_t i = 0; i < count; i++) {
    if (parts[i].outcome == REDMOON_UNKNOWN) return REDMOON_UNKNOWN;
    answered += parts[i].outcome == REDMOON_ANSWERED;
  }
  if (answered == 0) return REDMOON_NOT_SENT;
  return answered == count ? REDMOON_ANSWERED : REDMOON_UNKNOWN; /* some of its keys, or some of the nodes */
}

/* 0 or NOMEM. */
static int fill_results(rm_call *call) {
  static redmoon_reply loaded = {.type = REDMOON_STATUS, .len = 2, .as = {.text = (char *)(uintptr_t) "OK"}};
  rm_scatter *self = call->scatter;
  for (size_t mark = 0; mark < call->request.count; mark++)
    if ((call->request.marks[mark].flags & RM_CALL_AGAIN) != 0) call->results[mark] = (rm_result){&loaded, REDMOON_ANSWERED};
  for (size_t i = 0, end; i < self->count; i = end) {
    const rm_part *parts = &self->parts[i];
    bool whole = true;
    for (end = i; end < self->count && self->parts[end].mark == parts->mark; end++) whole &= self->parts[end].state == ANSWERED;
    rm_result *result = &call->results[parts->mark];
    *result = (rm_result){NULL, outcome_of(parts, end - i)};
    if (!whole) continue;
    if (rm_merge(parts, end - i, parts->argc, &call->arena, &result->reply) != 0) return REDMOON_ENOMEM;
    call->saw_error |= result->reply->type == REDMOON_ERROR;
  }
  return 0;
}

static int finish(rm_call *call) {
  rm_scatter *self = call->scatter;
  if (fill_results(call) != 0) {
    rm_fail_nomem_answered(&call->op.error);
    return REDMOON_ENOMEM;
  }
  if (self->failure.status == 0) {
    call->answered = call->request.count;
    return RM_DONE;
  }
  call->op.error = self->failure;
  bool harmless = true;
  redmoon_outcome outcome = REDMOON_NOT_SENT;
  for (size_t i = 0; i < call->request.count; i++) {
    if (call->results[i].outcome != REDMOON_UNKNOWN) continue;
    outcome = REDMOON_UNKNOWN;
    harmless &= (call->request.marks[i].flags & RM_CALL_REPEATABLE) != 0;
  }
  call->op.error.outcome = outcome;
  call->op.error.retryable = harmless && (rm_call_is_transient(&self->failure) || self->failure.status == REDMOON_EPOOL_TIMEOUT);
  return self->failure.status;
}

int rm_scatter_step(rm_call *call, int64_t now_us) {
  rm_scatter *self = call->scatter;
  for (;;) {
    if (self->state == PAUSE) {
      call->op.wants = (rm_wants){-1, 0, call->backoff_until_us};
      if (now_us < call->backoff_until_us) return RM_WAIT;
      self->state = START;
    }
    if (self->state == START) {
      if (call->attempt == 0) call->attempt = 1;
      if (!is_left(self)) return finish(call);
      int rc = begin_round(call);
      if (rc == RM_WAIT && now_us < call->deadline_us) {
        call->op.wants = (rm_wants){call->borrow.wait.event.fd, REDMOON_WANT_READ, call->deadline_us};
        return RM_WAIT;
      }
      if (rc == RM_WAIT) {
        rm_route_unwait(call->op.client->core->route, &call->borrow.wait);
        char trouble[RM_TROUBLE_SIZE];
        rm_route_trouble(call->op.client->core->route, trouble);
        rc = rm_fail_phase(&call->op.error, REDMOON_ETIMEOUT, REDMOON_PHASE_DIAL,
                           "the call's deadline was over before it was known which nodes to ask%s", trouble);
        end_pending(call, &call->op.error);
      } else if (rc < 0) {
        could_not_begin(call, now_us);
      }
      if (rc < 0) continue;
    }
    if (self->state == ROUND) {
      if (rm_gather_step(&self->gather, now_us, &call->op.wants) > 0) return RM_WAIT;
      self->state = START;
      collect(call, now_us);
    }
  }
}

void rm_scatter_give_up(rm_call *call) {
  rm_scatter *self = call->scatter;
  if (self == NULL) return;
  rm_route_unwait(call->op.client->core->route, &call->borrow.wait);
  for (size_t i = 0; i < self->child_count; i++) {
    if (self->gather.members != NULL) rm_gather_unset(&self->gather, i);
    rm_call_give_up(&self->children[i]->call);
  }
  for (size_t i = 0; i < self->count; i++) {
    rm_part *part = &self->parts[i];
    if (part->state != PENDING || part->child == NULL || self->child_count == 0) continue;
    const rm_call *child = &part->child->call;
    /* Answers that nobody took are answers that nobody has seen. */
    if (part->at < child->results_cap && part->at < child->request.count)
      part->outcome = child->results[part->at].reply != NULL ? REDMOON_UNKNOWN : child->results[part->at].outcome;
  }
  for (size_t i = 0; i < self->count; i++)
    if (self->parts[i].state == PENDING) self->parts[i].state = LOST;
  free_children(self);
  (void)fill_results(call);
}

void rm_scatter_free(rm_call *call) {
  rm_scatter *self = call->scatter;
  if (self == NULL) return;
  free_children(self);
  rm_free(self->children);
  rm_free(self->parts);
  rm_free(self);
  call->scatter = NULL;
}
