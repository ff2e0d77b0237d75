/* SPDX-License-Identifier: MIT */
/* The waiting that a TLS handshake needs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/tls_client.h"

#include "base/wants.h"
#include "support/certs.h"

#include <poll.h>

rm_config tls_trusting(void) {
  const certs *all = certs_get();
  assert_non_null(all);
  rm_config config = {.tls = true, .tls_verify = true, .tls_min_version = 12};
  config.tls_ca_file = (char *)(uintptr_t)all->ca_file;
  return config;
}

void tls_wait_for(int fd, int events) {
  int wanted = (events & REDMOON_WANT_READ ? POLLIN : 0) | (events & REDMOON_WANT_WRITE ? POLLOUT : 0);
  struct pollfd p = {fd, (short)wanted, 0};
  assert_int_equal(poll(&p, 1, 10000), 1);
}

int tls_shake(SSL *ssl, int fd, const char *host, redmoon_error *err) {
  for (;;) {
    int events = 0;
    int rc = rm_tls_handshake(ssl, host, &events, err);
    if (rc != RM_WAIT) return rc;
    assert_true(events == REDMOON_WANT_READ || events == REDMOON_WANT_WRITE);
    tls_wait_for(fd, events);
  }
}
