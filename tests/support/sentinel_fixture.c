/* SPDX-License-Identifier: MIT */
/* Servers, sentinels, and what they say of each other. */
#include "support/sentinel_fixture.h"

#include "support/certs.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 8, LIMIT_MS = 60000 };

struct sentinel_fixture {
  sentinel_fixture_options options;
  redis_server *nodes[MOST], *sentinels[MOST];
  bool frozen[MOST];
  char url[300], configs[MOST][100];
};

static void die(const char *what) {
  fprintf(stderr, "sentinel_fixture: %s\n", what);
  abort();
}

static long long now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int sentinel_fixture_port(const sentinel_fixture *lab, int i) {
  return lab->options.tls ? redis_server_tls_port(lab->nodes[i]) : redis_server_port(lab->nodes[i]);
}

int sentinel_fixture_sentinel_port(const sentinel_fixture *lab, int i) {
  return lab->options.sentinel_tls ? redis_server_tls_port(lab->sentinels[i]) : redis_server_port(lab->sentinels[i]);
}

redis_server *sentinel_fixture_node(const sentinel_fixture *lab, int i) { return lab->nodes[i]; }
redis_server *sentinel_fixture_sentinel(const sentinel_fixture *lab, int i) { return lab->sentinels[i]; }
const char *sentinel_fixture_url(const sentinel_fixture *lab) { return lab->url; }

/* Asking. */

/* The number behind `field` in INFO's text; -1: it is not there. */
static long number_in(const char *text, const char *field) {
  const char *at = strstr(text, field);
  return at != NULL ? strtol(at + strlen(field), NULL, 10) : -1;
}

/* What sentinel `i` says of the primary: its port, and how many replicas and sentinels it knows. */
static bool look(const sentinel_fixture *lab, int i, long *port, long *replicas, long *sentinels) {
  char *text = redis_server_try(lab->sentinels[i], lab->options.sentinel_password, "INFO sentinel");
  const char *at = text != NULL ? strstr(text, "master0:name=main,status=") : NULL;
  bool ok = at != NULL && strncmp(at + 25, "ok,", 3) == 0;
  const char *address = at != NULL ? strstr(at, "address=127.0.0.1:") : NULL;
  *port = address != NULL ? strtol(address + 18, NULL, 10) : -1;
  *replicas = at != NULL ? number_in(at, "slaves=") : -1;
  *sentinels = at != NULL ? number_in(at, "sentinels=") : -1;
  free(text);
  return ok;
}

int sentinel_fixture_primary(const sentinel_fixture *lab) {
  long port = -1;
  for (int i = 0; i < lab->options.sentinels; i++) {
    long said, replicas, sentinels;
    (void)look(lab, i, &said, &replicas, &sentinels);
    if (i > 0 && said != port) return -1;
    port = said;
  }
  for (int i = 0; i < lab->options.nodes; i++)
    if (sentinel_fixture_port(lab, i) == port) return i;
  return -1;
}

static bool replica_is_up(const sentinel_fixture *lab, int i, int primary) {
  char *text = redis_server_try(lab->nodes[i], lab->options.password, "INFO replication");
  bool up = text != NULL && strstr(text, "master_link_status:up") != NULL && number_in(text, "master_port:") == sentinel_fixture_port(lab, primary);
  free(text);
  return up;
}

static bool is_settled(const sentinel_fixture *lab) {
  int primary = sentinel_fixture_primary(lab);
  if (primary < 0 || lab->frozen[primary] || !redis_server_runs(lab->nodes[primary])) return false;
  for (int i = 0; i < lab->options.nodes; i++)
    if (i != primary && !replica_is_up(lab, i, primary)) return false;
  for (int i = 0; i < lab->options.sentinels; i++) {
    long port, replicas, sentinels;
    if (!look(lab, i, &port, &replicas, &sentinels)) return false;
    if (replicas != lab->options.nodes - 1 || sentinels != lab->options.sentinels) return false;
    char *text = redis_server_ask(lab->sentinels[i], lab->options.sentinel_password, "SENTINEL CKQUORUM main");
    bool usable = text[0] == '+';
    free(text);
    if (!usable) return false;
  }
  return true;
}

void sentinel_fixture_settle(const sentinel_fixture *lab) {
  for (long long by = now_ms() + LIMIT_MS; !is_settled(lab); poll(NULL, 0, 20))
    if (now_ms() > by) die("the sentinels do not agree within 60 s");
}

/* Starting. */

static redis_server *start_node(const sentinel_fixture *lab, int primary_port) {
  const sentinel_fixture_options *o = &lab->options;
  const char *args[24];
  size_t n = 0;
  char port[16];
  snprintf(port, sizeof port, "%d", primary_port);
  const char *const always[] = {"--enable-debug-command", "yes", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
                                "--repl-timeout", "5", "--repl-ping-replica-period", "1"};
  for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) args[n++] = always[i];
  if (o->password != NULL) {
    args[n++] = "--requirepass";
    args[n++] = o->password;
    args[n++] = "--masterauth";
    args[n++] = o->password;
  }
  if (o->tls) {
    args[n++] = "--tls-replication";
    args[n++] = "yes";
  }
  if (primary_port != 0) {
    args[n++] = "--replicaof";
    args[n++] = "127.0.0.1";
    args[n++] = port;
  }
  args[n] = NULL;
  redis_server_options options = {.tcp = !o->tls, .args = args};
  if (o->tls) {
    options.tls_cert = certs_get()->good.cert;
    options.tls_key = certs_get()->good.key;
    options.tls_ca = certs_get()->ca_file;
  }
  return redis_server_start(&options);
}

