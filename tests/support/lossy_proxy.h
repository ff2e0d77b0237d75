/* SPDX-License-Identifier: MIT */
/** Stands between a client and a real server, and loses answers: the server has executed the command, its answer and the
 *  connection are gone.
 *
 *      lossy_proxy *proxy = lossy_proxy_start(redis_server_path, 10);   // every tenth
 *      ... open "unix://<lossy_proxy_path(proxy)>" and call, one command at a time ...
 *      lossy_proxy_stop(proxy);
 *
 *  Thread class: started and stopped by one thread; a thread of its own serves all connections. */
#ifndef TESTS_SUPPORT_LOSSY_PROXY_H
#define TESTS_SUPPORT_LOSSY_PROXY_H

#include <stddef.h>

typedef struct lossy_proxy lossy_proxy;

/** Forwards to the server's unix socket; of the answers that follow a connection's handshake every `every`-th is lost.
 *  Never NULL. */
lossy_proxy *lossy_proxy_start(const char *server_path, unsigned every);
const char *lossy_proxy_path(const lossy_proxy *proxy);
/** How many answers were lost so far. */
size_t lossy_proxy_lost(const lossy_proxy *proxy);
/** Ends all connections.  NULL is allowed. */
void lossy_proxy_stop(lossy_proxy *proxy);

#endif
