/* SPDX-License-Identifier: MIT */
/* TLS against a real redis-server: which certificates are accepted, and what a refusal says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/wants.h"
#include "support/certs.h"
#include "support/tls_client.h"
#include "wire/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A redis-server with TLS only, one at a time. */

typedef struct fixture {
  const certs *certs;
  pid_t pid;
  int port, log; /* log: read end of its output */
} fixture;
static fixture f;

static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
  close(fd);
  return ntohs(address.sin_port);
}

/* Until it says that it is ready; its whole output is shown when it ends instead. */
static void wait_until_ready(void) {
  char text[16384];
  size_t len = 0;
  while (len + 1 < sizeof text) {
    ssize_t n = read(f.log, text + len, sizeof text - 1 - len);
    if (n <= 0) break;
    len += (size_t)n;
    text[len] = '\0';
    if (strstr(text, "Ready to accept connections") != NULL) return;
  }
  text[len] = '\0';
  fail_msg("redis-server did not start: %s", text);
}

static void stop(void) {
  if (f.pid <= 0) return;
  kill(f.pid, SIGKILL);
  waitpid(f.pid, NULL, 0);
  close(f.log);
  f.pid = 0;
}

static int stop_after(void **state) {
  (void)state;
  stop();
  return 0;
}

static void serve(const certs_pair *pair, const char *auth_clients, const char *protocols) {
  int ends[2];
  char port[16];
  stop();
  f.port = free_port();
  snprintf(port, sizeof port, "%d", f.port);
  assert_int_equal(pipe(ends), 0);
  f.pid = fork();
  assert_true(f.pid >= 0);
  if (f.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    execlp("redis-server", "redis-server", "--port", "0", "--bind", "127.0.0.1", "--tls-port", port,
           "--tls-cert-file", pair->cert, "--tls-key-file", pair->key, "--tls-ca-cert-file", f.certs->ca_file,
           "--tls-auth-clients", auth_clients, "--tls-protocols", protocols, "--save", "", "--appendonly", "no",
           "--dir", f.certs->dir, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  f.log = ends[0];
  wait_until_ready();
}

static void serve_plainly(const certs_pair *pair) { serve(pair, "no", "TLSv1.2 TLSv1.3"); }

/* A client's side. */

static int dial(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  address.sin_port = htons((uint16_t)f.port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) assert_int_equal(errno, EINPROGRESS);
  struct pollfd p = {fd, POLLOUT, 0};
  assert_int_equal(poll(&p, 1, 10000), 1);
  int error = 0;
  socklen_t len = sizeof error;
  assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
  assert_int_equal(error, 0);
  return fd;
}

/* PING over it; returns the SSL_get_error of a read that failed, or 0 after "+PONG". */
static int ping(SSL *ssl, int fd) {
  char reply[16];
  ERR_clear_error();
  assert_int_equal(SSL_write(ssl, "*1\r\n$4\r\nPING\r\n", 14), 14);
  for (;;) {
    int n = SSL_read(ssl, reply, sizeof reply);
    if (n > 0) {
      assert_memory_equal(reply, "+PONG\r\n", 7);
      return 0;
    }
    int why = SSL_get_error(ssl, n);
    if (why != SSL_ERROR_WANT_READ) return why;
    tls_wait_for(fd, REDMOON_WANT_READ);
  }
}

/* Handshake with the running server, and a PING when it succeeds.  Returns the handshake's result. */
static int meet(const rm_config *config, const char *host, redmoon_error *err) {
  rm_tls *tls;
  SSL *ssl;
  if (rm_tls_new(config, &tls, err) != 0) fail_msg("%s", err->message);
  int fd = dial();
  assert_int_equal(rm_tls_attach(tls, fd, host, &ssl, err), 0);
  int rc = tls_shake(ssl, fd, host, err);
  if (rc == RM_DONE) assert_int_equal(ping(ssl, fd), 0);
  assert_int_equal(ERR_peek_error(), 0);
  rm_tls_detach(ssl);
  close(fd);
  rm_tls_free(tls);
  return rc;
}

static void expect_accepted(const rm_config *config, const char *host) {
  redmoon_error err;
  if (meet(config, host, &err) != RM_DONE) fail_msg("%s: %s", host, err.message);
}

static void expect_refused(const rm_config *config, const char *host, const char *message) {
  redmoon_error err;
  assert_int_equal(meet(config, host, &err), REDMOON_ETLS);
  assert_string_equal(err.message, message);
  assert_int_equal(err.status, REDMOON_ETLS);
  assert_int_equal(err.phase, REDMOON_PHASE_TLS);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
}

/* Certificates. */

static void a_good_certificate_is_accepted_by_name_and_by_address(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->good);
  expect_accepted(&config, "localhost");
  expect_accepted(&config, "LOCALHOST");
  expect_accepted(&config, "localhost.");
  expect_accepted(&config, "127.0.0.1");
  expect_accepted(&config, "::1");
  expect_accepted(&config, "::1%lo");
}

static void a_directory_of_hashed_certificates_is_trusted_too(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_ca_file = NULL;
  config.tls_ca_path = (char *)(uintptr_t)f.certs->ca_path;
  serve_plainly(&f.certs->good);
  expect_accepted(&config, "localhost");
}

static void a_certificate_for_another_name_or_address_is_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->wrong_name);
  expect_refused(&config, "localhost", "the server's certificate is not for 'localhost'");
  expect_refused(&config, "127.0.0.1", "the server's certificate is not for '127.0.0.1'");
  expect_accepted(&config, "192.0.2.1");
}

