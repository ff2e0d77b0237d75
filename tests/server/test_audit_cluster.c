/* SPDX-License-Identifier: MIT */
/* The audit of all primaries of a cluster: what it counts, how it goes on, and what it says of a cluster that changes. */
#include "server/cluster.h"

#include "audit.h"
#include "base/alloc.h"
#include "support/refused_memory.h"

enum { FEW = 60, REFUSALS_MAX = 3000 };
enum { MINE = USERS + SESSIONS + MISC };

/* Keys. */

static void put(redmoon_pipeline *p, const char *const *argv) {
  int argc = 0;
  redmoon_error err;
  while (argv[argc] != NULL) argc++;
  if (redmoon_pipeline_command(p, argc, argv, NULL, &err) < 0) fail_msg("%s", err.message);
}

/* `user` for ever, `sess` with 1,200 s, `misc` lists for ever: of every node about a third. */
static void fill_cluster(redmoon_client *client) {
  redmoon_pipeline *p;
  redmoon_error err;
  char key[32], value[200];
  memset(value, 'x', sizeof value);
  assert_int_equal(redmoon_pipeline_new(client, &p, &err), 0);
  for (int i = 0; i < MINE; i++) {
    snprintf(key, sizeof key, "%s:%d", i < USERS ? "user" : i < USERS + SESSIONS ? "sess" : "misc", i);
    value[i % 199] = '\0';
    if (i < USERS) put(p, ARGV("SET", key, value));
    else if (i < USERS + SESSIONS) put(p, ARGV("SET", key, "v", "PX", "1200000"));
    else put(p, ARGV("RPUSH", key, "a", "b"));
    value[i % 199] = 'x';
  }
  if (redmoon_pipeline_run(p, &err) != 0) fail_msg("%s", err.message);
  for (size_t i = 0; i < MINE; i++) assert_int_not_equal(redmoon_reply_type(redmoon_pipeline_result(p, i).reply), REDMOON_ERROR);
  redmoon_pipeline_free(p);
}

static double usage_on(clustered *f, int node) {
  static const char sum[] = "local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do "
                            "n = n + redis.call('MEMORY', 'USAGE', k, 'SAMPLES', 0) end return n";
  redmoon_reply *reply = cluster_ask(f->cluster, node, "EVAL", sum, "0", NULL);
  double usage = (double)redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return usage;
}

static int64_t size_of(clustered *f, int node) {
  redmoon_reply *reply = cluster_ask(f->cluster, node, "DBSIZE", NULL);
  int64_t size = redmoon_reply_integer(reply);
  redmoon_reply_free(reply);
  return size;
}

static const redmoon_audit_node *node_of(const redmoon_audit_report *report, int port) {
  char address[32];
  snprintf(address, sizeof address, "127.0.0.1:%d", port);
  for (size_t i = 0; i < redmoon_audit_report_node_count(report); i++)
    if (strcmp(redmoon_audit_report_node(report, i)->address, address) == 0) return redmoon_audit_report_node(report, i);
  return NULL;
}

static redmoon_audit_options page_by_page(void) {
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 100;
  return options;
}

/* A cluster that stands still. */

static void keys_of_all_primaries_are_counted_once(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  redmoon_audit_options options = page_by_page();
  options.sample_ppm = 1000000;
  redmoon_audit_report *report = audited(f->client, &options);
  const redmoon_audit_group *user = group_of(report, "user"), *sess = group_of(report, "sess"), *misc = group_of(report, "misc"),
                            *total = redmoon_audit_report_total(report);
  assert_int_equal(user->keys, USERS);
  assert_int_equal(user->no_ttl, USERS);
  assert_int_equal(sess->keys, SESSIONS);
  assert_int_equal(sess->no_ttl, 0);
  assert_int_equal(misc->types[1], MISC);
  assert_int_equal(total->keys, MINE);
  assert_int_equal(total->no_ttl, USERS + MISC);
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  assert_true(summary->complete && summary->moved == 0 && summary->errors == 0 && summary->repeats == 0);
  assert_int_equal(summary->server_keys, MINE);
  assert_int_equal(summary->server_keys_end, MINE);
  assert_int_equal(summary->server_expires, SESSIONS);
  assert_string_equal(summary->role, "master");
  double usage = 0;
  int64_t used = 0;
  assert_int_equal(redmoon_audit_report_node_count(report), PRIMARIES);
  for (int i = 0; i < PRIMARIES; i++) {
    const redmoon_audit_node *node = node_of(report, cluster_port(f->cluster, i));
    assert_non_null(node);
    assert_int_equal(node->state, REDMOON_AUDIT_NODE_SEEN);
    assert_int_equal(node->keys, size_of(f, i));
    assert_true(node->keys > MINE / 5 && node->keys_end == node->keys && node->maxclients > 0);
    usage += usage_on(f, i);
    used += node->used_memory;
  }
  assert_true(total->bytes == usage && total->bytes_low == usage && total->bytes_high == usage);
  assert_int_equal(summary->used_memory, used);
  assert_null(redmoon_audit_report_node(report, PRIMARIES));
  assert_int_equal(atomic_load(&f->redirects), 0);
  assert_true(warning_of(report, "node_changed") == NULL && warning_of(report, "slots_moved") == NULL);
  redmoon_audit_report_free(report);
}

