/* SPDX-License-Identifier: MIT */
/* The fix: keys without TTL get one, a page at a time.
 *
 *      PAUSE --> SCAN --> PTTL of each --> audit_fix.lua for those without one --> done
 *                                      \-> dry run ---------------------------/
 *
 * PTTL only saves the writes: the script looks again.  It is sent once, because a second one would find the first one's TTL
 * and not know whose it is; of a key whose answer was lost the page says so. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/call_internal.h"
#include "engine/core.h"
#include "engine/script.h"
#include "engine/sweep.h"
#include "patterns/keys.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TTL_MAX INT64_C(31622400000) /* 366 days */

enum { DIGITS = 24 };

struct redmoon_audit_fix {
  redmoon_client *client; /* a reference */
  char *match, *own;      /* own: what this client's keys begin with, up to their name */
  int64_t ttl_ms, jitter_ppm, dry_run, count, max_rate, not_before_us;
  char cursor[24];
  bool done;
  rm_sweep sweep;         /* of a cluster */
  redmoon_audit_fix_counts counts;
  redmoon_reply *keys; /* of the last page; what `fixed` points into */
  redmoon_audit_fixed *fixed;
  size_t fixed_count;
};

/* `redmoon:`, with what the prefix's own braces are written as. */
static int set_own(redmoon_audit_fix *fix, redmoon_error *err) {
  static const char rest[] = "{x}:x";
  redmoon_bytes key;
  int rc = rm_key_build(rm_client_key_prefix(fix->client), "x", 1, "x", &key, err);
  if (rc != 0) return rc;
  fix->own = rm_strndup(key.ptr, key.len - (sizeof rest - 1));
  rm_key_free(&key);
  return fix->own != NULL ? 0 : rm_fail_nomem(err);
}

static int check(const char *name, int64_t given, int64_t min, int64_t max, int64_t usual, int64_t *out,
                 redmoon_error *err) {
  *out = given == REDMOON_UNSET ? usual : given;
  return given == REDMOON_UNSET ? 0 : rm_audit_check(name, given, min, max, err);
}

static int set_options(redmoon_audit_fix *fix, const redmoon_audit_fix_options *o, redmoon_error *err) {
  if (o == NULL || o->match == NULL || o->match[0] == '\0')
    return rm_fail(err, REDMOON_ECONFIG, "audit option 'match' is needed: it says which keys may get a TTL");
  if (o->ttl_ms == REDMOON_UNSET) return rm_fail(err, REDMOON_ECONFIG, "audit option 'ttl' is needed: there is no default");
  int rc = rm_audit_check("ttl", o->ttl_ms, 1000, TTL_MAX, err);
  fix->ttl_ms = o->ttl_ms;
  if (rc == 0) rc = check("jitter", o->jitter_ppm, 0, 1000000, 100000, &fix->jitter_ppm, err);
  if (rc == 0) rc = check("dry_run", o->dry_run, 0, 1, 1, &fix->dry_run, err);
  if (rc == 0) rc = check("count", o->count, 1, 1000, 1000, &fix->count, err);
  if (rc == 0) rc = check("max_rate", o->max_rate, 1, 10000000, 0, &fix->max_rate, err);
  if (rc != 0) return rc;
  fix->match = rm_strdup(o->match);
  return fix->match != NULL ? set_own(fix, err) : rm_fail_nomem(err);
}

int redmoon_audit_fix_new(redmoon_client *client, const redmoon_audit_fix_options *options, redmoon_audit_fix **out,
                          redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if (rm_random_init() != 0)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "audit: libsodium has no source of random bytes");
  redmoon_audit_fix *fix = rm_calloc(1, sizeof *fix);
  if (fix == NULL) return rm_fail_nomem(err);
  fix->client = redmoon_client_ref(client);
  snprintf(fix->cursor, sizeof fix->cursor, "0");
  int rc = set_options(fix, options, err);
  if (rc != 0) {
    redmoon_audit_fix_free(fix);
    return rc;
  }
  *out = fix;
  return 0;
}

static void drop_page(redmoon_audit_fix *fix) {
  redmoon_reply_free(fix->keys);
  rm_free(fix->fixed);
  fix->keys = NULL;
  fix->fixed = NULL;
  fix->fixed_count = 0;
}

void redmoon_audit_fix_free(redmoon_audit_fix *fix) {
  if (fix == NULL) return;
  drop_page(fix);
  redmoon_client_close(fix->client);
  rm_sweep_fini(&fix->sweep);
  rm_free(fix->match);
  rm_free(fix->own);
  rm_free(fix);
}

