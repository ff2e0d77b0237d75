/* SPDX-License-Identifier: MIT */
/** Between the files of the audit.
 *
 *      audit.c         the object, and the operation that takes it a page further; audit_options.c
 *      audit_page.c    what is sent for a page, and what its answers mean
 *      audit_info.c    what the server says of itself      audit_nodes.c  the primaries of a cluster
 *      audit_prefix.c  key -> prefix          audit_table.c   prefixes, at most so many; the rest is "other"
 *      audit_tally.c   what is counted of a group of keys; cliffs      audit_sample.c  memory, and how sure of it
 *      audit_filter.c  keys seen before       audit_state.c   all of it as bytes, and back
 *      audit_report.c  what is shown of it    audit_warnings.c  and what is said about it
 *
 *  Everything below audit_page.c is arithmetic: no I/O, no clock. */
#ifndef RM_PATTERNS_AUDIT_H
#define RM_PATTERNS_AUDIT_H

#include "base/buffer.h"
#include "engine/call.h"

#include <redmoon/audit.h>
#include <stdbool.h>

enum {
  RM_AUDIT_PREFIX_MAX = 255, /* bytes of a prefix that count */
  RM_AUDIT_LOWEST = 30,
  RM_AUDIT_CLIFF_SLOTS = 64,
  RM_AUDIT_CLIFF_MS = 10000,
  RM_AUDIT_FIELDS = 16, /* last segments that are told apart */
  RM_AUDIT_FIELD_MAX = 31,
  RM_AUDIT_HASHES = 16, /* bits of the filter for each key */
  RM_AUDIT_STRING = 0   /* place of "string" among the types */
};

/* audit_prefix.c: */

typedef struct rm_audit_cut {
  char prefix[RM_AUDIT_PREFIX_MAX];
  size_t prefix_len;
  const char *field; /* inside the key: its last segment, when others stand between it and the prefix; else NULL */
  size_t field_len;
} rm_audit_cut;

/** The prefix of a key: its first `depth` segments, but never the last one, which names it.  A hash tag is shown as {*};
 *  separators in it are none, a segment that is nothing else does not count, and in a key that has one it is the tag that
 *  names it: `redmoon:{user:42}:lock` is, at depth 2, of `redmoon:{*}:lock`. */
void rm_audit_cut_key(const char *key, size_t len, char separator, size_t depth, rm_audit_cut *out);

/* audit_tally.c: */

typedef struct rm_audit_cliff {
  int64_t bucket, keys;
} rm_audit_cliff;

/** How many keys expire in which bucket: Misra and Gries, "Finding repeated elements" (1982), with 64 counters. */
typedef struct rm_audit_cliffs {
  rm_audit_cliff slots[RM_AUDIT_CLIFF_SLOTS];
  size_t used;
  int64_t missed; /* each count may be too low by so much */
} rm_audit_cliffs;

void rm_audit_cliffs_add(rm_audit_cliffs *cliffs, int64_t bucket, int64_t keys);
void rm_audit_cliffs_merge(rm_audit_cliffs *into, const rm_audit_cliffs *from);
/** The highest; of equal ones the earliest.  NULL: there is none. */
const rm_audit_cliff *rm_audit_cliffs_top(const rm_audit_cliffs *cliffs);

typedef struct rm_audit_tally {
  int64_t keys, no_ttl, below_min, above_max;
  int64_t ttl_min, ttl_max; /* ms; meaningless while no key has a TTL */
  int64_t histogram[REDMOON_AUDIT_TTL_BUCKETS], types[REDMOON_AUDIT_TYPES];
  rm_audit_cliffs cliffs;
} rm_audit_tally;

typedef struct rm_audit_limits {
  int64_t min_ttl_ms, max_ttl_ms; /* REDMOON_UNSET: none */
} rm_audit_limits;

/** Counts a key.  `ttl_ms` -1: none; `expires_ms`: when it ends, by the server's clock. */
void rm_audit_tally_add(rm_audit_tally *tally, int64_t ttl_ms, int64_t expires_ms, size_t type,
                        const rm_audit_limits *limits);
void rm_audit_tally_merge(rm_audit_tally *into, const rm_audit_tally *from);
size_t rm_audit_bucket(int64_t ttl_ms);
/** Of the keys with TTL, in ms; -1: there are none. */
double rm_audit_quantile(const rm_audit_tally *tally, double q);
size_t rm_audit_type(const char *name, size_t len);