static void estimates_hold_over_all_nodes(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  redmoon_audit_options options = page_by_page();
  options.sample_ppm = 200000;
  redmoon_audit_report *report = audited(f->client, &options);
  const redmoon_audit_group *total = redmoon_audit_report_total(report);
  double usage = 0;
  for (int i = 0; i < PRIMARIES; i++) usage += usage_on(f, i);
  assert_true(total->bytes_low <= usage && usage <= total->bytes_high);
  assert_true(total->bytes_high - total->bytes_low > 1 && total->bytes_high < 1.2 * usage);
  redmoon_audit_report_free(report);
}

static void settings_are_warned_of_by_node(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  redmoon_audit_report *report = audited(f->client, NULL);
  const redmoon_audit_warning *warning = warning_of(report, "memory_unlimited");
  assert_non_null(warning);
  assert_non_null(strstr(warning->message, "all 3 nodes: "));
  int64_t pool_size = redmoon_audit_report_summary(report)->pool_size;
  redmoon_audit_report_free(report);

  redmoon_reply_free(cluster_ask(f->cluster, 1, "CONFIG", "SET", "maxmemory", "500mb", NULL));
  redmoon_reply_free(cluster_ask(f->cluster, 1, "CONFIG", "SET", "maxmemory-policy", "volatile-lru", NULL));
  redmoon_reply_free(cluster_ask(f->cluster, 2, "CONFIG", "SET", "maxclients", "900", NULL));
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.processes = 1000 / pool_size; /* 1,000 connections */
  report = audited(f->client, &options);
  char address[32];
  snprintf(address, sizeof address, "127.0.0.1:%d: ", cluster_port(f->cluster, 1));
  warning = warning_of(report, "eviction_policy");
  assert_true(warning != NULL && strncmp(warning->message, address, strlen(address)) == 0);
  warning = warning_of(report, "memory_unlimited");
  assert_true(warning != NULL && strstr(warning->message, " and 1 more: ") != NULL);
  snprintf(address, sizeof address, "127.0.0.1:%d: ", cluster_port(f->cluster, 2));
  warning = warning_of(report, "maxclients");
  assert_true(warning != NULL && strncmp(warning->message, address, strlen(address)) == 0);
  const redmoon_audit_summary *summary = redmoon_audit_report_summary(report);
  assert_int_equal(summary->maxclients, 900);
  assert_string_equal(summary->maxmemory_policy, "mixed");
  assert_int_equal(summary->maxmemory, 0);
  redmoon_audit_report_free(report);
  redmoon_reply_free(cluster_ask(f->cluster, 1, "CONFIG", "SET", "maxmemory", "0", NULL));
  redmoon_reply_free(cluster_ask(f->cluster, 1, "CONFIG", "SET", "maxmemory-policy", "noeviction", NULL));
  redmoon_reply_free(cluster_ask(f->cluster, 2, "CONFIG", "SET", "maxclients", "10000", NULL));
}

