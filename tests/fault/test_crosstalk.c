/* SPDX-License-Identifier: MIT */
/* The cross-talk matrix: a call is cancelled, timed out or cut off at every byte of its request and of its reply; the
 * next three calls of the client must get their own replies, on another connection.
 *
 *      warm-up -> cut is set -> the victim: k bytes go, or come -> cancel | time out | server closes
 *                                                                    |
 *      the held connection goes on, late -> three tagged calls -> their own replies, the victim's connection is closed
 *
 * GET t<n> answers v<n>, and no n is used twice, so that any reply in the wrong hands shows. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "engine/call_internal.h"
#include "pool/pool_internal.h"
#include "support/tiny_redis.h"

#include <poll.h>
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHORT_MS = 200, REAL_EVERY = 499, TLS_EVERY = 7, TLS_REAL_EVERY = 499, MIN_CUTS = 500 };
enum { S = 1000000 };

typedef enum way { CANCEL, TIME_OUT, TIME_OUT_REALLY, CLOSE, CLOSE_AND_RETRY, WAYS } way;
static const char *const way_names[] = {"cancel", "time-out", "real time-out", "close", "close, retry"};

/* One client, and the call on it that is cut. */
typedef struct victim {
  redmoon_client *base, *client; /* `client` is a view with the options of this way */
  unsigned tag;                  /* of its first GET */
  redmoon_reply *reply;
  redmoon_pipeline *pipeline;
  redmoon_transaction *tx;
} victim;

typedef struct scene {
  const char *name;
  bool at_connection;                  /* the victim dials */
  bool login;                          /* with user, password, name and database */
  bool unknown_script;                 /* the server does not have the script when the call begins */
  void (*prepare)(victim *v);          /* the call behind which the cut begins */
  redmoon_op *(*start)(victim *v);
  const char *(*check)(victim *v, int status); /* what it got: NULL, or what is wrong */
} scene;

/* Of the whole program: no tag is used twice. */
static unsigned next_tag;
static size_t cuts;

/* Tagged calls. */

typedef struct tagged {
  char key[16], value[16];
} tagged;

static tagged tag_of(unsigned n) {
  tagged t;
  snprintf(t.key, sizeof t.key, "t%06u", n);
  snprintf(t.value, sizeof t.value, "v%06u", n);
  return t;
}

static bool is_value(const redmoon_reply *reply, unsigned n) {
  tagged t = tag_of(n);
  return reply != NULL && redmoon_reply_type(reply) == REDMOON_STRING &&
         strcmp(redmoon_reply_string(reply, NULL), t.value) == 0;
}

static char complaint[256];

static const char *wrong(const char *what, unsigned n, const redmoon_reply *reply) {
  const char *text = reply != NULL ? redmoon_reply_string(reply, NULL) : "nothing";
  snprintf(complaint, sizeof complaint, "%s: GET of tag %u brought %s", what, n, text != NULL ? text : "no text");
  return complaint;
}

/* NULL, or what is wrong. */
static const char *call_tagged(redmoon_client *client) {
  unsigned n = next_tag++;
  tagged t = tag_of(n);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int status = redmoon_command(client, 2, (const char *[]){"GET", t.key}, NULL, &reply, &err);
  if (status != 0) {
    snprintf(complaint, sizeof complaint, "a later call failed: %.200s", err.message);
    return complaint;
  }
  const char *problem = is_value(reply, n) ? NULL : wrong("a later call", n, reply);
  redmoon_reply_free(reply);
  return problem;
}

static const char *call_three_tagged(redmoon_client *client) {
  for (int i = 0; i < 3; i++) {
    const char *problem = call_tagged(client);
    if (problem != NULL) return problem;
  }
  return NULL;
}

/* Scenes. */

static void warm_up(victim *v) { assert_null(call_tagged(v->base)); }
static void do_nothing(victim *v) { (void)v; }

static redmoon_op *start_single(victim *v) {
  tagged t = tag_of(v->tag);
  redmoon_op *op;
  assert_int_equal(redmoon_command_start(v->client, 2, (const char *[]){"GET", t.key}, NULL, &v->reply, &op, NULL), 0);
  return op;
}

