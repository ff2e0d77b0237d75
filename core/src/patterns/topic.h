/* SPDX-License-Identifier: MIT */
/** Between the files of the topic: topic.c publishes, topic_reader.c receives, topic_count.c compares numbers. */
#ifndef RM_PATTERNS_TOPIC_H
#define RM_PATTERNS_TOPIC_H

#include <redmoon/topic.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { RM_TOPIC_EPOCH = 16 }; /* hex digits */

struct redmoon_topic {
  atomic_int refs;
  redmoon_client *client; /* a reference */
  void *name;
  size_t name_len;
  redmoon_bytes key; /* also the channel's name */
};

redmoon_topic *rm_topic_ref(redmoon_topic *topic);

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

#endif
