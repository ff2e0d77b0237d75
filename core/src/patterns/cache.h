/* SPDX-License-Identifier: MIT */
/** Inside of the cache.
 *
 *      cache.c        options, counts; delete, discard            cache_entry.c  what is stored: bytes <-> rm_entry
 *      cache_get.c    the operation that gets: its stages         cache_ask.c    what it sends
 *      cache_answer.c what the answers mean                       cache_known.c  which entries are known to be fresh
 *      cache_wait.c   when Redis fails, or others load            cache_load.c   the loader's part, the blocking twins
 *      cache_set.c    set                                         cache_tags.c   tags: their keys, versions and end
 *      cache_pack.c   compression                                 cache_guess.c  which tags a key may have */
#ifndef RM_PATTERNS_CACHE_H
#define RM_PATTERNS_CACHE_H

#include "base/event.h"
#include "base/secret.h"
#include "engine/call.h"
#include "engine/flights.h"
#include "engine/wakeups.h"

#include <redmoon/cache.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Entries. */

enum { RM_ENTRY_HEADER = REDMOON_CACHE_VERSION_MAX, RM_ENTRY_KEY = 32, RM_ENTRY_SEAL = 40 /* nonce and tag */ };
#define RM_ENTRY_TTL_MAX (INT64_C(1) << 47) /* of six bytes */

typedef struct rm_entry {
  bool negative;            /* it says that there is no value */
  unsigned char format;
  int64_t soft_ms, hard_ms; /* fresh for; kept for */
  int64_t delta_ms;         /* what its load took; at most 2^32 - 1 */
  const void *body;         /* the value, as it is stored */
  size_t len;
  const unsigned char *tags; /* RM_TAG_SIZE bytes each; NULL when there are none */
  size_t tag_count;
  bool packed;              /* the value is compressed (rm_unpack) */
} rm_entry;

/** Bytes of an entry. */
size_t rm_entry_size(const rm_entry *entry, const rm_secret *seal);
/** Writes it, for the Redis key `key`, to `out`, which has rm_entry_size bytes. */
void rm_entry_write(const rm_entry *entry, redmoon_bytes key, const rm_secret *seal, unsigned char *out);
/** Reads one that was written for this key, in this format and with this seal: 0, ECODEC for anything else, or ENOMEM.
 *  Value and tags lie in `bytes`, or, if it is sealed, in *opened, which begins with the value and is the caller's
 *  (rm_free). */
int rm_entry_read(redmoon_bytes bytes, redmoon_bytes key, unsigned char format, const rm_secret *seal, rm_entry *out,
                  unsigned char **opened);

/** A tag as an entry has it: an id, which is a hash of its name, and the version that it had when the value was loaded. */
enum { RM_TAG_ID = 16, RM_TAG_SIZE = RM_TAG_ID + 8 };
int64_t rm_tag_version(const unsigned char *tag);
void rm_tag_set_version(unsigned char *tag, int64_t version);

/* Packing, cache_pack.c. */

/** What it works with, kept from one value to the next.  Zeroed: nothing yet.  Internally locked. */
typedef struct rm_packer {
  _Atomic(void *) in, out;
} rm_packer;
void rm_packer_fini(rm_packer *packer);
/** 1 and the compressed value in *out (rm_free), which is well below `len`; 0 and NULL: it is not worth it; or ENOMEM. */
int rm_pack(rm_packer *packer, const void *value, size_t len, unsigned char **out, size_t *packed_len);
/** 0 and the value in *out (rm_free); ECODEC: it is none, or it would have more than `max` bytes, which is looked at before
 *  there is memory for it; or ENOMEM. */
int rm_unpack(rm_packer *packer, const void *packed, size_t packed_len, int64_t max, unsigned char **out, size_t *len);

/* Decisions.  `draw` is random, so that tests can draw. */

/** ms * (1 + j), j even from -jitter to +jitter: `draw` is 0 to 2 * jitter_ppm. */
int64_t rm_cache_jittered(int64_t ms, int64_t jitter_ppm, int64_t draw);
/** XFetch (Vattani, Chierichetti, Lowenstein, PVLDB 8, 2015): whether to load now what is fresh for left_ms more and took
 *  delta_ms: with a probability of e^(-left / (beta * delta)).  `draw` is 0 to 2^32 - 1. */
bool rm_cache_is_early(int64_t left_ms, int64_t delta_ms, int64_t beta_ppm, uint32_t draw);
/** With more left than that no draw says so. */
int64_t rm_cache_earliest_ms(int64_t delta_ms, int64_t beta_ppm);

/* The cache. */

