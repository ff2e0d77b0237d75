/* SPDX-License-Identifier: MIT */
/** A private server for a whole program, and a client of it.  The server is $REDMOON_TEST_SERVER, else that of $PATH.
 *
 *      cmocka_run_group_tests(tests, embedded_fixture_start, embedded_fixture_stop);   *state is the fixture
 */
#ifndef TESTS_SUPPORT_EMBEDDED_FIXTURE_H
#define TESTS_SUPPORT_EMBEDDED_FIXTURE_H

#include <redmoon/redmoon.h>

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
} fixture;

int embedded_fixture_start(void **state);
int embedded_fixture_stop(void **state);
/** Of a test's setup: an empty database. */
int embedded_fixture_empty(void **state);

#endif
