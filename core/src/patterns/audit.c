/* SPDX-License-Identifier: MIT */
/* The audit, and the operation that takes it further.
 *
 *      HELLO --> [EXTRAS] --> PAUSE --> SCAN --> LOOKS --+--> a page is counted
 *      INFO,      what INFO     ^                        |
 *      once a     did not say   +---- run: the next -----+--> behind the last: END, INFO again --> done
 *      run
 *
 * Of a cluster NODES stands before each of them: who is asked next.
 *
 *      NODES --+--> HELLO of each primary, once a run
 *        ^     +--> PAUSE --> SCAN --> LOOKS of the one whose turn it is; behind its last page its END
 *        +-----+
 *
 * Nothing but the client outlives a page: no connection is held between two of them, and what fails or is cancelled in the
 * midst of one has counted nothing. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"
#include "engine/script.h"
#include "engine/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIRST_PAUSE_US = 1000, LONGEST_PAUSE_US = 1000000, SHORT_US = 4000, PAGE_KEYS = 50, PAGES_EACH_SECOND = 10 };
enum { STALE_PAUSE_US = 100000, STALE_MAX = 100 };
enum { FILTER_LEAST = 256 << 10, FILTER_MOST = 32 << 20 };

int redmoon_audit_new(redmoon_client *client, const redmoon_audit_options *options, redmoon_audit **out,
                      redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if (rm_random_init() != 0) return rm_fail(err, REDMOON_EUNAVAILABLE, "audit: libsodium could not be started");
  redmoon_audit *audit = rm_calloc(1, sizeof *audit);
  if (audit == NULL) return rm_fail_nomem(err);
  audit->client = redmoon_client_ref(client);
  audit->server = rm_audit_server_unknown;
  snprintf(audit->cursor, sizeof audit->cursor, "0");
  int rc = rm_audit_plan_set(audit, options, err);
  if (rc != 0) {
    redmoon_audit_free(audit);
    return rc;
  }
  *out = audit;
  return 0;
}

void redmoon_audit_free(redmoon_audit *audit) {
  if (audit == NULL) return;
  rm_audit_table_fini(&audit->table);
  rm_audit_filter_fini(&audit->filter);
  rm_audit_nodes_fini(&audit->nodes);
  rm_free(audit->plan.match);
  redmoon_client_close(audit->client);
  rm_free(audit);
}

int redmoon_audit_done(const redmoon_audit *audit) { return audit->done; }

/* How far, how fast. */

/* The server counts its buckets with the bits in reverse, so that the cursor, reversed, only rises, to 2^64. */
double rm_audit_cursor_share(const char *cursor) {
  uint64_t left = strtoull(cursor, NULL, 10), reversed = 0;
  for (int i = 0; i < 64; i++, left >>= 1) reversed = reversed << 1 | (left & 1);
  return ldexp((double)reversed, -64);
}

/* The cursor of a cluster's node also holds a slot: there the keys are counted instead. */
static double share_of(const redmoon_audit *audit) {
  if (audit->nodes.count > 0) return rm_audit_nodes_share(audit);
  if (audit->scanned) return 1;
  if (audit->server.clustered != 1) return rm_audit_cursor_share(audit->cursor);
  if (audit->server.keys <= 0) return 0;
  return fmin(0.99, (double)audit->table.total.keys / (double)audit->server.keys);
}

void redmoon_audit_progress_get(const redmoon_audit *audit, redmoon_audit_progress *out) {
  *out = (redmoon_audit_progress){.keys = audit->table.total.keys, .pages = audit->pages, .left = -1};
  out->share = share_of(audit);
  if (audit->server.keys >= 0) out->left = (int64_t)((1 - out->share) * (double)audit->server.keys);
  out->pause_ms = (audit->pace.pause_us + 999) / 1000;
  if (!audit->ready) return;
  int64_t passed_us = rm_clock_now_us() - audit->began_us;
  out->elapsed_ms = passed_us / 1000;
  double scanned = audit->server.keys >= 0 ? (out->share - audit->share_before) * (double)audit->server.keys
                                           : (double)(out->keys - audit->keys_before);
  if (passed_us > 0) out->rate = scanned * 1e6 / (double)passed_us;
}

int64_t rm_audit_page_size(int64_t count, int64_t max_rate) {
  if (max_rate == 0) return count;
  return rm_min64(count, rm_max64(1, max_rate / PAGES_EACH_SECOND));
}

