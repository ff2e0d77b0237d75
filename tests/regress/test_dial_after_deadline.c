/* SPDX-License-Identifier: MIT */
/* A call whose deadline was over dialled all the same; that dial failed for want of time, and the pool then refused the
 * calls of others as if the server were down. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/op.h"
#include "support/ask.h"
#include "support/tiny_redis.h"

#include <string.h>

static void a_call_whose_deadline_is_over_does_not_dial(void **state) {
  (void)state;
  tiny_redis *server = tiny_redis_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(tiny_redis_url(server), NULL, &client, NULL), 0);
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, NULL), 0); /* its deadline counts from here */
  assert_int_equal(redmoon_transaction_queue(tx, 2, (const char *[]){"INCR", "k"}, NULL, NULL), 0);
  redmoon_reply *replies;
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(tx, &replies, &op, NULL), 0);
  op->status = op->class->step(op, rm_clock_now_us() + (int64_t)3600 * 1000000);
  redmoon_error err;
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.phase, REDMOON_PHASE_POOL);
  redmoon_transaction_free(tx);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 0);
  assert_int_equal(ask_integer(client, "INCR", "k", NULL), 1);
  redmoon_client_close(client);
  tiny_redis_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_call_whose_deadline_is_over_does_not_dial)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
