/* SPDX-License-Identifier: MIT */
/* Locks over several servers, some of them dead, stopped, swallowed or new: who votes, and what is left behind. */
#include "server/redlock.h"

#include "engine/op.h"
#include "support/stopper.h"

static void lock_is_held_on_the_servers_with_one_fence(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, REDMOON_UNSET);
  assert_true(redmoon_lock_held(lock));
  assert_int_equal(strlen(redmoon_lock_token(lock)), 32);
  assert_int_equal(redmoon_lock_holds(lock), 1);
  int64_t left_ms = redmoon_lock_remaining_ms(lock);
  assert_true(left_ms > 5000 && left_ms <= 9898); /* 10 s less 1 % and 2 ms */
  assert_true(holders(f, lock) >= 3);
  int agreed = 0;
  for (int i = 0; i < SERVERS; i++) agreed += number(f, i, "GET " FENCE) >= redmoon_lock_fence(lock);
  assert_true(agreed >= 3);
  assert_true(redmoon_lock_fence(lock) > INT64_C(1700000000000000));
  give_back(lock);
  await_held(f, 0);
}

static void held_lock_is_refused_and_what_was_voted_for_the_loser_is_given_back(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 60000), *other;
  redmoon_error err;
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 2; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL)); /* these vote for the other */
  assert_int_equal(try_lock(f->redlock, 60000, 0, &other, &err), REDMOON_ELOCKED);
  assert_null(other);
  assert_string_equal(err.code, "LOCKED");
  assert_true(err.retryable);
  assert_int_equal(err.attempts, 1);
  assert_text(err.message, "redlock 'n': ");
  assert_text(err.message, "for another");
  await_held(f, SERVERS - 2);
  assert_int_equal(holders(f, lock), SERVERS - 2);
  give_back(lock);
}

static void minority_of_dead_servers_does_no_harm(void **state) {
  fixture *f = *state;
  kill_server(f, 1);
  kill_server(f, 4);
  redmoon_lock *lock = acquire(f->redlock, 10000), *other;
  redmoon_error err;
  assert_int_equal(holders(f, lock), 3);
  assert_int_equal(try_lock(f->redlock, 10000, 0, &other, &err), REDMOON_ELOCKED);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  give_back(lock);
  await_held(f, 0);
}

static void majority_of_dead_servers_is_told_and_leaves_nothing_behind(void **state) {
  fixture *f = *state;
  for (int i = 0; i < 3; i++) kill_server(f, i);
  redmoon_lock *lock;
  redmoon_error err;
  assert_int_equal(try_lock(f->redlock, 60000, 0, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_null(lock);
  assert_true(err.retryable);
  assert_text(err.message, "of 5 servers vote for it, and 3 must, 3 without an answer (server 1: ");
  await_held(f, 0);
  assert_int_equal(try_lock(f->redlock, 10000, 50, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "; waited ");
  assert_true(err.attempts > 1);
  for (int i = 0; i < 3; i++) restart(f, i);
  give_back(acquire(f->redlock, 10000));
}

/* Writes the fence back: whoever gave the greatest may be dead when the next one comes. */
static void fence_rises_though_the_server_that_gave_it_is_gone(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->clients[2], "SET", FENCE, "8000000000000000", NULL));
  kill_server(f, 0);
  kill_server(f, 1);
  redmoon_lock *lock = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(lock) == INT64_C(8000000000000001));
  give_back(lock);
  kill_server(f, 2);
  restart(f, 0);
  restart(f, 1);
  lock = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(lock) > INT64_C(8000000000000001));
  give_back(lock);
}

static void extension_takes_the_vote_and_the_fence_to_servers_that_lost_them(void **state) {
  fixture *f = *state;
  redmoon_reply_free(ask(f->clients[0], "SET", FENCE, "8000000000000000", NULL));
  redmoon_lock *lock;
  redmoon_error err;
  for (;;) { /* the first server is among those that decide */
    lock = acquire(f->redlock, 10000);
    if (redmoon_lock_fence(lock) > INT64_C(8000000000000000)) break;
    give_back(lock);
  }
  for (int i = 0; i < 3; i++) {
    kill_server(f, i);
    restart(f, i);
  }
  assert_true(holders(f, lock) <= 2);
  assert_int_equal(redmoon_lock_extend(lock, 20000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 15000);
  await_holders(f, lock, SERVERS);
  int agreed = 0;
  for (int i = 0; i < SERVERS; i++) agreed += number(f, i, "GET " FENCE) >= redmoon_lock_fence(lock);
  assert_true(agreed >= 3);
  give_back(lock);
  await_held(f, 0);
}

static void extension_without_a_quorum_leaves_the_lock_to_its_lease(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < 3; i++) kill_server(f, i);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_true(err.retryable);
  assert_text(err.message, "redlock 'n' could not be extended: 2 of 5 servers vote for it, and 3 must, 3 without an answer");
  assert_true(redmoon_lock_held(lock));
  assert_true(redmoon_lock_remaining_ms(lock) <= 9898);
  restart(f, 0);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_true(redmoon_lock_remaining_ms(lock) > 50000);
  give_back(lock);
}

