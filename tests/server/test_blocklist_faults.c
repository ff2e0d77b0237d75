/* SPDX-License-Identifier: MIT */
/* The blocklist when something is wrong: with the arguments, the server, what it holds, an answer, the memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "server/blocklist.h"
#include "support/cutter.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

static redmoon_claims a_claim(void) {
  redmoon_claims claims = REDMOON_CLAIMS_INIT;
  claims.jti = BYTES("secret-jti");
  return claims;
}

static void without_a_server_on_error_decides_and_it_is_counted(void **state) {
  (void)state;
  redmoon_embedded *server;
  redmoon_client *client;
  redmoon_error err;
  assert_int_equal(redmoon_embedded_start(NULL, &server, &err), 0);
  assert_int_equal(redmoon_client_open(redmoon_embedded_url(server), NULL, &client, &err), 0);
  static const char *const words[] = {NULL, "deny", "allow", "error"};
  redmoon_blocklist *lists[4];
  for (int i = 0; i < 4; i++) {
    redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
    options.on_error = words[i];
    lists[i] = list_with(client, &options);
    assert_false(check_jti(lists[i], BYTES("secret-jti")).revoked);
  }
  redmoon_embedded_close(server);
  for (int i = 0; i < 4; i++) {
    redmoon_claims claims = a_claim();
    redmoon_check_result result = {.revoked = 7};
    int status = redmoon_blocklist_check(lists[i], &claims, &result, &err);
    assert_true(err.status < 0 && err.message[0] != '\0');
    assert_null(strstr(err.message, "secret"));
    if (i == 3) {
      assert_int_equal(status, err.status);
      assert_int_equal(result.revoked, 7);
    } else {
      assert_int_equal(status, 0);
      assert_int_equal(result.revoked, i != 2);
      assert_string_equal(result.reason, "unavailable");
    }
    redmoon_revocation token = {BYTES("secret-jti"), 2000000000, NULL};
    redmoon_revocation_result revoked;
    assert_true(redmoon_blocklist_revoke(lists[i], &token, &revoked, &err) < 0); /* never said to be done */
    redmoon_blocklist_free(lists[i]);
  }
  assert_true(counts(client, "redmoon_blocklist_total{result=\"unavailable\"} 4\n"));
  assert_true(counts(client, "redmoon_blocklist_total{result=\"passed\"} 4\n"));
  redmoon_client_close(client);
}

static void what_cannot_be_read_is_unavailable_unless_another_says_revoked(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *list = list_of(f->client);
  redmoon_subject_result subject;
  int64_t now = server_s(f->client);
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, REDMOON_UNSET, &subject, &err), 0);
  char *key = only_key(f->client);
  redmoon_claims claims = claims_of(BYTES("a"), BYTES("user"), now + HOUR, REDMOON_UNSET);
  assert_false(check(list, &claims).revoked);
  static const char *const broken[] = {"x", "-1", "", "12345678901234567890"};
  for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
    ask_integer(f->client, "HSET", key, "cut", broken[i], NULL);
    redmoon_check_result result;
    assert_int_equal(redmoon_blocklist_check(list, &claims, &result, &err), 0);
    assert_true(result.revoked);
    assert_string_equal(result.reason, "unavailable");
    assert_string_equal(err.code, "PROTOCOL");
  }
  redmoon_reply_free(ask(f->client, "SET", key, "1", NULL));
  assert_string_equal(check(list, &claims).reason, "unavailable");
  redmoon_check_result many[2];
  redmoon_claims two[] = {claims, claims_of(BYTES("a"), none, 0, 0)};
  assert_int_equal(redmoon_blocklist_check_many(list, two, 2, many, &err), 0);
  assert_string_equal(err.code, "WRONGTYPE");
  assert_string_equal(many[0].reason, "unavailable");
  assert_string_equal(many[1].reason, "");
  revoke_token(list, BYTES("a"), now + HOUR, NULL);
  assert_string_equal(check(list, &claims).reason, "revoked");
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.on_error = "error";
  redmoon_blocklist *strict = list_with(f->client, &options);
  claims.jti = BYTES("b");
  assert_int_equal(redmoon_blocklist_check(strict, &claims, &many[0], &err), REDMOON_ESERVER);
  assert_string_equal(err.code, "WRONGTYPE");
  redmoon_blocklist_free(strict);
  redmoon_blocklist_free(list);
  free(key);
}

