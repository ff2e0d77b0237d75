/* SPDX-License-Identifier: MIT */
/* Nodes are asked through clients of their own; what they say of each other is read from CLUSTER NODES. */
#include "support/cluster_internal.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 60000, LOOK_MS = 10 };

void cluster_die(const char *what, const char *why) {
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
  const char *argv[NODE_MAX_ARGC];
  int argc = 0;
  while ((argv[argc] = va_arg(rest, const char *)) != NULL)
    if (++argc == NODE_MAX_ARGC) cluster_die("asking", "too many arguments");
  redmoon_reply *reply = NULL;
  if (c->nodes[i].client == NULL) cluster_die(argv[0], "the node does not run");
  int rc = redmoon_command(c->nodes[i].client, argc, argv, NULL, &reply, err);
  return rc == 0 ? reply : NULL;
}

redmoon_reply *cluster_ask(const cluster *c, int i, ...) {
  redmoon_error err;
  va_list rest;
  va_start(rest, i);
  redmoon_reply *reply = send_list(c, i, rest, &err);
  va_end(rest);
  if (reply == NULL) cluster_die("asking a node", err.message);
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

void cluster_tell(const cluster *c, int i, const char *verb, const char *a, const char *b, const char *d) {
  redmoon_reply_free(cluster_ask(c, i, "CLUSTER", verb, a, b, d, NULL));
}

bool cluster_is_running(const cluster *c, int i) { return c->nodes[i].state == NODE_RUNNING; }

static int first_running(const cluster *c) {
  for (int i = 0; i < c->count; i++)
    if (cluster_is_running(c, i)) return i;
  cluster_die("asking", "no node runs");
  return -1;
}

/* Views. */

static int number_of(const cluster *c, const char *id) {
  for (int i = 0; i < c->count; i++)
    if (strncmp(c->nodes[i].id, id, NODE_ID_LEN) == 0) return i;
  return -1;
}

/* "0-5460", "7", or "[93-<-id]" of a move under way. */
static void read_slots(cluster_view *v, int i, char *text) {
  char *rest = NULL;
  for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
    if (word[0] == '[') continue;
    char *end;
    long first = strtol(word, &end, 10), last = *end == '-' ? strtol(end + 1, NULL, 10) : first;
    for (long slot = first; slot <= last && slot < CLUSTER_SLOTS; slot++) v->owner[slot] = (int16_t)i;
  }
}

static void read_line(const cluster *c, cluster_view *v, char *line) {
  char id[NODE_ID_LEN + 1], address[256], flags[128], primary[NODE_ID_LEN + 1], link[16];
  int at = 0;
  v->known++;
  if (sscanf(line, "%40s %255s %127s %40s %*s %*s %*s %15s%n", id, address, flags, primary, link, &at) != 5)
    cluster_die("CLUSTER NODES", line);
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
  if (text == NULL) cluster_die("asking", "no memory");
  return text;
}

void cluster_look(const cluster *c, int i, cluster_view *v) {
  redmoon_reply *reply = cluster_ask(c, i, "CLUSTER", "NODES", NULL);
  char *text = strdup(redmoon_reply_string(reply, NULL)), *rest = NULL;
  redmoon_reply_free(reply);
  if (text == NULL) cluster_die("looking", "no memory");
  memset(v, 0, sizeof *v);
  memset(v->owner, 0xff, sizeof v->owner);
  memset(v->primary, 0xff, sizeof v->primary);
  for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) read_line(c, v, line);
  free(text);
}

static void give_up(const cluster *c, const char *what) {
  for (int i = 0; i < c->count; i++) {
    fprintf(stderr, "node %d, port %d, %.8s, state %d:\n", i, cluster_port(c, i), c->nodes[i].id, (int)c->nodes[i].state);
    if (!cluster_is_running(c, i)) continue;
    char *text = nodes_text(c, i);
    fprintf(stderr, "%s\n", text);
    free(text);
  }
  cluster_die("not in time", what);
}

/* Between two looks, not instead of one. */
void cluster_await(cluster *c, const char *what, bool (*holds)(cluster *c, void *ctx), void *ctx) {
  for (int64_t limit = now_ms() + PATIENCE_MS; !holds(c, ctx); poll(NULL, 0, LOOK_MS))
    if (now_ms() > limit) give_up(c, what);
}

