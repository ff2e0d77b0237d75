/* SPDX-License-Identifier: MIT */
/* What a client tells about itself: statistics, metrics, hooks, its URL; views with other call options; shutdown.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/matrix.h"

#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PASSWORD "s3cr3t-pass"
#define PAYLOAD "s3cr3t-value"

static int run(redmoon_client *client, const char *const *argv, redmoon_error *err) {
  int argc = 0;
  while (argv[argc] != NULL) argc++;
  redmoon_reply *reply;
  int rc = redmoon_command(client, argc, argv, NULL, &reply, err);
  redmoon_reply_free(reply);
  return rc;
}

/* With a password, which the default user accepts whatever it is. */
static redmoon_client *open_with_password(const matrix_cell *cell) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.username = "default";
  options.password = PASSWORD;
  return matrix_open(cell, &options);
}

static redmoon_stats stats_of(const redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  return stats;
}

static void statistics_follow_the_pool(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  redmoon_stats stats = stats_of(client);
  assert_int_equal(stats.dials, 0); /* it dials lazily */
  assert_int_equal(stats.total, 0);
  for (int i = 0; i < 3; i++) assert_int_equal(run(client, ARGV("PING"), NULL), 0);
  stats = stats_of(client);
  assert_int_equal(stats.dials, 1);
  assert_int_equal(stats.misses, 1);
  assert_int_equal(stats.hits, 2);
  assert_int_equal(stats.total, 1);
  assert_int_equal(stats.idle, 1);
  assert_int_equal(stats.in_use, 0);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, NULL), 0);
  stats = stats_of(client);
  assert_int_equal(stats.in_use, 1);
  assert_int_equal(stats.idle, 0);
  assert_int_equal(run(client, ARGV("PING"), NULL), 0);
  stats = stats_of(client);
  assert_int_equal(stats.total, 2);
  assert_int_equal(stats.idle, 1);
  redmoon_transaction_free(tx); /* it still watched: closed */
  stats = stats_of(client);
  assert_int_equal(stats.total, 1);
  assert_int_equal(stats.closed_dirty, 1);
  assert_int_equal(stats.wait_count, 0);
  assert_int_equal(stats.timeouts, 0);
}

/* Metrics: a strict reader of the text format. */

enum { MOST_FAMILIES = 64 };

typedef struct exposition {
  char families[MOST_FAMILIES][64], kinds[MOST_FAMILIES][16];
  int count;
  int current; /* the family whose lines are under way */
  double last_bucket;
} exposition;

static bool is_name(const char *text, size_t len) {
  if (len == 0 || isdigit((unsigned char)text[0])) return false;
  for (size_t i = 0; i < len; i++)
    if (!isalnum((unsigned char)text[i]) && text[i] != '_' && text[i] != ':') return false;
  return true;
}

static void read_type(exposition *x, const char *line) {
  char name[64], kind[16];
  if (sscanf(line, "# TYPE %63s %15s", name, kind) != 2) fail_msg("not a TYPE line: %s", line);
  assert_true(is_name(name, strlen(name)));
  if (strcmp(kind, "counter") != 0 && strcmp(kind, "gauge") != 0 && strcmp(kind, "histogram") != 0)
    fail_msg("kind: %s", line);
  for (int i = 0; i < x->count; i++)
    if (strcmp(x->families[i], name) == 0) fail_msg("family twice: %s", name);
  assert_true(x->count < MOST_FAMILIES);
  snprintf(x->families[x->count], sizeof x->families[0], "%s", name);
  snprintf(x->kinds[x->count], sizeof x->kinds[0], "%s", kind);
  x->current = x->count++;
}

