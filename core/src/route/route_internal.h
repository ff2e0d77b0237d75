/* SPDX-License-Identifier: MIT */
/** Between the files of the route: what all kinds have in common. */
#ifndef RM_ROUTE_ROUTE_INTERNAL_H
#define RM_ROUTE_ROUTE_INTERNAL_H

#include "route/route.h"

#include <pthread.h>

/** RM_READ_* of option read_from. */
enum { RM_READ_PRIMARY, RM_READ_REPLICA, RM_READ_ANY, RM_READ_NEAREST };

typedef struct rm_route_class {
  /** Of a route that is known, under its lock: a node, or NULL for none. */
  rm_node *(*pick)(rm_route *route, const rm_target *target);
  /** Whether `pick` might give this node; `target` NULL: for whatever request.  Under its lock. */
  bool (*serves)(rm_route *route, const rm_target *target, const rm_node *node);
  size_t (*serving)(rm_route *route, bool replicas, rm_node **out, size_t max); /* under the lock */
  void (*free)(rm_route *route); /* the memory, with what the kind has of its own */
} rm_route_class;

struct rm_route {
  const rm_route_class *class;
  rm_node *only; /* standalone: the answer to everything */
  const rm_config *config;
  const rm_dialer *dialer;
  rm_route_hooks hooks;
  int read_from;
  pthread_mutex_t lock; /* of all below */
  rm_node *_Atomic nodes; /* read without the lock, too */
  size_t node_count;
  bool known;
  _Atomic uint64_t epoch; /* read without the lock, too */
  rm_list waits;
  redmoon_error trouble; /* why nothing is known */
};

/** Fills in what all kinds have.  0 or NOMEM. */
int rm_route_init(rm_route *route, const rm_route_class *class, const rm_config *config, const rm_dialer *dialer,
                  const rm_route_hooks *hooks, redmoon_error *err);
/** Frees what rm_route_init and the nodes hold, not `route` itself. */
void rm_route_fini(rm_route *route);
/** A new node, not yet in the route.  NULL with `err`. */
rm_node *rm_node_new(const rm_route *route, const rm_address *address, const rm_dialer *dialer, redmoon_error *err);
/** min_idle connections are kept ready of a node that serves, none of another. */
void rm_node_keep(const rm_route *route, rm_node *node, bool serves, int64_t now_us);
void rm_node_free(rm_node *node);
/** Under the lock, or before anybody knows the route. */
void rm_route_add(rm_route *route, rm_node *node);
/** The node of that address; NULL: there is none.  Under the lock, or not. */
rm_node *rm_route_find(const rm_route *route, const rm_address *address);
/** Takes everybody off the list who waits, and wakes them.  Under the lock. */
void rm_route_tell(rm_route *route, bool failed);

/** After the nodes have become others, without the lock: those that serve nothing any more close what is idle and keep
 *  nothing ready. */
void rm_route_settle(rm_route *route, int64_t now_us);

int rm_standalone_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                      redmoon_error *err);
int rm_sentinel_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                    redmoon_error *err);
int rm_cluster_new(const rm_config *config, const rm_dialer *dialer, const rm_route_hooks *hooks, rm_route **out,
                   redmoon_error *err);

#endif
