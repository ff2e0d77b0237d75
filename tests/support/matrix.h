/* SPDX-License-Identifier: MIT */
/** Every test against a real server eight times: {RESP2, RESP3} x {TCP, unix socket, TLS, found through a sentinel}.
 *  With $REDMOON_TEST_CLUSTER twice against a cluster: {RESP2, RESP3}.
 *
 *      static void test_of_something(void **state) {
 *        matrix_cell *cell = *state;                       // cell->client: default options, database emptied
 *        redmoon_client *other = matrix_open(cell, &options);
 *        ...
 *      }
 *      static const matrix_test tests[] = {MATRIX_TEST(test_of_something)};
 *      int main(void) { return matrix_run("command", tests, sizeof tests / sizeof tests[0]); }
 *
 *  Test names get the cell's name behind them.  A client that a test opens is the test's to close. */
#ifndef TESTS_SUPPORT_MATRIX_H
#define TESTS_SUPPORT_MATRIX_H

#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stddef.h>

enum { MATRIX_TCP, MATRIX_UNIX, MATRIX_TLS, MATRIX_SENTINEL, MATRIX_TRANSPORTS, MATRIX_CLUSTER = MATRIX_TRANSPORTS };
enum { MATRIX_CELLS = 2 * MATRIX_TRANSPORTS };

typedef struct matrix_test matrix_test;

typedef struct matrix_cell {
  redis_server *server;   /* one for all cells but those of the sentinel, which talks to the server, too; NULL: it is a cluster */
  redmoon_client *client; /* of this test */
  int transport, protocol;
  const matrix_test *test;
} matrix_cell;

struct matrix_test {
  const char *name;
  void (*run)(void **state);
  bool alone; /* about the connections to one server, or what only one can do: not run in a cluster */
};
#define MATRIX_TEST(function)                                                                                      \
  { #function, function, false }
#define MATRIX_ALONE(function)                                                                                     \
  { #function, function, true }

/** Runs every test in every cell; returns what main() is to return. */
int matrix_run(const char *group, const matrix_test *tests, size_t count);
/** Another client of the cell's transport and protocol; `options` NULL: defaults.  Fails the test on an error. */
redmoon_client *matrix_open(const matrix_cell *cell, const redmoon_options *options);
/** 1, or how many primaries the cluster has: the most connections that one thread needs. */
int matrix_nodes(const matrix_cell *cell);
/** Sends a command to the server, or to each node of the cluster, and sums the integers that it answers. */
int64_t matrix_sum(const matrix_cell *cell, const char *command);
/** A number of INFO, in a cluster the sum over its nodes, e.g. ("commandstats", "cmdstat_eval:calls="); 0 when the server
 *  does not mention it. */
int64_t matrix_info(const matrix_cell *cell, const char *section, const char *field);
/** Waits until that number has at least this value; fails the test after 20 s. */
void matrix_await_info(const matrix_cell *cell, const char *section, const char *field, int64_t at_least);

#endif