static const char *check_single(victim *v, int status) {
  return status != 0 || is_value(v->reply, v->tag) ? NULL : wrong("the call itself", v->tag, v->reply);
}

static redmoon_op *start_pipeline(victim *v) {
  assert_int_equal(redmoon_pipeline_new(v->client, &v->pipeline, NULL), 0);
  for (unsigned i = 0; i < 3; i++) {
    tagged t = tag_of(v->tag + i);
    assert_int_equal(redmoon_pipeline_command(v->pipeline, 2, (const char *[]){"GET", t.key}, NULL, NULL), (int)i);
  }
  redmoon_op *op;
  assert_int_equal(redmoon_pipeline_run_start(v->pipeline, &op, NULL), 0);
  return op;
}

/* What was answered is right, and it is a prefix. */
static const char *check_pipeline(victim *v, int status) {
  bool ended = false;
  for (unsigned i = 0; i < 3; i++) {
    redmoon_result result = redmoon_pipeline_result(v->pipeline, i);
    if ((result.outcome == REDMOON_ANSWERED) != (result.reply != NULL)) return "an outcome and a reply do not agree";
    if (result.reply == NULL && status == 0) return "a pipeline that went well lacks a reply";
    if (result.reply != NULL && ended) return "the answered commands are not a prefix";
    if (result.reply != NULL && !is_value(result.reply, v->tag + i)) return wrong("the pipeline", v->tag + i, result.reply);
    ended |= result.reply == NULL;
  }
  return NULL;
}

static redmoon_op *start_multi(victim *v) {
  assert_int_equal(redmoon_transaction_begin(v->client, NULL, 0, NULL, &v->tx, NULL), 0);
  for (unsigned i = 0; i < 2; i++) {
    tagged t = tag_of(v->tag + i);
    assert_int_equal(redmoon_transaction_queue(v->tx, 2, (const char *[]){"GET", t.key}, NULL, NULL), (int)i);
  }
  /* A write, so that a lost EXEC is looked up. */
  assert_int_equal(redmoon_transaction_queue(v->tx, 3, (const char *[]){"SET", "k", "x"}, NULL, NULL), 2);
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(v->tx, &v->reply, &op, NULL), 0);
  return op;
}

static const char *check_multi(victim *v, int status) {
  if (status != 0) return NULL;
  if (redmoon_reply_count(v->reply) != 3) return "EXEC brought another number of replies";
  for (unsigned i = 0; i < 2; i++) {
    const redmoon_reply *item = redmoon_reply_at(v->reply, i);
    bool lost = redmoon_reply_type(item) == REDMOON_ERROR && strncmp(redmoon_reply_string(item, NULL), "LOST ", 5) == 0;
    if (!lost && !is_value(item, v->tag + i)) return wrong("EXEC", v->tag + i, item);
  }
  return NULL;
}

/* One that may be sent again, so that a pipeline with it may be. */
static redmoon_script *new_script(void) {
  static const char source[] = "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])";
  redmoon_script *script;
  assert_int_equal(redmoon_script_new(source, sizeof source - 1, &script, NULL), 0);
  return script;
}

static redmoon_op *start_script(victim *v) {
  redmoon_script *script = new_script();
  tagged t = tag_of(v->tag);
  redmoon_bytes key = {t.key, strlen(t.key)};
  redmoon_op *op;
  assert_int_equal(redmoon_script_run_start(v->client, script, &(redmoon_script_args){&key, 1, NULL, 0}, &v->reply, &op, NULL), 0);
  redmoon_script_unref(script);
  return op;
}

