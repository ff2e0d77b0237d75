/* SPDX-License-Identifier: MIT */
/* The embedded server: it answers, and it goes with whoever started it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"

#include <redmoon/embedded.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Helpers. */

static redmoon_embedded *start(const redmoon_embedded_options *options) {
  redmoon_error err;
  redmoon_embedded *server = NULL;
  if (redmoon_embedded_start(options, &server, &err) != 0) fail_msg("%s", err.message);
  return server;
}

static const char *path_of(const char *url) { return url + strlen("unix://"); }

/* Sends `request` on a new connection; the reply's first bytes go to `reply`.  0, or -1 when nobody answers. */
static int ask(const char *path, const char *request, char reply[64]) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  ssize_t n = -1;
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
      send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
    n = recv(fd, reply, 63, 0);
  close(fd);
  if (n > 0) reply[n] = '\0';
  return n > 0 ? 0 : -1;
}

static void assert_answers(const char *path) {
  char reply[64];
  assert_int_equal(ask(path, "*1\r\n$4\r\nPING\r\n", reply), 0);
  assert_string_equal(reply, "+PONG\r\n");
}

static bool is_gone(const char *folder, pid_t server) {
  struct stat st;
  return stat(folder, &st) != 0 && errno == ENOENT && kill(server, 0) != 0 && errno == ESRCH;
}

/* An upper bound, far above what it takes. */
static void wait_gone(const char *folder, pid_t server) {
  int64_t by_us = rm_clock_now_us() + 20000000;
  while (!is_gone(folder, server)) {
    if (rm_clock_now_us() > by_us) fail_msg("%s or process %d is still there", folder, (int)server);
    poll(NULL, 0, 2);
  }
}

static void folder_of(const redmoon_embedded *server, char folder[128]) {
  snprintf(folder, 128, "%s", path_of(redmoon_embedded_url(server)));
  *strrchr(folder, '/') = '\0';
}

static void make_dir(char dir[64]) {
  snprintf(dir, 64, "/tmp/redmoon-test-XXXXXX");
  assert_non_null(mkdtemp(dir));
}

