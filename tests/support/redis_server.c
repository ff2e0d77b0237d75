/* SPDX-License-Identifier: MIT */
/* Starts, asks and stops a real server. */
#include "support/redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { START_LIMIT_MS = 20000, MAX_ARGS = 96, PORT_ATTEMPTS = 5 };

struct redis_server {
  char dir[80], path[100], url[120], log[100];
  int port, tls_port, bus_port;
  pid_t pid;
  bool frozen;
  char *args[MAX_ARGS];
  size_t arg_count;
};

static void die(const char *what) {
  fprintf(stderr, "redis_server: %s: %s\n", what, strerror(errno));
  abort();
}

static long long now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void show_log(const redis_server *s) {
  char line[512];
  FILE *file = fopen(s->log, "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) fputs(line, stderr);
  if (file != NULL) fclose(file);
}

/* Arguments. */

static void add(redis_server *s, const char *text) {
  if (s->arg_count + 1 >= MAX_ARGS) die("too many arguments");
  s->args[s->arg_count] = strdup(text);
  if (s->args[s->arg_count++] == NULL) die("memory");
}

static void add_pair(redis_server *s, const char *name, const char *value) {
  add(s, name);
  add(s, value);
}

static void add_number(redis_server *s, const char *name, int value) {
  char text[16];
  snprintf(text, sizeof text, "%d", value);
  add_pair(s, name, text);
}

static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &len) != 0)
    die("looking for a free port");
  close(fd);
  return ntohs(address.sin_port);
}

static void build_args(redis_server *s, const redis_server_options *o) {
  const char *program = getenv("REDMOON_TEST_SERVER");
  add(s, program != NULL && program[0] != '\0' ? program : "redis-server");
  if (o->sentinel != NULL) {
    add(s, o->sentinel);
    add(s, "--sentinel");
  }
  s->port = o->tcp ? free_port() : 0;
  add_number(s, "--port", s->port);
  add_pair(s, "--bind", "127.0.0.1");
  add_pair(s, "--unixsocket", s->path);
  add_pair(s, "--unixsocketperm", "700");
  add_pair(s, "--dir", s->dir);
  add_pair(s, "--save", "");
  add_pair(s, "--appendonly", "no");
  add_pair(s, "--logfile", s->log);
  add_pair(s, "--daemonize", "no");
  if (o->tls_cert != NULL) {
    s->tls_port = free_port();
    add_number(s, "--tls-port", s->tls_port);
    add_pair(s, "--tls-cert-file", o->tls_cert);
    add_pair(s, "--tls-key-file", o->tls_key);
    if (o->tls_ca != NULL) add_pair(s, "--tls-ca-cert-file", o->tls_ca);
    add_pair(s, "--tls-auth-clients", o->tls_clients ? "yes" : "no");
  }
  if (o->cluster) {
    add_pair(s, "--cluster-enabled", "yes");
    s->bus_port = free_port();
    add_number(s, "--cluster-port", s->bus_port);
  }
  for (size_t i = 0; o->args != NULL && o->args[i] != NULL; i++) add(s, o->args[i]);
}

static void free_args(redis_server *s) {
  for (size_t i = 0; i < s->arg_count; i++) free(s->args[i]);
  memset(s->args, 0, sizeof s->args);
  s->arg_count = 0;
}

/* Talking. */

static int connect_path(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/* One line without its end into `out`; false at the end of the stream. */
static bool read_line(int fd, char *out, size_t cap) {
  size_t len = 0;
  char c;
  while (recv(fd, &c, 1, 0) == 1) {
    if (c == '\n') {
      out[len > 0 && out[len - 1] == '\r' ? len - 1 : len] = '\0';
      return true;
    }
    if (len + 1 < cap) out[len++] = c;
  }
  return false;
}

static bool say(int fd, const char *command, char *line, size_t cap) {
  size_t len = strlen(command);
  return send(fd, command, len, MSG_NOSIGNAL) == (ssize_t)len && send(fd, "\r\n", 2, MSG_NOSIGNAL) == 2 &&
         read_line(fd, line, cap);
}

/* NULL: the stream ended. */
static char *read_bulk(int fd, size_t len) {
  char *text = calloc(1, len + 1);
  if (text == NULL) die("memory");
  for (size_t got = 0; got < len;) {
    ssize_t n = recv(fd, text + got, len - got, 0);
    if (n <= 0) {
      free(text);
      return NULL;
    }
    got += (size_t)n;
  }
  return text;
}

char *redis_server_try(const redis_server *s, const char *password, const char *command) {
  int fd = connect_path(s->path);
  if (fd < 0) return NULL;
  char line[1024], auth[300], *reply = NULL;
  if (password != NULL) snprintf(auth, sizeof auth, "AUTH %s", password);
  bool said = (password == NULL || say(fd, auth, line, sizeof line)) && say(fd, command, line, sizeof line);
  if (said) reply = line[0] == '$' && line[1] != '-' ? read_bulk(fd, strtoul(line + 1, NULL, 10)) : strdup(line);
  close(fd);
  return reply;
}

char *redis_server_ask(const redis_server *s, const char *password, const char *command) {
  char *reply = redis_server_try(s, password, command);
  if (reply == NULL) die(command);
  return reply;
}

/* An answer of any kind but LOADING: it is up. */
static bool answers(const redis_server *s) {
  int fd = connect_path(s->path);
  if (fd < 0) return false;
  char line[256] = "";
  bool up = say(fd, "PING", line, sizeof line) && strncmp(line, "-LOADING", 8) != 0;
  close(fd);
  return up;
}

/* The process. */

static void exec_server(redis_server *s, pid_t parent) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(126);
#endif
  int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(null, 1);
  execvp(s->args[0], s->args);
  static const char text[] = "redis_server: cannot run the server program (set REDMOON_TEST_SERVER)\n";
  if (write(2, text, sizeof text - 1) < 0) _exit(125);
  _exit(127);
}

