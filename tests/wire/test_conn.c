/* SPDX-License-Identifier: MIT */
/* One connection: what send and receive say, and when it may be lent out again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "support/dialing.h"
#include "wire/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define PUSH ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"

/* Every receive of this program goes through here, so that they can be counted, and a flood can be made. */
static int receives;
static bool flooded;
ssize_t recv(int fd, void *space, size_t room, int flags) {
  receives++;
  if (!flooded) return syscall(SYS_recvfrom, fd, space, room, flags, NULL, NULL);
  size_t len = strlen(PUSH) < room ? strlen(PUSH) : room;
  memcpy(space, PUSH, len);
  return (ssize_t)len;
}

/* A connection and the other end of its socket. */
typedef struct pair {
  rm_conn *conn;
  int peer;
} pair;

static pair pair_of(int ours, int theirs, int protocol) {
  rm_limits limits = RM_LIMITS_DEFAULT;
  pair p = {rm_conn_new(ours, &limits), theirs};
  assert_non_null(p.conn);
  p.conn->protocol = protocol;
  strcpy(p.conn->address, "redis.example:6379");
  return p;
}

static pair unix_pair(int protocol) {
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  return pair_of(fds[0], fds[1], protocol);
}

static pair tcp_pair(int protocol) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0), ours = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
  assert_int_equal(listen(listener, 1), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
  assert_int_equal(connect(ours, (struct sockaddr *)&address, len), 0);
  int theirs = accept(listener, NULL, NULL);
  close(listener);
  return pair_of(ours, theirs, protocol);
}

static void end(pair *p) {
  rm_conn_close(p->conn);
  if (p->peer >= 0) close(p->peer);
}

