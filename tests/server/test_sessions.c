/* SPDX-License-Identifier: MIT */
/* Sessions as C structs through the public interface, on a server of the test's own.  What the scripts decide is proved
 * in tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/cutter.h"

#include <pthread.h>
#include <string.h>

typedef struct visit {
  redmoon_bytes device;
  int64_t visits;
} visit;

static const redmoon_field fields[] = {REDMOON_FIELD(visit, device, REDMOON_STRING),
                                       REDMOON_FIELD(visit, visits, REDMOON_INTEGER)};

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
  redmoon_sessions *sessions;
} fixture;

static redmoon_sessions *sessions_of(redmoon_client *client) {
  redmoon_sessions_options options = REDMOON_SESSIONS_OPTIONS_INIT;
  options.records.fields = fields;
  options.records.field_count = 2;
  options.records.ttl_ms = 60000;
  options.secret = "0123456789abcdef";
  options.secret_len = 16;
  redmoon_sessions *sessions = NULL;
  redmoon_error err;
  if (redmoon_sessions_new(client, "web", &options, &sessions, &err) != 0) fail_msg("%s", err.message);
  return sessions;
}

static int start(void **state) {
  static fixture f;
  embedded_server_open(&f.server, &f.client);
  f.sessions = sessions_of(f.client);
  *state = &f;
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  redmoon_sessions_free(f->sessions);
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  return 0;
}

static int empty(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  return 0;
}

static void create(redmoon_sessions *sessions, const char *subject, int64_t visits, char *id) {
  visit v = {{"phone", 5}, visits};
  redmoon_error err;
  if (redmoon_sessions_create(sessions, subject, strlen(subject), &v, NULL, id, &err) != 0)
    fail_msg("%s", err.message);
}

/* Its visits; -1: there is no such session. */
static int64_t visits_of(redmoon_sessions *sessions, const char *id) {
  visit v = {{NULL, 0}, -1};
  redmoon_record *record = NULL;
  redmoon_error err;
  if (redmoon_sessions_load(sessions, id, NULL, 0, &v, &record, &err) != 0) fail_msg("%s", err.message);
  redmoon_record_free(record);
  return v.visits;
}

static void session_is_made_changed_and_revoked(void **state) {
  fixture *f = *state;
  redmoon_error err;
  char id[REDMOON_SESSION_ID_SIZE], other[REDMOON_SESSION_ID_SIZE];
  create(f->sessions, "alice", 1, id);
  create(f->sessions, "alice", 2, other);
  assert_int_equal(strlen(id), REDMOON_SESSION_ID_SIZE - 1);
  assert_string_not_equal(id, other);
  assert_int_equal(visits_of(f->sessions, id), 1);
  visit v = {{NULL, 0}, 7};
  int64_t version = 0, left = 0;
  int revoked = 9;
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.fields = (const char *const[]){"visits"};
  how.field_count = 1;
  assert_int_equal(redmoon_sessions_update(f->sessions, id, &v, &how, &version, &err), 0);
  assert_true(version > 0);
  how.version = version - 1;
  assert_int_equal(redmoon_sessions_update(f->sessions, id, &v, &how, NULL, &err), REDMOON_ECONFLICT);
  assert_int_equal(visits_of(f->sessions, id), 7);
  assert_int_equal(redmoon_sessions_touch(f->sessions, id, &left, &err), 0);
  assert_int_equal(left, 60000);
  assert_int_equal(redmoon_sessions_revoke(f->sessions, id, &revoked, &err), 0);
  assert_int_equal(revoked, 1);
  assert_int_equal(visits_of(f->sessions, id), -1);
  assert_int_equal(redmoon_sessions_revoke(f->sessions, id, &revoked, &err), 0);
  assert_int_equal(revoked, 0);
  assert_int_equal(redmoon_sessions_touch(f->sessions, id, &left, &err), 0);
  assert_int_equal(left, 0);
  assert_int_equal(visits_of(f->sessions, other), 2);
}

