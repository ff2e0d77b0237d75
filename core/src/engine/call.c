/* SPDX-License-Identifier: MIT */
/* Calls: built, stepped, taken apart.  See call.h for the state machine. */
#include "engine/call.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/call_internal.h"
#include "engine/mux.h"
#include "engine/plan.h"
#include "engine/redirect.h"

#include <stdio.h>

#define KEEP_BYTES ((size_t)64 << 10) /* memory that an idle call keeps of a large one */
#define KEEP_RESULTS ((size_t)1024)

static void destroy(redmoon_op *op) {
  rm_call_fini((rm_call *)op);
  rm_free(op);
}

static const rm_op_class call_class = {rm_call_step, NULL, destroy, rm_call_outcome};

void rm_call_init(rm_call *call, redmoon_client *client, bool own) {
  call->op.class = &call_class;
  call->op.client = own ? redmoon_client_ref(client) : client;
  call->own = own;
  rm_request_init(&call->request);
  call->results = &call->one;
  call->results_cap = 1;
  call->borrow.lease.event = (rm_event)RM_EVENT_INIT;
  rm_call_reset(call);
}

/* In a forked child whatever the pool's lock guards may be half-changed: it is to know before it is asked anything. */
static void heed_fork(const rm_call *call) { rm_core_check_fork(call->op.client->core); }

void rm_call_give_up(rm_call *call) {
  if (call->state != CALL_IDLE && call->state != CALL_ENDED) {
    if (call->state == CALL_EXCHANGE) rm_exchange_judge(call);
    heed_fork(call);
    if (call->state == CALL_SCATTER) rm_scatter_give_up(call);
    if (call->slot != NULL) rm_mux_leave(call, rm_clock_now_us());
    rm_borrow_cancel(&call->borrow, call->op.client->core, rm_clock_now_us());
  }
  call->state = CALL_ENDED;
  rm_mux_exit(call);
}

void rm_call_reset(rm_call *call) {
  rm_call_give_up(call);
  rm_scatter_free(call);
  rm_request_reset(&call->request, KEEP_BYTES);
  rm_arena_reset(&call->arena, KEEP_BYTES);
  if (call->results_cap > KEEP_RESULTS) {
    rm_free(call->results);
    call->results = &call->one;
    call->results_cap = 1;
  }
  const rm_settings *settings = &call->op.client->settings;
  call->op.status = RM_WAIT;
  call->max_retries = settings->max_retries;
  call->borrow.pool_left_us = settings->pool_timeout_us;
  call->script = (redmoon_bytes){NULL, 0};
  call->answered = call->sent = call->maybe_sent = call->resumed = call->again = 0;
  call->state = CALL_IDLE;
  call->attempt = call->hops = call->refusals = 0;
  call->borrow.target = (rm_target){0};
  call->borrow.pinned = call->ask = NULL;
  call->asking = call->asking && rm_call_is_holding(call); /* a connection that is kept goes on as it began */
  call->saw_error = call->redialled = call->was_unknown = call->hold = call->whole = call->blocks = false;
}

void rm_call_release(rm_call *call, bool reusable, int64_t now_us) {
  if (!rm_call_is_holding(call)) return;
  heed_fork(call);
  if (reusable)
    rm_pool_release(&call->borrow.lease, now_us);
  else
    rm_pool_discard(&call->borrow.lease, RM_CLOSE_DIRTY, now_us);
}

void rm_call_fini(rm_call *call) {
  heed_fork(call);
  rm_scatter_free(call);
  if (call->slot != NULL) rm_mux_leave(call, rm_clock_now_us());
  rm_mux_exit(call);
  rm_borrow_cancel(&call->borrow, call->op.client->core, rm_clock_now_us());
  rm_lease_fini(&call->borrow.lease);
  rm_request_fini(&call->request);
  rm_arena_fini(&call->arena);
  if (call->results != &call->one) rm_free(call->results);
  if (call->own) redmoon_client_close(call->op.client);
  call->own = false;
}

/* Building. */

static const char *instead_of(const rm_command *command) {
  static const char *const table[][2] = {
      {"MULTI", "a transaction"},      {"EXEC", "a transaction"},       {"DISCARD", "a transaction"},
      {"WATCH", "a transaction"},      {"UNWATCH", "a transaction"},    {"SELECT", "the option 'database'"},
      {"AUTH", "the option 'password'"}, {"HELLO", "the option 'protocol'"}, {"CLIENT SETNAME", "the option 'client_name'"},
      {"READONLY", "the option 'read_from'"}, {"SUBSCRIBE", "a subscription"},  {"PSUBSCRIBE", "a subscription"},
      {"SSUBSCRIBE", "a subscription"}};
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    if (strcmp(table[i][0], command->name) == 0) return table[i][1];
  return "a connection of your own";
}

