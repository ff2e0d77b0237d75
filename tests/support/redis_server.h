/* SPDX-License-Identifier: MIT */
/** A real redis-server (or valkey-server) for a test: on a unix socket in a 0700 folder, on free ports if asked
 *  for.
 *
 *      redis_server *server = redis_server_start(NULL);
 *      ... redis_server_path(server) ...
 *      redis_server_stop(server);
 *
 *  The program is $REDMOON_TEST_SERVER, else redis-server of $PATH.  It also dies with the thread that started it.
 *  It keeps nothing on disk unless its arguments say so.  Thread class: the test's main thread. */
#ifndef TESTS_SUPPORT_REDIS_SERVER_H
#define TESTS_SUPPORT_REDIS_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct redis_server redis_server;

typedef struct redis_server_options {
  bool tcp;                                    /* also a free port on 127.0.0.1 */
  const char *tls_cert, *tls_key, *tls_ca;     /* PEM: also a free TLS port */
  bool tls_clients;                            /* clients must show a certificate */
  const char *sentinel;                        /* it is a sentinel, with this configuration file, which it writes to */
  bool cluster;                                /* a node without slots; its bus has a free port of its own */
  const char *const *args;                     /* more arguments, NULL-ended: {"--requirepass", "x", NULL} */
} redis_server_options;

/** Starts it and waits until it answers; NULL options: all off.  Never NULL: the process is aborted, with the
 *  server's log, when it does not come up within 20 s. */
redis_server *redis_server_start(const redis_server_options *options);
/** Kills it, waits for its end, removes its folder.  NULL is allowed. */
void redis_server_stop(redis_server *server);
/** Ends the process as kill -9 does and waits for its end; redis_server_restart() brings it back on the same
 *  addresses. */
void redis_server_kill(redis_server *server);
void redis_server_restart(redis_server *server);
/** Stops it where it is, as a machine that hangs does, and waits until it has stopped; or lets it go on.  Nothing when it is
 *  so already, or was killed. */
void redis_server_freeze(redis_server *server, bool frozen);
/** Whether it runs: not killed and not brought back. */
bool redis_server_runs(const redis_server *server);

const char *redis_server_path(const redis_server *server); /* of the unix socket */
const char *redis_server_url(const redis_server *server);  /* "unix:///..." */
const char *redis_server_dir(const redis_server *server);  /* its working folder */
int redis_server_port(const redis_server *server);         /* 0: none */
int redis_server_tls_port(const redis_server *server);     /* 0: none */
int redis_server_bus_port(const redis_server *server);     /* of a cluster's node; 0: none */

/** Sends one command over a socket of its own (as inline command, so no blanks inside arguments) and returns the
 *  raw reply's first line, or the content of a bulk string, without line end; to be freed with free().  With a
 *  server that wants a password, `password` is sent first; NULL: none. */
char *redis_server_ask(const redis_server *server, const char *password, const char *command);
/** The same, but NULL when it does not answer: it was killed, or closed the connection, as it does when it becomes a replica. */
char *redis_server_try(const redis_server *server, const char *password, const char *command);

#endif
