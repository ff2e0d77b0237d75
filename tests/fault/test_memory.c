/* SPDX-License-Identifier: MIT */
/* Every request for memory of a scenario is refused: the N-th alone, then the N-th and all later ones, N = 1, 2,
 * ... until the scenario asks for no more.  Each time it ends well or with NOMEM, the pool's counts are exact, no
 * descriptor stays open, what was written agrees with the outcome, and the next call works.  Leaks are ASan's to
 * find. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "support/ask.h"
#include "base/clock.h"
#include "support/certs.h"
#include "support/redis_server.h"
#include "wire/reader.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <redmoon/redmoon.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 3000, PATIENCE = 2000 /* times 10 ms */ };

/* The gate. */

typedef enum gate_mode { GATE_OPEN, GATE_ONCE, GATE_FROM_THEN_ON } gate_mode;

/* Asked by the keeper and the resolver too, hence atomic. */
typedef struct gate {
  atomic_int mode;
  atomic_long asked, at, refused;
} gate;

static bool refuses(void *ctx, size_t size) {
  (void)size;
  gate *g = ctx;
  int mode = atomic_load(&g->mode);
  if (mode == GATE_OPEN) return false;
  long number = atomic_fetch_add(&g->asked, 1) + 1, at = atomic_load(&g->at);
  if (mode == GATE_ONCE ? number != at : number < at) return false;
  atomic_fetch_add(&g->refused, 1);
  return true;
}

static void gate_set(gate *g, gate_mode mode, long at) {
  atomic_store(&g->asked, 0);
  atomic_store(&g->refused, 0);
  atomic_store(&g->at, at);
  atomic_store(&g->mode, (int)mode);
}

/* What the scenarios act on. */

typedef struct world {
  gate gate;
  redis_server *server;
  redmoon_client *client; /* fresh for each run */
  redmoon_script *script;
  char tag[32]; /* of this run; names what it writes */
  bool queued;  /* the transaction's body came to its end */
  int took;     /* how many of its calls the pattern has done; -1: there was no pattern */
  int counted;  /* and how many of its three the counter; -1: there was no counter */
} world;

typedef struct scenario {
  const char *name;
  int (*run)(world *w, redmoon_error *err);
  /* Whether what was written agrees with the status; NULL: nothing to look at. */
  void (*check)(world *w, int status, const redmoon_error *err);
  bool dials_itself; /* opens clients of its own */
} scenario;

static int start(void **state) {
  rm_alloc_set_refuse(NULL, NULL); /* a test that failed may have left its own */
  const certs *c = certs_get();
  world *w = calloc(1, sizeof *w);
  if (c == NULL || w == NULL) return -1;
  *state = w;
  rm_testing_route_hiredis_memory();
  redis_server_options options = {
      .tcp = true, .tls_cert = c->good.cert, .tls_key = c->good.key, .tls_ca = c->ca_file};
  w->server = redis_server_start(&options);
  static const char source[] = "redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], {ARGV[1], 7}}";
  redmoon_error err;
  if (redmoon_script_new(source, sizeof source - 1, &w->script, &err) != 0 ||
      redmoon_client_open(redis_server_url(w->server), NULL, &w->client, &err) != 0)
    return -1;
  redmoon_reply_free(ask(w->client, "EVAL",
                         "for i = 1, 100 do redis.call('HSET', 'hash', 'field' .. i, ('v'):rep(i)) "
                         "redis.call('RPUSH', 'list', i) redis.call('SADD', 'set', i) end",
                         "0", NULL));
  redmoon_client_close(w->client);
  w->client = NULL;
  rm_alloc_set_refuse(refuses, &w->gate);
  return 0;
}

static int stop(void **state) {
  world *w = *state;
  rm_alloc_set_refuse(NULL, NULL);
  redmoon_client_close(w->client);
  redmoon_script_unref(w->script);
  redis_server_stop(w->server);
  free(w);
  return 0;
}

static size_t count_entries(const char *path) {
  DIR *dir = opendir(path);
  assert_non_null(dir);
  size_t count = 0;
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}

static size_t descriptors(void) { return count_entries("/proc/self/fd"); }

/* An abandoned resolver's thread closes what it holds in its own time. */
static void await_descriptors(size_t expected, const char *name, long at) {
  for (int i = 0; descriptors() != expected; i++) {
    if (i == PATIENCE)
      fail_msg("%s, request %ld: %zu descriptors, expected %zu", name, at, descriptors(), expected);
    poll(NULL, 0, 10);
  }
}

static void check_pool(world *w, const char *name, long at) {
  redmoon_stats stats;
  redmoon_client_stats(w->client, &stats);
  if (stats.in_use != 0 || stats.waiting != 0 || stats.total != stats.idle)
    fail_msg("%s, request %ld: in_use %d, waiting %d, total %d, idle %d", name, at, (int)stats.in_use,
             (int)stats.waiting, (int)stats.total, (int)stats.idle);
}

static void open_client(world *w) {
  redmoon_error err;
  if (redmoon_client_open(redis_server_url(w->server), NULL, &w->client, &err) != 0) fail_msg("%s", err.message);
}

static void check_next_call(world *w) {
  char answer[64];
  ask_text(w->client, answer, sizeof answer, "ECHO", w->tag, NULL);
  assert_string_equal(answer, w->tag);
}

/* One run with request `at` refused.  Returns its status; *refused says whether anything was. */
static int run_once(world *w, const scenario *s, bool warm, gate_mode mode, long at, bool *refused) {
  redmoon_error err = {0};
  size_t before = descriptors();
  open_client(w);
  if (warm) {
    snprintf(w->tag, sizeof w->tag, "warm:%d:%ld", (int)mode, at);
    if (s->run(w, &err) != 0) fail_msg("%s: %s", s->name, err.message);
  }
  snprintf(w->tag, sizeof w->tag, "%s:%d:%ld", warm ? "then" : "cold", (int)mode, at);
  gate_set(&w->gate, mode, at);
  int status = s->run(w, &err);
  *refused = atomic_load(&w->gate.refused) > 0;
  gate_set(&w->gate, GATE_OPEN, 0);
  if (status != 0 && status != REDMOON_ENOMEM)
    fail_msg("%s, request %ld, mode %d: status %d: %s", s->name, at, (int)mode, status, err.message);
  if (status != 0 && (err.status != REDMOON_ENOMEM || strcmp(err.code, "NOMEM") != 0 || err.message[0] == '\0'))
    fail_msg("%s, request %ld: the error says %s: %s", s->name, at, err.code, err.message);
  check_pool(w, s->name, at);
  if (s->check != NULL) s->check(w, status, &err);
  check_next_call(w);
  check_pool(w, s->name, at);
  redmoon_client_close(w->client);
  w->client = NULL;
  await_descriptors(before, s->name, at);
  return status;
}

