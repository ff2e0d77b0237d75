/* SPDX-License-Identifier: MIT */
/* A credentials function that had no memory was shown as one that refuses the connection. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <string.h>

static int without_memory_at_first(void *ctx, char username[256], char password[4096]) {
  int *asked = ctx;
  if ((*asked)++ == 0) return REDMOON_ENOMEM;
  memcpy(username, "default", 8);
  memcpy(password, "any", 4);
  return 0;
}

static void a_credentials_function_without_memory_gives_nomem(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  int asked = 0;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.credentials = without_memory_at_first;
  options.credentials_ctx = &asked;
  redmoon_client *client;
  redmoon_error err;
  redmoon_reply *reply = NULL;
  assert_int_equal(redmoon_client_open(redis_server_url(server), &options, &client, &err), 0);
  assert_int_equal(redmoon_command(client, 1, (const char *[]){"PING"}, NULL, &reply, &err), REDMOON_ENOMEM);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.total, 0);
  assert_int_equal(redmoon_command(client, 1, (const char *[]){"PING"}, NULL, &reply, &err), 0);
  assert_int_equal(asked, 2);
  redmoon_reply_free(reply);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_credentials_function_without_memory_gives_nomem)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
