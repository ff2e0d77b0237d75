/* SPDX-License-Identifier: MIT */
/* A connection under TLS: tickets and key updates are no data, an end of the stream is one, SIGPIPE never comes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/certs.h"
#include "support/dialing.h"
#include "support/fake_server.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef struct scene {
  dialing d;
  fake_server *server;
  rm_conn *conn;
} scene;

/* Dials a TLS server that does `script` after the handshake of TLS. */
static void begin(scene *s, fake_script_fn script, bool tls12) {
  const certs *c = certs_get();
  assert_non_null(c);
  memset(s, 0, sizeof *s);
  s->server = fake_server_start(&(fake_options){
      .tcp = true, .script = script, .cert_file = c->good.cert, .key_file = c->good.key, .tls12 = tls12});
  dialing_init(&s->d);
  s->d.config.tls = s->d.config.tls_verify = true;
  s->d.config.tls_min_version = 12;
  s->d.config.tls_ca_file = (char *)(uintptr_t)c->ca_file;
  redmoon_error err;
  assert_int_equal(rm_tls_new(&s->d.config, &s->d.dialer.tls, &err), 0);
  dialing_to_port(&s->d, "127.0.0.1", fake_server_port(s->server));
  assert_int_equal(dialing_run(&s->d, &s->conn, &err), 0);
}

static void end(scene *s) {
  rm_conn_close(s->conn);
  rm_tls_free(s->d.dialer.tls);
  dialing_fini(&s->d);
  fake_server_stop(s->server);
}

/* Waits until something has arrived. */
static void await_readable(const scene *s) {
  struct pollfd wait = {.fd = s->conn->fd, .events = POLLIN};
  assert_int_equal(poll(&wait, 1, 20000), 1);
}

#define PING "*1\r\n$4\r\nPING\r\n"

static void pong_then_wait(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  while (fake_expect(peer, "PING", NULL)) fake_text(peer, "+PONG\r\n");
}

static void tickets_are_no_data(void **state) {
  (void)state;
  for (int tls12 = 0; tls12 < 2; tls12++) {
    scene s;
    begin(&s, pong_then_wait, tls12);
    rm_close_reason why;
    for (int i = 0; i < 3; i++) {
      assert_true(rm_conn_is_reusable(s.conn, &why));
      assert_string_equal(dialing_ask(s.conn, PING), "PONG");
    }
    end(&s);
  }
}

static void update_keys(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (!fake_expect(peer, "PING", NULL)) return;
  fake_text(peer, "+PONG\r\n");
  fake_await_release(peer);
  if (!fake_update_keys(peer)) fake_fail(peer, "the keys could not be updated");
  if (fake_expect(peer, "PING", NULL)) fake_text(peer, "+PONG\r\n");
  fake_expect_end(peer);
}

static void a_key_update_is_no_data(void **state) {
  (void)state;
  scene s;
  rm_close_reason why;
  begin(&s, update_keys, false);
  assert_string_equal(dialing_ask(s.conn, PING), "PONG");
  assert_true(rm_conn_is_reusable(s.conn, &why)); /* takes in what came with the handshake */
  fake_server_release(s.server);
  await_readable(&s);
  assert_true(rm_conn_is_reusable(s.conn, &why));
  assert_string_equal(dialing_ask(s.conn, PING), "PONG");
  assert_null(fake_server_failure(s.server));
  end(&s);
}

static void say_too_much(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (!fake_expect(peer, "PING", NULL)) return;
  fake_text(peer, "+PONG\r\n");
  fake_await_release(peer);
  fake_text(peer, "+STALE\r\n");
  fake_expect_end(peer);
}

static void unread_data_is_dirt(void **state) {
  (void)state;
  for (int tls12 = 0; tls12 < 2; tls12++) {
    scene s;
    rm_close_reason why;
    begin(&s, say_too_much, tls12);
    assert_string_equal(dialing_ask(s.conn, PING), "PONG");
    assert_true(rm_conn_is_reusable(s.conn, &why));
    fake_server_release(s.server);
    await_readable(&s);
    assert_false(rm_conn_is_reusable(s.conn, &why));
    assert_int_equal(why, RM_CLOSE_DIRTY);
    end(&s);
  }
}