static void squeeze(world *w, const scenario *s, bool warm, gate_mode mode) {
  long refusals = 0;
  for (long at = 1; at <= MOST; at++) {
    bool refused;
    int status = run_once(w, s, warm, mode, at, &refused);
    if (!refused) {
      assert_int_equal(status, 0);
      print_message("%s, %s, %s: %ld failure points, %ld gave NOMEM\n", s->name, warm ? "warm" : "cold",
                    mode == GATE_ONCE ? "once" : "from then on", at - 1, refusals);
      assert_true(refusals > 0);
      return;
    }
    refusals += status == REDMOON_ENOMEM;
  }
  fail_msg("%s: still refused after %d requests", s->name, MOST);
}

static void squeeze_all(world *w, const scenario *s) {
  for (int warm = 0; warm <= (s->dials_itself ? 0 : 1); warm++) {
    squeeze(w, s, warm == 1, GATE_ONCE);
    squeeze(w, s, warm == 1, GATE_FROM_THEN_ON);
  }
}

/* Connect. */

static int ping(redmoon_client *client, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  int rc = redmoon_command(client, 1, (const char *[]){"PING"}, NULL, &reply, err);
  if (rc != 0) assert_null(reply);
  redmoon_reply_free(reply);
  return rc;
}

static int open_and_ping(const char *url, const redmoon_options *options, redmoon_error *err) {
  redmoon_client *client = NULL;
  int rc = redmoon_client_open(url, options, &client, err);
  if (rc != 0) {
    assert_null(client);
    return rc;
  }
  rc = ping(client, err);
  redmoon_stats stats;
  int64_t patience_us = rm_clock_now_us() + 20000000;
  do redmoon_client_stats(client, &stats); /* the keeper holds what it has just dialled for a moment */
  while (options != NULL && options->min_idle > 0 && stats.in_use > 0 && rm_clock_now_us() < patience_us);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.waiting, 0);
  redmoon_client_close(client);
  return rc;
}