void rm_call_take_back(rm_call *call) {
  rm_request *request = &call->request;
  request->count--;
  request->bytes.tail = request->bytes.head + (request->count > 0 ? request->marks[request->count - 1].end : 0);
}

int rm_call_end(rm_call *call, const rm_command *command, unsigned flags, redmoon_error *err) {
  if ((command->flags & RM_COMMAND_READ) != 0 || call->op.client->settings.idempotent) flags |= RM_CALL_REPEATABLE;
  if ((command->flags & RM_COMMAND_BLOCKING) != 0) {
    flags |= RM_CALL_BLOCKING;
    call->blocks = true;
  }
  if (rm_request_end(&call->request, flags, command->index) != 0) return rm_fail_nomem(err);
  if ((command->flags & RM_COMMAND_CONNECTION) == 0) return 0;
  rm_call_take_back(call);
  return rm_fail(err, REDMOON_ECONFIG, "%s changes the state of its connection, which goes back to a pool; use %s instead",
                 command->name, instead_of(command));
}

int rm_call_argv(rm_call *call, int argc, const char *const *argv, const size_t *lens, unsigned flags,
                 redmoon_error *err) {
  if (argc < 1) return rm_fail(err, REDMOON_ECONFIG, "a command needs its name: argc is %d", argc);
  for (int i = 0; i < argc; i++)
    if (argv[i] == NULL && (lens == NULL || lens[i] != 0))
      return rm_fail(err, REDMOON_ECONFIG, "argument %d of the command is NULL", i);
  size_t len = lens != NULL ? lens[0] : strlen(argv[0]);
  size_t sub_len = argc < 2 ? 0 : lens != NULL ? lens[1] : strlen(argv[1]);
  const rm_command *command = rm_command_find(argv[0], len, argc < 2 ? NULL : argv[1], sub_len);
  rm_request_begin(&call->request, (size_t)argc);
  for (int i = 0; i < argc; i++) rm_request_arg(&call->request, argv[i], lens != NULL ? lens[i] : strlen(argv[i]));
  return rm_call_end(call, command, flags, err);
}

int rm_call_evalsha(rm_call *call, const char *sha1, const redmoon_script_args *args, unsigned flags,
                    redmoon_error *err) {
  rm_request *request = &call->request;
  rm_request_begin(request, 3 + args->key_count + args->arg_count);
  rm_request_text(request, "EVALSHA");
  rm_request_arg(request, sha1, 40);
  rm_request_integer(request, (int64_t)args->key_count);
  for (size_t i = 0; i < args->key_count; i++) rm_request_arg(request, args->keys[i].ptr, args->keys[i].len);
  for (size_t i = 0; i < args->arg_count; i++) rm_request_arg(request, args->args[i].ptr, args->args[i].len);
  return rm_call_end(call, rm_command_find("EVALSHA", 7, NULL, 0), flags, err);
}

int rm_call_script_load(rm_call *call, const void *source, size_t len, redmoon_error *err) {
  rm_request_begin(&call->request, 3);
  rm_request_text(&call->request, "SCRIPT");
  rm_request_text(&call->request, "LOAD");
  rm_request_arg(&call->request, source, len);
  return rm_call_end(call, rm_command_find("SCRIPT", 6, "LOAD", 4), RM_CALL_HIDDEN | RM_CALL_REPEATABLE | RM_CALL_AGAIN, err);
}

size_t rm_call_args(const rm_call *call, size_t index, redmoon_bytes *args, size_t max) {
  return rm_request_args(&call->request, index, args, max);
}

/* Running. */

static int prepare(rm_call *call, int64_t now_us) {
  size_t count = call->request.count;
  if (count > call->results_cap) {
    rm_result *results = rm_calloc(count, sizeof *results);
    if (results == NULL) return rm_fail_nomem(&call->op.error);
    if (call->results != &call->one) rm_free(call->results);
    call->results = results;
    call->results_cap = count;
  }
  for (size_t i = 0; i < count; i++) call->results[i] = (rm_result){NULL, REDMOON_NOT_SENT};
  call->started_us = now_us;
  call->block_us = call->blocks ? rm_call_block_us(call) : 0;
  int64_t timeout_us = call->op.client->settings.timeout_us;
  if (call->fixed_deadline_us != 0)
    call->deadline_us = call->fixed_deadline_us;
  else if (call->block_us > RM_FOREVER - now_us - timeout_us)
    call->deadline_us = RM_FOREVER;
  else
    call->deadline_us = now_us + timeout_us + call->block_us;
  call->began_held = rm_call_is_holding(call);
  call->pid = call->op.client->core->pid;
  return 0;
}

