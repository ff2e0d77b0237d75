/* SPDX-License-Identifier: MIT */
/* Records as C structs through the public interface, on a server of the test's own.  What the scripts decide is proved
 * in tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/cutter.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "redmoon:{1}:session.record"

typedef struct session {
  redmoon_bytes user_id, note;
  int64_t visits, created_at;
  double score;
  int admin;
} session;

static const redmoon_field fields[] = {
    REDMOON_FIELD(session, user_id, REDMOON_STRING),     REDMOON_FIELD(session, note, REDMOON_STRING),
    REDMOON_FIELD(session, visits, REDMOON_INTEGER),     REDMOON_FIELD(session, score, REDMOON_DOUBLE),
    REDMOON_FIELD(session, admin, REDMOON_BOOLEAN),      REDMOON_FIELD(session, created_at, REDMOON_TIME),
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

typedef struct fixture {
  redmoon_embedded *server;
  redmoon_client *client;
  redmoon_records *records; /* with a lifetime of a minute */
} fixture;

static redmoon_records *records_of(redmoon_client *client, int64_t ttl_ms) {
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = FIELDS;
  options.ttl_ms = ttl_ms;
  redmoon_records *records = NULL;
  redmoon_error err;
  if (redmoon_records_new(client, "session", &options, &records, &err) != 0) fail_msg("%s", err.message);
  return records;
}

static int start(void **state) {
  static fixture f;
  embedded_server_open(&f.server, &f.client);
  f.records = records_of(f.client, 60000);
  *state = &f;
  return 0;
}

static int stop(void **state) {
  fixture *f = *state;
  redmoon_records_free(f->records);
  redmoon_client_close(f->client);
  redmoon_embedded_close(f->server);
  return 0;
}

static int empty(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->client, "FLUSHALL", NULL));
  return 0;
}

static session example(void) {
  return (session){{"user\0:1", 7}, {"", 0}, INT64_MIN, INT64_C(1760000000123456), 0.1, 7};
}

static int64_t save(redmoon_records *records, const session *s) {
  int64_t version = -1;
  redmoon_error err;
  if (redmoon_records_save(records, "1", 1, s, NULL, &version, &err) != 0) fail_msg("%s", err.message);
  return version;
}

static redmoon_record *load(redmoon_records *records, session *s) {
  redmoon_record *record = NULL;
  redmoon_error err;
  if (redmoon_records_load(records, "1", 1, NULL, 0, s, &record, &err) != 0) fail_msg("%s", err.message);
  return record;
}

static void struct_comes_back_as_it_was_saved(void **state) {
  fixture *f = *state;
  session saved = example(), loaded = {{NULL, 9}, {NULL, 9}, 9, 9, 9, 9};
  int64_t version = save(f->records, &saved);
  assert_true(version > 0);
  int64_t left = ask_integer(f->client, "PTTL", KEY, NULL);
  assert_true(left > 0 && left <= 60000);
  redmoon_record *record = load(f->records, &loaded);
  assert_non_null(record);
  assert_int_equal(redmoon_record_version(record), version);
  assert_true(redmoon_record_created_ms(record) > INT64_C(1700000000000));
  assert_true(redmoon_record_left_ms(record) > 0 && redmoon_record_left_ms(record) <= 60000);
  assert_int_equal(loaded.user_id.len, 7);
  assert_memory_equal(loaded.user_id.ptr, "user\0:1", 7);
  assert_int_equal(loaded.note.len, 0);
  assert_true(loaded.visits == INT64_MIN);
  assert_true(loaded.created_at == saved.created_at);
  assert_true(loaded.score == 0.1);
  assert_int_equal(loaded.admin, 1);
  for (size_t i = 0; i < FIELDS; i++) assert_true(redmoon_record_has(record, fields[i].name));
  assert_false(redmoon_record_has(record, "unknown"));
  redmoon_record_free(record);
}

