/* SPDX-License-Identifier: MIT */
/* Dialling: every address gets its share of the time, sockets are set up right, errors say where and why. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/dialing.h"
#include "support/fake_server.h"
#include "wire/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWUSER /* <sched.h> shows them to GNU sources only */
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWNET 0x40000000
#endif

static const rm_dial_options usual = {.read_timeout_ms = 2500, .write_timeout_ms = 4000};

/* A list of 127.0.0.1 with these ports, as getaddrinfo would give it. */
typedef struct addresses {
  struct addrinfo info[4];
  struct sockaddr_in v4[4];
} addresses;

static const struct addrinfo *list_ports(addresses *a, const int *ports, size_t count) {
  memset(a, 0, sizeof *a);
  for (size_t i = 0; i < count; i++) {
    a->v4[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)ports[i])};
    a->v4[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->info[i] = (struct addrinfo){.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_addrlen = sizeof a->v4[i]};
    a->info[i].ai_addr = (struct sockaddr *)&a->v4[i];
    a->info[i].ai_next = i + 1 < count ? &a->info[i + 1] : NULL;
  }
  return a->info;
}

/* A port on which nobody listens: bound, so that nobody else takes it meanwhile. */
static int closed_port(int *fd) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(*fd, (struct sockaddr *)&address, len), 0);
  assert_int_equal(getsockname(*fd, (struct sockaddr *)&address, &len), 0);
  return ntohs(address.sin_port);
}

static int run_list(const struct addrinfo *list, const char *path, int64_t budget_ms, int *fd, redmoon_error *err) {
  rm_dial dial;
  int64_t deadline = rm_deadline_us(rm_clock_now_us(), budget_ms);
  rm_dial_start(&dial, list, path, path != NULL ? path : "redis.example:6379", &usual, deadline);
  rm_wants wants;
  int status;
  while ((status = rm_dial_step(&dial, rm_clock_now_us(), &wants, fd, err)) == RM_WAIT) dialing_wait(&wants, -1);
  rm_dial_fini(&dial);
  return status;
}

static int run_ports(const int *ports, size_t count, int64_t budget_ms, int *fd, redmoon_error *err) {
  addresses a;
  return run_list(list_ports(&a, ports, count), NULL, budget_ms, fd, err);
}

static int option(int fd, int level, int name) {
  int value = -1;
  socklen_t len = sizeof value;
  assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
  return value;
}

static void check_common(int fd) {
  assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
  struct timeval limit;
  socklen_t len = sizeof limit;
  assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len), 0);
  /* The kernel rounds up to its ticks. */
  assert_in_range(limit.tv_sec * 1000 + limit.tv_usec / 1000, 2500 / 2, 2500 / 2 + 10);
}

static void a_tcp_socket_is_blocking_closed_on_exec_and_kept_alive(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.tcp = true});
  int fd = -1, port = fake_server_port(server);
  assert_int_equal(run_ports(&port, 1, 5000, &fd, NULL), RM_DONE);
  check_common(fd);
  assert_int_not_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  assert_int_not_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
  assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 30);
  assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
  assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
  assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 6500);
  close(fd);
  fake_server_stop(server);
}

static void short_timeouts_leave_five_seconds_for_unacknowledged_data(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.tcp = true});
  addresses a;
  int fd = -1, port = fake_server_port(server), status;
  rm_dial dial;
  rm_wants wants;
  rm_dial_start(&dial, list_ports(&a, &port, 1), NULL, "x", &(rm_dial_options){100, 200}, RM_FOREVER);
  while ((status = rm_dial_step(&dial, rm_clock_now_us(), &wants, &fd, NULL)) == RM_WAIT) dialing_wait(&wants, -1);
  assert_int_equal(status, RM_DONE);
  assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 5000);
  close(fd);
  fake_server_stop(server);
}

static void a_unix_socket_is_blocking_and_closed_on_exec(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){0});
  int fd = -1;
  assert_int_equal(run_list(NULL, fake_server_path(server), 5000, &fd, NULL), RM_DONE);
  check_common(fd);
  close(fd);
  fake_server_stop(server);
}

