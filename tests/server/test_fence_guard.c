/* SPDX-License-Identifier: MIT */
/* The fence guard through the public interface.  What its script decides is proved in tests/scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/embedded_fixture.h"
#include "support/embedded_server.h"
#include "support/ask.h"
#include "support/cutter.h"

#include <string.h>

#define KEY "redmoon:{r}:guard"

static int guard(redmoon_client *client, int64_t fence) {
  int accepted = -1;
  redmoon_error err;
  if (redmoon_fence_guard(client, "r", 1, fence, &accepted, &err) != 0) fail_msg("%s", err.message);
  return accepted;
}

static void falling_fence_is_refused_and_changes_nothing(void **state) {
  fixture *f = *state;
  assert_int_equal(guard(f->client, 7), 1);
  assert_int_equal(guard(f->client, 7), 1); /* the same holder again */
  char before[256], after[256];
  int64_t len = ask_text(f->client, before, sizeof before, "DUMP", KEY, NULL);
  assert_int_equal(guard(f->client, 6), 0);
  assert_int_equal(ask_text(f->client, after, sizeof after, "DUMP", KEY, NULL), len);
  assert_memory_equal(before, after, (size_t)len);
  assert_int_equal(guard(f->client, INT64_C(9007199254740991)), 1);
  assert_int_equal(guard(f->client, INT64_C(9007199254740990)), 0);
  assert_true(ask_integer(f->client, "PTTL", KEY, NULL) > INT64_C(29) * 24 * 3600 * 1000);
}

static void fences_of_a_lock_pass_in_their_order(void **state) {
  fixture *f = *state;
  int64_t fences[3];
  for (int i = 0; i < 3; i++) {
    redmoon_lock *lock;
    assert_int_equal(redmoon_lock_acquire(f->client, "r", 1, NULL, &lock, NULL), 0);
    fences[i] = redmoon_lock_fence(lock);
    assert_int_equal(redmoon_lock_release(lock, NULL), 0);
    redmoon_lock_free(lock);
  }
  assert_int_equal(guard(f->client, fences[1]), 1);
  assert_int_equal(guard(f->client, fences[0]), 0); /* was paused beyond its lease */
  assert_int_equal(guard(f->client, fences[2]), 1);
  assert_int_equal(guard(f->client, fences[1]), 0);
}

static void bad_input_is_refused_and_nothing_is_sent(void **state) {
  fixture *f = *state;
  redmoon_error err;
  int accepted = -1;
  static const int64_t bad[] = {0, -1, INT64_C(9007199254740992), INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(redmoon_fence_guard(f->client, "r", 1, bad[i], &accepted, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, "give 1 to 9007199254740991"));
  }
  static char name[513];
  assert_int_equal(redmoon_fence_guard(f->client, name, 0, 1, &accepted, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_fence_guard(f->client, name, 513, 1, &accepted, &err), REDMOON_ECONFIG);
  assert_int_equal(redmoon_fence_guard(f->client, NULL, 1, 1, &accepted, &err), REDMOON_ECONFIG);
  assert_int_equal(accepted, -1);
  assert_int_equal(ask_integer(f->client, "DBSIZE", NULL), 0);
}

static void lost_answer_is_asked_for_again(void **state) {
  fixture *f = *state;
  cutter *c = cutter_start(embedded_server_url(f->server));
  redmoon_client *through;
  assert_int_equal(redmoon_client_open(cutter_url(c), NULL, &through, NULL), 0);
  cutter_lose(c, 1);
  assert_int_equal(guard(through, 7), 1);
  cutter_lose(c, 1);
  assert_int_equal(guard(through, 6), 0);
  assert_int_equal(cutter_left(c), 0);
  redmoon_client_close(through);
  cutter_stop(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(falling_fence_is_refused_and_changes_nothing, embedded_fixture_empty),
      cmocka_unit_test_setup(fences_of_a_lock_pass_in_their_order, embedded_fixture_empty),
      cmocka_unit_test_setup(bad_input_is_refused_and_nothing_is_sent, embedded_fixture_empty),
      cmocka_unit_test_setup_teardown(lost_answer_is_asked_for_again, embedded_fixture_empty, embedded_server_alone),
  };
  return embedded_server_run("fence_guard", tests, sizeof tests / sizeof tests[0], embedded_fixture_start, embedded_fixture_stop);
}
