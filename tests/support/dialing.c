/* SPDX-License-Identifier: MIT */
/* The smallest blocking driver of a dial. */
#include "support/dialing.h"

#include "base/clock.h"
#include "base/random.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dialing_init(dialing *d) {
  *d = (dialing){.timeout_ms = 5000};
  if (rm_random_init() != 0) abort();
  d->config.protocol = 3;
  d->config.read_timeout_ms = d->config.write_timeout_ms = 2000;
  d->config.max_reply_size = 1 << 20;
  d->dialer.config = &d->config;
  d->dialer.resolver = rm_resolver_new();
  if (d->dialer.resolver == NULL) abort();
}

void dialing_fini(dialing *d) {
  rm_resolver_unref(d->dialer.resolver);
  rm_secret_fini(&d->config.username);
  rm_secret_fini(&d->config.password);
  free(d->address.host);
  free(d->address.path);
  free(d->config.client_name);
}

static char *copy(const char *text) {
  char *out = strdup(text);
  if (out == NULL) abort();
  return out;
}

void dialing_to_path(dialing *d, const char *path) {
  free(d->address.host);
  free(d->address.path);
  d->address = (rm_address){.path = copy(path)};
}

void dialing_to_port(dialing *d, const char *host, int port) {
  free(d->address.host);
  free(d->address.path);
  d->address = (rm_address){.host = copy(host), .port = port};
}

static void set(rm_secret *secret, const char *text) {
  rm_secret_fini(secret);
  if (text != NULL && rm_secret_set(secret, text, strlen(text)) != 0) abort();
}

void dialing_login(dialing *d, const char *username, const char *password) {
  set(&d->config.username, username);
  set(&d->config.password, password);
}

void dialing_wait(const rm_wants *wants, int limit_ms) {
  struct pollfd p = {.fd = wants->fd};
  if (wants->events & REDMOON_WANT_READ) p.events |= POLLIN;
  if (wants->events & REDMOON_WANT_WRITE) p.events |= POLLOUT;
  int timeout = rm_poll_timeout_ms(rm_clock_now_us(), wants->until_us);
  if (limit_ms >= 0 && (timeout < 0 || timeout > limit_ms)) timeout = limit_ms;
  (void)poll(&p, 1, timeout);
}

int dialing_run(dialing *d, rm_conn **out, redmoon_error *err) {
  rm_connect *connect = NULL;
  *out = NULL;
  int64_t now = rm_clock_now_us();
  int status = rm_connect_start(&d->dialer, &d->address, now, rm_deadline_us(now, d->timeout_ms), &connect, err);
  if (status != 0) return status;
  rm_wants wants = {.fd = -1};
  while ((status = rm_connect_step(connect, rm_clock_now_us(), &wants, out, err)) == RM_WAIT)
    dialing_wait(&wants, -1);
  rm_connect_free(connect);
  return status == RM_DONE ? 0 : status;
}

ssize_t dialing_receive(rm_conn *conn) {
  ssize_t n;
  rm_wants wants = {.fd = conn->fd, .events = REDMOON_WANT_READ, .until_us = rm_clock_now_us() + 10000000};
  while ((n = rm_conn_receive(conn, false, NULL)) == RM_IO_AGAIN_READ && rm_clock_now_us() < wants.until_us)
    dialing_wait(&wants, -1);
  return n;
}

const char *dialing_ask(rm_conn *conn, const char *request) {
  static char text[1024];
  if (rm_conn_send(conn, request, strlen(request), NULL, NULL) != (ssize_t)strlen(request)) return NULL;
  rm_arena arena = {0};
  redmoon_reply *reply = NULL;
  int found;
  while ((found = rm_conn_next(conn, &arena, &reply, NULL)) == 0)
    if (dialing_receive(conn) <= 0) break;
  const char *bytes = found == 1 ? redmoon_reply_string(reply, NULL) : NULL;
  if (bytes != NULL) snprintf(text, sizeof text, "%s", bytes);
  rm_arena_fini(&arena);
  return bytes != NULL ? text : NULL;
}

int dialing_open_fds(void) {
  DIR *dir = opendir("/proc/self/fd");
  if (dir == NULL) abort();
  int count = 0;
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}