static void while_it_lasts_the_socket_is_closed_on_exec_too(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){.tcp = true});
  addresses a;
  int fd = -1, port = fake_server_port(full);
  rm_dial dial;
  rm_wants wants;
  rm_dial_start(&dial, list_ports(&a, &port, 1), NULL, "x", &usual, RM_FOREVER);
  assert_int_equal(rm_dial_step(&dial, rm_clock_now_us(), &wants, &fd, NULL), RM_WAIT);
  assert_int_equal(wants.events, REDMOON_WANT_WRITE);
  assert_true(fcntl(wants.fd, F_GETFD) & FD_CLOEXEC);
  rm_dial_fini(&dial);
  fake_server_stop(full);
}

static void a_refusal_names_host_address_and_reason(void **state) {
  (void)state;
  int fd = -1, held, port = closed_port(&held);
  redmoon_error err;
  assert_int_equal(run_ports(&port, 1, 5000, &fd, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "connect to redis.example:6379 (127.0.0.1): Connection refused");
  assert_int_equal(err.phase, REDMOON_PHASE_DIAL);
  assert_int_equal(fd, -1);
  close(held);
}

static void the_address_after_a_refused_one_is_tried(void **state) {
  (void)state;
  fake_server *server = fake_server_start(&(fake_options){.tcp = true});
  int fd = -1, held, ports[] = {closed_port(&held), fake_server_port(server)};
  assert_int_equal(run_ports(ports, 2, 5000, &fd, NULL), RM_DONE);
  close(fd);
  close(held);
  fake_server_stop(server);
}

static void a_silent_first_address_leaves_half_of_the_time_to_the_second(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){.tcp = true});
  fake_server *server = fake_server_start(&(fake_options){.tcp = true});
  addresses a;
  int fd = -1, ports[] = {fake_server_port(full), fake_server_port(server)};
  rm_dial dial;
  rm_wants wants;
  int64_t begin = rm_clock_now_us();
  rm_dial_start(&dial, list_ports(&a, ports, 2), NULL, "x", &usual, begin + 3000000);
  /* Time is a parameter: nothing is waited for. */
  assert_int_equal(rm_dial_step(&dial, begin, &wants, &fd, NULL), RM_WAIT);
  assert_int_equal(wants.until_us, begin + 1500000);
  assert_int_equal(rm_dial_step(&dial, begin + 1499999, &wants, &fd, NULL), RM_WAIT);
  assert_int_equal(fake_server_connections(server), 0);
  int status = rm_dial_step(&dial, begin + 1500000, &wants, &fd, NULL);
  if (status == RM_WAIT) {
    assert_int_equal(wants.until_us, begin + 3000000);
    dialing_wait(&wants, 10000);
    status = rm_dial_step(&dial, begin + 1500001, &wants, &fd, NULL);
  }
  assert_int_equal(status, RM_DONE);
  close(fd);
  fake_server_stop(server);
  fake_server_stop(full);
}

static void when_all_fail_every_reason_is_told(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){.tcp = true});
  int fd = -1, held, ports[] = {fake_server_port(full), closed_port(&held)};
  redmoon_error err;
  assert_int_equal(run_ports(ports, 2, 40, &fd, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "connect to redis.example:6379 (127.0.0.1): no answer within 20 ms, "
                                   "(127.0.0.1): Connection refused");
  close(held);
  fake_server_stop(full);
}

static void a_missing_or_dead_or_overlong_socket_path_is_told(void **state) {
  (void)state;
  int fd = -1;
  redmoon_error err;
  assert_int_equal(run_list(NULL, "/nonexistent/redis.sock", 5000, &fd, &err), REDMOON_ECONNECT);
  assert_string_equal(err.message, "connect to /nonexistent/redis.sock: No such file or directory");
  char dir[] = "/tmp/dial-XXXXXX", path[64];
  assert_non_null(mkdtemp(dir));
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(path, sizeof path, "%s/s", dir);
  memcpy(address.sun_path, path, strlen(path) + 1);
  int dead = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
  close(dead);
  assert_int_equal(run_list(NULL, path, 5000, &fd, &err), REDMOON_ECONNECT);
  assert_non_null(strstr(err.message, "Connection refused"));
  unlink(path);
  rmdir(dir);
  char overlong[200];
  memset(overlong, 'x', sizeof overlong - 1);
  overlong[0] = '/';
  overlong[sizeof overlong - 1] = '\0';
  assert_int_equal(run_list(NULL, overlong, 5000, &fd, &err), REDMOON_ECONNECT);
  assert_non_null(strstr(err.message, "File name too long"));
}

