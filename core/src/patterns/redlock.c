/* SPDX-License-Identifier: MIT */
/* Redlock: the servers that vote, the options of an acquisition, and how it waits.  redlock.h has the whole. */
#include "patterns/redlock.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/core.h"
#include "patterns/keys.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_TTL_MS = 10000, DEFAULT_QUARANTINE_MS = 60000, SHORTEST_MS = 10, DAY_MS = 86400000 };
static const int64_t max_hold_most_ms = INT64_C(31622400000);

static int64_t given(int64_t value, int64_t otherwise) { return value == REDMOON_UNSET ? otherwise : value; }

/* The servers. */

void rm_redlock_unref(redmoon_redlock *redlock) {
  if (redlock == NULL || atomic_fetch_sub(&redlock->refs, 1) > 1) return;
  for (size_t i = 0; i < redlock->count; i++) redmoon_client_close(redlock->clients[i]);
  rm_free(redlock);
}

void redmoon_redlock_free(redmoon_redlock *redlock) { rm_redlock_unref(redlock); }

static int check_clients(redmoon_client *const *clients, size_t count, redmoon_error *err) {
  if (count < REDMOON_REDLOCK_MIN || count > REDMOON_REDLOCK_MAX)
    return rm_fail(err, REDMOON_ECONFIG, "redlock: %zu clients are not accepted; give %d to %d, of independent servers", count,
                   REDMOON_REDLOCK_MIN, REDMOON_REDLOCK_MAX);
  for (size_t i = 0; i < count; i++) {
    if (clients[i] == NULL) return rm_fail(err, REDMOON_ECONFIG, "redlock: client %zu is NULL", i + 1);
    for (size_t k = 0; k < i; k++)
      if (clients[k]->core == clients[i]->core)
        return rm_fail(err, REDMOON_ECONFIG, "redlock: clients %zu and %zu are one; each server has one vote", k + 1, i + 1);
  }
  return 0;
}

int redmoon_redlock_new(redmoon_client *const *clients, size_t count, const redmoon_redlock_options *options,
                        redmoon_redlock **out, redmoon_error *err) {
  *out = NULL;
  rm_error_clear(err);
  int64_t quarantine_ms = given(options != NULL ? options->quarantine_ms : REDMOON_UNSET, DEFAULT_QUARANTINE_MS);
  int status = check_clients(clients, count, err);
  if (status < 0) return status;
  if (quarantine_ms != 0 && (quarantine_ms < SHORTEST_MS || quarantine_ms > DAY_MS))
    return rm_fail(err, REDMOON_ECONFIG,
                   "redlock option quarantine: %" PRId64 " ms is not accepted; give 0 (none), or %d to %d ms", quarantine_ms,
                   SHORTEST_MS, DAY_MS);
  redmoon_redlock *redlock = rm_calloc(1, sizeof *redlock + count * sizeof *redlock->clients);
  if (redlock == NULL) return rm_fail_nomem(err);
  atomic_init(&redlock->refs, 1);
  redlock->quarantine_ms = quarantine_ms;
  redlock->count = count;
  redlock->quorum = count / 2 + 1;
  for (size_t i = 0; i < count; i++) redlock->clients[i] = redmoon_client_ref(clients[i]);
  *out = redlock;
  return 0;
}

/* The lock. */

void rm_redlock_part_free(rm_redlock_part *part) {
  if (part == NULL) return;
  rm_redlock_unref(part->redlock);
  rm_key_free(&part->key);
  rm_key_free(&part->fence_key);
  rm_key_free(&part->void_key);
  rm_free(part);
}

void rm_redlock_renew_id(redmoon_lock *lock) {
  rm_redlock_part *part = lock->redlock;
  rm_client_random_hex(lock->client, lock->token, LOCK_TOKEN_BYTES);
  rm_client_random_hex(lock->client, lock->id, LOCK_ID_BYTES);
  size_t id_len = 2 * LOCK_ID_BYTES;
  part->since_us = 0;
  memcpy((char *)(uintptr_t)part->void_key.ptr + part->void_key.len - id_len, lock->id, id_len);
  for (size_t i = 0; i < part->redlock->count; i++) {
    atomic_store(&part->servers[i].unsure, false);
    atomic_store(&part->servers[i].maybe_freed, false);
  }
}

int rm_redlock_check_ttl(const redmoon_redlock *redlock, int64_t ttl_ms, redmoon_error *err) {
  int64_t most_ms = redlock->quarantine_ms > 0 ? redlock->quarantine_ms : DAY_MS;
  if (ttl_ms >= SHORTEST_MS && ttl_ms <= most_ms) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "redlock option ttl: %" PRId64 " ms is not accepted; give %d to %" PRId64 " ms%s", ttl_ms,
                 SHORTEST_MS, most_ms, redlock->quarantine_ms > 0 ? ", the quarantine" : "");
}

static int check(const char *option, int64_t value, int64_t min, int64_t max, const char *unit, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "redlock option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s",
                 option, value, unit, min, max, unit);
}

static int check_request(const redmoon_redlock *redlock, const redmoon_redlock_request *request, redmoon_error *err) {
  int64_t ttl_ms = given(request->ttl_ms, DEFAULT_TTL_MS), max_hold_ms = given(request->max_hold_ms, 0);
  int status = rm_redlock_check_ttl(redlock, ttl_ms, err);
  if (status == 0) status = check("wait", given(request->wait_ms, 0), 0, DAY_MS, " ms", err);
  if (status == 0) status = check("renew", given(request->renew, 0), 0, 1, "", err);
  if (status == 0 && max_hold_ms != 0) status = check("max_hold", max_hold_ms, ttl_ms, max_hold_most_ms, " ms", err);
  return status;
}

