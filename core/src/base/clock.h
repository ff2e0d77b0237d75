/* SPDX-License-Identifier: MIT */
/** Clocks, in microseconds.  Layers below the driver get `now` as a parameter; only drivers and starts read a clock. */
#ifndef RM_BASE_CLOCK_H
#define RM_BASE_CLOCK_H

#include <stdint.h>

#define RM_FOREVER INT64_MAX

/** CLOCK_MONOTONIC: deadlines, latencies. */
int64_t rm_clock_now_us(void);
/** CLOCK_BOOTTIME (goes on while suspended; CLOCK_MONOTONIC where it is missing): leases. */
int64_t rm_clock_boot_us(void);
/** now + ms, saturating; ms < 0 means RM_FOREVER. */
int64_t rm_deadline_us(int64_t now_us, int64_t ms);
/** Milliseconds from now until `until_us`, rounded up, 0 when past, -1 for RM_FOREVER, at most INT_MAX (for poll). */
int rm_poll_timeout_ms(int64_t now_us, int64_t until_us);
static inline int64_t rm_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t rm_max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
