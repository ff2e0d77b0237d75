/* SPDX-License-Identifier: MIT */
/** The audit: which keys live for ever, how long the others have left, and what they weigh, by prefix.
 *
 *      redmoon_audit_new -> { redmoon_audit_next ... until redmoon_audit_done } or redmoon_audit_run -> report
 *
 *  It reads only (SCAN, PTTL, TYPE, MEMORY USAGE, INFO; CONFIG GET and, but not on nodes of a cluster, CLIENT NO-TOUCH where
 *  they are allowed), so a user who may do no more is enough; it leaves idle times and access frequencies as they are.  It
 *  needs memory for the table of prefixes and the filter, whatever the number of keys.  One audit scans one database of one
 *  server, or all primaries of a cluster one after another.
 *
 *  redmoon_audit_fix gives keys without TTL one. */
#ifndef REDMOON_AUDIT_H
#define REDMOON_AUDIT_H

#include <redmoon/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Thread class: one thread at a time. */
typedef struct redmoon_audit redmoon_audit;

/** How far it has come. */
typedef struct redmoon_audit_progress {
  int64_t keys;       /**< counted */
  int64_t pages;      /**< answers to SCAN */
  int64_t left;       /**< estimate of the keys that were not scanned yet; -1: unknown, the server does not say its count */
  int64_t elapsed_ms; /**< of this run; what was resumed does not count */
  double rate;        /**< keys scanned per second, in this run */
  double share;       /**< estimate of what is done, 0 to 1 */
  int64_t pause_ms;   /**< between two pages, because the server has slowed down; 0: none */
} redmoon_audit_progress;

/** Called after each page, on the thread that steps, without locks held.  A return of other than 0 stops the run. */
typedef int (*redmoon_audit_progress_fn)(void *ctx, const redmoon_audit_progress *progress);

/** Those marked (*) determine the report: an audit that is resumed has them from its state, and one that is given and
 *  differs is refused. */
typedef struct redmoon_audit_options {
  const char *match;     /**< (*) glob; NULL: all keys */
  int64_t depth;         /**< (*) 1; segments of a prefix, 1 to 8 */
  const char *separator; /**< (*) ":"; one byte */
  int64_t sample_ppm;    /**< (*) 10,000; share of keys whose memory is asked for, in millionths, 0 to 1,000,000.  Of each
                              prefix 30 are asked for in any case, unless it is 0 */
  int64_t top;           /**< (*) 100; prefixes in the report, 1 to 10,000; the rest are one, "other" */
  int64_t min_ttl_ms;    /**< (*) none; a TTL below it is a violation */
  int64_t max_ttl_ms;    /**< (*) none; a TTL above it is a violation */
  int64_t require_ttl;   /**< (*) 0; 1: a key without TTL is a violation */
  int64_t filter_bytes;  /**< (*) memory against keys that SCAN gives twice, 1 KiB to 1 GiB; 0: none.  Default: 10 bytes for
                              each key the server has, 256 KiB to 32 MiB */
  int64_t seed;          /**< (*) 0; which keys are sampled, 0 to 2^53 */
  int64_t count;         /**< 1,000; keys for each page, 1 to 10,000 */
  int64_t max_rate;      /**< none; keys per second, 1 to 10,000,000 */
  int64_t processes;     /**< 1; how many processes have a pool like this client's, 1 to 1,000,000: for a warning */
  const void *resume;    /**< NULL; what redmoon_audit_save gave */
  size_t resume_len;
  redmoon_audit_progress_fn on_progress; /**< of redmoon_audit_run; NULL: none */
  void *ctx;
} redmoon_audit_options;
#define REDMOON_AUDIT_OPTIONS_INIT                                                                                \
  {0, REDMOON_UNSET, 0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET,  \
   REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, 0, 0, 0, 0}

