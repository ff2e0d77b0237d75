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

/* Of a sanitizer's allocator; absent where the C library's own is in use. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* Bytes that are allocated now.  Under a sanitizer mallinfo2 knows of none. */
static size_t allocated(void) {
  if (__sanitizer_get_current_allocated_bytes != NULL) return __sanitizer_get_current_allocated_bytes();
  struct mallinfo2 info = mallinfo2();
  return info.hblkhd + info.uordblks;
}

/* A measure that is always 0 would let everything pass. */
static void what_is_allocated_is_seen(void **state) {
  (void)state;
  size_t before = allocated(), size = (size_t)32 << 20;
  char *block = malloc(size);
  assert_non_null(block);
  block[size - 1] = 'x';
  assert_true(allocated() >= before + size);
  assert_int_equal(block[size - 1], 'x');
  free(block);
  assert_true(allocated() < before + size);
}

static void an_idle_connection_holds_no_large_buffer(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_reply_free(ask(client, "SETRANGE", "large", "33554431", "x", NULL)); /* 32 MiB */
  size_t before = allocated();
  redmoon_reply_free(ask(client, "GET", "large", NULL));
  redmoon_reply_free(ask(client, "MGET", "large", "large", NULL));
  size_t after = allocated();
  assert_true(after < before + ((size_t)2 << 20));
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.dials, 1);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_allocated_is_seen),
                                     cmocka_unit_test(an_idle_connection_holds_no_large_buffer)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