static int connect_by_path(world *w, redmoon_error *err) {
  char url[512];
  snprintf(url, sizeof url, "unix://default:any%%20thing@%s?database=3&client_name=n&key_prefix=p",
           redis_server_path(w->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.read_from = "primary";
  return open_and_ping(url, &options, err);
}

static int connect_by_name(world *w, redmoon_error *err) {
  char url[128];
  snprintf(url, sizeof url, "redis://localhost:%d/1?protocol=2", redis_server_port(w->server));
  return open_and_ping(url, NULL, err);
}

static int connect_by_tls(world *w, redmoon_error *err) {
  char url[128];
  snprintf(url, sizeof url, "rediss://127.0.0.1:%d", redis_server_tls_port(w->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.tls.ca_file = certs_get()->ca_file;
  options.tls.server_name = "localhost";
  return open_and_ping(url, &options, err);
}

static int say_password(void *ctx, char username[256], char password[4096]) {
  (void)ctx;
  memcpy(username, "default", 8);
  memcpy(password, "anything", 9);
  return 0;
}

/* The keeper dials too; what it is refused is nobody's error. */
static int connect_with_keeper(world *w, redmoon_error *err) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.min_idle = 2;
  options.credentials = say_password;
  return open_and_ping(redis_server_url(w->server), &options, err);
}

/* Commands. */

static int command_set(world *w, redmoon_error *err) {
  redmoon_reply *reply = NULL;
  const char *argv[] = {"SET", w->tag, "value"};
  int rc = redmoon_command(w->client, 3, argv, NULL, &reply, err);
  if (rc != 0) assert_null(reply);
  redmoon_reply_free(reply);
  return rc;
}

static bool exists(world *w, const char *suffix) {
  char key[64];
  snprintf(key, sizeof key, "%s%s", w->tag, suffix);
  return ask_integer(w->client, "EXISTS", key, NULL) == 1;
}

/* An outcome is a promise about the data. */
static void agrees(world *w, int status, const redmoon_error *err, const char *suffix) {
  if (status == 0 || err->outcome == REDMOON_ANSWERED) assert_true(exists(w, suffix));
  else if (err->outcome == REDMOON_NOT_SENT) assert_false(exists(w, suffix));
}

static void check_set(world *w, int status, const redmoon_error *err) { agrees(w, status, err, ""); }

static int command_large_replies(world *w, redmoon_error *err) {
  redmoon_reply *hash = NULL, *list = NULL;
  int rc = redmoon_command(w->client, 2, (const char *[]){"HGETALL", "hash"}, NULL, &hash, err);
  if (rc == 0) {
    assert_int_equal(redmoon_reply_count(hash), 100);
    rc = redmoon_command(w->client, 4, (const char *[]){"LRANGE", "list", "0", "-1"}, NULL, &list, err);
  }
  if (rc == 0) assert_int_equal(redmoon_reply_count(list), 100);
  redmoon_reply_free(hash);
  redmoon_reply_free(list);
  return rc;
}

static int command_resp2(world *w, redmoon_error *err) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.protocol = 2;
  redmoon_client *client = NULL;
  int rc = redmoon_client_open(redis_server_url(w->server), &options, &client, err);
  if (rc != 0) return rc;
  redmoon_reply *reply = NULL;
  rc = redmoon_command(client, 2, (const char *[]){"HGETALL", "hash"}, NULL, &reply, err);
  if (rc == 0) {
    assert_int_equal(redmoon_reply_type(reply), REDMOON_MAP);
    assert_int_equal(redmoon_reply_count(reply), 100);
  }
  redmoon_reply_free(reply);
  redmoon_client_close(client);
  return rc;
}

static redmoon_script_args script_args(const world *w, redmoon_bytes *key, redmoon_bytes *arg) {
  *key = (redmoon_bytes){w->tag, strlen(w->tag)};
  *arg = (redmoon_bytes){"value", 5};
  return (redmoon_script_args){key, 1, arg, 1};
}

enum { PIPELINE_SETS = 50 };

/* Whatever happened, every command has an outcome that its key bears out. */
static void check_results(world *w, redmoon_pipeline *pipeline, int status) {
  gate_mode mode = (gate_mode)atomic_load(&w->gate.mode);
  long at = atomic_load(&w->gate.at), refused = atomic_load(&w->gate.refused);
  atomic_store(&w->gate.mode, GATE_OPEN);
  for (size_t i = 0; i < redmoon_pipeline_count(pipeline) && i < PIPELINE_SETS; i++) {
    redmoon_result result = redmoon_pipeline_result(pipeline, i);
    char suffix[16];
    snprintf(suffix, sizeof suffix, ":%d", (int)i);
    if (status == 0) assert_int_equal(result.outcome, REDMOON_ANSWERED);
    assert_true((result.reply != NULL) == (result.outcome == REDMOON_ANSWERED));
    if (result.outcome == REDMOON_ANSWERED) assert_true(exists(w, suffix));
    if (result.outcome == REDMOON_NOT_SENT) assert_false(exists(w, suffix));
  }
  gate_set(&w->gate, mode, at);
  atomic_store(&w->gate.refused, refused);
}

static int pipeline(world *w, redmoon_error *err) {
  redmoon_pipeline *p = NULL;
  int rc = redmoon_pipeline_new(w->client, &p, err);
  if (rc != 0) {
    assert_null(p);
    return rc;
  }
  size_t added = 0;
  int64_t index = 0;
  for (int i = 0; i < PIPELINE_SETS && index >= 0; i++) {
    char key[64];
    snprintf(key, sizeof key, "%s:%d", w->tag, i);
    index = redmoon_pipeline_command(p, 3, (const char *[]){"SET", key, "value"}, NULL, err);
    added += index >= 0;
  }
  redmoon_bytes key, arg;
  redmoon_script_args args = script_args(w, &key, &arg);
  for (int i = 0; i < 2 && index >= 0; i++) {
    index = redmoon_pipeline_script(p, w->script, &args, err);
    added += index >= 0;
  }
  assert_int_equal(redmoon_pipeline_count(p), added);
  rc = index < 0 ? (int)index : redmoon_pipeline_run(p, err);
  check_results(w, p, rc);
  redmoon_pipeline_free(p);
  return rc;
}

/* A pipeline that was refused a command is sent with the others: a command is wholly in or wholly out. */
static int pipeline_without_refused(world *w, redmoon_error *err) {
  redmoon_pipeline *p = NULL;
  int rc = redmoon_pipeline_new(w->client, &p, err), refused = 0;
  if (rc != 0) return rc;
  bool in[PIPELINE_SETS];
  size_t order[PIPELINE_SETS], added = 0;
  redmoon_bytes key, arg;
  redmoon_script_args args = script_args(w, &key, &arg);
  for (int i = 0; i < PIPELINE_SETS; i++) {
    char text[16];
    snprintf(text, sizeof text, "%d", i);
    int64_t index = i % 5 == 0 ? redmoon_pipeline_script(p, w->script, &args, err)
                               : redmoon_pipeline_command(p, 2, (const char *[]){"ECHO", text}, NULL, err);
    in[i] = index >= 0;
    if (index < 0) refused = (int)index;
    else order[added++] = (size_t)i;
    if (index >= 0) assert_int_equal(index, added - 1);
  }
  rc = redmoon_pipeline_run(p, err);
  for (size_t i = 0; rc == 0 && i < added; i++) {
    const redmoon_reply *reply = redmoon_pipeline_result(p, i).reply;
    assert_true(in[order[i]]);
    if (order[i] % 5 == 0) assert_int_equal(redmoon_reply_count(reply), 2);
    else assert_int_equal(atoi(redmoon_reply_string(reply, NULL)), order[i]);
  }
  redmoon_pipeline_free(p);
  if (rc == 0 && refused != 0) {
    err->status = refused;
    snprintf(err->code, sizeof err->code, "NOMEM");
    snprintf(err->message, sizeof err->message, "a command was refused");
    return refused;
  }
  return rc;
}

/* Transactions and scripts. */

static int body(void *ctx, redmoon_transaction *tx, redmoon_error *err) {
  world *w = ctx;
  redmoon_reply *reply = NULL;
  int rc = redmoon_transaction_command(tx, 2, (const char *[]){"HGETALL", "hash"}, NULL, &reply, err);
  redmoon_reply_free(reply);
  if (rc == 0) rc = redmoon_transaction_multi(tx, err);
  char key[64];
  snprintf(key, sizeof key, "%s:second", w->tag);
  int64_t index = rc;
  if (index == 0) index = redmoon_transaction_queue(tx, 3, (const char *[]){"SET", key, "1"}, NULL, err);
  redmoon_bytes name, arg;
  redmoon_script_args args = script_args(w, &name, &arg);
  if (index >= 0) index = redmoon_transaction_queue_script(tx, w->script, &args, err);
  w->queued = index >= 0;
  return index < 0 ? (int)index : 0;
}

static int transaction(world *w, redmoon_error *err) {
  w->queued = false;
  redmoon_reply *replies = NULL;
  redmoon_bytes keys[] = {{"watched", 7}, {w->tag, strlen(w->tag)}};
  int rc = redmoon_transaction_run(w->client, keys, 2, body, w, NULL, &replies, err);
  if (rc == 0) assert_int_equal(redmoon_reply_count(replies), 2);
  else assert_null(replies);
  redmoon_reply_free(replies);
  return rc;
}

static void check_transaction(world *w, int status, const redmoon_error *err) {
  assert_int_equal(exists(w, ""), exists(w, ":second")); /* all or nothing */
  if (w->queued) agrees(w, status, err, "");             /* else the outcome is that of a read */
  else assert_false(exists(w, ""));
}

static int transaction_abandoned(world *w, redmoon_error *err) {
  redmoon_bytes key = {w->tag, strlen(w->tag)};
  redmoon_transaction *tx = NULL;
  int rc = redmoon_transaction_begin(w->client, &key, 1, NULL, &tx, err);
  if (rc != 0) {
    assert_null(tx);
    return rc;
  }
  rc = redmoon_transaction_abandon(tx, err);
  redmoon_transaction_free(tx);
  return rc;
}

static int script(world *w, redmoon_error *err) {
  redmoon_script *fresh = NULL;
  char source[128];
  snprintf(source, sizeof source, "redis.call('SET', KEYS[1], ARGV[1]) return {'%s', {1, 2.5}}", w->tag);
  int rc = redmoon_script_new(source, strlen(source), &fresh, err);
  if (rc != 0) {
    assert_null(fresh);
    return rc;
  }
  redmoon_bytes key, arg;
  redmoon_script_args args = script_args(w, &key, &arg);
  redmoon_reply *reply = NULL;
  rc = redmoon_script_run(w->client, fresh, &args, &reply, err); /* the server does not know it: EVAL follows */
  if (rc == 0) assert_string_equal(redmoon_reply_string(redmoon_reply_at(reply, 0), NULL), w->tag);
  redmoon_reply_free(reply);
  redmoon_script_unref(fresh);
  return rc;
}

static int scan(world *w, redmoon_error *err) {
  redmoon_scan *it = NULL;
  redmoon_scan_options options = REDMOON_SCAN_OPTIONS_INIT;
  options.match = "*1*";
  options.count = 10;
  int rc = redmoon_scan_new(w->client, REDMOON_SCAN_SET, "set", 3, &options, &it, err);
  if (rc != 0) {
    assert_null(it);
    return rc;
  }
  size_t seen = 0;
  redmoon_reply *page = NULL;
  while ((rc = redmoon_scan_next(it, &page, err)) == 0 && page != NULL) {
    seen += redmoon_reply_count(page);
    redmoon_reply_free(page);
  }
  if (rc == 0) assert_true(seen >= 20);
  redmoon_scan_free(it);
  return rc;
}

/* Patterns and the rest. */

static int give_back(world *w, redmoon_lock *held, redmoon_error *err) {
  int release = redmoon_lock_release(held, err);
  if (release == REDMOON_ENOMEM) { /* safe to repeat, once there is memory */
    gate_mode mode = (gate_mode)atomic_load(&w->gate.mode);
    atomic_store(&w->gate.mode, GATE_OPEN);
    redmoon_error again;
    int repeated = redmoon_lock_release(held, &again);
    /* An answer that could not be read is one to a release that took place. */
    assert_true(repeated == 0 || (repeated == REDMOON_ELOST && err->outcome != REDMOON_NOT_SENT));
    atomic_store(&w->gate.mode, (int)mode);
  }
  redmoon_lock_free(held);
  return release;
}

static int lock(world *w, redmoon_error *err) {
  redmoon_lock *held = NULL;
  int rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), NULL, &held, err);
  if (rc != 0) {
    assert_null(held);
    return rc;
  }
  assert_true(redmoon_lock_held(held));
  redmoon_error release_err;
  rc = redmoon_lock_extend(held, 60000, err);
  int release = give_back(w, held, &release_err);
  if (rc == 0 && release != 0) {
    *err = release_err;
    return release;
  }
  return rc;
}