/* Begun, saved and resumed, and fixed, while the `at`-th request for memory is refused; then to the end with memory. */
static int refused_once(clustered *f, gate *g, long at, bool *refused) {
  redmoon_audit_options options = page_by_page();
  redmoon_audit_fix_options fixing = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  redmoon_audit *audit = NULL, *rest = NULL;
  redmoon_audit_fix *fix = NULL;
  redmoon_audit_report *report = NULL;
  redmoon_error err;
  void *saved = NULL;
  fixing.match = "few:*";
  fixing.ttl_ms = 1000000;
  gate_set(g, GATE_ONCE, at);
  int rc = redmoon_audit_new(f->client, &options, &audit, &err);
  if (rc == 0) rc = redmoon_audit_next(audit, &err);
  if (rc == 0) rc = redmoon_audit_save(audit, &saved, &options.resume_len, &err);
  options.resume = saved;
  if (rc == 0) rc = redmoon_audit_new(f->client, &options, &rest, &err);
  if (rc == 0) rc = redmoon_audit_run(rest, &err);
  if (rc == 0) rc = redmoon_audit_report_new(rest, &report, &err);
  if (rc == 0) rc = redmoon_audit_fix_new(f->client, &fixing, &fix, &err);
  while (rc == 0 && !redmoon_audit_fix_done(fix)) rc = redmoon_audit_fix_next(fix, &err);
  *refused = atomic_load(&g->refused) > 0;
  gate_set(g, GATE_OPEN, 0);
  redmoon_audit_report_free(report);
  if (rc != 0 && rc != REDMOON_ENOMEM) fail_msg("request %ld: %s: %s", at, err.code, err.message);
  redmoon_audit *any = rest != NULL ? rest : audit;
  if (any != NULL) {
    run(any);
    report = report_of(any);
    assert_int_equal(redmoon_audit_report_total(report)->keys, FEW);
    assert_int_equal(redmoon_audit_report_node_count(report), PRIMARIES);
    assert_null(warning_of(report, "node_changed"));
    redmoon_audit_report_free(report);
  }
  if (fix != NULL) {
    redmoon_audit_fix_counts counts;
    while (!redmoon_audit_fix_done(fix)) assert_int_equal(redmoon_audit_fix_next(fix, NULL), 0);
    redmoon_audit_fix_counts_get(fix, &counts);
    assert_int_equal(counts.fixed, FEW);
  }
  redmoon_audit_fix_free(fix);
  redmoon_free(saved);
  redmoon_audit_free(audit);
  redmoon_audit_free(rest);
  return rc;
}

static void refused_memory_loses_no_key(void **state) {
  clustered *f = *state;
  char key[32];
  gate g = {0};
  bool refused = true;
  long at = 0, failed = 0;
  for (int i = 0; i < FEW; i++) {
    snprintf(key, sizeof key, "few:%d", i);
    redmoon_reply_free(ask(f->client, "SET", key, "v", NULL));
  }
  rm_alloc_set_refuse(gate_refuses, &g);
  while (refused && at < REFUSALS_MAX) failed += refused_once(f, &g, ++at, &refused) != 0;
  rm_alloc_set_refuse(NULL, NULL);
  assert_false(refused);
  assert_true(failed > 20);
  print_message("%ld failure points, %ld gave NOMEM\n", at - 1, failed);
}

/* Page by page until one node is through and the next one is under way. */
static redmoon_audit *in_the_second_node(clustered *f) {
  redmoon_audit_options options = page_by_page();
  redmoon_audit *audit = begin(f->client, &options);
  double share = 0;
  while (audit->nodes.turn != 2 || strcmp(audit->cursor, "0") == 0) {
    redmoon_audit_progress progress;
    redmoon_error err;
    assert_false(redmoon_audit_done(audit));
    if (redmoon_audit_next(audit, &err) != 0) fail_msg("%s", err.message);
    redmoon_audit_progress_get(audit, &progress);
    assert_true(progress.share >= share && progress.share < 1);
    assert_in_range(progress.left, 1, MINE);
    share = progress.share;
  }
  assert_int_equal(audit->nodes.list[0].state, RM_AUDIT_NODE_SEEN);
  assert_true(share > 1.0 / 5 && share < 0.8);
  return audit;
}

static redmoon_audit *resumed(redmoon_client *client, const redmoon_audit *audit, redmoon_error *err) {
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  void *bytes;
  size_t len;
  redmoon_audit *other = NULL;
  assert_int_equal(redmoon_audit_save(audit, &bytes, &len, NULL), 0);
  options.resume = bytes;
  options.resume_len = len;
  int rc = redmoon_audit_new(client, &options, &other, err);
  redmoon_free(bytes);
  assert_int_equal(rc, err->status);
  return other;
}