static void rotated_session_is_found_by_its_new_id_alone(void **state) {
  fixture *f = *state;
  redmoon_error err;
  char id[REDMOON_SESSION_ID_SIZE], next[REDMOON_SESSION_ID_SIZE], none[REDMOON_SESSION_ID_SIZE] = "x";
  create(f->sessions, "alice", 1, id);
  assert_int_equal(redmoon_sessions_rotate(f->sessions, id, next, &err), 0);
  assert_int_equal(visits_of(f->sessions, next), 1);
  assert_int_equal(visits_of(f->sessions, id), -1);
  assert_int_equal(redmoon_sessions_rotate(f->sessions, id, none, &err), 0);
  assert_string_equal(none, "");
  assert_int_equal(redmoon_sessions_rotate(f->sessions, "no id", none, &err), 0);
  assert_string_equal(none, "");
  assert_int_equal(redmoon_sessions_rotate(f->sessions, NULL, none, &err), 0);
}

static void sessions_of_a_subject_are_listed_and_end_together(void **state) {
  fixture *f = *state;
  redmoon_error err;
  char ids[3][REDMOON_SESSION_ID_SIZE], other[REDMOON_SESSION_ID_SIZE];
  for (int i = 0; i < 3; i++) create(f->sessions, "alice", i + 1, ids[i]);
  create(f->sessions, "bob", 9, other);
  redmoon_session_list *list = NULL;
  assert_int_equal(redmoon_sessions_list(f->sessions, "alice", 5, &list, &err), 0);
  assert_int_equal(list->count, 3);
  int64_t sum = 0;
  for (size_t i = 0; i < list->count; i++) {
    visit v;
    redmoon_record *record = NULL;
    assert_true(list->entries[i].left_ms > 0 && list->entries[i].left_ms <= 60000);
    assert_int_equal(visits_of(f->sessions, list->entries[i].handle), -1); /* a handle is no id */
    assert_int_equal(
        redmoon_sessions_inspect(f->sessions, list->entries[i].handle, NULL, 0, &v, &record, &err), 0);
    assert_non_null(record);
    sum += v.visits;
    redmoon_record_free(record);
  }
  assert_int_equal(sum, 6);
  int revoked = 0;
  assert_int_equal(redmoon_sessions_revoke_handle(f->sessions, list->entries[0].handle, &revoked, &err), 0);
  assert_int_equal(revoked, 1);
  redmoon_session_list_free(list);
  create(f->sessions, "alice", 4, ids[0]);
  int64_t count = 0;
  assert_int_equal(redmoon_sessions_revoke_all(f->sessions, "alice", 5, ids[0], &count, &err), 0);
  assert_int_equal(count, 2);
  assert_int_equal(visits_of(f->sessions, ids[0]), 4);
  assert_int_equal(redmoon_sessions_revoke_all(f->sessions, "alice", 5, NULL, &count, &err), 0);
  assert_int_equal(count, 1);
  for (int i = 0; i < 3; i++) assert_int_equal(visits_of(f->sessions, ids[i]), -1);
  assert_int_equal(visits_of(f->sessions, other), 9);
  assert_int_equal(redmoon_sessions_list(f->sessions, "alice", 5, &list, &err), 0);
  assert_int_equal(list->count, 0);
  redmoon_session_list_free(list);
}

