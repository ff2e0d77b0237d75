/* SPDX-License-Identifier: MIT */
/** What fake_server.c and fake_peer.c share; tests use fake_server.h. */
#ifndef TESTS_SUPPORT_FAKE_PEER_H
#define TESTS_SUPPORT_FAKE_PEER_H

#include "support/fake_server.h"

#include <openssl/ssl.h>
#include <pthread.h>

#define FAKE_MAX_FILLERS 64

struct fake_server {
  fake_options options;
  char dir[80], path[100];
  int listener, port, stop_fd;
  SSL_CTX *tls;
  pthread_t acceptor;
  bool has_acceptor;
  int fillers[FAKE_MAX_FILLERS]; /* of a full listener */
  size_t filler_count;
  pthread_mutex_t mutex; /* guards what follows */
  pthread_cond_t changed;
  bool stopping;
  fake_peer **peers;
  size_t peer_count, ended, releases;
  fake_command **commands;
  size_t command_count;
  char failure[512];
};

struct fake_peer {
  fake_server *server;
  pthread_t thread;
  size_t index;
  int fd; /* -1: closed */
  SSL *ssl;
  fake_bytes in;
  bool answers_handshake;
  long cut; /* how many bytes may still leave; -1: any number */
  fake_end cut_end;
  bool limited;
  size_t limit; /* how many bytes may still be received */
};

void fake_die(const char *what);
void *fake_grow(void *ptr, size_t size);
bool fake_accept_tls(fake_peer *peer);

#endif
