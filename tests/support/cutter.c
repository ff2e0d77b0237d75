/* SPDX-License-Identifier: MIT */
/* One thread and poll(): fds 2 i and 2 i + 1 are the two ends of link i; bytes go from each to the other. */
#include "support/cutter.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

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

enum { LINKS = 32, CLIENT = 0, SERVER = 1 };

struct cutter {
  pthread_t thread;
  atomic_int lose;
  int listener, stop[2];
  int ends[LINKS][2];
  bool script[LINKS]; /* the last request was a script */
  char upstream[108], dir[32], path[64], url[80];
};

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static void drop(cutter *c, int link) {
  close(c->ends[link][CLIENT]);
  close(c->ends[link][SERVER]);
  c->ends[link][CLIENT] = c->ends[link][SERVER] = -1;
  c->script[link] = false;
}

static void welcome(cutter *c) {
  int client = accept(c->listener, NULL, NULL);
  int server = connect_to(c->upstream);
  for (int i = 0; i < LINKS && client >= 0 && server >= 0; i++) {
    if (c->ends[i][CLIENT] >= 0) continue;
    c->ends[i][CLIENT] = client;
    c->ends[i][SERVER] = server;
    return;
  }
  if (client >= 0) close(client);
  if (server >= 0) close(server);
}

static bool holds(const char *bytes, size_t len, const char *word) {
  size_t word_len = strlen(word);
  for (size_t i = 0; i + word_len <= len; i++)
    if (memcmp(bytes + i, word, word_len) == 0) return true;
  return false;
}

static void hand_on(cutter *c, int link, int from) {
  char bytes[16384];
  ssize_t n = recv(c->ends[link][from], bytes, sizeof bytes, 0);
  if (n <= 0) {
    drop(c, link);
    return;
  }
  size_t len = (size_t)n;
  if (from == CLIENT && holds(bytes, len, "EVAL")) c->script[link] = true;
  if (from == SERVER && c->script[link]) {
    c->script[link] = false;
    bool answered = !holds(bytes, len, "NOSCRIPT");
    if (answered && atomic_load(&c->lose) > 0) {
      atomic_fetch_sub(&c->lose, 1);
      drop(c, link);
      return;
    }
  }
  for (size_t sent = 0; sent < len;) {
    n = send(c->ends[link][1 - from], bytes + sent, len - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      drop(c, link);
      return;
    }
    sent += (size_t)n;
  }
}

static void *run(void *ctx) {
  cutter *c = ctx;
  for (;;) {
    struct pollfd fds[2 * LINKS + 2];
    for (int i = 0; i < 2 * LINKS; i++) fds[i] = (struct pollfd){c->ends[i / 2][i % 2], POLLIN, 0};
    fds[2 * LINKS] = (struct pollfd){c->listener, POLLIN, 0};
    fds[2 * LINKS + 1] = (struct pollfd){c->stop[0], POLLIN, 0};
    if (poll(fds, 2 * LINKS + 2, -1) < 0) continue;
    if (fds[2 * LINKS + 1].revents != 0) return NULL;
    for (int i = 0; i < 2 * LINKS; i++)
      if (fds[i].revents != 0 && c->ends[i / 2][i % 2] == fds[i].fd) hand_on(c, i / 2, i % 2);
    if (fds[2 * LINKS].revents != 0) welcome(c);
  }
}

cutter *cutter_start(const char *server_url) {
  cutter *c = calloc(1, sizeof *c);
  assert_non_null(c);
  for (int i = 0; i < LINKS; i++) c->ends[i][CLIENT] = c->ends[i][SERVER] = -1;
  assert_memory_equal(server_url, "unix://", 7);
  snprintf(c->upstream, sizeof c->upstream, "%s", server_url + 7);
  snprintf(c->dir, sizeof c->dir, "/tmp/redmoon-cut-XXXXXX");
  assert_non_null(mkdtemp(c->dir));
  snprintf(c->path, sizeof c->path, "%s/s", c->dir);
  snprintf(c->url, sizeof c->url, "unix://%s", c->path);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", c->path);
  c->listener = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_int_equal(bind(c->listener, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(c->listener, LINKS), 0);
  assert_int_equal(pipe(c->stop), 0);
  assert_int_equal(pthread_create(&c->thread, NULL, run, c), 0);
  return c;
}

const char *cutter_url(const cutter *c) { return c->url; }
void cutter_lose(cutter *c, int count) { atomic_store(&c->lose, count); }
int cutter_left(cutter *c) { return atomic_load(&c->lose); }

void cutter_stop(cutter *c) {
  assert_int_equal(write(c->stop[1], "x", 1), 1);
  assert_int_equal(pthread_join(c->thread, NULL), 0);
  for (int i = 0; i < LINKS; i++)
    if (c->ends[i][CLIENT] >= 0) drop(c, i);
  close(c->listener);
  close(c->stop[0]);
  close(c->stop[1]);
  unlink(c->path);
  rmdir(c->dir);
  free(c);
}
