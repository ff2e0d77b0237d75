/* SPDX-License-Identifier: MIT */
/* While a lost EXEC was being resolved, a peer that answered CLIENT KILL with a nil crashed the process. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>

static void script(fake_peer *peer, void *ctx) {
  const fake_command *command;
  fake_handshake(peer);
  if (fake_index(peer) == 0) { /* takes the transaction and leaves */
    while (fake_next(peer, &command) && !fake_is(command, "EXEC")) {
    }
    return;
  }
  while (fake_next(peer, &command)) { /* CLIENT KILL, GET */
    if (!fake_text(peer, fake_is(command, "GET") ? "_\r\n" : ctx)) return;
  }
}

static void an_odd_answer_leaves_the_outcome_unknown(void **state) {
  (void)state;
  static const char *const answers[] = {"_\r\n", "#t\r\n", ",1.5\r\n", "%0\r\n", "*0\r\n", "+OK\r\n"};
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
    fake_server *server = fake_server_start(&(fake_options){.script = script, .ctx = (void *)(uintptr_t)answers[i]});
    char url[256];
    snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
    redmoon_client *client;
    redmoon_transaction *tx;
    redmoon_reply *replies;
    redmoon_error err;
    assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
    assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, NULL), 0);
    assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"INCR", "k"}, NULL, NULL), 0);
    assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_EIO);
    assert_int_equal(err.outcome, REDMOON_UNKNOWN);
    redmoon_transaction_free(tx);
    redmoon_client_close(client);
    fake_server_stop(server);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(an_odd_answer_leaves_the_outcome_unknown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
