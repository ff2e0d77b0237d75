/* SPDX-License-Identifier: MIT */
/* A server that was killed twice executed half of a pop (docs/queue.md), which left a group's old turn in the set of turns.  As
 * the first of all it was looked at again and again, and no job was handed out any more. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/ask.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>

static void a_turn_that_nobody_has_keeps_no_job_back(void **state) {
  (void)state;
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  redmoon_queue *queue;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  redmoon_queue_options options = REDMOON_QUEUE_OPTIONS_INIT;
  options.group_concurrency = 1;
  if (redmoon_queue_new(client, "q", 1, &options, &queue, &err) != 0) fail_msg("%s", err.message);
  redmoon_queue_item items[2] = {REDMOON_QUEUE_ITEM_INIT, REDMOON_QUEUE_ITEM_INIT};
  redmoon_queue_pushed pushed[2];
  items[0].payload = items[1].payload = "x";
  items[0].len = items[1].len = 1;
  items[1].group = "g";
  assert_int_equal(redmoon_queue_push_many(queue, items, 2, NULL, pushed, NULL), 0);
  redmoon_reply_free(ask(client, "ZADD", "redmoon:{q}:queue.groups", "0", "t0000000000000001gone", NULL));
  for (int i = 0; i < 2; i++) {
    redmoon_job *job = NULL;
    assert_int_equal(redmoon_queue_pop(queue, NULL, &job, NULL), 0);
    assert_non_null(job);
    redmoon_job_free(job);
  }
  redmoon_queue_report *report;
  assert_int_equal(redmoon_queue_check(queue, &report, NULL), 0);
  assert_int_equal(report->count, 0);
  redmoon_queue_report_free(report);
  redmoon_queue_free(queue);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_turn_that_nobody_has_keeps_no_job_back)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
