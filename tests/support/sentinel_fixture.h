/* SPDX-License-Identifier: MIT */
/** A primary with replicas and the sentinels that watch them, for a test; fails over on demand.
 *
 *      sentinel_fixture *lab = sentinel_fixture_start(NULL);
 *      redmoon_client_open(sentinel_fixture_url(lab), ...);
 *      int old = sentinel_fixture_fail_over(lab, FAIL_OVER_KILL);
 *      ...
 *      sentinel_fixture_revive(lab, old);
 *      sentinel_fixture_stop(lab);
 *
 *  All of them die with the thread that started them.  Thread class: the test's main thread. */
#ifndef TESTS_SUPPORT_SENTINEL_FIXTURE_H
#define TESTS_SUPPORT_SENTINEL_FIXTURE_H

#include "support/redis_server.h"

enum { SENTINEL_NODES = 3, SENTINEL_SENTINELS = 3, SENTINEL_DOWN_AFTER_MS = 500 };

typedef struct sentinel_fixture sentinel_fixture;

typedef struct sentinel_fixture_options {
  int nodes, sentinels;              /* 0: 3 */
  redis_server *primary;             /* this one is watched, which the caller keeps, and there are no replicas; NULL: its own */
  const char *password;              /* of the nodes; NULL: none */
  const char *sentinel_password;     /* NULL: none */
  bool tls, sentinel_tls;            /* with the certificates of support/certs.h; then plain is not spoken */
  int down_after_ms;                 /* 0: SENTINEL_DOWN_AFTER_MS */
} sentinel_fixture_options;

typedef enum fail_over { FAIL_OVER_COMMAND, FAIL_OVER_KILL, FAIL_OVER_FREEZE, FAIL_OVERS } fail_over;

/** Returns when all sentinels know each other and all replicas.  Never NULL: the process is aborted when that takes 60 s. */
sentinel_fixture *sentinel_fixture_start(const sentinel_fixture_options *options);
void sentinel_fixture_stop(sentinel_fixture *lab); /* NULL is allowed */

const char *sentinel_fixture_url(const sentinel_fixture *lab); /* redis+sentinel://..., all sentinels, without credentials */
redis_server *sentinel_fixture_node(const sentinel_fixture *lab, int i);
redis_server *sentinel_fixture_sentinel(const sentinel_fixture *lab, int i);
int sentinel_fixture_port(const sentinel_fixture *lab, int i); /* of a node, as it is dialled */
int sentinel_fixture_sentinel_port(const sentinel_fixture *lab, int i);
/** Which node the sentinels name; -1: they do not agree, or it is none of ours. */
int sentinel_fixture_primary(const sentinel_fixture *lab);
/** Begins a fail-over, and returns at once with the node that was the primary. */
int sentinel_fixture_fail_over(sentinel_fixture *lab, fail_over how);
/** Waits until the sentinels name another primary than `old`; returns it. */
int sentinel_fixture_await_switch(const sentinel_fixture *lab, int old);
/** Brings a node back, and waits until everybody knows everybody again. */
void sentinel_fixture_revive(sentinel_fixture *lab, int node);
void sentinel_fixture_settle(const sentinel_fixture *lab);

#endif