/** No I/O.  `options` NULL: the defaults.  CODEC: `resume` is not a state, or was changed.  *out is owned by the caller
 *  (redmoon_audit_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_new(redmoon_client *client, const redmoon_audit_options *options,
                                                     redmoon_audit **out, redmoon_error *err);
/** One page: its keys are scanned, looked at and counted, after the pause that is due.  A page that fails counts for
 *  nothing, and the next call asks for it again.  0 at the end, too.  Takes up to the pause and three calls. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_next(redmoon_audit *audit, redmoon_error *err);
/** `audit` must stay until the operation is over; one at a time. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_next_start(redmoon_audit *audit, redmoon_op **op, redmoon_error *err);
/** All pages that are left, or as many as on_progress lets through. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_run(redmoon_audit *audit, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_run_start(redmoon_audit *audit, redmoon_op **op, redmoon_error *err);
/** 1 when every page was counted. */
REDMOON_API int redmoon_audit_done(const redmoon_audit *audit);
REDMOON_API void redmoon_audit_progress_get(const redmoon_audit *audit, redmoon_audit_progress *out);
/** What another audit needs to go on from here: bytes for a file, about as many as the filter and the table take.  *state
 *  is owned by the caller (redmoon_free).  Not while an operation of the audit is under way. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_save(const redmoon_audit *audit, void **state, size_t *len,
                                                      redmoon_error *err);
/** Operations must be over.  NULL is allowed. */
REDMOON_API void redmoon_audit_free(redmoon_audit *audit);

/* The report. */

/** Thread class: immutable. */
typedef struct redmoon_audit_report redmoon_audit_report;

enum {
  REDMOON_AUDIT_TTL_BUCKETS = 48, /**< bucket i: TTLs of 2^i ms and more, below 2^(i+1); 0 also less, the last also more */
  REDMOON_AUDIT_TYPES = 7         /**< string, list, set, zset, hash, stream, other: redmoon_audit_type_name */
};

/** Of the keys of one prefix, of several, or of all. */
typedef struct redmoon_audit_group {
  const char *prefix; /**< binary; "" for keys without a separator, and for "other" and the total */
  size_t prefix_len;
  int64_t keys;        /**< that were there when they were looked at, each once */
  int64_t keys_missed; /**< at most so many more of its keys are counted in "other"; 0 unless there were more prefixes than
                            the table has room for */
  int64_t no_ttl;      /**< keys that live for ever */
  int64_t below_min, above_max; /**< TTLs outside of the options' limits */
  int64_t sampled;              /**< keys whose memory the estimate is made of */
  double bytes;                 /**< estimate of their memory */
  double bytes_low, bytes_high; /**< 99.9 % interval (Student's t, finite population); bytes_high -1: unknown */
  double ttl_p50_ms, ttl_p99_ms; /**< quantiles of the keys with TTL, from the histogram: they lie in the true value's
                                      bucket; -1: no key has one */
  int64_t ttl_min_ms, ttl_max_ms; /**< exact; -1: no key has one */
  int64_t ttl_histogram[REDMOON_AUDIT_TTL_BUCKETS];
  int64_t types[REDMOON_AUDIT_TYPES];
  int64_t cliff_keys;  /**< the cliff: most keys that expire within one 10-s bucket of the server's clock, at least */
  int64_t cliff_error; /**< at most so many more do */
  int64_t cliff_at_ms; /**< begin of that bucket, Unix time */
  double cliff_share;  /**< cliff_keys / keys */
} redmoon_audit_group;

typedef enum redmoon_audit_level {
  REDMOON_AUDIT_NOTE,     /**< about the audit itself: what it could not see */
  REDMOON_AUDIT_WARNING,  /**< likely to hurt */
  REDMOON_AUDIT_VIOLATION /**< against a limit that the options set */
} redmoon_audit_level;

/** code: one of
 *      ttl_missing  ttl_below_min  ttl_above_max             violations
 *      eviction_policy  memory_unlimited  maxclients         of the server, or of nodes of the cluster, which are named
 *      expiry_cliff  split_hash                              of a prefix
 *      node_changed  slots_moved                             keys may be missing: warnings
 *      partial  key_errors  repeats_unchecked  info_refused  memory_refused   notes */