/* name[{label="value",...}] number */
static void read_sample(exposition *x, const char *line) {
  size_t name_len = strcspn(line, "{ ");
  if (!is_name(line, name_len)) fail_msg("name: %s", line);
  if (x->current < 0) fail_msg("no TYPE in front of: %s", line);
  const char *family = x->families[x->current];
  size_t family_len = strlen(family);
  bool histogram = strcmp(x->kinds[x->current], "histogram") == 0;
  if (strncmp(line, family, family_len) != 0) fail_msg("line outside its family %s: %s", family, line);
  const char *suffix = line + family_len;
  size_t suffix_len = name_len - family_len;
  bool known = histogram ? (suffix_len == 7 && strncmp(suffix, "_bucket", 7) == 0) ||
                               (suffix_len == 4 && strncmp(suffix, "_sum", 4) == 0) ||
                               (suffix_len == 6 && strncmp(suffix, "_count", 6) == 0)
                         : suffix_len == 0;
  if (!known) fail_msg("line outside its family %s: %s", family, line);
  if (strcmp(x->kinds[x->current], "counter") == 0)
    assert_true(name_len > 6 && strncmp(line + name_len - 6, "_total", 6) == 0);
  const char *at = line + name_len;
  if (*at == '{') {
    do {
      at++;
      size_t len = strcspn(at, "=");
      assert_true(is_name(at, len));
      at += len + 1;
      assert_int_equal(*at, '"');
      for (at++; *at != '"'; at++) {
        assert_true(*at != '\0' && *at != '\n');
        if (*at == '\\') at++;
      }
      at++;
    } while (*at == ',');
    assert_int_equal(*at, '}');
    at++;
  }
  assert_int_equal(*at, ' ');
  char *end;
  double value = strtod(at + 1, &end);
  if (end == at + 1 || *end != '\0' || value < 0) fail_msg("value: %s", line);
  if (!histogram) return;
  /* buckets are cumulative, and the last is the count */
  if (suffix_len == 7) {
    bool first = strstr(line, "le=\"0.000100\"") != NULL;
    if (!first) assert_true(value >= x->last_bucket);
    x->last_bucket = value;
  } else if (suffix_len == 6) {
    assert_true(!(value < x->last_bucket) && !(value > x->last_bucket));
  }
}

static void read_exposition(char *text, exposition *x) {
  *x = (exposition){.current = -1};
  assert_int_equal(text[strlen(text) - 1], '\n');
  for (char *line = text; *line != '\0';) {
    char *end = strchr(line, '\n');
    *end = '\0';
    if (line[0] == '#') read_type(x, line);
    else read_sample(x, line);
    *end = '\n';
    line = end + 1;
  }
}

static void assert_holds(const char *text, const char *line) {
  if (strstr(text, line) == NULL) fail_msg("no line '%s' in:\n%s", line, text);
}

