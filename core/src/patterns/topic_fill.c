/* SPDX-License-Identifier: MIT */
/* What a reader of a durable topic missed is fetched by the client's keeper, a page at a time, and given out in order. */
#include "patterns/topic.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "engine/subscription.h"
#include "patterns/scripts_generated.h"

#include <string.h>

enum { AGAIN_US = 1000000, PAGE = 100 }; /* at most, after a request that failed; messages */

/* On the keeper's thread. */

static int decode(void *ctx, const rm_answer *answer, redmoon_error *err) {
  rm_topic_fill *fill = ctx;
  fill->page = (rm_topic_page){0};
  return rm_topic_page_read(&fill->page, answer->reply, err);
}

static int start(rm_renewal *renewal, redmoon_op **op, redmoon_error *err) {
  rm_topic_fill *fill = RM_CONTAINER_OF(renewal, rm_topic_fill, renewal);
  rm_topic_ask ask;
  rm_topic_ask_make(&ask, fill->topic, fill->epoch, fill->at, fill->to, PAGE, NULL, NULL);
  return rm_builtin_start(fill->topic->client, &rm_script_topic_fetch, &ask.args, RM_CALL_REPEATABLE, decode, NULL, fill, op,
                          err);
}

static int64_t ended(rm_renewal *renewal, int status, const redmoon_error *err) {
  rm_topic_fill *fill = RM_CONTAINER_OF(renewal, rm_topic_fill, renewal);
  (void)err;
  if (status == REDMOON_ECLOSED) return RM_FOREVER;
  if (status != 0) return rm_clock_now_us() + AGAIN_US / 10 + rm_random_upto(AGAIN_US);
  const rm_topic_page *page = &fill->page;
  bool same = strcmp(page->epoch, fill->epoch) == 0;
  pthread_mutex_lock(&fill->lock);
  fill->events = page->events;
  /* In another epoch, or behind the last number of a server that went back, there is nothing of it any more. */
  fill->reached = same && page->reached >= fill->at ? page->reached : fill->to;
  fill->came = true;
  pthread_mutex_unlock(&fill->lock);
  rm_subscription_wake(fill->sub);
  return RM_FOREVER;
}

static const rm_renewal_class fill_class = {start, ended};

/* On the reader's. */

void rm_topic_fill_init(rm_topic_fill *fill, const redmoon_topic *topic) {
  *fill = (rm_topic_fill){.topic = topic, .renewal = {.class = &fill_class}, .at = 1};
  pthread_mutex_init(&fill->lock, NULL);
}

void rm_topic_fill_end(rm_topic_fill *fill) { rm_renewal_remove(fill->topic->client, &fill->renewal); }

void rm_topic_fill_fini(rm_topic_fill *fill) {
  rm_topic_fill_end(fill);
  if (fill->sub != NULL && rm_subscription_check(fill->sub, NULL) < 0) return; /* a child's parent's keeper may be in it */
  rm_topic_events_free(&fill->events);
  pthread_mutex_destroy(&fill->lock);
}

static void ask(rm_topic_fill *fill) {
  rm_topic_fill_end(fill);
  fill->came = false;
  rm_renewal_add(fill->topic->client, &fill->renewal, rm_clock_now_us());
}

void rm_topic_fill_begin(rm_topic_fill *fill, redmoon_subscription *sub, const char *epoch, int64_t from, int64_t to) {
  rm_topic_fill_end(fill);
  fill->sub = sub;
  memcpy(fill->epoch, epoch, sizeof fill->epoch);
  fill->at = from;
  fill->to = to;
  ask(fill);
}

static bool has_come(rm_topic_fill *fill) {
  pthread_mutex_lock(&fill->lock);
  bool came = fill->came;
  pthread_mutex_unlock(&fill->lock);
  return came;
}

int rm_topic_fill_take(rm_topic_fill *fill, rm_topic_event **event, redmoon_error *err) {
  int rc = rm_subscription_check(fill->sub, err);
  if (rc < 0) return rc;
  if (!has_come(fill)) {
    rc = rm_subscription_hush(fill->sub, err);
    /* One that has ended because its buffer was full can be filled all the same, up to what is in there. */
    if (rc < 0 && rc != REDMOON_ETOO_LARGE) {
      rm_subscription_wake(fill->sub);
      return rc;
    }
    if (!has_come(fill)) return 0; /* what comes after the hush wakes */
  }
  /* The keeper is done with it, until it is asked again. */
  rm_topic_event *next = fill->events.first;
  if (next != NULL && next->seen.seq == fill->at) {
    redmoon_topic_message_free(&(*event)->seen);
    *event = rm_topic_events_take(&fill->events);
    fill->at++;
  } else {
    int64_t to = next != NULL ? next->seen.seq - 1 : fill->reached;
    (*event)->seen = (redmoon_topic_message){.kind = REDMOON_GAP, .from = fill->at, .to = to};
    fill->at = to + 1;
  }
  if (fill->events.first == NULL && fill->at > fill->reached && rm_topic_fill_is_open(fill)) ask(fill);
  return 1;
}