static void lost_answers_change_nothing_twice(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_blocklist *list = list_of(through);
  cutter_lose(c, 1);
  assert_true(revoke_token(list, BYTES("a"), server_s(f->client) + HOUR, NULL).status != REDMOON_REVOCATION_EXPIRED);
  assert_int_equal(cutter_left(c), 0);
  cutter_lose(c, 1);
  assert_int_equal(rotate(list, none, BYTES("r0")), REDMOON_ROTATION_DONE);
  cutter_lose(c, 1);
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("r1")), REDMOON_ROTATION_DONE);
  assert_int_equal(cutter_left(c), 0);
  assert_false(check_family(list, BYTES("login 7")).revoked);
  cutter_lose(c, 1); /* a theft is told, though its answer was lost */
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("thief")), REDMOON_ROTATION_REUSED);
  assert_int_equal(cutter_left(c), 0);
  redmoon_subject_result first, second;
  cutter_lose(c, 1);
  assert_true(redmoon_blocklist_bump(list, "user", 4, NULL, &first, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, "request-1", &first, &err), 0);
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, "request-1", &second, &err), 0);
  assert_true(first.version == second.version);
  assert_int_equal(cutter_left(c), 0);
  redmoon_blocklist_free(list);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  static const struct {
    const char *name;
    redmoon_blocklist_options options;
    const char *message;
  } bad[] = {
      {"", {0, 0, 0, 0, 1000, 0, 0}, "blocklist name: '' is not accepted; give 1 to 32 letters"},
      {"a:b", {0, 0, 0, 0, 1000, 0, 0}, "blocklist name: 'a:b' is not accepted"},
      {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", {0, 0, 0, 0, 1000, 0, 0}, "give 1 to 32 letters"},
      {"a", {0, 0, 0, -1, 1000, 0, 0}, "option leeway: -1 ms is not accepted; give 0 to 600000 ms"},
      {"a", {0, 0, 0, 600001, 1000, 0, 0}, "option leeway: 600001 ms is not accepted"},
      {"a", {0, 0, 0, 0, 999, 0, 0}, "option max_life: 999 ms is not accepted; give 1000 to 3155760000000 ms"},
      {"a", {0, 0, 0, 0, INT64_C(3155760000001), 0, 0}, "option max_life: 3155760000001 ms is not accepted"},
      {"a", {0, "secret-key-1234", 15, 0, 1000, 0, 0}, "option hash_key: 15 bytes are not accepted; give 16 to 64"},
      {"a", {0, "secret-key-1234", 65, 0, 1000, 0, 0}, "option hash_key: 65 bytes"},
      {"a", {0, NULL, 16, 0, 1000, 0, 0}, "option hash_key: 0 bytes"},
      {"a", {0, 0, 0, 0, 1000, "fail", 0},
       "option on_error: 'fail' is not accepted; give \"deny\", \"allow\" or \"error\""},
      {"a", {0, 0, 0, 0, 1000, 0, -1}, "option min_replicas: -1 replicas is not accepted; give 0 to 1000 replicas"},
      {"a", {0, 0, 0, 0, 1000, 0, 1001}, "option min_replicas: 1001 replicas is not accepted"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_blocklist *list = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_blocklist_new(f->client, bad[i].name, &bad[i].options, &list, &err), REDMOON_ECONFIG);
    assert_null(list);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
    assert_null(strstr(err.message, "secret"));
  }
}

static void bad_arguments_are_refused_and_nothing_is_written(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *list = list_of(f->client);
  static char large[1025];
  memset(large, 's', sizeof large);
  const redmoon_bytes too_large = {large, sizeof large}, id = BYTES("secret-id");
  redmoon_revocation_result revoked;
  redmoon_subject_result subject;
  redmoon_rotation_result rotated;
  redmoon_check_result checked;
#define REVOKE(...) redmoon_blocklist_revoke(list, &(redmoon_revocation){__VA_ARGS__}, &revoked, &err)
  refused(REVOKE(none, 2000000000, NULL), &err, "blocklist jti: 0 bytes are not accepted; give 1 to 1024");
  refused(REVOKE(too_large, 2000000000, NULL), &err, "blocklist jti: 1025 bytes");
  refused(REVOKE(id, REDMOON_UNSET, NULL), &err, "blocklist exp is missing");
  refused(REVOKE(id, -1, NULL), &err, "blocklist exp: -1 s is not accepted");
  refused(REVOKE(id, server_s(f->client) * 1000, NULL), &err, "exp is more than 100 years from the server's clock");
  refused(REVOKE(id, 2000000000, ""), &err, "blocklist reason: not accepted");
  refused(REVOKE(id, 2000000000, "1"), &err, "that begins with a letter");
  refused(REVOKE(id, 2000000000, "secret words"), &err, "blocklist reason: not accepted (12 bytes)");
  refused(REVOKE(id, 2000000000, "unavailable"), &err, "other than subject, version, family and unavailable");
#define ROTATE(...) redmoon_blocklist_rotate(list, &(redmoon_rotation){__VA_ARGS__}, &rotated, &err)
  refused(ROTATE(none, none, id, 5000), &err, "blocklist family: 0 bytes");
  refused(ROTATE(id, {large, 0}, id, 5000), &err, "blocklist presented: 0 bytes");
  refused(ROTATE(id, none, none, 5000), &err, "blocklist new: 0 bytes");
  refused(ROTATE(id, id, id, 5000), &err, "it is the id presented; give a fresh one");
  refused(ROTATE(id, none, id, REDMOON_UNSET), &err, "blocklist ttl is missing");
  refused(ROTATE(id, none, id, 999), &err, "blocklist ttl: 999 ms is not accepted");
#define CHECK(...) redmoon_blocklist_check(list, &(redmoon_claims){__VA_ARGS__}, &checked, &err)
  refused(CHECK(none, none, none, 5, 5), &err, "give one of jti, sub and family at least");
  refused(CHECK(too_large, none, none, 5, 5), &err, "blocklist jti: 1025 bytes");
  refused(CHECK(none, id, none, REDMOON_UNSET, 5), &err, "sub needs iat");
  refused(CHECK(none, id, none, -1, 5), &err, "blocklist iat: -1 is not accepted");
  refused(CHECK(none, id, none, 5, -1), &err, "blocklist ver: -1 is not accepted");
  refused(redmoon_blocklist_revoke_subject(list, "", 0, 5, &subject, &err), &err, "blocklist sub: 0 bytes");
  refused(redmoon_blocklist_revoke_subject(list, "u", 1, -5, &subject, &err), &err, "blocklist before: -5 ms");
  refused(redmoon_blocklist_revoke_subject(list, "u", 1, INT64_C(9007199254740991), &subject, &err), &err,
          "before is more than 100 years");
  refused(redmoon_blocklist_bump(list, NULL, 3, NULL, &subject, &err), &err, "blocklist sub: 0 bytes");
  refused(redmoon_blocklist_bump(list, "u", 1, "secret id", &subject, &err), &err, "request_id: not accepted");
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_blocklist_free(list);
}

