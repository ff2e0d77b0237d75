/* SPDX-License-Identifier: MIT */
/** What all handles of one client share.
 *
 *  Lock order: none of these locks is ever held across I/O, a hook or a call, nor while another is taken, but for the
 *  pool's, which is taken inside a lane's, and those of a subscription and the keeper, which are taken inside that of the
 *  wake-ups: lane mutexes (engine/mux.h), pool mutex, route mutex, discovery mutex, wake-ups mutex, subscription mutexes,
 *  keeper mutex, hooks mutex, flights mutex. */
#ifndef RM_ENGINE_CORE_H
#define RM_ENGINE_CORE_H

#include "base/event.h"
#include "base/random.h"
#include "engine/flights.h"
#include "engine/hooks.h"
#include "engine/keeper.h"
#include "engine/metrics.h"
#include "engine/wakeups.h"
#include "route/route.h"

#include <redmoon/client.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct rm_core {
  atomic_int refs;    /* handles; the last one shuts down and frees */
  rm_config *config;
  void (*credentials_drop)(void *ctx);
  rm_tls *tls;
  rm_dialer dialer;
  rm_route *route;
  struct rm_discovery *discovery; /* of the route's nodes; NULL: they are known from the begin */
  struct rm_mux *mux; /* NULL: every call has a connection of its own */
  rm_event closing;   /* readable once shut down */
  atomic_bool closed;
  atomic_int *fork_mark; /* in a page that the kernel wipes in a forked child; NULL: ask getpid() */
  atomic_long pid;       /* whose it is; negative while a thread of that process makes it its own */
  char token[17];     /* random; names what belongs to this client on the server */
  _Atomic uint64_t marker_slots; /* keys of commit markers in use: bit i for the i-th */
  rm_random_store random;        /* for tokens */
  struct rm_call *_Atomic spare; /* of rm_call_delete for rm_call_new; NULL: none */
  rm_hooks hooks;
  rm_metrics metrics;
  rm_keeper keeper;
  rm_flights flights;
  rm_wakeups wakeups;
} rm_core;

/** Call settings, resolved, in microseconds. Immutable. */
typedef struct rm_settings {
  int64_t timeout_us, pool_timeout_us, read_timeout_us, write_timeout_us, min_backoff_us, max_backoff_us;
  int max_retries;
  bool idempotent;
} rm_settings;

struct redmoon_client {
  atomic_int refs;
  rm_core *core;
  rm_settings settings;
};

int rm_core_new(const char *url, const redmoon_options *options, rm_core **out, redmoon_error *err);
void rm_core_ref(rm_core *core);
void rm_core_unref(rm_core *core);
void rm_core_shutdown(rm_core *core);
enum { RM_FORK_CHILD = 0, RM_FORK_NONE, RM_FORK_BUSY }; /* of fork_mark: BUSY while one thread starts it afresh */
/** Notices a fork, and starts afresh in the child: on the thread that is first, while the others wait for that.  Cheap
 *  enough for every borrow. */
void rm_core_check_fork_slow(rm_core *core);
static inline void rm_core_check_fork(rm_core *core) {
  bool known = core->fork_mark != NULL && atomic_load_explicit(core->fork_mark, memory_order_acquire) == RM_FORK_NONE;
  if (!known) rm_core_check_fork_slow(core);
}
/** Closed by the pool or the engine: hook, then the socket. */
void rm_core_close_conn(void *core, rm_conn *conn, rm_close_reason why);
/** REDMOON_ECLOSED with its text. */
int rm_fail_closed(redmoon_error *err);

#endif
