/* SPDX-License-Identifier: MIT */
/* One thread polls all pairs of sockets.  An answer is what one read from the server yields: its callers send one command at a
 * time. */
#include "support/lossy_proxy.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAIRS = 64, BYTES = 65536 };

typedef struct pair {
  int client, server;
  bool greeted; /* the handshake was answered */
} pair;

struct lossy_proxy {
  char dir[64], path[80], server[108];
  int listener, stop[2];
  unsigned every, count;
  atomic_size_t lost;
  pair pairs[PAIRS];
  size_t pair_count;
  pthread_t thread;
};

static void die(const char *what) {
  perror(what);
  abort();
}

static int unix_socket(const char *path, struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

static void take(lossy_proxy *p) {
  struct sockaddr_un address;
  int client = accept(p->listener, NULL, NULL);
  if (client < 0) return;
  int server = unix_socket(p->server, &address);
  if (p->pair_count == PAIRS || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
    close(server);
    close(client);
    return;
  }
  p->pairs[p->pair_count++] = (pair){client, server, false};
}

static bool send_all(int fd, const char *bytes, size_t len) {
  while (len > 0) {
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes += n;
    len -= (size_t)n;
  }
  return true;
}

/* Moves what one side said to the other.  False: the pair has ended. */
static bool forward(lossy_proxy *p, pair *one, bool from_server) {
  static _Thread_local char bytes[BYTES];
  ssize_t n = recv(from_server ? one->server : one->client, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n <= 0) return false;
  if (from_server && one->greeted && ++p->count % p->every == 0) {
    atomic_fetch_add(&p->lost, 1);
    return false;
  }
  one->greeted |= from_server;
  return send_all(from_server ? one->client : one->server, bytes, (size_t)n);
}

static void *serve(void *arg) {
  lossy_proxy *p = arg;
  for (;;) {
    struct pollfd fds[2 + 2 * PAIRS] = {{.fd = p->stop[0], .events = POLLIN}, {.fd = p->listener, .events = POLLIN}};
    size_t count = p->pair_count;
    for (size_t i = 0; i < count; i++) {
      fds[2 + 2 * i] = (struct pollfd){.fd = p->pairs[i].client, .events = POLLIN};
      fds[3 + 2 * i] = (struct pollfd){.fd = p->pairs[i].server, .events = POLLIN};
    }
    if (poll(fds, 2 + 2 * count, -1) < 0) continue;
    if (fds[0].revents != 0) return NULL;
    for (size_t i = count; i-- > 0;) {
      bool open = true;
      if (fds[2 + 2 * i].revents != 0) open = forward(p, &p->pairs[i], false);
      if (open && fds[3 + 2 * i].revents != 0) open = forward(p, &p->pairs[i], true);
      if (open) continue;
      close(p->pairs[i].client);
      close(p->pairs[i].server);
      p->pairs[i] = p->pairs[--p->pair_count];
    }
    if (fds[1].revents != 0) take(p);
  }
}

lossy_proxy *lossy_proxy_start(const char *server_path, unsigned every) {
  struct sockaddr_un address;
  lossy_proxy *p = calloc(1, sizeof *p);
  if (p == NULL) die("calloc");
  p->every = every;
  snprintf(p->server, sizeof p->server, "%s", server_path);
  snprintf(p->dir, sizeof p->dir, "/tmp/redmoon-proxy-XXXXXX");
  if (mkdtemp(p->dir) == NULL) die("mkdtemp");
  snprintf(p->path, sizeof p->path, "%s/s", p->dir);
  p->listener = unix_socket(p->path, &address);
  if (bind(p->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(p->listener, 64) != 0) die("listen");
  if (pipe(p->stop) != 0 || pthread_create(&p->thread, NULL, serve, p) != 0) die("thread");
  return p;
}

const char *lossy_proxy_path(const lossy_proxy *p) { return p->path; }

size_t lossy_proxy_lost(const lossy_proxy *p) { return atomic_load(&p->lost); }

void lossy_proxy_stop(lossy_proxy *p) {
  if (p == NULL) return;
  close(p->stop[1]);
  pthread_join(p->thread, NULL);
  for (size_t i = 0; i < p->pair_count; i++) {
    close(p->pairs[i].client);
    close(p->pairs[i].server);
  }
  close(p->stop[0]);
  close(p->listener);
  unlink(p->path);
  rmdir(p->dir);
  free(p);
}
