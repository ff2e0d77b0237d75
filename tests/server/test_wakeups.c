/* SPDX-License-Identifier: MIT */
/* Whoever waits is woken by whoever gives back.  How often waiters ask all the same is set to practically never, so that a
 * wake-up that is lost is a test that hangs.  The rule itself is explored in tests/scripts/waits_spec.lua. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "engine/core.h"
#include "engine/op.h"
#include "support/ask.h"
#include "support/embedded_fixture.h"
#include "support/quiet_fork.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONG_MS = 600000, A_DAY_MS = 86400000, CLIENTS = 2, OF_EACH = 3, WAITERS = CLIENTS * OF_EACH };
#define NEVER_US (INT64_C(86400000) * 1000)

typedef struct house {
  fixture *f;
  redmoon_client *clients[CLIENTS]; /* of those who wait */
} house;

static redmoon_client *new_client(const fixture *f) {
  redmoon_client *client = NULL;
  redmoon_error err;
  if (redmoon_client_open(redmoon_embedded_url(f->server), NULL, &client, &err) != 0) fail_msg("%s", err.message);
  client->core->wakeups.poll_us = NEVER_US;
  return client;
}

static house open_house(void **state) {
  house h = {.f = *state};
  for (int i = 0; i < CLIENTS; i++) h.clients[i] = new_client(h.f);
  return h;
}

static void close_house(house *h) {
  for (int i = 0; i < CLIENTS; i++) redmoon_client_close(h->clients[i]);
}

static void a_moment(void) { nanosleep(&(struct timespec){0, 2000000}, NULL); }

/* Until so many sleep and count on being woken. */
static void await_resting(house *h, size_t count) {
  for (;;) {
    size_t resting = 0;
    for (int i = 0; i < CLIENTS; i++) resting += rm_wakeups_resting(h->clients[i]->core);
    if (resting == count) return;
    a_moment();
  }
}

/* What is waited for, by whatever means. */
typedef struct thing {
  void *(*take)(redmoon_client *client, void *how); /* waits; aborts when it is not given */
  void (*give)(void *held);
  void *how;
} thing;

typedef struct waiter {
  pthread_t thread;
  redmoon_client *client;
  const thing *of;
  atomic_int *inside, *most; /* at one time */
  atomic_int *hold;          /* 0: it is given back at once; 1: when this is 0 again */
} waiter;

static void *wait_for_it(void *arg) {
  waiter *self = arg;
  void *held = self->of->take(self->client, self->of->how);
  int inside = atomic_fetch_add(self->inside, 1) + 1, most = atomic_load(self->most);
  while (inside > most && !atomic_compare_exchange_weak(self->most, &most, inside)) {
  }
  while (self->hold != NULL && atomic_load(self->hold) != 0) a_moment();
  atomic_fetch_sub(self->inside, 1);
  self->of->give(held);
  return NULL;
}

static void start_waiters(house *h, waiter *all, int count, const thing *of, atomic_int *inside, atomic_int *most,
                          atomic_int *hold) {
  for (int i = 0; i < count; i++) {
    all[i] = (waiter){0, h->clients[i % CLIENTS], of, inside, most, hold};
    assert_int_equal(pthread_create(&all[i].thread, NULL, wait_for_it, &all[i]), 0);
  }
}

static void join(waiter *all, int count) {
  for (int i = 0; i < count; i++) pthread_join(all[i].thread, NULL);
}

static void stop_program(const char *why) {
  fprintf(stderr, "%s\n", why); /* on a thread that may not assert */
  abort();
}

/* Locks. */

static redmoon_lock *lock_of(redmoon_client *client, int64_t wait_ms, bool fair) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = LONG_MS;
  options.wait_ms = wait_ms;
  options.fair = fair;
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, "n", 1, &options, &lock, &err) != 0) stop_program(err.message);
  return lock;
}

