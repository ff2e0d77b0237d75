/* SPDX-License-Identifier: MIT */
/* Keys -> slots -> parts.
 *
 *      one command with keys of one slot, or none ----------------------> target of the call
 *      a transaction, or anything on a connection that is kept: one slot -^
 *      more than one command, or one that is spread ---------------------> parts of a scatter */
#include "engine/plan.h"

#include "base/alloc.h"
#include "base/error.h"
#include "engine/call_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_SLOT = RM_SLOT_ANY };

/* A key and where it stands, for sorting by slot. */
typedef struct place {
  uint32_t index; /* among the arguments */
  uint16_t slot;
} place;

/* The arguments of command `index`: in `few` if they fit, else in the arena.  NULL without memory. */
static const redmoon_bytes *arguments(rm_call *call, size_t index, redmoon_bytes *few, size_t cap, size_t *argc) {
  *argc = rm_call_args(call, index, few, cap);
  if (*argc <= cap) return few;
  redmoon_bytes *all = rm_arena_alloc(&call->arena, *argc * sizeof *all);
  if (all != NULL) rm_call_args(call, index, all, *argc);
  return all;
}

static size_t key_at(const rm_key_span *span, size_t i) {
  if (span->extra == 0) return span->first + i * span->step;
  return i == 0 ? span->extra : span->first + (i - 1) * span->step;
}

static size_t key_count(const rm_key_span *span) { return span->count + (span->extra != 0); }

int rm_fail_cross_slot(redmoon_error *err, const char *what, const redmoon_bytes *a, const redmoon_bytes *b) {
  char one[80], other[80];
  rm_escape(one, sizeof one, a->ptr, a->len);
  rm_escape(other, sizeof other, b->ptr, b->len);
  rm_fail(err, REDMOON_ECONFIG,
          "%s: the keys '%s' and '%s' are in different slots of the cluster, so no node can serve both at once; keys that belong "
          "together have the same {tag} in their names",
          what, one, other);
  if (err != NULL) snprintf(err->code, sizeof err->code, "CROSSSLOT");
  return REDMOON_ECONFIG;
}