bool cluster_says(const cluster *c, int i, const char *command, const char *argument, const char *expected) {
  redmoon_reply *reply = cluster_ask(c, i, command, argument, NULL);
  bool found = strstr(redmoon_reply_string(reply, NULL), expected) != NULL;
  redmoon_reply_free(reply);
  return found;
}

/* What one of them complains of is what all say. */
static void merge(cluster_view *out, const cluster_view *other) {
  for (int i = 0; i < CLUSTER_NODES_MAX; i++) {
    out->failed[i] = out->failed[i] || other->failed[i];
    out->linked[i] = out->linked[i] && other->linked[i];
  }
}

/* Whether they agree on who serves what; *out is that. */
bool cluster_agree(cluster *c, cluster_view *out) {
  int first = first_running(c);
  cluster_look(c, first, out);
  for (int i = first + 1; i < c->count; i++) {
    if (!cluster_is_running(c, i)) continue;
    cluster_view other;
    cluster_look(c, i, &other);
    if (memcmp(other.owner, out->owner, sizeof other.owner) != 0) return false;
    if (memcmp(other.primary, out->primary, sizeof other.primary) != 0) return false;
    merge(out, &other);
  }
  return true;
}

static bool agree_on(cluster *c, void *ctx) { return cluster_agree(c, ctx); }

void cluster_common_view(cluster *c, cluster_view *out) { cluster_await(c, "the nodes agree", agree_on, out); }

int cluster_primary_of(cluster *c, int slot) {
  cluster_view v;
  cluster_common_view(c, &v);
  return v.owner[slot];
}

int cluster_replica_of(cluster *c, int primary) {
  cluster_view v;
  cluster_common_view(c, &v);
  for (int i = 0; i < c->count; i++)
    if (i != primary && cluster_is_running(c, i) && v.primary[i] == primary) return i;
  return -1;
}

int cluster_slots_of(cluster *c, int i) {
  cluster_view v;
  cluster_common_view(c, &v);
  int count = 0;
  for (int slot = 0; slot < CLUSTER_SLOTS; slot++) count += v.owner[slot] == i;
  return count;
}

/* Whether a node's CLUSTER SLOTS has all running replicas.  One whose offset it was not told yet is left out there. */
static bool announces(const cluster *c, int i, const cluster_view *v) {
  bool listed[CLUSTER_NODES_MAX] = {false}, all = true;
  redmoon_reply *reply = cluster_ask(c, i, "CLUSTER", "SLOTS", NULL);
  for (size_t k = 0; k < redmoon_reply_count(reply); k++) {
    const redmoon_reply *range = redmoon_reply_at(reply, k);
    for (size_t r = 3; r < redmoon_reply_count(range); r++) {
      int64_t port = redmoon_reply_integer(redmoon_reply_at(redmoon_reply_at(range, r), 1));
      for (int n = 0; n < c->count; n++) listed[n] = listed[n] || cluster_port(c, n) == port;
    }
  }
  redmoon_reply_free(reply);
  for (int n = 0; n < c->count; n++) all = all && (listed[n] || v->primary[n] == n || !cluster_is_running(c, n));
  return all;
}

static bool is_ok(cluster *c, void *ctx) {
  (void)ctx;
  cluster_view v;
  if (!cluster_agree(c, &v)) return false;
  for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
    if (v.owner[slot] < 0 || !cluster_is_running(c, v.owner[slot])) return false;
  for (int i = 0; i < c->count; i++) {
    if (!cluster_is_running(c, i)) continue;
    if (v.primary[i] < 0 || v.failed[i] || !v.linked[i]) return false;
    if (!cluster_says(c, i, "CLUSTER", "INFO", "cluster_state:ok") || !announces(c, i, &v)) return false;
    if (v.primary[i] == i) continue;
    if (!cluster_is_running(c, v.primary[i])) return false;
    if (!cluster_says(c, i, "INFO", "replication", "master_link_status:up")) return false;
  }
  return true;
}

void cluster_await_ok(cluster *c) { cluster_await(c, "all is well", is_ok, NULL); }
