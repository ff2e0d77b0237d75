/* SPDX-License-Identifier: MIT */
/* Locks through the public interface, on a server of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/op.h"
#include "patterns/scripts_generated.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/cutter.h"
#include "support/fake_server.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define KEY "redmoon:{n}:lock"

static redmoon_lock *acquire(redmoon_client *client, int64_t ttl_ms) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = ttl_ms;
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, "n", 1, &options, &lock, &err) != 0) fail_msg("%s", err.message);
  assert_non_null(lock);
  return lock;
}

static void acquired_lock_has_token_fence_and_lease(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->client, REDMOON_UNSET);
  assert_int_equal(strlen(redmoon_lock_token(lock)), 32);
  assert_int_equal(strspn(redmoon_lock_token(lock), "0123456789abcdef"), 32);
  assert_true(redmoon_lock_fence(lock) > INT64_C(1700000000000000));
  assert_true(redmoon_lock_held(lock));
  int64_t left = redmoon_lock_remaining_ms(lock);
  assert_true(left > 5000 && left <= 9898); /* 10 s less 1 % and 2 ms */
  char owner[64];
  assert_int_equal(ask_text(f->client, owner, sizeof owner, "HGET", KEY, "owner", NULL), 32);
  assert_string_equal(owner, redmoon_lock_token(lock));
  redmoon_lock_free(lock);
}

static void held_lock_is_refused_with_the_code_locked(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->client, 10000), *other = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, NULL, &other, &err), REDMOON_ELOCKED);
  assert_null(other);
  assert_string_equal(err.code, "LOCKED");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_true(err.retryable);
  assert_non_null(strstr(err.message, "lock 'n' is held by another"));
  redmoon_lock_free(lock);
}

static void each_holder_gets_another_token_and_a_higher_fence(void **state) {
  fixture *f = *state;
  redmoon_error err;
  int64_t fence = 0;
  char token[33] = "";
  for (int i = 0; i < 50; i++) {
    redmoon_lock *lock = acquire(f->client, 10000);
    assert_true(redmoon_lock_fence(lock) > fence);
    assert_string_not_equal(redmoon_lock_token(lock), token);
    fence = redmoon_lock_fence(lock);
    memcpy(token, redmoon_lock_token(lock), sizeof token);
    if (i % 2 == 0) assert_int_equal(redmoon_lock_release(lock, &err), 0);
    else redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    redmoon_lock_free(lock);
  }
}

static void repeated_release_succeeds_without_the_server(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
  redmoon_lock *lock = acquire(own, 10000);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  assert_false(redmoon_lock_held(lock));
  assert_int_equal(redmoon_lock_remaining_ms(lock), 0);
  redmoon_client_shutdown(own);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  redmoon_op *op;
  assert_int_equal(redmoon_lock_release_start(lock, &op, &err), 0);
  redmoon_lock_free(lock);
  assert_int_equal(redmoon_op_step(op), 1);
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  redmoon_client_close(own);
}

static void lock_taken_by_another_is_lost_and_left_alone(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *first = acquire(f->client, 10000);
  ask_integer(f->client, "DEL", KEY, NULL);
  redmoon_lock *second = acquire(f->client, 10000);
  char before[512], after[512];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  assert_int_equal(redmoon_lock_extend(first, 60000, &err), REDMOON_ELOST);
  assert_string_equal(err.code, "LOST");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_non_null(strstr(err.message, "another holds it now"));
  assert_false(redmoon_lock_held(first));
  assert_int_equal(redmoon_lock_release(first, &err), REDMOON_ELOST);
  assert_int_equal(redmoon_lock_release(first, &err), REDMOON_ELOST);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) <= 10000);
  assert_true(redmoon_lock_held(second));
  redmoon_lock_free(first);
  redmoon_lock_free(second);
}

static void lock_that_is_gone_is_lost(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *lock = acquire(f->client, 10000);
  ask_integer(f->client, "DEL", KEY, NULL);
  assert_int_equal(redmoon_lock_release(lock, &err), REDMOON_ELOST);
  assert_non_null(strstr(err.message, "its lease ended"));
  assert_int_equal(redmoon_lock_extend(lock, REDMOON_UNSET, &err), REDMOON_ELOST);
  redmoon_lock_free(lock);
}

static void extend_prolongs_and_never_shortens(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *lock = acquire(f->client, 5000);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > 50000);
  assert_int_equal(redmoon_lock_extend(lock, REDMOON_UNSET, &err), 0); /* to 5 s */
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > 50000);
  redmoon_lock_free(lock);
}

