/* SPDX-License-Identifier: MIT */
/* Whether an operation that is stepped by hand only lets time pass: it may wait to be woken, but for no connection. */
#ifndef TESTS_PAUSING_H
#define TESTS_PAUSING_H

#include <redmoon/op.h>
#include <stdbool.h>
#include <sys/socket.h>

static inline bool is_pause(const redmoon_wants *wants) {
  int type;
  socklen_t len = sizeof type;
  return wants->fd < 0 || getsockopt(wants->fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0;
}

#endif
