/* SPDX-License-Identifier: MIT */
/** The client: a pool of connections, the options of calls, statistics, hooks. */
#ifndef REDMOON_CLIENT_H
#define REDMOON_CLIENT_H

#include <redmoon/error.h>
#include <redmoon/op.h>
#include <redmoon/options.h>
#include <redmoon/reply.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: internally locked, reference-counted; share it freely. */
typedef struct redmoon_client redmoon_client;

/** Opens a client; dials lazily.  `url` NULL: $REDIS_URL, else redis://127.0.0.1:6379/0.  `options` may be NULL.
 *  On success *out is a reference owned by the caller (redmoon_client_close). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_client_open(const char *url, const redmoon_options *options,
                                                       redmoon_client **out, redmoon_error *err);
/** Adds a reference and returns `client`. */
REDMOON_API redmoon_client *redmoon_client_ref(redmoon_client *client);
/** Drops a reference; the last one shuts the client down.  NULL is allowed. */
REDMOON_API void redmoon_client_close(redmoon_client *client);
/** Shuts down now, whoever still holds references: every waiter and blocked call returns CLOSED within 100 ms. */
REDMOON_API void redmoon_client_shutdown(redmoon_client *client);

/** Options of calls; a field left at REDMOON_UNSET keeps the client's. */
typedef struct redmoon_call_options {
  int64_t timeout_ms;
  int64_t pool_timeout_ms;
  int64_t read_timeout_ms;
  int64_t write_timeout_ms;
  int64_t max_retries;
  int64_t min_backoff_ms;
  int64_t max_backoff_ms;
  int64_t idempotent; /**< 1: the caller declares that repeating these calls is harmless; they are retried */
} redmoon_call_options;
#define REDMOON_CALL_OPTIONS_INIT                                                                                \
  {REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET,      \
   REDMOON_UNSET}

/** A view of the same client (same pool) with other call options.  *out is owned by the caller
 *  (redmoon_client_close). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_client_with(redmoon_client *client, const redmoon_call_options *options,
                                                       redmoon_client **out, redmoon_error *err);

/** The URL without secrets, e.g. "redis://localhost:6379/0"; lives as long as the client. */
REDMOON_API const char *redmoon_client_url(const redmoon_client *client);

typedef struct redmoon_stats {
  uint64_t hits;          /**< borrows served by an idle connection */
  uint64_t misses;        /**< borrows that had to dial */
  uint64_t timeouts;      /**< borrows that ended in POOL_TIMEOUT */
  uint64_t wait_count;    /**< borrows that had to wait, whatever their end */
  uint64_t wait_time_us;  /**< time spent in those waits */
  uint64_t total;         /**< connections now: idle, in use and being dialled */
  uint64_t idle;
  uint64_t in_use;
  uint64_t waiting;       /**< borrows that wait now */
  uint64_t dials;         /**< dials begun */
  uint64_t dial_failures;
  uint64_t closed_idle, closed_lifetime, closed_peer, closed_dirty, closed_error, closed_failover;
  uint64_t subscriptions; /**< open now; each has, or dials, a connection beside the pool; the one that wakes waiters
                               is not counted */
} redmoon_stats;
REDMOON_API void redmoon_client_stats(const redmoon_client *client, redmoon_stats *out);

/** A server that the client knows. */
typedef struct redmoon_node {
  const char *address; /**< "host:port" or the socket's path; lives as long as the client */
  int role;            /**< REDMOON_NODE_* */
  int64_t latency_us;  /**< of a PING, with read_from "nearest"; 0: not measured */
  redmoon_stats stats; /**< of its pool; subscriptions are not counted by node */
} redmoon_node;
enum {
  REDMOON_NODE_PRIMARY = 1,
  REDMOON_NODE_REPLICA = 2,
  REDMOON_NODE_LEFT = 3 /**< it served once, or only redirected; it has no idle connections */
};
/** The servers that are known so far, at most `max` of them; returns how many there are.  Of a cluster or Sentinel none is
 *  known before the first call.  Thread-safe. */
REDMOON_API size_t redmoon_client_nodes(const redmoon_client *client, redmoon_node *out, size_t max);
/** Prometheus text exposition format 0.0.4.  *text is owned by the caller (redmoon_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_client_metrics(const redmoon_client *client, char **text, size_t *len,
                                                          redmoon_error *err);
/** Frees memory that the library handed out as plain bytes.  NULL is allowed. */
REDMOON_API void redmoon_free(void *ptr);

/** Hooks.  Called on the thread where it happens (also the keeper's), without locks held; must neither block nor close
 *  the client. */
enum {
  REDMOON_EVENT_COMMAND = 1, /**< a command ended */
  REDMOON_EVENT_RETRY = 2,   /**< an attempt failed and another follows */
  REDMOON_EVENT_CONNECT = 4, /**< a dial ended */
  REDMOON_EVENT_CLOSE = 8,   /**< a connection was closed */
  REDMOON_EVENT_REDIRECT = 16
};
typedef struct redmoon_event {
  int kind;
  const char *command;     /**< name, never arguments; "" for connect and close */
  const char *address;
  const char *reason;      /**< close: "idle", "lifetime", "peer", "dirty", "error", "failover", "closed"; else "" */
  int64_t duration_us;     /**< of the command or the dial */
  int64_t delay_us;        /**< retry: the back-off before the next attempt */
  int attempt;             /**< 1 is the first */
  const redmoon_error *error; /**< NULL on success */
  int64_t resolve_us, dial_us, tls_us, handshake_us; /**< connect that succeeded: its duration by steps; else 0 */
} redmoon_event;
typedef void (*redmoon_event_fn)(void *ctx, const redmoon_event *event);
/** Adds a hook for the kinds in `mask`.  *id is to be given to redmoon_client_off.  Hooks are asked in the order
 *  they were added. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_client_on(redmoon_client *client, int mask, redmoon_event_fn fn, void *ctx,
                                                     uint64_t *id, redmoon_error *err);
/** Removes it; when this returns, no call of it is under way or will come.  Not to be called from a hook. */
REDMOON_API void redmoon_client_off(redmoon_client *client, uint64_t id);

#ifdef __cplusplus
}
#endif
#endif
