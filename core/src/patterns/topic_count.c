/* SPDX-License-Identifier: MIT */
/* The numbers of a topic, as a reader counts them. */
#include "patterns/topic.h"

#include "base/digits.h"

#include <string.h>

bool rm_topic_frame_read(const char *text, size_t len, rm_topic_frame *out) {
  const char *first = memchr(text, ':', len);
  size_t epoch_len = first != NULL ? (size_t)(first - text) : len;
  if (first == NULL || (epoch_len != 0 && epoch_len != RM_TOPIC_EPOCH)) return false;
  const char *number = first + 1, *second = memchr(number, ':', len - epoch_len - 1);
  if (second == NULL || !rm_int64_read(number, (size_t)(second - number), &out->seq) || out->seq < 0) return false;
  memcpy(out->epoch, text, epoch_len);
  out->epoch[epoch_len] = '\0';
  out->payload = (redmoon_bytes){second + 1, len - (size_t)(second + 1 - text)};
  return true;
}

/* `came` is the number that had to be count->next if nothing is missing. */
static rm_topic_gap missing(const rm_topic_count *count, int64_t came) {
  if (came > count->next) return (rm_topic_gap){true, false, count->next, came - 1};
  bool again = came < count->next && !count->early; /* a server that has lost what it had numbered */
  return (rm_topic_gap){again, again, 0, 0};
}

rm_topic_gap rm_topic_count_take(rm_topic_count *count, const rm_topic_frame *frame, bool mark) {
  rm_topic_gap gap;
  int64_t came = mark ? frame->seq + 1 : frame->seq;
  if (strcmp(count->epoch, frame->epoch) == 0) {
    gap = missing(count, came);
  } else if (count->epoch[0] == '\0') { /* the first one of all begins */
    count->next = 1;
    count->early = false;
    gap = missing(count, came);
  } else {
    gap = (rm_topic_gap){true, true, 0, 0};
  }
  memcpy(count->epoch, frame->epoch, sizeof count->epoch);
  count->next = mark ? came : frame->seq + 1;
  /* After a mark nothing that it has counted comes any more. */
  count->early = false;
  return gap;
}