/* Renewed, asked for by id, waited for by a rival, and held twice. */
static int lock_with_all(world *w, redmoon_error *err) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.renew = 1;
  options.max_hold_ms = 60000;
  char id[sizeof w->tag];
  snprintf(id, sizeof id, "%s", w->tag);
  for (char *at = strchr(id, ':'); at != NULL; at = strchr(at, ':')) *at = '-';
  options.request_id = id;
  redmoon_lock *outer = NULL, *inner = NULL, *rival = NULL;
  int rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &options, &outer, err);
  if (rc != 0) {
    assert_null(outer);
    return rc;
  }
  redmoon_lock_options again = REDMOON_LOCK_OPTIONS_INIT, waits = REDMOON_LOCK_OPTIONS_INIT;
  again.token = redmoon_lock_token(outer);
  waits.wait_ms = 15;
  redmoon_error release_err, other;
  rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &waits, &rival, err);
  assert_true(rc == REDMOON_ELOCKED || rc == REDMOON_ENOMEM);
  assert_null(rival);
  if (rc == REDMOON_ELOCKED) rc = redmoon_lock_acquire(w->client, w->tag, strlen(w->tag), &again, &inner, err);
  int release = inner != NULL ? give_back(w, inner, &release_err) : 0;
  int last = give_back(w, outer, release == 0 ? &release_err : &other);
  if (release == 0) release = last;
  if (rc == 0 && release != 0) {
    *err = release_err;
    return release;
  }
  return rc;
}

static void check_lock(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:lock", w->tag);
  if (status == 0) assert_int_equal(ask_integer(w->client, "EXISTS", name, NULL), 0);
}

static int limiter(world *w, redmoon_error *err) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = "sliding_log";
  options.limit = 100;
  options.window_ms = 600000;
  options.name = "memory";
  redmoon_rate_limiter *rl = NULL;
  w->took = -1;
  int rc = redmoon_rate_limiter_new(w->client, &options, &rl, err);
  if (rc != 0) {
    assert_null(rl);
    return rc;
  }
  redmoon_rate_result result;
  w->took = 0;
  redmoon_rate_request request = REDMOON_RATE_REQUEST_INIT;
  request.cost = 3;
  rc = redmoon_rate_limiter_allow(rl, w->tag, strlen(w->tag), &request, &result, err);
  if (rc == 0) assert_int_equal(result.remaining, 97);
  if (rc == 0) w->took = 1;
  if (rc == 0) rc = redmoon_rate_limiter_peek(rl, w->tag, strlen(w->tag), &result, err);
  if (rc == 0) w->took = 2;
  if (rc == 0) rc = redmoon_rate_limiter_reset(rl, w->tag, strlen(w->tag), err);
  if (rc == 0) w->took = 3;
  redmoon_rate_limiter_free(rl);
  return rc;
}

