/* SPDX-License-Identifier: MIT */
/* One connection of the scripted server, as its script sees it. */
#include "support/fake_peer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

size_t fake_index(const fake_peer *peer) { return peer->index; }

void fake_fail(fake_peer *peer, const char *text) {
  fake_server *s = peer->server;
  pthread_mutex_lock(&s->mutex);
  if (s->failure[0] == '\0' && !s->stopping)
    snprintf(s->failure, sizeof s->failure, "connection %zu: %s", peer->index, text);
  pthread_mutex_unlock(&s->mutex);
}

/* Bytes. */

void fake_append(fake_bytes *b, const void *ptr, size_t len) {
  if (b->len + len > b->cap) {
    b->cap = (b->len + len) * 2 + 64;
    b->ptr = fake_grow(b->ptr, b->cap);
  }
  if (len > 0) memcpy(b->ptr + b->len, ptr, len);
  b->len += len;
}

void fake_append_text(fake_bytes *b, const char *text) { fake_append(b, text, strlen(text)); }

void fake_append_bulk(fake_bytes *b, const void *ptr, size_t len) {
  char header[32];
  snprintf(header, sizeof header, "$%zu\r\n", len);
  fake_append_text(b, header);
  fake_append(b, ptr, len);
  fake_append_text(b, "\r\n");
}

/* The socket. */

/* Waits for the socket, or only for time with events < 0.  False: the server stops, or time is over. */
static bool await(fake_peer *peer, int events, int timeout_ms) {
  struct pollfd p[] = {{.fd = peer->server->stop_fd, .events = POLLIN},
                       {.fd = events < 0 ? -1 : peer->fd, .events = (short)(events < 0 ? 0 : events)}};
  int n;
  do n = poll(p, 2, timeout_ms);
  while (n < 0 && errno == EINTR);
  return n > 0 && p[0].revents == 0;
}

/* What a TLS call waits for; 0: nothing, it has failed. */
static int tls_events(const fake_peer *peer, int result) {
  int kind = SSL_get_error(peer->ssl, result);
  return kind == SSL_ERROR_WANT_READ ? POLLIN : kind == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

bool fake_accept_tls(fake_peer *peer) {
  peer->ssl = SSL_new(peer->server->tls);
  if (peer->ssl == NULL || SSL_set_fd(peer->ssl, peer->fd) != 1) fake_die("SSL_new");
  int result;
  while ((result = SSL_accept(peer->ssl)) != 1) {
    int events = tls_events(peer, result);
    if (events == 0 || !await(peer, events, -1)) return false;
  }
  return true;
}

static size_t receive_any(fake_peer *peer, char *space, size_t room) {
  while (peer->fd >= 0) {
    int events = POLLIN;
    if (peer->ssl != NULL) {
      size_t got = 0;
      int result = SSL_read_ex(peer->ssl, space, room, &got);
      if (result > 0) return got;
      events = tls_events(peer, result);
    } else {
      ssize_t n = recv(peer->fd, space, room, 0);
      if (n > 0) return (size_t)n;
      if (n == 0 || (errno != EAGAIN && errno != EINTR)) events = 0;
    }
    if (events == 0 || !await(peer, events, -1)) return 0;
  }
  return 0;
}

/* > 0: bytes; 0: the end, a broken connection, the limit, or the server stops. */
static size_t receive(fake_peer *peer, char *space, size_t room) {
  if (!peer->limited) return receive_any(peer, space, room);
  size_t n = peer->limit == 0 ? 0 : receive_any(peer, space, room < peer->limit ? room : peer->limit);
  peer->limit -= n;
  return n;
}

size_t fake_receive(fake_peer *peer, void *space, size_t room) { return receive(peer, space, room); }

static bool transmit(fake_peer *peer, const char *ptr, size_t len) {
  while (len > 0 && peer->fd >= 0) {
    int events = POLLOUT;
    size_t sent = 0;
    if (peer->ssl != NULL) {
      int result = SSL_write_ex(peer->ssl, ptr, len, &sent);
      if (result <= 0) events = tls_events(peer, result);
    } else {
      ssize_t n = send(peer->fd, ptr, len, MSG_NOSIGNAL);
      if (n >= 0) sent = (size_t)n;
      else if (errno != EAGAIN && errno != EINTR) events = 0;
    }
    ptr += sent;
    len -= sent;
    if (sent == 0 && (events == 0 || !await(peer, events, -1))) return false;
  }
  return len == 0 && peer->fd >= 0;
}

static void end_as(fake_peer *peer, fake_end end) {
  if (end == FAKE_RESET) fake_reset(peer);
  if (end == FAKE_HALF_CLOSE) {
    fake_half_close(peer);
    fake_expect_end(peer);
  }
  if (end == FAKE_STALL) fake_stall(peer);
  fake_close(peer);
}

void fake_cut(fake_peer *peer, size_t count, fake_end end) {
  peer->cut = (long)count;
  peer->cut_end = end;
}

bool fake_send(fake_peer *peer, const void *ptr, size_t len) {
  if (peer->cut < 0) return transmit(peer, ptr, len);
  size_t allowed = len < (size_t)peer->cut ? len : (size_t)peer->cut;
  bool sent = transmit(peer, ptr, allowed);
  peer->cut -= (long)allowed;
  if (peer->cut > 0) return sent;
  end_as(peer, peer->cut_end);
  return false;
}

bool fake_text(fake_peer *peer, const char *text) { return fake_send(peer, text, strlen(text)); }

bool fake_drip(fake_peer *peer, const void *ptr, size_t len, int pause_ms) {
  for (size_t i = 0; i < len; i++) {
    if (!fake_send(peer, (const char *)ptr + i, 1)) return false;
    if (pause_ms > 0) await(peer, -1, pause_ms);
  }
  return true;
}

void fake_half_close(fake_peer *peer) {
  if (peer->fd >= 0) shutdown(peer->fd, SHUT_WR);
}

void fake_close(fake_peer *peer) {
  SSL_free(peer->ssl);
  peer->ssl = NULL;
  if (peer->fd >= 0) close(peer->fd);
  peer->fd = -1;
}

void fake_reset(fake_peer *peer) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  if (peer->fd >= 0) setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fake_close(peer);
}

