/* SPDX-License-Identifier: MIT */
/* The shared part of a client: made, shut down, noticed to be in a forked child. */
#define _GNU_SOURCE
#include "engine/core.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/call.h"
#include "engine/discovery.h"
#include "engine/mux.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

int rm_fail_closed(redmoon_error *err) { return rm_fail(err, REDMOON_ECLOSED, "the client is closed"); }

/* A page that reads RM_FORK_NONE here and 0 in a forked child, so that a borrow needs no system call to notice a fork. */
static atomic_int *new_fork_mark(void) {
#ifdef MADV_WIPEONFORK
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return NULL;
  if (madvise(page, size, MADV_WIPEONFORK) != 0) {
    munmap(page, size);
    return NULL;
  }
  atomic_init((atomic_int *)page, RM_FORK_NONE);
  return page;
#else
  return NULL;
#endif
}

/* Whether this thread is the one to start afresh.  False: there is no need, or another one has just done it. */
static bool claim_by_mark(atomic_int *mark) {
  int seen = RM_FORK_CHILD;
  while (!atomic_compare_exchange_weak(mark, &seen, RM_FORK_BUSY)) {
    if (seen == RM_FORK_NONE) return false;
    if (seen == RM_FORK_BUSY) sched_yield();
    seen = RM_FORK_CHILD;
  }
  return true;
}

static bool claim_by_pid(atomic_long *pid) {
  long self = (long)getpid(), seen = atomic_load(pid);
  while (seen == -self || !atomic_compare_exchange_weak(pid, &seen, -self)) {
    if (seen == self) return false;
    if (seen == -self) sched_yield();
    seen = atomic_load(pid);
  }
  return true;
}

/* No thread but those of the child is left.  The event is shared with the parent, and locks may have been held by threads
 * that are gone: all of it is made anew. */
static void start_afresh(rm_core *core) {
  rm_event_close(&core->closing);
  (void)rm_event_open(&core->closing);
  if (atomic_load(&core->closed)) rm_event_signal(&core->closing);
  rm_keeper_forked(&core->keeper);
  rm_hooks_forked(&core->hooks);
  rm_flights_forked(&core->flights);
  rm_wakeups_forked(&core->wakeups);
  rm_resolver_forked(core->dialer.resolver);
  rm_random_store_forked(&core->random);
  rm_random_hex(core->token, 8);
  rm_route_forked(core->route);
  rm_discovery_forked(core->discovery);
  for (rm_node *node = rm_route_first(core->route); node != NULL; node = rm_node_next(node)) {
    rm_pool_forked(node->pool);
    if (node->mux != NULL) rm_mux_forked(node->mux);
  }
  if (core->mux != NULL) rm_mux_forked(core->mux);
}

void rm_core_check_fork_slow(rm_core *core) {
  bool mine = core->fork_mark != NULL ? claim_by_mark(core->fork_mark) : claim_by_pid(&core->pid);
  if (!mine) return;
  start_afresh(core);
  atomic_store(&core->pid, (long)getpid());
  if (core->fork_mark != NULL) atomic_store(core->fork_mark, RM_FORK_NONE);
  if (core->config->min_idle > 0 && !atomic_load(&core->closed)) (void)rm_keeper_wake(core);
}

void rm_core_close_conn(void *ctx, rm_conn *conn, rm_close_reason why) {
  rm_core *core = ctx;
  if (rm_hooks_wants(&core->hooks, REDMOON_EVENT_CLOSE)) {
    redmoon_event event = {.kind = REDMOON_EVENT_CLOSE, .command = "", .address = conn->address};
    event.reason = rm_close_reason_name(why);
    rm_hooks_emit(&core->hooks, &event);
  }
  rm_conn_close(conn);
}

static void upkeep_due(void *ctx) { (void)rm_keeper_wake(ctx); }

static void discover(void *ctx) { rm_discovery_want(((rm_core *)ctx)->discovery); }

static void free_lanes(rm_core *core) {
  rm_mux_free(core->mux);
  for (rm_node *node = core->route != NULL ? rm_route_first(core->route) : NULL; node != NULL; node = rm_node_next(node))
    rm_mux_free(node->mux);
}