static int by_slot(const void *a, const void *b) {
  const place *x = a, *y = b;
  if (x->slot != y->slot) return x->slot < y->slot ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

/* A key without its value: in the words of a server that is alone, where one of a cluster would speak of slots. */
static int fail_ragged(redmoon_error *err, const rm_command *command) {
  char text[96];
  int len = snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command", command->name);
  rm_fail_server(err, text, (size_t)len);
  err->outcome = REDMOON_NOT_SENT;
  return REDMOON_ESERVER;
}

/* A part for each slot of the keys.  The arguments are kept beside them: to be read once, not for every part. */
static int split(rm_call *call, size_t mark, const redmoon_bytes *args, const rm_key_span *span, rm_part part) {
  size_t count = key_count(span);
  place *places = rm_arena_alloc(&call->arena, count * sizeof *places);
  uint32_t *indexes = rm_arena_alloc(&call->arena, count * sizeof *indexes);
  redmoon_bytes *kept = rm_arena_alloc(&call->arena, part.argc * sizeof *kept);
  if (places == NULL || indexes == NULL || kept == NULL) return rm_fail_nomem(&call->op.error);
  memcpy(kept, args, part.argc * sizeof *kept);
  part.args = kept;
  for (size_t i = 0; i < count; i++) {
    size_t at = key_at(span, i);
    places[i] = (place){(uint32_t)at, rm_slot_of(args[at].ptr, args[at].len)};
  }
  qsort(places, count, sizeof *places, by_slot);
  part.mark = (uint32_t)mark;
  part.first = (uint32_t)span->first;
  part.step = (uint32_t)span->step;
  for (size_t i = 0, end; i < count; i = end) {
    for (end = i; end < count && places[end].slot == places[i].slot; end++) indexes[end] = places[end].index;
    part.target.slot = places[i].slot;
    part.keys = indexes + i;
    part.key_count = (uint32_t)(end - i);
    if (rm_scatter_add(call, &part) != 0) return rm_fail_nomem(&call->op.error);
  }
  return 0;
}

/* A part for each node. */
static int to_all(rm_call *call, size_t mark, bool replicas, rm_part part) {
  part.mark = (uint32_t)mark;
  part.all = replicas ? RM_ALL_NODES : RM_ALL_PRIMARIES;
  return rm_scatter_add(call, &part) == 0 ? 0 : rm_fail_nomem(&call->op.error);
}

/* The slot of all keys, or NO_SLOT; `mixed`: of two keys that have not the same. */
static uint16_t slot_of(const redmoon_bytes *args, const rm_key_span *span, size_t *mixed) {
  uint16_t slot = NO_SLOT;
  *mixed = 0;
  for (size_t i = 0; i < key_count(span); i++) {
    const redmoon_bytes *key = &args[key_at(span, i)];
    uint16_t own = rm_slot_of(key->ptr, key->len);
    if (i == 0) slot = own;
    else if (own != slot && *mixed == 0) *mixed = i;
  }
  return slot;
}

static bool only_reads(const rm_call *call, size_t mark) {
  const rm_mark *m = &call->request.marks[mark];
  return (rm_command_at(m->tag)->flags & RM_COMMAND_READ) != 0 || (m->flags & RM_CALL_READS) != 0;
}

/* The part or parts of command `mark`; a lone one becomes the target of the call. */
static int plan_one(rm_call *call, size_t mark, rm_spread spread) {
  enum { FEW = 64 };
  redmoon_bytes few[FEW];
  size_t argc, mixed;
  const rm_command *command = rm_command_at(call->request.marks[mark].tag);
  const redmoon_bytes *args = arguments(call, mark, few, FEW, &argc);
  if (args == NULL) return rm_fail_nomem(&call->op.error);
  const rm_key_span span = rm_command_keys(command, args, argc);
  rm_part part = {.mark = (uint32_t)mark, .argc = argc, .target = {.read = only_reads(call, mark)}, .merge = spread.merge};
  uint16_t slot = slot_of(args, &span, &mixed);
  part.target.keyed = slot != NO_SLOT;
  part.target.slot = slot;
  if (spread.to == RM_SPREAD_REFUSED)
    return rm_fail(&call->op.error, REDMOON_ECONFIG, "%s asks one node about itself; in a cluster use a scan, which asks all primaries",
                   command->name);
  if (spread.to == RM_SPREAD_PRIMARIES || spread.to == RM_SPREAD_NODES)
    return to_all(call, mark, spread.to == RM_SPREAD_NODES, part);
  bool ragged = span.step > 1 && (argc - span.first) % span.step != 0;
  if (mixed != 0 && spread.to == RM_SPREAD_KEYS && ragged) return fail_ragged(&call->op.error, command);
  if (mixed != 0 && spread.to == RM_SPREAD_KEYS) return split(call, mark, args, &span, part);
  if (mixed != 0) return rm_fail_cross_slot(&call->op.error, command->name, &args[key_at(&span, 0)], &args[key_at(&span, mixed)]);
  if (call->request.count == 1) {
    call->borrow.target = part.target;
    return 0;
  }
  return rm_scatter_add(call, &part) == 0 ? 0 : rm_fail_nomem(&call->op.error);
}

/* Commands that go to one connection together: their keys have one slot, that of `first` if it is set; it is set to their
 * first key. */
static int together(const rm_request *request, redmoon_bytes *first, const char *what, redmoon_error *err) {
  enum { FEW = 64 };
  redmoon_bytes few[FEW];
  uint16_t slot = first->ptr != NULL ? rm_slot_of(first->ptr, first->len) : NO_SLOT;
  for (size_t mark = 0; mark < request->count; mark++) {
    const rm_command *command = rm_command_at(request->marks[mark].tag);
    size_t argc = rm_request_args(request, mark, few, FEW), mixed;
    redmoon_bytes *args = argc <= FEW ? few : rm_calloc(argc, sizeof *args);
    if (args == NULL) return rm_fail_nomem(err);
    if (argc > FEW) rm_request_args(request, mark, args, argc);
    const rm_key_span span = rm_command_keys(command, args, argc);
    uint16_t own = slot_of(args, &span, &mixed);
    int rc = 0;
    if (what == NULL) what = command->name;
    if (mixed != 0) rc = rm_fail_cross_slot(err, what, &args[key_at(&span, 0)], &args[key_at(&span, mixed)]);
    else if (own != NO_SLOT && slot != NO_SLOT && own != slot) rc = rm_fail_cross_slot(err, what, first, &args[key_at(&span, 0)]);
    if (own != NO_SLOT && slot == NO_SLOT) *first = args[key_at(&span, 0)]; /* points into the request */
    if (own != NO_SLOT) slot = own;
    if (args != few) rm_free(args);
    if (rc != 0) return rc;
  }
  return 0;
}

int rm_check_slots(const redmoon_client *client, const rm_request *request, const redmoon_bytes *key, const char *what,
                   redmoon_error *err) {
  redmoon_bytes first = *key;
  return rm_route_is_cluster(client->core->route) ? together(request, &first, what, err) : 0;
}

static int plan_together(rm_call *call) {
  redmoon_bytes first = {NULL, 0};
  int rc = together(&call->request, &first, call->whole ? "transaction" : NULL, &call->op.error);
  call->borrow.target = (rm_target){.keyed = first.ptr != NULL};
  if (first.ptr != NULL) call->borrow.target.slot = rm_slot_of(first.ptr, first.len);
  return rc;
}

/* Without slots all of it goes to one node: to a replica, perhaps, if it does nothing but read. */
static int plan_reads(rm_call *call) {
  bool reads = !call->hold && !call->whole;
  for (size_t mark = 0; mark < call->request.count && reads; mark++)
    reads = (call->request.marks[mark].flags & RM_CALL_AGAIN) != 0 || only_reads(call, mark);
  call->borrow.target = (rm_target){.read = reads};
  return 0;
}

int rm_call_plan(rm_call *call) {
  if (!rm_route_is_cluster(call->op.client->core->route)) return plan_reads(call);
  if (call->hold || call->whole) return plan_together(call);
  const rm_command *command = NULL; /* pipelines repeat themselves: looked up when it is another one than before */
  rm_spread spread = {RM_SPREAD_NONE, RM_MERGE_SAME};
  for (size_t mark = 0; mark < call->request.count; mark++) {
    const rm_mark *m = &call->request.marks[mark];
    if ((m->flags & RM_CALL_AGAIN) != 0) continue; /* goes wherever what follows goes */
    if (command == NULL || command->index != m->tag) spread = rm_command_spread(command = rm_command_at(m->tag));
    int rc = plan_one(call, mark, spread);
    if (rc != 0) return rc;
  }
  return 0;
}

bool rm_call_first_key(const rm_call *call, redmoon_bytes *key) {
  enum { FEW = 64 }; /* a first key stands behind fewer arguments than that, but for those of XREAD and MIGRATE */
  redmoon_bytes args[FEW];
  for (size_t mark = 0; mark < call->request.count; mark++) {
    size_t argc = rm_call_args(call, mark, args, FEW);
    const rm_key_span span = rm_command_keys(rm_command_at(call->request.marks[mark].tag), args, argc < FEW ? argc : FEW);
    if (key_count(&span) == 0 || key_at(&span, 0) >= FEW) continue;
    *key = args[key_at(&span, 0)];
    return true;
  }
  return false;
}
