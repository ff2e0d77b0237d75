/* SPDX-License-Identifier: MIT */
/* The read-write lock.  The object is one owner: it remembers the permits it has, so that who holds one may take it
 * again, which is an extension of the same lease; and so that who only reads is told at once that it may not write.
 *
 *     read():   reads already? --yes--> extend, hand it out once more
 *                              --no---> rwlock_read until granted, refused or the wait is over
 *     write():  writes already? -yes--> extend, hand it out once more
 *               reads? --------- yes--> LOCKED
 *                                no---> rwlock_write likewise; while it waits, no new reader is let in
 */
#include <redmoon/rwlock.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/call.h"
#include "engine/wakeups.h"
#include "patterns/keys.h"
#include "patterns/permit.h"
#include "patterns/scripts_generated.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>

#define WAITS "rwlock.waits"
/* A waiting writer asks again within what it keeps readers out for. */
enum { HEARTBEAT_US = 500000 };
enum { READ, WRITE, MODES, WAITING_MS = 1000, DIGITS = 24, KEYS = 4 };

static const char *const parts[KEYS] = {"rwlock.readers", "rwlock.writer", "rwlock.waiting", "rwlock.fence"};
static const rm_permit_kind kinds[MODES] = {
    {"read lock", "rwlock_read", &rm_script_permit_extend, &rm_script_permit_release, true, WAITS, "1"},
    {"write lock", "rwlock_write", &rm_script_rwlock_extend, &rm_script_rwlock_release, false, WAITS, NULL},
};

struct redmoon_rwlock {
  redmoon_client *client; /* a reference */
  size_t refs;            /* the handle, and each operation under way */
  redmoon_rwlock_options options;
  redmoon_permit *current[MODES]; /* references to what was given last; NULL: nothing yet */
  redmoon_bytes keys[KEYS];
  char *name;
  size_t name_len;
};

static void rwlock_unref(redmoon_rwlock *rwlock) {
  if (--rwlock->refs > 0) return;
  redmoon_client_close(rwlock->client);
  for (int i = 0; i < MODES; i++) redmoon_permit_free(rwlock->current[i]);
  for (int i = 0; i < KEYS; i++) rm_key_free(&rwlock->keys[i]);
  rm_free(rwlock->name);
  rm_free(rwlock);
}

int redmoon_rwlock_new(redmoon_client *client, const void *name, size_t name_len,
                       const redmoon_rwlock_options *options, redmoon_rwlock **out, redmoon_error *err) {
  redmoon_rwlock_options own = REDMOON_RWLOCK_OPTIONS_INIT;
  if (options != NULL) own = *options;
  own.ttl_ms = rm_permit_option(own.ttl_ms, RM_PERMIT_TTL_MS);
  own.wait_ms = rm_permit_option(own.wait_ms, 0);
  int status = rm_name_check("read-write lock name", name, name_len, err);
  if (status == 0) status = rm_permit_check_ttl("read-write lock", own.ttl_ms, err);
  if (status == 0) status = rm_permit_check_wait("read-write lock", own.wait_ms, err);
  if (status < 0) return status;
  redmoon_rwlock *rwlock = rm_calloc(1, sizeof *rwlock);
  if (rwlock == NULL) return rm_fail_nomem(err);
  rwlock->client = redmoon_client_ref(client);
  rwlock->refs = 1;
  rwlock->options = own;
  rwlock->name = rm_strndup(name, name_len);
  rwlock->name_len = name_len;
  if (rwlock->name == NULL) status = rm_fail_nomem(err);
  for (int i = 0; i < KEYS && status == 0; i++)
    status = rm_key_build(rm_client_key_prefix(client), name, name_len, parts[i], &rwlock->keys[i], err);
  if (status < 0) {
    rwlock_unref(rwlock);
    return status;
  }
  *out = rwlock;
  return 0;
}

void redmoon_rwlock_free(redmoon_rwlock *rwlock) {
  if (rwlock != NULL) rwlock_unref(rwlock);
}

/* The permit of `mode` that the owner holds; NULL: none. */
static redmoon_permit *held(const redmoon_rwlock *rwlock, int mode) {
  redmoon_permit *permit = rwlock->current[mode];
  return permit != NULL && redmoon_permit_held(permit) ? permit : NULL;
}

/* Taking it. */

/* An acquisition under way: attempts use the same token, so that one that was executed unnoticed is found again. */
typedef struct acquisition {
  redmoon_rwlock *rwlock; /* a reference */
  redmoon_permit *permit; /* NULL once it is the caller's */
  redmoon_permit **out;
  int mode;
  int64_t began_us, retry_us;
} acquisition;

static void acquisition_drop(void *ctx) {
  acquisition *self = ctx;
  redmoon_permit_free(self->permit);
  rwlock_unref(self->rwlock);
  rm_free(self);
}

static int busy(acquisition *self, int64_t detail, redmoon_error *err) {
  redmoon_permit *permit = self->permit;
  rm_client_count(permit->client, permit->kind->counter, "busy");
  const char *who = self->mode == WRITE ? detail > 0 ? "others read" : "another writes"
                    : detail > 0        ? "another writes"
                                        : "a writer waits";
  return rm_fail(err, REDMOON_ELOCKED, "%s '%s': %s, for %" PRId64 " ms more at most", permit->kind->noun,
                 permit->shown, who, (self->retry_us + 999) / 1000);
}