typedef struct redmoon_audit_warning {
  redmoon_audit_level level;
  const char *code;
  const char *message; /**< fit to show */
  const char *prefix;  /**< NULL: of no prefix */
  size_t prefix_len;
  int64_t keys;        /**< how many it is about; 0: it is about none */
} redmoon_audit_warning;

/** In a cluster the server's figures are those of all primaries together: counts and memory are sums (maxmemory 0: one of
 *  them has no limit), maxclients is the least and connected_clients the most of any, and a text that is not the same on all
 *  is "mixed". */
typedef struct redmoon_audit_summary {
  int complete;             /**< 1: to the end */
  int64_t server_keys;      /**< the server's own count at the beginning; -1: it does not say */
  int64_t server_keys_end;  /**< at the end; -1: it does not say, or the end was not reached */
  int64_t server_expires;   /**< with TTL, as the server counts at the beginning; -1 */
  int64_t pages;
  int64_t gone;             /**< keys that were gone when they were looked at */
  int64_t moved;            /**< of a cluster: keys that were another node's when they were looked at */
  int64_t errors;           /**< keys that could not be looked at */
  int64_t repeats;          /**< keys that SCAN gave again, and that were not counted again */
  int64_t repeats_false;    /**< at most so many of those were new (a bound that holds in all but one of 10^6 audits) */
  int64_t unfiltered;       /**< keys counted after the filter was full: of them repeats were not noticed */
  int64_t prefixes_folded;  /**< how often a prefix was moved to "other" for want of room */
  int64_t pool_size, maxclients, connected_clients, maxmemory, used_memory; /**< -1: unknown */
  const char *maxmemory_policy, *server_version, *role;                    /**< "": unknown */
  const char *first_error;  /**< of `errors`; "": none */
} redmoon_audit_summary;

/** What was counted so far.  *out is owned by the caller (redmoon_audit_report_free) and outlives the audit.  Not while an
 *  operation of the audit is under way. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_report_new(const redmoon_audit *audit, redmoon_audit_report **out,
                                                            redmoon_error *err);

typedef enum redmoon_audit_node_state {
  REDMOON_AUDIT_NODE_WAITING, /**< not scanned to its end */
  REDMOON_AUDIT_NODE_SEEN,
  REDMOON_AUDIT_NODE_LEFT     /**< was no primary any more before it was */
} redmoon_audit_node_state;

/** A primary of a cluster. */
typedef struct redmoon_audit_node {
  const char *address; /**< "host:port" */
  redmoon_audit_node_state state;
  int64_t keys, keys_end, maxclients, connected_clients, maxmemory, used_memory; /**< as in the summary, of it alone */
  const char *maxmemory_policy, *version;                                        /**< "": unknown */
} redmoon_audit_node;

/** 0 unless it is of a cluster. */
REDMOON_API size_t redmoon_audit_report_node_count(const redmoon_audit_report *report);
/** NULL beyond the end. */
REDMOON_API const redmoon_audit_node *redmoon_audit_report_node(const redmoon_audit_report *report, size_t index);
/** Prefixes, those with most keys first; equal ones by name. */
REDMOON_API size_t redmoon_audit_report_count(const redmoon_audit_report *report);
/** NULL beyond the end. */
REDMOON_API const redmoon_audit_group *redmoon_audit_report_group(const redmoon_audit_report *report, size_t index);
/** The keys of no prefix in the report; keys is 0 when there are none. */
REDMOON_API const redmoon_audit_group *redmoon_audit_report_other(const redmoon_audit_report *report);
REDMOON_API const redmoon_audit_group *redmoon_audit_report_total(const redmoon_audit_report *report);
REDMOON_API const redmoon_audit_summary *redmoon_audit_report_summary(const redmoon_audit_report *report);
REDMOON_API size_t redmoon_audit_report_warning_count(const redmoon_audit_report *report);
/** Violations first, then warnings, then notes.  NULL beyond the end. */
REDMOON_API const redmoon_audit_warning *redmoon_audit_report_warning(const redmoon_audit_report *report, size_t index);
/** "string" ... "other" for 0 to REDMOON_AUDIT_TYPES - 1, else NULL.  Static storage. */
REDMOON_API const char *redmoon_audit_type_name(size_t type);
/** "note", "warning" or "violation".  Static storage. */
REDMOON_API const char *redmoon_audit_level_name(redmoon_audit_level level);
REDMOON_API void redmoon_audit_report_free(redmoon_audit_report *report);

