/* SPDX-License-Identifier: MIT */
/** Something pollable that another thread can signal: an eventfd.  Stays readable until cleared. */
#ifndef RM_BASE_EVENT_H
#define RM_BASE_EVENT_H

typedef struct rm_event {
  int fd; /* -1: none */
} rm_event;
#define RM_EVENT_INIT {-1}

/** CLOEXEC, non-blocking.  0, or REDMOON_EUNAVAILABLE with errno when the system refuses. */
int rm_event_open(rm_event *event);
void rm_event_signal(rm_event *event);
void rm_event_clear(rm_event *event);
void rm_event_close(rm_event *event);

#endif
