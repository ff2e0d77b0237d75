/* SPDX-License-Identifier: MIT */
/* A reply that breaks off: every prefix of every fixture, then the end of the stream, is an error of the call - no
 * value, no wait - and the next call gets its own reply. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/certs.h"
#include "support/fake_server.h"
#include "support/reply_fixtures.h"

#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "GET <fixture>.<length>": that much of it, and the connection ends. */
static bool break_off(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  if (fake_is(command, "PING")) {
    fake_append_text(reply, "+PONG\r\n");
    return true;
  }
  char *end;
  size_t fixture = strtoul(command->argv[1], &end, 10), len = strtoul(end + 1, NULL, 10);
  fake_append(reply, reply_fixtures[fixture].bytes, len);
  return false;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, break_off, ctx); }

static redmoon_client *open_client(const fake_server *server, bool tls) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  char url[300];
  if (tls)
    snprintf(url, sizeof url, "rediss://127.0.0.1:%d?tls_ca_file=%s", fake_server_port(server), certs_get()->ca_file);
  else
    snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static void expect_error(redmoon_client *client, size_t fixture, size_t len) {
  char key[48], text[512];
  snprintf(key, sizeof key, "%zu.%zu", fixture, len);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int status = redmoon_command(client, 2, (const char *[]){"GET", key}, NULL, &reply, &err);
  if (reply != NULL)
    fail_msg("%zu of %zu bytes of fixture %zu brought %s", len, reply_fixtures[fixture].len, fixture,
             reply_text(reply, text, sizeof text));
  if (status != REDMOON_EIO) fail_msg("%zu bytes of fixture %zu: %d %s", len, fixture, status, err.message);
  assert_int_equal(err.status, REDMOON_EIO);
  assert_int_equal(err.phase, REDMOON_PHASE_RECEIVE);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
}

/* `step`: every how many prefixes. */
static void break_all(bool tls, size_t step) {
  fake_options options = {.script = serve, .tcp = tls};
  if (tls) {
    options.cert_file = certs_get()->good.cert;
    options.key_file = certs_get()->good.key;
  }
  fake_server *server = fake_server_start(&options);
  redmoon_client *client = open_client(server, tls);
  size_t broken = 0, turn = 0;
  for (size_t i = 0; i < reply_fixture_count; i++) {
    /* A whole push is no reply either. */
    size_t lengths = reply_fixtures[i].len + (reply_fixtures[i].text[0] == '>' ? 1 : 0);
    for (size_t len = 0; len < lengths; len++) {
      if (turn++ % step != 0) continue;
      expect_error(client, i, len);
      char pong[8];
      ask_text(client, pong, sizeof pong, "PING", NULL);
      assert_string_equal(pong, "PONG");
      broken++;
    }
  }
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.closed_error + stats.closed_peer, broken);
  redmoon_client_close(client);
  assert_null(fake_server_failure(server));
  fake_server_stop(server);
}

static void every_prefix_of_every_fixture_is_an_error_of_the_call(void **state) {
  (void)state;
  break_all(false, 1);
}

static void a_prefix_over_tls_is_an_error_of_the_call(void **state) {
  (void)state;
  break_all(true, 5);
}

static int make_certificates(void **state) {
  (void)state;
  return certs_get() != NULL ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_prefix_of_every_fixture_is_an_error_of_the_call),
      cmocka_unit_test(a_prefix_over_tls_is_an_error_of_the_call),
  };
  return cmocka_run_group_tests(tests, make_certificates, NULL);
}