/* audit_sample.c: */

/** Sums of integers are the same in whatever order they are added: so the same keys give the same report. */
typedef struct rm_audit_sums {
  int64_t count;
  uint64_t sum;
  uint64_t squares[2]; /* low, high */
} rm_audit_sums;

/** Sizes of sampled keys of one prefix: of those whose lot is below the share, and of the 30 with the lowest lots, which are
 *  a fair sample however few the keys are (Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007). */
typedef struct rm_audit_sample {
  rm_audit_sums drawn;
  struct {
    uint64_t lot;
    int64_t bytes;
  } lowest[RM_AUDIT_LOWEST];
  size_t used;
} rm_audit_sample;

/** Of whole groups: their estimates add up, and so do their variances. */
typedef struct rm_audit_estimate {
  double bytes, measured, variance;
  double worst;  /* highest quantile that one of them needs */
  bool unknown;  /* of a group nothing was sampled */
  bool open;     /* of a group too little was sampled for an upper bound */
  int64_t sampled;
} rm_audit_estimate;

/** Whether the size of a key with this lot would count. */
bool rm_audit_sample_wants(const rm_audit_sample *sample, uint64_t lot, int64_t ppm);
void rm_audit_sample_add(rm_audit_sample *sample, uint64_t lot, int64_t bytes, int64_t ppm);
/** What the sample comes to. */
rm_audit_sums rm_audit_sample_sums(const rm_audit_sample *sample);
void rm_audit_sums_add(rm_audit_sums *sums, int64_t bytes);
/** The sum of squared distances from the mean. */
double rm_audit_sums_spread(const rm_audit_sums *sums);
/** Adds the estimate for a group of `keys` keys, of which `sums` are of those that were looked at. */
void rm_audit_estimate_add(rm_audit_estimate *estimate, const rm_audit_sums *sums, int64_t keys);
void rm_audit_estimate_merge(rm_audit_estimate *into, const rm_audit_estimate *from);
/** Student's t for 99.9 %, two-sided. */
double rm_audit_t(int64_t freedom);
/** Writes bytes, bytes_low, bytes_high and sampled. */
void rm_audit_estimate_show(const rm_audit_estimate *estimate, redmoon_audit_group *group);

/* audit_filter.c: */

/** Keys seen before: Bloom, "Space/time trade-offs in hash coding with allowable errors" (1970).  Half full, it takes in no
 *  more, so that it is wrong for at most one in 65,536. */
typedef struct rm_audit_filter {
  unsigned char *bytes; /* NULL: none */
  size_t size;
  uint64_t set;       /* bits */
  double expected;    /* new keys that it has taken for known ones, on average */
  int64_t unfiltered; /* keys that it did not take in */
} rm_audit_filter;

typedef struct rm_audit_hash {
  uint64_t first, step; /* of the filter */
  uint64_t lot;         /* of the sample */
} rm_audit_hash;

rm_audit_hash rm_audit_hash_key(const void *key, size_t len, int64_t seed);
/** 0 or NOMEM. */
int rm_audit_filter_init(rm_audit_filter *filter, size_t size);
void rm_audit_filter_fini(rm_audit_filter *filter);
bool rm_audit_filter_has(const rm_audit_filter *filter, rm_audit_hash hash);
/** Of a key that it has not. */
void rm_audit_filter_add(rm_audit_filter *filter, rm_audit_hash hash);
/** At most so many of `repeats` were new keys, but for a chance of one in 10^6. */
int64_t rm_audit_filter_false(const rm_audit_filter *filter, int64_t repeats);

/* audit_table.c: */

/** Last segments of a prefix's strings, as long as they are few. */
typedef struct rm_audit_fields {
  struct {
    char name[RM_AUDIT_FIELD_MAX];
    uint8_t len;
    int64_t keys;
  } slots[RM_AUDIT_FIELDS];
  size_t used;
  bool many; /* there are more, or they are no names */
} rm_audit_fields;

typedef struct rm_audit_entry {
  rm_audit_tally tally;
  rm_audit_sample sample;
  rm_audit_fields fields;
  int64_t missed;   /* keys of the prefix that may have been folded before it came (again) */
  uint64_t hash;
  size_t len;
  char name[RM_AUDIT_PREFIX_MAX];
} rm_audit_entry;

