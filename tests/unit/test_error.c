/* SPDX-License-Identifier: MIT */
/* Errors: code words, escaping, a server's own words. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"

#include <errno.h>
#include <string.h>

static void every_status_has_its_code_word(void **state) {
  (void)state;
  static const struct {
    int status;
    const char *word;
  } words[] = {{REDMOON_OK, "OK"},
               {REDMOON_ETIMEOUT, "TIMEOUT"},
               {REDMOON_ECONNECT, "CONNECT"},
               {REDMOON_EIO, "IO"},
               {REDMOON_EPROTOCOL, "PROTOCOL"},
               {REDMOON_ETLS, "TLS"},
               {REDMOON_ECLOSED, "CLOSED"},
               {REDMOON_EPOOL_TIMEOUT, "POOL_TIMEOUT"},
               {REDMOON_EPOOL_DEADLOCK, "POOL_DEADLOCK"},
               {REDMOON_ECONFIG, "CONFIG"},
               {REDMOON_ECODEC, "CODEC"},
               {REDMOON_ENOMEM, "NOMEM"},
               {REDMOON_ECONFLICT, "CONFLICT"},
               {REDMOON_ELOCKED, "LOCKED"},
               {REDMOON_ELOST, "LOST"},
               {REDMOON_ETOO_LARGE, "TOO_LARGE"},
               {REDMOON_ECANCELLED, "CANCELLED"},
               {REDMOON_EUNAVAILABLE, "UNAVAILABLE"},
               {REDMOON_ESERVER, "SERVER"},
               {-19, "ERR"},
               {1, "ERR"},
               {INT32_MIN + 1, "ERR"}};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    assert_string_equal(redmoon_status_code(words[i].status), words[i].word);
}

static void outcomes_and_phases_have_names(void **state) {
  (void)state;
  assert_string_equal(redmoon_outcome_name(REDMOON_NOT_SENT), "not_sent");
  assert_string_equal(redmoon_outcome_name(REDMOON_ANSWERED), "answered");
  assert_string_equal(redmoon_outcome_name(REDMOON_UNKNOWN), "unknown");
  static const char *const names[] = {"",          "pool", "resolve", "dial",   "tls",
                                      "handshake", "send", "receive", "backoff"};
  for (int i = 0; i <= REDMOON_PHASE_BACKOFF; i++)
    assert_string_equal(redmoon_phase_name((redmoon_phase)i), names[i]);
  assert_string_equal(redmoon_phase_name((redmoon_phase)99), "");
}

static void failing_sets_everything_and_returns_the_status(void **state) {
  (void)state;
  redmoon_error err;
  memset(&err, 0x7f, sizeof err);
  assert_int_equal(rm_fail_phase(&err, REDMOON_ECONNECT, REDMOON_PHASE_DIAL, "no %s", "way"), REDMOON_ECONNECT);
  assert_int_equal(err.status, REDMOON_ECONNECT);
  assert_int_equal(err.phase, REDMOON_PHASE_DIAL);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
  assert_int_equal(err.retryable, 0);
  assert_int_equal(err.attempts, 0);
  assert_string_equal(err.address, "");
  assert_string_equal(err.code, "CONNECT");
  assert_string_equal(err.message, "no way");
}

static void failing_without_an_error_struct_is_allowed(void **state) {
  (void)state;
  assert_int_equal(rm_fail(NULL, REDMOON_EIO, "x"), REDMOON_EIO);
  assert_int_equal(rm_fail_nomem(NULL), REDMOON_ENOMEM);
  assert_int_equal(rm_fail_server(NULL, "ERR x", 5), REDMOON_ESERVER);
  rm_error_clear(NULL);
}

static void a_message_may_quote_the_error_it_replaces(void **state) {
  (void)state;
  redmoon_error err;
  rm_fail(&err, REDMOON_EIO, "inner");
  rm_fail(&err, REDMOON_ECONNECT, "outer: %s", err.message);
  assert_string_equal(err.message, "outer: inner");
}

static void control_bytes_are_escaped_and_long_messages_cut(void **state) {
  (void)state;
  redmoon_error err;
  rm_fail(&err, REDMOON_EIO, "a\r\nb\x80");
  assert_string_equal(err.message, "a\\x0d\\x0ab\\x80");
  char longer[2000];
  memset(longer, 'y', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  rm_fail(&err, REDMOON_EIO, "%s", longer);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
  memset(longer, '\n', sizeof longer - 1);
  rm_fail(&err, REDMOON_EIO, "%s", longer);
  assert_true(strlen(err.message) < sizeof err.message);
  assert_int_equal(strlen(err.message) % 4, 0); /* no escape is cut in the middle */
}

