/* SPDX-License-Identifier: MIT */
/* fork() with locks: the keeper stays with the parent, and so does what it renews; tokens stay unique. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "patterns/scripts_generated.h"
#include "support/fake_server.h"
#include "support/quiet_fork.h"
#include "support/redis_server.h"

#include <poll.h>
#include <redmoon/redmoon.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define AWAIT(condition)                                                                                         \
  for (int64_t patience_us = rm_clock_now_us() + 30000000; !(condition); poll(NULL, 0, 1))                       \
  assert_true(rm_clock_now_us() < patience_us)

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

static bool readable(int fd, int ms) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms) == 1; }

/* 0 or what was wrong, as an exit status. */
static int in_the_child(redmoon_client *client, redmoon_lock *inherited) {
  redmoon_lock_options options = REDMOON_LOCK_OPTIONS_INIT;
  options.renew = 1;
  options.ttl_ms = 900;
  redmoon_lock *own;
  if (redmoon_lock_acquire(client, "childs", 6, &options, &own, NULL) != 0) return 1;
  int64_t began_us = rm_clock_boot_us();
  while (rm_clock_boot_us() < began_us + 1200000) poll(NULL, 0, 5);
  if (!redmoon_lock_held(own)) return 2; /* nobody renews in the child */
  if (redmoon_lock_release(own, NULL) != 0) return 3;
  redmoon_lock_free(own);
  if (inherited != NULL && redmoon_lock_held(inherited)) return 4; /* the parent's keeper is not here */
  redmoon_lock_free(inherited);
  redmoon_client_close(client);
  return 0;
}

static void child_renews_its_own_and_leaves_its_parents_alone(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  redmoon_lock *lock = renewed(client, "parents", 900);
  redmoon_error err;
  int fd = redmoon_lock_fd(lock, &err);
  assert_true(fd >= 0);
  AWAIT(redmoon_lock_remaining_ms(lock) < 700);
  AWAIT(redmoon_lock_remaining_ms(lock) > 750); /* renewed */
  pid_t pid = quiet_fork();
  if (pid == 0) _exit(in_the_child(client, lock));
  assert_true(pid > 0);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_true(redmoon_lock_held(lock));
  assert_false(readable(fd, 0));
  assert_int_equal(redmoon_lock_release(lock, &err), 0);
  redmoon_lock_free(lock);
  redmoon_client_close(client);
}

/* Grants what it is asked for, and answers no extension. */
static bool handle(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx) {
  (void)ctx;
  if (command->argc > 1 && strcmp(command->argv[1], rm_script_lock_extend.sha1) == 0) {
    fake_stall(peer);
    return false;
  }
  fake_append_text(reply, "*4\r\n:1\r\n:7\r\n:3000\r\n:1\r\n");
  return true;
}

static void serve(fake_peer *peer, void *ctx) { fake_serve(peer, handle, ctx); }

static void fork_amid_a_renewal_does_no_harm(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.script = serve});
  char url[120];
  snprintf(url, sizeof url, "unix://%s", fake_server_path(server));
  redmoon_client *client = open_at(url);
  redmoon_lock *lock = renewed(client, "n", 3000);
  AWAIT(fake_server_count(server, "EVALSHA") >= 2);
  pid_t pid = quiet_fork();
  if (pid == 0) {
    redmoon_lock_free(lock);
    redmoon_client_close(client);
    _exit(0);
  }
  assert_true(pid > 0);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  redmoon_lock_free(lock);
  redmoon_client_close(client);
  fake_server_stop(server);
}

enum { TOKEN_SIZE = 33 };

/* The token of a lock acquired and given back; empty if it could not be had. */
static void draw_token(redmoon_client *client, char token[TOKEN_SIZE]) {
  redmoon_lock *lock = NULL;
  token[0] = '\0';
  if (redmoon_lock_acquire(client, "t", 1, NULL, &lock, NULL) == 0) snprintf(token, TOKEN_SIZE, "%s", redmoon_lock_token(lock));
  if (lock != NULL && redmoon_lock_release(lock, NULL) != 0) token[0] = 0;
  redmoon_lock_free(lock);
}

static void a_child_draws_other_tokens_than_its_parent(void **state) {
  redis_server *server = *state;
  redmoon_client *client = open_at(redis_server_url(server));
  char parents[TOKEN_SIZE], childs[TOKEN_SIZE];
  draw_token(client, parents); /* more random bytes were drawn than it has used */
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = quiet_fork();
  if (pid == 0) {
    draw_token(client, childs);
    _exit(write(ends[1], childs, sizeof childs) == (ssize_t)sizeof childs ? 0 : 1);
  }
  assert_true(pid > 0);
  assert_int_equal(read(ends[0], childs, sizeof childs), sizeof childs);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  draw_token(client, parents);
  assert_int_equal(strlen(parents), sizeof parents - 1);
  assert_int_equal(strlen(childs), sizeof childs - 1);
  assert_string_not_equal(parents, childs);
  close(ends[0]);
  close(ends[1]);
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
      cmocka_unit_test(child_renews_its_own_and_leaves_its_parents_alone),
      cmocka_unit_test(fork_amid_a_renewal_does_no_harm),
      cmocka_unit_test(a_child_draws_other_tokens_than_its_parent),
  };
  return cmocka_run_group_tests_name("lock fork", tests, start, stop);
}
