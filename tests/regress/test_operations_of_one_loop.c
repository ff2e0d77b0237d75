/* SPDX-License-Identifier: MIT */
/* Operations that one thread steps side by side looked like one caller that waits for itself: POOL_DEADLOCK, where a little
 * patience was all that was needed.  A thread that blocks is one caller indeed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/tiny_redis.h"

#include <redmoon/redmoon.h>
#include <string.h>

static redmoon_client *open_one(tiny_redis *server) {
  redmoon_client *client;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 1;
  assert_int_equal(redmoon_client_open(tiny_redis_url(server), &options, &client, NULL), 0);
  return client;
}

static void operations_that_one_thread_steps_wait_for_each_other(void **state) {
  (void)state;
  tiny_redis *server = tiny_redis_start(NULL);
  redmoon_client *client = open_one(server);
  enum { MANY = 5 };
  redmoon_op *op[MANY];
  redmoon_reply *reply[MANY];
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(redmoon_command_start(client, 2, (const char *[]){"INCR", "k"}, NULL, &reply[i], &op[i], NULL), 0);
    assert_int_equal(redmoon_op_step(op[i]), 0);
  }
  for (int i = 0; i < MANY; i++) {
    assert_true(tiny_redis_step(NULL, op[i], 0));
    assert_int_equal(redmoon_op_finish(op[i], NULL), 0);
    assert_int_equal(redmoon_reply_integer(reply[i]), i + 1);
    redmoon_reply_free(reply[i]);
  }
  redmoon_client_close(client);
  tiny_redis_stop(server);
}

static void a_thread_that_would_wait_for_its_own_lease_is_told(void **state) {
  (void)state;
  tiny_redis *server = tiny_redis_start(NULL);
  redmoon_client *client = open_one(server);
  redmoon_transaction *tx;
  redmoon_reply *reply;
  redmoon_bytes key = {"k", 1};
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  assert_int_equal(redmoon_command(client, 2, (const char *[]){"GET", "k"}, NULL, &reply, NULL), REDMOON_EPOOL_DEADLOCK);
  redmoon_transaction_free(tx);
  redmoon_client_close(client);
  tiny_redis_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(operations_that_one_thread_steps_wait_for_each_other),
      cmocka_unit_test(a_thread_that_would_wait_for_its_own_lease_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