int redmoon_audit_fix_done(const redmoon_audit_fix *fix) { return fix->done; }

void redmoon_audit_fix_counts_get(const redmoon_audit_fix *fix, redmoon_audit_fix_counts *out) {
  *out = fix->counts;
  bool clustered = rm_route_is_cluster(fix->client->core->route); /* there a cursor may hold a slot, too */
  double share = clustered ? 0 : rm_audit_cursor_share(fix->cursor);
  if (fix->sweep.count > 0) share = (double)fix->sweep.at / (double)fix->sweep.count;
  out->share = fix->done ? 1 : share;
}

const redmoon_audit_fixed *redmoon_audit_fix_page(const redmoon_audit_fix *fix, size_t *count) {
  *count = fix->fixed_count;
  return fix->fixed;
}

/* The operation. */

typedef enum fix_state { AT_PAUSE, AT_SCAN, AT_LOOKS, AT_FIX, AT_DONE } fix_state;

typedef struct fix_op {
  rm_call call; /* first: its op is this one's */
  redmoon_audit_fix *fix;
  rm_audit_page page;
  fix_state state;
  bool sending;
  size_t wanted; /* of the page's keys, those that are to get a TTL: the first ones of fix->fixed */
  int64_t seen, own, errors;
  int64_t began_us;
} fix_op;

static bool is_own(const redmoon_audit_fix *fix, const redmoon_reply *key) {
  size_t len = strlen(fix->own);
  return key->len > len && memcmp(key->as.text, fix->own, len) == 0 && strchr("{~", key->as.text[len]) != NULL;
}

static int format_looks(fix_op *self, redmoon_error *err) {
  const redmoon_reply *keys = self->fix->keys;
  int rc = 0;
  for (size_t i = 0; i < keys->len && rc == 0; i++) {
    rm_request_begin(&self->call.request, 2);
    rm_request_text(&self->call.request, "PTTL");
    rm_request_arg(&self->call.request, keys->as.items[i].as.text, keys->as.items[i].len);
    rc = rm_call_end(&self->call, rm_command_find("PTTL", 4, NULL, 0), RM_CALL_REPEATABLE, err);
  }
  return rc;
}

static int format_fixes(fix_op *self, redmoon_error *err) {
  const rm_builtin *script = &rm_script_audit_fix;
  int rc = rm_call_script_load(&self->call, script->source, script->len, err);
  for (size_t i = 0; i < self->wanted && rc == 0; i++) {
    const redmoon_audit_fixed *fixed = &self->fix->fixed[i];
    char ttl[DIGITS];
    const redmoon_bytes key = {fixed->key, fixed->key_len};
    const redmoon_bytes arg = {ttl, (size_t)snprintf(ttl, sizeof ttl, "%" PRId64, fixed->ttl_ms)};
    const redmoon_script_args args = {&key, 1, &arg, 1};
    rc = rm_call_evalsha(&self->call, script->sha1, &args, 0, err);
  }
  return rc;
}

static int format(fix_op *self) {
  redmoon_audit_fix *fix = self->fix;
  redmoon_error *err = &self->call.op.error;
  rm_call_reset(&self->call);
  if (self->state != AT_FIX) rm_audit_ask_primary(&self->call);
  if (self->state == AT_LOOKS) return format_looks(self, err);
  if (self->state == AT_FIX) return format_fixes(self, err);
  return rm_audit_format_scan(&self->call, fix->match, fix->cursor, rm_audit_page_size(fix->count, fix->max_rate), err);
}

static void end_page(fix_op *self) {
  redmoon_audit_fix *fix = self->fix;
  fix->counts.seen += self->seen;
  fix->counts.own += self->own;
  fix->counts.errors += self->errors;
  memcpy(fix->cursor, self->page.next, sizeof fix->cursor);
  fix->done = strcmp(fix->cursor, "0") == 0 && !rm_sweep_next(&fix->sweep);
  if (fix->max_rate > 0) {
    int64_t work = rm_max64(self->seen, rm_audit_page_size(fix->count, fix->max_rate));
    fix->not_before_us = self->began_us + work * 1000000 / fix->max_rate;
  }
  self->state = AT_DONE;
}

static int64_t life(const redmoon_audit_fix *fix) {
  return fix->ttl_ms + rm_random_upto(fix->ttl_ms / 1000000 * fix->jitter_ppm + fix->ttl_ms % 1000000 * fix->jitter_ppm / 1000000);
}

