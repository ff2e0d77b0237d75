/* SPDX-License-Identifier: MIT */
/* Purge, shutdown and fork. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "pool/pool_internal.h"
#include "unit/pool_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void a_purge_closes_the_idle_and_drops_the_lent_when_they_come_back(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0}, dialling = {0}, w = {0};
  open_sized(&f, 3);
  borrow_new(&f, &a, 0);
  borrow_new(&f, &b, 0);
  rm_pool_release(&b, 0);
  assert_int_equal(acquire(&f, &b, 0), RM_POOL_CONN);
  rm_pool_release(&b, 0);
  assert_int_equal(acquire(&f, &b, 0), RM_POOL_CONN);
  assert_int_equal(acquire(&f, &dialling, 0), RM_POOL_DIAL);
  rm_pool_release(&b, 0);
  rm_pool_purge(f.pool, RM_CLOSE_FAILOVER, 1);
  assert_int_equal(stats_of(&f).closed_failover, 1);
  assert_int_equal(stats_of(&f).total, 2);
  rm_pool_release(&a, 2);
  assert_int_equal(stats_of(&f).closed_failover, 2);
  dial(&dialling, 3); /* it may have reached the old primary */
  rm_pool_release(&dialling, 4);
  assert_int_equal(stats_of(&f).closed_failover, 3);
  borrow_new(&f, &w, 5);
  rm_pool_release(&w, 6);
  assert_int_equal(stats_of(&f).idle, 1);
  close_pool(&f);
}

static void a_purge_between_grant_and_fetch_counts_too(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, w = {0};
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  rm_pool_release(&a, 1);
  rm_pool_purge(f.pool, RM_CLOSE_FAILOVER, 2);
  assert_int_equal(rm_pool_poll(&w, 3, NULL), RM_POOL_CONN);
  rm_pool_release(&w, 4);
  assert_int_equal(stats_of(&f).closed_failover, 1);
  close_pool(&f);
  rm_lease_fini(&w);
}

static void shutdown_wakes_waiters_closes_the_idle_and_ends_the_sockets_lent_out(void **state) {
  (void)state;
  fixture f;
  rm_lease idle = {0}, lent = {0}, dialling = {0}, w = {0}, granted = {0}, late = {0};
  redmoon_error err;
  int pair[2];
  char byte;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  open_sized(&f, 4);
  assert_int_equal(acquire(&f, &lent, 0), RM_POOL_DIAL);
  assert_int_equal(rm_pool_dialed(&lent, fixture_conn(pair[0]), 0, NULL), 0);
  borrow_new(&f, &idle, 0);
  assert_int_equal(acquire(&f, &dialling, 0), RM_POOL_DIAL);
  borrow_new(&f, &late, 0);
  assert_int_equal(acquire(&f, &granted, 0), RM_POOL_WAIT);
  rm_pool_release(&late, 0);
  assert_int_equal(acquire(&f, &w, 0), RM_POOL_WAIT);
  rm_pool_shutdown(f.pool, 1);
  assert_true(is_readable(&w));
  assert_int_equal(rm_pool_poll(&w, 1, &err), REDMOON_ECLOSED);
  assert_non_null(strstr(err.message, "closed"));
  assert_int_equal(rm_pool_poll(&granted, 1, &err), REDMOON_ECLOSED);
  assert_int_equal(recv(pair[0], &byte, 1, 0), 0); /* whoever blocks on it wakes */
  assert_int_equal(rm_pool_acquire(f.pool, &late, 0, 1, &err), REDMOON_ECLOSED);
  assert_int_equal(rm_pool_dialed(&dialling, fixture_conn(-1), 1, &err), REDMOON_ECLOSED);
  assert_null(dialling.pool);
  rm_pool_release(&idle, 1);
  rm_pool_release(&lent, 1);
  assert_int_equal(stats_of(&f).total, 0);
  assert_int_equal(f.closed[RM_CLOSE_SHUTDOWN], 4);
  close(pair[1]);
  close_pool(&f);
  rm_lease_fini(&w);
  rm_lease_fini(&granted);
}

/* Plays the child of a fork; returns 0 or the line that was wrong. */
#define CHECK(x)                                                                                                   \
  if (!(x)) return __LINE__

typedef struct forked {
  fixture f;
  rm_lease held, granted;
  int idle[2], lent[2], given[2]; /* socket pairs: [0] is the pool's */
} forked;

