/* SPDX-License-Identifier: MIT */
/* Taking a lock: its options, and how long a waiter sleeps between attempts (lock_attempt.c; waiting.c has the loop). */
#include "patterns/lock_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/replicas.h"
#include "engine/wakeups.h"
#include "patterns/keys.h"
#include "patterns/status_generated.h"
#include "patterns/waiting.h"

#include <inttypes.h>
#include <string.h>

enum { DEFAULT_TTL_MS = 10000, MAX_WAIT_MS = 86400000 };
static const int64_t max_hold_most_ms = INT64_C(31622400000);

/* Options. */

static int64_t given(int64_t value, int64_t otherwise) { return value == REDMOON_UNSET ? otherwise : value; }

static int check(const char *option, int64_t value, int64_t min, int64_t max, const char *unit, redmoon_error *err) {
  if (value >= min && value <= max) return 0;
  return rm_fail(err, REDMOON_ECONFIG, "lock option %s: %" PRId64 "%s is not accepted; give %" PRId64 " to %" PRId64 "%s",
                 option, value, unit, min, max, unit);
}

static int check_token(const char *token, redmoon_error *err) {
  if (token == NULL) return 0;
  size_t len = strlen(token);
  if (len == 2 * LOCK_TOKEN_BYTES && strspn(token, "0123456789abcdef") == len) return 0;
  return rm_fail(err, REDMOON_ECONFIG,
                 "lock option token: not accepted (%zu bytes); give the token of a lock, %d hex digits", len,
                 2 * LOCK_TOKEN_BYTES);
}

static int check_options(const redmoon_lock_options *options, redmoon_error *err) {
  int64_t ttl_ms = given(options->ttl_ms, DEFAULT_TTL_MS), max_hold_ms = given(options->max_hold_ms, 0);
  int status = rm_lock_check_ttl(ttl_ms, err);
  if (status == 0) status = check("wait", given(options->wait_ms, 0), 0, MAX_WAIT_MS, " ms", err);
  if (status == 0) status = check("renew", given(options->renew, 0), 0, 1, "", err);
  if (status == 0 && max_hold_ms != 0) status = check("max_hold", max_hold_ms, ttl_ms, max_hold_most_ms, " ms", err);
  if (status == 0) status = check("min_replicas", given(options->min_replicas, 0), 0, RM_REPLICAS_MAX, "", err);
  if (status == 0) status = check("fair", given(options->fair, 0), 0, 1, "", err);
  if (status == 0) status = check_token(options->token, err);
  return status == 0 ? rm_request_id_check(options->request_id, err) : status;
}

static int lock_fill(redmoon_lock *lock, const void *name, size_t name_len, const redmoon_lock_options *options,
                     redmoon_error *err) {
  lock->ttl_ms = given(options->ttl_ms, DEFAULT_TTL_MS);
  lock->max_hold_ms = given(options->max_hold_ms, 0);
  rm_escape(lock->shown, sizeof lock->shown, name, name_len);
  const char *prefix = rm_client_key_prefix(lock->client);
  static const char *const parts[LOCK_KEYS] = {"lock", "fence", "lock.beats", "lock.queue"};
  int status = rm_keys_build(prefix, name, name_len, parts, LOCK_KEYS, lock->keys, err);
  if (status == 0 && options->request_id != NULL)
    status = rm_request_key_build(prefix, name, name_len, "lock", options->request_id, &lock->request_key, err);
  if (status == 0 && given(options->renew, 0) != 0)
    status = rm_renewal_client(lock->client, lock->ttl_ms, &lock->renewer, err);
  if (status == 0 && rm_random_init() != 0)
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "lock '%s': libsodium has no source of random bytes", lock->shown);
  if (status < 0) return status;
  rm_client_random_hex(lock->client, lock->token, LOCK_TOKEN_BYTES);
  rm_client_random_hex(lock->client, lock->id, LOCK_ID_BYTES);
  if (options->token != NULL) memcpy(lock->token, options->token, sizeof lock->token);
  return 0;
}

static int lock_new(redmoon_client *client, const void *name, size_t name_len, const redmoon_lock_options *options,
                    redmoon_lock **out, redmoon_error *err) {
  redmoon_lock *lock = rm_calloc(1, sizeof *lock);
  if (lock == NULL) return rm_fail_nomem(err);
  lock->client = redmoon_client_ref(client);
  lock->pid = rm_client_pid(client);
  atomic_init(&lock->refs, 1);
  atomic_init(&lock->state, LOCK_HOLDS);
  atomic_init(&lock->timer, -1);
  int status = lock_fill(lock, name, name_len, options, err);
  if (status < 0) rm_lock_unref(lock);
  else *out = lock;
  return status;
}

/* Waiting. */

/* A ticket of one that waits in turn lives for five times the longest pause: scripts/include/tickets.lua. */
enum { SHORTEST_PAUSE_US = 10000, FIRST_PAUSE_US = 25000, LONGEST_PAUSE_US = 1000000, AFTER_LEASE_US = 1000 };
enum { PAUSE_BY_PLACE_US = 50000 }; /* who is nearer to his turn asks more often */