static void lost_answers_change_nothing_twice(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_sessions *sessions = sessions_of(through);
  char id[REDMOON_SESSION_ID_SIZE], next[REDMOON_SESSION_ID_SIZE];
  create(f->sessions, "alice", 0, id); /* the scripts are known to the server */
  if (redmoon_sessions_rotate(f->sessions, id, next, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_sessions_revoke_all(f->sessions, "alice", 5, NULL, NULL, &err), 0);
  cutter_lose(c, 1);
  create(sessions, "alice", 1, id);
  redmoon_session_list *list = NULL;
  assert_int_equal(redmoon_sessions_list(f->sessions, "alice", 5, &list, &err), 0);
  assert_int_equal(list->count, 1);
  redmoon_session_list_free(list);
  cutter_lose(c, 1);
  if (redmoon_sessions_rotate(sessions, id, next, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(visits_of(sessions, next), 1);
  assert_int_equal(visits_of(sessions, id), -1);
  cutter_lose(c, 1);
  assert_int_equal(redmoon_sessions_revoke_all(sessions, "alice", 5, NULL, NULL, &err), 0);
  assert_int_equal(visits_of(sessions, next), -1);
  assert_int_equal(cutter_left(c), 0);
  redmoon_sessions_free(sessions);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void operation_outlives_the_sessions_object(void **state) {
  fixture *f = *state;
  redmoon_error err;
  char id[REDMOON_SESSION_ID_SIZE], next[REDMOON_SESSION_ID_SIZE] = "";
  create(f->sessions, "alice", 1, id);
  redmoon_sessions *sessions = sessions_of(f->client);
  redmoon_op *op;
  assert_int_equal(redmoon_sessions_rotate_start(sessions, id, next, &op, &err), 0);
  redmoon_sessions_free(sessions);
  while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
  }
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_int_equal(visits_of(f->sessions, next), 1);
}

static void bad_options_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  redmoon_error err;
  redmoon_sessions *sessions = NULL;
  redmoon_sessions_options options = REDMOON_SESSIONS_OPTIONS_INIT;
  assert_int_equal(redmoon_sessions_new(f->client, "web", NULL, &sessions, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "secret: 0 bytes are not accepted; give 16 to 64"));
  options.secret = "0123456789abcdef";
  options.secret_len = 16;
  assert_int_equal(redmoon_sessions_new(f->client, "web", &options, &sessions, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "ttl is missing"));
  options.records.ttl_ms = 1000;
  assert_int_equal(redmoon_sessions_new(f->client, NULL, &options, &sessions, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_sessions_new(f->client, "web", &options, &sessions, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "fields: 0 are not accepted"));
  assert_null(sessions);
  char id[REDMOON_SESSION_ID_SIZE] = "x";
  visit v = {{"", 0}, 0};
  assert_int_equal(redmoon_sessions_create(f->sessions, "", 0, &v, NULL, id, &err), REDMOON_ECONFIG);
  assert_string_equal(id, "");
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.request_id = "r";
  assert_int_equal(redmoon_sessions_create(f->sessions, "a", 1, &v, &how, id, &err), REDMOON_ECONFIG);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
}

/* One thread rotates a session on and on, another ends all sessions of its subject: nothing survives that. */
typedef struct rotator {
  pthread_t thread;
  redmoon_sessions *sessions;
  char id[REDMOON_SESSION_ID_SIZE];
  int rotations, failures;
} rotator;

static void *rotate_until_the_end(void *ctx) {
  rotator *r = ctx;
  for (;;) {
    char next[REDMOON_SESSION_ID_SIZE];
    if (redmoon_sessions_rotate(r->sessions, r->id, next, NULL) < 0) r->failures++;
    if (r->failures > 0 || next[0] == '\0') return NULL;
    memcpy(r->id, next, sizeof next);
    r->rotations++;
  }
}

static void end_of_all_sessions_is_not_outrun_by_rotation(void **state) {
  fixture *f = *state;
  for (int round = 0; round < 20; round++) {
    rotator r = {.sessions = f->sessions};
    create(f->sessions, "alice", round, r.id);
    assert_int_equal(pthread_create(&r.thread, NULL, rotate_until_the_end, &r), 0);
    int64_t count = 0;
    redmoon_error err;
    int status = redmoon_sessions_revoke_all(f->sessions, "alice", 5, NULL, &count, &err);
    pthread_join(r.thread, NULL); /* ends only because its session did */
    assert_int_equal(status, 0);
    assert_int_equal(count, 1);
    assert_int_equal(r.failures, 0);
    assert_int_equal(visits_of(f->sessions, r.id), -1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(session_is_made_changed_and_revoked, empty),
      cmocka_unit_test_setup(rotated_session_is_found_by_its_new_id_alone, empty),
      cmocka_unit_test_setup(sessions_of_a_subject_are_listed_and_end_together, empty),
      cmocka_unit_test_setup_teardown(lost_answers_change_nothing_twice, empty, embedded_server_alone),
      cmocka_unit_test_setup(operation_outlives_the_sessions_object, empty),
      cmocka_unit_test_setup(bad_options_are_refused_with_what_is_accepted, empty),
      cmocka_unit_test_setup(end_of_all_sessions_is_not_outrun_by_rotation, empty),
  };
  return embedded_server_run("sessions", tests, sizeof tests / sizeof tests[0], start, stop);
}
