/* SPDX-License-Identifier: MIT */
/* TLS as a user of the public API has it who names nothing but the CA: bad certificates are refused, each with its own
 * text, before a command leaves; and a rediss:// client says nothing in the clear, whatever the server says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/certs.h"
#include "support/fake_server.h"

#include <pthread.h>
#include <redmoon/redmoon.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static redmoon_client *open_client(const fake_server *server, const char *host) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.tls.ca_file = certs_get()->ca_file;
  options.password = "the-password";
  char url[80];
  snprintf(url, sizeof url, "rediss://%s:%d", host, fake_server_port(server));
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static int ping(redmoon_client *client, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  int status = redmoon_command(client, 1, (const char *[]){"PING"}, NULL, &reply, err);
  if (status == 0) assert_string_equal(redmoon_reply_string(reply, NULL), "PONG");
  redmoon_reply_free(reply);
  return status;
}

static bool pong(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  fake_append_text(reply, fake_is(command, "PING") ? "+PONG\r\n" : "-ERR what?\r\n");
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, pong, ctx); }

static fake_server *start_tls(const certs_pair *pair) {
  return fake_server_start(
      &(fake_options){.tcp = true, .script = serve, .cert_file = pair->cert, .key_file = pair->key});
}

static void a_good_certificate_is_accepted_when_only_the_ca_is_named(void **state) {
  (void)state;
  static const char *const hosts[] = {"localhost", "127.0.0.1"};
  for (size_t i = 0; i < 2; i++) {
    fake_server *server = start_tls(&certs_get()->good);
    redmoon_client *client = open_client(server, hosts[i]);
    redmoon_error err;
    if (ping(client, &err) != 0) fail_msg("%s: %s", hosts[i], err.message);
    redmoon_client_close(client);
    assert_int_equal(fake_server_count(server, "PING"), 1);
    fake_server_stop(server);
  }
}

static void every_bad_certificate_is_refused_by_name_and_nothing_is_sent(void **state) {
  (void)state;
  const certs *c = certs_get();
  const struct {
    const certs_pair *pair;
    const char *host, *says;
  } bad[] = {
      {&c->wrong_name, "localhost", "the server's certificate is not for 'localhost'"},
      {&c->wrong_name, "127.0.0.1", "the server's certificate is not for '127.0.0.1'"},
      {&c->expired, "localhost", "the server's certificate has expired"},
      {&c->not_yet, "localhost", "the server's certificate is not yet valid"},
      {&c->self_signed, "localhost", "the server's certificate is self-signed and not trusted (tls_ca_file may name it)"},
      {&c->unknown_ca, "localhost", "the server's certificate comes from an unknown CA (tls_ca_file may name it)"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    fake_server *server = start_tls(bad[i].pair);
    redmoon_client *client = open_client(server, bad[i].host);
    redmoon_error err;
    assert_int_equal(ping(client, &err), REDMOON_ETLS);
    assert_int_equal(err.status, REDMOON_ETLS);
    assert_string_equal(err.code, "TLS");
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_int_equal(err.phase, REDMOON_PHASE_TLS);
    if (strstr(err.message, bad[i].says) == NULL) fail_msg("'%s' instead of '%s'", err.message, bad[i].says);
    redmoon_client_close(client);
    assert_true(fake_server_wait_ended(server, fake_server_connections(server)));
    assert_int_equal(fake_server_commands(server), 0);
    fake_server_stop(server);
  }
}

/* A server that does not speak TLS. */

typedef struct heard {
  pthread_mutex_t mutex; /* guards what follows */
  const char *answer;    /* NULL: it closes */
  size_t connections, len;
  char bytes[65536]; /* of all connections, one after the other */
  bool all_tls;      /* each connection began with a TLS handshake record */
} heard;

static void note(heard *h, const char *ptr, size_t len, bool begins) {
  pthread_mutex_lock(&h->mutex);
  if (begins) {
    h->connections++;
    if (ptr[0] != 0x16) h->all_tls = false;
  }
  size_t room = sizeof h->bytes - h->len;
  memcpy(h->bytes + h->len, ptr, len < room ? len : room);
  h->len += len < room ? len : room;
  pthread_mutex_unlock(&h->mutex);
}

static void listen_in(fake_peer *peer, void *ctx) {
  heard *h = ctx;
  char space[4096];
  size_t n = fake_receive(peer, space, sizeof space);
  if (n == 0) return;
  note(h, space, n, true);
  if (h->answer == NULL || !fake_text(peer, h->answer)) return;
  while ((n = fake_receive(peer, space, sizeof space)) > 0) note(h, space, n, false);
}

static bool contains(const heard *h, const char *word) {
  size_t len = strlen(word);
  for (size_t i = 0; i + len <= h->len; i++)
    if (memcmp(h->bytes + i, word, len) == 0) return true;
  return false;
}

static void a_rediss_client_never_speaks_plain(void **state) {
  (void)state;
  /* What servers that do not speak TLS say to a ClientHello, and what could tempt a client to go on without. */
  static const char *const answers[] = {"-ERR Protocol error\r\n", "+OK\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", NULL};
  static const char *const words[] = {"PING", "HELLO", "AUTH", "the-password", "*1\r\n"};
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
    heard h = {.mutex = PTHREAD_MUTEX_INITIALIZER, .answer = answers[i], .all_tls = true};
    fake_server *server = fake_server_start(&(fake_options){.tcp = true, .script = listen_in, .ctx = &h});
    redmoon_client *client = open_client(server, "localhost");
    redmoon_error err;
    assert_int_equal(ping(client, &err), answers[i] != NULL ? REDMOON_ETLS : REDMOON_ECONNECT);
    assert_int_equal(err.outcome, REDMOON_NOT_SENT);
    assert_int_equal(err.phase, REDMOON_PHASE_TLS);
    redmoon_client_close(client);
    assert_true(fake_server_wait_ended(server, fake_server_connections(server)));
    fake_server_stop(server); /* no thread is left that writes */
    assert_true(h.connections >= 1 && h.all_tls);
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++)
      if (contains(&h, words[k])) fail_msg("'%s' was sent in the clear", words[k]);
  }
}

static int make_certificates(void **state) {
  (void)state;
  return certs_get() != NULL ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_good_certificate_is_accepted_when_only_the_ca_is_named),
      cmocka_unit_test(every_bad_certificate_is_refused_by_name_and_nothing_is_sent),
      cmocka_unit_test(a_rediss_client_never_speaks_plain),
  };
  return cmocka_run_group_tests(tests, make_certificates, NULL);
}
