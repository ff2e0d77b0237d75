/* SPDX-License-Identifier: MIT */
/* kill -9 at a thousand random moments: whatever the process was doing, no key is left without the lifetime that it should
 * have, and nothing is half-written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/ask.h"
#include "support/redis_server.h"

#include <redmoon/redmoon.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 1000, LONGEST_LIFE_US = 2500 };

static uint64_t random_state;
static uint64_t draw(uint64_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (random_state >> 33) % bound;
}

/* What the child does, over and over; each act is one or more calls of a pattern. */

static void use_blocklist(redmoon_client *client) {
  redmoon_blocklist *list;
  redmoon_revocation_result revoked;
  redmoon_subject_result subject;
  redmoon_rotation_result rotated;
  if (redmoon_blocklist_new(client, "b", NULL, &list, NULL) != 0) return;
  redmoon_bytes id = {"x", 1}, next = {"y", 1};
  (void)!redmoon_blocklist_revoke(list, &(redmoon_revocation){id, 4000000000, NULL}, &revoked, NULL);
  (void)!redmoon_blocklist_bump(list, id.ptr, id.len, "r", &subject, NULL);
  (void)!redmoon_blocklist_rotate(list, &(redmoon_rotation){id, {NULL, 0}, id, 60000}, &rotated, NULL);
  (void)!redmoon_blocklist_rotate(list, &(redmoon_rotation){id, id, next, 60000}, &rotated, NULL);
  redmoon_blocklist_free(list);
}

static void use_records(redmoon_client *client) {
  typedef struct user {
    redmoon_bytes name;
    int64_t visits;
  } user;
  static const redmoon_field fields[] = {REDMOON_FIELD(user, name, REDMOON_STRING),
                                         REDMOON_FIELD(user, visits, REDMOON_INTEGER)};
  redmoon_records_options options = REDMOON_RECORDS_OPTIONS_INIT;
  options.fields = fields;
  options.field_count = 2;
  options.ttl_ms = 60000;
  redmoon_records *records;
  redmoon_record_sum sum;
  user ann = {{"ann", 3}, 1};
  if (redmoon_records_new(client, "users", &options, &records, NULL) != 0) return;
  (void)!redmoon_records_save(records, "x", 1, &ann, NULL, NULL, NULL);
  (void)!redmoon_records_increment(records, "x", 1, "visits", 1, NULL, &sum, NULL);
  (void)!redmoon_records_update(records, "x", 1, &ann, NULL, NULL, NULL);
  if (draw(2) == 0) (void)!redmoon_records_delete(records, "x", 1, NULL, NULL);
  redmoon_records_free(records);
}

static void use_counter(redmoon_client *client) {
  static const char *const periods[] = {"minute", "hour", "day", "month"};
  redmoon_counter_options options = REDMOON_COUNTER_OPTIONS_INIT;
  uint64_t kind = draw(6);
  if (kind == 0) options.window_ms = 60000;
  else if (kind == 1) options.ttl_ms = 60000;
  else options.calendar = periods[kind - 2];
  redmoon_counter *counter;
  redmoon_counter_result results[2];
  char id[24];
  snprintf(id, sizeof id, "r%d", (int)draw(1000000));
  if (redmoon_counter_new(client, "hits", &options, &counter, NULL) != 0) return;
  const redmoon_counter_item items[] = {{"k", 1, 2, NULL}, {"l", 1, 3, id}};
  if (draw(2) == 0) (void)!redmoon_counter_increment(counter, "k", 1, 1, id, results, NULL);
  else (void)!redmoon_counter_increment_many(counter, items, 2, results, NULL, NULL);
  redmoon_counter_free(counter);
}

static int load_for_cache(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  static const redmoon_bytes tags[] = {{"a", 1}, {"b", 1}};
  (void)ctx;
  (void)keys;
  for (size_t i = 0; i < count; i++) out[i] = (redmoon_cache_loaded){(int)draw(3) + 1, "value", 5, NULL, tags, draw(3)};
  return 0;
}

