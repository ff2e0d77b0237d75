/* SPDX-License-Identifier: MIT */
/* Which program it is, and whether it is a cluster, environment variables say. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/cluster_fixture.h"
#include "support/embedded_server.h"

#include <stdlib.h>

static cluster *shared;

static bool is_clustered(void) { return getenv("REDMOON_TEST_CLUSTER") != NULL; }

static void stop_cluster(void) { cluster_stop(shared); }

static const char *cluster_of_the_process(void) {
  if (shared == NULL) {
    shared = cluster_start(&(cluster_options){.replicas = -1});
    atexit(stop_cluster);
  }
  return cluster_url(shared);
}

const char *embedded_server_url(const redmoon_embedded *server) {
  return server != NULL ? redmoon_embedded_url(server) : cluster_of_the_process();
}

int embedded_server_nodes(const redmoon_embedded *server) { return server != NULL ? 1 : cluster_count(shared); }

void embedded_server_open(redmoon_embedded **server, redmoon_client **client) {
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  redmoon_error err;
  options.server = getenv("REDMOON_TEST_SERVER");
  *server = NULL;
  if (!is_clustered() && redmoon_embedded_start(&options, server, &err) != 0) fail_msg("%s", err.message);
  if (redmoon_client_open(embedded_server_url(*server), NULL, client, &err) != 0) fail_msg("%s", err.message);
}

int embedded_server_alone(void **state) {
  (void)state;
  return 0;
}

int embedded_server_run(const char *group, const struct CMUnitTest *tests, size_t count, int (*start)(void **state),
                        int (*stop)(void **state)) {
  struct CMUnitTest *some = calloc(count, sizeof *some);
  size_t kept = 0;
  if (some == NULL) abort();
  for (size_t i = 0; i < count; i++)
    if (!is_clustered() || tests[i].teardown_func != embedded_server_alone) some[kept++] = tests[i];
  int failed = _cmocka_run_group_tests(group, some, kept, start, stop);
  free(some);
  return failed;
}
