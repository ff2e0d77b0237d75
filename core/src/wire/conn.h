/* SPDX-License-Identifier: MIT */
/** One connection: a socket, perhaps TLS on it, and a reader.  No waiting here. */
#ifndef RM_WIRE_CONN_H
#define RM_WIRE_CONN_H

#include "base/list.h"
#include "base/wants.h"
#include "wire/reader.h"

#include <sys/types.h>

typedef struct ssl_st SSL;

/** Why a connection is closed; the words of stats() and of the close event. */
typedef enum rm_close_reason {
  RM_CLOSE_IDLE, RM_CLOSE_LIFETIME, RM_CLOSE_PEER, RM_CLOSE_DIRTY, RM_CLOSE_ERROR, RM_CLOSE_FAILOVER,
  RM_CLOSE_SHUTDOWN, RM_CLOSE_REASONS
} rm_close_reason;
const char *rm_close_reason_name(rm_close_reason reason); /* "idle", ..., "closed" */

/** What a dial consists of, in this order. */
typedef enum rm_connect_phase {
  RM_CONNECT_RESOLVE, RM_CONNECT_DIAL, RM_CONNECT_TLS, RM_CONNECT_HANDSHAKE, RM_CONNECT_PHASES
} rm_connect_phase;

typedef struct rm_conn {
  rm_list link;          /* the pool's */
  int fd;                /* blocking mode; every call here uses MSG_DONTWAIT unless told to wait */
  SSL *ssl;              /* NULL: plain */
  rm_reader *reader;
  int protocol;          /* 2 or 3 */
  int64_t client_id;     /* CLIENT ID; 0: unknown */
  int64_t receive_timeout_us; /* what SO_RCVTIMEO is set to: how long a waiting receive lasts at most */
  int64_t created_us, idle_since_us, expires_us; /* the pool's; expires_us RM_FOREVER: never */
  int64_t connect_us[RM_CONNECT_PHASES]; /* how long each phase of its dial took */
  bool peer_closed;      /* end of stream was seen */
  char address[128];
} rm_conn;

/** A connection on a connected socket, with a reader of these limits.  It owns `fd` from here; NULL: no memory, and
 *  `fd` is still the caller's.  protocol is 2, expires_us RM_FOREVER, all else zero. */
rm_conn *rm_conn_new(int fd, const rm_limits *limits);

enum { RM_IO_ERROR = -1, RM_IO_AGAIN_READ = -2, RM_IO_AGAIN_WRITE = -3, RM_IO_EOF = -4 };

/** Sends what the socket takes.  > 0: bytes taken; else RM_IO_AGAIN_* or RM_IO_ERROR with `err` (status IO or TLS).
 *  *maybe_sent (may be NULL) is raised to the count of bytes of [ptr, ptr+len) that may be on the wire, which under
 *  TLS can be more than were taken. */
ssize_t rm_conn_send(rm_conn *conn, const void *ptr, size_t len, size_t *maybe_sent, redmoon_error *err);
/** Receives into the reader.  `wait`: blocks, for receive_timeout_us at most and until the next signal handler
 *  (plain sockets only; under TLS it does not wait).  > 0: bytes; RM_IO_EOF; RM_IO_AGAIN_*; RM_IO_ERROR with `err`.
 */
ssize_t rm_conn_receive(rm_conn *conn, bool wait, redmoon_error *err);
/** Next frame of what was received; as rm_reader_next. */
int rm_conn_next(rm_conn *conn, rm_arena *arena, redmoon_reply **out, redmoon_error *err);
/** Whether it can be lent out again: not closed by the peer, and no byte unread in socket, TLS or reader (TLS
 *  tickets and key updates are not bytes of the peer's; whole RESP3 pushes are dropped).  Otherwise *why is PEER,
 *  DIRTY or ERROR. */
bool rm_conn_is_reusable(rm_conn *conn, rm_close_reason *why);
/** For a forked child.  A socket whose peer is gone: reads end, writes fail; -1 if it cannot be had. */
int rm_conn_dead_socket(void);
/** Under its number, the connection's socket becomes a copy of `dead` (-1: it is closed): the peer hears nothing, and what
 *  still knows the number cannot write to a stranger. */
void rm_conn_replace_socket(rm_conn *conn, int dead);
/** Closes at once, without a word to the peer, and frees.  NULL is allowed. */
void rm_conn_close(rm_conn *conn);

#endif
