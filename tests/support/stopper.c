/* SPDX-License-Identifier: MIT */
/* One thread polls all pairs of sockets; a pipe tells it what to do, another one that it is done. */
#include "support/stopper.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PAIRS = 256, BYTES = 65536 };

typedef struct pair {
  int client, server;
  bool swallowed;
} pair;

struct stopper {
  char dir[64], path[80], url[96], server[108];
  int listener, orders[2], done[2];
  pair pairs[PAIRS];
  size_t count;
  pthread_t thread;
  char bytes[BYTES];
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

static void end_pair(stopper *s, size_t i) {
  close(s->pairs[i].client);
  close(s->pairs[i].server);
  s->pairs[i] = s->pairs[--s->count];
}

static void take(stopper *s) {
  struct sockaddr_un address;
  int client = accept(s->listener, NULL, NULL);
  if (client < 0) return;
  int server = unix_socket(s->server, &address);
  if (s->count == PAIRS || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
    close(server);
    close(client);
    return;
  }
  s->pairs[s->count++] = (pair){client, server, false};
}

static bool forward(stopper *s, int from, int to) {
  ssize_t n = recv(from, s->bytes, sizeof s->bytes, MSG_DONTWAIT);
  if (n <= 0) return false;
  for (ssize_t done = 0, sent; done < n; done += sent)
    if ((sent = send(to, s->bytes + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0) return false;
  return true;
}

/* False: the end. */
static bool obey(stopper *s) {
  char order;
  if (read(s->orders[0], &order, 1) != 1) return false;
  if (order == 'c')
    while (s->count > 0) end_pair(s, s->count - 1);
  for (size_t i = 0; i < s->count; i++) s->pairs[i].swallowed = true;
  if (write(s->done[1], &order, 1) != 1) die("write");
  return true;
}

static void *serve(void *arg) {
  stopper *s = arg;
  for (;;) {
    struct pollfd fds[2 + 2 * PAIRS] = {{.fd = s->orders[0], .events = POLLIN}, {.fd = s->listener, .events = POLLIN}};
    size_t count = s->count;
    for (size_t i = 0; i < count; i++) { /* of one that is swallowed only the client's end is of interest */
      fds[2 + 2 * i] = (struct pollfd){.fd = s->pairs[i].client, .events = s->pairs[i].swallowed ? 0 : POLLIN};
      fds[3 + 2 * i] = (struct pollfd){.fd = s->pairs[i].swallowed ? -1 : s->pairs[i].server, .events = POLLIN};
    }
    if (poll(fds, 2 + 2 * count, -1) < 0) continue;
    for (size_t i = count; i-- > 0;) {
      pair *one = &s->pairs[i];
      bool open = fds[2 + 2 * i].revents == 0 || (!one->swallowed && forward(s, one->client, one->server));
      if (open && fds[3 + 2 * i].revents != 0) open = forward(s, one->server, one->client);
      if (!open) end_pair(s, i);
    }
    if (fds[0].revents != 0 && !obey(s)) return NULL;
    if (fds[1].revents != 0) take(s);
  }
}

stopper *stopper_start(const char *server_path) {
  struct sockaddr_un address;
  stopper *s = calloc(1, sizeof *s);
  if (s == NULL) die("calloc");
  snprintf(s->dir, sizeof s->dir, "/tmp/redmoon-stopper-XXXXXX");
  if (mkdtemp(s->dir) == NULL) die("mkdtemp");
  snprintf(s->path, sizeof s->path, "%s/s", s->dir);
  snprintf(s->url, sizeof s->url, "unix://%s", s->path);
  snprintf(s->server, sizeof s->server, "%s", server_path);
  s->listener = unix_socket(s->path, &address);
  if (bind(s->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(s->listener, 64) != 0) die("listen");
  if (pipe(s->orders) != 0 || pipe(s->done) != 0) die("pipe");
  if (pthread_create(&s->thread, NULL, serve, s) != 0) die("pthread_create");
  return s;
}

const char *stopper_url(const stopper *s) { return s->url; }

static void order(stopper *s, char what) {
  if (write(s->orders[1], &what, 1) != 1 || read(s->done[0], &what, 1) != 1) die("order");
}

void stopper_cut(stopper *s) { order(s, 'c'); }
void stopper_swallow(stopper *s) { order(s, 's'); }

void stopper_stop(stopper *s) {
  close(s->orders[1]);
  pthread_join(s->thread, NULL);
  while (s->count > 0) end_pair(s, s->count - 1);
  close(s->orders[0]);
  close(s->done[0]);
  close(s->done[1]);
  close(s->listener);
  unlink(s->path);
  rmdir(s->dir);
  free(s);
}