static void destroy(rm_core *core) {
  rm_wakeups_fini(&core->wakeups);
  rm_discovery_free(core->discovery);
  rm_keeper_fini(&core->keeper);
  rm_call_drop_spare(core);
  free_lanes(core);
  rm_route_free(core->route);
  rm_resolver_unref(core->dialer.resolver);
  rm_tls_free(core->tls);
  rm_hooks_fini(&core->hooks);
  rm_flights_fini(&core->flights);
  rm_metrics_fini(&core->metrics);
  rm_event_close(&core->closing);
  if (core->fork_mark != NULL) munmap(core->fork_mark, (size_t)sysconf(_SC_PAGESIZE));
  if (core->credentials_drop != NULL) core->credentials_drop(core->config->credentials_ctx);
  rm_config_free(core->config);
  rm_free(core);
}

int rm_core_new(const char *url, const redmoon_options *options, rm_core **out, redmoon_error *err) {
  int rc = rm_random_init();
  if (rc < 0) return rm_fail(err, rc, "libsodium could not be initialised");
  rm_core *core = rm_calloc(1, sizeof *core);
  if (core == NULL) return rm_fail_nomem(err);
  atomic_init(&core->refs, 1);
  atomic_init(&core->closed, false);
  core->closing = (rm_event)RM_EVENT_INIT;
  rm_keeper_init(&core->keeper);
  rm_hooks_init(&core->hooks);
  rm_flights_init(&core->flights);
  rm_wakeups_init(&core->wakeups);
  core->fork_mark = new_fork_mark();
  atomic_init(&core->pid, (long)getpid());
  rm_random_hex(core->token, 8);
  if (rm_event_open(&core->closing) != 0) {
    rc = rm_fail(err, REDMOON_EUNAVAILABLE, "no event descriptor could be had for the client");
    goto fail;
  }
  if (rm_metrics_init(&core->metrics) != 0 || (core->dialer.resolver = rm_resolver_new()) == NULL) {
    rc = rm_fail_nomem(err);
    goto fail;
  }
  if ((rc = rm_config_new(url, options, &core->config, err)) != 0) goto fail;
  if ((rc = rm_tls_new(core->config, &core->tls, err)) != 0) goto fail;
  core->dialer.config = core->config;
  core->dialer.tls = core->tls;
  rm_route_hooks hooks = {{rm_conn_is_reusable, rm_core_close_conn, upkeep_due, core}, discover};
  if ((rc = rm_route_new(core->config, &core->dialer, &hooks, &core->route, err)) != 0) goto fail;
  if ((rc = rm_discovery_new(core, &core->discovery, err)) != 0) goto fail;
  if (core->config->multiplex != 0 && (core->mux = rm_mux_new(core, core->config->pool_size, NULL)) == NULL) {
    rc = rm_fail_nomem(err);
    goto fail;
  }
  if (core->config->min_idle > 0) (void)rm_keeper_wake(core);
  if (core->config->min_idle > 0 && core->discovery != NULL) rm_discovery_want(core->discovery);
  *out = core;
  return 0;
fail:
  destroy(core);
  return rc;
}

void rm_core_ref(rm_core *core) { atomic_fetch_add(&core->refs, 1); }

void rm_core_shutdown(rm_core *core) {
  rm_core_check_fork(core);
  if (atomic_exchange(&core->closed, true)) return;
  rm_event_signal(&core->closing);
  for (rm_node *node = rm_route_first(core->route); node != NULL; node = rm_node_next(node)) {
    rm_pool_shutdown(node->pool, rm_clock_now_us());
    if (node->mux != NULL) rm_mux_shutdown(node->mux);
  }
  if (core->mux != NULL) rm_mux_shutdown(core->mux);
  rm_keeper_stop(&core->keeper);
}

void rm_core_unref(rm_core *core) {
  if (atomic_fetch_sub(&core->refs, 1) != 1) return;
  rm_core_shutdown(core);
  destroy(core);
}
