/* SPDX-License-Identifier: MIT */
/* Connections that are kept ready were dead after a restart of the server until somebody borrowed them, one after the other,
 * and then had to dial. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <poll.h>
#include <redmoon/redmoon.h>

enum { READY = 3, PATIENCE_US = 60 * 1000000 };

static void wait_for(redmoon_client *client, uint64_t dead) {
  int64_t until_us = rm_clock_now_us() + PATIENCE_US;
  redmoon_stats stats;
  do {
    redmoon_client_stats(client, &stats);
    if (stats.idle == READY && stats.closed_peer == dead) return;
    poll(NULL, 0, 1);
  } while (rm_clock_now_us() < until_us);
  fail_msg("idle %d, closed by the peer %d", (int)stats.idle, (int)stats.closed_peer);
}

static void what_is_kept_ready_is_made_anew_without_a_call(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client, *admin;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = READY;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &admin, NULL), 0);
  assert_int_equal(redmoon_client_open(redis_server_url(server), &options, &client, NULL), 0);
  wait_for(client, 0);
  assert_int_equal(ask_integer(admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL), READY);
  wait_for(client, READY);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.misses, 0); /* nobody borrowed */
  assert_int_equal(stats.dials, 2 * READY);
  redmoon_client_close(client);
  redmoon_client_close(admin);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_kept_ready_is_made_anew_without_a_call)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