static void reset_peer(pair *p) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  assert_int_equal(setsockopt(p->peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  close(p->peer);
  p->peer = -1;
}

static void tell(const pair *p, const char *text) {
  assert_int_equal(write(p->peer, text, strlen(text)), strlen(text));
}

static void await_readable(const pair *p) {
  struct pollfd wait = {.fd = p->conn->fd, .events = POLLIN};
  assert_int_equal(poll(&wait, 1, 20000), 1);
}

/* Send and receive. */

static void a_send_to_a_peer_that_is_gone_is_an_error_and_not_the_end_of_the_process(void **state) {
  (void)state;
  assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  for (int tcp = 0; tcp < 2; tcp++) {
    pair p = tcp ? tcp_pair(3) : unix_pair(3);
    if (tcp) reset_peer(&p);
    else close(p.peer), p.peer = -1;
    if (tcp) await_readable(&p);
    redmoon_error err;
    size_t maybe_sent = 0;
    ssize_t n = 0;
    for (int i = 0; i < 3; i++) n = rm_conn_send(p.conn, "PING\r\n", 6, &maybe_sent, &err);
    assert_int_equal(n, RM_IO_ERROR);
    assert_int_equal(err.status, REDMOON_EIO);
    assert_int_equal(err.phase, REDMOON_PHASE_SEND);
    assert_string_equal(err.message, "send to redis.example:6379: Broken pipe");
    assert_int_equal(maybe_sent, 0);
    end(&p);
  }
}

static void send_takes_what_the_socket_takes_and_counts_it(void **state) {
  (void)state;
  pair p = unix_pair(3);
  static char block[65536];
  size_t maybe_sent = 0, total = 0;
  ssize_t n;
  while ((n = rm_conn_send(p.conn, block, sizeof block, &maybe_sent, NULL)) > 0) {
    assert_true((size_t)n <= sizeof block && maybe_sent >= (size_t)n);
    total += (size_t)n;
    assert_true(total < (size_t)1 << 30);
  }
  assert_int_equal(n, RM_IO_AGAIN_WRITE);
  maybe_sent = 0;
  assert_int_equal(rm_conn_send(p.conn, block, sizeof block, &maybe_sent, NULL), RM_IO_AGAIN_WRITE);
  assert_int_equal(maybe_sent, 0);
  end(&p);
}

static void receive_without_waiting_says_again_bytes_or_end(void **state) {
  (void)state;
  pair p = unix_pair(3);
  redmoon_error err;
  assert_int_equal(rm_conn_receive(p.conn, false, &err), RM_IO_AGAIN_READ);
  tell(&p, "+PONG\r\n");
  assert_int_equal(rm_conn_receive(p.conn, false, &err), 7);
  rm_arena arena = {0};
  redmoon_reply *reply;
  assert_int_equal(rm_conn_next(p.conn, &arena, &reply, &err), 1);
  assert_string_equal(redmoon_reply_string(reply, NULL), "PONG");
  rm_arena_fini(&arena);
  assert_false(p.conn->peer_closed);
  close(p.peer);
  p.peer = -1;
  assert_int_equal(rm_conn_receive(p.conn, false, &err), RM_IO_EOF);
  assert_true(p.conn->peer_closed);
  end(&p);
}

static void a_reset_is_an_error_of_receive_that_names_the_peer(void **state) {
  (void)state;
  pair p = tcp_pair(3);
  reset_peer(&p);
  await_readable(&p);
  redmoon_error err;
  assert_int_equal(rm_conn_receive(p.conn, false, &err), RM_IO_ERROR);
  assert_int_equal(err.status, REDMOON_EIO);
  assert_string_equal(err.message, "receive from redis.example:6379: Connection reset by peer");
  end(&p);
}

static void a_waiting_receive_ends_with_the_sockets_limit(void **state) {
  (void)state;
  pair p = unix_pair(3);
  struct timeval limit = {.tv_usec = 20000};
  assert_int_equal(setsockopt(p.conn->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  int64_t begin = rm_clock_now_us();
  assert_int_equal(rm_conn_receive(p.conn, true, NULL), RM_IO_AGAIN_READ);
  int64_t took = rm_clock_now_us() - begin;
  assert_true(took >= 15000 && took < 10000000);
  end(&p);
}

static void nothing(int number) { (void)number; }

/* The signal comes again and again, in case the first finds the thread before it waits. */
static void a_waiting_receive_comes_back_after_a_signal_so_that_the_deadline_is_looked_at(void **state) {
  (void)state;
  pair p = unix_pair(3);
  struct timeval limit = {.tv_sec = 60};
  assert_int_equal(setsockopt(p.conn->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  struct sigaction action = {.sa_handler = nothing}, before;
  assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
  struct itimerval storm = {{.tv_usec = 1000}, {.tv_usec = 1000}}, calm = {{0}, {0}};
  setitimer(ITIMER_REAL, &storm, NULL);
  int64_t begin = rm_clock_now_us();
  ssize_t n = rm_conn_receive(p.conn, true, NULL);
  setitimer(ITIMER_REAL, &calm, NULL);
  sigaction(SIGALRM, &before, NULL);
  assert_int_equal(n, RM_IO_AGAIN_READ);
  assert_true(rm_clock_now_us() - begin < 30000000);
  end(&p);
}

static bool refuse_all(void *ctx, size_t size) {
  (void)ctx;
  (void)size;
  return true;
}

static bool refuse_after(void *ctx, size_t size) {
  (void)size;
  int *left = ctx;
  return (*left)-- <= 0;
}

static void without_memory_receive_says_so_and_new_leaves_the_descriptor_alone(void **state) {
  (void)state;
  pair p = unix_pair(3);
  redmoon_error err;
  rm_limits limits = RM_LIMITS_DEFAULT;
  tell(&p, "+PONG\r\n");
  rm_alloc_set_refuse(refuse_all, NULL);
  ssize_t n = rm_conn_receive(p.conn, false, &err);
  rm_alloc_set_refuse(NULL, NULL);
  assert_int_equal(n, RM_IO_ERROR);
  assert_int_equal(err.status, REDMOON_ENOMEM);
  for (int granted = 0; granted < 2; granted++) {
    int left = granted;
    rm_alloc_set_refuse(refuse_after, &left);
    rm_conn *second = rm_conn_new(p.peer, &limits);
    rm_alloc_set_refuse(NULL, NULL);
    assert_null(second);
  }
  tell(&p, "x");
  end(&p);
}

/* Reuse. */

static void check(int protocol, const char *unread, bool peer_closes, bool reusable, rm_close_reason reason) {
  pair p = tcp_pair(protocol);
  rm_close_reason why = RM_CLOSE_REASONS;
  if (unread[0] != '\0') tell(&p, unread);
  if (peer_closes) {
    close(p.peer);
    p.peer = -1;
  }
  if (unread[0] != '\0' || peer_closes) await_readable(&p);
  assert_int_equal(rm_conn_is_reusable(p.conn, &why), reusable);
  if (!reusable) assert_int_equal(why, reason);
  end(&p);
}

static void a_quiet_connection_is_reusable_at_the_cost_of_one_system_call(void **state) {
  (void)state;
  for (int protocol = 2; protocol <= 3; protocol++) {
    pair p = tcp_pair(protocol);
    rm_close_reason why = RM_CLOSE_REASONS;
    receives = 0;
    assert_true(rm_conn_is_reusable(p.conn, &why));
    assert_int_equal(receives, 1);
    assert_int_equal(why, RM_CLOSE_REASONS);
    end(&p);
  }
}

static void unread_bytes_in_the_socket_are_dirt(void **state) {
  (void)state;
  for (int protocol = 2; protocol <= 3; protocol++) {
    check(protocol, "+STALE\r\n", false, false, RM_CLOSE_DIRTY);
    check(protocol, "+", false, false, RM_CLOSE_DIRTY);
    check(protocol, "\x15\x03garbage", false, false, RM_CLOSE_DIRTY);
  }
}

static void unread_bytes_in_the_reader_are_dirt(void **state) {
  (void)state;
  static const char *const unread[] = {"+STALE\r\n", "$5\r\nhal", ">2\r\n+message", "+STALE\r\n" PUSH};
  for (int protocol = 2; protocol <= 3; protocol++) {
    for (size_t i = 0; i < sizeof unread / sizeof unread[0]; i++) {
      pair p = tcp_pair(protocol);
      rm_close_reason why = RM_CLOSE_REASONS;
      tell(&p, unread[i]);
      await_readable(&p);
      assert_true(rm_conn_receive(p.conn, false, NULL) > 0);
      assert_false(rm_conn_is_reusable(p.conn, &why));
      assert_int_equal(why, RM_CLOSE_DIRTY);
      end(&p);
    }
  }
}

static void a_peer_that_closed_or_reset_is_noticed(void **state) {
  (void)state;
  for (int protocol = 2; protocol <= 3; protocol++) {
    check(protocol, "", true, false, RM_CLOSE_PEER);
    pair p = tcp_pair(protocol);
    rm_close_reason why = RM_CLOSE_REASONS;
    reset_peer(&p);
    await_readable(&p);
    assert_false(rm_conn_is_reusable(p.conn, &why));
    assert_int_equal(why, RM_CLOSE_PEER);
    end(&p);
  }
}

static void an_end_of_stream_that_was_already_seen_is_remembered(void **state) {
  (void)state;
  pair p = unix_pair(3);
  rm_close_reason why = RM_CLOSE_REASONS;
  p.conn->peer_closed = true;
  assert_false(rm_conn_is_reusable(p.conn, &why));
  assert_int_equal(why, RM_CLOSE_PEER);
  end(&p);
}

static void whole_pushes_are_dropped_in_resp3(void **state) {
  (void)state;
  check(3, PUSH, false, true, RM_CLOSE_REASONS);
  check(3, PUSH PUSH PUSH, false, true, RM_CLOSE_REASONS);
  pair p = tcp_pair(3);
  rm_close_reason why;
  tell(&p, PUSH);
  await_readable(&p);
  assert_true(rm_conn_receive(p.conn, false, NULL) > 0);
  assert_true(rm_conn_is_reusable(p.conn, &why)); /* those in the reader too */
  end(&p);
}

static void what_only_looks_like_a_push_is_dirt(void **state) {
  (void)state;
  check(2, PUSH, false, false, RM_CLOSE_DIRTY);
  check(3, PUSH "+STALE\r\n", false, false, RM_CLOSE_DIRTY);
  check(3, PUSH ">2\r\n+half", false, false, RM_CLOSE_DIRTY);
  check(3, "+STALE\r\n" PUSH, false, false, RM_CLOSE_DIRTY);
}

static void a_push_before_the_end_of_the_stream_does_not_hide_it(void **state) {
  (void)state;
  pair p = unix_pair(3);
  rm_close_reason why = RM_CLOSE_REASONS;
  tell(&p, PUSH);
  assert_int_equal(shutdown(p.peer, SHUT_WR), 0);
  assert_false(rm_conn_is_reusable(p.conn, &why));
  assert_int_equal(why, RM_CLOSE_PEER);
  end(&p);
}

static void a_flood_of_pushes_does_not_hold_the_borrower_up(void **state) {
  (void)state;
  pair p = unix_pair(3);
  rm_close_reason why = RM_CLOSE_REASONS;
  receives = 0;
  flooded = true;
  bool reusable = rm_conn_is_reusable(p.conn, &why);
  flooded = false;
  assert_false(reusable);
  assert_int_equal(why, RM_CLOSE_DIRTY);
  assert_true(receives <= 20);
  end(&p);
}

static void close_says_nothing_to_the_peer(void **state) {
  (void)state;
  pair p = unix_pair(3);
  rm_conn_close(p.conn);
  char byte;
  assert_int_equal(read(p.peer, &byte, 1), 0);
  close(p.peer);
  rm_conn_close(NULL);
}

static void every_reason_has_its_word(void **state) {
  (void)state;
  static const char *const words[] = {"idle", "lifetime", "peer", "dirty", "error", "failover", "closed"};
  for (int i = 0; i < RM_CLOSE_REASONS; i++)
    assert_string_equal(rm_close_reason_name((rm_close_reason)i), words[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_send_to_a_peer_that_is_gone_is_an_error_and_not_the_end_of_the_process),
      cmocka_unit_test(send_takes_what_the_socket_takes_and_counts_it),
      cmocka_unit_test(receive_without_waiting_says_again_bytes_or_end),
      cmocka_unit_test(a_reset_is_an_error_of_receive_that_names_the_peer),
      cmocka_unit_test(a_waiting_receive_ends_with_the_sockets_limit),
      cmocka_unit_test(a_waiting_receive_comes_back_after_a_signal_so_that_the_deadline_is_looked_at),
      cmocka_unit_test(without_memory_receive_says_so_and_new_leaves_the_descriptor_alone),
      cmocka_unit_test(a_quiet_connection_is_reusable_at_the_cost_of_one_system_call),
      cmocka_unit_test(unread_bytes_in_the_socket_are_dirt),
      cmocka_unit_test(unread_bytes_in_the_reader_are_dirt),
      cmocka_unit_test(a_peer_that_closed_or_reset_is_noticed),
      cmocka_unit_test(an_end_of_stream_that_was_already_seen_is_remembered),
      cmocka_unit_test(whole_pushes_are_dropped_in_resp3),
      cmocka_unit_test(what_only_looks_like_a_push_is_dirt),
      cmocka_unit_test(a_push_before_the_end_of_the_stream_does_not_hide_it),
      cmocka_unit_test(a_flood_of_pushes_does_not_hold_the_borrower_up),
      cmocka_unit_test(close_says_nothing_to_the_peer),
      cmocka_unit_test(every_reason_has_its_word),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
