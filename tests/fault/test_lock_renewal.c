/* SPDX-License-Identifier: MIT */
/* Locks that the keeper renews: held as long as the server agrees, and told lost before the server's lease ends, whatever
 * becomes of the link. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "patterns/scripts_generated.h"
#include "support/ask.h"
#include "support/fake_server.h"
#include "support/redis_server.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A server in miniature: it grants what it is asked for, and keeps the end of one lease. */

typedef enum answer_mode { GRANT, STALL, DROP, OUT_OF_MEMORY, FOREIGN, MISSING } answer_mode;

typedef struct grantor {
  fake_server *server;
  char url[120];
  atomic_int mode;            /* of extensions */
  atomic_int failures;        /* that many extensions fail by DROP first */
  atomic_bool drops_releases;
  const char *stalls;         /* extensions of this key stall; NULL: by mode */
  _Atomic int64_t lease_ends_us; /* boot clock; not before the answer that told it was sent */
  atomic_int extensions, granted;
} grantor;

static const char *arg_at(const fake_command *command, size_t index) {
  return index < command->argc ? command->argv[index] : "";
}

static bool extend(fake_peer *peer, grantor *g, const fake_command *command, fake_bytes *reply) {
  atomic_fetch_add(&g->extensions, 1);
  int mode = atomic_load(&g->mode);
  if (g->stalls != NULL) mode = strcmp(arg_at(command, 3), g->stalls) == 0 ? STALL : GRANT;
  if (atomic_load(&g->failures) > 0) {
    atomic_fetch_sub(&g->failures, 1);
    mode = DROP;
  }
  char text[64];
  int64_t ttl_ms = strtoll(arg_at(command, 5), NULL, 10);
  switch (mode) {
  case STALL:
    fake_stall(peer);
    return false;
  case DROP:
    return false;
  case OUT_OF_MEMORY:
    fake_append_text(reply, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    return true;
  case FOREIGN:
    fake_append_text(reply, "*1\r\n:0\r\n");
    return true;
  case MISSING:
    fake_append_text(reply, "*1\r\n:-1\r\n");
    return true;
  default:
    atomic_store(&g->lease_ends_us, rm_clock_boot_us() + ttl_ms * 1000);
    atomic_fetch_add(&g->granted, 1);
    snprintf(text, sizeof text, "*2\r\n:1\r\n:%lld\r\n", (long long)ttl_ms);
    fake_append_text(reply, text);
    return true;
  }
}

static bool handle(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  grantor *g = ctx;
  const char *sha1 = arg_at(command, 1);
  char text[80];
  if (strcmp(sha1, rm_script_lock_extend.sha1) == 0) return extend(peer, g, command, reply);
  if (strcmp(sha1, rm_script_lock_acquire.sha1) == 0) {
    int64_t ttl_ms = strtoll(arg_at(command, 7), NULL, 10);
    atomic_store(&g->lease_ends_us, rm_clock_boot_us() + ttl_ms * 1000);
    snprintf(text, sizeof text, "*4\r\n:1\r\n:7\r\n:%lld\r\n:1\r\n", (long long)ttl_ms);
    fake_append_text(reply, text);
  } else if (fake_is(command, "WAIT")) {
    return false;
  } else {
    if (atomic_load(&g->drops_releases)) return false;
    fake_append_text(reply, "*1\r\n:1\r\n");
  }
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, handle, ctx); }

static void grantor_start(grantor *g, answer_mode mode) {
  memset(g, 0, sizeof *g);
  atomic_store(&g->mode, (int)mode);
  g->server = fake_server_start(&(fake_options){.script = serve, .ctx = g});
  snprintf(g->url, sizeof g->url, "unix://%s", fake_server_path(g->server));
}

static redmoon_client *open_at(const char *url) {
  redmoon_client *client;
  redmoon_error err;
  if (redmoon_client_open(url, NULL, &client, &err) != 0) fail_msg("%s", err.message);
  return client;
}