static void missing_record_missing_field_and_empty_string_differ(void **state) {
  fixture *f = *state;
  session s = example();
  assert_null(load(f->records, &s));
  assert_true(s.visits == INT64_MIN); /* the struct is as it was */
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.fields = (const char *const[]){"note", "score"};
  how.field_count = 2;
  redmoon_error err;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, &how, NULL, &err), 0);
  redmoon_record *record = load(f->records, &s);
  assert_non_null(record);
  assert_true(redmoon_record_has(record, "note"));
  assert_false(redmoon_record_has(record, "user_id"));
  assert_false(redmoon_record_has(record, "visits"));
  assert_true(s.visits == 0 && s.user_id.ptr == NULL && s.user_id.len == 0 && s.admin == 0 && s.created_at == 0);
  redmoon_record_free(record);
}

static void selected_fields_alone_are_loaded_and_updated(void **state) {
  fixture *f = *state;
  session s = example();
  save(f->records, &s);
  s.visits = 5;
  s.score = 2;
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.fields = (const char *const[]){"visits"};
  how.field_count = 1;
  how.drop = (const char *const[]){"note"};
  how.drop_count = 1;
  int64_t version = 0;
  redmoon_error err;
  assert_int_equal(redmoon_records_update(f->records, "1", 1, &s, &how, &version, &err), 0);
  assert_true(version > 0);
  session loaded = {{NULL, 0}, {"kept", 4}, 0, 0, 7, 0};
  redmoon_record *record = NULL;
  const char *const names[] = {"visits", "admin"};
  assert_int_equal(redmoon_records_load(f->records, "1", 1, names, 2, &loaded, &record, &err), 0);
  assert_true(loaded.visits == 5 && loaded.admin == 1 && loaded.score == 7 && loaded.note.len == 4);
  assert_false(redmoon_record_has(record, "score")); /* not asked for */
  redmoon_record_free(record);
  record = load(f->records, &loaded);
  assert_false(redmoon_record_has(record, "note"));
  assert_true(loaded.score == 0.1);
  redmoon_record_free(record);
  version = 9;
  assert_int_equal(redmoon_records_update(f->records, "2", 1, &s, NULL, &version, &err), 0);
  assert_int_equal(version, 0);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 1);
}

static void other_version_is_a_conflict_and_changes_nothing(void **state) {
  fixture *f = *state;
  session s = example();
  int64_t first = save(f->records, &s), second = save(f->records, &s), seen = 0;
  assert_true(second > first);
  char before[512], after[512];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  redmoon_error err;
  how.version = first;
  assert_int_equal(redmoon_records_update(f->records, "1", 1, &s, &how, &seen, &err), REDMOON_ECONFLICT);
  assert_true(seen == second);
  assert_string_equal(err.code, "CONFLICT");
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  how.version = 0;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, &how, &seen, &err), REDMOON_ECONFLICT);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  how.version = second;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, &how, &seen, &err), 0);
}

static void increments_are_exact_and_stay_in_range(void **state) {
  fixture *f = *state;
  session s = example();
  redmoon_record_sum sum = {9, 9, 9};
  redmoon_error err;
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "visits", 1, NULL, &sum, &err), 0);
  assert_int_equal(sum.version, 0);
  s.visits = INT64_MAX - 1;
  save(f->records, &s);
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "visits", 1, NULL, &sum, &err), 0);
  assert_true(sum.integer == INT64_MAX && sum.version > 0);
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "visits", 1, NULL, &sum, &err), REDMOON_ECODEC);
  assert_non_null(strstr(err.message, "'visits'"));
  assert_int_equal(redmoon_records_increment_double(f->records, "1", 1, "score", 0.2, NULL, &sum, &err), 0);
  assert_true(sum.number == 0.1 + 0.2);
  assert_int_equal(redmoon_records_increment_double(f->records, "1", 1, "score", INFINITY, NULL, &sum, &err),
                   REDMOON_ECODEC);
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "score", 1, NULL, &sum, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "visit", 1, NULL, &sum, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "did you mean 'visits'"));
  s = (session){{NULL, 0}, {NULL, 0}, 0, 0, 0, 0};
  redmoon_record *record = load(f->records, &s);
  assert_true(s.visits == INT64_MAX && s.score == 0.1 + 0.2);
  redmoon_record_free(record);
}

