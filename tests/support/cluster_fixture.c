/* SPDX-License-Identifier: MIT */
/* Nodes are asked through clients of their own; what they say of each other is read from CLUSTER NODES. */
#include "support/cluster_fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { PATIENCE_MS = 60000, LOOK_MS = 10, ID = 40, BATCH = 10, MAX_ARGC = 40 };

typedef enum state { RUNNING, PAUSED, KILLED, REMOVED } state;

typedef struct node {
  redis_server *server;
  redmoon_client *client;
  char id[ID + 1];
  state state;
} node;

struct cluster {
  node nodes[CLUSTER_NODES_MAX];
  int count, timeout_ms;
  const char *const *args;
  char url[64 + CLUSTER_NODES_MAX * 16];
  int16_t target[CLUSTER_SLOTS]; /* where an open move goes to; -1: none is open */
};

/* The cluster as one node sees it. */
typedef struct view {
  int known;                      /* nodes, itself included */
  int primary[CLUSTER_NODES_MAX]; /* of a replica; its own number: it is a primary; -1: not known */
  bool failed[CLUSTER_NODES_MAX], linked[CLUSTER_NODES_MAX];
  int16_t owner[CLUSTER_SLOTS];   /* -1: nobody */
} view;

static void die(const char *what, const char *why) {
  fprintf(stderr, "cluster_fixture: %s: %s\n", what, why);
  abort();
}

static int64_t now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Asking. */

static redmoon_reply *send_list(const cluster *c, int i, va_list rest, redmoon_error *err) {
  const char *argv[MAX_ARGC];
  int argc = 0;
  while ((argv[argc] = va_arg(rest, const char *)) != NULL)
    if (++argc == MAX_ARGC) die("asking", "too many arguments");
  redmoon_reply *reply = NULL;
  if (c->nodes[i].client == NULL) die(argv[0], "the node does not run");
  int rc = redmoon_command(c->nodes[i].client, argc, argv, NULL, &reply, err);
  return rc == 0 ? reply : NULL;
}

redmoon_reply *cluster_ask(const cluster *c, int i, ...) {
  redmoon_error err;
  va_list rest;
  va_start(rest, i);
  redmoon_reply *reply = send_list(c, i, rest, &err);
  va_end(rest);
  if (reply == NULL) die("asking a node", err.message);
  return reply;
}

/* NULL with the error. */
static redmoon_reply *try_ask(const cluster *c, int i, redmoon_error *err, ...) {
  va_list rest;
  va_start(rest, err);
  redmoon_reply *reply = send_list(c, i, rest, err);
  va_end(rest);
  return reply;
}

static void tell(const cluster *c, int i, const char *verb, const char *a, const char *b, const char *d) {
  redmoon_reply_free(cluster_ask(c, i, "CLUSTER", verb, a, b, d, NULL));
}

static bool runs(const cluster *c, int i) { return c->nodes[i].state == RUNNING; }
bool cluster_is_running(const cluster *c, int i) { return runs(c, i); }

static int first_running(const cluster *c) {
  for (int i = 0; i < c->count; i++)
    if (runs(c, i)) return i;
  die("asking", "no node runs");
  return -1;
}

/* Views. */

static int number_of(const cluster *c, const char *id) {
  for (int i = 0; i < c->count; i++)
    if (strncmp(c->nodes[i].id, id, ID) == 0) return i;
  return -1;
}

/* "0-5460", "7", or "[93-<-id]" of a move under way. */
static void read_slots(view *v, int i, char *text) {
  char *rest = NULL;
  for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
    if (word[0] == '[') continue;
    char *end;
    long first = strtol(word, &end, 10), last = *end == '-' ? strtol(end + 1, NULL, 10) : first;
    for (long slot = first; slot <= last && slot < CLUSTER_SLOTS; slot++) v->owner[slot] = (int16_t)i;
  }
}

