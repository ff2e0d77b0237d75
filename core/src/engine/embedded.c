/* SPDX-License-Identifier: MIT */
/* A private server, and the watcher that ends it.
 *
 *      this process                          watcher: /bin/sh, a session of its own
 *      leash[0] (CLOEXEC) <--- socketpair ---> its stdin         starts the server, says its pid, then reads
 *      output[0]          <--- socketpair ---> the server's stdout and stderr, until it answers PING
 *
 *  The watcher reads end-of-file when close() shuts the leash or this process is gone, however it went: then it kills the
 *  server, removes the folder and ends.  No signal is involved that a thread or a handler of the host could spoil. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/embedded_spawn.h"

#include <redmoon/embedded.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  PATH_CAP = sizeof((struct sockaddr_un *)0)->sun_path, /* 108 with the NUL */
  START_TIMEOUT_MS = 5000,
  START_TIMEOUT_MAX_MS = 600000,
  POLL_MS = 2, /* between two attempts to connect */
  FIXED_ARGS = 20
};

struct redmoon_embedded {
  pid_t owner; /* a forked copy must not end the server of its parent */
  pid_t watcher;
  int64_t server;
  int leash;
  char folder[PATH_CAP];
  char socket[PATH_CAP];
  char url[8 + 3 * PATH_CAP];
};

/* While it starts. */
typedef struct start {
  redmoon_embedded *server;
  int64_t timeout_ms, by_us;
  int output;      /* read end of the server's output */
  int lock;        /* the flock on `dir`, or -1 */
  char program[PATH_MAX];
  char dir[PATH_MAX];
  char text[2048]; /* end of what the server printed */
  size_t text_len;
} start;

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* Finding the program and the folders. */

static bool is_program(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_in_path(const char *name, char out[PATH_MAX]) {
  const char *path = getenv("PATH");
  for (const char *at = path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"; *at != '\0';) {
    size_t len = strcspn(at, ":");
    int n = snprintf(out, PATH_MAX, "%.*s/%s", len > 0 ? (int)len : 1, len > 0 ? at : ".", name);
    if (n > 0 && n < PATH_MAX && is_program(out)) return true;
    at += len;
    if (*at == ':') at++;
  }
  return false;
}

static int find_program(start *s, const char *wanted, redmoon_error *err) {
  if (wanted == NULL) {
    if (find_in_path("redis-server", s->program) || find_in_path("valkey-server", s->program)) return 0;
    return rm_fail(err, REDMOON_EUNAVAILABLE,
                   "embedded: neither redis-server nor valkey-server is in $PATH; install one (Debian, Ubuntu: apt "
                   "install redis-server; Fedora: dnf install valkey; Alpine: apk add redis; Homebrew: brew install "
                   "redis) or name the program with the option server");
  }
  if (strchr(wanted, '/') == NULL) {
    if (wanted[0] != '\0' && find_in_path(wanted, s->program)) return 0;
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option server: no program \"%s\" in $PATH", wanted);
  }
  if (strlen(wanted) >= sizeof s->program || !is_program(wanted))
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option server: \"%s\" is not an executable file", wanted);
  memcpy(s->program, wanted, strlen(wanted) + 1);
  return 0;
}

/* Two servers that append to one file would ruin it; the lock is handed on to the server and dies with it. */
static int take_dir(start *s, const char *dir, redmoon_error *err) {
  char why[128];
  if (mkdir(dir, 0700) != 0 && errno != EEXIST)
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option dir: \"%s\" cannot be made: %s", dir,
                   rm_errno_text(errno, why, sizeof why));
  struct stat st;
  if (realpath(dir, s->dir) == NULL || stat(s->dir, &st) != 0 || !S_ISDIR(st.st_mode) ||
      access(s->dir, R_OK | W_OK | X_OK) != 0)
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option dir: \"%s\" is not a folder that can be written to", dir);
  s->lock = open(s->dir, O_RDONLY | O_CLOEXEC);
  if (s->lock < 0)
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option dir: \"%s\": %s", dir, rm_errno_text(errno, why, sizeof why));
  while (flock(s->lock, LOCK_EX | LOCK_NB) != 0) {
    if (rm_clock_now_us() >= s->by_us)
      return rm_fail(err, REDMOON_EUNAVAILABLE, "embedded: option dir: another server keeps its data in \"%s\"", dir);
    poll(NULL, 0, POLL_MS);
  }
  return 0;
}