static void metrics_are_prometheus_text_without_secrets(void **state) {
  redmoon_client *client = open_with_password(*state);
  redmoon_error err;
  for (int i = 0; i < 3; i++) assert_int_equal(run(client, ARGV("SET", "key-" PAYLOAD, PAYLOAD), &err), 0);
  assert_int_equal(run(client, ARGV("INCR", "key-" PAYLOAD), &err), REDMOON_ESERVER);
  assert_int_equal(run(client, ARGV("config", "get", "maxmemory"), &err), 0);
  assert_int_equal(run(client, ARGV("NOSUCH" PAYLOAD), &err), REDMOON_ESERVER);
  /* patterns count too: two of them, taking turns */
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  options.limit = 1;
  options.window_ms = 60000;
  redmoon_rate_limiter *limiter;
  assert_int_equal(redmoon_rate_limiter_new(client, &options, &limiter, &err), 0);
  for (int i = 0; i < 2; i++) {
    redmoon_rate_result result;
    assert_int_equal(redmoon_rate_limiter_allow(limiter, "u", 1, NULL, &result, &err), 0);
    redmoon_lock_options lock_options = REDMOON_LOCK_OPTIONS_INIT;
    redmoon_lock *lock;
    assert_int_equal(redmoon_lock_acquire(client, "l", 1, &lock_options, &lock, &err), 0);
    if (i == 0) assert_int_equal(redmoon_lock_release(lock, &err), 0);
    redmoon_lock_free(lock);
  }
  redmoon_rate_limiter_free(limiter);

  char *text;
  size_t len;
  assert_int_equal(redmoon_client_metrics(client, &text, &len, &err), 0);
  assert_int_equal(strlen(text), len);
  exposition x;
  read_exposition(text, &x);
  assert_true(x.count > 15);
  assert_holds(text, "\nredmoon_commands_total{command=\"SET\"} 3\n");
  assert_holds(text, "\nredmoon_commands_total{command=\"INCR\"} 1\n");
  assert_holds(text, "\nredmoon_commands_total{command=\"CONFIG GET\"} 1\n");
  assert_holds(text, "\nredmoon_commands_total{command=\"OTHER\"} 1\n");
  assert_holds(text, "\nredmoon_command_errors_total{command=\"SET\"} 0\n");
  assert_holds(text, "\nredmoon_command_errors_total{command=\"INCR\"} 1\n");
  assert_holds(text, "\nredmoon_command_seconds_count{command=\"SET\"} 3\n");
  assert_holds(text, "\nredmoon_command_seconds_bucket{command=\"SET\",le=\"+Inf\"} 3\n");
  assert_holds(text, "\nredmoon_dials_total 1\n");
  assert_holds(text, "\nredmoon_pool_idle 1\n");
  assert_holds(text, "redmoon_rate_limiter_total{result=\"allowed\"} 1\n");
  assert_holds(text, "redmoon_rate_limiter_total{result=\"denied\"} 1\n");
  assert_holds(text, "redmoon_lock_total{result=\"acquired\"} 2\n");
  assert_null(strstr(text, "s3cr3t"));
  redmoon_free(text);
  redmoon_client_close(client);
}

static void url_and_errors_hold_no_secret(void **state) {
  redmoon_client *client = open_with_password(*state);
  redmoon_error err;
  assert_null(strstr(redmoon_client_url(client), "s3cr3t"));
  assert_int_equal(run(client, ARGV("SET", "k", PAYLOAD), &err), 0);
  assert_int_equal(run(client, ARGV("INCR", "k"), &err), REDMOON_ESERVER);
  assert_null(strstr(err.message, "s3cr3t"));
  assert_int_equal(run(client, ARGV("AUTH", PASSWORD), &err), REDMOON_ECONFIG);
  assert_null(strstr(err.message, "s3cr3t"));
  redmoon_client_close(client);
}

/* Hooks. */

typedef struct journal {
  char text[4096];
  int calls;
} journal;

static void write_down(void *ctx, const redmoon_event *event) {
  journal *j = ctx;
  j->calls++;
  size_t used = strlen(j->text);
  const char *kind = event->kind == REDMOON_EVENT_COMMAND   ? "command"
                     : event->kind == REDMOON_EVENT_RETRY   ? "retry"
                     : event->kind == REDMOON_EVENT_CONNECT ? "connect"
                     : event->kind == REDMOON_EVENT_CLOSE   ? "close"
                                                            : "redirect";
  snprintf(j->text + used, sizeof j->text - used, "%s(%s%s%s%s) ", kind, event->command, event->reason,
           event->error != NULL ? " " : "", event->error != NULL ? event->error->code : "");
  int64_t phases_us = event->resolve_us + event->dial_us + event->tls_us + event->handshake_us;
  bool dialled = event->kind == REDMOON_EVENT_CONNECT && event->error == NULL;
  if (dialled ? phases_us <= 0 || phases_us > event->duration_us : phases_us != 0)
    snprintf(j->text + used, sizeof j->text - used, "PHASES %s ", kind);
  if (event->address == NULL || event->address[0] == '\0' || event->duration_us < 0)
    snprintf(j->text + used, sizeof j->text - used, "INCOMPLETE %s ", kind);
  if (event->error != NULL && strstr(event->error->message, "s3cr3t") != NULL)
    snprintf(j->text, sizeof j->text, "SECRET ");
}

static const int every_kind = REDMOON_EVENT_COMMAND | REDMOON_EVENT_RETRY | REDMOON_EVENT_CONNECT |
                              REDMOON_EVENT_CLOSE | REDMOON_EVENT_REDIRECT;