/* A single page says little, and a short one nothing: what a scheduler does would look like distress.  The best time is
 * forgotten slowly, for a server that stays slower. */
void rm_audit_pace_note(rm_audit_pace *pace, int64_t took_us, int64_t keys) {
  double each = (double)rm_max64(took_us, SHORT_US) / (double)(keys + PAGE_KEYS);
  pace->usual = pace->usual > 0 ? pace->usual + 0.3 * (each - pace->usual) : each;
  pace->best = pace->best > 0 ? fmin(pace->best * 1.001, pace->usual) : pace->usual;
  if (pace->usual >= 2 * pace->best)
    pace->pause_us = rm_min64(rm_max64(2 * pace->pause_us, FIRST_PAUSE_US), LONGEST_PAUSE_US);
  else
    pace->pause_us = pace->pause_us > FIRST_PAUSE_US ? pace->pause_us / 2 : 0;
}

/* The operation. */

typedef enum audit_state { AT_NODES, AT_HELLO, AT_EXTRAS, AT_PAUSE, AT_SCAN, AT_LOOKS, AT_END, AT_DONE } audit_state;

typedef struct audit_op {
  rm_call call; /* first: its op is this one's */
  redmoon_audit *audit;
  rm_audit_page page;
  audit_state state;
  bool sending; /* the call is under way */
  bool all;     /* not one page, but what is left */
  bool counted; /* a page */
  int stale;    /* how often a node was found to be no primary, while the cluster was not known to have another one */
  rm_sweep sweep;      /* of a cluster: until its nodes are known */
  rm_audit_node *node; /* of a cluster: the one that is asked */
  int64_t page_began_us;
} audit_op;

static bool is_cluster(const redmoon_audit *audit) { return rm_route_is_cluster(audit->client->core->route); }

/* Nothing but what this node itself says is asked for: the call is pinned to it. */
static int format_info(const audit_op *self, rm_call *call, redmoon_error *err) {
  int rc = rm_call_argv(call, 1, (const char *const[]){"INFO"}, NULL, RM_CALL_REPEATABLE, err);
  if (rc != 0 || self->node == NULL) return rc;
  return rm_call_argv(call, 2, (const char *const[]){"CLUSTER", "INFO"}, NULL, RM_CALL_REPEATABLE, err);
}

/* Hardly ever: every server says the rest in INFO, unless the user may not read it. */
static int format_extras(const rm_audit_server *server, rm_call *call, redmoon_error *err) {
  int rc = 0;
  if (server->keys < 0) rc = rm_call_argv(call, 1, (const char *const[]){"DBSIZE"}, NULL, RM_CALL_REPEATABLE, err);
  if (rc != 0) return rc;
  return rm_call_argv(call, 3, (const char *const[]){"CONFIG", "GET", "max*"}, NULL, RM_CALL_REPEATABLE, err);
}

/* What is known of the server that is asked. */
static rm_audit_server *server_of(const audit_op *self) {
  return self->node != NULL ? &self->node->server : &self->audit->server;
}

static int format(audit_op *self) {
  redmoon_audit *audit = self->audit;
  rm_call *call = &self->call;
  redmoon_error *err = &call->op.error;
  rm_call_reset(call);
  rm_audit_ask_primary(call);
  if (self->node != NULL) call->borrow.pinned = self->node->route;
  switch (self->state) {
  case AT_EXTRAS: return format_extras(server_of(self), call, err);
  case AT_SCAN:
    return rm_audit_format_scan(call, audit->plan.match, audit->cursor, rm_audit_page_size(audit->count, audit->max_rate),
                                err);
  case AT_LOOKS: return rm_audit_format_looks(audit, &self->page, call, err);
  default: return format_info(self, call, err);
  }
}

/* Answers. */

static void set_clock(redmoon_audit *audit, int64_t server_ms) {
  if (server_ms < 0) { /* not told: only which bucket a cliff is in depends on it */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    server_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
  }
  audit->server_ms = server_ms;
  audit->local_us = rm_clock_now_us();
}

/* The cursor means something to the server that gave it, as long as it runs. */
static void compare_server(redmoon_audit *audit, const rm_audit_server *then, const rm_audit_server *now) {
  audit->changed |= then->run_id[0] != '\0' && now->run_id[0] != '\0' && strcmp(then->run_id, now->run_id) != 0;
  audit->changed |= then->role[0] != '\0' && now->role[0] != '\0' && strcmp(then->role, now->role) != 0;
}

