/* SPDX-License-Identifier: MIT */
/** A private redis-server or valkey-server on a unix socket in a 0700 folder.  It ends, and its folder goes, when the
 *  process that started it ends, however it ends. */
#ifndef REDMOON_EMBEDDED_H
#define REDMOON_EMBEDDED_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: internally locked. */
typedef struct redmoon_embedded redmoon_embedded;

typedef struct redmoon_embedded_options {
  const char *dir;             /**< keep data here (append-only file); NULL: nothing is kept */
  const char *server;          /**< program; NULL: redis-server, else valkey-server, of $PATH */
  const char *const *config;   /**< more arguments, NULL-terminated: {"--maxmemory", "64mb", NULL}; may be NULL */
  int64_t start_timeout_ms;    /**< 5,000 */
} redmoon_embedded_options;
#define REDMOON_EMBEDDED_OPTIONS_INIT {0, 0, 0, REDMOON_UNSET}

/** Starts it and returns when it answers PING.  *out is owned by the caller (redmoon_embedded_close). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_embedded_start(const redmoon_embedded_options *options,
                                                          redmoon_embedded **out, redmoon_error *err);
/** "unix:///tmp/.../redis.sock"; lives as long as the server. */
REDMOON_API const char *redmoon_embedded_url(const redmoon_embedded *server);
/** Process id of the server. */
REDMOON_API int64_t redmoon_embedded_pid(const redmoon_embedded *server);
/** Stops it and removes its folder before it returns.  NULL is allowed. */
REDMOON_API void redmoon_embedded_close(redmoon_embedded *server);

#ifdef __cplusplus
}
#endif
#endif
