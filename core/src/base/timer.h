/* SPDX-License-Identifier: MIT */
/** A descriptor that becomes readable at a time of the boot clock (rm_clock_boot_us): a timerfd. */
#ifndef RM_BASE_TIMER_H
#define RM_BASE_TIMER_H

#include <stdint.h>

/** CLOEXEC, non-blocking; not set.  -1 with errno when the system refuses. */
int rm_timer_open(void);
/** Readable from `at_us` on, at once if that has passed; RM_FOREVER: never. */
void rm_timer_set(int fd, int64_t at_us);
/** -1 is allowed. */
void rm_timer_close(int fd);

#endif