/* A server that is in no state to run scripts, or a user who may not: the reason is one for all keys. */
static bool is_for_all(const redmoon_reply *reply) {
  return reply->type == REDMOON_ERROR && (rm_reply_is_refusal(reply) || rm_audit_is_command_refused(reply) ||
                                          rm_reply_is_error(reply, "NOSCRIPT"));
}

/* Which keys of the page have no TTL. */
static int take_looks(fix_op *self) {
  redmoon_audit_fix *fix = self->fix;
  redmoon_error *err = &self->call.op.error;
  fix->fixed = rm_calloc(fix->keys->len + 1, sizeof *fix->fixed);
  if (fix->fixed == NULL) return rm_fail_nomem_answered(err);
  for (size_t i = 0; i < fix->keys->len; i++) {
    const redmoon_reply *key = &fix->keys->as.items[i], *ttl = self->call.results[i].reply;
    if (is_for_all(ttl)) return rm_fail_server(err, ttl->as.text, ttl->len);
    if (ttl->type == REDMOON_ERROR) self->errors++;
    if (ttl->type != REDMOON_INTEGER || ttl->as.integer == -2) continue;
    self->seen++;
    if (ttl->as.integer != -1) continue;
    if (is_own(fix, key)) self->own++;
    else fix->fixed[self->wanted++] = (redmoon_audit_fixed){key->as.text, key->len, life(fix), 0};
  }
  if (self->wanted > 0 && !fix->dry_run) {
    self->state = AT_FIX;
    return 0;
  }
  fix->fixed_count = self->wanted;
  fix->counts.fixed += (int64_t)self->wanted;
  end_page(self);
  return 0;
}

/* Whether key `i` is to be listed, and what is known of it.  Mark 0 is the SCRIPT LOAD. */
static bool collect_one(fix_op *self, size_t i) {
  redmoon_audit_fix *fix = self->fix;
  size_t at = i + 1;
  const rm_call *call = &self->call;
  const redmoon_reply *reply = at < call->results_cap ? call->results[at].reply : NULL;
  if (reply == NULL) {
    if (at >= call->request.count || at >= call->results_cap) return false;
    if (rm_call_outcome_at(call, at) != REDMOON_UNKNOWN) return false;
    fix->fixed[i].expires_ms = -1;
    return true;
  }
  const redmoon_reply *status = redmoon_reply_at(reply, 0);
  if (status == NULL || status->type != REDMOON_INTEGER) {
    fix->counts.errors += !is_for_all(reply); /* those will be asked again */
    return false;
  }
  if (status->as.integer != RM_STATUS_AUDIT_DONE) {
    fix->counts.raced++;
    return false;
  }
  fix->fixed[i].expires_ms = redmoon_reply_integer(redmoon_reply_at(reply, 1));
  fix->counts.fixed++;
  return true;
}

/* What has become of the page's keys, as far as it is known: also of a call that failed. */
static void collect(fix_op *self) {
  redmoon_audit_fix *fix = self->fix;
  for (size_t i = 0; i < self->wanted; i++)
    if (collect_one(self, i)) fix->fixed[fix->fixed_count++] = fix->fixed[i];
  self->wanted = 0;
}

static int take_fixes(fix_op *self) {
  const rm_call *call = &self->call;
  int rc = 0;
  for (size_t i = 1; i < call->request.count && rc == 0; i++) {
    const redmoon_reply *reply = call->results[i].reply, *load = call->results[0].reply;
    if (!is_for_all(reply)) continue;
    if (load->type == REDMOON_ERROR) reply = load;
    rc = rm_fail_server(&self->call.op.error, reply->as.text, reply->len);
  }
  collect(self);
  if (rc == 0) end_page(self);
  return rc;
}

static int take_answer(fix_op *self) {
  if (self->state == AT_LOOKS) return take_looks(self);
  if (self->state == AT_FIX) return take_fixes(self);
  int rc = rm_audit_take_scan(&self->call, &self->page, &self->call.op.error);
  if (rc != 0) return rc;
  self->fix->keys = self->page.keys;
  self->page.keys = NULL;
  self->state = AT_LOOKS;
  return 0;
}

static int pause(fix_op *self, int64_t now_us) {
  redmoon_audit_fix *fix = self->fix;
  if (rm_client_is_closed(fix->client)) return rm_fail_closed(&self->call.op.error);
  if (now_us < fix->not_before_us) {
    self->call.op.wants = (rm_wants){-1, 0, fix->not_before_us};
    return RM_WAIT;
  }
  self->began_us = now_us;
  self->state = AT_SCAN;
  return RM_DONE;
}

