/* SPDX-License-Identifier: MIT */
/* A known mix of keys is audited by a user who may only read, while other threads create, delete, expire and persist other
 * keys, and the server's table grows and shrinks; the audit is interrupted after every few pages and goes on in another
 * client from its saved state.
 *
 *   found      every key without TTL that was there throughout is counted, once, and is listed by a dry run of the fix.
 *   intervals  memory, lifetimes and the cliff lie within what the report says of them.
 *   untouched  idle times are as they were; nothing was tried that the user may not.
 *   still      when the churn is over, an audit in one piece and one in many give the same report, byte for byte: all but
 *              what the clock moves (the shortest and longest TTL, quantiles, and which bucket keys at its edge end in), and how
 *              SCAN went (pages and repeats: the server may still be resizing its table).
 *
 *      REDMOON_SOAK_KEYS=<n> audit_churn       (1,000,000 is the long run) */
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  KEYS = 20000,
  CHURNERS = 2,
  BATCH = 1000,
  SHRINK_UPTO = 100000, /* keys, up to which the table is made to shrink: that takes ten times as many others */
  SHRINK_BY = 11,
  PAGES_PER_PART = 20,
  OLD = 100,            /* keys whose idle time is looked at */
  AUDIT_SECONDS = 1
};

#define RULE "+hello", "+scan", "+pttl", "+type", "+memory|usage", "+info", "+client", "+cluster"

static int passed, failed;

static void check(bool good, const char *what, double got, double expected) {
  if (good) passed++;
  else failed++;
  if (!good) printf("FAILED %s: %.6g, expected %.6g\n", what, got, expected);
}

static void die(const char *what, const redmoon_error *err) {
  fprintf(stderr, "%s: %s %s\n", what, err->code, err->message);
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Integer of a command's answer. */
static int64_t call(redmoon_client *client, int argc, const char *const *argv) {
  redmoon_reply *reply;
  redmoon_error err;
  if (redmoon_command(client, argc, argv, NULL, &reply, &err) != 0) die(argv[0], &err);
  int64_t value = redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return value;
}

/* EVAL over numbers from..to, in batches: a script must not hold the server up for long. */
static int64_t batches(redmoon_client *client, const char *script, long from, long to, const char *extra) {
  int64_t sum = 0;
  for (long at = from; at <= to; at += BATCH) {
    char first[24], last[24];
    snprintf(first, sizeof first, "%ld", at);
    snprintf(last, sizeof last, "%ld", at + BATCH - 1 < to ? at + BATCH - 1 : to);
    sum += call(client, 6, (const char *const[]){"EVAL", script, "0", first, last, extra});
  }
  return sum;
}

static redmoon_client *open_client(const char *url, const char *user) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = 60000;
  options.read_timeout_ms = 30000;
  options.username = user;
  options.password = user != NULL ? "pw" : NULL;
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, &options, &client, &err) != 0) die("open", &err);
  return client;
}

/* The mix: of 10 keys 2 strings for ever, 1 list for ever, 3 hashes and 3 strings with a TTL, 1 string that ends with all of
 * its kind. */
static const char mix[] =
    "local at = tonumber(ARGV[3]) for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do local k = i % 10 "
    "if k < 2 then redis.call('SET', 'keep:' .. i, ('x'):rep(i * 7919 % 300)) "
    "elseif k < 3 then redis.call('RPUSH', 'queue:' .. i, ('x'):rep(i * 7919 % 60), 'b') "
    "elseif k < 6 then redis.call('HSET', 'sess:' .. i, 'a', i, 'b', ('x'):rep(i * 7919 % 50)) "
    "redis.call('PEXPIRE', 'sess:' .. i, 5000000 + i * 104729 % 3000000) "
    "elseif k < 9 then redis.call('SET', 'cache:' .. i, ('x'):rep(i * 7919 % 1000), 'PX', 950000 + i * 104729 % 90000) "
    "else redis.call('SET', 'cliff:' .. i, 'v', 'PXAT', at) end end return 0";

static const char usage[] = "local n, from, to, w = 0, tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] for i = from, to do "
                            "n = n + (redis.call('MEMORY', 'USAGE', w .. ':' .. i, 'SAMPLES', 0) or 0) end return n";
static const char grow[] = "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', ARGV[3] .. ':' .. i, 'v') end return 0";
static const char shrink[] =
    "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('UNLINK', ARGV[3] .. ':' .. i) end return 0";

/* The churn. */

typedef struct world {
  const char *url;
  long keys;
  atomic_bool stop;
  atomic_long changes;
} world;

