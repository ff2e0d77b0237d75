/* SPDX-License-Identifier: MIT */
/* Channels, and who waits for what comes through them.
 *
 *      ASKED --confirmed--> READY --link lost--> ASKED           nobody waits for a second: forgotten
 *        \--refused--> REFUSED: its waiters ask often, as all do whose channel is not READY
 *
 *  One that is asked for again while its end is still under way may be told READY by the confirmation before; it is confirmed
 *  once more, and that wakes again. */
#include "engine/wakeups.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/core.h"
#include "engine/script.h"
#include "engine/subscription.h"

#include <string.h>

/* So long the connection stays when nobody waits: who waits again finds it. */
enum { LINGER_US = 1000000 };
typedef enum channel_state { ASKED, READY, REFUSED } channel_state;

struct rm_wake_channel {
  rm_list link;    /* in its bucket */
  rm_list idle;    /* linked while nobody waits */
  rm_list waiters; /* in the order they joined */
  channel_state state;
  int64_t idle_us; /* since when */
  size_t len;
  char name[];
};

static void start(rm_wakeups *wakeups) {
  pthread_mutex_init(&wakeups->lock, NULL);
  for (size_t i = 0; i < RM_WAKEUP_BUCKETS; i++) rm_list_init(&wakeups->channels[i]);
  rm_list_init(&wakeups->idle);
  wakeups->sub = NULL;
}

void rm_wakeups_init(rm_wakeups *wakeups) {
  start(wakeups);
  wakeups->handle = NULL;
  wakeups->generation = 0;
  wakeups->poll_us = RM_WAKEUPS_POLL_US;
}

void rm_wakeups_forked(rm_wakeups *wakeups) {
  wakeups->generation++;
  wakeups->handle = NULL; /* the parent's subscription has it */
  start(wakeups);
}

void rm_wakeups_fini(rm_wakeups *wakeups) {
  redmoon_subscription_close(wakeups->sub);
  rm_free(wakeups->handle);
  for (size_t i = 0; i < RM_WAKEUP_BUCKETS; i++)
    while (!rm_list_is_empty(&wakeups->channels[i])) {
      rm_list *first = wakeups->channels[i].next;
      rm_list_remove(first);
      rm_free(RM_CONTAINER_OF(first, rm_wake_channel, link));
    }
  pthread_mutex_destroy(&wakeups->lock);
}

/* Channels, with the lock. */

/* FNV-1a: chains are short, whatever the names. */
static rm_list *bucket_of(rm_wakeups *wakeups, redmoon_bytes name) {
  const unsigned char *bytes = name.ptr;
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < name.len; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return &wakeups->channels[(hash ^ hash >> 16) % RM_WAKEUP_BUCKETS];
}

static rm_wake_channel *find(rm_wakeups *wakeups, redmoon_bytes name) {
  const rm_list *bucket = bucket_of(wakeups, name);
  for (const rm_list *node = bucket->next; node != bucket; node = node->next) {
    rm_wake_channel *channel = RM_CONTAINER_OF(node, rm_wake_channel, link);
    if (channel->len == name.len && memcmp(channel->name, name.ptr, name.len) == 0) return channel;
  }
  return NULL;
}

static void forget(rm_wake_channel *channel) {
  rm_list_remove(&channel->link);
  rm_list_remove(&channel->idle);
  rm_free(channel);
}

/* One that is new is asked for.  NULL: it cannot be. */
static rm_wake_channel *get(rm_wakeups *wakeups, redmoon_bytes name, bool *fresh) {
  rm_wake_channel *channel = find(wakeups, name);
  *fresh = channel == NULL;
  if (channel != NULL) return channel;
  channel = rm_calloc(1, sizeof *channel + name.len);
  if (channel == NULL) return NULL;
  if (rm_subscription_want(wakeups->sub, name, true) != 0) {
    rm_free(channel);
    return NULL;
  }
  rm_list_init(&channel->waiters);
  channel->state = ASKED;
  channel->len = name.len;
  memcpy(channel->name, name.ptr, name.len);
  rm_list_push_back(bucket_of(wakeups, name), &channel->link);
  return channel;
}

/* Waking, with the lock: under it, so that a waiter cannot close its event before. */

static void tell(rm_waiter *waiter) {
  if (waiter->told) return;
  waiter->told = true;
  waiter->rests = false;
  rm_event_signal(waiter->event);
}

/* The next one behind `node` that waits in turn and was not told yet. */
static void tell_next(rm_wake_channel *channel, const rm_list *node) {
  for (const rm_list *at = node->next; at != &channel->waiters; at = at->next) {
    rm_waiter *waiter = RM_CONTAINER_OF(at, rm_waiter, link);
    if (waiter->crowd || waiter->tag.ptr != NULL || waiter->told) continue;
    tell(waiter);
    return;
  }
}