static void read_line(const cluster *c, view *v, char *line) {
  char id[ID + 1], address[256], flags[128], primary[ID + 1], link[16];
  int at = 0;
  v->known++;
  if (sscanf(line, "%40s %255s %127s %40s %*s %*s %*s %15s%n", id, address, flags, primary, link, &at) != 5)
    die("CLUSTER NODES", line);
  int i = number_of(c, id);
  if (i < 0) return; /* in handshake, under a name for the time being; or removed */
  v->failed[i] = strstr(flags, "fail") != NULL || strstr(flags, "noaddr") != NULL;
  v->linked[i] = strcmp(link, "connected") == 0;
  v->primary[i] = strstr(flags, "master") != NULL ? i : number_of(c, primary);
  if (at > 0) read_slots(v, i, line + at);
}

static char *nodes_text(const cluster *c, int i) {
  redmoon_error err;
  redmoon_reply *reply = try_ask(c, i, &err, "CLUSTER", "NODES", NULL);
  char *text = strdup(reply != NULL ? redmoon_reply_string(reply, NULL) : err.message);
  redmoon_reply_free(reply);
  if (text == NULL) die("asking", "no memory");
  return text;
}

static void look(const cluster *c, int i, view *v) {
  redmoon_reply *reply = cluster_ask(c, i, "CLUSTER", "NODES", NULL);
  char *text = strdup(redmoon_reply_string(reply, NULL)), *rest = NULL;
  redmoon_reply_free(reply);
  if (text == NULL) die("looking", "no memory");
  memset(v, 0, sizeof *v);
  memset(v->owner, 0xff, sizeof v->owner);
  memset(v->primary, 0xff, sizeof v->primary);
  for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) read_line(c, v, line);
  free(text);
}

static void give_up(const cluster *c, const char *what) {
  for (int i = 0; i < c->count; i++) {
    fprintf(stderr, "node %d, port %d, %.8s, state %d:\n", i, cluster_port(c, i), c->nodes[i].id, (int)c->nodes[i].state);
    if (!runs(c, i)) continue;
    char *text = nodes_text(c, i);
    fprintf(stderr, "%s\n", text);
    free(text);
  }
  die("not in time", what);
}

/* Between two looks, not instead of one. */
static void await(cluster *c, const char *what, bool (*holds)(cluster *c, void *ctx), void *ctx) {
  for (int64_t limit = now_ms() + PATIENCE_MS; !holds(c, ctx); poll(NULL, 0, LOOK_MS))
    if (now_ms() > limit) give_up(c, what);
}

static bool says(const cluster *c, int i, const char *command, const char *argument, const char *expected) {
  redmoon_reply *reply = cluster_ask(c, i, command, argument, NULL);
  bool found = strstr(redmoon_reply_string(reply, NULL), expected) != NULL;
  redmoon_reply_free(reply);
  return found;
}

/* What one of them complains of is what all say. */
static void merge(view *out, const view *other) {
  for (int i = 0; i < CLUSTER_NODES_MAX; i++) {
    out->failed[i] = out->failed[i] || other->failed[i];
    out->linked[i] = out->linked[i] && other->linked[i];
  }
}

/* Whether they agree on who serves what; *out is that. */
static bool agree(cluster *c, view *out) {
  int first = first_running(c);
  look(c, first, out);
  for (int i = first + 1; i < c->count; i++) {
    if (!runs(c, i)) continue;
    view other;
    look(c, i, &other);
    if (memcmp(other.owner, out->owner, sizeof other.owner) != 0) return false;
    if (memcmp(other.primary, out->primary, sizeof other.primary) != 0) return false;
    merge(out, &other);
  }
  return true;
}

static bool agree_on(cluster *c, void *ctx) { return agree(c, ctx); }

static void common_view(cluster *c, view *out) { await(c, "the nodes agree", agree_on, out); }

int cluster_primary_of(cluster *c, int slot) {
  view v;
  common_view(c, &v);
  return v.owner[slot];
}

int cluster_replica_of(cluster *c, int primary) {
  view v;
  common_view(c, &v);
  for (int i = 0; i < c->count; i++)
    if (i != primary && runs(c, i) && v.primary[i] == primary) return i;
  return -1;
}

int cluster_slots_of(cluster *c, int i) {
  view v;
  common_view(c, &v);
  int count = 0;
  for (int slot = 0; slot < CLUSTER_SLOTS; slot++) count += v.owner[slot] == i;
  return count;
}

