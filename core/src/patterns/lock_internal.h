/* SPDX-License-Identifier: MIT */
/** The lock, between its files: lock.c (handle, extend, release), lock_acquire.c (options, waiting), lock_attempt.c
 *  (asking, replicas), lock_lease.c (what the client may believe of its lease, and its renewal).
 *
 *     acquire ----> HOLDS ----------------> LEAVES -----> RELEASED   (repeated releases answer 0 without I/O)
 *                    |  ^  | extend           | release was begun: held() is 0 from here on,
 *                    |  +--+                  | whether or not the server got it
 *                    v                        v
 *                   LOST <--------------------+    the careful end of the lease has passed, or the server said that
 *                                                  another holds it, or nobody.  What was told lost stays lost.
 *
 *  The owner's thread and the keeper's meet in `state`, `until_us`, `maybe_released` and `timer`; they are atomic, not
 *  behind a mutex, so that a child forked at any moment finds them whole. */
#ifndef RM_PATTERNS_LOCK_INTERNAL_H
#define RM_PATTERNS_LOCK_INTERNAL_H

#include "engine/renewal.h"
#include "engine/script.h"

#include <redmoon/lock.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { LOCK_TOKEN_BYTES = 16, LOCK_ID_BYTES = 8, LOCK_SHOWN = 120 };
enum { LOCK_KEY, LOCK_FENCE_KEY, LOCK_BEATS_KEY, LOCK_QUEUE_KEY, LOCK_KEYS };
typedef enum lock_state { LOCK_HOLDS, LOCK_LEAVES, LOCK_RELEASED, LOCK_LOST } lock_state;

struct redmoon_lock {
  redmoon_client *client;
  atomic_int refs; /* the caller's handle, and each operation under way */
  atomic_int state;
  _Atomic int64_t until_us; /* boot clock: end of the lease by the careful judgement */
  atomic_bool maybe_released; /* a release went out and no answer came */
  atomic_int timer; /* descriptor that is readable once the lock is lost; -1: nobody asked for it yet */
  long pid;         /* the process whose timer it is */
  atomic_bool watched; /* by an operation (lock_watch.h), which a release ends */
  redmoon_bytes keys[LOCK_KEYS]; /* the first one owns them all */
  redmoon_bytes request_key;     /* ptr NULL: none */
  struct rm_redlock_part *redlock; /* of a lock over several servers (redlock.h); NULL: of one */
  int64_t ttl_ms, max_hold_ms, fence;
  int64_t holds; /* of this owner, when the server said so last */
  bool renews;
  rm_renewal renewal;
  redmoon_client *renewer; /* the client, with limits on time that fit the lease; NULL: of a lock over several servers */
  int failures;            /* of the renewal, in a row; the keeper's */
  char token[2 * LOCK_TOKEN_BYTES + 1];
  char id[2 * LOCK_ID_BYTES + 1]; /* of this hold: an owner may hold the lock more than once */
  char shown[LOCK_SHOWN];         /* the name, as messages show it */
};

/* lock.c: */
void rm_lock_unref(redmoon_lock *lock);
int rm_lock_check_ttl(int64_t ttl_ms, redmoon_error *err);
/** Element `index` of a script's answer, or REDMOON_EPROTOCOL. */
int rm_lock_answer_at(const redmoon_lock *lock, const redmoon_reply *reply, size_t index, int64_t *out,
                      redmoon_error *err);
/** An extension; `client` is the lock's or its renewer. */
int rm_lock_extend_start(redmoon_lock *lock, redmoon_client *client, int64_t ttl_ms, redmoon_op **op,
                         redmoon_error *err);
/** It is lost, for the server says so by `code`: REDMOON_ELOST. */
int rm_lock_lost(redmoon_lock *lock, int64_t code, const char *verb, redmoon_error *err);

/* lock_acquire.c: */
/** How long a waiter sleeps before it asks for the `looks`-th time again (1: after the first).  `place`: 1 for who is next
 *  when they wait in turn, 0 when they do not; `left_us`: of the holder's lease (negative: it has none); `draw`: random, 0 to
 *  2^20. */
int64_t rm_lock_pause_us(int looks, int64_t place, int64_t left_us, int64_t draw);
enum { LOCK_DRAW = 1 << 20 };

/* lock_attempt.c: */
/** An acquisition under way.  Attempts use the same token and id, so that one that was executed unnoticed is found again. */
typedef struct rm_lock_acquisition {
  redmoon_lock *lock; /* a reference; NULL once it is the caller's */
  redmoon_lock **out;
  bool renew, fair;
  int64_t wait_ms, min_replicas;
  int64_t since_us; /* when it was asked for first */
  int64_t began_us; /* boot clock: when it was asked for last */
  int looks;        /* answers */
  int64_t code, left_ms, place; /* of the last one that was a refusal */
} rm_lock_acquisition;
/** Ends with REDMOON_ELOCKED when another holds it, or it is another's turn.  `last`: no attempt follows; `others`: of this
 *  client wait, too. */
int rm_lock_attempt_start(rm_lock_acquisition *acquisition, bool last, bool others, redmoon_op **op, redmoon_error *err);

/* lock_lease.c: */
/** The careful end of a lease that was asked for at `began_us`. */
int64_t rm_lock_lease_end_us(int64_t began_us, int64_t ttl_ms);
/** HOLDS -> LOST, if the lease is over by the boot clock.  Whether it is held. */
bool rm_lock_look(redmoon_lock *lock);
/** From HOLDS to another state; false if it had left HOLDS before. */
bool rm_lock_leave(redmoon_lock *lock, lock_state state);
/** LOST, from whatever state. */
void rm_lock_mark_lost(redmoon_lock *lock);
/** A longer lease; false, and the lock is lost, when the one before is over already. */
bool rm_lock_prolong(redmoon_lock *lock, int64_t until_us);
/** The keeper begins to renew it. */
void rm_lock_renew(redmoon_lock *lock, int64_t began_us);
/** No renewal is under way or will be. */
void rm_lock_lease_fini(redmoon_lock *lock);

#endif