/* SCRIPT LOAD, and with it a NOSCRIPT that must not come, between the commands. */
static redmoon_op *start_script_pipeline(victim *v) {
  redmoon_script *script = new_script();
  assert_int_equal(redmoon_pipeline_new(v->client, &v->pipeline, NULL), 0);
  for (unsigned i = 0; i < 3; i++) {
    tagged t = tag_of(v->tag + i);
    redmoon_bytes key = {t.key, strlen(t.key)};
    int64_t index = i == 1 ? redmoon_pipeline_script(v->pipeline, script, &(redmoon_script_args){&key, 1, NULL, 0}, NULL)
                           : redmoon_pipeline_command(v->pipeline, 2, (const char *[]){"GET", t.key}, NULL, NULL);
    assert_int_equal(index, i);
  }
  redmoon_script_unref(script);
  redmoon_op *op;
  assert_int_equal(redmoon_pipeline_run_start(v->pipeline, &op, NULL), 0);
  return op;
}

static redmoon_op *start_script_multi(victim *v) {
  redmoon_script *script = new_script();
  assert_int_equal(redmoon_transaction_begin(v->client, NULL, 0, NULL, &v->tx, NULL), 0);
  for (unsigned i = 0; i < 2; i++) {
    tagged t = tag_of(v->tag + i);
    redmoon_bytes key = {t.key, strlen(t.key)};
    redmoon_script_args args = {&key, 1, NULL, 0};
    assert_int_equal(redmoon_transaction_queue_script(v->tx, script, &args, NULL), i);
  }
  assert_int_equal(redmoon_transaction_queue(v->tx, 3, (const char *[]){"SET", "k", "x"}, NULL, NULL), 2);
  redmoon_script_unref(script);
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_exec_start(v->tx, &v->reply, &op, NULL), 0);
  return op;
}

static void watch(victim *v) {
  redmoon_bytes key = {"w", 1};
  assert_int_equal(redmoon_transaction_begin(v->client, &key, 1, NULL, &v->tx, NULL), 0);
}

static redmoon_op *start_watched(victim *v) {
  tagged t = tag_of(v->tag);
  redmoon_op *op;
  assert_int_equal(redmoon_transaction_command_start(v->tx, 2, (const char *[]){"GET", t.key}, NULL, &v->reply, &op, NULL), 0);
  return op;
}

/* The connection that watched is gone, so the transaction must not go on. */
static const char *check_watched(victim *v, int status) {
  if (status == 0) return check_single(v, status);
  redmoon_reply *reply = NULL;
  redmoon_error err;
  int next = redmoon_transaction_command(v->tx, 2, (const char *[]){"GET", "t1"}, NULL, &reply, &err);
  redmoon_reply_free(reply);
  return next == REDMOON_EIO && err.outcome == REDMOON_NOT_SENT ? NULL : "the transaction went on without its connection";
}

static const scene scenes[] = {
    {"single", .prepare = warm_up, .start = start_single, .check = check_single},
    {"pipeline of 3", .prepare = warm_up, .start = start_pipeline, .check = check_pipeline},
    {"MULTI", .prepare = warm_up, .start = start_multi, .check = check_multi},
    {"script", .prepare = warm_up, .start = start_script, .check = check_single},
    {"EVALSHA, then EVAL", .unknown_script = true, .prepare = warm_up, .start = start_script, .check = check_single},
    {"pipeline with SCRIPT LOAD", .unknown_script = true, .prepare = warm_up, .start = start_script_pipeline, .check = check_pipeline},
    {"MULTI with SCRIPT LOAD", .unknown_script = true, .prepare = warm_up, .start = start_script_multi, .check = check_multi},
    {"read under WATCH", .prepare = watch, .start = start_watched, .check = check_watched},
    {"handshake", .at_connection = true, .prepare = do_nothing, .start = start_single, .check = check_single},
    {"login", .at_connection = true, .login = true, .prepare = do_nothing, .start = start_single, .check = check_single},
};

/* Driving the victim. */

/* The clock is set so that the limits end between two steps: the test does not wait for them. */
static int time_out(redmoon_op *op, tiny_redis *server, redmoon_error *err) {
  enum { BEHIND = -10 * S, AHEAD = 25 * S };
  if (!tiny_redis_step(server, op, BEHIND) && op->status == RM_WAIT) {
    op->status = op->class->step(op, rm_clock_now_us()); /* a dial ends here */
    tiny_redis_step(NULL, op, AHEAD);
  }
  return redmoon_op_finish(op, err);
}