static int lock_fill(redmoon_lock *lock, const void *name, size_t name_len, redmoon_error *err) {
  const char *prefix = rm_client_key_prefix(lock->client);
  char part[sizeof "redlock+void." + 2 * LOCK_ID_BYTES];
  rm_escape(lock->shown, sizeof lock->shown, name, name_len);
  if (rm_random_init() != 0)
    return rm_fail(err, REDMOON_EUNAVAILABLE, "redlock '%s': libsodium has no source of random bytes", lock->shown);
  snprintf(part, sizeof part, "redlock+void.%0*d", 2 * LOCK_ID_BYTES, 0); /* room for the id */
  int status = rm_key_build(prefix, name, name_len, "redlock", &lock->redlock->key, err);
  if (status == 0) status = rm_key_build(prefix, name, name_len, "redlock.fence", &lock->redlock->fence_key, err);
  return status == 0 ? rm_key_build(prefix, name, name_len, part, &lock->redlock->void_key, err) : status;
}

static int lock_new(redmoon_redlock *redlock, const void *name, size_t name_len, const redmoon_redlock_request *request,
                    redmoon_lock **out, redmoon_error *err) {
  redmoon_lock *lock = rm_calloc(1, sizeof *lock);
  rm_redlock_part *part = rm_calloc(1, sizeof *part + redlock->count * sizeof *part->servers);
  if (lock == NULL || part == NULL) {
    rm_free(lock);
    rm_free(part);
    return rm_fail_nomem(err);
  }
  atomic_fetch_add(&redlock->refs, 1);
  part->redlock = redlock;
  lock->redlock = part;
  lock->client = redmoon_client_ref(redlock->clients[0]);
  lock->pid = rm_client_pid(lock->client);
  lock->ttl_ms = given(request->ttl_ms, DEFAULT_TTL_MS);
  lock->max_hold_ms = given(request->max_hold_ms, 0);
  atomic_init(&lock->refs, 1);
  atomic_init(&lock->state, LOCK_HOLDS);
  atomic_init(&lock->timer, -1);
  int status = lock_fill(lock, name, name_len, err);
  if (status < 0) rm_lock_unref(lock);
  else *out = lock;
  return status;
}

/* Waiting. */

static int attempt_start(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err) {
  return rm_redlock_attempt_start(ctx, try.left_us == 0, op, err);
}

static int64_t retry_us(void *ctx) {
  int64_t left_ms = ((const rm_redlock_acquisition *)ctx)->left_ms;
  return left_ms < 0 ? RM_FOREVER : left_ms * 1000; /* of servers that do not vote nobody knows when they will */
}

static int64_t pause_us(void *ctx, int attempts) {
  const rm_redlock_acquisition *self = ctx;
  return rm_lock_pause_us(attempts, 0, self->left_ms * 1000, rm_random_upto(LOCK_DRAW));
}

static int finish(void *ctx, redmoon_error *err) {
  (void)err;
  rm_redlock_acquisition *self = ctx;
  redmoon_lock *lock = self->lock;
  self->lock = NULL;
  rm_client_count(lock->client, "redlock", "acquired");
  if (self->renew) rm_lock_renew(lock, self->began_us);
  *self->out = lock;
  return 0;
}

static void drop(void *ctx) {
  rm_redlock_acquisition *self = ctx;
  if (self->lock != NULL) rm_lock_unref(self->lock);
  rm_free(self);
}

/* Nobody is woken: which of the servers would have to tell? */
static const rm_waiting_class acquiring = {
    .start = attempt_start, .retry_us = retry_us, .finish = finish, .drop = drop, .pause_us = pause_us};

int redmoon_redlock_acquire_start(redmoon_redlock *redlock, const void *name, size_t name_len,
                                  const redmoon_redlock_request *request, redmoon_lock **out, redmoon_op **op,
                                  redmoon_error *err) {
  static const redmoon_redlock_request none = REDMOON_REDLOCK_REQUEST_INIT;
  if (request == NULL) request = &none;
  rm_error_clear(err);
  int status = rm_name_check("lock name", name, name_len, err);
  if (status == 0) status = check_request(redlock, request, err);
  redmoon_lock *lock = NULL;
  if (status == 0) status = lock_new(redlock, name, name_len, request, &lock, err);
  if (status < 0) return status;
  rm_redlock_acquisition *self = rm_calloc(1, sizeof *self);
  if (self == NULL) {
    rm_lock_unref(lock);
    return rm_fail_nomem(err);
  }
  self->lock = lock;
  self->out = out;
  self->renew = given(request->renew, 0) != 0;
  self->wait_ms = given(request->wait_ms, 0);
  self->left_ms = -1;
  return rm_waiting_start(lock->client, &acquiring, self, self->wait_ms, op, err);
}

int redmoon_redlock_acquire(redmoon_redlock *redlock, const void *name, size_t name_len, const redmoon_redlock_request *request,
                            redmoon_lock **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_redlock_acquire_start(redlock, name, name_len, request, out, &op, err), &op, err);
}
