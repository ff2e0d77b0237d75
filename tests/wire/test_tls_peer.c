/* SPDX-License-Identifier: MIT */
/* TLS without a server: peers that misbehave at the other end of a socket pair, and files that cannot be used. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/wants.h"
#include "support/certs.h"
#include "support/tls_client.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Peers that do not behave: the other end of a socket pair. */

typedef struct pair {
  rm_tls *tls;
  SSL *ssl;
  int ours, theirs;
} pair;

static pair paired(const char *host) {
  rm_config config = tls_trusting();
  redmoon_error err;
  pair p;
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0); /* blocking, as a connection's is */
  p.ours = ends[0];
  p.theirs = ends[1];
  assert_int_equal(rm_tls_new(&config, &p.tls, &err), 0);
  assert_int_equal(rm_tls_attach(p.tls, p.ours, host, &p.ssl, &err), 0);
  return p;
}

static void part(pair *p) {
  rm_tls_detach(p->ssl);
  rm_tls_free(p->tls);
  close(p->ours);
  if (p->theirs >= 0) close(p->theirs);
}

static void expect_first_step_waits(pair *p) {
  int events = 0;
  redmoon_error err;
  assert_int_equal(rm_tls_handshake(p->ssl, "localhost", &events, &err), RM_WAIT);
  assert_int_equal(events, REDMOON_WANT_READ);
}

static void an_answer_that_is_not_tls_hints_at_a_plain_port(void **state) {
  (void)state;
  static const char *const answers[] = {"-ERR unknown command\r\n", "-ERR max number of clients reached\r\n",
                                        "HTTP/1.1 400 Bad Request\r\n\r\n", "+OK\r\n"};
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
    pair p = paired("localhost");
    redmoon_error err;
    expect_first_step_waits(&p);
    size_t len = strlen(answers[i]);
    assert_int_equal(write(p.theirs, answers[i], len), (ssize_t)len);
    assert_int_equal(tls_shake(p.ssl, p.ours, "localhost", &err), REDMOON_ETLS);
    assert_string_equal(err.message, "the server answered something that is not TLS: is it a plain port?");
    part(&p);
  }
}

