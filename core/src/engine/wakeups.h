/* SPDX-License-Identifier: MIT */
/** Wake-ups: whoever waits for something that others hold is told by whoever gives it back, and so need not ask often.
 *
 *      refused --> join --> ask once more when woken, or after a pause --> ... --> granted, refused for good --> leave
 *                   |            ^
 *                   |            | its event: a message came, or the channel was confirmed, or the link was lost
 *                   v            |
 *      one subscription of the client, which has a connection only while somebody waits, and a second longer
 *
 *  Who waits sets a mark beside the object (scripts/include/waits.lua); who gives it back takes the mark away and publishes
 *  to the channel that is named as the mark.  The message reaches all clients; each of them wakes one waiter, in the order
 *  they joined, so that not all of them ask at once; it keeps its place.  So at any moment one of these holds for each
 *  client with waiters: the mark is set; a message is on its way; a waiter was woken, and will ask, and set the mark if it is
 *  refused; the channel is not confirmed, and they all ask often.  Hence what a waiter owes:
 *
 *      woken, and refused for the last time, cancelled or failed: the next one is woken in its place (rm_waiter_leave)
 *      granted, while others of the client wait: the script sets the mark in its place, or the next one is woken, too
 *
 *  Internally locked.  A waiter is its operation's: one thread at a time. */
#ifndef RM_ENGINE_WAKEUPS_H
#define RM_ENGINE_WAKEUPS_H

#include "base/event.h"
#include "base/list.h"

#include <pthread.h>
#include <redmoon/script.h>
#include <redmoon/subscription.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_core rm_core;

enum { RM_WAKEUP_BUCKETS = 64 };
#define RM_WAKEUPS_POLL_US INT64_C(5000000) /* how often who may count on being woken asks all the same */

typedef struct rm_wakeups {
  pthread_mutex_t lock;
  rm_list channels[RM_WAKEUP_BUCKETS];
  rm_list idle;           /* channels that nobody waits for, the oldest first */
  redmoon_client *handle; /* of the subscription; without a reference to the core */
  redmoon_subscription *sub; /* NULL: nobody has waited yet, or none could be had */
  unsigned generation;    /* counts forks */
  int64_t poll_us;        /* RM_WAKEUPS_POLL_US, but for tests; set before anybody waits */
} rm_wakeups;

typedef struct rm_wake_channel rm_wake_channel;

/** In the operation's memory; zeroed: has not joined. */
typedef struct rm_waiter {
  rm_list link;
  rm_wake_channel *channel;
  rm_event *event;   /* the operation's */
  redmoon_bytes tag; /* a message that carries it is for this waiter; of its owner's memory.  ptr NULL: none */
  unsigned generation;
  bool joined;
  bool crowd;        /* woken by each message, with all others of its kind, not in turn */
  bool told;         /* there is a reason to ask */
  bool owes;         /* it was told, and has not asked since */
  bool rests;        /* it sleeps, and counts on being told */
} rm_waiter;

/** What a waiter can count on. */
typedef struct rm_waiter_view {
  bool ready;  /* the channel is confirmed: it will be woken */
  bool first;  /* nobody of this client has waited for longer */
  bool others; /* others of this client wait */
} rm_waiter_view;

void rm_wakeups_init(rm_wakeups *wakeups);
/** After the keeper has ended. */
void rm_wakeups_fini(rm_wakeups *wakeups);
/** In a forked child: those who wait are the parent's. */
void rm_wakeups_forked(rm_wakeups *wakeups);

/** Begins to wait; *event, opened, becomes readable when there is a reason to ask.  Without memory, or when no subscription
 *  can be had, it does not join, and is never ready.  Before it sleeps for long it asks once more after the channel was
 *  confirmed: for that, too, it is woken.  `tag` and `event` stay valid until it leaves. */
void rm_waiter_join(rm_waiter *waiter, rm_core *core, redmoon_bytes channel, redmoon_bytes tag, bool crowd, rm_event *event);
/** What to poll; -1: nothing, for it has not joined, or its parent process did. */
int rm_waiter_fd(const rm_waiter *waiter, rm_core *core);
/** Whether it was woken; from here on it owes an attempt. */
bool rm_waiter_take(rm_waiter *waiter, rm_core *core);
/** It has asked, and whatever is due to it then is under way again. */
static inline void rm_waiter_asked(rm_waiter *waiter) { waiter->owes = false; }
rm_waiter_view rm_waiter_look(const rm_waiter *waiter, rm_core *core);
/** The same, of one that goes to sleep. */
rm_waiter_view rm_waiter_sleep(rm_waiter *waiter, rm_core *core);
/** The one that joined after it is woken, too. */
void rm_waiter_pass(rm_waiter *waiter, rm_core *core);
/** Ends it.  One that has not joined costs nothing.  What it owes, and `more` if there may be more than it got, is passed on. */
void rm_waiter_leave(rm_waiter *waiter, rm_core *core, bool more);

/** For tests: how many waiters sleep, and count on being told. */
size_t rm_wakeups_resting(rm_core *core);

#endif
