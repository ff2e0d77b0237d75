/* SPDX-License-Identifier: MIT */
/* Where an ACL refuses MULTI, the commands behind it are executed one by one; the error said that nothing was executed, and
 * the connection went back to the pool though it still watched. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <string.h>

static void a_refused_multi_is_told_and_leaves_no_watch(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *admin, *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &admin, NULL), 0);
  redmoon_reply_free(ask(admin, "ACL", "SETUSER", "ann", "on", ">pass", "~*", "+@all", "-multi", NULL));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "ann";
  options.password = "pass";
  assert_int_equal(redmoon_client_open(redis_server_url(server), &options, &client, NULL), 0);
  redmoon_transaction *tx;
  redmoon_reply *replies;
  redmoon_error err;
  redmoon_bytes key = {"k", 1};
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_transaction_multi(tx, NULL), 0);
  assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"INCR", "k"}, NULL, NULL), 0);
  assert_int_equal(redmoon_transaction_exec(tx, &replies, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOPERM");
  assert_non_null(strstr(err.message, "one by one"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_int_equal(err.retryable, 0);
  redmoon_transaction_free(tx);
  char value[8];
  assert_int_equal(ask_text(admin, value, sizeof value, "GET", "k", NULL), 1);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.closed_dirty, 1);
  assert_int_equal(stats.total, 0);
  redmoon_client_close(client);
  redmoon_client_close(admin);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_refused_multi_is_told_and_leaves_no_watch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
