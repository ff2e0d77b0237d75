/* SPDX-License-Identifier: MIT */
/* What the client may believe of its lease: its careful end, who is told, and how the keeper moves it on.
 *
 * The lease is counted from before the request was sent, so it never seems to last longer than on the server.  When its
 * careful end has passed the lock is lost for good, even if the server would still extend it: whoever was told has stopped
 * his work. */
#include "patterns/lock_internal.h"
#include "patterns/lock_watch.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/list.h"
#include "base/random.h"
#include "base/timer.h"

int64_t rm_lock_lease_end_us(int64_t began_us, int64_t ttl_ms) {
  int64_t ttl_us = ttl_ms * 1000;
  return began_us + ttl_us - (ttl_us / 100 + 2000); /* 1 % for clocks that drift, 2 ms for what they round */
}

/* The timer follows the lease.  Two threads may set it at once; whichever looks last sets it to what holds.  A forked child
 * shares it with its parent, and leaves it alone. */
static void set_timer(redmoon_lock *lock) {
  int fd = atomic_load(&lock->timer);
  if (fd < 0 || rm_client_pid(lock->client) != lock->pid) return;
  int64_t until_us, set_us;
  int state, set_state;
  do {
    set_us = atomic_load(&lock->until_us);
    set_state = atomic_load(&lock->state);
    bool ends = set_state == LOCK_LOST || (set_state != LOCK_HOLDS && atomic_load(&lock->watched));
    rm_timer_set(fd, set_state == LOCK_HOLDS ? set_us : ends ? 0 : RM_FOREVER);
    until_us = atomic_load(&lock->until_us);
    state = atomic_load(&lock->state);
  } while (until_us != set_us || state != set_state);
}

bool rm_lock_leave(redmoon_lock *lock, lock_state state) {
  int holds = LOCK_HOLDS;
  if (!atomic_compare_exchange_strong(&lock->state, &holds, (int)state)) return false;
  if (state == LOCK_LOST) rm_client_count(lock->client, "lock", "lost");
  set_timer(lock);
  return true;
}

void rm_lock_mark_lost(redmoon_lock *lock) {
  if (atomic_exchange(&lock->state, LOCK_LOST) == LOCK_LOST) return;
  rm_client_count(lock->client, "lock", "lost");
  set_timer(lock);
}

bool rm_lock_look(redmoon_lock *lock) {
  if (atomic_load(&lock->state) != LOCK_HOLDS) return false;
  if (rm_clock_boot_us() < atomic_load(&lock->until_us)) return true;
  rm_lock_leave(lock, LOCK_LOST);
  return false;
}

bool rm_lock_prolong(redmoon_lock *lock, int64_t until_us) {
  if (!rm_lock_look(lock)) return false;
  int64_t before = atomic_load(&lock->until_us);
  while (before < until_us && !atomic_compare_exchange_weak(&lock->until_us, &before, until_us)) {
  }
  set_timer(lock);
  return true;
}

int redmoon_lock_held(const redmoon_lock *lock) { return rm_lock_look((redmoon_lock *)(uintptr_t)lock); }

int redmoon_lock_lost(const redmoon_lock *lock) {
  return !redmoon_lock_held(lock) && atomic_load(&lock->state) == LOCK_LOST;
}

int64_t redmoon_lock_remaining_ms(const redmoon_lock *lock) {
  if (!redmoon_lock_held(lock)) return 0;
  return rm_max64(atomic_load(&lock->until_us) - rm_clock_boot_us(), 0) / 1000;
}

int redmoon_lock_fd(redmoon_lock *lock, redmoon_error *err) {
  rm_error_clear(err);
  int fd = atomic_load(&lock->timer);
  if (fd >= 0) return fd;
  fd = rm_timer_open();
  if (fd < 0) return rm_fail(err, REDMOON_EUNAVAILABLE, "lock '%s': no timer could be had from the system", lock->shown);
  atomic_store(&lock->timer, fd);
  set_timer(lock);
  return fd;
}

/* Watching: the timer also tells the end of what is held. */

typedef struct watch_op {
  redmoon_op op; /* first */
  redmoon_lock *lock; /* a reference */
} watch_op;

