/* SPDX-License-Identifier: MIT */
/** Options of a client.  A field left at its initial value takes the URL's query parameter of the same name
 *  (durations there in seconds), else the default named here. */
#ifndef REDMOON_OPTIONS_H
#define REDMOON_OPTIONS_H

#include <redmoon/export.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Marks a number that was not given. */
#define REDMOON_UNSET (INT64_MIN)

/** In the URL: tls_ca_file, tls_ca_path, tls_cert_file, tls_key_file, tls_server_name, tls_verify, tls_min_version. */
typedef struct redmoon_tls_options {
  const char *ca_file;     /**< PEM; default: the system's store */
  const char *ca_path;     /**< directory of hashed PEM files */
  const char *cert_file;   /**< PEM chain of the client (mutual TLS) */
  const char *key_file;    /**< PEM key of the client */
  const char *server_name; /**< the name to verify and to send as SNI; default: the host dialled */
  int64_t verify;          /**< 1 (default): chain, name and dates are verified; 0: nothing is */
  const char *min_version; /**< "1.2" (default) or "1.3" */
} redmoon_tls_options;

/** Asked at each new connection; called on the dialling thread (also the keeper's), without locks held.
 *  Writes NUL-terminated text; returns 0, or negative to refuse the dial (REDMOON_ENOMEM: for want of memory, and the
 *  call says so).  The buffers are wiped after use. */
typedef int (*redmoon_credentials_fn)(void *ctx, char username[256], char password[4096]);

typedef struct redmoon_options {
  const char *username;
  const char *password;
  redmoon_credentials_fn credentials; /**< instead of username and password */
  void *credentials_ctx;
  void (*credentials_drop)(void *ctx); /**< called once, when the client that was opened is gone; may be NULL */
  int64_t database;           /**< 0 */
  int64_t pool_size;          /**< 20; most connections per node, a hard limit */
  int64_t min_idle;           /**< 0; kept ready and authenticated; looked at every second */
  int64_t max_idle;           /**< pool_size */
  int64_t max_idle_time_ms;   /**< 300,000; 0: for ever */
  int64_t max_lifetime_ms;    /**< 3,600,000 +-10 %; 0: for ever */
  int64_t pool_timeout_ms;    /**< 3,000; once per call, not per attempt */
  int64_t connect_timeout_ms; /**< 3,000; per attempt: resolve, dial, TLS and handshake together */
  int64_t read_timeout_ms;    /**< 2,000; per attempt */
  int64_t write_timeout_ms;   /**< 2,000; per attempt */
  int64_t timeout_ms;         /**< 10,000; total deadline of a call */
  int64_t max_retries;        /**< 3 */
  int64_t min_backoff_ms;     /**< 8 */
  int64_t max_backoff_ms;     /**< 512; full jitter */
  int64_t protocol;           /**< 3; falls back to 2 where the server lacks HELLO */
  const char *client_name;    /**< CLIENT SETNAME */
  redmoon_tls_options tls;
  int64_t default_ttl_ms;     /**< none; lifetime for redmoon.set without one (Lua) */
  const char *key_prefix;     /**< "redmoon"; first part of the keys of all patterns */
  int64_t multiplex;          /**< 0; 1: many callers share a few connections, docs/multiplexing.md */
  int64_t max_reply_size;     /**< 536,870,912 bytes; also bounds elements and depth */
  const char *read_from;      /**< "primary" */
  const char *sentinel_username; /**< of the sentinels, which have users of their own; none */
  const char *sentinel_password; /**< none */
  int64_t sentinel_tls;       /**< 1: the sentinels speak TLS, with the settings of `tls`; as the servers by default */
} redmoon_options;

#define REDMOON_TLS_OPTIONS_INIT {0, 0, 0, 0, 0, REDMOON_UNSET, 0}
#define REDMOON_OPTIONS_INIT                                                                                     \
  {0, 0, 0, 0, 0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET,      \
   REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET,      \
   REDMOON_UNSET, REDMOON_UNSET, 0, REDMOON_TLS_OPTIONS_INIT, REDMOON_UNSET, 0, REDMOON_UNSET, REDMOON_UNSET, 0, \
   0, 0, REDMOON_UNSET}

#ifdef __cplusplus
}
#endif
#endif