static void touch_and_delete_say_whether_there_was_a_record(void **state) {
  fixture *f = *state;
  redmoon_error err;
  int64_t left = 9;
  int deleted = 9;
  assert_int_equal(redmoon_records_touch(f->records, "1", 1, &left, &err), 0);
  assert_int_equal(left, 0);
  assert_int_equal(redmoon_records_delete(f->records, "1", 1, &deleted, &err), 0);
  assert_int_equal(deleted, 0);
  session s = example();
  save(f->records, &s);
  assert_int_equal(ask_integer(f->client, "PEXPIRE", KEY, "30000", NULL), 1);
  assert_int_equal(redmoon_records_touch(f->records, "1", 1, &left, &err), 0);
  assert_int_equal(left, 60000);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > 30000);
  assert_int_equal(redmoon_records_delete(f->records, "1", 1, &deleted, &err), 0);
  assert_int_equal(deleted, 1);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  redmoon_records *lasting = records_of(f->client, REDMOON_UNSET);
  save(lasting, &s);
  assert_int_equal(ask_integer(f->client, "PTTL", KEY, NULL), -1);
  assert_int_equal(redmoon_records_touch(lasting, "1", 1, &left, &err), 0);
  assert_int_equal(left, -1);
  redmoon_records_free(lasting);
}

static void values_that_cannot_be_stored_are_refused_and_nothing_is_sent(void **state) {
  fixture *f = *state;
  redmoon_error err;
  session s = example();
  s.score = NAN;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, NULL, NULL, &err), REDMOON_ECODEC);
  assert_non_null(strstr(err.message, "'score'"));
  s = example();
  s.created_at = INT64_MAX;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, NULL, NULL, &err), REDMOON_ECODEC);
  s = example();
  s.note = (redmoon_bytes){NULL, 5};
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, NULL, NULL, &err), REDMOON_ECONFIG);
  static char big[(1 << 20) + 1];
  s.note = (redmoon_bytes){big, sizeof big};
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, NULL, NULL, &err), REDMOON_ETOO_LARGE);
  s.note.len--;
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.version = -5;
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, &how, NULL, &err), REDMOON_ECONFIG);
  how = (redmoon_record_write)REDMOON_RECORD_WRITE_INIT;
  how.request_id = "a b";
  assert_int_equal(redmoon_records_save(f->records, "1", 1, &s, &how, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_records_save(f->records, "", 0, &s, NULL, NULL, &err), REDMOON_ECONFIG);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
  save(f->records, &s); /* a MiB is just accepted */
}

static void bad_schemas_are_refused_with_what_is_accepted(void **state) {
  fixture *f = *state;
  static const struct {
    redmoon_field field;
    size_t count;
    int64_t ttl, sliding;
    const char *name, *message;
  } bad[] = {
      {{"a", REDMOON_STRING, 0}, 0, REDMOON_UNSET, 0, "n", "0 are not accepted; give 1 to 1000"},
      {{"a", REDMOON_STRING, 0}, 1001, REDMOON_UNSET, 0, "n", "1001 are not accepted"},
      {{"_a", REDMOON_STRING, 0}, 1, REDMOON_UNSET, 0, "n", "not '_' first"},
      {{"", REDMOON_STRING, 0}, 1, REDMOON_UNSET, 0, "n", "give 1 to 64 letters"},
      {{"a", REDMOON_NIL, 0}, 1, REDMOON_UNSET, 0, "n", "type 0 of 'a' is not accepted"},
      {{"a", REDMOON_STRING, 0}, 1, 0, 0, "n", "option ttl: 0 ms is not accepted"},
      {{"a", REDMOON_STRING, 0}, 1, REDMOON_UNSET, 1, "n", "sliding: it needs the option ttl"},
      {{"a", REDMOON_STRING, 0}, 1, 5, 2, "n", "option sliding: 2 is not accepted; give 0 to 1"},
      {{"a", REDMOON_STRING, 0}, 1, 5, 0, "n:", "give 1 to 48 letters"},
      {{"a", REDMOON_STRING, 0}, 1, 5, 0, NULL, "give 1 to 48 letters"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
    options.fields = &bad[i].field;
    options.field_count = bad[i].count;
    options.ttl_ms = bad[i].ttl;
    options.sliding = bad[i].sliding;
    redmoon_records *records = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_records_new(f->client, bad[i].name, &options, &records, &err), REDMOON_ECONFIG);
    assert_null(records);
    if (strstr(err.message, bad[i].message) == NULL) fail_msg("%s", err.message);
  }
  const redmoon_field twice[] = {{"a", REDMOON_STRING, 0}, {"a", REDMOON_INTEGER, 0}};
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = twice;
  options.field_count = 2;
  redmoon_records *records = NULL;
  assert_int_equal(redmoon_records_new(f->client, "n", &options, &records, NULL), REDMOON_ECONFIG);
}

