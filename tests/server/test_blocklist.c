/* SPDX-License-Identifier: MIT */
/* The blocklist through the public interface, on a server of the test's own: what is revoked, and what the server is told
 * of it.  What the scripts decide is proved in tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "server/blocklist.h"
#include "support/embedded_fixture.h"
#include "support/embedded_server.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void token_is_revoked_for_the_rest_of_its_life(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  int64_t now = server_s(f->client);
  assert_false(check_jti(list, BYTES("a")).revoked);
  redmoon_revocation_result result = revoke_token(list, BYTES("a"), now + 100, NULL);
  assert_int_equal(result.status, REDMOON_REVOCATION_DONE);
  assert_true(result.ttl_ms > 100000 && result.ttl_ms <= 160001);
  char *key = only_key(f->client);
  int64_t left = ask_integer(f->client, "PTTL", key, NULL);
  assert_true(left > 100000 && left <= 160001);
  assert_int_equal(strlen(key), strlen("redmoon:{0123456789012345678901}:api.jti"));
  free(key);
  redmoon_check_result answer = check_jti(list, BYTES("a"));
  assert_true(answer.revoked);
  assert_string_equal(answer.reason, "revoked");
  assert_true(answer.ttl_ms > 100000 && answer.ttl_ms <= 160001);
  assert_false(check_jti(list, BYTES("b")).revoked);
  revoke_token(list, BYTES("c\0d"), now + 100, "log-out");
  assert_string_equal(check_jti(list, BYTES("c\0d")).reason, "log-out");
  assert_false(check_jti(list, BYTES("c")).revoked);
  redmoon_blocklist_free(list);
}

static void revoked_token_is_found_whoever_it_belongs_to(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  int64_t now = server_s(f->client);
  revoke_token(list, BYTES("a"), now + 100, NULL);
  redmoon_claims claims = claims_of(BYTES("a"), BYTES("user"), now, REDMOON_UNSET);
  assert_string_equal(check(list, &claims).reason, "revoked");
  claims.jti = BYTES("b");
  assert_false(check(list, &claims).revoked);
  redmoon_blocklist_free(list);
}

static void second_revocation_never_shortens(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  int64_t now = server_s(f->client);
  revoke_token(list, BYTES("a"), now + 1000, "first");
  char *key = only_key(f->client), before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", key, NULL);
  assert_int_equal(revoke_token(list, BYTES("a"), now + 500, "second").status, REDMOON_REVOCATION_KEPT);
  redmoon_revocation_result expired = revoke_token(list, BYTES("a"), now - 100, "third");
  assert_int_equal(expired.status, REDMOON_REVOCATION_EXPIRED);
  assert_int_equal(expired.ttl_ms, 0);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", key, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_true(ask_integer(f->client, "PTTL", key, NULL) > 1000000);
  assert_int_equal(revoke_token(list, BYTES("a"), now + 2000, NULL).status, REDMOON_REVOCATION_DONE);
  assert_true(ask_integer(f->client, "PTTL", key, NULL) > 2000000);
  free(key);
  redmoon_blocklist_free(list);
}

static void leeway_is_how_long_an_expired_token_is_still_revoked(void **state) {
  fixture *f = *state;
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.leeway_ms = 600000;
  redmoon_blocklist *wide = list_with(f->client, &options);
  options.leeway_ms = 0;
  redmoon_blocklist *exact = list_with(f->client, &options);
  int64_t now = server_s(f->client);
  assert_int_equal(revoke_token(exact, BYTES("a"), now, NULL).status, REDMOON_REVOCATION_EXPIRED);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  assert_int_equal(revoke_token(wide, BYTES("a"), now - 500, NULL).status, REDMOON_REVOCATION_DONE);
  assert_true(check_jti(exact, BYTES("a")).revoked);
  redmoon_blocklist_free(wide);
  redmoon_blocklist_free(exact);
}

static void subject_is_revoked_up_to_the_second_of_the_cutoff(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  redmoon_error err;
  redmoon_subject_result result;
  int64_t now = server_s(f->client);
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, (now - 10) * 1000 + 999, &result, &err), 0);
  assert_int_equal(result.status, REDMOON_REVOCATION_DONE);
  assert_true(result.cutoff_ms == (now - 10) * 1000 + 999);
  for (int i = -2; i <= 2; i++) {
    redmoon_claims claims = claims_of(BYTES("a"), BYTES("user"), now - 10 + i, REDMOON_UNSET);
    redmoon_check_result answer = check(list, &claims);
    assert_int_equal(answer.revoked, i <= 0);
    assert_string_equal(answer.reason, i <= 0 ? "subject" : "");
    claims.sub = BYTES("other");
    assert_false(check(list, &claims).revoked);
  }
  /* Now, by the server's clock; an earlier moment changes nothing. */
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, REDMOON_UNSET, &result, &err), 0);
  int64_t cutoff_ms = result.cutoff_ms;
  assert_true(cutoff_ms >= now * 1000 && cutoff_ms < (now + HOUR) * 1000);
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, 1000, &result, &err), 0);
  assert_int_equal(result.status, REDMOON_REVOCATION_EXPIRED);
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, (now - 60) * 1000, &result, &err), 0);
  assert_true(result.cutoff_ms == cutoff_ms);
  char *key = only_key(f->client);
  int64_t left = ask_integer(f->client, "PTTL", key, NULL), life = INT64_C(30) * 24 * HOUR * 1000 + 60000;
  assert_true(left > life - HOUR * 1000 && left <= life + 1);
  free(key);
  redmoon_blocklist_free(list);
}