static void a_full_unix_socket_is_tried_again_a_moment_later(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){0});
  int fd = -1;
  rm_dial dial;
  rm_wants wants;
  int64_t now = rm_clock_now_us();
  rm_dial_start(&dial, NULL, fake_server_path(full), "x", &usual, now + 3000000);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(rm_dial_step(&dial, now, &wants, &fd, NULL), RM_WAIT);
    assert_int_equal(wants.fd, -1);
    assert_true(wants.until_us > now && wants.until_us <= now + 50000);
    now = wants.until_us;
  }
  fake_server_make_room(full);
  assert_int_equal(rm_dial_step(&dial, now, &wants, &fd, NULL), RM_DONE);
  close(fd);
  fake_server_stop(full);
}

static void without_descriptors_it_is_unavailable(void **state) {
  (void)state;
  int spare = open("/dev/null", O_RDONLY | O_CLOEXEC), fd = -1, port = 1;
  struct rlimit before, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = before;
  none.rlim_cur = (rlim_t)spare;
  close(spare);
  redmoon_error err;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  int status = run_ports(&port, 1, 5000, &fd, &err);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_int_equal(status, REDMOON_EUNAVAILABLE);
  assert_string_equal(err.message, "connect to redis.example:6379 (127.0.0.1): Too many open files");
}

/* In a network of its own, whose only port for outgoing connections is 40000.  0: as it should be; 77: no such
 * network can be had here. */
static int run_with_one_port(void) {
  /* Who may, needs no namespace of users; others have none else. */
  if (syscall(SYS_unshare, CLONE_NEWNET) != 0 && syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNET) != 0) return 77;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct ifreq loopback = {.ifr_flags = IFF_UP | IFF_RUNNING};
  strcpy(loopback.ifr_name, "lo");
  if (ioctl(fd, SIOCSIFFLAGS, &loopback) != 0) return 77;
  int range = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
  if (range < 0 || write(range, "40000 40000", 11) != 11) return 77;

  redmoon_error err;
  int out = -1, itself = 40000;
  if (run_ports(&itself, 1, 5000, &out, &err) != REDMOON_ECONNECT) return 1;
  if (strstr(err.message, "Connection refused") == NULL) return 2;

  int port = 30000;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0) return 3;
  if (run_ports(&port, 1, 5000, &out, &err) != RM_DONE) return 4;
  if (run_ports(&port, 1, 5000, &out, &err) != REDMOON_EUNAVAILABLE) return 5;
  return strstr(err.message, "Cannot assign requested address") != NULL ? 0 : 6;
}

static void a_socket_connected_to_itself_is_refused_and_lack_of_ports_is_unavailable(void **state) {
  (void)state;
  pid_t pid = fork();
  if (pid == 0) _exit(run_with_one_port());
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    print_message("needs a network namespace, which this system does not give\n");
    skip();
  }
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void no_descriptor_is_left_by_failures(void **state) {
  (void)state;
  fake_server *full = fake_server_start_full(&(fake_options){.tcp = true});
  int before = dialing_open_fds(), fd = -1, held, ports[] = {fake_server_port(full), closed_port(&held)};
  redmoon_error err;
  for (int i = 0; i < 20; i++) assert_int_equal(run_ports(ports, 2, 2, &fd, &err), REDMOON_ECONNECT);
  close(held);
  assert_int_equal(dialing_open_fds(), before);
  fake_server_stop(full);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_tcp_socket_is_blocking_closed_on_exec_and_kept_alive),
      cmocka_unit_test(short_timeouts_leave_five_seconds_for_unacknowledged_data),
      cmocka_unit_test(a_unix_socket_is_blocking_and_closed_on_exec),
      cmocka_unit_test(while_it_lasts_the_socket_is_closed_on_exec_too),
      cmocka_unit_test(a_refusal_names_host_address_and_reason),
      cmocka_unit_test(the_address_after_a_refused_one_is_tried),
      cmocka_unit_test(a_silent_first_address_leaves_half_of_the_time_to_the_second),
      cmocka_unit_test(when_all_fail_every_reason_is_told),
      cmocka_unit_test(a_missing_or_dead_or_overlong_socket_path_is_told),
      cmocka_unit_test(a_full_unix_socket_is_tried_again_a_moment_later),
      cmocka_unit_test(without_descriptors_it_is_unavailable),
      cmocka_unit_test(a_socket_connected_to_itself_is_refused_and_lack_of_ports_is_unavailable),
      cmocka_unit_test(no_descriptor_is_left_by_failures),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