/* A cluster's keys are scanned node by node; what follows goes to wherever each key is. */
static int aim(fix_op *self, int64_t now_us) {
  int rc = rm_sweep_aim(&self->fix->sweep, &self->call, now_us);
  if (rc == RM_WAIT) return RM_WAIT;
  self->call.fixed_deadline_us = 0; /* the one for finding out which nodes there are */
  if (rc < 0) self->sending = false;
  return rc;
}

static int step_call(fix_op *self, int64_t now_us) {
  if (!self->sending) {
    int rc = format(self);
    if (rc != 0) return rc;
    self->sending = true;
  }
  if (self->state == AT_SCAN && self->call.borrow.pinned == NULL && rm_route_is_cluster(self->fix->client->core->route)) {
    int rc = aim(self, now_us);
    if (rc != RM_DONE) return rc;
  }
  int rc = rm_call_step(&self->call.op, now_us);
  if (rc == RM_WAIT) return RM_WAIT;
  self->sending = false;
  if (rc < 0) {
    if (self->state == AT_FIX) collect(self);
    return rc;
  }
  rc = take_answer(self);
  return rc < 0 ? rc : RM_DONE;
}

static int fix_step(redmoon_op *op, int64_t now_us) {
  fix_op *self = (fix_op *)op;
  while (self->state != AT_DONE) {
    int rc = self->state == AT_PAUSE ? pause(self, now_us) : step_call(self, now_us);
    if (rc != RM_DONE) return rc;
    now_us = rm_clock_now_us();
  }
  return RM_DONE;
}

static void fix_destroy(redmoon_op *op) {
  fix_op *self = (fix_op *)op;
  if (self->sending && self->state == AT_FIX) { /* cancelled */
    rm_call_give_up(&self->call);
    collect(self);
  }
  rm_audit_page_fini(&self->page);
  rm_call_fini(&self->call);
  rm_free(self);
}

static redmoon_outcome fix_outcome(const redmoon_op *op) {
  return ((const fix_op *)op)->sending ? rm_call_outcome(op) : REDMOON_NOT_SENT;
}

static const rm_op_class fix_class = {fix_step, NULL, fix_destroy, fix_outcome};

int redmoon_audit_fix_next_start(redmoon_audit_fix *fix, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  fix_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  drop_page(fix);
  rm_call_init(&self->call, fix->client, true);
  self->call.op.class = &fix_class;
  self->call.op.wants.fd = -1;
  self->fix = fix;
  self->state = fix->done ? AT_DONE : AT_PAUSE;
  *op = &self->call.op;
  return 0;
}

int redmoon_audit_fix_next(redmoon_audit_fix *fix, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_audit_fix_next_start(fix, &op, err), &op, err);
}

/* Undo. */

static int decode_undo(void *ctx, const rm_answer *answer, redmoon_error *err) {
  const redmoon_reply *status = redmoon_reply_at(answer->reply, 0);
  if (status == NULL || redmoon_reply_type(status) != REDMOON_INTEGER)
    return rm_fail(err, REDMOON_EPROTOCOL, "audit: the script's answer has no integer at place 1");
  *(int *)ctx = redmoon_reply_integer(status) == RM_STATUS_AUDIT_DONE;
  return 0;
}

int redmoon_audit_undo_start(redmoon_client *client, const void *key, size_t key_len, int64_t expires_ms, int *undone,
                             redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  rm_error_clear(err);
  if (expires_ms < 1 || expires_ms > INT64_C(9007199254740991))
    return rm_fail(err, REDMOON_ECONFIG, "audit undo: %" PRId64 " is no Unix time in ms at which a key ends", expires_ms);
  char text[DIGITS];
  const redmoon_bytes one = {key, key_len};
  const redmoon_bytes arg = {text, (size_t)snprintf(text, sizeof text, "%" PRId64, expires_ms)};
  const redmoon_script_args args = {&one, 1, &arg, 1};
  return rm_builtin_start(client, &rm_script_audit_undo, &args, 0, decode_undo, NULL, undone, op, err);
}

int redmoon_audit_undo(redmoon_client *client, const void *key, size_t key_len, int64_t expires_ms, int *undone,
                       redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_audit_undo_start(client, key, key_len, expires_ms, undone, &op, err), &op, err);
}