static void version_tells_apart_what_was_issued_in_one_second(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  redmoon_error err;
  redmoon_subject_result first, second;
  int64_t later = server_s(f->client) + HOUR; /* no cutoff of today reaches it */
  redmoon_claims claims = claims_of(none, BYTES("user"), later, REDMOON_UNSET);
  assert_false(check(list, &claims).revoked);
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, NULL, &first, &err), 0);
  assert_string_equal(check(list, &claims).reason, "version"); /* issued without one */
  claims.ver = first.version;
  assert_false(check(list, &claims).revoked);
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, NULL, &second, &err), 0);
  assert_true(second.version > first.version);
  assert_string_equal(check(list, &claims).reason, "version");
  claims.ver = second.version;
  assert_false(check(list, &claims).revoked);
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL)); /* no version comes back */
  assert_int_equal(redmoon_blocklist_bump(list, "user", 4, NULL, &first, &err), 0);
  assert_true(first.version > second.version);
  redmoon_blocklist_free(list);
}

static void reused_refresh_token_kills_its_family_in_the_same_call(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("r1")), REDMOON_ROTATION_GONE);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  assert_int_equal(rotate(list, none, BYTES("r0")), REDMOON_ROTATION_DONE);
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("r1")), REDMOON_ROTATION_DONE);
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("r1")), REDMOON_ROTATION_DONE); /* repeated */
  assert_int_equal(rotate(list, none, BYTES("r9")), REDMOON_ROTATION_EXISTS);
  assert_int_equal(rotate(list, BYTES("r1"), BYTES("r2")), REDMOON_ROTATION_DONE);
  assert_false(check_family(list, BYTES("login 7")).revoked);
  assert_int_equal(rotate(list, BYTES("r1"), BYTES("thief")), REDMOON_ROTATION_REUSED);
  assert_string_equal(check_family(list, BYTES("login 7")).reason, "family");
  assert_false(check_family(list, BYTES("login 8")).revoked);
  assert_int_equal(rotate(list, BYTES("r2"), BYTES("r3")), REDMOON_ROTATION_REVOKED);
  assert_int_equal(rotate(list, none, BYTES("r4")), REDMOON_ROTATION_REVOKED);
  redmoon_blocklist_free(list);
}

