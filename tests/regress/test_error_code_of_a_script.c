/* SPDX-License-Identifier: MIT */
/* A script that wrote and then returned an error of its own with a code like BUSY was taken for a server that refused to
 * run it, and was executed up to four times. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <string.h>

static void a_script_is_executed_once_whatever_its_error_begins_with(void **state) {
  (void)state;
  static const char *const codes[] = {"BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY"};
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    char source[160];
    snprintf(source, sizeof source, "redis.call('INCR', KEYS[1]) return redis.error_reply('%s for my own reasons')", codes[i]);
    redmoon_reply *reply;
    redmoon_error err;
    assert_int_equal(redmoon_command(client, 4, (const char *[]){"EVAL", source, "1", codes[i]}, NULL, &reply, &err), REDMOON_ESERVER);
    assert_string_equal(err.code, codes[i]);
    assert_int_equal(err.attempts, 1);
    char runs[8];
    assert_int_equal(ask_text(client, runs, sizeof runs, "GET", codes[i], NULL), 1);
    assert_string_equal(runs, "1");
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.closed_failover, 0);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_script_is_executed_once_whatever_its_error_begins_with)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