static void *churn(void *arg) {
  world *w = arg;
  redmoon_client *client = open_client(w->url, NULL);
  static const char script[] =
      "local r, w = tonumber(ARGV[1]), ARGV[3] for i = r, r + 50 do local k = w .. ':' .. i % 5000 "
      "if i % 5 == 0 then redis.call('UNLINK', k) elseif i % 5 == 1 then redis.call('SET', k, i, 'PX', 20 + i % 100) "
      "elseif i % 5 == 2 then redis.call('SET', k, i) elseif i % 5 == 3 then redis.call('PEXPIRE', k, 100000) "
      "else redis.call('PERSIST', k) end end return 0";
  uint64_t random = (uint64_t)(uintptr_t)&client;
  while (!atomic_load(&w->stop)) {
    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    char first[24];
    snprintf(first, sizeof first, "%" PRIu64, (random >> 33) % 100000);
    call(client, 6, (const char *const[]){"EVAL", script, "0", first, "0", "churn"});
    atomic_fetch_add(&w->changes, 51);
  }
  redmoon_client_close(client);
  return NULL;
}

/* Others that come and go, so that the table grows and shrinks under the scan. */
static long swelling(const world *w) { return w->keys <= SHRINK_UPTO ? SHRINK_BY * w->keys : w->keys / 4; }

static void *swell(void *arg) {
  world *w = arg;
  redmoon_client *client = open_client(w->url, NULL);
  while (!atomic_load(&w->stop)) {
    batches(client, grow, 1, swelling(w), "swell");
    batches(client, shrink, 1, swelling(w), "swell");
    atomic_fetch_add(&w->changes, 2 * swelling(w));
  }
  redmoon_client_close(client);
  return NULL;
}

/* Audits. */

static redmoon_audit *begin(redmoon_client *client, const redmoon_audit_options *options) {
  redmoon_audit *audit;
  redmoon_error err;
  if (redmoon_audit_new(client, options, &audit, &err) != 0) die("audit", &err);
  return audit;
}

/* Between two parts nothing goes over but bytes. */
static redmoon_audit_report *audit_in_parts(world *w, redmoon_audit_options options, int pages_per_part, int *parts) {
  void *state = NULL;
  size_t len = 0;
  redmoon_audit_report *report = NULL;
  redmoon_error err;
  for (*parts = 0; report == NULL; (*parts)++) {
    redmoon_client *client = open_client(w->url, "auditor");
    options.resume = state;
    options.resume_len = len;
    redmoon_audit *audit = begin(client, &options);
    redmoon_free(state);
    for (int i = 0; i < pages_per_part && !redmoon_audit_done(audit); i++)
      if (redmoon_audit_next(audit, &err) != 0) die("page", &err);
    if (redmoon_audit_save(audit, &state, &len, &err) != 0) die("save", &err);
    if (redmoon_audit_done(audit) && redmoon_audit_report_new(audit, &report, &err) != 0) die("report", &err);
    redmoon_audit_free(audit);
    redmoon_client_close(client);
  }
  redmoon_free(state);
  return report;
}

static const redmoon_audit_group *group_of(const redmoon_audit_report *report, const char *prefix) {
  static const redmoon_audit_group none;
  for (size_t i = 0; i < redmoon_audit_report_count(report); i++) {
    const redmoon_audit_group *group = redmoon_audit_report_group(report, i);
    if (group->prefix_len == strlen(prefix) && memcmp(group->prefix, prefix, group->prefix_len) == 0) return group;
  }
  return &none;
}

typedef struct kind {
  const char *prefix;
  int of_ten, first; /* keys whose number ends in first .. first + of_ten - 1 */
  bool forever;
  size_t bucket;     /* of its TTLs: all lie in one */
} kind;

static const kind kinds[] = {{"keep", 2, 0, true, 0},    {"queue", 1, 2, true, 0},   {"sess", 3, 3, false, 22},
                             {"cache", 3, 6, false, 19}, {"cliff", 1, 9, false, 22}};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* What was there throughout is counted, once; `bytes`: what it really takes, 0: not to be looked at. */