static void family_is_revoked_by_its_name(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_revocation_result result;
  redmoon_blocklist *list = list_of(f->client);
  assert_int_equal(rotate(list, none, BYTES("r0")), REDMOON_ROTATION_DONE);
  assert_int_equal(redmoon_blocklist_revoke_family(list, "login 7", 7, &result, &err), 0);
  assert_int_equal(result.status, REDMOON_REVOCATION_DONE);
  assert_true(result.ttl_ms == INT64_C(30) * 24 * HOUR * 1000 + 60001);
  assert_int_equal(rotate(list, BYTES("r0"), BYTES("r1")), REDMOON_ROTATION_REVOKED);
  assert_string_equal(check_family(list, BYTES("login 7")).reason, "family");
  assert_int_equal(redmoon_blocklist_revoke_family(list, "login 8", 7, &result, &err), 0); /* never begun */
  assert_string_equal(check_family(list, BYTES("login 8")).reason, "family");
  refused(redmoon_blocklist_revoke_family(list, "", 0, &result, &err), &err, "blocklist family: 0 bytes");
  redmoon_blocklist_free(list);
}

static void many_are_checked_in_one_round_trip(void **state) {
  fixture *f = *state;
  enum { TOKENS = 1000 };
  redmoon_blocklist *list = list_of(f->client);
  redmoon_error err;
  static char ids[TOKENS][16];
  static redmoon_claims claims[TOKENS];
  static redmoon_check_result results[TOKENS];
  int64_t now = server_s(f->client);
  for (int i = 0; i < TOKENS; i++) {
    int len = snprintf(ids[i], sizeof ids[i], "t%d", i);
    claims[i] = claims_of((redmoon_bytes){ids[i], (size_t)len}, i % 3 == 0 ? BYTES("user") : none, now + i, REDMOON_UNSET);
    if (i % 2 == 0) revoke_token(list, claims[i].jti, now + HOUR, NULL);
  }
  redmoon_subject_result subject;
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "user", 4, (now + 500) * 1000, &subject, &err), 0);
  redmoon_stats before, after;
  redmoon_client_stats(f->client, &before);
  if (redmoon_blocklist_check_many(list, claims, TOKENS, results, &err) != 0) fail_msg("%s", err.message);
  redmoon_client_stats(f->client, &after);
  assert_in_range(after.hits + after.misses - before.hits - before.misses, 1, embedded_server_nodes(f->server));
  for (int i = 0; i < TOKENS; i++)
    assert_string_equal(results[i].reason, i % 2 == 0 ? "revoked" : i % 3 == 0 && i <= 500 ? "subject" : "");
  assert_int_equal(redmoon_blocklist_check_many(list, claims, 0, results, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_blocklist_check_many(list, claims, TOKENS + 1, results, &err), REDMOON_ECONFIG);
  redmoon_blocklist_free(list);
}

static void lists_of_other_name_issuer_or_key_share_nothing(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist *lists[4] = {list_of(f->client)};
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  assert_int_equal(redmoon_blocklist_new(f->client, "web", &options, &lists[1], &err), 0);
  options.issuer = "https://issuer.example";
  lists[2] = list_with(f->client, &options);
  options.issuer = NULL;
  options.hash_key = "0123456789abcdef";
  options.hash_key_len = 16;
  lists[3] = list_with(f->client, &options);
  int64_t now = server_s(f->client);
  for (int i = 0; i < 4; i++) {
    redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
    revoke_token(lists[i], BYTES("a"), now + HOUR, NULL);
    for (int k = 0; k < 4; k++) assert_int_equal(check_jti(lists[k], BYTES("a")).revoked, k == i);
  }
  redmoon_blocklist *same = list_with(f->client, &options); /* as another process would make it */
  assert_true(check_jti(same, BYTES("a")).revoked);
  redmoon_blocklist_free(same);
  for (int i = 0; i < 4; i++) redmoon_blocklist_free(lists[i]);
}