/* False when it ended by itself. */
static bool launch(redis_server *s) {
  pid_t parent = getpid();
  unlink(s->path);
  s->pid = fork();
  if (s->pid < 0) die("fork");
  if (s->pid == 0) exec_server(s, parent);
  long long limit = now_ms() + START_LIMIT_MS;
  while (!answers(s)) {
    int status;
    if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
      s->pid = 0;
      return false;
    }
    if (now_ms() > limit) {
      show_log(s);
      errno = ETIMEDOUT;
      die("the server does not answer");
    }
    poll(NULL, 0, 2);
  }
  return true;
}

redis_server *redis_server_start(const redis_server_options *options) {
  static const redis_server_options none = {0};
  if (options == NULL) options = &none;
  redis_server *s = calloc(1, sizeof *s);
  if (s == NULL) die("memory");
  const char *tmp = getenv("TMPDIR");
  snprintf(s->dir, sizeof s->dir, "%.60s/redis-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(s->dir) == NULL) die("making a folder");
  snprintf(s->path, sizeof s->path, "%s/s", s->dir);
  snprintf(s->url, sizeof s->url, "unix://%s", s->path);
  snprintf(s->log, sizeof s->log, "%s/log", s->dir);
  /* Between finding a free port and taking it somebody else may have taken it. */
  int attempts = options->tcp || options->cluster || options->tls_cert != NULL ? PORT_ATTEMPTS : 1;
  for (int i = 0; i < attempts && s->pid == 0; i++) {
    free_args(s);
    build_args(s, options);
    if (launch(s)) return s;
  }
  show_log(s);
  errno = ECHILD;
  die("the server ended at once");
  return NULL;
}

void redis_server_kill(redis_server *s) {
  if (s->pid == 0) return;
  kill(s->pid, SIGKILL);
  while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
  }
  s->pid = 0;
  s->frozen = false;
}

void redis_server_freeze(redis_server *s, bool frozen) {
  if (s->pid == 0 || s->frozen == frozen) return; /* 0: the signal would go to all that were started together with us */
  if (kill(s->pid, frozen ? SIGSTOP : SIGCONT) != 0) die("kill");
  s->frozen = frozen;
  int status = 0;
  while (frozen && waitpid(s->pid, &status, WUNTRACED) < 0)
    if (errno != EINTR) die("waitpid");
  if (frozen && !WIFSTOPPED(status)) die("a server to be stopped has ended");
}

bool redis_server_runs(const redis_server *s) { return s->pid != 0; }

void redis_server_restart(redis_server *s) {
  redis_server_kill(s);
  if (launch(s)) return;
  show_log(s);
  errno = ECHILD;
  die("the server did not come back");
}

/* Removes the folder with what the server left in it; `rm` is the shortest way through its subfolders. */
static void remove_dir(const char *dir) {
  pid_t pid = fork();
  if (pid == 0) {
    execlp("rm", "rm", "-rf", dir, (char *)NULL);
    _exit(127);
  }
  while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
  }
}

void redis_server_stop(redis_server *s) {
  if (s == NULL) return;
  redis_server_kill(s);
  remove_dir(s->dir);
  free_args(s);
  free(s);
}

const char *redis_server_path(const redis_server *s) { return s->path; }
const char *redis_server_url(const redis_server *s) { return s->url; }
const char *redis_server_dir(const redis_server *s) { return s->dir; }
int redis_server_port(const redis_server *s) { return s->port; }
int redis_server_tls_port(const redis_server *s) { return s->tls_port; }
int redis_server_bus_port(const redis_server *s) { return s->bus_port; }
