/* SPDX-License-Identifier: MIT */
/* SCAN and its kin: one page for each round trip, the cursor kept as the text the server gave. */
#include "base/alloc.h"
#include "base/error.h"
#include "engine/core.h"
#include "engine/sweep.h"

#include <redmoon/scan.h>
#include <stdio.h>

struct redmoon_scan {
  redmoon_client *client; /* a reference */
  redmoon_scan_kind kind;
  char *key, *match, *type;
  size_t key_len;
  int64_t count;
  char cursor[24]; /* an unsigned 64-bit number as text */
  bool began, done;
  rm_sweep sweep;  /* of the keys of a cluster */
};

static const char *const names[] = {"SCAN", "HSCAN", "SSCAN", "ZSCAN"};

static int copy_options(redmoon_scan *scan, const redmoon_scan_options *options, redmoon_error *err) {
  scan->count = REDMOON_UNSET;
  if (options == NULL) return 0;
  if (options->count != REDMOON_UNSET && (options->count < 1 || options->count > 1000000))
    return rm_fail(err, REDMOON_ECONFIG, "option 'count': %lld is not accepted; it takes an integer from 1 to 1000000",
                   (long long)options->count);
  if (options->type != NULL && scan->kind != REDMOON_SCAN_KEYS)
    return rm_fail(err, REDMOON_ECONFIG, "option 'type' is for scans of keys only, not for %s", names[scan->kind]);
  scan->count = options->count;
  if (options->match != NULL && (scan->match = rm_strdup(options->match)) == NULL) return rm_fail_nomem(err);
  if (options->type != NULL && (scan->type = rm_strdup(options->type)) == NULL) return rm_fail_nomem(err);
  return 0;
}

int redmoon_scan_new(redmoon_client *client, redmoon_scan_kind kind, const void *key, size_t key_len,
                     const redmoon_scan_options *options, redmoon_scan **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  if ((unsigned)kind > REDMOON_SCAN_ZSET) return rm_fail(err, REDMOON_ECONFIG, "no such kind of scan: %d", (int)kind);
  redmoon_scan *scan = rm_calloc(1, sizeof *scan);
  if (scan == NULL) return rm_fail_nomem(err);
  scan->client = redmoon_client_ref(client);
  scan->kind = kind;
  snprintf(scan->cursor, sizeof scan->cursor, "0");
  int rc = copy_options(scan, options, err);
  if (rc == 0 && kind != REDMOON_SCAN_KEYS) {
    scan->key_len = key_len;
    scan->key = rm_strndup(key, key_len);
    if (scan->key == NULL) rc = rm_fail_nomem(err);
  }
  if (rc != 0) {
    redmoon_scan_free(scan);
    return rc;
  }
  *out = scan;
  return 0;
}

void redmoon_scan_free(redmoon_scan *scan) {
  if (scan == NULL) return;
  redmoon_client_close(scan->client);
  rm_sweep_fini(&scan->sweep);
  rm_free(scan->key);
  rm_free(scan->match);
  rm_free(scan->type);
  rm_free(scan);
}

typedef struct scan_op {
  rm_call call; /* first: its op is this one's */
  redmoon_scan *scan;
  redmoon_reply **page;
} scan_op;

/* The answer is [cursor, [element ...]]. */
static int finish(redmoon_op *op, redmoon_error *err) {
  scan_op *self = (scan_op *)op;
  redmoon_scan *scan = self->scan;
  if (self->call.request.count == 0) return 0; /* the end was reached before */
  const redmoon_reply *reply = self->call.results[0].reply;
  if (reply->type == REDMOON_ERROR) return rm_call_take_reply(&self->call, 0, self->page, err);
  const redmoon_reply *cursor = redmoon_reply_at(reply, 0), *items = redmoon_reply_at(reply, 1);
  if (cursor == NULL || items == NULL || cursor->type != REDMOON_STRING || items->type != REDMOON_ARRAY ||
      cursor->len == 0 || cursor->len >= sizeof scan->cursor)
    return rm_fail(err, REDMOON_EPROTOCOL, "%s was not answered by a cursor and an array", names[scan->kind]);
  char next[sizeof scan->cursor];
  memcpy(next, cursor->as.text, cursor->len + 1);
  if (rm_reply_detach(items, &self->call.arena, self->page) != 0) return rm_fail_nomem_answered(err);
  memcpy(scan->cursor, next, sizeof next);
  scan->began = true;
  scan->done = strcmp(scan->cursor, "0") == 0 && !rm_sweep_next(&scan->sweep);
  return 0;
}

static void destroy(redmoon_op *op) {
  rm_call_fini(&((scan_op *)op)->call);
  rm_free(op);
}

/* A scan of all keys goes over all primaries; any other has a key, which says where to. */
static int step(redmoon_op *op, int64_t now_us) {
  scan_op *self = (scan_op *)op;
  bool sweeps = self->scan->kind == REDMOON_SCAN_KEYS && rm_route_is_cluster(op->client->core->route);
  if (sweeps && self->call.borrow.pinned == NULL) {
    int rc = rm_sweep_aim(&self->scan->sweep, &self->call, now_us);
    if (rc != RM_DONE) return rc;
  }
  return rm_call_step(op, now_us);
}

static const rm_op_class scan_class = {step, finish, destroy, rm_call_outcome};

static int format(rm_call *call, const redmoon_scan *scan, redmoon_error *err) {
  int argc = 2 + (scan->key != NULL) + 2 * ((scan->match != NULL) + (scan->count != REDMOON_UNSET) + (scan->type != NULL));
  rm_request *request = &call->request;
  rm_request_begin(request, (size_t)argc);
  rm_request_text(request, names[scan->kind]);
  if (scan->key != NULL) rm_request_arg(request, scan->key, scan->key_len);
  rm_request_text(request, scan->cursor);
  if (scan->match != NULL) {
    rm_request_text(request, "MATCH");
    rm_request_text(request, scan->match);
  }
  if (scan->count != REDMOON_UNSET) {
    rm_request_text(request, "COUNT");
    rm_request_integer(request, scan->count);
  }
  if (scan->type != NULL) {
    rm_request_text(request, "TYPE");
    rm_request_text(request, scan->type);
  }
  return rm_call_end(call, rm_command_find(names[scan->kind], strlen(names[scan->kind]), NULL, 0), RM_CALL_REPEATABLE, err);
}

int redmoon_scan_next_start(redmoon_scan *scan, redmoon_reply **page, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  *page = NULL;
  rm_error_clear(err);
  scan_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  rm_call_init(&self->call, scan->client, true);
  self->call.op.class = &scan_class;
  self->scan = scan;
  self->page = page;
  int rc = scan->done ? 0 : format(&self->call, scan, err);
  if (rc != 0) {
    destroy(&self->call.op);
    return rc;
  }
  *op = &self->call.op;
  return 0;
}

int redmoon_scan_next(redmoon_scan *scan, redmoon_reply **page, redmoon_error *err) {
  redmoon_op *op;
  return rm_run(redmoon_scan_next_start(scan, page, &op, err), &op, err);
}