/* Its status; 1 for one that was cancelled. */
static int run_victim(redmoon_op *op, way how, tiny_redis *server, redmoon_error *err) {
  if (how == CANCEL) {
    bool done = tiny_redis_step(server, op, 0);
    assert_false(done);
    redmoon_op_cancel(op);
    return 1;
  }
  if (how == TIME_OUT) return time_out(op, server, err);
  rm_drive(op);
  return redmoon_op_finish(op, err);
}

static void open_victim(victim *v, const tiny_redis *server, const scene *s, way how) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 1;
  options.connect_timeout_ms = 10000;
  options.read_timeout_ms = options.write_timeout_ms = 15000;
  options.timeout_ms = 30000;
  options.min_backoff_ms = options.max_backoff_ms = 1;
  if (s->login) {
    options.username = TINY_USER;
    options.password = TINY_PASSWORD;
    options.client_name = TINY_NAME;
    options.database = TINY_DATABASE;
  }
  *v = (victim){.tag = next_tag};
  next_tag += 3;
  assert_int_equal(redmoon_client_open(tiny_redis_url(server), &options, &v->base, NULL), 0);
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  if (how != CLOSE_AND_RETRY) call.max_retries = 0;
  if (how == TIME_OUT_REALLY) call.timeout_ms = SHORT_MS;
  assert_int_equal(redmoon_client_with(v->base, &call, &v->client, NULL), 0);
}

static void close_victim(victim *v) {
  redmoon_transaction_free(v->tx);
  redmoon_pipeline_free(v->pipeline);
  redmoon_reply_free(v->reply);
  redmoon_client_close(v->client);
  redmoon_client_close(v->base);
}

/* The three calls behind the cut.  After a failed dial they have to wait for the pool's back-off; else the first try
 * must do. */
static const char *call_after(const victim *v, const scene *s) {
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  if (!s->at_connection) call.max_retries = 0;
  redmoon_client *client;
  assert_int_equal(redmoon_client_with(v->base, &call, &client, NULL), 0);
  const char *problem = call_three_tagged(client);
  redmoon_client_close(client);
  return problem;
}

/* None of the commands behind `first` came by the victim's connection. */
static const char *check_connection(tiny_redis *server, size_t first, size_t peer) {
  const fake_command *command;
  for (size_t i = first; (command = fake_server_command(tiny_redis_server(server), i)) != NULL; i++)
    if (command->peer == peer) return "the victim's connection was used again";
  return NULL;
}

static bool is_multi(const scene *s) { return s->check == check_multi; }

static const char *status_problem(way how, const scene *s, int status, const redmoon_error *err) {
  if (how == CANCEL) return NULL;
  if (how == CLOSE_AND_RETRY && s->prepare != watch) {
    /* Reads are sent again; of a transaction a program learns what became of it. */
    bool fine = status == 0 || (is_multi(s) && err->outcome == REDMOON_NOT_SENT && err->retryable);
    if (fine) return NULL;
    snprintf(complaint, sizeof complaint, "it was not tried again: %.200s", err->message);
    return complaint;
  }
  if (status == 0 && is_multi(s)) return NULL; /* it was looked up */
  if (status == 0) return "a cut call went well";
  if ((how == TIME_OUT || how == TIME_OUT_REALLY) && !is_multi(s) && status != REDMOON_ETIMEOUT) {
    snprintf(complaint, sizeof complaint, "it was to time out: %.200s", err->message);
    return complaint;
  }
  return NULL;
}

