/* SPDX-License-Identifier: MIT */
/* A pooled connection kept the buffers of the largest reply it ever had: twenty that had once seen 100 MB held gigabytes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <malloc.h>
#include <redmoon/redmoon.h>
#include <stdlib.h>

static void an_idle_connection_holds_no_large_buffer(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_reply_free(ask(client, "SETRANGE", "large", "33554431", "x", NULL)); /* 32 MiB */
  size_t before = (size_t)mallinfo2().hblkhd + mallinfo2().uordblks;
  redmoon_reply_free(ask(client, "GET", "large", NULL));
  redmoon_reply_free(ask(client, "MGET", "large", "large", NULL));
  size_t after = (size_t)mallinfo2().hblkhd + mallinfo2().uordblks;
  assert_true(after < before + ((size_t)2 << 20));
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 1);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(an_idle_connection_holds_no_large_buffer)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