static bool is_dead(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 && send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 &&
         errno == EPIPE && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static int child_sees_an_empty_pool_and_dead_sockets(forked *t) {
  rm_pool_forked(t->f.pool);
  redmoon_stats stats = stats_of(&t->f);
  CHECK(stats.total == 0 && stats.waiting == 0 && stats.misses == 0);
  CHECK(is_dead(t->idle[0]) && is_dead(t->lent[0]) && is_dead(t->given[0]));
  CHECK(t->f.closed[RM_CLOSE_SHUTDOWN] == 0);
  return 0;
}

static int child_is_refused_with_what_it_inherited(forked *t) {
  redmoon_error err;
  int dials;
  CHECK(rm_pool_poll(&t->granted, 9, &err) == REDMOON_ECLOSED && strstr(err.message, "fork") != NULL);
  CHECK(t->f.closed[RM_CLOSE_SHUTDOWN] == 1 && fcntl(t->given[0], F_GETFD) == -1);
  rm_pool_release(&t->held, 9);
  CHECK(t->f.closed[RM_CLOSE_SHUTDOWN] == 2 && fcntl(t->lent[0], F_GETFD) == -1);
  rm_pool_upkeep(t->f.pool, 9, &dials);
  CHECK(t->f.closed[RM_CLOSE_SHUTDOWN] == 3 && fcntl(t->idle[0], F_GETFD) == -1);
  CHECK(stats_of(&t->f).total == 0);
  return 0;
}

static int child_can_borrow_and_wait(forked *t) {
  rm_lease own[3] = {{.pool = NULL}};
  for (int i = 0; i < 3; i++) CHECK(rm_pool_acquire(t->f.pool, &own[i], 0, 9, NULL) == RM_POOL_DIAL);
  CHECK(rm_pool_dialed(&own[0], fixture_conn(-1), 9, NULL) == 0);
  CHECK(rm_pool_acquire(t->f.pool, &t->granted, 0, 9, NULL) == RM_POOL_WAIT);
  CHECK(!is_readable(&t->granted)); /* an event of its own */
  rm_pool_release(&own[0], 9);
  CHECK(is_readable(&t->granted) && rm_pool_poll(&t->granted, 9, NULL) == RM_POOL_CONN);
  rm_pool_release(&t->granted, 9);
  rm_pool_cancel(&own[1], 9);
  rm_pool_cancel(&own[2], 9);
  rm_lease_fini(&t->granted);
  rm_pool_free(t->f.pool);
  return 0;
}

static int play_child(forked *t) {
  int line = child_sees_an_empty_pool_and_dead_sockets(t);
  if (line == 0) line = child_is_refused_with_what_it_inherited(t);
  if (line == 0) line = child_can_borrow_and_wait(t);
  if (line != 0) fprintf(stderr, "the child failed at line %d\n", line);
  return line != 0;
}

static void lend_socket(fixture *f, rm_lease *lease, int pair[2]) {
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  assert_int_equal(acquire(f, lease, 0), RM_POOL_DIAL);
  assert_int_equal(rm_pool_dialed(lease, fixture_conn(pair[0]), 0, NULL), 0);
}

static void assert_peer_heard_only(int pair[2], char expected) {
  char byte = 0;
  assert_int_equal(send(pair[0], &expected, 1, MSG_NOSIGNAL), 1);
  assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 1);
  assert_int_equal(byte, expected);
  assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
  assert_int_equal(errno, EAGAIN);
  close(pair[1]);
}

static void after_fork_the_child_begins_anew_and_the_parent_notices_nothing(void **state) {
  (void)state;
  forked t = {.held = {.conn = NULL}};
  rm_lease a = {0}, b = {0};
  open_sized(&t.f, 3);
  lend_socket(&t.f, &t.held, t.lent);
  lend_socket(&t.f, &a, t.given);
  lend_socket(&t.f, &b, t.idle);
  assert_int_equal(acquire(&t.f, &t.granted, 0), RM_POOL_WAIT);
  rm_pool_release(&a, 1); /* granted, and its event is readable: the child must not steal that */
  rm_pool_release(&b, 1);
  rm_pool_lock(t.f.pool); /* as another thread might */
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(play_child(&t));
  rm_pool_unlock(t.f.pool);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_true(is_readable(&t.granted));
  assert_int_equal(rm_pool_poll(&t.granted, 3, NULL), RM_POOL_CONN);
  assert_int_equal(stats_of(&t.f).total, 3);
  assert_peer_heard_only(t.given, 'g');
  assert_peer_heard_only(t.lent, 'l');
  assert_peer_heard_only(t.idle, 'i');
  rm_pool_release(&t.granted, 3);
  rm_pool_release(&t.held, 3);
  close_pool(&t.f);
  rm_lease_fini(&t.granted);
}

static void a_dial_that_the_parent_began_is_not_the_childs(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0}, b = {0};
  redmoon_error err;
  open_sized(&f, 2);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  assert_int_equal(acquire(&f, &b, 0), RM_POOL_DIAL);
  rm_pool_forked(f.pool); /* what it does needs no second process */
  assert_int_equal(rm_pool_dialed(&a, fixture_conn(-1), 1, &err), REDMOON_ECLOSED);
  assert_int_equal(f.closed[RM_CLOSE_SHUTDOWN], 1);
  fail_dial(&b, 1);
  assert_int_equal(stats_of(&f).dial_failures, 0);
  close_pool(&f);
}

static void connections_closed_before_the_fork_leave_no_trace_in_the_child(void **state) {
  (void)state;
  fixture f;
  rm_lease a = {0};
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  open_sized(&f, 1);
  borrow_new(&f, &a, 0);
  rm_conn *next = fixture_conn(pair[0]); /* made now, so that it is not by chance at the same address */
  rm_pool_discard(&a, RM_CLOSE_ERROR, 0);
  assert_int_equal(acquire(&f, &a, 0), RM_POOL_DIAL);
  assert_int_equal(rm_pool_dialed(&a, next, 0, NULL), 0);
  rm_pool_forked(f.pool);
  assert_true(is_dead(pair[0]));
  rm_pool_release(&a, 1);
  close_pool(&f);
  close(pair[1]);
}

/* Read by ThreadSanitizer, which takes the mutex that the child makes anew for the one that was locked. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "report_destroy_locked=0"; }

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_purge_closes_the_idle_and_drops_the_lent_when_they_come_back),
      cmocka_unit_test(a_purge_between_grant_and_fetch_counts_too),
      cmocka_unit_test(shutdown_wakes_waiters_closes_the_idle_and_ends_the_sockets_lent_out),
      cmocka_unit_test(after_fork_the_child_begins_anew_and_the_parent_notices_nothing),
      cmocka_unit_test(connections_closed_before_the_fork_leave_no_trace_in_the_child),
      cmocka_unit_test(a_dial_that_the_parent_began_is_not_the_childs),
  };
  if (rm_random_init() != 0) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
