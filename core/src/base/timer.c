/* SPDX-License-Identifier: MIT */
/* The pollable timer.  It goes on while the system is suspended, as the clock does that leases are judged by. */
#include "base/timer.h"

#include "base/clock.h"

#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int rm_timer_open(void) {
#ifdef CLOCK_BOOTTIME
  int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (fd >= 0) return fd;
#endif
  return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

void rm_timer_set(int fd, int64_t at_us) {
  struct itimerspec when = {.it_interval = {0, 0}};
  if (at_us != RM_FOREVER) { /* a time of 0 would switch it off */
    int64_t us = rm_max64(at_us, 1);
    when.it_value = (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
  }
  (void)timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void rm_timer_close(int fd) {
  if (fd >= 0) close(fd);
}
