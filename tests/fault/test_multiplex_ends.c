/* SPDX-License-Identifier: MIT */
/* The end of what is shared: of connections, of the client, of the process; and threads. */
#include "fault/multiplex.h"

/* The connection ends. */

static void what_was_pending_when_the_connection_was_killed_is_sent_on_another(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  free(redis_server_ask(server, NULL, "SET n 0"));
  enum { MANY = 20, ROUNDS = 20 };
  int64_t answered = 0, unknown = 0;
  for (int round = 0; round < ROUNDS; round++) {
    call calls[MANY];
    start(&calls[0], client, 2, ARGV("INCR", "n"));
    step_until_sent(client, &calls[0]);
    for (int i = 1; i < MANY; i++) {
      start(&calls[i], client, 2, ARGV("INCR", "n"));
      assert_int_equal(redmoon_op_step(calls[i].op), 0);
    }
    free(redis_server_ask(server, NULL, "CLIENT KILL TYPE normal SKIPME yes"));
    int64_t lost = 0;
    for (int i = 0; i < MANY; i++) {
      redmoon_error err;
      int rc = finish(&calls[i], &err);
      if (rc == 0) {
        answered++;
        redmoon_reply_free(calls[i].reply);
        continue;
      }
      assert_int_equal(rc, REDMOON_EIO);
      assert_int_equal(err.outcome, REDMOON_UNKNOWN);
      lost++;
    }
    assert_true(lost <= 2); /* of those in flight, which were two batches of one */
    unknown += lost;
  }
  char *n = redis_server_ask(server, NULL, "GET n");
  assert_in_range(atoll(n), (uintmax_t)answered, (uintmax_t)(answered + unknown));
  assert_int_equal(answered + unknown, MANY * ROUNDS);
  free(n);
  redmoon_client_close(client);
}

/* The server stands still, so that the socket is full in the middle of a batch. */
static void of_a_batch_that_was_cut_in_two_the_second_part_was_not_sent(void **state) {
  redis_server *server = *state;
  enum { MANY = 12, LEN = 60000 };
  redmoon_client *client = open_one(redis_server_url(server)), *once;
  redmoon_call_options options = REDMOON_CALL_OPTIONS_INIT;
  options.max_retries = 0;
  assert_int_equal(redmoon_client_with(client, &options, &once, NULL), 0);
  static char value[LEN + 1];
  memset(value, 'x', LEN);
  call calls[MANY];
  start(&calls[0], once, 3, ARGV("APPEND", "cut", value));
  step_until_sent(once, &calls[0]);
  redis_server_freeze(server, true);
  for (int i = 1; i < MANY; i++) start(&calls[i], once, 3, ARGV("APPEND", "cut", value));
  for (int i = 1; i < MANY; i++) assert_int_equal(redmoon_op_step(calls[i].op), 0);
  rm_lane *lane = lane_of(client);
  /* What the rule of two batches holds back goes out now. */
  lane->batches = 0;
  rm_lane_lock(lane);
  rm_lane_flush(lane, rm_clock_now_us());
  assert_true(rm_buffer_len(&lane->out) > LEN);
  redmoon_error why;
  rm_fail_phase(&why, REDMOON_EIO, REDMOON_PHASE_SEND, "cut");
  size_t in_flight = count(&lane->in_flight);
  rm_lane_fail(lane, &why, RM_CLOSE_ERROR, rm_clock_now_us());
  rm_lane_unlock(lane);
  redis_server_freeze(server, false);
  int unknown = 0, unsent = 0;
  for (int i = 0; i < MANY; i++) {
    redmoon_error err;
    int rc = finish(&calls[i], &err);
    if (rc == 0) redmoon_reply_free(calls[i].reply);
    else if (err.outcome == REDMOON_UNKNOWN) unknown++;
    else unsent++;
    if (unsent > 0 && (size_t)i < in_flight) assert_int_equal(err.outcome, REDMOON_NOT_SENT); /* and so is all behind it */
  }
  assert_true(unknown > 0 && unsent > 0);
  assert_int_equal((size_t)(unknown + unsent), in_flight);
  redmoon_client_close(once);
  redmoon_client_close(client);
}

static void a_connection_past_its_lifetime_is_drained_and_replaced(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call first, second;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  lane_of(client)->borrow.lease.conn->expires_us = 0;
  start_echo(&second, client, "second");
  assert_int_equal(redmoon_op_step(second.op), 0);
  assert_int_equal(count(&lane_of(client)->pending), 1);
  expect_text(&second, "second");
  expect_text(&first, "first");
  assert_int_equal(stats_of(client).dials, 2);
  assert_int_equal(stats_of(client).closed_lifetime, 1);
  redmoon_client_close(client);
}