static void hooks_hear_of_commands_dials_and_closes(void **state) {
  matrix_cell *cell = *state;
  redmoon_client *client = open_with_password(cell);
  journal j = {{0}, 0};
  uint64_t id;
  redmoon_error err;
  assert_int_equal(redmoon_client_on(client, every_kind, write_down, &j, &id, &err), 0);
  assert_int_equal(run(client, ARGV("SET", "k", PAYLOAD), &err), 0);
  assert_int_equal(run(client, ARGV("INCR", "k"), &err), REDMOON_ESERVER);
  assert_int_equal(run(client, ARGV("client", "id"), &err), 0);
  redmoon_pipeline *pipeline;
  assert_int_equal(redmoon_pipeline_new(client, &pipeline, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 1, ARGV("PING"), NULL, &err), 0);
  assert_int_equal(redmoon_pipeline_command(pipeline, 1, ARGV("PING"), NULL, &err), 1);
  assert_int_equal(redmoon_pipeline_run(pipeline, &err), 0);
  redmoon_pipeline_free(pipeline);
  /* killed while idle: found at the next borrow, which dials anew and says nothing to its caller */
  free(redis_server_ask(cell->server, NULL, "CLIENT KILL TYPE normal SKIPME yes"));
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  redmoon_client_close(client);
  assert_string_equal(j.text, "connect() command(SET) command(INCR ERR) command(CLIENT ID) command(PIPELINE) "
                              "close(peer) connect() command(PING) close(closed) ");
}

static void hooks_are_asked_by_mask_and_until_removed(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  journal first = {{0}, 0}, second = {{0}, 0}, closes = {{0}, 0};
  uint64_t ids[3];
  redmoon_error err;
  assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_COMMAND, write_down, &first, &ids[0], &err), 0);
  assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_COMMAND, write_down, &second, &ids[1], &err), 0);
  assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_CLOSE, write_down, &closes, &ids[2], &err), 0);
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  redmoon_client_off(client, ids[0]);
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  redmoon_client_off(client, ids[1]);
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  redmoon_client_off(client, ids[1]); /* again, and one that never was: nothing happens */
  redmoon_client_off(client, 987654);
  assert_int_equal(first.calls, 1);
  assert_int_equal(second.calls, 2);
  assert_int_equal(closes.calls, 0);
  redmoon_client_off(client, ids[2]);
  static const int bad_masks[] = {0, 32, -1};
  for (int i = 0; i < 3; i++)
    assert_int_equal(redmoon_client_on(client, bad_masks[i], write_down, &first, &ids[0], &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_CLOSE, NULL, NULL, &ids[0], &err), REDMOON_ECONFIG);
}

typedef struct turn {
  char *text;
  char letter;
} turn;

static void take_turn(void *ctx, const redmoon_event *event) {
  (void)event;
  const turn *t = ctx;
  size_t used = strlen(t->text);
  t->text[used] = t->letter;
  t->text[used + 1] = '\0';
}

static void hooks_are_asked_in_the_order_they_were_added(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client;
  char text[32] = "";
  turn turns[3] = {{text, 'a'}, {text, 'b'}, {text, 'c'}};
  uint64_t ids[3];
  for (int i = 0; i < 3; i++)
    assert_int_equal(redmoon_client_on(client, REDMOON_EVENT_COMMAND, take_turn, &turns[i], &ids[i], NULL), 0);
  for (int i = 0; i < 2; i++) assert_int_equal(run(client, ARGV("PING"), NULL), 0);
  assert_string_equal(text, "abcabc");
  for (int i = 0; i < 3; i++) redmoon_client_off(client, ids[i]);
}

static void wait_for_op(redmoon_op *op, int limit_ms) {
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  struct pollfd fd = {.fd = wants.fd};
  if ((wants.events & REDMOON_WANT_READ) != 0) fd.events |= POLLIN;
  if ((wants.events & REDMOON_WANT_WRITE) != 0) fd.events |= POLLOUT;
  poll(&fd, 1, wants.timeout_ms >= 0 && wants.timeout_ms < limit_ms ? (int)wants.timeout_ms : limit_ms);
}