static void send_push(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (!fake_expect(peer, "PING", NULL)) return;
  fake_text(peer, "+PONG\r\n");
  fake_await_release(peer);
  fake_text(peer, ">2\r\n$10\r\ninvalidate\r\n*0\r\n");
  fake_expect_end(peer);
}

static void a_whole_push_is_dropped(void **state) {
  (void)state;
  scene s;
  rm_close_reason why;
  begin(&s, send_push, false);
  assert_string_equal(dialing_ask(s.conn, PING), "PONG");
  assert_true(rm_conn_is_reusable(s.conn, &why));
  fake_server_release(s.server);
  await_readable(&s);
  assert_true(rm_conn_is_reusable(s.conn, &why));
  end(&s);
}

static void end_when_told(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (!fake_expect(peer, "PING", NULL)) return;
  fake_text(peer, "+PONG\r\n");
  fake_await_release(peer);
}

static void a_peer_that_ended_without_a_word_is_noticed(void **state) {
  (void)state;
  for (int tls12 = 0; tls12 < 2; tls12++) {
    scene s;
    rm_close_reason why;
    begin(&s, end_when_told, tls12);
    assert_string_equal(dialing_ask(s.conn, PING), "PONG");
    assert_true(rm_conn_is_reusable(s.conn, &why));
    fake_server_release(s.server);
    await_readable(&s);
    assert_false(rm_conn_is_reusable(s.conn, &why));
    assert_int_equal(why, RM_CLOSE_PEER);
    end(&s);
  }
}

static void half_a_reply(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (fake_expect(peer, "PING", NULL)) fake_text(peer, "$10\r\nhalf");
}

static void an_end_in_the_middle_of_a_reply_is_an_end_and_no_reply(void **state) {
  (void)state;
  for (int tls12 = 0; tls12 < 2; tls12++) {
    scene s;
    begin(&s, half_a_reply, tls12);
    assert_null(dialing_ask(s.conn, PING));
    assert_true(s.conn->peer_closed);
    assert_int_equal(rm_conn_receive(s.conn, false, NULL), RM_IO_EOF);
    end(&s);
  }
}

static void reset_at_once(fake_peer *peer, void *ctx) {
  (void)ctx;
  fake_handshake(peer);
  if (fake_expect(peer, "PING", NULL)) fake_reset(peer);
}

static void a_send_to_a_reset_peer_is_an_error_and_not_the_end_of_the_process(void **state) {
  (void)state;
  assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  scene s;
  begin(&s, reset_at_once, false);
  assert_int_equal(rm_conn_send(s.conn, PING, strlen(PING), NULL, NULL), strlen(PING));
  assert_true(fake_server_wait_ended(s.server, 1));
  redmoon_error err;
  ssize_t n = 0;
  size_t maybe_sent = 0;
  for (int i = 0; i < 3; i++) n = rm_conn_send(s.conn, PING, strlen(PING), &maybe_sent, &err);
  assert_int_equal(n, RM_IO_ERROR);
  assert_true(err.status == REDMOON_EIO || err.status == REDMOON_ETLS);
  assert_int_equal(maybe_sent, strlen(PING)); /* under TLS nobody knows better */
  end(&s);
}

static bool large_bulk(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)command;
  (void)ctx;
  static char block[300000];
  memset(block, 'x', sizeof block);
  fake_append_bulk(reply, block, sizeof block);
  return true;
}

static void serve_large(fake_peer *peer, void *ctx) { fake_serve(peer, large_bulk, ctx); }

static void a_reply_of_many_records_comes_whole(void **state) {
  (void)state;
  scene s;
  begin(&s, serve_large, false);
  for (int i = 0; i < 3; i++) {
    const char *text = dialing_ask(s.conn, PING);
    assert_non_null(text);
    assert_int_equal(text[0], 'x');
    rm_close_reason why;
    assert_true(rm_conn_is_reusable(s.conn, &why));
  }
  end(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tickets_are_no_data),
      cmocka_unit_test(a_key_update_is_no_data),
      cmocka_unit_test(unread_data_is_dirt),
      cmocka_unit_test(a_whole_push_is_dropped),
      cmocka_unit_test(a_peer_that_ended_without_a_word_is_noticed),
      cmocka_unit_test(an_end_in_the_middle_of_a_reply_is_an_end_and_no_reply),
      cmocka_unit_test(a_send_to_a_reset_peer_is_an_error_and_not_the_end_of_the_process),
      cmocka_unit_test(a_reply_of_many_records_comes_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
