/* SPDX-License-Identifier: MIT */
/* A release whose first dial failed, and that then found the lock gone, said "released": it took the attempt that had sent
 * nothing for the one that had released it.  The lock was lost, and its holder was not told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "patterns/status_generated.h"
#include "support/fake_server.h"

#include <redmoon/redmoon.h>
#include <stdio.h>

/* Connection 0 grants the lock, 1 fails in its handshake, 2 knows of no lock; or 1 takes the release and does not answer. */
static void script(fake_peer *peer, void *ctx) {
  const fake_command *command;
  bool takes_release = ctx != NULL;
  if (fake_index(peer) == 1 && !takes_release) return;
  fake_handshake(peer);
  if (!fake_next(peer, &command)) return;
  char text[64];
  if (fake_index(peer) == 0) snprintf(text, sizeof text, "*4\r\n:%d\r\n:1\r\n:10000\r\n:1\r\n", RM_STATUS_LOCK_OK);
  else snprintf(text, sizeof text, "*1\r\n:%d\r\n", RM_STATUS_LOCK_GONE);
  if (fake_index(peer) != 1) fake_text(peer, text);
}

static int release(bool takes_release, redmoon_error *err) {
  fake_server *server = fake_server_start(&(fake_options){.script = script, .ctx = takes_release ? &(char){0} : NULL});
  char url[256];
  snprintf(url, sizeof url, "unix://%s?min_backoff=0.004&max_backoff=0.004&max_retries=50", fake_server_path(server));
  redmoon_client *client;
  redmoon_lock *lock;
  assert_int_equal(redmoon_client_open(url, NULL, &client, NULL), 0);
  assert_int_equal(redmoon_lock_acquire(client, "x", 1, NULL, &lock, NULL), 0);
  assert_true(fake_server_wait_ended(server, 1));
  int rc = redmoon_lock_release(lock, err);
  assert_int_equal(fake_server_connections(server), 3);
  redmoon_lock_free(lock);
  redmoon_client_close(client);
  fake_server_stop(server);
  return rc;
}

static void a_lock_that_is_gone_after_a_failed_dial_was_lost(void **state) {
  (void)state;
  redmoon_error err;
  assert_int_equal(release(false, &err), REDMOON_ELOST);
}

static void a_lock_that_is_gone_after_an_unanswered_release_was_released(void **state) {
  (void)state;
  assert_int_equal(release(true, NULL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_lock_that_is_gone_after_a_failed_dial_was_lost),
      cmocka_unit_test(a_lock_that_is_gone_after_an_unanswered_release_was_released),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
