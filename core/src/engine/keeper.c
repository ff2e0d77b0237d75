/* SPDX-License-Identifier: MIT */
/* The keeper thread: closes idle connections in time, keeps min_idle of them ready, and steps the renewals and the links of
 * subscriptions, also while it dials. */
#include "engine/keeper.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/core.h"
#include "engine/driven.h"
#include "engine/renewal.h"

#include <poll.h>
#include <signal.h>

static void init(rm_keeper *keeper) {
  pthread_mutex_init(&keeper->lock, NULL);
  pthread_cond_init(&keeper->idle, NULL);
  rm_list_init(&keeper->renewals);
  rm_list_init(&keeper->driven);
  keeper->driven_count = 0;
  keeper->wake = (rm_event)RM_EVENT_INIT;
  keeper->started = keeper->stopping = keeper->due = false;
}

void rm_keeper_init(rm_keeper *keeper) {
  keeper->generation = 0;
  init(keeper);
}

void rm_keeper_fini(rm_keeper *keeper) {
  rm_event_close(&keeper->wake);
  pthread_cond_destroy(&keeper->idle);
  pthread_mutex_destroy(&keeper->lock);
}

void rm_keeper_forked(rm_keeper *keeper) {
  rm_driven_forked(keeper);
  rm_event_close(&keeper->wake);
  keeper->generation++;
  init(keeper);
}

/* Steps what is not of the pools.  Returns when to come again. */
static int64_t serve(rm_core *core) { return rm_min64(rm_renewals_step(core), rm_driven_step(core)); }

/* Waits for `wants`, a wake-up, the shutdown, the operations of renewals, or the links of subscriptions. */
static void wait_for(rm_core *core, const rm_wants *wants) {
  rm_keeper *keeper = &core->keeper;
  struct pollfd fds[3 + RM_RENEWALS_AT_ONCE + RM_DRIVEN_MAX + RM_DRIVEN_INNER_MAX]; /* 8 KB; what is not used is not written */
  fds[0] = (struct pollfd){.fd = keeper->wake.fd, .events = POLLIN};
  fds[1] = (struct pollfd){.fd = core->closing.fd, .events = POLLIN};
  fds[2] = rm_poll_wants(wants);
  nfds_t count = 3 + (nfds_t)rm_renewals_wants(core, fds + 3);
  const struct pollfd *links = fds + count;
  count += (nfds_t)rm_driven_wants(core, fds + count);
  if (poll(fds, count, rm_poll_timeout_ms(rm_clock_now_us(), wants->until_us)) <= 0) return;
  if (fds[0].revents != 0) rm_event_clear(&keeper->wake);
  if (fds + count > links) rm_driven_polled(core, links);
}

/* One dial for min_idle, start to end; a shutdown of the client ends it early. */
static void dial_one(rm_core *core, rm_node *node) {
  rm_lease lease = {0};
  redmoon_error err;
  int64_t began = rm_clock_now_us();
  if (rm_pool_acquire_permit(node->pool, &lease, began) != RM_POOL_DIAL) return;
  rm_connect *connect = NULL;
  rm_conn *conn = NULL;
  rm_wants wants = {-1, 0, RM_FOREVER};
  int rc = rm_node_connect(node, began, rm_deadline_us(began, core->config->connect_timeout_ms), &connect, &err);
  while (rc >= 0 && (rc = rm_connect_step(connect, rm_clock_now_us(), &wants, &conn, &err)) == RM_WAIT) {
    wants.until_us = rm_min64(wants.until_us, serve(core));
    wait_for(core, &wants);
    if (atomic_load(&core->closed)) rc = rm_fail_closed(&err);
  }
  rm_connect_free(connect);
  int64_t now = rm_clock_now_us();
  redmoon_event event = {.kind = REDMOON_EVENT_CONNECT, .command = "", .reason = "", .attempt = 1};
  event.duration_us = now - began;
  if (rc == RM_DONE) {
    rm_hooks_set_phases(&event, conn->connect_us); /* from here on it is the pool's */
    if (rm_pool_dialed(&lease, conn, now, &err) == 0) rm_pool_release(&lease, now);
  } else if (rc == REDMOON_ECLOSED) {
    rm_pool_cancel(&lease, now);
  } else {
    rm_pool_dial_failed(&lease, &err, now);
    rm_route_suspect(core->route);
  }
  rm_lease_fini(&lease);
  event.address = node->name;
  event.error = rc == RM_DONE ? NULL : &err;
  rm_hooks_emit(&core->hooks, &event);
}

static int64_t upkeep(rm_core *core) {
  int64_t next = RM_FOREVER;
  for (rm_node *node = rm_route_first(core->route); node != NULL; node = rm_node_next(node)) {
    int dials = 0;
    int64_t due = rm_pool_upkeep(node->pool, rm_clock_now_us(), &dials);
    for (int d = 0; d < dials && !atomic_load(&core->closed); d++) dial_one(core, node);
    if (dials > 0) due = rm_pool_upkeep(node->pool, rm_clock_now_us(), &dials);
    next = rm_min64(next, due);
  }
  return next;
}

static bool is_stopping(rm_keeper *keeper, bool *due) {
  pthread_mutex_lock(&keeper->lock);
  bool stopping = keeper->stopping;
  *due = keeper->due;
  keeper->due = false;
  pthread_mutex_unlock(&keeper->lock);
  return stopping;
}

static void *run(void *arg) {
  rm_core *core = arg;
  int64_t upkeep_us = 0;
  bool due = true;
  while (!is_stopping(&core->keeper, &due)) {
    if (due || rm_clock_now_us() >= upkeep_us) upkeep_us = upkeep(core);
    wait_for(core, &(rm_wants){-1, 0, rm_min64(upkeep_us, serve(core))});
  }
  rm_renewals_give_up(core);
  rm_driven_end(core);
  return NULL;
}

/* The host's signals are the host's: the thread starts with all of them blocked. */
static bool start(rm_core *core) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_t attr;
  if (pthread_attr_init(&attr) != 0) return false;
  pthread_attr_setstacksize(&attr, (size_t)256 << 10);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(&core->keeper.thread, &attr, run, core);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return rc == 0;
}

bool rm_keeper_wake(rm_core *core) {
  rm_keeper *keeper = &core->keeper;
  pthread_mutex_lock(&keeper->lock);
  if (!keeper->started && !keeper->stopping) {
    bool pollable = keeper->wake.fd >= 0 || rm_event_open(&keeper->wake) == 0;
    keeper->due = true;
    keeper->started = pollable && start(core);
  } else if (!keeper->due && keeper->started) {
    keeper->due = true;
    rm_event_signal(&keeper->wake);
  }
  bool runs = keeper->started && !keeper->stopping;
  pthread_mutex_unlock(&keeper->lock);
  return runs;
}

void rm_keeper_stop(rm_keeper *keeper) {
  pthread_mutex_lock(&keeper->lock);
  bool join = keeper->started && !keeper->stopping;
  keeper->stopping = true;
  if (join) rm_event_signal(&keeper->wake);
  pthread_mutex_unlock(&keeper->lock);
  if (join) pthread_join(keeper->thread, NULL);
}