static void an_expired_certificate_is_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->expired);
  expect_refused(&config, "localhost", "the server's certificate has expired");
}

static void a_certificate_that_is_not_yet_valid_is_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->not_yet);
  expect_refused(&config, "localhost", "the server's certificate is not yet valid");
}

static void a_self_signed_certificate_is_refused_unless_it_is_the_trusted_one(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->self_signed);
  expect_refused(&config, "localhost",
                 "the server's certificate is self-signed and not trusted (tls_ca_file may name it)");
  config.tls_ca_file = (char *)(uintptr_t)f.certs->self_signed.cert;
  expect_accepted(&config, "localhost");
}

static void a_certificate_of_an_unknown_ca_is_refused_also_by_the_systems_store(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  const char *text = "the server's certificate comes from an unknown CA (tls_ca_file may name it)";
  serve_plainly(&f.certs->unknown_ca);
  expect_refused(&config, "localhost", text);
  config.tls_ca_file = NULL;
  serve_plainly(&f.certs->good);
  expect_refused(&config, "localhost", text);
}

static void a_certificate_for_clients_does_not_serve_a_server(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->client);
  redmoon_error err;
  assert_int_equal(meet(&config, "client", &err), REDMOON_ETLS);
  assert_non_null(strstr(err.message, "the server's certificate is refused: "));
}

static void wildcards_stand_for_one_whole_label(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve_plainly(&f.certs->wildcard);
  expect_accepted(&config, "a.wild.example");
  expect_refused(&config, "a.b.wild.example", "the server's certificate is not for 'a.b.wild.example'");
  expect_refused(&config, "partial.half.example", "the server's certificate is not for 'partial.half.example'");
}

static void tls_server_name_replaces_the_host_that_was_dialled(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  char name[] = "other.example", wrong[] = "third.example";
  config.tls_server_name = name;
  serve_plainly(&f.certs->wrong_name);
  expect_accepted(&config, "127.0.0.1");
  config.tls_server_name = wrong;
  expect_refused(&config, "other.example", "the server's certificate is not for 'third.example'");
}

static void verify_off_accepts_what_would_be_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_verify = false;
  config.tls_ca_file = NULL;
  const certs_pair *const pairs[] = {&f.certs->wrong_name, &f.certs->expired, &f.certs->self_signed};
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    serve_plainly(pairs[i]);
    expect_accepted(&config, "localhost");
  }
}

/* Mutual TLS, versions. */

static void a_client_certificate_opens_a_server_that_asks_for_one(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_cert_file = (char *)(uintptr_t)f.certs->client.cert;
  config.tls_key_file = (char *)(uintptr_t)f.certs->client.key;
  serve(&f.certs->good, "yes", "TLSv1.2 TLSv1.3");
  expect_accepted(&config, "localhost");
}