static void unread_bytes_are_looked_for_before_a_drained_lane_is_used_again(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call first, second, third;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start_echo(&second, client, "second");
  assert_int_equal(redmoon_op_step(second.op), 0);
  while (count(&lane_of(client)->in_flight) > 0 && redmoon_op_step(first.op) == 0) poll_wants(first.op, PATIENCE_MS);
  rm_lane_lock(lane_of(client));
  while (count(&lane_of(client)->in_flight) > 0) rm_lane_receive(lane_of(client), false, rm_clock_now_us());
  rm_conn *conn = lane_of(client)->borrow.lease.conn;
  rm_lane_unlock(lane_of(client));
  /* Nobody has asked for this one; its answer must reach nobody. */
  redmoon_error err;
  static const char request[] = "*2\r\n$4\r\nECHO\r\n$5\r\nwrong\r\n";
  assert_int_equal(rm_conn_send(conn, request, sizeof request - 1, NULL, &err), (int)sizeof request - 1);
  assert_int_equal(poll(&(struct pollfd){.fd = conn->fd, .events = POLLIN}, 1, PATIENCE_MS), 1);
  start_echo(&third, client, "third");
  expect_text(&third, "third");
  expect_text(&second, "second");
  expect_text(&first, "first");
  assert_int_equal(stats_of(client).closed_dirty, 1);
  redmoon_client_close(client);
}

/* Threads. */

typedef struct caller {
  redmoon_client *client;
  int number, times, wrong;
  redmoon_error err;
} caller;

static void *echo_often(void *arg) {
  caller *self = arg;
  for (int i = 0; i < self->times; i++) {
    char tag[32];
    snprintf(tag, sizeof tag, "%d:%d", self->number, i);
    redmoon_reply *reply;
    if (redmoon_command(self->client, 2, ARGV("ECHO", tag), NULL, &reply, &self->err) != 0) {
      self->wrong++;
      continue;
    }
    if (strcmp(redmoon_reply_string(reply, NULL), tag) != 0) self->wrong++;
    redmoon_reply_free(reply);
  }
  return NULL;
}

static void share(const char *url, int64_t pool_size, int threads, int times) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = options.pool_timeout_ms = PATIENCE_MS;
  enum { MOST = 100 };
  redmoon_client *client = open_url(url, options, pool_size);
  caller callers[MOST];
  pthread_t ids[MOST];
  assert_true(threads <= MOST);
  for (int i = 0; i < threads; i++) {
    callers[i] = (caller){.client = client, .number = i, .times = times};
    assert_int_equal(pthread_create(&ids[i], NULL, echo_often, &callers[i]), 0);
  }
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  for (int i = 0; i < threads; i++)
    if (callers[i].wrong != 0) fail_msg("%d of thread %d: %s", callers[i].wrong, i, callers[i].err.message);
  assert_true(stats_of(client).dials <= (uint64_t)pool_size);
  assert_int_equal(stats_of(client).in_use, 0);
  redmoon_client_close(client);
}

static void many_threads_share_few_connections(void **state) { share(redis_server_url(*state), 4, 24, 2000); }

/* They sleep on several futexes, and many on each. */
static void more_threads_than_a_chunk_has_slots_share_one_connection(void **state) {
  share(redis_server_url(*state), 1, 3 * RM_SLOTS_AT_ONCE + 1, 200);
}

/* Longer than anyone waits: the server sleeps. */
static void *ask_a_sleeping_server(void *arg) {
  caller *self = arg;
  redmoon_reply *reply = NULL;
  self->wrong = redmoon_command(self->client, 2, ARGV("GET", "k"), NULL, &reply, &self->err);
  redmoon_reply_free(reply);
  return NULL;
}

/* The server is stopped, and so many threads ask it by one lane. */
static redmoon_client *client_of_a_sleeping_server(redis_server *server, caller *callers, pthread_t *threads, int count) {
  redmoon_options options = REDMOON_OPTIONS_INIT;
  options.timeout_ms = options.read_timeout_ms = options.pool_timeout_ms = 600000;
  redmoon_client *client = open_url(redis_server_url(server), options, 1);
  redmoon_reply_free(ask(client, "SET", "k", "1", NULL));
  redis_server_freeze(server, true);
  for (int i = 0; i < count; i++) {
    callers[i] = (caller){.client = client};
    assert_int_equal(pthread_create(&threads[i], NULL, ask_a_sleeping_server, &callers[i]), 0);
  }
  return client;
}