static void numbers_do_not_depend_on_the_locale(void **state) {
  fixture *f = *state;
  char dir[] = "/tmp/redmoon-locale-XXXXXX", command[256], probe[16], text[32];
  assert_non_null(mkdtemp(dir));
  snprintf(command, sizeof command, "localedef --no-archive -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", dir);
  int built = system(command);
  setenv("LOCPATH", dir, 1);
  const char *set = setlocale(LC_ALL, "de_DE.UTF-8");
  snprintf(probe, sizeof probe, "%.1f", 0.5);
  session s = example(), loaded = {{NULL, 0}, {NULL, 0}, 0, 0, 0, 0};
  s.score = 1234.5;
  save(f->records, &s);
  int64_t len = ask_text(f->client, text, sizeof text, "HGET", KEY, "score", NULL);
  redmoon_record *record = load(f->records, &loaded);
  redmoon_record_sum sum = {0, 0, 0};
  int added = redmoon_records_increment_double(f->records, "1", 1, "score", 0.25, NULL, &sum, NULL);
  setlocale(LC_ALL, "C");
  unsetenv("LOCPATH");
  snprintf(command, sizeof command, "rm -r %s", dir);
  assert_int_equal(system(command), 0);
  if (built != 0 || set == NULL) fail_msg("needs localedef and the locale de_DE (Debian: package locales)");
  assert_string_equal(probe, "0,5");
  assert_int_equal(len, 6);
  assert_memory_equal(text, "1234.5", 6);
  assert_true(loaded.score == 1234.5);
  assert_int_equal(added, 0);
  assert_true(sum.number == 1234.75);
  redmoon_record_free(record);
}

static void lost_answers_change_nothing_twice_when_requests_have_ids(void **state) {
  fixture *f = *state;
  redmoon_error err;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, &err), 0);
  redmoon_records *records = records_of(through, 60000);
  session s = example();
  s.visits = 0;
  save(f->records, &s);
  redmoon_record_sum sum = {0, 0, 0};
  for (int i = 0; i < 20; i++) {
    char id[16];
    snprintf(id, sizeof id, "r%d", i);
    if (i % 2 == 0) cutter_lose(c, 1);
    if (redmoon_records_increment(records, "1", 1, "visits", 1, id, &sum, &err) != 0) fail_msg("%s", err.message);
    assert_int_equal(sum.integer, i + 1);
    redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
    how.version = sum.version;
    how.fields = (const char *const[]){"admin"};
    how.field_count = 1;
    snprintf(id, sizeof id, "w%d", i);
    how.request_id = id;
    if (i % 3 == 0) cutter_lose(c, 1); /* without the id, the repetition would find another version */
    if (redmoon_records_update(records, "1", 1, &s, &how, NULL, &err) != 0) fail_msg("%s", err.message);
  }
  assert_int_equal(cutter_left(c), 0);
  cutter_lose(c, 1); /* without an id it is not repeated, and the outcome is told */
  assert_true(redmoon_records_increment(records, "1", 1, "visits", 1, NULL, &sum, &err) < 0);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_int_equal(redmoon_records_increment(f->records, "1", 1, "visits", 0, NULL, &sum, &err), 0);
  assert_int_equal(sum.integer, 21);
  redmoon_records_free(records);
  redmoon_client_close(through);
  cutter_stop(c);
}

