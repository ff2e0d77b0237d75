/* SPDX-License-Identifier: MIT */
/** Redlock, between its files: redlock.c (the servers, options, waiting), redlock_attempt.c (one attempt to take it),
 *  redlock_change.c (extension and release), redlock_round.c (asking all servers at once).
 *
 *  What is held is a redmoon_lock (lock_internal.h) with a part of its own for its servers.
 *
 *  Why two holders cannot overlap: both have the counted votes of more than half, so one server voted for both, while it
 *  had been up for longer than any lease.  Either it kept the first one's key until that lease was over, or it lost it with
 *  its memory; then the lease has ended since.  Why fences rise: before anybody holds the lock, more than half of the servers
 *  that hold its key have its fence as their last one, and each gives only higher ones to who comes next. */
#ifndef RM_PATTERNS_REDLOCK_H
#define RM_PATTERNS_REDLOCK_H

#include "engine/gather.h"
#include "patterns/lock_internal.h"

#include <redmoon/redlock.h>

struct redmoon_redlock {
  atomic_int refs;
  int64_t quarantine_ms; /* 0: none */
  size_t count, quorum;
  redmoon_client *clients[];
};

/** What a lock knows of one of its servers. */
typedef struct rm_redlock_server {
  atomic_bool unsure;     /* a request to take it had no answer: it may be executed yet */
  atomic_bool maybe_freed; /* so of one to give it back */
  atomic_int taking;      /* such requests may be under way */
  bool asked_back, freed; /* the release was answered; the key was there.  The owner's thread */
} rm_redlock_server;

/** Of a lock over several servers. */
typedef struct rm_redlock_part {
  redmoon_redlock *redlock; /* a reference */
  redmoon_bytes key, fence_key;
  redmoon_bytes void_key; /* ends with the lock's id */
  int64_t since_us; /* boot clock: when it was asked for; 0: it is not held yet */
  rm_redlock_server servers[];
} rm_redlock_part;

/* redlock.c: */
void rm_redlock_unref(redmoon_redlock *redlock);
int rm_redlock_check_ttl(const redmoon_redlock *redlock, int64_t ttl_ms, redmoon_error *err);
/** Another token and another id, for an attempt that nothing of an earlier one may disturb. */
void rm_redlock_renew_id(redmoon_lock *lock);

typedef struct rm_redlock_acquisition {
  redmoon_lock *lock; /* a reference; NULL once it is the caller's */
  redmoon_lock **out;
  bool renew;
  int64_t wait_ms;
  int64_t since_us;   /* when it was asked for first */
  int64_t began_us;   /* boot clock: when its lease began */
  int64_t left_ms;    /* of the votes that others have: the first that ends; -1: nobody has any */
  int looks;          /* attempts that ended */
} rm_redlock_acquisition;

/* redlock_attempt.c: */
/** Ends with REDMOON_ELOCKED when the attempt failed and another may follow; `last`: none does, and it says why. */
int rm_redlock_attempt_start(rm_redlock_acquisition *acquisition, bool last, redmoon_op **op, redmoon_error *err);

/* redlock_round.c: */

typedef enum rm_vote_state {
  RM_VOTE_NONE,      /* not asked */
  RM_VOTE_UNDER_WAY,
  RM_VOTE_ANSWERED,  /* `code` and what follows */
  RM_VOTE_FAILED     /* call->op.error */
} rm_vote_state;
typedef enum rm_vote_kind { RM_VOTE_ASK = 1, RM_VOTE_AGREE = 2, RM_VOTE_RELEASE = 4 } rm_vote_kind;

typedef struct rm_vote {
  rm_call *call;
  rm_vote_state state;
  rm_vote_kind kind; /* of the request that was made last */
  int64_t code, fence, left_ms, up_s;
} rm_vote;

/** Requests to all servers of a lock, each with one under way at most. */
typedef struct rm_redlock_round {
  redmoon_lock *lock; /* borrowed */
  rm_gather gather;
  int64_t began_us; /* rm_clock_now_us, of what was asked last */
  size_t requests;  /* that were made */
  size_t count;
  rm_vote *votes;
} rm_redlock_round;

/** 0 or NOMEM; rm_redlock_round_close in either case. */
int rm_redlock_round_open(rm_redlock_round *round, redmoon_lock *lock, redmoon_error *err);
/** Asks server `index`: to take the lock (`fence` 0), or to agree to its fence. */
void rm_redlock_take(rm_redlock_round *round, size_t index, int64_t fence, int64_t lease_ms, int64_t now_us);
void rm_redlock_give_back(rm_redlock_round *round, size_t index, int64_t now_us);
/** Steps what is due.  Returns how many are under way. */
size_t rm_redlock_round_step(rm_redlock_round *round, int64_t now_us, rm_wants *wants);
/** Gives up what is under way. */
void rm_redlock_round_cut(rm_redlock_round *round);
void rm_redlock_round_close(rm_redlock_round *round);
/** UNKNOWN when a request that is under way may be executed. */
redmoon_outcome rm_redlock_round_outcome(const rm_redlock_round *round);
/** Until when the rest may answer after all is decided: as long again as that took, and some ms. */
int64_t rm_redlock_rest_us(const rm_redlock_round *round, int64_t now_us);

/** The server votes for this lock. */
bool rm_vote_counts(const rm_redlock_round *round, const rm_vote *vote);
typedef struct rm_vote_tally {
  size_t counted, under_way;
  size_t held, back, young, failed; /* another's; given back before; in quarantine; no answer */
  size_t nomem, twice;              /* of those that failed; of one server that has voted already */
  int64_t left_ms;                  /* the least of those that are counted; INT64_MAX without any */
  int64_t other_left_ms;            /* the least of those held by another; -1 without any */
  int64_t fence;                    /* the greatest of those that gave one */
} rm_vote_tally;
/** Of the votes whose last request was of one of these kinds, or-ed. */
rm_vote_tally rm_redlock_tally(const rm_redlock_round *round, int kinds);
/** "2 of 5 servers vote for it and 3 must: ..." */
enum { RM_REDLOCK_WHY = 320 };
void rm_redlock_say(const rm_redlock_round *round, const rm_vote_tally *tally, char why[RM_REDLOCK_WHY]);

/* redlock_change.c: */
int rm_redlock_extend_start(redmoon_lock *lock, int64_t ttl_ms, redmoon_op **op, redmoon_error *err);
int rm_redlock_release_start(redmoon_lock *lock, redmoon_op **op, redmoon_error *err);
/** Frees the part; NULL is allowed. */
void rm_redlock_part_free(rm_redlock_part *part);

#endif