static void released_lock_cannot_be_extended(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *lock = acquire(f->client, 5000);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_int_equal(redmoon_lock_extend(lock, 5000, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  redmoon_lock_free(lock);
}

static void bad_options_are_refused_with_the_accepted_range(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock *lock = NULL;
  static const int64_t bad[] = {-1, 0, 9, 86400001, INT64_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
    options.ttl_ms = bad[i];
    assert_int_equal(redmoon_lock_acquire(f->client, "n", 1, &options, &lock, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "give 10 to 86400000 ms"));
  }
  static char name[513];
  assert_int_equal(redmoon_lock_acquire(f->client, name, 513, NULL, &lock, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_lock_acquire(f->client, name, 0, NULL, &lock, &err), REDMOON_ECONFIG);
  assert_null(lock);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  lock = acquire(f->client, 5000);
  assert_int_equal(redmoon_lock_extend(lock, 9, &err), REDMOON_ECONFIG);
  assert_true(redmoon_lock_held(lock));
  redmoon_lock_free(lock);
}

static void local_lease_ends_before_the_servers(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->client, 400);
  int looks = 0;
  for (;;) {
    int64_t exists = ask_integer(f->client, "EXISTS", KEY, NULL);
    if (!redmoon_lock_held(lock)) break;
    assert_int_equal(exists, 1); /* it was still held after the server had answered */
    looks++;
  }
  assert_true(looks > 0);
  assert_int_equal(redmoon_lock_remaining_ms(lock), 0);
  redmoon_lock_free(lock);
}

static void acquisition_answered_after_its_lease_is_not_handed_out(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = 10;
  redmoon_lock *lock = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_lock_acquire_start(f->client, "n", 1, &options, &lock, &op, &err), 0);
  redmoon_reply_free(ask(f->client, "CLIENT", "PAUSE", "100", "ALL", NULL)); /* it answers that late */
  rm_drive(op);
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ELOST);
  assert_non_null(strstr(err.message, "ended before the answer came"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_null(lock);
}

static void what_became_of_locks_is_counted(void **state) {
  fixture *f = *state;
  redmoon_client *own;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
  redmoon_lock *lock = acquire(own, 10000), *other = NULL;
  assert_int_equal(redmoon_lock_acquire(own, "n", 1, NULL, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  char *text;
  size_t len;
  assert_int_equal(redmoon_client_metrics(own, &text, &len, &err), 0);
  static const char *const results[] = {"acquired", "held", "released"};
  for (size_t i = 0; i < 3; i++) {
    char line[64];
    snprintf(line, sizeof line, "redmoon_lock_total{result=\"%s\"} 1\n", results[i]);
    assert_non_null(strstr(text, line));
  }
  redmoon_free(text);
  redmoon_lock_free(lock);
  redmoon_client_close(own);
}

static void key_prefix_and_hash_tag_of_the_caller_are_kept(void **state) {
  fixture *f = *state;
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.key_prefix = "app:test";
  redmoon_client *own;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(embedded_server_url(f->server), &options, &own, &err), 0);
  redmoon_lock *lock;
  assert_int_equal(redmoon_lock_acquire(own, "user:{42}", 9, NULL, &lock, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", "app:test:~user:{42}:lock", "app:test:~user:{42}:fence", NULL),
                   2);
  redmoon_lock_free(lock);
  redmoon_client_close(own);
}

/* Answers are lost after the server executed the script. */

static void request_whose_answer_was_lost_is_repeated_without_harm(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  cutter_lose(c, 1);
  redmoon_lock *lock = acquire(through, 10000);
  assert_int_equal(cutter_left(c), 0);
  char owner[64];
  assert_int_equal(ask_text(f->client, owner, sizeof owner, "HGET", KEY, "owner", NULL), 32);
  assert_string_equal(owner, redmoon_lock_token(lock));
  cutter_lose(c, 1);
  assert_int_equal(redmoon_lock_extend(lock, 20000, &err), 0);
  assert_int_equal(cutter_left(c), 0);
  cutter_lose(c, 1);
  if (redmoon_lock_release(lock, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(cutter_left(c), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  redmoon_lock_free(lock);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void release_that_ended_unknown_can_be_repeated(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.max_retries = 0;
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), &options, &through, &err), 0);
  redmoon_lock *lock = acquire(through, 10000);
  cutter_lose(c, 1);
  assert_true(redmoon_lock_release(lock, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_false(redmoon_lock_held(lock)); /* it may have been released */
  assert_int_equal(redmoon_lock_extend(lock, 10000, &err), REDMOON_ELOST);
  redmoon_lock *other = acquire(f->client, 10000);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 1); /* the other's */
  redmoon_lock_free(other);
  redmoon_lock_free(lock);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void operation_works_under_a_loop_and_outlives_the_handle(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_op *op;
  redmoon_lock *lock = acquire(f->client, 10000);
  assert_int_equal(redmoon_lock_release_start(lock, &op, &err), 0);
  assert_false(redmoon_lock_held(lock));
  redmoon_lock_free(lock);
  while (!redmoon_op_step(op)) {
    redmoon_wants wants;
    redmoon_op_wants(op, &wants);
    struct pollfd fd = {wants.fd, 0, 0};
    if (wants.events & REDMOON_WANT_READ) fd.events |= POLLIN;
    if (wants.events & REDMOON_WANT_WRITE) fd.events |= POLLOUT;
    (void)poll(&fd, 1, (int)wants.timeout_ms);
  }
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", KEY, NULL), 0);
  lock = NULL;
  assert_int_equal(redmoon_lock_acquire_start(f->client, "n", 1, NULL, &lock, &op, &err), 0);
  redmoon_op_cancel(op);
  assert_null(lock);
}

/* What is sent holds durations and random bytes, and no time of the client: its clock may be wrong by any amount. */

static bool grant(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)peer;
  (void)ctx;
  bool acquires = command->argc > 1 && strcmp(command->argv[1], rm_script_lock_acquire.sha1) == 0;
  fake_append_text(reply, acquires ? "*4\r\n:1\r\n:7\r\n:10000\r\n:1\r\n" : "*2\r\n:1\r\n:20000\r\n");
  return true;
}
static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, grant, ctx); }

static bool is_hex(const char *text, size_t len) {
  return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

/* After the name of the script; NULL: the end, "": the token, "*": the id of the hold. */
typedef struct request {
  const rm_builtin *script;
  const char *args[9];
} request;

/* `id`: of the hold, or empty until it is known. */
static void compare(const fake_command *sent, const request *expected, const char *token, char id[17]) {
  assert_string_equal(sent->argv[1], expected->script->sha1);
  size_t at = 2;
  for (const char *const *arg = expected->args; *arg != NULL; arg++, at++) {
    assert_true(at < sent->argc);
    const char *text = sent->argv[at];
    if (strcmp(*arg, "*") == 0) {
      assert_true(is_hex(text, 16));
      if (id[0] == '\0') memcpy(id, text, 17);
      assert_string_equal(text, id);
    } else {
      assert_string_equal(text, **arg == '\0' ? token : *arg);
    }
  }
  assert_int_equal(sent->argc, at);
}

static void no_request_holds_a_time_of_the_clients_clock(void **state) {
  (void)state;
  static const request expected[] = {
      {&rm_script_lock_acquire, {"3", KEY, "redmoon:{n}:fence", KEY ".beats", "", "10000", "*", "0", NULL}},
      {&rm_script_lock_extend, {"1", KEY, "", "20000", "*", NULL}},
      {&rm_script_lock_release, {"1", KEY, "", "*", NULL}},
  };
  fake_server *server = fake_server_start(&(fake_options){.script = serve});
  char url[120], id[17] = "";
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  redmoon_client *own;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(url, NULL, &own, &err), 0);
  redmoon_lock *lock = acquire(own, 10000);
  assert_int_equal(redmoon_lock_extend(lock, 20000, &err), 0);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_true(is_hex(redmoon_lock_token(lock), 32));
  size_t seen = 0;
  for (size_t i = 0; i < fake_server_commands(server); i++) {
    const fake_command *sent = fake_server_command(server, i);
    if (strcmp(sent->argv[0], "EVALSHA") != 0) continue;
    assert_true(seen < 3);
    compare(sent, &expected[seen++], redmoon_lock_token(lock), id);
  }
  assert_int_equal(seen, 3);
  redmoon_lock_free(lock);
  redmoon_client_close(own);
  assert_null(fake_server_failure(server));
  fake_server_stop(server);
}

static bool refuse_at(void *ctx, size_t size) {
  (void)size;
  int *left = ctx;
  return (*left)-- == 0;
}

/* What a refused allocation would leak is seen by the leak checker. */
static void lack_of_memory_at_any_point_is_reported_and_leaks_nothing(void **state) {
  fixture *f = *state;
  redmoon_error err;
  bool refused = true;
  int acquired = 0;
  for (int at = 0; refused; at++) {
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    redmoon_client *own; /* a new one each time: a dial that failed makes a pool wait before the next */
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_lock *lock = NULL;
    int left = at;
    rm_alloc_set_refuse(refuse_at, &left);
    int status = redmoon_lock_acquire(own, "n", 1, NULL, &lock, &err);
    if (status == 0) status = redmoon_lock_release(lock, &err);
    rm_alloc_set_refuse(NULL, NULL);
    refused = left < 0;
    if (!refused && status < 0) fail_msg("%s", err.message);
    acquired += lock != NULL;
    redmoon_lock_free(lock);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
  assert_true(acquired > 1); /* also with the release alone refused */
}

static void server_names_the_scripts_as_the_library_does(void **state) {
  fixture *f = *state;
  for (size_t i = 0; rm_scripts[i] != NULL; i++) {
    char sha1[64];
    assert_int_equal(strlen(rm_scripts[i]->source), rm_scripts[i]->len);
    assert_int_equal(ask_text(f->client, sha1, sizeof sha1, "SCRIPT", "LOAD", rm_scripts[i]->source, NULL), 40);
    assert_string_equal(sha1, rm_scripts[i]->sha1);
  }
}

/* Exclusion among threads; the workers record, the main thread asserts. */
enum { WORKERS = 4, TURNS = 40 };
typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  atomic_int *inside;
  _Atomic int64_t *last_fence;
  int overlaps, falls, failures, turns;
} worker;

static void *take_turns(void *ctx) {
  worker *w = ctx;
  redmoon_error err;
  while (w->turns < TURNS && w->failures == 0) {
    redmoon_lock *lock;
    int status = redmoon_lock_acquire(w->client, "n", 1, NULL, &lock, &err);
    if (status == REDMOON_ELOCKED) continue;
    if (status < 0) {
      w->failures++;
      break;
    }
    w->turns++;
    if (atomic_fetch_add(w->inside, 1) != 0) w->overlaps++;
    if (atomic_exchange(w->last_fence, redmoon_lock_fence(lock)) >= redmoon_lock_fence(lock)) w->falls++;
    atomic_fetch_sub(w->inside, 1);
    if (redmoon_lock_release(lock, &err) < 0) w->failures++;
    redmoon_lock_free(lock);
  }
  return NULL;
}

static void threads_exclude_each_other(void **state) {
  fixture *f = *state;
  atomic_int inside = 0;
  _Atomic int64_t last_fence = 0;
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].client = f->client;
    workers[i].inside = &inside;
    workers[i].last_fence = &last_fence;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].overlaps, 0);
    assert_int_equal(workers[i].falls, 0);
    assert_int_equal(workers[i].turns, TURNS);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(acquired_lock_has_token_fence_and_lease, embedded_fixture_empty),
      cmocka_unit_test_setup(held_lock_is_refused_with_the_code_locked, embedded_fixture_empty),
      cmocka_unit_test_setup(each_holder_gets_another_token_and_a_higher_fence, embedded_fixture_empty),
      cmocka_unit_test_setup(repeated_release_succeeds_without_the_server, embedded_fixture_empty),
      cmocka_unit_test_setup(lock_taken_by_another_is_lost_and_left_alone, embedded_fixture_empty),
      cmocka_unit_test_setup(lock_that_is_gone_is_lost, embedded_fixture_empty),
      cmocka_unit_test_setup(extend_prolongs_and_never_shortens, embedded_fixture_empty),
      cmocka_unit_test_setup(released_lock_cannot_be_extended, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_the_accepted_range, embedded_fixture_empty),
      cmocka_unit_test_setup(local_lease_ends_before_the_servers, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(acquisition_answered_after_its_lease_is_not_handed_out, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(what_became_of_locks_is_counted, embedded_fixture_empty),
      cmocka_unit_test_setup(key_prefix_and_hash_tag_of_the_caller_are_kept, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(request_whose_answer_was_lost_is_repeated_without_harm, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup_teardown(release_that_ended_unknown_can_be_repeated, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(operation_works_under_a_loop_and_outlives_the_handle, embedded_fixture_empty),
      cmocka_unit_test_setup(no_request_holds_a_time_of_the_clients_clock, embedded_fixture_empty),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_is_reported_and_leaks_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup(server_names_the_scripts_as_the_library_does, embedded_fixture_empty),
      cmocka_unit_test_setup(threads_exclude_each_other, embedded_fixture_empty),
  };
  return embedded_server_run("lock", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
