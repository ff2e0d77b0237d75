/* SPDX-License-Identifier: MIT */
#include "support/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 };

struct program {
  pid_t pid;
  int output;
  size_t len;
  char bytes[4096], line[4096];
};

static void die(const char *what) {
  perror(what);
  abort();
}

program *program_start(const char *const *argv) {
  int ends[2];
  program *self = calloc(1, sizeof *self);
  if (self == NULL || pipe(ends) != 0) die("program_start");
  union {
    const char *const *given;
    char *const *wanted;
  } cast = {argv};
  self->pid = fork();
  if (self->pid < 0) die("fork");
  if (self->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unsetenv("REDIS_URL");
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv(argv[0], cast.wanted);
    perror(argv[0]);
    _exit(127);
  }
  close(ends[1]);
  self->output = ends[0];
  return self;
}

pid_t program_pid(const program *self) { return self->pid; }

/* Reads more; false at the end. */
static int read_more(program *self) {
  struct pollfd wanted = {.fd = self->output, .events = POLLIN};
  if (self->len == sizeof self->bytes || poll(&wanted, 1, PATIENCE_MS) != 1) return 0;
  ssize_t n = read(self->output, self->bytes + self->len, sizeof self->bytes - self->len);
  if (n > 0) self->len += (size_t)n;
  return n > 0;
}

const char *program_line(program *self) {
  char *end;
  while ((end = memchr(self->bytes, '\n', self->len)) == NULL)
    if (!read_more(self)) return NULL;
  size_t len = (size_t)(end - self->bytes);
  memcpy(self->line, self->bytes, len);
  self->line[len] = '\0';
  self->len -= len + 1;
  memmove(self->bytes, end + 1, self->len);
  return self->line;
}

int program_end(program *self) {
  int status;
  while (waitpid(self->pid, &status, 0) < 0)
    if (errno != EINTR) die("waitpid");
  close(self->output);
  free(self);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
