/* SPDX-License-Identifier: MIT */
/* A script that itself returned an error beginning with NOSCRIPT was taken for one that the server does not know, and was
 * executed a second time by its source. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <string.h>

static const char source[] = "redis.call('INCR', KEYS[1]) return redis.error_reply('NOSCRIPT for my own reasons')";

static void an_error_that_looks_like_noscript_does_not_run_a_script_again(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_reply *reply;
  assert_int_equal(redmoon_command(client, 3, (const char *[]){"SCRIPT", "LOAD", source}, NULL, &reply, NULL), 0);
  redmoon_reply_free(reply);
  redmoon_script *script;
  assert_int_equal(redmoon_script_new(source, strlen(source), &script, NULL), 0);
  const redmoon_bytes key = {"runs", 4};
  const redmoon_script_args args = {&key, 1, NULL, 0};
  redmoon_error err;
  assert_int_equal(redmoon_script_run(client, script, &args, &reply, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "NOSCRIPT");
  assert_int_equal(redmoon_command(client, 2, (const char *[]){"GET", "runs"}, NULL, &reply, NULL), 0);
  assert_string_equal(redmoon_reply_string(reply, NULL), "1");
  redmoon_reply_free(reply);
  redmoon_script_unref(script);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(an_error_that_looks_like_noscript_does_not_run_a_script_again)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
