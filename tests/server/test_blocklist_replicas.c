/* SPDX-License-Identifier: MIT */
/* Promise 8 for the blocklist: a revocation that was said to be done is on its replicas; one that is not there in time is
 * told so, and stays written.  A primary and a replica of the test's own; to stop the replica's process is to have one that
 * lags. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "server/blocklist.h"
#include "support/cutter.h"
#include "support/redis_server.h"

#include <stdio.h>

#define WRITES 5 /* calls that write */

typedef struct fixture {
  redis_server *primary, *replica;
  redmoon_client *client;
} fixture;

static redmoon_client *open_at(const char *url) {
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(url, NULL, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

/* Until the replica has all that was written; the client's one connection may not have written it. */
static void catch_up(fixture *f) {
  redmoon_reply_free(ask(f->client, "SET", "mark", "1", "PX", "60000", NULL));
  int64_t patience_us = rm_clock_now_us() + 20000000;
  while (ask_integer(f->client, "WAIT", "1", "100", NULL) < 1) assert_true(rm_clock_now_us() < patience_us);
  ask_integer(f->client, "DEL", "mark", NULL);
}

static int start(void **state) {
  static fixture f;
  f.primary = redis_server_start(&(redis_server_options){.tcp = true});
  char port[16];
  snprintf(port, sizeof port, "%d", redis_server_port(f.primary));
  const char *args[] = {"--replicaof", "127.0.0.1", port, "--repl-diskless-load", "disabled", NULL};
  f.replica = redis_server_start(&(redis_server_options){.args = args});
  f.client = open_at(redis_server_url(f.primary));
  *state = &f;
  catch_up(&f);
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  redis_server_freeze(f->replica, false); /* a test that failed may have left it stopped */
  redmoon_client_close(f->client);
  redis_server_stop(f->replica);
  redis_server_stop(f->primary);
  return 0;
}

static int empty(void **state) {
  fixture *f = *state;
  redis_server_freeze(f->replica, false);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  catch_up(f);
  return 0;
}

static void replica_stops(fixture *f) { redis_server_freeze(f->replica, true); }
static void replica_goes_on(fixture *f) { redis_server_freeze(f->replica, false); }

static redmoon_blocklist *strict_list(redmoon_client *client, int64_t min_replicas) {
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.min_replicas = min_replicas;
  return list_with(client, &options);
}

/* What was answered is in these, whatever the status. */
typedef struct answers {
  redmoon_revocation_result token, family;
  redmoon_subject_result cutoff, version;
  redmoon_rotation_result rotation;
} answers;

/* Call `which` of those that write. */
static int write_call(redmoon_blocklist *list, int which, int64_t now, answers *out, redmoon_error *err) {
  redmoon_revocation token = {BYTES("token"), now + HOUR, NULL};
  redmoon_rotation rotation = {BYTES("login"), none, BYTES("r0"), HOUR * 1000};
  switch (which) {
  case 0: return redmoon_blocklist_revoke(list, &token, &out->token, err);
  case 1: return redmoon_blocklist_revoke_subject(list, "one", 3, now * 1000, &out->cutoff, err);
  case 2: return redmoon_blocklist_bump(list, "two", 3, "request", &out->version, err);
  case 3: return redmoon_blocklist_rotate(list, &rotation, &out->rotation, err);
  default: return redmoon_blocklist_revoke_family(list, "other", 5, &out->family, err);
  }
}

static void assert_all_revoked(redmoon_client *client, int64_t now) {
  redmoon_blocklist *plain = list_of(client);
  assert_string_equal(check_jti(plain, BYTES("token")).reason, "revoked");
  redmoon_claims claims = claims_of(none, BYTES("one"), now, REDMOON_UNSET);
  assert_string_equal(check(plain, &claims).reason, "subject");
  claims = claims_of(none, BYTES("two"), now + HOUR, REDMOON_UNSET);
  assert_string_equal(check(plain, &claims).reason, "version");
  assert_string_equal(check_family(plain, BYTES("other")).reason, "family");
  redmoon_blocklist_free(plain);
}

static void assert_unreplicated(int status, const redmoon_error *err, const char *why) {
  assert_int_equal(status, REDMOON_EUNAVAILABLE);
  if (strstr(err->message, why) == NULL) fail_msg("%s", err->message);
  assert_non_null(strstr(err->message, "blocklist: it is written and stays so, but "));
  assert_int_equal(err->outcome, REDMOON_ANSWERED);
  assert_int_equal(err->retryable, 1);
}

/* The connection went back to the pool: one does for all calls. */
static void assert_idle(redmoon_client *client) {
  redmoon_stats stats;
  redmoon_client_stats(client, &stats);
  assert_int_equal(stats.in_use, 0);
  assert_int_equal(stats.dials, 1);
}

static void what_is_said_to_be_done_is_on_the_replica(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = strict_list(f->client, 1);
  int64_t now = server_s(f->client);
  answers got = {0};
  redmoon_error err;
  for (int i = 0; i < WRITES; i++) {
    if (write_call(list, i, now, &got, &err) != 0) fail_msg("%s", err.message);
    char *there = redis_server_ask(f->replica, NULL, "DBSIZE"), here[24];
    snprintf(here, sizeof here, ":%lld", (long long)ask_integer(f->client, "DBSIZE", NULL));
    assert_string_equal(there, here);
    free(there);
  }
  assert_int_equal(got.token.status, REDMOON_REVOCATION_DONE);
  assert_int_equal(got.rotation.status, REDMOON_ROTATION_DONE);
  assert_all_revoked(f->client, now);
  assert_idle(f->client);
  redmoon_blocklist_free(list);
}

static void what_reaches_too_few_replicas_is_told_and_stays_written(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = strict_list(f->client, 2); /* there is one */
  int64_t now = server_s(f->client);
  answers got = {0};
  redmoon_error err;
  for (int i = 0; i < WRITES; i++)
    assert_unreplicated(write_call(list, i, now, &got, &err), &err,
                        "it has reached 1 replicas in time, and min_replicas is 2");
  assert_int_equal(got.token.status, REDMOON_REVOCATION_DONE);
  assert_int_equal(got.cutoff.status, REDMOON_REVOCATION_DONE);
  assert_true(got.version.version > 0);
  assert_int_equal(got.rotation.status, REDMOON_ROTATION_DONE);
  assert_int_equal(got.family.status, REDMOON_REVOCATION_DONE);
  assert_all_revoked(f->client, now);
  assert_idle(f->client);
  char line[64];
  snprintf(line, sizeof line, "redmoon_blocklist_total{result=\"unreplicated\"} %d\n", WRITES);
  assert_true(counts(f->client, line));
  redmoon_blocklist_free(list);
}

/* Servers count what the connection itself has written, and that of the repetition has written nothing before. */
static void what_an_earlier_call_wrote_is_waited_for_by_its_repetition(void **state) {
  fixture *f = *state;
  redmoon_blocklist *plain = list_of(f->client);
  int64_t now = server_s(f->client);
  answers first = {0}, again = {0};
  redmoon_error err;
  replica_stops(f);
  for (int i = 0; i < WRITES; i++) assert_int_equal(write_call(plain, i, now, &first, &err), 0);
  redmoon_blocklist_free(plain);
  for (int i = 0; i < WRITES; i++) {
    redmoon_client *fresh = open_at(redis_server_url(f->primary));
    redmoon_blocklist *list = strict_list(fresh, 1);
    assert_unreplicated(write_call(list, i, now, &again, &err), &err, "it has reached 0 replicas in time");
    redmoon_blocklist_free(list);
    redmoon_client_close(fresh);
  }
  replica_goes_on(f);
  redmoon_blocklist *list = strict_list(f->client, 1);
  catch_up(f);
  for (int i = 0; i < WRITES; i++)
    if (write_call(list, i, now, &again, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(again.token.status, REDMOON_REVOCATION_KEPT);
  assert_true(again.token.ttl_ms <= first.token.ttl_ms && again.token.ttl_ms > first.token.ttl_ms - 60000);
  assert_true(again.cutoff.cutoff_ms == first.cutoff.cutoff_ms);
  assert_true(again.version.version == first.version.version);
  assert_int_equal(again.rotation.status, REDMOON_ROTATION_DONE);
  assert_all_revoked(f->client, now);
  redmoon_blocklist_free(list);
}

/* Reuse is told as such when it is repeated, and asks the replicas too. */
static void theft_is_told_though_no_replica_knows_of_it(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = strict_list(f->client, 1);
  redmoon_rotation rotation = {BYTES("login"), none, BYTES("r0"), HOUR * 1000};
  redmoon_rotation_result result = {0};
  redmoon_error err;
  assert_int_equal(redmoon_blocklist_rotate(list, &rotation, &result, &err), 0);
  rotation.presented = BYTES("stolen");
  rotation.next = BYTES("r1");
  replica_stops(f);
  for (int i = 0; i < 2; i++) {
    redmoon_client *fresh = open_at(redis_server_url(f->primary));
    redmoon_blocklist *own = strict_list(fresh, 1);
    result = (redmoon_rotation_result){0};
    assert_unreplicated(redmoon_blocklist_rotate(own, &rotation, &result, &err), &err, "it has reached 0 replicas");
    assert_int_equal(result.status, REDMOON_ROTATION_REUSED);
    redmoon_blocklist_free(own);
    redmoon_client_close(fresh);
  }
  replica_goes_on(f);
  assert_int_equal(redmoon_blocklist_rotate(list, &rotation, &result, &err), 0);
  assert_int_equal(result.status, REDMOON_ROTATION_REUSED);
  redmoon_blocklist_free(list);
}

static void lost_answer_is_asked_for_again_and_then_the_replicas_are(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(redis_server_url(f->primary));
  redmoon_client *through = open_at(cutter_url(c));
  redmoon_blocklist *list = strict_list(through, 1);
  int64_t now = server_s(f->client);
  answers got = {0};
  redmoon_error err;
  for (int i = 0; i < WRITES; i++) {
    cutter_lose(c, 1);
    if (write_call(list, i, now, &got, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(cutter_left(c), 0);
  }
  assert_all_revoked(f->client, now);
  redmoon_blocklist_free(list);
  redmoon_client_close(through);
  cutter_stop(c);
}

/* What is refused is told as it is without replicas, and nobody is waited for: there are no thousand. */
static void refused_call_waits_for_nobody(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = strict_list(f->client, 1000);
  redmoon_revocation token = {BYTES("secret"), server_s(f->client) * 1000, NULL};
  redmoon_revocation_result result;
  redmoon_error err;
  refused(redmoon_blocklist_revoke(list, &token, &result, &err), &err, "exp is more than 100 years");
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_blocklist *plain = list_of(f->client);
  token.exp_s = server_s(f->client) + HOUR;
  redmoon_subject_result subject;
  assert_int_equal(redmoon_blocklist_bump(plain, "user", 4, NULL, &subject, &err), 0);
  char *key = only_key(f->client);
  redmoon_reply_free(ask(f->client, "SET", key, "1", NULL));
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, NULL, &subject, &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_idle(f->client);
  free(key);
  redmoon_blocklist_free(plain);
  redmoon_blocklist_free(list);
}

/* Given up in the wait: nobody can tell, and the connection, on which an answer is under way, is closed. */
static void call_that_is_cancelled_in_its_wait_is_unknown(void **state) {
  fixture *f = *state;
  redmoon_client *own = open_at(redis_server_url(f->primary));
  redmoon_blocklist *list = strict_list(own, 1);
  redmoon_revocation token = {BYTES("token"), server_s(f->client) + HOUR, NULL};
  redmoon_revocation_result result;
  redmoon_error err;
  redmoon_op *op = NULL;
  replica_stops(f);
  assert_int_equal(redmoon_blocklist_revoke_start(list, &token, &result, &op, &err), 0);
  while (ask_integer(f->client, "EXISTS", "mark", NULL) == 0) { /* until the server has its WAIT */
    assert_int_equal(redmoon_op_step(op), 0);
    redmoon_reply *clients = ask(f->client, "CLIENT", "LIST", NULL);
    if (strstr(redmoon_reply_string(clients, NULL), "cmd=wait") != NULL)
      redmoon_reply_free(ask(f->client, "SET", "mark", "1", NULL));
    redmoon_reply_free(clients);
  }
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ECANCELLED);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  redmoon_stats stats;
  redmoon_client_stats(own, &stats);
  assert_int_equal(stats.in_use + stats.idle, 0);
  redmoon_blocklist_free(list);
  redmoon_client_close(own);
}

static bool refuse_at(void *ctx, size_t size) {
  (void)size;
  int *left = ctx;
  return (*left)-- == 0;
}

static void lack_of_memory_at_any_point_never_says_done_what_is_not(void **state) {
  fixture *f = *state;
  bool hit = true;
  for (int at = 0; hit; at++) {
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    redmoon_client *own = open_at(redis_server_url(f->primary));
    redmoon_blocklist *list = strict_list(own, 1);
    answers got = {0};
    redmoon_error err;
    int left = at;
    int64_t now = server_s(f->client);
    rm_alloc_set_refuse(refuse_at, &left);
    int status = write_call(list, 0, now, &got, &err);
    rm_alloc_set_refuse(NULL, NULL);
    hit = left < 0;
    assert_true(hit || status == 0);
    redmoon_blocklist *plain = list_of(f->client);
    bool revoked = check_jti(plain, BYTES("token")).revoked != 0;
    if (status == 0) assert_true(revoked);
    else if (err.outcome == REDMOON_ANSWERED) assert_true(revoked);
    else if (err.outcome == REDMOON_NOT_SENT) assert_false(revoked);
    redmoon_stats stats;
    redmoon_client_stats(own, &stats);
    assert_int_equal(stats.in_use, 0);
    redmoon_blocklist_free(plain);
    redmoon_blocklist_free(list);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(what_is_said_to_be_done_is_on_the_replica, empty),
      cmocka_unit_test_setup(what_reaches_too_few_replicas_is_told_and_stays_written, empty),
      cmocka_unit_test_setup(what_an_earlier_call_wrote_is_waited_for_by_its_repetition, empty),
      cmocka_unit_test_setup(theft_is_told_though_no_replica_knows_of_it, empty),
      cmocka_unit_test_setup(lost_answer_is_asked_for_again_and_then_the_replicas_are, empty),
      cmocka_unit_test_setup(refused_call_waits_for_nobody, empty),
      cmocka_unit_test_setup(call_that_is_cancelled_in_its_wait_is_unknown, empty),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_never_says_done_what_is_not, empty),
  };
  return cmocka_run_group_tests_name("blocklist replicas", tests, start, stop);
}
