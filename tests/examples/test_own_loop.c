/* SPDX-License-Identifier: MIT */
/* examples/own_loop.c does what it says, and nothing is left of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/program.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(program *loop, const char *wanted, int count) {
  for (int found = 0; found < count;) {
    const char *line = program_line(loop);
    if (line == NULL) fail_msg("never said: %s", wanted);
    if (strstr(line, wanted) != NULL) found++;
  }
}

static void it_does_all_at_once_on_one_thread(void **state) {
  redis_server *server = *state;
  program *loop = program_start((const char *[]){EXAMPLE_OWN_LOOP, redis_server_url(server), NULL});
  expect(loop, "cancelled; the outcome is unknown", 1);
  expect(loop, "counted 800, received 3, locked 2 times", 1);
  assert_int_equal(program_end(loop), 0);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_reply *reply = ask(client, "GET", "own-loop:count", NULL);
  assert_string_equal(redmoon_reply_string(reply, NULL), "800");
  redmoon_reply_free(reply);
  redmoon_client_close(client);
}

/* The second lock waits for the first, so fences rise; messages come in their order. */
static void what_it_prints_is_in_order(void **state) {
  redis_server *server = *state;
  program *loop = program_start((const char *[]){EXAMPLE_OWN_LOOP, redis_server_url(server), NULL});
  static const char *const wanted[] = {"received one", "received two", "received three"};
  long long fence = 0, last = 0;
  int received = 0, locked = 0;
  for (const char *line; (line = program_line(loop)) != NULL;) {
    if (received < 3 && strcmp(line, wanted[received]) == 0) received++;
    if (sscanf(line, "locked, fence %lld", &fence) != 1) continue;
    assert_true(fence > last);
    last = fence;
    locked++;
  }
  assert_int_equal(received, 3);
  assert_int_equal(locked, 2);
  assert_int_equal(program_end(loop), 0);
}

static void it_ends_with_an_error_where_there_is_no_server(void **state) {
  (void)state;
  program *loop = program_start((const char *[]){EXAMPLE_OWN_LOOP, "unix:///nonexistent/redmoon", NULL});
  while (program_line(loop) != NULL) {
  }
  assert_int_equal(program_end(loop), 1);
}

static int start(void **state) {
  *state = redis_server_start(NULL);
  return 0;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_does_all_at_once_on_one_thread),
      cmocka_unit_test(what_it_prints_is_in_order),
      cmocka_unit_test(it_ends_with_an_error_where_there_is_no_server),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