/* Unless its size was given: 10 bytes for each key the server has, so that they may double and it is still wrong for fewer
 * than one in 10^7. */
static int begin_filter(redmoon_audit *audit, redmoon_error *err) {
  int64_t size = audit->plan.filter_bytes, keys = audit->server.keys;
  if (size == REDMOON_UNSET)
    size = keys < 0 || keys > FILTER_MOST / 10 ? FILTER_MOST : rm_max64(10 * keys, FILTER_LEAST);
  return rm_audit_filter_init(&audit->filter, (size_t)size) == 0 ? 0 : rm_fail_nomem(err);
}

static int begin_run(audit_op *self) {
  redmoon_audit *audit = self->audit;
  int rc = audit->began ? 0 : begin_filter(audit, &self->call.op.error);
  if (rc != 0) return rc;
  audit->began = audit->ready = true;
  audit->began_us = rm_clock_now_us();
  audit->keys_before = audit->table.total.keys;
  audit->share_before = share_of(audit);
  return 0;
}

/* The server was asked what it is.  Of a cluster all of them are, before anything is scanned. */
static int get_ready(audit_op *self) {
  if (self->node == NULL) {
    self->state = AT_PAUSE;
    return begin_run(self);
  }
  self->node->asked = true;
  self->node->server_ms = self->audit->server_ms;
  self->node->local_us = self->audit->local_us;
  self->state = AT_NODES;
  return 0;
}

/* INFO of this moment into *server; refused, it stays unknown. */
static int read_info(audit_op *self, rm_audit_server *server, int64_t *clock_ms) {
  const redmoon_reply *reply = self->call.results[0].reply;
  *server = rm_audit_server_unknown;
  *clock_ms = -1;
  if (reply->type == REDMOON_ERROR) {
    if (!rm_audit_is_command_refused(reply)) return rm_fail_server(&self->call.op.error, reply->as.text, reply->len);
    self->audit->info_refused = true;
    return 0;
  }
  const char *text = redmoon_reply_string(reply, NULL);
  if (text == NULL) return rm_fail(&self->call.op.error, REDMOON_EPROTOCOL, "INFO was not answered by a text");
  rm_audit_info_parse(text, self->audit->database, server);
  *clock_ms = rm_audit_info_clock(text);
  return 0;
}

/* How often the cluster had changed, at the begin and since. */
static void note_epoch(const audit_op *self) {
  rm_audit_nodes *nodes = &self->audit->nodes;
  const char *text = redmoon_reply_string(self->call.results[1].reply, NULL);
  int64_t epoch = text != NULL ? rm_audit_info_epoch(text) : 0;
  int64_t *highest = self->audit->began ? &nodes->epoch_end : &nodes->epoch;
  *highest = rm_max64(*highest, epoch);
}

static int take_hello(audit_op *self) {
  redmoon_audit *audit = self->audit;
  rm_audit_server server;
  int64_t clock_ms;
  int rc = read_info(self, &server, &clock_ms);
  if (rc != 0) return rc;
  set_clock(audit, clock_ms);
  if (self->node != NULL) note_epoch(self);
  rm_audit_server *known = server_of(self);
  bool is_new = self->node != NULL ? known->run_id[0] == '\0' && known->keys < 0 : !audit->began;
  if (!is_new) {
    compare_server(audit, known, &server);
    return get_ready(self);
  }
  *known = server;
  if (server.keys >= 0 && server.maxclients >= 0 && server.policy[0] != '\0') return get_ready(self);
  self->state = AT_EXTRAS;
  return 0;
}

static int take_extras(audit_op *self) {
  rm_audit_server *server = server_of(self);
  size_t count = self->call.request.count;
  const redmoon_reply *first = self->call.results[0].reply;
  if (count == 2 && first->type == REDMOON_INTEGER) server->keys = first->as.integer;
  rm_audit_config_parse(self->call.results[count - 1].reply, server);
  return get_ready(self);
}

