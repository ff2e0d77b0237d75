/* SPDX-License-Identifier: MIT */
/* One connection: sends and receives what goes without waiting, and judges whether it can be lent out again. */
#include "wire/conn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/socket_io.h"
#include "wire/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

/* More pushes than this many receives bring are not worth the borrower's time. */
enum { MAX_DRAINS = 16 };

const char *rm_close_reason_name(rm_close_reason reason) {
  static const char *const names[] = {"idle", "lifetime", "peer", "dirty", "error", "failover", "closed"};
  return (unsigned)reason < sizeof names / sizeof names[0] ? names[reason] : "";
}

rm_conn *rm_conn_new(int fd, const rm_limits *limits) {
  rm_conn *conn = rm_calloc(1, sizeof *conn);
  if (conn == NULL) return NULL;
  conn->reader = rm_reader_new(limits);
  if (conn->reader == NULL) {
    rm_free(conn);
    return NULL;
  }
  conn->fd = fd;
  conn->protocol = 2;
  conn->expires_us = RM_FOREVER;
  return conn;
}

static ssize_t fail_io(const rm_conn *conn, redmoon_phase phase, int code, redmoon_error *err) {
  char text[128];
  rm_fail_phase(err, REDMOON_EIO, phase, "%s %s: %s", phase == REDMOON_PHASE_SEND ? "send to" : "receive from",
                conn->address, rm_errno_text(code, text, sizeof text));
  return RM_IO_ERROR;
}

/* What a failed SSL call means; errno was 0 before it. */
static ssize_t tls_result(rm_conn *conn, int result, redmoon_phase phase, redmoon_error *err) {
  bool no_errno = errno == 0;
  int kind = SSL_get_error(conn->ssl, result);
  if (kind == SSL_ERROR_WANT_READ) return RM_IO_AGAIN_READ;
  if (kind == SSL_ERROR_WANT_WRITE) return RM_IO_AGAIN_WRITE;
  bool ended = kind == SSL_ERROR_ZERO_RETURN || (kind == SSL_ERROR_SYSCALL && no_errno);
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
  unsigned long code = ERR_peek_error();
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) ended = true;
#endif
  if (ended && phase == REDMOON_PHASE_RECEIVE) {
    ERR_clear_error();
    conn->peer_closed = true;
    return RM_IO_EOF;
  }
  rm_tls_fail(conn->ssl, kind, phase, err);
  return RM_IO_ERROR;
}

static void raise_to(size_t *maybe_sent, size_t len) {
  if (maybe_sent != NULL && *maybe_sent < len) *maybe_sent = len;
}

/* One record, which is what OpenSSL takes at once anyway: what is behind it has surely not left. */
static ssize_t send_tls(rm_conn *conn, const void *ptr, size_t len, size_t *maybe_sent, redmoon_error *err) {
  size_t taken = 0;
  if (len > SSL3_RT_MAX_PLAIN_LENGTH) len = SSL3_RT_MAX_PLAIN_LENGTH;
  raise_to(maybe_sent, len); /* a record may leave though the call says "again" */
  ERR_clear_error();
  errno = 0;
  int result = SSL_write_ex(conn->ssl, ptr, len, &taken);
  return result > 0 ? (ssize_t)taken : tls_result(conn, result, REDMOON_PHASE_SEND, err);
}

ssize_t rm_conn_send(rm_conn *conn, const void *ptr, size_t len, size_t *maybe_sent, redmoon_error *err) {
  if (len > SSIZE_MAX) len = SSIZE_MAX;
  if (conn->ssl != NULL) return send_tls(conn, ptr, len, maybe_sent, err);
  ssize_t n;
  do n = rm_send(conn->fd, ptr, len, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n >= 0) {
    raise_to(maybe_sent, (size_t)n);
    return n;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK) return RM_IO_AGAIN_WRITE;
  return fail_io(conn, REDMOON_PHASE_SEND, errno, err);
}

/* All records that are there, as far as there is room. */
static ssize_t receive_tls(rm_conn *conn, char *space, size_t room, redmoon_error *err) {
  size_t total = 0;
  do {
    size_t got = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(conn->ssl, space + total, room - total, &got);
    if (result <= 0 && total == 0) return tls_result(conn, result, REDMOON_PHASE_RECEIVE, err);
    if (result <= 0) { /* the next receive runs into it again */
      ERR_clear_error();
      break;
    }
    total += got;
    rm_reader_added(conn->reader, got);
  } while (total < room && SSL_pending(conn->ssl) > 0);
  return (ssize_t)total;
}