static int decode_taken(void *ctx, const rm_answer *answer, redmoon_error *err) {
  acquisition *self = ctx;
  redmoon_permit *permit = self->permit;
  int64_t code, time_us, detail = 0;
  int status = rm_permit_answer_at(permit, answer->reply, 0, &code, err);
  if (status == 0) status = rm_permit_answer_at(permit, answer->reply, 1, &time_us, err);
  bool taken = status == 0 && code == RM_STATUS_PERMIT_OK;
  if (status == 0 && (!taken || self->mode == WRITE))
    status = rm_permit_answer_at(permit, answer->reply, 2, &detail, err);
  if (status == 0 && !taken) {
    self->retry_us = time_us;
    status = busy(self, detail, err);
  }
  if (status == 0 && self->mode == WRITE) permit->fence = detail;
  if (status == 0) status = rm_permit_given(permit, self->began_us, time_us, err);
  return status < 0 ? rm_permit_answered(err, answer, status) : 0;
}

static int attempt_start(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err) {
  acquisition *self = ctx;
  const redmoon_rwlock *rwlock = self->rwlock;
  const redmoon_permit *permit = self->permit, *own = held(rwlock, WRITE);
  char ttl[DIGITS], wait[DIGITS];
  int ttl_len = snprintf(ttl, sizeof ttl, "%" PRId64, permit->ttl_ms);
  int wait_len = snprintf(wait, sizeof wait, "%" PRId64, rm_min64((try.left_us + 999) / 1000, WAITING_MS));
  redmoon_bytes args[4] = {{permit->token, RM_PERMIT_TOKEN_LEN}, {ttl, (size_t)ttl_len}, {"", 0}};
  if (self->mode == WRITE) args[2] = (redmoon_bytes){wait, (size_t)wait_len};
  else if (own != NULL) args[2] = (redmoon_bytes){own->token, RM_PERMIT_TOKEN_LEN};
  args[3] = (redmoon_bytes){try.left_us > 0 ? "1" : "0", 1};
  redmoon_bytes keys[KEYS + 1];
  size_t count = self->mode == WRITE ? KEYS : KEYS - 1; /* the last one is the writers' */
  for (size_t i = 0; i < count; i++) keys[i] = rwlock->keys[i];
  keys[count++] = permit->waits_key;
  const redmoon_script_args all = {keys, count, args, self->mode == WRITE ? 3 : 4};
  self->began_us = rm_clock_boot_us();
  return rm_builtin_start(rwlock->client, self->mode == WRITE ? &rm_script_rwlock_write : &rm_script_rwlock_read,
                          &all, RM_CALL_REPEATABLE, decode_taken, NULL, self, op, err);
}

static int64_t retry_us(void *ctx) { return ((acquisition *)ctx)->retry_us; }

static redmoon_bytes channel(void *ctx) { return ((const acquisition *)ctx)->permit->waits_key; }

static int64_t heartbeat_us(void *ctx) {
  return ((const acquisition *)ctx)->mode == WRITE ? HEARTBEAT_US : RM_WAKEUPS_POLL_US;
}

static int acquisition_finish(void *ctx, redmoon_error *err) {
  (void)err;
  acquisition *self = ctx;
  redmoon_permit **current = &self->rwlock->current[self->mode];
  redmoon_permit_free(*current);
  *current = rm_permit_ref(self->permit);
  *self->out = self->permit;
  self->permit = NULL;
  return 0;
}

static const rm_waiting_class taking = {.start = attempt_start,
                                        .retry_us = retry_us,
                                        .finish = acquisition_finish,
                                        .drop = acquisition_drop,
                                        .channel = channel,
                                        .heartbeat_us = heartbeat_us,
                                        .shared = true};

static int take_start(redmoon_rwlock *rwlock, int mode, redmoon_permit **out, redmoon_op **op, redmoon_error *err) {
  redmoon_permit *own = held(rwlock, mode);
  if (own != NULL) return rm_permit_again_start(own, out, op, err);
  acquisition *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  self->rwlock = rwlock;
  rwlock->refs++;
  self->out = out;
  self->mode = mode;
  int status = rm_permit_new(rwlock->client, &kinds[mode], rwlock->name, rwlock->name_len, parts[mode],
                             rwlock->options.ttl_ms, &self->permit, err);
  if (status < 0) {
    acquisition_drop(self);
    return status;
  }
  return rm_waiting_start(rwlock->client, &taking, self, rwlock->options.wait_ms, op, err);
}

int redmoon_rwlock_read_start(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_op **op, redmoon_error *err) {
  return take_start(rwlock, READ, out, op, err);
}

int redmoon_rwlock_read(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rwlock_read_start(rwlock, out, &op, err), &op, err);
}

int redmoon_rwlock_write_start(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_op **op, redmoon_error *err) {
  const redmoon_permit *reader = held(rwlock, WRITE) == NULL ? held(rwlock, READ) : NULL;
  if (reader == NULL) return take_start(rwlock, WRITE, out, op, err);
  rm_client_count(rwlock->client, "rwlock_write", "upgrade");
  return rm_fail(
      err, REDMOON_ELOCKED,
      "write lock '%s': this owner reads, and a reader cannot become the writer; release the reading first",
      reader->shown);
}

int redmoon_rwlock_write(redmoon_rwlock *rwlock, redmoon_permit **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_rwlock_write_start(rwlock, out, &op, err), &op, err);
}