/* Computed by Python's hashlib: keys must not change from one version to the next, as revocations are found by them. */
static void keys_are_keyed_hashes_in_a_fixed_layout(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  redmoon_blocklist *plain = list_of(f->client);
  options.issuer = "https://issuer.example";
  options.hash_key = "0123456789abcdef";
  options.hash_key_len = 16;
  redmoon_blocklist *keyed = list_with(f->client, &options);
  redmoon_subject_result subject;
  redmoon_rotation_result rotated;
  redmoon_rotation rotation = {BYTES("a"), none, BYTES("r"), HOUR * 1000};
  revoke_token(plain, BYTES("a"), server_s(f->client) + HOUR, NULL);
  revoke_token(keyed, BYTES("a"), server_s(f->client) + HOUR, NULL);
  assert_int_equal(redmoon_blocklist_bump(keyed, "a", 1, NULL, &subject, &err), 0);
  assert_int_equal(redmoon_blocklist_rotate(keyed, &rotation, &rotated, &err), 0);
  assert_int_equal(ask_integer(f->client, "EXISTS", "redmoon:{vW_ggMUYnor9eYJtgBseWg}:api.jti",
                               "redmoon:{j09_HSd4dsMjuK-YEhCnDQ}:api.jti", "redmoon:{nK2yUW2I3p0-vWm2WcsH7g}:api.sub",
                               "redmoon:{Zt0Kb3lMjI8AikutwZp7zA}:api.fam", NULL), 4);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 4);
  redmoon_blocklist_free(plain);
  redmoon_blocklist_free(keyed);
}

/* Everything that the server is told and keeps, as MONITOR shows it. */
static int monitor_open(const char *url) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", strchr(url, '/') + 2);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(write(fd, "MONITOR\r\n", 9), 9);
  char ok[5];
  for (size_t got = 0; got < sizeof ok;) {
    ssize_t n = read(fd, ok + got, sizeof ok - got);
    assert_true(n > 0);
    got += (size_t)n;
  }
  assert_memory_equal(ok, "+OK\r\n", 5);
  return fd;
}

/* What came up to `last`, which the caller sent; the caller's. */
static char *monitor_read(int fd, const char *last) {
  enum { ROOM = 1 << 20 };
  char *text = malloc(ROOM);
  assert_non_null(text);
  size_t len = 0;
  do {
    ssize_t n = read(fd, text + len, ROOM - 1 - len);
    assert_true(n > 0);
    len += (size_t)n;
    text[len] = '\0';
  } while (strstr(text, last) == NULL);
  return text;
}

/* A number of ten digits or more, which a time would be, stands behind the line's own stamp only if it was given. */
static void assert_no_time(char *text, const char *given) {
  for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    char *at = strchr(line, ']');
    if (at == NULL || strstr(line, " lua] ") != NULL) continue; /* what a script does, by the server's clock */
    while ((at = strchr(at, '"')) != NULL) {
      size_t digits = strspn(++at, "0123456789");
      if (digits >= 10 && at[digits] == '"' && strncmp(at, given, digits) != 0) fail_msg("a time was sent: %s", line);
    }
  }
}

static void server_gets_no_id_no_subject_and_no_clients_time(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_blocklist_options options = REDMOON_BLOCKLIST_OPTIONS_INIT;
  options.issuer = "secret-issuer";
  options.hash_key = "secret-key-0123456789";
  options.hash_key_len = 21;
  options.max_life_ms = 86400000;
  redmoon_blocklist *list = list_with(f->client, &options);
  redmoon_subject_result subject;
  int64_t exp = server_s(f->client) + 12345;
  int monitor = monitor_open(embedded_server_url(f->server));
  revoke_token(list, BYTES("secret-jti"), exp, NULL);
  assert_int_equal(redmoon_blocklist_revoke_subject(list, "secret-sub", 10, REDMOON_UNSET, &subject, &err), 0);
  assert_int_equal(redmoon_blocklist_bump(list, "secret-sub", 10, NULL, &subject, &err), 0);
  assert_int_equal(rotate(list, none, BYTES("secret-refresh")), REDMOON_ROTATION_DONE);
  assert_int_equal(rotate(list, BYTES("secret-refresh"), BYTES("secret-next")), REDMOON_ROTATION_DONE);
  assert_int_equal(rotate(list, BYTES("secret-refresh"), BYTES("secret-theft")), REDMOON_ROTATION_REUSED);
  redmoon_revocation_result ended;
  assert_int_equal(redmoon_blocklist_revoke_family(list, "secret-family", 13, &ended, &err), 0);
  redmoon_claims claims = claims_of(BYTES("secret-jti"), BYTES("secret-sub"), exp, 0);
  claims.family = BYTES("secret-family");
  assert_true(check(list, &claims).revoked);
  redmoon_reply_free(ask(f->client, "ECHO", "the-end", NULL));
  char *told = monitor_read(monitor, "the-end"), exp_text[24];
  assert_non_null(strstr(told, ":api.jti"));
  assert_null(strstr(told, "secret"));
  assert_null(strstr(told, "login 7"));
  snprintf(exp_text, sizeof exp_text, "%lld", (long long)exp);
  assert_non_null(strstr(told, exp_text));
  assert_no_time(told, exp_text);
  free(told);
  close(monitor);
  redmoon_blocklist_free(list);
}

