/* SPDX-License-Identifier: MIT */
/* The tags that keys were seen with, so that the versions of those can be asked for along with the entry.  A guess that is
 * wrong, or not made, costs a round trip and no more: what an entry says of its tags is what counts. */
#include "patterns/cache.h"

#include "base/alloc.h"
#include "base/checksum.h"

#include <string.h>

typedef struct guess {
  uint64_t key; /* hash of the entry's */
  size_t count; /* of its tags; 0: the place is empty */
  unsigned char ids[RM_GUESS_TAGS][RM_TAG_ID];
} guess;
enum { PLACES = 256 };

struct rm_guesses {
  guess places[PLACES];
};

void rm_guesses_free(rm_guesses *guesses) { rm_free(guesses); }

/* Nobody waits for it: who finds it taken does without.  So it may stay taken for ever, in a child that was forked then. */
static bool take(redmoon_cache *cache) { return !atomic_flag_test_and_set_explicit(&cache->guess_lock, memory_order_acquire); }
static void give_back(redmoon_cache *cache) { atomic_flag_clear_explicit(&cache->guess_lock, memory_order_release); }

size_t rm_cache_guess(redmoon_cache *cache, redmoon_bytes key, unsigned char *tags) {
  rm_guesses *guesses = atomic_load_explicit(&cache->guesses, memory_order_acquire);
  if (guesses == NULL || !take(cache)) return 0;
  uint64_t hash = rm_checksum(key.ptr, key.len, 0);
  const guess *place = &guesses->places[hash % PLACES];
  size_t count = place->key == hash ? place->count : 0;
  for (size_t i = 0; i < count; i++) memcpy(tags + i * RM_TAG_SIZE, place->ids[i], RM_TAG_ID);
  give_back(cache);
  return count;
}

void rm_cache_note_tags(redmoon_cache *cache, redmoon_bytes key, const unsigned char *tags, size_t count) {
  rm_guesses *guesses = atomic_load_explicit(&cache->guesses, memory_order_acquire);
  if (count > RM_GUESS_TAGS) count = 0;
  if ((guesses == NULL && count == 0) || !take(cache)) return;
  guesses = atomic_load_explicit(&cache->guesses, memory_order_acquire); /* another may have made them */
  if (guesses == NULL && (guesses = rm_calloc(1, sizeof *guesses)) != NULL)
    atomic_store_explicit(&cache->guesses, guesses, memory_order_release);
  uint64_t hash = rm_checksum(key.ptr, key.len, 0);
  guess *place = guesses != NULL ? &guesses->places[hash % PLACES] : NULL;
  if (place != NULL && (count > 0 || place->key == hash)) {
    place->key = hash;
    place->count = count;
    for (size_t i = 0; i < count; i++) memcpy(place->ids[i], tags + i * RM_TAG_SIZE, RM_TAG_ID);
  }
  give_back(cache);
}