/* So that EVALSHA is followed by EVAL, and its memory is refused too. */
static int limiter_by_source(world *w, redmoon_error *err) {
  char forget[80];
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.log", w->tag); /* of the scenario above */
  free(redis_server_ask(w->server, NULL, forget));
  free(redis_server_ask(w->server, NULL, "SCRIPT FLUSH"));
  return limiter(w, err);
}

/* The log holds the three units from an allow that was done to a reset that was done, and nobody knows between. */
static void check_limiter(world *w, int status, const redmoon_error *err) {
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:memory.log", w->tag);
  int64_t len = ask_integer(w->client, "LLEN", name, NULL);
  assert_int_equal(status == 0, w->took == 3);
  int64_t before = w->took == 1 || w->took == 2 ? 3 : 0, after = w->took == 0 || w->took == 1 ? 3 : 0;
  bool not_done = w->took == 3 || w->took < 0 || err->outcome == REDMOON_NOT_SENT;
  bool done = !not_done && err->outcome == REDMOON_ANSWERED;
  if (not_done ? len != before : done ? len != after : len != before && len != after)
    fail_msg("limiter: after %d of 3 calls, the next %s, the log holds %lld units", w->took,
             redmoon_outcome_name(err->outcome), (long long)len);
}

static int of_redis(int rc, const redmoon_rate_result *result) {
  if (rc == 0 && strcmp(result->source, "error") == 0) fail_msg("a lack of memory was taken for a failure of Redis");
  return rc;
}