static void operation_outlives_the_list(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *list = list_of(f->client);
  revoke_token(list, BYTES("a"), server_s(f->client) + HOUR, NULL);
  redmoon_claims claims = claims_of(BYTES("a"), none, 0, 0);
  redmoon_check_result result = {0};
  redmoon_op *op;
  assert_int_equal(redmoon_blocklist_check_start(list, &claims, &result, &op, &err), 0);
  redmoon_blocklist_free(list);
  while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
  }
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_true(result.revoked);
}

static void server_that_evicts_is_told(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *list = list_of(f->client);
  assert_int_equal(redmoon_blocklist_verify(list, &err), 0);
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "maxmemory-policy", "volatile-ttl", NULL));
  assert_int_equal(redmoon_blocklist_verify(list, &err), 0); /* no limit, no eviction */
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "maxmemory", "1gb", NULL));
  assert_int_equal(redmoon_blocklist_verify(list, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "maxmemory-policy of the server is volatile-ttl"));
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_true(counts(f->client, "redmoon_blocklist_total{result=\"evicting\"} 1\n"));
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "maxmemory-policy", "noeviction", NULL));
  assert_int_equal(redmoon_blocklist_verify(list, &err), 0);
  redmoon_reply_free(ask(f->client, "CONFIG", "SET", "maxmemory", "0", NULL));
  redmoon_blocklist_free(list);
}

static bool refuse_at(void *ctx, size_t size) {
  (void)size;
  int *left = ctx;
  return (*left)-- == 0;
}

/* Of checks `deny` makes "unavailable" of it.  What a refused allocation would leak is seen by the leak checker. */
static void lack_of_memory_at_any_point_never_lets_a_token_in(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *list = list_of(f->client);
  revoke_token(list, BYTES("a"), server_s(f->client) + HOUR, NULL);
  redmoon_blocklist_free(list);
  bool hit = true;
  for (int at = 0; hit; at++) {
    redmoon_client *own; /* a new one each time: a dial that failed makes a pool wait before the next */
    assert_int_equal(redmoon_client_open(embedded_server_url(f->server), NULL, &own, &err), 0);
    redmoon_claims claims[] = {claims_of(BYTES("a"), BYTES("user"), 5, 0), claims_of(BYTES("a"), none, 0, 0)};
    redmoon_check_result results[2] = {{.revoked = 1}, {.revoked = 1}};
    int left = at;
    rm_alloc_set_refuse(refuse_at, &left);
    list = NULL;
    int status = redmoon_blocklist_new(own, "api", NULL, &list, &err);
    if (status == 0) status = redmoon_blocklist_check_many(list, claims, 2, results, &err);
    rm_alloc_set_refuse(NULL, NULL);
    hit = left < 0;
    assert_true(results[0].revoked && results[1].revoked);
    if (!hit && status < 0) fail_msg("%s", err.message);
    if (!hit) assert_string_equal(results[1].reason, "revoked");
    redmoon_blocklist_free(list);
    redmoon_client_close(own);
    assert_true(at < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_a_server_on_error_decides_and_it_is_counted),
      cmocka_unit_test_setup(what_cannot_be_read_is_unavailable_unless_another_says_revoked, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(lost_answers_change_nothing_twice, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_arguments_are_refused_and_nothing_is_written, embedded_fixture_empty),
      cmocka_unit_test_setup(operation_outlives_the_list, embedded_fixture_empty),
      cmocka_unit_test_setup(server_that_evicts_is_told, embedded_fixture_empty),
      cmocka_unit_test_setup(lack_of_memory_at_any_point_never_lets_a_token_in, embedded_fixture_empty),
  };
  return embedded_server_run("blocklist faults", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