static void without_a_client_certificate_tls_1_3_says_so_at_the_first_read(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  rm_tls *tls;
  SSL *ssl;
  redmoon_error err;
  serve(&f.certs->good, "yes", "TLSv1.3");
  assert_int_equal(rm_tls_new(&config, &tls, &err), 0);
  int fd = dial();
  assert_int_equal(rm_tls_attach(tls, fd, "localhost", &ssl, &err), 0);
  assert_int_equal(tls_shake(ssl, fd, "localhost", &err), RM_DONE);
  char byte;
  int n, why;
  while (ERR_clear_error(), n = SSL_read(ssl, &byte, 1), why = SSL_get_error(ssl, n), why == SSL_ERROR_WANT_READ)
    tls_wait_for(fd, REDMOON_WANT_READ);
  assert_int_equal(rm_tls_fail(ssl, why, REDMOON_PHASE_HANDSHAKE, &err), REDMOON_ETLS);
  assert_string_equal(err.message, "the server asks for a client certificate (tls_cert_file, tls_key_file)");
  assert_int_equal(err.phase, REDMOON_PHASE_HANDSHAKE);
  assert_int_equal(ERR_peek_error(), 0);
  rm_tls_detach(ssl);
  close(fd);
  rm_tls_free(tls);
}

static void without_a_client_certificate_tls_1_2_fails_in_the_handshake(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve(&f.certs->good, "yes", "TLSv1.2");
  expect_refused(
      &config, "localhost",
      "the server refused the TLS handshake: it asks for a client certificate (tls_cert_file, tls_key_file) "
      "or shares no cipher");
}

static void a_client_certificate_that_the_server_does_not_trust_is_named(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_cert_file = (char *)(uintptr_t)f.certs->unknown_ca.cert;
  config.tls_key_file = (char *)(uintptr_t)f.certs->unknown_ca.key;
  serve(&f.certs->good, "yes", "TLSv1.2");
  redmoon_error err;
  assert_int_equal(meet(&config, "localhost", &err), REDMOON_ETLS);
  assert_non_null(strstr(err.message, "the server refused the client certificate: "));
}

static void a_server_below_the_lowest_version_is_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  serve(&f.certs->good, "no", "TLSv1.2");
  expect_accepted(&config, "localhost");
  config.tls_min_version = 13;
  expect_refused(&config, "localhost", "the server does not speak TLS 1.3 or later (tls_min_version)");
}

static int make_certificates(void **state) {
  (void)state;
  f.certs = certs_get();
  return f.certs != NULL ? 0 : -1;
}

#define SERVED(name) cmocka_unit_test_teardown(name, stop_after)

int main(void) {
  const struct CMUnitTest tests[] = {
      SERVED(a_good_certificate_is_accepted_by_name_and_by_address),
      SERVED(a_directory_of_hashed_certificates_is_trusted_too),
      SERVED(a_certificate_for_another_name_or_address_is_refused),
      SERVED(an_expired_certificate_is_refused),
      SERVED(a_certificate_that_is_not_yet_valid_is_refused),
      SERVED(a_self_signed_certificate_is_refused_unless_it_is_the_trusted_one),
      SERVED(a_certificate_of_an_unknown_ca_is_refused_also_by_the_systems_store),
      SERVED(a_certificate_for_clients_does_not_serve_a_server),
      SERVED(wildcards_stand_for_one_whole_label),
      SERVED(tls_server_name_replaces_the_host_that_was_dialled),
      SERVED(verify_off_accepts_what_would_be_refused),
      SERVED(a_client_certificate_opens_a_server_that_asks_for_one),
      SERVED(without_a_client_certificate_tls_1_3_says_so_at_the_first_read),
      SERVED(without_a_client_certificate_tls_1_2_fails_in_the_handshake),
      SERVED(a_client_certificate_that_the_server_does_not_trust_is_named),
      SERVED(a_server_below_the_lowest_version_is_refused),
  };
  return cmocka_run_group_tests(tests, make_certificates, NULL);
}