static int take_looks(audit_op *self, int64_t now_us) {
  redmoon_audit *audit = self->audit;
  size_t keys = self->page.keys->len;
  int64_t moved = audit->moved;
  int rc = rm_audit_count_page(audit, &self->page, &self->call, now_us, &self->call.op.error);
  rm_audit_page_fini(&self->page);
  if (rc != 0) return rc;
  rm_audit_pace_note(&audit->pace, now_us - self->page_began_us, (int64_t)keys);
  audit->not_before_us = now_us + audit->pace.pause_us;
  if (audit->max_rate > 0) {
    int64_t work = rm_max64((int64_t)keys, rm_audit_page_size(audit->count, audit->max_rate));
    audit->not_before_us = rm_max64(audit->not_before_us, self->page_began_us + work * 1000000 / audit->max_rate);
  }
  if (audit->moved > moved) rm_route_suspect(audit->client->core->route);
  self->counted = true;
  if (self->node != NULL) self->node->scanned_keys += (int64_t)keys;
  self->state = audit->scanned ? AT_END : !self->all ? AT_DONE : self->node != NULL ? AT_NODES : AT_PAUSE;
  return 0;
}

static void finish_audit(audit_op *self) {
  self->audit->done = true;
  self->state = AT_DONE;
  rm_client_count(self->audit->client, "audit", "finished");
}

/* Behind the last page of the server, or of one of them. */
static void end_server(audit_op *self) {
  if (self->node == NULL) {
    finish_audit(self);
    return;
  }
  rm_audit_nodes_seen(self->audit);
  self->state = AT_NODES;
}

/* A replica answers SCAN as a primary does, but for its keys it sends elsewhere: the one that has taken its place is to be
 * scanned, as soon as it is known. */
static int await_successor(audit_op *self) {
  if (++self->stale > STALE_MAX)
    return rm_fail(&self->call.op.error, REDMOON_EUNAVAILABLE, "%s is a replica now, and it is not known which primary is in its place",
                   self->node->name);
  rm_route_suspect(self->audit->client->core->route);
  self->audit->not_before_us = rm_clock_now_us() + STALE_PAUSE_US;
  self->state = AT_PAUSE;
  return 0;
}

static int take_end(audit_op *self) {
  rm_audit_server server;
  int64_t clock_ms;
  int rc = read_info(self, &server, &clock_ms);
  if (rc != 0) return rc;
  if (self->node != NULL && strcmp(server.role, "slave") == 0) return await_successor(self);
  if (self->node != NULL) note_epoch(self);
  compare_server(self->audit, server_of(self), &server);
  server_of(self)->keys_end = server.keys;
  end_server(self);
  return 0;
}

static int take_answer(audit_op *self, int64_t now_us) {
  switch (self->state) {
  case AT_HELLO: return take_hello(self);
  case AT_EXTRAS: return take_extras(self);
  case AT_SCAN: {
    int rc = rm_audit_take_scan(&self->call, &self->page, &self->call.op.error);
    self->state = AT_LOOKS;
    return rc;
  }
  case AT_LOOKS: return take_looks(self, now_us);
  default: return take_end(self);
  }
}

/* Of a cluster: who is asked next, and what. */
static int choose(audit_op *self) {
  redmoon_audit *audit = self->audit;
  if (rm_audit_nodes_meet(audit) != 0) return rm_fail_nomem(&self->call.op.error);
  if (audit->nodes.count == 0) return rm_fail(&self->call.op.error, REDMOON_EUNAVAILABLE, "the cluster names no primary");
  self->node = rm_audit_nodes_unasked(audit);
  if (self->node != NULL) {
    self->state = AT_HELLO;
    return RM_DONE;
  }
  rm_audit_nodes_sum(audit);
  int rc = audit->ready ? 0 : begin_run(self);
  if (rc != 0) return rc;
  self->node = rm_audit_nodes_turn(audit);
  if (self->node == NULL) {
    finish_audit(self);
    return RM_DONE;
  }
  audit->server_ms = self->node->server_ms;
  audit->local_us = self->node->local_us;
  self->state = self->counted && !self->all ? AT_DONE : audit->scanned ? AT_END : AT_PAUSE;
  return RM_DONE;
}

static int step_nodes(audit_op *self, int64_t now_us) {
  rm_call *call = &self->call;
  if (rm_client_is_closed(self->audit->client)) return rm_fail_closed(&call->op.error);
  if (self->sweep.nodes == NULL) {
    int rc = rm_sweep_aim(&self->sweep, call, now_us);
    if (rc != RM_DONE) return rc;
    call->fixed_deadline_us = 0; /* the one for finding out who there is */
  }
  return choose(self);
}