static void *take_lock(redmoon_client *client, void *how) { return lock_of(client, A_DAY_MS, how != NULL); }
static void give_lock(void *held) {
  redmoon_error err;
  if (redmoon_lock_release(held, &err) != 0) stop_program(err.message);
  redmoon_lock_free(held);
}
static const thing plain = {take_lock, give_lock, NULL}, fair = {take_lock, give_lock, (void *)(uintptr_t)&plain};

static void lock_goes_round(void **state, const thing *of) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, WAITERS, of, &inside, &most, NULL);
  await_resting(&h, WAITERS);
  assert_int_equal(ask_integer(h.f->client, "HEXISTS", "redmoon:{n}:lock", "waits", NULL), 1);
  give_lock(first);
  join(all, WAITERS);
  assert_int_equal(atomic_load(&most), 1);
  close_house(&h);
}

static void release_of_a_lock_wakes_one_after_the_other(void **state) { lock_goes_round(state, &plain); }
static void release_of_a_lock_wakes_whose_turn_it_is(void **state) { lock_goes_round(state, &fair); }

/* Not one of those who wait in turn is overtaken, though all are asleep. */
static void those_who_wait_in_turn_are_woken_in_turn(void **state) {
  house h = open_house(state);
  waiter all[2];
  atomic_int inside = 0, most = 0, hold = 1;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, 1, &fair, &inside, &most, &hold);
  await_resting(&h, 1);
  all[1] = (waiter){0, h.clients[1], &fair, &inside, &most, NULL};
  assert_int_equal(pthread_create(&all[1].thread, NULL, wait_for_it, &all[1]), 0);
  await_resting(&h, 2);
  give_lock(first);
  while (atomic_load(&inside) == 0) a_moment();
  assert_int_equal(rm_wakeups_resting(h.clients[1]->core), 1); /* the second one sleeps on */
  atomic_store(&hold, 0);
  join(all, 2);
  close_house(&h);
}

static void waiters_both_plain_and_in_turn_get_it(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, 2, &fair, &inside, &most, NULL);
  await_resting(&h, 2);
  start_waiters(&h, all + 2, 2, &plain, &inside, &most, NULL);
  await_resting(&h, 4);
  give_lock(first);
  join(all, 4);
  assert_int_equal(atomic_load(&most), 1);
  close_house(&h);
}

/* The link of the wake-ups is lost while all sleep, and the lock is given back before it is there again, or after. */
static void waiters_survive_the_loss_of_their_link(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  for (int round = 0; round < 10; round++) {
    redmoon_lock *first = lock_of(h.f->client, 0, false);
    start_waiters(&h, all, WAITERS, &plain, &inside, &most, NULL);
    await_resting(&h, WAITERS);
    assert_int_equal(ask_integer(h.f->client, "CLIENT", "KILL", "TYPE", "pubsub", NULL), CLIENTS);
    if (round % 2 == 0) await_resting(&h, WAITERS);
    give_lock(first);
    join(all, WAITERS);
  }
  close_house(&h);
}

/* A waiter that is woken and gives up hands it on. */
static void wake_up_of_one_that_gives_up_is_the_next_ones(void **state) {
  house h = open_house(state);
  redmoon_client *client = h.clients[0];
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = LONG_MS;
  options.wait_ms = A_DAY_MS;
  redmoon_lock *first = lock_of(h.f->client, 0, false), *none = NULL;
  redmoon_op *op = NULL;
  assert_int_equal(redmoon_lock_acquire_start(client, "n", 1, &options, &none, &op, NULL), 0);
  while (rm_wakeups_resting(client->core) == 0) {
    redmoon_op_step(op);
    a_moment();
  }
  waiter second;
  atomic_int inside = 0, most = 0;
  start_waiters(&h, &second, 1, &plain, &inside, &most, NULL);
  await_resting(&h, 2);
  give_lock(first);
  redmoon_wants wants;
  redmoon_op_wants(op, &wants);
  assert_int_equal(wants.events, REDMOON_WANT_READ);
  while (rm_wakeups_resting(client->core) == 2) a_moment(); /* the first is woken, and nobody steps it */
  redmoon_op_cancel(op);
  join(&second, 1);
  close_house(&h);
}