static void a_peer_that_goes_away_in_the_handshake_is_a_failed_connection(void **state) {
  (void)state;
  pair p = paired("localhost");
  redmoon_error err;
  expect_first_step_waits(&p);
  assert_int_equal(shutdown(p.theirs, SHUT_WR), 0);
  assert_int_equal(tls_shake(p.ssl, p.ours, "localhost", &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "the server closed the connection during the TLS handshake");
  assert_int_equal(err.phase, REDMOON_PHASE_TLS);
  part(&p);
}

/* cmocka leaves SIGPIPE at its default: a signal would end the process. */
static void a_peer_that_is_gone_raises_no_signal(void **state) {
  (void)state;
  struct sigaction now;
  assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
  assert_true(now.sa_handler == SIG_DFL);
  pair p = paired("localhost");
  redmoon_error err;
  close(p.theirs);
  p.theirs = -1;
  assert_int_equal(tls_shake(p.ssl, p.ours, "localhost", &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "the connection failed during the TLS handshake: Broken pipe");
  part(&p);
}

static void the_handshake_never_blocks_even_on_a_blocking_socket(void **state) {
  (void)state;
  pair p = paired("localhost");
  assert_int_equal(fcntl(p.ours, F_GETFL) & O_NONBLOCK, 0);
  expect_first_step_waits(&p);
  expect_first_step_waits(&p);
  part(&p);
}

static size_t hello_of(const char *host, char *out, size_t cap) {
  pair p = paired(host);
  expect_first_step_waits(&p);
  ssize_t n = read(p.theirs, out, cap);
  assert_true(n > 0);
  part(&p);
  return (size_t)n;
}

static bool contains(const char *ptr, size_t len, const char *text) {
  size_t n = strlen(text);
  for (size_t i = 0; i + n <= len; i++)
    if (memcmp(ptr + i, text, n) == 0) return true;
  return false;
}

static void the_hello_names_the_server_by_name_but_never_by_address(void **state) {
  (void)state;
  char hello[4096];
  size_t len = hello_of("cache.example.com.", hello, sizeof hello);
  assert_true(contains(hello, len, "cache.example.com"));
  assert_false(contains(hello, len, "cache.example.com."));
  len = hello_of("127.0.0.1", hello, sizeof hello);
  assert_false(contains(hello, len, "127.0.0.1"));
}

static void errors_left_in_the_threads_queue_do_not_confuse_it(void **state) {
  (void)state;
  pair p = paired("localhost");
  assert_null(BIO_new_file("/nonexistent/file", "r"));
  assert_int_not_equal(ERR_peek_error(), 0);
  expect_first_step_waits(&p);
  part(&p);
  rm_config config = tls_trusting();
  rm_tls *tls;
  redmoon_error err;
  config.tls_cert_file = (char *)(uintptr_t)certs_get()->client.cert;
  config.tls_key_file = (char *)(uintptr_t)certs_get()->good.key;
  assert_null(BIO_new_file("/nonexistent/file", "r"));
  assert_int_equal(rm_tls_new(&config, &tls, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "does not belong to the certificate"));
}

static void detaching_leaves_the_socket_open_and_says_nothing(void **state) {
  (void)state;
  pair p = paired("localhost");
  rm_tls_detach(p.ssl);
  p.ssl = NULL;
  assert_true(fcntl(p.ours, F_GETFD) >= 0);
  char byte;
  assert_int_equal(recv(p.theirs, &byte, 1, MSG_DONTWAIT), -1);
  assert_int_equal(errno, EAGAIN);
  part(&p);
}

static void a_host_that_cannot_be_verified_is_refused_before_anything_is_sent(void **state) {
  (void)state;
  static const char *const hosts[] = {"", "*.example.com", "%eth0", NULL};
  rm_config config = tls_trusting();
  rm_tls *tls;
  redmoon_error err;
  assert_int_equal(rm_tls_new(&config, &tls, &err), 0);
  for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
    SSL *ssl = (SSL *)&err;
    assert_int_equal(rm_tls_attach(tls, -1, hosts[i], &ssl, &err), REDMOON_ECONFIG);
    assert_null(ssl);
  }
  rm_tls_free(tls);
}

/* Files. */

static void expect_bad_file(const rm_config *config, const char *option, const char *why) {
  rm_tls *tls;
  redmoon_error err;
  assert_int_equal(rm_tls_new(config, &tls, &err), REDMOON_ECONFIG);
  assert_null(tls);
  if (strstr(err.message, option) == NULL || strstr(err.message, why) == NULL) fail_msg("%s", err.message);
  assert_int_equal(ERR_peek_error(), 0);
}

static char *path_of(const char *path) { return (char *)(uintptr_t)path; }

static void files_that_cannot_be_used_are_refused_by_option_and_path(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_ca_file = path_of("/nonexistent/ca.pem");
  expect_bad_file(&config, "option 'tls_ca_file': '/nonexistent/ca.pem'", "No such file");
  config.tls_ca_file = path_of(certs_get()->dir);
  expect_bad_file(&config, "option 'tls_ca_file'", "is a directory");
  config.tls_ca_file = path_of(certs_get()->good.key);
  expect_bad_file(&config, "option 'tls_ca_file'", "holds no PEM certificate");
  config = tls_trusting();
  config.tls_ca_path = path_of(certs_get()->ca_file);
  expect_bad_file(&config, "option 'tls_ca_path'", "is not a directory");
  config.tls_ca_path = path_of("/nonexistent");
  expect_bad_file(&config, "option 'tls_ca_path'", "No such file");
  config = tls_trusting();
  config.tls_cert_file = path_of(certs_get()->client.key);
  config.tls_key_file = path_of(certs_get()->client.key);
  expect_bad_file(&config, "option 'tls_cert_file'", "holds no PEM certificate");
  config.tls_cert_file = path_of(certs_get()->client.cert);
  config.tls_key_file = path_of("/nonexistent/key.pem");
  expect_bad_file(&config, "option 'tls_key_file'", "No such file");
  config.tls_key_file = path_of(certs_get()->client.cert);
  expect_bad_file(&config, "option 'tls_key_file'", "holds no PEM key");
}

static void a_key_that_is_not_the_certificates_is_refused(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_cert_file = path_of(certs_get()->client.cert);
  config.tls_key_file = path_of(certs_get()->good.key);
  expect_bad_file(&config, "option 'tls_key_file'", "does not belong to the certificate");
  config.tls_key_file = path_of(certs_get()->other_key);
  expect_bad_file(&config, "option 'tls_key_file'", "does not belong to the certificate");
}

static void an_encrypted_key_is_refused_and_no_passphrase_is_asked_for(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_cert_file = path_of(certs_get()->client.cert);
  config.tls_key_file = path_of(certs_get()->encrypted_key);
  expect_bad_file(&config, "option 'tls_key_file'", "holds no PEM key without passphrase");
}

static void without_tls_in_the_config_there_are_no_settings(void **state) {
  (void)state;
  rm_config config = {0};
  rm_tls *tls = (rm_tls *)&config;
  redmoon_error err;
  assert_int_equal(rm_tls_new(&config, &tls, &err), 0);
  assert_null(tls);
  rm_tls_free(NULL);
  rm_tls_detach(NULL);
}

typedef struct refusal {
  size_t seen, at;
} refusal;
static bool refuse_one(void *ctx, size_t size) {
  (void)size;
  refusal *r = ctx;
  return ++r->seen == r->at;
}

static void every_refused_allocation_is_reported_and_leaks_nothing(void **state) {
  (void)state;
  rm_config config = tls_trusting();
  config.tls_server_name = path_of("localhost");
  size_t failures = 0;
  for (size_t at = 1;; at++, failures++) {
    refusal r = {0, at};
    rm_tls *tls;
    SSL *ssl = NULL;
    redmoon_error err;
    rm_alloc_set_refuse(refuse_one, &r);
    int rc = rm_tls_new(&config, &tls, &err);
    if (rc == 0) rc = rm_tls_attach(tls, -1, "localhost", &ssl, &err);
    rm_alloc_set_refuse(NULL, NULL);
    rm_tls_detach(ssl);
    rm_tls_free(tls);
    if (rc == 0) break;
    assert_int_equal(rc, REDMOON_ENOMEM);
    assert_int_equal(err.status, REDMOON_ENOMEM);
  }
  assert_int_equal(failures, 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_handshake_never_blocks_even_on_a_blocking_socket),
      cmocka_unit_test(an_answer_that_is_not_tls_hints_at_a_plain_port),
      cmocka_unit_test(a_peer_that_goes_away_in_the_handshake_is_a_failed_connection),
      cmocka_unit_test(a_peer_that_is_gone_raises_no_signal),
      cmocka_unit_test(the_hello_names_the_server_by_name_but_never_by_address),
      cmocka_unit_test(errors_left_in_the_threads_queue_do_not_confuse_it),
      cmocka_unit_test(detaching_leaves_the_socket_open_and_says_nothing),
      cmocka_unit_test(a_host_that_cannot_be_verified_is_refused_before_anything_is_sent),
      cmocka_unit_test(files_that_cannot_be_used_are_refused_by_option_and_path),
      cmocka_unit_test(a_key_that_is_not_the_certificates_is_refused),
      cmocka_unit_test(an_encrypted_key_is_refused_and_no_passphrase_is_asked_for),
      cmocka_unit_test(without_tls_in_the_config_there_are_no_settings),
      cmocka_unit_test(every_refused_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