static int make_folder(redmoon_embedded *server, redmoon_error *err) {
  static const char pattern[] = "/redmoon-XXXXXX", name[] = "/redis.sock";
  const char *base = getenv("TMPDIR");
  if (base == NULL || base[0] != '/' || strlen(base) + sizeof pattern + sizeof name > PATH_CAP) base = "/tmp";
  char why[128];
  snprintf(server->folder, sizeof server->folder, "%s%s", base, pattern);
  if (mkdtemp(server->folder) == NULL) {
    int code = errno;
    server->folder[0] = '\0';
    return rm_fail(err, REDMOON_EUNAVAILABLE, "embedded: no folder could be made in %s: %s", base,
                   rm_errno_text(code, why, sizeof why));
  }
  size_t len = strlen(server->folder);
  memcpy(server->socket, server->folder, len);
  memcpy(server->socket + len, name, sizeof name);
  char *out = server->url;
  out += snprintf(out, 8, "unix://");
  for (const char *p = server->socket; *p != '\0'; p++) {
    bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || strchr("0123456789-._~/", *p) != NULL;
    out += snprintf(out, 4, plain ? "%c" : "%%%02X", (unsigned char)*p);
  }
  return 0;
}

/* Arguments. */

static int check_config(const char *const *config, redmoon_error *err) {
  static const char *const ours[] = {"unixsocket", "dir", "daemonize", "supervised", "include"};
  if (config == NULL || config[0] == NULL) return 0;
  if (strncmp(config[0], "--", 2) != 0)
    return rm_fail(err, REDMOON_ECONFIG,
                   "embedded: option config: it begins with \"%s\"; expected the name of a server option, such as "
                   "--maxmemory",
                   config[0]);
  for (; *config != NULL; config++)
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
      if (strncmp(*config, "--", 2) == 0 && strcasecmp(*config + 2, ours[i]) == 0)
        return rm_fail(err, REDMOON_ECONFIG, "embedded: option config: %s is set by the library%s", *config,
                       i == 1 ? "; use the option dir" : "");
  return 0;
}

/* The watcher's command line; NULL when memory is short. */
static const char **arguments(const start *s, const char *const *config) {
  size_t extra = 0;
  while (config != NULL && config[extra] != NULL) extra++;
  const char **argv = rm_calloc(RM_WATCHER_ARGS + FIXED_ARGS + extra + 1, sizeof *argv);
  if (argv == NULL) return NULL;
  bool keep = s->lock >= 0;
  const char *fixed[FIXED_ARGS] = {
      s->program,         "--port",      "0",  "--unixsocket", s->server->socket,   "--unixsocketperm", "700",
      "--daemonize",      "no",          "--save", "",         "--appendonly",      keep ? "yes" : "no",
      "--dir",            keep ? s->dir : s->server->folder,   "--loglevel",        "notice",           "--logfile",
      "",                 NULL};
  size_t n = rm_watcher_args(argv, s->server->folder);
  for (size_t i = 0; fixed[i] != NULL; i++) argv[n++] = fixed[i];
  for (size_t i = 0; i < extra; i++) argv[n++] = config[i];
  return argv;
}

/* Waiting until it answers. */

static void read_output(start *s) {
  char chunk[512];
  ssize_t n;
  while ((n = read(s->output, chunk, sizeof chunk)) > 0) {
    size_t len = (size_t)n, cap = sizeof s->text - 1;
    if (s->text_len + len > cap) {
      size_t drop = s->text_len + len - cap;
      memmove(s->text, s->text + drop, s->text_len - drop);
      s->text_len -= drop;
    }
    memcpy(s->text + s->text_len, chunk, len);
    s->text_len += len;
  }
  s->text[s->text_len] = '\0';
}

/* Why it ended: the last lines of what it printed tend to say. */
static int fail_ended(start *s, redmoon_error *err) {
  while (s->text_len > 0 && s->text[s->text_len - 1] == '\n') s->text[--s->text_len] = '\0';
  const char *from = s->text_len > 300 ? s->text + s->text_len - 300 : s->text;
  const char *line = from > s->text ? strchr(from, '\n') : NULL;
  if (line != NULL) from = line + 1;
  for (char *p = s->text; *p != '\0'; p++)
    if (*p == '\n') *p = ' ';
  return rm_fail(err, REDMOON_EUNAVAILABLE, "embedded: %s ended while it started: %s", s->program,
                 *from != '\0' ? from : "it printed nothing");
}

/* 1: answered; 0: not yet. */
static int ping(const start *s) {
  static const char request[] = "*1\r\n$4\r\nPING\r\n";
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, s->server->socket, sizeof address.sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return 0;
  int ready = 0;
  ssize_t sent = sizeof request - 1;
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
      send(fd, request, (size_t)sent, MSG_NOSIGNAL) == sent) {
    struct pollfd pollfd = {fd, POLLIN, 0};
    char reply[8] = "";
    if (poll(&pollfd, 1, rm_poll_timeout_ms(rm_clock_now_us(), s->by_us)) == 1 && recv(fd, reply, sizeof reply, 0) > 0)
      ready = reply[0] == '+' || (reply[0] == '-' && strncmp(reply, "-LOADING", 8) != 0);
  }
  close(fd);
  return ready;
}