static redmoon_lock *renewed(redmoon_client *client, const char *name, int64_t ttl_ms) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = ttl_ms;
  options.renew = 1;
  redmoon_lock *lock = NULL;
  redmoon_error err;
  if (redmoon_lock_acquire(client, name, strlen(name), &options, &lock, &err) != 0) fail_msg("%s", err.message);
  return lock;
}

static int fd_of(redmoon_lock *lock) {
  redmoon_error err;
  int fd = redmoon_lock_fd(lock, &err);
  if (fd < 0) fail_msg("%s", err.message);
  assert_int_equal(redmoon_lock_fd(lock, &err), fd);
  return fd;
}

static bool readable(int fd, int ms) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms) == 1; }

#define AWAIT(condition)                                                                                         \
  for (int64_t patience_us = rm_clock_now_us() + 30000000; !(condition); poll(NULL, 0, 1))                       \
  assert_true(rm_clock_now_us() < patience_us)

static size_t threads_now(void) {
  size_t count = 0;
  DIR *dir = opendir("/proc/self/task");
  assert_non_null(dir);
  for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

/* Loss is told in time. */

/* Looks at the lock until it is lost.  Whenever it was said to be held, the server's lease had not ended. */
static void watch_until_lost(grantor *g, redmoon_lock *lock) {
  int fd = fd_of(lock);
  for (;;) {
    int64_t before_us = rm_clock_boot_us();
    bool told = readable(fd, 0), held = redmoon_lock_held(lock);
    if (told) assert_false(held);
    if (!held) break;
    assert_true(before_us < atomic_load(&g->lease_ends_us));
  }
  assert_true(redmoon_lock_lost(lock));
  assert_int_equal(redmoon_lock_remaining_ms(lock), 0);
  assert_true(readable(fd, 20000));
  assert_true(readable(fd, 0)); /* and stays so */
  redmoon_error err;
  assert_int_equal(redmoon_lock_extend(lock, REDMOON_UNSET, &err), REDMOON_ELOST);
  assert_int_equal(err.outcome, REDMOON_NOT_SENT);
}

static void loss_is_told_before_the_servers_lease_ends(void **state) {
  (void)state;
  static const answer_mode modes[] = {STALL, DROP, OUT_OF_MEMORY, FOREIGN, MISSING};
  for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
    for (int run = 0; run < 3; run++) {
      grantor g;
      grantor_start(&g, modes[i]);
      redmoon_client *client = open_at(g.url);
      redmoon_lock *lock = renewed(client, "n", 400 + 200 * run);
      watch_until_lost(&g, lock);
      assert_true(atomic_load(&g.extensions) >= 1);
      redmoon_lock_free(lock);
      redmoon_client_close(client);
      fake_server_stop(g.server);
    }
  }
}

/* The server's word is heeded at once, not at the end of the lease. */
static void word_of_the_server_ends_it_long_before_its_lease(void **state) {
  (void)state;
  grantor g;
  grantor_start(&g, MISSING);
  redmoon_client *client = open_at(g.url);
  redmoon_lock *lock = renewed(client, "n", 1500);
  int64_t until_us = atomic_load(&g.lease_ends_us);
  assert_true(readable(fd_of(lock), 20000));
  assert_true(rm_clock_boot_us() < until_us);
  assert_true(redmoon_lock_lost(lock));
  redmoon_lock_free(lock);
  redmoon_client_close(client);
  fake_server_stop(g.server);
}

static void link_that_is_cut_between_renewals_is_told(void **state) {
  (void)state;
  for (int run = 0; run < 3; run++) {
    grantor g;
    grantor_start(&g, GRANT);
    redmoon_client *client = open_at(g.url);
    redmoon_lock *lock = renewed(client, "n", 240);
    AWAIT(atomic_load(&g.granted) > run % 3);
    atomic_store(&g.mode, run % 2 == 0 ? STALL : DROP);
    watch_until_lost(&g, lock);
    redmoon_lock_free(lock);
    redmoon_client_close(client);
    fake_server_stop(g.server);
  }
}