static void lock_that_others_have_got_is_lost(void **state) {
  fixture *f = *state;
  redmoon_lock *first = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  redmoon_lock *second = acquire(f->redlock, 10000);
  assert_true(redmoon_lock_fence(second) > redmoon_lock_fence(first));
  await_holders(f, second, SERVERS);
  assert_int_equal(redmoon_lock_extend(first, 60000, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_ANSWERED);
  assert_false(redmoon_lock_held(first));
  assert_true(redmoon_lock_lost(first));
  assert_int_equal(redmoon_lock_release(first, &err), REDMOON_ELOST);
  assert_int_equal(holders(f, second), SERVERS);
  assert_int_equal(redmoon_lock_extend(second, 20000, &err), 0);
  redmoon_lock_free(first);
  give_back(second);
}

static void lock_whose_servers_forgot_it_is_lost_at_the_release(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 10000);
  redmoon_error err;
  for (int i = 0; i < 3; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  assert_int_equal(redmoon_lock_release(lock, &err), REDMOON_ELOST);
  assert_string_equal(err.code, "LOST");
  await_held(f, 0);
  redmoon_lock_free(lock);
}

static void await_uptime(const fixture *f, int server, int64_t seconds) {
  int64_t by_us = rm_clock_now_us() + LIMIT_US, up = -1;
  while (up < seconds && rm_clock_now_us() < by_us) {
    char info[8192];
    ask_text(f->clients[server], info, sizeof info, "INFO", "server", NULL);
    const char *at = strstr(info, "uptime_in_seconds:");
    assert_non_null(at);
    up = strtoll(at + strlen("uptime_in_seconds:"), NULL, 10);
    poll(NULL, 0, 20);
  }
  assert_true(up >= seconds);
}

static void vote_of_a_server_that_has_just_started_does_not_count(void **state) {
  fixture *f = *state;
  redmoon_redlock *careful = redlock_of(f->clients, SERVERS, 1000);
  redmoon_lock *lock;
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) await_uptime(f, i, 2);
  lock = acquire(careful, 1000);
  assert_true(holders(f, lock) >= 3);
  for (int i = 0; i < 3; i++) {
    kill_server(f, i);
    restart(f, i);
  }
  assert_int_equal(redmoon_lock_extend(lock, 900, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "3 in quarantine after a start");
  redmoon_lock_free(lock);
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  assert_int_equal(try_lock(careful, 1000, 0, &lock, &err), REDMOON_EUNAVAILABLE);
  assert_text(err.message, "2 of 5 servers vote for it, and 3 must, 3 in quarantine after a start");
  await_held(f, 0);
  give_back(acquire(f->redlock, 1000));
  if (try_lock(careful, 1000, LIMIT_US / 1000, &lock, &err) != 0) fail_msg("%s", err.message); /* it ends */
  give_back(lock);
  redmoon_redlock_free(careful);
}

static void release_that_was_not_answered_can_be_repeated(void **state) {
  fixture *f = *state;
  redmoon_lock *lock = acquire(f->redlock, 60000);
  redmoon_error err;
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 3; i++) redis_server_freeze(f->servers[i], true);
  assert_int_equal(redmoon_lock_release(lock, &err), REDMOON_EUNAVAILABLE);
  assert_int_equal(err.outcome, REDMOON_UNKNOWN);
  assert_text(err.message, "3 of 5 servers have not answered");
  assert_false(redmoon_lock_held(lock));
  for (int i = 0; i < 3; i++) redis_server_freeze(f->servers[i], false);
  give_back(lock);
  await_held(f, 0);
}

/* Connections that a stopped server has accepted before: what is sent over them is executed when it goes on. */
static void warm(redmoon_client *client, size_t count) {
  redmoon_op *ops[4];
  redmoon_reply *replies[4];
  const char *argv[] = {"PING"};
  for (size_t i = 0; i < count; i++) assert_int_equal(redmoon_command_start(client, 1, argv, NULL, &replies[i], &ops[i], NULL), 0);
  for (size_t i = 0; i < count; i++) redmoon_op_step(ops[i]); /* all have a connection of their own now */
  for (size_t i = 0; i < count; i++) {
    rm_drive(ops[i]);
    assert_int_equal(redmoon_op_finish(ops[i], NULL), 0);
    redmoon_reply_free(replies[i]);
  }
}