static void use_cache(redmoon_client *client) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "x";
  options.ttl_ms = options.stale_ttl_ms = 60000;
  options.lease_ms = 10;
  options.tags = 1;
  redmoon_cache *cache;
  redmoon_cache_result results[2];
  const redmoon_cache_key keys[] = {{"x", 1, NULL, 0}, {"y", 1, NULL, 0}};
  if (redmoon_cache_new(client, &options, &cache, NULL) != 0) return;
  const redmoon_bytes tag = {"a", 1};
  uint64_t kind = draw(6);
  int status = -1;
  if (kind == 0) status = redmoon_cache_get_many(cache, keys, 2, load_for_cache, NULL, results, NULL, NULL);
  if (kind == 0 && status == 0) redmoon_cache_result_fini(&results[1]);
  if (kind == 1) status = redmoon_cache_get(cache, keys, load_for_cache, NULL, results, NULL);
  if (status == 0) redmoon_cache_result_fini(results);
  if (kind == 2) (void)!redmoon_cache_set(cache, "x", 1, "v", 1, 60000, NULL);
  if (kind == 3) (void)!redmoon_cache_delete(cache, "x", 1, NULL);
  if (kind == 4) (void)!redmoon_cache_set_tagged(cache, "x", 1, "v", 1, 60000, &tag, 1, NULL);
  if (kind == 5) (void)!redmoon_cache_invalidate_tags(cache, &tag, 1, NULL);
  redmoon_cache_free(cache);
}

static void use_lock(redmoon_client *client) {
  redmoon_lock *lock;
  redmoon_lock_options options = {.ttl_ms = 60000, .wait_ms = (int64_t)draw(2), .fair = (int64_t)draw(2)};
  if (redmoon_lock_acquire(client, "x", 1, &options, &lock, NULL) != 0) return;
  (void)!redmoon_lock_extend(lock, 70000, NULL);
  if (draw(2) == 0) (void)!redmoon_lock_release(lock, NULL);
  redmoon_lock_free(lock);
}

/* Two databases stand for two servers. */
static void use_redlock(redmoon_client *client) {
  redmoon_client *clients[2] = {client};
  redmoon_options options = REDMOON_OPTIONS_INIT;
  redmoon_redlock_options without = {0};
  redmoon_redlock_request request = REDMOON_REDLOCK_REQUEST_INIT;
  redmoon_redlock *redlock = NULL;
  redmoon_lock *lock = NULL;
  options.database = 1;
  request.ttl_ms = 60000;
  if (redmoon_client_open(redmoon_client_url(client), &options, &clients[1], NULL) != 0) return;
  if (redmoon_redlock_new(clients, 2, &without, &redlock, NULL) == 0 &&
      redmoon_redlock_acquire(redlock, "x", 1, &request, &lock, NULL) == 0) {
    (void)!redmoon_lock_extend(lock, 70000, NULL);
    if (draw(2) == 0) (void)!redmoon_lock_release(lock, NULL);
  }
  redmoon_lock_free(lock);
  redmoon_redlock_free(redlock);
  redmoon_client_close(clients[1]);
}

static void use_semaphore(redmoon_client *client) {
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = 3;
  redmoon_semaphore *semaphore;
  redmoon_permit *permit = NULL;
  if (redmoon_semaphore_new(client, "x", 1, &options, &semaphore, NULL) != 0) return;
  if (redmoon_semaphore_acquire(semaphore, NULL, &permit, NULL) == 0 && draw(2) == 0)
    (void)!redmoon_permit_release(permit, NULL);
  redmoon_permit_free(permit);
  redmoon_semaphore_free(semaphore);
}