ssize_t rm_conn_receive(rm_conn *conn, bool wait, redmoon_error *err) {
  size_t room = 0;
  char *space = rm_reader_space(conn->reader, rm_reader_want(conn->reader), &room);
  if (space == NULL) {
    rm_fail_nomem(err);
    return RM_IO_ERROR;
  }
  if (room > SSIZE_MAX) room = SSIZE_MAX;
  if (conn->ssl != NULL) return receive_tls(conn, space, room, err);
  ssize_t n;
  do n = rm_recv(conn->fd, space, room, wait ? 0 : MSG_DONTWAIT);
  while (n < 0 && errno == EINTR && !wait);
  if (n > 0) {
    rm_reader_added(conn->reader, (size_t)n);
    return n;
  }
  if (n == 0) {
    conn->peer_closed = true;
    return RM_IO_EOF;
  }
  /* After a signal the caller looks at its deadline first: the kernel's limit would begin anew. */
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return RM_IO_AGAIN_READ;
  return fail_io(conn, REDMOON_PHASE_RECEIVE, errno, err);
}

int rm_conn_next(rm_conn *conn, rm_arena *arena, redmoon_reply **out, redmoon_error *err) {
  return rm_reader_next(conn->reader, arena, out, err);
}

/* Drops whole pushes from the reader.  False: something else is in it. */
static bool drop_pushes(rm_conn *conn) {
  if (!rm_reader_has_bytes(conn->reader)) return true;
  if (conn->protocol < 3) return false;
  rm_arena arena = {0};
  redmoon_reply *reply = NULL;
  int found;
  while ((found = rm_reader_next(conn->reader, &arena, &reply, NULL)) == 1 && reply->type == REDMOON_PUSH)
    rm_arena_reset(&arena, 4096);
  rm_arena_fini(&arena);
  return found == 0 && !rm_reader_has_bytes(conn->reader);
}

/* Takes in what has arrived.  True: nothing is left but what may be dropped. */
static bool drain(rm_conn *conn, rm_close_reason *why) {
  for (int i = 0; i < MAX_DRAINS; i++) {
    ssize_t n = rm_conn_receive(conn, false, NULL);
    if (n > 0 && drop_pushes(conn)) continue;
    if (n == RM_IO_AGAIN_READ) return true;
    *why = n > 0 ? RM_CLOSE_DIRTY : n == RM_IO_EOF ? RM_CLOSE_PEER : RM_CLOSE_ERROR;
    return false;
  }
  *why = RM_CLOSE_DIRTY;
  return false;
}

bool rm_conn_is_reusable(rm_conn *conn, rm_close_reason *why) {
  if (conn->peer_closed) {
    *why = RM_CLOSE_PEER;
    return false;
  }
  if (!drop_pushes(conn)) {
    *why = RM_CLOSE_DIRTY;
    return false;
  }
  if (conn->ssl != NULL) return drain(conn, why);
  char byte;
  ssize_t n;
  do n = rm_recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
  if (n > 0) return drain(conn, why);
  conn->peer_closed = n == 0;
  *why = n == 0 || errno == ECONNRESET ? RM_CLOSE_PEER : RM_CLOSE_ERROR;
  return false;
}

int rm_conn_dead_socket(void) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return -1;
  close(pair[1]);
  return pair[0];
}

void rm_conn_replace_socket(rm_conn *conn, int dead) {
  if (conn->fd < 0) return;
  if (dead >= 0 && dup2(dead, conn->fd) >= 0) {
    (void)fcntl(conn->fd, F_SETFD, FD_CLOEXEC);
  } else {
    close(conn->fd);
    conn->fd = -1;
  }
}

void rm_conn_close(rm_conn *conn) {
  if (conn == NULL) return;
  if (conn->ssl != NULL) rm_tls_detach(conn->ssl);
  rm_reader_free(conn->reader);
  if (conn->fd >= 0) close(conn->fd);
  rm_free(conn);
}
