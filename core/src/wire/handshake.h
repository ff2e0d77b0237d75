/* SPDX-License-Identifier: MIT */
/** The first commands on a new connection: who we are, which protocol, which database. */
#ifndef RM_WIRE_HANDSHAKE_H
#define RM_WIRE_HANDSHAKE_H

#include "base/arena.h"
#include "base/secret.h"
#include "wire/config.h"
#include "wire/conn.h"

#define RM_HANDSHAKE_REPLIES 8

/** What a server has to be. */
typedef enum rm_role { RM_ROLE_ANY, RM_ROLE_PRIMARY } rm_role;

/** A handshake under way; zeroed memory holds none.  One thread at a time. */
typedef struct rm_handshake {
  const rm_config *config;
  rm_conn *conn;
  rm_role role;
  rm_secret asked;                 /* what the credentials callback gave: user name and password */
  const char *username, *password; /* in `asked` or the config; NULL: none */
  rm_secret flight;                /* the commands that travel now, until they are sent */
  size_t sent;
  unsigned char expected[RM_HANDSHAKE_REPLIES]; /* what the replies that are due belong to */
  size_t expected_count, answered;
  bool refused_hello; /* the server has no HELLO, or not this protocol: RESP2 follows */
  int send_status;    /* negative: sending failed; what the server said before counts more */
  rm_arena arena;
} rm_handshake;

/** Asks for the credentials and formats the first flight.  Both pointers must stay valid.  What the server is, it says in
 *  the same flight: where it is not what `role` asks for, the handshake fails.  0, NOMEM, CONFIG
 *  (unusable credentials), CONNECT (the callback refused). */
int rm_handshake_start(rm_handshake *handshake, const rm_config *config, rm_role role, rm_conn *conn, redmoon_error *err);
/** RM_DONE: conn->protocol and conn->client_id are set and no byte is unread.  Otherwise RM_WAIT or an error after
 *  which the connection must be closed: CONNECT (closed or reset), PROTOCOL, UNAVAILABLE (the server has too many
 *  clients, or is not what it has to be), NOMEM, ESERVER with the server's code; outcome NOT_SENT, phase HANDSHAKE. */
int rm_handshake_step(rm_handshake *handshake, rm_wants *wants, redmoon_error *err);
/** Wipes and frees; not the connection. */
void rm_handshake_fini(rm_handshake *handshake);

#endif