/* Everything a limiter decides, by a bucket that has a deny cache; what was refused memory leaks nothing. */
static int decide(redmoon_rate_limiter *bucket, redmoon_rate_limiter *log, const char *tag, redmoon_error *err) {
  redmoon_rate_limiter *both[] = {bucket, log};
  redmoon_rate_limits *limits = NULL;
  redmoon_rate_result result, results[2];
  redmoon_rate_request large = {100, 0, NULL}, once = {3, 1, "once"};
  redmoon_rate_item items[] = {{tag, strlen(tag), REDMOON_RATE_REQUEST_INIT}, {"another", 7, {2, 0, "once"}}};
  int rc = redmoon_rate_limits_new(both, 2, &limits, err);
  size_t len = strlen(tag);
  if (rc == 0) rc = of_redis(redmoon_rate_limits_allow(limits, tag, len, &once, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_allow(bucket, tag, len, &large, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_wait(bucket, tag, len, &large, 0, &result, err), &result);
  if (rc == 0) rc = of_redis(redmoon_rate_limiter_allow_many(bucket, items, 2, results, NULL, err), &results[1]);
  if (rc == 0) rc = redmoon_rate_limiter_refund(bucket, tag, len, 2, "back", &result, err);
  redmoon_rate_limits_free(limits);
  return rc;
}

static int limiter_decisions(world *w, redmoon_error *err) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.algorithm = "gcra";
  options.limit = 100;
  options.window_ms = 600000;
  options.name = "memory-gcra";
  options.deny_cache = 1;
  options.on_error = "deny"; /* of Redis: a lack of memory here is still an error */
  redmoon_rate_limiter *bucket = NULL, *log = NULL;
  int rc = redmoon_rate_limiter_new(w->client, &options, &bucket, err);
  options.algorithm = "sliding_log";
  options.name = "memory-log";
  if (rc == 0) rc = redmoon_rate_limiter_new(w->client, &options, &log, err);
  if (rc == 0) rc = decide(bucket, log, w->tag, err);
  redmoon_rate_limiter_free(bucket);
  redmoon_rate_limiter_free(log);
  return rc;
}

typedef struct memory_record {
  redmoon_bytes text;
  int64_t number;
  double score;
} memory_record;

enum { RECORD_STEPS = 6 };

static int record_step(world *w, redmoon_records *records, int step, redmoon_error *err) {
  size_t len = strlen(w->tag);
  memory_record r = {{w->tag, len}, step + 1, 0.5};
  redmoon_record *loaded = NULL;
  redmoon_record_sum sum;
  int rc;
  switch (step) {
  case 0:
    return redmoon_records_save(records, w->tag, len, &r, NULL, NULL, err);
  case 1:
    return redmoon_records_update(records, w->tag, len, &r, NULL, NULL, err);
  case 2:
    rc = redmoon_records_increment(records, w->tag, len, "number", 5, NULL, &sum, err);
    if (rc == 0) assert_int_equal(sum.integer, 7);
    return rc;
  case 3:
    rc = redmoon_records_load(records, w->tag, len, NULL, 0, &r, &loaded, err);
    assert_int_equal(rc == 0, loaded != NULL);
    if (rc == 0) assert_int_equal(r.number, 7);
    redmoon_record_free(loaded);
    return rc;
  case 4:
    return redmoon_records_touch(records, w->tag, len, NULL, err);
  default:
    return redmoon_records_delete(records, w->tag, len, NULL, err);
  }
}

static int records(world *w, redmoon_error *err) {
  static const redmoon_field fields[] = {REDMOON_FIELD(memory_record, text, REDMOON_STRING),
                                         REDMOON_FIELD(memory_record, number, REDMOON_INTEGER),
                                         REDMOON_FIELD(memory_record, score, REDMOON_DOUBLE)};
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = 3;
  options.ttl_ms = 600000;
  redmoon_records *all = NULL;
  w->took = -1;
  int rc = redmoon_records_new(w->client, "memory", &options, &all, err);
  if (rc != 0) {
    assert_null(all);
    return rc;
  }
  for (w->took = 0; rc == 0 && w->took < RECORD_STEPS;) {
    rc = record_step(w, all, w->took, err);
    if (rc == 0) w->took++;
  }
  redmoon_records_free(all);
  return rc;
}

/* The record is what the calls that were done made of it, and nobody knows only of a call whose outcome is unknown. */
static void check_records(world *w, int status, const redmoon_error *err) {
  static const int64_t after[RECORD_STEPS + 1] = {0, 1, 2, 7, 7, 7, 0}; /* 0: there is none */
  char name[80], text[32] = "0";
  snprintf(name, sizeof name, "redmoon:{%s}:memory.record", w->tag);
  if (ask_text(w->client, text, sizeof text, "HGET", name, "number", NULL) >= 0)
    assert_true(ask_integer(w->client, "PTTL", name, NULL) > 0);
  int64_t number = strtoll(text, NULL, 10);
  int took = w->took < 0 ? 0 : w->took;
  assert_int_equal(status == 0, took == RECORD_STEPS);
  bool next_not_done = took == RECORD_STEPS || w->took < 0 || err->outcome == REDMOON_NOT_SENT;
  bool next_done = !next_not_done && err->outcome == REDMOON_ANSWERED;
  int64_t before = after[took], then = after[took == RECORD_STEPS ? took : took + 1];
  if (next_not_done ? number != before : next_done ? number != then : number != before && number != then)
    fail_msg("records: after %d of %d calls, the next %s, the number is %lld", took, RECORD_STEPS,
             redmoon_outcome_name(err->outcome), (long long)number);
}

/* A session is made, gets another id, is listed and ends with all others; the subject is the run's own. */
static int session_steps(world *w, redmoon_sessions *all, redmoon_error *err) {
  size_t len = strlen(w->tag);
  memory_record r = {{w->tag, len}, 1, 0.5};
  char id[REDMOON_SESSION_ID_SIZE], next[REDMOON_SESSION_ID_SIZE];
  redmoon_record *loaded = NULL;
  redmoon_session_list *list = NULL;
  int rc = redmoon_sessions_create(all, w->tag, len, &r, NULL, id, err);
  if (rc == 0) rc = redmoon_sessions_update(all, id, &r, NULL, NULL, err);
  if (rc == 0) rc = redmoon_sessions_rotate(all, id, next, err);
  if (rc == 0) assert_string_not_equal(next, "");
  if (rc == 0) rc = redmoon_sessions_load(all, next, NULL, 0, &r, &loaded, err);
  assert_true(loaded == NULL || rc == 0);
  redmoon_record_free(loaded);
  if (rc == 0) rc = redmoon_sessions_list(all, w->tag, len, &list, err);
  if (rc == 0) assert_int_equal(list->count, 1);
  redmoon_session_list_free(list);
  if (rc == 0) rc = redmoon_sessions_touch(all, next, NULL, err);
  if (rc == 0) rc = redmoon_sessions_revoke_all(all, w->tag, len, next, NULL, err);
  return rc == 0 ? redmoon_sessions_revoke(all, next, NULL, err) : rc;
}

static int sessions(world *w, redmoon_error *err) {
  static const redmoon_field fields[] = {REDMOON_FIELD(memory_record, text, REDMOON_STRING),
                                         REDMOON_FIELD(memory_record, score, REDMOON_DOUBLE)};
  redmoon_sessions_options options = REDMOON_SESSIONS_OPTIONS_INIT;
  options.records.fields = fields;
  options.records.field_count = 2;
  options.records.ttl_ms = 600000;
  options.secret = "0123456789abcdef";
  options.secret_len = 16;
  redmoon_sessions *all = NULL;
  int rc = redmoon_sessions_new(w->client, "memory", &options, &all, err);
  if (rc != 0) {
    assert_null(all);
    return rc;
  }
  rc = session_steps(w, all, err);
  redmoon_sessions_free(all);
  return rc;
}

static int semaphore(world *w, redmoon_error *err) {
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = 2;
  options.wait_ms = 60000;
  redmoon_semaphore *sem = NULL;
  int rc = redmoon_semaphore_new(w->client, w->tag, strlen(w->tag), &options, &sem, err);
  if (rc != 0) {
    assert_null(sem);
    return rc;
  }
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.request_id = "memory";
  redmoon_permit *permit = NULL;
  redmoon_semaphore_usage usage;
  rc = redmoon_semaphore_acquire(sem, &request, &permit, err);
  assert_int_equal(rc == 0, permit != NULL);
  if (rc == 0) rc = redmoon_permit_extend(permit, 60000, err);
  if (rc == 0) rc = redmoon_semaphore_stats(sem, &usage, err);
  if (rc == 0) assert_int_equal(usage.in_use, 1);
  if (rc == 0) rc = redmoon_permit_release(permit, err);
  redmoon_permit_free(permit);
  redmoon_semaphore_free(sem);
  return rc;
}

static void check_semaphore(world *w, int status, const redmoon_error *err) {
  (void)err;
  char name[64];
  snprintf(name, sizeof name, "redmoon:{%s}:semaphore", w->tag);
  int64_t held = ask_integer(w->client, "ZCARD", name, NULL);
  assert_true(status == 0 ? held == 0 : held <= 1);
}

static int rwlock(world *w, redmoon_error *err) {
  redmoon_rwlock *lock_of_both = NULL;
  int rc = redmoon_rwlock_new(w->client, w->tag, strlen(w->tag), NULL, &lock_of_both, err);
  if (rc != 0) {
    assert_null(lock_of_both);
    return rc;
  }
  redmoon_permit *permits[3] = {NULL}; /* to write, the same again, and to read beside it */
  int accepted = 0;
  for (int i = 0; i < 3 && rc == 0; i++)
    rc = (i < 2 ? redmoon_rwlock_write : redmoon_rwlock_read)(lock_of_both, &permits[i], err);
  if (rc == 0)
    rc = redmoon_fence_guard(w->client, w->tag, strlen(w->tag), redmoon_permit_fence(permits[0]), &accepted, err);
  if (rc == 0) assert_int_equal(accepted, 1);
  for (int i = 0; i < 3 && rc == 0; i++) rc = redmoon_permit_release(permits[i], err);
  for (int i = 0; i < 3; i++) redmoon_permit_free(permits[i]);
  redmoon_rwlock_free(lock_of_both);
  return rc;
}

static void check_rwlock(world *w, int status, const redmoon_error *err) {
  (void)err;
  char writer[64], readers[64];
  snprintf(writer, sizeof writer, "redmoon:{%s}:rwlock.writer", w->tag);
  snprintf(readers, sizeof readers, "redmoon:{%s}:rwlock.readers", w->tag);
  if (status == 0) assert_int_equal(ask_integer(w->client, "EXISTS", writer, readers, NULL), 0);
}

/* Revoke, bump, begin a family, check, verify; w->took counts them. */
static int blocklist_calls(world *w, redmoon_blocklist *list, redmoon_error *err) {
  redmoon_bytes id = {w->tag, strlen(w->tag)};
  redmoon_revocation token = {id, 2000000000, "memory"};
  redmoon_revocation_result revoked;
  redmoon_subject_result subject;
  redmoon_rotation rotation = {id, {NULL, 0}, id, 600000};
  redmoon_rotation_result rotated;
  redmoon_claims claims[] = {{id, id, id, 5, 0}, {{NULL, 0}, {NULL, 0}, id, 0, 0}};
  redmoon_check_result results[2];
  int rc = redmoon_blocklist_revoke(list, &token, &revoked, err);
  if (rc == 0) w->took++;
  if (rc == 0) rc = redmoon_blocklist_bump(list, id.ptr, id.len, "request", &subject, err);
  if (rc == 0) rc = redmoon_blocklist_rotate(list, &rotation, &rotated, err);
  if (rc == 0) rc = redmoon_blocklist_check_many(list, claims, 2, results, err);
  if (rc == 0) assert_string_equal(results[0].reason, "memory");
  if (rc == 0) assert_string_equal(results[1].reason, "");
  if (rc == 0) rc = redmoon_blocklist_verify(list, err);
  return rc;
}

static int blocklist(world *w, redmoon_error *err) {
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.on_error = "error"; /* else a check would not fail */
  redmoon_blocklist *list = NULL;
  w->took = -1;
  int rc = redmoon_blocklist_new(w->client, "memory", &options, &list, err);
  if (rc != 0) {
    assert_null(list);
    return rc;
  }
  w->took = 0;
  rc = blocklist_calls(w, list, err);
  redmoon_blocklist_free(list);
  return rc;
}

/* The token is revoked once its revocation was done, is not before it was sent, and nobody knows between. */
static void check_blocklist(world *w, int status, const redmoon_error *err) {
  (void)status;
  redmoon_blocklist *list = NULL;
  redmoon_error why;
  redmoon_claims claims = REDMOON_CLAIMS_INIT;
  claims.jti = (redmoon_bytes){w->tag, strlen(w->tag)};
  redmoon_check_result result;
  if (redmoon_blocklist_new(w->client, "memory", NULL, &list, &why) != 0 ||
      redmoon_blocklist_check(list, &claims, &result, &why) != 0 || strcmp(result.reason, "unavailable") == 0)
    fail_msg("%s", why.message);
  if (w->took > 0) assert_true(result.revoked);
  else if (w->took < 0 || err->outcome == REDMOON_NOT_SENT) assert_false(result.revoked);
  else if (err->outcome == REDMOON_ANSWERED) assert_true(result.revoked);
  redmoon_blocklist_free(list);
}

/* One, then two together, then it is read and forgotten. */
static int counter_calls(world *w, redmoon_counter *counter, redmoon_error *err) {
  size_t len = strlen(w->tag);
  redmoon_counter_result one, two[2];
  redmoon_error errors[2];
  int rc = redmoon_counter_increment(counter, w->tag, len, 3, "memory", &one, err);
  if (rc != 0) return rc;
  assert_int_equal(one.value, 3);
  w->counted = 1;
  const redmoon_counter_item items[] = {{w->tag, len, 4, NULL}, {w->tag, len, 5, "again"}};
  rc = redmoon_counter_increment_many(counter, items, 2, two, errors, err);
  for (size_t i = 0; i < 2; i++) {
    if (rc == 0) assert_int_equal(two[i].status, 0);
    else if (two[i].status != 0) assert_string_equal(errors[i].code, "NOMEM"); /* else it was counted before */
  }
  if (rc != 0) return rc;
  w->counted = 2;
  assert_int_equal(two[1].value, 12);
  rc = redmoon_counter_get(counter, w->tag, len, &one, err);
  if (rc == 0) assert_int_equal(one.value, 12);
  if (rc == 0) rc = redmoon_counter_reset(counter, w->tag, len, err);
  if (rc == 0) w->counted = 3;
  return rc;
}

static int counter(world *w, redmoon_error *err) {
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  options.window_ms = 600000;
  redmoon_counter *counter = NULL;
  w->counted = -1;
  int rc = redmoon_counter_new(w->client, "memory", &options, &counter, err);
  if (rc != 0) {
    assert_null(counter);
    return rc;
  }
  w->counted = 0;
  rc = counter_calls(w, counter, err);
  redmoon_counter_free(counter);
  return rc;
}

static int counter_by_source(world *w, redmoon_error *err) {
  char forget[160];
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.count redmoon:{%s}:memory.count.req.memory", w->tag, w->tag);
  free(redis_server_ask(w->server, NULL, forget));
  snprintf(forget, sizeof forget, "DEL redmoon:{%s}:memory.count.req.again", w->tag);
  free(redis_server_ask(w->server, NULL, forget));
  free(redis_server_ask(w->server, NULL, "SCRIPT FLUSH"));
  return counter(w, err);
}

/* What it holds after the calls that were done, and the one that failed was done or was not. */
static void check_counter(world *w, int status, const redmoon_error *err) {
  static const int64_t after[] = {0, 3, 12, 0};
  assert_int_equal(status == 0, w->counted == 3);
  char name[64], text[32] = "0";
  snprintf(name, sizeof name, "redmoon:{%s}:memory.count", w->tag);
  ask_text(w->client, text, sizeof text, "GET", name, NULL);
  int64_t value = strtoll(text, NULL, 10), done = after[w->counted < 0 ? 0 : w->counted];
  bool not_done = w->counted < 0 || w->counted == 3 || err->outcome == REDMOON_NOT_SENT;
  bool fits = value == done || (!not_done && (value == after[w->counted + 1] || (w->counted == 1 && value == 7)));
  if (!fits)
    fail_msg("counter: after %d of 3 steps, the next %s, it holds %lld", w->counted,
             redmoon_outcome_name(err->outcome), (long long)value);
  if (value != 0) assert_true(ask_integer(w->client, "PTTL", name, NULL) > 0);
}

static int with(world *w, redmoon_error *err) {
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.timeout_ms = 60000;
  options.idempotent = 1;
  redmoon_client *view = NULL;
  int rc = redmoon_client_with(w->client, &options, &view, err);
  if (rc != 0) {
    assert_null(view);
    return rc;
  }
  rc = ping(view, err);
  redmoon_client_close(view);
  return rc;
}

static void count_event(void *ctx, const redmoon_event *event) {
  (void)event;
  atomic_fetch_add((atomic_int *)ctx, 1);
}

static int metrics(world *w, redmoon_error *err) {
  char *text = NULL;
  size_t len = 0;
  atomic_int events = 0;
  uint64_t id = 0;
  int rc = redmoon_client_on(w->client, REDMOON_EVENT_COMMAND, count_event, &events, &id, err);
  if (rc != 0) return rc;
  rc = ping(w->client, err);
  redmoon_client_off(w->client, id);
  if (rc == 0) {
    assert_int_equal(atomic_load(&events), 1);
    rc = redmoon_client_metrics(w->client, &text, &len, err);
  }
  if (rc == 0) assert_int_equal(strlen(text), len);
  else assert_null(text);
  redmoon_free(text);
  return rc;
}

/* The tests. */

static void refused_memory_fails_a_connect_cleanly(void **state) {
  static const scenario list[] = {
      {"connect by path", connect_by_path, NULL, true},
      {"connect by name", connect_by_name, NULL, true},
      {"connect by TLS", connect_by_tls, NULL, true},
      {"connect with a keeper", connect_with_keeper, NULL, true},
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) squeeze_all(*state, &list[i]);
}

static void refused_memory_fails_a_command_cleanly(void **state) {
  static const scenario list[] = {
      {"command", command_set, check_set, false},
      {"command with large replies", command_large_replies, NULL, false},
      {"command in RESP2", command_resp2, NULL, true},
      {"with", with, NULL, false},
      {"metrics", metrics, NULL, false},
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) squeeze_all(*state, &list[i]);
}

static void refused_memory_fails_a_pipeline_cleanly(void **state) {
  static const scenario list[] = {
      {"pipeline", pipeline, NULL, false},
      {"pipeline without what was refused", pipeline_without_refused, NULL, false},
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) squeeze_all(*state, &list[i]);
}

static void refused_memory_fails_a_transaction_or_script_cleanly(void **state) {
  static const scenario list[] = {
      {"transaction", transaction, check_transaction, false},
      {"transaction abandoned", transaction_abandoned, NULL, false},
      {"script", script, check_set, false},
      {"scan", scan, NULL, false},
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) squeeze_all(*state, &list[i]);
}

static void refused_memory_fails_a_pattern_cleanly(void **state) {
  static const scenario list[] = {
      {"sessions", sessions, NULL, false},
      {"records", records, check_records, false},
      {"semaphore", semaphore, check_semaphore, false},
      {"read-write lock", rwlock, check_rwlock, false},
      {"lock", lock, check_lock, false},
      {"lock with all", lock_with_all, check_lock, false},
      {"blocklist", blocklist, check_blocklist, false},
      {"counter", counter, check_counter, false},
      {"counter by its source", counter_by_source, check_counter, false},
      {"limiter", limiter, check_limiter, false},
      {"limiter by its source", limiter_by_source, check_limiter, false},
      {"limiter's decisions", limiter_decisions, NULL, false},
  };
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) squeeze_all(*state, &list[i]);
}

