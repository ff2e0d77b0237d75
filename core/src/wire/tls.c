/* SPDX-License-Identifier: MIT */
/* TLS: a context per client, an SSL per connection on a BIO of ours, and a text of its own for each way to fail.
 *
 *      rm_tls_new -> SSL_CTX, BIO_METHOD     (immutable, shared)
 *      rm_tls_attach -> SSL -> BIO -> sock { fd, name to verify }
 *      rm_tls_handshake: DONE | WAIT | refused                                                        */
#include "wire/tls.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/wants.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct rm_tls {
  SSL_CTX *ctx;
  BIO_METHOD *method;
  char *server_name; /* NULL: the host dialled */
};

/* What a BIO of ours is about. */
typedef struct sock {
  int fd;
  bool ended;       /* the peer closed its side */
  int system_error; /* errno of the last failed call */
  char name[256];   /* as verified and shown */
} sock;

/* The BIO: the socket, without SIGPIPE, without waiting, without closing. */

static int bio_result(BIO *bio, ssize_t n, int retry_flag) {
  sock *s = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (n >= 0) return (int)n;
  if (errno == EAGAIN || errno == EWOULDBLOCK) BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
  else s->system_error = errno;
  return -1;
}

static int bio_read(BIO *bio, char *out, int len) {
  sock *s = BIO_get_data(bio);
  ssize_t n;
  if (len <= 0) return 0;
  do n = recv(s->fd, out, (size_t)len, MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n == 0) s->ended = true;
  return bio_result(bio, n, BIO_FLAGS_READ);
}

static int bio_write(BIO *bio, const char *ptr, int len) {
  sock *s = BIO_get_data(bio);
  ssize_t n;
  if (len <= 0) return 0;
  do n = send(s->fd, ptr, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return bio_result(bio, n, BIO_FLAGS_WRITE);
}

static long bio_ctrl(BIO *bio, int command, long number, void *ptr) {
  (void)number;
  (void)ptr;
  const sock *s = BIO_get_data(bio);
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return s->ended;
  return 0;
}

static int bio_destroy(BIO *bio) {
  rm_free(BIO_get_data(bio));
  BIO_set_data(bio, NULL);
  return 1;
}

/* Not of a type of its own: BIO_get_new_index() numbers are never given back, and nothing looks for this BIO. */
static BIO_METHOD *new_method(void) {
  BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "redmoon socket");
  if (method == NULL) return NULL;
  BIO_meth_set_read(method, bio_read);
  BIO_meth_set_write(method, bio_write);
  BIO_meth_set_ctrl(method, bio_ctrl);
  BIO_meth_set_destroy(method, bio_destroy);
  return method;
}

/* The context. */

static int refuse_file(const char *option, const char *path, const char *why, redmoon_error *err) {
  ERR_clear_error();
  return rm_fail(err, REDMOON_ECONFIG, "option '%s': '%s' %s", option, path, why);
}

/* 0, or CONFIG with the system's reason when it is not there or of the other kind. */
static int check_file(const char *option, const char *path, bool directory, redmoon_error *err) {
  struct stat st;
  char why[160];
  if (path == NULL) return 0;
  if (stat(path, &st) != 0) {
    char text[128];
    snprintf(why, sizeof why, "cannot be read: %s", rm_errno_text(errno, text, sizeof text));
    return refuse_file(option, path, why, err);
  }
  if (directory == S_ISDIR(st.st_mode)) return 0;
  return refuse_file(option, path, directory ? "is not a directory" : "is a directory, not a file", err);
}

static int load_trust(SSL_CTX *ctx, const rm_config *config, redmoon_error *err) {
  const char *file = config->tls_ca_file, *path = config->tls_ca_path;
  int rc = check_file("tls_ca_file", file, false, err);
  if (rc == 0) rc = check_file("tls_ca_path", path, true, err);
  if (rc != 0) return rc;
  if (file != NULL && SSL_CTX_load_verify_locations(ctx, file, NULL) != 1)
    return refuse_file("tls_ca_file", file, "holds no PEM certificate that can be read", err);
  if (path != NULL && SSL_CTX_load_verify_locations(ctx, NULL, path) != 1)
    return refuse_file("tls_ca_path", path, "cannot be used", err);
  if (file == NULL && path == NULL && SSL_CTX_set_default_verify_paths(ctx) != 1)
    return rm_fail(err, REDMOON_ETLS, "the system's store of CA certificates cannot be used");
  return 0;
}