static const char *cut_once(tiny_redis *server, const scene *s, way how, tiny_place place, size_t at) {
  fake_server *fake = tiny_redis_server(server);
  size_t ended_before = fake_server_connections(fake);
  victim v;
  open_victim(&v, server, s, how);
  tiny_end end = how == CLOSE || how == CLOSE_AND_RETRY ? TINY_CLOSE : TINY_HOLD;
  if (s->at_connection)
    tiny_redis_cut_connection(server, place, at, end);
  else
    tiny_redis_cut(server, place, at, end);
  s->prepare(&v);
  if (s->unknown_script) tiny_redis_forget_scripts(server);
  redmoon_error err;
  int status = run_victim(s->start(&v), how, server, &err);
  const char *problem = tiny_redis_is_reached(server) ? NULL : "the cut was not reached";
  /* One that is closed while it is idle is replaced without a word. */
  bool idle = how == CLOSE && place == TINY_REQUEST && at == 0;
  if (problem == NULL && !(idle && status == 0)) problem = status_problem(how, s, status, &err);
  if (problem == NULL) problem = s->check(&v, status);
  size_t peer = tiny_redis_cut_peer(server), first = fake_server_commands(fake);
  if (end == TINY_HOLD) {
    tiny_redis_go_on(server);
    /* What the victim's connection still says is said before the next call. */
    if (problem == NULL && !fake_server_wait_ended(fake, ended_before + 1)) problem = "the victim's connection is still open";
    first = fake_server_commands(fake);
  }
  if (problem == NULL) problem = call_after(&v, s);
  if (problem == NULL) problem = check_connection(server, first, peer);
  close_victim(&v);
  assert_true(fake_server_wait_ended(fake, fake_server_connections(fake)));
  return problem;
}

/* How many bytes an uncut victim sends and is sent. */
static size_t measure(tiny_redis *server, const scene *s, tiny_place place) {
  victim v;
  open_victim(&v, server, s, CLOSE);
  size_t before = tiny_redis_bytes(server, place);
  s->prepare(&v);
  if (s->unknown_script) tiny_redis_forget_scripts(server);
  if (!s->at_connection) before = tiny_redis_bytes(server, place);
  redmoon_op *op = s->start(&v);
  rm_drive(op);
  assert_int_equal(redmoon_op_finish(op, NULL), 0);
  size_t bytes = tiny_redis_bytes(server, place) - before;
  close_victim(&v);
  assert_true(fake_server_wait_ended(tiny_redis_server(server), fake_server_connections(tiny_redis_server(server))));
  return bytes;
}

/* Every byte over a unix socket; over TLS, whose bytes are those inside the records, and in real time, some. */
static size_t step_of(way how, bool tls) {
  if (how == TIME_OUT_REALLY) return tls ? TLS_REAL_EVERY : REAL_EVERY;
  return tls ? TLS_EVERY : 1;
}

static void cut_everywhere(const scene *s, bool resp2, bool tls, way how) {
  tiny_redis *server = tiny_redis_start(&(tiny_options){.resp2 = resp2, .tls = tls, .login = s->login});
  size_t step = step_of(how, tls);
  for (tiny_place place = TINY_REQUEST; place <= TINY_REPLY; place++) {
    size_t bytes = measure(server, s, place);
    /* The last byte is one of them, and with it those that are a whole number of steps before it. */
    for (size_t at = (bytes - 1) % step; at < bytes; at += step) {
      const char *problem = cut_once(server, s, how, place, at);
      if (problem != NULL)
        fail_msg("%s, RESP%d%s, %s at byte %zu of %zu of the %s: %s", s->name, resp2 ? 2 : 3, tls ? " over TLS" : "",
                 way_names[how], at, bytes, place == TINY_REQUEST ? "request" : "reply", problem);
      cuts++;
    }
  }
  assert_null(fake_server_failure(tiny_redis_server(server)));
  tiny_redis_stop(server);
}

static void cut_by(way how) {
  for (int tls = 0; tls < 2; tls++) {
    size_t before = cuts;
    /* Real time is dear: over TLS in RESP3 only. */
    for (int resp2 = 0; resp2 < (tls && how == TIME_OUT_REALLY ? 1 : 2); resp2++)
      for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        cut_everywhere(&scenes[i], resp2 != 0, tls != 0, how);
    print_message("%s%s: %zu cut points, each followed by 3 tagged calls\n", way_names[how], tls ? " over TLS" : "",
                  cuts - before);
  }
}

