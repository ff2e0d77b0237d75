/* SPDX-License-Identifier: MIT */
/* Starts nodes, makes a cluster of them, moves its slots, ends and replaces its nodes. */
#include "support/cluster_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 10 };
/* How often nodes tell each other of themselves depends on their timeout; until all is well it is this one. */
#define HASTY_MS "1000"

/* Starting. */

static void open_client(cluster *c, int i) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  options.read_timeout_ms = options.timeout_ms = 20000;
  options.pool_size = 2;
  if (redmoon_client_open(redis_server_url(c->nodes[i].server), &options, &c->nodes[i].client, &err) != 0)
    cluster_die("a node's client", err.message);
}

static int launch(cluster *c) {
  if (c->count == CLUSTER_NODES_MAX) cluster_die("starting", "too many nodes");
  /* Replicas stay where they were put. */
  const char *args[NODE_MAX_ARGC] = {"--cluster-node-timeout", NULL, "--cluster-migration-barrier", "100",
                                "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"};
  char epoch[16];
  args[1] = HASTY_MS;
  for (size_t n = 8, k = 0; c->args != NULL && c->args[k] != NULL && n + 1 < NODE_MAX_ARGC; k++) args[n++] = c->args[k];
  int i = c->count;
  c->nodes[i].server = redis_server_start(&(redis_server_options){.tcp = true, .cluster = true, .args = args});
  open_client(c, i);
  redmoon_reply *id = cluster_ask(c, i, "CLUSTER", "MYID", NULL);
  snprintf(c->nodes[i].id, sizeof c->nodes[i].id, "%s", redmoon_reply_string(id, NULL));
  redmoon_reply_free(id);
  c->count++;
  /* Two that start with the same one would have to settle it between them. */
  snprintf(epoch, sizeof epoch, "%d", i + 1);
  cluster_tell(c, i, "SET-CONFIG-EPOCH", epoch, NULL, NULL);
  return i;
}

/* To each of the others: gossip alone takes its time. */
static void meet(cluster *c, int i) {
  char port[16], bus[16];
  for (int other = 0; other < c->count; other++) {
    if (other == i || !cluster_is_running(c, other)) continue;
    snprintf(port, sizeof port, "%d", cluster_port(c, other));
    snprintf(bus, sizeof bus, "%d", redis_server_bus_port(c->nodes[other].server));
    cluster_tell(c, i, "MEET", "127.0.0.1", port, bus);
  }
}

static int running_count(const cluster *c) {
  int count = 0;
  for (int i = 0; i < c->count; i++) count += cluster_is_running(c, i);
  return count;
}

/* Every running node knows every running node by its name. */
static bool all_known(cluster *c, void *ctx) {
  (void)ctx;
  for (int i = 0; i < c->count; i++) {
    if (!cluster_is_running(c, i)) continue;
    cluster_view v;
    cluster_look(c, i, &v);
    for (int k = 0; k < c->count; k++)
      if (cluster_is_running(c, k) && v.primary[k] < 0) return false;
    if (v.known < running_count(c)) return false;
  }
  return true;
}

static void follow(cluster *c, int replica, int primary) {
  cluster_tell(c, replica, "REPLICATE", c->nodes[primary].id, NULL, NULL);
}

static void assign_slots(cluster *c, int i, int primaries) {
  char first[16], last[16];
  snprintf(first, sizeof first, "%d", i * CLUSTER_SLOTS / primaries);
  snprintf(last, sizeof last, "%d", (i + 1) * CLUSTER_SLOTS / primaries - 1);
  cluster_tell(c, i, "ADDSLOTSRANGE", first, last, NULL);
}

static void set_timeouts(cluster *c, const char *ms) {
  for (int i = 0; i < c->count; i++)
    if (cluster_is_running(c, i)) redmoon_reply_free(cluster_ask(c, i, "CONFIG", "SET", "cluster-node-timeout", ms, NULL));
}

static void settle(cluster *c) {
  char ms[16];
  snprintf(ms, sizeof ms, "%d", c->timeout_ms);
  set_timeouts(c, HASTY_MS);
  cluster_await_ok(c);
  set_timeouts(c, ms);
}

static void write_url(cluster *c) {
  size_t at = (size_t)snprintf(c->url, sizeof c->url, "redis+cluster://");
  for (int i = 0; i < c->count; i++)
    at += (size_t)snprintf(c->url + at, sizeof c->url - at, "%s127.0.0.1:%d", i > 0 ? "," : "", cluster_port(c, i));
}

