/* SPDX-License-Identifier: MIT */
/* The scripted server: an accepting thread, a thread per connection, and what the test asks of them.
 *
 * One mutex guards the counts, the records and the list of peers; `changed` is signalled whenever one of them
 * changes. The socket and the buffers of a peer belong to its thread alone. */
#include "support/fake_server.h"

#include "support/fake_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void fake_die(const char *what) {
  fprintf(stderr, "fake server: %s: %s\n", what, strerror(errno));
  abort();
}

void *fake_grow(void *ptr, size_t size) {
  ptr = realloc(ptr, size);
  if (ptr == NULL) fake_die("memory");
  return ptr;
}

static void *zeroed(size_t size) {
  void *ptr = fake_grow(NULL, size);
  memset(ptr, 0, size);
  return ptr;
}

/* Listening. */

static void listen_tcp(fake_server *s, int backlog) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->options.port)};
  socklen_t len = sizeof address;
  const char *host = s->options.host != NULL ? s->options.host : "127.0.0.1";
  int one = 1;
  s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s->listener < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
      setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      bind(s->listener, (struct sockaddr *)&address, len) != 0 || listen(s->listener, backlog) != 0 ||
      getsockname(s->listener, (struct sockaddr *)&address, &len) != 0)
    fake_die("listening on TCP");
  s->port = ntohs(address.sin_port);
}

static struct sockaddr_un unix_address(const fake_server *s) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", s->path);
  return address;
}

static void listen_unix(fake_server *s, int backlog) {
  const char *tmp = getenv("TMPDIR");
  snprintf(s->dir, sizeof s->dir, "%.60s/fake-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(s->dir) == NULL) fake_die("making a folder");
  snprintf(s->path, sizeof s->path, "%s/s", s->dir);
  struct sockaddr_un address = unix_address(s);
  s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(s->listener, backlog) != 0)
    fake_die("listening on a unix socket");
}

static void prepare_tls(fake_server *s) {
  if (s->options.cert_file == NULL) return;
  s->tls = SSL_CTX_new(TLS_server_method());
  if (s->tls == NULL || SSL_CTX_use_certificate_chain_file(s->tls, s->options.cert_file) != 1 ||
      SSL_CTX_use_PrivateKey_file(s->tls, s->options.key_file, SSL_FILETYPE_PEM) != 1)
    fake_die("reading the certificate");
  if (s->options.tls12) SSL_CTX_set_max_proto_version(s->tls, TLS1_2_VERSION);
}

static fake_server *server_new(const fake_options *options, int backlog) {
  fake_server *s = zeroed(sizeof *s);
  s->options = *options;
  pthread_mutex_init(&s->mutex, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&s->changed, &attr);
  pthread_condattr_destroy(&attr);
  s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (s->stop_fd < 0) fake_die("eventfd");
  if (options->tcp) listen_tcp(s, backlog);
  else listen_unix(s, backlog);
  prepare_tls(s);
  return s;
}

/* Accepting. */

static void *run_peer(void *arg) {
  fake_peer *peer = arg;
  fake_server *s = peer->server;
  if (s->options.script != NULL && (s->tls == NULL || fake_accept_tls(peer)))
    s->options.script(peer, s->options.ctx);
  if (s->options.script == NULL) fake_stall(peer);
  fake_close(peer);
  pthread_mutex_lock(&s->mutex);
  s->ended++;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  return NULL;
}

static void add_peer(fake_server *s, int fd) {
  fake_peer *peer = zeroed(sizeof *peer);
  peer->server = s;
  peer->fd = fd;
  peer->cut = -1;
  pthread_mutex_lock(&s->mutex);
  peer->index = s->peer_count;
  s->peers = fake_grow(s->peers, (s->peer_count + 1) * sizeof *s->peers);
  s->peers[s->peer_count++] = peer;
  if (pthread_create(&peer->thread, NULL, run_peer, peer) != 0) fake_die("starting a thread");
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}

static void *run_acceptor(void *arg) {
  fake_server *s = arg;
  for (;;) {
    struct pollfd p[] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};
    if (poll(p, 2, -1) < 0 && errno != EINTR) fake_die("poll");
    if (p[1].revents != 0) return NULL;
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) continue;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int one = 1; /* a reply in pieces must not wait for the client's ACK */
    if (s->options.tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    add_peer(s, fd);
  }
}

static void start_acceptor(fake_server *s) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (pthread_create(&s->acceptor, NULL, run_acceptor, s) != 0) fake_die("starting a thread");
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  s->has_acceptor = true;
}

fake_server *fake_server_start(const fake_options *options) {
  fake_server *s = server_new(options, 128);
  start_acceptor(s);
  return s;
}

/* The full listener. */

