/* SPDX-License-Identifier: MIT */
/* Clocks. */
#include "base/clock.h"

#include <limits.h>
#include <time.h>

static int64_t read_us(clockid_t id) {
  struct timespec ts;
  if (clock_gettime(id, &ts) != 0) return -1;
  return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t rm_clock_now_us(void) { return read_us(CLOCK_MONOTONIC); }

int64_t rm_clock_boot_us(void) {
#ifdef CLOCK_BOOTTIME
  int64_t us = read_us(CLOCK_BOOTTIME);
  if (us >= 0) return us;
#endif
  return read_us(CLOCK_MONOTONIC);
}

int64_t rm_deadline_us(int64_t now_us, int64_t ms) {
  if (ms < 0 || ms > (RM_FOREVER - now_us) / 1000) return RM_FOREVER;
  return now_us + ms * 1000;
}

int rm_poll_timeout_ms(int64_t now_us, int64_t until_us) {
  if (until_us == RM_FOREVER) return -1;
  if (until_us <= now_us) return 0;
  int64_t ms = (until_us - now_us + 999) / 1000;
  return ms > INT_MAX ? INT_MAX : (int)ms;
}