static void renewal_that_fails_is_tried_again_within_the_lease(void **state) {
  (void)state;
  grantor g;
  grantor_start(&g, GRANT);
  atomic_store(&g.failures, 3);
  redmoon_client *client = open_at(g.url);
  redmoon_lock *lock = renewed(client, "n", 3000);
  AWAIT(atomic_load(&g.granted) >= 1);
  assert_int_equal(atomic_load(&g.extensions), 4);
  AWAIT(redmoon_lock_remaining_ms(lock) > 2400);
  assert_false(readable(fd_of(lock), 0));
  redmoon_lock_free(lock);
  redmoon_client_close(client);
  fake_server_stop(g.server);
}

static void renewal_without_an_answer_holds_up_no_other(void **state) {
  (void)state;
  grantor g;
  grantor_start(&g, GRANT);
  g.stalls = "redmoon:{mute}:lock";
  redmoon_client *client = open_at(g.url);
  /* The one is waited for longer than the other's lease lasts. */
  redmoon_lock *mute = renewed(client, "mute", 7200), *heard = renewed(client, "heard", 900);
  AWAIT(atomic_load(&g.extensions) > atomic_load(&g.granted));
  int granted = atomic_load(&g.granted);
  AWAIT(atomic_load(&g.granted) >= granted + 4);
  assert_true(redmoon_lock_held(heard));
  redmoon_lock_free(mute);
  redmoon_lock_free(heard);
  redmoon_client_close(client);
  fake_server_stop(g.server);
}

static void extension_answered_after_the_lease_leaves_it_lost(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = 60;
  redmoon_lock *lock;
  redmoon_op *op;
  redmoon_error err;
  assert_int_equal(redmoon_lock_acquire(client, "late", 4, &options, &lock, &err), 0);
  int fd = fd_of(lock);
  assert_int_equal(redmoon_lock_extend_start(lock, 60000, &op, &err), 0);
  while (redmoon_lock_held(lock)) {
  }
  while (!redmoon_op_step(op)) {
  }
  assert_int_equal(redmoon_op_finish(op, &err), REDMOON_ELOST);
  assert_true(redmoon_lock_lost(lock));
  assert_true(readable(fd, 20000));
  redmoon_lock_free(lock);
  redmoon_client_close(client);
}

static void descriptor_follows_extensions_and_is_silent_after_a_release(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = 300;
  redmoon_lock *lock;
  redmoon_error err;
  assert_int_equal(redmoon_lock_acquire(client, "fd", 2, &options, &lock, &err), 0);
  int fd = fd_of(lock);
  assert_int_equal(redmoon_lock_extend(lock, 60000, &err), 0);
  assert_false(readable(fd, 400));
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_false(readable(fd, 0));
  assert_false(redmoon_lock_lost(lock));
  redmoon_lock_free(lock);
  redmoon_client_close(client);
}

/* The link is cut while the replicas are counted. */
static void lock_whose_replicas_cannot_be_counted_is_given_back(void **state) {
  (void)state;
  for (int drops = 0; drops < 2; drops++) {
    grantor g;
    grantor_start(&g, GRANT);
    atomic_store(&g.drops_releases, drops == 1);
    redmoon_client *client = open_at(g.url);
    redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
    options.min_replicas = 2;
    redmoon_lock *lock = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_lock_acquire(client, "n", 1, &options, &lock, &err), REDMOON_EUNAVAILABLE);
    assert_null(lock);
    assert_non_null(strstr(err.message, "whether it has reached replicas is not known, and min_replicas is 2"));
    assert_int_equal(strstr(err.message, "it could not be given back and runs out") != NULL, drops);
    assert_int_equal(err.outcome, drops == 1 ? REDMOON_UNKNOWN : REDMOON_ANSWERED);
    assert_int_equal(fake_server_count(g.server, "WAIT"), 1); /* another connection's answer would tell nothing */
    const fake_command *last = fake_server_command(g.server, fake_server_commands(g.server) - 1);
    assert_string_equal(arg_at(last, 1), rm_script_lock_release.sha1);
    redmoon_client_close(client);
    fake_server_stop(g.server);
  }
}