cluster *cluster_start(const cluster_options *options) {
  static const cluster_options none = {0};
  if (options == NULL) options = &none;
  cluster *c = calloc(1, sizeof *c);
  if (c == NULL) cluster_die("starting", "no memory");
  memset(c->target, 0xff, sizeof c->target);
  c->timeout_ms = options->node_timeout_ms > 0 ? options->node_timeout_ms : 15000;
  c->args = options->args;
  int primaries = options->primaries > 0 ? options->primaries : 3;
  int replicas = options->replicas < 0 ? 0 : options->replicas == 0 ? 1 : options->replicas;
  for (int i = 0; i < primaries * (1 + replicas); i++) {
    (void)launch(c);
    if (i < primaries) assign_slots(c, i, primaries);
    meet(c, i);
  }
  cluster_await(c, "the nodes know each other", all_known, NULL);
  for (int i = primaries; i < c->count; i++) follow(c, i, (i - primaries) % primaries);
  for (int i = 0; i < primaries; i++) redmoon_reply_free(cluster_ask(c, i, "FLUSHALL", NULL)); /* something to replicate */
  settle(c);
  write_url(c);
  return c;
}

static void drop_client(cluster *c, int i) {
  redmoon_client_close(c->nodes[i].client);
  c->nodes[i].client = NULL;
}

void cluster_stop(cluster *c) {
  if (c == NULL) return;
  for (int i = 0; i < c->count; i++) {
    drop_client(c, i);
    redis_server_stop(c->nodes[i].server);
  }
  free(c);
}

const char *cluster_url(const cluster *c) { return c->url; }
int cluster_count(const cluster *c) { return c->count; }
redis_server *cluster_server(const cluster *c, int i) { return c->nodes[i].server; }
redmoon_client *cluster_client(const cluster *c, int i) { return c->nodes[i].client; }
int cluster_port(const cluster *c, int i) { return c->nodes[i].server != NULL ? redis_server_port(c->nodes[i].server) : 0; }

/* Slots. */

static int owner_of(cluster *c, int slot) {
  int owner = cluster_primary_of(c, slot);
  if (owner < 0) cluster_die("moving a slot", "nobody serves it");
  return owner;
}

static void set_slot(cluster *c, int i, int slot, const char *how, int other) {
  char text[16];
  snprintf(text, sizeof text, "%d", slot);
  redmoon_reply_free(cluster_ask(c, i, "CLUSTER", "SETSLOT", text, how, c->nodes[other].id, NULL));
}

void cluster_begin_move(cluster *c, int slot, int to) {
  int from = owner_of(c, slot);
  if (from == to) cluster_die("moving a slot", "it is there already");
  set_slot(c, to, slot, "IMPORTING", from);
  set_slot(c, from, slot, "MIGRATING", to);
  c->target[slot] = (int16_t)to;
}

static int target_of(const cluster *c, int slot) {
  if (c->target[slot] < 0) cluster_die("moving a slot", "cluster_begin_move comes first");
  return c->target[slot];
}

/* Whether the source had any of them. */
static bool migrate(cluster *c, int from, int to, const char *const *keys, const size_t *lens, size_t count) {
  char port[16];
  snprintf(port, sizeof port, "%d", cluster_port(c, to));
  const char *argv[7 + BATCH] = {"MIGRATE", "127.0.0.1", port, "", "0", "10000", "KEYS"};
  size_t argl[7 + BATCH];
  for (size_t i = 0; i < 7; i++) argl[i] = strlen(argv[i]);
  for (size_t i = 0; i < count; i++) {
    argv[7 + i] = keys[i];
    argl[7 + i] = lens[i];
  }
  redmoon_reply *reply = NULL;
  redmoon_error err;
  if (redmoon_command(c->nodes[from].client, (int)(7 + count), argv, argl, &reply, &err) != 0)
    cluster_die("MIGRATE", err.message);
  bool had = strcmp(redmoon_reply_string(reply, NULL), "NOKEY") != 0;
  redmoon_reply_free(reply);
  return had;
}

/* One batch; 0: none is left. */
static size_t move_batch(cluster *c, int slot, int from, int to, size_t max) {
  char text[16], count[16];
  const char *keys[BATCH];
  size_t lens[BATCH], n = 0;
  snprintf(text, sizeof text, "%d", slot);
  snprintf(count, sizeof count, "%zu", max < BATCH ? max : (size_t)BATCH);
  redmoon_reply *reply = cluster_ask(c, from, "CLUSTER", "GETKEYSINSLOT", text, count, NULL);
  for (; n < redmoon_reply_count(reply) && n < BATCH; n++)
    keys[n] = redmoon_reply_string(redmoon_reply_at(reply, n), &lens[n]);
  if (n > 0) (void)migrate(c, from, to, keys, lens, n);
  redmoon_reply_free(reply);
  return n;
}