static bool is_ok(cluster *c, void *ctx) {
  (void)ctx;
  view v;
  if (!agree(c, &v)) return false;
  for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
    if (v.owner[slot] < 0 || !runs(c, v.owner[slot])) return false;
  for (int i = 0; i < c->count; i++) {
    if (!runs(c, i)) continue;
    if (v.primary[i] < 0 || v.failed[i] || !v.linked[i] || !says(c, i, "CLUSTER", "INFO", "cluster_state:ok")) return false;
    if (v.primary[i] == i) continue;
    if (!runs(c, v.primary[i]) || !says(c, i, "INFO", "replication", "master_link_status:up")) return false;
  }
  return true;
}

void cluster_await_ok(cluster *c) { await(c, "all is well", is_ok, NULL); }

/* Starting. */

static void open_client(cluster *c, int i) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_error err;
  options.read_timeout_ms = options.timeout_ms = 20000;
  options.pool_size = 2;
  if (redmoon_client_open(redis_server_url(c->nodes[i].server), &options, &c->nodes[i].client, &err) != 0)
    die("a node's client", err.message);
}

static int launch(cluster *c) {
  if (c->count == CLUSTER_NODES_MAX) die("starting", "too many nodes");
  /* Replicas stay where they were put. */
  const char *args[MAX_ARGC] = {"--cluster-node-timeout", NULL, "--cluster-migration-barrier", "100",
                                "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"};
  char timeout[16], epoch[16];
  snprintf(timeout, sizeof timeout, "%d", c->timeout_ms);
  args[1] = timeout;
  for (size_t n = 8, k = 0; c->args != NULL && c->args[k] != NULL && n + 1 < MAX_ARGC; k++) args[n++] = c->args[k];
  int i = c->count;
  c->nodes[i].server = redis_server_start(&(redis_server_options){.tcp = true, .cluster = true, .args = args});
  open_client(c, i);
  redmoon_reply *id = cluster_ask(c, i, "CLUSTER", "MYID", NULL);
  snprintf(c->nodes[i].id, sizeof c->nodes[i].id, "%s", redmoon_reply_string(id, NULL));
  redmoon_reply_free(id);
  c->count++;
  /* Two that start with the same one would have to settle it between them. */
  snprintf(epoch, sizeof epoch, "%d", i + 1);
  tell(c, i, "SET-CONFIG-EPOCH", epoch, NULL, NULL);
  return i;
}

/* To each of the others: gossip alone takes its time. */
static void meet(cluster *c, int i) {
  char port[16], bus[16];
  for (int other = 0; other < c->count; other++) {
    if (other == i || !runs(c, other)) continue;
    snprintf(port, sizeof port, "%d", cluster_port(c, other));
    snprintf(bus, sizeof bus, "%d", redis_server_bus_port(c->nodes[other].server));
    tell(c, i, "MEET", "127.0.0.1", port, bus);
  }
}

static int running_count(const cluster *c) {
  int count = 0;
  for (int i = 0; i < c->count; i++) count += runs(c, i);
  return count;
}

/* Every running node knows every running node by its name. */
static bool all_known(cluster *c, void *ctx) {
  (void)ctx;
  for (int i = 0; i < c->count; i++) {
    if (!runs(c, i)) continue;
    view v;
    look(c, i, &v);
    for (int k = 0; k < c->count; k++)
      if (runs(c, k) && v.primary[k] < 0) return false;
    if (v.known < running_count(c)) return false;
  }
  return true;
}

static void follow(cluster *c, int replica, int primary) {
  tell(c, replica, "REPLICATE", c->nodes[primary].id, NULL, NULL);
}

static void assign_slots(cluster *c, int i, int primaries) {
  char first[16], last[16];
  snprintf(first, sizeof first, "%d", i * CLUSTER_SLOTS / primaries);
  snprintf(last, sizeof last, "%d", (i + 1) * CLUSTER_SLOTS / primaries - 1);
  tell(c, i, "ADDSLOTSRANGE", first, last, NULL);
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
  if (c == NULL) die("starting", "no memory");
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
  await(c, "the nodes know each other", all_known, NULL);
  for (int i = primaries; i < c->count; i++) follow(c, i, (i - primaries) % primaries);
  cluster_await_ok(c);
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
  if (owner < 0) die("moving a slot", "nobody serves it");
  return owner;
}

