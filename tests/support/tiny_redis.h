/* SPDX-License-Identifier: MIT */
/** A tagged server in miniature, to see whom a reply reaches and how often a command is executed.
 *
 *      GET t<k>                    answers v<k>, so that a reply in the wrong hands shows
 *      GET, SET, INCR              of other keys: a small store
 *      WATCH, UNWATCH, MULTI, EXEC a queue, executed when EXEC was received whole
 *      EVALSHA, EVAL               answer what GET of the first key would; NOSCRIPT once scripts are forgotten
 *      SCRIPT LOAD, PING, CLIENT KILL ID, and the handshake
 *
 *  And a cut: at one byte of what the client sends, or of what it is sent, the connection is closed or held.
 *
 *      tiny_redis_cut(t, TINY_REPLY, 7, TINY_HOLD);   // of what follows the next answered command
 *      ... a call; then another: 7 bytes of its reply come ...
 *      tiny_redis_is_reached(t), tiny_redis_reached_fd(t)
 *      tiny_redis_go_on(t);                           // the rest comes late, on the same connection
 *
 *  Thread class: the test's main thread. */
#ifndef TESTS_SUPPORT_TINY_REDIS_H
#define TESTS_SUPPORT_TINY_REDIS_H

#include "support/fake_server.h"

#include <redmoon/op.h>
#include <stdint.h>

typedef struct tiny_redis tiny_redis;
typedef enum tiny_place { TINY_REQUEST, TINY_REPLY } tiny_place;
typedef enum tiny_end { TINY_CLOSE, TINY_HOLD } tiny_end;

#define TINY_USER "tiny-user"
#define TINY_PASSWORD "tiny-password"
#define TINY_NAME "tiny-name"
enum { TINY_DATABASE = 5 };

typedef struct tiny_options {
  bool resp2; /* it does not know HELLO */
  bool tls;   /* TLS over TCP; else a unix socket.  The URL names the CA file */
  bool login; /* a connection is refused everything until it gave all four TINY_* above */
} tiny_options;

/** NULL: all off.  Never NULL. */
tiny_redis *tiny_redis_start(const tiny_options *options);
void tiny_redis_stop(tiny_redis *t); /* NULL is allowed */
const char *tiny_redis_url(const tiny_redis *t);
fake_server *tiny_redis_server(tiny_redis *t);

/** Cuts once, `at` bytes behind the next command that is answered outside of a handshake. */
void tiny_redis_cut(tiny_redis *t, tiny_place place, size_t at, tiny_end end);
/** Cuts once, `at` bytes behind the begin of the next connection. */
void tiny_redis_cut_connection(tiny_redis *t, tiny_place place, size_t at, tiny_end end);
/** Whether the cut was reached, and all bytes before it have left; which connection it was on. */
bool tiny_redis_is_reached(tiny_redis *t);
size_t tiny_redis_cut_peer(tiny_redis *t);
int tiny_redis_reached_fd(const tiny_redis *t); /* readable from then on, until the next cut is set */
/** Steps `op`, at a time that is `ahead_us` off, until it is done (true), or until the cut of `t` (NULL: of nobody) was
 *  reached and all that came before it was read (false). */
bool tiny_redis_step(tiny_redis *t, redmoon_op *op, int64_t ahead_us);
/** Lets a connection that is held go on as if nothing had happened. */
void tiny_redis_go_on(tiny_redis *t);

/** Bytes of the commands that were received whole, and of the replies sent, of all connections. */
size_t tiny_redis_bytes(tiny_redis *t, tiny_place place);
/** What INCR made of it: how often it was executed. */
int64_t tiny_redis_counter(tiny_redis *t, const char *key);
/** From here EVALSHA is answered with NOSCRIPT until an EVAL or a SCRIPT LOAD is executed. */
void tiny_redis_forget_scripts(tiny_redis *t);
/** From here commands of this name are refused (static text; NULL: none is). */
void tiny_redis_refuse(tiny_redis *t, const char *name);

#endif