/* With a real server. */

static int64_t counted(redmoon_client *client, const char *result) {
  char *text, label[64];
  size_t len;
  redmoon_error err;
  assert_int_equal(redmoon_client_metrics(client, &text, &len, &err), 0);
  snprintf(label, sizeof label, "redmoon_lock_total{result=\"%s\"} ", result);
  const char *at = strstr(text, label);
  int64_t value = at == NULL ? 0 : strtoll(at + strlen(label), NULL, 10);
  redmoon_free(text);
  return value;
}

static void renewed_locks_outlive_their_lease_many_at_once(void **state) {
  enum { LOCKS = 40 };
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock *locks[LOCKS];
  redmoon_error err;
  int64_t began_us = rm_clock_boot_us();
  for (int i = 0; i < LOCKS; i++) {
    char name[32];
    snprintf(name, sizeof name, "many-%d", i);
    locks[i] = renewed(client, name, 1500);
  }
  AWAIT(rm_clock_boot_us() > began_us + 2500000 && counted(client, "extended") >= 3 * LOCKS);
  for (int i = 0; i < LOCKS; i++) {
    assert_true(redmoon_lock_held(locks[i]));
    assert_int_equal(redmoon_lock_release(locks[i], &err), 0);
    redmoon_lock_free(locks[i]);
  }
  assert_int_equal(counted(client, "lost"), 0);
  redmoon_client_close(client);
}

static void longest_hold_ends_a_renewed_lock(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = 300;
  options.max_hold_ms = 700;
  options.renew = 1;
  redmoon_lock *lock;
  redmoon_error err;
  int64_t before_us = rm_clock_boot_us();
  assert_int_equal(redmoon_lock_acquire(client, "long", 4, &options, &lock, &err), 0);
  int64_t after_us = rm_clock_boot_us();
  for (;;) {
    int64_t look_us = rm_clock_boot_us();
    if (!redmoon_lock_held(lock)) break;
    assert_true(look_us < after_us + 700000);
  }
  assert_true(rm_clock_boot_us() > before_us + 300000);
  assert_true(redmoon_lock_lost(lock));
  AWAIT(ask_integer(client, "EXISTS", "redmoon:{long}:lock", NULL) == 0);
  redmoon_lock_free(lock);
  redmoon_client_close(client);
}

static void keeper_is_there_only_when_it_is_needed(void **state) {
  redis_server *server = *state;
  size_t before = threads_now();
  redmoon_options no_upkeep = REDMOON_OPTIONS_INIT;
  no_upkeep.max_idle_time_ms = no_upkeep.max_lifetime_ms = 0;
  redmoon_client *client;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  redmoon_lock *plain, *none = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_client_open(redis_server_url(server), &no_upkeep, &client, &err), 0);
  assert_int_equal(redmoon_lock_acquire(client, "plain", 5, &options, &plain, &err), 0);
  options.renew = 1;
  assert_int_equal(redmoon_lock_acquire(client, "plain", 5, &options, &none, &err), REDMOON_ELOCKED);
  assert_int_equal(threads_now(), before);
  redmoon_lock *lock = renewed(client, "kept", 10000);
  assert_int_equal(threads_now(), before + 1);
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  assert_int_equal(redmoon_lock_release(plain, &err), 0);
  redmoon_lock_free(lock);
  redmoon_lock_free(plain);
  redmoon_client_close(client);
  assert_int_equal(threads_now(), before);
}

/* Ends. */

static void lock_is_freed_while_its_renewal_is_under_way(void **state) {
  (void)state;
  grantor g;
  grantor_start(&g, STALL);
  for (int way = 0; way < 4; way++) {
    redmoon_client *client = open_at(g.url);
    redmoon_lock *lock = renewed(client, "n", 600);
    int seen = atomic_load(&g.extensions);
    AWAIT(atomic_load(&g.extensions) > seen);
    if (way == 1) redmoon_client_shutdown(client);
    if (way == 2) redmoon_client_close(client); /* the lock has a reference of its own */
    if (way == 3) {
      redmoon_error err;
      assert_int_equal(redmoon_lock_release(lock, &err), 0);
    }
    redmoon_lock_free(lock);
    if (way != 2) redmoon_client_close(client);
  }
  fake_server_stop(g.server);
}

