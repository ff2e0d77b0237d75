/* SPDX-License-Identifier: MIT */
/** Between the files of the topic: topic.c publishes, topic_reader.c receives, topic_count.c compares numbers.  Of durable
 *  ones: topic_page.c reads what is kept, topic_fill.c gives it to a reader that missed it, topic_cursor.c is the reader whose
 *  place the server keeps, topic_cursors.c looks after these. */
#ifndef RM_PATTERNS_TOPIC_H
#define RM_PATTERNS_TOPIC_H

#include "base/digits.h"
#include "engine/renewal.h"
#include "engine/script.h"

#include <pthread.h>
#include <redmoon/topic_cursor.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { RM_TOPIC_EPOCH = 16 }; /* hex digits */
enum { RM_TOPIC_KEY, RM_TOPIC_LOG, RM_TOPIC_READERS, RM_TOPIC_KEYS };

struct redmoon_topic {
  atomic_int refs;
  redmoon_client *client; /* a reference */
  void *name;
  size_t name_len;
  redmoon_bytes keys[RM_TOPIC_KEYS]; /* the first is also the channel's name; the others: of a durable one only */
  bool durable;
  int64_t length, age_ms, hold, min_replicas; /* 0: none */
};

redmoon_topic *rm_topic_ref(redmoon_topic *topic);

/** A number as text, where an argument points. */
typedef struct rm_topic_digits {
  char text[RM_DIGITS_MAX];
} rm_topic_digits;
redmoon_bytes rm_topic_number(rm_topic_digits *digits, int64_t number);
/** PROTOCOL: the answer is not as a script's should be. */
int rm_topic_fail_answer(redmoon_error *err);

/** What comes through a channel of a topic: "<epoch>:<seq>:<payload>". */
typedef struct rm_topic_frame {
  char epoch[RM_TOPIC_EPOCH + 1]; /* "": there is no topic yet (marks only) */
  int64_t seq;
  redmoon_bytes payload;
} rm_topic_frame;
/** False: it is none. */
bool rm_topic_frame_read(const char *text, size_t len, rm_topic_frame *out);

/** What a reader has seen.  Begins with what the server said once the subscription was confirmed: messages up to that may
 *  still come, or not; all later ones must. */
typedef struct rm_topic_count {
  char epoch[RM_TOPIC_EPOCH + 1];
  int64_t next; /* the number that has to come */
  bool early;   /* no message has come: one below `next` may */
} rm_topic_count;

typedef struct rm_topic_gap {
  bool open, unknown;
  int64_t from, to;
} rm_topic_gap;
/** A message or (mark) the last number has come: what is missing before it.  Counts it. */
rm_topic_gap rm_topic_count_take(rm_topic_count *count, const rm_topic_frame *frame, bool mark);

/** What a reader is given. */
typedef struct rm_topic_event {
  redmoon_topic_message seen; /* first */
  redmoon_message *message;   /* the payload is in it; NULL: it is behind this, or there is none */
  struct rm_topic_event *next;
  char epoch[RM_TOPIC_EPOCH + 1]; /* of the numbers; of events of a page only */
} rm_topic_event;

typedef struct rm_topic_events {
  rm_topic_event *first, *last;
  size_t count;
} rm_topic_events;
void rm_topic_events_add(rm_topic_events *events, rm_topic_event *event);
/** NULL: there is none. */
rm_topic_event *rm_topic_events_take(rm_topic_events *events);
void rm_topic_events_free(rm_topic_events *events);

/** A request for what is kept: the arguments of topic_fetch. */
typedef struct rm_topic_ask {
  rm_topic_digits from, to, count;
  redmoon_bytes argv[6];
  redmoon_script_args args;
} rm_topic_ask;
/** `to` 0: the last one.  `cursor` NULL: a reader without a name. */
void rm_topic_ask_make(rm_topic_ask *ask, const redmoon_topic *topic, const char *epoch, int64_t from, int64_t to,
                       int64_t count, const redmoon_bytes *cursor, const char *token);
/** Its answer. */
typedef struct rm_topic_page {
  int64_t code; /* RM_STATUS_TOPIC_* */
  char epoch[RM_TOPIC_EPOCH + 1];
  int64_t last, from, reached;
  rm_topic_events events;
} rm_topic_page;
/** Zeroed memory -> what was answered; after an error it holds nothing. */
int rm_topic_page_read(rm_topic_page *page, const redmoon_reply *reply, redmoon_error *err);
bool rm_topic_epoch_read(char epoch[RM_TOPIC_EPOCH + 1], const redmoon_reply *reply);

/** Messages that a reader of a durable topic missed: the client's keeper fetches them, so that no receive waits for a request.
 *
 *      begin --> asked for --> came: given out one by one --> asked for again, until all are given or known to be gone
 *
 *  `lock` stands between the keeper and the reader's thread. */
typedef struct rm_topic_fill {
  const redmoon_topic *topic;
  redmoon_subscription *sub; /* is woken */
  rm_renewal renewal;
  rm_topic_page page; /* the keeper's */
  char epoch[RM_TOPIC_EPOCH + 1];
  int64_t at, to;     /* to be given out; at > to: nothing.  The reader's, and fixed while it is asked for */
  pthread_mutex_t lock;
  bool came;
  int64_t reached;
  rm_topic_events events;
} rm_topic_fill;

void rm_topic_fill_init(rm_topic_fill *fill, const redmoon_topic *topic);
/** Nothing is asked for any more. */
void rm_topic_fill_end(rm_topic_fill *fill);
void rm_topic_fill_fini(rm_topic_fill *fill);
void rm_topic_fill_begin(rm_topic_fill *fill, redmoon_subscription *sub, const char *epoch, int64_t from, int64_t to);
static inline bool rm_topic_fill_is_open(const rm_topic_fill *fill) { return fill->at <= fill->to; }
/** 1: *event, which was empty, is a gap now, or was exchanged for a message; 0: nothing is there yet, and the subscription was
 *  hushed; negative: that has ended. */
int rm_topic_fill_take(rm_topic_fill *fill, rm_topic_event **event, redmoon_error *err);

#endif
