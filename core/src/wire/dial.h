/* SPDX-License-Identifier: MIT */
/** Connecting a socket: every address of a name in turn, each with its share of the time that is left. */
#ifndef RM_WIRE_DIAL_H
#define RM_WIRE_DIAL_H

#include "base/wants.h"

#include <netdb.h>
#include <redmoon/error.h>
#include <stdbool.h>

/** A dial under way; zeroed memory with fd = -1 (RM_DIAL_INIT) holds none.  One thread at a time. */
typedef struct rm_dial {
  const struct addrinfo *current, *next; /* TCP: being tried, to be tried; the list is the caller's */
  const char *name;                      /* "host:port" or the path, for messages; the caller's */
  const char *path;                      /* unix socket; the caller's */
  int fd;                                /* -1: none */
  bool waits_backlog;                    /* the unix socket's queue was full: try again at retry_us */
  bool refused;                          /* an address failed for a reason other than our own lack of resources */
  int left;                              /* addresses not tried yet */
  int64_t deadline_us, share_us, try_by_us, retry_us;
  int64_t receive_timeout_us, user_timeout_ms;
  size_t reasons_len;
  char reasons[320]; /* "(::1): Connection refused, (127.0.0.1): ..." */
} rm_dial;
#define RM_DIAL_INIT ((rm_dial){.fd = -1})

/** How the connected socket is set up. */
typedef struct rm_dial_options {
  int64_t read_timeout_ms, write_timeout_ms;
} rm_dial_options;

/** `list` or `path` says where to; all pointers must stay valid. */
void rm_dial_start(rm_dial *dial, const struct addrinfo *list, const char *path, const char *name,
                   const rm_dial_options *options, int64_t deadline_us);
/** RM_DONE: *fd is connected, in blocking mode, CLOEXEC, and the caller's.  RM_WAIT.  CONNECT with the reason for
 *  each address, or UNAVAILABLE when the reason is a lack of descriptors, ports or buffers here.  It does not judge
 *  deadline_us itself: that time is over is the caller's to say. */
int rm_dial_step(rm_dial *dial, int64_t now_us, rm_wants *wants, int *fd, redmoon_error *err);
/** Closes what is under way. */
void rm_dial_fini(rm_dial *dial);

#endif