typedef struct rm_audit_table {
  rm_audit_entry **entries;
  size_t count, cap;
  uint32_t *slots; /* index + 1, by hash; a power of two of them */
  size_t slot_count;
  size_t limit;    /* entries that a fold leaves no more than half of */
  int64_t floor;   /* keys that a prefix may have lost in folds */
  int64_t folded;  /* entries */
  rm_audit_tally total, other;
  rm_audit_estimate other_bytes;
} rm_audit_table;

void rm_audit_table_init(rm_audit_table *table, size_t limit);
void rm_audit_table_fini(rm_audit_table *table);
/** Finds it or makes it; NULL: no memory, and nothing has changed. */
rm_audit_entry *rm_audit_table_get(rm_audit_table *table, const char *name, size_t len);
/** Counts the last segment of a string. */
void rm_audit_fields_add(rm_audit_fields *fields, const char *name, size_t len);
/** When there are more entries than the limit: those with fewest keys go to "other". */
void rm_audit_table_fold(rm_audit_table *table);
/** Orders entries: most keys first, equal ones by name.  For qsort over pointers. */
int rm_audit_entry_compare(const void *a, const void *b);

/* The audit. */

/** What determines the report. */
typedef struct rm_audit_plan {
  char *match; /* NULL: all */
  int64_t depth, separator, sample_ppm, top, require_ttl, filter_bytes, seed;
  rm_audit_limits limits;
} rm_audit_plan;

/** What the server said; -1 and "": unknown. */
typedef struct rm_audit_server {
  int64_t keys, keys_end, expires, maxclients, connected_clients, maxmemory, used_memory;
  int64_t clustered;
  char run_id[48], version[32], role[24], policy[32];
} rm_audit_server;

/* audit_nodes.c: */

enum { RM_AUDIT_NODES_MAX = 4096 };

typedef enum rm_audit_node_state { RM_AUDIT_NODE_WAITING, RM_AUDIT_NODE_SEEN, RM_AUDIT_NODE_LEFT } rm_audit_node_state;

/** A primary of a cluster. */
typedef struct rm_audit_node {
  char name[128];           /* "host:port" */
  rm_audit_server server;   /* of itself alone; keys_end once it is SEEN */
  rm_audit_node_state state;
  int64_t scanned_keys;     /* that SCAN gave, for the progress */

  /* of this run: */
  rm_node *route;           /* NULL: it is no primary */
  bool asked;
  int64_t server_ms, local_us; /* its clock, and ours at that moment */
} rm_audit_node;

typedef struct rm_audit_nodes {
  rm_audit_node *list; /* of one server: NULL */
  size_t count;
  size_t turn;         /* 1 + index of the one that audit->cursor is of; 0: of none */
  int64_t epoch;       /* the highest that a node told at the begin; 0: none did */
  int64_t epoch_end;   /* and afterwards */
} rm_audit_nodes;

extern const rm_audit_server rm_audit_server_unknown;

/** Takes in which primaries there are now.  0 or NOMEM. */
int rm_audit_nodes_meet(redmoon_audit *audit);
void rm_audit_nodes_fini(rm_audit_nodes *nodes);
/** One that is to be asked in this run what it is, before anything is scanned; NULL: none. */
rm_audit_node *rm_audit_nodes_unasked(redmoon_audit *audit);
/** The one whose turn it is; NULL: all were seen. */
rm_audit_node *rm_audit_nodes_turn(redmoon_audit *audit);
/** Its turn is over. */
void rm_audit_nodes_seen(redmoon_audit *audit);
/** Makes audit->server what the nodes are together. */
void rm_audit_nodes_sum(redmoon_audit *audit);
/** What is done of all, 0 to 1. */
double rm_audit_nodes_share(const redmoon_audit *audit);

/** What a page takes for each key, and the pause that follows from it. */
typedef struct rm_audit_pace {
  double best, usual; /* us; of the last pages */
  int64_t pause_us;
} rm_audit_pace;

struct redmoon_audit {
  redmoon_client *client; /* a reference */
  rm_audit_plan plan;
  rm_audit_table table;
  rm_audit_filter filter;
  rm_audit_server server;            /* of a cluster: of all its primaries together */
  rm_audit_nodes nodes;
  int64_t database;
  char cursor[24];
  bool began, scanned, done;         /* the first INFO; the last page (of a node); the last INFO */
  bool info_refused, memory_refused, changed;
  int64_t pages, gone, moved, errors, repeats;
  char first_error[160];

