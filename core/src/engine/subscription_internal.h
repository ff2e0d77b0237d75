/* SPDX-License-Identifier: MIT */
/** Between the files of the subscription.
 *
 *      subscription.c          made, fetched from, ended: on the threads of the application
 *      subscription_change.c   add and remove: begun there, carried out by the keeper
 *      subscription_link.c     the connection: dialled, kept, replaced: on the keeper's thread
 *      subscription_reply.c    what comes through it
 *
 *  The lock is a leaf: held for a few instructions, never while another one is taken. */
#ifndef RM_ENGINE_SUBSCRIPTION_INTERNAL_H
#define RM_ENGINE_SUBSCRIPTION_INTERNAL_H

#include "base/event.h"
#include "engine/core.h"
#include "engine/driven.h"
#include "engine/op.h"
#include "engine/subscription.h"
#include "engine/subscription_buffer.h"
#include "engine/subscription_names.h"
#include "wire/request.h"

enum { RM_CHANNELS, RM_PATTERNS, RM_SHARDS, RM_KINDS };

/** What is added or removed in one go.  One at a time is carried out, in their order. */
typedef struct rm_change {
  rm_list link;               /* in sub->changes until it is done */
  rm_names names[RM_KINDS];   /* once begun: those that make a difference */
  bool add, begun, abandoned; /* abandoned: nobody waits for it any more */
  bool detached;              /* nobody ever waited: if it fails it goes to sub->failed */
  bool covered;               /* of add: also waits until the link is whole */
  bool done;
  size_t left;                /* commands of it that were not answered yet */
  redmoon_error error;        /* status 0: none */
  rm_event event;             /* readable once done; none of one that is detached */
} rm_change;

/** A command whose answer is due. */
typedef struct rm_expected {
  int verb;          /* of rm_sub_verbs */
  size_t left;       /* confirmations, one for each name */
  rm_change *change; /* NULL: of nobody */
  bool restores;     /* of what was subscribed to on the connection before */
} rm_expected;

/** Verb 2 * kind subscribes, the next one unsubscribes. */
enum { RM_VERB_PING = 2 * RM_KINDS };
extern const char *const rm_sub_verbs[2 * RM_KINDS + 1];

enum { RM_LINK_IDLE, RM_LINK_BACKOFF, RM_LINK_DIAL, RM_LINK_LIVE, RM_LINK_ENDED };

struct redmoon_subscription {
  atomic_int refs;
  redmoon_client *client; /* a reference */
  rm_driven driven;
  int64_t ping_us, min_backoff_us, max_backoff_us;
  const rm_sub_sink *sink; /* NULL: what comes is buffered */
  void *sink_ctx;

  pthread_mutex_t lock; /* guards from here on: */
  rm_event event;       /* readable while there is something to fetch */
  bool signalled;
  rm_message_buffer buffer;
  redmoon_subscription_counts counts; /* its gauges are not used */
  rm_names wanted[RM_KINDS];
  rm_list changes;
  rm_list failed;       /* detached changes that the sink is to be told of */
  redmoon_error end;    /* why it ended; status 0: it goes on */
  redmoon_error trouble; /* why there is no link; status 0: no reason yet */
  bool established;     /* has been whole once: it does not give up any more */
  bool whole;           /* all that is wanted was confirmed on this connection */
  bool blocked;         /* nothing is read: the buffer is full */
  bool outage;          /* a connection was lost, and nothing has come since */
  int64_t lost_us;
  bool shut;            /* somebody ends it, or has */

  /* The keeper's alone: */
  int state, failures;
  rm_route_wait route_wait; /* for the nodes to become known */
  rm_node *node;            /* that the link goes to, or is being made to */
  uint64_t epoch;           /* of the route, when that was looked at last */
  rm_connect *connect;
  rm_conn *conn;
  rm_arena arena;
  rm_message_block *block; /* that is being filled; NULL: none yet */
  rm_request request;   /* not sent yet, from `sent` on */
  size_t sent;
  rm_buffer expected;   /* of rm_expected, oldest first; behind the lock */
  size_t restoring;     /* commands that restore and were not confirmed yet */
  bool confirmed;       /* anything was, on this connection */
  bool pinged;
  int64_t heard_us, pinged_us, wait_until_us, dial_began_us;
};