size_t cluster_move_keys(cluster *c, int slot, size_t max) {
  int to = target_of(c, slot), from = owner_of(c, slot);
  size_t moved = 0, n = 1;
  while (moved < max && n > 0) moved += n = move_batch(c, slot, from, to, max - moved);
  return moved;
}

bool cluster_move_key(cluster *c, int slot, const char *key) {
  size_t len = strlen(key);
  return migrate(c, owner_of(c, slot), target_of(c, slot), &key, &len, 1);
}

void cluster_end_move(cluster *c, int slot) {
  int to = target_of(c, slot), from = owner_of(c, slot);
  (void)cluster_move_keys(c, slot, SIZE_MAX);
  set_slot(c, to, slot, "NODE", to);
  set_slot(c, from, slot, "NODE", to);
  cluster_view v;
  cluster_look(c, to, &v);
  for (int i = 0; i < c->count; i++)
    if (i != to && i != from && cluster_is_running(c, i) && v.primary[i] == i) set_slot(c, i, slot, "NODE", to);
  c->target[slot] = -1;
}

void cluster_end_moves(cluster *c) {
  for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
    if (c->target[slot] >= 0) cluster_end_move(c, slot);
}

void cluster_move_slot(cluster *c, int slot, int to) {
  if (owner_of(c, slot) == to) return;
  cluster_begin_move(c, slot, to);
  cluster_end_move(c, slot);
}

/* Nodes. */

void cluster_kill(cluster *c, int i) {
  drop_client(c, i);
  redis_server_kill(c->nodes[i].server);
  c->nodes[i].state = NODE_KILLED;
}

void cluster_restart(cluster *c, int i) {
  if (c->nodes[i].state != NODE_KILLED) cluster_die("restarting", "it was not killed");
  redis_server_restart(c->nodes[i].server);
  open_client(c, i);
  c->nodes[i].state = NODE_RUNNING;
}

void cluster_pause(cluster *c, int i) {
  redis_server_freeze(c->nodes[i].server, true);
  c->nodes[i].state = NODE_PAUSED;
}

void cluster_resume(cluster *c, int i) {
  redis_server_freeze(c->nodes[i].server, false);
  c->nodes[i].state = NODE_RUNNING;
}

typedef struct change {
  int slot, from, now;
} change;

static bool has_changed(cluster *c, void *ctx) {
  change *wanted = ctx;
  cluster_view v;
  if (!cluster_agree(c, &v)) return false;
  wanted->now = v.owner[wanted->slot];
  if (wanted->now < 0 || wanted->now == wanted->from || !cluster_is_running(c, wanted->now)) return false;
  for (int i = 0; i < c->count; i++)
    if (cluster_is_running(c, i) && !cluster_says(c, i, "CLUSTER", "INFO", "cluster_state:ok")) return false;
  return true;
}

int cluster_await_failover(cluster *c, int slot, int from) {
  change wanted = {slot, from, -1};
  cluster_await(c, "a fail-over", has_changed, &wanted);
  return wanted.now;
}

static bool is_primary(cluster *c, void *ctx) {
  cluster_view v;
  return cluster_agree(c, &v) && v.primary[*(int *)ctx] == *(int *)ctx;
}

void cluster_promote(cluster *c, int replica) {
  cluster_tell(c, replica, "FAILOVER", NULL, NULL, NULL);
  cluster_await(c, "a replica is promoted", is_primary, &replica);
}

int cluster_add(cluster *c, int primary) {
  int i = launch(c);
  meet(c, i);
  cluster_await(c, "the nodes know the new one", all_known, NULL);
  if (primary >= 0) follow(c, i, primary);
  settle(c);
  return i;
}

void cluster_remove(cluster *c, int gone) {
  drop_client(c, gone);
  redis_server_stop(c->nodes[gone].server);
  c->nodes[gone].server = NULL;
  c->nodes[gone].state = NODE_REMOVED;
  for (int i = 0; i < c->count; i++)
    if (cluster_is_running(c, i)) cluster_tell(c, i, "FORGET", c->nodes[gone].id, NULL, NULL);
  cluster_await_ok(c);
}

int cluster_replace(cluster *c, int old) {
  cluster_view v;
  cluster_common_view(c, &v);
  int i = cluster_add(c, v.primary[old]);
  if (v.primary[old] == old) cluster_promote(c, i);
  cluster_await_ok(c);
  cluster_remove(c, old);
  return i;
}
