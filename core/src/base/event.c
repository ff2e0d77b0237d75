/* SPDX-License-Identifier: MIT */
/* The pollable event. */
#include "base/event.h"

#include <errno.h>
#include <redmoon/error.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int rm_event_open(rm_event *event) {
  event->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return event->fd < 0 ? REDMOON_EUNAVAILABLE : 0;
}

void rm_event_signal(rm_event *event) {
  uint64_t one = 1;
  while (write(event->fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void rm_event_clear(rm_event *event) {
  uint64_t count;
  while (read(event->fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

void rm_event_close(rm_event *event) {
  if (event->fd >= 0) close(event->fd);
  event->fd = -1;
}
