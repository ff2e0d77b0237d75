/* SPDX-License-Identifier: MIT */
/* Servers with four ways in, or one cluster; the tests multiplied by the cells. */
#include "support/matrix.h"

#include "support/certs.h"
#include "support/cluster_fixture.h"
#include "support/sentinel_fixture.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const transport_names[MATRIX_TRANSPORTS + 1] = {"tcp", "unix", "tls", "sentinel", "cluster"};
static sentinel_fixture *watched;
static cluster *shared; /* NULL: it is one server */

redmoon_client *matrix_open(const matrix_cell *cell, const redmoon_options *options) {
  static const redmoon_options defaults = REDMOON_OPTIONS_INIT;
  redmoon_options own = options != NULL ? *options : defaults;
  own.protocol = cell->protocol;
  char url[300];
  if (cell->transport == MATRIX_CLUSTER) {
    snprintf(url, sizeof url, "%s", cluster_url(shared));
  } else if (cell->transport == MATRIX_TLS) {
    snprintf(url, sizeof url, "rediss://127.0.0.1:%d", redis_server_tls_port(cell->server));
    own.tls.ca_file = certs_get()->ca_file;
  } else if (cell->transport == MATRIX_TCP) {
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", redis_server_port(cell->server));
  } else if (cell->transport == MATRIX_SENTINEL) {
    snprintf(url, sizeof url, "%s", sentinel_fixture_url(watched));
  } else {
    snprintf(url, sizeof url, "%s", redis_server_url(cell->server));
  }
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(url, &own, &client, &err) != 0) fail_msg("%s: %s", url, err.message);
  return client;
}

/* Of the server, or the node. */
static char *ask_node(const matrix_cell *cell, int node, const char *command) {
  return redis_server_ask(shared != NULL ? cluster_server(shared, node) : cell->server, NULL, command);
}

static int node_count(void) { return shared != NULL ? cluster_count(shared) : 1; }

int matrix_nodes(const matrix_cell *cell) {
  (void)cell;
  return node_count();
}

int64_t matrix_sum(const matrix_cell *cell, const char *command) {
  int64_t sum = 0;
  for (int node = 0; node < node_count(); node++) {
    char *line = ask_node(cell, node, command);
    if (line[0] != ':') fail_msg("%s: %s", command, line);
    sum += strtoll(line + 1, NULL, 10);
    free(line);
  }
  return sum;
}

int64_t matrix_info(const matrix_cell *cell, const char *section, const char *field) {
  char command[80];
  int64_t sum = 0;
  snprintf(command, sizeof command, "INFO %s", section);
  for (int node = 0; node < node_count(); node++) {
    char *text = ask_node(cell, node, command);
    const char *at = strstr(text, field);
    if (at != NULL) sum += strtoll(at + strlen(field), NULL, 10);
    free(text);
  }
  return sum;
}

void matrix_await_info(const matrix_cell *cell, const char *section, const char *field, int64_t at_least) {
  for (int i = 0; i < 10000; i++) {
    if (matrix_info(cell, section, field) >= at_least) return;
    poll(NULL, 0, 2); /* between two looks, not instead of one */
  }
  fail_msg("%s %s did not reach %lld", section, field, (long long)at_least);
}

/* Running. */

static matrix_cell cells[MATRIX_CELLS];

static int cell_count(void) { return getenv("REDMOON_TEST_CLUSTER") != NULL ? 2 : MATRIX_CELLS; }

static int start_cluster(void) {
  shared = cluster_start(&(cluster_options){.replicas = -1});
  for (int i = 0; i < cell_count(); i++) cells[i] = (matrix_cell){.transport = MATRIX_CLUSTER, .protocol = 2 + i};
  return 0;
}

static int start_server(void **state) {
  (void)state;
  if (getenv("REDMOON_TEST_CLUSTER") != NULL) return start_cluster();
  const certs *c = certs_get();
  if (c == NULL) return -1;
  static const char *const args[] = {"--enable-debug-command", "yes", NULL};
  redis_server *server = redis_server_start(&(redis_server_options){
      .tcp = true, .tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file, .args = args});
  redis_server *other = redis_server_start(&(redis_server_options){.tcp = true, .args = args});
  watched = sentinel_fixture_start(&(sentinel_fixture_options){.primary = other, .sentinels = 1, .down_after_ms = 60000});
  for (int i = 0; i < MATRIX_CELLS; i++) {
    int transport = i % MATRIX_TRANSPORTS;
    cells[i] = (matrix_cell){.server = transport == MATRIX_SENTINEL ? other : server, .transport = transport, .protocol = 2 + i / MATRIX_TRANSPORTS};
  }
  return 0;
}

static int stop_server(void **state) {
  (void)state;
  sentinel_fixture_stop(watched);
  redis_server_stop(cells[0].server);
  redis_server_stop(cells[MATRIX_SENTINEL].server);
  cluster_stop(shared);
  return 0;
}

/* What a test is given at first: which test, in which cell. */
typedef struct assignment {
  const matrix_test *test;
  int cell;
} assignment;

static int enter(void **state) {
  const assignment *given = *state;
  matrix_cell *cell = &cells[given->cell];
  cell->test = given->test;
  for (int node = 0; node < node_count(); node++) free(ask_node(cell, node, "FLUSHALL"));
  cell->client = matrix_open(cell, NULL);
  *state = cell;
  return 0;
}

static void run_one(void **state) { ((matrix_cell *)*state)->test->run(state); }

static int leave(void **state) {
  matrix_cell *cell = *state;
  redmoon_client_close(cell->client);
  cell->client = NULL;
  return 0;
}

int matrix_run(const char *group, const matrix_test *tests, size_t count) {
  size_t most = count * MATRIX_CELLS, total = 0;
  struct CMUnitTest *all = calloc(most, sizeof *all);
  assignment *given = calloc(most, sizeof *given);
  char(*names)[160] = calloc(most, sizeof *names);
  bool clustered = cell_count() != MATRIX_CELLS;
  if (all == NULL || given == NULL || names == NULL) abort();
  for (size_t i = 0; i < count; i++) {
    for (int cell = 0; cell < cell_count() && !(clustered && tests[i].alone); cell++, total++) {
      int transport = clustered ? MATRIX_CLUSTER : cell % MATRIX_TRANSPORTS;
      given[total] = (assignment){&tests[i], cell};
      snprintf(names[total], sizeof names[total], "%s [RESP%d %s]", tests[i].name,
               clustered ? 2 + cell : 2 + cell / MATRIX_TRANSPORTS, transport_names[transport]);
      all[total] = (struct CMUnitTest){names[total], run_one, enter, leave, &given[total]};
    }
  }
  int failed = _cmocka_run_group_tests(group, all, total, start_server, stop_server);
  free(all);
  free(given);
  free(names);
  return failed;
}
