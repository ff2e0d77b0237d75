/* SPDX-License-Identifier: MIT */
/** What the files of multiplexing share.  Unless said otherwise these functions are called with the lane's lock held, and
 *  those that do I/O drop it meanwhile. */
#ifndef RM_ENGINE_MUX_INTERNAL_H
#define RM_ENGINE_MUX_INTERNAL_H

#include "engine/call_internal.h"
#include "engine/mux.h"

#include <pthread.h>

typedef enum rm_slot_state { RM_SLOT_FREE, RM_SLOT_PENDING, RM_SLOT_SENT, RM_SLOT_DONE, RM_SLOT_FAILED } rm_slot_state;
typedef enum rm_slot_wait { RM_AWAKE, RM_WAITS_FOR_EVENT, RM_WAITS_FOR_FUTEX, RM_WAITS_FOR_BELL } rm_slot_wait;

/** A call's place in its lane.  The memory is the lane's until the client ends, so that a late wake-up does no harm. */
typedef struct rm_mux_slot {
  rm_list link;     /* of the pending, those in flight, or the free ones */
  rm_call *call;    /* NULL: it left, and the replies are nobody's */
  rm_slot_state state;
  rm_slot_wait wait;
  bool pinned;      /* its call's replies are being built, without the lock */
  bool last;        /* of its batch */
  bool signalled;   /* the event is readable */
  unsigned char index; /* in its chunk */
  atomic_bool told;    /* it was woken from the futex */
  size_t due;       /* replies still to come when nobody waits for them */
  uint64_t begin, end; /* of its bytes in the lane's stream */
  int64_t since_us; /* when it joined; then when it was sent */
  rm_event event;   /* opened at the first wait of a call that a loop drives */
} rm_mux_slot;

/** The slots of a chunk share a futex, on which each has a bit of its own: so one system call wakes any of them. */
enum { RM_SLOTS_AT_ONCE = 32, RM_WAKES_AT_ONCE = 16 };
typedef struct rm_slot_chunk {
  struct rm_slot_chunk *next;
  atomic_uint word; /* of the futex: counts wake-ups */
  uint32_t wakes;   /* slots that are woken once the lock is free */
  rm_mux_slot slots[RM_SLOTS_AT_ONCE];
} rm_slot_chunk;

typedef enum rm_lane_state {
  RM_LANE_CLOSED,
  RM_LANE_OPENING,  /* `borrow` is under way */
  RM_LANE_OPEN,
  RM_LANE_FAILING,  /* for `why`; until whoever reads or writes is back */
  RM_LANE_RETIRING  /* the connection is being given back or closed */
} rm_lane_state;

typedef struct rm_lane {
  pthread_mutex_t lock;
  pthread_cond_t unpinned;
  rm_core *core;
  rm_borrow borrow;
  rm_list pending, in_flight, free;
  rm_slot_chunk *chunks;
  rm_mux_slot *leader;
  int64_t led_us;       /* when the leader was at work last */
  rm_lane_state state;
  bool reading, writing, stepping; /* somebody is, without the lock; stepping: the borrow */
  bool waking;          /* a leader is about to wake threads, and flushes after that: what is pending may become more */
  bool fresh;           /* nothing was sent since it was opened */
  uint64_t epoch;       /* counts connections */
  int batches;          /* in flight */
  int pending_count;
  atomic_int calls;     /* that are in it */
  _Atomic int64_t due_since_us; /* when the reply that comes next became the next; RM_FOREVER: none is due */
  rm_buffer out;        /* bytes of calls in flight that the socket has not taken */
  uint64_t out_end;     /* position in the stream behind them */
  uint64_t maybe;       /* up to here the stream may be on the wire */
  int64_t opened_us, heard_us;
  rm_slot_chunk *to_wake[RM_WAKES_AT_ONCE]; /* with threads that are woken once the lock is free: it is what they take first */
  int to_wake_count;
  rm_arena scratch;     /* for replies that are nobody's */
  char address[128];
  redmoon_error why;
  rm_close_reason reason;
} rm_lane;

enum { RM_LANES_MAX = 4 };
struct rm_mux {
  rm_core *core;
  rm_node *node;       /* NULL: wherever the route goes */
  int lane_count, own; /* own: so many callers at once have a connection each */
  atomic_int calls;    /* under way */
  rm_lane lanes[RM_LANES_MAX];
};

enum { RM_CHECK_US = 20000 }; /* how often whoever sleeps looks whether the leader still is at work */

/* mux_wait.c */
static inline void rm_lane_lock(rm_lane *lane) { pthread_mutex_lock(&lane->lock); }
/** And wakes the threads that are to be woken. */
void rm_lane_unlock(rm_lane *lane);
/** For a moment: the threads that are to be woken sleep on until the next rm_lane_unlock, so that more of them are woken
 *  together. */
static inline void rm_lane_step_aside(rm_lane *lane) { pthread_mutex_unlock(&lane->lock); }
void rm_slot_wake(rm_mux_slot *slot);
/** It has gone on, whoever woke it. */
void rm_slot_awake(rm_mux_slot *slot);
/** Sleeps until somebody wakes it; in the kernel when it may: true, else what to wait for is in op.wants. */
bool rm_slot_sleep(rm_lane *lane, rm_call *call, int64_t until_us, int64_t *now_us);

/* mux.c */
void rm_slot_free(rm_lane *lane, rm_mux_slot *slot);
/** Notes in the call how much of its request may be on the wire. */
void rm_slot_note_sent(const rm_lane *lane, rm_mux_slot *slot);

/* mux_io.c */
/** The borrow has ended with a connection. */
void rm_lane_opened(rm_lane *lane, int64_t now_us);
/** Sends what is pending, if a batch is due. */
void rm_lane_flush(rm_lane *lane, int64_t now_us);
/** The same, of a leader that has received: threads that are to be woken are woken before a small batch goes out. */
void rm_lane_wake_and_flush(rm_lane *lane, int64_t now_us);
/** Receives once and deals out the replies; `wait`: may block.  The result of rm_conn_receive. */
ssize_t rm_lane_receive(rm_lane *lane, bool wait, int64_t now_us);
/** Nothing more is sent or received: those in flight fail for `why`, the pending wait for another connection. */
void rm_lane_fail(rm_lane *lane, const redmoon_error *why, rm_close_reason reason, int64_t now_us);
/** Gives back whatever the lane has of the pool. */
void rm_lane_retire(rm_lane *lane, int64_t now_us);

#endif