typedef enum rm_cache_policy { RM_CACHE_LOAD, RM_CACHE_STALE, RM_CACHE_ERROR } rm_cache_policy;
typedef enum rm_cache_count {
  RM_COUNT_HIT, RM_COUNT_STALE, RM_COUNT_MISS, RM_COUNT_LOAD, RM_COUNT_EARLY, RM_COUNT_FAILURE, RM_COUNT_WAIT,
  RM_COUNT_LOST, RM_COUNT_INVALIDATED, RM_COUNT_UNDECODABLE, RM_COUNT_TOO_LARGE, RM_COUNT_UNAVAILABLE, RM_COUNT_FALLBACK, RM_COUNT_UNSTORED,
  RM_COUNTS
} rm_cache_count;

enum { RM_CACHE_NAME_MAX = 64 };
typedef struct rm_guesses rm_guesses;
typedef struct rm_known_entries rm_known_entries;

struct redmoon_cache {
  atomic_int refs;
  redmoon_client *client; /* a reference */
  redmoon_cache_options options; /* its pointers are not used */
  rm_cache_policy on_error;
  const rm_command *get, *mget, *pttl; /* looked up once */
  rm_secret seal; /* bytes NULL: none */
  rm_packer packer;
  redmoon_bytes epoch; /* key of the tags' epoch; owned */
  redmoon_bytes stem;  /* of the tags' keys, without their ids; owned */
  _Atomic(rm_guesses *) guesses; /* NULL: no tags were seen yet */
  atomic_flag guess_lock;
  _Atomic(rm_known_entries *) known; /* NULL: nothing was read yet */
  atomic_flag known_lock;
  int64_t known_for_us; /* RM_KNOWN_US, but for tests; set before the first get */
  char part[RM_CACHE_NAME_MAX + sizeof ".cache+lease"]; /* last word of the lease's key; without "+lease" of the entry's */
  _Atomic uint64_t counts[RM_COUNTS];
  _Atomic(_Atomic uint64_t *) of_client[RM_COUNTS]; /* the client's counters; NULL: not looked up yet */
};

redmoon_cache *rm_cache_ref(redmoon_cache *cache);
void rm_cache_add(redmoon_cache *cache, rm_cache_count what);
int rm_cache_check_key(const void *key, size_t len, redmoon_error *err);
/** Keys of the entry and the lease in one allocation: lease->ptr is the caller's (rm_key_free), entry->ptr the same. */
int rm_cache_keys(const redmoon_cache *cache, const void *key, size_t len, redmoon_bytes *entry, redmoon_bytes *lease,
                  redmoon_error *err);
/** The key of the mark of those who wait for a lease, and the name of their channel; owned by the caller (rm_key_free).  0 or
 *  NOMEM. */
int rm_cache_waits_key(redmoon_bytes lease, redmoon_bytes *waits, redmoon_error *err);
/** What is to be stored. */
typedef struct rm_content {
  const void *value;
  size_t len;
  bool negative;
  int64_t ttl_ms, delta_ms; /* ttl_ms 0: nothing is to be stored */
  const unsigned char *tags;
  size_t tag_count;
} rm_content;
/** The entry of it, fresh for ttl_ms and then stale, with jitter, in *out (rm_free): *size bytes for *hard_ms, 0 when nothing
 *  is to be stored.  0 or ENOMEM. */
int rm_cache_entry_new(redmoon_cache *cache, redmoon_bytes key, const rm_content *content, unsigned char **out,
                       size_t *size, int64_t *hard_ms);
/** Sets *ttl_ms, if it is UNSET, to the cache's, and checks it. */
int rm_cache_check_ttl(const redmoon_cache *cache, bool negative, int64_t *ttl_ms, redmoon_error *err);

/* cache_tags.c: */
/** Makes the keys that all tags of the cache share.  0 or negative with `err`. */
int rm_cache_tags_init(redmoon_cache *cache, const char *name, redmoon_error *err);
void rm_cache_tags_fini(redmoon_cache *cache);
/** Checks tags and makes them those of an entry, without versions, in *out (rm_free), which is NULL for none. */
int rm_cache_tags_new(const redmoon_cache *cache, const redmoon_bytes *tags, size_t count, unsigned char **out,
                      redmoon_error *err);
/** Formats MGET of their keys. */
int rm_cache_tags_ask(const redmoon_cache *cache, rm_call *call, const unsigned char *tags, size_t count);
/** Whether the answer to it says that all of them still have their versions. */
bool rm_cache_tags_hold(const redmoon_reply *answer, const unsigned char *tags, size_t count);

/** The arguments of cache_tag and cache_invalidate; they point into `text`. */
typedef struct rm_tag_args {
  redmoon_bytes keys[1 + REDMOON_CACHE_TAGS_MAX], args[3];
  char began[24], ttl[24];
  char ids[RM_TAG_ID * REDMOON_CACHE_TAGS_MAX];
  char *text;
  redmoon_script_args all;
} rm_tag_args;
/** For tags of an entry that is stored for up to `ttl_ms`; began 0: whatever was invalidated.  False without memory; else
 *  rm_free(out->text). */
