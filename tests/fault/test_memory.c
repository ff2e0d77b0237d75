/* SPDX-License-Identifier: MIT */
/* Every request for memory of the engine's scenarios is refused: see support/refused_memory.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/op.h"
#include "support/ask.h"
#include "support/certs.h"
#include "support/refused_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void check_multiplexed(world *w, int status, const redmoon_error *err) { agrees(w, status, err, ":shared"); }

/* Two commands share a connection.  Of the first it is known what became of it; the other one reads. */
static int command_multiplexed(world *w, redmoon_error *err) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.multiplex = 1;
  options.pool_size = 2; /* a call that is refused its place in the lane takes a connection of its own */
  redmoon_client *client = NULL;
  int rc = redmoon_client_open(redis_server_url(w->server), &options, &client, err);
  if (rc != 0) return rc;
  redmoon_reply *set = NULL, *hash = NULL;
  redmoon_op *other = NULL;
  rc = redmoon_command_start(client, 2, (const char *[]){"HGETALL", "hash"}, NULL, &hash, &other, err);
  if (rc == 0) {
    redmoon_op_step(other);
    char key[64];
    snprintf(key, sizeof key, "%s:shared", w->tag);
    rc = redmoon_command(client, 3, (const char *[]){"SET", key, "value"}, NULL, &set, err);
    redmoon_error second;
    int rc2 = rm_run(0, &other, &second);
    if (rc == REDMOON_EIO && rc2 == REDMOON_ENOMEM) { /* memory was refused for a reply to the other one */
      rc = err->status = rc2;
      snprintf(err->code, sizeof err->code, "NOMEM");
    }
    if (rc2 == 0) assert_int_equal(redmoon_reply_count(hash), 100);
    if (rc == 0 && rc2 != 0) { /* the set was done */
      *err = second;
      err->outcome = REDMOON_ANSWERED;
      rc = rc2;
    }
  } else {
    err->outcome = REDMOON_NOT_SENT;
  }
  redmoon_reply_free(set);
  redmoon_reply_free(hash);
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.in_use, 0);
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

/* Views, hooks, metrics. */

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
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
}

static void refused_memory_fails_a_command_cleanly(void **state) {
  static const scenario list[] = {
      {"command", command_set, check_set, false},
      {"command with large replies", command_large_replies, NULL, false},
      {"command in RESP2", command_resp2, NULL, true},
      {"commands that share a connection", command_multiplexed, check_multiplexed, true},
      {"with", with, NULL, false},
      {"metrics", metrics, NULL, false},
  };
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
}

static void refused_memory_fails_a_pipeline_cleanly(void **state) {
  static const scenario list[] = {
      {"pipeline", pipeline, NULL, false},
      {"pipeline without what was refused", pipeline_without_refused, NULL, false},
  };
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
}

static void refused_memory_fails_a_transaction_or_script_cleanly(void **state) {
  static const scenario list[] = {
      {"transaction", transaction, check_transaction, false},
      {"transaction abandoned", transaction_abandoned, NULL, false},
      {"script", script, check_set, false},
      {"scan", scan, NULL, false},
  };
  squeeze_list(*state, list, sizeof list / sizeof list[0]);
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
  rm_alloc_set_refuse(gate_refuses, &g);
  size_t fds = count_descriptors();
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
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_connect_cleanly, refused_memory_start, refused_memory_stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_command_cleanly, refused_memory_start, refused_memory_stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_pipeline_cleanly, refused_memory_start, refused_memory_stop),
      cmocka_unit_test_setup_teardown(refused_memory_fails_a_transaction_or_script_cleanly, refused_memory_start, refused_memory_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