/* The watcher's first line is the server's pid. */
static void read_pid(redmoon_embedded *server) {
  char line[32];
  ssize_t n = recv(server->leash, line, sizeof line - 1, MSG_DONTWAIT);
  if (n <= 0) return;
  line[n] = '\0';
  server->server = strtoll(line, NULL, 10);
}

static int wait_ready(start *s, redmoon_error *err) {
  for (;;) {
    struct pollfd ended = {s->output, POLLIN, 0};
    poll(&ended, 1, POLL_MS);
    if (ended.revents != 0) read_output(s);
    if ((ended.revents & POLLHUP) != 0) return fail_ended(s, err);
    if (s->server->server == 0) read_pid(s->server);
    if (s->server->server != 0 && ping(s) == 1) return 0;
    if (rm_clock_now_us() >= s->by_us)
      return rm_fail(err, REDMOON_ETIMEOUT, "embedded: %s did not answer PING within %lld ms (start_timeout_ms)",
                     s->program, (long long)s->timeout_ms);
  }
}

/* Start and close. */

static int launch(start *s, const char *const *config, redmoon_error *err) {
  int leash[2] = {-1, -1}, output[2] = {-1, -1}, status = 0;
  const char **argv = arguments(s, config);
  if (argv == NULL) return rm_fail_nomem(err);
  char why[128];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, leash) != 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, output) != 0 ||
      (s->server->watcher = rm_watcher_spawn(argv, leash[1], output[1], s->lock)) < 0) {
    status = rm_fail(err, REDMOON_EUNAVAILABLE, "embedded: the watcher could not be started: %s",
                     rm_errno_text(errno, why, sizeof why));
    s->server->watcher = 0;
    close_fd(&leash[0]);
    close_fd(&output[0]);
  }
  close_fd(&leash[1]);
  close_fd(&output[1]);
  rm_free(argv);
  s->server->leash = leash[0];
  s->output = output[0];
  if (status == 0) fcntl(s->output, F_SETFL, O_NONBLOCK);
  return status;
}

static int start_server(start *s, const redmoon_embedded_options *options, redmoon_error *err) {
  int status = check_config(options->config, err);
  if (status == 0) status = find_program(s, options->server, err);
  if (status == 0 && options->dir != NULL) status = take_dir(s, options->dir, err);
  if (status == 0) status = make_folder(s->server, err);
  if (status == 0) status = launch(s, options->config, err);
  if (status == 0) status = wait_ready(s, err);
  return status;
}

int redmoon_embedded_start(const redmoon_embedded_options *options, redmoon_embedded **out, redmoon_error *err) {
  const redmoon_embedded_options none = REDMOON_EMBEDDED_OPTIONS_INIT;
  if (options == NULL) options = &none;
  *out = NULL;
  int64_t timeout_ms = options->start_timeout_ms == REDMOON_UNSET ? START_TIMEOUT_MS : options->start_timeout_ms;
  if (timeout_ms < 1 || timeout_ms > START_TIMEOUT_MAX_MS)
    return rm_fail(err, REDMOON_ECONFIG, "embedded: option start_timeout_ms is %lld; accepted: 1 to %d",
                   (long long)timeout_ms, START_TIMEOUT_MAX_MS);
  start *s = rm_calloc(1, sizeof *s);
  redmoon_embedded *server = rm_calloc(1, sizeof *server);
  int status = REDMOON_ENOMEM;
  if (server != NULL) server->leash = -1; /* 0 would be the host's */
  if (s == NULL || server == NULL) {
    rm_fail_nomem(err);
    goto out;
  }
  server->owner = getpid();
  s->output = s->lock = -1;
  s->server = server;
  s->timeout_ms = timeout_ms;
  s->by_us = rm_deadline_us(rm_clock_now_us(), timeout_ms);
  status = start_server(s, options, err);
  close_fd(&s->output);
  close_fd(&s->lock);
  if (status == 0) {
    rm_error_clear(err);
    *out = server;
    server = NULL;
  }
out:
  redmoon_embedded_close(server);
  rm_free(s);
  return status;
}

const char *redmoon_embedded_url(const redmoon_embedded *server) { return server->url; }

int64_t redmoon_embedded_pid(const redmoon_embedded *server) { return server->server; }

void redmoon_embedded_close(redmoon_embedded *server) {
  if (server == NULL) return;
  if (server->owner == getpid()) {
    if (server->watcher > 0) {
      shutdown(server->leash, SHUT_RDWR); /* reaches the watcher even if a forked copy holds the leash too */
      while (waitpid(server->watcher, NULL, 0) < 0 && errno == EINTR) {
      }
    }
    if (server->folder[0] != '\0') rmdir(server->folder); /* there still if no watcher ran */
  }
  close_fd(&server->leash);
  rm_free(server);
}