void fake_stall(fake_peer *peer) { await(peer, peer->fd >= 0 ? 0 : -1, -1); }

bool fake_update_keys(fake_peer *peer) {
  if (peer->ssl == NULL || SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED) != 1) return false;
  int result;
  while ((result = SSL_do_handshake(peer->ssl)) != 1) {
    int events = tls_events(peer, result);
    if (events == 0 || !await(peer, events, -1)) return false;
  }
  return true;
}

bool fake_await_release(fake_peer *peer) {
  fake_server *s = peer->server;
  pthread_mutex_lock(&s->mutex);
  while (s->releases == 0 && !s->stopping) pthread_cond_wait(&s->changed, &s->mutex);
  bool released = s->releases > 0;
  if (released) s->releases--;
  pthread_mutex_unlock(&s->mutex);
  return released;
}

void fake_limit(fake_peer *peer, size_t count) {
  peer->limited = true;
  peer->limit = count;
}

bool fake_end_limit(fake_peer *peer) {
  bool reached = peer->limited && peer->limit == 0;
  peer->limited = false;
  return reached;
}

bool fake_expect_end(fake_peer *peer) {
  char space[4096];
  while (receive(peer, space, sizeof space) > 0) {
  }
  pthread_mutex_lock(&peer->server->mutex);
  bool stopping = peer->server->stopping;
  pthread_mutex_unlock(&peer->server->mutex);
  return !stopping;
}

/* Commands. */

/* Reads "<kind><number>\r\n" at *at.  1, 0 (more bytes are needed), -1 (something else). */
static int parse_number(const fake_bytes *in, size_t *at, char kind, size_t *out) {
  if (*at >= in->len) return 0;
  if (in->ptr[*at] != kind) return -1;
  const char *end = memchr(in->ptr + *at, '\n', in->len - *at);
  if (end == NULL) return in->len - *at < 32 ? 0 : -1;
  *out = strtoul(in->ptr + *at + 1, NULL, 10);
  *at = (size_t)(end - in->ptr) + 1;
  return 1;
}

static int parse_arg(const fake_bytes *in, size_t *at, fake_command *c) {
  size_t len = 0;
  int found = parse_number(in, at, '$', &len);
  if (found <= 0) return found;
  if (in->len - *at < len + 2) return 0;
  c->argv = fake_grow(c->argv, (c->argc + 1) * sizeof *c->argv);
  c->lens = fake_grow(c->lens, (c->argc + 1) * sizeof *c->lens);
  char *copy = fake_grow(NULL, len + 1);
  memcpy(copy, in->ptr + *at, len);
  copy[len] = '\0';
  c->argv[c->argc] = copy;
  c->lens[c->argc++] = len;
  *at += len + 2;
  return 1;
}

static void free_command(fake_command *c) {
  for (size_t i = 0; i < c->argc; i++) free(c->argv[i]);
  free(c->argv);
  free(c->lens);
  free(c);
}

