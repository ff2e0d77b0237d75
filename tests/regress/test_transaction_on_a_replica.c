/* SPDX-License-Identifier: MIT */
/* A transaction that met a demoted primary, or a server that was loading, was not tried again though nothing was executed;
 * a single command was. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <string.h>

#define ABORT "-EXECABORT Transaction discarded because of previous errors.\r\n"

typedef struct plan {
  const char *refusal; /* of each command inside MULTI */
  size_t times;        /* how many transactions are refused */
  size_t seen;
} plan;

static bool answer(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  plan *p = ctx;
  (void)peer;
  bool refuse = p->seen < p->times;
  if (fake_is(command, "MULTI")) fake_append_text(reply, "+OK\r\n");
  else if (!fake_is(command, "EXEC")) fake_append_text(reply, refuse ? p->refusal : "+QUEUED\r\n");
  else fake_append_text(reply, refuse ? ABORT : "*2\r\n:1\r\n+OK\r\n");
  p->seen += fake_is(command, "EXEC");
  return true;
}

static void script(fake_peer *peer, void *ctx) { fake_serve(peer, answer, ctx); }

static int body(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  (void)ctx;
  return redmoon_transaction_queue(tx, 2, (const char *[]){"INCR", "k"}, NULL, err) < 0 ? -1 : 0;
}

static int run(plan *p, redmoon_error *err) {
  fake_server *server = fake_server_start(&(fake_options){.script = script, .ctx = p});
  char url[256];
  snprintf(url, sizeof url, "unix://%s?min_backoff=0&max_backoff=0", fake_server_path(server));
  redmoon_client *client;
  redmoon_reply *replies;
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  int rc = redmoon_transaction_run(client, NULL, 0, body, NULL, NULL, &replies, err);
  redmoon_reply_free(replies);
  redmoon_client_close(client);
  fake_server_stop(server);
  return rc;
}

static void a_refusal_that_passes_is_tried_again(void **state) {
  (void)state;
  redmoon_error err;
  plan loading = {"-LOADING Redis is loading the dataset in memory\r\n", 3, 0};
  assert_int_equal(run(&loading, &err), 0);
  assert_int_equal(loading.seen, 4);
  plan replica = {"-READONLY You can't write against a read only replica.\r\n", 1, 0};
  assert_int_equal(run(&replica, &err), 0);
  assert_int_equal(replica.seen, 2);
}

static void a_replica_that_stays_one_is_tried_twice(void **state) {
  (void)state;
  redmoon_error err;
  plan replica = {"-READONLY You can't write against a read only replica.\r\n", 100, 0};
  assert_int_equal(run(&replica, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "EXECABORT");
  assert_int_equal(replica.seen, 2);
}

static void any_other_refusal_stands(void **state) {
  (void)state;
  redmoon_error err;
  plan full = {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", 1, 0};
  assert_int_equal(run(&full, &err), REDMOON_ESERVER);
  assert_int_equal(full.seen, 1);
  assert_int_equal(err.retryable, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_refusal_that_passes_is_tried_again),
      cmocka_unit_test(a_replica_that_stays_one_is_tried_twice),
      cmocka_unit_test(any_other_refusal_stands),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
