/* SPDX-License-Identifier: MIT */
/* A server that reads nothing more while its answer waits to be taken: a client that sends all of a long pipeline
 * before it reads would wait for ever, as would the server.  (Redis itself keeps answers back in its memory
 * instead.) */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/certs.h"
#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 500, SIZE = 65536 };

static bool echo(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  fake_append_bulk(reply, command->argv[1], command->lens[1]);
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, echo, ctx); }

static void send_and_check(redmoon_client *client) {
  char *value = malloc(SIZE);
  assert_non_null(value);
  memset(value, 'x', SIZE);
  redmoon_pipeline *pipeline;
  redmoon_error err;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  const char *argv[] = {"ECHO", value};
  const size_t lens[] = {4, SIZE};
  for (int i = 0; i < COUNT; i++) {
    value[i] = 'y';
    assert_int_equal(redmoon_pipeline_command(pipeline, 2, argv, lens, &err), i);
  }
  if (redmoon_pipeline_run(pipeline, &err) != 0) fail_msg("%s", err.message);
  memset(value, 'x', SIZE);
  for (size_t i = 0; i < COUNT; i++) {
    value[i] = 'y';
    size_t len;
    const char *text = redmoon_reply_string(redmoon_pipeline_result(pipeline, i).reply, &len);
    assert_int_equal(len, SIZE);
    assert_true(memcmp(text, value, SIZE) == 0);
  }
  redmoon_pipeline_free(pipeline);
  free(value);
}

static void long_pipeline_is_read_while_it_is_sent(void **state) {
  (void)state;
  const certs *c = certs_get();
  assert_non_null(c);
  for (int tls = 0; tls < 2; tls++) {
    fake_options peer = {.tcp = true, .script = serve};
    if (tls) {
      peer.cert_file = c->good.cert;
      peer.key_file = c->good.key;
    }
    fake_server *server = fake_server_start(&peer);
    char url[80];
    snprintf(url, sizeof url, "%s://127.0.0.1:%d", tls ? "rediss" : "redis", fake_server_port(server));
    redmoon_options options = REDMOON_OPTIONS_INIT;
    options.tls.ca_file = tls ? c->ca_file : NULL;
    options.timeout_ms = options.read_timeout_ms = options.write_timeout_ms = 20000;
    redmoon_client *client;
    redmoon_error err;
    assert_int_equal(redmoon_client_open(url, &options, &client, &err), 0);
    send_and_check(client);
    redmoon_client_close(client);
    assert_null(fake_server_failure(server));
    fake_server_stop(server);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(long_pipeline_is_read_while_it_is_sent)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