static void judge(const redmoon_audit_report *report, const world *w, const double *bytes) {
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  check(summary->complete && summary->errors == 0 && summary->unfiltered == 0, "complete", (double)summary->errors, 0);
  int64_t slack = summary->repeats_false;
  for (int i = 0; i < KINDS; i++) {
    const redmoon_audit_group *group = group_of(report, kinds[i].prefix);
    int64_t keys = w->keys / 10 * kinds[i].of_ten, forever = kinds[i].forever ? keys : 0;
    check(group->keys <= keys && group->keys + slack >= keys, kinds[i].prefix, (double)group->keys, (double)keys);
    check(group->no_ttl <= forever && group->no_ttl + slack >= forever, "no_ttl", (double)group->no_ttl, (double)forever);
    check(group->bytes_low <= bytes[i] && bytes[i] <= group->bytes_high, "bytes", group->bytes, bytes[i]);
    printf("  %-6s %8" PRId64 " keys, %8" PRId64 " for ever, %10.0f bytes +- %.2f %% of %10.0f, %" PRId64 " sampled\n",
           kinds[i].prefix, group->keys, group->no_ttl, group->bytes,
           100 * (group->bytes_high - group->bytes_low) / 2 / group->bytes, bytes[i], group->sampled);
    if (kinds[i].forever) continue;
    int64_t inside = group->ttl_histogram[kinds[i].bucket];
    check(inside == group->keys, "histogram", (double)inside, (double)group->keys);
    check(group->ttl_p50_ms >= (double)((int64_t)1 << kinds[i].bucket) && group->ttl_p99_ms < (double)((int64_t)2 << kinds[i].bucket),
          "quantiles", group->ttl_p50_ms, (double)((int64_t)1 << kinds[i].bucket));
  }
  const redmoon_audit_group *cliff = group_of(report, "cliff");
  check(cliff->cliff_keys <= w->keys / 10 && cliff->cliff_keys + cliff->cliff_error + slack >= w->keys / 10, "cliff",
        (double)cliff->cliff_keys, (double)w->keys / 10);
  printf("  %" PRId64 " keys in all, %" PRId64 " gone, %" PRId64 " repeats (%" PRId64 " perhaps not), %" PRId64 " pages\n",
         redmoon_audit_report_total(report)->keys, summary->gone, summary->repeats, summary->repeats_false, summary->pages);
}

/* The dry run lists keys themselves: each that was for ever throughout must be there. */
static void find_each(world *w) {
  char *seen = calloc((size_t)w->keys + 1, 1);
  if (seen == NULL) abort();
  redmoon_client *client = open_client(w->url, "auditor");
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  options.match = "*";
  options.ttl_ms = 60000;
  redmoon_audit_fix *fix;
  redmoon_error err;
  if (redmoon_audit_fix_new(client, &options, &fix, &err) != 0) die("fix", &err);
  while (!redmoon_audit_fix_done(fix)) {
    if (redmoon_audit_fix_next(fix, &err) != 0) die("fix", &err);
    size_t count;
    const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &count);
    for (size_t i = 0; i < count; i++) {
      const char *key = page[i].key;
      if (strncmp(key, "keep:", 5) == 0 || strncmp(key, "queue:", 6) == 0) seen[atol(strchr(key, ':') + 1)] = 1;
      if (strncmp(key, "sess:", 5) == 0 || strncmp(key, "cl", 2) == 0) check(false, "a key with TTL is listed", 1, 0);
    }
  }
  long missing = 0;
  for (long i = 1; i <= w->keys; i++) missing += i % 10 < 3 && !seen[i];
  check(missing == 0, "keys without TTL that were not found", (double)missing, 0);
  redmoon_audit_fix_free(fix);
  redmoon_client_close(client);
  free(seen);
}

/* Everything that neither moves with the clock nor depends on how SCAN went, as text. */
static char *text_of(const redmoon_audit_report *report) {
  char *text = NULL;
  size_t len;
  FILE *out = open_memstream(&text, &len);
  if (out == NULL) abort();
  const redmoon_audit_summary *s = redmoon_audit_report_summary(report);
  fprintf(out, "%d %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", s->complete, s->server_keys, s->gone, s->errors,
          s->prefixes_folded);
  for (size_t i = 0; i < redmoon_audit_report_count(report) + 2; i++) {
    size_t count = redmoon_audit_report_count(report);
    const redmoon_audit_group *g = i < count ? redmoon_audit_report_group(report, i) : i == count ? redmoon_audit_report_other(report) : redmoon_audit_report_total(report);
    fprintf(out, "%.*s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %.17g %.17g %.17g", (int)g->prefix_len, g->prefix, g->keys,
            g->keys_missed, g->no_ttl, g->sampled, g->bytes, g->bytes_low, g->bytes_high);
    for (size_t k = 0; k < REDMOON_AUDIT_TTL_BUCKETS; k++) fprintf(out, " %" PRId64, g->ttl_histogram[k]);
    for (size_t k = 0; k < REDMOON_AUDIT_TYPES; k++) fprintf(out, " %" PRId64, g->types[k]);
    if (strcmp(g->prefix, "cliff") == 0) fprintf(out, " %" PRId64 " %" PRId64, g->cliff_keys, g->cliff_at_ms);
    fputc('\n', out);
  }
  fclose(out);
  return text;
}

