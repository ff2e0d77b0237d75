/* SPDX-License-Identifier: MIT */
/** A real cluster for a test: primaries and replicas on free ports of 127.0.0.1, whose slots can be moved under load and
 *  whose nodes can be killed, stopped, added and replaced.
 *
 *      cluster *c = cluster_start(NULL);                            // 3 primaries, a replica each
 *      redmoon_client_open(cluster_url(c), NULL, &client, &err);
 *      cluster_move_slot(c, slot, other);                           // IMPORTING, MIGRATING, MIGRATE, NODE
 *      cluster_kill(c, cluster_primary_of(c, slot));
 *      int now = cluster_await_failover(c, slot, dead);
 *      cluster_stop(c);
 *
 *  Nodes are numbered from 0: first the primaries, then their replicas in turn, then those that were added.  A number is
 *  never given twice.  Everything that the cluster does in its own time is waited for by asking its nodes; what does not
 *  come about ends the process, with every node's view of the cluster.  The servers die with the thread that started
 *  them, so also when the test crashes (support/redis_server.h).
 *
 *  Thread class: one thread at a time.  cmocka is not used, so soak programs may use it. */
#ifndef TESTS_SUPPORT_CLUSTER_FIXTURE_H
#define TESTS_SUPPORT_CLUSTER_FIXTURE_H

#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stddef.h>

enum { CLUSTER_SLOTS = 16384, CLUSTER_NODES_MAX = 64 };

typedef struct cluster cluster;

typedef struct cluster_options {
  int primaries;           /* 0: 3 */
  int replicas;            /* of each primary; 0: 1; -1: none */
  int node_timeout_ms;     /* 0: 15,000, so that nobody is taken for dead on a busy machine; 1,000 for fail-overs */
  const char *const *args; /* more arguments for each node, NULL-ended; may be NULL */
} cluster_options;

/** Starts it and waits until every node finds that all is well; NULL options: the defaults.  Takes 2 s: a primary waits
 *  that long before it serves. */
cluster *cluster_start(const cluster_options *options);
void cluster_stop(cluster *c); /* NULL is allowed */

/** redis+cluster://127.0.0.1:port,... of the nodes it was started with; lives as long as the cluster. */
const char *cluster_url(const cluster *c);
int cluster_count(const cluster *c); /* of nodes that there ever were */
redis_server *cluster_server(const cluster *c, int node); /* NULL: it was removed */
int cluster_port(const cluster *c, int node);
/** Of that node alone, over its unix socket: redirections are errors there.  Lives until the node is killed or removed;
 *  NULL from then on. */
redmoon_client *cluster_client(const cluster *c, int node);
/** Its answer to a command of NUL-terminated arguments that end with NULL; the caller's.  An error ends the process. */
redmoon_reply *cluster_ask(const cluster *c, int node, ...);
/** Runs, and is neither killed, stopped nor removed. */
bool cluster_is_running(const cluster *c, int node);

/* Who serves what, as the running nodes have it.  They are asked until they agree. */

int cluster_primary_of(cluster *c, int slot);
int cluster_replica_of(cluster *c, int node); /* a running replica of that primary; -1: none */
int cluster_slots_of(cluster *c, int node);   /* how many it serves as a primary */
/** All is well: the running nodes agree on who serves each slot, each of those runs, and running replicas are linked. */
void cluster_await_ok(cluster *c);

/* Slots. */

/** Moves a slot with its keys to another primary.  Nothing when it is there already. */
void cluster_move_slot(cluster *c, int slot, int to);
/** The same in steps, to stay half-way: IMPORTING and MIGRATING; some of its keys; one of its keys (false: it is not at
 *  the source); the rest, and NODE everywhere. */
void cluster_begin_move(cluster *c, int slot, int to);
size_t cluster_move_keys(cluster *c, int slot, size_t max);
bool cluster_move_key(cluster *c, int slot, const char *key);
void cluster_end_move(cluster *c, int slot);
void cluster_end_moves(cluster *c); /* of all slots that a test has left half-way */

/* Nodes. */

void cluster_kill(cluster *c, int node);    /* kill -9 */
void cluster_restart(cluster *c, int node); /* of one that was killed; it knows its cluster, but has lost its keys */
void cluster_pause(cluster *c, int node);   /* SIGSTOP: its connections stay, and nobody answers */
void cluster_resume(cluster *c, int node);
/** Waits until the running nodes agree that the slot is served by another one than `from`, which runs; returns it. */
int cluster_await_failover(cluster *c, int slot, int from);
/** The replica takes its primary's place, in agreement with it, and has it when this returns. */
void cluster_promote(cluster *c, int replica);
/** Another node: a replica of that primary, or (-1) one without slots.  Returns its number. */
int cluster_add(cluster *c, int primary);
/** The others forget it, and it ends.  It must serve no slot, and nobody may be its replica. */
void cluster_remove(cluster *c, int node);
/** Puts a new node in the place of one, which is removed: its slots or its primary are the new one's, whose number is
 *  returned. */
int cluster_replace(cluster *c, int node);

#endif
