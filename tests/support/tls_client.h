/* SPDX-License-Identifier: MIT */
/** The waiting that a TLS handshake needs, for tests. */
#ifndef TESTS_SUPPORT_TLS_CLIENT_H
#define TESTS_SUPPORT_TLS_CLIENT_H

#include "wire/tls.h"

/** TLS >= 1.2, verified against the ca_file of certs_get().  Its texts are borrowed: not for rm_config_free. */
rm_config tls_trusting(void);
/** Polls for REDMOON_WANT_* events; fails the test after 10 s. */
void tls_wait_for(int fd, int events);
/** Drives the handshake to its end: RM_DONE or a negative status. */
int tls_shake(SSL *ssl, int fd, const char *host, redmoon_error *err);

#endif