bool rm_cache_tag_args(const redmoon_cache *cache, const unsigned char *tags, size_t count, int64_t began, int64_t ttl_ms,
                       rm_tag_args *out);
/** Takes the versions that cache_tag answers.  1; 0: one of them was invalidated; or negative: it is no such answer. */
int rm_cache_tags_take(const redmoon_reply *answer, unsigned char *tags, size_t count);
/** The longest that an entry with this TTL may live. */
int64_t rm_cache_longest_ms(const redmoon_cache *cache, int64_t ttl_ms);

/* cache_guess.c: */
enum { RM_GUESS_TAGS = 4 }; /* of a key; those that have more are not guessed */
void rm_guesses_free(rm_guesses *guesses);
/** How many tags the entry of that key may have; writes their ids into `tags`, RM_TAG_SIZE bytes each. */
size_t rm_cache_guess(redmoon_cache *cache, redmoon_bytes key, unsigned char *tags);
/** That entry has these tags. */
void rm_cache_note_tags(redmoon_cache *cache, redmoon_bytes key, const unsigned char *tags, size_t count);

/* cache_known.c: */
#define RM_KNOWN_US INT64_C(1000000) /* how long PTTL is not asked again for */
enum { RM_KNOWN_AT = 8, RM_KNOWN_LEN = 24 }; /* of an entry's header: id and times */
/** An entry that is fresh.  Times are rm_clock_boot_us, but for the last. */
typedef struct rm_known {
  unsigned char id[RM_KNOWN_LEN];
  int64_t left_ms;  /* of its hard TTL, when that was asked for, */
  int64_t asked_us; /* which was then, or later */
  int64_t until_us; /* so long it is fresh, and not to be loaded early */
  int64_t noted_us; /* rm_clock_now_us when it was noted */
} rm_known;
void rm_known_free(rm_known_entries *entries);
/** For one that has left_ms left, and is fresh for fresh_ms more without being loaded early.  False: not for long enough. */
bool rm_known_make(rm_known *out, const unsigned char *header, int64_t left_ms, int64_t fresh_ms, int64_t asked_us);
/** What is left of the entry that was read: never more than the server would tell.  -1: it is another, or it is too late. */
int64_t rm_known_left_ms(const rm_known *known, redmoon_bytes entry, int64_t boot_us);
/** Whether what is there under the key was noted a moment ago. */
bool rm_cache_recall(redmoon_cache *cache, redmoon_bytes key, int64_t now_us, rm_known *out);
void rm_cache_note_known(redmoon_cache *cache, redmoon_bytes key, const rm_known *known, int64_t now_us);
/** Another one will be there: it need not be asked for twice. */
void rm_cache_forget_known(redmoon_cache *cache, redmoon_bytes key);

/* The operation that gets. */

typedef enum rm_item_state {
  ITEM_ASK,     /* its entry is to be read */
  ITEM_CHECK,   /* it was, and its tags are to be looked at */
  ITEM_LEASE,   /* its lease is to be asked for */
  ITEM_FOLLOW,  /* an operation of this client loads it */
  ITEM_WAIT,    /* another process loads it, until wake_us perhaps */
  ITEM_SLOT,    /* it is to be loaded without a lease, when there is room */
  ITEM_LOAD,    /* the loader is to be called */
  ITEM_TAG,     /* what was loaded is to be stored with tags, whose versions are asked for */
  ITEM_PUT,     /* it is to be stored */
  ITEM_RELEASE, /* the load has failed, or a tag of it has ended meanwhile: the lease is to be given back */
  ITEM_DISCARD, /* of a peek: what was read cannot be decoded */
  ITEM_DONE
} rm_item_state;