static void assert_same_groups(const redmoon_audit_report *a, const redmoon_audit_report *b) {
  assert_int_equal(redmoon_audit_report_count(a), redmoon_audit_report_count(b));
  for (size_t i = 0; i <= redmoon_audit_report_count(a); i++) {
    bool last = i == redmoon_audit_report_count(a);
    const redmoon_audit_group *x = last ? redmoon_audit_report_total(a) : redmoon_audit_report_group(a, i);
    const redmoon_audit_group *y = last ? redmoon_audit_report_total(b) : redmoon_audit_report_group(b, i);
    assert_int_equal(x->prefix_len, y->prefix_len);
    assert_memory_equal(x->prefix, y->prefix, x->prefix_len);
    assert_true(x->keys == y->keys && x->no_ttl == y->no_ttl && x->sampled == y->sampled);
    assert_true(x->bytes == y->bytes && x->bytes_low == y->bytes_low && x->bytes_high == y->bytes_high);
    assert_memory_equal(x->types, y->types, sizeof x->types);
    assert_memory_equal(x->ttl_histogram, y->ttl_histogram, sizeof x->ttl_histogram);
  }
}

static void audit_resumed_in_the_second_node_gives_the_same_report(void **state) {
  clustered *f = *state;
  redmoon_error err;
  fill_cluster(f->client);
  redmoon_audit_report *whole = audited(f->client, NULL);
  redmoon_audit *audit = in_the_second_node(f);
  redmoon_client *client = clustered_open(cluster_url(f->cluster), NULL);
  redmoon_audit *other = resumed(client, audit, &err);
  assert_non_null(other);
  redmoon_audit_free(audit);
  int64_t pages = other->pages;
  run(other);
  assert_true(redmoon_audit_done(other));
  redmoon_audit_report *report = report_of(other);
  assert_same_groups(whole, report);
  assert_int_equal(redmoon_audit_report_total(report)->keys, MINE);
  assert_int_equal(redmoon_audit_report_summary(report)->repeats, 0); /* nothing was scanned again */
  assert_true(redmoon_audit_report_summary(report)->pages > pages);
  assert_null(warning_of(report, "node_changed"));
  redmoon_audit_report_free(report);
  redmoon_audit_report_free(whole);
  redmoon_audit_free(other);
  redmoon_client_close(client);
}

static void state_of_a_cluster_is_none_of_a_single_server(void **state) {
  clustered *f = *state;
  redmoon_error err;
  fill_cluster(f->client);
  redmoon_audit *audit = in_the_second_node(f);
  assert_null(resumed(cluster_client(f->cluster, 0), audit, &err));
  assert_int_equal(err.status, REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "one of a cluster"));
  redmoon_audit_free(audit);
  audit = begin(cluster_client(f->cluster, 0), NULL);
  assert_int_equal(redmoon_audit_next(audit, &err), 0);
  assert_null(resumed(f->client, audit, &err));
  assert_non_null(strstr(err.message, "one of a single server"));
  redmoon_audit_free(audit);
}

/* A cluster that changes. */

static void keys_under_way_to_another_node_are_counted_as_moved(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  int slot = rm_slot_of("user:7", 6), from = cluster_primary_of(f->cluster, slot), to = (from + 1) % PRIMARIES;
  cluster_begin_move(f->cluster, slot, to);
  size_t moved = cluster_move_keys(f->cluster, slot, 1000); /* where they are now, SCAN gives them, and PTTL sends elsewhere */
  assert_true(moved > 0);
  redmoon_audit_report *report = audited(f->client, NULL);
  assert_int_equal(redmoon_audit_report_summary(report)->moved, moved);
  assert_int_equal(redmoon_audit_report_total(report)->keys, MINE - (int64_t)moved);
  assert_int_equal(redmoon_audit_report_summary(report)->errors, 0);
  const redmoon_audit_warning *warning = warning_of(report, "slots_moved");
  assert_true(warning != NULL && warning->keys == (int64_t)moved && warning->level == REDMOON_AUDIT_WARNING);
  redmoon_audit_report_free(report);
  cluster_end_move(f->cluster, slot);
  cluster_move_slot(f->cluster, slot, from);
  cluster_await_ok(f->cluster);
}

