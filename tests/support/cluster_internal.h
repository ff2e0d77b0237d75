/* SPDX-License-Identifier: MIT */
/** Between the files of the cluster of a test: its nodes, and what they say of each other. */
#ifndef TESTS_SUPPORT_CLUSTER_INTERNAL_H
#define TESTS_SUPPORT_CLUSTER_INTERNAL_H

#include "support/cluster_fixture.h"

#include <stdint.h>

enum { NODE_ID_LEN = 40, NODE_MAX_ARGC = 40 };

typedef enum node_state { NODE_RUNNING, NODE_PAUSED, NODE_KILLED, NODE_REMOVED } node_state;

typedef struct cluster_node {
  redis_server *server;
  redmoon_client *client;
  char id[NODE_ID_LEN + 1];
  node_state state;
} cluster_node;

struct cluster {
  cluster_node nodes[CLUSTER_NODES_MAX];
  int count, timeout_ms;
  const char *const *args;
  char url[64 + CLUSTER_NODES_MAX * 16];
  int16_t target[CLUSTER_SLOTS]; /* where an open move goes to; -1: none is open */
};

/** The cluster as one node sees it, or as all do. */
typedef struct cluster_view {
  int known;                      /* nodes, itself included */
  int primary[CLUSTER_NODES_MAX]; /* of a replica; its own number: it is a primary; -1: not known */
  bool failed[CLUSTER_NODES_MAX], linked[CLUSTER_NODES_MAX]; /* as any of them has it, as all of them have it */
  int16_t owner[CLUSTER_SLOTS];   /* -1: nobody */
} cluster_view;

/** Ends the process. */
_Noreturn void cluster_die(const char *what, const char *why);
/** Sends CLUSTER `verb` with up to three arguments; an error ends the process. */
void cluster_tell(const cluster *c, int node, const char *verb, const char *a, const char *b, const char *d);
/** Whether the text that it answers has `expected` in it. */
bool cluster_says(const cluster *c, int node, const char *command, const char *argument, const char *expected);
void cluster_look(const cluster *c, int node, cluster_view *out);
/** Whether the running nodes agree on who serves what and follows whom; *out is that. */
bool cluster_agree(cluster *c, cluster_view *out);
/** What they agree on, waited for. */
void cluster_common_view(cluster *c, cluster_view *out);
/** Waits until it holds; after a minute the process is ended, with every node's view. */
void cluster_await(cluster *c, const char *what, bool (*holds)(cluster *c, void *ctx), void *ctx);

#endif