/* One more connection into the queue; false when it does not take it. */
static bool fill_one(fake_server *s) {
  struct sockaddr_storage address;
  socklen_t len = sizeof address;
  if (getsockname(s->listener, (struct sockaddr *)&address, &len) != 0) fake_die("getsockname");
  int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fake_die("socket");
  int code = connect(fd, (struct sockaddr *)&address, len);
  struct pollfd p = {.fd = fd, .events = POLLOUT};
  bool taken = code == 0 || (errno == EINPROGRESS && poll(&p, 1, 200) > 0);
  if (taken && s->filler_count < FAKE_MAX_FILLERS) s->fillers[s->filler_count++] = fd;
  else close(fd);
  return taken;
}

fake_server *fake_server_start_full(const fake_options *options) {
  fake_server *s = server_new(options, 0);
  while (fill_one(s))
    if (s->filler_count == FAKE_MAX_FILLERS) fake_die("the queue never becomes full");
  return s;
}

void fake_server_make_room(fake_server *s) {
  for (size_t i = 0; i < s->filler_count; i++) {
    int fd = accept(s->listener, NULL, NULL);
    if (fd >= 0) close(fd);
    close(s->fillers[i]);
  }
  s->filler_count = 0;
  start_acceptor(s);
}

/* Stopping. */

static void free_commands(fake_server *s) {
  for (size_t i = 0; i < s->command_count; i++) {
    fake_command *c = s->commands[i];
    for (size_t j = 0; j < c->argc; j++) free(c->argv[j]);
    free(c->argv);
    free(c->lens);
    free(c);
  }
  free(s->commands);
}

void fake_server_stop(fake_server *s) {
  if (s == NULL) return;
  pthread_mutex_lock(&s->mutex);
  s->stopping = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  uint64_t one = 1;
  if (write(s->stop_fd, &one, sizeof one) < 0) fake_die("stopping");
  if (s->has_acceptor) pthread_join(s->acceptor, NULL);
  for (size_t i = 0; i < s->peer_count; i++) {
    pthread_join(s->peers[i]->thread, NULL);
    free(s->peers[i]->in.ptr);
    free(s->peers[i]);
  }
  free(s->peers);
  for (size_t i = 0; i < s->filler_count; i++) close(s->fillers[i]);
  close(s->listener);
  close(s->stop_fd);
  if (s->path[0] != '\0') {
    unlink(s->path);
    rmdir(s->dir);
  }
  SSL_CTX_free(s->tls);
  free_commands(s);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->mutex);
  free(s);
}

/* What the test asks. */

const char *fake_server_path(const fake_server *s) { return s->path[0] != '\0' ? s->path : NULL; }
int fake_server_port(const fake_server *s) { return s->port; }

static size_t read_count(fake_server *s, const size_t *count) {
  pthread_mutex_lock(&s->mutex);
  size_t n = *count;
  pthread_mutex_unlock(&s->mutex);
  return n;
}

size_t fake_server_connections(fake_server *s) { return read_count(s, &s->peer_count); }
size_t fake_server_ended(fake_server *s) { return read_count(s, &s->ended); }
size_t fake_server_commands(fake_server *s) { return read_count(s, &s->command_count); }

static bool wait_count(fake_server *s, const size_t *count, size_t wanted) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += FAKE_PATIENCE_MS / 1000;
  pthread_mutex_lock(&s->mutex);
  int code = 0;
  while (*count < wanted && code == 0) code = pthread_cond_timedwait(&s->changed, &s->mutex, &until);
  bool reached = *count >= wanted;
  pthread_mutex_unlock(&s->mutex);
  return reached;
}

bool fake_server_wait_connections(fake_server *s, size_t count) { return wait_count(s, &s->peer_count, count); }
bool fake_server_wait_ended(fake_server *s, size_t count) { return wait_count(s, &s->ended, count); }
bool fake_server_wait_commands(fake_server *s, size_t count) { return wait_count(s, &s->command_count, count); }

const fake_command *fake_server_command(fake_server *s, size_t index) {
  pthread_mutex_lock(&s->mutex);
  const fake_command *command = index < s->command_count ? s->commands[index] : NULL;
  pthread_mutex_unlock(&s->mutex);
  return command;
}

size_t fake_server_count(fake_server *s, const char *name) {
  size_t count = 0;
  const fake_command *command;
  for (size_t i = 0; (command = fake_server_command(s, i)) != NULL; i++) count += fake_is(command, name);
  return count;
}

const char *fake_server_failure(fake_server *s) {
  pthread_mutex_lock(&s->mutex);
  const char *text = s->failure[0] != '\0' ? s->failure : NULL;
  pthread_mutex_unlock(&s->mutex);
  return text;
}

void fake_server_release(fake_server *s) {
  pthread_mutex_lock(&s->mutex);
  s->releases++;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
}