static void slot_that_moves_to_a_node_already_seen_is_said(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  redmoon_audit *audit = in_the_second_node(f);
  int ports[PRIMARIES], seen = -1;
  for (int i = 0; i < PRIMARIES; i++) {
    char address[32];
    ports[i] = cluster_port(f->cluster, i);
    snprintf(address, sizeof address, "127.0.0.1:%d", ports[i]);
    if (strcmp(address, audit->nodes.list[0].name) == 0) seen = i;
  }
  assert_true(seen >= 0);
  int slot = rm_slot_of("user:7", 6), from = cluster_primary_of(f->cluster, slot);
  int to = from == seen ? (seen + 1) % PRIMARIES : seen;
  cluster_move_slot(f->cluster, slot, to);
  cluster_await_ok(f->cluster);
  run(audit);
  redmoon_audit_report *report = report_of(audit);
  assert_non_null(warning_of(report, "slots_moved"));
  redmoon_audit_report_free(report);
  redmoon_audit_free(audit);
  cluster_move_slot(f->cluster, slot, from);
  cluster_await_ok(f->cluster);
}

/* Its replica takes its place; returns the number of that. */
static int replace(clustered *f, const char *address, int *old) {
  char own[32];
  *old = -1;
  for (int i = 0; i < cluster_count(f->cluster); i++) {
    snprintf(own, sizeof own, "127.0.0.1:%d", cluster_port(f->cluster, i));
    if (strcmp(own, address) == 0) *old = i;
  }
  assert_true(*old >= 0);
  cluster_await_ok(f->cluster);
  int replica = cluster_replica_of(f->cluster, *old);
  cluster_promote(f->cluster, replica);
  return replica;
}

static void assert_all_found(clustered *f, redmoon_audit *audit, int old, int replica) {
  run(audit);
  assert_true(redmoon_audit_done(audit));
  redmoon_audit_report *report = report_of(audit);
  assert_int_equal(redmoon_audit_report_total(report)->keys, MINE);
  assert_int_equal(redmoon_audit_report_total(report)->no_ttl, USERS + MISC);
  assert_int_equal(redmoon_audit_report_summary(report)->server_keys, MINE);
  assert_non_null(warning_of(report, "node_changed"));
  assert_int_equal(node_of(report, cluster_port(f->cluster, old))->state, REDMOON_AUDIT_NODE_LEFT);
  assert_int_equal(node_of(report, cluster_port(f->cluster, replica))->state, REDMOON_AUDIT_NODE_SEEN);
  redmoon_audit_report_free(report);
}

static void node_that_is_replaced_is_said_and_its_keys_are_found(void **state) {
  clustered *f = *state;
  int old;
  fill_cluster(f->client);
  redmoon_audit_options options = REDMOON_AUDIT_OPTIONS_INIT;
  options.count = 10000;
  redmoon_audit *audit = begin(f->client, &options); /* a page for each node: the last one answers its only one as a replica */
  for (int i = 0; i < PRIMARIES - 1; i++) assert_int_equal(redmoon_audit_next(audit, NULL), 0);
  assert_int_equal(audit->nodes.turn, PRIMARIES);
  int replica = replace(f, audit->nodes.list[PRIMARIES - 1].name, &old);
  assert_all_found(f, audit, old, replica);
  redmoon_audit_free(audit);

  audit = in_the_second_node(f); /* and in the midst */
  replica = replace(f, audit->nodes.list[1].name, &old);
  assert_all_found(f, audit, old, replica);
  assert_true(audit->repeats > 0); /* of the pages before */
  redmoon_audit_free(audit);
}

/* Another cluster, in which a dead primary is noticed within a second or two. */
static void audit_that_failed_with_a_primary_goes_on_with_its_replica(void **state) {
  (void)state;
  const cluster_options quick = {.node_timeout_ms = 1000};
  clustered f = {.cluster = cluster_start(&quick)};
  f.client = clustered_open(cluster_url(f.cluster), NULL);
  fill_cluster(f.client);
  for (int i = 0; i < PRIMARIES; i++) redmoon_reply_free(cluster_ask(f.cluster, i, "WAIT", "1", "30000", NULL));
  redmoon_audit *audit = in_the_second_node(&f);
  int old = -1, slot = 0, tries = 0;
  char address[32];
  redmoon_error err;
  for (int i = 0; i < PRIMARIES; i++) {
    snprintf(address, sizeof address, "127.0.0.1:%d", cluster_port(f.cluster, i));
    if (strcmp(address, audit->nodes.list[1].name) == 0) old = i;
  }
  assert_true(old >= 0);
  while (cluster_primary_of(f.cluster, slot) != old) slot += 1000;
  cluster_kill(f.cluster, old);
  assert_int_not_equal(redmoon_audit_run(audit, &err), 0);
  int replica = cluster_await_failover(f.cluster, slot, old);
  redmoon_audit *other = resumed(f.client, audit, &err);
  assert_non_null(other);
  while (redmoon_audit_run(other, &err) != 0) /* until the client has looked at the cluster again */
    if (++tries == 100) fail_msg("%s: %s", err.code, err.message);
  assert_all_found(&f, other, old, replica);
  redmoon_audit_free(other);
  redmoon_audit_free(audit);
  redmoon_client_close(f.client);
  cluster_stop(f.cluster);
}