static void operation_and_record_outlive_the_records_object(void **state) {
  fixture *f = *state;
  redmoon_error err;
  session s = example(), loaded = {{NULL, 0}, {NULL, 0}, 0, 0, 0, 0};
  save(f->records, &s);
  redmoon_records *records = records_of(f->client, 60000);
  redmoon_record *record = NULL;
  redmoon_op *op;
  assert_int_equal(redmoon_records_load_start(records, "1", 1, NULL, 0, &loaded, &record, &op, &err), 0);
  redmoon_records_free(records);
  while (!redmoon_op_step(op)) { /* spins: few steps, on a local socket */
  }
  assert_int_equal(redmoon_op_finish(op, &err), 0);
  assert_true(redmoon_record_has(record, "visits"));
  assert_memory_equal(loaded.user_id.ptr, "user\0:1", 7);
  redmoon_record_free(record);
}

/* Clients, each with its own connection, that add to one record by version; the workers record, the main thread
 * asserts. */
enum { WORKERS = 16, SUCCESSES = 25 };
typedef struct worker {
  pthread_t thread;
  const char *url;
  int successes, conflicts, failures;
} worker;

static int add_one(redmoon_records *records) {
  session s;
  redmoon_record *record = NULL;
  int status = redmoon_records_load(records, "1", 1, NULL, 0, &s, &record, NULL);
  if (status < 0 || record == NULL) return REDMOON_EPROTOCOL;
  redmoon_record_write how = REDMOON_RECORD_WRITE_INIT;
  how.version = redmoon_record_version(record);
  how.fields = (const char *const[]){"visits"};
  how.field_count = 1;
  s.visits++;
  status = redmoon_records_update(records, "1", 1, &s, &how, NULL, NULL);
  redmoon_record_free(record);
  return status;
}

static void *add_often(void *ctx) {
  worker *w = ctx;
  redmoon_client *client = NULL;
  if (redmoon_client_open(w->url, NULL, &client, NULL) < 0) {
    w->failures++;
    return NULL;
  }
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = FIELDS;
  redmoon_records *records = NULL;
  if (redmoon_records_new(client, "session", &options, &records, NULL) < 0) w->failures++;
  while (records != NULL && w->successes < SUCCESSES && w->failures == 0) {
    int status = add_one(records);
    if (status == 0) w->successes++;
    else if (status == REDMOON_ECONFLICT) w->conflicts++;
    else
      w->failures++;
  }
  redmoon_records_free(records);
  redmoon_client_close(client);
  return NULL;
}

static void sixteen_clients_that_add_by_version_lose_no_addition(void **state) {
  fixture *f = *state;
  session s = example();
  s.visits = 0;
  save(f->records, &s);
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].url = embedded_server_url(f->server);
    assert_int_equal(pthread_create(&workers[i].thread, NULL, add_often, &workers[i]), 0);
  }
  int successes = 0, conflicts = 0;
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    successes += workers[i].successes;
    conflicts += workers[i].conflicts;
  }
  assert_int_equal(successes, WORKERS * SUCCESSES);
  redmoon_record_free(load(f->records, &s));
  assert_int_equal(s.visits, successes);
  print_message("%d additions, %d conflicts\n", successes, conflicts);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(struct_comes_back_as_it_was_saved, empty),
      cmocka_unit_test_setup(missing_record_missing_field_and_empty_string_differ, empty),
      cmocka_unit_test_setup(selected_fields_alone_are_loaded_and_updated, empty),
      cmocka_unit_test_setup(other_version_is_a_conflict_and_changes_nothing, empty),
      cmocka_unit_test_setup(increments_are_exact_and_stay_in_range, empty),
      cmocka_unit_test_setup(touch_and_delete_say_whether_there_was_a_record, empty),
      cmocka_unit_test_setup(values_that_cannot_be_stored_are_refused_and_nothing_is_sent, empty),
      cmocka_unit_test_setup(bad_schemas_are_refused_with_what_is_accepted, empty),
      cmocka_unit_test_setup(numbers_do_not_depend_on_the_locale, empty),
      cmocka_unit_test_setup_teardown(lost_answers_change_nothing_twice_when_requests_have_ids, empty, embedded_server_alone),
      cmocka_unit_test_setup(operation_and_record_outlive_the_records_object, empty),
      cmocka_unit_test_setup(sixteen_clients_that_add_by_version_lose_no_addition, empty),
  };
  return embedded_server_run("records", tests, sizeof tests / sizeof tests[0], start, stop);
}