  /* of this run: */
  int64_t count, max_rate, processes;
  redmoon_audit_progress_fn on_progress;
  void *ctx;
  bool ready, no_touch_refused; /* ready: the server was asked in this run */
  int64_t server_ms, local_us;  /* the server's clock, and ours at that moment */
  int64_t began_us, not_before_us, keys_before;
  double share_before;
  rm_audit_pace pace;
};

/* audit_info.c: */

/** Fills in what `text` tells. */
void rm_audit_info_parse(const char *text, int64_t database, rm_audit_server *server);
/** The server's clock in INFO, ms; -1: it is not there. */
int64_t rm_audit_info_clock(const char *text);
/** The answer to CONFIG GET max*. */
void rm_audit_config_parse(const redmoon_reply *reply, rm_audit_server *server);
/** The epoch in CLUSTER INFO, which rises with every fail-over and every slot that moves; 0: it is not there. */
int64_t rm_audit_info_epoch(const char *text);

/* audit_page.c: */

/** What is to be known of one key of the page. */
typedef struct rm_audit_look {
  rm_audit_entry *entry;
  rm_audit_hash hash;
  size_t at;            /* of its answers */
  size_t key;           /* its place in the page */
  bool sampled;
} rm_audit_look;

typedef struct rm_audit_page {
  redmoon_reply *keys; /* ARRAY; NULL: none under way */
  char next[24];       /* the cursor behind it */
  rm_audit_look *looks;
  size_t look_count;
  int64_t repeats;
  bool no_touch;
} rm_audit_page;

/** Where reads may go to a replica (Sentinel), what follows is the primary's all the same.  Of a cluster it is pinned. */
void rm_audit_ask_primary(rm_call *call);
int rm_audit_format_scan(rm_call *call, const char *match, const char *cursor, int64_t count, redmoon_error *err);
/** Takes cursor and keys out of the answer. */
int rm_audit_take_scan(rm_call *call, rm_audit_page *page, redmoon_error *err);
/** Formats PTTL, TYPE and MEMORY USAGE for its keys; there may be nothing to ask. */
int rm_audit_format_looks(redmoon_audit *audit, rm_audit_page *page, rm_call *call, redmoon_error *err);
/** Counts the page: all of it, or nothing and negative. */
int rm_audit_count_page(redmoon_audit *audit, rm_audit_page *page, const rm_call *call, int64_t now_us,
                        redmoon_error *err);
void rm_audit_page_fini(rm_audit_page *page);
/** Refused for want of the right to run the command, not for its key. */
bool rm_audit_is_command_refused(const redmoon_reply *reply);

/* audit_options.c: */

/** Checks the options and copies them, or takes what is resumed. */
int rm_audit_plan_set(redmoon_audit *audit, const redmoon_audit_options *options, redmoon_error *err);
/** An integer option within its range; names the option, the value and the range. */
int rm_audit_check(const char *name, int64_t value, int64_t min, int64_t max, redmoon_error *err);

/* audit.c: */

/** A page took `took_us` for `keys`: the pause before the next one doubles as long as pages take twice as long as they may. */
void rm_audit_pace_note(rm_audit_pace *pace, int64_t took_us, int64_t keys);
/** How much of a SCAN is done at this cursor, 0 to 1. */
double rm_audit_cursor_share(const char *cursor);
/** Keys asked for at once, so that `max_rate` is kept to without bursts. */
int64_t rm_audit_page_size(int64_t count, int64_t max_rate);

/* audit_state.c: */

int rm_audit_save(const redmoon_audit *audit, rm_buffer *out);
/** Into an audit whose plan is empty.  0, CODEC or NOMEM. */
int rm_audit_restore(redmoon_audit *audit, const void *state, size_t len, redmoon_error *err);

/* audit_report.c, audit_warnings.c: */

struct redmoon_audit_report {
  redmoon_audit_group *groups, other, total;
  size_t count;
  redmoon_audit_summary summary;
  redmoon_audit_warning *warnings;
  size_t warning_count, warning_cap;
  rm_audit_server server;   /* texts of the summary */
  char first_error[160];
  rm_audit_node *audited;   /* texts of the nodes */
  redmoon_audit_node *nodes;
  size_t node_count;
};

/** Adds what is to be said; `entries` are those of `groups`, in their order.  0 or NOMEM. */
int rm_audit_warn(const redmoon_audit *audit, rm_audit_entry *const *entries, redmoon_audit_report *report);

#endif