static void request_that_is_executed_after_all_leaves_no_vote_behind(void **state) {
  fixture *f = *state;
  redmoon_lock *lock, *other;
  redmoon_error err;
  warm(f->clients[4], 4);
  redis_server_freeze(f->servers[4], true);
  lock = acquire(f->redlock, 60000);
  assert_int_equal(try_lock(f->redlock, 60000, 0, &other, &err), REDMOON_ELOCKED);
  give_back(lock);
  redis_server_freeze(f->servers[4], false);
  int64_t by_us = rm_clock_now_us() + LIMIT_US, calls = 0;
  while (calls < 4 && rm_clock_now_us() < by_us) { /* two were asked for it, and two gave it back */
    char info[8192];
    ask_text(f->clients[4], info, sizeof info, "INFO", "commandstats", NULL);
    const char *at = strstr(info, "cmdstat_evalsha:calls=");
    calls = at == NULL ? 0 : strtoll(at + strlen("cmdstat_evalsha:calls="), NULL, 10);
  }
  assert_true(calls >= 4);
  assert_int_equal(number(f, 4, "EXISTS " KEY), 0);
  redmoon_reply *keys = ask(f->clients[4], "KEYS", KEY "+void.*", NULL);
  assert_int_equal(redmoon_reply_count(keys), 2); /* and what would come yet is barred */
  redmoon_reply_free(keys);
}

static void servers_that_swallow_everything_do_not_vote(void **state) {
  fixture *f = *state;
  stopper *holes[SERVERS];
  redmoon_client *clients[SERVERS];
  redmoon_lock *lock, *other;
  redmoon_error err;
  for (int i = 0; i < SERVERS; i++) {
    holes[i] = stopper_start(redis_server_path(f->servers[i]));
    assert_int_equal(redmoon_client_open(stopper_url(holes[i]), NULL, &clients[i], NULL), 0);
  }
  redmoon_redlock *redlock = redlock_of(clients, SERVERS, 0);
  lock = acquire(redlock, 1000);
  await_holders(f, lock, SERVERS);
  give_back(lock);
  for (int i = 0; i < 2; i++) stopper_swallow(holes[i]);
  lock = acquire(redlock, 1000);
  give_back(lock);
  lock = acquire(redlock, 1000); /* by new connections, which work */
  await_holders(f, lock, SERVERS);
  for (int i = 0; i < 3; i++) stopper_swallow(holes[i]);
  assert_int_equal(redmoon_lock_extend(lock, 900, &err), REDMOON_EUNAVAILABLE);
  redmoon_lock_free(lock);
  for (int i = 0; i < SERVERS; i++) redmoon_reply_free(ask(f->clients[i], "DEL", KEY, NULL));
  give_back(acquire(redlock, 1000));
  for (int i = 0; i < 3; i++) stopper_swallow(holes[i]);
  assert_int_equal(try_lock(redlock, 60000, 0, &other, &err), REDMOON_EUNAVAILABLE);
  await_held(f, 0);
  redmoon_redlock_free(redlock);
  for (int i = 0; i < SERVERS; i++) {
    redmoon_client_close(clients[i]);
    stopper_stop(holes[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lock_is_held_on_the_servers_with_one_fence),
      TEST(held_lock_is_refused_and_what_was_voted_for_the_loser_is_given_back),
      TEST(minority_of_dead_servers_does_no_harm),
      TEST(majority_of_dead_servers_is_told_and_leaves_nothing_behind),
      TEST(fence_rises_though_the_server_that_gave_it_is_gone),
      TEST(extension_takes_the_vote_and_the_fence_to_servers_that_lost_them),
      TEST(extension_without_a_quorum_leaves_the_lock_to_its_lease),
      TEST(lock_that_others_have_got_is_lost),
      TEST(lock_whose_servers_forgot_it_is_lost_at_the_release),
      TEST(vote_of_a_server_that_has_just_started_does_not_count),
      TEST(release_that_was_not_answered_can_be_repeated),
      TEST(request_that_is_executed_after_all_leaves_no_vote_behind),
      TEST(servers_that_swallow_everything_do_not_vote),
  };
  return cmocka_run_group_tests_name("redlock", tests, start_servers, stop_servers);
}