static void escaping_fits_any_room(void **state) {
  (void)state;
  for (size_t cap = 1; cap < 12; cap++) {
    char out[16];
    memset(out, '#', sizeof out);
    rm_escape(out, cap, "a\nb\n", 4);
    assert_true(strlen(out) < cap);
    assert_int_equal(out[cap], '#');
  }
}

static void the_first_word_of_a_servers_error_is_its_code(void **state) {
  (void)state;
  static const struct {
    const char *text, *code;
  } cases[] = {{"WRONGTYPE Operation against a key", "WRONGTYPE"},
               {"NOAUTH", "NOAUTH"},
               {"ERR x", "ERR"},
               {"", "ERR"},
               {"lower case", "ERR"},
               {"MIXed", "ERR"},
               {"A_2 b", "A_2"},
               {"WORD: with colon", "ERR"},
               {"THIS_WORD_IS_LONGER_THAN_WHAT_FITS_IN_THE_STRUCT x", "ERR"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    redmoon_error err;
    memset(&err, 0x7f, sizeof err);
    assert_int_equal(rm_fail_server(&err, cases[i].text, strlen(cases[i].text)), REDMOON_ESERVER);
    assert_string_equal(err.code, cases[i].code);
    assert_string_equal(err.message, cases[i].text);
    assert_int_equal(err.outcome, REDMOON_ANSWERED);
    assert_int_equal(err.phase, REDMOON_PHASE_RECEIVE);
  }
}

static void errno_texts_are_written_into_the_callers_room(void **state) {
  (void)state;
  char buf[64];
  assert_ptr_equal(rm_errno_text(ECONNREFUSED, buf, sizeof buf), buf);
  assert_non_null(strstr(buf, "refused"));
  assert_true(strlen(rm_errno_text(123456, buf, sizeof buf)) > 0);
}

static void a_copy_is_the_same_error_or_none(void **state) {
  (void)state;
  redmoon_error from, to;
  memset(&to, 0x7f, sizeof to);
  rm_fail_phase(&from, REDMOON_EIO, REDMOON_PHASE_SEND, "send failed");
  memcpy(from.address, "host:1", 7);
  from.outcome = REDMOON_UNKNOWN;
  from.retryable = 1;
  from.attempts = 3;
  rm_error_copy(&to, &from);
  assert_memory_equal(&to, &from, sizeof to);
  rm_error_clear(&from);
  from.outcome = REDMOON_ANSWERED;
  from.phase = REDMOON_PHASE_RECEIVE;
  from.retryable = 1;
  from.attempts = 2;
  rm_error_copy(&to, &from);
  assert_int_equal(to.status, 0);
  assert_int_equal(to.outcome, REDMOON_ANSWERED);
  assert_int_equal(to.phase, REDMOON_PHASE_RECEIVE);
  assert_int_equal(to.retryable, 1);
  assert_int_equal(to.attempts, 2);
  assert_string_equal(to.code, "");
  assert_string_equal(to.address, "");
  assert_string_equal(to.message, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_status_has_its_code_word),
      cmocka_unit_test(outcomes_and_phases_have_names),
      cmocka_unit_test(failing_sets_everything_and_returns_the_status),
      cmocka_unit_test(failing_without_an_error_struct_is_allowed),
      cmocka_unit_test(a_message_may_quote_the_error_it_replaces),
      cmocka_unit_test(control_bytes_are_escaped_and_long_messages_cut),
      cmocka_unit_test(escaping_fits_any_room),
      cmocka_unit_test(the_first_word_of_a_servers_error_is_its_code),
      cmocka_unit_test(a_copy_is_the_same_error_or_none),
      cmocka_unit_test(errno_texts_are_written_into_the_callers_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