/* OpenSSL would ask for a passphrase on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *ctx) {
  (void)buf;
  (void)size;
  (void)writing;
  (void)ctx;
  return -1;
}

static int load_identity(SSL_CTX *ctx, const rm_config *config, redmoon_error *err) {
  const char *cert = config->tls_cert_file, *key = config->tls_key_file;
  if (cert == NULL || key == NULL) return 0;
  int rc = check_file("tls_cert_file", cert, false, err);
  if (rc == 0) rc = check_file("tls_key_file", key, false, err);
  if (rc != 0) return rc;
  SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
  if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
    return refuse_file("tls_cert_file", cert, "holds no PEM certificate that can be used", err);
  if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
    unsigned long e = ERR_peek_error();
    bool foreign = ERR_GET_LIB(e) == ERR_LIB_X509;
    return refuse_file("tls_key_file", key,
                       foreign ? "does not belong to the certificate of 'tls_cert_file'"
                               : "holds no PEM key without passphrase that can be read",
                       err);
  }
  if (SSL_CTX_check_private_key(ctx) != 1)
    return refuse_file("tls_key_file", key, "does not belong to the certificate of 'tls_cert_file'", err);
  return 0;
}

static int set_up(rm_tls *tls, const rm_config *config, redmoon_error *err) {
  SSL_CTX *ctx = tls->ctx;
  int version = config->tls_min_version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  if (SSL_CTX_set_min_proto_version(ctx, version) != 1)
    return rm_fail(err, REDMOON_ETLS, "OpenSSL cannot be set to TLS %s or later",
                   version == TLS1_3_VERSION ? "1.3" : "1.2");
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_verify(ctx, config->tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
  int rc = config->tls_verify || config->tls_ca_file != NULL || config->tls_ca_path != NULL
               ? load_trust(ctx, config, err)
               : 0;
  return rc == 0 ? load_identity(ctx, config, err) : rc;
}

int rm_tls_new(const rm_config *config, rm_tls **out, redmoon_error *err) {
  *out = NULL;
  if (!config->tls) return 0;
  int rc = REDMOON_ENOMEM;
  rm_tls *tls = rm_calloc(1, sizeof *tls);
  if (tls == NULL) return rm_fail_nomem(err);
  ERR_clear_error();
  tls->ctx = SSL_CTX_new(TLS_client_method());
  tls->method = new_method();
  if (config->tls_server_name != NULL) tls->server_name = rm_strdup(config->tls_server_name);
  if (tls->ctx == NULL || tls->method == NULL || (config->tls_server_name != NULL && tls->server_name == NULL))
    rm_fail_nomem(err);
  else rc = set_up(tls, config, err);
  ERR_clear_error();
  if (rc == 0) *out = tls;
  else rm_tls_free(tls);
  return rc;
}

void rm_tls_free(rm_tls *tls) {
  if (tls == NULL) return;
  SSL_CTX_free(tls->ctx);
  BIO_meth_free(tls->method);
  rm_free(tls->server_name);
  rm_free(tls);
}

/* A connection. */