static void a_call_cancelled_at_any_byte_leaves_the_next_three_right(void **state) {
  (void)state;
  cut_by(CANCEL);
}

static void a_call_timed_out_at_any_byte_leaves_the_next_three_right(void **state) {
  (void)state;
  cut_by(TIME_OUT);
}

static void a_call_that_really_times_out_leaves_the_next_three_right(void **state) {
  (void)state;
  cut_by(TIME_OUT_REALLY);
}

static void a_connection_closed_at_any_byte_leaves_the_next_three_right(void **state) {
  (void)state;
  cut_by(CLOSE);
}

static void a_call_repeated_after_a_close_at_any_byte_gets_its_own_reply(void **state) {
  (void)state;
  cut_by(CLOSE_AND_RETRY);
}

static void the_matrix_has_more_than_500_cut_points(void **state) {
  (void)state;
  print_message("cross-talk matrix: %zu cut points in all\n", cuts);
  assert_true(cuts > MIN_CUTS);
}

/* The negative control. */

static bool lie(rm_conn *conn, rm_close_reason *why) {
  (void)conn;
  (void)why;
  return true;
}

static void drop_sent_call(redmoon_client *client, bool poison) {
  rm_pool *pool = rm_route_first(client->core->route)->pool;
  if (poison) pool->hooks.is_reusable = lie;
  rm_lease lease = {.event = RM_EVENT_INIT};
  redmoon_error err;
  assert_int_equal(rm_pool_acquire(pool, &lease, 1, rm_clock_now_us(), &err), RM_POOL_CONN);
  static const char request[] = "*2\r\n$3\r\nGET\r\n$7\r\nt999999\r\n";
  assert_int_equal(rm_conn_send(lease.conn, request, sizeof request - 1, NULL, &err), (int)sizeof request - 1);
  struct pollfd answered = {.fd = lease.conn->fd, .events = POLLIN};
  assert_int_equal(poll(&answered, 1, FAKE_PATIENCE_MS), 1);
  rm_pool_release(&lease, rm_clock_now_us());
  rm_lease_fini(&lease);
}

/* A connection is given back with a reply unread: a pool that lends it out all the same is found out, ours is not
 * tricked. */
static void give_back_with_unread_reply(bool poison, bool resp2, bool tls) {
  tiny_redis *server = tiny_redis_start(&(tiny_options){.resp2 = resp2, .tls = tls});
  victim v;
  open_victim(&v, server, &scenes[0], CLOSE);
  assert_null(call_tagged(v.base));
  drop_sent_call(v.base, poison);
  const char *problem = call_three_tagged(v.base);
  if (poison) {
    assert_non_null(problem);
    assert_non_null(strstr(problem, "v999999"));
  } else {
    assert_null(problem);
    redmoon_stats stats;
    redmoon_client_stats(v.base, &stats);
    assert_int_equal(stats.closed_dirty, 1);
  }
  close_victim(&v);
  tiny_redis_stop(server);
}

static void a_pool_that_lends_out_an_unread_reply_is_found_out(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) give_back_with_unread_reply(true, i % 2 != 0, i / 2 != 0);
}

static void an_unread_reply_is_never_lent_out(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) give_back_with_unread_reply(false, i % 2 != 0, i / 2 != 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_call_cancelled_at_any_byte_leaves_the_next_three_right),
      cmocka_unit_test(a_call_timed_out_at_any_byte_leaves_the_next_three_right),
      cmocka_unit_test(a_call_that_really_times_out_leaves_the_next_three_right),
      cmocka_unit_test(a_connection_closed_at_any_byte_leaves_the_next_three_right),
      cmocka_unit_test(a_call_repeated_after_a_close_at_any_byte_gets_its_own_reply),
      cmocka_unit_test(the_matrix_has_more_than_500_cut_points),
      cmocka_unit_test(a_pool_that_lends_out_an_unread_reply_is_found_out),
      cmocka_unit_test(an_unread_reply_is_never_lent_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