static void step_until_blocked(const matrix_cell *cell, redmoon_op *op) {
  for (int i = 0; matrix_info(cell, "clients", "blocked_clients:") < 1; i++) {
    assert_true(i < 10000);
    assert_int_equal(redmoon_op_step(op), 0);
    wait_for_op(op, 2);
  }
}

static void hooks_hear_of_a_read_that_is_repeated(void **state) {
  matrix_cell *cell = *state;
  journal j = {{0}, 0};
  uint64_t id;
  redmoon_error err;
  redmoon_reply *reply;
  redmoon_op *op;
  assert_int_equal(
      redmoon_client_on(cell->client, REDMOON_EVENT_RETRY | REDMOON_EVENT_COMMAND, write_down, &j, &id, &err), 0);
  const char *const *argv = ARGV("XREAD", "BLOCK", "0", "STREAMS", "s", "0");
  assert_int_equal(redmoon_command_start(cell->client, 6, argv, NULL, &reply, &op, &err), 0);
  step_until_blocked(cell, op);
  free(redis_server_ask(cell->server, NULL, "CLIENT KILL TYPE normal SKIPME yes"));
  for (int i = 0; j.calls == 0; i++) {
    assert_true(i < 10000);
    assert_int_equal(redmoon_op_step(op), 0);
    if (j.calls == 0) wait_for_op(op, 2);
  }
  assert_string_equal(j.text, "retry(XREAD IO) ");
  free(redis_server_ask(cell->server, NULL, "XADD s * f v"));
  while (redmoon_op_step(op) == 0) wait_for_op(op, 20000);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(err.attempts, 2);
  redmoon_reply_free(reply);
  assert_string_equal(j.text, "retry(XREAD IO) command(XREAD) ");
  redmoon_client_off(cell->client, id);
}

/* Views. */

static void view_has_its_own_limits_and_the_same_pool(void **state) {
  matrix_cell *cell = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.pool_size = 2;
  redmoon_client *client = matrix_open(cell, &options), *view;
  assert_int_equal(run(client, ARGV("PING"), NULL), 0);
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  call.timeout_ms = 50;
  call.max_retries = 0;
  redmoon_error err;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), 0);
  assert_int_equal(run(view, ARGV("PING"), NULL), 0);
  assert_int_equal(stats_of(view).dials, 1);
  assert_int_equal(stats_of(client).hits, 1);
  assert_string_equal(redmoon_client_url(view), redmoon_client_url(client));
  /* DEBUG SLEEP lasts longer than the view allows, not longer than the client does */
  assert_int_equal(run(view, ARGV("DEBUG", "SLEEP", "0.3"), &err), REDMOON_ETIMEOUT);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(err.phase, REDMOON_PHASE_RECEIVE);
  assert_int_equal(run(client, ARGV("DEBUG", "SLEEP", "0.2"), &err), 0);
  /* a view keeps the client alive */
  redmoon_client_close(client);
  call.timeout_ms = 20000;
  client = view;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), 0);
  redmoon_client_close(client);
  assert_int_equal(run(view, ARGV("PING"), &err), 0);
  redmoon_client_close(view);
}