/* Without a server of the test's own, so that any child is one too many. */
static void refused_memory_leaves_no_embedded_server(void **state) {
  (void)state;
  char folder[] = "/tmp/redmoon-memory-XXXXXX";
  assert_non_null(mkdtemp(folder));
  const char *tmpdir = getenv("TMPDIR");
  char *before = tmpdir != NULL ? strdup(tmpdir) : NULL;
  setenv("TMPDIR", folder, 1);
  gate g;
  gate_set(&g, GATE_OPEN, 0);
  rm_alloc_set_refuse(refuses, &g);
  size_t fds = descriptors();
  for (int mode = GATE_ONCE; mode <= GATE_FROM_THEN_ON; mode++) {
    int status = REDMOON_ENOMEM;
    for (long at = 1; status != 0; at++) {
      redmoon_embedded *server = NULL;
      redmoon_error err;
      gate_set(&g, (gate_mode)mode, at);
      status = redmoon_embedded_start(NULL, &server, &err);
      bool refused = atomic_load(&g.refused) > 0;
      gate_set(&g, GATE_OPEN, 0);
      assert_int_equal(status, refused ? REDMOON_ENOMEM : 0);
      assert_int_equal(server == NULL, refused);
      if (!refused) print_message("embedded, mode %d: %ld failure points\n", mode, at - 1);
      assert_true(refused || at > 1);
      redmoon_embedded_close(server);
      assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
      assert_int_equal(errno, ECHILD);
      assert_int_equal(count_entries(folder), 2); /* . and .. */
      await_descriptors(fds, "embedded", at);
    }
  }
  rm_alloc_set_refuse(NULL, NULL);
  if (before != NULL) setenv("TMPDIR", before, 1);
  else unsetenv("TMPDIR");
  free(before);
  rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(refused_memory_leaves_no_embedded_server),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_connect_cleanly, start, stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_command_cleanly, start, stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_pipeline_cleanly, start, stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_transaction_or_script_cleanly, start, stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_pattern_cleanly, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