int64_t rm_lock_pause_us(int looks, int64_t place, int64_t left_us, int64_t draw) {
  int64_t longest = place > 0 ? rm_min64(place, LONGEST_PAUSE_US / PAUSE_BY_PLACE_US) * PAUSE_BY_PLACE_US : LONGEST_PAUSE_US;
  int64_t bound = rm_waiting_bound_us(looks, FIRST_PAUSE_US, longest);
  int64_t pause = SHORTEST_PAUSE_US + (bound - SHORTEST_PAUSE_US) * draw / LOCK_DRAW;
  bool may_be_next = place <= 1 && left_us >= 0 && left_us < LONGEST_PAUSE_US;
  return may_be_next ? rm_min64(pause, left_us + AFTER_LEASE_US) : pause;
}

static int attempt_start(void *ctx, rm_waiting_try try, redmoon_op **op, redmoon_error *err) {
  rm_lock_acquisition *self = ctx;
  if (self->looks == 0) self->since_us = rm_clock_now_us();
  return rm_lock_attempt_start(self, try.left_us == 0, try.others, op, err);
}

static redmoon_bytes channel(void *ctx) { return ((const rm_lock_acquisition *)ctx)->lock->keys[LOCK_KEY]; }

/* Who waits in turn is woken by his ticket. */
static redmoon_bytes tag(void *ctx) {
  const rm_lock_acquisition *self = ctx;
  return self->fair ? (redmoon_bytes){self->lock->id, 2 * LOCK_ID_BYTES} : (redmoon_bytes){NULL, 0};
}

/* A ticket has to be kept alive.  While the lock is only kept for who is next, nobody will give it back. */
static int64_t heartbeat_us(void *ctx) {
  const rm_lock_acquisition *self = ctx;
  if (self->code != RM_STATUS_LOCK_HELD) return 0;
  return self->fair ? LONGEST_PAUSE_US : RM_WAKEUPS_POLL_US;
}

static int64_t retry_us(void *ctx) {
  int64_t left_ms = ((const rm_lock_acquisition *)ctx)->left_ms;
  return left_ms < 0 ? RM_FOREVER : left_ms * 1000; /* somebody took its lifetime away, and may give it back */
}

static int64_t pause_us(void *ctx, int attempts) {
  const rm_lock_acquisition *self = ctx;
  return rm_lock_pause_us(attempts, self->place, self->left_ms * 1000, rm_random_upto(LOCK_DRAW));
}

static int finish(void *ctx, redmoon_error *err) {
  (void)err;
  rm_lock_acquisition *self = ctx;
  redmoon_lock *lock = self->lock;
  self->lock = NULL;
  rm_client_count(lock->client, "lock", "acquired");
  if (self->renew) rm_lock_renew(lock, self->began_us);
  *self->out = lock;
  return 0;
}

static void drop(void *ctx) {
  rm_lock_acquisition *self = ctx;
  if (self->lock != NULL) rm_lock_unref(self->lock);
  rm_free(self);
}

static const rm_waiting_class acquiring = {.start = attempt_start,
                                           .retry_us = retry_us,
                                           .finish = finish,
                                           .drop = drop,
                                           .pause_us = pause_us,
                                           .channel = channel,
                                           .tag = tag,
                                           .heartbeat_us = heartbeat_us};

int redmoon_lock_acquire_start(redmoon_client *client, const void *name, size_t name_len,
                               const redmoon_lock_options *options, redmoon_lock **out, redmoon_op **op,
                               redmoon_error *err) {
  static const redmoon_lock_options none = REDMOON_LOCK_OPTIONS_INIT;
  if (options == NULL) options = &none;
  rm_error_clear(err);
  int status = rm_name_check("lock name", name, name_len, err);
  if (status == 0) status = check_options(options, err);
  redmoon_lock *lock = NULL;
  if (status == 0) status = lock_new(client, name, name_len, options, &lock, err);
  if (status < 0) return status;
  rm_lock_acquisition *self = rm_calloc(1, sizeof *self);
  if (self == NULL) {
    rm_lock_unref(lock);
    return rm_fail_nomem(err);
  }
  self->lock = lock;
  self->out = out;
  self->wait_ms = given(options->wait_ms, 0);
  self->min_replicas = given(options->min_replicas, 0);
  self->renew = given(options->renew, 0) != 0;
  self->fair = given(options->fair, 0) != 0;
  return rm_waiting_start(client, &acquiring, self, self->wait_ms, op, err);
}

int redmoon_lock_acquire(redmoon_client *client, const void *name, size_t name_len,
                         const redmoon_lock_options *options, redmoon_lock **out, redmoon_error *err) {
  redmoon_op *op = NULL;
  return rm_run(redmoon_lock_acquire_start(client, name, name_len, options, out, &op, err), &op, err);
}
