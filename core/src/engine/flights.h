/* SPDX-License-Identifier: MIT */
/** Flights: work on a key that one operation of this client does, while others of it wait for the end.
 *
 *      join --> LEADS: does the work, then leaves; all who follow are woken
 *           --> FOLLOWS: waits for its event, then looks rm_ticket_end, and asks anew itself: nothing is handed over, so that
 *                        nobody gets what was loaded before he asked
 *
 *  Internally locked; the lock is a leaf.  Events are signalled under it, so that a follower cannot close its own before. */
#ifndef RM_ENGINE_FLIGHTS_H
#define RM_ENGINE_FLIGHTS_H

#include "base/event.h"
#include "base/list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RM_FLIGHT_BUCKETS = 64, RM_FLIGHT_TEXT = 120 };

typedef struct rm_flights {
  pthread_mutex_t lock;
  rm_list buckets[RM_FLIGHT_BUCKETS];
  atomic_int fallbacks; /* loads under way without a lease */
  unsigned generation;  /* counts forks */
} rm_flights;

typedef struct rm_flight rm_flight;

/** In the operation's memory; zeroed before the first use. */
typedef struct rm_ticket {
  rm_list link;
  rm_flight *flight; /* NULL: none */
  rm_event *event;   /* the follower's */
  unsigned generation;
  bool joined;       /* its owner's: there is something to leave */
  bool leads, failed;
  char text[RM_FLIGHT_TEXT]; /* of a flight that failed */
} rm_ticket;

enum { RM_FLIGHT_LEADS = 1, RM_FLIGHT_FOLLOWS, RM_FLIGHT_BUSY, RM_FLIGHT_OWN };

void rm_flights_init(rm_flights *flights);
void rm_flights_fini(rm_flights *flights);
/** In a forked child: flights of the parent's are none here. */
void rm_flights_forked(rm_flights *flights);
/** LEADS; FOLLOWS; BUSY, when somebody leads and `event` is NULL; OWN, when `owner` (not 0) leads itself by another
 *  operation than `work`, so that waiting would never end; or REDMOON_ENOMEM.  Only the first two make the ticket one of the
 *  flight. */
int rm_flights_join(rm_flights *flights, const void *key, size_t len, uintptr_t owner, const void *work,
                    rm_event *event, rm_ticket *ticket);
/** Ends a ticket, whatever it is; one that never joined costs nothing.  Of a leader: `failure` (NULL: none) is told to those who follow. */
void rm_flights_leave(rm_flights *flights, rm_ticket *ticket, const char *failure);
/** Whether the flight that a ticket followed has ended; then ticket->failed and ->text say how. */
bool rm_ticket_has_ended(rm_flights *flights, rm_ticket *ticket);

#endif
