/* SPDX-License-Identifier: MIT */
/* Flights: a table of chains under one lock. */
#include "engine/flights.h"

#include "base/alloc.h"

#include <redmoon/error.h>
#include <stdio.h>
#include <string.h>

struct rm_flight {
  rm_list link;
  rm_list followers;
  uintptr_t owner;
  const void *work; /* the leader's operation; compared only */
  size_t len;
  char key[];
};

static void init(rm_flights *flights) {
  pthread_mutex_init(&flights->lock, NULL);
  for (size_t i = 0; i < RM_FLIGHT_BUCKETS; i++) rm_list_init(&flights->buckets[i]);
  atomic_init(&flights->fallbacks, 0);
}

void rm_flights_init(rm_flights *flights) {
  flights->generation = 0;
  init(flights);
}

void rm_flights_fini(rm_flights *flights) { pthread_mutex_destroy(&flights->lock); }

void rm_flights_forked(rm_flights *flights) {
  flights->generation++;
  init(flights);
}

/* FNV-1a: chains are short, whatever the keys. */
static rm_list *bucket_of(rm_flights *flights, const char *key, size_t len) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < len; i++) hash = (hash ^ (unsigned char)key[i]) * 16777619u;
  return &flights->buckets[(hash ^ hash >> 16) % RM_FLIGHT_BUCKETS];
}

static rm_flight *find(const rm_list *bucket, const void *key, size_t len) {
  for (const rm_list *node = bucket->next; node != bucket; node = node->next) {
    rm_flight *flight = RM_CONTAINER_OF(node, rm_flight, link);
    if (flight->len == len && memcmp(flight->key, key, len) == 0) return flight;
  }
  return NULL;
}

static int join(rm_flight *flight, uintptr_t owner, const void *work, rm_event *event, rm_ticket *ticket) {
  if (owner != 0 && flight->owner == owner && flight->work != work) return RM_FLIGHT_OWN;
  if (event == NULL) return RM_FLIGHT_BUSY;
  ticket->flight = flight;
  ticket->event = event;
  ticket->leads = ticket->failed = false;
  rm_list_push_back(&flight->followers, &ticket->link);
  return RM_FLIGHT_FOLLOWS;
}

int rm_flights_join(rm_flights *flights, const void *key, size_t len, uintptr_t owner, const void *work,
                    rm_event *event, rm_ticket *ticket) {
  rm_flight *fresh = rm_alloc(sizeof *fresh + len);
  if (fresh == NULL) return REDMOON_ENOMEM;
  pthread_mutex_lock(&flights->lock);
  rm_list *bucket = bucket_of(flights, key, len);
  rm_flight *flight = find(bucket, key, len);
  int how = RM_FLIGHT_LEADS;
  ticket->generation = flights->generation;
  if (flight != NULL) {
    how = join(flight, owner, work, event, ticket);
  } else {
    rm_list_init(&fresh->followers);
    fresh->owner = owner;
    fresh->work = work;
    fresh->len = len;
    memcpy(fresh->key, key, len);
    rm_list_push_back(bucket, &fresh->link);
    ticket->flight = fresh;
    ticket->leads = true;
    fresh = NULL;
  }
  pthread_mutex_unlock(&flights->lock);
  rm_free(fresh);
  ticket->joined = how == RM_FLIGHT_LEADS || how == RM_FLIGHT_FOLLOWS;
  return how;
}

/* Locked. */
static void wake(rm_flight *flight, const char *failure) {
  while (!rm_list_is_empty(&flight->followers)) {
    rm_ticket *ticket = RM_CONTAINER_OF(flight->followers.next, rm_ticket, link);
    rm_list_remove(&ticket->link);
    ticket->flight = NULL;
    ticket->failed = failure != NULL;
    if (failure != NULL) snprintf(ticket->text, sizeof ticket->text, "%s", failure);
    rm_event_signal(ticket->event);
  }
}

void rm_flights_leave(rm_flights *flights, rm_ticket *ticket, const char *failure) {
  if (!ticket->joined) return;
  ticket->joined = false;
  if (ticket->generation != flights->generation) { /* the parent's: its lists are not looked at here */
    if (ticket->leads) rm_free(ticket->flight);
    ticket->flight = NULL;
    ticket->leads = false;
    return;
  }
  rm_flight *ended = NULL;
  pthread_mutex_lock(&flights->lock);
  if (ticket->leads) {
    ended = ticket->flight;
    rm_list_remove(&ended->link);
    wake(ended, failure);
  } else if (ticket->flight != NULL) {
    rm_list_remove(&ticket->link);
  }
  ticket->flight = NULL;
  ticket->leads = false;
  pthread_mutex_unlock(&flights->lock);
  rm_free(ended);
}

bool rm_ticket_has_ended(rm_flights *flights, rm_ticket *ticket) {
  pthread_mutex_lock(&flights->lock);
  bool ended = ticket->flight == NULL;
  pthread_mutex_unlock(&flights->lock);
  return ended;
}