#ifndef __SANITIZE_THREAD__ /* under which a forked child may have no threads */

/* In a child, with a client of its parent's that has waiters there. */
static int wait_in_child(house *h) {
  alarm(60);
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = LONG_MS;
  redmoon_lock *first = NULL, *second = NULL;
  redmoon_op *op = NULL;
  if (redmoon_lock_acquire(h->clients[1], "m", 1, &options, &first, NULL) != 0) return 1;
  options.wait_ms = A_DAY_MS;
  if (redmoon_lock_acquire_start(h->clients[0], "m", 1, &options, &second, &op, NULL) != 0) return 2;
  while (rm_wakeups_resting(h->clients[0]->core) == 0) {
    if (redmoon_op_step(op)) return 3;
    a_moment();
  }
  if (redmoon_lock_release(first, NULL) != 0) return 4;
  return rm_run(0, &op, NULL) == 0 && redmoon_lock_held(second) ? 0 : 5;
}

static void child_that_is_forked_while_others_wait_is_woken_itself(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, WAITERS, &plain, &inside, &most, NULL);
  await_resting(&h, WAITERS);
  pid_t child = quiet_fork();
  if (child == 0) _exit(wait_in_child(&h));
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  give_lock(first); /* the link of those who wait here is whole */
  join(all, WAITERS);
  close_house(&h);
}

#endif

static void who_waits_no_longer_than_a_moment_leaves_no_mark_and_no_connection(void **state) {
  house h = open_house(state);
  redmoon_lock *first = lock_of(h.f->client, 0, false), *none = NULL;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  assert_int_equal(redmoon_lock_acquire(h.clients[0], "n", 1, &options, &none, NULL), REDMOON_ELOCKED);
  assert_int_equal(ask_integer(h.f->client, "HEXISTS", "redmoon:{n}:lock", "waits", NULL), 0);
  redmoon_stats stats;
  redmoon_client_stats(h.clients[0], &stats);
  assert_int_equal(stats.subscriptions, 0);
  give_lock(first);
  close_house(&h);
}

/* Counts connections of one kind. */
static int64_t subscribers(const fixture *f) {
  char text[8192];
  (void)ask_text(f->client, text, sizeof text, "CLIENT", "LIST", "TYPE", "pubsub", NULL);
  int64_t count = 0;
  for (const char *at = strstr(text, "id="); at != NULL; at = strstr(at + 1, "\nid=")) count++;
  return count;
}

static void connection_goes_when_nobody_waits_any_more(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, WAITERS, &plain, &inside, &most, NULL);
  await_resting(&h, WAITERS);
  while (subscribers(h.f) != CLIENTS) a_moment(); /* one for each, however many wait; those of the test before are gone */
  redmoon_stats stats;
  redmoon_client_stats(h.clients[0], &stats);
  assert_int_equal(stats.subscriptions, 0); /* they are not the application's */
  give_lock(first);
  join(all, WAITERS);
  while (subscribers(h.f) > 0) a_moment();
  close_house(&h);
}

/* Who may not subscribe asks, as ever; who may not publish releases, as ever. */
static void without_the_right_to_it_waiters_ask(void **state) {
  house h = open_house(state);
  redmoon_reply_free(ask(h.f->client, "ACL", "SETUSER", "default", "resetchannels", NULL));
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  redmoon_lock *first = lock_of(h.f->client, 0, false);
  start_waiters(&h, all, WAITERS, &plain, &inside, &most, NULL);
  while (ask_integer(h.f->client, "HEXISTS", "redmoon:{n}:lock", "waits", NULL) == 0) a_moment();
  give_lock(first);
  join(all, WAITERS);
  redmoon_reply_free(ask(h.f->client, "ACL", "SETUSER", "default", "allchannels", NULL));
  close_house(&h);
}

/* Semaphores. */

typedef struct permits_wanted {
  int64_t permits, count;
} permits_wanted;

