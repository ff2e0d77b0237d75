/* SPDX-License-Identifier: MIT */
/* One question on a connection of its own. */
#include "engine/inquiry.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

int rm_inquiry_start(rm_inquiry *inquiry, const rm_dialer *dialer, const rm_address *address, int argc,
                     const char *const *argv, int64_t now_us, int64_t by_us, redmoon_error *err) {
  *inquiry = (rm_inquiry){.by_us = by_us};
  rm_request_init(&inquiry->request);
  if (argc > 0 && rm_request_argv(&inquiry->request, argc, argv, NULL, 0, 0) != 0) return rm_fail_nomem(err);
  return rm_connect_start(dialer, address, now_us, by_us, &inquiry->connect, err);
}

int rm_inquiry_also(rm_inquiry *inquiry, int argc, const char *const *argv, redmoon_error *err) {
  if (inquiry->sent > 0 && inquiry->sent == rm_buffer_len(&inquiry->request.bytes)) {
    rm_request_reset(&inquiry->request, 4096);
    inquiry->sent = 0;
  }
  return rm_request_argv(&inquiry->request, argc, argv, NULL, 0, 0) == 0 ? 0 : rm_fail_nomem(err);
}

void rm_inquiry_fini(rm_inquiry *inquiry) {
  rm_connect_free(inquiry->connect);
  rm_conn_close(inquiry->conn);
  if (inquiry->by_us != 0) rm_request_fini(&inquiry->request);
  rm_arena_fini(&inquiry->arena);
  *inquiry = (rm_inquiry){0};
}

/* RM_DONE: all of it has gone out. */
static int send_all(rm_inquiry *inquiry, int *events, redmoon_error *err) {
  const char *bytes = rm_buffer_begin(&inquiry->request.bytes);
  size_t total = rm_buffer_len(&inquiry->request.bytes);
  while (inquiry->sent < total) {
    ssize_t n = rm_conn_send(inquiry->conn, bytes + inquiry->sent, total - inquiry->sent, NULL, err);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return RM_WAIT;
    }
    if (n < 0) return err->status;
    inquiry->sent += (size_t)n;
  }
  return RM_DONE;
}

static int receive(rm_inquiry *inquiry, int *events, redmoon_reply **reply, redmoon_error *err) {
  for (;;) {
    int rc = rm_conn_next(inquiry->conn, &inquiry->arena, reply, err);
    if (rc < 0) return rc;
    if (rc > 0 && (*reply)->type != REDMOON_PUSH) return RM_DONE;
    if (rc > 0) continue;
    ssize_t n = rm_conn_receive(inquiry->conn, false, err);
    if (n == RM_IO_AGAIN_READ || n == RM_IO_AGAIN_WRITE) {
      *events |= n == RM_IO_AGAIN_READ ? REDMOON_WANT_READ : REDMOON_WANT_WRITE;
      return RM_WAIT;
    }
    if (n == RM_IO_EOF)
      return rm_fail_phase(err, REDMOON_EIO, REDMOON_PHASE_RECEIVE, "%s closed the connection", inquiry->conn->address);
    if (n < 0) return err->status;
  }
}

int rm_inquiry_step(rm_inquiry *inquiry, int64_t now_us, rm_wants *wants, redmoon_reply **reply, redmoon_error *err) {
  if (inquiry->conn == NULL) {
    int rc = rm_connect_step(inquiry->connect, now_us, wants, &inquiry->conn, err);
    if (rc != RM_DONE) return rc;
    rm_connect_free(inquiry->connect);
    inquiry->connect = NULL;
    inquiry->asked_us = rm_clock_now_us();
  }
  if (inquiry->request.count == 0) return RM_DONE;
  int events = 0;
  int rc = send_all(inquiry, &events, err);
  if (rc == RM_DONE) rc = receive(inquiry, &events, reply, err);
  if (rc == RM_WAIT && now_us >= inquiry->by_us)
    return rm_fail_phase(err, REDMOON_ETIMEOUT, REDMOON_PHASE_RECEIVE, "%s did not answer in time", inquiry->conn->address);
  if (rc == RM_WAIT) *wants = (rm_wants){inquiry->conn->fd, events, inquiry->by_us};
  return rc;
}