static bool is_literal(const char *name) {
  unsigned char address[sizeof(struct in6_addr)];
  return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* Without an IPv6 zone and without the dot that ends a full name: neither stands in a certificate. */
static int copy_name(const char *host, sock *s, redmoon_error *err) {
  size_t len = host != NULL ? strcspn(host, "%") : 0;
  if (len > 1 && host[len - 1] == '.') len--;
  if (len == 0 || len >= sizeof s->name || memchr(host, '*', len) != NULL)
    return rm_fail(err, REDMOON_ECONFIG, "TLS needs a host name of 1 to 255 bytes without '*' to verify");
  memcpy(s->name, host, len);
  s->name[len] = '\0';
  return 0;
}

static bool expect_name(SSL *ssl, const char *name) {
  X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
  if (is_literal(name)) return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

int rm_tls_attach(rm_tls *tls, int fd, const char *host, SSL **out, redmoon_error *err) {
  *out = NULL;
  sock *s = rm_calloc(1, sizeof *s);
  if (s == NULL) return rm_fail_nomem(err);
  s->fd = fd;
  int rc = copy_name(tls->server_name != NULL ? tls->server_name : host, s, err);
  SSL *ssl = NULL;
  BIO *bio = NULL;
  if (rc != 0) goto out;
  rc = REDMOON_ENOMEM;
  ERR_clear_error();
  ssl = SSL_new(tls->ctx);
  bio = BIO_new(tls->method);
  if (ssl == NULL || bio == NULL || !expect_name(ssl, s->name)) {
    rm_fail_nomem(err);
    goto out;
  }
  BIO_set_data(bio, s);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_connect_state(ssl);
  *out = ssl;
  return 0;
out:
  ERR_clear_error();
  BIO_free(bio); /* has no sock yet */
  SSL_free(ssl);
  rm_free(s);
  return rc;
}

void rm_tls_detach(SSL *ssl) { SSL_free(ssl); }

/* Why it failed. */

static int fail_verify(const sock *s, long result, redmoon_phase phase, redmoon_error *err) {
  const char *why;
  switch (result) {
  case X509_V_ERR_HOSTNAME_MISMATCH:
  case X509_V_ERR_IP_ADDRESS_MISMATCH:
    return rm_fail_phase(err, REDMOON_ETLS, phase, "the server's certificate is not for '%s'", s->name);
  case X509_V_ERR_CERT_HAS_EXPIRED:
    why = "the server's certificate has expired";
    break;
  case X509_V_ERR_CERT_NOT_YET_VALID:
    why = "the server's certificate is not yet valid";
    break;
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    why = "the server's certificate is self-signed and not trusted (tls_ca_file may name it)";
    break;
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    why = "the server's certificate comes from an unknown CA (tls_ca_file may name it)";
    break;
  default:
    return rm_fail_phase(err, REDMOON_ETLS, phase, "the server's certificate is refused: %s",
                         X509_verify_cert_error_string(result));
  }
  return rm_fail_phase(err, REDMOON_ETLS, phase, "%s", why);
}

static bool is_about_client_certificate(int reason) {
  switch (reason) {
  case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
  case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
  case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
  case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
  case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
  case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
  case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
  case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    return true;
  default:
    return false;
  }
}

static int fail_protocol(SSL *ssl, unsigned long code, redmoon_phase phase, redmoon_error *err) {
  const char *text = ERR_reason_error_string(code);
  int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  if (text == NULL) text = "no reason given";
  switch (reason) {
  case SSL_R_WRONG_VERSION_NUMBER:
  case SSL_R_PACKET_LENGTH_TOO_LONG:
  case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
    if (phase != REDMOON_PHASE_TLS) break;
    return rm_fail_phase(err, REDMOON_ETLS, phase,
                         "the server answered something that is not TLS: is it a plain port?");
  case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
  case SSL_R_UNSUPPORTED_PROTOCOL:
  case SSL_R_WRONG_SSL_VERSION:
    return rm_fail_phase(err, REDMOON_ETLS, phase, "the server does not speak TLS %s or later (tls_min_version)",
                         SSL_get_min_proto_version(ssl) == TLS1_3_VERSION ? "1.3" : "1.2");
  case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    return rm_fail_phase(err, REDMOON_ETLS, phase,
                         "the server asks for a client certificate (tls_cert_file, tls_key_file)");
  case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    return rm_fail_phase(err, REDMOON_ETLS, phase,
                         "the server refused the TLS handshake: it asks for a client certificate (tls_cert_file, "
                         "tls_key_file) or shares no cipher");
  default:
    break;
  }
  if (is_about_client_certificate(reason))
    return rm_fail_phase(err, REDMOON_ETLS, phase, "the server refused the client certificate: %s", text);
  return rm_fail_phase(err, REDMOON_ETLS, phase, "TLS failed: %s", text);
}

static int fail_socket(const sock *s, redmoon_phase phase, redmoon_error *err) {
  char text[128];
  bool shaking = phase == REDMOON_PHASE_TLS;
  const char *during = shaking ? "during the TLS handshake" : "without the end of TLS";
  int status = shaking ? REDMOON_ECONNECT : REDMOON_EIO;
  if (s->ended || s->system_error == 0)
    return rm_fail_phase(err, status, phase, "the server closed the connection %s", during);
  return rm_fail_phase(err, status, phase, "the connection failed %s: %s", shaking ? during : "under TLS",
                       rm_errno_text(s->system_error, text, sizeof text));
}

static bool is_end_of_stream(unsigned long code) {
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
  return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
  return code == 0;
#endif
}

int rm_tls_fail(SSL *ssl, int ssl_error, redmoon_phase phase, redmoon_error *err) {
  const sock *s = BIO_get_data(SSL_get_rbio(ssl));
  unsigned long code = ERR_peek_error();
  bool verify_failed = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
  int rc;
  if (verify_failed) rc = fail_verify(s, SSL_get_verify_result(ssl), phase, err);
  else if (ssl_error != SSL_ERROR_SSL || is_end_of_stream(code)) rc = fail_socket(s, phase, err);
  else rc = fail_protocol(ssl, code, phase, err);
  ERR_clear_error();
  return rc;
}

int rm_tls_handshake(SSL *ssl, const char *host, int *events, redmoon_error *err) {
  (void)host; /* the sock knows the name that is verified, which tls_server_name may have replaced */
  ERR_clear_error();
  int n = SSL_do_handshake(ssl);
  if (n == 1) return RM_DONE;
  int ssl_error = SSL_get_error(ssl, n);
  if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE) {
    *events = ssl_error == SSL_ERROR_WANT_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
    return RM_WAIT;
  }
  return rm_tls_fail(ssl, ssl_error, REDMOON_PHASE_TLS, err);
}