static void *take_permits(redmoon_client *client, void *how) {
  const permits_wanted *wanted = how;
  redmoon_semaphore_options options = REDMOON_SEMAPHORE_OPTIONS_INIT;
  options.permits = wanted->permits;
  options.ttl_ms = LONG_MS;
  options.wait_ms = A_DAY_MS;
  redmoon_semaphore_request request = REDMOON_SEMAPHORE_REQUEST_INIT;
  request.count = wanted->count;
  redmoon_semaphore *semaphore = NULL;
  redmoon_permit *permit = NULL;
  redmoon_error err;
  if (redmoon_semaphore_new(client, "n", 1, &options, &semaphore, &err) != 0 ||
      redmoon_semaphore_acquire(semaphore, &request, &permit, &err) != 0)
    stop_program(err.message);
  redmoon_semaphore_free(semaphore);
  return permit;
}

static void give_permit(void *held) {
  redmoon_error err;
  if (redmoon_permit_release(held, &err) != 0) stop_program(err.message);
  redmoon_permit_free(held);
}

static void as_many_are_woken_as_there_are_permits(void **state) {
  house h = open_house(state);
  permits_wanted all_of_them = {3, 3}, one_of_them = {3, 1};
  const thing of = {take_permits, give_permit, &one_of_them};
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0, hold = 1;
  void *first = take_permits(h.f->client, &all_of_them);
  start_waiters(&h, all, WAITERS, &of, &inside, &most, &hold);
  await_resting(&h, WAITERS);
  give_permit(first); /* one release; three go in, and the others sleep on */
  while (atomic_load(&inside) < 3) a_moment();
  await_resting(&h, WAITERS - 3);
  atomic_store(&hold, 0);
  join(all, WAITERS);
  assert_true(atomic_load(&most) == 3);
  close_house(&h);
}

/* One who wants more than is free does not keep the others asleep. */
static void who_wants_few_is_woken_behind_one_who_wants_many(void **state) {
  house h = open_house(state);
  permits_wanted one = {4, 1}, two = {4, 2}, four = {4, 4};
  const thing many = {take_permits, give_permit, &four}, few = {take_permits, give_permit, &one};
  waiter all[2];
  atomic_int inside = 0, most = 0, hold = 1;
  void *held[2] = {take_permits(h.f->client, &two), take_permits(h.f->client, &two)};
  all[0] = (waiter){0, h.clients[0], &many, &inside, &most, NULL};
  assert_int_equal(pthread_create(&all[0].thread, NULL, wait_for_it, &all[0]), 0);
  await_resting(&h, 1);
  all[1] = (waiter){0, h.clients[0], &few, &inside, &most, &hold};
  assert_int_equal(pthread_create(&all[1].thread, NULL, wait_for_it, &all[1]), 0);
  await_resting(&h, 2);
  give_permit(held[0]);
  while (atomic_load(&inside) == 0) a_moment();
  atomic_store(&hold, 0);
  pthread_join(all[1].thread, NULL);
  give_permit(held[1]);
  pthread_join(all[0].thread, NULL);
  close_house(&h);
}

/* Read-write locks. */

typedef struct rw_held {
  redmoon_rwlock *rwlock;
  redmoon_permit *permit;
} rw_held;

static void *take_rw(redmoon_client *client, void *how) {
  redmoon_rwlock_options options = REDMOON_RWLOCK_OPTIONS_INIT;
  options.ttl_ms = LONG_MS;
  options.wait_ms = A_DAY_MS;
  rw_held *held = rm_calloc(1, sizeof *held);
  redmoon_error err;
  int rc = redmoon_rwlock_new(client, "n", 1, &options, &held->rwlock, &err);
  if (rc == 0) rc = how != NULL ? redmoon_rwlock_write(held->rwlock, &held->permit, &err)
                                : redmoon_rwlock_read(held->rwlock, &held->permit, &err);
  if (rc != 0) stop_program(err.message);
  return held;
}