static void new_ids_differ_and_need_no_escape(void **state) {
  (void)state;
  enum { IDS = 500 };
  static char ids[IDS][REDMOON_NEW_JTI_SIZE];
  for (int i = 0; i < IDS; i++) {
    assert_int_equal(redmoon_new_jti(ids[i], NULL), 0);
    assert_int_equal(strspn(ids[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 22);
    assert_int_equal(strlen(ids[i]), 22);
    for (int k = 0; k < i; k++) assert_string_not_equal(ids[i], ids[k]);
  }
}

/* Threads that share one list; the workers record, the main thread asserts. */
enum { WORKERS = 8 };
typedef struct worker {
  pthread_t thread;
  redmoon_blocklist *list;
  char next[24];
  redmoon_rotation_result result;
  int status;
} worker;

static void *rotate_once(void *ctx) {
  worker *w = ctx;
  redmoon_rotation rotation = {BYTES("login 7"), BYTES("r0"), {w->next, strlen(w->next)}, HOUR * 1000};
  w->status = redmoon_blocklist_rotate(w->list, &rotation, &w->result, NULL);
  return NULL;
}

static void of_those_who_present_one_id_at_once_one_is_served(void **state) {
  fixture *f = *state;
  redmoon_blocklist *list = list_of(f->client);
  assert_int_equal(rotate(list, none, BYTES("r0")), REDMOON_ROTATION_DONE);
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].list = list;
    snprintf(workers[i].next, sizeof workers[i].next, "next-%d", i);
    assert_int_equal(pthread_create(&workers[i].thread, NULL, rotate_once, &workers[i]), 0);
  }
  int done = 0, reused = 0, revoked = 0;
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].status, 0);
    done += workers[i].result.status == REDMOON_ROTATION_DONE;
    reused += workers[i].result.status == REDMOON_ROTATION_REUSED;
    revoked += workers[i].result.status == REDMOON_ROTATION_REVOKED;
  }
  assert_int_equal(done, 1);
  assert_int_equal(reused, 1);
  assert_int_equal(revoked, WORKERS - 2);
  assert_true(check_family(list, BYTES("login 7")).revoked);
  redmoon_blocklist_free(list);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(token_is_revoked_for_the_rest_of_its_life, embedded_fixture_empty),
      cmocka_unit_test_setup(revoked_token_is_found_whoever_it_belongs_to, embedded_fixture_empty),
      cmocka_unit_test_setup(second_revocation_never_shortens, embedded_fixture_empty),
      cmocka_unit_test_setup(leeway_is_how_long_an_expired_token_is_still_revoked, embedded_fixture_empty),
      cmocka_unit_test_setup(subject_is_revoked_up_to_the_second_of_the_cutoff, embedded_fixture_empty),
      cmocka_unit_test_setup(version_tells_apart_what_was_issued_in_one_second, embedded_fixture_empty),
      cmocka_unit_test_setup(reused_refresh_token_kills_its_family_in_the_same_call, embedded_fixture_empty),
      cmocka_unit_test_setup(family_is_revoked_by_its_name, embedded_fixture_empty),
      cmocka_unit_test_setup(many_are_checked_in_one_round_trip, embedded_fixture_empty),
      cmocka_unit_test_setup(lists_of_other_name_issuer_or_key_share_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup(keys_are_keyed_hashes_in_a_fixed_layout, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(server_gets_no_id_no_subject_and_no_clients_time, embedded_fixture_empty, embedded_server_alone),
      cmocka_unit_test_setup(new_ids_differ_and_need_no_escape, embedded_fixture_empty),
      cmocka_unit_test_setup(of_those_who_present_one_id_at_once_one_is_served, embedded_fixture_empty),
  };
  return embedded_server_run("blocklist", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
