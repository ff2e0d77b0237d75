/* SPDX-License-Identifier: MIT */
/* When memory runs out between the server's answer and its delivery, the command has been executed: the error must
 * not say that it was not sent. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <poll.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static bool refuse_all(void *ctx, size_t size) {
  (void)size;
  ++*(int *)ctx;
  return true;
}

static void drive(redmoon_op *op) {
  while (redmoon_op_step(op) == 0) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {.fd = wants.fd,
                        .events = (wants.events & REDMOON_WANT_WRITE) != 0 ? POLLOUT | POLLIN : POLLIN};
    poll(&fd, 1, (int)wants.timeout_ms);
  }
}

static void executed_command_is_not_called_not_sent(void **state) {
  redis_server *server = *state;
  redmoon_client *client;
  redmoon_reply *reply = NULL;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, &err), 0);
  assert_int_equal(redmoon_command_start(client, 2, ARGV("INCR", "n"), NULL, &reply, &op, &err), 0);
  drive(op);
  int refused = 0;
  rm_alloc_set_refuse(refuse_all, &refused);
  int rc = redmoon_op_finish(op, &err);
  rm_alloc_set_refuse(NULL, NULL);
  if (refused > 0) {
    assert_int_equal(rc, REDMOON_ENOMEM);
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    assert_null(reply);
  }
  assert_int_equal(refused, 1);
  assert_int_equal(ask_integer(client, "INCR", "n", NULL), 2);
  redmoon_client_close(client);
}

/* Refuses the n-th allocation from here, and those after it. */
typedef struct countdown {
  int left;
  bool refused;
} countdown;

static bool refuse_from(void *ctx, size_t size) {
  (void)size;
  countdown *self = ctx;
  if (self->left-- > 0) return false;
  self->refused = true;
  return true;
}

/* Each allocation of the whole EXEC is refused in turn: whatever is said must agree with what happened. */
static void transaction_out_of_memory_tells_the_truth(void **state) {
  redis_server *server = *state;
  for (int protocol = 2; protocol <= 3; protocol++) {
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.protocol = protocol;
    options.max_retries = 0;
    redmoon_client *client;
    redmoon_error err;
    assert_int_equal(redmoon_client_open(redis_server_url(server), &options, &client, &err), 0);
    redmoon_reply_free(ask(client, "HSET", "h", "f", "v", NULL));
    bool refused = true;
    for (int n = 0; refused; n++) {
      assert_true(n < 500);
      int64_t before = ask_integer(client, "INCR", "n", NULL);
      redmoon_transaction *tx;
      assert_int_equal(redmoon_transaction_begin(client, NULL, 0, NULL, &tx, &err), 0);
      assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("INCR", "n"), NULL, &err), 0);
      assert_int_equal(redmoon_transaction_queue(tx, 2, ARGV("HGETALL", "h"), NULL, &err), 1);
      countdown self = {n, false};
      redmoon_reply *replies;
      rm_alloc_set_refuse(refuse_from, &self);
      int rc = redmoon_transaction_exec(tx, &replies, &err);
      rm_alloc_set_refuse(NULL, NULL);
      refused = self.refused;
      redmoon_reply_free(replies);
      redmoon_transaction_free(tx);
      bool done = ask_integer(client, "INCR", "n", NULL) == before + 2;
      if (rc == 0) assert_true(done);
      else if (err.outcome == REDMOON_NOT_SENT) assert_false(done);
      else if (err.outcome == REDMOON_ANSWERED) assert_true(done);
    }
    redmoon_client_close(client);
  }
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(executed_command_is_not_called_not_sent),
                                     cmocka_unit_test(transaction_out_of_memory_tells_the_truth)};
  return cmocka_run_group_tests(tests, start, stop);
}