static void give_rw(void *ptr) {
  rw_held *held = ptr;
  redmoon_error err;
  if (redmoon_permit_release(held->permit, &err) != 0) stop_program(err.message);
  redmoon_permit_free(held->permit);
  redmoon_rwlock_free(held->rwlock);
  rm_free(held);
}
static const thing reading = {take_rw, give_rw, NULL}, writing = {take_rw, give_rw, (void *)(uintptr_t)&plain};

static void writer_that_leaves_wakes_all_readers(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0, hold = 1;
  void *writer = take_rw(h.f->client, &h);
  start_waiters(&h, all, WAITERS, &reading, &inside, &most, &hold);
  await_resting(&h, WAITERS);
  give_rw(writer);
  while (atomic_load(&inside) < WAITERS) a_moment();
  atomic_store(&hold, 0);
  join(all, WAITERS);
  close_house(&h);
}

static void last_reader_that_leaves_wakes_a_writer(void **state) {
  house h = open_house(state);
  waiter all[WAITERS];
  atomic_int inside = 0, most = 0;
  void *readers[2] = {take_rw(h.f->client, NULL), take_rw(h.f->client, NULL)};
  start_waiters(&h, all, WAITERS, &writing, &inside, &most, NULL);
  await_resting(&h, WAITERS);
  give_rw(readers[0]);
  assert_int_equal(ask_integer(h.f->client, "EXISTS", "redmoon:{n}:rwlock.waits", NULL), 1); /* nobody was told */
  give_rw(readers[1]);
  join(all, WAITERS);
  assert_int_equal(atomic_load(&most), 1);
  close_house(&h);
}

/* The cache: another process loads. */

static redmoon_cache *cache_of(redmoon_client *client) {
  redmoon_cache_options options = REDMOON_CACHE_OPTIONS_INIT;
  options.name = "c";
  options.ttl_ms = LONG_MS;
  options.lease_ms = LONG_MS;
  redmoon_client *patient = NULL;
  redmoon_call_options call = REDMOON_CALL_OPTIONS_INIT;
  call.timeout_ms = LONG_MS;
  redmoon_error err;
  redmoon_cache *cache = NULL;
  if (redmoon_client_with(client, &call, &patient, &err) != 0 || redmoon_cache_new(patient, &options, &cache, &err) != 0)
    stop_program(err.message);
  redmoon_client_close(patient);
  return cache;
}

typedef struct loader {
  atomic_int loads, begun, may_end; /* may_end: how many */
} loader;

static int load(void *ctx, const redmoon_bytes *keys, size_t count, redmoon_cache_loaded *out) {
  loader *self = ctx;
  (void)keys;
  if (count != 1) stop_program("more than one key was to be loaded");
  int mine = atomic_fetch_add(&self->loads, 1);
  atomic_fetch_add(&self->begun, 1);
  while (atomic_load(&self->may_end) <= mine) a_moment();
  out[0].found = REDMOON_CACHE_VALUE;
  out[0].value = "loaded";
  out[0].len = 6;
  return 0;
}

static void *get_it(redmoon_client *client, void *how) {
  redmoon_cache *cache = cache_of(client);
  const redmoon_cache_key key = {"k", 1, NULL, 0};
  redmoon_cache_result *result = rm_calloc(1, sizeof *result);
  redmoon_error err;
  if (redmoon_cache_get(cache, &key, load, how, result, &err) != 0) stop_program(err.message);
  redmoon_cache_free(cache);
  return result;
}

static void look_at_it(void *held) {
  redmoon_cache_result *result = held;
  if (!result->found || result->len != 6 || memcmp(result->value, "loaded", 6) != 0) stop_program("not what was loaded");
  redmoon_cache_result_fini(result);
  rm_free(result);
}

/* The client of the fixture loads; the two others wait for it, one operation of each for all of its own. */
static void begin_loads(house *h, loader *of, thing *getting, waiter *first, waiter *all, atomic_int *counts) {
  *getting = (thing){get_it, look_at_it, of};
  *first = (waiter){0, h->f->client, getting, &counts[0], &counts[1], NULL};
  assert_int_equal(pthread_create(&first->thread, NULL, wait_for_it, first), 0);
  while (atomic_load(&of->begun) == 0) a_moment();
  start_waiters(h, all, WAITERS, getting, &counts[0], &counts[1], NULL);
  await_resting(h, CLIENTS);
}