typedef struct rm_item {
  redmoon_bytes key, entry, lease, waits; /* the last: ptr NULL until it is needed */
  rm_item_state state;
  bool key_within;     /* `key` lies in `lease` */
  const char *why; /* as cache_lease takes it */
  size_t seen_len, rejected_len;
  size_t mark;         /* of its first command in the call */
  int64_t wake_us, pause_us;
  rm_waiter waiter;    /* from the first time it waits for another process on */
  int tries;           /* leases asked for */
  int64_t code, lease_ms; /* while its tags are looked at: what cache_lease said; or 0, and it was read by GET */
  int64_t soft_ms, read_delta_ms; /* of the entry read */
  unsigned char *tags; /* of the entry read; then of what was loaded */
  size_t tag_count;
  size_t guessed;      /* tags in `guess` */
  bool timed;          /* PTTL was asked for along with the entry */
  bool exact;          /* it is to be, whatever is known: what was read is not what was expected */
  int64_t asked_us;    /* and this was before: rm_clock_boot_us */
  int64_t began;       /* epoch of the tags when the load began; 0: not known */
  bool voided;         /* a tag of what was loaded has ended meanwhile */
  bool has;            /* there is something to be served, in `out` */
  bool fresh;
  bool missed;         /* nothing was, at first */
  bool waited;         /* counted */
  bool fallback;       /* loads without a lease, and has a slot */
  int found;           /* by the loader; 0: not loaded yet */
  int64_t delta_ms;
  redmoon_cache_result out;
  rm_ticket ticket;
  /* From the ticket's text on nothing is zeroed (add_item): most gets need nothing of it. */
  char token[33], lost_token[33]; /* of the lease asked for; of a request before it whose answer was lost, or "" */
  unsigned char seen[RM_ENTRY_HEADER], rejected[RM_ENTRY_HEADER]; /* begin of the entry read; of one not to be decoded */
  unsigned char guess[RM_GUESS_TAGS * RM_TAG_SIZE]; /* tags whose versions are asked for along with the entry */
  rm_known known;      /* the entry that is expected, while PTTL is not asked for */
  redmoon_error error; /* of a failed one */
} rm_item;

typedef enum rm_get_stage {
  GET_PLAN, GET_READ, GET_CHECK, GET_LEASE, GET_LOAD, GET_TAG, GET_PUT, GET_PAUSE
} rm_get_stage;

typedef struct rm_get_op {
  rm_call call; /* first: its op is this one's */
  redmoon_cache *cache; /* a reference */
  rm_flights *flights;
  rm_get_stage stage;
  bool begun, many, peek; /* peek: nothing is loaded */
  long pid;
  unsigned generation; /* of the flights, at the begin */
  rm_event event;      /* of the flights that are followed, and of the waiters; opened at the first */
  int64_t deadline_us; /* prolonged by loads */
  int64_t now_us;      /* of the step */
  int64_t load_began_us;
  size_t epoch_mark;   /* of the command that asks for the epoch, in a call for leases; 0: there is none */
  redmoon_cache_result *results; /* the caller's */
  redmoon_error *errors;
  size_t count;
  rm_item items[];
} rm_get_op;

/* cache_ask.c: */
/** Formats the commands of a stage for the items that are in it.  0 or negative with op.error. */
int rm_get_format(rm_get_op *self, rm_get_stage stage);
/** What was loaded is to be stored: the item goes on to that. */
void rm_item_store(rm_get_op *self, rm_item *item);
/** Whether the item is in the stage, so that something is sent, and answered, for it. */
bool rm_item_goes(const rm_item *item, rm_get_stage stage);

/* cache_answer.c: */
/** A tag of what was loaded has ended meanwhile: it is not stored, and the next one may load. */
void rm_item_void(rm_get_op *self, rm_item *item);
/** Heeds the answers; `status` is how the call ended.  0, or negative with op.error when the operation cannot go on. */
int rm_get_answered(rm_get_op *self, int status, int64_t now_us);

/* cache_wait.c: */
/** Who leads may ask for the lease; the others are moved on.  0 or negative with op.error. */
int rm_get_join(rm_get_op *self, rm_item *item);
/** Redis failed for an item: by the policy. */
void rm_get_degrade(rm_get_op *self, rm_item *item, const redmoon_error *why);
/** Looks after all that wait.  False: nothing has changed, and *until_us is when it may. */
bool rm_get_look(rm_get_op *self, int64_t now_us, int64_t *until_us);
/** Another process loads it: asked again after a pause. */
void rm_get_wait(rm_get_op *self, rm_item *item, int64_t lease_us, int64_t now_us);
void rm_get_end_fallback(rm_get_op *self, rm_item *item);

/* cache_known.c: */
/** Before an entry is read: whether its TTL is to be asked for, too (item->timed). */
void rm_item_recall(rm_get_op *self, rm_item *item);
/** What is left of the TTL of what GET has read: as PTTL says, -2 when it has ended meanwhile; or as is known, and negative
 *  when the server has to be asked. */
int64_t rm_item_left_ms(const rm_get_op *self, const rm_item *item, redmoon_bytes text);
/** What was read along with its TTL is fresh. */
void rm_item_note_known(rm_get_op *self, const rm_item *item, int64_t left_ms);

/* cache_get.c: */
/** The operation, if it is one that gets; else NULL. */
rm_get_op *rm_get_of(const redmoon_op *op);
void rm_item_drop_tags(rm_item *item);
/** What was read is served. */
void rm_item_serve(rm_get_op *self, rm_item *item);
/** The item fails with its `error`; those who follow it ask for themselves, unless `shared`. */
void rm_item_fail(rm_get_op *self, rm_item *item, bool shared);
/** It has what it gets. */
void rm_item_done(rm_get_op *self, rm_item *item);

#endif
