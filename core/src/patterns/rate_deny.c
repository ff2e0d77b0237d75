/* SPDX-License-Identifier: MIT */
/* The deny cache: a table of fixed size in which a key has one place; the newest refusal there wins.  So it needs no
 * upkeep, and what somebody else's key pushes out only costs a request. */
#include "base/alloc.h"
#include "base/clock.h"
#include "patterns/rate.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 1024 };

typedef struct place {
  char *key; /* NULL: empty */
  size_t len;
  int64_t need, until_us, reset_us;
  redmoon_rate_result result;
} place;

struct rm_deny {
  pid_t pid; /* who made it: a forked child, where the lock may be held for ever, goes without */
  pthread_mutex_t lock; /* innermost: nothing is called under it but the allocator */
  place places[PLACES];
};

rm_deny *rm_deny_new(void) {
  rm_deny *deny = rm_calloc(1, sizeof *deny);
  if (deny != NULL && pthread_mutex_init(&deny->lock, NULL) != 0) {
    rm_free(deny);
    return NULL;
  }
  if (deny != NULL) deny->pid = getpid();
  return deny;
}

void rm_deny_free(rm_deny *deny) {
  if (deny == NULL) return;
  for (size_t i = 0; i < PLACES; i++) rm_free(deny->places[i].key);
  if (deny->pid == getpid()) pthread_mutex_destroy(&deny->lock);
  rm_free(deny);
}

static bool enter(rm_deny *deny) { return deny->pid == getpid() && pthread_mutex_lock(&deny->lock) == 0; }

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/).  Whoever makes keys collide gets more requests, nothing else. */
static place *place_of(rm_deny *deny, redmoon_bytes key) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < key.len; i++) hash = (hash ^ ((const unsigned char *)key.ptr)[i]) * UINT64_C(1099511628211);
  return &deny->places[(hash ^ (hash >> 32)) % PLACES];
}

static bool holds(const place *at, redmoon_bytes key) {
  return at->key != NULL && at->len == key.len && memcmp(at->key, key.ptr, key.len) == 0;
}

static void clear(place *at) {
  rm_free(at->key);
  *at = (place){0};
}

void rm_deny_put(rm_deny *deny, redmoon_bytes key, int64_t need, int64_t until_us, const redmoon_rate_result *result,
                 int64_t now_us) {
  char *copy = rm_strndup(key.ptr, key.len);
  if (copy == NULL) return;
  if (!enter(deny)) {
    rm_free(copy);
    return;
  }
  place *at = place_of(deny, key);
  clear(at);
  *at = (place){copy, key.len, need, until_us, now_us + result->reset_after_us, *result};
  pthread_mutex_unlock(&deny->lock);
}

bool rm_deny_find(rm_deny *deny, redmoon_bytes key, int64_t need, int64_t now_us, redmoon_rate_result *out) {
  if (!enter(deny)) return false;
  place *at = place_of(deny, key);
  bool denied = holds(at, key) && now_us < at->until_us && need >= at->need;
  if (denied) {
    *out = at->result;
    out->retry_after_us = at->until_us - now_us;
    out->reset_after_us = rm_max64(at->reset_us - now_us, out->retry_after_us);
  } else if (holds(at, key) && now_us >= at->until_us) {
    clear(at);
  }
  pthread_mutex_unlock(&deny->lock);
  return denied;
}

void rm_deny_drop(rm_deny *deny, redmoon_bytes key) {
  if (!enter(deny)) return;
  place *at = place_of(deny, key);
  if (holds(at, key)) clear(at);
  pthread_mutex_unlock(&deny->lock);
}