static void value_that_is_stored_wakes_those_who_wait_for_it(void **state) {
  house h = open_house(state);
  loader of = {0};
  thing getting;
  waiter first, all[WAITERS];
  atomic_int counts[2] = {0};
  begin_loads(&h, &of, &getting, &first, all, counts);
  atomic_store(&of.may_end, 1);
  join(&first, 1);
  join(all, WAITERS);
  assert_int_equal(atomic_load(&of.loads), 1);
  close_house(&h);
}

/* Set by hand, or deleted: the others do not wait for the load that is void now. */
static void what_voids_a_load_wakes_those_who_wait_for_it(void **state) {
  for (int deletes = 0; deletes < 2; deletes++) {
    house h = open_house(state);
    loader of = {0};
    thing getting;
    waiter first, all[WAITERS];
    atomic_int counts[2] = {0};
    begin_loads(&h, &of, &getting, &first, all, counts);
    redmoon_cache *cache = cache_of(h.f->client);
    if (deletes) assert_int_equal(redmoon_cache_delete(cache, "k", 1, NULL), 0);
    else assert_int_equal(redmoon_cache_set(cache, "k", 1, "loaded", 6, REDMOON_UNSET, NULL), 0);
    if (deletes) {
      while (atomic_load(&of.begun) < 2) a_moment(); /* one of the others loads, while the first one still does */
      atomic_store(&of.may_end, 2);
    }
    join(all, WAITERS);
    atomic_store(&of.may_end, 2);
    join(&first, 1);
    assert_int_equal(atomic_load(&of.loads), deletes ? 2 : 1);
    redmoon_cache_free(cache);
    close_house(&h);
    assert_int_equal(embedded_fixture_empty(state), 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(release_of_a_lock_wakes_one_after_the_other, embedded_fixture_empty),
      cmocka_unit_test_setup(release_of_a_lock_wakes_whose_turn_it_is, embedded_fixture_empty),
      cmocka_unit_test_setup(those_who_wait_in_turn_are_woken_in_turn, embedded_fixture_empty),
      cmocka_unit_test_setup(waiters_both_plain_and_in_turn_get_it, embedded_fixture_empty),
      cmocka_unit_test_setup(waiters_survive_the_loss_of_their_link, embedded_fixture_empty),
      cmocka_unit_test_setup(wake_up_of_one_that_gives_up_is_the_next_ones, embedded_fixture_empty),
#ifndef __SANITIZE_THREAD__
      cmocka_unit_test_setup(child_that_is_forked_while_others_wait_is_woken_itself, embedded_fixture_empty),
#endif
      cmocka_unit_test_setup(who_waits_no_longer_than_a_moment_leaves_no_mark_and_no_connection, embedded_fixture_empty),
      cmocka_unit_test_setup(connection_goes_when_nobody_waits_any_more, embedded_fixture_empty),
      cmocka_unit_test_setup(without_the_right_to_it_waiters_ask, embedded_fixture_empty),
      cmocka_unit_test_setup(as_many_are_woken_as_there_are_permits, embedded_fixture_empty),
      cmocka_unit_test_setup(who_wants_few_is_woken_behind_one_who_wants_many, embedded_fixture_empty),
      cmocka_unit_test_setup(writer_that_leaves_wakes_all_readers, embedded_fixture_empty),
      cmocka_unit_test_setup(last_reader_that_leaves_wakes_a_writer, embedded_fixture_empty),
      cmocka_unit_test_setup(value_that_is_stored_wakes_those_who_wait_for_it, embedded_fixture_empty),
      cmocka_unit_test_setup(what_voids_a_load_wakes_those_who_wait_for_it, embedded_fixture_empty),
  };
  return cmocka_run_group_tests_name("wake-ups", tests, embedded_fixture_start, embedded_fixture_stop);
}