static void use_rwlock(redmoon_client *client) {
  redmoon_rwlock *lock;
  redmoon_permit *permit = NULL;
  int accepted;
  if (redmoon_rwlock_new(client, "x", 1, NULL, &lock, NULL) != 0) return;
  if ((draw(2) ? redmoon_rwlock_read : redmoon_rwlock_write)(lock, &permit, NULL) == 0) {
    (void)!redmoon_fence_guard(client, "x", 1, redmoon_permit_fence(permit), &accepted, NULL);
    if (draw(2) == 0) (void)!redmoon_permit_release(permit, NULL);
  }
  redmoon_permit_free(permit);
  redmoon_rwlock_free(lock);
}

static void use_limiter(redmoon_client *client) {
  redmoon_rate_limiter_options options = REDMOON_RATE_LIMITER_OPTIONS_INIT;
  static const char *const algorithms[] = {"buckets", "fixed_window", "gcra", "sliding_log", "sliding_window"};
  options.algorithm = algorithms[draw(5)];
  options.limit = 50;
  options.window_ms = 60000;
  redmoon_rate_request request = {3, draw(2) == 0, draw(2) == 0 ? "once" : NULL};
  redmoon_rate_limiter *limiter;
  redmoon_rate_result result;
  if (redmoon_rate_limiter_new(client, &options, &limiter, NULL) != 0) return;
  (void)!redmoon_rate_limiter_allow(limiter, "k", 1, &request, &result, NULL);
  (void)!redmoon_rate_limiter_refund(limiter, "k", 1, 1, NULL, &result, NULL);
  redmoon_rate_limiter_free(limiter);
}

static void use_topic(redmoon_client *client) {
  redmoon_topic *topic;
  redmoon_topic_reader *reader = NULL;
  if (redmoon_topic_new(client, "x", 1, NULL, &topic, NULL) != 0) return;
  if (draw(4) == 0) (void)!redmoon_topic_subscribe(topic, NULL, &reader, NULL);
  (void)!redmoon_topic_publish(topic, "payload", 7, draw(2) == 0 ? "once" : NULL, NULL, NULL);
  redmoon_topic_reader_close(reader);
  redmoon_topic_free(topic);
}

/* The control: two commands where one is needed. */
static void set_and_expire(redmoon_client *client) {
  redmoon_reply *reply;
  char key[24];
  snprintf(key, sizeof key, "k%d", (int)draw(1000000));
  if (redmoon_command(client, 3, (const char *[]){"SET", key, "v"}, NULL, &reply, NULL) == 0) redmoon_reply_free(reply);
  if (redmoon_command(client, 3, (const char *[]){"PEXPIRE", key, "60000"}, NULL, &reply, NULL) == 0) redmoon_reply_free(reply);
}

typedef void (*act)(redmoon_client *client);

static void live(const char *url, const act *acts, size_t count) {
  redmoon_client *client;
  if (redmoon_client_open(url, NULL, &client, NULL) != 0) _exit(1);
  for (;;) acts[draw(count)](client);
}

/* A key that would live for ever. */
static bool find_immortal(redmoon_client *client, char *out, size_t cap) {
  redmoon_reply *keys = ask(client, "KEYS", "*", NULL);
  bool found = false;
  for (size_t i = 0; !found && i < redmoon_reply_count(keys); i++) {
    snprintf(out, cap, "%s", redmoon_reply_string(redmoon_reply_at(keys, i), NULL));
    found = ask_integer(client, "PTTL", out, NULL) == -1;
  }
  redmoon_reply_free(keys);
  return found;
}

/* Children that do these acts are killed, one after the other.  True when one left an immortal key. */
static bool kill_many(const act *acts, size_t count, char *immortal, size_t cap) {
  const char *seed = getenv("SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)rm_clock_now_us();
  print_message("SEED=%llu\n", (unsigned long long)random_state);
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  bool found = false;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, NULL), 0);
  for (int i = 0; i < KILLS && !found; i++) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) live(redis_server_url(server), acts, count);
    struct timespec life = {.tv_nsec = (long)draw(LONGEST_LIFE_US) * 1000};
    nanosleep(&life, NULL); /* the moment is drawn, nothing is waited for */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    found = find_immortal(client, immortal, cap);
    if (i % 10 == 9) redmoon_reply_free(ask(client, "FLUSHALL", NULL));
  }
  redmoon_client_close(client);
  redis_server_stop(server);
  return found;
}

