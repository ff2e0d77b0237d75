/* SPDX-License-Identifier: MIT */
/** Which node a request goes to.
 *
 *      standalone   the one server
 *      sentinel     the primary that the sentinels name, or one of its replicas
 *      cluster      the primary that serves the key's slot, or one of its replicas
 *
 *  What the nodes are is told from above: the route does no I/O of its own.  Until it was told, whoever picks a node waits,
 *  and the hook `discover` says that somebody should find out; so does rm_route_suspect() whenever what is known may be
 *  out of date.
 *
 *  Nodes are added and never taken away before the route is freed, so a pointer to one stays good; those that left the
 *  topology have an empty pool, and serve again when their address comes back.
 *
 *  Lock order: the route's mutex is held for a few instructions, never across a hook, I/O or a call. */
#ifndef RM_ROUTE_ROUTE_H
#define RM_ROUTE_ROUTE_H

#include "pool/pool.h"
#include "route/slots.h"
#include "wire/connect.h"

#include <stdatomic.h>

/** A server and its pool. */
typedef struct rm_node {
  char name[128];                /* "host:port" or the path, shortened to fit */
  rm_address address;            /* its own copy */
  const rm_dialer *dialer;       /* how it is dialled; borrowed */
  rm_pool *pool;
  _Atomic int64_t latency_us;    /* of a PING, smoothed; 0: not measured */
  _Atomic int role;              /* RM_ROLE_*: what the server has to be, when it is dialled */
  bool serving;                  /* it may be picked; the route's */
  struct rm_mux *_Atomic mux;    /* the engine's: its shared connections */
  struct rm_node *_Atomic next;  /* rm_node_next */
} rm_node;

typedef struct rm_route rm_route; /* internally locked */
enum { RM_TROUBLE_SIZE = 320 };

/** What a request needs of its node. */
typedef struct rm_target {
  bool keyed;    /* the node that serves `slot`; else any */
  uint16_t slot;
  bool read;     /* it only reads: a replica may serve it where read_from says so */
} rm_target;

/** Somebody who waits for the nodes to become known; zeroed: nobody does. */
typedef struct rm_route_wait {
  rm_list link;
  rm_event event; /* while waiting: readable when it is worth picking again */
  bool waits, told, failed;
} rm_route_wait;

/** How the route reaches outside; called without its lock. */
typedef struct rm_route_hooks {
  rm_pool_hooks pool;
  void (*discover)(void *ctx); /* what is known of the nodes is to be found out, or again; ctx of the pool's hooks */
} rm_route_hooks;

/** `config` and `dialer` are borrowed and must outlive the route.  CONFIG for what contradicts itself. */
int rm_route_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                 redmoon_error *err);
void rm_route_free(rm_route *route); /* no lease may be left; NULL is allowed */
/** In a forked child: nobody waits, and the lock is made anew.  The pools are told by their own. */
void rm_route_forked(rm_route *route);

/** The node for a request.  RM_DONE: *out.  RM_WAIT: nothing is known yet; `wait` is readable by its event when it is worth
 *  asking again with the same `wait`, and rm_route_unwait ends it early.  Negative: what was tried to find out failed;
 *  UNAVAILABLE without memory or descriptors for the wait. */
int rm_route_pick(rm_route *route, const rm_target *target, rm_route_wait *wait, rm_node **out, redmoon_error *err);
/** The node for a request, or NULL: nothing is known yet. */
rm_node *rm_route_peek(rm_route *route, const rm_target *target);
void rm_route_unwait(rm_route *route, rm_route_wait *wait);
/** What is known may be out of date: a dial was refused, a server kept silent, or said that it is no primary. */
void rm_route_suspect(rm_route *route);

/** Whether the nodes may become others, so that it is worth waiting for one that serves. */
bool rm_route_may_change(const rm_route *route);
/** Begins to dial a node: rm_connect_start with what is expected of it. */
int rm_node_connect(const rm_node *node, int64_t now_us, int64_t deadline_us, rm_connect **out, redmoon_error *err);
/** Counts how often the nodes have become others. */
uint64_t rm_route_epoch(const rm_route *route);
/** Whether a request of this kind might still go to `node`, for whoever stays connected to one. */
bool rm_route_serves(rm_route *route, const rm_target *target, const rm_node *node);

/** All nodes that there ever were, for upkeep, statistics, shutdown. */
rm_node *rm_route_first(const rm_route *route);
static inline rm_node *rm_node_next(const rm_node *node) { return atomic_load_explicit(&node->next, memory_order_acquire); }
/** Whether one address is all there is, so that no request needs a slot. */
bool rm_route_is_cluster(const rm_route *route);
/** Whether it makes a difference to where a request goes what it asks for. */
bool rm_route_minds_requests(const rm_route *route);
/** The nodes that serve now, with or without the replicas, at most `max`; returns how many there are.  0 until anything is
 *  known. */
size_t rm_route_serving(rm_route *route, bool replicas, rm_node **out, size_t max);

/** A text that says why nothing is known, behind a colon; empty without reason. */
void rm_route_trouble(rm_route *route, char out[RM_TROUBLE_SIZE]);
/** What was found out, or why nothing was: whoever waits is woken.  */
void rm_route_failed(rm_route *route, const redmoon_error *why);

#endif