static int watch_step(redmoon_op *op, int64_t now_us) {
  (void)now_us;
  redmoon_lock *lock = ((watch_op *)op)->lock;
  if (!rm_lock_look(lock) || !atomic_load(&lock->watched) || rm_client_is_closed(lock->client)) return RM_DONE;
  op->wants = (rm_wants){atomic_load(&lock->timer), REDMOON_WANT_READ, RM_FOREVER};
  return RM_WAIT;
}

static void watch_destroy(redmoon_op *op) {
  watch_op *self = (watch_op *)op;
  atomic_store(&self->lock->watched, false);
  rm_lock_unref(self->lock);
  rm_free(self);
}

static const rm_op_class watch_class = {watch_step, NULL, watch_destroy, NULL};

int rm_lock_watch_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err) {
  *op = NULL;
  int fd = redmoon_lock_fd(lock, err);
  if (fd < 0) return fd;
  watch_op *self = rm_calloc(1, sizeof *self);
  if (self == NULL) return rm_fail_nomem(err);
  atomic_fetch_add(&lock->refs, 1);
  atomic_store(&lock->watched, true);
  self->op.class = &watch_class;
  self->op.client = lock->client;
  self->op.wants.fd = -1;
  self->lock = lock;
  *op = &self->op;
  return 0;
}

void rm_lock_unwatch(redmoon_lock *lock) {
  int fd = atomic_load(&lock->timer);
  if (atomic_exchange(&lock->watched, false) && fd >= 0 && rm_client_pid(lock->client) == lock->pid) rm_timer_set(fd, 0);
}

/* Renewal: at a third of the lease; what fails is tried again after a pause, until the careful end. */

enum { FIRST_PAUSE_US = 8000, LONGEST_PAUSE_US = 512000 };

static int64_t third_us(const redmoon_lock *lock) { return lock->ttl_ms * 1000 / 3; }

static int renewal_start(rm_renewal *renewal, redmoon_op **op, redmoon_error *err) {
  redmoon_lock *lock = RM_CONTAINER_OF(renewal, redmoon_lock, renewal);
  if (!rm_lock_look(lock)) return RM_DONE;
  return rm_lock_extend_start(lock, lock->renewer, lock->ttl_ms, op, err);
}

/* When to try again, or to see that it is lost: never later than the careful end. */
static int64_t again_us(redmoon_lock *lock) {
  int64_t bound = FIRST_PAUSE_US;
  for (int i = 1; i < lock->failures && bound < LONGEST_PAUSE_US; i++) bound *= 2;
  bound = rm_min64(rm_min64(bound, LONGEST_PAUSE_US), third_us(lock) / 2);
  int64_t left_us = atomic_load(&lock->until_us) - rm_clock_boot_us();
  return rm_clock_now_us() + rm_max64(rm_min64(1000 + rm_random_upto(bound), left_us), 0);
}

static int64_t renewal_ended(rm_renewal *renewal, int status, const redmoon_error *err) {
  redmoon_lock *lock = RM_CONTAINER_OF(renewal, redmoon_lock, renewal);
  if (!rm_lock_look(lock)) return RM_FOREVER;
  if (status == 0) {
    lock->failures = 0;
    int64_t left_us = atomic_load(&lock->until_us) - rm_clock_boot_us();
    /* The server may have cut the lease: then it ends with the longest hold, and there is only its end to see. */
    bool whole = left_us > third_us(lock);
    return rm_clock_now_us() + (whole ? third_us(lock) : left_us);
  }
  rm_client_count(lock->client, "lock", "renewal_failed");
  lock->failures++;
  bool spent = status == REDMOON_EUNAVAILABLE && err->outcome == REDMOON_ANSWERED;
  if (!spent && status != REDMOON_ECLOSED) return again_us(lock);
  return rm_clock_now_us() + rm_max64(atomic_load(&lock->until_us) - rm_clock_boot_us(), 0);
}

void rm_lock_renew(redmoon_lock *lock, int64_t began_us) {
  static const rm_renewal_class class = {renewal_start, renewal_ended};
  lock->renewal.class = &class;
  lock->renews = true;
  rm_renewal_add(lock->client, &lock->renewal, rm_clock_now_us() + began_us + third_us(lock) - rm_clock_boot_us());
}

void rm_lock_lease_fini(redmoon_lock *lock) {
  if (lock->renews) rm_renewal_remove(lock->client, &lock->renewal);
  lock->renews = false;
}
