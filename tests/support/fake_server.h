/* SPDX-License-Identifier: MIT */
/** A scripted RESP server inside the test process, with control over every byte and the moment it leaves.
 *
 *      static void script(fake_peer *peer, void *ctx) {  // runs once per connection, on a thread of its own
 *        fake_handshake(peer);                           // HELLO, AUTH, CLIENT, SELECT are answered from here on
 *        if (fake_expect(peer, "GET", "k", NULL)) fake_text(peer, "$1\r\nv\r\n");
 *        fake_await_release(peer);                       // until the test calls fake_server_release()
 *        fake_reset(peer);                               // RST; a script that returns closes its connection
 *      }
 *      fake_server *server = fake_server_start(&(fake_options){.script = script});
 *      ... dial fake_server_path(server) ...
 *      assert_null(fake_server_failure(server));             // what a script did not get as expected
 *      fake_server_stop(server);                             // closes, joins all threads, frees
 *
 *  Or as a small real server: fake_serve(peer, handler, ctx) asks the handler for the reply to each command, and
 *  fake_cut(peer, k, end) lets only the next k bytes out.
 *
 *  Peer functions belong to scripts, server functions to the test.  Scripts must not use cmocka: they record, the
 *  test asserts.  All waits end when the server is stopped; the test's own waits end after FAKE_PATIENCE_MS.
 *  SIGPIPE is blocked on the server's threads only. */
#ifndef TESTS_SUPPORT_FAKE_SERVER_H
#define TESTS_SUPPORT_FAKE_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#define FAKE_PATIENCE_MS 20000

typedef struct fake_server fake_server;
typedef struct fake_peer fake_peer;
typedef void (*fake_script_fn)(fake_peer *peer, void *ctx);

typedef struct fake_options {
  bool tcp;              /* TCP; else a unix socket in a 0700 folder */
  const char *host;      /* of TCP: an IPv4 loopback address; NULL: 127.0.0.1 */
  int port;              /* of TCP; 0: any free one */
  fake_script_fn script; /* NULL: connections are accepted and left alone */
  void *ctx;
  const char *cert_file, *key_file; /* PEM: speak TLS */
  bool tls12;                       /* no TLS 1.3 */
  bool resp2;                       /* answers HELLO as an unknown command */
} fake_options;

/** A command as it was received: `argc` texts, NUL-ended, with their lengths. */
typedef struct fake_command {
  size_t peer; /* which connection, from 0 */
  size_t argc;
  char **argv;
  size_t *lens;
} fake_command;

/** Bytes to be sent. */
typedef struct fake_bytes {
  char *ptr;
  size_t len, cap;
} fake_bytes;

typedef enum fake_end { FAKE_CLOSE, FAKE_RESET, FAKE_HALF_CLOSE, FAKE_STALL } fake_end;

/* The test's side. */

/** Never NULL: the process is aborted when it cannot start. */
fake_server *fake_server_start(const fake_options *options);
/** A listener that accepts nothing and whose queue is full: connects neither succeed nor fail.  `options->script`
 *  is not used. */
fake_server *fake_server_start_full(const fake_options *options);
/** Makes room in the queue of a full listener; from here it serves like any other. */
void fake_server_make_room(fake_server *server);
void fake_server_stop(fake_server *server); /* NULL is allowed */
const char *fake_server_path(const fake_server *server); /* NULL for TCP */
int fake_server_port(const fake_server *server);         /* 0 for unix */

size_t fake_server_connections(fake_server *server); /* accepted so far */
size_t fake_server_ended(fake_server *server);       /* scripts that have returned */
size_t fake_server_commands(fake_server *server);    /* whole commands received, of all connections */
/** Command `index` in the order of arrival; NULL beyond the end; lives until the server is stopped. */
const fake_command *fake_server_command(fake_server *server, size_t index);
/** How many commands had this name (upper case). */
size_t fake_server_count(fake_server *server, const char *name);
/** First failure of a script, or NULL. */
const char *fake_server_failure(fake_server *server);
/** Wait until there are that many; false after FAKE_PATIENCE_MS. */
bool fake_server_wait_connections(fake_server *server, size_t count);
bool fake_server_wait_ended(fake_server *server, size_t count);
bool fake_server_wait_commands(fake_server *server, size_t count);
/** Lets one fake_await_release() go on (also one that comes later). */
void fake_server_release(fake_server *server);

/* The script's side. */

size_t fake_index(const fake_peer *peer); /* of this connection, from 0 */
/** Next command; false at the end of the stream, when it is not RESP, or when the server stops.  *out belongs to
 *  the server and stays. */
bool fake_next(fake_peer *peer, const fake_command **out);
/** Next command must be these texts (NULL-ended list); else the failure is recorded and false returned. */
bool fake_expect(fake_peer *peer, ...);
/** From here `count` more bytes are received, and not one more: then what waits for more is told that the stream ended. */
void fake_limit(fake_peer *peer, size_t count);
/** Takes the limit away; true when it was reached. */
bool fake_end_limit(fake_peer *peer);
/** Waits for the end of the stream (what comes before is thrown away); false when the server stops first. */
bool fake_expect_end(fake_peer *peer);
/** Bytes as they come, whatever they are, at most `room`; 0 at the end of the stream.  Not behind a fake_next. */
size_t fake_receive(fake_peer *peer, void *space, size_t room);
bool fake_send(fake_peer *peer, const void *ptr, size_t len);
bool fake_text(fake_peer *peer, const char *text);
/** One byte per segment, `pause_ms` after each. */
bool fake_drip(fake_peer *peer, const void *ptr, size_t len, int pause_ms);
bool fake_await_release(fake_peer *peer);
void fake_half_close(fake_peer *peer);
void fake_reset(fake_peer *peer);
void fake_close(fake_peer *peer); /* TLS: without close_notify */
/** Reads and sends nothing until the server stops or the connection breaks. */
void fake_stall(fake_peer *peer);
/** From here `count` more bytes leave; then it ends that way and sends fail. */
void fake_cut(fake_peer *peer, size_t count, fake_end end);
/** TLS 1.3: updates our keys, which sends a record that is no data. */
bool fake_update_keys(fake_peer *peer);
/** Records a failure of the script's own. */
void fake_fail(fake_peer *peer, const char *text);

/** Appends the reply to `command`.  Returns false to end the connection after what was appended is sent. */
typedef bool (*fake_handler_fn)(fake_peer *peer, const fake_command *command, fake_bytes *reply, void *ctx);
/** fake_handshake(), then answers commands until the stream ends. */
void fake_serve(fake_peer *peer, fake_handler_fn handler, void *ctx);
/** HELLO, AUTH, CLIENT SETINFO / SETNAME / ID, SELECT: appends what Redis 7.2 says; false for other commands. */
bool fake_answer_handshake(fake_peer *peer, const fake_command *command, fake_bytes *reply);
/** From here handshake commands are answered without being seen by fake_next and fake_expect. */
void fake_handshake(fake_peer *peer);
bool fake_is(const fake_command *command, const char *name); /* argv[0], whatever the case */
void fake_append(fake_bytes *bytes, const void *ptr, size_t len);
void fake_append_text(fake_bytes *bytes, const char *text);
void fake_append_bulk(fake_bytes *bytes, const void *ptr, size_t len);

#endif
