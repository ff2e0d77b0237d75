/* SPDX-License-Identifier: MIT */
/** What a URL and the options mean, checked and complete.  Immutable after rm_config_new. */
#ifndef RM_WIRE_CONFIG_H
#define RM_WIRE_CONFIG_H

#include "base/secret.h"

#include <redmoon/options.h>
#include <redmoon/error.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum rm_topology { RM_STANDALONE, RM_SENTINEL, RM_CLUSTER } rm_topology;

/** One server's address. */
typedef struct rm_address {
  char *host; /* name or literal without brackets; NULL for a unix socket */
  char *path; /* of a unix socket; NULL for TCP */
  int port;
} rm_address;

typedef struct rm_config {
  rm_topology topology;
  rm_address *addresses; /* one for STANDALONE; seeds or sentinels for the others */
  size_t address_count;
  char *sentinel_name;
  bool tls;
  char *tls_ca_file, *tls_ca_path, *tls_cert_file, *tls_key_file, *tls_server_name;
  bool tls_verify;
  int tls_min_version; /* 12 or 13 */
  rm_secret username, password;
  rm_secret sentinel_username, sentinel_password;
  bool sentinel_tls;
  redmoon_credentials_fn credentials;
  void *credentials_ctx;
  char *client_name, *key_prefix, *read_from;
  char *url; /* printable: never a secret */
  /* numbers, in the units of redmoon_options; all filled in */
  int64_t database, pool_size, min_idle, max_idle, max_idle_time_ms, max_lifetime_ms, pool_timeout_ms,
      connect_timeout_ms, read_timeout_ms, write_timeout_ms, timeout_ms, max_retries, min_backoff_ms, max_backoff_ms,
      protocol, default_ttl_ms /* -1: none */, multiplex, max_reply_size;
} rm_config;

/** Parses the URL (NULL: $REDIS_URL, else redis://127.0.0.1:6379/0) and merges the options (NULL: none), which win over
 *  the URL's query.  REDMOON_ECONFIG names the option, what is accepted and the nearest known name, and never shows a
 *  secret or an unparsable URL. */
int rm_config_new(const char *url, const redmoon_options *options, rm_config **out, redmoon_error *err);
void rm_config_free(rm_config *config);

/** The table of options, for faces that take them by name (the URL's query, the Lua table). */
typedef enum rm_option_kind { RM_OPTION_TEXT, RM_OPTION_SECRET, RM_OPTION_INTEGER, RM_OPTION_DURATION, RM_OPTION_BOOL } rm_option_kind;
typedef struct rm_option {
  const char *name;       /* as in api.md: "pool_size", "tls_ca_file", "max_idle_time" */
  rm_option_kind kind;    /* DURATION: seconds in text and Lua, ms in the struct */
  size_t offset;          /* in redmoon_options: const char * or int64_t */
  int64_t min, max;       /* in the struct's unit */
  int64_t fallback;       /* default, in the struct's unit; of numbers; REDMOON_UNSET: pool_size */
  const char *accepts;    /* for messages: "an integer from 1 to 10000" */
} rm_option;
const rm_option *rm_options_table(size_t *count);
/** The option of that name, or NULL and *nearest set to the most similar known name (NULL if none is near). */
const rm_option *rm_option_find(const char *name, size_t len, const char **nearest);
/** Most similar of `count` names, by edit distance; NULL if none is near.  For "did you mean". */
const char *rm_nearest(const char *name, size_t len, const char *const *names, size_t count);

#endif