/* Between two pages. RM_DONE: go on. */
static int pause(audit_op *self, int64_t now_us) {
  redmoon_audit *audit = self->audit;
  if (rm_client_is_closed(audit->client)) return rm_fail_closed(&self->call.op.error);
  if (now_us < audit->not_before_us) {
    self->call.op.wants = (rm_wants){-1, 0, audit->not_before_us};
    return RM_WAIT;
  }
  self->page_began_us = now_us;
  self->state = self->node != NULL && audit->scanned ? AT_NODES : AT_SCAN;
  return RM_DONE;
}

/* Whether the caller wants more; asked after each page of a run. */
static bool goes_on(const audit_op *self) {
  const redmoon_audit *audit = self->audit;
  if (audit->on_progress == NULL) return true;
  redmoon_audit_progress progress;
  redmoon_audit_progress_get(audit, &progress);
  return audit->on_progress(audit->ctx, &progress) == 0;
}

/* The call that is under way, or the next one.  RM_DONE: it was answered, and taken. */
static int step_call(audit_op *self, int64_t now_us) {
  if (!self->sending) {
    int rc = format(self);
    if (rc != 0) return rc;
    self->sending = true;
  }
  int rc = rm_call_step(&self->call.op, now_us);
  if (rc == RM_WAIT) return RM_WAIT;
  self->sending = false;
  if (rc < 0) return rc;
  rc = take_answer(self, rm_clock_now_us());
  return rc < 0 ? rc : RM_DONE;
}

static int audit_step(redmoon_op *op, int64_t now_us) {
  audit_op *self = (audit_op *)op;
  while (self->state != AT_DONE) {
    bool page = self->state == AT_LOOKS;
    if (self->state == AT_END && self->audit->info_refused) {
      end_server(self);
      continue;
    }
    int rc = self->state == AT_NODES ? step_nodes(self, now_us)
             : self->state == AT_PAUSE ? pause(self, now_us) : step_call(self, now_us);
    if (rc != RM_DONE) return rc;
    if (page && self->all && !goes_on(self)) break;
    now_us = rm_clock_now_us();
  }
  return RM_DONE;
}

static void audit_destroy(redmoon_op *op) {
  audit_op *self = (audit_op *)op;
  rm_audit_page_fini(&self->page);
  rm_call_fini(&self->call);
  rm_sweep_fini(&self->sweep);
  rm_free(self);
}

static redmoon_outcome audit_outcome(const redmoon_op *op) {
  return ((const audit_op *)op)->sending ? rm_call_outcome(op) : REDMOON_NOT_SENT;
}

static const rm_op_class audit_class = {audit_step, NULL, audit_destroy, audit_outcome};

static int start(redmoon_audit *audit, bool all, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  audit_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  rm_call_init(&self->call, audit->client, true);
  self->call.op.class = &audit_class;
  self->call.op.wants.fd = -1;
  self->audit = audit;
  self->all = all;
  self->state = audit->done ? AT_DONE : is_cluster(audit) ? AT_NODES : !audit->ready ? AT_HELLO : audit->scanned ? AT_END : AT_PAUSE;
  *op = &self->call.op;
  return 0;
}

int redmoon_audit_next_start(redmoon_audit *audit, redmoon_op **op, redmoon_error *err) {
  return start(audit, false, op, err);
}

int redmoon_audit_next(redmoon_audit *audit, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_audit_next_start(audit, &op, err), &op, err);
}

int redmoon_audit_run_start(redmoon_audit *audit, redmoon_op **op, redmoon_error *err) {
  return start(audit, true, op, err);
}

int redmoon_audit_run(redmoon_audit *audit, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_audit_run_start(audit, &op, err), &op, err);
}

int redmoon_audit_save(const redmoon_audit *audit, void **state, size_t *len, redmoon_error *err) {
  rm_error_clear(err);
  *state = NULL;
  *len = 0;
  rm_buffer out = {0};
  char *copy = NULL;
  if (rm_audit_save(audit, &out) == 0) copy = rm_strndup(rm_buffer_begin(&out), rm_buffer_len(&out));
  *len = rm_buffer_len(&out);
  rm_buffer_fini(&out);
  *state = copy;
  return copy != NULL ? 0 : rm_fail_nomem(err);
}
