/* SPDX-License-Identifier: MIT */
/* The primaries of a cluster, audited one after another.
 *
 *      WAITING --> its turn, a page at a time --> SEEN
 *          \                |                    /
 *           +------------> LEFT, when it is no primary any more; one that comes in its place is a new one, WAITING
 *
 *  Only the one whose turn it is has a cursor, so all that an audit knows besides is a state for each.  One that is scanned
 *  anew, or whose keys were on another one before, gives keys that the filter knows. */
#include "patterns/audit.h"

#include "base/alloc.h"
#include "engine/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVING_MAX = RM_AUDIT_NODES_MAX };

static rm_audit_node *find(const rm_audit_nodes *nodes, const char *name) {
  for (size_t i = 0; i < nodes->count; i++)
    if (strcmp(nodes->list[i].name, name) == 0) return &nodes->list[i];
  return NULL;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(rm_node *const *)a)->name, (*(rm_node *const *)b)->name);
}

static void forget_turn(redmoon_audit *audit) {
  audit->nodes.turn = 0;
  audit->scanned = false;
  snprintf(audit->cursor, sizeof audit->cursor, "0");
}

/* Those that serve no longer are not asked again; their keys are where they went. */
static void part_with_others(redmoon_audit *audit) {
  rm_audit_nodes *nodes = &audit->nodes;
  for (size_t i = 0; i < nodes->count; i++) {
    rm_audit_node *node = &nodes->list[i];
    if (node->route != NULL || node->state == RM_AUDIT_NODE_LEFT) continue;
    node->state = RM_AUDIT_NODE_LEFT;
    audit->changed = true;
    if (nodes->turn == i + 1) forget_turn(audit);
  }
}

static void come_back(rm_audit_node *node) {
  node->state = RM_AUDIT_NODE_WAITING;
  node->scanned_keys = 0;
  node->asked = false;
  node->server = rm_audit_server_unknown;
}

/* `serving` in an order of ours: that in which a cluster names its nodes is not the same from node to node. */
static int meet(redmoon_audit *audit, rm_node **serving, size_t count) {
  rm_audit_nodes *nodes = &audit->nodes;
  qsort(serving, count, sizeof *serving, by_name);
  rm_audit_node *list = rm_realloc(nodes->list, (nodes->count + count) * sizeof *list);
  if (list == NULL) return REDMOON_ENOMEM;
  nodes->list = list;
  for (size_t i = 0; i < nodes->count; i++) list[i].route = NULL;
  for (size_t i = 0; i < count; i++) {
    rm_audit_node *node = find(nodes, serving[i]->name);
    if (node == NULL) {
      if (nodes->count >= RM_AUDIT_NODES_MAX) return REDMOON_ENOMEM;
      node = &list[nodes->count++];
      *node = (rm_audit_node){.server = rm_audit_server_unknown};
      snprintf(node->name, sizeof node->name, "%s", serving[i]->name);
    } else if (node->state == RM_AUDIT_NODE_LEFT) {
      come_back(node);
    }
    node->route = serving[i];
  }
  part_with_others(audit);
  return 0;
}

int rm_audit_nodes_meet(redmoon_audit *audit) {
  rm_route *route = audit->client->core->route;
  size_t count = rm_route_serving(route, false, NULL, 0);
  if (count == 0 || count > SERVING_MAX) return 0; /* not known for now: those of before are asked */
  rm_node **serving = rm_alloc(count * sizeof(rm_node *));
  if (serving == NULL) return REDMOON_ENOMEM;
  size_t now = rm_route_serving(route, false, serving, count);
  int rc = now > 0 ? meet(audit, serving, now < count ? now : count) : 0;
  rm_free(serving);
  return rc;
}

void rm_audit_nodes_fini(rm_audit_nodes *nodes) {
  rm_free(nodes->list);
  *nodes = (rm_audit_nodes){0};
}

rm_audit_node *rm_audit_nodes_unasked(redmoon_audit *audit) {
  for (size_t i = 0; i < audit->nodes.count; i++) {
    rm_audit_node *node = &audit->nodes.list[i];
    if (node->route != NULL && node->state == RM_AUDIT_NODE_WAITING && !node->asked) return node;
  }
  return NULL;
}

rm_audit_node *rm_audit_nodes_turn(redmoon_audit *audit) {
  rm_audit_nodes *nodes = &audit->nodes;
  for (size_t i = 0; i < nodes->count && nodes->turn == 0; i++)
    if (nodes->list[i].state == RM_AUDIT_NODE_WAITING && nodes->list[i].route != NULL) nodes->turn = i + 1;
  return nodes->turn == 0 ? NULL : &nodes->list[nodes->turn - 1];
}

void rm_audit_nodes_seen(redmoon_audit *audit) {
  audit->nodes.list[audit->nodes.turn - 1].state = RM_AUDIT_NODE_SEEN;
  forget_turn(audit);
}

/* Sums. */

static void add(int64_t *sum, int64_t value) { *sum = *sum < 0 || value < 0 ? -1 : *sum + value; }

static void lower(int64_t *least, int64_t value, bool first) {
  if (first || value < *least) *least = value;
}

static void raise(int64_t *most, int64_t value, bool first) {
  if (first || value > *most) *most = value;
}

static void same(char *all, size_t cap, const char *one, bool first) {
  if (first) snprintf(all, cap, "%s", one);
  else if (strcmp(all, one) != 0) snprintf(all, cap, "mixed");
}

static void add_server(rm_audit_server *all, const rm_audit_server *one, bool first) {
  add(&all->keys, one->keys);
  add(&all->keys_end, one->keys_end);
  add(&all->expires, one->expires);
  add(&all->used_memory, one->used_memory);
  all->maxmemory = first || all->maxmemory > 0 ? (one->maxmemory > 0 ? all->maxmemory + one->maxmemory : one->maxmemory)
                                               : all->maxmemory; /* one without a limit, or unknown: so is the sum */
  lower(&all->maxclients, one->maxclients, first);
  raise(&all->connected_clients, one->connected_clients, first);
  same(all->version, sizeof all->version, one->version, first);
  same(all->role, sizeof all->role, one->role, first);
  same(all->policy, sizeof all->policy, one->policy, first);
}

void rm_audit_nodes_sum(redmoon_audit *audit) {
  rm_audit_server all = {.clustered = 1};
  bool first = true;
  for (size_t i = 0; i < audit->nodes.count; i++) {
    const rm_audit_node *node = &audit->nodes.list[i];
    if (node->state == RM_AUDIT_NODE_LEFT) continue;
    add_server(&all, &node->server, first);
    first = false;
  }
  audit->server = first ? rm_audit_server_unknown : all;
}

/* Keys that the scan has passed, of those that the nodes had: a cursor says nothing where a node's keys are kept by slot. */
double rm_audit_nodes_share(const redmoon_audit *audit) {
  double passed = 0, all = 0;
  for (size_t i = 0; i < audit->nodes.count; i++) {
    const rm_audit_node *node = &audit->nodes.list[i];
    double keys = node->server.keys > 0 ? (double)node->server.keys : 0;
    if (node->state == RM_AUDIT_NODE_LEFT) continue;
    all += keys;
    if (node->state == RM_AUDIT_NODE_SEEN) passed += keys;
    else passed += (double)node->scanned_keys < keys ? (double)node->scanned_keys : keys;
  }
  if (audit->done) return 1;
  return all > 0 && passed < 0.99 * all ? passed / all : all > 0 ? 0.99 : 0;
}