/* Takes one whole command from the front of the buffer.  1, 0 or -1. */
static int parse_command(fake_peer *peer, fake_command **out) {
  size_t at = 0, count = 0;
  int found = parse_number(&peer->in, &at, '*', &count);
  if (found <= 0) return found;
  fake_command *c = fake_grow(NULL, sizeof *c);
  *c = (fake_command){.peer = peer->index};
  while (c->argc < count && found > 0) found = parse_arg(&peer->in, &at, c);
  if (found <= 0 || count == 0) {
    free_command(c);
    return count == 0 ? -1 : found;
  }
  memmove(peer->in.ptr, peer->in.ptr + at, peer->in.len - at);
  peer->in.len -= at;
  *out = c;
  return 1;
}

static void record(fake_server *s, fake_command *command) {
  pthread_mutex_lock(&s->mutex);
  s->commands = fake_grow(s->commands, (s->command_count + 1) * sizeof *s->commands);
  s->commands[s->command_count++] = command;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}

static bool next_command(fake_peer *peer, const fake_command **out) {
  fake_command *command = NULL;
  int found;
  while ((found = parse_command(peer, &command)) == 0) {
    char space[16384];
    size_t n = receive(peer, space, sizeof space);
    if (n == 0) return false;
    fake_append(&peer->in, space, n);
  }
  if (found < 0) {
    fake_fail(peer, "received something that is not a RESP command");
    return false;
  }
  record(peer->server, command);
  *out = command;
  return true;
}

bool fake_next(fake_peer *peer, const fake_command **out) {
  while (next_command(peer, out)) {
    fake_bytes reply = {0};
    if (!peer->answers_handshake || !fake_answer_handshake(peer, *out, &reply)) return true;
    bool sent = fake_send(peer, reply.ptr, reply.len);
    free(reply.ptr);
    if (!sent) return false;
  }
  return false;
}

static void describe(char *out, size_t cap, const fake_command *command) {
  size_t used = 0;
  for (size_t i = 0; i < command->argc && used < cap; i++)
    used += (size_t)snprintf(out + used, cap - used, " '%.60s'", command->argv[i]);
}

bool fake_expect(fake_peer *peer, ...) {
  const fake_command *command;
  if (!fake_next(peer, &command)) {
    fake_fail(peer, "a command was expected, and the connection ended");
    return false;
  }
  va_list texts;
  va_start(texts, peer);
  size_t i = 0;
  const char *text;
  bool same = true;
  while ((text = va_arg(texts, const char *)) != NULL) {
    same = same && i < command->argc && command->lens[i] == strlen(text) &&
           memcmp(command->argv[i], text, command->lens[i]) == 0;
    i++;
  }
  va_end(texts);
  if (same && i == command->argc) return true;
  char shown[300] = "", message[400];
  describe(shown, sizeof shown, command);
  snprintf(message, sizeof message, "another command was expected than%s", shown);
  fake_fail(peer, message);
  return false;
}

bool fake_is(const fake_command *command, const char *name) {
  return command->argc > 0 && strcasecmp(command->argv[0], name) == 0;
}

/* A small real server. */

void fake_handshake(fake_peer *peer) { peer->answers_handshake = true; }

static void append_hello(const fake_peer *peer, const fake_command *command, fake_bytes *reply) {
  bool map = command->argc > 1 && strcmp(command->argv[1], "3") == 0;
  char text[200];
  snprintf(text, sizeof text,
           "%s\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:%d\r\n$"
           "2\r\nid\r\n:%zu\r\n"
           "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
           map ? "%7" : "*14", map ? 3 : 2, peer->index + 1);
  fake_append_text(reply, text);
}

bool fake_answer_handshake(fake_peer *peer, const fake_command *command, fake_bytes *reply) {
  if (fake_is(command, "HELLO")) {
    if (peer->server->options.resp2) fake_append_text(reply, "-ERR unknown command 'HELLO'\r\n");
    else append_hello(peer, command, reply);
    return true;
  }
  if (fake_is(command, "AUTH") || fake_is(command, "SELECT")) {
    fake_append_text(reply, "+OK\r\n");
    return true;
  }
  if (!fake_is(command, "CLIENT") || command->argc < 2) return false;
  const char *verb = command->argv[1];
  if (strcasecmp(verb, "ID") == 0) {
    char text[32];
    snprintf(text, sizeof text, ":%zu\r\n", peer->index + 1);
    fake_append_text(reply, text);
    return true;
  }
  if (strcasecmp(verb, "SETINFO") != 0 && strcasecmp(verb, "SETNAME") != 0) return false;
  fake_append_text(reply, "+OK\r\n");
  return true;
}

void fake_serve(fake_peer *peer, fake_handler_fn handler, void *ctx) {
  fake_handshake(peer);
  const fake_command *command;
  fake_bytes reply = {0};
  bool goes_on = true;
  while (goes_on && fake_next(peer, &command)) {
    reply.len = 0;
    goes_on = handler(peer, command, &reply, ctx);
    if (reply.len > 0 && !fake_send(peer, reply.ptr, reply.len)) goes_on = false;
  }
  free(reply.ptr);
}
