/* SPDX-License-Identifier: MIT */
/* Entries that were read a moment ago, so that the TTL need not be asked for along with each of them.
 *
 *      GET, PTTL sent at t0  -->  this entry, 5000 ms left   noted: it is fresh until t0 + 4000 ms at least
 *      GET, RM_KNOWN_US      -->  this entry still           answered before t0 + 4000 ms: it is fresh
 *      later at the most          another, or too late       asked once more, with PTTL
 *
 * The server's clock alone says how old an entry is; the client's only says how long ago that was told, and for a second at
 * the most.  It is one that goes on while the machine sleeps, it is read before the question is sent, and when what is
 * known is used it is read after the answer: an entry is taken for older than it is, never for younger.  Which questions
 * are sent is not as important: that goes by the time of the step. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/checksum.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

typedef struct place {
  uint64_t key; /* hash of the entry's */
  rm_known known;
} place;
enum { PLACES = 512 };
_Static_assert(sizeof(place) == 64, "docs/cache.md says what all of them take");

struct rm_known_entries {
  place places[PLACES];
};

void rm_known_free(rm_known_entries *entries) { rm_free(entries); }

/* Nobody waits for it: who finds it taken asks the server.  So it may stay taken for ever, in a child that was forked then. */
static bool take(redmoon_cache *cache) { return !atomic_flag_test_and_set_explicit(&cache->known_lock, memory_order_acquire); }
static void give_back(redmoon_cache *cache) { atomic_flag_clear_explicit(&cache->known_lock, memory_order_release); }

int64_t rm_cache_earliest_ms(int64_t delta_ms, int64_t beta_ppm) {
  if (beta_ppm <= 0 || delta_ms <= 0) return 0;
  return (int64_t)ceil((double)delta_ms * ((double)beta_ppm / 1e6) * (32 * 0.693147181)); /* -log(2^-32), rounded up */
}

bool rm_known_make(rm_known *out, const unsigned char *header, int64_t left_ms, int64_t fresh_ms, int64_t asked_us) {
  if (fresh_ms <= 1) return false;
  memcpy(out->id, header + RM_KNOWN_AT, RM_KNOWN_LEN);
  out->left_ms = left_ms;
  out->asked_us = asked_us;
  out->until_us = asked_us + (fresh_ms - 1) * 1000; /* what is left is told in whole milliseconds */
  return true;
}

int64_t rm_known_left_ms(const rm_known *known, redmoon_bytes entry, int64_t boot_us) {
  const unsigned char *bytes = entry.ptr;
  if (entry.len < RM_ENTRY_HEADER || boot_us < known->asked_us || boot_us >= known->until_us) return -1;
  if (memcmp(bytes + RM_KNOWN_AT, known->id, RM_KNOWN_LEN) != 0) return -1;
  return known->left_ms - (boot_us - known->asked_us + 999) / 1000;
}

bool rm_cache_recall(redmoon_cache *cache, redmoon_bytes key, int64_t now_us, rm_known *out) {
  rm_known_entries *entries = atomic_load_explicit(&cache->known, memory_order_acquire);
  if (entries == NULL) return false;
  uint64_t hash = rm_checksum(key.ptr, key.len, 0);
  if (!take(cache)) return false;
  const place *at = &entries->places[hash % PLACES];
  int64_t since_us = now_us - at->known.noted_us;
  bool found = at->key == hash && since_us >= 0 && since_us < cache->known_for_us &&
               since_us < at->known.until_us - at->known.asked_us;
  if (found) *out = at->known;
  give_back(cache);
  return found;
}

void rm_cache_note_known(redmoon_cache *cache, redmoon_bytes key, const rm_known *known, int64_t now_us) {
  uint64_t hash = rm_checksum(key.ptr, key.len, 0);
  if (!take(cache)) return;
  rm_known_entries *entries = atomic_load_explicit(&cache->known, memory_order_acquire);
  if (entries == NULL && (entries = rm_calloc(1, sizeof *entries)) != NULL)
    atomic_store_explicit(&cache->known, entries, memory_order_release);
  if (entries != NULL) {
    place *at = &entries->places[hash % PLACES];
    *at = (place){hash, *known};
    at->known.noted_us = now_us;
  }
  give_back(cache);
}

void rm_cache_forget_known(redmoon_cache *cache, redmoon_bytes key) {
  rm_known_entries *entries = atomic_load_explicit(&cache->known, memory_order_acquire);
  if (entries == NULL || !take(cache)) return;
  uint64_t hash = rm_checksum(key.ptr, key.len, 0);
  place *at = &entries->places[hash % PLACES];
  if (at->key == hash) *at = (place){0};
  give_back(cache);
}

/* Of a get. */

void rm_item_recall(rm_get_op *self, rm_item *item) {
  item->timed = item->exact || !rm_cache_recall(self->cache, item->entry, self->now_us, &item->known);
  if (item->timed) item->asked_us = rm_clock_boot_us();
}

int64_t rm_item_left_ms(const rm_get_op *self, const rm_item *item, redmoon_bytes text) {
  if (!item->timed) return rm_known_left_ms(&item->known, text, rm_clock_boot_us());
  const redmoon_reply *ttl = self->call.results[item->mark + 1].reply;
  return ttl->type == REDMOON_INTEGER ? ttl->as.integer : -2;
}

void rm_item_note_known(rm_get_op *self, const rm_item *item, int64_t left_ms) {
  int64_t early_ms = rm_cache_earliest_ms(item->read_delta_ms, self->cache->options.early_refresh_ppm);
  rm_known known;
  if (rm_known_make(&known, item->seen, left_ms, item->soft_ms - item->out.age_ms - early_ms, item->asked_us))
    rm_cache_note_known(self->cache, item->entry, &known, self->now_us);
}
