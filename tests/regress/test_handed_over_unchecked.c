/* SPDX-License-Identifier: MIT */
/* A connection that went from one caller straight to the next was not looked at: of a full pool a waiter took a surplus
 * reply for its own, or wrote to a peer that had left. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static const char *surplus; /* what follows the first answer, before the peer leaves */

static void script(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (fake_index(peer) == 0) {
    if (fake_expect(peer, "INCR", "a", NULL) && fake_text(peer, ":1\r\n") && fake_await_release(peer)) fake_text(peer, surplus);
  } else if (fake_expect(peer, "INCR", "b", NULL)) {
    fake_text(peer, ":2\r\n");
    fake_expect_end(peer);
  }
}

static void run(redmoon_op *op) {
  while (!redmoon_op_step(op)) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd p = {.fd = wants.fd, .events = (short)((wants.events & REDMOON_WANT_READ ? POLLIN : 0) |
                                                         (wants.events & REDMOON_WANT_WRITE ? POLLOUT : 0))};
    poll(&p, 1, (int)wants.timeout_ms);
  }
}

static redmoon_op *start(redmoon_client *client, const char *key, redmoon_reply **reply) {
  redmoon_op *op;
  assert_int_equal(redmoon_command_start(client, 2, (const char *[]){"INCR", key}, NULL, reply, &op, NULL), 0);
  assert_int_equal(redmoon_op_step(op), 0);
  return op;
}

static void finish(redmoon_op *op, redmoon_reply **reply, int64_t expected) {
  redmoon_error err;
  if (redmoon_op_finish(op, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_reply_integer(*reply), expected);
  redmoon_reply_free(*reply);
}

static redmoon_stats hand_over(const char *bytes) {
  surplus = bytes;
  fake_server *server = fake_server_start(&(fake_options){.script = script});
  char url[256];
  snprintf(url, sizeof url, "unix://%s?pool_size=1&max_retries=0", fake_server_path(server));
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  redmoon_reply *a, *b;
  redmoon_op *first = start(client, "a", &a), *second = start(client, "b", &b);
  run(first); /* and the waiter is given its connection */
  fake_server_release(server);
  assert_true(fake_server_wait_ended(server, 1));
  finish(first, &a, 1);
  run(second);
  finish(second, &b, 2);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  redmoon_client_close(client);
  assert_null(fake_server_failure(server));
  fake_server_stop(server);
  return stats;
}

static void a_surplus_reply_does_not_reach_the_next_caller(void **state) {
  (void)state;
  assert_int_equal(hand_over(":666\r\n").closed_dirty, 1);
}

static void a_peer_that_has_left_is_written_to_by_nobody(void **state) {
  (void)state;
  assert_int_equal(hand_over("").closed_peer, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_surplus_reply_does_not_reach_the_next_caller),
      cmocka_unit_test(a_peer_that_has_left_is_written_to_by_nobody),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
