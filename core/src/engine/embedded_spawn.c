/* SPDX-License-Identifier: MIT */
/* Fork and exec of the watcher, in a process that may have many threads: the child makes only async-signal-safe calls. */
#include "engine/embedded_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* $1 is the folder, "$@" then the server's command line: nothing of the caller's is ever parsed by the shell. */
static const char script[] = "folder=$1; shift\n"
                             "\"$@\" </dev/null &\n"
                             "server=$!\n"
                             "trap '' PIPE HUP INT QUIT TERM\n"
                             "exec >/dev/null 2>&1 3>&-\n"
                             "echo \"$server\" >&0\n"
                             "read -r end\n"
                             "kill -9 \"$server\"\n"
                             "wait \"$server\"\n"
                             "rm -rf -- \"$folder\"\n";

size_t rm_watcher_args(const char **argv, const char *folder) {
  argv[0] = "/bin/sh";
  argv[1] = "-c";
  argv[2] = script;
  argv[3] = "redmoon-watcher";
  argv[4] = folder;
  return RM_WATCHER_ARGS;
}

static void close_above(int fd, int limit) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, (unsigned)fd, ~0U, 0U) == 0) return;
#endif
  for (; fd < limit; fd++) close(fd);
}

/* Descriptors are first moved out of the way of 0 to 3, where one of them may already be. */
static void child(const char *const *argv, int leash, int output, int lock, int limit) {
  leash = fcntl(leash, F_DUPFD, 10);
  output = fcntl(output, F_DUPFD, 10);
  if (lock >= 0) lock = fcntl(lock, F_DUPFD, 10);
  if (leash < 0 || output < 0 || dup2(leash, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(126);
  if (lock >= 0 && dup2(lock, 3) < 0) _exit(126);
  close_above(lock >= 0 ? 4 : 3, limit);
  setsid();
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < 65; number++) sigaction(number, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  union {
    const char *const *given;
    char *const *wanted;
  } cast = {argv}; /* execv changes nothing, but its type says it may */
  execv(argv[0], cast.wanted);
  _exit(127);
}

pid_t rm_watcher_spawn(const char *const *argv, int leash, int output, int lock) {
  long limit = sysconf(_SC_OPEN_MAX);
  sigset_t all, before;
  sigfillset(&all);
  /* No handler of the host runs in the child: signals wait until it has reset them. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  if (pid == 0) child(argv, leash, output, lock, limit > 0 && limit < 1 << 20 ? (int)limit : 1 << 20);
  int code = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = code;
  return pid;
}
