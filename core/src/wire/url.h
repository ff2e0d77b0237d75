/* SPDX-License-Identifier: MIT */
/** A URL taken apart:
 *
 *      scheme://user:password@host:port,host:port/path?option=value&option=value
 *
 *  Texts of user info, path and query are percent-decoded.  Messages never show the user info nor any part of a URL
 *  that could not be taken apart. */
#ifndef RM_WIRE_URL_H
#define RM_WIRE_URL_H

#include "wire/config.h"

typedef struct rm_url {
  const char *scheme; /* static: "redis", "rediss+cluster", ... */
  rm_topology topology;
  bool tls;
  rm_address *addresses;
  size_t address_count;
  char *sentinel_name;
  rm_secret username, password, sentinel_username, sentinel_password; /* bytes NULL: not given */
  redmoon_options values;       /* of path and query; texts are owned by the url */
} rm_url;

/** Parses `text`; `source` ("URL", "$REDIS_URL") begins every message.  On failure *out holds nothing. */
int rm_url_parse(const char *text, const char *source, rm_url *out, redmoon_error *err);
void rm_url_fini(rm_url *url);
/** The printable form, without user info and query.  NULL when memory is short. */
char *rm_url_print(const rm_url *url, int64_t database);
/** Whether it may be a host: a name of 1 to 255 letters, digits, '.', '-' and '_', or an IPv4 or IPv6 literal
 * without brackets, with or without a zone.  Also for what a server announces. */
bool rm_host_is_valid(const char *host, size_t len);

#endif
