/* SPDX-License-Identifier: MIT */
/** TLS on a socket of ours: verified chain, name and dates; never SIGPIPE. */
#ifndef RM_WIRE_TLS_H
#define RM_WIRE_TLS_H

#include "wire/config.h"

typedef struct ssl_st SSL;
typedef struct rm_tls rm_tls; /* settings of a client: immutable, shared by its connections */

/** Loads CA, certificate and key; *out is NULL with 0 when the config does not ask for TLS. */
int rm_tls_new(const rm_config *config, rm_tls **out, redmoon_error *err);
/** Not before the last SSL of it was detached.  NULL is allowed. */
void rm_tls_free(rm_tls *tls);
/** An SSL on `fd` set up for `host` (name: SNI and host-name check; literal: IP check). */
int rm_tls_attach(rm_tls *tls, int fd, const char *host, SSL **out, redmoon_error *err);
/** One step of the handshake: RM_DONE, RM_WAIT (*events set), or negative with its own text for each cause:
 *  REDMOON_ETLS, or REDMOON_ECONNECT when the peer just went away. */
int rm_tls_handshake(SSL *ssl, const char *host, int *events, redmoon_error *err);
/** Fills `err` after SSL_read, SSL_write or a handshake failed with `ssl_error` (of SSL_get_error; not a WANT), and
 *  empties the thread's queue of OpenSSL errors.  Returns REDMOON_ETLS; when the peer went away, in the TLS phase
 *  REDMOON_ECONNECT, in others REDMOON_EIO.  Under TLS 1.3 a server judges the client's certificate only after the
 *  handshake, so this refusal comes with the first read. */
int rm_tls_fail(SSL *ssl, int ssl_error, redmoon_phase phase, redmoon_error *err);
void rm_tls_detach(SSL *ssl); /* frees, sends nothing, leaves the fd open; NULL is allowed */

#endif