static void start_sentinel(sentinel_fixture *lab, int i) {
  const sentinel_fixture_options *o = &lab->options;
  const char *tmp = getenv("TMPDIR");
  snprintf(lab->configs[i], sizeof lab->configs[i], "%.60s/sentinel-XXXXXX", tmp != NULL ? tmp : "/tmp");
  int fd = mkstemp(lab->configs[i]);
  FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
  if (file == NULL) die("no configuration file");
  fprintf(file, "sentinel monitor main 127.0.0.1 %d %d\n", sentinel_fixture_port(lab, 0), o->sentinels / 2 + 1);
  fprintf(file, "sentinel down-after-milliseconds main %d\n", o->down_after_ms);
  fprintf(file, "sentinel failover-timeout main 3000\n");
  if (o->password != NULL) fprintf(file, "sentinel auth-pass main %s\n", o->password);
  if (o->sentinel_password != NULL) fprintf(file, "requirepass %s\n", o->sentinel_password);
  if (o->tls || o->sentinel_tls) fprintf(file, "tls-replication %s\n", o->tls ? "yes" : "no");
  fclose(file);
  redis_server_options options = {.tcp = !o->sentinel_tls, .sentinel = lab->configs[i]};
  if (o->sentinel_tls || o->tls) {
    options.tls_cert = certs_get()->good.cert;
    options.tls_key = certs_get()->good.key;
    options.tls_ca = certs_get()->ca_file;
  }
  lab->sentinels[i] = redis_server_start(&options);
}

sentinel_fixture *sentinel_fixture_start(const sentinel_fixture_options *options) {
  sentinel_fixture *lab = calloc(1, sizeof *lab);
  if (lab == NULL) die("memory");
  if (options != NULL) lab->options = *options;
  sentinel_fixture_options *o = &lab->options;
  if (o->nodes == 0) o->nodes = o->primary != NULL ? 1 : SENTINEL_NODES;
  if (o->sentinels == 0) o->sentinels = SENTINEL_SENTINELS;
  if (o->down_after_ms == 0) o->down_after_ms = SENTINEL_DOWN_AFTER_MS;
  if (o->nodes > MOST || o->sentinels > MOST) die("too many");
  lab->nodes[0] = o->primary != NULL ? o->primary : start_node(lab, 0);
  for (int i = 1; i < o->nodes; i++) lab->nodes[i] = start_node(lab, sentinel_fixture_port(lab, 0));
  /* Replicas are found at once by a sentinel that starts after they have come up, else ten seconds later. */
  for (int i = 1; i < o->nodes; i++)
    for (long long by = now_ms() + LIMIT_MS; !replica_is_up(lab, i, 0); poll(NULL, 0, 5))
      if (now_ms() > by) die("a replica does not come up");
  size_t len = (size_t)snprintf(lab->url, sizeof lab->url, "%s+sentinel://", o->tls ? "rediss" : "redis");
  for (int i = 0; i < o->sentinels; i++) {
    start_sentinel(lab, i);
    len += (size_t)snprintf(lab->url + len, sizeof lab->url - len, "%s127.0.0.1:%d", i > 0 ? "," : "", sentinel_fixture_sentinel_port(lab, i));
  }
  snprintf(lab->url + len, sizeof lab->url - len, "/main");
  sentinel_fixture_settle(lab);
  return lab;
}

void sentinel_fixture_stop(sentinel_fixture *lab) {
  if (lab == NULL) return;
  for (int i = 0; i < lab->options.sentinels; i++) {
    redis_server_stop(lab->sentinels[i]);
    unlink(lab->configs[i]);
  }
  for (int i = 0; i < lab->options.nodes; i++)
    if (lab->nodes[i] != lab->options.primary) redis_server_stop(lab->nodes[i]);
  free(lab);
}

/* Failing over. */

int sentinel_fixture_fail_over(sentinel_fixture *lab, fail_over how) {
  int old = sentinel_fixture_primary(lab);
  if (old < 0) die("there is no primary to fail over from");
  if (how == FAIL_OVER_KILL) redis_server_kill(lab->nodes[old]);
  if (how == FAIL_OVER_FREEZE) {
    redis_server_freeze(lab->nodes[old], true);
    lab->frozen[old] = true;
  }
  if (how == FAIL_OVER_COMMAND) {
    long long by = now_ms() + LIMIT_MS;
    for (bool begun = false; !begun; poll(NULL, 0, 20)) {
      char *text = redis_server_ask(lab->sentinels[0], lab->options.sentinel_password, "SENTINEL FAILOVER main");
      begun = text[0] == '+'; /* soon after another one it is refused */
      free(text);
      if (now_ms() > by) die("the sentinels refuse a fail-over");
    }
  }
  return old;
}

int sentinel_fixture_await_switch(const sentinel_fixture *lab, int old) {
  for (long long by = now_ms() + LIMIT_MS;; poll(NULL, 0, 5)) {
    int primary = sentinel_fixture_primary(lab);
    if (primary >= 0 && primary != old) return primary;
    if (now_ms() > by) die("there was no fail-over within 60 s");
  }
}

void sentinel_fixture_revive(sentinel_fixture *lab, int node) {
  if (lab->frozen[node]) redis_server_freeze(lab->nodes[node], false);
  else if (!redis_server_runs(lab->nodes[node])) redis_server_restart(lab->nodes[node]);
  lab->frozen[node] = false;
  sentinel_fixture_settle(lab);
}