/* A thread that blocks in one operation can have no other under way; one that steps many is nobody in particular. */
uintptr_t rm_call_owner(const rm_call *call) {
  if (call->op.owner != 0) return call->op.owner;
  return call->op.may_block ? (uintptr_t)pthread_self() : 0;
}

/* What the attempt before this one came to says more than that there is no time for another. */
static int no_time(rm_call *call) {
  const redmoon_error last = call->op.error;
  rm_fail_phase(&call->op.error, REDMOON_ETIMEOUT, REDMOON_PHASE_POOL, "the deadline was over before a connection was asked for%s%.300s",
                last.status != 0 ? "; the last attempt: " : "", last.status != 0 ? last.message : "");
  memcpy(call->op.error.address, last.address, sizeof last.address);
  return REDMOON_ETIMEOUT;
}

static int begin_attempt(rm_call *call, int64_t now_us) {
  call->attempt++;
  call->state = CALL_BORROW; /* of a connection of its own, or of a shared one */
  /* A dial that had no time would hold off those of other calls. */
  if (now_us >= call->deadline_us) return no_time(call);
  if (rm_call_is_holding(call)) return RM_DONE;
  if (call->asking) call->borrow.pinned = NULL; /* once */
  call->asking = call->ask != NULL;
  if (call->asking) call->borrow.pinned = call->ask;
  call->ask = NULL;
  if (call->attempt > 1) call->borrow.target.read = false; /* a replica may be what failed */
  if (rm_mux_join(call, now_us)) {
    call->state = CALL_SHARED;
    return RM_WAIT;
  }
  call->borrow.lease.keeps = call->hold;
  return rm_borrow_start(&call->borrow, call->op.client->core, rm_call_owner(call), now_us, call->deadline_us,
                         &call->op.error);
}

/* Every command was answered: the connection goes back, and what the replies say about the server is heeded. */
static int answered(rm_call *call, int64_t now_us) {
  if (call->saw_error || call->whole) { /* of an EXEC the errors are inside its reply */
    rm_call_check_readonly(call, now_us);
    int rc = rm_call_reply_retries(call, now_us);
    if (rc != RM_DONE) return rc;
  }
  if (rm_call_is_holding(call)) {
    rm_reader_trim(call->borrow.lease.conn->reader);
    if (!call->hold) rm_pool_release(&call->borrow.lease, now_us);
  }
  return RM_DONE;
}

static bool is_failure(const redmoon_reply *reply) { return reply == NULL || reply->type == REDMOON_ERROR; }

static void emit_command(rm_call *call, const rm_mark *last, size_t visible, int status, int64_t now_us) {
  redmoon_event event = {.kind = REDMOON_EVENT_COMMAND, .reason = "", .attempt = call->attempt};
  event.command = visible == 1 ? rm_command_at(last->tag)->name : "PIPELINE";
  event.address = call->borrow.node != NULL ? call->borrow.node->name : "";
  event.duration_us = now_us - call->started_us;
  redmoon_error answer;
  event.error = status < 0 ? &call->op.error : NULL;
  if (status == RM_DONE && visible == 1 && call->saw_error) {
    const redmoon_reply *reply = call->results[last - call->request.marks].reply;
    if (is_failure(reply)) {
      rm_fail_server(&answer, reply->as.text, reply->len);
      event.error = &answer;
    }
  }
  rm_hooks_emit(&call->op.client->core->hooks, &event);
}

/* Counts what ended.  A latency belongs to a command that travelled alone. */
static void report(rm_call *call, int status, int64_t now_us) {
  if (call->part) return;
  rm_core *core = call->op.client->core;
  const rm_mark *marks = call->request.marks, *last = NULL;
  size_t count = call->request.count, visible = 0;
  for (size_t i = 0; i < count; i++) {
    if ((marks[i].flags & RM_CALL_HIDDEN) != 0) continue;
    visible++;
    last = &marks[i];
    if (count > 1) rm_metrics_command(&core->metrics, last->tag, -1, is_failure(call->results[i].reply));
  }
  if (last == NULL) return;
  if (count == 1) rm_metrics_command(&core->metrics, last->tag, now_us - call->started_us, is_failure(call->results[0].reply));
  if (rm_hooks_wants(&core->hooks, REDMOON_EVENT_COMMAND)) emit_command(call, last, visible, status, now_us);
}

static int end(rm_call *call, int status, int64_t now_us) {
  call->state = CALL_ENDED;
  rm_mux_exit(call);
  if (status == RM_DONE) {
    now_us = rm_clock_now_us();
    if (call->op.error.status != 0) rm_error_clear(&call->op.error); /* of an attempt before the one that went well */
  }
  call->op.error.attempts = call->attempt;
  report(call, status, now_us);
  return status;
}