/* Those whom nobody else is woken for: all of a crowd; and by its tag, or without regard to that (`payload` NULL). */
static void tell_others(rm_wake_channel *channel, const redmoon_bytes *payload) {
  for (const rm_list *at = channel->waiters.next; at != &channel->waiters; at = at->next) {
    rm_waiter *waiter = RM_CONTAINER_OF(at, rm_waiter, link);
    bool meant = waiter->tag.ptr != NULL && (payload == NULL || (payload->len == waiter->tag.len &&
                                                                 memcmp(payload->ptr, waiter->tag.ptr, payload->len) == 0));
    if (waiter->crowd || meant) tell(waiter);
  }
}

static void tell_all(rm_wake_channel *channel) {
  for (const rm_list *at = channel->waiters.next; at != &channel->waiters; at = at->next)
    tell(RM_CONTAINER_OF(at, rm_waiter, link));
}

/* The sink: what the subscription says, on the keeper's thread. */

static void count(const rm_wakeups *wakeups, const char *what) { rm_client_count(wakeups->handle, "wakeups", what); }

static void confirmed(void *ctx, redmoon_bytes name) {
  rm_wakeups *wakeups = ctx;
  pthread_mutex_lock(&wakeups->lock);
  rm_wake_channel *channel = find(wakeups, name);
  if (channel != NULL) {
    channel->state = READY;
    tell_others(channel, NULL);
    tell_next(channel, &channel->waiters);
  }
  pthread_mutex_unlock(&wakeups->lock);
}

static void refused(void *ctx, redmoon_bytes name) {
  rm_wakeups *wakeups = ctx;
  pthread_mutex_lock(&wakeups->lock);
  rm_wake_channel *channel = find(wakeups, name);
  if (channel != NULL) channel->state = REFUSED;
  pthread_mutex_unlock(&wakeups->lock);
  count(wakeups, "refused");
}

static void message(void *ctx, redmoon_bytes name, redmoon_bytes payload) {
  rm_wakeups *wakeups = ctx;
  pthread_mutex_lock(&wakeups->lock);
  rm_wake_channel *channel = find(wakeups, name);
  if (channel != NULL) {
    tell_others(channel, &payload);
    tell_next(channel, &channel->waiters);
  }
  pthread_mutex_unlock(&wakeups->lock);
  count(wakeups, "received");
}

static void lost(void *ctx) {
  rm_wakeups *wakeups = ctx;
  pthread_mutex_lock(&wakeups->lock);
  for (size_t i = 0; i < RM_WAKEUP_BUCKETS; i++)
    for (const rm_list *node = wakeups->channels[i].next; node != &wakeups->channels[i]; node = node->next) {
      rm_wake_channel *channel = RM_CONTAINER_OF(node, rm_wake_channel, link);
      if (channel->state != READY) continue;
      channel->state = ASKED;
      tell_all(channel);
    }
  pthread_mutex_unlock(&wakeups->lock);
  count(wakeups, "lost");
}

static int64_t tick(void *ctx, int64_t now_us) {
  rm_wakeups *wakeups = ctx;
  int64_t next_us = RM_FOREVER;
  pthread_mutex_lock(&wakeups->lock);
  for (rm_list *node = wakeups->idle.next, *behind; node != &wakeups->idle; node = behind) {
    behind = node->next;
    rm_wake_channel *channel = RM_CONTAINER_OF(node, rm_wake_channel, idle);
    int64_t due_us = channel->idle_us + LINGER_US;
    if (due_us > now_us) { /* nor are those behind it */
      next_us = rm_min64(next_us, due_us);
      break;
    }
    const redmoon_bytes name = {channel->name, channel->len};
    if (channel->state == REFUSED || rm_subscription_want(wakeups->sub, name, false) == 0) forget(channel);
    else next_us = now_us + LINGER_US;
  }
  pthread_mutex_unlock(&wakeups->lock);
  return next_us;
}

static const rm_sub_sink sink = {confirmed, refused, message, lost, tick};

/* With the lock, once in a client's life: the keeper may have to be started for it. */
static bool subscribe(rm_wakeups *wakeups, rm_core *core) {
  if (wakeups->sub != NULL) return true;
  if (wakeups->handle == NULL) {
    wakeups->handle = rm_calloc(1, sizeof *wakeups->handle);
    if (wakeups->handle == NULL) return false;
    atomic_init(&wakeups->handle->refs, 1); /* never given up: the subscription's reference is not the last */
    wakeups->handle->core = core;
  }
  return rm_subscription_new_sink(wakeups->handle, &sink, wakeups, &wakeups->sub, NULL) == 0;
}

/* Waiters. */

static bool is_ours(const rm_waiter *waiter, const rm_core *core) {
  return waiter->joined && waiter->generation == core->wakeups.generation;
}

