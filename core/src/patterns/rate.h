/* SPDX-License-Identifier: MIT */
/** Shared by the files of the rate limiter:
 *
 *      rate_options.c   the table of algorithms; options -> what the scripts get
 *      rate_decide.c    allow and wait, by one limit or several: an operation that owns a call
 *      rate_many.c      allow_many: one call with many runs of the script
 *      rate_limiter.c   peek, refund, reset
 *      rate_deny.c      the deny cache */
#ifndef RM_PATTERNS_RATE_H
#define RM_PATTERNS_RATE_H

#include "engine/call.h"
#include "engine/script.h"
#include "patterns/keys.h"

#include <redmoon/rate_limiter.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
  RM_RATE_NAME_MAX = 64,
  RM_RATE_PART_MAX = RM_PART_MAX + 1, /* the longest: name, ".buckets.31622400000.60" */
  RM_RATE_DIGITS = 24,
  RM_RATE_LIMITS_MAX = 8,
  RM_RATE_FIELDS = 4 /* what a limit is to a script: algorithm, limit, window, extra */
};

/** What to say when Redis fails; the strictest is the greatest. */
typedef enum rm_rate_on_error { RM_RATE_FAIL_ALLOW, RM_RATE_FAIL_DENY, RM_RATE_FAIL_ERROR } rm_rate_on_error;

/** Keys that were refused, and until when; internally locked, of bounded size. */
typedef struct rm_deny rm_deny;

typedef struct rm_rate_algorithm rm_rate_algorithm;

struct redmoon_rate_limiter {
  redmoon_client *client;
  atomic_int refs;
  const rm_rate_algorithm *algorithm;
  int64_t limit, window_ms, max_cost;
  rm_rate_on_error on_error;
  rm_deny *deny; /* NULL: none */
  char fields[RM_RATE_FIELDS][RM_RATE_DIGITS];
  uint8_t field_lens[RM_RATE_FIELDS];
  size_t name_len;             /* the limiter's name begins `part` */
  char part[RM_RATE_PART_MAX]; /* last word of its keys */
};

redmoon_rate_limiter *rm_rate_limiter_ref(redmoon_rate_limiter *limiter);
/** Writes the four arguments of the scripts; they live as long as the limiter. */
void rm_rate_fields(const redmoon_rate_limiter *limiter, redmoon_bytes out[RM_RATE_FIELDS]);

/** Checks key and request (cost, id) against every limiter. */
int rm_rate_check(redmoon_rate_limiter *const *limiters, size_t count, const void *key, size_t key_len,
                  const redmoon_rate_request *request, redmoon_error *err);
/** One run of rate_allow, formatted into the call. */
int rm_rate_format(rm_call *call, redmoon_rate_limiter *const *limiters, size_t count, redmoon_bytes key,
                   const redmoon_rate_request *request, redmoon_error *err);
/** Decodes an answer of rate_allow, rate_peek or rate_refund; REDMOON_EPROTOCOL when it has another form. */
int rm_rate_decode(redmoon_rate_limiter *const *limiters, size_t count, const redmoon_reply *reply,
                   redmoon_rate_result *out, redmoon_error *err);
/** Counts a decision, and remembers a refusal that was asked for at `began_us` (boot clock). */
void rm_rate_note(redmoon_rate_limiter *limiter, bool remember, redmoon_bytes key, const redmoon_rate_request *request,
                  int64_t began_us, const redmoon_rate_result *result);
/** Redis failed with `status`: counts it, and says by `policy` what to make of it: 0 with a result, or `status`. */
int rm_rate_failed(redmoon_rate_limiter *limiter, rm_rate_on_error policy, const redmoon_rate_request *request,
                   int status, redmoon_rate_result *out);
/** Answers from the deny cache: true when the request is still refused. */
bool rm_rate_denied_here(redmoon_rate_limiter *limiter, redmoon_bytes key, const redmoon_rate_request *request,
                         redmoon_rate_result *out);

/** NULL without memory. */
rm_deny *rm_deny_new(void);
void rm_deny_free(rm_deny *deny);
/** Remembers until `until_us` that `need` units of `key` are not free.  Without memory, or when another key took the
 *  place, it is forgotten: it is only a cache. */
void rm_deny_put(rm_deny *deny, redmoon_bytes key, int64_t need, int64_t until_us, const redmoon_rate_result *result,
                 int64_t now_us);
/** Whether `need` units are known not to be free; *out is what was answered, with the times that are left. */
bool rm_deny_find(rm_deny *deny, redmoon_bytes key, int64_t need, int64_t now_us, redmoon_rate_result *out);
void rm_deny_drop(rm_deny *deny, redmoon_bytes key);

/** The units without which a request is refused. */
static inline int64_t rm_rate_need(const redmoon_rate_request *request) { return request->partial ? 1 : request->cost; }

#endif