static void set_slot(cluster *c, int i, int slot, const char *how, int other) {
  char text[16];
  snprintf(text, sizeof text, "%d", slot);
  redmoon_reply_free(cluster_ask(c, i, "CLUSTER", "SETSLOT", text, how, c->nodes[other].id, NULL));
}

void cluster_begin_move(cluster *c, int slot, int to) {
  int from = owner_of(c, slot);
  if (from == to) die("moving a slot", "it is there already");
  set_slot(c, to, slot, "IMPORTING", from);
  set_slot(c, from, slot, "MIGRATING", to);
  c->target[slot] = (int16_t)to;
}

static int target_of(const cluster *c, int slot) {
  if (c->target[slot] < 0) die("moving a slot", "cluster_begin_move comes first");
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
  if (redmoon_command(c->nodes[from].client, (int)(7 + count), argv, argl, &reply, &err) != 0) die("MIGRATE", err.message);
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
  view v;
  look(c, to, &v);
  for (int i = 0; i < c->count; i++)
    if (i != to && i != from && runs(c, i) && v.primary[i] == i) set_slot(c, i, slot, "NODE", to);
  c->target[slot] = -1;
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
  c->nodes[i].state = KILLED;
}

void cluster_restart(cluster *c, int i) {
  if (c->nodes[i].state != KILLED) die("restarting", "it was not killed");
  redis_server_restart(c->nodes[i].server);
  open_client(c, i);
  c->nodes[i].state = RUNNING;
}

void cluster_pause(cluster *c, int i) {
  int status;
  pid_t pid = redis_server_pid(c->nodes[i].server);
  if (kill(pid, SIGSTOP) != 0) die("SIGSTOP", strerror(errno));
  while (waitpid(pid, &status, WUNTRACED) < 0)
    if (errno != EINTR) die("SIGSTOP", strerror(errno));
  if (!WIFSTOPPED(status)) die("SIGSTOP", "the node has ended");
  c->nodes[i].state = PAUSED;
}

void cluster_resume(cluster *c, int i) {
  if (kill(redis_server_pid(c->nodes[i].server), SIGCONT) != 0) die("SIGCONT", strerror(errno));
  c->nodes[i].state = RUNNING;
}

typedef struct change {
  int slot, from, now;
} change;

static bool has_changed(cluster *c, void *ctx) {
  change *wanted = ctx;
  view v;
  if (!agree(c, &v)) return false;
  wanted->now = v.owner[wanted->slot];
  if (wanted->now < 0 || wanted->now == wanted->from || !runs(c, wanted->now)) return false;
  for (int i = 0; i < c->count; i++)
    if (runs(c, i) && !says(c, i, "CLUSTER", "INFO", "cluster_state:ok")) return false;
  return true;
}

int cluster_await_failover(cluster *c, int slot, int from) {
  change wanted = {slot, from, -1};
  await(c, "a fail-over", has_changed, &wanted);
  return wanted.now;
}

static bool is_primary(cluster *c, void *ctx) {
  view v;
  return agree(c, &v) && v.primary[*(int *)ctx] == *(int *)ctx;
}

void cluster_promote(cluster *c, int replica) {
  tell(c, replica, "FAILOVER", NULL, NULL, NULL);
  await(c, "a replica is promoted", is_primary, &replica);
}

int cluster_add(cluster *c, int primary) {
  int i = launch(c);
  meet(c, i);
  await(c, "the nodes know the new one", all_known, NULL);
  if (primary >= 0) follow(c, i, primary);
  cluster_await_ok(c);
  return i;
}

void cluster_remove(cluster *c, int gone) {
  drop_client(c, gone);
  redis_server_stop(c->nodes[gone].server);
  c->nodes[gone].server = NULL;
  c->nodes[gone].state = REMOVED;
  for (int i = 0; i < c->count; i++)
    if (runs(c, i)) tell(c, i, "FORGET", c->nodes[gone].id, NULL, NULL);
  cluster_await_ok(c);
}

int cluster_replace(cluster *c, int old) {
  view v;
  common_view(c, &v);
  int i = cluster_add(c, v.primary[old]);
  if (v.primary[old] == old) cluster_promote(c, i);
  cluster_await_ok(c);
  cluster_remove(c, old);
  return i;
}