static void view_that_declares_calls_idempotent_repeats_writes(void **state) {
  matrix_cell *cell = *state;
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  call.idempotent = 1;
  for (int idempotent = 0; idempotent < 2; idempotent++) {
    redmoon_client *view = redmoon_client_ref(cell->client);
    redmoon_error err;
    if (idempotent) {
      redmoon_client_close(view);
      assert_int_equal(redmoon_client_with(cell->client, &call, &view, &err), 0);
    }
    redmoon_reply *reply = NULL;
    redmoon_op *op;
    assert_int_equal(redmoon_command_start(view, 3, ARGV("BLPOP", "list", "0"), NULL, &reply, &op, &err), 0);
    step_until_blocked(cell, op);
    free(redis_server_ask(cell->server, NULL, "CLIENT KILL TYPE normal SKIPME yes"));
    if (idempotent) free(redis_server_ask(cell->server, NULL, "RPUSH list v"));
    while (redmoon_op_step(op) == 0) wait_for_op(op, 20000);
    int rc = redmoon_op_finish(op, &err);
    if (idempotent) {
      if (rc != 0) fail_msg("%s", err.message);
    } else {
      assert_int_equal(rc, REDMOON_EIO);
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      assert_int_equal(err.attempts, 1);
    }
    redmoon_reply_free(reply);
    redmoon_client_close(view);
  }
}

static void view_with_options_out_of_range_is_refused(void **state) {
  redmoon_client *client = ((matrix_cell *)*state)->client, *view = client;
  redmoon_error err;
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  call.timeout_ms = -1;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), REDMOON_ECONFIG);
  assert_null(view);
  assert_non_null(strstr(err.message, "'timeout'"));
  call = (redmoon_call_options)REDMOON_CALL_OPTIONS_INIT;
  call.max_retries = -1;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "'max_retries'"));
  call = (redmoon_call_options)REDMOON_CALL_OPTIONS_INIT;
  call.min_backoff_ms = 600;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "'min_backoff'"));
}

/* The end. */

static void after_shutdown_everything_is_closed_and_nothing_sent(void **state) {
  matrix_cell *cell = *state;
  redmoon_client *client = matrix_open(cell, NULL), *view;
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  redmoon_error err;
  assert_int_equal(redmoon_client_with(client, &call, &view, &err), 0);
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  const redmoon_bytes key = {"k", 1};
  redmoon_transaction *tx;
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), 0);
  assert_int_equal(run(client, ARGV("PING"), &err), 0);
  redmoon_reply *reply;
  redmoon_op *op;
  assert_int_equal(redmoon_command_start(client, 3, ARGV("BLPOP", "list", "0"), NULL, &reply, &op, &err), 0);
  step_until_blocked(cell, op);
  redmoon_client_shutdown(client);
  redmoon_client_shutdown(view);
  while (redmoon_op_step(op) == 0) wait_for_op(op, 20000);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECLOSED);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN); /* it had been sent */
  assert_int_equal(run(view, ARGV("SET", "k", "v"), &err), REDMOON_ECLOSED);
  assert_string_equal(err.code, "CLOSED");
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(redmoon_transaction_command(tx, 2, ARGV("GET", "k"), NULL, &reply, &err), REDMOON_ECLOSED);
  redmoon_transaction_free(tx);
  assert_int_equal(redmoon_transaction_begin(client, &key, 1, NULL, &tx, &err), REDMOON_ECLOSED);
  redmoon_stats stats = stats_of(client);
  assert_int_equal(stats.total, 0);
  redmoon_client_close(view);
  redmoon_client_close(client);
  redmoon_client_close(NULL);
}

static const matrix_test tests[] = {
    MATRIX_TEST(statistics_follow_the_pool),
    MATRIX_TEST(metrics_are_prometheus_text_without_secrets),
    MATRIX_TEST(url_and_errors_hold_no_secret),
    MATRIX_TEST(hooks_hear_of_commands_dials_and_closes),
    MATRIX_TEST(hooks_are_asked_by_mask_and_until_removed),
    MATRIX_TEST(hooks_are_asked_in_the_order_they_were_added),
    MATRIX_TEST(hooks_hear_of_a_read_that_is_repeated),
    MATRIX_TEST(view_has_its_own_limits_and_the_same_pool),
    MATRIX_TEST(view_that_declares_calls_idempotent_repeats_writes),
    MATRIX_TEST(view_with_options_out_of_range_is_refused),
    MATRIX_TEST(after_shutdown_everything_is_closed_and_nothing_sent),
};

int main(void) { return matrix_run("client", tests, sizeof tests / sizeof tests[0]); }
