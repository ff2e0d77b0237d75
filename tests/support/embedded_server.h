/* SPDX-License-Identifier: MIT */
/** An embedded server of the kind that is tested ($REDMOON_TEST_SERVER, else that of $PATH) and a client of it; both are the
 *  caller's.  Fails the test on any error.
 *
 *  With $REDMOON_TEST_CLUSTER it is a cluster, one for the process: *server is NULL then, which redmoon_embedded_close()
 *  takes too. */
#ifndef TESTS_SUPPORT_EMBEDDED_SERVER_H
#define TESTS_SUPPORT_EMBEDDED_SERVER_H

#include <redmoon/redmoon.h>
#include <stddef.h>

struct CMUnitTest;

void embedded_server_open(redmoon_embedded **server, redmoon_client **client);
/** Where other clients find it. */
const char *embedded_server_url(const redmoon_embedded *server);

/** 1, or how many primaries the cluster has: a call for many keys makes so many round trips at most. */
int embedded_server_nodes(const redmoon_embedded *server);

/** Runs the tests.  In a cluster those are left out that have embedded_server_alone as their teardown: they are about the
 *  connection to one server, which a proxy cuts or stops. */
int embedded_server_run(const char *group, const struct CMUnitTest *tests, size_t count, int (*start)(void **state),
                        int (*stop)(void **state));
int embedded_server_alone(void **state);

#endif