/* Gives up with op.error, in whatever state it is. */
static int give_up_with_error(rm_call *call, int64_t now_us) {
  if (call->state == CALL_EXCHANGE)
    rm_exchange_fail(call, RM_CLOSE_SHUTDOWN, now_us);
  else if (call->state == CALL_SCATTER)
    rm_scatter_give_up(call);
  else if (call->slot != NULL)
    rm_mux_leave(call, now_us);
  else
    rm_borrow_cancel(&call->borrow, call->op.client->core, now_us);
  return rm_call_attempt_failed(call, now_us);
}

int rm_call_step(redmoon_op *op, int64_t now_us) {
  rm_call *call = (rm_call *)op;
  rm_core *core = op->client->core;
  int rc = RM_WAIT;
  rm_core_check_fork(core);
  if (call->state == CALL_IDLE) {
    rm_error_clear(&op->error);
    if ((rc = prepare(call, now_us)) < 0) return rc;
    if (call->request.count == 0) return RM_DONE;
    bool planned = call->began_held || call->borrow.pinned != NULL || !rm_route_minds_requests(core->route);
    if (!planned && (rc = rm_call_plan(call)) < 0) return end(call, rc, now_us);
    rm_mux_enter(call);
    call->state = CALL_BACKOFF; /* one that is over: the first attempt begins below */
    call->backoff_until_us = now_us;
  }
  if (call->pid != core->pid) { /* not a byte more of what is the parent's: it goes on with it */
    rm_fail(&op->error, REDMOON_ECLOSED, "the operation was begun by the parent process, before fork()");
    return end(call, give_up_with_error(call, now_us), now_us);
  }
  if (atomic_load_explicit(&core->closed, memory_order_relaxed)) {
    rm_fail_closed(&op->error);
    return end(call, give_up_with_error(call, now_us), now_us);
  }
  if (call->scatter != NULL) {
    call->state = CALL_SCATTER;
    rc = rm_scatter_step(call, now_us);
    return rc == RM_WAIT ? RM_WAIT : end(call, rc, now_us);
  }
  for (;;) {
    switch (call->state) {
      case CALL_BACKOFF:
        if (now_us < call->backoff_until_us) {
          op->wants = (rm_wants){-1, 0, call->backoff_until_us};
          return RM_WAIT;
        }
        rc = begin_attempt(call, now_us);
        if (rc == RM_DONE) rm_exchange_begin(call, now_us);
        break;
      case CALL_BORROW:
        rc = rm_borrow_step(&call->borrow, core, now_us, call->deadline_us, &op->wants, &op->error);
        if (rc == RM_WAIT) return RM_WAIT;
        if (rc == RM_DONE) rm_exchange_begin(call, now_us);
        break;
      default:
        rc = call->state == CALL_SHARED ? rm_mux_step(call, now_us) : rm_exchange_step(call, now_us);
        if (rc == RM_WAIT) return RM_WAIT;
        if (rc == RM_DONE) {
          rc = answered(call, now_us);
          if (rc == RM_DONE) return end(call, RM_DONE, now_us);
        }
        break;
    }
    if (rc < 0 && (rc = rm_call_attempt_failed(call, now_us)) < 0) return end(call, rc, now_us);
  }
}

/* On a connection that is kept there is no going elsewhere: whoever keeps it begins anew. */
static void moved_away(rm_call *call, const redmoon_reply *answer, redmoon_error *err) {
  redmoon_error ignored;
  if (call->borrow.node == NULL || !rm_route_is_cluster(call->op.client->core->route)) return;
  (void)rm_redirect_follow(call, answer, call->borrow.node, &ignored);
  err->outcome = REDMOON_NOT_SENT;
  err->retryable = 1;
}

int rm_call_take_reply(rm_call *call, size_t index, redmoon_reply **reply, redmoon_error *err) {
  const redmoon_reply *answer = call->results[index].reply;
  if (answer->type == REDMOON_ERROR) {
    int rc = rm_fail_server(err, answer->as.text, answer->len);
    if (err != NULL && rm_redirect_kind(answer) != RM_NOT_REDIRECTED) moved_away(call, answer, err);
    if (err != NULL) {
      err->attempts = call->attempt;
      snprintf(err->address, sizeof err->address, "%s", call->borrow.node != NULL ? call->borrow.node->name : "");
    }
    return rc;
  }
  if (rm_reply_detach(answer, &call->arena, reply) == 0) return 0;
  rm_fail_nomem_answered(err);
  if (err != NULL) err->attempts = call->attempt;
  return REDMOON_ENOMEM;
}
