/* SPDX-License-Identifier: MIT */
/** Every test against a real server eight times: {RESP2, RESP3} x {TCP, unix socket, TLS, found through a sentinel}.
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
#include <stddef.h>

enum { MATRIX_TCP, MATRIX_UNIX, MATRIX_TLS, MATRIX_SENTINEL, MATRIX_TRANSPORTS };
enum { MATRIX_CELLS = 2 * MATRIX_TRANSPORTS };

typedef struct matrix_test matrix_test;

typedef struct matrix_cell {
  redis_server *server;   /* one for all cells but those of the sentinel, which talks to the server, too */
  redmoon_client *client; /* of this test */
  int transport, protocol;
  const matrix_test *test;
} matrix_cell;

struct matrix_test {
  const char *name;
  void (*run)(void **state);
};
#define MATRIX_TEST(function)                                                                                      \
  { #function, function }

/** Runs every test in every cell; returns what main() is to return. */
int matrix_run(const char *group, const matrix_test *tests, size_t count);
/** Another client of the cell's transport and protocol; `options` NULL: defaults.  Fails the test on an error. */
redmoon_client *matrix_open(const matrix_cell *cell, const redmoon_options *options);
/** A number of INFO, e.g. ("commandstats", "cmdstat_eval:calls="); 0 when the server does not mention it. */
int64_t matrix_info(const matrix_cell *cell, const char *section, const char *field);
/** Waits until that number has at least this value; fails the test after 20 s. */
void matrix_await_info(const matrix_cell *cell, const char *section, const char *field, int64_t at_least);

#endif