static void remove_dir(const char *dir) {
  pid_t pid = fork();
  if (pid == 0) {
    execlp("rm", "rm", "-rf", dir, (char *)NULL);
    _exit(127);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

/* Tests. */

static void answers_ping_on_its_url_within_a_second(void **state) {
  (void)state;
  int64_t began_us = rm_clock_now_us();
  redmoon_embedded *server = start(NULL);
  assert_true(rm_clock_now_us() - began_us < 1000000);
  assert_int_equal(strncmp(redmoon_embedded_url(server), "unix:///", 8), 0);
  assert_answers(path_of(redmoon_embedded_url(server)));
  assert_int_equal(kill((pid_t)redmoon_embedded_pid(server), 0), 0);
  redmoon_embedded_close(server);
}

static void its_folder_and_socket_are_for_the_owner_alone(void **state) {
  (void)state;
  redmoon_embedded *server = start(NULL);
  char folder[128];
  folder_of(server, folder);
  struct stat st;
  assert_int_equal(stat(folder, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0700);
  assert_int_equal(stat(path_of(redmoon_embedded_url(server)), &st), 0);
  assert_int_equal(st.st_mode & 0777, 0700);
  redmoon_embedded_close(server);
}

static void close_leaves_no_process_folder_zombie_or_descriptor(void **state) {
  (void)state;
  int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(before);
  redmoon_embedded *server = start(NULL);
  char folder[128];
  folder_of(server, folder);
  pid_t pid = (pid_t)redmoon_embedded_pid(server);
  redmoon_embedded_close(server);
  assert_true(is_gone(folder, pid));
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
  assert_int_equal(errno, ECHILD);
  int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(after);
  assert_int_equal(after, before);
}

/* The child starts a server, tells its url and pid and stops; the caller ends it. */
static pid_t start_in_child(char path[128], pid_t *server_pid) {
  int channel[2];
  assert_int_equal(pipe(channel), 0);
  pid_t child = fork();
  if (child == 0) {
    redmoon_embedded *server = NULL;
    if (redmoon_embedded_start(NULL, &server, NULL) != 0) _exit(1);
    dprintf(channel[1], "%lld %s\n", (long long)redmoon_embedded_pid(server), path_of(redmoon_embedded_url(server)));
    for (;;) pause();
  }
  close(channel[1]);
  char line[256];
  ssize_t n = read(channel[0], line, sizeof line - 1);
  assert_true(n > 0);
  line[n - 1] = '\0';
  close(channel[0]);
  char *space = NULL;
  *server_pid = (pid_t)strtol(line, &space, 10);
  snprintf(path, 128, "%s", space + 1);
  return child;
}

static void everything_goes_when_the_starting_process_is_killed(void **state) {
  (void)state;
  char path[128];
  pid_t server_pid;
  pid_t child = start_in_child(path, &server_pid);
  assert_answers(path);
  assert_int_equal(kill(child, SIGKILL), 0);
  assert_int_equal(waitpid(child, NULL, 0), child);
  *strrchr(path, '/') = '\0';
  wait_gone(path, server_pid);
}

static void *start_on_thread(void *arg) {
  redmoon_embedded **server = arg;
  if (redmoon_embedded_start(NULL, server, NULL) != 0) *server = NULL;
  return NULL;
}

static void it_survives_the_thread_that_started_it(void **state) {
  (void)state;
  redmoon_embedded *server = NULL;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, start_on_thread, &server), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_non_null(server);
  for (int i = 0; i < 200; i++) assert_answers(path_of(redmoon_embedded_url(server)));
  char folder[128];
  folder_of(server, folder);
  pid_t pid = (pid_t)redmoon_embedded_pid(server);
  redmoon_embedded_close(server);
  assert_true(is_gone(folder, pid)); /* so did what watches over it */
}

static void a_forked_copy_cannot_end_it(void **state) {
  (void)state;
  redmoon_embedded *server = start(NULL);
  pid_t child = fork();
  if (child == 0) {
    redmoon_embedded_close(server);
    _exit(0);
  }
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_answers(path_of(redmoon_embedded_url(server)));
  redmoon_embedded_close(server);
}

static void close_does_not_wait_for_a_forked_copy(void **state) {
  (void)state;
  redmoon_embedded *server = start(NULL);
  char folder[128];
  folder_of(server, folder);
  pid_t pid = (pid_t)redmoon_embedded_pid(server);
  pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  redmoon_embedded_close(server);
  assert_true(is_gone(folder, pid));
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_dir_keeps_the_data_over_a_restart(void **state) {
  (void)state;
  char dir[64], reply[64];
  make_dir(dir);
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  options.dir = dir;
  redmoon_embedded *server = start(&options);
  assert_int_equal(ask(path_of(redmoon_embedded_url(server)), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nkept\r\n", reply), 0);
  assert_string_equal(reply, "+OK\r\n");
  redmoon_embedded_close(server);
  server = start(&options);
  assert_int_equal(ask(path_of(redmoon_embedded_url(server)), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", reply), 0);
  assert_string_equal(reply, "$4\r\nkept\r\n");
  redmoon_embedded_close(server);
  remove_dir(dir);
}

static void two_servers_never_share_a_dir(void **state) {
  (void)state;
  char dir[64];
  make_dir(dir);
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  options.dir = dir;
  redmoon_embedded *server = start(&options), *second = NULL;
  options.start_timeout_ms = 20;
  redmoon_error err;
  assert_int_equal(redmoon_embedded_start(&options, &second, &err), REDMOON_EUNAVAILABLE);
  assert_null(second);
  assert_non_null(strstr(err.message, dir));
  redmoon_embedded_close(server);
  remove_dir(dir);
}

static void config_reaches_the_server(void **state) {
  (void)state;
  const char *const config[] = {"--maxmemory", "64mb", NULL};
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  options.config = config;
  redmoon_embedded *server = start(&options);
  char reply[64];
  assert_int_equal(ask(path_of(redmoon_embedded_url(server)),
                       "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$9\r\nmaxmemory\r\n", reply),
                   0);
  assert_string_equal(reply, "*2\r\n$9\r\nmaxmemory\r\n$8\r\n67108864\r\n");
  redmoon_embedded_close(server);
}

static void a_folder_with_odd_characters_is_encoded_in_the_url(void **state) {
  (void)state;
  char dir[64], odd[128];
  make_dir(dir);
  snprintf(odd, sizeof odd, "%s/a b%%", dir);
  assert_int_equal(mkdir(odd, 0700), 0);
  char *tmpdir = getenv("TMPDIR") != NULL ? strdup(getenv("TMPDIR")) : NULL;
  setenv("TMPDIR", odd, 1);
  redmoon_embedded *server = start(NULL);
  char wanted[160];
  snprintf(wanted, sizeof wanted, "unix://%s/a%%20b%%25/redmoon-", dir);
  assert_int_equal(strncmp(redmoon_embedded_url(server), wanted, strlen(wanted)), 0);
  redmoon_embedded_close(server);
  if (tmpdir != NULL)
    setenv("TMPDIR", tmpdir, 1);
  else
    unsetenv("TMPDIR");
  free(tmpdir);
  remove_dir(dir);
}

static void the_servers_own_complaint_is_in_the_error(void **state) {
  (void)state;
  const char *const config[] = {"--no-such-option", "1", NULL};
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  options.config = config;
  redmoon_embedded *server = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_embedded_start(&options, &server, &err), REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "no-such-option"));
}

static void a_missing_program_is_named(void **state) {
  (void)state;
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  redmoon_embedded *server = NULL;
  redmoon_error err;
  options.server = "/no/such/program";
  assert_int_equal(redmoon_embedded_start(&options, &server, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "/no/such/program"));
  options.server = "no-such-program";
  assert_int_equal(redmoon_embedded_start(&options, &server, &err), REDMOON_ECONFIG);
  assert_non_null(strstr(err.message, "no-such-program"));
  char *path = strdup(getenv("PATH"));
  setenv("PATH", "/no/such/folder", 1);
  int status = redmoon_embedded_start(NULL, &server, &err);
  setenv("PATH", path, 1);
  free(path);
  assert_int_equal(status, REDMOON_EUNAVAILABLE);
  assert_non_null(strstr(err.message, "redis-server"));
  assert_non_null(strstr(err.message, "install"));
}

static void settings_of_the_library_are_refused(void **state) {
  (void)state;
  const char *const refused[][3] = {{"--unixsocket", "/tmp/x", NULL}, {"--Dir", "/tmp", NULL}, {"maxmemory", "1", NULL}};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
    options.config = refused[i];
    redmoon_embedded *server = NULL;
    redmoon_error err;
    assert_int_equal(redmoon_embedded_start(&options, &server, &err), REDMOON_ECONFIG);
    assert_non_null(strstr(err.message, refused[i][0]));
  }
}

static void a_program_that_never_answers_ends_with_timeout(void **state) {
  (void)state;
  char dir[64], program[96];
  make_dir(dir);
  snprintf(program, sizeof program, "%s/mute", dir);
  int fd = open(program, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
  assert_true(fd >= 0);
  static const char text[] = "#!/bin/sh\nexec tail -f /dev/null\n";
  assert_int_equal(write(fd, text, sizeof text - 1), (int)sizeof text - 1);
  close(fd);
  redmoon_embedded_options options = REDMOON_EMBEDDED_OPTIONS_INIT;
  options.server = program;
  options.start_timeout_ms = 50;
  redmoon_embedded *server = NULL;
  redmoon_error err;
  assert_int_equal(redmoon_embedded_start(&options, &server, &err), REDMOON_ETIMEOUT);
  assert_non_null(strstr(err.message, "50 ms"));
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
  remove_dir(dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_ping_on_its_url_within_a_second),
      cmocka_unit_test(its_folder_and_socket_are_for_the_owner_alone),
      cmocka_unit_test(close_leaves_no_process_folder_zombie_or_descriptor),
      cmocka_unit_test(everything_goes_when_the_starting_process_is_killed),
      cmocka_unit_test(it_survives_the_thread_that_started_it),
      cmocka_unit_test(a_forked_copy_cannot_end_it),
      cmocka_unit_test(close_does_not_wait_for_a_forked_copy),
      cmocka_unit_test(a_dir_keeps_the_data_over_a_restart),
      cmocka_unit_test(two_servers_never_share_a_dir),
      cmocka_unit_test(config_reaches_the_server),
      cmocka_unit_test(a_folder_with_odd_characters_is_encoded_in_the_url),
      cmocka_unit_test(the_servers_own_complaint_is_in_the_error),
      cmocka_unit_test(a_missing_program_is_named),
      cmocka_unit_test(settings_of_the_library_are_refused),
      cmocka_unit_test(a_program_that_never_answers_ends_with_timeout),
  };
  return cmocka_run_group_tests_name("embedded", tests, NULL, NULL);
}