static void a_shutdown_wakes_everyone_who_sleeps_in_a_lane(void **state) {
  redis_server *server = *state;
  enum { MANY = 8 };
  caller callers[MANY];
  pthread_t threads[MANY];
  redmoon_client *client = client_of_a_sleeping_server(server, callers, threads, MANY);
  while (atomic_load(&lane_of(client)->calls) < MANY) poll(NULL, 0, 1);
  redmoon_client_shutdown(client);
  for (int i = 0; i < MANY; i++) pthread_join(threads[i], NULL);
  redis_server_freeze(server, false);
  for (int i = 0; i < MANY; i++) assert_int_equal(callers[i].wrong, REDMOON_ECLOSED);
  assert_int_equal(stats_of(client).total, 0);
  redmoon_client_close(client);
}

/* With the lock: how many threads sleep in the lane; `wake`: and are to be woken. */
static int sleeping(rm_lane *lane, bool wake) {
  int n = 0;
  const rm_list *lists[] = {&lane->in_flight, &lane->pending};
  for (int i = 0; i < 2; i++)
    for (const rm_list *node = lists[i]->next; node != lists[i]; node = node->next) {
      rm_mux_slot *slot = RM_CONTAINER_OF(node, rm_mux_slot, link);
      if (slot->wait != RM_WAITS_FOR_FUTEX) continue;
      n++;
      if (wake) rm_slot_wake(slot);
    }
  return n;
}

static int bits_of(uint32_t set) {
  int n = 0;
  for (; set != 0; set &= set - 1) n++;
  return n;
}

static void threads_are_woken_together_each_by_a_bit_of_its_own(void **state) {
  redis_server *server = *state;
  enum { MANY = RM_SLOTS_AT_ONCE + 8 };
  caller callers[MANY];
  pthread_t threads[MANY];
  redmoon_client *client = client_of_a_sleeping_server(server, callers, threads, MANY);
  rm_lane *lane = lane_of(client);
  rm_lane_lock(lane);
  while (sleeping(lane, false) < MANY - 1) { /* all but the one that leads */
    rm_lane_unlock(lane);
    poll(NULL, 0, 1);
    rm_lane_lock(lane);
  }
  int woken = sleeping(lane, true), chunks = lane->to_wake_count, bits = 0;
  for (int i = 0; i < chunks; i++) bits += bits_of(lane->to_wake[i]->wakes);
  rm_lane_unlock(lane);
  int left = 0;
  rm_lane_lock(lane);
  for (const rm_slot_chunk *chunk = lane->chunks; chunk != NULL; chunk = chunk->next) left += bits_of(chunk->wakes);
  rm_lane_unlock(lane);
  redis_server_freeze(server, false);
  for (int i = 0; i < MANY; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < MANY; i++) assert_int_equal(callers[i].wrong, 0);
  assert_int_equal(woken, MANY - 1);
  assert_int_equal(chunks, 2);
  assert_int_equal(bits, woken);
  assert_int_equal(left, 0);
  redmoon_client_close(client);
}

/* fork() */

static int child(redmoon_client *client, call *first, call *second) {
  redmoon_error err;
  if (redmoon_op_step(first->op) != 1 || redmoon_op_finish(first->op, &err) != REDMOON_ECLOSED) return 1;
  redmoon_op_cancel(second->op);
  for (int i = 0; i < 100; i++) {
    redmoon_reply *reply;
    if (redmoon_command(client, 2, ARGV("ECHO", "child"), NULL, &reply, &err) != 0) return 2;
    if (strcmp(redmoon_reply_string(reply, NULL), "child") != 0) return 3;
    redmoon_reply_free(reply);
  }
  redmoon_client_close(client);
  return 0;
}

static void calls_of_the_parent_are_nothing_to_a_forked_child(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_one(redis_server_url(server));
  call first, second;
  start_echo(&first, client, "first");
  step_until_sent(client, &first);
  start_echo(&second, client, "second");
  assert_int_equal(redmoon_op_step(second.op), 0);
  pid_t pid = fork();
  if (pid == 0) _exit(child(client, &first, &second));
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  expect_text(&first, "first");
  expect_text(&second, "second");
  assert_int_equal(stats_of(client).dials, 1);
  redmoon_client_close(client);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_pending_when_the_connection_was_killed_is_sent_on_another),
      cmocka_unit_test(of_a_batch_that_was_cut_in_two_the_second_part_was_not_sent),
      cmocka_unit_test(a_connection_past_its_lifetime_is_drained_and_replaced),
      cmocka_unit_test(unread_bytes_are_looked_for_before_a_drained_lane_is_used_again),
      cmocka_unit_test(many_threads_share_few_connections),
      cmocka_unit_test(more_threads_than_a_chunk_has_slots_share_one_connection),
      cmocka_unit_test(threads_are_woken_together_each_by_a_bit_of_its_own),
      cmocka_unit_test(a_shutdown_wakes_everyone_who_sleeps_in_a_lane),
      cmocka_unit_test(calls_of_the_parent_are_nothing_to_a_forked_child),
  };
  return cmocka_run_group_tests(tests, start_server, stop_server);
}