static void shutdown_leaves_a_renewed_lock_to_its_end(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock *lock = renewed(client, "down", 400);
  int fd = fd_of(lock);
  redmoon_client_shutdown(client);
  assert_true(readable(fd, 20000)); /* without a thread */
  assert_true(redmoon_lock_lost(lock));
  redmoon_lock_free(lock);
  redmoon_client_close(client);
}

/* Owner and keeper at once; the workers record, the main thread asserts. */
enum { WORKERS = 4, TURNS = 60 };
typedef struct worker {
  pthread_t thread;
  redmoon_client *client;
  int number, failures, turns;
} worker;

static void *use_locks(void *ctx) {
  worker *w = ctx;
  redmoon_error err;
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.ttl_ms = 30; /* so that the keeper comes often; it may well be lost on a slow machine */
  options.renew = 1;
  options.wait_ms = 60000;
  char name[32];
  int len = snprintf(name, sizeof name, "worker-%d", w->number / 2);
  for (; w->turns < TURNS && w->failures == 0; w->turns++) {
    redmoon_lock *lock;
    int rc = redmoon_lock_acquire(w->client, name, (size_t)len, &options, &lock, &err);
    if (rc == REDMOON_ELOST) continue;
    if (rc < 0) {
      w->failures++;
      break;
    }
    int fd = w->turns % 2 == 0 ? redmoon_lock_fd(lock, &err) : -1;
    int64_t began_us = rm_clock_boot_us();
    while (redmoon_lock_held(lock) && rm_clock_boot_us() < began_us + 25000) {
      if (redmoon_lock_remaining_ms(lock) < 0) w->failures++;
      rc = redmoon_lock_extend(lock, 30, &err);
      if (rc < 0 && rc != REDMOON_ELOST) w->failures++;
      if (fd >= 0 && readable(fd, 1) && redmoon_lock_held(lock)) w->failures++;
    }
    rc = redmoon_lock_release(lock, &err);
    if (rc < 0 && rc != REDMOON_ELOST) w->failures++;
    redmoon_lock_free(lock);
  }
  return NULL;
}

static void owners_and_the_keeper_share_locks(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].client = client;
    workers[i].number = i;
    assert_int_equal(pthread_create(&workers[i].thread, NULL, use_locks, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < WORKERS; i++) {
    assert_int_equal(workers[i].failures, 0);
    assert_int_equal(workers[i].turns, TURNS);
  }
  redmoon_client_close(client);
}

static int start(void **state) {
  *state = redis_server_start(NULL);
  return 0;
}

static int stop(void **state) {
  redis_server_stop(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loss_is_told_before_the_servers_lease_ends),
      cmocka_unit_test(word_of_the_server_ends_it_long_before_its_lease),
      cmocka_unit_test(link_that_is_cut_between_renewals_is_told),
      cmocka_unit_test(renewal_that_fails_is_tried_again_within_the_lease),
      cmocka_unit_test(renewal_without_an_answer_holds_up_no_other),
      cmocka_unit_test(extension_answered_after_the_lease_leaves_it_lost),
      cmocka_unit_test(descriptor_follows_extensions_and_is_silent_after_a_release),
      cmocka_unit_test(lock_whose_replicas_cannot_be_counted_is_given_back),
      cmocka_unit_test(renewed_locks_outlive_their_lease_many_at_once),
      cmocka_unit_test(longest_hold_ends_a_renewed_lock),
      cmocka_unit_test(keeper_is_there_only_when_it_is_needed),
      cmocka_unit_test(lock_is_freed_while_its_renewal_is_under_way),
      cmocka_unit_test(shutdown_leaves_a_renewed_lock_to_its_end),
      cmocka_unit_test(owners_and_the_keeper_share_locks),
  };
  return cmocka_run_group_tests_name("lock renewal", tests, start, stop);
}