/* The fix. */

static int64_t fix_all(clustered *f, int dry, redmoon_audit_fixed *fixed, char (*names)[32]) {
  redmoon_audit_fix_options options = REDMOON_AUDIT_FIX_OPTIONS_INIT;
  redmoon_audit_fix *fix;
  redmoon_error err;
  int64_t count = 0;
  double share = 0;
  options.match = "*";
  options.ttl_ms = 1000000;
  options.dry_run = dry;
  options.count = 100;
  assert_int_equal(redmoon_audit_fix_new(f->client, &options, &fix, &err), 0);
  redmoon_audit_fix_counts counts;
  while (!redmoon_audit_fix_done(fix)) {
    if (redmoon_audit_fix_next(fix, &err) != 0) fail_msg("%s", err.message);
    size_t len;
    const redmoon_audit_fixed *page = redmoon_audit_fix_page(fix, &len);
    for (size_t i = 0; i < len; i++, count++) {
      fixed[count] = page[i];
      snprintf(names[count], sizeof names[count], "%.*s", (int)page[i].key_len, (const char *)page[i].key);
    }
    redmoon_audit_fix_counts_get(fix, &counts);
    assert_true(counts.share >= share);
    share = counts.share;
  }
  assert_int_equal(counts.seen, MINE);
  assert_int_equal(counts.fixed, count);
  assert_true(counts.errors == 0 && counts.raced == 0 && counts.share == 1);
  redmoon_audit_fix_free(fix);
  return count;
}

static int64_t immortals(clustered *f) {
  redmoon_audit_report *report = audited(f->client, NULL);
  int64_t count = redmoon_audit_report_total(report)->no_ttl;
  assert_int_equal(redmoon_audit_report_total(report)->keys, MINE);
  redmoon_audit_report_free(report);
  return count;
}

static void fix_reaches_keys_of_all_nodes_and_can_be_undone(void **state) {
  clustered *f = *state;
  fill_cluster(f->client);
  redmoon_audit_fixed *fixed = calloc(MINE, sizeof *fixed);
  char(*names)[32] = calloc(MINE, sizeof *names);
  assert_true(fixed != NULL && names != NULL);
  assert_int_equal(fix_all(f, 1, fixed, names), USERS + MISC);
  assert_int_equal(immortals(f), USERS + MISC);
  int64_t count = fix_all(f, 0, fixed, names);
  assert_int_equal(count, USERS + MISC);
  assert_int_equal(immortals(f), 0);
  for (int64_t i = 0; i < count; i++) {
    int undone = 0;
    assert_int_equal(redmoon_audit_undo(f->client, names[i], strlen(names[i]), fixed[i].expires_ms, &undone, NULL), 0);
    assert_int_equal(undone, 1);
  }
  assert_int_equal(immortals(f), USERS + MISC);
  free(names);
  free(fixed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      CLUSTER_TEST(keys_of_all_primaries_are_counted_once),
      CLUSTER_TEST(estimates_hold_over_all_nodes),
      CLUSTER_TEST(settings_are_warned_of_by_node),
      CLUSTER_TEST(refused_memory_loses_no_key),
      CLUSTER_TEST(audit_resumed_in_the_second_node_gives_the_same_report),
      CLUSTER_TEST(state_of_a_cluster_is_none_of_a_single_server),
      CLUSTER_TEST(keys_under_way_to_another_node_are_counted_as_moved),
      CLUSTER_TEST(slot_that_moves_to_a_node_already_seen_is_said),
      CLUSTER_TEST(fix_reaches_keys_of_all_nodes_and_can_be_undone),
      cmocka_unit_test(audit_that_failed_with_a_primary_goes_on_with_its_replica),
      /* the last one: afterwards the nodes have other roles */
      cmocka_unit_test_setup_teardown(node_that_is_replaced_is_said_and_its_keys_are_found, clustered_enter_3, clustered_leave),
  };
  return cmocka_run_group_tests_name("audit of a cluster", tests, clustered_start, clustered_stop);
}