/* The fix. */

/** Thread class: one thread at a time. */
typedef struct redmoon_audit_fix redmoon_audit_fix;

typedef struct redmoon_audit_fix_options {
  const char *match;  /**< glob; needed.  Keys of this client's key_prefix are left alone: those without TTL mean to be */
  int64_t ttl_ms;     /**< needed; 1,000 ms to 366 days */
  int64_t jitter_ppm; /**< 100,000; each key gets up to so many millionths of the TTL more, 0 to 1,000,000 */
  int64_t dry_run;    /**< 1; 0: do it */
  int64_t count;      /**< 1,000; keys for each page, 1 to 1,000 */
  int64_t max_rate;   /**< none; keys looked at per second, 1 to 10,000,000 */
} redmoon_audit_fix_options;
#define REDMOON_AUDIT_FIX_OPTIONS_INIT \
  {0, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET, REDMOON_UNSET}

/** A key that got a TTL, or would have got it. */
typedef struct redmoon_audit_fixed {
  const void *key;
  size_t key_len;
  int64_t ttl_ms;
  int64_t expires_ms; /**< Unix time by the server's clock: what redmoon_audit_undo needs; 0: in a dry run; -1: unknown */
} redmoon_audit_fixed;

typedef struct redmoon_audit_fix_counts {
  int64_t seen;   /**< keys that matched */
  int64_t fixed;  /**< that got a TTL; in a dry run, that would get one */
  int64_t own;    /**< without TTL, left alone because they are of this client's key_prefix */
  int64_t raced;  /**< got a TTL from elsewhere, or went, before ours came */
  int64_t errors; /**< the server refused */
  double share;   /**< estimate of what is done, 0 to 1 */
} redmoon_audit_fix_counts;

/** No I/O.  *out is owned by the caller (redmoon_audit_fix_free). */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_fix_new(redmoon_client *client, const redmoon_audit_fix_options *options,
                                                         redmoon_audit_fix **out, redmoon_error *err);
/** One page: those of its keys that have no TTL get one, each in one step with a last look at it.  A page that fails is asked
 *  for again by the next call; what it had changed before is in redmoon_audit_fix_page. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_fix_next(redmoon_audit_fix *fix, redmoon_error *err);
/** `fix` must stay until the operation is over; one at a time. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_fix_next_start(redmoon_audit_fix *fix, redmoon_op **op, redmoon_error *err);
/** The keys that the last call changed, whether it ended well, failed or was cancelled; in a dry run, that it would have
 *  changed.  They live until the next one begins.  A key whose answer was lost is among them, with expires_ms -1. */
REDMOON_API const redmoon_audit_fixed *redmoon_audit_fix_page(const redmoon_audit_fix *fix, size_t *count);
REDMOON_API int redmoon_audit_fix_done(const redmoon_audit_fix *fix);
REDMOON_API void redmoon_audit_fix_counts_get(const redmoon_audit_fix *fix, redmoon_audit_fix_counts *out);
REDMOON_API void redmoon_audit_fix_free(redmoon_audit_fix *fix);

/** Takes the TTL away again from a key that expires within a second of `expires_ms`.  *undone 1: done; 0: it is gone or has
 *  another TTL, and is left as it is.  May be repeated. */
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_undo(redmoon_client *client, const void *key, size_t key_len,
                                                      int64_t expires_ms, int *undone, redmoon_error *err);
REDMOON_API REDMOON_MUST_CHECK int redmoon_audit_undo_start(redmoon_client *client, const void *key, size_t key_len,
                                                            int64_t expires_ms, int *undone, redmoon_op **op,
                                                            redmoon_error *err);

#ifdef __cplusplus
}
#endif
#endif