static void no_pattern_leaves_a_key_without_a_lifetime(void **state) {
  (void)state;
  static const act acts[] = {use_blocklist, use_records,   use_cache,  use_counter, use_lock, use_redlock,
                             use_limiter,   use_semaphore, use_rwlock, use_topic};
  char key[200];
  if (kill_many(acts, sizeof acts / sizeof acts[0], key, sizeof key)) fail_msg("%s would live for ever", key);
}

static void a_lifetime_that_is_set_by_a_second_command_is_missed(void **state) {
  (void)state;
  static const act acts[] = {set_and_expire};
  char key[200];
  assert_true(kill_many(acts, 1, key, sizeof key));
}

/* Waiters for a lock, in turn: each is a process, and writes its number down when its turn has come. */
enum { WAITERS = 6 };

static void wait_in_turn(const char *url, int number) {
  redmoon_client *client;
  redmoon_lock *lock;
  redmoon_reply *reply;
  redmoon_error err;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.wait_ms = 120000;
  options.fair = 1;
  char text[12];
  snprintf(text, sizeof text, "%d", number);
  int status = redmoon_client_open(url, NULL, &client, &err);
  if (status == 0) status = redmoon_lock_acquire(client, "n", 1, &options, &lock, &err);
  if (status == 0) status = redmoon_command(client, 3, (const char *[]){"RPUSH", "turns", text}, NULL, &reply, &err);
  if (status == 0) status = redmoon_lock_release(lock, &err);
  _exit(status == 0 ? 0 : 1);
}

static void waiters_that_are_killed_let_the_others_go_on_in_their_order(void **state) {
  (void)state;
  static const bool dies[WAITERS] = {true, false, true, true, false, false};
  redis_server *server = redis_server_start(NULL);
  redmoon_client *client;
  redmoon_lock *held;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(redis_server_url(server), NULL, &client, &err), 0);
  assert_int_equal(redmoon_lock_acquire(client, "n", 1, &(redmoon_lock_options){.ttl_ms = 600000}, &held, &err), 0);
  pid_t pids[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    pids[i] = fork();
    assert_true(pids[i] >= 0);
    if (pids[i] == 0) wait_in_turn(redis_server_url(server), i);
    int64_t patience_us = rm_clock_now_us() + 60000000;
    while (ask_integer(client, "ZCARD", "redmoon:{n}:lock.queue", NULL) <= i) assert_true(rm_clock_now_us() < patience_us);
  }
  for (int i = 0; i < WAITERS; i++)
    if (dies[i]) kill(pids[i], SIGKILL);
  assert_int_equal(redmoon_lock_release(held, &err), 0);
  redmoon_lock_free(held);
  for (int i = 0; i < WAITERS; i++) {
    int ended;
    assert_int_equal(waitpid(pids[i], &ended, 0), pids[i]);
    assert_true(dies[i] ? WIFSIGNALED(ended) : WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
  }
  redmoon_reply *turns = ask(client, "LRANGE", "turns", "0", "-1", NULL);
  static const char *const expected[] = {"1", "4", "5"};
  assert_int_equal(redmoon_reply_count(turns), 3);
  for (size_t i = 0; i < 3; i++)
    assert_string_equal(redmoon_reply_string(redmoon_reply_at(turns, i), NULL), expected[i]);
  redmoon_reply_free(turns);
  assert_int_equal(ask_integer(client, "EXISTS", "redmoon:{n}:lock", "redmoon:{n}:lock.queue", "redmoon:{n}:lock.beats",
                               NULL),
                   0);
  redmoon_client_close(client);
  redis_server_stop(server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_pattern_leaves_a_key_without_a_lifetime),
      cmocka_unit_test(a_lifetime_that_is_set_by_a_second_command_is_missed),
      cmocka_unit_test(waiters_that_are_killed_let_the_others_go_on_in_their_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
