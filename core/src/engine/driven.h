/* SPDX-License-Identifier: MIT */
/** What the keeper drives for as long as it exists, as a renewal is driven when it is due: the links of subscriptions.
 *
 *      add --> ready --> step() --> wants {fd, time} --> ready again --> ...   remove, or end() when the client shuts down
 *                ^                                 |
 *                +------------- kick() ------------+
 *
 *  The functions are called on the keeper's thread, one at a time for each, without a lock held; they must not block, nor
 *  add or remove any. */
#ifndef RM_ENGINE_DRIVEN_H
#define RM_ENGINE_DRIVEN_H

#include "base/list.h"
#include "base/wants.h"

#include <redmoon/client.h>

typedef struct rm_core rm_core;
typedef struct rm_driven rm_driven;

typedef struct rm_driven_class {
  /** Goes as far as it goes without blocking, and not on for ever; *wants says what for. */
  void (*step)(rm_driven *driven, int64_t now_us, rm_wants *wants);
  /** There will be no step any more: the client was shut down. */
  void (*end)(rm_driven *driven);
  /** In a forked child: what is the parent's must not be reached from here.  `busy`: nobody can tell what state it is in. */
  void (*forked)(rm_driven *driven, bool busy);
} rm_driven_class;

enum { RM_DRIVEN_MAX = 1000, RM_DRIVEN_INNER_MAX = 4 }; /* of a client, and of the library's own: they are polled from the keeper's stack */

/** Lies in what is driven; zeroed: not added. */
struct rm_driven {
  rm_list link;
  const rm_driven_class *class;
  rm_wants wants;
  size_t slot;         /* in what is polled, from 1; 0: not in it */
  unsigned generation; /* of the keeper it was added to */
  bool inner;          /* the library's own: neither counted nor limited */
  bool ready;          /* a step is due, whatever it waits for */
  bool busy;           /* the keeper is inside of it */
};

/** `driven`, with its class set, must stay where it is until it was removed; its owner keeps the client open.  0, CLOSED, or
 *  UNAVAILABLE when there are RM_DRIVEN_MAX already or no thread can be had. */
int rm_driven_add(rm_core *core, rm_driven *driven, redmoon_error *err);
/** A step is due.  From any thread, without a lock held. */
void rm_driven_kick(rm_core *core, rm_driven *driven);
/** A step of all of them is due. */
void rm_driven_kick_all(rm_core *core);
/** When this returns, none of its functions is being called or will be.  Waits for one step at most.  May be repeated; one
 *  that was never added is allowed.  Not to be called from a hook. */
void rm_driven_remove(rm_core *core, rm_driven *driven);
/** How many there are, without the library's own. */
size_t rm_driven_count(rm_core *core);
/** Whether it was added by this process, not by the parent of it. */
bool rm_driven_is_ours(rm_core *core, const rm_driven *driven);

/* For the keeper: */

struct pollfd;
typedef struct rm_keeper rm_keeper;
/** Steps what is due or `ready`.  Returns when to come again. */
int64_t rm_driven_step(rm_core *core);
/** What they wait for: at most RM_DRIVEN_MAX + RM_DRIVEN_INNER_MAX.  Returns how many were stored. */
size_t rm_driven_wants(rm_core *core, struct pollfd *fds);
/** After the poll. */
void rm_driven_polled(rm_core *core, const struct pollfd *fds);
/** Tells all of them that there is no step any more. */
void rm_driven_end(rm_core *core);
/** In a forked child, before the keeper's lock and lists are made anew. */
void rm_driven_forked(rm_keeper *keeper);

#endif