static inline void rm_sub_lock(redmoon_subscription *sub) { pthread_mutex_lock(&sub->lock); }
static inline void rm_sub_unlock(redmoon_subscription *sub) { pthread_mutex_unlock(&sub->lock); }
/** There is something to fetch.  With the lock. */
static inline void rm_sub_signal(redmoon_subscription *sub) {
  if (sub->signalled) return;
  sub->signalled = true;
  rm_event_signal(&sub->event);
}
void rm_sub_unref(redmoon_subscription *sub);
/** It ends for this reason, if it had not ended before: whoever waits is told.  With the lock. */
void rm_sub_end(redmoon_subscription *sub, const redmoon_error *why);
/** CLOSED with its text. */
int rm_sub_fail_closed(redmoon_error *err);
/** CLOSED if it was made by the parent process; else 0. */
int rm_sub_check_process(redmoon_subscription *sub, redmoon_error *err);

/* subscription_change.c */
/** `set` without what was given twice.  *out is rm_change_free's. */
int rm_change_new(const redmoon_subscription_set *set, bool add, rm_change **out, redmoon_error *err);
/** Of one channel; nobody waits for it. */
rm_change *rm_change_new_detached(redmoon_bytes channel, bool add);
void rm_change_free(rm_change *change);
/** An operation that ends when `change`, which it takes over (also when it fails), is done. */
int rm_change_start(redmoon_subscription *sub, rm_change *change, const rm_op_class *class, size_t size, redmoon_op **out,
                    redmoon_error *err);
typedef struct rm_change_op {
  redmoon_op op; /* first */
  redmoon_subscription *sub; /* a reference */
  rm_change *change;         /* NULL: there is nothing to do */
  int64_t deadline_us;
} rm_change_op;
int rm_change_step(redmoon_op *op, int64_t now_us);
void rm_change_destroy(redmoon_op *op);
redmoon_outcome rm_change_outcome(const redmoon_op *op);

/* The keeper's, with the lock: */
/** Carries the next changes out as far as they go now.  0, or NOMEM: nothing more can be asked on this connection. */
int rm_changes_advance(redmoon_subscription *sub);
/** A command of the change that is under way was answered; `error` NULL: well. */
int rm_change_answered(redmoon_subscription *sub, rm_change *change, const redmoon_error *error);
/** The link is whole. */
void rm_changes_link_whole(redmoon_subscription *sub);
/** The link was lost. */
void rm_changes_link_lost(redmoon_subscription *sub);
/** With the lock not held: the sink is told of the channels that could not be had. */
void rm_changes_tell_failed(redmoon_subscription *sub);
/** All of them fail. */
void rm_changes_fail(redmoon_subscription *sub, const redmoon_error *why);
/** Formats commands of `verb` for names, and expects their answers.  0 or NOMEM; *commands is raised by their count. */
int rm_sub_ask(redmoon_subscription *sub, int verb, const rm_names *names, rm_change *change, bool restores,
               size_t *commands);

/* subscription_reply.c */
/** Takes the whole frames that were received.  0: all of them; 1: the buffer is full, there may be more; or negative with
 *  `err`: the connection is of no use. */
int rm_sub_take_frames(redmoon_subscription *sub, int64_t now_us, redmoon_error *err);
/** With the lock: the link is whole, if nothing is left to be restored. */
void rm_sub_restored(redmoon_subscription *sub, int64_t now_us);

/* subscription_link.c */
extern const rm_driven_class rm_sub_driven_class;
/** Without the lock; no step is under way. */
void rm_sub_drop_link(redmoon_subscription *sub, rm_close_reason why);

#endif