static void still(world *w, const redmoon_audit_options *options) {
  int parts;
  redmoon_audit_report *whole = audit_in_parts(w, *options, 1000000, &parts);
  check(parts == 1, "one part", parts, 1);
  redmoon_audit_report *pieces = audit_in_parts(w, *options, PAGES_PER_PART, &parts);
  check(parts > 3, "many parts", parts, 4);
  char *a = text_of(whole), *b = text_of(pieces);
  check(strcmp(a, b) == 0, "the same report in one piece and in parts", 1, 0);
  if (strcmp(a, b) != 0) printf("%s---\n%s", a, b);
  printf("still: %d parts, %zu bytes of report\n", parts, strlen(a));
  free(a);
  free(b);
  redmoon_audit_report_free(whole);
  redmoon_audit_report_free(pieces);
}

/* Keys that nobody has used for long: under `keep`'s neighbours, so that they are part of no count. */
static void make_old(redmoon_client *client) {
  static const char old[] = "redis.call('SET', 'a', 'old value') local d = redis.call('DUMP', 'a') redis.call('DEL', 'a') "
                            "for i = 1, tonumber(ARGV[1]) do redis.call('RESTORE', 'old:' .. i, 0, d, 'IDLETIME', 100000) end return 0";
  char count[8];
  snprintf(count, sizeof count, "%d", OLD);
  call(client, 4, (const char *const[]){"EVAL", old, "0", count});
}

static void check_untouched(redmoon_client *client) {
  int64_t least = INT64_MAX;
  for (int i = 1; i <= OLD; i++) {
    char key[24];
    snprintf(key, sizeof key, "old:%d", i);
    int64_t idle = call(client, 3, (const char *const[]){"OBJECT", "IDLETIME", key});
    if (idle < least) least = idle;
  }
  check(least >= 100000, "idle time", (double)least, 100000);
  redmoon_reply *log;
  redmoon_error err;
  if (redmoon_command(client, 2, (const char *const[]){"ACL", "LOG"}, NULL, &log, &err) != 0) die("ACL LOG", &err);
  check(redmoon_reply_count(log) == 0, "refused commands", (double)redmoon_reply_count(log), 0);
  redmoon_reply_free(log);
}

static void measure(redmoon_client *client, const world *w, double *bytes) {
  for (int i = 0; i < KINDS; i++) bytes[i] = (double)batches(client, usage, 1, w->keys, kinds[i].prefix);
}

static void under_churn(world *w, const redmoon_audit_options *options, const double *bytes) {
  pthread_t threads[CHURNERS + 1];
  for (int i = 0; i <= CHURNERS; i++)
    if (pthread_create(&threads[i], NULL, i == 0 ? swell : churn, w) != 0) abort();
  double began = seconds();
  int parts;
  redmoon_audit_report *report = audit_in_parts(w, *options, PAGES_PER_PART, &parts);
  printf("under churn: %.1f s, %d parts, %ld changes meanwhile\n", seconds() - began, parts, atomic_load(&w->changes));
  judge(report, w, bytes);
  redmoon_audit_report_free(report);
  began = seconds();
  find_each(w);
  printf("each key without TTL found in %.1f s\n", seconds() - began);
  atomic_store(&w->stop, true);
  for (int i = 0; i <= CHURNERS; i++) pthread_join(threads[i], NULL);
}

int main(void) {
  const char *text = getenv("REDMOON_SOAK_KEYS");
  world w = {.keys = text != NULL ? atol(text) / 10 * 10 : KEYS};
  printf("REDMOON_SOAK_KEYS=%ld\n", w.keys);
  redis_server *server = redis_server_start(NULL);
  w.url = redis_server_url(server);
  redmoon_client *client = open_client(w.url, NULL);
  call(client, 15, (const char *const[]){"ACL", "SETUSER", "auditor", "on", ">pw", "~*", "-@all", RULE});
  char at[24];
  snprintf(at, sizeof at, "%" PRId64, ((int64_t)time(NULL) + 6000) / 10 * 10000 + 5000); /* amid a bucket */
  batches(client, mix, 1, w.keys, at);
  make_old(client);
  double bytes[KINDS];
  measure(client, &w, bytes);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.sample_ppm = 50000;
  options.count = 200;
  options.filter_bytes = 4 << 20;
  options.max_rate = w.keys / AUDIT_SECONDS > 200000 ? 200000 : w.keys / AUDIT_SECONDS;
  under_churn(&w, &options, bytes);
  check_untouched(client);
  batches(client, shrink, 0, 5000, "churn");
  batches(client, shrink, 1, w.keys / 4, "swell");
  options.max_rate = REDMOON_UNSET;
  still(&w, &options);
  check_untouched(client);
  redmoon_client_close(client);
  redis_server_stop(server);
  printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