void rm_waiter_join(rm_waiter *waiter, rm_core *core, redmoon_bytes channel, redmoon_bytes tag, bool crowd, rm_event *event) {
  rm_core_check_fork(core);
  rm_wakeups *wakeups = &core->wakeups;
  bool fresh = false;
  pthread_mutex_lock(&wakeups->lock);
  rm_wake_channel *found = subscribe(wakeups, core) ? get(wakeups, channel, &fresh) : NULL;
  if (found != NULL) {
    *waiter = (rm_waiter){.channel = found, .event = event, .tag = tag, .generation = wakeups->generation, .joined = true};
    waiter->crowd = crowd;
    rm_list_push_back(&found->waiters, &waiter->link);
    rm_list_remove(&found->idle);
  }
  redmoon_subscription *sub = wakeups->sub;
  pthread_mutex_unlock(&wakeups->lock);
  if (found != NULL && fresh) rm_subscription_kick(sub);
}

int rm_waiter_fd(const rm_waiter *waiter, rm_core *core) {
  rm_core_check_fork(core);
  return is_ours(waiter, core) ? waiter->event->fd : -1;
}

bool rm_waiter_take(rm_waiter *waiter, rm_core *core) {
  rm_core_check_fork(core);
  if (!is_ours(waiter, core)) return false;
  pthread_mutex_lock(&core->wakeups.lock);
  bool told = waiter->told;
  waiter->told = false;
  if (told) rm_event_clear(waiter->event);
  pthread_mutex_unlock(&core->wakeups.lock);
  if (told) waiter->owes = true;
  return told;
}

static rm_waiter_view view_of(const rm_waiter *waiter) {
  const rm_list *all = &waiter->channel->waiters;
  return (rm_waiter_view){waiter->channel->state == READY, all->next == &waiter->link, all->next != all->prev};
}

rm_waiter_view rm_waiter_look(const rm_waiter *waiter, rm_core *core) {
  if (!is_ours(waiter, core)) return (rm_waiter_view){false, false, false};
  pthread_mutex_lock(&core->wakeups.lock);
  rm_waiter_view view = view_of(waiter);
  pthread_mutex_unlock(&core->wakeups.lock);
  return view;
}

rm_waiter_view rm_waiter_sleep(rm_waiter *waiter, rm_core *core) {
  if (!is_ours(waiter, core)) return (rm_waiter_view){false, false, false};
  pthread_mutex_lock(&core->wakeups.lock);
  rm_waiter_view view = view_of(waiter);
  waiter->rests = view.ready && !waiter->told;
  pthread_mutex_unlock(&core->wakeups.lock);
  return view;
}

void rm_waiter_pass(rm_waiter *waiter, rm_core *core) {
  if (!is_ours(waiter, core)) return;
  pthread_mutex_lock(&core->wakeups.lock);
  tell_next(waiter->channel, &waiter->link);
  pthread_mutex_unlock(&core->wakeups.lock);
}

void rm_waiter_leave(rm_waiter *waiter, rm_core *core, bool more) {
  if (!waiter->joined) return;
  rm_core_check_fork(core);
  bool ours = is_ours(waiter, core), last = false;
  waiter->joined = false;
  if (!ours) return; /* the parent's: its lists are not looked at here */
  rm_wakeups *wakeups = &core->wakeups;
  pthread_mutex_lock(&wakeups->lock);
  rm_wake_channel *channel = waiter->channel;
  if (waiter->told || waiter->owes || more) tell_next(channel, &waiter->link);
  rm_list_remove(&waiter->link);
  if (rm_list_is_empty(&channel->waiters)) {
    channel->idle_us = rm_clock_now_us();
    last = rm_list_is_empty(&wakeups->idle);
    rm_list_push_back(&wakeups->idle, &channel->idle);
  }
  redmoon_subscription *sub = wakeups->sub;
  pthread_mutex_unlock(&wakeups->lock);
  if (last) rm_subscription_kick(sub); /* the keeper has to know when to look */
}

static size_t resting_of(const rm_list *channels) {
  size_t count = 0;
  for (const rm_list *node = channels->next; node != channels; node = node->next) {
    const rm_wake_channel *channel = RM_CONTAINER_OF(node, rm_wake_channel, link);
    for (const rm_list *at = channel->waiters.next; at != &channel->waiters; at = at->next)
      count += RM_CONTAINER_OF(at, rm_waiter, link)->rests;
  }
  return count;
}

size_t rm_wakeups_resting(rm_core *core) {
  size_t count = 0;
  pthread_mutex_lock(&core->wakeups.lock);
  for (size_t i = 0; i < RM_WAKEUP_BUCKETS; i++) count += resting_of(&core->wakeups.channels[i]);
  pthread_mutex_unlock(&core->wakeups.lock);
  return count;
}
